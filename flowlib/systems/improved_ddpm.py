"""Improved DDPM: learned variances, trained by the bound (Nichol & Dhariwal 2021, arXiv:2102.09672).

The noise is learned by L_simple, which does not see the variance, and the variance by the variational bound, which must
not move the mean: that is L_hybrid. L_vlb is the bound alone. The cosine chain is `Chain.of(Cosine(), T)`.

Example:
    >>> import torch
    >>> from flowlib.data import load
    >>> from flowlib.systems import ImprovedDDPMSystem
    >>> from flowlib.systems.bits import bound_of_test_set
    >>> digits, system = load("digits", "test"), ImprovedDDPMSystem(net_args={"channels": [8, 16]}, chain=20)
    >>> model = system.build(digits.spec, {}, torch.Generator())
    >>> model.both(torch.zeros(2, 1, 8, 8), 0.5)[1].shape  # where each variance lies between its bounds
    torch.Size([2, 1, 8, 8])
    >>> bound_of_test_set(model, digits, images=5, variance="learned").shape  # the prior's term, and those of 20 steps
    torch.Size([5, 21])
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flowlib.chains import LearnedVariance, LossSecondMoment, TwoOutputs, forward, named_chain, term_at
from flowlib.checks import check_choice, check_count, check_flag, check_number, check_tensor
from flowlib.data import Data, Spec
from flowlib.losses import drop_guide
from flowlib.paths import GaussianPath
from flowlib.schedules import SCHEDULES
from flowlib.systems.guided import Guided
from flowlib.systems.system import Parts, Stage, register
from flowlib.times import uniform_time
from flowlib.training import Task, Turn

LOSSES = ("hybrid", "vlb")


@register("improved-ddpm")
@dataclass(frozen=True, kw_only=True)
class ImprovedDDPMSystem(Guided):
    """A chain whose network predicts the noise and the variance of each step.

    Attributes:
        schedule: "cosine", improved DDPM's own, "vp", DDPM's linear one, or another name in `SCHEDULES`.
        chain: T, the steps of the chain.
        loss: "hybrid" or "vlb".
        importance: whether steps are drawn by the second moment of their losses (ibid., section 3.3).

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    schedule: str = "cosine"
    chain: int = 1000
    loss: str = "hybrid"
    importance: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("schedule", self.schedule, SCHEDULES)
        named_chain(self.schedule, check_count("chain", self.chain))  # which may not exist for so few steps
        check_choice("loss", self.loss, LOSSES)
        check_flag("importance", self.importance)

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        doubled = (2 * spec.shape[0], *spec.shape[1:])
        net = self.network(doubled, spec, parts.get("net"))
        path = GaussianPath(named_chain(self.schedule, self.chain))
        return LearnedVariance(TwoOutputs(net), path, LossSecondMoment(self.chain) if self.importance else None)

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        assert isinstance(module, LearnedVariance)

        def loss(turn: Turn) -> Tensor:
            batch = data.batch(turn.index)
            y = self.guide_of(batch, data.spec, turn.generator)
            guide = None if y is None else drop_guide(module, y, self.dropout, turn.generator)[turn.part]
            return variational_loss(
                module, batch["x"], guide, kind=self.loss, levels=data.levels, dropout=0, part=turn.part,
                generator=turn.generator,
            )  # fmt: skip

        return [Stage("chain", Task(module, loss, data.count, module.net))]


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
