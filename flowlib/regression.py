"""What the losses are made of: a prediction's error at given times and noise, and how noise and guides are drawn.

Example:
    >>> import torch
    >>> from flowlib import Model
    >>> from flowlib.nets import MLP
    >>> from flowlib.regression import drop_guide, prediction_error
    >>> model, z, y = Model(MLP(2, classes=3)), torch.randn(4, 2), torch.tensor([0, 1, 2, 0])
    >>> drop_guide(model, y, rate=1.0)
    tensor([3, 3, 3, 3])
    >>> prediction_error(model, z, y, torch.full((4,), 0.5), torch.randn(4, 2)).shape
    torch.Size([4])
"""

from collections.abc import Callable

import torch
from torch import Tensor

from flowlib.checks import check_choice, check_labels, check_number, check_tensor
from flowlib.fields import Model
from flowlib.known import remember, remembering
from flowlib.paths import PREDICTIONS, expand_time
from flowlib.precision import double

Coupling = Callable[[Tensor, Tensor], Tensor]  # (noise, data) -> the noise in another order


def optimal_transport(noise: Tensor, z: Tensor, y: Tensor | None = None) -> Tensor:
    """Reorder `noise` to pair with `z` at the least total squared distance (Pooladian et al. 2023; Tong et al. 2024).

    Pairing across labels makes the noise depend on the label, and a guided model then starts from noise that it never
    saw with its label: give the labels, and noise is exchanged within each label only.

    Args:
        noise, z: (B, ...) of one shape. The cost is that of an exact assignment, O(B^3) on the CPU.
        y: (B,) labels, integers, or None.

    Returns:
        (B, ...) a permutation of `noise`: row i belongs to z[i].

    Raises:
        ValueError: for tensors that do not fit, naming them.

    Example:
        >>> import torch
        >>> from flowlib import Model, flow_matching_loss, optimal_transport
        >>> from flowlib.nets import MLP
        >>> model, z, y = Model(MLP(2, classes=3)), torch.randn(64, 2), torch.randint(3, (64,))
        >>> loss = flow_matching_loss(model, z, y, coupling=lambda noise, z: optimal_transport(noise, z, y))
    """
    check_tensor("noise", noise)
    check_tensor("z", z)
    if noise.shape != z.shape:
        raise ValueError(f"noise must have the shape of z, {tuple(z.shape)}, got {tuple(noise.shape)}")
    if y is not None:
        labels = check_labels("y", y, len(z), torch.iinfo(torch.int32).max, z.device).long().cpu()
        order = torch.arange(len(z))
        for label in labels.unique():
            rows = (labels == label).nonzero().flatten()
            at = rows.to(noise.device)
            order[rows] = rows[_assigned(noise[at], z[at])]
        return noise[order.to(noise.device)]
    return noise[_assigned(noise, z).to(noise.device)]


def _assigned(noise: Tensor, z: Tensor) -> Tensor:
    """Which noise goes to each of z, on the CPU."""
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(double(z.flatten(1)), double(noise.flatten(1))) ** 2
    _, column = linear_sum_assignment(cost.detach().cpu().numpy())
    return torch.as_tensor(column)


def drop_guide(model: Model, y: Tensor, rate: float, generator: torch.Generator | None = None) -> Tensor:
    """Return `y` (B, ...) with each guide replaced by the null guide with probability `rate`; `y` itself is kept."""
    check_number("dropout", rate, 0, 1)
    drop = torch.rand(len(y), generator=generator) < rate
    drop = drop.to(y.device).reshape(-1, *[1] * (y.ndim - 1))
    return torch.where(drop, model.null_like(y), model.as_guide(y))


def prediction_error(
    model: Model, z: Tensor, y: Tensor | None, t: Tensor, noise: Tensor, measure: str | None = None
) -> Tensor:
    """Squared error of the network's prediction at given times and noise, the mean over components: (B,).

    Of data in half precision it is computed in float32, and so is x_t: their own numbers hold no time near 1.

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
    dtype, wide = z.dtype, torch.promote_types(z.dtype, torch.float32)
    z, noise = z.to(wide), check_tensor("noise", noise, finite=False).to(wide)
    with remembering():
        remember(t)
        remember(y)
        a, b = model.path.row(model.predicts, expand_time(t, z))
        prediction = model.predict(model.path.sample(z, t, noise).to(dtype), t, y)
    error = (prediction.to(z.dtype) - (a * z + b * noise)).square().flatten(1).mean(1)
    if measure is None or measure == model.predicts:
        return error
    return error * (model.path.delta(measure, t) / model.path.delta(model.predicts, t)) ** 2
