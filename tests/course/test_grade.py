"""`flowlib grade`: what hostile submissions score, and that they harm nothing and nobody else."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import hostile
import psutil
import pytest

import flowlib
from flowlib.course.grading import library
from flowlib.course.grading.confine import landlock
from flowlib.course.grading.grade import Task, grade_all, grade_one
from flowlib.course.grading.reference import load_reference
from flowlib.course.grading.sandbox import Limits
from flowlib.course.grading.submission import read_submission

LIMITS = Limits(seconds=5, memory=2**30, processes=30)
KINDS = {"fatal": hostile.FATAL, "quiet": hostile.QUIET, "ada": ["right"] * 10, "shuffled": hostile.SHUFFLED}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grade")
    hostile.make_reference(folder)
    return folder


@pytest.fixture(scope="module")
def reference(place):
    return load_reference(hostile.NAME, place / "reference")


@pytest.fixture(
    scope="module",
    params=[("ada", "shuffled"), pytest.param(tuple(KINDS), marks=pytest.mark.full)],
    ids=lambda kinds: " ".join(kinds),
)
def graded(place, reference, request):
    """Submissions graded in one go, two at a time, with a good one between the hostile ones."""
    exercise, outside = place / f"{hostile.NAME}.ipynb", place / "outside"
    outside.write_text("mine")
    made = {
        "fatal": hostile.fatal(exercise),
        "quiet": hostile.quiet(exercise, outside),
        "ada": hostile.Handed(exercise),
        "shuffled": hostile.shuffled(exercise),
    }
    tasks = [Task(read_submission(name, made[name].save(place / f"{name}.ipynb")), reference) for name in request.param]
    before = Path(flowlib.__file__).read_bytes()  # which a submission tries to write
    grades = {grade.student: grade for grade in grade_all(tasks, limits=LIMITS, jobs=2)}
    time.sleep(0.5)
    left = [process.name() for process in psutil.process_iter() if process.name() == "sleep" and _asked(process)]
    return SimpleNamespace(
        grades=grades, left=left, same=before == Path(flowlib.__file__).read_bytes(), outside=outside.read_text()
    )


def _asked(process):
    try:
        return process.cmdline() == ["sleep", "601"]
    except psutil.Error:
        return False


def test_each_question_scores_what_it_should_and_nothing_else(graded):
    for kind, grade in graded.grades.items():
        assert [verdict.verdict for verdict in grade.verdicts] == KINDS[kind], kind
        assert [verdict.points for verdict in grade.verdicts] == [float(verdict == "right") for verdict in KINDS[kind]]
        assert grade.possible == 10
        assert all(verdict.hint for verdict in grade.verdicts if verdict.verdict != "right")


def test_nothing_is_left_running_and_no_file_elsewhere_has_changed(graded):
    assert graded.left == []
    if landlock():  # without it a file elsewhere can be written
        assert graded.same
        assert graded.outside == "mine"


def test_the_hint_is_the_checks_own(graded):
    hints = {
        (kind, verdict.question): verdict.hint for kind, grade in graded.grades.items() for verdict in grade.verdicts
    }
    assert hints["shuffled", "09.1"] == "not times 1"
    assert hints["shuffled", "09.7"] == "its solution cell is not in the notebook"
    assert "quiet" not in graded.grades or "SyntaxError" in hints["quiet", "09.5"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "it is not a notebook"),
        (b"", "it is not a notebook"),
        (b"[" * 100_000, "it is not a notebook"),
        (b"\xff\xfe\x00", "it is not a notebook"),
        (b'{"nbformat": 4, "cells": [3]}', "it is not a notebook"),
        (b'{"nbformat": 4, "cells": {"a": 1}}', "it is not a notebook"),
        (b'{"nbformat": 3, "worksheets": []}', "it is a notebook of an old format: save it anew"),
    ],
)
def test_what_is_no_notebook_scores_nothing(tmp_path, reference, content, problem):
    path = tmp_path / "broken.ipynb"
    path.write_bytes(content)
    submission = read_submission("broken", path)
    assert submission.problem == problem
    grade = grade_one(Task(submission, reference, submission.problem), LIMITS)
    assert (grade.points, grade.possible) == (0, 10)


def _faked(monkeypatch, culprit, broken):
    """Rounds without processes: the kernel ends at the check of `broken` whenever the answer of `culprit` has run."""
    rounds = []

    def run(job, limits, interrupted):
        rounds.append([cell["question"] for cell in job["cells"] if cell["role"] == "check"])
        events, ran = [], set()
        for number, cell in enumerate(job["cells"]):
            events.append({"event": "start", "cell": number})
            ran |= {cell["question"]} if cell["role"] == "solution" else set()
            ends = cell["role"] == "check" and cell["question"] == broken and culprit in ran
            status = "died" if ends else "ok"
            events.append({"event": "done", "cell": number, "status": status, "name": "", "message": ""})
            if ends:
                break
        return SimpleNamespace(events=events, stopped=None, log="")

    monkeypatch.setattr("flowlib.course.grading.grade.run", run)
    return rounds


@pytest.mark.parametrize(("culprit", "verdict"), [("09.2", "right"), ("09.5", "killed")])
def test_who_ends_the_kernel_pays_and_nobody_else(monkeypatch, place, reference, culprit, verdict):
    """An answer that ends the kernel later, at another's check, costs that other nothing."""
    rounds = _faked(monkeypatch, culprit, "09.5")
    path = hostile.Handed(place / f"{hostile.NAME}.ipynb").save(place / "late.ipynb")
    grade = grade_one(Task(read_submission("late", path), reference), LIMITS)
    assert [v.verdict for v in grade.verdicts] == ["right"] * 4 + [verdict] + ["right"] * 5
    assert rounds[1] == ["09.6", "09.7", "09.8", "09.9", "09.10"]
    assert rounds[2:] == [["09.5"]]  # alone


