"""MNIST found, verified and refused: small IDX files in its place, then the real ones where they are."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_mnist import BOTH_WAYS, CLOSED, REAL, TRAIN, encode, flip, put, truncate

from flowlib import data
from flowlib.data import idx, mnist
from flowlib.data.dataset import DataError


@pytest.mark.parametrize("packed", [True, False])
def test_found_in_flowlib_data_packed_or_not(small: dict, tmp_path: Path, packed: bool) -> None:
    assert mnist.find() is None
    folder = put(tmp_path / "data" / "MNIST" / "raw", small, packed)
    assert mnist.find() == folder
    train, test = data.load("mnist"), data.load("mnist", "test")
    assert (len(train), len(test), train.shape, train.classes) == (7, 3, (1, 28, 28), 10)
    assert train.levels == test.levels == 256
    pixels, labels = mnist.raw()
    assert pixels.dtype == torch.uint8
    assert pixels.numpy().tobytes() == small[TRAIN][16:]
    assert torch.equal(train.images, pixels / 127.5 - 1)
    assert torch.equal(train.labels, labels)
    assert labels.tolist() == list(small["train-labels-idx1-ubyte"][8:])


@pytest.mark.parametrize("variable", [None, "", "elsewhere"])
def test_the_cache_is_second(
    small: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    if variable is None:
        monkeypatch.delenv("FLOWLIB_DATA")
    else:
        monkeypatch.setenv("FLOWLIB_DATA", variable)
    folder = put(tmp_path / "cache" / "flowlib" / "MNIST" / "raw", small)
    assert mnist.find() == folder
    assert len(mnist.load("test")) == 3


def test_three_of_four_files_are_not_mnist(small: dict, tmp_path: Path) -> None:
    folder = put(tmp_path / "data" / "MNIST" / "raw", small)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    assert mnist.find() is None


def damage(content: bytes) -> bytes:
    packed = bytearray(gzip.compress(content))
    packed[-6] ^= 0xFF  # in the check sum
    return bytes(packed)


FAULTS: list[tuple[Callable[[bytes], bytes], str]] = [
    (truncate, "is truncated: its gzip stream ends after"),
    (damage, "is damaged: its gzip stream does not decompress"),
    (flip, "has the wrong content: unpacked, its SHA-256 is"),
    (lambda content: gzip.compress(flip(content)), "has the wrong content"),
    (lambda content: b"", r"is no IDX file: 0 bytes"),
    (lambda content: b"<!DOCTYPE html>", r"is no IDX file: 15 bytes that start with b'<!DO'"),
    (lambda content: content[:-1], r"announces 7 x 28 x 28 entries, but 5,487 bytes follow"),
    (lambda content: content + b"0", r"announces 7 x 28 x 28 entries, but 5,489 bytes follow"),
    (lambda content: content[:10], "ends after 10 bytes, inside its IDX header of 16"),
    (lambda content: b"\0\0\x0d" + content[3:], "has an IDX header of type 0x0d and 3 dimensions"),
    (lambda content: encode(torch.zeros(7)), r"wrong layout: it holds \(7,\), expected \(7, 28, 28\)"),
]


@pytest.mark.parametrize("where", ["data", "cache/flowlib"])
@pytest.mark.parametrize(("fault", "said"), FAULTS)
def test_a_bad_file_is_an_error_that_names_it(
    small: dict, tmp_path: Path, where: str, fault: Callable[[bytes], bytes], said: str
) -> None:
    folder = put(tmp_path / where / "MNIST" / "raw", small)
    bad = folder / f"{TRAIN}.gz"
    bad.write_bytes(fault(small[TRAIN]))
    with pytest.raises(DataError, match=said) as caught:
        mnist.load()
    assert str(caught.value).startswith(str(bad))
    assert "Either delete it, so that it is fetched again, or put sound copies" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(mnist.load("test")) == 3  # the other split does not read the bad file


def test_a_bad_file_is_not_passed_over_for_a_good_one(small: dict, tmp_path: Path) -> None:
    put(tmp_path / "cache" / "flowlib" / "MNIST" / "raw", small)
    bad = put(tmp_path / "data" / "MNIST" / "raw", small) / f"{TRAIN}.gz"
    bad.write_bytes(truncate(small[TRAIN]))
    with pytest.raises(DataError, match=str(bad)):
        mnist.load()


def test_an_unreadable_file_is_an_error(small: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "data" / "MNIST" / "raw", small)

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=f"{TRAIN}.gz cannot be read .*Permission denied.*{BOTH_WAYS}"):
        mnist.load()


def test_idx_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(DataError, match="it has an IDX header of type 0x08 and 0 dimensions"):
        idx.parse(b"\0\0\x08\0", "it")
    with pytest.raises(DataError, match="announces 0 x 28 entries, but 0 bytes follow"):
        idx.parse(encode(torch.zeros(0, 28)), "it")
    assert idx.parse(encode(torch.tensor([[1, 2, 3]])), "it").tolist() == [[1, 2, 3]]
    assert issubclass(DataError, ValueError)


@pytest.fixture
def real() -> Path:
    folder = mnist.find()
    if folder is None:
        pytest.skip("MNIST is not on this machine: set FLOWLIB_DATA to the directory that holds MNIST/raw")
    return folder


@pytest.mark.parametrize(
    ("split", "zeros", "first", "ink"),
    [("train", 5923, [5, 0, 4, 1, 9], 0.1307), ("test", 980, [7, 2, 1, 0, 4], 0.1325)],
)
def test_the_real_files(real: Path, split: str, zeros: int, first: list[int], ink: float) -> None:
    part = mnist.load(split)
    assert len(part) == REAL[split, "images"].shape[0]
    assert part.images.dtype == torch.float32
    assert part.shape == (1, 28, 28)
    assert (float(part.images.min()), float(part.images.max())) == (-1, 1)
    assert int((part.labels == 0).sum()) == zeros
    assert part.labels[:5].tolist() == first
    assert abs(float((part.images + 1).mean()) / 2 - ink) < 1e-4  # the mean that the field normalises by


def test_a_truncated_copy_of_the_real_file(real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "t10k-labels-idx1-ubyte"
    monkeypatch.setattr(mnist, "MIRRORS", (CLOSED,))
    content = mnist._locate(real, REAL["test", "labels"]).read_bytes()
    folder = put(tmp_path / "MNIST" / "raw", {})
    (folder / f"{name}.gz").write_bytes(gzip.compress(idx.unpack(content, name))[:-100])
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))
    with pytest.raises(DataError, match="truncated"):
        mnist._read(REAL["test", "labels"])


def test_the_home_directory_may_be_written_as_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FLOWLIB_DATA", "~/data")
    assert mnist._folders()[0] == tmp_path / "data" / "MNIST" / "raw"
