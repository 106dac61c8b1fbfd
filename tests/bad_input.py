"""What is bad, by sort of argument: strategies of hypothesis, and the networks that are given it."""

import math
from typing import Any

import numpy as np
import torch
from examples import KINDS
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor, nn

from flowlib import solvers
from flowlib.fields import MixtureField
from flowlib.paths import GaussianPath

B = 4  # samples, of
D = 2  # components, with
CLASSES = 3  # labels, as many as `mixture()` has


class Net(nn.Module):
    """A guided network of points and images alike."""

    null = CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.scale * torch.tanh(x) + (y + t).reshape(-1, *[1] * (x.ndim - 1))


class Plain(Net):
    """The same without a guide."""

    null = None  # type: ignore[assignment]

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return self.scale * torch.tanh(x)


OBJECTS = st.sampled_from([None, "x", [1.0, 2.0], {}, 1.5, np.ones((B, D)), object()])
OTHER_DTYPES = st.sampled_from([torch.int64, torch.uint8, torch.bool, torch.complex64])
SHAPES = st.sampled_from([(), (B,), (0, D), (B, 0), (0,)])
NOT_FINITE = st.sampled_from([math.nan, math.inf, -math.inf])
BAD_COUNTS = st.one_of(st.integers(max_value=0), st.floats(), st.booleans(), st.sampled_from([None, "3", [3], 2 + 0j]))
NO_NUMBERS = st.one_of(NOT_FINITE, st.booleans(), st.sampled_from([None, "1", [1.0], 1j, torch.ones(2)]))
OUTSIDE = st.one_of(st.floats(max_value=-1e-6), st.floats(min_value=1 + 1e-6), NOT_FINITE)


def given_at_all(value: object) -> bool:
    return value is not None  # which for some arguments stands for the default


def numbers_outside(low: float = -math.inf, high: float = math.inf) -> st.SearchStrategy[Any]:
    """Anything but a number strictly between `low` and `high`."""
    parts = [NO_NUMBERS]
    if low > -math.inf:
        parts.append(st.floats(max_value=low, exclude_max=True))
    if high < math.inf:
        parts.append(st.floats(min_value=high, exclude_min=True))
    return st.one_of(parts)


def names_other_than(*good: str) -> st.SearchStrategy[Any]:
    return st.one_of(st.text(max_size=12).filter(lambda name: name not in good), st.sampled_from([None, 3]))


def spoilt(index: int, value: float) -> Tensor:
    x = torch.zeros(B * D, dtype=torch.float64)
    x[index] = value
    return x.reshape(B, D)


@st.composite
def bad_samples(draw: st.DrawFn, finite: bool = True, tail: bool = True) -> object:
    """No tensor, no float, no batch, empty; of another shape where `tail`, NaN or infinite where `finite`."""
    sorts = [
        OBJECTS,
        OTHER_DTYPES.map(lambda dtype: torch.ones(B, D).to(dtype)),
        SHAPES.map(lambda shape: torch.zeros(shape, dtype=torch.float64)),
    ]
    if finite:
        sorts.append(st.tuples(st.integers(0, B * D - 1), NOT_FINITE).map(lambda spot: spoilt(*spot)))
    if tail:
        sorts.append(st.sampled_from([(B, D + 1), (B, 1), (B, 1, D), (B, D, 1)]).map(lambda s: torch.ones(s).double()))
    return draw(st.one_of(sorts))


@st.composite
def bad_times(draw: st.DrawFn) -> object:
    """Out of [0, 1], in one place at least, of another shape, or no time at all."""
    if draw(st.booleans()):
        return draw(st.one_of(OUTSIDE, st.sampled_from([None, "0.5", {}, [0.1, 0.2], object()])))
    if draw(st.booleans()):
        return torch.full(draw(st.sampled_from([(B + 1,), (B, 1), (1, B), (1,), (0,)])), 0.5)
    t = torch.full((B,), 0.5, dtype=torch.float64)
    t[draw(st.integers(0, B - 1))] = draw(OUTSIDE)
    return t


@st.composite
def bad_labels(draw: st.DrawFn) -> object:
    """Out of 0 ... CLASSES, in one place at least, no integers, not one a sample, or on another device."""
    if draw(st.booleans()):
        y = torch.arange(B) % CLASSES
        far = st.integers(-(2**40), 2**40).filter(lambda i: not 0 <= i <= CLASSES)
        y[draw(st.integers(0, B - 1))] = draw(st.one_of(st.sampled_from([-1, CLASSES + 1]), far))
        return y
    good = torch.arange(B) % CLASSES
    tensors = [good.double(), good.bool(), good.to(torch.complex64), good[:-1], good[:0], good[:, None], good[0]]
    others = [good.to("meta"), good.tolist(), 1, "seven", np.arange(B), torch.tensor(math.nan)]
    return draw(st.one_of(st.sampled_from(tensors), st.sampled_from(others)))


@st.composite
def bad_grids(draw: st.DrawFn) -> object:
    """Not increasing, out of [0, 1], of another shape or dtype, or no tensor."""
    if draw(st.booleans()):
        times = draw(st.lists(st.one_of(st.floats(0, 1), OUTSIDE), min_size=2, max_size=6))
        grid = torch.tensor(times, dtype=torch.float64)
        assume(not (bool((grid.diff() > 0).all()) and grid[0] >= 0 and grid[-1] <= 1))
        return grid
    close = torch.tensor([0.5, 0.5 + 1e-300, 1.0], dtype=torch.float64)
    tensors = [torch.tensor(0.5), torch.tensor([0.5]), torch.zeros(0), torch.ones(2, 2), torch.arange(2), close]
    others = [[0.0, 1.0], (0.0, 1.0), 10, "linear", np.linspace(0, 1, 5)]
    return draw(st.one_of(st.sampled_from(tensors), st.sampled_from(others)))


BAD_FIELDS = st.sampled_from([None, nn.Linear(2, 2), "mixture", GaussianPath(), len, MixtureField])
BAD_GUIDES = st.sampled_from([torch.zeros(B, dtype=torch.long), torch.zeros(B), [0] * B])  # where the field takes none
BAD_METHODS = names_other_than(*solvers.STEPS, *solvers.ADAPTIVE)
BAD_KINDS = names_other_than(*KINDS)
BAD_SCALES = numbers_outside()
