"""The 1,797 handwritten digits of 8x8 pixels that come with scikit-learn: real data with no download.

A pixel counts the inked dots of a 4x4 block, so it is an integer 0 ... 16. Source: E. Alpaydin and C. Kaynak,
"Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998 (its test part).
"""

import torch
from torch import Tensor

from flowlib.checks import check_choice
from flowlib.data.dataset import SPLITS, Dataset

CLASSES = 10
TEST_SIZE = 297
_SPLIT_SEED = 0


def load(split: str = "train") -> Dataset:
    """Return the 1,500 training or the 297 test digits.

    The split is always the same: a seeded permutation within each class (stratified), so that every class
    gives its share of the test set, rounded up or down.

    Returns:
        Images (N, 1, 8, 8) float32 in [-1, 1], a pixel p being p/8 - 1; labels 0 ... 9, the digit.

    Raises:
        ValueError: if the split is unknown.
    """
    pixels, labels = raw(split)
    return Dataset(pixels.float().div_(8).sub_(1), labels, CLASSES, "digits", levels=17, judge="reader")


def raw(split: str = "train") -> tuple[Tensor, Tensor]:
    """Return the pixels as stored, (N, 1, 8, 8) uint8 in 0 ... 16, and the labels (N,) int64.

    Raises:
        ValueError: if the split is unknown.
    """
    check_choice("split", split, SPLITS)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = torch.from_numpy(bunch.images).to(torch.uint8)[:, None]
    labels = torch.from_numpy(bunch.target).long()
    index = _split(labels)[split]
    return pixels[index], labels[index]


def _split(labels: Tensor) -> dict[str, Tensor]:
    """Indices of each split: shuffle, group by class, take the first of every class in equal proportion."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    order = shuffled[labels[shuffled].argsort(stable=True)]
    counts = labels.bincount(minlength=CLASSES)
    starts = counts.cumsum(0) - counts
    group = labels[order]
    rank = torch.arange(len(labels)) - starts[group]  # 0, 1, 2, ... within each class
    fraction = (rank + 0.5) / counts[group]
    order = order[fraction.argsort(stable=True)]
    return {"test": order[:TEST_SIZE].sort().values, "train": order[TEST_SIZE:].sort().values}
