"""Adaptive methods where the velocity is infinite at an end of time, or D and eps_hat are not known there."""

import math

import pytest
import torch
from examples import SCHEDULES, Converted, gaussian, mixture, normal
from torch import Tensor

from flowlib.adaptive import angle_of, time_of
from flowlib.chains import Chain
from flowlib.field import Field
from flowlib.fields import MixtureField
from flowlib.guidance import EnergyGuidance
from flowlib.paths import GaussianPath
from flowlib.samplers import sample_ddim, sample_ode
from flowlib.schedules import Cosine, Linear, Schedule, SquareRoot
from flowlib.solvers import ADAPTIVE

PATHS = {**SCHEDULES, "chain": Chain.linear(1000), "cosine chain": Chain.of(Cosine(), 50)}
ALL = pytest.mark.parametrize("schedule", PATHS.values(), ids=list(PATHS))
X = normal(0, 8, 2)
INNER = torch.tensor([0.0, 0.3, 0.8, 1.0], dtype=torch.float64)


def levels(schedule: Schedule, t: float) -> tuple[float, float]:
    time = torch.tensor(t, dtype=torch.float64)
    return float(schedule.alpha(time)), float(schedule.beta(time))


def transported(schedule: Schedule, mean: float, std: float, x: Tensor, t: float) -> Tensor:
    """Where the flow of a Gaussian's field carries x from t = 0: it keeps its distance from the mean in std."""
    (alpha_0, beta_0), (alpha, beta) = levels(schedule, 0.0), levels(schedule, t)
    gap = (beta_0 * x - alpha_0 * mean) / math.hypot(alpha_0 * std, beta_0)
    return alpha * mean + math.hypot(alpha * std, beta) * gap


@ALL
@pytest.mark.parametrize("method", ADAPTIVE)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_gaussian_is_carried_where_the_closed_form_says(schedule: Schedule, method: str, dtype: torch.dtype) -> None:
    """At inner times too; the relative error is that of the tolerance, because noise on VE is of size 80."""
    exact, x = gaussian(0.8, 0.4, schedule), normal(1, 6, 1)
    field = MixtureField(exact.means.to(dtype), 0.4, path=exact.path)
    states = sample_ode(field, x.to(dtype), times=INNER, method=method, trajectory=True)
    assert states.dtype == dtype
    for state, t in zip(states, INNER.tolist(), strict=True):
        expected = transported(schedule, 0.8, 0.4, x, t)
        torch.testing.assert_close(state.double(), expected, rtol=1e-4, atol=2e-4)


@ALL
def test_adaptive_methods_agree_with_two_thousand_steps(schedule: Schedule) -> None:
    """Of Heun's method; where its own error is above theirs, because rates jump or are infinite, of DDIM's too."""
    field, rough = mixture(schedule), isinstance(schedule, SquareRoot | Chain)
    heun, ddim = sample_ode(field, X, steps=2000), sample_ddim(field, X, steps=2000, order=3)
    for known in (field, Converted(field, "data")):  # which says nothing of the noise at the end
        found = sample_ode(known, X, method="dopri5")
        torch.testing.assert_close(found, heun, rtol=0, atol=6e-3 if rough else 5e-4)
        torch.testing.assert_close(found, ddim, rtol=0, atol=2e-3 if schedule == SquareRoot() else 5e-4)


@ALL
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_points_of_data_are_reached(schedule: Schedule, dtype: torch.dtype) -> None:
    points, weights = mixture().means, mixture().weights
    field = MixtureField(points.to(dtype), 0.0, weights.to(dtype), path=GaussianPath(schedule))
    nearest = points[torch.cdist(sample_ode(mixture(schedule, 0.0), X, steps=100), points).argmin(1)]
    found = sample_ode(field, X.to(dtype), method="dopri5").double()
    _, last = levels(schedule, 1.0)
    torch.testing.assert_close(found, nearest, rtol=0, atol=1e-6 + 4 * last)  # the noise that VE leaves


