"""At which times a network is trained: uniform ones, and ones that prefer the middle."""

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
