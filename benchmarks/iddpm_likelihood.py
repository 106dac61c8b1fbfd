"""Bits/dim of improved DDPM: which chain, which variance, which loss; and how noisy each loss is.

    FLOWLIB_DATA=... python benchmarks/iddpm_likelihood.py --small --chain 200 --steps 400 --images 50 --batches 30
    python benchmarks/iddpm_likelihood.py --data digits     (no download)

For each chain, linear and cosine, and each seed, one network is trained by each loss: L_simple, L_hybrid, L_vlb, and
L_vlb with steps drawn by importance. Each is measured on the same test images by the variational bound of the whole
chain, with both fixed variances and, where it has learned one, with its own. Cells are the mean over seeds, then the
standard deviation over seeds. Then the gradient-noise scale of each loss, tr(Sigma) / |G|^2 in images (McCandlish et
al. 2018), all four at the weights of a network after a short training by L_hybrid (--noise-steps), so that only the
loss differs; later the true gradient of L_simple is too small to be measured with so few batches.

A training that was interrupted goes on, and results are kept in --out and not computed again.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from _common import Scores, kept, parser_of, seeded, slug, spread
from _quality import SMALL, trained
from torch import Tensor

from flowlib.chains import LearnedVariance, LossSecondMoment, variational_bound
from flowlib.data import load
from flowlib.plotting import format_table
from flowlib.recipes import Recipe, change, find_recipe, to_dict
from flowlib.runs import Run
from flowlib.systems import bound_of_test_set
from flowlib.systems.improved_ddpm import variational_loss

CHAINS = {"linear": "vp", "cosine": "cosine"}
LOSSES = {
    "L_simple": {},
    "L_hybrid": {"loss": "hybrid", "importance": False},
    "L_vlb": {"loss": "vlb", "importance": False},
    "L_vlb, importance": {"loss": "vlb", "importance": True},
}
VARIANCES = ("small", "large", "learned")


def recipe_of(chain: str, loss: str, seed: int, arguments: argparse.Namespace) -> Recipe:
    """One cell's recipe: that chain and loss without a guide; for the digits, a small network on 200 steps."""
    base = find_recipe("ddpm-cosine" if loss == "L_simple" else "iddpm-hybrid")
    recipe = change(base, name="iddpm", schedule=CHAINS[chain], guided=False, seed=seed, **LOSSES[loss])
    if arguments.data == "digits":
        net = find_recipe("digits").system.net_args
        recipe = change(recipe, data="digits", chain=200, steps=500, net_args=net)
    elif arguments.small:
        recipe = change(recipe, name="iddpm-small", net_args=SMALL)
    given = {"steps": arguments.steps, "chain": arguments.chain}
    return change(recipe, **{name: value for name, value in given.items() if value is not None})


def noise_scale(loss: Callable[[Tensor, torch.Generator], Tensor], images: Tensor, weights: list[Tensor],
                batches: int, size: int) -> float:  # fmt: skip
    """tr(Sigma) / |G|^2 from the gradients of some batches, both without bias; infinite where |G|^2 drowns in noise."""
    total, squares = [torch.zeros_like(weight, dtype=torch.float64) for weight in weights], 0.0
    for i in range(batches):
        generator = seeded(i)
        z = images[torch.randint(len(images), (size,), generator=generator)]
        for part, gradient in zip(total, torch.autograd.grad(loss(z, generator), weights), strict=True):
            part += gradient
            squares += float(gradient.double().square().sum())
    mean = sum(float((part / batches).square().sum()) for part in total)
    trace = size * (squares / batches - mean) * batches / (batches - 1)
    signal = mean - trace / (size * batches)
    return trace / signal if signal > 0 else float("inf")


