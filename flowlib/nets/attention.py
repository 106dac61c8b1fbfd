"""Multi-head attention of tokens to each other, or to those of another sequence (Vaswani et al. 2017, section 3.2).

Example:
    >>> import torch
    >>> from flowlib.nets import Attention
    >>> attention, x, order = Attention(dim=8, heads=2), torch.randn(1, 5, 8), torch.tensor([4, 2, 0, 1, 3])
    >>> torch.allclose(attention(x)[:, order], attention(x[:, order]), atol=1e-6)  # no token knows its place
    True
    >>> weights, _ = attention.weights(x)
    >>> weights.shape, torch.allclose(weights.sum(3), torch.ones(1, 2, 5))
    (torch.Size([1, 2, 5, 5]), True)
"""

import torch
from torch import Tensor, nn

from flowlib.checks import check_count


class KeyValues:
    """Keys and values of the tokens that one attention has seen, (B, heads, N, dim / heads) each."""

    def __init__(self) -> None:
        self.k: Tensor | None = None
        self.v: Tensor | None = None

    def __len__(self) -> int:
        return 0 if self.k is None else self.k.shape[2]

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Those of new tokens behind the old: all of them. Another batch than before is a ValueError."""
        if self.k is not None and self.v is not None:
            if len(k) != len(self.k):
                raise ValueError(f"x must have the batch of what is in the cache, {len(self.k)}, got {len(k)}")
            k, v = torch.cat([self.k, k], dim=2), torch.cat([self.v, v], dim=2)
        self.k, self.v = k, v
        return k, v


class Attention(nn.Module):
    """Every token looks at every token of its own sequence, or of a context: (B, N, dim) -> (B, N, out_dim).

    Args:
        dim: size of a token, a multiple of `heads`.
        heads: attention heads.
        context_dim: size of a token of the context; None for self-attention, which takes no context.
        joined: whether a token looks at the context and at its own sequence too, in one softmax, as in GLIDE (Nichol
            et al. 2022, section 3.1); without a context_dim it means nothing and must be false.
        out_dim: size of a token that comes out; None for `dim`.

    Raises:
        ValueError: for a size that does not fit; in calls for a context that is missing or not wanted, or a cache
            beside a context.
    """

    def __init__(
        self, dim: int, heads: int, context_dim: int | None = None, joined: bool = False, out_dim: int | None = None
    ) -> None:
        super().__init__()
        if check_count("dim", dim) % check_count("heads", heads):
            raise ValueError(f"dim must be a multiple of heads, got {dim} and {heads}")
        if joined and context_dim is None:
            raise ValueError("joined must be false without a context_dim")
        self.heads, self.context_dim, self.joined = heads, context_dim, joined
        if context_dim is None or joined:
            self.qkv = nn.Linear(dim, 3 * dim)
        else:
            self.q = nn.Linear(dim, dim)
        if context_dim is not None:
            self.kv = nn.Linear(check_count("context_dim", context_dim), 2 * dim)
        self.out = nn.Linear(dim, dim if out_dim is None else check_count("out_dim", out_dim))

    def weights(
        self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None, cache: KeyValues | None = None
    ) -> tuple[Tensor, Tensor]:
        """How much each token looks at each other, (B, heads, N, M), and the values, (B, heads, M, dim / heads).

        Args:
            x: tokens (B, N, dim).
            context: tokens (B, L, context_dim), or None for self-attention. M is N for self-attention, L for a context,
                L + N for one that is joined, its tokens first.
            mask: true where a token counts: (B, M), or (B, N, M) to say so for each token of x, such as a triangle
                (1, N, N) that hides what comes later. It must be true somewhere in each row.
            cache: what went before x in self-attention; M then counts it too, and x is appended to it.
        """
        if (context is None) != (self.context_dim is None):
            raise ValueError("context must be given if and only if the layer was made with a context_dim")
        if context is not None and cache is not None:
            raise ValueError("cache must be None beside a context: it keeps the tokens of a self-attention")
        if context is None:
            parts = self.qkv(x).chunk(3, dim=2)
        elif self.joined:
            q, *own = self.qkv(x).chunk(3, dim=2)
            read = self.kv(context).chunk(2, dim=2)
            parts = q, *(torch.cat(pair, dim=1) for pair in zip(read, own, strict=True))
        else:
            parts = self.q(x), *self.kv(context).chunk(2, dim=2)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)  # (B, heads, N or M, d)
        if cache is not None:
            k, v = cache.append(k, v)
        logits = q * q.shape[3] ** -0.5 @ k.transpose(2, 3)
        if mask is not None:
            logits = logits.masked_fill(~(mask[:, None] if mask.ndim == 2 else mask)[:, None], -float("inf"))
        return logits.softmax(dim=3), v

    def forward(
        self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None, cache: KeyValues | None = None
    ) -> Tensor:
        # Written out, it is the paper's formula; and on a CPU in bfloat16 the backward pass of torch's fused kernel
        # is slower than this for the few tokens of small images.
        weights, v = self.weights(x, context, mask, cache)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


SelfAttention = Attention  # as exercise 6 calls it


class CrossAttention(Attention):
    """Attention to a context, which here is the second argument.

    Example:
        >>> import torch
        >>> from flowlib.nets import CrossAttention
        >>> attention, x, words = CrossAttention(8, context_dim=4, heads=2), torch.randn(1, 5, 8), torch.randn(1, 3, 4)
        >>> attention(x, words).shape
        torch.Size([1, 5, 8])
        >>> mask = torch.tensor([[True, True, False]])  # the third word is padding: nobody sees it
        >>> attention(x, words, mask).allclose(attention(x, words[:, :2]), atol=1e-6)
        True
    """

    def __init__(self, dim: int, context_dim: int, heads: int) -> None:
        super().__init__(dim, heads, context_dim)
