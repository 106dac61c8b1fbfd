"""The variational bound where everything is known: its terms, its decoder, and its total beside the exact entropy."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from examples import gaussian, mixture, normal, seeded
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from flowlib.chains import (
    Bound,
    Chain,
    discretised_log_prob,
    fixed_reverse,
    forward,
    kl_normal,
    posterior,
    prior_term,
    reverse,
    term_at,
    variational_bound,
)
from flowlib.fields import MixtureField
from flowlib.paths import GaussianPath
from flowlib.schedules import Cosine

CHAINS = {"linear": Chain.linear(1000), "cosine": Chain.of(Cosine(), 1000), "short": Chain.of(Cosine(), 30)}
ALL = pytest.mark.parametrize("chain", CHAINS.values(), ids=list(CHAINS))
X, Z = normal(0, 6, 2), normal(1, 6, 2)


def grid(levels: int) -> Tensor:
    return (2 * torch.arange(levels, dtype=torch.float64) / (levels - 1) - 1)[:, None]


# --- the decoder


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(("mean", "std"), [(0.3, 1e-3), (0.0, 0.1), (-1.2, 2.0), (5.0, 0.01), (0.5, 1e-6), (0.2, 1e3)])
def test_all_bins_sum_to_one(levels: int, mean: float, std: float) -> None:
    """Property 22, 1e-10."""
    parameters = torch.tensor([mean, std], dtype=torch.float64)
    total = discretised_log_prob(grid(levels), *parameters, levels).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-10)


def test_a_bin_has_what_the_normal_distribution_has_in_it() -> None:
    values, mean, std, normal_ = grid(256)[1:-1], torch.tensor(0.13), torch.tensor(0.05), Normal(0.13, 0.05)
    expected = normal_.cdf(values + 1 / 255) - normal_.cdf(values - 1 / 255)
    found = discretised_log_prob(values, mean, std).exp()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-14)


def test_far_bins_keep_their_digits_and_their_gradients() -> None:
    """40 standard deviations away the probability is 0 in any format, its logarithm is not; float32 as well."""
    for dtype in (torch.float64, torch.float32):
        z = grid(256).to(dtype)
        mean = torch.tensor(0.0, dtype=dtype, requires_grad=True)
        std = torch.tensor(0.02, dtype=dtype, requires_grad=True)
        found = discretised_log_prob(z, mean, std)
        assert bool(torch.isfinite(found).all())
        lower = (z[1] + 1 / 255) / 0.02  # the upper edge of the second bin, 50 standard deviations below
        assert float(found[1].detach()) == pytest.approx(float(torch.special.log_ndtr(lower.double())), rel=1e-4)
        for gradient in torch.autograd.grad(found.sum(), (mean, std)):
            assert bool(torch.isfinite(gradient))


@pytest.mark.parametrize("levels", [256, 17])
def test_a_uniform_model_costs_the_bits_of_its_levels(levels: int) -> None:
    """Property 22: 8 bits for 256. The inner bins of a normal distribution much wider than the range are alike."""
    inner = discretised_log_prob(grid(levels)[1:-1], torch.tensor(0.0).double(), torch.tensor(1e4).double(), levels)
    share = (inner - torch.logsumexp(inner, 0)) / math.log(2)
    torch.testing.assert_close(-share, torch.full_like(share, math.log2(levels - 2)), rtol=0, atol=1e-6)
    # Exactly uniform: the mean of two outer and all inner bins, whatever the pixel.
    uniform = torch.full((levels, 1), 1 / levels, dtype=torch.float64)
    assert float(-(uniform * uniform.log2()).sum()) == pytest.approx(math.log2(levels), abs=1e-12)


def test_a_model_that_knows_nothing_of_uniform_pixels_costs_at_least_eight_bits() -> None:
    """The whole bound, on pixels that are uniform on 256 values: no model can do better, and a fair one comes near."""
    chain = Chain.of(Cosine(), 50)
    pixels = (torch.randint(0, 256, (1500, 1), generator=seeded(0)).double() / 127.5) - 1
    # The exact field of that distribution: 256 points.
    field = MixtureField(grid(256), 0.0, path=GaussianPath(chain))
    bound = variational_bound(exact(field, chain), chain, pixels, generator=seeded(1)).total
    error = float(bound.std()) / len(bound) ** 0.5
    assert 8 - 4 * error < float(bound.mean()) < 8.3


# --- its terms


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


# --- the whole


def spread_of_data(field: MixtureField, x: Tensor, t: Tensor) -> Tensor:
    """The variance of z given x_t, the mean over components: (B, 1); by the law of total variance."""
    log_joint, gap, variance, alpha, beta = field._components(x, t, None)
    share = torch.softmax(log_joint, 1)
    inner = (field.std**2 * beta**2 / variance).expand_as(share)
    centre = field.means.flatten(1) + (alpha * field.std**2 / variance)[..., None] * gap  # (B, K, D)
    middle = (share[..., None] * centre).sum(1, keepdim=True)
    return (share * (inner + (centre - middle).square().mean(2))).sum(1, keepdim=True)


def exact(field: MixtureField, chain: Chain):  # type: ignore[no-untyped-def]
    """The best Gaussian p(x_j|x_k): the true mean and the true variance, averaged over coordinates."""

    def step(x: Tensor, y: Tensor | None, k: int, j: int) -> tuple[Tensor, Tensor]:
        t = chain.time(k)
        mean, small = posterior(chain, x, field.data(x, t), k, j)
        weight = posterior(chain, torch.zeros_like(x[:1]), torch.ones_like(x[:1]), k, j)[0].flatten()[0]
        return mean, small + weight**2 * spread_of_data(field, x, t)

    return step


def gap(field: MixtureField, chain: Chain, make, count: int = 20_000, steps: int | None = None) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """The bound less the negative log density, in the mean, bits/dim, and its standard error."""
    z, _ = field.sample(count, seeded(3))
    bound = variational_bound(make(field, chain), chain, z, levels=None, steps=steps, generator=seeded(4)).total
    difference = bound + field.log_prob(z, 1.0) / z.shape[1] / math.log(2)
    return float(difference.mean()), float(difference.std()) / count**0.5


def test_on_a_gaussian_the_bound_with_the_optimal_variance_is_the_entropy() -> None:
    """The reversal of a Gaussian is Gaussian, step by step: nothing is lost but the prior's mismatch."""
    chain = Chain.of(Cosine(), 20)
    found, error = gap(gaussian(0.4, 0.5, chain), chain, exact)
    assert abs(found) < 5 * error
    assert error < 0.02