def noise_scales(run: Run, arguments: argparse.Namespace) -> dict[str, float]:
    """The scale of each loss at the weights of a run that was trained by L_hybrid."""
    model = run.field
    assert isinstance(model, LearnedVariance)
    data = load(run.recipe.data).to(run.device)
    levels, images = data.levels, data.images
    # Ten losses of each step, k = 1 first, as training sees them.
    bound = variational_bound(model.reverse, model.chain, images[:10], levels=levels, generator=seeded(0))
    sampler = LossSecondMoment(model.chain.steps).to(run.device)
    for row in bound.terms.flip(1):
        sampler.update(torch.arange(1, model.chain.steps + 1), row)
    drawn = LearnedVariance(model.net, model.path, sampler).eval()
    model.requires_grad_(True)
    losses = {
        "L_simple": partial(variational_loss, model, weight=0.0),
        "L_hybrid": partial(variational_loss, model),
        "L_vlb": partial(variational_loss, model, kind="vlb"),
        "L_vlb, importance": partial(variational_loss, drawn, kind="vlb"),
    }
    weights = list(model.parameters())
    scales = {}
    for name, loss in losses.items():
        value = partial(_with_generator, loss, levels)
        scales[name] = noise_scale(value, images, weights, arguments.batches, run.recipe.training.batch_size)
    model.requires_grad_(False)
    return scales


def _with_generator(loss: Callable[..., Tensor], levels: int, z: Tensor, generator: torch.Generator) -> Tensor:
    return loss(z, levels=levels, generator=generator)


def measure(recipe: Recipe, folder: Path, arguments: argparse.Namespace) -> Scores:
    """Train, or load, one run; its bits/dim by each variance it has, and with L_hybrid the noise of all losses."""
    run, test, result = trained(recipe, folder), load(recipe.data, "test"), {}
    for variance in VARIANCES if isinstance(run.field, LearnedVariance) else VARIANCES[:2]:
        bits = bound_of_test_set(run.field, test, images=arguments.images, variance=variance, batch_size=500)
        result[variance] = float(bits.double().sum(1).mean())
    if getattr(recipe.system, "loss", "") == "hybrid":
        steps = min(recipe.training.steps, arguments.noise_steps)
        young = trained(change(recipe, steps=steps), folder.with_name(f"{folder.name}-{steps}"))
        result |= {f"noise of {name}": scale for name, scale in noise_scales(young, arguments).items()}
    return result


def main() -> None:
    parser = parser_of(__doc__, data="mnist", seeds=[0, 1, 2], steps=None, small=False, out=Path("runs/iddpm"))
    parser.add_argument("--chains", nargs="+", choices=CHAINS, default=list(CHAINS), help="which of them")
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES), help="which of them")
    parser.add_argument("--chain", type=int, help="T (default: MNIST 1000, digits 200)")
    parser.add_argument("--images", type=int, default=100, help="test images to measure")
    parser.add_argument("--batches", type=int, default=40, help="of gradients, for the noise scale")
    parser.add_argument("--noise-steps", type=int, default=60, help="training before the noise scale")
    arguments = parser.parse_args()

    rows: list[dict[str, object]] = []
    noise: list[dict[str, object]] = []
    for chain in arguments.chains:
        for loss in arguments.losses:
            results = []
            for seed in arguments.seeds:
                recipe = recipe_of(chain, loss, seed, arguments)
                name = (
                    f"{recipe.name} {recipe.data} {chain} {loss} {recipe.system.chain} {recipe.training.steps} {seed}"
                )
                folder, size = arguments.out / slug(name), ("images", "batches", "noise_steps")
                settings = {"recipe": to_dict(recipe), **{name: getattr(arguments, name) for name in size}}
                results.append(kept(folder / "bits.json", settings, measure, recipe, folder, arguments))
            row: dict[str, object] = {"chain": chain, "loss": loss}
            for variance in VARIANCES:
                found = [result[variance] for result in results if variance in result]
                row[variance] = spread(found, ".3f") if found else "-"
            rows.append(row)
            if loss == "L_hybrid":
                scales = {name: [result[f"noise of {name}"] for result in results] for name in LOSSES}
                noise += [
                    {"chain": chain, "loss": name, "noise scale": spread(found, ".1f")}
                    for name, found in scales.items()
                ]
    print(f"bits/dim of {arguments.images} test images of {arguments.data}, by the variance of the reverse steps")
    print(format_table(rows))
    if noise:
        print(f"\ngradient-noise scale in images, after {arguments.noise_steps} steps of L_hybrid")
        print(format_table(noise))


if __name__ == "__main__":
    main()
