"""Four systems that paint scenes from captions, side by side: GLIDE, DALL-E, DALL-E 2 and DALL-E 3.

    python benchmarks/text_to_image.py --seeds 0 1 2

Each paints the same captions of test scenes, one picture at a time, as `flowlib paint` does with its own options.
"all", "one" and "two" are shares of pictures that the judge reads wholly as asked for, of all captions and of those of
one and of two digits; "CLIP" is the mean cosine of picture and caption by `zoo:clip-vit`, which has no part in any row
(`zoo:clip-conv` chooses DALL-E's candidates and makes DALL-E 2's embeddings: it would look at its own work). "Fréchet"
is the distance to other test scenes, "precision" and "recall" the shares of pictures near scenes and of scenes near
pictures (Kynkäänniemi et al. 2019), all three in the judge's features. "parameters" are those of all networks that a
picture needs, "minutes" the training of the row's own run, "seconds" those of one picture. The row "scenes" is the
scenes that the captions were written of. A system that has not been trained is left out, and named. Measurements are
kept in --out.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _common import Scores, kept, parser_of, prepare, publish, slug, spread
from _quality import parameters, read, seconds_of

from flowlib.data import Scenes
from flowlib.metrics import frechet_distance, precision_recall
from flowlib.metrics.reader import FEATURES, load_reader, read_features
from flowlib.runs import Run, RunError, load_run
from flowlib.systems.painting import PaintRequest, painter
from flowlib.systems.reranking import similarity
from flowlib.systems.system import name_of
from flowlib.weights import describe_weights

SYSTEMS = {
    "GLIDE": "zoo:scenes-text", "DALL-E": "zoo:dalle", "DALL-E 2": "zoo:unclip", "DALL-E 3": "zoo:recaption",
}  # fmt: skip
TRUTH = "scenes"
UNUSED = {"unclip": ("base", "autoregressive"), "recaption": ("captioner", "clip")}  # parts that no picture needs
FORMS = {"CLIP": ".3f", "Fréchet": ".1f", "parameters": ".0f", "minutes": ".0f", "seconds": ".2f"}


def main() -> None:
    parser = parser_of(
        __doc__, seeds=[0], samples=250, sampling_steps=0, threads=0, seed=0, out=Path("runs/text_to_image"), write=None
    )
    names = (TRUTH, *SYSTEMS)
    parser.add_argument("--rows", nargs="+", choices=names, default=names, metavar="ROW", help="of the table")
    for name, source in SYSTEMS.items():
        parser.add_argument(f"--{slug(name)}", default=source, help=f"a run of {name}")
    parser.add_argument("--clip", default="zoo:clip-vit", help="the CLIP that looks")
    arguments = parser.parse_args()
    prepare(arguments)
    rows: list[dict[str, Any]] = []
    for name in arguments.rows:
        source = None if name == TRUTH else getattr(arguments, slug(name).replace("-", "_"))
        try:
            run = None if source is None else load_run(source, "cpu")
        except RunError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        found = [measured(name, run, seed, arguments) for seed in arguments.seeds]
        rows.append(
            {"painted by": name} | {key: spread([one[key] for one in found], FORMS.get(key, ".1%")) for key in found[0]}
        )
    publish(rows, "text_to_image.py", sys.argv[1:], arguments.write)


def measured(name: str, run: Run | None, seed: int, arguments: argparse.Namespace) -> Scores:
    """A row's numbers with one seed, kept."""
    settings = {
        key: str(value) for key, value in vars(arguments).items() if key not in ("out", "write", "seeds", "rows")
    }
    path = arguments.out / f"{slug(name)}-{seed}.json"
    scores = kept(path, settings | {"seed": seed}, partial(measure, run, seed, arguments))
    print(name, seed, scores, file=sys.stderr, flush=True)
    size, minutes = (0, 0.0) if run is None else (parameters_of(run), minutes_of(run))
    return scores | {"parameters": size, "minutes": minutes, "seconds": scores["seconds"]}


def measure(run: Run | None, seed: int, arguments: argparse.Namespace) -> Scores:
    """Paint the captions, or take other scenes, and look at the pictures."""
    scenes, count = Scenes(split="test"), arguments.samples
    batch = scenes.batch(torch.arange(count) + count * seed)
    start = time.perf_counter()
    if run is None:
        x = batch["x"]
    else:
        system = painter(run)
        steps = arguments.sampling_steps if "steps" in system.paints else 0
        requests = [
            PaintRequest(caption=text, seed=seed * count + i, steps=steps or None)
            for i, text in enumerate(batch["caption"])
        ]
        x = torch.cat([system.painted(run, request) for request in requests])
    seconds = time.perf_counter() - start
    clip = load_run(arguments.clip, "cpu").module
    scores = {key: value for key, value in read(x, batch)[0].items() if key in ("all", "one", "two")}
    scores["CLIP"] = float(similarity(clip, x, batch["caption"]).mean())
    if count > FEATURES:  # else too few for a covariance
        reader, others = load_reader(x.shape[-1]), torch.arange(2000) + 10**6
        real, drawn = read_features(scenes.batch(others)["x"], reader), read_features(x, reader)
        scores["Fréchet"] = frechet_distance(drawn, real)
        scores["precision"], scores["recall"] = precision_recall(real, drawn)
    return scores | {"seconds": 0.0 if run is None else seconds / count}


def parameters_of(run: Run) -> int:
    """The parameters of a run and of the parts that paint with it."""
    unused = UNUSED.get(name_of(run.recipe.system), ())
    return parameters(run.module) + sum(parameters(part) for name, part in run.parts.items() if name not in unused)


def minutes_of(run: Run) -> float:
    """How long the run was trained."""
    source = str(run.folder)
    return (describe_weights(source[4:])["seconds"] if source.startswith("zoo:") else seconds_of(run)) / 60


if __name__ == "__main__":
    main()
