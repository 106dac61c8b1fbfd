# %% [markdown]
# # Exercise 11. CLIP
#
# You build what lecture 11 derives: byte-pair encoding, its training and its use; the symmetric contrastive loss; the
# feature of a text; a classifier made of sentences; and the bound on mutual information, on a case where the truth is
# known.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right;
# when it is wrong, it says what probably went wrong. The grader runs these checks and a few more. `hint("11.1")` gives
# a hint; asked again, it says more, three times. Every question stands on its own. Arguments are never to be changed.
#
# **Without** in a question names functions that solve it already: an answer that calls one of them gets no points.
#
# **Needed before:** [lecture 11](../lectures/11_clip.ipynb). **Time:** about 90 minutes. **Points:** 10.

# %%
import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from flowlib.course.notebook import exercise, unaided
from flowlib.data import load
from flowlib.plotting.style import ACCENT, GREY, INK
from flowlib.systems.clip import contrastive_loss
from flowlib.systems.zero_shot import classify
from flowlib.text import BPE
from flowlib.text.bpe import join
from flowlib.text.words import split_words

hint = exercise("11_clip").hint


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard Gaussian numbers, in double precision: the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(found: Tensor, expected: Tensor | float, tolerance: float = 1e-9) -> bool:
    """Whether tensors agree, relative to their size; NaN agrees with nothing."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    return bool(((found.detach().double() - expected).abs() <= tolerance * (1 + expected.abs())).all())


def is_tensor(found: object, shape: tuple[int, ...], what: str) -> None:
    """Assert that `found` is a finite tensor of that shape."""
    assert isinstance(found, Tensor), f"{what} must be a tensor, got {type(found).__name__}: is something returned?"
    assert tuple(found.shape) == shape, f"{what} must have shape {shape}, got {tuple(found.shape)}"
    assert found.is_floating_point(), f"{what} must be of floating point, got {found.dtype}"
    assert bool(torch.isfinite(found).all()), f"{what} must be finite, and has NaN or infinite entries"


# %% [markdown]
# ## 11.1 Learn the merges (2 points, 20 minutes, medium)
#
# Write the training of a byte-pair encoding. Each text is cut into words by `split_words`, each word into its bytes
# (UTF-8), tokens 0 to 255. Then, again and again: count all pairs of neighbours inside words, in *all* occurrences of
# all words; take the most frequent pair, of equally frequent ones the lowest (compare the tuples of tokens); join it
# everywhere, from left to right. The first merge makes token 256, the second 257, and so on. Stop after `count` merges,
# or when no pair occurs twice. A pair that overlaps itself, as in "aaa", is counted at both of its places.
#
# Return the merges in their order, as tuples of two integers.
#
# **Without:** `BPE`, `join`.


# %% solution="11.1"
def learn_merges(texts: Sequence[str], count: int) -> list[tuple[int, int]]:
    """At most `count` merges, each a pair of tokens."""
    ### BEGIN SOLUTION
    words = Counter(word for text in texts for word in split_words(text))
    rows = [(list(word.encode()), often) for word, often in words.items()]
    merges: list[tuple[int, int]] = []
    while len(merges) < count:
        counts: Counter[tuple[int, int]] = Counter()
        for row, often in rows:
            for pair in pairwise(row):
                counts[pair] += often
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    row[at : at + 2] = [256 + len(merges)]
                at += 1
        merges.append(best)
    return merges
    ### END SOLUTION


# %% check="11.1" points=2
def learned(texts: list[str], count: int) -> list[tuple[int, int]]:
    """The answer's merges, if they are pairs of integers."""
    given = list(texts)
    with unaided(BPE, join):
        found = learn_merges(given, count)
    assert given == texts, "the list of texts was changed: work on a copy"
    assert isinstance(found, list | tuple), f"return a list of pairs, got {type(found).__name__}: is it returned?"
    for pair in found:
        assert isinstance(pair, list | tuple), f"each merge must be a pair of tokens, got {pair!r}"
        assert [type(token) for token in pair] == [int, int], f"each merge must be two integers, got {pair!r}"
    assert len(found) <= count, f"there may be at most {count} merges, got {len(found)}"
    return [tuple(pair) for pair in found]


