"""The evidence bound of a model in two stages, tokens of an image and a law of tokens (Ramesh et al. 2021, equation 1).

    -log p(x|y)  <=  E[-log p(x|z)]  +  E[log q(z|x) - log p(z|y)],    z ~ q(z|x)
                     the distortion     the rate

The first stage alone is trained with a uniform prior p(z). The second one lowers the rate, by its own law p(z|y) of
tokens under a text y; with -log p(y) added the bound is that of both, -log p(x, y). All of it can be computed where the
values of a pixel have probabilities, as those of the discretised logit-Laplace distribution.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from flowlib.checks import check_tensor
from flowlib.nets.text_image import DALLE
from flowlib.precision import double
from flowlib.systems.logit_laplace import log_mass
from flowlib.systems.relaxation import gumbel_noise

Score = Callable[[Tensor], Tensor]  # tokens (B, h, w) -> a logarithm of a probability, in nats, (B,)


class Bound(NamedTuple):
    """What an image costs at most, in nats: (B,) each."""

    distortion: Tensor
    rate: Tensor

    @property
    def total(self) -> Tensor:
        """The bound itself, (B,)."""
        return self.distortion + self.rate


def evidence_bound(
    logits: Tensor, likelihood: Score, prior: Score, *, hard: bool = False, generator: torch.Generator | None = None
) -> Bound:
    """The bound of images, from one draw of their tokens.

    Args:
        logits: of q(z | x) at each place, (B, K, h, w).
        likelihood: log p(x | z) of the images.
        prior: log p(z), or under a text log p(z | y).
        hard: take the most probable tokens for certain, as the second stage does: q is then another distribution, and
            the bound another bound, with a rate of -log p(z).
        generator: of the draw.

    Raises:
        ValueError: for logits of another shape.

    Example:
        >>> even = torch.zeros(3, 4, 2, 2)
        >>> zero = lambda index: torch.zeros(len(index))
        >>> evidence_bound(even, zero, lambda index: zero(index) - 4 * math.log(4)).rate.abs().max() < 1e-6
        tensor(True)
    """
    if check_tensor("logits", logits, finite=False).ndim != 4:
        raise ValueError(f"logits must have shape (batch, K, h, w), got {tuple(logits.shape)}")
    index = (logits if hard else logits + gumbel_noise(logits, generator)).argmax(1)
    log_q = double(logits.log_softmax(1)).gather(1, index[:, None].to(double(logits).device)).flatten(1).sum(1)
    told = double(likelihood(index))
    return Bound(-told, (torch.zeros_like(log_q) if hard else log_q) - double(prior(index)))


@torch.no_grad()
def bound_of_images(
    module: DALLE,
    images: Tensor,
    texts: Sequence[str],
    *,
    levels: int = 256,
    hard: bool = False,
    uniform: bool = False,
    generator: torch.Generator | None = None,
    batch_size: int = 500,
) -> Bound:
    """The bound of images (B, C, H, W) under their texts, of pixels with so many `levels`, as `evidence_bound`.

    `uniform` takes the first stage's own prior in place of the transformer's.
    """
    found, place = [], next(module.parameters()).device
    for part, said in zip(images.split(batch_size), _split(texts, batch_size), strict=True):
        x, text = part.to(place), module.read(said)
        logits = module.dvae.encode(x).float()
        even = -math.log(module.gpt.codes) * logits[0, 0].numel()

        def likelihood(index: Tensor, x: Tensor = x) -> Tensor:
            law = module.dvae.law(module.dvae.one_hot(index))
            return double(log_mass(x, *law, levels=levels)).flatten(1).sum(1)

        def prior(index: Tensor, text: Tensor = text, even: float = even) -> Tensor:
            return (
                torch.full((len(index),), even, dtype=torch.float64)
                if uniform
                else module.log_prob(text, index.flatten(1))[1]
            )

        found.append(evidence_bound(logits, likelihood, prior, hard=hard, generator=generator))
    return Bound(*(torch.cat(each).cpu() for each in zip(*found, strict=True)))


def _split(texts: Sequence[str], size: int) -> list[Sequence[str]]:
    return [texts[at : at + size] for at in range(0, len(texts), size)]
