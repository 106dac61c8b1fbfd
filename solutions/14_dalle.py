# %% [markdown]
# # Exercise 14. DALL·E
#
# You build what lecture 14 derives: the loss of a stream of two kinds of tokens; a sparse pattern of attention; one
# step of attention with keys and values that are kept; the law of the next token; a density for pixels; the bound of a
# model in two stages, split into what each of them loses; and what choosing the best of $N$ gives.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right;
# when it is wrong, it says what probably went wrong. The grader runs these checks and a few more. `hint("14.1")` gives
# a hint; asked again, it says more, three times. Every question stands on its own. Arguments are never to be changed.
#
# **Without** in a question names functions that solve it already: an answer that calls one of them gets no points.
#
# **Needed before:** [lecture 14](../lectures/14_dalle.ipynb). **Time:** about 100 minutes. **Points:** 10.

# %%
import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.course.notebook import exercise, unaided
from flowlib.nets.attention import Attention
from flowlib.nets.discrete import into_odds
from flowlib.nets.patterns import attention_pattern
from flowlib.plotting.style import ACCENT, GREY, INK
from flowlib.systems.dalle import dalle_loss
from flowlib.systems.logit_laplace import log_density, log_mass
from flowlib.systems.token_bound import evidence_bound
from flowlib.systems.token_sampling import next_token

