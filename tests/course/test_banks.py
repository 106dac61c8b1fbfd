"""Every bank of the course: each wrong answer is caught with a hint of its own, each right one passes."""

from collections import Counter
from pathlib import Path

import pytest
from parts import REPOSITORY, SOLUTIONS, in_parts

from flowlib.course.authoring import bank
from flowlib.course.authoring.mistakes import lectures, read_mistakes
from flowlib.course.authoring.questions import read_questions
from flowlib.course.authoring.source import read_cells


@pytest.mark.parametrize("path", SOLUTIONS, ids=[path.stem for path in SOLUTIONS])
def test_there_are_enough_questions_and_answers(path: Path) -> None:
    cells = read_cells(path)
    planted = Counter((answer.question, answer.kind) for answer in bank.read_answers(path, cells))
    questions = read_questions(path, cells)
    assert 4 <= len(questions) <= 8
    for question in questions:
        assert planted[question.name, "wrong"] >= 4, question.name
        assert planted[question.name, "right"] >= 3, question.name


@pytest.mark.parametrize("path", lectures(REPOSITORY), ids=lambda path: path.stem)
def test_the_mistakes_of_a_lecture_are_in_its_lines(path: Path) -> None:
    """They are tried by `make mutants`, for which each lecture runs in full."""
    mistakes = read_mistakes(path, read_cells(path))
    assert len({mistake.name for mistake in mistakes}) == len(mistakes) > 0


@in_parts(SOLUTIONS)
def test_wrong_answers_are_caught_and_right_ones_pass(path: Path) -> None:
    assert list(bank.explain(path, bank.judge(path))) == []
