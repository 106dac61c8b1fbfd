"""The shipped evaluator: the weights are the ones that were measured, and the network does what it says."""

import math
import os

import pytest
import torch
from torch import Tensor, nn

from flowlib.metrics import Evaluator, evaluate, load_evaluator
from flowlib.metrics.evaluator import CLASSES, FEATURES
from flowlib.weights import weights_file

WEIGHTS = weights_file("evaluator")


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return load_evaluator()


def images(count: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed)) - 1


def strokes() -> Tensor:
    """A 1 and a 0 drawn with a ruler and a compass, (2, 1, 28, 28)."""
    row, column = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    one = ((column - 14).abs() < 1.5) & ((row - 14).abs() < 9)
    radius = ((row - 14).square() / 1.6 + (column - 14).square()).sqrt()
    zero = (radius - 6.5).abs() < 1.3
    return torch.stack([one, zero])[:, None].float() * 2 - 1


def test_the_shipped_weights_load_and_are_small(evaluator: Evaluator) -> None:
    assert WEIGHTS.stat().st_size <= 500_000
    assert sum(p.numel() for p in evaluator.parameters()) <= 120_000
    assert not evaluator.training
    assert not any(p.requires_grad for p in evaluator.parameters())


def test_it_reads_digits_that_were_drawn_by_hand(evaluator: Evaluator) -> None:
    logits = evaluator(strokes())
    assert logits.argmax(dim=1).tolist() == [1, 0]
    assert float(logits.softmax(dim=1).max(dim=1).values.min()) > 0.9


def test_logits_are_the_head_of_the_features(evaluator: Evaluator) -> None:
    x = images(5)
    features = evaluator.features(x)
    assert features.shape == (5, FEATURES)
    assert bool((features >= 0).all())
    logits = evaluator(x)
    assert logits.shape == (5, CLASSES)
    torch.testing.assert_close(logits, nn.functional.linear(features, evaluator.head.weight, evaluator.head.bias))


def test_one_image_does_not_depend_on_the_others(evaluator: Evaluator) -> None:
    x = images(7)
    alone = torch.cat([evaluator.features(image[None]) for image in x])
    torch.testing.assert_close(evaluator.features(x), alone, rtol=1e-5, atol=1e-5)


def test_batches_do_not_change_the_result(evaluator: Evaluator) -> None:
    x = images(11)
    whole = evaluate(evaluator, x)
    for batch_size in (1, 4, 11, 100):
        split = evaluate(evaluator, x, batch_size=batch_size)
        torch.testing.assert_close(split, whole, rtol=1e-5, atol=1e-5)
    assert [tuple(part.shape) for part in whole] == [(11, FEATURES), (11, CLASSES)]
    torch.testing.assert_close(whole[1], evaluator(x), rtol=1e-5, atol=1e-4)


def test_no_batch_is_larger_than_asked(evaluator: Evaluator) -> None:
    sizes = []
    hook = evaluator.convs[0].register_forward_hook(lambda _, arguments, __: sizes.append(len(arguments[0])))
    evaluate(evaluator, images(11), batch_size=4)
    hook.remove()
    assert sizes == [4, 4, 3]


def test_other_precisions_are_taken(evaluator: Evaluator) -> None:
    x = images(3)
    torch.testing.assert_close(evaluator(x.double()), evaluator(x))
    assert evaluate(evaluator, x.half())[0].dtype == torch.float32


def test_gradients_reach_the_image_and_evaluate_keeps_no_graph(evaluator: Evaluator) -> None:
    x = images(2).requires_grad_()
    evaluator(x).log_softmax(dim=1)[:, 3].sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().max()) > 0
    assert not evaluate(evaluator, x)[0].requires_grad


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(2, 1, 28, 27), r"must have shape \(batch, 1, 28, 28\), got \(2, 1, 28, 27\)"),
        (torch.zeros(2, 3, 28, 28), r"must have shape \(batch, 1, 28, 28\)"),
        (torch.zeros(2, 28, 28), r"must have shape \(batch, 1, 28, 28\)"),
        (torch.zeros(28), "must have shape"),
        (torch.zeros(0, 1, 28, 28), "is empty"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "must be a floating-point tensor"),
        (torch.full((2, 1, 28, 28), math.nan), "has entries that are NaN"),
        ([1.0], "must be a torch.Tensor, got list"),
    ],
)
def test_bad_images_are_named(evaluator: Evaluator, bad: Tensor, message: str) -> None:
    for call in (evaluator.features, evaluator):
        with pytest.raises(ValueError, match="x " + message):
            call(bad)
    with pytest.raises(ValueError, match="images " + message):
        evaluate(evaluator, bad)


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, None])
def test_a_bad_batch_size_is_named(evaluator: Evaluator, batch_size: int) -> None:
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1"):
        evaluate(evaluator, images(2), batch_size=batch_size)


@pytest.mark.full
@pytest.mark.skipif("FLOWLIB_DATA" not in os.environ, reason="needs MNIST: set FLOWLIB_DATA")
def test_accuracy_on_the_test_set_is_the_one_stated(evaluator: Evaluator) -> None:
    from flowlib.data import mnist

    test = mnist.load("test")
    _, logits = evaluate(evaluator, test.images)
    # The logits round differently on another processor, which can turn a digit that stands on the border.
    assert int((logits.argmax(dim=1) == test.labels).sum()) == pytest.approx(9963, abs=1)
