"""Fields: anything with a velocity u_t(x|y) and a score s_t(x|y), learned or known exactly.

A field has to say one thing: its `predict(x, t, y)`, and of which kind that prediction is. Velocity, score, E[z|x] and
E[eps|x] follow from the 2x2 solve of `flowlib.paths`. Samplers, guidance and likelihood use nothing else, so that each
is first seen to be right on `MixtureField`, which is exact, and then used on a `Model`, which was learned.
"""

import torch
from torch import Tensor, nn

from flowlib.checks import check_choice, check_count, check_kind, check_labels, check_tensor
from flowlib.paths import PREDICTIONS, GaussianPath, check_path, expand_time


class Field:
    """What every field shares. Subclasses set `path`, `predicts` and `null`, and implement `predict`.

    Arguments of all methods: `x` (B, ...) float; `t` a number or a tensor () or (B,) in [0, 1]; `y` (B,) integer labels
    (or what the network takes as its guide); `y = None` is the null guide: no condition. A sample that has become NaN
    or infinite stays so, and disturbs no other.
    """

    path: GaussianPath
    predicts: str
    null: int | Tensor | None = None  # the guide that means "no condition"; None: the field takes no guide at all

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        """The field's own prediction, of the kind `self.predicts`, shaped like x."""
        raise NotImplementedError

    def _as(self, kind: str, x: Tensor, t: float | Tensor, y: Tensor | None) -> Tensor:
        return self.path.convert(self.predict(x, t, y), x, t, self.predicts, kind)

    def u(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        """Velocity u_t(x|y)."""
        return self._as("velocity", x, t, y)

    def s(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        """Score s_t(x|y) = grad log p_t(x|y)."""
        return self._as("score", x, t, y)

    def data(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        """D = E[z|x, y], the denoised sample."""
        return self._as("data", x, t, y)

    def noise(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        """eps_hat = E[eps|x, y]."""
        return self._as("noise", x, t, y)

    def pair(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`(D, eps_hat)` from one evaluation."""
        return self.path.solve(self.predict(x, t, y), x, t, self.predicts)

    def has_velocity_at(self, t: float) -> bool:
        """Whether `u` can be asked for at this time; at the ends some predictions and schedules have no finite one."""
        time = torch.tensor(t, dtype=torch.float64)
        finite = all(bool(torch.isfinite(part)) for part in self.path.row("velocity", time))
        return self.predicts == "velocity" or (finite and bool(self.path.informative(self.predicts, time)))

    def check_guide(self, y: Tensor, x: Tensor) -> Tensor:
        """Return `y` if it is one guide for each sample of `x`; a ValueError if not, or if the field takes no guide."""
        if self.null is None:
            raise ValueError("y was given, but this field takes no guide")
        if isinstance(self.null, int):
            return check_labels("y", y, len(x), self.null, x.device)
        if not isinstance(y, Tensor) or y.ndim == 0 or len(y) != len(x):
            raise ValueError(f"y must be a tensor with one guide a sample, {len(x)}, got {y!r}")
        return y

    def null_like(self, y: Tensor) -> Tensor:
        """A batch of null guides, shaped like `y`; a ValueError if the field takes no guide."""
        if self.null is None:
            raise ValueError("y was given, but this field takes no guide")
        return torch.as_tensor(self.null, dtype=y.dtype, device=y.device).expand_as(y)


class Model(nn.Module, Field):
    """A network and the path it was trained on.

    Args:
        net: `net(x, t, y)` -> like x, with x (B, ...), t (B,), y (B,). `net.null` is its null label, the number of
            classes, or for guides that are tensors the null one; a network without it is called with y = None.
        path: the path; the linear one by default.
        predicts: what the network's output means: "data" | "noise" | "velocity" | "score" | "v".

    Raises:
        ValueError: for an unknown prediction, and in its methods for inputs that do not fit, naming the argument.
    """

    def __init__(self, net: nn.Module, path: GaussianPath | None = None, predicts: str = "velocity") -> None:
        super().__init__()
        self.net = net
        self.path = check_path(path)
        self.predicts = check_choice("predicts", predicts, PREDICTIONS)
        self.null = getattr(net, "null", None)

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        check_tensor("x", x, finite=False)
        check_kind("x", x, "the network", next(self.net.parameters(), x))
        time = expand_time(t, x).reshape(-1).expand(x.shape[0])
        if y is not None:
            self.check_guide(y, x)
        elif isinstance(self.null, Tensor):
            y = self.null.to(x.device).expand(len(x), *self.null.shape)
        elif self.null is not None:
            y = torch.full((x.shape[0],), int(self.null), device=x.device)
        return self.net(x, time, y)


class MixtureField(Field):
    """The exact field when the data are a Gaussian mixture, sum_k weight_k N(mean_k, std_k^2 I).

    x_t is then a mixture too, with means alpha mean_k and variances alpha^2 std_k^2 + beta^2, and every conditional
    expectation is a posterior-weighted sum. `std = 0` makes the data a finite set of points.

    Args:
        means: (K, ...) float; the component means, with the shape of a sample behind K.
        std: a number or (K,), >= 0; the standard deviation of each component.
        weights: (K,) positive, normalised here; uniform by default.
        labels: (K,) integers 0 ... C-1, the guide that each component answers to; by default its own index.
        path: the path; the linear one by default.

    Raises:
        ValueError: naming the argument that does not fit; in methods, where a density of std 0 is asked for at t = 1.
    """

    predicts = "v"  # the one kind that is finite and informative at both ends on every schedule

    def __init__(
        self,
        means: Tensor,
        std: float | Tensor,
        weights: Tensor | None = None,
        labels: Tensor | None = None,
        path: GaussianPath | None = None,
    ) -> None:
        self.means = check_tensor("means", means)
        count, dtype, device = len(means), means.dtype, means.device
        std = torch.as_tensor(std, dtype=dtype, device=device)
        weights = torch.as_tensor([1.0] * count if weights is None else weights, dtype=dtype, device=device)
        if weights.shape != (count,) or not bool((weights > 0).all() & torch.isfinite(weights).all()):
            raise ValueError(f"weights must be {count} positive numbers, got {weights.tolist()}")
        if std.shape not in ((), (count,)) or not bool((std >= 0).all() & torch.isfinite(std).all()):
            raise ValueError(f"std must be one number >= 0 or {count} of them, got {std.tolist()}")
        self.std = std.expand(count)
        self.weights = weights / weights.sum()
        self.labels = torch.arange(count, device=means.device) if labels is None else labels
        check_labels("labels", self.labels, count, count, means.device)
        self.null = int(self.labels.max()) + 1
        if len(self.labels.unique()) < self.null:  # a label without a component would have no density
            raise ValueError(f"labels must use each of 0 ... {self.null - 1}, got {self.labels.tolist()}")
        self.path = check_path(path)

    def has_velocity_at(self, t: float) -> bool:
        return super().has_velocity_at(t) and (t < 1 or bool((self.std > 0).all()))

    def sample(self, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw data z (count, ...) and their labels (count,)."""
        check_count("count", count)
        k = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        means = self.means[k]
        noise = torch.randn(means.shape, generator=generator, dtype=means.dtype, device=means.device)
        return means + self.std[k].reshape(-1, *[1] * (means.ndim - 1)) * noise, self.labels[k]

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        """v = alpha eps_hat - beta D, shape (B, ...)."""
        log_joint, gap, variance, alpha, beta = self._components(x, t, y)
        posterior = torch.softmax(log_joint, dim=1)  # (B, K)
        # In component k: E[z|x, k] = mean + alpha std^2 gap / variance, E[eps|x, k] = beta gap / variance.
        scaled = gap / variance[..., None]  # (B, K, D)
        data = torch.einsum("bk,bkd->bd", posterior, self.means.flatten(1) + (alpha * self.std**2)[..., None] * scaled)
        noise = torch.einsum("bk,bkd->bd", posterior, beta[..., None] * scaled)
        return (alpha * noise - beta * data).reshape(x.shape)

    def log_prob(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        """log p_t(x|y) in nats, shape (B,)."""
        return torch.logsumexp(self._components(x, t, y)[0], dim=1)

    def _components(self, x: Tensor, t: float | Tensor, y: Tensor | None) -> tuple[Tensor, ...]:
        """log p_t(x, k|y) (B, K); x - alpha mean_k (B, K, D); the variances, alpha and beta as (B or 1, K or 1)."""
        check_tensor("x", x, finite=False)
        if x.shape[1:] != self.means.shape[1:]:
            raise ValueError(f"x must have shape (batch, *{tuple(self.means.shape[1:])}), got {tuple(x.shape)}")
        check_kind("x", x, "the mixture", self.means)
        flat, means = x.flatten(1), self.means.flatten(1)
        time = expand_time(t, x).reshape(-1, 1)
        alpha, beta = self.path.schedule.alpha(time), self.path.schedule.beta(time)
        variance = alpha**2 * self.std**2 + beta**2
        if not bool((variance > 0).all()):
            raise ValueError("a mixture with std = 0 has no density at t = 1: ask for t < 1")
        gap = flat[:, None] - alpha[..., None] * means
        log_normal = -0.5 * (gap**2).sum(-1) / variance - 0.5 * flat.shape[1] * torch.log(2 * torch.pi * variance)
        log_weights = torch.log(self.weights).expand(len(x), -1)
        if y is not None:
            self.check_guide(y, x)
            other = (self.labels != y[:, None]) & y[:, None].ne(self.null)  # type: ignore[arg-type]
            log_weights = torch.log_softmax(log_weights.masked_fill(other, -torch.inf), dim=1)
        return log_weights + log_normal, gap, variance, alpha, beta


def check_field(value: object) -> Field:
    """Return `value` if it is a field; the ValueError says how a network becomes one."""
    if not isinstance(value, Field):
        raise ValueError(f"field must be a Field, such as Model(network, path); got {type(value).__name__}")
    return value
