"""The autoencoder's network: shapes, and draws from its Gaussian latents."""

import pytest
import torch
from pictures import blobs

from flowlib.nets import Autoencoder
from flowlib.nets.autoencoder import draw

pytestmark = pytest.mark.usefixtures("seeded_weights")


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(8, 8), (16, 24)])
def test_shapes(factor: int, size: tuple[int, int]) -> None:
    autoencoder = Autoencoder(in_channels=3, latent_channels=5, channels=16, factor=factor)
    x = torch.randn(2, 3, *size)
    mean, log_variance = autoencoder.encode(x)
    assert mean.shape == log_variance.shape == autoencoder.sample(x).shape
    assert mean.shape == (2, 5, size[0] // factor, size[1] // factor)
    assert autoencoder.decode(mean).shape == x.shape


def test_draws_have_the_stated_mean_and_variance() -> None:
    mean, log_variance = torch.tensor([[3.0]]).expand(100_000, 1), torch.tensor([[-2.0]]).expand(100_000, 1)
    z = draw(mean, log_variance, torch.Generator().manual_seed(0))
    std = torch.exp(torch.tensor(-1.0))
    assert abs(z.mean() - 3) < 5 * std / 100_000**0.5
    assert abs(z.std() / std - 1) < 5 / (2 * 100_000) ** 0.5


def test_noise_comes_from_the_generator_alone() -> None:
    autoencoder, x, state = Autoencoder(channels=8), blobs(2), torch.get_rng_state()
    first, second, other = (autoencoder.sample(x, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_bad_input_is_refused_by_name() -> None:
    autoencoder = Autoencoder(channels=8)
    for shape in ((2, 3, 8, 8), (2, 1, 8, 10), (2, 8)):
        with pytest.raises(ValueError, match=r"x must have shape \(batch, 1, H, W\) with H and W multiples of 4, got"):
            autoencoder.encode(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"z must have shape \(batch, 4, h, w\), got \(2, 1, 2, 2\)"):
        autoencoder.decode(torch.zeros(2, 1, 2, 2))
    with pytest.raises(ValueError, match="x must be a floating-point tensor"):
        autoencoder.encode(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    for name, value in (("factor", 3), ("factor", 0), ("channels", 12), ("latent_channels", 0), ("depth", 0)):
        with pytest.raises(ValueError, match=f"{name} must be"):
            Autoencoder(**{name: value})
    with pytest.raises(TypeError, match="width"):
        Autoencoder(width=8)
