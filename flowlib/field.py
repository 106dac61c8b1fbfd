"""What every field shares: anything with a velocity u_t(x|y) and a score s_t(x|y), learned or known exactly.

A field has to say one thing: its `predict(x, t, y)`, and of which kind that prediction is. Velocity, score, E[z|x] and
E[eps|x] follow from the 2x2 solve of `flowlib.paths`. Samplers, guidance and likelihood use nothing else, so that each
is first seen to be right on `MixtureField`, which is exact, and then used on a `Model`, which was learned.
"""

import torch
from torch import Tensor

from flowlib.checks import check_labels
from flowlib.known import as_time, is_so
from flowlib.paths import GaussianPath


class Field:
    """What every field shares. Subclasses set `path`, `predicts` and `null`, and implement `predict`.

    Arguments of all methods: `x` (B, ...) float; `t` a number or a tensor () or (B,) in [0, 1]; `y` (B,) integer labels
    (or what the network takes as its guide); `y = None` is the null guide: no condition. A sample that has become NaN
    or infinite stays so, and disturbs no other.

    Example:
        >>> import torch
        >>> from flowlib import Field, GaussianPath
        >>> class Point(Field):  # the data are one point, 0
        ...     path, predicts = GaussianPath(), "data"
        ...     def predict(self, x, t, y=None):
        ...         return torch.zeros_like(x)
        >>> Point().u(torch.ones(1, 2), 0.5)
        tensor([[-2., -2.]])
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

    def v(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        """v = alpha eps_hat - beta D, finite at both ends of time on every schedule (Salimans & Ho 2022)."""
        return self._as("v", x, t, y)

    def determines_at(self, t: float) -> bool:
        """Whether the prediction determines D and eps_hat at this time; at the ends some kinds do not."""
        return self.path.always("informative", self.predicts, as_time(t))

    def has_velocity_at(self, t: float) -> bool:
        """Whether `u` can be asked for at this time; at the ends some predictions and schedules have no finite one."""
        if self.predicts == "velocity":
            return True
        return self.path.always("finite", "velocity", as_time(t)) and self.determines_at(t)

    def check_guide(self, y: Tensor, x: Tensor) -> Tensor:
        """Return `y` if it is one guide for each sample of `x`; a ValueError if not, or if the field takes no guide."""
        if self.null is None:
            raise ValueError("y was given, but this field takes no guide")
        if isinstance(self.null, int):
            return check_labels("y", y, len(x), self.null, x.device)
        sides = tuple(self.null.shape)
        fits = isinstance(y, Tensor) and y.ndim == 1 + len(sides) and len(y) == len(x)
        if not fits or any(side not in (1, own) for side, own in zip(sides, y.shape[1:], strict=True)):
            got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else repr(y)
            raise ValueError(f"y must be a tensor with one guide a sample, {(len(x), *sides)}, got {got}")
        return y

    def guide_fits(self, y: Tensor, x: Tensor) -> bool:
        """Whether `check_guide` lets y pass, as in a sampler it has; its error if not."""
        return is_so(y, self, (x.shape[0], x.device), lambda: self.check_guide(y, x) is not None)

    def as_guide(self, y: Tensor) -> Tensor:
        """Labels as int64, since a smaller kind of integer may lack the null label; other guides as they are."""
        return y.long() if isinstance(self.null, int) else y

    def without(self, y: Tensor) -> Tensor | None:
        """What to ask for in the place of y when nothing is asked for: None, or what of y is never dropped."""
        return None

    def null_like(self, y: Tensor) -> Tensor:
        """A batch of null guides, shaped like `y`; a ValueError if the field takes no guide."""
        if self.null is None:
            raise ValueError("y was given, but this field takes no guide")
        return torch.as_tensor(self.null, dtype=self.as_guide(y).dtype, device=y.device).expand_as(y)


class FieldOf(Field):
    """A field that is made of another one, on whose path it is and whose guides it takes.

    Args:
        field: any field.

    Raises:
        ValueError: for what is no field; it says how a network becomes one.

    Example:
        >>> import torch
        >>> from flowlib import MixtureField
        >>> from flowlib.field import FieldOf
        >>> class Halved(FieldOf):  # whose D is half as large
        ...     predicts = "data"
        ...     def predict(self, x, t, y=None):
        ...         return self.field.data(x, t, y) / 2
        >>> Halved(MixtureField(torch.full((1, 2), 3.0), std=0.0)).data(torch.zeros(1, 2), 0.5)
        tensor([[1.5000, 1.5000]])
    """

    def __init__(self, field: Field) -> None:
        self.field = check_field(field)
        self.path, self.null = field.path, field.null

    def check_guide(self, y: Tensor, x: Tensor) -> Tensor:
        return self.field.check_guide(y, x)

    def null_like(self, y: Tensor) -> Tensor:
        return self.field.null_like(y)

    def without(self, y: Tensor) -> Tensor | None:
        return self.field.without(y)


def check_field(value: object, name: str = "field") -> Field:
    """Return `value`, called `name`, if it is a field; the ValueError says how a network becomes one."""
    if not isinstance(value, Field):
        raise ValueError(f"{name} must be a Field, such as Model(network, path); got {type(value).__name__}")
    return value


def check_partner(name: str, value: object, field: Field) -> Field:
    """Return `value`, called `name`, if it is a field of the path and with the guides of another; a ValueError if not.

    Example:
        >>> import torch
        >>> from flowlib import VP, GaussianPath, Linear, MixtureField
        >>> from flowlib.field import check_partner
        >>> field, other = (MixtureField(torch.eye(2), 0.1, path=GaussianPath(kind())) for kind in (Linear, VP))
        >>> check_partner("weak", other, field)
        Traceback (most recent call last):
        ValueError: weak must have the path Linear(), got VP(rate_min=0.1, rate_max=20.0)
    """
    other = check_field(value, name)
    if other.path.schedule != field.path.schedule:
        raise ValueError(f"{name} must have the path {field.path.schedule!r}, got {other.path.schedule!r}")
    nulls = [one.null if isinstance(one.null, int | None) else tuple(one.null.shape) for one in (other, field)]
    if type(other.null) is not type(field.null) or nulls[0] != nulls[1]:
        raise ValueError(f"{name} must take the same guides: its null guide is {nulls[0]}, and not {nulls[1]}")
    return other
