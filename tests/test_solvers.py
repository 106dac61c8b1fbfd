"""Solvers: agreement with torchdiffeq (PROPERTIES 20), evaluations as promised, and time grids."""

import math
from itertools import pairwise

import pytest
import torch
from examples import normal
from torch import Tensor
from torchdiffeq import odeint

from flowlib.solvers import ADAPTIVE, EVALUATIONS, NEEDS_END, STEPS, solve_adaptive, time_grid


def rotation(x: Tensor, t: Tensor) -> Tensor:
    """dx/dt for (B, 2): a rotation at speed 1 + cos(3 t), so that time matters; x(t) is known."""
    return (1 + torch.cos(3 * t)) * torch.stack([-x[:, 1], x[:, 0]], dim=1)


def rotated(x: Tensor, t: float) -> Tensor:
    angle = t + math.sin(3 * t) / 3
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.stack([cos * x[:, 0] - sin * x[:, 1], sin * x[:, 0] + cos * x[:, 1]], dim=1)


def integrate(method: str, x: Tensor, grid: Tensor) -> Tensor:
    for t, s in pairwise(grid):
        x = STEPS[method](rotation, x, t, s - t)
    return x


@pytest.mark.parametrize(("ours", "theirs"), [("euler", "euler"), ("heun", "heun2"), ("midpoint", "midpoint")])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_fixed_steps_are_those_of_torchdiffeq(ours: str, theirs: str, power: float) -> None:
    """Property 20: 1e-12, on equal and unequal steps."""
    x, grid = normal(0, 5, 2), time_grid(20, power=power)
    expected = odeint(lambda t, x: rotation(x, t), x, grid, method=theirs)[-1]
    torch.testing.assert_close(integrate(ours, x, grid), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_orders_on_an_equation_that_depends_on_time(method: str, order: int) -> None:
    x = normal(0, 5, 2)
    coarse, fine = (float((integrate(method, x, time_grid(n)) - rotated(x, 1.0)).norm()) for n in (64, 128))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("method", list(STEPS))
def test_steps_run_backwards_too(method: str) -> None:
    x = normal(0, 5, 2)
    there = integrate(method, x, time_grid(400))
    back = integrate(method, there, time_grid(400).flip(0))
    torch.testing.assert_close(back, x, rtol=0, atol=0.05 if method == "euler" else 1e-4)


@pytest.mark.parametrize("method", list(STEPS))
def test_a_step_calls_the_field_as_often_as_it_says_and_asks_for_the_end_only_if_it_says_so(method: str) -> None:
    asked = []

    def f(x: Tensor, t: Tensor) -> Tensor:
        asked.append(float(t))
        return rotation(x, t)

    STEPS[method](f, normal(0, 5, 2), torch.tensor(0.25), torch.tensor(0.5))
    assert len(asked) == EVALUATIONS[method]
    assert (0.75 in asked) == (method in NEEDS_END)
    assert asked[0] == min(asked) == 0.25
    assert max(asked) <= 0.75


@pytest.mark.parametrize("method", ADAPTIVE)
@pytest.mark.parametrize("times", [[0.0, 0.3, 1.0], [1.0, 0.7, 0.0]], ids=["forwards", "backwards"])
def test_adaptive_methods_reach_their_tolerance_at_every_time(method: str, times: list[float]) -> None:
    """Inner times too, and without ever leaving [0, 1]: torchdiffeq's own interpolation is off by 1e-5 for dopri8."""
    x, asked = normal(0, 5, 2), []

    def f(x: Tensor, t: Tensor) -> Tensor:
        asked.append(float(t))
        return rotation(x, t)

    start = rotated(x, times[0])
    states = solve_adaptive(f, start, torch.tensor(times, dtype=torch.float64), method, 1e-6, 1e-6)
    for state, t in zip(states, times, strict=True):
        torch.testing.assert_close(state, rotated(x, t), rtol=0, atol=1e-5)
    assert 0 <= min(asked) <= max(asked) <= 1


def test_a_time_grid_has_one_more_time_than_steps_and_exact_ends() -> None:
    """Museum: "N steps" that takes N - 1."""
    for steps in (1, 2, 50, 1000):
        for power in (0.5, 1.0, 3.0):
            grid = time_grid(steps, 0.0, 1.0, power)
            assert grid.shape == (steps + 1,)
            assert grid.dtype == torch.float64
            assert (float(grid[0]), float(grid[-1])) == (0.0, 1.0)
            assert bool((grid.diff() > 0).all())
    torch.testing.assert_close(time_grid(4, 0.2, 0.6), torch.tensor([0.2, 0.3, 0.4, 0.5, 0.6], dtype=torch.float64))


def test_a_power_above_one_makes_the_grid_denser_towards_the_end() -> None:
    steps = time_grid(10, power=2.0).diff()
    assert bool((steps.diff() < 0).all())
    torch.testing.assert_close(1 - time_grid(10, power=2.0), torch.linspace(1, 0, 11).double() ** 2, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 2, "start": 1.0}, "start"),
        ({"steps": 2, "start": 0.5, "end": 0.4}, "start"),
        ({"steps": 2, "end": 1.1}, "end"),
        ({"steps": 2, "power": 0.0}, "power"),
    ],
)
def test_bad_grids_are_refused_by_name(arguments: dict[str, float], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must"):
        time_grid(**arguments)
