"""The terms of the variational bound: divergences of a chain's Gaussians, the prior's, and fixed reversals."""

import math

import pytest
import torch
from examples import mixture, normal, seeded
from torch.distributions import Normal, kl_divergence

from flowlib.chains import (
    Chain,
    discretised_log_prob,
    fixed_reverse,
    forward,
    kl_normal,
    posterior,
    prior_term,
    reverse,
    term_at,
)
from flowlib.schedules import Cosine

CHAINS = {"linear": Chain.linear(1000), "cosine": Chain.of(Cosine(), 1000), "short": Chain.of(Cosine(), 30)}
ALL = pytest.mark.parametrize("chain", CHAINS.values(), ids=list(CHAINS))
X, Z = normal(0, 6, 2), normal(1, 6, 2)


def test_the_divergence_is_that_of_torch_distributions() -> None:
    mean, other, log_variance, other_log_variance = (normal(seed, 50) for seed in range(4))
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(other, (other_log_variance / 2).exp()))
    torch.testing.assert_close(kl_normal(mean, log_variance, other, other_log_variance), expected, rtol=1e-12, atol=0)
    near = kl_normal(mean.float(), torch.zeros(50), mean.float(), torch.full((50,), 1e-4))
    torch.testing.assert_close(near, torch.full((50,), 2.5e-9), rtol=1e-3, atol=0)  # 1e-4^2 / 4


@ALL
@pytest.mark.parametrize("variance", ["small", "large"])
def test_each_term_is_a_divergence_of_the_chains_gaussians(chain: Chain, variance: str) -> None:
    field, k = mixture(chain), torch.tensor([2, 3, 7, 11, 29, 30])
    (true, spread), moments = posterior(chain, X, Z, k), fixed_reverse(field, chain, variance)(X, None, k, k - 1)
    expected = kl_divergence(
        Normal(true, spread.sqrt().expand_as(X)), Normal(moments[0], moments[1].sqrt().expand_as(X))
    )
    found = term_at(chain, X, Z, k, k - 1, *moments, levels=None)
    torch.testing.assert_close(found, expected.mean(1) / math.log(2), rtol=1e-9, atol=1e-12)


def test_one_batch_may_hold_the_last_step_and_others() -> None:
    chain = CHAINS["short"]
    pixels = (torch.randint(0, 17, (3, 2), generator=seeded(0)).double() / 8) - 1
    field, k = mixture(chain), torch.tensor([1, 5, 1])
    step = fixed_reverse(field, chain, "large")
    both = term_at(chain, X[:3], pixels, k, k - 1, *step(X[:3], None, k, k - 1), levels=17)
    for i, own in enumerate(k.tolist()):
        part = slice(i, i + 1)
        moments = step(X[part], None, own, own - 1)
        alone = term_at(chain, X[part], pixels[part], own, own - 1, *moments, levels=17)
        torch.testing.assert_close(both[part], alone, rtol=1e-12, atol=0)
    mean, spread = step(X[:1], None, 1, 0)
    decoder = -discretised_log_prob(pixels[:1], mean, spread.sqrt(), 17).mean(1) / math.log(2)
    torch.testing.assert_close(both[:1], decoder, rtol=1e-12, atol=0)


@ALL
def test_the_prior_is_the_divergence_from_standard_noise(chain: Chain) -> None:
    mean, spread = forward(chain, Z, chain.steps)
    expected = kl_divergence(Normal(mean, spread.sqrt().expand_as(Z)), Normal(0.0, 1.0)).mean(1) / math.log(2)
    torch.testing.assert_close(prior_term(chain, Z), expected, rtol=1e-6, atol=1e-15)


def test_fixed_reversals_are_ddpms_but_for_the_decoder() -> None:
    """At j = 0 both have the posterior's variance from 2 to 1, where Ho et al.'s code clips it."""
    chain, field = CHAINS["linear"], mixture(CHAINS["linear"])
    for variance in ("small", "large"):
        step = fixed_reverse(field, chain, variance)
        for k, j in ((1000, 999), (2, 1), (500, 250)):
            for ours, theirs in zip(step(X, None, k, j), reverse(field, chain, X, None, k, j, variance), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
        assert float(step(X, None, 1, 0)[1]) == pytest.approx(float(posterior(chain, X, Z, 2)[1]), rel=1e-12)
        assert float(step(X, None, 250, 0)[1]) == pytest.approx(float(posterior(chain, X, Z, 500, 250)[1]), rel=1e-12)
        assert float(step(X, None, 1000, 0)[1]) == pytest.approx(float(forward(chain, X, 1000)[1]), rel=1e-12)
