"""Data by name: real handwriting (`digits`, `mnist`) and two-dimensional sets (`toy`)."""

from flowlib.checks import check_choice
from flowlib.data import digits, mnist, toy
from flowlib.data.dataset import SPLITS, DataError, Dataset, Spec

__all__ = ["SPLITS", "DataError", "Dataset", "Spec", "available", "digits", "load", "mnist", "open_data", "toy"]


def available() -> tuple[str, ...]:
    """Return the names that `load` knows."""
    return ("digits", "mnist", *toy.SETS)


def load(name: str, split: str = "train") -> Dataset:
    """Return the data set `name`.

    Args:
        name: one of `available()`.
        split: "train" or "test"; the two share no sample.

    Raises:
        ValueError: if the name or the split is unknown.
        DataError: if the files of "mnist" are damaged, or are absent and cannot be fetched.
    """
    check_choice("name", name, available())
    if name == "digits":
        return digits.load(split)
    if name == "mnist":
        return mnist.load(split)
    return toy.load(name, split)


def open_data(text: str, split: str = "train") -> Dataset:
    return load(text, split)
