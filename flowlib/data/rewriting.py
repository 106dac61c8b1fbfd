"""Short prompts made descriptive: what they leave open is drawn as scenes draw it.

In Betker et al. (2023) a large language model does this. Here it is a grammar, `read_caption` and `descriptive`, and
the exact law of scenes given what the prompt says: the same role, without what a language model knows of the world.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch

from flowlib.data.layouts import ALONE, SEEN, layouts
from flowlib.text.captions import BACKGROUNDS, Description, Thing, descriptive, read_caption, relation

Kind = TypeVar("Kind")


def rewrite(text: str, generator: torch.Generator) -> str:
    """A descriptive caption of a scene that is as a prompt says, drawn from the law of such scenes.

    Args:
        text: as `read_caption` reads it.
        generator: of what the prompt leaves open.

    Raises:
        ValueError: for a prompt that names no digit, or asks for what is in no scene, such as two digits at one place.

    Example:
        >>> rewrite("A red 7 at the top, on grey!", torch.Generator().manual_seed(0))
        'a small red seven at the top, on grey'
    """
    told = read_caption(text)
    fitting = [layout for layout in _possible(told) if _fits(layout, told)]
    if not fitting:
        raise ValueError(f"a prompt must ask for what a scene can have, got {text!r}")
    things = []
    for thing, (size, place) in zip(told.things, drawn(fitting, generator), strict=True):
        digit, colour = thing.digit, thing.colour
        if digit is None or colour is None:  # a pair that is said stands, though no scene has it
            pairs = [pair for pair in SEEN if digit in (None, pair[0]) and colour in (None, pair[1])]
            digit, colour = drawn(pairs, generator)
        things.append(Thing(digit, colour, size, place))
    paper = told.background
    paper = drawn(range(len(BACKGROUNDS)), generator) if paper is None else paper
    return descriptive(things, paper)


def drawn(choices: Sequence[Kind], generator: torch.Generator) -> Kind:
    """One of some choices, each as likely."""
    return choices[int(torch.randint(len(choices), (), generator=generator))]


def _possible(told: Description) -> Sequence[tuple[tuple[int, int], ...]]:
    """Sizes and places of as many digits, as likely each."""
    return [(one,) for one in ALONE] if len(told.things) == 1 else layouts()


def _fits(layout: tuple[tuple[int, int], ...], told: Description) -> bool:
    said = all(
        thing.size in (None, size) and thing.place in (None, place)
        for thing, (size, place) in zip(told.things, layout, strict=True)
    )
    return said and (told.relation is None or relation(*(place for _, place in layout)) == told.relation)
