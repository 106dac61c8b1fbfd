"""A player at work: its parameters, its optimisers, and its objective under one process or several."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from flowlib.checks import check_choice
from flowlib.training.distributed import World
from flowlib.training.optimisers import learning_rate_factor, make_optimisers, set_learning_rates
from flowlib.training.settings import Training
from flowlib.training.task import Objective, Player, Turn

CHANGES = ("optimiser", "lr", "matrix_lr", "betas", "weight_decay", "warmup", "clip")  # a player's own


class Seat:
    """What the trainer keeps of a player; `settings` are the training's, with the player's changes.

    Raises:
        ValueError: for a change of what all players share, naming it.
    """

    def __init__(self, player: Player, settings: Training, world: World, device: torch.device) -> None:
        for name in player.changes:
            check_choice(f"a change for the player {player.name!r}", name, CHANGES)
        self.settings = replace(settings, **player.changes)
        self.prefix = f"{player.name}_" if player.name else ""
        self.parameters = [p for p in player.module.parameters() if p.requires_grad]
        self.optimisers = make_optimisers(self.settings, player.module)
        self.objective = world.wrap(Objective(player, settings.precision, device))

    @torch.enable_grad()  # wherever it is called from
    def move(self, turn: Turn) -> dict[str, Tensor]:
        """Forward, backward, clip, optimise; the named scalars of the loss, and the norm of the gradient."""
        share = learning_rate_factor(turn.step, turn.steps, self.settings.warmup)
        set_learning_rates(self.optimisers, share)
        scalars = self.objective(turn)
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        scalars["loss"].backward(inputs=self.parameters)  # and not those of a rival
        clip = self.settings.clip
        scalars["grad_norm"] = nn.utils.clip_grad_norm_(self.parameters, float("inf") if clip is None else clip)
        for optimiser in self.optimisers:
            optimiser.step()
        return {self.prefix + name: value.detach().float() for name, value in scalars.items()}
