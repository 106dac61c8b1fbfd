"""Pictures with a caption below each."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from flowlib.plotting.figures import new_figure, tile
from flowlib.plotting.style import INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def captioned_grid(images: Tensor, captions: Sequence[str], *, columns: int = 4, title: str | None = None) -> "Figure":
    """A figure of images (N, C, H, W) in [-1, 1], each with its caption below it.

    Raises:
        ValueError: for images of another shape or dtype, or another number of captions.

    Example:
        >>> import torch
        >>> from flowlib.data import load
        >>> from flowlib.plotting import captioned_grid
        >>> scenes = load("scenes").batch(torch.arange(4))
        >>> figure = captioned_grid(scenes["x"], scenes["short"], columns=2)
        >>> len(figure.axes), " ".join(figure.axes[0].texts[0].get_text().split()) == scenes["short"][0]
        (4, True)
    """
    if len(captions) != len(images):
        raise ValueError(f"captions must be {len(images)}, one an image, got {len(captions)}")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = new_figure(1.9 * columns, 2.1 * rows + 0.3 * (title is not None))
    for place, (image, caption) in enumerate(zip(images, captions, strict=True), 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(tile(image[None], 1).numpy(), interpolation="nearest")
        axes.set_axis_off()
        axes.text(0.5, -0.04, textwrap.fill(caption, 26), transform=axes.transAxes, ha="center", va="top", fontsize=7)
    if title:
        figure.suptitle(title, color=INK, fontsize=11)
    return figure
