"""The tokenizer of the page "Scenes", in JavaScript, is the package's: the same tokens of any text."""

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from flowlib.data import load
from flowlib.nets.tokenizer import Tokenizer
from flowlib.runs import load_pretrained
from flowlib.systems.graphs import described
from flowlib.text.words import split_words

HERE = Path(__file__).parent
ODD = [
    *("", " ", "a", "  a  red\tseven \n", "A RED seven!", "7 and 77, 3_4__", "ein Käfer 🐞", "½ ² Ⅷ 一 ٣٤ क़"),
    *("\x1c\x85\u2028x", "<start>a<end>", "\ufeffa\u200bb", "a" * 30),
]


def values(tokenizer: Tokenizer, texts: list[str]) -> list[dict[str, Any]]:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    given = json.dumps({"tokenizer": described(tokenizer), "texts": texts})
    script = ["node", str(HERE / "bpe_values.mjs")]
    done = subprocess.run(script, input=given, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_pretrained("scenes-text", "cpu").field.net.tokenizer


def test_captions_of_scenes_are_the_same_rows(tokenizer: Tokenizer) -> None:
    batch = load("scenes").batch(torch.arange(1000))
    texts = [*batch["caption"], *batch["noisy"], *batch["short"]]
    found = values(tokenizer, texts)
    assert [one["row"] for one in found] == tokenizer(texts).tolist()


def test_any_text_has_the_same_tokens(tokenizer: Tokenizer) -> None:
    draw = random.Random(0)
    letters = [chr(code) for code in [*range(0x530), *range(0x2000, 0x2200), 0x4E00, 0x1F41E, 0x1D7D8, 0xFFFD]]
    texts = ODD + ["".join(draw.choices(letters + [" "] * 100, k=draw.randrange(40))) for _ in range(1000)]
    wrong = [
        (text, split_words(text))
        for text, one in zip(texts, values(tokenizer, texts), strict=True)
        if one["tokens"] != tokenizer.bpe.encode(text)
    ]
    assert wrong == []


def test_pieces_that_can_be_made_in_two_ways_are_one_token() -> None:
    made = Tokenizer(280, 24)
    made.learn(["ab abc bc abcabc abcabc", "aaaa aaa aa", "abab ababab"] * 3)
    texts = ["abc", "aaaaa", "ababa bcb", "cab aabb"]
    assert [one["row"] for one in values(made, texts)] == made(texts).tolist()


def test_a_text_that_is_too_long_is_refused(tokenizer: Tokenizer) -> None:
    (found,) = values(tokenizer, ["q" * 23])
    assert found["row"] == "The caption is too long: 23 tokens, and 22 at most."
    with pytest.raises(ValueError, match="at most 22 tokens, got 23"):
        tokenizer(["q" * 23])
