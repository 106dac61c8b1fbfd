"""Samplers (PROPERTIES 14 to 19): measured orders, marginals, exact cases, and what every request promises."""

import math
from collections.abc import Callable

import pytest
import torch
from examples import KINDS, SCHEDULES, Converted, gaussian, mixture, normal, seeded
from torch import Tensor

from flowlib import samplers
from flowlib.distances import energy_distance
from flowlib.fields import Field, MixtureField
from flowlib.paths import GaussianPath
from flowlib.samplers import ddim_step, langevin_step, sample_ddim, sample_ode, sample_sde
from flowlib.schedules import VP, Linear, Schedule, Trigonometric
from flowlib.solvers import ADAPTIVE, EVALUATIONS, STEPS, time_grid

Diffusion = Callable[[Tensor], Tensor]
ALL = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=list(SCHEDULES))
SAMPLERS = pytest.mark.parametrize("sample", [sample_ode, sample_sde, sample_ddim])
X = normal(0, 8, 2)


def grid(steps: int, start: float = 0.0, end: float = 1.0) -> Tensor:
    return time_grid(steps, start, end)


# --- The ODE


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_ode_methods_have_their_order(method: str, order: int) -> None:
    """Property 14, on the trigonometric path: on the linear one symmetry makes midpoint look like order 3."""
    field, x = mixture(Trigonometric()), normal(0, 32, 2)
    exact = sample_ode(field, x, steps=512 if order < 4 else 1024, method="rk4")
    coarse, fine = (float((sample_ode(field, x, steps=n, method=method) - exact).norm()) for n in (128, 256))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_adaptive_methods_agree_with_small_fixed_steps(method: str) -> None:
    field = mixture()
    exact = sample_ode(field, X, steps=64, method="rk4", trajectory=True)
    tolerances = {"method": method, "rtol": 1e-5, "atol": 1e-5}
    found = sample_ode(field, X, **tolerances)
    torch.testing.assert_close(found, exact[-1], rtol=0, atol=1e-3)
    path = sample_ode(field, X, steps=4, trajectory=True, **tolerances)
    torch.testing.assert_close(path, exact[::16], rtol=0, atol=1e-3)


@ALL
@pytest.mark.parametrize("method", [*STEPS, "ddim"])
def test_one_point_of_data_is_reached_by_every_method_that_should(schedule: Schedule, method: str) -> None:
    """Property 18: one Euler step on the linear path, and any DDIM on any path, are exact to 1e-12."""
    point = torch.tensor([[0.7, -1.2]], dtype=torch.float64)
    field = MixtureField(point, 0.0, path=GaussianPath(schedule))
    zero, one = torch.tensor([0.0, 1.0], dtype=torch.float64)
    start = schedule.beta(zero) * X
    eps = (start - schedule.alpha(zero) * point) / schedule.beta(zero)
    expected = schedule.alpha(one) * point + schedule.beta(one) * eps
    for steps in (1, 2, 7):
        if method == "ddim":
            found = sample_ddim(field, X, steps=steps)
        elif isinstance(schedule, Linear):
            found = sample_ode(field, X, steps=steps, method=method)
        else:
            found = sample_ode(field, X, steps=steps, method=method, denoise_last=True)
            expected = point.expand_as(X)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", list(SCHEDULES))
