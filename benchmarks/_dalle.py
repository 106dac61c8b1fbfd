"""The measures of DALL-E's tables, each of all rows of one table with one seed."""

import argparse
import copy
import math
from typing import Any

import torch
from _common import interleave, ratio, seeded
from _quality import parameters, read, seconds_of, trained
from torch import Tensor

from flowlib.data import Scenes
from flowlib.metrics import frechet_distance, precision_recall
from flowlib.metrics.reader import FEATURES, load_reader, read_features
from flowlib.metrics.scenes import compare_captions
from flowlib.nets.text_image import TextImageGPT
from flowlib.nets.transformer_block import Cache
from flowlib.recipes import change, find_recipe
from flowlib.runs import Run, load_run
from flowlib.systems.codebook_use import codebook_use
from flowlib.systems.dalle import dalle_loss
from flowlib.systems.dalle_report import text_bits
from flowlib.systems.reranking import similarity
from flowlib.systems.token_bound import bound_of_images
from flowlib.systems.token_sampling import write_image

LAWS: dict[str, dict[str, Any]] = {
    "temperature 1": {}, "temperature 0.9": {"temperature": 0.9}, "temperature 0.7": {"temperature": 0.7},
    "temperature 0.5": {"temperature": 0.5}, "temperature 0.25": {"temperature": 0.25}, "top 64": {"top_k": 64},
    "top 16": {"top_k": 16}, "top 4": {"top_k": 4}, "top 1": {"top_k": 1},
}  # fmt: skip
LAYERS = ("sparse", "full")
BITS: dict[str, dict[str, Any]] = {
    "uniform prior": {"uniform": True}, "tokens drawn": {}, "most probable tokens": {"hard": True},
    "under another's caption": {"hard": True},
}  # fmt: skip
Table = dict[str, dict[str, float]]


def scenes(count: int) -> dict[str, Any]:
    """So many test scenes."""
    return Scenes(split="test").batch(torch.arange(count))


@torch.no_grad()
def of_choice(seed: int, arguments: argparse.Namespace) -> Table:
    """How often what is chosen of N pictures is right, by who chooses."""
    run, each = load_run(arguments.run, "cpu"), arguments.candidates
    texts = [text for text in scenes(arguments.prompts)["caption"] for _ in range(each)]
    said = run.module.read(texts)
    chance = torch.rand(len(texts), run.module.gpt.places - 1, generator=seeded(seed), dtype=torch.float64)
    pairs = zip(said.split(500), chance.split(500), strict=True)
    cold = arguments.temperature
    index = [write_image(run.module.gpt, words, luck, temperature=cold)[1] for words, luck in pairs]
    images = torch.cat([run.module.decode(part) for part in index]).clamp(-1, 1)
    right = torch.tensor([row["all"] for row in compare_captions(images, texts)]).double()
    logs = [run.module.log_prob(words, part)[1] for words, part in zip(said.split(500), index, strict=True)]
    clip = load_run(arguments.clip, "cpu").module
    scores = {"CLIP": similarity(clip, images, texts), "log-probability": torch.cat(logs), "oracle": right}
    shape = (arguments.prompts, each)
    return {
        str(n): {name: chosen(score.reshape(shape), right.reshape(shape), n) for name, score in scores.items()}
        | {"moved, nats": math.log(n) - (n - 1) / n}
        for n in (2**k for k in range(each.bit_length()))
    }


def chosen(score: Tensor, right: Tensor, n: int) -> float:
    """How often the best of n by the score is right, over all subsets of n of the M candidates; both (B, M)."""
    many = score.shape[1]
    weights = [math.comb(below, n - 1) / math.comb(many, n) for below in range(many)]  # with so many below it
    return float((right.gather(1, score.argsort(1)) * torch.tensor(weights, dtype=right.dtype)).sum(1).mean())


def of_law(seed: int, arguments: argparse.Namespace) -> Table:
    """What the judge reads in pictures by the law that their tokens are drawn from."""
    run, batch, rows = load_run(arguments.run, "cpu"), scenes(arguments.samples), {}
    reader, y = load_reader(batch["x"].shape[-1]), run.module.read(batch["caption"])
    real = read_features(Scenes(split="test").first(2000).images, reader)
    for name, options in LAWS.items():
        x = run.sample(y, seed=seed, **options).clamp(-1, 1)
        scores = read(x, batch)[0]
        rows[name] = {key: scores[key] for key in ("all", "one", "two", "digit", "colour", "size", "place")}
        if len(x) > FEATURES:  # else too few for a covariance
            features = read_features(x, reader)
            rows[name]["frechet"] = frechet_distance(features, real)
            rows[name]["precision"], rows[name]["recall"] = precision_recall(real, features)
    return rows


