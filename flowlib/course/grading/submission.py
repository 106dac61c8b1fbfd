"""Reading what was handed in: whose it is, which exercise, and its cells as far as grading needs them."""

import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowlib.course.grading.names import names_bound
from flowlib.course.grading.reference import text_of

LARGEST = 64 * 2**20  # bytes of a notebook
_CELLS = 20_000  # of a notebook
_CELL, _CODE = 2**18, 2**22  # characters of code, of a cell and of all
_TOO_LONG = 'raise ValueError("a cell as long as this is not run")'


@dataclass(frozen=True)
class Submission:
    """A notebook handed in.

    Attributes:
        student: whose it is, as far as its place tells.
        path: where it was found.
        exercise: what it says it is, or None.
        cells: of the notebook; none if there is a problem.
        problem: why it cannot be read, or None.
    """

    student: str
    path: Path
    exercise: str | None = None
    cells: tuple[dict[str, Any], ...] = ()
    problem: str | None = None


def find_submissions(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Student and path of every notebook: files as given, and all notebooks below a folder.

    Below a folder, the first folder's name is the student's (`folder/ada/01_topic.ipynb`), else the file's.

    Raises:
        ValueError: if a path does not exist or a folder has no notebooks.
    """
    for path in paths:
        if not path.is_dir():
            if not path.exists():
                raise ValueError(f"{path}: there is no such file")
            yield path.stem, path
            continue
        closed: list[OSError] = []
        found = [
            Path(folder) / name
            for folder, folders, names in os.walk(path, onerror=closed.append)  # which does not follow links
            for name in [*names, *(entry for entry in folders if (Path(folder) / entry).is_symlink())]
            if name.lower().endswith(".ipynb") and ".ipynb_checkpoints" not in Path(folder).parts
        ]
        found = sorted(found + [Path(error.filename) for error in closed])  # whose owners are not left out in silence
        if not found:
            raise ValueError(f"{path}: no notebooks in this folder")
        for file in found:
            inner = file.relative_to(path).parts
            yield inner[0] if len(inner) > 1 else file.stem, file


def read_submission(student: str, path: Path, *, found: bool = False) -> Submission:
    """Read a submission; what is wrong with it is its `problem`, never an error.

    Args:
        found: whether it was found in a folder, where a link is refused: it could lead to another's work.
    """
    try:
        if found and path.is_symlink():
            return Submission(student, path, problem="it is a link, not a file")
        content = _content(path, follow=not found)
        if isinstance(content, str):
            return Submission(student, path, problem=content)
        notebook = json.loads(content)
        if notebook["nbformat"] < 4:
            return Submission(student, path, problem="it is a notebook of an old format: save it anew")
        if len(notebook["cells"]) > _CELLS:
            return Submission(student, path, problem=f"it has more than {_CELLS:,} cells")
        cells = tuple(map(_clean, _short(notebook["cells"])))
        about = notebook.get("metadata", {}).get("flowlib")
        exercise = about.get("exercise") if isinstance(about, dict) else None
    except OSError as error:
        return Submission(student, path, problem=f"it cannot be read: {error.strerror}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Submission(student, path, problem="it is not a notebook")
    return Submission(student, path, exercise if isinstance(exercise, str) else None, cells)


def _content(path: Path, *, follow: bool) -> bytes | str:
    """What a file holds, or what is wrong with it. All is asked of what was opened: the path may change meanwhile."""
    if path.is_dir():
        return "it is a folder that cannot be read"
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    with open(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return "it is not a file"
        content = file.read(LARGEST + 1)
    return content if len(content) <= LARGEST else f"it has more than {LARGEST:,} bytes"


def _short(cells: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Cells, without code that it would take for ever to read."""
    total = 0
    for cell in cells:
        size = len(text_of(cell))
        code = cell["cell_type"] == "code"
        total += size if size <= _CELL else 0
        if size <= _CELL and total <= _CODE:
            yield cell
        else:
            yield {**cell, "source": _TOO_LONG if code else ""}


def _clean(cell: dict[str, Any]) -> dict[str, Any]:
    """Of a cell what is needed, in the types that are needed."""
    metadata = cell.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    grading, tags = metadata.get("nbgrader"), metadata.get("tags")
    source = text_of(cell)
    return {
        "code": cell["cell_type"] == "code",
        "raw": cell["cell_type"] == "raw",
        "id": str(cell.get("id")),
        "grade_id": str(grading.get("grade_id")) if isinstance(grading, dict) else None,
        "demo": isinstance(tags, list) and "demo" in tags,
        "source": _python(source.encode("utf-8", "replace").decode()),  # half a surrogate pair cannot be sent
    }


def _python(source: str) -> str:
    """A cell's text without the lines that only a notebook understands (`!ls`, `%pip`), if it is Python then."""
    if names_bound(source) is not None:
        return source
    plain = re.sub(r"^([ \t]*)[!%].*$", r"\1pass", source, flags=re.MULTILINE)
    return source if names_bound(plain) is None else plain


def exercise_of(
    submission: Submission, known: dict[str, frozenset[str]], asked: str | None = None
) -> tuple[str | None, str]:
    """Which exercise it is to be graded as, None if that is unknown; and what is wrong with it, if it holds another.

    Args:
        known: the grade_ids of the solution cells of each exercise.
        asked: the exercise that was set; else the file's name decides, then what the notebook says, then its cells.
    """
    given = {name for cell in submission.cells for name in (cell["grade_id"], cell["id"])}
    shared = {name: len(ids & given) for name, ids in known.items()}
    holds = submission.exercise if submission.exercise in known else max(shared, key=lambda n: shared[n], default=None)
    if holds is not None and submission.exercise != holds and not shared[holds]:
        holds = None
    named = max((name for name in known if name in submission.path.stem), key=len, default=None)
    name = asked or named or holds
    if submission.problem:
        return name, submission.problem
    return name, f"it is the notebook of exercise {holds}" if name and holds not in (name, None) else ""
