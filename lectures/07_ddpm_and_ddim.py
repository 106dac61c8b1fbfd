# %% [markdown]
# # 07. DDPM and DDIM
#
# **The question.** The program that made diffusion famous knows nothing of flows. It adds a little noise a thousand
# times, and trains a network to take it away again, a thousand times (Ho, Jain and Abbeel 2020). What has that to do
# with lectures 01 to 06? And must it be a thousand?
#
# **The answer.** It is the Gaussian path with another clock. Its sampler is one row of a family whose other end is an
# ODE solver (Song, Meng and Ermon 2021), and that end needs twenty steps.
#
# **Afterwards you can**
#
# - prove the closed form of the chain, and say how much of a picture is left after $k$ steps;
# - derive the posterior, the variational bound, and the loss $L_\text{simple}$ that is left of it;
# - sample by DDPM, and say which of its two fixed variances is right for which data;
# - prove that the chain is the VP SDE, and that DDIM is Euler's method in other coordinates;
# - encode a picture to its noise and back, and say how far the way back misses.
#
# **Time** 75 minutes of reading, 3 minutes of computing. **Before** lectures 02 and 04; lecture 01 for orders.
#
# **Notation.** $x_0$ is a data point ($z$ in other lectures and in the code), $\varepsilon$ noise; $D$ and
# $\hat\varepsilon$ are what is known of them, $\mathbb E[x_0 \mid x_k]$ and $\mathbb E[\varepsilon \mid x_k]$. Steps
# $k$ count from data, 0, to noise, $T$, and $j < k$. $v$ is the variance that a step adds and $\tilde v$ that of the
# posterior: $\beta_k$ and $\tilde\beta_k$ in the papers, but $\beta_t$ is a noise level here, as in all lectures.
# $\sigma^2$ is the variance of the model's step, $s^2$ that of the data. $\eta$ says how much noise a sampler adds, as
# in lecture 04 and not as in lecture 05.

# %%
import math
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from flowlib import VP, Cosine, GaussianPath, MixtureField, sample_ddim, sample_ode
from flowlib.chains import Chain, Clipped, encode_ddim, forward, posterior, reverse, sample_ancestral, simple_loss
from flowlib.course.notebook import fast, seeded, show_source, trained
from flowlib.data import load, toy
from flowlib.metrics import energy_distance, fit_reader, frechet_distance
from flowlib.plotting import animate, tile
from flowlib.plotting.style import ACCENT, GREY, INK, PALE, SCHEDULES
from flowlib.samplers import ddim_step


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


# %% [markdown]
# ## 1. The chain that destroys
#
# **Another clock.** The DDPM family counts steps $k = 0, \dots, T$ from data to noise. Our time runs from noise to
# data, so
#
# $$t = 1 - \frac kT.$$
#
# It also writes $\beta_k$ for the variances and $\alpha_k$ for $1 - \beta_k$. In this course $\alpha$ and $\beta$ are
# the *levels* of the path, so we write $v_k$ for the variances (`var` in the code) and
# $\bar\alpha_k = \prod_{i \le k} (1 - v_i)$ (`abar`), as everybody does.
#
# **The chain.** Start with a data point $x_0$. In each step shrink a little and add a little noise:
#
# $$x_k = \sqrt{1 - v_k}\; x_{k-1} + \sqrt{v_k}\; \varepsilon_k, \qquad \varepsilon_k \sim \mathcal N(0, I)
# \text{ independent}, \qquad 0 < v_k < 1. \tag{1}$$
#
# The factor is chosen so that a variance of 1 stays 1: $(1 - v_k) \cdot 1 + v_k = 1$. DDPM takes $T = 1000$ and lets
# $v_k$ rise in a straight line from $10^{-4}$ to $0.02$. For another $T$ multiply by $1000/T$.
#
# **Theorem 1 (closed form).** For $0 \le j < k$
#
# $$q(x_k \mid x_j) = \mathcal N\Big(\sqrt{\bar\alpha_k / \bar\alpha_j}\; x_j,\; \big(1 - \bar\alpha_k / \bar\alpha_j
# \big) I\Big), \qquad\text{in particular}\qquad x_k = \sqrt{\bar\alpha_k}\, x_0 + \sqrt{1 - \bar\alpha_k}\,
# \varepsilon. \tag{2}$$
#
# *Proof* by induction on $k$. For $k = j + 1$ it is (1), as $\bar\alpha_{j+1}/\bar\alpha_j = 1 - v_{j+1}$. Suppose it
# holds for $k - 1$, and write $r = \sqrt{\bar\alpha_{k-1}/\bar\alpha_j}$. Then
#
# $$x_k = \sqrt{1 - v_k}\,\big(r\, x_j + \sqrt{1 - r^2}\, \varepsilon\big) + \sqrt{v_k}\, \varepsilon_k .$$
#
# The two noises are independent Gaussians, so their sum is Gaussian, with variance
# $(1 - v_k)(1 - r^2) + v_k = 1 - (1 - v_k) r^2 = 1 - \bar\alpha_k/\bar\alpha_j$. The factor of $x_j$ is
# $\sqrt{1 - v_k}\, r = \sqrt{\bar\alpha_k / \bar\alpha_j}$. $\blacksquare$
#
# Compare (2) with $x_t = \alpha_t z + \beta_t \varepsilon$. **The chain is a Gaussian path, with
# $\alpha_t = \sqrt{\bar\alpha_k}$ and $\beta_t = \sqrt{1 - \bar\alpha_k}$ at $t = 1 - k/T$.** Everything that lectures
# 02 to 06 proved about Gaussian paths holds for it, but for one thing: it does not quite start at noise.
# $\alpha_0 = \sqrt{\bar\alpha_T}$ is small and not 0. DDPM starts from $\varepsilon$, and the library's samplers from
# $\beta_0\, \varepsilon$, which has the right variance around a mean of 0 in the place of $\alpha_0 x_0$. For our
# chains the two starts differ by less than $10^{-4}$.

# %%
chain = Chain.linear(1000)
print(chain, f" abar_T = {float(chain.abar[-1]):.2e}")

x, moments = normal(0, 2000, 2), (1.0, 0.0)  # moments: the factor of x_0, and the variance, step by step
for k in range(1, 1001):
    moments = (moments[0] * (1 - float(chain.var[k])) ** 0.5, moments[1] * (1 - chain.var[k]) + chain.var[k])
    mean, variance = forward(chain, x, k)
    assert torch.allclose(mean, moments[0] * x, atol=1e-10)
    assert abs(float(variance - moments[1])) < 1e-10

t = chain.time(torch.arange(1001))
assert torch.allclose(chain.alpha(t) ** 2, chain.abar, rtol=1e-12)  # the chain is a Schedule: alpha, beta of t
assert torch.allclose(chain.beta(t) ** 2, 1 - chain.abar, atol=1e-12)
assert 0 < 1 - float(chain.beta(t[-1])) < 1e-4  # both starts; the mean that is left out is
assert 0.006 < float(chain.alpha(t[-1])) < 0.007
show_source(forward)

# %% [markdown]
# ## 2. How much is left?
#
# If $x_0$ has mean 0 and variance 1, then $x_k$ is $\bar\alpha_k$ parts signal and $1 - \bar\alpha_k$ parts noise:
# $\mathrm{SNR}_k = \bar\alpha_k/(1 - \bar\alpha_k)$. What does that mean for a picture? Two answers.
#
# - **Bits a number.** If a number is Gaussian, $x_k$ tells $\frac12 \log_2(1 + \mathrm{SNR}_k)$ bits about it.
# - **Bits about which picture.** Take $N$ real digits. Which of them was noised? The posterior is known exactly: the
#   digits are a mixture with standard deviation 0. The mutual information of the digit's number and $x_k$ is
#   $\mathbb E \log_2 \frac{p(x_k \mid i)}{p(x_k)}$, at most $\log_2 N$. The fraction is exact, its mean is taken over
#   $N$ draws.
#
# Nichol and Dhariwal (2021) saw that the linear chain destroys too fast: its last steps work on pure noise. Their
# chain follows a cosine, $\bar\alpha_k \propto \cos^2\big(\frac{k/T + 0.008}{1.008} \frac\pi2\big)$, with $v_k$ cut
# off at 0.999. In the library it is the chain of the schedule `Cosine`.

