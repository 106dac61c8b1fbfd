# %% [markdown]
# # 06. Networks for images
#
# **The question.** Everything so far asked for a function $u_\theta(x, t, y)$ and never said what it is made of. For
# images, what should it be made of, how do $x$, $t$ and $y$ get in, and what does each choice cost?
#
# **You will be able to** say what a time embedding can and cannot resolve; write a residual block, a U-Net, attention
# and a diffusion transformer (DiT) from their parts; say what each choice of ADM's U-Net does and costs; count
# floating-point operations; and compare networks at equal compute without fooling yourself.
#
# **Time:** 75 minutes of reading, 3 to 4 minutes of computing on two cores. **Needed before:** lectures 03 and 05.
#
# **Notation.** $c$ is the condition made of time and label, $h$ the features inside a network, $C$ their channels.
# $\gamma, \delta$ scale and shift. In attention $D$ is the width of a token and $d$ that of a head, $Q, K, V$ are its
# queries, keys and values; elsewhere in the course $D$ is $\mathbb E[z \mid x]$, and $d$ the number of a sample's
# components, which it also is in sections 2 and 6. $f$ is a frequency.

# %%
import tempfile
import time

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import Markdown
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from flowlib import Field, MixtureField, Model, sample_ode
from flowlib.course.notebook import fast, show_source, trained
from flowlib.data import load, mnist, toy
from flowlib.losses import prediction_error
from flowlib.metrics import frechet_distance, label_accuracy
from flowlib.nets.attention import Attention
from flowlib.nets.blocks import Down, ResidualBlock, Stage, Up
from flowlib.nets.dit import DiT, DiTBlock, patchify, position_table, unpatchify
from flowlib.nets.embeddings import Condition, LabelEmbedding, TimeEmbedding, zero_init
from flowlib.nets.unet import UNet
from flowlib.plotting import animate, format_table, tile
from flowlib.plotting.style import ACCENT, GREY, INK
from flowlib.recipes import Recipe, change, find_recipe
from flowlib.runs import train
from flowlib.systems import FlowSystem
from flowlib.training import Training, read_metrics

torch.set_grad_enabled(False)  # turned on where something is trained


# %% [markdown]
# ## 1. One signature
#
# A network here is a function `net(x, t, y)` that returns something shaped like `x`: images `(B, C, H, W)`, times
# `(B,)`, labels `(B,)`. `Model(net, path, predicts=...)` says what the output means, and from then on it is a field:
# samplers, guidance and likelihood never look inside. So a network can be exchanged for any other, and this lecture is
# about what is worth putting there.
#
# Lecture 03 proved what it has to approximate: the minimiser of the loss is a conditional mean,
# $$u_\theta(x, t, y) \;\to\; \mathbb E\,[\,\dot\alpha_t z + \dot\beta_t \varepsilon \mid x_t = x,\; t,\; y\,].$$
# It is a regression from image to image whose answer depends on $t$ and $y$.
#
# ## 2. Must the network be told the time?
#
# Leave $t$ out, and the same theorem says what is learned instead: with $t$ drawn uniformly,
# $$\bar u(x) = \mathbb E\,[u_t(x) \mid x_t = x] = \frac{\int_0^1 p_t(x)\, u_t(x)\, dt}{\int_0^1 p_t(x)\, dt},$$
# the average over all times at which $x$ could have been seen. On a Gaussian mixture $p_t$ and $u_t$ are known, so that
# $\bar u$ can be computed exactly: this is the **best** network without a clock, no training involved.

# %%
# alt: Left, eight clean clusters on a ring; middle, eight small dense clusters and many points astray between them;
#   right, on logarithmic axes, an error that falls from 0.2 to 0.003 as the dimension grows from 2 to 512.
clock = (torch.arange(60) + 0.5) / 60


def blind(field: MixtureField, x: Tensor) -> Tensor:
    """The best velocity that does not know the time: the posterior mean of u_t(x) over t, by the midpoint rule."""
    posterior = torch.stack([field.log_prob(x, t) for t in clock]).softmax(0)  # (60, B)
    return sum(weight[:, None] * field.u(x, t) for weight, t in zip(posterior, clock, strict=True))


g = torch.Generator().manual_seed(0)
ring = MixtureField(*toy.mixture())
count = 200 if fast else 600
noise = torch.randn(count, 2, generator=g)
with_time = sample_ode(ring, noise, steps=50, method="euler")
without_time = noise.clone()
for _ in range(50):
    without_time = without_time + blind(ring, without_time) / 50


def stray(x: Tensor) -> float:
    """The share of points more than 4 standard deviations from every mode; exp(-8) = 0.0003 of a Gaussian's own."""
    return float((torch.cdist(x, ring.means).amin(1) > 4 * ring.std[0]).double().mean())


lost = {"told the time": stray(with_time), "not told": stray(without_time)}
assert lost["told the time"] < 0.03
assert lost["not told"] > 0.08

dimensions, regret = [2, 8, 32, 128, 512], []
for dimension in dimensions:
    means = torch.randn(8, dimension, generator=g) * (1 - 0.15**2) ** 0.5  # one unit of energy per component
    field = MixtureField(means, 0.15)
    z, _ = field.sample(300, g)
    t = torch.rand(300, generator=g)
    x = field.path.sample(z, t, torch.randn(z.shape, generator=g))
    u = field.u(x, t)
    regret.append(float((u - blind(field, x)).square().sum() / u.square().sum()))

assert regret[0] > 0.1
assert regret[-1] < 0.01

figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained", width_ratios=(1, 1, 1.3))
for ax, points, name in ((axes[0], with_time, "told the time"), (axes[1], without_time, "not told")):
    ax.scatter(*points.T, s=3, color=INK, alpha=0.6, linewidths=0, rasterized=True)
    ax.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_title(f"{name}:\n{100 * lost[name]:.1f} % astray")
axes[2].loglog(dimensions, regret, "o-", color=ACCENT)
axes[2].set(
    xlabel="dimension of the data", ylabel=r"$E|u_t - \bar u|^2 \,/\, E|u_t|^2$", title="error of not knowing the time"
)
plt.show()

# %% [markdown]
# In two dimensions the clockless field is wrong by a large part of its size, and its samples show it: a point between
# the modes does not know whether it is still on its way, and is left there; others fall too deep into a mode. In many
# dimensions the error nearly vanishes, because the noise level can be **read off the image**: estimated from $d$ values
# of pure noise, a standard deviation has a relative error of about $1/\sqrt{2d}$, less than 3 % for $28 \times 28$
# pixels. (That is the best case: it takes an image whose noise and picture can be told apart.) So
# a network for images could find the time out by itself, and large ones without a clock do work (Sun et al. 2025). It
# would spend capacity on it, and be least sure where precision matters most, near the data. Telling it costs almost
# nothing. We tell it.
#
# ## 3. How time enters: sines and cosines
#
# A number $t$ multiplied by a weight gives a straight line; whatever depends on $t$ in detail the next layers must
# build from scratch, and networks learn such detail last (Tancik et al. 2020). Give them instead
# $$\phi(t) = \big(\sin \omega_1 t, \dots, \sin \omega_m t, \cos \omega_1 t, \dots, \cos \omega_m t\big),
# \qquad \omega_k = 2\pi f_k, \quad f_k = f^{\,(k-1)/(m-1)}, \quad k = 1 \dots m.$$
# The frequencies $f_k$ are counted in turns over $[0, 1]$. They go from $f_1 = 1$ to $f_m = f$, each a constant factor
# above the one before; ours have $f = 100$.
#
# **Why both sine and cosine.** The pair of frequency $\omega$ moves on a circle, and a shift in time is a rotation,
# $$\begin{pmatrix} \sin \omega(t+s) \\ \cos \omega(t+s) \end{pmatrix} =
# \begin{pmatrix} \cos \omega s & \sin \omega s \\ -\sin \omega s & \cos \omega s \end{pmatrix}
# \begin{pmatrix} \sin \omega t \\ \cos \omega t \end{pmatrix},$$
# a linear map that does not depend on $t$. Hence the similarity of two times depends on their distance only:
# $$\phi(t) \cdot \phi(t') = \sum_{k=1}^m \cos \omega_k (t - t').$$
# With sines alone this fails, and at $t = 0$ the features would all be zero.
#
# **Which times it can tell apart.** For small $s$,
# $\lVert \phi(t) - \phi(t + s) \rVert^2 = 2 \sum_k (1 - \cos \omega_k s) \approx s^2 \sum_k \omega_k^2$.
# The fastest frequency decides: times closer than about $1/\omega_m$ look alike, here $0.0016 = 1/(200\pi)$.
# The fastest alone would mistake $t$ for $t + 1/f$; the slower ones tell these apart, as the hour hand does
# for the minute hand. If all frequencies were whole numbers of turns, even $t = 0$ and $t = 1$ would have the same
# features: noise and data confused. In a geometric sequence only the first and the last need be whole.
#
# **Which functions of time a linear layer can build from it.** On $[0, 1]$ two waves are all but the same unless they
# differ by about one turn. So where neighbouring frequencies lie less than a turn apart, their sums make every wave in
# between. They lie $f_k(\rho - 1)$ apart, with $\rho = f^{1/(m-1)}$ the ratio of neighbours: every wave up to about
# $$\min\!\Big(f, \frac{1}{\rho - 1}\Big) \text{ turns}$$
# is in reach, faster ones only near a frequency of the list. For $f = 100$ that is six turns with 32 frequencies and 55
# with 256. So the fastest frequency sets what can be told apart, the number of frequencies what is easy to say; the two
# layers behind $\phi$ have to make up the rest.

