"""CLIP on scenes: retrieval and zero-shot reading by a ViT and a convolutional encoder, and against the batch size.

    python benchmarks/clip.py encoders
    python benchmarks/clip.py batches
    python benchmarks/clip.py batches --batch-sizes 512 --seeds 0     # a part, kept for the whole

`encoders`: the recipes clip-vit and clip-conv. `batches`: clip-conv with batches of 32, 128 and 512, all with the same
number of pairs: a batch four times as large has a quarter of the steps, and a learning rate twice as large. "recall" is
how often the nearest of 256 descriptive captions is the image's, an equal one counted as found; digit, colour and size
are read on test scenes with one digit, by one prompt and by an ensemble of prompts, and compared with the truth.

--steps counts steps of the recipes' batches of 512. The 1,200 of the recipes took 18 minutes with the convolutional
encoder and 45 with the ViT when the zoo's were made (`flowlib zoo clip-vit`), so that each table takes hours with three
seeds. Trainings and measurements are kept in --out: an interrupted command goes on where it was.
"""

import argparse
import sys
from pathlib import Path

import torch
from _common import kept, parser_of, publish, spread
from _quality import folder_of, seconds_of, trained

from flowlib.data import Dataset, load
from flowlib.recipes import Recipe, change, find_recipe, to_dict
from flowlib.runs import Run
from flowlib.systems.zero_shot import retrieval, zero_shot

ENCODERS = ("clip-vit", "clip-conv")


def main() -> None:
    parser = parser_of(__doc__, seeds=[0, 1, 2], steps=1200, samples=2048, out=Path("runs/clip"), write=None)
    parser.add_argument("table", choices=["encoders", "batches"])
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=list(ENCODERS), help="of `encoders`")
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[32, 128, 512], help="of `batches`")
    arguments = parser.parse_args()
    test = load("scenes", "test").first(arguments.samples)
    rows = []
    for name, recipe in recipes_of(arguments).items():
        runs = [run_of(change(recipe, seed=seed), arguments) for seed in arguments.seeds]
        rows.append({"encoder" if arguments.table == "encoders" else "batch": name, **cells(runs, test)})
        print(rows[-1], file=sys.stderr, flush=True)
    publish(rows, "clip.py", sys.argv[1:], arguments.write)


def recipes_of(arguments: argparse.Namespace) -> dict[str, Recipe]:
    """The rows of a table, and what is trained for each."""
    if arguments.table == "encoders":
        return {name: change(find_recipe(name), steps=arguments.steps) for name in arguments.encoders}
    base, found = find_recipe("clip-conv").training, {}
    for size in arguments.batch_sizes:
        share = size / base.batch_size
        changes = {"lr": base.lr * share**0.5, "matrix_lr": base.matrix_lr * share**0.5}
        steps = max(1, round(arguments.steps / share))
        found[str(size)] = change(find_recipe("clip-conv"), batch_size=size, steps=steps, **changes)
    return found


def run_of(recipe: Recipe, arguments: argparse.Namespace) -> Run:
    training = recipe.training
    return trained(
        recipe, folder_of(arguments.out, f"{recipe.name} {training.batch_size}", training.steps, training.seed)
    )


def measured(run: Run, test: Dataset) -> dict[str, float]:
    """The rows of the system's report, as one."""
    with torch.no_grad():
        first, *others = [retrieval(run.module, test), *zero_shot(run.module, test)]
    found = {"recall": float(first["recall@1"]), "image recall": float(first["image recall@1"])}
    for row in others:
        name = str(row["task"]).split()[-1]
        found |= {name: float(row["one prompt"]), f"{name}, ensemble": float(row["ensemble"])}
    return found


def cells(runs: list[Run], test: Dataset) -> dict[str, str]:
    """A row: means and deviations over seeds, in per cent."""
    found = [
        kept(run.folder / "table.json", {"samples": len(test), "recipe": to_dict(run.recipe)}, measured, run, test)
        for run in runs
    ]
    seconds = sum(seconds_of(run) for run in runs) / len(runs)
    head = {"steps": str(runs[0].recipe.training.steps), "minutes": f"{seconds / 60:.1f}"}
    return head | {name: spread([100 * row[name] for row in found], ".1f") for name in found[0]}


if __name__ == "__main__":
    main()
