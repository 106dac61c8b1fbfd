"""Autoguidance: a field guided away from a weaker version of itself, which makes the same mistakes, only larger."""

import torch
from torch import Tensor

from flowlib.checks import check_number
from flowlib.field import Field, FieldOf, check_partner


class Autoguidance(FieldOf):
    """(1 - w) times a weaker field and w times a field, whatever they predict (Karras et al. 2024, arXiv:2406.02507).

    If the weak field's error is k times the field's own, wherever and whenever, w = k / (k - 1) leaves none. Where the
    two err in unlike ways, no w > 1 helps. Both are asked with the same guide: if they follow it alike, it gets no more
    weight than it had. Each evaluation costs a call of both.

    Args:
        field: the field that is guided.
        weak: a weaker one of the same path that takes the same guides: trained for a shorter time, or smaller.
        scale: w; 1 is the field itself, 0 the weak one.

    Raises:
        ValueError: for a weak field of another path or with other guides, or a scale that is not finite.

    Example:
        >>> import torch
        >>> from flowlib import MixtureField
        >>> from flowlib.autoguidance import Autoguidance
        >>> right, field, weak = (MixtureField(torch.tensor([[m, 0.0]]), 0.5) for m in (0.0, 1.0, 3.0))
        >>> x = torch.randn(4, 2)
        >>> bool(torch.allclose(Autoguidance(field, weak, scale=1.5).u(x, 0.3), right.u(x, 0.3), atol=1e-5))
        True
    """

    def __init__(self, field: Field, weak: Field, scale: float) -> None:
        super().__init__(field)
        self.weak, self.scale = check_partner("weak", weak, field), check_number("scale", scale)
        self.predicts = field.predicts

    def determines_at(self, t: float) -> bool:
        return self.field.determines_at(t) and self.weak.determines_at(t)

    def has_velocity_at(self, t: float) -> bool:
        return self.field.has_velocity_at(t) and self.weak.has_velocity_at(t)

    def check_guide(self, y: Tensor, x: Tensor) -> Tensor:
        self.weak.check_guide(y, x)
        return super().check_guide(y, x)

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        own = self.field.predict(x, t, y)
        if self.scale == 1:
            return own
        weak = self.weak.predict(x, t, y)
        if self.weak.predicts != self.predicts:
            weak = self.path.convert(weak, x, t, self.weak.predicts, self.predicts)
        return torch.lerp(weak, own, self.scale)
