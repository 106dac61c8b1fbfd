"""A patch for each token: what a token stands for where nothing but its own patch is looked at."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count


class Centres(nn.Module):
    """Logits of tokens by the distance of a patch to each token's centre, and of each token a patch that is made.

    Alone it is a vector quantiser: the most probable token is that of the nearest centre. Its centres and what is made
    of them are weights as all others.

    Args:
        tokens: K.
        size: numbers of a patch.
        made: numbers of what is made of one.

    Raises:
        ValueError: for a size that is no positive integer.

    Example:
        >>> centres = Centres(tokens=2, size=1, made=1)
        >>> _ = centres.centre.data.copy_(torch.tensor([[-1.0], [1.0]]))
        >>> centres.logits(torch.tensor([0.5, 0.0]).reshape(2, 1, 1, 1)).diff(dim=1).flatten().tolist()
        [2.0, 0.0]
    """

    edges: ClassVar[tuple[str, ...]] = ("centre", "table")  # as a codebook

    def __init__(self, tokens: int, size: int, made: int) -> None:
        super().__init__()
        sizes = check_count("tokens", tokens), check_count("size", size), check_count("made", made)
        self.centre = nn.Parameter(torch.randn(sizes[0], sizes[1]))
        self.log_sharpness = nn.Parameter(torch.zeros(()))
        self.table = nn.Parameter(torch.zeros(sizes[0], sizes[2]))

    def logits(self, patches: Tensor) -> Tensor:
        """-sharpness |patch - centre|^2, but for |patch|^2, which all tokens share: (B, size, h, w) -> (B, K, h, w).

        In full precision always: centres lie close together, and of large numbers their differences count.
        """
        with torch.autocast(patches.device.type, enabled=False):
            patches, centre = patches.to(self.centre), self.centre
            products = torch.einsum("bchw,kc->bkhw", patches, centre)
            return self.log_sharpness.exp() * (2 * products - centre.square().sum(1)[:, None, None])

    def decode(self, code: Tensor) -> Tensor:
        """Weights over the tokens (B, K, h, w) -> (B, made, h, w)."""
        return torch.einsum("bkhw,kc->bchw", code, self.table.to(code.dtype))
