"""The Gaussians of a chain against torch.distributions: forward, posterior, and both fixed reversals."""

import pytest
import torch
from examples import mixture, normal
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from flowlib.chains import Chain, forward, posterior, reverse
from flowlib.fields import MixtureField
from flowlib.paths import GaussianPath
from flowlib.schedules import Cosine

CHAINS = {"linear": Chain.linear(1000), "cosine": Chain.of(Cosine(), 1000), "short": Chain.linear(50)}
ALL = pytest.mark.parametrize("chain", CHAINS.values(), ids=list(CHAINS))
X, Z = normal(0, 6, 2), normal(1, 6, 2)


@ALL
def test_the_closed_form_is_what_the_steps_make(chain: Chain) -> None:
    """Ho et al. 2020, equation 4, by running x_k = sqrt(1 - var_k) x_(k-1) + sqrt(var_k) eps, moment by moment."""
    mean, variance = Z, torch.zeros((), dtype=torch.float64)
    for k in range(1, chain.steps + 1):
        step_mean, step_variance = forward(chain, mean, k, k - 1)
        torch.testing.assert_close(step_mean, (1 - chain.var[k]).sqrt() * mean, rtol=1e-12, atol=0)
        torch.testing.assert_close(step_variance, chain.var[k], rtol=1e-10, atol=0)
        mean, variance = step_mean, (1 - chain.var[k]) * variance + chain.var[k]
        jump_mean, jump_variance = forward(chain, Z, k)
        torch.testing.assert_close(jump_mean, mean, rtol=1e-10, atol=0)
        torch.testing.assert_close(jump_variance, variance, rtol=1e-10, atol=0)


def test_the_closed_form_is_the_paths() -> None:
    chain = CHAINS["linear"]
    mean, variance = forward(chain, Z, 321)
    path = GaussianPath(chain)
    torch.testing.assert_close(mean + variance.sqrt() * X, path.sample(Z, chain.time(321), X), rtol=1e-12, atol=1e-12)


@ALL
@pytest.mark.parametrize(("k", "j"), [(2, 1), (40, 39), (50, 7), (30, 1)])
def test_the_posterior_is_bayes_rule(chain: Chain, k: int, j: int) -> None:
    """q(x_j|x_k, x_0) q(x_k|x_0) = q(x_k|x_j) q(x_j|x_0), as densities, at arbitrary x_j: Ho et al. 2020, (6), (7)."""
    x_j = normal(5, 6, 2)
    mean, variance = posterior(chain, X, Z, k, j)

    def log_density(at: Tensor, moments: tuple[Tensor, Tensor]) -> Tensor:
        return Normal(moments[0], moments[1].sqrt()).log_prob(at)

    left = log_density(x_j, (mean, variance)) + log_density(X, forward(chain, Z, k))
    right = log_density(X, forward(chain, x_j, k, j)) + log_density(x_j, forward(chain, Z, j))
    torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)


