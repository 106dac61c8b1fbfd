"""Progress after each check, by `%load_ext flowlib` or an exercise's set-up, and nothing where no notebook runs."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient

from flowlib.course.extension import questions, unload_ipython_extension

EXERCISES = sorted((Path(__file__).parents[2] / "exercises").glob("[0-9][0-9]_*.ipynb"))
EXERCISE = EXERCISES[1]


@pytest.fixture
def shell() -> Any:
    yield (made := InteractiveShell.instance())
    made.run_line_magic("unload_ext", "flowlib")
    unload_ipython_extension(made)  # an exercise's set-up does not ask IPython
    InteractiveShell.clear_instance()


def run(shell: InteractiveShell, cell: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    shell.run_cell(cell, store_history=False)
    return capsys.readouterr().out.splitlines()


def test_the_line_counts_checks_that_passed(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(shell, "%load_ext flowlib", capsys) == ["No check was run yet."]
    asked = questions("02")
    assert run(shell, 'print("02.1 ✓")', capsys)[1] == f"1 of {len(asked)} ✓, open: {', '.join(asked[1:])}"
    assert run(shell, 'print("02.2 ✓")\n', capsys)[1].startswith(f"2 of {len(asked)} ✓")
    assert run(shell, 'assert False\nprint("02.1 ✓")', capsys)[-1].startswith(f"1 of {len(asked)} ✓, open: 02.1, 02.3")
    for name in asked:
        lines = run(shell, f'print("{name} ✓")', capsys)
    assert lines[1] == f"{len(asked)} of {len(asked)} ✓"


@pytest.mark.parametrize(
    "cell", ["x = 1", 'print("02.99 ✓")', 'print("77.1 ✓")', 'print("02.1 ✓")\nx = 1', "1 / 0", ""]
)
def test_other_cells_say_nothing(shell: Any, capsys: pytest.CaptureFixture[str], cell: str) -> None:
    run(shell, "%load_ext flowlib", capsys)
    assert not [line for line in run(shell, cell, capsys) if " of " in line]


def test_after_unloading_there_is_silence(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "%load_ext flowlib", capsys)
    run(shell, "%unload_ext flowlib", capsys)
    assert run(shell, 'print("02.1 ✓")', capsys) == ["02.1 ✓"]
    assert run(shell, "%load_ext flowlib", capsys) == ["No check was run yet."]


def set_up(exercise: Path) -> list[str]:
    """The lines of an exercise's locked cells that ask for the exercise: all that says who it is."""
    cells = nbformat.read(exercise, as_version=4).cells
    own = [cell for cell in cells if cell.metadata.get("nbgrader", {}).get("grade_id", "").startswith("setup")]
    return [line for cell in own for line in cell.source.splitlines() if "exercise(" in line]


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda path: path.stem[:2])
def test_the_set_up_of_every_exercise_counts_its_checks(
    shell: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, exercise: Path
) -> None:
    monkeypatch.setattr(shell, "kernel", object(), raising=False)  # as in a notebook
    number, (line,) = exercise.stem[:2], set_up(exercise)
    code, asked = f"from flowlib.course.notebook import exercise\n{line}", questions(number)
    assert run(shell, code, capsys) == [f"0 of {len(asked)} ✓, open: {', '.join(asked)}"]
    now = f"1 of {len(asked)} ✓, open: {', '.join(asked[1:])}"
    twice = [f"{asked[0]} ✓", now, now]  # below the check, and in the first line, which has no place of its own here
    assert run(shell, f'print("{asked[0]} ✓")', capsys) == twice
    assert run(shell, code, capsys) == [now]  # run again, it forgets nothing
    assert run(shell, f'print("{asked[0]} ✓")', capsys) == twice  # and no more often


def test_the_set_up_leaves_a_shell_without_a_notebook_alone(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """As the grader's, in which answers run."""
    before = list(shell.events.callbacks["post_run_cell"])
    code = f"from flowlib.course.notebook import exercise\n{set_up(EXERCISE)[0]}"
    assert run(shell, code, capsys) == []
    assert shell.events.callbacks["post_run_cell"] == before
    assert run(shell, 'print("02.1 ✓")', capsys) == ["02.1 ✓"]


@pytest.mark.parametrize("by", ["magic", "set-up"])
def test_in_a_kernel_the_first_line_is_kept_up_to_date(by: str) -> None:
    """An exercise's set-up, a check that passes, and one of the exercise's own, whose question is not answered."""
    book = nbformat.read(EXERCISE, as_version=4)
    checks = [cell for cell in book.cells if cell.get("metadata", {}).get("nbgrader", {}).get("points")]
    assert all(cell.source.endswith(' ✓")') for cell in checks)
    own = next(cell.source for cell in book.cells if cell.cell_type == "code")
    begin = "%load_ext flowlib" if by == "magic" else own
    book.cells = [nbformat.v4.new_code_cell(text) for text in (begin, 'print("02.1 ✓")', checks[1].source)]
    NotebookClient(book, timeout=120, allow_errors=True).execute()
    shown = [
        [out.data["text/plain"] for out in cell.outputs if out.output_type == "display_data"] for cell in book.cells
    ]
    line = f"1 of {len(checks)} ✓, open: {', '.join(questions('02')[1:])}"
    assert shown == [[line], [line], [line]]  # the unanswered question's check failed


def test_without_a_kernel_nothing_breaks() -> None:
    code = "import flowlib, sys; assert flowlib.load_ipython_extension; assert 'IPython' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
