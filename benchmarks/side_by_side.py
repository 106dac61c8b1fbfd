"""flowlib beside what people would use instead to learn MNIST's digits by label, after equal times of training.

    make peers
    FLOWLIB_DATA=... python benchmarks/side_by_side.py

Each row is trained from nothing for so many minutes, in the same process on the same threads, by its own settings
(`_rivals.py` says them), and then draws as many samples of each label without guidance, by its own sampler, in as
many steps as its users take (--sampling-steps: in so many). "s" are the seconds from the first step to the end of the
last, and for flowlib also those for what its targets need before. Its learning rate falls to its last step: how many
steps the time pays for is told by a trial before, which is not counted, and may be wrong by a quarter beside other
work. "img/s" are images learned from and images drawn a second, "calls" network calls for a sample, "ratio" the
Fréchet distance over that of as many training images to the same test images.

All times are those of the processor, over the number of threads: the seconds of a machine with nothing else to do.

Rows whose packages are not installed are left out. Measurements are kept in --out, each alone: an interrupted command
goes on with the row at which it was.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from _common import Scores, clock, kept, parser_of, prepare, publish, seeded, slug, spread
from _minutes import scaled, share_of
from _quality import network_of, parameters
from _rivals import RIVALS, train_for
from torch import Tensor

from flowlib.data import load
from flowlib.metrics import evaluate_images
from flowlib.recipes import change, find_recipe
from flowlib.runs import train

OURS = ("mnist", "mnist-recall")
PART = 250  # samples drawn at once


def main() -> None:
    parser = parser_of(
        __doc__, seeds=[0], samples=2000, sampling_steps=0, threads=0, seed=0, out=Path("runs/side-by-side"), write=None
    )
    parser.add_argument("--minutes", nargs="+", type=float, default=[2, 5, 15], help="of training")
    parser.add_argument("--rows", nargs="+", default=[*OURS, *RIVALS], choices=[*OURS, *RIVALS], metavar="ROW")
    arguments = parser.parse_args()
    prepare(arguments)
    rows = []
    for minutes in arguments.minutes:
        for name in arguments.rows:
            try:
                rows.append(row_of(name, minutes, arguments))
            except ModuleNotFoundError as error:
                print(f"{name}: left out, {error.name} is not installed (make peers)", file=sys.stderr, flush=True)
            else:
                print(rows[-1], file=sys.stderr, flush=True)
    publish(rows, "side_by_side.py", sys.argv[1:], arguments.write)


def row_of(name: str, minutes: float, arguments: argparse.Namespace) -> dict[str, str]:
    """A row of the table: means over seeds."""
    found = []
    for seed in arguments.seeds:
        asked = {"samples": arguments.samples, "sampling_steps": arguments.sampling_steps}
        settings = {**asked, "minutes": minutes, "seed": seed, "threads": torch.get_num_threads()}
        path = arguments.out / f"{slug(name)}-{minutes:g}-{seed}.json"
        found.append(kept(path, settings, measure, name, 60 * minutes, seed, **asked))

    def of(key: str, form: str) -> str:
        return spread([scores[key] for scores in found], form)

    return {
        "minutes": f"{minutes:g}", "row": name, "s": of("seconds", ".0f"), "weights": f"{found[0]['weights']:,.0f}",
        "trained img/s": of("learned", ".0f"), "accuracy": of("accuracy", ".1%"), "Fréchet": of("frechet", ".2f"),
        "ratio": of("ratio", ".1f"), "precision": of("precision", ".2f"), "recall": of("recall", ".2f"),
        "calls": f"{found[0]['calls']:.0f}", "drawn img/s": of("drawn", ".1f"),
    }  # fmt: skip


def measure(name: str, seconds: float, seed: int, samples: int, sampling_steps: int) -> Scores:
    """What samples are worth after a training of so many seconds."""
    train_set, test = load("mnist", "train"), load("mnist", "test")
    y = torch.arange(samples) % 10
    torch.manual_seed(seed)
    draw, seen, calls, weights, taken = (flowlib if name in OURS else rival)(name, seconds, seed, sampling_steps)
    start = clock()
    with torch.no_grad():
        x = torch.cat([draw(part) for part in y.split(PART)]).clamp(-1, 1)
    drawn = samples / (clock() - start)
    chosen = torch.randperm(len(train_set), generator=seeded(seed))[:samples]
    floor = evaluate_images(train_set.images[chosen], train_set.labels[chosen], test.images)["frechet"]
    scores = {key: float(value) for key, value in evaluate_images(x, y, test.images).items()}
    rates = {"seconds": taken, "learned": seen / taken, "drawn": drawn, "calls": calls, "weights": weights}
    return scores | rates | {"ratio": scores["frechet"] / float(floor)}


Drawer = Callable[[Tensor], Tensor]
Made = tuple[Drawer, int, int, int, float]  # how to draw, images seen, calls a sample, weights, seconds of training


def rival(name: str, seconds: float, seed: int, sampling_steps: int) -> Made:
    """One of `RIVALS`, trained until its time is up."""
    data, one = load("mnist", "train"), RIVALS[name](seconds, sampling_steps)
    start = clock()
    seen = train_for(one, data.images, data.labels, seconds, seeded(seed))
    return one.sample, seen, one.evaluations, parameters(one.net), clock() - start


def flowlib(name: str, seconds: float, seed: int, sampling_steps: int) -> Made:
    """A recipe, with as many steps as the time is expected to pay for."""
    recipe = change(find_recipe(name), seed=seed)
    recipe = scaled(recipe, share_of(recipe, seconds))
    start = clock()
    with tempfile.TemporaryDirectory() as folder:
        run = train(recipe, Path(folder), pictures=False, checkpoint_every=recipe.training.steps)
    taken = clock() - start
    drawn, heun = 0, sampling_steps or 12

    def draw(y: Tensor) -> Tensor:
        nonlocal drawn
        drawn += 1
        return run.sample(y, scale=1.0, steps=heun, method="heun", seed=1000 * seed + drawn)

    return draw, recipe.training.steps * recipe.training.batch_size, 2 * heun, parameters(network_of(run.module)), taken


if __name__ == "__main__":
    main()
