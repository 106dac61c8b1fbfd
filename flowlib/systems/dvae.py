"""The discrete variational autoencoder: an image becomes a grid of tokens, each one of K vectors of a codebook.

As in the first stage of DALL-E (Ramesh et al. 2021, arXiv:2102.12092, section 2.1). The encoder gives a categorical
distribution at each place of the grid. A draw from it has no gradient, so in training it is relaxed to a point of the
simplex (Gumbel-softmax: Jang et al. 2017, arXiv:1611.01144; the concrete distribution: Maddison et al. 2017,
arXiv:1611.00712), which a falling temperature presses into the corners.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flowlib.checks import check_count, check_flag, check_number, check_tensor
from flowlib.data import Data, Spec
from flowlib.nets import DiscreteAutoencoder, perplexity
from flowlib.nets.discrete import check_tokens
from flowlib.systems.autoencoder import AutoencoderSystem, check_images_of
from flowlib.systems.system import Parts, ReportRequest, Row, SampleRequest, Splits, register
from flowlib.training import Turn
from flowlib.training.order import stream


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


def dvae_loss(
    dvae: DiscreteAutoencoder,
    x: Tensor,
    *,
    temperature: float,
    kl_weight: float = 0.0,
    hard: bool = False,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Mean squared error of the decoded relaxed tokens plus `kl_weight` times the KL term, both per pixel; a scalar.

    The evidence lower bound of `elbo_loss` with a uniform prior on tokens. Its KL term is that of the discrete q, not
    of the relaxed one, so the sum is a bound only as the temperature goes to 0 (Maddison et al. 2017).

    Args:
        dvae: the network.
        x: images (B, in_channels, H, W) in [-1, 1].
        temperature, hard: of `gumbel_softmax`.
        kl_weight: >= 0.
        generator: the source of the Gumbel noise, on the CPU; or `noise`, the numbers themselves.

    Raises:
        ValueError: for images that do not fit, or a number out of range.
    """
    check_number("kl_weight", kl_weight, 0)
    logits = dvae.encode(x).to(x.dtype)
    code = gumbel_softmax(logits, temperature, hard=hard, generator=generator, noise=noise)
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
    check_tokens("index", index, check_count("tokens", tokens))
    return CodebookUse(len(index.unique()) / tokens, perplexity(index, tokens))


@register("dvae")
@dataclass(frozen=True, kw_only=True)
class DVAESystem(AutoencoderSystem):
    """A discrete autoencoder whose temperature falls while it is trained; other settings as in `AutoencoderSystem`.

    Attributes:
        tokens: K, the size of the codebook.
        latent_channels: the length of its vectors.
        kl_weight: as in `dvae_loss`. Without it nothing asks for many tokens to be used.
        start, end: of the temperature, as in `annealed_temperature`.
        hard: as in `gumbel_softmax`.
    """

    tokens: int = 64
    latent_channels: int = 16
    kl_weight: float = 0.1
    start: float = 1.0
    end: float = 1 / 16
    hard: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("tokens", self.tokens, 2)
        check_number("kl_weight", self.kl_weight, 0)
        annealed_temperature(0, 1, self.start, self.end)
        check_flag("hard", self.hard)

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        check_images_of(spec, self.factor)
        sizes = (spec.shape[0], self.channels, self.factor, self.depth)
        return DiscreteAutoencoder(self.tokens, self.latent_channels, *sizes)

    def loss(self, module: Any, data: Data, turn: Turn) -> Mapping[str, Tensor]:
        x = data.batch(turn.mine)["x"]
        places = [size // self.factor for size in x.shape[2:]]
        noise = gumbel_noise(torch.empty(len(turn.index), self.tokens, *places), turn.generator)[turn.part].to(x)
        temperature = annealed_temperature(turn.step, turn.steps, self.start, self.end)
        return {
            "loss": dvae_loss(
                module, x, temperature=temperature, kl_weight=self.kl_weight, hard=self.hard, noise=noise
            ),
            "temperature": torch.tensor(temperature),
        }

    @torch.no_grad()
    def sample(self, module: Any, parts: Parts, request: SampleRequest) -> Tensor:
        """Images (count, *shape) decoded from tokens of the uniform prior."""
        places = [size // self.factor for size in request.spec.shape[1:]]
        generator = stream(request.seed, "tokens")
        index = torch.randint(self.tokens, (request.count, *places), generator=generator).to(module.codebook.device)
        return torch.cat([module.decode_tokens(part) for part in index.split(request.batch_size)]).float()

    @torch.no_grad()
    def report(self, module: nn.Module, data: Splits, parts: Parts, request: ReportRequest) -> Sequence[Row]:
        """Reconstructions from the most probable tokens, the share of the codebook that is used and its perplexity."""
        rows = list(super().report(module, data, parts, request))
        x = data.test.images[: request.samples].to(next(module.parameters()).device)
        index = torch.cat([module.encode(part).argmax(1) for part in x.split(request.batch_size)])  # type: ignore[operator]
        use = codebook_use(index, self.tokens)
        rows[-1] |= {"used": use.share, "perplexity": use.perplexity}
        return rows
