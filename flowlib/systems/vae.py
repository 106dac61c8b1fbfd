"""The variational autoencoder (Kingma & Welling 2014): reconstruct, and keep the code close to a Gaussian."""

import torch
from torch import Tensor

from flowlib.checks import check_number
from flowlib.nets import Autoencoder
from flowlib.nets.autoencoder import draw


def kl_to_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) | N(0, 1)) in nats, summed over a latent's components: (B, ...) twice -> (B,)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)


def elbo_loss(
    autoencoder: Autoencoder,
    x: Tensor,
    *,
    kl_weight: float = 1e-3,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean squared error of the reconstruction plus `kl_weight` times the KL term, both per image component; a scalar.

    With `kl_weight = 2 std^2` it is, up to scale and a constant, the negative evidence lower bound of a decoder with
    Gaussian noise of that std (Kingma & Welling 2014, equation 10); 0 leaves a plain autoencoder with noise that it
    learns to switch off.

    Args:
        autoencoder: the network.
        x: images (B, in_channels, H, W) in [-1, 1].
        kl_weight: >= 0.
        generator: the source of the latents' noise, on the CPU.

    Raises:
        ValueError: for images that do not fit, or a weight that is negative.
    """
    check_number("kl_weight", kl_weight, 0)
    mean, log_variance = (part.to(x.dtype) for part in autoencoder.encode(x))
    reconstruction = autoencoder.decode(draw(mean, log_variance, generator)).to(x.dtype)
    return (reconstruction - x).square().mean() + kl_weight * kl_to_normal(mean, log_variance).mean() / x[0].numel()
