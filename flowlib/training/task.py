"""A task: networks, and the players that train them. The trainer knows nothing else about what it trains.

Most tasks have one player. A GAN has two, which take turns in every step: each has parameters of its own, a loss of its
own and, where it wants them, settings of its own for the optimiser.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from flowlib.training.devices import autocast


@dataclass(frozen=True)
class Turn:
    """What a loss is told of the step that it is computed for.

    Attributes:
        index: (B,) which data are in the step's batch, over all processes together.
        part: the share of the batch that this process computes.
        generator: the source of all random numbers, on the CPU. A loss draws from it for the whole batch and takes its
            part of that, so that every process draws the same.
        step: how many steps were done before, 0 ... steps - 1.
        steps: of the whole training.
        gather: a tensor (B / processes, ...) of each process -> (B, ...) of all, in the batch's order, differentiable:
            for a loss that looks at the whole batch.

    Example:
        >>> import torch
        >>> from flowlib.training import Turn
        >>> turn = Turn(torch.tensor([4, 8, 1, 3]), slice(0, 2), torch.Generator().manual_seed(0))
        >>> turn.mine, turn.normal(3).shape  # of the first of two processes
        (tensor([4, 8]), torch.Size([2, 3]))
    """

    index: Tensor
    part: slice
    generator: torch.Generator
    step: int = 0
    steps: int = 1
    gather: Callable[[Tensor], Tensor] = lambda x: x

    @property
    def mine(self) -> Tensor:
        """The indices of this process's part."""
        return self.index[self.part]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers for this process's part (B / processes, *shape), drawn for the whole batch."""
        return torch.randn(len(self.index), *shape, generator=self.generator)[self.part]


Loss = Callable[[Turn], Tensor | Mapping[str, Tensor]]


@dataclass
class Player:
    """Some networks, and the loss that they are trained by.

    Attributes:
        module: whose parameters this player moves: those that require gradients.
        loss: of a turn: the mean loss over its part, a scalar; or named scalars, "loss" among them, which is the one to
            descend. All of them are logged, each in every step.
        name: as which its scalars are logged, where there are several players.
        changes: what is different for it in the training's settings of the optimiser, warm-up and clipping, such as
            {"lr": 1e-3, "betas": (0.0, 0.99)}.

    Example:
        >>> from torch import nn
        >>> from flowlib.training import Player, Task
        >>> maker, judge = nn.Linear(1, 1), nn.Linear(1, 1)
        >>> players = [
        ...     Player(judge, lambda turn: judge(maker(turn.normal(1))).mean(), "judge", changes={"lr": 1e-3}),
        ...     Player(maker, lambda turn: -judge(maker(turn.normal(1))).mean(), "maker"),
        ... ]
        >>> [player.name for player in Task(nn.ModuleList([maker, judge]), players, count=None).players]
        ['judge', 'maker']
    """

    module: nn.Module
    loss: Loss
    name: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Task:
    """What is trained, and on what.

    Attributes:
        module: the networks: what is averaged and kept in checkpoints.
        loss: by which all of it is trained; or several players, which take turns in this order in every step.
        count: samples in the data; None for data without an end, of which each is seen once.
        net: the part of the module that `torch.compile` may compile; None for none.
    """

    module: nn.Module
    loss: Loss | Sequence[Player]
    count: int | None
    net: nn.Module | None = None

    @property
    def players(self) -> list[Player]:
        """The players, one of them if there is one loss."""
        return [Player(self.module, self.loss)] if callable(self.loss) else list(self.loss)


TAKEN = {"step", "lr", "grad_norm", "samples_per_second", "seconds"}  # which the trainer logs itself


class Objective(nn.Module):
    """A player's loss as a module's forward, which is where DistributedDataParallel hooks in."""

    def __init__(self, player: Player, precision: str, device: torch.device) -> None:
        super().__init__()
        self.module, self.loss, self.precision, self.device = player.module, player.loss, precision, device

    def forward(self, turn: Turn) -> dict[str, Tensor]:
        with autocast(self.precision, self.device):
            value = self.loss(turn)
        scalars = {"loss": value} if isinstance(value, Tensor) else dict(value)
        if "loss" not in scalars:
            raise ValueError(f"a loss must return a scalar, or scalars with 'loss' among them; got {sorted(scalars)}")
        if taken := TAKEN.intersection(scalars):
            raise ValueError(f"a loss must call its scalars otherwise than lines of metrics do: got {sorted(taken)}")
        return scalars
