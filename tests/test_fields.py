"""Fields: the exact mixture obeys the theorems (PROPERTIES 5, 6, 7, 9)."""

from collections.abc import Callable

import pytest
import torch
from examples import KINDS, SCHEDULES, Converted, gaussian, mixture, normal, seeded
from torch import Tensor

from flowlib import ClassifierFreeGuidance, EnergyGuidance, Field, MixtureField, Switched
from flowlib.autoguidance import Autoguidance
from flowlib.chains import Clipped
from flowlib.field import FieldOf
from flowlib.rescaled import RescaledGuidance
from flowlib.schedules import Linear, Schedule, SquareRoot, Trigonometric
from flowlib.systems.inpainting import ReplacedPixels

FIELDS = pytest.mark.parametrize("field", [mixture(s) for s in SCHEDULES.values()], ids=list(SCHEDULES))
LABELS = [None, torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])]  # 3 is the null guide
GUIDES = pytest.mark.parametrize("y", LABELS, ids=["unguided", "guided"])
TIMES = torch.linspace(0.05, 0.95, 8, dtype=torch.float64)


def points(field: MixtureField) -> Tensor:
    """Eight points where the mixture has mass, one for each of TIMES."""
    return field.path.sample(field.sample(8, seeded(1))[0], TIMES, normal(2, 8, 2))


def jacobian(f, x: Tensor) -> Tensor:  # (B, D) -> (B, D, D), sample by sample
    return torch.stack([torch.func.jacrev(lambda p, i=i: f(p[None], slice(i, i + 1))[0])(x[i]) for i in range(len(x))])


def log_prob_gradient(field: MixtureField, x: Tensor, y: Tensor | None) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(field.log_prob(x, TIMES, y).sum(), x)[0]


@FIELDS
@GUIDES
def test_mixture_score_is_the_gradient_of_its_log_density(field: MixtureField, y: Tensor | None) -> None:
    """Property 5."""
    x = points(field)
    torch.testing.assert_close(field.s(x, TIMES, y), log_prob_gradient(field, x, y), rtol=1e-10, atol=1e-10)


@FIELDS
@GUIDES
def test_mixture_obeys_the_continuity_equation(field: MixtureField, y: Tensor | None) -> None:
    """Property 6: d/dt log p + div u + u . grad log p = 0, relative to its terms where they are big."""
    x = points(field)
    change = torch.func.jvp(lambda t: field.log_prob(x, t, y), (TIMES,), (torch.ones_like(TIMES),))[1]
    u = field.u(x, TIMES, y)
    slope = jacobian(lambda p, i: field.u(p, TIMES[i], None if y is None else y[i]), x)
    divergence = slope.diagonal(dim1=1, dim2=2).sum(1)
    transport = (u * log_prob_gradient(field, x, y)).sum(1)
    residual = change + divergence + transport
    assert float((residual / (1 + divergence.abs() + transport.abs())).abs().max()) < 1e-9


@FIELDS
@pytest.mark.parametrize("g", [0.0, 1.0, 3.0**0.5])
def test_mixture_obeys_the_fokker_planck_equation_for_every_diffusion(field: MixtureField, g: float) -> None:
    """Property 7: d/dt log p = -div f - f . grad log p + g^2/2 (lap log p + |grad log p|^2), f = u + g^2/2 s.

    The drift is the field's own; the density's derivatives are automatic.
    """
    x = points(field)
    change = torch.func.jvp(lambda t: field.log_prob(x, t), (TIMES,), (torch.ones_like(TIMES),))[1]

    def drift(p: Tensor, i: slice) -> Tensor:
        return field.u(p, TIMES[i]) + g**2 / 2 * field.s(p, TIMES[i])

    def log_gradient(p: Tensor, i: slice) -> Tensor:
        return torch.func.grad(lambda q: field.log_prob(q, TIMES[i]).sum())(p)

    gradient = log_prob_gradient(field, x, None)
    laplacian = jacobian(log_gradient, x).diagonal(dim1=1, dim2=2).sum(1)
    divergence = jacobian(drift, x).diagonal(dim1=1, dim2=2).sum(1)
    transport = (drift(x, slice(None)) * gradient).sum(1)
    diffusion = g**2 / 2 * (laplacian + (gradient**2).sum(1))
    residual = change + divergence + transport - diffusion
    assert float((residual / (1 + divergence.abs() + transport.abs() + diffusion.abs())).abs().max()) < 1e-8


