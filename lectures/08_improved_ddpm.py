# %% [markdown]
# # 08. Improved DDPM and likelihood
#
# **The question.** DDPM draws good pictures, and says of real ones that they are improbable: its bits per pixel were
# worse than those of other models of its day. Does it not know the data, or is the bound it is measured by spent on
# the wrong things?
#
# **The answer** (Nichol and Dhariwal 2021). The second. Many steps do nothing (the paper could skip up to a fifth of
# them on photographs, we more than a third on small digits), the others use a variance that nobody has fitted, and
# the bound itself is such a noisy loss that training on it is hard. Three small changes mend these: another chain, a
# learned variance, and steps drawn by importance.
#
# **Afterwards you can**
#
# - say which steps of a chain are wasted, and derive the cosine chain that wastes fewer;
# - prove what the best variance of a reverse step is, for any network;
# - compute every term of the variational bound, the decoder of 256 pixel values included, in bits/dim;
# - train the variance without disturbing the mean ($L_\text{hybrid}$);
# - measure how noisy a loss is, and prove which way of drawing steps makes it least noisy;
# - sample in a few steps with a variance that was learned for all of them;
# - say what the bound is without steps, and read off a curve where a model of pixels pays its bits.
#
# **Time** 90 minutes of reading, 3 minutes of computing. **Before** lecture 07 (chain, posterior, bound).
#
# **Notation** is that of lecture 07: $v$ is the variance that a step adds, $\tilde v$ that of the posterior, $\sigma^2$
# that of the model's step, $D$ the data as far as they are known, $s^2$ the variance of the data. New are $\lambda$,
# a place between two variances (in lectures 09 and 10 it weighs a KL term), and $p_k$, the probability of drawing step
# $k$, not to be confused with the model $p_\theta$. In section 7, $\Lambda$ is the logarithm of the signal-to-noise
# ratio, which most papers call $\lambda$, and $2\delta$ the width of a pixel's bin.

# %%
import io
import math
from functools import partial
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from flowlib import Cosine, GaussianPath, Linear, MixtureField, Model, bits_per_dim, log_likelihood, sample_ddim
from flowlib.chains import (
    Chain,
    LearnedVariance,
    LossSecondMoment,
    discretised_log_prob,
    fixed_reverse,
    forward,
    posterior,
    reverse,
    variational_bound,
)
from flowlib.continuous_bound import continuous_bound, noise_errors
from flowlib.course.notebook import fast, seeded, show_source, trained
from flowlib.data import load
from flowlib.metrics import energy_distance, frechet_distance
from flowlib.nets.pixel_mixture import PixelMixture, bin_posterior
from flowlib.plotting.style import ACCENT, BLUE, GREY, INK, SCHEDULES
from flowlib.systems import bound_of_test_set
from flowlib.systems.improved_ddpm import step_losses, variational_loss

# %% [markdown]
# ## 1. Which steps are wasted
#
# Steps count down from $k = T$, noise, to $k = 0$, data, and $t = 1 - k/T$. As in lecture 07, $v_k$ is the variance
# that step $k$ adds, $\bar\alpha_k = \prod_{i \le k}(1 - v_i)$, and
# $x_k = \sqrt{\bar\alpha_k}\, x_0 + \sqrt{1 - \bar\alpha_k}\, \varepsilon$. DDPM's linear chain lets $v_k$ rise in a
# straight line.
#
# Suppose we start sampling not at $T$ but at some smaller $k$, still from pure noise. What does that cost? No more
# than what tells $x_k$ from noise when its picture is known:
#
# $$\mathrm{KL}\big(q(x_k)\,\big\|\,\mathcal N(0, I)\big) \;\le\; \mathbb E_{x_0}\,
# \mathrm{KL}\big(q(x_k \mid x_0)\,\big\|\,\mathcal N(0, I)\big)
# = \tfrac12\,\mathbb E\Big[\bar\alpha_k \lvert x_0\rvert^2 - d\,\bar\alpha_k - d\log(1 - \bar\alpha_k)\Big]. \tag{1}$$
#
# The inequality is convexity of the divergence; whatever the sampler does afterwards can only shrink the left side
# (data processing). The right side also bounds what $x_k$ knows of its picture: it is their mutual information plus the
# left side. So where it is nothing, all the steps from $T$ to $k$ do nothing. We take real
# pictures, scikit-learn's $8\times 8$ digits, and count in **bits/dim**: nats divided by $d \log 2$.

# %%
train_set, test_set = load("digits"), load("digits", "test")
chains = {"linear": Chain.linear(1000), "cosine": Chain.of(Cosine(), 1000)}
square = float(train_set.images.double().square().mean())  # E |x_0|^2 / d


def known(chain: Chain) -> Tensor:
    """The right side of (1) for k = 1 ... T, in bits/dim."""
    log_abar = chain.log_abar[1:]
    return (log_abar.exp() * (square - 1) - torch.log(-torch.expm1(log_abar))) / (2 * math.log(2))


for name, chain in chains.items():
    left = known(chain)
    print(f"{name}: {(left < 0.01).double().mean():.0%} of the steps know less than 0.01 bits/dim of the picture")
idle = {name: float((known(chain) < 0.01).double().mean()) for name, chain in chains.items()}
assert idle["linear"] > 3 * idle["cosine"]

# %% [markdown]
# That was a bound. The experiment: an exact field (the mixture of a few hundred digits, lecture 02), a chain cut off
# at its noisy end, and the energy distance of what comes out to real digits.

# %%
# alt: Three plots of the linear chain in black and the cosine one in violet. The signal left and the bits known fall
#   earlier on the linear chain; the distance to real digits stays at the floor until 60 percent of the linear chain's
#   steps are skipped, while the cosine one's leaves it at 40 percent and reaches 1.1 at 80.
few = train_set.images[: 40 if fast else 200].flatten(1).double()
draws = 60 if fast else 200
start = torch.randn(draws, few.shape[1], generator=seeded(0), dtype=torch.float64)
skipped = (0.0, 0.2, 0.4, 0.6, 0.8)
damage: dict[str, list[float]] = {}
for name, chain in chains.items():
    field = MixtureField(few, std=0.1, path=GaussianPath(chain))
    real, _ = field.sample(draws, seeded(1))
    damage[name] = []
    for share in skipped:
        k = torch.linspace(1 - share, 0, 26, dtype=torch.float64) * 1000
        drawn = sample_ddim(field, start, times=chain.time(k.round().long()), eta=1.0, generator=seeded(2))
        damage[name].append(energy_distance(drawn, real))
floor = 2 / draws * float(torch.cdist(real, real).mean())  # of two samples of one law

figure, (one, two, three) = plt.subplots(1, 3, figsize=(10, 2.9), layout="constrained")
for (name, chain), kind in zip(chains.items(), ("vp", "cosine"), strict=True):
    colour = SCHEDULES[kind]
    k = torch.arange(1, 1001) / 1000
    one.plot(k, chain.abar[1:], color=colour, label=name)
    two.semilogy(k, known(chain), color=colour)
    three.plot(skipped, damage[name], "o-", color=colour, label=name)
two.axhline(0.01, color=GREY, linewidth=0.8, linestyle=":")
two.set_ylim(1e-6, 10)
three.axhline(floor, color=GREY, linewidth=0.8, linestyle=":", label="floor")
one.set(xlabel="k / T", title="signal left, abar")
two.set(xlabel="k / T", title="known of the picture, bits/dim (1)")
three.set(xlabel="share of the steps skipped", title="energy distance to real digits")
one.legend(frameon=False), three.legend(frameon=False)
plt.show()
if not fast:
    assert damage["linear"][2] < damage["linear"][0] + floor / 4  # two fifths of the linear chain do nothing,
    assert damage["cosine"][2] > damage["cosine"][0] + floor / 2  # of the cosine chain something,
    assert damage["linear"][4] > 3 * floor  # four fifths of either much

# %% [markdown]
# Two fifths of the linear chain can be skipped at no cost that this experiment sees. The cosine chain pays for them.
#
# ### The cosine chain, derived
#
# On the unit circle write $\sqrt{\bar\alpha} = \cos\theta$ and $\sqrt{1 - \bar\alpha} = \sin\theta$. Data are at
# $\theta = 0$, noise at $\theta = \pi/2$, and every chain that preserves variance is a way to run along this quarter.
# Spend the steps evenly: $\theta_k = \frac\pi2 \frac kT$. Then
# $\bar\alpha_k = \cos^2\!\big(\frac\pi2\frac kT\big)$ falls almost in a straight line in the middle and is flat at both
# ends. That is lecture 02's trigonometric path.
#
# Two repairs. *At the data.* The first step would add noise of standard deviation $\sin\frac{\pi}{2T} = 0.0016$, a
# fifth of the distance $2/255$ between two pixel values: too little to be worth a step, and hard to predict. Start the
# clock a little late, at offset $h = 0.008$ (the paper's $s$):
#
# $$\bar\alpha_k = \frac{f(k)}{f(0)}, \qquad f(k) = \cos^2\Big(\frac{k/T + h}{1 + h}\,\frac\pi2\Big). \tag{2}$$
#
# Now $\sqrt{v_1}$ is just below one pixel value. *At the noise.* $f(T) = 0$, so
# $v_T = 1 - \bar\alpha_T/\bar\alpha_{T-1} = 1$: the last state would know nothing at all, and $D$ could not be read off
# a prediction of its noise. Clip $v_k$ at $0.999$.

