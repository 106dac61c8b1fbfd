"""What one process may ask the other to do with what that has given it."""

import types
from typing import Any

import torch

from flowlib.course.grading.links import Links

_CLOSED = (torch.Tensor, torch.Generator, list, dict, type, types.FunctionType, types.MethodType)
SPECIAL = ("__call__", "__iter__", "__next__", "__len__", "__getitem__", "__enter__", "__exit__")
# Where the classes of objects come from that the answer's side may look into. Others lead on to what no check has
# passed: a generator to its frame and all names of the check, a path or a file to all files, a module to `open`.
_OPEN = ("__main__", "flowlib", "torch", "types", "functools", "collections", "dataclasses", "enum", "typing", "abc")


def _of_modules(value: Any, name: Any) -> bool:
    return isinstance(value, torch.nn.Module) and hasattr(torch.nn.Module, str(name))


def _open(value: Any) -> bool:
    kinds = (kind for kind in type(value).__mro__ if kind is not object)
    return not isinstance(value, _CLOSED) and all(str(kind.__module__).split(".")[0] in _OPEN for kind in kinds)


class Rights:
    """The questions that a side asks before it serves. `trusting` is true of the answer's side, which serves all."""

    links: Links
    trusting: bool

    def may_call(self, value: Any) -> None:
        """A TypeError unless the other side may have this called."""
        if not callable(value) or not self._known(value):
            raise TypeError(f"a {type(value).__name__} cannot be called")

    def may_read(self, value: Any, name: Any) -> None:
        """An AttributeError unless the other side may read this attribute: a public one of an object.

        Those of tensors, functions and classes, and those that every module has, the answer's side has itself. Objects
        of Python's own classes it can only iterate, index, enter or call.
        """
        inner = not self.trusting and (not _open(value) or _of_modules(value, name))
        if not isinstance(name, str) or name.startswith("_") or inner or not self._known(value):
            raise AttributeError(f"{type(value).__name__!r} object has no attribute {name!r}")

    def may_use(self, value: Any, name: Any) -> None:
        """A TypeError unless the other side may have this special method called."""
        inner = not self.trusting and isinstance(value, _CLOSED)
        if name not in SPECIAL or inner or not self._known(value):
            raise TypeError(f"{type(value).__name__!r} object has no {name!r}")

    def may_write(self, value: Any, name: Any) -> None:
        """An AttributeError unless the other side may set this attribute: the answer's side may not."""
        self.may_read(value, name)
        if not self.trusting:
            raise AttributeError(f"{name!r} of a {type(value).__name__!r} object cannot be set")

    def _known(self, value: Any) -> bool:
        return self.links.mine_of(value) is not None or self.links.theirs_of(value) is not None
