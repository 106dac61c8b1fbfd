"""Honest accidents in a notebook cost no marks: cells that were split, copied, moved, or have lost their metadata."""

import copy
from pathlib import Path

import pytest
from hostile import RIGHT, Handed, make_reference

from flowlib.course.grading.answers import answers
from flowlib.course.grading.grade import Task, grade_one
from flowlib.course.grading.reference import Reference, load_reference
from flowlib.course.grading.sandbox import Limits
from flowlib.course.grading.submission import exercise_of, read_submission

NAME = "09_scaling"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    make_reference(tmp_path)
    return tmp_path


@pytest.fixture
def reference(place: Path) -> Reference:
    return load_reference(NAME, place / "reference")


def after(handed: Handed, k: int, cell: dict) -> dict:
    """Put a cell right after the solution cell of a question."""
    handed.cells.insert(handed.cells.index(handed.cell(f"solution-09-{k}")) + 1, cell)
    return cell


def own(source: str) -> dict:
    return {"cell_type": "code", "id": f"own{abs(hash(source))}", "metadata": {}, "source": source, "outputs": []}


def test_ten_accidents_score_ten_points(place: Path, reference: Reference) -> None:
    handed = Handed(place / f"{NAME}.ipynb")
    stub = "".join(Handed(place / f"{NAME}.ipynb", right=False).cell("solution-09-2")["source"])
    cell = handed.cell("solution-09-1")  # split in two
    after(handed, 1, copy.deepcopy(cell))["source"] = "def times_1(x):\n    return same(x)"
    cell["source"] = "def same(x):\n    return x"
    after(handed, 2, copy.deepcopy(handed.cell("solution-09-2")))  # copied, and the copy filled in
    handed.answer(2, stub)
    handed.answer(3, stub.replace("times_2", "times_3"))  # the answer stands below the stub
    after(handed, 3, own(RIGHT.format(k=3)))
    handed.before(4, "from functools import cache\n\n@cache\ndef four():\n    return 4")  # a helper with a decorator
    handed.answer(4, "def times_4(x):\n    return x * four()")
    setup = next(c for c in handed.cells if str(c["id"]).startswith("setup"))  # an import beside the others
    setup["source"] = "import math as mathematics\n" + "".join(setup["source"])
    handed.answer(5, "def times_5(x):\n    return x * mathematics.sqrt(25)")
    handed.answer(
        6, "!ls -l\n%pip install nothing\ndef times_6(x):\n    %time y = 6\n    return x * 6\n%matplotlib inline"
    )
    handed.cell("solution-09-7")["cell_type"] = "markdown"
    handed.cell("solution-09-8")["metadata"] = {}  # the id remains
    cell = handed.cell("solution-09-9")
    cell["metadata"], cell["id"] = {}, "0badcafe"
    after(handed, 10, own("def times_10(x):\n    return x * ten\nten = 10"))  # defined again, and the helper behind
    handed.notebook["nbformat"] = 4.0
    submission = read_submission("ada", handed.save(place / "ada_09_scaling.ipynb"))
    graded = grade_one(Task(submission, reference, ""), Limits(seconds=30, memory=2**32))
    assert {v.question: (v.verdict, v.hint) for v in graded.verdicts if v.verdict != "right"} == {}
    assert graded.points == 10


def test_all_ids_remain_where_all_metadata_are_lost(place: Path, reference: Reference) -> None:
    handed = Handed(place / f"{NAME}.ipynb")
    for cell in handed.cells:
        cell["metadata"] = {}
    del handed.notebook["metadata"]["flowlib"]
    submission = read_submission("ada", handed.save(place / "anything.ipynb"))
    known = {NAME: frozenset(name for question in reference.questions for name in question.answers)}
    assert exercise_of(submission, known) == (NAME, "")
    found = answers(submission, reference)
    assert all(found[f"09.{k}"].cells == (RIGHT.format(k=k),) for k in range(1, 11))


def test_what_is_no_accident_is_taken_as_it_is(place: Path, reference: Reference) -> None:
    """A percent sign in a text is no command, what cannot be read as Python stays, a check is no answer."""
    handed = Handed(place / f"{NAME}.ipynb")
    text = 'def times_1(x):\n    """\n    %d\n    !\n    """\n    return x'
    handed.answer(1, text).answer(2, "!ls\ndef (")
    handed.cell("check-09-3")["source"] = RIGHT.format(k=3) + "\n_x = 3"
    handed.cells.remove(handed.cell("solution-09-3"))
    found = answers(read_submission("ada", handed.save(place / "ada.ipynb")), reference)
    assert found["09.1"].cells == (text,)
    assert found["09.2"].cells == ("!ls\ndef (",)
    assert found["09.3"].cells is None
