"""Stable targets: the same expectation as the plain one, exactly; less noise; the same x; nothing else touched."""

from itertools import permutations

import pytest
import torch
from torch import Tensor

from flowlib import GaussianPath, MixtureField
from flowlib.schedules import SCHEDULES
from flowlib.stable import StableTargets, stable_target

PATHS = pytest.mark.parametrize("schedule", ["linear", "vp", "ve"])


def draw(count: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@PATHS
@pytest.mark.parametrize("references", [1, 2])
def test_the_expectation_given_x_is_that_of_the_data(schedule: str, references: int) -> None:
    """Summed over every set that may have been drawn, and over which of its members made x."""
    path, data, x = GaussianPath(SCHEDULES[schedule]()), draw(5, 2), draw(1, 2, seed=1)
    t = torch.tensor([0.3], dtype=torch.float64)
    alpha, beta = path.schedule.alpha(t), path.schedule.beta(t)
    likelihood = torch.exp(-0.5 * ((x - alpha * data) / beta).square().sum(1))
    total, mean = 0.0, torch.zeros(1, 2, dtype=torch.float64)
    for first, *others in permutations(range(5), 1 + references):
        mean += likelihood[first] * stable_target(path, x, t, data[[first]], data[others])
        total += likelihood[first]
    exact = MixtureField(data, 0.0, labels=torch.zeros(5, dtype=torch.long), path=path).data(x, t)
    torch.testing.assert_close(mean / total, exact)


@PATHS
def test_among_all_data_it_is_the_exact_field_of_the_data(schedule: str) -> None:
    path, z, y = GaussianPath(SCHEDULES[schedule]()), draw(30, 1, 2, 2), torch.arange(30) % 3
    stable = StableTargets(z, y, until=0.5, count=30)
    index, t = torch.tensor([4, 11, 0, 7]), torch.tensor([0.05, 0.2, 0.4, 0.3], dtype=torch.float64)
    noise = draw(4, 1, 2, 2, seed=1)
    x = path.sample(z[index], t, noise)
    data, eps = stable(path, index, z[index], y[index], t, noise, 0.7)
    torch.testing.assert_close(data, MixtureField(z, 0.0, labels=y, path=path).data(x, t, y[index]))
    torch.testing.assert_close(path.sample(data, t, eps), x)


def test_less_of_the_target_is_noise() -> None:
    path, z, y = GaussianPath(), draw(400, 3), torch.arange(400) % 2
    stable, index = StableTargets(z, y, until=0.5, count=50), torch.arange(400)
    t = torch.full((400,), 0.2, dtype=torch.float64)
    noise = draw(400, 3, seed=1)
    data, _ = stable(path, index, z, y, t, noise, 0.3)
    exact = MixtureField(z, 0.0, labels=y, path=path).data(path.sample(z, t, noise), t, y)
    assert (data - exact).square().mean() < 0.1 * (z - exact).square().mean()


def test_late_times_and_other_guides_stay_as_they_are() -> None:
    z, y = draw(20, 3), torch.arange(20) % 2
    stable, index = StableTargets(z, y, until=0.3, count=5), torch.arange(20)
    t, noise = torch.linspace(0.1, 0.9, 20, dtype=torch.float64), draw(20, 3, seed=1)
    guide = torch.where(index % 5 == 0, 2, y)  # some of them null
    data, eps = stable(GaussianPath(), index, z, guide, t, noise, 0.0)
    changed = (data != z).any(1)
    assert torch.equal(changed, (t < 0.3) & (guide != 2))
    assert torch.equal((eps != noise).any(1) & (t >= 0.3), torch.zeros(20, dtype=torch.bool))


def test_a_sample_counts_once_among_its_references() -> None:
    z = draw(3, 2)
    stable = StableTargets(z, until=0.5, count=3)
    t, noise = torch.full((3,), 0.2, dtype=torch.float64), draw(3, 2, seed=1)
    data, _ = stable(GaussianPath(), torch.arange(3), z, None, t, noise, 0.0)
    others = torch.stack([z[[1, 2]], z[[0, 2]], z[[0, 1]]])
    x = GaussianPath().sample(z, t, noise)
    for i in range(3):
        row = slice(i, i + 1)
        torch.testing.assert_close(data[row], stable_target(GaussianPath(), x[row], t[row], z[row], others[i]))


def test_every_part_of_a_batch_is_as_in_the_whole() -> None:
    z, y = draw(40, 2), torch.arange(40) % 4
    stable, index = StableTargets(z, y, until=0.9, count=4), torch.arange(10)
    t, noise = torch.rand(10, dtype=torch.float64) * 0.9, draw(10, 2, seed=1)
    whole = stable(GaussianPath(), index, z[:10], y[:10], t, noise, 0.6)
    for part in (slice(0, 5), slice(5, 10)):
        parts = stable(GaussianPath(), index[part], z[:10][part], y[:10][part], t[part], noise[part], 0.6)
        for a, b in zip(whole, parts, strict=True):
            torch.testing.assert_close(a[part], b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"until": 0.0}, "until"),
        ({"until": 1.0}, "until"),
        ({"count": 0}, "count"),
        ({"y": torch.zeros(3, dtype=torch.long)}, "y must have shape"),
        ({"z": torch.zeros(4, 2, dtype=torch.long)}, "z must be a floating-point"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], message: str) -> None:
    arguments = {"z": torch.zeros(4, 2), "y": torch.zeros(4, dtype=torch.long), "until": 0.2, "count": 2} | change
    with pytest.raises(ValueError, match=message):
        StableTargets(arguments.pop("z"), arguments.pop("y"), **arguments)
