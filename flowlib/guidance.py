"""Guidance: a field made of another field, which follows its guide y more (or less) closely.

Both kinds add to the field's own prediction, whatever its kind: converting a prediction is affine with weights that sum
to one over the terms, so that guiding and then converting is the same as converting and then guiding.

Example:
    >>> import torch
    >>> from flowlib import EnergyGuidance, MixtureField
    >>> from flowlib.guidance import Energy
    >>> field, centre = MixtureField(torch.eye(2), std=0.1), Energy(lambda z, t, y: -z.square().sum(1), looks="clean")
    >>> EnergyGuidance(field, centre).u(torch.ones(1, 2), 0.5).shape
    torch.Size([1, 2])
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowlib.checks import check_choice, check_number, check_tensor
from flowlib.field import Field, FieldOf
from flowlib.gradients import differentiable, recorded
from flowlib.known import always, as_time, at, for_batch, made_of
from flowlib.paths import expand_time


class _Guided(FieldOf):
    def __init__(self, field: Field, scale: float) -> None:
        super().__init__(field)
        self.scale, self.predicts = check_number("scale", scale), field.predicts

    def determines_at(self, t: float) -> bool:
        return self.field.determines_at(t)

    def has_velocity_at(self, t: float) -> bool:
        return self.field.has_velocity_at(t)


class ClassifierFreeGuidance(_Guided):
    """(1 - w) u(x|null) + w u(x|y), and the score likewise, in one batched call of the field (Ho & Salimans 2022).

    `scale` is w: 0 ignores the guide, 1 is the plain conditional field (no extra guidance), above 1 exaggerates what
    the guide adds, below 0 avoids it. At 0 and 1 the field is called once, for B samples; elsewhere once, for 2 B.

    Raises:
        ValueError: for a field that takes no guide, or a scale that is not finite.

    Example:
        >>> import torch
        >>> from flowlib import ClassifierFreeGuidance, MixtureField, sample_ode
        >>> field = MixtureField(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), std=0.5)
        >>> guided, y = ClassifierFreeGuidance(field, scale=3.0), torch.ones(64, dtype=torch.long)
        >>> noise = torch.randn(64, 2)
        >>> bool(sample_ode(guided, noise, y)[:, 0].mean() > sample_ode(field, noise, y)[:, 0].mean())
        True
    """

    def __init__(self, field: Field, scale: float) -> None:
        super().__init__(field, scale)
        if field.null is None:
            raise ValueError("field takes no guide, so there is nothing to guide it by")

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        if y is None:
            return self.field.predict(x, t, None)
        if self.scale == 0:
            return self.field.predict(x, t, self.without(y))
        if self.scale == 1:
            return self.field.predict(x, t, y)
        conditional, unconditional = self.both(x, t, y)
        return unconditional + self.scale * (conditional - unconditional)

    def both(self, x: Tensor, t: float | Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The field's predictions with the guide and with its null guide, from one call for 2 B samples."""
        check_tensor("x", x, finite=False)
        self.field.guide_fits(y, x)
        if isinstance(t, Tensor) and t.ndim:
            t = torch.cat([t, t])
        guides = made_of(y, self.field, "and null", lambda: torch.cat([self.as_guide(y), self.null_like(y)]))
        conditional, unconditional = self.field.predict(torch.cat([x, x]), t, guides).chunk(2)
        return conditional, unconditional


LogProb = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # (x (B, ...), t (B,), y (B, ...) or None) -> (B,)


@dataclass(frozen=True)
class Energy:
    """A differentiable preference among samples, one of those that guide a field together.

    Attributes:
        log_prob: (x, t, y) -> (B,), larger where x is preferred.
        scale: its weight among the others.
        looks: at what: "noised", x itself, for what was trained on noised data; or "clean", D = E[z|x] as the guided
            field predicts it, for what knows only clean data. D is an average of data that x may have come from, so
            log_prob(D) is not log E[p(y|z)|x]: it is a guess, good where that law is narrow (Chung et al. 2023, DPS).
            Its gradient goes back through the field's network, in the same call that guides.

    Raises:
        ValueError: for a scale that is not finite, or something else to look at.
    """

    log_prob: LogProb
    scale: float = 1.0
    looks: str = "noised"

    def __post_init__(self) -> None:
        check_number("scale", self.scale)
        check_choice("looks", self.looks, ("noised", "clean"))


