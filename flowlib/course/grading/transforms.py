"""Functions across two processes, as they are called, and as torch.func transforms them.

The tensors that `torch.func.grad`, `jvp`, `jacrev` and `vmap` call a function with hold no numbers that could be sent.
So the other side evaluates the function anew for what they stand for, or its derivative, one sample after the other.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch


def call(peer: Any, kind: str, function: Any, about: list[Any], args: Any, named: dict[str, Any]) -> Any:
    """Ask the other side to call a function or module."""
    values = [*args, *named.values()]
    if any(isinstance(v, torch.Tensor) and torch._C._functorch.is_functorch_wrapped_tensor(v) for v in values):
        return _pure(peer, function, list(named), values)
    return peer.ask(kind, function, torch.is_grad_enabled(), peer.forbidden(), about, list(named), *values)


@dataclass(frozen=True)
class Plan:
    """A call to be evaluated: the function, which derivatives of it, the names, values and places of its arguments."""

    peer: Any
    function: Any
    steps: list[Any]
    names: list[str]
    constants: list[Any]
    places: list[int]
    single: list[bool]


class Pure(torch.autograd.Function):
    """A function of the other side, as torch.func transforms it."""

    @staticmethod
    def forward(plan: Any, *tensors: torch.Tensor) -> Any:
        about = plan.function, plan.steps, plan.names, plan.places, len(plan.constants)
        single, made = plan.peer.ask("pure", *about, *plan.constants, *tensors)
        plan.single.append(bool(single))
        if not isinstance(made, tuple) or not all(isinstance(entry, torch.Tensor) for entry in made):
            raise TypeError("with torch.func the function must return tensors")
        return tuple(entry.detach().clone() for entry in made)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.plan, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.floats = [tensor.is_floating_point() for tensor in tensors]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        found = _again(ctx.plan, "vjp", ctx.saved_tensors, gradients)
        return (None, *(part if real else None for part, real in zip(found, ctx.floats, strict=True)))

    @staticmethod
    def jvp(ctx: Any, _: Any, *moves: torch.Tensor | None) -> Any:
        tensors = ctx.saved_tensors
        given = [torch.zeros_like(t) if move is None else move for move, t in zip(moves, tensors, strict=True)]
        return _again(ctx.plan, "jvp", tensors, given)

    @staticmethod
    def vmap(info: Any, dims: Any, plan: Any, *tensors: torch.Tensor) -> Any:
        rows = []
        for i in range(info.batch_size):
            row = [t if d is None else t.select(d, i) for t, d in zip(tensors, dims[1:], strict=True)]
            rows.append(Pure.apply(plan, *row))
        return tuple(map(torch.stack, zip(*rows, strict=True))), (0,) * len(rows[0])


def _again(plan: Any, kind: str, tensors: Any, directions: Any) -> Any:
    plan = replace(plan, steps=[*plan.steps, [kind, len(tensors)]], single=[])
    return Pure.apply(plan, *tensors, *directions)


def _pure(peer: Any, function: Any, names: list[str], values: list[Any]) -> Any:
    places = [i for i, value in enumerate(values) if isinstance(value, torch.Tensor)]
    constants = [None if isinstance(value, torch.Tensor) else value for value in values]
    plan = Plan(peer, function, [], names, constants, places, [])
    made = Pure.apply(plan, *(values[i] for i in places))
    return made[0] if plan.single[0] else made


def served(peer: Any) -> dict[str, Callable[..., Any]]:
    """The request to evaluate a function or its derivative."""

    def pure(function: Any, steps: Any, names: Any, places: Any, size: int, *values: Any) -> Any:
        peer.may_call(function)
        constants, tensors = list(values[:size]), values[size:]
        single: list[bool] = []

        def evaluate(*given: torch.Tensor) -> Any:
            for place, entry in zip(places, given, strict=True):
                constants[place] = entry
            named = dict(zip(names, constants[size - len(names) :], strict=True))
            result = function(*constants[: size - len(names)], **named)
            single[:] = [not isinstance(result, tuple)]
            return result if isinstance(result, tuple) else (result,)

        whole: Callable[..., Any] = evaluate
        for kind, count in steps:
            whole = _transformed(kind, count, whole)
        made = whole(*(tensor.detach() for tensor in tensors))
        return single[0], tuple(part.detach() for part in made)

    return {"pure": pure}


def _transformed(kind: str, size: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The derivative of a function of `size` tensors, as a function of these and of directions."""

    def derivative(*given: torch.Tensor) -> Any:
        tensors, directions = given[:size], given[size:]
        real = [i for i, tensor in enumerate(tensors) if tensor.is_floating_point()]

        def of_real(*parts: torch.Tensor) -> Any:
            chosen = dict(zip(real, parts, strict=True))
            return function(*(chosen.get(i, tensor) for i, tensor in enumerate(tensors)))

        parts = tuple(tensors[i] for i in real)
        if kind == "jvp":
            return torch.func.jvp(of_real, parts, tuple(directions[i] for i in real))[1]
        pull = torch.func.vjp(of_real, *parts)[1]
        found = dict(zip(real, pull(tuple(directions)), strict=True))
        return tuple(found.get(i, torch.zeros(tensor.shape)) for i, tensor in enumerate(tensors))

    return derivative
