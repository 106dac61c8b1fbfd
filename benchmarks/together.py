"""Four systems on one picture: SAM finds a digit, the inpainter paints it anew, a ControlNet keeps its outline, a LoRA
brings its style.

    python benchmarks/together.py --seeds 0 1 2 --figure lectures/images/17_together.png

Of a test scene a person clicks on the first digit. SAM's mask and a pixel more on each side is the hole. The caption
asks for the same digit in another colour, with guidance w = 3. The control is the edges of the scene, and the LoRA that
of striped pictures.

"all" is the share of pictures that the judge reads as the caption says; "outline" the IoU of what the judge finds of
that digit's stroke with the stroke that was there, where the mask is at least half right; "style" the distance of the
pictures from scenes that are striped in the hole (Gram matrices of the scene reader), 0 for the same; "moved" the
largest change of a pixel outside of the hole. The row "scenes" is the pictures before. Measurements are kept in --out.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _common import kept, parser_of, prepare, publish, seeded, spread
from torch import Tensor

from flowlib import Model
from flowlib.data import Scenes, styles
from flowlib.data.controls import CONTROLS
from flowlib.data.layouts import SEEN
from flowlib.metrics.agreement import read_masks
from flowlib.metrics.scenes import score_captions
from flowlib.nets import Controlled
from flowlib.nets.controlled import HeldControls
from flowlib.plotting import picture_grid, save_figure
from flowlib.runs import Run, load_run
from flowlib.systems.adapting import put_on
from flowlib.systems.clicks import pick_pixel
from flowlib.systems.guides import inpainting_guide
from flowlib.systems.lora_report import style_distance
from flowlib.systems.segmenting import widened
from flowlib.text.captions import Thing, descriptive

SCALE, SHOWN = 3.0, 8
ROWS = {"inpainter": (False, False), "and ControlNet": (True, False), "and LoRA": (True, True)}  # control, LoRA


def main() -> None:
    parser = parser_of(
        __doc__, seeds=[0], samples=64, sampling_steps=15, threads=0, seed=0, out=Path("runs/together"), write=None
    )
    parser.add_argument("--figure", type=Path, help="also draw the first scenes and their pictures to this file")
    parser.add_argument("--sam", default="zoo:sam", help="who finds")
    parser.add_argument("--inpainter", default="zoo:scenes-inpainter", help="who paints")
    parser.add_argument("--control", default="zoo:control-edges", help="who keeps the outline")
    parser.add_argument("--lora", default="zoo:lora-striped", help="who brings the style; FILE[:WEIGHT]")
    arguments = parser.parse_args()
    prepare(arguments)
    names = ("samples", "sampling_steps", "sam", "inpainter", "control", "lora")
    found = []
    for seed in arguments.seeds:
        settings = {"seed": seed, **{name: getattr(arguments, name) for name in names}}
        found.append(kept(arguments.out / f"together-{seed}.json", settings, partial(measure, seed, arguments)))
        print(seed, found[-1], file=sys.stderr, flush=True)
    forms = {"all": ".1%", "outline": ".1%", "style": ".3f", "moved": ".3f"}
    rows = [
        {"pictures": several[0]["pictures"]} | {key: spread([row[key] for row in several], forms[key]) for key in forms}
        for several in zip(*found, strict=True)
    ]
    publish(rows, "together.py", sys.argv[1:], arguments.write)
    if arguments.figure:
        draw(arguments)


def recoloured(batch: dict[str, Any], seed: int) -> list[str]:
    """Captions of scenes whose first digit has another colour."""
    texts, generator = [], seeded(seed)
    for row, paper in zip(batch["objects"].tolist(), batch["background"].tolist(), strict=True):
        digit, colour, *where = row[0]
        others = [new for one, new in SEEN if one == digit and new not in (colour, row[1][1])]
        new = others[int(torch.randint(len(others), (), generator=generator))]
        things = [Thing(digit, new, *where), *(Thing(*thing) for thing in row[1:] if thing[0] >= 0)]
        texts.append(descriptive(things, paper))
    return texts


@torch.no_grad()
def cut_out(run: Run, batch: dict[str, Any], seed: int) -> Tensor:
    """The mask (B, H, W) that SAM rates highest for a click on the first digit."""
    chance = torch.rand(len(batch["x"]), generator=seeded(seed))
    points = pick_pixel(batch["masks"][:, 0], chance)[:, None].float()
    logits, iou = run.module(batch["x"], points=points, labels=torch.ones(points.shape[:2], dtype=torch.long))
    return logits[torch.arange(len(logits)), iou.argmax(1)] > 0


def pictures(count: int, seed: int, arguments: Any) -> tuple[dict[str, Any], Tensor, list[str], dict[str, Tensor]]:
    """Scenes, holes (B, 1, H, W) in them, what is asked for, and the pictures of each row."""
    batch = Scenes(split="test").batch(seed * count + torch.arange(count))
    texts, mask = recoloured(batch, seed), cut_out(load_run(arguments.sam, "cpu"), batch, seed)
    hole = widened(mask, 1)[:, None].float()
    plain, control = load_run(arguments.inpainter, "cpu"), load_run(arguments.control, "cpu").module
    edges = CONTROLS["edges"].of(batch).to(batch["x"])
    made = {}
    for name, (controlled, adapted) in ROWS.items():
        run = put_on(plain, [arguments.lora]) if adapted else plain
        asked = [f"{styles.WORD} {text}" if adapted else text for text in texts]
        drawn = []
        for i, text in enumerate(asked):
            one = held(run, control, edges[i]) if controlled else run
            net: Any = one.module.net  # type: ignore[union-attr]
            y = net.guide(net.tokenizer([text]), inpainting_guide(batch["x"][i : i + 1], 1 - hole[i : i + 1]))
            drawn.append(one.sample(y, scale=SCALE, steps=arguments.sampling_steps, seed=1000 * seed + i))
        made[name] = torch.cat(drawn).clamp(-1, 1)
    return batch, hole, texts, made


def held(run: Run, control: Any, image: Tensor) -> Run:
    """A run under one control, as `flowlib paint --control` makes it."""
    module: Any = run.module
    net = HeldControls(Controlled(module.net, [control], run.shape[1:]), [image])  # type: ignore[arg-type]
    return replace(run, module=Model(net, module.path, module.predicts).eval())


def measure(seed: int, arguments: Any) -> list[dict[str, Any]]:
    """A row for the scenes, and for each way to paint."""
    batch, hole, texts, made = pictures(arguments.samples, seed, arguments)
    wanted = torch.where(hole > 0, styles.striped(batch["x"]), batch["x"])
    stroke = batch["masks"][:, 0]
    right = (stroke & (hole[:, 0] > 0)).sum((1, 2)) >= 0.5 * stroke.sum((1, 2))
    rows = []
    for name, x in {"scenes": batch["x"], **made}.items():
        rows.append(
            {
                "pictures": name,
                "all": score_captions(x, texts)["all"],
                "outline": float(best_iou(read_masks(x), stroke)[right].mean()),
                "style": style_distance(x, wanted),
                "moved": float(((x - batch["x"]) * (1 - hole)).abs().max()),
            }
        )
    return rows


def best_iou(found: Tensor, wanted: Tensor) -> Tensor:
    """The larger IoU of two masks (B, 2, H, W) with one (B, H, W): (B,)."""
    both = (found & wanted[:, None]).sum((2, 3))
    return (both / (found | wanted[:, None]).sum((2, 3)).clamp(min=1)).max(1).values


def draw(arguments: Any) -> None:
    """The first scenes, their holes, and what is painted in them."""
    batch, hole, texts, made = pictures(SHOWN, 0, arguments)
    checks = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 0.6 - 0.3
    strips: Sequence[Tensor] = [batch["x"], torch.where(hole > 0, checks, batch["x"]), *made.values()]
    figure = picture_grid(torch.cat(list(strips)), columns=SHOWN, rows=["scene", "SAM's hole", *made])
    save_figure(figure, arguments.figure)
    print("\n".join(texts))


if __name__ == "__main__":
    main()
