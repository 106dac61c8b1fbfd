"""Guidance: a field made of another field, which follows its guide y more (or less) closely.

Both kinds add to the field's own prediction, whatever its kind: converting a prediction is affine with weights that sum
to one over the terms, so that guiding and then converting is the same as converting and then guiding.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from flowlib.checks import check_number, check_tensor
from flowlib.fields import Field, check_field
from flowlib.gradients import differentiable, recorded
from flowlib.known import always, as_time, at, for_batch, made_of
from flowlib.paths import expand_time


class _Guided(Field):
    def __init__(self, field: Field, scale: float) -> None:
        self.field, self.scale = check_field(field), check_number("scale", scale)
        self.path, self.predicts, self.null = field.path, field.predicts, field.null

    def determines_at(self, t: float) -> bool:
        return self.field.determines_at(t)

    def has_velocity_at(self, t: float) -> bool:
        return self.field.has_velocity_at(t)

    def check_guide(self, y: Tensor, x: Tensor) -> Tensor:
        return self.field.check_guide(y, x)


class ClassifierFreeGuidance(_Guided):
    """(1 - w) u(x|null) + w u(x|y), and the score likewise, in one batched call of the field (Ho & Salimans 2022).

    `scale` is w: 0 ignores the guide, 1 is the plain conditional field (no extra guidance), above 1 exaggerates what
    the guide adds, below 0 avoids it. At 0 and 1 the field is called once, for B samples; elsewhere once, for 2 B.

    Raises:
        ValueError: for a field that takes no guide, or a scale that is not finite.
    """

    def __init__(self, field: Field, scale: float) -> None:
        super().__init__(field, scale)
        if field.null is None:
            raise ValueError("field takes no guide, so there is nothing to guide it by")

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        if y is None or self.scale == 0:
            return self.field.predict(x, t, None)
        if self.scale == 1:
            return self.field.predict(x, t, y)
        check_tensor("x", x, finite=False)
        self.field.guide_fits(y, x)
        if isinstance(t, Tensor) and t.ndim:
            t = torch.cat([t, t])
        guides = made_of(y, self.field, "and null", lambda: torch.cat([self.as_guide(y), self.null_like(y)]))
        both = self.field.predict(torch.cat([x, x]), t, guides)
        conditional, unconditional = both.chunk(2)
        return unconditional + self.scale * (conditional - unconditional)


class EnergyGuidance(_Guided):
    """s(x) + w grad_x log_prob(x, t, y): a classifier on noised data, or any other differentiable preference.

    With `log_prob = log p_t(y|x)` and w = 1 this is Bayes' rule for the conditional score (Song et al. 2021, section 5;
    Dhariwal & Nichol 2021, section 4). In velocity form it is u + w b_t grad log p_t(y|x), b_t = (alpha' beta^2 - beta'
    beta alpha) / alpha. Where alpha_t = 0 the sample is pure noise, which no guide can depend on, and nothing is added.

    Args:
        field: the field that is guided.
        log_prob: (x (B, ...), t (B,), y (B,) or None) -> (B,), differentiable in x.
        scale: w.
        conditional: whether the guided field itself gets y too; by default it is asked for its null guide.

    Raises:
        ValueError: for a scale that is not finite, a `log_prob` whose result is not (B,), or where the weight of the
            gradient is not finite (t = 1 on schedules whose derivative is infinite there).
    """

    def __init__(
        self,
        field: Field,
        log_prob: Callable[[Tensor, Tensor, Tensor | None], Tensor],
        scale: float = 1.0,
        conditional: bool = False,
    ) -> None:
        super().__init__(field, scale)
        self.log_prob, self.conditional = log_prob, conditional

    def determines_at(self, t: float) -> bool:
        return super().determines_at(t) and self._finite(as_time(t))

    def has_velocity_at(self, t: float) -> bool:
        return super().has_velocity_at(t) and self._finite(as_time(t))

    def check_guide(self, y: Tensor, x: Tensor) -> Tensor:
        if self.field.null is not None:
            return super().check_guide(y, x)
        if not isinstance(y, Tensor) or y.ndim == 0 or len(y) != len(x):  # `log_prob` alone is given it
            got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else repr(y)
            raise ValueError(f"y must be a tensor with one guide a sample, {len(x)}, got {got}")
        return y

    def _finite(self, t: Tensor) -> bool:
        return always(t, self, "finite", lambda t: torch.isfinite(self._weight(t)))

    def _weight(self, t: Tensor) -> Tensor:
        # eps_hat moves by -beta times the gradient; at fixed x, a D + b eps_hat moves by delta / alpha times that.
        alpha, beta = self.path.levels(t)
        return torch.where(alpha > 0, -self.path.delta(self.predicts, t) * beta / alpha, torch.zeros_like(alpha))

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        prediction = self.field.predict(x, t, y if self.conditional else None)
        time = expand_time(t, x)
        if not self._finite(time):
            raise ValueError(f"a gradient cannot guide a {self.predicts!r} at t = 1 on {self.path}: ask for t < 1")
        if self.scale == 0 or always(time, self, "nothing", lambda t: self._weight(t) == 0):
            return prediction
        graph = torch.is_grad_enabled() and x.requires_grad  # a likelihood needs the gradient's own derivative
        with differentiable():
            x = x if graph else recorded(x.detach()).requires_grad_()
            log_prob = self.log_prob(x, recorded(for_batch(time, len(x))), None if y is None else recorded(y))
            if log_prob.shape != (len(x),):
                raise ValueError(f"log_prob must return shape ({len(x)},), got {tuple(log_prob.shape)}")
            gradient = torch.autograd.grad(log_prob.sum(), x, create_graph=graph)[0]
        (weight,) = at(time, self, "weight", lambda t: (self._weight(t),))
        return prediction + self.scale * weight * gradient
