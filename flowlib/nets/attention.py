"""Multi-head attention of tokens to each other, or to those of another sequence (Vaswani et al. 2017, section 3.2)."""

from torch import Tensor, nn

from flowlib.checks import check_count


class SelfAttention(nn.Module):
    """Every token looks at every token: (B, N, dim) -> (B, N, dim)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if check_count("dim", dim) % check_count("heads", heads):
            raise ValueError(f"dim must be a multiple of heads, got {dim} and {heads}")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, dim = x.shape
        qkv = self.qkv(x).reshape(batch, count, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, dim / heads)
        # Written out, it is the paper's formula; and on a CPU in bfloat16 the backward pass of torch's fused kernel
        # is slower than this for the few tokens of small images.
        weights = (q * (dim // self.heads) ** -0.5 @ k.transpose(-1, -2)).softmax(dim=-1)  # (B, heads, N, N)
        mixed = weights @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, count, dim))


class CrossAttention(nn.Module):
    """Every token looks at every token of a context: (B, N, dim), (B, M, context_dim), (B, M) -> (B, N, dim).

    The mask is true where a token of the context counts, and must be true somewhere in each row.
    """

    def __init__(self, dim: int, context_dim: int, heads: int) -> None:
        super().__init__()
        if check_count("dim", dim) % check_count("heads", heads):
            raise ValueError(f"dim must be a multiple of heads, got {dim} and {heads}")
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(check_count("context_dim", context_dim), 2 * dim)
        self.out = nn.Linear(dim, dim)

    def weights(self, x: Tensor, context: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """How much each token of x looks at each of the context, (B, heads, N, M), and the values, (B, heads, M, d)."""
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, N or M, d) with d = dim / heads
            for part in (self.q(x), *self.kv(context).chunk(2, dim=2))
        )
        logits = q * q.shape[3] ** -0.5 @ k.transpose(2, 3)
        return logits.masked_fill(~mask[:, None, None], -float("inf")).softmax(dim=3), v

    def forward(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        weights, v = self.weights(x, context, mask)
        return self.out((weights @ v).transpose(1, 2).flatten(2))
