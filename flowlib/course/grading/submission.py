"""What is taken from a submission: the student's answers, and nothing else.

Of all cells of a question, the grader takes the first code cell with the grade_id of each of its solution cells.
It also takes the student's own cells (code cells that the exercise does not have, and that are not tagged "demo")
as helpers of the solution cell that follows them: of a helper cell only the imports, assignments, functions and
classes count. Each is run by itself, and what fails is passed over, as are all of a question's helpers if they take
too long. So a plot or an experiment left behind costs nothing. All else (checks, set-up, points, tags, the order of
cells) comes from the reference.
"""

import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowlib.course.grading.reference import GradedQuestion, Reference, text_of

LARGEST = 64 * 2**20  # bytes of a notebook


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
        found = sorted(
            Path(folder) / name
            for folder, folders, names in os.walk(path)  # which does not follow links
            for name in [*names, *(entry for entry in folders if (Path(folder) / entry).is_symlink())]
            if name.endswith(".ipynb") and ".ipynb_checkpoints" not in Path(folder).parts
        )
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
        kind = path.lstat() if found else path.stat()
        if stat.S_ISLNK(kind.st_mode):
            return Submission(student, path, problem="it is a link, not a file")
        if not stat.S_ISREG(kind.st_mode):
            return Submission(student, path, problem="it is not a file")
        if kind.st_size > LARGEST:
            return Submission(student, path, problem=f"it has more than {LARGEST:,} bytes")
        notebook = json.loads(path.read_bytes())
        if not isinstance(notebook["nbformat"], int) or notebook["nbformat"] < 4:
            return Submission(student, path, problem="it is a notebook of an old format: save it anew")
        cells = tuple(_clean(cell) for cell in notebook["cells"])
        about = notebook.get("metadata", {}).get("flowlib")
        exercise = about.get("exercise") if isinstance(about, dict) else None
    except OSError as error:
        return Submission(student, path, problem=f"it cannot be read: {error.strerror}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Submission(student, path, problem="it is not a notebook")
    return Submission(student, path, exercise if isinstance(exercise, str) else None, cells)


def _clean(cell: dict[str, Any]) -> dict[str, Any]:
    """Of a cell what is needed, in the types that are needed."""
    metadata = cell.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    grading, tags = metadata.get("nbgrader"), metadata.get("tags")
    source = text_of(cell)
    return {
        "code": cell["cell_type"] == "code",
        "id": str(cell.get("id")),
        "grade_id": str(grading.get("grade_id")) if isinstance(grading, dict) else None,
        "demo": isinstance(tags, list) and "demo" in tags,
        "source": source.encode("utf-8", "replace").decode(),  # half a surrogate pair cannot be sent
    }


def exercise_of(
    submission: Submission, known: dict[str, frozenset[str]], asked: str | None = None
) -> tuple[str | None, str]:
    """Which exercise it is to be graded as, None if that is unknown; and what is wrong with it, if it holds another.

    Args:
        known: the grade_ids of the solution cells of each exercise.
        asked: the exercise that was set; else the file's name decides, then what the notebook says, then its cells.
    """
    given = {cell["grade_id"] for cell in submission.cells}
    shared = {name: len(ids & given) for name, ids in known.items()}
    holds = submission.exercise if submission.exercise in known else max(shared, key=lambda n: shared[n], default=None)
    if holds is not None and submission.exercise != holds and not shared[holds]:
        holds = None
    named = max((name for name in known if name in submission.path.stem), key=len, default=None)
    name = asked or named or holds
    if submission.problem:
        return name, submission.problem
    return name, f"it is the notebook of exercise {holds}" if name and holds not in (name, None) else ""


@dataclass(frozen=True)
class Answer:
    """A student's answer to a question: helper cells and solution cells, as sources; None without a solution cell."""

    helpers: tuple[str, ...]
    cells: tuple[str, ...] | None


def answers(submission: Submission, reference: Reference) -> dict[str, Answer]:
    """The answers by question."""
    owner = {grade_id: question for question in reference.questions for grade_id in question.answers}
    helpers: dict[str, list[str]] = {question.name: [] for question in reference.questions}
    taken: dict[str, str] = {}
    waiting: list[str] = []
    for cell in submission.cells:
        grade_id = cell["grade_id"]
        if not cell["code"]:
            continue
        if grade_id in owner:
            if grade_id not in taken:
                taken[grade_id] = cell["source"]
                helpers[owner[grade_id].name] += waiting
                waiting = []
        elif not (cell["demo"] or grade_id in reference.ids or cell["id"] in reference.ids) and cell["source"].strip():
            waiting.append(cell["source"])

    def answer(question: GradedQuestion) -> Answer:
        cells = tuple(taken[grade_id] for grade_id in question.answers if grade_id in taken)
        return Answer(tuple(helpers[question.name]), cells or None)

    return {question.name: answer(question) for question in reference.questions}
