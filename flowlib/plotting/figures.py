"""Pictures: grids of images, clouds of points and a loss curve.

Figures are made without pyplot, so that no backend, window or global state is touched; a notebook shows them too.
"""

import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flowlib.checks import check_count, check_tensor
from flowlib.files import write_whole
from flowlib.plotting.style import ACCENT, GREY, INK, PALE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 110


def tile(images: Tensor, columns: int, gap: int = 1) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] as one picture (rows (H + gap) - gap, columns (W + gap) - gap, C) in [0, 1].

    Values outside the range are clipped. Between images, and where a last row is not full, the picture is 0.

    Raises:
        ValueError: for images of another shape or dtype, or with neither 1 nor 3 channels; or fewer than one column.
    """
    check_tensor("images", images, finite=False)
    check_count("columns", columns)
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must have shape (N, 1 or 3, H, W) to be shown, got {tuple(images.shape)}")
    images = ((images.detach().float().cpu() + 1) / 2).clamp(0, 1).nan_to_num()
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    padded = torch.zeros(rows * columns, channels, height + gap, width + gap)
    padded[:count, :, :height, :width] = images
    grid = padded.reshape(rows, columns, channels, height + gap, width + gap)
    picture = grid.permute(0, 3, 1, 4, 2).reshape(rows * (height + gap), columns * (width + gap), channels)
    return picture[: rows * (height + gap) - gap, : columns * (width + gap) - gap]


def picture_grid(
    images: Tensor, *, columns: int = 10, rows: Sequence[str] | None = None, title: str | None = None
) -> "Figure":
    """A figure of images (N, C, H, W) in [-1, 1], row by row; grey ones as ink on paper.

    Args:
        images: clipped to their range.
        columns: images in a row.
        rows: a label for each row.
        title: above the grid.

    Raises:
        ValueError: for images of another shape or dtype, or a wrong number of labels.
    """
    figure, axes, _ = image_axes(images, columns, rows)
    if title:
        axes.set_title(title, loc="left", color=INK, fontsize=11)
    return figure


def point_cloud(
    points: Tensor, labels: Tensor | None = None, *, limit: float = 3.0, title: str | None = None
) -> "Figure":
    """A figure of points (N, 2), coloured by their labels (N,), in the square from -limit to limit.

    Raises:
        ValueError: for points of another shape or dtype.
    """
    figure, axes, _ = point_axes(points, labels, limit)
    if title:
        axes.set_title(title, loc="left", color=INK, fontsize=11)
    return figure


def draw_samples(
    samples: Tensor, labels: Tensor | None = None, *, columns: int = 10, title: str | None = None
) -> "Figure":
    """A figure of samples: images as a grid, whose rows are labelled where a row has one label, or points as a cloud.

    Raises:
        ValueError: for samples that are neither, or a number of labels that is not theirs.
    """
    check_tensor("samples", samples, finite=False)
    if labels is not None and labels.shape != (len(samples),):
        raise ValueError(f"labels must have shape ({len(samples)},), got {tuple(labels.shape)}")
    if samples.ndim == 2:
        return point_cloud(samples, labels, title=title)
    rows = None if labels is None else [row.unique().tolist() for row in labels.split(columns)]
    single = rows is not None and all(len(row) == 1 for row in rows)
    names = [str(row[0]) for row in rows] if rows is not None and single else None
    return picture_grid(samples, columns=columns, rows=names, title=title)


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of the course's style, its sides in inches."""
    return _picture()(figsize=(width, height), dpi=_DPI, layout="constrained")


@cache
def _picture() -> type:
    """The class of all figures here: one that any notebook shows, whether or not pyplot was imported before."""
    from matplotlib.figure import Figure

    class Picture(Figure):
        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png", bbox_inches="tight")
            return file.getvalue()

    return Picture


def loss_curve(metrics: Sequence[dict[str, Any]], title: str = "training loss") -> "Figure":
    """A figure of the loss against the step, with the learning rate in the background.

    Args:
        metrics: entries with "step", "loss" and "lr", as `flowlib.training.read_metrics` gives them.

    Raises:
        ValueError: if there are none.
    """
    if not metrics:
        raise ValueError("metrics must have at least one entry, got none")
    steps = [entry["step"] for entry in metrics]
    figure = new_figure(6.4, 3.6)
    axes = figure.subplots()
    axes.plot(steps, [entry["loss"] for entry in metrics], color=ACCENT, linewidth=1.4)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    behind = axes.twinx()
    behind.fill_between(steps, [entry["lr"] for entry in metrics], color=PALE, linewidth=0)
    behind.set_ylim(bottom=0)
    behind.set_ylabel("learning rate", color=GREY)
    behind.tick_params(colors=GREY)
    axes.set_zorder(behind.get_zorder() + 1)  # the loss in front of it
    axes.patch.set_visible(False)
    for part in (axes, behind):
        part.spines[:].set_visible(False)
        part.margins(x=0)
    return figure


def save_figure(figure: "Figure", path: Path | str) -> None:
    """Write a figure in the format that the file's name says, by default a PNG, whole or not at all.

    Its folder is made if there is none.

    Raises:
        ValueError: for a format that is not known.
        OSError: if it cannot be written.
    """
    path = Path(path) if Path(path).suffix else Path(path).with_suffix(".png")
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:], bbox_inches="tight")  # so that no label is cut off
    write_whole(path, content.getvalue())


def image_axes(
    images: Tensor, columns: int, rows: Sequence[str] | None
) -> "tuple[Figure, Axes, Callable[[Tensor], None]]":
    """A figure of images, its axes, and a function that shows other images in their place."""
    columns = min(columns, len(images))
    picture = tile(images, columns).numpy()
    count = -(-len(images) // columns)
    if rows is not None and len(rows) != count:
        raise ValueError(f"rows must have a label for each of the {count} rows, got {len(rows)}")
    side = 0.5
    figure = new_figure(side * columns + 0.6, side * count + 0.6)
    axes = figure.subplots()
    shown = axes.imshow(picture, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    height = picture.shape[0] / count
    axes.set_yticks([height * (i + 0.5) - 0.5 for i in range(count)] if rows else [], rows or [])
    axes.tick_params(length=0, colors=INK, labelsize=11)
    return figure, axes, lambda images: shown.set_data(tile(images, columns).numpy())


def point_axes(points: Tensor, labels: Tensor | None, limit: float) -> "tuple[Figure, Axes, Callable[[Tensor], None]]":
    """A figure of points, its axes, and a function that moves the points to other places."""
    check_tensor("points", points, finite=False)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points must have shape (N, 2), got {tuple(points.shape)}")
    figure = new_figure(4.4, 4.6)
    axes = figure.subplots()
    colours = [INK] * len(points) if labels is None else [f"C{label}" for label in labels.tolist()]
    x, y = points.detach().float().cpu().T.numpy()
    shown = axes.scatter(x, y, s=3, c=colours, linewidths=0, alpha=0.7)
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_color(PALE)
    return figure, axes, lambda points: shown.set_offsets(points.detach().float().cpu().numpy())
