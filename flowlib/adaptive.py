"""Adaptive methods on a path whose velocity is infinite at an end of time: the ODE in an angle, in place of the time.

Let r = sqrt(alpha^2 + beta^2) and theta = atan2(alpha, beta), which grows with the signal-to-noise ratio, from 0 for
pure noise to pi/2 for data. Along the ODE d(x / r) / dtheta = -v / r with v = alpha eps_hat - beta D: from
x = alpha D + beta eps_hat and u = alpha' D + beta' eps_hat, u = (r' / r) x - theta' v. No derivative of the schedule is
left, so that this is finite wherever D and eps_hat are, and smooth where the levels of a chain have kinks.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from flowlib.ddim import ddim_step
from flowlib.fields import Field
from flowlib.known import Grid
from flowlib.precision import finest
from flowlib.schedules import Schedule
from flowlib.solvers import Velocity, solve_adaptive

Solve = Callable[[Velocity, Tensor, Tensor], Tensor]

_PARTS = 512  # of a bracket; six times, that is 2^-54


def angle_of(schedule: Schedule, times: Tensor) -> Tensor:
    """theta at times (any shape), float64 on the CPU."""
    times = times.detach().cpu().double()
    return torch.atan2(schedule.alpha(times), schedule.beta(times))


def time_of(schedule: Schedule, angle: float) -> float:
    """The time at which theta is `angle`, by narrowing a bracket; 0 or 1 for an angle before the first or the last."""
    low, high, wanted = 0.0, 1.0, torch.tensor(angle, dtype=torch.float64)
    for _ in range(6):
        times = torch.linspace(low, high, _PARTS + 1, dtype=torch.float64)
        i = int(torch.searchsorted(angle_of(schedule, times), wanted))
        low, high = (float(times[j]) for j in (max(i - 1, 0), min(i, _PARTS)))
    return high


def follow_adaptive(
    field: Field,
    x: Tensor,
    y: Tensor | None,
    grid: Grid,
    *,
    method: str,
    rtol: float,
    atol: float,
    min_step: float = 0.0,
    denoise_last: bool = False,
    trajectory: bool = False,
) -> list[Tensor]:
    """From x at the first time of a grid to its last, by an adaptive method: the states at all of them, or the last.

    In time, if the field has a velocity at both ends, or else in the angle, to which `min_step` then belongs too. If D
    and eps_hat are not known at the last time, a step of DDIM leads there from an angle sqrt(atol) before it, whose
    error is of the size of its square.

    Args:
        field, x, y, grid: as samplers prepare them.
        method, rtol, atol, min_step: as in `solve_adaptive`.
        denoise_last: land on D in the last step of the grid.
        trajectory: whether all states are wanted.
    """
    last = len(grid.values) - 1 - denoise_last  # up to where the method leads
    stops = list(range(last + 1)) if trajectory or not last else [0, last]
    solve: Solve = partial(solve_adaptive, method=method, rtol=rtol, atol=atol, min_step=min_step)
    states = [x]
    if last and all(field.has_velocity_at(grid.values[i]) for i in (0, last)):
        states = list(solve(lambda x, t: field.u(x, t, y), x, grid.times[stops]))
    elif last:
        states = _in_angle(field, x, y, grid, stops, solve, atol**0.5)
    return [*states, field.data(states[-1], grid.points[last], y)] if denoise_last else states


def _in_angle(
    field: Field, x: Tensor, y: Tensor | None, grid: Grid, stops: list[int], solve: Solve, edge: float
) -> list[Tensor]:
    """The states at the stops, the last by a step of DDIM from an angle `edge` before it where that is needed."""
    schedule = field.path.schedule

    def radius(t: float) -> float:
        time = torch.tensor(t, dtype=torch.float64)
        return math.hypot(float(schedule.alpha(time)), float(schedule.beta(time)))

    def slope(state: Tensor, angle: Tensor) -> Tensor:
        t = time_of(schedule, float(angle))
        r = radius(t)
        return field.v(state * r, t, y) / -r

    times = [grid.values[i] for i in stops]
    lands = not field.determines_at(times[-1])
    if lands:
        before, end = angle_of(schedule, torch.tensor(times[-2:], dtype=torch.float64)).tolist()
        early = time_of(schedule, end - min(edge, (end - before) / 2))
        times[-1] = min(early, times[-1] - torch.finfo(x.dtype).eps)
    angles = angle_of(schedule, torch.tensor(times, dtype=torch.float64)).to(x.device, finest(x.device))
    solved = solve(slope, x / radius(times[0]), angles)
    states = [state * radius(t) for state, t in zip(solved, times, strict=True)]
    if lands:
        t = torch.tensor(times[-1], dtype=x.dtype, device=x.device)
        states[-1] = ddim_step(field, states[-1], y, t, grid.points[stops[-1]])
    return states