# %%
chain = chains["cosine"]
k = torch.arange(1001, dtype=torch.float64)
f = torch.cos((k / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
assert torch.allclose(chain.abar[:-1], (f / f[0])[:-1], rtol=1e-9)  # (2), but for the clipped last step
assert float(chain.var[-1]) == 0.999
value = 2 / 255
print(f"noise of the first step, in pixel values: {float(chain.var[1].sqrt()) / value:.2f} with the offset, ", end="")
print(f"{math.sin(math.pi / 2000) / value:.2f} without; DDPM's linear chain {0.01 / value:.2f}")
assert 0.5 < float(chain.var[1].sqrt()) / value < 1

# %% tags=["draw"]
if not fast:
    from matplotlib.figure import Figure
    from PIL import Image

    pictures, eps = train_set.images[:8], torch.randn(8, 1, 8, 8, generator=seeded(3))
    film, frames = Figure(figsize=(6.4, 2.6), layout="constrained"), []
    panels = film.subplots(2, 1)
    for step in range(0, 1001, 25):
        for axes, (name, chain) in zip(panels, chains.items(), strict=True):
            mean, variance = forward(chain, pictures, step)
            row = (mean + variance.sqrt() * eps)[:, 0].permute(1, 0, 2).reshape(8, -1)
            axes.clear()
            axes.imshow(-row, cmap="Greys_r", vmin=-1.6, vmax=1.6)
            bits = float(known(chain)[max(step, 1) - 1])
            axes.set_title(f"{name:6s} k = {step:4d}   {min(bits, 9.99):.2f} bits/dim known", loc="left", fontsize=9)
            axes.axis("off")
        film.savefig(buffer := io.BytesIO(), dpi=80)
        frames.append(Image.open(buffer).convert("RGB").quantize(16, dither=Image.Dither.NONE))
    frames[0].save(
        "images/08_chains.gif",
        save_all=True,
        append_images=frames[1:],
        duration=[500, *[110] * (len(frames) - 2), 1500],
        loop=0,
        optimize=True,
    )

# %% [markdown]
# ![Two rows of eight digits that dissolve in noise. On the linear chain they are gone half-way, on the cosine chain
# only near the end.](images/08_chains.gif)
#
# ## 2. The best variance of a step
#
# A reverse step is $p_\theta(x_j \mid x_k) = \mathcal N(\mu(x_k, D), \sigma^2 I)$, with the posterior's mean $\mu$ and
# $D \approx \mathbb E[x_0 \mid x_k]$ in the place of $x_0$. DDPM fixes $\sigma^2$ at one of two values. With
# $v = 1 - \bar\alpha_k / \bar\alpha_j$, the variance of $x_k$ given $x_j$ (it is $v_k$ for $j = k - 1$), they are
#
# $$\text{large: } v, \qquad \text{small: } \tilde v = v\,\frac{1 - \bar\alpha_j}{1 - \bar\alpha_k},
# \quad\text{the posterior's.}$$
#
# Which is right? Ask the bound. Write $c = \sqrt{\bar\alpha_j}\, v / (1 - \bar\alpha_k)$, the factor of $x_0$ in $\mu$.
#
# > **Theorem 1 (the best variance).** Let $1 \le j < k$. For any function $D$ of $x_k$, the expected term
# > $\mathbb E\,\mathrm{KL}(q(x_j \mid x_k, x_0) \,\|\, p_\theta(x_j \mid x_k))$ is least for
# >
# > $$\sigma_*^2 = \tilde v + \frac{c^2}{d}\,\mathbb E\lvert x_0 - D\rvert^2, \tag{3}$$
# >
# > and is $\frac d2 \log(\sigma_*^2 / \tilde v)$ there. If $\sigma^2$ may depend on $x_k$ and on the component, replace
# > the mean by the conditional one: $\sigma_{*,i}^2(x_k) = \tilde v + c^2\,\mathbb E[(x_{0,i} - D_i)^2 \mid x_k]$.
#
# **Proof.** Two Gaussians with variances $\tilde v$, $\sigma^2$ and means that differ by $c\,(x_0 - D)$:
#
# $$\mathbb E\,\mathrm{KL} = \frac d2\Big[\frac{\tilde v}{\sigma^2} - 1 - \log\frac{\tilde v}{\sigma^2}\Big] +
# \frac{c^2\, \mathbb E\lvert x_0 - D\rvert^2}{2\sigma^2} = \frac d2\Big[\frac{\sigma_*^2}{\sigma^2} - 1 -
# \log\frac{\tilde v}{\sigma^2} \Big] .$$
#
# With $r = \log\sigma^2$ the bracket is $\sigma_*^2 e^{-r} + r$ plus a constant. It is strictly convex, and its
# derivative $1 - \sigma_*^2 e^{-r}$ vanishes at $e^r = \sigma_*^2$. Insert it. The same for each $x_k$ and each
# component. $\blacksquare$
#
# So the variance is the posterior's, plus what $D$ does not know of the data, seen through $c$. A network with a worse
# $D$ needs a larger variance: there is no right one without the network.
#
# For the best $D$ of all, $\mathbb E[x_0 \mid x_k]$, this is the variance that lecture 07 bounded in its Theorem 3. If
# the data have a variance $s^2 \le 1$ a component, as all data in $[-1, 1]$ have, then
# $\tilde v \le \sigma_*^2 \le v$, with equality on the left for data that are one point, and on the right for white
# data. For $\mathcal N(m, s^2 I)$
#
# $$\sigma_*^2 = \tilde v + c^2\,\frac{s^2 (1 - \bar\alpha_k)}{\bar\alpha_k s^2 + 1 - \bar\alpha_k} . \tag{4}$$
#
# The left panel below says where $\sigma_*^2$ lies between the two, on a scale of logarithms:
# $\sigma_*^2 = v^\lambda\, \tilde v^{1 - \lambda}$.


# %%
# alt: Left, the place of the best variance against k: at 1 throughout for a Gaussian of width 1, falling from 1 for
#   narrower ones, the sooner the narrower, and at 0 for digits until it rises to 0.3 at the end. Right, the ratio of
#   both fixed variances: it climbs to 1, ten times sooner in k / T for T = 1000 than for 100.
def best_variance(chain: Chain, k: int, error: Tensor | float) -> Tensor:
    """(3) for the step from k to k - 1 and an error E|x_0 - D|^2 / d."""
    one = torch.ones(1, 1, dtype=torch.float64)
    c, small = posterior(chain, 0 * one, one, k)  # the mean for x_k = 0 and x_0 = 1 is c
    return (small + c**2 * error).squeeze()


def share(chain: Chain, k: int, error: Tensor | float) -> float:
    """The lambda with best variance = large^lambda small^(1 - lambda)."""
    small, large = best_variance(chain, k, 0.0), chain.var[k]
    return float((best_variance(chain, k, error) / small).log() / (large / small).log())


chain = chains["cosine"]
ks = [2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 700, 900, 990]
abar = chain.abar
field = MixtureField(few, std=0.0, path=GaussianPath(chain))  # finite data: a picture is known before k = 0
points = few[torch.randint(len(few), (draws,), generator=seeded(4))]
curves: dict[str, list[float]] = {}
for s in (1.0, 0.5, 0.1):
    gaussian = [s**2 * (1 - abar[k]) / (abar[k] * s**2 + 1 - abar[k]) for k in ks]
    curves[f"Gaussian, s = {s}"] = [share(chain, k, error) for k, error in zip(ks, gaussian, strict=True)]
curves["digits"] = []
for k in ks:
    x = field.path.sample(points, chain.time(k), start)
    curves["digits"].append(share(chain, k, (field.data(x, chain.time(k)) - points).square().mean()))
assert all(abs(value - 1) < 1e-5 for value in curves["Gaussian, s = 1.0"])  # white: the large variance, at every step
assert all(-1e-9 <= value <= 1 + 1e-5 for curve in curves.values() for value in curve)  # between the two
assert min(curves["Gaussian, s = 0.5"][:4]) > 0.95  # next to the data a width of 0.5 needs the large variance,
assert max(curves["digits"][:4]) < 0.05  # known digits the small one

# Theorem 1 at one step: means that differ by c 0.14, variances from half to twice the best
one, star = torch.ones(1, 1, dtype=torch.float64), best_variance(chain, 50, 0.14**2)
tried = star * torch.logspace(-1, 1, 201, base=2, dtype=torch.float64)
(true_mean, true_variance), (model_mean, _) = (posterior(chain, one, x0 * one, 50) for x0 in (0.5, 0.36))
models = torch.distributions.Normal(model_mean, tried.sqrt())
cost = torch.distributions.kl_divergence(torch.distributions.Normal(true_mean, true_variance.sqrt()), models)[0]
assert abs(float(tried[cost.argmin()] / star) - 1) < 0.01
assert abs(float(cost.min() - 0.5 * (star / true_variance).log())) < 1e-4

figure, (one, two) = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
for (name, curve), colour in zip(curves.items(), (INK, BLUE, GREY, ACCENT), strict=True):
    one.semilogx(ks, curve, "o-", markersize=3, color=colour, label=name)
one.set(xlabel="k (of T = 1000)", ylabel="λ: 0 small, 1 large", title="Where the best variance lies")
one.legend(frameon=False)
for steps, colour in ((100, GREY), (1000, INK)):
    other = Chain.of(Cosine(), steps)
    inner = torch.arange(2, steps + 1)
    ratio = (1 - other.abar[inner - 1]) / (1 - other.abar[inner])
    two.semilogx(inner / steps, ratio, color=colour, label=f"T = {steps}")
two.set(xlabel="k / T", ylabel="small / large", title="Both fixed variances differ next to the data only")
two.legend(frameon=False)
plt.show()

# %% [markdown]
# In the left panel, data of positive width need the large variance next to the data, where the noise is narrower than
# they are. The two hundred digits need the small one: a finite set of pictures, known by heart, is told apart long
# before $k = 0$. A network that meets a new digit cannot do that (section 4).
#
# The right panel says two things. Away from the data both variances agree, so a sampler with a thousand steps hardly
# cares. And the more steps, the shorter the stretch where they differ. But that stretch is where the bound is spent.
#
# ## 3. The bound, term by term
#
# From lecture 07,
#
# $$\begin{aligned}-\log p_\theta(x_0) \;\le\; &\underbrace{\mathrm{KL}(q(x_T \mid x_0) \,\|\, \mathcal N(0,
# I))}_{L_T} \\ &+ \sum_{k = 2}^T \underbrace{\mathbb E\,\mathrm{KL}(q(x_{k-1} \mid x_k, x_0) \,\|\, p_\theta(x_{k-1}
# \mid x_k))}_{L_{k-1}} \underbrace{-\,\mathbb E\log p_\theta(x_0 \mid x_1)}_{L_0} .\end{aligned}$$
#
# $L_T$ is (1) at $k = T$: nothing to learn. The terms in between are two Gaussians each. The last one needs thought.
#
# **The decoder.** Pixels are integers $0 \dots 255$, put on a grid of spacing $2/255$ in $[-1, 1]$. A Gaussian is a
# density, and densities of discrete data mean nothing: narrow it around the grid, and it grows without end. So give to
# each pixel value the probability of its *bin*,
#
# $$p_\theta(x_0 \mid x_1) = \prod_i \int_{\delta_-(x_{0,i})}^{\delta_+(x_{0,i})} \mathcal N(x; \mu_i, \sigma_1^2)\, dx,
# \qquad \delta_\pm(x) = x \pm \tfrac1{255}, \quad \delta_+(1) = \infty,\ \delta_-(-1) = -\infty . \tag{5}$$
#
# The outer bins reach to infinity, so the 256 probabilities sum to one, whatever $\mu$ and $\sigma$. Then
# $-\log_2 p / d$ is the length of a real code in **bits per pixel** (arithmetic coding reaches it, and bits-back
# coding reaches the whole bound: lecture 09, section 4), and storing the pixels as they are takes 8. At $k = 1$ the
# posterior has no variance. There the library's small variance *and* its large one are the posterior's of the step
# before, from 2 to 1, as in Ho et al.'s code.
#
# In practice: $\Phi(a) - \Phi(b)$ is $0$ or $1 - 1$ a few standard deviations away, and its logarithm is lost. The
# library takes logarithms first, on the side where both are small.

# %%
show_source(discretised_log_prob)

# %%
values = (2 * torch.arange(256, dtype=torch.float64) / 255 - 1)[:, None]
for mean, std in ((0.3, 0.001), (-0.7, 0.05), (1.4, 0.5), (0.0, 30.0)):
    log_prob = discretised_log_prob(values, torch.tensor(mean).double(), torch.tensor(std).double())
    print(f"mean {mean:4.1f}, std {std:6.3f}: total {float(log_prob.exp().sum()):.12f}", end="")
    print(f", the least probable value costs {-float(log_prob.min()) / math.log(2):10.0f} bits")
    assert abs(float(log_prob.exp().sum()) - 1) < 1e-10
    if std > 0.3:  # where a bin is narrow, its probability is the density times its width
        density = torch.distributions.Normal(mean, std).log_prob(values) + math.log(2 / 255)
        assert (log_prob - density)[1:-1].abs().max() < 0.1

# %% [markdown]
# ### What the variance costs
#
# Where everything is known, the cost can be seen without a network. Data: two narrow Gaussians on a line, whose
# entropy is known; $D$ is exact; the variance of each step is the small one, the large one, or the best one of Theorem
# 1 for each $x_k$. One more row takes the large one for the last step too, $\sigma_1^2 = v_1$. For data that are no
# pixels, the last term is a density (`levels=None`).


# %%
def posterior_variance(field: MixtureField, x: Tensor, chain: Chain, k: int) -> Tensor:
    """var(x_0 | x_k) on a line: the derivative of D, times (1 - abar) / sqrt(abar) (lecture 02, Theorem 5)."""
    slope = torch.func.vmap(torch.func.grad(lambda x: field.data(x[None], chain.time(k)).sum()))(x)
    return (1 - chain.abar[k]) / chain.abar[k].sqrt() * slope


def learned_perfectly(field: MixtureField, chain: Chain):
    """The reversal with exact mean and the best variance of each x_k: Theorem 1."""

    def step(x: Tensor, y: Tensor | None, k: int, j: int):
        mean, small = posterior(chain, x, field.data(x, chain.time(k)), k, j)
        c = posterior(chain, torch.zeros(1, 1).double(), torch.ones(1, 1).double(), k, j)[0]
        return mean, small + c**2 * posterior_variance(field, x, chain, k)

    return step


chain = Chain.of(Cosine(), 30)
line = MixtureField(torch.tensor([[-0.8], [0.7]]).double(), 0.15, path=GaussianPath(chain))
z, _ = line.sample(2000 if fast else 200_000, seeded(8))
for k in (2, 10, 20, 29):  # what D does not know: on average over x_k it is the squared error of D
    x = line.path.sample(z, chain.time(k), torch.randn(z.shape, generator=seeded(9), dtype=z.dtype))
    missed, variance = (line.data(x, chain.time(k)) - z).square(), posterior_variance(line, x, chain, k)
    assert abs(float((missed - variance).mean())) < 5 * float((missed - variance).std()) / len(z) ** 0.5

count = 500 if fast else 4000
rows: dict[str, list[float]] = {"small": [], "large": [], "large, the last step too": [], "best": []}
errors: dict[str, list[float]] = {name: [] for name in rows}
lengths = (10, 40) if fast else (10, 30, 100, 300)
for steps in lengths:
    chain = Chain.of(Cosine(), steps)
    line = MixtureField(torch.tensor([[-0.8], [0.7]]).double(), 0.15, path=GaussianPath(chain))
    z, _ = line.sample(count, seeded(5))
    entropy = -line.log_prob(z, 1.0) / math.log(2)
    reversals = {
        "small": fixed_reverse(line, chain, "small"),
        "large": fixed_reverse(line, chain, "large"),
        "large, the last step too": partial(reverse, line, chain, variance="large"),
        "best": learned_perfectly(line, chain),
    }
    for name, row in rows.items():
        bound = variational_bound(reversals[name], chain, z, levels=None, generator=seeded(6)).total
        row.append(float((bound - entropy).mean()))
        errors[name].append(float((bound - entropy).std()) / count**0.5)
print("bound minus entropy, bits/dim, for T =", *(f"{steps:7d}" for steps in lengths))
for name, row in rows.items():
    print(f"{name:32s}", *(f"{value:7.3f}" for value in row))
print(f"all figures are uncertain by at most ± {max(map(max, errors.values())):.3f}")
for name, row in rows.items():
    assert all(value > -4 * error for value, error in zip(row, errors[name], strict=True)), name  # it is a bound
if not fast:
    best, last = rows["best"], rows["large, the last step too"]
    assert best[0] > 5 * errors["best"][0]
    assert abs(best[-1]) < best[0] / 4  # the gap closes with more steps ...
    # ... and stays where a variance is wrong for ever
    assert min(rows["small"]) > 0.5
    assert min(rows["large"]) > 0.1
    assert abs(last[-1]) < last[0] / 10  # the large variance is wrong in the last step only

# %% [markdown]
# With the best variance the gap closes as $T$ grows: between narrow steps the reversal *is* Gaussian. With the small
# one it does not close, however many steps there are. The reason is in the right panel above: near the data the ratio
# small/large depends on $k$ alone, about $\frac{k - 1}{k}$ on a chain that starts evenly, and by Theorem 1's proof a
# wrong ratio $\rho = \sigma_*^2/\sigma^2$ costs $\frac12(\rho - 1 - \log\rho)$ nats per component, at every $T$. The
# large one is nearly right there, since these data have a width. What it loses is lost in the last step, whose
# variance by custom is a small one; with $v_1$ there the gap closes like $1/T$, as in lecture 07.
#
# So how many steps the large variance needs depends on the data, and blank paper has no width at all: its best variance
# is the small one.
#
# ## 4. Learn it
#
# Section 2 says where to look: between $\tilde v$ and $v$. Let the network have twice the channels. One half is
# $\hat\varepsilon$, as before, so that the model is a `Field` and nothing in lectures 01 to 07 sees a difference. The
# other half is $\lambda$, for each component:
#
# $$\sigma_i^2(x_k) = \exp\big(\lambda_i \log v + (1 - \lambda_i) \log \tilde v\big). \tag{6}$$
#
# Near the data $\tilde v$ and $v$ span orders of magnitude together as $k$ varies, but $\lambda$ stays of order one;
# that is why the network predicts it and not the variance.
#
# **Which loss?** $L_\text{simple}$ does not contain the variance. The bound does; but its weight on the error of
# $\hat\varepsilon$ differs from that of $L_\text{simple}$ by orders of magnitude, and the pictures suffer (lecture 07).
# So take both, and stop the gradient: inside the bound the mean is detached, and only $\lambda$ learns from it,
#
# $$L_\text{hybrid} = L_\text{simple} + 0.001\; L_\text{vlb}, \qquad
# L_\text{vlb} = T\,\mathbb E_k[L_{k-1}] \text{ in bits/dim}.$$
#
# The weight is small because $\lambda$ needs little, and shares all layers with $\hat\varepsilon$.

# %%
show_source(LearnedVariance.moments, step_losses)

# %%
# the bound's gradient reaches the half that says the variance, and not the other
small = {
    "data": "digits",
    "guided": False,
    "chain": 200,
    "steps": 500,
    "net_args": {"channels": (32, 64), "depth": 1, "patch": 1, "dim": 128},
}
run = trained("iddpm-hybrid", name="digits-L_hybrid", **small)
model = run.field
images = train_set.images[:16]
model.requires_grad_(True)
_, bound = step_losses(
    model, images, None, torch.arange(1, 17), torch.randn(16, 1, 8, 8, generator=seeded(7)), levels=17
)
bound.sum().backward()
head = model.net.net.head.weight.grad  # (2 channels, ...): the noise, then lambda
print(f"gradient of the bound in the last layer: noise {head[0].norm():.1e}, variance {head[1].norm():.1e}")
assert float(head[0].norm()) == 0 < float(head[1].norm())
model.zero_grad()
model = model.requires_grad_(False)

# %% [markdown]
# Now the bits. The same network, the same $\hat\varepsilon$, three variances; test digits, all 200 steps. $D$ is
# clipped to $[-1, 1]$, where pictures are: at the noisy end an error of $\hat\varepsilon$ is one of $D$ that is
# $1/\sqrt{\bar\alpha_T}$ times as large, and the bound would pay for it. For the $8 \times 8$ digits of 17 values,
# storing the pixels takes $\log_2 17 = 4.09$ bits.

# %%
many = 8 if fast else 50
table: dict[str, Tensor] = {}
for variance in ("small", "large", "learned"):
    table[variance] = bound_of_test_set(run.field, test_set, images=many, variance=variance).double()
print(f"bits/dim of {many} test digits (L_hybrid, cosine chain, T = 200); storing takes {math.log2(17):.2f}")
for variance, terms in table.items():
    total = terms.sum(1)
    parts = (terms[:, 0].mean(), terms[:, 1:-10].sum(1).mean(), terms[:, -10:-1].sum(1).mean(), terms[:, -1].mean())
    print(f"{variance:8s} {total.mean():.3f} ± {total.std() / many**0.5:.3f}   ", end="")
    print("prior {:.4f}, k > 10 {:.3f}, k = 2 ... 10 {:.3f}, decoder {:.3f}".format(*parts))
if not fast:
    totals = {name: float(terms.sum(1).mean()) for name, terms in table.items()}
    assert totals["learned"] < min(totals["small"], totals["large"])

# %%
# alt: Left, the terms of the bound on logarithmic axes: three lines that peak at k = 2 and fall together; the learned
#   one is lowest there and highest at k = 1. Right, the median of the learned position falls from 0.8 to 0.2 within a
#   pink band that fills nearly all between 0 and 1 for small k.
figure, (one, two) = plt.subplots(1, 2, figsize=(10, 3.1), layout="constrained")
k = torch.arange(1, 201)
for (name, terms), colour in zip(table.items(), (GREY, INK, ACCENT), strict=True):
    one.loglog(k, terms[:, 1:].mean(0).flip(0).clamp_min(1e-6), color=colour, label=name)
one.set(xlabel="k", ylabel="bits/dim", title="Each term of the bound")
one.legend(frameon=False)
shares = []
noisy = torch.randn(many, 1, 8, 8, generator=seeded(8))
for step in k.tolist():
    mean, variance = forward(model.chain, test_set.images[:many], step)
    with torch.no_grad():
        shares.append(model.both(mean + variance.sqrt() * noisy, model.chain.time(step))[1].flatten())
shares = torch.stack(shares)
ink = (test_set.images[:many] > -1).flatten()
blank, stroke = (float(shares[4][part].mean()) for part in (~ink, ink))
print(f"k = 5: mean λ where the picture is blank {blank:.2f}, where there is ink {stroke:.2f}")
if not fast:
    assert blank < 0.3 < 0.7 < stroke
low, middle, high = (shares.quantile(q, dim=1) for q in (0.1, 0.5, 0.9))
two.fill_between(k, low, high, color=ACCENT, alpha=0.2, linewidth=0, label="80 % of the pixels")
two.semilogx(k, middle, color=ACCENT, label="median")
two.axhline(0, color=GREY, linewidth=0.8), two.axhline(1, color=GREY, linewidth=0.8)
two.set(xlabel="k", ylabel="λ: 0 small, 1 large", title="What the network has learned")
two.legend(frameon=False)
plt.show()
if not fast:
    thumbnail = Figure(figsize=(6.4, 4.0), dpi=50, layout="constrained")
    axes = thumbnail.subplots()
    for (name, terms), colour in zip(table.items(), (GREY, INK, ACCENT), strict=True):
        axes.loglog(k, terms[:, 1:].mean(0).flip(0).clamp_min(1e-4), color=colour, linewidth=3, label=name)
    axes.set_title("what each step costs, in bits", fontsize=16)
    axes.legend(frameon=False, fontsize=14)
    thumbnail.savefig("images/08.png")

# %% [markdown]
# The terms fall over three orders of magnitude: the bound is spent next to the data, on detail that no eye sees. There
# the learned variance differs from both fixed ones, and from pixel to pixel: blank paper is known for sure (small), the
# grey values of a stroke are not (large).
#
# ## 5. Why the bound is a noisy loss
#
# If bits are what one wants, why not train on $L_\text{vlb}$ alone? Because of the left panel. Write $\ell_k$ for the
# term of step $k$, $L_{k-1}$ above. Training draws a $k$, and takes $T \ell_k$ as an estimate of the sum. When a few
# terms carry the sum, most draws are far too small and a few far too large. The noise of a gradient is measured by the
# **gradient-noise scale** (McCandlish et al. 2018): with the covariance $\Sigma$ of one sample's gradient and the true
# gradient $G$,
#
# $$B = \frac{\operatorname{tr}\Sigma}{\lvert G\rvert^2},$$
#
# the batch at which noise and signal are of equal size. From $n$ batches of size $M$ with gradients $g_i$ and mean
# $\bar g$: $\operatorname{tr}\Sigma \approx \frac M{n - 1}\sum\lvert g_i - \bar g\rvert^2$ and
# $\lvert G\rvert^2 \approx \lvert\bar g\rvert^2 - \operatorname{tr}\Sigma / (Mn)$. Both are unbiased if the samples of
# a batch are independent. Ours are not quite: the $k$ of a batch are drawn in strata, one from each of $M$ equal shares
# of the probability, so that batches differ less. What is measured below is the noise that such a batch really has,
# times its size: somewhat less than the $\operatorname{tr}\Sigma$ of independent samples.
#
# ### The best way to draw $k$
#
# Draw $k$ with probability $p_k$ and weight its term by $1 / (T p_k)$:
# $\sum_k p_k \frac{T \ell_k}{T p_k} = \sum_k \ell_k$, for every $p > 0$. So the mean does not depend on $p$. The noise
# does.
#
# > **Theorem 2 (importance sampling).** Of all $p$, the second moment of $\ell_k / p_k$, with $k \sim p$, is least for
# >
# > $$p_k \propto \sqrt{\mathbb E \ell_k^2}, \qquad\text{and is}\quad \Big(\sum_k \sqrt{\mathbb E \ell_k^2}\Big)^2
# > \quad\text{instead of}\quad T \sum_k \mathbb E \ell_k^2 \ \text{ for the uniform } p . \tag{7}$$
#
# **Proof.** The second moment is $\sum_k p_k\, \mathbb E \ell_k^2 / p_k^2 = \sum_k m_k / p_k$ with $m_k = \mathbb E
# \ell_k^2$. By Cauchy and Schwarz, and as $\sum p_k = 1$,
#
# $$\Big(\sum_k \sqrt{m_k}\Big)^2 = \Big(\sum_k \sqrt{\tfrac{m_k}{p_k}}\,\sqrt{p_k}\Big)^2 \le \sum_k \frac{m_k}{p_k},$$
#
# with equality if and only if $\sqrt{m_k / p_k}$ is proportional to $\sqrt{p_k}$, that is, $p_k \propto \sqrt{m_k}$.
# The mean is the same for all $p$, so the variance is least too. $\blacksquare$
#
# Mind the square *inside* the mean: $\sqrt{\mathbb E \ell_k^2}$, not $\mathbb E \ell_k$, because a term that is noisy
# in itself deserves more draws. The same proof for gradients gives
# $p_k \propto \sqrt{\mathbb E \lvert\nabla \ell_k\rvert^2}$; the loss stands in for it, because it costs nothing.
# $\mathbb E \ell_k^2$ changes as the network learns, so it is estimated from the last ten losses of each $k$; until
# every $k$ has ten, draws are uniform.

# %%
show_source(LossSecondMoment.probabilities, LossSecondMoment.sample)


# %%
def resampler(terms: Tensor) -> LossSecondMoment:
    """The library's way of drawing, told of ten losses of each step: `terms` (10, T), of k = 1 ... T."""
    sampler = LossSecondMoment(terms.shape[1])
    for row in terms:
        sampler.update(torch.arange(1, terms.shape[1] + 1), row)
    return sampler


terms = table["learned"][:, 1:].flip(1)[: 8 if fast else 10]  # of the network above, k = 1 first
if fast:
    terms = torch.cat([terms, terms[:2]])
m, mean = terms.square().mean(0), terms.mean(0)
uniform, least = float(len(m) * m.sum()), float(m.sqrt().sum() ** 2)
print(f"second moment of the estimate, uniform over best: {uniform / least:.1f}")
k, weights = resampler(terms).sample(200_000, seeded(9))  # the weights are 1 / (T p_k)
estimates = {"mean": len(m) * weights * mean[k - 1], "second moment": (len(m) * weights) ** 2 * m[k - 1]}
for (name, values), truth in zip(estimates.items(), (float(mean.sum()), least), strict=True):
    print(f"{name} of {len(k):,} weighted draws: {float(values.mean()):.4f}, by the formula {truth:.4f}")
    assert abs(float(values.mean()) / truth - 1) < 0.01  # unbiased, and as noisy as (7) says: a thousandth is uniform

# %% [markdown]
# And the noise of the gradients: $L_\text{simple}$, $L_\text{hybrid}$, $L_\text{vlb}$ with uniform $k$, and
# $L_\text{vlb}$ with a resampler that has seen ten losses of each $k$. All at the same weights, those of a network
# after 60 steps: later the true gradient of $L_\text{simple}$ is too small to be measured with forty batches. Once on
# the cosine chain and, for the bound, once more on the linear one. Which step carries how much of the uniform second
# moment is printed first.


# %%
def noise_and_signal(loss, parameters: list[Tensor], batches: int, size: int) -> tuple[float, float]:
    """tr(Sigma) of stratified batches, times their size, and |G|^2 without its share, from `batches` gradients."""
    rows = []
    for i in range(batches):
        z = train_set.images[torch.randint(len(train_set), (size,), generator=seeded(i))]
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss(z, seeded(1000 + i)), parameters)]))
    stack = torch.stack(rows).double()
    trace = size * stack.var(0).sum()
    return float(trace), float(stack.mean(0).square().sum() - trace / (size * batches))


