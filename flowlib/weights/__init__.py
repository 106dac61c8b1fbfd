"""Weights that come with the package: NAME.safetensors, and NAME.json with their SHA-256 and how they were made."""

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import Tensor

FOLDER = Path(__file__).parent


def describe_weights(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """What is known of the weights called `name`: "sha256", the "command" that made them, and measured figures.

    Raises:
        FileNotFoundError: if there are none of that name.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"the weights {name!r} are missing: no file {path}; reinstall flowlib")
    return json.loads(path.read_text("utf-8"))


def read_weights(name: str, folder: Path = FOLDER) -> dict[str, Tensor]:
    """The tensors of the weights called `name`, on the CPU.

    Raises:
        FileNotFoundError: if there are none of that name.
        ValueError: if the file's SHA-256 is not the one on record: it was damaged or exchanged, and figures measured
            with it could not be compared with anyone else's.
    """
    from safetensors.torch import load

    expected, path = describe_weights(name, folder)["sha256"], folder / f"{name}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"the weights {name!r} are missing: no file {path}; reinstall flowlib")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(
            f"the weights {name!r} in {path} are damaged or were exchanged: SHA-256 {found}, expected {expected}; "
            f"reinstall flowlib"
        )
    return load(content)
