"""Captions of scenes of digits: written from what is in a scene, and read back into what they ask for.

    a large red seven at the upper left above a small blue two, on grey

Three kinds, as DALL-E 3 has them (Betker et al. 2023, section 2): "noisy" ones are like the web's, incomplete and at a
stated rate wrong; "short" ones name what there is; "descriptive" ones also say where, how large and on what.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from flowlib.text.vocabulary import DIGITS

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SIZES = ("small", "large")
PLACES = (
    *("upper left", "top", "upper right"),
    *("left", "centre", "right"),
    *("lower left", "bottom", "lower right"),
)  # in three rows of three
BACKGROUNDS = ("black", "grey", "white")
RELATIONS = ("above", "below", "left of", "right of")
KINDS = ("noisy", "short", "descriptive")

DROPPED, WRONG, USELESS = 0.4, 0.1, 0.05  # rates of noisy captions: an attribute; one that is said; a whole caption


@dataclass(frozen=True)
class Thing:
    """A digit in a scene, or what a caption says of one: places in the lists above, None for what is not said."""

    digit: int | None = None
    colour: int | None = None
    size: int | None = None
    place: int | None = None


NAMES = {"digit": DIGITS, "colour": COLOURS, "size": SIZES, "place": PLACES}


@dataclass(frozen=True)
class Description:
    """What a caption asks for.

    Attributes:
        things: one or two, in the caption's order.
        relation: of the first to the second, one of `RELATIONS`, or None.
        background: a place in `BACKGROUNDS`, or None.
    """

    things: tuple[Thing, ...]
    relation: str | None = None
    background: int | None = None


def relation(first: int, second: int) -> str:
    """Where the place `first` lies, seen from the place `second`: by rows, and in one row by columns."""
    (row, column), (other_row, other_column) = divmod(first, 3), divmod(second, 3)
    if row != other_row:
        return "above" if row < other_row else "below"
    return "left of" if column < other_column else "right of"


def descriptive(things: Sequence[Thing], background: int) -> str:
    """All that is in a scene of one or two things, of which everything is known.

    Example:
        >>> descriptive([Thing(7, 0, 1, 0), Thing(2, 5, 0, 8)], 1)
        'a large red seven at the upper left above a small blue two, on grey'
    """
    names = [f"a {SIZES[thing.size]} {COLOURS[thing.colour]} {DIGITS[thing.digit]}" for thing in things]  # type: ignore[index]
    text = f"{names[0]} at the {PLACES[things[0].place]}"  # type: ignore[index]
    if len(things) > 1:
        text += f" {relation(things[0].place, things[1].place)} {names[1]}"  # type: ignore[arg-type]
    return f"{text}, on {BACKGROUNDS[background]}"


def short(things: Sequence[Thing]) -> str:
    """What there is: "a red seven and a blue two"."""
    return " and ".join(
        f"{_article(COLOURS[thing.colour])} {COLOURS[thing.colour]} {DIGITS[thing.digit]}"  # type: ignore[index]
        for thing in things
    )


def noisy(things: Sequence[Thing], background: int, chances: Sequence[float]) -> str:
    """A caption like the web's, by 16 chances, uniform in [0, 1).

    A share `USELESS` says nothing of the scene. Else each attribute is left out at the rate `DROPPED`, and one that is
    said is wrong at the rate `WRONG`. The second thing is left out half of the time, the background mostly.
    """
    draw = iter(chances)
    if next(draw) < USELESS:
        return ("image", "photo", "untitled", "my scene")[int(4 * next(draw))] + f" {int(1000 * next(draw)):03d}"
    shown = things[: 1 if next(draw) < 0.5 else 2]
    texts = []
    for thing in shown:
        said = {}
        for name in ("size", "colour", "digit"):
            value, chance = getattr(thing, name), next(draw)
            if chance >= DROPPED:
                wrong = (chance - DROPPED) / (1 - DROPPED) < WRONG
                shift = 1 + int((len(NAMES[name]) - 1) * next(draw)) if wrong else 0
                said[name] = NAMES[name][(value + shift) % len(NAMES[name])]
        texts.append(" ".join([*said.values(), *([] if "digit" in said else ["digit"])]))
    text = " and ".join(texts)
    return f"{text} on {BACKGROUNDS[background]}" if next(draw) < 0.2 else text


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


_WORDS = {word: (name, i) for name in ("digit", "colour", "size") for i, word in enumerate(NAMES[name])}
_WORDS |= {str(i): ("digit", i) for i in range(10)}
_PLACE = re.compile(rf"at the ({'|'.join(sorted(PLACES, key=len, reverse=True))})\b")
_BACKGROUND = re.compile(rf"\bon ({'|'.join(BACKGROUNDS)})\b")
_RELATION = re.compile(rf"(?<!the )\b({'|'.join(RELATIONS)})\b")


def read_caption(text: str) -> Description:
    """What a caption asks for, in whatever case, spacing and punctuation; words that are not known are passed over.

    Raises:
        ValueError: if it names no thing, or more than two.

    Example:
        >>> read_caption(" A red 7 above a two").relation
        'above'
    """
    plain = re.sub(r"[^\w\s]", " ", text.lower())
    plain = re.sub(r"\s+", " ", plain)
    background = _BACKGROUND.search(plain)
    plain = _BACKGROUND.sub("", plain)
    between = _RELATION.search(_PLACE.sub("", plain))
    things: list[Thing] = []
    for clause in re.split(rf"\b(?:and|{'|'.join(RELATIONS)})\b", _PLACE.sub(_as_one_word, plain)):
        said = dict(_WORDS[word] for word in clause.split() if word in _WORDS)
        place = re.search(r"at_(\d)", clause)
        if place:
            said["place"] = int(place[1])
        if said or "digit" in clause.split():
            things.append(Thing(**said))
    if not 1 <= len(things) <= 2:
        raise ValueError(f"a caption must name one or two digits, like 'a red seven'; got {text!r}")
    return Description(
        tuple(things),
        between[1] if between and len(things) == 2 else None,
        None if background is None else BACKGROUNDS.index(background[1]),
    )


def _as_one_word(match: re.Match[str]) -> str:
    return f"at_{PLACES.index(match[1])}"
