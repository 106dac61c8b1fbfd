"""Autoencoders and GANs measured: what their latents, their KL weight, their tokens and their game are worth.

    FLOWLIB_DATA=... python benchmarks/autoencoders.py --data mnist --seeds 0 1 2

Four tables, each over several seeds (mean and standard deviation):

- sampling: draws from N(0, I), and from a Gaussian fitted to the latents, decoded by an autoencoder and by a VAE;
- rate: rate (nats) and distortion (squared error of an image) on held-out images over the KL weight, latents in use;
- codebook: a discrete VAE over its KL weight: error from true tokens, share of the codebook in use, perplexity, bits;
- gan: a conditional GAN beside the flow of the recipe of that name: precision, recall and the cost of both.

MNIST is measured on the features of the shipped evaluator, digits on their pixels. Trainings and results are kept in
--out: an interrupted command goes on where it was.
"""

import argparse
import math
import statistics
import sys
from pathlib import Path

import torch
from _common import Scores, kept, parser_of, seeded, slug, write_tables
from _quality import seconds_of, trained
from torch import Tensor

from flowlib.data import load
from flowlib.metrics.judges import Judge, judge_of
from flowlib.nets.autoencoder import draw
from flowlib.plotting import format_table
from flowlib.recipes import Recipe, change, find_recipe, to_dict
from flowlib.runs import Run
from flowlib.systems import Splits
from flowlib.systems.codebook_use import codebook_use
from flowlib.systems.vae import kl_to_normal

VARIANTS: dict[str, list[str]] = {
    "sampling": ["autoencoder", "vae"],
    "rate": ["0.001", "0.01", "0.03", "0.1", "0.3", "1.0"],
    "codebook": ["0.0", "0.01", "0.1"],
    "gan": ["gan", "flow"],
}


def main() -> None:
    parser = parser_of(
        __doc__, data="digits", seeds=[0, 1, 2], steps=600, samples=1000, out=Path("runs/autoencoders"), write=None
    )
    parser.add_argument("--parts", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="tables")
    parser.add_argument("--gan-steps", type=int, default=1000, help="steps of the GAN")
    parser.add_argument("--flow-steps", type=int, default=300, help="steps of the flow")
    arguments = parser.parse_args()
    bench, tables = Bench(arguments), []
    for part in arguments.parts:
        rows = []
        for variant in VARIANTS[part]:
            scores = [bench.scores(part, variant, seed) for seed in arguments.seeds]
            columns = {name: [score[name] for score in scores] for name in scores[0]}
            rows.append({"variant": variant, **{name: _spread(values) for name, values in columns.items()}})
        tables.append(f"{part}: {arguments.data}, {len(arguments.seeds)} seeds\n{format_table(rows)}")
        print(f"{tables[-1]}\n", flush=True)
    if arguments.write is not None:
        write_tables(tables, "autoencoders.py", sys.argv[1:], arguments.write)


def recipe_of(part: str, variant: str, seed: int, arguments: argparse.Namespace) -> Recipe:
    """What one line of a table trains."""
    mnist, common = arguments.data == "mnist", {"data": arguments.data, "seed": seed}
    if variant == "flow":
        return change(find_recipe(arguments.data), steps=arguments.flow_steps, seed=seed)
    if part == "gan":
        return change(find_recipe("gan"), steps=arguments.gan_steps, **common)
    common["steps"] = arguments.steps
    if part == "codebook":
        return change(find_recipe("dvae"), kl_weight=float(variant), factor=4 if mnist else 2, **common)
    common |= {"factor": 4, "latent_channels": 4} if mnist else {"factor": 8, "latent_channels": 8}
    if variant == "autoencoder":
        return change(find_recipe("autoencoder"), **common)
    return change(find_recipe("vae"), kl_weight=0.03 if variant == "vae" else float(variant), **common)


class Bench:
    """The data, their judge, and a method for each table, which measures one run."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.data = Splits(load(arguments.data, "train"), load(arguments.data, "test"))
        self.judge: Judge = judge_of(*self.data)

    def scores(self, part: str, variant: str, seed: int) -> Scores:
        """One line's measures of one seed."""
        recipe = recipe_of(part, variant, seed, self.arguments)
        folder = self.arguments.out / slug(f"{part} {variant} {recipe.data} {recipe.training.steps} {seed}")
        settings = {"recipe": to_dict(recipe), "samples": self.arguments.samples}
        return kept(folder / "scores.json", settings, self.measure, part, recipe, folder)

    @torch.no_grad()
    def measure(self, part: str, recipe: Recipe, folder: Path) -> Scores:
        with torch.enable_grad():
            run = trained(recipe, folder)
        return getattr(self, part)(run, recipe.training.seed)

    def judged(self, images: Tensor, labels: Tensor | None = None) -> Scores:
        found = self.judge(images, labels)
        return {name: found[name] for name in ("frechet", "precision", "recall", "accuracy") if name in found}

    def sampling(self, run: Run, seed: int) -> Scores:
        network, count, source = run.module, self.arguments.samples, seeded(seed)
        mean, log_variance = network.encode(self.data.train.images[:5000])
        codes = mean if run.recipe.name == "autoencoder" else draw(mean, log_variance, source)
        covariance = torch.cov(codes.flatten(1).double().T)
        root = torch.linalg.cholesky(covariance + 1e-9 * covariance.trace() * torch.eye(len(covariance)))
        noise = torch.randn(count, *codes.shape[1:], generator=source)
        fitted = (noise.flatten(1).double() @ root.T).float() + codes.flatten(1).mean(0)
        through = self.judged(network(self.data.test.images[:count]))["frechet"]
        prior, gauss = self.judged(network.decode(noise)), self.judged(network.decode(fitted.reshape(noise.shape)))
        return {
            "frechet reconstructions": through,
            **{f"{name} N(0, I)": value for name, value in prior.items()},
            **{f"{name} fitted": value for name, value in gauss.items()},
        }

    def rate(self, run: Run, seed: int) -> Scores:
        x = self.data.test.images[:2000]
        mean, log_variance = run.module.encode(x)
        each = kl_to_normal(mean.reshape(-1, 1), log_variance.reshape(-1, 1)).reshape(len(x), -1).mean(0)
        decoded = run.module.decode(draw(mean, log_variance, seeded(seed)))
        return {
            "rate": float(each.sum()),
            "distortion": _distortion(decoded, x),
            "latents in use": float((each > 0.05).sum()),
        }

    def codebook(self, run: Run, seed: int) -> Scores:
        x = self.data.test.images[:2000]
        index = run.module.encode(x).argmax(1)
        use = codebook_use(index, run.module.tokens)
        bits = index[0].numel() * math.log2(use.perplexity)  # at most: places are not independent
        error = _distortion(run.module.decode_tokens(index), x)
        return {"distortion": error, "used": use.share, "perplexity": use.perplexity, "bits at most": bits}

    def gan(self, run: Run, seed: int) -> Scores:
        chosen = torch.randperm(len(self.data.train), generator=seeded(seed))[: self.arguments.samples]
        y, flow = self.data.train.labels[chosen], run.recipe.name != "gan"
        images = run.sample(y, seed=seed, **({"steps": 20} if flow else {}))
        cost = {"seconds": seconds_of(run), "evaluations": 40.0 if flow else 1.0}
        return {**cost, **self.judged(images, y)}


def _distortion(made: Tensor, x: Tensor) -> float:
    return float((made - x).square().flatten(1).sum(1).mean())


def _spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3g} ± {deviation:.2g}"


if __name__ == "__main__":
    main()
