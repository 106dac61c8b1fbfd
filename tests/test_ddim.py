"""DDIM (PROPERTY 19): a change of variables, the Gaussian posterior, and no division that can fail."""

import pytest
import torch
from examples import SCHEDULES, mixture, normal, seeded

from flowlib.fields import MixtureField
from flowlib.metrics import energy_distance
from flowlib.paths import GaussianPath
from flowlib.samplers import ddim_step, sample_ddim
from flowlib.schedules import VP, Schedule
from flowlib.solvers import time_grid

ALL = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=list(SCHEDULES))
X = normal(0, 8, 2)


@ALL
def test_ddim_is_eulers_method_for_the_scaled_sample(schedule: Schedule) -> None:
    """Property 19: x / alpha as a function of beta / alpha, whose slope is eps_hat."""
    field, times = mixture(schedule), time_grid(7, 0.05)
    beta = schedule.beta(times[0])
    states = sample_ddim(field, X, times=times, trajectory=True)
    x, sigma = beta * X / schedule.alpha(times[0]), schedule.beta(times) / schedule.alpha(times)
    for i in range(7):
        eps = field.noise(x * schedule.alpha(times[i]), times[i])
        x = x + (sigma[i + 1] - sigma[i]) * eps
        expected = x * schedule.alpha(times[i + 1])
        error = (states[i + 1] - expected).abs().max() / expected.abs().max()
        assert float(error) < 1e-12


@ALL
@pytest.mark.parametrize(("t", "s"), [(0.3, 0.4), (0.05, 0.9), (0.5, 0.99)])
def test_ddim_at_eta_1_draws_from_the_gaussian_posterior(schedule: Schedule, t: float, s: float) -> None:
    """Property 19: q(x_s|x_t, z) by completing the square of q(x_t|x_s) q(x_s|z); museum: sigma_t for sigma_s."""
    z = torch.tensor([[0.7, -1.2]], dtype=torch.float64)
    field, times = MixtureField(z, 0.0, path=GaussianPath(schedule)), torch.tensor([t, s], dtype=torch.float64)
    (alpha_t, alpha_s), (beta_t, beta_s) = schedule.alpha(times).tolist(), schedule.beta(times).tolist()
    r = alpha_t / alpha_s
    added = beta_t**2 - (r * beta_s) ** 2  # variance of x_t given x_s
    precision = r**2 / added + 1 / beta_s**2
    x = field.path.sample(z.expand_as(X), t, X)
    mean = (r * x / added + alpha_s * z / beta_s**2) / precision
    still = ddim_step(field, x, None, times[0], times[1], 1.0, torch.zeros_like(x))
    moved = ddim_step(field, x, None, times[0], times[1], 1.0, torch.ones_like(x))
    scale = float(mean.abs().max())
    torch.testing.assert_close(still, mean, rtol=0, atol=1e-12 * scale)
    torch.testing.assert_close(moved - still, torch.full_like(x, precision**-0.5), rtol=0, atol=1e-12 * scale)


@ALL
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_divides_by_neither_the_signal_it_leaves_nor_the_noise_it_reaches(schedule: Schedule, eta: float) -> None:
    """Property 19: from pure noise, and onto clean data, in one step or two."""
    field = mixture(schedule)
    zero, half, one = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    x = schedule.beta(zero) * X
    for s in (half, one):
        assert bool(torch.isfinite(ddim_step(field, x, None, zero, s, eta, X)).all())
    landed = ddim_step(field, X, None, half, one, eta, X)
    if schedule.beta(one) == 0:
        torch.testing.assert_close(landed, field.data(X, half), rtol=1e-12, atol=1e-12)
    if eta == 1 and schedule.alpha(zero) == 0:  # pure noise is forgotten altogether
        expected = schedule.alpha(half) * field.data(x, 0.0) + schedule.beta(half) * X
        torch.testing.assert_close(ddim_step(field, x, None, zero, half, eta, X), expected, rtol=1e-12, atol=1e-12)


def test_ddim_with_eta_needs_its_noise() -> None:
    t, s = torch.tensor([0.3, 0.4], dtype=torch.float64)
    with pytest.raises(ValueError, match="eta > 0 needs noise"):
        ddim_step(mixture(), X, None, t, s, 1.0)


def test_ddpms_ancestral_sampling_reaches_the_distribution_of_the_data() -> None:
    field, count = mixture(VP()), 2000
    data, _ = field.sample(count, seeded(1))
    floor = 2 / count * float(torch.cdist(data, data).mean())
    found = sample_ddim(field, normal(0, count, 2), steps=250, eta=1.0, generator=seeded(2))
    assert energy_distance(found, data) < 4 * floor
