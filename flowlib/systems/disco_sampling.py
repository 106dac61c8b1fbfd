"""Drawing what prompts ask for from a flow that knows no words: Disco Diffusion's guidance and its settings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from flowlib.checks import check_count, check_number
from flowlib.field import Field
from flowlib.guidance import Energy, EnergyGuidance
from flowlib.samplers import sample_ddim
from flowlib.solvers import time_grid
from flowlib.systems.cut_schedule import Cuts
from flowlib.systems.disco_losses import (
    perceptual_pull,
    prompt_distance,
    range_loss,
    saturation_loss,
    total_variation,
)
from flowlib.training.order import stream

Target = tuple[Tensor, Tensor]  # features (M, D) or (B, M, D) of what is asked for, and weights (M,)


@dataclass(frozen=True, kw_only=True)
class Disco:
    """How a flow is guided by prompts.

    Attributes:
        steps: of DDIM, of a uniform grid; the first, from pure noise, cannot be guided.
        eta: of DDIM, how much noise is made anew in each step; 0 is deterministic but for the cut-outs.
        scale: of the distances, summed over CLIPs.
        bound: the largest root mean square of what is added to a sample's score; None for none. Disco Diffusion's is
            0.05, for pictures of 512 pixels; one of 16 has more to change in each.
        cuts: the cut-outs; None for the picture itself.
        variation, range, saturation: weights of the losses of these names, of the predicted clean picture.
        init_scale: weight of the perceptual pull to an initial picture, by the first CLIP.
        skip: steps that are not taken where there is an initial picture: the start is a sample of the path to it, at
            t = skip / steps. All of them leave it as it is.
        seed: of cut-outs and noise.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    steps: int = 50
    eta: float = 0.8
    scale: float = 5000.0
    bound: float | None = 0.5
    cuts: Cuts | None = field(default_factory=Cuts)
    variation: float = 0.0
    range: float = 150.0
    saturation: float = 0.0
    init_scale: float = 1000.0
    skip: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_number("eta", self.eta, 0, 1)
        for name in ("scale", "variation", "range", "saturation", "init_scale"):
            check_number(name, getattr(self, name))
        if self.bound is not None:
            check_number("bound", self.bound, 0, low_open=True)
        if check_count("skip", self.skip, 0) > self.steps:
            raise ValueError(f"skip must be at most steps = {self.steps}, got {self.skip}")
        check_count("seed", self.seed, 0)

    def energy(self, clips: Sequence[Any], targets: Sequence[Target], init: Tensor | None = None) -> Energy:
        """The preference among predicted clean pictures: minus all losses, by their weights.

        Each call draws other cut-outs, from one generator: an energy is for one drawing of samples.

        Args:
            clips: `CaptionedCLIP`s, or others with their `image_features`.
            targets: for each of them, what it is asked for.
            init: the initial picture (C, H, W), if there is one.
        """
        generator = stream(self.seed, "cuts")

        def log_prob(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
            time, loss = float(t[0]), 0 * x.flatten(1).sum(1)  # a gradient of 0 where nothing is asked for
            for clip, (features, weights) in zip(clips, targets, strict=True):
                distance = prompt_distance(clip, x, time, features, weights, self.cuts, generator)
                loss = loss + self.scale * distance
            for weight, found in (
                (self.variation, total_variation), (self.range, range_loss), (self.saturation, saturation_loss),
            ):  # fmt: skip
                loss = loss + weight * found(x) if weight else loss
            if init is not None and self.init_scale:
                loss = loss + self.init_scale * perceptual_pull(clips[0], x, init)
            return -loss

        return Energy(log_prob, looks="clean")

    def sample(
        self,
        field: Field,
        clips: Sequence[Any],
        targets: Sequence[Target],
        noise: Tensor,
        *,
        init: Tensor | None = None,
        secondary: Field | None = None,
        trajectory: bool = False,
    ) -> Tensor:
        """Pictures that are asked for.

        Args:
            field: an unconditional flow of pictures.
            clips, targets, init: as in `energy`; pictures, noise and CLIPs' images have as many channels.
            noise: (B, C, H, W), standard normal.
            secondary: a flow whose D is looked at in place of the field's, so that the gradient goes through its
                network alone.
            trajectory: return the predicted clean picture of each step too, (steps + 1, B, C, H, W), the result last.

        Returns:
            (B, C, H, W), not clipped.

        Raises:
            ValueError: for an initial picture of another shape, or what the sampler finds.
        """
        if init is not None and init.shape != noise.shape[1:]:
            raise ValueError(f"init must have shape {tuple(noise.shape[1:])}, got {tuple(init.shape)}")
        times = time_grid(self.steps).to(noise)[0 if init is None else self.skip :]
        if init is not None and len(times) == 1:
            done = init.expand_as(noise).clone()
            return done[None] if trajectory else done
        energy = self.energy(clips, targets, init)
        guided = _Watched(field, energy if secondary is None else _through(secondary, energy), bound=self.bound)
        if init is not None and self.skip:  # alpha init + beta noise, of which the sampler multiplies by beta
            alpha, beta = field.path.levels(times[0])
            noise = noise + alpha / beta * init
        x = sample_ddim(
            guided, noise, eta=self.eta, times=times.double().cpu(), generator=stream(self.seed, "noise of steps")
        )
        return torch.stack([*guided.seen, x]) if trajectory else x


def _through(secondary: Field, energy: Energy) -> Energy:
    """The energy of what a secondary flow predicts: the gradient goes through its network alone."""
    return Energy(lambda x, t, y: energy.log_prob(secondary.data(x, t), t, y), looks="noised")


class _Watched(EnergyGuidance):
    """A guided field that keeps the clean pictures it has predicted for a sampler."""

    def __init__(self, field: Field, energy: Energy, bound: float | None) -> None:
        super().__init__(field, energy, bound=bound)
        self.seen: list[Tensor] = []

    def pair(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        data, noise = super().pair(x, t, y)
        self.seen.append(data)
        return data, noise
