"""Transformers: blocks of attention and a two-layer network, one after the other (Vaswani et al. 2017, section 3.1).

A causal transformer lets no token see a later one. So one pass gives the next token's law at every place, and what was
computed of earlier tokens can be kept while a text is written.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count
from flowlib.known import is_so
from flowlib.nets.transformer_block import Cache, TransformerBlock, check_tokens, visible


class Transformer(nn.Module):
    """A stack of blocks: tokens (B, N, width) -> tokens (B, N, width), without a norm at its end.

    Args:
        width: size of a token, a multiple of `heads`.
        depth: blocks.
        heads: attention heads.
        causal: whether a token sees none that comes later.
        expand: how many times wider than a token the hidden layer of a block is.
        gelu: "exact", "tanh" or "quick", the approximation of CLIP.
        pattern: which token may see which, true or false, (length, length) for all blocks or one for each; row i is
            for token i. Causal, it must also come earlier. A token sees itself in any case.

    Raises:
        ValueError: for a size, name or pattern that does not fit; in calls for more tokens than the pattern has, a
            cache without `causal`, or one of another depth.

    Example:
        >>> net = Transformer(width=8, depth=2, heads=2, causal=True)
        >>> x, cache = torch.randn(1, 3, 8), Cache(depth=2)
        >>> steps = [net(x[:, i : i + 1], cache=cache) for i in range(3)]
        >>> torch.allclose(torch.cat(steps, dim=1), net(x), atol=1e-5)
        True
    """

    patterns: Tensor | None

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        causal: bool = False,
        expand: int = 4,
        gelu: str = "exact",
        pattern: Tensor | Sequence[Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.width, self.depth, self.causal = width, check_count("depth", depth), causal
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, expand, gelu, depth) for _ in range(depth))
        self.register_buffer("patterns", None if pattern is None else self._stack(pattern), persistent=False)

    def _stack(self, pattern: Tensor | Sequence[Tensor]) -> Tensor:
        """(1 or depth, length, length), true or false."""
        patterns = [pattern] if isinstance(pattern, Tensor) else list(pattern)
        shapes = {(one.dtype, tuple(one.shape)) for one in patterns}
        if len(patterns) not in (1, self.depth) or shapes != {(torch.bool, (len(patterns[0]),) * 2)}:
            raise ValueError(f"pattern must be (N, N), true or false, one or {self.depth}; got {list(shapes)}")
        return torch.stack(patterns)

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Args: x (B, N, width); mask, true where a token counts, (B, N), or with those in the cache (B, M + N)."""
        if cache is not None and not self.causal:
            raise ValueError("cache must be None unless the transformer is causal: earlier tokens would see later ones")
        if cache is not None and len(cache.layers) != self.depth:
            raise ValueError(f"cache must be of depth {self.depth}, got {len(cache.layers)}")
        past = 0 if cache is None else len(cache)
        seen = visible(past, x.shape[1], self.causal, self.patterns, mask, x.device)
        for i, block in enumerate(self.blocks):
            layer = None if cache is None else cache.layers[i]
            x = block(x, None if seen is None else seen[i % len(seen)], layer)
        return x


def normal_embedding(name: str, count: int, width: int, std: float) -> nn.Embedding:
    """A vector for each of `count` tokens or places, normal; `name` is what a ValueError calls the count."""
    table = nn.Embedding(check_count(name, count), check_count("width", width))
    nn.init.normal_(table.weight, std=std)
    return table


