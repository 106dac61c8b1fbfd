"""From a text to the embedding of a picture: unCLIP's two priors (Ramesh et al. 2022, arXiv:2204.06125).

Both are causal transformers that read the text's tokens and its embedding by CLIP. One then reads the time and a noised
embedding, and says at a query token what the clean one is; the other goes on with how near picture and text are, and
writes the picture's embedding down as a row of codes.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count
from flowlib.nets.clip_embeddings import EmbeddingOrNone, check_embeddings
from flowlib.nets.embeddings import TimeEmbedding
from flowlib.nets.principal import PrincipalCodes
from flowlib.nets.transformer import Transformer, normal_embedding
from flowlib.nets.transformer_block import Cache, check_tokens


class Prior(nn.Module):
    """What both priors share: a guide of a text's tokens and its embedding, and a causal transformer that reads it.

    A guide is one row of numbers for each sample, as `guide(tokens, embedding)` makes it. The null guide has the tokens
    of the empty text, and zeros for an embedding.

    Args:
        vocabulary: tokens of texts.
        empty: those of the empty text, (length,), an end among them.
        padding: a token that nobody sees.
        dim: size of an embedding.
        more: places behind the text and its embedding.
        width, depth, heads: of the transformer.

    Attributes:
        mark: an embedding by which the CLIP is known whose embeddings it has learned, (dim,).

    Raises:
        ValueError: for a size that does not fit; in calls for a y that is no such guide.
    """

    null: Tensor
    mark: Tensor

    def __init__(
        self, vocabulary: int, empty: Tensor, padding: int, dim: int, more: int, width: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.length, self.padding, self.dim = len(empty), padding, check_count("dim", dim)
        self.token = normal_embedding("vocabulary", vocabulary, width, 0.02)
        self.place = normal_embedding("length", self.length + 1 + more, width, 0.01)
        self.said = EmbeddingOrNone(dim, width)
        self.transformer = Transformer(width, depth, heads, causal=True, gelu="tanh")
        self.norm = nn.LayerNorm(width)
        self.register_buffer("mark", torch.zeros(dim))
        self.register_buffer("null", self.guide(empty[None], torch.zeros(1, dim))[0], persistent=False)

    def guide(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        """The guide (B, length + dim) of tokens (B, length) and embeddings of texts (B, dim)."""
        if tokens.shape[1:] != (self.length,) or embedding.shape != (len(tokens), self.dim):
            got = f"{tuple(tokens.shape)}, {tuple(embedding.shape)}"
            raise ValueError(f"tokens must be (B, {self.length}) and embedding (B, {self.dim}), got {got}")
        return torch.cat([tokens.to(embedding), embedding], dim=1)

    def check_guide(self, y: Tensor, batch: int) -> None:
        """A ValueError unless y are guides as `guide` makes them."""
        wanted = (batch, self.length + self.dim)
        if not y.is_floating_point() or y.shape != wanted:
            raise ValueError(f"y must be texts' tokens and embeddings {wanted}, got {y.dtype} {tuple(y.shape)}")
        check_embeddings("y", self.embedding_of(y), y)

    def embedding_of(self, y: Tensor) -> Tensor:
        """The texts' embeddings (B, dim) in guides."""
        return y[:, self.length :]

    def read(self, y: Tensor, *more: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (B, N, width) of guides y, and of what follows, (B, width) each; and which of them count, (B, N)."""
        tokens = check_tokens(y[:, : self.length].long(), self.token.num_embeddings, self.length)
        tokens = tokens[:, : int((tokens != self.padding).sum(1).max())]  # behind the longest there is only padding
        behind = torch.stack([self.said(self.embedding_of(y)), *more], dim=1)
        places = self.place.weight[: tokens.shape[1]], self.place.weight[self.length : self.length + behind.shape[1]]
        x = torch.cat([self.token(tokens) + places[0], behind + places[1]], dim=1)
        return x, torch.cat([tokens != self.padding, tokens.new_ones(behind.shape[:2], dtype=torch.bool)], dim=1)


class DiffusionPrior(Prior):
    """net(x, t, y) -> the clean embedding, of noised ones x (B, dim) at times t, under texts y.

    The sequence is, in order: the text's tokens, its embedding, the time, the noised embedding, and a query whose
    output is what is predicted. `Model(net, path, "data")` makes a field of it, whose samples are embeddings times the
    root of their size: so that their components, like those of the noise, have a mean square of 1.

    Args:
        vocabulary, empty, padding, dim, width, depth, heads: as in `Prior`.

    Raises:
        ValueError: as `Prior`.

    Example:
        >>> net = DiffusionPrior(9, torch.tensor([6, 7, 8]), padding=8, dim=4, width=8, depth=1, heads=2)
        >>> y = net.guide(torch.tensor([[6, 2, 7], [6, 7, 8]]), torch.eye(4)[:2])
        >>> tuple(net(torch.randn(2, 4), torch.rand(2), y).shape)
        (2, 4)
    """

    edges: ClassVar[tuple[str, ...]] = ("token", "place", "image", "head")

    def __init__(
        self, vocabulary: int, empty: Tensor, padding: int, dim: int, width: int = 128, depth: int = 4, heads: int = 4
    ) -> None:
        super().__init__(vocabulary, empty, padding, dim, 3, width, depth, heads)
        self.time = TimeEmbedding(width)
        self.image = nn.Linear(dim, width)
        self.query = nn.Parameter(0.02 * torch.randn(width))
        self.head = nn.Linear(width, dim)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        y = self.null.expand(len(x), -1) if y is None else y
        rows, mask = self.read(y, self.time(t), self.image(x), self.query.expand(len(x), -1))
        return self.head(self.norm(self.transformer(rows, mask)[:, -1]))


class AutoregressivePrior(Prior):
    """Logits of each code of a picture's embedding, after those before it, under texts y: (B, components, buckets).

    The sequence is the text's tokens, its embedding, how near picture and text are, and the codes, of principal
    components with the largest first. Nearness is the product of both embeddings, cut at its quantiles into `levels`
    equally frequent levels; one more level says nothing of it.

    Args:
        vocabulary, empty, padding, dim, width, depth, heads: as in `Prior`.
        components, buckets: of `PrincipalCodes`.
        levels: of nearness, an even number.

    Raises:
        ValueError: as `Prior`.
    """

    edges: ClassVar[tuple[str, ...]] = ("token", "place", "code", "near", "head")
    cuts: Tensor

    def __init__(
        self, vocabulary: int, empty: Tensor, padding: int, dim: int, components: int, buckets: int, levels: int = 16,
        width: int = 128, depth: int = 4, heads: int = 4,
    ) -> None:  # fmt: skip
        super().__init__(vocabulary, empty, padding, dim, components, width, depth, heads)
        if check_count("levels", levels, 2) % 2:
            raise ValueError(f"levels must be even, so that half of them are the upper half; got {levels}")
        self.levels = levels
        self.codes = PrincipalCodes(dim, components, buckets)
        self.code = normal_embedding("buckets", buckets, width, 0.02)
        self.near = normal_embedding("levels", levels + 1, width, 0.02)
        self.head = nn.Linear(width, buckets)
        self.register_buffer("cuts", torch.linspace(-1, 1, levels + 1)[1:-1].clone())

    def learn(self, images: Tensor, texts: Tensor) -> None:
        """Take the components from the embeddings of pictures (N, dim), and the levels from those of their texts."""
        self.codes.learn(images)
        share = torch.arange(1, self.levels, device=images.device) / self.levels
        self.cuts.copy_((images * texts).sum(1).quantile(share.to(images)))

    def level(self, image: Tensor, text: Tensor) -> Tensor:
        """How near embeddings (B, dim) of pictures and texts are: (B,) in 0 ... levels - 1."""
        return torch.bucketize((image * text).sum(1), self.cuts, right=True)

    def prefix(self, y: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """What stands before the codes, of guides and levels (B,), the last for none; and which of it counts."""
        return self.read(y, self.near(level))

    def written(self, codes: Tensor, past: int = 0) -> Tensor:
        """Vectors (B, N, width) of codes (B, N) that come after `past` others."""
        first = self.length + 2 + past
        return self.code(codes) + self.place.weight[first : first + codes.shape[1]]

    def logits(self, x: Tensor, mask: Tensor, cache: Cache | None = None) -> Tensor:
        """Logits (B, N, buckets) of what follows each of the vectors x (B, N, width); mask as in `Transformer`."""
        return self.head(self.norm(self.transformer(x, mask, cache))).float()

    def forward(self, y: Tensor, level: Tensor, codes: Tensor) -> Tensor:
        """Of guides y, levels (B,) in 0 ... levels, the last for none, and all codes (B, components)."""
        before, mask = self.prefix(y, level)
        x = torch.cat([before, self.written(codes[:, :-1])], dim=1)
        mask = torch.cat([mask, mask.new_ones(len(y), codes.shape[1] - 1)], dim=1)
        return self.logits(x, mask)[:, -codes.shape[1] :]
