"""The schedules that diffusion models were published with, in the time of the library: DDPM's, improved DDPM's, EDM's.

Their papers count from data to noise, in steps or by noise levels; here t = 0 is noise. Not all run from nothing but
noise to nothing but data: of VP a little of the data is left at t = 0, of VE a little noise at t = 1.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowlib.checks import check_number
from flowlib.schedule import Schedule


@dataclass(frozen=True)
class VP(Schedule):
    """The continuous limit of DDPM's linear schedule (Song et al. 2021, appendix C, "VP SDE").

    With s = 1 - t: log alpha = -s^2 (rate_max - rate_min) / 4 - s rate_min / 2 and beta^2 = 1 - alpha^2.
    alpha(0) = 6.6e-3, not 0, as in DDPM; beta' is infinite at t = 1.

    Example:
        >>> import torch
        >>> from flowlib import VP
        >>> VP().alpha(torch.tensor([0.0, 1.0]))
        tensor([0.0066, 1.0000])
    """

    rate_min: float = 0.1
    rate_max: float = 20.0

    def __post_init__(self) -> None:
        check_number("rate_min", self.rate_min, 0, low_open=True)
        check_number("rate_max", self.rate_max, self.rate_min)

    def _log_alpha(self, t: Tensor) -> Tensor:
        s = 1 - t
        return -(s**2) * ((self.rate_max - self.rate_min) / 4) - s * (self.rate_min / 2)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(self._log_alpha(t))

    def beta(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(2 * self._log_alpha(t)))

    def dalpha(self, t: Tensor) -> Tensor:
        rate = self.rate_min + (1 - t) * (self.rate_max - self.rate_min)
        return self.alpha(t) * rate / 2

    def dbeta(self, t: Tensor) -> Tensor:
        return -self.alpha(t) * self.dalpha(t) / self.beta(t)


@dataclass(frozen=True)
class Cosine(Schedule):
    """The cosine schedule of improved DDPM (Nichol & Dhariwal 2021, equation 17), with its offset s = 0.008.

    With theta = (1 - t + s) / (1 + s) pi / 2: alpha = cos(theta) / cos(theta at t = 1) and beta^2 = 1 - alpha^2,
    written as a product of sines because 1 - alpha^2 would cancel near t = 1. beta' is infinite at t = 1.

    Example:
        >>> import torch
        >>> from flowlib import Cosine
        >>> Cosine().alpha(torch.tensor([0.0, 0.5, 1.0]))
        tensor([0.0000, 0.7027, 1.0000])
    """

    offset: float = 0.008

    def __post_init__(self) -> None:
        check_number("offset", self.offset, 0, low_open=True)

    @property
    def _rate(self) -> float:
        return math.pi / 2 / (1 + self.offset)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin(t * self._rate) / math.cos(self.offset * self._rate)

    def beta(self, t: Tensor) -> Tensor:
        s = 1 - t
        product = torch.sin(s * self._rate) * torch.sin((s + 2 * self.offset) * self._rate)
        return torch.sqrt(product) / math.cos(self.offset * self._rate)

    def dalpha(self, t: Tensor) -> Tensor:
        return self._rate * torch.cos(t * self._rate) / math.cos(self.offset * self._rate)

    def dbeta(self, t: Tensor) -> Tensor:
        return -self.alpha(t) * self.dalpha(t) / self.beta(t)


@dataclass(frozen=True)
class VE(Schedule):
    """alpha = 1 and beta from `sigma_max` down to `sigma_min` (Karras et al. 2022, equation 5, "EDM").

    beta = (sigma_max^(1/rho) + t (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho. By its nature it does not start from
    alpha = 0 and beta = 1: a sampler starts from `sigma_max` times standard noise. Noise of `sigma_min` is left at
    t = 1: only `sample_sde`, and `sample_ode` with `denoise_last`, land on E[z|x]. EDM's sampler is Heun's method on
    VE(rho=1) at the times of `flowlib.edm`; VE() at uniform times, with the same levels, is another one.

    Example:
        >>> import torch
        >>> from flowlib import VE
        >>> VE().beta(torch.tensor([0.0, 1.0]))
        tensor([8.0000e+01, 2.0000e-03])
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        check_number("sigma_min", self.sigma_min, 0, low_open=True)
        check_number("sigma_max", self.sigma_max, self.sigma_min, low_open=True)
        check_number("rho", self.rho, 1)

    def _root(self, t: Tensor) -> tuple[Tensor, float]:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return high + t * (low - high), low - high

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def beta(self, t: Tensor) -> Tensor:
        return self._root(t)[0] ** self.rho

    def dalpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def dbeta(self, t: Tensor) -> Tensor:
        root, slope = self._root(t)
        return self.rho * slope * root ** (self.rho - 1)
