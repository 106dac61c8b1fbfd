"""How good DALL-E is: what the judge reads in its images, what re-ranking adds, and what test images cost in bits."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flowlib.checks import check_count, check_number
from flowlib.data import Dataset
from flowlib.progress import progress
from flowlib.systems.clip import CaptionedCLIP
from flowlib.systems.codebook_use import codebook_use
from flowlib.systems.prompts import Asked
from flowlib.systems.system import Parts, ReportRequest, Row, Splits
from flowlib.systems.token_bound import Bound, bound_of_images
from flowlib.systems.token_sampling import TokenRequest
from flowlib.training.devices import autocast
from flowlib.training.order import stream


@dataclass(frozen=True, kw_only=True)
class TokenReport(ReportRequest):
    """What is to be measured of images written token by token.

    Attributes:
        samples: captions in each row; 1,000 are enough for a percent.
        temperatures, top_ks: rows with one candidate: each temperature at the first top_k, each further top_k at the
            first temperature.
        candidates: rows in which CLIP chooses among so many, at the first temperature and top_k, where the run has one.
        likelihood: test images whose bound is computed, 0 for none.
    """

    samples: int = 1000
    temperatures: tuple[float, ...] = (1.0,)
    top_ks: tuple[int, ...] = (0,)
    candidates: tuple[int, ...] = (1, 8)
    likelihood: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        for temperature in self.temperatures:
            check_number("temperature", temperature, 0, low_open=True)
        for top_k in self.top_ks:
            check_count("top_k", top_k, 0)
        for candidates in self.candidates:
            check_count("candidates", candidates)
        if not self.temperatures or not self.top_ks:
            raise ValueError("temperatures and top_ks must hold one number at least")
        check_count("likelihood", self.likelihood, 0)


def report_tokens(system: Any, module: Any, data: Splits, parts: Parts, request: TokenReport) -> Sequence[Row]:
    """Rows of real scenes, of what the first stage makes of them, and of samples; then rows in bits.

    "used" is the share of the codebook that occurs, "perplexity" how many tokens equally frequent ones would be.
    """
    asked = Asked(data, system.captions[0], request.samples)
    place, count = next(module.parameters()).device, asked.count
    index = torch.cat([module.encode(part.to(place)) for part in asked.images.split(request.batch_size)])
    restored = torch.cat([module.decode(part) for part in index.split(request.batch_size)]).cpu()
    use = codebook_use(index, module.gpt.codes)
    tokens: Row = {"used": use.share, "perplexity": use.perplexity}
    rows = [asked.scored("test scenes", asked.images, None), asked.scored("restored", restored, None) | tokens]
    wish = TokenRequest(
        spec=request.spec, count=count, seed=request.seed, batch_size=request.batch_size, usual=request.usual,
        temperature=request.temperatures[0], top_k=request.top_ks[0],
    )  # fmt: skip
    chosen = request.candidates if isinstance(parts.get("clip"), CaptionedCLIP) else (1,)
    wishes = {f"best of {each}": replace(wish, candidates=each) for each in chosen}
    wishes |= {f"temperature {value:g}": replace(wish, temperature=value) for value in request.temperatures[1:]}
    wishes |= {f"top {value}": replace(wish, top_k=value) for value in request.top_ks[1:]}
    with progress("writing", times=2 * len(wishes)):
        for name, one in wishes.items():
            start = time.perf_counter()
            drawn = [
                system.sample(module, parts, replace(one, y=module.read(texts))).cpu()
                for texts in (asked.texts, asked.composed)
            ]
            rows.append(asked.scored(name, *drawn) | {"per_second": 2 * count / (time.perf_counter() - start)})
    return [*rows, *(bits_of_test_set(system, module, data.test, request) if request.likelihood else [])]


def bits_of_test_set(system: Any, module: Any, test: Dataset, request: TokenReport) -> list[Row]:
    """Bits a pixel and channel that test images cost at most, the "bound": "distortion" and "rate".

    Rows: with the uniform prior of the first stage; with the transformer's under each image's caption, of tokens drawn
    from the encoder and of the most probable ones, which are what it has learned; and the latter under the caption
    of another image. "text" is what the caption itself costs, in bits: with it the bound is of both.
    """
    count = min(request.likelihood, len(test))
    batch = test.batch(torch.arange(count))
    x, texts = batch["x"], batch[system.captions[0]]
    kinds: dict[str, dict[str, Any]] = {
        "uniform prior": {"uniform": True}, "tokens drawn": {}, "most probable tokens": {"hard": True},
        "under another's caption": {"hard": True},
    }  # fmt: skip
    rows: list[Row] = []
    with autocast("fp32", next(module.parameters()).device):
        for name, kind in kinds.items():
            said = texts[1:] + texts[:1] if name.startswith("under") else texts
            bound = bound_of_images(
                module, x, said, levels=test.levels or 256, generator=stream(request.seed, "bound"),
                batch_size=request.batch_size, **kind,
            )  # fmt: skip
            rows.append({"samples": name, **_bits(bound, x[0].numel())})
        text = text_bits(module, texts, request.batch_size)
    rows[-2]["text"] = text
    return rows


def _bits(bound: Bound, dims: int) -> Row:
    total = bound.total / dims / math.log(2)
    error = float(total.std() / len(total) ** 0.5) if len(total) > 1 else math.nan
    parts: Row = {
        name: float(part.mean()) / dims / math.log(2)
        for name, part in (("distortion", bound.distortion), ("rate", bound.rate))
    }
    return parts | {"bound": float(total.mean()), "standard_error": error}


def text_bits(module: Any, texts: Sequence[str], batch_size: int = 500) -> float:
    """-log2 p(text), a mean."""
    empty = torch.zeros(1, module.gpt.places - module.gpt.length, dtype=torch.long)
    found: list[Tensor] = []
    for at in range(0, len(texts), batch_size):
        read = module.read(texts[at : at + batch_size])
        found.append(module.log_prob(read, empty.to(read).expand(len(read), -1))[0])
    return -float(torch.cat(found).mean()) / math.log(2)
