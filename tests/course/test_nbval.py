"""Plain nbval, without anything of the grader, runs what the builder makes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flowlib.course.authoring.layout import outputs

pytest.importorskip("nbval", reason="nbval is not installed: it comes with the extra 'course'")

SMALL = Path(__file__).parent / "small" / "solutions" / "01_mean.py"
REPOSITORY = Path(__file__).parents[2]


def nbval(notebook: Path, folder: Path) -> list[str]:
    """What became of each cell."""
    options = ["--nbval-lax", "-p", "no:cacheprovider", "-o", "addopts=", "-v"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(notebook)], cwd=folder, capture_output=True, text=True
    )
    return re.findall(r"::Cell \d+ ([A-Z]+)", result.stdout)


@pytest.mark.parametrize(("kind", "failed"), [("solutions", []), ("exercises", [2, 3, 5])])
def test_a_small_notebook_is_run_from_end_to_end(tmp_path: Path, kind: str, failed: list[int]) -> None:
    """An exercise that nobody has filled in fails where an answer is asked for: at two checks and a demonstration."""
    notebook = tmp_path / "01_mean.ipynb"
    notebook.write_bytes(next(made for file, made in outputs(SMALL).items() if file.parent.name == kind))
    assert nbval(notebook, tmp_path) == ["FAILED" if cell in failed else "PASSED" for cell in range(6)]


@pytest.mark.full
def test_a_solution_of_the_course_passes_in_its_place() -> None:
    assert set(nbval(Path("solutions/01_flows_and_diffusions.ipynb"), REPOSITORY)) == {"PASSED"}
