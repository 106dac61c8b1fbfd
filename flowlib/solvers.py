"""Solvers of dx/dt = f(x, t): fixed steps of order 1, 2 and 4, and torchdiffeq's adaptive ones.

Example:
    >>> import torch
    >>> from flowlib.solvers import euler, heun, midpoint, rk4
    >>> x, t, h = torch.tensor(1.0), torch.tensor(0.0), torch.tensor(0.1)  # dx/dt = x, whose solution is exp(0.1)
    >>> [round(float(step(lambda x, t: x, x, t, h)), 5) for step in (euler, midpoint, heun, rk4)]
    [1.1, 1.105, 1.105, 1.10517]
"""

from collections.abc import Callable

import torch
from torch import Tensor

from flowlib.checks import check_count, check_number
from flowlib.precision import double, finest

Velocity = Callable[[Tensor, Tensor], Tensor]  # (x, t) -> dx/dt, with t of shape ()
Step = Callable[[Velocity, Tensor, Tensor, Tensor], Tensor]  # (f, x, t, h) -> x at t + h; h may be negative


def euler(f: Velocity, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
    """Order 1, one evaluation."""
    return x + h * f(x, t)


def midpoint(f: Velocity, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
    """Order 2, two evaluations."""
    return x + h * f(x + h / 2 * f(x, t), t + h / 2)


def heun(f: Velocity, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
    """Order 2, two evaluations: the mean of the slopes at both ends."""
    slope = f(x, t)
    return x + h / 2 * (slope + f(x + h * slope, t + h))


def rk4(f: Velocity, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
    """Order 4, four evaluations: Kutta's "3/8 rule" (1901), with a smaller error than his better-known one."""
    k1 = f(x, t)
    k2 = f(x + h / 3 * k1, t + h / 3)
    k3 = f(x + h * (k2 - k1 / 3), t + 2 * h / 3)
    k4 = f(x + h * (k1 - k2 + k3), t + h)
    return x + h / 8 * (k1 + 3 * k2 + 3 * k3 + k4)


def adams_bashforth(nodes: Tensor, end: Tensor) -> Tensor:
    """The weights of values at `nodes` in their mean from the first node to `end`, extrapolated as a polynomial.

    Nodes (..., N) and ends (...) -> weights (..., N).

    Example:
        >>> import torch
        >>> from flowlib.solvers import adams_bashforth
        >>> adams_bashforth(torch.tensor([0.0, -1.0]), torch.tensor(1.0))
        tensor([ 1.5000, -0.5000])
    """
    start = nodes[..., :1]
    nodes, span = double(nodes - start), double(end[..., None] - start)
    nodes = nodes / span
    powers = torch.arange(nodes.shape[-1], device=nodes.device)
    return torch.linalg.solve(nodes[..., None, :] ** powers[:, None], 1 / (powers + 1).double()).to(end)


STEPS: dict[str, Step] = {"euler": euler, "midpoint": midpoint, "heun": heun, "rk4": rk4}
EVALUATIONS = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4}  # of f, a step
NEEDS_END = ("heun", "rk4")  # evaluate f at the end of the step too
ADAPTIVE = ("dopri5", "dopri8", "bosh3", "adaptive_heun")  # torchdiffeq's


def time_grid(steps: int, start: float = 0.0, end: float = 1.0, power: float = 1.0) -> Tensor:
    """`steps + 1` times from `start` to `end`, float64; `power` > 1: denser towards the end (Karras et al. 2022).

    Raises:
        ValueError: unless steps >= 1, 0 <= start < end <= 1 and power > 0.

    Example:
        >>> from flowlib.solvers import time_grid
        >>> time_grid(4).tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    check_count("steps", steps)
    check_number("end", end, 0, 1)
    check_number("start", start, 0, end, high_open=True)
    check_number("power", power, 0, low_open=True)
    return end - (end - start) * torch.linspace(1, 0, steps + 1, dtype=torch.float64) ** power


def logit_grid(steps: int, low: float = -4.0, high: float = 11.0) -> Tensor:
    """`steps + 1` times, float64: 0, then logit(t) evenly from `low` to `high`, then 1.

    On the linear path log SNR is 2 logit(t). What happens to a pixel within its bin near t = 1, or to a density on an
    edge, has its time in log SNR.

    Raises:
        ValueError: unless steps >= 3 and low < high, both at most 16 from zero.

    Example:
        >>> from flowlib.solvers import logit_grid
        >>> [round(t, 3) for t in logit_grid(4, -2, 2).tolist()]
        [0.0, 0.119, 0.5, 0.881, 1.0]
    """
    check_count("steps", steps, 3)
    check_number("low", low, -16, 16)
    check_number("high", high, -16, 16)
    if not low < high:
        raise ValueError(f"low must be less than high, got {low} and {high}")
    inner = torch.linspace(low, high, steps - 1, dtype=torch.float64).sigmoid()
    return torch.cat([torch.zeros_like(inner[:1]), inner, torch.ones_like(inner[:1])])


def landing_grid(steps: int, land: float) -> Tensor:
    """`steps + 1` times, float64: evenly from 0 to `land`, then 1, for a last step that lands on D = E[z|x].

    How far from 1 to land is a choice between two errors: D, an average of all data that x may have come from, is
    smoother than data the earlier it is asked for, and what a network lets stand of the noise in x is in D too.

    Raises:
        ValueError: unless steps >= 1 and 0 < land < 1.

    Example:
        >>> from flowlib.solvers import landing_grid
        >>> [round(t, 3) for t in landing_grid(4, 0.84).tolist()]
        [0.0, 0.28, 0.56, 0.84, 1.0]
    """
    check_count("steps", steps)
    check_number("land", land, 0, 1, low_open=True, high_open=True)
    return torch.cat([torch.linspace(0, land, steps, dtype=torch.float64), torch.ones(1, dtype=torch.float64)])


def evaluation_times(method: str, grid: Tensor) -> Tensor:
    """The times at which a method evaluates f in each step of a grid (N + 1,), in their order: (N, evaluations).

    Example:
        >>> from flowlib.solvers import evaluation_times, time_grid
        >>> evaluation_times("heun", time_grid(2)).tolist()
        [[0.0, 0.5], [0.5, 1.0]]
    """
    seen = []

    def nothing(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return torch.zeros_like(x)

    STEPS[method](nothing, torch.zeros_like(grid[:-1]), grid[:-1], grid.diff())  # all steps at once
    return torch.stack(seen, dim=1)


def solve_adaptive(
    f: Velocity, x: Tensor, times: Tensor, method: str, rtol: float, atol: float, min_step: float = 0.0
) -> Tensor:
    """The states at `times` (N + 1,), shape (N + 1, *x.shape), by an adaptive method of torchdiffeq.

    f is asked at times of the dtype of `times`, between the first and the last of them. A step of size `min_step` is
    taken whatever its error.

    Raises:
        ValueError: for a tolerance that is not positive, a step that is negative; or where no step is small enough,
            because f is not finite, or too rough for the tolerance.

    Example:
        >>> import torch
        >>> from flowlib.solvers import solve_adaptive
        >>> times = torch.tensor([0.0, 1.0], dtype=torch.float64)
        >>> solve_adaptive(lambda x, t: x, torch.ones(1).double(), times, "dopri5", 1e-8, 1e-8)[-1]
        tensor([2.7183], dtype=torch.float64)
    """
    from torchdiffeq import odeint

    check_number("rtol", rtol, 0, low_open=True)
    check_number("atol", atol, 0, low_open=True)
    check_number("min_step", min_step, 0)
    low, high = torch.minimum(times[0], times[-1]), torch.maximum(times[0], times[-1])
    last = x

    def slope(t: Tensor, x: Tensor) -> Tensor:
        nonlocal last
        last = f(x, torch.clamp(t.to(times.dtype), low, high))  # rounding may have led past an end
        return last

    # Steps end at each of `times`: by default torchdiffeq steps over them, past the last one too, and interpolates,
    # which for dopri8 and bosh3 is far less accurate than their steps.
    options = {"step_t": times[1:], "min_step": min_step, "dtype": finest(x.device)}
    try:
        return odeint(slope, x, times, method=method, rtol=rtol, atol=atol, options=options)
    except AssertionError as error:
        if not str(error).startswith(("underflow in dt", "non-finite values in state")):
            raise
        if not bool(torch.isfinite(last).all()):
            raise ValueError(f"field is NaN or infinite somewhere on the way, where {method!r} cannot go on") from None
        raise ValueError(
            f"rtol = {rtol:g} and atol = {atol:g} are out of reach of {method!r} in {x.dtype}: raise them, or give a "
            "min_step"
        ) from None
