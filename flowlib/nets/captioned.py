"""A network that is told what to draw by a text: GLIDE's text transformer beside a U-Net or a DiT.

The text's last feature is added to the embedding of time, where a label's would be, and all of its tokens' features are
joined to the keys and values of every attention layer (Nichol et al. 2022, section 2.1).
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.known import is_so, made_of
from flowlib.nets.dit import DiT
from flowlib.nets.tokenizer import Tokenizer
from flowlib.nets.transformer import TextTransformer
from flowlib.nets.unet import UNet


class Captioned(nn.Module):
    """net(x, t, y) with captions as its guide: y (B, length) tokens, of which the empty text's are the null guide.

    Args:
        net: a network with a `context_dim`, the text's width.
        text: reads the tokens; one that is not causal lets every token see the whole text.
        tokenizer: makes them of texts.
        dim: size of the network's condition vector.

    Raises:
        ValueError: in calls, for y that are no such tokens.
    """

    null: Tensor
    edges: ClassVar[tuple[str, ...]] = ("pooled",)

    def __init__(self, net: UNet | DiT, text: TextTransformer, tokenizer: Tokenizer, dim: int) -> None:
        super().__init__()
        self.net, self.text, self.tokenizer = net, text, tokenizer
        self.norm, self.pooled = nn.LayerNorm(text.width), nn.Linear(text.width, dim)
        self.register_buffer("null", tokenizer([""])[0], persistent=False)

    def check_guide(self, y: Tensor, batch: int) -> None:
        """A ValueError unless y are tokens (batch, length) with an end in each row."""
        if y.is_floating_point() or y.shape != (batch, self.tokenizer.length):
            raise ValueError(f"y must be tokens ({batch}, {self.tokenizer.length}), got {y.dtype} {tuple(y.shape)}")
        if not is_so(y, None, ("captions", self.tokenizer.end), lambda: bool((y == self.tokenizer.end).any(1).all())):
            raise ValueError(f"y must have the end token, {self.tokenizer.end}, in each row")

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        y = self.null.expand(len(x), -1) if y is None else y
        # In sampling, one text is read once for all steps.
        tokens = made_of(y, self, "tokens", lambda: self.text(y)[0])  # (B, length, width)
        ends = (y == self.tokenizer.end).int().argmax(1)
        last = self.norm(tokens[torch.arange(len(y), device=y.device), ends])
        return self.net(x, t, context=(tokens, y != self.tokenizer.padding), more=self.pooled(last))
