"""The vision transformer: an image as a sequence of patches (Dosovitskiy et al. 2021), with the norms of CLIP.

It reads images, where a `DiT` makes them: its output is one vector for the image, and one for each patch.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_choice, check_count, check_image_size
from flowlib.known import is_so
from flowlib.nets.embeddings import TimeShift, add_time
from flowlib.nets.transformer import Transformer


class ViT(nn.Module):
    """Images (B, in_channels, S, S) -> a feature of each (B, out_dim), and of their N patches (B, N, width).

    S is `image_size`, N = (S / patch)^2, the patches row by row. The patches' features have passed the last norm, and
    not the projection.

    Args:
        in_channels: image channels.
        image_size: pixels a side.
        patch: pixels a side of a patch, a divisor of `image_size`.
        width: size of a token, a multiple of `heads`.
        depth: blocks.
        heads: attention heads.
        pool: what the image's feature is made of: "class", a token of its own, or "mean", that of all patches.
        out_dim: size of the image's feature, by a projection without bias; None for `width` without one.
        expand: how many times wider than a token the hidden layer of a block is.
        gelu: of `Transformer`; "quick" is CLIP's.
        timed: whether it reads noised images, and takes their times.

    The first norm stands before the blocks (`ln_pre` of CLIP), the second behind them (`ln_post`).

    Raises:
        ValueError: for a size or name that does not fit; in calls for images of another shape, patches that are none,
            or times that are not wanted.

    Example:
        >>> vit = ViT(image_size=16, patch=4, width=32, depth=2, heads=2, out_dim=8)
        >>> image, patches = vit(torch.randn(5, 3, 16, 16))
        >>> image.shape, patches.shape
        (torch.Size([5, 8]), torch.Size([5, 16, 32]))
        >>> vit(torch.randn(5, 3, 16, 16), keep=torch.tensor([[0, 3, 9]] * 5))[1].shape
        torch.Size([5, 3, 32])
    """

    edges: ClassVar[tuple[str, ...]] = ("stem", "class_token", "places", "head")  # what Muon leaves to AdamW

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int = 32,
        patch: int = 4,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        pool: str = "class",
        out_dim: int | None = None,
        expand: int = 4,
        gelu: str = "quick",
        timed: bool = False,
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "image_size": image_size, "patch": patch, "width": width}
        for name, value in sizes.items():
            check_count(name, value)
        if image_size % patch:
            raise ValueError(f"image_size must be a multiple of patch = {patch}, got {image_size}")
        self.in_channels, self.image_size, self.width = in_channels, image_size, width
        self.patches = (image_size // patch) ** 2
        self.out_dim = width if out_dim is None else check_count("out_dim", out_dim)
        self.stem = nn.Conv2d(in_channels, width, patch, stride=patch, bias=False)
        own = check_choice("pool", pool, ("class", "mean")) == "class"
        self.class_token = nn.Parameter(width**-0.5 * torch.randn(width)) if own else None
        self.places = nn.Parameter(width**-0.5 * torch.randn(self.patches + own, width))  # the class token's first
        self.time = TimeShift(width) if timed else None
        self.norm_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, depth, heads, expand=expand, gelu=gelu)
        self.norm_post = nn.LayerNorm(width)
        self.head = None if out_dim is None else nn.Linear(width, out_dim, bias=False)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=width**-0.5)

    def forward(self, x: Tensor, t: Tensor | None = None, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The image's feature and the patches'.

        Args:
            x: images (B, in_channels, S, S).
            t: times (B,) in [0, 1] of noised images; None for clean ones, which are those of t = 1.
            keep: the patches that are looked at (B, K), 0 ... N - 1; None for all. The second output is then (B, K,
                width), in their order, and the others cost nothing.
        """
        check_image_size("x", x, self.in_channels, self.image_size)
        h = self.stem(x).flatten(2).transpose(1, 2)  # (B, N, width)
        own = 0 if self.class_token is None else 1
        h = h + self.places[own:]
        if keep is not None:
            h = h.gather(1, self._kept(keep, len(x))[:, :, None].expand(-1, -1, self.width))  # (B, K, width)
        if self.class_token is not None:
            first = self.class_token + self.places[0]
            h = torch.cat([first.expand(len(x), 1, -1), h], dim=1)  # (B, 1 + K, width)
        h = self.norm_post(self.transformer(self.norm_pre(add_time(h, self.time, t))))
        pooled = h.mean(1) if self.class_token is None else h[:, 0]
        return (pooled if self.head is None else self.head(pooled)), h[:, own:]

    def _kept(self, keep: Tensor, batch: int) -> Tensor:
        if keep.is_floating_point() or keep.ndim != 2 or len(keep) != batch or keep.shape[1] == 0:
            raise ValueError(f"keep must be patches ({batch}, K), integers, got {keep.dtype} {tuple(keep.shape)}")
        keep = keep.long()
        if not is_so(keep, None, ("patches", self.patches), lambda: bool(((keep >= 0) & (keep < self.patches)).all())):
            raise ValueError(
                f"keep must hold patches 0 ... {self.patches - 1}, got {int(keep.min())} ... {int(keep.max())}"
            )
        return keep
