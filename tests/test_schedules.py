"""Schedules: end points, monotony and derivatives (PROPERTIES 1 and 2), and agreement with the published formulas."""

import math

import pytest
import torch
from examples import SCHEDULES

from flowlib.schedules import VE, VP, Cosine, Linear, Schedule, SquareRoot, Trigonometric

ALL = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=list(SCHEDULES))
INSIDE = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
ENDS = torch.tensor([0.0, 1.0], dtype=torch.float64)


@pytest.mark.parametrize("schedule", [Linear(), Trigonometric(), SquareRoot(), Cosine()], ids=repr)
def test_a_path_runs_from_pure_noise_to_clean_data(schedule: Schedule) -> None:
    """Property 1. VP and VE are excepted: their own tests say what they start from instead."""
    torch.testing.assert_close(schedule.alpha(ENDS), torch.tensor([0.0, 1.0]).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(schedule.beta(ENDS), torch.tensor([1.0, 0.0]).double(), rtol=0, atol=1e-6)
    assert schedule.beta(ENDS)[1] == 0  # not 6e-17: the last step has to land on the data


def test_vp_starts_with_the_trace_of_signal_that_ddpm_has() -> None:
    """Property 1, its exception: alpha_0 = exp(-(20 - 0.1)/4 - 0.1/2) = 6.6e-3, not 0."""
    assert float(VP().alpha(ENDS)[0]) == pytest.approx(6.6e-3, rel=1e-2)
    assert float(VP().alpha(ENDS)[1]) == 1
    assert float(VP().beta(ENDS)[1]) == 0


def test_ve_keeps_the_signal_and_lowers_the_noise() -> None:
    """Property 1 cannot hold for a path that never scales the signal: beta runs from sigma_max to sigma_min."""
    torch.testing.assert_close(VE().alpha(ENDS), torch.ones(2).double(), rtol=0, atol=0)
    torch.testing.assert_close(VE().beta(ENDS), torch.tensor([80.0, 0.002], dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("schedule", [SquareRoot(), VP(), Cosine(), Trigonometric()], ids=repr)
def test_variance_is_preserved(schedule: Schedule) -> None:
    total = schedule.alpha(INSIDE) ** 2 + schedule.beta(INSIDE) ** 2
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-14)


@ALL
def test_signal_to_noise_ratio_rises_strictly_and_w_is_positive(schedule: Schedule) -> None:
    """Property 1: w = alpha' beta - alpha beta' > 0 exactly where the ratio rises."""
    assert bool((schedule.snr(INSIDE).diff() > 0).all())
    near = torch.tensor([1e-9, 1e-6, 1 - 1e-6, 1 - 1e-9], dtype=torch.float64)
    t = torch.cat([INSIDE, near])
    w = schedule.dalpha(t) * schedule.beta(t) - schedule.alpha(t) * schedule.dbeta(t)
    assert bool((w > 0).all())


@ALL
def test_derivatives_are_those_of_automatic_differentiation(schedule: Schedule) -> None:
    """Property 2; a small constant added inside a derivative fails here."""
    one = torch.ones_like(INSIDE)
    for level, derivative in ((schedule.alpha, schedule.dalpha), (schedule.beta, schedule.dbeta)):
        expected = torch.func.jvp(level, (INSIDE,), (one,))[1]
        torch.testing.assert_close(derivative(INSIDE), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", [Linear(), Trigonometric(), VE()], ids=repr)
def test_derivatives_are_finite_at_both_ends(schedule: Schedule) -> None:
    assert bool(torch.isfinite(schedule.dalpha(ENDS)).all() & torch.isfinite(schedule.dbeta(ENDS)).all())


def test_infinite_derivatives_are_returned_as_infinite() -> None:
    assert float(SquareRoot().dalpha(ENDS)[0]) == math.inf
    for schedule in (SquareRoot(), VP(), Cosine()):
        assert float(schedule.dbeta(ENDS)[1]) == -math.inf


@ALL
def test_noise_level_keeps_its_relative_precision_near_the_data_in_float32(schedule: Schedule) -> None:
    t = 1 - torch.logspace(-6, -1, 60).to(torch.float32)
    torch.testing.assert_close(schedule.beta(t).double(), schedule.beta(t.double()), rtol=2e-6, atol=0)


@ALL
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)], ids=str)
def test_any_shape_and_dtype_of_time_is_kept(schedule: Schedule, shape: tuple[int, ...]) -> None:
    for dtype in (torch.float32, torch.float64):
        t = torch.full(shape, 0.3, dtype=dtype)
        for method in (schedule.alpha, schedule.beta, schedule.dalpha, schedule.dbeta, schedule.snr):
            assert method(t).shape == shape
            assert method(t).dtype == dtype


def test_time_is_never_modified_and_never_returned_itself() -> None:
    t = torch.tensor([0.3], dtype=torch.float64)
    level = Linear().alpha(t)
    level += 1
    assert float(t) == 0.3


def test_vp_is_the_limit_of_ddpms_chain() -> None:
    """DDPM's abar_k = prod (1 - var_i), var from 0.1/T to 20/T, tends to alpha(1 - k/T)^2 as 1/T."""
    error = []
    for steps in (1000, 10000):
        variances = torch.linspace(0.1, 20, steps, dtype=torch.float64) / steps
        abar = torch.log1p(-variances).cumsum(0)
        t = 1 - torch.arange(1, steps + 1, dtype=torch.float64) / steps
        error.append(float((2 * VP().alpha(t).log() - abar).abs().max()))
    assert error[1] < 0.01
    assert error[0] / error[1] == pytest.approx(10, rel=0.05)


def test_cosine_is_equation_17_of_improved_ddpm() -> None:
    k, s = 1 - INSIDE, 0.008
    abar = torch.cos((k + s) / (1 + s) * math.pi / 2) ** 2 / math.cos(s / (1 + s) * math.pi / 2) ** 2
    torch.testing.assert_close(Cosine().alpha(INSIDE) ** 2, abar, rtol=1e-12, atol=1e-15)


def test_ve_is_equation_5_of_edm() -> None:
    count = 18
    i = torch.arange(count, dtype=torch.float64)
    sigma = (80 ** (1 / 7) + i / (count - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(VE().beta(i / (count - 1)), sigma, rtol=1e-12, atol=0)
