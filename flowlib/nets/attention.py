"""Multi-head attention of tokens to each other, or to those of another sequence (Vaswani et al. 2017, section 3.2)."""

from torch import Tensor, nn

from flowlib.checks import check_count


class Attention(nn.Module):
    """Every token looks at every token of its own sequence, or of a context: (B, N, dim) -> (B, N, dim).

    Args:
        dim: size of a token, a multiple of `heads`.
        heads: attention heads.
        context_dim: size of a token of the context; None for self-attention, which takes no context.

    Raises:
        ValueError: for a size that does not fit; in calls for a context that is missing or not wanted.
    """

    def __init__(self, dim: int, heads: int, context_dim: int | None = None) -> None:
        super().__init__()
        if check_count("dim", dim) % check_count("heads", heads):
            raise ValueError(f"dim must be a multiple of heads, got {dim} and {heads}")
        self.heads, self.context_dim = heads, context_dim
        if context_dim is None:
            self.qkv = nn.Linear(dim, 3 * dim)
        else:
            self.q = nn.Linear(dim, dim)
            self.kv = nn.Linear(check_count("context_dim", context_dim), 2 * dim)
        self.out = nn.Linear(dim, dim)

    def weights(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """How much each token looks at each other, (B, heads, N, M), and the values, (B, heads, M, dim / heads).

        Args:
            x: tokens (B, N, dim).
            context: tokens (B, M, context_dim), or None for self-attention, where M = N.
            mask: true where a token counts: (B, M), or (B, N, M) to say so for each token of x, such as a triangle
                (1, N, N) that hides what comes later. It must be true somewhere in each row.
        """
        if (context is None) != (self.context_dim is None):
            raise ValueError("context must be given if and only if the layer was made with a context_dim")
        parts = self.qkv(x).chunk(3, dim=2) if context is None else (self.q(x), *self.kv(context).chunk(2, dim=2))
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)  # (B, heads, N or M, d)
        logits = q * q.shape[3] ** -0.5 @ k.transpose(2, 3)
        if mask is not None:
            logits = logits.masked_fill(~(mask[:, None] if mask.ndim == 2 else mask)[:, None], -float("inf"))
        return logits.softmax(dim=3), v

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        # Written out, it is the paper's formula; and on a CPU in bfloat16 the backward pass of torch's fused kernel
        # is slower than this for the few tokens of small images.
        weights, v = self.weights(x, context, mask)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


SelfAttention = Attention  # as exercise 6 calls it


class CrossAttention(Attention):
    """Attention to a context, which here is the second argument."""

    def __init__(self, dim: int, context_dim: int, heads: int) -> None:
        super().__init__(dim, heads, context_dim)
