"""`%load_ext flowlib`: progress after each check, in a shell and in a kernel, and nothing without one."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient

from flowlib.course.extension import questions

EXERCISE = Path(__file__).parents[2] / "exercises" / "02_probability_paths.ipynb"


@pytest.fixture
def shell() -> Any:
    yield (made := InteractiveShell.instance())
    made.run_line_magic("unload_ext", "flowlib")
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


def test_in_a_kernel_the_first_line_is_kept_up_to_date() -> None:
    """A check that passes, and one of the exercise's own, whose question is not answered."""
    book = nbformat.read(EXERCISE, as_version=4)
    checks = [cell for cell in book.cells if cell.get("metadata", {}).get("nbgrader", {}).get("points")]
    assert all(cell.source.endswith(' ✓")') for cell in checks)
    book.cells = [
        nbformat.v4.new_code_cell(text) for text in ("%load_ext flowlib", 'print("02.1 ✓")', checks[1].source)
    ]
    NotebookClient(book, timeout=120, allow_errors=True).execute()
    shown = [
        [out.data["text/plain"] for out in cell.outputs if out.output_type == "display_data"] for cell in book.cells
    ]
    line = f"1 of {len(checks)} ✓, open: {', '.join(questions('02')[1:])}"
    assert shown == [[line], [line], [line]]  # the unanswered question's check failed


def test_without_a_kernel_nothing_breaks() -> None:
    code = "import flowlib, sys; assert flowlib.load_ipython_extension; assert 'IPython' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
