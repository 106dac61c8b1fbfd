"""Guidance (PROPERTY 24): exact where it is known, the same in every kind of prediction, one call of the network."""

import math

import pytest
import torch
from examples import KINDS, SCHEDULES, Converted, mixture, normal, seeded
from torch import Tensor, nn

from flowlib.fields import Field, MixtureField, Model
from flowlib.guidance import ClassifierFreeGuidance, EnergyGuidance
from flowlib.paths import GaussianPath
from flowlib.regression import drop_guide
from flowlib.samplers import sample_ddim, sample_ode, sample_sde
from flowlib.schedules import VP, Cosine, Linear, Schedule, SquareRoot

X, Y = normal(0, 8, 2), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
T = torch.linspace(0.1, 0.9, 8, dtype=torch.float64)
ALL = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=list(SCHEDULES))
METHODS = ("u", "s", "data", "noise")


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert float((found - expected).abs().max() / expected.abs().max()) < tolerance


def classifier(field: MixtureField):
    """Bayes' own: log p_t(y|x) up to a constant, log p_t(x|y) - log p_t(x) + log p(y)."""
    return lambda x, t, y: field.log_prob(x, t, y) - field.log_prob(x, t)


@ALL
@pytest.mark.parametrize("method", METHODS)
def test_classifier_free_guidance_is_exact_at_0_and_1_and_linear_between_and_beyond(
    schedule: Schedule, method: str
) -> None:
    """Property 24: w = 1 means no extra guidance; negative w is allowed."""
    field = mixture(schedule)
    free, conditional = getattr(field, method)(X, T), getattr(field, method)(X, T, Y)
    for w in (0, 1):
        expected = conditional if w else free
        assert torch.equal(getattr(ClassifierFreeGuidance(field, w), method)(X, T, Y), expected)
    for w in (-1.0, 0.5, 1 + 1e-9, 3.0):
        close(getattr(ClassifierFreeGuidance(field, w), method)(X, T, Y), (1 - w) * free + w * conditional, 1e-11)


@ALL
@pytest.mark.parametrize("kind", KINDS)
def test_guiding_commutes_with_conversion(schedule: Schedule, kind: str) -> None:
    """Property 24: the same guided velocity and score, whichever prediction is guided; both kinds of guidance."""
    field = mixture(schedule)
    other = Converted(field, kind)
    for make in (
        lambda field: ClassifierFreeGuidance(field, 2.5),
        lambda guided: EnergyGuidance(guided, classifier(field), 2.5),
    ):
        for method in ("u", "s"):
            close(getattr(make(other), method)(X, T, Y), getattr(make(field), method)(X, T, Y), 1e-12)


@ALL
def test_bayes_own_classifier_at_scale_1_gives_the_conditional_field(schedule: Schedule) -> None:
    """Property 24."""
    field = mixture(schedule)
    guided = EnergyGuidance(field, classifier(field), 1.0)
    for method in METHODS:
        close(getattr(guided, method)(X, T, Y), getattr(field, method)(X, T, Y), 1e-10)


@ALL
def test_energy_guidance_adds_w_b_times_the_gradient_to_the_velocity(schedule: Schedule) -> None:
    """u + w b grad log p(y|x), b = (alpha' beta^2 - beta' beta alpha)/alpha; and w grad to the score."""
    field = mixture(schedule)
    x = X.clone().requires_grad_()
    gradient = torch.autograd.grad(classifier(field)(x, T, Y).sum(), x)[0]
    t = T[:, None]
    alpha, beta, dalpha, dbeta = (f(t) for f in (schedule.alpha, schedule.beta, schedule.dalpha, schedule.dbeta))
    b = (dalpha * beta**2 - dbeta * beta * alpha) / alpha
    guided = EnergyGuidance(field, classifier(field), 1.7)
    close(guided.u(X, T, Y), field.u(X, T) + 1.7 * b * gradient, 1e-11)
    close(guided.s(X, T, Y), field.s(X, T) + 1.7 * gradient, 1e-11)


def test_energy_guidance_can_guide_the_conditional_field_further() -> None:
    """Both at w make classifier-free guidance at 1 + w: the implicit classifier of Ho & Salimans."""
    field = mixture()
    both = EnergyGuidance(field, classifier(field), 1.5, conditional=True)
    close(both.u(X, T, Y), ClassifierFreeGuidance(field, 2.5).u(X, T, Y), 1e-10)


