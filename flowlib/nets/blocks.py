"""The blocks that a U-Net is made of, with the choices of ADM as arguments (Dhariwal & Nichol 2021, section 3).

ADM's "BigGAN" blocks change the size of the image inside a residual block, and its "AdaGN" scales and shifts by the
condition where earlier networks only added it.

Example:
    >>> import torch
    >>> from flowlib.nets import AttentionBlock, CrossAttentionBlock, Down, ResidualBlock, Stage, Up
    >>> x, condition = torch.randn(2, 8, 4, 4), torch.randn(2, 16)
    >>> words = torch.randn(2, 3, 16), torch.ones(2, 3, dtype=torch.bool)
    >>> blocks = ResidualBlock(8, 8, 16), AttentionBlock(8, heads=2)
    >>> [block(x, condition).equal(x) for block in blocks]  # at first x passes unchanged
    [True, True]
    >>> CrossAttentionBlock(8, 16, heads=2)(x, words).equal(x)
    True
    >>> Down(8, 16)(x, condition).shape, Up(8, 16)(x, condition).shape
    (torch.Size([2, 16, 2, 2]), torch.Size([2, 16, 8, 8]))
    >>> Stage([8, 16, 16], dim=16, heads=2)(x, condition).shape  # two residual blocks
    torch.Size([2, 16, 4, 4])
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.nets.attention import Attention
from flowlib.nets.embeddings import position_table, zero_init
from flowlib.nets.norm import GroupNorm

Context = tuple[Tensor, Tensor]  # tokens (B, M, dim) and which of them count (B, M), true or false

RESIZE: dict[str, Callable[[Tensor], Tensor]] = {
    "up": partial(F.interpolate, scale_factor=2, mode="nearest"),
    "down": partial(F.avg_pool2d, kernel_size=2),
}


def check_widths(channels: Sequence[int]) -> None:
    """A ValueError unless there is a width for each level, a multiple of the norms' 8 groups."""
    if not channels or any(width < 8 or width % 8 for width in channels):
        raise ValueError(f"channels must be multiples of 8, one width a level, got {tuple(channels)}")


class ResidualBlock(nn.Module):
    """x + conv(modulated norm(conv(norm(x)))), with scale and shift from the condition.

    (B, channels, H, W), (B, dim) -> (B, out_channels, H, W). The modulation is "AdaGN" (Dhariwal & Nichol 2021, section
    3.1); with `adagn = False` the condition is only added, before the norm, as in DDPM. The last convolution starts at
    zero: at first x passes unchanged. With `resize` "up" or "down" both ways, the branch's and that around it, double
    or halve H and W (Brock et al. 2019, appendix B).
    """

    edges: ClassVar[tuple[str, ...]] = ("modulation",)  # what Muon leaves to AdamW

    def __init__(
        self,
        channels: int,
        out_channels: int,
        dim: int,
        groups: int = 8,
        adagn: bool = True,
        resize: str | None = None,
    ) -> None:
        super().__init__()
        self.adagn, self.resize = adagn, None if resize is None else RESIZE[resize]
        self.norm1 = GroupNorm(min(groups, channels), channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.modulation = zero_init(nn.Linear(dim, (2 if adagn else 1) * out_channels))
        self.norm2 = GroupNorm(min(groups, out_channels), out_channels)
        self.conv2 = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.match = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = F.silu(self.norm1(x))
        if self.resize is not None:
            x, h = self.resize(x), self.resize(h)
        h, modulation = self.conv1(h), self.modulation(condition)[:, :, None, None]
        if self.adagn:
            scale, shift = modulation.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + modulation)
        return self.match(x) + self.conv2(F.silu(h))


class Down(nn.Conv2d):
    """Half the size by a convolution of stride 2: (B, channels, H, W) -> (B, out_channels, H / 2, W / 2)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:  # type: ignore[override]  # called as a block is
        return super().forward(x)


class Up(nn.Conv2d):
    """Twice the size, each pixel repeated, then a convolution: (B, channels, H, W) -> (B, out_channels, 2 H, 2 W)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:  # type: ignore[override]  # called as a block is
        return super().forward(RESIZE["up"](x))


class AttentionBlock(nn.Module):
    """x + attention(norm(x)) over the pixels of an image: (B, channels, H, W), condition -> (B, channels, H, W).

    With a `context_dim`, a pixel looks at the pixels and at the tokens of a text in one softmax (GLIDE: Nichol et al.
    2022); and since a text says where things are, it is told its place first.
    """

    def __init__(self, channels: int, heads: int, groups: int = 8, context_dim: int | None = None) -> None:
        super().__init__()
        self.norm = GroupNorm(min(groups, channels), channels)
        self.attention = Attention(channels, heads, context_dim, joined=context_dim is not None)
        zero_init(self.attention.out)

    def forward(self, x: Tensor, condition: Tensor, context: Context | None = None) -> Tensor:
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # (B, H W, channels)
        if context is None:
            read = self.attention(pixels)
        else:
            pixels = pixels + position_table(x.shape[2], x.shape[3], x.shape[1]).to(pixels)
            read = self.attention(pixels, context[0], joined_mask(context, pixels))
        return x + read.transpose(1, 2).reshape(x.shape)


def joined_mask(context: Context, tokens: Tensor) -> Tensor:
    """Which of a context's tokens count, and after them all of (B, N, dim): (B, M + N), true or false."""
    return torch.cat([context[1], context[1].new_ones(tokens.shape[:2])], dim=1)


class CrossAttentionBlock(nn.Module):
    """x + attention(norm(x), context): every pixel reads the words (Rombach et al. 2022, section 3.3).

    (B, channels, H, W), (tokens (B, M, dim), mask (B, M)) -> (B, channels, H, W). At first x passes unchanged.
    """

    def __init__(self, channels: int, dim: int, heads: int, groups: int = 8) -> None:
        super().__init__()
        self.norm = GroupNorm(min(groups, channels), channels)
        self.attention = Attention(channels, heads, dim)
        zero_init(self.attention.out)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # (B, H W, channels)
        return x + self.attention(pixels, *context).transpose(1, 2).reshape(x.shape)


class Stage(nn.Module):
    """Residual blocks at one image size, each followed by attention if `heads` > 0.

    A text is read by all attention blocks, if they are made with a `context_dim`, or by one more, behind the last, that
    `read` makes.
    """

    def __init__(
        self, channels: Sequence[int], dim: int, heads: int, adagn: bool = True, context_dim: int | None = None
    ) -> None:
        super().__init__()
        self.width, self.heads = channels[-1], heads
        self.blocks = nn.ModuleList()
        for before, after in pairwise(channels):
            self.blocks.append(ResidualBlock(before, after, dim, adagn=adagn))
            if heads:
                self.blocks.append(AttentionBlock(after, heads, context_dim=context_dim))
        self.joins, self.cross = context_dim is not None, None  # type: bool, CrossAttentionBlock | None

    def read(self, dim: int) -> None:
        """End the stage with cross-attention to a context whose tokens have size `dim`."""
        self.cross = CrossAttentionBlock(self.width, dim, self.heads)

    def forward(self, x: Tensor, condition: Tensor, context: Context | None = None) -> Tensor:
        for block in self.blocks:
            reads = self.joins and isinstance(block, AttentionBlock)
            x = block(x, condition, context) if reads else block(x, condition)
        return x if self.cross is None else self.cross(x, context)
