"""What the checker's side describes and the answer's side rebuilds: the library's functions, and objects of its data.

It is the course's own, so the answer's side may trust it; and the answer may do with it what it likes.
"""

import functools
import importlib
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from flowlib.course.grading import data, gradients
from flowlib.course.grading.wire import Broken

_LIBRARY = ("flowlib", "torch", "math", "numpy", "torchdiffeq", "scipy", "builtins", "operator", "itertools")
_PLAIN = ("flowlib.fields", "flowlib.paths", "flowlib.schedule", "flowlib.schedules", "flowlib.diffusion_schedules")
_DEEPEST = 8  # objects in objects


def described(peer: Any, value: Any) -> Any:
    """What the other side can rebuild for itself."""
    if isinstance(value, Path):
        return ["path", str(value)]
    if isinstance(value, types.MethodType):
        owner = peer.pack(value.__self__, 1)
        return ["method", owner, value.__name__] if owner[0] == "value" else None
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        for module in (getattr(value, "__module__", None), "torch", "torch.nn.functional"):
            name = getattr(value, "__qualname__", getattr(value, "__name__", ""))
            if str(module).split(".")[0] in _LIBRARY and data.found(str(module), name) is value:
                return ["library", module, name]
        return None
    kind = type(value)
    if importable(kind) and hasattr(value, "__dict__") and not any("__slots__" in vars(k) for k in kind.__mro__):
        return ["value", kind.__module__, kind.__qualname__, peer.pack(vars(value), 1)]
    return None


def plain(peer: Any, value: Any) -> Any:
    """A field, path or schedule of the library that is made of tensors and numbers; None for anything else.

    The answer's side may send these too, as they are the course's own classes, and what they hold is data.
    """
    if not _is_plain(value):
        return None
    kind = type(value)
    try:
        parts = [[key, data.pack(part, peer.blocks, lambda o: _sent(peer, o), 1)] for key, part in vars(value).items()]
    except data.Foreign:  # a tensor of a special kind
        return None
    return ["plain", kind.__module__, kind.__qualname__, parts]


def _sent(peer: Any, value: Any) -> Any:
    return gradients.pack(peer, value, peer.blocks) if isinstance(value, torch.Tensor) else plain(peer, value)


def _is_plain(value: Any, depth: int = 0) -> bool:
    kind = type(value)
    if value is None or kind in (bool, int, float, str, torch.Tensor, torch.dtype, torch.device) or depth > _DEEPEST:
        return depth <= _DEEPEST
    if kind in (tuple, list):
        return all(_is_plain(part, depth + 1) for part in value)
    own = kind.__module__ in _PLAIN and importable(kind) and not issubclass(kind, torch.nn.Module)
    return own and hasattr(value, "__dict__") and all(_is_plain(part, depth + 1) for part in vars(value).values())


def unpacked(peer: Any, module: str, name: str, parts: Any) -> Any:
    """The object of `plain`.

    Raises:
        Broken: if it is none.
    """
    kind: Any = data.found(module, name) if module in _PLAIN else None
    if not isinstance(kind, type) or not importable(kind) or issubclass(kind, torch.nn.Module):
        raise Broken("an object of no known class")
    made: Any = object.__new__(kind)
    for key, part in parts:
        if not isinstance(key, str) or callable(getattr(kind, key, None)):
            raise Broken("an attribute that is a method")
        vars(made)[key] = data.unpack(part, peer.blocks, lambda other: _received(peer, other), 1)
    return made


def _received(peer: Any, tree: list[Any]) -> Any:
    match tree:
        case ["tensor", *_] if len(tree) == 8:
            return gradients.unpack(peer, tree, peer.blocks)
        case ["plain", str(module), str(name), [*parts]]:
            return unpacked(peer, module, name, parts)
        case ["yours" | "mine" as whose, int(number)]:
            value = peer.links.find(whose, number)
            if isinstance(value, torch.Tensor):
                return value
    raise Broken("an attribute that is no data")


def importable(kind: type) -> bool:
    """Whether a class is one of the library's."""
    return kind.__module__.split(".")[0] == "flowlib" and data.found(kind.__module__, kind.__qualname__) is kind


def rebuilt(peer: Any, tree: list[Any]) -> Any:
    """What was described.

    Raises:
        Broken: if it was not.
    """
    match tree:
        case ["path", name]:
            return Path(name)
        case ["library", module, name]:
            return functools.reduce(getattr, name.split("."), importlib.import_module(module))
        case ["value", module, name, state]:
            kind: Any = functools.reduce(getattr, name.split("."), importlib.import_module(module))
            made: Any = object.__new__(kind)
            vars(made).update(peer.unpack(state, 1))
            return made
        case ["method", owner, name]:
            return getattr(peer.unpack(owner, 1), name)
    raise Broken("a value of no known kind")


def forbidden(active: Iterable[Any]) -> list[list[str]]:
    """What may not be called, by name, for the other side."""
    return [[str(getattr(f, "__module__", "")), getattr(f, "__qualname__", getattr(f, "__name__", ""))] for f in active]


def named(setup: dict[str, Any], module: str, name: str) -> Any:
    """A function or class by name, of a module or of the set-up; one of that name if there is none."""
    place = setup.get(name.split(".")[0]) if module == "__main__" else None
    for part in name.split(".")[1:] if place is not None else ():
        place = getattr(place, part, None)
    known = place if place is not None else data.found(module, name)
    return known if known is not None else types.SimpleNamespace(__name__=name)
