"""Texts as words of a small vocabulary, and words as tokens.

Each sequence starts with the same token, so that there is always something to look at; alone it is the empty text, the
null guide.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from flowlib.checks import check_count

PADDING, START = 0, 1


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Vocabulary:
    """Texts to tokens and back: 0 is padding, 1 the start of every sequence, then the words in their order.

    Args:
        words: each once, without spaces.
        length: tokens in a sequence, the start included.

    Raises:
        ValueError: for words that repeat, are empty or have spaces, or a length below 2.

    Example:
        >>> from flowlib.text import Vocabulary
        >>> words = Vocabulary(["a", "red", "blue", "seven"], length=5)
        >>> tokens = words.encode(["a red seven", ""])
        >>> tokens.tolist()  # 1 starts a text, 0 fills it up
        [[1, 2, 3, 5, 0], [1, 0, 0, 0, 0]]
        >>> words.decode(tokens)
        ['a red seven', '']
    """

    def __init__(self, words: Sequence[str] = DIGITS, length: int = 8) -> None:
        if isinstance(words, str) or len(set(words)) < len(words) or any(word.split() != [word] for word in words):
            raise ValueError(f"words must be different words without spaces, got {words!r}")
        self.words, self.length = tuple(words), check_count("length", length, 2)
        self._token = {word: token for token, word in enumerate(words, START + 1)}

    def __len__(self) -> int:
        return len(self.words) + 2

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Texts of words with spaces between -> tokens (B, length), int64; the empty text is the null guide.

        Raises:
            ValueError: for a word that is not in the vocabulary, or a text that is too long.
        """
        rows = []
        for text in texts:
            unknown = [word for word in text.split() if word not in self._token]
            if unknown:
                raise ValueError(f"texts must be made of {', '.join(self.words)}; got {unknown[0]!r} in {text!r}")
            row = [START, *(self._token[word] for word in text.split())]
            if len(row) > self.length:
                raise ValueError(f"texts must have at most {self.length - 1} words, got {text!r}")
            rows.append(row + [PADDING] * (self.length - len(row)))
        return torch.tensor(rows, dtype=torch.long).reshape(-1, self.length)

    def decode(self, tokens: Tensor) -> list[str]:
        """Tokens (B, length) -> texts."""
        return [" ".join(self.words[token - 2] for token in row if token > START) for row in tokens.tolist()]
