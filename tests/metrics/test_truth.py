"""The truth of captions: all of it on true ones, exact shares on ones with planted mistakes."""

import pytest
import torch

from flowlib.data import Dataset, Scenes
from flowlib.metrics.truth import caption_truth, check_scenes, says_all
from flowlib.text.captions import COLOURS, DIGITS, Thing, descriptive, read_caption

SOME = Scenes(split="test").batch(torch.arange(200))
SCENES = SOME["objects"], SOME["background"]
KINDS = {"digit": 10, "colour": 8, "size": 2, "place": 9}


def things(i: int) -> list[Thing]:
    return [Thing(*row) for row in SOME["objects"][i].tolist() if row[0] >= 0]


def test_true_captions_are_true() -> None:
    whole = caption_truth(SOME["caption"], *SCENES)
    assert set(whole) == {"parsed", *KINDS, "relation", "background", "count", "all", "complete"}
    assert set(whole.values()) == {1.0}
    brief = caption_truth(SOME["short"], *SCENES)
    assert brief == {"parsed": 1.0, "digit": 1.0, "colour": 1.0, "count": 1.0, "all": 1.0, "complete": 0.0}


@pytest.mark.parametrize("kind", KINDS)
def test_one_planted_mistake_is_one_that_is_found(kind: str) -> None:
    """In every fourth caption of one digit, one thing of one kind is wrong."""
    alone = [i for i in range(200) if len(things(i)) == 1][:80]
    texts = []
    for n, i in enumerate(alone):
        (thing,) = things(i)
        said = vars(thing) | {kind: (getattr(thing, kind) + (n % 4 == 0)) % KINDS[kind]}
        texts.append(descriptive([Thing(**said)], int(SOME["background"][i])))
    found = caption_truth(texts, *(column[alone] for column in SCENES))
    for name in (*KINDS, "background", "count"):
        assert found[name] == (0.75 if name == kind else 1.0)
    assert found["all"] == found["complete"] == 0.75


def test_a_wrong_background_relation_and_number_of_digits_are_found() -> None:
    two = [i for i in range(200) if len(things(i)) == 2][:40]
    scenes = [column[two] for column in SCENES]
    opposite = {" above ": " below ", " below ": " above ", " left of ": " right of ", " right of ": " left of "}
    texts = [SOME["caption"][i] for i in two]
    for n in range(0, 40, 5):
        word = next(word for word in opposite if word in texts[n])
        texts[n] = texts[n].replace(word, opposite[word])
    assert caption_truth(texts, *scenes)["relation"] == 0.8
    papers = [text.rsplit(" ", 1)[0] + " black" for text in (SOME["caption"][i] for i in two)]
    assert caption_truth(papers, *scenes)["background"] == float((scenes[1] == 0).double().mean())
    first = [f"a {COLOURS[things(i)[0].colour]} {DIGITS[things(i)[0].digit]}" for i in two]  # type: ignore[index]
    found = caption_truth(first, *scenes)
    assert (found["digit"], found["colour"], found["count"], found["all"]) == (1.0, 1.0, 0.0, 0.0)


def test_what_says_nothing_is_not_parsed_and_counts_in_complete() -> None:
    texts = ["untitled 003" if i % 4 == 0 else text for i, text in enumerate(SOME["caption"])]
    found = caption_truth(texts, *SCENES)
    assert found["parsed"] == found["complete"] == 0.75
    assert found["all"] == 1.0
    assert caption_truth(["?"] * 200, *SCENES) == {"parsed": 0.0, "complete": 0.0}


@pytest.mark.parametrize(
    ("text", "all_of_it"),
    [
        ("a large red seven at the upper left above a small blue two, on grey", True),
        ("a large red seven at the upper left, on grey", True),
        ("a large red seven at the upper left", False),
        ("a large red seven, on grey", False),
        ("a large red seven at the upper left and a small blue two, on grey", False),
        ("a large red seven at the upper left above a blue two, on grey", False),
    ],
)
def test_what_is_left_open_is_seen(text: str, all_of_it: bool) -> None:
    assert says_all(read_caption(text)) == all_of_it


def test_data_of_which_nothing_is_known_are_named() -> None:
    check_scenes(Scenes(split="test").first(3))
    with pytest.raises(ValueError, match="'own' has no \\['short', 'objects', 'background'\\]"):
        check_scenes(Dataset(torch.zeros(2, 3, 16, 16), captions=["a", "b"]))


def test_columns_of_other_lengths_are_named() -> None:
    with pytest.raises(ValueError, match="texts must be 200, one a scene, got 1"):
        caption_truth(["a two"], *SCENES)
