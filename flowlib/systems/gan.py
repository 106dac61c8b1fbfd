"""Generative adversarial networks (Goodfellow et al. 2014, arXiv:1406.2661): a generator against a discriminator.

One network turns noise into samples, the other tells them from data; each learns from the other's mistakes. One call of
the generator is a sample, and there is no likelihood: what the generator never makes costs it nothing directly.

Example:
    >>> import torch
    >>> from flowlib.recipes import Recipe
    >>> from flowlib.runs import train
    >>> from flowlib.systems import GAN, GANSystem
    >>> from flowlib.training import Training
    >>> system, training = GANSystem(channels=16), Training(steps=3, betas=(0.0, 0.99))
    >>> recipe = Recipe(name="game", data="digits", system=system, training=training)
    >>> run = train(recipe, "runs/game", pictures=False)
    >>> images = run.sample(torch.arange(10))  # one call of the generator
    >>> isinstance(run.module, GAN), images.shape, run.module.discriminator(images, torch.arange(10)).shape
    (True, torch.Size([10, 1, 8, 8]), torch.Size([10]))
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count, check_flag, check_number
from flowlib.data import Data, Dataset, Spec
from flowlib.nets import ConvDiscriminator, ConvGenerator, PointDiscriminator, PointGenerator
from flowlib.systems.guides import choose_labels
from flowlib.systems.measuring import report_samples
from flowlib.systems.system import Parts, ReportRequest, Row, SampleRequest, Splits, Stage, register
from flowlib.training import Player, Task, Turn
from flowlib.training.order import stream


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(G(noise))) in nats, a scalar, with D = sigmoid(logit) (Goodfellow et al., equation 1).

    At the best discriminator, whose logit is log p_data - log p_model, it is 2 log 2 - 2 JS(p_data, p_model).
    """
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor, *, saturating: bool = False) -> Tensor:
    """-E log D(G(noise)), the non-saturating loss, in nats, a scalar (Goodfellow et al. 2014, section 3).

    `saturating`: E log(1 - D(G(noise))), the game's own, whose gradient in a logit, -D, vanishes where D is sure.
    """
    return -F.softplus(fake).mean() if saturating else F.softplus(-fake).mean()


def r1_penalty(discriminator: Callable[..., Tensor], x: Tensor, y: Tensor | None = None) -> Tensor:
    """E |grad_x logit|^2 at data x (B, ...), a scalar, differentiable (Mescheder et al. 2018, arXiv:1801.04406, eq. 9).

    The loss takes gamma / 2 of it.
    """
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(discriminator(x, y).sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(1).mean()


class GAN(nn.Module):
    """A generator, `maker`, and its discriminator."""

    def __init__(self, maker: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.maker, self.discriminator = maker, discriminator


@register("gan")
@dataclass(frozen=True, kw_only=True)
class GANSystem:
    """A generator against a discriminator, of images or of points.

    In each step the discriminator moves, then the generator (Goodfellow et al. 2014, algorithm 1).

    Attributes:
        noise_dim: length of the noise.
        channels: width of both networks: of images at their full size, of points in each layer.
        guided: whether both are given the labels.
        r1: gamma of the gradient penalty, >= 0.
        saturating: whether the generator descends the game's own loss, as in `generator_loss`.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    stands_on: ClassVar[tuple[str, ...]] = ()

    noise_dim: int = 32
    channels: int = 32
    guided: bool = True
    r1: float = 0.1
    saturating: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_count("noise_dim", self.noise_dim)
        check_count("channels", self.channels)
        check_flag("guided", self.guided)
        check_number("r1", self.r1, 0)
        check_flag("saturating", self.saturating)

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        if self.guided and not spec.classes:
            raise ValueError("guided must be false for data without labels")
        classes = spec.classes if self.guided else None
        if len(spec.shape) == 1:
            size = spec.shape[0]
            points = PointGenerator(size, self.noise_dim, self.channels, classes)
            return GAN(points, PointDiscriminator(size, self.channels, classes))
        channels, height, width = spec.shape
        if height != width:
            raise ValueError(f"a GAN makes square images, got data of shape {spec.shape}")
        maker = ConvGenerator(height, channels, self.noise_dim, self.channels, classes)
        return GAN(maker, ConvDiscriminator(height, channels, self.channels, classes))

    def stages(self, module: Any, data: Data, parts: Parts) -> Sequence[Stage]:
        maker, judge = module.maker, module.discriminator

        def batch(turn: Turn) -> tuple[Tensor, Tensor | None, Tensor]:
            batch = data.batch(turn.mine)
            x = batch["x"]
            return x, batch["label"] if self.guided else None, turn.normal(self.noise_dim).to(x)

        def tell(turn: Turn) -> dict[str, Tensor]:
            x, y, noise = batch(turn)
            with torch.no_grad():
                fake = maker(noise, y)
            told = discriminator_loss(judge(x, y), judge(fake, y))
            penalty = 0.5 * self.r1 * r1_penalty(judge, x, y) if self.r1 else torch.zeros_like(told)
            return {"loss": told + penalty, "penalty": penalty}

        def make(turn: Turn) -> Tensor:
            _, y, noise = batch(turn)
            return generator_loss(judge(maker(noise, y), y), saturating=self.saturating)

        players = [Player(judge, tell, "discriminator"), Player(maker, make, "generator")]
        return [Stage("game", Task(module, players, data.count))]

    def guides(
        self, spec: Spec, labels: Sequence[int], count: int | None, data: Callable[[], Dataset]
    ) -> Tensor | None:
        """The labels to sample, in equal shares and in order; none for a GAN without labels."""
        return choose_labels(spec, labels, count) if self.guided else None

    @torch.no_grad()
    def sample(self, module: Any, parts: Parts, request: SampleRequest) -> Tensor:
        """Samples (count, *shape), one call of the generator each."""
        if self.guided and request.y is None:
            raise ValueError("y must be given: a GAN knows no null guide")
        noise = torch.randn(request.count, self.noise_dim, generator=stream(request.seed, "noise"))
        noise, y, size = noise.to(next(module.parameters())), request.y, request.batch_size
        parts_of_y = [None] * len(noise) if y is None else y.split(size)
        made = [module.maker(part, guide) for part, guide in zip(noise.split(size), parts_of_y, strict=False)]
        return torch.cat(made).float()

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: ReportRequest) -> Sequence[Row]:
        return report_samples(self, module, data, parts, request, labelled=self.guided)
