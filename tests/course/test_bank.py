"""The runner of banks: what is planted in a small bank is found, and one answer never touches another."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flowlib.cli import main
from flowlib.course.authoring import bank
from flowlib.course.authoring.source import SourceError

SMALL = Path(__file__).parent / "small"

PLANTED = """
# %% wrong="01.1" hint="not caught"
def mean(x):
    return x.sum() / len(x)


# %% wrong="01.1" hint="of another"
def mean(x):
    return x.sum()


# %% wrong="01.1" hint="is it"
def mean(x):
    return x.sum()


# %% wrong="01.1" hint="is it a sum?"
def mean(x):
    return x.sum()


# %% wrong="01.1" hint="foreign"
def mean(x):
    return x.no_such_method()


# %% wrong="01.1" hint="exit"
def mean(x):
    raise SystemExit


# %% wrong="01.1" hint="endless"
def mean(x):
    while True:
        pass


# %% wrong="01.1" hint="death"
def mean(x):
    import os

    os._exit(0)


# %% wrong="01.1" hint="before the check"
assert False, "before the check"


# %% right="01.1" name="noisy"
import sys

print("noise")
print("noise", file=sys.stderr)
torch.sum = None
left_behind = 1


def mean(x):
    import inspect

    assert "getsource" in inspect.getsource(mean)
    return x.mean()


# %% right="01.1" name="after it"
assert "left_behind" not in globals()


def mean(x):
    return x.mean()


# %% right="01.1" name="fails"
def mean(x):
    return x.sum() / (len(x) - 1)
"""


@pytest.fixture
def small(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a copy of the small exercise with the given bank; the source of its solution."""

    def make(answers: str) -> Path:
        root = Path(shutil.copytree(SMALL, tmp_path / "root"))
        (root / "solutions/01_mean_answers.py").write_text(answers, "utf-8")
        return root / "solutions/01_mean.py"

    return make


def test_each_way_to_go_wrong_has_its_verdict(small: Callable[[str], Path]) -> None:
    path = small(PLANTED)
    verdicts = bank.judge(path, seconds=8)
    faults = {v.answer.label: v.fault for v in verdicts if v.answer.kind in ("wrong", "right")}
    assert faults == {
        "not caught": "passes",
        "of another": "gets another hint: it grows with the number of entries: is it a sum?",
        "is it": "shares its hint with the answer at line 17: it grows with the number of entries: is it a sum?",
        "is it a sum?": "shares its hint with the answer at line 12: it grows with the number of entries: is it a sum?",
        "foreign": "AttributeError: 'Tensor' object has no attribute 'no_such_method' (in the check)",
        "exit": "SystemExit:  (in the check)",
        "endless": "timeout: more than 8 s (in the answer)",
        "death": "death: its process ended (in the answer)",
        "before the check": "AssertionError: before the check (in the answer)",
        "noisy": "",
        "after it": "",
        "fails": "AssertionError: another tensor has another mean (in the check)",
    }
    rows = bank.table("01_mean", verdicts)
    assert rows[0] == {
        "notebook": "01_mean", "question": "01.1", "wrong, caught": "0 / 9", "right, passed": "2 / 3", "alone": "1 / 1",
        "universal, caught": "7 / 7",
    }  # fmt: skip
    assert len(list(bank.explain(path, verdicts))) == 10


def test_a_check_that_needs_another_question_is_found(small: Callable[[str], Path]) -> None:
    path = small('"""None."""\n')
    text = path.read_text("utf-8").replace("assert spread(_x) == 1", "assert spread(_x) == mean(torch.ones(1))")
    path.write_text(text, "utf-8")
    assert [verdict.fault for verdict in bank.judge(path) if verdict.answer.kind == "reference"] == [
        "",
        "NameError: name 'mean' is not defined (in the check)",
    ]


def test_a_check_that_lets_a_universal_wrong_answer_pass_is_found(small: Callable[[str], Path]) -> None:
    path = small('"""None."""\n')
    path.write_text(path.read_text("utf-8").replace("(_mean, _x.sum()) == (2, 10)", "_mean == 2"), "utf-8")
    found = {(v.answer.question, v.answer.label): v.fault for v in bank.judge(path) if v.answer.kind == "universal"}
    assert [answer for answer, fault in found.items() if fault] == [("01.1", "arguments zeroed")]
    assert len(found) == 14


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (
            '# %% wrong="01.7" hint="x"\nx = 1',
            "01_mean_answers.py:1: there is no question '01.7'; there are 01.1, 01.2",
        ),
        ('"""Doc."""\n# %% wrong="01.1"\nx = 1', "01_mean_answers.py:2: an answer is wrong="),
        ('# %% right="01.1" hint="x"\nx = 1', "01_mean_answers.py:1: an answer is wrong="),
        ('# %% wrong="01.1" hnit="x"\nx = 1', "01_mean_answers.py:1: unknown metadata 'hnit'"),
    ],
)
def test_a_bank_of_another_form_is_refused(small: Callable[[str], Path], answers: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        bank.judge(small(answers))
    assert message in str(caught.value)


def test_the_command_prints_a_table_and_fails_on_an_escape(
    small: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = small((SMALL / "solutions/01_mean_answers.py").read_text("utf-8"))
    arguments = ["course", "bank", "--root", str(path.parents[1])]
    assert main(arguments) == 0
    assert capsys.readouterr().out.split("\n")[2].split()[:5] == ["01_mean", "01.1", "2", "/", "2"]
    bank_path = path.with_name("01_mean_answers.py")
    bank_path.write_text(bank_path.read_text("utf-8").replace("x.sum()\n", "x.mean()\n", 1), "utf-8")
    assert main(arguments) == 1
    assert "wrong 01.1 (is it a sum?): passes" in capsys.readouterr().out
    bank_path.write_text('# %% wrong="01.1"\n', "utf-8")
    assert main(arguments) == 2
    assert "01_mean_answers.py:1: " in capsys.readouterr().err
    bank_path.unlink()
    for names in ([], ["01"], ["07"]):
        assert main([*arguments, *names]) == 2
        assert capsys.readouterr().err.startswith("flowlib: there is no ")
