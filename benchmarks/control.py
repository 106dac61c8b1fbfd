"""ControlNet: strength, steps, few images, what is trained, and two controls at once.

    python benchmarks/control.py strength --seeds 0 1 2
    python benchmarks/control.py steps --seeds 0 1 2
    python benchmarks/control.py images --seeds 0 1 2
    python benchmarks/control.py two --seeds 0 1 2

Test scenes, painted from their captions under controls that were made of them, with guidance w = 2. "edge F1", "mask
IoU" and "key points" say how well a picture agrees with the scene, "all" is the share that the judge reads as the
caption says, "no caption" the first of the three where there is none. `strength`: by the strength of the control;
"test scenes" are the scenes themselves, and so what reading them costs. `steps`: the weights as they are at steps of
one training, in which agreement comes suddenly. `images`: trained on the first scenes alone, for as many steps: the
copy, as published; the base too, which is then not locked; the small network and the zero convolutions alone; and the
copy with first weights of its own, "anew". `two`: edges, or another --control, and a mask, alone and together.

Trainings and measurements are kept in --out: an interrupted command goes on where it was; a curve of steps starts anew.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from _common import kept, parser_of, prepare, publish, slug, spread
from _quality import trained

from flowlib import Model
from flowlib.data import Dataset, Scenes
from flowlib.data.controls import CONTROLS
from flowlib.metrics.agreement import agreement
from flowlib.metrics.scenes import score_captions
from flowlib.nets import Controlled
from flowlib.recipes import Recipe, change, find_recipe
from flowlib.runs import Run, evaluate_run, train
from flowlib.runs.run import build, load_parts
from flowlib.systems.controlnet import TRAINS
from flowlib.systems.sampling import FlowRequest, sample_flow
from flowlib.systems.system import Splits
from flowlib.training import Trainer

Rows = list[dict[str, Any]]
SCORES = ("edge F1", "mask IoU", "key points")
SCALE = 2.0


def main() -> None:
    parser = parser_of(
        __doc__, seeds=[0], samples=250, sampling_steps=20, steps=0, threads=0, seed=0, out=Path("runs/control"),
        write=None,
    )  # fmt: skip
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--control", choices=CONTROLS, default="edges", help="kind of control")
    parser.add_argument("--strengths", nargs="+", type=float, default=[0, 0.25, 0.5, 0.75, 1, 1.5], help="rows")
    parser.add_argument("--counts", nargs="+", type=int, default=[100, 1000, 10_000], help="images that are learned")
    parser.add_argument("--trains", nargs="+", choices=TRAINS, default=list(TRAINS), help="what is trained")
    parser.add_argument("--marks", nargs="+", type=int, help="steps to measure at (default: 0, 10, 20, 40 ...)")
    arguments = parser.parse_args()
    prepare(arguments)
    publish(TABLES[arguments.table](arguments), "control.py", sys.argv[1:], arguments.write)


def recipe_of(kind: str, seed: int, arguments: argparse.Namespace, **changes: Any) -> Recipe:
    """The recipe of a kind of control; with --steps, for so many."""
    recipe = change(find_recipe(f"control-{kind}"), seed=seed, **changes)
    return change(recipe, steps=arguments.steps) if arguments.steps else recipe


def run_of(kind: str, seed: int, arguments: argparse.Namespace) -> Run:
    """A training on all scenes."""
    recipe = recipe_of(kind, seed, arguments)
    return trained(recipe, arguments.out / f"{kind}-{recipe.training.steps}-{seed}")


@cache
def tested(count: int) -> Dataset:
    """The test scenes that are painted."""
    return Scenes(split="test").first(count)


def measured(name: str, seed: int, arguments: argparse.Namespace, compute: Callable[[], Rows], **more: Any) -> Rows:
    """Rows that `compute` finds, kept by all that they depend on."""
    names = ("samples", "sampling_steps", "steps", "control")
    settings = {"name": name, "seed": seed, **more, **{key: getattr(arguments, key) for key in names}}
    found = kept(arguments.out / f"{slug(name)}-{seed}.json", settings, compute)
    print(name, seed, found[-1], file=sys.stderr, flush=True)
    return found


def reported(run: Run, strengths: Sequence[float], arguments: argparse.Namespace) -> Rows:
    """The rows of a run's report."""
    test = tested(arguments.samples)
    rows = evaluate_run(
        run, data=Splits(test, test), samples=arguments.samples, strengths=tuple(strengths), scale=SCALE,
        steps=arguments.sampling_steps,
    )  # fmt: skip
    return [dict(row) for row in rows]


