"""One bar for a request of many parts, and for a table of many requests; it knows how much is to come."""

from typing import Any

import pytest
from examples import mixture, normal

from flowlib import progress as module
from flowlib.chains import sample_ancestral
from flowlib.guidance import EnergyGuidance
from flowlib.progress import advance, progress
from flowlib.samplers import sample_ddim, sample_ode, sample_sde
from flowlib.schedules import Trigonometric

X = normal(0, 7, 2)


class Bar:
    """Stands for tqdm's, and keeps what it was told."""

    made: list["Bar"] = []  # noqa: RUF012

    def __init__(self, total: int | None = None, **more: Any) -> None:
        self.total, self.done, self.closed = total, 0, False
        Bar.made.append(self)

    def update(self) -> None:
        self.done += 1

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Bar]:
    monkeypatch.setattr(module, "tqdm", Bar)
    monkeypatch.setattr(Bar, "made", [])
    return Bar.made


@pytest.mark.parametrize("sample", [sample_ode, sample_sde, sample_ddim, sample_ancestral])
def test_all_parts_of_a_batch_move_one_bar(sample: Any, bars: list[Bar]) -> None:
    sample(mixture(Trigonometric()), X, steps=5, batch_size=3)
    assert [(bar.total, bar.done, bar.closed) for bar in bars] == [(15, 15, True)]


def test_several_requests_move_one_bar(bars: list[Bar]) -> None:
    with progress("all", times=2):
        for _ in range(2):
            sample_ode(mixture(), X, steps=4, batch_size=4)
        assert not bars[0].closed
    assert [(bar.total, bar.done, bar.closed) for bar in bars] == [(16, 16, True)]
    advance()  # outside, nothing is shown
    assert len(bars) == 1


def test_a_bar_is_closed_when_a_field_fails(bars: list[Bar]) -> None:
    guided = EnergyGuidance(mixture(), lambda x, t, y: x.sum(1) if float(t[0]) < 0.4 else x)
    with pytest.raises(ValueError, match="log_prob"):
        sample_sde(guided, X, steps=4)
    sample_ode(mixture(), X, steps=4)
    assert [(bar.total, bar.done, bar.closed) for bar in bars] == [(4, 2, True), (4, 4, True)]
