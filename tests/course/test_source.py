"""A source that breaks a rule is refused, with the file, the line and what to do."""

import re
from pathlib import Path

import pytest

from flowlib.course.authoring.cells import exercise_notebook, solution_notebook
from flowlib.course.authoring.questions import read_questions
from flowlib.course.authoring.source import SourceError, read_cells

SMALL = Path(__file__).parent / "small"
SOURCE = SMALL / "solutions" / "01_mean.py"


def errors(tmp_path: Path, old: str, new: str) -> str:
    """The message for the small exercise with `old` replaced once by `new`, without the folder."""
    text = SOURCE.read_text("utf-8")
    assert old in text
    path = tmp_path / SOURCE.name
    path.write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(SourceError) as caught:
        exercise_notebook(path, read_cells(path))
    return str(caught.value).removeprefix(f"{tmp_path}/")


def line_of(text: str) -> int:
    return SOURCE.read_text("utf-8").split("\n").index(text) + 1


def test_cells_know_their_kind_text_line_and_metadata() -> None:
    cells = read_cells(SOURCE)
    lines = SOURCE.read_text("utf-8").split("\n")
    assert all(lines[cell.line - 1].startswith("# %%") for cell in cells)
    check = next(cell for cell in cells if cell.mark == "check")
    assert (check.kind, check.question, check.metadata["points"]) == ("code", "01.1", 4)
    assert check.source.startswith("_x = torch.arange(5.0)\n")
    assert [cell.tags for cell in cells if cell.tags] == [["demo"]]


def test_questions_have_titles_points_and_hints() -> None:
    first, second = read_questions(SOURCE, read_cells(SOURCE))
    assert (first.name, first.title, first.points, second.points) == ("01.1", "Mean", 4, 6)
    assert first.hints == ["What is the sum?", "And how many\nentries are there?", "Divide one by the other."]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('solution="01.1"', 'solutoin="01.1"', "unknown metadata 'solutoin'; known: solution, check"),
        ("# %%\nimport", "# %% A title\nimport", "unknown metadata 'title'"),
        ("# %%\nimport torch", "import torch", "a cell of text has a line that is no comment: 'import torch'"),
        ('tags=["demo"]', 'tags=["dmeo"]', "unknown tag 'dmeo'; known: demo"),
        ('check="01.1" points=4', 'check="01.1" points=3', "says 4 points, its check 3"),
        ('check="01.1" points=4', 'check="01.1" points="4"', "needs whole points"),
        ('check="01.1" points=4', 'check="01.1"', "needs whole points, points=2, got None"),
        ('hints="01.2"', 'hints="01.2" points=2', "points belong to a check"),
        ('tags=["demo"]', 'solution="01.1" check="01.1"', "a cell is one thing only"),
        ('%% solution="01.1"', "%%", "BEGIN SOLUTION belongs in a solution cell"),
        ('solution="01.2"\ndef', 'solution="01.1"\ndef', "solution 01.1 is there twice: first at line "),
        ('hints="01.2"', 'hints="01.3"', "there is no heading for 01.3"),
        ("## 01.2 ", "## 01.3 ", "question 01.3 must be 01.2"),
        ("## 01.2 Spread (6 points, 5 minutes, easy)", "## 01.2 Spread", "no heading for 01.2"),
        ('# %% [markdown] hints="01.1"', "# %% [markdown]", "question 01.1 has no hints cell"),
        ("# 2. And", "# 3. And", "must be a list of 3 levels"),
        ("# 3. Three.", "#", "must be a list of 3 levels"),
        ("    ### END SOLUTION", "", "BEGIN SOLUTION without an END SOLUTION"),
        ("    ### BEGIN SOLUTION", "", "END SOLUTION without a BEGIN SOLUTION"),
        ("    return x.sum()", "    ### BEGIN SOLUTION\n    return x.sum()", "BEGIN SOLUTION inside the region"),
        ("### END HIDDEN TESTS\n", "", "BEGIN HIDDEN TESTS without an END"),
        ("    ### BEGIN SOLUTION\n    return x.sum() / len(x)\n    ### END SOLUTION\n", "", "has no region"),
        ("assert _mean != 10", "assert _mean !", "this is not Python"),
        ("### BEGIN HIDDEN TESTS", "if True:\n    ### BEGIN HIDDEN TESTS", "this is not Python"),
    ],
)
def test_a_broken_rule_is_named_with_file_and_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    said = errors(tmp_path, old, new)
    assert re.match(r"01_mean\.py:\d+: ", said)
    assert message in said


def test_a_check_needs_a_solution_before_it(tmp_path: Path) -> None:
    solution = 'def mean(x):\n    """The mean of a tensor of shape (n,)."""\n    ### BEGIN SOLUTION\n'
    said = errors(
        tmp_path, f'# %% solution="01.1"\n{solution}', f"# %%\n{solution}".replace("### BEGIN SOLUTION", "pass")
    )
    assert "END SOLUTION belongs in a solution cell" in said
    region = f'# %% solution="01.1"\n{solution}    return x.sum() / len(x)\n    ### END SOLUTION\n'
    said = errors(tmp_path, region, "# %%\nmean = torch.mean\n")
    assert "check 01.1 has no solution before it" in said


def test_points_sum_to_ten(tmp_path: Path) -> None:
    path = tmp_path / SOURCE.name
    path.write_text(SOURCE.read_text("utf-8").replace("4 points", "3 points").replace("points=4", "points=3"), "utf-8")
    with pytest.raises(SourceError, match=r"01_mean\.py:1: the points of all questions must sum to 10, but sum to 9"):
        solution_notebook(path, read_cells(path))


def test_the_line_is_the_one_that_is_wrong(tmp_path: Path) -> None:
    line = line_of("### END HIDDEN TESTS")
    assert errors(tmp_path, "### END HIDDEN TESTS", "### END SOLUTION").startswith(f"01_mean.py:{line}: ")
    line = line_of('# %% tags=["demo"]')
    assert errors(tmp_path, 'tags=["demo"]', 'tag="demo"').startswith(f"01_mean.py:{line}: ")
    line = line_of("_mean = torch.as_tensor(mean(_x))")
    assert errors(tmp_path, "as_tensor(mean(_x))", "as_tensor(mean(_x)").startswith(f"01_mean.py:{line}: ")


def test_a_comment_that_begins_like_a_shell_command_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "02_x.py"
    path.write_text("# %%\n# cat the tensors\nx = 1\n")
    assert read_cells(path)[0].source == "# cat the tensors\nx = 1"


def test_a_marker_inside_a_string_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "02_x.py"
    path.write_text('# %%\nx = """\n# %%\n"""\n')
    with pytest.raises(SourceError):
        read_cells(path)


ALTS = "# %%\n# alt: A line,\n#   and a\n#   point.\n# alt: Two.\n# Now\nx = 1\n"


def test_alternative_texts_are_taken_from_the_top_of_a_cell(tmp_path: Path) -> None:
    path = tmp_path / "02_x.py"
    path.write_text(ALTS)
    (cell,) = read_cells(path)
    assert cell.alts == ("A line, and a point.", "Two.")
    assert cell.source == "# Now\nx = 1"


@pytest.mark.parametrize(
    ("old", "new"), [("x = 1", "x = 1\n# alt: Three."), ("Two.", ""), ("A line,\n#   and a\n#   point.", "")]
)
def test_alternative_texts_elsewhere_or_empty_are_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "02_x.py"
    path.write_text(ALTS.replace(old, new))
    with pytest.raises(
        SourceError, match=r"02_x\.py:1: an alternative text is '# alt: what is to be seen', at the top"
    ):
        read_cells(path)
