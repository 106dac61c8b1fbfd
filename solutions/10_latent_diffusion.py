# %% [markdown]
# # Exercise 10. Latent diffusion
#
# You build what a latent model adds to a flow: a codebook whose gradient goes straight through, its loss, the clock
# that a wrong scale of the latents amounts to, cross-attention with a mask, guidance with the empty text, the training
# pair of an inpainting model, and the bill.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right; when
# it is wrong, it says what probably went wrong. `hint("10.1")` gives a hint; asked again, it says more, three times.
# Every question stands on its own.
#
# **Without** in a question names functions that solve it already: an answer that calls one of them gets no points.
#
# **Needed before:** lecture 10. **Time:** about 75 minutes. **Points:** 10.

# %%
import math
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib import ClassifierFreeGuidance, GaussianPath, MixtureField
from flowlib.course.notebook import exercise, unaided
from flowlib.data import load
from flowlib.field import Field
from flowlib.nets.attention import Attention
from flowlib.nets.codebook import Codebook
from flowlib.plotting import tile
from flowlib.plotting.style import ACCENT, GREY, INK

hint = exercise("10_latent_diffusion").hint
digits = load("digits").images[:64]  # (64, 1, 8, 8) in [-1, 1]


def shaped(found: object, *shape: int) -> bool:
    """Whether it is a tensor of that shape."""
    return isinstance(found, Tensor) and tuple(found.shape) == shape


def two(found: object) -> bool:
    """Whether two things were returned."""
    return isinstance(found, tuple | list) and len(found) == 2


def near(found: object, expected: Tensor, tolerance: float = 1e-6) -> bool:
    """Whether a tensor has the expected shape and values."""
    if not shaped(found, *expected.shape):
        return False
    return bool(torch.allclose(found.detach().double(), expected.detach().double(), atol=tolerance, rtol=0))


def finite(found: Tensor) -> bool:
    """Whether there is neither NaN nor infinity."""
    return bool(found.isfinite().all())


@contextmanager
def untouched(*arguments: Tensor) -> Iterator[None]:
    """While it lasts, none of these tensors may be changed in place."""
    before = [argument.detach().clone() for argument in arguments]
    yield
    same = all(torch.equal(argument.detach(), copy) for argument, copy in zip(arguments, before, strict=True))
    assert same, "an argument was changed in place: make a new tensor, the caller still needs the old one"


# %% [markdown]
# ## 10.1 Straight through (2 points, 12 minutes, medium)
#
# Move each point to the nearest vector of a codebook (in Euclidean distance), and let the gradient go straight through:
# the value returned is the codebook's vector, the gradient with respect to the points is that of the identity, and the
# codebook gets none, because it learns from a loss of its own.
#
# **Without:** `Codebook`.