hint = exercise("14_dalle").hint


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard Gaussian numbers, in double precision: the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(found: Tensor, expected: Tensor | float, tolerance: float = 1e-9) -> bool:
    """Whether tensors agree, relative to their size; NaN agrees with nothing."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    return bool(((found.detach().double() - expected).abs() <= tolerance * (1 + expected.abs())).all())


def is_tensor(found: object, shape: tuple[int, ...], what: str) -> Tensor:
    """Assert that `found` is a finite tensor of that shape, and return it."""
    assert isinstance(found, Tensor), f"{what} must be a tensor, got {type(found).__name__}: is something returned?"
    assert tuple(found.shape) == shape, f"{what} must have shape {shape}, got {tuple(found.shape)}"
    assert found.is_floating_point(), f"{what} must be of floating point, got {found.dtype}"
    assert bool(torch.isfinite(found).all()), f"{what} must be finite, and has NaN or infinite entries"
    return found


@contextmanager
def untouched(**arguments: Tensor) -> Iterator[None]:
    """Assert that tensors are afterwards what they were."""
    before = {name: value.clone() for name, value in arguments.items()}
    yield
    for name, value in before.items():
        assert torch.equal(arguments[name], value), f"{name} was changed: work on a new tensor"


# %% [markdown]
# ## 14.1 The loss of the stream (1 point, 10 minutes, medium)
#
# A transformer reads the stream of a caption's $L$ tokens and an image's $n$ tokens behind it, without the last one;
# its logits at place $i$ are for the token at place $i + 1$. In the stream tokens of images have numbers from `words`
# on: code $k$ is the token `words + k`. Return `weight` times the mean cross-entropy of the texts' tokens plus `1 -
# weight` times that of the images' tokens, in nats a token. Each mean is over *all tokens of its kind in the batch*.
# Padding is nobody's to predict, and the first token of a caption is given.
#
# **Without:** `dalle_loss`.


# %% solution="14.1"
def stream_loss(logits: Tensor, text: Tensor, codes: Tensor, words: int, padding: int, weight: float) -> Tensor:
    """The loss, a scalar.

    Args:
        logits: (B, L + n - 1, V).
        text: tokens of captions (B, L), some of them `padding`.
        codes: tokens of images (B, n), 0 ... V - words - 1.
        words: tokens 0 ... words - 1 are the text's.
        padding: the token of places that a caption leaves.
        weight: of the text.
    """
    ### BEGIN SOLUTION
    targets = torch.cat([text, codes + words], dim=1)[:, 1:]
    nats = -logits.log_softmax(2).gather(2, targets[..., None])[..., 0]
    last = text.shape[1] - 1
    counts = text[:, 1:] != padding
    return weight * nats[:, :last][counts].mean() + (1 - weight) * nats[:, last:].mean()
    ### END SOLUTION


# %% check="14.1" points=1
text = torch.tensor([[7, 1, 2, 6, 8], [7, 3, 6, 8, 8], [7, 5, 4, 1, 6]])  # 7 begins, 6 ends, 8 is padding
codes = torch.tensor([[0, 3, 1, 2], [3, 3, 0, 1], [2, 0, 2, 3]])
logits = 2 * normal(3, 8, 13, seed=1)


def nats_of(text: Tensor, codes: Tensor, logits: Tensor, words: int) -> tuple[list[list[float]], list[list[float]]]:
    """The cross-entropy of each token that counts, token by token."""
    said, drawn = [], []
    for row in range(len(text)):
        whole = [*text[row].tolist(), *(words + codes[row]).tolist()]
        laws = logits[row].log_softmax(1)
        nats = [-float(laws[i, token]) for i, token in enumerate(whole[1:])]
        last = text.shape[1] - 1
        said.append([nat for nat, token in zip(nats[:last], whole[1:], strict=False) if token != 8])
        drawn.append(nats[last:])
    return said, drawn


def mean_of(lists: list[list[float]]) -> float:
    return sum(map(sum, lists)) / sum(map(len, lists))


def streamed(weight: float, logits: Tensor = logits, text: Tensor = text, codes: Tensor = codes) -> Tensor:
    """The answer, a scalar."""
    with untouched(logits=logits, text=text, codes=codes), unaided(dalle_loss):
        return is_tensor(stream_loss(logits, text, codes, 9, 8, weight), (), "the loss, one number,")


said, drawn = nats_of(text, codes, logits, 9)
a, b = mean_of(said), mean_of(drawn)
out, right = float(streamed(1 / 8)), a / 8 + 7 * b / 8
whole = torch.cat([text, codes + 9], dim=1)
assert abs(out - (7 * a / 8 + b / 8)) > 1e-9, "the weights are exchanged: `weight` is the text's"
assert abs(out - mean_of([*said, *drawn])) > 1e-9, "one mean over all tokens: each kind is to have a mean of its own"
assert abs(out - (a + b)) > 1e-9, "the weights are missing"
padded = F.cross_entropy(logits[:, :4].transpose(1, 2), whole[:, 1:5])
assert abs(out - float(padded / 8 + 7 * b / 8)) > 1e-9, "padding is predicted: those places must not count"
each = sum(sum(row) / len(row) for row in said) / len(said)
assert abs(out - (each / 8 + 7 * b / 8)) > 1e-9, (
    "a mean for each caption, and of these the mean: short captions' tokens count more. One mean over all tokens"
)
zeroed = sum(map(sum, said)) / (4 * len(said))
assert abs(out - (zeroed / 8 + 7 * b / 8)) > 1e-9, (
    "padding adds nothing, but is counted in the mean: divide by what counts"
)
plain = F.cross_entropy(logits[:, 4:].transpose(1, 2), codes)
assert abs(out - float(a / 8 + 7 * plain / 8)) > 1e-9, "code k is the token words + k of the stream"
late = F.cross_entropy(logits.transpose(1, 2), whole[:, :-1], reduction="none")
keep = (text != 8)[:, :5]
shifted = late[:, :5][keep].mean() / 8 + 7 * late[:, 5:].mean() / 8
assert abs(out - float(shifted)) > 1e-9, (
    "logits at place i are for the token at place i + 1: targets begin with the second"
)
sums = sum(map(sum, said)) / 8 + 7 * sum(map(sum, drawn)) / 8
assert abs(out - sums) > 1e-9, "these are sums: a mean over the tokens of each kind is asked for"
border = nats_of(text, codes, logits, 9)
early = [row + one[:1] for row, one in zip(*border, strict=True)]
assert abs(out - (mean_of(early) / 8 + 7 * mean_of([row[1:] for row in drawn]) / 8)) > 1e-9, (
    "the first token of the image is predicted at the last place of the text, and is one of the image"
)
assert abs(out - right) < 1e-6, "the loss is wrong: cross-entropy of each kind, its mean, weighted"
assert near(streamed(0.0), b, 1e-6), "with weight 0 only the image counts"
assert near(streamed(1.0), a, 1e-6), "with weight 1 only the text counts"
### BEGIN HIDDEN TESTS
one = nats_of(text[1:2], codes[1:2], logits[1:2], 9)
alone = streamed(0.5, logits[1:2], text[1:2], codes[1:2])
assert near(alone, mean_of(one[0]) / 2 + mean_of(one[1]) / 2, 1e-6), "wrong for one sample"
### END HIDDEN TESTS

# %% [markdown] hints="14.1"
# 1. Write down the stream of one sample and, under each token, the place of the logits that predict it.
#
# 2. Targets: `torch.cat([text, codes + words], 1)[:, 1:]`. The first $L - 1$ of them are the text's, the rest the
#    image's.
#
# 3. `nats = -logits.log_softmax(2).gather(2, targets[..., None])[..., 0]`; of the text's part choose
#    `text[:, 1:] != padding` before the mean.

# %% [markdown]
# ## 14.2 The pattern of columns (1 point, 10 minutes, medium)
#
# Write the pattern in which a token of the image sees all of the text, and of the image the tokens of its own column,
# itself included, that are not later. Tokens of the text see the text up to themselves and no image. The image stands
# behind the text, row by row: `height` rows of `width` tokens.
#
# **Without:** `attention_pattern`.


# %% solution="14.2"
def column_pattern(text: int, height: int, width: int) -> Tensor:
    """Which token sees which.

    Args:
        text: tokens of the text, perhaps 0.
        height, width: of the image's grid.

    Returns:
        (N, N) bool, N = text + height width: true where the token of the row sees that of the column.
    """
    ### BEGIN SOLUTION
    seen = torch.ones(text + height * width, text + height * width, dtype=torch.bool).tril()
    column = torch.arange(height * width) % width
    seen[text:, text:] &= column[:, None] == column
    return seen
    ### END SOLUTION


# %% check="14.2" points=1
def pattern_of(text: int, height: int, width: int) -> Tensor:
    """The answer, (N, N)."""
    with unaided(attention_pattern):
        out = column_pattern(text, height, width)
    assert isinstance(out, Tensor), f"the pattern must be a tensor, got {type(out).__name__}: is something returned?"
    assert out.shape == (text + height * width,) * 2, f"the pattern must be (N, N), got {tuple(out.shape)}"
    assert out.dtype == torch.bool, f"the pattern must be of true and false, got {out.dtype}"
    return out


out, right = pattern_of(3, 2, 4), attention_pattern("column", 3, 2, 4)
assert not torch.equal(out, right.T), "it is the wrong way round: the row is who sees, the column who is seen"
assert not out.triu(1)[:3, :3].any(), "the text sees what comes later in the text"
assert not out[:3, 3:].any(), "the text sees the image, which comes later"
assert not out.triu(1).any(), "a token of the image sees a later one of its column"
assert out.diagonal().all(), "a token sees itself too"
assert torch.equal(out[:3, :3], right[:3, :3]), "a token of the text sees all of the text up to itself"
assert out[3:, :3].all(), "each token of the image sees the whole text"
place = torch.arange(8)
for kind, says in (
    (place // 4, "these are the rows: tokens of one column differ by a multiple of the width"),
    (place % 2, "the column is the place modulo the width, not the height"),
):
    assert not torch.equal(out[3:, 3:], (kind[:, None] == kind) & (place[:, None] >= place)), says
assert not torch.equal(out[3:, 3:], torch.ones(8, 8).tril() > 0), (
    "all earlier tokens of the image are seen: only its column"
)
assert torch.equal(out, right), "of the image a token sees those of its column"
for sizes in ((1, 3, 2), (0, 3, 3), (5, 1, 4), (2, 4, 1)):
    assert torch.equal(pattern_of(*sizes), attention_pattern("column", *sizes)), (
        f"wrong for text, height, width = {sizes}"
    )

# %% [markdown] hints="14.2"
# 1. Begin with what is causal, then take away what the image does not see of the image.
#
# 2. Token $i$ of the image is in column $i \bmod \text{width}$; two tokens are in one column where these agree.
#
# 3. `seen = torch.ones(N, N, dtype=torch.bool).tril()`, `column = torch.arange(height * width) % width`, then
#    `seen[text:, text:] &= column[:, None] == column`.

# %% [markdown]
# ## 14.3 One step with a cache (2 points, 20 minutes, hard)
#
# A new token $x$ of each of $B$ sequences comes in. It makes a query, a key and a value (`x @ w.T` has `3 D` columns:
# query, key, value). Keys and values of the $M$ tokens before it are in the cache. It looks at the earlier ones that
# the pattern allows, and at itself. Head $a$ owns columns $a d \dots (a + 1) d - 1$ of queries, keys, values and of the
# result, with $d = D / \text{heads}$; logits are divided by $\sqrt d$. Return what it reads, and the cache with the new
# key and value behind the others: later tokens may be allowed what this one is not.
#
# **Without:** `F.scaled_dot_product_attention`, `nn.MultiheadAttention`, `F.multi_head_attention_forward`, `Attention`.


# %% solution="14.3"
def cached_step(
    x: Tensor, w: Tensor, keys: Tensor, values: Tensor, allowed: Tensor, heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What the new token reads (B, D), and the cache: keys (B, M + 1, D), values (B, M + 1, D).

    Args:
        x: (B, D).
        w: (3 D, D).
        keys, values: of earlier tokens, (B, M, D); M may be 0.
        allowed: (M,) bool, which of them are seen; perhaps none.
        heads: divides D.
    """
    ### BEGIN SOLUTION
    query, key, value = (x @ w.T).chunk(3, dim=1)
    keys, values = torch.cat([keys, key[:, None]], dim=1), torch.cat([values, value[:, None]], dim=1)
    q = query.unflatten(1, (heads, 1, -1))
    k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (keys, values))
    logits = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])  # (B, heads, 1, M + 1)
    seen = torch.cat([allowed, torch.ones_like(allowed[:1]) if len(allowed) else torch.tensor([True])])
    weights = logits.masked_fill(~seen, -math.inf).softmax(dim=3)
    return (weights @ v).flatten(1), keys, values
    ### END SOLUTION


