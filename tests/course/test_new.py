"""What an instructor starts from builds, passes its own bank and the linter, before a word of it is changed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flowlib.cli import main
from flowlib.course.authoring import new

REPOSITORY = Path(__file__).parents[2]


def test_a_new_topic_builds_and_passes_its_bank(tmp_path: Path) -> None:
    """In a copy of the library, because hints are part of the package."""
    shutil.copytree(REPOSITORY / "flowlib", tmp_path / "flowlib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)

    def run(*arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    run("flowlib", "course", "new", "07_topic", "A topic")
    run("ruff", "check", "--no-cache", "lectures", "solutions")
    run("ruff", "format", "--no-cache", "--check", "lectures", "solutions")
    assert "2 of 2 sources built" in run("flowlib", "course", "build", "07")
    assert run("flowlib", "course", "bank", "07").split("\n")[2].split() == [
        "07_topic", "07.1", "4", "/", "4", "3", "/", "3", "1", "/", "1", "7", "/", "7",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["7_topic", "topic", "07 topic", "07_Topic", "07_../topic", "07_"])
def test_a_name_of_another_form_is_refused(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["course", "new", name, "--root", str(tmp_path)]) == 2
    assert "name must look like 07_topic" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_title_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["course", "new", "07_topic", " ", "--root", str(tmp_path)]) == 2
    assert "title must not be empty" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    new.create(tmp_path, "07_topic", "A topic")
    (tmp_path / "lectures/07_topic.py").unlink()
    with pytest.raises(ValueError, match=r"solutions/07_topic\.py is there already"):
        new.create(tmp_path, "07_topic", "A topic")
    assert not (tmp_path / "lectures/07_topic.py").exists()
