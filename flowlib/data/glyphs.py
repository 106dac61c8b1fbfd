"""Images of digits, cut to their ink and drawn at any place and size of a larger image, as matrix products."""

import numpy as np
import torch
from torch import Tensor

_INK = 0.4  # of the darkest pixel: what counts as ink when an image is cut


class Glyphs:
    """Images of digits to draw.

    Args:
        pixels: (N, 1, H, W) uint8, ink bright.
        labels: (N,) the digits, 0 ... 9.
    """

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels = pixels[:, 0].contiguous()
        ink = self.pixels >= (_INK * self.pixels.amax((1, 2), keepdim=True)).ceil()
        spans = [_span(ink.any(2)), _span(ink.any(1))]  # rows, columns
        self.start, self.length = (torch.stack(part, dim=1).double() for part in zip(*spans, strict=True))
        self.index = [(labels == digit).nonzero()[:, 0].numpy() for digit in range(10)]

    def draw(
        self,
        digit: np.ndarray,
        chance: np.ndarray,
        corner: np.ndarray,
        height: np.ndarray,
        stretch: np.ndarray,
        size: int,
    ) -> Tensor:
        """Ink in squares of a larger image, the darkest of each digit being 1.

        Args:
            digit: (...) 0 ... 9.
            chance: (...) in [0, 1): which image of that digit.
            corner: (..., 2) row and column of the square's upper left pixel.
            height: (...) the square's side, which the ink fills from top to bottom.
            stretch: (...) how much wider than in its image it is drawn, as far as it stays in the square.
            size: of the larger image.

        Returns:
            (..., size, size) float32 in [0, 1].
        """
        shape, digit, chance = digit.shape, digit.reshape(-1), chance.reshape(-1)
        counts = np.array([len(own) for own in self.index])
        chosen = np.concatenate(self.index)[
            np.cumsum(counts)[digit] - counts[digit] + (chance * counts[digit]).astype(int)
        ]
        which = torch.from_numpy(chosen)
        start, length = self.start[which], self.length[which]
        side = torch.from_numpy(height.reshape(-1)).double()
        wide = torch.minimum(side, side * length[:, 1] / length[:, 0] * torch.from_numpy(stretch.reshape(-1)))
        drawn = torch.stack([side, wide.clamp(min=1)], dim=1)  # rows and columns that the ink fills
        first = torch.from_numpy(corner.reshape(-1, 2)).double() + (side[:, None] - drawn) / 2
        rows, columns = (
            _resampling(start[:, i], length[:, i], first[:, i], drawn[:, i], self.pixels.shape[1 + i], size)
            for i in (0, 1)
        )
        ink = rows @ self.pixels[which].float() @ columns.transpose(1, 2)
        return (ink / ink.amax((1, 2), keepdim=True)).reshape(*shape, size, size)


def _resampling(start: Tensor, length: Tensor, first: Tensor, drawn: Tensor, old: int, new: int) -> Tensor:
    """Matrices (B, new, old) that draw the pixels from `start`, `length` of them, at `first`, `drawn` pixels wide.

    A triangle as wide as the coarser of the two grids: linear interpolation that does not alias. Outside is nothing.
    """
    scale = (length / drawn)[:, None]  # old pixels in a new one
    at = torch.arange(new) + 0.5 - first[:, None]  # the new pixels' centres, from where the ink starts
    where = start[:, None] + at * scale
    gap = (torch.arange(old) + 0.5 - where[..., None]) / scale.clamp(min=1)[..., None]
    weights = (1 - gap.abs()).clamp(min=0)
    weights = weights / weights.sum(2, keepdim=True).clamp(min=1e-12)
    return (weights * ((at >= 0) & (at < drawn[:, None]))[..., None]).float()


def _span(ink: Tensor) -> tuple[Tensor, Tensor]:
    """Where the true entries of each row start, and how far they reach: (N, L) -> (N,), (N,)."""
    first, last = ink.int().argmax(1), ink.shape[1] - 1 - ink.flip(1).int().argmax(1)
    return first, last - first + 1
