# %% [markdown]
# # Exercise 13. GLIDE
#
# You build what lecture 13 derives: attention to words and pixels in one softmax, and the gate that it amounts to;
# guidance by the empty caption where an image is given too; new input channels for a network that is trained already;
# a sampler that replaces known pixels, and the law that it should have had; and guidance by a critic such as CLIP.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right;
# when it is wrong, it says what probably went wrong. The grader runs these checks and a few more. `hint("13.1")` gives
# a hint; asked again, it says more, three times. Every question stands on its own. Arguments are never to be changed.
#
# **Without** in a question names functions that solve it already: an answer that calls one of them gets no points.
#
# **Needed before:** [lecture 13](../lectures/13_glide.ipynb). **Time:** about 90 minutes. **Points:** 10.

# %%
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from flowlib import ClassifierFreeGuidance, EnergyGuidance, GaussianPath, MixtureField, sample_ode
from flowlib.course.notebook import exercise, unaided
from flowlib.field import Field
from flowlib.nets.attention import Attention
from flowlib.plotting.style import ACCENT, BLUE, GREY, INK
from flowlib.systems.inpainting import KnownPixels, ReplacedPixels

hint = exercise("13_glide").hint


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
# ## 13.1 Words and pixels in one softmax (2 points, 20 minutes, hard)
#
# Write GLIDE's attention. Each token $h_i$ of the image makes a query, a key and a value: the rows of `w_qkv` make
# first all queries, then all keys, then all values, so that `h @ w_qkv.T` has `3 D` columns. Each token of the text
# makes a key and a value: `context @ w_kv.T` has `2 D` columns, the keys first. A query looks at the tokens of the text
# *and* at those of the image, in one softmax. Head $a$ owns columns $a d \dots (a + 1) d - 1$ of queries, keys, values
# and of the result, with $d = D / \text{heads}$; logits are divided by $\sqrt d$. Tokens of the text whose mask is
# false are padding, which nobody sees; all tokens of the image count.
#
# **Without:** `F.scaled_dot_product_attention`, `nn.MultiheadAttention`, `F.multi_head_attention_forward`, `Attention`.


# %% solution="13.1"
def joined_attention(h: Tensor, context: Tensor, mask: Tensor, w_qkv: Tensor, w_kv: Tensor, heads: int) -> Tensor:
    """What each token of the image reads, of the text and of the image.

    Args:
        h: tokens of the image (B, N, D).
        context: tokens of the text (B, M, C).
        mask: (B, M) bool, false for padding; a row may be false everywhere.
        w_qkv: (3 D, D).
        w_kv: (2 D, C).
        heads: divides D.

    Returns:
        (B, N, D), the heads side by side.
    """
    ### BEGIN SOLUTION
    q, *own = (h @ w_qkv.T).chunk(3, dim=2)
    read = (context @ w_kv.T).chunk(2, dim=2)
    keys, values = (torch.cat(pair, dim=1) for pair in zip(read, own, strict=True))
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, keys, values))  # (B, heads, ., d)
    counts = torch.cat([mask, torch.ones_like(mask[:, :1]).expand(-1, h.shape[1])], dim=1)
    logits = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
    weights = logits.masked_fill(~counts[:, None, None], -math.inf).softmax(dim=3)
    return (weights @ v).transpose(1, 2).flatten(2)
    ### END SOLUTION


# %% check="13.1" points=2
h, context = normal(2, 5, 8, seed=1), normal(2, 4, 6, seed=2)
w_qkv, w_kv = normal(24, 8, seed=3), normal(16, 6, seed=4)
mask = torch.tensor([[True, True, False, True], [True, False, False, False]])
every = torch.ones_like(mask)


def library(h: Tensor, context: Tensor, mask: Tensor, w_qkv: Tensor, w_kv: Tensor, heads: int) -> Tensor:
    """What the library's layer says with these weights, without biases, and nothing behind the heads."""
    layer = Attention(h.shape[2], heads, context.shape[2], joined=True).double()
    state = {name: torch.zeros_like(value) for name, value in layer.state_dict().items()}
    state |= {"qkv.weight": w_qkv, "kv.weight": w_kv, "out.weight": torch.eye(h.shape[2])}
    layer.load_state_dict(state)
    with torch.no_grad():
        return layer(h, context, F.pad(mask, (0, h.shape[1]), value=True))


def attend(
    h: Tensor = h, context: Tensor = context, mask: Tensor = mask, w_qkv: Tensor = w_qkv, w_kv: Tensor = w_kv,
    heads: int = 2,
) -> Tensor:  # fmt: skip
    """The answer, shaped like h."""
    with untouched(h=h, context=context, mask=mask, w_qkv=w_qkv, w_kv=w_kv), unaided(
        F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, Attention
    ):  # fmt: skip
        out = joined_attention(h, context, mask, w_qkv, w_kv, heads)
    return is_tensor(out, tuple(h.shape), "the result, heads side by side,")


