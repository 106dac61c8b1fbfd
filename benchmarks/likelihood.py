"""Bits/dim of a flow of pixels: the variational bound and the ODE's likelihood, and where the bits go.

    python benchmarks/likelihood.py bound
    python benchmarks/likelihood.py ode --samples 1000 --grids 20 30 45 --probes 2
    python benchmarks/likelihood.py where --samples 300
    python benchmarks/likelihood.py variants --steps 300 --samples 500 --seeds 0 1 2
    python benchmarks/likelihood.py bound --recipe digits-likelihood

Test images with uniform noise within the bins of their pixels (uniform dequantisation). `bound`: the variational bound
in continuous time, with a number of evaluations an image and their Monte Carlo error. `ode`: the instantaneous change
of variables by RK4 on grids of so many steps, even in log SNR, 4 evaluations a step; the divergence by Hutchinson's
estimator. Two grids show the solver's error on the same images and probes ("beside the finest": the mean difference
from the most steps), two probes what the estimator adds. "±" is the standard error over images. `where`: the squared
error of the noise by log SNR, on pixels that are black (of value 0) and on the others, and what each unit of log SNR
costs in all; 1 is the error of who knows nothing within a pixel's bin. `variants`: the bound of the recipe, of a plain
U-Net of its size trained at the same times, and of one at uniform times, each after as many --steps; mean and standard
deviation over --seeds.

The recipe is trained in --out, unless --run names a run of it. Measurements are kept there by parts of 500 images: an
interrupted command goes on where it was.
"""

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from _common import kept, parser_of, prepare, publish, seeded, slug, spread
from _quality import trained
from torch import Tensor

from flowlib import bits_per_dim, log_likelihood
from flowlib.continuous_bound import continuous_bound, noise_errors
from flowlib.data import load
from flowlib.pixel_bits import fill_bins
from flowlib.recipes import Recipe, change, find_recipe
from flowlib.runs import Run, load_run
from flowlib.solvers import logit_grid

Rows = list[dict[str, Any]]
PART = 500
VARIANTS: dict[str, dict[str, Any]] = {
    "bins, even in log SNR": {},
    "U-Net, even in log SNR": {"net": "unet"},
    "U-Net, uniform": {"net": "unet", "time": "uniform", "measure": "velocity"},
}


def main() -> None:
    out = Path("runs/likelihood")
    parser = parser_of(__doc__, samples=10_000, steps=0, seeds=[0], threads=0, seed=0, out=out, write=None)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--recipe", default="mnist-likelihood", help="what is trained; for --steps, if given")
    parser.add_argument("--run", help="the folder of a trained run, instead")
    parser.add_argument("--cells", type=int, default=30, help="of log SNR from -8 to 22, an evaluation for each")
    parser.add_argument("--grids", nargs="+", type=int, default=[30], help="of `ode`: numbers of steps, rows")
    parser.add_argument("--probes", type=int, default=1, help="of `ode`: rows for each grid")
    arguments = parser.parse_args()
    prepare(arguments)
    if arguments.samples < 2:  # of one there is no standard error
        parser.error("--samples must be at least 2")
    publish(TABLES[arguments.table](arguments), "likelihood.py", sys.argv[1:], arguments.write)


def recipe_of(arguments: argparse.Namespace, **changes: Any) -> Recipe:
    """The recipe, changed so; with --steps, for so many."""
    recipe = change(find_recipe(arguments.recipe), **changes)
    return change(recipe, steps=arguments.steps) if arguments.steps else recipe


def run_of(arguments: argparse.Namespace) -> Run:
    """The run that is measured, trained where it is not there."""
    if arguments.run:
        return load_run(arguments.run)
    recipe = recipe_of(arguments)
    return trained(recipe, arguments.out / f"{recipe.name}-{recipe.training.steps}")


def tested(run: Run, arguments: argparse.Namespace) -> tuple[Tensor, int]:
    """Test images, and how many values their pixels have."""
    return load(run.recipe.data, "test").batch(torch.arange(arguments.samples))["x"], run.spec.levels or 0


def by_parts(name: str, run: Run, z: Tensor, arguments: argparse.Namespace, compute: Any) -> tuple[Tensor, float]:
    """What `compute` finds for each image, (B,), and its seconds; parts of the images are kept."""
    values, seconds = list[float](), 0.0
    for start in range(0, len(z), PART):
        part = z[start : start + PART]
        settings = {"name": name, "run": str(run.folder), "step": run.step, "images": len(part), "start": start}
        path = arguments.out / slug(f"{name} {arguments.seed} {start}.json")

        def find(part: Tensor = part, start: int = start) -> dict[str, Any]:
            began = time.perf_counter()
            with torch.no_grad():
                found = compute(part, 1000 * arguments.seed + start)
            return {"values": found.tolist(), "seconds": time.perf_counter() - began}

        found = kept(path, settings | {"seed": arguments.seed}, find)
        values, seconds = values + found["values"], seconds + found["seconds"]
        print(f"{name}: {start + len(part)} images, {sum(values) / len(values):.4f}", file=sys.stderr, flush=True)
    return torch.tensor(values, dtype=torch.float64), seconds


