"""The SDE (PROPERTIES 15 to 17): weak and strong order, marginals, the default diffusion and the Langevin corrector."""

import math
from collections.abc import Callable

import pytest
import torch
from examples import gaussian, mixture, normal, seeded
from torch import Tensor

from flowlib import sde
from flowlib.fields import Field, MixtureField
from flowlib.metrics import energy_distance
from flowlib.paths import GaussianPath
from flowlib.samplers import langevin_step, sample_sde
from flowlib.schedules import Linear, Trigonometric
from flowlib.solvers import time_grid

Diffusion = Callable[[Tensor], Tensor]
X = normal(0, 8, 2)


def affine_step(field: Field, t: float, s: float, seed: int, **arguments: object) -> tuple[float, float, float]:
    """(A, b, c) of the sampler's own step x' = A x + b + c xi on a Gaussian's field, from four points and known xi.

    That four points fit three numbers to 1e-10 shows the step to be affine in x and in its noise: noise returned as the
    diffusion coefficient and multiplied in again would give xi^2.
    """
    x, ones = torch.tensor([[0.0], [1.0], [-1.0], [2.0]], dtype=torch.float64), torch.ones(4, 1).double()
    xi = torch.randn(4, 1, generator=seeded(seed), dtype=torch.float64)
    beta = field.path.schedule.beta(torch.tensor(t, dtype=torch.float64))
    times = torch.tensor([t, s], dtype=torch.float64)
    # The sampler starts from beta_t times what it is given.
    found = sample_sde(field, x / beta, times=times, denoise_last=False, generator=seeded(seed), **arguments)
    basis = torch.cat([x, ones, xi], dim=1)
    solution = torch.linalg.lstsq(basis, found).solution
    torch.testing.assert_close(basis @ solution, found, rtol=0, atol=1e-10)
    return tuple(solution[:, 0].tolist())


def moments(field: Field, steps: int, end: float, **arguments: object) -> tuple[float, float]:
    """Mean and variance after `steps` steps of Euler-Maruyama from N(0, beta_0^2), by exact recursion."""
    mean, variance, times = 0.0, 1.0, time_grid(steps, 0.0, end).tolist()
    for i in range(steps):
        a, b, c = affine_step(field, times[i], times[i + 1], seed=i, **arguments)
        mean, variance = a * mean + b, a**2 * variance + c**2
    return mean, variance


def constant(g: float) -> Diffusion:
    return lambda t: torch.full_like(t, g)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"eta": 0.5}, {"eta": 0.0}, {"diffusion": constant(1.0)}, {"diffusion": lambda t: 2 * torch.sin(2 * t)}],
    ids=["default", "eta = 0.5", "eta = 0", "constant", "rising"],
)
def test_euler_maruyama_has_weak_order_1(arguments: dict[str, object]) -> None:
    """Property 15, without Monte Carlo. Museum: noise as the diffusion coefficient; beta_s where beta_t is meant."""
    field, end = gaussian(1.0, 0.7, Trigonometric()), 0.8
    alpha, beta = math.sin(end * math.pi / 2), math.cos(end * math.pi / 2)
    exact = (alpha, alpha**2 * 0.49 + beta**2)
    coarse, fine = moments(field, 32, end, **arguments), moments(field, 64, end, **arguments)
    for i in (0, 1):
        assert math.log2(abs(coarse[i] - exact[i]) / abs(fine[i] - exact[i])) == pytest.approx(1, abs=0.1)
        assert fine[i] == pytest.approx(exact[i], abs=0.03)


def test_default_diffusion_is_division_free_and_as_published() -> None:
    """g^2 = 2 eta beta w: the step's variance is g^2 h, its drift u - eta w eps_hat; eta = 1/alpha is DDPM's."""
    schedule = Trigonometric()
    field, t, h, eta = gaussian(0.7, 0.5, schedule), 0.3, 0.01, 0.8
    a, b, c = affine_step(field, t, t + h, 0, eta=eta)
    time = torch.tensor(t, dtype=torch.float64)
    alpha, beta, dalpha, dbeta = (
        float(f(time)) for f in (schedule.alpha, schedule.beta, schedule.dalpha, schedule.dbeta)
    )
    w = dalpha * beta - alpha * dbeta
    assert c == pytest.approx((2 * eta * beta * w * h) ** 0.5, rel=1e-9)
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    drift = field.u(x, t) - eta * w * field.noise(x, t)
    expected = x + h * drift
    assert [b, a + b] == pytest.approx(expected[:, 0].tolist(), rel=1e-9)
    # DDPM runs dX = -rate/2 X dt + sqrt(rate) dW towards noise, so that rate = 2 alpha'/alpha = g^2 on a VP path.
    assert 2 / alpha * beta * w == pytest.approx(2 * dalpha / alpha, rel=1e-9)


def test_a_diffusion_is_g_itself() -> None:
    """A step's noise has standard deviation g sqrt(h), its drift is u + g^2/2 s; museum: g^2 where g is meant."""
    field, t, h = gaussian(0.7, 0.5, Trigonometric()), 0.3, 0.01
    a, b, c = affine_step(field, t, t + h, 0, diffusion=lambda t: 3 * t)
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    expected = x + h * (field.u(x, t) + 0.9**2 / 2 * field.s(x, t))
    assert c == pytest.approx(0.9 * h**0.5, rel=1e-9)
    assert [b, a + b] == pytest.approx(expected[:, 0].tolist(), rel=1e-9)