# %%
show_source(TimeEmbedding)

# %%
# alt: Left, an image of features over time: wide stripes above, ever finer ones below, twice. Middle, similarities
#   around t = 0.5: a wide hill for the slow features, a narrow peak with ripples for the fast ones. Right, the share of
#   a wave that is not explained: it jumps to 1 at a number of turns that is larger for faster and for more features.
times = torch.linspace(0, 1, 401)


def features(t: Tensor, fastest: float, count: int = 64) -> Tensor:
    """(B,) -> (B, count), with the library's frequencies."""
    angle = t[:, None] * TimeEmbedding(4, features=count, fastest=fastest).frequencies
    return torch.cat([angle.sin(), angle.cos()], dim=1)


phi = features(times, 100.0)
kernel = phi @ phi.T / 32
for shift in (1, 10, 100):  # similarity depends on the distance of two times only
    diagonal = kernel.diagonal(shift)
    assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-3)
assert (phi[0] - phi[-1]).norm() > 3  # noise and data are told apart ...
for rounding, apart in ((lambda f: f, True), (torch.round, False)):  # ... but not where all turns are whole ones
    frequencies = 2 * torch.pi * rounding(TimeEmbedding(4, features=64, fastest=100.0).frequencies / (2 * torch.pi))
    ends = [torch.cat([(t * frequencies).sin(), (t * frequencies).cos()]) for t in (0.0, 1.0)]
    assert ((ends[0] - ends[1]).norm() > 0.1) == apart
near_times = features(torch.tensor([0.5, 0.5 + 1e-4]), 100.0)  # the step for small distances
rate = TimeEmbedding(4, features=64, fastest=100.0).frequencies.square().sum().sqrt()
assert abs(float((near_times[0] - near_times[1]).norm() / (1e-4 * rate)) - 1) < 0.02

