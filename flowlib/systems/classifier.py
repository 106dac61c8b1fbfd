"""A time-conditioned classifier of noised data, whose gradient guides a field (Dhariwal & Nichol 2021, section 4).

Example:
    >>> import torch
    >>> from flowlib.data import load
    >>> from flowlib.recipes import Recipe
    >>> from flowlib.runs import train
    >>> from flowlib.systems import ClassifierSystem, classifier_loss
    >>> from flowlib.training import Training
    >>> digits, system = load("digits").batch(torch.arange(32)), ClassifierSystem(channels=(8, 16), dim=16)
    >>> recipe = Recipe(name="reader", data="digits", system=system, training=Training(steps=5))
    >>> reader = train(recipe, "runs/reader").module
    >>> loss = classifier_loss(reader, system.path(), digits["x"], digits["label"])
    >>> float(loss) < 2.5  # nats; log 10 = 2.3 is a guess
    True
    >>> reader.log_prob(digits["x"], torch.ones(32), digits["label"]).shape  # what guides a field
    torch.Size([32])
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.chains import named_chain
from flowlib.checks import check_choice, check_count, check_labels, check_tensor
from flowlib.data import Data, Spec
from flowlib.nets import TimeClassifier
from flowlib.paths import GaussianPath
from flowlib.schedules import SCHEDULES
from flowlib.systems.system import Parts, ReportRequest, Row, Splits, Stage, register
from flowlib.times import TimeSampler, uniform_time
from flowlib.training import Task, Turn
from flowlib.training.order import stream


def classifier_loss(
    classifier: TimeClassifier,
    path: GaussianPath,
    x: Tensor,
    y: Tensor,
    *,
    time: TimeSampler = uniform_time,
    part: slice | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Cross-entropy of the labels of images noised to random times, in nats, a scalar; its minimiser is log p_t(y|x).

    Args:
        classifier: the network.
        path: how images are noised; that of the field to be guided.
        x: clean images (B, C, H, W) in [-1, 1].
        y: their labels (B,), 0 ... classes - 1.
        time: draws B times in (0, 1) from a generator; `uniform_time` by default.
        part: the samples to compute, of a batch whose times and noise are drawn as a whole.
        generator: the source of times and noise, on the CPU.

    Raises:
        ValueError: for images or labels that do not fit, naming them.
    """
    check_tensor("x", x, finite=False)
    check_labels("y", y, len(x), classifier.classes, x.device)
    if bool((y == classifier.classes).any()):
        raise ValueError(f"y must lie in 0 ... {classifier.classes - 1}: the null guide is no label to learn")
    mine = slice(None) if part is None else part
    t = time(len(x), generator)[mine].to(x)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)[mine].to(x.device)
    x, y = x[mine], y[mine]
    return F.cross_entropy(classifier(path.sample(x, t, noise), t).to(x.dtype), y.long())


@register("classifier")
@dataclass(frozen=True, kw_only=True)
class ClassifierSystem:
    """A classifier of noised images: `EnergyGuidance(field, run.module.log_prob)` guides a field on the same path.

    Attributes:
        channels, depth, dim: those of `TimeClassifier`.
        schedule: a name in `flowlib.schedules.SCHEDULES`, the path's; `chain`: T of a chain on it, 0 for none.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    stands_on: ClassVar[tuple[str, ...]] = ()

    channels: tuple[int, ...] = (32, 64, 128)
    depth: int = 1
    dim: int = 128
    schedule: str = "linear"
    chain: int = 0
    parts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(check_count("channels", width, 8) for width in self.channels))
        check_count("depth", self.depth)
        check_count("dim", self.dim)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_count("chain", self.chain, 0)
        self.path()

    def path(self) -> GaussianPath:
        """How images are noised."""
        return GaussianPath(named_chain(self.schedule, self.chain) if self.chain else SCHEDULES[self.schedule]())

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        if len(spec.shape) != 3 or not spec.classes:
            raise ValueError(f"a classifier needs images with labels, not data of shape {spec.shape}")
        return TimeClassifier(spec.shape[0], self.channels, spec.classes, self.depth, self.dim)

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        assert isinstance(module, TimeClassifier)
        path = self.path()

        def loss(turn: Turn) -> Tensor:
            batch = data.batch(turn.index)
            return classifier_loss(module, path, batch["x"], batch["label"], part=turn.part, generator=turn.generator)

        return [Stage("classifier", Task(module, loss, data.count, module))]

    @torch.no_grad()
    def report(self, module: nn.Module, data: Splits, parts: Parts, request: ReportRequest) -> Sequence[Row]:
        """How often test images noised to a time are read right, and the cross-entropy in nats."""
        device, rows, path = next(module.parameters()).device, list[Row](), self.path()
        test = data.test.batch(torch.arange(min(request.samples, len(data.test))))
        x, y = test["x"], test["label"]
        for t in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
            noised = path.sample(x, t, generator=stream(request.seed, "noise", t))
            times = torch.full((len(x),), t)
            logits = torch.cat([
                module(part.to(device), time.to(device)).float().cpu()
                for part, time in zip(noised.split(request.batch_size), times.split(request.batch_size), strict=True)
            ])  # fmt: skip
            right = float((logits.argmax(1) == y).double().mean())
            rows.append({"t": f"{t:g}", "accuracy": right, "cross_entropy": float(F.cross_entropy(logits, y))})
        return rows
