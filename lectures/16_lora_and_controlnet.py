# %% [markdown]
# # 16. LoRA and ControlNet: adapt a finished model, control it
#
# **The question.** A painter has cost weeks of computing and knows a thousand things. Twenty pictures show it a style
# that it has never seen; a sketch says where the strokes have to be. How does it learn either without forgetting what
# it knows, and how little has to be trained and kept for it?
#
# **You will be able to** say which gradient an update of low rank follows, and prove it; say what $\alpha$, $r$ and
# the zero in $B$ are for; name the best that rank $r$ can do, and reach it; merge adapters, add several, and say when
# a sum is right; derive what a network that adds a control to a locked flow has to learn, in closed form; prove that
# a convolution of zeros learns, and in which order the parts around it wake up; and read a curve of "sudden
# convergence" without being fooled by it.
#
# **Time:** 90 minutes of reading, 3 minutes of computing. **Needed before:** lectures 05 (guidance), 06 (the U-Net)
# and 13 (GLIDE, the painter that is adapted here).
#
# **Notation.** $W_0$ is a finished weight of $m$ rows and $n$ columns, $W = W_0 + s\, B A$ the adapted one, with $A$
# of $r \times n$, $B$ of $m \times r$ and $s = \alpha / r$. $G = \partial L / \partial W$ is the gradient of the loss
# $L$ for a full weight, $\gamma$ that for a layer's output, $\eta$ a learning rate, $\Delta$ the change of $W$ that
# is wanted, $\sigma_i$ its singular values, the largest first, $C = \mathbb E[x x^\top]$ that of a layer's inputs.
# Norms and inner products of matrices are those of their entries (Frobenius). $w$ is a strength, of an adapter or of
# a control. In section 2 $t$ is the time of a gradient flow. From section 7 on it is that of the painter: paths are
# $x_t = \alpha_t z + \beta_t \varepsilon$ as always, $u_t(x \mid y)$ is the velocity of the locked flow, $y$ a
# caption and $c$ a control, an image; $b_t$ is lecture 04's factor in $u_t = a_t x + b_t \nabla \log p_t$.

# %%
import copy
import io
import math
import time

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from flowlib import ClassifierFreeGuidance, Model, prediction_loss, sample_ddim
from flowlib.course.notebook import fast, seeded, show_source
from flowlib.data import Scenes, styles
from flowlib.data.annotations import edges_of
from flowlib.data.controls import CONTROLS, pictures_of
from flowlib.metrics import score_captions
from flowlib.metrics.agreement import edge_f1, read_masks
from flowlib.nets import Controlled, ControlNet
from flowlib.nets.lora import add_lora, load_lora, lora_state, merge, unmerge
from flowlib.nets.low_rank import Adapted, LowRank
from flowlib.plotting import format_table, picture_grid, tile
from flowlib.plotting.style import ACCENT, BLUE, GREY, INK
from flowlib.runs import load_pretrained
from flowlib.systems.lora_report import style_distance
from flowlib.times import logit_normal_time
from flowlib.training import Training
from flowlib.training.optimisers import make_optimisers

torch.set_grad_enabled(False)  # turned on where something is descended
begun = time.perf_counter()
base = load_pretrained("scenes-text").module.requires_grad_(False)  # lecture 13's painter
STEPS = 3 if fast else 6


def paint(field: Model, y: Tensor, scale: float = 3.0, seed: int = 0, steps: int = STEPS) -> Tensor:
    """Pictures of guides y (B, ...), by DDIM of second order under classifier-free guidance."""
    noise = torch.randn(len(y), 3, 16, 16, generator=seeded(seed))
    guided = field if scale == 1.0 else ClassifierFreeGuidance(field, scale)
    return sample_ddim(guided, noise, y, steps=steps, order=2).clamp(-1, 1)


def tokens(texts: list[str]) -> Tensor:
    return base.net.tokenizer(texts)


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


# %% [markdown]
# ## 1. An update of low rank
#
# To adapt a network is to change its weights: $W = W_0 + \Delta W$. Trained in full, $\Delta W$ has as many numbers as
# the network, and each new style is a copy of the whole. LoRA (Hu et al. 2021) *writes* the change as a product of two
# thin matrices, $$W = W_0 + \frac{\alpha}{r}\, B A , \qquad A \in \mathbb R^{r \times n} \text{ random}, \quad B \in
# \mathbb R^{m \times r} \text{ zero},$$ and trains $A$ and $B$ alone. That is $r (m + n)$ numbers for $m n$. Three
# properties come for free. As $B = 0$, the network starts *as it was*. As the update is a matrix, it can be put into
# the weight when the training is over (**merged**), and the adapted network costs what it did before. And as the base
# is untouched, one base serves many adapters.
#
# In the library an adapted layer keeps its place and its name, and gives the sum whenever its weight is read. So no
# network's file knows of LoRA.

# %%
show_source(LowRank.forward, Adapted)
layer = nn.Sequential(nn.Linear(12, 8)).double()
x = torch.randn(5, 12, generator=seeded(0)).double()
before, W0 = layer(x), layer[0].weight.clone()
add_lora(layer, rank=2, alpha=6, targets=["*"], generator=seeded(1))
assert torch.equal(layer(x), before)  # to the last bit
A, B = layer[0].lora[0].A, layer[0].lora[0].B
trainable = [parameter for parameter in layer.parameters() if parameter.requires_grad]
assert [tuple(p.shape) for p in trainable] == [(2, 12), (8, 2)]  # r (m + n) numbers: neither the weight nor the bias
B.copy_(torch.randn(B.shape, generator=seeded(2)))
updated = W0 + 6 / 2 * B @ A
assert torch.allclose(layer(x), F.linear(x, updated, layer[0].bias), atol=1e-12)
adapted = layer(x)
merge(layer)
assert type(layer[0]) is nn.Linear  # a plain network again
assert torch.equal(layer(x), adapted)
unmerge(layer)
assert torch.equal(layer[0]._parameters["weight"], W0)  # as it was, to the last bit

# %% [markdown]
# **Convolutions.** A kernel of $o$ output and $i$ input channels and $k \times k$ pixels is a matrix of $o$ rows and $i
# k^2$ columns. Then $A$ is itself a convolution with $r$ output channels, and $B$ one of $1 \times 1$ pixels behind it:
# $(BA) * x = B\,(A * x)$. **Several adapters** of one network add up, each with a weight of its own, which need not be
# positive: $W = W_0 + \sum_j w_j s_j B_j A_j$.

# %%
conv = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1)).double()
images = torch.randn(2, 3, 6, 6, generator=seeded(3)).double()
plain = conv(images)
states = []
for seed in (4, 5):
    one = copy.deepcopy(conv)
    add_lora(one, rank=2, alpha=4, targets=["*"], generator=seeded(seed))
    one[0].lora[0].B.copy_(torch.randn(8, 2, generator=seeded(10 + seed)))
    states.append(lora_state(one))
    first, second = states[-1]["0.A"].reshape(2, 3, 3, 3), states[-1]["0.B"].reshape(8, 2, 1, 1)
    by_two = plain + 4 / 2 * F.conv2d(F.conv2d(images, first, padding=1), second)
    assert torch.allclose(one(images), by_two, atol=1e-12)  # a convolution to r channels, and 1 x 1 behind it
both = copy.deepcopy(conv)
for state, weight in zip(states, (0.7, -0.5), strict=True):
    load_lora(both, state, weight)
parts = [4 / 2 * (state["0.B"] @ state["0.A"]).reshape(8, 3, 3, 3) for state in states]
expected = F.conv2d(images, conv[0].weight + 0.7 * parts[0] - 0.5 * parts[1], conv[0].bias, padding=1)
assert torch.allclose(both(images), expected, atol=1e-12)
merge(both)
assert torch.allclose(both(images), expected, atol=1e-12)

# %% [markdown]
# ### How small is it?
#
# "A thousand times smaller than the network": is that so? It depends on the network. Count for the attention layers of
# Stable Diffusion v1's U-Net, with the shapes of its published configuration: three levels of 320, 640 and 1,280
# channels with five transformer blocks each and one block in the middle. A block has self-attention, four projections
# of $d \times d$ for $d$ channels, and cross-attention, whose keys and values read 768 numbers of the text. And for
# ours, whose keys and values read 96.

# %%
LEVELS, CONTEXT, WHOLE = ((320, 5), (640, 5), (1280, 5), (1280, 1)), 768, 859_520_964  # channels, blocks; all weights
rows = []
for rank in (1, 4, 16):
    published = sum(blocks * rank * (6 * (c + c) + 2 * (c + CONTEXT)) for c, blocks in LEVELS)
    ours = copy.deepcopy(base)
    add_lora(ours, rank)  # attention layers alone, as published
    own = sum(value.numel() for name, value in lora_state(ours).items() if name != "alpha")
    assert own == sum(parameter.numel() for parameter in ours.parameters() if parameter.requires_grad)
    size = sum(parameter.numel() for parameter in base.parameters())
    for name, whole, small in (("Stable Diffusion v1", WHOLE, published), ("ours", size, own)):
        rows.append({
            "network": name, "rank": rank, "weights": f"{whole:,}", "LoRA": f"{small:,}",
            "trained": f"{small / whole:.2%}", "MB": f"{4e-6 * small:.2f}", "times smaller": f"{whole / small:,.0f}",
        })  # fmt: skip
        if rank == 4:
            assert round(whole / small) == {"Stable Diffusion v1": 1078, "ours": 69}[name]
print(format_table(rows))

