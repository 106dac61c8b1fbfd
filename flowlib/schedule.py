"""What every schedule shares: how much signal `alpha(t)` and how much noise `beta(t)` a sample carries at time t.

Time runs from noise at t = 0 to data at t = 1, and `x_t = alpha(t) z + beta(t) eps`.
"""

from torch import Tensor


class Schedule:
    """Signal level alpha and noise level beta as functions of time.

    Every method takes a float tensor `t` of any shape with values in [0, 1] and returns a tensor of that shape.

    Example:
        >>> import torch
        >>> from flowlib import Linear
        >>> Linear().snr(torch.tensor([0.25, 0.5]))
        tensor([0.1111, 1.0000])
    """

    def alpha(self, t: Tensor) -> Tensor:
        """Signal level, increasing."""
        raise NotImplementedError

    def beta(self, t: Tensor) -> Tensor:
        """Noise level, decreasing."""
        raise NotImplementedError

    def dalpha(self, t: Tensor) -> Tensor:
        """Time derivative of alpha."""
        raise NotImplementedError

    def dbeta(self, t: Tensor) -> Tensor:
        """Time derivative of beta."""
        raise NotImplementedError

    def snr(self, t: Tensor) -> Tensor:
        """Signal-to-noise ratio (alpha / beta)^2, strictly increasing."""
        return (self.alpha(t) / self.beta(t)) ** 2
