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
sampling also takes all steps of the chain, from the first seed alone. Results are kept in --out and not computed again.
On MNIST this takes about forty minutes of one core; with --data digits, minutes.
"""

import argparse
import math
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from _common import Help, Scores, add_options, kept, parser_of, seeded, slug, spread
from _quality import SMALL, folder_of, trained, wanted_labels
from torch import Tensor

from flowlib.chains import Chain, Clipped, LearnedVariance, sample_ancestral
from flowlib.chains.ancestral import Reverse
from flowlib.data import load
from flowlib.fields import Field, MixtureField
from flowlib.metrics.judges import Judge, judge_of
from flowlib.paths import GaussianPath
from flowlib.plotting import format_table
from flowlib.recipes import change, find_recipe, to_dict
from flowlib.runs import Run
from flowlib.samplers import sample_ddim, sample_ode
from flowlib.schedules import Cosine
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
    """The reverse steps of a field, clipped or not, that has learned its variance."""
    model, clip = (field.field, field.limit) if isinstance(field, Clipped) else (field, None)
    assert isinstance(model, LearnedVariance)
    return partial(model.reverse, clip=clip)


def chains(arguments: argparse.Namespace) -> None:
    """Table 1."""
    images = load("digits").images[: arguments.images].flatten(1).double()
    noise = torch.randn(arguments.draws, images.shape[1], generator=seeded(0)).double()
    chosen = torch.randint(len(images), (arguments.draws,), generator=seeded(1))
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


def run_of(name: str, arguments: argparse.Namespace, seed: int) -> Run:
    """The guided run of a recipe from a seed; for the digits, one with the network and training of theirs."""
    recipe = change(find_recipe(name), guided=True)
    if arguments.data == "digits":
        own = find_recipe("digits")
        recipe = change(
            recipe, name=f"{name}-digits", data="digits", net_args=own.system.net_args, training=own.training
        )
    elif arguments.small:
        recipe = change(recipe, name=f"{name}-small", net_args=SMALL)
    recipe = change(recipe, seed=seed, **({"steps": arguments.steps} if arguments.steps else {}))
    return trained(recipe, folder_of(arguments.out, recipe.name, recipe.training.steps, seed))


def quality(arguments: argparse.Namespace) -> None:
    """Table 3."""
    train_set, test_set = load(arguments.data, "train"), load(arguments.data, "test")
    judge, (chosen, labels) = judge_of(train_set, test_set), wanted_labels(train_set, arguments.samples)
    floor = judge(train_set.images[chosen], labels)
    results: dict[tuple[str, str, int], list[Scores]] = {}
    for recipe in arguments.recipes:
        for seed in arguments.seeds:
            run = run_of(recipe, arguments, seed)
            for name in SAMPLERS:
                if name == LEARNED and not isinstance(run.field, LearnedVariance):
                    continue
                whole = arguments.all and name.startswith("ancestral") and seed == arguments.seeds[0]
                for budget in [*arguments.evaluations, *([run.recipe.system.chain] if whole else [])]:
                    clip = not arguments.no_clip
                    path = run.folder / f"{slug(name)}-{budget}{'' if clip else '-not-clipped'}.json"
                    settings = {"samples": len(chosen), "recipe": to_dict(run.recipe)}
                    found = kept(path, settings, measure, run, judge, labels, name, budget, clip)
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


def measure(run: Run, judge: Judge, labels: Tensor, name: str, budget: int, clip: bool) -> Scores:
    """The measures of samples of a run by a sampler that may evaluate the network `budget` times."""
    field, seed = run.field, run.recipe.training.seed
    with torch.no_grad(), autocast(run.recipe.training.precision, run.device):
        noise = run.noise(len(labels), seed)
        images = SAMPLERS[name](Clipped(field) if clip else field, noise, labels, budget, seeded(seed))
    return judge(images.float(), labels)


def main() -> None:
    parser = parser_of(__doc__)
    commands = parser.add_subparsers(required=True)
    first = commands.add_parser("chains", help="abar, SNR and information kept of both chains", formatter_class=Help)
    first.add_argument("--images", type=int, default=1500, help="real digits to tell apart")
    first.add_argument("--draws", type=int, default=2000, help="noised digits a row")
    first.set_defaults(run=chains)
    second = commands.add_parser(
        "quality", help="quality of every sampler against network evaluations", formatter_class=Help
    )
    add_options(
        second, data="mnist", seeds=[0, 1, 2], steps=None, small=False, samples=1000, out=Path("runs/ddpm-steps")
    )
    second.add_argument(
        "--recipes", nargs="+", default=["ddpm-linear", "iddpm-hybrid"], metavar="NAME", help="what is trained"
    )
    second.add_argument(
        "--evaluations", nargs="+", type=int, default=[10, 25, 50, 100], help="of the network, a sample"
    )
    second.add_argument("--all", action="store_true", help="ancestral sampling in all steps too, from one seed")
    second.add_argument("--no-clip", action="store_true", help="leave E[z|x] as it comes, outside [-1, 1] too")
    second.set_defaults(run=quality)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
