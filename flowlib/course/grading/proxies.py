"""What stays where it is: functions, classes and objects, which the other side has as proxies of the same name.

The answer's side may rebuild what the checker's side describes, since that is the course's own: library functions by
their names, and objects of the library (schedules, fields) by their class and their data. Nothing is rebuilt in the
other direction: of an object of the student's, the checker has a name and a number, and can call it or read its
attributes; what comes back is data or another proxy. Comparisons of a proxy are those of `object`.
"""

import types
from collections.abc import Callable
from typing import Any

import torch

from flowlib.course.grading import data, described, gradients, module_calls, modules, transforms
from flowlib.course.grading.draws import drawn
from flowlib.course.grading.rights import SPECIAL
from flowlib.course.grading.signatures import parameters_of, signature
from flowlib.course.grading.wire import Broken

_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodWrapperType)


def pack(peer: Any, value: Any, blocks: list[bytes]) -> Any:
    """What is no data, as it is sent."""
    links = peer.links
    if (known := links.theirs_of(value)) is not None:
        return ["yours", known]
    if (known := links.mine_of(value)) is not None:
        return ["mine", known]
    if isinstance(value, torch.nn.Module):
        return modules.pack(peer, value, blocks)
    if isinstance(value, torch.Tensor):
        try:
            return gradients.pack(peer, value, blocks)
        except (data.Foreign, RuntimeError, TypeError):
            return ["object", links.offer(value, lasting=True), type(value).__name__, [], [], None]
    if type(value) in (list, dict):
        return ["linked", links.offer(value), data.contents(value, lambda part: peer.pack(part, 1))]
    if isinstance(value, torch.Generator):
        blocks.append(bytes(value.get_state().numpy()))
        return ["generator", links.offer(value), len(blocks) - 1]
    if not peer.trusting and (known := described.described(peer, value)) is not None:
        return known
    if peer.trusting and (known := described.plain(peer, value)) is not None:
        return known
    number, name = links.offer(value, lasting=True), _name(value)
    if isinstance(value, _FUNCTIONS):
        return ["function", number, name, parameters_of(value)]
    if isinstance(value, type):
        return ["class", number, name, parameters_of(value)]
    kind = type(value)
    special = [entry for entry in SPECIAL if hasattr(kind, entry)]
    base = next(([k.__module__, k.__qualname__] for k in kind.__mro__ if described.importable(k)), None)
    return ["object", number, name, special, parameters_of(value) if callable(value) else [], base]


def unpack(peer: Any, tree: list[Any], blocks: list[bytes]) -> Any:
    """What is no data, as it came."""
    links = peer.links
    match tree:
        case ["yours" | "mine" as whose, int(number)]:
            value = links.find(whose, number)
            if isinstance(value, torch.Tensor):
                links.arrived.append(value)
            return value
        case ["tensor", *_] if len(tree) == 8:
            return gradients.unpack(peer, tree, blocks)
        case ["module", *_] if len(tree) == 7:
            return modules.unpack(peer, tree, blocks)
        case ["linked", int(number), inner]:
            return links.take(number, peer.unpack(inner, 1))
        case ["generator", int(number), int(block)]:
            made = torch.Generator()
            if links.wary and not drawn(None, blocks[block]):
                raise Broken("a generator's state that no seed leads to")
            made.set_state(data.tensor("torch.uint8", [len(blocks[block])], blocks[block]))
            return links.take(number, made)
        case ["function" | "class", int(number), str(name), parameters]:
            return links.take(number, _function(peer, _identifier(name), parameters), lasting=True)
        case ["plain", str(module), str(name), [*parts]]:
            return described.unpacked(peer, module, name, parts)
        case ["object", int(number), str(name), [*special], parameters, base]:
            return links.take(number, _object(peer, _identifier(name), special, parameters, base), lasting=True)
    if peer.trusting:
        return described.rebuilt(peer, tree)
    raise Broken("a value of no known kind")


def _name(value: Any) -> str:
    try:
        return str(getattr(value, "__name__", None) or type(value).__name__)
    except BaseException:
        return "object"


def _identifier(name: str) -> str:
    return name[:80] if name.isidentifier() else "object"


def _function(peer: Any, name: str, parameters: Any) -> Callable[..., Any]:
    def remote(*args: Any, **named: Any) -> Any:
        return transforms.call(peer, "call", remote, [], args, named)

    remote.__name__ = remote.__qualname__ = name
    remote.__module__ = "__main__"
    remote.__signature__ = signature(parameters)  # type: ignore[attr-defined]
    return remote


def _object(peer: Any, name: str, special: list[Any], parameters: Any, base: Any) -> Any:
    """A proxy of an object: a class of its own, with the special methods that the object has."""

    def read(self: Any, attribute: str) -> Any:
        if attribute.startswith("__"):
            return object.__getattribute__(self, attribute)
        return peer.ask("get", self, attribute)

    def write(self: Any, attribute: str, value: Any) -> None:
        peer.ask("set", self, attribute, value)

    def method(which: str) -> Callable[..., Any]:
        if which == "__call__":
            return lambda self, *args, **named: transforms.call(peer, "call", self, [], args, named)
        return lambda self, *args: peer.ask("special", self, which, *args)

    known = data.found(*base) if base is not None else None
    fits = isinstance(known, type) and described.importable(known) and not issubclass(known, torch.nn.Module)
    kind: Any = known if fits else object
    body: dict[str, Any] = {entry: method(entry) for entry in SPECIAL if entry in special}
    body |= {"__getattribute__": read, "__setattr__": write, "__module__": "__main__", "__repr__": object.__repr__}
    body |= {"__eq__": object.__eq__, "__ne__": object.__ne__, "__hash__": object.__hash__}
    if "__call__" in special:
        body["__signature__"] = signature(parameters)
    made = types.new_class(name, (kind,), {}, lambda namespace: namespace.update(body))
    made.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
    return object.__new__(made)


def served(peer: Any) -> dict[str, Callable[..., Any]]:
    """The requests about functions and objects."""

    def call(function: Any, grad: Any, forbidden: Any, _: Any, names: Any, *values: Any) -> Any:
        peer.may_call(function)
        split = len(values) - len(names)
        owner = getattr(function, "__self__", None)
        if isinstance(owner, torch.nn.Module):
            peer.links.note(*(p for p in owner.parameters() if peer.links.mine_of(p) is not None))
        with peer.rules(grad, forbidden):
            return function(*values[:split], **dict(zip(names, values[split:], strict=True)))

    def get(value: Any, name: str) -> Any:
        peer.may_read(value, name)
        return getattr(value, name)

    def write(value: Any, name: str, new: Any) -> None:
        peer.may_write(value, name)
        setattr(value, name, new)

    def special(value: Any, name: str, *args: Any) -> Any:
        peer.may_use(value, name)
        return getattr(type(value), name)(value, *args)

    return {"call": call, "get": get, "set": write, "special": special, "module": module_calls.server(peer)}
