"""One stream of tokens, a text and then an image, and the transformer that continues it: DALL-E's second stage.

Ramesh et al. 2021, section 2.2 and appendix B.1.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count
from flowlib.nets.discrete import DiscreteAutoencoder
from flowlib.nets.tokenizer import Tokenizer
from flowlib.nets.transformer import GPT, normal_embedding
from flowlib.nets.transformer_block import Cache, check_tokens
from flowlib.precision import double


class TextImageGPT(GPT):
    """Logits of the next token at each place of a text and an image behind it: (B, N) -> (B, N, words + codes).

    The text's tokens are 0 ... words - 1, those of the image words ... words + codes - 1. The first `length` places are
    the text's, so what comes next is a token of the text up to place length - 2 and one of the image from there on: all
    others have logits of minus infinity, as has what no text goes on with. A place of the text without a text has a
    padding vector of its own. Places of the image are a vector for the row plus one for the column.

    Args:
        words: tokens of texts.
        length: places of the text.
        codes: tokens of images.
        grid: rows and columns of the image's tokens.
        padding: the token of places that the text leaves.
        silent: tokens of texts that are never predicted, such as their start; the padding is one in any case.
        width, depth, heads, pattern: as in `GPT`; a pattern is (N, N), N = length + rows columns.

    Raises:
        ValueError: for a size that does not fit; in calls for tokens of another shape, dtype or range.

    Example:
        >>> gpt = TextImageGPT(words=9, length=4, codes=5, grid=(2, 2), padding=8, width=8, depth=1, heads=2)
        >>> logits = gpt(torch.tensor([[7, 1, 6, 8, 9, 13, 9, 10]]))  # a text of 7, 1, 6, and an image 0, 4, 0, 1
        >>> [int(part.isfinite().sum()) for part in logits[0]]
        [8, 8, 8, 5, 5, 5, 5, 5]
    """

    edges: ClassVar[tuple[str, ...]] = ("token", "place", "padding", "row", "column", "head")

    allowed: Tensor

    def __init__(
        self,
        words: int,
        length: int,
        codes: int,
        grid: tuple[int, int],
        padding: int,
        silent: Sequence[int] = (),
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        pattern: Tensor | Sequence[Tensor] | None = None,
    ) -> None:
        vocabulary = check_count("words", words) + check_count("codes", codes)
        super().__init__(vocabulary, length, width, depth, heads, pattern=pattern)
        self.words, self.length, self.codes, self.grid, self.pad = words, length, codes, tuple(grid), padding
        self.row = normal_embedding("grid", grid[0], width, 0.01)
        self.column = normal_embedding("grid", grid[1], width, 0.01)
        self.padding = normal_embedding("length", length, width, 0.02)
        self.places = length + grid[0] * grid[1]
        allowed = torch.zeros(2, words + codes, dtype=torch.bool)  # before a token of the text, and of the image
        allowed[0, :words], allowed[1, words:] = True, True
        allowed[0, [padding, *silent]] = False
        self.register_buffer("allowed", allowed, persistent=False)

    def embed(self, tokens: Tensor, past: int = 0) -> Tensor:
        """Tokens (B, N) after `past` others -> vectors (B, N, width), each with its place."""
        tokens = check_tokens(tokens, self.words + self.codes, self.places - past)
        now = slice(past, past + tokens.shape[1])
        image = (self.row.weight[:, None] + self.column.weight).flatten(0, 1)
        places = torch.cat([self.place.weight, image])[now]  # (N, width)
        padding = torch.cat([self.padding.weight, torch.zeros_like(image)])[now]
        return torch.where((tokens == self.pad)[..., None], padding, self.token(tokens)) + places

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        past = 0 if cache is None else len(cache)
        logits = self.logits(self.embed(tokens, past), cache).float()
        place = torch.arange(past, past + tokens.shape[1], device=tokens.device)
        return logits.masked_fill(~self.allowed[(place >= self.length - 1).long()], -float("inf"))


class DALLE(nn.Module):
    """A discrete autoencoder, and the law of its tokens behind a text's.

    Args:
        dvae: images to tokens and back; its pixels have a distribution (`law`).
        gpt: the transformer of both kinds of tokens.
        tokenizer: texts to tokens.
    """

    edges: ClassVar[tuple[str, ...]] = ()

    def __init__(self, dvae: DiscreteAutoencoder, gpt: TextImageGPT, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.dvae, self.gpt, self.tokenizer = dvae, gpt, tokenizer

    def read(self, texts: Sequence[str]) -> Tensor:
        """Texts, in lower case -> tokens (B, length); a ValueError for one that is too long, naming it."""
        return self.tokenizer([text.lower() for text in texts])

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> their most probable tokens, row by row, (B, rows columns) in 0 ... codes - 1.

        In full precision whatever the rest computes in, so that an image has the same tokens always.
        """
        with torch.autocast(images.device.type, enabled=False):
            return self.dvae.encode(images).argmax(1).flatten(1)

    @torch.no_grad()
    def decode(self, index: Tensor) -> Tensor:
        """The inverse: tokens (B, rows columns) -> images, not clipped to [-1, 1]."""
        return self.dvae.decode_tokens(index.unflatten(1, self.gpt.grid)).float()

    def joined(self, text: Tensor, index: Tensor) -> Tensor:
        """Tokens of texts (B, length) and of images (B, rows columns), as the transformer reads them."""
        return torch.cat([text, index + self.gpt.words], dim=1)

    @torch.no_grad()
    def log_prob(self, text: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """log p(text) and log p(image's tokens | text) in nats, (B,) each; padding is certain, as it says nothing."""
        tokens = self.joined(text, index)
        logs = self.gpt(tokens[:, :-1]).log_softmax(2)
        each = logs.gather(2, tokens[:, 1:, None])[..., 0].masked_fill(tokens[:, 1:] == self.gpt.pad, 0.0)
        place = self.gpt.length - 1
        return double(each[:, :place]).sum(1), double(each[:, place:]).sum(1)


def check_texts_of(y: object, gpt: TextImageGPT, count: int) -> Tensor:
    """Return y if they are texts' tokens (count, length); else a ValueError."""
    if not isinstance(y, Tensor) or y.is_floating_point() or y.shape != (count, gpt.length):
        got = f"{y.dtype} {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"y must be tokens of texts ({count}, {gpt.length}), got {got}")
    return check_tokens(y, gpt.words, gpt.length)
