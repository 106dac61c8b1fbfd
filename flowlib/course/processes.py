"""Processes of the course's tools that end with the one that has started them."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator

_PARENTS_DEATH = 1  # of prctl


def end_with_parent(parent: int | None = None) -> None:
    """Be killed when the parent ends (Linux only), or more exactly the thread of it that has started this process.

    Args:
        parent: its id; if it has ended already, which would go unnoticed, end at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENTS_DEATH, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """While it lasts, a process that is asked to end leaves by an exception, so that what there is is kept, and what
    runs for it is ended. A signal that is ignored (SIGHUP under nohup) still is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = [signal.signal(number, lambda number, _: sys.exit(128 + number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