def halves(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Attention to the image alone, and to the text alone."""
    own = library(h, context, torch.zeros_like(mask), w_qkv, w_kv, 2)
    layer = Attention(8, 2, 6).double()
    state = {name: torch.zeros_like(value) for name, value in layer.state_dict().items()}
    layer.load_state_dict(state | {"q.weight": w_qkv[:8], "kv.weight": w_kv, "out.weight": torch.eye(8)})
    with torch.no_grad():
        return own, layer(h, context, mask)


out, (own, words) = attend(), halves(mask)
assert out.dtype == torch.float64, f"what comes in float64 goes out in float64, got {out.dtype}"
assert not near(out, own), "the text is not read at all: this is self-attention"
assert not near(out, words), "the image is not read: this is cross-attention, but a query looks at both"
assert not near(out, own + words), "two softmaxes, added: their weights sum to 2. There is to be one softmax over both"
assert not near(out, (own + words) / 2), "two softmaxes, averaged: the text gets half of each query, whatever it says"
assert not near(out, library(h, context, every, w_qkv, w_kv, 2)), "the mask has no effect: padding is read"
assert not near(out, library(h, context, ~mask, w_qkv, w_kv, 2)), "the mask is the wrong way round: false is padding"
exchanged = torch.cat([w_kv[8:], w_kv[:8]])
assert not near(out, library(h, context, mask, w_qkv, exchanged, 2)), "keys and values of the text are exchanged"
turned = torch.arange(5).flip(0)
assert near(attend(h=h[:, turned], heads=1), attend(heads=1)[:, turned]), (
    "reordering the image's tokens must reorder the result: do values stand in the order of their keys?"
)
assert near(attend(h=h[:, turned]), out[:, turned]), (
    "reordering the image's tokens must reorder the result and nothing else: were tokens and heads mixed in a reshape?"
)
one = torch.zeros_like(w_qkv)
one[16:, 0] = 1  # values of the image read its first number, those of the text theirs; both are set to 1
ones, said = h.clone(), context.clone()
ones[:, :, 0], said[:, :, 0] = 1, 1
to_one = torch.zeros_like(w_kv)
to_one[8:, 0] = 1
assert near(attend(h=ones, context=said, w_qkv=one + F.pad(w_qkv[:16], (0, 0, 0, 8)), w_kv=to_one + F.pad(
    w_kv[:8], (0, 0, 0, 8))), torch.ones(2, 5, 8)), (
    "where all values are 1 the result is not: the weights of one query must sum to 1, over text and image together"
)  # fmt: skip
assert near(attend(context=context + 100 * ~mask[..., None]), out, 1e-6), (
    "what stands in the padding changes the result: which logit has a weight of exactly 0?"
)
for factor, says in (
    (math.sqrt(0.5), "divide by the root of a head's width d = D / heads, not of D"),
    (2.0, "the logits must be divided by the root of d"),
    (0.5, "the logits are divided by d, where its root is asked for"),
):
    scaled = torch.cat([factor * w_qkv[:8], w_qkv[8:]])
    assert not near(out, library(h, context, mask, scaled, w_kv, 2)), says
for root in (1.0, math.sqrt(2)):
    single = torch.cat([root * w_qkv[:8], w_qkv[8:]])
    assert not near(out, library(h, context, mask, single, w_kv, 1)), "there is one head where two were asked for"
expected = library(h, context, mask, w_qkv, w_kv, 2)
assert near(out, expected), "the weights are not those of one softmax over the text's tokens and the image's"
none = torch.zeros_like(mask)
assert near(attend(mask=none), own), "where no token of the text counts, self-attention is left"
for heads in (1, 4):
    assert near(attend(heads=heads), library(h, context, mask, w_qkv, w_kv, heads)), "use `heads` as it comes"
### BEGIN HIDDEN TESTS
few, told, last = normal(1, 3, 12, seed=5), normal(1, 6, 2, seed=6), torch.tensor([[False] * 4 + [True] * 2])
wide, narrow = normal(36, 12, seed=7), normal(24, 2, seed=8)
assert near(attend(few, told, last, wide, narrow, 3), library(few, told, last, wide, narrow, 3)), "wrong for one sample"
### END HIDDEN TESTS

# %% [markdown] hints="13.1"
# 1. One softmax: one list of keys for each query. What must the list of values look like?
#
# 2. Put the text's keys before the image's, and the text's values before the image's: (B, M + N, D). The mask gets as
#    many more columns, true everywhere. Then it is ordinary attention.
#
# 3. `keys = torch.cat([k_text, k_own], dim=1)`, likewise the values; heads by
#    `part.unflatten(2, (heads, -1)).transpose(1, 2)`; logits where the mask is false become $-\infty$ before the
#    softmax over the last axis; back by `.transpose(1, 2).flatten(2)`.

# %% [markdown]
# ## 13.2 The gate (1 point, 10 minutes, medium)
#
# Lecture 13 proves that joined attention is a mean of attention to the text and attention to the image,
# $g \cdot \text{cross} + (1 - g) \cdot \text{self}$. Write its gate
# $$g_i = \frac{\sum_j m_j e^{a_{ij}}}{\sum_j m_j e^{a_{ij}} + \sum_l e^{b_{il}}},$$
# where $a_{ij}$ are the logits of query $i$ with the text's tokens, $b_{il}$ those with the image's, $m_j$ the mask. It
# must be right for logits of any size, such as $\pm 10^4$, and 0 where no token of the text counts.


# %% solution="13.2"
def text_share(text_logits: Tensor, mask: Tensor, own_logits: Tensor) -> Tensor:
    """How much of its attention each query gives to the text.

    Args:
        text_logits: (B, N, M).
        mask: (B, M) bool, false for padding.
        own_logits: (B, N, K), all of which count.

    Returns:
        (B, N), in [0, 1].
    """
    ### BEGIN SOLUTION
    text = text_logits.masked_fill(~mask[:, None], -math.inf)
    return torch.cat([text, own_logits], dim=2).softmax(dim=2)[..., : text.shape[2]].sum(2)
    ### END SOLUTION


# %% check="13.2" points=1
def right_share(a: Tensor, m: Tensor, b: Tensor) -> Tensor:
    """The formula, number by number, with the largest exponent taken out."""
    rows = []
    for sample in range(len(a)):
        for i in range(a.shape[1]):
            said = [float(x) for x, counts in zip(a[sample, i], m[sample], strict=True) if counts]
            own, top = b[sample, i].tolist(), max([*said, *b[sample, i].tolist()])
            above = math.fsum(math.exp(x - top) for x in said)
            rows.append(above / (above + math.fsum(math.exp(x - top) for x in own)))
    return torch.tensor(rows, dtype=torch.float64).reshape(a.shape[:2])


def shared(a: Tensor, m: Tensor, b: Tensor) -> Tensor:
    """The answer, (B, N)."""
    with untouched(text_logits=a, mask=m, own_logits=b):
        return is_tensor(text_share(a, m, b), tuple(a.shape[:2]), "the share, one number a query,")


a, b = normal(2, 3, 4, seed=11), normal(2, 3, 6, seed=12)
m = torch.tensor([[True, True, False, True], [True, False, False, False]])
found, right = shared(a, m, b), right_share(a, m, b)
flat = shared(torch.zeros(1, 1, 4).double(), m[:1], torch.zeros(1, 1, 5).double())
assert not near(flat, 0.5), (
    "three words and five patches with equal logits share 3 : 5, not evenly: sum, do not average"
)
assert not near(found, 1 - right), "this is the share of the image: the text's stands above the line"
assert not near(found, right / (1 - right)), "this is the ratio of text to image: the whole stands below the line"
assert not near(found, right_share(a, torch.ones_like(m), b)), "padding counts: the mask has no effect"
assert not near(found, right_share(a, ~m, b)), "the mask is the wrong way round: false is padding"
zeroed = right_share(a * m[:, None], torch.ones_like(m), b)
assert not near(found, zeroed), "padding with a logit of 0 still counts: exp(0) = 1"
assert near(found, right), "the share is wrong: sum of exp over the text's tokens that count, over the sum of all"
nobody = shared(a, torch.zeros_like(m), b)
assert near(nobody, 0.0), "where no token of the text counts, the share must be 0"
for size in (1e4, -1e4):
    with untouched(text_logits=a):
        large = text_share(a + size, m, b + size)
    assert bool(torch.isfinite(large).all()), "large logits give NaN: exp(10000) is infinite, and exp(-10000) is 0"
    assert near(large, right, 1e-8), "a number added to all logits must change nothing"
assert near(text_share(a + 1e4 * ~m[:, None], m, b), right), "padding with a large logit changes the share"
apart = shared(300 * a, m, 300 * b)
assert near(apart, right_share(300 * a, m, 300 * b)), "wrong for logits that differ much"
### BEGIN HIDDEN TESTS
single = text_share(a[:1, :1].float() * 1000, m[:1], b[:1, :1].float() * 1000)
assert near(single, right_share(a[:1, :1] * 1000, m[:1], b[:1, :1] * 1000), 1e-3), "wrong in single precision"
### END HIDDEN TESTS

# %% [markdown] hints="13.2"
# 1. $e^a$ overflows, but a ratio of sums of exponentials does not change when a number is taken off all exponents.
#
# 2. One softmax over all logits, of which the text's weights are summed; or a sigmoid of a difference of two
#    `logsumexp`.
#
# 3. `text = text_logits.masked_fill(~mask[:, None], -math.inf)`, then `torch.cat([text, own_logits], 2).softmax(2)` and
#    the sum of its first M columns.

# %% [markdown]
# ## 13.3 Guide an upsampler (1 point, 8 minutes, easy)
#
# An upsampler `net(x, t, tokens, small)` is told a caption and is given a small image. In training the caption was
# dropped now and then for the empty one, and the small image never was. Write classifier-free guidance by the caption,
# $(1 - w)\, u(\varnothing) + w\, u(y)$, **in one call** of the network with a batch of 2B, whatever $w$ is.
#
# **Without:** `ClassifierFreeGuidance`.


# %% solution="13.3"
def guided(net: Callable, x: Tensor, t: Tensor, tokens: Tensor, small: Tensor, empty: Tensor, w: float) -> Tensor:
    """The guided velocity, shaped like x.

    Args:
        net: net(x, t, tokens, small) -> like x.
        x: (B, C, H, W).
        t: a scalar tensor, or (B,): the network takes both.
        tokens: captions (B, L).
        small: images (B, C, H / 2, W / 2).
        empty: the empty caption (L,).
        w: the scale.
    """
    ### BEGIN SOLUTION
    times = torch.cat([t, t]) if t.ndim else t
    captions = torch.cat([tokens, empty.expand_as(tokens)])
    told, untold = net(torch.cat([x, x]), times, captions, torch.cat([small, small])).chunk(2)
    return (1 - w) * untold + w * told
    ### END SOLUTION


# %% check="13.3" points=1
x, small, t = normal(3, 1, 4, 4, seed=21), normal(3, 1, 2, 2, seed=22), torch.tensor([0.1, 0.5, 0.8]).double()
tokens, empty = torch.tensor([[1, 4, 2], [1, 3, 0], [1, 2, 5]]), torch.tensor([1, 0, 0])
said = torch.tensor([0.0, 0.3, 1.0, -2.0, 4.0, 7.0]).double()
images, smalls, calls, times = x, small, [], []


def upsampler(x: Tensor, t: Tensor, tokens: Tensor, small: Tensor) -> Tensor:
    for name, value, shape in (("x", x, (1, 4, 4)), ("tokens", tokens, (3,)), ("small", small, (1, 2, 2))):
        assert tuple(value.shape[1:]) == shape, f"the network got {name} of shape {tuple(value.shape)}"
        assert len(value) == len(x), f"the network got {len(x)} images and {len(value)} of {name}: double it as well"
    assert t.ndim == 0 or t.shape == (len(x),), f"the network got {len(x)} images and times of shape {tuple(t.shape)}"
    assert bool((small.abs().amax((1, 2, 3)) > 0).all()), "the small image was dropped with the caption: it is kept"
    for row, (image, other) in enumerate(zip(x, small, strict=True)):
        own = next(i for i in range(3) if torch.equal(image, images[i]))
        assert torch.equal(other, smalls[own]), "an image got another one's small image: double both in the same order"
        assert t.ndim == 0 or t[row] == times[0].expand(3)[own], (
            "an image got another one's time: double both in the same order"
        )
    calls.append(len(x))
    shift = said[tokens].sum(1)[:, None, None, None] * (1 + small.mean((1, 2, 3), keepdim=True))
    return x * t.reshape(-1, 1, 1, 1) + shift + small.repeat_interleave(2, 2).repeat_interleave(2, 3)


class Upsampling(Field):
    """The network as a field, for the library's guidance: its guides are tokens and small images in one row."""

    path, predicts, null = GaussianPath(), "velocity", torch.zeros(7)

    def null_like(self, y: Tensor) -> Tensor:
        return torch.cat([empty.double().expand(len(y), -1), y[:, 3:]], dim=1)

    def without(self, y: Tensor) -> Tensor:
        return self.null_like(y)

    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return upsampler(x, t, y[:, :3].long(), y[:, 3:].reshape(-1, 1, 2, 2))


def expected(w: float, t: Tensor = t, count: int = 3) -> Tensor:
    y = torch.cat([tokens.double(), small.flatten(1)], dim=1)[:count]
    return ClassifierFreeGuidance(Upsampling(), w).predict(x[:count], t, y)


def ask(w: float, t: Tensor = t, count: int = 3) -> Tensor:
    """The answer, shaped like x, in one call of the network."""
    calls.clear()
    times[:] = [t]
    with untouched(x=x, t=t, tokens=tokens, small=small, empty=empty), unaided(ClassifierFreeGuidance):
        out = guided(upsampler, x[:count], t, tokens[:count], small[:count], empty, w)
    assert len(calls) == 1, f"one call of the network, with both captions in one batch: there were {len(calls)}"
    assert calls == [2 * count], f"the one call should be for 2 B = {2 * count} samples, it was for {calls[0]}"
    return is_tensor(out, (count, 1, 4, 4), "the guided velocity")


out = ask(2.5)
assert not near(out, expected(-1.5)), "the halves are exchanged: which came first in the batch?"
assert not near(out, expected(3.5)), "that is 1 + w: here w = 1 means no extra guidance"
assert not near(out, expected(1.0)), "w has no effect: this is the velocity for the caption"
assert near(ask(1.0), expected(1.0)), "at w = 1 it must be u(y) alone: the weights must sum to one, (1 - w) and w"
assert near(out, expected(2.5)), "expected (1 - w) u(empty) + w u(y)"
assert near(ask(0.0), expected(0.0)), "at w = 0 it must be u(empty) alone"
assert near(ask(2.0, torch.tensor(0.4).double()), expected(2.0, torch.tensor(0.4).double())), "wrong for a scalar t"
### BEGIN HIDDEN TESTS
assert near(ask(-0.5, t[:1], 1), expected(-0.5, t[:1], 1)), "one sample with w = -0.5 goes wrong"
### END HIDDEN TESTS

# %% [markdown] hints="13.3"
# 1. Two captions for each sample, and the same small image for both.
#
# 2. Double `x`, `small` and, if it is not a scalar, `t`; the captions are yours and then the empty one, B times.
#
# 3. `net(torch.cat([x, x]), times, torch.cat([tokens, empty.expand_as(tokens)]), torch.cat([small, small])).chunk(2)`.

# %% [markdown]
# ## 13.4 More channels for a trained network (1 point, 8 minutes, medium)
#
# GLIDE's inpainting network is the trained one with more input channels. Return a new convolution that takes
# `extra` further channels *behind* those of `layer`, and at first gives what `layer` gave, whatever is in the new
# channels. Its weights have the layer's type (checks use float64). All of them can be trained, also the new ones from
# the first step, and training it must not change `layer`.


# %% solution="13.4"
def widened(layer: nn.Conv2d, extra: int) -> nn.Conv2d:
    """A convolution from layer.in_channels + extra channels.

    Args:
        layer: of any kernel, stride and padding, with a bias or without; groups and dilation are 1.
        extra: >= 1.
    """
    ### BEGIN SOLUTION
    made = nn.Conv2d(
        layer.in_channels + extra, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
        bias=layer.bias is not None, dtype=layer.weight.dtype,
    )  # fmt: skip
    with torch.no_grad():
        made.weight.zero_()
        made.weight[:, : layer.in_channels] = layer.weight
        if layer.bias is not None:
            made.bias.copy_(layer.bias)
    return made
    ### END SOLUTION


# %% check="13.4" points=1
def conv(seed: int, *arguments: int, **options: bool | int) -> nn.Conv2d:
    torch.manual_seed(seed)
    return nn.Conv2d(*arguments, **options).double()


for layer in (conv(0, 3, 5, 3, padding=1), conv(1, 2, 4, 2, stride=2, bias=False), conv(2, 1, 2, 5, padding=2)):
    wide = layer.in_channels
    x, beside = normal(2, wide, 6, 6, seed=31), normal(2, 4, 6, 6, seed=32)
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    made = widened(layer, 4)
    assert isinstance(made, nn.Conv2d), f"return a convolution, got {type(made).__name__}"
    assert made is not layer, "this is the layer itself: return a new one"
    assert made.in_channels == wide + 4 == made.weight.shape[1], f"it must take {wide + 4} channels"
    assert made.weight.dtype == torch.float64, f"the layer has weights in float64, the new one in {made.weight.dtype}"
    assert (made.bias is None) == (layer.bias is None), "it must have a bias if and only if the layer has one"
    assert all(torch.equal(layer.state_dict()[name], value) for name, value in state.items()), "the layer was changed"
    wanted = layer(x)
    out = made(torch.cat([x, beside], dim=1))
    assert out.shape == wanted.shape, "kernel, stride and padding must be those of the layer"
    assert not near(made(torch.cat([beside, x], dim=1)), wanted), (
        "the new channels come behind the old ones, not before"
    )
    if not near(out, wanted):
        blank = made(torch.cat([x, 0 * beside], dim=1))
        assert not near(blank, wanted), "what is in the new channels changes the result: their weights must be zero"
        assert layer.bias is None or not near(blank - blank.mean((0, 2, 3), keepdim=True), wanted - wanted.mean(
            (0, 2, 3), keepdim=True)), "the bias is not the layer's"  # fmt: skip
    assert near(out, wanted), "at first it must give what the layer gave: are its weights copied?"
    with torch.no_grad():
        made.weight.add_(1)
    assert torch.equal(layer.weight, state["weight"]), "both layers share memory: training the new one changes the old"
    made = widened(layer, 4)
    assert all(value.requires_grad for value in made.parameters()), "some weights cannot be trained"
    made(torch.cat([x, beside], dim=1)).square().sum().backward()
    assert made.weight.grad is not None, "no gradient reaches the weights"
    new = made.weight.grad[:, wide:]
    assert bool((new.abs().amax((0, 2, 3)) > 0).all()), "no gradient reaches the new weights: they could never learn"

# %% [markdown] hints="13.4"
# 1. Which weights make the new channels count for nothing, and still have a gradient?
#
# 2. A new `nn.Conv2d` with the layer's settings. Inside `torch.no_grad()`: all weights to zero, then the layer's copied
#    into the first channels; its bias, if there is one, copied as well.
#
# 3. `made.weight.zero_()`, `made.weight[:, : layer.in_channels] = layer.weight`, `made.bias.copy_(layer.bias)`.

# %% [markdown]
# ## 13.5 Replace the known pixels (2 points, 15 minutes, medium)
#
# Paint in a hole with a velocity that has never learned about holes, on the linear path $x_t = t z + (1 - t)
# \varepsilon$. Start from `noise`. In each of `steps` equal Euler steps, show the velocity a sample whose known part is
# that of the path to the image, $t z + (1 - t) \varepsilon$, with the *same* noise that the known part started from;
# move the rest by what it says. In the result the known part is the image, exactly.
#
# **Without:** `ReplacedPixels`, `KnownPixels`, `sample_ode`.


# %% solution="13.5"
def paint_in(velocity: Callable, image: Tensor, known: Tensor, noise: Tensor, steps: int) -> Tensor:
    """A sample for each row of the noise.

    Args:
        velocity: (x (B, ...), t a float) -> (B, ...).
        image: shaped like one sample, (...); what is not known of it is of no use.
        known: 1 where it is known, 0 elsewhere, (...).
        noise: (B, ...).
        steps: >= 1.

    Returns:
        (B, ...).
    """
    ### BEGIN SOLUTION
    x = noise
    for k in range(steps):
        t = k / steps
        shown = torch.where(known > 0, t * image + (1 - t) * noise, x)
        x = shown + velocity(shown, t) / steps
    return torch.where(known > 0, image, x)
    ### END SOLUTION


# %%
pair = MixtureField(
    torch.tensor([[-1.0, 1.5], [1.0, -1.5], [1.2, 1.0]], dtype=torch.float64), torch.tensor([0.3, 0.4, 0.5]).double()
)

# %% check="13.5" points=2
at, left = torch.tensor([1.0, 9.0]).double(), torch.tensor([1.0, 0.0]).double()
start, seen_at, shown_to = normal(6, 2, seed=41), [], []


def watched(x: Tensor, t: float) -> Tensor:
    assert isinstance(x, Tensor), "the velocity takes samples"
    assert tuple(x.shape) == (6, 2), f"the velocity was given samples of shape {tuple(x.shape)}, for noise (6, 2)"
    seen_at.append(float(t))
    shown_to.append(x.clone())
    return pair.u(x, float(t))


def painted(image: Tensor, known: Tensor, steps: int) -> Tensor:
    """The answer, shaped like the noise."""
    seen_at.clear()
    shown_to.clear()
    with untouched(image=image, known=known, noise=start), unaided(ReplacedPixels, KnownPixels, sample_ode):
        out = paint_in(watched, image, known, start, steps)
    return is_tensor(out, (6, 2), "the samples")


def library_in(image: Tensor, known: Tensor, steps: int) -> Tensor:
    return sample_ode(ReplacedPixels(pair, image, known, start), start, steps=steps, method="euler")


out = painted(at, left, 8)
assert len(seen_at) == 8, f"8 steps ask for the velocity 8 times, not {len(seen_at)}: one a step"
assert near(torch.tensor(seen_at), torch.arange(8) / 8), f"times run from 0 in steps of 1/8, got {seen_at}"
assert not near(out[:, 1], torch.full((6,), 9.0)), "the mask is the wrong way round: known is 1 where it is known"
middle = shown_to[4][:, 0]
assert not near(middle, torch.ones(6)), "the known pixels were shown without noise: the velocity knows only noised ones"
assert not near(middle, 0.5 * torch.ones(6)), "the known part lacks its noise: it is t z + (1 - t) noise"
assert near(shown_to[0], start), "at t = 0 the velocity is shown the noise itself: `noise`, not noise drawn anew"
free = sample_ode(pair, start, steps=8, method="euler", trajectory=True)
assert not near(middle, free[4, :, 0]), "the velocity was shown x as it is: the known part has to be replaced first"
assert near(middle, 0.5 + 0.5 * start[:, 0]), (
    "at t = 1/2 the known part must be half image and half noise, the noise that this sample started from: is it put "
    "there before the velocity is asked, with the time of that step?"
)
assert near(shown_to[6][:, 0], 0.75 + 0.25 * start[:, 0]), "the known part must follow the path at every time"
assert near(out[:, 0], torch.ones(6)), "in the result the known part must be the image, exactly"
assert near(out, library_in(at, left, 8), 1e-6), (
    "the rest is wrong: it moves by the velocity / steps, from where it was"
)
assert near(painted(at, 1 - left, 5), library_in(at, 1 - left, 5), 1e-6), "wrong where the other number is known"
assert near(painted(at, 0 * left, 5), sample_ode(pair, start, steps=5, method="euler"), 1e-6), (
    "where nothing is known it must be the plain sampler"
)
### BEGIN HIDDEN TESTS
assert near(painted(at, left, 1), library_in(at, left, 1)), "wrong for one step"
assert near(
    painted(torch.tensor([0.7, -0.4]).double(), torch.ones(2).double(), 3), torch.tensor([[0.7, -0.4]] * 6), 1e-6
), "where all is known the result is the image"
### END HIDDEN TESTS

# %% [markdown] hints="13.5"
# 1. In each step: what is the velocity shown? And what of its answer is used?
#
# 2. `shown = torch.where(known > 0, t * image + (1 - t) * noise, x)`, with `t = k / steps`.
#
# 3. `x = shown + velocity(shown, t) / steps` for k = 0 ... steps - 1, and in the end
#    `torch.where(known > 0, image, x)`.

# %% [markdown]
# ## 13.6 What should have come out (1 point, 12 minutes, medium)
#
# Replacing is not conditioning. For a normal law $z \sim \mathcal N(m, \Sigma)$ the truth is known: given some of its
# numbers, the rest is normal again. Write its mean and covariance. (Lecture 13 has two numbers of variance 1; for more,
# look for the weights $W$ with which $z_r - W z_k$ is uncorrelated with $z_k$, the known numbers.)
#
# **Without:** `MultivariateNormal`.


# %% solution="13.6"
def rest_given(mean: Tensor, covariance: Tensor, known: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The law of the numbers that are not known, in their order.

    Args:
        mean: (D,).
        covariance: (D, D), positive definite.
        known: (D,) bool, true for K of them.
        value: (K,), what these are.

    Returns:
        mean (D - K,) and covariance (D - K, D - K).
    """
    ### BEGIN SOLUTION
    own, cross = covariance[~known][:, ~known], covariance[~known][:, known]
    weights = torch.linalg.solve(covariance[known][:, known], cross.T).T  # (D - K, K)
    return mean[~known] + weights @ (value - mean[known]), own - weights @ cross.T
    ### END SOLUTION


# %% check="13.6" points=1
def law(seed: int, size: int) -> tuple[Tensor, Tensor]:
    root = normal(size, size, seed=seed)
    return normal(size, seed=seed + 1), root @ root.T + 0.3 * torch.eye(size).double()


def of_rest(mean: Tensor, covariance: Tensor, known: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The answer, if it is a mean and a covariance."""
    with untouched(mean=mean, covariance=covariance, known=known, value=value), unaided(MultivariateNormal):
        found = rest_given(mean, covariance, known, value)
    assert isinstance(found, tuple | list), "return two tensors, the mean and the covariance"
    assert len(found) == 2, "return two tensors, the mean and the covariance"
    left = int((~known).sum())
    return is_tensor(found[0], (left,), "the mean of the rest"), is_tensor(found[1], (left, left), "the covariance")


def fits(mean: Tensor, covariance: Tensor, known: Tensor, value: Tensor, rest: tuple[Tensor, Tensor]) -> bool:
    """Whether log p(whole) - log p(rest | known) is the same wherever the rest is, as Bayes' rule says."""
    points = normal(40, int((~known).sum()), seed=5)
    whole = torch.zeros(40, len(known)).double()
    whole[:, known], whole[:, ~known] = value, points
    gap = MultivariateNormal(mean, covariance).log_prob(whole) - MultivariateNormal(*rest).log_prob(points)
    return float(gap.std()) < 1e-7 * (1 + float(gap.abs().mean()))


two = normal(2) * 0, torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64), torch.tensor([True, False])
m, c = of_rest(*two, torch.tensor([1.5]).double())
assert not near(m, 0.0), "the mean of the rest must follow what is known: with correlation 0.8 and 1.5 it is not 0"
assert not near(m, -1.2), "the sign: with a positive correlation the rest moves with what is known"
assert not near(m, 1.5), "what is known is only a part of the truth: the weight is the correlation, 0.8"
assert not near(c, 1.0), "to know one number makes the other one surer: its variance must shrink"
assert not near(c, 1.64), "the variance grows, and should shrink: check the sign"
assert not near(c, 0.2), "the variance is 1 - rho^2, not 1 - rho"
assert not near(c, 0.6), "this is a standard deviation: return the covariance"
assert near(m, 1.2), "the mean is wrong: for unit variances it is rho times what is known"
assert near(c, 0.36), "the covariance is wrong: for unit variances it is 1 - rho^2"
mean, covariance = law(51, 4)
known, value = torch.tensor([False, True, False, True]), torch.tensor([0.4, -2.0]).double()
rest = of_rest(mean, covariance, known, value)
assert not near(rest[1], rest[1].diagonal().diag()), "the rest's numbers depend on each other, given the known ones"
base = of_rest(mean, covariance, known, mean[known])[0]
assert near(base, mean[~known]), "when what is known is what was expected, the rest's mean is what it was"
assert near(rest[1], rest[1].T), "a covariance is symmetric"
assert float(torch.linalg.eigvalsh(rest[1]).min()) > 0, "a covariance is positive definite: which blocks are inverted?"
assert fits(mean, covariance, known, value, rest), "wrong in four dimensions: it is the *known* block that is inverted"
### BEGIN HIDDEN TESTS
for seed, known in ((61, torch.tensor([True, True, True, False, True])), (63, torch.tensor([True, False, False]))):
    mean, covariance = law(seed, len(known))
    value = normal(int(known.sum()), seed=seed + 2)
    assert fits(mean, covariance, known, value, of_rest(mean, covariance, known, value)), "wrong for another law"
### END HIDDEN TESTS

# %% [markdown] hints="13.6"
# 1. The best linear guess of the rest from what is known: which weights make its error uncorrelated with what is known?
#
# 2. With blocks $\Sigma_{kk}$ (known), $\Sigma_{rr}$ (rest), $\Sigma_{rk}$: weights $W = \Sigma_{rk} \Sigma_{kk}^{-1}$,
#    mean $m_r + W (z_k - m_k)$, covariance $\Sigma_{rr} - W \Sigma_{kr}$.
#
# 3. `covariance[~known][:, known]` is the block $\Sigma_{rk}$; `torch.linalg.solve(covariance[known][:, known],
#    cross.T).T` are the weights.

# %% tags=["demo"]
rho, value = 0.8, 1.5
places = torch.linspace(-4, 4, 41).double()
long, narrow = math.sqrt(1 + rho), math.sqrt(1 - rho)
means = places[:, None] * torch.ones(2).double() / math.sqrt(2) * math.sqrt(long**2 - narrow**2)
bell = MixtureField(means, narrow, weights=torch.exp(-(places**2) / 2))  # a normal law, nearly
start = normal(3000, 2, seed=71)
drawn = paint_in(lambda x, t: bell.u(x, t), torch.tensor([value, 0.0]).double(), left, start, 30)[:, 1]
m, c = rest_given(*two, torch.tensor([value]).double())
grid = torch.linspace(-3, 4, 300)
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.hist(drawn.numpy(), 60, density=True, color=GREY, label="replaced pixels (yours)")
density = torch.exp(-((grid - m) ** 2) / (2 * c[0])) / math.sqrt(2 * math.pi * c[0])
axes.plot(grid, density[0] if density.ndim > 1 else density, color=ACCENT, label="the law asked for (yours)")
axes.axvline(rho * value, color=INK, linestyle=":", label="its mean")
axes.axvline(float(drawn.mean()), color=BLUE, linestyle=":", label="mean of what came out")
axes.set(xlabel="the unknown number", yticks=[], title=f"Correlation {rho}, the other number is {value}")
axes.legend()
plt.show()

# %% [markdown]
# ## 13.7 Guidance by a critic (2 points, 20 minutes, hard)
#
# A critic of noised samples was trained on the one question "which of these texts is this sample's?". For each of the
# $K$ texts that there are it knows $f_k(x, t) = \log \frac{p_t(x \mid k)}{p_t(x)} + c(x, t)$ with a function $c$ that
# nobody knows. Remove it: texts have known probabilities $p(k)$, so $f$ tells $p_t(k \mid x)$. Then guide with the
# scale $w$: on the linear path the guided velocity is $u + w\, \frac{1 - t}{t}\, \nabla_x \log p_t(y \mid x)$, which at
# $w = 1$ is the velocity of text $y$. A sampler calls this under `torch.no_grad()`, hundreds of times: the result must
# carry no graph.
#
# **Without:** `EnergyGuidance`.


# %% solution="13.7"
def guided_by_critic(u: Tensor, critic: Callable, x: Tensor, t: Tensor, y: Tensor, prior: Tensor, w: float) -> Tensor:
    """The guided velocity (B, D).

    Args:
        u: the velocity that knows no text (B, D).
        critic: (x (B, D), t (B,)) -> f (B, K), differentiable in x.
        x: samples (B, D).
        t: times (B,) in (0, 1).
        y: which text is wanted (B,).
        prior: probabilities of the texts (K,).
        w: guidance scale.
    """
    ### BEGIN SOLUTION
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        log_posterior = (critic(leaf, t) + prior.log()).log_softmax(dim=1)
        wanted = log_posterior.gather(1, y[:, None]).sum()
        gradient = torch.autograd.grad(wanted, leaf)[0]
    return u + w * ((1 - t) / t)[:, None] * gradient
    ### END SOLUTION


# %%
three = MixtureField(
    torch.tensor([[-1.2, 0.0], [1.0, 0.9], [0.8, -1.1]], dtype=torch.float64),
    torch.tensor([0.4, 0.6, 0.5], dtype=torch.float64),
    weights=torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64),
)
PRIOR = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)


