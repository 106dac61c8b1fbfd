"""Which digits are in a scene, and where: from uniform random numbers."""

from functools import cache

import numpy as np

from flowlib.text.captions import COLOURS, DIGITS

HELD_OUT = tuple(((3 * colour + 1) % 10, colour) for colour in range(len(COLOURS)))  # (digit, colour)
SEEN = tuple((d, c) for d in range(len(DIGITS)) for c in range(len(COLOURS)) if (d, c) not in HELD_OUT)
_HEIGHTS = (7, 10)  # of small and large digits, in sixteenths of the image
ALONE = tuple((size, place) for size in range(2) for place in range(9))  # where one object may be
_OVERLAP = 0.2  # of the smaller digit's square by the larger's, at most


def pick(chance: np.ndarray, count: int) -> np.ndarray:
    """Uniform numbers in [0, 1) -> integers 0 ... count - 1."""
    return (chance * count).astype(np.int64)


def objects_of(chance: np.ndarray, pairs: np.ndarray, held_out: bool) -> tuple[np.ndarray, np.ndarray]:
    """The objects of scenes, (B, 2, 4): digit, colour, size, place; and which is in front, (B,).

    One object or two, as likely; of one the second row is -1. Sizes and places are uniform: of one among all, of two
    among those whose squares hardly overlap.

    Args:
        chance: (B, 3) how many, where, which in front.
        pairs: (B, 2) which digits and colours.
        held_out: whether the first object is of a pair that no other scene has.
    """
    which = np.array(SEEN)[pick(pairs, len(SEEN))]
    if held_out:
        which[:, 0] = np.array(HELD_OUT)[pick(pairs[:, 0], len(HELD_OUT))]
    table, alone = np.array(layouts()), chance[:, 0] < 0.5
    where = table[pick(chance[:, 1], len(table))]
    where[alone, 0] = np.array(ALONE)[pick(chance[alone, 1], len(ALONE))]
    objects = np.concatenate([which, where], axis=2)
    objects[alone, 1] = -1
    return objects, pick(chance[:, 2], 2)


def squares(objects: np.ndarray, chance: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The squares that objects are drawn in: the upper left corners (B, 2, 2), row and column, and the sides (B, 2).

    Args:
        objects: (B, 2, 4) from `objects_of`.
        chance: (B, 4) by how many pixels each is moved from its place.
        size: of the image.
    """
    unit = size // 16
    side = unit * np.array(_HEIGHTS)[objects[..., 2].clip(0)]
    free, shift = (size - side)[..., None], pick(chance.reshape(-1, 2, 2), unit + 1)
    place = np.stack(np.divmod(objects[..., 3].clip(0), 3), axis=-1)  # row and column, each 0, 1 or 2
    return np.choose(place, [shift, free // 2 + shift - unit // 2, free - shift]), side


@cache
def layouts() -> tuple[tuple[tuple[int, int], tuple[int, int]], ...]:
    """Size and place of each of two objects whose squares hardly overlap: all that there are."""
    return tuple((a, b) for a in ALONE for b in ALONE if _overlap(a, b) <= _OVERLAP)


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> float:
    area = 1.0
    for axis in (0, 1):
        spans = []
        for size, place in (a, b):
            start = (16 - _HEIGHTS[size]) * divmod(place, 3)[axis] / 2
            spans.append((start, start + _HEIGHTS[size]))
        area *= max(0.0, min(spans[0][1], spans[1][1]) - max(spans[0][0], spans[1][0]))
    return area / min(_HEIGHTS[a[0]], _HEIGHTS[b[0]]) ** 2