@pytest.mark.parametrize("name", ["linear", "trigonometric", "square-root", "cosine"])
def test_energy_guidance_adds_nothing_to_pure_noise(name: str) -> None:
    """At t = 0 the sample says nothing about the guide; samples at other times in the batch are guided as ever."""
    field = mixture(SCHEDULES[name])

    def spoilt(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        raise AssertionError("asked at t = 0")

    assert torch.equal(EnergyGuidance(field, spoilt).predict(X, 0.0, Y), field.predict(X, 0.0))
    t = T.clone()
    t[0] = 0
    found = EnergyGuidance(field, classifier(field)).predict(X, t, Y)
    assert torch.equal(found[0], field.predict(X, t)[0])
    close(found[1:], field.predict(X, t, Y)[1:], 1e-10)


@pytest.mark.parametrize("schedule", [VP(), Cosine(), SquareRoot()], ids=repr)
def test_gradient_guidance_stays_finite_where_the_velocity_is_not(schedule: Schedule) -> None:
    """A network's own velocity is finite at t = 1; the gradient's weight, 0 times infinity, is not defined."""

    class Zero(nn.Module):
        def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
            return torch.zeros_like(x)

    guided = EnergyGuidance(Model(Zero(), GaussianPath(schedule)), lambda x, t, y: -(x**2).sum(1))
    assert not guided.has_velocity_at(1.0)
    with pytest.raises(ValueError, match="at t = 1"):
        guided.u(X, 1.0)
    times = torch.linspace(0.1, 1, 11, dtype=torch.float64)
    for method in ("heun", "rk4", "euler"):
        assert bool(torch.isfinite(sample_ode(guided, X, times=times, method=method)).all())


class Counter(nn.Module):
    """A guided network of images that treats each channel apart and counts its calls."""

    null = 10

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.batches.append(len(x))
        channel = torch.arange(1, x.shape[1] + 1, dtype=x.dtype)[:, None, None]
        return x + channel * (y + t)[:, None, None, None]


@pytest.mark.parametrize(("scale", "batch"), [(0.0, 5), (1.0, 5), (2.0, 10), (-1.0, 10)])
def test_classifier_free_guidance_is_one_batched_call(scale: float, batch: int) -> None:
    net = Counter()
    guided = ClassifierFreeGuidance(Model(net), scale)
    for t in (0.5, torch.tensor(0.5), torch.full((5,), 0.5)):
        guided.u(normal(0, 5, 4, 3, 3), t, torch.arange(5))
    assert net.batches == [batch] * 3


def test_no_guide_means_no_guidance() -> None:
    field = mixture()
    assert torch.equal(ClassifierFreeGuidance(field, 3.0).u(X, T), field.u(X, T))


def test_all_channels_are_guided() -> None:
    """Property 24; museum: guidance on 3 of 4 channels."""
    model, x, y = Model(Counter()), normal(0, 5, 4, 3, 3), torch.arange(5)
    free, conditional = model.u(x, 0.5), model.u(x, 0.5, y)
    extra = ClassifierFreeGuidance(model, 3.0).u(x, 0.5, y) - conditional
    torch.testing.assert_close(extra, 2 * (conditional - free))
    assert bool((extra.abs().amin(dim=(0, 2, 3)) > 0).all())
    energy = EnergyGuidance(model, lambda x, t, y: x.flatten(1).sum(1)).u(x, 0.5, y) - free
    torch.testing.assert_close(energy, torch.ones_like(x))  # b = 1 at the middle of the linear path


def test_guides_and_samples_are_never_modified() -> None:
    """Museum: labels changed in place."""
    field, x, y, t = mixture(), X.clone(), Y.clone(), T.clone()
    versions = x._version, y._version, t._version
    for guided in (ClassifierFreeGuidance(field, 2.0), EnergyGuidance(field, classifier(field), 2.0)):
        guided.u(x, t, y)
        sample_ode(guided, x, y, steps=2)
        sample_sde(guided, x, y, steps=2)
        sample_ddim(guided, x, y, steps=2)
    assert (x._version, y._version, t._version) == versions
    assert not x.requires_grad
    assert torch.equal(y, Y)


@pytest.mark.parametrize("kind", KINDS)
def test_guided_samples_follow_their_guide(kind: str) -> None:
    """Every sample lands nearest to a component with its label; from a prediction that is useless at an end as well."""
    field = mixture(Linear(), std=0.1)
    times = torch.linspace(0.02, 1, 51, dtype=torch.float64)
    for guided in (
        ClassifierFreeGuidance(Converted(field, kind), 2.0),
        EnergyGuidance(Converted(field, kind), classifier(field), 2.0),
    ):
        for sample in (sample_ode, sample_ddim):
            z = sample(guided, X, Y, times=times)
            nearest = field.labels[torch.cdist(z, field.means).argmin(1)]
            assert torch.equal(nearest, Y)


def test_guidance_of_guidance_composes() -> None:
    """A guided field is a field: it can be guided again, here by an energy whose gradient is a constant."""
    field = mixture(Linear())
    push = torch.tensor([1.0, -2.0], dtype=torch.float64)
    inner = ClassifierFreeGuidance(field, 2.0)
    outer = EnergyGuidance(inner, lambda x, t, y: x @ push, 1.0, conditional=True)
    close(outer.s(X, T, Y), inner.s(X, T, Y) + push, 1e-12)


def test_a_field_without_a_guide_cannot_be_guided_by_one() -> None:
    class Plain(nn.Module):
        def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
            return x

    with pytest.raises(ValueError, match="takes no guide"):
        ClassifierFreeGuidance(Model(Plain()), 2.0)
    with pytest.raises(ValueError, match="field must be a Field"):
        ClassifierFreeGuidance(Plain(), 2.0)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), "2", None, True])
