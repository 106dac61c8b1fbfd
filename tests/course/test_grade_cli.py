"""The command `flowlib grade`: its table and files, its options, what it refuses."""

import csv
import json
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import hostile
import psutil
import pytest

from flowlib.cli import main


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    hostile.make_reference(folder)
    return folder


@pytest.fixture
def handed(place):
    return hostile.Handed(place / f"{hostile.NAME}.ipynb")


def grade(place, *arguments):
    return main(["grade", *map(str, arguments), "--reference", str(place / "reference")])


def refused(capsys, place, *arguments):
    capsys.readouterr()
    assert grade(place, *arguments) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert error.startswith("flowlib: ")
    assert error.count("\n") == 1
    return error


def test_full_marks_are_exit_status_0(capsys, place, handed):
    path = handed.save(place / "ada_09_scaling.ipynb")
    assert grade(place, path) == 0
    output = capsys.readouterr().out
    assert f"{path}: 10 of 10 points" in output
    assert "09.1 Times 1" in output


def test_a_class_with_hidden_tests_and_other_points(capsys, place, handed):
    """One folder, all outputs: hidden tests find what the course's own do not, a bad submission stays alone."""
    room = place / "class"
    handed.answer(1, "def times_1(x):\n    return x if x.ndim < 2 else 0 * x")
    handed.answer(2, 'def times_2(x):\n    raise ValueError("\\x1b[31m=red <&> \\ud800")')
    handed.save(room / "ada" / "09_scaling.ipynb")
    (room / "bob").mkdir(parents=True)
    (room / "bob" / "09_scaling.ipynb").write_text("{")
    (room / "eve").mkdir()
    (room / "eve" / "09_scaling.ipynb").symlink_to(room / "ada" / "09_scaling.ipynb")
    (room / "=mal").mkdir()
    handed.notebook["metadata"]["flowlib"]["exercise"] = "01_other"
    for number, cell in enumerate(handed.cells):
        cell["metadata"].pop("nbgrader", None)
        cell["id"] = f"other{number}"
    handed.save(room / "=mal" / "untitled.ipynb")
    tests = place / "mine"
    tests.mkdir()
    (tests / f"{hostile.NAME}.py").write_text(
        '# %% check="09.1"\nassert times_1(torch.ones(1, 1)) == 1, "not for a matrix"\n'
    )
    (place / "points.toml").write_text('"09.1" = 5\n09.2 = 0.5\n')
    assert grade(
        place, room, "--hidden", tests, "--points", place / "points.toml", "--jobs", 2,
        "--json", place / "all.json", "--junit", place / "all.xml", "--csv", place / "all.csv", "--tables",
    ) == 1  # fmt: skip
    output = capsys.readouterr().out
    assert "ada/09_scaling.ipynb: 8 of 13.5 points" in output
    assert "not for a matrix" in output
    assert "\x1b" not in output
    lines = list(csv.DictReader((place / "all.csv").open()))
    assert [(line["student"], line["points"], line["problem"]) for line in lines] == [
        ("'=mal", "0", "it is no exercise of this course"),
        ("ada", "8", ""),
        ("bob", "0", "it is not a notebook"),
        ("eve", "0", "it is a link, not a file"),
    ]
    assert (lines[1]["09.1"], lines[1]["09.3"], lines[1]["possible"]) == ("0", "1", "13.5")
    found = json.loads((place / "all.json").read_text())["submissions"]
    assert [entry["points"] for entry in found] == [0, 8, 0, 0]
    assert found[1]["questions"][1]["verdict"] == "error"
    suites = ElementTree.parse(place / "all.xml").getroot()
    assert [(suite.get("tests"), suite.get("failures")) for suite in suites] == [
        ("1", "1"), ("10", "2"), ("10", "10"), ("10", "10"),
    ]  # fmt: skip


def test_of_several_a_summary_is_printed(capsys, place, handed):
    """A line for each, and how often each question was right; a table only of one, or where it is asked for."""
    handed.save(place / "pair" / "ada" / "09_scaling.ipynb")
    handed.answer(1, "def times_1(x):\n    return 0 * x")
    handed.save(place / "pair" / "bob" / "09_scaling.ipynb")
    assert grade(place, place / "pair") == 1
    output, error = capsys.readouterr()
    lines = [line.split() for line in output.splitlines()]
    assert ["ada", "09_scaling", "10/10"] in lines
    assert ["bob", "09_scaling", "9/10", "09.1", "(wrong)"] in lines
    rates = {line[0]: line[-4:] for line in lines if line and line[0].startswith("09.")}
    assert rates.pop("09.1") == ["1", "of", "2", "50%"]
    assert set(map(tuple, rates.values())) == {("2", "of", "2", "100%")}
    assert "of 10 points" not in output
    assert error == ""  # a bar is for terminals


def test_bad_input_is_one_line(capsys, place, handed, tmp_path):
    good = handed.save(tmp_path / "09_scaling.ipynb")
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "broken.ipynb").write_text("{")
    (tmp_path / "points.toml").write_text('"09.77" = 1')
    (tmp_path / "text.toml").write_text('"09.1" = "many"')
    (tmp_path / "odd.toml").write_text("{")
    assert "no such file" in refused(capsys, place, tmp_path / "nowhere.ipynb")
    assert "no notebooks" in refused(capsys, place, empty)
    assert "not a notebook" in refused(capsys, place, tmp_path / "broken.ipynb")
    assert "exercise" in refused(capsys, place, good, "--exercise", "nope")
    assert "09.77" in refused(capsys, place, good, "--points", tmp_path / "points.toml")
    assert "must be a number" in refused(capsys, place, good, "--points", tmp_path / "text.toml")
    assert "TOML or JSON" in refused(capsys, place, good, "--points", tmp_path / "odd.toml")
    assert "--hidden" in refused(capsys, place, good, "--hidden", tmp_path / "nowhere")
    assert "there is no folder" in refused(capsys, place, good, "--json", tmp_path / "no" / "all.json")
    (empty / f"{hostile.NAME}.py").write_text('# %% check="09.99"\nassert True\n')
    assert "09.99" in refused(capsys, place, good, "--hidden", empty)
    assert main(["grade", str(good), "--reference", str(empty)]) == 2


def test_a_notebook_of_another_exercise_scores_nothing(capsys, place, tmp_path):
    """Its file is called after one exercise, and holds another."""
    small = hostile.make_small(place)
    assert grade(place, hostile.Handed(small, right=False).save(tmp_path / f"{hostile.NAME}.ipynb")) == 1
    output = capsys.readouterr().out
    assert "0 of 10 points" in output
    assert "it is the notebook of exercise 01_mean" in output


def test_help_says_how(capsys):
    assert main(["grade", "--help"]) == 0
    assert "Examples:\n" in capsys.readouterr().out


def test_ctrl_c_ends_all_that_was_started(place, handed, tmp_path):
    path = handed.answer(1, "while True:\n    pass").save(tmp_path / "09_scaling.ipynb")
    command = [sys.executable, "-m", "flowlib", "grade", str(path), "--reference", str(place / "reference")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started = time.monotonic()
    while not (family := psutil.Process(process.pid).children(recursive=True))[1:] and time.monotonic() < started + 60:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == ""
    assert process.returncode == 130
    gone, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    assert len(gone) >= 2
