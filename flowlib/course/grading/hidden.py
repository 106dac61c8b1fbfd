"""An instructor's own tests: read, added to a reference, and tried on the solutions before they cost anybody a mark."""

import ast
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import flowlib
from flowlib.checks import check_choice
from flowlib.course.authoring.source import Cell, SourceError, read_cells
from flowlib.course.grading.grade import Task, grade_one
from flowlib.course.grading.reference import Reference
from flowlib.course.grading.sandbox import Limits
from flowlib.course.grading.submission import read_submission


def with_hidden_tests(known: Mapping[str, Reference], folder: Path) -> dict[str, Reference]:
    """References with an instructor's tests after each question's own check.

    Args:
        folder: holds files with the names of exercises, `NN_topic.py`, whose cells are marked `check="NN.k"`; an
            exercise without a file there has no further tests.

    Raises:
        ValueError: for a file of another name, one that cannot be read as such, a cell that is no check, or a test of
            a question that the exercise does not have.
    """
    files = sorted(folder.glob("*.py"))
    for path in files:
        check_choice(f"file in {folder}", path.stem, known)
    if not files:
        raise ValueError(f"{folder}: no tests in this folder; they are in files NN_topic.py")
    return {**known, **{path.stem: _with_tests(known[path.stem], path) for path in files}}


def _with_tests(reference: Reference, path: Path) -> Reference:
    hidden: dict[str, list[str]] = {}
    for cell in read_cells(path):
        if cell.mark == "check":
            question = check_choice(f"check in {path}", str(cell.question), [q.name for q in reference.questions])
            hidden.setdefault(question, []).append(cell.source)
        elif cell.kind == "code" and not _is_text(cell):
            raise SourceError(path, cell.line, 'a cell of tests is marked check="NN.k"; imports belong in each of them')
    questions = (replace(q, checks=(*q.checks, *hidden.get(q.name, ()))) for q in reference.questions)
    return replace(reference, questions=tuple(questions))


def _is_text(cell: Cell) -> bool:
    """Whether a cell has comments and a docstring at most."""
    body = ast.parse(cell.source).body
    return all(isinstance(entry, ast.Expr) and isinstance(entry.value, ast.Constant) for entry in body)


def tried(reference: Reference, plain: Reference, folder: Path, limits: Limits) -> Reference:
    """A reference whose hidden tests have been tried on its solutions: what fails there is no student's fault.

    Args:
        reference: with hidden tests; plain: without.
        folder: where notebooks with solutions may be, beside the `solutions` of a checkout. Where there are none, the
            tests are taken as they are.
    """
    own = {question.name: len(question.checks) for question in plain.questions}
    added = tuple(
        replace(q, checks=q.checks[own[q.name] :]) for q in reference.questions if len(q.checks) > own[q.name]
    )
    places = [folder, Path(flowlib.__file__).parents[1] / "solutions"]
    for path in (place / f"{reference.name}.ipynb" for place in places):
        if not added or not path.is_file():
            continue
        solution = read_submission("", path)
        if any("raise NotImplementedError()" in cell["source"] for cell in solution.cells if cell["grade_id"]):
            continue
        graded = grade_one(Task(solution, replace(reference, questions=added)), limits)
        problems = {
            verdict.question: f"your hidden test fails on the solution too: {verdict.hint}"
            for verdict in graded.verdicts
            if verdict.verdict != "right"
        }
        questions = (replace(q, problem=problems.get(q.name, "")) for q in reference.questions)
        return replace(reference, questions=tuple(questions))
    return reference
