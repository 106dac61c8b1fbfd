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
# **Needed before:** lecture 10. **Time:** about 75 minutes. **Points:** 10.

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from flowlib import MixtureField
from flowlib.course.notebook import exercise
from flowlib.data import load
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


# %% [markdown]
# ## 10.1 Straight through (2 points, 12 minutes, medium)
#
# Move each point to the nearest vector of a codebook (in Euclidean distance), and let the gradient go straight through:
# the value returned is the codebook's vector, the gradient with respect to the points is that of the identity, and the
# codebook gets none, because it learns from a loss of its own.


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
result = quantise(z, codebook)
assert two(result), "return two things: the vectors and their indices"
e, index = result
assert shaped(e, 40, 3), "the vectors must have the shape of z, one for each point"
assert shaped(index, 40), "the indices must have shape (B,), one for each point"
distance = (z[:, None] - codebook).square().sum(2).detach()
assert not torch.equal(index, distance.argmax(1)), "these are the farthest vectors: the nearest has the least distance"
assert not torch.equal(index, (z @ codebook.T).argmax(1)), (
    "the largest dot product is not the least distance: a long vector wins it from far away"
)
assert torch.equal(index, distance.argmin(1)), "the index must be that of the nearest vector in Euclidean distance"
assert not near(e, z), "the value returned is z itself: only its gradient is z's, the value is the vector's"
assert near(e, codebook[index]), "the value returned must be codebook[index]"
weight = torch.randn(e.shape, generator=generator, dtype=torch.float64)
assert e.requires_grad, "no gradient reaches z at all: what has been detached has to be joined to z again"
to_z, to_book = torch.autograd.grad((e * weight).sum(), (z, codebook), allow_unused=True)
assert to_z is not None, "indexing a codebook has no derivative with respect to z: the encoder would learn nothing"
assert bool(to_z.any()), "z's gradient cancels: in e = z + (e - z) one of the two z's must be detached"
assert near(to_z, weight), "the gradient with respect to z must be that of the identity"
assert to_book is None or not bool(to_book.any()), (
    "the codebook gets the decoder's gradient too: here it should get none, so its vector must be detached"
)

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
cells = (quantise(mesh.reshape(-1, 2), book)[1], torch.cdist(mesh.reshape(-1, 2), book).argmin(1))
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
gap = (z - e).detach()
loss = codebook_loss(z, e, 0.3)
assert isinstance(loss, Tensor), "return a tensor: a number has no gradient"
assert shaped(loss), "the loss must be a scalar"
assert not near(loss, 1.3 * gap.square().sum()), "take the mean over all components, not their sum"
assert not near(loss, 1.3 * gap.square().sum(1).mean()), "take the mean over all components, not over the points alone"
assert not near(loss, 1.25 * gap.square().mean()), "beta is an argument: use it as it comes"
assert near(loss, 1.3 * gap.square().mean()), "its value must be (1 + beta) times the mean squared difference"
assert loss.requires_grad, "nothing gets a gradient: in each term one side alone is to be detached"
to_z, to_e = torch.autograd.grad(loss, (z, e), allow_unused=True)
assert bool(torch.zeros_like(e).add(0 if to_e is None else to_e).any()), (
    "the codebook's vectors get no gradient: they would never move"
)
assert bool(torch.zeros_like(z).add(0 if to_z is None else to_z).any()), (
    "the points get no gradient: nothing commits them to their vectors"
)
unit = 2 * gap / gap.numel()
assert not (near(to_z, 1.3 * unit) and near(to_e, -1.3 * unit)), (
    "both terms move both sides: in each of them one side has to be detached"
)
assert not (near(to_z, unit) and near(to_e, -0.3 * unit)), "the sides are exchanged: beta belongs to the points"
assert near(to_z, 0.3 * unit), "the points' gradient should be 2 beta (z - e) / n, from the second term alone"
assert near(to_e, -unit), "the vectors' gradient should be 2 (e - z) / n, from the first term alone"

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
    result = matched_times(unit_times, c)
    assert two(result), "return two tensors: t and s"
    t, s = result
    assert shaped(t, 9), "t must have the shape of the times given"
    assert bool(torch.isfinite(t).all()), "t is not finite somewhere: 0 and 1 are times too, and stay where they are"
    assert not near(t, unit_times), "t = t' would be right only for c = 1"
    assert not near(t, c * unit_times / (1 - unit_times + c * unit_times)), (
        "that is the way from t to t': here t' is given, so solve t' = c t / (1 - t + c t) for t"
    )
    assert bool(((t >= 0) & (t <= 1)).all()), "t must lie in [0, 1]: dividing by c alone does not keep the ends"
    assert not near(c**2 * t / (1 - t + c**2 * t), unit_times), "c is the ratio of standard deviations: no square"
    assert near(c * t / (1 - t + c * t), unit_times), "check the algebra: is t' = c t / (1 - t + c t)?"
    assert t.dtype == torch.float64, "the times came in double precision: keep it"
    assert shaped(s, 9), "s must have the shape of the times given"
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