assert learned(["ab"], 5) == [], "a pair that occurs once makes nothing shorter in the end: stop when none occurs twice"
assert len(learned(["abab abab"], 1)) == 1, "make as many merges as asked for, as long as there are pairs"
assert learned(["abc"] * 3, 2) != [(97, 98)] * 2, "the pair is counted, but never joined: it is found again and again"
assert learned(["ababx"], 1) == [(97, 98)], "two occurrences are enough, in one word too: 'ababx' has (a, b) twice"
assert learned(["ää"], 1) == [(195, 164)], "a letter such as 'ä' is two bytes of UTF-8, and so a pair: begin with bytes"
assert len(learned(["e a"] * 3, 5)) < 2, "a merge goes over the edge of a word: cut each text with split_words first"
assert learned(["zy", "zy", "zy", "abk abm"], 1) == [(122, 121)], (
    "the most frequent pair was not taken: each *occurrence* of a word counts, not each different word"
)
assert learned(["ab", "ab", "dc", "dc"], 1) == [(97, 98)], (
    "of equally frequent pairs the lowest was not taken: compare the tuples of numbers, with smaller ones first"
)
assert learned(["dc", "dc", "ab", "ab"], 1) == [(97, 98)], (
    "of equally frequent pairs take the lowest, not the first seen"
)
assert learned(["aaa"], 1) == [(97, 97)], "in 'aaa' the pair (a, a) stands at two places: count both, they may overlap"
found = learned(["aaa", "aaa"], 2)
assert found != [(97, 97), (97, 256)], "join from left to right: 'aaa' becomes (aa)(a), not (a)(aa)"
found = learned(["abc"] * 3, 2)
assert found != [(97, 98), (98, 99)], "after a merge the text is another one: its pairs have to be counted again"
assert found == [(97, 98), (256, 99)], "the token of the first merge is 256, of the second 257: which are in the pairs?"
texts = load("scenes").batch(torch.arange(30))
for some, count in ((texts["caption"], 30), (texts["short"], 15), (["aaaa aaaaa", "abababab bababa"], 9)):
    expected = [tuple(pair) for pair in BPE.train(some, vocabulary=259 + count).to_dict()["merges"]]
    assert learned(some, count) == expected, f"the merges of {some[0]!r} and other texts are wrong"
### BEGIN HIDDEN TESTS
other = ["Der rote Käfer sitzt im Käfig", "käferrot, käferblau", "aaaaaaa 112112 \t\t  x", "日本語 日本 日"]
expected = [tuple(pair) for pair in BPE.train(other, vocabulary=259 + 30).to_dict()["merges"]]
assert learned(other, 30) == expected, "the merges of texts in several scripts are wrong"
assert learned([], 4) == [], "no text, no merges"
assert learned(["", ""], 4) == [], "empty texts have no merges"
### END HIDDEN TESTS

# %% [markdown] hints="11.1"
# 1. Keep each different word once, as a list of tokens, with the number of times that it occurs.
#
# 2. A loop: a `Counter` of all `pairwise(row)`, each with the word's number; the best pair; a new list for each word,
# in
#    which the pair is replaced; repeat.
#
# 3. `min(counts, key=lambda pair: (-counts[pair], pair), default=None)` is the most frequent pair, of equals the
# lowest.
#    To join: walk through the row with an index; where `(row[at], row[at + 1])` is the pair, write
#    `row[at : at + 2] = [new]`; then go one further.

# %% [markdown]
# ## 11.2 Encode a text (1 point, 10 minutes, easy)
#
# Given the merges, in the order in which they were learned, write the tokens of a text. Cut it with `split_words`, take
# the bytes of each word; then, in each word, make the merge that was learned *earliest* of those that are possible,
# until none is. Merge number `k` makes the token `256 + k`.
#
# **Without:** `BPE`, `join`.


# %% solution="11.2"
def encode(text: str, merges: Sequence[tuple[int, int]]) -> list[int]:
    """The tokens of a text."""
    ### BEGIN SOLUTION
    rank = {tuple(pair): k for k, pair in enumerate(merges)}
    out: list[int] = []
    for word in split_words(text):
        row = list(word.encode())
        while possible := [(rank[pair], at) for at, pair in enumerate(pairwise(row)) if pair in rank]:
            k, at = min(possible)
            row[at : at + 2] = [256 + k]
        out += row
    return out
    ### END SOLUTION


# %% check="11.2" points=1
def encoded(text: str, merges: list[tuple[int, int]]) -> list[int]:
    """The answer's tokens, if they are integers."""
    given = list(merges)
    with unaided(BPE, join):
        found = encode(text, given)
    assert given == merges, "the merges were changed: work on a copy"
    assert isinstance(found, list | tuple), f"return a list of tokens, got {type(found).__name__}: is it returned?"
    assert all(type(token) is int for token in found), "tokens must be integers"
    return list(found)


assert encoded("ab", []) == [97, 98], "without merges the tokens are the bytes"
assert encoded("ä", []) == [195, 164], "a letter such as 'ä' is two bytes of UTF-8"
assert encoded("ab", [(120, 121), (97, 98)]) == [257], "merge number k makes the token 256 + k"
assert encoded("abab", [(97, 98)]) == [256, 256], "the pair stands there twice: join it wherever it stands"
assert encoded("abab", [(97, 98), (256, 256)]) == [257], "what was joined can be joined again"
assert encoded("b a", [(98, 32)]) == [98, 32, 97], "a merge goes over the edge of a word: cut with split_words first"
assert encoded("abc", [(98, 99), (97, 98)]) == [97, 256], (
    "the merge that was learned first comes first, wherever it stands in the word"
)
assert encoded("abcd", [(97, 98), (98, 99), (257, 100)]) == [256, 99, 100], (
    "the longest piece was taken: make the merges in their order, even if a longer piece would fit"
)
texts = load("scenes").batch(torch.arange(100))["caption"]
bpe = BPE.train(texts, vocabulary=259 + 120)
merges = [tuple(pair) for pair in bpe.to_dict()["merges"]]
for text in texts[:40]:
    assert encoded(text, merges) == bpe.encode(text), f"the tokens of {text!r} are wrong"
