"""ControlNet: a trained U-Net is locked, and a copy of its encoders and midcoder learns to follow an image.

What the copy adds to the skip connections and to the midcoder goes through convolutions that start at zero, and so does
what the image adds to the copy: at first nothing is added, and no noise of untrained layers harms what the network
knows (Zhang et al. 2023, arXiv:2302.05543, equations 2 to 4). Such a convolution learns all the same: the gradient of
its weights is its input times the gradient of its output, which is not zero.

What is added, and where, is what diffusers' ControlNet and U-Net add by the same layers (tests/peers). The layers are
other ones: our U-Net has one skip connection a level, theirs one behind each block, each change of size and the stem.
The small network folds the image's pixels as the stem does, then has three convolutions and a zero one of 1 x 1 pixels;
theirs has eight of 3 x 3, of which three halve the image and the last is zero.
"""

import copy
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count
from flowlib.known import made_of
from flowlib.nets.blocks import AttentionBlock, Context, CrossAttentionBlock, ResidualBlock
from flowlib.nets.embeddings import zero_init
from flowlib.nets.unet import UNet, encoded


class ControlNet(nn.Module):
    """control(x, t, image) -> what is added to a U-Net's skip connections, the largest first, and to its midcoder.

    Args:
        net: a trained U-Net, of which it keeps copies: of the embedding of time and label, the stem, the encoders and
            the midcoder. The U-Net itself is not kept, and stays as it is.
        channels: of the image that is followed.
        width: channels of the small network that reads that image.

    Attributes:
        unlocked: the network that it controls, where that is trained with it; None where it is locked, as it should be.

    Raises:
        ValueError: for something else than a U-Net, or a size that does not fit; in calls, for an image whose shape is
            not that of x but for the channels.

    Example:
        >>> import torch
        >>> from flowlib.nets import UNet
        >>> unet = UNet(3, (8, 16), classes=10)
        >>> control = ControlNet(unet, channels=1)
        >>> x, t, y = torch.randn(2, 3, 16, 16), torch.rand(2), torch.tensor([4, 7])
        >>> added = control(x, t, torch.ones(2, 1, 16, 16), y)
        >>> [tuple(part.shape) for part in added]
        [(2, 8, 8, 8), (2, 16, 4, 4), (2, 16, 4, 4)]
        >>> torch.equal(unet(x, t, y, added=added), unet(x, t, y))
        True
    """

    edges: ClassVar[tuple[str, ...]] = ("stem", "hint", "zeros")  # what Muon leaves to AdamW

    def __init__(self, net: UNet, channels: int, width: int = 32) -> None:
        super().__init__()
        if not isinstance(net, UNet):
            raise ValueError(f"net must be a UNet, got {type(net).__name__}")
        self.channels, self.patch, self.in_channels = check_count("channels", channels), net.patch, net.in_channels
        self.unlocked: nn.Module | None = None
        check_count("width", width)
        for name in COPIED:
            setattr(self, name, copy.deepcopy(getattr(net, name)).requires_grad_(True))
        layers: list[nn.Module] = [nn.PixelUnshuffle(net.patch)]
        for before in (channels * net.patch**2, width, width):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.SiLU()]
        self.hint = nn.Sequential(*layers, zero_init(nn.Conv2d(width, net.stem.out_channels, 1)))
        self.zeros = nn.ModuleList(zero_init(nn.Conv2d(wide, wide, 1)) for wide in widths(net))

    def forward(
        self, x: Tensor, t: Tensor, image: Tensor, y: Tensor | None = None, context: Context | None = None,
        more: Tensor | None = None,
    ) -> list[Tensor]:  # fmt: skip
        """What `UNet.forward` takes as `added`.

        Args:
            x, t, y, context, more: what the U-Net is given; of a guide of words, its embedding as the context.
            image: (B, channels, H, W), to be followed.
        """
        if image.shape != (len(x), self.channels, *x.shape[2:]):
            expected = (len(x), self.channels, *x.shape[2:])
            raise ValueError(f"the image that controls must have shape {expected}, got {tuple(image.shape)}")
        condition: Tensor = self.condition(t, y)  # type: ignore[operator]
        condition = F.silu(condition if more is None else condition + more)
        # In sampling, one image is read once for all steps.
        hint = made_of(image, self, "hint", lambda: self.hint(image))
        h = self.stem(F.pixel_unshuffle(x, self.patch)) + hint  # type: ignore[operator]
        parts = encoded(self, h, condition, context)
        return [zero(part) for zero, part in zip(self.zeros, parts, strict=True)]

    def lock_copies(self) -> None:
        """Leave only the small network and the zero convolutions to train, and the copies as they are."""
        for name in COPIED:
            getattr(self, name).requires_grad_(False)

    def draw_anew(self) -> None:
        """Give the copies first weights of their own, by torch's generator: the control of what the copying is for."""
        for name in COPIED:
            for part in getattr(self, name).modules():
                if hasattr(part, "reset_parameters"):
                    part.reset_parameters()
        for part in self.modules():  # what starts at zero in an untrained U-Net does so here
            if isinstance(part, ResidualBlock):
                zero_init(part.modulation)
                zero_init(part.conv2)
            elif isinstance(part, AttentionBlock | CrossAttentionBlock):
                zero_init(part.attention.out)


COPIED = ("condition", "stem", "encoders", "downs", "midcoder")


def widths(net: UNet | ControlNet) -> list[int]:
    """Channels of what `encoded` gives."""
    stages: list[Any] = [*net.encoders, net.midcoder]  # type: ignore[misc]
    return [stage.width for stage in stages]
