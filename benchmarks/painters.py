"""What paints scenes: how fast each system is, and which networks learn to read captions.

    python benchmarks/painters.py speed
    python benchmarks/painters.py networks --seeds 0 1 2

`speed`: seconds for one picture, and pictures a second in a batch, of each with the steps that its command takes by
default, on all cores; without the seconds in which models are loaded. `networks`: the recipe scenes-text for --steps
steps, as it stands and with one thing changed: tokens read without their neighbours, a stem of 2 x 2 pixels, a
transformer of as many parameters. Shares that the judge reads as the captions of test scenes ask, at w = 3; and by how
much the error of D at t = 0.35 grows: of scenes of one digit, where the caption names another digit or another place,
and of scenes of two, where it gives each the other's digit. Trainings and measurements are kept in --out.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _common import Scores, kept, parser_of, prepare, publish, seeded, slug, spread
from _quality import parameters, read, seconds_of, trained
from torch import Tensor

from flowlib import EnergyGuidance, sample_ode
from flowlib.data import Scenes
from flowlib.recipes import change, find_recipe
from flowlib.runs import Run, load_run
from flowlib.systems.disco_losses import targets_of
from flowlib.systems.disco_sampling import Disco
from flowlib.systems.flow_painting import OPTIONS
from flowlib.systems.guides import inpainting_guide
from flowlib.systems.inpainting import random_regions
from flowlib.systems.semantic import text_energy
from flowlib.systems.weighted import Prompt
from flowlib.text.captions import NAMES, Thing, descriptive
from flowlib.training.order import stream

CAPTION = "a red seven"
WRONG = ("wrong digit", "wrong place", "exchanged digits")
PERCENT = ("all", "one", "two", "digit", "colour", "size", "place")
NETWORKS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "no phrases": {"reach": 0},
    "2 x 2 stem": {"net_args": {"channels": (56, 96), "depth": 1, "attention": (1,), "patch": 2, "gates": True}},
    "transformer": {"net": "dit", "net_args": {"patch": 2, "width": 96, "depth": 6, "heads": 4, "gates": True}},
}
STEPS = OPTIONS["steps"]


def main() -> None:
    parser = parser_of(
        __doc__, seeds=[0], samples=250, sampling_steps=20, steps=1500, threads=0, seed=0, out=Path("runs/painters"),
        write=None,
    )  # fmt: skip
    parser.add_argument("table", choices=["speed", "networks"])
    parser.add_argument(
        "--rows", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="ROW", help="of `networks`"
    )
    parser.add_argument("--batch", type=int, default=64, help="of `speed`, pictures at a time")
    arguments = parser.parse_args()
    prepare(arguments)
    rows = {"speed": speed, "networks": networks}[arguments.table](arguments)
    publish(rows, "painters.py", sys.argv[1:], arguments.write)


def speed(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each painter."""
    rows, batch = [], arguments.batch
    for name, paint in painters(batch).items():
        paint(1)  # not timed
        alone, many = min(clock(paint, 1) for _ in range(3)), clock(paint, batch)
        rows.append({"painter": name, "seconds a picture": f"{alone:.2f}", "a second": f"{batch / many:.1f}"})
    return rows


