"""Byte-pair encoding beside the `tokenizers` package: words, merges, ties and tokens; skipped where it is absent.

Its ties go by the order of its alphabet. So it is given the bytes as characters of the same order, and words cut by us;
that its own rule cuts the same words is one test more. A pair may be learned again in a later word, which only its list
repeats.
"""

import json
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flowlib.text import BPE
from flowlib.text.words import split_words

FIRST, BREAK = 0x4E00, "\n"  # the character of byte 0, and what stands between words
DRAW = random.Random(0)
COLOURS, DIGITS = ("red", "blue", "green", "grey"), ("zero", "one", "two", "three", "seven", "nine", "7", "12")
CAPTIONS = [
    f"{DRAW.choice(('a ', 'A  ', 'the '))}{DRAW.choice(('large ', 'small ', ''))}{DRAW.choice(COLOURS)} "
    f"{DRAW.choice(DIGITS)} {DRAW.choice(('above', 'left of', 'beside'))} a {DRAW.choice(COLOURS)} "
    f"{DRAW.choice(DIGITS)}{DRAW.choice(('.', '', ' on white!', ', née Käfer'))}"
    for _ in range(2000)
]
CORPORA = {
    "captions": CAPTIONS,
    "ab": ["".join(DRAW.choices("ab ", k=DRAW.randint(0, 30))) for _ in range(60)],
    "aaa": ["a" * DRAW.randint(1, 40) for _ in range(20)],
    "bytes": ["".join(chr(DRAW.choice((97, 0xE4, 0x65E5, 0x1F41E, 32))) for _ in range(20)) for _ in range(60)],
    "this file": Path(__file__).read_text("utf-8").splitlines(keepends=True),
}


@pytest.fixture(scope="module")
def tokenizers() -> ModuleType:
    return pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install 'flowlib[peers]'")


def written(text: str) -> str:
    """A text's words, each byte as one character."""
    return BREAK.join("".join(chr(FIRST + byte) for byte in word.encode()) for word in split_words(text))


def trained(tokenizers: ModuleType, texts: list[str], vocabulary: int) -> Any:
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.CharDelimiterSplit(BREAK)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary - 3,
        min_frequency=2,
        initial_alphabet=[chr(FIRST + byte) for byte in range(256)],
        show_progress=False,
    )
    theirs.train_from_iterator([written(text) for text in texts], trainer)
    return theirs


@pytest.mark.parametrize("vocabulary", [280, 400, 1000])
@pytest.mark.parametrize("name", CORPORA)
def test_merges_and_tokens_are_those_of_tokenizers(tokenizers: ModuleType, name: str, vocabulary: int) -> None:
    texts = CORPORA[name]
    ours, theirs = BPE.train(texts, vocabulary), trained(tokenizers, texts, vocabulary)
    model = json.loads(theirs.to_str())["model"]
    merges = [[model["vocab"][piece] for piece in pair] for pair in model["merges"]]
    assert [list(pair) for pair in dict.fromkeys(map(tuple, merges))] == ours.to_dict()["merges"]
    assert len(model["vocab"]) == ours.start
    for text in [*texts[:300], *CAPTIONS[:100], "", "unseen Wörter 99 🐞"]:
        assert theirs.encode(written(text)).ids == ours.encode(text)


def test_words_are_cut_as_gpt2s_are(tokenizers: ModuleType) -> None:
    """Without its list of English endings; and for letters that both call letters."""
    theirs = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in [*CAPTIONS[:200], "  a  b\n\n c_d \t", "x=1; y2 = 'q' ", "日本 Käfer!? ", " ", ""]:
        spans = [span for _, span in theirs.pre_tokenize_str(text)]
        assert [text[first:last] for first, last in spans] == split_words(text)