# %%
# alt: Three plots over k of the linear chain in black and the cosine one in violet: the share of signal, the
#   signal-to-noise ratio, and the bits known of the digit. In all three the linear curve falls much earlier.
digits = load("digits")
count = 100 if fast else 300
images = digits.images[:count].flatten(1).double()
chosen, noise = torch.randint(count, (count,), generator=seeded(1)), normal(2, count, 64)
chains = {"linear": chain, "cosine": Chain.of(Cosine(), 1000)}
ks = torch.arange(0, 1001, 50)[1:]


def bits(chain: Chain, k: int) -> float:
    """What x_k tells about which of the digits it was, in bits."""
    field, t = MixtureField(images, 0.0, path=GaussianPath(chain)), chain.time(k)
    x = field.path.sample(images[chosen], t, noise)
    return float((field.log_prob(x, t, chosen) - field.log_prob(x, t)).mean()) / math.log(2)


left = {name: [bits(c, int(k)) for k in ks] for name, c in chains.items()}
colours = {"linear": SCHEDULES["vp"], "cosine": SCHEDULES["cosine"]}
figure, axes = plt.subplots(1, 3, figsize=(10, 2.9), layout="constrained")
for name, c in chains.items():
    axes[0].plot(c.abar, color=colours[name], label=name)
    axes[1].semilogy(c.abar / (1 - c.abar), color=colours[name])
    axes[2].plot(ks, left[name], "o-", ms=3, color=colours[name])
axes[0].set(title=r"$\bar\alpha_k$", xlabel="$k$")
axes[0].legend(frameon=False)
axes[1].set(title="SNR", xlabel="$k$", ylim=(1e-5, 1e5))
axes[2].axhline(math.log2(count), color=GREY, linestyle=":", zorder=0)
axes[2].set(title=f"Which of {count} digits? Bits", xlabel="$k$")
plt.show()
for k in (100, 300, 500, 700):
    print(f"k = {k}: " + ", ".join(f"{name} {left[name][k // 50 - 1]:5.2f} bits" for name in chains))
if not fast:
    assert left["linear"][13] < 0.2 < 1 < left["cosine"][13]  # at k = 700
    assert all(a > b - 0.1 for line in left.values() for a, b in pairwise(line))
    assert all(abs(line[0] - math.log2(count)) < 0.01 for line in left.values())  # at k = 50 nothing is lost yet

# %% [markdown]
# On the linear chain the last 300 steps are spent on one or two hundredths of the information: 30 % of the work of
# training and sampling, on noise. The cosine chain loses its bits over all of its last 700 steps. (Of course it
# depends on the picture: neighbouring pixels say the same, so larger pictures survive more noise.) The full table, for
# 1,500 digits, is [`tables/07_chains.md`](tables/07_chains.md).
#
# ## 3. The posterior: one step back, if we knew where it came from
#
# To go back from $x_k$ is hard: we do not know $q(x_{k-1} \mid x_k)$. With $x_0$ *known* it is easy. Everything is
# Gaussian then. Let $0 \le j < k$, and let $v = 1 - \bar\alpha_k/\bar\alpha_j$ be the variance of $x_k$ given $x_j$.
#
# **Theorem 2 (posterior).**
#
# $$q(x_j \mid x_k, x_0) = \mathcal N(\mu, \tilde v I), \qquad
# \mu = \frac{\sqrt{\bar\alpha_j}\; v}{1 - \bar\alpha_k}\, x_0 +
# \frac{\sqrt{\bar\alpha_k/\bar\alpha_j}\;(1 - \bar\alpha_j)}{1 - \bar\alpha_k}\, x_k, \qquad
# \tilde v = \frac{1 - \bar\alpha_j}{1 - \bar\alpha_k}\, v. \tag{3}$$
#
# *Proof.* For $j = 0$ it says that $x_j$ is $x_0$. Let $j \ge 1$. By Bayes' rule, and because $x_k$ depends on $x_0$
# only through $x_j$, $q(x_j \mid x_k, x_0) \propto q(x_k \mid x_j)\, q(x_j \mid x_0)$. As a function of $x_j$ the
# logarithm is
#
# $$-\frac{|x_k - r x_j|^2}{2v} - \frac{|x_j - \sqrt{\bar\alpha_j}\, x_0|^2}{2(1 - \bar\alpha_j)} + \text{const}
# = -\frac12 \underbrace{\Big(\frac{r^2}{v} + \frac{1}{1 - \bar\alpha_j}\Big)}_{1/\tilde v} |x_j|^2 + x_j \cdot
# \underbrace{\Big(\frac{r\, x_k}{v} + \frac{\sqrt{\bar\alpha_j}\, x_0}{1 - \bar\alpha_j}\Big)}_{\mu/\tilde v} +
# \text{const}$$
#
# with $r = \sqrt{\bar\alpha_k/\bar\alpha_j}$. A quadratic is a Gaussian. The common denominator of $1/\tilde v$ is
# $v(1 - \bar\alpha_j)$, over which stands
# $r^2 (1 - \bar\alpha_j) + v = r^2 - \bar\alpha_k + 1 - r^2 = 1 - \bar\alpha_k$. That is $\tilde v$, and times
# $\tilde v$ the other bracket is $\mu$. $\blacksquare$

# %%
z, x, x_j, k, j = normal(3, 5, 2), normal(4, 5, 2), normal(5, 5, 2), 400, 250


def log_density(at: Tensor, moments: tuple[Tensor, Tensor]) -> Tensor:
    return torch.distributions.Normal(moments[0], moments[1].sqrt()).log_prob(at)


joint = log_density(x, forward(chain, x_j, k, j)) + log_density(x_j, forward(chain, z, j))
factored = log_density(x_j, posterior(chain, x, z, k, j)) + log_density(x, forward(chain, z, k))
assert torch.allclose(joint, factored, rtol=1e-10)  # Bayes' rule, at any three points
show_source(posterior)

# %% [markdown]
# ## 4. One step back, when we do not
#
# The model replaces the unknown $x_0$ by what a network knows of it, $D = \mathbb E[x_0 \mid x_k]$, and takes a
# Gaussian for the step:
#
# $$p_\theta(x_j \mid x_k) = \mathcal N\big(\mu(x_k, D),\; \text{some variance}\big). \tag{4}$$
#
# How wrong is that? The mean is not wrong at all: $\mu$ is affine in $x_0$, so
# $\mathbb E[x_j \mid x_k] = \mathbb E\big[\mu(x_k, x_0) \mid x_k\big] = \mu(x_k, D)$. Next the variance.
#
# **Theorem 3 (between two fixed variances).** Let $c = \sqrt{\bar\alpha_j}\, v / (1 - \bar\alpha_k)$ be the factor of
# $x_0$ in (3), $s^2 = \mathbb E|x_0 - \mathbb E x_0|^2/d$ the variance of the data, and $\sigma_*^2$ the variance of
# $x_j$ given $x_k$, both as means over the $d$ components and the latter over $x_k$ too. Then
#
# $$\sigma_*^2 = \tilde v + \frac{c^2}d\, \mathbb E|x_0 - D|^2, \qquad \tilde v \le \sigma_*^2 \le \frac{v}{1 - v},
# \qquad\text{and if } s^2 \le 1 \text{, then}\quad \sigma_*^2 \le v. \tag{5}$$
#
# For $\mathcal N(m, s^2 I)$ it is $\sigma_*^2 = \tilde v + c^2 s^2 (1 - \bar\alpha_k)/(\bar\alpha_k s^2 + 1 -
# \bar\alpha_k)$: the lower bound for one point, $v$ for white data ($s = 1$), and the upper bound for $s \to \infty$.
#
# *Proof.* The equation is the law of total variance, given $x_k$, over $x_0$. So the lower bound is clear, with
# equality if $x_0$ is certain. For the upper ones, $D$ is the best estimate of $x_0$ of all. So it is at least as good
# as the best *affine* one that treats all components alike, $\mathbb E x_0 + a\,(x_k - \mathbb E x_k)$. The error of
# that, a component, is $(1 - a\sqrt{\bar\alpha_k})^2 s^2 + a^2 (1 - \bar\alpha_k)$, least at
# $a = \sqrt{\bar\alpha_k}\, s^2/(\bar\alpha_k s^2 + 1 - \bar\alpha_k)$, where it is
# $s^2 (1 - \bar\alpha_k)/(\bar\alpha_k s^2 + 1 - \bar\alpha_k)$. For Gaussian data the best estimate *is* affine. The
# fraction rises with $s^2$. At $s^2 = 1$ it is $1 - \bar\alpha_k$, and as $\bar\alpha_j (1 - v) = \bar\alpha_k$,
#
# $$\tilde v + c^2 (1 - \bar\alpha_k) = \frac{v\,(1 - \bar\alpha_j) + \bar\alpha_j v^2}{1 - \bar\alpha_k} = v\;
# \frac{1 - \bar\alpha_j (1 - v)}{1 - \bar\alpha_k} = v .$$
#
# Its limit for large $s$ is $(1 - \bar\alpha_k)/\bar\alpha_k$, and $\tilde v + c^2 (1 - \bar\alpha_k)/\bar\alpha_k =
# v/(1 - v)$ in the same way. $\blacksquare$
#
# $\tilde v$ and $v$ are DDPM's two choices, `"small"` and `"large"`; that the truth lies between them is already in
# Sohl-Dickstein et al. (2015). For single steps they hardly differ: their ratio is
# $(1 - \bar\alpha_{k-1})/(1 - \bar\alpha_k)$, close to 1 except for the smallest $k$. For strides they differ a lot.
# The bounds hold *on average* over $x_k$: where $x_k$ is undecided, as below, the variance may exceed $v$, although
# the variance of the data is 0.93.
#
# And the shape? It is a Gaussian only in the limit of small steps. Below is the exact $q(x_j \mid x_k)$ for data that
# are two Gaussians, found by Bayes' rule on a grid, beside (4) with its exact variance.