def critic_of(x: Tensor, t: Tensor) -> Tensor:
    """The best critic of one question: exact, up to a function of x and t."""
    ratios = [three.log_prob(x, t, torch.full((len(x),), k)) - three.log_prob(x, t) for k in range(3)]
    return torch.stack(ratios, dim=1) + (1.3 * x[:, :1] - x[:, 1:] ** 2) * t[:, None]


# %% check="13.7" points=2
x, t = normal(6, 2, seed=81), torch.linspace(0.15, 0.85, 6).double()
y = torch.tensor([1, 1, 2, 0, 2, 1])
free, wished = three.u(x, t), three.u(x, t, y)


def by_critic(w: float, count: int = 6) -> Tensor:
    """The answer, without a graph."""
    with untouched(u=free, x=x, t=t, y=y, prior=PRIOR), unaided(EnergyGuidance):
        out = guided_by_critic(free[:count], critic_of, x[:count], t[:count], y[:count], PRIOR, w)
    is_tensor(out, (count, 2), "the guided velocity")
    assert not x.requires_grad, "x was given back requiring gradients: work on a detached copy"
    assert not out.requires_grad, "the result carries a graph: over the steps of a sampler all graphs would be kept"
    return out


def along(log_prob: Callable) -> Tensor:
    """What guidance by another quantity of the critic's values (B, K) would have added at w = 1."""
    leaf = x.clone().requires_grad_()
    gradient = torch.autograd.grad(log_prob(critic_of(leaf, t)).sum(), leaf)[0]
    return gradient * ((1 - t) / t)[:, None]


