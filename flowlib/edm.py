"""EDM's sampler as one of this library's (Karras et al. 2022): their noise levels, as times of `VE(rho=1)`.

On that schedule beta falls in a straight line, so that a step in t is a step in sigma, and Heun's method is theirs.
With their levels for a grid, and D at the last one, it is their algorithm 1:

    >>> import torch
    >>> from flowlib import VE, GaussianPath, MixtureField, sample_ode
    >>> from flowlib.edm import edm_times
    >>> field = MixtureField(torch.eye(2).double(), std=0.1, path=GaussianPath(VE(rho=1)))
    >>> x = sample_ode(field, torch.randn(64, 2).double(), times=edm_times(18))
    >>> field.data(x, 1.0).shape
    torch.Size([64, 2])

`VE()`, whose rho is 7, has the same levels at uniform times, but there a step in t is none in sigma: another sampler.
"""

import torch
from torch import Tensor

from flowlib.checks import check_count, check_number
from flowlib.schedules import VE


def edm_times(steps: int, schedule: VE | None = None, rho: float = 7.0) -> Tensor:
    """Times of `VE(rho=1)` at which beta takes EDM's levels (ibid., equation 5), but for their last, 0.

    Args:
        steps: N of the paper, 2 or more: N - 1 steps between these times, and D at the last makes N.
        schedule: with the range of levels; it must have rho = 1, and does by default.
        rho: how much denser the levels are towards the data, >= 1.

    Returns:
        (N,) from 0 to 1, float64.

    Raises:
        ValueError: naming the argument that does not fit.

    Example:
        >>> from flowlib.edm import edm_times
        >>> edm_times(3).tolist()[::2]
        [0.0, 1.0]
    """
    check_count("steps", steps, 2)
    check_number("rho", rho, 1)
    schedule = VE(rho=1.0) if schedule is None else schedule
    if not isinstance(schedule, VE) or schedule.rho != 1:
        raise ValueError(f"schedule must be VE with rho = 1, on which a step in t is one in sigma; got {schedule!r}")
    low, high = schedule.sigma_min, schedule.sigma_max
    sigma = VE(low, high, rho).beta(torch.linspace(0, 1, steps, dtype=torch.float64))
    return ((high - sigma) / (high - low)).clamp(0, 1)
