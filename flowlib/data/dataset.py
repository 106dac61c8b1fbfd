"""A data set lives in tensors, one for each column: a batch of it is an index into them, not a loop over items."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from flowlib.checks import check_count, check_tensor
from flowlib.data.spec import Spec

SPLITS = ("train", "test")

Batch = Mapping[str, Any]  # "x": (B, ...), "label": (B,), "caption": a list of B strings, further tensors (B, ...)


class DataError(ValueError):
    """Data that is missing, damaged or cannot be stored; the message names the file and the ways out."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples, their labels and whatever else belongs to each, in columns.

    Attributes:
        images: (N, C, H, W) float in [-1, 1], or points (N, D) float of about unit scale; the column "x".
        labels: (N,) int64 in 0 ... classes - 1, the column "label"; None for none.
        classes: the number of labels; None, when it is made, for as many as `labels` needs.
        name: the name or the folder that it was loaded by.
        levels: how many values a pixel may have, evenly spaced from -1 to 1; None for data that are no pixels.
        captions: a text for each sample, the column "caption"; None for none.
        names: of the labels, in order; () if they are called 0, 1, ...
        words, length: of the captions, as in `Spec`; if not given, as its own captions have them. Those of a test part
            may have other words than were learned, so a set with two parts gives both the same.
        judge: what measures samples of it, a name in `flowlib.metrics.judges.JUDGES`; None for that of its shape.
        more: further columns by name, each a tensor (N, ...) or a sequence of N texts.

    Raises:
        ValueError: if the columns do not fit together, a label is out of range or there are fewer than two levels.

    Example:
        >>> import torch
        >>> from flowlib.data import Dataset
        >>> own = Dataset(torch.randn(100, 2), torch.arange(100) % 2, names=("even", "odd"))
        >>> own.classes, own.spec.names, own.batch(torch.tensor([3, -2]))["label"]
        (2, ('even', 'odd'), tensor([1, 0]))
    """

    images: Tensor
    labels: Tensor | None = None
    classes: int = None  # type: ignore[assignment]  # counted below, so that it is a number ever after
    name: str = "own"
    levels: int | None = None
    captions: Sequence[str] | None = field(default=None, kw_only=True)
    names: Sequence[str] = field(default=(), kw_only=True)
    words: Sequence[str] = field(default=(), kw_only=True)
    length: int = field(default=0, kw_only=True)
    judge: str | None = field(default=None, kw_only=True)
    more: Mapping[str, Tensor | Sequence[str]] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        count = len(check_tensor("images", self.images))
        if self.labels is None:
            if self.classes not in (None, 0):
                raise ValueError(f"classes must be 0 or None without labels, got {self.classes!r}")
            object.__setattr__(self, "classes", 0)
        else:
            object.__setattr__(self, "classes", _check_labels(self.labels, count, self.classes))
            object.__setattr__(self, "labels", self.labels.long())
        if self.captions is not None:
            if not isinstance(self.captions, list | tuple) or not all(isinstance(text, str) for text in self.captions):
                raise ValueError(f"captions must be strings, one a sample, got {_describe(self.captions)}")
            if len(self.captions) != count:
                raise ValueError(f"captions must be {count}, one a sample, got {len(self.captions)}")
            object.__setattr__(self, "captions", tuple(self.captions))
            if not self.words:
                words, length = words_of(self.captions)
                object.__setattr__(self, "words", words)
                object.__setattr__(self, "length", length)
        for name, column in self.more.items():
            texts = isinstance(column, list | tuple) and all(isinstance(text, str) for text in column)
            if name in ("x", "label", "caption") or not (texts or isinstance(column, Tensor)) or len(column) != count:
                raise ValueError(
                    f"more[{name!r}] must be a new column of shape ({count}, ...), got {_describe(column)}"
                )
        for name in ("names", "words"):
            object.__setattr__(self, name, getattr(self.spec, name))  # which checks what is left

    def __len__(self) -> int:
        return len(self.images)

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.images.device

    def finite(self) -> "Dataset":
        """The set itself, which has an end: see `Data`."""
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample: (C, H, W) or (D,)."""
        return tuple(self.images.shape[1:])

    @property
    def spec(self) -> Spec:
        """What a run must know of this set."""
        columns, names, words = tuple(self._columns()), tuple(self.names), tuple(self.words)
        return Spec(self.shape, self.classes, self.levels, columns, names, words, self.length)

    def batch(self, index: Tensor) -> dict[str, Any]:
        """Return the samples at `index`, each column as a new tensor (B, ...), or a list for the captions.

        Args:
            index: (B,) integers; as everywhere in Python, negative ones count from the end.

        Returns:
            "x", and those of "label", "caption" and the further columns that the set has.

        Raises:
            ValueError: if `index` is not a one-dimensional integer tensor or points outside the set.
        """
        check_index(index)
        try:
            return {
                name: column[index] if isinstance(column, Tensor) else [column[i] for i in index.tolist()]
                for name, column in self._columns().items()
            }
        except IndexError as error:  # on a CPU the indexing itself checks the range: no second pass over it
            raise ValueError(f"index must lie in 0 ... {len(self) - 1}: {error}") from None

    def to(self, device: torch.device | str) -> "Dataset":
        """Return the same set with all its tensors on `device`."""
        labels = None if self.labels is None else self.labels.to(device)
        more = {name: column.to(device) if isinstance(column, Tensor) else column for name, column in self.more.items()}
        return replace(self, images=self.images.to(device), labels=labels, more=more)

    def digest(self) -> str:
        """The SHA-256 of all columns and of the labels' names: the identity of a run on data that have no name.

        It depends on neither the device nor the machine. Where the columns were decoded from files, it is what was
        decoded that counts.
        """
        digest = hashlib.sha256(json.dumps(self.names).encode())
        for name, column in self._columns().items():
            if not isinstance(column, Tensor):
                digest.update(f"\n{name} {json.dumps(column)}".encode())
                continue
            digest.update(f"\n{name} {column.dtype} {tuple(column.shape)}\n".encode())
            digest.update(column.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _columns(self) -> dict[str, Tensor | Sequence[str]]:
        given = {"x": self.images, "label": self.labels, "caption": self.captions}
        return {name: column for name, column in given.items() if column is not None} | dict(self.more)


def check_index(index: object) -> Tensor:
    """Return `index` if it is an integer tensor of shape (B,); a ValueError if not."""
    if not isinstance(index, Tensor) or index.dtype not in (torch.int64, torch.int32) or index.ndim != 1:
        raise ValueError(f"index must be an integer tensor of shape (batch,), got {_describe(index)}")
    return index


def words_of(captions: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """The words that occur in captions, sorted, and the length of the longest: its words and one for its start."""
    texts = [caption.split() for caption in captions]
    return tuple(sorted({word for text in texts for word in text})), max(2, 1 + max(map(len, texts)))


def _check_labels(labels: object, count: int, classes: int | None) -> int:
    """How many labels there are, once they are found to fit `count` samples."""
    kinds = isinstance(labels, Tensor) and (labels.is_floating_point() or labels.is_complex())
    if not isinstance(labels, Tensor) or kinds or labels.dtype == torch.bool:
        raise ValueError(f"labels must be a tensor of integers, got {_describe(labels)}")
    if labels.shape != (count,):
        raise ValueError(f"labels must have shape ({count},), got {tuple(labels.shape)}")
    low, high = int(labels.long().min()), int(labels.long().max())
    classes = max(high + 1, 1) if classes is None else check_count("classes", classes)
    if low < 0 or high >= classes:
        raise ValueError(f"labels must lie in 0 ... {classes - 1}, got {low} ... {high}")
    return classes


def _describe(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