# %% [markdown]
# With rank 4 Stable Diffusion's LoRA is 1,078 times smaller than its U-Net, ours 69 times. The rank is the same, but
# $r (m + n) / (m n)$ falls with the width, and our layers are narrow.
#
# ## 2. Which gradient does a LoRA follow?
#
# Neither $A$ nor $B$ is trained for itself: what counts is how $W$ moves. Let $G = \partial L / \partial W$ be the
# gradient that a full training would follow, at the present $W$.
#
# > **Proposition 1.** $$\frac{\partial L}{\partial B} = s\, G A^\top, \qquad \frac{\partial L}{\partial A} = s\, B^\top
# > G , \tag{1}$$ and under gradient flow, $\dot A = -\partial L / \partial A$ and $\dot B = -\partial L / \partial B$,
# > $$\dot W = -s^2 \big(G A^\top A + B B^\top G\big) . \tag{2}$$
#
# **Proof.** Change $B$ by $E$: $L$ changes by $\langle G, s E A \rangle = \langle s\, G A^\top, E \rangle$ to first
# order. Change $A$ by $E$: by $\langle G, s B E \rangle = \langle s\, B^\top G, E \rangle$. So (1). And $\dot W = s
# (\dot B A + B \dot A)$. $\blacksquare$
#
# **The first step.** With $B = 0$ the gradient of $A$ is zero. Only $B$ moves, to $-\eta s\, G A^\top$, and the
# weight's change is $$\Delta W = -\eta s^2\, G A^\top A . \tag{3}$$ Compare this with $-\eta G$, the step of a full
# training. $A^\top A$ is symmetric, has rank $r$, and maps everything into the row space of $A$. If the rows of $A$
# are orthogonal and of length $\ell$, $A^\top A = \ell^2 P$ with $P$ the orthogonal projection on that space: **up to
# the factor $s^2 \ell^2$, the first step is the full gradient's, projected on $r$ random directions of the layer's
# input.** The outputs are not restricted.
#
# > **Proposition 2.** Let the entries of $A$ be independent, normal, with variance $\tau^2$. Then $$\mathbb E[G A^\top
# > A] = r \tau^2\, G , \qquad \mathbb E\, \|G A^\top A\|^2 = \tau^4 r (r + n + 1)\, \|G\|^2 . \tag{4}$$
#
# **Proof.** $A^\top A = \sum_k a_k a_k^\top$, with $a_k$ the rows as columns, each of covariance $\tau^2 I$: the
# first claim. For the second, $\mathbb E (A^\top A)^2 = \sum_{k \ne l} \mathbb E[a_k a_k^\top]\, \mathbb E[a_l
# a_l^\top] + \sum_k \mathbb E[\|a_k\|^2 a_k a_k^\top]$. The first sum is $r (r - 1) \tau^4 I$. In the second write
# $a$ for $a_k$ and $a^{(i)}$ for its entries: entry $i \ne j$ is odd in $a^{(i)}$ and vanishes, and entry $i, i$ is
# $\mathbb E[(a^{(i)})^4] + (n - 1)\, \tau^4 = (n + 2)\, \tau^4$. Together $\tau^4 r (r + n + 1) I$, and $\|G A^\top
# A\|^2 = \mathrm{tr}\, G (A^\top A)^2 G^\top$. $\blacksquare$
#
# *On average* over the first $A$ the step points along the full gradient. *Each* step does not: from (4) the cosine of
# the angle is about $\sqrt{r / (r + n + 1)}$, which is 0.2 for $r = 4$ and $n = 96$. It still goes downhill, as
# $\langle G, G A^\top A \rangle = \|G A^\top\|^2 \ge 0$.

# %%
m, n, r, alpha, eta = 8, 12, 3, 6.0, 1e-3
s = alpha / r
W0, X, Y = (torch.randn(*shape, generator=seeded(i)).double() for i, shape in enumerate([(m, n), (40, n), (40, m)]))
A0 = torch.randn(r, n, generator=seeded(3)).double() / math.sqrt(n)


def loss(W: Tensor) -> Tensor:
    """Half the mean squared error of the linear map x -> W x."""
    return 0.5 * (X @ W.T - Y).square().sum(1).mean()


def gradients(A: Tensor, B: Tensor, s: float = s) -> tuple[Tensor, Tensor, Tensor]:
    """Of the loss, for W, A and B, by autograd."""
    with torch.enable_grad():
        A, B = A.clone().requires_grad_(), B.clone().requires_grad_()
        W = W0 + s * B @ A
        W.retain_grad()
        loss(W).backward()
    return W.grad, A.grad, B.grad


B1 = torch.randn(m, r, generator=seeded(4)).double()
G, of_A, of_B = gradients(A0, B1)
assert torch.allclose(of_B, s * G @ A0.T, atol=1e-12)  # (1)
assert torch.allclose(of_A, s * B1.T @ G, atol=1e-12)
G, of_A, of_B = gradients(A0, torch.zeros(m, r).double())
assert not of_A.any()  # A waits
step = s * (-eta * of_B) @ A0
assert torch.allclose(step, -eta * s**2 * G @ A0.T @ A0, atol=1e-12)  # (3)
projection = torch.linalg.pinv(A0) @ A0  # on the row space of A
assert torch.allclose(step @ projection, step, atol=1e-12)
rows = 1.7 * torch.linalg.qr(A0.T)[0].T  # orthogonal rows of length 1.7, with the same row space
assert torch.allclose(rows.T @ rows, 1.7**2 * projection, atol=1e-12)
assert torch.linalg.matrix_rank(step) == r
draws = 2000 if fast else 20_000
tau2 = 1 / n  # the library's variance
many = torch.randn(draws, r, n, generator=seeded(5)).double() * math.sqrt(tau2)
moved = (G @ many.transpose(1, 2)) @ many  # (draws, m, n)
off = moved.mean(0) - r * tau2 * G
assert float(off.norm() / (r * tau2 * G).norm()) < 5 * math.sqrt((n + 1) / r / draws)  # (4)
square = float(moved.square().sum((1, 2)).mean() / G.square().sum() / tau2**2)
assert abs(square / (r * (r + n + 1)) - 1) < 5 / math.sqrt(draws)
cosine = (moved * G).sum((1, 2)) / moved.flatten(1).norm(dim=1) / G.norm()
assert float(cosine.min()) > 0  # always downhill
print(f"cosine of the first step with the full one: {float(cosine.mean()):.2f} on average, "
      f"√(r / (r + n + 1)) = {math.sqrt(r / (r + n + 1)):.2f}")  # fmt: skip

# %% [markdown]
# **And $A$?** From (1) it moves as soon as $B$ has moved, and so, after a time $t$, by an amount of second order in
# $t$. What it does then can be seen exactly if $G$ is constant, as it nearly is early in the training. Let $G = U
# \Sigma V^\top$.
#
# > **Proposition 3.** For a constant $G$ gradient flow from $B = 0$, $A = A_0$ gives $$A(t) = A_0 V \cosh(s t \Sigma)
# > V^\top, \qquad B(t) = -U \sinh(s t \Sigma) V^\top A_0^\top . \tag{5}$$
#
# (For $m \ne n$ let $U$ and $V$ have $\min(m, n)$ columns. What $A_0$ has outside of $V$ stays as it is.)
#
# **Proof.** Put it in. $\dot A = s A_0 V \Sigma \sinh(s t \Sigma) V^\top$, and $-s B^\top G = s A_0 V \sinh(s t \Sigma)
# U^\top U \Sigma V^\top$, the same. $\dot B = -s U \Sigma \cosh(s t \Sigma) V^\top A_0^\top$, and $-s G A^\top$ is just
# this. $\blacksquare$
#
# $\cosh$ and $\sinh$ grow the faster, the larger the singular value. So as long as $G$ is constant, the rows of $A$
# turn towards the *leading right singular vectors of the gradient*, as in a power iteration. On the real loss $G$
# changes while the loss is learned, and the rows turn only so far. The next cell follows both: with $G$ held constant
# $A$'s share along $v_1$ has risen from 0.14 to 0.99 at $t = 0.3$. On the real loss it is 0.41 then, and the share
# along the first three vectors together has risen from 0.25 to 0.63; $G$ itself has changed by 76 %. LoRA begins with
# random directions and finds better ones. This is what training $A$ is good for.

# %%
U, sigma, Vh = torch.linalg.svd(G, full_matrices=False)
flow = torch.zeros(m + n, m + n).double()  # of (Bᵀ, A) side by side: d/dt (Bᵀ, A) = -s (A Gᵀ, Bᵀ G)
flow[m:, :m], flow[:m, m:] = -s * G.T, -s * G
start = torch.cat([torch.zeros(r, m).double(), A0], dim=1)
for when in (0.1, 0.3):
    Bt, At = (start @ torch.linalg.matrix_exp(when * flow)).split([m, n], dim=1)
    assert torch.allclose(At, A0 + A0 @ Vh.T @ torch.diag(torch.cosh(s * when * sigma) - 1) @ Vh, atol=1e-9)  # (5)
    assert torch.allclose(Bt.T, -U @ torch.diag(torch.sinh(s * when * sigma)) @ Vh @ A0.T, atol=1e-9)


def steps_of(eta: float, count: int = 2) -> tuple[Tensor, Tensor]:
    """A and B after steps of gradient descent on the real loss."""
    A, B = A0.clone(), torch.zeros(m, r).double()
    for _ in range(count):
        _, of_A, of_B = gradients(A, B)
        A, B = A - eta * of_A, B - eta * of_B
    return A, B


moves = [[float((now - then).norm()) for now, then in zip(steps_of(rate), (A0, 0), strict=True)]
         for rate in (2e-4, 1e-4)]  # fmt: skip
orders = [math.log2(large / small) for large, small in zip(*moves, strict=True)]
print(f"half the learning rate: A moves 2^{orders[0]:.2f} times less, B 2^{orders[1]:.2f} times less")
assert abs(orders[0] - 2) < 0.05
assert abs(orders[1] - 1) < 0.05
A_real, B_real = steps_of(1e-3, 300)  # gradient flow on the real loss, by Euler's steps, to t = 0.3
shares = [(A @ Vh.T).square().sum(0) / A.square().sum() for A in (A0, At, A_real)]
leading, three = ([float(share[:k].sum()) for share in shares] for k in (1, 3))
for name, share in (("v₁", leading), ("v₁ to v₃", three)):
    print(f"share of A along {name}: {share[0]:.2f} at first; at t = 0.3 {share[1]:.2f} with G held constant, "
          f"{share[2]:.2f} on the real loss")  # fmt: skip
changed = float((gradients(A_real, B_real)[0] - G).norm() / G.norm())
print(f"on the real loss G has changed by {percent(changed)} then")
assert leading[1] > 1.5 * leading[0]
assert leading[1] > 0.95
assert 2 * leading[0] < leading[2] < 0.5 * leading[1]  # it turns, but less far
assert 2 * three[0] < three[2] < 0.7 * three[1]
assert 0.7 < changed < 0.8

