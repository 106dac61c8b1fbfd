"""The judge of scenes: what is in an image, read by a network of its own, and whether it is what a caption asks for.

    read_scenes(images).objects        # (B, 2, 4) digit, colour, size, place
    score_captions(images, texts)      # which attributes are right

What it reads right on real scenes, blurred and noised ones stands beside its weights: `flowlib zoo judge`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_tensor
from flowlib.text.captions import BACKGROUNDS, NAMES, PLACES, Description, Thing, read_caption, relation
from flowlib.weights import read_weights

FEATURES = 192
WEIGHTS = {16: "judge", 32: "judge-32"}
ATTRIBUTES = {name: len(values) for name, values in NAMES.items() if name != "place"}


class SceneReader(nn.Module):
    """A detector of digits in scenes: (B, 3, size, size) in [-1, 1] -> logits by name.

    For each of nine places whether there is a digit, which, of what colour and size; and the background. The 32-pixel
    reader halves its image first; from there on both are the same.

    Args:
        size: of the images, 16 or 32.

    Raises:
        ValueError: for another size.
    """

    edges: ClassVar[tuple[str, ...]] = ("stem", "heads")

    def __init__(self, size: int = 16) -> None:
        super().__init__()
        if size not in WEIGHTS:
            raise ValueError(f"size must be 16 or 32, got {size!r}")
        self.size = size
        self.stem = nn.Conv2d(3, 48, 3, padding=1) if size == 16 else nn.Conv2d(3, 48, 4, stride=2, padding=1)
        self.blocks = nn.ModuleList([_Block(48), _Block(96), _Block(128)])
        self.downs = nn.ModuleList([nn.Conv2d(48, 96, 3, 2, 1), nn.Conv2d(96, 128, 3, 2, 1)])
        self.last = nn.Linear(128 * 4 * 4, FEATURES)
        self.heads = nn.Linear(FEATURES, len(PLACES) * (1 + sum(ATTRIBUTES.values())) + len(BACKGROUNDS))

    def features(self, x: Tensor) -> Tensor:
        """What the heads read, (B, 192): in it, sets of images are compared (`frechet_distance`)."""
        shape = (3, self.size, self.size)
        if tuple(x.shape[1:]) != shape:
            raise ValueError(f"images must have shape (batch, {', '.join(map(str, shape))}), got {tuple(x.shape)}")
        h = self.blocks[0](self.stem(x))  # (B, 48, 16, 16)
        for down, block in zip(self.downs, self.blocks[1:], strict=True):
            h = block(down(F.gelu(h)))  # (B, 96, 8, 8), (B, 128, 4, 4)
        return F.gelu(self.last(F.gelu(h).flatten(1)))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits: "there" (B, 9), "digit" (B, 9, 10), "colour" (B, 9, 8), "size" (B, 9, 2), "background" (B, 3)."""
        out = self.heads(self.features(x)).float()
        places, background = out[:, : -len(BACKGROUNDS)].unflatten(1, (len(PLACES), -1)), out[:, -len(BACKGROUNDS) :]
        there, *rest = places.split([1, *ATTRIBUTES.values()], dim=2)
        return {"there": there[..., 0], **dict(zip(ATTRIBUTES, rest, strict=True)), "background": background}


class _Block(nn.Module):
    """x + conv(gelu(norm(conv(gelu(norm(x)))))), at one size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.gelu(self.norm1(x)))
        return x + self.conv2(F.gelu(self.norm2(h)))


@dataclass(frozen=True)
class Reading:
    """What was read in images.

    Attributes:
        objects: (B, 2, 4) int64: digit, colour, size and place; the surest first, -1 where there is none.
        background: (B,) int64.
    """

    objects: Tensor
    background: Tensor


def read_scenes(images: Tensor, reader: SceneReader | None = None, *, batch_size: int = 500) -> Reading:
    """Read what is in images: at most two digits, those that are there more likely than not.

    Args:
        images: (B, 3, 16, 16) or (B, 3, 32, 32) in [-1, 1].
        reader: by default the one that comes with the package for that size.
        batch_size: images at a time.

    Raises:
        ValueError: for images of another shape, empty or not finite.
    """
    reader = load_reader(check_tensor("images", images).shape[-1]) if reader is None else reader
    weight = reader.heads.weight
    with torch.no_grad():
        parts = [reader(part.to(weight)) for part in images.split(batch_size)]
    out = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    sure, place = out["there"].topk(2, dim=1)  # (B, 2)
    read = [out[name].argmax(2).gather(1, place) for name in ATTRIBUTES]
    objects = torch.stack([*read, place], dim=2)
    objects[sure <= 0] = -1
    return Reading(objects, out["background"].argmax(1))


@cache
def load_reader(size: int = 16) -> SceneReader:
    """The reader that comes with the package, on the CPU, frozen.

    Raises:
        ValueError: for a size that there is none for; FileNotFoundError, ValueError: as `flowlib.weights.read_weights`.
    """
    reader = SceneReader(size)
    reader.load_state_dict({name: value.float() for name, value in read_weights(WEIGHTS[size]).items()})
    return reader.eval().requires_grad_(False)


def compare(things: Sequence[Thing], background: int, asked: Description) -> dict[str, bool]:
    """Which of the attributes that a caption names are right in a scene, "count" (how many digits) and "all".

    Where two digits are asked for, they are paired with the scene's in the way that makes most attributes right.
    """
    best: dict[str, bool] = {}
    padded = [*things, *[Thing()] * (len(asked.things) - len(things))]
    for order in permutations(padded, len(asked.things)):
        right = {"count": len(things) == len(asked.things)}
        for thing, wanted in zip(order, asked.things, strict=True):
            for name in NAMES:
                if getattr(wanted, name) is not None:
                    same = getattr(thing, name) == getattr(wanted, name)
                    right[name] = right.get(name, True) and same
        if asked.relation is not None:
            places = [thing.place for thing in order]
            right["relation"] = None not in places and places[0] != places[1] and relation(*places) == asked.relation  # type: ignore[arg-type]
        if not best or sum(right.values()) > sum(best.values()):
            best = right
    if asked.background is not None:
        best["background"] = background == asked.background
    return {**best, "all": all(best.values())}


def score_captions(
    images: Tensor, texts: Sequence[str], reader: SceneReader | None = None, *, batch_size: int = 500
) -> dict[str, float]:
    """The share of images that are right in each attribute, of those whose caption names it, and in "all" it names.

    "all" also asks for as many digits as the caption has.

    Args:
        images, reader, batch_size: as in `read_scenes`.
        texts: a caption for each image, as `flowlib.text.captions.read_caption` reads it.

    Raises:
        ValueError: for images or texts that do not fit.
    """
    if len(texts) != len(images):
        raise ValueError(f"texts must be {len(images)}, one an image, got {len(texts)}")
    asked = [read_caption(text) for text in texts]
    reading = read_scenes(images, reader, batch_size=batch_size)
    rows = []
    for objects, background, wanted in zip(reading.objects.tolist(), reading.background.tolist(), asked, strict=True):
        rows.append(compare([Thing(*row) for row in objects if row[0] >= 0], background, wanted))
    names = ("digit", "colour", "size", "place", "relation", "background", "count", "all")
    found = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items() if values}
