"""What many tests share: every schedule, mixtures whose fields are known exactly, and reproducible normal numbers."""

import torch
from torch import Tensor

from flowlib.fields import Field, MixtureField
from flowlib.paths import PREDICTIONS, GaussianPath
from flowlib.schedules import SCHEDULES as CLASSES
from flowlib.schedules import Schedule, Trigonometric

SCHEDULES: dict[str, Schedule] = {name: schedule() for name, schedule in CLASSES.items()}
KINDS = list(PREDICTIONS)


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture(schedule: Schedule | None = None, std: float | None = None) -> MixtureField:
    """Four unequal components in the plane, three labels; on the trigonometric path, which has no lucky symmetry."""
    return MixtureField(
        means=torch.tensor([[2.0, 0.5], [-1.0, 1.5], [-0.5, -2.0], [1.0, -1.0]], dtype=torch.float64),
        std=torch.tensor([0.4, 0.6, 0.3, 0.5], dtype=torch.float64) if std is None else std,
        weights=torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64),
        labels=torch.tensor([0, 1, 2, 0]),
        path=GaussianPath(Trigonometric() if schedule is None else schedule),
    )


def gaussian(mean: float, std: float, schedule: Schedule) -> MixtureField:
    """One Gaussian on the line, whose every field is affine in x."""
    return MixtureField(torch.tensor([[mean]], dtype=torch.float64), std, path=GaussianPath(schedule))


class Converted(Field):
    """A field that says the same as another one in another kind of prediction, and counts how often it is asked."""

    def __init__(self, field: Field, kind: str) -> None:
        self.field, self.path, self.predicts, self.null = field, field.path, kind, field.null
        self.calls: list[int] = []

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        self.calls.append(len(x))
        return self.path.convert(self.field.predict(x, t, y), x, t, self.field.predicts, self.predicts)
