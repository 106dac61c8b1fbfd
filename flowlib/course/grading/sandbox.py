"""A process for each submission, watched from outside, with nothing of it left when it ends.

The process (`worker`) runs pytest and nbval and starts the kernel. It has a session, a temporary folder
and an environment of its own. Every tenth of a second its descendants are counted and weighed; over a limit all are
killed. At the end all are killed in any case: its descendants, also those that made themselves a session of their own
(on Linux it adopts orphans), and then whatever process carries its mark in its environment.
"""

import contextlib
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowlib.course.grading.library import library
from flowlib.course.grading.remains import end_all, scratch, size

MARK = "FLOWLIB_GRADE_MARK"
_POLL, _GRACE, _LONGEST = 0.1, 60.0, 2**20  # seconds between looks; beyond a cell's limit; bytes of a message


@dataclass(frozen=True)
class Limits:
    """What a submission may use.

    Attributes:
        seconds: for each cell.
        memory: bytes, of the kernel and all its processes, once the set-up has run.
        processes: at a time.
        disk: bytes in its folder.
    """

    seconds: float = 60.0
    memory: int = 4 * 2**30
    processes: int = 64
    disk: int = 2**30


@dataclass
class Run:
    """What a process reported, and why it was stopped, if so: "memory", "processes", "disk", "stuck", "interrupted"."""

    events: list[dict[str, Any]] = field(default_factory=list)
    stopped: str | None = None
    log: str = ""


def run(job: dict[str, Any], limits: Limits, interrupted: threading.Event | None = None) -> Run:
    """Run a job of `worker` in a process of its own, to its end or to a limit."""
    import psutil

    mark, result = secrets.token_hex(16), Run()
    with scratch() as folder, (folder / "run" / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "flowlib.course.grading.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=folder / "run",
            env=_environment(folder, mark, limits), start_new_session=True,
        )  # fmt: skip
        reader = threading.Thread(target=_read, args=(process, result), daemon=True)
        reader.start()
        watched = psutil.Process(process.pid)
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # its log says why
                process.stdin.write(json.dumps({**job, "seconds": limits.seconds, "memory": limits.memory}).encode())
                process.stdin.write(b"\n")
                process.stdin.flush()
            _watch(watched, result, limits, folder / "work", interrupted or threading.Event())
        finally:
            end_all(watched, MARK, mark)
            process.wait()
            reader.join(timeout=5)
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()  # type: ignore[union-attr]
        log.flush()
        result.log = (folder / "run" / "log").read_bytes()[-2000:].decode("utf-8", "replace")
    return result


def _read(process: "subprocess.Popen[bytes]", result: Run) -> None:
    assert process.stdout is not None
    with contextlib.suppress(ValueError, OSError):  # closed, or no message of ours
        while line := process.stdout.readline(_LONGEST):
            result.events.append(json.loads(line))


def _watch(worker: Any, result: Run, limits: Limits, folder: Path, interrupted: threading.Event) -> None:
    """Return when the worker has ended or said its last word, or with `result.stopped` set when it must be."""
    import psutil

    heard, last = 0, time.monotonic()
    looks = 0
    while worker.status() != psutil.STATUS_ZOMBIE:
        if result.events and result.events[-1].get("event") == "end":
            return
        if len(result.events) > heard:
            heard, last = len(result.events), time.monotonic()
        memory = count = 0
        for child in worker.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                count, memory = count + 1, memory + child.memory_info().rss
        looks += 1
        if interrupted.is_set():
            result.stopped = "interrupted"
        elif memory > limits.memory:
            result.stopped = "memory"
        elif count > limits.processes:
            result.stopped = "processes"
        elif looks % 10 == 0 and size(folder, limits.disk) > limits.disk:
            result.stopped = "disk"
        elif time.monotonic() - last > limits.seconds + _GRACE:
            result.stopped = "stuck"
        if result.stopped:
            return
        time.sleep(_POLL)


def _environment(folder: Path, mark: str, limits: Limits) -> dict[str, str]:
    """This process's environment, less what would change how Python and pytest run, and with folders of its own."""
    taken = ("PYTEST_", "IPYTHON", "JUPYTER_", "PYTHONOPTIMIZE", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONBREAKPOINT")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(taken)}
    package = str(library(folder / "run"))
    work = folder / "work"
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(filter(None, [package, kept.get("PYTHONPATH", "")])),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "IPYTHONDIR": str(work / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(folder / "run"),
        "JUPYTER_CONFIG_DIR": str(folder / "run"),
        "TMPDIR": str(work),
        "MPLBACKEND": "agg",
        "OMP_NUM_THREADS": "1",  # submissions share the cores, and one thread always gives the same bits
        "FLOWLIB_GRADE_FOLDER": str(work),
        "FLOWLIB_GRADE_PROCESSES": str(limits.processes),
        MARK: mark,
    }
