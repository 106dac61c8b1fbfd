"""Losses: right gradients, and one loss behind all (PROPERTIES 10 to 12)."""

import math
from collections.abc import Callable

import pytest
import torch
from examples import KINDS, SCHEDULES, gaussian, mixture, normal, seeded
from torch import Tensor, nn

from flowlib.fields import Field, Model
from flowlib.losses import (
    flow_matching_loss,
    prediction_error,
    prediction_loss,
    score_matching_loss,
)
from flowlib.paths import GaussianPath
from flowlib.schedules import VP, Linear, Trigonometric
from flowlib.times import uniform_time


class Tiny(nn.Module):
    """A small network on the plane that remembers its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double()
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters()):
                parameter.copy_(normal(i, *parameter.shape) / 2)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        self.seen = (x, t, y)
        return self.layers(torch.cat([x, t[:, None]], dim=1))


def gradient(loss: Tensor, net: nn.Module) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])


def assert_same_gradient(model: Model, loss: Callable[[Tensor, int], Tensor], exact: Callable[[], Tensor]) -> None:
    """The mean difference over 60 batches lies within 4 standard errors of 0, and these are small: both can fail."""
    differences, truth = [], []
    for seed in range(60):
        z, _ = mixture().sample(512, seeded(seed))
        sampled = gradient(loss(z, 1000 + seed), model.net)
        truth.append(gradient(exact(), model.net))
        differences.append(sampled - truth[-1])
    difference = torch.stack(differences)
    error = difference.std(0) / len(differences) ** 0.5
    assert float((difference.mean(0) / error).abs().max()) < 4
    assert float(error.norm()) < 0.05 * float(torch.stack(truth).mean(0).norm())


def test_conditional_flow_matching_has_the_gradient_of_flow_matching() -> None:
    """Property 10, with the marginal velocity of the mixture known exactly."""
    field = mixture()
    model = Model(Tiny(), field.path)

    def exact() -> Tensor:
        x, t, _ = model.net.seen
        return (model.net(x, t, None) - field.u(x, t)).square().mean()

    assert_same_gradient(model, lambda z, seed: flow_matching_loss(model, z, generator=seeded(seed)), exact)


def test_denoising_score_matching_has_the_gradient_of_score_matching() -> None:
    """Property 10, with the marginal score of the mixture known exactly; weighted by beta^2."""
    field = mixture()
    model = Model(Tiny(), field.path, predicts="score")

    def exact() -> Tensor:
        x, t, _ = model.net.seen
        beta = field.path.schedule.beta(t)[:, None]
        return (beta * (model.net(x, t, None) - field.s(x, t))).square().mean()

    assert_same_gradient(model, lambda z, seed: score_matching_loss(model, z, generator=seeded(seed)), exact)


class Oracle(nn.Module):
    """A network whose D is wrong by a known function of x, said in any kind of prediction."""

    def __init__(self, path: GaussianPath, kind: str) -> None:
        super().__init__()
        self.path, self.kind = path, kind

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        self.x = x
        self.data = torch.tanh(x)
        return self.path.convert(self.data, x, t, "data", self.kind)


@pytest.mark.parametrize("name", list(SCHEDULES))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("measure", KINDS)
def test_all_losses_are_one_loss(name: str, kind: str, measure: str) -> None:
    """Property 11, sample by sample: |p - p*|^2 = (delta / beta)^2 |D - z|^2, whatever the network predicts."""
    schedule = SCHEDULES[name]
    path = GaussianPath(schedule)
    model = Model(Oracle(path, kind), path, predicts=kind)
    z, noise, t = normal(0, 9, 2, 3), normal(1, 9, 2, 3), torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    w = schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
    weight = {
        "data": torch.ones_like(t),
        "noise": (alpha / beta) ** 2,
        "velocity": (w / beta) ** 2,
        "score": (alpha / beta**2) ** 2,
        "v": (alpha**2 + beta**2) ** 2 / beta**2,  # SNR + 1 where alpha^2 + beta^2 = 1
    }[measure]
    found = prediction_error(model, z, None, t, noise, measure)
    expected = weight * (model.net.data - z).square().mean((1, 2))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    loss = prediction_loss(model, z, measure=measure, time=lambda n, g: t, coupling=lambda *_: noise)
    torch.testing.assert_close(loss, found.mean(), rtol=1e-12, atol=0)


def test_named_losses_are_the_one_loss_measured_in_velocity_score_and_noise() -> None:
    path = GaussianPath(Trigonometric())
    z = normal(0, 16, 6)
    for kind in KINDS:
        model = Model(Oracle(path, kind), path, predicts=kind)

        def measured(measure: str, model: Model = model, weighting: Callable[[Tensor], Tensor] | None = None) -> float:
            return float(prediction_loss(model, z, measure=measure, weighting=weighting, generator=seeded(1)))

        flow = flow_matching_loss(model, z, generator=seeded(1))
        simple = score_matching_loss(model, z, generator=seeded(1))
        plain = score_matching_loss(model, z, weighting=torch.ones_like, generator=seeded(1))
        assert float(flow) == pytest.approx(measured("velocity"), rel=1e-12)
        assert float(simple) == pytest.approx(measured("noise"), rel=1e-12)
        assert float(simple) == pytest.approx(
            measured("score", weighting=lambda t: path.schedule.beta(t) ** 2), rel=1e-9
        )
        assert float(plain) == pytest.approx(measured("score"), rel=1e-12)


def test_the_network_sees_the_noised_sample_and_the_loss_is_that_of_its_target() -> None:
    """Museum: the target x_1 fed where x_t is meant."""
    model, z = Model(Tiny(), GaussianPath()), normal(0, 64, 2)
    loss = flow_matching_loss(model, z, generator=seeded(3))
    x, t, _ = model.net.seen
    noise = (x - t[:, None] * z) / (1 - t[:, None])
    assert float(noise.mean()) == pytest.approx(0, abs=5 / 128**0.5)
    assert float(noise.std()) == pytest.approx(1, abs=5 / 256**0.5)
    error = float((model.net(x, t, None) - (z - noise)).square().mean().detach())
    assert float(loss.detach()) == pytest.approx(error, rel=1e-9)


class Affine(nn.Module):
    """theta_0 x + theta_1."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return self.theta[0] * x + self.theta[1]


