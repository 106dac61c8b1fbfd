"""A simulated person: where they click, what box they draw, and what they do next (Kirillov et al. 2023, appendix A).

All randomness is given, as uniform or normal numbers, one set for each mask: what follows from them is exact.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlib.nets.prompts import BACKGROUND, FOREGROUND, PADDING, corners_of
from flowlib.systems.regions import boxes_around

ROUGH = 6.0  # the logit of a mask that was drawn by hand


def pick_pixel(region: Tensor, chance: Tensor) -> Tensor:
    """A pixel of each region, all as likely: (B, H, W) bool and uniform numbers (B,) in [0, 1) -> (B, 2), x and y.

    Of an empty region it is (0, 0).

    Example:
        >>> region = torch.tensor([[[False, True], [False, True]]])
        >>> pick_pixel(region, torch.tensor([0.1])).tolist(), pick_pixel(region, torch.tensor([0.9])).tolist()
        ([[1.0, 0.0]], [[1.0, 1.0]])
    """
    flat = region.flatten(1)
    count = flat.sum(1)
    rank = (chance.to(flat.device).double() * count).long().clamp(max=(count - 1).clamp(min=0))
    which = (flat.cumsum(1) > rank[:, None]).int().argmax(1)  # the first with more than `rank` up to it
    width = region.shape[2]
    return torch.stack([which % width, which // width], dim=1).float()


def error_click(truth: Tensor, predicted: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
    """A click where a mask is wrong: points (B, 1, 2), and labels (B, 1).

    All wrong pixels are as likely. The label is 1 where the mask misses something, 0 where it has too much, and -1, no
    click at all, where nothing is wrong.

    Args:
        truth, predicted: (B, H, W) bool.
        chance: (B,) uniform in [0, 1).
    """
    wrong = truth != predicted
    point = pick_pixel(wrong, chance)
    x, y = point.long().unbind(1)
    missed = truth[torch.arange(len(truth), device=truth.device), y, x]
    label = torch.where(missed, FOREGROUND, BACKGROUND)
    label = torch.where(wrong.flatten(1).any(1), label, PADDING)
    return point[:, None], label[:, None]


def loose_box(truth: Tensor, noise: Tensor, spread: float = 0.1, most: float = 1.0) -> Tensor:
    """The box of each mask, badly drawn: (B, H, W) bool, normal numbers (B, 4) -> (B, 4), as a prompt encoder has it.

    Each side is moved by normal noise of `spread` times the box's length, and by at most `most` pixels. The paper's
    bound is 20 pixels of 1,024, which would be a third of a pixel here.
    """
    edges = boxes_around(truth)
    sides = (edges[:, 2:] - edges[:, :2]).repeat(1, 2)  # of x0, y0, x1, y1
    moved = edges + (spread * sides * noise.to(edges)).clamp(-most, most)
    height, width = truth.shape[1:]
    limit = edges.new_tensor([width, height, width, height])
    return corners_of(moved.clamp(min=0).minimum(limit))


def rough_mask(truth: Tensor) -> Tensor:
    """Masks as a broad brush leaves them, one pixel too wide: (B, H, W) bool -> logits (B, 1, H, W)."""
    broad = F.max_pool2d(truth[:, None].float(), 3, stride=1, padding=1)
    return ROUGH * (2 * broad - 1)
