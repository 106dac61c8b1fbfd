"""SAM: an image is embedded once, and each prompt becomes masks by a small network (Kirillov et al. 2023)."""

from typing import ClassVar

from torch import Tensor, nn

from flowlib.checks import check_count
from flowlib.nets.mask_decoder import MaskDecoder
from flowlib.nets.norm import LayerNorm2d
from flowlib.nets.prompts import PromptEncoder
from flowlib.nets.vit import ViT


class ImageEncoder(nn.Module):
    """Images (B, C, S, S) -> embeddings (B, dim, h, h), h = S / patch: a `ViT`, and a neck of two convolutions.

    Example:
        >>> import torch
        >>> from flowlib.nets import ImageEncoder, ViT
        >>> vit = ViT(image_size=16, patch=2, width=16, depth=1, heads=2, pool="mean")
        >>> ImageEncoder(vit, dim=8)(torch.randn(2, 3, 16, 16)).shape
        torch.Size([2, 8, 8, 8])
    """

    edges: ClassVar[tuple[str, ...]] = ()

    def __init__(self, vit: ViT, dim: int) -> None:
        super().__init__()
        self.vit, self.side = vit, round(vit.patches**0.5)
        self.neck = nn.Sequential(
            nn.Conv2d(vit.width, check_count("dim", dim), 1, bias=False),
            LayerNorm2d(dim),
            nn.Conv2d(dim, dim, 3, padding=1, bias=False),
            LayerNorm2d(dim),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.neck(self.vit(images)[1].transpose(1, 2).unflatten(2, (self.side, self.side)))


class SAM(nn.Module):
    """Masks of what a prompt points at: `logits, iou = sam(images, points, labels)`.

    Args:
        image_encoder: images -> embeddings (B, dim, h, w), such as an `ImageEncoder`.
        prompt_encoder: prompts -> tokens, and what is added to the embedding.
        mask_decoder: embeddings and tokens -> masks and their predicted IoU.

    Raises:
        ValueError: in calls, what the networks raise.

    Example:
        >>> import torch
        >>> from flowlib.nets.two_way import TwoWayTransformer
        >>> vit = ViT(image_size=16, patch=2, width=16, depth=1, heads=2, pool="mean")
        >>> prompts = PromptEncoder(16, (8, 8), (16, 16), doublings=1)
        >>> sam = SAM(ImageEncoder(vit, 16), prompts, MaskDecoder(TwoWayTransformer(16, heads=2), doublings=1))
        >>> embedding = sam.embed(torch.randn(1, 3, 16, 16))  # once, for two prompts:
        >>> logits, iou = sam.masks(embedding, torch.tensor([[[3.0, 4.0]], [[9.0, 9.0]]]), torch.tensor([[1], [1]]))
        >>> logits.shape, iou.shape
        (torch.Size([2, 3, 16, 16]), torch.Size([2, 3]))
    """

    def __init__(self, image_encoder: nn.Module, prompt_encoder: PromptEncoder, mask_decoder: MaskDecoder) -> None:
        super().__init__()
        self.image_encoder, self.prompt_encoder, self.mask_decoder = image_encoder, prompt_encoder, mask_decoder

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings (B, dim, h, w): what is slow, and done once an image."""
        return self.image_encoder(images)

    def masks(
        self,
        embedding: Tensor,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        text: Tensor | None = None,
        several: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Masks as logits (B, K, H, W) and their predicted IoU (B, K), of B prompts.

        Args:
            embedding: (B, dim, h, w), or (1, dim, h, w) for B prompts of one image.
            points, labels, boxes, masks, text: as `PromptEncoder` takes them.
            several: K is the decoder's number of proposals, for one ambiguous prompt; else 1, for what is certain.
        """
        tokens, dense = self.prompt_encoder(points, labels, boxes, masks, text)
        return self.mask_decoder(embedding, self.prompt_encoder.image_places(), tokens, dense, several)

    def forward(
        self,
        images: Tensor,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        text: Tensor | None = None,
        several: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """As `masks`, of images that are embedded first."""
        return self.masks(self.embed(images), points, labels, boxes, masks, text, several)
