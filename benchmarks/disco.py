"""Disco Diffusion's claims as rows: fewer steps, cut-outs and augmentation, several CLIPs; judged by the scenes' judge.

    python benchmarks/disco.py --seeds 0 1 2

A flow that knows no words is guided to short captions of test scenes, several pictures each. Each row changes one
thing. "all", "digit", "colour" and "count" are the shares that the judge reads as asked for; "guide" is the mean cosine
with the caption of the first CLIP, which has guided, and "other" that of the last CLIP of --clips, which guides in no
row but that of all: where the first is high and the others are low, the pictures deceive the CLIP. "diversity" is the
mean distance of pictures of one caption in the judge's features, over that of test scenes, and "s" the seconds for a
picture. Pixels that are no number, as there may be without a bound, count as grey.

A third CLIP, which shares nothing with the zoo's two, is another training of the convolutional one:

    python benchmarks/clip.py encoders --encoders clip-conv --seeds 1
    python benchmarks/disco.py --seeds 0 1 2 --clips zoo:clip-vit zoo:clip-conv runs/clip/clip-conv-512-1200-1

Measurements are kept in --out, each row and seed alone: an interrupted command goes on where it was. At its full size
it takes some hours of one core; --variants does a part of it. A row of more CLIPs than --clips names is left out.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from _common import Scores, kept, parser_of, prepare, publish, slug, spread
from _quality import trained
from torch import Tensor

from flowlib.data import Scenes
from flowlib.metrics.reader import load_reader, read_features
from flowlib.metrics.scenes import score_captions
from flowlib.recipes import change, find_recipe
from flowlib.runs import Run, load_run
from flowlib.systems.cut_schedule import Cuts
from flowlib.systems.disco_sampling import Disco
from flowlib.training.order import stream

EVEN = {"overview": "[8]*1", "inner": "[8]*1"}


class Variant(NamedTuple):
    """What a row changes: settings of `Disco`, of its cut-outs, how many CLIPs guide, whether a secondary flow does."""

    settings: Mapping[str, Any] = MappingProxyType({})
    cuts: Mapping[str, Any] | None = MappingProxyType({})
    clips: int = 1
    secondary: bool = False


VARIANTS = {
    "no guidance": Variant({"scale": 0.0, "range": 0.0}, None),
    "base": Variant(),
    "15 steps": Variant({"steps": 15}),
    "25 steps": Variant({"steps": 25}),
    "100 steps": Variant({"steps": 100}),
    "no cut-outs": Variant(cuts=None),
    "4 cut-outs": Variant(cuts={"count": 4}),
    "64 cut-outs": Variant(cuts={"count": 64}),
    "no augmentation": Variant(cuts={"augment": False}),
    "no schedule": Variant(cuts=EVEN),
    "overviews alone": Variant(cuts={"inner": "[0]*1"}),
    "inner views alone": Variant(cuts={"overview": "[0]*1"}),
    "inner views first": Variant(cuts={"overview": "[4]*400+[12]*600", "inner": "[12]*400+[4]*600"}),
    "mirrored views": Variant(cuts={"flip": True}),
    "two CLIPs": Variant(clips=2),
    "three CLIPs": Variant(clips=3),
    "bound 0.1": Variant({"bound": 0.1}),
    "bound 0.2": Variant({"bound": 0.2}),
    "bound 1": Variant({"bound": 1.0}),
    "no bound": Variant({"bound": None}),
    "eta 0": Variant({"eta": 0.0}),
    "secondary": Variant(secondary=True),
}


def main() -> None:
    parser = parser_of(__doc__, seeds=[0], samples=128, threads=0, seed=0, out=Path("runs/disco"), write=None)
    parser.add_argument("--each", type=int, default=4, help="pictures of a caption")
    parser.add_argument("--flow", default="zoo:scenes", help="the flow that is guided")
    parser.add_argument("--secondary", default="zoo:scenes-secondary", help="the smaller one to look through")
    parser.add_argument(
        "--clips", nargs="+", default=["zoo:clip-vit", "zoo:clip-conv"], metavar="RUN", help="clean CLIPs"
    )
    parser.add_argument("--sampling-steps", type=int, default=Disco.steps, help="of the rows that name none")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="ROW", help="rows")
    parser.add_argument(
        "--steps", type=int, default=0, help="train small models for so many steps instead, for a trial; 0: do not"
    )
    arguments = parser.parse_args()
    prepare(arguments)
    models = Models(arguments)
    names = [name for name in arguments.variants if VARIANTS[name].clips <= len(arguments.clips)]
    rows = [row_of(name, models, arguments) for name in names]
    publish(rows, "disco.py", sys.argv[1:], arguments.write)


class Models:
    """The runs that rows need, loaded once, when the first row asks for them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.loaded = arguments, dict[str, Run]()

    def run(self, name: str, recipe: str) -> Run:
        """The run of that name, or for a trial one of that recipe."""
        if name not in self.loaded:
            steps = self.arguments.steps
            trial = find_recipe(recipe)
            self.loaded[name] = (
                trained(change(trial, steps=steps, batch_size=8), self.arguments.out / recipe)
                if steps
                else load_run(name, "cpu")
            )
        return self.loaded[name]

    def clip(self, i: int) -> Any:
        """The i-th of --clips."""
        return self.run(self.arguments.clips[i], ("clip-vit", "clip-conv")[i % 2]).module


