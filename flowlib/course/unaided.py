"""A question asks for what the library has already: a check that sees whether the answer called it."""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

import torch
from torch.autograd import forward_ad

# What each of torch's ways to differentiate comes down to; `torch.func` and `torch.autograd.functional` call these.
_DERIVATIVES = (torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward, forward_ad.make_dual)

_ACTIVE: list[tuple[Callable[..., Any] | type, ...]] = []


def active() -> tuple[Callable[..., Any] | type, ...]:
    """What may not be called now: the grader tells it to the process in which an answer runs."""
    return tuple(solution for solutions in _ACTIVE for solution in solutions)


@contextmanager
def unaided(*solutions: Callable[..., Any] | type) -> Iterator[None]:
    """While it lasts, none of these may be called, by whatever name, way or detour.

    Args:
        solutions: functions, methods, or classes, which stand for all of their own methods that have no underscore. A
            function that is built in (`torch.softmax`) stands for all of its name (`x.softmax`, `F.softmax`), and
            `torch.autograd.grad` or `backward` for all of torch's derivatives (`torch.func.jacfwd`).

    Raises:
        AssertionError: at its end, if one was called, even if the answer caught what came of it.

    Example:
        >>> import torch
        >>> from flowlib.course.notebook import unaided
        >>> with unaided(torch.softmax):
        ...     shares = torch.tensor([1.0, 3.0]).exp()
        >>> with unaided(torch.softmax):
        ...     shares = torch.zeros(2).softmax(0)
        Traceback (most recent call last):
        AssertionError: the answer calls softmax: that is what this question asks you to write yourself
    """
    codes: dict[CodeType, str] = {}
    builtins: set[str] = set()
    for item in solutions:
        for function in _functions(item):
            inner: Any = inspect.unwrap(function)
            if hasattr(inner, "__code__"):
                codes[inner.__code__] = inner.__qualname__
            else:
                builtins.add(inner.__name__)
    called: dict[str, None] = {}

    def look(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code in codes:
            called[codes[frame.f_code]] = None
        elif event == "c_call" and getattr(argument, "__name__", "") in builtins:
            called[argument.__name__] = None

    before = sys.getprofile()
    _ACTIVE.append(solutions)
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(before)
        _ACTIVE.pop()
        if called:
            raise AssertionError(
                f"the answer calls {', '.join(called)}: that is what this question asks you to write yourself"
            )


def _functions(item: Any) -> Iterator[Callable[..., Any]]:
    if any(item is one for one in _DERIVATIVES):
        yield from _DERIVATIVES
        return
    if not isinstance(item, type):
        yield getattr(item, "__func__", item)
        return
    for name, value in vars(item).items():
        function = getattr(value, "fget", None) or getattr(value, "__func__", None) or value
        if callable(function) and not isinstance(function, type) and name[0] != "_":
            yield function
