"""How good a prior of unCLIP is: how near its embeddings are to those of the pictures that captions were made for."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flowlib.checks import check_count, check_number
from flowlib.data import Spec
from flowlib.metrics import frechet_distance
from flowlib.nets.principal import PrincipalCodes
from flowlib.plotting import point_cloud
from flowlib.systems.embedded import Pairs
from flowlib.systems.prior_sampling import PriorRequest, reader_of, sample_prior
from flowlib.systems.system import ReportRequest, Row
from flowlib.systems.zero_shot import GALLERY

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class PriorReport(ReportRequest):
    """What is to be measured of a prior.

    Attributes:
        samples: captions in each row.
        scales: of classifier-free guidance.
        steps: of the diffusion's sampler.
    """

    samples: int = 1000
    scales: tuple[float, ...] = (1.0, 2.0)
    steps: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        for scale in self.scales:
            check_number("scale", scale)
        check_count("steps", self.steps)


def guides_of(module: Any, pairs: Pairs) -> Tensor:
    """The guides of the first caption of each pair."""
    return reader_of(module).guide(pairs.tokens[0], pairs.texts[0])


def report_prior(module: Any, pairs: Pairs, request: PriorReport) -> Sequence[Row]:
    """Rows of the pictures' own embeddings, the texts', and those drawn for the texts at each scale.

    "picture" and "text" are mean cosines with the embedding of the caption's picture and of the caption; "found" is the
    share whose own picture is the nearest among 256; "frechet" the distance to all pictures' embeddings.
    """
    rows = [compared("pictures", pairs.images, pairs), compared("texts", pairs.texts[0], pairs)]
    for scale in request.scales:
        start = time.perf_counter()
        wish = PriorRequest(
            spec=request.spec, y=guides_of(module, pairs), count=len(pairs.images), scale=scale, steps=request.steps,
            seed=request.seed, batch_size=request.batch_size, usual=request.usual,
        )  # fmt: skip
        drawn = sample_prior(module, wish)
        speed: Row = {"per_second": len(drawn) / (time.perf_counter() - start)}
        rows.append(compared(f"w = {scale:g}", drawn, pairs) | speed)
    return rows


def compared(name: str, embeddings: Tensor, pairs: Pairs) -> Row:
    """A row of embeddings (N, dim), one for each pair."""
    row: Row = {"embeddings": name, "picture": cosine(embeddings, pairs.images)}
    row["text"] = cosine(embeddings, pairs.texts[0])
    own = torch.cat([torch.arange(len(part), device=part.device) for part in pairs.images.split(GALLERY)])
    parts = zip(embeddings.split(GALLERY), pairs.images.split(GALLERY), strict=True)
    nearest = torch.cat([(part @ images.T).argmax(1) for part, images in parts])
    row["found"] = float((nearest == own).float().mean())
    enough = len(embeddings) > embeddings.shape[1]  # for a covariance
    return row | ({"frechet": frechet_distance(embeddings, pairs.images)} if enough else {})


def cosine(a: Tensor, b: Tensor) -> float:
    """The mean product of unit vectors (N, dim)."""
    return float((a * b).sum(1).mean())


def draw_prior(module: Any, pairs: Pairs, spec: Spec, title: str) -> "Figure":
    """Pictures' embeddings (label 0) and those drawn for their captions (1), in the pictures' principal components."""
    axes = PrincipalCodes(pairs.images.shape[1], 2, 2).to(pairs.images)
    axes.learn(pairs.images)
    y = guides_of(module, pairs)
    both = torch.cat([pairs.images, sample_prior(module, PriorRequest(spec=spec, y=y, count=len(y)))])
    points = (both - axes.mean) @ axes.axes.T
    labels = torch.arange(2).repeat_interleave(len(y))
    return point_cloud((points / points[: len(y)].std(0)).cpu(), labels, title=title)
