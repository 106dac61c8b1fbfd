"""DDPM as a special case of the core (Ho et al. 2020, arXiv:2006.11239).

The DDPM family counts the other way: k = T is noise, k = 0 data, and `t = 1 - k/T`. A network that predicts the noise
on a chain is a `Model(net, GaussianPath(Chain.linear()), "noise")`, so every sampler and guidance of the core works on
it. What is here is DDPM in its own words: the Gaussians of the chain, its loss, and its ancestral sampler, which on a
grid is `sample_ddim(eta=1)`. All of it works on any field whose path preserves variance, learned or exact.

Example:
    >>> import torch
    >>> from flowlib import GaussianPath, Model, VP
    >>> from flowlib.chains import Chain, reverse, sample_ancestral, simple_loss
    >>> from flowlib.nets import MLP
    >>> chain = Chain.linear(100)
    >>> model, z = Model(MLP(2), GaussianPath(chain), predicts="noise"), torch.randn(8, 2)
    >>> simple_loss(model, z).shape, sample_ancestral(model, z, steps=10).shape
    (torch.Size([]), torch.Size([8, 2]))
    >>> mean, variance = reverse(model, chain, z, None, 50, 49)
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from flowlib.chains.chain import Chain, Steps
from flowlib.chains.gaussians import Step, forward, posterior, step_time
from flowlib.chains.named import grid_time
from flowlib.checks import check_choice
from flowlib.fields import Field, Model, check_field
from flowlib.losses import prediction_loss
from flowlib.requests import Source, guide_of, in_parts, noise_source, prepare, time_steps

__all__ = ["Reverse", "Step", "chain_of", "forward", "posterior", "reverse", "sample_ancestral", "simple_loss"]

Reverse = Callable[[Tensor, Tensor | None, int, int], tuple[Tensor, Tensor]]  # (x_k, y, k, j) -> mean, variance of x_j


def simple_loss(
    model: Model,
    z: Tensor,
    y: Tensor | None = None,
    *,
    dropout: float = 0.1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """L_simple = E |eps - eps_theta(x_k, k)|^2 with k uniform in 1 ... T, a scalar (Ho et al., equation 14).

    It is the core's loss, of the noise, at the grid times of the model's chain.

    Args:
        model: a network on a chain. Guides are dropped only in training mode (`model.training`).
        z: data (B, ...), float, finite.
        y: guides (B,), or None for the null guide.
        dropout: the probability with which each guide is replaced by the null guide, in [0, 1].
        generator: the source of dropped guides, steps and noise, on the CPU.

    Raises:
        ValueError: for a wrong shape, dtype, label or rate, and for a model whose path's schedule is not a `Chain`.
    """
    chain = getattr(getattr(model, "path", None), "schedule", None)
    if not isinstance(chain, Chain):
        raise ValueError(f"model must have a chain for its path, as GaussianPath(Chain.linear()); got {chain!r}")
    return prediction_loss(
        model, z, y, measure="noise", dropout=dropout, time=grid_time(chain.steps), generator=generator
    )


def reverse(
    field: Field, chain: Chain, x: Tensor, y: Tensor | None, k: int, j: int, variance: str = "small"
) -> tuple[Tensor, Tensor]:
    """Mean and variance of the model's p(x_j | x_k): the posterior's mean with D = E[z|x_k] for x_0 (ibid., eq. 11).

    `variance` is fixed: "small", the posterior's, which is right if the data are one point, or "large", that of
    q(x_k | x_j), which is right if the data are standard Gaussian (ibid., section 3.2). What the true reversal has lies
    between these (Sohl-Dickstein et al. 2015). For k = j + 1 they are var_k (1 - abar_(k-1)) / (1 - abar_k) and var_k.

    Args:
        field: whose path has the chain's levels at the grid times.
        chain, x, y, k, j: as in `posterior`, k and j integers; y (B,) or None.

    Raises:
        ValueError: for an argument that does not fit.
    """
    check_choice("variance", variance, ["small", "large"])
    mean, small = posterior(chain, x, field.data(x, step_time(chain, k), y), k, j)
    return mean, small if variance == "small" else forward(chain, x, k, j)[1]


def sample_ancestral(
    field: Field,
    noise: Tensor,
    y: Tensor | None = None,
    *,
    steps: Steps | None = None,
    variance: str | Reverse = "small",
    generator: Source = None,
    trajectory: bool = False,
    batch_size: int | None = None,
    gradients: bool = False,
) -> Tensor:
    """DDPM's sampler: x_j drawn from the model's p(x_j | x_k), down the chain (Ho et al., algorithm 2).

    The last step adds no noise and lands on D. With "small" variance it is `sample_ddim(eta=1)` at the same times.

    Args:
        field: any field on a path that preserves variance. If its schedule is no `Chain`, the chain is that of its
            schedule on `steps` uniform times, 1000 by default.
        noise: (B, ...) standard Gaussian; the start is beta_0 = sqrt(1 - abar_T) of it, as in the core's samplers.
        y: guides (B,), or None for the null guide.
        steps: how many of the chain's T steps to take, evenly spread, or which, from T to 0; all by default.
        variance: "small" or "large", as in `reverse`, or a function (x_k, y, k, j) -> (mean, variance) of x_j, such as
            a network that has learned its variance.
        generator: the source of all new noise, on the CPU; torch's own by default. Or a list with a seed for each
            sample: it then depends on no other sample, nor on which others there are.
        trajectory: return all states (steps + 1, B, ...), the start first, instead of the last (B, ...).
        batch_size: work through the samples so many at a time. Each sample then draws from a generator of its own,
            seeded from `generator` in order: the result does not depend on the split.
        gradients: keep the graph, so that samples can be differentiated in noise, guides and weights; the memory then
            grows with the steps.

    Raises:
        ValueError: naming the argument that does not fit.
    """
    check_field(field)
    chain = chain_of(field, steps if steps is None or isinstance(steps, int) else int(torch.as_tensor(steps).max()))
    stride = chain.stride(chain.steps if steps is None else steps)
    if not callable(variance):
        check_choice("variance", variance, ["small", "large"])
    step: Reverse = variance if callable(variance) else partial(reverse, field, chain, variance=variance)
    with prepare(field, noise, y, 1, chain.time(stride), batch_size) as grid:
        start, draws = noise * field.path.schedule.beta(grid.times[0]), noise_source(noise, generator, batch_size)
        moves = list(pairwise(stride.tolist()))

        def solve(part: slice) -> list[Tensor]:
            x, guide, draw = start[part], guide_of(y, part), draws(part)
            states = [x]
            for i, _, _ in time_steps(grid):
                k, j = moves[i]
                mean, spread = step(x, guide, k, j)
                x = mean + torch.sqrt(spread) * draw() if j else mean
                states = [*states, x] if trajectory else [x]
            return states

        return in_parts(solve, len(noise), batch_size, trajectory, gradients)


def chain_of(field: Field, steps: int | None = None) -> Chain:
    """The chain of a field's path: its own, or that of its schedule on `steps` (1000 by default) uniform times.

    Raises:
        ValueError: for a path that does not preserve variance, on which x_t is not the chain's state.

    Example:
        >>> import torch
        >>> from flowlib import VP, GaussianPath, MixtureField
        >>> from flowlib.chains import chain_of
        >>> chain_of(MixtureField(torch.eye(2), std=0.1, path=GaussianPath(VP())), steps=50).steps
        50
    """
    schedule = field.path.schedule
    if isinstance(schedule, Chain):
        return schedule
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    if float((schedule.alpha(t) ** 2 + schedule.beta(t) ** 2 - 1).abs().max()) > 1e-9:
        raise ValueError(f"field must be on a path that preserves variance, got {field.path}: use sample_ddim(eta=1)")
    return Chain.of(schedule, 1000 if steps is None else steps)
