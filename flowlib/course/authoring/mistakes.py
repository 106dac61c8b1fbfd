"""Do the asserts of a lecture notice a mistake?

Beside a lecture lies a list of mistakes, `NN_topic_mistakes.py`, each a change of one cell, as lines that go and come:

    # %% mistake="half of the score's drift is missing"
    '''
    - drift = u + g**2 / 2 * score
    + drift = u + g**2 / 4 * score
    '''

The lecture runs once, in full, on one thread. Where a cell is reached that a mistake changes, a fork of the process
runs the changed cell and those after it, up to the second one that asserts something, and an assert must fail.
"""

import contextlib
import io
import json
import linecache
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from flowlib.course.authoring.child import child, hears
from flowlib.course.authoring.layout import LECTURES, sources
from flowlib.course.authoring.source import Cell, SourceError, read_cells
from flowlib.course.processes import end_with_parent

SECONDS = 600  # that a changed cell and those after it may take
ASSERTING = 2  # cells with an assert that a mistake has to get past


@dataclass(frozen=True)
class Mistake:
    """A mistake: its name, the line of its entry, the cell that it changes and what that becomes."""

    name: str
    line: int
    cell: int
    code: str


def read_mistakes(path: Path, cells: list[Cell]) -> list[Mistake]:
    """The mistakes that belong to the lecture at `path`.

    Raises:
        SourceError: for an entry of another form, or whose lines are not in exactly one cell.
        OSError: if there is no list.
    """
    file, found = _list_of(path), []
    for entry in read_cells(file, ("mistake",)):
        if not entry.metadata:
            continue  # the file's docstring
        lines = [line for line in entry.source.strip().strip("'\"").split("\n") if line.strip()]
        old, new = ("\n".join(line[2:] for line in lines if line[:1] == sign) for sign in "-+")
        if not old or any(line[:2] not in ("- ", "+ ", "-", "+") for line in lines):
            raise SourceError(file, entry.line, "a mistake is a string of lines '- as it is' and '+ as it is not'")
        places = [i for i, cell in enumerate(cells) if cell.kind == "code" and old in cell.source]
        if len(places) != 1 or cells[places[0]].source.count(old) != 1:
            times = sum(cells[i].source.count(old) for i in places)
            raise SourceError(file, entry.line, f"its lines are {times} times in the lecture: {old.strip()!r}")
        code = cells[places[0]].source.replace(old, new)
        found.append(Mistake(str(entry.metadata["mistake"]), entry.line, places[0], code))
    return found


def lectures(root: Path, names: Sequence[str] = ()) -> list[Path]:
    """The sources of lectures that have a list of mistakes."""
    return [path for path in sources(root, names) if path.parent.name == LECTURES and _list_of(path).exists()]


def judge_lecture(path: Path, interrupted: threading.Event | None = None) -> dict[Mistake, str]:
    """What is wrong with each mistake's end: nothing, "", if an assert has failed.

    Raises:
        SourceError: if lecture or list break a rule, or the lecture itself fails.
        CancelledError: if `interrupted` is set meanwhile.
    """
    cells = read_cells(path)
    mistakes = read_mistakes(path, cells)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place,  # where a changed cell may still write
        child(_work, Path(place), path, cells, mistakes, daemon=False) as (_, ours),
    ):
        hears(ours, math.inf, interrupted)
        try:
            ends, fault = ours.recv()
        except EOFError:
            ends, fault = [], "its process has ended"
    if fault:
        raise SourceError(path, 1, f"the lecture itself does not run to its end: {fault}")
    return dict(zip(mistakes, ends, strict=True))


def try_mistakes(path: Path, interrupted: threading.Event | None = None) -> tuple[list[dict[str, object]], list[str]]:
    """`judge_lecture`, as one row, and a line for each mistake that no assert has noticed."""
    ends, file = judge_lecture(path, interrupted), _list_of(path).name
    caught = sum(not fault for fault in ends.values())
    row: dict[str, object] = {"notebook": path.stem, "question": "lecture", "wrong, caught": f"{caught} / {len(ends)}"}
    row |= {"right, passed": "", "alone": ""}
    return [row], [f"{file}:{mistake.line}: {mistake.name}: {fault}" for mistake, fault in ends.items() if fault]


def _list_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}_mistakes.py")


def _work(connection: Connection, place: Path, path: Path, cells: list[Cell], mistakes: list[Mistake]) -> None:
    """In a process of its own, in a copy of the lecture's folder: run the lecture, and the mistakes on the way."""
    os.chdir(shutil.copytree(path.parent, place / path.parent.name))
    os.environ.pop("FLOWLIB_FAST", None)
    os.environ |= {"MPLBACKEND": "Agg", "FLOWLIB_RUNS": f"{place}/runs", "TQDM_DISABLE": "1"}
    import torch

    torch.set_num_threads(1)  # threads do not survive a fork
    namespace: dict[str, Any] = {"__name__": "__main__"}
    ends = {}
    try:
        for number, cell in enumerate(cells):
            for mistake in mistakes:
                if mistake.cell == number:
                    ends[mistake] = _forked(mistake, cells, namespace, place)
            _run(cell, cell.source, namespace)
    except BaseException as error:
        connection.send(([], f"{type(error).__name__}: {error}"))
        return
    connection.send(([ends[mistake] for mistake in mistakes], ""))


def _forked(mistake: Mistake, cells: list[Cell], namespace: dict[str, Any], place: Path) -> str:
    """Try a mistake in a fork, which keeps what it trains to itself; what is wrong with its end."""
    reading, writing = os.pipe()
    lecture = os.getpid()
    if (forked := os.fork()) == 0:
        end_with_parent(lecture)
        os.close(reading)
        signal.alarm(SECONDS)
        runs = place / f"runs-{os.getpid()}"
        if (place / "runs").exists():
            shutil.copytree(place / "runs", runs)
        os.environ["FLOWLIB_RUNS"] = str(runs)
        with os.fdopen(writing, "w") as file:
            file.write(json.dumps(_end(mistake, cells, namespace)))
        shutil.rmtree(runs, ignore_errors=True)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    os.waitpid(forked, 0)
    return str(json.loads(said)) if said else f"takes more than {SECONDS} s, or ends its process"


def _end(mistake: Mistake, cells: list[Cell], namespace: dict[str, Any]) -> str:
    asserting, code = 0, mistake.code
    for number, cell in enumerate(cells[mistake.cell :]):
        try:
            _run(cell, code if number == 0 else cell.source, namespace)
        except AssertionError:
            return ""
        except BaseException as error:
            place = traceback.extract_tb(sys.exc_info()[2])[-1]
            return f"ends with {type(error).__name__}: {error} ({place.name}), not with an assert"
        asserting += cell.kind == "code" and "assert " in cell.source
        if asserting == ASSERTING:
            break
    return "passes"


def _run(cell: Cell, code: str, namespace: dict[str, Any]) -> None:
    if cell.kind != "code":
        return
    file = f"<cell at line {cell.line}>"
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(code, file, "exec"), namespace)