# %% solution="10.1"
def quantise(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest vectors, with a gradient that pretends they were z.

    Args:
        z: points (B, D); codebook: vectors (K, D).

    Returns:
        the nearest vectors (B, D), and their indices (B,).
    """
    ### BEGIN SOLUTION
    index = torch.cdist(z, codebook).argmin(dim=1)
    e = codebook[index]
    return e.detach() + (z - z.detach()), index
    ### END SOLUTION


# %% check="10.1" points=2
generator = torch.Generator().manual_seed(0)
z = torch.randn(40, 3, generator=generator, dtype=torch.float64).requires_grad_()
codebook = torch.randn(6, 3, generator=generator, dtype=torch.float64)
codebook[0] *= 6  # a long vector: large dot products, and far from nearly everything
codebook.requires_grad_()


def nearest(z: Tensor, codebook: Tensor) -> Tensor:
    """The library's indices, (B,)."""
    library = Codebook(*codebook.shape).to(codebook.dtype)
    library.load_state_dict({"codebook": codebook})
    return library.nearest(z.detach()[:, :, None, None]).flatten()


def quantised(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """The answer: vectors like z, and an index for each."""
    with untouched(z, codebook), unaided(Codebook):
        result = quantise(z, codebook)
    assert two(result), "return two things: the vectors and their indices"
    assert shaped(result[0], *z.shape), f"the vectors must have the shape of z, {tuple(z.shape)}, one for each point"
    assert shaped(result[1], len(z)), "the indices must have shape (B,), one for each point"
    assert result[1].dtype == torch.long, f"the indices must be integers, got {result[1].dtype}"
    assert finite(result[0]), "the vectors contain NaN or infinite numbers"
    return result


e, index = quantised(z, codebook)
distance = (z[:, None] - codebook).square().sum(2).detach()
assert not torch.equal(index, distance.argmax(1)), "these are the farthest vectors: the nearest has the least distance"
assert not torch.equal(index, (z @ codebook.T).argmax(1)), (
    "the largest dot product is not the least distance: a long vector wins it from far away"
)
assert torch.equal(index, nearest(z, codebook)), "the index must be that of the nearest vector in Euclidean distance"
assert not near(e, z), "the value returned is z itself: only its gradient is z's, the value is the vector's"
assert near(e, codebook[index]), "the value returned must be codebook[index]"
weight = torch.randn(e.shape, generator=generator, dtype=torch.float64)
assert e.requires_grad, "no gradient reaches z at all: what has been detached has to be joined to z again"
to_z, to_book = torch.autograd.grad((e * weight).sum(), (z, codebook), allow_unused=True)
assert to_z is not None, "indexing a codebook has no derivative with respect to z: the encoder would learn nothing"
assert bool(to_z.any()), "z's gradient cancels: z is added and taken away again, and both copies let it through"
assert near(to_z, weight), "the gradient with respect to z must be that of the identity"
assert to_book is None or not bool(to_book.any()), (
    "the codebook gets the decoder's gradient too: here it should get none, it learns from a loss of its own"
)
point, single = torch.randn(1, 5, generator=generator), torch.randn(2, 5, generator=generator)
assert torch.equal(quantised(point, single)[1], nearest(point, single)), "one point with D = 5 and two vectors go wrong"

# %% [markdown] hints="10.1"
# 1. Distances first: (B, K), then the index of the smallest in each row.
#
# 2. A term that is zero in value may still have a gradient: what is $z - \mathrm{sg}[z]$?
#
# 3. `e = codebook[torch.cdist(z, codebook).argmin(1)]`, and return `e.detach() + (z - z.detach())` and the index.

# %% tags=["demo"]
mesh = torch.stack(torch.meshgrid(torch.linspace(-2, 2, 120), torch.linspace(-2, 2, 120), indexing="xy"), dim=2)
book = torch.randn(9, 2, generator=torch.Generator().manual_seed(3))
figure, axes = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
cells = (quantise(mesh.reshape(-1, 2), book)[1], nearest(mesh.reshape(-1, 2), book))
for ax, cell, title in zip(axes, cells, ("yours", "expected"), strict=True):
    ax.imshow(cell.reshape(120, 120), extent=(-2, 2, -2, 2), origin="lower", cmap="Pastel1", interpolation="nearest")
    ax.scatter(*book.T, marker="*", s=80, color=ACCENT)
    ax.set(title=f"{title}: cells of a codebook", xlim=(-2, 2), ylim=(-2, 2))
plt.show()

# %% [markdown]
# ## 10.2 What the codebook learns from (1 point, 6 minutes, easy)
#
# Write the two last terms of the VQ loss,
# $$\lVert \mathrm{sg}[z] - e \rVert^2 + \beta\, \lVert z - \mathrm{sg}[e] \rVert^2,$$
# as a mean over all components. The first term moves only the codebook's vectors, the second only the points.
#
# **Without:** `Codebook`.


# %% solution="10.2"
def codebook_loss(z: Tensor, e: Tensor, commitment: float = 0.25) -> Tensor:
    """The codebook's loss and the commitment.

    Args:
        z: points (B, D); e: their nearest vectors (B, D), both with gradients; commitment: beta.

    Returns:
        a scalar, the mean over all components.
    """
    ### BEGIN SOLUTION
    return F.mse_loss(e, z.detach()) + commitment * F.mse_loss(z, e.detach())
    ### END SOLUTION


# %% check="10.2" points=1
generator = torch.Generator().manual_seed(1)
z = torch.randn(5, 4, generator=generator, dtype=torch.float64).requires_grad_()
e = torch.randn(5, 4, generator=generator, dtype=torch.float64).requires_grad_()
with untouched(z, e), unaided(Codebook):
    loss = codebook_loss(z, e, 0.3)
assert isinstance(loss, Tensor), "return a tensor: a number has no gradient"
assert shaped(loss), "the loss must be a scalar"
assert finite(loss), "the loss is NaN or infinite"
square = F.mse_loss(z, e)  # the mean over all components, 20 of them
assert not near(loss, 1.3 * square * 20), "take the mean over all components, not their sum"
assert not near(loss, 1.3 * square * 4), "take the mean over all components, not over the points alone"
assert not near(loss, 1.25 * square), "beta is an argument: use it as it comes"
assert not near(loss, 1.3 * square / 2), "there is no factor 1/2 in the squares"
assert not near(loss, 0.3 * square), "the first term is missing: nothing moves the codebook's vectors"
assert not near(loss, square), (
    "both terms together are (1 + beta) times the mean square, yours is 1 times: is the commitment missing, or was "
    "beta taken off the first term?"
)
assert not near(loss, 1.09 * square), "beta enters as it is, not squared"
assert near(loss, 1.3 * square), "its value must be (1 + beta) times the mean squared difference"
assert loss.requires_grad, "nothing gets a gradient: in each term one side alone is to be detached"
to_z, to_e = torch.autograd.grad(loss, (z, e), allow_unused=True)
assert bool(torch.zeros_like(e).add(0 if to_e is None else to_e).any()), (
    "the codebook's vectors get no gradient: they would never move"
)
assert bool(torch.zeros_like(z).add(0 if to_z is None else to_z).any()), (
    "the points get no gradient: nothing commits them to their vectors"
)
(unit,) = torch.autograd.grad(square, z)
assert not (near(to_z, 1.3 * unit) and near(to_e, -1.3 * unit)), (
    "both terms move both sides: in each of them one side has to be detached"
)
assert not (near(to_z, unit) and near(to_e, -0.3 * unit)), "the sides are exchanged: beta belongs to the points"
assert near(to_z, 0.3 * unit), "the points' gradient should be 2 beta (z - e) / n, from the second term alone"
assert near(to_e, -unit), "the vectors' gradient should be 2 (e - z) / n, from the first term alone"
assert near(codebook_loss(z[:1], e[:1]), 1.25 * F.mse_loss(z[:1], e[:1])), "one point with the default beta goes wrong"

# %% [markdown] hints="10.2"
# 1. `.detach()` is $\mathrm{sg}$.
#
# 2. In the term that moves $e$, which of the two is to be held still?
#
# 3. `(z.detach() - e).square().mean() + commitment * (z - e.detach()).square().mean()`.

# %% [markdown]
# ## 10.3 A wrong scale is a wrong clock (2 points, 15 minutes, medium)
#
# On the linear path $x_t = t z + (1-t)\varepsilon$, multiply the data by $c > 0$. Show on paper that
# $$x_t^{(c)} = t\,c z + (1-t)\,\varepsilon = s\; x_{t'}^{(1)}, \qquad s = 1 - t + ct, \quad t' = \frac{ct}{s},$$
# and then go the other way: given the times $t'$ that one would like for data of unit size (a uniform grid, say), which
# times $t$ must be asked for when the data were multiplied by $c$, and what is the factor $s$ there?


# %% solution="10.3"
def matched_times(unit_times: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """The times at which data of scale c are where unit data are at `unit_times`, and the factor between them.

    Args:
        unit_times: t' (N,) in [0, 1], both ends allowed.
        c: the scale, > 0.

    Returns:
        t (N,) and s (N,), with x_t of the scaled data = s x_t' of the unit data.
    """
    ### BEGIN SOLUTION
    t = unit_times / (unit_times + c * (1 - unit_times))
    return t, 1 - t + c * t
    ### END SOLUTION


# %% check="10.3" points=2
unit_times = torch.linspace(0, 1, 9, dtype=torch.float64)
for c in (0.2, 7.0):
    with untouched(unit_times):
        result = matched_times(unit_times, c)
    assert two(result), "return two tensors: t and s"
    t, s = result
    assert shaped(t, 9), "t must have the shape of the times given"
    assert bool(torch.isfinite(t).all()), "t is not finite somewhere: 0 and 1 are times too, and stay where they are"
    assert not near(t, unit_times), "t = t' would be right only for c = 1"
    assert not near(t, c * unit_times / (1 - unit_times + c * unit_times)), (
        "that is the way from t to t': here t' is given, so solve t' = c t / (1 - t + c t) for t"
    )
    assert not (shaped(s, 9) and near(c * s / (1 - s + c * s), unit_times)), "t and s are exchanged: t comes first"
    assert bool(((t >= 0) & (t <= 1)).all()), "t must lie in [0, 1], as t' does"
    assert near(t[[0, -1]], unit_times[[0, -1]]), "0 and 1 must stay where they are, whatever c is"
    assert not near(c**2 * t / (1 - t + c**2 * t), unit_times), "c is the ratio of standard deviations: no square"
    assert near(c * t / (1 - t + c * t), unit_times), "check the algebra: is t' = c t / (1 - t + c t)?"
    assert t.dtype == torch.float64, "the times came in double precision: keep it"
    assert shaped(s, 9), "s must have the shape of the times given"
    assert finite(s), "s is not finite somewhere"
    assert not near(s, c / (1 - t + c * t)), "s is not c divided by what it should be: s = 1 - t + c t"
    assert not near(s, 1 / (1 - t + c * t)), "s is upside down: it multiplies the unit data's state"
    assert not near(s, 1 - unit_times + c * unit_times), "s is 1 - t + c t with the new t, not with t'"
    assert near(s, 1 - t + c * t), "s must be 1 - t + c t"
    # The exact fields agree: E[z | x] of the scaled data is c times that of the unit data, at the matched time.
    generator = torch.Generator().manual_seed(0)
    means, x = (torch.randn(n, 2, generator=generator, dtype=torch.float64) for n in (3, 9))
    unit_field, scaled_field = MixtureField(means, 0.3), MixtureField(c * means, c * 0.3)
    assert near(scaled_field.data(s[:, None] * x, t) / c, unit_field.data(x, unit_times), 1e-9), (
        "at the matched times the scaled field must say c times what the unit field says"
    )
    mixed = unit_times[[7, 0, 3]]  # in no order, and not evenly spread
    assert near(matched_times(mixed, c)[0], t[[7, 0, 3]]), "each time has its own t, whatever stands beside it"
assert near(matched_times(torch.tensor([0.25]).double(), 1.0)[0], torch.tensor([0.25]).double()), (
    "for c = 1 each time is its own"
)

# %% [markdown] hints="10.3"
# 1. Divide $t' = ct/(1 - t + ct)$ by $1 - t' = (1-t)/(1 - t + ct)$: what is left?
#
# 2. $\dfrac{t'}{1-t'} = c\, \dfrac{t}{1-t}$: the odds are multiplied by $c$. Solve for $t$, but do not
#    divide by $1 - t'$.
#
# 3. $t = \dfrac{t'}{t' + c\,(1 - t')}$, and then $s = 1 - t + c\,t$.

# %% tags=["demo"]
grid = torch.linspace(0, 1, 13)
figure, axes = plt.subplots(1, 2, figsize=(8, 2.6), layout="constrained", sharey=True)
fine = torch.linspace(0, 1, 10_001)
for ax, title in zip(axes, ("yours", "expected"), strict=True):
    for row, (c, colour) in enumerate(zip((0.1, 1.0, 10.0), (ACCENT, INK, GREY), strict=True)):
        searched = fine[torch.searchsorted(c * fine / (1 - fine + c * fine), grid).clamp(max=10_000)]
        t = matched_times(grid, c)[0] if title == "yours" else searched
        ax.plot(t, torch.full((13,), float(row)), "|", color=colour, markersize=18)
    ax.set(title=f"{title}: steps that suit data of scale c", xlabel="t", ylim=(-0.5, 2.5))
axes[0].set_yticks(range(3), ["c = 0.1", "c = 1", "c = 10"])
plt.show()

# %% [markdown]
# ## 10.4 Every pixel reads the words (2 points, 15 minutes, hard)
#
# Write cross-attention with several heads and a mask. Queries come from the pixels, $Q = h W_q$, keys and values from
# the context, $K = c W_k$ and $V = c W_v$. Head number $a$ works on columns $a d \dots (a+1) d - 1$ of each, with
# $d = D / \text{heads}$. In each head every pixel takes the mean of the values with weights
# $$A_{ij} = \frac{m_j\, e^{q_i \cdot k_j/\sqrt d}}{\sum_l m_l\, e^{q_i \cdot k_l/\sqrt d}},$$
# where $m_j$ is 1 for a word and 0 for padding. Return the heads' results side by side.
#
# **Without:** `F.scaled_dot_product_attention`, `nn.MultiheadAttention`, `F.multi_head_attention_forward`, `Attention`.


# %% solution="10.4"
def cross_attention(
    h: Tensor, context: Tensor, mask: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, heads: int
) -> Tensor:
    """What each pixel reads.

    Args:
        h: pixels (B, N, D); context: words (B, M, C); mask: (B, M) bool, true for a word, false for padding.
        w_q: (D, D); w_k, w_v: (C, D).
        heads: divides D.

    Returns:
        (B, N, D).
    """
    ### BEGIN SOLUTION
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (h @ w_q, context @ w_k, context @ w_v))
    logits = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])  # (B, heads, N, M)
    weights = logits.masked_fill(~mask[:, None, None], -math.inf).softmax(dim=3)
    return (weights @ v).transpose(1, 2).flatten(2)
    ### END SOLUTION