noise: dict[str, dict[str, float]] = {}
top: dict[str, float] = {}  # the largest share of one step in the uniform second moment
for schedule in ("cosine", "vp"):
    settings = {**small, "steps": 60, "schedule": schedule}
    young = trained("iddpm-hybrid", name=f"digits-L_hybrid-early-{schedule}", **settings).field
    seen = variational_bound(young.reverse, young.chain, train_set.images[:10], levels=17, generator=seeded(10)).terms
    seen = seen.flip(1)[:, :200]  # k = 1 first, as in training: nothing is clipped
    m = seen.double().square().mean(0)
    shares = m / m.sum()
    top[schedule] = float(shares.max())
    leading = ", ".join(f"k = {int(k) + 1}: {float(shares[k]):.1%}" for k in shares.argsort(descending=True)[:4])
    print(f"{'linear' if schedule == 'vp' else schedule} chain: of the second moment under uniform draws {leading}")
    print(f"  uniform over best, by (7): {float(len(m) * m.sum() / m.sqrt().sum() ** 2):.0f}")
    resampled = LearnedVariance(young.net, young.path, resampler(seen)).eval()  # in eval it keeps its losses
    young.requires_grad_(True)
    losses = {
        "L_simple": partial(variational_loss, young, weight=0.0, levels=17),
        "L_hybrid": partial(variational_loss, young, levels=17),
        "L_vlb": partial(variational_loss, young, kind="vlb", levels=17),
        "L_vlb, importance": partial(variational_loss, resampled, kind="vlb", levels=17),
    }
    noise[schedule], parameters = {}, list(young.parameters())
    for name, loss in losses.items():
        if schedule == "vp" and name in ("L_simple", "L_hybrid"):
            continue
        noise[schedule][name], signal = noise_and_signal(
            lambda z, g, loss=loss: loss(z, generator=g), parameters, 4 if fast else 40, 32
        )
        scale = noise[schedule][name] / signal
        sizes = f"tr(Sigma) {noise[schedule][name]:9.2g}   |G|² {signal:9.2g}"
        print(f"  {name:18s} {sizes}   noise scale {scale:8.1f} images")
    young.requires_grad_(False)
