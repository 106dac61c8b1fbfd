"""A small convolutional variational autoencoder (Kingma & Welling 2014), the first stage of a latent model.

The encoder turns an image into a Gaussian over latents with `factor` times fewer pixels a side, the decoder turns a
latent back into an image. As in latent diffusion (Rombach et al. 2022, section 3.1) the KL term is kept weak: the
latents need not be Gaussian, because a flow will learn their distribution; they only need to be smooth and bounded.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count, check_image_shape, check_tensor
from flowlib.nets.embeddings import zero_init
from flowlib.nets.norm import GroupNorm


class ConvBlock(nn.Module):
    """x + conv(silu(conv(silu(norm(x))))): (B, channels, H, W) -> the same. At first x passes unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zero_init(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))


class Autoencoder(nn.Module):
    """Images (B, in_channels, H, W) to latents (B, latent_channels, H / factor, W / factor) and back.

    Args:
        in_channels: image channels.
        latent_channels: latent channels.
        channels: width of the convolutions, a multiple of 8.
        factor: pixels that become one latent pixel, a side; a power of two, 1 included.
        depth: residual blocks at each image size, in the encoder and in the decoder.

    H and W must be multiples of factor. Most of the cost would be in the largest images, so the first halving folds
    2 x 2 pixels into channels before any convolution.

    Raises:
        ValueError: for a size that does not fit, naming it.
    """

    edges: tuple[str, ...]

    def __init__(
        self, in_channels: int = 1, latent_channels: int = 4, channels: int = 32, factor: int = 4, depth: int = 1
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "latent_channels": latent_channels, "factor": factor, "depth": depth}
        for name, value in sizes.items():
            check_count(name, value)
        if factor & (factor - 1):
            raise ValueError(f"factor must be a power of two, got {factor}")
        if check_count("channels", channels) % 8:
            raise ValueError(f"channels must be a multiple of 8, got {channels}")
        self.in_channels, self.latent_channels, self.factor = in_channels, latent_channels, factor
        self.patch = min(factor, 2)
        halvings = (factor // self.patch).bit_length() - 1

        def blocks() -> list[nn.Module]:
            return [ConvBlock(channels) for _ in range(depth)]

        folded = in_channels * self.patch**2
        encoder: list[nn.Module] = [nn.Conv2d(folded, channels, 3, padding=1), *blocks()]
        decoder: list[nn.Module] = [nn.Conv2d(latent_channels, channels, 3, padding=1), *blocks()]
        for _ in range(halvings):
            encoder += [nn.Conv2d(channels, channels, 3, stride=2, padding=1), *blocks()]
            decoder += [nn.Upsample(scale_factor=2), nn.Conv2d(channels, channels, 3, padding=1), *blocks()]
        encoder += [GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, 2 * latent_channels, 1)]
        decoder += [GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, folded, 3, padding=1)]
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)
        self.edges = ("encoder.0", f"encoder.{len(encoder) - 1}", "decoder.0", f"decoder.{len(decoder) - 1}")

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The Gaussian q(z|x) of each latent component: its mean and the logarithm of its variance.

        Args:
            x: images (B, in_channels, H, W) in [-1, 1].

        Returns:
            two tensors (B, latent_channels, H / factor, W / factor).

        Raises:
            ValueError: for images of another shape or dtype.
        """
        check_image_shape("x", check_tensor("x", x, finite=False), self.in_channels, self.factor)
        mean, log_variance = self.encoder(F.pixel_unshuffle(x, self.patch)).chunk(2, dim=1)
        return mean, log_variance

    def sample(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw a latent z ~ q(z|x) for each image, by reparameterisation; shapes and errors as in `encode`."""
        return draw(*self.encode(x), generator)

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, latent_channels, h, w) -> images (B, in_channels, h factor, w factor), not clipped to [-1, 1].

        Raises:
            ValueError: for latents of another shape or dtype.
        """
        check_image_shape("z", check_tensor("z", z, finite=False), self.latent_channels, sides="h, w")
        return F.pixel_shuffle(self.decoder(z), self.patch)

    def forward(self, x: Tensor) -> Tensor:
        """Images -> their reconstructions from the means of q(z|x), with no noise; shapes and errors as in `encode`."""
        return self.decode(self.encode(x)[0])


def draw(
    mean: Tensor, log_variance: Tensor, generator: torch.Generator | None = None, noise: Tensor | None = None
) -> Tensor:
    """mean + std noise, differentiable in both; `noise` is drawn on the CPU, so one seed is one noise everywhere."""
    noise = torch.randn(mean.shape, generator=generator) if noise is None else noise
    return mean + torch.exp(0.5 * log_variance) * noise.to(mean)