@torch.no_grad()
def of_pattern(seed: int, arguments: argparse.Namespace) -> Table:
    """What a transformer learns in few steps, by its attention, of the tokens of a finished first stage."""
    batch, rows = scenes(arguments.samples), {}
    for layers in LAYERS:
        recipe = change(
            find_recipe("dalle"), first_stage=None, parts={"dvae": arguments.run}, layers=layers, seed=seed,
            steps=arguments.steps,
        )  # fmt: skip
        with torch.enable_grad():
            run = trained(recipe, arguments.out / f"{layers}-{arguments.steps}-{seed}")
        module = run.module
        tokens = module.joined(module.read(batch["caption"]), module.encode(batch["x"]))
        loss = dalle_loss(module.gpt(tokens[:, :-1]), tokens, module.gpt.length, module.gpt.pad)
        rows[layers] = {key: float(loss[key]) for key in ("text", "image")}
        rows[layers] |= {"seconds": seconds_of(run) / arguments.steps, "parameters": parameters(module.gpt)}
    return rows


@torch.no_grad()
def of_cache(batch: int, arguments: argparse.Namespace) -> dict[str, object]:
    """One size of batch: seconds with and without a cache, and whether both are the same."""
    module = load_run(arguments.run, "cpu").module
    gpt, said = module.gpt, module.read(scenes(batch)["caption"])
    chance = torch.rand(batch, gpt.places - 1, generator=seeded(arguments.seed), dtype=torch.float64)
    ways = {name: lambda cached=cached: write_image(gpt, said, chance, cached=cached)
            for name, cached in (("cached", True), ("anew", False))}  # fmt: skip
    seconds = interleave(ways, arguments.repetitions)
    written = {name: way()[1] for name, way in ways.items()}
    tokens = module.joined(said, written["cached"])[:, :-1]
    single, largest = cached_difference(gpt, tokens)
    double, _ = cached_difference(copy.deepcopy(gpt).double(), tokens)
    return {
        "pictures": str(batch),
        **{f"{name}, s": f"{sorted(each)[len(each) // 2]:.3f}" for name, each in seconds.items()},
        "times": f"{ratio(seconds, 'anew', 'cached'):.1f}",
        "largest logit": f"{largest:.1f}",
        "difference, single": f"{single:.1e}",
        "double": f"{double:.1e}",
        "equal tokens": f"{float((written['cached'] == written['anew']).double().mean()):.1%}",
    }


def cached_difference(gpt: TextImageGPT, tokens: Tensor) -> tuple[float, float]:
    """The largest difference of a logit between token by token with a cache and all at once, and the largest logit.

    In the precision of the network, to which its own call would not keep; of tokens that may come.
    """
    cache = Cache(len(gpt.transformer.blocks))
    steps = [gpt.logits(gpt.embed(tokens[:, i : i + 1], len(cache)), cache) for i in range(tokens.shape[1])]
    whole, known = gpt.logits(gpt.embed(tokens)), gpt(tokens).isfinite()
    return float((torch.cat(steps, dim=1) - whole)[known].abs().max()), float(whole[known].abs().max())


@torch.no_grad()
def of_bits(seed: int, arguments: argparse.Namespace) -> Table:
    """The whole bound by its prior, and of the most probable tokens how much of the codebook they use."""
    run: Run = load_run(arguments.run, "cpu")
    batch, rows = scenes(arguments.samples), {}
    unit = math.log(2) * batch["x"][0].numel()
    for name, options in BITS.items():
        texts = batch["caption"]
        texts = texts[1:] + texts[:1] if name.startswith("under") else texts
        bound = bound_of_images(run.module, batch["x"], texts, generator=seeded(seed), **options)
        parts = {"distortion": bound.distortion, "rate": bound.rate, "bound": bound.total}
        rows[name] = {key: float(part.mean()) / unit for key, part in parts.items()}
        rows[name]["text, bits"] = text_bits(run.module, texts)
        use = codebook_use(run.module.encode(batch["x"]), run.module.gpt.codes)
        rows[name] |= {"used": use.share, "perplexity": use.perplexity}
    return rows