if not fast:
    gains = {schedule: found["L_vlb"] / found["L_vlb, importance"] for schedule, found in noise.items()}
    print(f"importance sampling divides the noise of L_vlb by {gains['cosine']:.0f} and {gains['vp']:.1f}")
    assert top["cosine"] > 0.99
    assert gains["cosine"] > 100
    assert top["vp"] < 0.7
    assert 1.4 < gains["vp"] < 10

# %% [markdown]
# On either chain the last two rows have the same $G$, and importance sampling takes noise away: nearly all of it on
# the cosine chain, half of it on the linear one. The shares say why. On the cosine chain one step has more than 99 %
# of the second moment under uniform draws, the clipped last one, $k = T$. Uniform draws meet it once in two hundred,
# and these two rows measure little more than that. On the linear chain the steps next to the data have it, $k = 2$
# more than half.
#
# There (7) promises a factor of sixteen, and the rows show two. (7) is about the second moment of the *loss*, the rows
# about the variance of the *gradient*, for which the loss only stands in. A draw that is best for the loss need not be
# best for the gradient; here it is better than the uniform one.
#
# On the cosine chain, do not compare the third row with the first two. Both noise and signal of the bound are tens of
# millions of times those of $L_\text{simple}$. This young network is far from the bound's minimum, most of all at the
# noisiest step, where an error of $\hat\varepsilon$ is one of $D$ that is $1/\sqrt{\bar\alpha_T}$ times as large; and
# all samples pull in that one direction. The paper found the noise scale of $L_\text{vlb}$ far *above* that of
# $L_\text{hybrid}$, on natural images and in long trainings. Which of the two is larger depends on where one stands.
#
# **Does it pay?** Train the same network on $L_\text{vlb}$ alone, with and without importance sampling, for the same
# 500 steps. (The bound is the loss here, nothing is detached.)

