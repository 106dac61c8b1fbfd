"""Distances between sets of points: each has a value known in advance, and each names what it refuses."""

import math

import pytest
import torch
from examples import normal, seeded
from torch import Tensor

from flowlib.metrics import energy_distance, sliced_wasserstein

# --- sliced Wasserstein


def test_sliced_wasserstein_of_shifted_points() -> None:
    # Each projection moves by θ·δ and E(θ·δ)² = |δ|²/D; over 20,000 directions the mean has error 0.5 %.
    points = normal(0, 100, 3)
    shift = torch.tensor([1.0, 2.0, 2.0]).double()
    found = sliced_wasserstein(points, points + shift, 20_000, seeded(0))
    assert found == pytest.approx(3 / math.sqrt(3), rel=0.02)


def test_sliced_wasserstein_of_scaled_points() -> None:
    # On a line W₂(X, 2X)² = E X², so the sliced one is E (θ·X)² = E |X|² / D.
    points = normal(0, 100, 2)
    found = sliced_wasserstein(points, 2 * points, 20_000, seeded(0))
    assert found == pytest.approx(float(points.square().sum(1).mean() / 2) ** 0.5, rel=0.02)


def test_sliced_wasserstein_of_gaussian_samples() -> None:
    # N(0, 1) against N(δ, 4): W₂² = |δ|²/2 + 1 in every direction of the plane, on average.
    a, b = normal(0, 10_000, 2), 2 * normal(1, 10_000, 2)
    b[:, 0] += 1
    assert sliced_wasserstein(a, b, 200, seeded(0)) == pytest.approx(math.sqrt(1.5), rel=0.06)


def test_in_one_dimension_it_is_the_optimal_assignment() -> None:
    from scipy.optimize import linear_sum_assignment

    a, b = normal(0, 40, 1), 3 * normal(1, 40, 1) + 1
    cost = (a - b.T).square()
    rows, columns = linear_sum_assignment(cost.numpy())
    expected = float(cost[rows, columns].mean()) ** 0.5
    assert sliced_wasserstein(a, b, 3, seeded(0)) == pytest.approx(expected, rel=1e-12)


def test_sets_of_different_size_are_compared_as_distributions() -> None:
    a, b = normal(0, 30, 2), normal(1, 45, 2) + 1
    repeated = sliced_wasserstein(a.repeat(3, 1), b.repeat(2, 1), 50, seeded(0))
    assert sliced_wasserstein(a, b, 50, seeded(0)) == pytest.approx(repeated, rel=1e-12)
    # 0 and 3 against 1: half the mass moves by 1, half by 2.
    two, one = torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0]])
    assert sliced_wasserstein(two, one, 4, seeded(0)) == pytest.approx(math.sqrt(2.5), rel=1e-12)


def test_order_of_points_does_not_matter_and_identical_sets_have_distance_zero() -> None:
    points = normal(0, 300, 4)
    shuffled = points[torch.randperm(300, generator=seeded(1))]
    assert sliced_wasserstein(points, shuffled, 64, seeded(0)) < 1e-14


def test_the_seed_decides_the_directions_and_nothing_else_does() -> None:
    a, b = normal(0, 50, 3), normal(1, 50, 3)
    state = torch.get_rng_state()
    first = sliced_wasserstein(a, b, 8, seeded(5))
    assert sliced_wasserstein(a, b, 8, seeded(5)) == first
    assert sliced_wasserstein(a, b, 8, seeded(6)) != first
    assert torch.equal(torch.get_rng_state(), state)


# --- energy distance


def test_energy_distance_agrees_with_scipy_on_a_line() -> None:
    from scipy.stats import energy_distance as reference

    a, b = normal(0, 80, 1), 2 * normal(1, 50, 1) + 0.5
    expected = reference(a[:, 0].numpy(), b[:, 0].numpy()) ** 2
    assert energy_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_energy_distance_of_two_points_and_of_identical_sets() -> None:
    assert energy_distance(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])) == 10.0
    points = normal(0, 200, 3)
    assert energy_distance(points, points.clone()) == 0.0


def test_energy_distance_of_gaussians() -> None:
    # In the plane E|N(0, s² I)| = s √(π/2). For N(0, 1) against N(0, 9): the pairs have s² = 10, 2 and 18.
    expected = math.sqrt(math.pi / 2) * (2 * math.sqrt(10) - math.sqrt(2) - math.sqrt(18))
    found = energy_distance(normal(0, 4000, 2), 3 * normal(1, 4000, 2))
    assert found == pytest.approx(expected, rel=0.06)


def test_energy_distance_of_one_distribution_has_the_stated_floor() -> None:
    # E|x - x'| = √π for N(0, I) in the plane.
    floor = math.sqrt(math.pi) * (1 / 100 + 1 / 150)
    found = [energy_distance(normal(i, 100, 2), normal(1000 + i, 150, 2)) for i in range(300)]
    assert min(found) >= 0
    assert sum(found) / 300 == pytest.approx(floor, rel=0.12)


# --- both


def test_blocks_change_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = normal(0, 101, 3), normal(1, 77, 3) + 0.5

    def both() -> tuple[float, float]:
        return sliced_wasserstein(a, b, 20, seeded(0)), energy_distance(a, b)

    whole = both()
    monkeypatch.setattr("flowlib.metrics.distances.BLOCK_ENTRIES", 300)
    assert both() == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(0, 3), "is empty"),
        (torch.zeros(5), "must have shape"),
        (torch.zeros(5, 3, 2), "must have shape"),
        (torch.zeros(5, 3, dtype=torch.int64), "floating-point"),
        (torch.full((5, 3), math.nan), "NaN or infinite"),
        (torch.zeros(5, 4), "same dimension"),
        ([[0.0, 0.0, 0.0]], "must be a torch.Tensor"),
    ],
)
def test_bad_points_are_named(bad: Tensor, message: str) -> None:
    good = normal(0, 5, 3)
    for measure in (sliced_wasserstein, energy_distance):
        for position, arguments in (("a", (bad, good)), ("b", (good, bad))):
            with pytest.raises(ValueError, match=message) as caught:
                measure(*arguments)
            assert position in str(caught.value).split()[0:3]


@pytest.mark.parametrize("projections", [0, -1, 2.5, True])
def test_bad_projections_are_named(projections: int) -> None:
    with pytest.raises(ValueError, match="projections must be an integer >= 1"):
        sliced_wasserstein(normal(0, 5, 3), normal(1, 5, 3), projections)
