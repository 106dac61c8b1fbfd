"""Scenes: colour images of one or two handwritten digits, with captions, and with all that is in them known exactly.

Each is a function of a seed and its index, so there is no end of them. A digit has a colour, one of two sizes and a
place in three rows of three; of two digits one is in front. Training and test scenes share no image of a digit. Eight
pairs of colour and digit occur in neither, only in the split "compositions", in which each scene has one of them.
"""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowlib.checks import check_choice, check_count
from flowlib.data import digits, mnist
from flowlib.data.annotations import boxes_of, edges_of, keypoints_of
from flowlib.data.counter import uniforms
from flowlib.data.dataset import SPLITS, Dataset, check_index
from flowlib.data.glyphs import Glyphs
from flowlib.data.layouts import objects_of, pick, squares
from flowlib.data.spec import Spec
from flowlib.text import captions
from flowlib.text.captions import COLOURS, DIGITS, PLACES, Thing

SOURCES = {"digits": digits.raw, "mnist": mnist.raw}
SETS = {
    "scenes": (16, "digits"),
    "scenes-mnist": (16, "mnist"),
    "scenes-32": (32, "digits"),
    "scenes-32-mnist": (32, "mnist"),
}
STOCK = {"train": 10_000, "test": 2_000, "compositions": 2_000}  # scenes that stand for all where a number is needed
INKS = (
    (0.85, 0.10, 0.10), (0.95, 0.55, 0.05), (0.95, 0.90, 0.15), (0.10, 0.65, 0.20),
    (0.10, 0.80, 0.85), (0.10, 0.20, 0.85), (0.50, 0.15, 0.70), (0.95, 0.50, 0.75),
)  # fmt: skip
PAPERS = (0.05, 0.5, 0.95)
_CHANCES = 48  # random numbers of a scene