# %%
runs = {
    "L_hybrid": run,
    "L_vlb": trained("iddpm-vlb", name="digits-L_vlb", importance=False, **small),
    "L_vlb, importance": trained("iddpm-vlb", name="digits-L_vlb-by-importance", **small),
}
bits = {name: bound_of_test_set(one.field, test_set, images=many).double().sum(1) for name, one in runs.items()}
for name, total in bits.items():
    print(f"{name:18s} {total.mean():.3f} ± {total.std() / many**0.5:.3f} bits/dim")

# %% [markdown]
# A few hundred steps of a small network, one training each. In this run $L_\text{hybrid}$ needs the fewest bits, and
# importance sampling, for all the noise that it takes away, makes no difference that can be told from chance. The
# paper found $L_\text{vlb}$ hard to optimise on natural images, importance sampling a large help, and, after hundreds
# of thousands of steps, the best bits. A short training is another regime, and that is a result too.
#
# The comparison with seeds and spread, on MNIST, for both chains, every variance and every loss, takes 45 minutes of
# one core. Its results lie in [`tables/08_bits.md`](tables/08_bits.md), with the command that made them. Bits/dim with
# the learned variance, mean and standard deviation over three seeds:
#
# | chain | $L_\text{hybrid}$ | $L_\text{vlb}$ | $L_\text{vlb}$, importance |
# |---|---|---|---|
# | linear | 2.296 ± 0.009 | 2.127 ± 0.007 | 2.035 ± 0.007 |
# | cosine | 2.213 ± 0.006 | 2.222 ± 0.043 | 2.235 ± 0.035 |
#
# On the linear chain the published order holds: the bound itself gives fewer bits than the hybrid, and importance
# sampling fewer still. On the cosine chain the three cannot be told apart after four hundred steps.
#
# ## 6. Few steps, with a variance that was learned for all of them
#
# A step from $k$ to $j < k - 1$ has its own small and large variance, $\tilde v$ and $v$ above, which are known. What
# was learned is $\lambda$, a *position between them*. So use it there too:
# $\sigma^2 = v^\lambda\, \tilde v^{1 - \lambda}$ with the strided $\tilde v$ and $v$. Nothing is trained again. With
# few steps $\tilde v$ and $v$ differ over the whole chain, and now the choice matters for the pictures.

# %%
amount, feature = (80 if fast else 300), test_set.images.flatten(1)
some = torch.randperm(len(train_set), generator=seeded(11))[:amount]  # the first ones come from a few writers
floor = frechet_distance(train_set.images[some].flatten(1), feature)
budgets = (4, 8) if fast else (5, 10, 20)
print(f"Fréchet distance on pixels to the test set; {amount} training digits: {floor:.2f}")
print("steps              ", *(f"{steps:6d}" for steps in budgets))
quality: dict[str, list[float]] = {}
for name, method in {"small": "ddpm", "large": "ddpm-large", "learned": "ddpm-learned", "DDIM": "ddim"}.items():
    quality[name] = [
        frechet_distance(run.sample(count=amount, method=method, steps=steps).clamp(-1, 1).flatten(1), feature)
        for steps in budgets
    ]
    print(f"{name:19s}", *(f"{value:6.2f}" for value in quality[name]))
strided = {
    name: [
        float(bound_of_test_set(run.field, test_set, images=many, variance=name, steps=steps).sum(1).mean())
        for steps in budgets
    ]
    for name in ("small", "large", "learned")
}
print("\nbound of the strided chain, bits/dim")
for name, row in strided.items():
    print(f"{name:19s}", *(f"{value:6.2f}" for value in row))
if not fast:
    assert all(strided["learned"][i] < min(strided["small"][i], strided["large"][i]) for i in range(len(budgets)))
    assert all(row[-1] < totals[name] for name, row in strided.items())  # fewer bits than with all steps

