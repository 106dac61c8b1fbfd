"""What a flow's guide may be: a label, words, or an image of which a part is known.

Each says what network reads it, what it is for data, and what to ask for when samples are drawn. A latent model may
have any of them: an image is then read through its encoder.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count, check_number, check_tensor
from flowlib.data import Dataset, Spec
from flowlib.nets import Concatenated
from flowlib.text import DIGITS, Vocabulary

Make = Callable[..., nn.Module]  # (shape, **arguments) -> a network


class LabelGuide:
    """y (B,), integers."""

    image = False

    def network(self, make: Make, shape: tuple[int, ...], spec: Spec) -> nn.Module:
        """The network of samples of `shape` that reads the guide, made by `make`."""
        if not spec.classes:
            raise ValueError("guided must be false, or guide another, for data without labels")
        return make(shape, classes=spec.classes)

    def of(self, batch: Mapping[str, Any], spec: Spec, generator: torch.Generator) -> Tensor:
        """The guides of a batch of data."""
        return batch["label"]

    def asked(self, spec: Spec, labels: Sequence[int], count: int | None, data: Callable[[], Dataset]) -> Tensor:
        """The guides to sample for `labels`, or all there are, in equal shares and in order; `data` loads test data."""
        return choose_labels(spec, labels, count)


class WordGuide(LabelGuide):
    """y (B, length), tokens: the words of a caption, or where the data have none the names of the labels."""

    def vocabulary(self, spec: Spec) -> Vocabulary:
        """The words that occur: of the captions, else the labels' names, else those of digits."""
        words = spec.words or spec.names or DIGITS[: spec.classes]
        return Vocabulary(tuple(words), spec.length or 2)

    def network(self, make: Make, shape: tuple[int, ...], spec: Spec) -> nn.Module:
        vocabulary = self.vocabulary(spec)
        return make(shape, classes=None, words=len(vocabulary), length=vocabulary.length)

    def of(self, batch: Mapping[str, Any], spec: Spec, generator: torch.Generator) -> Tensor:
        vocabulary = self.vocabulary(spec)
        if "caption" in batch:
            return vocabulary.encode(batch["caption"])
        return self._names(batch["label"].cpu(), spec, vocabulary).to(batch["label"].device)

    def asked(self, spec: Spec, labels: Sequence[int], count: int | None, data: Callable[[], Dataset]) -> Tensor:
        if spec.words:
            index = torch.arange(100 if count is None else check_count("count", count))
            test = data()
            return self.of(test.batch(index % len(test)), spec, torch.Generator())
        return self._names(choose_labels(spec, labels, count), spec, self.vocabulary(spec))

    def _names(self, labels: Tensor, spec: Spec, vocabulary: Vocabulary) -> Tensor:
        return vocabulary.encode(vocabulary.words)[labels]


class InpaintingGuide:
    """y (B, C + 1, H, W): an image with a square hole of half its side, and where it is known (Saharia et al. 2022)."""

    image = True

    def network(self, make: Make, shape: tuple[int, ...], spec: Spec) -> nn.Module:
        if len(spec.shape) != 3:
            raise ValueError(f"guide must be 'label' for data of shape {spec.shape}, which are no images")
        extra = shape[0] + 1
        return Concatenated(make((shape[0] + extra, *shape[1:]), classes=None), extra)

    def of(self, batch: Mapping[str, Any], spec: Spec, generator: torch.Generator) -> Tensor:
        x = batch["x"]
        return inpainting_guide(x, random_holes(len(x), spec.shape[1:], generator).to(x))

    def asked(self, spec: Spec, labels: Sequence[int], count: int | None, data: Callable[[], Dataset]) -> Tensor:
        test = data()
        index = torch.arange(40 if count is None else check_count("count", count)) % len(test)
        return self.of(test.batch(index), spec, torch.Generator().manual_seed(0))


class SuperresolutionGuide(InpaintingGuide):
    """y (B, C + 1, H, W): the means of blocks of a quarter of the side, and ones (Saharia et al. 2022)."""

    def of(self, batch: Mapping[str, Any], spec: Spec, generator: torch.Generator) -> Tensor:
        return superresolution_guide(batch["x"], 4)