@pytest.mark.parametrize("diffusion", [None, constant(1.0)], ids=["default", "constant"])
def test_euler_maruyama_has_strong_order_1(diffusion: Diffusion | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Property 15: the noise is additive, so paths driven by one Brownian motion converge with order 1."""
    field, finest, end = mixture(Linear(), std=1.0), 1024, 0.8
    brownian = normal(1, finest, 200, 2) * (end / finest) ** 0.5

    def run(steps: int) -> Tensor:
        increments = iter(brownian.reshape(steps, finest // steps, 200, 2).sum(1) / (end / steps) ** 0.5)
        monkeypatch.setattr(sde, "noise_source", lambda *_: lambda part: lambda: next(increments))
        noise, times = normal(0, 200, 2), time_grid(steps, 0.0, end)
        return sample_sde(field, noise, times=times, diffusion=diffusion, denoise_last=False)

    exact = run(finest)
    coarse, fine = (float((run(n) - exact).square().mean().sqrt()) for n in (32, 64))
    assert math.log2(coarse / fine) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"eta": 0.0},
        {"eta": 3.0},
        {"diffusion": constant(1.0)},
        {"diffusion": constant(2.0)},
        {"corrector_steps": 1},
    ],
    ids=["default", "eta = 0", "eta = 3", "g = 1", "g = 2", "corrected"],
)
def test_marginals_do_not_depend_on_the_diffusion(arguments: dict[str, object]) -> None:
    """Property 16: energy distance to the data at most 4 times what two samples of the data have between them."""
    field, count = mixture(Linear()), 2000
    data, _ = field.sample(count, seeded(1))
    floor = 2 / count * float(torch.cdist(data, data).mean())  # E|x - x'| (1/N + 1/M)
    found = sample_sde(field, normal(0, count, 2), steps=250, generator=seeded(2), **arguments)
    assert energy_distance(found, data) < 4 * floor


def distance_to_data(field: MixtureField, steps: int, **arguments: object) -> float:
    x = sample_sde(field, normal(0, 64, 2), steps=steps, generator=seeded(1), **arguments)
    return float((x[:, None] - field.means).norm(dim=2).min(1).values.mean())


def test_a_constant_diffusion_diverges_on_finite_data_and_the_default_converges() -> None:
    """Property 17. Near t = 1 a constant g multiplies the score, 1/beta: every halving of the step makes it worse."""
    field = MixtureField(normal(7, 12, 2), 0.0)
    worse = [distance_to_data(field, n, diffusion=constant(1.0), denoise_last=False) for n in (50, 250, 1000)]
    assert worse[0] > 10
    assert worse[1] > 1e3 * worse[0]
    assert worse[2] > 1e6 * worse[1]
    better = [distance_to_data(field, n, denoise_last=False) for n in (50, 250, 1000)]
    assert better[0] < 0.2
    assert better[1] < better[0] / 3
    assert better[2] < better[1] / 3
    assert better[2] < 0.01
    # On the linear path the default is g^2 = 2 (1 - t).
    named = distance_to_data(field, 250, diffusion=lambda t: (2 * (1 - t)) ** 0.5, denoise_last=False)
    assert named == pytest.approx(better[1], rel=1e-9)
    assert distance_to_data(field, 1000) < 4e-4  # the default: a last step on D


def test_a_langevin_corrector_leaves_the_marginal_as_it_is() -> None:
    """Exact samples of p_t on the line stay samples of p_t: the distribution function of 20000, after 200 steps.

    By the inequality of Dvoretzky, Kiefer, Wolfowitz and Massart a correct corrector fails with probability <= 1e-6.
    Half the noise, or half the drift, is off by 0.06 and fails.
    """
    means = torch.tensor([[-1.5], [1.0]], dtype=torch.float64)
    field = MixtureField(means, 0.4, torch.tensor([0.4, 0.6]), path=GaussianPath(Trigonometric()))
    count, t, generator = 20000, torch.tensor(0.5, dtype=torch.float64), seeded(3)
    z, _ = field.sample(count, generator)
    x = field.path.sample(z, t, generator=generator)
    for _ in range(200):
        x = langevin_step(field, x, None, t, 0.05, torch.randn(x.shape, generator=generator, dtype=x.dtype))
    alpha, beta = field.path.schedule.alpha(t), field.path.schedule.beta(t)
    normals = torch.distributions.Normal(alpha * means[:, 0], torch.sqrt(alpha**2 * 0.4**2 + beta**2))
    exact = (normals.cdf(x.sort(0).values) * torch.tensor([0.4, 0.6])).sum(1)
    levels = torch.arange(count + 1, dtype=torch.float64) / count
    distance = float(torch.maximum(levels[1:] - exact, exact - levels[:-1]).max())
    assert distance < math.sqrt(math.log(2 / 1e-6) / (2 * count))


def test_a_langevin_step_is_the_published_one_and_depends_on_no_other_sample() -> None:
    """x + h s + sqrt(2 h) noise with h = 2 (r beta)^2."""
    field, t, r = mixture(), torch.tensor(0.4, dtype=torch.float64), 0.16
    h, noise = 2 * (r * field.path.schedule.beta(t)) ** 2, normal(5, 8, 2)
    found = langevin_step(field, X, None, t, r, noise)
    torch.testing.assert_close(found, X + h * field.s(X, t) + (2 * h) ** 0.5 * noise)
    torch.testing.assert_close(langevin_step(field, X[:1], None, t, r, noise[:1]), found[:1])


@pytest.mark.parametrize(
    "diffusion", [1.0, lambda t: torch.ones(2), lambda t: t * math.nan], ids=["number", "vector", "nan"]
)
def test_a_diffusion_that_is_no_function_to_a_number_is_refused(diffusion: object) -> None:
    with pytest.raises(ValueError, match="diffusion must"):
        sample_sde(mixture(), X, steps=3, diffusion=diffusion)