# %% [markdown]
# Two measures, two verdicts, of one network. In bits the learned variance wins at every number of steps. In the
# distance of the pictures the order changes with the number of steps, and the differences are small: what the variance
# adds in one step, the next one mostly takes away. DDIM, which adds nothing, is near the best at five and ten steps
# and ahead at twenty.
#
# And in this run twenty steps need *fewer* bits than two hundred. By Theorem 1 a step with the best variance
# costs $\frac12\log(1 + c^2 e / \tilde v)$ per component, where $e = \mathbb E\lvert x_0 - D\rvert^2/d$, and
# $c^2/\tilde v$ is the step's gain in SNR (lecture 07). Cut into more steps, $c^2 e / \tilde v$ is shared
# out, and a sum of logarithms of small shares is larger than one logarithm of the whole. For an exact $D$ the chain
# rule for entropies corrects that; a network after five hundred steps pays it in full.
#
# ## 7. Bits without steps, and pixels in bins
#
# **The question.** Section 6 ended with a bound that depends on how many steps one counts. What is left of it when the
# steps get ever finer? And can that be trained on?
#
# **Intuition.** A step pays for what it gains in SNR, times the squared error of $D$ (lecture 07, equation (7)). Write
# $\Lambda = \log\mathrm{SNR}$. A short step gains $\mathrm{SNR}\, d\Lambda$, and SNR times the squared error of $D$ is
# the squared error of the noise. So a step costs $\frac12\, d\Lambda$ times the squared error of the noise, and nothing
# in this knows how many steps there are, or which schedule has led here.
#
# From here on $z$ is the data point $x_0$, and $x = \alpha z + \beta\varepsilon$ as in lectures 01 to 06, with
# $\mathrm{SNR} = \alpha^2/\beta^2$. On a chain $\alpha^2 = \bar\alpha_k$ and $\beta^2 = 1 - \bar\alpha_k$.
#
# > **Theorem 3 (the bound without steps; Kingma et al. 2021, equation 15).** Fix $\Lambda_- < \Lambda_+$. Let
# > $\hat\varepsilon$ be a function of $x$ and $\Lambda$ for which
# > $\mathcal E(\Lambda) = \frac1d\, \mathbb E\lvert\varepsilon - \hat\varepsilon\rvert^2$ is finite and continuous on
# > $[\Lambda_-, \Lambda_+]$. Take chains with log SNR $\Lambda_- = \Lambda_T < \dots < \Lambda_1 = \Lambda_+$, the
# > small variance for all steps down to $k = 1$, and the decoder $\mathcal N(D, (\beta/\alpha)^2 I)$ from there. If
# > $\max_k (\Lambda_{k-1} - \Lambda_k) \to 0$ as $T \to \infty$, then the mean of the bound $L$ over the data tends to
# >
# > $$\frac Ld \;\to\; \tfrac12\int_{\Lambda_-}^{\Lambda_+} \mathcal E(\Lambda)\, d\Lambda \;+\;
# > \tfrac1d\,\mathbb E\,\mathrm{KL}\big(q(x_T \mid z)\,\big\|\,\mathcal N(0, I)\big) \;+\;
# > \tfrac12\big[\mathcal E(\Lambda_+) + \log 2\pi - \Lambda_+\big] . \tag{8}$$
#
# **Proof.** Write $\Delta_k = \Lambda_{k-1} - \Lambda_k$. With the small variance the term of step $k$ is, by equation
# (8) of lecture 07, in the mean and for each component $\frac12 (e^{\Delta_k} - 1)\, \mathcal E(\Lambda_k)$. For
# $0 \le \Delta \le 1$ we have $\Delta \le e^\Delta - 1 \le \Delta + \Delta^2$. So as soon as all
# $\Delta_k \le 1$, the sum of these terms is $\frac12 \sum_k \Delta_k\, \mathcal E(\Lambda_k)$ and at most
#
# $$\tfrac12 \sum_k \Delta_k^2\, \mathcal E(\Lambda_k) \;\le\; \tfrac12\, \max_k \Delta_k\; (\Lambda_+ -
# \Lambda_-)\, \max \mathcal E \;\to\; 0$$
#
# more; $\max\mathcal E$ is finite, since $\mathcal E$ is continuous on a closed interval. What remains is a Riemann sum
# of a continuous function and tends to the integral. The ends do not depend on $T$. The first is $L_T$. The decoder
# costs $\frac1{2d}\frac{\alpha^2}{\beta^2}\lvert z - D\rvert^2 + \frac12 \log \frac{2\pi\beta^2}{\alpha^2}$ for each
# component. From $x = \alpha z + \beta\varepsilon = \alpha D + \beta\hat\varepsilon$ follows
# $\frac\alpha\beta (z - D) = \hat\varepsilon - \varepsilon$, and $\beta^2/\alpha^2 = e^{-\Lambda_+}$. $\blacksquare$
#
# What it says:
#
# - **The schedule drops out**, but for its two ends. Two paths with the same SNR differ by a factor of $x$, which a
#   network can undo.
# - **Uniform $\Lambda$ with the plain error of the noise trains on the bound itself**, but for $\mathcal E(\Lambda_+)$
#   at the end: $\int \mathcal E\, d\Lambda$ is $\Lambda_+ - \Lambda_-$ times the mean of $\mathcal E$ at a uniform
#   $\Lambda$, without weights. $L_\text{simple}$ is the same loss with $\Lambda$ drawn as its chain has it.
# - **Each unit of $\Lambda$ costs $\mathcal E / (2 \log 2)$ bits/dim.** The curve of $\mathcal E$ shows where bits go.
#
# One thing does not seem to fit. In section 3 the small variance left a gap that no number of steps closed, and here it
# is right in the limit. There the ends move with $T$: on a chain that starts evenly
# $\Delta_k \approx \log\frac k{k - 1}$, so the step from $k = 2$ has $\Delta_2 \approx \log 2$ for every $T$. Here the
# ends stand still. So take section 3's two Gaussians once more, on chains that are even in $\Lambda$, and beside them
# the library's version of (8). It draws one $\Lambda$ in each of a number of cells, and gives a column for each end and
# each cell.

# %%
show_source(continuous_bound, noise_errors)


# %%
def even_chain(low: float, high: float, steps: int) -> Chain:
    """The chain whose states k = T ... 1 lie evenly in log SNR, from `low` to `high`: abar = sigmoid(log SNR)."""
    log_abar = torch.nn.functional.logsigmoid(torch.linspace(high, low, steps, dtype=torch.float64))
    return Chain(-torch.expm1(log_abar.diff(prepend=torch.zeros(1, dtype=torch.float64))))


def small_steps(field: MixtureField, chain: Chain):
    """The reversal of Theorem 3: the small variance, and a decoder of variance beta^2 / alpha^2."""

    def step(x: Tensor, y: Tensor | None, k: int, j: int):
        D = field.data(x, chain.time(k))
        return posterior(chain, x, D, k, j) if j else (D, (1 - chain.abar[1]) / chain.abar[1])

    return step


low, high, two_points = -8.0, 12.0, torch.tensor([[-0.8], [0.7]]).double()
z, _ = MixtureField(two_points, 0.15).sample(500 if fast else 10_000, seeded(12))
limit: dict[str, Tensor] = {}
for name, schedule in {"linear": Linear(), "cosine": Cosine()}.items():
    line = MixtureField(two_points, 0.15, path=GaussianPath(schedule))
    limit[name] = continuous_bound(line, z, low=low, high=high, generator=seeded(13)).sum(1)
    entropy = -line.log_prob(z, 1.0)
assert torch.allclose(limit["linear"], limit["cosine"], atol=1e-6)  # the schedule drops out, for each point
excess = limit["linear"] - entropy
print(f"(8) minus entropy, nats: {float(excess.mean()):.3f} ± {float(excess.std()) / len(z) ** 0.5:.3f}")
assert abs(float(excess.mean())) < 4 * float(excess.std()) / len(z) ** 0.5  # of an exact field it is tight
gap = []
for steps in (15, 50) if fast else (15, 50, 150, 500):
    chain = even_chain(low, high, steps)
    line = MixtureField(two_points, 0.15, path=GaussianPath(chain))
    bound = variational_bound(small_steps(line, chain), chain, z, levels=None, generator=seeded(14)).total
    gap.append(float((bound * math.log(2) - entropy).mean()))
    print(f"chain of T = {steps:3d}, small variance, minus entropy: {gap[-1]:.3f}")
if not fast:
    assert gap[0] > 1
    assert all(2 < before / after < 7 for before, after in pairwise(gap))  # a third of the gap, or less
    assert gap[-1] < gap[0] / 20

# %% [markdown]
# The gap of the small variance closes about like $1/T$, and a bound that has no steps has none to lose. It asks the
# field 31 times for each data point, and what is left of chance is in its "±".
#
# ### Pixels in bins
#
# (8) is about densities, and section 3 has said what a density does on a grid of pixel values. There the decoder got
# bins. The other remedy fills them: $z$ is the picture plus noise that is uniform in $[-\delta, \delta]$, where
# $\delta = 1/(V - 1)$ is half the distance of two of the $V$ pixel values (**dequantisation**; Theis et al. 2016). A
# model's probability of a picture is then the integral of its density $p$ over the cube of width $2\delta$ around it,
# that is $(2\delta)^d$ times the mean of $p(z)$ over that noise. By Jensen's inequality
#
# $$-\log P(\text{picture}) = -\log \mathbb E\, p(z) - d \log 2\delta \;\le\;
# -\mathbb E\log p(z) - d \log 2\delta . \tag{9}$$
#
# So bits/dim with that noise are an upper bound of those of the pixels, equal only if $p$ is constant on the cube.
#
# Now stand where a pixel's value is already clear, and only its noise is not. What can a denoiser know?
#
# > **Theorem 4 (pixels in bins).** Let $\alpha, \beta > 0$.
# >
# > (a) For one pixel, $z$ uniform in $[m - \delta, m + \delta]$. With $\xi = (x - \alpha m)/\beta$ and
# > $\kappa = \alpha\delta/\beta = \delta\, e^{\Lambda/2}$,
# >
# > $$p_m(x) = \frac{\Phi(\xi + \kappa) - \Phi(\xi - \kappa)}{2\alpha\delta}, \quad
# > \mathbb E_m[\varepsilon \mid x] = \frac{\phi(\xi - \kappa) - \phi(\xi + \kappa)}{\Phi(\xi + \kappa) - \Phi(\xi -
# > \kappa)}, \quad
# > \mathbb E_m[z - \varepsilon \mid x] = \frac{x - \beta\,\mathbb E_m[\varepsilon \mid x]}\alpha -
# > \mathbb E_m[\varepsilon \mid x],$$
# >
# > where $\phi$ and $\Phi$ are the standard Gaussian's density and distribution function.
# >
# > (b) For a picture of any law of its values, with noise in the bins that is independent of everything, let
# > $P(m \mid x)$ be the probability that pixel $i$ has the value $m$ given the *whole* noisy picture $x$, and $x_{-i}$
# > all of it but pixel $i$. Then
# >
# > $$\mathbb E[z_i - \varepsilon_i \mid x] = \sum_m P(m \mid x)\; \mathbb E_m[z_i - \varepsilon_i \mid x_i], \qquad
# > P(m \mid x) \propto P(m \mid x_{-i})\; p_m(x_i) . \tag{10}$$
#
# **Proof.** (a) Substitute $z = (x - \beta b)/\alpha$, where $b$ is a possible value of the noise. From
# $x = \alpha m + \beta\xi$ follows $\alpha (z - m) = \beta(\xi - b)$, so $z$ is in its bin just when
# $\lvert b - \xi\rvert \le \kappa$. There the joint density of $z$ and $x$ is
# $\frac1{2\delta}\, \frac1\beta\, \phi\big(\frac{x - \alpha z}\beta\big) = \frac1{2\delta\beta}\, \phi(b)$, and
# $\lvert dz\rvert = \frac\beta\alpha\, db$. Integrated over $z$ it is $p_m(x)$. So given $x$ the noise is a standard
# Gaussian cut off at $\xi \pm \kappa$, and as $b\,\phi(b) = -\phi'(b)$, its mean is the one stated. The last equation
# is $z = (x - \beta\varepsilon)/\alpha$ in the mean.
#
# (b) The first equation is total expectation over the value of pixel $i$, if
# $\mathbb E[z_i - \varepsilon_i \mid x, m] = \mathbb E_m[z_i - \varepsilon_i \mid x_i]$. It is: once the value is
# given, $z_i$, $\varepsilon_i$ and with them $x_i$ are functions of noise that is independent of all other pixels. For
# the same reason the density of $x$ given $m$ is $p(x_{-i} \mid m)\, p_m(x_i)$, and Bayes' rule gives the second
# equation. $\blacksquare$
#
# So a network need not learn where bins end. It has to say how likely the values of each pixel are, given the others;
# the rest is (10). That is the library's `PixelMixture`: logits from a U-Net, plus $\log p_m(x_i)$, through a softmax.
# Values too many to have a bin each are left to a few Gaussians. The quotient in (a) is $0/0$ in floating point when
# $x$ is far from the bin. With $R = (1 - \Phi)/\phi$, Mills' ratio, and $a_\pm = \lvert\xi\rvert \pm \kappa$, we have
# $\phi(a_+) = \phi(a_-)\, e^{-2\lvert\xi\rvert\kappa}$, since
# $\frac12 (a_-^2 - a_+^2) = -2\lvert\xi\rvert\kappa$. Divide by $\phi(a_-)$: for $\xi \ge 0$
#
# $$\mathbb E_m[\varepsilon \mid x] = \frac{1 - e^{-2\xi\kappa}}{R(a_-) - R(a_+)\, e^{-2\xi\kappa}} ,$$
#
# and the opposite for $-\xi$. The library takes $-10$ for an $a_-$ below it: so deep in a bin no end is in sight.

