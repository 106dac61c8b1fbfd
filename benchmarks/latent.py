"""Latent against pixel: distance against sampling operations for f = 1, 2, 4; inpainting and super-resolution.

    FLOWLIB_DATA=... python benchmarks/latent.py quality --seeds 0 1 2
    FLOWLIB_DATA=... python benchmarks/latent.py guides  --seeds 0 1 2

`quality`: f = 1 works on pixels; f = 2 and 4 on the latents of a first stage. All are trained with the same number of
floating-point operations, the first stage's included, and sampled with several numbers of Heun steps; the decoder is
paid for too. "floor" is the distance of real images after one way through the autoencoder. `guides`: a network
that reads a damaged image (a hole of half the side, or a copy four times as coarse) and draws the whole, in pixels or
latents; "agreement" is the share of results that the shipped evaluator reads as the digit that was there.

Trainings and measurements are kept in --out: an interrupted command goes on where it was.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from _quality import SMALL, autoencoder_flops, call_flops, kept, psnr, publish, spread, training_flops, within
from torch import Tensor

from flowlib.data import Dataset, load
from flowlib.fields import Model
from flowlib.losses import prediction_loss
from flowlib.metrics import evaluate_images
from flowlib.nets import Concatenated
from flowlib.nets.unet import UNet
from flowlib.plotting import picture_grid, save_figure
from flowlib.recipes import Recipe, to_dict
from flowlib.runs import train
from flowlib.samplers import sample_ode
from flowlib.systems.guides import inpainting_guide, superresolution_guide
from flowlib.systems.latent import LatentModel, latent_guide
from flowlib.times import logit_normal_time
from flowlib.training.order import stream
from flowlib.training.settings import FirstStage, Training
from flowlib.training.task import Task
from flowlib.training.trainer import Trainer

NETS = {
    1: {**SMALL, "patch": 2},
    2: {**SMALL, "patch": 1},
    4: {"channels": (64,), "depth": 2, "patch": 1},
}
LATENT_CHANNELS = {2: 2, 4: 4}
HOLE, COARSE = 14, 4  # pixels a side


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["quality", "guides"])
    parser.add_argument("--factors", nargs="+", type=int, choices=NETS, default=list(NETS), metavar="F")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="a training for each (default 0)")
    parser.add_argument("--steps", type=int, default=900, help="training steps on pixels (default 900)")
    parser.add_argument("--stage-steps", type=int, default=600, help="training steps of a first stage (default 600)")
    parser.add_argument("--samples", type=int, default=1000, help="images to measure (default 1000, at least 129)")
    parser.add_argument("--sampling-steps", nargs="+", type=int, default=[3, 6, 12, 25], help="Heun steps")
    parser.add_argument("--perceptual", type=float, default=0.0, help="the first stage's weight (default 0)")
    parser.add_argument("--adversarial", type=float, default=0.0, help="the first stage's weight (default 0)")
    parser.add_argument("--codebook", type=int, default=0, help="vectors in the first stage's codebook (default none)")
    parser.add_argument("--out", type=Path, default=Path("runs/latent"), help="folder of the runs")
    parser.add_argument("--write", type=Path, help="also write the table to this file, as Markdown")
    arguments = parser.parse_args()
    data, test = load("mnist", "train"), load("mnist", "test")
    rows = (quality if arguments.table == "quality" else guides)(arguments, data, test)
    publish(rows, "latent.py", sys.argv[1:], arguments.write)


def recipe_of(factor: int, arguments: argparse.Namespace) -> Recipe:
    """The recipe of a factor, with as many steps as the one on pixels pays for."""
    common = {"data": "mnist", "predicts": "data", "optimiser": "muon", "lr": 3e-3, "ema": 0.995}
    pixels = Recipe(name="pixels", net_args=NETS[1], steps=arguments.steps, **common)
    if factor == 1:
        return pixels
    stage = FirstStage(
        steps=arguments.stage_steps, lr=3e-3, ema=0.99, factor=factor, latent_channels=LATENT_CHANNELS[factor],
        channels=32, perceptual=arguments.perceptual, adversarial=arguments.adversarial, codebook=arguments.codebook,
    )  # fmt: skip
    latents = Recipe(name=f"latents-{factor}", net_args=NETS[factor], steps=1, first_stage=stage, **common)
    return within(latents, training_flops(pixels))


def trained_run(factor: int, seed: int, arguments: argparse.Namespace):  # type: ignore[no-untyped-def]
    recipe = recipe_of(factor, arguments)
    stage = None if recipe.first_stage is None else replace(recipe.first_stage, seed=seed)
    folder = arguments.out / f"f{factor}-{arguments.steps}-{seed}"
    return train(replace(recipe, seed=seed, first_stage=stage), folder, resume=True, pictures=False)


def there_and_back(field: Model | LatentModel, x: Tensor) -> Tensor:
    """Images after one way through the autoencoder; on pixels, themselves."""
    if not isinstance(field, LatentModel):
        return x
    with torch.no_grad():
        return torch.cat([field.decode(field.encode(part)) for part in x.split(500)])


def quality(arguments: argparse.Namespace, data: Dataset, test: Dataset) -> list[dict[str, str]]:
    chosen = torch.randperm(len(data), generator=stream(0, "chosen"))[: arguments.samples]
    y, rows = data.labels[chosen], []
    real = evaluate_images(data.images[chosen], y, test.images)
    print(f"training images: Fréchet {real['frechet']:.2f}", file=sys.stderr, flush=True)
    for factor in arguments.factors:
        runs = [trained_run(factor, seed, arguments) for seed in arguments.seeds]
        call, (_, decode) = call_flops(runs[0].recipe), autoencoder_flops(runs[0].recipe)
        found: dict[int, list[dict[str, float]]] = {}
        for run in runs:
            for steps in [0, *arguments.sampling_steps]:

                def measure(run=run, steps=steps) -> dict[str, float]:  # type: ignore[no-untyped-def]
                    if not steps:
                        restored = there_and_back(run.field, data.images[chosen])
                        return evaluate_images(restored, y, test.images) | {"psnr": psnr(restored, data.images[chosen])}
                    return evaluate_images(run.sample(y, steps=steps), y, test.images)

                settings = {"samples": arguments.samples, "recipe": to_dict(run.recipe)}
                found.setdefault(steps, []).append(kept(run.folder / f"heun-{steps}.json", settings, measure))
        floor = spread([row["frechet"] for row in found[0]])
        for steps in arguments.sampling_steps:
            rows.append({
                "f": str(factor), "training steps": str(runs[0].recipe.steps), "Heun steps": str(steps),
                "GFLOP an image": f"{(2 * steps * call + decode) / 1e9:.2f}",
                "accuracy, %": spread([100 * row["accuracy"] for row in found[steps]], ".1f"),
                "Fréchet": spread([row["frechet"] for row in found[steps]]), "floor": floor,
                "floor, dB": "" if factor == 1 else spread([row["psnr"] for row in found[0]], ".1f"),
                "recall": spread([row["recall"] for row in found[steps]], ".3f"),
            })  # fmt: skip
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def holes(count: int, generator: torch.Generator) -> Tensor:
    """Masks (count, 1, 28, 28), 0 in a square hole at a random place and 1 elsewhere."""
    corner = torch.randint(0, 28 - HOLE + 1, (count, 2, 1), generator=generator)
    inside = (torch.arange(28) >= corner) & (torch.arange(28) < corner + HOLE)  # (count, 2, 28)
    return 1 - (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None].float()


GUIDES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "inpainting": lambda x, generator: inpainting_guide(x, holes(len(x), generator)),
    "super-resolution": lambda x, generator: superresolution_guide(x, COARSE),
}


def train_guided(kind: str, factor: int, seed: int, arguments: argparse.Namespace, data: Dataset, folder: Path):  # type: ignore[no-untyped-def]
    """A network that reads the damaged image: on pixels, or on the latents of the run of `quality`."""
    first = None if factor == 1 else trained_run(factor, seed, arguments).field
    channels = 1 if factor == 1 else LATENT_CHANNELS[factor]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, kind).initial_seed())
        net = UNet(in_channels=2 * channels + 1, classes=None, **NETS[factor])
        model = Model(Concatenated(net, channels + 1), predicts="data")

    field = model
    if first is not None:
        field = LatentModel(model, first.autoencoder, float(first.scale))

    def loss(index: Tensor, part: slice, generator: torch.Generator) -> Tensor:
        x, _ = data.batch(index[part])
        guide = GUIDES[kind](x, generator)
        if first is None:
            return prediction_loss(model, x, guide, time=logit_normal_time(), generator=generator)
        with torch.no_grad():
            z, guide = field.encode(x, generator), latent_guide(field, guide)
        return prediction_loss(model, z, guide, time=logit_normal_time(), generator=generator)

    settings = Training(steps=recipe_of(factor, arguments).steps, lr=3e-3, optimiser="muon", ema=0.995, seed=seed)
    trained = Trainer(Task(model, loss, len(data), net), settings, folder).run()
    model.load_state_dict(trained.state_dict())
    return field.eval().requires_grad_(False)


def guides(arguments: argparse.Namespace, data: Dataset, test: Dataset) -> list[dict[str, str]]:
    x, y = test.images[: arguments.samples], test.labels[: arguments.samples]
    steps, rows = arguments.sampling_steps[-1], []
    for kind in GUIDES:
        guide = GUIDES[kind](x, stream(0, kind))
        plain = evaluate_images(guide[:, :1], y, test.images) | {"psnr": psnr(guide[:, :1], x)}
        table = {"as given": [plain]}
        for factor in arguments.factors:
            for seed in arguments.seeds:
                folder = arguments.out / f"{kind}-f{factor}-{arguments.steps}-{seed}"
                field = train_guided(kind, factor, seed, arguments, data, folder)

                def draw(mean: bool, kind=kind, field=field, factor=factor, seed=seed, guide=guide) -> Tensor:  # type: ignore[no-untyped-def]
                    latent = isinstance(field, LatentModel)
                    shape = (LATENT_CHANNELS[factor], 28 // factor, 28 // factor) if latent else (1, 28, 28)
                    noise = torch.randn(len(x), *shape, generator=stream(seed, "noise"))
                    read = latent_guide(field, guide) if latent else guide
                    with torch.no_grad():
                        found = field.data(noise, 0.0, read) if mean else sample_ode(field, noise, read, steps=steps)
                        found = field.decode(found) if latent else found
                    if kind == "inpainting":  # what is known is known
                        found = torch.where(guide[:, 1:] > 0, x, found)
                    return found.clamp(-1, 1)

                for mean in (True, False):

                    def measure(mean=mean, draw=draw, folder=folder, guide=guide) -> dict[str, float]:  # type: ignore[no-untyped-def]
                        images = draw(mean)
                        if not mean:
                            save_figure(
                                picture_grid(torch.cat([x[:10], guide[:10, :1], images[:10]])), folder / "grid.png"
                            )
                        return evaluate_images(images, y, test.images) | {"psnr": psnr(images, x)}

                    settings = {"samples": arguments.samples, "steps": steps, "training": arguments.steps}
                    name = f"f = {factor}, {'mean' if mean else 'sample'}"
                    found = kept(folder / f"{'mean' if mean else 'sample'}.json", settings, measure)
                    table.setdefault(name, []).append(found)
        rows += [
            {
                "task": kind, "image": name,
                "agreement, %": spread([100 * row["accuracy"] for row in found], ".1f"),
                "PSNR, dB": spread([row["psnr"] for row in found], ".1f"),
                "Fréchet": spread([row["frechet"] for row in found]),
            }
            for name, found in table.items()
        ]  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
