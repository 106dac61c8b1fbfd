"""How time and guide enter a network: as one vector that modulates every block.

Example:
    >>> import torch
    >>> from flowlib.nets import Condition, LabelEmbedding, TimeEmbedding, TimeShift
    >>> t, condition = torch.tensor([0.2, 0.7]), Condition(dim=16, classes=10)
    >>> condition(t, None).equal(condition(t, torch.tensor([10, 10])))  # without a guide, the null label
    True
    >>> TimeEmbedding(16)(t).shape, LabelEmbedding(classes=10, dim=16)(torch.tensor([3, 10])).shape
    (torch.Size([2, 16]), torch.Size([2, 16]))
    >>> TimeShift(16)(t).count_nonzero()  # at first it adds nothing
    tensor(0)
"""

import math
from typing import ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def position_table(rows: int, columns: int, dim: int) -> Tensor:
    """Where each patch lies, as sines and cosines of its column and of its row: (rows columns, dim), float32.

    A quarter of `dim` each, at frequencies from 1 down to 1/10000 radians a patch (Vaswani et al. 2017, section 3.5).
    """
    frequency = torch.exp(torch.arange(dim // 4) * (-math.log(10000) / (dim // 4)))  # (dim / 4,)
    row = torch.arange(rows)[:, None, None] * frequency
    column = torch.arange(columns)[None, :, None] * frequency
    parts = [column.sin(), column.cos(), row.sin(), row.cos()]
    return torch.cat([part.expand(rows, columns, -1) for part in parts], dim=2).reshape(rows * columns, dim)


class TimeEmbedding(nn.Module):
    """Sines and cosines of t at geometric frequencies, then a two-layer network (Ho et al. 2020, appendix B).

    (B,) in [0, 1] -> (B, dim). The slowest frequency turns once over [0, 1], the fastest `fastest` times.
    """

    frequencies: Tensor
    edges: ClassVar[tuple[str, ...]] = ("layers",)  # what Muon leaves to AdamW

    def __init__(self, dim: int, features: int = 64, fastest: float = 100.0) -> None:
        super().__init__()
        check_count("dim", dim)
        check_count("features", features, 2)
        if features % 2:
            raise ValueError(f"features must be even, a sine and a cosine each, got {features}")
        exponent = torch.linspace(0, math.log(fastest), features // 2)
        self.register_buffer("frequencies", 2 * math.pi * torch.exp(exponent), persistent=False)
        self.layers = nn.Sequential(nn.Linear(features, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        angle = t[:, None] * self.frequencies  # (B, features / 2)
        return self.layers(torch.cat([angle.sin(), angle.cos()], dim=1))


class LabelEmbedding(nn.Embedding):
    """A table with a vector for each of `classes` labels and one more, at index `null`, for the null guide.

    (B,) integers 0 ... classes -> (B, dim).
    """

    edges: ClassVar[tuple[str, ...]] = ("weight",)  # what Muon leaves to AdamW

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__(check_count("classes", classes) + 1, dim)
        self.null = classes

    def forward(self, y: Tensor) -> Tensor:
        return super().forward(y.long())


class Condition(nn.Module):
    """Time and guide as one vector: (B,), (B,) -> (B, dim).

    With `classes = None` there is no guide, and any y but None is a ValueError.
    """

    def __init__(self, dim: int, classes: int | None) -> None:
        super().__init__()
        self.time = TimeEmbedding(dim)
        self.label = None if classes is None else LabelEmbedding(classes, dim)

    @property
    def null(self) -> int | None:
        """The null label, or None for a network without a guide."""
        return None if self.label is None else self.label.null

    def forward(self, t: Tensor, y: Tensor | None) -> Tensor:
        if self.label is None:
            if y is not None:
                raise ValueError("y was given, but this network takes no guide")
            return self.time(t)
        if y is None:
            y = torch.full(t.shape, self.label.null, device=t.device)
        return self.time(t) + self.label(y)


def zero_init(layer: Layer) -> Layer:
    """Set a layer's weights and bias to zero, so that what it feeds starts as the identity or as silence."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class TimeShift(nn.Module):
    """What an encoder of noised images adds to its features: (B,) in [0, 1] -> (B, dim); at first 0 at all times.

    So an encoder of clean images, t = 1, is where one of noised images can start from.
    """

    edges: ClassVar[tuple[str, ...]] = ("shift",)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.time = TimeEmbedding(dim)
        self.shift = zero_init(nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        return self.shift(F.silu(self.time(t)))


def add_time(h: Tensor, shift: TimeShift | None, t: Tensor | None) -> Tensor:
    """Tokens (B, N, dim) or pixels (B, dim, H, W) with the shift of times t (B,); of None, clean images, that of t = 1.

    Without a shift t must be None, else it is a ValueError.
    """
    if shift is None:
        if t is not None:
            raise ValueError("t must be None: the encoder was made without timed=True")
        return h
    shifts = shift(h.new_ones(len(h)) if t is None else t)  # (B, dim)
    return h + (shifts[:, None] if h.ndim == 3 else shifts[:, :, None, None])
