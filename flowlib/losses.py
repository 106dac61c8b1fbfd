"""Losses: flow matching and score matching, for a network that predicts anything.

All of them are one loss. A prediction's error is an error of D = E[z|x] seen through the 2x2 solve,
|p - p*|^2 = (delta / beta)^2 |D - z|^2, so the loss "in" the velocity or the score of a network that predicts something
else is its own squared error times a ratio of determinants.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from flowlib.checks import check_choice, check_number, check_tensor
from flowlib.fields import Model, check_field
from flowlib.known import remember, remembering
from flowlib.paths import in_range
from flowlib.regression import Coupling, drop_guide, optimal_transport, prediction_error
from flowlib.times import TimeSampler, uniform_time

__all__ = [
    "Coupling",
    "drop_guide",
    "flow_matching_loss",
    "optimal_transport",
    "prediction_error",
    "prediction_loss",
    "score_matching_loss",
]


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
        z: data (B, ...), float, finite.
        y: guides (B,), labels or what the network takes; or None for the null guide.
        measure: the kind of prediction in which the error is measured, "data", "noise", "velocity", "score" or "v"; by
            default the kind that the network predicts.
        weighting: a function of time (B,) -> (B,) that multiplies each sample's error; 1 by default.
        dropout: the probability with which each guide is replaced by the null guide, in [0, 1].
        time: draws B times in (0, 1) from a generator; `uniform_time` by default.
        coupling: reorders the noise to pair with z, for instance `optimal_transport`; independent noise by default.
        generator: the source of dropped guides, times and noise, on the CPU; torch's own by default.

    Returns:
        the mean over samples and over components, of shape (); float32 for data in half precision.

    Raises:
        ValueError: for a wrong shape, dtype, label, rate or kind, naming it.

    Example:
        >>> import torch
        >>> from flowlib import Model, prediction_loss
        >>> from flowlib.nets import MLP
        >>> model = Model(MLP(2, classes=3), predicts="data")
        >>> prediction_loss(model, torch.randn(64, 2), torch.randint(3, (64,))).backward()
    """
    check_field(model)
    check_tensor("z", z)
    check_number("dropout", dropout, 0, 1)
    for name, value in (("time", time), ("coupling", coupling), ("weighting", weighting)):
        if value is not None and not callable(value):
            raise ValueError(f"{name} must be a function, got {value!r}")
    with remembering():
        if y is not None:
            model.check_guide(remember(y), z)  # before some of it is dropped
            if model.training and dropout:
                y = remember(drop_guide(model, y, dropout, generator), like=y)
        # Drawn on the CPU so that one seed means one training set of noise on every device; and checked there.
        drawn = remember(time(len(z), generator))
        in_range(drawn)
        wide = torch.promote_types(z.dtype, torch.float32)  # half precision would round times near 1 to 1
        t = remember(drawn.to(z.device, wide), like=drawn)
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
    `prediction_loss`, on its own kind of error.

    Args:
        model: a network with a path. Guides are dropped only in training mode (`model.training`).
        z: data (B, ...), float, finite.
        y: guides (B,), labels or what the network takes; or None for the null guide.
        dropout: the probability with which each guide is replaced by the null guide, in [0, 1].
        weighting: a function of time (B,) -> (B,) that multiplies each sample's error; 1 by default.
        time: draws B times in (0, 1) from a generator; `uniform_time` by default.
        coupling: reorders the noise to pair with z, for instance `optimal_transport`; independent noise by default.
        generator: the source of dropped guides, times and noise, on the CPU; torch's own by default.

    Returns:
        the mean over samples and over components, of shape (); float32 for data in half precision.

    Raises:
        ValueError: for a wrong shape, dtype, label or rate, naming it.

    Example:
        >>> import torch
        >>> from flowlib import Model, flow_matching_loss
        >>> from flowlib.nets import MLP
        >>> model = Model(MLP(2, classes=3))
        >>> flow_matching_loss(model, torch.randn(64, 2), torch.randint(3, (64,))).backward()
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

    A scalar. Whatever the network predicts, the error is that of its score.

    Args:
        model: a network with a path. Guides are dropped only in training mode (`model.training`).
        z: data (B, ...), float, finite.
        y: guides (B,), labels or what the network takes; or None for the null guide.
        dropout: the probability with which each guide is replaced by the null guide, in [0, 1].
        weighting: a function of time (B,) -> (B,) that multiplies each sample's error, or "beta^2", which makes it
            DDPM's simple loss, the error of the noise. Under `torch.ones_like` times near the data drown all others.
        time: draws B times in (0, 1) from a generator; `uniform_time` by default.
        coupling: reorders the noise to pair with z, for instance `optimal_transport`; independent noise by default.
        generator: the source of dropped guides, times and noise, on the CPU; torch's own by default.

    Returns:
        the mean over samples and over components, of shape (); float32 for data in half precision.

    Raises:
        ValueError: for a wrong shape, dtype, label, rate or name of a weighting, naming it.

    Example:
        >>> import torch
        >>> from flowlib import Model, score_matching_loss
        >>> from flowlib.nets import MLP
        >>> model = Model(MLP(2, classes=3), predicts="noise")
        >>> score_matching_loss(model, torch.randn(64, 2), torch.randint(3, (64,))).backward()
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
