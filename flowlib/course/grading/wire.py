"""Messages between two processes that do not trust each other: JSON beside blocks of bytes, nothing that can run.

A message is three numbers (the bytes of the JSON, the number of blocks, the bytes of all), the lengths of the blocks,
the JSON and the blocks. What comes in is bounded in size, read to a deadline, and parsed by `json` alone.
"""

import itertools
import json
import select
import socket
import struct
import time
from typing import Any

LARGEST = 512 * 2**20  # bytes of a message: more is not an answer
_TEXT = 64 * 2**20  # of them, of JSON
_HEAD = struct.Struct("<IIQ")
_LOOK = struct.pack("ll", 0, 50_000)  # seconds and microseconds after which a wait looks at the deadline
_decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Incident(BaseException):
    """After this there are no more messages. No `except Exception` in a check may take it for an answer's error."""


class Broken(Incident):
    """The other side does not keep to the protocol."""


class Ended(Incident):
    """The other side is gone."""


class Late(Incident):
    """The deadline is over."""


class Wire:
    """One end of a pair of connected sockets.

    Args:
        end: the socket; it is closed with this object.
        largest: bytes of the largest message that is taken.
        ahead: bytes to read at once, where nothing but messages comes.

    Attributes:
        deadline: until when `receive` waits, as `time.monotonic` counts; None for as long as it takes.
    """

    def __init__(self, end: socket.socket, largest: int = LARGEST, ahead: int = 0) -> None:
        self._end, self._largest, self._ahead = end, largest, ahead
        self._come = bytearray()
        if ahead:  # one call to the system for a message, instead of one to wait and one to read
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _LOOK)
        self.deadline: float | None = None

    def send(self, message: Any, blocks: list[bytes]) -> None:
        """Send a message.

        Raises:
            Ended: if nobody is there to take it.
            Late: if nobody takes it before the deadline.
        """
        text = _encode(message).encode()
        lengths = struct.pack(f"<{len(blocks)}Q", *map(len, blocks))
        head = _HEAD.pack(len(text), len(blocks), len(text) + sum(map(len, blocks)))
        data = memoryview(b"".join((head, lengths, text, *blocks)))
        while data:
            try:
                data = data[self._end.send(data, socket.MSG_DONTWAIT) :]
            except BlockingIOError:  # no room
                self._wait(write=True)
            except OSError:
                raise Ended("nobody takes messages") from None

    def receive(self) -> tuple[Any, list[bytes]]:
        """The next message and its blocks. One that is late is not lost: what has come of it is kept.

        Raises:
            Ended, Late, Broken: as they say.
        """
        self._fill(_HEAD.size)
        text, count, total = _HEAD.unpack_from(self._come)
        if total > self._largest or text > min(total, _TEXT) or count > 100_000:
            raise Broken(f"a message of {total:,} bytes")
        place = _HEAD.size + 8 * count
        self._fill(place)
        lengths = struct.unpack_from(f"<{count}Q", self._come, _HEAD.size)
        if sum(lengths) + text != total:
            raise Broken("a message whose parts do not add up")
        self._fill(place + total)
        with memoryview(self._come) as come:
            ends = list(itertools.accumulate((place + text, *lengths)))
            raw = bytes(come[place : place + text])
            blocks = [bytes(come[start:end]) for start, end in itertools.pairwise(ends)]
        del self._come[: place + total]
        try:
            return _decode(raw.decode()), blocks
        except (ValueError, RecursionError):
            raise Broken("a message that is no JSON") from None

    def _fill(self, size: int) -> None:
        """Wait until that many bytes of the message have come."""
        while len(self._come) < size:
            self._wait()
            try:
                part = self._end.recv(max(self._ahead, min(size - len(self._come), 2**20)))
            except BlockingIOError:  # nothing yet
                continue
            except OSError:
                part = b""
            if not part:
                raise Ended("the other side has ended")
            self._come += part

    def _wait(self, *, write: bool = False) -> None:
        left = None if self.deadline is None else self.deadline - time.monotonic()
        if left is not None and left < 0:
            raise Late
        if not write and (left is None or self._ahead):
            return
        ends = [self._end.fileno()]
        ready = select.select([] if write else ends, ends if write else [], [], left)
        if not any(ready[:2]):
            raise Late

    def close(self) -> None:
        """Close the socket."""
        self._end.close()
