"""The binding benchmark: its prompts, and what it finds in scenes that are known."""

import pytest
import torch
from examples import seeded

from flowlib.data import Scenes
from flowlib.data.layouts import SEEN
from flowlib.metrics.scenes import read_scenes
from flowlib.systems.binding import BINDING, binding, binding_prompts, exchanged
from flowlib.text.captions import COLOURS, DIGITS, SIZES, Description, Thing, read_caption, relation


@pytest.mark.parametrize("kind", BINDING)
def test_prompts_name_two_digits_apart_by_one_kind_alone(kind: str) -> None:
    texts = binding_prompts(kind, 300, seeded(0))
    assert texts == binding_prompts(kind, 300, seeded(0)) != binding_prompts(kind, 300, seeded(1))
    for text in texts:
        told = read_caption(text)
        one, other = told.things
        assert one.digit != other.digit
        assert (one.colour != other.colour) == (kind == "colour")
        assert (one.size != other.size) == (kind == "size")
        assert (told.relation is not None) == (kind == "place")
        assert (one.place, other.place, told.background) == (None, None, None)
        if kind == "colour":
            assert {(thing.digit, thing.colour) for thing in told.things} <= set(SEEN)


def test_an_exchange_is_of_everything_but_the_digits() -> None:
    asked = Description((Thing(7, 0), Thing(2, 5)), "above")
    assert exchanged(asked) == Description((Thing(7, 5), Thing(2, 0)), "below")
    assert exchanged(exchanged(asked)) == asked
    assert exchanged(read_caption("a small one and a large two")) == read_caption("a large one and a small two")


def known(kind: str) -> tuple[torch.Tensor, list[str]]:
    """Test scenes of two digits that the judge reads right and that differ in a kind, and what is said of them."""
    batch = Scenes(split="test").batch(torch.arange(400))
    objects, read = batch["objects"], read_scenes(batch["x"]).objects
    chosen, texts = [], []
    for i, (first, second) in enumerate(objects.tolist()):
        same = {tuple(first), tuple(second)} == {tuple(row) for row in read[i].tolist()}
        if second[0] < 0 or not same or first[0] == second[0]:
            continue
        digits, kinds = (DIGITS[first[0]], DIGITS[second[0]]), {"colour": (1, COLOURS), "size": (2, SIZES)}
        if kind == "place":
            texts.append(f"a {digits[0]} {relation(first[3], second[3])} a {digits[1]}")
        else:
            place, names = kinds[kind]
            if first[place] == second[place]:
                continue
            texts.append(f"a {names[first[place]]} {digits[0]} and a {names[second[place]]} {digits[1]}")
        chosen.append(i)
    return batch["x"][chosen], texts


def exchange_digits(text: str) -> str:
    one, other = (word for word in text.split() if word in DIGITS)
    return " ".join({one: other, other: one}.get(word, word) for word in text.split())


@pytest.mark.parametrize("kind", BINDING)
def test_what_is_bound_and_what_is_exchanged_is_told_apart(kind: str) -> None:
    images, texts = known(kind)
    assert len(texts) > 30
    assert binding(images, texts) == {"there": 1.0, "bound": 1.0, "exchanged": 0.0}
    swapped = [exchange_digits(text) for text in texts]
    assert binding(images, swapped) == {"there": 1.0, "bound": 0.0, "exchanged": 1.0}
    quarter = [swapped[i] if i % 4 == 0 else text for i, text in enumerate(texts)][: len(texts) // 4 * 4]
    found = binding(images[: len(quarter)], quarter)
    assert found == {"there": 1.0, "bound": 0.75, "exchanged": 0.25}


def test_a_missing_digit_is_not_there() -> None:
    batch = Scenes(split="test").batch(torch.arange(60))
    alone = batch["objects"][:, 1, 0] < 0
    texts = ["a red one and a blue two"] * int(alone.sum())
    assert binding(batch["x"][alone], texts) == {"there": 0.0, "bound": 0.0, "exchanged": 0.0}


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="kind must be one of colour, size, place"):
        binding_prompts("shape", 1, seeded(0))
    with pytest.raises(ValueError, match="texts must be 2, one an image, got 1"):
        binding(torch.zeros(2, 3, 16, 16), ["a two"])
    with pytest.raises(ValueError, match="texts must name two digits, got 'a two'"):
        binding(torch.zeros(1, 3, 16, 16), ["a two"])