def test_a_scale_that_is_no_finite_number_is_refused(scale: object) -> None:
    for make in (lambda: ClassifierFreeGuidance(mixture(), scale), lambda: EnergyGuidance(mixture(), len, scale)):
        with pytest.raises(ValueError, match="scale must be a finite number"):
            make()


def test_an_energy_of_the_wrong_shape_is_refused() -> None:
    field: Field = EnergyGuidance(mixture(), lambda x, t, y: x.sum())
    with pytest.raises(ValueError, match=r"log_prob must return shape \(8,\)"):
        field.u(X, T)


def test_an_unguided_field_is_guided_by_the_labels_of_a_classifier() -> None:
    """Bayes' rule on a mixture without guide: its field, and log p_t(y|x), make that of the label's components."""
    field = mixture()
    unguided, y = Converted(field, "v"), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    unguided.null = None
    guided = EnergyGuidance(unguided, lambda x, t, y: field.log_prob(x, t, y) - field.log_prob(x, t))
    times = torch.linspace(0.02, 1, 20, dtype=torch.float64)
    expected = sample_ode(field, X, y, times=times)
    torch.testing.assert_close(sample_ode(guided, X, y, times=times), expected, rtol=0, atol=1e-9)
    for wrong in (y[:5], [0] * 8, y[0]):
        with pytest.raises(ValueError, match=r"^y must be a tensor with one guide a sample, 8"):
            sample_ode(guided, X, wrong, steps=2)


class Pull(torch.nn.Module):
    """The velocity of a path to the point y of each sample; its null guide is the origin, of any shape."""

    def __init__(self, null: object) -> None:
        super().__init__()
        self.null = null
        self.one = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.one * (y.reshape(len(x), -1) - x)


@pytest.mark.parametrize("null", [0.0, torch.zeros(()), torch.zeros(2)], ids=["a number", "a scalar", "a vector"])
def test_guides_may_be_numbers_or_vectors(null: object) -> None:
    """A guide is dropped, doubled and left out like a label, and one of another shape is refused by name."""
    model = Model(Pull(null))
    sides = () if isinstance(null, float) else tuple(null.shape)
    y = normal(3, 8, *sides)
    end = sample_ode(model, X, y, steps=200)
    torch.testing.assert_close(end, (1 - math.exp(-1)) * y.reshape(8, -1) + math.exp(-1) * X, rtol=0, atol=1e-5)
    assert torch.equal(sample_ode(model, X, steps=4), sample_ode(model, X, torch.zeros_like(y), steps=4))
    twice = sample_ode(ClassifierFreeGuidance(model, 2.0), X, y, steps=50)
    torch.testing.assert_close(twice, sample_ode(model, X, 2 * y, steps=50), rtol=0, atol=1e-12)
    dropped = drop_guide(model, y, 0.5, seeded(0))
    rows = (dropped.reshape(8, -1) == 0).all(1)
    assert 0 < int(rows.sum()) < 8
    assert torch.equal(dropped[~rows], y[~rows])
    for wrong in (y[:7], normal(3, 8, 3), normal(3, 8, 2, 2), 1.0, [1.0] * 8):
        with pytest.raises(ValueError, match=r"^y must be a tensor with one guide a sample, \(8,"):
            sample_ode(model, X, wrong, steps=2)


def test_a_network_of_ones_own_is_told_how_to_take_a_guide() -> None:
    with pytest.raises(ValueError, match=r"^y was given, but Pull takes no guide: give the network a `null`"):
        sample_ode(Model(Pull(None)), X, normal(3, 8, 2), steps=2)
