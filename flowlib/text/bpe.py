"""Byte-level byte-pair encoding: any text as tokens, frequent pieces of words as one token each.

Sennrich et al. 2016, section 3.2, began with the letters of each word and joined the most frequent pair of neighbours
again and again. Radford et al. 2019, section 2.2, began with bytes, so that no text is without tokens.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from flowlib.checks import check_count, check_number
from flowlib.text.words import split_words

Pair = tuple[int, int]
SPECIAL = ("<start>", "<end>", "<pad>")
REMEMBERED = 2**16  # words whose tokens are kept


def join(tokens: Sequence[int], pair: Pair, new: int) -> list[int]:
    """The tokens with `new` wherever the pair stood, from left to right."""
    out: list[int] = []
    at = 0
    while at < len(tokens):
        found = tuple(tokens[at : at + 2]) == pair
        out.append(new if found else tokens[at])
        at += 1 + found
    return out


def check_texts(texts: object) -> None:
    """A ValueError for one text, whose letters would be taken for texts."""
    if isinstance(texts, str):
        raise ValueError(f"texts must be many texts, got one: {texts!r}")


class BPE:
    """Texts to tokens and back: 0 ... 255 are bytes, then come the learned pieces, then the special tokens.

    Case and spaces are kept. Two pairs that make the same bytes are the same token.

    Args:
        merges: pairs of tokens that become one, the first ones first.
        special: names of tokens that no text holds: those of start, end and padding, then others.

    Attributes:
        pieces: the bytes of each token that is not special.
        start, end, padding: the first three special tokens.

    Raises:
        ValueError: for merges of tokens that are not there yet, or fewer than three different special names.

    Example:
        >>> bpe = BPE.train(["a red seven", "a red two"], vocabulary=265)
        >>> [bpe.pieces[token] for token in bpe.encode("a red one")]
        [b'a', b' red', b' ', b'o', b'n', b'e']
        >>> bpe.decode(bpe.encode("Ein roter Käfer 🐞"))
        'Ein roter Käfer 🐞'
    """

    def __init__(self, merges: Iterable[Sequence[int]], special: Sequence[str] = SPECIAL) -> None:
        if isinstance(special, str) or len(set(special)) != len(special) or len(special) < 3:
            raise ValueError(f"special must be different names, of start, end, padding and others, got {special!r}")
        self.special = tuple(special)
        self.pieces = [bytes([byte]) for byte in range(256)]
        self._token = {piece: token for token, piece in enumerate(self.pieces)}
        self._joined: dict[Pair, tuple[int, int]] = {}  # pair -> (its rank, the token it becomes)
        for merge in merges:
            if len(merge) != 2 or not all(0 <= token < len(self.pieces) for token in merge):
                raise ValueError(f"merges must be pairs of tokens below {len(self.pieces)} here, got {merge!r}")
            self._learn((merge[0], merge[1]))
        self.start, self.end, self.padding = range(len(self.pieces), len(self.pieces) + 3)
        self._words: dict[str, list[int]] = {}  # what encode has found

    def _learn(self, pair: Pair) -> int:
        """The token that a pair becomes: a new one, unless there is one of these bytes."""
        piece = self.pieces[pair[0]] + self.pieces[pair[1]]
        token = self._token.setdefault(piece, len(self.pieces))
        if token == len(self.pieces):
            self.pieces.append(piece)
        self._joined.setdefault(pair, (len(self._joined), token))
        return token

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int = 512, special: Sequence[str] = SPECIAL) -> "BPE":
        """Learn from texts: the most frequent pair inside words is joined, of equals the one of the lowest tokens.

        It ends when there are `vocabulary` tokens, the special ones included, or no pair occurs twice. A pair in "aaa"
        is counted at both of its places.

        Raises:
            ValueError: for a vocabulary without room for all bytes and the special tokens, or one text for many.
        """
        check_texts(texts)
        bpe = cls((), special)
        check_count("vocabulary", vocabulary, len(bpe))
        words = Counter(word for text in texts for word in split_words(text))
        often, splits = list(words.values()), [list(word.encode()) for word in words]
        counts: Counter[Pair] = Counter()
        where: dict[Pair, set[int]] = defaultdict(set)  # words that hold a pair, or once did

        def count(word: int, times: int) -> None:
            for pair in pairwise(splits[word]):
                counts[pair] += times
                where[pair].add(word)

        for word, times in enumerate(often):
            count(word, times)
        while len(bpe) < vocabulary:
            best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
            if best is None or counts[best] < 2:
                break
            new = bpe._learn(best)
            for word in where.pop(best):
                count(word, -often[word])
                splits[word] = join(splits[word], best, new)
                count(word, often[word])
            counts = +counts  # without those that are gone
        return cls(bpe._joined, special)

    def __len__(self) -> int:
        return len(self.pieces) + len(self.special)

    def _encode_word(self, word: str, dropout: float, generator: torch.Generator | None) -> list[int]:
        tokens = list(word.encode())
        while True:
            found = [(*self._joined[pair], at) for at, pair in enumerate(pairwise(tokens)) if pair in self._joined]
            if dropout and found:
                kept = (torch.rand(len(found), generator=generator) >= dropout).tolist()
                found = [one for one, keep in zip(found, kept, strict=True) if keep]
            if not found:
                return tokens
            _, new, at = min(found)
            tokens[at : at + 2] = [new]

    def encode(self, text: str, dropout: float = 0.0, generator: torch.Generator | None = None) -> list[int]:
        """The tokens of a text, without special ones: in each word the earliest merge first, leftmost first.

        Args:
            text: any Unicode text; "<start>" in it is text like any other.
            dropout: how probably a possible merge is passed over, each time anew, so that a network sees a word in
                many pieces (Provilkov et al. 2020, algorithm 1); 1 leaves bytes.
            generator: of the dropout.

        Raises:
            ValueError: for half of a surrogate pair, which is no text, or a dropout outside [0, 1].
        """
        check_number("dropout", dropout, 0, 1)
        out: list[int] = []
        for word in split_words(text):
            tokens = None if dropout else self._words.get(word)
            if tokens is None:
                tokens = self._encode_word(word, dropout, generator)
                if not dropout and len(self._words) < REMEMBERED:
                    self._words[word] = tokens
            out += tokens
        return out

    def decode(self, tokens: Iterable[int] | Tensor) -> str:
        """The text of tokens, special ones left out; bytes that are no UTF-8 become U+FFFD.

        A token that is not in the vocabulary is a ValueError.
        """
        tokens = [int(token) for token in tokens]
        if wrong := [token for token in tokens if not 0 <= token < len(self)]:
            raise ValueError(f"tokens must lie in 0 ... {len(self) - 1}, got {wrong[0]}")
        return b"".join(self.pieces[token] for token in tokens if token < self.start).decode(errors="replace")

    def batch(
        self, texts: Sequence[str], length: int, dropout: float = 0.0, generator: torch.Generator | None = None,
        cut: bool = False,
    ) -> Tensor:  # fmt: skip
        """Texts as rows (B, length), int64: start, the text, end, then padding; `rows == bpe.end` is where each ends.

        A text that needs more tokens is a ValueError, which names it; or with `cut` it ends before them.
        """
        check_texts(texts)
        check_count("length", length, 2)
        rows = torch.full((len(texts), length), self.padding, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            tokens = [self.start, *self.encode(text, dropout, generator), self.end]
            if len(tokens) > length and cut:
                tokens = [*tokens[: length - 1], self.end]
            if len(tokens) > length:
                raise ValueError(f"texts must have at most {length - 2} tokens, got {len(tokens) - 2} for {text!r}")
            row[: len(tokens)] = torch.tensor(tokens)
        return rows

    def to_dict(self) -> dict[str, list]:
        """All that it is, as plain data for JSON."""
        return {"merges": [list(pair) for pair in self._joined], "special": list(self.special)}

    @classmethod
    def from_dict(cls, data: Mapping[str, list]) -> "BPE":
        """The inverse of `to_dict`; a ValueError for data with other keys."""
        if set(data) != {"merges", "special"}:
            raise ValueError(f"data must hold merges and special, got {', '.join(map(str, data))}")
        return cls(data["merges"], data["special"])
