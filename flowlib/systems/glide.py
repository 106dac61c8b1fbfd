"""GLIDE: images from captions, by a flow whose network reads the caption (Nichol et al. 2022).

What makes it GLIDE: a transformer reads the caption; its last feature stands where a label's embedding would, and the
features of all tokens are joined to the keys and values of every attention layer. In training the caption is dropped
for the empty one, so that classifier-free guidance can be had.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_choice, check_count, check_number
from flowlib.data import Data, Spec
from flowlib.fields import Model
from flowlib.nets.captioned import Captioned
from flowlib.nets.tokenizer import Tokenizer
from flowlib.nets.transformer import TextTransformer
from flowlib.plotting import captioned_grid, save_figure
from flowlib.systems.captions import chosen_captions, learned_captions
from flowlib.systems.flow import FlowSystem
from flowlib.systems.prompts import PromptReport, report_prompts
from flowlib.systems.sampling import FlowRequest
from flowlib.systems.system import Command, Parts, Row, Splits, Stage, register
from flowlib.training import Turn


@dataclass(frozen=True, kw_only=True)
class PaintRequest:
    """What `flowlib paint` is asked for."""

    caption: str = field(metadata={"help": "What to paint, such as 'a red seven'.", "argument": True})
    out: Path = field(default=Path("scene.png"), metadata={"help": "The picture to write."})
    count: int = field(default=1, metadata={"help": "Pictures, side by side."})
    scale: float = field(default=3.0, metadata={"help": "Guidance scale: 1 is none; more is closer to the caption."})
    steps: int = field(default=30, metadata={"help": "Steps of the sampler."})
    method: str = field(default="heun", metadata={"help": "As in flowlib sample."})
    seed: int = field(default=0, metadata={"help": "Another seed, another picture."})

    def __post_init__(self) -> None:
        check_count("count", self.count)
        check_number("scale", self.scale)
        check_count("seed", self.seed, 0)
        if not self.caption.strip():
            raise ValueError("caption must not be empty: say what to paint, such as 'a red seven'")
        if self.out.suffix.lower() not in (".png", ".pdf", ".svg", ".jpg"):
            raise ValueError(f"--out must be a picture, such as scene.png, got {str(self.out)!r}")


def paint(run: Any, request: PaintRequest) -> list[str]:
    """Paint pictures of a caption."""
    y = run.module.net.tokenizer([request.caption] * request.count)
    images = run.sample(y, scale=request.scale, steps=request.steps, method=request.method, seed=request.seed)
    save_figure(captioned_grid(images.cpu(), [request.caption] * request.count), request.out)
    return [f"{request.caption}: {request.out}"]


@register(
    "glide",
    commands=[Command("paint", PaintRequest, paint, help="Paint a picture of a caption.", model="zoo:scenes-text")],
)
@dataclass(frozen=True, kw_only=True)
class GlideSystem(FlowSystem):
    """A flow of images from captions: `run.sample(run.module.net.tokenizer(["a red seven"]), scale=3)`.

    Attributes:
        captions: columns of the data from which each sample's caption is drawn anew in every step.
        text_width, text_depth, text_heads: of the text transformer.
        vocabulary, length: tokens of the byte-pair encoding, and of a caption at most.
        dropout: how often the caption is replaced by the empty one; 0.2 in the paper.

    The others are those of a flow, whose guide the captions are.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    readable: ClassVar[tuple[str, ...]] = ("caption",)
    Reporting: ClassVar[type] = PromptReport
    takes_net: ClassVar[bool] = False

    guide: str = "caption"
    dropout: float = 0.2
    captions: tuple[str, ...] = ("caption", "short")
    text_width: int = 96
    text_depth: int = 2
    text_heads: int = 4
    vocabulary: int = 512
    length: int = 24

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("text_width", "text_depth", "text_heads"):
            check_count(name, getattr(self, name))
        check_choice("net", self.net, ("unet", "dit"))
        if not self.guided or not self.captions:
            raise ValueError("guided must be true, and captions name columns of the data: a caption is the guide")

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        missing = [name for name in self.captions if name not in spec.columns]
        if missing or len(spec.shape) != 3:
            raise ValueError(f"GLIDE needs images with columns {self.captions}, got {spec.shape}, {spec.columns}")
        net = self._make(spec.shape, classes=None, context_dim=self.text_width)
        tokenizer = Tokenizer(self.vocabulary, self.length)
        text = TextTransformer(
            self.vocabulary, self.length, tokenizer.end, tokenizer.padding, width=self.text_width,
            depth=self.text_depth, heads=self.text_heads, causal=False,
        )  # fmt: skip
        dim = net.condition_dim
        return Model(Captioned(net, text, tokenizer, dim), self.path(), self.predicts)  # type: ignore[arg-type]

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        assert isinstance(module, Model)
        tokenizer: Tokenizer = module.net.tokenizer  # type: ignore[assignment]
        tokenizer.learn(learned_captions(data, self.captions))

        def draw(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
            batch = data.batch(index)
            return batch["x"], tokenizer(chosen_captions(batch, self.captions, Turn(index, slice(None), generator)))

        return [Stage("flow", lambda settings: self.task(module, module, draw, data.count, settings, data.levels))]

    def guides(self, *_: Any) -> None:
        """None: `flowlib sample` draws without a caption, and `flowlib paint` with one."""

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: Any) -> Sequence[Row]:
        return report_prompts(self, module, data, parts, request)

    def illustrate(self, module: nn.Module, data: Data, parts: Parts, title: str) -> Any:
        """Sixteen captions of the data, and what is made of them."""
        texts = data.batch(torch.arange(16))[self.captions[0]]
        y = module.net.tokenizer(texts)  # type: ignore[operator, union-attr]
        request = FlowRequest(spec=data.spec, y=y, count=16, scale=2.0, steps=20)
        return captioned_grid(self.sample(module, parts, request).cpu(), texts, title=title)
