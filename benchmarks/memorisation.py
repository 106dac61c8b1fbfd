"""The closed form of the training data early on and a network after it: quality, and what is copied.

    FLOWLIB_DATA=... python benchmarks/memorisation.py --run runs/mnist
    FLOWLIB_DATA=... python benchmarks/memorisation.py posterior
    FLOWLIB_DATA=... python benchmarks/memorisation.py scales --run runs/mnist-recall

`switch`: samples of each label, w = 1, by a network from a time on, and before it by the exact field of the training
data of the label; "0" is the network alone. "accuracy", "frechet", "precision", "recall" and "inception" are those of
the shipped evaluator; "nearest" the median distance to the nearest training image, "closer" the share of samples nearer
than half of the test images are, and "C_T" the data-copying test of Meehan et al. (2020), of all data and within
labels: far below 0, samples lie nearer to the training images than new images do. The row "test" is half of the test
images beside the other half, "training" is training images beside the rest of them.

`posterior`: at which time the posterior over the training images collapses. Of test images with noise: the squared
error of the closed form and of the network at each time, a pixel; the entropy of the posterior in bits, where nothing
is known as large as "of"; the weight of its first image; and log2 of the signal-to-noise ratio alpha^2 / beta^2.

`scales`: samples as the run's recipe draws them, at each guidance scale of --scales, measured in the same way. "half"
is the Fréchet distance of every other sample to the test images, "other" that of the rest: the best scale is to be
chosen by the one and reported by the other. "ratio" is "frechet" over that of as many training images. With --weak, the
scale is that of autoguidance by another run of the recipe; with --interval, the guidance is left out at other times.

Measurements are kept in --out. With --steps, for a trial, the network is trained here, and small.
"""

import argparse
import math
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from _common import kept, parser_of, prepare, publish, seeded, slug
from _quality import trained
from torch import Tensor

from flowlib import ClassifierFreeGuidance, EmpiricalField, Field, Switched, sample_ode
from flowlib.autoguidance import Autoguidance
from flowlib.data import Dataset, load
from flowlib.field import FieldOf
from flowlib.metrics import data_copying, evaluate_images
from flowlib.recipes import change, find_recipe
from flowlib.runs import Run, load_run

REAL = ("training", "test")
COPYING = ("nearest", "closer", "C_T", "C_T in labels")


def main() -> None:
    parser = parser_of(
        __doc__,
        samples=10_000,
        sampling_steps=12,
        steps=0,
        threads=0,
        seed=0,
        out=Path("runs/memorisation"),
        write=None,
    )
    parser.add_argument("table", nargs="?", choices=("switch", "posterior", "scales"), default="switch")
    parser.add_argument("--run", default="runs/mnist", help="a run of a flow of MNIST")
    parser.add_argument("--times", nargs="+", type=float, default=[0, 0.2, 0.25, 0.3, 0.35], help="rows of `switch`")
    parser.add_argument(
        "--at", nargs="+", type=float, default=[0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5], help="of `posterior`"
    )
    parser.add_argument("--scales", nargs="+", type=float, default=[1, 1.15, 1.3, 1.5], help="rows of `scales`")
    parser.add_argument("--weak", help="of `scales`: a run that was trained for a shorter time, which guides")
    parser.add_argument("--interval", nargs=2, type=float, help="of `scales`: guidance from this time until that")
    arguments = parser.parse_args()
    prepare(arguments)
    run = load_run(arguments.run, "cpu") if not arguments.steps else trial(arguments)
    measure, rows = {
        "switch": (switched, [*REAL, *arguments.times]),
        "posterior": (collapsed, arguments.at),
        "scales": (scaled, ["training", *arguments.scales]),
    }[arguments.table]
    publish([row_of(name, measure, run, arguments) for name in rows], "memorisation.py", sys.argv[1:], arguments.write)


def trial(arguments: argparse.Namespace) -> Run:
    """A small training of the recipe."""
    recipe = change(find_recipe("mnist"), steps=arguments.steps, batch_size=8, references=10)
    return trained(recipe, arguments.out / "run")


def row_of(name: Any, measure: Any, run: Run, arguments: argparse.Namespace) -> dict[str, str]:
    """A row of a table, kept."""
    rows = ("out", "write", "times", "at", "scales")
    settings = {key: str(value) for key, value in vars(arguments).items() if key not in rows}
    path = arguments.out / f"{arguments.table}-{slug(str(name))}.json"
    scores = kept(path, settings | {"row": name}, partial(measure, name, run, arguments))
    print(arguments.table, name, scores, file=sys.stderr, flush=True)
    return {"w" if measure is scaled else "t": str(name)} | {key: f"{value:.4g}" for key, value in scores.items()}


def switched(name: Any, run: Run, arguments: argparse.Namespace) -> dict[str, float]:
    """What samples are worth, and how near they are to the training images."""
    train, test = load("mnist", "train"), load("mnist", "test")
    # By chance: MNIST's first half of the test images is of other writers than its second.
    some, rest = torch.randperm(len(test), generator=seeded(arguments.seed)).chunk(2)
    if name == "test":
        x, y = test.images[some], test.labels[some]
    elif name == "training":
        chosen = torch.randperm(len(train), generator=seeded(arguments.seed))[: arguments.samples]
        x, y = train.images[chosen], train.labels[chosen]
        others = torch.ones(len(train), dtype=torch.bool).index_fill(0, chosen, False)
        train = Dataset(train.images[others], train.labels[others], classes=10, name="mnist", levels=train.levels)
    else:
        y = torch.arange(arguments.samples) % 10
        x = samples_of(run, train, y, name, arguments)
    held, labels = test.images[rest], test.labels[rest]
    real = held if name == "test" else test.images
    scores = {key: float(value) for key, value in evaluate_images(x, y, real).items()}
    copied, within = data_copying(x, held, train.images), data_copying(x, held, train.images, (y, labels, train.labels))
    values = (copied.nearest, copied.closer, copied.score, within.score)
    return scores | dict(zip(COPYING, values, strict=True))


