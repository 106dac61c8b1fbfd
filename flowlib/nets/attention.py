"""Multi-head self-attention over a sequence of tokens (Vaswani et al. 2017, section 3.2)."""

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