### BEGIN HIDDEN TESTS
for text in ("", "  ", "aaaa aaa", "A LARGE red Käfer 🐞, on grey\n"):
    assert encoded(text, merges) == bpe.encode(text), f"the tokens of {text!r} are wrong"
bpe = BPE.train(["aaaaa aaaa", "abababa", "ba bba"], vocabulary=259 + 8)
for text in ("aaaaaaa", "abab babaab", "bbabab"):
    found = encoded(text, [tuple(pair) for pair in bpe.to_dict()["merges"]])
    assert found == bpe.encode(text), f"the tokens of {text!r} are wrong"
### END HIDDEN TESTS

# %% [markdown] hints="11.2"
# 1. Give each pair its place in the list of merges. Which of the pairs that stand in the word has the lowest?
#
# 2. Either join one pair at a time, the one of the lowest place; or go through the merges in their order and join each
#    wherever it stands: a merge never makes an earlier one possible.
#
# 3. `rank = {pair: k for k, pair in enumerate(merges)}`. While some pair of `pairwise(row)` is in `rank`: take the one
#    with the smallest `(rank, place)`, and set `row[at : at + 2] = [256 + k]`.

# %% [markdown]
# ## 11.3 The loss (2 points, 20 minutes, medium)
#
# Write CLIP's loss: the mean of two cross-entropies, in nats. Row `i` of `image` and row `i` of `text` belong together.
# The logits are `scale` times the cosines; the features come as the encoders give them, of any length.
#
# The batch may be spread over several processes, and the loss is that of the *whole* batch. Each process calls the
# function with its own rows; `gather(rows)` gives the rows of all processes, in one order for all tensors, and lets
# gradients through. It is to be called on both. The result is a scalar through which gradients reach `image`, `text`
# and `scale`. It must be finite for `scale` = 100 in single precision.
#
# **Without:** `contrastive_loss`, `F.cross_entropy`.


# %% solution="11.3"
def clip_loss(image: Tensor, text: Tensor, scale: Tensor, gather: Callable[[Tensor], Tensor]) -> Tensor:
    """The symmetric loss of a batch.

    Args:
        image, text: features of this process (n, D).
        scale: a scalar tensor.
        gather: rows of this process (n, ...) -> rows of all (N, ...).
    """
    ### BEGIN SOLUTION
    image, text = (F.normalize(gather(rows), dim=1) for rows in (image, text))
    logits = scale * image @ text.T
    both = logits.logsumexp(0) + logits.logsumexp(1)  # over images for each text, over texts for each image
    return (both / 2 - logits.diagonal()).mean()
    ### END SOLUTION


# %% check="11.3" points=2
def loss_of(
    image: Tensor, text: Tensor, scale: float, gather: Callable[[Tensor], Tensor] = lambda rows: rows
) -> Tensor:
    """The answer's loss, if it is a finite scalar and leaves its arguments alone."""
    given = image.clone(), text.clone()
    with unaided(contrastive_loss, F.cross_entropy):
        found = clip_loss(*given, torch.tensor(scale, dtype=image.dtype), gather)
    assert torch.equal(given[0], image), "image was changed: work on a new tensor"
    assert torch.equal(given[1], text), "text was changed: work on a new tensor"
    if len(image) == 1:
        assert near(found, 0.0), (
            "with one pair there is nothing to choose from, and the loss must be 0: is the own text in the denominator?"
        )
    is_tensor(found, (), "the loss")
    return found


def right_loss(image: Tensor, text: Tensor, scale: float) -> Tensor:
    return contrastive_loss(image, text, torch.tensor(scale, dtype=image.dtype))[0]


