"""The questions of an exercise, and the rules that its source must keep."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flowlib.course.authoring.source import Cell, SourceError

REGIONS = {"solution": "SOLUTION", "check": "HIDDEN TESTS"}  # the only cells that may hold them
POINTS, LEVELS = 10, 3  # of an exercise, and of a question's hints

_HEADING = re.compile(
    r"^## (?P<question>\d\d\.\d+) (?P<title>.+) \((?P<points>\d+) points?, \d+ minutes?, (?:easy|medium|hard)\)$", re.M
)


@dataclass
class Question:
    """A question of an exercise: its name, heading, points and hints."""

    name: str
    title: str
    points: int = 0
    hints: list[str] = field(default_factory=list)


def read_questions(path: Path, cells: list[Cell]) -> list[Question]:
    """The questions of an exercise, once its source is found to keep all rules.

    Raises:
        SourceError: for a question without heading, solution, check or three hints, in another order or more than
            once; points that are not whole, not those of the heading, or not 10 in all; regions that do not match.
    """
    for cell in cells:
        _check_regions(path, cell)
    questions = {name: Question(name, heading["title"]) for name, heading, _ in _headings(path, cells)}
    seen: dict[tuple[str, str, str], int] = {}
    for cell in cells:
        if cell.mark is None:
            continue
        name, place = str(cell.question), (cell.mark, str(cell.question), cell.kind)
        if name not in questions:
            raise SourceError(
                path, cell.line, f"there is no heading for {name}: ## {name} Title (2 points, 5 minutes, easy)"
            )
        if place in seen:
            raise SourceError(path, cell.line, f"{cell.mark} {name} is there twice: first at line {seen[place]}")
        seen[place] = cell.line
        if cell.mark == "check":
            if ("solution", name, "code") not in seen:
                raise SourceError(path, cell.line, f"check {name} has no solution before it")
            if cell.kind != "code":
                raise SourceError(path, cell.line, f"check {name} must be code")
            questions[name].points = _points(path, cell)
        if cell.mark == "hints":
            questions[name].hints = _levels(path, cell)
    for name, heading, line in _headings(path, cells):
        for mark, kind in (("solution", "code"), ("check", "code"), ("hints", "markdown")):
            if (mark, name, kind) not in seen:
                raise SourceError(path, line, f"question {name} has no {mark} cell")
        if int(heading["points"]) != questions[name].points:
            points = questions[name].points
            raise SourceError(path, line, f"the heading of {name} says {heading['points']} points, its check {points}")
    total = sum(question.points for question in questions.values())
    if total != POINTS:
        raise SourceError(path, 1, f"the points of all questions must sum to {POINTS}, but sum to {total}")
    return list(questions.values())


def _headings(path: Path, cells: list[Cell]) -> Iterator[tuple[str, re.Match[str], int]]:
    """Name, heading and line of each question; they are numbered NN.1, NN.2 ... after the file."""
    number = 0
    for cell in cells:
        for heading in _HEADING.finditer(cell.source if cell.kind == "markdown" else ""):
            number += 1
            line = cell.line + 1 + cell.source[: heading.start()].count("\n")
            if heading["question"] != f"{path.name[:2]}.{number}":
                raise SourceError(path, line, f"question {heading['question']} must be {path.name[:2]}.{number}")
            yield heading["question"], heading, line


def _check_regions(path: Path, cell: Cell) -> None:
    for mark, region in REGIONS.items():
        opened = None
        for number, text in enumerate(cell.source.split("\n"), cell.line + 1):
            begins, ends = f"BEGIN {region}" in text, f"END {region}" in text
            if (begins or ends) and cell.mark != mark:
                raise SourceError(path, number, f"{text.strip()} belongs in a {mark} cell")
            if begins and opened is not None:
                raise SourceError(path, number, f"BEGIN {region} inside the region that begins at line {opened}")
            if ends and opened is None:
                raise SourceError(path, number, f"END {region} without a BEGIN {region}")
            opened = number if begins else None if ends else opened
        if opened is not None:
            raise SourceError(path, opened, f"BEGIN {region} without an END {region}")
    if (cell.mark, cell.kind) == ("solution", "code") and f"BEGIN {REGIONS['solution']}" not in cell.source:
        raise SourceError(path, cell.line, f"solution {cell.question} has no region: ### BEGIN SOLUTION")


def _points(path: Path, cell: Cell) -> int:
    points = cell.metadata.get("points")
    if not isinstance(points, int) or isinstance(points, bool) or points < 1:
        raise SourceError(path, cell.line, f"check {cell.question} needs whole points, points=2, got {points!r}")
    return points


def _levels(path: Path, cell: Cell) -> list[str]:
    """The hints of a numbered list, without their numbers."""
    parts = re.split(r"^(\d+)\. +", cell.source.strip(), flags=re.M)
    if cell.kind != "markdown" or parts[0] or parts[1::2] != [str(level + 1) for level in range(LEVELS)]:
        raise SourceError(
            path, cell.line, f"hints {cell.question} must be a list of {LEVELS} levels: 1. ... 2. ... 3. ..."
        )
    return [re.sub(r"^ {1,3}", "", part, flags=re.M).strip() for part in parts[2::2]]
