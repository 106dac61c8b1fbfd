# %% [markdown]
# # Exercise 07. DDPM and DDIM
#
# You write DDPM yourself, from its tables to its sampler, then DDIM and its encoder. Two questions are derivations.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right;
# when it is wrong, it says what probably went wrong. `hint("07.1")` gives a hint; asked again, it says more, three
# times. Every question stands on its own.
#
# **Needed before:** [lecture 07](../lectures/07_ddpm_and_ddim.ipynb). **Time:** about 75 minutes. **Points:** 10.
#
# Steps count from $k = 0$, the data, to $k = T$, noise. Tables are tensors of $T + 1$ numbers, indexed by $k$:
# `abar[k]` is $\bar\alpha_k$, and `abar[0]` is 1. All tensors are `float64`. Checks that draw samples call a
# right answer wrong with probability below $10^{-6}$.

# %%
from collections.abc import Callable
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from flowlib import GaussianPath, MixtureField, sample_ddim
from flowlib.chains import Chain, encode_ddim, sample_ancestral
from flowlib.chains import ancestral as ddpm
from flowlib.course.notebook import exercise, seeded
from flowlib.data import load, toy
from flowlib.plotting import tile
from flowlib.plotting.style import ACCENT, GREY, INK

hint = exercise("07_ddpm_and_ddim").hint
chain = Chain.linear(100)  # the library's: its tables are `chain.abar` and `chain.var`
ring = MixtureField(*toy.mixture(torch.float64), path=GaussianPath(chain))  # eight Gaussians


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def near(a: object, b: object, tolerance: float = 1e-9) -> bool:
    """Whether two numbers or tensors agree, in value and in shape."""
    a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    return a.shape == b.shape and bool(((a - b).abs() <= tolerance * (1 + b.abs())).all())


def tensor(answer: object, shape: tuple[int, ...]) -> Tensor:
    """The answer, if it is a tensor of this shape."""
    assert isinstance(answer, Tensor), f"return a tensor, got {type(answer).__name__}"
    assert answer.shape == shape, f"expected a tensor of shape {shape}, got {tuple(answer.shape)}"
    return answer


def pair(answer: object, what: str) -> tuple[Tensor, Tensor]:
    """The two parts of an answer."""
    assert isinstance(answer, tuple | list), f"return two things: {what}"
    assert len(answer) == 2, f"return two things: {what}"
    return torch.as_tensor(answer[0], dtype=torch.float64), torch.as_tensor(answer[1], dtype=torch.float64)


def gaussian_noise(abar: Tensor, s: float) -> Callable[[Tensor, int], Tensor]:
    """E[eps|x_k] as a function of x_k and k, for data N(0, s^2): what a perfect network would say."""
    return lambda x, k: (1 - abar[k]).sqrt() / (abar[k] * s**2 + 1 - abar[k]) * x


# %% [markdown]
# ## 07.1 The tables (1 point, 7 minutes, easy)
#
# DDPM's linear chain: for $T = 1000$ the variances $v_1, \dots, v_T$ rise in equal steps from $10^{-4}$ to $0.02$. For
# another $T$ there are $T$ of them between the same ends, and all are multiplied by $1000/T$.
# $\bar\alpha_k = \prod_{i=1}^{k} (1 - v_i)$.


# %% solution="07.1"
def tables(steps: int) -> tuple[Tensor, Tensor]:
    """The tables of the linear chain.

    Args:
        steps: T, more than 20.

    Returns:
        var and abar, both (T + 1,) and indexed by k; var[0] = 0 and abar[0] = 1.
    """
    ### BEGIN SOLUTION
    var = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps)
    var = torch.cat([torch.zeros(1, dtype=torch.float64), var])
    return var, torch.cumprod(1 - var, dim=0)
    ### END SOLUTION


# %% check="07.1" points=1
for T in (1000, 250):
    var, abar = pair(tables(T), "var and abar")
    right = Chain.linear(T)
    assert var.shape != (T,), "the tables are indexed by k = 0 ... T, so they have T + 1 entries: the first is the data"
    assert var.shape == abar.shape == (T + 1,), f"expected two tables of {T + 1} numbers, got {tuple(var.shape)}"
    if T != 1000:
        assert not near(var * 1000 / T, right.var, 1e-6), "for another T than 1000 the variances have to be scaled"
        assert not near(var * (1000 / T) ** 2, right.var, 1e-6), (
            "with fewer steps each has to add more noise: T/1000 and 1000/T are exchanged"
        )
    assert near(var[0], 0, 1e-12), "var[0] must be 0: nothing is added before the first step"
    assert not near(var[1], right.var[1] + (right.var[2] - right.var[1]), 1e-9), (
        "var[1] is already one step too far: the line runs from v_1 to v_T, and not from v_0"
    )
    assert near(var, right.var, 1e-6), (
        "the variances must rise in equal steps, var[1] the smallest and var[T] the largest"
    )
    assert near(abar[0], 1, 1e-12), "abar[0] must be 1: the data themselves"
    assert not near(abar[1:], torch.cumprod(var[1:], 0)), "abar is the product of what is kept, 1 - v, and not of the v"
    assert not near(abar, right.abar.sqrt(), 1e-6), "abar itself is a share of the variance: no square root here"
    assert not near(abar[1:], right.abar[:-1], 1e-6), "abar[k] must include the step k itself: yours is one step late"
    assert not near(abar, 1 - var, 1e-6), "abar[k] is what is left after all k steps: multiply them up"
    assert near(abar, right.abar, 1e-6), "abar[k] must be the product of 1 - var[i] for i = 1 ... k"
