"""Guides made of words: a small vocabulary, and a vector for each word and place.

There is no text encoder yet: a word's vector knows its word and its place, not its neighbours. Each sequence starts
with the same token, so that there is always something to look at; alone it is the empty text, the null guide.

Example:
    >>> import torch
    >>> from flowlib.nets import WordEmbedding
    >>> words = WordEmbedding(words=12, length=4, dim=8)
    >>> vectors, counts = words(torch.tensor([[1, 5, 7, 0]]), 1)
    >>> vectors.shape, counts
    (torch.Size([1, 4, 8]), tensor([[ True,  True,  True, False]]))
    >>> words(None, 2)[1].sum(1)  # of the null guide, the start alone
    tensor([1, 1])
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count
from flowlib.known import is_so
from flowlib.text import PADDING, START


class WordEmbedding(nn.Module):
    """Tokens (B, length) -> vectors (B, length, dim), and which of them are no padding (B, length).

    Args:
        words: tokens in the vocabulary, those of padding and start included.
        length: tokens in a sequence.
        dim: size of a vector.

    Raises:
        ValueError: for a size that does not fit; in calls for tokens of another shape, dtype or range, or a sequence of
            padding alone.
    """

    null: Tensor
    edges: ClassVar[tuple[str, ...]] = ("word", "place")  # what Muon leaves to AdamW

    def __init__(self, words: int, length: int, dim: int) -> None:
        super().__init__()
        self.word = nn.Embedding(check_count("words", words, 3), dim)
        self.place = nn.Embedding(check_count("length", length, 2), dim)
        nn.init.normal_(self.place.weight, std=0.1)  # less than a word: what it says counts more than where it stands
        self.register_buffer("null", torch.tensor([START] + [PADDING] * (length - 1)), persistent=False)

    def check(self, y: Tensor, batch: int) -> None:
        """A ValueError unless y are tokens that an embedding has, (batch, length)."""
        words, length = self.word.num_embeddings, self.place.num_embeddings
        if y.is_floating_point() or y.shape != (batch, length):
            raise ValueError(f"y must be integer tokens ({batch}, {length}), got {y.dtype} {tuple(y.shape)}")
        if not is_so(y, None, ("tokens", words), lambda: _fit(y, words)):
            raise ValueError(f"y must hold tokens 0 ... {words - 1}, and in each row one that is no padding")

    def forward(self, y: Tensor | None, batch: int) -> tuple[Tensor, Tensor]:
        if y is None:
            y = self.null.expand(batch, -1)
        else:
            self.check(y, batch)
        y = y.long()
        return self.word(y) + self.place.weight, y != PADDING


def _fit(y: Tensor, words: int) -> bool:
    y = y.long()
    return int(y.min()) >= 0 and int(y.max()) < words and bool((y != PADDING).any(1).all())