# %% check="14.3" points=2
D = 8
tokens, w = normal(2, 6, D, seed=21), normal(3 * D, D, seed=22)
every = torch.ones(5, dtype=torch.bool)
allowed = torch.tensor([True, False, True, True, False])


def kept(count: int) -> tuple[Tensor, Tensor]:
    """Keys and values of the first tokens, (B, count, D)."""
    _, k, v = (tokens[:, :count] @ w.T).chunk(3, dim=2)
    return k, v


def library(allowed: Tensor, heads: int, w: Tensor = w, own: bool = True) -> Tensor:
    """What the library's layer says of the last token, when all are shown at once."""
    count = len(allowed) + 1
    layer = Attention(D, heads).double()
    state = {name: torch.zeros_like(value) for name, value in layer.state_dict().items()}
    layer.load_state_dict(state | {"qkv.weight": w, "out.weight": torch.eye(D)})
    mask = torch.cat([allowed, torch.tensor([own])])
    with torch.no_grad():
        return layer(tokens[:, :count], mask=mask.expand(1, count, count))[:, -1]


def stepped(allowed: Tensor = allowed, heads: int = 2) -> Tensor:
    """The answer, and a look at the cache."""
    count = len(allowed)
    k, v = kept(count)
    with untouched(tokens=tokens, w=w, k=k, v=v, allowed=allowed), unaided(
        F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, Attention
    ):  # fmt: skip
        back = cached_step(tokens[:, count], w, k, v, allowed, heads)
    assert isinstance(back, tuple), f"return three tensors in a tuple, got {type(back).__name__}"
    assert len(back) == 3, f"return three tensors: what is read, the keys, the values; got {len(back)}"
    out, more_keys, more_values = back
    is_tensor(out, (2, D), "what the token reads")
    for name, more, first, right in (
        ("keys", more_keys, k, kept(count + 1)[0]),
        ("values", more_values, v, kept(count + 1)[1]),
    ):
        assert isinstance(more, Tensor), f"the {name} of the cache must be a tensor, got {type(more).__name__}"
        assert more.shape[1] >= count, (
            f"of {count} earlier {name} only {more.shape[1]} are left: later tokens may be allowed what this one is not"
        )
        assert more.shape[1] == count + 1, f"the cache must have {count + 1} {name} now, got {more.shape[1]}"
        assert not count or not near(more[:, 1:], first), f"the new one of the {name} goes behind the others"
        assert near(more[:, -1], right[:, -1]) or not near(more[:, -1], kept(count + 1)[name == "keys"][:, -1]), (
            f"the new one of the {name} is the other kind: x @ w.T has query, key, value in this order"
        )
        assert near(more, right), f"the cache must hold the earlier {name} as they were, and the new token's last"
    return out


