"""Improved DDPM: a network that learns the variance of each reverse step (Nichol & Dhariwal 2021, arXiv:2102.09672).

As in `flowlib.systems.ddpm`, k = T is noise, k = 0 data, `t = 1 - k/T`. The cosine chain is `Chain.of(Cosine(), T)`.
The network has twice the data's channels: the noise, so that it is a `Model` like any other, and a share v for each
component, which says where between both fixed variances the logarithm of the step's variance lies. The noise is learned
by L_simple, which does not see the variance, and the variance by the variational bound, which must not move the mean:
that is L_hybrid. L_vlb is the bound alone.
"""

import torch
from torch import Tensor, nn

from flowlib.chains import Chain, LossSecondMoment, decoder_variance, forward, posterior, term_at
from flowlib.chains.ancestral import Step
from flowlib.checks import check_choice, check_number, check_tensor
from flowlib.fields import Field, Model
from flowlib.losses import drop_guide
from flowlib.paths import GaussianPath
from flowlib.times import uniform_time

LOSSES = ("hybrid", "vlb")


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

    def moments(self, x: Tensor, data: Tensor, share: Tensor, k: Step, j: Step) -> tuple[Tensor, Tensor]:
        """Mean and variance of p(x_j|x_k), shaped like x, for D and v: exp(v log large + (1 - v) log small)."""
        mean, small = posterior(self.chain, x, data, k, j)
        large = forward(self.chain, x, k, j)[1]
        small = decoder_variance(self.chain, x, k, j, small, large)
        return mean, torch.exp(torch.lerp(small.log().expand_as(x), large.log().expand_as(x), share))

    def reverse(
        self,
        x: Tensor,
        y: Tensor | None,
        k: Step,
        j: Step,
        field: Field | None = None,
        clip: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of p(x_j|x_k), both shaped like x, of neighbours or strided steps (ibid., equation 19).

        Args:
            x: x_k, shape (B, C, ...); y: guides (B,) or None.
            k, j: 0 <= j < k <= T, each an integer or (B,) integers.
            field: takes the mean from another field, such as this model under guidance; the variance is the model's.
            clip: clamps D to [-clip, clip], as `flowlib.systems.ddim.Clipped` does.
        """
        t = self.chain.time(k)
        noise, share = (part.to(x.dtype) for part in self.both(x, t, y))
        data = self.path.convert(noise, x, t, "noise", "data") if field is None else field.data(x, t, y)
        return self.moments(x, data if clip is None else data.clamp(-clip, clip), share, k, j)


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


def learned_variance(model: Model, importance: bool = False) -> LearnedVariance:
    """A model of twice the data's channels on a chain, made one that learns the variance; perhaps with a resampler."""
    steps = getattr(model.path.schedule, "steps", 1)
    return LearnedVariance(TwoOutputs(model.net), model.path, LossSecondMoment(steps) if importance else None)


def step_losses(
    model: LearnedVariance,
    z: Tensor,
    y: Tensor | None,
    k: Tensor,
    noise: Tensor,
    *,
    detach: bool = True,
    levels: int | None = 256,
) -> tuple[Tensor, Tensor]:
    """The squared error of the noise and the term of the bound in bits/dim, both (B,), of one evaluation.

    Args:
        model: with a learned variance.
        z: data (B, C, ...); y guides (B,) or None.
        k: steps (B,), integers 1 ... T.
        noise: (B, C, ...) standard Gaussian.
        detach: whether the term of the bound moves the variance alone (ibid., section 3.1).
        levels: as in `term_at`.

    Raises:
        ValueError: for an argument that does not fit.
    """
    mean, variance = forward(model.chain, z, k)
    x = mean + variance.sqrt() * noise
    t = model.chain.time(k)
    eps, share = (part.to(z.dtype) for part in model.both(x, t, y))
    data = model.path.convert(eps.detach() if detach else eps, x, t, "noise", "data")
    moments = model.moments(x, data, share, k, k - 1)
    return (eps - noise).square().flatten(1).mean(1), term_at(model.chain, x, z, k, k - 1, *moments, levels=levels)


def variational_loss(
    model: LearnedVariance,
    z: Tensor,
    y: Tensor | None = None,
    *,
    kind: str = "hybrid",
    weight: float = 1e-3,
    levels: int | None = 256,
    dropout: float = 0.1,
    part: slice | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """L_hybrid = L_simple + weight L_vlb, or L_vlb = T E_k L_k in bits/dim without its constant prior; a scalar.

    Steps are drawn by the model's resampler and weighted by 1 / (T p_k), so that the mean does not depend on it; it is
    told their losses. Without a resampler they are uniform and stratified, as in `simple_loss`.

    Args:
        model: with a learned variance. Guides are dropped, and the resampler told, in training mode only.
        z: data (B, C, ...), on the grid of `levels` in [-1, 1]; y guides (B,) or None.
        kind: "hybrid" or "vlb".
        weight: of L_vlb in L_hybrid, >= 0.
        levels: values that a pixel may have; None for data that are no pixels.
        dropout: the probability of the null guide, in [0, 1].
        part: the samples to compute, of a batch whose steps and noise are drawn as a whole; y is then of that part.
        generator: the source of dropped guides, steps and noise, on the CPU.

    Raises:
        ValueError: for an argument that does not fit.
    """
    check_tensor("z", z)
    check_choice("kind", kind, LOSSES)
    check_number("weight", weight, 0)
    check_number("dropout", dropout, 0, 1)
    if y is not None and model.training and dropout:
        y = drop_guide(model, y, dropout, generator)
    chain, mine = model.chain, slice(None) if part is None else part
    if model.resampler is None:
        k = 1 + (uniform_time(len(z), generator).double() * chain.steps).long()
        importance = torch.ones(len(z), dtype=torch.float64)
    else:
        k, importance = model.resampler.sample(len(z), generator)
    noise = torch.randn(z.shape, generator=generator, dtype=z.dtype).to(z.device)
    simple, bound = step_losses(model, z[mine], y, k[mine], noise[mine], detach=kind == "hybrid", levels=levels)
    losses = chain.steps * bound if kind == "vlb" else simple + weight * chain.steps * bound
    if model.resampler is not None and model.training:
        model.resampler.update(k[mine], losses.detach())
    return (losses * importance[mine].to(losses)).mean()
