"""One of two processes that call each other's functions, strictly in turn, by messages of data.

A request is [kind, ...]; the reply is a value or an error. While one side waits for a reply, the other may ask in its
turn: a callback is a request in the other direction. What cannot go as data goes by a number, and stays where it is:
functions, objects, classes, modules (`proxies`, `modules`). Tensors, generators, and lists and dictionaries that are
arguments themselves are `Links`: both sides have one, and what either side changes in place is told to the other with
the next message.

Each side believes the other only what a value is. The answer's side can ask the checker's for no more than to call what
it was given, to read a public attribute of an object that it was given, and for derivatives of what these gave.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from flowlib.course.grading import data, described, errors, gradients, proxies, transforms
from flowlib.course.grading.links import Links
from flowlib.course.grading.rights import Rights
from flowlib.course.grading.wire import Broken, Incident, Wire
from flowlib.course.unaided import active, unaided

_DEEPEST = 60  # calls in calls


class Peer(Rights):
    """One side.

    Args:
        wire: to the other.
        trusting: whether this side rebuilds what the other describes: the answer's side does, the checker's does not.
        setup: the names of the exercise's set-up.
        kinds: further requests that are served, by name: functions of what came, which return a value.

    Attributes:
        links: what both sides have.
    """

    def __init__(
        self, wire: Wire, *, trusting: bool, setup: dict[str, Any] | None = None, **kinds: Callable[..., Any]
    ) -> None:
        self.wire, self.trusting = wire, trusting
        self.links = Links(wary=not trusting)
        self.depth = 0
        self.released: list[int] = []
        self.setup = {} if setup is None else setup
        self._kinds = {**gradients.served(self), **transforms.served(self), **proxies.served(self), **kinds}
        self.links.share(torch.default_generator, ours=not trusting)
        self._blocks: list[list[bytes]] = []

    def ask(self, kind: str, *parts: Any) -> Any:
        """Ask the other side; what it replies.

        Raises:
            Ended, Late, Broken: if there is no reply, or none that keeps to the protocol.
            BaseException: what the other side raised, as a built-in class with the same words.
        """
        looking = sys.getprofile()
        sys.setprofile(None)  # which looks at what an answer calls, and this is none of it
        try:
            return self._ask(kind, parts)
        finally:
            sys.setprofile(looking)

    def _ask(self, kind: str, parts: tuple[Any, ...]) -> Any:
        with self._level(), self.links.watch():
            self._send("?", [kind, *parts])
            while True:
                with self.links.watch():
                    mark, value = self._receive()
                    if mark == "?":
                        self._serve(value)
                if mark == "?":
                    continue
                if mark == "=":
                    self.links.note(*self.links.arrived)
                    return value
                if mark == "!":
                    raise errors.error(self.links, value)
                raise Broken("a message of no known kind")

    def serve(self) -> None:
        """Serve the next request.

        Raises:
            Ended, Late, Broken: as in `ask`.
        """
        with self.links.watch():
            mark, value = self._receive()
            if mark != "?":
                raise Broken("a reply that was not asked for")
            self._serve(value)

    def _serve(self, request: Any) -> None:
        with self._level():
            try:
                kind, *parts = request
                if self.depth > _DEEPEST:
                    raise RecursionError("calls in calls, without end")
                with self.links.frame(), torch.enable_grad():
                    reply = self._kinds[kind](*parts)
                    self._send("=", reply)
                    return
            except Incident:
                raise
            except BaseException as error:
                failed = error
            self._send("!", errors.described(self.links, failed))

    def forbidden(self) -> list[list[str]]:
        """What an answer may not call now, by name."""
        return [] if self.trusting else described.forbidden(active())

    @contextmanager
    def rules(self, grad: Any, forbidden: Any) -> Iterator[None]:
        """While it lasts, gradients are noted or not as on the other side, and what is forbidden there is here."""
        with torch.set_grad_enabled(bool(grad)):
            if not forbidden or not self.trusting:
                yield
                return
            with unaided(*(described.named(self.setup, *entry) for entry in forbidden)):
                yield

    @contextmanager
    def _level(self) -> Iterator[None]:
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
            if self.depth == 0:
                self.links.forget()

    def _send(self, mark: str, value: Any) -> None:
        blocks: list[bytes] = []
        self._blocks.append(blocks)
        try:
            if mark == "?":
                tree = [self.pack(part) for part in value]
            else:
                with self.links.unwatched():
                    tree = self.pack(value)
            changed = self.links.changed(lambda part: self.pack(part, 1), thorough=mark != "?" and self.depth == 1)
        finally:
            self._blocks.pop()
        released, self.released = self.released, []
        self.wire.send([mark, tree, changed, released], blocks)

    def _receive(self) -> tuple[str, Any]:
        message, blocks = self.wire.receive()
        self.links.arrived = []
        try:
            mark, tree, changed, released = message
            self._blocks.append(blocks)
            if mark == "?":
                value = [self.unpack(part) for part in tree]
            else:
                with self.links.unwatched():
                    value = self.unpack(tree)
            self.links.update(changed, self.unpack)
            for number in released:
                self.links.records.pop(number, None)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:
            raise Broken(f"a message that cannot be: {type(error).__name__}") from None
        finally:
            self._blocks.pop()
        return str(mark), value

    @property
    def blocks(self) -> list[bytes]:
        """The blocks of the message at hand."""
        return self._blocks[-1]

    def pack(self, value: Any, depth: int = 0) -> Any:
        """A value as it is sent, within a message; `depth` is above 0 within another."""
        if (known := self.links.reference(value)) is not None:
            return known
        return data.pack(value, self._blocks[-1], lambda other: proxies.pack(self, other, self._blocks[-1]), depth)

    def unpack(self, tree: Any, depth: int = 0) -> Any:
        """A value as it came, within a message."""
        return data.unpack(tree, self._blocks[-1], lambda other: proxies.unpack(self, other, self._blocks[-1]), depth)