# %% check="10.4" points=2
generator = torch.Generator().manual_seed(0)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


h, context, w_q, w_k, w_v = random(2, 5, 8), random(2, 5, 6), random(8, 8), random(6, 8), random(6, 8)
mask = torch.tensor([[True, True, False, True, False], [True, False, False, False, False]])


def reference(
    mask: Tensor, heads: int, h: Tensor = h, context: Tensor = context, weights: tuple[Tensor, ...] = (w_q, w_k, w_v)
) -> Tensor:
    """What the library's layer says with these weights, without biases, and nothing after the heads."""
    layer = Attention(h.shape[2], heads, context.shape[2]).double()
    state = {name: torch.zeros_like(value) for name, value in layer.state_dict().items()}
    state |= {"q.weight": weights[0].T, "kv.weight": torch.cat(weights[1:], 1).T}
    layer.load_state_dict(state | {"out.weight": torch.eye(h.shape[2])})
    with torch.no_grad():
        return layer(h, context, mask)


def attend(mask: Tensor, heads: int, h: Tensor = h, context: Tensor = context, w_v: Tensor = w_v) -> Tensor:
    """The answer, shaped like h."""
    with untouched(h, context, mask, w_q, w_k, w_v), unaided(
        F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, Attention
    ):  # fmt: skip
        out = cross_attention(h, context, mask, w_q, w_k, w_v, heads)
    assert shaped(out, *h.shape), f"one row for each pixel, heads side by side: expected {tuple(h.shape)}"
    assert out.dtype == torch.float64, f"what comes in float64 goes out in float64, got {out.dtype}"
    assert finite(out), "the result is not finite: the softmax goes over the words, of which some count"
    return out


