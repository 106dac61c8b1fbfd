"""LoRA: ranks against full fine-tuning of the same painter, two LoRAs together, and sizes beside Stable Diffusion's.

    python benchmarks/lora.py ranks --seeds 0 1 2
    python benchmarks/lora.py together --seeds 0 1 2
    python benchmarks/lora.py shapes

"ranks": the painter of scenes learns a style from twenty pictures with captions "sks ...". "share" is how much of its
weights is trained, "bytes" what is kept of that, four for a number; "style" the distance of its pictures of such
captions, of test scenes, from such scenes in that style (Gram matrices of the scene reader), 0 for the same; "read" how
often the judge finds the digits and colours of those captions; "others" how often everything is right in pictures of
captions without the word: less than the base's is forgotten. The row "real" is scenes in that style. "together": the
style's LoRA and one of a new object on one painter, each with a weight; "object" is the distance of pictures of the
object from such scenes. "shapes": LoRAs of the attention layers of Stable Diffusion v1's U-Net, as its published
configuration has them, beside ours.

Measurements and trainings are kept in --out: an interrupted command goes on where it was.
"""

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _common import add_options, kept, parser_of, prepare, publish, slug, spread
from _quality import trained
from torch import Tensor

from flowlib.data import Scenes, styles
from flowlib.metrics.scenes import score_captions
from flowlib.nets.lora import ATTENTION, add_lora, load_lora, lora_state
from flowlib.recipes import Recipe, change, find_recipe
from flowlib.runs import Run, load_run
from flowlib.systems.lora import LoRASystem
from flowlib.systems.lora_report import style_distance
from flowlib.training import Training

REAL, BASE, FULL = "real", "base", "full"
RANKS = ("1", "2", "4", "8", "16")
# Of CompVis/stable-diffusion, configs/stable-diffusion/v1-inference.yaml: model_channels 320, channel_mult 1 2 4 4,
# num_res_blocks 2, attention_resolutions 4 2 1, transformer_depth 1, context_dim 768. A level has as many blocks with
# attention on the way down, one more on the way up, and the middle has one.
SD_LEVELS = ((320, 2 + 3), (640, 2 + 3), (1280, 2 + 3), (1280, 1))  # channels, transformer blocks
SD_CONTEXT, SD_WEIGHTS = 768, 859_520_964  # the weights of the whole U-Net, counted from the same configuration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=parser_of("").formatter_class)
    tables = parser.add_subparsers(dest="table", required=True)
    for name, table in TABLES.items():
        one = tables.add_parser(name, description=__doc__, formatter_class=parser.formatter_class)
        add_options(one, seeds=[0], samples=200, sampling_steps=20, steps=0, threads=0, seed=0, out=Path("runs/lora"))
        add_options(one, write=None)
        one.add_argument("--painter", default="zoo:scenes-text", help="the flow from captions")
        one.add_argument("--style", default="striped", choices=styles.STYLES, help="what is learned")
        one.add_argument(
            "--rows", nargs="+", default=[REAL, BASE, *RANKS, FULL], metavar="ROW", help="real, base, a rank, full"
        )
        one.add_argument("--targets", nargs="+", default=["*"], help="layers, by patterns of their names")
        one.set_defaults(make=table)
    arguments = parser.parse_args()
    prepare(arguments)
    publish(arguments.make(arguments), "lora.py", sys.argv[1:], arguments.write)


def ranks(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each rank, for the base, and for full fine-tuning."""
    rows = []
    for name in arguments.rows:
        found = [measured(name, seed, arguments) for seed in arguments.seeds]
        size = {"share": f"{found[0]['share']:.2%}", "bytes": f"{found[0]['bytes']:,}"}
        rows.append({"rank": name, **size, **shown(found)})
    return rows


def together(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each LoRA alone, and for both on one painter at several weights."""
    rows = []
    for weights in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.7, 0.7)):
        found = []
        for seed in arguments.seeds:
            path = arguments.out / f"together-{weights[0]}-{weights[1]}-{seed}.json"
            found.append(
                kept(path, settings(arguments, seed, weights), partial(measure_both, weights, seed, arguments))
            )
        rows.append({arguments.style: weights[0], "glyph": weights[1], **shown(found)})
    return rows