def row_of(name: str, bits: Tensor, seconds: float) -> dict[str, Any]:
    error = float(bits.std()) / len(bits) ** 0.5
    return {
        "bits/dim": name, "images": len(bits), "mean": f"{float(bits.mean()):.4f} ± {error:.4f}",
        "minutes": f"{seconds / 60:.1f}",
    }  # fmt: skip


def bound(arguments: argparse.Namespace) -> Rows:
    """One row: the variational bound."""
    found = bound_of(run_of(arguments), "bound", arguments)
    return [row_of(f"bound, {arguments.cells + 1} evaluations", *found)]


def bound_of(run: Run, name: str, arguments: argparse.Namespace) -> tuple[Tensor, float]:
    """The bound of each image, and its seconds."""
    z, levels = tested(run, arguments)

    def compute(part: Tensor, seed: int) -> Tensor:
        x, draws = fill_bins(part, levels, seeded(seed)), seeded(seed + 1)
        nats = continuous_bound(run.module, x, cells=arguments.cells, generator=draws)
        return bits_per_dim(-nats.double().sum(1), part[0].numel(), levels)

    return by_parts(name, run, z, arguments, compute)


def variants(arguments: argparse.Namespace) -> Rows:
    """A row for each network and law of times."""
    rows: Rows = []
    for name, changes in VARIANTS.items():
        means = []
        for seed in arguments.seeds:
            recipe = recipe_of(arguments, seed=seed)
            if "net" in changes:
                sizes = {
                    key: value for key, value in recipe.system.net_args.items() if key not in ("values", "gaussians")
                }
                recipe = change(recipe, **changes, net_args=sizes)
            steps = recipe.training.steps
            run = trained(recipe, arguments.out / f"{slug(f'{recipe.name} {name}')}-{steps}-{seed}")
            means.append(float(bound_of(run, f"{name} {steps} {seed}", arguments)[0].mean()))
        rows.append({"network and times": name, "steps": steps, "bits/dim": spread(means, ".3f")})
    return rows


def ode(arguments: argparse.Namespace) -> Rows:
    """A row for each grid and each probe."""
    run = run_of(arguments)
    (z, levels), rows = tested(run, arguments), Rows()
    for probe in range(arguments.probes):
        finest: Tensor | None = None
        for steps in sorted(arguments.grids, reverse=True):

            def compute(part: Tensor, seed: int, steps: int = steps, probe: int = probe) -> Tensor:
                nats = log_likelihood(
                    run.module, fill_bins(part, levels, seeded(seed)), times=logit_grid(steps), method="rk4",
                    estimator="hutchinson", generator=seeded(seed + 2 + probe), batch_size=100,
                )  # fmt: skip
                return bits_per_dim(nats.double(), part[0].numel(), levels)

            bits, seconds = by_parts(f"ode {steps} {probe}", run, z, arguments, compute)
            finest = bits if finest is None else finest
            row = row_of(f"ODE, {4 * steps} evaluations", bits, seconds)
            rows.append({"probe": probe + 1} | row | {"beside the finest": f"{float((bits - finest).mean()):+.4f}"})
    return rows


def where(arguments: argparse.Namespace) -> Rows:
    """A row for each two units of log SNR."""
    run = run_of(arguments)
    (z, levels), rows = tested(run, arguments), Rows()
    black = z < -1 + 1 / levels
    x, dark = fill_bins(z, levels, seeded(arguments.seed)), float(black.double().mean())
    for low in range(-8, 22, 2):
        inside = low + 2 * torch.rand(len(z), 4, generator=seeded(arguments.seed + 1))
        with torch.no_grad():
            errors = noise_errors(run.module, x, None, inside, seeded(arguments.seed + 2)).mean(1)
        on, off = float(errors[black].mean()), float(errors[~black].mean())
        bits = (dark * on + (1 - dark) * off) / (2 * math.log(2))
        rows.append({
            "log SNR": f"{low} to {low + 2}", "error, black": f"{on:.4f}", "others": f"{off:.4f}",
            "bits/dim a unit": f"{bits:.4f}", "of black pixels": f"{dark * on / (2 * math.log(2)):.4f}",
        })  # fmt: skip
    return rows


TABLES = {"bound": bound, "ode": ode, "where": where, "variants": variants}

if __name__ == "__main__":
    main()
