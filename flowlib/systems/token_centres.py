"""Where the tokens of a discrete autoencoder begin: at the centres of groups of training patches.

Trained from random tokens, few of many may ever be learned: once the logits are sure of some tokens, those that are
never drawn have hardly a gradient (`flowlib train dalle --set centres=0` shows it). From the groups of k-means (Lloyd
1982) each token has patches of its own, and what the decoder makes of it is right on average, before the first step.
"""

import warnings

import torch
from torch import Tensor
from torch.nn import functional as F

from flowlib.checks import check_count
from flowlib.nets.discrete import DiscreteAutoencoder, into_odds

ROUNDS, POINTS = 25, 60_000  # of k-means
FLAT = 0.02  # weight of a flat patch among those that k-means is given
SMALLEST = 0.02  # scale of a pixel's log odds that a token begins with, about one of 256 levels


def k_means(points: Tensor, count: int, generator: torch.Generator, rounds: int = ROUNDS) -> Tensor:
    """Centres (count, D) of points (N, D), each after the last round the mean of those that were nearest to it.

    Begins with points drawn at random, all different if there are so many different ones: of two equal centres one
    would stay without points.

    Raises:
        ValueError: for fewer points than centres.
    """
    from scipy.cluster.vq import kmeans2

    if check_count("count", count) > len(points):
        raise ValueError(f"count must be at most {len(points)}, the points that there are, got {count}")
    different = torch.unique(points.cpu(), dim=0)
    order = torch.randperm(len(different), generator=generator)
    start = different[order.repeat(-(-count // len(different)))[:count]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a centre without points, which stays where it is
        centres, _ = kmeans2(points.cpu().numpy(), start.numpy(), iter=rounds, minit="matrix")
    return torch.from_numpy(centres).to(points)


def grouped(values: Tensor, group: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The mean of the values (N, D) in each of `count` groups, 0 in empty ones, and how many they are."""
    size = torch.zeros(count).to(values).index_add_(0, group, torch.ones(len(values)).to(values))
    total = torch.zeros(count, values.shape[1]).to(values).index_add_(0, group, values)
    return total / size.clamp(min=1)[:, None], size


def contrast(x: Tensor, factor: int) -> Tensor:
    """The standard deviation within each patch of images (B, C, H, W), of each channel about its mean; in [0, 1]."""
    parts = F.pixel_unshuffle(x, factor).unflatten(1, (x.shape[1], -1)).var(2, correction=0)  # (B, C, h, w)
    return parts.mean(1).sqrt().flatten()


@torch.no_grad()
def begin_at_centres(dvae: DiscreteAutoencoder, x: Tensor, gain: float, generator: torch.Generator) -> None:
    """Set the centres of a network that has them, and what it makes of them, by images x (B, C, H, W) in [-1, 1].

    k-means is given patches in proportion to their contrast. In pictures that are flat for the most part it would spend
    most centres on levels of flat colours, which neighbours tell too, and few on strokes.

    Args:
        dvae: the network.
        x: images.
        gain: of the logits, > 0: they are minus `gain` times the squared distance to a centre over the mean one to the
            nearest.
        generator: of the points that k-means takes and begins with.

    Raises:
        ValueError: for a network without centres.
    """
    if dvae.centres is None:
        raise ValueError("dvae must have centres")
    patches = F.pixel_unshuffle(x, dvae.factor).movedim(1, -1).flatten(0, 2)
    chosen = torch.multinomial(FLAT + contrast(x, dvae.factor).cpu(), POINTS, replacement=True, generator=generator)
    patches = patches[chosen.to(x.device)]
    centre = k_means(patches, dvae.tokens, generator)
    distance, group = torch.cdist(patches, centre).min(1)
    dvae.centres.centre.copy_(centre)
    dvae.centres.log_sharpness.copy_((gain / distance.square().mean().clamp(min=1e-12)).log())
    if not dvae.has_law:
        dvae.centres.table.copy_(centre)
        return
    location = into_odds(centre.clamp(-1, 1)).logit()
    errors, _ = grouped((into_odds(patches).logit() - location[group]).abs(), group, dvae.tokens)
    dvae.centres.table.copy_(torch.cat([location, errors.clamp(min=SMALLEST).log()], dim=1))
