"""Styles of writing: one text for people and the judge, another for a tokenizer."""

from itertools import combinations

import pytest

from flowlib.nets.tokenizer import Tokenizer
from flowlib.text.captions import read_caption
from flowlib.text.styles import ODD, STYLES, restyle

TEXTS = ("a red seven and a blue two", "a large red seven at the upper left above a small blue two, on grey")


@pytest.mark.parametrize("text", TEXTS)
def test_every_style_is_other_tokens_and_the_same_wish(text: str) -> None:
    words = Tokenizer(400, 100)
    words.learn([restyle(one, style) for one in TEXTS for style in STYLES])
    tokens = {style: tuple(words([restyle(text, style)])[0].tolist()) for style in STYLES}
    assert all(tokens[a] != tokens[b] for a, b in combinations(STYLES, 2))
    assert {read_caption(restyle(text, style)) for style in STYLES} == {read_caption(text)}
    assert restyle(text, "plain") == text
    assert "plain" not in ODD
    assert len(ODD) == len(STYLES) - 1


def test_an_unknown_style_is_named() -> None:
    with pytest.raises(ValueError, match="style must be one of plain, leading space"):
        restyle("a two", "loud")
