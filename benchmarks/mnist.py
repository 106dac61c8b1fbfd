"""U-Net, DiT and latent model on MNIST, trained from nothing by their recipes, in one table.

    FLOWLIB_DATA=... python benchmarks/mnist.py

Each recipe is trained in a folder of its own (one that is there already is not trained again), then sampled with the
SDE at each guidance scale and measured with the shipped evaluator against MNIST's test set. "ratio" is the Fréchet
distance over that of as many training images. FLOPs are of one network evaluation for one image, forward; "decode"
adds the decoder's.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from flowlib.recipes import find_recipe
from flowlib.runs import Run, evaluate_run, train
from flowlib.systems.building import network_model
from flowlib.systems.latent import LatentModel
from flowlib.training.journal import read_metrics

FOLDERS = ("first_stage", ".")  # whose training times add up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["mnist", "mnist-dit", "mnist-latent"], metavar="NAME")
    parser.add_argument("--samples", type=int, default=10_000, help="images a measurement (default 10,000)")
    parser.add_argument("--scales", nargs="+", type=float, default=[1.0, 2.0], help="guidance scales (default 1 2)")
    parser.add_argument("--method", default="sde", help="sampler (default sde)")
    parser.add_argument("--steps", type=int, default=50, help="sampler's steps (default 50)")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"), help="folder of the runs")
    arguments = parser.parse_args()

    print(f"{arguments.samples:,} samples, {arguments.method}, {arguments.steps} steps\n", flush=True)
    columns = (
        "recipe", "parameters", "MFLOPs", "decode", "training s", "trained img/s", "sampled", "accuracy", "Fréchet",
        "ratio", "precision", "recall", "inception", "evaluations", "img/s",
    )  # fmt: skip
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for name in arguments.recipes:
        run = train(find_recipe(name), arguments.out / name, resume=True)
        ends = [read_metrics(run.folder / part / "metrics.jsonl") for part in FOLDERS if (run.folder / part).exists()]
        seconds = sum(end[-1]["seconds"] for end in ends)
        images = ends[-1][-1]["step"] * run.recipe.batch_size / ends[-1][-1]["seconds"]
        network, decode = mflops(run)
        parameters = sum(p.numel() for p in network_model(run.field).net.parameters())
        rows = evaluate_run(
            run,
            samples=arguments.samples,
            scales=tuple(arguments.scales),
            steps=arguments.steps,
            method=arguments.method,
        )
        (run.folder / "evaluation.json").write_text(json.dumps(rows, indent=1))
        for row in rows:
            made = "nfe" in row
            cells = [
                *([name, f"{parameters:,}", f"{network:.0f}", f"{decode:.0f}", f"{seconds:.0f}", f"{images:.0f}"]
                  if made else ["", "", "", "", "", ""]),
                str(row["samples"]),
                f"{row['accuracy']:.2%}",
                *(f"{row[key]:.3f}" for key in ("frechet", "ratio", "precision", "recall", "inception")),
                *([f"{row['nfe']:.0f}", f"{row['per_second']:.1f}"] if made else ["", ""]),
            ]  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)


def mflops(run: Run) -> tuple[float, float]:
    """Millions of floating-point operations of the network and of the decoder (0 without one), for one image."""
    noise = run.noise(1)
    y = torch.zeros(1, dtype=torch.long)

    def count(net: nn.Module, *inputs: Tensor) -> float:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(*inputs)
        return counter.get_total_flops() / 1e6

    network = count(network_model(run.field).net, noise, torch.full((1,), 0.5), y)
    if not isinstance(run.field, LatentModel):
        return network, 0.0
    return network, count(run.field.autoencoder.decoder, noise)


if __name__ == "__main__":
    main()
