"""Latent against pixel: distance against sampling operations for f = 1, 2, 4; inpainting and super-resolution.

    FLOWLIB_DATA=... python benchmarks/latent.py quality --seeds 0 1 2
    FLOWLIB_DATA=... python benchmarks/latent.py guides  --seeds 0 1 2

`quality`: f = 1 works on pixels; f = 2 and 4 on the latents of a first stage. All are trained with the same number of
floating-point operations, the first stage's included, and sampled with several numbers of Heun steps; the decoder is
paid for too. "floor" is the distance of real images after one way through the autoencoder. `guides`: a network
that reads a damaged image (a hole of half the side, or a copy four times as coarse) and draws the whole, in pixels or
in the latents of the first stage of `quality`; "agreement" is the share of results that the shipped evaluator reads as
the digit that was there.

Trainings and measurements are kept in --out: an interrupted command goes on where it was.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch
from _common import Scores, kept, parser_of, publish, spread
from _quality import (
    SMALL,
    autoencoder_flops,
    call_flops,
    cells,
    folder_of,
    sampled,
    trained,
    training_flops,
    wanted_labels,
    within,
)
from torch import Tensor

from flowlib.data import Dataset, load
from flowlib.metrics import evaluate_images
from flowlib.recipes import Recipe, change, to_dict
from flowlib.runs import Run, evaluate_run
from flowlib.systems import FirstStage, FlowSystem, LatentFlowSystem, LatentModel, Splits
from flowlib.systems.repairs import psnr
from flowlib.training import Training

NETS = {
    1: {**SMALL, "patch": 2},
    2: {**SMALL, "patch": 1},
    4: {"channels": (64,), "depth": 2, "patch": 1},
}
LATENT_CHANNELS = {2: 2, 4: 4}
GUIDES = {"inpainting": "inpainting", "superresolution": "super-resolution"}


def main() -> None:
    parser = parser_of(__doc__, seeds=[0], steps=900, samples=1000, out=Path("runs/latent"), write=None)
    parser.add_argument("table", choices=["quality", "guides"])
    parser.add_argument("--factors", nargs="+", type=int, choices=NETS, default=list(NETS), metavar="F", help="f")
    parser.add_argument("--stage-steps", type=int, default=600, help="training steps of a first stage")
    parser.add_argument("--sampling-steps", nargs="+", type=int, default=[3, 6, 12, 25], help="Heun steps")
    parser.add_argument("--perceptual", type=float, default=0.0, help="the first stage's weight")
    parser.add_argument("--adversarial", type=float, default=0.0, help="the first stage's weight")
    parser.add_argument("--codebook", type=int, default=0, help="vectors in the first stage's codebook, 0 for none")
    arguments = parser.parse_args()
    rows = (quality if arguments.table == "quality" else guides)(
        arguments, Splits(load("mnist"), load("mnist", "test"))
    )
    publish(rows, "latent.py", sys.argv[1:], arguments.write)


def recipe_of(factor: int, seed: int, arguments: argparse.Namespace) -> Recipe:
    """The recipe of a factor, with as many steps as the one on pixels pays for."""
    training = Training(optimiser="muon", steps=arguments.steps, lr=3e-3, ema=0.995, seed=seed)
    system = FlowSystem(net_args=NETS[1], predicts="data")
    pixels = Recipe(name="pixels", data="mnist", system=system, training=training)
    if factor == 1:
        return pixels
    stage = FirstStage(
        steps=arguments.stage_steps, lr=3e-3, ema=0.99, factor=factor, latent_channels=LATENT_CHANNELS[factor],
        channels=32, perceptual=arguments.perceptual, adversarial=arguments.adversarial, codebook=arguments.codebook,
        seed=seed,
    )  # fmt: skip
    latents = LatentFlowSystem(net_args=NETS[factor], predicts="data", first_stage=stage)
    return within(replace(pixels, name=f"latents-{factor}", system=latents), training_flops(pixels))


def run_of(factor: int, seed: int, arguments: argparse.Namespace) -> Run:
    """A run of `quality`."""
    return trained(recipe_of(factor, seed, arguments), folder_of(arguments.out, f"f{factor}", arguments.steps, seed))


def quality(arguments: argparse.Namespace, data: Splits) -> list[dict[str, str]]:
    (chosen, y), rows = wanted_labels(data.train, arguments.samples), []
    x = data.train.images[chosen]
    print(f"training images: Fréchet {evaluate_images(x, y, data.test.images)['frechet']:.2f}", file=sys.stderr)
    for factor in arguments.factors:
        runs = [run_of(factor, seed, arguments) for seed in arguments.seeds]
        call, (_, decode) = call_flops(runs[0].recipe), autoencoder_flops(runs[0].recipe)
        settings = [{"samples": len(y), "recipe": to_dict(run.recipe)} for run in runs]
        floors = [
            kept(run.folder / "floor.json", told, floor, run, x, y, data.test)
            for run, told in zip(runs, settings, strict=True)
        ]
        for steps in arguments.sampling_steps:
            found = [
                kept(run.folder / f"heun-{steps}.json", told, sampled, run, y, data.test, steps=steps)
                for run, told in zip(runs, settings, strict=True)
            ]
            measured = cells(found)
            rows.append({
                "f": str(factor), "training steps": str(runs[0].recipe.training.steps), "Heun steps": str(steps),
                "GFLOP an image": f"{(2 * steps * call + decode) / 1e9:.2f}",
                "accuracy, %": measured["accuracy, %"], "Fréchet": measured["Fréchet"],
                "floor": spread([row["frechet"] for row in floors]),
                "floor, dB": "" if factor == 1 else spread([row["psnr"] for row in floors], ".1f"),
                "recall": measured["recall"],
            })  # fmt: skip
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


@torch.no_grad()
def floor(run: Run, x: Tensor, y: Tensor, test: Dataset) -> Scores:
    """The measures of images after one way through the autoencoder; on pixels, of themselves."""
    model, restored = run.module, x
    if isinstance(model, LatentModel):
        restored = torch.cat([model.decode(model.encode(part)) for part in x.split(500)])
    return {**evaluate_images(restored, y, test.images), "psnr": psnr(restored, x)}


def guides(arguments: argparse.Namespace, data: Splits) -> list[dict[str, str]]:
    rows = []
    for kind, name in GUIDES.items():
        table: dict[str, list[Scores]] = {}
        for factor in arguments.factors:
            for seed in arguments.seeds:
                for image, row in repaired(kind, factor, seed, arguments, data).items():
                    if image == "as given":
                        table[image] = [row]  # whoever repairs it
                    else:
                        table.setdefault(f"f = {factor}, {image}", []).append(row)
        rows += [
            {
                "task": name, "image": image,
                "agreement, %": spread([100 * row["accuracy"] for row in found], ".1f"),
                "PSNR, dB": spread([row["psnr"] for row in found], ".1f"),
                "Fréchet": spread([row["frechet"] for row in found]),
            }
            for image, found in table.items()
        ]  # fmt: skip
    return rows


def repaired(kind: str, factor: int, seed: int, arguments: argparse.Namespace, data: Splits) -> dict[str, Scores]:
    """The measures of damaged test images, and of what a flow that reads them makes of them, by its report's rows."""
    recipe = change(recipe_of(factor, seed, arguments), name=kind, guide=kind)
    if factor > 1:
        first = run_of(factor, seed, arguments)
        recipe = change(recipe, first_stage=None, parts={"autoencoder": str(first.folder)})
    run = trained(recipe, folder_of(arguments.out, f"{kind} f{factor}", arguments.steps, seed), pictures=True)
    told = {"samples": arguments.samples, "steps": arguments.sampling_steps[-1]}
    rows = kept(run.folder / "table.json", {**told, "recipe": to_dict(recipe)}, evaluate_run, run, data=data, **told)
    return {str(row["images"]): row for row in rows}


if __name__ == "__main__":
    main()
