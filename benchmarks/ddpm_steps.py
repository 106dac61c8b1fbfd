"""DDPM and DDIM: what the chains keep of the data, and quality against steps, on the same weights.

    python benchmarks/ddpm_steps.py chains
    FLOWLIB_DATA=... python benchmarks/ddpm_steps.py quality --small --steps 600 --samples 500

`chains` prints abar, the signal-to-noise ratio and the information kept of DDPM's linear and improved DDPM's cosine
chain; it takes seconds. Two kinds of information: what one number of unit variance would keep, log2(1 + SNR) / 2 bits,
and what x_k tells of which of N real digits it was made from, in bits of log2 N, by their exact posterior.

`quality` trains `ddpm-linear` and a guided `iddpm-hybrid` from each seed (a run that is there is loaded, one that was
stopped goes on) and measures every sampler at every number of network evaluations: Fréchet distance to the test set as
a multiple of the training data's own, and accuracy of the labels. E[z|x] is clipped to [-1, 1] in every step, as DDPM
does: where alpha_T = 5e-5, as on the cosine chain, a network that predicts noise is lost without. With --all, ancestral
sampling also takes all steps of the chain, from the first seed alone. Each result is a line in OUT/results.jsonl and is
not computed again. On MNIST this takes about forty minutes of one core; with --data digits, minutes.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from _quality import SMALL, spread
from torch import Tensor

from flowlib.chains import Chain, Clipped, sample_ancestral
from flowlib.chains.ancestral import Reverse
from flowlib.data import Dataset, load
from flowlib.fields import Field, MixtureField
from flowlib.metrics import evaluate, fit_reader, frechet_distance, label_accuracy, load_evaluator
from flowlib.paths import GaussianPath
from flowlib.plotting import format_table
from flowlib.recipes import find_recipe, override
from flowlib.runs import Run, train
from flowlib.samplers import sample_ddim, sample_ode
from flowlib.schedules import Cosine
from flowlib.systems.building import network_model
from flowlib.systems.improved_ddpm import LearnedVariance
from flowlib.training.devices import autocast

Sampler = Callable[[Field, Tensor, Tensor, int, torch.Generator], Tensor]  # noise, labels, evaluations
LEARNED = "ancestral, learned"
SAMPLERS: dict[str, Sampler] = {
    "ancestral, small": lambda f, x, y, n, g: sample_ancestral(f, x, y, steps=n, generator=g, batch_size=250),
    "ancestral, large": lambda f, x, y, n, g: sample_ancestral(
        f, x, y, steps=n, variance="large", generator=g, batch_size=250
    ),
    LEARNED: lambda f, x, y, n, g: sample_ancestral(
        f, x, y, steps=n, variance=learned_reverse(f), generator=g, batch_size=250
    ),
    "DDIM": lambda f, x, y, n, g: sample_ddim(f, x, y, steps=n, batch_size=250),
    "DDIM of order 2": lambda f, x, y, n, g: sample_ddim(f, x, y, steps=n, order=2, batch_size=250),
    "Heun": lambda f, x, y, n, g: sample_ode(f, x, y, steps=max(1, n // 2), batch_size=250),
}


def learned_reverse(field: Field) -> Reverse:
    """The reverse steps of a clipped field that has learned its variance."""
    model = network_model(field.field if isinstance(field, Clipped) else field)
    assert isinstance(model, LearnedVariance)
    return partial(model.reverse, clip=field.limit if isinstance(field, Clipped) else None)


def chains(arguments: argparse.Namespace) -> None:
    """Table 1."""
    images = load("digits").images[: arguments.images].flatten(1).double()
    noise = torch.randn(arguments.draws, images.shape[1], generator=torch.Generator().manual_seed(0)).double()
    chosen = torch.randint(len(images), (arguments.draws,), generator=torch.Generator().manual_seed(1))
    rows: list[dict[str, object]] = []
    for name, chain in (("linear", Chain.linear()), ("cosine", Chain.of(Cosine()))):
        field = MixtureField(images, 0.0, path=GaussianPath(chain))
        for k in (1, 10, 50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000):
            snr = float(chain.abar[k] / -torch.expm1(chain.log_abar[k]))
            t = chain.time(k)
            x = field.path.sample(images[chosen], t, noise)
            # log p(x|own) - log p(x), in bits: its mean is the mutual information of the index and x_k.
            own = field.log_prob(x, t, chosen) - field.log_prob(x, t)
            row: dict[str, object] = {"chain": name, "k": k, "abar": f"{float(chain.abar[k]):.3g}", "SNR": f"{snr:.3g}"}
            row["log2(1 + SNR) / 2"] = f"{math.log2(1 + snr) / 2:.4f}"
            row[f"bits of log2 {len(images)}"] = f"{max(float(own.mean()), 0) / math.log(2):.2f}"
            rows.append(row)
    print(format_table(rows))


def judge(train_set: Dataset, test_set: Dataset) -> Callable[[Tensor, Tensor], dict[str, float]]:
    """Distance to the test set in features (MNIST: the shipped evaluator's; digits: pixels), and label accuracy."""
    if train_set.name == "mnist":
        evaluator = load_evaluator()
        real, _ = evaluate(evaluator, test_set.images)
        read: Callable[[Tensor], tuple[Tensor, Tensor]] = lambda x: evaluate(evaluator, x.clamp(-1, 1))  # noqa: E731
    else:
        reader, real = fit_reader(train_set), test_set.images.flatten(1)
        read = lambda x: (x.clamp(-1, 1).flatten(1), reader(x))  # noqa: E731

    def scores(images: Tensor, labels: Tensor) -> dict[str, float]:
        features, logits = read(images)
        return {"frechet": frechet_distance(features, real), "accuracy": label_accuracy(logits, labels)}

    return scores


def trained(name: str, arguments: argparse.Namespace, seed: int) -> Run:
    """The guided run of a recipe from a seed; for the digits, the `digits` recipe on that chain."""
    recipe = replace(find_recipe(name), guided=True, seed=seed)
    if arguments.data == "digits":
        chosen = {key: getattr(recipe, key) for key in ("schedule", "chain", "loss", "predicts", "time", "seed")}
        recipe = replace(find_recipe("digits"), name=f"{name}-digits", **chosen)
    elif arguments.small:
        recipe = replace(recipe, name=f"{name}-small", net_args=SMALL)
    recipe = override(recipe, [f"steps={arguments.steps}"] if arguments.steps else [])
    return train(recipe, arguments.out / f"{recipe.name}-{recipe.steps}-{seed}", resume=True, pictures=False)


def quality(arguments: argparse.Namespace) -> None:
    """Table 3."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    journal = arguments.out / "results.jsonl"
    done = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    train_set, test_set = load(arguments.data, "train"), load(arguments.data, "test")
    scores = judge(train_set, test_set)
    chosen = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(0))[: arguments.samples]
    labels = train_set.labels[chosen]
    floor = scores(train_set.images[chosen], labels)
    results: dict[tuple[str, str, int], list[dict[str, float]]] = {}
    for recipe in arguments.recipes:
        for seed in arguments.seeds:
            run = trained(recipe, arguments, seed)
            noise = run.noise(len(chosen), seed)
            for name, sampler in SAMPLERS.items():
                if name == LEARNED and not isinstance(run.field, LearnedVariance):
                    continue
                whole = arguments.all and name.startswith("ancestral") and seed == arguments.seeds[0]
                for budget in [*arguments.evaluations, *([run.recipe.chain] if whole else [])]:
                    key = {"run": run.folder.name, "sampler": name, "clip": not arguments.no_clip}
                    key |= {"evaluations": budget, "samples": len(chosen)}
                    found = next((line["scores"] for line in done if line["key"] == key), None)
                    if found is None:
                        field: Field = run.field if arguments.no_clip else Clipped(run.field)
                        generator = torch.Generator().manual_seed(seed)
                        with torch.no_grad(), autocast(run.recipe.precision, run.device):
                            images = sampler(field, noise, labels, budget, generator).float()
                        found = scores(images, labels)
                        with journal.open("a") as file:
                            file.write(json.dumps({"key": key, "scores": found}) + "\n")
                    results.setdefault((recipe, name, budget), []).append(found)
    print(f"{len(chosen)} training images against the test set: Fréchet distance {floor['frechet']:.3f}")
    print(f"Fréchet ratio (label accuracy), mean ± standard deviation over seeds {arguments.seeds}\n")
    budgets = sorted({budget for _, _, budget in results})
    rows = []
    for recipe, name in dict.fromkeys((recipe, name) for recipe, name, _ in results):
        row: dict[str, object] = {"weights": recipe, "sampler": name + (", not clipped" if arguments.no_clip else "")}
        for budget in budgets:
            parts = results.get((recipe, name, budget), [])
            ratios = [part["frechet"] / floor["frechet"] for part in parts]
            accuracy = statistics.mean(part["accuracy"] for part in parts) if parts else 0.0
            row[str(budget)] = f"{spread(ratios)} ({accuracy:.1%})" if parts else ""
        rows.append(row)
    print(format_table(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    first = commands.add_parser("chains", help="abar, SNR and information kept of both chains")
    first.add_argument("--images", type=int, default=1500, help="real digits to tell apart (default 1500)")
    first.add_argument("--draws", type=int, default=2000, help="noised digits a row (default 2000)")
    first.set_defaults(run=chains)
    second = commands.add_parser("quality", help="quality of every sampler against network evaluations")
    second.add_argument("--data", choices=["mnist", "digits"], default="mnist")
    second.add_argument("--recipes", nargs="+", default=["ddpm-linear", "iddpm-hybrid"], metavar="NAME")
    second.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    second.add_argument("--steps", type=int, help="training steps, instead of the recipe's")
    second.add_argument("--small", action="store_true", help="a network of 0.3 of the operations")
    second.add_argument("--samples", type=int, default=1000, help="images to measure (default 1000)")
    second.add_argument(
        "--evaluations", nargs="+", type=int, default=[10, 25, 50, 100], help="of the network, a sample"
    )
    second.add_argument("--all", action="store_true", help="ancestral sampling in all steps too, from one seed")
    second.add_argument("--no-clip", action="store_true", help="leave E[z|x] as it comes, outside [-1, 1] too")
    second.add_argument("--out", type=Path, default=Path("runs/ddpm-steps"), help="folder (default runs/ddpm-steps)")
    second.set_defaults(run=quality)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
