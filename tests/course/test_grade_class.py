"""`flowlib grade` on a class in which somebody means harm: nobody else's marks are touched and no result is lost."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import hostile
import pytest

from flowlib.cli import main
from flowlib.course.grading import gradebook, outputs
from flowlib.course.grading.grade import Graded
from flowlib.course.grading.submission import find_submissions, read_submission

FORGED = "ada\n01_mean  09_scaling  10/10\x1b[2K\u202e\r"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    hostile.make_small(folder)
    return folder


@pytest.fixture
def right(place):
    """A right submission of the small exercise."""
    handed = hostile.Handed(place / "01_mean.ipynb", right=False)
    handed.cell("solution-01-1")["source"] = "def mean(x):\n    return x.sum() / len(x)"
    return handed


def grade(place, *arguments):
    return main(["grade", *map(str, arguments), "--reference", str(place / "reference")])


def found(place, *arguments):
    """What is written of each submission, by its path below the class's folder."""
    out = place / "all.json"
    status = grade(place, *arguments, "--json", out)
    return status, json.loads(out.read_text())["submissions"]


def test_names_cannot_forge_lines_of_the_table(capsys, place, tmp_path, right):
    """Nor of an error, nor move the cursor, nor look like another's name."""
    for name in (FORGED, "a\nb", "a\\nb", "bob"):
        right.save(tmp_path / "room" / name / "01_mean.ipynb")
    status, entries = found(place, tmp_path / "room", "--tables")
    output = capsys.readouterr().out
    assert status == 1
    assert not any(character in output for character in "\x1b\r\u202e")
    assert sum("09_scaling" in line and line.startswith("01_mean") for line in output.splitlines()) == 0
    assert len({entry["student"] for entry in entries}) == 4
    missing = tmp_path / FORGED
    assert grade(place, missing) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.replace("\n", "").isprintable()


def test_a_path_that_is_not_utf8_is_graded(capsys, place, tmp_path, right):
    path = right.save(tmp_path / "room" / "ada" / "01_mean.ipynb")
    try:
        os.rename(path, os.fsencode(path.parent) + b"/01_mean \xff\xfe.IPYNB")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    right.save(tmp_path / "room" / "bob" / "X.IPYNB")
    status, entries = found(
        place, tmp_path / "room", "--tables", "--csv", place / "all.csv", "--junit", place / "all.xml"
    )
    assert status == 1
    assert [(entry["student"], entry["points"]) for entry in entries] == [("ada", 4), ("bob", 4)]
    assert "\\udcff" in capsys.readouterr().out


def test_what_is_no_file_or_too_much_of_one_costs_its_owner_alone(place, tmp_path, right):
    """A pipe, links, a file of a gigabyte, a million cells; cells that Python would read for ever are passed over."""
    room = tmp_path / "room"
    good = right.save(room / "zoe" / "01_mean.ipynb")
    for name in ("pipe", "link", "loop", "large", "cells", "nested", "wide", "folder"):
        (room / name).mkdir()
    os.mkfifo(room / "pipe" / "01_mean.ipynb")
    (room / "link" / "01_mean.ipynb").symlink_to(good)
    (room / "loop" / "01_mean.ipynb").symlink_to(room / "loop" / "01_mean.ipynb")
    (room / "folder" / "01_mean.ipynb").mkdir()
    with (room / "large" / "01_mean.ipynb").open("wb") as file:
        file.truncate(2**30)
    text = json.dumps(right.notebook)
    cell = '{"cell_type":"code","metadata":{},"source":"a=1"},'
    (room / "cells" / "01_mean.ipynb").write_text(text.replace('"cells": [', '"cells": [' + cell * 1_000_000))
    for name, source in (("nested", "(" * 50_000_000), ("wide", "a[b](c,d);" * 5_000_000)):
        (room / name / "01_mean.ipynb").write_text(
            text.replace('"cells": [', '"cells": [' + cell.replace("a=1", source))
        )
    started = time.process_time()
    _, entries = found(place, room)
    assert time.process_time() - started < 30
    points = {entry["student"]: (entry["points"], entry["problem"]) for entry in entries}
    assert {points.pop(name) for name in ("zoe", "nested", "wide")} == {(4, "")}
    assert set(points) == {"pipe", "link", "loop", "large", "cells"}
    assert all(entry[0] == 0 and entry[1] for entry in points.values()), points


