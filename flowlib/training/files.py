"""Files that are written whole or not at all, whenever the process dies."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path


class WriteError(OSError):
    """A file of a run that cannot be written; the message names it, why, and what is still intact."""


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on the disk."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; systems without that notion need nothing."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_place(path: Path) -> Path:
    """Return a path if a file can be put there; where its folder is there already, that is tried.

    Raises:
        WriteError: if it is a folder, or would lie in what is none or may not be written to.
    """
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if path.is_dir():
        raise WriteError(f"{path} cannot be written (it is a folder)")
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise WriteError(f"{path} cannot be written ({folder} is no folder that can be written to)")
    if folder == path.parent:
        probe = _temporary(path)
        try:
            probe.touch()
            probe.unlink()
        except OSError as error:  # a name that is too long, a system of files that takes none
            raise WriteError(f"{path} cannot be written ({error.strerror or error})") from error
    return path


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Put several contents at their paths, each whole; none if one of the places takes no file.

    Raises:
        WriteError: if one cannot be written.
    """
    for path in contents:
        check_place(path)
    for path, content in contents.items():
        write_whole(path, content)


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path`: a reader finds the old file or the new one, never a part.

    Raises:
        WriteError: if it cannot be written; what was there before still is.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_synced(temporary, content)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise WriteError(f"{path} cannot be written ({error.strerror or error})") from error


def _temporary(path: Path) -> Path:
    """Where a content is put together before it is called `path`; a name as long as others at most."""
    return path.with_name(f".{path.name[:100]}.{os.getpid()}")