def scaled(name: Any, run: Run, arguments: argparse.Namespace) -> dict[str, float]:
    """What samples at a guidance scale are worth, and how near they are to the training images."""
    train, test = load("mnist", "train"), load("mnist", "test")
    floor = of_training(arguments.samples, arguments.seed)
    if name == "training":
        return floor
    y = torch.arange(arguments.samples) % 10
    weak = load_run(arguments.weak, "cpu").module if arguments.weak else None

    def guide(field: Field) -> Field:
        guided = ClassifierFreeGuidance(field, name) if weak is None else Autoguidance(field, weak, name)
        return guided if arguments.interval is None else Within(field, guided, *arguments.interval)

    x = run.sample(y, steps=arguments.sampling_steps, method="heun", seed=arguments.seed, wrap=guide).clamp(-1, 1)
    scores = measures(x, y, test)
    copied = data_copying(x, test.images, train.images)
    within = data_copying(x, test.images, train.images, (y, test.labels, train.labels))
    scores["ratio"] = scores["frechet"] / floor["frechet"]
    return scores | dict(zip(COPYING, (copied.nearest, copied.closer, copied.score, within.score), strict=True))


class Within(FieldOf):
    """A guided field for start <= t < end, the field itself at other times."""

    def __init__(self, field: Field, guided: Field, start: float, end: float) -> None:
        super().__init__(field)
        self.guided, self.start, self.end, self.predicts = guided, start, end, field.predicts

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        inside = self.start <= float(torch.as_tensor(t).max()) < self.end  # samplers ask for one time a call
        return (self.guided if inside else self.field).predict(x, t, y)


def measures(x: Tensor, y: Tensor, test: Dataset) -> dict[str, float]:
    """The evaluator's scores of images, and the Fréchet distances of two halves of them, with as many of each label."""
    scores = {key: float(value) for key, value in evaluate_images(x, y, test.images).items()}
    first = torch.arange(len(y)) // 10 % 2 == 0
    for key, half in (("half", first), ("other", ~first)):
        scores[key] = float(evaluate_images(x[half], y[half], test.images)["frechet"])
    return scores


@cache
def of_training(samples: int, seed: int) -> dict[str, float]:
    """The scores of as many training images."""
    train, test = load("mnist", "train"), load("mnist", "test")
    chosen = torch.randperm(len(train), generator=seeded(seed))[:samples]
    return measures(train.images[chosen], train.labels[chosen], test) | {"ratio": 1.0}


def samples_of(run: Run, train: Dataset, y: Tensor, time: float, arguments: argparse.Namespace) -> Tensor:
    """Samples of labels by the network from a time on, and by the closed form before it."""
    field: Any = run.module
    if time:
        field = Switched(EmpiricalField(train.images, train.labels, field.path), field, time)
    noise = run.noise(len(y), arguments.seed)
    parts = zip(noise.split(500), y.split(500), strict=True)
    made = [sample_ode(field, x, labels, steps=arguments.sampling_steps, method="heun") for x, labels in parts]
    return torch.cat(made).clamp(-1, 1)


def collapsed(time: float, run: Run, arguments: argparse.Namespace) -> dict[str, float]:
    """How well both fields know a noised test image, and what the posterior looks like."""
    train, test = load("mnist", "train"), load("mnist", "test")
    z, y = test.images[: arguments.samples], test.labels[: arguments.samples]
    exact, field = EmpiricalField(train.images, train.labels, run.module.path), run.module
    x = field.path.sample(z, time, torch.randn(z.shape, generator=seeded(arguments.seed)))
    errors: dict[str, list[Tensor]] = {"closed form": [], "network": []}
    bits, first = [], []
    with torch.no_grad():
        for part in torch.arange(len(z)).split(500):
            for name, one in (("closed form", exact), ("network", field)):
                errors[name].append((one.data(x[part], time, y[part]) - z[part]).square().flatten(1).mean(1))
            weights = posterior(exact, x[part], time, y[part])
            bits += [-float((w * w.clamp(min=1e-30).log2()).sum()) for w in weights]
            first += [float(w.max()) for w in weights]
    counts = train.labels.bincount()[y].double()
    alpha, beta = field.path.levels(torch.tensor(time))
    return {key: float(torch.cat(parts).mean()) for key, parts in errors.items()} | {
        "bits": sum(bits) / len(bits),
        "of": float(counts.log2().mean()),
        "first": sum(first) / len(first),
        "log2 SNR": 2 * math.log2(float(alpha / beta)),
    }


def posterior(field: EmpiricalField, x: Tensor, time: float, y: Tensor) -> list[Tensor]:
    """The posterior over the training images of its label, for each noised image."""
    levels = field.path.levels(torch.tensor([[time]]))
    blocks = [slice(*field.ranges[label]) for label in y.tolist()]
    return [field.posterior(one[None], *levels, block)[0] for one, block in zip(x.flatten(1), blocks, strict=True)]


if __name__ == "__main__":
    main()
