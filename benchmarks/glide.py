"""GLIDE: classifier-free against CLIP guidance at equal cost, the guidance scale, and held-out compositions.

    python benchmarks/glide.py --seeds 0 1 2

Descriptive captions of test scenes, and of compositions that no training scene has ("held out"), painted by
Heun's method. A row's sampler has as many steps as the operations of the row "w=3" pay for. "all", "one", "two",
"digit", "colour" and "place" are shares that the judge reads as asked for ("one", "two": everything, of captions of one
digit and of two); "guide" is the mean cosine with the caption of the CLIP that guides, "other" that of a CLIP that only
looks, at clean pictures. It should be no relative of the guide: `zoo:clip-noised-agree` was made of `zoo:clip-conv` and
has its text encoder, so that what pleases the one may please the other; `zoo:clip-vit` shares no weight with them.
"frechet" is the distance to test scenes in the judge's features; "pairs" how often, of the same captions and noise, the
judge reads more right than in the row "w=3", ties counted as half.

Measurements and trainings are kept in --out: an interrupted command goes on where it was.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _common import kept, parser_of, prepare, publish, slug, spread
from _quality import flops, read, trained
from torch import Tensor

from flowlib import ClassifierFreeGuidance, EnergyGuidance, Field, sample_ode
from flowlib.data import Scenes
from flowlib.metrics import frechet_distance
from flowlib.metrics.reader import FEATURES, load_reader, read_features
from flowlib.recipes import change, find_recipe
from flowlib.runs import Run, load_run
from flowlib.systems.semantic import text_energy

BASE = "w=3"


class Way(NamedTuple):
    """How a row is guided: by the caption, with w, and by a CLIP of noised pictures, with its own scale."""

    scale: float = 1.0
    clip: float = 0.0


WAYS = {
    "w=1": Way(),
    "w=1.5": Way(1.5),
    "w=2": Way(2.0),
    BASE: Way(3.0),
    "w=5": Way(5.0),
    "w=8": Way(8.0),
    "clip=10": Way(clip=10.0),
    "clip=30": Way(clip=30.0),
    "clip=100": Way(clip=100.0),
    "clip=300": Way(clip=300.0),
    "w=3,clip=30": Way(3.0, 30.0),
}


def main() -> None:
    parser = parser_of(
        __doc__,
        seeds=[0],
        samples=250,
        sampling_steps=20,
        steps=0,
        threads=0,
        seed=0,
        out=Path("runs/glide"),
        write=None,
    )
    parser.add_argument("--painter", default="zoo:scenes-text", help="the flow from captions")
    parser.add_argument("--guide", default="zoo:clip-noised-agree", help="the CLIP that guides")
    parser.add_argument("--other", default="zoo:clip-vit", help="the CLIP that only looks")
    parser.add_argument("--rows", nargs="+", choices=WAYS, default=list(WAYS), metavar="ROW", help="ways to guide")
    arguments = parser.parse_args()
    prepare(arguments)
    publish(guidance(arguments), "glide.py", sys.argv[1:], arguments.write)


def model(name: str, recipe: str, arguments: argparse.Namespace) -> Run:
    """The run of that name; with --steps, for a trial, one of that recipe."""
    if not arguments.steps:
        return load_run(name, "cpu")
    return trained(change(find_recipe(recipe), steps=arguments.steps, batch_size=8), arguments.out / recipe)


def guidance(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each way to guide."""
    names = dict.fromkeys([BASE, *arguments.rows])
    found = {name: [measured(name, seed, arguments) for seed in arguments.seeds] for name in names}
    rows: list[dict[str, Any]] = []
    for name in arguments.rows:
        scores, base = found[name], found[BASE]
        pairs = [
            sum((a > b) + 0.5 * (a == b) for a, b in zip(own["right"], other["right"], strict=True)) / len(own["right"])
            for own, other in zip(scores, base, strict=True)
        ]
        shown = {key: spread([one[key] for one in scores], ".1%") for key in PERCENT if key in scores[0]}
        rows.append(
            {"guided by": name, "steps": scores[0]["steps"]}
            | shown
            | {key: spread([one[key] for one in scores]) for key in ("guide", "other", "frechet") if key in scores[0]}
            | {"pairs": spread(pairs, ".1%")}
        )
    return rows


PERCENT = ("all", "one", "two", "digit", "colour", "place", "held out")


def measured(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """What is measured of a row with one seed, kept."""
    names = ("samples", "sampling_steps", "painter", "guide", "other", "steps")
    settings = {"way": WAYS[name], "seed": seed, **{key: getattr(arguments, key) for key in names}}
    path = arguments.out / f"guidance-{slug(name)}-{seed}.json"
    found = kept(path, settings, partial(measure, WAYS[name], seed, arguments))
    print(name, seed, {key: found[key] for key in ("all", "guide") if key in found}, file=sys.stderr, flush=True)
    return found


def measure(way: Way, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The scores of one way with one seed; "right" is how many attributes are right in each picture."""
    painter = model(arguments.painter, "scenes-text", arguments)
    guide, other = (
        model(getattr(arguments, name), recipe, arguments).module
        for name, recipe in (("guide", "clip-noised"), ("other", "clip-vit"))
    )
    budget = arguments.sampling_steps * cost(WAYS[BASE], painter, guide)
    steps = max(1, round(budget / cost(way, painter, guide)))
    count = arguments.samples
    found: dict[str, Any] = {"steps": steps}
    for split in ("test", "compositions"):
        batch = Scenes(split=split).batch(torch.arange(count))
        texts, noise = batch["caption"], painter.noise(count, seed)
        field, y = guided(painter, guide, way, texts), painter.module.net.tokenizer(texts)
        x = sample_ode(field, noise, y, steps=steps, method="heun", denoise_last=True, batch_size=count).clamp(-1, 1)
        scores, right = read(x, batch)
        if split == "compositions":
            found["held out"] = scores["all"]
            continue
        found |= scores | {"right": right}
        with torch.no_grad():
            late = torch.ones(count)
            found["guide"] = cosine(guide.image_features(x, late), guide.text_features(texts))
            found["other"] = cosine(other.image_features(x), other.text_features(texts))
        if count <= FEATURES:  # too few for a covariance
            continue
        reader, real = load_reader(x.shape[-1]), Scenes(split="test").first(2000).images
        found["frechet"] = frechet_distance(read_features(x, reader), read_features(real, reader))
    return found


def guided(painter: Run, clip: Any, way: Way, texts: Sequence[str]) -> Field:
    """The painter's field, guided that way to these captions."""
    field: Field = painter.module if way.scale == 1 else ClassifierFreeGuidance(painter.module, way.scale)
    return EnergyGuidance(field, text_energy(clip, texts, way.clip), conditional=True) if way.clip else field


def cost(way: Way, painter: Run, clip: Any) -> int:
    """Operations of one evaluation for one picture; a gradient in the picture costs what its forward pass does."""
    x, t, y = torch.zeros(1, *painter.shape), torch.zeros(1), painter.module.net.tokenizer(["a two"])
    looks = 2 * flops(clip.image, x, t) if way.clip else 0
    return (1 if way.scale == 1 else 2) * flops(painter.module.net, x, t, y) + looks


def cosine(a: Tensor, b: Tensor) -> float:
    """The mean of the products of unit features."""
    return float((a * b).sum(1).mean())


if __name__ == "__main__":
    main()
