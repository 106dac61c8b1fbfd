"""Measures of features: each has a value known in advance, and each names what it refuses."""

import math

import pytest
import torch
from examples import normal
from torch import Tensor

from flowlib.metrics import (
    frechet_distance,
    frechet_distance_of_moments,
    precision_recall,
)


def covariance(seed: int, dimension: int) -> Tensor:
    factor = normal(seed, dimension, dimension)
    return factor @ factor.T / dimension


# --- Fréchet distance


def test_frechet_of_diagonal_gaussians_is_the_closed_form() -> None:
    mean_a, mean_b = torch.tensor([0.0, 1.0, 2.0]).double(), torch.tensor([3.0, 1.0, -2.0]).double()
    std_a, std_b = torch.tensor([1.0, 2.0, 0.0]).double(), torch.tensor([4.0, 2.0, 3.0]).double()
    found = frechet_distance_of_moments(mean_a, std_a.square().diag(), mean_b, std_b.square().diag())
    assert found == pytest.approx(25 + (9 + 0 + 9), abs=1e-12)  # |δm|² + |δσ|²


def test_frechet_of_full_covariances_agrees_with_the_matrix_square_root() -> None:
    from scipy.linalg import sqrtm

    a, b = covariance(0, 12), covariance(1, 12)
    root = torch.from_numpy(sqrtm((a @ b).numpy()).real)
    mean_a, mean_b = normal(2, 12), normal(3, 12)
    expected = (mean_a - mean_b).square().sum() + (a + b - 2 * root).trace()
    assert frechet_distance_of_moments(mean_a, a, mean_b, b) == pytest.approx(float(expected), rel=1e-7)


def test_frechet_ignores_a_rotation_of_both_sets_and_their_order() -> None:
    rotation, _ = torch.linalg.qr(normal(0, 8, 8))
    a, b = normal(1, 500, 8), 1.5 * normal(2, 700, 8) + 0.3
    expected = frechet_distance(a, b)
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-10)


def test_frechet_of_whitened_samples_has_exactly_the_moments_it_was_given() -> None:
    # A sample whose own mean is 0 and own covariance is 1, so nothing is left to chance.
    sample = normal(0, 300, 5)
    sample = sample - sample.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(sample.T)), sample.T, upper=False).T
    scale = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0]).double()
    shift = torch.tensor([1.0, 0.0, -2.0, 0.0, 0.0]).double()
    expected = float((scale - 1).square().sum() + shift.square().sum())
    assert frechet_distance(white, white * scale + shift) == pytest.approx(expected, rel=1e-12)


def test_frechet_of_samples_approaches_that_of_their_gaussians() -> None:
    # Equal covariances, so only the shift counts; its sampling error is 2 · 2 · √(2/20,000) = 0.04.
    a, b = normal(0, 20_000, 8, dtype=torch.float32), normal(1, 20_000, 8, dtype=torch.float32)
    b[:, 0] += 2
    assert frechet_distance(a, b) == pytest.approx(4, abs=0.15)


def test_frechet_keeps_its_digits_when_features_depend_on_each_other() -> None:
    # A singular covariance: 40 of its 64 eigenvalues are rounding errors, whose roots are far larger.
    features = normal(0, 400, 24) @ normal(1, 24, 64)
    assert frechet_distance(features, features.clone()) < 1e-10
    assert frechet_distance(features, features + 1e-3) == pytest.approx(64e-6, rel=1e-4)


def test_frechet_refuses_too_few_samples() -> None:
    with pytest.raises(ValueError, match="features_b has too few samples: 8, at least 9"):
        frechet_distance(normal(0, 9, 8), normal(1, 8, 8))
    frechet_distance(normal(0, 9, 8), normal(1, 9, 8))


def test_frechet_of_one_feature() -> None:
    a = torch.tensor([[-1.0], [1.0]])  # variance 2
    assert frechet_distance(a, 3 * a + 5) == pytest.approx(25 + 2 * 4, rel=1e-12)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("mean_a", torch.zeros(3, 3), "mean_a must have shape"),
        ("mean_b", torch.zeros(4), "mean_a and mean_b must have the same dimension, got 3 and 4"),
        ("cov_a", torch.tensor([[1.0, 0.5, 0], [0, 1, 0], [0, 0, 1]]), "cov_a must be symmetric"),
        ("cov_b", -torch.eye(3), "cov_b must be symmetric and positive semi-definite"),
        ("cov_a", torch.eye(3) * math.nan, "cov_a has entries that are NaN"),
    ],
)
def test_frechet_of_moments_names_what_is_no_mean_or_covariance(argument: str, value: Tensor, message: str) -> None:
    given = {"mean_a": torch.zeros(3), "cov_a": torch.eye(3), "mean_b": torch.zeros(3), "cov_b": torch.eye(3)}
    with pytest.raises(ValueError, match=message):
        frechet_distance_of_moments(**(given | {argument: value}))


