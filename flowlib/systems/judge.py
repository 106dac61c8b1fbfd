"""The judge of scenes: a detector that reads which digits are in an image, of what colour and size, and where.

Example:
    >>> import torch
    >>> from flowlib.data import load
    >>> from flowlib.runs import load_pretrained
    >>> from flowlib.systems.judge import JudgeSystem, accuracies
    >>> run, scenes = load_pretrained("judge"), load("scenes", "test").batch(torch.arange(100))
    >>> isinstance(run.recipe.system, JudgeSystem)
    True
    >>> accuracies(run.module, scenes["x"], scenes)["digit"] > 0.9
    True
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_number
from flowlib.data import Data, Spec
from flowlib.metrics.reader import ATTRIBUTES, SceneReader
from flowlib.metrics.scenes import read_scenes
from flowlib.systems.system import Parts, ReportRequest, Row, Splits, Stage, register
from flowlib.training import Task, Turn
from flowlib.training.order import stream

MODERATE = {"as they are": (0.0, 0), "noise 0.1": (0.1, 0), "noise 0.3": (0.3, 0), "blurred": (0.0, 1)}


def reading_loss(logits: Mapping[str, Tensor], objects: Tensor, background: Tensor) -> dict[str, Tensor]:
    """Cross-entropies in nats: of what is at each place, of the attributes of what is there, and of the background.

    Args:
        logits: of a `SceneReader`.
        objects: (B, 2, 4) digit, colour, size and place, -1 where there is none.
        background: (B,).

    Returns:
        "loss", the sum of all, and each by its name.
    """
    row, which = (objects[..., 0] >= 0).nonzero(as_tuple=True)
    found = objects[row, which]  # (objects, 4)
    place = found[:, 3]
    there = torch.zeros_like(logits["there"]).index_put((row, place), torch.ones(len(row), device=row.device))
    losses = {"there": F.binary_cross_entropy_with_logits(logits["there"], there, reduction="none").sum(1).mean()}
    for i, name in enumerate(ATTRIBUTES):
        losses[name] = F.cross_entropy(logits[name][row, place], found[:, i])
    losses["background"] = F.cross_entropy(logits["background"], background)
    return {"loss": torch.stack(list(losses.values())).sum(), **losses}


def spoil(x: Tensor, noise: Tensor, strength: Tensor, blurred: Tensor) -> Tensor:
    """Images as a generative model may draw them: some blurred by [1, 2, 1] / 4, all with noise of a strength.

    Args:
        x, noise: (B, 3, H, W).
        strength: (B,) standard deviations.
        blurred: (B,) bool.
    """
    line = torch.tensor([0.25, 0.5, 0.25], device=x.device, dtype=x.dtype)
    kernel = (line[:, None] * line).expand(x.shape[1], 1, 3, 3)
    soft = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=x.shape[1])
    return torch.where(blurred[:, None, None, None], soft, x) + strength[:, None, None, None] * noise


@register("judge")
@dataclass(frozen=True, kw_only=True)
class JudgeSystem:
    """A reader of scenes: `read_scenes(images, run.module)`.

    Attributes:
        noise: in training, images have noise of a standard deviation uniform in [0, noise].
        blur: share of training images that are blurred.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    stands_on: ClassVar[tuple[str, ...]] = ()

    noise: float = 0.2
    blur: float = 0.25
    parts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_number("noise", self.noise, 0)
        check_number("blur", self.blur, 0, 1)

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        if spec.shape not in ((3, 16, 16), (3, 32, 32)) or "objects" not in spec.columns:
            raise ValueError(f"a judge reads scenes of 16 or 32 pixels, not data of shape {spec.shape}")
        return SceneReader(spec.shape[1])

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        def loss(turn: Turn) -> dict[str, Tensor]:
            batch, count = data.batch(turn.mine), len(turn.index)
            noise = turn.normal(*data.shape).to(batch["x"])
            chance = torch.rand(count, 2, generator=turn.generator)[turn.part].to(noise)
            x = spoil(batch["x"], noise, self.noise * chance[:, 0], chance[:, 1] < self.blur)
            return reading_loss(module(x), batch["objects"], batch["background"])

        return [Stage("judge", Task(module, loss, data.count, module))]

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: ReportRequest) -> Sequence[Row]:
        """How often each attribute of test scenes is read right, of digits of which 80 % can be seen."""
        assert isinstance(module, SceneReader)
        test = data.test.batch(torch.arange(min(request.samples, len(data.test))))
        noise = torch.randn(test["x"].shape, generator=stream(request.seed, "noise"))
        rows: list[Row] = []
        for name, (strength, blur) in MODERATE.items():
            x = spoil(test["x"], noise, torch.full((len(noise),), strength), torch.full((len(noise),), blur > 0))
            rows.append({"scenes": name, **accuracies(module, x, test, request.batch_size)})
        return rows


def accuracies(reader: SceneReader, x: Tensor, truth: Mapping[str, Tensor], batch_size: int = 500) -> dict[str, float]:
    """The share of visible digits found at their place, and of these each attribute read right; and the background."""
    read = read_scenes(x, reader, batch_size=batch_size)
    seen = (truth["visible"] >= 0.8) & (truth["objects"][..., 0] >= 0)
    row, which = seen.nonzero(as_tuple=True)
    objects = truth["objects"][row, which]
    same = read.objects[row, :, 3] == objects[:, 3:]  # (objects, 2)
    found = same.any(1)
    own = read.objects[row, same.int().argmax(1)]
    scores = {"place": float(found.double().mean())}
    for i, name in enumerate(ATTRIBUTES):
        scores[name] = float((own[:, i] == objects[:, i])[found].double().mean())
    count = (read.objects[..., 0] >= 0).sum(1) == (truth["objects"][..., 0] >= 0).sum(1)
    scores["count"] = float(count.double().mean())
    scores["background"] = float((read.background == truth["background"]).double().mean())
    return scores
