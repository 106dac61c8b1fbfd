"""Grades as tables, JSON, JUnit and CSV, and a summary of a class."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from xml.etree import ElementTree

from flowlib.course.grading.grade import Graded
from flowlib.plotting import format_table


def as_table(graded: Graded) -> str:
    """A submission's questions with points, verdict and hint, under its name."""
    title = f"{_text(graded.path)}: {number(graded.points)} of {number(graded.possible)} points"
    if not graded.verdicts:
        return f"{_text(graded.path)}: not graded: {graded.problem}"
    rows = [
        {
            "question": f"{verdict.question} {verdict.title}",
            "points": f"{number(verdict.points)}/{number(verdict.possible)}",
            "verdict": verdict.verdict,
            "hint": verdict.hint,
        }
        for verdict in graded.verdicts
    ]
    return f"{title}\n\n{format_table(rows)}"


def as_summary(grades: Sequence[Graded]) -> str:
    """A class: a line for each submission, then how often each question was answered rightly."""
    lines = [
        {
            "student": _text(graded.student),
            "exercise": graded.exercise,
            "points": f"{number(graded.points)}/{number(graded.possible)}" if graded.verdicts else "not graded",
            "not right": graded.problem
            or ", ".join(
                f"{verdict.question} ({verdict.verdict})" for verdict in graded.verdicts if verdict.verdict != "right"
            ),
        }
        for graded in grades
    ]
    asked: dict[str, list[str]] = {}
    for verdict in (verdict for graded in grades for verdict in graded.verdicts):
        asked.setdefault(f"{verdict.question} {verdict.title}", []).append(verdict.verdict)
    rates = [
        {"question": question, "right": f"{found.count('right')} of {len(found)}", "share": _share(found)}
        for question, found in sorted(asked.items())
    ]
    return "\n\n".join(format_table(rows) for rows in (lines, rates) if rows)


def _share(verdicts: Sequence[str]) -> str:
    return f"{verdicts.count('right') / len(verdicts):.0%}"


def as_json(grades: Sequence[Graded]) -> str:
    """All grades, in full."""
    found = [
        {
            "student": _text(graded.student),
            "file": _text(graded.path),
            "exercise": graded.exercise,
            "points": graded.points,
            "possible": graded.possible,
            "problem": graded.problem,
            "questions": [asdict(verdict) for verdict in graded.verdicts],
        }
        for graded in grades
    ]
    return json.dumps({"submissions": found}, indent=2, ensure_ascii=False) + "\n"


def as_junit(grades: Sequence[Graded]) -> str:
    """A test suite for each submission, a test for each question; what failed says why."""
    suites = ElementTree.Element("testsuites")
    for graded in grades:
        cases = [(v.question, v.title, v.verdict, v.hint) for v in graded.verdicts]
        cases = cases or [("", "the submission", "ungraded", graded.problem)]
        failed = sum(verdict != "right" for _, _, verdict, _ in cases)
        suite = ElementTree.SubElement(
            suites, "testsuite", name=_text(graded.path), tests=str(len(cases)), failures=str(failed)
        )
        for question, title, verdict, hint in cases:
            name = f"{question} {title}".strip()
            case = ElementTree.SubElement(suite, "testcase", classname=_text(graded.path), name=name)
            if verdict != "right":
                ElementTree.SubElement(case, "failure", type=verdict, message=hint)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, "unicode") + "\n"


def as_csv(grades: Sequence[Graded]) -> str:
    """The class: a line for each submission, its points in all and for each question."""
    questions = list(dict.fromkeys(verdict.question for graded in grades for verdict in graded.verdicts))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["student", "exercise", "points", "possible", *questions, "problem", "file"])
    for graded in grades:
        points = {verdict.question: number(verdict.points) for verdict in graded.verdicts}
        writer.writerow(
            [
                _cell(graded.student), graded.exercise, number(graded.points), number(graded.possible),
                *(points.get(question, "") for question in questions), _cell(graded.problem), _cell(graded.path),
            ]
        )  # fmt: skip
    return out.getvalue()


def number(points: float) -> str:
    """Points without a needless decimal."""
    return f"{points:g}"


def _text(value: object) -> str:
    """A name in one line that a terminal, XML and UTF-8 can hold: what they cannot is written as Python writes it.

    So is the backslash, so that two names that differ are never written alike.
    """
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in str(value))


def _cell(value: object) -> str:
    """A text that no spreadsheet takes for a formula: a student chooses how a file is called."""
    text = _text(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
