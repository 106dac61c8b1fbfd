"""The variational bound where everything is known: its total beside the exact entropy, more and fewer steps."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from examples import gaussian, mixture, normal, seeded
from torch import Tensor

from flowlib.chains import (
    Bound,
    Chain,
    fixed_reverse,
    forward,
    posterior,
    term_at,
    variational_bound,
)
from flowlib.fields import MixtureField
from flowlib.paths import GaussianPath
from flowlib.schedules import Cosine

SHORT = Chain.of(Cosine(), 30)
Z = normal(1, 6, 2)


def grid(levels: int) -> Tensor:
    return (2 * torch.arange(levels, dtype=torch.float64) / (levels - 1) - 1)[:, None]


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


def test_a_model_that_knows_nothing_of_uniform_pixels_costs_at_least_eight_bits() -> None:
    """The whole bound, on pixels that are uniform on 256 values: no model can do better, and a fair one comes near."""
    chain = Chain.of(Cosine(), 50)
    pixels = (torch.randint(0, 256, (1500, 1), generator=seeded(0)).double() / 127.5) - 1
    # The exact field of that distribution: 256 points.
    field = MixtureField(grid(256), 0.0, path=GaussianPath(chain))
    bound = variational_bound(exact(field, chain), chain, pixels, generator=seeded(1)).total
    error = float(bound.std()) / len(bound) ** 0.5
    assert 8 - 4 * error < float(bound.mean()) < 8.3


def test_a_strided_bound_is_that_of_fewer_steps() -> None:
    chain = Chain.of(Cosine(), 200)
    field = MixtureField(torch.tensor([[-0.8], [0.7]]).double(), 0.15, path=GaussianPath(chain))
    few, error = gap(field, chain, exact, steps=10)
    many, other = gap(field, chain, exact)
    assert few > many + 4 * (error + other)
    assert many > -4 * other


def test_the_result_has_the_terms_in_order_and_does_not_depend_on_the_parts() -> None:
    chain, field = SHORT, mixture(SHORT)
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


BAD = [
    (lambda: fixed_reverse(mixture(), SHORT, "middle"), "variance must be one of small, large"),
    (lambda: variational_bound(None, SHORT, [1.0]), "z must be a torch.Tensor"),  # type: ignore[arg-type]
    (lambda: variational_bound(None, SHORT, Z, steps=31), "steps must be at most 30"),  # type: ignore[arg-type]
    (lambda: variational_bound(None, SHORT, Z, batch_size=0), "batch_size must be"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_named(call, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()


def test_guides_of_another_number_than_samples_are_refused() -> None:
    """Split into parts, too many would be cut off without a word."""
    z = torch.zeros(4, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"^y must hold a guide for each sample, 4, got 6"):
        variational_bound(lambda x, y, k, j: (x, x), Chain.linear(50), z, torch.zeros(6).long(), batch_size=2)
