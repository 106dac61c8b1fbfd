"""Measures of images and labels: each has a value known in advance, and each names what it refuses."""

import math

import pytest
import torch
from torch import Tensor

from flowlib.metrics import (
    evaluate,
    evaluate_images,
    inception_score,
    label_accuracy,
    load_evaluator,
)
from flowlib.metrics.evaluator import CLASSES, FEATURES


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- accuracy and inception score


def test_label_accuracy_counts() -> None:
    logits = torch.eye(4)[[0, 1, 2, 3, 0, 1, 2, 3]]
    assert label_accuracy(logits, torch.tensor([0, 1, 2, 3, 0, 1, 2, 0])) == 7 / 8


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 4]), r"labels must lie in 0 \.\.\. 3, got 4, the null guide"),
        (torch.tensor([0, 1, 5]), "labels must lie in"),
        (torch.tensor([0, 1, -1]), "labels must lie in"),
        (torch.tensor([0, 1]), r"labels must have shape \(3,\)"),
        (torch.tensor([0.0, 1.0, 2.0]), "labels must hold integer labels"),
        ([0, 1, 2], "labels must be a torch.Tensor"),
    ],
)
def test_label_accuracy_names_bad_labels(labels: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_accuracy(torch.zeros(3, 4), labels)  # type: ignore[arg-type]


def test_inception_score_is_one_when_all_predictions_are_equal() -> None:
    collapsed = normal(0, 1, 10).expand(50, 10)
    assert inception_score(collapsed) == pytest.approx(1, abs=1e-12)


def test_inception_score_is_the_number_of_classes_when_all_appear_with_certainty() -> None:
    certain = 1000 * torch.eye(10)
    assert inception_score(certain) == pytest.approx(10, rel=1e-12)
    assert inception_score(certain[:3].repeat(4, 1)) == pytest.approx(3, rel=1e-12)


def test_inception_score_of_two_predictions_is_the_closed_form() -> None:
    # p = (0.9, 0.1) and (0.1, 0.9): the marginal is even, KL = log 2 - H(0.9).
    logits = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).log()
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert inception_score(logits) == pytest.approx(2 * math.exp(-entropy), rel=1e-6)


# --- all of them together


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Blurred noise in [-1, 1]: no digits, but the evaluator sees differences between them."""
    noise = torch.nn.functional.avg_pool2d(normal(0, 300, 1, 28, 28, dtype=torch.float32), 5, 1, 2)
    return (4 * noise).clamp(-1, 1)


def test_evaluate_images_against_themselves(pictures: Tensor) -> None:
    _, logits = evaluate(load_evaluator(), pictures)
    scores = evaluate_images(pictures, logits.argmax(dim=1), pictures)
    assert list(scores) == ["accuracy", "frechet", "precision", "recall", "inception"]
    assert scores["accuracy"] == scores["precision"] == scores["recall"] == 1.0
    assert scores["frechet"] < 1e-9
    assert scores["inception"] == inception_score(logits)
    assert 1 <= scores["inception"] <= CLASSES


def test_evaluate_images_sees_a_collapse(pictures: Tensor) -> None:
    scores = evaluate_images(pictures[:1].expand_as(pictures), None, pictures)
    assert "accuracy" not in scores
    assert scores["inception"] == pytest.approx(1, abs=1e-6)
    assert scores["precision"] == 1.0
    assert scores["recall"] <= 2 / 300
    assert scores["frechet"] > 1


def test_evaluate_images_judges_the_picture_one_would_see(pictures: Tensor) -> None:
    binary = torch.where(pictures > 0, 1.0, -1.0)
    labels = torch.zeros(300, dtype=torch.int64)
    assert evaluate_images(3 * binary, labels, pictures) == evaluate_images(binary, labels, pictures)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("images", torch.zeros(FEATURES, 1, 28, 28), "images has too few samples: 128, at least 129"),
        ("images", torch.zeros(200, 28, 28), "images must have shape"),
        ("images", torch.full((200, 1, 28, 28), math.nan), "images has entries that are NaN"),
        ("real_images", torch.zeros(50, 1, 28, 28), "real_images has too few samples"),
        ("real_images", torch.full((200, 1, 28, 28), 255.0), r"real_images must lie in \[-1, 1\]"),
        ("labels", torch.zeros(7, dtype=torch.int64), r"labels must have shape \(300,\)"),
        ("labels", torch.full((300,), CLASSES), "null guide"),
        ("k", 0, "k must be an integer"),
        ("batch_size", 0, "batch_size must be an integer"),
    ],
)
def test_evaluate_images_names_bad_input(pictures: Tensor, argument: str, value: object, message: str) -> None:
    given = {"images": pictures, "labels": torch.zeros(300, dtype=torch.int64), "real_images": pictures}
    with pytest.raises(ValueError, match=message):
        evaluate_images(**(given | {argument: value}))  # type: ignore[arg-type]
