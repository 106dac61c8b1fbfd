"""Semantic guidance, kind by kind and mixed; an encoder of noised pictures beside one of clean ones.

    python benchmarks/semantic.py --seeds 0 1 2

A flow that knows no words is guided by short captions ("text"), or to be like test scenes in content, structure or
style. Columns: "text", the share that the judge reads as the caption asks; "content", the share in which it reads what
is in the reference scene; "edges", the correlation of the sizes of the pixels' gradients with those of the reference;
"Gram", the distance to the reference's Gram matrix in pixels' colours, over that without guidance. The mix asks for the
caption of one scene and the style of another. Each kind guides by the encoder that was trained to agree at noised
pictures ("agree"), by the clean one at the noised pictures ("clean"), and by the clean one at the predicted clean ones
("predicted"). What is added to the score is bounded alike in all rows (--bound).

Measurements are kept in --out, each row and seed alone: an interrupted command goes on where it was.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _common import Scores, kept, parser_of, prepare, publish, slug, spread
from _quality import trained
from torch import Tensor

from flowlib import EnergyGuidance, sample_ddim
from flowlib.data import Scenes
from flowlib.guidance import Energy
from flowlib.metrics.scenes import score_captions
from flowlib.recipes import change, find_recipe
from flowlib.runs import Run, load_run
from flowlib.systems.semantic import (
    content_energy,
    gram_matrix,
    like,
    structure_energy,
    style_energy,
    text_energy,
)
from flowlib.training.order import stream

KINDS = ("text", "content", "structure", "style", "text + style")
ENCODERS = ("agree", "clean", "predicted")
LARGE = 1e4  # of every energy: the bound alone says how strong they are


def main() -> None:
    parser = parser_of(__doc__, seeds=[0], samples=128, threads=0, seed=0, out=Path("runs/semantic"), write=None)
    parser.add_argument("--flow", default="zoo:scenes", help="the flow that is guided")
    parser.add_argument("--clip", default="zoo:clip-conv", help="the clean CLIP, which --agree was made of")
    parser.add_argument("--agree", default="zoo:clip-noised-agree", help="what was trained to agree with it")
    parser.add_argument("--sampling-steps", type=int, default=50, help="of DDIM with eta = 0.8")
    parser.add_argument("--bound", type=float, default=0.5, help="root mean square of what is added to the score")
    parser.add_argument("--mix", type=float, default=10.0, help="weight of the style beside the text")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help="rows")
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=list(ENCODERS), help="rows of each kind")
    parser.add_argument(
        "--steps", type=int, default=0, help="train small models for so many steps instead, for a trial; 0: do not"
    )
    arguments = parser.parse_args()
    prepare(arguments)
    pairs = [("none", ""), *((kind, encoder) for kind in arguments.kinds for encoder in arguments.encoders)]
    results = [[measured(kind, encoder, seed, arguments) for seed in arguments.seeds] for kind, encoder in pairs]
    plain = sum(scores["Gram"] for scores in results[0]) / len(results[0])
    rows = [
        {"guided by": kind, "encoder": encoder}
        | {key: spread([scores[key] for scores in found], ".1%") for key in ("text", "content")}
        | {"edges": spread([scores["edges"] for scores in found], ".3f")}
        | {"Gram": spread([scores["Gram"] / plain for scores in found])}
        for (kind, encoder), found in zip(pairs, results, strict=True)
    ]
    publish(rows, "semantic.py", sys.argv[1:], arguments.write)


def measured(kind: str, encoder: str, seed: int, arguments: argparse.Namespace) -> Scores:
    """What is measured with one seed, kept."""
    names = ("samples", "flow", "clip", "agree", "sampling_steps", "bound", "mix", "steps")
    settings = {"kind": kind, "encoder": encoder, "seed": seed, **{key: getattr(arguments, key) for key in names}}
    return kept(
        arguments.out / f"{slug(f'{kind} {encoder}')}-{seed}.json", settings, measure, kind, encoder, seed, arguments
    )


def measure(kind: str, encoder: str, seed: int, arguments: argparse.Namespace) -> Scores:
    """What is measured of the pictures of one seed."""
    count = arguments.samples
    batch = Scenes(split="test").batch(torch.arange(2 * count))
    reference, own = batch["x"][:count], batch["short"][:count]
    asked = batch["short"][count:] if kind == "text + style" else own
    flow = model(arguments.flow, "scenes-secondary", arguments)
    field, noise = flow.module, torch.randn(count, *flow.shape, generator=stream(seed, "noise"))
    if kind != "none":
        energies = energies_of(kind, encoder, field, reference, asked, seed, arguments)
        field = EnergyGuidance(field, energies, bound=arguments.bound)
    generator = stream(seed, "noise of steps")
    x = sample_ddim(field, noise, steps=arguments.sampling_steps, eta=0.8, generator=generator).clamp(-1, 1)
    gram = gram_matrix(x.flatten(2).transpose(1, 2)) - gram_matrix(reference.flatten(2).transpose(1, 2))
    return {
        "text": score_captions(x, asked)["all"],
        "content": score_captions(x, own)["all"],
        "edges": float(torch.corrcoef(torch.stack([edges(x).flatten(), edges(reference).flatten()]))[0, 1]),
        "Gram": float(gram.square().sum((1, 2)).mean().sqrt()),
    }


def energies_of(
    kind: str,
    encoder: str,
    field: Any,
    reference: Tensor,
    texts: Sequence[str],
    seed: int,
    arguments: argparse.Namespace,
) -> list[Energy]:
    """What guides a row."""
    looks = "clean" if encoder == "predicted" else "noised"
    if encoder == "agree":
        clip = model(arguments.agree, "clip-noised-agree", arguments).module
    else:
        clip = Timeless(model(arguments.clip, "clip-vit", arguments).module)
    beside = like(reference, field.path if looks == "noised" else None, stream(seed, "noise of references"))
    made = {
        "text": [text_energy(clip, texts, LARGE, looks)],
        "content": [content_energy(clip, beside, LARGE, looks)],
        "structure": [structure_energy(clip, beside, LARGE, looks)],
        "style": [style_energy(clip, beside, LARGE, looks)],
    }
    made["text + style"] = made["text"] + [style_energy(clip, beside, arguments.mix * LARGE, looks)]
    return made[kind]


class Timeless:
    """A CLIP of clean pictures that is shown noised ones, and told no times."""

    def __init__(self, clip: Any) -> None:
        self.text_features = clip.text_features
        self.image = lambda x, t: clip.image(x, None)


def edges(x: Tensor) -> Tensor:
    """The size of the gradient at each pixel: (B, H - 1, W - 1)."""
    down, right = x.diff(dim=2)[..., :-1], x.diff(dim=3)[:, :, :-1]
    return (down.square() + right.square()).sum(1).sqrt()


def model(name: str, recipe: str, arguments: argparse.Namespace) -> Run:
    """The run of that name, or for a trial one of that recipe."""
    if not arguments.steps:
        return load_run(name, "cpu")
    parts = {"parts": {"clip": str(arguments.out / "clip-vit")}} if recipe == "clip-noised-agree" else {}
    if parts:
        model("", "clip-vit", arguments)
    return trained(change(find_recipe(recipe), steps=arguments.steps, batch_size=8, **parts), arguments.out / recipe)


if __name__ == "__main__":
    main()
