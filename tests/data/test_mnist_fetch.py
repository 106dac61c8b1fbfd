"""MNIST fetched: no network, the second mirror, lying mirrors, a cache that cannot be written."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_mnist import BOTH_WAYS, CLOSED, TRAIN, Server, flip, serve, truncate

from flowlib.data import mnist
from flowlib.data.dataset import DataError


def test_no_network_names_every_place_and_both_ways_out(small: dict, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=BOTH_WAYS) as caught:
        mnist.load()
    said = str(caught.value)
    assert said.startswith(f"{TRAIN}.gz is not in ")
    assert str(tmp_path / "data" / "MNIST" / "raw") in said
    assert str(tmp_path / "cache" / "flowlib" / "MNIST" / "raw") in said
    assert said.count("could not be reached (ConnectionError)") == 2
    assert "connect to the network" in said
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []  # nothing half-written stays


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
    with pytest.raises(DataError, match=BOTH_WAYS) as caught:
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
    with pytest.raises(DataError, match=rf"{TRAIN}.gz cannot be written .*{BOTH_WAYS}") as caught:
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
    with pytest.raises(DataError, match=r"cannot be written .*No space left on device.* 15 MB to spare"):
        mnist.load()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