def test_the_bound_is_above_the_entropy_and_the_gap_shrinks_with_the_steps() -> None:
    """Property 22, on a mixture whose density is known, with its exact mean and variance."""
    gaps = []
    for steps in (4, 10, 40, 200):
        chain = Chain.of(Cosine(), steps)
        field = MixtureField(torch.tensor([[-0.8], [0.7]]).double(), 0.15, path=GaussianPath(chain))
        gaps.append(gap(field, chain, exact))
        assert gaps[-1][0] > -4 * gaps[-1][1]
    for (coarse, error), (fine, other) in pairwise(gaps):
        assert fine < coarse + 4 * (error + other)
    assert gaps[0][0] > 0.1 > 0.02 > gaps[-1][0]


@pytest.mark.parametrize("variance", ["small", "large"])
def test_a_fixed_variance_leaves_a_gap_that_more_steps_do_not_close(variance: str) -> None:
    """The steps next to the data cost the same whatever T is: the ratio of both variances there is the same."""
    gaps = []
    for steps in (40, 200):
        chain = Chain.of(Cosine(), steps)
        field = MixtureField(torch.tensor([[-0.8], [0.7]]).double(), 0.15, path=GaussianPath(chain))
        gaps.append(gap(field, chain, partial(fixed_reverse, variance=variance))[0])
    assert min(gaps) > 0.05


def test_a_strided_bound_is_that_of_fewer_steps() -> None:
    chain = Chain.of(Cosine(), 200)
    field = MixtureField(torch.tensor([[-0.8], [0.7]]).double(), 0.15, path=GaussianPath(chain))
    few, error = gap(field, chain, exact, steps=10)
    many, other = gap(field, chain, exact)
    assert few > many + 4 * (error + other)
    assert many > -4 * other


def test_the_result_has_the_terms_in_order_and_does_not_depend_on_the_parts() -> None:
    chain, field = CHAINS["short"], mixture(CHAINS["short"])
    z, _ = field.sample(10, seeded(0))
    step = fixed_reverse(field, chain)
    whole = variational_bound(step, chain, z, levels=None, generator=seeded(1))
    parts = variational_bound(step, chain, z, levels=None, generator=seeded(1), batch_size=3)
    assert isinstance(whole, Bound)
    assert whole.terms.shape == (10, 30)
    torch.testing.assert_close(whole.total, whole.prior + whole.terms.sum(1), rtol=0, atol=0)
    torch.testing.assert_close(parts.terms, whole.terms, rtol=1e-12, atol=1e-14)
    x = forward(chain, z, 30)[0] + forward(chain, z, 30)[1].sqrt() * torch.randn(
        z.shape, generator=seeded(1), dtype=z.dtype
    )
    first = term_at(chain, x, z, 30, 29, *step(x, None, 30, 29), levels=None)
    torch.testing.assert_close(whole.terms[:, 0], first, rtol=1e-12, atol=1e-14)


PIXELS = grid(256)
BAD = [
    (lambda: discretised_log_prob(PIXELS + 0.001, X[0, 0], X[0, 0].abs()), "z must hold 256 pixel values"),
    (lambda: discretised_log_prob(PIXELS * 2, X[0, 0], X[0, 0].abs(), 256), "z must hold 256 pixel values"),
    (lambda: discretised_log_prob(PIXELS, X[0, 0], X[0, 0].abs(), 1), "levels must be an integer >= 2"),
    (lambda: fixed_reverse(mixture(), CHAINS["short"], "middle"), "variance must be one of small, large"),
    (lambda: variational_bound(None, CHAINS["short"], [1.0]), "z must be a torch.Tensor"),  # type: ignore[arg-type]
    (lambda: variational_bound(None, CHAINS["short"], Z, steps=31), "steps must be at most 30"),  # type: ignore[arg-type]
    (lambda: variational_bound(None, CHAINS["short"], Z, batch_size=0), "batch_size must be"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_named(call, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()
