"""MNIST: found, fetched, verified, refused. All but the last tests use small IDX files and a loopback server."""

import gzip
import hashlib
import http.server
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pooch
import pytest
import torch

from flowlib import data
from flowlib.data import idx, mnist
from flowlib.data.dataset import DataError

REAL = mnist.FILES
TRAIN = "train-images-idx3-ubyte"
CLOSED = "http://127.0.0.1:1/"  # nothing listens on port 1
NEITHER_WAY_MISSING = r"Either .* or put .* DIR/MNIST/raw and set FLOWLIB_DATA=DIR"


def encode(tensor: torch.Tensor) -> bytes:
    header = struct.pack(f">BBBB{tensor.ndim}I", 0, 0, 8, tensor.ndim, *tensor.shape)
    return header + tensor.to(torch.uint8).numpy().tobytes()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Replace MNIST by four small files; nothing on the disk yet, no mirror reachable. Returns name -> content."""
    generator = torch.Generator().manual_seed(0)
    contents, files = {}, {}
    for key, real in REAL.items():
        shape = (7 if key[0] == "train" else 3, *real.shape[1:])
        high = 256 if key[1] == "images" else 10
        contents[real.name] = encode(torch.randint(high, shape, generator=generator))
        files[key] = mnist.File(real.name, shape, hashlib.sha256(contents[real.name]).hexdigest())
    monkeypatch.setattr(mnist, "FILES", files)
    monkeypatch.setattr(mnist, "MIRRORS", (CLOSED, CLOSED))
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return contents


def put(folder: Path, contents: dict[str, bytes], packed: bool = True) -> Path:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    return folder


class Server(http.server.ThreadingHTTPServer):
    """Serves `pages`, path -> bytes, and keeps the paths that were asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        page = self.server.pages.get(self.path)
        self.send_response(404 if page is None else 200)
        self.send_header("Content-Length", str(len(page or b"")))
        self.end_headers()
        self.wfile.write(page or b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("packed", [True, False])
def test_found_in_flowlib_data_packed_or_not(small: dict, tmp_path: Path, packed: bool) -> None:
    assert mnist.find() is None
    folder = put(tmp_path / "data" / "MNIST" / "raw", small, packed)
    assert mnist.find() == folder
    train, test = data.load("mnist"), data.load("mnist", "test")
    assert (len(train), len(test), train.shape, train.classes) == (7, 3, (1, 28, 28), 10)
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


def truncate(content: bytes) -> bytes:
    return gzip.compress(content)[:-40]


def flip(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


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


def test_a_bad_file_is_not_passed_over_for_a_good_one(small: dict, tmp_path: Path, server: Server) -> None:
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
    with pytest.raises(
        DataError, match=f"{TRAIN}.gz cannot be read .*Permission denied.*{NEITHER_WAY_MISSING}"
    ):
        mnist.load()


def test_no_network_names_every_place_and_both_ways_out(small: dict, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=NEITHER_WAY_MISSING) as caught:
        mnist.load()
    said = str(caught.value)
    assert said.startswith(f"{TRAIN}.gz is not in ")
    assert str(tmp_path / "data" / "MNIST" / "raw") in said
    assert str(tmp_path / "cache" / "flowlib" / "MNIST" / "raw") in said
    assert said.count("could not be reached (ConnectionError)") == 2
    assert "connect to the network" in said
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []  # nothing half-written stays


def serve(server: Server, contents: dict[str, bytes], prefix: str = "/") -> None:
    server.pages |= {f"{prefix}{name}.gz": gzip.compress(content) for name, content in contents.items()}


def test_fetched_once_then_read_from_the_cache(
    small: dict, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, small)
    monkeypatch.setattr(mnist, "MIRRORS", (server.url, CLOSED))
    fetched = mnist.load()
    assert server.asked == [f"/{TRAIN}.gz", "/train-labels-idx1-ubyte.gz"]
    again = mnist.load()
    assert len(server.asked) == 2
    assert torch.equal(fetched.images, again.images)
    mnist.load("test")
    folder = tmp_path / "cache" / "flowlib" / "MNIST" / "raw"
    assert mnist.find() == folder
    assert {path.name for path in folder.iterdir()} == {f"{name}.gz" for name in small}


@pytest.mark.parametrize("fault", [None, truncate, flip, lambda content: b"<html>busy</html>"])
def test_the_second_mirror_serves_when_the_first_fails_or_lies(
    small: dict,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[bytes], bytes] | None,
) -> None:
    serve(server, small, "/good/")
    if fault is not None:
        server.pages |= {f"/bad/{name}.gz": fault(content) for name, content in small.items()}
    monkeypatch.setattr(mnist, "MIRRORS", (f"{server.url}bad/", f"{server.url}good/"))
    assert mnist.raw("train")[0].numpy().tobytes() == small[TRAIN][16:]
    assert server.asked[:2] == [f"/bad/{TRAIN}.gz", f"/good/{TRAIN}.gz"]


def test_wrong_content_from_every_mirror_is_said_and_not_kept(
    small: dict, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.pages[f"/{TRAIN}.gz"] = gzip.compress(flip(small[TRAIN]))
    monkeypatch.setattr(mnist, "MIRRORS", (server.url, f"{server.url}absent/"))
    with pytest.raises(DataError, match=NEITHER_WAY_MISSING) as caught:
        mnist.load()
    assert f"{server.url}{TRAIN}.gz has the wrong content" in str(caught.value)
    assert f"{server.url}absent/{TRAIN}.gz could not be reached (HTTPError)" in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_cache_that_cannot_be_written_is_said_before_anything_is_fetched(
    small: dict, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, small)
    monkeypatch.setattr(mnist, "MIRRORS", (server.url,))
    (tmp_path / "cache").write_text("a file where the directory should be")  # refused to every user, root too
    with pytest.raises(DataError, match=rf"{TRAIN}.gz cannot be written .*{NEITHER_WAY_MISSING}") as caught:
        mnist.load()
    assert str(tmp_path / "cache" / "flowlib") in str(caught.value)
    assert server.asked == []


def test_a_full_disk_leaves_no_half_file(
    small: dict, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, small)
    monkeypatch.setattr(mnist, "MIRRORS", (server.url,))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mnist.os, "fsync", full)
    with pytest.raises(DataError, match="cannot be written .*No space left on device.* 15 MB to spare"):
        mnist.load()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


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


def test_a_truncated_copy_of_the_real_file(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "t10k-labels-idx1-ubyte"
    monkeypatch.setattr(mnist, "MIRRORS", (CLOSED,))
    content = mnist._locate(real, REAL["test", "labels"]).read_bytes()
    folder = put(tmp_path / "MNIST" / "raw", {})
    (folder / f"{name}.gz").write_bytes(gzip.compress(idx.unpack(content, name))[:-100])
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))
    with pytest.raises(DataError, match="truncated"):
        mnist._read(REAL["test", "labels"])