def painters(most: int) -> dict[str, Callable[[int], object]]:
    """What paints so many pictures, `most` at most, by name."""
    text, scenes, clip = (zoo(name) for name in ("scenes-text", "scenes", "clip-conv"))
    noised, edits, large = (zoo(name) for name in ("clip-noised-agree", "scenes-inpainter", "scenes-upsampler"))
    caption, settings = [CAPTION], Disco()
    targets = targets_of(clip.module, [Prompt(CAPTION, 1.0)], [], settings.cuts, stream(0, "cuts of prompts"))
    small = Scenes(split="test").batch(torch.arange(most))["x"]
    known = inpainting_guide(small, random_regions(most, (16, 16), seeded(0)))

    def paint(count: int, run: Run = text, y: Tensor | None = None, **options: Any) -> Tensor:
        tokens = run.module.net.tokenizer(caption * count)
        return run.sample(tokens if y is None else run.module.net.guide(tokens, y[:count]), steps=STEPS, **options)

    def follow(count: int) -> Tensor:
        field = EnergyGuidance(scenes.module, text_energy(noised.module, caption, 100.0), bound=0.5)
        return sample_ode(field, scenes.noise(count), steps=STEPS, method="heun", denoise_last=True)

    return {
        "GLIDE, w = 1": partial(paint, scale=1.0),
        "GLIDE, w = 3": partial(paint, scale=3.0),
        "GLIDE, inpainting, w = 3": partial(paint, run=edits, y=known, scale=3.0),
        "GLIDE, upsampler to 32 x 32, w = 3": partial(paint, run=large, y=small, scale=3.0),
        "no words": lambda count: scenes.sample(count=count, steps=STEPS),
        "semantic guidance": follow,
        "Disco, 50 steps, 16 cut-outs": lambda count: settings.sample(
            scenes.module, [clip.module], [targets], scenes.noise(count)
        ),
    }


def zoo(name: str) -> Run:
    """A run that comes with the package."""
    return load_run(f"zoo:{name}", "cpu")


def clock(paint: Callable[[int], object], count: int) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    paint(count)
    return time.perf_counter() - start


def networks(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each network: what a short training reaches."""
    steps, rows = arguments.steps, []
    for name in arguments.rows:
        recipe, scores = change(find_recipe("scenes-text"), steps=steps, **NETWORKS[name]), []
        for seed in arguments.seeds:
            run = trained(change(recipe, seed=seed), arguments.out / f"{slug(name)}-{steps}-{seed}")
            scores.append(painted(run, arguments) | {"minutes": seconds_of(run) / 60})
        rows.append(
            {"network": name, "parameters": parameters(run.module), "steps": steps}
            | {"minutes": spread([one["minutes"] for one in scores], ".1f")}
            | {key: spread([one[key] for one in scores], ".1%") for key in (*PERCENT, *WRONG)}
        )
    return rows


def painted(run: Run, arguments: argparse.Namespace) -> Scores:
    """What the judge reads in pictures of test captions, at w = 3, kept."""

    def compute() -> Scores:
        batch = Scenes(split="test").batch(torch.arange(arguments.samples))
        y = run.module.net.tokenizer(batch["caption"])
        drawn = run.sample(y, scale=3.0, steps=arguments.sampling_steps).clamp(-1, 1)
        return read(drawn, batch)[0] | {name: growth(run, name) for name in WRONG}

    settings = {"run": run.folder.name, "samples": arguments.samples, "steps": arguments.sampling_steps}
    return kept(arguments.out / f"{run.folder.name}-read.json", settings, compute)


def mistold(things: list[Thing], wrong: str) -> list[Thing]:
    """What is in a scene, with one thing wrong, of `WRONG`."""
    if wrong == "exchanged digits":
        one, other = things
        return [replace(one, digit=other.digit), replace(other, digit=one.digit)]
    kind = wrong.removeprefix("wrong ")
    return [replace(things[0], **{kind: (getattr(things[0], kind) + 3) % len(NAMES[kind])})]


@torch.no_grad()
def growth(run: Run, wrong: str, count: int = 600) -> float:
    """By which share the error of D at t = 0.35 grows when captions say one thing wrong, of `WRONG`."""
    batch, size = Scenes(split="test").batch(torch.arange(count)), 2 if wrong == "exchanged digits" else 1
    scenes = [[Thing(*one) for one in row if one[0] >= 0] for row in batch["objects"].tolist()]
    chosen = [i for i, row in enumerate(scenes) if len(row) == len({one.digit for one in row}) == size]
    z, errors = batch["x"][chosen], []
    x = 0.35 * z + 0.65 * torch.randn(z.shape, generator=seeded(0))
    for told in (lambda row: row, lambda row: mistold(row, wrong)):
        texts = [descriptive(told(scenes[i]), int(batch["background"][i])) for i in chosen]
        errors.append(float((run.module.data(x, 0.35, run.module.net.tokenizer(texts)) - z).square().mean()))
    return errors[1] / errors[0] - 1


if __name__ == "__main__":
    main()
