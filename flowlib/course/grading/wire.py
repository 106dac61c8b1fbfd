"""Messages between two processes that do not trust each other: JSON beside blocks of bytes, nothing that can run.

A message is three numbers (the bytes of the JSON, the number of blocks, the bytes of all), the lengths of the blocks,
the JSON and the blocks. What comes in is bounded in size, read to a deadline, and parsed by `json` alone.
"""

import json
import select
import socket
import struct
import time
from typing import Any

LARGEST = 512 * 2**20  # bytes of a message: more is not an answer
_TEXT = 64 * 2**20  # of them, of JSON
_HEAD = struct.Struct("<IIQ")


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
        self.deadline: float | None = None

    def send(self, message: Any, blocks: list[bytes]) -> None:
        """Send a message.

        Raises:
            Ended: if nobody is there to take it.
            Late: if nobody takes it before the deadline.
        """
        text = json.dumps(message, separators=(",", ":")).encode()
        lengths = struct.pack(f"<{len(blocks)}Q", *map(len, blocks))
        head = _HEAD.pack(len(text), len(blocks), len(text) + sum(map(len, blocks)))
        data = memoryview(b"".join((head, lengths, text, *blocks)))
        while data:
            self._wait(write=True)
            try:
                data = data[self._end.send(data, socket.MSG_DONTWAIT) :]
            except BlockingIOError:  # less room than it seemed
                continue
            except OSError:
                raise Ended("nobody takes messages") from None

    def receive(self) -> tuple[Any, list[bytes]]:
        """The next message and its blocks.

        Raises:
            Ended, Late, Broken: as they say.
        """
        text, count, total = _HEAD.unpack(self._take(_HEAD.size))
        if total > self._largest or text > min(total, _TEXT) or count > 100_000:
            raise Broken(f"a message of {total:,} bytes")
        lengths = struct.unpack(f"<{count}Q", self._take(8 * count))
        if sum(lengths) + text != total:
            raise Broken("a message whose parts do not add up")
        raw = self._take(text)
        blocks = [self._take(length) for length in lengths]
        try:
            return json.loads(raw), blocks
        except (ValueError, RecursionError):
            raise Broken("a message that is no JSON") from None

    def _take(self, size: int) -> bytes:
        while len(self._come) < size:
            self._wait()
            try:
                part = self._end.recv(max(self._ahead, min(size - len(self._come), 2**20)))
            except OSError:
                part = b""
            if not part:
                raise Ended("the other side has ended")
            self._come += part
        found = bytes(self._come[:size])
        del self._come[:size]
        return found

    def _wait(self, *, write: bool = False) -> None:
        if self.deadline is None and not write:
            return
        left = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        ends = [self._end.fileno()]
        ready = select.select([] if write else ends, ends if write else [], [], left)
        if not any(ready[:2]):
            raise Late

    def close(self) -> None:
        """Close the socket."""
        self._end.close()