out = attend(mask, 2)
everything, kept = torch.ones_like(mask), mask[:, :, None]
assert not near(out, reference(~mask, 2)), "the mask is the wrong way round: true means a word that counts"
on_pixels = torch.where(kept, reference(everything, 2), reference(everything, 2, weights=(0 * w_q, w_k, w_v)))
assert not near(out, on_pixels), "the mask lies on the pixels: it belongs to the words, the last axis of the logits"
assert not near(out, reference(everything, 2)), "the mask has no effect: padding is read like words"
turned = torch.arange(5).flip(0)
assert near(attend(mask, 2, h=h[:, turned]), out[:, turned]), (
    "reordering the pixels must reorder the result and nothing else: were pixels and heads mixed in a reshape?"
)
# The library reads keys from the first six numbers of these words, and values from the last six.
apart = w_q, torch.cat([w_k, 0 * w_k]), torch.cat([0 * w_v, w_v])
after = reference(everything, 2, context=torch.cat([context, context * kept], 2), weights=apart)
assert not near(out, after), "the weights no longer sum to one: mask the logits, before the softmax"
zeroed = reference(everything, 2, context=torch.cat([context * kept, context], 2), weights=apart)
assert not near(out, zeroed), "a logit of 0 is no zero weight: exp(0) = 1. Which logit has exp = 0?"
assert not near(out, reference(everything, 2, context=context * kept)), (
    "padding was set to zero, and is still read: its logit is 0, and exp(0) = 1. Which logit has exp = 0?"
)
assert near(out, attend(mask, 2, context=context + ~kept)), (
    "what stands in the padding changes the result: its weights are small, but not zero. Which logit has exp = 0?"
)
assert not near(out, reference(mask, 2, weights=(w_q * math.sqrt(0.5), w_k, w_v))), (
    "divide by the root of a head's width D/heads, not of D"
)
assert not near(out, reference(mask, 2, weights=(w_q * 2, w_k, w_v))), "the logits must be divided by the root of d"
assert not near(out, reference(mask, 2, weights=(w_q / 2, w_k, w_v))), (
    "the logits are divided by d, where its root is asked for"
)
order = torch.arange(8).reshape(4, 2).T.flatten()  # even columns, then odd ones
comb = reference(mask, 2, weights=(w_q[:, order], w_k[:, order], w_v[:, order]))
for shown in (comb, comb[:, :, order.argsort()]):
    assert not near(out, shown), "head a works on neighbouring columns a d ... (a + 1) d - 1, not on every heads-th"
