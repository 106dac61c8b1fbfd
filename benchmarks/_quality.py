"""What tables of sample quality share: operations, trainings of equal cost, spread over seeds, results kept on disk."""

import json
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from flowlib.systems.building import build, latent_shape, network_model
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from flowlib.plotting import format_table
from flowlib.recipes import Recipe

MNIST = (1, 28, 28)
SMALL = {"channels": (32, 64), "depth": 1, "attention": (1,)}  # 0.3 of the operations of the recipes for chains


def flops(net: nn.Module, *inputs: Tensor) -> int:
    """Floating-point operations of one call."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*inputs)
    return counter.get_total_flops()


def call_flops(recipe: Recipe) -> int:
    """Operations of one call of a recipe's network, for one image."""
    net = network_model(build(recipe, MNIST, 10)).net
    return flops(net, torch.zeros(1, *latent_shape(recipe, MNIST)), torch.zeros(1), torch.zeros(1, dtype=torch.long))


def autoencoder_flops(recipe: Recipe) -> tuple[int, int]:
    """Operations of encoding and of decoding one image; none without a first stage."""
    if recipe.first_stage is None:
        return 0, 0
    autoencoder = build(recipe, MNIST, 10).autoencoder
    there = flops(autoencoder.encoder, F.pixel_unshuffle(torch.zeros(1, *MNIST), autoencoder.patch))
    return there, flops(autoencoder.decoder, torch.zeros(1, *latent_shape(recipe, MNIST)))


def training_flops(recipe: Recipe, images: int = 60_000) -> int:
    """Operations of a training: three forward passes a sample; a first stage, and encoding the data once, included."""
    there, back = autoencoder_flops(recipe)
    stage = recipe.first_stage
    before = 0 if stage is None else 3 * stage.batch_size * stage.steps * (there + back) + images * there
    return before + 3 * recipe.batch_size * recipe.steps * call_flops(recipe)


def within(recipe: Recipe, budget: int) -> Recipe:
    """The recipe with as many steps as a budget of operations pays for; a ValueError if that is none."""
    spent = training_flops(replace(recipe, steps=1))
    each = 3 * recipe.batch_size * call_flops(recipe)
    if spent > budget:
        raise ValueError(f"{recipe.name}: {budget:.3g} operations do not even pay for its first step, {spent:.3g}")
    return replace(recipe, steps=1 + (budget - spent) // each)


def kept(path: Path, settings: Mapping[str, object], compute: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What `compute` found, from `path` if it was computed there with the same settings before."""
    wanted = json.loads(json.dumps(settings))
    if path.exists():
        content = json.loads(path.read_text())
        if content["settings"] == wanted:
            return content["found"]
    found = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"settings": wanted, "found": found}, indent=1))
    return found


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Mean and standard deviation over seeds; of one seed, its value."""
    mean = f"{statistics.mean(values):{form}}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):{form}}"


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [-1, 1], the mean over images: 10 log10(4 / MSE)."""
    error = (a.clamp(-1, 1) - b).square().flatten(1).mean(1).clamp(min=1e-10)
    return float((10 * torch.log10(4 / error)).mean())


def publish(rows: list[dict[str, str]], script: str, arguments: Sequence[str], path: Path | None) -> None:
    """Print a table, and write it to `path` as `write_tables` does."""
    print(format_table(rows), flush=True)
    if path is not None:
        write_tables([format_table(rows)], script, arguments, path)


def write_tables(tables: Sequence[str], script: str, arguments: Sequence[str], path: Path) -> None:
    """Write tables as Markdown with the command that made them, less where its files were to lie."""
    named = [i for i, word in enumerate(arguments) if word in ("--out", "--write")]
    told = [word for i, word in enumerate(arguments) if i not in named and i - 1 not in named]
    lines = [f"Made by `python benchmarks/{script} {shlex.join(told)}`.", *(f"```\n{text}\n```" for text in tables)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(lines) + "\n", "utf-8")
    print(f"\nwritten to {path}")