step, exact = by_critic(1.0) - free, wished - free
own = y[:, None]
assert not near(step, 0.0), "nothing was added: the gradient is not 0"
assert not near(step, along(lambda f: f.gather(1, own)[:, 0])), (
    "the critic's own gradient holds that of c(x, t), which nobody asked for: first make it a law over the texts"
)
assert not near(step, along(lambda f: f.log_softmax(1).gather(1, own)[:, 0])), (
    "texts are not equally frequent: by Bayes' rule p(k | x) is proportional to p(k) exp(f_k)"
)
assert not near(step, along(lambda f: (f + PRIOR).log_softmax(1).gather(1, own)[:, 0])), (
    "the probability itself was added to f: its logarithm is meant"
)
assert not near(step, along(lambda f: (f - PRIOR.log()).log_softmax(1).gather(1, own)[:, 0])), (
    "the prior is divided out, and should be multiplied in: f has p_t(x | k) / p_t(x), not p_t(k | x)"
)
assert not near(step, along(lambda f: (f + PRIOR.log()).softmax(1).gather(1, own)[:, 0])), (
    "the probability was differentiated, not its logarithm"
)
assert not near(step, along(lambda f: (f + PRIOR.log()).log_softmax(1).sum(1))), (
    "the logarithms of all texts were added: only that of y counts"
)
late = ((1 - t) / t)[:, None]
for factor, says in (
    (1 / 6, "every gradient is divided by the batch: the mean was differentiated, not the sum"),
    (-1.0, "it moves away from the text: check the sign"),
    (1 / late, "the factor (1 - t) / t of the gradient is missing"),
    (1 / late**2, "the factor is upside down: it is (1 - t) / t"),
    (t[:, None], "the factor is that of the noise form: for a velocity it is (1 - t) / t"),
):
    assert not near(step, exact * factor), says
