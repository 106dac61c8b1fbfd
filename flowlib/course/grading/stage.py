"""The process that all others of the grader are forked from: it has loaded torch, and then the set-up of an exercise.

It has no check, no submission and no answer in its memory, so its children have none but what they are sent. Orders
come over a socket: {"role": "stage", "setup": [...], "modules": [...]} forks one that runs set-up cells and takes
orders in its turn; {"role": "checker"} and {"role": "answer", ...} fork a process of a submission, with the sockets
that come with the order. The reply is {"pid": ...}, and for an answer "ready" and what the system lacks.
"""

import contextlib
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flowlib.course.grading import confine, namespaces, world
from flowlib.course.grading.wire import Ended, Wire
from flowlib.course.processes import end_with_parent

_LOADED = (
    "torch", "torch._dynamo", "torch.fx.experimental.symbolic_shapes", "torch.func", "IPython.core.interactiveshell",
    "psutil", "flowlib.course.notebook", "flowlib.fields", "flowlib.nets", "flowlib.paths", "flowlib.schedules",
    "flowlib.course.grading.answer", "flowlib.course.grading.checker",
)  # fmt: skip


class Stage:
    """One such process: `stages` are the names that the set-up had made before each of its cells and after the last."""

    def __init__(self, channel: socket.socket, stages: list[dict[str, Any]]) -> None:
        self._channel, self._wire, self._stages = channel, Wire(channel), stages

    def run(self) -> None:
        """Take orders until the grader ends."""
        with contextlib.suppress(Ended):
            while True:
                order, _ = self._wire.receive()
                _, given, *_ = socket.recv_fds(self._channel, 1, 8)
                ends = [socket.socket(fileno=number) for number in given]
                said = self._fork(getattr(self, f"_{order['role']}"), order, ends)
                for end in ends:
                    end.close()
                self._wire.send(said, [])

    def _fork(self, role: Callable[..., None], order: dict[str, Any], ends: list[socket.socket]) -> dict[str, Any]:
        heard, said = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(heard)
                self._channel.close()
                nothing = os.open(os.devnull, os.O_RDWR)
                for stream in range(3):
                    os.dup2(nothing, stream)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                end_with_parent()
                role(order, ends, said)
                status = 0
            finally:
                os._exit(status)
        os.close(said)
        with os.fdopen(heard) as lines:  # until the child has nothing more to say
            return {"pid": pid, "lacking": lines.read().split()}

    def _stage(self, order: dict[str, Any], ends: list[socket.socket], said: int) -> None:
        os.close(said)
        names: dict[str, Any] = {"__name__": "__main__"}
        stages: list[dict[str, Any]] = [{}]
        wire = Wire(ends[0])
        try:
            for source in order["setup"]:
                exec(compile(source, "<set-up>", "exec", dont_inherit=True), names)
                stages.append(dict(names))
        except BaseException as error:
            wire.send({"error": f"{type(error).__name__}: {error}"[:2000]}, [])
            return
        for module in order["modules"]:
            with contextlib.suppress(Exception):  # "from a import b" need not name a module b
                importlib.import_module(module)
        wire.send({}, [])
        Stage(ends[0], stages).run()

    def _checker(self, order: dict[str, Any], ends: list[socket.socket], said: int) -> None:
        from flowlib.course.grading import checker

        os.close(said)
        folder = Path(order["folder"])
        os.environ.update(world.environment(folder))
        confine.limit_memory(order["memory"])
        world.enter(folder, folder, without=order["without"], disk=0, inside=False)  # whatever an answer makes it do
        checker.run(ends[0], ends[1], self._stages)

    def _answer(self, order: dict[str, Any], ends: list[socket.socket], said: int) -> None:
        """Two processes: one that waits and adopts orphans, and its child, in a world of its own."""
        from flowlib.course.grading import answer

        os.setsid()
        confine.default_signals()
        confine.keep_memory_private(False)  # for its own namespaces; there is nothing in it to read
        confine.adopt_orphans()
        folder, root, without = Path(order["folder"]), Path(order["root"]), order["without"]
        os.environ.clear()
        os.environ.update(world.environment(folder), **order["environment"])
        confine.limit_files_and_processes(order["processes"])
        inside = "namespaces" not in without and namespaces.enter()
        end_with_parent()  # again: another user's rights forget it
        if pid := os.fork():
            os.close(said)
            for end in ends:
                end.close()
            os.waitpid(pid, 0)
            return
        end_with_parent()
        confine.limit_memory(order["memory"])
        lacking = world.enter(folder, root, without=without, disk=order["disk"], inside=inside)
        os.write(said, " ".join(("ready", *lacking)).encode())
        os.close(said)
        answer.run(ends[0], self._stages)


def main() -> None:
    """Load what takes long, and take orders."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    confine.keep_memory_private()
    confine.adopt_orphans()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment] # which would compile a grammar for a second
    for module in _LOADED:
        importlib.import_module(module)
    import torch

    from flowlib.course.grading.answer import shell

    torch.set_num_threads(1)
    shell()
    Wire(channel).send({}, [])
    Stage(channel, [{}]).run()
    os._exit(0)  # at once: Python takes seconds to forget torch


if __name__ == "__main__":
    main()
