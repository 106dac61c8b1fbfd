"""CLIP: an encoder of images and one of texts, with near features for an image and its caption (Radford et al. 2021).

An image encoder is a `ViT` or the convolutional network here, which has two ideas of CLIP's modified ResNet: images are
halved by means of pixels, so that no pixel is skipped, and the last mean over the image asks all pixels by attention.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count, check_image_size
from flowlib.nets.attention import Attention
from flowlib.nets.autoencoder import ConvBlock
from flowlib.nets.blocks import check_widths
from flowlib.nets.embeddings import TimeShift, add_time
from flowlib.nets.norm import GroupNorm
from flowlib.nets.transformer import TextTransformer

FIRST_SCALE, LARGEST_SCALE = math.log(1 / 0.07), math.log(100)


class AttentionPool(nn.Module):
    """One feature of an image, asked for by the mean of its pixels: (B, dim, H, W) -> (B, out_dim), H W = `pixels`.

    The mean is a token before the pixels, all have learned places, and attention from the mean to all is the result
    (`AttentionPool2d` in the code of CLIP).

    Example:
        >>> import torch
        >>> from flowlib.nets import AttentionPool
        >>> AttentionPool(pixels=16, dim=8, heads=2, out_dim=5)(torch.randn(2, 8, 4, 4)).shape
        torch.Size([2, 5])
    """

    edges: ClassVar[tuple[str, ...]] = ("places", "attention.out")  # what Muon leaves to AdamW

    def __init__(self, pixels: int, dim: int, heads: int, out_dim: int) -> None:
        super().__init__()
        self.places = nn.Parameter(dim**-0.5 * torch.randn(pixels + 1, dim))  # the mean's first
        self.attention = Attention(dim, heads, context_dim=dim, out_dim=out_dim)
        for layer in (self.attention.q, self.attention.kv, self.attention.out):
            nn.init.normal_(layer.weight, std=dim**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = x.flatten(2).transpose(1, 2)  # (B, H W, dim)
        h = torch.cat([h.mean(1, keepdim=True), h], dim=1) + self.places  # (B, 1 + H W, dim)
        return self.attention(h[:, :1], h)[:, 0]


class ImageCNN(nn.Module):
    """Images (B, in_channels, S, S) -> a feature of each (B, out_dim), and of the pixels of its last level (B, N, C).

    S is `image_size`, C = channels[-1], N = (S / 2^(levels - 1))^2, row by row. CLIP's own stem halves images of 224
    pixels twice before the first block; those here are small, and no pixel can be spared.

    Args:
        in_channels: image channels.
        image_size: pixels a side, a multiple of 2^(levels - 1).
        channels: width of each level, multiples of 8; the first works at the image's size, each next one at half of
            that.
        depth: residual blocks a level.
        heads: attention heads of the pooling, a divisor of C.
        out_dim: size of the image's feature.
        timed: whether it reads noised images, and takes their times.

    Raises:
        ValueError: for a size that does not fit; in calls for images of another shape, or times that are not wanted.

    Example:
        >>> import torch
        >>> from flowlib.nets import ImageCNN
        >>> whole, pixels = ImageCNN(image_size=16, channels=(8, 16, 32), out_dim=5)(torch.randn(2, 3, 16, 16))
        >>> whole.shape, pixels.shape  # 4 x 4 pixels of the last level
        (torch.Size([2, 5]), torch.Size([2, 16, 32]))
    """

    edges: ClassVar[tuple[str, ...]] = ("stem",)

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int = 32,
        channels: Sequence[int] = (32, 64, 128),
        depth: int = 1,
        heads: int = 4,
        out_dim: int = 128,
        timed: bool = False,
    ) -> None:
        super().__init__()
        check_widths(channels)
        for name, value in (("in_channels", in_channels), ("image_size", image_size), ("depth", depth)):
            check_count(name, value)
        shrunk = 2 ** (len(channels) - 1)
        if image_size % shrunk:
            raise ValueError(f"image_size must be a multiple of {shrunk} here, got {image_size}")
        self.in_channels, self.image_size, self.out_dim = in_channels, image_size, out_dim
        self.stem = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        self.time = TimeShift(channels[0]) if timed else None
        layers: list[nn.Module] = [ConvBlock(channels[0]) for _ in range(depth)]
        for before, after in pairwise(channels):
            layers += [nn.AvgPool2d(2), nn.Conv2d(before, after, 1), *(ConvBlock(after) for _ in range(depth))]
        self.layers = nn.Sequential(*layers, GroupNorm(8, channels[-1]), nn.SiLU())
        self.pool = AttentionPool((image_size // shrunk) ** 2, channels[-1], heads, out_dim)

    def forward(self, x: Tensor, t: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Args: x; t, times (B,) in [0, 1] of noised images, or None for clean ones, which are those of t = 1."""
        check_image_size("x", x, self.in_channels, self.image_size)
        h = self.layers(add_time(self.stem(x), self.time, t))  # (B, C, S / 2^(levels - 1), ...)
        return self.pool(h), h.flatten(2).transpose(1, 2)


