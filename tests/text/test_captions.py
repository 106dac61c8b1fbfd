"""Captions are read back as they were written, in whatever spelling; what says nothing is named."""

from dataclasses import fields
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlib.text.captions import (
    BACKGROUNDS,
    NAMES,
    PLACES,
    Description,
    Thing,
    descriptive,
    noisy,
    read_caption,
    relation,
    short,
)

THING = st.builds(Thing, st.integers(0, 9), st.integers(0, 7), st.integers(0, 1), st.integers(0, 8))


@given(THING, THING, st.integers(0, 2), st.booleans())
def test_what_is_written_is_read_back(first: Thing, second: Thing, background: int, two: bool) -> None:
    things = [first, second] if two and first.place != second.place else [first]
    told = read_caption(descriptive(things, background))
    assert told.background == background
    assert told.things[0] == first
    if len(things) == 2:
        assert told.things[1] == Thing(second.digit, second.colour, second.size)
        assert told.relation == relation(first.place or 0, second.place or 0)
    assert read_caption(short(things)) == Description(tuple(Thing(t.digit, t.colour) for t in things))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  A LARGE red 7, at the Upper  left!", Description((Thing(7, 0, 1, 0),))),
        ("a seven", Description((Thing(7),))),
        ("a blue digit", Description((Thing(None, 5),))),
        ("a digit", Description((Thing(),))),
        ("a blue two at the left left of a one", Description((Thing(2, 5, None, 3), Thing(1)), "left of")),
        ("a one at the right", Description((Thing(1, None, None, 5),))),
        ("four below six on white", Description((Thing(4), Thing(6)), "below", 2)),
        ("a painting of a red one and a two by a master", Description((Thing(1, 0), Thing(2)))),
        ("a two at the lower right, on black", Description((Thing(2, None, None, 8), ), None, 0)),
    ],
)  # fmt: skip
def test_free_texts(text: str, expected: Description) -> None:
    assert read_caption(text) == expected


@pytest.mark.parametrize("text", ["", "a dog", "photo 123x", "one and two and three"])
def test_what_asks_for_no_scene_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="a caption must name one or two digits"):
        read_caption(text)


def test_relations_turn_round() -> None:
    opposite = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
    for a, b in product(range(9), range(9)):
        if a != b:
            assert relation(a, b) == opposite[relation(b, a)]
    assert relation(2, 3) == "above"
    assert relation(3, 5) == "left of"


def test_noisy_captions_go_wrong_where_chances_say_so() -> None:
    things = [Thing(7, 0, 1, 0), Thing(2, 5, 0, 8)]
    right = noisy(things, 1, [0.9, 0.9] + [0.99] * 14)
    assert right == "large red seven and small blue two"
    assert noisy(things, 1, [0.01, 0.3, 0.5] + [0.0] * 13) == "photo 500"
    assert noisy(things, 1, [0.9, 0.1] + [0.99] * 14) == "large red seven"
    assert noisy(things, 1, [0.9] + [0.1] * 15) == "digit on grey"
    wrong = noisy(things, 1, [0.9, 0.1, 0.99, 0.41, 0.0, 0.99] + [0.9] * 10)
    assert wrong == "large orange seven"


def test_names_belong_to_the_attributes_in_their_order() -> None:
    assert [part.name for part in fields(Thing)] == list(NAMES)
    assert len(PLACES) == 9
    assert len(BACKGROUNDS) == 3
