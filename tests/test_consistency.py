"""Schedules of one's own: what does not fit is refused when the path is made, by the name of the method."""

import math

import pytest
import torch
from examples import SCHEDULES
from torch import Tensor

from flowlib.chains import Chain
from flowlib.paths import GaussianPath
from flowlib.schedules import VE, VP, Cosine, Linear, Schedule, SquareRoot


class Early(Schedule):
    """alpha = 1 - (1 - t)^2, beta = 1 - t."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - (1 - t) ** 2

    def beta(self, t: Tensor) -> Tensor:
        return 1 - t

    def dalpha(self, t: Tensor) -> Tensor:
        return 2 * (1 - t)

    def dbeta(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)


FINE = [
    *SCHEDULES.values(),
    Early(),
    VE(rho=1),
    VE(1e-4, 1000.0),
    VP(0.001, 100.0),
    Cosine(0.2),
    Chain.linear(1000),
    *(Chain.of(Cosine(), steps) for steps in (1, 4, 50, 1000)),
    Chain.of(SquareRoot(), 300),
]


@pytest.mark.parametrize("schedule", FINE, ids=lambda schedule: type(schedule).__name__)
def test_schedules_that_are_what_they_say_are_taken(schedule: Schedule) -> None:
    assert GaussianPath(schedule).schedule is schedule


def altered(**methods: object) -> Schedule:
    return type("Own", (Early,), methods)()


WRONG = {
    "no beta": (type("Bare", (Schedule,), {"alpha": Early.alpha, "dalpha": Early.dalpha})(), "a method beta"),
    "no derivative": (type("Bare", (Schedule,), {"alpha": Early.alpha, "beta": Early.beta})(), "a method dalpha"),
    "a sign": (altered(dbeta=lambda self, t: torch.ones_like(t)), "schedule.dbeta must be the derivative"),
    "an inner function": (altered(dalpha=lambda self, t: 2 * t), "schedule.dalpha must be the derivative"),
    "a factor": (altered(dalpha=lambda self, t: 2.1 * (1 - t)), "schedule.dalpha must be the derivative"),
    "a small constant": (
        altered(beta=lambda self, t: (1 - t).sqrt(), dbeta=lambda self, t: -0.5 / (1 - t + 0.05).sqrt()),
        "schedule.dbeta must be the derivative",
    ),
    "NaN": (altered(alpha=lambda self, t: t * math.nan), r"schedule.alpha\(t\) has entries that are NaN"),
    "a shape": (altered(alpha=lambda self, t: t.sum()[None]), r"schedule.alpha\(t\) must have the shape of t"),
    "a number": (altered(dbeta=lambda self, t: -1.0), r"schedule.dbeta\(t\) must be a torch.Tensor"),
    "backwards": (
        altered(
            alpha=lambda self, t: 1 - t, dalpha=lambda self, t: -torch.ones_like(t),
            beta=lambda self, t: t.clone(), dbeta=lambda self, t: torch.ones_like(t),
        ),
        "alpha / beta that grows",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_in_a_schedule_is_named_when_the_path_is_made(mistake: str) -> None:
    schedule, message = WRONG[mistake]
    with pytest.raises(ValueError, match=message):
        GaussianPath(schedule)


def test_a_schedule_with_parameters_keeps_its_gradient() -> None:
    power = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    schedule = type("Learned", (Linear,), {
        "alpha": lambda self, t: t**power, "dalpha": lambda self, t: power * t ** (power - 1),
    })()  # fmt: skip
    t = torch.tensor(0.5, dtype=torch.float64)
    assert GaussianPath(schedule).schedule.alpha(t).requires_grad
