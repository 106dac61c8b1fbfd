"""Gaussian probability paths, and the one 2x2 solve that turns any prediction into any other.

A prediction is `p = a D + b eps_hat` with `D = E[z|x]`, `eps_hat = E[eps|x]` and a row `(a, b)` that depends on time
alone. Together with `x = alpha D + beta eps_hat` that is two equations in two unknowns. Their determinant
`delta = alpha b - beta a` tells everything: how to convert, what each loss weighs, and where a prediction says nothing.

Example:
    >>> import torch
    >>> from flowlib.paths import expand_time
    >>> expand_time(torch.tensor([0.1, 0.9]), torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 1, 1, 1])
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from flowlib.checks import check_choice, check_tensor
from flowlib.consistency import check_schedule
from flowlib.known import always, at, is_so, known_time
from flowlib.schedules import Linear, Schedule

Row = tuple[Tensor, Tensor]

# kind of prediction -> its row (a, b) as a function of the schedule and time
PREDICTIONS: dict[str, Callable[[Schedule, Tensor], Row]] = {
    "data": lambda schedule, t: (torch.ones_like(t), torch.zeros_like(t)),
    "noise": lambda schedule, t: (torch.zeros_like(t), torch.ones_like(t)),
    "velocity": lambda schedule, t: (schedule.dalpha(t), schedule.dbeta(t)),
    "score": lambda schedule, t: (torch.zeros_like(t), -1 / schedule.beta(t)),
    "v": lambda schedule, t: (-schedule.beta(t), schedule.alpha(t)),  # Salimans & Ho 2022, section 4
}


def in_range(t: Tensor) -> bool:
    """Whether all times lie in [0, 1].

    Example:
        >>> import torch
        >>> from flowlib.paths import in_range
        >>> in_range(torch.tensor([0.0, 1.5]))
        False
    """
    return is_so(t, None, "in [0, 1]", lambda: bool(((t >= 0) & (t <= 1)).all()))


def expand_time(t: float | Tensor, x: Tensor) -> Tensor:
    """Time as a tensor that broadcasts over `x`.

    Args:
        t: a number, or a tensor of shape () or (B,), in [0, 1].
        x: (B, ...).

    Returns:
        a tensor of shape () or (B, 1, ..., 1) on x's device, with x's dtype.

    Raises:
        ValueError: if t has another shape or leaves [0, 1].
    """
    if (known := known_time(t, x)) is not None:
        return known
    try:
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
    except (TypeError, RuntimeError):
        raise ValueError(f"t must be a number or a tensor, got {t!r}") from None
    if t.ndim > 1 or (t.ndim == 1 and t.shape[0] != x.shape[0]):
        raise ValueError(f"t must have shape () or ({x.shape[0]},), got {tuple(t.shape)}")
    if not in_range(t):
        raise ValueError(f"t must lie in [0, 1], got values from {t.min().item()} to {t.max().item()}")
    return t if t.ndim == 0 else t.reshape(-1, *[1] * (x.ndim - 1))


class GaussianPath:
    """The conditional path p_t(x|z) = N(alpha_t z, beta_t^2 I) and what follows from it (Lipman et al. 2023, sec. 4).

    Samples `x`, `z` have shape (B, ...); `t` is a number or a tensor of shape () or (B,) in [0, 1]. Where both x and z
    are given, z may also be one data point, for all x.

    Raises:
        ValueError: for a schedule whose derivatives are not its levels'; in methods, for a wrong shape, dtype or range.

    Example:
        >>> import torch
        >>> from flowlib import GaussianPath, Linear
        >>> path, z, noise = GaussianPath(Linear()), torch.ones(1, 2), torch.zeros(1, 2)
        >>> path.sample(z, 0.25, noise)
        tensor([[0.2500, 0.2500]])
        >>> path.convert(z - noise, path.sample(z, 0.25, noise), 0.25, "velocity", "data")
        tensor([[1., 1.]])
    """

    def __init__(self, schedule: Schedule | None = None) -> None:
        if schedule is not None and not isinstance(schedule, Schedule):
            raise ValueError(f"schedule must be a Schedule, got {type(schedule).__name__}")
        self.schedule = Linear() if schedule is None else check_schedule(schedule)

    def __repr__(self) -> str:
        return f"GaussianPath({self.schedule!r})"

    def sample(
        self, z: Tensor, t: float | Tensor, noise: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw x_t = alpha_t z + beta_t eps, with `noise` as eps if it is given."""
        check_tensor("z", z, finite=False)
        if noise is None:
            noise = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=z.device)
        _check_like("noise", noise, "z", z)
        t = expand_time(t, z)
        return self.schedule.alpha(t) * z + self.schedule.beta(t) * noise

    def velocity(self, x: Tensor, z: Tensor, t: float | Tensor) -> Tensor:
        """u_t(x|z) = (alpha' - beta' alpha/beta) z + (beta'/beta) x; a ValueError where beta_t = 0."""
        return self.convert(_one_or_each(z, x), x, t, "data", "velocity")

    def score(self, x: Tensor, z: Tensor, t: float | Tensor) -> Tensor:
        """s_t(x|z) = (alpha z - x) / beta^2; a ValueError where beta_t = 0."""
        return self.convert(_one_or_each(z, x), x, t, "data", "score")

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and beta at times `t` (any shape)."""
        return self.schedule.alpha(t), self.schedule.beta(t)

    def row(self, kind: str, t: Tensor) -> Row:
        """The row (a, b) of a kind of prediction, `p = a D + b eps_hat`, at times `t` (any shape)."""
        check_choice("prediction", kind, PREDICTIONS)
        return PREDICTIONS[kind](self.schedule, t)

    def delta(self, kind: str, t: Tensor) -> Tensor:
        """The determinant alpha b - beta a; an error in the prediction of 1 is an error in D of beta / |delta|."""
        (alpha, beta), (a, b) = self.levels(t), self.row(kind, t)
        return alpha * b - beta * a

    def finite(self, kind: str, t: Tensor) -> Tensor:
        """Where (bool, like t) a kind of prediction is finite itself."""
        a, b = self.row(kind, t)
        return torch.isfinite(a) & torch.isfinite(b)

    def informative(self, kind: str, t: Tensor) -> Tensor:
        """Where (bool, like t) a prediction determines D and eps_hat: a finite row and delta != 0."""
        return self.finite(kind, t) & (self.delta(kind, t) != 0)

    def always(self, what: str, kind: str, t: Tensor) -> bool:
        """Whether a kind is "finite", or "informative", at all of the times t."""
        return always(t, self, (what, kind), partial(getattr(self, what), kind))

    def inverse(self, kind: str, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What x and p are multiplied by to make D, b and -beta, and to make eps_hat, -a and alpha, all over delta."""
        (alpha, beta), (a, b), delta = self.levels(t), self.row(kind, t), self.delta(kind, t)
        return b / delta, -beta / delta, -a / delta, alpha / delta

    def solve(self, prediction: Tensor, x: Tensor, t: float | Tensor, source: str) -> tuple[Tensor, Tensor]:
        """Return `(D, eps_hat)`, the pair that a prediction of kind `source` at `x` stands for.

        A ValueError where the prediction carries no information (noise at t = 0, data at t = 1, score at both).
        """
        t = self._informed(prediction, x, t, source)
        data_x, data_p, noise_x, noise_p = at(t, self, ("inverse", source), partial(self.inverse, source))
        return torch.addcmul(data_x * x, data_p, prediction), torch.addcmul(noise_x * x, noise_p, prediction)

    def convert(self, prediction: Tensor, x: Tensor, t: float | Tensor, source: str, target: str) -> Tensor:
        """Turn a prediction of kind `source` at `x` into the kind `target`.

        Kinds: "data" | "noise" | "velocity" | "score" | "v". Where both are the same, the input itself is returned.

        Raises:
            ValueError: where the source carries no information, or the target is infinite (the velocity or the score at
                an end where the schedule's derivative is infinite or beta = 0).
        """
        check_choice("target", target, PREDICTIONS)
        check_choice("source", source, PREDICTIONS)
        if source == target:
            return prediction
        t = self._informed(prediction, x, t, source)
        if not self.always("finite", target, t):
            raise ValueError(
                f"the {target!r} is infinite at an end of time that was asked for, on {self}: ask for 'data'"
            )
        of_x, of_p, delta = at(t, self, (source, target), partial(self._conversion, source, target))
        return (of_x * x + of_p * prediction) / delta

    def _conversion(self, source: str, target: str, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What x and p are multiplied by, and their sum divided by, to make c D + d eps_hat for the target's (c, d)."""
        (alpha, beta), (a, b), (c, d) = self.levels(t), self.row(source, t), self.row(target, t)
        return c * b - d * a, d * alpha - c * beta, alpha * b - beta * a

    def _informed(self, prediction: Tensor, x: Tensor, t: float | Tensor, source: str) -> Tensor:
        """The times, once the arguments are checked."""
        check_tensor("x", x, finite=False)
        _check_like("prediction", prediction, "x", x)
        t = expand_time(t, x)
        if not self.always("informative", source, t):
            worst = float(t[~self.informative(source, t)][0])
            raise ValueError(
                f"a {source!r} prediction does not determine data and noise at t = {worst} "
                f"on {self}: use 'v', or 'velocity' where the schedule's derivatives are finite"
            )
        return t


def check_path(path: GaussianPath | None) -> GaussianPath:
    """Return `path`, or the linear one for None; a ValueError for anything else."""
    path = GaussianPath() if path is None else path
    if not isinstance(path, GaussianPath):
        raise ValueError(f"path must be a GaussianPath, such as GaussianPath(Linear()); got {type(path).__name__}")
    return path


def _check_like(name: str, value: Tensor, name_like: str, like: Tensor) -> Tensor:
    check_tensor(name, value, finite=False)
    if value.shape != like.shape:
        raise ValueError(f"{name} must have the shape of {name_like}, {tuple(like.shape)}, got {tuple(value.shape)}")
    return value


def _one_or_each(z: Tensor, x: Tensor) -> Tensor:
    check_tensor("x", x, finite=False)
    check_tensor("z", z, finite=False, batch=False)
    if z.shape not in (x.shape, x.shape[1:], (1, *x.shape[1:])):
        raise ValueError(f"z must have the shape of x, {tuple(x.shape)}, or of one sample, got {tuple(z.shape)}")
    return z.expand_as(x)