GUIDES: dict[str, LabelGuide | InpaintingGuide] = {
    "label": LabelGuide(),
    "words": WordGuide(),
    "inpainting": InpaintingGuide(),
    "superresolution": SuperresolutionGuide(),
}


def choose_labels(spec: Spec, labels: Sequence[int], count: int | None) -> Tensor:
    """The labels (count,) to sample, in equal shares and in order.

    Args:
        spec: of the data.
        labels: those to take, or none for all there are.
        count: how many samples; None for 10 of each label, or 1,000 points of each.

    Raises:
        ValueError: for a label that the data do not have, or a count that is not positive.
    """
    for label in labels:
        if not 0 <= label < spec.classes:
            raise ValueError(f"label must lie in 0 ... {spec.classes - 1}, got {label}")
    chosen = torch.tensor(labels or range(spec.classes))
    each = 10 if len(spec.shape) == 3 else 1000
    count = check_count("count", each * len(chosen) if count is None else count)
    return chosen[torch.arange(count) * len(chosen) // count]


def guides_to_sample(
    name: str, spec: Spec, labels: Sequence[int], count: int | None, data: Callable[[], Dataset]
) -> Tensor:
    """What `LabelGuide.asked` of the guide of that name gives; a ValueError for labels that it would ignore."""
    guide = GUIDES[name]
    if guide.image or (name == "words" and spec.words):
        refuse_labels(labels, "test images" if guide.image else "captions of test images")
    return guide.asked(spec, labels, count, data)


def refuse_labels(labels: Sequence[int], guides: str) -> None:
    """A ValueError for labels where samples are guided by something else, which `guides` says."""
    if labels:
        raise ValueError(f"label must not be given: samples are guided by {guides}; got {labels[0]}")


def random_holes(
    count: int, size: tuple[int, ...], generator: torch.Generator | None = None, share: float = 0.5
) -> Tensor:
    """Masks (count, 1, H, W): 0 in a hole of that share of each side at a random place, 1 elsewhere."""
    check_number("share", share, 0, 1)
    inside = []
    for side in size:
        hole = int(share * side)
        corner = torch.randint(0, side - hole + 1, (count, 1), generator=generator)
        inside.append((torch.arange(side) >= corner) & (torch.arange(side) < corner + hole))  # (count, side)
    return 1 - (inside[0][:, None, :, None] & inside[1][:, None, None, :]).float()


def inpainting_guide(x: Tensor, known: Tensor) -> Tensor:
    """What is left of images, and where: (B, C, H, W), (B, 1, H, W) -> (B, C + 1, H, W).

    Args:
        x: images in [-1, 1]; what is unknown has no effect.
        known: 1 where a pixel is known, 0 where it is to be painted.

    Raises:
        ValueError: for shapes that do not fit, or a mask that is not 0 or 1.
    """
    check_tensor("x", x)
    check_tensor("known", known)
    if x.ndim != 4 or known.shape != (len(x), 1, *x.shape[2:]):
        raise ValueError(f"known must have shape (batch, 1, H, W) of x, {tuple(x.shape)}, got {tuple(known.shape)}")
    if not bool(((known == 0) | (known == 1)).all()):
        raise ValueError("known must be 1 where a pixel is known and 0 elsewhere")
    return torch.cat([x * known, known], dim=1)


def superresolution_guide(x: Tensor, factor: int) -> Tensor:
    """A coarse copy at full size: means over factor x factor pixels, repeated: (B, C, H, W) -> (B, C + 1, H, W).

    Args:
        x: images in [-1, 1], of which only these means have an effect.
        factor: >= 1, divides H and W.

    Raises:
        ValueError: for images or a factor that does not fit.
    """
    check_tensor("x", x)
    check_count("factor", factor)
    if x.ndim != 4 or x.shape[2] % factor or x.shape[3] % factor:
        raise ValueError(f"x must have shape (batch, C, H, W), multiples of {factor}, got {tuple(x.shape)}")
    coarse = F.interpolate(F.avg_pool2d(x, factor), scale_factor=factor, mode="nearest")
    return torch.cat([coarse, torch.ones_like(x[:, :1])], dim=1)