image, text = normal(6, 4, seed=1), normal(6, 4, seed=2)
found, right = loss_of(image, text, 3.0), right_loss(image, text, 3.0)
loss_of(image[:1], text[:1], 3.0)  # which must be 0
assert near(loss_of(5 * image, text, 3.0), found), "longer image features give another loss: cosines have no length"
assert near(loss_of(image, 5 * text, 3.0), found), "longer text features give another loss: cosines have no length"
lengths = torch.tensor([1.0, 5.0, 0.2, 3.0, 1.0, 9.0]).double()[:, None]
assert near(loss_of(lengths * image, lengths * text, 3.0), found), "each *row* has to be scaled to length 1"
assert not near(found, loss_of(image, text, 1.0)), "the loss does not depend on the scale"
assert not near(found, right_loss(image, text, 1 / 3)), "the cosines are divided by the scale, and not multiplied by it"
assert not near(found, right_loss(image, text, math.exp(3))), "scale is the factor itself here, and not its logarithm"
assert not near(found, right / math.log(2)), "this loss is in bits: take the natural logarithm"
assert not near(found, -right), "the sign: the loss is *minus* the log of the probability of the own pair"
assert near(found, loss_of(text, image, 3.0)), (
    "exchanging images and texts changes the loss: it asks only one of the two questions, or not both alike"
)
assert not near(found, 2 * right), "this is the sum of both cross-entropies: take half of it"
assert not near(found, 6 * right), "this is the sum over the batch: take the mean"
assert not near(found, right / 6), "this is the mean over all N x N entries: each row asks one question"
assert near(found, right), "the loss is wrong: a cross-entropy is logsumexp of the row minus the own logit"
single = image.float()
with unaided(contrastive_loss, F.cross_entropy):
    large = clip_loss(single, single, torch.tensor(100.0), lambda rows: rows)
assert bool(torch.isfinite(large)), (
    "not finite for scale = 100 in single precision: take exponential, sum and logarithm in one step (logsumexp)"
)
assert near(large, right_loss(single, single, 100.0), 1e-4), "wrong for scale = 100 in single precision"
rest = [F.normalize(normal(3, 4, seed=seed), dim=1) for seed in (3, 4)]  # so one may scale before gathering, or after
calls: list[Tensor] = []


def gather(rows: Tensor) -> Tensor:
    """As another process with three more pairs would make it."""
    calls.append(rows)
    return torch.cat([rest[len(calls) % 2 == 0], rows])  # image first, then text


loss_of(image, text, 3.0, lambda rows: calls.append(rows) or rows)
assert len(calls) == 2, f"gather is to be called once on image and once on text, and was called {len(calls)} times"
calls.clear()
found = loss_of(image, text, 3.0, gather)
expected = right_loss(torch.cat([rest[0], image]), torch.cat([rest[1], text]), 3.0)
swapped = right_loss(torch.cat([rest[1], image]), torch.cat([rest[0], text]), 3.0)  # text was gathered first
assert not near(found, right), "this is the loss of the own rows alone: the batch is what gather returns"
assert near(found, expected) or near(found, swapped), (
    "right for one process, wrong for several: rows, columns and own pairs are those of what gather returns, all of it"
)
leaves = [part.clone().requires_grad_() for part in (image, text, torch.tensor(3.0).double())]
with unaided(contrastive_loss, F.cross_entropy):
    answer = clip_loss(*leaves, lambda rows: rows)
assert answer.requires_grad, "no gradient can flow back: was something detached, or computed under no_grad?"
gradients = torch.autograd.grad(answer, leaves, allow_unused=True)
for name, gradient in zip(("image", "text", "scale"), gradients, strict=True):
    assert gradient is not None, f"no gradient reaches {name}: was it detached, or turned into a number?"
wanted = torch.autograd.grad(contrastive_loss(*leaves)[0], leaves)
for name, gradient, one in zip(("image", "text", "scale"), gradients, wanted, strict=True):
    assert near(gradient, one), f"the loss is right and its gradient in {name} is not: is a part of it detached?"
### BEGIN HIDDEN TESTS
logits = 7 * F.normalize(rest[0], dim=1) @ F.normalize(rest[1], dim=1).T
assert not near(loss_of(*rest, 7.0), F.cross_entropy(logits, torch.arange(3))), "only the images are asked"
for n, dim in ((2, 3), (5, 2), (9, 16)):
    parts = normal(n, dim, seed=n), normal(n, dim, seed=n + 20)
    assert near(loss_of(*parts, 12.0), right_loss(*parts, 12.0)), f"wrong for {n} pairs of {dim} features"
    doubled = [torch.cat([part, part.flip(1)]) for part in parts]
    found = loss_of(*parts, 2.0, lambda rows: torch.cat([rows, rows.flip(1)]))
    assert near(found, right_loss(*doubled, 2.0)), "wrong for several processes"
### END HIDDEN TESTS

# %% [markdown] hints="11.3"
# 1. Gather first, then everything is as with one process. How do you make the cosines of all pairs at once?
#
# 2. `logits = scale * image @ text.T` after scaling rows to length 1. The rows are the questions of the images, the
#    columns those of the texts; the right answers are the diagonal.
#
# 3. `logits.logsumexp(1) - logits.diagonal()` are the losses of the images, with `logsumexp(0)` those of the texts. The
#    result is half the sum of both means.

