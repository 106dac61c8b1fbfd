"""The variational autoencoder (Kingma & Welling 2014): reconstruct, and keep the code close to a Gaussian.

Example:
    >>> import torch
    >>> from flowlib.recipes import Recipe
    >>> from flowlib.runs import train
    >>> from flowlib.systems import VAESystem
    >>> from flowlib.systems.vae import kl_to_normal
    >>> from flowlib.training import Training
    >>> kl_to_normal(torch.zeros(1, 4), torch.zeros(1, 4)), kl_to_normal(torch.ones(1, 4), torch.zeros(1, 4))
    (tensor([0.]), tensor([2.]))
    >>> system, training = VAESystem(channels=8, kl_weight=0.01), Training(steps=3)
    >>> recipe = Recipe(name="vae", data="digits", system=system, training=training)
    >>> run = train(recipe, "runs/vae", pictures=False)
    >>> run.sample(count=3).shape  # decoded from N(0, I)
    torch.Size([3, 1, 8, 8])
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_number
from flowlib.data import Data
from flowlib.nets import Autoencoder, CodebookAutoencoder
from flowlib.nets.autoencoder import draw
from flowlib.precision import double
from flowlib.systems.autoencoder import AutoencoderSystem
from flowlib.systems.measuring import report_samples
from flowlib.systems.system import Parts, ReportRequest, Row, SampleRequest, Splits, register
from flowlib.training import Turn
from flowlib.training.order import stream


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
        ValueError: for images that do not fit, a weight that is negative; or above 0, if latents are certain.
    """
    check_number("kl_weight", kl_weight, 0)
    mean, log_variance = (part.to(x.dtype) for part in autoencoder.encode(x))
    if kl_weight and (getattr(autoencoder, "certain", False) or isinstance(autoencoder, CodebookAutoencoder)):
        raise ValueError("autoencoder has latents without variance, whose KL term is infinite: kl_weight must be 0")
    reconstruction = autoencoder.decode(draw(mean, log_variance, generator)).to(x.dtype)
    error = (reconstruction - x).square().mean()
    return error + kl_weight * kl_to_normal(mean, log_variance).mean() / x[0].numel() if kl_weight else error


@register("vae")
@dataclass(frozen=True, kw_only=True)
class VAESystem(AutoencoderSystem):
    """A variational autoencoder; other settings as in `AutoencoderSystem`.

    Attributes:
        kl_weight: as in `elbo_loss`.
    """

    certain: ClassVar[bool] = False

    kl_weight: float = 0.03

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("kl_weight", self.kl_weight, 0)

    def loss(self, module: Any, data: Data, turn: Turn) -> Mapping[str, Tensor]:
        x = data.batch(turn.mine)["x"]
        mean, log_variance = (part.to(x.dtype) for part in module.encode(x))
        noise = turn.normal(*mean.shape[1:])
        error = (module.decode(draw(mean, log_variance, noise=noise)).to(x.dtype) - x).square().mean()
        kl = kl_to_normal(mean, log_variance).mean()
        return {"loss": error + self.kl_weight * kl / x[0].numel(), "error": error, "kl_nats": kl}

    @torch.no_grad()
    def sample(self, module: Any, parts: Parts, request: SampleRequest) -> Tensor:
        """Samples (count, *shape) decoded from latents of N(0, I)."""
        sides = [size // self.factor for size in request.spec.shape[1:]]
        z = torch.randn(request.count, self.latent_channels, *sides, generator=stream(request.seed, "noise"))
        z = z.to(next(module.parameters()))
        return torch.cat([module.decode(part) for part in z.split(request.batch_size)]).float()

    @torch.no_grad()
    def report(self, module: nn.Module, data: Splits, parts: Parts, request: ReportRequest) -> Sequence[Row]:
        """Reconstructions with their "rate", the mean KL in nats, and samples from N(0, I)."""
        restored = super().report(module, data, parts, request)
        x = data.test.images[: request.samples].to(next(module.parameters()).device)
        rate = torch.cat([kl_to_normal(*module.encode(part)) for part in x.split(request.batch_size)])  # type: ignore[operator]
        restored[-1]["rate"] = float(double(rate).mean())
        drawn = report_samples(self, module, data, parts, request)
        return [*restored, *({"images": row.pop("samples"), **row} for row in drawn)]
