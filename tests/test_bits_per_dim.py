"""Bits per dimension (PROPERTY 22) and dequantised pixels."""

import math

import pytest
import torch
from examples import normal, seeded

from flowlib.likelihood import bits_per_dim, dequantise


def test_a_uniform_model_costs_8_bits_a_dimension() -> None:
    """Property 22: density 1/(256 * 2/255) in each dimension."""
    dims = 784
    log_density = torch.full((3,), -dims * math.log(256 * 2 / 255), dtype=torch.float64)
    torch.testing.assert_close(bits_per_dim(log_density, dims), torch.full((3,), 8.0).double(), rtol=0, atol=1e-12)


def test_bits_of_a_known_density_are_its_entropy() -> None:
    """Of a normal with s.d. 0.25: -log2 p(x) - log2(2/255) in the mean."""
    x = 0.25 * normal(0, 100, 4)
    log_density = torch.distributions.Normal(0, 0.25).log_prob(x).sum(1)
    expected = float(-(log_density.mean() / 4) / math.log(2) - math.log2(2 / 255))
    assert float(bits_per_dim(log_density, 4).mean()) == pytest.approx(expected, rel=1e-9)


def test_dequantised_pixels_fill_their_own_bins_evenly() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).repeat(200).reshape(200, 1, 16, 16)
    x = dequantise(pixels, seeded(0))
    assert x.dtype == torch.float32
    assert float(x.min()) >= -1 - 1 / 255 - 1e-6
    assert float(x.max()) <= 1 + 1 / 255 + 1e-6
    inside = (x.double() + 1) * 127.5 - pixels  # in (-1/2, 1/2)
    assert float(inside.abs().max()) <= 0.5 + 1e-4
    assert float(inside.mean()) == pytest.approx(0, abs=5 / (12 * inside.numel()) ** 0.5)
    assert float(inside.var()) == pytest.approx(1 / 12, rel=0.03)
    assert torch.equal(x, dequantise(pixels, seeded(0)))
    with pytest.raises(ValueError, match="pixels must be uint8"):
        dequantise(pixels.float())