class GPT(nn.Module):
    """Logits of the next token at each place: tokens (B, N) -> (B, N, vocabulary), N <= length (Radford et al. 2019).

    Args:
        vocabulary: tokens 0 ... vocabulary - 1.
        length: places.
        width, depth, heads, expand, gelu, pattern: as in `Transformer`, which is causal.

    Raises:
        ValueError: for a size that does not fit; in calls for tokens of another shape, dtype or range.

    Example:
        >>> gpt, cache = GPT(vocabulary=9, length=6, width=8, depth=2, heads=2), Cache(depth=2)
        >>> row = [3]
        >>> while len(row) < 6:
        ...     row.append(int(gpt(torch.tensor([row[-1:]]), cache)[0, -1].argmax()))
    """

    edges: ClassVar[tuple[str, ...]] = ("token", "place", "head")  # what Muon leaves to AdamW

    def __init__(
        self,
        vocabulary: int,
        length: int,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        expand: int = 4,
        gelu: str = "tanh",
        pattern: Tensor | Sequence[Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.token = normal_embedding("vocabulary", vocabulary, width, 0.02)
        self.place = normal_embedding("length", length, width, 0.01)
        self.transformer = Transformer(width, depth, heads, True, expand, gelu, pattern)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)

    def embed(self, tokens: Tensor, past: int = 0) -> Tensor:
        """Tokens (B, N) after `past` others -> vectors (B, N, width), each with its place."""
        tokens = check_tokens(tokens, self.token.num_embeddings, self.place.num_embeddings - past)
        return self.token(tokens) + self.place.weight[past : past + tokens.shape[1]]

    def logits(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Vectors (B, N, width), of tokens or of anything to go on from -> logits (B, N, vocabulary)."""
        return self.head(self.norm(self.transformer(x, cache=cache)))

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """With a cache, the tokens (B, N) are those that come after what is in it, and are appended to it."""
        return self.logits(self.embed(tokens, 0 if cache is None else len(cache)), cache)


class TextTransformer(nn.Module):
    """Texts as features: tokens (B, N) -> of every token (B, N, width), and of the text (B, width).

    The text's feature is that of its end token, the first one. A causal transformer reads it last, so it has seen the
    whole text (CLIP: Radford et al. 2021, section 2.4); one that is not sees all from everywhere (GLIDE: Nichol et al.
    2022).

    Args:
        vocabulary: tokens 0 ... vocabulary - 1.
        length: places.
        end: the token that ends each text.
        padding: a token that nobody sees; None if all count, as in the published networks.
        width, depth, heads, causal, expand, gelu: as in `Transformer`.

    Raises:
        ValueError: for a size that does not fit; in calls for tokens of another shape, dtype or range, or a text
            without an end.

    Example:
        >>> import torch
        >>> from flowlib.nets import TextTransformer
        >>> net, texts = TextTransformer(9, 5, end=8, width=8, depth=1, heads=2), torch.tensor([[3, 8, 0], [3, 8, 7]])
        >>> every, text = net(texts)
        >>> every.shape, text[0].allclose(text[1], atol=1e-6)  # what comes behind the end is not seen
        (torch.Size([2, 3, 8]), True)
    """

    edges: ClassVar[tuple[str, ...]] = ("token", "place")

    def __init__(
        self,
        vocabulary: int,
        length: int,
        end: int,
        padding: int | None = None,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        causal: bool = True,
        expand: int = 4,
        gelu: str = "exact",
    ) -> None:
        super().__init__()
        self.token = normal_embedding("vocabulary", vocabulary, width, 0.02)
        self.place = normal_embedding("length", length, width, 0.01)
        self.width, self.end, self.padding = width, check_count("end", end, 0), padding
        self.transformer = Transformer(width, depth, heads, causal, expand, gelu)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        tokens = check_tokens(tokens, self.token.num_embeddings, self.place.num_embeddings)
        ends = tokens == self.end
        if not is_so(tokens, None, ("ends", self.end), lambda: bool(ends.any(1).all())):
            raise ValueError(f"tokens must have the end token, {self.end}, in each row")
        x = self.token(tokens) + self.place.weight[: tokens.shape[1]]
        mask = None if self.padding is None else tokens != self.padding
        x = self.norm(self.transformer(x, mask))  # (B, N, width)
        return x, x[torch.arange(x.shape[0], device=x.device), ends.int().argmax(1)]
