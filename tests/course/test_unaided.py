"""An answer that calls what it should write is seen, by whatever name or detour; other calls are let pass."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from flowlib import GaussianPath, Linear, Model
from flowlib.course.authoring.source import read_cells
from flowlib.course.notebook import unaided
from flowlib.nets import MLP

ROOT = Path(__file__).parents[2]
SOLUTIONS = sorted(path for path in (ROOT / "solutions").glob("*.py") if not path.stem.endswith("_answers"))
X, T = torch.zeros(2, 3), torch.tensor([0.2, 0.6])


class Quiet(GaussianPath):
    pass


def swallowed() -> None:
    try:
        GaussianPath(Linear()).sample(X, T)
        raise ValueError
    except ValueError:
        pass


@pytest.mark.parametrize(
    ("solution", "answer", "named"),
    [
        (GaussianPath, lambda: GaussianPath(Linear()).sample(X, T), "GaussianPath.sample"),
        (GaussianPath.sample, lambda: Quiet(Linear()).sample(X, T), "GaussianPath.sample"),
        (GaussianPath.sample, swallowed, "GaussianPath.sample"),
        (GaussianPath.convert, lambda: Model(MLP(3), GaussianPath(Linear())).s(X, T), "GaussianPath.convert"),
        (torch.softmax, lambda: X.softmax(0), "softmax"),
        (torch.softmax, lambda: functional.softmax(X, 0), "softmax"),
        (functional.softmax, lambda: torch.nn.Softmax(0)(X), "softmax"),
        (torch.nn.Linear, lambda: torch.nn.Linear(3, 3)(X), "Linear.forward"),
        (torch.autograd.grad, lambda: torch.func.grad(torch.sum)(T), "grad"),
        (torch.autograd.grad, lambda: T.clone().requires_grad_().sum().backward(), "backward"),
        (torch.autograd.grad, lambda: torch.autograd.backward(T.clone().requires_grad_().sum()), "backward"),
        (torch.Tensor.backward, lambda: torch.autograd.backward(T.clone().requires_grad_().sum()), "backward"),
        (torch.autograd.backward, lambda: torch.func.jacfwd(torch.sin)(T), "make_dual"),
        (torch.autograd.backward, lambda: torch.autograd.functional.jacobian(torch.sin, T), "grad"),
    ],
)
def test_what_is_the_answer_may_not_be_called(solution: object, answer: Callable[[], None], named: str) -> None:
    with pytest.raises(AssertionError, match=named), unaided(solution):  # type: ignore[arg-type]
        answer()


def test_all_else_may_be_called_and_an_answers_own_error_comes_out() -> None:
    with unaided(GaussianPath.convert, torch.softmax):
        assert GaussianPath(Linear()).sample(X, T).shape == X.shape
    with pytest.raises(ZeroDivisionError), unaided(torch.softmax):
        1 / 0  # noqa: B018
    assert sys.getprofile() is None


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_a_question_says_what_its_answer_may_not_call(path: Path) -> None:
    """Each name that a check gives to `unaided` stands in the question's text, in backquotes."""
    text = ""
    for cell in read_cells(path):
        text = cell.source if cell.kind == "markdown" and re.search(r"^## ", cell.source) else text
        for names in re.findall(r"unaided\(([^)]*)\)", cell.source):
            for name in names.split(","):
                last = name.strip().split(".")[-1]
                assert re.search(rf"`[^`\n]*\b{last}\b[^`\n]*`", text), f"{cell.question} does not name {name.strip()}"


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_an_exercise_explains_the_word_before_its_first_question(path: Path) -> None:
    first, *others = [cell.source for cell in read_cells(path) if cell.kind == "markdown"]
    if any("**Without:**" in text for text in others):
        assert "**Without** in a question names functions that solve it already" in " ".join(first.split())
