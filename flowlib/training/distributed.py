"""Several processes that train one network: torch.distributed as torchrun starts it, in four small verbs.

Every process draws the same global batch, with its times and noise, from the same generators, and works on its share.
So the number of processes changes how fast a run goes, not what it computes, up to rounding.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Result = TypeVar("Result")


@dataclass(frozen=True)
class World:
    """The processes of a run, and which of them this one is; by default there is one."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, batch_size: int) -> slice:
        """The part of a global batch that is this process's.

        Raises:
            ValueError: if the batch cannot be shared evenly.
        """
        if batch_size % self.size:
            raise ValueError(f"batch_size must be a multiple of the {self.size} processes, got {batch_size}")
        part = batch_size // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, whose gradients are averaged over all processes in each backward pass."""
        return module if self.size == 1 else DistributedDataParallel(module)

    def gather(self, x: Tensor) -> Tensor:
        """The parts x (B / size, ...) of all processes as one tensor (B, ...), in the batch's order; differentiable.

        A loss of the whole batch is then the same number in every process, and the mean of their gradients, which
        `wrap` takes, is its gradient.
        """
        return x if self.size == 1 else _Gather.apply(x, self)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over all processes."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value / self.size

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """Do `work` in the leading process, then in all others; if it fails there, all fail with its message."""
        if self.size == 1:
            return work()
        result, error = None, None
        if self.leads:
            try:
                result = work()
            except Exception as caught:
                error = caught
        message = [None if error is None else str(error)]
        dist.broadcast_object_list(message)
        if error is not None:
            raise error
        if message[0] is not None:
            raise ValueError(message[0])
        return work() if result is None else result

    def wait(self) -> None:
        """Return once all processes have come here."""
        if self.size > 1:
            dist.barrier()


class _Gather(torch.autograd.Function):
    """All processes' tensors; its gradient sums what each of them asks of this one's part."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, world: World) -> Tensor:
        ctx.world, ctx.count = world, len(x)
        parts = [torch.empty_like(x) for _ in range(world.size)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        start = ctx.world.rank * ctx.count
        return total[start : start + ctx.count], None


@contextmanager
def join_world(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """Join the processes that torchrun started this one with, if it did; give the world and this process's device.

    Gloo connects CPUs, NCCL connects GPUs, of which each process takes its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()
