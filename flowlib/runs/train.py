"""Training a recipe in a folder: data, networks, losses and pictures, put together for the trainer.

run = train(find_recipe("digits"), "runs/digits")
images = run.sample(torch.arange(10), scale=2.0)
"""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import flowlib
from flowlib.chains import grid_time
from flowlib.checks import check_choice
from flowlib.data import Dataset, available, load
from flowlib.fields import Model
from flowlib.losses import drop_guide, optimal_transport, prediction_error
from flowlib.nets import Autoencoder
from flowlib.nets.autoencoder import draw
from flowlib.plotting import draw_samples, save_figure
from flowlib.recipes import Recipe, to_dict
from flowlib.runs.run import RECIPE, Run, RunError, load_run, read_recipe
from flowlib.stable import StableTargets
from flowlib.systems.building import build, network_model
from flowlib.systems.first_stage import Rivals, first_stage_objective
from flowlib.systems.improved_ddpm import LearnedVariance, variational_loss
from flowlib.systems.latent import LatentModel
from flowlib.times import logit_normal_time, uniform_time
from flowlib.training import Task, Trainer
from flowlib.training.devices import autocast, pick_device
from flowlib.training.distributed import join_world
from flowlib.training.files import write_whole
from flowlib.training.order import stream
from flowlib.training.settings import FirstStage
from flowlib.training.trainer import CHECKPOINTS, METRICS

SAMPLES, FIRST_STAGE = "samples", "first_stage"


def train(
    recipe: Recipe,
    folder: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    log_every: int | None = None,
    checkpoint_every: int | None = None,
    pictures: bool = True,
    progress: bool | None = None,
) -> Run:
    """Train a recipe in a folder. Under torchrun, all its processes train together and the first one writes.

    Args:
        recipe: what to train.
        folder: where to keep it; all processes must see it.
        resume: go on with the run that lies there, if one does; to the bit as if it had never stopped.
        overwrite: delete the run that lies there, if one does.
        device: "auto", "cpu", "cuda" ...
        log_every, checkpoint_every: in steps; see `Trainer`.
        pictures: whether to draw samples at each quarter of the run.
        progress: whether to show a progress bar; None: on a terminal.

    Returns:
        the run, ready to be sampled.

    Raises:
        ValueError: for data or sizes that do not fit, naming them; a RunError if the folder is taken; a DivergedError
            if the loss is no longer finite; a CheckpointError for a damaged checkpoint.
        WriteError: if the folder cannot be written; the last checkpoint is intact.
    """
    folder = Path(folder)
    with join_world(pick_device(device)) as (world, place):
        if not world.leads:
            world.wait()  # for the first process, which alone fetches data and makes the folder ready
        check_choice("data", recipe.data, available())
        data = load(recipe.data)
        field = build(recipe, data.shape, data.classes)
        if world.leads:
            prepare_folder(folder, recipe, data, resume=resume, overwrite=overwrite)
            world.wait()
        data, field = data.to(place), field.to(place)
        make = partial(Trainer, world=world, device=place, log_every=log_every, checkpoint_every=checkpoint_every)
        if isinstance(field, LatentModel) and recipe.first_stage is not None:
            stage = recipe.first_stage
            first = make(autoencoder_task(field.autoencoder, data, stage), stage, folder / FIRST_STAGE)
            stage_module = first.run(progress)
            autoencoder = stage_module.autoencoder if isinstance(stage_module, Rivals) else stage_module
            field.autoencoder.load_state_dict(autoencoder.state_dict())
            field.autoencoder.eval().requires_grad_(False)
            task = latent_task(field, data, recipe)
        else:
            task = flow_task(field, recipe, lambda index, _: _pair(data, index), len(data), data.levels)
        illustrate = _illustrator(recipe, data, folder) if pictures else None
        make(task, recipe, folder, illustrate=illustrate).run(progress)
    return load_run(folder, place)


