"""A model that learns the variance of each reverse step (Nichol & Dhariwal 2021, arXiv:2102.09672, section 3.1).

k = T is noise, k = 0 data, `t = 1 - k/T`. The network has twice the data's channels: the noise, so that it is a `Model`
like any other, and a share v for each component, which says where between both fixed variances the logarithm of the
step's variance lies.

Example:
    >>> import torch
    >>> from flowlib import GaussianPath
    >>> from flowlib.chains import Chain, LearnedVariance, TwoOutputs, sample_ancestral
    >>> from flowlib.nets import UNet
    >>> model = LearnedVariance(TwoOutputs(UNet(2, (8, 16), 1)), GaussianPath(Chain.linear(100)))
    >>> sample_ancestral(model, torch.randn(2, 1, 8, 8), steps=2, variance=model.reverse).shape
    torch.Size([2, 1, 8, 8])
"""

import torch
from torch import Tensor, nn

from flowlib.chains import Chain, LossSecondMoment, decoder_variance, forward, posterior
from flowlib.chains.ancestral import Step
from flowlib.fields import Field, Model
from flowlib.paths import GaussianPath


class LearnedVariance(Model):
    """A model of the noise whose network also says the variance of each reverse step (ibid., equation 15).

    It is a field that predicts the noise: what samples, guides or scores a field does so here and sees nothing of the
    variance. `sample_ancestral(model, noise, variance=model.reverse)` is improved DDPM's sampler.

    Args:
        net: `net(x, t, y)` with x (B, C, ...) -> (B, 2C, ...): the noise, then 2 v - 1, not bounded. `TwoOutputs` makes
            one of any network of this library.
        path: of a chain, `GaussianPath(Chain.of(Cosine(), 1000))`.
        resampler: draws the steps to train at; uniform without one. It is here to be kept with the weights.

    Raises:
        ValueError: for a path without a chain, or a resampler of another T; in its methods, for inputs that do not fit.
    """

    def __init__(self, net: nn.Module, path: GaussianPath, resampler: LossSecondMoment | None = None) -> None:
        super().__init__(net, path, "noise")
        schedule = self.path.schedule
        if not isinstance(schedule, Chain):
            raise ValueError(f"path must be of a chain, as GaussianPath(Chain.linear()); got {path}")
        if resampler is not None and resampler.steps != schedule.steps:
            raise ValueError(f"resampler must have the chain's {schedule.steps} steps, got {resampler.steps}")
        self.chain, self.resampler = schedule, resampler

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        return self.both(x, t, y)[0]

    def both(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """eps_hat and v, both shaped like x, from one evaluation of the network."""
        out = super().predict(x, t, y)
        if out.shape != (len(x), 2 * x.shape[1], *x.shape[2:]):
            raise ValueError(f"net must return twice the channels of x, {tuple(x.shape)}, got {tuple(out.shape)}")
        noise, share = out.chunk(2, dim=1)
        return noise, (share + 1) / 2

    def moments(
        self, x: Tensor, data: Tensor, share: Tensor, k: Step, j: Step, before: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of p(x_j|x_k), shaped like x, for D and v: exp(v log large + (1 - v) log small)."""
        mean, small = posterior(self.chain, x, data, k, j)
        large = forward(self.chain, x, k, j)[1]
        small = decoder_variance(self.chain, x, k, j, small, large, before)
        return mean, torch.exp(torch.lerp(small.log().expand_as(x), large.log().expand_as(x), share))

    def reverse(
        self,
        x: Tensor,
        y: Tensor | None,
        k: Step,
        j: Step,
        field: Field | None = None,
        clip: float | None = None,
        before: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of p(x_j|x_k), both shaped like x, of neighbours or strided steps (ibid., equation 19).

        Args:
            x: x_k, shape (B, C, ...); y: guides (B,) or None.
            k, j: 0 <= j < k <= T, each an integer or (B,) integers.
            field: takes the mean from another field, such as this model under guidance; the variance is the model's.
            before: the step before k, where j = 0 (`decoder_variance`).
            clip: clamps D to [-clip, clip], as `flowlib.systems.ddim.Clipped` does.
        """
        t = self.chain.time(k)
        noise, share = (part.to(x.dtype) for part in self.both(x, t, y))
        data = self.path.convert(noise, x, t, "noise", "data") if field is None else field.data(x, t, y)
        return self.moments(x, data if clip is None else data.clamp(-clip, clip), share, k, j, before)


class TwoOutputs(nn.Module):
    """A network of 2C channels as one from C to 2C channels: it is given x twice.

    Raises:
        ValueError: in a call, by the network, for an x that does not have half its channels.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    @property
    def null(self) -> int | Tensor | None:
        """The network's null guide."""
        return getattr(self.net, "null", None)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.net(torch.cat([x, x], dim=1), t, y)
