"""Importance sampling of steps by the second moment of their losses (Nichol & Dhariwal 2021, section 3.3).

The terms of the variational bound differ by orders of magnitude, so a term drawn uniformly is a noisy estimate of their
sum. Drawn with probability p_k and weighted by 1 / (T p_k) it is unbiased for every p, and its second moment is least
for p_k proportional to sqrt(E L_k^2), which the last losses of each step estimate.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count, check_number
from flowlib.times import uniform_time


class LossSecondMoment(nn.Module):
    """Draws steps k in 1 ... T with p_k proportional to the root mean square of the last losses of k.

    Uniform until every step has `history` losses. A module, so that the losses are kept in a run's checkpoints.

    Args:
        steps: T.
        history: losses of each step that are kept.
        uniform: the share of the draws, in [0, 1], that stay uniform, so that no step is forgotten.

    Raises:
        ValueError: for a number that does not fit.

    Example:
        >>> from flowlib.chains import LossSecondMoment
        >>> LossSecondMoment(4).probabilities()  # uniform, until every step has its losses
        tensor([0.2500, 0.2500, 0.2500, 0.2500], dtype=torch.float64)
    """

    training_only: ClassVar[bool] = True  # an average of the model needs no losses

    losses: Tensor  # (T, history), of k = 1 ... T
    counts: Tensor  # (T,), how many losses each step has had

    def __init__(self, steps: int, history: int = 10, uniform: float = 1e-3) -> None:
        super().__init__()
        self.steps, self.history = check_count("steps", steps), check_count("history", history)
        self.uniform = check_number("uniform", uniform, 0, 1)
        self.register_buffer("losses", torch.zeros(steps, history, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(steps, dtype=torch.int64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "LossSecondMoment":
        """Nothing: the losses stay float64 on the CPU, wherever the model goes, since Python reads and writes them."""
        return self

    @property
    def warm(self) -> bool:
        """Whether every step has its losses."""
        return bool((self.counts >= self.history).all())

    def probabilities(self) -> Tensor:
        """p_k of k = 1 ... T, shape (T,), float64 on the CPU."""
        if not self.warm:
            return torch.full((self.steps,), 1 / self.steps, dtype=torch.float64)
        share = self.losses.cpu().square().mean(1).sqrt()
        if not bool(share.sum() > 0):  # nothing left to learn
            share = torch.ones_like(share)
        return (1 - self.uniform) * share / share.sum() + self.uniform / self.steps

    def sample(self, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw `count` steps (count,), integers, and their weights 1 / (T p_k), float64, both on the CPU.

        Stratified, as `uniform_time` is: the quantiles of p are taken at one number in each of `count` equal cells.
        """
        p = self.probabilities()
        at = uniform_time(count, generator).double()
        k = torch.searchsorted(p.cumsum(0), at).clamp(max=self.steps - 1)
        return k + 1, 1 / (self.steps * p[k])

    @torch.no_grad()
    def update(self, k: Tensor, losses: Tensor) -> None:
        """Keep the losses (B,), not weighted, of steps k (B,); of each step the last `history`.

        Raises:
            ValueError: for shapes that differ, or steps outside 1 ... T.
        """
        if k.shape != losses.shape or k.ndim != 1:
            raise ValueError(f"losses must be one for each of k, {tuple(k.shape)}, got {tuple(losses.shape)}")
        if int(k.min()) < 1 or int(k.max()) > self.steps:
            raise ValueError(f"k must lie in 1 ... {self.steps}, got {int(k.min())} ... {int(k.max())}")
        for row, loss in zip((k - 1).tolist(), losses.double().tolist(), strict=True):
            self.losses[row, self.counts[row] % self.history] = loss
            self.counts[row] += 1
