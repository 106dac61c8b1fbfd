"""What a first stage is trained by, beyond squared error: a perceptual distance and a rival that looks at patches.

Squared error alone makes blurred images: where detail is lost, their mean is its best guess. So detail is also measured
in a classifier's features, and a discriminator says which patches give themselves away (Esser et al. 2021; Rombach et
al. 2022, section 3.1).
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from flowlib.checks import check_number
from flowlib.metrics import Evaluator
from flowlib.metrics.evaluator import check_images
from flowlib.nets import Autoencoder, CodebookAutoencoder, PatchDiscriminator
from flowlib.nets.autoencoder import draw
from flowlib.systems.vae import kl_to_normal


def perceptual_distance(evaluator: Evaluator, a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of two images in a classifier's features (Zhang et al. 2018, equation 1, unweighted).

    At each convolution the feature vector of each place is scaled to length 1; squared distances are averaged over
    places and summed over layers, so it lies between 0 and 4 times the layers, 5.

    Args:
        evaluator: from `load_evaluator()`, frozen.
        a, b: images (B, 1, 28, 28) in [-1, 1]; differentiable in both.

    Returns:
        (B,).

    Raises:
        ValueError: for images of another shape or dtype, or not finite.
    """
    if check_images("a", a).shape != check_images("b", b).shape:
        raise ValueError(f"b must have the shape of a, {tuple(a.shape)}, got {tuple(b.shape)}")
    h = torch.cat([a, b])
    distance = torch.zeros(len(a), device=a.device)
    for conv in evaluator.convs:
        h = F.relu(conv(h))
        of_a, of_b = F.normalize(h, dim=1).chunk(2)
        distance = distance + (of_a - of_b).square().sum(1).mean((1, 2))
    return distance


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's: mean of max(0, 1 - real) and of max(0, 1 + fake), halved; logits of any shape -> a scalar.

    Source: Lim and Ye, "Geometric GAN" (2017), equation 13.
    """
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def reconstruct(
    autoencoder: Autoencoder, x: Tensor, generator: torch.Generator | None = None, noise: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Images restored from a drawn latent, the KL term in nats (B,), and the codebook's loss, 0 without one."""
    mean, log_variance = (part.to(x.dtype) for part in autoencoder.encode(x))
    if isinstance(autoencoder, CodebookAutoencoder):
        quantised, penalty, _ = autoencoder.codes(mean)
        return Autoencoder.decode(autoencoder, quantised).to(x.dtype), torch.zeros(len(x), device=x.device), penalty
    restored = autoencoder.decode(draw(mean, log_variance, generator, noise)).to(x.dtype)
    return restored, kl_to_normal(mean, log_variance), torch.zeros((), device=x.device)


def first_stage_loss(
    autoencoder: Autoencoder,
    x: Tensor,
    *,
    kl_weight: float = 1e-3,
    perceptual: float = 0.0,
    evaluator: Evaluator | None = None,
    adversarial: float = 0.0,
    discriminator: PatchDiscriminator | None = None,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Squared error, KL or codebook loss, perceptual and adversarial loss: the autoencoder's, a scalar.

    The discriminator is left as it is here, and learns by `hinge_loss`. The adversarial term is scaled so that its
    gradient in the decoder's last layer is `adversarial` times as large as that of all others (Esser et al.
    2021, equation 7).

    Args:
        autoencoder: with a codebook or without.
        x: images (B, in_channels, H, W) in [-1, 1]; of MNIST's shape for a perceptual loss.
        kl_weight: as in `elbo_loss`; has no say with a codebook.
        perceptual: the weight of `perceptual_distance`, >= 0, with `evaluator`.
        adversarial: the weight of the discriminator's objection, >= 0, with `discriminator`.
        generator: the source of the latents' noise, on the CPU; or `noise`, the numbers themselves.

    Raises:
        ValueError: for images that do not fit, a negative weight, or one without its network.
    """
    for name, weight in (("kl_weight", kl_weight), ("perceptual", perceptual), ("adversarial", adversarial)):
        check_number(name, weight, 0)
    restored, kl, codes = reconstruct(autoencoder, x, generator, noise)
    loss = (restored - x).square().mean() + (kl_weight * kl.mean() / x[0].numel() + codes)
    if perceptual:
        if evaluator is None:
            raise ValueError("evaluator must be given for a perceptual loss")
        loss = loss + perceptual * perceptual_distance(evaluator, restored, x).mean()
    if not adversarial:
        return loss
    if discriminator is None:
        raise ValueError("discriminator must be given for an adversarial loss")
    frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    objection = -functional_call(discriminator, frozen, (restored,)).mean()
    last = list(autoencoder.decoder.parameters())[-2]  # the weights of the last convolution
    sizes = [torch.autograd.grad(part, last, retain_graph=True)[0].norm() for part in (loss, objection)]
    balance = torch.where(sizes[1] > 0, sizes[0] / sizes[1], 0).clamp(max=1e4).detach()
    return loss + adversarial * balance * objection
