"""Multi-head self-attention over a sequence of tokens (Vaswani et al. 2017, section 3.2)."""

import torch.nn.functional as F
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
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(batch, count, dim))