for root in (1.0, math.sqrt(2)):
    assert not near(out, reference(mask, 1, weights=(w_q * root, w_k, w_v))), (
        "there is one head where two were asked for"
    )
assert not near(out, reference(mask, 2, weights=(w_q, w_v, w_k))), "keys and values are exchanged"
alike = context.clone()
alike[:, :, 0] = 1
constant = torch.zeros_like(w_v)
constant[0] = 1  # values read only the number in which all words agree
assert near(attend(mask, 2, context=alike, w_v=constant), torch.ones_like(out)), (
    "where all values are 1 the result is not: a pixel's weights must sum to one over the words, and the values come "
    "from the context"
)
assert near(out, reference(mask, 2)), "queries come from h, keys and values from the context: check each product"
for heads in (1, 4, 8):
    assert near(attend(mask, heads), reference(mask, heads)), "the function must use `heads` as it comes"
few, words, last = random(1, 3, 8), random(1, 4, 6), torch.tensor([[False, False, True, True]])
assert near(attend(last, 2, few, words), reference(last, 2, few, words)), (
    "one sample of 3 pixels and 4 words goes wrong"
)

# %% [markdown] hints="10.4"
# 1. Give the heads an axis of their own: (B, N, D) to (B, heads, N, d). Then all is matrix products.
#
# 2. The logits are (B, heads, N, M), the mask (B, M): which axes does it lack? A weight is zero if its logit is
#    $-\infty$ before the softmax over the last axis.
#
# 3. `part.unflatten(2, (heads, -1)).transpose(1, 2)` for all three, `logits.masked_fill(~mask[:, None, None],
#    -math.inf).softmax(3) @ v`, and back by `.transpose(1, 2).flatten(2)`.

