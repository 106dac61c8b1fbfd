"""flowlib: flow matching and diffusion, small enough to read in a lecture and exact enough to test theorems with.

Names are imported when they are first used (PEP 562): the command line answers `--help` and completes words without
waiting for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowlib.fields import Field, MixtureField, Model
    from flowlib.guidance import ClassifierFreeGuidance, EnergyGuidance
    from flowlib.likelihood import bits_per_dim, dequantise, log_likelihood
    from flowlib.losses import (
        flow_matching_loss,
        logit_normal_time,
        optimal_transport,
        score_matching_loss,
        uniform_time,
    )
    from flowlib.paths import GaussianPath
    from flowlib.samplers import sample_ddim, sample_ode, sample_sde
    from flowlib.schedules import VE, VP, Cosine, Linear, Schedule, SquareRoot, Trigonometric

__version__ = "0.1.0"

__all__ = [
    "VE",
    "VP",
    "ClassifierFreeGuidance",
    "Cosine",
    "EnergyGuidance",
    "Field",
    "GaussianPath",
    "Linear",
    "MixtureField",
    "Model",
    "Schedule",
    "SquareRoot",
    "Trigonometric",
    "bits_per_dim",
    "dequantise",
    "flow_matching_loss",
    "log_likelihood",
    "logit_normal_time",
    "optimal_transport",
    "sample_ddim",
    "sample_ode",
    "sample_sde",
    "score_matching_loss",
    "uniform_time",
]

_MODULES = ("fields", "guidance", "likelihood", "losses", "paths", "samplers", "schedules")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in map(import_module, (f"{__name__}.{part}" for part in _MODULES)):
            if hasattr(module, name):
                return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
