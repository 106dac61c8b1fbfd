"""How well images are what their captions ask for: the judge of scenes reads them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flowlib.checks import check_choice, check_count, check_number
from flowlib.data.scenes import SETS, Scenes
from flowlib.metrics.judges import judge_of
from flowlib.metrics.scenes import compare_captions, score_captions, shares
from flowlib.progress import progress
from flowlib.systems.reporting import Counter
from flowlib.systems.sampling import METHODS
from flowlib.systems.system import Parts, ReportRequest, Row, Splits


@dataclass(frozen=True, kw_only=True)
class PromptReport(ReportRequest):
    """What is to be measured of a flow from captions.

    Attributes:
        samples: captions at each scale; 1,000 are enough for a percent.
        scales: of classifier-free guidance.
        steps, method: of the sampler.
    """

    samples: int = 1000
    scales: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0)
    steps: int = 20
    method: str = "heun"

    def __post_init__(self) -> None:
        super().__post_init__()
        for scale in self.scales:
            check_number("scale", scale)
        check_count("steps", self.steps)
        check_choice("method", self.method, METHODS)


class Asked:
    """Captions of test scenes, and of scenes with pairs of digit and colour that no training scene has.

    Attributes:
        texts, composed: `count` captions each.
        images, composed_images: the scenes themselves.
    """

    def __init__(self, data: Splits, column: str, count: int) -> None:
        self.count = min(count, len(data.test))
        batch = data.test.batch(torch.arange(self.count))
        self.judge, self.texts, self.images = judge_of(data.train, data.test), batch[column], batch["x"]
        self.two = (batch["objects"][:, 1, 0] >= 0).tolist()
        composed = Scenes(*SETS[data.test.name], split="compositions").batch(torch.arange(self.count))
        self.composed, self.composed_images = composed[column], composed["x"]

    def scored(self, name: str, images: Tensor, held: Tensor | None) -> Row:
        """A row of what the judge reads in images of `texts`, and perhaps in `held`, those of `composed`.

        "one" and "two" are the shares of scenes with all attributes right, among captions of one digit and of two;
        "held out" that of the composed ones. "frechet" is the distance to the test scenes in the judge's features.
        """
        compared = compare_captions(images, self.texts)
        row: Row = {"samples": name, **shares(compared)}
        for key, wanted in (("one", False), ("two", True)):
            chosen = [one for one, both in zip(compared, self.two, strict=True) if both == wanted]
            row |= {key: shares(chosen)["all"]} if chosen else {}
        if held is not None:
            row["held out"] = score_captions(held, self.composed)["all"]
        scores = self.judge(images, None)
        return row | {key: scores[key] for key in ("frechet", "precision", "recall")}


def report_prompts(system: Any, module: nn.Module, data: Splits, parts: Parts, request: PromptReport) -> Sequence[Row]:
    """Rows of real scenes and of each scale, as `Asked` scores them, and what a sample costs."""
    asked = Asked(data, system.captions[0], request.samples)
    count, rows = asked.count, [asked.scored("test scenes", asked.images, None)]
    with progress("painting", times=2 * len(request.scales)):
        for scale in request.scales:
            calls, start, drawn = Counter(module), time.perf_counter(), []
            with calls:
                for texts in (asked.texts, asked.composed):
                    wish = system.Sampling(
                        spec=request.spec, y=module.net.tokenizer(texts), count=count, scale=scale, steps=request.steps,  # type: ignore[operator, union-attr]
                        method=request.method, seed=request.seed, batch_size=request.batch_size, usual=request.usual,
                    )  # fmt: skip
                    drawn.append(system.sample(module, parts, wish).cpu())
            cost: Row = {"nfe": calls.samples / (2 * count), "per_second": 2 * count / (time.perf_counter() - start)}
            rows.append(asked.scored(f"w = {scale:g}", *drawn) | cost)
    return rows
