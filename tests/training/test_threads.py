"""Threads that leave a core to a busy neighbour: when they do, when they come back, and when they are left alone."""

from collections.abc import Iterator

import pytest
import torch

from flowlib.training import threads
from flowlib.training.threads import Threads

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Clock:
    """A clock that is told what time it is, and neighbours that are busy in some of the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, busy: list[tuple[float, float]]) -> None:
        self.now, self.looks, self.busy = 0.0, 0, busy
        monkeypatch.setattr(threads.time, "perf_counter", lambda: self.now)

    def crowded(self) -> bool:
        assert torch.get_num_threads() == 2  # it is the threads that are looked at
        self.looks += 1
        return any(start <= self.now < end for start, end in self.busy)

    def steps(self, count: int, seconds: float, told: Threads) -> list[int]:
        """The number of threads after each of some steps."""
        seen = []
        for _ in range(count):
            self.now += seconds
            told.after_step(seconds)
            seen.append(torch.get_num_threads())
        return seen


def test_a_quiet_training_keeps_its_threads_and_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [])
    with Threads(CPU, clock.crowded) as told:
        assert clock.steps(1000, 0.1, told) == [2] * 1000
    assert clock.looks == 1


def test_a_core_is_lent_while_a_neighbour_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [(30, 60)])
    with Threads(CPU, clock.crowded) as told:
        assert clock.steps(300, 0.1, told) == [2] * 300
        assert clock.steps(1, 10, told) == [1]  # a slow step, and the neighbour is seen
        alone = clock.steps(1000, 0.1, told)
    back = alone.index(2)
    assert 190 <= back <= 300  # at the next look after it has gone
    assert set(alone[back:]) == {2}
    assert clock.looks <= 5


def test_slow_steps_alone_lend_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [])
    with Threads(CPU, clock.crowded) as told:
        clock.steps(10, 0.1, told)
        assert clock.steps(10, 0.5, told) == [2] * 10
    assert clock.looks > 1


def test_a_neighbour_that_was_there_first_is_seen_and_the_threads_come_back_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch, [(-1, 1e9)])
    with Threads(CPU, clock.crowded) as told:
        assert torch.get_num_threads() == 1
        assert set(clock.steps(100, 1.0, told)) == {1}
    assert torch.get_num_threads() == 2


def test_a_stated_number_of_threads_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [(-1, 1e9)])
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with Threads(CPU, clock.crowded) as told:
        assert set(clock.steps(20, 5.0, told)) == {2}
    monkeypatch.delenv("OMP_NUM_THREADS")
    with Threads(torch.device("cuda"), clock.crowded) as told:
        assert set(clock.steps(20, 5.0, told)) == {2}
    torch.set_num_threads(1)
    with Threads(CPU, clock.crowded) as told:
        assert set(clock.steps(20, 5.0, told)) == {1}
    assert clock.looks == 0


def test_waits_are_what_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 20 microseconds, of which one in 1,500 takes 5 ms, are no crowd; pieces that all do are one."""
    now, pieces = 0.0, iter([2e-5] * 10**6)

    def clock() -> float:
        nonlocal now
        now += next(pieces)
        return now

    monkeypatch.setattr(threads.time, "perf_counter", clock)
    assert not threads.crowded()
    pieces = iter([5e-3] * 100)
    assert threads.crowded()
    pieces = iter(([2e-5] * 1500 + [5e-3]) * 100)
    assert not threads.crowded()
