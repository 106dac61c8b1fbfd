"""The command that copies an exercise."""

from pathlib import Path

import pytest

from flowlib.cli import main
from flowlib.cli.course import REPOSITORY


def test_a_copy_is_made_once_and_what_comes_next_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["start", "02", "--out", str(tmp_path / "mine")]
    assert main(arguments) == 0
    (copy,) = (tmp_path / "mine").iterdir()
    assert copy.read_bytes() == (REPOSITORY / "exercises" / copy.name).read_bytes()
    assert capsys.readouterr().out.splitlines() == [
        f"{copy} is your copy of the exercise.",
        "Next:",
        f"  jupyter lab {copy}",
        f"  flowlib grade {copy}",
        "In the notebook, a line after each check says how much is right.",
    ]
    copy.write_text("an answer")
    assert main(arguments) == 0
    assert copy.read_text() == "an answer"
    assert "lies there already, and stays as it is" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["2", "42", "02_", "../01"])
def test_an_unknown_name_lists_those_there_are(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", name, "--out", str(tmp_path / "mine")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"flowlib: there is no exercise {name!r} in")
    assert "01_flows_and_diffusions, 02_" in error
    assert not (tmp_path / "mine").exists()


def test_the_default_folder_is_one_that_git_ignores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "exercises").mkdir()
    (tmp_path / "exercises" / "07_topic.ipynb").write_text("{}")
    assert main(["start", "07", "--root", str(tmp_path)]) == 0
    assert (tmp_path / "work" / "07_topic.ipynb").exists()
    assert "/work/" in (REPOSITORY / ".gitignore").read_text().splitlines()
