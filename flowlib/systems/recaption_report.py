"""DALL-E 3's three measures: a CLIP score, an automatic judge, the binding of attributes; by how prompts are written.

Betker et al. (2023) compare CLIP scores, let GPT-4 with vision judge whether images are as asked for, and measure
binding by T2I-CompBench. Here a CLIP that no captioner has seen, the judge of scenes and `flowlib.systems.binding` do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from flowlib.data import Dataset
from flowlib.data.rewriting import rewrite
from flowlib.metrics.scenes import score_captions
from flowlib.metrics.truth import check_scenes
from flowlib.progress import progress
from flowlib.systems.binding import BINDING, binding, binding_prompts
from flowlib.systems.clip import CaptionedCLIP
from flowlib.systems.prompts import PromptReport
from flowlib.systems.reranking import similarity
from flowlib.systems.system import Parts, Row, Splits
from flowlib.text.styles import ODD, restyle
from flowlib.training.order import stream

SCALED = 100  # a CLIP score is a cosine times that, as in the paper


@dataclass(frozen=True, kw_only=True)
class RecaptionReport(PromptReport):
    """What is to be measured: as in `PromptReport`, for each way in which a prompt is written."""

    samples: int = 500
    scales: tuple[float, ...] = (3.0,)


class Prompts(NamedTuple):
    """What is asked for, and how a painter is told of it."""

    name: str
    asked: list[str]
    told: list[str]


def written_prompts(test: Dataset, count: int, seed: int = 0) -> list[Prompts]:
    """Captions of test scenes in several ways; what an image is measured by is always the plain caption.

    "odd" ones are written in the styles `ODD` by turns; of a short one that is rewritten, all that it leaves open is
    drawn at random (`flowlib.data.rewriting`).
    """
    batch = test.batch(torch.arange(count))
    found = [Prompts(name, batch[column], batch[column]) for name, column in COLUMNS.items()]
    found += [Prompts(f"{name}, odd", asked, oddly_in_turn(asked)) for name, asked, _ in found]
    brief, brief_odd = found[0], found[2]
    return [*found, *(rewritten(one, seed) for one in (brief, brief_odd))]


COLUMNS = {"short": "short", "descriptive": "caption"}


def oddly_in_turn(texts: Sequence[str]) -> list[str]:
    """Each text in the next of the `ODD` styles."""
    return [restyle(text, ODD[i % len(ODD)]) for i, text in enumerate(texts)]


def rewritten(prompts: Prompts, seed: int = 0) -> Prompts:
    """The same wishes, told by descriptive captions."""
    luck = stream(seed, "rewriting")
    return Prompts(f"{prompts.name}, rewritten", prompts.asked, [rewrite(text, luck) for text in prompts.told])


def bound_prompts(kind: str, count: int, seed: int = 0) -> Prompts:
    """The prompts of one kind of the binding benchmark."""
    texts = binding_prompts(kind, count, stream(seed, "binding", kind))
    return Prompts(f"binding {kind}", texts, texts)


def report_recaption(
    system: Any, module: nn.Module, data: Splits, parts: Parts, request: RecaptionReport
) -> Sequence[Row]:
    """A row for each way to write prompts and each scale.

    "clip" is the CLIP score of the part "clip", if there is one; "all" and the like are shares that the judge reads as
    asked for; "bound", "exchanged" and "there" those of `binding`. A prompt that is too long is cut, as captions are.
    """
    check_scenes(data.test)
    count, clip = min(request.samples, len(data.test)), parts.get("clip")
    asked = written_prompts(data.test, count, request.seed)
    for kind in BINDING:
        plain = bound_prompts(kind, count, request.seed)
        asked += [plain, rewritten(plain, request.seed)]
    rows: list[Row] = []
    with progress("painting", times=len(asked) * len(request.scales)):
        for scale in request.scales:
            for prompts in asked:
                y = module.net.tokenizer(prompts.told, cut=True)  # type: ignore[operator, union-attr]
                wish = system.Sampling(
                    spec=request.spec, y=y, count=count, scale=scale, steps=request.steps, method=request.method,
                    seed=request.seed, batch_size=request.batch_size, usual=request.usual,
                )  # fmt: skip
                images = system.sample(module, parts, wish).cpu().clamp(-1, 1)
                row: Row = {"prompts": prompts.name, "w": scale}
                if isinstance(clip, CaptionedCLIP):
                    device = next(clip.parameters()).device
                    row["clip"] = SCALED * float(similarity(clip, images.to(device), prompts.asked).mean())
                measure = binding if prompts.name.startswith("binding") else score_captions
                row.update(measure(images, prompts.asked))
                rows.append(row)
    return rows
