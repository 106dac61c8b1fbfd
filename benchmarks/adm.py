"""ADM's choices, one at a time and together at equal training operations; classifier guidance against classifier-free.

    FLOWLIB_DATA=... python benchmarks/adm.py network  --seeds 0 1 2
    FLOWLIB_DATA=... python benchmarks/adm.py guidance --seeds 0 1 2

`network` (Dhariwal & Nichol 2021, tables 1 to 3): each variant changes one thing in a plain U-Net, "together" all
of them; each gets as many steps as the plain one pays for. `guidance` (ibid., table 4; Ho & Salimans 2022): one
model on DDPM's chain and one classifier of noised images; ancestral sampling with the mean shifted by the classifier
("shift"), the score moved by it ("score"), or classifier-free guidance, over strengths.

Trainings and measurements are kept in --out: an interrupted command goes on where it was.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from _quality import SMALL, call_flops, kept, publish, spread, training_flops, within
from torch import Tensor

from flowlib.chains import Clipped, mean_shift, sample_ancestral
from flowlib.data import Dataset, load
from flowlib.fields import Model
from flowlib.guidance import ClassifierFreeGuidance, EnergyGuidance
from flowlib.metrics import evaluate_images
from flowlib.nets.classifier import TimeClassifier
from flowlib.recipes import find_recipe, override, to_dict
from flowlib.runs import train
from flowlib.systems.classifier import classifier_loss
from flowlib.training.order import stream
from flowlib.training.settings import Training
from flowlib.training.task import Task
from flowlib.training.trainer import Trainer

PLAIN = [
    *("net.channels=[32,64]", "net.depth=1", "net.attention=[1]", "net.heads=1", "net.adagn=false", "net.gates=false"),
    *("predicts=data", "time_mean=-0.2", "dropout=0.1", "matrix_lr=0.02", "ema=0.995", "stable_until=0"),
]
CHANGES = {
    "plain": [],
    "deeper, as wide": ["net.depth=2"],
    "wider, as deep": ["net.channels=[48,96]"],
    "4 heads": ["net.heads=4"],
    "16 channels a head": ["net.head_channels=16"],
    "attention at both sizes": ["net.attention=[0,1]"],
    "BigGAN resizing": ["net.biggan=true"],
    "AdaGN": ["net.adagn=true"],
    "together": ["net.attention=[0,1]", "net.head_channels=16", "net.biggan=true", "net.adagn=true"],
}
STRENGTHS = {"shift": (0.0, 1.0, 2.0, 4.0, 8.0), "score": (0.0, 1.0, 2.0, 4.0, 8.0), "free": (1.0, 1.5, 2.0, 3.0, 5.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["network", "guidance"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="a training for each (default 0)")
    parser.add_argument("--steps", type=int, default=600, help="training steps, of the plain network (default 600)")
    parser.add_argument("--samples", type=int, default=1000, help="images to measure (default 1000, at least 129)")
    parser.add_argument("--sampling-steps", type=int, default=50, help="of the sampler (default 50)")
    parser.add_argument("--variants", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="NAME")
    parser.add_argument("--classifier-steps", type=int, default=600, help="training steps of the classifier")
    parser.add_argument("--out", type=Path, default=Path("runs/adm"), help="folder of the runs (default runs/adm)")
    parser.add_argument("--write", type=Path, help="also write the table to this file, as Markdown")
    arguments = parser.parse_args()
    data, test = load("mnist", "train"), load("mnist", "test")
    rows = (networks if arguments.table == "network" else guidances)(arguments, data, test)
    publish(rows, "adm.py", sys.argv[1:], arguments.write)


def wanted_labels(data: Dataset, count: int) -> Tensor:
    """The labels of training images drawn at random: what samples are asked to be."""
    return data.labels[torch.randperm(len(data), generator=stream(0, "chosen"))[:count]]


def networks(arguments: argparse.Namespace, data: Dataset, test: Dataset) -> list[dict[str, str]]:
    plain = replace(override(find_recipe("mnist"), PLAIN), steps=arguments.steps)
    budget, y, rows = training_flops(plain), wanted_labels(data, arguments.samples), []
    for name in arguments.variants:
        found = []
        recipe = within(override(plain, CHANGES[name]), budget)
        for seed in arguments.seeds:
            folder = arguments.out / f"{name.replace(' ', '-').replace(',', '')}-{arguments.steps}-{seed}"
            run = train(replace(recipe, seed=seed), folder, resume=True, pictures=False)

            def measure(run=run) -> dict[str, float]:  # type: ignore[no-untyped-def]
                images = run.sample(y, method="sde", steps=arguments.sampling_steps)
                return evaluate_images(images, y, test.images)

            settings = {"samples": arguments.samples, "steps": arguments.sampling_steps, "recipe": to_dict(run.recipe)}
            found.append(kept(folder / "table.json", settings, measure))
        parameters = sum(p.numel() for p in run.field.parameters())
        rows.append({
            "network": name, "parameters": f"{parameters:,}", "MFLOP a call": f"{call_flops(recipe) / 1e6:.0f}",
            "steps": str(recipe.steps),
            "accuracy, %": spread([100 * row["accuracy"] for row in found], ".1f"),
            "Fréchet": spread([row["frechet"] for row in found]),
            "precision": spread([row["precision"] for row in found], ".3f"),
            "recall": spread([row["recall"] for row in found], ".3f"),
        })  # fmt: skip
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def guidances(arguments: argparse.Namespace, data: Dataset, test: Dataset) -> list[dict[str, str]]:
    y, found = wanted_labels(data, arguments.samples), {}
    for seed in arguments.seeds:
        folder = arguments.out / f"guidance-{arguments.steps}-{seed}"
        recipe = replace(find_recipe("ddpm-cosine"), net_args=SMALL, steps=arguments.steps, seed=seed)
        model = train(recipe, folder, resume=True, pictures=False).field
        assert isinstance(model, Model)
        classifier = train_classifier(model, data, arguments.classifier_steps, seed, folder / "classifier")
        for kind, strengths in STRENGTHS.items():
            for w in strengths:

                def measure(kind=kind, w=w, model=model, classifier=classifier, seed=seed) -> dict[str, float]:  # type: ignore[no-untyped-def]
                    sampler = samplers(model, classifier)[kind](w)
                    noise = torch.randn(len(y), *data.shape, generator=stream(seed, "noise"))
                    images = sampler(
                        noise, y, steps=arguments.sampling_steps, generator=stream(seed, "ancestral"), batch_size=250
                    )
                    return evaluate_images(images, y, test.images)

                settings = {
                    "samples": arguments.samples,
                    "steps": arguments.sampling_steps,
                    "classifier": arguments.classifier_steps,
                    "recipe": to_dict(recipe),
                }
                row = kept(folder / f"{kind}-{w:g}.json", settings, measure)
                found.setdefault((kind, w), []).append(row)
                print(seed, kind, w, row, file=sys.stderr, flush=True)
    return [
        {
            "guidance": {"shift": "classifier, mean", "score": "classifier, score", "free": "classifier-free"}[kind],
            "w": f"{w:g}",
            "accuracy, %": spread([100 * row["accuracy"] for row in rows], ".1f"),
            "Fréchet": spread([row["frechet"] for row in rows]),
            "precision": spread([row["precision"] for row in rows], ".3f"),
            "recall": spread([row["recall"] for row in rows], ".3f"),
        }
        for (kind, w), rows in found.items()
    ]


def samplers(model: Model, classifier: TimeClassifier) -> dict[str, Callable[[float], Callable[..., Tensor]]]:
    """For each kind of guidance, a sampler at strength w; 0 of a classifier's and 1 without one are no guidance.

    D is clipped to the range of pixels, as in DDPM: on the cosine chain a network that predicts noise is lost without.
    """
    clipped = Clipped(model)

    def ancestral(field: object, **fixed: object) -> Callable[..., Tensor]:
        return lambda noise, y, **given: sample_ancestral(field, noise, y, **fixed, **given)  # type: ignore[arg-type]

    return {
        "shift": lambda w: ancestral(clipped, variance=mean_shift(clipped, classifier.log_prob, w)),
        "score": lambda w: ancestral(Clipped(EnergyGuidance(model, classifier.log_prob, w))),
        "free": lambda w: ancestral(Clipped(ClassifierFreeGuidance(model, w))),
    }


def train_classifier(model: Model, data: Dataset, steps: int, seed: int, folder: Path) -> TimeClassifier:
    """A classifier of images noised along the model's path, to the times of its training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, "classifier").initial_seed())
        classifier = TimeClassifier()

    def loss(index: Tensor, part: slice, generator: torch.Generator) -> Tensor:
        x, y = data.batch(index[part])
        return classifier_loss(classifier, model.path, x, y, generator=generator)

    task = Task(classifier, loss, len(data), classifier)
    trained = Trainer(task, Training(steps=steps, lr=2e-3, ema=0.99, seed=seed), folder).run()
    assert isinstance(trained, TimeClassifier)
    return trained.eval().requires_grad_(False)


if __name__ == "__main__":
    main()
