"""A latent model: a flow in the latent space of an autoencoder (Rombach et al. 2022), trained in two stages.

It is a field like any other, whose samples happen to be latents: whatever samples, guides or scores a field does so
here, at the latents' smaller size. `encode` leads in from images, `decode` leads back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from flowlib.checks import check_count, check_number, check_tensor
from flowlib.data import Dataset, Spec
from flowlib.fields import Field, Model
from flowlib.nets import Autoencoder
from flowlib.nets.autoencoder import draw
from flowlib.systems.first_stage import FirstStage, first_stage
from flowlib.systems.flow import FlowSystem
from flowlib.systems.system import Parts, Stage, register
from flowlib.training import Task, Training
from flowlib.training.devices import autocast
from flowlib.training.order import stream


class LatentModel(nn.Module, Field):
    """A field over scaled latents, with the way from images to latents and back.

    Train it with `flow_matching_loss(latent, latent.encode(x), y)`; sample it with
    `latent.decode(sample_ode(latent, noise, y))`, the noise of the latents' shape.

    Args:
        model: the field in latent space: a `Model`, or any other.
        autoencoder: trained already; from here on it is frozen and in evaluation mode.
        scale: latents are the autoencoder's times this; `fit_scale` finds it.

    Raises:
        ValueError: for a scale that is not positive.
    """

    scale: Tensor

    def __init__(self, model: Field, autoencoder: Autoencoder, scale: float = 1.0) -> None:
        super().__init__()
        self.model = model
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.path, self.predicts, self.null = model.path, model.predicts, model.null
        self.register_buffer("scale", torch.tensor(check_number("scale", scale, 0, low_open=True)))

    def train(self, mode: bool = True) -> "LatentModel":
        """Set the mode of the model; the autoencoder stays in evaluation mode."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        return self.model.predict(x, t, y)

    def has_velocity_at(self, t: float) -> bool:
        return self.model.has_velocity_at(t)

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> scaled latents (B, latent_channels, H / factor, W / factor).

        With a generator they are drawn from the encoder's Gaussians, without one they are its means.

        Raises:
            ValueError: for images that do not fit the autoencoder.
        """
        mean, log_variance = self.autoencoder.encode(x)
        return self.scale * (mean if generator is None else draw(mean, log_variance, generator))

    def decode(self, z: Tensor) -> Tensor:
        """Scaled latents -> images, not clipped to [-1, 1]; differentiable in z.

        Raises:
            ValueError: for latents that do not fit the autoencoder.
        """
        return self.autoencoder.decode(z / self.scale)

    def fit_scale(self, images: Tensor, batch_size: int = 500) -> float:
        """Set the scale so that the latents of `images` have standard deviation 1, and return it (ibid., appendix G).

        The whole latent gets one scale, and its mean stays where it is.

        Raises:
            ValueError: for images that do not fit, or whose latents are all the same.
        """
        _, std = latent_statistics(self.autoencoder, images, batch_size)
        if not std > 0:
            raise ValueError("images must differ: their latents have standard deviation 0, which no scale makes 1")
        self.scale.fill_(1 / std)
        return float(self.scale)


@torch.no_grad()
def latent_statistics(autoencoder: Autoencoder, images: Tensor, batch_size: int = 500) -> tuple[float, float]:
    """Mean and standard deviation of the unscaled latents z ~ q(z|x) of many images, over all components together.

    The variance is that of the encoder's means plus the mean of its variances, so that no latent need be drawn.

    Args:
        autoencoder: the encoder's.
        images: (N, C, H, W) in [-1, 1].
        batch_size: images in one call, to bound memory; without effect on the result, up to rounding.

    Raises:
        ValueError: for images that do not fit.
    """
    check_tensor("images", images)
    check_count("batch_size", batch_size)
    count, total, square = 0, 0.0, 0.0
    for batch in images.split(batch_size):
        mean, log_variance = (part.double() for part in autoencoder.encode(batch))
        count += mean.numel()
        total += float(mean.sum())
        square += float((mean**2 + log_variance.exp()).sum())
    return total / count, (square / count - (total / count) ** 2) ** 0.5


@register("latent-flow")
@dataclass(frozen=True, kw_only=True)
class LatentFlowSystem(FlowSystem):
    """A flow of latents: its settings are those of `FlowSystem`, and the first stage's.

    Attributes:
        first_stage: the autoencoder, which is trained before.
    """

    first_stage: FirstStage = field(default_factory=lambda: FirstStage(steps=1000))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dequantise:
            raise ValueError("dequantise must be false with a first stage, whose latents have no bins")
        if not isinstance(self.first_stage, FirstStage):
            raise ValueError(f"first_stage must be a FirstStage, got {self.first_stage!r}")

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        stage = self.first_stage
        if len(spec.shape) != 3 or any(size % stage.factor for size in spec.shape[1:]):
            raise ValueError(f"first_stage with factor {stage.factor} does not take data of shape {spec.shape}")
        sizes = (stage.latent_channels, *(size // stage.factor for size in spec.shape[1:]))
        model = self.model(sizes, spec, parts)
        torch.manual_seed(stream(stage.seed, "autoencoder").initial_seed())
        return LatentModel(model, stage.autoencoder(spec.shape[0]))

    def stages(self, module: nn.Module, data: Dataset, parts: Parts) -> Sequence[Stage]:
        assert isinstance(module, LatentModel)
        first = first_stage(module.autoencoder, self.first_stage, data)
        return [first, Stage("flow", lambda settings: self._second(module, data, settings))]

    def _second(self, module: LatentModel, data: Dataset, settings: Training) -> Task:
        """Learning the latents, each drawn anew from the Gaussian that the frozen encoder gives an image.

        The encoder sees each image once, here, and not in every step. This also sets the scale of the latents.
        """
        module.autoencoder.eval().requires_grad_(False)
        with torch.no_grad(), autocast(settings.precision, data.images.device):
            pairs = [module.autoencoder.encode(images) for images in data.images.split(500)]
            module.fit_scale(data.images[:10_000])
        mean, log_variance = (torch.cat(part).float() for part in zip(*pairs, strict=True))

        def latents(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
            z = module.scale * draw(mean[index], log_variance[index], generator)
            return z, self.guide(data.batch(index), generator)

        assert isinstance(module.model, Model)
        return self.task(module, module.model, latents, len(data), settings)
