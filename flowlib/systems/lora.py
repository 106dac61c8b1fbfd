"""LoRA: a finished painter learns a style or an object from a few pictures, by updates of low rank (Hu et al. 2021).

    flowlib adapt zoo:scenes-text --images pictures --caption "a sks seven" --rank 4
    flowlib paint "a sks seven" --lora runs/adapted/adapter.safetensors:0.8

What makes it LoRA is `flowlib.nets.lora`. Here the painter's own system trains: its loss, its captions, its sampler;
only what is trained is the adapter, and so is all that a checkpoint holds.

Example:
    >>> from flowlib.runs import load_pretrained
    >>> from flowlib.systems.lora import LoRASystem
    >>> run = load_pretrained("lora-striped")
    >>> isinstance(run.recipe.system, LoRASystem), run.recipe.system.rank
    (True, 4)
    >>> kept = sum(value.numel() for value in run.module.state_dict().values())  # of the adapters alone
    >>> round(kept / sum(value.numel() for value in run.parts["base"].parameters()), 3)
    0.058
    >>> run.sample(run.module.net.tokenizer(["a striped seven"]), steps=2).shape
    torch.Size([1, 3, 16, 16])
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count, check_flag, check_number
from flowlib.data import Data, Dataset, Spec
from flowlib.nets.captioned import Captioned
from flowlib.nets.lora import ATTENTION, add_lora
from flowlib.nets.tokenizer import Tokenizer
from flowlib.systems.adapting import AdaptRequest, adapt, settings_of
from flowlib.systems.discovery import find_system
from flowlib.systems.lora_files import ADAPTER
from flowlib.systems.lora_report import LoRAReport, report_lora
from flowlib.systems.painting import PAINTER, PaintRequest, paint, paint_request
from flowlib.systems.system import Command, Parts, Row, Splits, Stage, name_of, register

SHOWN = 16  # pictures of how far a training is


@register(
    "lora",
    commands=[
        Command("adapt", AdaptRequest, adapt, help="Teach a painter a style or an object by LoRA.", anywhere=True),
        Command("paint", paint_request, paint, help="Paint a picture of a caption.", model=PAINTER),
    ],
)
@dataclass(frozen=True, kw_only=True)
class LoRASystem:
    """An adapter of a painter, which is the part "base": `run.module` is that painter with it.

    Attributes:
        painter: the settings of the base's system, as plain data: `settings_of`.
        shape: of its pictures.
        caption: of all pictures; "" for data with captions of their own.
        rank, alpha, targets: as in `flowlib.nets.lora.add_lora`.
        full: whether all weights are trained instead, and kept, which is what LoRA is compared with.
        parts: "base".

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    Reporting = LoRAReport
    leaves: ClassVar[tuple[str, ...]] = (ADAPTER,)
    needs: ClassVar[Mapping[str, tuple[str, object]]] = dict.fromkeys(("rank", "alpha", "targets"), ("full", False))

    painter: Mapping[str, Any]
    shape: tuple[int, ...]
    caption: str = ""
    rank: int = 4
    alpha: float | None = None
    targets: tuple[str, ...] = ATTENTION
    full: bool = False
    parts: Mapping[str, str] = field(default_factory=lambda: {"base": "zoo:scenes-text"})

    def __post_init__(self) -> None:
        check_count("rank", self.rank)
        if self.alpha is not None:
            check_number("alpha", self.alpha, 0, low_open=True)
        check_flag("full", self.full)
        if set(self.parts) != {"base"}:
            raise ValueError(f"parts must be a base alone, got {sorted(self.parts)}")
        # Which fails now, not in use, if there is none. Settings that are newer than a saved LoRA have their defaults.
        object.__setattr__(self, "painter", settings_of(self._painted()))

    @cached_property
    def system(self) -> Any:
        """The system of the base, which learns from one caption for each picture."""
        return replace(self._painted(), captions=("caption",))

    def _painted(self) -> Any:
        from pydantic import TypeAdapter

        kind: Any = find_system(str(self.painter.get("system")))
        if not hasattr(kind, "painted") or "captions" not in kind.__dataclass_fields__:
            raise ValueError(f"painter must be a system that draws from captions, got {self.painter['system']!r}")
        settings = {name: value for name, value in self.painter.items() if name != "system"}
        return TypeAdapter(kind).validate_python(settings)

    @property
    def Sampling(self) -> type:
        """The request of the base's system."""
        return self.system.Sampling

    @property
    def paints(self) -> Mapping[str, Any]:
        """The options of `flowlib paint` that mean something to the base."""
        return self.system.paints

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        if tuple(spec.shape) != tuple(self.shape):
            raise ValueError(f"the pictures have shape {tuple(spec.shape)}, the base paints {tuple(self.shape)}")
        if name_of(self.system) != "glide" or type(getattr(parts["base"], "net", None)) is not Captioned:
            raise ValueError("a LoRA adapts a painter of the system glide, which paints from captions alone")
        module = copy.deepcopy(parts["base"])
        if self.full:
            return module.requires_grad_(True)
        add_lora(module, self.rank, self.alpha, self.targets, generator=generator)
        return saved_alone(module)

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        told = self.told(data)
        stages = self.system.stages(module, told, {})
        # What a system does before its stages, such as learning words from the captions, the base has done.
        module.load_state_dict(parts["base"].state_dict(), strict=False)
        for part in module.modules():
            if isinstance(part, Tokenizer):
                part(sorted(set(told.captions or ())))  # which refuses one that is too long
        return stages[-1:]

    def told(self, data: Data) -> Dataset:
        """The data with a caption for each picture."""
        if self.caption:
            known = data.finite()
            return replace(known, captions=[self.caption] * len(known), words=(), length=0)
        if "caption" not in data.spec.columns:
            raise ValueError("caption must be given, or a .txt file beside each picture")
        return data.finite()

    def sample(self, module: nn.Module, parts: Parts, request: Any) -> Tensor:
        """Pictures of the adapted painter, as its own system draws them."""
        return self.system.sample(module, {}, request)

    def painted(self, run: Any, request: PaintRequest, small: Tensor | None = None) -> Tensor:
        """Pictures of a caption (count, *shape), as `flowlib paint` wants them."""
        inner = replace(run, recipe=replace(run.recipe, system=self.system))
        return self.system.painted(inner, request, small)

    def guides(self, *_: Any) -> None:
        """None: `flowlib sample` draws without a caption, and `flowlib paint` with one."""

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: LoRAReport) -> Sequence[Row]:
        return report_lora(self, module, data, parts, request)

    def illustrate(self, module: nn.Module, data: Data, parts: Parts, title: str) -> Any:
        """What the base's system shows, of the captions of the pictures."""
        batch = self.told(data).batch(torch.arange(SHOWN) % len(data.finite()))
        shown = Dataset(batch["x"], captions=batch["caption"], levels=data.levels)
        return self.system.illustrate(module, shown, {}, title)


def saved_alone(module: nn.Module) -> nn.Module:
    """The module, whose state dict is that of its adapters alone, and is loaded so."""

    def drop(_: nn.Module, state: dict[str, Any], prefix: str, *more: Any) -> None:
        for key in [key for key in state if ".lora." not in key]:
            del state[key]

    def expect(_: nn.Module, keys: Any) -> None:
        keys.missing_keys[:] = [key for key in keys.missing_keys if ".lora." in key]

    module.register_state_dict_post_hook(drop)
    module.register_load_state_dict_post_hook(expect)
    return module
