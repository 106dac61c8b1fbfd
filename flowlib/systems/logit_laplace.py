"""The logit-Laplace distribution of pixels (Ramesh et al. 2021, arXiv:2102.12092, appendix A.3).

A pixel has a smallest and a largest value, and a Laplace or Gaussian distribution gives some of its mass to values
beyond. The logarithm of the odds of a number in (0, 1) may be anything; so it is that which is Laplace distributed.
Pixels are first mapped into (0.1, 0.9), where the density has no pole.
"""

import math

import torch
from torch import Tensor

from flowlib.checks import check_count, check_tensor
from flowlib.nets.discrete import into_odds

LOWEST = 200.0  # scales below which no mass is left: exp(-200) is 0 beside 1 in any precision


def log_density(x: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
    """The logarithm of the density of v = `into_odds(x)` in (0, 1), for each pixel, in nats (equation 2 there).

    log f(v) = -|logit v - location| / b - log(2 b v (1 - v)), b = exp(log_scale).

    Args:
        x: images in [-1, 1]; `location` and `log_scale` of the same shape.

    Raises:
        ValueError: for tensors of different shapes.

    Example:
        >>> zero = torch.zeros(1, 1)
        >>> round(float(log_density(zero, zero, zero).exp()), 4)  # 1 / (2 v (1 - v)) at v = 1/2
        2.0
    """
    _check(x, location, log_scale)
    v = into_odds(x)
    return -(v.logit() - location).abs() * (-log_scale).exp() - log_scale - torch.log(2 * v * (1 - v))


def log_mass(x: Tensor, location: Tensor, log_scale: Tensor, levels: int = 256) -> Tensor:
    """The logarithm of the probability of each pixel's value among `levels`, in nats.

    That of its bin, which ends half-way to the values beside it; the first and the last bin reach to 0 and 1. So
    probabilities sum to 1, as those of the discretised Gaussian do (Ho et al. 2020, equation 13). They are about
    `log_density` times the width of a bin where the bin is narrow.

    Args:
        x: images whose pixels have `levels` values, evenly spaced from -1 to 1; the others of the same shape.
        levels: at least 2.

    Raises:
        ValueError: for tensors of different shapes.

    Example:
        >>> values = torch.linspace(-1, 1, 4)[:, None]
        >>> shape = torch.zeros(4, 1)
        >>> round(float(log_mass(values, shape + 0.3, shape - 1, levels=4).exp().sum()), 6)
        1.0
    """
    _check(x, location, log_scale)
    half = 1 / (check_count("levels", levels, 2) - 1)
    inverse = (-log_scale).exp()
    low = (into_odds(x - half).logit() - location) * inverse
    high = (into_odds(x + half).logit() - location) * inverse
    # The outer bins end far away, not at infinity, whose gradient would be NaN.
    first, last = x - half < -1, x + half > 1
    low, high = torch.where(first, high.clamp(max=0) - LOWEST, low), torch.where(last, low.clamp(min=0) + LOWEST, high)
    # Beside the location: half of exp(-distance) less exp(-distance of the far end). Across it: what is not outside.
    near = torch.maximum(low, -high)
    beside = -near.clamp(min=0) + torch.log(-torch.expm1(low - high)) - math.log(2)
    inside = near < 0
    across = torch.log(-(torch.expm1(low.clamp(max=0)) + torch.expm1(-high.clamp(min=0))).where(inside, -1.0) / 2)
    return torch.where(inside, across, beside)


def _check(x: Tensor, location: Tensor, log_scale: Tensor) -> None:
    check_tensor("x", x, finite=False)
    if not x.shape == location.shape == log_scale.shape:
        shapes = tuple(x.shape), tuple(location.shape), tuple(log_scale.shape)
        raise ValueError(f"x, location and log_scale must have one shape, got {shapes}")
