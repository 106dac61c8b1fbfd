"""Whether scenes are as a control asks: their masks, read off the pixels by what the judge reads, and their scores.

The judge says of what colour the digits and the paper are. Between the two a pixel is a mixture; it is a stroke from
one half on, as in the scenes themselves.
"""

import torch
from torch import Tensor

from flowlib.data.annotations import boxes_of, edges_of, keypoints_of
from flowlib.data.scenes import INKS, PAPERS
from flowlib.metrics.reader import SceneReader
from flowlib.metrics.scenes import read_scenes


def read_masks(images: Tensor, reader: SceneReader | None = None) -> Tensor:
    """The strokes of the digits that the judge reads in scenes: (B, 3, H, W) in [-1, 1] -> (B, 2, H, W) bool.

    A pixel that is a stroke by either ink belongs to the one whose mixtures it is nearer to; of two of one colour, to
    the one whose place is nearer. Errors as in `read_scenes`.
    """
    reading = read_scenes(images, reader)
    there = reading.objects[..., 0] >= 0  # (B, 2)
    x = ((images.cpu().clamp(-1, 1) + 1) / 2)[:, None]  # (B, 1, 3, H, W)
    height, width = x.shape[3:]
    paper = torch.tensor(PAPERS)[reading.background]
    # The paper's own grey is the commonest, where it is the one that was read.
    grey = x[:, 0].mean(1).flatten(1).median(1).values
    paper = torch.where((grey - paper).abs() < 0.1, grey, paper)[:, None, None, None, None]
    ink = torch.tensor(INKS)[reading.objects[..., 1].clamp(min=0)][..., None, None] - paper  # (B, 2, 3, 1, 1)
    share = ((x - paper) * ink).sum(2) / ink.square().sum(2)  # (B, 2, H, W)
    apart = (x - paper - share.clamp(0, 1)[:, :, None] * ink).square().sum(2).sqrt()
    row, column = (((torch.arange(side) + 0.5) / side) for side in (height, width))
    place = reading.objects[..., 3].clamp(min=0)
    down, across = ((1 + 2 * part.float()) / 6 for part in (place // 3, place % 3))
    far = (row[:, None] - down[..., None, None]).square() + (column - across[..., None, None]).square()
    cost = (apart + 0.02 * far.sqrt()).masked_fill(~there[..., None, None], torch.inf)
    return (share >= 0.5) & there[..., None, None] & (cost <= cost.flip(1))


def edge_f1(found: Tensor, wanted: Tensor) -> Tensor:
    """F1 of edges (B, 1, H, W) bool, pixel for pixel: 2 |both| / (|found| + |wanted|), (B,); 1 where there are none.

    Example:
        >>> import torch
        >>> edge_f1(torch.tensor([[[[True, True, False]]]]), torch.tensor([[[[True, False, False]]]]))
        tensor([0.6667])
    """
    both, total = (found & wanted).sum((1, 2, 3)), (found.sum((1, 2, 3)) + wanted.sum((1, 2, 3)))
    return torch.where(total > 0, 2 * both / total.clamp(min=1), 1.0)


def mask_iou(found: Tensor, wanted: Tensor) -> Tensor:
    """Intersection over union of masks (B, 2, H, W) bool, the mean over those that are wanted: (B,).

    Which of two is which is not asked: they are paired the better way. NaN where nothing is wanted.

    Example:
        >>> import torch
        >>> wanted = torch.tensor([[[[True, True, False]], [[False, False, True]]]])
        >>> mask_iou(wanted.flip(1), wanted), mask_iou(torch.ones_like(wanted), wanted)
        (tensor([1.]), tensor([0.5000]))
    """
    there = wanted.any(3).any(2)
    scores = []
    for paired in (found, found.flip(1)):
        both, either = (paired & wanted).sum((2, 3)), (paired | wanted).sum((2, 3))
        scores.append((both / either.clamp(min=1) * there).sum(1) / there.sum(1))
    return torch.maximum(*scores)


def correct_keypoints(found: Tensor, wanted: Tensor, within: float) -> Tensor:
    """The share of key points (B, 2, 5, 2) that lie within a distance of where they are wanted, (B,): PCK.

    Those of an object that is not there are NaN, and count for nothing where they are wanted. Objects are paired the
    better way.

    Example:
        >>> import torch
        >>> wanted = keypoints_of(torch.tensor([[[0.0, 0.0, 4.0, 8.0], [torch.nan] * 4]]))
        >>> found = keypoints_of(torch.tensor([[[torch.nan] * 4, [0.0, 0.0, 4.0, 12.0]]]))
        >>> correct_keypoints(found, wanted, within=1)
        tensor([0.4000])
    """
    there = ~wanted[..., 0].isnan()
    scores = []
    for paired in (found, found.flip(1)):
        near = (paired - wanted).norm(dim=-1) <= within
        scores.append((near & there).sum((1, 2)) / there.sum((1, 2)))
    return torch.maximum(*scores)


def agreement(images: Tensor, masks: Tensor, keypoints: Tensor, reader: SceneReader | None = None) -> dict[str, float]:
    """How well scenes agree with masks (B, 2, H, W) bool and key points (B, 2, 5, 2): the means of three scores.

    Returns:
        "edge F1", of the edges of both masks; "mask IoU"; "key points", the share within a sixteenth of the image.
    """
    found = read_masks(images, reader)
    points = keypoints_of(boxes_of(found))
    return {
        "edge F1": float(edge_f1(edges_of(found), edges_of(masks)).mean()),
        "mask IoU": float(mask_iou(found, masks).nanmean()),
        "key points": float(correct_keypoints(points, keypoints, images.shape[-1] / 16).nanmean()),
    }
