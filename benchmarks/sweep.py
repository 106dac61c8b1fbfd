"""What mattered for the `mnist` recipe: one change at a time, trained alike, measured alike.

    FLOWLIB_DATA=... python benchmarks/sweep.py --steps 900 --samples 1000

Each variant is the recipe with some settings replaced, trained from nothing in a folder of its own (an interrupted
sweep goes on where it was), then sampled at guidance scale 1 and measured with the shipped evaluator. Variants that
change the batch size or the network get as many steps as the operations of the others pay for.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from _quality import training_flops, within

from flowlib.data import load
from flowlib.metrics import evaluate, frechet_distance, label_accuracy, load_evaluator
from flowlib.recipes import find_recipe, override
from flowlib.runs import train

VARIANTS: dict[str, list[str]] = {
    "recipe": [],
    "plain targets": ["stable_until=0"],
    "500 references": ["references=500"],
    "3000 references": ["references=3000"],
    "no gates": ["net.gates=false"],
    "data": ["predicts=data"],
    "data, no gates": ["predicts=data", "net.gates=false"],
    "velocity": ["predicts=velocity"],
    "attention at 7 x 7": ["net.attention=[1]"],
    "adamw alone": ["optimiser=adamw"],
    "uniform time": ["time=uniform"],
    "earlier times": ["time_mean=-0.8"],
    "later times": ["time_mean=0.0"],
    "matrix_lr x 2": ["matrix_lr=0.03"],
    "matrix_lr / 2": ["matrix_lr=0.0075"],
    "batch 32": ["batch_size=32"],
    "batch 128": ["batch_size=128"],
    "dropout 0.1": ["dropout=0.1"],
    "ema 0.995": ["ema=0.995"],
    "wider": ["net.channels=[48,96]"],
    "wider, deeper": ["net.channels=[48,96]", "net.depth=2"],
    "7 x 7 only": ["net.patch=4", "net.channels=[64]", "net.depth=2"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--steps", type=int, default=900, help="training steps of the recipe (default 900)")
    parser.add_argument("--samples", type=int, default=1000, help="images to measure (default 1000, at least 129)")
    parser.add_argument("--sampling-steps", type=int, default=50, help="of the SDE (default 50)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="one run for each (default 0)")
    parser.add_argument("--out", type=Path, default=Path("runs/sweep"), help="folder of the runs (default runs/sweep)")
    arguments = parser.parse_args()

    evaluator = load_evaluator()
    train_set, test_set = load("mnist", "train"), load("mnist", "test")
    test_features, _ = evaluate(evaluator, test_set.images)
    chosen = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(0))[: arguments.samples]
    train_features, _ = evaluate(evaluator, train_set.images[chosen])
    floor = frechet_distance(train_features, test_features)
    print(f"{arguments.samples} training images against the test set: Fréchet distance {floor:.3f}\n")
    line("variant", "seed", "steps", "parameters", "seconds", "accuracy", "distance", "ratio")
    for name in arguments.variants:
        for seed in arguments.seeds:
            base = override(find_recipe("mnist"), [f"steps={arguments.steps}"])
            recipe = within(override(base, VARIANTS[name]), training_flops(base))
            folder = arguments.out / f"{name.replace(' ', '-').replace('/', 'by')}-{arguments.steps}-{seed}"
            run = train(replace(recipe, seed=seed), folder, resume=True, pictures=False)
            images = run.sample(train_set.labels[chosen], method="sde", steps=arguments.sampling_steps)
            features, logits = evaluate(evaluator, images.clamp(-1, 1))
            distance = frechet_distance(features, test_features)
            seconds = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["seconds"]
            line(
                name, seed, recipe.steps, f"{sum(p.numel() for p in run.field.parameters()):,}", f"{seconds:.0f}",
                f"{label_accuracy(logits, train_set.labels[chosen]):.1%}", f"{distance:.3f}", f"{distance / floor:.2f}",
            )  # fmt: skip


def line(name: str, *cells: object) -> None:
    print(f"{name:24}" + "".join(f"{cell:>12}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
