"""GLIDE's inpainting: a painter that is taught to go on from a part of a picture (Nichol et al. 2022).

What makes it that: the trained network gets four more channels, the picture with a hole and where it is known, by
weights that start at zero, so that it starts as the painter it was; then it is trained on, with holes at random.

    flowlib paint "a small blue two at the upper left, on grey" --edit scene.png --mask mask.png

Example:
    >>> import torch
    >>> from flowlib.data import load
    >>> from flowlib.runs import load_pretrained
    >>> from flowlib.systems.guides import inpainting_guide
    >>> from flowlib.systems.inpainter import InpainterSystem
    >>> run, x = load_pretrained("scenes-inpainter"), load("scenes", "test").batch(torch.arange(1))["x"]
    >>> isinstance(run.recipe.system, InpainterSystem)
    True
    >>> known = torch.ones(1, 1, 16, 16)
    >>> known[..., :8] = 0  # the left half is to be painted
    >>> net = run.module.net
    >>> made = run.sample(net.guide(net.tokenizer(["a red seven"]), inpainting_guide(x, known)), steps=2)
    >>> made[..., 8:].equal(x[..., 8:]), made[..., :8].equal(x[..., :8])  # what is known stays
    (True, False)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flowlib.data import Data, Spec
from flowlib.field import Field
from flowlib.fields import Model
from flowlib.metrics.scenes import compare_captions, shares
from flowlib.systems.edits import Edits, edits_of
from flowlib.systems.glide import GlideSystem, start_from
from flowlib.systems.guides import inpainting_guide
from flowlib.systems.inpainting import KnownPixels, ReplacedPixels, random_regions
from flowlib.systems.sampling import FlowRequest
from flowlib.systems.system import Parts, Row, Splits, register


@register("inpainter")
@dataclass(frozen=True, kw_only=True)
class InpainterSystem(GlideSystem):
    """A flow of images from captions and parts of images: `run.sample(net.guide(net.tokenizer(texts), beside))`.

    `beside` is `flowlib.systems.guides.inpainting_guide(images, known)`. What is known is in the samples to the last
    bit.

    Attributes:
        parts: "base", the painter, whose network has the settings of this one.

    The others are those of GLIDE.

    Raises:
        ValueError: for a value that does not fit, or a base of other settings.
    """

    stands_on: ClassVar[tuple[str, ...]] = ("base",)
    edits: ClassVar[bool] = True

    parts: Mapping[str, str] = field(default_factory=lambda: {"base": "zoo:scenes-text"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if set(self.parts) != {"base"}:
            raise ValueError(f"parts must be a base alone, got {sorted(self.parts)}")

    def beside(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[0] + 1, *shape[1:]

    def laid(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return inpainting_guide(x, random_regions(len(x), x.shape[2:], generator).to(x))  # type: ignore[arg-type]

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> Model:
        return start_from(parts.get("base"), super().build(spec, parts, generator), ("net.net.beside.weight",))

    def learn_words(self, module: Any, data: Data) -> None:
        """Nothing: the base has learned them."""

    def sample(self, module: nn.Module, parts: Parts, request: FlowRequest) -> Tensor:
        net: Any = module.net

        def known(y: Tensor | None) -> tuple[Tensor, Tensor]:
            image = (net.null[None] if y is None else y)[:, net.tokenizer.length :].unflatten(1, net.shape)
            return image[:, :-1], image[:, -1:]

        def wrap(guided: Field) -> Field:
            return KnownPixels(guided if request.wrap is None else request.wrap(guided), known)

        samples = super().sample(module, parts, replace(request, wrap=wrap))
        image, mask = known(request.y)
        return torch.where(mask > 0, image, samples)

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: Any) -> Sequence[Row]:
        """Rows of edits: in a hole around one digit of a test scene, another one is asked for by the caption.

        "all" and its like are the shares that the judge reads as the new caption says; "rest" that of scenes of two
        digits whose other one is read as it was; "moved" is the largest change of a known pixel. The last
        row is the base, which is only shown the known pixels noised.
        """
        edits = edits_of(data.test, min(request.samples, len(data.test)))
        net: Any = module.net
        device = next(module.parameters()).device
        y = net.guide(net.tokenizer(edits.texts), inpainting_guide(edits.images, edits.known).to(device))
        wish = FlowRequest(
            spec=request.spec, y=y, count=len(y), steps=request.steps, method=request.method, seed=request.seed,
            batch_size=request.batch_size, usual=request.usual,
        )  # fmt: skip
        rows = [scored("before", edits.images, edits), scored("no hole's digit", edits.images * edits.known, edits)]
        for scale in request.scales:
            drawn = self.sample(module, parts, replace(wish, scale=scale)).cpu()
            rows.append(scored(f"w = {scale:g}", drawn, edits))
        base: Any = parts["base"]
        tokens, noise = base.net.tokenizer(edits.texts), self.noise(module, request.spec, len(y), request.seed)
        for scale in request.scales:
            images, known = edits.images.to(device), edits.known.to(device)

            def wrap(guided: Field, images: Tensor = images, known: Tensor = known) -> Field:
                return ReplacedPixels(guided, images, known, noise)

            shown = replace(wish, y=tokens, scale=scale, wrap=wrap, batch_size=len(y))
            drawn = super().sample(base, {}, shown).cpu()
            rows.append(scored(f"replaced, w = {scale:g}", drawn, edits))
        return rows


def scored(name: str, images: Tensor, edits: Edits) -> Row:
    """What the judge reads in edited images."""
    x, two = images.clamp(-1, 1), [i for i, text in enumerate(edits.rest) if text]
    row: Row = {"samples": name, **shares(compare_captions(x, edits.texts))}
    other = compare_captions(x[two], [edits.rest[i] for i in two])
    row["rest"] = sum(all(one[key] for key in ("digit", "colour", "size", "place")) for one in other) / len(other)
    return row | {"moved": float(((images - edits.images) * edits.known).abs().max())}
