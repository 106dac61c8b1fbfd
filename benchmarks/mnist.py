"""U-Net, DiT and latent model on MNIST, trained from nothing by their recipes, in one table.

    FLOWLIB_DATA=... python benchmarks/mnist.py

Each recipe is trained in a folder of its own (one that is there already is not trained again), then sampled with the
SDE at each guidance scale and measured with the shipped evaluator against MNIST's test set. "ratio" is the Fréchet
distance over that of as many training images. FLOPs are of one network evaluation for one image, forward; "decode"
adds the decoder's.

    FLOWLIB_DATA=... python benchmarks/mnist.py --minutes 1 2 5 15 60 --figure time.png

With --minutes: what time buys. Each recipe is trained for so many minutes of the processor, over the number of
threads; how many steps they pay for is told by a trial. Samples are drawn by the ODE, 12 steps of Heun, at each
guidance scale; the best w is found by the Fréchet distance of one half of them, and what is reported is of the other
half: of w = 1, and of the best w. Trainings and measurements are kept in --out: an interrupted command goes on.
"""

import json
import sys
from pathlib import Path

import torch
from _common import parser_of, prepare, publish
from _minutes import bought, draw
from _quality import flops, network_of, parameters, seconds_of, trained

from flowlib.files import write_whole
from flowlib.recipes import find_recipe
from flowlib.runs import Run, evaluate_run
from flowlib.systems import LatentModel
from flowlib.training import read_metrics
from flowlib.training.trainer import METRICS


def main() -> None:
    parser = parser_of(__doc__, samples=10_000, threads=0, seed=0, out=Path("runs/benchmark"), write=None)
    parser.add_argument(
        "--recipes", nargs="+", default=["mnist", "mnist-dit", "mnist-latent"], metavar="NAME", help="what is trained"
    )
    parser.add_argument("--scales", nargs="+", type=float, default=[1.0, 2.0], help="guidance scales")
    parser.add_argument("--method", help="sampler (default: sde)")
    parser.add_argument("--steps", type=int, help="sampler's steps (default: 50)")
    parser.add_argument("--minutes", nargs="+", type=float, help="of training, in place of the recipes' own steps")
    parser.add_argument("--figure", type=Path, help="with --minutes, a PNG to write")
    arguments = parser.parse_args()
    prepare(arguments)
    if not arguments.minutes and (arguments.write or arguments.figure):
        parser.error("--write and --figure go with --minutes")
    if arguments.minutes and 1 not in arguments.scales:
        parser.error("--scales must have 1 with --minutes")
    if arguments.minutes and (arguments.method, arguments.steps) != (None, None):
        parser.error("--method and --steps say nothing with --minutes")
    method = "sde" if arguments.method is None else arguments.method
    steps = 50 if arguments.steps is None else arguments.steps
    if arguments.minutes:
        found = [row for name in arguments.recipes for one in arguments.minutes for row in bought(name, one, arguments)]
        publish(found, "mnist.py", sys.argv[1:], arguments.write)
        if arguments.figure:
            draw(found, arguments.figure)
        return

    print(f"{arguments.samples:,} samples, {method}, {steps} steps\n", flush=True)
    columns = (
        "recipe", "parameters", "MFLOPs", "decode", "training s", "trained img/s", "sampled", "accuracy", "Fréchet",
        "ratio", "precision", "recall", "inception", "evaluations", "img/s",
    )  # fmt: skip
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for name in arguments.recipes:
        run = trained(find_recipe(name), arguments.out / name, pictures=True)
        end = read_metrics(run.folder / METRICS)[-1]
        images = end["step"] * run.recipe.training.batch_size / end["seconds"]
        network, decode = mflops(run)
        trained_by = [
            name, f"{parameters(network_of(run.module)):,}", f"{network:.0f}", f"{decode:.0f}",
            f"{seconds_of(run):.0f}", f"{images:.0f}",
        ]  # fmt: skip
        rows = evaluate_run(run, samples=arguments.samples, scales=tuple(arguments.scales), steps=steps, method=method)
        write_whole(run.folder / "evaluation.json", json.dumps(rows, indent=1).encode())
        for row in rows:
            made = "nfe" in row
            cells = [
                *(trained_by if made else [""] * len(trained_by)),
                str(row["samples"]),
                f"{row['accuracy']:.2%}",
                *(f"{row[key]:.3f}" for key in ("frechet", "ratio", "precision", "recall", "inception")),
                *([f"{row['nfe']:.0f}", f"{row['per_second']:.1f}"] if made else ["", ""]),
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


def mflops(run: Run) -> tuple[float, float]:
    """Millions of floating-point operations of the network and of the decoder (0 without one), for one image."""
    noise, y = run.noise(1), torch.zeros(1, dtype=torch.long)
    network = flops(network_of(run.module), noise, torch.full((1,), 0.5), y) / 1e6
    latent = isinstance(run.module, LatentModel)
    return network, flops(run.module.autoencoder.decoder, noise) / 1e6 if latent else 0.0


if __name__ == "__main__":
    main()
