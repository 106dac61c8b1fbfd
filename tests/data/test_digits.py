"""The bundled digits, their fixed split, and what every data set promises: `Dataset` and `load`."""

import dataclasses
import hashlib

import pytest
import torch

from flowlib import data
from flowlib.data import digits
from flowlib.data.dataset import Dataset


def test_shapes_ranges_and_values() -> None:
    train, test = data.load("digits"), data.load("digits", "test")
    assert (len(train), len(test)) == (1500, 297)
    assert train.shape == (1, 8, 8)
    assert (train.classes, train.name) == (10, "digits")
    assert train.levels == test.levels == len(train.images.unique()) == 17
    for part in (train, test):
        assert part.images.dtype == torch.float32
        assert part.labels.dtype == torch.int64
        assert (float(part.images.min()), float(part.images.max())) == (-1, 1)
    pixels, labels = digits.raw("test")
    assert pixels.dtype == torch.uint8
    assert torch.equal((test.images + 1) * 8, pixels.float())
    assert torch.equal(labels, test.labels)


def test_split_is_stratified_disjoint_and_complete() -> None:
    from sklearn.datasets import load_digits

    labels = torch.from_numpy(load_digits().target)
    index = digits._split(labels)
    assert torch.equal(torch.cat(list(index.values())).sort().values, torch.arange(1797))
    share = labels.bincount() * 297 / 1797
    assert (labels[index["test"]].bincount() - share).abs().max() <= 1
    # A class is shuffled before it is cut: its test part is not simply its first images.
    assert index["test"].double().mean() > 600


def test_split_is_the_same_everywhere() -> None:
    pixels, labels = digits.raw("test")
    found = hashlib.sha256(pixels.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    assert found == "3e388867795e534749c2c30e28cf530385db8c0f802473250f0e7b9e08d529b1"


def test_load_and_available() -> None:
    assert data.available()[:2] == ("digits", "mnist")
    assert "moons" in data.available()
    with pytest.raises(ValueError, match=r"name must be one of digits, mnist, gaussians, .*; got 'cifar'"):
        data.load("cifar")
    for name in data.available():
        with pytest.raises(ValueError, match="split must be one of train, test; got 'valid'"):
            data.load(name, "valid")


def test_a_batch_is_an_index() -> None:
    train = data.load("digits")
    index = torch.tensor([3, 0, 3, 1499])
    x, y = train.batch(index)
    assert x.shape == (4, 1, 8, 8)
    assert torch.equal(x[1], train.images[0])
    assert torch.equal(y, train.labels[index])
    x.zero_()  # a new tensor: the set itself is not touched
    assert train.images[3].abs().sum() > 0
    assert train.to("cpu").name == "digits"


@pytest.mark.parametrize(
    ("index", "named"),
    [
        (torch.tensor([1500]), "index must lie in 0 ... 1499"),
        (torch.tensor(3), "index must be an integer tensor"),
        (torch.tensor([0.5]), "index must be an integer tensor"),
        (torch.ones(1500, dtype=torch.bool), "index must be an integer tensor"),
        ([1, 2], "index must be an integer tensor of shape \\(batch,\\), got list"),
    ],
)
def test_a_bad_index_is_named(index: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        data.load("digits").batch(index)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"images": torch.zeros(2, 2, dtype=torch.int64)}, "images must be a floating-point"),
        ({"images": torch.full((2, 2), torch.nan)}, "images has entries that are NaN"),
        ({"images": torch.zeros(0, 2), "labels": torch.zeros(0, dtype=torch.int64)}, "images is empty"),
        ({"labels": torch.zeros(2)}, "labels must be an int64 tensor, got torch.float32"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, r"labels must have shape \(2,\)"),
        ({"labels": torch.tensor([0, 3])}, "labels must lie in 0 ... 2, got 0 ... 3"),
        ({"labels": torch.tensor([-1, 0])}, "labels must lie in 0 ... 2, got -1 ... 0"),
        ({"classes": 0}, "classes must be an integer >= 1"),
        ({"levels": 1}, "levels must be an integer >= 2"),
    ],
)
def test_a_bad_dataset_is_refused(change: dict, named: str) -> None:
    good = Dataset(torch.zeros(2, 2), torch.tensor([0, 2]), 3, "good")
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(good, **change)
