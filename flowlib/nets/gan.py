"""Networks that play against each other: a generator, its discriminator, and one that judges patches.

Example:
    >>> import torch
    >>> from flowlib.nets import ConvDiscriminator, ConvGenerator, PatchDiscriminator
    >>> from flowlib.nets import PointDiscriminator, PointGenerator
    >>> y = torch.tensor([3, 5])
    >>> x = ConvGenerator(size=8, channels=8)(torch.randn(2, 32), y)
    >>> x.shape, bool((x.abs() < 1).all())
    (torch.Size([2, 1, 8, 8]), True)
    >>> ConvDiscriminator(size=8, channels=8)(x, y).shape, PatchDiscriminator()(x).shape
    (torch.Size([2]), torch.Size([2, 1, 2, 2]))
    >>> points = PointGenerator()(torch.randn(2, 8))
    >>> points.shape, PointDiscriminator()(points).shape
    (torch.Size([2, 2]), torch.Size([2]))
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count, check_image_shape, check_labels, check_tensor
from flowlib.nets.norm import GroupNorm


class ConvGenerator(nn.Module):
    """generator(noise, y): (B, noise_dim), labels (B,) -> images (B, in_channels, size, size) in (-1, 1).

    A linear layer to size / 4 pixels a side, then twice: double the image, convolve (after Radford et al. 2016,
    arXiv:1511.06434, with group instead of batch normalisation: no sample then depends on its neighbours).

    Args:
        size: of the images, a multiple of 4, such as 8 or 28.
        in_channels: image channels.
        noise_dim: length of the noise.
        channels: width at the full size, a multiple of 8; twice that below.
        classes: number of labels, or None for a generator without.

    Raises:
        ValueError: for a size that does not fit, naming it.
    """

    edges: ClassVar[tuple[str, ...]] = ("layers.0", "layers.12", "label")

    def __init__(
        self, size: int = 28, in_channels: int = 1, noise_dim: int = 32, channels: int = 32, classes: int | None = 10
    ) -> None:
        super().__init__()
        _check_sizes(size, in_channels, channels, classes)
        self.noise_dim, self.classes = check_count("noise_dim", noise_dim), classes
        self.label = None if classes is None else nn.Embedding(classes, noise_dim)
        wide, base = 2 * channels, size // 4
        self.layers = nn.Sequential(
            nn.Linear(noise_dim * (1 if classes is None else 2), wide * base**2),
            nn.Unflatten(1, (wide, base, base)),
            *(GroupNorm(8, wide), nn.SiLU(), nn.Upsample(scale_factor=2), nn.Conv2d(wide, wide, 3, padding=1)),
            *(GroupNorm(8, wide), nn.SiLU(), nn.Upsample(scale_factor=2), nn.Conv2d(wide, channels, 3, padding=1)),
            *(GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, in_channels, 3, padding=1), nn.Tanh()),
        )

    def forward(self, noise: Tensor, y: Tensor | None = None) -> Tensor:
        check_tensor("noise", noise, finite=False)
        if noise.shape[1:] != (self.noise_dim,):
            raise ValueError(f"noise must have shape (batch, {self.noise_dim}), got {tuple(noise.shape)}")
        guide = _embed(self.label, self.classes, y, noise)
        return self.layers(noise if guide is None else torch.cat([noise, guide], 1))


class ConvDiscriminator(nn.Module):
    """discriminator(x, y): images (B, in_channels, size, size), labels (B,) -> logits (B,), positive for data.

    Two convolutions of stride 2, then a linear layer; the label enters as an inner product with the last features
    (Miyato & Koyama 2018, arXiv:1802.05637). No normalisation: the gradient penalty looks at one sample at a time.
    Arguments and errors as those of `ConvGenerator`.
    """

    edges: ClassVar[tuple[str, ...]] = ("layers.0", "head", "label")

    def __init__(self, size: int = 28, in_channels: int = 1, channels: int = 32, classes: int | None = 10) -> None:
        super().__init__()
        _check_sizes(size, in_channels, channels, classes)
        self.shape, self.classes = (in_channels, size, size), classes
        features = 4 * channels
        self.layers = nn.Sequential(
            *(nn.Conv2d(in_channels, channels, 3, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(2 * channels, 2 * channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2), nn.Flatten()),
            *(nn.Linear(2 * channels * (size // 4) ** 2, features), nn.LeakyReLU(0.2)),
        )
        self.head = nn.Linear(features, 1)
        self.label = None if classes is None else nn.Embedding(classes, features)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        check_tensor("x", x, finite=False)
        if x.shape[1:] != self.shape:
            raise ValueError(f"x must have shape (batch, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        h = self.layers(x)  # (B, features)
        guide = _embed(self.label, self.classes, y, x)
        return self.head(h)[:, 0] if guide is None else self.head(h)[:, 0] + (guide * h).sum(1) / h.shape[1] ** 0.5


def _embed(table: nn.Embedding | None, classes: int | None, y: Tensor | None, like: Tensor) -> Tensor | None:
    if (table is None or classes is None) and y is not None:
        raise ValueError("y was given, but this network takes no labels")
    if table is None or classes is None:
        return None
    labels = check_labels("y", y, len(like), classes, like.device).long()
    if bool((labels == classes).any()):
        raise ValueError(f"y must lie in 0 ... {classes - 1}: a GAN knows no null guide")
    return table(labels)


def _check_sizes(size: int, in_channels: int, channels: int, classes: int | None) -> None:
    for name, value, unit in (("size", size, 4), ("channels", channels, 8), ("in_channels", in_channels, 1)):
        if check_count(name, value) % unit:
            raise ValueError(f"{name} must be a multiple of {unit}, got {value}")
    if classes is not None:
        check_count("classes", classes)


class PointGenerator(nn.Module):
    """generator(noise, y): (B, noise_dim), labels (B,) -> points (B, dim), by three hidden layers of `width`.

    Args and errors as those of `ConvGenerator`.
    """

    edges: ClassVar[tuple[str, ...]] = ("layers.0", "layers.6", "label")

    def __init__(self, dim: int = 2, noise_dim: int = 8, width: int = 128, classes: int | None = None) -> None:
        super().__init__()
        self.noise_dim, self.classes = check_count("noise_dim", noise_dim), classes
        self.label = None if classes is None else nn.Embedding(classes, noise_dim)
        self.layers = _layers(noise_dim * (1 if classes is None else 2), width, dim)

    def forward(self, noise: Tensor, y: Tensor | None = None) -> Tensor:
        guide = _embed(self.label, self.classes, y, noise)
        return self.layers(noise if guide is None else torch.cat([noise, guide], 1))


class PointDiscriminator(nn.Module):
    """discriminator(x, y): points (B, dim), labels (B,) -> logits (B,), positive for data; three hidden layers.

    Args and errors as those of `ConvGenerator`.
    """

    edges: ClassVar[tuple[str, ...]] = ("layers.0", "layers.6", "label")

    def __init__(self, dim: int = 2, width: int = 128, classes: int | None = None) -> None:
        super().__init__()
        self.classes = classes
        self.label = None if classes is None else nn.Embedding(classes, dim)
        self.layers = _layers(dim * (1 if classes is None else 2), width, 1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        guide = _embed(self.label, self.classes, y, x)
        return self.layers(x if guide is None else torch.cat([x, guide], 1))[:, 0]


def _layers(before: int, width: int, after: int) -> nn.Sequential:
    inner = [part for _ in range(2) for part in (nn.Linear(width, width), nn.LeakyReLU(0.2))]
    return nn.Sequential(nn.Linear(before, width), nn.LeakyReLU(0.2), *inner, nn.Linear(width, after))


class PatchDiscriminator(nn.Module):
    """A logit for each patch, high where it looks real: (B, in_channels, H, W) -> (B, 1, H / 4, W / 4).

    Each logit sees 18 x 18 pixels, whatever the image's size (Isola et al. 2017, section 3.2).

    Args:
        in_channels: image channels.
        channels: width of the first layer, a multiple of 4.

    H and W must be multiples of 4.

    Raises:
        ValueError: for a size that does not fit, naming it.
    """

    edges: ClassVar[tuple[str, ...]] = ("layers.0", "layers.5")

    def __init__(self, in_channels: int = 1, channels: int = 32) -> None:
        super().__init__()
        if check_count("channels", channels) % 4:
            raise ValueError(f"channels must be a multiple of 4, got {channels}")
        self.in_channels = check_count("in_channels", in_channels)
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1),
            GroupNorm(8, 2 * channels),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * channels, 1, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(check_image_shape("x", check_tensor("x", x, finite=False), self.in_channels, 4))
