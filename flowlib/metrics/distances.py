"""Distances between two sets of points: sliced Wasserstein and energy distance.

Both compare samples with samples, need no density, and vanish only when the two distributions agree. Both are
computed in float64 and in blocks, so that 10,000 × 10,000 pairs never stand in memory at once.
"""

import torch
from torch import Tensor

from flowlib.checks import check_count, check_tensor

BLOCK_ENTRIES = 10_000_000  # numbers in one block: 80 MB in float64


def check_points(name: str, value: object, minimum: int = 1) -> Tensor:
    """Return `value` in float64 if it is a finite floating-point tensor (N, D) with N >= `minimum`.

    Raises:
        ValueError: naming the argument, what came and what was expected.
    """
    points = check_tensor(name, value)
    if points.ndim != 2:
        raise ValueError(f"{name} must have shape (count, dimension), got {tuple(points.shape)}")
    if len(points) < minimum:
        raise ValueError(f"{name} has too few samples: {len(points)}, at least {minimum} are needed")
    # Apple's GPUs have no float64.
    return points.to("cpu" if points.device.type == "mps" else points.device, torch.float64)


def check_pair(name_a: str, a: object, name_b: str, b: object, minimum: int = 1) -> tuple[Tensor, Tensor]:
    """Return `a` (N, D) and `b` (M, D) in float64 if they agree in D and device.

    Raises:
        ValueError: naming the argument, what came and what was expected.
    """
    first, second = check_points(name_a, a, minimum), check_points(name_b, b, minimum)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{name_a} and {name_b} must have the same dimension, got {first.shape[1]} and {second.shape[1]}"
        )
    if first.device != second.device:
        raise ValueError(f"{name_a} is on {first.device}, {name_b} is on {second.device}")
    return first, second


def sliced_wasserstein(a: Tensor, b: Tensor, projections: int = 256, generator: torch.Generator | None = None) -> float:
    """The sliced 2-Wasserstein distance `(E_θ W₂²(θ·a, θ·b))^½`, θ uniform on the sphere.

    On a line the optimal coupling joins equal quantiles, so each projection costs two sorts. Gaussians that
    differ by a shift δ in D dimensions have sliced distance |δ|/√D.

    Args:
        a: points (N, D); b: points (M, D). N and M may differ: the quantile functions are then compared
            exactly.
        projections: number of random directions; the error of the square is O(1/√projections).
        generator: the source of the directions, on the CPU; the same seed gives the same directions on every
            device.

    Returns:
        The distance, >= 0, in the units of the points; 0 up to rounding for the same points in any order.

    Raises:
        ValueError: for points of another shape or dtype, empty, not finite, of different dimension or on
            different devices; for `projections` < 1.

    Source: Bonneel, Rabin, Peyré, Pfister, "Sliced and Radon Wasserstein barycenters of measures" (2015),
        section 2.3.

    Example:
        >>> import torch
        >>> from flowlib.metrics import sliced_wasserstein
        >>> points = torch.randn(200, 2)
        >>> sliced_wasserstein(points, points)
        0.0
    """
    a, b = check_pair("a", a, "b", b)
    check_count("projections", projections)
    n, m = len(a), len(b)
    directions = torch.randn(projections, a.shape[1], generator=generator, dtype=torch.float64)
    directions = torch.nn.functional.normalize(directions, dim=1).to(a.device)

    # Both quantile functions are steps. Between two neighbouring levels of the union of their steps both are
    # constant. Levels are counted in units of 1/(nm), as integers, so that equal levels are equal.
    steps_a = torch.arange(1, n + 1, device=a.device) * m
    steps_b = torch.arange(1, m + 1, device=a.device) * n
    levels = torch.unique(torch.cat([steps_a, steps_b]))
    weights = levels.diff(prepend=levels.new_zeros(1)).double() / (n * m)
    at_a, at_b = (levels - 1) // m, (levels - 1) // n

    total = 0.0
    for block in directions.split(max(1, BLOCK_ENTRIES // len(levels))):
        quantiles_a = (a @ block.T).sort(dim=0).values[at_a]  # (levels, directions of the block)
        quantiles_b = (b @ block.T).sort(dim=0).values[at_b]
        total += float((weights @ (quantiles_a - quantiles_b).square()).sum())
    return (total / projections) ** 0.5


def energy_distance(a: Tensor, b: Tensor) -> float:
    """The energy distance `2 E|a - b| - E|a - a'| - E|b - b'|`, not its square root, as a V-statistic.

    The means run over all pairs, those of a point with itself included. So the value is never negative, and
    exactly 0 only for equal samples, but it is biased upwards: for two samples of N and M points of one
    distribution its mean is `E|x - x'| (1/N + 1/M)`, the sampling floor to compare with.
    (`scipy.stats.energy_distance` is the root of this.)

    Args:
        a: points (N, D); b: points (M, D).

    Returns:
        The distance, >= 0 up to rounding, in the units of the points.

    Raises:
        ValueError: for points of another shape or dtype, empty, not finite, of different dimension or on
            different devices.

    Source: Székely, Rizzo, "Energy statistics: a class of statistics based on distances" (2013), eqs. 5, 6.

    Example:
        >>> import torch
        >>> from flowlib.metrics import energy_distance
        >>> energy_distance(torch.zeros(4, 2), torch.ones(4, 2) * 3)  # 2 sqrt(18)
        8.48528137423857
    """
    a, b = check_pair("a", a, "b", b)
    return 2 * _mean_distance(a, b) - _mean_distance(a, a) - _mean_distance(b, b)


def _mean_distance(a: Tensor, b: Tensor) -> float:
    # The distances are taken by differences: |a|² + |b|² - 2ab would cancel for points that nearly agree.
    total = 0.0
    for block in a.split(max(1, BLOCK_ENTRIES // len(b))):
        total += float(torch.cdist(block, b, compute_mode="donot_use_mm_for_euclid_dist").sum())
    return total / (len(a) * len(b))
