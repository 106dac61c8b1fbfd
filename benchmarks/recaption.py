"""DALL-E 3: painters that learn from given, short and descriptive captions, in blends; how true the captions are.

    python benchmarks/recaption.py captioners
    python benchmarks/recaption.py prompts --seeds 0
    python benchmarks/recaption.py prompts --seeds 0 1 2 --rows given short-95 short-100 descriptive-95 descriptive-100
    python benchmarks/recaption.py binding --seeds 0 1 2 --rows given descriptive-95

`captioners`: the truth of descriptive captions of test scenes, by what the language model reads of CLIP; of what is
said of each kind, and in "complete" that all is said and true, of scenes with "one" digit and with "two"; and captions
a second. `prompts`: a painter for each row, from given captions or from so many per cent of synthetic ones and the rest
given; the share of pictures of test captions that the judge reads as asked for in all ("judge") and in each attribute
that is named, on average ("attributes") and of three alone, and a CLIP's score ("CLIP"), by how the prompt is written.
`binding`: of the same painters, how often the judge finds attributes with the digits that they are said of, and in
brackets with the other ones.

Captioners come from the zoo; with --captioner-steps they are trained here. Trainings, captions and measurements are
kept: an interrupted command goes on where it was, --rows and --seeds do a part of it.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from _common import kept, parser_of, prepare, publish, slug, spread
from _quality import trained

from flowlib.data import Scenes
from flowlib.metrics.scenes import SCORED
from flowlib.metrics.truth import caption_truth
from flowlib.recipes import change, find_recipe, to_dict
from flowlib.recipes.recaption import WRITERS
from flowlib.runs import Run, evaluate_run
from flowlib.systems.caption_writing import write_captions

SHARES = (65, 80, 95, 100)
BLENDS: dict[str, tuple[str, float]] = {f"{kind}-{share}": (kind, share / 100) for kind in WRITERS for share in SHARES}
READS: dict[str, Mapping[str, Any]] = {
    "embedding and places": {},
    "embedding": {"places": False},
    "embedding, CLIP as it was": {"places": False, "tuned": False, "contrastive": 0.0},
}
MEASURES: dict[str, tuple[Callable[[Mapping[str, Any]], float], str]] = {
    "judge": (itemgetter("all"), ".1%"),
    "attributes": (lambda row: fmean(row[name] for name in SCORED if name in row), ".1%"),
    **{name: (itemgetter(name), ".1%") for name in ("digit", "colour", "place")},
    "CLIP": (itemgetter("clip"), ".1f"),
}
KINDS = ("digit", "colour", "size", "place", "background")


def main() -> None:
    parser = parser_of(
        __doc__, seeds=[0], samples=500, sampling_steps=20, steps=3000, batch_size=64, threads=0, seed=0,
        out=Path("runs/recaption"), write=None,
    )  # fmt: skip
    parser.add_argument("table", choices=["captioners", "prompts", "binding"])
    names = ("given", *BLENDS)
    parser.add_argument("--rows", nargs="+", choices=names, default=list(names), metavar="ROW", help="of painters")
    parser.add_argument("--captioner-steps", type=int, default=0, help="of a captioner trained here; 0: of the zoo")
    parser.add_argument("--channels", type=int, nargs=2, help="of a painter's network (default: the recipe's)")
    parser.add_argument("--size", type=int, default=20_000, help="scenes that are described and learned")
    arguments = parser.parse_args()
    prepare(arguments)
    rows = {"captioners": captioners, "prompts": prompts, "binding": bindings}[arguments.table](arguments)
    publish(rows, "recaption.py", sys.argv[1:], arguments.write)


def captioner(kind: str, arguments: argparse.Namespace, steps: int, seed: int = 0, **settings: Any) -> Run:
    """A captioner of that kind, trained on from a base, with so many steps each, where it is not there."""
    name = slug(" ".join(["captioner", *map(str, settings.values()), str(steps), str(seed)]))
    settings |= {"seed": seed, "batch_size": arguments.batch_size}
    base = trained(change(find_recipe("captioner"), steps=steps, **settings), arguments.out / name)
    settings |= {"contrastive": 0.0, "parts": {"base": str(base.folder)}}
    recipe = change(find_recipe(f"captioner-{kind}"), steps=max(1, steps // 2), **settings)
    return trained(recipe, arguments.out / f"{name}-{kind}")


def captioners(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each thing that a language model may read of CLIP."""
    rows, steps = [], arguments.captioner_steps or find_recipe("captioner").training.steps
    for name, settings in READS.items():
        found = []
        for seed in arguments.seeds:
            run = captioner("descriptive", arguments, steps, seed, **settings)
            wanted = {"samples": arguments.samples, "recipe": to_dict(run.recipe)}
            found.append(kept(run.folder / "truth.json", wanted, truth, run, arguments.samples))
            print(name, seed, found[-1], file=sys.stderr, flush=True)
        row = {key: spread([one.get(key, 0.0) for one in found], ".1%") for key in (*KINDS, "complete", "one", "two")}
        rows.append({"reads": name, "steps": steps} | row | {"a second": f"{found[0]['speed']:.0f}"})
    return rows


