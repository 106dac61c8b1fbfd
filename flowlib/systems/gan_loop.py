"""The adversarial loop written out, as lecture 09 teaches it: two networks in turns, on data that lie in a tensor.

The recipe `gan` trains the same game through the trainer, with checkpoints and a schedule (`flowlib.systems.gan`).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from flowlib.checks import check_count, check_number, check_tensor
from flowlib.systems.gan import discriminator_loss, generator_loss, r1_penalty


def train_gan(
    maker: nn.Module,
    discriminator: nn.Module,
    x: Tensor,
    y: Tensor | None = None,
    *,
    steps: int,
    batch_size: int = 64,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.0, 0.99),
    r1: float = 0.1,
    saturating: bool = False,
    generator: torch.Generator | None = None,
    on_step: Callable[[int], None] | None = None,
    progress: bool = False,
) -> list[tuple[float, float]]:
    """Train both in turns: a step of the discriminator, then one of the generator (Goodfellow et al., algorithm 1).

    Args:
        maker: the generator network, called with noise (B, maker.noise_dim) and labels; it may be any module.
        discriminator: called with samples and labels; returns logits (B,).
        x, y: the data (N, ...), on the networks' device, and labels (N,) or None.
        steps, batch_size: how many steps of each network, with how many samples.
        lr, betas: Adam's, for both. Momentum 0 suits a game, in which the other's move makes an old gradient wrong.
        r1: gamma of the gradient penalty, >= 0.
        saturating: the generator's loss.
        generator: the source of batches and noise, on the CPU: the same seed gives the same weights.
        on_step: called with the number of steps done after each.
        progress: whether to show a bar.

    Returns:
        the losses (discriminator's without penalty, generator's) of each step, in nats.

    Raises:
        ValueError: for data or numbers that do not fit.
    """
    check_tensor("x", x)
    if y is not None and len(y) != len(x):
        raise ValueError(f"y must have shape ({len(x)},), one label a sample, got {tuple(y.shape)}")
    check_count("steps", steps)
    check_count("batch_size", batch_size)
    check_number("lr", lr, 0, low_open=True)
    check_number("r1", r1, 0)
    ours, theirs = list(maker.parameters()), list(discriminator.parameters())
    optimisers = [torch.optim.Adam(parameters, lr, betas=betas) for parameters in (ours, theirs)]
    noise_dim = check_count("maker.noise_dim", getattr(maker, "noise_dim", None))
    losses = []
    for step in tqdm(range(steps), disable=not progress, leave=False):
        index = torch.randint(len(x), (batch_size,), generator=generator).to(x.device)
        real, guide = x[index], None if y is None else y[index]
        noise = torch.randn(2, batch_size, noise_dim, generator=generator).to(x)
        with torch.no_grad():
            fake = maker(noise[0], guide)
        judged = discriminator_loss(discriminator(real, guide), discriminator(fake, guide))
        penalty = 0.5 * r1 * r1_penalty(discriminator, real, guide) if r1 else 0.0
        for parameter, gradient in zip(theirs, torch.autograd.grad(judged + penalty, theirs), strict=True):
            parameter.grad = gradient
        optimisers[1].step()
        made = generator_loss(discriminator(maker(noise[1], guide), guide), saturating=saturating)
        for parameter, gradient in zip(ours, torch.autograd.grad(made, ours), strict=True):
            parameter.grad = gradient  # of the generator's weights alone
        optimisers[0].step()
        losses.append((judged.item(), made.item()))
        if on_step is not None:
            on_step(step + 1)
    return losses
