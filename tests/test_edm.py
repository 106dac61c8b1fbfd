"""EDM's sampler (Karras et al. 2022, algorithm 1), written down on its own beside the library's."""

import doctest
from itertools import pairwise

import pytest
import torch
from examples import mixture, normal
from torch import Tensor

from flowlib import edm
from flowlib.edm import edm_times
from flowlib.fields import MixtureField
from flowlib.samplers import sample_ode, sample_sde
from flowlib.schedules import VE, Linear
from flowlib.solvers import time_grid


def algorithm_1(field: MixtureField, noise: Tensor, steps: int, rho: float) -> Tensor:
    """Their pseudocode, with their denoiser D(x; sigma) from a mixture that is asked at any sigma."""

    def denoised(x: Tensor, sigma: float) -> Tensor:
        """E[z | x = z + sigma eps] of the mixture."""
        gap = x[:, None] - field.means
        variance = field.std**2 + sigma**2
        log_joint = field.weights.log() - 0.5 * gap.square().sum(2) / variance - variance.log()
        means = field.means + (field.std**2 / variance)[:, None] * gap
        return (log_joint.softmax(1)[..., None] * means).sum(1)

    high, low = 80.0, 0.002
    sigmas = [
        (high ** (1 / rho) + i / (steps - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho for i in range(steps)
    ]
    sigmas.append(0.0)
    x = sigmas[0] * noise
    for now, after in pairwise(sigmas):
        slope = (x - denoised(x, now)) / now
        moved = x + (after - now) * slope
        if after:
            moved = x + (after - now) * (slope + (moved - denoised(moved, after)) / after) / 2
        x = moved
    return x


@pytest.mark.parametrize(("steps", "rho"), [(18, 7.0), (5, 7.0), (40, 3.0), (2, 1.0)])
def test_heun_at_edms_levels_is_edms_sampler(steps: int, rho: float) -> None:
    field, noise = mixture(VE(rho=1)), normal(0, 6, 2)
    x = sample_ode(field, noise, times=edm_times(steps, rho=rho))
    torch.testing.assert_close(field.data(x, 1.0), algorithm_1(field, noise, steps, rho), rtol=0, atol=1e-9)


def test_ve_itself_at_uniform_times_has_their_levels_and_is_another_sampler() -> None:
    field, noise = mixture(VE()), normal(0, 6, 2)
    t = time_grid(17)
    torch.testing.assert_close(VE().beta(t), VE(rho=1).beta(edm_times(18)), rtol=1e-9, atol=1e-9)
    found = field.data(sample_ode(field, noise, times=t), 1.0)
    assert float((found - algorithm_1(field, noise, 18, 7.0)).abs().max()) > 1e-3


def test_on_ve_only_the_sde_and_denoise_last_land_on_the_mean_of_the_data() -> None:
    """As its docstring says: the others keep noise of sigma_min."""
    field, noise = mixture(VE(sigma_min=0.1), std=0.0), normal(0, 6, 2)

    def gap(x: Tensor) -> float:
        return float(torch.cdist(x, field.means).min(1).values.max())

    assert gap(sample_ode(field, noise, steps=100, denoise_last=True)) < 1e-6
    assert gap(sample_sde(field, noise, steps=100)) < 1e-6
    assert gap(sample_ode(field, noise, steps=100)) > 0.1
    assert gap(sample_sde(field, noise, steps=100, denoise_last=False)) > 0.1


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"steps": 1}, "steps"),
        ({"rho": 0.5}, "rho"),
        ({"schedule": VE()}, "schedule"),
        ({"schedule": Linear()}, "schedule"),
    ],
)
def test_bad_levels_are_refused_by_name(arguments: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must"):
        edm_times(**{"steps": 18, **arguments})


def test_the_example_runs() -> None:
    with torch.random.fork_rng(devices=[]):
        result = doctest.testmod(edm)
    assert (result.failed, result.attempted > 3) == (0, True)
