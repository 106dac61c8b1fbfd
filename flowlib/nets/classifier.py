"""A classifier of noised images: log p_t(y|x), whose gradient in x guides a field (Dhariwal & Nichol 2021, section 4).

Half a U-Net: encoders that halve the image and widen the channels, an average over what is left of it, and a linear
layer. It has to see noise of every level, and is told which: early on it can only guess, and must say so.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count, check_image_shape, check_labels
from flowlib.nets.blocks import Stage, check_widths
from flowlib.nets.embeddings import TimeEmbedding, zero_init
from flowlib.nets.norm import GroupNorm


class TimeClassifier(nn.Module):
    """classifier(x, t): noised images (B, in_channels, H, W) of any size, times (B,) -> logits (B, classes).

    Args:
        in_channels: image channels.
        channels: width of each level, multiples of 8; the first works at half the image's size, each next one at half
            of that.
        classes: number of labels.
        depth: residual blocks a level.
        dim: size of the condition vector.

    Raises:
        ValueError: for a size that does not fit, naming it.

    Example:
        >>> import torch
        >>> from flowlib.nets import TimeClassifier
        >>> classifier, x = TimeClassifier(channels=(8, 16), classes=10), torch.randn(2, 1, 8, 8)
        >>> t, y = torch.tensor([0.1, 0.9]), torch.tensor([3, 10])
        >>> classifier.log_prob(x, t, y).detach()  # untrained it is -log 10; of the null guide it is 0
        tensor([-2.3026,  0.0000])
    """

    edges: ClassVar[tuple[str, ...]] = ("downs.0", "head")

    def __init__(
        self,
        in_channels: int = 1,
        channels: Sequence[int] = (32, 64, 128),
        classes: int = 10,
        depth: int = 1,
        dim: int = 128,
    ) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("classes", classes), ("depth", depth), ("dim", dim)):
            check_count(name, value)
        check_widths(channels)
        self.in_channels, self.classes = in_channels, classes
        self.time = TimeEmbedding(dim)
        self.downs, self.encoders = nn.ModuleList(), nn.ModuleList()
        for before, after in zip([in_channels, *channels[:-1]], channels, strict=True):
            self.downs.append(nn.Conv2d(before, after, 3, stride=2, padding=1))
            self.encoders.append(Stage([after] * (depth + 1), dim, heads=0))
        self.norm = GroupNorm(8, channels[-1])
        self.head = zero_init(nn.Linear(channels[-1], classes))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        check_image_shape("x", x, self.in_channels)
        condition = F.silu(self.time(t))  # (B, dim)
        h = x
        for down, encoder in zip(self.downs, self.encoders, strict=True):
            h = encoder(down(h), condition)  # (B, channels[level], H / 2^(level + 1), W / 2^(level + 1)), rounded up
        return self.head(F.silu(self.norm(h)).mean((2, 3)))

    def log_prob(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        """log p_t(y|x) in nats, for `EnergyGuidance(field, classifier.log_prob)`.

        Args:
            x: (B, in_channels, H, W) noised images.
            t: (B,) in [0, 1].
            y: (B,) labels 0 ... classes - 1, or `classes`, the null guide: it says nothing, so its probability is 1.

        Returns:
            (B,), differentiable in x.

        Raises:
            ValueError: without labels, or for labels that do not fit.
        """
        if y is None:
            raise ValueError("y must be given: a classifier guides towards a label")
        check_labels("y", y, len(x), self.classes, x.device)
        log_probs = F.pad(F.log_softmax(self(x, t).to(x.dtype), dim=1), (0, 1))  # (B, classes + 1)
        return log_probs.gather(1, y[:, None].long())[:, 0]
