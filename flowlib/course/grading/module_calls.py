"""Calling a module that is on the other side, and hooks on its layers.

Hooks that a check puts on the layers of a proxy are called with what the other side says the layers were given and
returned. It could say anything; but what a check compares them with is computed here, from random parameters.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from flowlib.course.grading import transforms


class Proxy(nn.Module):
    """A module whose code is on the other side."""

    def forward(self, *args: Any, **named: Any) -> Any:
        """Ask the other side; then call the hooks of the layers here with what these were given there."""
        peer = vars(self)["_peer"]
        layers = {name: layer for name, layer in self.named_modules() if name and _hooked(layer)}
        relinked = _relinked(peer, self)
        answer = transforms.call(peer, "module", self, [self.training, sorted(layers), relinked], args, named)
        if not layers:
            return answer
        result, seen = answer
        for name, given, keywords, made in seen:
            _call_hooks(layers[name], given, keywords, made)
        return result

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_"):
                raise
        return vars(self)["_peer"].ask("get", self, name)


def _hooked(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def _call_hooks(layer: nn.Module, given: Any, named: Any, made: Any) -> None:
    for number, hook in layer._forward_pre_hooks.items():
        hook(layer, given, named) if number in layer._forward_pre_hooks_with_kwargs else hook(layer, given)
    for number, hook in layer._forward_hooks.items():
        if number in layer._forward_hooks_with_kwargs:
            hook(layer, given, named, made)
        else:
            hook(layer, given, made)


def _places(module: nn.Module) -> Iterator[tuple[dict[str, Any], str]]:
    for inner in module.modules():
        for key in inner._buffers:
            yield inner._buffers, key


def _relinked(peer: Any, module: nn.Module) -> list[Any]:
    """Buffers that have been replaced by other tensors, as `.double()` does: by their place, with their content."""
    return [
        [place, value]
        for place, (inside, key) in enumerate(_places(module))
        if (value := inside[key]) is not None
        and peer.links.theirs_of(value) is None
        and peer.links.mine_of(value) is None
    ]


def server(peer: Any) -> Callable[..., Any]:
    """The request to call a module of this side."""

    def call(module: Any, grad: Any, forbidden: Any, about: Any, names: Any, *values: Any) -> Any:
        peer.may_call(module)
        training, watched, relinked = about
        if module.training != training:
            module.train(bool(training))
        places = list(_places(module))
        for place, value in relinked:
            inside, key = places[place]
            inside[key] = value
        peer.links.note(*(p for p in module.parameters() if peer.links.mine_of(p) is not None))
        seen: list[Any] = []
        layers = dict(module.named_modules())
        hooks = [_watch(name, layers[name], seen) for name in watched if name in layers]
        split = len(values) - len(names)
        try:
            with peer.rules(grad, forbidden):
                result = module(*values[:split], **dict(zip(names, values[split:], strict=True)))
        finally:
            for hook in (hook for pair in hooks for hook in pair):
                hook.remove()
        return (result, seen) if watched else result

    return call


def _watch(name: str, layer: nn.Module, seen: list[Any]) -> tuple[Any, Any]:
    """Note what a layer is given and returns."""

    def copied(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return tuple(map(copied, value))
        if isinstance(value, dict):
            return {key: copied(inner) for key, inner in value.items()}
        return value.detach().clone() if isinstance(value, torch.Tensor) else None

    def before(_: nn.Module, given: Any, named: Any) -> None:
        seen.append([name, copied(given), copied(named), None])

    def after(_: nn.Module, __: Any, ___: Any, made: Any) -> None:
        next(entry for entry in reversed(seen) if entry[0] == name and entry[3] is None)[3] = copied(made)

    return layer.register_forward_pre_hook(before, with_kwargs=True), layer.register_forward_hook(
        after, with_kwargs=True
    )
