"""A network that is told what to draw by a text, or by a text and an image: GLIDE's.

The text's last feature is added to the embedding of time, where a label's would be, and all of its tokens' features are
joined to the keys and values of every attention layer (Nichol et al. 2022). Each token is also read with its
neighbours, by a convolution, which GLIDE does without: here it is what makes digits be learned in minutes, and each
where it belongs (`benchmarks/painters.py networks`). An image, such as the known part of the one that is drawn, is laid
beside the noised one.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count, check_odd, check_tensor
from flowlib.known import is_so, made_of
from flowlib.nets.blocks import Context
from flowlib.nets.dit import DiT
from flowlib.nets.tokenizer import Tokenizer
from flowlib.nets.transformer import TextTransformer
from flowlib.nets.unet import UNet


class Phrases(nn.Module):
    """Tokens (B, N) -> (B, N, width): each with its neighbours, by a convolution over the vectors of words.

    Attention has to learn that a colour and the digit behind it belong together; here they meet in one linear map. So
    et al. (2021, Primer, arXiv:2109.08668) put convolutions of tokens into attention.

    Args:
        vocabulary: tokens 0 ... vocabulary - 1.
        width: size of a vector.
        reach: tokens that are read at a time, an odd number: as many before as behind.
        padding: a token that counts for nothing.

    Raises:
        ValueError: for a size that does not fit.

    Example:
        >>> import torch
        >>> phrases = Phrases(vocabulary=9, width=8, reach=3, padding=0)
        >>> tuple(phrases(torch.tensor([[4, 2, 7, 0]])).shape)
        (1, 4, 8)
    """

    edges: ClassVar[tuple[str, ...]] = ("word",)  # what Muon leaves to AdamW

    def __init__(self, vocabulary: int, width: int, reach: int, padding: int) -> None:
        super().__init__()
        check_odd("reach", reach)
        self.word = nn.Embedding(check_count("vocabulary", vocabulary), check_count("width", width))
        self.mix = nn.Conv1d(width, width, reach, padding=reach // 2)
        self.padding = padding

    def forward(self, y: Tensor) -> Tensor:
        words = self.word(y) * (y != self.padding)[..., None]
        return self.mix(words.transpose(1, 2)).transpose(1, 2)


class Captioned(nn.Module):
    """net(x, t, y) with captions as its guide: y (B, length) tokens, of which the empty text's are the null guide.

    Args:
        net: a network with a `context_dim`, the text's width.
        text: reads the tokens; one that is not causal lets every token see the whole text.
        tokenizer: makes them of texts.
        dim: size of the network's condition vector.
        reach: neighbouring tokens that are read together, an odd number, and added to the text's features; 0 for none.

    Raises:
        ValueError: in calls, for y that are no such tokens.
    """

    null: Tensor
    edges: ClassVar[tuple[str, ...]] = ("pooled",)

    def __init__(self, net: UNet | DiT, text: TextTransformer, tokenizer: Tokenizer, dim: int, reach: int = 5) -> None:
        super().__init__()
        self.net, self.text, self.tokenizer = net, text, tokenizer
        self.norm, self.pooled = nn.LayerNorm(text.width), nn.Linear(text.width, dim)
        self.phrases = Phrases(tokenizer.vocabulary, text.width, reach, tokenizer.padding) if reach else None
        self.register_buffer("null", tokenizer([""])[0], persistent=False)

    def check_guide(self, y: Tensor, batch: int) -> None:
        """A ValueError unless y are tokens (batch, length) with an end in each row."""
        if y.is_floating_point() or y.shape != (batch, self.tokenizer.length):
            raise ValueError(f"y must be tokens ({batch}, {self.tokenizer.length}), got {y.dtype} {tuple(y.shape)}")
        if not is_so(y, None, ("captions", self.tokenizer.end), lambda: bool((y == self.tokenizer.end).any(1).all())):
            raise ValueError(f"y must have the end token, {self.tokenizer.end}, in each row")

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.net(x, t, **self.given(x, self.null.expand(len(x), -1) if y is None else y))

    def given(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """What the network is given beside x and t under guides y, by the names of `UNet.forward`."""
        context, more = self.heard(y)
        return {"context": context, "more": more}

    def read(self, y: Tensor) -> Tensor:
        """The features of a text's tokens y (B, length): (B, length, width)."""
        tokens = self.text(y)[0]
        return tokens if self.phrases is None else tokens + self.phrases(y)

    def heard(
        self, y: Tensor, more: Tensor | None = None, behind: Context | None = None
    ) -> tuple[Context, Tensor]:  # fmt: skip
        """What the network is given of texts: `context` and `more`, as in `UNet.forward`.

        Args:
            y: the texts' tokens (B, length).
            more: (B, dim), added to the embedding of time like the text's feature.
            behind: tokens (B, M, width) behind those of the text, and which of them count (B, M).
        """
        # In sampling, one text is read once for all steps.
        tokens = made_of(y, self, "tokens", lambda: self.read(y))  # (B, length, width)
        ends = (y == self.tokenizer.end).int().argmax(1)
        # A `len` would be a number in a graph that is exported, for one size of batch.
        last = self.norm(tokens[torch.arange(y.shape[0], device=y.device), ends])
        context, pooled = (tokens, y != self.tokenizer.padding), self.pooled(last)
        if behind is not None:
            context = torch.cat([tokens, behind[0]], dim=1), torch.cat([context[1], behind[1]], dim=1)
        return context, pooled if more is None else pooled + more