# %%
# alt: Three pairs of densities. For a short step the red Gaussian covers the grey exact one; for a longer one the grey
#   is slightly skewed; for the longest it has two humps, and the Gaussian is one wide hump over both.
path = GaussianPath(chain)
line = MixtureField(torch.tensor([[-1.1], [0.8]]).double(), 0.25, torch.tensor([0.4, 0.6]).double(), path=path)
grid = torch.linspace(-4, 4, 4001, dtype=torch.float64)[:, None]
x_k, k = torch.tensor([[0.1]], dtype=torch.float64), 400
figure, axes = plt.subplots(1, 3, figsize=(10, 2.7), layout="constrained")
divergences, excesses = [], []
for ax, j in zip(axes, (380, 250, 50), strict=True):
    mean, variance = forward(chain, grid, k, j)
    log_true = line.log_prob(grid, chain.time(j)) + log_density(x_k, (mean, variance))[:, 0]
    true = torch.softmax(log_true, 0) / float(grid[1] - grid[0])  # normalised on the grid
    average = float((true * grid[:, 0]).sum() / true.sum())
    spread = float((true * (grid[:, 0] - average) ** 2).sum() / true.sum())
    model_mean, small = reverse(line, chain, x_k, None, k, j)
    large = float(reverse(line, chain, x_k, None, k, j, "large")[1])
    assert abs(float(model_mean) - average) < 1e-6  # the mean is not wrong at all
    model = torch.distributions.Normal(average, spread**0.5).log_prob(grid[:, 0])
    divergences.append(float((true * (true.clamp_min(1e-300).log() - model)).sum() * (grid[1] - grid[0])))
    excesses.append(spread - large)
    ax.fill_between(grid[:, 0], true, color=PALE, label="exact")
    ax.plot(grid[:, 0], model.exp(), color=ACCENT, label="Gaussian")
    ax.set(xlim=(-2.2, 2.2), title=f"$k = {k} \\to {j}$: KL {divergences[-1]:.3f}", xlabel="$x_j$", yticks=[])
    print(f"k = {k} to {j}: variance {spread:.4f}, small {float(small):.4f}, large {large:.4f}")
axes[0].legend(frameon=False)
plt.show()
assert divergences[0] < 1e-4 < divergences[1] < 0.05 < divergences[2]
assert min(excesses) > 0  # at this x_k the variance is above the large one ...

z, _ = line.sample(20_000, seeded(19))
assert float(z.var()) < 1
x = path.sample(z, chain.time(k), normal(20, 20_000, 1))
zero = torch.zeros(1, 1, dtype=torch.float64)
lost = float((z - line.data(x, chain.time(k))).square().mean())  # E|x_0 - D|^2


def star(error: float, k: int, j: int) -> tuple[float, float, float]:
    """Small variance, the true one by (5), large variance."""
    c, small = (float(part) for part in posterior(chain, zero, zero + 1, k, j))
    return small, small + c**2 * error, 1 - float(chain.abar[k] / chain.abar[j])


for j in (380, 250, 50):
    small, middle, large = star(lost, k, j)
    assert 1.01 * small < middle < 0.999 * large  # ... on average it is not
    signal = float(chain.abar[k])
    gaussians = [star(s**2 * (1 - signal) / (signal * s**2 + 1 - signal), k, j)[1] for s in (0.0, 1.0, 3.0, 1e6)]
    ends = [small, large, gaussians[2], large / (1 - large)]
    assert max(abs(a - b) for a, b in zip(gaussians, ends, strict=True)) < 1e-9
    assert large < gaussians[2] < large / (1 - large)  # data wider than 1 need more than the large variance

# %% [markdown]
# **That is why DDPM takes many steps.** A long step back has a choice to make, left or right, and a Gaussian cannot
# choose.
#
# ## 5. The bound, and what is left of it
#
# Now the loss. The model starts from $p(x_T) = \mathcal N(0, I)$ and steps back with $p_\theta(x_{k-1} \mid x_k)$. We
# want $-\log p_\theta(x_0)$ small. The integral over $x_1, \dots, x_T$ cannot be computed. So we bound it. Write $q$
# for $q(x_1, \dots, x_T \mid x_0)$. By Jensen's inequality, since $-\log$ is convex,
#
# $$-\log p_\theta(x_0) = -\log \mathbb E_q \frac{p_\theta(x_0, \dots, x_T)}{q(x_1, \dots, x_T \mid x_0)} \;\le\;
# \mathbb E_q \Big[ -\log p(x_T) - \sum_{k=1}^T \log \frac{p_\theta(x_{k-1} \mid x_k)}{q(x_k \mid x_{k-1})} \Big]
# =: L.$$
#
# This is the **negative evidence lower bound**. Turn the arrows of $q$ round: for $k \ge 2$
#
# $$q(x_k \mid x_{k-1}) = q(x_k \mid x_{k-1}, x_0) = \frac{q(x_{k-1} \mid x_k, x_0)\; q(x_k \mid x_0)}{q(x_{k-1} \mid
# x_0)}.$$
#
# In the sum over $k \ge 2$ the last quotients telescope: $\sum_{k=2}^{T} \log \frac{q(x_k \mid x_0)}{q(x_{k-1} \mid
# x_0)} = \log q(x_T \mid x_0) - \log q(x_1 \mid x_0)$, and the second term cancels the $\log q(x_1 \mid x_0)$ of
# $k = 1$. What remains is
#
# $$\boxed{\;L = \mathbb E_q \Big[ \underbrace{\mathrm{KL}\big(q(x_T \mid x_0) \,\Vert\, p(x_T)\big)}_{L_T} +
# \sum_{k=2}^T \underbrace{\mathrm{KL}\big(q(x_{k-1} \mid x_k, x_0) \,\Vert\, p_\theta(x_{k-1} \mid x_k)\big)}_{L_{k-1}}
# \underbrace{- \log p_\theta(x_0 \mid x_1)}_{L_0} \Big]\;} \tag{6}$$
#
# $L_T$ has nothing to learn, and $L_0$ is a small decoder (lecture 08). The sum is everything. Each term compares two
# Gaussians, the posterior (3) and the model (4). With the same variance $\tilde v$ for both,
# $\mathrm{KL} = |\mu - \mu_\theta|^2 / 2\tilde v$; and the means differ by $c\,(x_0 - D)$. So with $j = k - 1$
#
# $$L_{k-1} = \frac{c^2}{2\tilde v}\, |x_0 - D|^2 = \frac{\bar\alpha_j\, v}{2 (1 - \bar\alpha_j)(1 - \bar\alpha_k)}\,
# |x_0 - D|^2 = \frac{\mathrm{SNR}_{k-1} - \mathrm{SNR}_k}{2}\; |x_0 - D|^2 . \tag{7}$$
#
# The last step uses $\bar\alpha_j v = \bar\alpha_j - \bar\alpha_k$ and $\mathrm{SNR} = \bar\alpha/(1 - \bar\alpha)$.
# It is worth looking at twice. *The bound is the error of $D$, paid for in signal-to-noise ratio* (Kingma et al. 2021).
# In the limit it is an integral over SNR: the schedule that leads from one end to the other drops out.
#
# **The last step to $L_\text{simple}$.** Let the network predict the noise. From (2),
# $x_0 - D = \frac{\sqrt{1 - \bar\alpha_k}}{\sqrt{\bar\alpha_k}} (\hat\varepsilon - \varepsilon)$, hence
#
# $$L_{k-1} = \frac12 \Big(\frac{\mathrm{SNR}_{k-1}}{\mathrm{SNR}_k} - 1\Big)\; |\varepsilon - \hat\varepsilon|^2 .
# \tag{8}$$
#
# The weight is largest for $k = 2$, and small where the picture is made. Ho et al. found that samples look better
# *without* it:
#
# $$L_\text{simple} = \mathbb E_{k, x_0, \varepsilon}\; \big|\varepsilon - \hat\varepsilon(x_k, k)\big|^2, \qquad k
# \text{ uniform in } 1 \dots T. \tag{9}$$
#
# It is no bound any more. It is lecture 04's denoising score matching with weight $\beta^2$, at times on a grid. The
# minimiser is the same, $\hat\varepsilon = \mathbb E[\varepsilon \mid x_k]$, for every positive weight. Only a network
# that cannot reach the minimum cares.

