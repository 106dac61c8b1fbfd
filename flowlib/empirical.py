"""The exact field of a finite data set, and a field that is one until a time and another from it on.

What flow matching learns on finite data has a closed form: the posterior mean over the data, of which no network has a
smaller training loss. Followed to t = 1 it leads to a training sample and nowhere else (Gu et al. 2023, "On
memorization in diffusion models"). Early on, x may have come from very many of the data, and copies none of them. So
both can be had in turn: the closed form before a time, a network from it on.
"""

import torch
from torch import Tensor

from flowlib.checks import check_count, check_kind, check_labels, check_number, check_tensor
from flowlib.field import check_partner
from flowlib.fields import Field, check_field
from flowlib.known import always, at
from flowlib.paths import GaussianPath, check_path, expand_time


class EmpiricalField(Field):
    """The exact field of data z_1 ... z_N, each as probable as any other: D = sum_i softmax_i(log p_t(x|z_i)) z_i.

    It is `MixtureField(z, std=0, labels=y)` without that one's table of B x N differences: matrix products, in chunks.

    Args:
        z: the data (N, ...), float.
        y: their labels (N,), 0 ... C-1, each of them used; C is the null guide. None: the field takes no guide.
        path: the path; the linear one by default.
        chunk: entries of a table of samples and data that may be made at a time.

    Raises:
        ValueError: naming the argument that does not fit; in methods, at t = 1, where finite data have no density.

    Example:
        >>> field = EmpiricalField(torch.tensor([[-1.0], [1.0]]))
        >>> field.data(torch.tensor([[0.0], [0.5]]), 0.5).flatten()  # tanh(alpha x / beta^2)
        tensor([0.0000, 0.7616])
    """

    predicts = "v"

    def __init__(
        self, z: Tensor, y: Tensor | None = None, path: GaussianPath | None = None, *, chunk: int = 2**24
    ) -> None:
        count = len(check_tensor("z", z))
        self.path, self.shape, self.chunk = check_path(path), tuple(z.shape[1:]), check_count("chunk", chunk)
        flat, self.ranges = z.flatten(1), [(0, count)]
        if y is not None:
            labels = check_labels("y", y, count, count, z.device).long()
            self.null = int(labels.max()) + 1
            if len(labels.unique()) < self.null:
                raise ValueError(f"y must use each of 0 ... {self.null - 1}")
            flat, ends = flat[labels.argsort(stable=True)], labels.bincount().cumsum(0).tolist()
            self.ranges = [*zip([0, *ends[:-1]], ends, strict=True), (0, count)]  # the last one of the null guide
        self.z, self.squares = flat, flat.square().sum(1)

    def determines_at(self, t: float) -> bool:
        return super().determines_at(t) and t < 1

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        """v = alpha eps_hat - beta D, shape (B, ...)."""
        check_tensor("x", x, finite=False)
        if x.shape[1:] != self.shape:
            raise ValueError(f"x must have shape (batch, *{self.shape}), got {tuple(x.shape)}")
        check_kind("x", x, "the data set", self.z)
        time = expand_time(t, x)
        if not always(time, self, "density", lambda t: self.path.schedule.beta(t) > 0):
            raise ValueError("finite data have no density at t = 1: ask for t < 1")
        alpha, beta = (
            level.reshape(-1, 1).expand(len(x), 1) for level in at(time, self.path, "levels", self.path.levels)
        )
        if y is not None:
            self.guide_fits(y, x)
        flat, data = x.flatten(1), torch.empty_like(x.flatten(1))
        labels = None if y is None else y.long()
        for label, (begin, end) in enumerate(self.ranges if labels is not None else self.ranges[-1:]):
            rows = torch.arange(len(x), device=x.device) if labels is None else (labels == label).nonzero().flatten()
            for some in rows.split(max(1, self.chunk // (end - begin))):
                block = slice(begin, end)
                data[some] = self.posterior(flat[some], alpha[some], beta[some], block) @ self.z[block]
        return (alpha * (flat - alpha * data) / beta - beta * data).reshape(x.shape)

    def posterior(self, x: Tensor, alpha: Tensor, beta: Tensor, block: slice) -> Tensor:
        """The weights (B, n) of a block of n of the data, `self.z[block]`, for samples x (B, D) at levels (B, 1)."""
        fit = (alpha * (x @ self.z[block].T) - 0.5 * alpha**2 * self.squares[block]) / beta**2
        return torch.softmax(fit, dim=1)


class Switched(Field):
    """One field before a time, another from it on; both of one path and one null guide.

    Args:
        early: the field for t < time.
        late: the field for t >= time.
        time: in [0, 1].

    Raises:
        ValueError: for fields of two paths, or that do not take the same guides.

    Example:
        >>> early, late = EmpiricalField(torch.zeros(2, 1)), EmpiricalField(torch.ones(2, 1))
        >>> field = Switched(early, late, 0.3)
        >>> field.data(torch.zeros(2, 1), torch.tensor([0.1, 0.9])).flatten()
        tensor([0.0000, 1.0000])
    """

    predicts = "v"

    def __init__(self, early: Field, late: Field, time: float) -> None:
        self.late, self.time = check_field(late), check_number("time", time, 0, 1)
        self.early, self.path, self.null = check_partner("early", early, late), late.path, late.null

    def determines_at(self, t: float) -> bool:
        return (self.early if t < self.time else self.late).determines_at(t)

    def check_guide(self, y: Tensor, x: Tensor) -> Tensor:
        self.early.check_guide(y, x)
        return self.late.check_guide(y, x)

    def null_like(self, y: Tensor) -> Tensor:
        return self.late.null_like(y)

    def without(self, y: Tensor) -> Tensor | None:
        return self.late.without(y)

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        time = expand_time(t, check_tensor("x", x, finite=False))
        if always(time, self, "early", lambda t: t < self.time):
            return self.early.v(x, t, y)
        if always(time, self, "late", lambda t: t >= self.time):
            return self.late.v(x, t, y)
        first = (time.reshape(-1) < self.time).expand(len(x))
        out, times = torch.empty_like(x), time.reshape(-1).expand(len(x))
        for field, rows in ((self.early, first), (self.late, ~first)):
            out[rows] = field.v(x[rows], times[rows], None if y is None else y[rows])
        return out
