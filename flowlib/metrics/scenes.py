"""The judge of scenes: what is in an image, read by a network of its own, and whether it is what a caption asks for.

    read_scenes(images).objects        # (B, 2, 4) digit, colour, size, place
    score_captions(images, texts)      # which attributes are right

What it reads right on real scenes, blurred and noised ones stands beside its weights: `flowlib zoo judge`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from flowlib.checks import check_tensor
from flowlib.data import Dataset
from flowlib.metrics.features import frechet_distance, precision_recall
from flowlib.metrics.reader import ATTRIBUTES, FEATURES, SceneReader, load_reader, read_features
from flowlib.text.captions import NAMES, Description, Thing, read_caption, relation

SCORED = ("digit", "colour", "size", "place", "relation", "background", "count")  # what a caption may name


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

    Example:
        >>> import torch
        >>> from flowlib.data import load
        >>> from flowlib.metrics import read_scenes
        >>> scenes = load("scenes", "test").batch(torch.arange(5))
        >>> read = read_scenes(scenes["x"])
        >>> read.objects.shape, read.background.equal(scenes["background"])  # digit, colour, size and place of two
        (torch.Size([5, 2, 4]), True)
    """
    check_tensor("images", images)
    reader = load_reader(images.shape[-1]) if reader is None else reader
    weight = reader.heads.weight
    with torch.no_grad():
        parts = [reader(part.to(weight)) for part in images.split(batch_size)]
    out = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    sure, place = out["there"].topk(2, dim=1)  # (B, 2)
    read = [out[name].argmax(2).gather(1, place) for name in ATTRIBUTES]
    objects = torch.stack([*read, place], dim=2)
    objects[sure <= 0] = -1
    return Reading(objects, out["background"].argmax(1))


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


def compare_captions(
    images: Tensor, texts: Sequence[str], reader: SceneReader | None = None, *, batch_size: int = 500
) -> list[dict[str, bool]]:
    """For each image what `compare` says of it and its caption.

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
    return rows


def score_captions(
    images: Tensor, texts: Sequence[str], reader: SceneReader | None = None, *, batch_size: int = 500
) -> dict[str, float]:
    """The share of images that are right in each attribute, of those whose caption names it, and in "all" it names.

    "all" also asks for as many digits as the caption has. Arguments and errors as in `compare_captions`.

    Example:
        >>> import torch
        >>> from flowlib.data import load
        >>> from flowlib.metrics import score_captions
        >>> scenes = load("scenes", "test").batch(torch.arange(100))
        >>> score_captions(scenes["x"], scenes["caption"])["all"] > 0.9
        True
        >>> score_captions(scenes["x"], ["a red seven"] * 100)["all"] < 0.1
        True
    """
    return shares(compare_captions(images, texts, reader, batch_size=batch_size))


def shares(rows: Sequence[Mapping[str, bool]]) -> dict[str, float]:
    """How often each attribute is right, of the rows that have it."""
    found = {name: [row[name] for row in rows if name in row] for name in (*SCORED, "all")}
    return {name: sum(values) / len(values) for name, values in found.items() if values}


def judge_by_scene_reader(train: Dataset, test: Dataset) -> Callable[[Tensor, Tensor | None], dict[str, float | str]]:
    """The judge of scenes: distances in the features of the network that reads them, and how many digits it finds.

    Raises:
        ValueError: of samples of another shape, not finite, or too few for a covariance.
    """
    reader = load_reader(train.shape[-1])
    real = read_features(test.images, reader)

    def judge(x: Tensor, y: Tensor | None) -> dict[str, float | str]:
        if len(check_tensor("samples", x)) <= FEATURES:
            raise ValueError(f"samples must be more than {FEATURES} to be measured beside real ones, got {len(x)}")
        x = x.clamp(-1, 1)
        features = read_features(x, reader)
        precision, recall = precision_recall(real, features[: len(real)])
        there = (read_scenes(x, reader).objects[..., 0] >= 0).sum(1)
        found = {f"{count} found": float((there == count).double().mean()) for count in (0, 1, 2)}
        return {"frechet": frechet_distance(features, real), "precision": precision, "recall": recall, **found}

    return judge