# %% [markdown]
# ## 3. Why $B = 0$, and what $\alpha$ and $r$ are for
#
# The start must be the finished network: $B A = 0$. Three ways suggest themselves. $B = 0$ with a random $A$: (3).
# $A = 0$ with a random $B$: then $\Delta W = -\eta s^2 B B^\top G$, restricted to $r$ random directions of the
# *output*. Both zero?
#
# > **Proposition 4.** At $A = 0$, $B = 0$ both gradients vanish. If $G \ne 0$ and $L$ is twice differentiable, it is a
# > saddle: the second derivative there has the eigenvalues $\pm s\, \sigma_i(G)$, each $r$ times, and zeros.
#
# **Proof.** (1). And $L(W_0 + s B A) = L(W_0) + s \langle G, B A \rangle + O(\|BA\|^2)$, in which the last term is of
# fourth order. The quadratic form $s \langle G, B A \rangle = s \sum_k b_k^\top G a_k$ ($b_k$ the columns of $B$, $a_k$
# the rows of $A$) falls into $r$ equal ones of $(b, a)$ with the matrix
# $s \left(\begin{smallmatrix} 0 & G \\ G^\top & 0 \end{smallmatrix}\right)$, whose eigenvalues are $\pm s
# \sigma_i(G)$ with the vectors $(u_i, \pm v_i)$, and zeros. $\blacksquare$
#
# A product of two zeros does not learn. Remember this in section 8, where zeros stand one behind another.

# %%
zero = torch.zeros(r, n).double(), torch.zeros(m, r).double()
assert not any(part.any() for part in gradients(*zero)[1:])  # nothing would ever move


def at(flat: Tensor) -> Tensor:
    return loss(W0 + s * flat[: m * r].reshape(m, r) @ flat[m * r :].reshape(r, n))


with torch.enable_grad():
    hessian = torch.autograd.functional.hessian(at, torch.zeros(r * (m + n)).double())
found = torch.linalg.eigvalsh(hessian)
known = torch.cat([s * sigma, -s * sigma]).repeat(r)
known = torch.cat([known, torch.zeros(len(found) - len(known)).double()]).sort().values
assert torch.allclose(found, known, atol=1e-9)
print(f"eigenvalues at A = B = 0: {int((found < -1e-9).sum())} below zero, {int((found > 1e-9).sum())} above")

# %% [markdown]
# **The scale $s = \alpha / r$.** $\alpha$ is a learning rate in disguise. Why is it divided by $r$? So that one may
# change $r$ and keep the other settings. Whether it does so depends on the optimiser.
#
# *Gradient descent.* By (3) and (4) the first step is on average $-\eta\, s^2\, r \tau^2 G$. With $s = \alpha / r$ it
# falls as $1 / r$; with $s = \alpha / \sqrt r$ it does not depend on $r$. That is rsLoRA's proposal (Kalajdzievski
# 2023), which argues that $1 / \sqrt r$ is the one scale for which neither activations nor gradients vanish or explode
# with the rank.
#
# *Adam* divides by the gradient's size: its first step is $\eta$ times a sign. Take one sample, $G = \gamma x^\top$.
# Then $\partial L / \partial B = s\, \gamma (A x)^\top$, so that $B$ becomes $-\eta\, \mathrm{sign}(\gamma)\,
# \mathrm{sign}(A x)^\top$ and the output of the layer moves by $$s B A x = -\eta\, s\, \mathrm{sign}(\gamma) \sum_{k =
# 1}^r |a_k \cdot x| .$$ All $r$ terms have *one* sign, so that the sum grows as $r$, not as $\sqrt r$: for this step $s
# = \alpha / r$ is right. Later steps are neither of the two cases. So keep in mind what is compared when ranks are
# compared: the rank, or the learning rate.

# %%
x1, g1 = (torch.randn(k, generator=seeded(i)).double() for i, k in ((6, 256), (7, m)))
table = []
for rank in (1, 4, 16, 64):
    A_r = torch.randn(400, rank, 256, generator=seeded(8)).double() / 16
    features = A_r @ x1  # (400, rank): A x for 400 draws of A
    row = {"r": rank}
    for name, scale in (("α / r", 1 / rank), ("α / √r", rank**-0.5)):
        sgd = scale**2 * g1.norm() * features.square().sum(1)  # |s B A x| with B = -s g (A x)ᵀ
        adam = scale * math.sqrt(m) * features.abs().sum(1)  # with B = -sign(g) sign(A x)ᵀ
        row |= {f"gradient descent, {name}": float(sgd.mean()), f"Adam, {name}": float(adam.mean())}
    table.append(row)
print(format_table([{key: f"{value:.3g}" for key, value in row.items()} for row in table]))
last, first = table[-1], table[0]
assert abs(last["Adam, α / r"] / first["Adam, α / r"] - 1) < 0.1
assert abs(last["gradient descent, α / √r"] / first["gradient descent, α / √r"] - 1) < 0.15
assert abs(64 * last["gradient descent, α / r"] / first["gradient descent, α / r"] - 1) < 0.15
assert abs(last["Adam, α / √r"] / 8 / first["Adam, α / √r"] - 1) < 0.1

# %% [markdown]
# ## 4. What rank $r$ can reach
#
# Let $\Delta$ be the change of a weight that one would like to make. How near can $s B A$ come?
#
# > **Proposition 5 (Eckart and Young 1936).** Among matrices $M$ of rank $r$ at most, $$\min_M \|\Delta - M\|^2 =
# > \sum_{i > r} \sigma_i^2 , \tag{6}$$ reached by the first $r$ terms of $\Delta = \sum_i \sigma_i u_i v_i^\top$.
#
# **Proof.** Let $P$ be the projection on the column space of $M$, of rank $r$ at most. Then $\|\Delta - M\|^2 \ge \|(I
# - P) \Delta\|^2 = \|\Delta\|^2 - \mathrm{tr}(P \Delta \Delta^\top) = \sum_i (1 - p_i)\, \sigma_i^2$ with $p_i =
# u_i^\top P u_i$. These are between 0 and 1 and sum to $r$ at most, so that the sum is smallest where the first $r$ are
# 1. $\blacksquare$
#
# In a linear layer with targets $(W_0 + \Delta)\, x$ and inputs with $\mathbb E[x x^\top] = C$, the loss is $\mathbb
# E \|(\Delta - s B A)\, x\|^2 = \|(\Delta - s B A)\, C^{1/2}\|^2$. So the floor is (6) for the singular values of
# $\Delta\, C^{1/2}$: what counts is the change *where there are inputs*. If $\Delta C^{1/2}$ has rank $r$ or less,
# the floor is zero. Anything that is lost beyond the floor is lost to the descent. In this problem the descent meets
# no false minimum: all local minima are global (Baldi and Hornik 1989).

# %%
size, true_rank = 16, 3
left, right = (torch.linalg.qr(torch.randn(size, size, generator=seeded(i)).double())[0] for i in (9, 10))
spectra = {
    "rank 3": torch.tensor([3.0, 2.0, 1.0] + [0.0] * 13).double(),
    "slow decay": 3.0 / torch.arange(1, size + 1).double(),
}
half = torch.diag(torch.linspace(1.5, 0.5, size).double())  # C^(1/2)


def descend(wanted: Tensor, rank: int, steps: int) -> float:
    """The loss that LoRA reaches by Adam."""
    A = (torch.randn(rank, size, generator=seeded(11)).double() / math.sqrt(size)).requires_grad_()
    B = torch.zeros(size, rank).double().requires_grad_()
    optimiser = torch.optim.Adam([A, B], lr=0.05)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        with torch.enable_grad():
            value = ((wanted - B @ A) @ half).square().sum()
            optimiser.zero_grad()
            value.backward()
        optimiser.step()
        decay.step()
    return float(value.detach())


floors, reached = {}, {}
for name, values in spectra.items():
    wanted = left @ torch.diag(values) @ right.T
    weighted = torch.linalg.svdvals(wanted @ half)
    for rank in (1, 2, 3, 4, 8):
        floors[name, rank] = float(weighted[rank:].square().sum())
        reached[name, rank] = descend(wanted, rank, 100 if fast else 600)
print(format_table([
    {"rank": rank} | {f"{name}, {what}": f"{found[name, rank]:.4f}" for name in spectra
                      for what, found in (("floor", floors), ("reached", reached))} for rank in (1, 2, 3, 4, 8)
]))  # fmt: skip
assert all(reached[key] > floor - 1e-9 for key, floor in floors.items())  # a floor is a floor
assert floors["rank 3", true_rank] < 1e-20 < 0.5 < floors["rank 3", true_rank - 1]
if not fast:
    assert all(abs(reached[key] - floor) < 1e-3 * (1 + floor) for key, floor in floors.items())

# %% [markdown]
# Whether the change that a *style* or an *object* asks for has a low rank, no theorem says. It is an observation of
# Hu et al. that ranks of 1 to 8 do for language models. Our painter was taught a style from twenty pictures at three
# ranks and as a whole, three seeds each ([`tables/16_lora.md`](tables/16_lora.md); the style is darker stripes,
# section 6 has another one): the distance of its pictures from that style falls from 0.94 to 0.51 ± 0.13 (rank 1),
# 0.40 ± 0.06 (4) and 0.28 ± 0.02 (16); by full fine-tuning, with a tenth of the learning rate, to 0.40 ± 0.03. So a
# larger rank comes nearer here, with the same learning rate and $\alpha = r$, that is $s = 1$ at every rank. But by
# section 3 it also takes larger first steps then, and the table does not separate the two.

# %% [markdown]
# ## 5. Adding adapters, and what else is changed
#
# Two styles, two adapters: may they be added? And does an adapter change anything that it was not asked to?
#
# > **Proposition 6.** For the outputs $f$ of any smooth network, as a function of its weights, $$f(\Delta_1 + \Delta_2)
# > - f(\Delta_1) - f(\Delta_2) + f(0) = \int_0^1\!\!\int_0^1 D^2 f(a \Delta_1 + b \Delta_2)[\Delta_1, \Delta_2]\; da\,
# > db . \tag{7}$$ With weights $w$ on both it is $O(w^2)$, while what each of them does is $O(w)$.
#
# **Proof.** $\partial_a \partial_b f(a \Delta_1 + b \Delta_2)$ is the integrand; integrate. $\blacksquare$
#
# In *one linear layer* the second derivative is zero and effects add up exactly. Layers one behind the other, and
# what is between them, mix.
#
# But a sum of effects is not yet what is wanted. For two tasks it is, if each adapter is *silent* on the inputs of
# the other one. Take one linear layer and tasks whose inputs lie in orthogonal spaces $S_1 \perp S_2$. A *full*
# training on the first moves $W$ along $G = \sum (\dots) x^\top$, whose rows are in $S_1$: for inputs in $S_2$
# nothing changes. A LoRA moves along $G A^\top A$, whose rows are in the row space of $A$, and $A$ is *random*: for
# $x \in S_2$ the output changes by $s B A x \ne 0$. So a LoRA disturbs what a full training would leave alone, even
# where the tasks have nothing to do with each other. The remedy is a first $A$ with rows in $S_1$. By (1) they stay
# there. (Methods that begin with singular vectors of the inputs do this: EVA, Paischer et al. 2024. All of this is
# for gradient descent. Adam, which section 6 uses, divides entry by entry, so that rows leave $S_1$ unless it is
# spanned by axes.)

