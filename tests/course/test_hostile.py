"""Hostile submissions, each a small file in `hostile/` with its expected outcome: a verdict, or "not right".

An answer that reads what it should not is right only if it could; one that changes what is not its own answers rightly,
and the test looks whether all is as it was. Beside each hostile answer stands an honest one, which must be right.
"""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import hostile
import psutil
import pytest
from hostile_exercises import SOURCES

import flowlib
from flowlib.course.authoring.source import read_cells
from flowlib.course.grading import sandbox
from flowlib.course.grading.grade import Graded, Task, grade_all
from flowlib.course.grading.reference import load_reference
from flowlib.course.grading.submission import read_submission

FILES = sorted((Path(__file__).parent / "hostile").glob("*.txt"))
LIMITS = sandbox.Limits(seconds=5, total=60, memory=2**30, processes=30, disk=2**28)
ALL = pytest.mark.skipif(not os.environ.get("FLOWLIB_HOSTILE_ALL"), reason="all hostile files: make hostile")
DANGEROUS = ("kill_", "change_")  # for the machine, where there are no namespaces
BARE = ("liar_number", "liar_tensor", "patch_torch_allclose", "builtin_isinstance", "loop_in_call", "os_exit",
        "wire_garbage", "wire_ask_get", "error_words", "frame_globals")  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A folder with the exercise, a file that nobody may read or change, and a server that nobody may reach."""
    folder = tmp_path_factory.mktemp("hostile")
    exercises = {}
    for name, text in SOURCES.items():
        (folder / f"{name}.py").write_text(text)
        exercises[name] = hostile.make(folder / f"{name}.py", folder)
    for name in ("secret", "outside"):
        (folder / name).write_text(name)
    os.environ["FLOWLIB_HOSTILE"] = "1"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        port = server.getsockname()[1]
        abstract.bind(f"\0flowlib-hostile-{port}")
        abstract.listen()
        yield SimpleNamespace(folder=folder, exercises=exercises, port=port)
    del os.environ["FLOWLIB_HOSTILE"]


def grade(place: SimpleNamespace, names: list[str], limits: sandbox.Limits = LIMITS) -> dict[str, Graded]:
    """What hostile files score, by their names."""
    references = {exercise: load_reference(exercise, place.folder / "reference") for exercise in place.exercises}
    tasks = []
    for name in names:
        text = (Path(__file__).parent / "hostile" / f"{name}.txt").read_text()
        for key in ("secret", "outside", "folder"):
            path = place.folder if key == "folder" else place.folder / key
            text = text.replace(f"{{{key}!r}}", repr(str(path)))
        text = text.replace("{port}", str(place.port))
        question = _question(text)
        exercise = next(known for known in references if known[:2] == question[:2])
        handed = hostile.Handed(place.exercises[exercise], right=False)
        for cell in read_cells(place.folder / f"{exercise}.py"):
            if cell.mark == "solution":
                right = "\n".join(line for line in cell.source.split("\n") if "### " not in line)
                name_of = f"solution-{str(cell.question).replace('.', '-')}"
                handed.cell(name_of)["source"] = text if cell.question == question else right
        path = handed.save(place.folder / "in" / f"{name}.ipynb")
        tasks.append(Task(read_submission(name, path), references[exercise]))
    return {graded.student: graded for graded in grade_all(tasks, limits=limits, jobs=2)}


def _question(text: str) -> str:
    """Which question a hostile file answers."""
    said = text.split("# question: ")[1].split("\n")[0]
    return said if "." in said else f"10.{said}"


def judged(graded: Graded) -> str:
    """What is wrong with the outcome of a file, or an empty text."""
    text = (Path(__file__).parent / "hostile" / f"{graded.student}.txt").read_text()
    expected = text.split("\n")[0].removeprefix("# expect: ")
    question = _question(text)
    verdict = next(verdict for verdict in graded.verdicts if verdict.question == question)
    fits = verdict.verdict != "right" if expected == "not right" else verdict.verdict == expected
    if not fits:
        return f"expected {expected}, got {verdict.verdict} ({verdict.hint})"
    others = [other for other in graded.verdicts if other.question != question and other.verdict != "right"]
    return "".join(f"the honest answer {other.question} is {other.verdict} ({other.hint}) " for other in others)


def remains(place: SimpleNamespace) -> list[str]:
    """What hostile files have left or changed."""
    found = [name for name in ("secret", "outside") if (place.folder / name).read_text() != name]
    found += [name for name in ("new", "newfolder", "outside2") if (place.folder / name).exists()]
    state = (place.folder / "outside").stat()
    found += ["mode, owner or time of a file"] * (state.st_uid == 12345 or state.st_mode & 0o600 != 0o600)
    found += [path for path in ("/dev/shm/flowlib_hostile", "/tmp/flowlib_hostile") if Path(path).exists()]
    found += ["the library"] * (Path(flowlib.__file__).read_text()[-1:] == "#")
    for process in psutil.process_iter():
        try:
            if process.cmdline() == ["sleep", "601"]:
                found.append("a process")
        except psutil.Error:
            continue
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="grading needs a system that forks")
@pytest.mark.parametrize("part", ["fifty", pytest.param("all", marks=[pytest.mark.full, ALL])])
def test_nobody_scores_what_they_did_not_solve_and_all_is_as_it_was(place: SimpleNamespace, part: str) -> None:
    names = [path.stem for path in FILES]
    assert len(names) >= 200
    honest = grade(place, ["seed"])["seed"]
    assert honest.points == honest.possible
    if "namespaces" in sandbox.LACKING:
        names = [name for name in names if not name.startswith(DANGEROUS)]
    chosen = names if part == "all" else names[:: max(1, len(names) // 50)][:50]
    grades = grade(place, chosen)
    assert {name: fault for name, graded in grades.items() if (fault := judged(graded))} == {}
    assert remains(place) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="grading needs a system that forks")
def test_what_the_grader_ignores_ends_an_answers_child(place: SimpleNamespace) -> None:
    """As of a grader that a shell has started in the background, or that holds signals back."""
    ignored, held = signal.signal(signal.SIGQUIT, signal.SIG_IGN), signal.pthread_sigmask(signal.SIG_BLOCK, [15])
    try:
        graded = grade(place, ["core_dump"])["core_dump"]
    finally:
        signal.signal(signal.SIGQUIT, ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    assert judged(graded) == ""


@pytest.mark.parametrize("without", [("namespaces",), ("namespaces", "landlock"), sandbox.MEANS])
@pytest.mark.full
def test_without_isolation_nobody_scores_what_they_did_not_solve_either(
    place: SimpleNamespace, without: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "LACKING", set())  # which is the system's for all other tests
    limits = sandbox.Limits(seconds=5, total=60, memory=2**30, processes=30, without=without)
    grades = grade(place, list(BARE), limits)
    assert {name: fault for name, graded in grades.items() if (fault := judged(graded))} == {}
    assert set(without) <= sandbox.LACKING
