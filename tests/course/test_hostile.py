"""Hostile submissions, each a small file in `hostile/` with its expected outcome: a verdict, or "not right".

An answer that reads what it should not is right only if it could; one that changes what is not its own answers rightly,
and the test looks whether all is as it was. Beside each hostile answer stands an honest one, which must be right.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import hostile
import psutil
import pytest

import flowlib
from flowlib.course.grading import sandbox
from flowlib.course.grading.grade import Graded, Task, grade_all
from flowlib.course.grading.reference import Reference, load_reference
from flowlib.course.grading.submission import read_submission

FILES = sorted((Path(__file__).parent / "hostile").glob("*.txt"))
LIMITS = sandbox.Limits(seconds=5, total=60, memory=2**30, processes=30, disk=2**28)
ALL = pytest.mark.skipif(not os.environ.get("FLOWLIB_HOSTILE_ALL"), reason="all hostile files: make hostile")
DANGEROUS = ("kill_", "change_")  # for the machine, where there are no namespaces
BARE = ("liar_number", "liar_tensor", "patch_torch_allclose", "builtin_isinstance", "loop_in_call", "os_exit",
        "wire_garbage", "wire_ask_get", "error_words", "frame_globals")  # fmt: skip
SOURCE = """# %% [markdown]
# # Exercise 10. Three times
# %%
import torch
# %% [markdown]
# ## 10.1 A tensor (5 points, 1 minute, easy)
# %% solution="10.1"
def times(x):
    ### BEGIN SOLUTION
    return 3 * x
    ### END SOLUTION
# %% check="10.1" points=5
_x = torch.arange(3.0)
found = times(_x)
assert isinstance(found, torch.Tensor), "no tensor"
assert found.shape == (3,), "the shape is lost"
assert torch.allclose(found, 3 * torch.arange(3.0)), "not three times"
assert torch.equal(_x, torch.arange(3.0)), "changed in place"
### BEGIN HIDDEN TESTS
assert times(torch.tensor(7.0)) == 21, "not for every x"
### END HIDDEN TESTS
# %% [markdown] hints="10.1"
# 1. One.
# 2. Two.
# 3. Three.
# %% [markdown]
# ## 10.2 A number (5 points, 1 minute, easy)
# %% solution="10.2"
def count(n):
    ### BEGIN SOLUTION
    return 3 * n
    ### END SOLUTION
# %% check="10.2" points=5
assert count(4) == 12, "not twelve"
assert abs(count(5) - 15) < 1e-9, "not fifteen"
# %% [markdown] hints="10.2"
# 1. One.
# 2. Two.
# 3. Three.
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A folder with the exercise, a file that nobody may read or change, and a server that nobody may reach."""
    folder = tmp_path_factory.mktemp("hostile")
    source = folder / "10_three.py"
    source.write_text(SOURCE)
    exercise = hostile.make(source, folder)
    for name in ("secret", "outside"):
        (folder / name).write_text(name)
    os.environ["FLOWLIB_HOSTILE"] = "1"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        port = server.getsockname()[1]
        abstract.bind(f"\0flowlib-hostile-{port}")
        abstract.listen()
        yield SimpleNamespace(folder=folder, exercise=exercise, port=port)
    del os.environ["FLOWLIB_HOSTILE"]


def grade(place: SimpleNamespace, names: list[str], limits: sandbox.Limits = LIMITS) -> dict[str, Graded]:
    """What hostile files score, by their names."""
    reference: Reference = load_reference("10_three", place.folder / "reference")
    tasks = []
    for name in names:
        text = (Path(__file__).parent / "hostile" / f"{name}.txt").read_text()
        for key in ("secret", "outside", "folder"):
            path = place.folder if key == "folder" else place.folder / key
            text = text.replace(f"{{{key}!r}}", repr(str(path)))
        text = text.replace("{port}", str(place.port))
        handed = hostile.Handed(place.exercise, right=False)
        handed.cell("solution-10-1")["source"] = "def times(x):\n    return 3 * x"
        handed.cell("solution-10-2")["source"] = "def count(n):\n    return 3 * n"
        handed.cell("solution-10-2" if "# question: 2" in text else "solution-10-1")["source"] = text
        path = handed.save(place.folder / "in" / f"{name}.ipynb")
        tasks.append(Task(read_submission(name, path), reference))
    return {graded.student: graded for graded in grade_all(tasks, limits=limits, jobs=2)}


def judged(graded: Graded) -> str:
    """What is wrong with the outcome of a file, or an empty text."""
    text = (Path(__file__).parent / "hostile" / f"{graded.student}.txt").read_text()
    expected = text.split("\n")[0].removeprefix("# expect: ")
    own = 1 if "# question: 2" in text else 0
    verdict, other = graded.verdicts[own], graded.verdicts[1 - own]
    fits = verdict.verdict != "right" if expected == "not right" else verdict.verdict == expected
    if not fits:
        return f"expected {expected}, got {verdict.verdict} ({verdict.hint})"
    return "" if other.verdict == "right" else f"the honest answer is {other.verdict} ({other.hint})"


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


@pytest.mark.parametrize("without", [("namespaces",), ("namespaces", "landlock"), sandbox.MEANS])
@pytest.mark.full
def test_without_isolation_nobody_scores_what_they_did_not_solve_either(
    place: SimpleNamespace, without: tuple[str, ...]
) -> None:
    limits = sandbox.Limits(seconds=5, total=60, memory=2**30, processes=30, without=without)
    grades = grade(place, list(BARE), limits)
    assert {name: fault for name, graded in grades.items() if (fault := judged(graded))} == {}
    assert set(without) <= sandbox.LACKING