# %%
spaces = torch.eye(size).double().split(size // 2)  # S1 and S2, as rows: projections are S.T @ S


def learned(wanted: Tensor, space: Tensor, A: Tensor | None, steps: int = 100 if fast else 500) -> Tensor:
    """The change of a linear layer that is trained on the inputs of a space: by a LoRA from A, or in full."""
    full = torch.zeros(size, size).double()
    B = torch.zeros(size, 0 if A is None else len(A)).double()
    parts = [full.requires_grad_()] if A is None else [B.requires_grad_(), A.clone().requires_grad_()]
    optimiser = torch.optim.SGD(parts, lr=0.1)
    for _ in range(steps):
        with torch.enable_grad():
            change = parts[0] if A is None else parts[0] @ parts[1]
            optimiser.zero_grad()
            (0.5 * ((wanted - change) @ space.T).square().sum()).backward()
        optimiser.step()
    return (parts[0] if A is None else parts[0] @ parts[1]).detach()


def task(seed: int, space: Tensor) -> Tensor:
    """A change of rank 2 on the inputs of a space."""
    u, v = torch.randn(2, size, 2, generator=seeded(seed)).double()
    return u @ v.T @ space.T @ space / size**0.5


wants = [task(40 + i, space) for i, space in enumerate(spaces)]
random_A = torch.randn(2, 4, size, generator=seeded(42)).double() / math.sqrt(size)
starts = {
    "full training": (None, None), "LoRA, random A": tuple(random_A),
    "LoRA, A in the space": tuple(A @ S.T @ S for A, S in zip(random_A, spaces, strict=True)),
}  # fmt: skip
rows, harm = [], {}
for name, both in starts.items():
    changes = [learned(want, space, A) for want, space, A in zip(wants, spaces, both, strict=True)]

    def miss(change: Tensor, i: int) -> float:
        """The error on task i, over the size of the task."""
        return float(((change - wants[i]) @ spaces[i].T).norm() / wants[i].norm())

    heard = float((changes[1] @ spaces[0].T).norm() / wants[0].norm())  # what the second does where the first works
    harm[name] = [miss(changes[0], 0), heard, miss(sum(changes), 0)]
    heads = "error on its own task", "the other's change here", "error, both added"
    rows.append({"trained": name} | {head: f"{value:.3f}" for head, value in zip(heads, harm[name], strict=True)})
print(format_table(rows))
twice = 2 * learned(wants[0], spaces[0], None)
print(f"the same task learned twice, added: error {float((twice - wants[0]).norm() / wants[0].norm()):.2f}")
assert harm["full training"][1] < 1e-12
assert harm["LoRA, A in the space"][1] < 1e-12 < 0.1 < harm["LoRA, random A"][1]
if not fast:
    assert all(values[0] < 0.01 for values in harm.values())
    assert harm["LoRA, random A"][2] > 0.1 > 0.02 > harm["LoRA, A in the space"][2]
    assert all(abs(values[2] - values[1]) < 0.005 for values in harm.values())  # all of the sum's error
    assert abs(float((twice - wants[0]).norm() / wants[0].norm()) - 1) < 0.02  # counted twice

# %% [markdown]
# The three trainings solve their own task equally well. A LoRA with a random $A$ also changes outputs for inputs that
# it has never been shown: the second one's change on the first one's inputs is 40 % of the size of the first task,
# and this is all of the error of the sum. Nothing in its loss could have told it.
#
# Adding is right for tasks that are apart and adapters that are silent on each other. It is wrong for adapters that
# have learned the same: two of one style make twice the style. There a mean is right, or weights below 1.
#
# ## 6. Live: an object and a style, from twenty pictures each
#
# The painter of lecture 13 learns an object that it has never seen, a small house, from twenty pictures with captions
# such as "a blue sks"; and a style from twenty scenes at dusk, in which red and green are darker, with captions such as
# "dusk, a red seven". Nothing is new in the training: lecture 13's loss, its dropped captions, an average of the last
# weights. Only what is trained is a LoRA of rank 4 in all layers: 5.8 % of the weights.


# %%
def at_dusk(x: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) with 45 % of their red and 55 % of their green."""
    share = torch.tensor([0.45, 0.55, 1.0])[:, None, None]
    return (x + 1) * share - 1


def adapted_to(images: Tensor, captions: list[str], steps: int, lr: float = 2e-3, seed: int = 0) -> Model:
    """A copy of the painter with a trained LoRA."""
    model, g = copy.deepcopy(base).train(), seeded(seed)
    add_lora(model, rank=4, targets=["*"], generator=g)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    mean = [parameter.detach().clone() for parameter in weights]
    optimiser, y = torch.optim.Adam(weights, lr=lr, betas=(0.9, 0.99)), tokens(captions)
    for step in range(5 if fast else steps):
        optimiser.param_groups[0]["lr"] = lr * min(1, (step + 1) / 10)
        index = torch.randint(len(y), (8,), generator=g)
        with torch.enable_grad():
            error = prediction_loss(model, images[index], y[index], dropout=0.2, time=logit_normal_time(), generator=g)
            optimiser.zero_grad()
            error.backward()
        optimiser.step()
        for average, parameter in zip(mean, weights, strict=True):
            average.lerp_(parameter.detach(), 1 - min(0.95, (step + 1) / (step + 10)))
    for average, parameter in zip(mean, weights, strict=True):
        parameter.copy_(average)
    return model.eval()


def with_loras(*weighted: tuple[dict[str, Tensor], float]) -> Model:
    """The painter with adapters, each with its weight."""
    model = copy.deepcopy(base)
    for state, weight in weighted:
        load_lora(model, state, weight)
    return model


houses, new_houses = (styles.load("scenes-glyph", split) for split in ("train", "test"))
few = Scenes().batch(torch.arange(20))
sets = {"object": (houses.images, list(houses.captions)),
        "style": (at_dusk(few["x"]), [f"dusk, {text}" for text in few["short"]])}  # fmt: skip
LORA_STEPS = {"object": 200, "style": 160}
loras = {name: lora_state(adapted_to(*data, LORA_STEPS[name])) for name, data in sets.items()}
trained, whole = sum(value.numel() for value in loras["object"].values()) - 1, sum(p.numel() for p in base.parameters())
print(f"{trained:,} numbers of {whole:,} are trained: {trained / whole:.1%}")

# %% [markdown]
# **What was learned, and what was forgotten.** The distance of 24 painted objects from such pictures is that of their
# mean Gram matrices (lecture 12), 0 for the same. What is forgotten is seen in pictures of *other* captions, without
# the new word: how many the judge reads as they say. Both against the adapter's weight $w$.

# %%
# alt: Four rows of twelve pictures with captions such as "a blue sks". With weight 0 digits or scribbles in the right
#   colours; with 0.5 in between; with 1 rough shapes, some like a small house and some still scribbles; in the last
#   row pictures of the data, clean houses.
COUNT, WIDE = (8, 8) if fast else (24, 12)
asked, others = list(new_houses.captions)[:COUNT], Scenes(split="test").batch(torch.arange(COUNT))["short"]
rows, drawn, scores = [], {}, {}
for w in (0.0, 0.5, 1.0, 1.5):
    model = with_loras((loras["object"], w))
    drawn[w] = paint(model, tokens(asked), 2.0)
    distance = style_distance(drawn[w], new_houses.images)
    read = score_captions(paint(model, tokens(others), 2.0), others)["all"]
    scores[w] = distance, read
    rows.append({"weight": f"{w:g}", "distance of objects": f"{distance:.3f}", "other captions obeyed": percent(read)})
print(format_table(rows))
x, t = torch.randn(COUNT, 3, 16, 16, generator=seeded(50)), torch.full((COUNT,), 0.5)
assert torch.equal(with_loras((loras["object"], 0.0)).predict(x, t, tokens(asked)), base.predict(x, t, tokens(asked)))
one = with_loras((loras["object"], 1.0))
before = one.predict(x, t, tokens(asked))
merge(one)
assert torch.equal(one.predict(x, t, tokens(asked)), before)  # merged, the same to the last bit
unmerge(one)
assert torch.equal(one.predict(x, t, tokens(asked)), before)
if not fast:
    assert scores[1.0][0] < scores[0.5][0] < scores[0.0][0] - 0.05  # nearer to the object
    assert scores[1.0][1] < 0.7 * scores[0.0][1] < 0.8 * scores[0.5][1]  # and much is forgotten, at half weight little
shown = torch.cat([made[:WIDE] for made in (drawn[0.0], drawn[0.5], drawn[1.0], new_houses.images)])
picture_grid(shown, columns=WIDE, rows=["w = 0", "w = 0.5", "w = 1", "data"])

# %% [markdown]
# What is gained is paid for: the more of the adapter, the nearer the object, up to its full weight, and the fewer of
# the *other* captions are obeyed, which it has never been shown. At half its weight most of them still are. Section 5
# has one reason: nothing holds the adapter to its own inputs. (One training, with few pictures and few steps. In the
# table of section 4, of other captions 97.5 % are obeyed before, and after 400 steps 26 ± 8 % at rank 1, 39 ± 17 % at
# rank 4, 28 ± 11 % at 16 and 53 ± 5 % after full fine-tuning, whose steps are smaller: no rank forgets less for sure.)
#
# **Both together.** (7) for the real painter: how far the effects of the two adapters on the velocity are from a sum,
# over the effect of both. And pictures of houses at dusk, which neither training has seen.

# %%
# alt: Four rows of twelve pictures with captions such as "dusk, a blue sks". With the object's adapter alone, houses or
#   scribbles in plain colours. With the style's alone, blue pictures in which few strokes are seen. With both a few
#   more strokes, and with both at weight 0.7 more still, under some grain.
said = tokens([f"dusk, {text}" for text in asked])
off = base.predict(x, t, said)
ratios = {}
for w in (0.03, 0.06, 0.25, 1.0):
    alone = [with_loras((state, w)).predict(x, t, said) - off for state in loras.values()]
    together = with_loras(*((state, w) for state in loras.values())).predict(x, t, said) - off
    ratios[w] = float((together - sum(alone)).norm() / together.norm())
print({f"w = {w:g}": percent(ratio) for w, ratio in ratios.items()}, "of the effect is no sum")
assert fast or list(ratios.values()) == sorted(ratios.values())
assert fast or 1.6 < ratios[0.06] / ratios[0.03] < 2.4  # of second order, over first order
assert fast or ratios[1.0] < 0.5
pairs = {"object": (1.0, 0.0), "style": (0.0, 1.0), "both": (1.0, 1.0), "both, 0.7": (0.7, 0.7)}
pictures = {name: paint(with_loras(*zip(loras.values(), pair, strict=True)), said, 2.0) for name, pair in pairs.items()}
blue = {name: float((made[:, 2] - made[:, 0]).mean()) for name, made in pictures.items()}
print("blue less red, on average:", {name: f"{value:.2f}" for name, value in blue.items()})
assert fast or blue["style"] > blue["object"] + 0.1 < blue["both"] + 0.1
picture_grid(torch.cat([made[:WIDE] for made in pictures.values()]), columns=WIDE, rows=list(pairs))

# %% [markdown]
# The style came out as more than dusk: the pictures are blue, and of what the caption asks for little is left. With
# both adapters there is more of it, and at weight 0.7 more still. It is one training of 160 steps from twenty
# pictures, asked for an object that it never had.
#
# At small weights the share that is no sum grows as the weight, as (7) says. At full weight these adapters disturb
# each other: the departure from the sum is a third of the joint effect. The zoo's two adapters, of an object and of
# the striped style, were made by the recipes with three seeds ([`tables/16_two_loras.md`](tables/16_two_loras.md)):
# both at 0.7 forget less (54 ± 5 % of other captions are obeyed) than both at 1 (14 ± 4 %) and than either alone at 1
# (39 ± 17 and 42 ± 3 %). They bring somewhat less of the style than both at 1 (distance 0.47 instead of 0.36), and
# more of the object (0.39 instead of 0.53).
#
# ## 7. What a control adds to a velocity
#
# Now the other task. A caption says "a red seven", and a sketch $c$ says where its strokes are. Wanted is the velocity
# $u_t(x \mid y, c)$. There is $u_t(x \mid y)$, finished and locked. What has to be *added*?
#
# > **Proposition 7.** $$u_t(x \mid y, c) - u_t(x \mid y) = b_t\, \nabla_x \log p_t(c \mid x, y) = \Big(\dot\alpha_t -
# > \dot\beta_t \frac{\alpha_t}{\beta_t}\Big) \big(\mathbb E[z \mid x_t, y, c] - \mathbb E[z \mid x_t, y]\big) ,
# > \tag{8}$$ and a network $g$ that is added to the locked velocity and trained by flow matching, on $\mathbb E\,
# > \|u_t(x_t \mid y) + g(x_t, t, y, c) - u_t(x_t \mid z)\|^2$, has this as its minimum.
#
# **Proof.** By Bayes, $\log p_t(x \mid y, c) = \log p_t(x \mid y) + \log p_t(c \mid x, y) - \log p(c \mid y)$. The last
# term does not contain $x$. Take the gradient, and $u_t = a_t x + b_t \nabla \log p_t$ for both laws: the first
# equation. The velocity is $(\dot\alpha - \dot\beta \alpha / \beta)\, \mathbb E[z \mid x_t, \cdot\,] + (\dot\beta /
# \beta)\, x$ for both: the second. The minimum of the loss over $g$ is the mean of $u_t(x_t \mid z) - u_t(x_t \mid y)$
# given $x_t, y, c$, which is $u_t(x \mid y, c) - u_t(x \mid y)$. $\blacksquare$
#
# This is lecture 05's classifier guidance, with an image in the place of the label. There a classifier of noised images
# was trained, and its *gradient* taken; here the gradient itself is learned, as a network's output. A **strength** $w$
# that multiplies what is added is thus a guidance scale, with all that lecture 05 says of it: at $w = 1$ the law is
# right, at another it is in general the law of nothing that was learned. (A ControlNet adds to *features*, which
# decoders read. There the sum and the strength act on the velocity as they do here as far as the decoders are linear in
# them.)
#
# A world where everything is known: $z \in \mathbb R^2$, normal with covariance $S$; the control is a noisy
# measurement $c = h \cdot z + \kappa\, \xi$, with $\xi$ standard Gaussian. Then $z$ given $x_t$ is normal with a
# covariance $P_t$, and $\log p_t(c \mid x)$ that of a normal law of mean $h \cdot \mathbb E[z \mid x_t]$ and variance
# $h^\top P_t h + \kappa^2$.


# %%
def denoised(x: Tensor, t: float, S: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """E[z | x_t] (N, 2) and Cov(z | x_t) (2, 2) for z normal, on the linear path."""
    gain = t * S @ torch.linalg.inv(t**2 * S + (1 - t) ** 2 * torch.eye(2).double())
    return mean + (x - t * mean) @ gain.T, S - t * gain @ S


def velocity(x: Tensor, t: float, S: Tensor, mean: Tensor) -> Tensor:
    """u_t(x) = (D - x) / (1 - t) of that law."""
    return (denoised(x, t, S, mean)[0] - x) / (1 - t)


def measured(S: Tensor, mean: Tensor, h: Tensor, noise: float, c: Tensor) -> tuple[Tensor, Tensor]:
    """Covariance and mean of z given c = h . z + noise ξ; c (N, 1)."""
    gain = S @ h / (h @ S @ h + noise**2)
    return S - torch.outer(gain, h @ S), mean + (c - mean @ h[:, None]) * gain


def added(x: Tensor, t: float, S: Tensor, mean: Tensor, h: Tensor, noise: float, c: Tensor) -> Tensor:
    """b_t times the gradient of log p_t(c | x), b_t = (1 - t) / t, by autograd."""
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        D, P = denoised(x, t, S, mean)
        spread = h @ P @ h + noise**2
        (gradient,) = torch.autograd.grad((-((c[:, 0] - D @ h) ** 2) / (2 * spread)).sum(), x)
    return (1 - t) / t * gradient


S = torch.tensor([[1.0, 0.5], [0.5, 0.6]]).double()
origin, h, kappa = torch.zeros(2).double(), torch.tensor([0.8, -0.6]).double(), 0.2
count = 2000 if fast else 20_000
z = torch.randn(count, 2, generator=seeded(20)).double() @ torch.linalg.cholesky(S).T
c = (z @ h + kappa * torch.randn(count, generator=seeded(21)).double())[:, None]
noise = torch.randn(count, 2, generator=seeded(22)).double()
S_c, mean_c = measured(S, origin, h, kappa, c)
for t in (0.2, 0.5, 0.9):
    x = t * z + (1 - t) * noise
    u, u_c = velocity(x, t, S, origin), velocity(x, t, S_c, mean_c)
    assert torch.allclose(u_c - u, added(x, t, S, origin, h, kappa, c), atol=1e-9)  # (8)
    D, D_c = denoised(x, t, S, origin)[0], denoised(x, t, S_c, mean_c)[0]
    assert torch.allclose(u_c - u, (D_c - D) / (1 - t), atol=1e-9)
    read = torch.cat([x, c], dim=1)  # a linear network on top of the locked velocity, trained by flow matching
    learned = torch.linalg.lstsq(read, (z - noise) - u).solution
    miss = float((read @ learned - (u_c - u)).square().mean() / (u_c - u).square().mean())
    print(f"t = {t}: what is learned is off by {percent(math.sqrt(miss))} of what (8) says")
    assert miss < 40 / count / (1 - t) / min(t, 1 - t)
    blind = torch.linalg.lstsq(x, (z - noise) - u).solution  # one that is not shown the control
    assert float((x @ blind).square().mean()) < 0.01 * float((u_c - u).square().mean()) + 40 / count

# %% [markdown]
# **Strength.** The same noise under strengths 0 to 2, for one control. At $w = 1$ the law is $p(z \mid c)$.

# %%
GRID = 50 if fast else 200


def flowed(noise: Tensor, w: float, c: Tensor) -> Tensor:
    """Noise carried to t = 1 by the locked velocity and w times the exact addition, with the midpoint rule."""
    x = noise
    S_c, mean_c = measured(S, origin, h, kappa, c)

    def total(x: Tensor, t: float) -> Tensor:
        own = velocity(x, t, S, origin)
        return own + w * (velocity(x, t, S_c, mean_c) - own)

    for k in range(GRID):
        middle = x + 0.5 / GRID * total(x, k / GRID)
        x = x + total(middle, (k + 0.5) / GRID) / GRID
    return x


wanted = torch.full((count, 1), 0.9).double()
S_c, mean_c = measured(S, origin, h, kappa, wanted)
samples = {w: flowed(noise, w, wanted) for w in (0.0, 0.5, 1.0, 2.0)}
from_line = {w: float((made @ h - 0.9).square().mean().sqrt()) for w, made in samples.items()}  # h has length 1
rows = []
for w, made in samples.items():
    rows.append({"strength": f"{w:g}", "mean of h·x": f"{float((made @ h).mean()):.3f}",
                 "its deviation": f"{float((made @ h).std()):.3f}", "from the line": f"{from_line[w]:.3f}",
                 "deviation across": f"{float((made @ h.flip(0).mul(torch.tensor([1, -1]))).std()):.3f}"})  # fmt: skip
print(format_table(rows), f"\nexact at 1: mean {float(mean_c[0] @ h):.3f}, deviation {float(h @ S_c @ h) ** 0.5:.3f}")
slack = 5 / math.sqrt(count)
assert float((torch.cov(samples[1.0].T) - S_c).abs().max()) < slack
assert float((samples[1.0].mean(0) - mean_c[0]).abs().max()) < slack
assert float((torch.cov(samples[0.0].T) - S).abs().max()) < 2 * slack  # nothing is added: the law of the base
assert from_line[2.0] < 0.5 * from_line[1.0]  # nearer to it than data are
assert abs(from_line[1.0] ** 2 - float((mean_c[0] @ h - 0.9) ** 2 + h @ S_c @ h)) < 0.1 * slack
assert float((samples[2.0] @ h).std()) < 0.4 * float((samples[1.0] @ h).std())  # too narrow: no law of data
assert float((samples[2.0] @ h).mean()) > 0.9 > float((samples[1.0] @ h).mean())  # and beyond the control's own value

# %% tags=["draw"]
# alt: Four clouds of points in the plane with the same dashed line. At strength 0 an oblique ellipse that ignores the
#   line, at 0.5 one drawn towards it, at 1 a narrow cloud along the line, at 2 a narrower one. A grey ellipse shows the
#   exact law given the control.
figure, axes = plt.subplots(1, 4, figsize=(9.6, 2.7), layout="constrained", sharex=True, sharey=True)
turn = torch.linspace(0, 2 * math.pi, 100).double()
ellipse = mean_c[0] + 2 * torch.stack([turn.cos(), turn.sin()], dim=1) @ torch.linalg.cholesky(S_c).T
line = torch.stack([0.9 * h + k * torch.tensor([0.6, 0.8]).double() for k in (-3, 3)])
for ax, (w, made) in zip(axes, samples.items(), strict=True):
    ax.plot(*made[:600].T, ".", color=BLUE, markersize=2)
    ax.plot(*ellipse.T, color=GREY, label="exact law given c")
    ax.plot(*line.T, "--", color=ACCENT, linewidth=1, label="h·z = c")
    ax.set(title=f"strength {w:g}", xlim=(-2.6, 3.2), ylim=(-2.6, 2.6), aspect="equal", xlabel="$x_1$")
axes[0].set_ylabel("$x_2$")
axes[0].legend(loc="upper left", fontsize=7)
plt.show()

# %% [markdown]
# **How to read it.** At strength 1 the points fill the ellipse of the exact law. At 2 they lie nearer to the line,
# 0.09 from it instead of 0.21, and that is wrong: the control is noisy, and data with this control lie around the
# line. The points' mean is beyond the control's own value, and their spread is a third of what it should be. What
# looks like obedience is a law that no data have.
#
# **Several controls.** A ControlNet for edges and one for key points, trained apart: may their additions be summed?
# $\log p_t(c_1, c_2 \mid x, y)$ is the sum of the two logarithms if and only if $c_1$ and $c_2$ are independent
# *given the noised image and the caption*. That they are independent given the clean image, as measurements with
# noises of their own are, is not enough: $x_t$ leaves $z$ open, and through $z$ they are related. In the Gaussian
# world they are independent given $x_t$ exactly if $h_1^\top P_t h_2 = 0$. A control that is given twice is counted
# twice: that is a strength of 2. So two controls that say nearly the same (edges and a mask) need strengths below 1
# if the law is to be right, and two about different things do not.

# %%
axis = [torch.tensor([1.0, 0.0]).double(), torch.tensor([0.0, 1.0]).double()]
t, x = 0.5, noise
for name, law in (("apart", torch.diag(torch.tensor([1.0, 0.6]).double())), ("related", S)):
    two = [(x @ one + 1.0)[:, None] for one in axis]
    summed = sum(added(x, t, law, origin, one, kappa, c) for one, c in zip(axis, two, strict=True))
    first = measured(law, origin, axis[0], kappa, two[0])
    joint = velocity(x, t, *measured(first[0], first[1], axis[1], kappa, two[1])) - velocity(x, t, law, origin)
    P = denoised(x, t, law, origin)[1]
    apart = float((summed - joint).norm() / joint.norm())
    print(f"{name}: h₁ᵀ P h₂ = {float(P[0, 1]):.3f}, the sum is off by {percent(apart)} of what both say together")
    assert (apart < 1e-9) == (abs(float(P[0, 1])) < 1e-9)
    assert name == "apart" or apart > 0.05

# %% [markdown]
# **Why captions are dropped.** While a ControlNet learns, half of the captions are replaced by the empty one. Two
# reasons can be read off (8). First, $u_t(x \mid \varnothing, c)$ is a velocity of its own: it is needed to paint by
# a sketch alone, and as a branch of classifier-free guidance. Nothing teaches it but examples without a caption.
# Second, what is to be learned is *larger* there, if caption and control tell of the same things: the addition's mean
# square is $\mathbb E \|\cdot\|^2 = (\mathrm{tr}\, P_y - \mathrm{tr}\, P_{y c}) / (1 - t)^2$ on the linear path, with
# $P_y$ the covariance of $z$ given $x_t$ and $y$, $P_{y c}$ that given $c$ too, both on average: how much the control
# reduces the uncertainty about $z$ that the caption has left. In the Gaussian world, with a caption $y$ that is
# another measurement of $z$, along nearly the same direction:

# %%
said = torch.tensor([0.7, -0.7]).double()  # the direction that the caption tells of
y = (z @ said + 0.3 * torch.randn(count, generator=seeded(23)).double())[:, None]
S_y, mean_y = measured(S, origin, said, 0.3, y)
S_yc, mean_yc = measured(S_y, mean_y, h, kappa, c)
power = {}
for t in (0.1, 0.5, 0.9):
    x = t * z + (1 - t) * noise
    pairs = {"with the caption": ((S_y, mean_y), (S_yc, mean_yc)),
             "without": ((S, origin), measured(S, origin, h, kappa, c))}  # fmt: skip
    for name, (blind, told) in pairs.items():
        gained = float((velocity(x, t, *told) - velocity(x, t, *blind)).square().sum(1).mean())
        traces = [float(denoised(x, t, *law)[1].trace()) for law in (blind, told)]
        assert abs(gained / ((traces[0] - traces[1]) / (1 - t) ** 2) - 1) < 20 / math.sqrt(count)
        power[name, t] = gained
    print(
        f"t = {t}: E|addition|² = {power['with the caption', t]:.3f} with a caption, {power['without', t]:.3f} without"
    )
    assert power["without", t] > 1.15 * power["with the caption", t]

# %% [markdown]
# What the caption has said, the control need not say. A ControlNet that is always told the caption learns from the
# little that is left.
#
# ## 8. A copy, and convolutions of zeros
#
# How should the network $g$ be built? ControlNet (Zhang et al. 2023) takes the locked network's own encoders and
# midcoder, *copies* them, and trains the copy. A small network reads the control $c$, and its result is added to what
# enters the copy. What the copy's levels and its midcoder say is added to the locked network's skip connections and
# midcoder, each through a convolution of $1 \times 1$ pixels **whose weight and bias are zero**. The small network
# ends in such a one too.

# %%
show_source(ControlNet.forward, Controlled.forward)
scenes, tests = Scenes(), Scenes(split="test")
held = tests.batch(torch.arange(8 if fast else 24))
edges = CONTROLS["edges"].of(held)  # (B, 1, 16, 16): 0 or 1
edge_net = ControlNet(base.net.net, channels=1)
mask_net = ControlNet(base.net.net, channels=2)
locked = copy.deepcopy(base.state_dict())


def under(controls: list[ControlNet], strengths: list[float] | None = None) -> Model:
    """The painter under ControlNets."""
    return Model(Controlled(base.net, controls, (16, 16), strengths), base.path, base.predicts)


field = under([edge_net, mask_net], [1.0, 0.7])
guide = field.net.guide(tokens(held["caption"]), [edges, CONTROLS["mask"].of(held)])
x, t = torch.randn(len(edges), 3, 16, 16, generator=seeded(30)), torch.linspace(0.1, 0.9, len(edges))
assert torch.equal(field.predict(x, t, guide), base.predict(x, t, tokens(held["caption"])))  # to the last bit
copied = {name: value for name, value in edge_net.state_dict().items() if name.startswith(("encoders", "midcoder"))}
assert copied
assert all(torch.equal(value, base.net.net.state_dict()[name]) for name, value in copied.items())
sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in (("locked", base), ("trained", edge_net))}
print(f"{sizes['locked']:,} weights are locked, {sizes['trained']:,} are trained")

# %% [markdown]
# Why does a convolution of zeros learn? Section 3 has shown that a product of two zeros does not.
#
# > **Proposition 8.** Let $o(p) = Z\, \phi(p) + e$ at each pixel $p$, and let $\gamma(p) = \partial L / \partial
# > o(p)$. Then $$\frac{\partial L}{\partial Z} = \sum_p \gamma(p)\, \phi(p)^\top, \qquad \frac{\partial L}{\partial
# > e} = \sum_p \gamma(p), \qquad \frac{\partial L}{\partial \phi(p)} = Z^\top \gamma(p) . \tag{9}$$ So at $Z = 0$,
# > $e = 0$ the weight and the bias *have* a gradient, unless the sums vanish, and whatever comes *before* the
# > convolution has *none*. After one step of size $\eta$, $Z = -\eta \sum_p \gamma(p)\, \phi(p)^\top$, and there is
# > one.
#
# **Proof.** $dL = \sum_p \gamma(p) \cdot (dZ\, \phi(p) + de + Z\, d\phi(p))$. $\blacksquare$
#
# In a ControlNet two convolutions of zeros stand one behind the other: the control's small network ends in one, and
# the copy's outputs in others. Is that the saddle of section 3? No: between them the copy gets the noised image
# *too*, so that $\phi \ne 0$ whatever the control's part is. But the order in which parts wake up follows from (9):
#
# 1. at the first step only the outputs' convolutions have a gradient;
# 2. at the second the copy too, and the *last* layer of the control's network: what it is given is not zero, and what
#    comes after it has become non-zero;
# 3. at the third everything.
#
# So before the third step the control has no effect whatever.

# %%
batch = scenes.batch(torch.arange(8))
own, image = tokens(batch["short"]), CONTROLS["edges"].of(batch)
waking = ControlNet(base.net.net, channels=1)
field = under([waking])
PARTS = {"outputs' zeros": "zeros.", "copy": "encoders.", "control, last layer": f"hint.{len(waking.hint) - 1}.",
         "control, other layers": "hint.1."}  # fmt: skip
optimiser, seen = torch.optim.SGD(waking.parameters(), lr=0.1), []
inner: list[Tensor] = []
waking.zeros[-1].register_forward_hook(lambda layer, inputs, out: inner.extend([inputs[0], out]))
for _ in range(3):
    inner.clear()
    guides = field.net.guide(own, [image])
    other = field.net.guide(own, [1 - image])
    blind = torch.equal(field.predict(x[:8], t[:8], guides), field.predict(x[:8], t[:8], other))
    inner.clear()
    with torch.enable_grad():
        optimiser.zero_grad()
        error = prediction_loss(field, batch["x"], guides, generator=seeded(31), dropout=0.0)
        inside, out = inner
        (g,) = torch.autograd.grad(error, out, retain_graph=True)
        error.backward()
    wakes = {name: any(bool(p.grad is not None and p.grad.any()) for key, p in waking.named_parameters()
                       if key.startswith(start)) for name, start in PARTS.items()}  # fmt: skip
    seen.append({"step": len(seen) + 1, "control has an effect": not blind} | wakes)
    zero = waking.zeros[-1]
    assert torch.allclose(
        zero.weight.grad[:, :, 0, 0], torch.einsum("bohw,bihw->oi", g, inside), rtol=1e-3, atol=1e-7
    )  # (9)
    assert torch.allclose(zero.bias.grad, g.sum((0, 2, 3)), rtol=1e-3, atol=1e-7)
    optimiser.step()
print(format_table([{key: {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
                     for key, value in row.items()} for row in seen]))  # fmt: skip
assert [[row[name] for name in PARTS] for row in seen] == [
    [True, False, False, False], [True, True, True, False], [True, True, True, True],
]  # fmt: skip
assert [row["control has an effect"] for row in seen] == [False, False, True]
assert all(torch.equal(value, locked[name]) for name, value in base.state_dict().items())  # the base is locked

# %% [markdown]
# The table is what the proposition says. And it says what the *copy* is for at the start: $\partial L / \partial Z =
# \sum \gamma \phi^\top$ can only be as good as the features $\phi$, and those of a network that can already paint are
# features of pictures. With a copy of zeros in all its weights $\phi$ would be zero, and only the biases $e$ would
# ever move. One with first weights of its own has features too, of an untrained network: section 9 tries it.
#
# ## 9. Live: edges
#
# An edge ControlNet for the painter: scenes with the edges of their digits (pixels of a digit that touch what is not
# that digit), half of the captions dropped. What is measured is whether pictures that are painted from the *edges
# alone*, without a caption, have these edges: the judge reads a picture's digits, and their edges are compared with
# those that were asked for. $F_1$ is 1 where all pixels agree.

# %%
CONTROL_STEPS, EVERY, BATCH = (6, 3, 4) if fast else (100, 10, 8)


def painted(control: ControlNet, image: Tensor, texts: list[str] | None = None, strength: float = 1.0) -> Tensor:
    """Pictures under controls image (B, 1, 16, 16), guided by captions or without any."""
    field = under([control], [strength])
    y = field.net.guide(None if texts is None else tokens(texts), [image])
    return paint(field, y, 1.0 if texts is None else 2.0)


def agrees(pictures: Tensor, masks: Tensor = held["masks"]) -> float:
    """The mean F1 of the edges of what the judge reads."""
    return float(edge_f1(edges_of(read_masks(pictures)), edges_of(masks)).mean())


def follow(control: ControlNet, every: int = EVERY, seed: int = 60) -> dict[int, dict[str, float]]:
    """Train a ControlNet; the loss and the agreement on the way."""
    field, g, curve, recent = under([control]), seeded(seed), {0: {"F1": agrees(painted(control, edges))}}, []
    settings = Training(steps=CONTROL_STEPS, optimiser="muon", lr=1e-3, matrix_lr=0.01, weight_decay=0.0)
    optimisers = make_optimisers(settings, control)
    peaks = [(group, group["lr"]) for one in optimisers for group in one.param_groups]
    for step in range(1, CONTROL_STEPS + 1):
        batch = scenes.batch(torch.arange((step - 1) * BATCH, step * BATCH))
        own = tokens(batch["short"])
        own[torch.rand(BATCH, generator=g) < 0.5] = base.net.null  # half of the captions are dropped
        guides = field.net.guide(own, [CONTROLS["edges"].of(batch)])
        for group, peak in peaks:
            group["lr"] = peak * min(1, step / 10)
        with torch.enable_grad():
            time_of = logit_normal_time(-0.4)
            error = prediction_loss(field, batch["x"], guides, dropout=0.0, time=time_of, generator=g)
            control.zero_grad()
            error.backward()
        for one in optimisers:
            one.step()
        recent.append(float(error.detach()))
        if step % every == 0:
            curve[step] = {"loss": sum(recent) / len(recent), "F1": agrees(painted(control, edges))}
            recent.clear()
    return curve


def two_of(seed: int) -> tuple[ControlNet, ControlNet]:
    """A copy, and the same network with first weights of its own, which has learned nothing yet."""
    torch.manual_seed(seed)
    copied, fresh = ControlNet(base.net.net, channels=1), ControlNet(base.net.net, channels=1)
    fresh.draw_anew()
    return copied, fresh


edge_net, fresh_net = two_of(0)
assert torch.equal(edge_net.stem.weight, base.net.net.stem.weight)
assert not torch.equal(fresh_net.stem.weight, base.net.net.stem.weight)
curve, other = follow(edge_net), follow(fresh_net, CONTROL_STEPS)
ends = {"a copy": [curve[CONTROL_STEPS]["F1"]], "first weights of its own": [other[CONTROL_STEPS]["F1"]]}
for seed in () if fast else (1, 2):
    for name, control in zip(ends, two_of(seed), strict=True):
        ends[name].append(follow(control, CONTROL_STEPS, 60 + seed)[CONTROL_STEPS]["F1"])
print(format_table([{"step": k} | {name: f"{value:.3f}" for name, value in row.items()} for k, row in curve.items()]))
ceiling = agrees(held["x"])
print(f"F1 after {CONTROL_STEPS} steps, of several trainings:")
for name, values in ends.items():
    print(f"  {name:25}" + "  ".join(f"{value:.2f}" for value in values))
print(f"the scenes themselves: {ceiling:.3f}, which is what reading the edges off a picture costs")
assert all(torch.equal(value, locked[name]) for name, value in base.state_dict().items())  # the base is what it was
if not fast:
    f1 = {step: row["F1"] for step, row in curve.items()}
    total = f1[CONTROL_STEPS] - f1[0]
    most = max(f1[step + 2 * EVERY] - f1[step] for step in f1 if step + 2 * EVERY in f1)
    print(f"{percent(most / total)} of the rise lies between two marks that are {2 * EVERY} steps apart")
    assert total > 0.15
    assert max(f1[step] for step in (10, 20, 30)) < f1[0] + 0.05  # nothing at first
    assert most > 0.45 * total  # and then suddenly
    assert ceiling > 0.9
    assert min(ends["a copy"]) > f1[0] + 0.15
    assert sum(ends["a copy"]) > sum(ends["first weights of its own"])

# %% tags=["draw"]
# alt: Left, agreement against training steps: flat near 0.14 for 50 steps, a steep rise to 0.44 at 80, then flat;
#   squares at the last step for three trainings of a copy and of the same network with first weights of its own; a
#   dashed line near 1 for the scenes themselves. Right, the loss, which jumps between 0.026 and 0.042 without a trend.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
marks = list(curve)
left.plot(marks, [curve[k]["F1"] for k in marks], "o-", color=ACCENT)
for (name, values), colour in zip(ends.items(), (ACCENT, INK), strict=True):
    left.plot([marks[-1]] * len(values), values, "s", markersize=5, color=colour, fillstyle="none", label=name)
left.axhline(ceiling, color=GREY, linestyle="--", label="the scenes themselves")
left.set(xlabel="training step", ylabel="edge F1, without a caption", ylim=(0, 1.02))
left.legend(loc="upper left", bbox_to_anchor=(0, 0.9))
right.plot(marks[1:], [curve[k]["loss"] for k in marks[1:]], "o-", color=BLUE)
right.set(xlabel="training step", ylabel="loss, mean since the last mark", ylim=(0, None))
plt.show()

# %% [markdown]
# **Sudden convergence.** Zhang et al. report that a ControlNet does not learn to follow bit by bit: it paints good
# pictures that ignore the control for thousands of steps, and then follows it within a few, after less than 10,000
# steps as a rule. Here it is the same on a smaller scale, in one training: for 50 steps nothing, and then most of the
# rise within 20. Why? Two readings, between which this curve does not decide. One is in the network: the control acts
# through a *product* of two layers that began at zero, and such a product grows slowly at first and then fast. The
# other is in the measure: edges that are half right have few pixels in the right place, so that $F_1$ bends what
# grows smoothly. The practical lesson is the same. A training that does not follow *yet* looks just like one that
# never will, in its pictures and, nearly, in its loss too.
#
# **What does the copy buy?** The squares compare it with the same network, trained in the same way, but with first
# weights of its own. Over three trainings the copy is ahead on average after 100 steps, with 0.46 to 0.49 against
# 0.26 to 0.45. But it is not *needed*: a network that had learned nothing before follows the edges too. Its features
# are enough for (9) to begin with. (Zhang et al. have other comparisons: a single convolution in the place of each
# block of the copy, and convolutions that do not begin at zero. What is left of the difference after a longer
# training, with few images and with many, is the row "anew" that `python benchmarks/control.py images` makes; the
# table that is linked below has no such row.)
#
# **Strength**, with captions and without, and two controls: the left half of the edges as one and the right half as
# another, each read by the same network, and their additions summed. Beside them what must fail: the edges of *another*
# scene.

# %%
# alt: Five rows of twelve small pictures: white edges of digits on black; at strength 0 digits of the caption's colours
#   anywhere; at 0.5 and at 1 coloured digits where the edges are, and without a caption grey or coloured strokes in the
#   same places.
texts, parts = held["short"], {}
left_half = edges * (torch.arange(16) < 8)
for w in (0.0, 0.5, 1.0, 1.5):
    parts[f"strength {w:g}"] = painted(edge_net, edges, texts, w)
parts["no caption"] = painted(edge_net, edges)
parts["another scene's edges"] = painted(edge_net, edges.roll(1, 0), texts)
halves = under([edge_net, edge_net])
two = halves.net.guide(tokens(texts), [left_half, edges - left_half])
parts["two halves, added"] = paint(halves, two, 2.0)
measured_on = {
    name: {"edge F1": agrees(x), "caption obeyed": score_captions(x, texts)["all"]} for name, x in parts.items()
}
print(
    format_table(
        [{"": name} | {key: f"{value:.2f}" for key, value in row.items()} for name, row in measured_on.items()]
    )
)
field = under([edge_net, edge_net], [0.3, 0.7])
same = field.net.guide(tokens(texts), [edges, edges])
x, t = torch.randn(len(edges), 3, 16, 16, generator=seeded(61)), torch.full((len(edges),), 0.5)
alone = under([edge_net])
once = alone.predict(x, t, alone.net.guide(tokens(texts), [edges]))
assert torch.allclose(field.predict(x, t, same), once, atol=1e-4)  # what is added is a sum, and strengths are factors
zero = under([edge_net], [0.0])
assert torch.equal(zero.predict(x, t, zero.net.guide(tokens(texts), [edges])), base.predict(x, t, tokens(texts)))
given = agrees(parts["another scene's edges"], held["masks"].roll(1, 0))
print(f"under another scene's edges the pictures agree with those to {given:.2f}")
if not fast:
    f1 = {name: row["edge F1"] for name, row in measured_on.items()}
    assert given > f1["strength 0"] + 0.1
    assert f1["strength 1"] > f1["strength 0"] + 0.1
    assert f1["strength 1"] > f1["strength 0"] > f1["another scene's edges"]  # it is this control that is followed
    assert f1["no caption"] > f1["strength 0"] + 0.1
    assert abs(f1["two halves, added"] - f1["strength 1"]) < 0.1
shown = {"edges": pictures_of(edges)} | {
    name: parts[name] for name in ("strength 0", "strength 0.5", "strength 1", "no caption")
}
picture_grid(torch.cat([made[:WIDE] for made in shown.values()]), columns=WIDE, rows=list(shown))

# %% [markdown]
# **How to read it.** These captions name digits and colours, and no places, so that without the control the edges
# agree by chance only. At strength 1 they agree twice as well. At 1.5 a little better still, and the captions are
# obeyed less: a strength is a guidance scale. Without a caption the edges are followed just as well, in colours of
# the painter's own choice. With the edges of another scene the picture follows *those*, to 0.43, and agrees with its
# own scene less than an uncontrolled one does. Two halves that are added are as good as the whole, for the edges. All
# of this is one training of 100 steps.
#
# Three trainings of 1,000 steps each are in [`tables/16_strength.md`](tables/16_strength.md) and
# [`tables/16_steps.md`](tables/16_steps.md) (the recipes take 3,000). Edges agree to 0.47 without control (these
# captions name places too), to 0.85 at strength 1 and to 0.89 at 1.5, where the scenes themselves have 0.97; at every
# strength the judge reads 96 % of the pictures or more as the caption says. Without a caption the edges agree to
# 0.79. And the rise is sudden in all three: nothing after 20 steps, 0.48 ± 0.02 after 50, 0.68 ± 0.04 after 100, 0.82
# ± 0.01 after 200, and then little more. Edges and a mask of the digits, each with a network of its own and at
# strength 1, reach 0.94 together, 0.85 and 0.88 alone ([`tables/16_two.md`](tables/16_two.md)). As they say nearly
# the same (section 7), part of this is a greater strength: edges alone at 1.5 reach 0.89.
#
# And how many images does it take? After 250 steps on 100 scenes the copy agrees to 0.78 ± 0.03, on 1,000 and on
# 10,000 to 0.80 ± 0.01 ([`tables/16_images.md`](tables/16_images.md)): in so few steps a thousand are as good as ten
# thousand. Training the base as well is no worse here, with 100 scenes neither (0.80 ± 0.01): Zhang et al. lock it
# lest a small set spoils it, and in so short a training nothing is spoilt. The small network and the zero
# convolutions alone reach 0.74 ± 0.03, 0.76 ± 0.02 and 0.78 ± 0.02. The copy's network from first weights of its own,
# on 1,000 scenes, reaches 0.772 ± 0.004, the copy 0.803 ± 0.009: so much are the weights of the base worth after 250
# steps.
#
# ## 10. Watch it, and drag it
#
# The animation shows one noise under a growing strength: first of the object's LoRA, for captions of the new object,
# then of the ControlNet, whose edges are drawn beside it.

# %%
LEVELS_SHOWN = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]
SHOWN = 4
lora_rows = [paint(with_loras((loras["object"], w)), tokens(asked[:SHOWN]), 2.0) for w in LEVELS_SHOWN]
control_rows = [painted(edge_net, edges[:SHOWN], texts[:SHOWN], w) for w in LEVELS_SHOWN]
assert torch.equal(lora_rows[0], paint(base, tokens(asked[:SHOWN]), 2.0))
assert torch.equal(control_rows[0], paint(base, tokens(texts[:SHOWN]), 2.0))


def strip(adapter: float, control: float) -> Image.Image:
    """Pictures at the nearest of the strengths that are kept: of the LoRA, of the ControlNet, and its edges."""
    k, j = (min(range(len(LEVELS_SHOWN)), key=lambda i: abs(LEVELS_SHOWN[i] - w)) for w in (adapter, control))
    rows = torch.cat([lora_rows[k], control_rows[j], pictures_of(edges[:SHOWN])])
    array = (255 * tile(rows, SHOWN)).round().to(torch.uint8).numpy()
    return Image.fromarray(array).resize((8 * array.shape[1], 8 * array.shape[0]), Image.Resampling.NEAREST)


if not fast:
    frames = []
    for w in LEVELS_SHOWN + LEVELS_SHOWN[-2:0:-1]:
        figure, ax = plt.subplots(figsize=(4.2, 3.6), dpi=80, layout="constrained")
        ax.imshow(strip(w, w))
        thirds = [(2 * i + 1) * strip(w, w).height / 6 for i in range(3)]
        ax.set_yticks(thirds, ["LoRA", "ControlNet", "edges"])
        ax.set(xticks=[], title=f"strength {w:g}")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        plt.close(figure)
        frames.append(Image.open(buffer).convert("RGB").quantize(method=Image.Quantize.FASTOCTREE))
    frames[0].save("images/16_strength.gif", save_all=True, append_images=frames[1:], loop=0, duration=600)
    thumbnail, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
    ax.imshow(tile(torch.cat([pictures_of(edges[:6]), parts["strength 1"][:6], drawn[1.0][:6]]), 6).numpy())
    ax.set_axis_off()
    thumbnail.savefig("images/16.png", dpi=50)
    plt.close(thumbnail)

# %% tags=["draw"]
# alt: Four rows of seven pictures, each from one noise, with strengths from 0 to 1.25. In the first two a digit or a
#   scribble turns into something like a small house of the same colour; in the last two the digits of a caption move to
#   where the edges are. Last in a row stands a house of the data, or the edges in white.
wanted_too = new_houses.images, pictures_of(edges)  # in the last column
columns = [
    torch.stack([*(made[i] for made in rows), asked_for[i]])
    for rows, asked_for in zip((lora_rows, control_rows), wanted_too, strict=True)
    for i in (0, 1)
]
picture_grid(torch.cat(columns), columns=7, rows=["LoRA", "LoRA", "ControlNet", "ControlNet"],
             title="strength 0 to 1.25; last, what is wanted")  # fmt: skip

# %% [markdown]
# ![The same noise under a growing strength of a LoRA and of a ControlNet](images/16_strength.gif)
#
# **With a kernel**, the next cell shows two sliders and the pictures: run it and drag. The pictures for six strengths
# of each have been painted above, so that nothing has to be waited for. Without a kernel there is the animation.


# %%
def sliders() -> None:
    """Two sliders, and the pictures at these strengths."""
    import ipywidgets
    from IPython.display import display

    picture = ipywidgets.Image(format="png")

    def show(_: object = None) -> None:
        buffer = io.BytesIO()
        strip(adapter.value, control.value).save(buffer, format="png")
        picture.value = buffer.getvalue()

    options = {"min": 0.0, "max": LEVELS_SHOWN[-1], "step": 0.25, "value": 1.0}
    adapter = ipywidgets.FloatSlider(description="LoRA", **options)
    control = ipywidgets.FloatSlider(description="ControlNet", **options)
    for slider in (adapter, control):
        slider.observe(show, names="value")
    show()
    display(ipywidgets.VBox([ipywidgets.HBox([adapter, control]), picture]))


INTERACTIVE = False  # change me to True, and run this cell
if INTERACTIVE:
    sliders()
print(f"{time.perf_counter() - begun:.0f} s from the first cell")

# %% [markdown]
# ## What fails, and why
#
# - **$A$ and $B$ both zero,** or a copy of zeros before convolutions of zeros: no weight ever moves (of these
#   convolutions only the biases do).
# - **Captions that are never dropped while a LoRA is trained:** the null branch of guidance stays the base's, and
#   guidance exaggerates the *style* with the caption.
# - **Another rank with the same $\alpha$ and another optimiser:** what changes may be the size of the step.
# - **Merging twice,** or training on with merged weights: keep what `unmerge` needs.
# - **Two adapters of one style at full weight,** two controls that say the same at strength 1: counted twice.
# - **A strength far above 1:** the law is no law of data any more (lecture 05).
# - **A control that is never given alone:** the network learns what little it adds to the caption.
# - **"It does not follow: the learning rate must be wrong":** look again after the sudden rise.
#
# ## Change this
#
# - In section 2, let `A0` have orthonormal rows. What is `G @ A0.T @ A0` then?
# - In section 4, give LoRA twice the rank that it needs. Is it slower?
# - In section 6, mix pictures of the base's own captions into each batch, as DreamBooth does. What is forgotten now?
# - In section 6, train the style for 60 steps instead of 160. What do its pictures look like then?
# - In section 6, train `targets=["attention.*"]` alone, or rank 1 and 16.
# - In section 9, never drop a caption (`< 0.0`), and measure "no caption" again. Then always (`< 1.0`).
# - In section 9, train `fresh_net` for 300 steps. When does it begin to follow?
#
# ## Further reading
#
# - Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen. *LoRA: low-rank adaptation of large language models.* 2021,
#   arXiv:2106.09685.
# - Kalajdzievski. *A rank stabilization scaling factor for fine-tuning with LoRA.* 2023, arXiv:2312.03732.
# - Biderman et al. *LoRA learns less and forgets less.* 2024, arXiv:2405.09673: at the size of language models.
# - Paischer et al. *Parameter efficient fine-tuning via explained variance adaptation.* 2024,
#   arXiv:2410.07170: a first $A$ of singular vectors of the inputs.
# - Ruiz et al. *DreamBooth: fine tuning text-to-image diffusion models for subject-driven generation.* 2022,
#   arXiv:2208.12242: a rare word for a new object, and pictures of the base against forgetting.
# - Zhang, Rao, Agrawala. *Adding conditional control to text-to-image diffusion models.* 2023, arXiv:2302.05543.
# - Baldi, Hornik. *Neural networks and principal component analysis: learning from examples without local minima.*
#   1989, Neural Networks 2.
#
# **Now build it:** [exercise 16](../exercises/16_lora_and_controlnet.ipynb). Lecture 17 asks a finished network another
# kind of question: where in this picture is what I point at?
