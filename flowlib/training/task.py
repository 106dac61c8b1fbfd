"""A task: networks and the loss by which they are trained. The trainer knows nothing else about what it trains."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flowlib.training.devices import autocast


@dataclass
class Task:
    """What is trained, and on what.

    Attributes:
        module: the networks; those parameters are trained that require gradients.
        loss: (indices (B,) of a global batch, the part of it to compute, generator) -> the mean loss over that part. It
            draws from the generator for the whole batch, so that every process draws the same.
        count: samples in the data.
        net: the part of the module that `torch.compile` may compile.
    """

    module: nn.Module
    loss: Callable[[Tensor, slice, torch.Generator], Tensor]
    count: int
    net: nn.Module


class Objective(nn.Module):
    """The loss as a module's forward, which is where DistributedDataParallel hooks in."""

    def __init__(self, task: Task, precision: str, device: torch.device) -> None:
        super().__init__()
        self.module, self.loss, self.precision, self.device = task.module, task.loss, precision, device

    def forward(self, index: Tensor, part: slice, generator: torch.Generator) -> Tensor:
        with autocast(self.precision, self.device):
            return self.loss(index, part, generator)
