"""What mattered for the `mnist` recipe: one change at a time, trained alike, measured alike.

    FLOWLIB_DATA=... python benchmarks/sweep.py --steps 900 --samples 1000

Each variant is the recipe with some settings replaced, trained from nothing in a folder of its own (an interrupted
sweep goes on where it was), then sampled at guidance scale 1 and measured with the shipped evaluator. Variants that
change the batch size or the network get as many steps as the operations of the others pay for.
"""

from pathlib import Path

from _common import parser_of
from _quality import folder_of, parameters, seconds_of, training_flops, variant, wanted_labels, within

from flowlib.data import load
from flowlib.metrics import evaluate_images
from flowlib.recipes import change, find_recipe, override

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
    parser = parser_of(__doc__, steps=900, samples=1000, sampling_steps=50, seeds=[0], out=Path("runs/sweep"))
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME", help="which of them"
    )
    arguments = parser.parse_args()

    train_set, test_set = load("mnist", "train"), load("mnist", "test")
    chosen, labels = wanted_labels(train_set, arguments.samples)
    floor = evaluate_images(train_set.images[chosen], labels, test_set.images)["frechet"]
    print(f"{arguments.samples} training images against the test set: Fréchet distance {floor:.3f}\n")
    line("variant", "seed", "steps", "parameters", "seconds", "accuracy", "distance", "ratio")
    base = change(find_recipe("mnist"), steps=arguments.steps)
    for name in arguments.variants:
        recipe = within(override(base, VARIANTS[name]), training_flops(base))
        for seed in arguments.seeds:
            folder = folder_of(arguments.out, name, arguments.steps, seed)
            run, found = variant(recipe, seed, folder, labels, test_set, arguments.sampling_steps)
            line(
                name, seed, recipe.training.steps, f"{parameters(run.module):,}", f"{seconds_of(run):.0f}",
                f"{found['accuracy']:.1%}", f"{found['frechet']:.3f}", f"{found['frechet'] / floor:.2f}",
            )  # fmt: skip


def line(name: str, *cells: object) -> None:
    print(f"{name:24}" + "".join(f"{cell:>12}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
