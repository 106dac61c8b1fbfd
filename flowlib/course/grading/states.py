"""Has a tensor, a generator, a list or a dictionary been changed in place?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from flowlib.course.grading import data


@dataclass
class Link:
    """Something that both sides have, and how it was when they last agreed."""

    value: Any
    state: Any = None
    content: Any = None
    gradient: Any = None


def noted(link: Link) -> Link:
    """Note how it is now."""
    link.state, link.content = state(link.value), content(link.value)
    return link


CHANGEABLE = (torch.Tensor, torch.Generator, list, dict)


def version(value: Any) -> Any:
    """What tells that a tensor that nobody has watched is as it was; of all else nothing does."""
    return (
        (value._version, value.data_ptr()) if isinstance(value, torch.Tensor) and not value.is_inference() else object()
    )


def state(value: Any) -> Any:
    """What tells, at little cost, that something has been changed in place."""
    if isinstance(value, torch.Tensor):
        version = 0 if value.is_inference() else value._version
        return (version, value.data_ptr(), value.dtype, value.shape, value.is_leaf and value.requires_grad)
    if isinstance(value, torch.Generator):
        return content(value)
    return [id(inner) for inner in (value if isinstance(value, list) else (*value, *value.values()))]


def content(value: Any) -> Any:
    """All that it holds, of a tensor or a generator."""
    if isinstance(value, torch.Tensor):
        return data.raw(value)
    return bytes(value.get_state().numpy()) if isinstance(value, torch.Generator) else None


def gradient(value: torch.Tensor) -> Any:
    """What tells that a tensor has another gradient."""
    return None if value.grad is None else (id(value.grad), value.grad._version)


def told(value: Any, pack: Callable[[Any], Any]) -> Any:
    """How something is now, as it is sent."""
    if isinstance(value, torch.Tensor):
        return pack((*data.raw(value), value.requires_grad if value.is_leaf else None))
    return pack(content(value)) if isinstance(value, torch.Generator) else data.contents(value, pack)