# %%
k, z = 400, normal(6, 1000, 2)
eps, guess = normal(7, 1000, 2), normal(8, 1000, 2)  # the noise, and a network's idea of it
x = path.sample(z, chain.time(k), eps)
D = (x - (1 - chain.abar[k]).sqrt() * guess) / chain.abar[k].sqrt()
(mu, small), (mu_model, _) = posterior(chain, x, z, k), posterior(chain, x, D, k)
true, model = (torch.distributions.Normal(m, small.sqrt()) for m in (mu, mu_model))
term = torch.distributions.kl_divergence(true, model)
snr = chain.abar / (1 - chain.abar)
assert torch.allclose(term, (snr[k - 1] - snr[k]) / 2 * (z - D) ** 2, rtol=1e-6)  # (7)
weight = (snr[1:-1] / snr[2:] - 1) / 2  # of k = 2 ... T
assert torch.allclose(term, weight[k - 2] * (eps - guess) ** 2, rtol=1e-6)  # (8)
assert weight.argmax() == 0
print(
    "weights of the noise's error at k = 2, 10, 100, 1000:", [f"{float(weight[k - 2]):.4f}" for k in (2, 10, 100, 1000)]
)
show_source(simple_loss)

# %% [markdown]
# ### A diffusion model is a variational autoencoder
#
# $L$ is the bound of a VAE (lecture 09, section 4) whose latent is the whole way $x_1, \dots, x_T$: $q$ is its
# encoder, $p(x_T) \prod_k p_\theta(x_{k-1} \mid x_k)$ its prior and decoder in one, a *hierarchy* of $T$ latents.
# Three things set it apart. The encoder is **fixed**: nothing about it is learned, so it cannot collapse, and the loss
# is a sum in which each term can be trained alone. All latents have the size of the data, so nothing is compressed.
# And one network serves all $T$ decoders. What the bound costs is, as for any VAE, the divergence between the true and
# the model's law of latents given the data. On average over the data,
#
# $$\mathbb E\, L - \mathbb E[-\log p_{data}(x_0)] = \mathrm{KL}\big(q(x_0, \dots, x_T) \,\Vert\, p_\theta(x_0, \dots,
# x_T)\big).$$
#
# (Write $q(x_0, \dots, x_T) = p_{data}(x_0)\, q(x_1, \dots, x_T \mid x_0)$ and compare with the definition of $L$.)
#
# ### How tight is the bound?
#
# For one-dimensional data $\mathcal N(0, s^2)$ everything is known: $D$ is affine, its error is
# $m_k = s^2 (1 - \bar\alpha_k) / (\bar\alpha_k s^2 + 1 - \bar\alpha_k)$, and $-\mathbb E \log p$ is the entropy
# $\frac12 \log 2\pi e s^2$. So we can put the *best possible* network into (6) and see what the bound costs, with no
# sampling at all. The variance of a step is the small one, the large one, or the true one by (5); that of the decoder
# $p_\theta(x_0 \mid x_1) = \mathcal N(D, \cdot)$ is $v_1$, or the true $m_1$.


# %%
def excess(steps: int, s: float, variance: str) -> float:
    """The bound minus the entropy, in nats, with the best network there is."""
    chain = Chain.linear(steps)
    abar, v = chain.abar, chain.var
    m = s**2 * (1 - abar) / (abar * s**2 + 1 - abar)
    prior = (abar[-1] * s**2 - abar[-1] - torch.log(1 - abar[-1])) / 2
    small = v[2:] * (1 - abar[1:-1]) / (1 - abar[2:])
    c = abar[1:-1].sqrt() * v[2:] / (1 - abar[2:])
    used = {"small": small, "large": v[2:], "true": small + c**2 * m[2:]}[variance]
    middle = (torch.log(used / small) + (small + c**2 * m[2:]) / used - 1) / 2
    last = m[1] if variance == "true" else v[1]
    decoder = (torch.log(2 * math.pi * last) + m[1] / last) / 2
    return float(prior + middle.sum() + decoder) - math.log(2 * math.pi * math.e * s**2) / 2


gaps = {(s, name): [excess(T, s, name) for T in (50, 1000, 16_000)] for s in (0.05, 0.5, 1.0)
        for name in ("small", "large", "true")}  # fmt: skip
print("T                 50       1000      16000")
for (s, name), row in gaps.items():
    print(f"s = {s:4}, {name}" + "".join(f"{max(value, 0):11.1e}" for value in row))
    assert min(row) > -1e-9  # it is a bound
    if name == "true":
        assert max(row) < 1e-9  # a Gaussian's reversal is Gaussian: no gap at all
assert gaps[0.5, "large"][2] < gaps[0.5, "large"][1] / 10 < gaps[0.5, "large"][0] / 100
assert gaps[1.0, "large"][0] < 1e-9  # Theorem 3: for standard Gaussian data the large variance is the true one
assert gaps[0.05, "small"][0] < gaps[0.05, "large"][0]  # nearer to one point the small one can be better
assert abs(gaps[0.05, "small"][2] - 0.2886) < 0.01


def joint_divergence(steps: int, s: float) -> float:
    """KL(q(x_0 ... x_T) | p(x_0 ... x_T)) of two Gaussians in T + 1 dimensions, the large variance in all steps."""
    chain = Chain.linear(steps)
    abar, levels = chain.abar, 1 - chain.abar
    later = torch.arange(steps + 1).maximum(torch.arange(steps + 1)[:, None])  # q: x_k is r x_j plus noise for k > j
    earlier = torch.arange(steps + 1).minimum(torch.arange(steps + 1)[:, None])
    q = (abar[later] / abar[earlier]).sqrt() * (abar[earlier] * s**2 + levels[earlier])
    p = torch.ones(steps + 1, steps + 1, dtype=torch.float64)  # from x_T ~ N(0, 1) downwards: x_j = f x_k + noise
    for j in range(steps - 1, -1, -1):
        k = j + 1
        c = abar[j].sqrt() * chain.var[k] / levels[k]
        gain = abar[k].sqrt() * s**2 / (abar[k] * s**2 + levels[k])  # D = gain x_k
        f = c * gain + (abar[k] / abar[j]).sqrt() * levels[j] / levels[k]
        p[j, k:] = p[k:, j] = f * p[k, k:]
        p[j, j] = f**2 * p[k, k] + chain.var[k]
    ratio = torch.linalg.solve(p, q)
    return float(ratio.trace() - steps - 1 + torch.linalg.slogdet(p)[1] - torch.linalg.slogdet(q)[1]) / 2


assert abs(joint_divergence(50, 0.5) / gaps[0.5, "large"][0] - 1) < 1e-6  # what the bound costs, all steps at once

