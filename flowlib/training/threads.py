"""Threads that leave a core to a neighbour: another process would make all of them wait for the one it has slowed down.

A step of training is many short pieces that all threads do together. Where a busy process shares the core of one
thread, that thread loses its turn for milliseconds, the others wait, and training slows down many times over
(`benchmarks/busy.py` prints how much). One thread alone moves to the core that is free. So the trainer looks whether
its threads have to wait, and then computes with one until they need not.

The number of threads changes the rounding of sums. Whoever wants the same bits beside busy neighbours says how many
threads there are to be: OMP_NUM_THREADS in the environment, or `flowlib train --threads`, is left as it is.
"""

import logging
import os
import time
from collections.abc import Callable

import torch

PROBE, GAP, SHARE = 0.03, 1e-3, 0.25  # seconds to look; a wait that counts; the share of waits that is too much
PAUSE, RETRY = 1.0, 10.0  # seconds between two looks: while steps are slow, and while a core is lent
SLOW = 2.0  # how many times as long as the fastest step a slow one takes

_log = logging.getLogger(__name__)


def crowded() -> bool:
    """Whether threads that work together have to wait for each other, as beside a process that wants the same core."""
    x, waited, begin = torch.zeros(2**17), 0.0, time.perf_counter()
    now = begin
    while now - begin < PROBE:
        x.add_(1)  # short, and shared by all threads
        before, now = now, time.perf_counter()
        waited += now - before if now - before > GAP else 0.0
    return waited > SHARE * PROBE


class Threads:
    """How many threads a training on the CPU computes with: torch's number, or one while a neighbour needs a core.

    Args:
        device: where the training computes; elsewhere than on the CPU nothing is done.
        look: what says whether threads have to wait.
    """

    def __init__(self, device: torch.device, look: Callable[[], bool] = crowded) -> None:
        self.all, self.look = torch.get_num_threads(), look
        self.free = device.type == "cpu" and self.all > 1 and "OMP_NUM_THREADS" not in os.environ
        self.lent, self.fastest, self.looked = False, float("inf"), -float("inf")

    def __enter__(self) -> "Threads":
        if self.free:
            self._consider(time.perf_counter())
        return self

    def __exit__(self, *_: object) -> None:
        if self.lent:
            torch.set_num_threads(self.all)

    def after_step(self, seconds: float) -> None:
        """Be told how long a step took, and perhaps change the number of threads for the next."""
        if not self.free:
            return
        self.fastest = min(self.fastest, seconds)
        now = time.perf_counter()
        due = now - self.looked > RETRY if self.lent else now - self.looked > PAUSE and seconds > SLOW * self.fastest
        if due:
            self._consider(now)

    def _consider(self, now: float) -> None:
        self.looked = now
        torch.set_num_threads(self.all)
        if self.look() == self.lent:
            torch.set_num_threads(1 if self.lent else self.all)
            return
        self.lent = not self.lent
        torch.set_num_threads(1 if self.lent else self.all)
        self.fastest = float("inf")
        _log.info("another process is busy: training on one thread" if self.lent else "training on all threads again")
