"""What a submission leaves: its processes and its files, counted and ended."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def size(folder: Path, enough: int) -> int:
    """Bytes in a folder, where each entry counts as a block of the disk at least; no more is counted than is enough."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += max(4096, os.lstat(os.path.join(place, name)).st_size)
        total += 4096
        if total > enough:
            break
    return total


def end_all(worker: Any, name: str, mark: str) -> None:
    """Kill a process and all that came of it: its descendants, and who carries the mark in its environment."""
    import psutil

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        alive = [child for child in _descendants(worker) if _kill(child)]
        if not alive:
            break
    _kill(worker)
    while time.monotonic() < deadline:
        marked = [process for process in psutil.process_iter() if _carries(process, name, mark) and _kill(process)]
        if not marked:
            return
        psutil.wait_procs(marked, timeout=0.2)


def _descendants(worker: Any) -> list[Any]:
    import psutil

    try:
        return list(worker.children(recursive=True))
    except psutil.Error:
        return []


def _kill(process: Any) -> bool:
    """Kill a process; whether it was alive."""
    import psutil

    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        process.kill()
    except psutil.Error:
        return False
    return True


def _carries(process: Any, name: str, mark: str) -> bool:
    import psutil

    try:
        return process.pid != os.getpid() and process.environ().get(name) == mark
    except (psutil.Error, OSError):
        return False


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder: `work`, the submission's, and `run`, where it cannot write. Gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="flowlib-grade-"))
    try:
        for name in ("work", "run"):
            (folder / name).mkdir()
        yield folder
    finally:
        with contextlib.suppress(RecursionError):  # folders in folders, thousands deep
            shutil.rmtree(folder, onerror=_remove_anyway)


def _remove_anyway(remove: Any, path: str, _: Any) -> None:
    with contextlib.suppress(OSError):
        os.chmod(Path(path).parent, 0o700)
        os.chmod(path, 0o700)
        if Path(path).is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            remove(path)
