"""Has a generator of random numbers only been seeded and drawn from?

A state of torch's generator on the CPU holds the next 624 numbers, so that whoever writes a state chooses what is
drawn: zeros, for which a wrong answer can be right. Therefore a state that an answer has left is taken only if it can
come from the one before, or from its seed, by drawing.

The state (`CPUGeneratorImpl` of torch): the seed; how many of the 624 numbers are left, whether it is seeded, which is
the next; the numbers; and the second of a pair of normal numbers, where one of them is left over.
"""

import math
import struct
from typing import Any

import numpy
import torch

_HEAD = struct.Struct("<QiiQ")  # seed, left, seeded, next
_SIZE = 624
_NUMBERS = slice(_HEAD.size, _HEAD.size + 8 * _SIZE)
_SECOND = struct.Struct(
    "<dddixxxxf?xxx"
)  # of the double kind: x, y, rho, is there one; of the float kind: it, is there
_MOST = 50_000_000  # numbers drawn between two looks
_RECENT = 2**20  # numbers of which the one that is left over may be made


def drawn(before: bytes | None, after: bytes) -> bool:
    """Whether a generator can have come to the state `after` from `before`, or from its own seed."""
    if after == before:
        return True
    if len(after) != _NUMBERS.stop + _SECOND.size:
        return False
    seed = _HEAD.unpack_from(after)[0]
    if before is not None and _follows(before, after):
        return True
    return _follows(_state(torch.Generator().manual_seed(seed)), after)


def _follows(before: bytes, after: bytes) -> bool:
    """Whether drawing leads from one state to another."""
    seed, left, _, place = _HEAD.unpack_from(before)
    wanted, _, _, position = _HEAD.unpack_from(after)
    if seed != wanted or position > _SIZE:
        return False
    if after[_NUMBERS] == before[_NUMBERS]:
        count = position - place
    else:
        later = _later(before, left - 1, after)
        if later is None:
            return False
        count = left - 1 + _SIZE * later + position
    if count < 0:
        return False
    generator, recent = _generator(before), min(count, _RECENT)
    _draw(generator, count - recent)
    start = _state(generator)
    _draw(generator, recent)
    same = _state(generator)[: _NUMBERS.stop] == after[: _NUMBERS.stop]
    second = _second(after)
    return same and (second is None or second == _second(before) or _is_second(second, start, recent))


def _later(before: bytes, rest: int, after: bytes) -> int | None:
    """How many whole sets of 624 numbers lie between two states; `rest` are left of the first's own."""
    generator, sought = _generator(before), _tempered(after, 4)
    _draw(generator, rest)
    first, count = 0, 4  # sets
    while first * _SIZE < _MOST:
        sets = _draw(generator, _SIZE * count).reshape(count, _SIZE)
        for row in numpy.flatnonzero((sets[:, :4] == sought).all(axis=1)):
            if numpy.array_equal(sets[row], _tempered(after, _SIZE)):
                return first + int(row)
        first, count = first + count, min(2 * count, 1000)
    return None


def _tempered(state: bytes, count: int) -> Any:
    """What is drawn for the first of the 624 numbers of a state (Matsumoto and Nishimura 1998)."""
    y: Any = numpy.frombuffer(state[_NUMBERS], dtype=numpy.uint64)[:count]
    y = y ^ (y >> 11)
    y = y ^ (y << 7 & 0x9D2C5680)
    y = y ^ (y << 15 & 0xEFC60000)
    return ((y ^ (y >> 18)) & 0x7FFFFFFF).astype(numpy.int32)


def _generator(state: bytes) -> torch.Generator:
    made = torch.Generator()
    made.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
    return made


def _draw(generator: torch.Generator, count: int) -> Any:
    """The next numbers, of 32 bits, without their first bit."""
    return torch.empty(count, dtype=torch.int32).random_(generator=generator).numpy()


def _state(generator: torch.Generator) -> bytes:
    return bytes(generator.get_state().numpy())


def _second(state: bytes) -> float | None:
    """The normal number that is left over; NaN for one of the kind that torch no longer makes."""
    _, value, _, there, _, other = _SECOND.unpack_from(state, _NUMBERS.stop)
    return math.nan if other else value if there else None


def _is_second(value: float, start: bytes, count: int) -> bool:
    """Whether a normal number is the second of a pair made of some of `count` numbers, as Box and Muller make them."""
    for skipped in (0, 1):
        generator = _generator(start)
        _draw(generator, skipped)
        uniform = torch.rand(max(0, count - skipped) // 2, dtype=torch.float64, generator=generator).numpy()
        angle, radius = 2 * math.pi * uniform[:-1], numpy.sqrt(-2 * numpy.log1p(-uniform[1:]))
        if bool(numpy.isclose(radius * numpy.sin(angle), value, rtol=1e-9, atol=1e-12).any()):
            return True
    return False