@pytest.mark.parametrize("method", list(STEPS))
def test_every_path_leads_from_noise_to_the_data(name: str, method: str) -> None:
    """Also where the velocity is infinite at an end, and for data of a single precision and no width."""
    field = mixture(SCHEDULES[name], std=0.0)
    for dtype in (torch.float64, torch.float32):
        same = MixtureField(field.means.to(dtype), 0.0, path=field.path)
        x = sample_ode(same, X.to(dtype), steps=60, method=method)
        distance = (x[:, None] - same.means).norm(dim=2).min(1).values
        assert x.dtype == dtype
        # The square root's noise falls so steeply at the end that the last step has sqrt(1/60) of it to remove.
        assert float(distance.max()) < (0.2 if name == "square-root" else 0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sampler_never_asks_a_prediction_where_it_says_nothing(kind: str) -> None:
    """Data at t = 1 and score at t = 1 are never asked for; noise and score at t = 0 are refused by name."""
    field = Converted(mixture(Linear()), kind)
    for sample in (sample_ode, sample_sde, sample_ddim):
        if kind in ("noise", "score"):
            with pytest.raises(ValueError, match=f"'{kind}' prediction does not determine"):
                sample(field, X, steps=4)
        else:
            assert bool(torch.isfinite(sample(field, X, steps=4)).all())
        assert bool(torch.isfinite(sample(field, X, times=grid(4, 0.01))).all())


def test_denoise_last_replaces_the_last_step_by_the_mean_of_the_data() -> None:
    field = mixture()
    for method in STEPS:
        states = sample_ode(field, X, steps=5, method=method, denoise_last=True, trajectory=True)
        plain = sample_ode(field, X, steps=5, method=method, trajectory=True)
        assert torch.equal(states[:-1], plain[:-1])
        assert torch.equal(states[-1], field.data(states[-2], 0.8))
    states = sample_sde(field, X, steps=5, generator=seeded(0), trajectory=True)
    assert torch.equal(states[-1], field.data(states[-2], 0.8))


# --- The SDE


def affine_step(field: Field, t: float, s: float, seed: int, **arguments: object) -> tuple[float, float, float]:
    """(A, b, c) of the sampler's own step x' = A x + b + c xi on a Gaussian's field, from four points and known xi.

    That four points fit three numbers to 1e-10 shows the step to be affine in x and in its noise: noise returned as the
    diffusion coefficient and multiplied in again would give xi^2.
    """
    x, ones = torch.tensor([[0.0], [1.0], [-1.0], [2.0]], dtype=torch.float64), torch.ones(4, 1).double()
    xi = torch.randn(4, 1, generator=seeded(seed), dtype=torch.float64)
    beta = field.path.schedule.beta(torch.tensor(t, dtype=torch.float64))
    times = torch.tensor([t, s], dtype=torch.float64)
    found = sample_sde(
        field, x / beta, times=times, denoise_last=False, generator=seeded(seed), **arguments
    )  # starts from beta_t times what it is given
    basis = torch.cat([x, ones, xi], dim=1)
    solution = torch.linalg.lstsq(basis, found).solution
    torch.testing.assert_close(basis @ solution, found, rtol=0, atol=1e-10)
    return tuple(solution[:, 0].tolist())


def moments(field: Field, steps: int, end: float, **arguments: object) -> tuple[float, float]:
    """Mean and variance after `steps` steps of Euler-Maruyama from N(0, beta_0^2), by exact recursion."""
    mean, variance, times = 0.0, 1.0, grid(steps, 0.0, end).tolist()
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
        monkeypatch.setattr(samplers, "noise_source", lambda *_: lambda part: lambda: next(increments))
        noise, times = normal(0, 200, 2), grid(steps, 0.0, end)
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


# --- DDIM


@ALL
def test_ddim_is_eulers_method_for_the_scaled_sample(schedule: Schedule) -> None:
    """Property 19: x / alpha as a function of beta / alpha, whose slope is eps_hat."""
    field, times = mixture(schedule), grid(7, 0.05)
    beta = schedule.beta(times[0])
    states = sample_ddim(field, X, times=times, trajectory=True)
    x, sigma = beta * X / schedule.alpha(times[0]), schedule.beta(times) / schedule.alpha(times)
    for i in range(7):
        eps = field.noise(x * schedule.alpha(times[i]), times[i])
        x = x + (sigma[i + 1] - sigma[i]) * eps
        expected = x * schedule.alpha(times[i + 1])
        error = (states[i + 1] - expected).abs().max() / expected.abs().max()
        assert float(error) < 1e-12


@ALL
@pytest.mark.parametrize(("t", "s"), [(0.3, 0.4), (0.05, 0.9), (0.5, 0.99)])
def test_ddim_at_eta_1_draws_from_the_gaussian_posterior(schedule: Schedule, t: float, s: float) -> None:
    """Property 19: q(x_s|x_t, z) by completing the square of q(x_t|x_s) q(x_s|z); museum: sigma_t for sigma_s."""
    z = torch.tensor([[0.7, -1.2]], dtype=torch.float64)
    field, times = MixtureField(z, 0.0, path=GaussianPath(schedule)), torch.tensor([t, s], dtype=torch.float64)
    (alpha_t, alpha_s), (beta_t, beta_s) = schedule.alpha(times).tolist(), schedule.beta(times).tolist()
    r = alpha_t / alpha_s
    added = beta_t**2 - (r * beta_s) ** 2  # variance of x_t given x_s
    precision = r**2 / added + 1 / beta_s**2
    x = field.path.sample(z.expand_as(X), t, X)
    mean = (r * x / added + alpha_s * z / beta_s**2) / precision
    still = ddim_step(field, x, None, times[0], times[1], 1.0, torch.zeros_like(x))
    moved = ddim_step(field, x, None, times[0], times[1], 1.0, torch.ones_like(x))
    scale = float(mean.abs().max())
    torch.testing.assert_close(still, mean, rtol=0, atol=1e-12 * scale)
    torch.testing.assert_close(moved - still, torch.full_like(x, precision**-0.5), rtol=0, atol=1e-12 * scale)


@ALL
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_divides_by_neither_the_signal_it_leaves_nor_the_noise_it_reaches(schedule: Schedule, eta: float) -> None:
    """Property 19: from pure noise, and onto clean data, in one step or two."""
    field = mixture(schedule)
    zero, half, one = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    x = schedule.beta(zero) * X
    for s in (half, one):
        assert bool(torch.isfinite(ddim_step(field, x, None, zero, s, eta, X)).all())
    landed = ddim_step(field, X, None, half, one, eta, X)
    if schedule.beta(one) == 0:
        torch.testing.assert_close(landed, field.data(X, half), rtol=1e-12, atol=1e-12)
    if eta == 1 and schedule.alpha(zero) == 0:  # pure noise is forgotten altogether
        expected = schedule.alpha(half) * field.data(x, 0.0) + schedule.beta(half) * X
        torch.testing.assert_close(ddim_step(field, x, None, zero, half, eta, X), expected, rtol=1e-12, atol=1e-12)


def test_ddim_with_eta_needs_its_noise() -> None:
    t, s = torch.tensor([0.3, 0.4], dtype=torch.float64)
    with pytest.raises(ValueError, match="eta > 0 needs noise"):
        ddim_step(mixture(), X, None, t, s, 1.0)


def test_ddpms_ancestral_sampling_reaches_the_distribution_of_the_data() -> None:
    field, count = mixture(VP()), 2000
    data, _ = field.sample(count, seeded(1))
    floor = 2 / count * float(torch.cdist(data, data).mean())
    found = sample_ddim(field, normal(0, count, 2), steps=250, eta=1.0, generator=seeded(2))
    assert energy_distance(found, data) < 4 * floor


# --- The Langevin corrector


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


# --- What every request promises


@pytest.mark.parametrize("batch", [1, 3, 7, 50])
def test_the_field_is_called_as_often_as_the_steps_say_whatever_the_batch(batch: int) -> None:
    """Museum: a step loop over the batch size; "N steps" that takes N - 1."""
    noise = normal(0, batch, 2)
    for steps in (1, 2, 13):
        for method, calls in EVALUATIONS.items():
            field = Converted(mixture(), "v")
            sample_ode(field, noise, steps=steps, method=method)
            assert field.calls == [batch] * (calls * steps)
        for sample in (sample_sde, sample_ddim):
            field = Converted(mixture(), "v")
            sample(field, noise, steps=steps)
            assert field.calls == [batch] * steps
        field = Converted(mixture(), "v")
        sample_sde(field, noise, steps=steps, corrector_steps=2)
        assert len(field.calls) == steps + 2 * (steps - 1)


@SAMPLERS
@pytest.mark.parametrize("shape", [(5, 2), (5, 1, 2)], ids=str)
def test_a_trajectory_runs_from_the_noise_to_the_result(sample: Callable[..., Tensor], shape: tuple[int, ...]) -> None:
    field = MixtureField(normal(1, 4, *shape[1:]), 0.3, path=GaussianPath(Trigonometric()))
    noise = normal(0, *shape)
    states = sample(field, noise, steps=6, trajectory=True, **_seed(sample))
    assert states.shape == (7, *shape)
    assert torch.equal(states[0], noise)
    assert torch.equal(states[-1], sample(field, noise, steps=6, **_seed(sample)))
    assert bool((states.diff(dim=0).flatten(1).abs().sum(1) > 0).all())
    split = sample(field, noise, steps=6, trajectory=True, batch_size=2, **_seed(sample))
    assert split.shape == (7, *shape)


def _seed(sample: Callable[..., Tensor]) -> dict[str, torch.Generator]:
    return {} if sample is sample_ode else {"generator": seeded(4)}


@SAMPLERS
def test_the_result_does_not_depend_on_how_the_batch_is_split(sample: Callable[..., Tensor]) -> None:
    field, y = mixture(), torch.tensor([0, 1, 2, 3, 0, 1, 2, 0])
    extra = {sample_ode: {}, sample_sde: {"corrector_steps": 1}, sample_ddim: {"eta": 1.0}}[sample]
    whole = sample(field, X, y, steps=6, batch_size=8, **extra, **_seed(sample))
    for size in (1, 2, 3, 100):
        found = sample(field, X, y, steps=6, batch_size=size, **extra, **_seed(sample))
        torch.testing.assert_close(found, whole, rtol=1e-12, atol=1e-12)
    if sample is sample_ode:
        torch.testing.assert_close(sample(field, X, y, steps=6), whole, rtol=1e-12, atol=1e-12)
    # Each sample has noise of its own: equal starts with equal guides end apart.
    twins = sample(field, X[:1].expand(2, 2), steps=6, batch_size=1, **extra, **_seed(sample))
    assert torch.equal(twins[0], twins[1]) == (sample is sample_ode)


@SAMPLERS
def test_a_split_batch_is_worked_through_in_parts_of_its_size(sample: Callable[..., Tensor]) -> None:
    field = Converted(mixture(), "v")
    sample(field, X, steps=3, batch_size=3)
    calls = 2 * 3 if sample is sample_ode else 3
    assert field.calls == [3] * calls + [3] * calls + [2] * calls


@pytest.mark.parametrize("batch_size", [None, 3])
def test_one_seed_is_one_set_of_bits_and_leaves_the_global_generator_alone(batch_size: int | None) -> None:
    field = mixture()
    before = torch.get_rng_state()
    for sample, arguments in ((sample_sde, {"corrector_steps": 1}), (sample_ddim, {"eta": 1.0})):
        first, second, other = (
            sample(field, X, steps=5, batch_size=batch_size, generator=seeded(seed), **arguments) for seed in (1, 1, 2)
        )
        assert torch.equal(first, second)
        assert not torch.equal(first, other)
    assert torch.equal(sample_ode(field, X, steps=5), sample_ode(field, X, steps=5))
    assert torch.equal(before, torch.get_rng_state())


@SAMPLERS
def test_a_grid_of_times_replaces_the_uniform_one(sample: Callable[..., Tensor]) -> None:
    field = mixture()
    by_steps = sample(field, X, steps=10, **_seed(sample))
    assert torch.equal(sample(field, X, times=grid(10), **_seed(sample)), by_steps)
    uneven = sample(field, X, times=time_grid(10, power=2.0), trajectory=True, **_seed(sample))
    assert uneven.shape[0] == 11
    assert not torch.equal(uneven[-1], by_steps)


@SAMPLERS
def test_the_noise_and_the_guide_are_left_as_they_were(sample: Callable[..., Tensor]) -> None:
    noise, y, times = X.clone(), torch.tensor([0, 1, 2, 3, 0, 1, 2, 0]), grid(4)
    versions = noise._version, y._version, times._version
    result = sample(mixture(), noise.requires_grad_(), y, times=times)
    assert (noise._version, y._version, times._version) == versions
    assert not result.requires_grad


@SAMPLERS
def test_samples_keep_the_dtype_of_the_noise(sample: Callable[..., Tensor]) -> None:
    field = MixtureField(normal(1, 3, 2, dtype=torch.float32), 0.3)
    result = sample(field, X.float(), steps=3, **_seed(sample))
    assert result.dtype == torch.float32
    double = sample(MixtureField(field.means.double(), 0.3), X, steps=3, **_seed(sample))
    if sample is not sample_sde:  # whose own noise differs between the two
        torch.testing.assert_close(result.double(), double, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "diffusion", [1.0, lambda t: torch.ones(2), lambda t: t * math.nan], ids=["number", "vector", "nan"]
)
def test_a_diffusion_that_is_no_function_to_a_number_is_refused(diffusion: object) -> None:
    with pytest.raises(ValueError, match="diffusion must"):
        sample_sde(mixture(), X, steps=3, diffusion=diffusion)


def test_a_network_in_place_of_a_field_is_told_how_to_become_one() -> None:
    with pytest.raises(ValueError, match=r"field must be a Field, such as Model\(network, path\); got Linear"):
        sample_ode(torch.nn.Linear(2, 2), X)
