"""Weights that come with the package: NAME.safetensors.z, and NAME.json with their SHA-256 and how they were made.

Of weights that were trained on from others, the tensors that stayed as they were lie in the file of those others alone:
"shared" in the JSON says whose they are and what they are called. The SHA-256 is that of the whole, as safetensors.
The file holds that in a seventh less room, without loss, as HDF5's filters "shuffle" and "deflate" do: the low bytes of
all numbers come first, then the high bytes. High bytes, of sign and exponent, are mostly the same few, so that they can
be compressed.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FOLDER = Path(__file__).parent


def weights_file(name: str, folder: Path = FOLDER) -> Path:
    """Where the tensors of the weights called `name` lie."""
    return folder / f"{name}.safetensors.z"


def compress(content: bytes) -> bytes:
    """What a file of weights holds for `content`, which is safetensors, mostly in half precision."""
    return zlib.compress(content[::2] + content[1::2], 9)


def decompress(stored: bytes) -> bytes:
    """The content of a file of weights, which was given to `compress`; a zlib.error for what that did not make."""
    stream = zlib.decompressobj()
    shuffled = stream.decompress(stored)
    if not stream.eof or stream.unused_data:
        raise zlib.error("bytes are missing, or too many")
    content, middle = bytearray(len(shuffled)), (len(shuffled) + 1) // 2
    content[::2], content[1::2] = shuffled[:middle], shuffled[middle:]
    return bytes(content)


def describe_weights(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """What is known of the weights called `name`: "sha256", the "command" that made them, and measured figures.

    Raises:
        FileNotFoundError: if there are none of that name.
        ValueError: if the file is damaged.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"the weights {name!r} are missing: no file {path}; reinstall flowlib")
    try:
        known = json.loads(path.read_text("utf-8"))
        shared = known.get("shared", {})
        if not isinstance(known["sha256"], str) or not all(isinstance(keys, list) for keys in shared.values()):
            raise ValueError("its SHA-256 must be a text, and what it shares lists of names")
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); reinstall flowlib") from None
    return known


def read_weights(name: str, folder: Path = FOLDER) -> dict[str, Tensor]:
    """The tensors of the weights called `name`, on the CPU.

    Raises:
        FileNotFoundError: if there are none of that name.
        ValueError: if the SHA-256 of what the file holds is not the one on record: it was damaged or exchanged, and
            figures measured with it could not be compared with anyone else's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    described, path = describe_weights(name, folder), weights_file(name, folder)
    if not path.is_file():
        raise FileNotFoundError(f"the weights {name!r} are missing: no file {path}; reinstall flowlib")
    content, shared = path.read_bytes(), described.get("shared", {})
    try:
        content = decompress(content)
        for other, keys in shared.items():
            theirs = read_weights(other, folder)
            content = save({**{key: theirs[key] for key in keys}, **load(content)})
    except (zlib.error, SafetensorError, KeyError):
        pass  # which the hash finds
    found, expected = hashlib.sha256(content).hexdigest(), described["sha256"]
    if found != expected:
        with_others = "".join(f", with its tensors in {other}," for other in shared)
        raise ValueError(
            f"the weights {name!r} in {path}{with_others} are damaged or were exchanged: SHA-256 {found}, expected "
            f"{expected}; reinstall flowlib"
        )
    return load(content)


def shared_tensors(weights: Mapping[str, Tensor], others: Mapping[str, Mapping[str, Tensor]]) -> dict[str, list[str]]:
    """Which tensors of some weights lie in others too, under the same name: a list for each of the others that has any.

    Args:
        weights: as they are stored.
        others: weights by name; a tensor that several have is the first one's.
    """
    found: dict[str, list[str]] = {}
    for key, value in weights.items():
        for other, theirs in others.items():
            same = theirs.get(key)
            if same is not None and same.dtype == value.dtype and torch.equal(same, value):
                found.setdefault(other, []).append(key)
                break
    return found