# %% [markdown]
# ## 10.5 Guidance with the empty text (1 point, 8 minutes, easy)
#
# Guide a network by texts: $\tilde u = (1 - w)\, u(x, t, \varnothing) + w\, u(x, t, y)$, **in one call** of the network
# with a batch of 2B, whatever $w$ is. The null guide is one sequence of tokens, the empty text, for all samples.
#
# **Without:** `ClassifierFreeGuidance`.


# %% solution="10.5"
def guided(net, x: Tensor, t: Tensor, y: Tensor, null: Tensor, w: float) -> Tensor:
    """Classifier-free guidance by texts.

    Args:
        net: net(x, t, y) -> like x.
        x: (B, C, H, W); t: (B,); y: tokens (B, L); null: tokens (L,) of the empty text; w: the scale.

    Returns:
        the guided velocity, shaped like x.
    """
    ### BEGIN SOLUTION
    both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, null.expand_as(y)]))
    conditional, free = both.chunk(2)
    return (1 - w) * free + w * conditional
    ### END SOLUTION


# %% check="10.5" points=1
generator = torch.Generator().manual_seed(0)
x, t = torch.randn(3, 1, 2, 2, generator=generator).double(), torch.tensor([0.1, 0.5, 0.8]).double()
y, null = torch.tensor([[1, 4, 2], [1, 3, 0], [1, 2, 5]]), torch.tensor([1, 0, 0])
images, moments, texts = x, t, y
said = torch.tensor([0.0, 0.3, 1.0, -2.0, 4.0, 7.0]).double()
calls = []