class CLIP(nn.Module):
    """logits = clip(images, tokens): how well each image fits each text, by the angle between their features.

    Args:
        image: the image encoder: a `ViT`, an `ImageCNN` or another network image(x, t) whose first output is a feature
            (B, image.out_dim).
        text: the text encoder, whose feature is projected to the same size.

    `logit_scale` is a logarithm and starts at ln(1 / 0.07); what is used of it is at most ln 100 (ibid., section 2.5).

    Raises:
        ValueError: for an image encoder without `out_dim`; in calls, what the encoders raise.

    Example:
        >>> from flowlib.nets import ViT
        >>> image = ViT(image_size=16, patch=4, width=32, depth=1, heads=2, out_dim=8)
        >>> clip = CLIP(image, TextTransformer(vocabulary=20, length=6, end=19, width=16, depth=1, heads=2))
        >>> tokens = torch.tensor([[1, 4, 19], [2, 19, 0]])
        >>> per_image, per_text = clip(torch.randn(5, 3, 16, 16), tokens)
        >>> per_image.shape, per_text.shape
        (torch.Size([5, 2]), torch.Size([2, 5]))
    """

    edges: ClassVar[tuple[str, ...]] = ("projection",)

    def __init__(self, image: nn.Module, text: TextTransformer) -> None:
        super().__init__()
        out_dim = check_count("image.out_dim", getattr(image, "out_dim", None))
        self.image, self.text = image, text
        self.projection = nn.Linear(text.width, out_dim, bias=False)
        nn.init.normal_(self.projection.weight, std=text.width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(FIRST_SCALE))

    def encode_image(self, images: Tensor, t: Tensor | None = None) -> Tensor:
        """Features (B, out_dim), not of unit length, as OpenAI's; t (B,) for an encoder of noised images."""
        return self.image(images, t)[0]

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Features (B, out_dim), not of unit length, of tokens (B, N)."""
        return self.projection(self.text(tokens)[1])

    def scale(self) -> Tensor:
        """What cosines are multiplied by: exp(logit_scale), at most 100.

        Above the bound a gradient that would lead further is dropped, and one that leads back goes through; that of a
        plain clamp would be zero both ways, and the scale could never come back.
        """
        over = (self.logit_scale - LARGEST_SCALE).detach().clamp(min=0)
        bounded = self.logit_scale - over
        if bounded.requires_grad:
            bounded.register_hook(lambda gradient: torch.where((over > 0) & (gradient < 0), 0, gradient))
        return bounded.exp()

    def forward(self, images: Tensor, tokens: Tensor, t: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits of the texts for each image (B, M), and of the images for each text (M, B): scale times cosine."""
        image = F.normalize(self.encode_image(images, t), dim=1)
        text = F.normalize(self.encode_text(tokens), dim=1)
        per_image = self.scale() * image @ text.T
        return per_image, per_image.T
