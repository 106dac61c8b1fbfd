"""ControlNet: a flow that was trained follows edges, masks or key points too (Zhang et al. 2023, arXiv:2302.05543).

What makes it ControlNet: the flow's network is locked; a copy of its encoders and midcoder is trained, joined to it by
convolutions that start at zero (`flowlib.nets.control`); the caption is dropped half of the time, so that the image
alone must do. A run keeps the copy alone, and stands on the flow, its part "base".

    flowlib paint "a red seven" --control edges=sketch.png:0.8 --control mask=seg.png

Guidance exaggerates what the caption adds under the control: both of its branches are controlled, since in training the
control is never dropped.

Example:
    >>> import torch
    >>> from flowlib.data import load
    >>> from flowlib.data.controls import pictures_of
    >>> from flowlib.runs import load_pretrained
    >>> from flowlib.systems.controlnet import ControlNetSystem
    >>> run, scenes = load_pretrained("control-edges"), load("scenes", "test").batch(torch.arange(2))
    >>> system, edges = run.recipe.system, scenes["edges"].float()
    >>> isinstance(system, ControlNetSystem), system.control
    (True, 'edges')
    >>> run.sample(pictures_of(edges), steps=2).shape  # pictures with these edges, of any content
    torch.Size([2, 3, 16, 16])
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flowlib.chains import Chain
from flowlib.checks import check_choice, check_number
from flowlib.data import Data, Dataset, Spec
from flowlib.data.controls import CONTROLS, check_kind_of_control, controls_of, pictures_of
from flowlib.fields import Model
from flowlib.nets import Controlled, ControlNet, UNet
from flowlib.nets.captioned import Captioned, CaptionedBeside
from flowlib.plotting import picture_grid
from flowlib.systems.captions import chosen_captions
from flowlib.systems.control_report import ControlReport, report_control
from flowlib.systems.flow import FlowSystem
from flowlib.systems.guides import GUIDES, refuse_labels
from flowlib.systems.sampling import FlowRequest, noise_for, sample_flow
from flowlib.systems.system import Parts, Row, Splits, Stage, register
from flowlib.training import Turn

__all__ = ["ControlNet", "ControlNetSystem"]

TRAINS = ("copy", "all", "small", "anew")


@register("controlnet")
@dataclass(frozen=True, kw_only=True)
class ControlNetSystem:
    """A ControlNet for one kind of control. `run.sample(pictures)` draws under pictures of controls (B, 3, H, W) alone;
    with a caption, `flowlib paint`, or `run.sample(system.guide(field, texts, controls))`.

    Attributes:
        control: its kind, one of `flowlib.data.controls.CONTROLS`.
        trains: what is trained: "copy", as published; "all", the base too, which is then no longer locked; "small", the
            small network and the zero convolutions alone, while the copy stays what it was; or "anew", what would be
            the copy, from first weights of its own.
        captions: columns of the data from which each sample's caption is drawn anew in every step, for a base that
            reads captions.
        dropout: how often the caption is replaced by the empty one; 0.5 in the paper.
        time_mean, time_std: of the times of the loss, as in `FlowSystem`; on a chain they are its steps.
        parts: "base", a run of glide or flow with a U-Net on pixels.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    Sampling: ClassVar[type] = FlowRequest
    Reporting: ClassVar[type] = ControlReport

    control: str = "edges"
    trains: str = "copy"
    captions: tuple[str, ...] = ("caption", "short")
    dropout: float = 0.5
    time_mean: float = 0.0
    time_std: float = 1.0
    parts: Mapping[str, str] = field(default_factory=lambda: {"base": "zoo:scenes-text"})

    def __post_init__(self) -> None:
        check_kind_of_control(self.control)
        check_choice("trains", self.trains, TRAINS)
        check_number("dropout", self.dropout, 0, 1)
        check_number("time_mean", self.time_mean)
        check_number("time_std", self.time_std, 0, low_open=True)
        if set(self.parts) != {"base"}:
            raise ValueError(f"parts must be a base alone, got {sorted(self.parts)}")

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        base = parts.get("base")
        net: Any = getattr(base, "net", None)
        unet = net.net if isinstance(net, Captioned) else net
        if type(base) is not Model or isinstance(net, CaptionedBeside) or not isinstance(unet, UNet):
            raise ValueError("the part 'base' must be a run of glide or flow with a U-Net and no image as its guide")
        needs = [CONTROLS[self.control].column, *(self.captions if isinstance(net, Captioned) else ())]
        missing = [name for name in needs if name not in spec.columns]
        if missing or len(spec.shape) != 3 or spec.shape[0] != unet.in_channels:
            raise ValueError(f"a ControlNet needs images with columns {needs}, got {spec.shape}, {spec.columns}")
        module = ControlNet(unet, CONTROLS[self.control].channels)
        if self.trains == "small":
            module.lock_copies()
        elif self.trains == "anew":
            module.draw_anew()
        module.unlocked = copy.deepcopy(net).requires_grad_(True) if self.trains == "all" else None
        return module

    def field(self, module: Any, parts: Parts, shape: tuple[int, ...], strength: float = 1.0) -> Model:
        """The flow under the control of `module`, of samples of `shape`; its guides are made by `guide`."""
        base: Any = parts["base"]
        net = base.net if module.unlocked is None else module.unlocked
        return Model(Controlled(net, [module], (shape[1], shape[2]), [strength]), base.path, base.predicts)

    def guide(self, field: Model, texts: Sequence[str] | None, controls: Tensor) -> Tensor:
        """The guides of captions, None for none of them, and controls (B, channels, H, W), as a flow of `field`."""
        net: Any = field.net
        own = None if texts is None else net.base.tokenizer(texts).to(controls.device)
        return net.guide(own, [controls])

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        model = self.field(module, parts, data.shape)
        net: Any = model.net
        schedule, times = model.path.schedule, dict[str, Any]()
        if isinstance(schedule, Chain):
            times = {"chain": schedule.steps, "time": "uniform"}
        flow = FlowSystem(dropout=self.dropout, time_mean=self.time_mean, time_std=self.time_std, **times)

        def draw(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            batch = data.batch(index)
            controls = CONTROLS[self.control].of(batch).to(batch["x"])
            if isinstance(net.base, Captioned):
                texts = chosen_captions(batch, self.captions, Turn(index, slice(None), generator))
                return batch["x"], self.guide(model, texts, controls)
            kind = None if net.base.null is None else "label" if isinstance(net.base.null, int) else "words"
            own = None if kind is None else GUIDES[kind].of(batch, data.spec, generator)
            return batch["x"], net.guide(own, [controls])

        return [Stage("control", lambda settings: flow.task(module, model, draw, data.count, settings))]

    def sample(self, module: nn.Module, parts: Parts, request: FlowRequest) -> Tensor:
        """Samples (count, *shape); `request.y` are guides, or pictures of controls (count, 3, H, W) alone."""
        model, y = self.field(module, parts, request.spec.shape), request.y
        if y is not None and y.ndim == 4:
            y = self.guide(model, None, controls_of(y, CONTROLS[self.control].channels))
        return sample_flow(model, replace(request, y=y), lands=model.predicts == "v")

    def guides(self, spec: Spec, labels: Sequence[int], count: int | None, data: Callable[[], Dataset]) -> Tensor:
        """Pictures of the controls of test scenes."""
        refuse_labels(labels, "the controls of test images")
        test = data()
        index = torch.arange(40 if count is None else count) % len(test)
        return pictures_of(CONTROLS[self.control].of(test.batch(index)))

    noise = staticmethod(noise_for)

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: ControlReport) -> Sequence[Row]:
        return report_control(self, module, data, parts, request)

    def illustrate(self, module: nn.Module, data: Data, parts: Parts, title: str) -> Any:
        """Controls of the data, and below each what is made of it and its caption, if the base reads captions."""
        batch, model = data.batch(torch.arange(16)), self.field(module, parts, data.shape)
        controls = CONTROLS[self.control].of(batch)
        texts = batch[self.captions[0]] if isinstance(model.net.base, Captioned) else None
        y = self.guide(model, texts, controls.to(batch["x"]))
        request = FlowRequest(spec=data.spec, y=y, count=16, scale=2.0 if texts else 1.0, steps=20)
        made = self.sample(module, parts, request).cpu()
        given = pictures_of(controls.cpu())[:, : made.shape[1]]
        rows = torch.cat([part for pair in zip(given.split(8), made.split(8), strict=True) for part in pair])
        return picture_grid(rows, columns=8, rows=["control", "painted"] * 2, title=title)
