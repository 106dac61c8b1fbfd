"""The decoder of the bound: a normal distribution in bins, however far away (PROPERTY 22)."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from flowlib.chains import (
    discretised_log_prob,
)


def grid(levels: int) -> Tensor:
    return (2 * torch.arange(levels, dtype=torch.float64) / (levels - 1) - 1)[:, None]


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


PIXELS, ZERO = grid(256), torch.zeros((), dtype=torch.float64)


@pytest.mark.parametrize(
    ("values", "levels", "message"),
    [
        (PIXELS + 0.001, 256, "z must hold 256 pixel values"),
        (PIXELS * 2, 256, "z must hold 256 pixel values"),
        (PIXELS, 1, "levels must be an integer >= 2"),
    ],
)
def test_what_is_no_pixel_is_named(values: Tensor, levels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        discretised_log_prob(values, ZERO, ZERO + 1, levels)