assert near(step, exact), "at w = 1 the guided velocity must be that of the text: check log p_t(y | x)"
with torch.no_grad():
    try:
        silent = by_critic(1.0)
    except RuntimeError as error:
        raise AssertionError(
            "under torch.no_grad(), where samplers run, no gradient is recorded: turn it on inside, for the critic"
        ) from error
    assert near(silent, free + exact), "under torch.no_grad(), where samplers run, the result is another"
assert near(by_critic(2.5), free + 2.5 * exact), "right at w = 1 and wrong at w = 2.5"
### BEGIN HIDDEN TESTS
assert near(by_critic(-1.0, 1), (free - exact)[:1]), "wrong for a single sample at a negative scale"
### END HIDDEN TESTS

# %% [markdown] hints="13.7"
# 1. Bayes: $p_t(k \mid x) = p(k)\, e^{f_k - c} $, and these sum to one over $k$. So what is $c$?
#
# 2. $\log p_t(y \mid x) = f_y + \log p(y) - \log \sum_k p(k) e^{f_k}$: a log-softmax of $f + \log p$. The samples do
#    not see each other, so that the gradient of a sum over the batch holds each one's own.
#
# 3. Inside `torch.enable_grad()`: `leaf = x.detach().requires_grad_()`, then
#    `torch.autograd.grad((critic(leaf, t) + prior.log()).log_softmax(1).gather(1, y[:, None]).sum(), leaf)[0]`.

# %% [markdown]
# ## How to be graded
#
# Save the notebook and run `flowlib grade 13_glide.ipynb`. It prints a table of the questions with your points, and the
# hint of each check that failed. In the library the same things are `Attention` (`flowlib/nets/attention.py`),
# `CaptionedBeside` (`flowlib/nets/captioned.py`), `ReplacedPixels` (`flowlib/systems/inpainting.py`),
# `ClassifierFreeGuidance` and `EnergyGuidance` (`flowlib/guidance.py`).