@FIELDS
def test_marginal_fields_are_posterior_means_of_the_conditional_ones(field: MixtureField) -> None:
    """Property 9, on a finite data set, where the posterior over data points is Bayes' rule."""
    finite = MixtureField(field.means, 0.0, field.weights, path=field.path)
    x = points(field)
    alpha, beta = (level(TIMES)[:, None] for level in (field.path.schedule.alpha, field.path.schedule.beta))
    log_normal = torch.stack(
        [torch.distributions.Normal(alpha * z, beta).log_prob(x).sum(1) for z in finite.means], dim=1
    )
    posterior = torch.softmax(log_normal + finite.weights.log(), dim=1)
    for marginal, conditional in ((finite.u, field.path.velocity), (finite.s, field.path.score)):
        each = torch.stack([conditional(x, z, TIMES) for z in finite.means], dim=1)
        expected = (posterior[..., None] * each).sum(1)
        torch.testing.assert_close(marginal(x, TIMES), expected, rtol=1e-10, atol=1e-10)


@FIELDS
def test_the_unguided_density_is_the_weighted_sum_of_the_guided_ones(field: MixtureField) -> None:
    x, shares = points(field), torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    guided = torch.stack([field.log_prob(x, TIMES, torch.full((8,), y)) for y in range(3)], dim=1)
    torch.testing.assert_close(torch.logsumexp(guided + shares.log(), 1), field.log_prob(x, TIMES))
    null = torch.full((8,), 3)
    torch.testing.assert_close(field.u(x, TIMES, null), field.u(x, TIMES), rtol=1e-13, atol=1e-13)