# %% [markdown]
# With the true variance there is no gap: Gaussian data have Gaussian reversals. With the large one the gap falls like
# $1/T$. And with the small one *it does not close*, however many steps: 0.29 nats stay. It is **half of Euler's
# constant**, $0.5772/2$. For near the data all $v_k$ are nearly one $v$, so $1 - \bar\alpha_k \approx k v$: the small
# variance is $\frac{k-1}{k} v$, the true one is about $v$, and a wrong variance costs
# $\frac12(\rho - 1 - \log \rho)$ with $\rho = \frac{k}{k-1}$. The sum over $k$ is
# $\frac12 \sum \big(\frac{1}{k-1} - \log\frac{k}{k-1}\big) = \frac12 \cdot 0.5772$. Steps near the data are never
# small: there each multiplies the variance of the noise by $\frac{k}{k-1}$, whatever $T$.
#
# So no fixed variance is best for all data, nor for all $k$. Lecture 08 learns it. (Nor is the bound what one sees:
# 0.29 nats a pixel are invisible.)
#
# ## 6. Ancestral sampling
#
# The sampler is (4), read as an instruction: from pure noise $x_T$ (the library: $\beta_0\, \varepsilon$, section 1)
# draw $x_{k-1}$ from $p_\theta(x_{k-1} \mid x_k)$, and so on; the last step takes the mean. In the paper's words
# (algorithm 2),
#
# $$x_{k-1} = \frac{1}{\sqrt{1 - v_k}} \Big( x_k - \frac{v_k}{\sqrt{1 - \bar\alpha_k}}\, \hat\varepsilon(x_k, k) \Big) +
# \sigma_k\, \xi, \tag{10}$$
#
# which is (3) with $D = (x_k - \sqrt{1 - \bar\alpha_k}\, \hat\varepsilon)/\sqrt{\bar\alpha_k}$ put in for $x_0$. Since
# (3) holds for any $j < k$, steps can be left out, without training anew.

# %%
show_source(reverse, sample_ancestral)

# %%
ring = MixtureField(*toy.mixture(torch.float64), path=path)
count = 300 if fast else 2000
start, data = normal(9, count, 2), ring.sample(count, seeded(10))[0]
floor = 2 / count * float((data - data.roll(1, 0)).norm(dim=1).mean())
pairs = ring.sample(80 * 200, seeded(22))[0].reshape(40, 2, 200, 2)  # 40 times two sets of 200
assert abs(sum(energy_distance(*pair) for pair in pairs) / 40 / (floor * count / 200) - 1) < 0.3

x = start[:5]
eps = ring.noise(x, chain.time(700))
paper = (x - chain.var[700] / (1 - chain.abar[700]).sqrt() * eps) / (1 - chain.var[700]).sqrt()
assert torch.allclose(reverse(ring, chain, x, None, 700, 699)[0], paper, atol=1e-10)  # (10)

budgets = (5, 10, 25, 50, 100) if fast else (5, 10, 25, 50, 100, 1000)


assert torch.equal(sample_ancestral(ring, x, steps=1, trajectory=True)[0], chain.beta(chain.time(1000)) * x)


def ancestral(steps: int, variance: str, seed: int) -> Tensor:
    noise = start if seed == 0 else normal(30 + seed, count, 2)
    return sample_ancestral(ring, noise, steps=steps, variance=variance, generator=seeded(40 + seed))


def ddim(steps: int, seed: int) -> Tensor:
    noise = start if seed == 0 else normal(30 + seed, count, 2)
    return sample_ddim(ring, noise, times=chain.time(chain.stride(steps)))


samplers = {
    "DDPM, small": lambda n, seed: ancestral(n, "small", seed),
    "DDPM, large": lambda n, seed: ancestral(n, "large", seed),
    "DDIM": ddim,
}
quality = {name: [energy_distance(draw(n, 0), data) / floor for n in budgets] for name, draw in samplers.items()}
print("energy distance to the data, in sampling floors\nsteps        " + "".join(f"{n:8}" for n in budgets))
for name, row in quality.items():
    print(f"{name:13}" + "".join(f"{value:8.1f}" for value in row))
if not fast:
    assert all(row[-1] < 2 for row in quality.values())  # with all steps every one of them is right, as far as seen
    five = {name: [energy_distance(draw(5, n), data) / floor for n in range(3)] for name, draw in samplers.items()}
    print("with five steps, three seeds:", {name: [round(value, 1) for value in row] for name, row in five.items()})
    assert max(five["DDPM, large"]) < 0.9 * min(five["DDIM"]) < 0.9 * min(five["DDPM, small"])
    assert max(five["DDIM"]) < min(five["DDPM, small"])

# %% [markdown]
# With all thousand steps the choice of variance does not matter. With five the large one is best on this ring, and the
# small one worst: a long step leaves much open (Theorem 3). The last row is where the rest of this lecture leads.
#
# ## 7. The chain in continuous time
#
# **Theorem 4 (exactly).** Let $Y$ solve $dY_\tau = -\frac12 \gamma_\tau Y_\tau\, d\tau + \sqrt{\gamma_\tau}\, dW_\tau$
# from $Y_0 = x_0$, where $\tau = k/T = 1 - t$, with the rate $\gamma_\tau = -T \log(1 - v_k)$, constant within step
# $k$. Then $(Y_0, Y_{1/T}, \dots, Y_1)$ has the law of the chain (1).
#
# *Proof.* Within a step the equation is Ornstein–Uhlenbeck's with constant rate. Lecture 01 solved it: after time
# $1/T$, $Y$ is $e^{-\gamma/2T} Y$ plus independent Gaussian noise of variance $1 - e^{-\gamma/T}$. With this $\gamma$,
# $e^{-\gamma/T} = 1 - v_k$, and that is (1). $\blacksquare$
#
# So a chain *is* an SDE, seen at grid times. `Chain` is a `Schedule` by this theorem: between the grid times
# $\log \bar\alpha$ is a straight line.
#
# **Theorem 5 (in the limit).** Let $v_k = \frac1T \gamma(k/T)$ with $\gamma$ continuously differentiable and positive
# on $[0, 1]$. As $T \to \infty$, $\bar\alpha_{\lfloor \tau T \rfloor} \to \exp(-\int_0^\tau \gamma)$ with an error
# $O(1/T)$, uniformly in $\tau$.
#
# *Proof.* For $v \le \frac12$, $-\log(1 - v) = v + \delta$ with $0 \le \delta \le v^2$. So
# $-\log \bar\alpha_k = \frac1T \sum_{i \le k} \gamma(i/T) + O(1/T)$, because at most $T$ remainders of size
# $O(1/T^2)$ are added. The sum is a Riemann sum of $\int_0^{k/T} \gamma$, with error $O(1/T)$ as $\gamma$ has a bounded
# derivative; rounding $\tau T$ costs as much. The exponential is Lipschitz on $(-\infty, 0]$. $\blacksquare$
#
# DDPM's line from $10^{-4}$ to $0.02$ at $T = 1000$ is $\gamma(\tau) = 0.1 + 19.9\, \tau$, taken at $\frac{k-1}{T-1}$
# in the place of $\frac kT$; these differ by at most $\frac1T$, and the proof bears that. The limit is Song et al.'s
# **VP SDE**, and the schedule `VP` of lecture 02. Its reversal is Anderson's SDE (lecture 04, section 5), with the
# noise $g^2 = \gamma$. *Ancestral sampling is a way to simulate it.*

# %%
t = torch.linspace(0, 0.99, 34, dtype=torch.float64)
errors = [float((Chain.linear(T).alpha(t) - VP().alpha(t)).abs().max()) for T in (500, 1000, 2000, 4000)]
orders = [math.log2(a / b) for a, b in pairwise(errors)]
print("distance of the chain from VP:", [f"{e:.1e}" for e in errors], " order", f"{orders[-1]:.2f}")
assert abs(orders[-1] - 1) < 0.1
back = Chain.of(VP(), 1000)  # and the other way: the chain of any schedule
assert torch.allclose(back.alpha(back.time(torch.arange(1001))), VP().alpha(back.time(torch.arange(1001))), atol=1e-12)