class CaptionedBeside(Captioned):
    """net(x, t, y) with a caption and an image as its guide, of which only the caption is ever dropped.

    A guide is one row of numbers for each sample, so that whatever sorts, repeats or mixes guides need not know of
    images: `guide(tokens, image)` makes it. The null guide is the empty caption beside an image of zeros; that of a
    given guide keeps its image (`null_like`), as classifier-free guidance wants it.

    Args:
        net, text, tokenizer, dim, reach: as in `Captioned`; the network has room for an image `beside`.
        shape: of the image, (C, H, W). One of another size than x is scaled to it, bilinearly.

    Raises:
        ValueError: in calls, for a y of another shape, or that holds no tokens.

    Example:
        >>> import torch
        >>> from flowlib.nets import TextTransformer, UNet
        >>> from flowlib.nets.captioned import CaptionedBeside
        >>> from flowlib.nets.tokenizer import Tokenizer
        >>> words = Tokenizer(259, 24)
        >>> text = TextTransformer(259, 24, words.end, words.padding, width=16, depth=1, heads=2, causal=False)
        >>> unet = UNet(3, (8, 16), classes=None, attention=(1,), context_dim=16, beside=3)
        >>> net = CaptionedBeside(unet, text, words, unet.condition_dim, (3, 8, 8))
        >>> y = net.guide(words(["a red seven", "a two"]), torch.zeros(2, 3, 8, 8))
        >>> tuple(y.shape), tuple(net(torch.randn(2, 3, 16, 16), torch.rand(2), y).shape)
        ((2, 216), (2, 3, 16, 16))
    """

    def __init__(
        self, net: UNet | DiT, text: TextTransformer, tokenizer: Tokenizer, dim: int, shape: tuple[int, ...],
        reach: int = 5,
    ) -> None:  # fmt: skip
        super().__init__(net, text, tokenizer, dim, reach)
        self.shape = tuple(shape)
        self.null = self.guide(self.null[None], torch.zeros(1, *shape))[0]

    def guide(self, tokens: Tensor, image: Tensor) -> Tensor:
        """The guide (B, length + C H W) of tokens (B, length) and images (B, C, H, W), float."""
        check_tensor("image", image)
        if image.shape != (len(tokens), *self.shape):
            raise ValueError(f"image must have shape {(len(tokens), *self.shape)}, got {tuple(image.shape)}")
        return torch.cat([tokens.to(image), image.flatten(1)], dim=1)

    def null_like(self, y: Tensor) -> Tensor:
        """Guides like y with the empty caption in place of theirs."""
        length = self.tokenizer.length
        return torch.cat([self.null[:length].to(y).expand(len(y), -1), y[:, length:]], dim=1)

    def check_guide(self, y: Tensor, batch: int) -> None:
        """A ValueError unless y are guides as `guide` makes them."""
        if not y.is_floating_point() or y.shape != (batch, *self.null.shape):
            expected = (batch, *self.null.shape)
            raise ValueError(f"y must be captions beside images {expected}, got {y.dtype} {tuple(y.shape)}")
        super().check_guide(self._tokens(y), batch)

    def _tokens(self, y: Tensor) -> Tensor:
        return made_of(y, self, "captions", lambda: y[:, : self.tokenizer.length].long())

    def given(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        image = y[:, self.tokenizer.length :].to(x.dtype).unflatten(1, self.shape)
        if image.shape[2:] != x.shape[2:]:
            image = F.interpolate(image, x.shape[2:], mode="bilinear", align_corners=False)
        return super().given(x, self._tokens(y)) | {"beside": image}
