"""ADM's own sampler: the mean of each step moves by its variance, fixed or learned, times the classifier's gradient."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from examples import normal, seeded
from torch import Tensor, nn

from flowlib.chains import Chain, Clipped, LearnedVariance, forward, mean_shift, posterior, sample_ancestral
from flowlib.fields import Field, MixtureField
from flowlib.guidance import LogProb
from flowlib.paths import GaussianPath

SHARE = 0.3
X, Y = normal(0, 6, 2), torch.tensor([0, 1, 0, 1, 0, 1])
WEIGHTS = torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64)
MEANS = torch.tensor([-1.5, 0.3, 1.2], dtype=torch.float64)
STDS = torch.tensor([0.4, 0.3, 0.5], dtype=torch.float64)


class Both(nn.Module):
    """The exact noise of a field, and a share of the variance that differs from component to component."""

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.field, self.null = field, field.null

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        share = SHARE + 0.2 * torch.tanh(x)
        return torch.cat([self.field.noise(x, t, y), 2 * share - 1], dim=1)


def plane(chain: Chain) -> MixtureField:
    means = torch.tensor([[2.0, 0.5], [-1.0, 1.5], [-0.5, -2.0]]).double()
    return MixtureField(means, 0.4, labels=torch.tensor([0, 1, 0]), path=GaussianPath(chain))


def line(chain: Chain) -> MixtureField:
    return MixtureField(MEANS[:, None], STDS, WEIGHTS, torch.tensor([0, 1, 0]), GaussianPath(chain))


def learned(field: MixtureField) -> LearnedVariance:
    return LearnedVariance(Both(field), field.path)


def bayes(field: MixtureField) -> LogProb:
    return lambda x, t, y: field.log_prob(x, t, y) - field.log_prob(x, t)


def by_bayes(chain: Chain, k: int) -> Tensor:
    """Its gradient at x_k, written down: that of log p_t(x|y), less that of log p_t(x)."""
    t = chain.time(k)
    return plane(chain).s(X, t, Y) - plane(chain).s(X, t)


@pytest.mark.parametrize(("k", "j"), [(100, 20), (60, 59), (60, 20), (2, 1), (1, 0), (40, 0)])
def test_the_mean_moves_by_the_variance_that_was_learned_times_the_gradient_at_the_same_x(k: int, j: int) -> None:
    """Dhariwal & Nichol 2021, algorithm 1; Sigma by improved DDPM's equation 15, written down here."""
    chain = Chain.linear(100)
    field = plane(chain)
    mean, spread = mean_shift(learned(field), bayes(field), 1.7, variance=learned(field).reverse)(X, Y, k, j)
    plain, small = posterior(chain, X, field.data(X, chain.time(k)), k, j)
    if j == 0:  # where the posterior's variance vanishes: that of the step before
        small = posterior(chain, X, X, 2 * k, k)[1]
    large, share = forward(chain, X, k, j)[1], SHARE + 0.2 * torch.tanh(X)
    sigma = torch.exp(share * torch.log(large) + (1 - share) * torch.log(small))
    assert float((spread - sigma).abs().max()) < 1e-12
    assert float((mean - plain - 1.7 * sigma * by_bayes(chain, k)).abs().max()) < 1e-9
    for name in ("small", "large"):  # neither fixed variance is what moved it
        other = mean_shift(learned(field), bayes(field), 1.7, variance=name)(X, Y, k, j)[0]
        assert float((mean - other).abs().max()) > 1e-3 * float((mean - plain).abs().max())


