"""Building: the same bytes again, drift noticed without executing, nbgrader's own conventions, clean outputs."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from parts import REPOSITORY, SMALL, SOLUTIONS, SOURCES, check

from flowlib.cli import main
from flowlib.course.authoring import drift, execute
from flowlib.course.authoring.cells import exercise_notebook, lecture_notebook, solution_notebook, write_notebook
from flowlib.course.authoring.layout import sources
from flowlib.course.authoring.source import SourceError, read_cells


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def untimed(content: bytes) -> bytes:
    return re.sub(rb'"seconds": \d+', b"", content)


def test_a_build_makes_all_files(built: Path) -> None:
    made = set(contents(built)) - set(contents(SMALL))
    assert made == {
        "lectures/01_mean.ipynb",
        "lectures/images/01.png",
        "solutions/01_mean.ipynb",
        "exercises/01_mean.ipynb",
        "flowlib/course/hints/01_mean.json",
        "flowlib/course/reference/01_mean.ipynb",
    }


def test_a_second_build_changes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(root)
    assert check(root, capsys) == (0, "2 sources: nothing has drifted\n")
    assert main(["course", "build", "--root", str(root)]) == 0
    assert "0 of 2 sources built" in capsys.readouterr().out
    assert contents(root) == before


def test_an_execution_gives_the_same_bytes_again_but_for_its_seconds(root: Path) -> None:
    before = {name: untimed(content) for name, content in contents(root).items()}
    assert main(["course", "build", "--root", str(root), "--force"]) == 0
    assert {name: untimed(content) for name, content in contents(root).items()} == before


def test_a_lecture_is_executed_from_nothing_and_its_seconds_are_stored(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = root / "kept"
    kept.mkdir()
    monkeypatch.setenv("FLOWLIB_RUNS", str(kept))
    code = "\n# %%\nimport os\nimport time\n\nassert not os.listdir(os.environ['FLOWLIB_RUNS'])\ntime.sleep(2)\n"
    with (root / "lectures/01_mean.py").open("a", encoding="utf-8") as file:
        file.write(code)
    (kept / "a-training").mkdir()
    assert main(["course", "build", "--root", str(root), "lectures/01"]) == 0
    stored = nbformat.read(root / "lectures/01_mean.ipynb", as_version=4)
    assert 2 <= stored.metadata["flowlib"]["seconds"] < 120
    del stored.metadata["flowlib"]["seconds"]
    nbformat.write(stored, root / "lectures/01_mean.ipynb")
    assert main(["course", "build", "--root", str(root), "--check", "lectures/01"]) == 1


def test_notebooks_are_valid_and_their_ids_stable(built: Path) -> None:
    ids = []
    for name in ("lectures", "solutions", "exercises"):
        notebook = nbformat.read(built / name / "01_mean.ipynb", as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "python3"
        assert "version" not in notebook.metadata.language_info
        assert not any("Divide one by the other." in cell.source for cell in notebook.cells)  # a hint
        ids.append([cell.id for cell in notebook.cells])
        assert len(set(ids[-1])) == len(ids[-1])
        for cell in notebook.cells:
            assert cell.metadata.get("nbgrader", {"grade_id": cell.id})["grade_id"] == cell.id
    assert {"solution-01-1", "check-01-1", "solution-01-2", "written-01-2", "check-01-2"} <= set(ids[1]) & set(ids[2])


def test_an_id_does_not_depend_on_other_cells(tmp_path: Path) -> None:
    source = (SMALL / "lectures/01_mean.py").read_text("utf-8")
    path = tmp_path / "01_mean.py"
    path.write_text(f"# %% [markdown]\n# before\n{source}# %% [markdown]\n# before\n", "utf-8")
    old = lecture_notebook(path, read_cells(SMALL / "lectures/01_mean.py"))
    new = lecture_notebook(path, read_cells(path))
    assert [cell.id for cell in new.cells[1:-1]] == [cell.id for cell in old.cells]
    assert new.cells[-1].id == f"{new.cells[0].id}-2"


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("lectures/01_mean.py", "How far", "How near", "lectures/01_mean.ipynb: prose, tags or alternative texts of"),
        ("lectures/01_mean.py", '"demo", ', "", "lectures/01_mean.ipynb: built from another source"),
        (
            "lectures/01_mean.py",
            ', "draw"',
            "",
            "01_mean.ipynb: prose, tags or alternative texts of another source",
        ),
        (
            "lectures/01_mean.py",
            "Ten bars",
            "Bars",
            "01_mean.ipynb: prose, tags or alternative texts of another",
        ),
        (
            "lectures/01_mean.py",
            "# alt: Ten bars of nearly\n#   the same height.\n",
            "",
            "images 1, alternative texts 0",
        ),
        ("lectures/01_mean.py", "# alt: Ten", "# alt: One.\n# alt: Ten", "images 1, alternative texts 2"),
        ("lectures/01_mean.ipynb", '"source_hidden": true', '"source_hidden": false', "tags or alternative texts of"),
        ("lectures/01_mean.ipynb", '"Ten bars of nearly the same height."', '"Bars"', "tags or alternative texts of"),
        ("lectures/01_mean.ipynb", "How far", "How near", "lectures/01_mean.ipynb: prose, tags or alternative texts"),
        ("lectures/01_mean.ipynb", '"execution_count": 1', '"execution_count": null', "not executed to its end"),
        ("lectures/01_mean.ipynb", "def uniform_time", "def uniform_tide", "uniform_time, which has changed in"),
        ("lectures/01_mean.ipynb", "times:uniform_time", "times:no_time", "changed in flowlib/times.py"),
        ("lectures/01_mean.ipynb", '"cells": [', '"cells": {', "lectures/01_mean.ipynb: damaged"),
        ("solutions/01_mean.py", "return x.sum()", "return +x.sum()", "solutions/01_mean.ipynb: not what"),
        ("solutions/01_mean.py", "a scalar tensor", "a scalar", "exercises/01_mean.ipynb: not what"),
        ("solutions/01_mean.py", "# 1. One.", "# 1. Eins.", "hints/01_mean.json: not what"),
        ("exercises/01_mean.ipynb", "is it a sum?", "is it?", "exercises/01_mean.ipynb: not what"),
    ],
)
def test_drift_is_found_and_named(
    root: Path, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str, reason: str
) -> None:
    text = (root / file).read_text("utf-8")
    assert old in text
    (root / file).write_text(text.replace(old, new, 1), "utf-8")
    before = contents(root)
    status, said = check(root, capsys)
    assert status == 1
    assert reason in said
    assert contents(root) == before


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_whoever_has_changed_a_file_is_told_which_and_how_to_get_it_back(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git = ["git", "-C", str(root), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "The course"]):
        subprocess.run([*git, *words], check=True)
    files = [root / "exercises/01_mean.ipynb", root / "solutions/01_mean_answers.py"]
    for file in files:
        file.write_text(file.read_text("utf-8").replace("x", "y"), "utf-8")
    status, said = check(root, capsys)
    line = "you have changed exercises/01_mean.ipynb; to get it back: git checkout -- exercises/01_mean.ipynb"
    assert (status, said.count("you have changed"), said.split("\n")[1]) == (1, 1, line)
    assert "to keep the change: flowlib course build 01_mean " in said
    subprocess.run([*git, *line.split("git ")[1].split()], check=True)
    assert check(root, capsys)[0] == 0
    (root / "lectures/01_mean.py").write_text("# %%\n")
    assert "git checkout -- lectures/01_mean.py\n" in check(root, capsys)[1]


def test_missing_files_and_files_without_source_are_drift(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "lectures/images/01.png").unlink()
    (root / "exercises/01_mean.ipynb").unlink()
    shutil.copy(root / "lectures/01_mean.ipynb", root / "lectures/02_mode.ipynb")
    status, said = check(root, capsys)
    assert status == 1
    assert "images/01.png is missing" in said
    assert "exercises/01_mean.ipynb: not what" in said
    assert "02_mode.ipynb: has no source" in said


def test_a_cell_that_fails_is_shown_in_full(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(path: Path, force: bool) -> None:
        raise SourceError(path, 3, "this cell fails:\n    1 / 0\nZeroDivisionError")

    monkeypatch.setattr("flowlib.course.authoring.build.build", build)
    assert main(["course", "build", "--force", "--root", str(root)]) == 2
    assert capsys.readouterr().err.endswith(".py:3: this cell fails:\n    1 / 0\nZeroDivisionError\n")


def test_a_large_file_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "LECTURE_BYTES", 100)
    monkeypatch.setattr(drift, "IMAGE_BYTES", 100)
    said = "\n".join(drift.drifted(root / "lectures/01_mean.py"))
    assert "more than 100" in said
    assert "images/01.png has more than 100 bytes" in said


def test_only_what_changed_is_built(root: Path) -> None:
    source = root / "solutions/01_mean.py"
    source.write_text(source.read_text("utf-8").replace("a scalar tensor", "a scalar"), "utf-8")
    hints, lecture = root / "flowlib/course/hints/01_mean.json", root / "lectures/01_mean.ipynb"
    past = time.time() - 1000
    os.utime(hints, (past, past))
    os.utime(lecture, (past, past))
    assert main(["course", "build", "--root", str(root)]) == 0
    assert hints.stat().st_mtime == lecture.stat().st_mtime == pytest.approx(past)
    assert "a scalar" in (root / "exercises/01_mean.ipynb").read_text("utf-8")


def test_names_choose_sources(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for names, count in {("01",): 2, ("01_mean",): 2, ("lectures/01",): 1, ("lectures/01_mean.py",): 1}.items():
        assert len(sources(root, names)) == count
    assert main(["course", "build", "--check", "--root", str(root), "07"]) == 2
    assert "no source named '07'" in capsys.readouterr().err


def test_a_lecture_is_stored_clean(built: Path) -> None:
    text = (built / "lectures/01_mean.ipynb").read_text("utf-8")
    cells = nbformat.reads(text, as_version=4).cells
    assert all(output.get("name") != "stderr" for cell in cells for output in cell.get("outputs", []))
    assert all("execution" not in cell.metadata for cell in cells)
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))
    assert str(built) not in text


def lecture(tmp_path: Path, code: str) -> Iterator[str]:
    path = tmp_path / "01_x.py"
    path.write_text(f"# %% [markdown]\n# # Title\n# %%\n{code}\n", "utf-8")
    cells = read_cells(path)
    return iter(execute.execute(lecture_notebook(path, cells), path, cells, progress=False))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "01_x.py:3: this cell fails:"),
        ("object()", "the output is an object's address"),
        (
            "import matplotlib.pyplot as plt\nplt.title(r'$\\nope$');",
            "01_x.py:3: the output cannot be shown: ValueError",
        ),
        ("import os\nprint(os.path.expanduser('~/x'))", "the output holds a path of this machine"),
    ],
)
def test_a_lecture_that_readers_would_stumble_over_is_refused(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        lecture(tmp_path, code)


def test_a_lecture_runs_in_full_and_its_warnings_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWLIB_FAST", "1")
    code = "import os, sys\nassert 'FLOWLIB_FAST' not in os.environ\n"
    code += "sys.stderr.write('50%|###  |\\rmoons: 100%|####|\\nwatch out')"
    assert [line.rsplit(": ", 1)[-1] for line in lecture(tmp_path, f"{code};")] == ["watch out"]


@pytest.mark.full
def test_exercises_are_what_nbgrader_would_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own preprocessors, on each solution that there is, leave the text and locks that ours has."""
    preprocessors = pytest.importorskip("nbgrader.preprocessors", reason="nbgrader is not installed: make peers")
    steps = [preprocessors.ClearSolutions(), preprocessors.LockCells(), preprocessors.ClearHiddenTests()]
    for path in [SMALL / "solutions/01_mean.py", *SOLUTIONS]:
        cells = read_cells(path)
        theirs, resources = solution_notebook(path, cells), {}
        for step in steps:
            theirs, resources = step.preprocess(theirs, resources)
        preprocessors.CheckCellMetadata().preprocess(theirs, resources)
        assert write_notebook(theirs) == write_notebook(exercise_notebook(path, cells))


def test_hints_are_stored_by_question(built: Path) -> None:
    hints = json.loads((built / "flowlib/course/hints/01_mean.json").read_text("utf-8"))
    assert {name: len(levels) for name, levels in hints.items()} == {"01.1": 3, "01.2": 3}


@pytest.mark.full
def test_nothing_has_drifted_in_the_course_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(REPOSITORY, capsys) == (0, f"{len(SOURCES)} sources: nothing has drifted\n")
