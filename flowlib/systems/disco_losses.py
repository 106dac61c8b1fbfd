"""What Disco Diffusion descends: the distance of features on the sphere, and losses that keep a picture a picture."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlib.systems.cut_schedule import Cuts


def spherical_distance(a: Tensor, b: Tensor) -> Tensor:
    """Half the squared angle between vectors, 2 arcsin(|a - b| / 2)^2 of unit ones: in [0, pi^2 / 2].

    Unlike a cosine, it also pulls at what is far away: at the angle theta its gradient is theta long, where that of the
    cosine is sin theta. Computed as an arctangent of |a - b| and |a + b|, so that gradients are finite everywhere: 0
    where a and b are one, and also where they are opposite, from where all ways are as short. (As an arcsine it has no
    finite gradient there.)

    Args:
        a, b: (..., D), of any length but 0; they are scaled to length 1.

    Returns:
        (...), broadcast.

    Source: the code of Crowson's guided diffusion, `spherical_dist_loss`.

    Example:
        >>> axes = torch.eye(2)
        >>> spherical_distance(axes[:1], torch.cat([axes, -axes[:1]])) / torch.pi**2  # angles 0, pi / 2 and pi
        tensor([0.0000, 0.1250, 0.5000])
    """
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1)).square()


def total_variation(x: Tensor) -> Tensor:
    """Mean squared difference to the pixel on the right plus that to the one below: (B, C, H, W) -> (B,).

    The mean is over all pixels; at the last column and row the difference is 0 (Disco Diffusion's `tv_loss`).
    """
    right, below = x.diff(dim=3).square().sum((1, 2, 3)), x.diff(dim=2).square().sum((1, 2, 3))
    return (right + below) / x[0].numel()


def range_loss(x: Tensor) -> Tensor:
    """Mean squared distance of pixels to [-1, 1]: (B, C, H, W) -> (B,).

    In Disco Diffusion's code it is of the predicted clean picture, but differentiated with respect to a mix of that and
    the noised one, on which it does not depend: there it has no effect. Here it has.
    """
    return (x - x.clamp(-1, 1)).square().mean((1, 2, 3))


def saturation_loss(x: Tensor) -> Tensor:
    """Mean distance of pixels to [-1, 1]: (B, C, H, W) -> (B,). Its pull does not weaken as a pixel comes near."""
    return (x - x.clamp(-1, 1)).abs().mean((1, 2, 3))


def perceptual_pull(clip: Any, x: Tensor, picture: Tensor) -> Tensor:
    """Mean squared distance of the features of patches to those of a picture, each scaled to length 1: (B,), in [0, 4].

    Disco Diffusion takes LPIPS (Zhang et al. 2018), of all layers of a classifier; this is of the last of a CLIP.

    Args:
        clip: whose `image` gives (feature, features of patches).
        x: (B, C, H, W); differentiable.
        picture: (C, H, W) or (B, C, H, W).
    """
    own, other = (F.normalize(clip.image(y, None)[1].float(), dim=2) for y in (x, picture.expand_as(x)))
    return (own - other.detach()).square().sum(2).mean(1)


def prompt_distance(
    clip: Any, x: Tensor, t: float, targets: Tensor, weights: Tensor, cuts: Cuts | None, generator: torch.Generator
) -> Tensor:
    """The weighted distance of pictures to what is asked for, a mean over their cut-outs: (B,).

    Args:
        clip: with `image_features`, and the side of its images as `image.image_size`.
        x: (B, C, H, W); differentiable.
        t: the time, on which the cut-outs depend.
        targets: features (M, D), or (B, M, D) where each picture has its own.
        weights: (M,).
        cuts: which cut-outs; None for the picture itself, once.
        generator: of the cut-outs, on the CPU.
    """
    views = views_of(x, t, clip, cuts, generator)  # (N, B, C, S, S)
    features = clip.image_features(views.flatten(0, 1)).unflatten(0, views.shape[:2])  # (N, B, D)
    distances = spherical_distance(features[:, :, None], targets)  # (N, B, M)
    return (distances * weights).sum(2).mean(0)


def views_of(x: Tensor, t: float, clip: Any, cuts: Cuts | None, generator: torch.Generator) -> Tensor:
    """The views of pictures (B, C, H, W) that a CLIP is shown at t: (N, B, C, S, S); without `cuts` themselves."""
    return x[None] if cuts is None else cuts.views(x, t, clip.image.image_size, generator)


def targets_of(
    clip: Any, texts: Sequence[tuple[str, float]], pictures: Sequence[tuple[Tensor, float]], cuts: Cuts | None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Features (M, D) of texts, and of cut-outs of pictures (C, H, W), and their weights (M,).

    Each of a picture's cut-outs is a target of its own, with its share of the weight.
    """
    features, weights = [], list[float]()
    with torch.no_grad():
        if texts:
            features.append(clip.text_features([text for text, _ in texts]))
            weights += [weight for _, weight in texts]
        for picture, weight in pictures:
            views = (
                picture[None]
                if cuts is None
                else cuts.views(picture[None], 0.0, clip.image.image_size, generator)[:, 0]
            )
            features.append(clip.image_features(views))
            weights += [weight / len(views)] * len(views)
    found = torch.cat(features)
    return found, torch.tensor(weights).to(found)
