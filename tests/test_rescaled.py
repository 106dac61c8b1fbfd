"""Rescaled guidance: its formula, no dependence on what is predicted, and that it holds the size of samples."""

import pytest
import torch
from torch import Tensor

from flowlib import ClassifierFreeGuidance, Field, MixtureField, sample_ode
from flowlib.rescaled import RescaledGuidance

MEANS = torch.tensor([[-1.0, 0.5, 0.2], [1.0, -0.5, 0.4], [0.3, 1.2, -0.8]], dtype=torch.float64)
FIELD, Y = MixtureField(MEANS, 0.4), torch.tensor([0, 1, 2, 3, 0])
X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class As(Field):
    """A field that predicts another kind."""

    def __init__(self, field: Field, predicts: str) -> None:
        self.field, self.path, self.null, self.predicts = field, field.path, field.null, predicts

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        return self.path.convert(self.field.predict(x, t, y), x, t, self.field.predicts, self.predicts)


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_the_formula(share: float) -> None:
    found = RescaledGuidance(FIELD, 4.0, share).data(X, 0.4, Y)
    conditional, guided = FIELD.data(X, 0.4, Y), ClassifierFreeGuidance(FIELD, 4.0).data(X, 0.4, Y)
    held = guided * conditional.std(1, keepdim=True) / guided.std(1, keepdim=True)
    assert torch.allclose(found, share * held + (1 - share) * guided, atol=1e-12)


def test_it_does_not_depend_on_the_kind_of_prediction() -> None:
    expected = RescaledGuidance(FIELD, 4.0).data(X, 0.4, Y)
    for kind in ("data", "noise", "velocity", "score", "v"):
        assert torch.allclose(RescaledGuidance(As(FIELD, kind), 4.0).data(X, 0.4, Y), expected, atol=1e-10)


def test_without_a_scale_or_a_guide_nothing_is_done() -> None:
    assert torch.equal(RescaledGuidance(FIELD, 1.0).data(X, 0.4, Y), FIELD.data(X, 0.4, Y))
    assert torch.equal(RescaledGuidance(FIELD, 3.0).data(X, 0.4), FIELD.data(X, 0.4))
    one = MixtureField(torch.ones(1, 1, 4, 4, dtype=torch.float64), 0.0)  # a picture of one grey has no spread
    assert bool(torch.isfinite(RescaledGuidance(one, 3.0).data(one.means, 0.5, torch.tensor([0]))).all())


def test_samples_keep_the_size_of_the_data() -> None:
    x = torch.randn(2000, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.arange(2000) % 3
    size = [
        float(sample_ode(field, x, y, steps=40, denoise_last=True).std(1).mean())
        for field in (FIELD, ClassifierFreeGuidance(FIELD, 6.0), RescaledGuidance(FIELD, 6.0, 1.0))
    ]
    assert size[1] > 1.1 * size[0]
    assert abs(size[2] - size[0]) < 0.5 * abs(size[1] - size[0])


def test_bad_numbers_are_named() -> None:
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="rescale must"):
            RescaledGuidance(FIELD, 3.0, value)
