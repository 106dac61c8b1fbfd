"""At which times a network is trained: uniform ones, ones that prefer the middle, ones that a likelihood asks for."""

from collections.abc import Callable

import torch
from torch import Tensor

from flowlib.checks import check_count, check_number

TimeSampler = Callable[[int, torch.Generator | None], Tensor]


def uniform_time(count: int, generator: torch.Generator | None = None) -> Tensor:
    """`count` times in the open interval (0, 1), float32, shape (count,).

    Stratified: one in each of `count` equal cells, which leaves each time uniform and makes the batch's loss less noisy
    (Kingma et al. 2021, appendix I.1). They come in a random order.

    Example:
        >>> from flowlib import uniform_time
        >>> times = uniform_time(100)
        >>> sorted(int(time * 100) for time in times) == list(range(100))  # one in each cell
        True
    """
    check_count("count", count)
    cells = torch.randperm(count, generator=generator)
    inside = torch.rand(count, generator=generator).clamp(1e-6, 1 - 1e-6)
    return (cells + inside).div(count).clamp(1e-7, 1 - 6e-8)


def logit_normal_time(mean: float = 0.0, std: float = 1.0) -> TimeSampler:
    """Times sigmoid(mean + std n) with n normal, which prefer the middle (Esser et al. 2024, section 3.1).

    They are stratified too. A positive mean prefers times near the data. Under it the loss is weighted by its density.

    Example:
        >>> from flowlib import logit_normal_time
        >>> draw = logit_normal_time(mean=1.0)
        >>> bool(draw(1000, None).mean() > 0.6)
        True
    """
    check_number("mean", mean)
    check_number("std", std, 0, low_open=True)

    def draw(count: int, generator: torch.Generator | None = None) -> Tensor:
        normal = torch.special.ndtri(uniform_time(count, generator).double())
        return torch.sigmoid(mean + std * normal).float().clamp(1e-7, 1 - 6e-8)

    return draw


def logit_uniform_time(low: float, high: float) -> TimeSampler:
    """Times sigmoid(r) with r uniform between `low` and `high`, float32: on the linear path log SNR = 2 r is uniform.

    Under it the mean squared error of the noise is, up to a constant and a factor, the variational bound of the log
    likelihood: each unit of log SNR costs half of it in nats (Kingma et al. 2021, equation 15). Stratified too.

    Raises:
        ValueError: unless low < high, at most 16 from zero, where float32 ends.

    Example:
        >>> from flowlib import logit_uniform_time
        >>> times = logit_uniform_time(-3, 6.5)(1000, None)
        >>> bool((times > 0.998).float().mean() > 0.02)  # where uniform times would be 2 in 1000
        True
    """
    check_number("low", low, -16, 16)
    check_number("high", high, -16, 16)
    if not low < high:
        raise ValueError(f"low must be less than high, got {low} and {high}")

    def draw(count: int, generator: torch.Generator | None = None) -> Tensor:
        logit = low + (high - low) * uniform_time(count, generator).double()
        return torch.sigmoid(logit).float().clamp(1e-7, 1 - 6e-8)

    return draw