def test_a_machine_that_cannot_grade_says_so(monkeypatch, place, reference):
    monkeypatch.setattr(
        "flowlib.course.grading.grade.run", lambda *_: SimpleNamespace(events=[], stopped=None, log="no such thing")
    )
    path = hostile.Handed(place / f"{hostile.NAME}.ipynb").save(place / "late.ipynb")
    grade = grade_one(Task(read_submission("late", path), reference), LIMITS)
    assert {verdict.verdict for verdict in grade.verdicts} == {"ungraded"}
    assert "no such thing" in grade.verdicts[0].hint


def test_without_landlock_each_submission_imports_a_copy_of_the_library(monkeypatch, tmp_path):
    root = Path(flowlib.__file__).parent
    monkeypatch.setattr("flowlib.course.grading.library.landlock", lambda: 0)
    for name in ("one", "two"):
        copied = library.library(tmp_path / name) / "flowlib"
        assert copied.is_relative_to(tmp_path / name)
        for path in root.rglob("*.py"):
            assert (copied / path.relative_to(root)).read_bytes() == path.read_bytes()
        (copied / "__init__.py").write_text("changed")  # as the next one must not see
    monkeypatch.undo()
    assert library.library(tmp_path) == root.parent or not landlock()


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="processes end with their parent on Linux only")
@pytest.mark.parametrize("without", ["", "namespaces"])
def test_no_answer_outlives_a_grader_that_is_killed(place, tmp_path, without):
    """Killed by force, so that it can do nothing about it itself."""
    handed = hostile.Handed(place / f"{hostile.NAME}.ipynb")
    handed.answer(1, "def times_1(x):\n    while True:\n        pass")
    path = handed.save(tmp_path / f"{hostile.NAME}.ipynb")
    command = [sys.executable, "-m", "flowlib", "grade", str(path), "--reference", str(place / "reference")]
    environment = {**os.environ, "FLOWLIB_GRADE_WITHOUT": without}
    with subprocess.Popen([*command, "--timeout", "600"], env=environment, stdout=subprocess.DEVNULL) as grader:
        try:
            below: list[psutil.Process] = []
            # Until an answer runs, however busy the machine: the stage, the exercise's, a checker, two of the answer.
            for _ in range(3000):
                below = psutil.Process(grader.pid).children(recursive=True)
                if len(below) >= 5 and max(one.cpu_times().user for one in below) > 3:
                    break
                time.sleep(0.1)
            assert len(below) >= 5, below
            time.sleep(2)
            below = psutil.Process(grader.pid).children(recursive=True)
        finally:
            grader.kill()
    _, alive = psutil.wait_procs(below, timeout=10)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
