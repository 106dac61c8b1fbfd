"""A CLIP that is given texts: beside the two encoders it holds the tokenizer that was learned with them.

Example:
    >>> import torch
    >>> from flowlib.nets import ImageCNN, TextTransformer
    >>> from flowlib.nets.captioned_clip import CaptionedCLIP
    >>> from flowlib.nets.tokenizer import Tokenizer
    >>> words = Tokenizer(260, length=16)
    >>> text = TextTransformer(260, 16, words.end, width=16, depth=1, heads=2)
    >>> clip = CaptionedCLIP(ImageCNN(3, 16, (8, 8), heads=2, out_dim=16), text, words)
    >>> clip.similarity(torch.zeros(4, 3, 16, 16), ["a two", "a seven"]).shape
    torch.Size([4, 2])
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.nets.clip import CLIP
from flowlib.nets.tokenizer import Tokenizer
from flowlib.nets.transformer import TextTransformer


class CaptionedCLIP(CLIP):
    """A CLIP with its tokenizer: `similarity(images, texts)`."""

    def __init__(self, image: nn.Module, text: TextTransformer, tokenizer: Tokenizer) -> None:
        super().__init__(image, text)
        self.tokenizer = tokenizer

    def image_features(self, images: Tensor, t: Tensor | None = None) -> Tensor:
        """Features of unit length, (B, D)."""
        return F.normalize(self.encode_image(images, t).float(), dim=1)

    def read(self, texts: Sequence[str]) -> Tensor:
        """Features of texts (B, D), not of unit length. What is behind the longest is cut: no token sees it."""
        tokens = self.tokenizer(texts)
        longest = int((tokens != self.tokenizer.padding).sum(1).max()) if len(tokens) else 1
        return self.encode_text(tokens[:, :longest])

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Features of unit length, (B, D)."""
        return F.normalize(self.read(texts).float(), dim=1)

    def similarity(self, images: Tensor, texts: Sequence[str], t: Tensor | None = None) -> Tensor:
        """The cosine of each image with each text, (B, M)."""
        return self.image_features(images, t) @ self.text_features(texts).T
