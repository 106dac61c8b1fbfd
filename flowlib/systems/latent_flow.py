"""Latent diffusion: an autoencoder, then a flow of its latents (Rombach et al. 2022), in two stages.

Example:
    >>> import torch
    >>> from flowlib.recipes import Recipe
    >>> from flowlib.runs import train
    >>> from flowlib.systems import FirstStage, LatentFlowSystem
    >>> from flowlib.training import Training
    >>> stage, sizes = FirstStage(steps=2, channels=8, factor=2), {"channels": [8, 16]}
    >>> system = LatentFlowSystem(first_stage=stage, net="unet", net_args=sizes)
    >>> recipe = Recipe(name="latents", data="digits", system=system, training=Training(steps=2, batch_size=16))
    >>> run = train(recipe, "runs/latents", pictures=False)
    >>> run.noise(2).shape, run.sample(torch.tensor([3, 5]), steps=2).shape  # it flows in latents, and is decoded
    (torch.Size([2, 4, 4, 4]), torch.Size([2, 1, 8, 8]))
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_number
from flowlib.data import Data, Spec
from flowlib.fields import Model
from flowlib.nets import Autoencoder
from flowlib.nets.autoencoder import draw
from flowlib.systems.first_stage import FirstStage, first_stage
from flowlib.systems.flow import FlowSystem
from flowlib.systems.guides import GUIDES
from flowlib.systems.latent import LatentModel, latent_guide
from flowlib.systems.sampling import FlowRequest, sample_flow
from flowlib.systems.system import Parts, Stage, register
from flowlib.training import Task, Training
from flowlib.training.devices import autocast
from flowlib.training.order import stream


@register("latent-flow")
@dataclass(frozen=True, kw_only=True)
class LatentFlowSystem(FlowSystem):
    """A flow of latents: its settings are those of `FlowSystem`, and the first stage's.

    Attributes:
        first_stage: the autoencoder, which is trained before; None for a finished one, the part "autoencoder": a run of
            an autoencoder, or of a latent flow, whose autoencoder it is then.
        latent_std: the standard deviation that latents are scaled to, > 0; 1 is that of the noise.
    """

    stands_on: ClassVar[tuple[str, ...]] = ("autoencoder",)

    first_stage: FirstStage | None = None
    latent_std: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dequantise:
            raise ValueError("dequantise must be false with a first stage, whose latents have no bins")
        if self.first_stage is not None and not isinstance(self.first_stage, FirstStage):
            raise ValueError(f"first_stage must be a FirstStage or None, got {self.first_stage!r}")
        if (self.first_stage is None) != ("autoencoder" in self.parts):
            raise ValueError("first_stage must be given, or a finished one as the part 'autoencoder', and not both")
        check_number("latent_std", self.latent_std, 0, low_open=True)

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        stage, finished = self.first_stage, parts.get("autoencoder")
        sizes: Any = stage if finished is None else getattr(finished, "autoencoder", finished)  # of a latent model
        if not isinstance(sizes, Autoencoder | FirstStage):
            raise ValueError(f"the part 'autoencoder' must hold an Autoencoder of images, got {type(sizes).__name__}")
        if len(spec.shape) != 3 or any(size % sizes.factor for size in spec.shape[1:]):
            raise ValueError(f"first_stage with factor {sizes.factor} does not take data of shape {spec.shape}")
        latent = (sizes.latent_channels, *(size // sizes.factor for size in spec.shape[1:]))
        model = self.model(latent, spec, parts)
        if stage is None:
            assert isinstance(sizes, Autoencoder)
            return LatentModel(model, copy.deepcopy(sizes))
        torch.manual_seed(stream(stage.seed, "autoencoder").initial_seed())
        return LatentModel(model, stage.autoencoder(spec.shape[0]))

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        assert isinstance(module, LatentModel)
        second = Stage("flow", lambda settings: self._second(module, data, settings))
        if self.first_stage is None:
            return [second]
        return [first_stage(module.autoencoder, self.first_stage, data), second]

    @torch.no_grad()
    def reading(self, module: LatentModel, y: Tensor | None) -> Tensor | None:
        """The guide as the flow of latents reads it: an image through the encoder, all else as it is."""
        return latent_guide(module, y) if y is not None and GUIDES[self.guide].image else y

    def sample(self, module: nn.Module, parts: Parts, request: FlowRequest) -> Tensor:
        assert isinstance(module, LatentModel)
        samples = sample_flow(module, replace(request, y=self.reading(module, request.y)), lands=self.lands)
        return self.known(samples, request.y)

    def _second(self, module: LatentModel, data: Data, settings: Training) -> Task:
        """Learning the latents, each drawn anew from the Gaussian that the frozen encoder gives an image.

        The encoder sees each image once, here, and not in every step. This also sets the scale of the latents.
        """
        module.autoencoder.eval().requires_grad_(False)
        data = data.finite()  # whose latents are kept
        with torch.no_grad(), autocast(settings.precision, data.device):
            pairs = [module.autoencoder.encode(images) for images in data.images.split(500)]
            module.fit_scale(data.images[:10_000])
            module.scale.mul_(self.latent_std)
        mean, log_variance = (torch.cat(part).float() for part in zip(*pairs, strict=True))

        def latents(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
            z = module.scale * draw(mean[index], log_variance[index], generator)
            y = self.guide_of(data.batch(index), data.spec, generator)
            return z, self.reading(module, y)

        assert isinstance(module.model, Model)
        return self.task(module, module.model, latents, data.count, settings)
