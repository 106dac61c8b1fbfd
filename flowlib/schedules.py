"""Schedules: how much signal `alpha(t)` and how much noise `beta(t)` a sample carries at time t.

Every formula is a closed form, the derivatives too. No small constant is added anywhere: where a derivative is infinite
it is returned as infinite, and whoever would need it (`flowlib.paths`, `flowlib.samplers`) says so or steps around it.
Here are those of flow matching, and the names of all; those of diffusion are in `flowlib.diffusion_schedules`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowlib.diffusion_schedules import VE, VP, Cosine
from flowlib.schedule import Schedule


@dataclass(frozen=True)
class Linear(Schedule):
    """alpha = t, beta = 1 - t: straight conditional paths (Lipman et al. 2023, section 4.1, "CondOT").

    Example:
        >>> import torch
        >>> from flowlib import Linear
        >>> Linear().alpha(torch.tensor(0.25)), Linear().beta(torch.tensor(0.25))
        (tensor(0.2500), tensor(0.7500))
    """

    def alpha(self, t: Tensor) -> Tensor:
        return t.clone()

    def beta(self, t: Tensor) -> Tensor:
        return 1 - t

    def dalpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def dbeta(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)


@dataclass(frozen=True)
class Trigonometric(Schedule):
    """alpha = sin(pi t / 2), beta = cos(pi t / 2): a quarter of a circle (Albergo et al. 2023, section 4).

    Example:
        >>> import torch
        >>> from flowlib import Trigonometric
        >>> Trigonometric().beta(torch.tensor([0.0, 0.5, 1.0]))
        tensor([1.0000, 0.7071, 0.0000])
    """

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin(t * (math.pi / 2))

    def beta(self, t: Tensor) -> Tensor:
        # sin of the time that is left, not cos: exactly 0 at t = 1, and accurate to the last bit near it.
        return torch.sin((1 - t) * (math.pi / 2))

    def dalpha(self, t: Tensor) -> Tensor:
        return (math.pi / 2) * torch.cos(t * (math.pi / 2))

    def dbeta(self, t: Tensor) -> Tensor:
        return (-math.pi / 2) * torch.cos((1 - t) * (math.pi / 2))


@dataclass(frozen=True)
class SquareRoot(Schedule):
    """alpha = sqrt(t), beta = sqrt(1 - t): variance preserving, with infinite derivatives at both ends.

    The velocity target alpha' z + beta' eps has infinite variance under uniform times; the v-prediction
    (Salimans & Ho 2022) has not.

    Example:
        >>> import torch
        >>> from flowlib import SquareRoot
        >>> SquareRoot().dalpha(torch.tensor([0.0, 0.25]))
        tensor([inf, 1.])
    """

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sqrt(t)

    def beta(self, t: Tensor) -> Tensor:
        return torch.sqrt(1 - t)

    def dalpha(self, t: Tensor) -> Tensor:
        return 0.5 / torch.sqrt(t)

    def dbeta(self, t: Tensor) -> Tensor:
        return -0.5 / torch.sqrt(1 - t)


SCHEDULES: dict[str, type[Schedule]] = {
    "linear": Linear,
    "trigonometric": Trigonometric,
    "square-root": SquareRoot,
    "vp": VP,
    "cosine": Cosine,
    "ve": VE,
}
