"""A vocabulary: texts become tokens and texts again."""

import pytest

from flowlib.text import DIGITS, PADDING, START, Vocabulary

VOCABULARY = Vocabulary(("bold", "thin", *DIGITS), length=5)
TEXTS = ["bold seven", "three", "", "thin thin nine zero"]


def test_texts_become_tokens_and_texts_again() -> None:
    y = VOCABULARY.encode(TEXTS)
    assert y.tolist()[0] == [START, 2, 2 + 2 + 7, PADDING, PADDING]
    assert y.tolist()[2] == [START] + [PADDING] * 4
    assert VOCABULARY.decode(y) == TEXTS
    assert len(VOCABULARY) == 14
    for texts, message in ((["bald"], "bald"), (["one " * 5], "at most 4 words")):
        with pytest.raises(ValueError, match=message):
            VOCABULARY.encode(texts)
    for words in (("a", "a"), ("a b",), ("",), "abc"):
        with pytest.raises(ValueError, match="words must be"):
            Vocabulary(words)