def reference(mask: Tensor, heads: int, root: float | None = None, axis: int = 3, interleaved: bool = False) -> Tensor:
    def split(part: Tensor) -> Tensor:
        if interleaved:
            return part.unflatten(2, (-1, heads)).permute(0, 3, 1, 2)
        return part.unflatten(2, (heads, -1)).transpose(1, 2)

    q, k, v = split(h @ w_q), split(context @ w_k), split(context @ w_v)
    logits = q @ k.transpose(2, 3) / (math.sqrt(q.shape[3]) if root is None else root)
    weights = logits.masked_fill(~mask[:, None, None], -math.inf).softmax(axis).nan_to_num()
    mixed = weights @ v
    return mixed.permute(0, 2, 3, 1).flatten(2) if interleaved else mixed.transpose(1, 2).flatten(2)


out = cross_attention(h, context, mask, w_q, w_k, w_v, 2)
everything = torch.ones_like(mask)
assert shaped(out, 2, 5, 8), f"one row for each pixel, heads side by side: expected {tuple(h.shape)}"
assert bool(torch.isfinite(out).all()), "the result is not finite: which places got the minus infinity?"
assert not near(out, reference(~mask, 2)), "the mask is the wrong way round: true means a word that counts"
assert not near(out, reference(everything, 2)), "the mask has no effect: padding is read like words"
q, k, v = (p.unflatten(2, (2, 4)).transpose(1, 2) for p in (h @ w_q, context @ w_k, context @ w_v))
logits = q @ k.transpose(2, 3) / 2
after = ((logits.softmax(3) * mask[:, None, None]) @ v).transpose(1, 2).flatten(2)
assert not near(out, after), "the weights no longer sum to one: mask the logits, before the softmax"
zeroed = ((logits * mask[:, None, None]).softmax(3) @ v).transpose(1, 2).flatten(2)
added = ((logits + mask[:, None, None]).softmax(3) @ v).transpose(1, 2).flatten(2)
for silent in (zeroed, added):
    assert not near(out, silent), "a logit of 0 or 1 is no zero weight: exp(0) = 1. Which logit has exp = 0?"
assert not near(out, reference(mask, 2, axis=2)), "each pixel's weights must sum to one over the words, not the reverse"
assert not near(out, reference(mask, 2, root=math.sqrt(8))), "divide by the root of a head's width D/heads, not of D"
assert not near(out, reference(mask, 2, root=1.0)), "the logits must be divided by the root of d"
assert not near(out, reference(mask, 2, interleaved=True)), (
    "head a works on neighbouring columns a d ... (a + 1) d - 1, not on every heads-th"
)
assert not near(out, reference(mask, 1)), "there is one head where two were asked for"
assert near(out, reference(mask, 2)), "queries come from h, keys and values from the context: check each product"
### BEGIN HIDDEN TESTS
for heads in (1, 4, 8):
    assert near(cross_attention(h, context, mask, w_q, w_k, w_v, heads), reference(mask, heads)), (
        "the function must use `heads` as it comes"
    )
### END HIDDEN TESTS

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
# with a batch of 2B. The null guide is one sequence of tokens, the empty text, for all samples.


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
said = torch.tensor([0.0, 0.3, 1.0, -2.0, 4.0, 7.0]).double()
calls = []