# What a linear layer on the features can follow: the best fit of waves of many speeds, by least squares.
speeds = torch.logspace(0, 2, 60)
waves = torch.stack([torch.cos(2 * torch.pi * (speed * times + 0.1)) for speed in speeds], dim=1).double()
settings = {(5.0, 64): GREY, (100.0, 64): ACCENT, (100.0, 512): INK}  # fastest, features
fits, reach = {}, {}
for fastest, count in settings:
    basis = features(times, fastest, count).double()
    gram = basis.T @ basis + 0.1 * torch.eye(count).double()  # a little ridge: weights stay moderate
    residual = waves - basis @ torch.linalg.solve(gram, basis.T @ waves)
    fits[fastest, count] = residual.square().mean(0) / waves.square().mean(0)
    reach[fastest, count] = min(fastest, 1 / (fastest ** (1 / (count // 2 - 1)) - 1))
for setting, unexplained in fits.items():
    assert unexplained[speeds < 0.8 * reach[setting]].max() < 0.05
assert fits[5.0, 64][speeds > 10].min() > 0.9
assert fits[100.0, 64][speeds > 10].max() > 0.8

figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
axes[0].imshow(phi.T, aspect="auto", cmap="RdBu", extent=(0, 1, 64, 0), vmin=-1, vmax=1, interpolation="nearest")
axes[0].set(xlabel="time t", ylabel="feature", title="32 sines, 32 cosines")
near = torch.linspace(0.4, 0.6, 401)
for (fastest, count), colour in settings.items():
    if count == 64:
        similarity = features(near, fastest) @ features(torch.tensor([0.5]), fastest)[0] / 32
        axes[1].plot(near, similarity, color=colour, label=f"fastest {fastest:.0f}")
    label = f"fastest {fastest:.0f}, {count // 2} frequencies"
    axes[2].semilogx(speeds, fits[fastest, count], color=colour, label=label)
    axes[2].axvline(reach[fastest, count], color=colour, linestyle=":")
axes[1].set(xlabel="t'", ylabel=r"$\phi(t) \cdot \phi(t') / m$", title="similarity to t = 0.5")
axes[1].legend(fontsize=8)
axes[2].set(xlabel="turns of the wave over [0, 1]", ylabel="unexplained share", title="waves a linear layer can follow")
axes[2].set_ylim(0, 1.45)
axes[2].legend(loc="upper left")
plt.show()

# %% [markdown]
# **Change this.** DDPM numbers its steps $k = 1 \dots 1000$ and uses frequencies from 1 down to 1/10000 radians a step,
# so that $t = k/1000$ turns its fastest feature by 1000 radians. Someone who feeds $t \in [0, 1]$ itself into that
# embedding has a fastest feature of one radian. The cell draws the middle picture for the right use. Predict what it
# looks like for the wrong one, then set `unit = 1`.

# %%
# alt: A sharp peak at 0.5 over a plateau that ripples around 0.5.
unit = 1000  # what t is multiplied by before it enters the embedding
rates = unit * 10000 ** -torch.linspace(0, 1, 32)  # radians over [0, 1]
similarity = torch.cos((near[:, None] - 0.5) * rates).mean(1)  # by the sum of cosines above
figure, ax = plt.subplots(figsize=(4, 2.4), layout="constrained")
ax.plot(near, similarity, color=ACCENT)
ax.set(xlabel="t'", ylabel=r"$\phi(t) \cdot \phi(t') / m$", title=f"fastest: {unit} radians", ylim=(0, 1.05))
plt.show()

# %% [markdown]
# ## 4. How the label enters, and how both reach every layer
#
# A label has no order, so each gets a vector of its own, learned: a table with one row for each class and **one more
# row for "no label"**, the null guide $\varnothing$. Lecture 05 needs that row: it is trained only through the labels
# that are dropped. Time and label are then added into one condition vector. The sum loses nothing that matters: with
# some hundred components, the curve $\phi$ and eleven points have room to stay apart.

# %%
show_source(LabelEmbedding, Condition)

# %%
condition = Condition(64, classes=10)
t, y = torch.tensor([0.2, 0.7]), torch.tensor([3, 3])
assert condition.null == 10
assert torch.equal(condition(t, None), condition(t, torch.full((2,), 10)))  # no label is the eleventh label

# %% [markdown]
# The condition $c$ could be appended to the input as constant planes, once. Then every layer must carry it on. Instead
# it speaks to **every block**: a linear layer turns $c$ into a scale and a shift for each channel,
# $$h \;\leftarrow\; \big(1 + \gamma(c)\big) \odot \mathrm{norm}(h) + \delta(c).$$
# This is FiLM (Perez et al. 2018). With a group norm inside it is called AdaGN (Dhariwal & Nichol 2021), with a layer
# norm adaLN (Peebles & Xie 2023). Two details matter.
#
# *After the norm, not before.* For every number $a > 0$, $\mathrm{norm}(a h) = \mathrm{norm}(h)$ (up to the $\epsilon$
# under the norm's root): a scale that all channels share, applied before, is taken out again. A scale for each channel,
# as $1+\gamma$ is, comes out distorted: a group norm divides all channels of a group by one number, so that what comes
# out of one channel depends on the scales of its neighbours.
#
# *$1 + \gamma$, not $\gamma$.* The layer that makes $\gamma$ and $\delta$ starts at zero, and zero must mean "leave
# it".
#
# And one trap. A vector of $B$ times, broadcast against images, lines up with their **width**. If $B = W$ nothing
# crashes:

# %%
h = torch.randn(2, 16, 5, 5, generator=g)
norm = nn.GroupNorm(8, 16)
assert torch.allclose(norm(3 * h), norm(h), atol=1e-3)  # a common scale is taken out
scale = torch.linspace(0.5, 1.5, 16)[:, None, None]  # one for each channel: neither taken out nor kept
assert (norm(scale * h) - norm(h)).abs().max() > 0.1
assert (norm(scale * h) - scale * norm(h)).abs().max() > 0.1

images, t = torch.ones(4, 1, 4, 4), torch.tensor([0.0, 0.1, 0.2, 0.3])
wrong, right = images * t, images * t[:, None, None, None]
assert wrong.shape == right.shape
assert torch.equal(wrong[2, 0], t.expand(4, 4))  # every image got all four times, one for each column
assert torch.equal(right[2, 0], torch.full((4, 4), 0.2))

# %% [markdown]
# ## 5. Convolutions: cheap, local, the same everywhere
#
# A convolution computes each output pixel from a $k \times k$ window, with the same weights at every place. From $C$ to
# $C'$ channels on $H \times W$ pixels it has $k^2 C C'$ weights, and costs $2 k^2 C C' H W$ operations (a
# multiplication and an addition each). A linear layer between the same images would have $H^2 W^2 C C'$ weights.
#
# **Receptive field.** How far can an output pixel see? Let layers have kernels $k_l$ and strides $s_l$, and let
# $j_l = s_1 \cdots s_l$ be the distance, in input pixels, between neighbours after layer $l$. One pixel of layer $l$
# sees $k_l$ neighbours of layer $l - 1$, which lie $j_{l-1}$ apart and each see $r_{l-1}$. So
# $$r_l = r_{l-1} + (k_l - 1)\, j_{l-1}, \qquad r_0 = 1 \quad\Longrightarrow\quad
# r_L = 1 + \sum_{l=1}^{L} (k_l - 1) \prod_{i<l} s_i.$$
# At one size a $3 \times 3$ layer adds two pixels. **After a halving it adds four, at a quarter of the price.** That is
# the whole argument for going down before looking around.


# %%
# alt: Three square maps of influence on the centre: a bright square of 13 pixels on black, one of 21 pixels, and a
#   bright square of 9 pixels on a purple background that covers everything.
def conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride=stride, padding=1)


def flops(module: nn.Module, *inputs: Tensor) -> int:
    """Floating-point operations of one call: matrix products and convolutions, a multiply-add counted as two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops()


def receptive_field(layers: list[tuple[int, int]]) -> int:
    """Pixels a side that one output of a stack of (kernel, stride) layers sees."""
    field, step = 1, 1
    for kernel, stride in layers:
        field, step = field + (kernel - 1) * step, step * stride
    return field


def influence(net: nn.Module, size: int = 29) -> Tensor:
    """|d output at the centre / d each input pixel|, averaged over random images: (size, size)."""
    x = torch.randn(20, 1, size, size, generator=torch.Generator().manual_seed(0), requires_grad=True)
    with torch.enable_grad():
        out = net(x)
        out[:, :, out.shape[2] // 2, out.shape[3] // 2].sum().backward()
    return x.grad.abs().mean((0, 1))


class PixelAttention(nn.Module):
    """x + attention over all pixels of x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = Attention(channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)


torch.manual_seed(0)  # layers draw their first weights from the global generator
flat = nn.Sequential(conv(1, 16), *[layer for _ in range(5) for layer in (nn.SiLU(), conv(16, 16))])
halved = nn.Sequential(
    conv(1, 16), nn.SiLU(), conv(16, 16, 2), *[m for _ in range(4) for m in (nn.SiLU(), conv(16, 16))]
)
attending = nn.Sequential(conv(1, 16), nn.SiLU(), conv(16, 16, 2), PixelAttention(16), nn.SiLU(), conv(16, 16))
stacks = {"six convolutions": flat, "the second one halves": halved, "attention instead": attending}
maps = {name: influence(net) for name, net in stacks.items()}
sides = {name: int((seen > 0).any(0).sum()) for name, seen in maps.items()}
assert sides["six convolutions"] == receptive_field([(3, 1)] * 6) == 13
assert sides["the second one halves"] == receptive_field([(3, 1), (3, 2)] + [(3, 1)] * 4) == 21
assert sides["attention instead"] == 29  # everything
assert flops(conv(16, 16), torch.zeros(1, 16, 29, 29)) == 2 * 9 * 16 * 16 * 29 * 29

figure, axes = plt.subplots(1, 3, figsize=(10, 3.5), layout="constrained")
for ax, (name, net) in zip(axes, stacks.items(), strict=True):
    seen = maps[name] / maps[name].max()
    shown = ax.imshow(seen.clamp_min(1e-6).log10(), cmap="magma", vmin=-5, vmax=0)
    price = flops(net, torch.zeros(1, 1, 29, 29)) / 1e6
    ax.set(title=f"{name}:\nsees {sides[name]} x {sides[name]} pixels, {price:.1f} MFLOP")
    ax.set_axis_off()
figure.colorbar(shown, ax=axes, label="influence on the centre, log10", shrink=0.8)
plt.show()

# %% [markdown]
# Inside its square, a pixel's influence falls off like a Gaussian: contributions multiply along paths, and most paths
# wander about the middle (Luo et al. 2016). The field that counts is smaller than the field that is allowed.
#
# ## 6. The U-Net, piece by piece
#
# **A residual block** is two convolutions around which $x$ passes unharmed, with the condition in between. This is the
# only part that computes much.

# %%
show_source(ResidualBlock)

# %% [markdown]
# `zero_init(self.conv2)`: the last layer of the branch starts at zero, so that at first the block is the identity, or,
# where the number of channels changes, the 1×1 convolution `match`. Two options wait for section 8: `adagn=False` only
# adds the condition, as DDPM did; `resize` changes the image's size inside the block.
#
# **Encoders** are such blocks, with a stride-2 convolution between levels that halves the image. **The midcoder**
# works at the smallest size, where looking around is cheap; attention belongs there too. **Decoders** come back up:
# nearest-neighbour upsampling, then a convolution. (A transposed convolution whose kernel is no multiple of its stride,
# such as 3 and 2, writes some pixels more often than others, and leaves a checkerboard; kernel 4 and stride 2 overlap
# evenly; Odena et al. 2016.)
#
# **Skip connections.** Look at what is asked for. On the linear path the velocity is
# $$u_t(x) = \frac{\mathbb E[z \mid x_t = x] - x}{1 - t}:$$
# it contains $x$ itself, and early on $x$ is nearly all noise. White noise has no structure that could be compressed:
# when $d$ numbers are squeezed linearly through $m < d$, a share $1 - m/d$ of the variance is lost. A network with such
# a waist needs a way around it. So the decoder of each size is **given the encoder's output of that size**,
# concatenated along the channels. The library adds a second way around: a gate on $x$, `carry`, one number for each
# image channel, read from the condition.
#
# (Most U-Nets have no such waist: ours for MNIST has $64 \times 7 \times 7$ numbers at its smallest size, for 784
# pixels. They *could* carry $x$ through all their layers. But that has to be learned, where a skip has it from the
# start: there skips are a help to training.)
#
# How much is that worth? Here is an hourglass with a waist, $d = 64$ pixels through $m = 16$ numbers, whose skips and
# whose gate can be cut. Cut skips are filled with zeros, so that all variants have the same weights and cost.


# %%
# alt: Error of the velocity over time for four networks: without skips and gate it stays above 1; with the gate alone
#   it rises from 0.2 to 1.1 at t = 0.8; with skips it stays below 0.7 until then, with or without the gate.
class Hourglass(nn.Module):
    """A U-Net for 8 x 8 images, 8 -> 4 -> 2 -> 4 -> 8, four channels at its waist; skips and a gate that can be cut."""

    def __init__(self, skips: bool, gate: bool, width: int = 16) -> None:
        super().__init__()
        self.skips, self.gate = skips, gate
        self.condition = Condition(64, classes=10)
        self.stem = conv(1, width)
        self.encoders = nn.ModuleList(ResidualBlock(width, width, 64) for _ in range(2))
        self.downs = nn.ModuleList(conv(width, width, 2) for _ in range(2))
        self.midcoder = ResidualBlock(width, width, 64)
        self.squeeze, self.widen = nn.Conv2d(width, 4, 1), nn.Conv2d(4, width, 1)
        self.ups = nn.ModuleList(conv(width, width) for _ in range(2))
        self.decoders = nn.ModuleList(ResidualBlock(2 * width, width, 64) for _ in range(2))
        self.head, self.carry = zero_init(conv(width, 1)), zero_init(nn.Linear(64, 1))

    @property
    def null(self) -> int | None:
        return self.condition.null

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        c = F.silu(self.condition(t, y))  # (B, 64)
        h, kept = self.stem(x), []  # (B, width, 8, 8)
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            h = encoder(h, c)
            kept.append(h if self.skips else torch.zeros_like(h))
            h = down(h)  # (B, width, 4, 4), then (B, width, 2, 2)
        h = self.widen(self.squeeze(self.midcoder(h, c)))  # through (B, 4, 2, 2)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            h = up(F.interpolate(h, scale_factor=2, mode="nearest"))
            h = decoder(torch.cat([h, kept.pop()], dim=1), c)
        out = self.head(h)
        return out + self.carry(c)[:, :, None, None] * x if self.gate else out


def learned(net: nn.Module, steps: int = 150) -> Model:
    """The flow of 8 x 8 digits by the recipe, but with this network; every call sees the same data, times and noise."""
    recipe = change(find_recipe("digits"), time="uniform", steps=10 if fast else steps, batch_size=64)
    with tempfile.TemporaryDirectory() as folder, torch.enable_grad():
        return train(recipe, folder, net=net, pictures=False, progress=False, device="cpu").field


def held_out_errors(model: Model) -> Tensor:
    """The error of the velocity on held-out digits at each of the `moments`."""
    noise = torch.randn(held_out.images.shape, generator=torch.Generator().manual_seed(2))
    return torch.stack([
        prediction_error(model, held_out.images, held_out.labels, t.expand(len(noise)), noise).mean() for t in moments
    ])  # fmt: skip


held_out = load("digits", "test")
moments = torch.tensor([0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95])
variants = {
    "neither": (False, False),
    "gate on x": (False, True),
    "skips": (True, False),
    "skips and gate": (True, True),
}
errors = {}
for name, (skips, gate) in variants.items():
    torch.manual_seed(0)
    errors[name] = held_out_errors(learned(Hourglass(skips, gate))).tolist()
mean_error = {name: sum(values) / len(values) for name, values in errors.items()}
if not fast:
    assert mean_error["skips"] < 0.75 * mean_error["neither"]
    assert errors["neither"][0] - errors["skips"][0] > 0.6 * (1 - 16 / 64)  # most of the noise is lost at the waist,
    assert errors["gate on x"][0] < 1.1 * errors["skips"][0]  # at t = 0.05 the gate is enough,
    assert errors["gate on x"][5] > 1.2 * errors["skips"][5]  # at t = 0.8 it is not
    torch.manual_seed(0)
    longer = float(held_out_errors(learned(Hourglass(False, False), steps=450)).mean())
    print(f"neither, after three times as many steps: mean {longer:.3f}")
    assert longer > 1.3 * mean_error["skips"]  # a waist is not overcome by patience
marks = {size: F.conv_transpose2d(torch.ones(1, 1, 6, 6), torch.ones(1, 1, size, size), stride=2) for size in (3, 4)}
assert marks[3][0, 0, 4:8, 4:8].unique().tolist() == [1.0, 2.0, 4.0]  # how often a pixel is written, kernel 3
assert marks[4][0, 0, 4:8, 4:8].unique().tolist() == [4.0]  # and 4

figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for (name, values), colour, style in zip(
    errors.items(), (GREY, INK, ACCENT, ACCENT), ("-", "-", "-", "--"), strict=True
):
    ax.plot(
        moments, values, style, marker="o", color=colour, label=f"{name}: mean {mean_error[name]:.3f}", markersize=4
    )
ax.set(xlabel="time t", ylabel="error of the velocity, held out", ylim=(0, None))
ax.set_title("The same hourglass, with and without ways around its waist")
ax.legend(fontsize=8)
plt.show()

# %% [markdown]
# With no way around its waist the network carries neither noise nor detail, and longer training does not help. The gate
# repairs early times, where the velocity is little more than a multiple of $x$. Later the fine detail of the image
# counts, and only skips bring that. (Each curve is one training of a few seconds. Differences of a few per cent mean
# nothing here.)
#
# **The bill.** Where does a U-Net spend its operations? Convolutions cost in proportion to the pixels, so the largest
# images cost most, though little is decided there. A **patch stem** folds $p \times p$ pixels into channels first
# and unfolds them at the end. It loses nothing (it is a reordering), and everything behind it is $p^2$ times cheaper.

# %%
show_source(Stage, Down, Up)
show_source(UNet.forward)

# %% [markdown]
# Not all of this is used here. `words`, `context` and `read` belong to networks that are guided by a sentence instead
# of a label (lecture 10): their pixels read its words by cross-attention. Without words, `context` is `None` and
# nothing happens. `downs` and `ups` are handed the condition because a resizing residual block may stand in their
# place; the plain convolutions ignore it. `gates` comes below.

# %%
one = (torch.zeros(1, 1, 28, 28), torch.zeros(1), torch.zeros(1, dtype=torch.long))
folded = F.pixel_unshuffle(torch.randn(1, 1, 28, 28, generator=g), 2)
assert folded.shape == (1, 4, 14, 14)
bills = {}
for patch in (1, 2):
    unet = UNet(channels=(32, 64), depth=1, dim=128, patch=patch)
    with FlopCounterMode(display=False) as counter:
        unet(*one)
    parts = {name: sum(by_kind.values()) for name, by_kind in counter.get_flop_counts().items()}
    bills[patch] = {
        "stem and head": parts["UNet.stem"] + parts["UNet.head"],
        "encoders": parts["UNet.encoders.0"] + parts["UNet.encoders.1"],
        "down, up": parts["UNet.downs.0"] + parts["UNet.ups.0"],
        "midcoder": parts["UNet.midcoder"],
        "decoders": parts["UNet.decoders.0"] + parts["UNet.decoders.1"],
        "condition": parts["UNet.condition"] + parts["UNet.carry"],
    }
    assert sum(bills[patch].values()) == parts["UNet"]
ratio = sum(bills[1].values()) / sum(bills[2].values())
assert 3.5 < ratio < 4
rows = [
    {"part": name, "MFLOP, patch 1": f"{bills[1][name] / 1e6:.1f}", "MFLOP, patch 2": f"{bills[2][name] / 1e6:.1f}"}
    for name in bills[1]
]
print(format_table(rows))
totals = [sum(bill.values()) / 1e6 for bill in bills.values()]
print(f"\nin all {totals[0]:.0f} and {totals[1]:.0f} MFLOP: {ratio:.2f} times cheaper")

# %% [markdown]
# Encoders cost the same at each level: half the side, twice the channels, $\tfrac14 \cdot 2 \cdot 2 = 1$.
# Decoders cost more, for they read the skips as well.
#
# **A gate for each pixel.** How much of $x$ should the guess of a pixel keep? Let the guess be affine, $a + b x$. Least
# squares wants
# $$b = \frac{\operatorname{Cov}(z, x)}{\operatorname{Var}(x)}
# = \frac{\alpha_t \operatorname{Var}(z)}{\alpha_t^2 \operatorname{Var}(z) + \beta_t^2},$$
# nothing where a pixel is always blank, about $1 / \alpha_t$ where it varies much. One gate for the whole image must
# settle for the mean variance. What does that cost?


# %%
def keep(variance: Tensor, t: float) -> Tensor:
    """The best b of a pixel with that variance on the linear path."""
    return t * variance / (t**2 * variance + (1 - t) ** 2)


variance = load("digits").images.var(dim=0)  # of each pixel: (1, 8, 8)
rows = []
for now in (0.5, 0.8, 0.9, 0.95):
    errors = {
        name: float(((1 - b * now) ** 2 * variance + b**2 * (1 - now) ** 2).mean())  # E (a + b x - z)^2
        for name, b in (("one gate", keep(variance.mean(), now)), ("a gate a pixel", keep(variance, now)))
    }
    assert errors["a gate a pixel"] < 0.9 * errors["one gate"]
    rows.append({"t": f"{now}"} | {name: f"{error:.4f}" for name, error in errors.items()})
print(format_table(rows))

# %% [markdown]
# And this is before the network has looked at the image. With `gates=True` its head gives an $a$ and a $b$ for each
# pixel from what it sees around it: at the edge of a stroke $x$ is worth keeping, inside and outside it is not.
# Without, all that the edges need has to pass through the blocks. The recipe `mnist` uses these gates.
#
# **Starting at zero.** The head starts at zero, so the untrained network says 0 everywhere. For a target of mean zero
# that is the best constant guess, and the first loss is the variance of the target instead of something larger and
# random. But does a network of zeros learn? Write the last layer as $W h$. The gradient with respect to $W$ is
# $\propto h^\top$, not zero; that with respect to $h$ is $\propto W^\top = 0$. So the first step moves only the layers
# that end at the output, here `head` and the gate `carry`; the second wakes what lies before them, and so on. What
# never wakes is **a product of two zeros**: $ab$ has the gradient $(b, a) = (0, 0)$.

# %%
torch.manual_seed(0)
model = Model(UNet(channels=(16, 32), depth=1, dim=64)).train()
z, noise = torch.randn(8, 1, 28, 28, generator=g), torch.randn(8, 1, 28, 28, generator=g)
t, y = torch.rand(8, generator=g), torch.arange(8)
with torch.enable_grad():
    loss = prediction_error(model, z, y, t, noise).mean()
    loss.backward()
assert torch.allclose(loss, (z - noise).square().mean())  # the first loss is the size of the target z - noise
awake = {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
assert awake == {"head", "carry"}
torch.optim.SGD(model.parameters(), lr=0.1).step()
model.zero_grad()
with torch.enable_grad():
    prediction_error(model, z, y, t, noise).mean().backward()
awake_next = {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
assert {"stem", "decoders"} <= awake_next
print("first step:", ", ".join(sorted(awake)))
print("second step:", ", ".join(sorted(awake_next)))

# %% [markdown]
# ## 7. Attention from scratch
#
# A convolution's weights depend on **where** a neighbour is. Attention's depend on **what** it is. From each token
# $x_i \in \mathbb R^D$ three vectors are made, query, key and value, and
# $$a_i = \sum_j A_{ij}\, v_j, \qquad
# A_{ij} = \frac{\exp(q_i \cdot k_j / \sqrt d)}{\sum_l \exp(q_i \cdot k_l / \sqrt d)}.$$
# Every row of $A$ sums to one: $a_i$ is a weighted mean of the values. Several **heads** do this side by side,
# each on its own $d = D / \text{heads}$ columns, so that one token can look for several things at once.
#
# **Why $\sqrt d$.** If the components of $q$ and $k$ are independent with mean 0 and variance 1, then $q \cdot k$ is a
# sum of $d$ terms of variance 1: its standard deviation is $\sqrt d$. Undivided, the logits grow with the width, the
# softmax becomes a hard choice, and its gradient vanishes.
#
# **Permutations.** Let $P$ reorder tokens. Then queries, keys and values become $PQ, PK, PV$, the logits
# $P Q K^\top P^\top$, and since the softmax acts on each row by itself, $A$ becomes $P A P^\top$. Hence the output is
# $P A P^\top P V = P A V$: attention **commutes with every reordering**. It does not know where a token is. Positions
# have to be written into the tokens.


# %%
def attend(x: Tensor, layer: Attention) -> tuple[Tensor, Tensor]:
    """Self-attention with the weights of `layer`, written out: (B, N, D) -> (B, N, D) and A (B, heads, N, N)."""
    batch, count, dim = x.shape
    q, k, v = (
        part.reshape(batch, count, layer.heads, -1).transpose(1, 2)  # (B, heads, N, d)
        for part in layer.qkv(x).chunk(3, dim=2)
    )
    weights = (q @ k.transpose(2, 3) / (dim // layer.heads) ** 0.5).softmax(dim=3)
    mixed = (weights @ v).transpose(1, 2).reshape(batch, count, dim)  # heads side by side again
    return layer.out(mixed), weights


torch.manual_seed(0)
layer, tokens = Attention(32, heads=4), torch.randn(2, 9, 32, generator=g)
out, weights = attend(tokens, layer)
q, k, v = (part.unflatten(2, (4, 8)).transpose(1, 2) for part in layer.qkv(tokens).chunk(3, dim=2))
by_torch = layer.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
assert torch.allclose(out, by_torch, atol=1e-6)
assert torch.allclose(out, layer(tokens), atol=1e-6)
order = torch.randperm(9, generator=g)
assert torch.allclose(layer(tokens[:, order]), layer(tokens)[:, order], atol=1e-6)  # it commutes with any reordering
layer.qkv.weight[32:64] *= 100  # keys a hundred times as long: each token looks at one other
assert attend(tokens, layer)[1].amax(3).mean() > 0.9 > 0.5 > weights.amax(3).mean()

spread = {}
for d in (4, 16, 64, 256):
    logits = torch.randn(2000, d, generator=g) @ torch.randn(d, 49, generator=g)
    spread[d] = [
        float((-(p := (logits / s).softmax(1)) * p.clamp_min(1e-30).log()).sum(1).mean().exp()) for s in (1, d**0.5)
    ]
assert spread[256][0] < 3 < 25 < spread[256][1]
assert all(abs(soft / spread[4][1] - 1) < 0.3 for _, soft in spread.values())  # divided, no width looks harder
print(format_table([
    {"d": d, "tokens looked at, undivided": f"{hard:.1f}", "divided by sqrt(d)": f"{soft:.1f}"}
    for d, (hard, soft) in spread.items()
]))  # fmt: skip

# %% [markdown]
# "Tokens looked at" is the exponential of a row's entropy, of 49 possible ones.
#
# Positions come as sines and cosines again, this time of the patch's column and row. As in section 3, their dot product
# depends only on the offset of two patches, and on the whole falls with their distance (not at every step: a sum of
# cosines ripples).

# %%
show_source(position_table)

# %% tags=["draw"]
# alt: Left, a table of 49 rows as red, white and blue stripes that repeat every seven rows on its left half and change
#   every seven rows on its right. Then three 7 x 7 maps, brightest at a marked patch and darker with the distance from
#   it.
table = position_table(7, 7, 96)  # (49, 96)
similarity = F.normalize(table, dim=1) @ F.normalize(table, dim=1).T
by_place = similarity.reshape(7, 7, 7, 7)
assert torch.allclose(by_place[:5, :6, 0, 0], by_place[2:, 1:, 2, 1], atol=1e-5)  # the offset is all that counts
figure, axes = plt.subplots(1, 4, figsize=(10, 2.6), layout="constrained")
axes[0].imshow(table, aspect="auto", cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
axes[0].set(title="a row for each patch", xlabel="component", ylabel="patch")
for ax, patch in zip(axes[1:], (0, 24, 30), strict=True):
    shown = ax.imshow(similarity[patch].reshape(7, 7), cmap="magma", vmin=0.6, vmax=1)
    ax.plot(patch % 7, patch // 7, "o", color=INK, markersize=4)
    ax.set_title(f"similarity to patch {patch}")
    ax.set_axis_off()
figure.colorbar(shown, ax=axes, shrink=0.9)
plt.show()

# %% [markdown]
# ## 8. ADM: which U-Net?
#
# With residual blocks and attention at hand, many U-Nets can be built. Dhariwal & Nichol (2021) asked which choices
# matter, one at a time, and the U-Net they arrived at, called ADM, is that of most diffusion models after it.
#
# - **Depth against width.** More blocks a level, or more channels. Cost and weights of convolutions grow in proportion
#   to the depth, and with the *square* of the width.
# - **Attention at several sizes.** At $16 \times 16$ alone, as in DDPM, or at 32, 16 and 8. Each doubling of the side
#   makes the products $QK^\top$ and $AV$ cost sixteen times as much.
# - **Heads.** Of $D$ columns, $D/d$ heads get $d$ each. That costs no more weights and no more products: these
#   have $2 n^2 d$ operations a head, $2 n^2 D$ in all, whatever $d$. ADM fixes $d = 64$, so that wide levels have more
#   heads.
# - **BigGAN's resizing blocks** (Brock et al. 2019). Instead of a convolution of stride 2 between levels, a residual
#   block whose two ways are both resized: the way around carries a smaller or larger $x$ on unchanged, and the branch
#   has norms, a nonlinearity and the condition.
# - **AdaGN** (section 4) instead of adding the condition before the norm. A group norm takes out what all channels of a
#   group have been given in common, and what is added to a channel says nothing of its scale; AdaGN sets the scale of
#   each channel, to 0 if need be.
# - **Residual sums divided by $\sqrt 2$**, so that variances do not grow. That one made it worse, and was dropped.
#
# All are arguments of the library's `UNet`, but for the last. Here they are in our smallest U-Net:


# %%
def variant(**choices: bool | int | tuple[int, ...]) -> UNet:
    """A U-Net for MNIST with none of ADM's choices but those given."""
    plain = {"channels": (32, 64), "depth": 1, "dim": 128, "patch": 2, "attention": (1,), "heads": 1, "adagn": False}
    return UNet(**(plain | choices))


choices = {
    "plain": {},
    "deeper": {"depth": 2},
    "wider": {"channels": (48, 96)},
    "4 heads": {"heads": 4},
    "attention at both sizes": {"attention": (0, 1)},
    "BigGAN's resizing": {"biggan": True},
    "AdaGN": {"adagn": True},
}
costs = {}
for name, chosen in choices.items():
    net = variant(**chosen)
    costs[name] = sum(p.numel() for p in net.parameters()), flops(net, *one)
rows = [
    {"U-Net": name, "parameters": f"{size:,}", "MFLOP a call": f"{cost / 1e6:.1f}"}
    for name, (size, cost) in costs.items()
]
print(format_table(rows))
assert costs["4 heads"] == costs["plain"]
assert abs(costs["wider"][1] / costs["plain"][1] / 1.5**2 - 1) < 0.05
assert 1.4 < costs["deeper"][1] / costs["plain"][1] < 1.6
assert costs["AdaGN"][1] < 1.01 * costs["plain"][1]
products = {}
for level, places in ((0, 14 * 14), (1, 7 * 7)):  # two attention layers at the larger size, three at the smaller
    width, layers = (32, 2) if level == 0 else (64, 3)
    with_it, without = (flops(variant(attention=a), *one) for a in ((level,), ()))
    products[level] = ((with_it - without) / layers - 4 * 2 * places * width**2) / width  # less q, k, v and out
assert abs(products[0] / (2 * 2 * 196**2) - 1) < 1e-6
assert abs(products[0] / products[1] / 16 - 1) < 1e-6  # twice the side, sixteen times the operations

torch.manual_seed(0)
x, c = torch.randn(2, 16, 8, 8, generator=g), torch.randn(2, 64, generator=g)
assert torch.equal(ResidualBlock(16, 16, 64, resize="down")(x, c), F.avg_pool2d(x, 2))  # at first: x, smaller
assert torch.equal(ResidualBlock(16, 16, 64, resize="up")(x, c), F.interpolate(x, scale_factor=2))
given = torch.randn(2, 1, 1, 1, generator=g)  # the same for all channels
assert torch.allclose(nn.GroupNorm(1, 16)(x + given), nn.GroupNorm(1, 16)(x), atol=1e-5)
silent = {}
for adagn in (True, False):
    block = ResidualBlock(16, 16, 64, adagn=adagn)
    nn.init.normal_(block.conv2.weight, generator=g)
    block.modulation.bias[:16] = -1.0  # as a scale: 1 + gamma = 0. As a shift: one that the norm takes out
    branch = block(x, c) - x
    silent[adagn] = float((branch[0] - branch[1]).abs().max())
assert silent[True] == 0 < 0.1 < silent[False]

# %% [markdown]
# **What came out**, on ImageNet at $128 \times 128$, in Fréchet inception distance: the first row as it is, the others
# as differences from it (Dhariwal & Nichol 2021, table 1).
#
# | change | after 700,000 steps | after 1,200,000 steps |
# |---|---|---|
# | none: 160 channels, 2 blocks a level, 1 head, attention at 16 | 15.33 | 13.21 |
# | 128 channels, 4 blocks a level | −0.21 | −0.48 |
# | 4 heads | −0.54 | −0.82 |
# | attention at 32, 16 and 8 | −0.72 | −0.66 |
# | BigGAN's resizing | −1.20 | −1.21 |
# | residual sums divided by $\sqrt 2$ | +0.16 | +0.25 |
# | 160 channels, 2 blocks, 4 heads, attention at 32, 16 and 8, BigGAN's resizing | −3.14 | −3.00 |
#
# Depth helped in steps, but not in hours, so ADM stays at two blocks a level. In a second series 1 head had 14.08; 2,
# 4 and 8 heads lowered it by 0.50, 0.97 and 1.17, and 32, 64 and 128 channels a head by 1.36, 1.03 and 1.08 (table 2).
# In a third, AdaGN reached 13.06 and addition 15.08 (table 3).
#
# Now the same question at our scale, at equal operations and with three seeds:

# %%
Markdown(filename="tables/06_adm.md")

# %% [markdown]
# ## 9. The diffusion transformer, piece by piece
#
# A DiT (Peebles & Xie 2023) treats an image as a sequence. **Patchify**: cut it into $p \times p$ patches, each
# flattened to a token, then a linear layer to the width $D$. **Blocks**: attention, where tokens exchange what they
# know, and a two-layer network, where each thinks by itself. **Unpatchify**: a linear layer back to $p^2$ pixels a
# token, put together again.

# %%
show_source(patchify, unpatchify)

# %%
picture = torch.arange(2 * 3 * 8 * 12.0).reshape(2, 3, 8, 12)
tokens = patchify(picture, 4)
assert tokens.shape == (2, 6, 48)
assert torch.equal(tokens[:, 4], picture[:, :, 4:8, 4:8].flatten(1))  # patch 4: second row, second column
assert torch.equal(unpatchify(tokens, 4, 8, 12), picture)

# %% [markdown]
# A round trip alone proves little: a plain `reshape` to the right shape, and back, also returns the image, but its
# "patches" are slices of memory. So patchify itself has to be checked.
#
# **adaLN-Zero.** Each block takes six vectors from the condition: shift, scale and **gate** for attention, the same for
# the two-layer network. The layer that makes them starts at zero. So do the gates, and with them all branches: every
# block starts as the identity. The network's last linear layer, its head, starts at zero as well, and so does its gate
# on $x$ (`carry`, as in the U-Net): with that the whole network says zero.

# %%
show_source(DiTBlock)

# %%
torch.manual_seed(0)
net = DiT(patch=4, width=64, depth=2, heads=4)
x, t, y = torch.randn(4, 1, 28, 28, generator=g), torch.rand(4, generator=g), torch.arange(4)
block, c = net.blocks[0], torch.randn(4, 64, generator=g)
h = torch.randn(4, 49, 64, generator=g)
assert torch.equal(block(h, c), h)  # the identity at first
assert not net(x, t, y).any()  # and the network is zero

for p in net.parameters():  # from here on, all weights random: nothing may hide behind a zero
    p.copy_(0.1 * torch.randn(p.shape, generator=g))
order = torch.randperm(49, generator=g)
shuffled = unpatchify(patchify(x, 4)[:, order], 4, 28, 28)


def reordered(net: DiT) -> bool:
    """Whether shuffling the patches of the input shuffles those of the output and does nothing else."""
    return torch.allclose(patchify(net(shuffled, t, y), 4), patchify(net(x, t, y), 4)[:, order], atol=1e-3)


assert not reordered(net)
net.positions.zero_()
assert reordered(net)  # without positions, a heap of patches is as good as an image

# %% [markdown]
# **Compute against patch size.** Halving $p$ makes four times as many tokens. Linear layers then cost four times as
# much, and the two products of attention, $QK^\top$ and $AV$, sixteen times. Exercise 06.8 asks for the formula; here
# is the count.

# %%
# alt: Operations against tokens on logarithmic axes: two rising lines, width 384 above width 96, follow their dotted
#   straight lines and leave them upwards at patch 1, the narrow one most.
patches, curve = (14, 7, 4, 2, 1), {}
for width in (96, 384):
    curve[width] = [flops(DiT(patch=p, width=width, depth=2, heads=4), *one) for p in patches]
tokens = [(28 // p) ** 2 for p in patches]
assert 4 < curve[96][3] / curve[96][2] < 16  # from 49 tokens to 196
assert 4 < curve[96][4] / curve[96][3] < 16
figure, ax = plt.subplots(figsize=(6.5, 3), layout="constrained")
for (width, costs), colour in zip(curve.items(), (ACCENT, INK), strict=True):
    ax.loglog(tokens, [cost / 1e6 for cost in costs], "o-", color=colour, label=f"width {width}")
    ax.loglog(tokens, [costs[2] / 1e6 * n / tokens[2] for n in tokens], ":", color=colour)
ax.set(xlabel="tokens", ylabel="MFLOP, two blocks", title="Dotted: if the cost were proportional to the tokens")
for n, p in zip(tokens, patches, strict=True):
    ax.annotate(f"patch {p}", (n, 0.6), fontsize=8, color=GREY, ha="center")
ax.set(xlim=(2.5, 1200), ylim=(0.4, None))
ax.legend()
plt.show()

# %% [markdown]
# To the right attention's quadratic part lifts the curve, the narrow network's first: it counts where there are more
# tokens than a few times the width. To the left a fixed cost shows, the modulation, which is paid once for each image.
#
# ## 10. Three networks at equal compute
#
# Which is best: the U-Net of section 6, the same with the rest of ADM's choices (attention at both sizes, 16 channels a
# head, BigGAN's resizing), or a DiT? The question has no answer without a price. We give all three **the same number of
# floating-point operations in training**: forward and backward passes cost about three forward passes. Each network
# does what it does best within that, on MNIST with the same optimiser, the same prediction (the data), and no tuning of
# one against the others. (A fourth way, to move all this to a smaller latent space, is lecture 10.)
#
# This is small: each trains for about a minute, on tens of thousands of images, where the recipe `mnist` takes five
# minutes for far better digits. Expect to see what learns *quickly*, not what is best in the end.

# %%
on_mnist = mnist.find() is not None
DATA = "mnist" if on_mnist else "digits"
if not on_mnist:
    print("MNIST was not found: the comparison below uses scikit-learn's 8 x 8 digits, which are easier.")
data, test = load(DATA), load(DATA, "test")
BATCH = 64
patch = 2 if on_mnist else 1  # 28 pixels a side, or 8
unet = Recipe(
    name="lecture-unet",
    data=DATA,
    system=FlowSystem(predicts="data", net_args={"channels": (32, 64), "depth": 1, "dim": 128, "patch": patch}),
    training=Training(steps=400, optimiser="muon", lr=3e-3, ema=0.99, batch_size=BATCH),
)
adm_args = {**unet.system.net_args, "attention": (0, 1), "head_channels": 16, "biggan": True}
adm = change(unet, name="lecture-adm", net="unet", net_args=adm_args)
dit_args = {"width": 96, "depth": 4, "heads": 4, "patch": 2 * patch}
dit = change(unet, name="lecture-dit", net="dit", net_args=dit_args)


def call_flops(recipe: Recipe) -> int:
    """Operations of one call of the network, for one image."""
    net = recipe.system.build(data.spec, {}, torch.Generator()).net
    return flops(net, torch.zeros(1, *data.shape), torch.zeros(1), torch.zeros(1, dtype=torch.long))


def training_flops(recipe: Recipe) -> int:
    return 3 * BATCH * recipe.training.steps * call_flops(recipe)


def within(recipe: Recipe, budget: int) -> Recipe:
    """The recipe with as many steps as the budget pays for."""
    return change(recipe, steps=budget // (3 * BATCH * call_flops(recipe)))


budget = training_flops(unet)
recipes = {"U-Net": unet, "ADM's U-Net": within(adm, budget), "DiT": within(dit, budget)}
for name, recipe in recipes.items():
    assert 0.99 < training_flops(recipe) / budget <= 1, name
print(f"the budget of each: {budget / 1e12:.1f} TFLOP")
for name, recipe in recipes.items():
    print(f"{name}: {call_flops(recipe) / 1e6:.0f} MFLOP a call, {recipe.training.steps} steps of {BATCH} images")

# %%
with torch.enable_grad():
    runs = {name: trained(recipe) for name, recipe in recipes.items()}

# %% [markdown]
# One interface: each is a `Field`, and each gives a velocity, a score, a denoised sample.

# %%
for name, run in runs.items():
    assert isinstance(run.field, Field), name
    x = run.noise(5, seed=1)  # of the shape that the field works in
    u, s = run.field.u(x, 0.5, torch.arange(5)), run.field.s(x, 0.5, torch.arange(5))
    assert u.shape == s.shape == x.shape
    assert torch.allclose(s, run.field.path.convert(u, x, 0.5, "velocity", "score"), atol=1e-4)
    print(f"{name}: a {type(run.field).__name__} over tensors of shape {tuple(x.shape[1:])}")

# %% [markdown]
# **The measure.** Label accuracy and Fréchet distance, as in lecture 05, from groups of samples with seeds of their
# own. The Fréchet distance of few samples is biased upwards, the more the wider they are spread, so that it favours
# models whose samples are all alike. The last row shows real training images in equally small groups: what a perfect
# model would get, and no correction for the others. The **spread over groups** says how far sampling noise reaches. It
# does not contain the spread between trainings: each model was trained once.

# %%
bias = {}
for std in (0.5, 1.0, 1.5):  # the distance of a law to itself, by 200 samples of 64 numbers
    few, many = (std * torch.randn(count, 64, generator=g) for count in (200, 20_000))
    bias[std] = frechet_distance(few, many)
print("what should be 0, by the spread of the samples:", {std: f"{value:.1f}" for std, value in bias.items()})
assert bias[1.0] > 1  # not small: samples of 1 lie this far from their own law,
assert abs(bias[0.5] / bias[1.0] - 0.5**2) < 0.05  # in proportion to their variance
assert abs(bias[1.5] / bias[1.0] - 1.5**2) < 0.25

if on_mnist:
    from flowlib.metrics import evaluate, load_evaluator

    evaluator = load_evaluator()

    def features_and_logits(x: Tensor) -> tuple[Tensor, Tensor]:
        return evaluate(evaluator, x.clamp(-1, 1))
else:
    from flowlib.metrics import fit_reader

    reader = fit_reader(data)

    def features_and_logits(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.clamp(-1, 1).flatten(1), reader(x)


groups, each, steps = (2, 140, 3) if fast else (3, 200, 12)
labels = torch.arange(10).repeat_interleave(each // 10)
test_features, _ = features_and_logits(test.images[:5000])


def scores(batches: list[Tensor], wanted: list[Tensor]) -> dict[str, float]:
    """Accuracy with its standard error, and the mean Fréchet distance of the groups with its standard deviation."""
    found = [features_and_logits(batch) for batch in batches]
    accuracy = label_accuracy(torch.cat([logits for _, logits in found]), torch.cat(wanted))
    distances = torch.tensor([frechet_distance(features, test_features) for features, _ in found])
    total = sum(len(batch) for batch in batches)
    return {
        "accuracy": accuracy,
        "accuracy error": (accuracy * (1 - accuracy) / total) ** 0.5,
        "distance": float(distances.mean()),
        "distance spread": float(distances.std()),
    }


results, drawn = {}, {}
for name, run in runs.items():
    start = time.perf_counter()
    batches = [run.sample(labels, seed=seed, steps=steps) for seed in range(groups)]
    seconds = time.perf_counter() - start
    with FlopCounterMode(display=False) as counter:
        run.sample(labels[:1], steps=steps)
    drawn[name] = batches[0]
    results[name] = {
        "parameters": sum(p.numel() for p in run.field.parameters()),
        "per call": call_flops(run.recipe),
        "per image": counter.get_total_flops(),
        "training": read_metrics(run.folder / "metrics.jsonl")[-1]["seconds"],
        "speed": groups * each / seconds,
        **scores(batches, [labels] * groups),
    }
chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: groups * each].chunk(groups)
results["training images"] = scores([data.images[part] for part in chosen], [data.labels[part] for part in chosen])


rows = [
    {
        "": name,
        "parameters": f"{row['parameters']:,}" if "parameters" in row else "",
        "MFLOP a call": f"{row['per call'] / 1e6:.0f}" if "per call" in row else "",
        "training, s": f"{row['training']:.0f}" if "training" in row else "",
        "MFLOP an image": f"{row['per image'] / 1e6:,.0f}" if "per image" in row else "",
        "images/s": f"{row['speed']:.0f}" if "speed" in row else "",
        "accuracy, %": f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy error']:.1f}",
        "Fréchet": f"{row['distance']:.1f} ± {row['distance spread']:.1f}",
    }
    for name, row in results.items()
]
print(f"each trained with {budget / 1e12:.1f} TFLOP; {groups} x {each} samples, {steps} Heun steps, no guidance\n")
print(format_table(rows))

# %%
# alt: Three grids of ten rows, the digits 0 to 9 by three networks: readable strokes with some mistakes by both U-Nets,
#   broken ones that show the borders of patches by the DiT.
if on_mnist and not fast:
    assert results["training images"]["accuracy"] > 0.98  # the measure itself
    assert results["training images"]["distance"] < results["U-Net"]["distance"] < 0.6 * results["DiT"]["distance"]
    convolutions, transformer, adm_scores = results["U-Net"], results["DiT"], results["ADM's U-Net"]
    for key in ("accuracy", "distance"):  # the U-Nets are nearer to each other than to the DiT: one training of each
        assert abs(convolutions[key] - adm_scores[key]) < 0.5 * abs(convolutions[key] - transformer[key])
    error = convolutions["accuracy error"] + transformer["accuracy error"]
    assert convolutions["accuracy"] > transformer["accuracy"] + 3 * error

figure, axes = plt.subplots(1, 3, figsize=(10, 4.4), layout="constrained")
for ax, (name, images) in zip(axes, drawn.items(), strict=True):
    first = images.unflatten(0, (10, -1))[:, :8].flatten(0, 1)  # eight of each digit
    ax.imshow(tile(first, 8).numpy(), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
    row = results[name]
    ax.set_title(f"{name}: {100 * row['accuracy']:.0f} % as asked")
    ax.set_axis_off()
plt.show()

# %% tags=["draw"]
# alt: Four bar charts for U-Net, ADM's U-Net and DiT: accuracy 77, 75 and 59 percent under a dashed line at 99; Fréchet
#   distance 12, 11 and 40; 1.3, 1.9 and 1.1 GFLOP an image; seconds of training, nearly alike.
bars = {
    "accuracy, %": ("accuracy", "accuracy error", 100),
    "Fréchet distance": ("distance", "distance spread", 1),
    "GFLOP an image": ("per image", None, 1e-9),
    "seconds of training": ("training", None, 1),
}
names, colours = list(recipes), (INK, ACCENT, GREY)
figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for ax, (title, (key, error, unit)) in zip(axes, bars.items(), strict=True):
    heights = [unit * results[name][key] for name in names]
    ax.bar(names, heights, color=colours, yerr=[unit * results[name][error] for name in names] if error else None)
    if error:
        ax.axhline(unit * results["training images"][key], color=GREY, linestyle="--", linewidth=1)
    ax.set_title(title)
    ax.tick_params(axis="x", rotation=20)
figure.suptitle(f"Equal operations in training ({budget / 1e12:.1f} TFLOP each); dashed: real images", fontsize=11)
plt.show()

# %% [markdown]
# **How to read it.**
#
# - *The U-Nets learn quickly.* That neighbours belong together, and that a stroke is a stroke wherever it lies, is
#   built into them.
# - *ADM's choices neither help nor hurt much here.* The two U-Nets are near each other, though the one with attention
#   and larger blocks had a third fewer steps for the same operations. Its samples cost half as much again. On larger
#   and more varied images, and in long trainings, the choices pay (section 8).
# - *The DiT has to learn both from data*, and a few hundred steps are few: one can still see the borders of its
#   patches. Its reward comes later: on large data its quality keeps rising with compute (Peebles & Xie 2023). Nothing
#   of that can be seen at this scale, and nobody should conclude from this table that transformers are worse.
# - *Equal operations are not equal seconds.* Norms, softmax and activations hardly count as operations and take time;
#   on other hardware the ratio is another.
# - *The precision is poor.* One training each. The bars show the noise of sampling, not that of training.
#
# ## 11. Watch them
#
# The same labels, the same noise, the same sampler, three networks.

# %% tags=["draw"]
if not fast:
    thumbnail, axes = plt.subplots(1, 3, figsize=(6.4, 4), layout="constrained")
    for ax, (name, images) in zip(axes, drawn.items(), strict=True):
        six = images.unflatten(0, (10, -1))[:, :6].flatten(0, 1)
        ax.imshow(tile(six, 6).numpy(), cmap="gray_r", vmin=0, vmax=1)
        ax.set_title(name, fontsize=16)
        ax.set_axis_off()
    thumbnail.savefig("images/06.png", dpi=50)
    plt.close(thumbnail)
    ways = [
        run.sample(torch.arange(10), seed=3, steps=20, trajectory=True).clamp(-1, 1) for run in runs.values()
    ]  # each (21, 10, 1, H, W)
    animate(torch.cat(ways, dim=1), "images/06_three_models.gif", rows=list(runs), columns=10)

# %% [markdown]
# ![Ten digits appearing from noise, one row for each of the three models](images/06_three_models.gif)
#
# **Where does the DiT look?** Attention weights of the trained network, read with section 7's own code. The query is
# one patch; each picture is the mean over heads.

# %%
# alt: Two rows, each a noisy image of a 3 and four 7 x 7 attention maps. At t = 0.2 the first block looks everywhere
#   and the others next to the marked patch; at t = 0.9 all blocks spread farther, along the stroke.
run = runs["DiT"]
net = run.field.net
index = int((test.labels == 3).nonzero()[0])
z, noise = test.images[index : index + 1], torch.randn(1, *data.shape, generator=torch.Generator().manual_seed(4))
seen = {}


def remember(module: nn.Module, inputs: tuple[Tensor], out: Tensor) -> None:
    seen[module] = attend(inputs[0], module)[1].mean(1)[0]  # (N, N)


hooks = [block.attention.register_forward_hook(remember) for block in net.blocks]
shown_at, depth = (0.2, 0.9), len(net.blocks)
side = data.shape[1] // net.patch
places = torch.cartesian_prod(torch.arange(side), torch.arange(side)).double()
apart, reach = torch.cdist(places, places), {}  # distances of patches; how far away the patches lie that are looked at
figure, axes = plt.subplots(len(shown_at), depth + 1, figsize=(10, 4.2), layout="constrained")
for row, t in zip(axes, shown_at, strict=True):
    x = run.field.path.sample(z, t, noise)
    run.field.predict(x, t, torch.tensor([3]))
    row[0].imshow(x[0, 0], cmap="gray_r", vmin=-1.5, vmax=1.5)
    row[0].set_title(f"x at t = {t}")
    reach[t] = [float((seen[block.attention].double() * apart).sum(1).mean()) for block in net.blocks]
    query = (side // 2) * side + side // 2
    for ax, (level, block) in zip(row[1:], enumerate(net.blocks), strict=True):
        ax.imshow(seen[block.attention][query].reshape(side, side), cmap="magma", vmin=0)
        ax.plot(side // 2, side // 2, "o", color="white", markersize=4)
        ax.set_title(f"block {level + 1}")
    for ax in row:
        ax.set_axis_off()
for hook in hooks:
    hook.remove()
plt.show()
print(f"mean distance of what a patch looks at, by block (all patches: {float(apart.mean()):.2f}):")
for t, distances in reach.items():
    print(f"t = {t}: " + ", ".join(f"{distance:.2f}" for distance in distances))
if on_mnist and not fast:
    early, late = (sum(reach[t][1:]) / (depth - 1) for t in shown_at)  # the mean over the blocks behind the first
    assert early < 0.95 * min(late, float(apart.mean()))
    assert reach[0.2][0] > 0.9 * float(apart.mean())

# %% [markdown]
# In this run the later blocks prefer near patches while there is mostly noise to see: some of the locality that a
# convolution is given has been learned. Once there is a stroke they look farther. The first block does something else:
# distance means little to it.
#
# ## What fails, and why
#
# - **A vector of times that lands on the width** (section 4) trains, samples and is wrong. Write `[:, None, None,
#   None]`, and test with different $B$, $C$, $H$, $W$, or test that one sample's condition moves that sample alone.
# - **Zeros in the wrong place.** Two zeros in a product never wake; no zero at all starts with a loud, random network.
# - **A patch order that only round trips.** The pair is an identity, yet attention sees slices of memory and positions
#   mean nothing.
# - **Comparing at equal steps.** Steps of different networks cost different amounts; so do samples.
#
# ## Change this
#
# - Give the DiT patches of half the side (`"patch": patch`). Predict, before running, its operations a call, its number
#   of steps under the same budget, and whether more tokens or more steps are worth more here.
# - Train all three with another seed, `change(recipe, seed=1)`. How far do the numbers move, beside the error bars?
# - Give `run.sample` a `scale` of 2. Which model gains most, and why?
# - In `within`, spend equal **seconds** instead: multiply each budget by the ratio of the measured training times.
#
# ## Further reading
#
# - Ronneberger, Fischer, Brox. *U-Net: convolutional networks for biomedical image segmentation.* 2015,
#   arXiv:1505.04597.
# - Vaswani et al. *Attention is all you need.* 2017, arXiv:1706.03762.
# - Perez et al. *FiLM: visual reasoning with a general conditioning layer.* 2018, arXiv:1709.07871.
# - Brock, Donahue, Simonyan. *Large scale GAN training for high fidelity natural image synthesis.* 2019,
#   arXiv:1809.11096: the resizing blocks.
# - Luo, Li, Urtasun, Zemel. *Understanding the effective receptive field in deep convolutional neural networks.* 2016,
#   arXiv:1701.04128.
# - Odena, Dumoulin, Olah. *Deconvolution and checkerboard artifacts.* Distill, 2016.
# - Ho, Jain, Abbeel. *Denoising diffusion probabilistic models.* 2020, arXiv:2006.11239: the U-Net with time in it.
# - Tancik et al. *Fourier features let networks learn high frequency functions in low dimensional domains.* 2020,
#   arXiv:2006.10739.
# - Dhariwal, Nichol. *Diffusion models beat GANs on image synthesis.* 2021, arXiv:2105.05233: AdaGN and its ablations.
# - Peebles, Xie. *Scalable diffusion models with transformers.* 2023, arXiv:2212.09748.
# - Sun, Jiang, Zhao, He. *Is noise conditioning necessary for denoising generative models?* 2025, arXiv:2502.13129.
#
# **Now build them:** [exercise 06](../exercises/06_networks.ipynb).
