"""The toy sets against their closed forms: moments, mixture density, uniform squares, geometry of labels."""

import math

import pytest
import torch

from flowlib import data
from flowlib.data import toy

N = 200_000


def draw(name: str, n: int = N, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return toy.sample(name, n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", toy.SETS)
def test_shape_moments_and_label_frequencies(name: str) -> None:
    n = 2_000_000  # six standard errors are then 0.4 %
    points, labels = draw(name, n)
    assert points.shape == (n, 2)
    assert points.dtype == torch.float32
    assert labels.shape == (n,)
    assert labels.dtype == torch.int64
    mean, std = points.double().mean(0), points.double().std(0)
    assert (mean.abs() < 6 * std / math.sqrt(n)).all()
    energy = points.double().square().sum(1)
    assert abs(energy.mean() - 2) < 6 * energy.std() / math.sqrt(n)
    classes = toy.SETS[name].classes
    counts = labels.bincount(minlength=classes)
    assert len(counts) == classes
    assert (counts - n / classes).abs().max() < 6 * math.sqrt(n / classes)


@pytest.mark.parametrize("name", toy.SETS)
def test_the_generator_is_the_only_randomness(name: str) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, again, other = draw(name, 100), draw(name, 100), draw(name, 100, seed=1)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_gaussians_are_the_mixture_they_say() -> None:
    points, labels = draw("gaussians")
    means, std, weights = toy.mixture(torch.float64)
    assert math.isclose(float(weights.sum()), 1)
    assert math.isclose(float((weights * (means.square().sum(1) + 2 * std**2)).sum()), 2, rel_tol=1e-12)
    for k in range(8):
        angle = 2 * math.pi * k / 8
        assert abs(float(means[k, 0]) * math.sin(angle) - float(means[k, 1]) * math.cos(angle)) < 1e-12
        z = (points[labels == k].double() - means[k]) / std[k]
        n = len(z)
        assert z.mean(0).abs().max() < 6 / math.sqrt(n)
        assert (z.T @ z / n - torch.eye(2)).abs().max() < 6 * math.sqrt(2 / n)
        assert (z.pow(4).mean(0) - 3).abs().max() < 6 * math.sqrt(96 / n)  # a Gaussian's kurtosis


def test_checkerboard_is_uniform_on_its_own_squares() -> None:
    points, labels = draw("checkerboard")
    board = points.double() / (math.sqrt(3) / 2) + 2
    assert board.min() > -1e-5
    assert board.max() < 4 + 1e-5
    column, row = board.clamp(0, 3.999999).floor().long().T
    assert ((column + row) % 2 == 0).all()
    assert torch.equal(row * 2 + column // 2, labels)
    fine = (board * 4).clamp(0, 15.999999).floor().long()  # 16 cells a square, 128 in all, each as likely
    counts = (fine[:, 1] * 16 + fine[:, 0]).bincount(minlength=256)
    used = counts[counts > 0]
    assert len(used) == 128
    chi2 = float(((used - N / 128) ** 2 / (N / 128)).sum())
    assert abs(chi2 - 127) < 6 * math.sqrt(2 * 127)


def test_circles_have_their_radii() -> None:
    points, labels = draw("circles")
    radius = points.norm(dim=1)
    outer, inner = radius[labels == 0].mean(), radius[labels == 1].mean()
    assert math.isclose(float(inner / outer), 0.5, rel_tol=0.01)
    assert radius[labels == 1].max() < radius[labels == 0].min()


def test_moons_are_half_turns_of_each_other() -> None:
    points, labels = draw("moons")
    upper, lower = points[labels == 0], -points[labels == 1]
    assert (upper.mean(0) - lower.mean(0)).abs().max() < 0.02
    assert (upper.T.cov() - lower.T.cov()).abs().max() < 0.02
    assert upper[:, 1].mean() > 0.3


def test_second_spiral_arm_is_the_first_turned() -> None:
    points, labels = draw("spirals")
    radius, angle = points.norm(dim=1), torch.atan2(points[:, 1], points[:, 0])
    scale = math.sqrt(2 / (0.5 + 2 * 0.05**2))
    off = torch.remainder(angle - 3 * math.pi * radius / scale - math.pi * labels + math.pi, 2 * math.pi) - math.pi
    clear = radius > 0.6  # where the noise is small beside the radius
    # The arms are pi apart: half of that is 3.3 standard deviations of the noise, so 1 point in 1000 is beyond it.
    assert (off[clear].abs() > math.pi / 2).double().mean() < 0.003


def test_swiss_roll_labels_go_from_the_inside_out() -> None:
    points, labels = draw("swiss_roll")
    scale = math.sqrt(2 / (9.75 - 4 / math.pi**2 - 4 / (9 * math.pi**4) + 2 * 0.05**2))
    centre = torch.tensor([2 / math.pi, 2 / (3 * math.pi**2)])
    radius = (points / scale + centre).norm(dim=1)
    for label in range(4):
        mean = float(radius[labels == label].mean())
        assert abs(mean - (1.5 + 0.75 * (label + 0.5))) < 0.01


@pytest.mark.parametrize("name", toy.SETS)
def test_load_draws_disjoint_fixed_splits(name: str) -> None:
    train, test = data.load(name), data.load(name, "test")
    assert (len(train), len(test)) == (10_000, 2_000)
    assert train.shape == (2,)
    assert train.name == name
    assert torch.equal(train.images, data.load(name).images)
    assert not torch.equal(test.labels, train.labels[:2_000])  # not the same stream, cut shorter
    assert not set(map(tuple, train.images.tolist())) & set(map(tuple, test.images.tolist()))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("torus", 3, torch.Generator()), "name must be one of gaussians, moons"),
        (("moons", 0, torch.Generator()), "n must be an integer >= 1"),
        (("moons", 2.0, torch.Generator()), "n must be an integer >= 1"),
        (("moons", 3, None), "generator must be a torch.Generator"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        toy.sample(*arguments)
