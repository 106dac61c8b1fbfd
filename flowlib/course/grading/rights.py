"""What one process may ask the other to do with what that has given it."""

import types
from typing import Any

import torch

from flowlib.course.grading.links import Links

_CLOSED = (torch.Tensor, torch.Generator, list, dict, type, types.FunctionType, types.MethodType)


def _of_modules(value: Any, name: Any) -> bool:
    return isinstance(value, torch.nn.Module) and hasattr(torch.nn.Module, str(name))


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

        Those of tensors, functions and classes, and those that every module has, the answer's side has itself.
        """
        inner = not self.trusting and (isinstance(value, _CLOSED) or _of_modules(value, name))
        if not isinstance(name, str) or name.startswith("_") or inner or not self._known(value):
            raise AttributeError(f"{type(value).__name__!r} object has no attribute {name!r}")

    def may_write(self, value: Any, name: Any) -> None:
        """An AttributeError unless the other side may set this attribute: the answer's side may not."""
        self.may_read(value, name)
        if not self.trusting:
            raise AttributeError(f"{name!r} of a {type(value).__name__!r} object cannot be set")

    def _known(self, value: Any) -> bool:
        return self.links.mine_of(value) is not None or self.links.theirs_of(value) is not None
