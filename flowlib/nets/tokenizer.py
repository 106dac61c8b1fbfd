"""A tokenizer that travels with the weights: its merges are a buffer, so that a run can be given texts anywhere."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count
from flowlib.text import BPE

UNUSED = -1


class Tokenizer(nn.Module):
    """Texts -> tokens (B, length), by a byte-pair encoding of at most `vocabulary` tokens (`flowlib.text.BPE`).

    It knows bytes only until it `learn`s or is loaded.

    Args:
        vocabulary: tokens at most, the 256 bytes and three special ones included.
        length: tokens of a text, its start and end included.

    Attributes:
        bpe: the encoding.
        start, end, padding: the last three of the vocabulary, whatever was learned.

    Raises:
        ValueError: for sizes that do not fit; in calls for a text that is too long, naming it.
    """

    edges: ClassVar[tuple[str, ...]] = ()
    merges: Tensor

    def __init__(self, vocabulary: int = 512, length: int = 32) -> None:
        super().__init__()
        self.vocabulary, self.length = check_count("vocabulary", vocabulary, 259), check_count("length", length, 3)
        self.start, self.end, self.padding = range(vocabulary - 3, vocabulary)
        self.register_buffer("merges", torch.full((vocabulary - 259, 2), UNUSED))
        self.bpe = BPE(())
        self.register_load_state_dict_post_hook(lambda module, keys: module._refresh())

    def learn(self, texts: Sequence[str]) -> None:
        """Learn merges from texts, which must not be too long in the end.

        Raises:
            ValueError: for a text that is too long, naming it.
        """
        self.bpe = BPE.train(texts, self.vocabulary)
        found = torch.tensor(self.bpe.to_dict()["merges"], dtype=torch.long).reshape(-1, 2)
        self.merges.fill_(UNUSED)
        self.merges[: len(found)] = found.to(self.merges)
        self.bpe.batch(texts, self.length)

    def forward(self, texts: Sequence[str], *, cut: bool = False) -> Tensor:
        """With `cut`, a text that is too long ends where it no longer fits."""
        rows = self.bpe.batch(texts, self.length, cut=cut)
        return torch.where(rows < self.bpe.start, rows, rows - self.bpe.start + self.start).to(self.merges.device)

    def decode(self, tokens: Tensor) -> list[str]:
        """Texts of tokens (B, length), as they were, or near it where tokens make no text."""
        known = [[token for token in row if token < self.bpe.start] for row in tokens.tolist()]
        return [self.bpe.decode(row) for row in known]

    def _refresh(self) -> None:
        merges = self.merges.tolist()
        self.bpe = BPE([pair for pair in merges if pair[0] != UNUSED])

    def __deepcopy__(self, memo: dict[int, Any]) -> "Tokenizer":
        copied = Tokenizer(self.vocabulary, self.length).to(self.merges.device)
        copied.load_state_dict(self.state_dict())
        return copied
