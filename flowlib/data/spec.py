"""What is asked of data, and what a run keeps of them: plain numbers and names, enough to build and sample networks."""

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from flowlib.checks import check_count

if TYPE_CHECKING:
    from flowlib.data.dataset import Dataset


@dataclass(frozen=True)
class Spec:
    """What a run must know of its data, so that it can be built and sampled where there are none.

    Plain data: `Spec(**json.loads(json.dumps(dataclasses.asdict(spec)))) == spec`.

    Attributes:
        shape: of one sample, (C, H, W) or (D,).
        classes: the number of labels, 0 for none.
        levels: how many values a pixel may have, evenly spaced from -1 to 1; None for data that are no pixels.
        columns: of a batch; "x" comes first, and "label" is one of them where there are labels.
        names: of the labels, in order; () if they are called 0, 1, ...
        words: that occur in captions, sorted; () without captions.
        length: words of the longest caption and one for its start, at least 2; 0 without captions.

    Raises:
        ValueError: for a value that does not fit, naming it.

    Example:
        >>> import json
        >>> from dataclasses import asdict
        >>> from flowlib.data import Spec, load
        >>> spec = load("digits").spec
        >>> spec.shape, spec.classes, spec.levels
        ((1, 8, 8), 10, 17)
        >>> Spec(**json.loads(json.dumps(asdict(spec)))) == spec
        True
    """

    shape: tuple[int, ...]
    classes: int
    levels: int | None = None
    columns: tuple[str, ...] = ("x", "label")
    names: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    length: int = 0

    def __post_init__(self) -> None:
        for name, kind in (("shape", int), ("columns", str), ("names", str), ("words", str)):
            value = getattr(self, name)
            if not isinstance(value, list | tuple) or not all(isinstance(entry, kind) for entry in value):
                raise ValueError(f"{name} must be a sequence of {kind.__name__}, got {value!r}")
            object.__setattr__(self, name, tuple(value))  # JSON has only lists
        for size in self.shape:
            check_count("shape", size)
        check_count("classes", self.classes, 0)
        check_count("length", self.length, 0)
        if self.levels is not None:
            check_count("levels", self.levels, 2)
        if self.columns[:1] != ("x",) or len(set(self.columns)) < len(self.columns):
            raise ValueError(f"columns must be different names, 'x' the first, got {self.columns!r}")
        if ("label" in self.columns) != (self.classes > 0):
            raise ValueError(f"columns must have 'label' if there are classes; got {self.columns!r}, {self.classes}")
        if self.names and (len(self.names) != self.classes or len(set(self.names)) < len(self.names)):
            raise ValueError(f"names must be {self.classes} different names, one a label, or (); got {self.names!r}")

    def label(self, given: str) -> int:
        """The label that is called so: by its name, or where none has that name by its number.

        Raises:
            ValueError: if there is no such label, with the names that there are.

        Example:
            >>> from flowlib.data import Spec
            >>> pets = Spec((1, 8, 8), 2, names=("cats", "dogs"))
            >>> pets.label("dogs"), pets.label("0")
            (1, 0)
        """
        name = unicodedata.normalize("NFC", given)  # the spelling that the names of a folder's labels have
        if name in self.names:
            return self.names.index(name)
        if not self.classes:
            raise ValueError(f"label must not be given for data without labels, got {given!r}")
        number = f"in 0 ... {self.classes - 1}"
        try:
            label = int(given)
        except ValueError:
            label = None
        if label is not None and 0 <= label < self.classes:
            return label
        if self.names:
            raise ValueError(f"label must be one of {', '.join(self.names)}, or a number {number}; got {given!r}")
        raise ValueError(f"label must lie {number}, got {given if label is not None else repr(given)}")


class Data(Protocol):
    """A set of samples that is learned from, which lies in memory (`Dataset`) or has no end (`flowlib.data.Scenes`).

    Attributes: as in `Dataset`, and `count`: how many samples there are; None of a set without an end.

    Example:
        >>> from flowlib.data import Data, load
        >>> def describe(data: Data) -> str:
        ...     return f"{data.name}: {data.shape}, {data.count or 'no end'}"
        >>> describe(load("digits")), describe(load("scenes"))
        ('digits: (1, 8, 8), 1500', 'scenes: (3, 16, 16), no end')
    """

    @property
    def name(self) -> str: ...
    @property
    def count(self) -> int | None: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def spec(self) -> Spec: ...
    @property
    def classes(self) -> int: ...
    @property
    def levels(self) -> int | None: ...
    @property
    def device(self) -> torch.device: ...

    def batch(self, index: Tensor) -> dict[str, Any]:
        """The samples at `index` (B,), by columns."""
        ...

    def to(self, device: torch.device | str) -> "Data":
        """The same set, whose batches lie on `device`."""
        ...

    def finite(self) -> "Dataset":
        """The set itself; of one without an end, as many samples as stand for all of them."""
        ...