### BEGIN HIDDEN TESTS
assert near(tables(37)[1], Chain.linear(37).abar, 1e-6), "for T = 37 the table is wrong"
### END HIDDEN TESTS

# %% [markdown] hints="07.1"
# 1. How many numbers does a table from $k = 0$ to $T$ have, and what are the first ones?
#
# 2. `torch.linspace` makes the $T$ variances. Put a 0 before them with `torch.cat`. Then `1 - var` begins with a 1.
#
# 3. `var = torch.cat([zero, torch.linspace(1e-4, 0.02, steps) * (1000 / steps)])` in float64, and `abar` is
#    `torch.cumprod(1 - var, dim=0)`.

# %% tags=["demo"]
figure, axes = plt.subplots(1, 2, figsize=(7, 2.7), layout="constrained", sharey=True)
for ax, abar, title in zip(axes, (tables(100)[1], chain.abar), ("yours", "expected"), strict=True):
    ax.plot(abar, color=ACCENT)
    ax.set(title=title, xlabel="$k$")
axes[0].set_ylabel(r"$\bar\alpha_k$")
plt.show()

# %% [markdown]
# ## 07.2 Noise in one jump (1 point, 7 minutes, easy)
#
# Draw $x_k$ from $x_0$ for a batch of images, each with a step $k$ of its own, as a training step does. The noise is
# given.


# %% solution="07.2"
def noised(x_0: Tensor, abar: Tensor, k: Tensor, noise: Tensor) -> Tensor:
    """x_k given x_0.

    Args:
        x_0: images (B, C, H, W).
        abar: (T + 1,), indexed by k.
        k: (B,) integers in 0 ... T, one for each image.
        noise: (B, C, H, W), standard normal.

    Returns:
        x_k, shape (B, C, H, W).
    """
    ### BEGIN SOLUTION
    level = abar[k][:, None, None, None]
    return level.sqrt() * x_0 + (1 - level).sqrt() * noise
    ### END SOLUTION


# %% check="07.2" points=1
x_0, noise, k = normal(1, 3, 1, 3, 3), normal(2, 3, 1, 3, 3), torch.tensor([5, 40, 90])
level = chain.abar[k].reshape(3, 1, 1, 1)
x = tensor(noised(x_0, chain.abar, k, noise), (3, 1, 3, 3))
across = chain.abar[k]
assert not near(x, across.sqrt() * x_0 + (1 - across).sqrt() * noise), (
    "each image has its own k; yours changes from column to column: give the levels the shape (B, 1, 1, 1)"
)
assert not near(x, level * x_0 + (1 - level) * noise), (
    "abar is a share of variances: signal and noise are multiplied by square roots"
)
assert not near(x, level.sqrt() * x_0 + (1 - level) * noise), "the noise's factor is the root of 1 - abar"
assert not near(x, level * x_0 + (1 - level).sqrt() * noise), "the signal's factor is the root of abar"
assert not near(x, (1 - level).sqrt() * x_0 + level.sqrt() * noise), (
    "signal and noise are exchanged: abar is the signal"
)
before = chain.abar[k - 1].reshape(3, 1, 1, 1)
assert not near(x, before.sqrt() * x_0 + (1 - before).sqrt() * noise), (
    "abar[k] belongs to x_k: yours is one step earlier, as in tables that begin at k = 1"
)
step = 1 - level / before
assert not near(x, (1 - step).sqrt() * x_0 + step.sqrt() * noise), (
    "that is one step of the chain, from x_(k-1): here the jump is from x_0"
)
assert near(x, level.sqrt() * x_0 + (1 - level).sqrt() * noise), (
    "x_k is wrong: both factors come from abar at the image's own k, and their squares add up to 1"
)
### BEGIN HIDDEN TESTS
ends = noised(normal(3, 2, 2, 4, 5), chain.abar, torch.tensor([0, 100]), normal(4, 2, 2, 4, 5))
assert near(ends[0], normal(3, 2, 2, 4, 5)[0]), "at k = 0 the image must come back unchanged"
### END HIDDEN TESTS

# %% [markdown] hints="07.2"
# 1. This is equation (2) of the lecture, with another $k$ for each image.
#
# 2. `abar[k]` has shape (B,). To multiply images by it, it needs three more dimensions of size 1.
#
# 3. `level = abar[k].reshape(-1, 1, 1, 1)`, then `level.sqrt() * x_0 + (1 - level).sqrt() * noise`.

# %% tags=["demo"]
image = load("digits").images[:1].double().expand(9, -1, -1, -1)
steps = torch.arange(0, 90, 10)
expected = GaussianPath(chain).sample(image, chain.time(steps), normal(5, *image.shape))
figure, axes = plt.subplots(2, 1, figsize=(6, 2.2), layout="constrained")
for ax, strip, title in zip(
    axes, (noised(image, chain.abar, steps, normal(5, *image.shape)), expected), ("yours", "expected"), strict=True
):
    ax.imshow(1 - tile(strip, 9), cmap="gray", vmin=0, vmax=1)
    ax.set_title(title, fontsize=9)
    ax.axis("off")
plt.show()

