"""SAM's mask decoder: a prompt and an image embedding become masks, and a guess of how good each is."""

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_choice, check_count
from flowlib.nets.norm import LayerNorm2d
from flowlib.nets.two_way import TwoWayTransformer


def perceptron(sizes: list[int]) -> nn.Sequential:
    """Linear layers between those sizes, with ReLU in between."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class MaskDecoder(nn.Module):
    """Masks (B, K, 2^doublings h, 2^doublings w) as logits, and their predicted IoU (B, K).

    A learned token for each mask and one for the IoU go through the two-way transformer with the prompt's. A mask is
    the product of the upsampled image with a vector that a network of three layers makes of the mask's token.

    Args:
        transformer: a `TwoWayTransformer`, whose `dim` is a multiple of 8.
        masks: how many are proposed for one ambiguous prompt; 3 in SAM. Beside these there is a single one.
        hidden: of the network of three layers that predicts the IoU; None for `dim`.
        doublings: of the image's size; 2 in SAM.

    Raises:
        ValueError: for sizes that do not fit.

    Example:
        >>> decoder = MaskDecoder(TwoWayTransformer(16, depth=1, heads=2), doublings=1)
        >>> masks, iou = decoder(torch.randn(2, 16, 4, 4), torch.randn(16, 4, 4), torch.randn(2, 3, 16))
        >>> masks.shape, iou.shape
        (torch.Size([2, 3, 8, 8]), torch.Size([2, 3]))
    """

    edges: ClassVar[tuple[str, ...]] = ("tokens", "vectors", "quality")  # what Muon leaves to AdamW

    def __init__(
        self, transformer: TwoWayTransformer, masks: int = 3, hidden: int | None = None, doublings: int = 2
    ) -> None:
        super().__init__()
        dim = transformer.dim
        if dim % 8:
            raise ValueError(f"transformer.dim must be a multiple of 8, got {dim}")
        check_choice("doublings", str(doublings), ("1", "2"))
        self.masks, self.transformer = check_count("masks", masks), transformer
        self.tokens = nn.Embedding(2 + masks, dim)  # of the IoU, of the single mask, of each of several
        widths = [dim, *([dim // 4] if doublings == 2 else []), dim // 8]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.ConvTranspose2d(before, after, 2, stride=2), LayerNorm2d(after), nn.GELU()]
        self.grow = nn.Sequential(*layers[:-2], layers[-1])  # the published one has no norm behind the last layer
        self.vectors = nn.ModuleList(perceptron([dim, dim, dim, dim // 8]) for _ in range(1 + masks))
        inner = dim if hidden is None else check_count("hidden", hidden)
        self.quality = perceptron([dim, inner, inner, 1 + masks])

    def forward(
        self, image: Tensor, places: Tensor, prompts: Tensor, dense: Tensor | None = None, several: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Masks as logits (B, K, H, W) and predicted IoU (B, K): K = `masks`, or 1 unless `several`.

        Args:
            image: embedding (B, dim, h, w), or (1, dim, h, w) for B prompts of one image.
            places: of its cells (dim, h, w).
            prompts: tokens (B, N, dim).
            dense: what is added to the embedding (B, dim, h, w).
            several: for an ambiguous prompt, whether all proposals are wanted in the place of the single mask.
        """
        batch, images, (height, width) = prompts.shape[0], image.shape[0], image.shape[2:]
        if images not in (1, batch):
            raise ValueError(f"image must be one, or one for each of {batch} prompts, got {images}")
        own = self.tokens.weight.to(prompts.dtype).expand(batch, -1, -1)
        seen = (image if dense is None else image + dense).expand(batch, -1, -1, -1).flatten(2).transpose(1, 2)
        found, seen = self.transformer(torch.cat([own, prompts], 1), seen, places.flatten(1).T)
        large = self.grow(seen.transpose(1, 2).unflatten(2, (height, width)))  # (B, dim / 8, H, W)
        which = range(1, 1 + self.masks) if several else range(1)
        vectors = torch.stack([self.vectors[i](found[:, 1 + i]) for i in which], dim=1)  # (B, K, dim / 8)
        masks = torch.einsum("bkc,bchw->bkhw", vectors, large)
        return masks, self.quality(found[:, 0])[:, which.start : which.stop]
