"""Denoising autoencoders: repair a damaged input, and learn the score of the data on the way.

Vincent et al. 2008 ("Extracting and composing robust features with denoising autoencoders", ICML) train a network to
undo a corruption. With Gaussian corruption the best such network is E[x | x + std eps], and what it adds to its input,
divided by std^2, is the score of the noised data (Vincent 2011, section 4; Alain & Bengio 2014, arXiv:1211.4246): a
diffusion model at a single noise level.

Example:
    >>> import torch
    >>> from flowlib.systems import DenoiserSystem
    >>> from flowlib.systems.denoiser import denoiser_score
    >>> x = torch.tensor([[1.0, -2.0]])
    >>> denoiser_score(lambda x: x / 1.25, x, std=0.5)  # of N(0, 1) with that noise, N(0, 1.25), the score is -x / 1.25
    tensor([[-0.8000,  1.6000]])
    >>> system = DenoiserSystem(std=0.0, masked=0.5)
    >>> damaged = system.corruption()(torch.ones(10_000), torch.Generator().manual_seed(0))
    >>> damaged.unique(), round(float((damaged == -1).float().mean()), 1)
    (tensor([-1.,  1.]), 0.5)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowlib.checks import check_number, check_tensor
from flowlib.data import Data
from flowlib.systems.autoencoder import AutoencoderSystem
from flowlib.systems.system import register
from flowlib.training import Turn

Corruption = Callable[[Tensor, torch.Generator | None], Tensor]


def gaussian_noise(std: float) -> Corruption:
    """The corruption x + std eps, eps standard Gaussian, drawn on the CPU (Vincent 2011, section 4).

    Raises:
        ValueError: for a std that is not positive.
    """
    check_number("std", std, 0, low_open=True)

    def corrupt(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return x + std * torch.randn(x.shape, generator=generator).to(x)

    return corrupt


def masking_noise(share: float, value: float = -1.0) -> Corruption:
    """The corruption that sets each entry to `value` with probability `share` (Vincent et al. 2008, section 2.3).

    Args:
        share: in [0, 1].
        value: what a destroyed entry becomes; -1 is the background of our digits.

    Raises:
        ValueError: for a share outside [0, 1], or a value that is not finite.
    """
    check_number("share", share, 0, 1)
    check_number("value", value)

    def corrupt(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.where((torch.rand(x.shape, generator=generator) < share).to(x.device), value, x)

    return corrupt


def denoising_loss(
    network: Callable[[Tensor], Tensor],
    x: Tensor,
    corruption: Corruption | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean squared error |network(corrupted x) - x|^2 per component, a scalar (Vincent et al. 2008, section 2.3).

    Args:
        network: maps (B, ...) to the same shape, such as an `Autoencoder`.
        x: clean samples (B, ...).
        corruption: draws the corrupted samples; None for a plain autoencoder.
        generator: the source of the corruption, on the CPU.

    Raises:
        ValueError: for samples that are no floats, or a network whose output has another shape.
    """
    check_tensor("x", x, finite=False)
    repaired = network(x if corruption is None else corruption(x, generator)).to(x.dtype)
    if repaired.shape != x.shape:
        raise ValueError(f"network must return the shape of x, {tuple(x.shape)}, got {tuple(repaired.shape)}")
    return (repaired - x).square().mean()


def denoiser_score(network: Callable[[Tensor], Tensor], x: Tensor, std: float) -> Tensor:
    """(network(x) - x) / std^2: the score at x of the data plus noise of that std, if the network is the best denoiser.

    That is Tweedie's formula, E[z|x] = x + std^2 grad log p_std(x), read from right to left (Vincent 2011, section 4;
    Alain & Bengio 2014, theorem 1, for std -> 0).

    Args:
        network: trained with `gaussian_noise(std)`.
        x: noised samples (B, ...).
        std: > 0.

    Returns:
        shaped like x.

    Raises:
        ValueError: for samples that are no floats, or a std that is not positive.
    """
    check_number("std", std, 0, low_open=True)
    check_tensor("x", x, finite=False)
    return (network(x) - x) / std**2


@register("denoiser")
@dataclass(frozen=True, kw_only=True)
class DenoiserSystem(AutoencoderSystem):
    """A denoising autoencoder; other settings as in `AutoencoderSystem`.

    Attributes:
        std: of Gaussian corruption, > 0; or 0 for
        masked: the share of entries set to the background, in (0, 1].
    """

    std: float = 0.5
    masked: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(check_number("std", self.std, 0)) == bool(check_number("masked", self.masked, 0, 1)):
            raise ValueError(f"std or masked must be above 0, and not both; got {self.std} and {self.masked}")

    def corruption(self) -> Corruption:
        """What is done to the input."""
        return gaussian_noise(self.std) if self.std else masking_noise(self.masked)

    def loss(self, module: Any, data: Data, turn: Turn) -> Tensor:
        x = data.batch(turn.index)["x"]
        damaged = self.corruption()(x, turn.generator)[turn.part]  # drawn for the whole batch
        return denoising_loss(module, x[turn.part], lambda _, __: damaged)

    def restore(self, module: Any, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        damaged = self.corruption()(x, generator)
        return damaged, module(damaged)
