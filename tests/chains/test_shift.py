"""Classifier guidance by a shift of the mean: the continuous form's shadow on a chain, and exact where it must be."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from flowlib.chains import Chain, mean_shift, reverse, sample_ancestral
from flowlib.fields import MixtureField
from flowlib.guidance import EnergyGuidance
from flowlib.paths import GaussianPath
from flowlib.samplers import ddim_step
from flowlib.schedules import VP, Linear

G = torch.Generator().manual_seed(0)
MEANS = torch.randn(4, 3, generator=G, dtype=torch.float64)
X, Y = torch.randn(6, 3, generator=G, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 0, 1])


def mixture(steps: int) -> tuple[MixtureField, Chain]:
    chain = Chain.linear(steps)
    return MixtureField(MEANS, 0.4, labels=torch.tensor([0, 0, 1, 1]), path=GaussianPath(chain)), chain


def bayes(field: MixtureField):
    return lambda x, t, y: field.log_prob(x, t, y) - field.log_prob(x, t)


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
@pytest.mark.parametrize(("k", "j"), [(100, 99), (100, 40), (37, 36), (5, 0), (1, 0)])
def test_shifted_like_the_score_it_is_the_continuous_form(variance: str, scale: float, k: int, j: int) -> None:
    field, chain = mixture(100)
    mean, spread = mean_shift(field, bayes(field), scale, variance=variance, shift="score")(X, Y, k, j)
    guided = EnergyGuidance(field, bayes(field), scale)
    expected, same = reverse(guided, chain, X, Y, k, j, variance)
    assert float((mean - expected).abs().max()) < 1e-10
    assert torch.equal(spread, same)


@pytest.mark.parametrize(("k", "j"), [(100, 60), (50, 49), (3, 0)])
def test_with_bayes_own_classifier_at_scale_1_it_is_the_conditional_step(k: int, j: int) -> None:
    """PROPERTY 24, on the chain."""
    field, chain = mixture(100)
    mean, _ = mean_shift(field, bayes(field), 1.0, shift="score")(X, Y, k, j)
    assert float((mean - reverse(field, chain, X, Y, k, j)[0]).abs().max()) < 1e-10


def test_the_papers_shift_is_variance_times_gradient() -> None:
    field, chain = mixture(100)
    x = X.clone().requires_grad_()
    gradient = torch.autograd.grad(bayes(field)(x, torch.full((6,), 0.4, dtype=x.dtype), Y).sum(), x)[0]
    for variance in ("small", "large"):
        mean, spread = mean_shift(field, bayes(field), 1.7, variance=variance)(X, Y, 60, 59)
        plain, expected = reverse(field, chain, X, None, 60, 59, variance)
        assert torch.equal(spread, expected)
        assert float((mean - plain - 1.7 * expected * gradient).abs().max()) < 1e-12


@pytest.mark.parametrize("variance", ["small", "large"])
def test_the_two_shifts_agree_in_the_limit_of_small_steps(variance: str) -> None:
    gaps = []
    for steps in (100, 200, 400, 800):
        field, _ = mixture(steps)
        k = steps // 2
        plain = mean_shift(field, bayes(field), 0.0, variance=variance)(X, Y, k, k - 1)[0]
        paper = mean_shift(field, bayes(field), 1.0, variance=variance)(X, Y, k, k - 1)[0] - plain
        score = mean_shift(field, bayes(field), 1.0, variance=variance, shift="score")(X, Y, k, k - 1)[0] - plain
        gaps.append(float((paper / score - 1).abs().max()))
    rates = [a / b for a, b in pairwise(gaps)]
    assert gaps[-1] < 0.01
    assert all(1.8 < rate < 2.2 for rate in rates)  # the relative gap halves with the step


def test_adms_guided_ddim_is_the_continuous_form_too() -> None:
    """Algorithm 2: eps - sqrt(1 - abar) grad log p(y|x), then DDIM's step."""
    field, chain = mixture(100)
    k, j = 70, 50
    t, s = chain.time(k), chain.time(j)
    x = X.clone().requires_grad_()
    gradient = torch.autograd.grad(bayes(field)(x, t.expand(6), Y).sum(), x)[0]
    eps = field.noise(X, t) - (1 - chain.abar[k]).sqrt() * 1.5 * gradient
    clean = (X - (1 - chain.abar[k]).sqrt() * eps) / chain.abar[k].sqrt()
    expected = chain.abar[j].sqrt() * clean + (1 - chain.abar[j]).sqrt() * eps
    found = ddim_step(EnergyGuidance(field, bayes(field), 1.5), X, Y, t, s)
    assert float((found - expected).abs().max()) < 1e-10


def test_it_samples_the_label_it_is_asked_for() -> None:
    """With Bayes' own classifier at w = 1: the mean of 4,000 samples, to 6 standard errors and the chain's own bias."""
    field, _ = mixture(200)
    noise = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.ones(4000, dtype=torch.long)
    step = mean_shift(field, bayes(field))
    x = sample_ancestral(field, noise, y, variance=step, generator=torch.Generator().manual_seed(2))
    error = (x.mean(0) - MEANS[2:].mean(0)).abs() / (x.std(0) / 4000**0.5)
    assert float(error.max()) < 6 + 3


def test_bad_arguments_are_named() -> None:
    field, _ = mixture(100)
    on_linear = MixtureField(MEANS, 0.4, path=GaussianPath(Linear()))
    for call, message in (
        (lambda: mean_shift(on_linear, bayes(field)), "preserves variance"),
        (lambda: mean_shift(field, bayes(field), float("nan")), "scale"),
        (lambda: mean_shift(field, bayes(field), variance="huge"), "variance"),
        (lambda: mean_shift(field, bayes(field), shift="mean"), "shift"),
        (lambda: mean_shift(field, lambda x, t, y: x)(X, Y, 5, 4), "log_prob must return"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_field_on_another_schedule_gets_a_chain_of_its_own() -> None:
    field = MixtureField(MEANS, 0.4, labels=torch.tensor([0, 0, 1, 1]), path=GaussianPath(VP()))
    seen: list[Tensor] = []

    def log_prob(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        seen.append(t)
        return bayes(field)(x, t, y)

    mean_shift(field, log_prob, steps=50)(X, Y, 25, 24)
    assert float((seen[0] - 0.5).abs().max()) < 1e-12
