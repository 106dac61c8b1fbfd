"""Stable targets: the mean of all data that a noisy sample may have come from (Xu, Tong & Jaakkola 2023).

A loss regresses on the z that x was made of. Early on x hardly says which z that was, so that most of the target is
noise, and most of the gradient too. Let z and some other data of its label be a set, of which any member could have
made x. The mean under the posterior over the set has the same expectation given x as z itself, because before x is
seen no member differs from another: E[mean | x] = E[E[z | x, set] | x] = E[z | x]. So what the network is asked to
learn stays, and the noise shrinks.

Example:
    >>> import torch
    >>> from flowlib import GaussianPath
    >>> from flowlib.stable import stable_target
    >>> z, other = torch.tensor([[1.0]]), torch.tensor([[-1.0]])  # x = 0 may have come from both
    >>> stable_target(GaussianPath(), torch.zeros(1, 1), torch.tensor([0.5]), z, other)
    tensor([[0.]])
"""

import torch
from torch import Tensor

from flowlib.checks import check_count, check_labels, check_number, check_tensor
from flowlib.paths import GaussianPath, expand_time


def stable_target(
    path: GaussianPath,
    x: Tensor,
    t: Tensor,
    z: Tensor,
    references: Tensor,
    same: Tensor | None = None,
    squares: Tensor | None = None,
) -> Tensor:
    """The posterior mean over the set of z and the references, for each x.

    Args:
        path: the path.
        x: noisy samples (B, D), made of `z` (B, D) at times `t` (B,), where beta_t > 0.
        references: other data (N, D).
        same: (B, N) true where a reference is z itself, which then counts once.
        squares: the references' |z|^2 (N,), where they are known.

    Returns:
        (B, D).
    """
    alpha, beta = path.schedule.alpha(t)[:, None], path.schedule.beta(t)[:, None]

    def fit(product: Tensor, square: Tensor) -> Tensor:
        """log p_t(x|z) up to what does not depend on z."""
        return (alpha * product - 0.5 * alpha**2 * square) / beta**2

    squares = references.square().sum(1) if squares is None else squares
    others = fit(x @ references.T, squares)  # (B, N)
    if same is not None:
        others = others.masked_fill(same, -torch.inf)
    own = fit((x * z).sum(1, keepdim=True), z.square().sum(1, keepdim=True))  # (B, 1)
    weights = torch.softmax(torch.cat([own, others], dim=1), dim=1)
    return weights[:, :1] * z + weights[:, 1:] @ references


class StableTargets:
    """Stable targets for batches of a data set, among data of the same label.

    `prediction_error(model, *pair)` with the pair that a call returns, in the place of data and noise, sees the same x
    and regresses on the stable target.

    Args:
        z: all data (N, ...), float.
        y: their labels (N,), 0 ..., or None: then all data are of one kind.
        until: only earlier times, t < until, are given stable targets; later x determines its z anyway. In (0, 1).
        count: references of a batch and label, a block of the data in an order shuffled once, at random anew each time.
        generator: shuffles the data.

    Raises:
        ValueError: for an argument that does not fit, naming it.

    Example:
        >>> import torch
        >>> from flowlib import GaussianPath
        >>> from flowlib.stable import StableTargets
        >>> z, index, noise = torch.randn(100, 2), torch.arange(8), torch.randn(8, 2)
        >>> targets = StableTargets(z)
        >>> data, _ = targets(GaussianPath(), index, z[:8], None, torch.full((8,), 0.1), noise, start=0.0)
        >>> data.shape
        torch.Size([8, 2])
    """

    def __init__(
        self,
        z: Tensor,
        y: Tensor | None = None,
        *,
        until: float = 0.25,
        count: int = 1000,
        generator: torch.Generator | None = None,
    ) -> None:
        check_tensor("z", z)
        self.until = check_number("until", until, 0, 1, low_open=True, high_open=True)
        self.count = check_count("count", count)
        labels = torch.zeros(len(z), dtype=torch.long, device=z.device) if y is None else y
        labels = check_labels("y", labels, len(z), torch.iinfo(torch.int32).max, z.device).long()
        order = torch.randperm(len(z), generator=generator).to(z.device)
        self.order = order[labels[order].argsort(stable=True)]  # shuffled within each label
        self.z = z[self.order].flatten(1)
        self.squares = self.z.square().sum(1)
        ends = labels.bincount().cumsum(0).tolist()
        self.ranges = list(zip([0, *ends[:-1]], ends, strict=True))

    def __call__(
        self,
        path: GaussianPath,
        index: Tensor,
        z: Tensor,
        y: Tensor | None,
        t: Tensor,
        noise: Tensor,
        start: float,
    ) -> tuple[Tensor, Tensor]:
        """The pair (data, noise) of the same x = alpha z + beta noise, data being the stable target.

        Args:
            path: the path.
            index: (B,) which of the data z (B, ...) are.
            y: guides (B,), or None; samples with another guide than a label, such as the null guide, stay as they are.
            t: (B,) in (0, 1). noise: (B, ...).
            start: where in its label's data a block begins, uniform in [0, 1).
        """
        x, data = path.sample(z, t, noise), z.clone()
        early = t < self.until
        with torch.autocast(z.device.type, enabled=False):  # the posterior is sharper than bfloat16
            labels = torch.where(early, 0 if y is None else y.long(), -1).cpu()  # read once, and not for each label
            for label, (begin, end) in enumerate(self.ranges):
                rows = (labels == label).nonzero().flatten().to(z.device, non_blocking=True)
                if not len(rows):
                    continue
                begin += int(start * (max(0, end - begin - self.count) + 1))
                block = slice(begin, min(end, begin + self.count))
                same = self.order[block] == index[rows, None]
                flat = x[rows].flatten(1), t[rows], z[rows].flatten(1), self.z[block]
                data[rows] = stable_target(path, *flat, same, self.squares[block]).view_as(z[rows])
        times = expand_time(t, z)
        alpha, beta = path.schedule.alpha(times), path.schedule.beta(times)
        late = ~early.reshape(times.shape)
        return data, torch.where(late, noise, (x - alpha * data) / beta)
