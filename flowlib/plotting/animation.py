"""Animations of samples on their way from noise to data, as GIFs that any browser shows."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from flowlib.checks import check_tensor
from flowlib.files import write_whole
from flowlib.plotting.figures import INK, image_axes, point_axes


def animate(
    states: Tensor,
    path: Path | str | io.BytesIO,
    *,
    labels: Tensor | None = None,
    columns: int = 10,
    rows: Sequence[str] | None = None,
    seconds: float = 4.0,
    start: float = 0.0,
) -> None:
    """Write a GIF of samples on their way from noise to data, with the time on each frame; the last one stays longer.

    Args:
        states: a trajectory at evenly spaced times from `start` to 1: images (T, N, C, H, W) or points (T, N, 2).
        path: the file to write, or a buffer.
        labels: colours of points.
        columns, rows: of images, as in `picture_grid`.
        seconds: how long the way takes.
        start: the time of the first state.

    Raises:
        ValueError: for states of another shape, or fewer than two.

    Example:
        >>> import torch
        >>> from PIL import Image
        >>> from flowlib import MixtureField, sample_ode
        >>> from flowlib.plotting import animate
        >>> field = MixtureField(torch.eye(2), std=0.1)
        >>> states = sample_ode(field, torch.randn(50, 2), steps=4, trajectory=True)
        >>> animate(states, "way.gif")
        >>> Image.open("way.gif").n_frames
        5
    """
    from PIL import Image

    check_tensor("states", states, finite=False)
    if states.ndim not in (3, 5) or len(states) < 2:
        raise ValueError(f"states must have shape (T, N, C, H, W) or (T, N, 2) with T >= 2, got {tuple(states.shape)}")
    update: Callable[[Tensor], None]
    if states.ndim == 5:
        figure, axes, update = image_axes(states[0], columns, rows)
        # The few pixels of a coloured stroke get colours of their own only where space is cut evenly.
        palette = (128, Image.Quantize.FASTOCTREE) if states.shape[2] == 3 else (32, Image.Quantize.MEDIANCUT)
    else:
        figure, axes, update = point_axes(states[0], labels, 3.0)
        palette = (32, Image.Quantize.MEDIANCUT)
    frames = []
    for i, state in enumerate(states):
        update(state)
        axes.set_title(
            f"t = {start + (1 - start) * i / (len(states) - 1):.2f}",
            loc="left",
            color=INK,
            fontsize=11,
            family="monospace",
        )
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=80)
        frames.append(Image.open(buffer).convert("RGB").quantize(*palette))
    times = [round(1000 * seconds / len(frames))] * (len(frames) - 1) + [2000]
    content = io.BytesIO()
    frames[0].save(content, format="GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
    if isinstance(path, str | Path):
        write_whole(Path(path), content.getvalue())
    else:
        path.write(content.getvalue())
