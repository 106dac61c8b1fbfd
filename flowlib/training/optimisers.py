"""Optimisers by name, and how their learning rates move with the step."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from flowlib.training.muon import Muon

# Parts of a network whose matrices are not between two hidden layers: what reads time and guide, the first layer, the
# last. All networks here give them these names.
_EDGES = frozenset({"condition", "modulation", "words", "codebook", "stem", "head", "carry"})


class Settings(Protocol):
    """What an optimiser reads of a recipe."""

    @property
    def optimiser(self) -> str: ...
    @property
    def lr(self) -> float: ...
    @property
    def betas(self) -> tuple[float, float]: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def matrix_lr(self) -> float: ...


def _adamw(settings: Settings, named: Mapping[str, nn.Parameter]) -> list[Optimizer]:
    """AdamW (Loshchilov & Hutter 2019); only matrices and kernels decay, not biases and gains."""
    parameters = list(named.values())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
    return [torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=fused)]


def _muon(settings: Settings, named: Mapping[str, nn.Parameter]) -> list[Optimizer]:
    """Muon for the matrices and kernels inside the network, AdamW for its ends and for vectors (Jordan et al. 2024)."""
    inner = [name for name, p in named.items() if p.ndim >= 2 and not _EDGES.intersection(name.split("."))]
    rest = {name: p for name, p in named.items() if name not in inner}
    return [Muon([named[name] for name in inner], settings.matrix_lr), *_adamw(settings, rest)]


OPTIMISERS: dict[str, Callable[[Settings, Mapping[str, nn.Parameter]], list[Optimizer]]] = {
    "adamw": _adamw,
    "muon": _muon,
}


def make_optimisers(recipe: Settings, model: nn.Module) -> list[Optimizer]:
    """The optimisers that together train all parameters of `model`, at the peak of their learning rates."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimisers = OPTIMISERS[recipe.optimiser](recipe, trained)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["peak_lr"] = group["lr"]
    return optimisers


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """The share of its peak, in (0, 1], that a learning rate has at a step 0 ... steps - 1.

    It rises in a straight line over `warmup` times `steps` steps, under half a cosine that ends at 0.
    """
    rise = min(1.0, (step + 1) / max(1.0, warmup * steps))
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))


def set_learning_rates(optimisers: Sequence[Optimizer], factor: float) -> None:
    """Scale all learning rates to `factor` times their peak."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["peak_lr"] * factor
