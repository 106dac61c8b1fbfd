"""Derivatives across two processes.

A tensor that comes from the other side, as the result of a call or as the argument of a callback, may depend on what
this side has given. `Remote` puts it into this side's graph: it has as inputs all that was given by then, and in its
backward pass the other side is asked for the derivatives by these, each step of which is a message of data. They are
partial derivatives: a path that leads through this side is in this side's graph already, so the other side cuts there.
Derivatives of derivatives are asked for in the same way.
"""

from collections.abc import Callable
from typing import Any

import torch

from flowlib.course.grading import data
from flowlib.course.grading.wire import Broken


class Record:
    """The right to ask for the derivatives of a tensor of the other side; released when nobody needs them."""

    def __init__(self, peer: Any, number: int) -> None:
        self.peer, self.number = peer, number

    def __del__(self) -> None:
        self.peer.released.append(self.number)


class Remote(torch.autograd.Function):
    """A tensor of the other side, as a function of what this side has given."""

    @staticmethod
    def forward(ctx: Any, record: Record, made: list[torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        ctx.record, ctx.inputs = record, inputs[1:]
        return made[0]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        if ctx.record.peer.links.cut:
            return (None,) * (3 + len(ctx.inputs))
        return (None, None, None, *_differentiate(ctx.record, gradient, ctx.inputs))


def attach(peer: Any, number: int, made: torch.Tensor, inputs: list[torch.Tensor]) -> torch.Tensor:
    """Put a tensor that has come in into this side's graph."""
    start = torch.zeros((), requires_grad=True)  # so that it needs a gradient, whatever the inputs do
    with torch.enable_grad():
        found: torch.Tensor = Remote.apply(Record(peer, number), [made], start, *inputs)
    return found


def _differentiate(record: Record, gradient: torch.Tensor, inputs: Any) -> list[torch.Tensor | None]:
    create = torch.is_grad_enabled()
    reply = record.peer.ask("derivatives", record.number, create, data.raw(gradient))
    found: list[torch.Tensor | None] = []
    if len(reply) != len(inputs):
        raise Broken("derivatives of something else")
    for entry, given in zip(reply, inputs, strict=True):
        if entry is None or not given.requires_grad:
            found.append(None)
            continue
        raw, number = entry
        made = data.tensor(*raw)
        if made.shape != given.shape:
            raise Broken("a derivative of another shape")
        found.append(made if number is None else attach(record.peer, number, made, [gradient, *inputs]))
    return found


def pack(peer: Any, value: torch.Tensor, blocks: list[bytes], *, lasting: bool = False) -> Any:
    """A tensor as it is sent."""
    links = peer.links
    if type(value) not in (torch.Tensor, torch.nn.Parameter):
        with torch._C.DisableTorchFunctionSubclass():
            value = value.as_subclass(torch.Tensor)  # whose methods are torch's
    if (known := links.mine_of(value)) is not None:
        return ["mine", known]
    name, shape, content = data.raw(value)
    blocks.append(content)
    block, inputs = len(blocks) - 1, None
    number = links.offer(value, lasting=lasting)
    if value.requires_grad and not value.is_leaf and links.serving:
        received = links.received()
        links.records[number] = (value, received)
        inputs = [links.key(entry) for entry in received]
    parameter = isinstance(value, torch.nn.Parameter)
    return ["tensor", number, name, shape, block, value.requires_grad, parameter, inputs]


def unpack(peer: Any, tree: list[Any], blocks: list[bytes], *, lasting: bool = False) -> torch.Tensor:
    """A tensor as it came."""
    number, name, shape, block, needs, parameter, inputs = tree[1:]
    made = data.tensor(name, shape, blocks[block])
    needs = bool(needs) and (made.is_floating_point() or made.is_complex())
    if needs and inputs is not None:
        given = [peer.links.find(*key) for key in inputs]
        if not all(isinstance(entry, torch.Tensor) for entry in given):
            raise Broken("derivatives by something else")
        made = attach(peer, number, made, given)
    elif parameter:
        made = torch.nn.Parameter(made, requires_grad=needs)
    elif needs:
        made.requires_grad_()
    peer.links.arrived.append(made)
    peer.links.take(number, made, lasting=lasting)
    return made


def served(peer: Any) -> dict[str, Callable[..., Any]]:
    """The requests about derivatives."""

    def derivatives(number: int, create: bool, gradient: Any) -> list[Any]:
        value, inputs = peer.links.records[number]
        given = data.tensor(*gradient).requires_grad_(bool(create))
        peer.links.cut += 1
        try:
            found = torch.autograd.grad(
                value, inputs, given, retain_graph=True, create_graph=bool(create), allow_unused=True
            ) if inputs else ()  # fmt: skip
        finally:
            peer.links.cut -= 1
        reply: list[Any] = []
        for part in found:
            later = None
            if part is not None and part.requires_grad:
                later = peer.links.number()
                peer.links.records[later] = (part, [given, *inputs])
            reply.append(None if part is None else [data.raw(part), later])
        return reply

    return {"derivatives": derivatives}
