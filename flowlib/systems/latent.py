"""A latent model: a flow in the latent space of an autoencoder (Rombach et al. 2022).

It is a field like any other, whose samples happen to be latents: whatever samples, guides or scores a field does so
here, at the latents' smaller size. `encode` leads in from images, `decode` leads back.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count, check_number, check_tensor
from flowlib.fields import Field
from flowlib.nets import Autoencoder
from flowlib.nets.autoencoder import draw
from flowlib.precision import double


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

    Example:
        >>> import torch
        >>> from flowlib import GaussianPath, Linear, Model
        >>> from flowlib.nets import MLP, Autoencoder
        >>> from flowlib.systems import LatentModel
        >>> latent = LatentModel(Model(MLP(2), GaussianPath(Linear())), Autoencoder(1, 2, 8, factor=4))
        >>> images = torch.rand(100, 1, 8, 8)
        >>> scale = latent.fit_scale(images)
        >>> z = latent.encode(images, torch.Generator().manual_seed(0))
        >>> z.shape, f"{z.std():.1f}", latent.decode(z).shape
        (torch.Size([100, 2, 2, 2]), '1.0', torch.Size([100, 1, 8, 8]))
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

    def determines_at(self, t: float) -> bool:
        return self.model.determines_at(t)

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
        mean, log_variance = (double(part) for part in autoencoder.encode(batch))
        count += mean.numel()
        total += float(mean.sum())
        square += float((mean**2 + log_variance.exp()).sum())
    return total / count, (square / count - (total / count) ** 2) ** 0.5


def latent_guide(latent: LatentModel, guide: Tensor) -> Tensor:
    """A guide for a flow of latents: (B, C + 1, H, W) -> (B, latent_channels + 1, H / factor, W / factor).

    Its image is encoded, holes and all, its mask averaged over the pixels of a latent pixel.

    Raises:
        ValueError: for guides that do not fit the autoencoder.
    """
    check_tensor("guide", guide)
    known = F.avg_pool2d(guide[:, -1:], latent.autoencoder.factor)
    return torch.cat([latent.encode(guide[:, :-1]), known], dim=1)
