"""What functions take, as data."""

import functools
import inspect
import types
from collections.abc import Iterable
from typing import Any


def parameters_of(value: Any) -> list[Any]:
    """The names of what a function takes, with how it takes them and whether there is a default."""
    try:
        if type(value) is types.MethodType and type(value.__func__) is types.FunctionType:
            return _of_method(value.__func__, value.__func__.__code__)
        found = inspect.signature(value).parameters.values()
        return [[p.name, int(p.kind), p.default is not p.empty] for p in found]
    except BaseException:
        return []


@functools.lru_cache(256)  # a method is asked for anew at each call
def _of_method(function: Any, _: types.CodeType) -> list[Any]:
    found = inspect.signature(types.MethodType(function, object())).parameters.values()
    return [[p.name, int(p.kind), p.default is not p.empty] for p in found]


def signature(parameters: Iterable[Any]) -> inspect.Signature:
    """The signature of `parameters_of`; one that takes anything if there is none."""
    try:
        return _made_signature(tuple((name, kind, bool(default)) for name, kind, default in parameters))
    except (ValueError, TypeError, KeyError):
        return inspect.Signature()


@functools.lru_cache(256)
def _made_signature(parameters: tuple[Any, ...]) -> inspect.Signature:
    kinds = {int(kind): kind for kind in (vars(inspect.Parameter)[name] for name in _KINDS)}
    made = [
        inspect.Parameter(name, kinds[kind], default=None if default else inspect.Parameter.empty)
        for name, kind, default in parameters
    ]
    return inspect.Signature(made)


_KINDS = ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD", "VAR_POSITIONAL", "KEYWORD_ONLY", "VAR_KEYWORD")
