"""Executing a lecture, and making its outputs fit to be stored: no times, no progress bars, no place of a machine."""

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from nbformat import NotebookNode
from tqdm import tqdm

import flowlib
from flowlib.course.authoring.cells import METADATA, SECONDS
from flowlib.course.authoring.source import Cell, SourceError

TIMEOUT = 1800  # seconds for one cell, on a slow and busy machine
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}")


def execute(notebook: NotebookNode, path: Path, cells: list[Cell], *, progress: bool = True) -> list[str]:
    """Run a notebook in the folder of its source, in full (never `fast`), and keep its cleaned outputs.

    It is run from nothing, as for a new reader: trainings that an earlier execution has kept are not looked for.

    Args:
        notebook: gets the outputs and, in its metadata, the whole seconds that they took.
        path: of its source.
        cells: of the source, one for each of the notebook.
        progress: whether to show a progress bar on a terminal.

    Returns:
        what it wrote on standard error, other than progress bars: a line for each cell.

    Raises:
        SourceError: if a cell fails, or its output holds an address or a path of this machine.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    environment = {name: value for name, value in os.environ.items() if name not in ("FLOWLIB_FAST", "MPLBACKEND")}
    library = str(Path(flowlib.__file__).parent.parent)  # this very library, installed or not
    environment["PYTHONPATH"] = os.pathsep.join([library, environment.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    bar = tqdm(total=len(cells), desc=path.stem, unit="cell", disable=None if progress else True)
    with tempfile.TemporaryDirectory() as runs, bar:
        environment["FLOWLIB_RUNS"], start = runs, time.monotonic()
        client = NotebookClient(
            notebook,
            timeout=TIMEOUT,
            kernel_name="python3",
            resources={"metadata": {"path": str(path.parent)}},
            record_timing=False,
            store_widget_state=False,
            coalesce_streams=True,
            extra_arguments=["--log-level=40"],
            on_cell_complete=lambda cell, cell_index: bar.update(),
        )
        try:
            client.execute(env=environment)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            cell = cells[_running(notebook)]
            raise SourceError(path, cell.line, f"this cell fails:\n{_COLOUR.sub('', str(error)).rstrip()}") from None
        notebook.metadata["flowlib"][SECONDS] = round(time.monotonic() - start)
    return clean(notebook, path, cells)


def clean(notebook: NotebookNode, path: Path, cells: list[Cell]) -> list[str]:
    """Take from the outputs what is not for readers; the lines of standard error that were dropped.

    Raises:
        SourceError: if an output could not be displayed, or its text holds an address or a path of this machine.
    """
    notebook.metadata.update(METADATA)  # the kernel reports its own version
    notebook.metadata.pop("widgets", None)
    dropped = []
    for node, cell in zip(notebook.cells, cells, strict=True):
        node.metadata.pop("execution", None)
        if node.cell_type != "code":
            continue
        for output in node.outputs:
            if output.get("name") == "stderr" and (said := _said(output.text)):
                dropped.append(f"{path}:{cell.line}: {said}")
            if output.output_type == "error":  # the cell ran, but what it gave could not be drawn
                raise SourceError(path, cell.line, f"the output cannot be shown: {output.ename}: {output.evalue}")
        node.outputs = [output for output in node.outputs if not _passing(output)]
        for output in node.outputs:
            for text in _texts(output):
                if place := next((place for place in _places() if place in text), None):
                    raise SourceError(path, cell.line, f"the output holds a path of this machine: {place}")
                if _ADDRESS.search(text):
                    raise SourceError(path, cell.line, "the output is an object's address: end the cell with ; or None")
    return dropped


def _running(notebook: NotebookNode) -> int:
    """The index of the cell that was executed last."""
    done = [index for index, cell in enumerate(notebook.cells) if cell.get("execution_count")]
    return done[-1] if done else 0


def _said(text: str) -> str:
    """What was written on standard error besides progress bars, in one line."""
    lines = [line.rsplit("\r", 1)[-1].strip() for line in text.split("\n")]
    return "; ".join(
        line for line in lines if line and not re.search(r"\d+%\||\d+(\.\d+)?(s|it|step)/(it|s|step)", line)
    )


def _passing(output: NotebookNode) -> bool:
    """Whether an output is a progress bar, as text or as a widget, or anything else on standard error."""
    return output.get("name") == "stderr" or "application/vnd.jupyter.widget-view+json" in output.get("data", {})


def _texts(output: NotebookNode) -> Iterable[str]:
    if "text" in output:
        return [output["text"]]
    return [text for kind, text in output.get("data", {}).items() if kind.startswith("text/") and isinstance(text, str)]


def _places() -> list[str]:
    """Folders of this machine that no page may name."""
    places = {Path.home(), Path.cwd(), Path(tempfile.gettempdir()), Path(sys.prefix)}
    return sorted(f"{place}{os.sep}" for place in places if len(place.parts) > 1)