@pytest.mark.parametrize("kind", ["small", "large", "learned"])
def test_at_scale_0_it_is_the_sampler_without_guidance_and_asks_no_gradient(kind: str) -> None:
    def never(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        raise AssertionError("a classifier was asked")

    model = learned(plane(Chain.linear(30)))
    variance = model.reverse if kind == "learned" else kind
    step = mean_shift(model, never, 0.0, variance=variance)
    for steps in (None, 7):
        found = sample_ancestral(model, X, Y, steps=steps, variance=step, generator=seeded(0))
        plain = sample_ancestral(model, X, steps=steps, variance=variance, generator=seeded(0))
        assert torch.equal(found, plain)


@pytest.mark.parametrize("kind", ["small", "large", "learned"])
def test_two_steps_on_a_gaussian_in_closed_form(kind: str) -> None:
    """z ~ N(m, s^2), log p(y|x) = a x: D is affine in x, the gradient is a, and both steps can be written down."""
    chain, m, s, a, w = Chain.linear(100), 0.8, 0.5, 1.3, 2.0
    field = MixtureField(torch.tensor([[m]], dtype=torch.float64), s, path=GaussianPath(chain))
    abar = [math.exp(level) for level in chain.levels]

    def moved(x: Tensor, k: int, j: int, small: float) -> tuple[Tensor, Tensor]:
        """Mean and variance of x_j, after Ho et al. 2020, equations 6 and 7, v = 1 - abar_k / abar_j."""
        gain = abar[k] ** 0.5 * s**2 / (abar[k] * s**2 + 1 - abar[k])
        clean, var = m + gain * (x - abar[k] ** 0.5 * m), 1 - abar[k] / abar[j]
        mean = (abar[j] ** 0.5 * var * clean + (1 - var) ** 0.5 * (1 - abar[j]) * x) / (1 - abar[k])
        share = {"small": 0.0, "large": 1.0}.get(kind, SHARE + 0.2 * torch.tanh(x))
        sigma = var**share * small ** (1 - share) * torch.ones_like(x)
        return mean + w * sigma * a, sigma

    noise = normal(1, 50, 1)
    small = (1 - abar[50]) / (1 - abar[100]) * (1 - abar[100] / abar[50])
    mean, sigma = moved(noise * (1 - abar[100]) ** 0.5, 100, 50, small)
    x = mean + sigma.sqrt() * torch.randn(50, 1, generator=seeded(3), dtype=torch.float64)
    expected = moved(x, 50, 0, 0.0 if kind == "small" else small)[0]  # the last step moves too, and adds no noise
    variance = learned(field).reverse if kind == "learned" else kind
    step = mean_shift(field, lambda x, t, y: a * x[:, 0], w, variance=variance)
    found = sample_ancestral(field, noise, steps=[100, 50, 0], variance=step, generator=seeded(3))
    assert float((found - expected).abs().max()) < 1e-10


def distance_of_laws(chain: Chain, scale: float, kind: str) -> float:
    """Wasserstein-1 between the law of samples on a line, by quadrature, and the exact law of label 0."""
    field = line(chain)
    step = mean_shift(field, bayes(field), scale, variance=learned(field).reverse if kind == "learned" else kind)
    x = torch.linspace(-4, 4, 801, dtype=torch.float64)[:, None]
    y, beta = torch.zeros(len(x), dtype=torch.long), (1 - chain.abar[-1]).sqrt()
    mass = torch.exp(-((x[:, 0] / beta) ** 2) / 2)
    for k in range(chain.steps, 1, -1):
        mean, spread = step(x, y, k, k - 1)
        kernel = torch.exp(-((x.T - mean) ** 2) / (2 * spread)) / torch.sqrt(spread)
        mass = (mass / mass.sum()) @ kernel
    points, order = step(x, y, 1, 0)[0][:, 0].sort()
    found = (mass / mass.sum())[order]
    exact = torch.distributions.Normal(MEANS, STDS).cdf(points[:, None])[:, [0, 2]] @ (WEIGHTS[[0, 2]] / 0.5)
    return float(((found.cumsum(0) - found / 2 - exact).abs()[:-1] * points.diff()).sum())


@pytest.mark.parametrize("kind", ["small", "large", "learned"])
def test_with_bayes_own_classifier_the_law_of_the_samples_becomes_the_conditional_one(kind: str) -> None:
    """No Monte Carlo: the error of the law falls like 1 / T at w = 1; at w = 0 or 2 it stays."""
    errors = [distance_of_laws(Chain.linear(steps), 1.0, kind) for steps in (25, 50, 100)]
    assert all(1.8 < a / b < 2.3 for a, b in pairwise(errors)), errors
    assert errors[-1] < 0.08
    assert min(distance_of_laws(Chain.linear(50), scale, kind) for scale in (0.0, 2.0)) > 0.2


def test_a_clipped_mean_and_a_conditional_model_are_guided_too() -> None:
    chain = Chain.linear(50)
    field, model = plane(chain), learned(plane(chain))
    clipped = mean_shift(model, bayes(field), variance=partial(model.reverse, clip=0.5))(X, Y, 9, 8)[0]
    through = mean_shift(model, bayes(field), variance=partial(model.reverse, field=Clipped(model, 0.5)))(X, Y, 9, 8)[0]
    torch.testing.assert_close(clipped, through, rtol=1e-12, atol=1e-12)
    both = mean_shift(model, bayes(field), variance=model.reverse, conditional=True)(X, Y, 9, 8)[0]
    plain, sigma = model.reverse(X, Y, 9, 8)
    assert float((both - plain - sigma * by_bayes(chain, 9)).abs().max()) < 1e-9