# %% [markdown]
# The bridge goes both ways. A network trained on the chain runs with any sampler of the core, at any times; and a flow
# trained on any path that preserves variance can be sampled by DDPM.
#
# ## 8. DDIM: another process, the same marginals
#
# Look at the loss (9) again. It knows the chain through $q(x_k \mid x_0)$ only. *No pair $(x_{k-1}, x_k)$ occurs in
# it.* So the same network serves every process with the same marginals. Song, Meng and Ermon wrote a family of them
# down. For any numbers $0 \le \sigma_k \le \sqrt{1 - \bar\alpha_{k-1}}$, the noise that a step adds, let $x_T =
# \sqrt{\bar\alpha_T}\, x_0 + \sqrt{1 - \bar\alpha_T}\, \varepsilon$, and downwards
#
# $$q_\sigma(x_{k-1} \mid x_k, x_0) = \mathcal N\Big( \sqrt{\bar\alpha_{k-1}}\, x_0 + \sqrt{1 - \bar\alpha_{k-1} -
# \sigma_k^2}\;\; \underbrace{\frac{x_k - \sqrt{\bar\alpha_k}\, x_0}{\sqrt{1 - \bar\alpha_k}}}_{\text{the noise in }
# x_k},\;\; \sigma_k^2 I \Big). \tag{11}$$
#
# In words: *keep part of the noise that is there, and make up the rest with new noise.*
#
# **Theorem 6.** $q_\sigma(x_k \mid x_0) = \mathcal N(\sqrt{\bar\alpha_k}\, x_0, (1 - \bar\alpha_k) I)$ for all $k$ and
# all $\sigma$.
#
# *Proof* by induction from $T$ down. For $T$ it is the definition. If it holds for $k$, then the noise in $x_k$, the
# fraction in (11), is $\mathcal N(0, I)$ given $x_0$. So $x_{k-1}$ is $\sqrt{\bar\alpha_{k-1}}\, x_0$ plus two
# independent Gaussians of variances $1 - \bar\alpha_{k-1} - \sigma_k^2$ and $\sigma_k^2$. They add up to
# $1 - \bar\alpha_{k-1}$. $\blacksquare$
#
# The proof never used that $k - 1$ comes next to $k$. It holds for every sub-sequence. Nor is the process Markov in
# general: going up, $x_k$ depends on $x_{k-1}$ *and* $x_0$.
#
# **The sampler** puts $D$ for $x_0$, and then the fraction is $\hat\varepsilon$. With $\sigma = \eta \sqrt{\tilde v}$,
#
# $$x_j = \sqrt{\bar\alpha_j}\, D + \sqrt{1 - \bar\alpha_j - \sigma^2}\;\hat\varepsilon + \sigma\, \xi. \tag{12}$$
#
# - **$\eta = 1$ is DDPM.** Both (3) and (11) are then Gaussian, with the same variance and with means affine in $x_0$
#   and $x_k$. In (3) $x_k$ has the factor $r\,(1 - \bar\alpha_j)/(1 - \bar\alpha_k)$. In (11) it has
#   $\sqrt{1 - \bar\alpha_j - \sigma^2} / \sqrt{1 - \bar\alpha_k}$, and
#   $1 - \bar\alpha_j - \sigma^2 = (1 - \bar\alpha_j)\big(1 - \frac{v}{1 - \bar\alpha_k}\big) = (1 - \bar\alpha_j)^2
#   r^2 / (1 - \bar\alpha_k)$, because $1 - \bar\alpha_k - v = r^2 (1 - \bar\alpha_j)$. So the factors agree. Then those
#   of $x_0$ do too, because both means have the mean $\sqrt{\bar\alpha_j}\, x_0$ given $x_0$.
# - **$\eta = 0$ is DDIM**: no noise at all. The start determines the sample.
# - DDPM's *large* variance is not in the family. It adds more noise than (11) makes room for: given $x_0$, its
#   marginals are right only in the limit of small steps.

# %%
show_source(ddim_step)

# %%
x, times = start[:50], chain.time(chain.stride(25))
one = sample_ancestral(ring, x, steps=25, generator=seeded(12), trajectory=True)
two = sample_ddim(ring, x, times=times, eta=1.0, generator=seeded(12), trajectory=True)
assert torch.allclose(one, two, atol=1e-12)  # eta = 1, step by step

# Theorem 6, without sampling: run (11) down from T with x_0 known, and follow factor and variance.
for eta in (0.0, 0.5, 1.0):
    factor, variance = chain.abar[-1].sqrt(), 1 - chain.abar[-1]
    for k, j in pairwise(chain.stride(25).tolist()):
        sigma2 = eta**2 * float(posterior(chain, x, x, k, j)[1])
        keep = (1 - chain.abar[j] - sigma2).sqrt() / (1 - chain.abar[k]).sqrt()
        factor = chain.abar[j].sqrt() + keep * (factor - chain.abar[k].sqrt())
        variance = keep**2 * variance + sigma2
        assert abs(float(factor - chain.abar[j].sqrt())) < 1e-12
        assert abs(float(variance - (1 - chain.abar[j]))) < 1e-12

# %% [markdown]
# ### DDIM is Euler's method
#
# **Theorem 7.** Along the flow, where $\alpha > 0$, $\dfrac{d (x/\alpha)}{d (\beta/\alpha)} = \hat\varepsilon(x, t)$.
# One Euler step of this equation is the DDIM step (12) with $\eta = 0$.
#
# *Proof.* With $u = \dot\alpha D + \dot\beta \hat\varepsilon$ and $x = \alpha D + \beta \hat\varepsilon$,
#
# $$\frac{d}{dt} \frac{x}{\alpha} = \frac{u}{\alpha} - \frac{\dot\alpha}{\alpha^2} x = \frac{\dot\alpha D + \dot\beta
# \hat\varepsilon}{\alpha} - \frac{\dot\alpha D}{\alpha} - \frac{\dot\alpha \beta}{\alpha^2} \hat\varepsilon = \Big(
# \frac{\dot\beta}{\alpha} - \frac{\dot\alpha\beta}{\alpha^2} \Big) \hat\varepsilon = \frac{d}{dt}\Big(
# \frac{\beta}{\alpha} \Big)\, \hat\varepsilon .$$
#
# Euler from $t$ to $t'$ freezes $\hat\varepsilon$: $\;x_{t'}/\alpha_{t'} = x_t/\alpha_t + (\beta_{t'}/\alpha_{t'} -
# \beta_t/\alpha_t)\, \hat\varepsilon$. Multiply by $\alpha_{t'}$ and use $x_t - \beta_t \hat\varepsilon = \alpha_t D$:
# $\;x_{t'} = \alpha_{t'} D + \beta_{t'} \hat\varepsilon$. $\blacksquare$
#
# So DDIM solves exactly what is known exactly, the linear part $x/\alpha$, and freezes only what the network says. Such
# a method is called an **exponential integrator**. If $\hat\varepsilon$ is constant along the flow, one step is exact:
# that is so for data of a single point. Is DDIM then always better than Euler's method in $t$? No:
#
# - for data $\mathcal N(0, I)$, on a path that preserves variance, $p_t = \mathcal N(0, I)$ at all times, and the flow
#   stands still. Euler in $t$ has $u = 0$ and makes no mistake. DDIM freezes $\hat\varepsilon = \beta x$, which is not
#   constant, and does;
# - real data lie between: sure of some numbers, and not of others. In the table below DDIM wins for the single point
#   only.
#
# The library's higher orders extrapolate $D$ and $\hat\varepsilon$ in the angle $\arctan(\alpha/\beta)$. Where nothing
# is certain they are nearly as good as Euler, where all is certain they are exact too.

# %%
x, sigma = start[:50] * chain.beta(times[0]) / chain.alpha(times[0]), chain.beta(times) / chain.alpha(times)
for i in range(25):
    x = x + (sigma[i + 1] - sigma[i]) * ring.noise(x * chain.alpha(times[i]), times[i])
assert torch.allclose(x, sample_ddim(ring, start[:50], times=times), atol=1e-9)  # Theorem 7

n, widths, few = 20, (0.0, 0.05, 0.5, 1.0), start[:200]
methods = {
    "Euler in t": lambda field: sample_ode(field, few, steps=n, method="euler"),
    "DDIM": lambda field: sample_ddim(field, few, steps=n),
    "DDIM of order 2": lambda field: sample_ddim(field, few, steps=n, order=2),
}
misses: dict[str, list[float]] = {name: [] for name in methods}
alpha, beta = (level(torch.zeros((), dtype=torch.float64)) for level in (VP().alpha, VP().beta))  # at t = 0
for width in widths:
    mean = torch.tensor([[1.5, 0.0]]).double() * (1 - width)
    gaussian = MixtureField(mean, width, path=GaussianPath(VP()))
    exact = mean + width * (beta * few - alpha * mean) / torch.sqrt(alpha**2 * width**2 + beta**2)  # lecture 01
    for name, method in methods.items():
        misses[name].append(float((method(gaussian) - exact).square().mean().sqrt()))
print(f"root mean square distance to the exact flow after {n} steps, VP path")
print("data of width    " + "".join(f"{width:10}" for width in widths))
for name, row in misses.items():
    print(f"{name:17}" + "".join(f"{value:10.5f}" for value in row))
assert misses["DDIM"][0] < 1e-10 < misses["Euler in t"][0]  # one point: DDIM is exact
assert misses["Euler in t"][3] < 1e-10 < misses["DDIM"][3]  # N(0, I): Euler is
assert misses["DDIM of order 2"][2] < misses["DDIM"][2] / 3

