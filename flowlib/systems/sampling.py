"""Drawing samples from a flow that was trained: the samplers by name, guidance, and the way back from latents."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from flowlib.chains import Chain, Clipped, chain_of, sample_ancestral
from flowlib.chains.ancestral import Reverse
from flowlib.checks import check_choice, check_count, check_flag, check_number
from flowlib.data import Spec
from flowlib.fields import Field
from flowlib.guidance import ClassifierFreeGuidance
from flowlib.samplers import sample_ddim, sample_ode, sample_sde
from flowlib.solvers import ADAPTIVE, STEPS, landing_grid
from flowlib.systems.system import SampleRequest
from flowlib.training.devices import autocast
from flowlib.training.order import stream

METHODS = (*STEPS, *ADAPTIVE, "ddim", "sde", "ddpm", "ddpm-large", "ddpm-learned")


@dataclass(frozen=True, kw_only=True)
class FlowRequest(SampleRequest):
    """What samples of a flow are asked for.

    Attributes:
        y: labels (count,) or other guides, None for the null guide.
        scale: of classifier-free guidance; 1 is none.
        steps: of the sampler.
        method: a fixed-step or adaptive method of `sample_ode`, "ddim", "sde", or DDPM's ancestral sampling with its
            smaller fixed variance, "ddpm", its larger one, "ddpm-large", or a learned one, "ddpm-learned".
        land: the time in (0, 1) from which the last step of a fixed-step method lands on D, after even ones up to it
            (`flowlib.solvers.landing_grid`); None for what the system does.
        trajectory: return all states, the noise first.
        wrap: makes another field of the guided one, such as one that also follows an energy; None for the field itself.

    An adaptive method computes in float32 unless `precision` says otherwise: its tolerance is finer than bfloat16.
    """

    scale: float = 1.0
    steps: int = 50
    method: str = "heun"
    land: float | None = None
    trajectory: bool = False
    wrap: Callable[[Field], Field] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("scale", self.scale)
        check_count("steps", self.steps)
        check_choice("method", self.method, METHODS)
        check_landing(self.land, self.method)
        check_flag("trajectory", self.trajectory)


def check_landing(land: float | None, method: str) -> None:
    """A ValueError unless the time is one in (0, 1) and the method has fixed steps; None is always right."""
    if land is not None:
        check_number("land", land, 0, 1, low_open=True, high_open=True)
        check_choice("method of a sampler that lands", method, tuple(STEPS))


def check_steps(steps: int | None, method: str | None) -> None:
    """A ValueError for a number of steps that was asked of a method that chooses its own."""
    if steps is not None and method in ADAPTIVE:
        raise ValueError(f"--steps does not go with --method {method}, which chooses its own")


def latent_shape(module: nn.Module, spec: Spec) -> tuple[int, ...]:
    """The shape of a sample that the field works on: of the data, or of the latents of a field that decodes them."""
    autoencoder = getattr(module, "autoencoder", None)
    if autoencoder is None:
        return spec.shape
    return (autoencoder.latent_channels, *(size // autoencoder.factor for size in spec.shape[1:]))


def check_memory(count: int, shape: tuple[int, ...]) -> int:
    """Return the number of samples of a shape if they, their noise and a step between fit into the machine's memory.

    Raises:
        ValueError: if not, saying how much they need.
    """
    needed = 3 * 4 * check_count("count", count) * math.prod(shape) / 2**30
    try:
        have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, ValueError, OSError):  # not known on this system
        return count
    if needed > have:
        raise ValueError(
            f"count must fit into memory: {count} samples need {needed:.0f} GiB, this machine has {have:.0f}"
        )
    return count


def noise_for(module: nn.Module, spec: Spec, count: int, seed: int = 0) -> Tensor:
    """Starting points for `count` samples, of the shape that the field works in, on its device."""
    noise = torch.randn(check_memory(count, spec.shape), *latent_shape(module, spec), generator=stream(seed, "noise"))
    return noise.to(next(module.parameters()).device)


def sample_flow(field: Any, request: FlowRequest, *, lands: bool | float = False) -> Tensor:
    """Samples of a field that was trained, decoded if it works on latents, float32.

    Args:
        field: a module that is a field.
        request: what is asked for.
        lands: whether the ODE's last step lands on D, or the time from which it does where the request names none.

    Raises:
        ValueError: for an argument that does not fit, naming it.
    """
    method, y, seed = request.method, request.y, request.seed
    noise = noise_for(field, request.spec, request.count, seed)
    guided: Field = field if y is None or request.scale == 1 else ClassifierFreeGuidance(field, request.scale)
    guided = guided if request.wrap is None else request.wrap(guided)
    pixels = len(request.spec.shape) == 3 and not hasattr(field, "decode")
    clips = isinstance(field.path.schedule, Chain) and pixels
    if method.startswith("ddpm"):
        try:
            chain_of(field)
        except ValueError:
            raise ValueError(
                f"method {method!r} needs a path that preserves variance, {field.path} does not: take 'ddim' or 'sde'"
            ) from None
    variance = _variance(method, field, guided, clips)
    if clips and method not in ADAPTIVE:  # which would stumble over each pixel's kink
        guided = Clipped(guided)  # without which the noise that a DDPM predicts at k = T says next to nothing of D
    common: dict[str, Any] = {
        "steps": request.steps, "batch_size": request.batch_size, "trajectory": request.trajectory,
    }  # fmt: skip
    usual = "fp32" if method in ADAPTIVE else request.usual
    with autocast(usual if request.precision is None else request.precision, noise.device):
        if method == "ddim":
            states = sample_ddim(guided, noise, y, **common)
        elif method == "sde":
            states = sample_sde(guided, noise, y, generator=stream(seed, "sde"), **common)
        elif method.startswith("ddpm"):
            draws = stream(seed, "ancestral")
            states = sample_ancestral(guided, noise, y, variance=variance, generator=draws, **common)
        else:
            land = lands if request.land is None else request.land
            if method in STEPS and not isinstance(land, bool):
                common["times"] = landing_grid(request.steps, land)
            states = sample_ode(guided, noise, y, method=method, denoise_last=bool(land), **common)
        return decode(field, states, request.batch_size)


def in_bytes(images: Tensor) -> Tensor:
    """Images in [-1, 1] as a file of 8 bits holds them: clipped, and rounded to 256 values."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1)


@torch.no_grad()
def decode(field: Any, states: Tensor, batch_size: int = 500) -> Tensor:
    """States of a field as data, float32, (..., B, *latent shape) -> (..., B, *shape); the same without latents."""
    if not hasattr(field, "decode"):
        return states.float()
    leading = states.shape[:-3]
    images = torch.cat([field.decode(part) for part in states.flatten(0, -4).split(batch_size)])
    return images.float().reshape(*leading, *images.shape[1:])


def _variance(method: str, field: Any, guided: Field, clips: bool) -> str | Reverse:
    """The variance of ancestral sampling by `method`, of a field or of the same under guidance."""
    if method != "ddpm-learned":
        return "large" if method == "ddpm-large" else "small"
    if not hasattr(field, "reverse"):
        raise ValueError("method 'ddpm-learned' needs a run that learned its variance: this one did not")
    return partial(field.reverse, field=None if guided is field else guided, clip=1.0 if clips else None)