def test_mixture_density_integrates_to_one() -> None:
    field = mixture(Linear())
    axis = torch.linspace(-8, 8, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    for t in (0.0, 0.6, 1.0):
        assert float(field.log_prob(grid, t).exp().sum() * 0.04**2) == pytest.approx(1, abs=1e-9)


def test_mixture_samples_have_its_shares_means_and_spreads() -> None:
    """Within 5 standard errors."""
    field, count = mixture(), 20000
    z, y = field.sample(count, seeded(0))
    for label, share in enumerate((0.5, 0.3, 0.2)):
        assert float((y == label).double().mean()) == pytest.approx(share, abs=5 * (share / count) ** 0.5)
    torch.testing.assert_close(z[y == 1].mean(0), field.means[1], rtol=0, atol=5 * 0.6 / (0.29 * count) ** 0.5)
    torch.testing.assert_close(z[y == 2].std(0), torch.full((2,), 0.3).double(), rtol=5 / (0.38 * count) ** 0.5, atol=0)
    again, labels = field.sample(count, seeded(0))
    assert torch.equal(z, again)
    assert torch.equal(y, labels)


@FIELDS
def test_mixture_answers_at_both_ends_of_time(field: MixtureField) -> None:
    """Where velocity or score do not exist, data and noise still do; only std = 0 at beta = 0 has no density."""
    x = normal(0, 8, 2)
    for t in (0.0, 1.0):
        for part in field.pair(x, t):
            assert bool(torch.isfinite(part).all())
    if field.has_velocity_at(0.0):
        assert bool(torch.isfinite(field.u(x, 0.0)).all())


def test_a_finite_data_set_has_no_density_at_the_end() -> None:
    finite = mixture(std=0.0)
    assert not finite.has_velocity_at(1.0)
    with pytest.raises(ValueError, match="no density at t = 1"):
        finite.u(normal(0, 4, 2), 1.0)


def test_posterior_of_far_away_points_neither_overflows_nor_vanishes() -> None:
    finite = mixture(std=0.0)
    data = finite.data(1e6 * normal(0, 8, 2), 0.999)
    nearest = torch.cdist(data, finite.means).min(1).values
    assert float(nearest.max()) < 1e-9


@FIELDS
@pytest.mark.parametrize("kind", KINDS)
def test_a_field_says_the_same_whatever_it_predicts(field: MixtureField, kind: str) -> None:
    x, other = points(field), Converted(field, kind)
    for method in ("u", "s", "data", "noise"):
        found, expected = getattr(other, method)(x, TIMES), getattr(field, method)(x, TIMES)
        assert float((found - expected).abs().max() / expected.abs().max()) < 1e-11
    assert torch.allclose(torch.stack(other.pair(x, TIMES)), torch.stack(field.pair(x, TIMES)), rtol=1e-10)


def test_a_mixture_of_images_is_the_mixture_of_their_pixels() -> None:
    means, x = normal(0, 3, 2, 4, 4), normal(1, 5, 2, 4, 4)
    images, flat = MixtureField(means, 0.3), MixtureField(means.flatten(1), 0.3)
    assert torch.equal(images.u(x, 0.4).flatten(1), flat.u(x.flatten(1), 0.4))
    assert torch.equal(images.log_prob(x, 0.4), flat.log_prob(x.flatten(1), 0.4))
    assert images.sample(6, seeded(0))[0].shape == (6, 2, 4, 4)


def test_each_sample_has_its_own_time_and_label_and_disturbs_no_other() -> None:
    field, x = mixture(), normal(0, 8, 2)
    together = field.u(x, TIMES, LABELS[1])
    for i in range(8):
        alone = field.u(x[i : i + 1], float(TIMES[i]), LABELS[1][i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-13, atol=1e-13)
    spoilt = x.clone()
    spoilt[0] = torch.nan
    assert torch.equal(field.u(spoilt, TIMES, LABELS[1])[1:], together[1:])


@pytest.mark.parametrize(
    ("schedule", "kind", "start", "end"),
    [
        (Linear(), "velocity", True, True),
        (Linear(), "v", True, True),
        (Linear(), "noise", False, True),
        (Linear(), "data", True, False),
        (Linear(), "score", False, False),
        (SquareRoot(), "v", False, False),
        (SquareRoot(), "velocity", True, True),  # a network's own output is finite, whatever it was trained on
        (Trigonometric(), "v", True, True),
    ],
)
def test_has_velocity_at_says_where_u_can_be_asked_for(schedule: Schedule, kind: str, start: bool, end: bool) -> None:
    field = Converted(gaussian(0.5, 0.5, schedule), kind)
    assert (field.has_velocity_at(0.0), field.has_velocity_at(1.0)) == (start, end)
    assert field.has_velocity_at(0.5)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=list(SCHEDULES))
def test_a_mixture_that_has_a_density_at_the_end_has_a_score_there(schedule: Schedule) -> None:
    """That of its log_prob; the other kinds of prediction have no finite one, because noise is all gone."""
    field, x, y = mixture(schedule), normal(0, 5, 2).requires_grad_(), torch.tensor([0, 1, 2, 3, 0])
    for t in (1.0, 0.5, 0.0):
        expected = torch.autograd.grad(field.log_prob(x, t, y).sum(), x)[0]
        torch.testing.assert_close(field.s(x.detach(), t, y), expected, rtol=1e-10, atol=1e-10)
    if schedule.beta(torch.ones(())) == 0:
        with pytest.raises(ValueError, match="no density at t = 1"):
            mixture(schedule, std=0.0).s(x.detach(), 1.0)


class Keeping(MixtureField):
    """A field of which a part of the guide is never dropped: nothing asked for is its last label."""

    def without(self, y: Tensor) -> Tensor:
        return torch.full_like(y, self.null - 1)


WRAPPERS: dict[str, Callable[[Field], Field]] = {
    "FieldOf": FieldOf,
    "guidance": lambda field: ClassifierFreeGuidance(field, 0.0),
    "energy": lambda field: EnergyGuidance(field, lambda x, t, y: -x.square().sum(1), 0.0, conditional=True),
    "autoguidance": lambda field: Autoguidance(field, field, 1.5),
    "rescaled": lambda field: RescaledGuidance(field, 1.0),
    "clipped": lambda field: Clipped(field, 50.0),
    "switched": lambda field: Switched(field, field, 0.5),
    "replaced": lambda field: ReplacedPixels(field, torch.zeros(2), torch.zeros(2), torch.zeros(8, 2)),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_field_that_is_made_of_another_takes_its_guides(wrapper: str) -> None:
    exact, y = mixture(), LABELS[1]
    field = Keeping(exact.means, exact.std, labels=exact.labels)
    made, x = WRAPPERS[wrapper](field), points(exact)
    assert (made.path, made.null) == (field.path, field.null)
    assert torch.equal(made.without(y), field.without(y))
    assert torch.equal(made.null_like(y), field.null_like(y))
    with pytest.raises(ValueError, match="y must"):
        made.check_guide(y + 10, x)
    if wrapper != "FieldOf":
        plain = ClassifierFreeGuidance(made, 0.0).u(x, TIMES, y)  # guided by nothing: what is never dropped stays
        torch.testing.assert_close(plain, field.u(x, TIMES, field.without(y)), rtol=1e-9, atol=1e-9)
