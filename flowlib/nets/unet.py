"""A simplified convolutional U-Net: encoders, midcoder, decoders, skip connections.

Encoders halve the image and widen the channels; the midcoder works at the smallest size; decoders come back up, each
joined by a skip connection to the encoder of its size (Ronneberger et al. 2015; Ho et al. 2020). Time and guide scale
and shift every residual block. A patch stem folds `patch` x `patch` pixels into channels first, because a U-Net spends
most of its time on its largest images.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count, check_image_shape
from flowlib.nets.blocks import AttentionBlock, Context, Down, ResidualBlock, Stage, Up, check_widths
from flowlib.nets.embeddings import Condition, zero_init
from flowlib.nets.norm import GroupNorm
from flowlib.nets.words import WordEmbedding

__all__ = ["AttentionBlock", "ResidualBlock", "Stage", "UNet"]


class UNet(nn.Module):
    """The network net(x, t, y) of images: (B, in_channels, H, W), (B,), (B,) -> (B, in_channels, H, W).

    Its last arguments are ADM's choices (Dhariwal & Nichol 2021, table 1), and words: with a vocabulary, y is (B,
    length) tokens instead of (B,) labels, which the pixels read by cross-attention (Rombach et al. 2022, section 3.3).

    Args:
        in_channels: image channels.
        channels: width of each level, the first at H / patch, each next one at half the size.
        depth: residual blocks a level.
        classes: number of labels, or None for a network without a guide.
        patch: pixels folded into channels by the stem, a side.
        attention: levels (0 the largest) whose blocks are followed by self-attention; the midcoder belongs to the last.
        heads: attention heads.
        dim: size of the condition vector, and of a word's.
        head_channels: if > 0, channels of an attention head, wherever it is; then `heads` has no say.
        adagn: whether time and guide scale and shift each block; if not, they are only added.
        biggan: whether residual blocks change the size, instead of plain convolutions between the levels.
        words: tokens in the vocabulary of a guide of words, with `classes = None`; 0 for a guide of labels, or none.
            The stages of the levels in `attention` end with cross-attention. It is built last, so that the rest of the
            network draws the same first weights as one without.
        length: tokens in a guide of words.
        gates: whether the head gives each pixel a gate on x, besides what is added to it: a + b x, where b is else one
            number for the whole image. Near the data the best guess of a pixel is x at the edge of a stroke, and a
            constant beside it.
        context_dim: size of the tokens of a text that all attention joins to its keys and values, which `Captioned`
            gives it; 0 for none.
        beside: channels of an image that is laid beside x, such as what is known of it; 0 for none. It enters the stem
            by weights that start at zero, so that a trained network goes on as it was when it is given one (Nichol et
            al. 2022).

    H and W must be multiples of patch * 2^(levels - 1).

    Raises:
        ValueError: for a size, width or level that does not fit, naming it.

    Example:
        >>> import torch
        >>> from flowlib.nets import UNet
        >>> UNet(1, (8, 16))(torch.randn(2, 1, 8, 12), torch.rand(2), torch.tensor([3, 10])).count_nonzero()  # it is 0
        tensor(0)
    """

    edges: ClassVar[tuple[str, ...]] = ("stem", "beside", "head", "carry")

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
        head_channels: int = 0,
        adagn: bool = True,
        biggan: bool = False,
        words: int = 0,
        length: int = 8,
        gates: bool = False,
        context_dim: int = 0,
        beside: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("depth", depth), ("patch", patch), ("dim", dim)):
            check_count(name, value)
        check_widths(channels)
        if any(level not in range(len(channels)) for level in attention):
            raise ValueError(f"attention must name levels 0 ... {len(channels) - 1}, got {tuple(attention)}")
        check_count("head_channels", head_channels, 0)
        if head_channels and any(channels[level] % head_channels for level in attention):
            raise ValueError(
                f"head_channels must divide the channels of each level with attention, got {head_channels}"
            )
        if check_count("words", words, 0) and (classes is not None or not attention):
            raise ValueError("words need classes = None and a level in attention, where they are read")
        if check_count("context_dim", context_dim, 0) and (words or classes is not None or not attention):
            raise ValueError("context_dim needs classes = None, no words, and a level in attention, where it is read")
        self.in_channels, self.patch, self.multiple = in_channels, patch, patch * 2 ** (len(channels) - 1)
        self.gates, self.condition_dim = gates, dim
        self.condition = Condition(dim, classes)
        self.stem = nn.Conv2d(in_channels * patch**2, channels[0], 3, padding=1)
        self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
        self.ups, self.decoders = nn.ModuleList(), nn.ModuleList()
        at = [0] * len(channels)  # heads at each level
        for level in attention:
            at[level] = channels[level] // head_channels if head_channels else heads
        joins = context_dim or None
        for width, many in zip(channels, at, strict=True):
            self.encoders.append(Stage([width] * (depth + 1), dim, many, adagn, joins))
            self.decoders.insert(0, Stage([2 * width] + [width] * depth, dim, many, adagn, joins))
        for before, after in pairwise(channels):
            if biggan:
                self.downs.append(ResidualBlock(before, after, dim, adagn=adagn, resize="down"))
                self.ups.insert(0, ResidualBlock(after, before, dim, adagn=adagn, resize="up"))
            else:
                self.downs.append(Down(before, after))
                self.ups.insert(0, Up(after, before))
        self.midcoder = Stage([channels[-1]] * 2, dim, at[-1], adagn, joins)
        self.norm = GroupNorm(8, channels[0])
        self.head = zero_init(nn.Conv2d(channels[0], (1 + gates) * in_channels * patch**2, 3, padding=1))
        self.carry = zero_init(nn.Linear(dim, in_channels))
        more = check_count("beside", beside, 0) * patch**2
        self.beside = zero_init(nn.Conv2d(more, channels[0], 3, padding=1, bias=False)) if beside else None
        self.words = WordEmbedding(words, length, dim) if words else None
        for stage in [*self.encoders, self.midcoder, *self.decoders] if words else []:
            if stage.heads:
                stage.read(dim)

    @property
    def null(self) -> int | Tensor | None:
        """The null guide: a label, a sequence of words (length,), or None."""
        return self.condition.null if self.words is None else self.words.null

    def check_guide(self, y: Tensor, batch: int) -> None:
        """A ValueError unless y, given words, are tokens of the vocabulary; labels are a field's to check."""
        if self.words is not None:
            self.words.check(y, batch)

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, context: Context | None = None,
        more: Tensor | None = None, beside: Tensor | None = None, added: Sequence[Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        """The prediction; with a `context_dim`, under a text, which gives `context` and `more`.

        Args:
            x, t, y: as in the class.
            context: tokens (B, M, context_dim), and which of them count (B, M).
            more: (B, dim), added to the embedding of time.
            beside: (B, channels, H, W), of a network that has room for it.
            added: to what `encoded` gives, one for each, as a `ControlNet` makes them.
        """
        check_image_shape("x", x, self.in_channels, self.multiple)
        if self.words is not None and context is None:
            context, y = self.words(y, len(x)), None
        condition = self.condition(t, y)
        condition = F.silu(condition if more is None else condition + more)  # (B, dim)
        h = self.stem(F.pixel_unshuffle(x, self.patch))  # (B, channels[0], H / patch, W / patch)
        if self.beside is not None and beside is not None:
            h = h + self.beside(F.pixel_unshuffle(beside, self.patch))
        *skips, h = encoded(self, h, condition, context)
        if added is not None:
            *skips, h = [own + part for own, part in zip([*skips, h], added, strict=True)]
        for level, decoder in enumerate(self.decoders):
            if level:
                h = self.ups[level - 1](h, condition)
            h = decoder(torch.cat([h, skips.pop()], dim=1), condition, context)
        out = F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch)
        # The noise in x is most of a velocity early on. A gate on x itself spares the blocks from carrying it through.
        gate = self.carry(condition)[:, :, None, None]
        if self.gates:
            out, each = out.chunk(2, dim=1)
            gate = gate + each
        return out + gate * x


def encoded(net: nn.Module, h: Tensor, condition: Tensor, context: Context | None) -> list[Tensor]:
    """What a U-Net's levels hand to its decoders, the largest first, and last what its midcoder makes of the smallest.

    Args:
        net: of encoders, downs and a midcoder: a `UNet`, or a `ControlNet`, which has copies of them.
        h: what the stem makes of x, (B, channels[0], H / patch, W / patch).
        condition: of time and guide, (B, dim).
        context: of a text, as in `UNet.forward`.
    """
    skips: list[Tensor] = []
    downs: Any = net.downs
    for level, encoder in enumerate(net.encoders):  # type: ignore[arg-type]
        h = encoder(h, condition, context)
        skips.append(h)
        if level < len(downs):
            h = downs[level](h, condition)
    return [*skips, net.midcoder(h, condition, context)]  # type: ignore[operator]