def flow_task(
    field: Model | LatentModel,
    recipe: Recipe,
    batch: Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]],
    count: int,
    levels: int | None = None,
) -> Task:
    """Learning the flow of `field` from `count` samples and labels `batch(index, generator)`, by the recipe's loss.

    `levels` is how many values a pixel may have, None for no pixels; a ValueError if these are to be dequantised.
    """
    model = network_model(field)
    if recipe.dequantise and levels is None:
        raise ValueError(f"dequantise needs pixels: {recipe.data!r} has none")
    time = uniform_time if recipe.time == "uniform" else logit_normal_time(recipe.time_mean, recipe.time_std)
    if recipe.chain:
        time = grid_time(recipe.chain)
    stable = None
    if recipe.stable_until:
        shuffle = stream(recipe.seed, "stable targets")
        everything, labels = batch(torch.arange(count), shuffle)
        stable = StableTargets(
            everything, labels if recipe.guided else None, until=recipe.stable_until, count=recipe.references,
            generator=shuffle,
        )  # fmt: skip

    def loss(index: Tensor, part: slice, generator: torch.Generator) -> Tensor:
        z, y = batch(index, generator)
        guide = drop_guide(model, y, recipe.dropout, generator)[part] if recipe.guided else None
        if isinstance(model, LearnedVariance):
            return variational_loss(
                model, z, guide, kind=recipe.loss, levels=levels, dropout=0, part=part,
                generator=generator,
            )  # fmt: skip
        # Drawn for the whole batch, of which this process works on its part.
        t, noise = time(len(z), generator), torch.randn(z.shape, generator=generator)
        if recipe.dequantise and levels is not None:  # each value anywhere in its bin, 2 / (levels - 1) wide
            z = z + (2 * torch.rand(z.shape, generator=generator) - 1).to(z) / (levels - 1)
        if recipe.coupling == "optimal-transport":
            noise = optimal_transport(noise, z.cpu())
        z, t, noise = z[part], t[part].to(z), noise[part].to(z)
        if stable is not None:
            start = float(torch.rand((), generator=generator))
            z, noise = stable(model.path, index[part].to(z.device), z, guide, t, noise, start)
        return prediction_error(model, z, guide, t, noise, recipe.measure).mean()

    return Task(field, loss, count, model.net)


def latent_task(field: LatentModel, data: Dataset, recipe: Recipe) -> Task:
    """Learning a flow of latents, each drawn anew from the Gaussian that the frozen encoder gives an image.

    The encoder sees each image once, here, and not in every step. This also sets the scale of the latents.
    """
    with torch.no_grad(), autocast(recipe.precision, data.images.device):
        parts = [field.autoencoder.encode(images) for images in data.images.split(500)]
        field.fit_scale(data.images[:10_000])
    mean, log_variance = (torch.cat(part).float() for part in zip(*parts, strict=True))

    def batch(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return field.scale * draw(mean[index], log_variance[index], generator), _pair(data, index)[1]

    return flow_task(field, recipe, batch, len(data))


def autoencoder_task(autoencoder: Autoencoder, data: Dataset, stage: FirstStage) -> Task:
    """Learning the first stage: squared error and KL, or a codebook, a perceptual distance, a rival."""
    autoencoder.requires_grad_(True)
    module, objective = first_stage_objective(autoencoder, stage, data.images.device)

    def loss(index: Tensor, part: slice, generator: torch.Generator) -> Tensor:
        images = data.batch(index[part])["x"]
        return objective(images, generator=generator)

    return Task(module, loss, len(data), autoencoder)


def _pair(data: Dataset, index: Tensor) -> tuple[Tensor, Tensor]:
    batch = data.batch(index)
    return batch["x"], batch["label"]


def prepare_folder(folder: Path, recipe: Recipe, data: Dataset, *, resume: bool, overwrite: bool) -> None:
    """Make `folder` ready for a run of `recipe`: a new one, or with `resume` the one that lies there.

    Raises:
        RunError: if a run lies there and neither `resume` nor `overwrite` is given, or it is another recipe's.
        WriteError: if the folder cannot be written.
    """
    if not (folder / RECIPE).exists():
        for name in (CHECKPOINTS, FIRST_STAGE, SAMPLES, METRICS):
            if (folder / name).exists():  # someone else's, not ours to delete
                raise RunError(f"{folder} holds no run, but {name!r}, which a run would replace: choose another --out")
    elif overwrite:
        for name in (CHECKPOINTS, FIRST_STAGE, SAMPLES):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / METRICS).unlink(missing_ok=True)
    elif resume:
        before, now = to_dict(read_recipe(folder)[0]), to_dict(recipe)
        for key in now:
            if before[key] != now[key]:
                raise RunError(f"the run in {folder} has {key} = {before[key]!r} and cannot go on with {now[key]!r}")
        return
    else:
        raise RunError(f"{folder} holds a run: add --resume to go on, --overwrite to replace it, or another --out")
    content = {"flowlib": flowlib.__version__, "recipe": to_dict(recipe), "shape": data.shape, "classes": data.classes}
    write_whole(folder / RECIPE, json.dumps(content, indent=2).encode())


def _illustrator(recipe: Recipe, data: Dataset, folder: Path) -> Callable[[nn.Module, int], None]:
    def illustrate(module: nn.Module, step: int) -> None:
        assert isinstance(module, Model | LatentModel)
        run = Run(folder, recipe, data.shape, data.classes, step, module)
        images = len(data.shape) == 3
        y = torch.arange(data.classes).repeat_interleave(8 if images else 2000 // data.classes)
        guide = y if recipe.guided else None
        samples = run.sample(guide, count=len(y), scale=2.0 if images else 1.0, steps=20)
        figure = draw_samples(samples, guide, columns=8, title=f"step {step} of {recipe.steps}")
        save_figure(figure, folder / SAMPLES / f"step-{step:08d}.png")

    return illustrate
