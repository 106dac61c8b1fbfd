"""The variational bound of a chain, term by term and in bits/dim (Ho et al. 2020, equation 5; Nichol & Dhariwal 2021).

-log p(x_0) <= L_T + L_(T-1) + ... + L_0 in the mean: L_T, the prior's term, has nothing to learn; the terms between are
divergences KL(q(x_j|x_k, x_0) | p(x_j|x_k)) of two Gaussians; L_0 = -log p(x_0|x_1), where the data are pixels, is that
of their bins. Terms are called here by the step k that they come from: the last one has k = 1, j = 0. All of it takes
any reversal, a function (x_k, y, k, j) -> mean and variance of x_j, fixed or learned, of all steps or of some.

Example:
    >>> import torch
    >>> from flowlib.chains import discretised_log_prob
    >>> pixels = torch.linspace(-1, 1, 256).double()[:, None]
    >>> log_prob = discretised_log_prob(pixels, torch.zeros(256, 1).double(), torch.ones(256, 1).double())
    >>> round(float(log_prob.exp().sum()), 6)  # the bins are all there is
    1.0
    >>> import math
    >>> from flowlib import GaussianPath, MixtureField
    >>> from flowlib.chains import Chain, fixed_reverse, posterior, term_at, variational_bound
    >>> chain, z = Chain.linear(100), torch.randn(1000, 2).double()
    >>> field = MixtureField(torch.zeros(1, 2).double(), 1.0, path=GaussianPath(chain))  # of which z are data
    >>> bound = variational_bound(fixed_reverse(field, chain, "large"), chain, z, levels=None)
    >>> bits = 0.5 * (z**2 + math.log(2 * math.pi)).mean(1) / math.log(2)  # -log2 of their density, a dimension
    >>> bound.terms.shape, abs(float((bound.total - bits).mean())) < 0.2  # of a Gaussian the bound is tight
    (torch.Size([1000, 100]), True)
    >>> term_at(chain, z[:2], z[:2], 50, 49, *posterior(chain, z[:2], z[:2], 50, 49))  # what is as it was costs nothing
    tensor([0., 0.], dtype=torch.float64)
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from flowlib.chains.ancestral import Reverse
from flowlib.chains.chain import Chain, Steps
from flowlib.chains.gaussians import Step, forward, posterior
from flowlib.checks import check_count, check_tensor

HUGE = 1e18  # where a normal distribution has ended, in standard deviations; its square is a number in float32


class Bound(NamedTuple):
    """The bound of each of B samples, in bits/dim: `prior` (B,), and `terms` (B, steps) with k = T first, 1 last.

    Example:
        >>> Bound(torch.tensor([0.5]), torch.tensor([[0.25, 1.0]])).total
        tensor([1.7500])
    """

    prior: Tensor
    terms: Tensor

    @property
    def total(self) -> Tensor:
        """The whole bound (B,)."""
        return self.prior + self.terms.sum(1)


def kl_normal(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) | N(other_mean, other_variance)) in nats, of each component; the shapes broadcast.

    Example:
        >>> import torch
        >>> from flowlib.chains import kl_normal
        >>> zero = torch.zeros(())
        >>> kl_normal(torch.ones(()), zero, zero, zero)
        tensor(0.5000)
    """
    ratio = log_variance - other_log_variance
    # expm1(r) - r where exp(r) - 1 - r would cancel: near the data both variances are almost one.
    return 0.5 * (torch.expm1(ratio) - ratio + (mean - other_mean) ** 2 * torch.exp(-other_log_variance))


def discretised_log_prob(z: Tensor, mean: Tensor, std: Tensor, levels: int = 256) -> Tensor:
    """log of what N(mean, std^2) has in the bin of each pixel value, in nats (Ho et al. 2020, equation 13).

    The bins are 2 / (levels - 1) wide around the values -1 ... 1; the outer two reach to infinity, so that the
    probabilities of all `levels` sum to 1.

    Args:
        z: pixels (B, ...), on the grid -1 + 2 i / (levels - 1).
        mean, std: shapes that broadcast with z; std > 0.
        levels: values that a pixel may have, >= 2.

    Returns:
        shaped like z, <= 0.

    Raises:
        ValueError: for pixels that are not on that grid, or too few levels.
    """
    check_tensor("z", z)
    half = 1 / (check_count("levels", levels, 2) - 1)
    index = (z + 1) / (2 * half)
    if bool(((index - index.round()).abs() > 1e-2).any() | (index < -0.5).any() | (index > levels - 0.5).any()):
        raise ValueError(f"z must hold {levels} pixel values, -1 + 2 i / {levels - 1}; got {_off(z, index)}")
    above = torch.where(index > levels - 1.5, torch.full_like(z, HUGE), (z + half - mean) / std)
    below = torch.where(index < 0.5, torch.full_like(z, -HUGE), (z - half - mean) / std)
    # Seen from the side where both are in the lower tail, whose logarithm is accurate.
    flip = above + below > 0
    above, below = torch.where(flip, -below, above), torch.where(flip, -above, below)
    upper = torch.special.log_ndtr(above)
    return upper + torch.log(-torch.expm1(torch.special.log_ndtr(below) - upper))


