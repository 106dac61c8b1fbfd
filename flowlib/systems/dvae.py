"""The discrete variational autoencoder: an image becomes a grid of tokens, each one of K vectors of a codebook.

As in the first stage of DALL-E (Ramesh et al. 2021, arXiv:2102.12092, section 2.1). The encoder gives a categorical
distribution at each place of the grid. A draw from it has no gradient, so in training it is relaxed to a point of the
simplex (Gumbel-softmax: Jang et al. 2017, arXiv:1611.01144; the concrete distribution: Maddison et al. 2017,
arXiv:1611.00712), which a falling temperature presses into the corners.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count, check_number, check_tensor
from flowlib.systems.autoencoder import Autoencoder
from flowlib.systems.codebook import perplexity


class DiscreteAutoencoder(nn.Module):
    """Images (B, in_channels, H, W) to logits of tokens (B, tokens, H / factor, W / factor), and back from tokens.

    Args:
        tokens: K, the size of the codebook.
        code_channels: the length of its vectors.
        in_channels, channels, factor, depth: those of `Autoencoder`, whose encoder and decoder these are.

    Raises:
        ValueError: for a size that does not fit, naming it.
    """

    def __init__(
        self,
        tokens: int = 64,
        code_channels: int = 16,
        in_channels: int = 1,
        channels: int = 32,
        factor: int = 4,
        depth: int = 1,
    ) -> None:
        super().__init__()
        check_count("tokens", tokens, 2)
        check_count("code_channels", code_channels)
        self.tokens, self.in_channels, self.factor = tokens, in_channels, factor
        self.layers = Autoencoder(in_channels, code_channels, channels, factor, depth)
        self.layers.encoder[-1] = nn.Conv2d(channels, tokens, 1)  # logits where the VAE has means and variances
        self.codebook = nn.Parameter(torch.randn(tokens, code_channels))

    def encode(self, x: Tensor) -> Tensor:
        """The logits of q(token | x) at each place: (B, tokens, h, w).

        Raises:
            ValueError: for images (B, in_channels, H, W) of another shape or dtype; H and W are multiples of factor.
        """
        check_tensor("x", x, finite=False)
        if x.ndim != 4 or x.shape[1] != self.in_channels or x.shape[2] % self.factor or x.shape[3] % self.factor:
            raise ValueError(
                f"x must have shape (batch, {self.in_channels}, H, W) with H and W multiples of {self.factor}, "
                f"got {tuple(x.shape)}"
            )
        return self.layers.encoder(F.pixel_unshuffle(x, self.layers.patch))

    def decode(self, code: Tensor) -> Tensor:
        """Weights over the codebook (B, tokens, h, w), one-hot or relaxed -> images, not clipped to [-1, 1].

        Raises:
            ValueError: for weights of another shape or dtype.
        """
        check_tensor("code", code, finite=False)
        if code.ndim != 4 or code.shape[1] != self.tokens:
            raise ValueError(f"code must have shape (batch, {self.tokens}, h, w), got {tuple(code.shape)}")
        return self.layers.decode(torch.einsum("bkhw,kc->bchw", code, self.codebook.to(code.dtype)))

    def decode_tokens(self, index: Tensor) -> Tensor:
        """Tokens (B, h, w), integers 0 ... tokens - 1 -> images.

        Raises:
            ValueError: for tokens of another shape, dtype or range.
        """
        _check_tokens("index", index, self.tokens)
        if index.ndim != 3:
            raise ValueError(f"index must have shape (batch, h, w), got {tuple(index.shape)}")
        return self.decode(F.one_hot(index.long(), self.tokens).movedim(-1, 1).to(self.codebook.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Images -> their reconstructions from the most probable tokens."""
        return self.decode_tokens(self.encode(x).argmax(1))


