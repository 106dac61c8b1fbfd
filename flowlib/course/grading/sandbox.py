"""Two processes for each submission, watched from outside, with nothing of them left when they end.

One runs the checks and never the student's code (`checker`), the other the student's code and no check (`answer`). Both
are forked from the `stage` of the exercise and connected to each other; the first is connected to this process too, and
reports here. Every tenth of a second what has come of the other is counted and weighed; over a limit all of it is
killed. At the end all is killed in any case.
"""

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from flowlib.course.grading.pool import POOL, StageError
from flowlib.course.grading.remains import end_all, held, scratch, size
from flowlib.course.grading.wire import Incident, Late, Wire
from flowlib.course.grading.world import MEANS as MEANS

MARK = "FLOWLIB_GRADE_MARK"
_POLL, _GRACE = 0.1, 30.0  # seconds between looks; beyond a cell's limit
_CHECKS = 4 * 2**30  # bytes for the process of the checks
LACKING: set[str] = set()
"""What this system was found to lack."""


@dataclass(frozen=True)
class Limits:
    """What a submission may use.

    Attributes:
        seconds: for each cell.
        total: seconds, for all cells together.
        memory: bytes, of the answer's process and all that it starts.
        processes: at a time.
        disk: bytes in its folder.
        without: means of isolation not to use, of `world.MEANS`: for tests, and for systems where one does not work.
    """

    seconds: float = 60.0
    total: float = 900.0
    memory: int = 4 * 2**30
    processes: int = 64
    disk: int = 2**30
    without: Collection[str] = ()


@dataclass
class Run:
    """Reports, and why it was stopped, if it was: "memory", "processes", "disk", "stuck", "total", "interrupted"."""

    events: list[dict[str, Any]] = field(default_factory=list)
    stopped: str | None = None
    log: str = ""


def run(job: dict[str, Any], limits: Limits, interrupted: Event | None = None) -> Run:
    """Run the cells of a job, {"cells", "setup", "modules"}, to their end or to a limit."""
    result = Run()
    with contextlib.ExitStack() as stack:
        try:
            stage = stack.enter_context(POOL.stage(job["setup"], job["modules"]))
        except StageError as error:
            result.log = str(error)
            return result
        folder = stack.enter_context(scratch())
        mark = secrets.token_hex(16)
        ours, grader = socket.socketpair()
        checker, answer = socket.socketpair()
        stack.callback(ours.close)
        pids: list[int] = []
        stack.callback(lambda: end_all(pids, POOL.pid, MARK, mark))
        try:
            order = {
                "role": "answer", "folder": str(folder / "work"), "root": str(folder / "root"),
                "environment": {MARK: mark}, "processes": limits.processes, "memory": limits.memory,
                "disk": limits.disk,
            }  # fmt: skip
            for without in (limits.without, MEANS):  # none, where one of them ends the process
                started = stage.order({**order, "without": list(without)}, [answer.dup()])
                pids.append(started["pid"])
                if "ready" in started["lacking"]:
                    break
            else:
                result.log = "a process for answers does not start here"
                return result
            answer.close()
            LACKING.update(means for means in started["lacking"] if means in MEANS)
            order = {"role": "checker", "memory": _CHECKS, "folder": str(folder / "checks"), "without": list(without)}
            pids.append(stage.order(order, [grader, checker])["pid"])
            wire = Wire(ours)
            wire.send({"cells": job["cells"], "seconds": limits.seconds}, [])
            _watch(wire, started["pid"], result, limits, folder / "work", interrupted or Event())
        except (Incident, OSError) as error:
            result.log = result.log or f"{type(error).__name__}: {error}"
    return result


def _watch(wire: Wire, pid: int, result: Run, limits: Limits, folder: Path, interrupted: Event) -> None:
    """Return when the checker has said its last word, or with `result.stopped` set when all must be stopped."""
    started = last = time.monotonic()
    looks = 0
    while True:
        wire.deadline = time.monotonic() + _POLL
        with contextlib.suppress(Late):
            event, _ = wire.receive()
            result.events.append(event)
            last = time.monotonic()
            if event.get("event") == "end":
                return
            continue
        looks += 1
        memory, count = held(pid)
        now = time.monotonic()
        if interrupted.is_set():
            result.stopped = "interrupted"
        elif memory > limits.memory:
            result.stopped = "memory"
        elif count > limits.processes:
            result.stopped = "processes"
        elif looks % 10 == 0 and size(folder, limits.disk) > limits.disk:
            result.stopped = "disk"
        elif now - last > limits.seconds + _GRACE:
            result.stopped = "stuck"
        elif now - started > limits.total:
            result.stopped = "total"
        if result.stopped:
            return


def without() -> tuple[str, ...]:
    """Means of isolation that the environment says not to use: FLOWLIB_GRADE_WITHOUT."""
    return tuple(os.environ.get("FLOWLIB_GRADE_WITHOUT", "").replace(",", " ").split())
