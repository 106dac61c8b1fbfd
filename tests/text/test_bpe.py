"""Byte-pair encoding: any text comes back, training is the definition written out, and its rules are those stated."""

import json
import random
from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowlib.text import BPE
from flowlib.text.words import split_words

CAPTIONS = [
    f"{start}{size} {colour} {digit} {end}"
    for start in ("a ", "A  ", "")
    for size in ("large", "small")
    for colour in ("red", "blue", "green")
    for digit in ("seven", "two", "one", "7")
    for end in ("on grey", "above it.", "")
]
LEARNED = BPE.train(CAPTIONS, vocabulary=290)
TEXTS = settings(derandomize=True, database=None, deadline=None, max_examples=200)


@TEXTS
@given(text=st.text())
@example("")
@example("  two spaces\t\n and _signs_ 12٣ ² é 🐞\x1c\x85\u00a0\u2028")
@example("<start> red <pad>")
@example("\x00\x7f")
def test_every_text_comes_back(text: str) -> None:
    tokens = LEARNED.encode(text)
    assert LEARNED.decode(tokens) == text
    assert b"".join(LEARNED.pieces[token] for token in tokens) == text.encode()
    assert "".join(split_words(text)) == text
    assert LEARNED.decode(LEARNED.encode(text, 0.5, torch.Generator().manual_seed(0))) == text


def test_where_words_are_cut() -> None:
    assert split_words("A red7 seven, 12_x's  \n\nend ") == [
        "A", " red", "7", " seven", ",", " 12", "_", "x", "'", "s", "  \n", "\n", "end", " ",
    ]  # fmt: skip
    assert split_words(" rot Käfer 日本") == [" rot", " Käfer", " 日本"]
    assert split_words("") == []


def brute_force(texts: list[str], vocabulary: int) -> list[list[int]]:
    """The merges, with every pair of every word counted anew each time, as the definition says."""
    words = [list(word.encode()) for text in texts for word in split_words(text)]
    pieces, merges = [bytes([byte]) for byte in range(256)], []
    while len(pieces) + 3 < vocabulary:
        counts = Counter(pair for word in words for pair in pairwise(word))
        most = max(counts.values(), default=0)
        if most < 2:
            break
        a, b = min(pair for pair, count in counts.items() if count == most)
        if (piece := pieces[a] + pieces[b]) not in pieces:
            pieces.append(piece)
        if [a, b] not in merges:
            merges.append([a, b])
        for i, word in enumerate(words):
            joined = []
            while word:
                if word[:2] == [a, b]:
                    joined.append(pieces.index(piece))
                    word = word[2:]
                else:
                    joined.append(word[0])
                    word = word[1:]
            words[i] = joined
    return merges


@pytest.mark.parametrize("letters", ["a", "ab", "ab ", "abcde  ", "aä7 ."])
def test_training_is_the_definition_written_out(letters: str) -> None:
    draw = random.Random(0)
    for size in (0, 1, 3, 10, 40):
        texts = ["".join(draw.choices(letters, k=draw.randint(0, 12))) for _ in range(size)]
        for vocabulary in (259, 262, 290):
            bpe = BPE.train(texts, vocabulary)
            assert bpe.to_dict()["merges"] == brute_force(texts, vocabulary)
            assert len(bpe) <= vocabulary
    assert BPE.train(CAPTIONS, 300).to_dict()["merges"] == brute_force(CAPTIONS, 300)


def test_of_pairs_as_frequent_the_lowest_tokens_go_first() -> None:
    a, b, c, d = b"abcd"
    assert BPE.train(["cd", "ab", "cd", "ab"], 261).to_dict()["merges"] == [[a, b], [c, d]]
    assert BPE.train(["cd", "ab", "cd", "ab", "cd"], 260).to_dict()["merges"] == [[c, d]]
    assert BPE.train(["ad", "ac"] * 2, 260).to_dict()["merges"] == [[a, c]]


def test_it_ends_when_the_vocabulary_is_full_or_nothing_repeats() -> None:
    assert len(BPE.train(CAPTIONS, 270)) == 270
    assert len(BPE.train([], 270)) == len(BPE.train(["", "abc"], 270)) == 259
    full = BPE.train(["abab ab"], 400)  # a b, and with its space no pair occurs twice
    assert full.pieces[256:] == [b"ab"]
    assert BPE.train(["aab"] * 3 + ["aac"], 400).pieces[256:] == [b"aa", b"aab"]  # "aa" and "c" once only


def test_two_ways_to_the_same_bytes_are_one_token() -> None:
    a, b, c = b"abc"
    bpe = BPE([(a, b), (b, c), (256, c), (a, 257)])
    assert bpe.pieces[256:] == [b"ab", b"bc", b"abc"]
    assert bpe.encode("abc") == [258]
    assert BPE([(a, b), (b, c), (a, b)]).encode("abc") == [256, c]  # said twice, it counts where it stood first
    assert BPE.from_dict(bpe.to_dict()).to_dict() == bpe.to_dict()


def test_the_earliest_merge_goes_first_and_the_leftmost_of_equals() -> None:
    a, b, c = b"abc"
    assert BPE([(b, c), (a, b)]).encode("abc") == [a, 256]
    assert BPE([(a, b), (b, c)]).encode("abc") == [256, c]
    assert BPE([(a, a)]).encode("aaa") == [256, a]


