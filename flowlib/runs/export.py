"""Samples to files: a picture, an animation, or the numbers."""

from pathlib import Path

import torch
from torch import Tensor

from flowlib.checks import check_count
from flowlib.plotting import animate, draw_samples, save_figure
from flowlib.runs.run import Run


def choose_labels(run: Run, labels: list[int], count: int | None) -> tuple[Tensor | None, int]:
    """The labels (count,) to sample, in equal shares and in order, and the count; no labels for a run without guide.

    Args:
        run: the run to be sampled.
        labels: those to take, or none for all there are.
        count: how many samples; None for 10 of each label, or 1,000 points of each.

    Raises:
        ValueError: for a label that the run does not know, or a count that is not positive.
    """
    if labels and not run.recipe.guided:
        raise ValueError(f"label {labels[0]} was given, but the run in {run.folder} takes no guide")
    for label in labels:
        if not 0 <= label < run.classes:
            raise ValueError(f"label must lie in 0 ... {run.classes - 1}, got {label}")
    chosen = torch.tensor(labels or range(run.classes))
    each = 10 if len(run.shape) == 3 else 1000
    count = check_count("count", each * len(chosen) if count is None else count)
    if not run.recipe.guided:
        return None, count
    return chosen[torch.arange(count) * len(chosen) // count], count


def export_samples(states: Tensor, y: Tensor | None, path: Path, *, columns: int = 10) -> None:
    """Write samples (B, ...), or for a .gif their whole way (T, B, ...), in the format that the name says.

    A .npz or .pt holds "samples" and, if there are any, "labels".

    Raises:
        ValueError: for another format.
        OSError: if the file cannot be written.
    """
    columns = columns if columns <= 20 else 10
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        animate(states, path, labels=y, columns=columns)
    elif path.suffix in (".npz", ".pt"):
        content = {"samples": states} if y is None else {"samples": states, "labels": y}
        if path.suffix == ".pt":
            torch.save(content, path)
        else:
            import numpy as np

            np.savez(path, **{name: value.numpy() for name, value in content.items()})  # type: ignore[arg-type]
    elif path.suffix == ".png":
        save_figure(draw_samples(states, y, columns=columns), path)
    else:
        raise ValueError(f"a file of samples must end in .png, .gif, .npz or .pt, got {path.name!r}")