# %% [markdown]
# ## 11.4 The feature of a text (1 point, 10 minutes, easy)
#
# A causal transformer has made features of all tokens. Take that of the *first* end token of each row. What comes
# behind it is padding, and may hold anything: features that mean nothing, tokens of any number, the end token once
# more. A row without an end token is a `ValueError`.


# %% solution="11.4"
def text_feature(features: Tensor, tokens: Tensor, end: int) -> Tensor:
    """Features of texts.

    Args:
        features: of all tokens (B, L, D).
        tokens: (B, L), integers.
        end: the end token.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    is_end = tokens == end
    if not bool(is_end.any(1).all()):
        raise ValueError(f"tokens must have the end token, {end}, in each row")
    return features[torch.arange(len(tokens)), is_end.int().argmax(1)]
    ### END SOLUTION


# %% check="11.4" points=1
features = normal(3, 6, 4, seed=5)
tokens = torch.tensor([[1, 9, 3, 5, 0, 0], [1, 5, 0, 0, 0, 0], [1, 9, 4, 2, 3, 5]])
given = features.clone(), tokens.clone()
found = text_feature(*given, 5)
assert torch.equal(given[0], features), "features was changed: work on a new tensor"
assert torch.equal(given[1], tokens), "tokens was changed: work on a new tensor"
is_tensor(found, (3, 4), "the features of texts")
assert not torch.equal(found, features[:, -1]), "this is the last place of each row, which is padding in most rows"
assert not torch.equal(found, features[:, 0]), "this is the first place, which in a causal transformer has seen nothing"
places = (found[:, None] - features).abs().sum(2)  # (3, 6): 0 where the answer took its feature from
assert bool((places.amin(1) == 0).all()), "each result must be one of the row's own features, as it is"
assert places[0, 1] != 0, "the end token does not have the largest number here: compare with `end`"
assert places[0, 3] == 0, f"row 0 ends at place 3, and the feature of place {int(places[0].argmin())} was taken"
assert places[1, 1] == 0, f"row 1 ends at place 1, and the feature of place {int(places[1].argmin())} was taken"
assert places[2, 5] == 0, f"row 2 ends at place 5, and the feature of place {int(places[2].argmin())} was taken"
found = text_feature(features, torch.tensor([[7, 2, 5, 9, 9, 9]] * 3), 5)
assert torch.equal(found, features[:, 2]), "padding need not be 0: look for the end token, not for what is no padding"
found = text_feature(features, torch.tensor([[7, 2, 5, 5, 5, 5]] * 3), 5)
assert not torch.equal(found, features[:, -1]), "padding may be the end token too: take the first one, not the last"
assert torch.equal(found, features[:, 2]), "where there are several end tokens, the first is the end"
assert text_feature(features[:1], tokens[:1], 5).shape == (1, 4), "one text must give one feature, (1, D)"


def refusal_of(rows: list[list[int]]) -> str:
    """The name of the error that the answer raises."""
    try:
        text_feature(features, torch.tensor(rows), 5)
    except Exception as error:
        return type(error).__name__
    return "no error"


got = refusal_of([[7, 2, 3, 0, 0, 0]] * 3)
assert got == "ValueError", f"texts without any end token must be a ValueError, and not {got}"
got = refusal_of([[7, 2, 5, 0, 0, 0], [7, 2, 3, 0, 0, 0], [7, 5, 0, 0, 0, 0]])
assert got == "ValueError", f"one row without an end token must be a ValueError, even if the others have one, not {got}"
assert text_feature(features.clone().requires_grad_(), tokens, 5).requires_grad, "no gradient can flow back to features"
### BEGIN HIDDEN TESTS
many, long = torch.randint(0, 50, (40, 12), generator=torch.Generator().manual_seed(6)), normal(40, 12, 7, seed=7)
many[torch.arange(40), torch.randint(0, 12, (40,), generator=torch.Generator().manual_seed(8))] = 31
expected = torch.stack([long[i, many[i].tolist().index(31)] for i in range(40)])
assert torch.equal(text_feature(long, many, 31), expected), "wrong for longer texts"
assert torch.equal(text_feature(long, many.int(), 31), expected), "wrong for tokens of another integer type"
### END HIDDEN TESTS

# %% [markdown] hints="11.4"
# 1. `tokens == end` is true where an end token is. Which call gives the place of the first true entry of a row?
#
# 2. Of equal entries `argmax` returns the first, if the entries are integers. Then one index for each row has to pick
#    from the second axis: give the first axis an index too.
#
# 3. `features[torch.arange(len(tokens)), (tokens == end).int().argmax(1)]`, after a look whether each row has an end.

# %% [markdown]
# ## 11.5 A classifier made of sentences (2 points, 15 minutes, medium)
#
# Build the zero-shot classifier. A template is a sentence with a place for a name, `"a {} digit".format("red")`. The
# vector of a class is made of all templates: features of length 1, their mean, again of length 1. Return the *cosine*
# of each image with each class.
#
# `encode_text` takes a list of sentences, as many as you like, and returns features (M, D); `encode_image` takes images
# (B, ...) and returns (B, D). Neither has features of length 1.
#
# **Without:** `classify`.


# %% solution="11.5"
def zero_shot(
    encode_image: Callable[[Tensor], Tensor],
    encode_text: Callable[[list[str]], Tensor],
    images: Tensor,
    names: Sequence[str],
    templates: Sequence[str],
) -> Tensor:
    """Cosines (B, classes)."""
    ### BEGIN SOLUTION
    vectors = []
    for name in names:
        prompts = F.normalize(encode_text([template.format(name) for template in templates]), dim=1)
        vectors.append(F.normalize(prompts.mean(0), dim=0))
    return F.normalize(encode_image(images), dim=1) @ torch.stack(vectors).T
    ### END SOLUTION


# %% check="11.5" points=2
WRITTEN = {
    "a cat": [2.0, 0.0, 0.0], "my cat": [0.0, 1.0, 0.0], "cat": [0.0, 0.0, -9.0],
    "a dog": [0.0, 0.0, 4.0], "my dog": [0.0, 0.0, 4.0], "dog": [0.0, 0.0, -9.0],
    "a cow": [0.0, 3.0, 4.0], "my cow": [0.0, 0.6, -0.8], "cow": [0.0, 0.0, -9.0],
}  # fmt: skip
SEEN_AS = torch.tensor([[7.0, 0.0, 0.0], [0.0, 0.0, 0.5], [0.0, 0.2, 0.0], [3.0, 3.0, 0.0]]).double()


def toy_text(sentences: list[str]) -> Tensor:
    """Features that are written down."""
    assert not isinstance(sentences, str), "encode_text takes a list of sentences, and got one"
    for sentence in sentences:
        assert sentence in WRITTEN, f"encode_text was asked for {sentence!r}: put the name into the template's {{}}"
    return torch.tensor([WRITTEN[sentence] for sentence in sentences], dtype=torch.float64)


def cosines(names: list[str], templates: list[str], images: Tensor = SEEN_AS) -> Tensor:
    """The answer's cosines, if they are a tensor of the right shape."""
    given = images.clone()
    with unaided(classify):
        found = zero_shot(lambda x: 1.0 * x, toy_text, given, list(names), list(templates))
    assert torch.equal(given, images), "images was changed: work on a new tensor"
    is_tensor(found, (len(images), len(names)), "the result")
    return found


