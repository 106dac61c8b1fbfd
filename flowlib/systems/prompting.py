"""Training SAM as a person would use it: a first prompt, then clicks where the last mask is wrong.

Kirillov et al. 2023, appendix A. The first prompt may mean several things, so several masks answer it, and of these the
one that the network itself rates highest goes on. From then on a single mask answers; it is given back as logits with
each new click, and twice without one, so that the network learns to gain from it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlib.data.annotations import boxes_of
from flowlib.nets.prompts import FOREGROUND
from flowlib.systems.clicks import error_click, loose_box, pick_pixel, rough_mask
from flowlib.text.captions import Thing, short
from flowlib.training import Turn

FIRST = ("point", "box", "mask", "text")


class Chances(NamedTuple):
    """The random numbers of a batch of B prompts: uniform (B, 3 + clicks) and normal (B, 4)."""

    uniform: Tensor
    normal: Tensor


def draw_chances(turn: Turn, targets: int, clicks: int) -> Chances:
    """Those of `targets` masks for each image of this process's part, drawn for the whole batch."""
    shape = (len(turn.index), targets)
    uniform = torch.rand(*shape, 3 + clicks, generator=turn.generator)
    normal = torch.randn(*shape, 4, generator=turn.generator)
    return Chances(uniform[turn.part].flatten(0, 1), normal[turn.part].flatten(0, 1))


def first_prompt(kind: str, truth: Tensor, chances: Chances, text: Tensor | None = None) -> dict[str, Tensor]:
    """The first prompt for masks (B, H, W) bool, as arguments of `SAM.masks`.

    Args:
        kind: one of `FIRST`: a pixel of the mask, its box drawn badly, a rough drawing, or a text.
        truth: the masks, nowhere empty.
        chances: of this batch.
        text: features of what each mask is called (B, D).
    """
    if kind == "box":
        return {"boxes": loose_box(truth, chances.normal)}
    if kind == "mask":
        return {"masks": rough_mask(truth)}
    if kind == "text":
        assert text is not None
        return {"text": text}
    point = pick_pixel(truth, chances.uniform[:, 0])
    return {"points": point[:, None], "labels": torch.full_like(point[:, :1], FOREGROUND, dtype=torch.long)}


def converse(
    sam: Any, embedding: Tensor, truth: Tensor, first: Mapping[str, Tensor], chances: Chances, rests: tuple[int, ...]
) -> Iterator[tuple[Tensor, Tensor]]:
    """What SAM answers in each round: logits (B, K, H, W), K > 1 in the first, and predicted IoU (B, K).

    Args:
        sam: a `SAM`.
        embedding: of the images (B, dim, h, w).
        truth: masks (B, H, W) bool.
        first: prompts of the first round.
        chances: each further click takes one of `chances.uniform[:, 3:]`.
        rests: rounds 1, 2, ... in which nothing is clicked, beside as many as there are clicks.
    """
    prompts = dict(first)
    logits, iou = sam.masks(embedding, **prompts)
    yield logits, iou
    clicks = iter(chances.uniform[:, 3:].unbind(1))
    for turn in range(1, 1 + chances.uniform.shape[1] - 3 + len(rests)):
        best = iou.argmax(1)[:, None, None, None].expand(-1, 1, *logits.shape[2:])
        prompts["masks"] = logits.gather(1, best).detach().float()
        if turn not in rests:
            clicked = error_click(truth, prompts["masks"][:, 0] > 0, next(clicks))
            for name, new in zip(("points", "labels"), clicked, strict=True):
                prompts[name] = torch.cat([prompts[name], new], 1) if name in prompts else new
        logits, iou = sam.masks(embedding, **prompts, several=False)
        yield logits, iou


def called(objects: Tensor, region: Tensor) -> list[str]:
    """What regions (B,) of scenes with these objects (B, 2, 4) are called: "a red seven", or both digits of a pair."""
    texts = []
    for things, which in zip(objects.tolist(), region.tolist(), strict=True):
        texts.append(short([Thing(*thing) for thing in (things if which == 4 else [things[which % 2]])]))
    return texts


def crops_of(images: Tensor, truth: Tensor, chances: Chances) -> Tensor:
    """What a CLIP is shown of masks: each box, up to twice as large, at the size of the image.

    For half of them all else is painted over with the mean of the image's corners, which here is the paper's colour.

    Args:
        images: (B, C, H, W).
        truth: masks (B, H, W) bool.
        chances: the second and third uniform number of each are used.
    """
    box = boxes_of(truth)
    size = box.new_tensor([truth.shape[2], truth.shape[1]])
    centre = (box[:, 2:] + box[:, :2]) / size - 1  # in [-1, 1]
    larger = 1 + chances.uniform[:, 1].to(box)
    reach = ((box[:, 2:] - box[:, :2]).amax(1) * larger)[:, None] / size
    scale = torch.diag_embed(reach)
    alone = (chances.uniform[:, 2].to(box) < 0.5)[:, None, None, None]
    paper = images[..., [0, 0, -1, -1], [0, -1, 0, -1]].median(-1).values[..., None, None]
    shown = torch.where(alone & ~truth[:, None], paper, images)
    grid = F.affine_grid(torch.cat([scale, centre[..., None]], 2), list(images.shape), align_corners=False)
    return F.grid_sample(shown.float(), grid, padding_mode="border", align_corners=False)