# %% [markdown]
# ## 07.3 The posterior (2 points, 12 minutes, medium)
#
# Mean and variance of $q(x_j \mid x_k, x_0)$ for any $0 \le j < k$, not only neighbours.


# %% solution="07.3"
def posterior(x_k: Tensor, x_0: Tensor, abar: Tensor, k: int, j: int) -> tuple[Tensor, Tensor]:
    """The Gaussian of x_j, given both ends.

    Args:
        x_k, x_0: (B, d).
        abar: (T + 1,), indexed by k.
        k, j: 0 <= j < k <= T.

    Returns:
        the mean (B, d), and the variance, a tensor of shape () or a number.
    """
    ### BEGIN SOLUTION
    ratio = abar[k] / abar[j]
    mean = (abar[j].sqrt() * (1 - ratio) * x_0 + ratio.sqrt() * (1 - abar[j]) * x_k) / (1 - abar[k])
    return mean, (1 - ratio) * (1 - abar[j]) / (1 - abar[k])
    ### END SOLUTION


# %% check="07.3" points=2
x_k, x_0 = normal(6, 4, 2), normal(7, 4, 2)
for k, j in ((60, 59), (80, 30)):
    a_k, a_j = chain.abar[k], chain.abar[j]
    v = 1 - a_k / a_j
    right = v * (1 - a_j) / (1 - a_k)
    mean, variance = pair(posterior(x_k, x_0, chain.abar, k, j), "the mean and the variance")
    assert mean.shape == (4, 2), f"the mean must have the shape of x_k, (4, 2), got {tuple(mean.shape)}"
    assert variance.numel() == 1, f"the variance is one number for all, got shape {tuple(variance.shape)}"
    variance = variance.reshape(())
    assert not near(variance, right.sqrt()), "return the variance and not the standard deviation"
    assert not near(variance, v), "that is the variance of x_k given x_j; x_0 is known as well, and narrows it"
    assert not near(variance, v * (1 - a_k) / (1 - a_j)), (
        "the two noise levels are exchanged in the variance: at j = 0 it has to vanish"
    )
    single = chain.var[k]
    assert j == k - 1 or not near(variance, single * (1 - a_j) / (1 - a_k)), (
        "from k to j many steps are jumped: the variance between them is 1 - abar_k / abar_j, not that of one step"
    )
    assert near(variance, right), (
        f"the variance is wrong for k = {k}, j = {j}: its inverse is the factor of |x_j|^2 in the sum of both exponents"
    )
    of_data, of_state = a_j.sqrt() * v / (1 - a_k), (a_k / a_j).sqrt() * (1 - a_j) / (1 - a_k)
    assert not near(mean, of_data * x_k + of_state * x_0), "the weights of x_0 and x_k are exchanged in the mean"
    assert not near(mean, a_j * v / (1 - a_k) * x_0 + a_k / a_j * (1 - a_j) / (1 - a_k) * x_k), (
        "the mean's weights have square roots of abar_j and of abar_k / abar_j"
    )
    assert near(mean, of_data * x_0 + of_state * x_k), (
        f"the mean is wrong for k = {k}, j = {j}: complete the square in log q(x_k|x_j) + log q(x_j|x_0)"
    )
mean, variance = pair(posterior(x_k, x_0, chain.abar, 25, 0), "the mean and the variance")
assert not bool(mean.isnan().any() | variance.isnan().any()), (
    "NaN at j = 0, where 1 - abar_j is 0: multiply the fractions out, so that nothing is divided by it"
)
assert near(mean, x_0), "at j = 0 the mean must be x_0"
assert float(variance) < 1e-12, "at j = 0 the variance must be 0"
### BEGIN HIDDEN TESTS
other = torch.tensor([1.0, 0.8, 0.3, 0.1], dtype=torch.float64)
mean, variance = pair(posterior(x_k, x_0, other, 3, 1), "the mean and the variance")
assert near(variance.reshape(()), 0.875 * 0.2 / 0.9), "the variance must hold for any chain"
assert near(mean, (0.8**0.5 * 0.875 * x_0 + 0.125**0.5 * 0.2 * x_k) / 0.9), "the mean must hold for any chain"
### END HIDDEN TESTS

# %% [markdown] hints="07.3"
# 1. $q(x_j \mid x_k, x_0)$ is proportional to $q(x_k \mid x_j)\, q(x_j \mid x_0)$. Which Gaussians are these two?
#
# 2. With $r = \sqrt{\bar\alpha_k/\bar\alpha_j}$ and $v = 1 - r^2$ the precision of $x_j$ is
#    $\frac{r^2}{v} + \frac{1}{1 - \bar\alpha_j}$. Bring it over one denominator: $\frac{1 - \bar\alpha_k}{v (1 -
#    \bar\alpha_j)}$.
#
# 3. The mean is the variance times $\frac{r x_k}{v} + \frac{\sqrt{\bar\alpha_j} x_0}{1 - \bar\alpha_j}$: equation (3)
#    of the lecture. Check that at $j = 0$ the mean is $x_0$ and the variance 0.

