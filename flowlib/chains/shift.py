"""ADM's classifier guidance in its own form: the mean of each DDPM step is shifted (Dhariwal & Nichol 2021, section 4).

The DDPM family counts the other way: k = T is noise, k = 0 data, and `t = 1 - k/T`. ADM's network is the one U-Net with
its options as arguments: depth against width (`depth`, `channels`), attention at several sizes (`attention`), heads by
number or width (`heads`, `head_channels`), `biggan` and `adagn`.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from flowlib.chains.ancestral import Reverse, chain_of, reverse
from flowlib.chains.gaussians import forward, step_time
from flowlib.checks import check_choice, check_number
from flowlib.fields import Field, check_field
from flowlib.gradients import differentiable, recorded
from flowlib.known import for_batch
from flowlib.paths import expand_time

LogProb = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def mean_shift(
    field: Field,
    log_prob: LogProb,
    scale: float = 1.0,
    *,
    variance: str | Reverse = "small",
    shift: str = "variance",
    conditional: bool = False,
    steps: int | None = None,
) -> Reverse:
    """The step N(mean + scale shift grad log p(y|x_k), variance), for `sample_ancestral(field, ..., variance=...)`.

    To first order in x_j, p(x_j | x_k) p(y|x_j) is the Gaussian p(x_j | x_k) with its mean moved by variance times
    grad log p(y|x) (Dhariwal & Nichol 2021, equation 10 and algorithm 1). `EnergyGuidance` moves the score instead, and
    so D, and the posterior's mean with D: by v / sqrt(1 - v) times the gradient, v = 1 - abar_k / abar_j. The shifts
    agree in the limit of small steps; with `shift = "score"` they are the same, to the last digit.

    ADM learns its variance: `mean_shift(model, log_prob, w, variance=model.reverse)` of a `LearnedVariance` is its own
    sampler. Each component of the mean then moves by its own variance. On pixels, where D is clipped first, it is
    `variance=partial(model.reverse, clip=1.0)`.

    Args:
        field: whose steps are guided, on a path that preserves variance.
        log_prob: (x (B, ...), t (B,), y (B,) or None) -> (B,), differentiable in x: a classifier of noised data. It is
            asked at x_k and the time of k.
        scale: w; 1 is Bayes' rule. At 0 nothing is guided, and no gradient is taken.
        variance: of the step that is guided, "small" or "large", or a function (x_k, y, k, j) -> (mean, variance) of
            x_j, all as in `sample_ancestral`. Mean and variance are then the function's.
        shift: "variance", the paper's, or "score".
        conditional: whether the field is given y too; by default it is asked for its null guide.
        steps: of the chain, for a field whose schedule is none; as given to `sample_ancestral`.

    Returns:
        (x_k (B, ...), y, k, j) -> mean (B, ...) and variance of x_j.

    Raises:
        ValueError: naming the argument that does not fit; in calls for a `log_prob` whose result is not (B,).

    Example:
        >>> import torch
        >>> from flowlib import VP, GaussianPath, MixtureField
        >>> from flowlib.chains import mean_shift, sample_ancestral
        >>> field = MixtureField(torch.eye(2), std=0.5, path=GaussianPath(VP()))
        >>> log_prob, x = lambda x, t, y: 2 * x.sum(1), torch.randn(4, 2)  # whose gradient is 2 everywhere
        >>> guided, plain = (mean_shift(field, log_prob, scale, steps=20) for scale in (3.0, 0.0))
        >>> mean, variance = guided(x, None, 10, 9)
        >>> torch.allclose(mean - plain(x, None, 10, 9)[0], 3.0 * variance * 2)
        True
        >>> sample_ancestral(field, x, steps=20, variance=guided).shape
        torch.Size([4, 2])
    """
    chain = chain_of(check_field(field), steps)
    check_number("scale", scale)
    if not callable(variance):
        check_choice("variance", variance, ["small", "large"])
    check_choice("shift", shift, ["variance", "score"])
    plain: Reverse = variance if callable(variance) else partial(reverse, field, chain, variance=variance)

    def step(x: Tensor, y: Tensor | None, k: int, j: int) -> tuple[Tensor, Tensor]:
        mean, spread = plain(x, y if conditional else None, k, j)
        if scale == 0:
            return mean, spread
        size = spread
        if shift == "score":
            shrunk, added = forward(chain, torch.ones_like(x), k, j)  # sqrt(1 - v), v
            size = added / shrunk
        with differentiable():
            x = recorded(x.detach()).requires_grad_()
            time = for_batch(expand_time(step_time(chain, k), x), len(x))
            value = log_prob(x, recorded(time), None if y is None else recorded(y))
            if value.shape != (len(x),):
                raise ValueError(f"log_prob must return shape ({len(x)},), got {tuple(value.shape)}")
            gradient = torch.autograd.grad(value.sum(), x)[0]
        return mean + scale * size * gradient, spread

    return step
