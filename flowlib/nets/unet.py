"""A simplified convolutional U-Net: encoders, midcoder, decoders, skip connections.

Encoders halve the image and widen the channels; the midcoder works at the smallest size; decoders come back up, each
joined by a skip connection to the encoder of its size (Ronneberger et al. 2015; Ho et al. 2020). Time and guide scale
and shift every residual block. A patch stem folds `patch` x `patch` pixels into channels first, because a U-Net spends
most of its time on its largest images.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count
from flowlib.nets.attention import SelfAttention
from flowlib.nets.embeddings import Condition, zero_init


class ResidualBlock(nn.Module):
    """x + conv(modulated norm(conv(norm(x)))), with scale and shift from the condition.

    (B, channels, H, W), (B, dim) -> (B, out_channels, H, W). The modulation is "AdaGN" (Dhariwal & Nichol 2021, section
    3.1). The last convolution starts at zero: at first x passes unchanged.
    """

    def __init__(self, channels: int, out_channels: int, dim: int, groups: int = 8) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(min(groups, channels), channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.modulation = zero_init(nn.Linear(dim, 2 * out_channels))
        self.norm2 = nn.GroupNorm(min(groups, out_channels), out_channels)
        self.conv2 = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.match = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.norm2(h) * (1 + scale) + shift
        return self.match(x) + self.conv2(F.silu(h))


class AttentionBlock(nn.Module):
    """x + attention(norm(x)) over the pixels of an image: (B, channels, H, W), condition -> (B, channels, H, W)."""

    def __init__(self, channels: int, heads: int, groups: int = 8) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(min(groups, channels), channels)
        self.attention = SelfAttention(channels, heads)
        zero_init(self.attention.out)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, H W, channels)
        return x + self.attention(tokens).transpose(1, 2).reshape(x.shape)


class Stage(nn.Module):
    """Residual blocks at one image size, each followed by attention if `heads` > 0."""

    def __init__(self, channels: Sequence[int], dim: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for before, after in pairwise(channels):
            self.blocks.append(ResidualBlock(before, after, dim))
            if heads:
                self.blocks.append(AttentionBlock(after, heads))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, condition)
        return x


class UNet(nn.Module):
    """The network net(x, t, y) of images: (B, in_channels, H, W), (B,), (B,) -> (B, in_channels, H, W).

    Args:
        in_channels: image channels.
        channels: width of each level, the first at H / patch, each next one at half the size.
        depth: residual blocks a level.
        classes: number of labels, or None for a network without a guide.
        patch: pixels folded into channels by the stem, a side.
        attention: levels (0 the largest) whose blocks are followed by self-attention; the midcoder belongs to the last.
        heads: attention heads.
        dim: size of the condition vector.

    H and W must be multiples of patch * 2^(levels - 1).

    Raises:
        ValueError: for a size, width or level that does not fit, naming it.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: Sequence[int] = (64, 128),
        depth: int = 2,
        classes: int | None = 10,
        patch: int = 2,
        attention: Sequence[int] = (),
        heads: int = 4,
        dim: int = 256,
    ) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("depth", depth), ("patch", patch), ("dim", dim)):
            check_count(name, value)
        if not channels or any(c < 8 or c % 8 for c in channels):
            raise ValueError(f"channels must be multiples of 8, one width a level, got {tuple(channels)}")
        if any(level not in range(len(channels)) for level in attention):
            raise ValueError(f"attention must name levels 0 ... {len(channels) - 1}, got {tuple(attention)}")
        self.in_channels, self.patch, self.multiple = in_channels, patch, patch * 2 ** (len(channels) - 1)
        self.condition = Condition(dim, classes)
        self.stem = nn.Conv2d(in_channels * patch**2, channels[0], 3, padding=1)
        self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
        self.ups, self.decoders = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(channels):
            at = heads if level in attention else 0
            self.encoders.append(Stage([width] * (depth + 1), dim, at))
            self.decoders.insert(0, Stage([2 * width] + [width] * depth, dim, at))
        for before, after in pairwise(channels):
            self.downs.append(nn.Conv2d(before, after, 3, stride=2, padding=1))
            self.ups.insert(0, nn.Conv2d(after, before, 3, padding=1))
        self.midcoder = Stage([channels[-1]] * 2, dim, heads if len(channels) - 1 in attention else 0)
        self.norm = nn.GroupNorm(8, channels[0])
        self.head = zero_init(nn.Conv2d(channels[0], in_channels * patch**2, 3, padding=1))
        self.carry = zero_init(nn.Linear(dim, in_channels))

    @property
    def null(self) -> int | None:
        """The null label, or None."""
        return self.condition.null

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.in_channels or x.shape[2] % self.multiple or x.shape[3] % self.multiple:
            raise ValueError(
                f"x must have shape (batch, {self.in_channels}, H, W) with H and W multiples of {self.multiple}, "
                f"got {tuple(x.shape)}"
            )
        condition = F.silu(self.condition(t, y))  # (B, dim)
        h = self.stem(F.pixel_unshuffle(x, self.patch))  # (B, channels[0], H / patch, W / patch)
        skips = []
        for level, encoder in enumerate(self.encoders):
            h = encoder(h, condition)
            skips.append(h)
            if level < len(self.downs):
                h = self.downs[level](h)
        h = self.midcoder(h, condition)
        for level, decoder in enumerate(self.decoders):
            if level:
                h = self.ups[level - 1](F.interpolate(h, scale_factor=2, mode="nearest"))
            h = decoder(torch.cat([h, skips.pop()], dim=1), condition)
        out = F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch)
        # The noise in x is most of a velocity early on. A gate on x itself spares the blocks from carrying it through.
        return out + self.carry(condition)[:, :, None, None] * x