# %%
show_source(bin_posterior, PixelMixture.forward)

# %%
# (10) for one pixel of 17 values, some likely and some not, against a sum over a fine grid of z
levels = 17
delta = 1 / (levels - 1)
centres = torch.linspace(-1, 1, levels, dtype=torch.float64)
likely = torch.softmax(2 * torch.randn(levels, generator=seeded(15), dtype=torch.float64), dim=0)
inside = (torch.arange(4001, dtype=torch.float64) - 2000) / 2000.5 * delta  # the middles of 4001 parts of a bin
x = torch.linspace(-1.1, 1.1, 50, dtype=torch.float64)[:, None]
for log_snr in (-2.0, 4.0, 7.0, 11.0):
    alpha = torch.tensor(log_snr / 2).double().sigmoid()
    beta = 1 - alpha
    log_density, means = bin_posterior(x, centres, delta, alpha, beta)  # p_m(x), and the mean of z - eps, for each m
    found = (torch.softmax(likely.log() + log_density, dim=1) * means).sum(1)
    grid = centres[:, None] + inside
    log_weight = likely.log()[:, None] - ((x[..., None] - alpha * grid) / beta).square() / 2
    D = (torch.softmax(log_weight.flatten(1), dim=1) * grid.flatten()).sum(1)
    expected = D - (x[:, 0] - alpha * D) / beta
    print(f"log SNR {log_snr:4.1f}: formula and sum differ by at most {float((found - expected).abs().max()):.0e}")
    assert (found - expected).abs().max() < 1e-3

# (9): what the noise in the bin costs, for models of one pixel that are Gaussians of so many half bins
for width in (0.5, 1.0, 2.0):
    law = torch.distributions.Normal(delta / 2, width * delta)
    whole = -float((law.cdf(torch.tensor(delta)) - law.cdf(torch.tensor(-delta))).log2())
    noisy = float(bits_per_dim(law.log_prob(inside).mean()[None], 1, levels))
    print(f"width {width}: the pixel's value costs {whole:.2f} bits, with noise in its bin {noisy:.2f}")
    assert whole < noisy

# %% [markdown]
# ### What a perfect denoiser cannot know
#
# Given its bin, the error of the noise in (a) is a function of $\kappa$ alone, since $\xi = \varepsilon + \kappa\,(z -
# m)/\delta$. Call it $\mathcal E_\text{bin}$. When $\kappa$ is small, $x$ says nothing of the place within the bin, $z$
# keeps its variance $\delta^2/3$, and $\mathcal E_\text{bin} \approx \kappa^2/3$. When $\kappa$ is large, the noise is
# narrow beside the bin: $x$ may be any place in it and any noise, and $\mathcal E_\text{bin} \to 1$. This costs half a
# nat for each unit of $\Lambda$, without end, and the last term of (8) takes it back. In all, a pixel whose bin is
# known should cost nothing: $-\log p(z) = \log 2\delta$, and 0 bits by (9). Subtract that from (8): but for the ends,
#
# $$\text{bits/dim} \;=\; \frac1{2\log 2} \int \big[\mathcal E(\Lambda) - \mathcal E_\text{bin}(\Lambda)\big]\,
# d\Lambda . \tag{11}$$
#
# **Bits are the area between two curves.** Where a model's curve lies on $\mathcal E_\text{bin}$ it pays nothing.


# %%
def bin_error(log_snr: float) -> float:
    """The error of the noise of a perfect denoiser of one pixel that is known to lie in the bin around 0."""
    z = (torch.arange(200, dtype=torch.float64) + 0.5)[:, None] / 200 * delta  # the other half is its mirror image
    eps = torch.linspace(-6, 6, 401, dtype=torch.float64)
    alpha = torch.tensor(log_snr / 2).double().sigmoid()
    x = alpha * z + (1 - alpha) * eps
    guess = x - alpha * bin_posterior(x, torch.zeros(1).double(), delta, alpha, 1 - alpha)[1]
    return float(((guess - eps).square() * torch.softmax(-eps.square() / 2, dim=0)).sum(1).mean())


low, high, cells = -8.0, 22.0, 30
middles = low + (high - low) / cells * (torch.arange(cells, dtype=torch.float64) + 0.5)
least = torch.tensor([bin_error(middle) for middle in middles.tolist()], dtype=torch.float64)
end = (bin_error(high) + math.log(2 * math.pi) - high) / 2
free = float(bits_per_dim(-((high - low) / cells * least.sum() / 2 + end)[None], 1, levels))
print(f"(8) of a pixel whose bin is known: {free:.5f} bits")
assert abs(free) < 1e-3
assert abs(bin_error(-2.0) / (math.exp(-2) * delta**2 / 3) - 1) < 1e-3  # kappa^2 / 3
for n in (levels, 256):
    edge = 2 * math.log(n - 1)  # kappa = 1
    later = 1 - float(torch.tensor(edge / 2).double().sigmoid())
    print(f"{n} values: kappa = 1 at log SNR {edge:.1f}; of uniform times on the linear path {later:.2%} come after it")
    assert abs(later - 1 / n) < 1e-9

# %% [markdown]
# The last lines say why an ordinary flow loses bits here. On the linear path $e^{\Lambda/2} = t/(1 - t)$, and of
# uniform times a share of $1 - t$ comes after $t$. At $\kappa = 1$ that is one in $V$: with 256 values one draw in 256
# is for the whole stretch in which a pixel finds its place in its bin, and one in a hundred for $\Lambda > 9.2$.
#
# ### The experiment
#
# Three networks for the $8 \times 8$ digits, $V = 17$, a hundred steps each, with noise in the bins and the same U-Net
# but for what goes in and out. The first predicts a velocity and is trained on its error in uniform time. The second
# predicts a velocity too, but is trained by (8): the error of the noise that follows from it, at uniform $\Lambda$ from
# $-6$ to $8$. The third is the recipe `digits-likelihood`, cut short: the second, with the mixture of Theorem 4 in it.

# %%
short = {"guided": False, "dequantise": True, "steps": 100}
nets = {
    "velocity, uniform t": trained("digits", name="digits-velocity", time="uniform", **short).field,
    "velocity, uniform Λ < 8": trained(
        "digits", name="digits-even", time="logit-uniform", time_high=4.0, measure="noise", **short
    ).field,
    "mixture, uniform Λ < 8": trained("digits-likelihood", steps=100).field,
}

# %%
many = 8 if fast else 150
pixels = test_set.images[:many]
filled = pixels + (2 * torch.rand(pixels.shape, generator=seeded(16)) - 1) * delta
dims, unit = pixels[0].numel(), 2 * math.log(2)
curve: dict[str, Tensor] = {}
stretches: dict[str, list[float]] = {}
print(f"bits/dim of {many} test digits: in all, and above a known bin for log SNR < 4, 4 to 10, > 10")
for name, net in nets.items():
    nats = continuous_bound(net, filled, low=low, high=high, cells=cells, generator=seeded(17)).double()
    total = bits_per_dim(-nats.sum(1), dims, levels)
    curve[name] = nats[:, 1:-1].mean(0) * 2 / dims * cells / (high - low)
    above = (curve[name] - least) * (high - low) / cells / unit
    ends = float((nats[:, 0] + nats[:, -1]).mean() / dims - end) / math.log(2)
    assert abs(float(above.sum()) + ends - float(total.mean())) < 0.01  # (11), with the ends
    stretches[name] = [float(above[part].sum()) for part in (middles < 4, abs(middles - 7) < 3, middles > 10)]
    parts = "".join(f"{bits:7.2f}" for bits in stretches[name])
    print(f"{name:25s} {float(total.mean()):.2f} ± {float(total.std()) / many**0.5:.2f}{parts}")
late = {name: float(found[middles > 12].mean()) for name, found in curve.items()}
print("error of the noise for log SNR > 12: " + "; ".join(f"{name}: {error:.3f}" for name, error in late.items()))
if not fast:
    plain, even, mixture = stretches.values()
    assert max(plain[0], even[0], mixture[0]) < min(plain[0], even[0], mixture[0]) + 0.2  # as long as values are open
    assert min(plain[1], even[1]) > mixture[1] + 0.15  # while the bins close in
    assert mixture[2] < 0.2  # where they are known
    assert min(plain[2], even[2]) > 0.5
    assert abs(late["mixture, uniform Λ < 8"] - 1) < 0.02
    assert late["velocity, uniform t"] > 1.03
    assert late["velocity, uniform Λ < 8"] > 1.06

