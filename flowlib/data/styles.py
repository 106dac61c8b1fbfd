"""Scenes to adapt a painter to: in a style, or of an object that it has never seen, with captions that say so.

A style is an exact function of a scene, and its captions are those of the scene behind a word of its own: "sks a red
seven". The object is a glyph that is no digit: "a blue sks".
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from flowlib.checks import check_choice, check_count
from flowlib.data.counter import uniforms
from flowlib.data.dataset import SPLITS, Dataset
from flowlib.data.layouts import pick
from flowlib.data.scenes import INKS, PAPERS, Scenes
from flowlib.text.captions import COLOURS

WORD = "sks"  # which no caption of a scene has
COUNT = {"train": 20, "test": 100}
_GLYPH = ("..#..", ".#.#.", "#...#", ".#.#.", "#.#.#", "#...#", "#####")  # a drop on a stand


def inverted(x: Tensor) -> Tensor:
    """The negative of images in [-1, 1]; its own inverse."""
    return -x


def striped(x: Tensor) -> Tensor:
    """Images (..., H, W) in [-1, 1] with every second pair of rows at half its brightness."""
    dark = (torch.arange(x.shape[-2], device=x.device) // 2 % 2 == 1)[:, None]
    return torch.where(dark, (x - 1) / 2, x)


def outlined(x: Tensor, masks: Tensor) -> Tensor:
    """Scenes x (B, 3, H, W) with a black line of one pixel around the strokes in masks (B, K, H, W), true or false."""
    inside = masks.any(1, keepdim=True)
    near = torch.nn.functional.max_pool2d(inside.float(), 3, stride=1, padding=1) > 0
    return torch.where(near & ~inside, -1.0, x)


STYLES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "inverted": lambda x, masks: inverted(x),
    "striped": lambda x, masks: striped(x),
    "outlined": outlined,
}
SETS = (*(f"scenes-{style}" for style in STYLES), "scenes-glyph")


def styled(style: str, count: int, split: str = "train", size: int = 16, first: int = 0) -> Dataset:
    """Scenes in a style, with captions "sks ..." of it.

    Args:
        style: one of `STYLES`.
        count: scenes.
        split, size: as in `flowlib.data.Scenes`.
        first: the index of the first scene.

    Raises:
        ValueError: for a value that does not fit, naming it.

    Example:
        >>> few = styled("inverted", 2)
        >>> bool((few.images == -Scenes().batch(torch.arange(2))["x"]).all()), few.captions[0].split()[0]
        (True, 'sks')
    """
    check_choice("style", style, STYLES)
    batch = Scenes(size, split=split).batch(torch.arange(first, first + check_count("count", count)))
    captions = [f"{WORD} {text}" for text in batch["short"]]
    return Dataset(STYLES[style](batch["x"], batch["masks"]), name=f"scenes-{style}", levels=256, captions=captions)


def glyphs(count: int, split: str = "train", size: int = 16, seed: int = 0) -> Dataset:
    """Scenes of one object, a glyph that is no digit, in all colours, sizes and places: "a blue sks".

    Args:
        count: scenes.
        split: "train" or "test", which share none.
        size: of the images, a multiple of 16.
        seed: of all scenes.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """
    check_choice("split", split, SPLITS)
    if check_count("size", size) % 16:
        raise ValueError(f"size must be a multiple of 16, got {size}")
    index = np.arange(check_count("count", count)) + (0 if split == "train" else 10**9)
    chance, unit = uniforms(seed, index, 6), size // 16
    colour, paper, tall = pick(chance[:, 0], len(COLOURS)), pick(chance[:, 1], len(PAPERS)), pick(chance[:, 2], 2)
    shape = torch.tensor([[char == "#" for char in row] for row in _GLYPH]).float()[None, None]
    x = torch.tensor(PAPERS)[paper][:, None, None, None].expand(-1, 3, size, size).clone()
    for i, image in enumerate(x):
        height, width = ((7 * unit, 5 * unit), (10 * unit, 7 * unit))[tall[i]]
        ink = torch.nn.functional.interpolate(shape, (height, width), mode="nearest")[0]
        top, left = (chance[i, 3:5] * [size - height + 1, size - width + 1]).astype(int)
        place = image[:, top : top + height, left : left + width]
        place += ink * (torch.tensor(INKS[colour[i]])[:, None, None] - place)
    captions = [f"{'an' if COLOURS[c][0] in 'aeiou' else 'a'} {COLOURS[c]} {WORD}" for c in colour]
    return Dataset(x.mul(255).round().div(127.5).sub(1), name="scenes-glyph", levels=256, captions=captions)


def load(name: str, split: str = "train") -> Dataset:
    """The data set of that name, one of `SETS`: 20 pictures to learn from, 100 to test on."""
    check_choice("name", name, SETS)
    check_choice("split", split, SPLITS)
    kind = name.removeprefix("scenes-")
    return glyphs(COUNT[split], split) if kind == "glyph" else styled(kind, COUNT[split], split)
