"""The runner of lectures' mistakes: what is planted in a small lecture is noticed, or named where it is not."""

from pathlib import Path

import pytest

from flowlib.cli import main
from flowlib.course.authoring.mistakes import judge_lecture, lectures
from flowlib.course.authoring.source import SourceError

LECTURE = """
# %% [markdown]
# # 01. Sums
# %%
import os
from pathlib import Path

import torch

from flowlib.course.notebook import fast, trained

assert not fast
x = torch.arange(4.0)
total = x.sum()
# %%
half = total / 2
# %%
assert half == 3
Path("left").touch()
# %%
run = trained("moons", steps=2)
assert run.step == 2
# %%
assert total == 6
print("not for the reader")
"""

MISTAKES = """
# %% mistake="a sum of three"
'''
- total = x.sum()
+ total = x[1:].sum() + 1
'''
# %% mistake="no change"
'''
- half = total / 2
+ half = total / 2 + 0
'''
# %% mistake="in the lines of an assert"
'''
- assert half == 3
- Path("left").touch()
+ half = 4
+ assert half == 3
'''
# %% mistake="a crash"
'''
- half = total / 2
+ half = total / undefined
'''
# %% mistake="an end"
'''
- half = total / 2
+ os._exit(0)
'''
# %% mistake="another training"
'''
- run = trained("moons", steps=2)
+ run = trained("moons", steps=3)
'''
# %% mistake="too late"
'''
- total = x.sum()
+ total = x.sum(); later = 1
'''
"""


@pytest.fixture
def lecture(tmp_path: Path) -> Path:
    path = tmp_path / "lectures" / "01_sums.py"
    path.parent.mkdir()
    path.write_text(LECTURE)
    path.with_name("01_sums_mistakes.py").write_text('"""Mistakes."""\n' + MISTAKES)
    return path


def test_a_mistake_is_noticed_by_an_assert_or_named(lecture: Path) -> None:
    ends = {mistake.name: fault for mistake, fault in judge_lecture(lecture).items()}
    assert ends == {
        "a sum of three": "",
        "no change": "passes",
        "in the lines of an assert": "",
        "a crash": "ends with NameError: name 'undefined' is not defined (<module>), not with an assert",
        "an end": "takes more than 600 s, or ends its process",
        "another training": "",
        "too late": "passes",
    }
    assert not lecture.with_name("left").exists()  # it runs in a copy
    assert lectures(lecture.parents[1]) == [lecture]


def test_the_command_prints_a_row_and_fails_where_a_mistake_passes(
    lecture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["course", "bank", "lectures/01", "--root", str(lecture.parents[1])]
    assert main(arguments) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["01_sums", "lecture", "3", "/", "7"]
    assert "01_sums_mistakes.py:8: no change: passes" in lines
    file = lecture.with_name("01_sums_mistakes.py")
    file.write_text(MISTAKES[: MISTAKES.index('# %% mistake="no change')])
    assert main(arguments) == 0


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("- nowhere\n+ here", "its lines are 0 times in the lecture: 'nowhere'"),
        ("- x\n+ y", "times in the lecture: 'x'"),
        ("+ y", "a mistake is a string of lines"),
        ("half = total / 2", "a mistake is a string of lines"),
    ],
)
def test_an_entry_of_another_form_is_refused(lecture: Path, entry: str, message: str) -> None:
    lecture.with_name("01_sums_mistakes.py").write_text(f"# %% mistake=\"m\"\n'''\n{entry}\n'''\n")
    with pytest.raises(SourceError) as caught:
        judge_lecture(lecture)
    assert message in str(caught.value)
    assert "01_sums_mistakes.py:1: " in str(caught.value)


def test_a_lecture_that_fails_itself_is_named(lecture: Path) -> None:
    lecture.write_text(LECTURE.replace("assert half == 3", "assert half == 4"))
    lecture.with_name("01_sums_mistakes.py").write_text('"""None."""')
    with pytest.raises(SourceError, match="does not run to its end: AssertionError"):
        judge_lecture(lecture)
