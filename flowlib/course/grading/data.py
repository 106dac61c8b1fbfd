"""Values that are data alone, as JSON and blocks of bytes, and back: what neither side can do harm with.

What is read back has exact types: `Tensor`, numpy's arrays and scalars, `bool`, `int`, `float`, `complex`, `str`,
`bytes`, `None`, `list`, `tuple`, `dict`, `set`, `range`, `slice`, torch's dtypes and devices. A value of a class of the
student's own that is a kind of one of these comes as one of these: it has the content, and none of the methods.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy
import torch

from flowlib.course.grading.wire import Broken

_DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
_NAMES = {value: name for name, value in _DTYPES.items()}
_SAME_SIZE = {dtype: torch.int16 if dtype == torch.bfloat16 else torch.uint8 for dtype in _DTYPES.values()
              if dtype == torch.bfloat16 or "float8" in str(dtype)}  # fmt: skip # which numpy does not know
_NUMPY = "?bBhHiIlLqQefdFD"  # kinds of numbers, without objects
_DEEPEST = 60  # containers in containers


class Foreign(Exception):
    """A value that is no data."""


def pack(value: Any, blocks: list[bytes], other: Callable[[Any], Any], depth: int = 0) -> Any:
    """A value as JSON; bytes are appended to `blocks`. What is no data is given to `other`, as tensors are."""
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind in (int, float):
        return value if kind is float or abs(value) < 2**63 else ["int", hex(value)]
    if depth > _DEEPEST:
        raise Foreign("containers in containers, without end")

    def part(inner: Any) -> Any:
        return pack(inner, blocks, other, depth + 1)

    if isinstance(value, torch.Tensor | torch.Generator | torch.nn.Module):
        return other(value)
    if kind in (list, dict):
        return other(value) if depth == 0 else contents(value, part)
    if isinstance(value, tuple):
        return ["tuple", [part(inner) for inner in tuple.__iter__(value)]]
    if isinstance(value, list | dict):
        return contents(value, part)
    if isinstance(value, set | frozenset):
        return ["set" if isinstance(value, set) else "frozenset", [part(inner) for inner in set(value)]]
    if isinstance(value, numpy.ndarray | numpy.generic) and value.dtype.char in _NUMPY:
        blocks.append(numpy.ascontiguousarray(value).tobytes())
        scalar = isinstance(value, numpy.generic)
        return ["numpy", value.dtype.char, list(value.shape), len(blocks) - 1, scalar]
    if isinstance(value, bytes | bytearray):
        blocks.append(bytes(value))
        return ["bytes", len(blocks) - 1]
    if isinstance(value, range):
        return ["range", value.start, value.stop, value.step]
    if isinstance(value, slice):
        return ["slice", part(value.start), part(value.stop), part(value.step)]
    if isinstance(value, torch.dtype | torch.device):
        return ["dtype" if isinstance(value, torch.dtype) else "device", str(value)]
    if value is Ellipsis:
        return ["..."]
    for plain in (int, float, complex, str):
        if isinstance(value, plain):
            return _number(value, plain)
    return other(value)


def contents(value: Any, part: Callable[[Any], Any]) -> Any:
    """A list or a dictionary as JSON."""
    if isinstance(value, list):
        return ["list", [part(inner) for inner in list.__iter__(value)]]
    return ["dict", [[part(key), part(inner)] for key, inner in dict.items(value)]]


def _number(value: Any, plain: Any) -> Any:
    if plain is complex:
        return ["complex", complex.real.__get__(value), complex.imag.__get__(value)]
    if plain is str:
        return str.__str__(value)
    return pack(plain.__add__(value, plain()), [], lambda _: None)  # the number itself, whatever the class says


def unpack(tree: Any, blocks: list[bytes], other: Callable[[list[Any]], Any], depth: int = 0) -> Any:
    """The value of JSON that `pack` made; what is marked as no data is given to `other`.

    Raises:
        Broken: if it is none that `pack` makes.
    """
    if not isinstance(tree, list):
        if isinstance(tree, dict):
            raise Broken("a value of no known kind")
        return tree
    if depth > _DEEPEST + 2 or not tree or not isinstance(tree[0], str):
        raise Broken("a value of no known kind")

    def part(inner: Any) -> Any:
        return unpack(inner, blocks, other, depth + 1)

    try:
        match tree:
            case ["tuple", [*items]]:
                return tuple(part(inner) for inner in items)
            case ["list", [*items]]:
                return [part(inner) for inner in items]
            case ["dict", [*items]]:
                return {part(key): part(inner) for key, inner in items}
            case ["set" | "frozenset" as kind, [*items]]:
                made = [part(inner) for inner in items]
                return set(made) if kind == "set" else frozenset(made)
            case ["int", str(text)]:
                return int(text, 16)
            case ["complex", real, imaginary]:
                return complex(real, imaginary)
            case ["numpy", str(char), [*shape], int(block), bool(scalar)]:
                if char not in _NUMPY or len(char) != 1:
                    raise Broken("an array of no numbers")
                array = numpy.frombuffer(blocks[block], dtype=char).reshape(shape).copy()
                return array[()] if scalar else array
            case ["bytes", int(block)]:
                return blocks[block]
            case ["range", start, stop, step]:
                return range(start, stop, step)
            case ["slice", start, stop, step]:
                return slice(part(start), part(stop), part(step))
            case ["dtype", str(name)]:
                return _DTYPES[name]
            case ["device", str(name)]:
                return torch.device(name)
            case ["..."]:
                return ...
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError, OverflowError) as error:
        raise Broken(f"a value that cannot be: {type(error).__name__}") from None
    return other(tree)


def raw(tensor: torch.Tensor) -> tuple[str, list[int], bytes]:
    """Dtype, shape and bytes of a tensor.

    Raises:
        Foreign: if it is no plain tensor in the memory of this machine.
    """
    plain = tensor
    if type(tensor) is not torch.Tensor or tensor.requires_grad:
        with torch._C.DisableTorchFunctionSubclass():
            plain = torch.Tensor.detach(tensor).as_subclass(torch.Tensor)
    if plain.layout is not torch.strided or plain.device.type != "cpu" or plain.is_quantized:
        raise Foreign("a tensor of a special kind")
    if plain.is_conj() or plain.is_neg():
        plain = plain.resolve_conj().resolve_neg()
    known = plain.view(_SAME_SIZE[plain.dtype]) if plain.dtype in _SAME_SIZE else plain
    return _NAMES[plain.dtype], list(plain.shape), known.numpy().tobytes()


def tensor(name: Any, shape: Any, data: bytes) -> torch.Tensor:
    """The tensor of `raw`.

    Raises:
        Broken: if there is no such tensor.
    """
    try:
        dtype = _DTYPES[name]
        if not data and 0 in shape:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise Broken(f"a tensor that cannot be: {type(error).__name__}") from None


def found(module: str, name: str) -> Any:
    """A function or class by the names of its module, which must be loaded, and in it; None if there is none."""
    place: Any = sys.modules.get(module)
    for part in name.split("."):
        place = getattr(place, part, None)
    return place
