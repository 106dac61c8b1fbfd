"""The priors of unCLIP: from a text to CLIP's embedding of a picture of it (Ramesh et al. 2022, arXiv:2204.06125).

What makes them that: both read the text's tokens and its embedding, which are dropped together now and then, so that
classifier-free guidance can be had. The diffusion prior predicts the clean embedding, by squared error. The
autoregressive one writes its principal components, quantised, the largest first, and is told how near text and picture
are. Neither sees a picture: they are trained on pairs of embeddings, which are computed once.

    embedding = run.sample(text_guides(run.module, run.parts["clip"], ["a red seven"]), scale=2.0)

Example:
    >>> from flowlib.runs import load_pretrained
    >>> from flowlib.systems.prior_sampling import text_guides
    >>> from flowlib.systems.unclip_prior import UnCLIPPriorSystem
    >>> run = load_pretrained("unclip-prior")
    >>> isinstance(run.recipe.system, UnCLIPPriorSystem)
    True
    >>> clip, texts = run.parts["clip"], ["a red seven", "a blue two"]
    >>> embeddings = run.sample(text_guides(run.module, clip, texts), scale=2.0)
    >>> (embeddings @ clip.text_features(texts).T).argmax(1)  # each is nearer to its own text
    tensor([0, 1])
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_choice, check_count, check_number
from flowlib.data import Data, Spec
from flowlib.fields import Model
from flowlib.losses import prediction_error
from flowlib.nets.priors import AutoregressivePrior, DiffusionPrior
from flowlib.paths import GaussianPath
from flowlib.schedules import SCHEDULES
from flowlib.systems.clip import CaptionedCLIP
from flowlib.systems.embedded import check_parts, embed_pairs
from flowlib.systems.prior_report import PriorReport, draw_prior, report_prior
from flowlib.systems.prior_sampling import PriorRequest, reader_of, sample_prior
from flowlib.systems.system import Parts, Row, Splits, Stage, register
from flowlib.times import uniform_time
from flowlib.training import Task, Turn

PRIORS = ("diffusion", "autoregressive")


@register("unclip-prior")
@dataclass(frozen=True, kw_only=True)
class UnCLIPPriorSystem:
    """Embeddings of pictures from texts: `run.sample(text_guides(run.module, run.parts["clip"], texts))`.

    Attributes:
        kind: "diffusion" or "autoregressive".
        captions: columns of the data from which each sample's caption is drawn anew in every step.
        width, depth, heads: of the transformer.
        dropout: how often the text is dropped, 0.1 in the paper; and with it, how near it is to the picture.
        examples: samples of data without an end that are embedded, once, before the first step.
        schedule: of the diffusion, a name in `flowlib.schedules.SCHEDULES`.
        components, buckets, levels: of the autoregressive prior: principal components, into how many values each is
            cut, and levels of nearness of text and picture. The paper keeps 319 of 1,024 components, which lose less
            than 1 % of the mean square, and 1,024 buckets; of a small CLIP, fewer lose less.
        parts: "clip", a CLIP of clean pictures.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    Sampling: ClassVar[type] = PriorRequest
    Reporting: ClassVar[type] = PriorReport

    needs: ClassVar[Mapping[str, tuple[str, object]]] = {
        "schedule": ("kind", "diffusion"),
        **dict.fromkeys(("components", "buckets", "levels"), ("kind", "autoregressive")),
    }

    kind: str = "diffusion"
    captions: tuple[str, ...] = ("caption", "short")
    width: int = 128
    depth: int = 4
    heads: int = 4
    dropout: float = 0.1
    examples: int = 20_000
    schedule: str = "trigonometric"
    components: int = 24
    buckets: int = 64
    levels: int = 16
    parts: Mapping[str, str] = field(default_factory=lambda: {"clip": "zoo:clip-conv"})

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, PRIORS)
        for name in ("width", "depth", "heads", "examples", "components"):
            check_count(name, getattr(self, name))
        check_number("dropout", self.dropout, 0, 1)
        check_choice("schedule", self.schedule, SCHEDULES)
        if not self.captions:
            raise ValueError("captions must name columns of the data, got none")
        if set(self.parts) != {"clip"}:
            raise ValueError(f"parts must be a clip alone, got {sorted(self.parts)}")

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        clip = check_parts(spec, parts, self.captions)
        words, dim = clip.tokenizer, clip.image.out_dim
        with torch.no_grad():
            empty, mark = words([""])[0], clip.text_features([""])[0]
        common: Any = {"vocabulary": words.vocabulary, "empty": empty.cpu(), "padding": words.padding, "dim": dim}
        common |= {"width": self.width, "depth": self.depth, "heads": self.heads}
        module: nn.Module
        if self.kind == "diffusion":
            module = Model(DiffusionPrior(**common), GaussianPath(SCHEDULES[self.schedule]()), "data")
        else:
            module = AutoregressivePrior(components=self.components, buckets=self.buckets, levels=self.levels, **common)
        reader_of(module).mark.copy_(mark)
        return module

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        clip: Any = parts["clip"]
        return [Stage("prior", lambda settings: self.task(module, clip, data))]

    def task(self, module: Any, clip: CaptionedCLIP, data: Data) -> Task:
        """Learning the embeddings of pictures, each under one of its captions."""
        count = self.examples if data.count is None else min(self.examples, data.count)
        pairs, net = embed_pairs(clip, data, self.captions, count), reader_of(module)
        if isinstance(net, AutoregressivePrior):
            net.learn(pairs.images, pairs.texts[0])

        def loss(turn: Turn) -> Tensor:
            total, generator, part = len(turn.index), turn.generator, turn.part
            which = torch.randint(len(self.captions), (total,), generator=generator)[part]
            drop = (torch.rand(total, generator=generator) < self.dropout)[part].to(data.device)
            z, text = pairs.images[turn.mine], pairs.texts[which, turn.mine]
            y = torch.where(drop[:, None], net.null, net.guide(pairs.tokens[which, turn.mine], text))
            if isinstance(net, AutoregressivePrior):
                codes, level = net.codes.encode(z), net.level(z, text).masked_fill(drop, net.levels)
                return F.cross_entropy(module(y, level, codes).flatten(0, 1), codes.flatten())
            t = uniform_time(total, generator)[part].to(z)
            return prediction_error(module, z * net.dim**0.5, y, t, turn.normal(net.dim).to(z)).mean()

        return Task(module, loss, count, net)

    def sample(self, module: Any, parts: Parts, request: PriorRequest) -> Tensor:
        """Embeddings of pictures (count, dim) of unit length."""
        return sample_prior(module, request)

    def guides(self, *_: Any) -> None:
        """None: `flowlib sample` has no texts."""

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: PriorReport) -> Sequence[Row]:
        clip: Any = parts["clip"]
        test, count = data.test.to(next(module.parameters()).device), min(request.samples, len(data.test))
        return report_prior(module, embed_pairs(clip, test, self.captions[:1], count), request)

    def illustrate(self, module: nn.Module, data: Data, parts: Parts, title: str) -> Any:
        """Embeddings of 128 pictures, and those drawn for their captions, in two principal components."""
        clip: Any = parts["clip"]
        return draw_prior(module, embed_pairs(clip, data, self.captions[:1], 128), data.spec, title)
