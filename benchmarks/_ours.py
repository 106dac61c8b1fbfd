"""What is measured: the exact fields, how their evaluations are counted, and flowlib's samplers as rows of a table."""

import math
from collections.abc import Callable
from functools import partial

import torch
from _common import seeded
from _peers import Run
from torch import Tensor

from flowlib import Field, GaussianPath, MixtureField, sample_ddim, sample_ode, sample_sde
from flowlib.solvers import EVALUATIONS, time_grid

OURS = "flowlib"


class Counted(Field):
    """A field that counts how often it is evaluated."""

    def __init__(self, field: Field) -> None:
        self.field, self.path, self.predicts, self.null = field, field.path, field.predicts, field.null
        self.count = 0

    def has_velocity_at(self, t: float) -> bool:
        return self.field.has_velocity_at(t)

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        self.count += 1
        return self.field.predict(x, t, y)


def ring(path: GaussianPath) -> MixtureField:
    """Eight narrow modes of unequal weight and width on a circle."""
    angle = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    means = 1.5 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return MixtureField(means, torch.tensor([0.1, 0.2] * 4), torch.arange(1.0, 9.0), path=path)


def cloud(path: GaussianPath) -> MixtureField:
    """Ten overlapping modes in 16 dimensions."""
    return MixtureField(0.6 * torch.randn(10, 16, generator=seeded(7), dtype=torch.float64), 0.4, path=path)


def ours_ode(field: Field, noise: Tensor, steps: int, method: str, power: float) -> Tensor:
    return sample_ode(field, noise, times=time_grid(steps, power=power), method=method)


def ours_ddim(field: Field, noise: Tensor, steps: int, order: int, power: float) -> Tensor:
    return sample_ddim(field, noise, order=order, times=time_grid(steps, power=power))


def ours_adaptive(field: Field, noise: Tensor, tolerance: float) -> Tensor:
    return sample_ode(field, noise, steps=1, method="dopri5", rtol=tolerance, atol=tolerance)


def ours_fixed(power: float) -> dict[tuple[str, str], tuple[int, Run]]:
    """Our fixed-step samplers on uniform times, or with power > 1 on times that are denser towards the data."""
    grid = "" if power == 1 else ", dense"
    methods: dict[tuple[str, str], tuple[int, Run]] = {
        (OURS, method + grid): (cost, partial(ours_ode, method=method, power=power))
        for method, cost in EVALUATIONS.items()
    }
    orders = {1: "ddim", 2: "ddim of order 2", 3: "ddim of order 3"}
    return methods | {(OURS, name + grid): (1, partial(ours_ddim, order=k, power=power)) for k, name in orders.items()}


def ours_noisy(power: float) -> dict[tuple[str, str], Callable[..., Tensor]]:
    """Our stochastic samplers, (field, noise, steps, generator=) -> samples."""

    def run(sampler: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda field, noise, steps, generator: sampler(
            field, noise, times=time_grid(steps, power=power), eta=1.0, generator=generator
        )

    grid = "" if power == 1 else ", dense"
    return {(OURS, "sde" + grid): run(sample_sde), (OURS, "ddim eta = 1" + grid): run(sample_ddim)}
