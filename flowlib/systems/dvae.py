"""The discrete variational autoencoder: an image becomes a grid of tokens, each one of K vectors of a codebook.

As in the first stage of DALL-E (Ramesh et al. 2021, arXiv:2102.12092, section 2.1). The encoder gives a categorical
distribution at each place of the grid, of which a relaxed draw is decoded in training (`flowlib.systems.relaxation`).

Example:
    >>> import torch
    >>> from flowlib.recipes import Recipe
    >>> from flowlib.runs import train
    >>> from flowlib.systems import DVAESystem
    >>> from flowlib.training import Training
    >>> system, training = DVAESystem(tokens=16, channels=8), Training(steps=3)
    >>> recipe = Recipe(name="tokens", data="digits", system=system, training=training)
    >>> run = train(recipe, "runs/tokens", pictures=False)
    >>> run.module.encode(torch.zeros(5, 1, 8, 8)).argmax(1).shape  # an image of 8 x 8 pixels is 2 x 2 tokens of 16
    torch.Size([5, 2, 2])
    >>> run.sample(count=3).shape
    torch.Size([3, 1, 8, 8])
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_choice, check_count, check_flag, check_number
from flowlib.data import Data, Spec
from flowlib.nets import DiscreteAutoencoder
from flowlib.systems.autoencoder import AutoencoderSystem, check_images_of
from flowlib.systems.codebook_use import codebook_use
from flowlib.systems.dvae_loss import dvae_loss
from flowlib.systems.relaxation import annealed_temperature, gumbel_noise, half_cosine
from flowlib.systems.relaxation import gumbel_softmax as gumbel_softmax
from flowlib.systems.system import Parts, ReportRequest, Row, SampleRequest, Splits, Stage, register
from flowlib.systems.token_centres import begin_at_centres
from flowlib.training import Task, Training, Turn
from flowlib.training.order import stream

LIKELIHOODS = ("gaussian", "logit-laplace")


@dataclass(frozen=True, kw_only=True)
class DVAESettings:
    """Sizes and loss of a discrete autoencoder.

    Attributes:
        tokens: K, the size of the codebook.
        latent_channels: the length of its vectors.
        channels, factor, depth: as in `AutoencoderSystem`.
        gain: of the logits before training, > 0. Of many tokens a relaxed draw is decided by its noise unless logits
            differ; a decoder that finds nothing in it learns to ignore it. With `centres`, as in `begin_at_centres`.
        centres: training images in whose patches the tokens begin, as in `begin_at_centres`; 0: at random.
        likelihood: of pixels, "gaussian" (of a fixed variance: squared error) or "logit-laplace".
        kl_weight: as in `dvae_loss`. Without it nothing asks for many tokens to be used.
        kl_rise: the share of the steps over which it rises from 0 to that, in [0, 1].
        scale_floor: at the start, as in `dvae_loss`; it falls with the temperature, to 0. Pixels of one flat colour are
            soon known exactly; their scales, and with them the gradient of all that is not flat, would go to 0.
        start, end: of the temperature, as in `annealed_temperature`.
        cooling: the share of the steps over which it falls, in (0, 1].
        hard: as in `gumbel_softmax`.
    """

    needs: ClassVar[Mapping[str, tuple[str, object]]] = {"kl_rise": ("kl_weight", True)}

    tokens: int = 64
    latent_channels: int = 16
    channels: int = 32
    factor: int = 4
    depth: int = 1
    gain: float = 1.0
    centres: int = 0
    likelihood: str = "gaussian"
    kl_weight: float = 0.1
    kl_rise: float = 0.0
    scale_floor: float = 0.0
    start: float = 1.0
    end: float = 1 / 16
    cooling: float = 1.0
    hard: bool = False

    def check(self) -> None:
        for name in ("latent_channels", "channels", "factor", "depth"):
            check_count(name, getattr(self, name))
        check_count("tokens", self.tokens, 2)
        check_number("gain", self.gain, 0, low_open=True)
        check_count("centres", self.centres, 0)
        check_choice("likelihood", self.likelihood, LIKELIHOODS)
        check_number("kl_weight", self.kl_weight, 0)
        check_number("kl_rise", self.kl_rise, 0, 1)
        check_number("scale_floor", self.scale_floor, 0)
        if self.scale_floor and self.likelihood == "gaussian":
            raise ValueError("scale_floor must be 0 with likelihood 'gaussian', which learns no scale")
        annealed_temperature(0, 1, self.start, self.end)
        check_number("cooling", self.cooling, 0, 1, low_open=True)
        check_flag("hard", self.hard)

    def network(self, spec: Spec) -> DiscreteAutoencoder:
        """The untrained network for data of `spec`; a ValueError if it does not take them."""
        check_images_of(spec, self.factor)
        sizes = (spec.shape[0], self.channels, self.factor, self.depth)
        made = DiscreteAutoencoder(
            self.tokens, self.latent_channels, *sizes, law=self.likelihood == "logit-laplace", centred=self.centres > 0
        )
        with torch.no_grad():
            made.layers.encoder[-1].weight.mul_(self.gain)  # type: ignore[operator]
        return made

    def begin(self, dvae: DiscreteAutoencoder, data: Data, seed: int) -> None:
        """Put the tokens of an untrained network where their training begins, if that is told by the data."""
        if self.centres:
            count = self.centres if data.count is None else min(self.centres, data.count)
            begin_at_centres(dvae, data.batch(torch.arange(count))["x"], self.gain, stream(seed, "centres"))

    def loss(self, module: Any, data: Data, turn: Turn) -> Mapping[str, Tensor]:
        """The loss of a turn, and the temperature that it was computed at."""
        x = data.batch(turn.mine)["x"]
        places = [size // self.factor for size in x.shape[2:]]
        noise = gumbel_noise(torch.empty(len(turn.index), self.tokens, *places), turn.generator)[turn.part].to(x)
        cooling = max(1, round(self.cooling * turn.steps))
        temperature = annealed_temperature(turn.step, cooling, self.start, self.end)
        floor = half_cosine(turn.step / cooling, self.scale_floor, 0.0)
        risen = 1.0 if not self.kl_rise else half_cosine(turn.step / (self.kl_rise * turn.steps), 0.0, 1.0)
        value = dvae_loss(
            module, x, temperature=temperature, kl_weight=risen * self.kl_weight, scale_floor=floor,
            hard=self.hard, noise=noise, levels=data.levels,
        )  # fmt: skip
        return {"loss": value, "temperature": torch.tensor(temperature)}


@dataclass(frozen=True, kw_only=True)
class DVAEStage(DVAESettings, Training):
    """The discrete autoencoder that a system trains first, on the same data: its sizes, its loss, its training."""

    needs: ClassVar[Mapping[str, tuple[str, object]]] = {**Training.needs, **DVAESettings.needs}

    def __post_init__(self) -> None:
        Training.__post_init__(self)
        self.check()

    def stage(self, dvae: DiscreteAutoencoder, data: Data) -> Stage:
        """The training of a network, which ends up with its averaged weights, frozen."""
        dvae.requires_grad_(True)
        self.begin(dvae, data, self.seed)

        def finish(trained: nn.Module) -> None:
            dvae.load_state_dict(trained.state_dict())
            dvae.eval().requires_grad_(False)

        return Stage("dvae", Task(dvae, lambda turn: self.loss(dvae, data, turn), data.count, dvae), self, finish)


@register("dvae")
@dataclass(frozen=True, kw_only=True)
class DVAESystem(DVAESettings, AutoencoderSystem):
    """A discrete autoencoder whose temperature falls while it is trained."""

    def __post_init__(self) -> None:
        self.check()

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        return self.network(spec)

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        self.begin(module, data, 0)  # type: ignore[arg-type]
        return super().stages(module, data, parts)

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
