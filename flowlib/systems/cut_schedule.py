"""The schedule of cut-outs: which views are taken, and when."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flowlib.checks import check_count, check_number
from flowlib.systems.cutouts import augment, cutouts


def read_schedule(text: str) -> Callable[[float], float]:
    """A schedule such as "[12]*400+[4]*600" as a function of t in [0, 1]: 12 up to t = 0.4, and 4 from there on.

    The lengths are shares of the way. Disco Diffusion counts the steps of its chain, which sampling takes evenly; the
    uniform grid of a sampler here takes t evenly.

    Raises:
        ValueError: for a text that is no such schedule.

    Example:
        >>> inner = read_schedule("[4]*400+[12]*600")
        >>> inner(0.0), inner(0.39), inner(0.41), inner(1.0)
        (4.0, 4.0, 12.0, 12.0)
    """
    found = [re.fullmatch(r"\s*\[\s*([0-9.]+)\s*\]\s*\*\s*([0-9]+)\s*", part) for part in text.split("+")]
    try:
        pieces = [(float(one[1]), int(one[2])) for one in found if one]
    except ValueError:
        pieces = []
    total = sum(length for _, length in pieces)
    if len(pieces) != len(found) or total == 0:
        raise ValueError(f"a schedule must look like '[12]*400+[4]*600', got {text!r}")

    def at(t: float) -> float:
        end = 0
        for value, length in pieces:
            end += length
            if t * total < end:
                return value
        return pieces[-1][0]

    return at


@dataclass(frozen=True)
class Cuts:
    """Which views are taken, and when: wide ones early, while the picture is laid out, and small ones later.

    Attributes:
        count: views at a time.
        overview, inner: schedules of how many of these see the whole picture and how many a part. What counts is the
            ratio: with 8 views "[12]" and "[4]" are 6 and 2.
        grey: schedule of the share of inner views without colour.
        power: an inner view's side is the largest for u^power = 1, u uniform: more than 1 makes small ones likelier.
        smallest: the smallest side of an inner view, as a share of the picture's shorter side. In Disco Diffusion it is
            that of the CLIP's images; here these are as large as the picture, so that no view would be inner.
        flip: whether views are mirrored too, as Disco Diffusion does. A mirrored seven is no seven: off.
        augment: whether each view is turned, moved, noised and changed in its colours (`augment`).

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    count: int = 16
    overview: str = "[12]*400+[4]*600"
    inner: str = "[4]*400+[12]*600"
    grey: str = "[0.2]*400+[0]*600"
    power: float = 1.0
    smallest: float = 0.5
    flip: bool = False
    augment: bool = True

    def __post_init__(self) -> None:
        check_count("cuts", self.count)
        check_number("power", self.power, 0, low_open=True)
        check_number("smallest", self.smallest, 0, 1, low_open=True)
        for point in (0.0, 1.0):
            self.at(point)

    def at(self, t: float) -> tuple[int, int, float]:
        """How many overviews and inner views there are at t, and the share of these without colour."""
        wide, small = read_schedule(self.overview)(t), read_schedule(self.inner)(t)
        if wide + small <= 0:
            raise ValueError(f"overview and inner must not both be 0, as they are at t = {t:g}")
        overview = round(self.count * wide / (wide + small))
        return overview, self.count - overview, read_schedule(self.grey)(t)

    def views(self, x: Tensor, t: float, size: int, generator: torch.Generator) -> Tensor:
        """The views of pictures (B, C, H, W) at t: (count, B, C, size, size), differentiable in x."""
        overview, inner, grey = self.at(t)
        views = cutouts(
            x, overview, inner, size, generator, power=self.power, smallest=self.smallest, grey=grey, flip=self.flip
        )
        return augment(views, generator, self.flip) if self.augment else views
