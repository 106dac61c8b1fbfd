"""What tables of sample quality share: trainings, their operations, trainings of equal cost, measures as cells."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _common import Scores, kept, slug, spread
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from flowlib.data import Dataset, Spec
from flowlib.metrics import evaluate_images
from flowlib.metrics.scenes import compare_captions, shares
from flowlib.recipes import Recipe, change, to_dict
from flowlib.runs import Run, train
from flowlib.runs.run import build
from flowlib.systems import FirstStage
from flowlib.systems.sampling import latent_shape
from flowlib.training import read_metrics
from flowlib.training.order import stream
from flowlib.training.trainer import METRICS

MNIST = Spec((1, 28, 28), 10, 256)
SMALL = {"channels": (32, 64), "depth": 1, "attention": (1,)}  # 0.3 of the operations of the recipes for chains


def trained(recipe: Recipe, folder: Path, pictures: bool = False) -> Run:
    """The run of a recipe in a folder: loaded if it is there, gone on with if it was stopped, else trained."""
    return train(recipe, folder, resume=True, pictures=pictures)


def seconds_of(run: Run) -> float:
    """How long a run was trained, a first stage included; of all its parts if it was interrupted."""
    journals = [run.folder / "first_stage" / METRICS, run.folder / METRICS]
    return sum(read_metrics(path)[-1]["seconds"] for path in journals if path.exists())


def network_of(module: nn.Module) -> nn.Module:
    """The network of a field that was trained, of pixels or of latents."""
    return getattr(module, "model", module).net


def flops(net: nn.Module, *inputs: Tensor) -> int:
    """Floating-point operations of one call, a multiplication and an addition counted as two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*inputs)
    return counter.get_total_flops()


def call_flops(recipe: Recipe) -> int:
    """Operations of one call of the network of a recipe for MNIST, for one image."""
    module = build(recipe, MNIST)
    x = torch.zeros(1, *latent_shape(module, MNIST))
    return flops(network_of(module), x, torch.zeros(1), torch.zeros(1, dtype=torch.long))


def autoencoder_flops(recipe: Recipe) -> tuple[int, int]:
    """Operations of encoding and of decoding one image; none without a first stage."""
    if first_stage_of(recipe) is None:
        return 0, 0
    module = build(recipe, MNIST)
    there = flops(module.autoencoder.encoder, F.pixel_unshuffle(torch.zeros(1, *MNIST.shape), module.autoencoder.patch))
    return there, flops(module.autoencoder.decoder, torch.zeros(1, *latent_shape(module, MNIST)))


def first_stage_of(recipe: Recipe) -> FirstStage | None:
    """The autoencoder that a recipe trains first, if it does."""
    return getattr(recipe.system, "first_stage", None)


def training_flops(recipe: Recipe, images: int = 60_000) -> int:
    """Operations of a training: three forward passes a sample; a first stage, and encoding the data once, included."""
    there, back = autoencoder_flops(recipe)
    stage, training = first_stage_of(recipe), recipe.training
    before = 0 if stage is None else 3 * stage.batch_size * stage.steps * (there + back) + images * there
    return before + 3 * training.batch_size * training.steps * call_flops(recipe)


def within(recipe: Recipe, budget: int) -> Recipe:
    """The recipe with as many steps as a budget of operations pays for; a ValueError if that is none."""
    spent = training_flops(change(recipe, steps=1))
    each = 3 * recipe.training.batch_size * call_flops(recipe)
    if spent > budget:
        raise ValueError(f"{recipe.name}: {budget:.3g} operations do not even pay for its first step, {spent:.3g}")
    return change(recipe, steps=1 + (budget - spent) // each)


def wanted_labels(data: Dataset, count: int) -> tuple[Tensor, Tensor]:
    """Training images drawn at random: which, and their labels, which is what samples are asked to be."""
    chosen = torch.randperm(len(data), generator=stream(0, "chosen"))[:count]
    return chosen, data.labels[chosen]


def sampled(run: Run, y: Tensor, test: Dataset, **options: object) -> Scores:
    """All measures of samples of a run on MNIST."""
    return evaluate_images(run.sample(y, **options), y, test.images)


def variant(
    recipe: Recipe, seed: int, folder: Path, y: Tensor, test: Dataset, sampling_steps: int
) -> tuple[Run, Scores]:
    """One training of a recipe on MNIST, and the measures of samples by the SDE."""
    run = trained(change(recipe, seed=seed), folder)
    settings = {"samples": len(y), "steps": sampling_steps, "recipe": to_dict(run.recipe)}
    return run, kept(folder / "table.json", settings, sampled, run, y, test, method="sde", steps=sampling_steps)


def folder_of(out: Path, name: str, steps: int, seed: int) -> Path:
    """Where the run of a variant lies."""
    return out / f"{slug(name)}-{steps}-{seed}"


def parameters(net: nn.Module) -> int:
    """How many weights a network has."""
    return sum(p.numel() for p in net.parameters())


def cells(found: Sequence[Scores]) -> dict[str, str]:
    """The measures of several seeds as cells of a table."""
    return {
        "accuracy, %": spread([100 * row["accuracy"] for row in found], ".1f"),
        "Fréchet": spread([row["frechet"] for row in found]),
        "precision": spread([row["precision"] for row in found], ".3f"),
        "recall": spread([row["recall"] for row in found], ".3f"),
    }


def read(x: Tensor, batch: Mapping[str, Any]) -> tuple[Scores, list[int]]:
    """What the judge reads in pictures of a batch's captions: shares, and how many attributes are right in each."""
    compared, two = compare_captions(x, batch["caption"]), (batch["objects"][:, 1, 0] >= 0).tolist()
    scores = shares(compared)
    for key, wanted in (("one", False), ("two", True)):
        scores[key] = shares([row for row, both in zip(compared, two, strict=True) if both == wanted])["all"]
    return scores, [sum(row.values()) for row in compared]
