"""The decoder of unCLIP: GLIDE's network, which is also told CLIP's embedding of the picture (Ramesh et al. 2022)."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count, check_tensor
from flowlib.known import made_of
from flowlib.nets.captioned import Captioned
from flowlib.nets.clip_embeddings import EmbeddingOrNone, check_embeddings
from flowlib.nets.dit import DiT
from flowlib.nets.embeddings import zero_init
from flowlib.nets.tokenizer import Tokenizer
from flowlib.nets.transformer import TextTransformer
from flowlib.nets.unet import UNet

TOKENS = 4  # of context, that an embedding becomes


class CaptionedEmbedding(Captioned):
    """net(x, t, y) with a caption and an embedding of the picture as its guide, each of which may be none.

    The embedding is added to that of time, and becomes four tokens behind the caption's, which all attention reads. Of
    none, zeros, a learned vector is added, and the four tokens do not count. What is added starts at zero: without an
    embedding the untrained network is the `Captioned` that it is made of.

    A guide is one row of numbers for each sample, as `guide(tokens, embedding)` makes it. The null guide is the empty
    caption and no embedding.

    Args:
        net, text, tokenizer, dim, reach: as in `Captioned`.
        size: of the embedding.

    Raises:
        ValueError: in calls, for a y of another shape, or that holds no tokens, or an embedding that is neither of unit
            length nor zeros.

    Example:
        >>> import torch
        >>> from flowlib.nets import TextTransformer, UNet
        >>> from flowlib.nets.tokenizer import Tokenizer
        >>> words = Tokenizer(259, 24)
        >>> text = TextTransformer(259, 24, words.end, words.padding, width=16, depth=1, heads=2, causal=False)
        >>> unet = UNet(3, (8, 16), classes=None, attention=(1,), context_dim=16)
        >>> net = CaptionedEmbedding(unet, text, words, unet.condition_dim, size=8)
        >>> y = net.guide(words(["a red seven", ""]), torch.eye(8)[:2])
        >>> tuple(y.shape), tuple(net(torch.randn(2, 3, 16, 16), torch.rand(2), y).shape)
        ((2, 32), (2, 3, 16, 16))
    """

    edges: ClassVar[tuple[str, ...]] = ("pooled", "added", "tokens")  # what Muon leaves to AdamW

    def __init__(
        self, net: UNet | DiT, text: TextTransformer, tokenizer: Tokenizer, dim: int, size: int, reach: int = 5
    ) -> None:
        super().__init__(net, text, tokenizer, dim, reach)
        self.size = check_count("size", size)
        self.added = EmbeddingOrNone(size, dim)
        zero_init(self.added.layer)
        self.tokens = nn.Linear(size, TOKENS * text.width)
        self.null = self.guide(self.null[None], torch.zeros(1, size))[0]

    def guide(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        """The guide (B, length + size) of captions' tokens (B, length) and of pictures' embeddings (B, size)."""
        check_tensor("embedding", embedding)
        if embedding.shape != (len(tokens), self.size):
            raise ValueError(f"embedding must have shape {(len(tokens), self.size)}, got {tuple(embedding.shape)}")
        return torch.cat([tokens.to(embedding), embedding], dim=1)

    def parted(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens (B, length), int64, and embeddings (B, size) of guides."""
        tokens = made_of(y, self, "captions", lambda: y[:, : self.tokenizer.length].long())
        return tokens, y[:, self.tokenizer.length :]

    def check_guide(self, y: Tensor, batch: int) -> None:
        """A ValueError unless y are guides as `guide` makes them."""
        wanted = (batch, *self.null.shape)
        if not y.is_floating_point() or y.shape != wanted:
            raise ValueError(f"y must be captions and embeddings {wanted}, got {y.dtype} {tuple(y.shape)}")
        tokens, embedding = self.parted(y)
        super().check_guide(tokens, batch)
        check_embeddings("y", embedding, y)

    def given(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        tokens, embedding = self.parted(y)
        read = self.tokens(embedding * self.size**0.5).unflatten(1, (TOKENS, -1))
        there = (embedding != 0).any(1, keepdim=True).expand(-1, TOKENS)
        context, more = self.heard(tokens, self.added(embedding), (read, there))
        return {"context": context, "more": more}
