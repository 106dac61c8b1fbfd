"""A moving average of the weights: what is sampled from, since the last steps' noise is averaged out of it."""

import copy

import torch
from torch import nn


class EMA:
    """Keeps `module`, a copy of a network whose trained weights are the average of the original's over its steps.

    Buffers, such as the running statistics of a batch norm, are those of the last step; but those of a module that
    says `training_only = True` stay as they are.

    The decay is `min(decay, (1 + n) / (10 + n))` at update n: the first, random weights are soon forgotten.
    """

    def __init__(self, source: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(source).eval().requires_grad_(False)
        pairs = zip(self.module.parameters(), source.parameters(), strict=True)
        moving = [(average, weight) for average, weight in pairs if weight.requires_grad]
        self._averages, self._weights = [list(part) for part in zip(*moving, strict=True)]
        self._copies, self._buffers = list[torch.Tensor](), list[torch.Tensor]()
        for copied, module in zip(self.module.modules(), source.modules(), strict=True):
            if not getattr(module, "training_only", False):
                self._copies += copied.buffers(recurse=False)
                self._buffers += module.buffers(recurse=False)

    @torch.no_grad()
    def update(self, n: int) -> None:
        """Move towards the current weights, after step n = 1, 2, ...; one call for all tensors together."""
        decay = min(self.decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
        if self._buffers:
            torch._foreach_copy_(self._copies, self._buffers)
