"""What a submission is measured by: the questions, points, checks and set-up of an exercise, from the reference.

The references are notebooks that come with the package (`flowlib/course/reference`, made by the builder: the exercise
with its hidden tests kept), so that an installed wheel can grade. Nothing of what they hold is ever taken from a
submission.
"""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flowlib.checks import check_choice
from flowlib.course.grading.names import bound_names

FOLDER = Path(__file__).parents[1] / "reference"


@dataclass(frozen=True)
class GradedQuestion:
    """A question as the grader sees it.

    Attributes:
        name: such as "01.2"; title: its heading.
        points: for a right answer; there are none for anything else.
        checks: the sources of its check cell and of an instructor's hidden tests, all of which must be silent.
        answers: the grade_ids of its solution cells.
        names: what the solution cells bind, as far as their stubs tell.
        setups: how many of the exercise's set-up cells stand before its check.
        problem: why it cannot be graded, if it cannot: it is nobody's fault.
    """

    name: str
    title: str
    points: float
    checks: tuple[str, ...]
    answers: tuple[str, ...]
    names: frozenset[str]
    setups: int
    problem: str = ""


@dataclass(frozen=True)
class Reference:
    """An exercise: its name, the sources of its set-up cells, its questions, and the ids of all its cells."""

    name: str
    setup: tuple[str, ...]
    questions: tuple[GradedQuestion, ...]
    ids: frozenset[str]


def references(folder: Path = FOLDER) -> dict[str, Path]:
    """The reference notebooks in a folder, by the name of the exercise."""
    return {path.stem: path for path in sorted(folder.glob("*.ipynb"))}


def load_reference(name: str, folder: Path = FOLDER) -> Reference:
    """The reference of an exercise.

    Args:
        name: of the exercise, such as "01_flows_and_diffusions".
        folder: of notebooks with hidden tests: the package's own, or an instructor's `solutions/`.

    Raises:
        ValueError: if there is no such exercise, or its notebook is damaged.
    """
    path = references(folder)[check_choice("exercise", name, references(folder))]
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        return _read(name, cells)
    except (KeyError, TypeError, json.JSONDecodeError, SyntaxError) as error:
        raise ValueError(f"the reference {path} is damaged: {type(error).__name__} {error}") from None


def text_of(cell: Mapping[str, Any]) -> str:
    """The source of a notebook's cell, which is a string or a list of lines."""
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def _read(name: str, cells: list[dict[str, Any]]) -> Reference:
    setup: list[str] = []
    questions: list[GradedQuestion] = []
    answers: dict[str, list[str]] = {}
    names: dict[str, set[str]] = {}
    for cell in cells:
        grading = cell["metadata"].get("nbgrader")
        if cell["cell_type"] != "code" or grading is None:
            continue
        about, source = cell["metadata"].get("flowlib", {}), text_of(cell)
        if grading["solution"]:
            answers.setdefault(about["question"], []).append(grading["grade_id"])
            names.setdefault(about["question"], set()).update(bound_names(source))
        elif grading["grade"]:
            question = about["question"]
            questions.append(
                GradedQuestion(
                    question,
                    about["title"],
                    grading["points"],
                    checks=(source,),
                    answers=tuple(answers.get(question, ())),
                    names=frozenset(names.get(question, ())),
                    setups=len(setup),
                )
            )
        else:
            setup.append(source)
    ids = frozenset(str(cell.get("id")) for cell in cells) | {
        cell["metadata"]["nbgrader"]["grade_id"] for cell in cells if "nbgrader" in cell["metadata"]
    }
    return Reference(name, tuple(setup), tuple(questions), ids)


def read_points(path: Path) -> dict[str, float]:
    """Points by question, from a TOML file (`"01.2" = 3`) or a JSON file (`{"01.2": 3}`).

    Raises:
        ValueError: if the file is neither, or a value is not a finite number of at least 0.
    """
    try:
        text = path.read_text("utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise ValueError(f"points must be a TOML or JSON file, got {path}: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"points must be by question, got {values!r} in {path}")
    points: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):  # TOML reads 01.2 without quotes as entry 2 of table 01, which is as clear
            points |= {f"{name}.{number}": entry for number, entry in value.items()}
        else:
            points[name] = value
    for name, value in points.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise ValueError(f"points of {name!r} in {path} must be a number of at least 0, got {value!r}")
    return points


def with_points(reference: Reference, points: Mapping[str, float]) -> Reference:
    """The reference with other points for some questions; those of other exercises are left alone.

    Raises:
        ValueError: for a question of this exercise that it does not have.
    """
    known = [question.name for question in reference.questions]
    for name in points:
        if name.split(".")[0] == reference.name.split("_")[0]:
            check_choice("points", name, known)
    questions = (replace(q, points=points.get(q.name, q.points)) for q in reference.questions)
    return replace(reference, questions=tuple(questions))
