"""SAM's two-way transformer: prompts look at the image, and the image looks back (Kirillov et al. 2023, appendix A).

Positions enter by addition to queries and keys, before every attention and never to values: the image's Fourier
features to the image, and the tokens as they came in to the tokens.
"""

from torch import Tensor, nn

from flowlib.checks import check_count


class SplitAttention(nn.Module):
    """Attention whose queries, keys and values are three sequences: (B, N, dim), (B, M, dim) twice -> (B, N, dim).

    Args:
        dim: size of a token.
        heads: attention heads.
        inner: size of all heads together, a multiple of `heads`; None for `dim`.
    """

    def __init__(self, dim: int, heads: int, inner: int | None = None) -> None:
        super().__init__()
        inner = dim if inner is None else inner
        if check_count("inner", inner) % check_count("heads", heads):
            raise ValueError(f"inner must be a multiple of heads, got {inner} and {heads}")
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(check_count("dim", dim), inner) for _ in range(3))
        self.out = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (
            layer(part).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, N or M, inner / heads)
            for layer, part in ((self.q, q), (self.k, k), (self.v, v))
        )
        weights = (q * q.shape[3] ** -0.5 @ k.transpose(2, 3)).softmax(3)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class TwoWayBlock(nn.Module):
    """Tokens look at each other, then at the image; a network of two layers; then the image looks at the tokens.

    Each result is added and passes a norm. In the first block tokens are their own positions, which are not added
    again, and the first attention replaces what it was given, as in the published code.
    """

    def __init__(self, dim: int, heads: int, hidden: int, shrink: int = 2, first: bool = False) -> None:
        super().__init__()
        self.first = first
        self.to_tokens = SplitAttention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.to_image = SplitAttention(dim, heads, dim // shrink)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, check_count("hidden", hidden)), nn.ReLU(), nn.Linear(hidden, dim))
        self.norm3 = nn.LayerNorm(dim)
        self.from_image = SplitAttention(dim, heads, dim // shrink)
        self.norm4 = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, image: Tensor, places: Tensor, image_places: Tensor) -> tuple[Tensor, Tensor]:
        """Args: tokens and their places (B, N, dim), the image and its places (B, h w, dim)."""
        if self.first:
            tokens = self.to_tokens(tokens, tokens, tokens)
        else:
            placed = tokens + places
            tokens = tokens + self.to_tokens(placed, placed, tokens)
        tokens = self.norm1(tokens)
        seen = image + image_places
        tokens = self.norm2(tokens + self.to_image(tokens + places, seen, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.from_image(seen, tokens + places, tokens))
        return tokens, image


class TwoWayTransformer(nn.Module):
    """Tokens (B, N, dim) and an image (B, h w, dim) with its places, each after having looked at the other.

    Args:
        dim: size of a token.
        depth: blocks; 2 in SAM.
        heads: attention heads.
        hidden: of the two-layer networks; 2,048 in SAM.
        shrink: how many times smaller attention between tokens and image is inside, a divisor of `dim`.

    Raises:
        ValueError: for sizes that do not fit.

    Example:
        >>> import torch
        >>> net = TwoWayTransformer(dim=8, depth=2, heads=2, hidden=16)
        >>> tokens, image = net(torch.randn(1, 3, 8), torch.randn(1, 16, 8), torch.randn(16, 8))
        >>> tokens.shape, image.shape
        (torch.Size([1, 3, 8]), torch.Size([1, 16, 8]))
    """

    def __init__(self, dim: int = 96, depth: int = 2, heads: int = 4, hidden: int = 192, shrink: int = 2) -> None:
        super().__init__()
        if dim % check_count("shrink", shrink):
            raise ValueError(f"shrink must be a divisor of dim = {dim}, got {shrink}")
        self.dim = dim
        self.blocks = nn.ModuleList(
            TwoWayBlock(dim, heads, hidden, shrink, first=i == 0) for i in range(check_count("depth", depth))
        )
        self.last = SplitAttention(dim, heads, dim // shrink)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, image: Tensor, image_places: Tensor) -> tuple[Tensor, Tensor]:
        places = tokens
        for block in self.blocks:
            tokens, image = block(tokens, image, places, image_places)
        tokens = self.norm(tokens + self.last(tokens + places, image + image_places, image))
        return tokens, image
