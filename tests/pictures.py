"""Small images that need no data set."""

import torch
from torch import Tensor


def blobs(count: int, size: int = 16) -> Tensor:
    """Images of one bright spot on a dark ground, somewhere: (count, 1, size, size) in [-1, 1]."""
    centre = torch.rand(count, 2, 1, generator=torch.Generator().manual_seed(0)) * (size - 1)
    row, column = torch.exp(-0.1 * (torch.arange(size) - centre) ** 2).unbind(1)
    return (2 * row[:, :, None] * column[:, None, :] - 1)[:, None]
