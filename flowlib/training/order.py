"""The order in which a run sees its data, and the independent streams of randomness that a seed stands for."""

import hashlib

import torch
from torch import Tensor

from flowlib.checks import check_count


def stream(seed: int, *names: object) -> torch.Generator:
    """A generator of its own for each purpose: one seed, and no two purposes that share their random numbers."""
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


class DataOrder:
    """One random permutation of all samples after the other, cut into batches.

    Every sample comes equally often, and a batch may be larger than the data. The batch of a step depends on nothing
    but the seed and the step, so a run that goes on needs no memory of where it was.

    Args:
        count: samples in the data; None for data without an end, which are gone through as they come.
        batch_size: samples in a batch.
        seed: of the run.
    """

    def __init__(self, count: int | None, batch_size: int, seed: int) -> None:
        self.count = None if count is None else check_count("count", count)
        self.batch_size = check_count("batch_size", batch_size)
        self.seed = seed
        self._epoch, self._permutation = -1, torch.empty(0, dtype=torch.int64)

    def batch(self, step: int) -> Tensor:
        """The indices (batch_size,) of step 0, 1, 2, ..."""
        parts, start, missing = [], step * self.batch_size, self.batch_size
        if self.count is None:
            return torch.arange(start, start + missing)
        while missing:
            epoch, offset = divmod(start, self.count)
            parts.append(self._order(epoch)[offset : offset + missing])
            start, missing = start + len(parts[-1]), missing - len(parts[-1])
        return torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = torch.randperm(self.count or 1, generator=stream(self.seed, "order", epoch))
        return self._permutation
