"""Densities of images in bits: uniform noise within the bins of pixels, and nats as bits/dim (Theis et al. 2016)."""

import math

import torch
from torch import Tensor

from flowlib.checks import check_count, check_tensor


def dequantise(pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """uint8 pixels (B, C, H, W) -> float32 images in [-1 - 1/255, 1 + 1/255], uniform within each pixel value's bin.

    Bins are 2/255 wide around `pixel / 127.5 - 1`, the scale of the data sets (Theis et al. 2016, section 3.1).

    Raises:
        ValueError: unless the pixels are uint8.

    Example:
        >>> import torch
        >>> from flowlib import dequantise
        >>> pixels = torch.full((1, 1, 2, 2), 255, dtype=torch.uint8)
        >>> bool((dequantise(pixels) - 1).abs().max() <= 1 / 255)
        True
    """
    if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8:
        raise ValueError(f"pixels must be uint8 in 0 ... 255, got {getattr(pixels, 'dtype', type(pixels))}")
    inside = torch.rand(pixels.shape, generator=generator).to(pixels.device)
    return (pixels + inside - 0.5) / 127.5 - 1


def fill_bins(images: Tensor, levels: int = 256, generator: torch.Generator | None = None) -> Tensor:
    """Images of `levels` values from -1 to 1, float, with uniform noise within the bins of their pixels.

    Example:
        >>> import torch
        >>> from flowlib.pixel_bits import fill_bins
        >>> bool((fill_bins(torch.ones(1, 1, 2, 2), levels=17) - 1).abs().max() <= 1 / 16)
        True
    """
    inside = 2 * torch.rand(images.shape, generator=generator) - 1
    return images + inside.to(images) / (levels - 1)


def bits_per_dim(log_density: Tensor, dims: int, levels: int = 256) -> Tensor:
    """Nats of density (B,) of dequantised images -> bits/dim (B,) of their pixels, an upper bound in the mean.

    Pixels have `levels` values in [-1, 1]. A bin is 2 / (levels - 1) wide, so a pixel's probability is its density
    times that; of 8-bit pixels a uniform model costs 8 bits.

    Example:
        >>> import torch
        >>> from flowlib import bits_per_dim
        >>> uniform = torch.tensor([4 * math.log(255 / 512)])  # 256 bins of 2/255, all as likely
        >>> bits_per_dim(uniform, dims=4)
        tensor([8.])
    """
    check_tensor("log_density", log_density, finite=False, batch=False)
    check_count("dims", dims)
    width = 2 / (check_count("levels", levels, 2) - 1)
    return -(log_density / dims + math.log(width)) / math.log(2)
