"""What is taken from a submission: the student's answers, and nothing else.

A solution cell is found by its grade_id, by its id where the metadata were lost, and at last by the names that it
defines. Where it was split or copied, all of its cells count, in the notebook's order, so that the last definition
wins. A solution cell that was turned into Markdown is code still; one that is raw was taken out.

The grader also takes the student's own cells (code cells that the exercise does not have, and that are not tagged
"demo") as helpers of the solution cells before and after them, and imports that were added to a set-up cell. Of a
helper cell only the imports, assignments, functions and classes count. Each is run by itself, and what fails is passed
over, as are all of a question's helpers if they take too long. So a plot or an experiment left behind costs nothing.
All else (checks, set-up, points, tags) comes from the reference.
"""

from dataclasses import dataclass
from typing import Any

from flowlib.course.grading.names import imports_of, names_bound
from flowlib.course.grading.reference import Reference
from flowlib.course.grading.submission import Submission


@dataclass(frozen=True)
class Answer:
    """A student's answer to a question, as sources: helper cells, solution cells (None without one), later helpers."""

    helpers: tuple[str, ...]
    cells: tuple[str, ...] | None
    after: tuple[str, ...] = ()


def answers(submission: Submission, reference: Reference) -> dict[str, Answer]:
    """The answers by question."""
    helpers: dict[str, list[str]] = {question.name: [] for question in reference.questions}
    taken: dict[str, list[str]] = {question.name: [] for question in reference.questions}
    after: dict[str, list[str]] = {question.name: [] for question in reference.questions}
    waiting: list[str] = []
    last = None
    for cell, question in zip(submission.cells, _owners(submission, reference), strict=True):
        if question is not None:
            taken[question].append(cell["source"])
            if question != last:
                helpers[question] += waiting
            waiting, last = [], question
            continue
        if not cell["code"] or cell["demo"] or not cell["source"].strip():
            continue
        ours = cell["grade_id"] in reference.ids or cell["id"] in reference.ids
        own = cell["source"] if not ours else imports_of(cell["source"]) if _is_setup(cell, reference) else ""
        if own:
            waiting.append(own)
            if last is not None and not ours:
                after[last].append(own)

    return {name: Answer(tuple(helpers[name]), tuple(taken[name]) or None, tuple(after[name])) for name in taken}


def _owners(submission: Submission, reference: Reference) -> list[str | None]:
    """For each cell the question that it is a solution cell of."""
    by_id = {grade_id: question.name for question in reference.questions for grade_id in question.answers}
    found = [
        None if cell["raw"] else by_id.get(str(cell["grade_id"]), by_id.get(cell["id"])) for cell in submission.cells
    ]
    bound = [names_bound(cell["source"]) or set() if cell["code"] else set() for cell in submission.cells]
    for question in reference.questions:
        if question.name in found or not question.names:
            continue
        for i, cell in enumerate(submission.cells):  # its metadata and id are gone
            ours = cell["grade_id"] in reference.ids or cell["id"] in reference.ids
            free = found[i] is None and cell["code"] and not ours
            if free and question.names <= bound[i]:
                found[i] = question.name
    return found


def _is_setup(cell: dict[str, Any], reference: Reference) -> bool:
    """Whether a set-up cell of the exercise is not as it was."""
    name = cell["grade_id"] or cell["id"]
    return str(name).startswith("setup") and cell["source"] not in reference.setup
