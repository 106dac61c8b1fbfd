"""Semantic diffusion guidance: a flow follows a text, a picture, or both, by what an encoder sees (Liu et al. 2023).

What makes it that: one energy for each thing that may be kept of a picture (its content, its structure, its style), one
for a text, and their weighted sum (`flowlib.guidance`). The encoder reads the noised sample itself, so that no gradient
goes through the flow's network; for that it is trained further, to see at noised pictures what it saw at clean ones.

Example:
    >>> import torch
    >>> from flowlib import EnergyGuidance, sample_ode
    >>> from flowlib.runs import load_pretrained
    >>> from flowlib.systems.semantic import SemanticSystem, text_energy
    >>> run, flow = load_pretrained("clip-noised-agree"), load_pretrained("scenes")
    >>> guided = EnergyGuidance(flow.field, [text_energy(run.module, ["a red seven"], 30.0)])
    >>> drawn = [sample_ode(field, flow.noise(2), steps=4) for field in (guided, flow.field)]
    >>> cosines = [run.module.similarity(x, ["a red seven"], torch.ones(2)).mean() for x in drawn]
    >>> isinstance(run.recipe.system, SemanticSystem), bool(cosines[0] > cosines[1] + 0.1)
    (True, True)
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_choice, check_number
from flowlib.data import Data, Spec
from flowlib.guidance import Energy
from flowlib.nets.embeddings import TimeShift
from flowlib.paths import GaussianPath
from flowlib.schedules import SCHEDULES
from flowlib.systems.clip import CaptionedCLIP, contrastive_loss
from flowlib.systems.system import Parts, ReportRequest, Row, Splits, Stage, register
from flowlib.systems.zero_shot import GALLERY
from flowlib.times import uniform_time
from flowlib.training import Task, Turn
from flowlib.training.order import stream

Like = Callable[[Tensor], Tensor]  # times (B,) -> a picture for each, (B, C, H, W)


def like(picture: Tensor, path: GaussianPath | None = None, generator: torch.Generator | None = None) -> Like:
    """A reference picture as an encoder is shown it beside samples at times t.

    Args:
        picture: (C, H, W), or one for each sample.
        path: on which it is noised anew to the times of the samples, as in the paper; None for energies that look at
            clean pictures.
        generator: of the noise, on the CPU.
    """

    def at(t: Tensor) -> Tensor:
        z = picture.to(t).expand(len(t), *picture.shape[-3:])
        return z if path is None else path.sample(z, t, torch.randn(z.shape, generator=generator).to(z))

    return at


def gram_matrix(features: Tensor) -> Tensor:
    """Which features occur together, wherever: F^T F / (N C) of features (B, N, C) of N places: (B, C, C)."""
    return features.transpose(1, 2) @ features / features[0].numel()


def text_energy(clip: Any, texts: Sequence[str], scale: float = 1.0, looks: str = "noised") -> Energy:
    """The cosine of a picture with a text (Liu et al. 2023, language guidance).

    Args:
        clip: a `CaptionedCLIP`; one of noised pictures if it `looks` at these.
        texts: one, or one for each sample.
        scale, looks: of the `Energy`.
    """
    with torch.no_grad():
        wanted = clip.text_features(texts)
    return _energy(clip, lambda own, t: (F.normalize(own[0], dim=1) * wanted).sum(1), scale, looks)


def content_energy(clip: Any, reference: Like, scale: float = 1.0, looks: str = "noised") -> Energy:
    """The cosine of a picture with another: the same things, however placed (ibid., image content)."""
    return _beside(clip, reference, lambda a, b: F.cosine_similarity(a[0], b[0]), scale, looks)


def structure_energy(clip: Any, reference: Like, scale: float = 1.0, looks: str = "noised") -> Energy:
    """Minus the mean squared difference of features place by place: the same things in the same places."""
    return _beside(clip, reference, lambda a, b: -(a[1] - b[1]).square().mean((1, 2)), scale, looks)


def style_energy(clip: Any, reference: Like, scale: float = 1.0, looks: str = "noised") -> Energy:
    """Minus the squared distance of Gram matrices: the same mixture of features, in any places."""
    return _beside(
        clip, reference, lambda a, b: -(gram_matrix(a[1]) - gram_matrix(b[1])).square().sum((1, 2)), scale, looks
    )


Seen = tuple[Tensor, Tensor]  # of an image encoder: features (B, D) of pictures, and (B, N, C) of their places


def _see(clip: Any, x: Tensor, t: Tensor, looks: str) -> Seen:
    whole, places = clip.image(x, t if looks == "noised" else None)
    return whole.float(), places.float()


def _energy(clip: Any, score: Callable[[Seen, Tensor], Tensor], scale: float, looks: str) -> Energy:
    return Energy(lambda x, t, y: score(_see(clip, x, t, looks), t), scale, looks)


def _beside(clip: Any, reference: Like, score: Callable[[Seen, Seen], Tensor], scale: float, looks: str) -> Energy:
    def compare(own: Seen, t: Tensor) -> Tensor:
        with torch.no_grad():
            other = _see(clip, reference(t), t, looks)
        return score(own, other)

    return _energy(clip, compare, scale, looks)


@register("semantic")
@dataclass(frozen=True, kw_only=True)
class SemanticSystem:
    """An image encoder that is trained to see in noised pictures what it saw in clean ones (Liu et al. 2023).

    It starts as the part "clip", told the time. Its feature of a noised picture shall be nearest to the feature that
    the part has of the same picture, among all in the batch. It needs no captions. `run.module` is a `CaptionedCLIP`
    with the part's own text encoder.

    Attributes:
        noised: a name in `flowlib.schedules.SCHEDULES`: of the path that the pictures are noised on.
        places: weight of the mean squared difference of the features of places, on which structure and style look. In
            the paper it is 0: only the picture's feature is trained.
        parts: "clip", a CLIP of clean pictures.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    noised: str = "linear"
    places: float = 1.0
    parts: Mapping[str, str] = field(default_factory=lambda: {"clip": "zoo:clip-conv"})

    def __post_init__(self) -> None:
        check_choice("noised", self.noised, SCHEDULES)
        check_number("places", self.places, 0)
        if set(self.parts) != {"clip"}:
            raise ValueError(f"parts must be a clip alone, got {sorted(self.parts)}")

    @property
    def path(self) -> GaussianPath:
        """On which pictures are noised."""
        return GaussianPath(SCHEDULES[self.noised]())

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        clip = parts.get("clip")
        if not isinstance(clip, CaptionedCLIP) or clip.image.time is not None:
            raise ValueError("the part 'clip' must be a CLIP of clean pictures, trained without `noised`")
        made = copy.deepcopy(clip).requires_grad_(False)
        made.image.time = TimeShift(made.image.stem.out_channels)
        made.image.requires_grad_(True)
        return made

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        assert isinstance(module, CaptionedCLIP)
        clean, path = parts["clip"], self.path

        def loss(turn: Turn) -> dict[str, Tensor]:
            z = data.batch(turn.mine)["x"]
            t = uniform_time(len(turn.index), turn.generator)[turn.part].to(z)
            whole, places = module.image(path.sample(z, t, turn.normal(*data.shape).to(z)), t)
            with torch.no_grad():
                own, own_places = clean.image(z, None)  # type: ignore[operator]
            value, found = contrastive_loss(turn.gather(whole.float()), turn.gather(own.float()), module.scale())
            apart = (places.float() - own_places.float()).square().mean()
            return {"loss": value + self.places * apart, "agreed": found, "places": apart}

        return [Stage("agreement", Task(module, loss, data.count, module))]

    @torch.no_grad()
    def report(self, module: nn.Module, data: Splits, parts: Parts, request: ReportRequest) -> Sequence[Row]:
        """At several times, how near the features of noised pictures are to those that the part has of clean ones.

        The cosine, and the share of pictures whose own clean feature is the nearest among 256; and both for the part
        itself, which was never shown a noised picture.
        """
        assert isinstance(module, CaptionedCLIP)
        z = data.test.batch(torch.arange(min(GALLERY, len(data.test))))["x"].to(next(module.parameters()).device)
        noise = torch.randn(z.shape, generator=stream(request.seed, "noise")).to(z)
        own = parts["clip"].image_features(z)  # type: ignore[operator]
        rows: list[Row] = []
        for time in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0):
            t = torch.full((len(z),), time, device=z.device)
            x, row = self.path.sample(z, t, noise), dict[str, float | str](time=f"{time:g}")
            for name, seen in (("noised", module.image_features(x, t)), ("clean", parts["clip"].image_features(x))):  # type: ignore[operator]
                cosine = seen @ own.T
                row[f"{name} cosine"] = float(cosine.diagonal().mean())
                row[f"{name} found"] = float((cosine.argmax(1) == torch.arange(len(z), device=z.device)).float().mean())
            rows.append(row)
        return rows
