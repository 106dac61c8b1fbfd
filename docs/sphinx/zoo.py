"""The page of the zoo: of each trained run a picture where it draws, its command, and what it was measured at."""

import io
import shutil
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from flowlib.cli import main
from flowlib.runs.zoo import names
from flowlib.weights import describe_weights, weights_file

# The systems whose runs draw from noise, labels or captions alone. The others match, read or change pictures.
DRAWS = ("flow", "disco", "glide", "inpainter", "dalle", "recaption")

# What each is, and the lecture that says more.
ABOUT = {
    "captioner": ("DALL-E 3's captioner: it writes a caption of a picture", "15_dalle_2_and_3"),
    "captioner-descriptive": ("The captioner, trained on to describe all that there is", "15_dalle_2_and_3"),
    "captioner-short": ("The captioner, trained on to name what there is in a few words", "15_dalle_2_and_3"),
    "clip-conv": ("CLIP with a convolutional encoder of images: which text fits a picture", "11_clip"),
    "clip-conv-2": ("`clip-conv` from another seed", "11_clip"),
    "clip-noised-agree": (
        "CLIP's encoder, trained on to see at noised pictures what it saw at clean ones",
        "12_guidance_by_language",
    ),
    "clip-vit": ("CLIP with a transformer as its encoder of images", "11_clip"),
    "control-edges": ("A ControlNet: the painter `scenes-text` follows edges too", "16_lora_and_controlnet"),
    "control-keypoints": ("A ControlNet: the painter `scenes-text` follows key points too", "16_lora_and_controlnet"),
    "control-mask": ("A ControlNet: the painter `scenes-text` follows a mask too", "16_lora_and_controlnet"),
    "dalle": ("DALL-E: a picture is written token by token behind its caption", "14_dalle"),
    "digits": ("A flow of real handwritten digits of 8 x 8 pixels, by label", "06_networks"),
    "judge": ("The judge reads scenes: which digits, colours, sizes and places", "13_glide"),
    "judge-32": ("The judge of scenes of 32 x 32 pixels, with MNIST's digits", "13_glide"),
    "lora-glyph": ("A LoRA: `scenes-text` learned an object from a few pictures", "16_lora_and_controlnet"),
    "lora-striped": ("A LoRA: `scenes-text` learned a style from a few pictures", "16_lora_and_controlnet"),
    "mnist-hour": ("A flow of MNIST by label: the network of `mnist` after five times the training", "05_guidance"),
    "recaption": ("DALL-E 3: a painter that learned from captions which a captioner wrote", "15_dalle_2_and_3"),
    "sam": ("SAM: masks of what a point, a box or a text means", "17_segment_anything"),
    "scenes": ("A flow of scenes of 16 x 16 pixels, without captions", "12_guidance_by_language"),
    "scenes-inpainter": ("GLIDE's inpainting: a part of a picture is painted anew by a caption", "13_glide"),
    "scenes-secondary": (
        "Disco Diffusion's secondary model: a small flow that guidance looks through",
        "12_guidance_by_language",
    ),
    "scenes-text": ("GLIDE: a flow that paints scenes from captions", "13_glide"),
    "scenes-upsampler": ("GLIDE's upsampler: from 16 x 16 pixels to 32 x 32", "13_glide"),
    "unclip": (
        "DALL-E 2's decoder: it paints a picture from CLIP's embedding of it, which a prior draws for a caption",
        "15_dalle_2_and_3",
    ),
    "unclip-prior": ("DALL-E 2's diffusion prior: from a caption to CLIP's embedding of a picture", "15_dalle_2_and_3"),
    "unclip-prior-autoregressive": (
        "DALL-E 2's autoregressive prior, which writes the embedding number by number",
        "15_dalle_2_and_3",
    ),
}

INTRODUCTION = """\
# The zoo: trained runs that come with the package

`zoo:NAME` stands wherever a command asks for a run's folder, and `load_pretrained("NAME")` loads one in Python. Each is
the run of a recipe as it stands, with the seed of the recipe: nothing is hand-picked. Pictures are drawn when this site
is built, with seed 0. The figures are those that `flowlib evaluate` measured when the weights were made. In those of
scenes from captions, columns such as digit, colour, place and all are shares that were painted as asked, by the judge's
reading; w is the guidance scale, nfe the evaluations of the network for a sample. A wide table scrolls.

```python
from flowlib.runs import load_pretrained

run = load_pretrained("scenes")
pictures = run.sample(count=16, seed=0)  # (16, 3, 16, 16) in [-1, 1]
```
"""


def write(target: Path, kept: Path) -> None:
    """Write zoo.md into `target` and the pictures beside it; `kept` holds those that were drawn before."""
    (target / "zoo").mkdir(parents=True)
    kept.mkdir(parents=True, exist_ok=True)
    text = INTRODUCTION
    for name in names():
        known = describe_weights(name)
        recipe = known["run"]["recipe"]
        size = weights_file(name).stat().st_size / 2**20
        about, lecture = ABOUT[name]
        text += f"\n## {name}\n\n{about} ([lecture {lecture[:2]}](lectures/{lecture}.ipynb)).\n\n"
        picture = kept / f"{name}-{known['sha256'][:16]}.png"
        command = ["sample", f"zoo:{name}", "--count", "24"]
        if recipe["system"]["system"] in DRAWS:
            if not picture.exists():
                draw([*command, "--out", str(picture)])
            shutil.copy(picture, target / "zoo" / f"{name}.png")
            text += f"![What {name} draws: small pictures side by side](zoo/{name}.png)\n\n"
            text += f"`flowlib {' '.join(command)}`\n\n"
        text += (
            f"System `{recipe['system']['system']}`, data `{recipe['data']}`, {size:.2f} MiB, compressed. "
            f"Made by `{known['command']}`: {known['steps']:,} steps, {known['seconds'] / 60:.0f} minutes on "
            f"{known['machine']}.{stands_on(recipe['system'].get('parts'))}\n\n"
        )
        text += table(known["figures"])
    (target / "zoo.md").write_text(text, "utf-8")


def stands_on(parts: Mapping[str, str] | None) -> str:
    """A sentence of the runs that one stands on, or none."""
    return f" Stands on {', '.join(f'`{part}`' for part in parts.values())}." if parts else ""


def draw(command: list[str]) -> None:
    """Let the command line draw; an error if it cannot."""
    with redirect_stdout(io.StringIO()):
        status = main(command)
    if status:
        raise RuntimeError(f"flowlib {' '.join(command)}: exit status {status}")


def table(rows: list[Mapping[str, Any]]) -> str:
    """Rows of a report as a Markdown table; columns that a row lacks stay empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        cells = (row.get(column, "") for column in columns)
        lines.append(
            "| " + " | ".join(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |"
        )
    return "\n".join(lines) + "\n"