@dataclass(frozen=True, eq=False)
class Scenes:
    """An endless set of scenes.

    Attributes:
        size: of the images, 16 or 32 pixels.
        source: of the digits, "digits" (bundled) or "mnist".
        split: "train", "test" or "compositions" (of test digits).
        seed: of all scenes.
        device: where batches lie.

    Raises:
        ValueError: for a value that does not fit, naming it; a DataError if MNIST cannot be had.
    """

    size: int = 16
    source: str = "digits"
    split: str = "train"
    seed: int = 0
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    classes = 0
    levels = 256
    count = None
    judge = "scenes"

    def __post_init__(self) -> None:
        if self.size not in (16, 32):
            raise ValueError(f"size must be 16 or 32, got {self.size!r}")
        check_choice("source", self.source, SOURCES)
        check_choice("split", self.split, STOCK)
        check_count("seed", self.seed, 0)
        self._glyphs  # noqa: B018  # which fails now, not in the first batch, if there are none

    @property
    def name(self) -> str:
        """As which `flowlib.data.load` knows the set."""
        return next(name for name, settings in SETS.items() if settings == (self.size, self.source))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image."""
        return 3, self.size, self.size

    @property
    def spec(self) -> Spec:
        """What a run must know of this set: its words are those of descriptive captions."""
        columns = ("x", "caption", *captions.KINDS[:2], *_EXACT)
        words, length = _words()
        return Spec(self.shape, 0, self.levels, columns, (), words, length)

    def to(self, device: torch.device | str) -> "Scenes":
        """The same set, whose batches lie on `device`."""
        return replace(self, device=torch.device(device))

    def first(self, count: int) -> Dataset:
        """The first scenes, as a set that lies in memory, with all columns."""
        batch = self.batch(torch.arange(check_count("count", count)))
        more = {name: batch[name] for name in (*captions.KINDS[:2], *_EXACT)}
        words, length = _words()
        return Dataset(
            batch["x"], name=self.name, levels=self.levels, captions=batch["caption"], words=words, length=length,
            judge=self.judge, more=more,
        )  # fmt: skip

    def finite(self) -> Dataset:
        """As many scenes as stand for all of them where a number is needed, such as in a report: see `STOCK`."""
        return self.first(STOCK[self.split])

    def batch(self, index: Tensor) -> dict[str, Any]:
        """The scenes at `index` (B,), integers >= 0.

        Returns:
            "x" (B, 3, H, W) float32 in [-1, 1];
            "caption", "noisy", "short": lists of B texts, the first descriptive;
            "objects" (B, 2, 4) int64: digit, colour, size and place of each, -1 where there is none;
            "background" (B,) int64;
            "masks" (B, 2, H, W) bool: the strokes of each that can be seen;
            "visible" (B, 2) float32: which share of its strokes that is, 0 where there is none;
            "boxes" (B, 2, 4), "keypoints" (B, 2, 5, 2) float32: around all strokes of each, hidden ones too;
            "edges" (B, 1, H, W) bool: of what can be seen; all three as in `flowlib.data.annotations`.

        Raises:
            ValueError: for an index that does not fit.
        """
        if bool((check_index(index) < 0).any()):
            raise ValueError("index must not be negative: a set without an end has no last scene")
        chance = uniforms(self.seed, index.cpu().numpy(), _CHANCES)
        objects, front = objects_of(chance[:, :3], chance[:, 4:6], self.split == "compositions")
        alpha = self._strokes(objects, chance)
        batch: dict[str, Any] = {"x": self._paint(objects, alpha, front, chance)}
        whole = alpha >= 0.5
        masks = whole.clone()
        for behind in (0, 1):
            hidden = whole[:, 1 - behind] & torch.from_numpy(front != behind)[:, None, None]
            masks[:, behind] &= ~hidden
        boxes, background = boxes_of(whole), pick(chance[:, 3], len(PAPERS))
        batch |= {"objects": torch.from_numpy(objects), "background": torch.from_numpy(background)}
        batch |= {"masks": masks, "visible": masks.sum((2, 3)) / whole.sum((2, 3)).clamp(min=1)}
        batch |= {"boxes": boxes, "edges": edges_of(masks), "keypoints": keypoints_of(boxes)}
        return {name: column.to(self.device) for name, column in batch.items()} | _captions(
            objects, background, chance[:, 24:40]
        )

    @cached_property
    def _glyphs(self) -> Glyphs:
        return _bank(self.source, "train" if self.split == "train" else "test")

    def _strokes(self, objects: np.ndarray, chance: np.ndarray) -> Tensor:
        """How much ink of each object there is at each pixel: (B, 2, H, W) in [0, 1]."""
        corner, height = squares(objects, chance[:, 6:10], self.size)
        stretch = 0.85 + 0.3 * chance[:, 10:12]
        alpha = self._glyphs.draw(objects[..., 0].clip(0), chance[:, 12:14], corner, height, stretch, self.size)
        return alpha * torch.from_numpy(objects[:, :, :1, None] >= 0)

    def _paint(self, objects: np.ndarray, alpha: Tensor, front: np.ndarray, chance: np.ndarray) -> Tensor:
        ink = np.array(INKS)[objects[..., 1].clip(0)] + 0.12 * (chance[:, 14:20].reshape(-1, 2, 3) - 0.5)
        paper = np.array(PAPERS)[pick(chance[:, 3], len(PAPERS))] + 0.08 * (chance[:, 20] - 0.5)
        x = torch.from_numpy(paper).float()[:, None, None, None].expand(-1, *self.shape)
        rows = torch.arange(len(front))
        for which in (torch.from_numpy(1 - front), torch.from_numpy(front)):  # the one behind first
            cover, colour = alpha[rows, which][:, None], torch.from_numpy(ink).float()[rows, which][..., None, None]
            x = x + cover * (colour - x)
        return x.mul(255).round().clamp(0, 255).div(127.5).sub(1)


def load(split: str = "train", size: int = 16, source: str = "digits", seed: int = 0) -> Scenes:
    """The endless set of scenes; as in `Scenes`, which says what may go wrong."""
    return Scenes(size, source, split, seed)


_EXACT = ("objects", "background", "masks", "visible", "boxes", "edges", "keypoints")


@cache
def _bank(source: str, split: str) -> Glyphs:
    return Glyphs(*SOURCES[source](check_choice("split", split, SPLITS)))


@cache
def _words() -> tuple[tuple[str, ...], int]:
    """All words of descriptive captions, and the length of the longest."""
    names = [*COLOURS, *captions.SIZES, *captions.BACKGROUNDS, *DIGITS, "a", "at", "the", "on", "of"]
    names += [f"{digit}," for digit in DIGITS] + " ".join((*PLACES, *captions.RELATIONS)).split()
    names += [f"{place.split()[-1]}," for place in PLACES]
    return tuple(sorted(set(names))), 1 + len(captions.descriptive([Thing(0, 0, 0, 2), Thing(0, 0, 0, 0)], 0).split())


def _captions(objects: np.ndarray, background: np.ndarray, chance: np.ndarray) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"caption": [], "noisy": [], "short": []}
    for row, paper, chances in zip(objects.tolist(), background.tolist(), chance.tolist(), strict=True):
        things = [Thing(*thing) for thing in row if thing[0] >= 0]
        found["caption"].append(captions.descriptive(things, paper))
        found["noisy"].append(captions.noisy(things, paper, chances))
        found["short"].append(captions.short(things))
    return found
