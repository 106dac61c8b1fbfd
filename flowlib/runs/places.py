"""The place of a run: kept for one training at a time, and cleared as a whole or not at all."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flowlib.files import WriteError


class RunError(ValueError):
    """A folder that holds no run, or another one than was asked for; the message says what to do.

    Example:
        >>> from flowlib.runs import RunError, load_run
        >>> try:
        ...     load_run("no/such/run")
        ... except RunError as error:
        ...     print(error)
        no/such/run holds no run: there is no no/such/run/recipe.json; `flowlib train` makes one
    """


def clear(folder: Path, names: Iterable[str]) -> None:
    """Take what has these names out of a folder, all or nothing; a WriteError if one of them cannot be moved."""
    away = folder / ".replaced"
    try:
        _put_back(folder, away)  # of a process that was killed on the way
        shutil.rmtree(away, ignore_errors=True)
        away.mkdir()
        for name in names:
            if os.path.lexists(folder / name):
                os.rename(folder / name, away / name)
    except BaseException as error:
        _put_back(folder, away)
        if not isinstance(error, OSError):
            raise
        raise WriteError(f"{folder} cannot be written ({error.strerror or error}); the run in it is intact") from error
    shutil.rmtree(away, ignore_errors=True)


def _put_back(folder: Path, away: Path) -> None:
    """Move what lies in `away` back to the folder, where nothing has its name by now."""
    with suppress(OSError):
        for path in list(away.iterdir()):
            if not os.path.lexists(folder / path.name):
                with suppress(OSError):
                    os.rename(path, folder / path.name)
        away.rmdir()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder, which is made if there is none; where the system has no such locks, not.

    Raises:
        RunError: if another one is at work there.
        WriteError: if there can be no such folder.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise WriteError(f"{folder} cannot be written ({error.strerror or error})") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"another training is at work in {folder}: wait for it, or choose another --out") from None
        except OSError:
            pass  # a system of files without such locks
        yield
    finally:
        os.close(descriptor)