# %% tags=["demo"]
x_0, x_k, places = torch.tensor([[1.0]]).double(), torch.tensor([[-0.5]]).double(), torch.linspace(-3, 3, 400).double()
figure, axes = plt.subplots(1, 2, figsize=(7, 2.6), layout="constrained", sharey=True)
for ax, moments, title in zip(
    axes,
    (
        lambda k, j: posterior(x_k, x_0, chain.abar, k, j),
        lambda k, j: ddpm.posterior(chain, x_k, x_0, k, j),
    ),
    ("yours", "expected"),
    strict=True,
):
    for j in (10, 30, 50, 55):
        mean, variance = moments(60, j)
        density = torch.distributions.Normal(float(mean), float(variance) ** 0.5).log_prob(places).exp()
        ax.plot(places, density, label=f"$j = {j}$")
    ax.set(title=title, xlabel="$x_j$")
axes[1].legend(frameon=False)
plt.show()

# %% [markdown]
# ## 07.4 What the bound weighs (1 point, 10 minutes, medium)
#
# For $2 \le k \le T$ the term $L_{k-1}$ of the variational bound compares the posterior with a Gaussian of the *same*
# variance, whose mean has $D = (x_k - \sqrt{1 - \bar\alpha_k}\, \hat\varepsilon)/\sqrt{\bar\alpha_k}$ in the place of
# $x_0$. Then $L_{k-1} = w_k\, |\varepsilon - \hat\varepsilon|^2$. Derive $w_k$.


# %% solution="07.4"
def noise_weight(abar: Tensor, k: int) -> Tensor:
    """The factor w_k of |eps - eps_hat|^2 in L_(k-1).

    Args:
        abar: (T + 1,), indexed by k.
        k: 2 ... T.

    Returns:
        w_k, a tensor of shape () or a number.
    """
    ### BEGIN SOLUTION
    snr = abar[k - 1 : k + 1] / (1 - abar[k - 1 : k + 1])
    return (snr[0] / snr[1] - 1) / 2
    ### END SOLUTION


# %% check="07.4" points=1
for k in (2, 30, 100):
    weight = torch.as_tensor(noise_weight(chain.abar, k), dtype=torch.float64)
    assert weight.numel() == 1, f"w_k is one number, got shape {tuple(weight.shape)}"
    weight = weight.reshape(())
    before, now = (chain.abar[i] / (1 - chain.abar[i]) for i in (k - 1, k))
    right, v = (before / now - 1) / 2, chain.var[k]
    assert not near(weight, 2 * right), (
        "a factor 1/2 is missing: KL of equal variances is |difference|^2 / (2 variance)"
    )
    assert not near(weight, (before - now) / 2), "that is the weight of |x_0 - D|^2; it is asked for that of the noise"
    assert not near(weight, v / (2 * (1 - v) * (1 - chain.abar[k])), 1e-7), (
        "that is the weight for the large variance v_k: here both Gaussians have the posterior's"
    )
    assert not near(weight, (1 - now / before) / 2), "the quotient of the two ratios is upside down"
    assert float(weight) > 0, "a divergence is not negative, so neither is its weight"
    assert near(weight, right), (
        f"w_{k} is wrong: check it against torch.distributions.kl_divergence of the two Gaussians, for any numbers"
    )
### BEGIN HIDDEN TESTS
other = torch.tensor([1.0, 0.8, 0.3, 0.1], dtype=torch.float64)
assert near(noise_weight(other, 2), (0.8 / 0.2 / (0.3 / 0.7) - 1) / 2), "w_k must hold for any chain"
### END HIDDEN TESTS

# %% [markdown] hints="07.4"
# 1. First find how far the two means lie apart, in terms of $x_0 - D$. Then, what is $x_0 - D$ in terms of the noise?
#
# 2. The means differ by $c\,(x_0 - D)$ with the weight $c$ of $x_0$ in the posterior's mean, and $c^2/2\sigma^2 =
#    \frac12 (\mathrm{SNR}_{k-1} - \mathrm{SNR}_k)$.
#
# 3. $|x_0 - D|^2 = |\varepsilon - \hat\varepsilon|^2 / \mathrm{SNR}_k$, with $\mathrm{SNR}_k = \bar\alpha_k / (1 -
#    \bar\alpha_k)$. So $w_k = \frac12 (\mathrm{SNR}_{k-1}/\mathrm{SNR}_k - 1)$.

# %% tags=["demo"]
ks = list(range(2, 101))
figure, ax = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
snr = chain.abar / (1 - chain.abar)
ax.semilogy(ks, [(snr[k - 1] / snr[k] - 1) / 2 for k in ks], color=GREY, lw=4, alpha=0.5, label="expected")
ax.semilogy(ks, [float(noise_weight(chain.abar, k)) for k in ks], color=ACCENT, label="yours")
ax.axhline(1, color=INK, lw=1, ls="--", label="$L_{simple}$")
ax.set(xlabel="$k$", ylabel="weight of the noise's error")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 07.5 Ancestral sampling (2 points, 15 minutes, medium)
#
# DDPM's sampler along any sub-sequence $T = k_0 > k_1 > \dots > 0$. In the step from $k$ to $j$ the new state is drawn
# from a Gaussian whose mean is the posterior's with $D$ for $x_0$. Its variance is the posterior's (`large=False`) or
# $1 - \bar\alpha_k/\bar\alpha_j$ (`large=True`). The step to 0 adds no noise.


