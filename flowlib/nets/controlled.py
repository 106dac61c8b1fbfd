"""A network under the control of images: of one or several ControlNets, each with a strength."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from flowlib.checks import check_labels, check_number, check_tensor
from flowlib.known import made_of
from flowlib.nets.captioned import Captioned
from flowlib.nets.control import ControlNet, widths
from flowlib.nets.unet import UNet


class Controlled(nn.Module):
    """net(x, t, y) with an image for each of several ControlNets beside the network's own guide; only that is dropped.

    A guide is one row of numbers for each sample, which `guide` makes of the network's own guide and the images. What
    the ControlNets add is weighted by their strengths and summed. The null guide is the network's own, beside images of
    zeros; that of a guide is its own images under the null guide, so that classifier-free guidance exaggerates what the
    caption adds to the images, and both of its branches are controlled.

    Args:
        base: a U-Net, or one that reads captions, alone or beside an image; it is not changed.
        controls: made of this U-Net or one of its sizes.
        size: H and W of the images.
        strengths: a factor for what each adds, by default 1; at 0 the network is what it is without, to the bit.

    Raises:
        ValueError: for what does not fit, naming it.

    Example:
        >>> import torch
        >>> from flowlib.nets import ControlNet, UNet
        >>> unet = UNet(3, (8, 16), classes=10)
        >>> net = Controlled(unet, [ControlNet(unet, 1), ControlNet(unet, 2)], (16, 16), [0.8, 1.0])
        >>> y = net.guide(torch.tensor([4, 7]), [torch.ones(2, 1, 16, 16), torch.zeros(2, 2, 16, 16)])
        >>> tuple(y.shape), tuple(net(torch.randn(2, 3, 16, 16), torch.rand(2), y).shape)
        ((2, 769), (2, 3, 16, 16))
    """

    null: Tensor

    def __init__(
        self, base: nn.Module, controls: Sequence[ControlNet], size: tuple[int, int],
        strengths: Sequence[float] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        unet = base.net if isinstance(base, Captioned) else base
        if not isinstance(unet, UNet):
            raise ValueError(f"base must be a U-Net, or one that reads captions, got {type(base).__name__}")
        for control in controls:
            if (widths(control), control.patch, control.in_channels) != (widths(unet), unet.patch, unet.in_channels):
                raise ValueError("a ControlNet must be made of a U-Net of the sizes of the one that it controls")
        strengths = [1.0] * len(controls) if strengths is None else list(strengths)
        if len(strengths) != len(controls):
            raise ValueError(f"strengths must be {len(controls)}, one a ControlNet, got {len(strengths)}")
        self.base, self.controls, self.size = base, nn.ModuleList(controls), tuple(size)
        self.strengths = [check_number("strength", strength) for strength in strengths]
        own = torch.as_tensor([] if base.null is None else base.null).reshape(-1)
        self.shapes = [(control.channels, *self.size) for control in controls]
        self.places = list(accumulate((channels * size[0] * size[1] for channels, *_ in self.shapes), initial=len(own)))
        null = torch.zeros(self.places[-1])
        null[: len(own)] = own
        self.register_buffer("null", null, persistent=False)

    @property
    def unet(self) -> UNet:
        """The U-Net that is controlled."""
        return self.base.net if isinstance(self.base, Captioned) else self.base  # type: ignore[return-value]

    def guide(self, own: Tensor | None, images: Sequence[Tensor]) -> Tensor:
        """The guide of the network's own guides (B, ...), None for the null one, and images, each (B, C, H, W)."""
        if len(images) != len(self.shapes):
            raise ValueError(f"images must be {len(self.shapes)}, one a ControlNet, got {len(images)}")
        for image, shape in zip(images, self.shapes, strict=True):
            if check_tensor("an image that controls", image).shape != (len(images[0]), *shape):
                expected = (len(images[0]), *shape)
                raise ValueError(f"an image that controls must have shape {expected}, got {tuple(image.shape)}")
        count = len(images[0])
        null = self.null[: self.places[0]].expand(count, -1)
        rows = (null if own is None else own.reshape(len(own), -1)).to(images[0])
        return torch.cat([rows, *(image.flatten(1) for image in images)], dim=1)

    def null_like(self, y: Tensor) -> Tensor:
        """Guides like y with the network's null guide in the place of its own."""
        start: int = self.places[0]
        own: Any = getattr(self.base, "null_like", None)
        null = self.null[:start].to(y).expand(len(y), -1) if own is None else own(y[:, :start])
        return torch.cat([null, y[:, start:]], dim=1)

    def check_guide(self, y: Tensor, batch: int) -> None:
        """A ValueError unless y are guides as `guide` makes them."""
        if not y.is_floating_point() or y.shape != (batch, len(self.null)):
            expected = (batch, len(self.null))
            raise ValueError(f"y must be guides beside images {expected}, got {y.dtype} {tuple(y.shape)}")
        null: Any = self.base.null
        if isinstance(null, int):
            check_labels("y", self._own(y), batch, null, y.device)
        elif null is not None:
            self.base.check_guide(self._own(y), batch)  # type: ignore[operator]

    def _own(self, y: Tensor) -> Tensor:
        """The network's own guides: of captions and words (B, length), beside images (B, more), of labels (B,)."""
        null: Any = self.base.null
        if isinstance(null, int):
            return made_of(y, self, "own", lambda: y[:, 0].long())
        return made_of(y, self, "own", lambda: y[:, : self.places[0]].to(null.dtype))

    def _given(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """What the U-Net is given of the network's own guides."""
        if isinstance(self.base, Captioned):
            return self.base.given(x, self._own(y))
        if self.unet.words is not None:
            return {"context": self.unet.words(self._own(y), len(y))}
        return {"y": self._own(y) if self.places[0] else None}

    def _image(self, y: Tensor, which: int) -> Tensor:
        start, end = self.places[which : which + 2]
        return made_of(y, self, ("image", which), lambda: y[:, start:end].unflatten(1, self.shapes[which]))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        y = self.null.to(x).expand(len(x), -1) if y is None else y
        given, added = self._given(x, y), None
        heard = {name: value for name, value in given.items() if name != "beside"}  # the copies see no other image
        for which, strength in enumerate(self.strengths):
            if strength:
                parts = self.controls[which](x, t, self._image(y, which).to(x.dtype), **heard)
                parts = [strength * part for part in parts]
                added = parts if added is None else [a + b for a, b in zip(added, parts, strict=True)]
        return self.unet(x, t, **given, added=added)


OF_GUIDES = ("null", "null_like", "check_guide", "guide", "tokenizer", "shape")


class HeldControls(nn.Module):
    """A controlled network whose images are given once, for all samples: its guides are those of what it controls.

    Args:
        net: the controlled network.
        images: an image (C, H, W) for each of its ControlNets.

    Example:
        >>> import torch
        >>> from flowlib.nets import ControlNet, UNet
        >>> unet = UNet(3, (8, 16), classes=10)
        >>> net = HeldControls(Controlled(unet, [ControlNet(unet, 1)], (16, 16)), [torch.ones(1, 16, 16)])
        >>> tuple(net(torch.randn(2, 3, 16, 16), torch.rand(2), torch.tensor([4, 7])).shape)
        (2, 3, 16, 16)
    """

    def __init__(self, net: Controlled, images: Sequence[Tensor]) -> None:
        super().__init__()
        net.guide(None, [image[None] for image in images])  # which refuses images that do not fit
        self.net, self.images = net, list(images)

    def __getattr__(self, name: str) -> Any:
        """All that belongs to guides is that of what is controlled, if it has it."""
        return getattr(self.net.base, name) if name in OF_GUIDES else super().__getattr__(name)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        beside = [image.to(x).expand(len(x), -1, -1, -1) for image in self.images]
        guide = self.net.guide
        return self.net(x, t, guide(y, beside) if y is None else made_of(y, self, "beside", lambda: guide(y, beside)))
