"""Making notebooks of sources; see `layout` for what is made of what."""

from pathlib import Path

from flowlib.course.authoring import cells as notebooks
from flowlib.course.authoring.dress import dress
from flowlib.course.authoring.drift import lecture_drift, read_stored, to_execute
from flowlib.course.authoring.execute import execute
from flowlib.course.authoring.layout import LECTURES, outdated
from flowlib.course.authoring.source import SourceError, read_cells
from flowlib.files import write_whole


def build(path: Path, *, force: bool = False, progress: bool = True) -> list[str]:
    """Make what the source at `path` gives; what a lecture wrote on standard error on the way.

    A lecture of which only prose, tags or alternative texts have changed keeps its outputs and is not executed.

    Args:
        path: of the source.
        force: whether to execute a lecture in any case.
        progress: whether to show a progress bar on a terminal.

    Raises:
        SourceError: if the source breaks a rule, or a cell of a lecture fails.
        WriteError: if a file cannot be written.
    """
    if path.parent.name != LECTURES:
        for file, content in outdated(path).items():
            write_whole(file, content)
        return []
    cells, said = read_cells(path), []
    made = notebooks.lecture_notebook(path, cells)
    if force or to_execute(path, cells):
        notebook = notebooks.lecture_notebook(path, cells)
        said = execute(notebook, path, cells, progress=progress)
    else:
        notebook = read_stored(path)
    write_whole(path.with_suffix(".ipynb"), notebooks.write_notebook(dress(notebook, made, cells)))
    if reasons := lecture_drift(path):
        raise SourceError(path, 1, "; ".join(reasons))
    return said