# %% solution="07.5"
def ancestral(
    eps: Callable[[Tensor, int], Tensor],
    abar: Tensor,
    x: Tensor,
    ks: list[int],
    large: bool,
    generator: torch.Generator,
) -> Tensor:
    """DDPM's sampler.

    Args:
        eps: the network, eps(x, k) -> like x, for x = x_k and 1 <= k <= T.
        abar: (T + 1,), indexed by k.
        x: the start x_T, shape (B, d).
        ks: the steps, decreasing from T to 0, both included.
        large: which of the two variances.
        generator: the source of all noise.

    Returns:
        x_0, shape (B, d).
    """
    ### BEGIN SOLUTION
    for k, j in pairwise(ks):
        data = (x - (1 - abar[k]).sqrt() * eps(x, k)) / abar[k].sqrt()
        v, left = 1 - abar[k] / abar[j], 1 - abar[k]
        mean = (abar[j].sqrt() * v * data + (abar[k] / abar[j]).sqrt() * (1 - abar[j]) * x) / left
        variance = v if large else v * (1 - abar[j]) / left
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = mean + variance.sqrt() * noise if j else mean
    return x
    ### END SOLUTION


# %% check="07.5" points=2
ks, count = [100, 80, 60, 30, 10, 0], 20_000
perfect = gaussian_noise(chain.abar, 0.6)
for large in (False, True):
    asked: list[tuple[Tensor, int]] = []

    def spy(x: Tensor, k: int, asked: list[tuple[Tensor, int]] = asked) -> Tensor:
        asked.append((x.detach().clone(), int(k)))
        return perfect(x, int(k))

    end = tensor(ancestral(spy, chain.abar, normal(8, count, 1), ks, large, seeded(9)), (count, 1))
    steps = [k for _, k in asked]
    assert steps != ks[1:], "the network must be asked at the step where x is, k, and not at the one where it goes, j"
    assert steps != ks[:-2], "the last step, to k = 0, is missing"
    assert steps == ks[:-1], f"the network must be asked at {ks[:-1]}, in this order; yours was asked at {steps}"
    assert near(asked[0][0], normal(8, count, 1)), "the first state must be the start x itself"
    states, drawn = [state for state, _ in asked] + [end], []
    for (k, j), (x, after) in zip(pairwise(ks), pairwise(states), strict=True):
        a_k, a_j = chain.abar[k], chain.abar[j]
        v = 1 - a_k / a_j
        data = (x - (1 - a_k).sqrt() * perfect(x, k)) / a_k.sqrt()
        mean = (a_j.sqrt() * v * data + (a_k / a_j).sqrt() * (1 - a_j) * x) / (1 - a_k)
        small = v * (1 - a_j) / (1 - a_k)
        rest, used = (after - mean)[:, 0], v if large else small
        if j == 0:
            assert near(rest, torch.zeros(count), 1e-9) or float(rest.std()) < 1e-9, (
                "the last step must land on its mean, without noise: nothing would take it away again"
            )
            continue
        drawn.append(rest / rest.std().clamp_min(1e-12))
        again = len(drawn) > 1 and abs(float((drawn[-1] * drawn[-2]).mean())) > 0.5
        assert not again, "each step needs new noise: yours is the same again"
        assert abs(float(rest.mean())) < 6 * float(rest.std()) / count**0.5 + 1e-9, (
            "the noise has a mean: is it standard normal, and a new number for each sample?"
        )
        slope = float((rest * x[:, 0]).mean() / (x[:, 0] ** 2).mean())
        assert abs(slope) < 6 * float(rest.std() / x.std()) / count**0.5 + 1e-9, (
            "the mean is wrong: it has to be the posterior's, with D for x_0"
        )
        found, error = float(rest.var()), 6 * (2 / count) ** 0.5
        single = chain.var[k] if large else chain.var[k] * (1 - a_j) / (1 - a_k)
        # Which of the likely mistakes the variance looks like, where it can be told from the right one.
        looks = {
            name: abs(found / float(other) - 1) < error < abs(float(other / used) - 1) / 2
            for name, other in (("squared", used**2), ("small", small), ("large", v), ("single", single))
        }
        assert found > 1e-9, "no noise was added: draw each state from a Gaussian and do not only take its mean"
        assert not looks["squared"], "the noise is multiplied by the variance: take its square root"
        assert not looks["small"], "large=True must use the larger variance"
        assert not looks["large"], "large=False must use the posterior's variance, which is the smaller one"
        assert not looks["single"], (
            "these are strides: the variance from k to j is 1 - abar_k / abar_j and not that of a single step"
        )
        ratio = found / float(used)
        assert abs(ratio - 1) < error, f"from k = {k} to {j} the noise has {ratio:.2f} times the right variance"
same = [ancestral(perfect, chain.abar, normal(8, 5, 1), ks, False, seeded(9)) for _ in range(2)]
assert near(*same), "the same generator gave different samples: all noise must come from `generator`"
### BEGIN HIDDEN TESTS
end = ancestral(lambda x, k: ring.noise(x, 1 - k / 100), chain.abar, normal(10, 5, 2), [100, 0], True, seeded(0))
assert near(end, ring.data(normal(10, 5, 2), 0.0), 1e-7), "one step from T to 0 must give D"
### END HIDDEN TESTS

# %% [markdown] hints="07.5"
# 1. One loop over neighbouring pairs of `ks`. Each step does three things: find $D$, find mean and variance of $x_j$,
#    draw.
#
# 2. $D = (x - \sqrt{1 - \bar\alpha_k}\,\hat\varepsilon)/\sqrt{\bar\alpha_k}$ goes into the posterior of 07.3 in the
#    place of $x_0$. Both variances contain $v = 1 - \bar\alpha_k/\bar\alpha_j$.
#
# 3. `x = mean + variance.sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype)` if `j > 0`, and `x = mean`
#    in the last step. The small variance is $v (1 - \bar\alpha_j)/(1 - \bar\alpha_k)$, the large one $v$.