one = cosines(["cat", "dog"], ["a {}"])
assert float(one.abs().max()) < 1 + 1e-9, "a cosine lies between -1 and 1: scale images and classes to length 1"
assert not near(one.sum(1), 1.0), "these are probabilities: return the cosines themselves"
assert near(one[0], torch.tensor([1.0, 0.0])), "an image like 'a cat' must have cosine 1 with it, and 0 with 'a dog'"
both = cosines(["cat", "dog"], ["a {}", "my {}"])
half = torch.tensor(0.5).double().sqrt()
assert near(both[1, 0], 0.0), (
    "prompts and classes are mixed up: which rows belong to one class depends on the order in which they were written"
)
assert not near(both[0, 0], 1.0), (
    "one prompt alone was taken, the best or the first: a class is the mean of *all* of its prompts"
)
assert not near(both[0, 0], 2 / math.sqrt(5)), (
    "a long prompt counts for more than a short one: scale prompts to length 1 *before* the mean"
)
assert not near(both[0, 0], 0.5), "the mean of unit vectors is shorter than 1: scale it to length 1 again"
assert near(both[3, 0], 1.0), "with 'a cat' = (2, 0, 0) and 'my cat' = (0, 1, 0) the class must point along (1, 1, 0)"
assert near(both[0], half * torch.tensor([1, 0])), "wrong for two classes of two prompts"
three = cosines(["cat", "dog", "cow"], ["a {}", "my {}"])
expected = torch.tensor([[half, 0, 0], [0, 1, 0], [half, 0, 1], [1, 0, half]], dtype=torch.float64)
assert near(three, expected), "wrong for three classes of two prompts"
assert near(cosines(["cow"], ["my {}", "a {}"], SEEN_AS[2:3]), torch.ones(1, 1)), "wrong for one image and one class"
### BEGIN HIDDEN TESTS
table = {f"{a} {b}": normal(5, seed=10 * i + j) * (1 + j) for i, a in enumerate("pqrs") for j, b in enumerate("uvw")}


class Toy:
    def image_features(self, images: Tensor) -> Tensor:
        return F.normalize(images, dim=1)

    def text_features(self, texts: Sequence[str]) -> Tensor:
        return F.normalize(torch.stack([table[text] for text in texts]), dim=1)


