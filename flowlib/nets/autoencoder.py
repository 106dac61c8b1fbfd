"""A small convolutional variational autoencoder (Kingma & Welling 2014), the first stage of a latent model.

The encoder turns an image into a Gaussian over latents with `factor` times fewer pixels a side, the decoder turns a
latent back into an image. As in latent diffusion (Rombach et al. 2022, section 3.1) the KL term is kept weak: the
latents need not be Gaussian, because a flow will learn their distribution; they only need to be smooth and bounded.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count, check_flag, check_image_shape, check_tensor
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
        certain: whether a latent is a point, a Gaussian of variance 0, as in an autoencoder that is not variational.

    H and W must be multiples of factor. Most of the cost would be in the largest images, so the first halving folds
    2 x 2 pixels into channels before any convolution.

    Raises:
        ValueError: for a size that does not fit, naming it.

    Example:
        >>> import torch
        >>> from flowlib.nets import Autoencoder
        >>> autoencoder, x = Autoencoder(in_channels=1, latent_channels=4, channels=8), torch.rand(2, 1, 8, 8)
        >>> mean, log_variance = autoencoder.encode(x)
        >>> mean.shape, autoencoder(x).equal(autoencoder.decode(mean))
        (torch.Size([2, 4, 2, 2]), True)
    """

    edges: tuple[str, ...]

    def __init__(
        self,
        in_channels: int = 1,
        latent_channels: int = 4,
        channels: int = 32,
        factor: int = 4,
        depth: int = 1,
        certain: bool = False,
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
        self.certain = check_flag("certain", certain)
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
        encoder += [GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, (2 - certain) * latent_channels, 1)]
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
        return gaussian(self.encoder(F.pixel_unshuffle(x, self.patch)), self.certain)

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


class PointAutoencoder(nn.Module):
    """Points (B, dim) to latents (B, latent_channels) and back, by `depth` + 1 hidden layers of `channels` each way.

    `certain`, `encode`, `decode`, `forward` and errors as in `Autoencoder`, for these shapes.

    Example:
        >>> import torch
        >>> from flowlib.nets import PointAutoencoder
        >>> mean, log_variance = PointAutoencoder(dim=2, latent_channels=1, certain=True).encode(torch.randn(3, 2))
        >>> mean.shape, log_variance[0]  # a latent without variance
        (torch.Size([3, 1]), tensor([-inf]))
    """

    edges: tuple[str, ...]

    def __init__(
        self, dim: int = 2, latent_channels: int = 4, channels: int = 32, depth: int = 1, certain: bool = False
    ) -> None:
        super().__init__()
        check_count("depth", depth)
        self.latent_channels = check_count("latent_channels", latent_channels)
        self.certain = check_flag("certain", certain)

        def layers(before: int, after: int) -> nn.Sequential:
            inner = [part for _ in range(depth) for part in (nn.Linear(channels, channels), nn.SiLU())]
            return nn.Sequential(nn.Linear(before, channels), nn.SiLU(), *inner, nn.Linear(channels, after))

        self.encoder = layers(check_count("dim", dim), (2 - certain) * latent_channels)
        self.decoder = layers(latent_channels, dim)
        last = 2 * depth + 2
        self.edges = ("encoder.0", f"encoder.{last}", "decoder.0", f"decoder.{last}")

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        check_tensor("x", x, finite=False)
        return gaussian(self.encoder(x), self.certain)

    def decode(self, z: Tensor) -> Tensor:
        check_tensor("z", z, finite=False)
        return self.decoder(z)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x)[0])


def gaussian(code: Tensor, certain: bool) -> tuple[Tensor, Tensor]:
    """Mean and logarithm of the variance from an encoder's output, whose channels hold both; or minus infinity."""
    mean, log_variance = (code, torch.full_like(code, -torch.inf)) if certain else code.chunk(2, dim=1)
    return mean, log_variance


def draw(
    mean: Tensor, log_variance: Tensor, generator: torch.Generator | None = None, noise: Tensor | None = None
) -> Tensor:
    """mean + std noise, differentiable in both; `noise` is drawn on the CPU, so one seed is one noise everywhere."""
    noise = torch.randn(mean.shape, generator=generator) if noise is None else noise
    return mean + torch.exp(0.5 * log_variance) * noise.to(mean)
