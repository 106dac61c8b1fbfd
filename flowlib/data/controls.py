"""Images that control what is painted: edges, masks, scribbles, key points; of scenes exactly, or from a picture.

A control is an image of zeros and ones. As a picture, and in a file, it is white on black; of two channels the second
is grey. A file of another kind, such as a photograph, has edges too: those that Canny's detector finds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlib.checks import check_choice
from flowlib.data.canny import inner_edges
from flowlib.data.dataset import DataError
from flowlib.data.pixels import decode, open_image, stack

Batch = Mapping[str, Any]


def _edges(batch: Batch) -> Tensor:
    return batch["edges"].float()


def _mask(batch: Batch) -> Tensor:
    return batch["masks"].float()


def _scribble(batch: Batch) -> Tensor:
    """The strokes as a pen of 3 x 3 pixels draws them."""
    return F.max_pool2d(batch["masks"].any(1, keepdim=True).float(), 3, stride=1, padding=1)


def _keypoints(batch: Batch) -> Tensor:
    """A pixel for each point: that inside the box which a corner touches, and the one that the centre lies in."""
    points = batch["keypoints"]  # (B, 2, 5, 2), NaN where there is no object
    side = torch.tensor([batch["x"].shape[3], batch["x"].shape[2]], device=points.device)
    inside = torch.tensor([[0, 0], [0, 0], [-1, 0], [-1, -1], [0, -1]], device=points.device)
    pixel = (points.nan_to_num(0).floor() + inside).clamp(min=0).minimum(side - 1).long()
    image = torch.zeros(len(points), 2, *batch["x"].shape[2:], device=points.device)
    there, row = ~points[..., 0].isnan(), torch.arange(len(points), device=points.device)[:, None].expand(-1, 2)
    for which in range(5):
        x, y = pixel[:, :, which].unbind(-1)
        image[row[there[..., which]], int(which == 0), y[there[..., which]], x[there[..., which]]] = 1
    image[:, 1] *= 1 - image[:, 0]
    return image


@dataclass(frozen=True)
class Control:
    """A kind of control.

    Attributes:
        channels: of its images.
        column: of the data, which it is made of.
        of: a batch with that column, and "x" -> images (B, channels, H, W), 0 or 1.
        lines: whether it is drawn, so that in a larger file one pixel in a cell is enough; if not, most of them count.
        says: what is white in a picture of it, and grey.
    """

    channels: int
    column: str
    of: Callable[[Batch], Tensor]
    lines: bool
    says: str


CONTROLS = {
    "edges": Control(1, "edges", _edges, True, "edges white"),
    "mask": Control(2, "masks", _mask, False, "a digit white, another one grey"),
    "scribble": Control(1, "masks", _scribble, True, "a scribble white"),
    "keypoints": Control(2, "keypoints", _keypoints, True, "corners white, centres grey"),
}


def check_kind_of_control(kind: str) -> str:
    """Return `kind` if there is such a control; a ValueError lists those there are."""
    return check_choice("the kind of a control", kind, CONTROLS)


def pictures_of(images: Tensor) -> Tensor:
    """Controls (B, 1 or 2, H, W) as pictures (B, 3, H, W) in [-1, 1], as a file holds them."""
    levels = images[:, :1] if images.shape[1] == 1 else torch.maximum(images[:, :1], images[:, 1:] / 2)
    return (2 * levels - 1).expand(-1, 3, -1, -1)


def controls_of(pictures: Tensor, channels: int) -> Tensor:
    """The way back: pictures (B, C, H, W) in [-1, 1] -> controls (B, channels, H, W) of 0 and 1."""
    level = (pictures.mean(1, keepdim=True) + 1) / 2
    if channels == 1:
        return (level > 0.5).float()
    white = level > 0.75
    return torch.cat([white, (level > 0.25) & ~white], dim=1).float()


def read_control(kind: str, path: Path, size: tuple[int, ...]) -> Tensor:
    """The control in an image file: (channels, H, W) of `size`, 0 or 1.

    A file is H x W pixels, or a multiple of that: of each cell the brightest pixel counts for lines, the mean else. For
    edges, a picture without colours, three quarters of it nearly black or white, is a drawing, whose lines are what
    there is less of; from any other, scaled to H x W, Canny's detector draws the edges.

    Raises:
        DataError: for a file that is missing, damaged or no image.
        ValueError: for an unknown kind, a file of another size, or one with nothing in it.
    """
    control = CONTROLS[check_kind_of_control(kind)]
    height, width = size
    with open_image(path) as image:
        array = decode(image)
    picture = stack([array], grey=array.ndim == 2)  # (1, 1 or 3, h, w)
    times = picture.shape[2] // height
    if not times or picture.shape[2:] != (times * height, times * width):
        has, wants = f"{picture.shape[3]} x {picture.shape[2]}", f"{width} x {height}"
        raise DataError(f"the control {kind}={path} has {has} pixels, which is no multiple of {wants}")
    if kind == "edges" and not is_drawing(picture):
        found = inner_edges(F.avg_pool2d(picture, times)[0].add(1).div(2).numpy())
        controls = torch.from_numpy(found)[None, None].float()
    else:
        if control.channels == 1 and float((picture > 0).float().mean()) > 0.5:
            picture = -picture  # ink on paper
        pool = F.max_pool2d if control.lines else F.avg_pool2d
        controls = controls_of(pool(picture.mean(1, keepdim=True), times), control.channels)
    if not bool(controls.any()):
        raise ValueError(f"the control {kind}={path} is empty: draw {control.says}, on black")
    return controls[0]


def is_drawing(pictures: Tensor) -> bool:
    """Whether a picture in [-1, 1] has no colours, and is black or white in three quarters of its pixels, nearly."""
    colours = float((pictures.amax(1) - pictures.amin(1)).max())
    return colours < 0.1 and float((pictures.mean(1).abs() > 0.75).float().mean()) >= 0.75