out = stepped()
assert not near(out, library(every, 2)), "the pattern has no effect: tokens that are not allowed are read"
assert not near(out, library(~allowed, 2)), "the pattern is the wrong way round: true is seen"
k, v = kept(6)
q = (tokens[:, 5] @ w.T)[:, :D]


def by_hand(keep: Tensor, scale: float, heads: int = 2, fill: float = -math.inf) -> Tensor:
    """Attention of the last token to those that are kept, head by head."""
    made = []
    for part in range(heads):
        at = slice(part * D // heads, (part + 1) * D // heads)
        logits = (q[:, None, at] * k[:, :, at]).sum(2) * scale
        made.append((logits.masked_fill(~keep, fill).softmax(1)[..., None] * v[:, :, at]).sum(1))
    return torch.cat(made, dim=1)


seen = torch.cat([allowed, torch.tensor([True])])
blind = torch.cat([allowed, torch.tensor([False])])
assert not near(out, by_hand(blind, 0.5)), (
    "the new token does not see itself: its key and value come before the softmax"
)
assert not near(out, by_hand(seen, 0.5, fill=0.0)), "what is not allowed has a logit of 0 and so a weight: exp(0) = 1"
for scale, says in (
    (8**-0.5, "divide by the root of a head's width d = D / heads, not of D"),
    (1.0, "the logits must be divided by the root of d"),
    (0.25, "the logits are divided by d, where its root is asked for"),
):  # fmt: skip
    assert not near(out, by_hand(seen, scale)), says
for scale in (8**-0.5, 0.5):
    assert not near(out, by_hand(seen, scale, heads=1)), "there is one head where two were asked for"
assert near(out, library(allowed, 2)), "what is read is not what attention over all tokens at once says of the last one"
assert near(stepped(every, 4), library(every, 4)), "use `heads` as it comes"
first = stepped(torch.ones(0, dtype=torch.bool))
assert near(first, kept(1)[1][:, 0]), "the first token of all sees itself alone, so that it reads its own value"
assert near(stepped(torch.zeros(5, dtype=torch.bool), 1), kept(6)[1][:, 5]), (
    "allowed nothing, a token reads its own value"
)
### BEGIN HIDDEN TESTS
k, v, read = *kept(0), []
for at in range(6):
    out, k, v = cached_step(tokens[:, at], w, k, v, torch.ones(at, dtype=torch.bool), 2)
    read.append(out)
for at in range(6):
    assert near(read[at], library(torch.ones(at, dtype=torch.bool), 2)), "a sequence written step by step goes wrong"
### END HIDDEN TESTS

# %% [markdown] hints="14.3"
# 1. After the new key and value are in the cache it is attention of one query to $M + 1$ tokens.
#
# 2. `query, key, value = (x @ w.T).chunk(3, 1)`; `torch.cat([keys, key[:, None]], 1)`, likewise the values. The mask
#    gets a true at its end.
#
# 3. Heads: `keys.unflatten(2, (heads, -1)).transpose(1, 2)` and `query.unflatten(1, (heads, 1, -1))`; logits where the
#    mask is false become $-\infty$; behind the softmax over the last axis, `(weights @ v).flatten(1)`.

# %% [markdown]
# ## 14.4 The law of the next token (1 point, 10 minutes, medium)
#
# Return the probabilities from which the next token is drawn: $\mathrm{softmax}(\ell / \tau)$, cut to the `top_k` most
# probable tokens and those that are exactly as probable as the last of them, and scaled so that they sum to 1.
# `top_k` 0 cuts nothing. Logits may be of any size, such as $\pm 10^4$, and $-\infty$ for tokens that are forbidden
# (never all).
#
# **Without:** `next_token`.


# %% solution="14.4"
def next_law(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    """Probabilities of tokens.

    Args:
        logits: (B, K).
        temperature: > 0.
        top_k: 0 ... K.

    Returns:
        (B, K), >= 0, each row with sum 1.
    """
    ### BEGIN SOLUTION
    scaled = logits / temperature
    if top_k:
        least = scaled.topk(top_k, dim=1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -math.inf)
    return scaled.softmax(dim=1)
    ### END SOLUTION


# %% check="14.4" points=1
def right_law(row: list[float], temperature: float, top_k: int) -> list[float]:
    """Number by number, with the largest exponent taken out."""
    least = sorted(row, reverse=True)[top_k - 1] if top_k else -math.inf
    top = max(row)
    weights = [math.exp((x - top) / temperature) if x >= least else 0.0 for x in row]
    return [weight / math.fsum(weights) for weight in weights]


def expected(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    return torch.tensor([right_law(row, temperature, top_k) for row in logits.tolist()], dtype=torch.float64)


def law_of(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    """The answer, (B, K)."""
    with untouched(logits=logits), unaided(next_token):
        return is_tensor(next_law(logits, temperature, top_k), tuple(logits.shape), "the probabilities")


logits = normal(3, 6, seed=31)
out = law_of(logits, 0.5, 0)
assert not near(out, expected(logits, 2.0, 0)), "the logits are multiplied by the temperature: divide"
assert not near(out, expected(logits, 1.0, 0)), "the temperature has no effect"
assert near(out, expected(logits, 0.5, 0)), "without a cut it is softmax(logits / temperature); top_k = 0 cuts nothing"
out, right = law_of(logits, 0.5, 3), expected(logits, 0.5, 3)
full = expected(logits, 0.5, 0)
assert not near(out, full), "top_k has no effect"
assert not near(out, torch.where(right > 0, full, 0.0)), "what is left must sum to 1 again"
zeroed = (logits / 0.5).masked_fill(right == 0, 0.0).softmax(1)
assert not near(out, zeroed), "tokens that are cut have a logit of 0 and so a probability: exp(0) = 1"
worst = (-logits).topk(3, dim=1).indices
assert not bool((out.gather(1, worst) > 0).all()), (
    "the least probable tokens are kept, the most probable ones are to be"
)
assert not near(out, expected(logits, 1.0, 3)), "with a cut, the logits are not divided by the temperature"
assert int((out[0] > 0).sum()) == 3, f"of top_k = 3 in the first row {int((out[0] > 0).sum())} tokens can be drawn"
assert near(out, right), "wrong with a cut"
tied = torch.tensor([[0.0, 1.0, 1.0, 1.0, -1.0], [2.0, 0.0, 0.0, 0.0, 0.0]]).double()
assert near(law_of(tied, 1.0, 2), expected(tied, 1.0, 2)), "those exactly as probable as the last one are kept too"
large = law_of(1e4 * logits, 0.5, 0)
assert near(large, expected(1e4 * logits, 0.5, 0)), "wrong for large logits"
forbidden = logits.clone()
forbidden[:, [0, 4]] = -math.inf
for k in (0, 2, 6):
    assert near(law_of(forbidden, 2.0, k), expected(forbidden, 2.0, k)), f"wrong with forbidden tokens and top_k = {k}"
### BEGIN HIDDEN TESTS
assert near(law_of(logits[:1], 3.0, 1), expected(logits[:1], 3.0, 1)), "top_k = 1 must leave the most probable token"
assert near(law_of(logits - 1e4, 1.0, 4), expected(logits - 1e4, 1.0, 4), 1e-7), "wrong for logits of -10000"
### END HIDDEN TESTS

# %% [markdown] hints="14.4"
# 1. It is the same to cut logits before the softmax, or probabilities behind it and to scale them. One of the two needs
#    no scaling.
#
# 2. The least logit that stays is the last of `topk`. What is strictly below it becomes $-\infty$.
#
# 3. `least = scaled.topk(top_k, dim=1).values[:, -1:]`, then `scaled.masked_fill(scaled < least,
#    -math.inf).softmax(1)`.

# %% [markdown]
# ## 14.5 A density for pixels (1 point, 10 minutes, medium)
#
# A pixel $x \in [-1, 1]$ is mapped to $v = (1 - 2 \epsilon) \frac{x + 1}{2} + \epsilon$. The log odds of $v$, $\log
# \frac{v}{1 - v}$, have a Laplace law of location $\mu$ and scale $b$, with density $\frac{1}{2b} e^{-|\cdot - \mu| /
# b}$. Return the logarithm of the density **of $v$** in nats.
#
# **Without:** `log_density`, `log_mass`, `into_odds`.


# %% solution="14.5"
def log_pixel(x: Tensor, location: Tensor, log_scale: Tensor, epsilon: float = 0.1) -> Tensor:
    """log f(v), shaped like x.

    Args:
        x: pixels in [-1, 1].
        location: mu, shaped like x.
        log_scale: log b, shaped like x.
        epsilon: in (0, 1/2).
    """
    ### BEGIN SOLUTION
    v = (1 - 2 * epsilon) * (x + 1) / 2 + epsilon
    distance = (v.log() - (1 - v).log() - location).abs()
    return -distance / log_scale.exp() - log_scale - (2 * v * (1 - v)).log()
    ### END SOLUTION


# %% check="14.5" points=1
x = torch.linspace(-1, 1, 12).double().reshape(3, 4)
location, log_scale = normal(3, 4, seed=41), 0.7 * normal(3, 4, seed=42)


def pixel(epsilon: float = 0.1, x: Tensor = x, location: Tensor = location, log_scale: Tensor = log_scale) -> Tensor:
    """The answer, shaped like x."""
    with untouched(x=x, location=location, log_scale=log_scale), unaided(log_density, log_mass, into_odds):
        return is_tensor(log_pixel(x, location, log_scale, epsilon), tuple(x.shape), "the logarithm of the density")


out, right = pixel(), log_density(x, location, log_scale)
v = 0.8 * (x + 1) / 2 + 0.1
inside = torch.log(v * (1 - v))
distance = (v.logit() - location).abs()
for wrong, says in (
    (right + inside, "the change of variables is missing: the log odds change by dv / (v (1 - v))"),
    (right + 2 * inside, "the change of variables the wrong way round: divide the density by v (1 - v)"),
    (right + math.log(2), "the 2 of 2 b is missing: the density must sum to 1"),
    (right + log_scale, "the density of a Laplace law is divided by b: a wider one is lower"),
    (right + distance * ((-log_scale).exp() - log_scale.exp()), "the distance is multiplied by b: divide by it"),
    (right + math.log(0.4), "this is the density of x: the one of v is asked for"),
    (right + (distance - distance**2) / log_scale.exp(), "the distance is squared: its size is meant"),
    (right + 2 * distance / log_scale.exp(), "it grows with the distance: check the sign"),
):  # fmt: skip
    assert not near(out, wrong), says
assert near(out, right), "expected -|logit v - mu| / b - log(2 b v (1 - v)) with v = 0.8 (x + 1) / 2 + 0.1"
grid = (torch.arange(200_000).double() + 0.5) / 200_000  # of x, from -1 to 1
for epsilon in (0.01, 0.2):
    zero = torch.zeros_like(grid)
    total = pixel(epsilon, 2 * grid - 1, zero, zero - 1).exp().mean() * (1 - 2 * epsilon)
    odds = math.log((1 - epsilon) / epsilon)
    assert near(total, 1 - math.exp(-odds * math.e), 1e-3), "wrong for another epsilon: use it as it comes"
### BEGIN HIDDEN TESTS
assert near(pixel(0.1, x[:1, :1], location[:1, :1], log_scale[:1, :1]), right[:1, :1]), "wrong for one pixel"
### END HIDDEN TESTS

# %% [markdown] hints="14.5"
# 1. Densities change by the slope: if $l = g(v)$ has density $h$, then $v$ has density $h(g(v))\, g'(v)$.
#
# 2. The slope of the log odds is $\frac1v + \frac{1}{1 - v} = \frac{1}{v (1 - v)}$.
#
# 3. `-(v.logit() - location).abs() / log_scale.exp() - log_scale - (2 * v * (1 - v)).log()`.

# %% [markdown]
# ## 14.6 What each stage loses (2 points, 20 minutes, hard)
#
# Images have $X$ values, captions $Y$, tokens $K$; all laws are tables. The bound of a model in two stages is $\mathbb
# E[-\log p(x \mid z) + \log q(z \mid x) - \log p(z \mid y)]$, for $x, y$ from the data and $z$ from the encoder. Return
# it, and how much of it is lost by the second stage, $\mathbb E\, \mathrm{KL}(q(z \mid y) \,\|\, p(z \mid y))$, and by
# the first, $\mathbb E\, \mathrm{KL}(q(x \mid z, y) \,\|\, p(x \mid z))$, in nats. An encoder may be certain ($q = 0$
# for the other tokens), and what never happens costs nothing; what happens has a probability above 0 in the model.
#
# **Without:** `evidence_bound`.


# %% solution="14.6"
def two_stages(data: Tensor, encoder: Tensor, decoder: Tensor, prior: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The bound, the second stage's loss and the first stage's: three scalars.

    Args:
        data: p(x, y), (Y, X), positive, with sum 1.
        encoder: q(z | x), (X, K), rows with sum 1, perhaps with zeros.
        decoder: p(x | z), (K, X).
        prior: p(z | y), (Y, K).
    """
    ### BEGIN SOLUTION
    joint = data[:, :, None] * encoder  # q(y, x, z)
    with_token = joint.sum(1)  # q(y, z)
    second = with_token / with_token.sum(1, keepdim=True) / prior  # q(z | y) / p(z | y)
    first = joint / with_token[:, None] / decoder.T  # q(x | z, y) / p(x | z)
    bound = encoder / decoder.T / prior[:, None]

    def mean(weights: Tensor, ratio: Tensor) -> Tensor:
        return (weights * torch.where(weights > 0, ratio, 1.0).log()).sum()

    return mean(joint, bound), mean(with_token, second), mean(joint, first)
    ### END SOLUTION


# %% check="14.6" points=2
def law(*shape: int, seed: int) -> Tensor:
    """A table of positive numbers whose last axis sums to 1."""
    return (1.5 * normal(*shape, seed=seed)).softmax(-1)


data = law(15, seed=51).reshape(3, 5)
encoder, decoder, prior = law(5, 4, seed=52), law(4, 5, seed=53), law(3, 4, seed=54)


def split(
    data: Tensor = data, encoder: Tensor = encoder, decoder: Tensor = decoder, prior: Tensor = prior
) -> tuple[float, float, float]:
    """The answer: bound, second stage, first stage."""
    with untouched(data=data, encoder=encoder, decoder=decoder, prior=prior), unaided(evidence_bound):
        back = two_stages(data, encoder, decoder, prior)
    assert isinstance(back, tuple), f"return three scalars in a tuple, got {type(back).__name__}"
    assert len(back) == 3, f"return three scalars: the bound, the second stage's, the first's; got {len(back)}"
    names = ("the bound", "the second stage's loss", "the first stage's loss")
    return tuple(float(is_tensor(part, (), f"{name}, one number,")) for part, name in zip(back, names, strict=True))


def sums(data: Tensor, encoder: Tensor, decoder: Tensor, prior: Tensor) -> dict[str, float]:
    """Sums over all images, captions and tokens, number by number."""
    found = dict.fromkeys(("bound", "second", "first", "blind", "same", "reversed", "half", "marginal"), 0.0)
    p, q, d, r = (table.tolist() for table in (data, encoder, decoder, prior))
    captions, images, tokens = range(len(p)), range(len(q)), range(len(q[0]))
    said = [sum(row) for row in p]
    both = [[sum(p[y][x] * q[x][z] for x in images) for z in tokens] for y in captions]
    token = [sum(both[y][z] for y in captions) for z in tokens]
    image = [sum(p[y][x] for y in captions) for x in images]
    for y in captions:
        for z in tokens:
            if both[y][z]:
                given = both[y][z] / said[y]
                found["second"] += both[y][z] * math.log(given / r[y][z])
                found["same"] += given * math.log(given / r[y][z]) / len(said)
                found["reversed"] += said[y] * r[y][z] * math.log(r[y][z] / given)
                found["marginal"] += both[y][z] * math.log(token[z] / r[y][z])
            for x in images:
                if weight := p[y][x] * q[x][z]:
                    found["bound"] += weight * math.log(q[x][z] / d[z][x] / r[y][z])
                    found["half"] -= weight * math.log(d[z][x] * r[y][z])
                    found["first"] += weight * math.log(weight / both[y][z] / d[z][x])
                    found["blind"] += weight * math.log(image[x] * q[x][z] / token[z] / d[z][x])
    return found


bound, second, first = split()
right = sums(data, encoder, decoder, prior)
differ = lambda a, b: abs(a - b) > 1e-9  # noqa: E731
assert not (abs(second - right["first"]) < 1e-9 and abs(first - right["second"]) < 1e-9), (
    "the two losses are exchanged: the bound, then the second stage's, then the first's"
)
assert differ(bound, right["half"]), "the encoder's own entropy is missing: the rate has log q(z | x) in it"
assert differ(bound, -right["bound"]), "the sign of the bound: it is what an image costs"
assert not differ(bound, right["bound"]), (
    "the bound is wrong: E[-log p(x | z) + log q(z | x) - log p(z | y)], z from q(z | x)"
)
assert differ(second, right["same"]), "captions are not equally frequent: weight each with p(y)"
assert differ(second, right["reversed"]), "the divergence of the second stage the wrong way round: KL(q | p)"
assert differ(second, right["marginal"]), "q(z) was taken for q(z | y): the second stage is told the caption"
assert not differ(second, right["second"]), "the second stage: q(z | y) = sum_x p(x | y) q(z | x), against the prior"
assert differ(first, right["blind"]), (
    "q(x | z) was taken for q(x | z, y): the caption says more of the image than its tokens"
)
assert not differ(first, right["first"]), "the first stage: q(x | z, y) is p(x, y) q(z | x) over its sum over x"
entropy = -float((data * (data / data.sum(1, keepdim=True)).log()).sum())
assert abs(bound - entropy - second - first) < 1e-9, "bound - H(x | y) must be the sum of the two losses"
certain = F.one_hot(torch.tensor([0, 1, 1, 3, 0]), 4).double()  # token 2 is never used
try:
    sure = split(encoder=certain)
except AssertionError as error:
    raise AssertionError(
        f"an encoder that is certain: 0 log 0 is 0, what never happens costs nothing ({error})"
    ) from error
right = sums(data, certain, decoder, prior)
for found, name in zip(sure, ("bound", "second", "first"), strict=True):
    assert not differ(found, right[name]), f"wrong for an encoder that is certain of its tokens ({name})"
best = data @ encoder / data.sum(1, keepdim=True)
assert abs(split(prior=best)[1]) < 1e-9, "with p(z | y) = q(z | y) the second stage loses nothing"
### BEGIN HIDDEN TESTS
lone = split(data[:1] / data[0].sum(), encoder, decoder, prior[:1])
right = sums(data[:1] / data[0].sum(), encoder, decoder, prior[:1])
assert not differ(lone[0], right["bound"]), "wrong with one caption"
assert not differ(lone[2], right["first"]), "wrong with one caption"
### END HIDDEN TESTS

# %% [markdown] hints="14.6"
# 1. All three are means under one law, $q(y, x, z) = p(x, y)\, q(z \mid x)$: a table (Y, X, K).
#
# 2. Its sum over images is $q(y, z)$; divided by its sum over tokens that is $q(z \mid y)$; the table over it is $q(x
#    \mid z, y)$.
#
# 3. `joint = data[:, :, None] * encoder`, `with_token = joint.sum(1)`. Each mean is `(weights * ratio.log()).sum()`
#    with the ratio set to 1 where the weight is 0, so that no infinity comes in.

# %% [markdown]
# ## 14.7 The best of N (2 points, 20 minutes, hard)
#
# For each of $B$ captions $M$ candidates were made, with a score and a truth (what the judge says). Choose $n$ of the
# $M$ at random, without putting one back, and of these the one with the highest score: what is its truth on average,
# over all $\binom Mn$ choices? Return the exact mean, not an estimate. Scores of one caption all differ.


# %% solution="14.7"
def best_of(score: Tensor, truth: Tensor, n: int) -> Tensor:
    """The mean truth of the best of n, (B,).

    Args:
        score, truth: (B, M).
        n: 1 ... M, M up to 500.
    """
    ### BEGIN SOLUTION
    many = score.shape[1]
    weights = [math.comb(below, n - 1) / math.comb(many, n) for below in range(many)]  # the n - 1 others are below it
    ordered = truth.double().gather(1, score.argsort(dim=1))
    return ordered @ torch.tensor(weights, dtype=torch.float64)
    ### END SOLUTION


# %% check="14.7" points=2
score, truth = normal(3, 7, seed=61), normal(3, 7, seed=62)


def over_all(score: Tensor, truth: Tensor, n: int) -> Tensor:
    """All choices, one after the other."""
    rows = []
    for s, t in zip(score.tolist(), truth.tolist(), strict=True):
        rows.append([t[max(chosen, key=lambda i: s[i])] for chosen in combinations(range(len(s)), n)])
    return torch.tensor([math.fsum(row) / len(row) for row in rows], dtype=torch.float64)


def chosen(n: int, score: Tensor = score, truth: Tensor = truth) -> Tensor:
    """The answer, (B,)."""
    with untouched(score=score, truth=truth):
        return is_tensor(best_of(score, truth, n), (len(score),), "the mean truth, one number a caption,")


out, right = chosen(3), over_all(score, truth, 3)
order = score.argsort(dim=1)
low_first = truth.gather(1, order)
steps = torch.arange(8).double() / 7
for wrong, says in (
    (over_all(truth, truth, 3), "this is an oracle's choice: the score chooses, not the truth"),
    (over_all(-score, truth, 3), "the lowest score was chosen: sort upwards, or turn the weights"),
    (over_all(score, score, 3), "the score of the chosen one was returned: its truth is asked for"),
    (low_first[:, -3:].mean(1), "the mean of the three best of all: most choices of three have not one of those"),
    (low_first[:, -1], "the best of all M: there are only n to choose from"),
    (truth.gather(1, score[:, :3].argmax(1, keepdim=True))[:, 0], "the best of the first n: all choices count"),
    (low_first @ (steps[1:] ** 3 - steps[:-1] ** 3), "these draws are put back: one may come twice"),
    (over_all(score, truth, 4), "that is the best of n + 1"),
    (over_all(score, truth, 2), "that is the best of n - 1"),
):  # fmt: skip
    assert not near(out, wrong), says
assert near(out, right), "how many choices of n have this candidate as their best? n - 1 others, all of lower score"
assert near(chosen(1), truth.mean(1)), "with n = 1 it is the mean over all candidates"
assert near(chosen(7), low_first[:, -1]), "with n = M it is the best of all"
for n in (2, 5, 6):
    assert near(chosen(n), over_all(score, truth, n)), f"right for n = 3 and wrong for n = {n}"
yes = (truth > 0)[:1]
assert near(best_of(score[:1], yes, 2), over_all(score[:1], yes.double(), 2)), "the truth may also be true or false"
many = normal(1, 400, seed=63)
try:
    found = chosen(200, many, many)
except (OverflowError, RuntimeError, ValueError, AssertionError) as error:
    raise AssertionError(
        "with 400 candidates the numbers of choices are too large for a tensor of them: divide integers"
    ) from error
drawn = torch.stack(
    [many[0, torch.randperm(400, generator=torch.Generator().manual_seed(i))[:200]].max() for i in range(400)]
)
assert abs(float(found) - float(drawn.mean())) < 0.1, "wrong for 200 of 400"
### BEGIN HIDDEN TESTS
assert near(chosen(3, score.float()[:1], truth.float()[:1]), right[:1], 1e-5), "wrong in single precision"
### END HIDDEN TESTS

# %% [markdown] hints="14.7"
# 1. Sort by the score. When is the candidate that has $r$ others below it the best of $n$?
#
# 2. When the other $n - 1$ are among those $r$: $\binom{r}{n - 1}$ of the $\binom Mn$ choices.
#
# 3. `weights = [math.comb(r, n - 1) / math.comb(M, n) for r in range(M)]`, and the truth in the order of
#    `score.argsort(dim=1)`.

# %% tags=["demo"]
sizes, pool = [1, 2, 4, 8, 16, 32], normal(200, 32, seed=71)
figure, axes = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
for rho, colour in ((0.3, GREY), (0.7, INK), (1.0, ACCENT)):
    about = rho * pool + math.sqrt(1 - rho**2) * normal(200, 32, seed=72)
    axes.plot(
        sizes, [float(best_of(pool, about, n).mean()) for n in sizes], "o-", color=colour, label=f"correlation {rho:g}"
    )
axes.plot(sizes, [math.sqrt(2 * math.log(n)) for n in sizes], "--", color=ACCENT, label="√(2 log N)")
axes.set_xscale("log", base=2)
axes.set(xlabel="N", ylabel="truth of the chosen one (yours)", title="What a score that is nearly right gives")
axes.legend()
plt.show()

# %% [markdown]
# ## How to be graded
#
# Save the notebook and run `flowlib grade 14_dalle.ipynb`. It prints a table of the questions with your points, and the
# hint of each check that failed. In the library the same things are `dalle_loss` (`flowlib/systems/dalle.py`),
# `attention_pattern` (`flowlib/nets/patterns.py`), `Cache` (`flowlib/nets/transformer_block.py`), `next_token`
# (`flowlib/systems/token_sampling.py`), `log_density` (`flowlib/systems/logit_laplace.py`), `evidence_bound`
# (`flowlib/systems/token_bound.py`) and `rank` (`flowlib/systems/reranking.py`).
