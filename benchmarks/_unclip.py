"""What the tables of DALL-E 2 share, and those of pictures from pictures: what variations keep, and blends."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from _common import kept, seeded, slug, spread
from _quality import trained
from torch import Tensor

from flowlib.data import Scenes
from flowlib.metrics import read_scenes
from flowlib.recipes import change, find_recipe
from flowlib.runs import Run, load_run
from flowlib.systems.embedded import embed_images
from flowlib.systems.unclip_editing import Decoder, slerp

NAMES = ("digit", "colour", "size", "place")  # columns of what the judge reads of an object
VARIATIONS = ("eta=0", "eta=0.25", "eta=0.5", "eta=0.75", "eta=1", "another-latent", "no-embedding")
WAYS = tuple(f"{i / 8:g}" for i in range(9))  # of the way from one picture to another
RECIPES = {
    "diffusion": "unclip-prior", "autoregressive": "unclip-prior-autoregressive", "decoder": "unclip",
    "painter": "scenes-text",
}  # fmt: skip


def model(name: str, arguments: argparse.Namespace) -> Run:
    """The run of that name; with --steps, for a trial, one of its recipe, small."""
    if not arguments.steps:
        return load_run(getattr(arguments, name), "cpu")
    recipe = change(find_recipe(RECIPES[name]), steps=arguments.steps, batch_size=8)
    if name in ("diffusion", "autoregressive"):
        recipe = change(recipe, examples=50)
    return trained(recipe, arguments.out / RECIPES[name])


def found(
    name: str, measure: Callable[..., dict[str, Any]], seed: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """What a measurement finds with one seed, kept."""
    left = ("out", "write", "seeds", "rows")
    settings = {key: str(value) for key, value in vars(arguments).items() if key not in left}
    path = arguments.out / f"{arguments.table}-{slug(name)}-{seed}.json"
    scores = kept(path, settings | {"name": name, "seed": seed}, partial(measure, name, seed, arguments))
    print(arguments.table, name, seed, scores, file=sys.stderr, flush=True)
    return scores


def shown(scores: list[dict[str, Any]]) -> dict[str, str]:
    """Measurements of several seeds as cells."""
    plain = ("frechet", "cosine", "change", "seconds", "parameters")
    forms = dict(zip(plain, (".1f", ".3f", ".3f", ".4f", ".0f"), strict=True))
    return {key: spread([one[key] for one in scores], forms.get(key, ".1%")) for key in scores[0]}


def of_variation(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """How often the judge reads the same in a picture and in what is drawn of it."""
    run, z = model("decoder", arguments), Scenes(split="test").batch(torch.arange(arguments.samples))["x"]
    decoder = Decoder(run, steps=arguments.sampling_steps)
    embedding, latent = decoder.read(z)
    if not name.startswith("eta"):
        latent = torch.randn(z.shape, generator=seeded(seed))
    if name == "no-embedding":
        embedding = torch.zeros_like(embedding)
    eta = float(name.removeprefix("eta=")) if name.startswith("eta") else 0.0
    x = decoder.draw(embedding, latent, eta, seed)
    before, after = read_scenes(z), read_scenes(x)
    same = matched(before.objects, after.objects)
    there = before.objects[..., 0] >= 0
    scores = {key: float(same[..., i][there].float().mean()) for i, key in enumerate(NAMES)}
    scores["background"] = float((before.background == after.background).float().mean())
    counts = [(reading.objects[..., 0] >= 0).sum(1) for reading in (before, after)]
    scores["count"] = float((counts[0] == counts[1]).float().mean())
    return scores | {"change": float((x - z).square().mean().sqrt())}


def of_blend(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """What is left of the first picture and there of the second, at a share of the way."""
    run, count = model("decoder", arguments), arguments.samples // 2
    z = Scenes(split="test").batch(torch.arange(2 * count) + 2 * count * seed)["x"]
    decoder = Decoder(run, steps=arguments.sampling_steps)
    embedding, latent = (slerp(part[:count], part[count:], float(name)) for part in decoder.read(z))
    x = decoder.draw(embedding, latent)
    ends, now = read_scenes(z), read_scenes(x)
    scores = {}
    for key, part in (("first", slice(None, count)), ("second", slice(count, None))):
        there = ends.objects[part, :, 0] >= 0
        scores[key] = float(matched(ends.objects[part], now.objects).float().mean(2)[there].mean())
    seen = torch.cat([embed_images(run.parts["clip"], part) for part in x.split(500)])
    return scores | {"cosine": float((seen * embedding).sum(1).mean())}


def matched(before: Tensor, now: Tensor) -> Tensor:
    """Which attributes of each object (B, 2, 4) are read again, objects paired in the way that makes most the same."""
    straight, crossed = before == now, before == now.flip(1)
    better = crossed.flatten(1).sum(1) > straight.flatten(1).sum(1)
    return torch.where(better[:, None, None], crossed, straight)
