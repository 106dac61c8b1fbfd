"""Training a recipe in a folder: data, networks, stages and pictures, put together for the trainer.

run = train(find_recipe("digits"), "runs/digits")
images = run.sample(torch.arange(10), scale=2.0)
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flowlib.checks import check_count
from flowlib.data import Data, Dataset, available, open_data
from flowlib.plotting import save_figure
from flowlib.recipes import Recipe, change
from flowlib.runs.export import draw
from flowlib.runs.folder import SAMPLES, Record, prepare_folder
from flowlib.runs.places import held
from flowlib.runs.run import Run, build, load_parts, load_run
from flowlib.systems.system import Stage, name_of
from flowlib.training import Trainer
from flowlib.training.devices import pick_device
from flowlib.training.distributed import join_world


def train(
    recipe: Recipe,
    folder: Path | str,
    *,
    data: Dataset | None = None,
    net: nn.Module | None = None,
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
        data: your own data, in place of the recipe's.
        net: your own network net(x, t, y), untrained, in place of the recipe's.
        resume: go on with the run that lies there, if one does; to the bit as if it had never stopped. With more steps
            than it was made for, it goes on towards these.
        overwrite: delete the run that lies there, if one does.
        device: "auto", "cpu", "cuda" ...
        log_every, checkpoint_every: in steps; see `Trainer`.
        pictures: whether to draw a picture at each quarter of the run.
        progress: whether to show a progress bar; None: on a terminal.

    Returns:
        the run, ready to be used.

    Raises:
        ValueError: for data or sizes that do not fit, naming them; a RunError if the folder is taken, or another
            training is at work in it; a DivergedError
            if the loss is no longer finite; a CheckpointError for a damaged checkpoint.
        WriteError: if the folder cannot be written; the last checkpoint is intact.

    Example:
        >>> from flowlib.recipes import change, find_recipe
        >>> from flowlib.runs import train
        >>> recipe = change(find_recipe("moons"), steps=5, batch_size=64)
        >>> run = train(recipe, "runs/moons", pictures=False)
        >>> run.step, run.sample(count=5, steps=4).shape
        (5, torch.Size([5, 2]))
        >>> train(change(recipe, steps=8), "runs/moons", resume=True, pictures=False).step  # and on
        8
    """
    folder = Path(folder)
    for name, every in (("log_every", log_every), ("checkpoint_every", checkpoint_every)):
        if every is not None:
            check_count(name, every)  # before anything in the folder changes
    if resume and overwrite:
        raise ValueError("resume and overwrite exclude each other: a run goes on, or is replaced")
    if net is not None:
        if not getattr(recipe.system, "takes_net", False):
            raise ValueError(f"net: the system {name_of(recipe.system)!r} takes no network of your own")
        recipe = change(recipe, net="own")
    if data is not None:
        recipe = change(recipe, data=data.name)
    with join_world(pick_device(device)) as (world, place), ExitStack() as until_the_end:

        def set_up() -> tuple[Data, Mapping[str, nn.Module], Sequence[Stage]]:
            learned: Data = open_data(recipe.data, "train") if data is None else data
            parts, hashes = load_parts(recipe.system, place)
            given = parts if net is None else {**parts, "net": net}
            module, digest = build(recipe, learned.spec, given).to(place), None
            stages = recipe.system.stages(module, learned.to(place), given)
            for stage in stages:
                world.share((recipe.training if stage.training is None else stage.training).batch_size)
            if world.leads:
                if isinstance(learned, Dataset) and (data is not None or recipe.data not in available()):
                    digest = learned.digest()
                own, earlier = (
                    None if net is None else type(net).__qualname__,
                    tuple(stage.name for stage in stages[:-1]),
                )
                record = Record(recipe, learned.spec, digest, hashes, own, earlier)
                until_the_end.enter_context(held(folder))
                prepare_folder(folder, record, resume=resume, overwrite=overwrite)
            return learned.to(place), parts, stages

        # The first process alone fetches data and makes the folder ready, while the others wait.
        learned, parts, stages = world.in_turn(set_up)
        make = partial(Trainer, world=world, device=place, log_every=log_every, checkpoint_every=checkpoint_every)
        for stage in stages:
            last = stage is stages[-1]
            settings = recipe.training if stage.training is None else stage.training
            task = stage.task(settings) if callable(stage.task) else stage.task
            illustrate = _illustrator(recipe, learned, parts, folder) if last and pictures else None
            trained = make(task, settings, folder if last else folder / stage.name, illustrate=illustrate).run(progress)
            if stage.finish is not None:
                stage.finish(trained)
    return load_run(folder, place, net=net)


def _illustrator(
    recipe: Recipe, data: Data, parts: Mapping[str, nn.Module], folder: Path
) -> Callable[[nn.Module, int], None] | None:
    """What draws the pictures of a run on its way: the system's own, or samples; None where there is nothing to see."""
    seen = data.shape == (2,) or (len(data.shape) == 3 and data.shape[0] in (1, 3))
    images = len(data.shape) == 3
    own = hasattr(recipe.system, "illustrate") and (seen or not images)
    if not own and not (seen and hasattr(recipe.system, "sample")):
        return None

    @torch.no_grad()
    def illustrate(module: nn.Module, step: int) -> None:
        run, title = Run(folder, recipe, data.spec, step, module, parts), f"step {step} of {recipe.training.steps}"
        save_figure(_picture(run, data, title), folder / SAMPLES / f"step-{step:08d}.png")

    return illustrate


def _picture(run: Run, data: Data, title: str) -> Any:
    """The system's own picture of how far it is, or samples: eight of each label, or clouds of points."""
    system: Any = run.recipe.system
    if hasattr(system, "illustrate"):
        return system.illustrate(run.module, data, run.parts, title)
    images = len(data.shape) == 3
    count = max(1, data.classes) * (8 if images else 2000 // max(1, data.classes))
    y = system.guides(run.spec, (), count, data.finite) if hasattr(system, "guides") else None
    kind = getattr(system, "Sampling", None)
    few: dict[str, Any] = {} if kind is None or not hasattr(kind, "steps") else {"steps": 20}
    if y is not None and few and images:
        few["scale"] = 2.0
    samples = run.sample(y, count=count, **few)
    return draw(samples.cpu(), None if y is None else y.cpu(), columns=8, title=title)
