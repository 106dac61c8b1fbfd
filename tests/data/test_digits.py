"""The bundled digits, their fixed split, and `load`."""

import hashlib

import pytest
import torch

from flowlib import data
from flowlib.data import digits


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
    with pytest.raises(ValueError, match=r"name must be one of digits, mnist, scenes, .*; got 'cifar'"):
        data.load("cifar")
    for name in data.available():
        with pytest.raises(ValueError, match=r"split must be one of train, test(, compositions)?; got 'valid'"):
            data.load(name, "valid")
