"""How good SAM is: the IoU of its masks by the kind of prompt, what three masks are for, and what a prompt costs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from flowlib.checks import check_count
from flowlib.data import Data, Dataset
from flowlib.plotting import picture_grid
from flowlib.systems.automatic_masks import automatic_masks
from flowlib.systems.mask_losses import iou_of
from flowlib.systems.prompting import Chances, called, converse, first_prompt
from flowlib.systems.regions import KINDS, drawn_targets, regions_of
from flowlib.systems.system import Parts, ReportRequest, Row, Splits
from flowlib.training.order import stream

PROMPTS = {"one point": ("point", 0), "three points": ("point", 2), "box": ("box", 0), "mask": ("mask", 0)}
FOUND = 0.5  # the IoU from which on a region counts as found


@dataclass(frozen=True, kw_only=True)
class MaskReport(ReportRequest):
    """What is to be measured of masks.

    Attributes:
        samples: test images, of each of which one region is asked for.
        everything: test images of which all masks are wanted, 0 for none.
        repetitions: of each timed call.
    """

    samples: int = 1000
    everything: int = 100
    repetitions: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("everything", self.everything, 0)
        check_count("repetitions", self.repetitions)


@torch.no_grad()
def report_masks(module: Any, data: Splits, parts: Parts, request: MaskReport) -> Sequence[Row]:
    """Rows for each kind of prompt, for three masks against one, and for all masks of an image.

    "mIoU" is that of the mask that is rated highest, "best" that of the best of all that are given, "single" that of
    the token for certain prompts; "stroke", "hull" and "pair" are mIoU where that is asked for, and "ms" milliseconds
    a prompt, after the embedding, which is a row of its own.
    """
    place = next(module.parameters()).device
    batch = data.test.to(place).batch(torch.arange(min(request.samples, len(data.test)), device=place))
    chance = torch.rand(len(batch["x"]), 1, generator=stream(request.seed, "regions"))
    row, region, truth, _ = drawn_targets(regions_of(batch), chance)
    embedding = torch.cat([module.embed(part) for part in batch["x"].split(request.batch_size)])[row]
    prompts = dict(PROMPTS)
    text = None
    if "clip" in parts and "objects" in batch:
        prompts["text"] = ("text", 0)
        text = parts["clip"].text_features(called(batch["objects"][row], region))  # type: ignore[operator]
    kinds = ["region"] * len(region) if "regions" in batch else [KINDS[i] for i in region.tolist()]
    rows: list[Row] = []
    for name, (kind, clicks) in prompts.items():
        chances = _chances(len(truth), clicks, request.seed)
        first = first_prompt(kind, truth, chances, text)
        logits, iou = list(converse(module, embedding, truth, first, chances, ()))[-1]
        found = iou_of(logits > 0, truth[:, None])  # (N, K)
        rated = found.gather(1, iou.argmax(1, keepdim=True))[:, 0]
        scores: Row = {"prompt": name, "mIoU": float(rated.mean())}
        if not clicks:
            alone = module.masks(embedding, **first, several=False)[0]
            scores |= {"best": float(found.amax(1).mean()), "single": float(iou_of(alone > 0, truth[:, None]).mean())}
        one = {key: value[:1] for key, value in first.items()}
        scores |= {part: _mean(rated, kinds, part) for part in dict.fromkeys(kinds)}
        scores["ms"] = milliseconds(partial(module.masks, embedding[:1], **one), request.repetitions)
        rows.append(scores)
    rows.append({"prompt": "embedding", "ms": milliseconds(partial(module.embed, batch["x"][:1]), request.repetitions)})
    if request.everything:
        rows.append({"prompt": "everything"} | recall(module, data.test.to(place), request.everything))
    return rows


def _chances(count: int, clicks: int, seed: int) -> Chances:
    generator = stream(seed, "clicks")
    return Chances(torch.rand(count, 3 + clicks, generator=generator), torch.randn(count, 4, generator=generator))


def _mean(values: Tensor, kinds: Sequence[str], kind: str) -> float:
    return float(values[torch.tensor([one == kind for one in kinds], device=values.device)].mean())


def milliseconds(call: Callable[[], object], repetitions: int) -> float:
    """The median time of a call, after one that is not counted."""
    times = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times[1:])[repetitions // 2]


def recall(module: Any, test: Dataset, count: int, **options: Any) -> dict[str, float]:
    """How many of the regions of images are among their automatic masks, with an IoU of at least `FOUND`.

    Returns:
        "recall", and "masks", how many there are of an image.
    """
    batch = test.batch(torch.arange(min(count, len(test)), device=test.device))
    regions, hits, masks = regions_of(batch), [], 0
    for image, truth, valid in zip(batch["x"], *regions, strict=True):
        found = automatic_masks(module, image, **options).masks
        masks += len(found)
        overlap = iou_of(truth[valid][:, None], found[None])  # (K, M)
        hits.append((overlap >= FOUND).any(1))
    return {"recall": float(torch.cat(hits).float().mean()), "masks": masks / len(batch["x"])}


@torch.no_grad()
def overlay(module: Any, data: Data, title: str, count: int = 8) -> Any:
    """A figure of images, and below each the masks that one click has for an answer, the one rated highest first."""
    batch = data.batch(torch.arange(count, device=data.device))
    row, _, truth, _ = drawn_targets(regions_of(batch), torch.zeros(count, 1))
    first = first_prompt("point", truth, _chances(len(truth), 0, 0))
    logits, iou = module.masks(module.embed(batch["x"])[row], **first)
    order = iou.argsort(1, descending=True)
    masks = (logits > 0).gather(1, order[:, :, None, None].expand_as(logits))
    images = batch["x"][row]
    x, y = first["points"][:, 0].long().unbind(1)
    clicked = images.clone()
    clicked[torch.arange(len(row)), :, y, x] = images.new_tensor([1.0, -1.0, 1.0][: images.shape[1]])
    shown = [clicked, *(torch.where(mask[:, None], images, -1) for mask in masks.unbind(1))]
    names = ["click", *(f"mask {i + 1}" for i in range(masks.shape[1]))]
    return picture_grid(torch.cat(shown).cpu(), columns=len(row), rows=names, title=title)
