"""nbgrader itself takes our files: it makes the assignment from a solution, and autogrades what is handed in."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest


@pytest.mark.full
def test_nbgrader_gives_the_solution_its_points_and_an_empty_submission_none(tmp_path, monkeypatch):
    pytest.importorskip("nbgrader", reason="nbgrader is not installed: make peers")
    from nbgrader.api import Gradebook
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    from flowlib.course.authoring.cells import exercise_notebook, solution_notebook, write_notebook
    from flowlib.course.authoring.source import read_cells

    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # nbgrader calls alembic
    monkeypatch.chdir(tmp_path)
    source = Path(__file__).parent / "small" / "solutions" / "01_mean.py"
    cells = read_cells(source)
    (tmp_path / "source" / "week1").mkdir(parents=True)
    (tmp_path / "source" / "week1" / "01_mean.ipynb").write_bytes(write_notebook(solution_notebook(source, cells)))
    settings = Config()
    settings.CourseDirectory.root = str(tmp_path)
    settings.CourseDirectory.course_id = "flow"
    api = NbGraderAPI(config=settings)
    made = api.generate_assignment("week1")
    assert made["success"], made["error"] or made["log"]
    released = json.loads((tmp_path / "release" / "week1" / "01_mean.ipynb").read_text())
    ours = json.loads(write_notebook(exercise_notebook(source, cells)))
    assert [_text(cell) for cell in released["cells"]] == [_text(cell) for cell in ours["cells"]]
    for student, notebook in (("ada", "source"), ("bob", "release")):
        folder = tmp_path / "submitted" / student / "week1"
        folder.mkdir(parents=True)
        shutil.copy(tmp_path / notebook / "week1" / "01_mean.ipynb", folder)
        graded = api.autograde("week1", student)
        assert graded["success"], graded["error"] or graded["log"]
    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as book:
        assert book.find_assignment("week1").max_score == 10
        scores = {name: book.find_submission("week1", name).score for name in ("ada", "bob")}
    assert scores == {"ada": 10, "bob": 0}


def _text(cell):
    source = cell["source"]
    return (source if isinstance(source, str) else "".join(source)).strip()
