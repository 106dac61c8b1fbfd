"""Files that are written whole or not at all, whenever the process dies."""

import contextlib
import hashlib
import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path


class WriteError(OSError):
    """A file that cannot be written; the message names it, why, and what is intact where something could be lost."""


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
    try:
        folder, probe = path.parent, _temporary(path)
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if path.is_dir():
            raise WriteError(f"{path} cannot be written (it is a folder)")
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise WriteError(f"{path} cannot be written ({folder} is no folder that can be written to)")
        if folder == path.parent:
            with contextlib.suppress(FileNotFoundError):
                os.lstat(path)  # which says that a name is too long
            probe.touch()
            probe.unlink()
    except WriteError:
        raise
    except OSError as error:
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
    """Where a content is put together before it is called `path`; its own name may be as long as names can be."""
    return path.with_name(f".{os.getpid()}-{hashlib.sha256(path.name.encode()).hexdigest()[:16]}")


def quoted(text: object) -> str:
    """A path or a text as a word of a command that is typed: as the shell of this system wants it."""
    return subprocess.list2cmdline([str(text)]) if os.name == "nt" else shlex.quote(str(text))
