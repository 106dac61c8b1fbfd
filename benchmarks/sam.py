"""SAM on scenes: mIoU by prompt, three masks against one, pre-training against none, and a data engine.

    python benchmarks/sam.py prompts --seeds 0 1 2
    python benchmarks/sam.py variants --seeds 0 1 2
    python benchmarks/sam.py engine --seeds 0 1 2

Test scenes, of each of which one region is asked for: a digit's stroke, its filled hull, or the hull of the pair.
"mIoU" is that of the mask that the network rates highest, "best" that of the best of all that it gives, "single" that
of its mask for certain prompts; "stroke", "hull" and "pair" are mIoU where that is asked for; "ms" milliseconds a
prompt, one at a time, after the embedding. "recall" is how many of all regions are among the automatic masks with an
IoU of at least one half, "masks" how many of these an image has.

`prompts`: the recipe sam. `variants`: the recipe; one mask in the place of three; three of which the best alone learns
from the first step on; no pre-training, all at equal steps; and texts learned from captions in the place of crops.
`engine`: three rounds of a data engine with --images scenes by hand, twice as many with what the model proposes and a
person adds, and four times as many by the model alone; after each a SAM learns from all labels so far. "drawn" is the
share of a round's regions that a person has to draw, "labels" the mIoU of the model's masks with the nearest region, 1
where it made none; "all by hand" learns from as many images.

Trainings and measurements are kept in --out: an interrupted command goes on where it was.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _common import kept, parser_of, prepare, publish, slug, spread
from _quality import trained

from flowlib.data import Dataset, Scenes
from flowlib.recipes import Recipe, change, find_recipe, to_dict
from flowlib.runs import Run, evaluate_run, train
from flowlib.systems.data_engine import Labels, by_hand, by_model, joined, labelled
from flowlib.systems.system import Splits

VARIANTS: dict[str, dict[str, Any]] = {
    "sam": {},
    "one-mask": {"masks": 1},
    "best-only": {"shared": 0.0},
    "no-pre-training": {"pretraining": None},
    "captions": {"text_from": "caption"},
}
SCORES = ("mIoU", "best", "single", "stroke", "hull", "pair")
SHORT = {"one point": "point", "three points": "points", "box": "box", "mask": "mask", "text": "text"}


def main() -> None:
    parser = parser_of(__doc__, seeds=[0], steps=0, samples=1000, threads=0, seed=0, out=Path("runs/sam"), write=None)
    parser.add_argument("table", choices=["prompts", "variants", "engine"])
    names = list(VARIANTS)
    parser.add_argument("--rows", nargs="+", choices=names, default=names, metavar="ROW", help="of variants")
    parser.add_argument("--images", type=int, default=300, help="of the engine: scenes that a person labels at first")
    parser.add_argument("--everything", type=int, default=100, help="test scenes of which all masks are wanted")
    parser.add_argument("--side", type=int, default=8, help="of the engine: points a side of the grid")
    arguments = parser.parse_args()
    prepare(arguments)
    tables = {"prompts": prompts, "variants": variants, "engine": engine}
    publish(tables[arguments.table](arguments), "sam.py", sys.argv[1:], arguments.write)


def recipe_of(name: str, seed: int, arguments: argparse.Namespace) -> Recipe:
    """A row's recipe with that seed; with --steps, for a trial, a short one."""
    changes: dict[str, Any] = {"seed": seed, **VARIANTS[name]}
    if "pretraining" not in changes:
        changes["pretraining.seed"] = seed
        if arguments.steps:
            changes["pretraining.steps"] = arguments.steps
    recipe = change(find_recipe("sam"), **changes)
    return change(recipe, steps=arguments.steps, batch_size=8) if arguments.steps else recipe


