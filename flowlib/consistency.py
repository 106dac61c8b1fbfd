"""Whether a schedule of one's own is what it says: levels that are numbers, and derivatives that are theirs."""

import torch
from torch import Tensor

from flowlib.checks import check_tensor
from flowlib.schedules import Schedule

STEP = 1e-4  # of the central difference, whose error is of the size of its square


def check_schedule(schedule: Schedule) -> Schedule:
    """Return `schedule` if its levels fit each other and its derivatives fit the levels.

    Asked at 16 times between 0 and 1, in float64: alpha and beta are finite, beta > 0, alpha / beta grows, and both
    derivatives are the slopes of their levels, to 1 %. A schedule may be a piecewise one, as that of a chain: a slope
    is asked for on each side, and either will do.

    Raises:
        ValueError: naming the method that does not fit, or is missing.
    """
    t = (torch.arange(16, dtype=torch.float64) + 0.618) / 17
    levels = {}
    for name in ("alpha", "beta"):
        level, before, after = (_asked(schedule, name, t + shift) for shift in (0, -STEP, STEP))
        slope = _asked(schedule, f"d{name}", t)
        sides = torch.stack([(after - before) / (2 * STEP), (after - level) / STEP, (level - before) / STEP])
        size = torch.maximum(slope.abs(), sides.abs().amax(0)).clamp_min(1e-6)
        wrong = ((sides - slope).abs().amin(0) > 0.01 * size).nonzero().flatten().tolist()
        if wrong:
            i = wrong[0]
            raise ValueError(
                f"schedule.d{name} must be the derivative of {name}: at t = {float(t[i]):.3f} it is "
                f"{float(slope[i]):.4g}, where {name} has the slope {float(sides[0, i]):.4g}"
            )
        levels[name] = level
    if not bool((levels["beta"] > 0).all()) or not bool(((levels["alpha"] / levels["beta"]).diff() > 0).all()):
        raise ValueError("schedule must have beta > 0 before t = 1, and alpha / beta that grows with t")
    return schedule


def _asked(schedule: Schedule, name: str, t: Tensor) -> Tensor:
    try:
        value = getattr(schedule, name)(t)
    except NotImplementedError:
        raise ValueError(f"schedule must have a method {name}(t): {type(schedule).__name__} has none") from None
    if check_tensor(f"schedule.{name}(t)", value, batch=False).shape != t.shape:
        raise ValueError(f"schedule.{name}(t) must have the shape of t, {tuple(t.shape)}, got {tuple(value.shape)}")
    return value.detach()
