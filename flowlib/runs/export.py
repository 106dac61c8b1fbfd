"""Samples to files: a picture, an animation, or the numbers."""

from pathlib import Path

import torch
from torch import Tensor

from flowlib.plotting import animate, draw_samples, save_figure

FORMATS = (".png", ".gif", ".npz", ".pt")


def export_samples(states: Tensor, y: Tensor | None, path: Path, *, columns: int = 10) -> None:
    """Write samples (B, ...), or for a .gif their whole way (T, B, ...), in the format that the name says.

    A .npz or .pt holds "samples" and, if there are any, "labels".

    Raises:
        ValueError: for another format.
        OSError: if the file cannot be written.
    """
    columns = columns if columns <= 20 else 10
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    if suffix == ".gif":
        animate(states, path, labels=y, columns=columns)
    elif suffix in (".npz", ".pt"):
        content = {"samples": states} if y is None else {"samples": states, "labels": y}
        if suffix == ".pt":
            torch.save(content, path)
        else:
            import numpy as np

            np.savez(path, **{name: value.numpy() for name, value in content.items()})  # type: ignore[arg-type]
    elif suffix == ".png":
        save_figure(draw_samples(states, y, columns=columns), path)
    else:
        raise ValueError(f"a file of samples must end in {', '.join(FORMATS)}, got {path.name!r}")
