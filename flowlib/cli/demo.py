"""The demo: a flow learns real handwritten digits, and draws them, in about a minute on two cores."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from flowlib.data import load
from flowlib.metrics import fit_reader
from flowlib.plotting import animate, draw_samples, loss_curve, save_figure
from flowlib.recipes import find_recipe, override
from flowlib.runs import Run, RunError, train
from flowlib.runs.folder import read_record
from flowlib.training import read_metrics
from flowlib.training.trainer import METRICS

SCALE = 1.5  # enough that nearly every digit is the one asked for, not so much that all look alike


@dataclass
class Demo:
    """What the demo made.

    Attributes:
        run: the trained run.
        pictures: what each file shows, by its path.
        read_right: the share of the drawn digits that a classifier of real digits reads as what was asked for.
        seconds: of training.
    """

    run: Run
    pictures: dict[Path, str]
    read_right: float
    seconds: float


def demo(folder: Path | str, *, steps: int | None = None, seed: int = 0, device: str = "auto") -> Demo:
    """Train the recipe `digits` in `folder` and draw its digits; an earlier run of that recipe is replaced.

    Args:
        folder: gets `digits.png`, `digits.gif`, `loss.png` and the run.
        steps: of training, instead of the recipe's.
        seed: of training and samples.
        device: where to compute.

    Raises:
        ValueError: for an argument that does not fit; a RunError if the folder holds something else, as another
            recipe's run.
        OSError: if the folder cannot be written.
    """
    folder, lying = Path(folder), None
    with suppress(ValueError):  # without a run, or with a damaged one
        lying = read_record(folder).recipe.name
    if lying not in (None, "digits"):
        raise RunError(f"{folder} holds a run of {lying!r}, which the demo would replace: choose another folder")
    settings = [f"seed={seed}"] if steps is None else [f"seed={seed}", f"steps={steps}"]
    run = train(override(find_recipe("digits"), settings), folder, overwrite=True, device=device, pictures=False)
    y = torch.arange(run.classes).repeat_interleave(10)
    states = run.sample(y, scale=SCALE, steps=24, seed=seed, trajectory=True).cpu()
    title = f"digits that nobody wrote: 10 of each, guidance scale {SCALE}"
    save_figure(draw_samples(states[-1], y, title=title), folder / "digits.png")
    animate(states, folder / "digits.gif", rows=[str(label) for label in range(run.classes)])
    metrics = read_metrics(folder / METRICS)
    save_figure(loss_curve(metrics), folder / "loss.png")
    pictures = {
        folder / "digits.png": "new digits, a row for each label",
        folder / "digits.gif": "noise becoming digits",
        folder / "loss.png": "the loss while it learned",
    }
    read = fit_reader(load("digits"))(states[-1]).argmax(1)
    return Demo(run, pictures, float((read == y).double().mean()), metrics[-1]["seconds"])
