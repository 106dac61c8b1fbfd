"""How good unCLIP is: what the judge reads in pictures of embeddings that come from several places."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flowlib.checks import check_number
from flowlib.progress import progress
from flowlib.systems.embedded import embed_images
from flowlib.systems.prior_report import cosine
from flowlib.systems.prompts import Asked, PromptReport
from flowlib.systems.reporting import Counter
from flowlib.systems.sampling import FlowRequest
from flowlib.systems.system import Parts, Row, Splits
from flowlib.systems.unclip_painting import embed_texts
from flowlib.systems.unclip_prior import PRIORS


@dataclass(frozen=True, kw_only=True)
class EmbeddingReport(PromptReport):
    """What is to be measured of unCLIP.

    Attributes:
        scales: of the decoder's classifier-free guidance.
        prior_scale: of the priors'.

    The others are those of a flow from captions.
    """

    scales: tuple[float, ...] = (3.0,)
    prior_scale: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("prior_scale", self.prior_scale)


def report_embeddings(
    system: Any, module: nn.Module, data: Splits, parts: Parts, request: EmbeddingReport
) -> Sequence[Row]:
    """Rows of real scenes, and of each source of embeddings at each scale, as `Asked` scores them.

    All are painted from the caption; beside it stands no embedding ("caption alone"), that of the text ("no prior"),
    one that a prior drew, or that of the true picture. "cosine" is the embedding's mean cosine with the latter.
    """
    asked, place = Asked(data, system.captions[0], request.samples), next(module.parameters()).device
    net: Any = module.net
    clip: Any = parts["clip"]
    true = [
        torch.cat([embed_images(clip, part.to(place)) for part in images.split(request.batch_size)])
        for images in (asked.images, asked.composed_images)
    ]
    sources = {"caption alone": [torch.zeros_like(one) for one in true]}
    for name, prior in {"no prior": None, **{name: parts[name] for name in PRIORS if name in parts}}.items():
        sources[name] = [
            embed_texts(
                prior, clip, texts, request.spec, scale=request.prior_scale, seed=request.seed,
                batch_size=request.batch_size, usual=request.usual,
            )
            for texts in (asked.texts, asked.composed)
        ]  # fmt: skip
    sources["true picture"] = true
    rows = [asked.scored("test scenes", asked.images, None)]
    with progress("painting", times=2 * len(sources) * len(request.scales)):
        for scale in request.scales:
            for name, embeddings in sources.items():
                calls, start, drawn = Counter(module), time.perf_counter(), list[Tensor]()
                with calls:
                    for texts, embedding in zip((asked.texts, asked.composed), embeddings, strict=True):
                        wish = FlowRequest(
                            spec=request.spec, y=net.guide(net.tokenizer(texts), embedding), count=asked.count,
                            scale=scale, steps=request.steps, method=request.method, seed=request.seed,
                            batch_size=request.batch_size, usual=request.usual,
                        )  # fmt: skip
                        drawn.append(system.sample(module, parts, wish).cpu())
                row: Row = {"nfe": calls.samples / (2 * asked.count)}
                row["per_second"] = 2 * asked.count / (time.perf_counter() - start)
                row = asked.scored(f"{name}, w = {scale:g}", *drawn) | row
                rows.append(row | {"cosine": cosine(embeddings[0], true[0])})
    return rows
