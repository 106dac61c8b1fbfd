"""The loss of a discrete variational autoencoder, of a relaxed draw of tokens (Ramesh et al. 2021, section 2.1)."""

import math

import torch
from torch import Tensor

from flowlib.checks import check_number
from flowlib.nets import DiscreteAutoencoder
from flowlib.systems.logit_laplace import log_density, log_mass
from flowlib.systems.relaxation import gumbel_softmax, kl_to_uniform


def dvae_loss(
    dvae: DiscreteAutoencoder,
    x: Tensor,
    *,
    temperature: float,
    kl_weight: float = 0.0,
    scale_floor: float = 0.0,
    hard: bool = False,
    levels: int | None = None,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Mean error of the decoded relaxed tokens plus `kl_weight` times the KL term, both per pixel; a scalar.

    The error is squared, or of a network with a `law` its negative log-likelihood in nats, with which the loss at
    `kl_weight` 1 is the negative evidence lower bound with a uniform prior on tokens. The KL term is that of the
    discrete q, not of the relaxed one, so the sum is a bound only as the temperature goes to 0 (Maddison et al. 2017).

    Args:
        dvae: the network.
        x: images (B, in_channels, H, W) in [-1, 1].
        temperature, hard: of `gumbel_softmax`.
        kl_weight: >= 0.
        scale_floor: >= 0, added to the scale of each pixel's distribution; at 0 the likelihood is that of the network.
        levels: values of a pixel, whose probability is then the likelihood; None for the density.
        generator: the source of the Gumbel noise, on the CPU; or `noise`, the numbers themselves.

    Raises:
        ValueError: for images that do not fit, or a number out of range.
    """
    check_number("kl_weight", kl_weight, 0)
    check_number("scale_floor", scale_floor, 0)
    logits = dvae.encode(x).to(x.dtype)
    code = gumbel_softmax(logits, temperature, hard=hard, generator=generator, noise=noise)
    if dvae.has_law:
        at, scale = (part.to(x.dtype) for part in dvae.law(code))
        if scale_floor:
            scale = torch.logaddexp(scale, torch.full_like(scale, math.log(scale_floor)))
        error = -(log_density(x, at, scale) if levels is None else log_mass(x, at, scale, levels)).mean()
    else:
        error = (dvae.decode(code).to(x.dtype) - x).square().mean()
    return error + kl_weight * kl_to_uniform(logits).mean() / x[0].numel()
