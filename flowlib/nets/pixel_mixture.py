"""A network of pixels that knows that their values are few: a mixture of bins for each pixel.

A density of images of 256 values is one of pixels with uniform noise within their bins (`flowlib.dequantise`). Near the
data a perfect denoiser knows where the bins end. A U-Net would have to learn that: steps of 2/255 in its input. Here it
says how likely the values of each pixel are, and the posterior mean under these bins is a formula. In the same spirit
variational diffusion models give their network the Fourier features of such steps (Kingma et al. 2021, appendix C), and
autoregressive ones a mixture for each pixel (Salimans et al. 2017).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flowlib.checks import check_count
from flowlib.nets.unet import UNet

DEEP = 10.0  # so many standard deviations within a bin its ends are out of sight
NARROW = 0.1  # a bin of so many standard deviations to each side is as good as a Gaussian of its variance
GAIN = 4.0  # of the learned logits of a value, so that they move as fast as they have to go far


class PixelMixture(nn.Module):
    """The network net(x, t, y) of the velocity of images on the linear path: (B, C, H, W), (B,), (B,) -> like x.

    x = t z + (1 - t) eps. For each pixel a U-Net gives the weights of a mixture: of `values`, each uniform within its
    bin, and of Gaussians for all between, with their means and widths. The output is the mixture's posterior mean of
    z - eps given x, in closed form, finite at both ends of time. The U-Net sees x and how likely each part of a mixture
    without neighbours is after x. At first the mixture is the same for all pixels.

    Args:
        in_channels: image channels C.
        channels, depth, classes, patch, attention, heads, dim: the U-Net's.
        levels: values of a pixel, evenly spaced from -1 to 1; their bins are 2 / (levels - 1) wide.
        values: those that have a part of the mixture to themselves, in 0 ... levels - 1.
        gaussians: parts for the others.

    Raises:
        ValueError: for a size or value that does not fit, naming it.

    Example:
        >>> import torch
        >>> from flowlib.nets.pixel_mixture import PixelMixture
        >>> net = PixelMixture(1, (8, 16), levels=256, values=(0, 255))
        >>> velocity = net(torch.full((1, 1, 4, 4), -1.0), torch.tensor([1.0]))
        >>> bool((velocity + 1).abs().max() < 1e-5)  # without noise x is z, and so is the best guess of z - eps
        True
    """

    centres: Tensor
    means: Tensor

    def __init__(
        self,
        in_channels: int = 1,
        channels: Sequence[int] = (32, 64),
        depth: int = 1,
        classes: int | None = None,
        patch: int = 2,
        attention: Sequence[int] = (),
        heads: int = 4,
        dim: int = 256,
        levels: int = 256,
        values: Sequence[int] = (0, 255),
        gaussians: int = 2,
    ) -> None:
        super().__init__()
        check_count("levels", levels, 2)
        check_count("gaussians", gaussians)
        if len(set(values)) < max(1, len(values)) or any(check_count("values", v, 0) >= levels for v in values):
            raise ValueError(f"values must be different ones of 0 ... {levels - 1}, at least one, got {tuple(values)}")
        self.in_channels, self.gaussians = check_count("in_channels", in_channels), gaussians
        self.bin_half = 1 / (levels - 1)  # half of a bin's width
        outputs = len(values) + 3 * gaussians
        self.net = UNet(in_channels * outputs, channels, depth, classes, patch, attention, heads, dim)
        self.log_weights = nn.Parameter(torch.zeros(len(values) + gaussians))
        self.register_buffer("centres", 2 * self.bin_half * torch.tensor(list(values)) - 1, persistent=False)
        spread = torch.arange(1, gaussians + 1) / (gaussians + 1)
        self.register_buffer("means", 2 * spread - 1, persistent=False)

    @property
    def null(self) -> int | Tensor | None:
        """The null guide of the U-Net."""
        return self.net.null

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        # A part of the mixture for each index behind the channels: (B, C, parts, H, W).
        pixels, time = x[:, :, None], t.reshape(-1, 1, 1, 1, 1)
        alpha, beta = time, (1 - time).clamp_min(1e-6)
        log_bins, of_bins = bin_posterior(pixels, self.centres.reshape(-1, 1, 1), self.bin_half, alpha, beta)
        parts, weights = len(self.centres), GAIN * self.log_weights.reshape(-1, 1, 1)
        log_wide, _ = gaussian_posterior(pixels, self.means.reshape(-1, 1, 1), torch.full_like(time, 0.5), alpha, beta)
        seen = torch.softmax(weights + torch.cat([log_bins, log_wide], dim=2), dim=2)

        known = torch.cat([pixels / (alpha**2 + beta**2).sqrt(), seen], dim=2)
        room = self.net.in_channels // self.in_channels - known.shape[2]
        known = torch.nn.functional.pad(known, (0, 0, 0, 0, 0, room)).flatten(1, 2)
        # Times near 1 differ in log SNR, 2 logit(t): the U-Net is told that, from -24 to 24 as 0 to 1, as long as the
        # noise is more than a third of a bin's half. After that the formulas alone know what changes.
        late = 1 - math.log(self.bin_half)
        told = torch.special.logit(t, eps=1e-6).clamp(-12, late) / 24 + 0.5
        out = self.net(known, told, y).unflatten(1, (self.in_channels, -1))

        logits, shift, width = out.split([parts + self.gaussians, self.gaussians, self.gaussians], dim=2)
        means = self.means.reshape(-1, 1, 1) + shift
        log_gaussians, of_gaussians = gaussian_posterior(pixels, means, 0.5 * width.exp() + 1e-3, alpha, beta)
        posterior = torch.softmax(weights + logits + torch.cat([log_bins, log_gaussians], dim=2), dim=2)
        return (posterior * torch.cat([of_bins, of_gaussians], dim=2)).sum(2)


def gaussian_posterior(x: Tensor, mean: Tensor, std: Tensor, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """log N(x; alpha mean, alpha^2 std^2 + beta^2), and E[z - eps | x] for z ~ N(mean, std^2), x = alpha z + beta eps.

    Example:
        >>> import torch
        >>> from flowlib.nets.pixel_mixture import gaussian_posterior
        >>> one, half = torch.tensor(1.0), torch.tensor(0.5)
        >>> gaussian_posterior(one, torch.tensor(0.0), one, half, half)[1]  # as much signal as noise in x
        tensor(0.)
    """
    variance, gap = alpha**2 * std**2 + beta**2, x - alpha * mean
    log_density = -0.5 * (gap**2 / variance + variance.log() + math.log(2 * math.pi))
    return log_density, mean + (alpha * std**2 - beta) * gap / variance


def bin_posterior(x: Tensor, centre: Tensor, half: float, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """log p(x), and E[z - eps | x], for z uniform within `half` of `centre` and x = alpha z + beta eps, beta > 0.

    Given x, eps is a Gaussian between u - w and u + w, where u = (x - alpha centre) / beta and w = alpha half / beta.
    With Mills' ratio R(a) = (1 - Phi(a)) / phi(a), A = |u| - w and B = |u| + w, its mass between the two is
    phi(A) [R(A) - R(B) e^(-2|u|w)], and its mean (1 - e^(-2|u|w)) / [R(A) - R(B) e^(-2|u|w)], with the sign of u:
    phi(B) = phi(A) e^(-2|u|w). Nothing here is too small or too large for float32.

    Example:
        >>> import torch
        >>> from flowlib.nets.pixel_mixture import bin_posterior
        >>> log_density, _ = bin_posterior(torch.zeros(1), torch.zeros(1), 0.5, torch.ones(1), torch.full((1,), 1e-3))
        >>> log_density.abs() < 1e-6  # well within a bin of width 1
        tensor([True])
    """
    u, w = (x - alpha * centre) / beta, alpha * half / beta
    narrow = w < NARROW
    size, wide = u.abs(), torch.where(narrow, NARROW, w)
    near = (size - wide).clamp_min(-DEEP)
    fall = (-2 * size * wide).exp()
    between = mills(near) - mills(size + wide) * fall
    noise = u.sign() * (1 - fall) / between
    log_mass = between.log() - 0.5 * (near**2 + math.log(2 * math.pi))
    exact = log_mass - (2 * alpha.clamp_min(1e-6) * half).log(), (x - beta * noise) / alpha.clamp_min(1e-6) - noise
    std = torch.full_like(centre, half / math.sqrt(3))
    usual = gaussian_posterior(x, centre, std, alpha, beta)
    return torch.where(narrow, usual[0], exact[0]), torch.where(narrow, usual[1], exact[1])


def mills(a: Tensor) -> Tensor:
    """Mills' ratio of the standard normal law, (1 - Phi(a)) / phi(a), for a >= -10."""
    return math.sqrt(math.pi / 2) * torch.special.erfcx(a / math.sqrt(2))
