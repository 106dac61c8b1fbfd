"""Two-dimensional data, drawn by closed formulas: mixtures, curves and a density with hard edges.

Every set is centred and scaled by its exact moments: E[x] = 0 and E|x|^2 = 2, the energy of N(0, I_2). So one
set of hyperparameters, and one frame of a plot, fits them all.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from flowlib.checks import check_choice, check_count
from flowlib.data.dataset import SPLITS, Dataset

SIZES = {"train": 10_000, "test": 2_000}
_SEEDS = {"train": 0, "test": 1}
_RING_STD = 0.15
_NOISE = 0.05  # the thickness of a curve, in the units it is drawn in


class Mixture(NamedTuple):
    """sum_k weights_k N(means_k, std_k^2 I), with means (K, 2), std (K,), weights (K,)."""

    means: Tensor
    std: Tensor
    weights: Tensor


def mixture(dtype: torch.dtype = torch.float32) -> Mixture:
    """Return the exact parameters of "gaussians": eight equal ones on a ring, label k at the angle 2 pi k/8.

    `MixtureField(*mixture())` is the field of exactly that set, its guides being the set's labels.
    """
    radius = math.sqrt(2 - 2 * _RING_STD**2)  # E|x|^2 = radius^2 + 2 std^2 = 2
    angles = torch.arange(8, dtype=dtype) * (math.pi / 4)
    means = radius * torch.stack([angles.cos(), angles.sin()], dim=1)
    return Mixture(means, torch.full((8,), _RING_STD, dtype=dtype), torch.full((8,), 1 / 8, dtype=dtype))


def _gaussians(y: Tensor, generator: Generator) -> Tensor:
    means, std, _ = mixture()
    noise = _normal((len(y), 2), generator)
    return means.to(y.device)[y] + std.to(y.device)[y, None] * noise


def _moons(y: Tensor, generator: Generator) -> Tensor:
    angle = math.pi * _uniform(len(y), generator)
    upper = torch.stack([angle.cos(), angle.sin()], dim=1)
    centre = torch.tensor([0.5, 0.25], device=y.device)
    arc = (upper - centre) * (1 - 2 * y[:, None])  # the lower moon is the upper one turned by pi
    return _noisy(arc, 1 + 5 / 16 - 1 / math.pi, generator)


def _circles(y: Tensor, generator: Generator) -> Tensor:
    radius = 1 - 0.5 * y
    return _noisy(_polar(radius, 2 * math.pi * _uniform(len(y), generator)), (1 + 0.25) / 2, generator)


def _checkerboard(y: Tensor, generator: Generator) -> Tensor:
    row, pair = y // 2, y % 2
    corner = torch.stack([2 * pair + row % 2, row], dim=1)
    board = corner + torch.rand(len(y), 2, generator=generator, device=y.device)  # in [0, 4]^2
    return (board - 2) * (math.sqrt(3) / 2)


def _spirals(y: Tensor, generator: Generator) -> Tensor:
    radius = _uniform(len(y), generator).sqrt()  # radius proportional to angle: arms of even density in area
    return _noisy(_polar(radius, 3 * math.pi * radius + math.pi * y), 1 / 2, generator)


def _swiss_roll(y: Tensor, generator: Generator) -> Tensor:
    along = (y + _uniform(len(y), generator)) / 4
    angle = 1.5 + 3 * along  # in units of pi, as is the radius; uniform in [1.5, 4.5]
    centre = torch.tensor([2 / math.pi, 2 / (3 * math.pi**2)], device=y.device)
    energy = 9.75 - 4 / math.pi**2 - 4 / (9 * math.pi**4)  # E[angle^2] - |centre|^2
    return _noisy(_polar(angle, math.pi * angle) - centre, energy, generator)


@dataclass(frozen=True)
class Toy:
    """A way to draw points (n, 2) given their labels, and what a label means."""

    draw: Callable[[Tensor, Generator], Tensor]
    classes: int
    labels: str


SETS = {
    "gaussians": Toy(_gaussians, 8, "the component, anticlockwise from the positive x axis"),
    "moons": Toy(_moons, 2, "0 the upper moon, 1 the lower"),
    "circles": Toy(_circles, 2, "0 the outer circle, 1 the inner, of half its radius"),
    "checkerboard": Toy(_checkerboard, 8, "the square, row by row from the lowest; density 1/6 on each"),
    "spirals": Toy(_spirals, 2, "the arm, the second being the first turned by pi"),
    "swiss_roll": Toy(_swiss_roll, 4, "the quarter of the roll, from the inside out"),
}


def sample(name: str, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw `n` points and their labels, every label being equally likely.

    Args:
        name: a key of `SETS`, whose entry says what a label means.
        n: the number of points.
        generator: the source of all randomness; the points are on its device.

    Returns:
        Points (n, 2) float32 with E[x] = 0 and E|x|^2 = 2; labels (n,) int64.

    Raises:
        ValueError: if the name is unknown, n < 1 or the generator is no torch.Generator.
    """
    check_choice("name", name, SETS)
    check_count("n", n)
    if not isinstance(generator, Generator):
        raise ValueError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    toy = SETS[name]
    labels = torch.randint(toy.classes, (n,), generator=generator, device=generator.device)
    return toy.draw(labels, generator), labels


def load(name: str, split: str = "train") -> Dataset:
    """Return a fixed draw of 10,000 ("train") or 2,000 ("test") points, each split from its own seed.

    Raises:
        ValueError: if the name or the split is unknown.
    """
    check_choice("name", name, SETS)
    check_choice("split", split, SPLITS)
    points, labels = sample(name, SIZES[split], torch.Generator().manual_seed(_SEEDS[split]))
    return Dataset(points, labels, SETS[name].classes, name, judge="points")


def _uniform(n: int, generator: Generator) -> Tensor:
    return torch.rand(n, generator=generator, device=generator.device)


def _normal(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)


def _noisy(curve: Tensor, energy: float, generator: Generator) -> Tensor:
    """Blur a centred curve of E|x|^2 = `energy` and scale the result to E|x|^2 = 2."""
    blurred = curve + _NOISE * _normal(tuple(curve.shape), generator)
    return blurred * math.sqrt(2 / (energy + 2 * _NOISE**2))