def test_the_posteriors_formula_is_the_papers() -> None:
    chain, k = CHAINS["linear"], 700
    abar, before, var = chain.abar[k], chain.abar[k - 1], chain.var[k]
    mean = (before.sqrt() * var * Z + (1 - var).sqrt() * (1 - before) * X) / (1 - abar)
    found = posterior(chain, X, Z, k)
    torch.testing.assert_close(found[0], mean, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(found[1], (1 - before) / (1 - abar) * var, rtol=1e-11, atol=0)


def test_the_posterior_of_the_first_step_is_the_data_itself() -> None:
    mean, variance = posterior(CHAINS["linear"], X, Z, 1)
    torch.testing.assert_close(mean, Z, rtol=0, atol=1e-15)
    assert float(variance) == 0


def test_each_sample_may_have_its_own_step() -> None:
    chain, k = CHAINS["linear"], torch.tensor([1, 2, 10, 500, 999, 1000])
    for function in (lambda k: posterior(chain, X, Z, k), lambda k: forward(chain, Z, k)):
        mean, variance = function(k)
        assert variance.shape == (6, 1)
        for i, own in enumerate(k.tolist()):
            torch.testing.assert_close(mean[i], function(own)[0][i], rtol=0, atol=0)
            torch.testing.assert_close(variance[i, 0], function(own)[1], rtol=0, atol=0)


def test_float32_loses_nothing_near_the_data() -> None:
    """1 - abar_1 = 1e-4 would cancel to three digits in float32."""
    chain = CHAINS["linear"]
    _, variance = posterior(chain, X.float(), Z.float(), 2)
    assert variance.dtype == torch.float32
    assert float(variance) == pytest.approx(float(posterior(chain, X, Z, 2)[1]), rel=1e-6)


# --- both fixed variances


@pytest.mark.parametrize("k", [1, 2, 100, 1000])
def test_both_fixed_variances_are_right_for_the_data_they_are_meant_for(k: int) -> None:
    """Ho et al. 2020, section 3.2: "large" if the data are standard Gaussian, "small" if they are one point."""
    chain = CHAINS["linear"]
    path = GaussianPath(chain)
    gaussian = MixtureField(torch.zeros(1, 2, dtype=torch.float64), 1.0, path=path)
    mean, variance = reverse(gaussian, chain, X, None, k, k - 1, "large")
    # x_(k-1) and x_k are jointly Gaussian with variances 1 and covariance sqrt(1 - var_k).
    torch.testing.assert_close(mean, (1 - chain.var[k]).sqrt() * X, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(variance, chain.var[k], rtol=1e-9, atol=0)
    point = MixtureField(Z[:1], 0.0, path=path)
    mean, variance = reverse(point, chain, X, None, k, k - 1, "small")
    expected = posterior(chain, X, Z[:1].expand_as(X), k)
    torch.testing.assert_close(mean, expected[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(variance, expected[1], rtol=0, atol=0)


def test_the_reverse_mean_is_the_papers_in_terms_of_the_noise() -> None:
    """Ho et al. 2020, equation 11: (x - var_k / sqrt(1 - abar_k) eps) / sqrt(1 - var_k)."""
    chain = CHAINS["linear"]
    field = mixture(chain)
    for k in (1, 2, 300, 1000):
        eps = field.noise(X, chain.time(k))
        expected = (X - chain.var[k] / (1 - chain.abar[k]).sqrt() * eps) / (1 - chain.var[k]).sqrt()
        torch.testing.assert_close(reverse(field, chain, X, None, k, k - 1)[0], expected, rtol=0, atol=1e-10)


def test_the_bound_is_a_sum_of_divergences_between_gaussians() -> None:
    """One term of Ho et al. 2020, equation 8, is their equation 12: the error of the noise with its weight."""
    chain, k = CHAINS["linear"], 400
    noise, guess = normal(8, 6, 2), normal(9, 6, 2)
    x = GaussianPath(chain).sample(Z, chain.time(k), noise)
    x_0 = (x - (1 - chain.abar[k]).sqrt() * guess) / chain.abar[k].sqrt()
    (true, variance), (model, _) = posterior(chain, x, Z, k), posterior(chain, x, x_0, k)
    term = kl_divergence(Normal(true, variance.sqrt()), Normal(model, variance.sqrt()))
    weight = chain.var[k] ** 2 / (2 * variance * (1 - chain.var[k]) * (1 - chain.abar[k]))
    torch.testing.assert_close(term, weight * (noise - guess) ** 2, rtol=1e-8, atol=1e-12)


FIELD = mixture(CHAINS["short"])
BAD = [
    (lambda: forward(CHAINS["short"], X, 51), r"k must lie in 0 \.\.\. 50, got 51"),
    (lambda: forward(CHAINS["short"], X, -1), "k must lie in"),
    (lambda: forward(CHAINS["short"], X, 2.5), "k must be an integer"),
    (lambda: forward(CHAINS["short"], X, True), "k must be an integer"),
    (lambda: forward(CHAINS["short"], X, torch.tensor([1, 2])), r"k must have shape \(\) or \(6,\), got \(2,\)"),
    (lambda: forward(CHAINS["short"], X, 3, 4), "k must not be less than j"),
    (lambda: forward(CHAINS["short"], [1.0], 3), "x must be a torch.Tensor"),
    (lambda: posterior(CHAINS["short"], X, Z, 3, 3), "k must be greater than j"),
    (lambda: posterior(CHAINS["short"], X, Z, 0), "j must lie in"),
    (lambda: posterior(CHAINS["short"], X, Z[:3], 3), "x_0 must have the shape of x"),
    (lambda: reverse(FIELD, CHAINS["short"], X, None, 3, 2, "middle"), "variance must be one of small, large"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_named(call, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()