def gumbel_noise(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard Gumbel noise, -log E with E ~ Exp(1), shaped like a tensor; drawn on the CPU."""
    return -torch.empty(like.shape).exponential_(generator=generator).log().to(like)


def gumbel_softmax(
    logits: Tensor, temperature: float, *, hard: bool = False, generator: torch.Generator | None = None
) -> Tensor:
    """A relaxed draw softmax((logits + Gumbel noise) / temperature) over axis 1 (Jang et al. 2017, equation 2).

    At every temperature the largest entry is an exact categorical draw, P(argmax = k) = softmax(logits)_k; as the
    temperature goes to 0 the whole vector becomes that draw's one-hot vector.

    Args:
        logits: (B, K, ...).
        temperature: > 0.
        hard: straight-through (ibid., section 2.2): the value is the one-hot vector, the gradient that of the relaxed
            draw.
        generator: the source of the noise, on the CPU.

    Returns:
        shaped like logits, >= 0, with sum 1 over axis 1.

    Raises:
        ValueError: for logits that are no floats, or a temperature that is not positive.
    """
    check_tensor("logits", logits, finite=False)
    check_number("temperature", temperature, 0, low_open=True)
    soft = torch.softmax((logits + gumbel_noise(logits, generator)) / temperature, dim=1)
    if not hard:
        return soft
    corner = torch.zeros_like(soft).scatter_(1, soft.argmax(1, keepdim=True), 1.0)
    return corner + (soft - soft.detach())  # in this order, so that the value is exactly one-hot


def kl_to_uniform(logits: Tensor) -> Tensor:
    """KL(softmax(logits) | uniform) = log K - entropy, in nats, summed over places: (B, K, ...) -> (B,)."""
    log_q = check_tensor("logits", logits, finite=False).log_softmax(1)
    places = log_q[0, 0].numel()
    return places * math.log(logits.shape[1]) + (log_q.exp() * log_q).flatten(1).sum(1)


def dvae_loss(
    dvae: DiscreteAutoencoder,
    x: Tensor,
    *,
    temperature: float,
    kl_weight: float = 0.0,
    hard: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean squared error of the decoded relaxed tokens plus `kl_weight` times the KL term, both per pixel; a scalar.

    The evidence lower bound of `elbo_loss` with a uniform prior on tokens. Its KL term is that of the discrete q, not
    of the relaxed one, so the sum is a bound only as the temperature goes to 0 (Maddison et al. 2017).

    Args:
        dvae: the network.
        x: images (B, in_channels, H, W) in [-1, 1].
        temperature, hard: of `gumbel_softmax`.
        kl_weight: >= 0.
        generator: the source of the Gumbel noise, on the CPU.

    Raises:
        ValueError: for images that do not fit, or a number out of range.
    """
    check_number("kl_weight", kl_weight, 0)
    logits = dvae.encode(x).to(x.dtype)
    code = gumbel_softmax(logits, temperature, hard=hard, generator=generator)
    error = (dvae.decode(code).to(x.dtype) - x).square().mean()
    return error + kl_weight * kl_to_uniform(logits).mean() / x[0].numel()


def annealed_temperature(step: int, steps: int, start: float = 1.0, end: float = 1 / 16) -> float:
    """The temperature at a step: half a cosine from `start` at step 0 to `end` at `steps`, then `end` (Ramesh, A.2)."""
    check_count("step", step, 0)
    check_count("steps", steps)
    for name, value in (("start", start), ("end", end)):
        check_number(name, value, 0, low_open=True)
    return end + (start - end) * (1 + math.cos(math.pi * min(step / steps, 1))) / 2


class CodebookUse(NamedTuple):
    """The share of the codebook that occurs at all, and the perplexity exp(entropy) of its frequencies, in 1 ... K."""

    share: float
    perplexity: float


def codebook_use(index: Tensor, tokens: int) -> CodebookUse:
    """How much of a codebook of `tokens` entries the tokens `index`, integers of any shape, use.

    Raises:
        ValueError: for tokens that are no integers, none, or out of range.
    """
    _check_tokens("index", index, check_count("tokens", tokens))
    return CodebookUse(len(index.unique()) / tokens, perplexity(index, tokens))


def _check_tokens(name: str, index: object, tokens: int) -> None:
    if not isinstance(index, Tensor) or index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise ValueError(f"{name} must be a tensor of integers, got {getattr(index, 'dtype', type(index).__name__)}")
    if not index.numel() or int(index.min()) < 0 or int(index.max()) >= tokens:
        raise ValueError(f"{name} must hold tokens 0 ... {tokens - 1}, got shape {tuple(index.shape)} with others")
