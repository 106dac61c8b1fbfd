"""A run of answers in one kernel: the cells that make it up, and what its events say of each question."""

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from flowlib.course.grading.answers import Answer
from flowlib.course.grading.names import imported_modules
from flowlib.course.grading.reference import Reference


@dataclass
class Round:
    """What came of a run: settled questions, and where it broke off, if it did."""

    settled: dict[str, tuple[str, str]]
    incident: str = ""
    message: str = ""
    question: str | None = None
    role: str = ""


def modules(reference: Reference) -> list[str]:
    """What set-up and checks import: loaded before any answer runs."""
    checks = (check for question in reference.questions for check in question.checks)
    return sorted(imported_modules("\n".join((*reference.setup, *checks))))


def plan(
    reference: Reference,
    given: Mapping[str, Answer],
    names: Collection[str],
    pending: Collection[str],
    unhelped: Collection[str] = (),
) -> list[dict[str, Any]]:
    """The cells of a run, each with its source and what the kernel has to know of it.

    Args:
        names: questions whose answers are run; pending: those that are checked too; unhelped: without helper cells.
    """
    cells: list[dict[str, Any]] = []
    for question in reference.questions:
        answer = given[question.name]
        if question.name not in names or answer.cells is None:
            continue
        about = {"question": question.name, "setups": question.setups, "names": sorted(question.names)}
        cells.append({"source": f"# {question.name}", "role": "open", **about})
        if answer.helpers and question.name not in unhelped:
            cells.append({"source": list(answer.helpers), "role": "helper", **about})
        cells += [{"source": source, "role": "solution", **about} for source in answer.cells]
        if answer.after and question.name not in unhelped:
            cells.append({"source": list(answer.after), "role": "helper", **about})
        if question.name in pending:
            cells += [{"source": source, "role": "check", **about} for source in question.checks]
    return cells


def read(cells: list[dict[str, Any]], events: list[dict[str, Any]], stopped: str | None, log: str) -> Round:
    """What the events of a run say of each question."""
    done = {event["cell"]: event for event in events if event["event"] == "done"}
    result = Round({})
    failed: dict[str, str] = {}  # by question, how a solution cell ended
    last = max((event["cell"] for event in events if event["event"] == "start"), default=-1)
    for number, cell in itertools.takewhile(lambda entry: entry[0] in done, enumerate(cells)):
        event, question, role = done[number], str(cell.get("question")), cell["role"]
        status, said = event["status"], _said(event)
        status = stopped if stopped and status == "died" else status  # the kernel ended first when all was stopped
        if status not in ("ok", "error") or (status == "error" and role == "open"):
            return _broken_off(result, status, cell, event["message"] or said)
        if status == "error" and role == "solution":
            failed.setdefault(question, "" if event["name"] == "NotImplementedError" else f"your cell ends with {said}")
        elif role == "check" and result.settled.get(question, ("right", ""))[0] == "right":
            result.settled[question] = ("right", "") if status == "ok" else _judge(event, failed.get(question))
    if len(done) < len(cells):
        cell = cells[last] if last >= 0 and last not in done else {"role": "", "question": None}
        return _broken_off(
            result, stopped or "died", cell, "" if cell["role"] else f"the grader's process ended: {log}"
        )
    return result


def _broken_off(result: Round, incident: str, cell: dict[str, Any], message: str) -> Round:
    question = cell.get("question")
    result.settled.pop(str(question), None)  # one of its checks was silent, but not all have run
    result.incident, result.question, result.role, result.message = incident, question, cell["role"], message
    if incident == "error":  # of no cell of the student's
        result.incident = "broken"
    return result


def _judge(event: dict[str, Any], failed: str | None) -> tuple[str, str]:
    """The verdict and hint of a check that was not silent, knowing how the solution cell ended."""
    if event["name"] == "MemoryError" or "can't allocate memory" in event["message"]:
        return "memory", ""
    if failed is not None:
        return ("error", failed) if failed else ("empty", "")
    if event["name"] == "NotImplementedError":
        return "empty", ""
    return ("wrong", event["message"]) if event["name"] == "AssertionError" else ("error", _said(event))


def _said(event: dict[str, Any]) -> str:
    return f"{event['name']}: {event['message']}".rstrip(": ")