pictures, names, templates = normal(50, 5, seed=9), list("pqrs"), ["{} u", "{} v", "{} w"]
found = zero_shot(
    lambda x: 3 * x, lambda texts: torch.stack([table[text] for text in texts]), pictures, names, templates
)
assert torch.equal(found.argmax(1), classify(Toy(), pictures, names, templates)), "wrong for random features"
units = torch.stack([Toy().text_features([t.format(name) for t in templates]).mean(0) for name in names])
assert near(found, F.normalize(pictures, dim=1) @ F.normalize(units, dim=1).T), "wrong for random features"
### END HIDDEN TESTS

# %% [markdown] hints="11.5"
# 1. For one class: which sentences are there, and what is the one vector that stands for them?
#
# 2. `F.normalize(encode_text(sentences), dim=1)` are the directions of the prompts. Their mean is not of length 1.
#
# 3. A loop over names: `F.normalize(F.normalize(encode_text(...), dim=1).mean(0), dim=0)`; stack the vectors (C, D);
# the
#    result is `F.normalize(encode_image(images), dim=1) @ vectors.T`.

# %% [markdown]
# ## 11.6 The bound against the truth (2 points, 15 minutes, medium)
#
# Pairs of Gaussian vectors: in each of $D$ dimensions $x_d$ and $y_d$ are standard normal with correlation $\rho$;
# dimensions are independent. Write three functions:
#
# - `log_ratio`, the best critic $\log \frac{p(y \mid x)}{p(y)}$ of *each* $x$ with *each* $y$;
# - `information`, the mutual information of $x$ and $y$ in nats, a number;
# - `bound`, what a batch says of it: $\log N$ minus the loss of the one question "which $y$ is this $x$'s?", from the
#   logits (N, N), rows for $x$, columns for $y$. It must be right for logits of any size.
#
# **Without:** `kl_divergence`.


# %% solution="11.6"
def log_ratio(x: Tensor, y: Tensor, rho: float) -> Tensor:
    """x (N, D), y (M, D) -> (N, M)."""
    ### BEGIN SOLUTION
    rest = 1 - rho**2  # the variance of y_d given x_d
    gap = y[None] - rho * x[:, None]  # (N, M, D)
    return (y[None] ** 2 / 2 - gap**2 / (2 * rest)).sum(2) - x.shape[1] / 2 * math.log(rest)
    ### END SOLUTION


def information(rho: float, dim: int) -> float:
    """In nats."""
    ### BEGIN SOLUTION
    return -dim / 2 * math.log(1 - rho**2)
    ### END SOLUTION


def bound(logits: Tensor) -> Tensor:
    """Logits (N, N) -> a scalar."""
    ### BEGIN SOLUTION
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1)).mean()
    ### END SOLUTION


# %% check="11.6" points=2
def joint(rho: float, dim: int, own: bool = True) -> MultivariateNormal:
    """The law of x and y side by side; of independent ones with the same margins, if not `own`."""
    eye = torch.eye(dim, dtype=torch.float64)
    corner = own * rho * eye
    covariance = torch.cat([torch.cat([eye, corner]), torch.cat([corner, eye])], dim=1)
    return MultivariateNormal(torch.zeros(2 * dim).double(), covariance)


def right_ratio(x: Tensor, y: Tensor, rho: float) -> Tensor:
    """From the densities of the joint law and of its margins."""
    both = torch.cat([x[:, None].expand(-1, len(y), -1), y[None].expand(len(x), -1, -1)], dim=2)
    return joint(rho, x.shape[1]).log_prob(both) - joint(rho, x.shape[1], own=False).log_prob(both)


x, y = normal(4, 3, seed=11), normal(4, 3, seed=12)
with unaided(kl_divergence):
    ratios, truth = log_ratio(x.clone(), y.clone(), 0.6), information(0.6, 3)
is_tensor(ratios, (4, 4), "log_ratio, of each x with each y,")
right = right_ratio(x, y, 0.6)
assert not near(ratios, right_ratio(x, y, -0.6)), "log_ratio: the sign of the correlation is lost"
assert not near(ratios, -right), "log_ratio is upside down: p(y|x) stands above p(y)"
assert not near(ratios, right.T), "log_ratio: rows are for x, columns for y; here they are exchanged"
if not near(ratios, right):
    off = ratios - right
    constant = near(off, float(off[0, 0]))
    assert not constant or not near(log_ratio(x[:, :1], y[:, :1], 0.6), right_ratio(x[:, :1], y[:, :1], 0.6)), (
        "log_ratio is right in one dimension, and off by a constant in three: the normaliser counts once a dimension"
    )
    assert not constant, "log_ratio is right up to a constant: the normaliser of p(y|x) depends on rho"
    assert not near(off, off[:, :1].expand(4, 4)), (
        "log_ratio is right up to a function of x alone: is it p(y|x) / p(y)?"
    )
    assert not near(off, off[:1].expand(4, 4)), "log_ratio is right up to a function of y alone: divide by p(y)"
