"""Your own images from a folder: one sub-folder a label, or none, and perhaps a caption beside each image.

    pets/cats/tom.png      pets/cats/tom.txt: "a cat asleep"
    pets/dogs/rex.jpg      pets/dogs/rex.txt: "a dog on grass"

About a tenth of the images of each label is the test part. A file is in it if a hash of its name in the folder
("cats/tom.png") is below a tenth of all hashes, so that the split is the same on every machine and a new file moves no
other. Small labels are the exception: each part needs one file. If a label has no file below the tenth, that with the
lowest hash is tested on, until a new file has a lower one; if it has no other, that with the highest is learned from.
"""

import hashlib
import os
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from flowlib.checks import check_choice, check_count
from flowlib.data.dataset import SPLITS, DataError, Dataset, words_of
from flowlib.data.pixels import decode, is_grey, open_image, stack

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
TEST_SHARE = 0.1


class File(NamedTuple):
    """An image, and the number of its label."""

    path: Path
    label: int


def load(path: Path | str, split: str = "train", *, size: int | None = None) -> Dataset:
    """Return the images of a folder, of which about 10 % of each label are the test part.

    Images lie in the sub-folders, whose names in sorted order are the labels, or all in the folder itself, and then
    have none. A .txt file of the same stem beside an image is its caption, in UTF-8, without the white space around it;
    all images have one, or none has. Hidden files, `__MACOSX` and files of other kinds are passed over.

    The images have one channel if every file is of a grey kind, in either part; else they are RGB. What is transparent
    is laid on white, the rotation that a camera notes (EXIF) is carried out, 16 bits become 8, and of several frames
    the first is taken.

    Args:
        path: the folder.
        split: "train" or "test". For "train" the test images are read too: a file that is damaged is found before
            hours of training, not after.
        size: the side of a square: each image is scaled until its shorter side fits (bicubic) and cut to its middle.
            None: as the images are, all of one size.

    Returns:
        Images (N, 1 or 3, H, W) float32 in [-1, 1], a pixel p being p/127.5 - 1, in the order of their hashes: so the
        first hundred are a fair sample of all.

    Raises:
        ValueError: if the split is unknown or the size is not positive.
        DataError: if there is no such folder; if it holds no images, or some beside folders of images, or one label
            only, or a label of fewer than two images; if a file cannot be read, has another size than the first or
            lacks the caption that others have. The message names the file or folder.
    """
    check_choice("split", split, SPLITS)
    if size is not None:
        check_count("size", size)
    root = Path(path)
    files, names = _scan(root)
    captions, hashes = _read_captions(files), [_hash(file.path.relative_to(root)) for file in files]
    tests, grey = _choose_tests(files, hashes), True
    arrays: dict[int, np.ndarray] = {}
    first: tuple[Path, tuple[int, ...]] | None = None
    for i, file in enumerate(tqdm(files, desc="reading", unit="image", delay=2, leave=False, disable=None)):
        wanted = (i in tests) == (split == "test")
        with open_image(file.path) as image:
            grey = grey and is_grey(image)
            array = decode(image, size) if wanted or split == "train" else None
        if array is None:
            continue
        sides = array.shape[:2]
        first = first or (file.path, sides)
        if sides != first[1]:
            raise DataError(
                f"{file.path} is {sides[1]} x {sides[0]} pixels, but {first[0]} is {first[1][1]} x {first[1][0]}: "
                "all must have one size, or be scaled to one by `size`"
            )
        if wanted:
            arrays[i] = array
    order = sorted(arrays, key=hashes.__getitem__)
    texts: dict[str, Any] = {}
    if captions is not None:  # with the words of both parts, of which one model is to read all
        words, length = words_of(captions)
        texts = {"captions": [captions[i] for i in order], "words": words, "length": length}
    return Dataset(
        stack([arrays[i] for i in order], grey),
        torch.tensor([files[i].label for i in order]) if names else None,
        name=os.path.abspath(root),  # which no other data set is called
        levels=256,
        names=names,
        **texts,
    )


def _scan(root: Path) -> tuple[list[File], tuple[str, ...]]:
    """The images in a folder, sorted by label and name, and the names of the labels."""
    if not root.is_dir():
        raise DataError(f"{root} is a file, no folder" if root.exists() else f"there is no folder {root}")
    images, folders = _list(root)
    inside = {folder: _list(folder) for folder in folders}
    full = [folder for folder in folders if inside[folder][0]]
    if images and full:
        raise DataError(f"{images[0]} lies beside {full[0]}, a folder with images: put it into the folder of a label")
    if images:
        _check_several(root, images)
        return [File(image, 0) for image in images], ()
    for _, deeper in inside.values():
        if deeper:
            raise DataError(f"{deeper[0]} is a folder in that of a label: images lie in FOLDER/LABEL, no deeper")
    if not full:
        raise DataError(f"{root} holds no images: no file in it ends in {', '.join(ENDINGS)}")
    if len(folders) == 1:
        raise DataError(f"{root} has one label only, {full[0].name}: add another, or give {full[0]} as the folder")
    for folder in folders:
        _check_several(folder, inside[folder][0])
    files = [File(image, label) for label, folder in enumerate(folders) for image in inside[folder][0]]
    return files, tuple(_plain(folder.name) for folder in folders)


def _list(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images and the folders in a folder, each sorted."""
    try:
        paths = [path for path in folder.iterdir() if path.name[0] != "." and path.name != "__MACOSX"]
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror})") from None
    paths.sort(key=lambda path: _plain(path.name))
    folders = [path for path in paths if path.is_dir()]
    return [path for path in paths if path.suffix.lower() in ENDINGS and not path.is_dir()], folders


def _check_several(folder: Path, images: list[Path]) -> None:
    if len(images) < 2:
        raise DataError(f"{folder} has too few images: {len(images)}, one to learn from and one to test on are needed")


def _plain(name: str) -> str:
    """The name in one spelling: systems differ in how they compose accents."""
    return unicodedata.normalize("NFC", name)


def _hash(name: Path) -> float:
    """A number in [0, 1) for a file's name in its folder, as good as random, and the same everywhere."""
    content = _plain(name.as_posix()).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") / 2**64


def _choose_tests(files: list[File], hashes: list[float]) -> set[int]:
    """Which files are the test part."""
    labels: dict[int, list[int]] = {}
    for i in sorted(range(len(files)), key=hashes.__getitem__):
        labels.setdefault(files[i].label, []).append(i)
    chosen: set[int] = set()
    for ranked in labels.values():
        count = sum(hashes[i] < TEST_SHARE for i in ranked)
        chosen.update(ranked[: min(max(count, 1), len(ranked) - 1)])
    return chosen


def _read_captions(files: list[File]) -> list[str] | None:
    paths = [file.path.with_suffix(".txt") for file in files]
    there = [path.is_file() for path in paths]
    if not any(there):
        return None
    if not all(there):
        missing = files[there.index(False)].path
        raise DataError(f"{missing} has no caption: {sum(there)} of {len(files)} images have a .txt file beside them")
    texts = [_read_text(path) for path in paths]
    if "" in texts:
        raise DataError(f"{paths[texts.index('')]} is empty: it should hold the caption of an image")
    return texts


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error})") from None
