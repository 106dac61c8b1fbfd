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
from pathlib import Path

import torch
from _common import Scores, kept, parser_of, publish
from _quality import (
    SMALL,
    call_flops,
    cells,
    folder_of,
    parameters,
    trained,
    training_flops,
    variant,
    wanted_labels,
    within,
)
from torch import Tensor

from flowlib.chains import Clipped, mean_shift, sample_ancestral
from flowlib.data import Dataset, load
from flowlib.fields import Field
from flowlib.guidance import ClassifierFreeGuidance, EnergyGuidance
from flowlib.metrics import evaluate_images
from flowlib.nets import TimeClassifier
from flowlib.recipes import change, find_recipe, override, to_dict
from flowlib.training.order import stream

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


KINDS = {"shift": "classifier, mean", "score": "classifier, score", "free": "classifier-free"}


def main() -> None:
    parser = parser_of(__doc__, seeds=[0], steps=600, samples=1000, sampling_steps=50, out=Path("runs/adm"), write=None)
    parser.add_argument("table", choices=["network", "guidance"])
    parser.add_argument(
        "--variants", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="NAME", help="of the network"
    )
    parser.add_argument("--classifier-steps", type=int, default=600, help="training steps of the classifier")
    arguments = parser.parse_args()
    test, (_, y) = load("mnist", "test"), wanted_labels(load("mnist"), arguments.samples)
    rows = (networks if arguments.table == "network" else guidances)(arguments, y, test)
    publish(rows, "adm.py", sys.argv[1:], arguments.write)


def networks(arguments: argparse.Namespace, y: Tensor, test: Dataset) -> list[dict[str, str]]:
    plain, rows = change(override(find_recipe("mnist"), PLAIN), steps=arguments.steps), []
    for name in arguments.variants:
        recipe, found = within(override(plain, CHANGES[name]), training_flops(plain)), []
        for seed in arguments.seeds:
            folder = folder_of(arguments.out, name, arguments.steps, seed)
            run, scores = variant(recipe, seed, folder, y, test, arguments.sampling_steps)
            found.append(scores)
        rows.append({
            "network": name, "parameters": f"{parameters(run.module):,}",
            "MFLOP a call": f"{call_flops(recipe) / 1e6:.0f}", "steps": str(recipe.training.steps), **cells(found),
        })  # fmt: skip
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def guidances(arguments: argparse.Namespace, y: Tensor, test: Dataset) -> list[dict[str, str]]:
    found: dict[tuple[str, float], list[Scores]] = {}
    for seed in arguments.seeds:
        folder = folder_of(arguments.out, "guidance", arguments.steps, seed)
        recipe = change(find_recipe("ddpm-cosine"), net_args=SMALL, steps=arguments.steps, seed=seed)
        model, system = trained(recipe, folder).field, recipe.system
        # Of images noised along the model's path, to the times of its training.
        reader = change(
            find_recipe("classifier"), schedule=system.schedule, chain=system.chain, seed=seed,
            steps=arguments.classifier_steps,
        )  # fmt: skip
        classifier = trained(reader, folder_of(folder, "classifier", arguments.classifier_steps, seed)).module
        settings = {"samples": len(y), "steps": arguments.sampling_steps}
        settings |= {"classifier": to_dict(reader), "recipe": to_dict(recipe)}
        for kind, sampler in samplers(model, classifier).items():
            for w in STRENGTHS[kind]:
                path = folder / f"{kind}-{w:g}.json"
                row = kept(path, settings, guided, sampler(w), y, test, arguments.sampling_steps, seed)
                found.setdefault((kind, w), []).append(row)
                print(seed, kind, w, row, file=sys.stderr, flush=True)
    return [{"guidance": KINDS[kind], "w": f"{w:g}", **cells(rows)} for (kind, w), rows in found.items()]


def guided(sampler: Callable[..., Tensor], y: Tensor, test: Dataset, steps: int, seed: int) -> Scores:
    noise = torch.randn(len(y), *test.shape, generator=stream(seed, "noise"))
    images = sampler(noise, y, steps=steps, generator=stream(seed, "ancestral"), batch_size=250)
    return evaluate_images(images, y, test.images)


def samplers(model: Field, classifier: TimeClassifier) -> dict[str, Callable[[float], Callable[..., Tensor]]]:
    """For each kind of guidance, a sampler at strength w; 0 of a classifier's and 1 without one are no guidance.

    D is clipped to the range of pixels, as in DDPM: on the cosine chain a network that predicts noise is lost without.
    """
    clipped = Clipped(model)

    def ancestral(field: Field, **fixed: object) -> Callable[..., Tensor]:
        return lambda noise, y, **given: sample_ancestral(field, noise, y, **fixed, **given)

    return {
        "shift": lambda w: ancestral(clipped, variance=mean_shift(clipped, classifier.log_prob, w)),
        "score": lambda w: ancestral(Clipped(EnergyGuidance(model, classifier.log_prob, w))),
        "free": lambda w: ancestral(Clipped(ClassifierFreeGuidance(model, w))),
    }


if __name__ == "__main__":
    main()
