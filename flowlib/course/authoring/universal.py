"""Answers that are wrong for every question, tried by `flowlib course bank` without being listed in a bank.

Each wraps the reference's functions: it calls them, so that shapes and types are known, and returns something else. A
check that lets one pass asks for too little. None is tried where it changes nothing: where no number is returned, no
tensor or generator is taken, or the question asks for a class. `LEGITIMATE` names those that are right, and why.
"""

import ast
from collections.abc import Iterator

LEGITIMATE: dict[tuple[str, str], str] = {
    ("03.2", "another seed"): "a training from another seed is as good, and two calls with one seed agree",
    ("07.4", "arguments zeroed"): "the table is computed anew for each call: nobody sees what becomes of it",
    ("07.8", "arguments zeroed"): "the table is computed anew for each call: nobody sees what becomes of it",
}
"""Universal answers that are right for a question, by question and name, with why."""

_HEAD = """
import functools as _functools, torch as _torch

class _Equal:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = None
    def __bool__(self): return True
    def __lt__(self, other): return True
    __gt__ = __le__ = __ge__ = __lt__
    def __sub__(self, other): return 0.0
    __rsub__ = __truediv__ = __rtruediv__ = __mul__ = __rmul__ = __add__ = __radd__ = __sub__
    def __abs__(self): return 0.0
    def __call__(self, *args, **named): return self

def _like(value, change):
    if value is None or isinstance(value, _torch.nn.Module):
        raise NotImplementedError  # there is no number to be changed
    if isinstance(value, _torch.Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        return type(value)(_like(part, change) for part in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    found = change(_torch.tensor(float(value)))
    return float(found) if found.numel() == 1 else found

def _tensors(args):
    return [value for value in args if isinstance(value, _torch.Tensor)]

def _other(value):
    return _torch.Generator().manual_seed(value.initial_seed() + 1) if isinstance(value, _torch.Generator) else value
"""

_BODIES = {
    "an object that equals everything": "return _Equal()",
    "NaN": "return _like(right(*args, **named), lambda value: value * float('nan'))",
    "empty": "return _like(right(*args, **named), lambda value: value.reshape(-1)[:0])",
    "zeros": "return _like(right(*args, **named), lambda value: value * 0)",
    "arguments zeroed": (
        "if not _tensors(args):\n"
        "            raise NotImplementedError\n"
        "        found = right(*args, **named)\n"
        "        with _torch.no_grad():\n"
        "            [value.zero_() for value in _tensors(args)]\n"
        "        return found"
    ),
    "an argument": "return next(iter(_tensors(args)), args[0] if args else None)",
    "another seed": (
        "if not any(isinstance(value, _torch.Generator) for value in args):\n"
        "            raise NotImplementedError\n"
        "        return right(*map(_other, args), **named)"
    ),
}


def universal(solution: str) -> Iterator[tuple[str, str]]:
    """Names of universal answers, and what stands in the solution's cell for each.

    Args:
        solution: the reference's cell. One that defines no function of its own has none.
    """
    names = [node.name for node in ast.parse(solution).body if isinstance(node, ast.FunctionDef)]
    for label, body in _BODIES.items() if names else ():
        wrapped = f"""
def _wrapped(right):
    @_functools.wraps(right)
    def answer(*args, **named):
        {body}

    return answer
"""
        replaced = "\n".join(f"{name} = _wrapped({name})" for name in names)
        yield label, f"{solution}\n{_HEAD}{wrapped}\n{replaced}\n"
