"""Autoencoders and GANs measured: what their latents, their KL weight, their tokens and their game are worth.

    FLOWLIB_DATA=... python benchmarks/autoencoders.py --data mnist --seeds 0 1 2

Four tables, each over several seeds (mean and standard deviation):

- sampling: draws from N(0, I), and from a Gaussian fitted to the latents, decoded by an autoencoder and by a VAE;
- rate: rate (nats) and distortion (squared error of an image) on held-out images over the KL weight, latents in use;
- codebook: a discrete VAE over its KL weight: error from true tokens, share of the codebook in use, perplexity, bits;
- gan: a conditional GAN beside the flow of the recipe of that name: precision, recall and the cost of both.

MNIST is measured on the features of the shipped evaluator, digits on their pixels. Each training is one line in
OUT/results.jsonl; what stands there with the same settings is not trained again, so an interrupted call goes on.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import torch
from _autoencoders import Bench
from _quality import write_tables

from flowlib.plotting import format_table

WEIGHTS = (1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
VARIANTS: dict[str, list[str]] = {
    "sampling": ["autoencoder", "vae"],
    "rate": [str(weight) for weight in WEIGHTS],
    "codebook": ["0.0", "0.01", "0.1"],
    "gan": ["gan", "flow"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="tables (default all)")
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits", help="default digits")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument("--steps", type=int, default=600, help="training steps of each autoencoder (default 600)")
    parser.add_argument("--gan-steps", type=int, default=1000, help="steps of the GAN (default 1000)")
    parser.add_argument("--flow-steps", type=int, default=300, help="steps of the flow (default 300)")
    parser.add_argument("--samples", type=int, default=1000, help="images to measure, at most (default 1000)")
    parser.add_argument("--out", type=Path, default=Path("runs/autoencoders"), help="folder of the results")
    parser.add_argument("--write", type=Path, help="also write the tables to this file, as Markdown")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    journal = options.out / "results.jsonl"
    done = {}
    for line in journal.read_text("utf-8").splitlines() if journal.exists() else []:
        entry = json.loads(line)
        done[json.dumps(entry["key"])] = entry["scores"]
    bench = Bench(options)
    budget = {"sampling": [options.steps], "rate": [options.steps], "codebook": [options.steps]}
    budget["gan"] = [options.gan_steps, options.flow_steps]
    tables = []
    for part in options.parts:
        rows = []
        for variant in VARIANTS[part]:
            scores = []
            for seed in options.seeds:
                key = [options.data, part, variant, seed, *budget[part], options.samples]
                if json.dumps(key) not in done:
                    with torch.random.fork_rng(devices=[]):
                        torch.manual_seed(seed)  # the first weights
                        result = getattr(bench, part)(variant, seed)
                    done[json.dumps(key)] = result
                    with journal.open("a", encoding="utf-8") as file:
                        file.write(json.dumps({"key": key, "scores": result}) + "\n")
                scores.append(done[json.dumps(key)])
            columns = {name: [score[name] for score in scores] for name in scores[0]}
            rows.append({"variant": variant, **{name: _spread(values) for name, values in columns.items()}})
        tables.append(f"{part}: {options.data}, {len(options.seeds)} seeds\n{format_table(rows)}")
        print(f"{tables[-1]}\n", flush=True)
    if options.write is not None:
        write_tables(tables, "autoencoders.py", sys.argv[1:], options.write)


def _spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3g} ± {deviation:.2g}"


if __name__ == "__main__":
    main()
