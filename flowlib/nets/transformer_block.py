"""What a transformer is made of: its block, the masks of its attention, and what it keeps while a text is written.

The norm stands before each part of a block and outside the sum, so that x itself goes through (Radford et al. 2019,
section 2.3).
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_choice, check_count
from flowlib.known import is_so
from flowlib.nets.attention import Attention, KeyValues


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), within 0.021 of x times the normal distribution function (Hendrycks & Gimpel 2016).

    Example:
        >>> import torch
        >>> from flowlib.nets import QuickGELU
        >>> x = torch.linspace(-5, 5, 1001)
        >>> bool((QuickGELU()(x) - torch.nn.GELU()(x)).abs().max() < 0.021)
        True
    """

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


GELUS: dict[str, Callable[[], nn.Module]] = {
    "exact": nn.GELU,
    "tanh": partial(nn.GELU, approximate="tanh"),
    "quick": QuickGELU,
}


class Cache:
    """What a causal transformer of `depth` blocks has computed of earlier tokens; it grows with each call.

    Example:
        >>> import torch
        >>> from flowlib.nets import GPT, Cache
        >>> gpt, cache, tokens = GPT(9, 6, width=8, depth=2, heads=2), Cache(depth=2), torch.tensor([[3, 1, 4]])
        >>> steps = [gpt(tokens[:, i : i + 1], cache) for i in range(3)]  # one token at a time
        >>> len(cache), torch.cat(steps, dim=1).allclose(gpt(tokens), atol=1e-6)
        (3, True)
    """

    def __init__(self, depth: int) -> None:
        self.layers = [KeyValues() for _ in range(depth)]

    def __len__(self) -> int:
        return len(self.layers[0])


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): (B, N, width) -> the same shape; mask and cache as `Attention`.

    Weights start as in CLIP (`initialize_parameters` in its code): those of the two layers that add to x are smaller by
    sqrt(2 depth), so that x is of one size after all `depth` blocks of a stack. Biases start at zero.

    Example:
        >>> import torch
        >>> from flowlib.nets import TransformerBlock
        >>> block, x, causal = TransformerBlock(8, heads=2), torch.randn(1, 5, 8), torch.ones(1, 5, 5).tril().bool()
        >>> block(x, causal)[:, :2].allclose(block(x[:, :2], causal[:, :2, :2]), atol=1e-6)
        True
    """

    edges: ClassVar[tuple[str, ...]] = ()  # Muon takes all of it

    def __init__(self, width: int, heads: int, expand: int = 4, gelu: str = "exact", depth: int = 1) -> None:
        super().__init__()
        check_count("expand", expand)
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        activation = GELUS[check_choice("gelu", gelu, GELUS)]()
        first, last = nn.Linear(width, expand * width), nn.Linear(expand * width, width)
        self.mlp = nn.Sequential(first, activation, last)
        scales = {self.attention.qkv: 1, first: 2, self.attention.out: 2 * depth, last: 2 * depth}
        for layer, scale in scales.items():
            nn.init.normal_(layer.weight, std=(scale * width) ** -0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: KeyValues | None = None) -> Tensor:
        x = x + self.attention(self.norm1(x), mask=mask, cache=cache)
        return x + self.mlp(self.norm2(x))


def check_tokens(tokens: Tensor, vocabulary: int, length: int) -> Tensor:
    """Return tokens (B, N), int64, if they are 0 ... vocabulary - 1 and N is 1 ... length; else a ValueError."""
    if tokens.is_floating_point() or tokens.ndim != 2 or not 1 <= tokens.shape[1] <= length:
        got = f"{tokens.dtype} {tuple(tokens.shape)}"
        raise ValueError(f"tokens must be integers (B, N), of N at most {length} with earlier ones, got {got}")
    tokens = tokens.long()
    if not is_so(tokens, None, ("below", vocabulary), lambda: bool(((tokens >= 0) & (tokens < vocabulary)).all())):
        raise ValueError(f"tokens must lie in 0 ... {vocabulary - 1}, got {int(tokens.min())} ... {int(tokens.max())}")
    return tokens


def visible(
    past: int, now: int, causal: bool, patterns: Tensor | None, mask: Tensor | None, device: torch.device
) -> Tensor | None:
    """Which of all tokens each of the last `now` sees, after `past` others; None if it sees everything.

    Args:
        past, now: tokens.
        causal: whether none that comes later is seen.
        patterns: what each block allows, (1 or depth, length, length), at least past + now long.
        mask: which tokens count, (B, past + now).
        device: of the result.

    Returns:
        (1 or depth, 1 or B, now, past + now). A token sees itself in any case: a token of padding with nothing to see
        would become NaN.

    Raises:
        ValueError: for a pattern that is too short, or a mask of another length.
    """
    total = past + now
    row, column = torch.arange(past, total, device=device)[:, None], torch.arange(total, device=device)
    parts = [row >= column] if causal else []
    if patterns is not None:
        if total > patterns.shape[1]:
            raise ValueError(f"x must have at most {patterns.shape[1]} tokens, as the pattern has, got {total}")
        parts.append(patterns[:, None, past:total, :total])
    if mask is not None:
        if mask.ndim != 2 or mask.shape[1] != total:
            raise ValueError(f"mask must be (B, {total}), for all tokens, got {tuple(mask.shape)}")
        parts.append(mask[None, :, None])
    if not parts:
        return None
    seen = reduce(torch.logical_and, parts) | (row == column)
    return seen[(None,) * (4 - seen.ndim)]
