"""How well samples follow a control and its caption, against strength, and with the caption dropped."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flowlib.checks import check_choice, check_count, check_number
from flowlib.data.controls import CONTROLS
from flowlib.metrics.agreement import agreement
from flowlib.metrics.scenes import score_captions
from flowlib.nets.captioned import Captioned
from flowlib.progress import progress
from flowlib.systems.sampling import METHODS, FlowRequest, sample_flow
from flowlib.systems.system import Parts, ReportRequest, Row, Splits


@dataclass(frozen=True, kw_only=True)
class ControlReport(ReportRequest):
    """What is to be measured of a ControlNet.

    Attributes:
        samples: test scenes whose controls are followed.
        strengths: of the control.
        scale: of classifier-free guidance by the caption.
        steps, method: of the sampler.
    """

    samples: int = 250
    strengths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
    scale: float = 2.0
    steps: int = 20
    method: str = "heun"

    def __post_init__(self) -> None:
        super().__post_init__()
        for strength in self.strengths:
            check_number("strength", strength)
        check_number("scale", self.scale)
        check_count("steps", self.steps)
        check_choice("method", self.method, METHODS)


def report_control(system: Any, module: nn.Module, data: Splits, parts: Parts, request: ControlReport) -> Sequence[Row]:
    """Rows of test scenes, of samples under their controls at each strength, and of these without a caption.

    "edge F1", "mask IoU" and "key points" say how well a picture agrees with the scene that its control was made of, as
    `flowlib.metrics.agreement` reads it; the first row is of the scenes themselves, and so what reading them costs. The
    other columns are the shares that the judge reads as the caption says.
    """
    batch = data.test.batch(torch.arange(min(request.samples, len(data.test))))
    device = next(module.parameters()).device
    controls = CONTROLS[system.control].of(batch).to(device)
    captioned = isinstance(system.field(module, parts, request.spec.shape).net.base, Captioned)
    texts = batch[system.captions[0]] if captioned else None

    def drawn(strength: float, said: Sequence[str] | None) -> Tensor:
        field = system.field(module, parts, request.spec.shape, strength)
        wish = FlowRequest(
            spec=request.spec, y=system.guide(field, said, controls), count=len(controls),
            scale=1.0 if said is None else request.scale, steps=request.steps, method=request.method,
            seed=request.seed, batch_size=request.batch_size, usual=request.usual,
        )  # fmt: skip
        return sample_flow(field, wish, lands=field.predicts == "v").cpu().clamp(-1, 1)

    def row(name: str, images: Tensor) -> Row:
        scores = agreement(images, batch["masks"], batch["keypoints"])
        return {"samples": name, **scores, **score_captions(images, batch["caption"])}

    rows = [row("test scenes", batch["x"])]
    with progress("painting", times=len(request.strengths) + captioned):
        for strength in request.strengths:
            rows.append(row(f"strength {strength:g}", drawn(strength, texts)))
        return rows if texts is None else [*rows, row("no caption", drawn(1.0, None))]
