"""The grader's stages: one process that has loaded torch, and from it one for each exercise that is being graded."""

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from flowlib.course.grading.library import library
from flowlib.course.grading.wire import Incident, Wire
from flowlib.course.grading.world import environment

_KEPT = 4  # exercises at a time


class StageError(Exception):
    """An exercise's set-up, or the grader itself, does not run here."""


class Handle:
    """A stage, to be given orders by one thread at a time."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel, self._wire, self._lock = channel, Wire(channel), threading.Lock()
        self.users = 0

    def ready(self) -> None:
        """Wait until it takes orders.

        Raises:
            StageError: if it never will.
        """
        with self._lock:
            said, _ = self._wire.receive()
        if "error" in said:
            raise StageError(said["error"])

    def order(self, order: dict[str, Any], ends: list[socket.socket]) -> dict[str, Any]:
        """Have a process forked that gets the sockets `ends`; they are closed here."""
        with self._lock:
            self._wire.send(order, [])
            socket.send_fds(self._channel, [b"."], [end.fileno() for end in ends])
            said, _ = self._wire.receive()
        for end in ends:
            end.close()
        return dict(said)

    def close(self) -> None:
        """Let it end."""
        self._channel.close()


class Pool:
    """All stages of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._base: Handle | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._stages: dict[str, Handle] = {}

    @property
    def pid(self) -> int:
        """Of the first process."""
        return self._process.pid if self._process else 0

    @contextlib.contextmanager
    def stage(self, setup: list[str], modules: list[str]) -> Any:
        """The stage of an exercise.

        Raises:
            StageError: if its set-up does not run here.
        """
        key = json.dumps([setup, modules])
        with self._lock:
            try:
                found = self._stages.pop(key, None) or self._made(setup, modules)
            except (Incident, OSError) as error:
                raise StageError(f"the grader's process ended: {error} {self._log()}") from None
            self._stages[key] = found  # the last one used is the last
            found.users += 1
            idle = [name for name, handle in self._stages.items() if not handle.users]
            for name in idle[: max(0, len(self._stages) - _KEPT)]:
                self._stages.pop(name).close()
        try:
            yield found
        finally:
            found.users -= 1

    def _made(self, setup: list[str], modules: list[str]) -> Handle:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._base = self._started()
        assert self._base is not None
        ours, theirs = socket.socketpair()
        self._base.order({"role": "stage", "setup": setup, "modules": modules}, [theirs])
        made = Handle(ours)
        made.ready()
        return made

    def _started(self) -> Handle:
        self._folder = tempfile.TemporaryDirectory(prefix="flowlib-stage-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        package = str(library(folder))
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
        ours, theirs = socket.socketpair()
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "flowlib.course.grading.stage", str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, pass_fds=[theirs.fileno()],
                env={**environment(folder), "PYTHONPATH": path}, start_new_session=True,
            )  # fmt: skip
        theirs.close()
        made = Handle(ours)
        made.ready()
        return made

    def _log(self) -> str:
        if self._folder is None:
            return ""
        with contextlib.suppress(OSError):
            return (Path(self._folder.name) / "log").read_bytes()[-2000:].decode("utf-8", "replace")
        return ""

    def close(self) -> None:
        """End all stages."""
        for handle in self._stages.values():
            handle.close()
        self._stages = {}
        if self._base is not None:
            self._base.close()
            self._base = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


POOL = Pool()
atexit.register(POOL.close)