# %% [markdown]
# ## 9. A picture's own noise
#
# At $\eta = 0$ noise and picture determine each other: it is a flow, and flows can be undone. DDIM's step (12) does not
# care whether $j < k$ or $j > k$. Run it upwards, from data to noise, and out comes the data point's **latent**.
#
# Not exactly. Down from $k$ to $j$ the step uses $\hat\varepsilon$ at $x_k$, and up from $j$ to $k$ the one at $x_j$.
# These differ by $O(1/N)$, in each of $N$ steps by $O(1/N^2)$ of the state, and the way there and back misses by
# $O(1/N)$.

# %%
show_source(encode_ddim)

# %%
# alt: Left, eight coloured clusters on a ring; right, the same points in a round cloud, in which each colour fills its
#   own sector.
points, labels = ring.sample(400, seeded(13))
latents = encode_ddim(ring, points, steps=200)
round_trip = {}
for n in (50, 100, 200, 400):
    returned = sample_ddim(ring, encode_ddim(ring, points, steps=n), steps=n)
    round_trip[n] = float((returned - points).square().mean().sqrt())
print("there and back:", {n: f"{error:.4f}" for n, error in round_trip.items()})
assert abs(math.log2(round_trip[200] / round_trip[400]) - 1) < 0.1  # O(1/N)
level = 2 / len(latents) * float((latents - latents.roll(1, 0)).norm(dim=1).mean())
assert energy_distance(latents, normal(21, 4000, 2)) < 2 * level  # they cannot be told from standard normal draws

figure, axes = plt.subplots(1, 2, figsize=(7, 3.5), layout="constrained")
for ax, cloud, title in zip(axes, (points, latents), ("data", "their latents"), strict=True):
    ax.scatter(*cloud.T, s=4, c=labels, cmap="tab10", vmax=9)
    ax.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal", title=title, xlabel="$x_1$", ylabel="$x_2$")
plt.show()

# %% [markdown]
# The latents cannot be told from standard normal draws, and each of the eight Gaussians has its own sector of them. To
# change a picture along the flow, change its latent.
#
# ## 10. On digits
#
# Now with a network: the recipe for 8 x 8 digits, on the linear chain, predicting noise, with $L_\text{simple}$.
# `flowlib train ddpm-linear` does the same on MNIST.
#
# One practical matter first. At $k = T$ the network's error in $\hat\varepsilon$ is an error of $D$ that is
# $1/\sqrt{\bar\alpha_T} = 157$ times as large. So DDPM's code clips $D$ to the range of the data, $[-1, 1]$, in every
# step. In the library that is a field, `Clipped`, and works for every sampler.

# %%
# alt: Three grids of small digits, a row for each of 0 to 9, by DDPM in 100 steps, DDPM in 10 and DDIM in 10; all can
#   be read, those of 10 steps are a little greyer.
recipe = {"schedule": "vp", "chain": 1000, "predicts": "noise", "time": "uniform", "steps": 400}
run = trained("digits", name="digits-ddpm", **recipe)
field = Clipped(run.field)
y = torch.arange(10).repeat_interleave(8)
noise = run.noise(len(y), seed=1)
samplers = {
    "DDPM, 100 steps": sample_ancestral(field, noise, y, steps=100, generator=seeded(14)),
    "DDPM, 10 steps": sample_ancestral(field, noise, y, steps=10, generator=seeded(14)),
    "DDIM, 10 steps": sample_ddim(field, noise, y, steps=10),
}
figure, axes = plt.subplots(1, 3, figsize=(10, 4.4), layout="constrained")
for ax, (name, samples) in zip(axes, samplers.items(), strict=True):
    ax.imshow(1 - tile(samples, 8), cmap="gray")
    ax.set_title(name)
    ax.axis("off")
plt.show()

# %%
test = load("digits", "test")
reader, many = fit_reader(digits), 80 if fast else 297
some = torch.randperm(len(digits), generator=seeded(18))[:many]  # the first ones come from a few writers
y_many, noise = test.labels[:many], run.noise(many, seed=2)
real = frechet_distance(digits.images[some].flatten(1), test.images.flatten(1))
table: dict[str, list[str]] = {}
scores: dict[tuple[str, int], float] = {}
for n in (5, 10, 25, 50):
    drawn = {
        "DDPM, small": sample_ancestral(field, noise, y_many, steps=n, generator=seeded(15)),
        "DDPM, large": sample_ancestral(field, noise, y_many, steps=n, variance="large", generator=seeded(15)),
        "DDIM": sample_ddim(field, noise, y_many, steps=n),
        "Heun, n/2 steps": sample_ode(field, noise, y_many, steps=n // 2),
    }
    for name, samples in drawn.items():
        accuracy = float((reader(samples).argmax(1) == y_many).double().mean())
        assert fast or accuracy > 0.85, name
        scores[name, n] = frechet_distance(samples.clamp(-1, 1).flatten(1), test.images.flatten(1)) / real
        table.setdefault(name, []).append(f"{scores[name, n]:6.2f} ({accuracy:4.0%})")
print("Fréchet distance to test digits, as a multiple of training digits' (accuracy of the label)")
print("evaluations      " + "".join(f"{n:>13}" for n in (5, 10, 25, 50)))
for name, row in table.items():
    print(f"{name:17}" + " ".join(row))
if not fast:
    assert max(scores["DDIM", 5], scores["DDPM, large", 5]) < scores["DDPM, small", 5]
    assert scores["DDPM, small", 50] < scores["DDPM, small", 5]

# %% [markdown]
# (Heun takes two evaluations a step, so at 5 it has 4, and at 25 it has 24.) In this run, at five steps the small
# variance does worse than the large one. DDIM comes as far in ten steps as DDPM in twenty-five, about; but with fifty
# its labels are read less often, 94 % against 99 %: noise also mends a network's mistakes (lecture 04, section 9).
#
# That is one training and one seed. With three seeds the order on these small digits is the same:
# [`tables/07_quality.md`](tables/07_quality.md). On MNIST, after a short training, it is the other way round. Ratio of
# the Fréchet distance to that of real images, mean and standard deviation over three seeds
# ([`tables/07_mnist.md`](tables/07_mnist.md) has the command and the rest):
#
# | evaluations | 10 | 25 | 50 | 100 |
# |---|---|---|---|---|
# | DDPM, small variance | 4.77 ± 0.39 | 4.50 ± 0.36 | 4.59 ± 0.40 | 4.50 ± 0.49 |
# | DDPM, large variance | 8.50 ± 0.21 | 7.12 ± 0.46 | 6.02 ± 0.40 | 5.25 ± 0.48 |
# | DDIM | 7.16 ± 0.19 | 7.27 ± 0.16 | 7.26 ± 0.16 | 7.32 ± 0.17 |
#
# DDIM has reached the flow of its network in ten evaluations. But that network is still poor, and so is its flow; fresh
# noise, and a look at where it has led, keep mending. *How many steps* and *how good at the end* are two questions.
#
# The animation shows the same noise under both samplers: DDPM forgets where it started, DDIM does not.

# %% tags=["draw"]
if not fast:
    y_few = torch.arange(10)
    few = run.noise(10, seed=3)
    slow = sample_ancestral(field, few, y_few, steps=40, generator=seeded(16), trajectory=True)
    swift = sample_ddim(field, few, y_few, steps=40, trajectory=True)
    states = torch.stack([slow, swift], dim=1).flatten(1, 2)
    animate(states, "images/07_ddpm_and_ddim.gif", columns=10, rows=["DDPM", "DDIM"])

# %% [markdown]
# ![Ten digits appear from the same noise, above by DDPM's noisy steps and below by DDIM's smooth
# ones](images/07_ddpm_and_ddim.gif)
#
# **Encode, decode, interpolate.** Two real digits are encoded with the null label, and come back. Between two latents
# we walk on the sphere, because almost all of a Gaussian in many dimensions lies near one: a straight line would pass
# through latents that are too short.


# %%
# alt: Two rows of digits between red lines: a real 7 turns into a 5 by way of a 9, and a real 2 into a 1; beside each
#   end of the row stands the real digit that it started from, nearly the same.
def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """From a to b (C, H, W) along the great circle, lengths interpolated too."""
    angle = torch.acos((a * b).sum() / (a.norm() * b.norm()))
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)


