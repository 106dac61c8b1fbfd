"""All masks of an image: a grid of points, the masks that stand up to two tests, and each of them once.

Kirillov et al. 2023, appendix B, without its crops: scenes have no details that would need them.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowlib.checks import check_count, check_number
from flowlib.nets.prompts import FOREGROUND
from flowlib.systems.mask_losses import iou_of


class Found(NamedTuple):
    """Masks (M, H, W) bool, best first; predicted IoU and stability (M,); the points (M, 2) that asked for them."""

    masks: Tensor
    iou: Tensor
    stability: Tensor
    points: Tensor


def point_grid(side: int, height: int, width: int) -> Tensor:
    """side x side points spread over an image (side^2, 2), x and y in pixels whose centres are 0, 1, ...

    Example:
        >>> point_grid(2, 4, 4).tolist()
        [[0.5, 0.5], [2.5, 0.5], [0.5, 2.5], [2.5, 2.5]]
    """
    place = (torch.arange(check_count("side", side)) + 0.5) / side
    y, x = torch.meshgrid(place * height - 0.5, place * width - 0.5, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def stability_score(logits: Tensor, offset: float = 1.0) -> Tensor:
    """The IoU of a mask cut off `offset` higher and lower: (..., H, W) -> (...), in [0, 1]; 0 of an empty mask.

    Example:
        >>> stability_score(torch.tensor([[3.0, 0.5, -0.5, -3.0]]))  # one pixel of three
        tensor(0.3333)
    """
    high, low = (logits > offset).sum((-2, -1)), (logits > -offset).sum((-2, -1))
    return high / low.clamp(min=1)


def suppress(overlap: Tensor, scores: Tensor, most: float) -> Tensor:
    """Which of M candidates stay: the best, and each next one that overlaps no better one that stays by more than that.

    Args:
        overlap: (M, M), of which row i is how much i overlaps each.
        scores: (M,); of equal ones the first counts as better.
        most: the largest overlap.

    Returns:
        their indices, best first.

    Example:
        >>> overlap = torch.tensor([[1.0, 0.8, 0.1], [0.8, 1.0, 0.8], [0.1, 0.8, 1.0]])
        >>> suppress(overlap, torch.tensor([0.9, 0.8, 0.7]), 0.7).tolist()
        [0, 2]
    """
    rest, kept = scores.sort(descending=True, stable=True).indices, []
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(best)
        rest = rest[overlap[best, rest] <= most]
    return torch.stack(kept) if kept else rest


@torch.no_grad()
def automatic_masks(
    sam: Any,
    image: Tensor,
    *,
    side: int = 16,
    least_iou: float = 0.7,
    least_stability: float = 0.9,
    offset: float = 1.0,
    most_overlap: float = 0.7,
    batch_size: int = 256,
) -> Found:
    """Everything in an image that can be cut out.

    Duplicates are masks whose IoU is above `most_overlap`. The paper takes that of their boxes; but a stroke and its
    hull have one box, and are two things.

    Args:
        sam: a `SAM`.
        image: (C, H, W).
        side: of the grid of points, each of which asks for all of the decoder's masks.
        least_iou: that must be predicted, in [0, 1]. The paper asks for 0.88; of scenes of 16 x 16 pixels, where one
            pixel is a large part of a stroke, few predictions are as high.
        least_stability: of a mask, in [0, 1]; 0.95 in the paper.
        offset: as in `stability_score`.
        batch_size: points at a time.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """
    for name, value in (("least_iou", least_iou), ("least_stability", least_stability), ("most_overlap", most_overlap)):
        check_number(name, value, 0, 1)
    embedding = sam.embed(image[None])
    points = point_grid(side, *image.shape[1:]).to(image.device)
    answers = []
    for some in points.split(check_count("batch_size", batch_size)):
        labels = torch.full((len(some), 1), FOREGROUND, device=image.device)
        answers.append(sam.masks(embedding, some[:, None], labels))
    logits, iou = (torch.cat(parts).flatten(0, 1).float() for parts in zip(*answers, strict=True))
    points = points.repeat_interleave(len(logits) // len(points), 0)
    stability = stability_score(logits, offset)
    good = (iou > least_iou) & (stability >= least_stability) & (logits > 0).any(2).any(1)
    masks, iou, stability, points = (logits > 0)[good], iou[good], stability[good], points[good]
    chosen = suppress(iou_of(masks[:, None], masks[None]), iou, most_overlap)
    return Found(masks[chosen], iou[chosen], stability[chosen], points[chosen])
