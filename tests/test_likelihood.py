"""Likelihood: known densities through the flow (PROPERTY 21), exact and estimated divergence."""

import math
from itertools import product

import pytest
import torch
from examples import SCHEDULES, Converted, gaussian, mixture, normal, seeded
from torch import Tensor, nn

from flowlib.fields import MixtureField, Model
from flowlib.guidance import ClassifierFreeGuidance, EnergyGuidance
from flowlib.likelihood import divergence, log_likelihood, sample_with_likelihood
from flowlib.paths import GaussianPath
from flowlib.samplers import sample_ode
from flowlib.schedules import VP, Linear, SquareRoot, Trigonometric

Y = torch.tensor([0, 1, 2, 3, 0, 1])


def data(field: MixtureField, count: int = 6) -> Tensor:
    return field.sample(count, seeded(1))[0]


def swirl(x: Tensor, t: Tensor) -> Tensor:
    """A field of any shape whose components all depend on each other."""
    flat = x.flatten(1)
    return (torch.sin(flat) * flat.sum(1, keepdim=True) + t * flat.roll(1, 1) ** 2).reshape(x.shape)


@pytest.mark.parametrize("name", ["linear", "trigonometric"])
@pytest.mark.parametrize("y", [None, Y], ids=["unguided", "guided"])
def test_likelihood_through_the_flow_is_the_density_of_the_mixture(name: str, y: Tensor | None) -> None:
    """Property 21: 1e-3."""
    field = mixture(SCHEDULES[name])
    x = data(field)
    found = log_likelihood(field, x, y, steps=50)
    torch.testing.assert_close(found, field.log_prob(x, 1.0, y), rtol=0, atol=1e-3)


@pytest.mark.parametrize("method", ["heun", "midpoint", "dopri5", "bosh3"])
def test_every_method_gives_the_likelihood(method: str) -> None:
    field = mixture(Linear())
    x = data(field)
    found = log_likelihood(field, x, method=method, steps=400)
    torch.testing.assert_close(found, field.log_prob(x, 1.0), rtol=0, atol=2e-3)


@pytest.mark.parametrize("schedule", [SquareRoot(), VP()], ids=repr)
def test_an_infinite_velocity_is_refused_by_name_and_start_and_end_step_around_it(schedule: SquareRoot) -> None:
    """The density is that of x at `end`, up to the little that p_start differs from a normal."""
    field = mixture(schedule)
    x = 0.7 * data(field)
    with pytest.raises(ValueError, match=r"no finite velocity at t = 1\.0: choose another end"):
        log_likelihood(field, x, start=0.01)
    found = log_likelihood(field, x, start=1e-3, end=0.9, method="dopri5")
    torch.testing.assert_close(found, field.log_prob(x, 0.9), rtol=0, atol=0.05)
    if isinstance(schedule, SquareRoot):
        with pytest.raises(ValueError, match=r"t = 0\.0: choose another start"):
            log_likelihood(field, x, end=0.9)


def test_a_variance_exploding_path_starts_from_its_own_wide_gaussian() -> None:
    field = gaussian(0.0, 0.5, SCHEDULES["ve"])
    x = torch.tensor([[0.0], [0.5], [-1.0]], dtype=torch.float64)
    found = log_likelihood(field, x, method="dopri5", rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(found, field.log_prob(x, 1.0), rtol=0, atol=1e-3)


def test_likelihood_of_a_guided_field_is_that_of_its_flow() -> None:
    """A gradient's own divergence counts: Bayes' classifier must give the conditional density.

    From t > 0 on, because a gradient guides nothing at t = 0 itself.
    """
    field, y = mixture(Trigonometric()), torch.tensor([0, 1, 2, 0, 1, 2])
    x = field.sample(6, seeded(1))[0]
    expected = log_likelihood(field, x, y, steps=20, start=0.01)
    guided = EnergyGuidance(field, lambda x, t, y: field.log_prob(x, t, y) - field.log_prob(x, t))
    torch.testing.assert_close(log_likelihood(guided, x, y, steps=20, start=0.01), expected, rtol=1e-9, atol=1e-9)
    free = ClassifierFreeGuidance(field, 1 + 1e-12)
    torch.testing.assert_close(log_likelihood(free, x, y, steps=20, start=0.01), expected, rtol=1e-9, atol=1e-9)


def test_likelihood_goes_back_along_the_sampled_path() -> None:
    """log p(x_1) = log N(x_0) minus the log-determinant of the sampler's own Jacobian."""
    field, noise = mixture(Trigonometric()), normal(0, 4, 2)
    x = sample_ode(field, noise, steps=100, method="rk4")
    shift, columns = 1e-4, []
    for e in torch.eye(2).double() * shift:
        ends = [sample_ode(field, noise + sign * e, steps=100, method="rk4") for sign in (1, -1)]
        columns.append((ends[0] - ends[1]) / (2 * shift))
    log_det = torch.linalg.slogdet(torch.stack(columns, dim=2)).logabsdet
    log_normal = -0.5 * (noise**2).sum(1) - math.log(2 * math.pi)
    torch.testing.assert_close(log_likelihood(field, x), log_normal - log_det, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 5), (3, 2, 3, 4)], ids=["points", "images"])
