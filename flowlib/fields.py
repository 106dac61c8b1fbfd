"""Fields, one learned and one exact: a network on the path that it was trained on, and a mixture of Gaussians.

What every field shares, and what a new one has to say, is in `flowlib.field`.
"""

import torch
from torch import Tensor, nn

from flowlib.checks import check_choice, check_count, check_kind, check_labels, check_tensor
from flowlib.field import Field, check_field
from flowlib.known import always, at, for_batch, once, remember
from flowlib.paths import PREDICTIONS, GaussianPath, check_path, expand_time

__all__ = ["Field", "MixtureField", "Model", "check_field"]


class Model(nn.Module, Field):
    """A network and the path it was trained on.

    Args:
        net: `net(x, t, y)` -> like x, with x (B, ...), t (B,), y (B,). `net.null` is its null label, the number of
            classes, or for guides that are tensors the null one; a network without it is called with y = None. One
            with a `check_guide(y, batch)`, which looks at a guide before the first step, takes y = None for its null.
            One whose guide is only dropped in part, such as a caption beside an image, has a `null_like(y)`.
            A guide that is a number has a number for its null, such as 0.0 or NaN.
        path: the path; the linear one by default.
        predicts: what the network's output means: "data" | "noise" | "velocity" | "score" | "v".

    Raises:
        ValueError: for an unknown prediction, and in its methods for inputs that do not fit, naming the argument.

    Example:
        >>> import torch
        >>> from flowlib import Model
        >>> from flowlib.nets import MLP
        >>> model = Model(MLP(dim_in=2, classes=3), predicts="velocity")
        >>> model.s(torch.randn(5, 2), 0.5, torch.tensor([0, 1, 2, 0, 1])).shape
        torch.Size([5, 2])
    """

    def __init__(self, net: nn.Module, path: GaussianPath | None = None, predicts: str = "velocity") -> None:
        super().__init__()
        if not callable(net):
            raise ValueError(f"net must be a network net(x, t, y), got {net!r}")
        self.net = net
        self.path = check_path(path)
        self.predicts = check_choice("predicts", predicts, PREDICTIONS)
        null = getattr(net, "null", None)
        self.null = torch.tensor(null) if isinstance(null, float) else null

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        check_tensor("x", x, finite=False)
        first = once(self, "first parameter", lambda: next(self.net.parameters(), None))
        check_kind("x", x, "the network", x if first is None else first)
        batch, null = x.shape[0], self.null
        time = for_batch(expand_time(t, x), batch)
        if y is not None:
            self.guide_fits(y, x)
        elif isinstance(null, Tensor) and not hasattr(self.net, "check_guide"):
            guide = null
            y = once(self, (batch, x.device), lambda: remember(guide.to(x.device).expand(batch, *guide.shape)))
        elif null is not None and not isinstance(null, Tensor):
            y = torch.full((batch,), int(null), device=x.device)
        return self.net(x, time, y)

    def check_guide(self, y: Tensor, x: Tensor) -> Tensor:
        if self.null is None:
            kind = type(self.net).__name__
            raise ValueError(f"y was given, but {kind} takes no guide: give the network a `null`, its null guide")
        super().check_guide(y, x)
        check = getattr(self.net, "check_guide", None)
        if check is not None:
            check(y, len(x))
        return y

    def null_like(self, y: Tensor) -> Tensor:
        own = getattr(self.net, "null_like", None)
        return super().null_like(y) if own is None else own(y)

    def without(self, y: Tensor) -> Tensor | None:
        return self.null_like(y) if hasattr(self.net, "null_like") else None


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

    Example:
        >>> import torch
        >>> from flowlib import MixtureField
        >>> field = MixtureField(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), std=0.1)
        >>> field.u(torch.zeros(1, 2), 0.5), field.null
        (tensor([[0., 0.]]), 2)
        >>> field.data(torch.zeros(1, 2), 0.5, torch.tensor([1]))[:, 0] > 0  # towards the mean of component 1
        tensor([True])
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
        self.std, self._least = std.expand(count), float(std.min())
        self.weights = weights / weights.sum()
        labels = torch.arange(count, device=means.device) if labels is None else labels
        self.labels = check_labels("labels", labels, count, count, means.device).long()
        self.null = int(self.labels.max()) + 1
        if len(self.labels.unique()) < self.null:  # a label without a component would have no density
            raise ValueError(f"labels must use each of 0 ... {self.null - 1}, got {self.labels.tolist()}")
        self.path = check_path(path)

    def determines_at(self, t: float) -> bool:
        return super().determines_at(t) and (t < 1 or self._least > 0)

    def _has_density(self, t: Tensor) -> Tensor:
        alpha, beta = self.path.levels(t)
        return alpha**2 * self._least**2 + beta**2 > 0

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

    def s(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        """Score s_t(x|y); at t = 1 too where std > 0, as the posterior mean of -(x - alpha mean_k) / variance_k."""
        if self.path.always("finite", "score", expand_time(t, check_tensor("x", x, finite=False))):
            return super().s(x, t, y)
        log_joint, gap, variance, _, _ = self._components(x, t, y)
        return -torch.einsum("bk,bkd->bd", torch.softmax(log_joint, dim=1), gap / variance[..., None]).reshape(x.shape)

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
        time = expand_time(t, x)
        if not always(time, self, "density", self._has_density):
            raise ValueError("a mixture with std = 0 has no density at t = 1: ask for t < 1")
        alpha, beta = (level.reshape(-1, 1) for level in at(time, self.path, "levels", self.path.levels))
        variance = alpha**2 * self.std**2 + beta**2
        gap = flat[:, None] - alpha[..., None] * means
        log_normal = -0.5 * (gap**2).sum(-1) / variance - 0.5 * flat.shape[1] * torch.log(2 * torch.pi * variance)
        log_weights = torch.log(self.weights).expand(len(x), -1)
        if y is not None:
            self.guide_fits(y, x)
            guide = y.long()[:, None]
            other = (self.labels != guide) & guide.ne(self.null)  # type: ignore[arg-type]
            log_weights = torch.log_softmax(log_weights.masked_fill(other, -torch.inf), dim=1)
        return log_weights + log_normal, gap, variance, alpha, beta