def stub(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    assert shaped(x, len(x), 1, 2, 2), "the network must be given images like x"
    assert shaped(t, len(x)), "the network wants a time for each sample: double t as well"
    assert shaped(y, len(x), 3), "the network wants a text for each sample, null repeated"
    calls.append(len(x))
    return x * t[:, None, None, None] + said[y].sum(1)[:, None, None, None]


out = guided(stub, x, t, y, null, 2.5)
assert len(calls) == 1, f"one call of the network, with both guides in one batch: there were {len(calls)}"
assert calls == [6], f"the one call should be for 2 B = 6 samples, it was for {calls[0]}"
free = x * t[:, None, None, None] + 0.3
conditional = x * t[:, None, None, None] + said[y].sum(1)[:, None, None, None]
assert not near(out, 2.5 * free - 1.5 * conditional), "the halves are exchanged: which came first in the batch?"
assert not near(out, conditional + 2.5 * (conditional - free)), "that is 1 + w: here w = 1 means no extra guidance"
assert not near(out, free + conditional * 2.5), "the weights must sum to one: (1 - w) and w"
assert near(out, free + 2.5 * (conditional - free)), "expected (1 - w) u(null) + w u(y)"

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
result = inpainting_pair(z, known, t, noise)
assert two(result), "return two tensors: input and target"
given, target = result
assert isinstance(given, Tensor), "the input must be a tensor (B, 2 C + 1, H, W)"
assert not shaped(given, 4, 4, 6, 4), "5 channels for C = 2: the mask goes in too, or a hole looks like a grey region"
assert shaped(given, 4, 5, 6, 4), f"the input must be (B, 2 C + 1, H, W), (4, 5, 6, 4) here, got {tuple(given.shape)}"
time = t[:, None, None, None]
x = time * z + (1 - time) * noise
noised, seen, flag = given[:, :2], given[:, 2:4], given[:, 4:]
assert not near(noised, t * z + (1 - t) * noise), "t has landed on the width: each sample has a time of its own"
assert not near(noised, (1 - time) * z + time * noise), "t = 1 is the data and t = 0 the noise, not the reverse"
assert not near(noised, known * z + (1 - known) * x), (
    "the whole image is noised, known pixels too: those come beside it"
)
assert near(noised, x), "the first channels must be the noised image t z + (1 - t) noise"
assert not near(seen, z), "the unknown pixels are given away: multiply by the mask"
assert not near(seen, z * (1 - known)), "known is 1 where a pixel is known: here the unknown ones are shown"
assert not near(seen, x * known), "the known pixels are known without noise"
assert near(seen, z * known), "after the noised image come the known pixels, 0 where unknown"
assert near(flag, known), "the last channel must be the mask"
assert shaped(target, 4, 2, 6, 4), "the target must have the shape of z"
assert not near(target, noise - z), "the velocity of t z + (1 - t) noise is z - noise: check the sign"
assert near(target, z - noise), "the target is the velocity z - noise of the whole image"

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
expected = torch.cat([0.6 * digits[:8] + 0.4 * eps, digits[:8] * known, known], dim=1)
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
# is strictly cheaper. It must be exact, also where both cost the same.


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
found = break_even(100, 900, 4)
assert type(found) is int, "N must be a whole number, an int"
assert found != 13, "pixels go down by f along both sides: a call costs C / f^2"
assert found != 1, "the decoder has to be paid for: with D = 9 C a single call cannot pay"
assert found != 9, "a latent call is not free: N calls save N C (1 - 1/f^2), which must exceed D"
assert found == 10, "N C (1 - 1/16) > 9 C holds from N = 10 on"
assert break_even(3, 9, 2) == 5, "at N = 4 both cost 12: strictly cheaper is the next"
assert break_even(5, 0, 2) == 1, "with a free decoder the first call already pays"
for call, decoder, factor, right in ((9, 1080, 5, 126), (11, 264, 3, 28)):
    assert break_even(call, decoder, factor) == right, (
        f"right above, wrong for C = {call}, D = {decoder}, f = {factor}: 1 / f^2 is rounded, whole numbers are not"
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
