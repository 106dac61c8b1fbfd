"""What a point in a scene may mean: the stroke of a digit, its filled hull, or the hull of a pair of digits."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowlib.data.annotations import boxes_of

KINDS = ("stroke", "stroke", "hull", "hull", "pair")  # of the regions of a scene
LEAST = 4  # pixels of a stroke that can be asked for


class Regions(NamedTuple):
    """Masks (B, K, H, W) bool, and which of them are there (B, K)."""

    masks: Tensor
    valid: Tensor


def convex_hull(masks: Tensor) -> Tensor:
    """The pixels whose centres lie in the convex hull of the centres of a mask's: (..., H, W) bool -> the same.

    In each column the hull reaches from the lowest to the highest of all segments between two columns' outermost
    pixels. That is exact, and needs no search for corners.

    Example:
        >>> corners = torch.zeros(3, 3, dtype=torch.bool)
        >>> corners[0, 0] = corners[0, 2] = corners[2, 0] = True
        >>> convex_hull(corners).int().tolist()
        [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
    """
    height, width = masks.shape[-2:]
    there = masks.any(-2)  # (..., W)
    top = masks.int().argmax(-2).double()
    bottom = height - 1 - masks.flip(-2).int().argmax(-2).double()
    column = torch.arange(width, device=masks.device)
    a, b, x = column[:, None, None], column[None, :, None], column[None, None, :]
    share = torch.where(
        b > a, (x - a).double() / (b - a).clamp(min=1), 0.0
    )  # (W, W, W): how far x lies between a and b
    pairs = there[..., :, None, None] & there[..., None, :, None] & (a <= x) & (x <= b)
    ends = [line[..., :, None, None] * (1 - share) + line[..., None, :, None] * share for line in (top, bottom)]
    upper = torch.where(pairs, ends[0], torch.inf).amin((-3, -2))  # (..., W)
    lower = torch.where(pairs, ends[1], -torch.inf).amax((-3, -2))
    row = torch.arange(height, device=masks.device)[:, None]
    return (row >= upper[..., None, :] - 1e-9) & (row <= lower[..., None, :] + 1e-9)


def regions_of(batch: Mapping[str, Any]) -> Regions:
    """The regions of scenes, in the order of `KINDS`; or of data that have a column "regions", what that holds.

    Hulls are of what can be seen. A digit of which hardly anything can be seen has no region, a single one no pair.
    """
    if "regions" in batch:
        return Regions(batch["regions"], batch["regions"].flatten(2).any(2))
    strokes = batch["masks"]
    pair = strokes.any(1, keepdim=True)
    seen = strokes.sum((2, 3)) >= LEAST
    masks = torch.cat([strokes, convex_hull(torch.cat([strokes, pair], 1))], 1)
    return Regions(masks, torch.cat([seen, seen, seen.all(1, keepdim=True)], 1))


class Targets(NamedTuple):
    """N masks that are asked for: of which image, which of its regions, the masks (N, H, W), and which draw it was."""

    row: Tensor
    region: Tensor
    masks: Tensor
    draw: Tensor


def drawn_targets(regions: Regions, chance: Tensor) -> Targets:
    """Regions to ask for, all of an image as likely.

    Args:
        regions: of B images.
        chance: (B, T) uniform in [0, 1): T are drawn of each image, draws 0 ... B T - 1 in all, and none of an image
            that has no region.
    """
    count = regions.valid.sum(1)
    rank = (chance.to(count.device).double() * count[:, None]).long()  # (B, T)
    region = (regions.valid.cumsum(1)[:, None] > rank[..., None]).int().argmax(2)
    row = torch.arange(len(count), device=count.device)[:, None].expand_as(region)
    draw = (count > 0)[:, None].expand_as(region).flatten().nonzero()[:, 0]
    row, region = row.flatten()[draw], region.flatten()[draw]
    return Targets(row, region, regions.masks[row, region], draw)


def boxes_around(masks: Tensor) -> Tensor:
    """The boxes of masks (..., H, W) from edge to edge (..., 4), those of empty ones at 0."""
    return boxes_of(masks).nan_to_num(0.0)
