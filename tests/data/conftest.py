"""Fixtures of the MNIST tests: a small MNIST on an empty disk, and a server on the loopback interface."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pooch
import pytest
import torch
from small_mnist import CLOSED, REAL, Server, encode

from flowlib.data import mnist


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Replace MNIST by four small files; none on the disk, no mirror reachable. Returns name -> content."""
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


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()