# %%
# alt: Left, four curves that rise from 0 with the log SNR. The dashed one, of a known bin, rises last, from 0.1 at 4 to
#   0.9 at 9, and stays at 1; the red one of the mixture meets it at 12; the velocities', black and blue, go on to 1.08
#   and 1.16. Right, their distance from the dashed curve: three like humps up to 4, then the red one falls to 0, the
#   others to 0.06 and 0.13 and stay there.
figure, (one, two) = plt.subplots(1, 2, figsize=(10, 3.1), layout="constrained")
one.plot(middles, least, color=GREY, linestyle="--", label="perfect, bin known")
one.fill_between(middles, least, curve["mixture, uniform Λ < 8"], color=ACCENT, alpha=0.15, linewidth=0)
for (name, found), colour in zip(curve.items(), (INK, BLUE, ACCENT), strict=True):
    one.plot(middles, found, color=colour, label=name)
    two.plot(middles, (found - least) / unit, color=colour, label=name)
two.axhline(0, color=GREY, linestyle="--")
for axes in (one, two):
    axes.axvline(2 * math.log(levels - 1), color=GREY, linewidth=0.8, linestyle=":")
one.set(xlabel="log SNR Λ (dotted: κ = 1)", title="squared error of the noise", ylim=(0, None))
two.set(xlabel="log SNR Λ", title="bits/dim for each unit of Λ, above a known bin")
one.legend(frameon=False)
plt.show()

# %% [markdown]
# The shaded area is what the mixture pays, by (11). As long as values are open, for $\Lambda < 4$, the three pay nearly
# the same. They part where the bins close in. Beyond $\Lambda = 10$ the noise is narrow beside a bin, the value of
# nearly every pixel is clear, and there is nothing left to pay for. Yet the first network goes on paying, for all the
# rest of the way: its error is larger than 1, which is that of the guess $\hat\varepsilon = 0$. What its velocity is
# off by, $\hat\varepsilon = x - \alpha u$ is off by too, and few of its times lie there. Other times and another loss
# alone do not mend that: the second network pays still more where it has not been. The third, trained at the same
# times, lies on the dashed curve. (One training each, and a short one.)
#
# On MNIST, with 256 values and longer trainings, the same is measured by bound and ODE. MNIST's figures are in [one
# table](tables/08_likelihood.md) and [another](tables/08_where.md). A [third](tables/08_variants.md) has the three
# networks of this section after 300 steps, three seeds each: 1.106 ± 0.006 bits/dim with the mixture, 4.2 ± 0.3 with a
# velocity at either times.
#
# ### What fails here
#
# *The bound is the SDE's.* Turn an exact flow: add to the velocity of $\mathcal N(0, I)$ in the plane the rotation
# $\tau J x$, where $J$ turns by a right angle. It has no divergence and moves no mass of a round density, so the ODE
# has the same density at every time, and its likelihood (lecture 03, section 9) stays the true one. But
# $\hat\varepsilon = x - \alpha u$ on the linear path is now off by $\alpha\tau\lvert x\rvert$, and (8) pays for it:
# $\frac12 \int \tau^2\alpha^2 (\alpha^2 + \beta^2)\, d\Lambda$ for each component, and the like at the end.


# %%
class Turned(torch.nn.Module):
    """The velocity of N(0, I) in the plane on the linear path, turned."""

    turn = 0.5

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        alpha, beta = t[:, None], 1 - t[:, None]
        return (alpha - beta) / (alpha**2 + beta**2) * x + self.turn * torch.stack([-x[:, 1], x[:, 0]], dim=1)


flow = Model(Turned(), GaussianPath(Linear()))
z = torch.randn(500 if fast else 4000, 2, generator=seeded(18), dtype=torch.float64)
truth = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
difference = log_likelihood(flow, z[:200], steps=50) - truth[:200]
beyond = continuous_bound(flow, z, low=-8, high=12, generator=seeded(19)).sum(1) + truth
places = torch.linspace(-8, 12, 2001, dtype=torch.float64)
alpha = (places / 2).sigmoid()
paid = Turned.turn**2 * alpha**2 * (alpha**2 + (1 - alpha) ** 2)
paid = float(torch.trapezoid(paid, places) + paid[-1])  # of both components, each half
off = float(beyond.std()) / len(z) ** 0.5
print(f"log likelihood of the ODE: off by at most {float(difference.abs().max()):.0e} nats")
print(f"the bound is {float(beyond.mean()):.2f} ± {off:.2f} nats above the truth, by the formula {paid:.2f}")
assert difference.abs().max() < 1e-6
assert abs(float(beyond.mean()) - paid) < 4 * off
assert paid > 10 * off

# %% [markdown]
# So the two are likelihoods of two models that share a network; which of them is lower is not settled by a theorem
# here. Both are of a density with noise in its bins, and by (9) the pixels themselves cost no more than that.
#
# *A network that is asked later than it was trained extrapolates.* The second network has seen no $\Lambda > 8$. Beyond
# it is worse than a guess of $\hat\varepsilon = 0$, whose error is 1, and (8) charges that for each unit of $\Lambda$.
# The mixture was trained at the same times, but there its formulas speak. The library also stops telling its U-Net the
# time once $\beta/\alpha < \delta/e$, which lies within these times: what it is told has been seen. Whether that is
# needed has not been measured here.
#
# ## 8. Change this
#
# - In section 1, replace `Cosine()` by `Cosine(offset=0.1)`. Predict what happens to $v_1$, and to the number of idle
#   steps. Then run.
# - In section 3, make the two Gaussians wider, `0.5` instead of `0.15`. Which fixed variance gains? (Equation (4).)
# - In section 4, train with `weight` 1 instead of 0.001 (write a loop around `variational_loss`). Which half suffers?
# - In section 7, train the second network with `time_high=11.0`, at nearly all $\Lambda$ that it is asked for. Predict
#   where its curve gets better and where worse. Then run.

# %%
offset = 0.1  # <- change this number
print(f"offset {offset}: first step {float(Chain.of(Cosine(offset)).var[1].sqrt()) / value:.2f} pixel values")

# %% [markdown]
# ## 9. What fails, and why
#
# - **The mean is not detached.** The loss goes down, the bits too, and $L_\text{simple}$ gets worse: the bound's
#   weights pull $\hat\varepsilon$ towards the last few steps.
# - **Interpolating variances instead of logarithms.** Between $\tilde v = 10^{-5}$ and $v = 2 \cdot 10^{-5}$ it is
#   nearly the same. But a network output outside $[0, 1]$ then gives a negative variance; with logarithms it is always
#   positive.
# - **A density in the place of (5).** The decoder's term falls without end as $\sigma_1 \to 0$ around pixel values.
# - **Nats where bits are meant.** $0.001\, L_\text{vlb}$ is in bits/dim; in nats per picture it is
#   $d \log 2 \approx 540$ times as much on MNIST, and swamps $L_\text{simple}$.
# - **Weights left out.** Steps drawn by $p_k$ and not weighted by $1/(T p_k)$ minimise another loss, $\sum p_k \ell_k$.
# - **Weighted losses in the history.** The resampler must be told $\ell_k$, not $\ell_k / (T p_k)$: those are all
#   alike, and the draws return to uniform.
#
# ## Summary
#
# - Steps that know nothing of the picture are wasted; the cosine chain goes round the circle at constant speed.
# - The best variance is the posterior's plus what $D$ does not know (3). For data of variance at most one and the best
#   $D$ it lies between the two that DDPM fixes, which are right for one point and for white data.
# - The small variance leaves a gap in the bound that more steps do not close; the large one's closes like $1/T$, where
#   the data have a width. $\lambda$, learned, chooses between them for each pixel.
# - $L_\text{hybrid}$ learns the mean by $L_\text{simple}$ and the variance by the bound, whose gradient does not reach
#   the mean.
# - The bound is noisy because few terms carry it; the best draw is $p_k \propto \sqrt{\mathbb E \ell_k^2}$.
# - Without steps the bound is half of the area under the noise's error against $\Lambda$ (8). Of pixels in bins only
#   what lies above the error of a known bin costs bits (11), and a network that says how likely values are gets the
#   rest by formula (10).
#
# ## What to read next
#
# - A. Nichol and P. Dhariwal, *Improved denoising diffusion probabilistic models*, ICML 2021,
#   [arXiv:2102.09672](https://arxiv.org/abs/2102.09672): this lecture.
# - J. Ho, A. Jain and P. Abbeel, *Denoising diffusion probabilistic models*, NeurIPS 2020,
#   [arXiv:2006.11239](https://arxiv.org/abs/2006.11239): sections 3.2 and 3.3, both variances and the decoder.
# - F. Bao, C. Li, J. Zhu and B. Zhang, *Analytic-DPM: an analytic estimate of the optimal reverse variance in diffusion
#   probabilistic models*, ICLR 2022, [arXiv:2201.06503](https://arxiv.org/abs/2201.06503): Theorem 1 from the score,
#   without training.
# - D. Kingma, T. Salimans, B. Poole and J. Ho, *Variational diffusion models*, NeurIPS 2021,
#   [arXiv:2107.00630](https://arxiv.org/abs/2107.00630): section 7's bound, and a chain that is learned.
# - S. McCandlish, J. Kaplan, D. Amodei and others, *An empirical model of large-batch training*, 2018,
#   [arXiv:1812.06162](https://arxiv.org/abs/1812.06162): the gradient-noise scale.
# - L. Theis, A. van den Oord and M. Bethge, *A note on the evaluation of generative models*, ICLR 2016,
#   [arXiv:1511.01844](https://arxiv.org/abs/1511.01844): why bits and pictures can disagree.
#
# **Now you**: [Exercise 08](../exercises/08_improved_ddpm.ipynb).