def captions_of(count: int) -> list[str]:
    """Short captions of test scenes, each once."""
    return list(dict.fromkeys(Scenes(split="test").batch(torch.arange(20 * count))["short"]))[:count]


def row_of(name: str, models: Models, arguments: argparse.Namespace) -> dict[str, object]:
    """A row of the table: means over seeds."""
    found = []
    for seed in arguments.seeds:
        settings = {
            "variant": repr(VARIANTS[name]), "cuts": repr(Cuts()), "seed": seed, "defaults": repr(Disco()),
            **{key: getattr(arguments, key) for key in ("samples", "each", "flow", "clips", "sampling_steps", "steps")},
        }  # fmt: skip
        path = arguments.out / f"{slug(name)}-{seed}.json"
        found.append(kept(path, settings, measure, VARIANTS[name], seed, models, arguments))
    forms = {"diversity": ".2f", "guide": ".3f", "other": ".3f", "s": ".2f"}
    return {"row": name} | {key: spread([scores[key] for scores in found], forms.get(key, ".1%")) for key in found[0]}


def measure(variant: Variant, seed: int, models: Models, arguments: argparse.Namespace) -> Scores:
    """What is measured of the pictures of one seed."""
    texts = [text for text in captions_of(-(-arguments.samples // arguments.each)) for _ in range(arguments.each)]
    flow = models.run(arguments.flow, "scenes-secondary")
    clips = [models.clip(i) for i in range(variant.clips)]
    secondary = models.run(arguments.secondary, "scenes-secondary").module if variant.secondary else None
    cuts = None if variant.cuts is None else Cuts(**variant.cuts)
    guide = Disco(**{"steps": arguments.sampling_steps, **variant.settings}, cuts=cuts, seed=seed)
    noise = torch.randn(len(texts), *flow.shape, generator=stream(seed, "noise"))
    targets = [(clip.text_features(texts)[:, None], torch.ones(1)) for clip in clips]
    start = time.perf_counter()
    x = guide.sample(flow.module, clips, targets, noise, secondary=secondary).clamp(-1, 1)
    seconds = (time.perf_counter() - start) / len(texts)
    x = x.nan_to_num(0)  # where a bound is missing, the guide can throw a picture off altogether
    scores = score_captions(x, texts)
    last = models.clip(len(arguments.clips) - 1)
    cosines = {
        key: float((clip.image_features(x) * clip.text_features(texts)).sum(1).mean())
        for key, clip in (("guide", models.clip(0)), ("other", last))
    }
    return {
        **{key: scores[key] for key in ("all", "digit", "colour", "count")},
        **cosines,
        "diversity": diversity(x, arguments.each) / diversity(Scenes(split="test").batch(torch.arange(200))["x"], 200),
        "s": seconds,
    }


def diversity(x: Tensor, each: int) -> float:
    """The mean distance between pictures of one caption, `each` in a row, in the judge's features."""
    features = read_features(x, load_reader(x.shape[-1])).unflatten(0, (-1, each))
    return float(torch.cdist(features, features).sum() / (len(features) * each * (each - 1)))


if __name__ == "__main__":
    main()
