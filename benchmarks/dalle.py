"""DALL-E: what choosing among many pictures gives, how tokens are drawn, patterns of attention, the cache, and bits.

    python benchmarks/dalle.py choosing --seeds 0 1 2
    python benchmarks/dalle.py choosing --seeds 0 1 2 --temperature 0.5
    python benchmarks/dalle.py drawing --seeds 0 1 2
    python benchmarks/dalle.py patterns --seeds 0 1 2
    python benchmarks/dalle.py cache
    python benchmarks/dalle.py bits --seeds 0 1 2

`choosing`: --candidates pictures of each of --prompts captions of test scenes, and the share that the judge reads
wholly as asked for among those that a score chooses from N: CLIP, the model's own log-probability, or an "oracle",
which takes a right one where there is one; not of one choice of N but over all subsets. "moved" is how far the choice
is from what the model writes, log N - (N - 1) / N nats. `drawing`: one picture of each caption, by temperature and by
the number of tokens that may be drawn; "frechet" is the distance to test scenes in the judge's features, "precision"
the share of pictures near scenes, "recall" of scenes near pictures. `patterns`: the transformer with sparse and with
full attention, of equal parameters, trained for --steps steps on the same tokens: nats a token of text and image in
test scenes, and seconds a step. `cache`: seconds of --batches pictures with and without kept keys and values and their
ratio; beside the largest logit, the largest difference of one between the two ways, in single precision and in double,
where it must be as much smaller as the rounding is; and in single precision the share of equal tokens: a difference
in rounding makes another token of a chance that lies on an edge, and others behind it. `bits`: what test scenes cost at
most in bits a pixel and channel, and how much of the codebook their tokens use.

Measurements and trainings are kept in --out, but for `cache`: an interrupted command goes on where it was.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from _common import kept, parser_of, prepare, publish, slug, spread
from _dalle import BITS, LAWS, LAYERS, of_bits, of_cache, of_choice, of_law, of_pattern

PLAIN = {
    "frechet": ".1f", "moved, nats": ".2f", "text": ".3f", "image": ".3f", "seconds": ".3f", "parameters": ".0f",
    "distortion": ".4f", "rate": ".4f", "bound": ".4f", "perplexity": ".1f", "text, bits": ".1f",
}  # fmt: skip


def main() -> None:
    parser = parser_of(
        __doc__, seeds=[0], samples=250, steps=300, repetitions=5, threads=0, seed=0, out=Path("runs/dalle-tables"),
        write=None,
    )  # fmt: skip
    parser.add_argument("table", choices=["choosing", "drawing", "patterns", "cache", "bits"])
    parser.add_argument("--run", default="zoo:dalle", help="a run of the recipe dalle")
    parser.add_argument("--clip", default="zoo:clip-conv", help="who chooses")
    parser.add_argument("--prompts", type=int, default=100, help="captions of which a picture is chosen")
    parser.add_argument("--candidates", type=int, default=64, help="pictures of each, a power of two")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the pictures that are chosen among")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 64], help="pictures that are timed at once")
    arguments = parser.parse_args()
    if arguments.candidates < 1 or arguments.candidates & (arguments.candidates - 1):
        parser.error(f"--candidates must be a power of two, got {arguments.candidates}")
    prepare(arguments)
    if arguments.table == "cache":
        rows = [of_cache(batch, arguments) for batch in arguments.batches]
        return publish(rows, "dalle.py", sys.argv[1:], arguments.write)
    measure, names = {
        "choosing": (of_choice, [str(2**k) for k in range(arguments.candidates.bit_length())]),
        "drawing": (of_law, list(LAWS)),
        "patterns": (of_pattern, list(LAYERS)),
        "bits": (of_bits, list(BITS)),
    }[arguments.table]
    scores = [found(measure, seed, arguments) for seed in arguments.seeds]
    rows = [{"row": name, **cells([one[name] for one in scores])} for name in names]
    return publish(rows, "dalle.py", sys.argv[1:], arguments.write)


def found(measure: Any, seed: int, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """All rows of a table with one seed, kept."""
    left = ("out", "write", "seeds", "batches", "repetitions")
    settings = {key: str(value) for key, value in vars(arguments).items() if key not in left}
    path = arguments.out / f"{slug(arguments.table)}-{arguments.temperature:g}-{seed}.json"
    rows = kept(path, settings | {"seed": seed}, partial(measure, seed, arguments))
    print(arguments.table, seed, rows, file=sys.stderr, flush=True)
    return rows


def cells(scores: list[dict[str, float]]) -> dict[str, str]:
    """The measures of several seeds as cells of a row."""
    return {key: spread([one[key] for one in scores], PLAIN.get(key, ".1%")) for key in scores[0]}


if __name__ == "__main__":
    main()
