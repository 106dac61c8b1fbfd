"""Whether attributes go to the digits that they are said of: prompts of two digits, told apart by one kind alone.

After T2I-CompBench (Huang et al. 2023, arXiv:2307.06350), by which Betker et al. (2023) measure; its kinds are colour,
shape and texture, those of scenes are colour, size and place. The judge of scenes reads what there is.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from flowlib.checks import check_choice
from flowlib.data.layouts import SEEN
from flowlib.data.rewriting import drawn
from flowlib.metrics.scenes import compare, read_scenes
from flowlib.text.captions import DIGITS, RELATIONS, SIZES, Description, Thing, read_caption, short

BINDING = ("colour", "size", "place")
_OTHER = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}


def binding_prompts(kind: str, count: int, generator: torch.Generator) -> list[str]:
    """Prompts of two different digits that differ in one of the kinds `BINDING`, and say nothing else.

    Example:
        >>> texts = [binding_prompts(kind, 1, torch.Generator().manual_seed(0))[0] for kind in BINDING]
        >>> [len(read_caption(text).things) for text in texts], read_caption(texts[2]).relation in RELATIONS
        ([2, 2, 2], True)
    """
    check_choice("kind", kind, BINDING)
    texts = []
    for _ in range(count):
        digit, colour = drawn(SEEN, generator)
        other, another = drawn([pair for pair in SEEN if pair[0] != digit and pair[1] != colour], generator)
        if kind == "colour":
            texts.append(short([Thing(digit, colour), Thing(other, another)]))
        elif kind == "size":
            first, second = drawn([SIZES, SIZES[::-1]], generator)
            texts.append(f"a {first} {DIGITS[digit]} and a {second} {DIGITS[other]}")
        else:
            texts.append(f"a {DIGITS[digit]} {drawn(RELATIONS, generator)} a {DIGITS[other]}")
    return texts


def exchanged(asked: Description) -> Description:
    """What is asked for, with the attributes of the two digits exchanged."""
    one, other = asked.things
    things = replace(other, digit=one.digit), replace(one, digit=other.digit)
    return replace(asked, things=things, relation=None if asked.relation is None else _OTHER[asked.relation])


def binding(images: Tensor, texts: Sequence[str]) -> dict[str, float]:
    """How often attributes are bound as asked for.

    Args:
        images: (B, 3, H, W) in [-1, 1], of which each was asked for by a text.
        texts: of `binding_prompts`.

    Returns:
        shares of images: "there", with the two digits and no third; "bound", these with what the text says of each, the
        score; "exchanged", these with what it says of the other one.

    Raises:
        ValueError: for texts that are not as many as images, or not of two digits.
    """
    if len(texts) != len(images):
        raise ValueError(f"texts must be {len(images)}, one an image, got {len(texts)}")
    reading = read_scenes(images)
    found = {"there": 0, "bound": 0, "exchanged": 0}
    for text, row in zip(texts, reading.objects.tolist(), strict=True):
        asked, things = read_caption(text), [Thing(*thing) for thing in row if thing[0] >= 0]
        if len(asked.things) != 2:
            raise ValueError(f"texts must name two digits, got {text!r}")
        plain = Description(tuple(Thing(thing.digit) for thing in asked.things))
        for name, one in (("there", plain), ("bound", asked), ("exchanged", exchanged(asked))):
            found[name] += compare(things, 0, one)["all"]
    return {name: times / len(texts) for name, times in found.items()}