def truth(run: Run, count: int) -> dict[str, float]:
    """How true captions of test scenes are."""
    batch, start = Scenes(split="test").batch(torch.arange(count)), time.perf_counter()
    texts = write_captions(run.module, batch["x"])
    speed, found = count / (time.perf_counter() - start), caption_truth(texts, batch["objects"], batch["background"])
    for name, two in (("one", False), ("two", True)):
        chosen = ((batch["objects"][:, 1, 0] >= 0) == two).nonzero()[:, 0]
        some = [texts[i] for i in chosen.tolist()]
        found[name] = caption_truth(some, batch["objects"][chosen], batch["background"][chosen])["complete"]
    return found | {"speed": speed}


def painter(name: str, seed: int, arguments: argparse.Namespace) -> Run:
    """The painter of a row, trained where it is not there."""
    settings: dict[str, Any] = {
        "steps": arguments.steps, "size": arguments.size, "seed": seed, "batch_size": arguments.batch_size,
    }  # fmt: skip
    if name == "given":
        recipe = find_recipe("recaption-given")
    else:
        kind, share = BLENDS[name]
        own = arguments.captioner_steps
        source = str(captioner(kind, arguments, own).folder) if own else WRITERS[kind]
        recipe = find_recipe("recaption")
        settings |= {"share": share, "parts": {**recipe.system.parts, "captioner": source}}
    channels = arguments.channels or recipe.system.net_args["channels"]
    settings["net_args"] = {**recipe.system.net_args, "channels": tuple(channels)}
    size = "-".join(map(str, channels))
    return trained(change(recipe, **settings), arguments.out / f"{name}-{size}-{arguments.steps}-{seed}")


def measured(arguments: argparse.Namespace) -> dict[str, list[dict[str, dict[str, Any]]]]:
    """Of each row and seed, what is measured for each way to write prompts, by its name."""
    found: dict[str, list[dict[str, dict[str, Any]]]] = {}
    for name in arguments.rows:
        for seed in arguments.seeds:
            run = painter(name, seed, arguments)
            options = {"samples": arguments.samples, "steps": arguments.sampling_steps}
            wanted = {**options, "recipe": to_dict(run.recipe)}
            rows = kept(run.folder / "report.json", wanted, evaluate_run, run, **options)
            found.setdefault(name, []).append({row["prompts"]: row for row in rows})
            print(name, seed, {row["prompts"]: row.get("all", row.get("bound")) for row in rows}, file=sys.stderr)
    return found


def prompts(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Some rows for each painter: what the judge and a CLIP find, by the way in which prompts are written."""
    rows = []
    for name, seeds in measured(arguments).items():
        for measure, (read, form) in MEASURES.items():
            ways = [way for way in seeds[0] if not way.startswith("binding")]
            told = [way for way in ways if measure != "place" or "place" in seeds[0][way]]  # short prompts name none
            row = dict.fromkeys(ways, "") | {way: spread([read(one[way]) for one in seeds], form) for way in told}
            rows.append({"captions": name, "measure": measure} | row)
    return rows


def bindings(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each painter: what is bound, by kind, with short prompts and with these rewritten."""
    rows = []
    for name, seeds in measured(arguments).items():
        row: dict[str, Any] = {"captions": name}
        for way in (way for way in seeds[0] if way.startswith("binding")):
            bound, other = (spread([one[way][key] for one in seeds], ".1%") for key in ("bound", "exchanged"))
            row[way.removeprefix("binding ")] = f"{bound} ({other})"
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
