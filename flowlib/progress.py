"""One progress bar for all that a request takes: every part of a batch, every request of a table."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm


class Progress:
    """Counts steps, of which `times` as many are to come as the first request says; shown after two seconds."""

    def __init__(self, text: str, times: int = 1) -> None:
        self.text, self.times = text, times
        self.total: int | None = None
        self.bar: Any = None

    def step(self) -> None:
        if self.bar is None:
            self.bar = tqdm(total=self.total, desc=self.text, unit="step", delay=2, leave=False, disable=None)
        self.bar.update()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


_now: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def progress(text: str, *, steps: int | None = None, times: int = 1) -> Iterator[None]:
    """Inside, `advance` moves one bar: a new one, or that of the outermost call, which holds `times` such requests.

    Args:
        text: what a new bar is called.
        steps: how often `advance` is called in here; None if the first request in here says so.
        times: how many requests there are.
    """
    outer = _now.get()
    shown = Progress(text, times) if outer is None else outer
    if steps is not None and shown.total is None:
        shown.total = steps * shown.times
    token = _now.set(shown)
    try:
        yield
    finally:
        _now.reset(token)
        if outer is None:
            shown.close()


def advance() -> None:
    """One step is done."""
    if (shown := _now.get()) is not None:
        shown.step()