def test_exact_divergence_is_the_trace_of_the_jacobian(shape: tuple[int, ...]) -> None:
    """Museum: an exact divergence that fails on images."""
    x, t = normal(0, *shape), torch.tensor(0.7, dtype=torch.float64)
    value, found = divergence(swirl, x, t)
    size = x[0].numel()
    full = torch.func.jacrev(lambda x: swirl(x, t))(x).reshape(3, size, 3, size)
    expected = torch.stack([full[i, :, i].trace() for i in range(3)])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(value, swirl(x, t))
    assert not any(tensor.requires_grad for tensor in (value, found, x))


def test_hutchinsons_estimate_is_unbiased() -> None:
    """The mean over all 2^4 probes of random signs is the trace, exactly."""
    x, t = normal(0, 3, 1, 2, 2), torch.tensor(0.7, dtype=torch.float64)
    _, exact = divergence(swirl, x, t)
    estimates = []
    for signs in product((-1.0, 1.0), repeat=4):
        probe = torch.tensor(signs, dtype=torch.float64).reshape(1, 1, 2, 2).expand_as(x)
        estimates.append(divergence(swirl, x, t, probe)[1])
    torch.testing.assert_close(torch.stack(estimates).mean(0), exact, rtol=1e-12, atol=1e-12)
    assert float(torch.stack(estimates).std(0).min()) > 0.1


def test_hutchinsons_likelihood_is_right_in_the_mean_and_one_seed_is_one_result() -> None:
    field = mixture(Linear())
    x = data(field, 1).expand(400, 2)
    found = log_likelihood(field, x, estimator="hutchinson", steps=10, generator=seeded(0))
    exact = log_likelihood(field, x[:1], steps=10)
    error = float(found.std()) / 20
    assert error > 0
    assert float(found.mean() - exact) == pytest.approx(0, abs=5 * error)
    before = torch.get_rng_state()
    again = log_likelihood(field, x, estimator="hutchinson", steps=10, generator=seeded(0), batch_size=150)
    torch.testing.assert_close(again, found, rtol=1e-12, atol=1e-12)
    assert torch.equal(before, torch.get_rng_state())


