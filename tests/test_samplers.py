"""Samplers of the ODE (PROPERTIES 14 and 18): measured orders, exact cases, and every path and prediction."""

import math

import pytest
import torch
from examples import KINDS, SCHEDULES, Converted, mixture, normal, seeded

from flowlib.fields import MixtureField
from flowlib.paths import GaussianPath
from flowlib.samplers import sample_ddim, sample_ode, sample_sde
from flowlib.schedules import Linear, Schedule, Trigonometric
from flowlib.solvers import ADAPTIVE, STEPS, time_grid

ALL = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=list(SCHEDULES))
X = normal(0, 8, 2)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_ode_methods_have_their_order(method: str, order: int) -> None:
    """Property 14, on the trigonometric path: on the linear one symmetry makes midpoint look like order 3."""
    field, x = mixture(Trigonometric()), normal(0, 32, 2)
    exact = sample_ode(field, x, steps=512 if order < 4 else 1024, method="rk4")
    coarse, fine = (float((sample_ode(field, x, steps=n, method=method) - exact).norm()) for n in (128, 256))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_adaptive_methods_agree_with_small_fixed_steps(method: str) -> None:
    field = mixture()
    exact = sample_ode(field, X, steps=64, method="rk4", trajectory=True)
    tolerances = {"method": method, "rtol": 1e-5, "atol": 1e-5}
    found = sample_ode(field, X, **tolerances)
    torch.testing.assert_close(found, exact[-1], rtol=0, atol=1e-3)
    path = sample_ode(field, X, steps=4, trajectory=True, **tolerances)
    torch.testing.assert_close(path, exact[::16], rtol=0, atol=1e-3)


@ALL
@pytest.mark.parametrize("method", [*STEPS, "ddim"])
def test_one_point_of_data_is_reached_by_every_method_that_should(schedule: Schedule, method: str) -> None:
    """Property 18: one Euler step on the linear path, and any DDIM on any path, are exact to 1e-12."""
    point = torch.tensor([[0.7, -1.2]], dtype=torch.float64)
    field = MixtureField(point, 0.0, path=GaussianPath(schedule))
    zero, one = torch.tensor([0.0, 1.0], dtype=torch.float64)
    start = schedule.beta(zero) * X
    eps = (start - schedule.alpha(zero) * point) / schedule.beta(zero)
    expected = schedule.alpha(one) * point + schedule.beta(one) * eps
    for steps in (1, 2, 7):
        if method == "ddim":
            found = sample_ddim(field, X, steps=steps)
        elif isinstance(schedule, Linear):
            found = sample_ode(field, X, steps=steps, method=method)
        else:
            found = sample_ode(field, X, steps=steps, method=method, denoise_last=True)
            expected = point.expand_as(X)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", list(SCHEDULES))
@pytest.mark.parametrize("method", list(STEPS))
def test_every_path_leads_from_noise_to_the_data(name: str, method: str) -> None:
    """Also where the velocity is infinite at an end, and for data of a single precision and no width."""
    field = mixture(SCHEDULES[name], std=0.0)
    for dtype in (torch.float64, torch.float32):
        same = MixtureField(field.means.to(dtype), 0.0, path=field.path)
        x = sample_ode(same, X.to(dtype), steps=60, method=method)
        distance = (x[:, None] - same.means).norm(dim=2).min(1).values
        assert x.dtype == dtype
        # The square root's noise falls so steeply at the end that the last step has sqrt(1/60) of it to remove.
        assert float(distance.max()) < (0.2 if name == "square-root" else 0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sampler_never_asks_a_prediction_where_it_says_nothing(kind: str) -> None:
    """Data at t = 1 and score at t = 1 are never asked for; noise and score at t = 0 are refused by name."""
    field = Converted(mixture(Linear()), kind)
    for sample in (sample_ode, sample_sde, sample_ddim):
        if kind in ("noise", "score"):
            with pytest.raises(ValueError, match=f"'{kind}' prediction does not determine"):
                sample(field, X, steps=4)
        else:
            assert bool(torch.isfinite(sample(field, X, steps=4)).all())
        assert bool(torch.isfinite(sample(field, X, times=time_grid(4, 0.01))).all())


def test_denoise_last_replaces_the_last_step_by_the_mean_of_the_data() -> None:
    field = mixture()
    for method in STEPS:
        states = sample_ode(field, X, steps=5, method=method, denoise_last=True, trajectory=True)
        plain = sample_ode(field, X, steps=5, method=method, trajectory=True)
        assert torch.equal(states[:-1], plain[:-1])
        assert torch.equal(states[-1], field.data(states[-2], 0.8))
    states = sample_sde(field, X, steps=5, generator=seeded(0), trajectory=True)
    assert torch.equal(states[-1], field.data(states[-2], 0.8))