# %% tags=["demo"]
figure, axes = plt.subplots(1, 2, figsize=(6.5, 3.3), layout="constrained")
expected = sample_ancestral(ring, normal(11, 800, 2), generator=seeded(12))
yours = ancestral(
    lambda x, k: ring.noise(x, 1 - k / 100), chain.abar, normal(11, 800, 2), list(range(100, -1, -1)), False, seeded(12)
)
for ax, cloud, title in zip(axes, (yours, expected), ("yours", "expected"), strict=True):
    ax.scatter(*cloud.T, s=3, color=INK)
    ax.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal", title=title)
plt.show()

# %% [markdown]
# ## 07.6 The step of DDIM (1 point, 8 minutes, medium)
#
# From $x_k$ to $x_j$: with $\sigma = \eta$ times the posterior's standard deviation, keep
# $\sqrt{1 - \bar\alpha_j - \sigma^2}$ of the predicted noise and add $\sigma$ of new noise.


# %% solution="07.6"
def ddim(eps: Tensor, x: Tensor, abar_k: Tensor, abar_j: Tensor, eta: float, noise: Tensor) -> Tensor:
    """One step of the family between DDIM (eta = 0) and DDPM (eta = 1).

    Args:
        eps: the noise that the network predicts at x_k, shape (B, d).
        x: x_k, shape (B, d).
        abar_k, abar_j: the levels of both steps, shape (); abar_k < abar_j.
        eta: in [0, 1].
        noise: new noise, (B, d).

    Returns:
        x_j, shape (B, d).
    """
    ### BEGIN SOLUTION
    data = (x - (1 - abar_k).sqrt() * eps) / abar_k.sqrt()
    variance = eta**2 * (1 - abar_k / abar_j) * (1 - abar_j) / (1 - abar_k)
    return abar_j.sqrt() * data + (1 - abar_j - variance).sqrt() * eps + variance.sqrt() * noise
    ### END SOLUTION


# %% check="07.6" points=1
x, eps, noise = normal(13, 4, 2), normal(14, 4, 2), normal(15, 4, 2)
zero = torch.zeros_like(x)
a_k, a_j = chain.abar[70], chain.abar[40]
data = (x - (1 - a_k).sqrt() * eps) / a_k.sqrt()
still = tensor(ddim(eps, x, a_k, a_j, 0.0, noise), (4, 2))
wrong_data = (x - (1 - a_k) * eps) / a_k
assert not near(still, a_j.sqrt() * wrong_data + (1 - a_j).sqrt() * eps), (
    "D comes from x_k = sqrt(abar_k) D + sqrt(1 - abar_k) eps: with square roots"
)
assert not near(still, a_j.sqrt() * x + (1 - a_j).sqrt() * eps), (
    "first find the data point D that x and eps stand for; yours takes x itself for it"
)
assert near(still, a_j.sqrt() * data + (1 - a_j).sqrt() * eps), (
    "at eta = 0 x_j is sqrt(abar_j) D + sqrt(1 - abar_j) eps"
)
for eta in (1.0, 0.5):
    variance = eta**2 * (1 - a_k / a_j) * (1 - a_j) / (1 - a_k)
    out, mean = ddim(eps, x, a_k, a_j, eta, noise), ddim(eps, x, a_k, a_j, eta, zero)
    assert not bool(out.isnan().any()), (
        "NaN: sigma^2 is more than 1 - abar_j; sigma belongs to the posterior, which knows x_0"
    )
    added = float(((out - mean) / noise).mean())
    assert abs(added) > 1e-9, "at eta > 0 new noise is added"
    assert abs(added / float(variance) - 1) > 1e-6, "the new noise is multiplied by sigma, and not by its square"
    exchanged = eta * float((1 - a_k / a_j) * (1 - a_k) / (1 - a_j)) ** 0.5
    assert abs(added / exchanged - 1) > 1e-6, "the two noise levels are exchanged in sigma"
    if eta < 1:
        assert abs(added / float(variance / eta) ** 0.5 - 1) > 1e-6, "eta multiplies sigma itself and not its square"
    assert abs(added / float(variance) ** 0.5 - 1) < 1e-6, "sigma must be eta times the posterior's standard deviation"
    assert not near(mean, a_j.sqrt() * data + (1 - a_j).sqrt() * eps), (
        "new noise needs room: keep only sqrt(1 - abar_j - sigma^2) of the old, or the total grows"
    )
    assert near(mean, a_j.sqrt() * data + (1 - a_j - variance).sqrt() * eps), (
        "what is kept of eps must be sqrt(1 - abar_j - sigma^2)"
    )
### BEGIN HIDDEN TESTS
one = torch.ones((), dtype=torch.float64)
assert near(ddim(eps, x, a_k, one, 1.0, noise), data), "at j = 0 the step must land on D"
### END HIDDEN TESTS

# %% [markdown] hints="07.6"
# 1. First find $D$. Then there are three terms: signal, kept noise, new noise.
#
# 2. $\sigma^2 = \eta^2 \big(1 - \frac{\bar\alpha_k}{\bar\alpha_j}\big) \frac{1 - \bar\alpha_j}{1 - \bar\alpha_k}$.
#
# 3. `abar_j.sqrt() * data + (1 - abar_j - variance).sqrt() * eps + variance.sqrt() * noise`, where the squares of the
#    last two factors add up to $1 - \bar\alpha_j$.

