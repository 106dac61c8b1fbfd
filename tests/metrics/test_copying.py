"""The data-copying test: against its definition, and on samples that copy, stray or do neither."""

import pytest
import torch
from torch import Tensor

from flowlib.metrics import data_copying, nearest_distance


def draws(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_nearest_distance_is_that() -> None:
    x, data = draws(0, 20, 3, 2), draws(1, 50, 3, 2)
    expected = torch.cdist(x.flatten(1), data.flatten(1)).min(1).values
    torch.testing.assert_close(nearest_distance(x, data).float(), expected, atol=1e-4, rtol=1e-4)


def test_the_score_is_the_papers() -> None:
    """C_T of Meehan et al. 2020, section 4, term by term: Z_U of each cell, weighted by the held-out data in it."""
    samples, held_out, train = draws(0, 40, 2), draws(1, 30, 2), draws(2, 60, 2)
    labels = torch.arange(40) % 3, torch.arange(30) % 4 % 3, torch.arange(60) % 3
    total, weight = 0.0, 0
    for label in range(3):
        q, p, t = (one[y == label] for one, y in zip((samples, held_out, train), labels, strict=True))
        a, b = torch.cdist(q, t).min(1).values, torch.cdist(p, t).min(1).values
        u = float((a[:, None] > b).sum())
        m, n = len(a), len(b)
        total += n * (u - m * n / 2) / (m * n * (m + n + 1) / 12) ** 0.5
        weight += n
    assert data_copying(samples, held_out, train, labels).score == pytest.approx(total / weight, abs=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_new_data_do_not_copy_copies_do_and_noise_strays(seed: int) -> None:
    train, held_out, fresh = draws(seed, 3, 1000, 5).unbind()
    honest = data_copying(fresh, held_out, train)
    assert abs(honest.score) < 5  # standard normal under the null: a false alarm in 1e-6
    assert honest.closer == pytest.approx(0.5, abs=0.1)
    assert honest.nearest == pytest.approx(honest.held_out, rel=0.1)
    copies = data_copying(train + 0.01 * fresh, held_out, train)
    assert copies.score < -20
    assert copies.closer > 0.99
    half = data_copying(torch.cat([train[:500], fresh[:500]]), held_out, train)
    assert copies.score < half.score < -10
    assert data_copying(2 * fresh, held_out, train).score > 20


def test_a_label_that_is_copied_is_seen_within_labels() -> None:
    """Samples of label 1 are training data of label 0: near the data as a whole, far from those of their own label."""
    train = torch.cat([draws(0, 500, 3), draws(1, 500, 3) + 20])
    held_out, y = torch.cat([draws(2, 500, 3), draws(3, 500, 3) + 20]), torch.arange(1000) // 500
    samples = torch.cat([draws(4, 500, 3), train[:500]])
    assert data_copying(samples, held_out, train).score < -8
    assert data_copying(samples, held_out, train, (y, y, y)).score > 8


def test_labels_that_lack_a_set_are_left_out() -> None:
    train, held_out, fresh = draws(0, 3, 60, 2).unbind()
    y = torch.arange(60) % 2
    only = torch.zeros(60, dtype=torch.long)
    part = data_copying(fresh, held_out[y == 0], train[y == 0])
    assert data_copying(fresh, held_out, train, (only, y, y)).score == pytest.approx(part.score)
    with pytest.raises(ValueError, match="no label has"):
        data_copying(fresh, held_out, train, (only, only + 1, only))


def test_bad_input_is_named() -> None:
    x = draws(0, 10, 2)
    for call, says in (
        (lambda: data_copying(x, draws(1, 5, 3), x), "data must have shape"),
        (lambda: data_copying(x, x, x, (torch.zeros(9).long(),) * 3), "the labels of samples must"),
        (lambda: nearest_distance(x, x[:0]), "data is empty"),
        (lambda: nearest_distance(x[:0], x), "x is empty"),
        (lambda: nearest_distance(x / 0, x), "x"),
    ):
        with pytest.raises(ValueError, match=says):
            call()
