"""A masked autoencoder: most patches of an image are hidden, and made up from the rest (He et al. 2022).

The encoder is a `ViT` that is given the visible patches only. The decoder is light: it puts one learned vector in the
place of each hidden patch, and its transformer writes the pixels of all of them. Once trained it is thrown away.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count, check_number
from flowlib.nets.transformer import Transformer
from flowlib.nets.vit import ViT


def visible_patches(batch: int, patches: int, hidden: float, generator: torch.Generator | None = None) -> Tensor:
    """Which patches are seen: a random subset of each image, of the same size in all, in ascending order.

    Args:
        batch: images.
        patches: N of an image.
        hidden: the share that is hidden, in (0, 1): round(hidden N) patches, and at most N - 1.
        generator: of the subsets.

    Returns:
        (batch, K) int64, 0 ... N - 1.

    Example:
        >>> visible_patches(2, 16, 0.75).shape
        torch.Size([2, 4])
    """
    check_number("hidden", hidden, 0, 1, low_open=True, high_open=True)
    kept = max(1, check_count("patches", patches) - round(hidden * patches))
    order = torch.rand(check_count("batch", batch), patches, generator=generator).argsort(1)
    return order[:, :kept].sort(1).values


class MaskedAutoencoder(nn.Module):
    """Images (B, C, S, S) and the patches that are seen (B, K) -> all patches (B, N, C patch^2), N = (S / patch)^2.

    Patches are row by row, and each as `flowlib.nets.patchify` cuts it.

    Args:
        encoder: a `ViT` with `pool="mean"`.
        width, depth, heads: of the decoder.

    Raises:
        ValueError: for a size that does not fit; in calls for images of another shape, or patches that are none.

    Example:
        >>> encoder = ViT(image_size=8, patch=2, width=16, depth=1, heads=2, pool="mean")
        >>> mae = MaskedAutoencoder(encoder, width=8, depth=1, heads=2)
        >>> mae(torch.randn(3, 3, 8, 8), visible_patches(3, 16, 0.75)).shape
        torch.Size([3, 16, 12])
    """

    edges: ClassVar[tuple[str, ...]] = ("narrow", "hidden", "places", "head")  # what Muon leaves to AdamW

    def __init__(self, encoder: ViT, width: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        if encoder.class_token is not None:
            raise ValueError("encoder must be a ViT with pool='mean': here nobody reads a class token")
        self.encoder, self.patch = encoder, encoder.stem.kernel_size[0]
        self.narrow = nn.Linear(encoder.width, check_count("width", width))
        self.hidden = nn.Parameter(0.02 * torch.randn(width))
        self.places = nn.Parameter(width**-0.5 * torch.randn(encoder.patches, width))
        self.transformer = Transformer(width, depth, heads)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, encoder.in_channels * self.patch**2)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        seen = self.narrow(self.encoder(x, keep=keep)[1])  # (B, K, width)
        where = keep.long()[:, :, None].expand_as(seen)
        filled = self.hidden.to(seen.dtype).expand(len(x), len(self.places), -1).scatter(1, where, seen)
        return self.head(self.norm(self.transformer(filled + self.places)))  # (B, N, C patch^2)
