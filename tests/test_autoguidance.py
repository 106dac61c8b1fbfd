"""Autoguidance: what is left of an error, in every kind of prediction; what does not go together is refused."""

import pytest
import torch
from examples import KINDS, SCHEDULES, Converted, mixture, normal
from torch import Tensor

from flowlib import ClassifierFreeGuidance, Field, GaussianPath, MixtureField, Model, sample_ode, sample_sde
from flowlib.autoguidance import Autoguidance
from flowlib.field import FieldOf
from flowlib.nets import MLP
from flowlib.schedules import VP, Linear, Schedule

X, Y = normal(0, 6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
T = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
METHODS = ("u", "s", "data", "noise")


class Off(FieldOf):
    """A field whose D is off by `size` times what `error` gives."""

    predicts = "data"

    def __init__(self, field: Field, size: float, seed: int = 0) -> None:
        super().__init__(field)
        self.size, self.weights = size, normal(seed, 2, 2)

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        return self.field.data(x, t, y) + self.size * torch.tanh(x @ self.weights)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=list(SCHEDULES))
@pytest.mark.parametrize("k", [1.5, 3.0, -1.0])
def test_an_error_that_is_k_times_as_large_is_taken_away(schedule: Schedule, k: float) -> None:
    right = mixture(schedule)
    guided = Autoguidance(Off(right, 0.2), Off(right, 0.2 * k), k / (k - 1))
    for method in METHODS:
        torch.testing.assert_close(getattr(guided, method)(X, T, Y), getattr(right, method)(X, T, Y))


@pytest.mark.parametrize("w", [0.0, 1.0, 1.7, 3.0, -1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_linear_in_w_whatever_the_two_predict(w: float, kind: str) -> None:
    own, weak = Off(mixture(Linear()), 0.2), Off(mixture(Linear()), 0.5, seed=1)
    guided = Autoguidance(own, Converted(weak, kind), w)
    expected = (1 - w) * weak.u(X, T, Y) + w * own.u(X, T, Y)
    torch.testing.assert_close(guided.u(X, T, Y), expected)
    torch.testing.assert_close(Autoguidance(Converted(own, kind), weak, w).u(X, T, Y), expected)


def test_at_w_1_the_weak_field_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    own, weak = mixture(Linear()), mixture(Linear())
    monkeypatch.setattr(weak, "predict", None)
    assert torch.equal(Autoguidance(own, weak, 1.0).u(X, T, Y), own.u(X, T, Y))


@pytest.mark.parametrize("own", KINDS)
@pytest.mark.parametrize("weak", KINDS)
def test_whatever_the_two_predict_samples_can_be_drawn(own: str, weak: str) -> None:
    field = mixture(Linear())
    if not (Converted(field, own).determines_at(0.0) and Converted(field, weak).determines_at(0.0)):
        return  # no sampler could start
    guided = Autoguidance(Converted(field, own), Converted(field, weak), 1.5)
    for method in ("euler", "heun", "rk4"):
        expected = sample_ode(field, X, Y, steps=8, method=method)
        torch.testing.assert_close(sample_ode(guided, X, Y, steps=8, method=method), expected, atol=0.05, rtol=0.0)


def test_two_fields_that_follow_the_label_alike_give_it_no_more_weight() -> None:
    """For two equal fields any w is the field itself, where classifier-free guidance narrows it."""
    field = mixture(Linear())
    torch.testing.assert_close(Autoguidance(field, mixture(Linear()), 5.0).s(X, T, Y), field.s(X, T, Y))
    assert not torch.allclose(ClassifierFreeGuidance(field, 5.0).s(X, T, Y), field.s(X, T, Y))


def test_samples_are_those_of_the_right_field() -> None:
    """Of Gaussians that are off alike, the weak one twice as far, the ODE's and the SDE's samples are right."""
    right, own, weak = (MixtureField(torch.tensor([[m, 1.0]]), 0.5) for m in (0.0, 0.6, 1.2))
    noise = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    guided = Autoguidance(own, weak, 2.0)
    torch.testing.assert_close(
        sample_ode(guided, noise, steps=40), sample_ode(right, noise, steps=40), atol=1e-4, rtol=0
    )
    x = sample_sde(guided, noise, steps=200, generator=torch.Generator().manual_seed(1))
    assert abs(float(x[:, 0].mean())) < 0.04 < float(sample_ode(own, noise, steps=40)[:, 0].mean())
    assert abs(float(x[:, 0].std()) - 0.5) < 0.03


def test_fields_that_do_not_go_together_are_refused() -> None:
    field = mixture(Linear())
    with pytest.raises(ValueError, match="weak must have the path Linear"):
        Autoguidance(field, mixture(VP()), 2.0)
    with pytest.raises(ValueError, match="weak must take the same guides"):
        Autoguidance(field, Model(MLP(dim_in=2, classes=None), GaussianPath()), 2.0)
    with pytest.raises(ValueError, match="weak must be a Field"):
        Autoguidance(field, torch.nn.Linear(2, 2), 2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scale must be a finite number"):
        Autoguidance(field, field, float("nan"))
    with pytest.raises(ValueError, match="y must"):
        Autoguidance(field, field, 2.0).u(X, T, torch.tensor([0, 1]))
