"""What a LoRA has learned of its pictures, and what it has forgotten of all other captions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.data.scenes import Scenes
from flowlib.metrics.reader import WEIGHTS, SceneReader, load_reader
from flowlib.metrics.scenes import score_captions
from flowlib.systems.prompts import PromptReport
from flowlib.systems.semantic import gram_matrix
from flowlib.systems.system import Parts, Row, Splits


@dataclass(frozen=True, kw_only=True)
class LoRAReport(PromptReport):
    """What is to be measured: as of a painter, `samples` pictures of each kind."""

    samples: int = 200
    scales: tuple[float, ...] = (3.0,)


@torch.no_grad()
def style_of(images: Tensor, reader: SceneReader) -> list[Tensor]:
    """The mean Gram matrix of images (N, 3, H, W) at each of the reader's three sizes."""
    h, found = reader.stem(images.clamp(-1, 1).to(reader.heads.weight)), []
    for i, block in enumerate(reader.blocks):
        h = block(h if i == 0 else reader.downs[i - 1](F.gelu(h)))
        found.append(gram_matrix(F.gelu(h).flatten(2).transpose(1, 2)).mean(0))
    return found


def style_distance(images: Tensor, references: Tensor) -> float:
    """How far the style of images is from that of others, (N, 3, S, S) each: 0 for the same, about 1 for unrelated.

    The mean over the sizes of the scene reader's features of ||G - G'|| / ||G'||, G the mean Gram matrix of a set
    (Gatys et al. 2016 compare Gram matrices of two pictures).

    Raises:
        ValueError: for pictures of a size that there is no reader for.
    """
    reader = load_reader(references.shape[-1])
    pairs = zip(style_of(images, reader), style_of(references, reader), strict=True)
    distances = [float((a - b).norm() / b.norm()) for a, b in pairs]
    return sum(distances) / len(distances)


def report_lora(system: Any, module: nn.Module, data: Splits, parts: Parts, request: LoRAReport) -> Sequence[Row]:
    """Rows of the base and of the adapted painter, at each scale.

    "style" is the distance of pictures of the learned captions from the learned pictures; "others" the share of
    pictures of other captions, of test scenes, that the judge reads as they say: less than the base's is forgotten. The
    first row is the pictures that were held back.
    """
    known = system.told(data.train)
    count, size = request.samples, known.images.shape[-1]
    if known.shape[0] != 3 or size not in WEIGHTS:
        raise ValueError(f"a LoRA is measured on pictures like scenes, and these are {known.shape}")
    texts = [(known.captions or ())[i % len(known)] for i in range(count)]
    others = Scenes(size, split="test").batch(torch.arange(count))["caption"]
    rows: list[Row] = [{"samples": "test pictures", "style": style_distance(data.test.images, known.images)}]
    for name, one in (("base", parts["base"]), ("adapted", module)):
        for scale in request.scales:
            drawn = []
            for asked in (texts, others):
                wish = system.Sampling(spec=request.spec, y=tokens_of(one, asked), count=count, seed=request.seed)
                wish = replace(wish, **_known(wish, request, scale))
                drawn.append(system.sample(one, {}, wish).cpu().clamp(-1, 1))
            row: Row = {"samples": f"{name}, w = {scale:g}", "style": style_distance(drawn[0], known.images)}
            rows.append(row | {"others": score_captions(drawn[1], others)["all"]})
    return rows


def tokens_of(module: Any, texts: Sequence[str]) -> Tensor:
    """Texts as a painter reads them."""
    return module.read(texts) if hasattr(module, "read") else module.net.tokenizer(texts)


def _known(wish: Any, request: LoRAReport, scale: float) -> dict[str, Any]:
    """Those of the options that this painter's request has."""
    options = {"scale": scale, "steps": request.steps, "method": request.method, "usual": request.usual}
    return {name: value for name, value in options.items() if hasattr(wish, name)}