@ALL
def test_a_finer_tolerance_is_reached_too(schedule: Schedule) -> None:
    exact, x = gaussian(0.8, 0.4, schedule), normal(1, 6, 1)
    for field in (exact, Converted(exact, "data")):
        found = sample_ode(field, x, method="dopri8", rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found, transported(schedule, 0.8, 0.4, x, 1.0), rtol=0, atol=1e-7)


@ALL
def test_the_angle_leads_back_to_its_time(schedule: Schedule) -> None:
    t = torch.tensor([0.0, 1e-6, 0.1, 0.5, 0.97, 1 - 1e-6, 1.0], dtype=torch.float64)
    angles = angle_of(schedule, t)
    assert bool((angles.diff() > 0).all())
    assert [time_of(schedule, angle) for angle in angles.tolist()] == pytest.approx(t.tolist(), rel=0, abs=1e-12)


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["in time", "in the angle"])
@pytest.mark.parametrize("method", ["dopri5", "heun"])
def test_denoise_last_lands_on_the_mean_of_the_data(schedule: Schedule, method: str) -> None:
    field = mixture(schedule)
    states = sample_ode(field, X, times=INNER, method=method, denoise_last=True, trajectory=True)
    before = sample_ode(field, X, times=INNER[:-1], method=method)
    torch.testing.assert_close(states[-2], before, rtol=0, atol=2e-4)
    assert torch.equal(states[-1], field.data(states[-2], 0.8))
    landed = sample_ode(field, X, times=INNER, method=method, denoise_last=True)
    torch.testing.assert_close(landed, field.data(before, 0.8), rtol=0, atol=4e-4)
    once = sample_ode(field, X, steps=1, method=method, denoise_last=True)
    assert torch.equal(once, field.data(levels(schedule, 0.0)[1] * X, 0.0))


def test_a_gradient_that_cannot_be_asked_for_at_the_end_guides_up_to_it() -> None:
    """The velocity's weight is not finite at t = 1 on this path."""
    field = gaussian(0.0, 1.0, Cosine())
    guided = EnergyGuidance(Converted(field, "velocity"), lambda x, t, y: -0.5 * (x[:, 0] - 1) ** 2)
    x = normal(2, 6, 1)
    found = sample_ode(guided, x, times=torch.tensor([0.0, 1.0]), method="dopri5")
    torch.testing.assert_close(found, sample_ode(guided, x, steps=400), rtol=0, atol=8e-3)


class Broken(Field):
    """A field that is NaN for one sample after t = 1/2."""

    path, predicts = GaussianPath(), "velocity"

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        return torch.where((torch.arange(len(x)) == 1) & (torch.as_tensor(t) > 0.5), math.nan, 1.0)[:, None] * x


@pytest.mark.parametrize("method", ADAPTIVE)
@pytest.mark.parametrize("min_step", [0.0, 0.01])
def test_a_field_that_becomes_nan_is_named(method: str, min_step: float) -> None:
    with pytest.raises(ValueError, match=f"^field is NaN or infinite .*'{method}'"):
        sample_ode(Broken(), X, method=method, min_step=min_step)


class Jagged(Field):
    """A velocity that is another one whenever it is asked: no step meets a tolerance."""

    path, predicts = GaussianPath(), "velocity"

    def __init__(self) -> None:
        self.asked = 0

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        self.asked += 1
        return 1e10 * torch.sin(1e9 * x + self.asked)


def test_a_tolerance_out_of_reach_is_named_and_a_least_step_ends_the_search() -> None:
    x, late = normal(0, 2, 1), torch.tensor([0.5, 1.0], dtype=torch.float64)
    wish = {"times": late, "method": "dopri5", "rtol": 1e-9, "atol": 1e-9}
    with pytest.raises(ValueError, match=r"^rtol = 1e-09 and atol = 1e-09 are out of reach .* min_step"):
        sample_ode(Jagged(), x, **wish)
    field = Jagged()
    assert bool(torch.isfinite(sample_ode(field, x, min_step=0.02, **wish)).all())
    assert field.asked <= 6 * 25 + 2 + 6 * 3  # of 25 steps; dopri5 asks six times in each, and twice for the first
    with pytest.raises(ValueError, match=r"^min_step must"):
        sample_ode(mixture(), X, method="dopri5", min_step=-1.0)
