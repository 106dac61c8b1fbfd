"""From submissions to verdicts: which cells are run together, and who pays when something breaks.

All answers of a submission run in one process, each question's check after its own cells, in another. When a process
ends, hangs or breaks, the question at hand pays, and the others go on in a fresh process without the one that broke it.
What was not right there is tried once more, alone in a fresh process, where no other answer can be to blame. So an
answer never costs another answer's mark.
"""

import threading
from collections.abc import Collection, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from flowlib.course.grading.answers import Answer, answers
from flowlib.course.grading.reference import Reference
from flowlib.course.grading.rounds import Round, modules, plan, read
from flowlib.course.grading.sandbox import Limits, run
from flowlib.course.grading.submission import Submission

VERDICTS = {
    "right": "",
    "wrong": "",  # the check's own hint
    "error": "",
    "empty": "not answered yet",
    "missing": "its solution cell is not in the notebook",
    "timeout": "it took longer than {seconds:g} s",
    "killed": "it ended its process",
    "memory": "it took more than {gigabytes:.1f} GB of memory",
    "processes": "it started more than {processes} processes",
    "disk": "it wrote more than {disk:.1f} GB",
    "tampered": "its process does not answer as it should",
    "ungraded": "",
}
_INCIDENTS = {"died": "killed", "stuck": "timeout", "total": "timeout", "broken": "tampered"}


@dataclass(frozen=True)
class Verdict:
    """What a question scored, and why: one of `VERDICTS` and a hint, empty for a right answer."""

    question: str
    title: str
    points: float
    possible: float
    verdict: str
    hint: str


@dataclass(frozen=True)
class Graded:
    """A submission with its verdicts; none, and a problem, if it could not be graded at all."""

    student: str
    path: Path
    exercise: str
    verdicts: tuple[Verdict, ...]
    problem: str = ""

    @property
    def points(self) -> float:
        """Scored."""
        return sum(verdict.points for verdict in self.verdicts)

    @property
    def possible(self) -> float:
        """At full marks."""
        return sum(verdict.possible for verdict in self.verdicts)


@dataclass(frozen=True)
class Task:
    """A submission and the reference of its exercise; None if it is of none, or not the one asked for."""

    submission: Submission
    reference: Reference | None
    problem: str = ""


def grade_all(tasks: Sequence[Task], *, limits: Limits, jobs: int = 1) -> Generator[Graded]:
    """Grade submissions, `jobs` at a time; each as soon as it is done."""
    interrupted = threading.Event()

    def one(task: Task) -> Graded:
        return grade_one(task, limits, interrupted)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for done in as_completed([pool.submit(one, task) for task in tasks]):
                yield done.result()
        except BaseException:  # Ctrl-C: end what runs, begin nothing more
            interrupted.set()
            pool.shutdown(cancel_futures=True)
            raise


def grade_one(task: Task, limits: Limits, interrupted: threading.Event | None = None) -> Graded:
    """Grade one submission. What is wrong with it is in the result, never an error."""
    submission, reference = task.submission, task.reference
    problem = task.problem
    if reference is None:
        return Graded(submission.student, submission.path, "", (), problem or "it is no exercise of this course")
    if problem:
        outcome = {question.name: ("missing", problem) for question in reference.questions}
    else:
        outcome = _outcome(reference, answers(submission, reference), limits, interrupted or threading.Event())
    verdicts = []
    for question in reference.questions:
        verdict, hint = outcome[question.name]
        points = question.points if verdict == "right" else 0
        hint = _plain(hint or _explain(verdict, limits))
        verdicts.append(Verdict(question.name, question.title, points, question.points, verdict, hint))
    return Graded(submission.student, submission.path, reference.name, tuple(verdicts), problem)


def _outcome(
    reference: Reference, given: Mapping[str, Answer], limits: Limits, interrupted: threading.Event
) -> dict[str, tuple[str, str]]:
    """Verdict and hint of each question."""
    settled = {name: ("missing", "") for name, answer in given.items() if answer.cells is None}
    settled |= {question.name: ("ungraded", question.problem) for question in reference.questions if question.problem}
    trusted = [name for name in given if given[name].cells is not None]  # whose cells are run
    unhelped: set[str] = set()
    failures, loaded = 0, modules(reference)

    def attempt(names: Collection[str], pending: Collection[str]) -> Round:
        cells = plan(reference, given, names, pending, unhelped)
        ended = run({"cells": cells, "setup": list(reference.setup), "modules": loaded}, limits, interrupted)
        return read(cells, ended.events, ended.stopped, ended.log)

    while pending := [name for name in given if name not in settled]:
        result = attempt(trusted, pending)
        settled |= result.settled
        if interrupted.is_set():
            return settled | {name: ("ungraded", "interrupted") for name in given if name not in settled}
        question, verdict = result.question, _INCIDENTS.get(result.incident, result.incident)
        if not result.incident:
            continue
        if question is None:  # the machine's fault, or the reference's
            failures += 1
            if failures == 2:
                settled |= {name: ("ungraded", result.message) for name in pending if name not in settled}
        elif result.role == "helper":
            unhelped.add(question)
        elif question in settled:  # an answer that was run before is run again for those that build on it
            trusted.remove(question)
        else:
            settled[question] = (verdict, result.message)
            trusted.remove(question)
    first = next((name for name in given if given[name].cells is not None), None)
    for question, (verdict, _) in list(settled.items()):
        if verdict not in ("right", "missing", "empty", "ungraded") and question != first and not interrupted.is_set():
            alone = attempt([question], [question])
            if question in alone.settled and (verdict != "wrong" or alone.settled[question][0] == "right"):
                settled |= alone.settled
    return settled


def _explain(verdict: str, limits: Limits) -> str:
    return VERDICTS[verdict].format(
        seconds=limits.seconds, gigabytes=limits.memory / 2**30, processes=limits.processes, disk=limits.disk / 2**30
    )


def _plain(text: str) -> str:
    """A student's text made fit for a terminal, a spreadsheet and XML: one line, printable, not too long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= 300 else text[:299] + "…"
