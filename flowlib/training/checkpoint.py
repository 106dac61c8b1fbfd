"""Checkpoints: a folder for each, and one small file, `latest`, that names the folder that counts.

A folder is filled and synced under a temporary name, renamed, and only then named by `latest`, which is replaced in one
step. So weights, average and optimiser state can never come from different steps, and a process that is killed at any
moment leaves the last checkpoint as it was. `latest` also holds each file's SHA-256: damage is noticed, not loaded.
"""

import hashlib
import io
import json
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowlib.files import WriteError, sync_folder, write_synced, write_whole

VERSION = 1
LATEST = "latest.json"
_AVERAGE = "average.safetensors"
_FILES = ("weights.safetensors", _AVERAGE, "state.pt")
_PREFIX, _TEMPORARY = "step-", "unfinished-"


class CheckpointError(ValueError):
    """A checkpoint that is damaged, of another version or of another architecture; the message says which.

    Example:
        >>> from pathlib import Path
        >>> from flowlib.training import CheckpointError, checkpoint
        >>> try:
        ...     checkpoint.load(Path("empty"))
        ... except CheckpointError as error:
        ...     print(error)
        there is no checkpoint in empty
    """


@dataclass
class Checkpoint:
    """What a run needs to go on: `weights` and their moving `average` by name, and the `state` of all the rest.

    The state is a dictionary of plain values and tensors: optimisers, generators, seconds spent.
    """

    step: int
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    state: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Make `checkpoint` the latest of those in `folder`, and delete older ones.

    Raises:
        WriteError: if it cannot be written; the one before is intact.
    """
    if latest_step(folder) == checkpoint.step:  # a run that was finished already
        return
    name = f"{_PREFIX}{checkpoint.step:08d}"
    temporary, final = folder / f"{_TEMPORARY}{checkpoint.step:08d}", folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in (temporary, final):  # of a process that was killed before `latest` named it
            if leftover.exists():
                shutil.rmtree(leftover)
        temporary.mkdir()
        hashes = {}
        for file, content in _contents(checkpoint).items():
            write_synced(temporary / file, content)
            hashes[file] = hashlib.sha256(content).hexdigest()
        sync_folder(temporary)
        temporary.rename(final)
        sync_folder(folder)
        entry = {"version": VERSION, "step": checkpoint.step, "folder": name, "sha256": hashes}
        write_whole(folder / LATEST, json.dumps(entry, indent=1).encode())
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise WriteError(
            f"the checkpoint of step {checkpoint.step} cannot be written to {folder} ({error.strerror or error}); "
            f"{'the last one is intact' if (folder / LATEST).exists() else 'there is none before it'}"
        ) from error
    for old in folder.iterdir():
        if old.name.startswith((_PREFIX, _TEMPORARY)) and old.name != name:
            shutil.rmtree(old, ignore_errors=True)


def latest_step(folder: Path) -> int | None:
    """The step of the checkpoint in `folder`, or None if there is none; a CheckpointError if that cannot be read."""
    return _entry(folder)["step"] if (folder / LATEST).exists() else None


def load(folder: Path) -> Checkpoint:
    """The latest checkpoint in `folder`, on the CPU.

    Raises:
        CheckpointError: if there is none, it is damaged, or another version of this library wrote it.
    """
    entry = _entry(folder)
    weights, average, content = (_read(folder, entry, file) for file in _FILES)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"the checkpoint in {folder} is damaged: {_FILES[2]}: {error}") from None
    return Checkpoint(entry["step"], _tensors(folder, weights), _tensors(folder, average), state)


def load_average(folder: Path) -> tuple[int, dict[str, Tensor]]:
    """The step and the averaged weights of the latest checkpoint: all that sampling needs. Errors as in `load`."""
    entry = _entry(folder)
    return entry["step"], _tensors(folder, _read(folder, entry, _AVERAGE))


def average_digest(folder: Path) -> str:
    """The SHA-256 of the averaged weights of the latest checkpoint: what another run that stands on them remembers."""
    return _entry(folder)["sha256"][_AVERAGE]


def load_weights(module: nn.Module, weights: dict[str, Tensor], source: Path) -> None:
    """Fill `module` with `weights`, which came from `source`.

    A part of the module that holds data, as many as there were, says so by a method `make_room`, which is given its
    own weights first.

    Raises:
        CheckpointError: if names or shapes are another network's.
    """
    for name, part in module.named_modules():
        if hasattr(part, "make_room"):
            prefix = f"{name}." if name else ""
            part.make_room(
                {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
            )
    own = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if own != found:
        name = min(name for name in own.keys() | found.keys() if own.get(name) != found.get(name))
        raise CheckpointError(
            f"the checkpoint in {source} is of another architecture: {name} is {found.get(name, 'absent')} in it, "
            f"and {own.get(name, 'absent')} in the network"
        )
    module.load_state_dict(weights)


def _contents(checkpoint: Checkpoint) -> dict[str, bytes]:
    from safetensors.torch import save as serialise

    def plain(tensors: dict[str, Tensor]) -> bytes:
        # Copies, because the format refuses tensors that share memory, as tied weights do.
        return serialise(
            {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
        )

    buffer = io.BytesIO()
    torch.save(checkpoint.state, buffer)
    contents = plain(checkpoint.weights), plain(checkpoint.average), buffer.getvalue()
    return dict(zip(_FILES, contents, strict=True))


def _entry(folder: Path) -> dict[str, Any]:
    path = folder / LATEST
    try:
        entry = json.loads(path.read_text("utf-8"))
        version = entry["version"]
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint in {folder}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(f"{path} is damaged: it does not name a checkpoint") from None
    if version != VERSION:
        raise CheckpointError(
            f"the checkpoint in {folder} has version {version!r}; this flowlib reads version {VERSION}"
        )
    step, name, hashes = (entry.get(key) for key in ("step", "folder", "sha256"))
    counted = isinstance(step, int) and not isinstance(step, bool) and step >= 0
    named = isinstance(name, str) and Path(name).name == name not in ("", "..")
    if not (counted and named and isinstance(hashes, dict) and all(isinstance(hashes.get(f), str) for f in _FILES)):
        raise CheckpointError(f"{path} is damaged: it does not name a checkpoint")
    return entry


def _read(folder: Path, entry: dict[str, Any], file: str) -> bytes:
    path = folder / entry["folder"] / file
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"the checkpoint is damaged: {path} is missing") from None
    except OSError as error:
        raise CheckpointError(f"the checkpoint cannot be read: {path}: {error.strerror or error}") from None
    if hashlib.sha256(content).hexdigest() != entry["sha256"][file]:
        raise CheckpointError(f"the checkpoint is damaged: {path}, {len(content):,} bytes, is not what was written")
    return content


def _tensors(folder: Path, content: bytes) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load as parse

    try:
        return parse(content)
    except SafetensorError as error:
        raise CheckpointError(f"the checkpoint in {folder} is damaged: {error}") from None