def test_hutchinsons_estimate_is_exact_where_the_jacobian_is_diagonal() -> None:
    field = MixtureField(torch.zeros(1, 3, dtype=torch.float64), 0.5)
    x = normal(0, 4, 3)
    found = log_likelihood(field, x, estimator="hutchinson", steps=40, generator=seeded(0))
    torch.testing.assert_close(found, log_likelihood(field, x, steps=40), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_likelihood_does_not_depend_on_how_the_batch_is_split(method: str) -> None:
    field = Converted(mixture(Linear()), "v")
    x = data(mixture(Linear()))
    whole = log_likelihood(field, x, Y, steps=5, method=method, rtol=1e-7, atol=1e-7)
    tolerance = 1e-12 if method == "rk4" else 1e-5
    for size in (1, 4, 100):
        part = log_likelihood(field, x, Y, steps=5, method=method, batch_size=size, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(part, whole, rtol=0, atol=tolerance)
    assert max(field.calls) == 6


def test_likelihood_of_images_is_that_of_their_pixels() -> None:
    means, x = normal(0, 3, 1, 2, 3), normal(1, 4, 1, 2, 3)
    images, flat = MixtureField(means, 0.5), MixtureField(means.flatten(1), 0.5)
    found = log_likelihood(images, x, steps=30)
    torch.testing.assert_close(found, log_likelihood(flat, x.flatten(1), steps=30), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found, images.log_prob(x, 1.0), rtol=0, atol=1e-3)


def test_a_networks_weights_keep_no_gradient_and_its_data_stays_as_it_was() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2).double()

        def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
            return torch.tanh(self.layer(x))

    model, x = Model(Net()), normal(0, 4, 2)
    version = x._version
    found = log_likelihood(model, x, steps=3)
    assert not found.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert x._version == version
    assert not x.requires_grad


def test_a_path_without_a_flow_costs_the_normals_density() -> None:
    """Standard normal data on a variance-preserving path never move: u = 0."""
    field = MixtureField(torch.zeros(1, 2, dtype=torch.float64), 1.0, path=GaussianPath(Trigonometric()))
    x = normal(0, 4, 2)
    expected = -0.5 * (x**2).sum(1) - math.log(2 * math.pi)
    torch.testing.assert_close(log_likelihood(field, x, steps=4), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", ["exact", "hutchinson"])
def test_inference_mode_changes_nothing(estimator: str) -> None:
    field, x, y = mixture(), normal(0, 4, 2), torch.tensor([0, 1, 2, 0])
    plain = log_likelihood(field, x, y, steps=5, estimator=estimator, generator=seeded(0))
    with torch.inference_mode():
        inside = log_likelihood(field, x.clone(), y.clone(), steps=5, estimator=estimator, generator=seeded(0))
    assert torch.equal(inside, plain)


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
@pytest.mark.parametrize("estimator", ["exact", "hutchinson"])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_samples_come_with_their_density_in_one_pass(method: str, estimator: str, batch_size: int | None) -> None:
    """Of a mixture known in closed form, and the same samples that `sample_ode` draws."""
    field, noise = mixture(Linear()), normal(0, 6, 2)
    samples, nats = sample_with_likelihood(
        field, noise, Y, steps=60, method=method, batch_size=batch_size, rtol=1e-8, atol=1e-8
    )
    torch.testing.assert_close(samples, sample_ode(field, noise, Y, steps=400, method="rk4"), rtol=0, atol=1e-5)
    torch.testing.assert_close(nats, field.log_prob(samples, 1.0, Y), rtol=0, atol=1e-3)
    if estimator == "hutchinson":  # of one Gaussian every probe gives the trace
        single, x = gaussian(0.8, 0.4, Trigonometric()), normal(1, 6, 1)
        drawn, found = sample_with_likelihood(single, x, estimator=estimator, method=method, generator=seeded(0))
        torch.testing.assert_close(drawn, 0.8 + 0.4 * x, rtol=0, atol=1e-4)
        torch.testing.assert_close(found, single.log_prob(drawn, 1.0), rtol=0, atol=1e-4)


def test_a_likelihood_is_differentiable_on_request() -> None:
    """In x: the mixture's score at t = 1. In weights: a flow x -> e^a x of N(0, 1) has d log p / da = x^2 e^-2a - 1."""
    field = mixture(Linear())
    x = data(field).requires_grad_()
    nats = log_likelihood(field, x, steps=60, gradients=True)
    (score,) = torch.autograd.grad(nats.sum(), x)
    torch.testing.assert_close(score, field.s(x.detach(), 1.0), rtol=1e-3, atol=1e-3)
    assert not log_likelihood(field, x, steps=5).requires_grad

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rate = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

        def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
            return self.rate * x

    model, x = Model(Scale()), normal(0, 5, 1)
    for estimator in ("exact", "hutchinson"):
        nats = log_likelihood(model, x, steps=20, estimator=estimator, gradients=True, batch_size=2)
        (slope,) = torch.autograd.grad(nats.sum(), model.net.rate)
        assert float(slope) == pytest.approx(float((x**2 * math.exp(-0.6) - 1).sum()), rel=1e-6)
