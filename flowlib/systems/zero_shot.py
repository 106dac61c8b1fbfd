"""What a CLIP can do untaught: find the caption of an image, and read labels that are asked for in words."""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlib.data import Dataset
from flowlib.systems.system import Row
from flowlib.text.captions import COLOURS, DIGITS, NAMES

GALLERY = 256  # images among which a caption's own is looked for
TEMPLATES = {
    "digit": ("{}", "a {}", "small {}", "large {}", "{} on grey", *(f"a {colour} {{}}" for colour in COLOURS)),
    "colour": ("{} digit", "a {} digit", "small {} digit", *(f"a {{}} {digit}" for digit in DIGITS)),
    "size": ("{} digit", "{} seven", *(f"a {{}} {colour} {digit}" for colour in COLOURS[:4] for digit in DIGITS[:4])),
}


class Encoder(Protocol):
    """What reads images and texts."""

    def image_features(self, images: Tensor) -> Tensor: ...
    def text_features(self, texts: Sequence[str]) -> Tensor: ...


@torch.no_grad()
def classify(clip: Encoder, images: Tensor, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Which name fits each image best, (B,): an index into `names`.

    With several templates, a class is the mean of its prompts' features (Radford et al. 2021, section 3.1.4): one
    classifier for the price of one.

    Args:
        clip: with features of unit length.
        images: (B, C, H, W).
        names: of the classes.
        templates: prompts with a place for the name, such as "a red {}".

    Raises:
        ValueError: without a name, or for a template without a place for it.
    """
    if not names or not templates or any("{}" not in template for template in templates):
        raise ValueError(f"names and templates, each with a {{}}, must be given; got {names!r}, {templates!r}")
    texts = [template.format(name) for name in names for template in templates]
    prompts = clip.text_features(texts).unflatten(0, (len(names), -1)).mean(1)
    device = prompts.device
    parts = [clip.image_features(part.to(device)) @ F.normalize(prompts, dim=1).T for part in images.split(500)]
    return torch.cat(parts).argmax(1).cpu()


@torch.no_grad()
def retrieval(clip: Encoder, test: Dataset, column: str = "caption") -> Row:
    """How often the nearest of 256 captions is the image's, and the nearest image the caption's (recall@1).

    An equal caption counts as found; over as many galleries of 256 as the set has, at least one.
    """
    batch = test.batch(torch.arange(len(test)))
    x, texts = batch["x"], batch[column]
    to_text, to_image, asked = 0, 0, 0
    for start in range(0, max(1, len(x) - GALLERY + 1), GALLERY):
        own = texts[start : start + GALLERY]
        text = clip.text_features(own)
        cosine = clip.image_features(x[start : start + GALLERY].to(text.device)) @ text.T
        to_text += sum(own[j] == own[i] for i, j in enumerate(cosine.argmax(1).tolist()))
        to_image += sum(own[j] == own[i] for i, j in enumerate(cosine.argmax(0).tolist()))
        asked += len(own)
    return {
        "task": f"caption among {min(GALLERY, len(x))}",
        "recall@1": to_text / asked,
        "image recall@1": to_image / asked,
    }


def zero_shot(clip: Encoder, test: Dataset) -> list[Row]:
    """Rows for digit, colour and size of scenes with one digit: read by one prompt, and by an ensemble of prompts."""
    batch = test.batch(torch.arange(len(test)))
    alone = batch["objects"][:, 1, 0] < 0
    rows: list[Row] = []
    for i, name in enumerate(("digit", "colour", "size")):
        truth, images = batch["objects"][alone, 0, i], batch["x"][alone]
        row: Row = {"task": f"zero-shot {name}"}
        for column, templates in (("one prompt", TEMPLATES[name][:1]), ("ensemble", TEMPLATES[name])):
            row[column] = float((classify(clip, images, NAMES[name], templates) == truth).double().mean())
        rows.append(row)
    return rows
