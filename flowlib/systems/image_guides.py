"""Guides that are images: what is known is joined to the noised image as further channels (Saharia et al. 2022).

The guide y is then a tensor (B, guide_channels, H, W), and the null guide is zero: nothing is known. Like any other
guide it goes through samplers, dropout and classifier-free guidance. The last channel of the guides here says where
something is known, so that a black hole is told from a black image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlib.checks import check_count, check_tensor
from flowlib.systems.latent import LatentModel


def inpainting_guide(x: Tensor, known: Tensor) -> Tensor:
    """What is left of images, and where: (B, C, H, W), (B, 1, H, W) -> (B, C + 1, H, W).

    Args:
        x: images in [-1, 1]; what is unknown has no effect.
        known: 1 where a pixel is known, 0 where it is to be painted.

    Raises:
        ValueError: for shapes that do not fit, or a mask that is not 0 or 1.
    """
    check_tensor("x", x)
    check_tensor("known", known)
    if x.ndim != 4 or known.shape != (len(x), 1, *x.shape[2:]):
        raise ValueError(f"known must have shape (batch, 1, H, W) of x, {tuple(x.shape)}, got {tuple(known.shape)}")
    if not bool(((known == 0) | (known == 1)).all()):
        raise ValueError("known must be 1 where a pixel is known and 0 elsewhere")
    return torch.cat([x * known, known], dim=1)


def superresolution_guide(x: Tensor, factor: int) -> Tensor:
    """A coarse copy at full size: means over factor x factor pixels, repeated: (B, C, H, W) -> (B, C + 1, H, W).

    Args:
        x: images in [-1, 1], of which only these means have an effect.
        factor: >= 1, divides H and W.

    Raises:
        ValueError: for images or a factor that does not fit.
    """
    check_tensor("x", x)
    check_count("factor", factor)
    if x.ndim != 4 or x.shape[2] % factor or x.shape[3] % factor:
        raise ValueError(f"x must have shape (batch, C, H, W), multiples of {factor}, got {tuple(x.shape)}")
    coarse = F.interpolate(F.avg_pool2d(x, factor), scale_factor=factor, mode="nearest")
    return torch.cat([coarse, torch.ones_like(x[:, :1])], dim=1)


def latent_guide(latent: LatentModel, guide: Tensor) -> Tensor:
    """A guide for a flow of latents: (B, C + 1, H, W) -> (B, latent_channels + 1, H / factor, W / factor).

    Its image is encoded, holes and all, its mask averaged over the pixels of a latent pixel.

    Raises:
        ValueError: for guides that do not fit the autoencoder.
    """
    check_tensor("guide", guide)
    known = F.avg_pool2d(guide[:, -1:], latent.autoencoder.factor)
    return torch.cat([latent.encode(guide[:, :-1]), known], dim=1)
