"""DALL-E 2: its priors against each other and none, what variations keep, blends, and which colour goes to which digit.

    python benchmarks/unclip.py priors --seeds 0 1 2
    python benchmarks/unclip.py variations
    python benchmarks/unclip.py blends
    python benchmarks/unclip.py binding --seeds 0 1 2

`priors`: test captions, painted from no embedding ("caption"), the text's own ("none", without a prior), one that
either prior drew, or that of the true picture ("true"); by the decoder with the caption, and ("-alone") without.
"all" ... "place" are shares that the judge reads as asked for, "frechet" the distance to test scenes in the judge's
features, "cosine" that of the embedding with the true picture's; "parameters" and "seconds" are the prior's, the latter
for one embedding in a batch. `variations`: test scenes, drawn again from embedding and latent with more and more new
noise (eta), from the embedding and another latent, and from another latent alone: how often the judge reads the same as
in the picture, and the root mean square change. `blends`: between two test scenes, the share of all attributes of the
first and of the second that the judge reads at each part of the way, and the cosine of what is drawn with what was
asked for. `binding`: captions of two digits and two colours, how often the judge reads both pairs right, both with
their colours swapped, or something else; of the same decoder by source, and of GLIDE.

Measurements and trainings are kept in --out: an interrupted command goes on where it was.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from _common import parser_of, prepare, publish
from _quality import parameters, read
from _unclip import RECIPES, VARIATIONS, WAYS, found, model, of_blend, of_variation, shown
from torch import Tensor

from flowlib.data import Scenes
from flowlib.metrics import frechet_distance, read_scenes
from flowlib.metrics.reader import FEATURES, load_reader, read_features
from flowlib.runs import Run
from flowlib.systems.embedded import embed_images
from flowlib.systems.unclip_painting import embed_texts
from flowlib.systems.unclip_prior import PRIORS

SOURCES = ("caption", "none", "autoregressive", "diffusion", "true")
PERCENT = ("all", "one", "two", "digit", "colour", "size", "place")


ROWS = {
    "priors": (*SOURCES, *(f"{name}-alone" for name in SOURCES[1:])),
    "variations": VARIATIONS,
    "blends": WAYS,
    "binding": ("glide", *SOURCES),
}


def main() -> None:
    parser = parser_of(
        __doc__, seeds=[0], samples=250, sampling_steps=20, steps=0, threads=0, seed=0, out=Path("runs/unclip"),
        write=None,
    )  # fmt: skip
    parser.add_argument("table", choices=["priors", "variations", "blends", "binding"])
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="of the table; all by default")
    for name, recipe in RECIPES.items():
        parser.add_argument(f"--{name}", default=f"zoo:{recipe}", help=f"a run of the recipe {recipe}")
    parser.add_argument("--scale", type=float, default=3.0, help="of the decoder's guidance")
    parser.add_argument("--prior-scale", type=float, default=2.0, help="of the priors' guidance")
    arguments = parser.parse_args()
    known = ROWS[arguments.table]
    if unknown := set(arguments.rows or ()) - set(known):
        parser.error(f"--rows must be of {', '.join(known)}; got {', '.join(sorted(unknown))}")
    prepare(arguments)
    measure = {"priors": of_prior, "variations": of_variation, "blends": of_blend, "binding": of_binding}
    rows: list[dict[str, Any]] = []
    for name in arguments.rows or known:
        scores = [found(name, measure[arguments.table], seed, arguments) for seed in arguments.seeds]
        rows.append({"row": name} | shown(scores))
    publish(rows, "unclip.py", sys.argv[1:], arguments.write)


def prior_of(name: str, arguments: argparse.Namespace) -> Any:
    """The prior of a row, or None."""
    return model(name, arguments).module if name in PRIORS else None


def source(name: str, batch: dict[str, Any], run: Run, prior: Any, seed: int, arguments: argparse.Namespace) -> Tensor:
    """The embedding of each scene of a batch, as a row's name says."""
    clip = run.parts["clip"]
    if name in ("caption", "true"):
        true = torch.cat([embed_images(clip, part) for part in batch["x"].split(500)])
        return true if name == "true" else torch.zeros_like(true)
    return embed_texts(prior, clip, batch["caption"], run.spec, scale=arguments.prior_scale, seed=seed)


def drawn(run: Run, texts: list[str], embedding: Tensor, seed: int, arguments: argparse.Namespace) -> Tensor:
    """Pictures of captions and embeddings."""
    y = run.module.net.guide(run.module.net.tokenizer(texts), embedding)
    return run.sample(y, scale=arguments.scale, steps=arguments.sampling_steps, seed=seed).clamp(-1, 1)


def of_prior(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """What the judge reads in pictures of one source."""
    kind, _, alone = name.partition("-")
    run, batch = model("decoder", arguments), Scenes(split="test").batch(torch.arange(arguments.samples))
    prior, start = prior_of(kind, arguments), time.perf_counter()
    embedding = source(kind, batch, run, prior, seed, arguments)
    seconds = (time.perf_counter() - start) / len(embedding)
    x = drawn(run, [""] * len(embedding) if alone else batch["caption"], embedding, seed, arguments)
    scores = {key: value for key, value in read(x, batch)[0].items() if key in PERCENT}
    if len(x) > FEATURES:  # else too few for a covariance
        reader, real = load_reader(x.shape[-1]), Scenes(split="test").first(2000).images
        scores["frechet"] = frechet_distance(read_features(x, reader), read_features(real, reader))
    true = source("true", batch, run, None, seed, arguments)
    scores["cosine"] = float((embedding * true).sum(1).mean())
    scores["parameters"] = 0 if prior is None else parameters(prior)
    return scores | {"seconds": 0.0 if prior is None else seconds}


def of_binding(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """How often both digits have their colours, or each other's."""
    batch = Scenes(split="test").batch(torch.arange(4 * arguments.samples))
    digits, colours = batch["objects"][..., 0], batch["objects"][..., 1]
    differ = (digits[:, 0] != digits[:, 1]) & (colours[:, 0] != colours[:, 1]) & (digits[:, 1] >= 0)
    chosen = differ.nonzero().flatten()[: arguments.samples]
    some: dict[str, Any] = {"x": batch["x"][chosen], "caption": [batch["caption"][i] for i in chosen.tolist()]}
    if name == "glide":
        painter = model("painter", arguments)
        x = painter.sample(
            painter.module.net.tokenizer(some["caption"]), scale=arguments.scale, steps=arguments.sampling_steps,
            seed=seed,
        ).clamp(-1, 1)  # fmt: skip
    else:
        run = model("decoder", arguments)
        embedding = source(name, some, run, prior_of(name, arguments), seed, arguments)
        x = drawn(run, some["caption"], embedding, seed, arguments)
    wanted = batch["objects"][chosen][..., :2]
    swapped = torch.stack([wanted[..., 0], wanted[..., 1].flip(1)], dim=2)
    now = read_scenes(x).objects[..., :2]
    scores = {
        key: float(same_pairs(now, pairs).float().mean()) for key, pairs in (("right", wanted), ("swapped", swapped))
    }
    return scores | {"else": 1 - scores["right"] - scores["swapped"]}


def same_pairs(now: Tensor, wanted: Tensor) -> Tensor:
    """Whether two pairs (B, 2, 2) are the same, in either order."""
    return ((now == wanted).flatten(1).all(1)) | ((now == wanted.flip(1)).flatten(1).all(1))


if __name__ == "__main__":
    main()
