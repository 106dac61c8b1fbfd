"""Losses: flow matching and score matching, for a network that predicts anything.

All of them are one loss. A prediction's error is an error of D = E[z|x] seen through the 2x2 solve,
|p - p*|^2 = (delta / beta)^2 |D - z|^2, so the loss "in" the velocity or the score of a network that predicts something
else is its own squared error times a ratio of determinants.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from flowlib.checks import check_choice, check_number, check_tensor
from flowlib.fields import Model
from flowlib.paths import PREDICTIONS, expand_time
from flowlib.times import TimeSampler, uniform_time

Coupling = Callable[[Tensor, Tensor], Tensor]


def optimal_transport(noise: Tensor, z: Tensor) -> Tensor:
    """Reorder `noise` to pair with `z` at the least total squared distance (Pooladian et al. 2023; Tong et al. 2024).

    Args:
        noise, z: (B, ...) of one shape. The cost is that of an exact assignment, O(B^3) on the CPU.

    Returns:
        (B, ...) a permutation of `noise`: row i belongs to z[i].

    Pairing across labels makes the noise depend on the label; a guided model must be coupled within each label.
    """
    from scipy.optimize import linear_sum_assignment

    check_tensor("noise", noise)
    check_tensor("z", z)
    if noise.shape != z.shape:
        raise ValueError(f"noise must have the shape of z, {tuple(z.shape)}, got {tuple(noise.shape)}")
    cost = torch.cdist(z.flatten(1).double(), noise.flatten(1).double()) ** 2
    _, column = linear_sum_assignment(cost.detach().cpu().numpy())
    return noise[torch.as_tensor(column, device=noise.device)]


def drop_guide(model: Model, y: Tensor, rate: float, generator: torch.Generator | None = None) -> Tensor:
    """Return `y` (B, ...) with each guide replaced by the null guide with probability `rate`; `y` itself is kept."""
    check_number("dropout", rate, 0, 1)
    drop = torch.rand(len(y), generator=generator) < rate
    drop = drop.to(y.device).reshape(-1, *[1] * (y.ndim - 1))
    return torch.where(drop, model.null_like(y), y)


def prediction_error(
    model: Model, z: Tensor, y: Tensor | None, t: Tensor, noise: Tensor, measure: str | None = None
) -> Tensor:
    """Squared error of the network's prediction at given times and noise, the mean over components: (B,).

    Args:
        model: a network with a path.
        z: data (B, ...); noise (B, ...) standard Gaussian; t (B,) in (0, 1); y guides (B,) or None.
        measure: the kind of prediction in which the error is measured; by default the kind that the network predicts.

    Raises:
        ValueError: for a wrong shape, dtype, label or kind, naming it.
    """
    check_tensor("z", z, finite=False)
    if measure is not None:
        check_choice("measure", measure, PREDICTIONS)
    a, b = model.path.row(model.predicts, expand_time(t, z))
    prediction = model.predict(model.path.sample(z, t, noise), t, y)
    error = (prediction.to(z.dtype) - (a * z + b * noise)).square().flatten(1).mean(1)
    if measure is None or measure == model.predicts:
        return error
    return error * (model.path.delta(measure, t) / model.path.delta(model.predicts, t)) ** 2


def prediction_loss(
    model: Model,
    z: Tensor,
    y: Tensor | None = None,
    *,
    measure: str | None = None,
    weighting: Callable[[Tensor], Tensor] | None = None,
    dropout: float = 0.1,
    time: TimeSampler = uniform_time,
    coupling: Coupling | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean squared error of the network's prediction at a random time, a scalar: the loss that the others are cases of.

    Args:
        model: a network with a path. Guides are dropped only in training mode (`model.training`).
        z: data (B, ...), float.
        y: guides (B,) or None.
        measure: the kind of prediction in which the error is measured; by default the kind that the network predicts.
        weighting: a function of time (B,) -> (B,) that multiplies each sample's error; 1 by default.
        dropout: the probability of the null guide, in [0, 1].
        time: draws B times in (0, 1) from a generator; `uniform_time` by default.
        coupling: reorders the noise to pair with z, for instance `optimal_transport`.
        generator: the source of times, noise and dropped guides, on the CPU.

    Returns:
        the mean over samples and over components.

    Raises:
        ValueError: for a wrong shape, dtype, label, rate or kind, naming it.
    """
    check_tensor("z", z)
    check_number("dropout", dropout, 0, 1)
    if y is not None:
        model.check_guide(y, z)  # before some of it is dropped
        if model.training and dropout:
            y = drop_guide(model, y, dropout, generator)
    # Drawn on the CPU so that one seed means one training set of noise on every device.
    t = time(len(z), generator).to(z.device, z.dtype)
    noise = torch.randn(z.shape, generator=generator, dtype=z.dtype).to(z.device)
    if coupling is not None:
        noise = coupling(noise, z)
    error = prediction_error(model, z, y, t, noise, measure)
    return error.mean() if weighting is None else (error * weighting(t)).mean()


def flow_matching_loss(
    model: Model,
    z: Tensor,
    y: Tensor | None = None,
    *,
    dropout: float = 0.1,
    weighting: Callable[[Tensor], Tensor] | None = None,
    time: TimeSampler = uniform_time,
    coupling: Coupling | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Conditional flow matching, E |u_theta(x_t, t, y) - u_t(x_t|z)|^2 (Lipman et al. 2023, equation 9), a scalar.

    Whatever the network predicts, the error is that of its velocity. For one that predicts data on the straight path,
    that weighs its own error by 1 / (1 - t)^2, and a few times near 1 drown all others: train such a network by
    `prediction_loss`. Arguments and errors as there.
    """
    return prediction_loss(
        model, z, y, measure="velocity", weighting=weighting, dropout=dropout, time=time, coupling=coupling,
        generator=generator,
    )  # fmt: skip


def score_matching_loss(
    model: Model,
    z: Tensor,
    y: Tensor | None = None,
    *,
    dropout: float = 0.1,
    weighting: Callable[[Tensor], Tensor] | str = "beta^2",
    time: TimeSampler = uniform_time,
    coupling: Coupling | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Denoising score matching, E weighting(t) |s_theta(x_t, t, y) - s_t(x_t|z)|^2 (Vincent 2011; Song et al. 2021).

    A scalar. Whatever the network predicts, the error is that of its score. The weighting "beta^2" makes it DDPM's
    simple loss, the error of the noise; without a weighting (`lambda t: 1`) times near the data drown all others.
    Other arguments and errors as in `prediction_loss`.
    """
    if isinstance(weighting, str):
        check_choice("weighting", weighting, ["beta^2"])
        return prediction_loss(
            model, z, y, measure="noise", dropout=dropout, time=time, coupling=coupling, generator=generator
        )
    return prediction_loss(
        model, z, y, measure="score", weighting=weighting, dropout=dropout, time=time, coupling=coupling,
        generator=generator,
    )  # fmt: skip
