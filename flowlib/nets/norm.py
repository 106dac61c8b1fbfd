"""Norms of images: by groups (Wu & He 2018), which says so where it would erase its input, and of each pixel."""

import torch.nn.functional as F
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """Each group of channels at mean 0 and variance 1, over all pixels: (B, channels, H, W) -> the same shape.

    A group of one value alone, one channel at one pixel, would become 0 whatever it was.

    Raises:
        ValueError: in calls, for such an x.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:].numel() <= self.num_groups:
            raise ValueError(
                f"x is too small: it has come down to {' x '.join(map(str, x.shape[2:]))} pixels of {x.shape[1]} "
                f"channels, where a norm in {self.num_groups} groups erases it; give larger images or more channels"
            )
        return super().forward(x)


class LayerNorm2d(nn.LayerNorm):
    """The channels of each pixel at mean 0 and variance 1: (B, channels, H, W) -> the same shape (as in SAM's code)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        last = x.movedim(1, -1)
        return F.layer_norm(last, self.normalized_shape, self.weight, self.bias, self.eps).movedim(-1, 1)
