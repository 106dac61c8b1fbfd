"""Modules across two processes: parameters are on both sides, and the code runs where it was written.

A module that is made of layers of torch and the library alone is rebuilt from their names and numbers. Any other (a
student's class; a network that a check defines) has a proxy with the same parameters, buffers and layers; calling it
asks the side that has the class. The checker rebuilds layers of `torch.nn` and `flowlib.nets` only, of which it has
the code itself: their attributes are data.
"""

import contextlib
import importlib
from typing import Any

import torch
from torch import nn

from flowlib.course.grading import data, gradients, module_calls
from flowlib.course.grading.wire import Broken

_INNER = frozenset(vars(nn.Module()))


def pack(peer: Any, module: nn.Module, blocks: list[bytes]) -> Any:
    """A module as it is sent."""
    links = peer.links
    for known, mark in ((links.theirs_of(module), "yours"), (links.mine_of(module), "mine")):
        if known is not None:
            return [mark, known]
    number = links.offer(module, lasting=True)
    kind = type(module)
    inside = {key: value for key, value in vars(module).items() if key not in _INNER}
    described, attributes = None, []
    if _known(kind.__module__, kind.__qualname__, peer.trusting) is kind:
        try:
            attributes = [[key, _attribute(peer, value, blocks)] for key, value in inside.items()]
            described = [kind.__module__, kind.__qualname__]
        except data.Foreign:
            attributes = []
    parts = [
        [[key, _part(peer, value, blocks)] for key, value in module._parameters.items()],
        [[key, _part(peer, value, blocks)] for key, value in module._buffers.items()],
        [[key, None if value is None else pack(peer, value, blocks)] for key, value in module._modules.items()],
    ]
    return ["module", number, kind.__name__, described, attributes, parts, module.training]


def _attribute(peer: Any, value: Any, blocks: list[bytes]) -> Any:
    return data.pack(value, blocks, _foreign, 1) if peer.trusting else peer.pack(value, 1)


def _foreign(value: Any) -> Any:
    raise data.Foreign(type(value).__name__)


def _broken(_: Any) -> Any:
    raise Broken("an attribute that is no data")


def _part(peer: Any, value: torch.Tensor | None, blocks: list[bytes]) -> Any:
    if value is None:
        return None
    known = peer.links.theirs_of(value)
    return ["yours", known] if known is not None else gradients.pack(peer, value, blocks, lasting=True)


def _known(module: str, name: str, restricted: bool) -> Any:
    """A class of layers by name, if it is one that may be rebuilt."""
    places = ("torch.nn.modules.", "flowlib.nets.") if restricted else ("torch.nn.modules.", "flowlib.")
    if f"{module}".startswith("flowlib.nets."):  # whose modules are loaded when they are asked for
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    found = data.found(module, name) if f"{module}.".startswith(places) else None
    if not isinstance(found, type) or (found.__module__, found.__qualname__) != (module, name):
        return None  # of another place, to which the module's own imports lead
    return found if issubclass(found, nn.Module) else None


def unpack(peer: Any, tree: list[Any], blocks: list[bytes]) -> nn.Module:
    """A module as it came."""
    number, name, described, attributes, (parameters, buffers, children), training = tree[1:]
    if described is not None:
        module, name = described
        kind = _known(module, name, not peer.trusting)
        if kind is None:
            raise Broken("a module of no known class")
    else:
        known = name[:80] if str(name).isidentifier() else "Module"
        kind = type(known, (module_calls.Proxy,), {"__module__": "__main__"})
    made: nn.Module = kind.__new__(kind)
    nn.Module.__init__(made)
    if described is None:
        vars(made)["_peer"] = peer
    for key, value in attributes:
        if key in _INNER or not isinstance(key, str) or described is None or callable(getattr(kind, key, None)):
            raise Broken("an attribute of modules themselves")
        vars(made)[key] = peer.unpack(value, 1) if peer.trusting else data.unpack(value, blocks, _broken, 1)
    places: Any = ((made._parameters, parameters), (made._buffers, buffers))
    for place, entries in places:
        for key, part in entries:
            place[_key(key)] = None if part is None else _tensor(peer, part, blocks)
    for key, part in children:
        made._modules[_key(key)] = None if part is None else _child(peer, part, blocks)
    made.training = bool(training)
    peer.links.take(number, made, lasting=True)
    return made


def _key(key: Any) -> str:
    if not isinstance(key, str) or "." in key or not key or hasattr(nn.Module, key):
        raise Broken("a part of a module of no possible name")
    return key


def _tensor(peer: Any, part: list[Any], blocks: list[bytes]) -> torch.Tensor:
    if part[0] in ("mine", "yours"):
        found = peer.links.find(*part)
    else:
        found = gradients.unpack(peer, part, blocks, lasting=True)
    if not isinstance(found, torch.Tensor):
        raise Broken("a parameter that is no tensor")
    return found


def _child(peer: Any, part: list[Any], blocks: list[bytes]) -> nn.Module:
    found = peer.links.find(*part) if part[0] in ("mine", "yours") else unpack(peer, part, blocks)
    if not isinstance(found, nn.Module):
        raise Broken("a layer that is no module")
    return found
