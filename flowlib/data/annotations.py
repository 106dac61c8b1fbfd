"""What can be said of masks: the box around one, the edges of what it shows, the key points of a box."""

import torch
from torch import Tensor


def boxes_of(masks: Tensor) -> Tensor:
    """The box around the true pixels of each mask: (..., H, W) bool -> (..., 4) float32: x0, y0, x1, y1; NaN if empty.

    In pixels: a box that covers the whole image is (0, 0, W, H).
    """
    sides = []
    for inside in (masks.any(-2), masks.any(-1)):  # columns, rows
        length = inside.shape[-1]
        first = inside.int().argmax(-1)
        last = length - inside.flip(-1).int().argmax(-1)
        sides.append((first, last))
    boxes = torch.stack([sides[0][0], sides[1][0], sides[0][1], sides[1][1]], dim=-1).float()
    return torch.where(masks.flatten(-2).any(-1, keepdim=True), boxes, torch.nan)


def edges_of(masks: Tensor) -> Tensor:
    """Pixels of an object with a neighbour, up, down, left or right, that is not of the same object.

    Masks (B, K, H, W) bool of K objects -> (B, 1, H, W) bool. Beyond the image there is nothing.
    """
    padded = torch.nn.functional.pad(masks, (1, 1, 1, 1))
    inner = padded[..., 1:-1, 2:] & padded[..., 1:-1, :-2] & padded[..., 2:, 1:-1] & padded[..., :-2, 1:-1]
    return (masks & ~inner).any(1, keepdim=True)


def keypoints_of(boxes: Tensor) -> Tensor:
    """Centre and corners of boxes, clockwise from the upper left: (..., 4) -> (..., 5, 2), each x and y."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    points = [((x0 + x1) / 2, (y0 + y1) / 2), (x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    return torch.stack([torch.stack(point, dim=-1) for point in points], dim=-2)
