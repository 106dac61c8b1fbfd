"""The diffusion transformer, DiT: an image as a sequence of patches, modulated by time and guide (Peebles & Xie 2023).

Patches become tokens, blocks of attention and a two-layer network work on them, and tokens become patches again. Time
and guide enter by "adaLN-Zero": every block's scales, shifts and gates are computed from the condition, by a layer that
starts at zero. So every block starts as the identity, and the network starts at 0.

Example:
    >>> import torch
    >>> from flowlib.nets import DiTBlock, patchify, unpatchify
    >>> tokens = patchify(torch.arange(16.0).reshape(1, 1, 4, 4), patch=2)
    >>> tokens[0].tolist()  # row by row
    [[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0], [8.0, 9.0, 12.0, 13.0], [10.0, 11.0, 14.0, 15.0]]
    >>> unpatchify(tokens, 2, 4, 4).flatten().equal(torch.arange(16.0))
    True
    >>> x = torch.randn(2, 4, 8)
    >>> DiTBlock(width=8, heads=2, expand=4)(x, torch.randn(2, 8)).equal(x)  # at first x passes unchanged
    True
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count, check_image_shape
from flowlib.nets.attention import Attention
from flowlib.nets.blocks import Context, joined_mask
from flowlib.nets.embeddings import Condition, position_table, zero_init


def patchify(x: Tensor, patch: int) -> Tensor:
    """Cut images into patches, row by row: (B, C, H, W) -> (B, N, C patch^2) with N = H W / patch^2."""
    batch, channels, height, width = x.shape
    cells = x.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch**2)


def unpatchify(tokens: Tensor, patch: int, height: int, width: int) -> Tensor:
    """The inverse of `patchify`: (B, N, C patch^2) -> (B, C, height, width)."""
    cells = tokens.reshape(len(tokens), height // patch, width // patch, -1, patch, patch)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, height, width)


def xavier_init(layer: nn.Linear) -> nn.Linear:
    """Weights uniform with variance 2 / (inputs + outputs), biases zero (Glorot & Bengio 2010, equation 16)."""
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class DiTBlock(nn.Module):
    """x + gate attention(norm(x)), then x + gate mlp(norm(x)), norms scaled and shifted by the condition.

    (B, N, width), (B, width) -> (B, N, width). The six modulation vectors start at zero: at first x passes unchanged.
    With a `context_dim`, attention also looks at the tokens of a text, in the same softmax.
    """

    edges: ClassVar[tuple[str, ...]] = ("modulation",)  # what Muon leaves to AdamW

    def __init__(self, width: int, heads: int, expand: int, context_dim: int | None = None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = Attention(width, heads, context_dim, joined=context_dim is not None)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, expand * width), nn.GELU(approximate="tanh"), nn.Linear(expand * width, width)
        )
        self.modulation = nn.Linear(width, 6 * width)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                xavier_init(layer)
        zero_init(self.modulation)  # the last word: it is one of the layers above

    def forward(self, x: Tensor, condition: Tensor, context: Context | None = None) -> Tensor:
        six = self.modulation(condition)[:, None].chunk(6, dim=2)  # each (B, 1, width)
        shift1, scale1, gate1, shift2, scale2, gate2 = six
        # addcmul(a, b, c) is a + b c in one pass over the tokens.
        h = torch.addcmul(shift1, self.norm1(x), 1 + scale1)
        read = self.attention(h) if context is None else self.attention(h, context[0], joined_mask(context, h))
        x = torch.addcmul(x, gate1, read)
        return torch.addcmul(x, gate2, self.mlp(torch.addcmul(shift2, self.norm2(x), 1 + scale2)))


class DiT(nn.Module):
    """A transformer net(x, t, y) of images: (B, in_channels, H, W), (B,), (B,) -> (B, in_channels, H, W).

    Args:
        in_channels: image channels.
        image_size: pixels a side of the usual image, whose position table is kept. Others work too, square or not:
            their table is computed on the way.
        patch: pixels a side of a patch. Halving it quadruples the tokens, and the cost.
        width: size of a token and of the condition vector, a multiple of 4 and of `heads`.
        depth: blocks.
        heads: attention heads.
        classes: number of labels, or None for a network without a guide.
        expand: how many times wider than a token the hidden layer of a block is.
        gates: whether the head gives each pixel a gate on x, besides what is added to it, as in `UNet`.
        context_dim: size of the tokens of a text that all attention joins to its keys and values, as in `UNet`.
        beside: channels of an image that is laid beside x, by weights that start at zero, as in `UNet`.

    H and W must be multiples of patch.

    Raises:
        ValueError: for a size or width that does not fit, naming it.

    Example:
        >>> import torch
        >>> from flowlib.nets import DiT
        >>> net = DiT(image_size=8, patch=2, width=16, depth=2, heads=2)
        >>> made = net(torch.randn(2, 1, 8, 12), torch.rand(2), torch.tensor([3, 10]))  # of any size
        >>> made.shape, made.count_nonzero()  # it starts at 0
        (torch.Size([2, 1, 8, 12]), tensor(0))
    """

    positions: Tensor
    edges: ClassVar[tuple[str, ...]] = ("stem", "beside", "modulation", "head", "carry")

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int = 28,
        patch: int = 4,
        width: int = 192,
        depth: int = 6,
        heads: int = 4,
        classes: int | None = 10,
        expand: int = 4,
        gates: bool = False,
        context_dim: int = 0,
        beside: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "image_size": image_size, "patch": patch, "width": width, "depth": depth}
        for name, value in {**sizes, "heads": heads, "expand": expand}.items():
            check_count(name, value)
        if image_size % patch:
            raise ValueError(f"image_size must be a multiple of patch = {patch}, got {image_size}")
        if width % 4 or width % heads:
            raise ValueError(f"width must be a multiple of 4 and of heads = {heads}, got {width}")
        if check_count("context_dim", context_dim, 0) and classes is not None:
            raise ValueError("context_dim needs classes = None")
        self.in_channels, self.patch, self.width, self.side = in_channels, patch, width, image_size // patch
        self.register_buffer("positions", position_table(self.side, self.side, width), persistent=False)
        self.condition = Condition(width, classes)
        self.stem = xavier_init(nn.Linear(in_channels * patch**2, width))
        self.blocks = nn.ModuleList(DiTBlock(width, heads, expand, context_dim or None) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = zero_init(nn.Linear(width, 2 * width))
        self.gates, self.condition_dim = gates, width
        self.head = zero_init(nn.Linear(width, (1 + gates) * in_channels * patch**2))
        self.carry = zero_init(nn.Linear(width, in_channels))
        more = check_count("beside", beside, 0) * patch**2
        self.beside = zero_init(nn.Linear(more, width, bias=False)) if beside else None

    @property
    def null(self) -> int | None:
        """The null label, or None."""
        return self.condition.null

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, context: Context | None = None,
        more: Tensor | None = None, beside: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The prediction; `context` and `more` are of a text, `beside` is an image, as in `UNet.forward`."""
        check_image_shape("x", x, self.in_channels, self.patch)
        height, width = x.shape[2:]
        rows, columns = height // self.patch, width // self.patch
        positions = self.positions
        if (rows, columns) != (self.side, self.side):
            positions = position_table(rows, columns, self.width).to(positions)
        condition = self.condition(t, y)
        condition = F.silu(condition if more is None else condition + more)  # (B, width)
        h = self.stem(patchify(x, self.patch)) + positions  # (B, N, width)
        if self.beside is not None and beside is not None:
            h = h + self.beside(patchify(beside, self.patch))
        for block in self.blocks:
            h = block(h, condition, context)
        shift, scale = self.modulation(condition)[:, None].chunk(2, dim=2)  # (B, 1, width)
        out = unpatchify(self.head(torch.addcmul(shift, self.norm(h), 1 + scale)), self.patch, height, width)
        # The noise in x is most of a velocity early on. A gate on x itself spares the blocks from carrying it through.
        gate = self.carry(condition)[:, :, None, None]
        if self.gates:
            out, each = out.chunk(2, dim=1)
            gate = gate + each
        return out + gate * x
