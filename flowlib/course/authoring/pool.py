"""Trying programs one after the other in a process that is replaced when one of them hangs or dies."""

import contextlib
import io
import linecache
import os
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from flowlib.course.authoring.child import child, hears

START = 300.0  # seconds for a process to import the library, on a busy machine


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    Attributes:
        error: the name of the exception that ended it; "" if it ran to its end, "timeout" or "death" of its process.
        message: the exception's.
        place: the name of the step that raised.
    """

    error: str = ""
    message: str = ""
    place: str = ""


def try_all(
    programs: list[list[tuple[str, str]]], folder: Path, seconds: float, interrupted: threading.Event | None = None
) -> list[Outcome]:
    """Run each program in a namespace of its own, shortened (FLOWLIB_FAST=1), in one process as long as that lives.

    Args:
        programs: each a list of steps (name, code).
        folder: to run in.
        seconds: that a program may take.
        interrupted: ends the work when it is set.

    Raises:
        CancelledError: if it is interrupted.
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < len(programs):
        outcomes += _one_process(programs[len(outcomes) :], folder, seconds, interrupted)
    return outcomes


def _one_process(
    programs: list[list[tuple[str, str]]], folder: Path, seconds: float, interrupted: threading.Event | None
) -> list[Outcome]:
    """The outcomes of the programs up to the first that hangs or dies."""
    outcomes: list[Outcome] = []
    with child(_work, programs, folder, daemon=True) as (process, ours):
        try:
            if not hears(ours, START, interrupted):
                raise TimeoutError(f"a process did not start within {START:.0f} s")
            ours.recv()
            while len(outcomes) < len(programs):
                if not hears(ours, seconds, interrupted):
                    return [*outcomes, Outcome("timeout", f"more than {seconds:g} s", "answer")]
                outcomes.append(ours.recv())
        except EOFError:
            return [*outcomes, Outcome("death", "its process ended", "answer")]
        process.join(5)  # it is about to end, and frees what it holds
    return outcomes


def _work(connection: Connection, programs: list[list[tuple[str, str]]], folder: Path) -> None:
    """In the process: run the programs, and send what became of each."""
    os.environ["FLOWLIB_FAST"], os.environ["MPLBACKEND"] = "1", "Agg"
    os.chdir(folder)
    import torch

    import flowlib.course.notebook  # noqa: F401  # what takes long to import does not count as the first program's time

    torch.set_num_threads(1)
    connection.send(None)
    for number, steps in enumerate(programs):
        connection.send(_run(steps, number))


def _run(steps: list[tuple[str, str]], number: int) -> Outcome:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for place, code in steps:
        file = f"<program {number}, {place}>"
        linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)  # for inspect.getsource
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                exec(compile(code, file, "exec"), namespace)
        except BaseException as error:
            return Outcome(type(error).__name__, str(error), place)
    return Outcome()
