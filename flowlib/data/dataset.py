"""A data set is two tensors: a batch of it is an index into them, not a loop over items."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowlib.checks import check_count, check_tensor

SPLITS = ("train", "test")


class DataError(ValueError):
    """Data that is missing, damaged or cannot be stored; the message names the file and the ways out."""


@dataclass(frozen=True)
class Spec:
    shape: tuple[int, ...]
    classes: int
    levels: int | None = None
    columns: tuple[str, ...] = ("x", "label")
    names: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    length: int = 0

    def __post_init__(self) -> None:
        for n in ("shape", "columns", "names", "words"):
            object.__setattr__(self, n, tuple(getattr(self, n)))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples and their labels, each in one tensor.

    Attributes:
        images: (N, C, H, W) float in [-1, 1], or points (N, 2) float of about unit scale.
        labels: (N,) int64 in 0 ... classes - 1.
        classes: the number of labels.
        name: the name it was loaded by.
        levels: how many values a pixel may have, evenly spaced from -1 to 1; None for data that are no pixels.

    Raises:
        ValueError: if the tensors do not fit together, a label is out of range or there are fewer than two levels.
    """

    images: Tensor
    labels: Tensor
    classes: int
    name: str
    levels: int | None = None

    def __post_init__(self) -> None:
        check_tensor("images", self.images)
        check_count("classes", self.classes)
        if self.levels is not None:
            check_count("levels", self.levels, 2)
        if not isinstance(self.labels, Tensor) or self.labels.dtype != torch.int64:
            raise ValueError(f"labels must be an int64 tensor, got {_describe(self.labels)}")
        if self.labels.shape != self.images.shape[:1]:
            raise ValueError(f"labels must have shape ({len(self.images)},), got {tuple(self.labels.shape)}")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= self.classes:
            raise ValueError(f"labels must lie in 0 ... {self.classes - 1}, got {low} ... {high}")

    @property
    def spec(self) -> Spec:
        return Spec(self.shape, self.classes, self.levels)

    def digest(self) -> str:
        return "x"

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample: (C, H, W) or (2,)."""
        return tuple(self.images.shape[1:])

    def batch(self, index: Tensor) -> dict[str, Tensor]:
        """Return the samples (B, ...) and labels (B,) at `index`, as new tensors.

        Args:
            index: (B,) integers; as everywhere in Python, negative ones count from the end.

        Raises:
            ValueError: if `index` is not a one-dimensional integer tensor or points outside the set.
        """
        if not isinstance(index, Tensor) or index.dtype not in (torch.int64, torch.int32) or index.ndim != 1:
            raise ValueError(f"index must be an integer tensor of shape (batch,), got {_describe(index)}")
        try:
            return {"x": self.images[index], "label": self.labels[index]}
        except IndexError as error:  # on a CPU the indexing itself checks the range: no second pass over it
            raise ValueError(f"index must lie in 0 ... {len(self) - 1}: {error}") from None

    def to(self, device: torch.device | str) -> "Dataset":
        """Return the same set with both tensors on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


def _describe(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
