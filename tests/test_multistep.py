"""DDIM of order 2 and 3, which remembers the evaluations of the steps before."""

import math

import pytest
import torch
from examples import SCHEDULES, Converted, mixture, normal

from flowlib.samplers import sample_ddim, sample_ode
from flowlib.schedules import Linear, Schedule
from flowlib.solvers import adams_bashforth, time_grid

X = normal(0, 200, 2)


@pytest.mark.parametrize("weights", [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12]])
def test_equal_steps_have_the_weights_of_adams_and_bashforth(weights: list[float]) -> None:
    nodes = 0.7 - 0.1 * torch.arange(len(weights), dtype=torch.float64)
    found = adams_bashforth(nodes, torch.tensor(0.8, dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor(weights, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_unequal_steps_integrate_a_parabola_exactly() -> None:
    nodes, end = torch.tensor([0.5, 0.2, 0.1], dtype=torch.float64), torch.tensor(1.1, dtype=torch.float64)
    exact = (end**3 - nodes[0] ** 3) / 3 / (end - nodes[0])
    torch.testing.assert_close(adams_bashforth(nodes, end) @ nodes**2, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("order", [2, 3])
def test_multistep_ddim_has_its_order(schedule: Schedule, order: int) -> None:
    """At one evaluation a step. Order 3 shows as 2 or more: its first step is DDIM's, whose error is of order 2."""
    field, times = mixture(schedule), time_grid(320, 0.05, 0.9)
    exact = sample_ode(field, X, times=times[[0, -1]], method="dopri8", rtol=1e-10, atol=1e-10)
    errors = []
    for stride in (2, 1):
        counted = Converted(field, "v")
        found = sample_ddim(counted, X, times=times[::stride], order=order)
        assert len(counted.calls) == 320 // stride
        errors.append(float((found - exact).abs().mean()))
    assert 1.85 < math.log2(errors[0] / errors[1]) < order + 0.15


def test_on_the_linear_path_order_2_is_adams_bashforths_method_for_the_velocity() -> None:
    field, angles = mixture(Linear()), torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64)
    times = torch.sin(angles) / (torch.sin(angles) + torch.cos(angles))  # equal steps of the angle
    first, second, third = sample_ddim(field, X, times=times, order=2, trajectory=True)
    slope = 1.5 * field.u(second, times[1]) - 0.5 * field.u(first, times[0])
    torch.testing.assert_close(third, second + (times[2] - times[1]) * slope, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("order", "eta"), [(0, 0.0), (4, 0.0), (2, 0.5), (1.5, 0.0)])
def test_an_order_that_ddim_does_not_have_is_named(order: int, eta: float) -> None:
    with pytest.raises(ValueError, match="order"):
        sample_ddim(mixture(), X, order=order, eta=eta)
