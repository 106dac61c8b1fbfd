"""Edits to measure painters by: of a scene one digit is to become another, in a hole around it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from flowlib.data import Dataset
from flowlib.data.layouts import SEEN
from flowlib.text.captions import Thing, descriptive
from flowlib.training.order import stream

MARGIN = 1  # pixels around a digit that are painted anew with it


class Edits(NamedTuple):
    """What is to be changed in N scenes.

    Attributes:
        images: the scenes (N, 3, H, W).
        known: (N, 1, H, W), 0 in the hole.
        texts: captions of what shall be.
        rest: of the other digit, which must stay; "" where there is none.
    """

    images: Tensor
    known: Tensor
    texts: Sequence[str]
    rest: Sequence[str]


def edits_of(scenes: Dataset, count: int, seed: int = 0) -> Edits:
    """The first scenes, in each of which the first digit shall be another one of another colour, as large and there.

    The hole is the box around the digit and a pixel more on each side, less what can be seen of the other digit.

    Args:
        scenes: a set of scenes, with all of its columns.
        count: how many.
        seed: of what the digits shall become.
    """
    batch = scenes.batch(torch.arange(count))
    height, width = batch["x"].shape[2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    left, top, right, bottom = batch["boxes"][:, 0, :, None, None].unbind(1)  # of the first digit, each (N, 1, 1)
    hole = (x >= left - MARGIN) & (x < right + MARGIN) & (y >= top - MARGIN) & (y < bottom + MARGIN)
    hole &= ~batch["masks"][:, 1]
    generator = stream(seed, "edits")
    texts, rest = [], []
    for row, paper in zip(batch["objects"].tolist(), batch["background"].tolist(), strict=True):
        digit, colour, size, place = row[0]
        others = [pair for pair in SEEN if pair[0] != digit and pair[1] != colour]
        new = Thing(*others[int(torch.randint(len(others), (), generator=generator))], size, place)
        things = [new, *(Thing(*thing) for thing in row[1:] if thing[0] >= 0)]
        texts.append(descriptive(things, paper))
        rest.append(descriptive(things[1:], paper) if len(things) > 1 else "")
    return Edits(batch["x"], 1 - hole[:, None].float(), texts, rest)
