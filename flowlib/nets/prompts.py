"""SAM's prompt encoder: points, boxes, masks and texts as vectors that a mask decoder reads (Kirillov et al. 2023).

Coordinates are (x, y), x to the right and y downwards, in pixels whose centres are 0, 1, ... : the encoder adds a half.
The corners of a box are its first and its last pixel. `flowlib.data.Scenes` counts a box from edge to edge instead;
`corners_of` turns its boxes into these.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_choice, check_count, check_image_shape, check_number
from flowlib.known import is_so
from flowlib.nets.norm import LayerNorm2d

PADDING, BACKGROUND, FOREGROUND = -1, 0, 1  # labels of points


def corners_of(boxes: Tensor) -> Tensor:
    """Boxes (..., 4) x0, y0, x1, y1 from edge to edge -> from the centre of the first pixel to that of the last."""
    return boxes - boxes.new_tensor([0, 0, 1, 1])


class FourierFeatures(nn.Module):
    """Points of the unit square as waves of random frequencies (Tancik et al. 2020): (..., 2) -> (..., dim).

    The frequencies f, which training leaves alone, are normal with standard deviation `scale`: of a point c it is
    sin(2 pi f.(2 c - 1)) of all of them, then the cosines.

    Raises:
        ValueError: for an odd `dim`, or a scale that is not positive.

    Example:
        >>> features = FourierFeatures(8)
        >>> features(torch.rand(5, 3, 2)).shape, features.grid(4, 6).shape
        (torch.Size([5, 3, 8]), torch.Size([8, 4, 6]))
    """

    frequencies: Tensor

    def __init__(self, dim: int, scale: float = 1.0) -> None:
        super().__init__()
        if check_count("dim", dim) % 2:
            raise ValueError(f"dim must be even, half for sines and half for cosines; got {dim}")
        self.register_buffer("frequencies", check_number("scale", scale, 0, low_open=True) * torch.randn(2, dim // 2))

    def forward(self, points: Tensor) -> Tensor:
        angle = 2 * math.pi * ((2 * points.to(self.frequencies.dtype) - 1) @ self.frequencies)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    def grid(self, height: int, width: int) -> Tensor:
        """Those of the centres of height x width cells that tile the square: (dim, height, width)."""
        rows, columns = (
            (torch.arange(count, device=self.frequencies.device) + 0.5) / count for count in (height, width)
        )
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        return self(torch.stack([x, y], dim=-1)).movedim(-1, 0)


def _shrink(channels: int, dim: int, doublings: int) -> nn.Sequential:
    """Masks at 2^doublings times the embedding's size -> (B, dim, h, w)."""
    widths = [1, *(channels // 4 ** (doublings - 1 - i) for i in range(doublings))]
    layers: list[nn.Module] = []
    for i in range(doublings):
        layers += [nn.Conv2d(widths[i], widths[i + 1], 2, stride=2), LayerNorm2d(widths[i + 1]), nn.GELU()]
    return nn.Sequential(*layers, nn.Conv2d(channels, dim, 1))


class PromptEncoder(nn.Module):
    """Prompts -> tokens (B, N, dim), and what is added to the image embedding (B, dim, h, w).

    A point is its Fourier features plus a learned vector for foreground or background, a box two corners with one each;
    a text is one token, linear in its CLIP feature; a mask goes through a small convolutional network.

    Args:
        dim: size of a token, even.
        grid: h and w of the image embedding.
        image_size: H and W of the image, in whose pixels points are given.
        mask_channels: of the network for masks, a multiple of 4.
        doublings: how many times smaller, as a power of two, the embedding is than a mask: 2 in SAM.
        text_dim: size of a text's feature; None for an encoder that reads none.

    Raises:
        ValueError: for sizes that do not fit; in calls for prompts of other shapes, unknown labels, or texts that are
            not read.

    Example:
        >>> encoder = PromptEncoder(16, grid=(4, 4), image_size=(16, 16))
        >>> tokens, dense = encoder(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[1]]))
        >>> tokens.shape, dense.shape  # behind points without a box there is one of padding
        (torch.Size([1, 2, 16]), torch.Size([1, 16, 4, 4]))
    """

    edges: ClassVar[tuple[str, ...]] = ("kinds", "no_point", "no_mask", "shrink.0", "text")  # what Muon leaves to AdamW

    def __init__(
        self,
        dim: int,
        grid: tuple[int, int],
        image_size: tuple[int, int],
        mask_channels: int = 16,
        doublings: int = 2,
        text_dim: int | None = None,
    ) -> None:
        super().__init__()
        if check_count("mask_channels", mask_channels) % 4:
            raise ValueError(f"mask_channels must be a multiple of 4, got {mask_channels}")
        check_choice("doublings", str(doublings), ("1", "2"))
        self.grid, self.image_size = grid, image_size
        self.mask_size = (grid[0] * 2**doublings, grid[1] * 2**doublings)
        self.places = FourierFeatures(dim)
        self.kinds = nn.Embedding(4, dim)  # background, foreground, first corner, last corner
        self.no_point = nn.Parameter(torch.randn(dim))
        self.shrink = _shrink(mask_channels, dim, doublings)
        self.no_mask = nn.Parameter(torch.randn(dim))
        self.text = None if text_dim is None else nn.Linear(check_count("text_dim", text_dim), dim)

    def image_places(self) -> Tensor:
        """The Fourier features of the cells of the image embedding (dim, h, w)."""
        return self.places.grid(*self.grid)

    def forward(
        self,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        text: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Tokens of points, corners and texts, in this order, and the embedding of masks.

        Args:
            points, labels: (B, P, 2) and (B, P): 1 foreground, 0 background, -1 nothing.
            boxes: (B, 4) x0, y0, x1, y1, both corners pixels of the box.
            masks: logits (B, 1, 2^doublings h, 2^doublings w).
            text: features (B, text_dim).
        """
        given = [prompt for prompt in (points, boxes, masks, text) if prompt is not None]
        sizes = [prompt.shape[0] for prompt in given]  # no `len`, which a graph that is exported would hold fixed
        batch = sizes[0] if given else 1
        if any(size != batch for size in sizes):
            raise ValueError(f"prompts must be one for each of a batch, got {sizes}")
        tokens = [self.no_point.new_empty(batch, 0, self.no_point.numel())]
        if (points is None) != (labels is None):
            raise ValueError("points and labels go together")
        if points is not None and labels is not None:
            tokens.append(self._points(points, labels))
            if boxes is None:
                tokens.append(self.no_point.expand(batch, 1, -1))
        if boxes is not None:
            if boxes.shape[1:] != (4,):
                raise ValueError(f"boxes must have shape (B, 4), got {tuple(boxes.shape)}")
            tokens.append(self._place(boxes.reshape(batch, 2, 2)) + self.kinds.weight[2:])
        if text is not None:
            if self.text is None or text.ndim != 2 or text.shape[1] != self.text.in_features:
                wanted = "None: this encoder reads no text" if self.text is None else f"(B, {self.text.in_features})"
                raise ValueError(f"text must be {wanted}, got shape {tuple(text.shape)}")
            tokens.append(self.text(text)[:, None])
        if masks is None:
            return torch.cat(tokens, dim=1), self.no_mask[:, None, None].expand(batch, -1, *self.grid)
        if masks.shape[2:] != self.mask_size:
            raise ValueError(f"masks must be logits (B, 1, {self.mask_size}), got {tuple(masks.shape)}")
        return torch.cat(tokens, dim=1), self.shrink(check_image_shape("masks", masks, 1))

    def _place(self, points: Tensor) -> Tensor:
        height, width = self.image_size
        return self.places((points + 0.5) / points.new_tensor([width, height]))

    def _points(self, points: Tensor, labels: Tensor) -> Tensor:
        if points.ndim != 3 or points.shape[2] != 2 or labels.shape != points.shape[:2]:
            shapes = f"{tuple(points.shape)} and {tuple(labels.shape)}"
            raise ValueError(f"points and labels must have shapes (B, P, 2) and (B, P), got {shapes}")
        if not is_so(labels, None, "kinds", lambda: bool(((labels >= PADDING) & (labels <= FOREGROUND)).all())):
            raise ValueError(f"labels must be 1, 0 or -1, got {int(labels.min())} ... {int(labels.max())}")
        known = self._place(points) + self.kinds(labels.long().clamp(min=0))
        return torch.where((labels == PADDING)[..., None], self.no_point, known)