# %% tags=["demo"]
figure, axes = plt.subplots(1, 2, figsize=(6.5, 3.3), layout="constrained")
times, x = chain.time(chain.stride(10)), normal(16, 60, 2)
paths = [x * (1 - chain.abar[-1]).sqrt()]
for k, j in pairwise(chain.stride(10).tolist()):
    predicted = ring.noise(paths[-1], chain.time(k))
    paths.append(ddim(predicted, paths[-1], chain.abar[k], chain.abar[j], 0.0, torch.zeros_like(x)))
expected = sample_ddim(ring, x, times=times, trajectory=True)
for ax, states, title in zip(axes, (torch.stack(paths), expected), ("yours", "expected"), strict=True):
    ax.plot(states[..., 0], states[..., 1], color=GREY, lw=0.6)
    ax.scatter(*states[-1].T, s=8, color=ACCENT, zorder=3)
    ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", title=title)
plt.show()

# %% [markdown]
# ## 07.7 Back to the noise (1 point, 6 minutes, easy)
#
# Encode data: run DDIM at $\eta = 0$ *upwards*, from $k = 0$ to $T$. The network is asked where the state is.


# %% solution="07.7"
def encode(eps: Callable[[Tensor, int], Tensor], abar: Tensor, x: Tensor, ks: list[int]) -> Tensor:
    """The latent of data.

    Args:
        eps: the network, eps(x, k) -> like x, for x = x_k and 0 <= k <= T.
        abar: (T + 1,), indexed by k.
        x: the data x_0, shape (B, d).
        ks: the steps, increasing from 0 to T, both included.

    Returns:
        x_T, shape (B, d).
    """
    ### BEGIN SOLUTION
    for j, k in pairwise(ks):
        noise = eps(x, j)
        data = (x - (1 - abar[j]).sqrt() * noise) / abar[j].sqrt()
        x = abar[k].sqrt() * data + (1 - abar[k]).sqrt() * noise
    return x
    ### END SOLUTION


# %% check="07.7" points=1
ks, x, s = [0, 5, 20, 50, 100], normal(17, 6, 1), 0.8
perfect, asked = gaussian_noise(chain.abar, s), []


def listen(x: Tensor, k: int) -> Tensor:
    asked.append(int(k))
    return perfect(x, int(k))


before = x.clone()
latent = tensor(encode(listen, chain.abar, x, ks), (6, 1))
expected, places = x, []
for j, k in pairwise(ks):
    noise = perfect(expected, j)
    data = (expected - (1 - chain.abar[j]).sqrt() * noise) / chain.abar[j].sqrt()
    expected = chain.abar[k].sqrt() * data + (1 - chain.abar[k]).sqrt() * noise
assert near(x, before), "the data that were passed in have been changed in place"
assert asked != ks[1:], "the network must be asked where the state is, at j, and not at the step where it goes"
assert asked != ks[:0:-1], "upwards: the way starts at k = 0, at the data"
assert asked == ks[:-1], f"the network must be asked at {ks[:-1]}, in this order; yours was asked at {asked}"
assert not near(latent, x), "the data came back unchanged"
again = encode(perfect, chain.abar, x, ks)
assert near(latent, again), "two calls differ: encoding adds no noise, so that it can be undone"
shrunk = x
for j, k in pairwise(ks):
    shrunk = (chain.abar[k] / chain.abar[j]).sqrt() * shrunk + (1 - chain.abar[k] / chain.abar[j]).sqrt() * perfect(
        shrunk, j
    )
assert not near(latent, shrunk), (
    "that adds the noise on top of the noise that x has already: split x into D and noise first, then put them together"
)
late = x
for j, k in pairwise(ks):
    late = chain.abar[k].sqrt() * x + (1 - chain.abar[k]).sqrt() * perfect(late, j)
assert not near(latent, late), "D is found anew in each step, from the state and its noise: yours stays the data"
assert near(latent, expected), (
    "the latent is wrong: each step is DDIM's at eta = 0, with D and eps from step j, put together at the levels of k"
)
### BEGIN HIDDEN TESTS
points = ring.sample(5, seeded(1))[0]
every = list(range(101))
latent = encode(lambda x, k: ring.noise(x, 1 - k / 100), chain.abar, points, every)
right = encode_ddim(ring, points, times=chain.time(chain.stride(100))) * (1 - chain.abar[-1]).sqrt()
assert near(latent, right, 1e-7), "the latents of eight Gaussians are wrong"
### END HIDDEN TESTS

# %% [markdown] hints="07.7"
# 1. It is the step of 07.6 with $\eta = 0$. Which of its two levels is larger does not matter to it.
#
# 2. Loop over the pairs (j, k) of `ks`: ask `eps(x, j)`, find $D$ at level `abar[j]`, and put both together at level
#    `abar[k]`.
#
# 3. `data = (x - (1 - abar[j]).sqrt() * noise) / abar[j].sqrt()`, then
#    `x = abar[k].sqrt() * data + (1 - abar[k]).sqrt() * noise`.