def test_case_and_spaces_are_kept_and_no_token_goes_over_words() -> None:
    bpe = BPE.train(["the red the red THE RED"] * 5, 400)
    assert bpe.pieces[-1] != b"the red"
    assert not [piece for piece in bpe.pieces if b" " in piece[1:]]
    assert bpe.encode("the red") != bpe.encode("THE RED") != bpe.encode("THE  RED")
    assert [bpe.pieces[token] for token in bpe.encode(" red")] == [b" red"]


def test_bytes_that_are_no_utf8_and_tokens_that_are_none() -> None:
    assert LEARNED.decode([0xC3, 0x28]) == "\ufffd("
    assert LEARNED.decode([LEARNED.start, *b"hi", LEARNED.end, LEARNED.padding]) == "hi"
    for wrong in (-1, len(LEARNED)):
        with pytest.raises(ValueError, match=f"tokens must lie in 0 ... 289, got {wrong}"):
            LEARNED.decode([wrong])
    with pytest.raises(ValueError, match="surrogate"):
        LEARNED.encode("half \ud800")


def test_a_batch_starts_ends_and_is_padded() -> None:
    texts = ["a red seven", "", "Ä"]
    rows = LEARNED.batch(texts, 12)
    assert rows.shape == (3, 12)
    assert rows.dtype == torch.int64
    for row, text in zip(rows.tolist(), texts, strict=True):
        tokens = LEARNED.encode(text)
        assert row == [287, *tokens, 288] + [289] * (10 - len(tokens))
    assert (LEARNED.start, LEARNED.end, LEARNED.padding) == (287, 288, 289)
    assert (rows == LEARNED.end).int().argmax(1).tolist() == [1 + len(LEARNED.encode(text)) for text in texts]
    assert [LEARNED.decode(row) for row in rows] == texts
    exact = len(LEARNED.encode(texts[0]))
    assert LEARNED.batch(texts, exact + 2)[0, -1] == LEARNED.end
    with pytest.raises(ValueError, match=f"at most {exact - 1} tokens, got {exact} for 'a red seven'"):
        LEARNED.batch(texts, exact + 1)
    assert LEARNED.batch([], 5).shape == (0, 5)


def test_dropout_passes_over_merges() -> None:
    text = " seven" * 2000
    assert LEARNED.encode(text, 1.0) == list(text.encode())
    once = LEARNED.encode(text, 0.3, torch.Generator().manual_seed(1))
    assert once == LEARNED.encode(text, 0.3, torch.Generator().manual_seed(1))
    assert once != LEARNED.encode(text, 0.3, torch.Generator().manual_seed(2))
    assert LEARNED.encode(text) == LEARNED.encode(" seven") * 2000  # not remembered of the dropout
    only = BPE([b"ab"])  # one merge: it happens with probability 1 - dropout
    kept = only.encode(" ab" * 4000, 0.25, torch.Generator().manual_seed(0)).count(256) / 4000
    assert abs(kept - 0.75) < 5 * (0.75 * 0.25 / 4000) ** 0.5


def test_dropout_draws_anew_at_each_step() -> None:
    """In "abc" with merges ab, bc, dropout d: ab with 1 - d, else bc with d (1 - d) (Provilkov et al., algorithm 1)."""
    a, b, c = b"abc"
    bpe, d, many = BPE([(a, b), (b, c)]), 0.4, 4000
    found = bpe.encode(" abc" * many, d, torch.Generator().manual_seed(0))
    for token, expected in ((256, 1 - d), (257, d * (1 - d))):
        share = found.count(token) / many
        assert abs(share - expected) < 5 * (expected * (1 - expected) / many) ** 0.5
    twice = BPE([(a, b), (256, c)])  # abc needs both merges, each drawn: (1 - d)^2
    share = twice.encode(" abc" * many, d, torch.Generator().manual_seed(0)).count(257) / many
    assert abs(share - (1 - d) ** 2) < 5 * 0.5 / many**0.5


def test_it_is_plain_data_and_back() -> None:
    data = json.loads(json.dumps(LEARNED.to_dict()))
    again = BPE.from_dict(data)
    assert again.pieces == LEARNED.pieces
    assert again.special == LEARNED.special
    assert all(again.encode(text) == LEARNED.encode(text) for text in CAPTIONS)
    with pytest.raises(ValueError, match="data must hold merges and special"):
        BPE.from_dict({"merges": []})


def test_what_does_not_fit_is_named() -> None:
    for call, message in (
        (lambda: BPE.train(CAPTIONS, 258), "vocabulary must be an integer >= 259"),
        (lambda: BPE.train("a red seven"), "texts must be many texts, got one: 'a red seven'"),
        (lambda: LEARNED.batch("a red seven", 9), "texts must be many texts"),
        (lambda: LEARNED.batch([""], 1), "length must be"),
        (lambda: LEARNED.encode("a", 1.5), "dropout must be"),
        (lambda: BPE([(0, 256)]), "pairs of tokens below 256"),
        (lambda: BPE([(0, 1, 2)]), "pairs of tokens below 256"),
        (lambda: BPE([], ("<a>", "<b>")), "special must be different names"),
        (lambda: BPE([], ("<a>", "<b>", "<a>")), "special must be different names"),
        (lambda: BPE([], "abc"), "special must be different names"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_word_is_looked_up_after_the_first_time(monkeypatch: pytest.MonkeyPatch) -> None:
    bpe, seen = BPE.train(CAPTIONS, 290), []
    monkeypatch.setattr(bpe, "_encode_word", lambda word, *_: seen.append(word) or list(word.encode()))
    for _ in range(2):
        bpe.encode("red seven red seven")
    assert seen == ["red", " seven", " red"]
