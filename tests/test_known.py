"""What a sampler knows of its guide and times is known of these alone: whatever else is asked is looked at as ever."""

import threading
from collections.abc import Callable

import pytest
import torch
from examples import mixture, normal, seeded
from torch import Tensor, nn

from flowlib import EnergyGuidance, Field, GaussianPath, Model, flow_matching_loss
from flowlib.known import Grid, always, at, is_so, known_time, remember, remember_times, remembering, trusting
from flowlib.nets import MLP
from flowlib.samplers import sample_ddim, sample_ode, sample_sde
from flowlib.schedules import Trigonometric

X, Y = normal(0, 6, 2), torch.tensor([0, 1, 2, 0, 1, 3])
ASKED: list[object] = []


class Through(Field):
    """A user's own field: another one, asked with what `change` makes of its arguments."""

    def __init__(self, change: Callable[..., tuple[Tensor, Tensor | float, Tensor | None]]) -> None:
        self.field, self.change = mixture(), change
        self.path, self.predicts, self.null = self.field.path, "v", self.field.null

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        return self.field.predict(*self.change(x, t, y))


@pytest.mark.parametrize("sample", [sample_ode, sample_sde, sample_ddim])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, t, y: (x, t + 1, y), r"t must lie in \[0, 1\]"),
        (lambda x, t, y: (x, 1.5, y), r"t must lie in \[0, 1\]"),
        (lambda x, t, y: (x, t.expand(3), y), "t must have shape"),
        (lambda x, t, y: (x, t, y + 9), r"y must lie in 0 \.\.\. 2"),
        (lambda x, t, y: (x, t, y[:3]), "y must have shape"),
        (lambda x, t, y: (x, t, y.float()), "integer labels"),
    ],
)
def test_what_a_users_field_makes_of_its_arguments_is_checked_in_every_step(
    sample: Callable[..., Tensor], change: Callable[..., tuple[Tensor, Tensor, Tensor]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sample(Through(change), X, Y, steps=3)


def test_what_an_energy_calls_is_checked_with_its_own_arguments() -> None:
    field = mixture()
    for energy, message in (
        (lambda x, t, y: field.log_prob(x, t * 3, y), "t must lie"),
        (lambda x, t, y: field.log_prob(x, t, y + 3), "y must lie"),
        (lambda x, t, y: sample_ode(field, x, y - 9, steps=1).sum(1), "y must lie"),
        (lambda x, t, y: sample_ode(field, x, y, times=torch.tensor([0.5, 0.2])).sum(1), "times must be"),
    ):
        with pytest.raises(ValueError, match=message):
            sample_ode(EnergyGuidance(field, energy), X, Y, steps=4)


def test_a_sampler_within_a_sampler_knows_what_both_know() -> None:
    """An energy that looks ahead by a sampler of its own gives what it gives outside."""
    field = mixture()

    def energy(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        ahead = sample_ode(field, x.detach(), y, steps=2, method="euler")
        return -(x - ahead).square().sum(1)

    guided = EnergyGuidance(field, energy)
    states = sample_ode(guided, X, Y, steps=3, method="euler", trajectory=True)
    for i in range(3):
        expected = states[i] + guided.u(states[i], i / 3, Y) / 3
        torch.testing.assert_close(states[i + 1], expected, rtol=1e-12, atol=1e-12)


def test_nothing_is_known_after_a_sampler_that_failed() -> None:
    seen: list[Tensor] = []

    def note(x: Tensor, t: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        seen.append(t)
        if len(seen) > 2:
            raise RuntimeError("on purpose")
        return x, t, y

    with pytest.raises(RuntimeError, match="on purpose"):
        sample_ode(Through(note), X, Y, steps=5, method="euler")
    assert known_time(seen[0], X) is None
    reads: list[int] = []
    for _ in range(2):
        assert is_so(Y, None, "asked", lambda: bool(reads.append(1)) or True)
    assert len(reads) == 2


def test_overridden_methods_are_asked_in_every_step() -> None:
    """A field whose `u`, `pair` or `has_velocity_at` says something else is heard, and told times as numbers."""

    class Still(Through):
        def u(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
            return torch.zeros_like(x)

        def pair(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return torch.full_like(x, 3.0), torch.zeros_like(x)

        def has_velocity_at(self, t: float) -> bool:
            ASKED.append(t)
            return t < 0.5

    field = Still(lambda x, t, y: (x, t, y))
    states = sample_ode(field, X, steps=4, method="euler", trajectory=True)
    assert torch.equal(states[0], states[2])  # u says 0
    torch.testing.assert_close(states[3], 3 * field.path.schedule.alpha(torch.full_like(X, 0.75)))  # pair says D = 3
    assert set(ASKED) == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert all(type(t) is float for t in ASKED)


def test_threads_do_not_share_what_they_know() -> None:
    fields = [mixture(), mixture(Trigonometric(), std=0.2)]
    alone = [sample_ode(field, X, Y, steps=40) for field in fields]
    found: list[Tensor | None] = [None] * 8

    def work(i: int) -> None:
        found[i] = sample_ode(fields[i % 2], X, Y, steps=40)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, result in enumerate(found):
        assert result is not None
        assert torch.equal(result, alone[i % 2])
    with remembering():
        remember(Y)
        unknown: list[bool] = []
        reads: list[int] = []
        is_so(Y, None, "asked", lambda: True)
        other = threading.Thread(target=lambda: unknown.append(is_so(Y, None, "asked", lambda: bool(reads.append(1)))))
        other.start()
        other.join()
    assert (unknown, reads) == ([False], [1])


class Net(nn.Module):
    """Guided, and with an operation that autocast runs in half the precision."""

    null = 3

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.layer(x) + (t + y)[:, None]


def test_compiled_networks_and_losses_and_autocast_give_what_they_gave() -> None:
    torch.manual_seed(0)
    net, x, y = Net(), X.float(), Y
    model, compiled = Model(net), Model(torch.compile(net, backend="eager"))
    for sample in (sample_ode, sample_ddim):
        torch.testing.assert_close(sample(compiled, x, y, steps=3), sample(model, x, y, steps=3))
    loss = torch.compile(flow_matching_loss, backend="eager")
    expected = flow_matching_loss(model, x, y, generator=seeded(0))
    torch.testing.assert_close(loss(model, x, y, generator=seeded(0)), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = [sample(model, x, y, steps=4) for sample in (sample_ode, sample_ddim)]
        rough += [sample_sde(model, x, y, steps=4, generator=seeded(1))]
    exact = [sample(model, x, y, steps=4) for sample in (sample_ode, sample_ddim)]
    exact += [sample_sde(model, x, y, steps=4, generator=seeded(1))]
    for one, other in zip(rough, exact, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)
        assert not torch.equal(one, other)


def test_inference_mode_samples_too() -> None:
    model = Model(MLP(2, width=8, depth=1, classes=3, dim=8).double())
    with torch.inference_mode():
        found = sample_sde(model, X.clone(), Y.clone(), steps=3, generator=seeded(0))
    assert torch.equal(found, sample_sde(model, X, Y, steps=3, generator=seeded(0)))


def test_a_grid_answers_for_each_of_its_times_and_for_no_other() -> None:
    path, times = GaussianPath(Trigonometric()), torch.linspace(0, 1, 5, dtype=torch.float64)
    asked: list[Tensor] = []

    def early(t: Tensor) -> Tensor:
        asked.append(t)
        return t < 0.6

    def double(t: Tensor) -> tuple[Tensor]:
        asked.append(t)
        return (2 * t,)

    with remembering():
        grid: Grid = remember_times(times, X)
        assert [always(t, path, "early", early) for t in grid.points] == [True, True, True, False, False]
        assert [float(at(t, path, "double", double)[0]) for t in grid.points] == [0.0, 0.5, 1.0, 1.5, 2.0]
        assert len(asked) == 2
        assert not always(grid.points[4].clone(), path, "early", early)
        assert always(grid.points[0], GaussianPath(), "early", early)  # another one's question
        assert len(asked) == 4
        assert known_time(0.25, X) is grid.points[1]
        assert known_time(0.26, X) is None
        assert known_time(0.25, X.float()) is None
        with remembering():
            assert known_time(grid.points[2], X) is grid.points[2]
    assert known_time(0.25, X) is None
    assert known_time(grid.points[2], X) is None


def test_inside_trust_nothing_is_read_and_afterwards_everything_is() -> None:
    asked: list[bool] = []

    def read() -> bool:
        asked.append(True)
        return False

    with trusting():
        assert is_so(Y, None, "fact", read)
    assert not asked
    assert not is_so(Y, None, "fact", read)
    assert asked
