"""Making notebooks of sources; see `layout` for what is made of what."""

from pathlib import Path

from flowlib.course.authoring import cells as notebooks
from flowlib.course.authoring.drift import lecture_drift
from flowlib.course.authoring.execute import execute
from flowlib.course.authoring.layout import LECTURES, outdated
from flowlib.course.authoring.source import SourceError, read_cells
from flowlib.training.files import write_whole


def build(path: Path, *, progress: bool = True) -> list[str]:
    """Make what the source at `path` gives; what a lecture wrote on standard error on the way.

    Raises:
        SourceError: if the source breaks a rule, or a cell of a lecture fails.
        WriteError: if a file cannot be written.
    """
    if path.parent.name != LECTURES:
        for file, content in outdated(path).items():
            write_whole(file, content)
        return []
    cells = read_cells(path)
    notebook = notebooks.lecture_notebook(path, cells)
    said = execute(notebook, path, cells, progress=progress)
    write_whole(path.with_suffix(".ipynb"), notebooks.write_notebook(notebook))
    if reasons := lecture_drift(path):
        raise SourceError(path, 1, "; ".join(reasons))
    return said
