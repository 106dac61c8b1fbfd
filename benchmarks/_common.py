"""Timing that a busy machine disturbs little: what is compared runs in turns, and medians are kept."""

import statistics
import time
from collections.abc import Callable, Mapping

Runs = Mapping[str, Callable[[], object]]


def interleave(runs: Runs, repetitions: int, warmup: int = 1) -> dict[str, list[float]]:
    """The seconds of each of `repetitions` calls of each run, after `warmup` calls that are not timed.

    The runs take turns, and each round starts with another one, so that a slow minute slows all of them alike.
    """
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(-warmup, repetitions):
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            runs[name]()
            if repetition >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, base: str) -> float:
    """The median over rounds of how many times as long `name` took as `base`."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[base], strict=True))