def term_at(
    chain: Chain, x: Tensor, z: Tensor, k: Step, j: Step, mean: Tensor, variance: Tensor, levels: int | None = 256
) -> Tensor:
    """One term of the bound at a state: the divergence of p(x_j|x_k) = N(mean, variance), or for j = 0 its decoder's.

    Args:
        chain: of T steps.
        x, z: x_k and the data point x_0, both (B, ...).
        k, j: as in `posterior`.
        mean, variance: of the model's p(x_j|x_k), shapes that broadcast to x.
        levels: values that a pixel may have; None for data that are no pixels: then the decoder's term is that of a
            density, and may be negative.

    Returns:
        (B,) bits/dim.
    """
    true_mean, true_variance = posterior(chain, x, z, k, j)
    variance = variance.expand_as(x)
    # The clamp matters only where j = 0, whose row is replaced.
    divergence = kl_normal(true_mean, true_variance.clamp_min(1e-30).log(), mean, variance.log())
    value = divergence.flatten(1).mean(1)
    rows = torch.nonzero(torch.as_tensor(j).cpu().expand(len(x)) == 0)[:, 0].to(x.device)
    if len(rows):
        z, mean, std = z[rows], mean[rows], variance[rows].sqrt()
        if levels is None:
            log_prob = -0.5 * ((z - mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)
        else:
            log_prob = discretised_log_prob(z, mean, std, levels)
        value = value.index_copy(0, rows, -log_prob.flatten(1).mean(1))
    return value / math.log(2)


def prior_term(chain: Chain, z: Tensor) -> Tensor:
    """L_T = KL(q(x_T|x_0) | N(0, I)), what x_T still knows of the data: (B, ...) -> (B,) bits/dim.

    Example:
        >>> import torch
        >>> from flowlib.chains import Chain, prior_term
        >>> bool(prior_term(Chain.linear(1000), torch.ones(1, 2)) < 1e-4)
        True
    """
    mean, variance = forward(chain, z, chain.steps)
    zero = torch.zeros_like(variance)
    return kl_normal(mean, variance.log(), zero, zero).flatten(1).mean(1) / math.log(2)


def variational_bound(
    reverse: Reverse,
    chain: Chain,
    z: Tensor,
    y: Tensor | None = None,
    *,
    steps: Steps | None = None,
    levels: int | None = 256,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
) -> Bound:
    """All terms of the bound, each from one draw of x_k; an upper bound of -log2 p(z) / dims in the mean.

    Args:
        reverse: (x_k, y, k, j) -> mean and variance of x_j: `fixed_reverse(field, chain)`, or what a model has learned.
        chain: of T steps.
        z: data (B, ...), in [-1, 1] on the grid of `levels`, unless that is None: see `term_at`.
        y: guides (B,) or None.
        steps: how many of the T steps the model takes, or which; all by default. It is the bound of that chain.
        generator: the source of the states, on the CPU.
        batch_size: samples at a time.

    Raises:
        ValueError: naming the argument that does not fit.
    """
    check_tensor("z", z)
    if y is not None and len(y) != len(z):
        raise ValueError(f"y must hold a guide for each sample, {len(z)}, got {len(y)}")
    size = len(z) if batch_size is None else check_count("batch_size", batch_size)
    stride = chain.stride(chain.steps if steps is None else steps).tolist()
    terms = []
    with torch.no_grad():
        for k, j in tqdm(list(pairwise(stride)), desc="bound", unit="step", delay=2, leave=False, disable=None):
            noise = torch.randn(z.shape, generator=generator, dtype=z.dtype).to(z.device)
            mean, variance = forward(chain, z, k)
            x, parts = mean + variance.sqrt() * noise, []
            for i in range(0, len(z), size):
                part = slice(i, i + size)
                moments = reverse(x[part], None if y is None else y[part], k, j)
                parts.append(term_at(chain, x[part], z[part], k, j, *moments, levels=levels))
            terms.append(torch.cat(parts))
    return Bound(prior_term(chain, z), torch.stack(terms, dim=1))


def _off(z: Tensor, index: Tensor) -> float:
    """The value that is furthest from the grid."""
    return float(z.flatten()[torch.maximum((index - index.round()).abs(), (z.abs() - 1) / 2).argmax()])
