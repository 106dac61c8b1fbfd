"""GLIDE: images from captions, by a flow whose network reads the caption (Nichol et al. 2022).

What makes it GLIDE: a transformer reads the caption; its last feature stands where a label's embedding would, and the
features of all tokens are joined to the keys and values of every attention layer. In training the caption is dropped
for the empty one, so that classifier-free guidance can be had.

Example:
    >>> from flowlib.runs import load_pretrained
    >>> from flowlib.systems.glide import GlideSystem
    >>> run = load_pretrained("scenes-text")
    >>> tokens = run.module.net.tokenizer(["a red seven", ""])
    >>> isinstance(run.recipe.system, GlideSystem), tokens[1].equal(run.module.null)  # the empty text is the null guide
    (True, True)
    >>> run.sample(tokens, scale=3.0, steps=2).shape
    torch.Size([2, 3, 16, 16])
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_choice, check_count, check_odd
from flowlib.data import Data, Spec
from flowlib.fields import Model
from flowlib.nets.captioned import Captioned, CaptionedBeside
from flowlib.nets.tokenizer import Tokenizer
from flowlib.nets.transformer import TextTransformer
from flowlib.plotting import captioned_grid
from flowlib.systems.captions import chosen_captions, learned_captions
from flowlib.systems.flow import FlowSystem
from flowlib.systems.flow_painting import OPTIONS, paint_flow
from flowlib.systems.painting import PAINTER, PaintRequest, paint, paint_request
from flowlib.systems.prompts import PromptReport, report_prompts
from flowlib.systems.sampling import FlowRequest
from flowlib.systems.system import Command, Parts, Row, Splits, Stage, register
from flowlib.training import Turn
from flowlib.training.order import stream


@register(
    "glide",
    commands=[Command("paint", paint_request, paint, help="Paint a picture of a caption.", model=PAINTER)],
)
@dataclass(frozen=True, kw_only=True)
class GlideSystem(FlowSystem):
    """A flow of images from captions: `run.sample(run.module.net.tokenizer(["a red seven"]), scale=3)`.

    Attributes:
        captions: columns of the data from which each sample's caption is drawn anew in every step.
        text_width, text_depth, text_heads: of the text transformer.
        vocabulary, length: tokens of the byte-pair encoding, and of a caption at most.
        reach: neighbouring tokens that are also read together (`Phrases`), an odd number; 0 for none, as in GLIDE.
        dropout: how often the caption is replaced by the empty one; 0.2 in the paper.

    The others are those of a flow, whose guide the captions are.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    readable: ClassVar[tuple[str, ...]] = ("caption",)
    Reporting: ClassVar[type] = PromptReport
    takes_net: ClassVar[bool] = False

    paints: ClassVar[Mapping[str, Any]] = OPTIONS
    edits: ClassVar[bool] = False

    guide: str = "caption"
    dropout: float = 0.2
    captions: tuple[str, ...] = ("caption", "short")
    text_width: int = 96
    text_depth: int = 2
    text_heads: int = 4
    vocabulary: int = 512
    length: int = 24
    reach: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("text_width", "text_depth", "text_heads"):
            check_count(name, getattr(self, name))
        check_choice("net", self.net, ("unet", "dit"))
        check_odd("reach", self.reach, 0)
        if not self.guided or not self.captions:
            raise ValueError("guided must be true, and captions name columns of the data: a caption is the guide")

    def beside(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of an image that the network is given beside the noised one, for data of `shape`; () for none."""
        return ()

    def laid(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """That image, for a batch of data x (B, C, H, W)."""
        raise NotImplementedError

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> Model:
        missing = [name for name in self.captions if name not in spec.columns]
        if missing or len(spec.shape) != 3:
            raise ValueError(f"GLIDE needs images with columns {self.captions}, got {spec.shape}, {spec.columns}")
        shape = self.beside(spec.shape)
        net = self._make(spec.shape, classes=None, context_dim=self.text_width, beside=shape[0] if shape else 0)
        tokenizer = Tokenizer(self.vocabulary, self.length)
        text = TextTransformer(
            self.vocabulary, self.length, tokenizer.end, tokenizer.padding, width=self.text_width,
            depth=self.text_depth, heads=self.text_heads, causal=False,
        )  # fmt: skip
        return Model(self.captioned(net, text, tokenizer, shape, parts), self.path(), self.predicts)

    def captioned(
        self, net: Any, text: TextTransformer, tokenizer: Tokenizer, shape: tuple[int, ...], parts: Parts
    ) -> Captioned:
        """The network that is told texts by such a transformer and tokenizer; `shape` is what `beside` says."""
        if shape:
            return CaptionedBeside(net, text, tokenizer, net.condition_dim, shape, self.reach)
        return Captioned(net, text, tokenizer, net.condition_dim, self.reach)

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        assert isinstance(module, Model)
        self.learn_words(module, data)

        def draw(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
            batch = data.batch(index)
            texts = self.chosen(batch, Turn(index, slice(None), generator))
            return batch["x"], self.told(module, texts, batch["x"], generator)

        return [Stage("flow", lambda settings: self.task(module, module, draw, data.count, settings, data.levels))]

    def chosen(self, batch: Mapping[str, Any], turn: Turn) -> list[str]:
        """The captions of a batch of data in a step, one a sample."""
        return chosen_captions(batch, self.captions, turn)

    def learn_words(self, module: Any, data: Data) -> None:
        """Train the tokenizer on the captions of the data."""
        module.net.tokenizer.learn(learned_captions(data, self.captions))

    def told(self, module: Any, texts: Sequence[str], x: Tensor, generator: torch.Generator) -> Tensor:
        """The guides of captions, and of what lies beside images x (B, C, H, W), if anything does."""
        tokens = module.net.tokenizer(texts)
        return module.net.guide(tokens, self.laid(x, generator)) if self.beside(tuple(x.shape[1:])) else tokens

    def guides(self, *_: Any) -> None:
        """None: `flowlib sample` draws without a caption, and `flowlib paint` with one."""

    def painted(self, run: Any, request: PaintRequest, small: Tensor | None = None) -> Tensor:
        """Pictures of a caption (count, *shape), as `flowlib paint` wants them."""
        return paint_flow(run, request, small)

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: Any) -> Sequence[Row]:
        return report_prompts(self, module, data, parts, request)

    def illustrate(self, module: nn.Module, data: Data, parts: Parts, title: str) -> Any:
        """Sixteen captions of the data, and what is made of them."""
        batch = data.batch(torch.arange(16))
        texts = batch[self.captions[0]]
        y = self.told(module, texts, batch["x"], stream(0, "beside"))
        request = FlowRequest(spec=data.spec, y=y, count=16, scale=2.0, steps=20)
        return captioned_grid(self.sample(module, parts, request).cpu(), texts, title=title)


def start_from(base: Any, made: Model, more: Sequence[str]) -> Model:
    """Return the untrained model with the weights of a painter, but for those called as in `more`, which it has not.

    Raises:
        ValueError: if the base is no painter of captions alone, or one of other settings.
    """
    if not isinstance(base, Model) or type(base.net) is not Captioned:
        raise ValueError("the part 'base' must be a painter of the system glide")
    if repr(base.path) != repr(made.path) or base.predicts != made.predicts:
        raise ValueError(f"the base predicts {base.predicts!r} on {base.path}, and this {made.predicts!r}")
    try:
        left = made.load_state_dict(base.state_dict(), strict=False)
    except RuntimeError:
        left = None
    if left is None or left.unexpected_keys or set(left.missing_keys) != set(more):
        raise ValueError("the network of the part 'base' must have the settings of this one")
    return made
