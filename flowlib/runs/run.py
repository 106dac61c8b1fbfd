"""Runs: what a training leaves in its folder, as a field that is ready to be sampled.

    run = load_run("runs/digits")
    images = run.sample(torch.arange(10), scale=2.0)

A folder holds `recipe.json`, `metrics.jsonl`, `checkpoints`, `samples` and, for a latent model, its `first_stage`.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowlib.chains import Clipped, sample_ancestral
from flowlib.chains.ancestral import Reverse
from flowlib.checks import check_choice, check_count
from flowlib.fields import Field, Model
from flowlib.guidance import ClassifierFreeGuidance
from flowlib.recipes import Recipe, from_dict
from flowlib.samplers import sample_ddim, sample_ode, sample_sde
from flowlib.solvers import ADAPTIVE, STEPS
from flowlib.systems.building import build, latent_shape, network_model
from flowlib.systems.improved_ddpm import LearnedVariance
from flowlib.systems.latent import LatentModel
from flowlib.training import checkpoint
from flowlib.training.devices import autocast, pick_device
from flowlib.training.order import stream
from flowlib.training.trainer import CHECKPOINTS

RECIPE = "recipe.json"
METHODS = (*STEPS, *ADAPTIVE, "ddim", "sde", "ddpm", "ddpm-large", "ddpm-learned")


class RunError(ValueError):
    """A folder that holds no run, or another one than was asked for; the message says what to do."""


@dataclass
class Run:
    """A trained flow.

    Attributes:
        folder: where it lies.
        recipe: what it was trained by.
        shape: of a sample of the data, (C, H, W) or (2,).
        classes: labels in the data.
        step: how far it was trained.
        field: the averaged network as a field, a `Model` or a `LatentModel`.
    """

    folder: Path
    recipe: Recipe
    shape: tuple[int, ...]
    classes: int
    step: int
    field: Model | LatentModel

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.field.parameters()).device

    def noise(self, count: int, seed: int = 0) -> Tensor:
        """Starting points for `count` samples, of the shape that the field works in."""
        shape = latent_shape(self.recipe, self.shape)
        noise = torch.randn(check_count("count", count), *shape, generator=stream(seed, "noise"))
        return noise.to(self.device)

    def sample(
        self,
        y: Tensor | None = None,
        *,
        count: int | None = None,
        scale: float = 1.0,
        steps: int = 50,
        method: str = "heun",
        seed: int = 0,
        precision: str | None = None,
        batch_size: int = 500,
        trajectory: bool = False,
    ) -> Tensor:
        """Draw samples, decoded if the run is latent, on the network's device.

        Args:
            y: labels (B,), or None for the null guide; then `count` says how many samples.
            scale: of classifier-free guidance; 1 is none.
            steps: of the sampler.
            method: a fixed-step or adaptive method of `sample_ode`, "ddim", "sde", or DDPM's ancestral sampling with
                its smaller fixed variance, "ddpm", its larger one, "ddpm-large", or a learned one, "ddpm-learned".
            seed: one seed and method is one set of samples.
            precision: as in a recipe; by default the recipe's own, and "fp32" for adaptive methods, whose tolerance is
                finer than bfloat16.
            batch_size: samples at a time.
            trajectory: return all states, the noise first.

        Returns:
            (B, *shape), or (states, B, *shape).

        Raises:
            ValueError: for an argument that does not fit, naming it.
        """
        check_choice("method", method, METHODS)
        y = None if y is None else y.to(self.device)
        noise = self.noise((1 if count is None else count) if y is None else len(y), seed)
        field: Field = self.field if y is None or scale == 1 else ClassifierFreeGuidance(self.field, scale)
        variance = self._variance(method, field)
        if self._clips and method not in ADAPTIVE:  # which would stumble over each pixel's kink
            field = Clipped(field)  # without which the noise that a DDPM predicts at k = T says next to nothing of D
        common: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "trajectory": trajectory}
        usual = "fp32" if method in ADAPTIVE else self.recipe.precision
        with autocast(usual if precision is None else precision, self.device):
            if method == "ddim":
                states = sample_ddim(field, noise, y, **common)
            elif method == "sde":
                states = sample_sde(field, noise, y, generator=stream(seed, "sde"), **common)
            elif method.startswith("ddpm"):
                draws = stream(seed, "ancestral")
                states = sample_ancestral(field, noise, y, variance=variance, generator=draws, **common)
            else:
                states = sample_ode(field, noise, y, method=method, denoise_last=self._lands, **common)
            return self.decode(states)

    @property
    def _lands(self) -> bool:
        """Whether the ODE's last step lands on D. A v could be asked for at t = 1, but few or no times come near it."""
        return self.recipe.predicts == "v" and self.recipe.time == "logit-normal"

    @property
    def _clips(self) -> bool:
        """Whether samplers clip D to the range of pixels."""
        return bool(self.recipe.chain) and len(self.shape) == 3 and self.recipe.first_stage is None

    def _variance(self, method: str, field: Field) -> str | Reverse:
        """The variance of ancestral sampling by `method` of `field`, the run's own or that under guidance."""
        if method != "ddpm-learned":
            return "large" if method == "ddpm-large" else "small"
        model = network_model(self.field)
        if not isinstance(model, LearnedVariance):
            raise ValueError(f"method 'ddpm-learned' needs a run that learned its variance, not {self.recipe.name!r}")
        return partial(model.reverse, field=None if field is model else field, clip=1.0 if self._clips else None)

    @torch.no_grad()
    def decode(self, states: Tensor, batch_size: int = 500) -> Tensor:
        """States of the field (..., B, *latent shape) as data (..., B, *shape), float32; the same unless latent."""
        if not isinstance(self.field, LatentModel):
            return states.float()
        flat = states.reshape(-1, *latent_shape(self.recipe, self.shape))
        images = torch.cat([self.field.decode(part) for part in flat.split(batch_size)])
        return images.float().reshape(*states.shape[: -len(self.shape)], *self.shape)


def load_run(folder: Path | str, device: str | torch.device = "auto") -> Run:
    """The run in a folder, at its latest checkpoint, ready to be sampled.

    Raises:
        RunError: if there is no run.
        CheckpointError: if its checkpoint is missing, damaged, or of another version or architecture.
    """
    folder = Path(folder)
    recipe, shape, classes = read_recipe(folder)
    field = build(recipe, shape, classes)
    step, weights = checkpoint.load_average(folder / CHECKPOINTS)
    checkpoint.load_weights(field, weights, folder / CHECKPOINTS)
    field.to(pick_device(device) if isinstance(device, str) else device).eval().requires_grad_(False)
    return Run(folder, recipe, shape, classes, step, field)


def read_recipe(folder: Path) -> tuple[Recipe, tuple[int, ...], int]:
    """The recipe of the run in a folder, and the shape and number of classes of its data; a RunError without one."""
    path = folder / RECIPE
    try:
        content = json.loads(path.read_text())
        return from_dict(content["recipe"]), tuple(content["shape"]), int(content["classes"])
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{folder} holds no run: there is no {path}; `flowlib train` makes one") from None
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged, or of another version of flowlib: {error}") from None
