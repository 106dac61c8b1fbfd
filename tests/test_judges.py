"""Judges: what each data set is measured by, that good samples score better, and what is left out of too few."""

import os

import pytest
import torch
from torch import Tensor

from flowlib.data import Dataset, load, mnist
from flowlib.metrics import (
    energy_distance,
    evaluate,
    evaluate_images,
    fit_reader,
    frechet_distance,
    inception_score,
    load_evaluator,
    precision_recall,
    sliced_wasserstein,
)
from flowlib.metrics.judges import JUDGES, judge_of
from flowlib.training.order import stream


def stripes(count: int, shape: tuple[int, ...], seed: int, classes: int = 3) -> Dataset:
    """Images with a bright band at a height that is their label's, on noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    images = 0.2 * torch.randn(count, *shape, generator=generator) - 0.5
    height = shape[1] // classes
    for i, label in enumerate(labels.tolist()):
        images[i, :, label * height : (label + 1) * height] += 1
    return Dataset(images.clamp(-1, 1), labels, classes, levels=256)


def blank(data: Dataset) -> Dataset:
    return Dataset(data.images, levels=256)


def test_each_named_set_names_its_judge() -> None:
    assert load("digits").judge == load("digits", "test").judge == "reader"
    assert load("moons").judge == load("spirals", "test").judge == "points"
    assert set(JUDGES) >= {"evaluator", "reader", "points", "images"}


def test_points_are_judged_by_their_distances() -> None:
    train, test = load("moons"), load("moons", "test")
    x = train.images[:300]
    expected = {
        "sliced_wasserstein": sliced_wasserstein(x, test.images, generator=stream(0, "directions")),
        "energy": energy_distance(x, test.images),
    }
    assert judge_of(train, test)(x, train.labels[:300]) == expected
    assert judge_of(Dataset(train.images), Dataset(test.images))(x, None) == expected
    shaped = Dataset(test.images.reshape(-1, 2, 1))  # no points, no images: flattened
    assert judge_of(Dataset(train.images.reshape(-1, 2, 1)), shaped)(x.reshape(-1, 2, 1), None) == expected


def test_the_bundled_digits_are_judged_by_their_pixels_and_a_reader() -> None:
    train, test = load("digits"), load("digits", "test")
    x, y = 1.2 * test.images[:200], test.labels[:200].roll(1)
    pixels, logits, real = x.clamp(-1, 1).flatten(1), fit_reader(train)(x), test.images.flatten(1)
    precision, recall = precision_recall(real, pixels)
    measures = {
        "frechet": frechet_distance(pixels, real),
        "precision": precision,
        "recall": recall,
        "inception": inception_score(logits),
    }
    judge = judge_of(train, test)
    assert judge(x, y) == {"accuracy": float((logits.argmax(1) == y).double().mean()), **measures}
    assert judge(x, None) == measures


@pytest.mark.skipif("FLOWLIB_DATA" not in os.environ or mnist.find() is None, reason="MNIST is not here: FLOWLIB_DATA")
def test_mnist_is_judged_by_the_evaluator() -> None:
    train, test = load("mnist"), load("mnist", "test")
    test = Dataset(test.images[:300], test.labels[:300], judge="evaluator")
    x, y = train.images[:200], train.labels[:200]
    assert train.judge == "evaluator"
    assert judge_of(train, test)(x, y) == evaluate_images(x, y, test.images)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 40, 24), (1, 9, 5)])
def test_own_images_good_samples_score_better(shape: tuple[int, ...]) -> None:
    train, test, fresh = (stripes(count, shape, seed) for seed, count in enumerate((600, 300, 300)))
    judge = judge_of(train, test)
    good = judge(fresh.images, fresh.labels)
    assert list(good) == ["accuracy", "frechet", "precision", "recall", "inception", "reader"]
    assert good["accuracy"] > 0.97
    assert good["reader"] > 0.97
    assert good["precision"] > 0.6
    assert good["recall"] > 0.6
    wrong = judge(fresh.images, (fresh.labels + 1) % 3)
    assert wrong["accuracy"] < 0.03
    assert wrong["frechet"] == good["frechet"]
    noisy = judge(fresh.images + 0.4 * torch.randn(fresh.images.shape, generator=stream(3)), fresh.labels)
    assert noisy["frechet"] > 2 * good["frechet"]
    alike = judge(fresh.images[:1].expand(300, *shape), fresh.labels)  # one image, over and over
    assert alike["recall"] < 0.1
    assert alike["inception"] < good["inception"]
    assert judge(fresh.images, fresh.labels) == good


def test_own_images_are_clamped_as_they_would_be_drawn() -> None:
    train, test, fresh = (stripes(200, (1, 8, 8), seed) for seed in range(3))
    judge = judge_of(train, test)
    assert judge(3 * fresh.images, fresh.labels) == judge((3 * fresh.images).clamp(-1, 1), fresh.labels)


def test_own_images_of_mnists_shape_are_seen_by_the_evaluator() -> None:
    train, test, fresh = (stripes(count, (1, 28, 28), seed) for seed, count in enumerate((300, 256, 200)))
    real, made = (evaluate(load_evaluator(), part.images)[0] for part in (test, fresh))
    scores = judge_of(blank(train), blank(test))(fresh.images, None)
    precision, recall = precision_recall(real, made)
    assert scores == {"frechet": frechet_distance(made, real), "precision": precision, "recall": recall}


def test_few_pixels_are_judged_as_they_are() -> None:
    train, test, fresh = (blank(stripes(128, (1, 6, 6), seed)) for seed in range(3))
    found = judge_of(train, test)(fresh.images, None)["frechet"]
    assert found == frechet_distance(fresh.images.flatten(1), test.images.flatten(1))


def components(train: Tensor, count: int) -> Tensor:
    return torch.linalg.svd(train - train.mean(0), full_matrices=False).Vh[:count].T


def test_many_pixels_are_judged_by_means_and_principal_components() -> None:
    train, test, fresh = (blank(stripes(count, (2, 64, 32), seed)) for seed, count in enumerate((400, 100, 90)))
    cells = [part.images.double().reshape(-1, 2, 16, 4, 16, 2).mean((3, 5)).flatten(1) for part in (train, test, fresh)]
    axes = components(cells[0], 50)  # half as many as there are test images
    found = judge_of(train, test)(fresh.images, None)["frechet"]
    assert found == pytest.approx(frechet_distance(cells[2] @ axes, cells[1] @ axes), rel=1e-4)


def test_two_labels_and_labels_that_are_not_there_are_read() -> None:
    train, test = stripes(200, (1, 8, 8), 0, classes=2), stripes(100, (1, 8, 8), 1, classes=2)
    scores = judge_of(train, test)(test.images, test.labels)
    assert scores["accuracy"] == scores["reader"] > 0.97
    one = test.labels == 0
    assert judge_of(train, test)(test.images[one], None)["inception"] < 1.02 < scores["inception"] <= 2
    sparse = Dataset(train.images, train.labels * 4 + 1, 7)  # of seven labels only 1 and 5 occur
    there = Dataset(test.images, test.labels * 4 + 1, 7)
    assert judge_of(sparse, there)(there.images, there.labels) == scores


def test_what_there_is_too_little_for_is_left_out_with_a_note() -> None:
    train, fresh = stripes(300, (1, 8, 8), 0), stripes(40, (1, 8, 8), 1)
    few = judge_of(train, stripes(12, (1, 8, 8), 2))(fresh.images, fresh.labels)
    assert few["note"] == "frechet needs 16 test images, there are 12"
    assert list(few) == ["accuracy", "precision", "recall", "inception", "reader", "note"]
    fewer = judge_of(train, stripes(3, (1, 8, 8), 2))(fresh.images, fresh.labels)
    assert list(fewer) == ["accuracy", "inception", "reader", "note"]
    assert fewer["note"].endswith("there are 3; precision and recall need more than 3 test images and samples")
    small = judge_of(train, stripes(100, (1, 8, 8), 2))
    assert small(fresh.images, None)["note"] == "frechet needs more than 50 samples, there are 40"
    assert small(train.images[:50], None)["note"] == "frechet needs more than 50 samples, there are 50"
    assert "frechet" in judge_of(train, stripes(16, (1, 8, 8), 2))(fresh.images, None)
    assert "frechet" in small(train.images[:51], None)
    assert list(small(fresh.images[:1], fresh.labels[:1])) == ["accuracy", "inception", "reader", "note"]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 1, 1), (1, 3, 50)])
@pytest.mark.parametrize("counts", [(1, 1, 1), (2, 1, 5), (5, 2, 1), (40, 16, 20)])
def test_the_smallest_sets_never_crash(shape: tuple[int, ...], counts: tuple[int, int, int]) -> None:
    train, test, fresh = (stripes(count, shape, seed, classes=1) for seed, count in enumerate(counts))
    scores = judge_of(train, test)(fresh.images, fresh.labels)
    assert "accuracy" not in scores
    assert "accuracy needs training images of two labels" in scores["note"]
    same = Dataset(torch.zeros(counts[0], *shape))  # all alike: covariances are zero
    judge_of(same, same)(same.images, None)


def test_a_bad_judge_or_shape_is_named() -> None:
    images = Dataset(torch.zeros(9, 1, 8, 8), judge="jury")
    with pytest.raises(ValueError, match="judge must be one of evaluator, reader, points, images, scenes; got 'jury'"):
        judge_of(images, images)
    train = stripes(20, (1, 8, 8), 0)
    with pytest.raises(ValueError, match=r"test must have shape \(batch, 1, 8, 8\), got \(20, 1, 8, 7\)"):
        judge_of(train, stripes(20, (1, 8, 7), 0))
    with pytest.raises(ValueError, match=r"samples must have shape \(batch, 1, 8, 8\), got \(20, 1, 7, 8\)"):
        judge_of(train, train)(torch.zeros(20, 1, 7, 8), None)
    with pytest.raises(ValueError, match="samples has entries that are NaN"):
        judge_of(train, train)(torch.full((20, 1, 8, 8), torch.nan), None)
    with pytest.raises(ValueError, match="train must have labels, and 'own' has none"):
        fit_reader(images)
