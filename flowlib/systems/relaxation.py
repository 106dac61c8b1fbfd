"""The relaxation of a discrete variational autoencoder: draws of tokens that have a gradient, and their KL term.

A draw from a categorical distribution has no gradient, so in training it is relaxed to a point of the simplex
(Gumbel-softmax: Jang et al. 2017, arXiv:1611.01144; the concrete distribution: Maddison et al. 2017, arXiv:1611.00712),
which a falling temperature presses into the corners.
"""

import math

import torch
from torch import Tensor

from flowlib.checks import check_count, check_number, check_tensor


def gumbel_noise(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard Gumbel noise, -log E with E ~ Exp(1), shaped like a tensor; drawn on the CPU."""
    return -torch.empty(like.shape).exponential_(generator=generator).log().to(like)


def gumbel_softmax(
    logits: Tensor,
    temperature: float,
    *,
    hard: bool = False,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """A relaxed draw softmax((logits + Gumbel noise) / temperature) over axis 1 (Jang et al. 2017, equation 2).

    At every temperature the largest entry is an exact categorical draw, P(argmax = k) = softmax(logits)_k; as the
    temperature goes to 0 the whole vector becomes that draw's one-hot vector.

    Args:
        logits: (B, K, ...).
        temperature: > 0.
        hard: straight-through (ibid., section 2.2): the value is the one-hot vector, the gradient that of the relaxed
            draw.
        generator: the source of the noise, on the CPU; or `noise`, Gumbel's, shaped like logits.

    Returns:
        shaped like logits, >= 0, with sum 1 over axis 1.

    Raises:
        ValueError: for logits that are no floats, or a temperature that is not positive.
    """
    check_tensor("logits", logits, finite=False)
    check_number("temperature", temperature, 0, low_open=True)
    noise = gumbel_noise(logits, generator) if noise is None else noise
    soft = torch.softmax((logits + noise) / temperature, dim=1)
    if not hard:
        return soft
    corner = torch.zeros_like(soft).scatter_(1, soft.argmax(1, keepdim=True), 1.0)
    return corner + (soft - soft.detach())  # in this order, so that the value is exactly one-hot


def kl_to_uniform(logits: Tensor) -> Tensor:
    """KL(softmax(logits) | uniform) = log K - entropy, in nats, summed over places: (B, K, ...) -> (B,)."""
    log_q = check_tensor("logits", logits, finite=False).log_softmax(1)
    places = log_q[0, 0].numel()
    return places * math.log(logits.shape[1]) + (log_q.exp() * log_q).flatten(1).sum(1)


def annealed_temperature(step: int, steps: int, start: float = 1.0, end: float = 1 / 16) -> float:
    """The temperature at a step: half a cosine from `start` at step 0 to `end` at `steps`, then `end` (Ramesh, A.2)."""
    check_count("step", step, 0)
    check_count("steps", steps)
    for name, value in (("start", start), ("end", end)):
        check_number(name, value, 0, low_open=True)
    return half_cosine(step / steps, start, end)


def half_cosine(share: float, start: float, end: float) -> float:
    """From `start` at a share of 0 to `end` at 1 and beyond, on half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1))) / 2
