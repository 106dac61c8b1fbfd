"""What may hang or die runs in a process of its own, which ends with this one, or when this one is interrupted."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from flowlib.course.processes import end_with_parent

Result = TypeVar("Result")


@contextlib.contextmanager
def child(work: Callable[..., None], *arguments: Any, daemon: bool) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process that calls `work(connection, *arguments)`, and our end of the connection; killed in the end.

    When this process is itself killed, so is the child on Linux; elsewhere it ends when it next says something.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads in a state that hangs
    ours, theirs = context.Pipe()
    process = context.Process(target=_begin, args=(os.getpid(), work, theirs, *arguments), daemon=daemon)
    process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        process.kill()
        process.join()
        ours.close()


def hears(connection: Connection, seconds: float, interrupted: threading.Event | None) -> bool:
    """Wait until there is something to receive, or the other end is closed; whether it came in time.

    Raises:
        CancelledError: if the work is interrupted.
    """
    end = time.monotonic() + seconds
    while not connection.poll(max(0, min(0.2, end - time.monotonic()))):
        if interrupted is not None and interrupted.is_set():
            raise CancelledError
        if time.monotonic() >= end:
            return False
    return True


def side_by_side(works: Sequence[Callable[[threading.Event], Result]], jobs: int) -> Generator[Result]:
    """What each work gives, in their order, `jobs` at a time. Each is passed the event that interrupts it.

    When one fails, or the generator is closed, the others are interrupted.
    """
    interrupted = threading.Event()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(lambda work: work(interrupted), works)
        except BaseException:  # Ctrl-C too
            interrupted.set()
            pool.shutdown(cancel_futures=True)
            raise


def _begin(parent: int, work: Callable[..., None], connection: Connection, *arguments: Any) -> None:
    """In the process."""
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C, sent to all, is not an answer's or a lecture's error
    work(connection, *arguments)
