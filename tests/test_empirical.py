"""The closed form of finite data is the mixture's of width 0; two fields in turn are one and then the other."""

import pytest
import torch
from torch import Tensor

from flowlib import (
    ClassifierFreeGuidance,
    Cosine,
    EmpiricalField,
    Field,
    GaussianPath,
    Linear,
    MixtureField,
    Model,
    Switched,
    sample_ode,
    sample_sde,
)
from flowlib.nets import MLP


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


Z = torch.randn(30, 3, 2, generator=seeded(0), dtype=torch.float64)
Y = torch.randint(4, (30,), generator=seeded(1))
X = torch.randn(12, 3, 2, generator=seeded(2), dtype=torch.float64)


@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
@pytest.mark.parametrize("chunk", [2**24, 50])
def test_it_is_the_mixture_of_width_zero(schedule: object, chunk: int) -> None:
    path = GaussianPath(schedule)  # type: ignore[arg-type]
    field, mixture = EmpiricalField(Z, Y, path, chunk=chunk), MixtureField(Z, 0.0, labels=Y, path=path)
    asked = torch.tensor([0, 1, 2, 3, 4, 4, 0, 3, 1, 1, 2, 4])  # 4 is the null guide
    assert field.null == mixture.null == 4
    for y in (None, asked):
        for t in (0.3, 0.9, torch.linspace(0.01, 0.99, 12, dtype=torch.float64)):
            torch.testing.assert_close(field.u(X, t, y), mixture.u(X, t, y), rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(field.data(X, t, y), mixture.data(X, t, y), rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(field.s(X, t, y), mixture.s(X, t, y), rtol=1e-9, atol=1e-7)
    torch.testing.assert_close(field.u(X, 0.0), mixture.u(X, 0.0))
    guided, both = ClassifierFreeGuidance(field, 2.0), ClassifierFreeGuidance(mixture, 2.0)
    torch.testing.assert_close(guided.u(X, 0.4, asked), both.u(X, 0.4, asked))


def test_followed_to_the_end_it_leads_to_the_data() -> None:
    field = EmpiricalField(Z, Y)
    y = torch.arange(12) % 4
    for samples in (sample_ode(field, X, y, steps=200), sample_sde(field, X, y, steps=400, generator=seeded(3))):
        distance = torch.cdist(samples.flatten(1), Z.flatten(1))
        assert float(distance.min(1).values.max()) < 1e-3
        assert torch.equal(Y[distance.argmin(1)], y)


def test_without_labels_it_takes_no_guide() -> None:
    field = EmpiricalField(Z)
    torch.testing.assert_close(field.data(X, 0.5), MixtureField(Z, 0.0).data(X, 0.5))
    with pytest.raises(ValueError, match="takes no guide"):
        field.u(X, 0.5, torch.zeros(12, dtype=torch.long))


def test_finite_data_have_no_density_at_the_end() -> None:
    field = EmpiricalField(Z, Y)
    with pytest.raises(ValueError, match="no density at t = 1"):
        field.data(X, 1.0)
    assert field.determines_at(0.99)
    assert not field.determines_at(1.0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((Z, Y + 1), "y must use each of 0"),
        ((Z, Y[:5]), "y must have shape"),
        ((Z.long(),), "z must be"),
    ],
)
def test_bad_data_are_named(arguments: tuple, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        EmpiricalField(*arguments)


def test_bad_samples_are_named() -> None:
    with pytest.raises(ValueError, match=r"x must have shape \(batch, \*\(3, 2\)\), got \(12, 2\)"):
        EmpiricalField(Z).u(X[:, 0], 0.5)
    with pytest.raises(ValueError, match=r"x is torch\.float32 on cpu, but the data set is"):
        EmpiricalField(Z).u(X.float(), 0.5)


def pair() -> tuple[Field, Field, Switched]:
    early, late = EmpiricalField(Z[:, 0], Y), MixtureField(Z[:4, 1], 0.3)
    return early, late, Switched(early, late, 0.4)


def test_one_field_and_then_the_other() -> None:
    early, late, field = pair()
    x, y = X[:, 0], torch.arange(12) % 5
    for guide in (None, y):
        assert torch.equal(
            field.u(x, 0.399, guide), GaussianPath().convert(early.v(x, 0.399, guide), x, 0.399, "v", "velocity")
        )
        assert torch.equal(field.data(x, 0.4, guide), late.data(x, 0.4, guide))  # from that time on
    times = torch.linspace(0, 1, 12, dtype=torch.float64)
    mixed = field.v(x, times, y)
    for i, t in enumerate(times.tolist()):
        one = (early if t < 0.4 else late).v(x[i : i + 1], t, y[i : i + 1])
        torch.testing.assert_close(mixed[i : i + 1], one)
    assert torch.isfinite(sample_ode(field, x, y, steps=10)).all()


def test_a_sampler_switches_where_it_should() -> None:
    """The early steps by one field and the rest by the other, by hand."""
    early, late, field = pair()
    x, y = X[:, 0], torch.arange(12) % 5
    way: Tensor = x
    for i in range(10):
        way = way + 0.1 * (early if i < 4 else late).u(way, i / 10, y)
    torch.testing.assert_close(sample_ode(field, x, y, steps=10, method="euler"), way)


def test_fields_that_do_not_go_together_are_refused() -> None:
    early, late, _ = pair()
    with pytest.raises(ValueError, match="early must have the path"):
        Switched(EmpiricalField(Z[:, 0], Y, GaussianPath(Cosine())), late, 0.4)
    with pytest.raises(ValueError, match="its null guide is None, and not 4"):
        Switched(EmpiricalField(Z[:, 0]), late, 0.4)
    with pytest.raises(ValueError, match="its null guide is 4, and not 10"):
        Switched(early, Model(MLP(dim_in=2, classes=10)), 0.4)
    with pytest.raises(ValueError, match="time must"):
        Switched(early, late, 1.5)
    with pytest.raises(ValueError, match="early must be a Field"):
        Switched(torch.nn.Linear(2, 2), late, 0.4)  # type: ignore[arg-type]
