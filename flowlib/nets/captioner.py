"""A captioner: a language model that reads an image's CLIP embedding before the text (Betker et al. 2023).

An image is too many numbers to read one by one; CLIP's embedding is a short account of it. A few vectors are made of it
and stand before the text, as in Mokady et al. (2021, ClipCap, arXiv:2111.09734). All else is a language model.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count
from flowlib.nets.clip import CLIP
from flowlib.nets.transformer import GPT, normal_embedding
from flowlib.nets.transformer_block import Cache


class PrefixGPT(GPT):
    """Logits of a text's next token, behind vectors of something else: (B, N), (B, P, width) -> (B, N, vocabulary).

    Args:
        vocabulary: tokens 0 ... vocabulary - 1.
        length: places of a text.
        prefix: P, the vectors that come before it; they have places of their own.
        width, depth, heads: as in `GPT`.

    Raises:
        ValueError: for a size that does not fit; in calls for tokens or vectors of another shape, dtype or range, or
            without a prefix where no cache holds it.

    Example:
        >>> gpt, cache = PrefixGPT(vocabulary=9, length=6, prefix=2, width=8, depth=1, heads=2), Cache(1)
        >>> tuple(gpt(torch.tensor([[3, 1]]), cache, torch.randn(1, 2, 8)).shape), len(cache)
        ((1, 2, 9), 4)
        >>> tuple(gpt(torch.tensor([[4]]), cache).shape), len(cache)
        ((1, 1, 9), 5)
    """

    edges: ClassVar[tuple[str, ...]] = (*GPT.edges, "before")

    def __init__(
        self, vocabulary: int, length: int, prefix: int = 4, width: int = 96, depth: int = 4, heads: int = 4
    ) -> None:
        super().__init__(vocabulary, length, width, depth, heads)
        self.before = normal_embedding("prefix", prefix, width, 0.01)

    def forward(self, tokens: Tensor, cache: Cache | None = None, prefix: Tensor | None = None) -> Tensor:
        """Args: tokens, those behind what the cache holds; prefix, once: with the first tokens."""
        past, before = 0 if cache is None else len(cache), self.before.weight  # (P, width)
        if (prefix is None) != (past > 0):
            raise ValueError("prefix must be given with the first tokens, and only with them")
        if prefix is None:
            return self.logits(self.embed(tokens, past - len(before)), cache)
        if prefix.shape != (len(tokens), *before.shape) or not prefix.is_floating_point():
            expected = (len(tokens), *before.shape)
            raise ValueError(f"prefix must be vectors {expected}, got {prefix.dtype} {tuple(prefix.shape)}")
        x = torch.cat([prefix + before, self.embed(tokens)], dim=1)  # (B, P + N, width)
        return self.logits(x, cache)[:, len(before) :]


class Captioner(nn.Module):
    """A CLIP, and a language model that reads what it sees: `captioner(images, tokens)`, the logits of what follows.

    Args:
        clip: a CLIP whose tokenizer, `clip.tokenizer`, is the language model's too.
        prefix: vectors that an embedding becomes, by one linear layer.
        places: whether CLIP's features of the image's places stand behind them, each as one vector.
        width, depth, heads: of the language model.

    Attributes:
        gpt: the language model, a `PrefixGPT`.

    Raises:
        ValueError: for a size that does not fit.
    """

    edges: ClassVar[tuple[str, ...]] = ("start", "place")

    def __init__(
        self, clip: CLIP, prefix: int = 4, places: bool = False, width: int = 96, depth: int = 4, heads: int = 4
    ) -> None:
        super().__init__()
        self.clip = clip
        image: Any = clip.image
        with torch.no_grad():
            whole, parts = image(torch.zeros(1, image.in_channels, image.image_size, image.image_size), None)
        count, words = check_count("prefix", prefix), self.tokenizer
        self.gpt = PrefixGPT(words.vocabulary, words.length, count + places * parts.shape[1], width, depth, heads)
        self.start = nn.Linear(whole.shape[1], count * width)
        self.place = nn.Linear(parts.shape[2], width) if places else None

    @property
    def tokenizer(self) -> Any:
        """Of captions."""
        return self.clip.tokenizer

    def read(self, texts: Sequence[str]) -> Tensor:
        """Tokens of texts (B, N), as many as the longest has: behind it there is only padding."""
        tokens = self.tokenizer(texts)
        return tokens[:, : int((tokens != self.tokenizer.padding).sum(1).max())]

    def prefix(self, whole: Tensor, places: Tensor) -> Tensor:
        """The vectors (B, P, width) of CLIP's features of images (B, D) and of their places (B, N, C)."""
        unit = F.normalize(whole.float(), dim=1) * whole.shape[1] ** 0.5  # a component is about 1
        vectors = self.start(unit).unflatten(1, (-1, self.gpt.before.embedding_dim))
        return vectors if self.place is None else torch.cat([vectors, self.place(places.float())], dim=1)

    def see(self, images: Tensor) -> Tensor:
        """The vectors (B, P, width) of images (B, C, H, W)."""
        return self.prefix(*self.clip.image(images, None))

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        return self.gpt(tokens, prefix=self.see(images))