def stub(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    assert shaped(x, len(x), 1, 2, 2), "the network must be given images like x"
    assert shaped(t, len(x)), "the network wants a time for each sample: double t as well"
    assert shaped(y, len(x), 3), "the network wants a text for each sample, null repeated"
    assert not y.is_floating_point(), "the network wants tokens, which are integers"
    for image, time, text in zip(x, t, y, strict=True):
        assert bool((moments == time).any()), "the network was given times that are no image's: double t as it is"
        own = int((moments == time).nonzero()[0])  # all times differ
        assert torch.equal(image, images[own]), "an image got another one's time: both are doubled in the same order"
        assert any(torch.equal(text, right) for right in (texts[own], null)), (
            "an image was given a text that is neither its own nor the empty one"
        )
    calls.append(len(x))
    return x * t[:, None, None, None] + said[y].sum(1)[:, None, None, None]


class Told(Field):
    """The network as a field, for the library's guidance."""

    path, predicts, null = GaussianPath(), "velocity", null

    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return stub(x, t, self.null.expand(len(x), -1) if y is None else y)


def expected(w: float, count: int = 3) -> Tensor:
    return ClassifierFreeGuidance(Told(), w).predict(x[:count], t[:count], y[:count])


def ask(w: float, count: int = 3) -> Tensor:
    """The answer, shaped like x, in one call of the network."""
    calls.clear()
    with untouched(x, t, y, null), unaided(ClassifierFreeGuidance):
        out = guided(stub, x[:count], t[:count], y[:count], null, w)
    assert len(calls) == 1, f"one call of the network, with both guides in one batch: there were {len(calls)}"
    assert calls == [2 * count], f"the one call should be for 2 B = {2 * count} samples, it was for {calls[0]}"
    assert shaped(out, count, 1, 2, 2), "return the guided velocity, shaped like x, and not both halves"
    assert finite(out), "the guided velocity is NaN or infinite"
    return out


out = ask(2.5)
assert not near(out, expected(-1.5)), "the halves are exchanged: which came first in the batch?"
assert not near(out, expected(3.5)), "that is 1 + w: here w = 1 means no extra guidance"
assert not near(out, expected(1.0)), "w has no effect: this is the velocity for the text"
assert not near(out, expected(0.0)), "w has no effect: this is the velocity for the empty text"
assert near(ask(1.0), expected(1.0)), "at w = 1 it must be u(y) alone: the weights must sum to one, (1 - w) and w"
assert near(ask(0.0), expected(0.0)), "at w = 0 it must be u(null) alone"
assert near(out, expected(2.5)), "expected (1 - w) u(null) + w u(y)"
assert near(ask(-0.5, 1), expected(-0.5, 1)), "one sample with w = -0.5 goes wrong"

# %% [markdown] hints="10.5"
# 1. Everything that goes in has to be doubled: images, times, texts.
#
# 2. `null.expand_as(y)` is one empty text a sample; `chunk(2)` gives the halves in the order in which they went in.
#
# 3. `both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, null.expand_as(y)]))`.

# %% [markdown]
# ## 10.6 What an inpainting network is trained on (1 point, 8 minutes, medium)
#
# The network reads the noised image **and**, as further channels, the known pixels (0 where unknown) and the mask, in
# this order. It is to learn the velocity of the linear path, $z - \varepsilon$, of the **whole** image, all of which is
# noised. Return what goes in and what should come out.
#
# **Without:** `GaussianPath`.


# %% solution="10.6"
def inpainting_pair(z: Tensor, known: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Input and target of an inpainting network, on the linear path x_t = t z + (1 - t) noise.

    Args:
        z: images (B, C, H, W); noise: likewise; known: (B, 1, H, W), 1 where a pixel is known, else 0; t: (B,).

    Returns:
        the input (B, 2 C + 1, H, W): noised image, known pixels, mask; and the target (B, C, H, W).
    """
    ### BEGIN SOLUTION
    time = t[:, None, None, None]
    x = time * z + (1 - time) * noise
    return torch.cat([x, z * known, known], dim=1), z - noise
    ### END SOLUTION


# %% check="10.6" points=1
generator = torch.Generator().manual_seed(0)
z, noise = torch.randn(2, 4, 2, 6, 4, generator=generator).double()  # 4 samples, 4 pixels wide: t may land on either
known = (torch.rand(4, 1, 6, 4, generator=generator) > 0.4).double()
t = torch.tensor([0.1, 0.4, 0.7, 0.9]).double()
with untouched(z, known, t, noise), unaided(GaussianPath):
    result = inpainting_pair(z, known, t, noise)
assert two(result), "return two tensors: input and target"
given, target = result
assert isinstance(given, Tensor), "the input must be a tensor (B, 2 C + 1, H, W)"
assert not shaped(given, 4, 4, 6, 4), "5 channels for C = 2: the mask goes in too, or a hole looks like a grey region"
assert shaped(given, 4, 5, 6, 4), f"the input must be (B, 2 C + 1, H, W), (4, 5, 6, 4) here, got {tuple(given.shape)}"
assert given.dtype == torch.float64, f"what comes in float64 goes out in float64, got {given.dtype}"
assert finite(given), "the input contains NaN or infinite numbers"
path = GaussianPath()
x = path.sample(z, t, noise)
noised, seen, flag = given[:, :2], given[:, 2:4], given[:, 4:]
across = path.sample(z.transpose(0, 3), t, noise.transpose(0, 3)).transpose(0, 3)
assert not near(noised, across), "t has landed on the width: each sample has a time of its own"
assert not near(noised, path.sample(z, 1 - t, noise)), "t = 1 is the data and t = 0 the noise, not the reverse"
assert not near(noised, path.sample(z, t[:1].expand(4), noise)), "all samples got the first one's time"
assert not near(given[:, :1], known), "the mask comes last, after the noised image and the known pixels"
shown = z.masked_fill(known == 0, 0.0)
assert not near(noised, shown), "the noised image comes first, the known pixels after it"
assert not near(noised, x.masked_fill(known == 0, 0.0)), "the whole image is noised and given, unknown pixels too"
assert not near(noised, z.where(known > 0, x)), "the whole image is noised, known pixels too: those come beside it"
assert near(noised, x), "the first channels must be the noised image of the linear path"
assert not near(seen, z), "the unknown pixels are given away: where the mask is 0 nothing may be seen"
assert not near(seen, z.masked_fill(known == 1, 0.0)), (
    "known is 1 where a pixel is known: here the unknown ones are shown"
)
assert not near(seen, x.masked_fill(known == 0, 0.0)), "the known pixels are known without noise"
assert near(seen, shown), "after the noised image come the known pixels, 0 where unknown"
assert not near(flag, 1 - known), "the mask is the wrong way round: 1 where a pixel is known"
assert near(flag, known), "the last channel must be the mask"
assert shaped(target, 4, 2, 6, 4), "the target must have the shape of z"
velocity = path.velocity(x, z, t)
assert not near(target, -velocity), "the velocity points from the noise to the data: check the sign"
assert not near(target, z), "the target is a velocity, and not the image itself"
assert not near(target, noise), "the target is a velocity, and not the noise itself"
assert not near(target, velocity.masked_fill(known == 1, 0.0)), (
    "the target is the velocity of the whole image: known pixels have one too"
)
assert not near(target, shown - noise), (
    "the target is made of known pixels alone: the velocity of the whole image is asked for"
)
assert not near(target, x - noise), "the target is the velocity itself, not how far x has come by the time t"
assert near(target, velocity), "the target is the velocity of the linear path, of the whole image"
given, target = inpainting_pair(z[:1, :1], known[:1], t[:1], noise[:1, :1])
assert shaped(given, 1, 3, 6, 4), f"one image with C = 1 must give (1, 3, 6, 4), got {tuple(given.shape)}"
assert near(given, torch.cat([x[:1, :1], shown[:1, :1], known[:1]], 1)), "one image with one channel goes wrong"
assert near(target, velocity[:1, :1]), "the target of one image with one channel is wrong"

# %% [markdown] hints="10.6"
# 1. `t` has shape (B,), images (B, C, H, W): give it three more axes.
#
# 2. Three things are joined along dimension 1, of C, C and 1 channels.
#
# 3. `torch.cat([time * z + (1 - time) * noise, z * known, known], dim=1)` and `z - noise`, with
#    `time = t[:, None, None, None]`.

# %% tags=["demo"]
known = torch.ones(8, 1, 8, 8)
known[:, :, 2:6, 2:6] = 0
eps = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(2))
given, _ = inpainting_pair(digits[:8], known, torch.full((8,), 0.6), eps)
noised = GaussianPath().sample(digits[:8], 0.6, eps)
expected = torch.cat([noised, digits[:8].masked_fill(known == 0, 0.0), known], dim=1)
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for ax, shown, title in zip(axes, (given, expected), ("yours", "expected"), strict=True):
    ax.imshow(tile(shown.transpose(0, 1).reshape(-1, 1, 8, 8), 8).numpy(), cmap="gray_r", vmin=0, vmax=1)
    ax.set_title(f"{title}: noised, known, mask")
    ax.set_axis_off()
plt.show()

# %% [markdown]
# ## 10.7 When the decoder pays (1 point, 6 minutes, easy)
#
# On pixels a sample takes N calls of cost C. In latents with f times fewer pixels a side, the same network costs
# $C/f^2$ a call, and the decoder D is paid once. Find the smallest whole number of calls N from which the latent sample
# is strictly cheaper. It must be exact, also where both cost the same, for whole numbers of any size.


# %% solution="10.7"
def break_even(call: int, decoder: int, factor: int) -> int:
    """The smallest N with N call / factor^2 + decoder < N call.

    Args:
        call: C, operations of a call on pixels, > 0; decoder: D >= 0; factor: f >= 2. All whole numbers.

    Returns:
        N >= 1.
    """
    ### BEGIN SOLUTION
    # N C (f^2 - 1) > D f^2, in whole numbers, so that no rounding can tip an equality.
    return decoder * factor**2 // (call * (factor**2 - 1)) + 1
    ### END SOLUTION


# %% check="10.7" points=1
found = break_even(100, 1900, 2)
assert type(found) is int, "N must be a whole number, an int"
assert found != 39, "pixels go down by f along both sides: a call costs C / f^2"
assert found != 1, "the decoder has to be paid for: with D = 19 C a single call cannot pay"
assert found not in (19, 20), "a latent call is not free: N calls save N C (1 - 1/f^2), which must exceed D"
assert found != 25, "25 calls save 18.75 C, less than the decoder's 19 C: one more is needed"
assert found == 26, "N C (1 - 1/4) > 19 C holds from N = 26 on"
assert break_even(7, 20, 3) != 3, "a call saves C (1 - 1/f^2), 7 * 8/9 here, which is no whole number: was it rounded?"
assert break_even(3, 9, 2) == 5, "at N = 4 both cost 12: strictly cheaper is the next"
assert break_even(5, 0, 2) == 1, "with a free decoder the first call already pays"
for call, decoder, factor, right in ((9, 1080, 5, 126), (11, 264, 3, 28)):
    assert break_even(call, decoder, factor) == right, (
        f"right above, wrong for C = {call}, D = {decoder}, f = {factor}: 1 / f^2 is rounded, whole numbers are not"
    )
for call, decoder, factor, right in ((10**9 + 1, 5_250_000_005, 2, 7), (10**18 + 1, 5_250_000_000_000_000_005, 2, 7)):
    assert break_even(call, decoder, factor) == right, (
        f"wrong for C = {call}, D = {decoder}, f = {factor}: a float has 16 digits; whole numbers have all of theirs"
    )
### BEGIN HIDDEN TESTS
for call, decoder, factor in ((7, 1000, 8), (1, 48, 7), (10**9, 5 * 10**9, 2), (11, 1320, 11)):
    n = break_even(call, decoder, factor)
    square = factor**2
    assert n * call + decoder * square < n * call * square, "this N is too small: here floats round"
    assert (n - 1) * call * (square - 1) <= decoder * square, "this N is too large: here floats round"
### END HIDDEN TESTS

# %% [markdown] hints="10.7"
# 1. What does each call save, and what do all savings together have to exceed?
#
# 2. $N > D f^2 / \big(C (f^2 - 1)\big)$: the smallest whole number **above** a fraction $a/b$ is $\lfloor a/b \rfloor +
#    1$, also where $a/b$ is whole.
#
# 3. `decoder * factor**2 // (call * (factor**2 - 1)) + 1`.

# %% [markdown]
# ## When all checks say ✓
#
# `flowlib grade 10_latent_diffusion.ipynb` grades the notebook and prints the points. In the library the same things
# are `Codebook` (`flowlib/nets/codebook.py`), `Attention` (`flowlib/nets/attention.py`), `ClassifierFreeGuidance`
# (`flowlib/guidance.py`), and `Concatenated` (`flowlib/nets/concatenation.py`).