def shapes(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Sizes of LoRAs of all attention projections, and how many times smaller each is than its network."""
    ours = load_run(arguments.painter, "cpu").module
    own = sum(p.numel() for p in ours.parameters())
    rows = []
    for rank in map(int, RANKS):
        net = load_run(arguments.painter, "cpu").module
        add_lora(net, rank, targets=ATTENTION)
        mine = sum(value.numel() for value in lora_state(net).values()) - 1
        for name, whole, small in (("Stable Diffusion v1", SD_WEIGHTS, sd_numbers(rank)), ("ours", own, mine)):
            row = {"network": name, "rank": rank, "weights": f"{whole:,}", "LoRA": f"{small:,}"}
            rows.append(row | {"MB at 4 bytes": f"{4e-6 * small:.2f}", "times smaller": f"{whole / small:.0f}"})
    return rows


def sd_numbers(rank: int) -> int:
    """Numbers of a LoRA of the queries, keys, values and outputs of Stable Diffusion v1's attention layers.

    A transformer block has self-attention, four projections of c x c, and cross-attention, whose keys and values read
    the text: c x 768.
    """
    each = lambda c: rank * (6 * (c + c) + 2 * (c + SD_CONTEXT))  # noqa: E731
    return sum(count * each(channels) for channels, count in SD_LEVELS)


TABLES = {"ranks": ranks, "together": together, "shapes": shapes}


def settings(arguments: argparse.Namespace, seed: int, row: object) -> dict[str, Any]:
    names = ("samples", "sampling_steps", "steps", "painter", "style", "targets")
    return {"row": row, "seed": seed, **{name: getattr(arguments, name) for name in names}}


def shown(found: list[dict[str, float]]) -> dict[str, str]:
    forms = {"style": ".3f", "object": ".3f", "read": ".1%", "others": ".1%"}
    return {key: spread([one[key] for one in found], form) for key, form in forms.items() if key in found[0]}


def measured(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """What is measured of a row with one seed, kept."""
    path = arguments.out / f"ranks-{arguments.style}-{slug(name)}-{seed}.json"
    found = kept(path, settings(arguments, seed, name), partial(measure, name, seed, arguments))
    print(name, seed, found, file=sys.stderr, flush=True)
    return found


def adapted(data: str, rank: str, seed: int, arguments: argparse.Namespace) -> Run:
    """The run of a LoRA of that rank; or "full", the painter itself trained on, by the same loss."""
    recipe = change(find_recipe("lora-striped"), data=data, seed=seed)
    system = recipe.system
    assert isinstance(system, LoRASystem)
    training: Training = replace(recipe.training, steps=arguments.steps or recipe.training.steps)
    if rank == FULL:  # whose steps are smaller, as all of its weights move
        training = replace(training, lr=training.lr / 10)
    given = {"full": True} if rank == FULL else {"rank": int(rank), "targets": tuple(arguments.targets)}
    own = replace(system, parts={"base": arguments.painter}, **given)  # type: ignore[arg-type]
    folder = arguments.out / slug(f"{data}-{rank}-{'-'.join(arguments.targets)}-{training.steps}-{seed}")
    return trained(Recipe(name="lora", data=data, system=own, training=training), folder)


def measure(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Share, bytes, and the scores of the pictures."""
    base = load_run(arguments.painter, "cpu")
    if name in (REAL, BASE):
        return {"share": 0.0, "bytes": 0, **scores(base if name == BASE else None, seed, arguments)}
    run, whole = (
        adapted(f"scenes-{arguments.style}", name, seed, arguments),
        sum(p.numel() for p in base.module.parameters()),
    )
    count = whole if name == FULL else sum(value.numel() for value in lora_state(run.module).values()) - 1
    return {"share": count / whole, "bytes": 4 * count, **scores(run, seed, arguments)}


def measure_both(weights: tuple[float, float], seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The scores of a painter with both LoRAs."""
    run = load_run(arguments.painter, "cpu")
    for kind, weight in zip((arguments.style, "glyph"), weights, strict=True):
        load_lora(run.module, lora_state(adapted(f"scenes-{kind}", "4", seed, arguments).module), weight)
    found = scores(run, seed, arguments)
    objects = styles.glyphs(arguments.samples, "test")
    found["object"] = style_distance(drawn(run, list(objects.captions or ()), seed, arguments), objects.images)
    return found


def scores(run: Run | None, seed: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Style, what is read in pictures of the style, and in pictures of other captions."""
    real = styles.styled(arguments.style, arguments.samples, "test")
    others = Scenes(split="test").batch(torch.arange(arguments.samples))["caption"]
    made = real.images if run is None else drawn(run, list(real.captions or ()), seed, arguments)
    found = {"style": style_distance(made, real.images)}
    found["read"] = score_captions(made, [text.removeprefix(styles.WORD) for text in real.captions or ()])["all"]
    return (
        found if run is None else found | {"others": score_captions(drawn(run, others, seed, arguments), others)["all"]}
    )


def drawn(run: Run, texts: list[str], seed: int, arguments: argparse.Namespace) -> Tensor:
    tokens = run.module.net.tokenizer(texts)
    return run.sample(tokens, scale=3.0, steps=arguments.sampling_steps, seed=seed).clamp(-1, 1)


if __name__ == "__main__":
    main()
