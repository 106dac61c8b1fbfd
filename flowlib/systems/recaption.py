"""DALL-E 3: a painter that learns from captions written for it, by a captioner (Betker et al. 2023).

What makes it that: the images of a data set are described anew, once, by a captioner (`flowlib.systems.captioner`);
the text-to-image network, GLIDE's here, learns from these synthetic captions and, now and then, from the given ones,
which people wrote; a short prompt is made descriptive before it is painted.

    flowlib paint "a red seven" --model runs/recaption --rewrite

Example:
    >>> import torch
    >>> from flowlib.recipes import find_recipe
    >>> from flowlib.systems.recaption import RecaptionSystem, blended
    >>> from flowlib.training import Turn
    >>> turn = Turn(torch.arange(1000), slice(None), torch.Generator().manual_seed(0))
    >>> system = find_recipe("recaption").system
    >>> isinstance(system, RecaptionSystem), system.share
    (True, 0.95)
    >>> texts = blended(["given"] * 1000, ["written"] * 1000, system.share, turn)
    >>> abs(texts.count("written") / 1000 - system.share) < 0.02
    True
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count, check_number
from flowlib.data import Data, Dataset, Scenes, Spec
from flowlib.fields import Model
from flowlib.nets.captioner import Captioner
from flowlib.systems.caption_writing import kept_captions
from flowlib.systems.captions import learned_captions
from flowlib.systems.glide import GlideSystem
from flowlib.systems.recaption_report import RecaptionReport, report_recaption
from flowlib.systems.system import Parts, Row, Splits, Stage, no_parts, register
from flowlib.text.styles import ODD, restyle
from flowlib.training import Turn
from flowlib.training.order import stream

GIVEN, SYNTHETIC = "given", "synthetic"  # columns of the data that are learned from


def blended(given: Sequence[str], synthetic: Sequence[str], share: float, turn: Turn) -> list[str]:
    """For each sample of this process's part of a batch the synthetic caption with probability `share`, else the given.

    Args:
        given, synthetic: captions of the part.
        share: in [0, 1].
        turn: the step's, whose generator is drawn from for the whole batch.
    """
    chance = torch.rand(len(turn.index), generator=turn.generator, dtype=torch.float64)[turn.part]
    written = (chance < share).tolist()
    return [new if one else old for one, old, new in zip(written, given, synthetic, strict=True)]


def oddly(texts: Sequence[str], rate: float, generator: torch.Generator) -> list[str]:
    """Texts, of which a share `rate` is written in one of the `ODD` styles, each as likely."""
    chance = torch.rand(len(texts), generator=generator, dtype=torch.float64).tolist()
    style = torch.randint(len(ODD), (len(texts),), generator=generator).tolist()
    return [restyle(text, ODD[i]) if luck < rate else text for text, luck, i in zip(texts, chance, style, strict=True)]


@register("recaption")
@dataclass(frozen=True, kw_only=True)
class RecaptionSystem(GlideSystem):
    """A flow of images from captions that a captioner wrote: sampled as a `GlideSystem`.

    Attributes:
        captions: the column of the given captions, one.
        share: how often a sample's caption is the synthetic one and not the given one, in [0, 1]; 0.95 in the paper.
        size: images that are described and learned, the first ones of data without an end.
        temperature, top_k: of writing, as in `flowlib.systems.token_sampling.next_token`.
        oddity: the share of given captions that are written in one of `flowlib.text.styles.ODD`, drawn once for each.
            What people write is not of one form, which is what it is blended in for.
        pieces: further columns that the tokenizer learns from, so that every share has the same tokens, as the paper's
            text encoder was there before.
        parts: "captioner", who describes the images; none for a share of 0. "clip", if there is one, measures.

    The others are those of GLIDE.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    stands_on: ClassVar[tuple[str, ...]] = ("captioner", "clip")
    Reporting: ClassVar[type] = RecaptionReport

    captions: tuple[str, ...] = ("noisy",)
    share: float = 0.95
    size: int = 20_000
    temperature: float = 1.0
    top_k: int = 1
    oddity: float = 0.5
    pieces: tuple[str, ...] = ("short", "caption")
    length: int = 40
    parts: Mapping[str, str] = no_parts()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("share", "oddity"):
            check_number(name, getattr(self, name), 0, 1)
        check_count("size", self.size)
        check_number("temperature", self.temperature, 0, low_open=True)
        check_count("top_k", self.top_k, 0)
        if len(self.captions) != 1:
            raise ValueError(f"captions must name the column of the given captions, one, got {self.captions!r}")
        if set(self.parts) - {"clip"} != ({"captioner"} if self.share else set()):
            raise ValueError(f"parts must be a captioner, none for a share of 0, and a clip; got {sorted(self.parts)}")

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> Model:
        captioner = parts.get("captioner")
        if self.share and not isinstance(captioner, Captioner):
            raise ValueError("the part 'captioner' must be a run of the system captioner")
        if missing := [name for name in self.pieces if name not in spec.columns]:
            raise ValueError(f"pieces must name columns of the data, {missing} are none of {spec.columns}")
        return super().build(spec, parts, generator)

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        return super().stages(module, self.described(data, parts), parts)

    def described(self, data: Data, parts: Parts) -> Dataset:
        """What is learned: so many images as a set with an end, and of each the given and the synthetic caption."""
        learned = data.first(self.size).to(data.device) if isinstance(data, Scenes) else data.finite()
        written = learned.batch(torch.arange(len(learned)))[self.captions[0]]
        columns = {GIVEN: oddly(written, self.oddity, stream(0, "odd captions"))}
        columns[SYNTHETIC] = columns[GIVEN]
        if self.share:
            captioner: Any = parts["captioner"]
            columns[SYNTHETIC] = kept_captions(
                captioner, data, len(learned), temperature=self.temperature, top_k=self.top_k
            )
        return replace(learned, more={**learned.more, **columns})

    def chosen(self, batch: Mapping[str, Any], turn: Turn) -> list[str]:
        return blended(batch[GIVEN], batch[SYNTHETIC], self.share, turn)

    def learn_words(self, module: Any, data: Data) -> None:
        """Train the tokenizer on the given captions, and on the columns `pieces`, whatever the share."""
        module.net.tokenizer.learn(learned_captions(data, (GIVEN, *self.pieces)))

    def told(self, module: Any, texts: Sequence[str], x: Tensor, generator: torch.Generator) -> Tensor:
        """The guides of captions; what a captioner wrote may be too long, and is cut."""
        return module.net.tokenizer(texts, cut=True)

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: Any) -> Sequence[Row]:
        return report_recaption(self, module, data, parts, request)
