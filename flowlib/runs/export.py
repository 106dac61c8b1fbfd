"""Samples to files: a picture, an animation, or the numbers."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flowlib.files import write_whole
from flowlib.plotting import animate, draw_samples, picture_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(samples: Tensor, y: Tensor | None, *, columns: int = 10, title: str | None = None) -> "Figure":
    """A figure of samples (B, ...) with their labels (B,), or each row of images below the images that guided it."""
    if y is None or y.ndim == 1:
        return draw_samples(samples, y, columns=columns, title=title)
    if y.ndim != 4 or y.shape[2:] != samples.shape[2:]:
        return draw_samples(samples, columns=columns, title=title)
    pairs = zip(y[:, : samples.shape[1]].split(columns), samples.split(columns), strict=True)
    full = [(given, made) for given, made in pairs if len(given) == columns] or [(y[:, : samples.shape[1]], samples)]
    rows = ["given", "made"] * len(full)
    pictures = torch.cat([part for pair in full for part in pair])
    return picture_grid(pictures, columns=min(columns, len(samples)), rows=rows, title=title)


FORMATS = (".png", ".gif", ".npz", ".pt")


def export_samples(states: Tensor, y: Tensor | None, path: Path, *, columns: int = 10) -> None:
    """Write samples (B, ...), or for a .gif their whole way (T, B, ...), in the format that the name says.

    A .npz or .pt holds "samples" and, if there are any, "labels".

    Raises:
        ValueError: for another format.
        WriteError: if the file cannot be written; what was there before still is.

    Example:
        >>> from pathlib import Path
        >>> import torch
        >>> from flowlib.runs import export_samples
        >>> samples, labels = torch.rand(20, 1, 8, 8), torch.arange(20) % 10
        >>> export_samples(samples, labels, Path("samples/digits.pt"))
        >>> torch.load("samples/digits.pt")["samples"].equal(samples)
        True
    """
    columns = columns if columns <= 20 else 10
    suffix, file = path.suffix.lower(), io.BytesIO()
    if suffix == ".gif":
        animate(states, file, labels=y if y is None or y.ndim == 1 else None, columns=columns)
    elif suffix in (".npz", ".pt"):
        content = {"samples": states} if y is None else {"samples": states, "labels": y}
        if suffix == ".pt":
            torch.save(content, file)
        else:
            import numpy as np

            np.savez(file, **{name: value.numpy() for name, value in content.items()})  # type: ignore[arg-type]
    elif suffix == ".png":
        draw(states, y, columns=columns).savefig(file, format="png", bbox_inches="tight")
    else:
        raise ValueError(f"a file of samples must end in {', '.join(FORMATS)}, got {path.name!r}")
    write_whole(path, file.getvalue())