def table(first: str, found: Sequence[Rows], columns: Sequence[str] = (*SCORES, "all")) -> Rows:
    """The rows of several seeds as one, with mean and spread of each score."""
    return [
        {first: rows[0]["samples"]}
        | {key: spread([row[key] for row in rows], ".1%" if key == "all" else ".3f") for key in columns}
        for rows in zip(*found, strict=True)
    ]


def strength(arguments: argparse.Namespace) -> Rows:
    """A row for each strength, and one without captions."""

    def find(seed: int) -> Rows:
        return reported(run_of(arguments.control, seed, arguments), arguments.strengths, arguments)

    name, more = f"strength {arguments.control}", {"strengths": arguments.strengths}
    return table("painted", [measured(name, seed, arguments, partial(find, seed), **more) for seed in arguments.seeds])


def images(arguments: argparse.Namespace) -> Rows:
    """A row for each number of images and what is trained."""

    def find(count: int, trains: str, seed: int) -> Rows:
        recipe = recipe_of(arguments.control, seed, arguments, trains=trains)
        folder = arguments.out / f"{slug(f'{arguments.control} {trains} {count} {recipe.training.steps}')}-{seed}"
        run = train(recipe, folder, data=Scenes().first(count), resume=True, pictures=False)
        _, row, alone = reported(run, [1.0], arguments)
        return [row | {"no caption": alone["edge F1"]}]

    rows: Rows = []
    for count in arguments.counts:
        for trains in arguments.trains:
            name = f"images {arguments.control} {trains} {count}"
            found = [measured(name, seed, arguments, partial(find, count, trains, seed)) for seed in arguments.seeds]
            (row,) = table("painted", found, (*SCORES, "no caption", "all"))
            rows.append({"images": count, "trained": trains} | {k: v for k, v in row.items() if k != "painted"})
    return rows


def steps(arguments: argparse.Namespace) -> Rows:
    """A row for each mark on the way of a training, of the weights as they are there."""

    def find(seed: int) -> Rows:
        recipe = recipe_of(arguments.control, seed, arguments)
        system: Any = recipe.system
        parts, _ = load_parts(system, torch.device("cpu"))
        data, rows = Scenes(), []
        module = build(recipe, data.spec, parts)
        task = system.stages(module, data, parts)[0].task(recipe.training)
        trainer = Trainer(task, recipe.training, arguments.out / "curve")
        for mark in marks(recipe.training.steps, arguments.marks):
            while trainer.done < mark:
                trainer.step()
            with torch.no_grad():
                row = reported(Run(arguments.out, recipe, data.spec, mark, module, parts), [1.0], arguments)[1]
            rows.append(row | {"samples": mark})
        return rows

    found = [
        measured(f"steps {arguments.control}", seed, arguments, partial(find, seed), marks=arguments.marks)
        for seed in arguments.seeds
    ]
    return table("steps", found)


def marks(last: int, given: Sequence[int] | None) -> list[int]:
    """Where a training of `last` steps is looked at."""
    usual = [0, *(10 * 2**k for k in range(20)), last]
    return sorted({mark for mark in (usual if given is None else given) if mark <= last})


def two(arguments: argparse.Namespace) -> Rows:
    """A row without control, with each of two, and with both."""
    kinds = (arguments.control, "mask")

    def find(seed: int) -> Rows:
        runs = [run_of(kind, seed, arguments) for kind in kinds]
        test = tested(arguments.samples)
        batch, base, rows = test.batch(torch.arange(len(test))), runs[0].parts["base"], []
        images = [CONTROLS[kind].of(batch) for kind in kinds]
        for name, strengths in {"none": (0, 0), kinds[0]: (1, 0), kinds[1]: (0, 1), "both": (1, 1)}.items():
            net = Controlled(base.net, [run.module for run in runs], runs[0].shape[1:], strengths)  # type: ignore[arg-type]
            y = net.guide(base.net.tokenizer(batch["caption"]), images)  # type: ignore[operator, union-attr]
            spec, count = runs[0].spec, len(y)
            wish = FlowRequest(spec=spec, y=y, count=count, scale=SCALE, steps=arguments.sampling_steps, seed=seed)
            x = sample_flow(Model(net, base.path, base.predicts), wish, lands=True).clamp(-1, 1)  # type: ignore[arg-type]
            scores = agreement(x, batch["masks"], batch["keypoints"]) | score_captions(x, batch["caption"])
            rows.append({"samples": name} | scores)
        return rows

    found = [measured(f"two {' '.join(kinds)}", seed, arguments, partial(find, seed)) for seed in arguments.seeds]
    return table("controls", found)


TABLES = {"strength": strength, "steps": steps, "images": images, "two": two}

if __name__ == "__main__":
    main()