def test_a_file_that_changes_while_it_is_read_is_not_another(monkeypatch, tmp_path, right):
    """A link, or a pipe, that takes the file's place after it was looked at."""
    mine, other = right.save(tmp_path / "mine.ipynb"), right.save(tmp_path / "other.ipynb")
    looked = type(mine).lstat

    def look(path):
        kind = looked(path)
        if path == mine and not os.path.islink(path):
            path.unlink()
            path.symlink_to(other)
        return kind

    monkeypatch.setattr(type(mine), "lstat", look)
    assert read_submission("mine", mine, found=True).cells == ()
    assert mine.read_text() == other.read_text()


def test_a_folder_that_cannot_be_read_is_said(place, tmp_path, right, monkeypatch):
    """Its owner is not left out in silence."""
    right.save(tmp_path / "room" / "ada" / "01_mean.ipynb")
    right.save(tmp_path / "room" / "bob" / "01_mean.ipynb")
    scan = os.scandir

    def closed(path="."):
        if os.fspath(path).endswith("bob"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert [student for student, _ in find_submissions([tmp_path / "room"])] == ["ada", "bob"]
    assert "cannot be read" in str(read_submission("bob", tmp_path / "room" / "bob", found=True).problem)


def test_cells_of_one_id_and_names_in_metadata_count_for_nobody_else(place, tmp_path, right):
    """Whose a submission is, its place says; and all cells of an id count, in their order."""
    right.notebook["metadata"] |= {"authors": [{"name": "bob"}], "student": "bob", "name": "bob"}
    for cell in right.cells:
        cell["id"] = "same"
    right.save(tmp_path / "room" / "ada" / "01_mean.ipynb")
    _, entries = found(place, tmp_path / "room")
    assert [(entry["student"], entry["points"]) for entry in entries] == [("ada", 4)]


def test_results_are_kept_where_the_outputs_folder_is_lost(capsys, place, tmp_path, right, monkeypatch):
    """A full disk, or a folder that is gone: the others are graded all the same, and what there is, is printed."""
    for name in ("ada", "bob", "eve"):
        right.save(tmp_path / "room" / name / "01_mean.ipynb")
    write, calls = outputs.write_whole, []

    def full(path, content):
        calls.append(path)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(outputs, "write_whole", full)
    _, entries = found(place, tmp_path / "room")
    assert [entry["points"] for entry in entries] == [4, 4, 4]

    def gone(path, content):
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr(outputs, "write_whole", gone)
    capsys.readouterr()
    assert grade(place, tmp_path / "room", "--csv", tmp_path / "all.csv") == 2
    output, error = capsys.readouterr()
    assert [line.split()[0] for line in output.splitlines()[2:5]] == ["ada", "bob", "eve"]
    assert "No such file" in error


def test_an_output_that_is_a_submission_is_refused(capsys, place, tmp_path, right):
    """By its own path, through a link, and as another name of the same file."""
    path = right.save(tmp_path / "01_mean.ipynb")
    (tmp_path / "link").symlink_to(path)
    os.link(path, tmp_path / "same")
    for name in ("01_mean.ipynb", "link", "same"):
        assert grade(place, path, "--json", tmp_path / name) == 2
        assert "file of its own" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_of_three_are_kept_when_grading_is_ended(place, tmp_path, right, number):
    """With Ctrl-C, or by the system: what is done is printed and written, and nothing runs on."""
    for name in ("ada", "bob"):
        right.save(tmp_path / "room" / name / "01_mean.ipynb")
    right.cell("solution-01-1")["source"] = "while True:\n    pass"
    right.save(tmp_path / "room" / "eve" / "01_mean.ipynb")
    out = tmp_path / "all.json"
    command = [sys.executable, "-m", "flowlib", "grade", str(tmp_path / "room"), "--json", str(out)]
    process = subprocess.Popen(
        [*command, "--reference", str(place / "reference")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if len(json.loads(out.read_text())["submissions"]) == 2:
                break
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + number
    assert [line.split()[0] for line in output.splitlines()[2:4]] == ["ada", "bob"]
    assert [entry["points"] for entry in json.loads(out.read_text())["submissions"]] == [4, 4]


def test_the_escape_of_names_tells_all_of_them_apart():
    names = ["a\nb", "a\\nb", "a\\\\nb", "a b", "ü", "\udcff", "\\udcff"]
    written = [json.loads(gradebook.as_json([Graded(name, Path(name), "", ())])) for name in names]
    assert len({entry["submissions"][0]["student"] for entry in written}) == len(names)


def test_a_hidden_test_that_fails_on_the_solution_costs_nobody_a_point(capsys, place, tmp_path, right):
    """The question is "ungraded", and the teacher is told which test it is."""
    solution = hostile.Handed(place / "01_mean.ipynb", right=False)
    solution.cell("solution-01-1")["source"] = "def mean(x):\n    return x.sum() / len(x)"
    answer = (
        'def spread(x):\n    if len(x) == 0:\n        raise ValueError("x")\n    return ((x - x.mean()) ** 2).mean()'
    )
    for cell in solution.cells:
        if cell["metadata"].get("nbgrader", {}).get("grade_id", "").startswith("solution-01-2"):
            cell["source"] = answer if cell["cell_type"] == "code" else cell["source"]
    folder = tmp_path / "reference"
    folder.mkdir()
    reference = json.loads((place / "reference" / "01_mean.ipynb").read_text())
    known = {cell["metadata"].get("nbgrader", {}).get("grade_id"): cell["source"] for cell in solution.cells}
    for cell in reference["cells"]:
        grading = cell["metadata"].get("nbgrader", {})
        if grading.get("solution"):
            cell["source"] = known[grading["grade_id"]]
    (folder / "01_mean.ipynb").write_text(json.dumps(reference))
    tests = tmp_path / "mine"
    tests.mkdir()
    (tests / "01_mean.py").write_text('# %% check="01.1"\nassert mean(torch.ones(2)) == 5, "a mistake of mine"\n')
    path = right.save(tmp_path / "01_mean.ipynb")
    out = tmp_path / "all.json"
    assert main(["grade", str(path), "--reference", str(folder), "--hidden", str(tests), "--json", str(out)]) == 1
    questions = json.loads(out.read_text())["submissions"][0]["questions"]
    assert questions[0]["verdict"] == "ungraded"
    assert questions[0]["hint"] == "your hidden test fails on the solution too: a mistake of mine"


def test_new_refusals_of_the_command_line(capsys, place, tmp_path, right):
    """Before anything runs, in a line each."""
    path = right.save(tmp_path / "01_mean.ipynb")
    (tmp_path / "folder").mkdir()
    (tmp_path / "points.toml").write_text('"01.1" = 1\n')
    for arguments, words in (
        (("--json", tmp_path / "folder"), "must be a file"),
        (("--json", tmp_path / "nowhere" / "all.json"), "there is no folder"),
        (("--json", tmp_path / "a", "--csv", tmp_path / "a"), "file of its own"),
        (("--points", tmp_path / "points.toml", "--csv", tmp_path / "points.toml"), "file of its own"),
        (("--hidden", tmp_path / "folder"), "no tests in this folder"),
        (("--jobs", 0), "jobs"),
        (("--memory", 0), "memory"),
    ):
        assert grade(place, path, *arguments) == 2
        output, error = capsys.readouterr()
        assert (output, error.count("\n")) == ("", 1)
        assert words in error