# %% tags=["demo"]
points, labels = ring.sample(600, seeded(18))
figure, axes = plt.subplots(1, 2, figsize=(6.5, 3.3), layout="constrained")
yours = encode(lambda x, k: ring.noise(x, 1 - k / 100), chain.abar, points, list(range(101)))
for ax, cloud, title in zip(axes, (yours, encode_ddim(ring, points, steps=100)), ("yours", "expected"), strict=True):
    ax.scatter(*cloud.T, s=4, c=labels, cmap="tab10", vmax=9)
    ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", title=title)
plt.show()

# %% [markdown]
# ## 07.8 The true variance (1 point, 10 minutes, hard)
#
# Let the data be one-dimensional, $x_0 \sim \mathcal N(0, s^2)$. Then $q(x_j \mid x_k)$, with $x_0$ *not* known, is a
# Gaussian. Derive its variance. (It lies between DDPM's two for $s \le 1$, and reaches them at $s = 0$ and $s = 1$.)


# %% solution="07.8"
def true_variance(abar: Tensor, k: int, j: int, s: float) -> Tensor:
    """Var(x_j | x_k) for data N(0, s^2).

    Args:
        abar: (T + 1,), indexed by k.
        k, j: 0 <= j < k <= T.
        s: the standard deviation of the data, >= 0.

    Returns:
        the variance, a tensor of shape () or a number.
    """
    ### BEGIN SOLUTION
    ratio = abar[k] / abar[j]
    before = abar[j] * s**2 + 1 - abar[j]  # the variance of x_j, which x_k = sqrt(ratio) x_j + noise narrows
    return before * (1 - ratio) / (ratio * before + 1 - ratio)
    ### END SOLUTION


# %% check="07.8" points=1
for k, j, s in ((50, 49, 0.5), (80, 20, 0.3), (80, 20, 2.0)):
    a_k, a_j = chain.abar[k], chain.abar[j]
    v = 1 - a_k / a_j
    small, c = v * (1 - a_j) / (1 - a_k), a_j.sqrt() * v / (1 - a_k)
    left = s**2 * (1 - a_k) / (a_k * s**2 + 1 - a_k)  # Var(x_0|x_k)
    found = torch.as_tensor(true_variance(chain.abar, k, j, s), dtype=torch.float64)
    assert found.numel() == 1, f"the variance is one number, got shape {tuple(found.shape)}"
    found = found.reshape(())
    assert not near(found, small), "that is the posterior's variance, where x_0 is known; here it is not"
    assert not near(found, v), "that is the variance of x_k given x_j: right only for s = 1"
    assert not near(found, small + c**2 * s**2), (
        "x_k tells something about x_0: what is left open is Var(x_0|x_k), which is less than s^2"
    )
    assert not near(found, small + c * left), "x_0 enters the mean with a weight c, so its variance with c squared"
    assert not near(found, c**2 * left), (
        "the law of total variance has two terms: the posterior's own variance is missing"
    )
    assert not near(found, a_j * s**2 + 1 - a_j), "that is the variance of x_j before x_k is known"
    assert near(found, small + c**2 * left), (
        f"Var(x_j|x_k) is wrong for k = {k}, j = {j}, s = {s}: x_j and x_k are jointly Gaussian"
    )
try:
    point = float(true_variance(chain.abar, 30, 10, 0.0))
except ZeroDivisionError:
    point = float("nan")
assert not torch.tensor(point).isnan(), "s may be 0, data that are one point: do not divide by it"
### BEGIN HIDDEN TESTS
assert near(float(true_variance(chain.abar, 30, 10, 1.0)), 1 - chain.abar[30] / chain.abar[10]), (
    "at s = 1 it must be the large one"
)
ratio = chain.abar[30] / chain.abar[10]
assert near(point, (1 - ratio) * (1 - chain.abar[10]) / (1 - chain.abar[30])), "at s = 0 it must be the small one"
### END HIDDEN TESTS

# %% [markdown] hints="07.8"
# 1. Two ways lead there: the law of total variance over $x_0$, or Bayes' rule for $x_j$ with the prior $q(x_j)$.
#
# 2. $x_j \sim \mathcal N(0, V)$ with $V = \bar\alpha_j s^2 + 1 - \bar\alpha_j$, and
#    $x_k = r x_j + \sqrt v\, \varepsilon$ with $r^2 = \bar\alpha_k/\bar\alpha_j$, $v = 1 - r^2$.
#    So the precision of $x_j$ given $x_k$ is a sum of two.
#
# 3. $\frac{1}{\mathrm{Var}(x_j \mid x_k)} = \frac1V + \frac{r^2}{v}$, which gives $\frac{V v}{r^2 V + v}$.

# %% tags=["demo"]
widths = torch.linspace(0, 1, 30)
figure, ax = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
ratio = chain.abar[80] / chain.abar[40]
bounds = ((1 - ratio) * (1 - chain.abar[40]) / (1 - chain.abar[80]), 1 - ratio)
ax.plot(widths, [float(true_variance(chain.abar, 80, 40, float(s))) for s in widths], color=ACCENT, label="yours")
for bound, name in zip(bounds, ("small", "large"), strict=True):
    ax.axhline(float(bound), color=GREY, ls="--")
    ax.annotate(name, (0.02, float(bound)), va="bottom", color=GREY)
ax.set(xlabel="$s$", ylabel="variance from $k = 80$ to $40$", title="Expected: from one dashed line to the other")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# **To grade:** `flowlib grade 07_ddpm_and_ddim.ipynb`
