"""What is known of a tensor already, so that it is read once a call of a sampler or loss and not in every step.

Python has a tensor's values only when they are there: on a GPU, whoever reads one waits for all the work in the queue.
The checks of each evaluation of a field would read the same again and again, because in all steps the guide is the same
tensor, and the times are those of one grid. So within `remembering()` a sampler says which tensors these are, and a
question about one of them is answered once: of a guide by its first reading, of a time by reading the whole grid at
once, on the CPU.

Nothing else is taken on trust. A tensor is known by being that very one, which nobody writes into meanwhile; a copy of
it, or what a caller's own function makes of it, is read as ever, and so is everything outside a sampler or loss, in
another thread or in `torch.compile`.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor

Answer = TypeVar("Answer")


class Grid:
    """The times of a request (N,), in its samples' dtype: as numbers, on the CPU, beside the samples, each alone."""

    def __init__(self, times: Tensor, like: Tensor) -> None:
        self.host = times.to(like.dtype)
        self.values: list[float] = self.host.tolist()
        self.times = self.host.to(like.device)
        self.points = self.times.unbind()
        self.answers: dict[Hashable, Any] = {}  # about all times: a list with one for each
        self.wide: dict[tuple[int, int], Tensor] = {}  # (which time, B) -> that time for B samples, (B,)


class _Guide:
    """A tensor, what was found out about it, and what was made of it."""

    def __init__(self, tensor: Tensor, facts: dict[Hashable, Any]) -> None:
        self.tensor, self.facts = tensor, facts
        self.made: dict[Hashable, Any] = {}


class _Memory:
    """Of known tensors, by their id; all are kept alive here, so that no other tensor can have it."""

    def __init__(self, outer: "_Memory | None") -> None:
        self.guides: dict[int, _Guide] = {} if outer is None else dict(outer.guides)
        self.times: dict[int, tuple[Grid, int]] = {} if outer is None else dict(outer.times)
        self.points: dict[float, Tensor] = {} if outer is None else dict(outer.points)
        self.answers: dict[Hashable, Any] = {}


_memory: ContextVar[_Memory | None] = ContextVar("memory", default=None)
_trusts: ContextVar[bool] = ContextVar("trusts", default=False)


def _now() -> _Memory | None:
    return None if torch.compiler.is_compiling() else _memory.get()


@contextmanager
def remembering() -> Iterator[None]:
    """Inside, tensors can be made known; what an outer one knows is known here, and forgotten no sooner."""
    token = _memory.set(_Memory(_memory.get()))
    try:
        yield
    finally:
        _memory.reset(token)


@contextmanager
def trusting() -> Iterator[None]:
    """Inside, every fact is so, unread: while a network is written as a graph, its tensors have no values."""
    token = _trusts.set(True)
    try:
        yield
    finally:
        _trusts.reset(token)


def remember(value: Answer, like: Tensor | None = None) -> Answer:
    """Make a tensor known, and return it; with `like`, every fact found of that one is a fact of this one."""
    memory = _now()
    if memory is not None and isinstance(value, Tensor) and id(value) not in memory.guides:
        other = None if like is None else memory.guides.get(id(like))
        facts = {} if other is None else {key: fact for key, fact in other.facts.items() if fact[1]}
        memory.guides[id(value)] = _Guide(value, facts)
    return value


def remember_times(times: Tensor, like: Tensor) -> Grid:
    """Make the times (N,), on the CPU and in [0, 1], known as points of a grid; by their values too."""
    grid, memory = Grid(times, like), _now()
    if memory is not None:
        memory.times.update((id(point), (grid, i)) for i, point in enumerate(grid.points))
        memory.points.update(zip(grid.values, grid.points, strict=True))
        memory.points.update(zip(times.tolist(), grid.points, strict=True))
    return grid


def is_so(value: Tensor, owner: object, fact: Hashable, read: Callable[[], bool]) -> bool:
    """Whether a fact, an owner's or None's, holds of a tensor: what `read` says, or said before of a known one."""
    if _trusts.get():
        return True
    memory = _now()
    guide = None if memory is None else memory.guides.get(id(value))
    return read() if guide is None else _once(guide.facts, owner, fact, read)


def once(owner: object, name: Hashable, find: Callable[[], Answer]) -> Answer:
    """What an owner finds of itself, once."""
    memory = _now()
    return find() if memory is None else _once(memory.answers, owner, name, find)


def made_of(value: Tensor, owner: object, name: Hashable, make: Callable[[], Tensor]) -> Tensor:
    """What an owner makes of a tensor: of a known one once, and then it is known too, with all that was found of it."""
    memory = _now()
    guide = None if memory is None else memory.guides.get(id(value))
    if guide is None:
        return make()
    return _once(guide.made, owner, name, lambda: remember(make(), value))


def _once(answers: dict[Hashable, Any], owner: object, name: Hashable, find: Callable[[], Answer]) -> Answer:
    """An owner's answer, found if it was not yet; the owner is kept, so that its id stays its own."""
    key = id(owner), name
    if key not in answers:
        answers[key] = owner, find()
    return answers[key][1]


def _place(t: Tensor) -> tuple[Grid, int] | None:
    memory = _now()
    return None if memory is None else memory.times.get(id(t))


def known_time(t: float | Tensor, x: Tensor) -> Tensor | None:
    """The point of a grid of times, shape (), that a time of samples x is known to be; None for any other.

    It is known by its value if it is a number, and if it is a tensor, () or (B,), by being that very tensor.
    """
    memory = _now()
    if memory is None:
        return None
    if isinstance(t, Tensor):
        grid, i = memory.times.get(id(t), (None, 0))
        point = grid.points[i] if grid is not None and (t.ndim == 0 or t.shape[0] == x.shape[0]) else None
    else:
        point = memory.points.get(t) if isinstance(t, float) else None
    return point if point is not None and point.dtype == x.dtype and point.device == x.device else None


def as_time(t: float) -> Tensor:
    """A number as the point of a grid that it is known to be, or else as a tensor (), float64."""
    memory = _now()
    known = None if memory is None else memory.points.get(t)
    return torch.tensor(t, dtype=torch.float64) if known is None else known


def always(t: Tensor, owner: object, name: Hashable, predicate: Callable[[Tensor], Tensor]) -> bool:
    """Whether `predicate`, times -> bool like them, is true of all of t, any shape; asked once of a whole grid."""
    place = _place(t)
    if place is None:
        return bool(predicate(t).all())
    grid, i = place
    return _once(grid.answers, owner, name, lambda: predicate(grid.host).expand_as(grid.host).tolist())[i]


def at(
    t: Tensor, owner: object, name: Hashable, function: Callable[[Tensor], tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """`function(t)`, times -> tensors like them; computed once for a whole grid."""
    place = _place(t)
    if place is None:
        return function(t)
    grid, i = place

    def find() -> list[tuple[Tensor, ...]]:
        parts = (part.expand_as(grid.times).unbind() for part in function(grid.times))
        return list(zip(*parts, strict=True))

    return _once(grid.answers, owner, name, find)[i]


def for_batch(t: Tensor, count: int) -> Tensor:
    """A time () or (B, 1, ..., 1) for each of `count` samples, (B,); of a known one, the same tensor each time."""
    memory, place = _now(), _place(t)
    if memory is None or place is None:
        return t.reshape(-1).expand(count)
    grid, i = place
    if (i, count) not in grid.wide:
        grid.wide[i, count] = t.expand(count)
    wide = grid.wide[i, count]
    memory.times[id(wide)] = place
    return wide