assert near(ratios, right), "log_ratio is wrong: given x, y_d is normal with mean rho x_d and variance 1 - rho^2"
assert isinstance(truth, float | int | Tensor), "information must return a number"
told = torch.tensor(float(truth), dtype=torch.float64)
expected = float(kl_divergence(joint(0.6, 3), joint(0.6, 3, own=False)))
assert not near(told, expected / math.log(2)), "information is in bits: take the natural logarithm"
assert not near(told, -expected), "information must be positive: 1 - rho^2 is below 1"
assert not near(told, 2 * expected), "information is twice too large: where is the half?"
assert not near(told, expected / 3), "information: dimensions are independent, so theirs add up"
assert near(told, expected), "information is wrong: it is E log_ratio"
logits = 2 * normal(6, 6, seed=13)
given = logits.clone()
said = bound(given)
assert torch.equal(given, logits), "bound changed its logits: work on a new tensor"
is_tensor(said, (), "the bound")
nothing = float(bound(torch.zeros(8, 8).double()))  # logits that are all equal say nothing
assert abs(nothing + math.log(8)) > 1e-9, "bound: this is minus the loss; log N is missing"
assert abs(nothing - 2 * math.log(8)) > 1e-9, "bound: the loss has to be taken off log N, and was added"
assert nothing > -1e-9, (
    f"bound: equal logits say nothing, and must give 0, not {nothing:.3f}: N counts the own pair too"
)
assert nothing < 1e-9, f"bound: equal logits must give 0, not {nothing:.3f}: is the own pair missing from a sum?"
assert near(bound(5000 * torch.eye(8).double()), math.log(8)), "bound: perfect logits say log N, however large they are"
rows_moved, columns_moved = logits + 3 * normal(6, 1, seed=14), logits + 3 * normal(1, 6, seed=15)
assert not near(bound(columns_moved), said), "bound: this asks for the x of each y: exchange rows and columns"
assert near(bound(rows_moved), said), (
    "bound: a number added to a whole row changes nothing for the one question, and changes this: are both asked?"
)
### BEGIN HIDDEN TESTS
assert near(said, math.log(6) - F.cross_entropy(logits, torch.arange(6))), "the bound is wrong"
for rho, dim in ((-0.9, 1), (0.3, 7), (0.0, 2)):
    x, y = normal(3, dim, seed=16), normal(6, dim, seed=17)
    assert near(log_ratio(x, y, rho), right_ratio(x, y, rho)), f"log_ratio is wrong for rho = {rho} in {dim} dimensions"
    expected = float(kl_divergence(joint(rho, dim), joint(rho, dim, own=False)))
    assert near(torch.tensor(float(information(rho, dim))), expected, 1e-6), f"information is wrong for rho = {rho}"
large = 700 * normal(5, 5, seed=18)
assert near(bound(large), math.log(5) - F.cross_entropy(large, torch.arange(5))), "the bound is wrong for large logits"
### END HIDDEN TESTS

# %% [markdown] hints="11.6"
# 1. In one dimension: what are mean and variance of $y$ given $x$? Write both log densities down, and subtract.
#
# 2. $\log r = \sum_d \frac{y_d^2}{2} - \frac{(y_d - \rho x_d)^2}{2 (1 - \rho^2)} - \frac12 \log(1 - \rho^2)$. In its
#    mean over pairs the first two terms cancel: both are $\frac12$ a dimension.
#
# 3. `gap = y[None] - rho * x[:, None]` is (N, M, D); sum over the last axis. The information is
#    `-dim / 2 * math.log(1 - rho**2)`. The bound is `math.log(N)` plus the mean of `logits.diagonal()` minus
#    `logits.logsumexp(1)`.

# %% tags=["demo"]
counts, rho, dim = [2, 4, 8, 16, 32, 64, 128, 256], 0.9, 4
said = []
for n in counts:
    x = normal(2048 // n, n, dim, seed=n)
    y = rho * x + math.sqrt(1 - rho**2) * normal(2048 // n, n, dim, seed=n + 1)
    said.append(sum(float(bound(log_ratio(a, b, rho))) for a, b in zip(x, y, strict=True)) / len(x))
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.semilogx(counts, said, "o-", color=ACCENT, label="yours, with the best critic")
axes.semilogx(counts, [math.log(n) for n in counts], "--", color=INK, label="log N")
axes.axhline(information(rho, dim), color=GREY, linestyle=":", label="the truth")
axes.set(xlabel="pairs in the batch", ylabel="nats")
axes.legend()
plt.show()

# %% [markdown]
# ## How to be graded
#
# Save the notebook and run `flowlib grade 11_clip.ipynb`. It prints a table of the questions with your points, and the
# hint of each check that failed. In the library the same things are `BPE` (`flowlib/text/bpe.py`), `contrastive_loss`
# (`flowlib/systems/clip.py`), `TextTransformer` (`flowlib/nets/transformer.py`) and `classify`
# (`flowlib/systems/zero_shot.py`).