chosen = [3, 8, 12, 1]
originals, miss = test.images[chosen], {}
for n in (25, 50, 100):
    codes = encode_ddim(run.field, originals, steps=n)
    miss[n] = float((sample_ddim(run.field, codes, steps=n) - originals).square().mean().sqrt())
print("there and back, root mean square error of a range of 2, by steps:", {n: f"{e:.3f}" for n, e in miss.items()})
steps = [i / 8 for i in range(9)]
between = torch.stack([slerp(codes[0], codes[1], s) for s in steps] + [slerp(codes[2], codes[3], s) for s in steps])
assert between.flatten(1).norm(dim=1).min() > 0.95 * codes.flatten(1).norm(dim=1).min()  # on the sphere all the way
walk = sample_ddim(field, between, steps=50)
figure, ax = plt.subplots(figsize=(7, 2.2), layout="constrained")
rows = [
    torch.cat([originals[2 * i : 2 * i + 1], walk[9 * i : 9 * i + 9], originals[2 * i + 1 : 2 * i + 2]]) for i in (0, 1)
]
ax.imshow(1 - tile(torch.cat(rows), 11), cmap="gray")
ax.axvline(8.5, color=ACCENT)
ax.axvline(89.5, color=ACCENT)
ax.set_title("real digit | from its latent to the other's | real digit")
ax.axis("off")
plt.show()
if not fast:
    assert miss[100] < 0.03
    assert miss[100] < 0.7 * miss[50] < 0.49 * miss[25]  # by steps, as on the ring

# %% [markdown]
# ## 11. Change this
#
# **Predict first.** Below, the ring is sampled in `steps` steps along the family from DDIM ($\eta = 0$) to DDPM
# ($\eta = 1$). With 10 steps, which $\eta$ is best? With 200? What if the sub-sequence is denser towards the data
# (`power=2`), where the eight Gaussians are told from their neighbours' edges? Write your guess down, change the
# numbers, run the cell.

# %%
# alt: Five rings of black points for eta = 0 to 1, denser at eight places and joined between them, with a few points
#   inside.
steps, power = 10, 1.0

etas = (0.0, 0.25, 0.5, 0.75, 1.0)
times = chain.time(chain.stride(steps, power=power))
clouds = [sample_ddim(ring, start, times=times, eta=eta, generator=seeded(17)) for eta in etas]
values = [energy_distance(cloud, data) / floor for cloud in clouds]
figure, axes = plt.subplots(1, 5, figsize=(10, 2.4), layout="constrained")
for ax, eta, cloud, value in zip(axes, etas, clouds, values, strict=True):
    ax.scatter(*cloud.T, s=1, color=INK, rasterized=True)
    ax.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal", xticks=[], yticks=[])
    ax.set_title(f"$\\eta = {eta:g}$\n{value:.1f} x the floor", fontsize=9)
plt.show()
if (steps, power) == (10, 1.0) and not fast:
    assert values[0] < values[-1]

# %% [markdown]
# ## 12. What fails, and why
#
# - **One step too early or too late.** The network was trained at $k = 1 \dots T$, not at 0. Arrays count from 0. If
#   `abar[k]` is taken for `abar[k - 1]`, everything still looks like digits, a little too noisy or too smooth.
# - **The posterior's $\bar\alpha_j$ and $\bar\alpha_k$ exchanged.** The variance is then *larger* than $v$, against
#   Theorem 3. A check: at $j = 0$ the posterior must be $x_0$ itself, with variance 0.
# - **Noise in the last step.** With the large variance $\sigma_1^2 = v_1 \ne 0$, and the picture gets a grain. With
#   strides it gets worse: from $k = 100$ to 0 the grain would have variance 0.1.
# - **No clipping on the cosine chain.** $\sqrt{\bar\alpha_T} = 5 \cdot 10^{-5}$: an error of 0.01 in $\hat\varepsilon$
#   is an error of 200 in $D$.
# - **$1 - \bar\alpha$ in float32.** At $k = 1$ it is $10^{-4}$, and three of seven digits are gone. The library keeps
#   $\log \bar\alpha$ and takes `expm1`.


# %%
def exchanged(chain: Chain, k: int, j: int) -> float:
    """The posterior's variance with its two noise levels exchanged."""
    v = 1 - chain.abar[k] / chain.abar[j]
    return float((1 - chain.abar[k]) / (1 - chain.abar[j]) * v)


v = float(1 - chain.abar[500] / chain.abar[400])
print(f"variances from 500 to 400: small {float(posterior(chain, x, x, 500, 400)[1]):.3f}, large {v:.3f}, ", end="")
print(f"exchanged {exchanged(chain, 500, 400):.3f}")
assert float(posterior(chain, x, x, 500, 400)[1]) < v < exchanged(chain, 500, 400)
cosine = chains["cosine"]
print(f"an error of 0.01 in the noise at k = T is one of {0.01 / float(cosine.abar[-1].sqrt()):.0f} in D")
plain = (1 - torch.exp(chain.log_abar.float())[1]).item()
print(f"1 - abar_1 = {plain:.8f} in float32, and 0.0001 by expm1: {-math.expm1(float(chain.log_abar[1])):.8f}")
assert 1e-5 < abs(plain / 1e-4 - 1) < 1e-3  # three or four digits of seven are left
assert abs(-math.expm1(float(chain.log_abar[1])) / 1e-4 - 1) < 1e-12

# %% tags=["draw"]
if not fast:
    strip = torch.stack(
        [path.sample(digits.images[:1], float(chain.time(k)), run.noise(1, 5))[0] for k in range(0, 900, 90)]
    )
    figure, axes = plt.subplots(2, 1, figsize=(3.2, 2.0), layout="constrained")
    axes[0].imshow(1 - tile(strip, 10), cmap="gray", vmin=0, vmax=1)
    axes[1].imshow(1 - tile(swift[4::4, 3], 10), cmap="gray", vmin=0, vmax=1)
    axes[0].set_title("noise added", fontsize=8, color=INK)
    axes[1].set_title("and taken away", fontsize=8, color=INK)
    for ax in axes:
        ax.axis("off")
    figure.savefig("images/07.png", dpi=100)
    plt.close(figure)

# %% [markdown]
# ## 13. Further reading
#
# - J. Sohl-Dickstein, E. Weiss, N. Maheswaranathan, S. Ganguli, *Deep Unsupervised Learning using Nonequilibrium
#   Thermodynamics* (2015), [arXiv:1503.03585](https://arxiv.org/abs/1503.03585): the chain, the bound and both
#   variances, five years earlier.
# - J. Ho, A. Jain, P. Abbeel, *Denoising Diffusion Probabilistic Models* (2020),
#   [arXiv:2006.11239](https://arxiv.org/abs/2006.11239): $L_\text{simple}$; section 3.2: both variances.
# - J. Song, C. Meng, S. Ermon, *Denoising Diffusion Implicit Models* (2021),
#   [arXiv:2010.02502](https://arxiv.org/abs/2010.02502): section 8.
# - Y. Song et al., *Score-Based Generative Modeling through Stochastic Differential Equations* (2021),
#   [arXiv:2011.13456](https://arxiv.org/abs/2011.13456): section 7, appendix B.
# - D. P. Kingma, T. Salimans, B. Poole, J. Ho, *Variational Diffusion Models* (2021),
#   [arXiv:2107.00630](https://arxiv.org/abs/2107.00630): the bound as an integral over SNR.
# - A. Nichol, P. Dhariwal, *Improved Denoising Diffusion Probabilistic Models* (2021),
#   [arXiv:2102.09672](https://arxiv.org/abs/2102.09672): the cosine chain, and lecture 08.
# - C. Luo, *Understanding diffusion models: a unified perspective* (2022),
#   [arXiv:2208.11970](https://arxiv.org/abs/2208.11970): diffusion as a hierarchical VAE, step by step.
# - C. Lu et al., *DPM-Solver* (2022), [arXiv:2206.00927](https://arxiv.org/abs/2206.00927): exponential integrators of
#   higher order.
# - F. Bao, C. Li, J. Zhu, B. Zhang, *Analytic-DPM* (2022), [arXiv:2201.06503](https://arxiv.org/abs/2201.06503): the
#   best variance of a step, from the score; theirs is the bound $v/(1 - v)$, which asks nothing of the data.
#
# **Now you**: [Exercise 07](../exercises/07_ddpm_and_ddim.ipynb) has eight questions, from the chain's tables to the
# true variance of a step. Next: lecture 08, where the variance is learned and the bound is computed in bits.