class EnergyGuidance(_Guided):
    """s(x) + w grad_x log_prob(x, t, y): a classifier on noised data, or any other differentiable preference.

    With `log_prob = log p_t(y|x)` and w = 1 this is Bayes' rule for the conditional score (Song et al. 2021, section 5;
    Dhariwal & Nichol 2021, section 4). In velocity form it is u + w b_t grad log p_t(y|x), b_t = (alpha' beta^2 - beta'
    beta alpha) / alpha. Where alpha_t = 0 the sample is pure noise, which no guide can depend on, and nothing is added.

    Args:
        field: the field that is guided.
        log_prob: (x (B, ...), t (B,), y (B,) or None) -> (B,), differentiable in x; or several energies, whose weighted
            sum it then is (semantic diffusion guidance: Liu et al. 2023, section 3.4).
        scale: w; 1 is Bayes' rule, 0 no guidance.
        conditional: whether the guided field itself gets y too; by default it is asked for its null guide.
        bound: the largest root mean square of what is added to a sample's score; a longer one keeps its direction.
            None for none. It keeps samples from being thrown off by one step (Disco Diffusion's "clamp_max").

    Raises:
        ValueError: for a scale that is not finite, a bound that is not above 0, no energy at all, a `log_prob` whose
            result is not (B,), or where the weight of the gradient is not finite (t = 1 on schedules whose derivative
            is infinite there), or the clean sample is not determined.

    Example:
        >>> import torch
        >>> from flowlib import EnergyGuidance, MixtureField
        >>> from flowlib.guidance import Energy
        >>> field = MixtureField(torch.tensor([[-2.0], [2.0]]), torch.tensor([0.5, 0.5]))
        >>> right = Energy(lambda z, t, y: z[:, 0], looks="clean")
        >>> bool((EnergyGuidance(field, right).u(torch.zeros(1, 1), 0.5) > field.u(torch.zeros(1, 1), 0.5)).all())
        True
    """

    def __init__(
        self,
        field: Field,
        log_prob: LogProb | Energy | Sequence[Energy],
        scale: float = 1.0,
        conditional: bool = False,
        bound: float | None = None,
    ) -> None:
        super().__init__(field, scale)
        given: list[Any] = list(log_prob) if isinstance(log_prob, list | tuple) else [log_prob]
        if not given or not all(isinstance(one, Energy) or callable(one) for one in given):
            raise ValueError(f"log_prob must be an energy or several, got {log_prob!r}")
        self.energies = [one if isinstance(one, Energy) else Energy(one) for one in given]
        self.conditional = conditional
        self.bound = None if bound is None else check_number("bound", bound, 0, low_open=True)

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
        guide, time = y if self.conditional else None, expand_time(t, check_tensor("x", x, finite=False))
        if not self._finite(time):
            raise ValueError(f"a gradient cannot guide a {self.predicts!r} at t = 1 on {self.path}: ask for t < 1")
        if self.scale == 0 or always(time, self, "nothing", lambda t: self._weight(t) == 0):
            return self.field.predict(x, t, guide)
        clean = any(energy.looks == "clean" for energy in self.energies)
        prediction = None if clean else self.field.predict(x, t, guide)
        graph = torch.is_grad_enabled() and x.requires_grad  # a likelihood needs the gradient's own derivative
        with differentiable():
            seen = x if graph else recorded(x.detach()).requires_grad_()
            looked = {"noised": seen}
            if prediction is None:
                prediction = self.field.predict(seen, t, guide)
                looked["clean"] = self.path.convert(prediction, seen, t, self.predicts, "data")
            gradient = self._gradient(looked, recorded(for_batch(time, len(x))), y, graph)
        (weight,) = at(time, self, "weight", lambda t: (self._weight(t),))
        return (prediction if graph else prediction.detach()) + weight * gradient

    def _gradient(self, looked: Mapping[str, Tensor], t: Tensor, y: Tensor | None, graph: bool) -> Tensor:
        """What is added to the score, shaped like x."""
        x, y = looked["noised"], None if y is None else recorded(y)
        total = torch.zeros((), dtype=x.dtype, device=x.device)
        for energy in self.energies:
            log_prob = energy.log_prob(looked[energy.looks], t, y)
            if log_prob.shape != (len(x),):
                raise ValueError(f"log_prob must return shape ({len(x)},), got {tuple(log_prob.shape)}")
            total = total + energy.scale * log_prob.sum()
        gradient = self.scale * torch.autograd.grad(total, x, create_graph=graph)[0]
        if self.bound is None:
            return gradient
        size = gradient.flatten(1).square().mean(1).sqrt().view(-1, *[1] * (x.ndim - 1))
        return gradient * (self.bound / size.clamp(min=self.bound))
