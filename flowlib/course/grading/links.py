"""What two processes both have: tensors, generators, arguments that are lists or dictionaries, errors, and more.

Each has a number from the side that it comes from. `mine` are this side's, `theirs` the copies of the other's. Numbers
last until the outermost call is over; those of modules and functions last. The arguments of a call are watched until it
is over, and the parameters of modules always: before each message what has been changed in place since the last is
found by the counter that torch keeps, and at the end of the outermost call by the bytes themselves.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch

from flowlib.course.grading import data, states
from flowlib.course.grading.draws import drawn
from flowlib.course.grading.frames import Frames
from flowlib.course.grading.wire import Broken


class Links(Frames):
    """The links of one side.

    Attributes:
        records: by number, a tensor that was sent and what it may depend on, for derivatives.
        wary: whether the other side may only draw from a generator or seed it, and not choose what it will draw.
        cut: above 0 while derivatives are taken for the other side, which end where that side begins.
    """

    def __init__(self, *, wary: bool = False) -> None:
        self.wary = wary
        self.mine: dict[int, Any] = {}
        self.theirs: dict[int, Any] = {}
        self.records: dict[int, tuple[torch.Tensor, list[torch.Tensor]]] = {}
        self.cut = 0
        self._links: dict[tuple[bool, int], states.Link] = {}
        self._numbers: dict[int, tuple[bool, int]] = {}
        self._fresh = count(1)
        super().__init__()
        self._temporary: list[tuple[bool, int]] = []
        self._versions: dict[tuple[bool, int], Any] = {}
        self._watched: list[list[tuple[bool, int]]] = []

    def share(self, value: Any, *, ours: bool) -> None:
        """Link what both sides have from the start, such as torch's own generator."""
        self._add(ours, 0, value, lasting=True)

    def number(self) -> int:
        """A number that nothing has yet."""
        return next(self._fresh)

    def offer(self, value: Any, *, lasting: bool = False) -> int:
        """Give something of this side a number; what has one keeps it."""
        if (known := self._known(value)) and known[0]:
            return known[1]
        number = self.number()
        self._add(True, number, value, lasting)
        return number

    def take(self, number: Any, value: Any, *, lasting: bool = False) -> Any:
        """Keep this side's copy of what the other has given a number."""
        if type(number) is not int or number in self.theirs:
            raise Broken("a number that was used already")
        self._add(False, number, value, lasting)
        return value

    def _add(self, ours: bool, number: int, value: Any, lasting: bool) -> None:
        (self.mine if ours else self.theirs)[number] = value
        self._numbers[id(value)] = (ours, number)
        if not isinstance(value, states.CHANGEABLE):
            pass
        elif not lasting and not self._watched:
            self._versions[ours, number] = states.version(value)
        else:
            self._links[ours, number] = states.noted(states.Link(value))
            if not lasting:
                self._watched[-1].append((ours, number))
        if not lasting:
            self._temporary.append((ours, number))

    def theirs_of(self, value: Any) -> int | None:
        """The number of something that came from the other side, or None."""
        known = self._known(value)
        return known[1] if known and not known[0] else None

    def mine_of(self, value: Any) -> int | None:
        """The number of something of this side that the other has, or None."""
        known = self._known(value)
        return known[1] if known and known[0] else None

    def reference(self, value: Any) -> list[Any] | None:
        """How a message names something that has a number and cannot be changed unseen; None if it has none."""
        known = self._numbers.get(id(value))
        if known is None or known in self._links or known in self._versions:
            return None
        return ["mine" if known[0] else "yours", known[1]]

    def _known(self, value: Any) -> tuple[bool, int] | None:
        """Whose number something has, unless it has been changed while nobody watched: then it is something new."""
        known = self._numbers.get(id(value))
        if known is None or known in self._links or not isinstance(value, states.CHANGEABLE):
            return known
        return known if self._versions.get(known) == states.version(value) else None

    @contextmanager
    def watch(self) -> Iterator[None]:
        """What gets a number within is watched until its end: the arguments of a request, while it is served."""
        self._watched.append([])
        try:
            yield
        finally:
            for key in self._watched.pop():
                if (link := self._links.pop(key, None)) is not None:
                    self._versions[key] = states.version(link.value)

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """What gets a number within is not watched: results."""
        watched, self._watched = self._watched, []
        try:
            yield
        finally:
            self._watched = watched

    def forget(self) -> None:
        """The outermost call is over: forget what does not last."""
        for ours, number in self._temporary:
            value = (self.mine if ours else self.theirs).pop(number, None)
            self._numbers.pop(id(value), None)
            self._versions.pop((ours, number), None)
        self._temporary = []

    def key(self, value: Any) -> list[Any]:
        """How a message names a thing that both sides have, from the sender's view."""
        ours, number = self._numbers[id(value)]
        return ["mine" if ours else "yours", number]

    def find(self, whose: Any, number: Any) -> Any:
        """What a message names, from the receiver's view."""
        found = {"mine": self.theirs, "yours": self.mine}[whose].get(number)
        if found is None:
            raise Broken("a number of nothing")
        return found

    def changed(self, pack: Callable[[Any], Any], *, thorough: bool = False) -> list[Any]:
        """What this side has changed since the last message, as it is told to the other."""
        said: list[Any] = []
        for (ours, number), link in self._links.items():
            value = link.value
            if states.state(value) != link.state or (thorough and states.content(value) != link.content):
                states.noted(link)
                said.append(["mine" if ours else "yours", number, "value", states.told(value, pack)])
            if isinstance(value, torch.Tensor) and value.is_leaf and states.gradient(value) != link.gradient:
                link.gradient = states.gradient(value)
                given = None if value.grad is None else states.told(value.grad, pack)
                said.append(["mine" if ours else "yours", number, "gradient", given])
        return said

    def update(self, said: Any, unpack: Callable[[Any], Any]) -> None:
        """Change here what the other side has changed."""
        for whose, number, what, told in said:
            value = self.find(whose, number)
            link = self._links[whose == "yours", number]
            content = unpack(told)
            if isinstance(value, torch.Generator):
                if self.wary and not drawn(link.content, content):
                    raise Broken("a generator's state that no drawing leads to")
                value.set_state(data.tensor("torch.uint8", [len(content)], content))
            elif isinstance(value, torch.Tensor):
                new = None if content is None else data.tensor(*content[:3])
                if what == "gradient":
                    value.grad = new
                    link.gradient = states.gradient(value)
                    continue
                assert new is not None
                if value.is_leaf and content[3] is not None:
                    value.requires_grad_(bool(content[3]))
                if new.dtype == value.dtype and new.shape == value.shape:
                    value.data.copy_(new)
                else:
                    value.data = new
            elif isinstance(value, list):
                value[:] = content
            else:
                value.clear()
                value.update(content)
            states.noted(link)
