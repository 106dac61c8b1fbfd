"""Data by name: real handwriting (`digits`, `mnist`), scenes of it, two-dimensional sets; and folders by their path."""

import os
from typing import Literal, overload

from flowlib.checks import check_choice
from flowlib.data import digits, folder, mnist, scenes, styles, toy
from flowlib.data.dataset import DataError, Dataset
from flowlib.data.scenes import Scenes
from flowlib.data.spec import Data


def available() -> tuple[str, ...]:
    """Return the names that `load` knows.

    Example:
        >>> from flowlib.data import available
        >>> available()[:3]
        ('digits', 'mnist', 'scenes')
        >>> "moons" in available()
        True
    """
    return ("digits", "mnist", *scenes.SETS, *styles.SETS, *toy.SETS)


@overload
def load(name: Literal["scenes", "scenes-mnist", "scenes-32", "scenes-32-mnist"], split: str = ...) -> Scenes: ...  # type: ignore[overload-overlap]
@overload
def load(name: str, split: str = ...) -> Dataset: ...
def load(name: str, split: str = "train") -> Dataset | Scenes:
    """Return the data set `name`.

    Args:
        name: one of `available()`.
        split: "train" or "test"; the two share no sample.

    Raises:
        ValueError: if the name or the split is unknown.
        DataError: if the files of MNIST are damaged, or are absent and cannot be fetched.

    Example:
        >>> import torch
        >>> from flowlib.data import load
        >>> train, test = load("digits"), load("digits", "test")
        >>> len(train), len(test), train.shape, train.classes
        (1500, 297, (1, 8, 8), 10)
        >>> batch = train.batch(torch.tensor([0, 1, 2]))
        >>> batch["x"].shape, float(batch["x"].min()), batch["label"]
        (torch.Size([3, 1, 8, 8]), -1.0, tensor([0, 1, 2]))
    """
    check_choice("name", name, available())
    if name == "digits":
        return digits.load(split)
    if name == "mnist":
        return mnist.load(split)
    if name in scenes.SETS:
        return scenes.load(split, *scenes.SETS[name])
    if name in styles.SETS:
        return styles.load(name, split)
    return toy.load(name, split)


def open_data(text: str, split: str = "train") -> Data:
    """Return the data set of a name, or that of a folder of images.

    Args:
        text: one of `available()`, or the path of a folder as `flowlib.data.folder.load` takes it. A name comes
            before a folder that is called the same: "mnist" is MNIST, "./mnist" the folder. "FOLDER@16" is a folder
            whose images are scaled to 16 x 16 pixels.
        split: "train" or "test"; the two share no sample.

    Raises:
        ValueError: if the split is unknown.
        DataError: if `text` is neither; if the data cannot be had, or are no such folder.

    Example:
        >>> from pathlib import Path
        >>> import torch
        >>> from PIL import Image
        >>> from flowlib.data import open_data
        >>> Path("pictures").mkdir()
        >>> for i in range(20):
        ...     Image.new("RGB", (32, 32), (10 * i, 0, 0)).save(f"pictures/{i}.png")
        >>> open_data("pictures@16").shape, open_data("moons").shape
        ((3, 16, 16), (2,))
    """
    if text in available():
        return load(text, split)
    path, at, size = text.rpartition("@")
    if at and size.isdecimal() and not os.path.exists(text):
        return folder.load(path, split, size=int(size))
    if not os.path.exists(text):
        raise DataError(
            f"there is no data set and no folder {text!r}: give one of {', '.join(available())}, "
            "or the path of a folder of images"
        )
    return folder.load(text, split)
