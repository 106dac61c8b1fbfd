"""The first stage of a latent model (Rombach et al. 2022, section 3.1): an autoencoder trained by several losses.

It is trained as a system of its own, or by a latent system as its first stage.

Example:
    >>> from flowlib.recipes import Recipe
    >>> from flowlib.runs import train
    >>> from flowlib.systems import FirstStage, FirstStageSystem
    >>> from flowlib.training import Training
    >>> system, training = FirstStageSystem(channels=8, adversarial=0.1), Training(steps=3)
    >>> recipe = Recipe(name="first", data="digits", system=system, training=training)
    >>> run = train(recipe, "runs/first", pictures=False)
    >>> sorted(name for name, _ in run.module.named_children())
    ['autoencoder', 'discriminator']
    >>> FirstStage(steps=3, channels=8).batch_size  # of a `LatentFlowSystem`, with its training
    64
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count, check_number
from flowlib.data import Data, Spec
from flowlib.metrics import load_evaluator
from flowlib.nets import Autoencoder, CodebookAutoencoder, PatchDiscriminator, perplexity
from flowlib.precision import double
from flowlib.systems.autoencoder import AutoencoderSystem, check_images_of
from flowlib.systems.perceptual import first_stage_loss, hinge_loss, reconstruct
from flowlib.systems.system import Parts, ReportRequest, Row, Splits, Stage, register
from flowlib.systems.vae import kl_to_normal
from flowlib.training import Player, Task, Training, Turn
from flowlib.training.order import stream


class Rivals(nn.Module):
    """An autoencoder and its discriminator, which are trained together: images -> their reconstructions."""

    def __init__(self, autoencoder: Autoencoder, discriminator: PatchDiscriminator) -> None:
        super().__init__()
        self.autoencoder, self.discriminator = autoencoder, discriminator

    def forward(self, x: Tensor) -> Tensor:
        return self.autoencoder(x)


@dataclass(frozen=True, kw_only=True)
class FirstStageSettings:
    """Sizes and losses of a first stage.

    Attributes:
        latent_channels, channels, factor, depth: the autoencoder's arguments.
        kl_weight: the weight of the KL term, >= 0.
        codebook: vectors of a codebook that quantises the latents, in place of the KL term; 0 for none.
        perceptual: the weight of the distance in the shipped evaluator's features, >= 0; for MNIST's images.
        adversarial: the weight of a patch discriminator's objection, >= 0.
    """

    needs: ClassVar[Mapping[str, tuple[str, object]]] = {"kl_weight": ("codebook", 0)}

    latent_channels: int = 4
    channels: int = 64
    factor: int = 4
    depth: int = 1
    kl_weight: float = 1e-3
    codebook: int = 0
    perceptual: float = 0.0
    adversarial: float = 0.0

    def check(self) -> None:
        for name in ("latent_channels", "channels", "factor", "depth"):
            check_count(name, getattr(self, name))
        check_count("codebook", self.codebook, 0)
        for name in ("kl_weight", "perceptual", "adversarial"):
            check_number(name, getattr(self, name), 0)

    def autoencoder(self, in_channels: int) -> Autoencoder:
        """The untrained autoencoder of images with so many channels."""
        sizes = (in_channels, self.latent_channels, self.channels, self.factor, self.depth)
        return CodebookAutoencoder(*sizes, size=self.codebook) if self.codebook else Autoencoder(*sizes)


@dataclass(frozen=True, kw_only=True)
class FirstStage(FirstStageSettings, Training):
    """The autoencoder that a latent system trains first, on the same data: its sizes, its losses, its training."""

    needs: ClassVar[Mapping[str, tuple[str, object]]] = {**Training.needs, **FirstStageSettings.needs}

    def __post_init__(self) -> None:
        Training.__post_init__(self)
        self.check()


def first_stage(autoencoder: Autoencoder, stage: FirstStage, data: Data) -> Stage:
    """The training of an autoencoder by the losses of `stage`; it ends up with its averaged weights, frozen.

    The rival's first weights follow from the stage's seed.
    """
    autoencoder.requires_grad_(True)
    networks: Autoencoder | Rivals = autoencoder
    if stage.adversarial:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(stage.seed, "discriminator").initial_seed())
            networks = Rivals(autoencoder, PatchDiscriminator(autoencoder.in_channels).to(data.device))

    def finish(trained: nn.Module) -> None:
        state = trained.autoencoder if isinstance(trained, Rivals) else trained
        autoencoder.load_state_dict(state.state_dict())
        autoencoder.eval().requires_grad_(False)

    return Stage("first_stage", first_stage_task(networks, stage, data), stage, finish)


def first_stage_task(module: nn.Module, settings: FirstStageSettings, data: Data) -> Task:
    """Training an autoencoder by the losses of `settings`; with a rival there are two players."""
    evaluator = load_evaluator().to(data.device) if settings.perceptual else None
    autoencoder, rival = (module.autoencoder, module.discriminator) if isinstance(module, Rivals) else (module, None)
    assert isinstance(autoencoder, Autoencoder)
    shape = (settings.latent_channels, *(size // settings.factor for size in data.shape[1:]))

    def loss(turn: Turn) -> Tensor:
        return first_stage_loss(
            autoencoder, data.batch(turn.mine)["x"], kl_weight=settings.kl_weight, perceptual=settings.perceptual,
            evaluator=evaluator, adversarial=settings.adversarial, discriminator=rival, noise=turn.normal(*shape),
        )  # fmt: skip

    def judge(turn: Turn) -> Tensor:
        assert rival is not None
        x, noise = data.batch(turn.mine)["x"], turn.normal(*shape)
        with torch.no_grad():
            restored = reconstruct(autoencoder, x, noise=noise)[0]
        return hinge_loss(rival(x), rival(restored))

    if rival is None:
        return Task(autoencoder, loss, data.count, autoencoder)
    players = [Player(autoencoder, loss, "autoencoder"), Player(rival, judge, "discriminator")]
    return Task(module, players, data.count, autoencoder)


@register("first-stage")
@dataclass(frozen=True, kw_only=True)
class FirstStageSystem(FirstStageSettings, AutoencoderSystem):
    """A first stage by itself, which a latent flow may stand on as its part "autoencoder"."""

    def __post_init__(self) -> None:
        self.check()

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        check_images_of(spec, self.factor)
        autoencoder = self.autoencoder(spec.shape[0])
        return Rivals(autoencoder, PatchDiscriminator(spec.shape[0])) if self.adversarial else autoencoder

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        return [Stage("first_stage", first_stage_task(module, self, data))]

    @torch.no_grad()
    def report(self, module: nn.Module, data: Splits, parts: Parts, request: ReportRequest) -> Sequence[Row]:
        """Reconstructions, with the latent's "rate" in nats, and of a codebook its "perplexity"."""
        rows = list(super().report(module, data, parts, request))
        autoencoder = module.autoencoder if isinstance(module, Rivals) else module
        assert isinstance(autoencoder, Autoencoder)
        x = data.test.images[: request.samples].to(next(module.parameters()).device)
        codes = [autoencoder.encode(part) for part in x.split(request.batch_size)]
        if isinstance(autoencoder, CodebookAutoencoder):
            index = torch.cat([autoencoder.codes.nearest(mean) for mean, _ in codes])
            rate = index[0].numel() * math.log(self.codebook)
            return [*rows[:-1], rows[-1] | {"rate": rate, "perplexity": perplexity(index, self.codebook)}]
        rate = float(double(torch.cat([kl_to_normal(*code) for code in codes])).mean())
        return [*rows[:-1], rows[-1] | {"rate": rate}]
