"""Short prompts made descriptive: what is said stays, what is open is drawn as scenes draw it."""

from collections import Counter

import pytest
import torch
from examples import seeded

from flowlib.data import Scenes
from flowlib.data.layouts import HELD_OUT, SEEN, layouts
from flowlib.data.rewriting import rewrite
from flowlib.text.captions import NAMES, read_caption, relation

DRAWS = 4000


def gap(count: int) -> float:
    """What a frequency of `count` values differs from its probability by, at most, but with probability 1e-6."""
    p = 1 / count
    return 5.5 * (p * (1 - p) / DRAWS) ** 0.5


def test_what_a_prompt_says_stands_and_nothing_is_left_open() -> None:
    batch = Scenes(split="test").batch(torch.arange(150))
    generator = seeded(0)
    for text in (*batch["short"], *batch["caption"], *(text for text in batch["noisy"] if not text[-1].isdigit())):
        asked, told = read_caption(text), read_caption(rewrite(text, generator))
        assert len(told.things) == len(asked.things)
        for thing, new in zip(asked.things, told.things, strict=True):
            assert all(getattr(thing, name) in (None, getattr(new, name)) for name in NAMES)
            assert None not in (new.digit, new.colour, new.size)
        assert asked.relation in (None, told.relation)
        assert asked.background in (None, told.background)
        assert None not in (told.background, told.things[0].place)
        assert (told.relation is None) == (len(told.things) == 1)


def test_a_descriptive_caption_is_left_as_it_is() -> None:
    for text in Scenes(split="test").batch(torch.arange(100))["caption"]:
        assert rewrite(text, seeded(0)) == text


def test_what_is_open_has_the_law_of_scenes() -> None:
    generator = seeded(1)
    told = [read_caption(rewrite("a red digit", generator)) for _ in range(DRAWS)]
    fitting = [digit for digit, colour in SEEN if colour == 0]
    digits = Counter(one.things[0].digit for one in told)
    assert set(digits) == set(fitting)
    assert max(abs(n / DRAWS - 1 / len(fitting)) for n in digits.values()) < gap(len(fitting))
    where = Counter((one.things[0].size, one.things[0].place) for one in told)
    assert len(where) == 18
    assert max(abs(n / DRAWS - 1 / 18) for n in where.values()) < gap(18)
    papers = Counter(one.background for one in told)
    assert max(abs(n / DRAWS - 1 / 3) for n in papers.values()) < gap(3)


def test_two_digits_lie_as_in_scenes_that_fit() -> None:
    generator = seeded(2)
    told = [read_caption(rewrite("a small one left of a large two", generator)) for _ in range(DRAWS)]
    fitting = [
        first
        for (size, first), (other, second) in layouts()
        if (size, other) == (0, 1) and relation(first, second) == "left of"
    ]
    expected, found = Counter(fitting), Counter(one.things[0].place for one in told)
    assert set(found) == set(expected)
    for place, times in found.items():
        assert abs(times / DRAWS - expected[place] / len(fitting)) < gap(2)


def test_a_pair_that_no_scene_has_is_kept() -> None:
    digit, colour = HELD_OUT[0]
    text = f"a {NAMES['colour'][colour]} {NAMES['digit'][digit]}"
    (thing,) = read_caption(rewrite(text, seeded(0))).things
    assert (thing.digit, thing.colour) == (digit, colour)
    assert (digit, colour) not in SEEN


@pytest.mark.parametrize("text", ["a two at the top and a one at the top", "a two at the top above a one at the top"])
def test_what_no_scene_can_be_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="a prompt must ask for what a scene can have, got 'a two at the top"):
        rewrite(text, seeded(0))


def test_what_names_no_digit_is_named() -> None:
    with pytest.raises(ValueError, match="must name one or two digits"):
        rewrite("untitled 003", seeded(0))
