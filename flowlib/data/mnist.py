"""MNIST: 60,000 training and 10,000 test digits of 28x28 pixels, from its four IDX files.

Each is looked for, packed or not, in `$FLOWLIB_DATA/MNIST/raw` (where torchvision leaves it), then in the
user cache, and fetched if it is in neither. Wherever it came from, its layout and the SHA-256 of its unpacked
content are verified before it is used. Source: Y. LeCun et al., "Gradient-based learning applied to document
recognition", 1998.
"""

import hashlib
import io
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import torch
from torch import Tensor

from flowlib.checks import check_choice
from flowlib.data import idx
from flowlib.data.dataset import SPLITS, DataError, Dataset

CLASSES = 10
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_SECONDS = 30  # without an answer, after which a mirror is given up

_log = logging.getLogger(__name__)


class File(NamedTuple):
    """One of the four files: its unpacked name, the shape it holds, the SHA-256 of its unpacked content."""

    name: str
    shape: tuple[int, ...]
    sha256: str


FILES = {
    ("train", "images"): File(
        "train-images-idx3-ubyte",
        (60_000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    ("train", "labels"): File(
        "train-labels-idx1-ubyte",
        (60_000,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    ("test", "images"): File(
        "t10k-images-idx3-ubyte",
        (10_000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    ("test", "labels"): File(
        "t10k-labels-idx1-ubyte",
        (10_000,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}


def load(split: str = "train") -> Dataset:
    """Return the 60,000 training or the 10,000 test digits.

    Returns:
        Images (N, 1, 28, 28) float32 in [-1, 1], a pixel p being p/127.5 - 1; labels 0 ... 9, the digit.

    Raises:
        ValueError: if the split is unknown.
        DataError: as `raw`.
    """
    pixels, labels = raw(split)
    return Dataset(pixels.float().div_(127.5).sub_(1), labels, CLASSES, "mnist", levels=256, judge="evaluator")


def raw(split: str = "train") -> tuple[Tensor, Tensor]:
    """Return the pixels as stored, (N, 1, 28, 28) uint8 (what bits/dim counts), and the labels (N,) int64.

    Raises:
        ValueError: if the split is unknown.
        DataError: if a file is damaged, or is absent and cannot be fetched or stored; it names the ways out.
    """
    check_choice("split", split, SPLITS)
    return _read(FILES[split, "images"])[:, None], _read(FILES[split, "labels"]).to(torch.int64)


def find() -> Path | None:
    """Return the first directory that holds all four files, or None; nothing is fetched, nothing verified."""
    complete = (folder for folder in _folders() if all(_locate(folder, file) for file in FILES.values()))
    return next(complete, None)


def _folders() -> list[Path]:
    """The directories that are searched, in order; the last is the one that a fetched file is stored in."""
    import pooch

    data = os.environ.get("FLOWLIB_DATA")
    roots = [data] if data else []
    return [Path(root).expanduser() / "MNIST" / "raw" for root in (*roots, pooch.os_cache("flowlib"))]


def _locate(folder: Path, file: File) -> Path | None:
    paths = (folder / file.name, folder / f"{file.name}.gz")
    return next((path for path in paths if os.path.isfile(path)), None)


def _read(file: File) -> Tensor:
    """The verified content of `file`. The first that is found is used or refused, never passed over."""
    folders = _folders()
    path = next((path for folder in folders if (path := _locate(folder, file))), None)
    if path is None:
        return _fetch(file, folders)
    try:
        return _verify(file, path.read_bytes(), str(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}). {_ways_out('make it readable')}") from error
    except DataError as error:
        raise DataError(f"{error}. {_ways_out('delete it, so that it is fetched again')}") from None


def _verify(file: File, content: bytes, source: str) -> Tensor:
    """The tensor that `content`, packed or not, holds, once its layout and its hash are found right."""
    content = idx.unpack(content, source)
    tensor = idx.parse(content, source)
    if tuple(tensor.shape) != file.shape:
        raise DataError(f"{source} has the wrong layout: it holds {tuple(tensor.shape)}, expected {file.shape}")
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise DataError(
            f"{source} has the wrong content: unpacked, its SHA-256 is {found}, MNIST's is {file.sha256} "
            "(other sets, such as Fashion-MNIST, use the same file names)"
        )
    return tensor


def _fetch(file: File, folders: list[Path]) -> Tensor:
    """Download `file` from the first mirror that serves it right, store it and return its content."""
    path = folders[-1] / f"{file.name}.gz"
    try:
        with _whole_file(path) as target:  # opened first: no download of what cannot be kept
            content, tensor = _download(file, folders)
            target.write(content)
    except OSError as error:
        first = f"make the directory {path.parent} writable, with 15 MB to spare"
        raise DataError(f"{path} cannot be written ({error}). {_ways_out(first)}") from error
    return tensor


def _download(file: File, folders: list[Path]) -> tuple[bytes, Tensor]:
    """The bytes of `file` as served, and what they hold; into memory, so that an OSError is the network's."""
    import pooch

    download = pooch.HTTPDownloader(progressbar=True, timeout=_SECONDS, chunk_size=1 << 16)
    failures = []
    for mirror in MIRRORS:
        url, buffer = f"{mirror}{file.name}.gz", io.BytesIO()
        try:
            download(url, buffer, None)
            return buffer.getvalue(), _verify(file, buffer.getvalue(), url)
        except OSError as error:
            failures.append(f"{url} could not be reached ({type(error).__name__})")
            _log.debug("%s: %s", url, error)  # too long for a line that a user reads
        except DataError as error:
            failures.append(str(error))
    searched = " nor in ".join(map(str, folders))
    raise DataError(
        f"{file.name}.gz is not in {searched}, and it could not be fetched: {'; '.join(failures)}. "
        f"{_ways_out('connect to the network and run this again')}"
    )


def _ways_out(first: str) -> str:
    own = "put sound copies of MNIST's four .gz files into a directory DIR/MNIST/raw and set FLOWLIB_DATA=DIR"
    return f"Either {first}, or {own}"


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears at `path` complete or not at all, whatever happens on the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as target:
            yield target
            target.flush()
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