@pytest.mark.parametrize("schedule", [Linear(), Trigonometric(), VP()], ids=repr)
def test_affine_regression_recovers_the_velocity_of_a_gaussian(schedule: Linear) -> None:
    """Property 12: each batch's loss is quadratic, so one Newton step minimises it; within 5 standard errors."""
    field = gaussian(0.7, 0.5, schedule)
    t = torch.tensor(0.4, dtype=torch.float64)
    ends = field.u(torch.tensor([[0.0], [1.0]], dtype=torch.float64), t)
    expected = torch.stack([ends[1, 0] - ends[0, 0], ends[0, 0]])
    model = Model(Affine(), field.path)
    minima = []
    for seed in range(40):
        z, _ = field.sample(1000, seeded(seed))
        loss = flow_matching_loss(model, z, time=lambda n, g: t.expand(n), generator=seeded(100 + seed))
        slope = torch.autograd.grad(loss, model.net.theta, create_graph=True)[0]
        hessian = torch.stack([torch.autograd.grad(part, model.net.theta, retain_graph=True)[0] for part in slope])
        minima.append(-torch.linalg.solve(hessian, slope.detach()))
    found = torch.stack(minima)
    error = found.std(0) / len(found) ** 0.5
    assert float(((found.mean(0) - expected) / error).abs().max()) < 5
    assert float(error.max()) < 0.03  # small enough to tell


def test_a_loss_is_the_mean_over_samples_and_components() -> None:
    class Zero(nn.Module):
        def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
            return torch.zeros_like(x)

    loss = prediction_loss(Model(Zero(), predicts="data"), torch.full((8, 3, 4, 4), 2.0))
    assert float(loss) == pytest.approx(4)
    model = Model(Zero(), predicts="data")
    weighted = prediction_loss(model, torch.full((8, 3), 2.0), weighting=lambda t: torch.full_like(t, math.pi))
    assert float(weighted) == pytest.approx(4 * math.pi)


def test_a_learned_loss_cannot_fall_below_that_of_the_exact_field() -> None:
    """E|u_t(x|z) - u|^2 is least at the marginal field: a shift in any direction costs its square."""
    field = mixture()

    class Exact(nn.Module):
        def __init__(self, field: Field, shift: float) -> None:
            super().__init__()
            self.field, self.shift = field, shift

        def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
            return self.field.u(x, t) + self.shift

    z, _ = field.sample(20000, seeded(0))
    best, up, down = (
        float(flow_matching_loss(Model(Exact(field, shift), field.path), z, generator=seeded(1)))
        for shift in (0.0, 0.3, -0.3)
    )
    assert (up + down) / 2 - best == pytest.approx(0.09, rel=1e-6)
    assert abs(up - down) < 0.06


class Still(nn.Module):
    """A network that says 0, in the dtype of its samples, with a gradient."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros((), dtype=dtype))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return self.scale * x


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", list(SCHEDULES))
@pytest.mark.parametrize("kind", KINDS)
def test_losses_in_half_precision_are_those_in_float32(name: str, kind: str, dtype: torch.dtype) -> None:
    """In bfloat16 a time above 1 - 2^-9 rounds to 1, where a velocity's target or its weight is infinite."""
    z, path = normal(0, 600, 2, dtype=torch.float32).to(dtype), GaussianPath(SCHEDULES[name])
    noise, t = normal(1, 600, 2, dtype=torch.float32).to(dtype), uniform_time(600, seeded(2))
    half, single = Model(Still(dtype), path, kind), Model(Still(torch.float32), path, kind)
    for measure in (None, "velocity"):
        found = prediction_error(half, z, None, t, noise, measure)
        assert torch.equal(found, prediction_error(single, z.float(), None, t, noise.float(), measure))
        loss = prediction_loss(half, z, measure=measure, generator=seeded(0))
        assert loss.dtype == torch.float32
        assert bool(torch.isfinite(loss))