def test_frechet_of_moments_names_a_covariance_of_another_size() -> None:
    with pytest.raises(ValueError, match=r"cov_a must have shape \(3, 3\), got \(2, 2\)"):
        frechet_distance_of_moments(torch.zeros(3), torch.eye(2), torch.zeros(3), torch.eye(2))


# --- precision and recall


def test_precision_and_recall_of_identical_sets_are_one() -> None:
    points = normal(0, 200, 16)
    assert precision_recall(points, points.clone()) == (1.0, 1.0)


def test_precision_and_recall_of_disjoint_sets_are_zero() -> None:
    assert precision_recall(normal(0, 200, 16), normal(1, 200, 16) + 100) == (0.0, 0.0)


def test_precision_and_recall_count_by_hand() -> None:
    # Balls to the first neighbour: reals [-1, 1], [0, 2], [8, 12], [8, 12]; the union is [-1, 2] and [8, 12].
    # Fakes: 1.5 in; 2.5 out; 9 in; 13 out. Fake balls: [0.5, 2.5], [1.5, 3.5], [5, 13], [9, 17].
    real = torch.tensor([[0.0], [1.0], [10.0], [10.0 - 2.0]])
    fake = torch.tensor([[1.5], [2.5], [9.0], [13.0]])
    assert precision_recall(real, fake, k=1) == (0.5, 0.75)


def test_collapse_onto_one_real_image_keeps_precision_and_loses_recall() -> None:
    real = normal(0, 500, 16)
    fake = real[:1].expand(500, 16)
    precision, recall = precision_recall(real, fake)
    assert precision == 1.0
    assert recall == 1 / 500  # the one image itself


@pytest.mark.parametrize("seed", range(30))
def test_copies_of_a_point_stay_inside_their_own_ball(seed: int) -> None:
    # All radii are 0, but |a|² + |b|² - 2ab of equal points is a rounding error of either sign.
    draw = torch.Generator().manual_seed(seed)
    copies, others, dimension = torch.randint(4, 60, (3,), generator=draw).tolist()
    points = normal(seed, 2, dimension)
    assert precision_recall(points.repeat(copies, 1), points.repeat(others, 1)) == (1.0, 1.0)


def test_a_larger_k_only_adds_to_both() -> None:
    real, fake = normal(0, 300, 8), normal(1, 300, 8) * 0.8 + 0.3
    scores = torch.tensor([precision_recall(real, fake, k) for k in (1, 2, 4, 8)])
    assert bool((scores.diff(dim=0) >= 0).all())
    assert scores[0, 0] > scores[0, 1]  # the narrower set is precise and covers less


def test_blocks_do_not_change_precision_and_recall(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = normal(0, 101, 8), normal(1, 77, 8) + 0.5
    whole = precision_recall(real, fake)
    monkeypatch.setattr("flowlib.metrics.features.BLOCK_ENTRIES", 300)
    assert precision_recall(real, fake) == whole


def test_precision_and_recall_need_more_samples_than_neighbours() -> None:
    with pytest.raises(ValueError, match="fake has too few samples: 3, at least 4"):
        precision_recall(normal(0, 5, 2), normal(1, 3, 2))
    with pytest.raises(ValueError, match="k must be an integer >= 1, got 0"):
        precision_recall(normal(0, 5, 2), normal(1, 5, 2), k=0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(0, 3), "is empty"),
        (torch.zeros(9), "must have shape"),
        (torch.zeros(9, 3, 1), "must have shape"),
        (torch.zeros(9, 3, dtype=torch.int64), "floating-point"),
        (torch.full((9, 3), math.inf), "NaN or infinite"),
        (torch.zeros(9, 4), "same dimension"),
        (None, "must be a torch.Tensor"),
    ],
)
def test_feature_measures_name_bad_features(bad: Tensor, message: str) -> None:
    good = normal(0, 9, 3)
    for measure in (frechet_distance, precision_recall):
        for arguments in ((bad, good), (good, bad)):
            with pytest.raises(ValueError, match=message):
                measure(*arguments)