def measured(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The rows of the report of a row's run, by prompt, kept."""
    recipe = recipe_of(name, seed, arguments)
    run = trained(recipe, arguments.out / f"{slug(name)}-{arguments.steps}-{seed}")
    settings = {"samples": arguments.samples, "everything": arguments.everything, "recipe": to_dict(recipe)}
    found = kept(run.folder / "table.json", settings, partial(report, run, arguments))
    print(name, seed, {key: row.get("mIoU") for key, row in found.items()}, file=sys.stderr, flush=True)
    return found


def report(run: Run, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The system's report, a row by its prompt."""
    rows = evaluate_run(run, samples=arguments.samples, everything=arguments.everything)
    return {str(row["prompt"]): {key: float(row[key]) for key in row if key != "prompt"} for row in rows}


def prompts(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each kind of prompt."""
    found = [measured("sam", seed, arguments) for seed in arguments.seeds]
    rows: list[dict[str, Any]] = []
    for prompt in found[0]:
        scores = [one[prompt] for one in found]
        row: dict[str, Any] = {"prompt": prompt}
        row |= {key: percent(scores, key) for key in (*SCORES, "recall") if key in scores[0]}
        row |= {key: spread([one[key] for one in scores], ".1f") for key in ("ms", "masks") if key in scores[0]}
        rows.append(row)
    return rows


def percent(scores: Sequence[Mapping[str, float]], key: str) -> str:
    return spread([one[key] for one in scores], ".1%")


def variants(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each variant: mIoU by prompt, and of one point also the best of all masks."""
    rows: list[dict[str, Any]] = []
    for name in arguments.rows:
        found = [measured(name, seed, arguments) for seed in arguments.seeds]
        row: dict[str, Any] = {"variant": name, "point, best": percent([one["one point"] for one in found], "best")}
        row |= {short: percent([one[prompt] for one in found], "mIoU") for prompt, short in SHORT.items()}
        rows.append(row | {"recall": percent([one["everything"] for one in found], "recall")})
    return rows


def engine(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each round."""
    found = []
    for seed in arguments.seeds:
        path = arguments.out / f"engine-{arguments.steps}-{seed}.json"
        found.append(kept(path, settings_of(seed, arguments), partial(rounds, seed, arguments)))
    rows: list[dict[str, Any]] = []
    for several in zip(*found, strict=True):
        row: dict[str, Any] = {"round": several[0]["round"], "images": several[0]["images"]}
        rows.append(row | {key: percent(several, key) for key in ("drawn", "labels", "point", "points")})
    return rows


def settings_of(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """On which the result of an engine depends."""
    names = ("steps", "samples", "images", "side")
    return {"seed": seed, "recipe": to_dict(recipe_of("sam", seed, arguments))} | {
        name: getattr(arguments, name) for name in names
    }


def rounds(seed: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The rounds of one engine: what a person has to draw, and what a SAM has learned after each."""
    mae = change(find_recipe("mae"), seed=seed)
    mae = change(mae, steps=arguments.steps, batch_size=8) if arguments.steps else mae
    part = trained(mae, arguments.out / f"mae-{arguments.steps}-{seed}").folder
    recipe = change(recipe_of("sam", seed, arguments), pretraining=None, parts={"mae": str(part)})
    base, scenes = arguments.images, Scenes(seed=1 + seed)
    sets: list[Dataset] = []
    rows: list[dict[str, Any]] = []
    run: Run | None = None
    for name, start, count in (("by hand", 0, base), ("assisted", base, 2 * base), ("automatic", 3 * base, 4 * base)):
        batch = scenes.batch(torch.arange(start, start + count))
        labels = by_hand(batch) if run is None else by_model(run.module, batch, name == "assisted", side=arguments.side)
        if labels.regions.any():  # a model that is sure of nothing labels nothing
            sets.append(labelled(batch["x"], labels))
        run = learned(recipe, joined(sets), f"engine-{name}-{seed}", arguments)
        rows.append({"round": name, "images": start + count} | shares(labels) | score(run, arguments))
    every = scenes.batch(torch.arange(7 * base))
    run = learned(recipe, labelled(every["x"], by_hand(every)), f"engine-all-{seed}", arguments)
    return [*rows, {"round": "all by hand", "images": 7 * base, "drawn": 1.0, "labels": 1.0} | score(run, arguments)]


def learned(recipe: Recipe, data: Dataset, name: str, arguments: argparse.Namespace) -> Run:
    """A SAM that has learned from labelled images."""
    folder = arguments.out / f"{slug(name)}-{arguments.steps}"
    return train(recipe, folder, data=data, resume=True, pictures=False)


def shares(labels: Labels) -> dict[str, float]:
    """What a person has to draw, and how good the labels are that the model made; 1 where it made none."""
    return {"drawn": labels.by_person, "labels": labels.iou if labels.proposed else 1.0}


def score(run: Run, arguments: argparse.Namespace) -> dict[str, float]:
    """mIoU on test scenes of one point and of three."""
    test = Scenes(split="test").first(arguments.samples)
    rows = evaluate_run(run, data=Splits(test, test), samples=arguments.samples, everything=0, repetitions=1)
    found = {str(row["prompt"]): float(row.get("mIoU", 0.0)) for row in rows}
    return {"point": found["one point"], "points": found["three points"]}


if __name__ == "__main__":
    main()
