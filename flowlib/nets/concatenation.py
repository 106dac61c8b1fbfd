"""Guides that are images: joined to the noised image as further channels (Saharia et al. 2022)."""

import torch
from torch import Tensor, nn

from flowlib.checks import check_count


class Concatenated(nn.Module):
    """net(x, t, y) with an image as its guide, made of a network without a guide that takes more channels.

    Args:
        net: takes and returns images of C + guide_channels channels, such as `UNet(C + guide_channels, classes=None)`.
            What it says of the guide's channels is left out.
        guide_channels: of the guide.

    Raises:
        ValueError: for a network with a guide of its own; in calls for a guide that is no such image.

    Example:
        >>> import torch
        >>> from flowlib.nets import Concatenated, UNet
        >>> net = Concatenated(UNet(3, (8, 16), classes=None), guide_channels=2)
        >>> x, t, guide = torch.randn(4, 1, 8, 8), torch.rand(4), torch.randn(4, 2, 8, 8)
        >>> net(x, t, guide).shape, net(x, t).equal(net(x, t, 0 * guide))  # the null guide is 0 everywhere
        (torch.Size([4, 1, 8, 8]), True)
    """

    null: Tensor

    def __init__(self, net: nn.Module, guide_channels: int) -> None:
        super().__init__()
        if getattr(net, "null", None) is not None:
            raise ValueError("net must be one without a guide (classes = None): its guide is the image")
        self.net = net
        shape = (check_count("guide_channels", guide_channels), 1, 1)
        self.register_buffer("null", torch.zeros(shape), persistent=False)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        if y is None:
            y = self.null.expand(len(x), -1, -1, -1)
        fits = y.ndim == 4 and len(y) == len(x) and y.shape[1] == len(self.null)
        if not y.is_floating_point() or not fits or y.shape[2:] not in (x.shape[2:], (1, 1)):
            expected = (len(x), len(self.null), *x.shape[2:])
            raise ValueError(f"y must be images {expected}, got {y.dtype} {tuple(y.shape)}")
        joined = torch.cat([x, y.to(x.dtype).expand(-1, -1, *x.shape[2:])], dim=1)
        return self.net(joined, t)[:, : x.shape[1]]
