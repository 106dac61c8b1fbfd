# %% [markdown]
# # Exercise 07. DDPM and DDIM
#
# You write DDPM yourself, from its tables to its sampler, then DDIM and its encoder. Two questions are derivations.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right;
# when it is wrong, it says what probably went wrong. `hint("07.1")` gives a hint; asked again, it says more, three
# times. Every question stands on its own.
#
# **Without** in a question names functions that solve it already: an answer that calls one of them gets no points.
#
# **Needed before:** [lecture 07](../lectures/07_ddpm_and_ddim.ipynb). **Time:** about 75 minutes. **Points:** 10.
#
# Steps count from $k = 0$, the data, to $k = T$, noise. Tables are tensors of $T + 1$ numbers, indexed by $k$:
# `abar[k]` is $\bar\alpha_k$, and `abar[0]` is 1. All tensors are `float64`. Checks that draw samples call a
# right answer wrong with probability below $10^{-6}$.

# %%
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from flowlib import GaussianPath, MixtureField, sample_ddim
from flowlib.chains import Chain, encode_ddim, sample_ancestral
from flowlib.chains import ancestral as ddpm
from flowlib.chains.bound import kl_normal, term_at
from flowlib.course.notebook import exercise, seeded, unaided
from flowlib.data import load, toy
from flowlib.ddim import ddim_step, ddim_weights
from flowlib.field import Field
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


@contextmanager
def untouched(*arguments: Tensor) -> Iterator[None]:
    """While it lasts, none of these tensors may be changed in place."""
    before = [argument.clone() for argument in arguments]
    yield
    same = all(torch.equal(argument, copy) for argument, copy in zip(arguments, before, strict=True))
    assert same, "an argument was changed in place: make a new tensor, the caller still needs the old one"


def tensor(answer: object, shape: tuple[int, ...]) -> Tensor:
    """The answer, if it is a tensor of float64 of this shape, without NaN or infinity."""
    assert isinstance(answer, Tensor), f"return a tensor, got {type(answer).__name__}"
    assert answer.dtype == torch.float64, f"all tensors are float64, got {answer.dtype}"
    assert answer.shape == shape, f"expected a tensor of shape {shape}, got {tuple(answer.shape)}"
    assert bool(answer.isfinite().all()), "the answer contains NaN or infinite numbers"
    return answer


def number(answer: object, what: str) -> Tensor:
    """The answer as a tensor of shape (), if it is one finite number, in a tensor or not."""
    assert isinstance(answer, Tensor | int | float), f"return a number, {what}, got {type(answer).__name__}"
    value = torch.as_tensor(answer, dtype=torch.float64)
    assert value.numel() == 1, f"{what} is one number, got shape {tuple(value.shape)}"
    return value.reshape(())


def pair(answer: object, what: str) -> tuple[Tensor, Tensor]:
    """The two parts of an answer."""
    assert isinstance(answer, tuple | list), f"return two things: {what}"
    assert len(answer) == 2, f"return two things: {what}"
    for part in answer:
        assert part is not None, f"return two things: {what}"
        assert not isinstance(part, Tensor) or part.dtype == torch.float64, f"all tensors are float64, got {part.dtype}"
    return torch.as_tensor(answer[0], dtype=torch.float64), torch.as_tensor(answer[1], dtype=torch.float64)


class Network(Field):
    """A function eps(x, k) as a field on the chain, for the library's own samplers."""

    path, predicts = GaussianPath(chain), "noise"

    def __init__(self, eps: Callable[[Tensor, int], Tensor]) -> None:
        self.eps = eps

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        return self.eps(x, round((1 - float(torch.as_tensor(t).flatten()[0])) * chain.steps))


def gaussian_noise(abar: Tensor, s: float) -> Callable[[Tensor, int], Tensor]:
    """E[eps|x_k] as a function of x_k and k, for data N(0, s^2): what a perfect network would say."""
    return lambda x, k: (1 - abar[k]).sqrt() / (abar[k] * s**2 + 1 - abar[k]) * x


# %% [markdown]
# ## 07.1 The tables (1 point, 7 minutes, easy)
#
# DDPM's linear chain: for $T = 1000$ the variances $v_1, \dots, v_T$ rise in equal steps from $10^{-4}$ to $0.02$. For
# another $T$ there are $T$ of them between the same ends, and all are multiplied by $1000/T$.
# $\bar\alpha_k = \prod_{i=1}^{k} (1 - v_i)$.
#
# **Without:** `Chain`.


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
for T in (1000, 250, 37):
    with unaided(Chain):
        answer = tables(T)
    var, abar = pair(answer, "var and abar")
    right = Chain.linear(T)
    assert var.shape != (T,), "the tables are indexed by k = 0 ... T, so they have T + 1 entries: the first is the data"
    assert var.shape == abar.shape == (T + 1,), f"expected two tables of {T + 1} numbers, got {tuple(var.shape)}"
    assert bool(var.isfinite().all() & abar.isfinite().all()), "the tables contain NaN or infinite numbers"
    if T != 1000:
        assert not near(var * 1000 / T, right.var, 1e-6), "for another T than 1000 the variances have to be scaled"
        assert not near(var * (1000 / T) ** 2, right.var, 1e-6), (
            "with fewer steps each has to add more noise: T/1000 and 1000/T are exchanged"
        )
    assert near(var[0], 0, 1e-12), "var[0] must be 0: nothing is added before the first step"
    assert not near(var[1], right.var[1] + (right.var[2] - right.var[1]), 1e-9), (
        "var[1] is already one step too far: the line runs from v_1 to v_T, and not from v_0"
    )
    assert not near(var.flip(0)[:-1], right.var[1:], 1e-6), "the tables are upside down: k = 0 is the data, not noise"
    rounded = torch.equal(var, var.float().double())
    assert not rounded, "these numbers were rounded to float32: make them in float64 from the start"
    assert not near(var[1:].sqrt().diff().diff(), torch.zeros(T - 2), 1e-9), (
        "the variances must rise in equal steps, and not their square roots"
    )
    assert near(var[[1, -1]], right.var[[1, -1]], 1e-9), "the line ends elsewhere: it runs from 10^-4 to 0.02, scaled"
    assert near(var, right.var, 1e-9), (
        "the variances must rise in equal steps, var[1] the smallest and var[T] the largest"
    )
    assert near(abar[0], 1, 1e-12), "abar[0] must be 1: the data themselves"
    assert not near(abar[1], var[1], 1e-9), "abar is the product of what is kept, 1 - v, and not of the v"
    assert not near(abar, right.abar.sqrt(), 1e-6), "abar itself is a share of the variance: no square root here"
    assert not near(abar[1:], right.abar[:-1], 1e-6), "abar[k] must include the step k itself: yours is one step late"
    assert not near(abar, 1 - var, 1e-6), "abar[k] is what is left after all k steps: multiply them up"
    assert not near(abar, right.abar**2, 1e-6), "abar is squared: each factor 1 - v counts once"
    assert not near(abar, 1 - right.var.cumsum(0), 1e-6), "abar is a product of the 1 - v, not 1 minus the sum of the v"
    assert near(abar, right.abar), "abar[k] must be the product of 1 - var[i] for i = 1 ... k"
### BEGIN HIDDEN TESTS
assert near(tables(50)[1], Chain.linear(50).abar), "for T = 50 the table is wrong"
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
#
# **Without:** `GaussianPath`, `ddpm.forward`.


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
one, zero = torch.ones_like(x_0), torch.zeros_like(x_0)
with untouched(x_0, chain.abar, k, noise), unaided(GaussianPath, ddpm.forward):
    x = tensor(noised(x_0, chain.abar, k, noise), (3, 1, 3, 3))
    # What the data and what the noise are multiplied by.
    signal = tensor(noised(one, chain.abar, k, zero), (3, 1, 3, 3))
    rest = tensor(noised(zero, chain.abar, k, one), (3, 1, 3, 3))
assert near(x, noised(x_0, chain.abar, k, noise)), "two equal calls differ: the noise is given, draw none"
path = GaussianPath(chain)
right_signal, right_rest = path.sample(one, chain.time(k), zero), path.sample(zero, chain.time(k), one)
assert not bool((signal.flatten(1).std(1) > 1e-9).any()), (
    "each image has its own k; yours changes from column to column: give the levels the shape (B, 1, 1, 1)"
)
assert not (near(signal, right_signal**2) and near(rest, right_rest**2)), (
    "abar is a share of variances: signal and noise are multiplied by square roots"
)
assert not near(rest, 0 * rest), "the noise does not enter"
assert not near(rest, -right_rest), "the noise is taken off, and not added"
assert not near(rest, right_rest**2), "the noise's factor is the root of 1 - abar"
assert not near(signal, right_signal**2), "the signal's factor is the root of abar"
assert not near(signal, right_rest), "signal and noise are exchanged: abar is the signal"
assert not near(signal, path.sample(one, chain.time(k - 1), zero)), (
    "abar[k] belongs to x_k: yours is one step earlier, as in tables that begin at k = 1"
)
assert not near(signal, ddpm.forward(chain, one, k, k - 1)[0]), (
    "that is one step of the chain, from x_(k-1): here the jump is from x_0"
)
assert not (near(signal, right_signal) and near(rest, 1 - right_signal)), (
    "the squares of both factors add up to 1, not the factors themselves"
)
assert near(x, path.sample(x_0, chain.time(k), noise)), (
    "x_k is wrong: both factors come from abar at the image's own k, and their squares add up to 1"
)
for shape, steps in (((1, 3, 4, 2), [7]), ((4, 2, 5, 1), [100, 0, 3, 3])):
    x_0, noise, k = normal(1, *shape), normal(2, *shape), torch.tensor(steps)
    assert near(tensor(noised(x_0, chain.abar, k, noise), shape), path.sample(x_0, chain.time(k), noise)), (
        f"images of shape {shape} at the steps {steps} go wrong"
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
#
# **Without:** `ddpm.posterior`, `ddpm.reverse`.


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
one, zero = torch.ones_like(x_0), torch.zeros_like(x_0)
what = "the mean and the variance"
for k, j in ((60, 59), (80, 30)):
    with untouched(x_k, x_0, chain.abar), unaided(ddpm.posterior, ddpm.reverse):
        mean, variance = pair(posterior(x_k, x_0, chain.abar, k, j), what)
        # What x_0 and what x_k are multiplied by in the mean.
        of_data = pair(posterior(zero, one, chain.abar, k, j), what)[0]
        of_state = pair(posterior(one, zero, chain.abar, k, j), what)[0]
    right_mean, right = ddpm.posterior(chain, x_k, x_0, k, j)
    right_data, right_state = (ddpm.posterior(chain, *ends, k, j)[0] for ends in ((zero, one), (one, zero)))
    v = ddpm.forward(chain, x_0, k, j)[1]
    assert mean.shape == (4, 2), f"the mean must have the shape of x_k, (4, 2), got {tuple(mean.shape)}"
    variance = number(variance, "the variance")
    assert bool(mean.isfinite().all() & variance.isfinite()), "the mean or the variance is NaN or infinite"
    assert not near(variance, right.log()), "return the variance and not its logarithm"
    assert not bool(variance < -1e-12), "a variance is not negative: which of abar_k and abar_j is the smaller one?"
    nearest = ddpm.posterior(chain, x_k, x_0, k, k - 1)[1]
    assert j == k - 1 or not near(variance, nearest), "that is the variance for j = k - 1: use j as it comes"
    assert not near(variance, right.sqrt()), "return the variance and not the standard deviation"
    assert not near(variance, v), "that is the variance of x_k given x_j; x_0 is known as well, and narrows it"
    assert not near(variance, v**2 / right), (
        "the two noise levels are exchanged in the variance: at j = 0 it has to vanish"
    )
    assert j == k - 1 or not near(variance, chain.var[k] * right / v), (
        "from k to j many steps are jumped: the variance between them is 1 - abar_k / abar_j, not that of one step"
    )
    assert near(variance, right), (
        f"the variance is wrong for k = {k}, j = {j}: its inverse is the factor of |x_j|^2 in the sum of both exponents"
    )
    assert not near(of_data, right_state), "the weights of x_0 and x_k are exchanged in the mean"
    assert not near(of_data, right_data * chain.abar[j].sqrt()), (
        "the mean's weights have square roots of abar_j and of abar_k / abar_j"
    )
    assert near(of_data, right_data), f"the mean's weight of x_0 is wrong for k = {k}, j = {j}: complete the square"
    assert near(of_state, right_state), f"the mean's weight of x_k is wrong for k = {k}, j = {j}: complete the square"
    assert near(mean, right_mean), (
        f"the mean is wrong for k = {k}, j = {j}: complete the square in log q(x_k|x_j) + log q(x_j|x_0)"
    )
single, wide = (normal(seed, 1, 3) for seed in (20, 21))
mean = pair(posterior(single, wide, chain.abar, 9, 4), what)[0]
assert mean.shape == (1, 3), f"the mean of one point with d = 3 must have shape (1, 3), got {tuple(mean.shape)}"
assert near(mean, ddpm.posterior(chain, single, wide, 9, 4)[0]), "one point with d = 3 goes wrong"
try:
    mean, variance = pair(posterior(x_k, x_0, chain.abar, 25, 0), what)
except ZeroDivisionError:
    mean, variance = torch.full((2, 4, 2), float("nan"), dtype=torch.float64)
assert not bool(mean.isnan().any() | variance.isnan().any()), (
    "NaN at j = 0, where 1 - abar_j is 0: multiply the fractions out, so that nothing is divided by it"
)
assert near(mean, x_0), "at j = 0 the mean must be x_0"
assert abs(float(variance)) < 1e-12, "at j = 0 the variance must be 0"
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
# $x_0$. Then $L_{k-1} = w_k\, |\varepsilon - \hat\varepsilon|^2$, in nats. Derive $w_k$.
#
# **Without:** `kl_normal`, `term_at`.


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
known = {2: 1.5095945370914428, 30: 0.05455379525702431, 100: 0.1250031860327292}  # w_k of this chain
one = torch.ones(1, 1, dtype=torch.float64)
for k, right in known.items():
    with untouched(chain.abar), unaided(kl_normal, term_at):
        weight = number(noise_weight(chain.abar, k), "w_k")
    small, large = ddpm.posterior(chain, one, one, k)[1], ddpm.forward(chain, one, k, k - 1)[1]
    signal = chain.abar[k] / (1 - chain.abar[k])
    assert bool(weight.isfinite()), f"w_{k} is NaN or infinite"
    assert not near(weight, 2 * right), (
        "a factor 1/2 is missing: KL of equal variances is |difference|^2 / (2 variance)"
    )
    assert not near(weight, right * signal), "that is the weight of |x_0 - D|^2; it is asked for that of the noise"
    assert not near(weight, right * signal**2), (
        "the weight of |x_0 - D|^2 was multiplied by the signal-to-noise ratio: what is |x_0 - D|^2 in the noise?"
    )
    assert not near(weight, right * small / large, 1e-7), (
        "that is the weight for the large variance v_k: here both Gaussians have the posterior's"
    )
    assert not near(weight, right / (1 + 2 * right)), "the quotient of the two ratios is upside down"
    assert not near(weight, right / math.log(2), 1e-6), "nats are asked for, not bits: natural logarithms"
    assert not near(weight, right + 0.5), "the -1 is missing: between equal signal-to-noise ratios nothing is lost"
    assert not near(weight, 1), "that is the weight of L_simple, which leaves w_k away"
    assert float(weight) > 0, "a divergence is not negative, so neither is its weight"
    assert near(weight, right), (
        f"w_{k} is wrong: check it against torch.distributions.kl_divergence of the two Gaussians, for any numbers"
    )
### BEGIN HIDDEN TESTS
other = torch.tensor([1.0, 0.8, 0.3, 0.1], dtype=torch.float64)
assert near(number(noise_weight(other, 2), "w_k"), (0.8 / 0.2 / (0.3 / 0.7) - 1) / 2), "w_k must hold for any chain"
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
expected = {2: 1.5095945370914428, 30: 0.05455379525702431, 100: 0.1250031860327292}
ax.semilogy(expected.keys(), expected.values(), "o", color=GREY, label="expected")
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
# $1 - \bar\alpha_k/\bar\alpha_j$ (`large=True`). The step to 0 adds no noise. The network is asked once a step.
#
# **Without:** `sample_ancestral`, `sample_ddim`, `ddpm.reverse`, `ddpm.posterior`.


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


def guess(x: Tensor, k: int) -> Tensor:
    """A network that is not perfect, so that its weight in the mean is seen."""
    return perfect(x, int(k)) + 1


def run(*arguments) -> Tensor:
    x = arguments[2]
    with untouched(arguments[1], x), unaided(sample_ancestral, sample_ddim, ddpm.reverse, ddpm.posterior):
        return tensor(ancestral(*arguments), tuple(x.shape))


for large in (False, True):
    asked: list[tuple[Tensor, int]] = []

    def spy(x: Tensor, k: int, asked: list[tuple[Tensor, int]] = asked) -> Tensor:
        asked.append((x.detach().clone(), int(k)))
        return guess(x, k)

    end = run(spy, chain.abar, normal(8, count, 2), ks, large, seeded(9))
    steps = [k for _, k in asked]
    assert steps != ks[1:], "the network must be asked at the step where x is, k, and not at the one where it goes, j"
    assert steps != ks[:-2], "the last step, to k = 0, is missing"
    assert steps == ks[:-1], f"the network must be asked at {ks[:-1]}, in this order; yours was asked at {steps}"
    assert near(asked[0][0], normal(8, count, 2)), "the first state must be the start x itself"
    states, drawn = [state for state, _ in asked] + [end], []
    for (k, j), (x, after) in zip(pairwise(ks), pairwise(states), strict=True):
        mean, small = ddpm.reverse(Network(guess), chain, x, None, k, j)
        v = ddpm.reverse(Network(guess), chain, x, None, k, j, "large")[1]
        rest, used = after - mean, v if large else small
        if j == 0:
            assert near(rest, torch.zeros(count, 2)) or bool((rest.std(0) < 1e-9).all()), (
                "the last step must land on its mean, without noise: nothing would take it away again"
            )
            assert near(rest, torch.zeros(count, 2)), "the last step must land on its mean, the posterior's with D"
            continue
        width = rest.std()
        drawn.append(rest / width.clamp_min(1e-12))
        again = len(drawn) > 1 and abs(float((drawn[-1] * drawn[-2]).mean())) > 0.5
        assert not again, "each step needs new noise: yours is the same again"
        assert width > 1e-9 or not near(rest, torch.zeros(count, 2), 1e-6), (
            f"no noise was added from k = {k} to {j}: draw each state from a Gaussian and do not only take its mean"
        )
        assert width < 1e-9 or abs(float(torch.corrcoef(rest.T)[0, 1])) < 0.5, (
            "both coordinates get the same noise: draw it in the shape of x"
        )
        slope = float((rest * x).mean() / (x**2).mean())
        assert abs(slope) < 6 * float(width / x.std()) / count**0.5 + 1e-9, (
            "the mean is wrong: it has to be the posterior's, with D for x_0"
        )
        beyond = abs(float(rest.mean())) - 6 * float(width) / count**0.5
        low = float((rest - rest.mean()).min()) < -3 * float(
            width
        )  # as standard normal numbers are somewhere, uniform ones nowhere
        assert beyond < 1e-9 or low, "the noise has a mean: is it standard normal, and a new number for each sample?"
        assert beyond < 1e-9, "the mean is wrong: what the network says enters D, and D the posterior's mean"
        found, error = float(rest.var()), 6 * (1 / count) ** 0.5
        ratio = found / float(used)
        single = chain.var[k] if large else chain.var[k] * small / v
        # If the variance is wrong: which of the likely mistakes does it look like?
        looks = {
            name: abs(ratio - 1) > error > abs(found / float(other) - 1)
            for name, other in (("squared", used**2), ("small", small), ("large", v), ("single", single))
        }
        assert not looks["squared"], "the noise is multiplied by the variance: take its square root"
        assert not looks["small"], "large=True must use the larger variance"
        assert not looks["large"], "large=False must use the posterior's variance, which is the smaller one"
        assert not looks["single"], (
            "these are strides: the variance from k to j is 1 - abar_k / abar_j and not that of a single step"
        )
        assert abs(ratio - 1) < error, f"from k = {k} to {j} the noise has {ratio:.2f} times the right variance"
start, source = normal(8, 1, 3), seeded(9)
first, then = (run(perfect, chain.abar, start, ks, False, source) for _ in range(2))
assert not near(first, then), "two calls in a row with one generator draw the same noise: is a seed set inside?"
assert near(first, run(perfect, chain.abar, start, ks, False, seeded(9))), (
    "the same generator gave different samples: all noise must come from `generator`"
)
assert not near(first, run(perfect, chain.abar, start, ks, False, seeded(10))), (
    "another generator gave the same samples: all noise must come from `generator`"
)
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
#
# **Without:** `ddim_step`, `ddim_weights`, `sample_ddim`.


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
zero, one = torch.zeros_like(x), torch.ones_like(x)
a_k, a_j, t, s = chain.abar[70], chain.abar[40], chain.time(70), chain.time(40)


def step(eta: float, eps: Tensor = eps, x: Tensor = x, noise: Tensor = noise) -> Tensor:
    with untouched(eps, x, a_k, a_j, noise), unaided(ddim_step, ddim_weights, sample_ddim):
        return tensor(ddim(eps, x, a_k, a_j, eta, noise), tuple(x.shape))


still, right = step(0.0), ddim_step(Network(lambda x, k: eps), x, None, t, s)
of_x, right_x = step(0.0, zero, one, zero), ddim_step(Network(lambda x, k: zero), one, None, t, s)
assert not near(of_x, right_x / a_k.sqrt()), (
    "D comes from x_k = sqrt(abar_k) D + sqrt(1 - abar_k) eps: with square roots"
)
assert not near(of_x, right_x * a_k.sqrt()), (
    "first find the data point D that x and eps stand for; yours takes x itself for it"
)
assert near(step(0.5), step(0.5)), "two equal calls differ: the noise is given, draw none"
assert not near(of_x, 1 / right_x), "the two levels are exchanged: x is at the level of k, and goes to that of j"
of_eps = step(0.0, one, zero, zero)
assert not near(of_eps, (1 - a_j).sqrt() * one), (
    "D still contains the noise of x: what eps says must be taken out first"
)
assert near(step(0.0, noise=zero), still), "at eta = 0 there is no new noise"
assert near(still, right), "at eta = 0 x_j is D and eps, put together at the level of j"
v = ddpm.forward(chain, x, 70, 40)[1]
for eta in (1.0, 0.5):
    sigma = ddim_weights(chain, t, s, eta)[2]
    answer = ddim(eps, x, a_k, a_j, eta, noise)
    assert not bool(answer.isnan().any()), (
        "NaN: sigma^2 is more than 1 - abar_j; sigma belongs to the posterior, which knows x_0"
    )
    out, mean = step(eta), step(eta, noise=zero)
    added = float(((out - mean) / noise).mean())
    assert abs(added) > 1e-9, "at eta > 0 new noise is added"
    assert abs(added / float(sigma) ** 2 - 1) > 1e-6, "the new noise is multiplied by sigma, and not by its square"
    assert abs(added / float(eta**2 * v / sigma) - 1) > 1e-6, "the two noise levels are exchanged in sigma"
    assert abs(added / float(eta * v.sqrt()) - 1) > 1e-6, (
        "sigma belongs to the posterior, which knows x_0; yours is that of x_k given x_j"
    )
    if eta < 1:
        assert abs(added / float(sigma / eta**0.5) - 1) > 1e-6, "eta multiplies sigma itself and not its square"
        assert abs(added / float(sigma / eta) - 1) > 1e-6, "eta is not used: sigma is eta times a standard deviation"
    assert abs(added / float(sigma) - 1) < 1e-6, "sigma must be eta times the posterior's standard deviation"
    assert not near(mean, still), (
        "new noise needs room: keep only sqrt(1 - abar_j - sigma^2) of the old, or the total grows"
    )
    right = ddim_step(Network(lambda x, k: eps), x, None, t, s, eta, noise)
    assert near(out, right), "what is kept of eps must be sqrt(1 - abar_j - sigma^2)"
    single = normal(22, 1, 3)
    right = ddim_step(Network(lambda x, k: 0.3 * x), single, None, t, s, eta, -single)
    assert near(step(eta, 0.3 * single, single, -single), right), "one point with d = 3 goes wrong"
last = ddim(eps, x, a_k, torch.ones((), dtype=torch.float64), 1.0, noise)
assert not bool(last.isnan().any()), "NaN at j = 0, where abar_j is 1: nothing may be divided by 1 - abar_j"
data = Network(lambda x, k: eps).data(x, t)
assert near(last, data), "at j = 0 the step must land on D"

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
# Encode data: run DDIM at $\eta = 0$ *upwards*, from $k = 0$ to $T$. The network is asked where the state is,
# once a step.
#
# **Without:** `encode_ddim`, `ddim_step`, `sample_ddim`.


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


def run(eps: Callable[[Tensor, int], Tensor], x: Tensor, ks: list[int]) -> Tensor:
    with untouched(chain.abar, x), unaided(encode_ddim, ddim_step, sample_ddim):
        return tensor(encode(eps, chain.abar, x, ks), tuple(x.shape))


def expected(eps: Callable[[Tensor, int], Tensor], x: Tensor, ks: list[int]) -> Tensor:
    times = chain.time(torch.tensor(ks[::-1]))
    return encode_ddim(Network(eps), x, times=times) * (1 - chain.abar[ks[-1]]).sqrt()


latent = run(listen, x, ks)
silent = run(lambda x, k: 0 * x, x, [0, 100])
assert not near(silent, x * chain.abar[-1]), (
    "abar is a share of variances: signal and noise are multiplied by its roots"
)
assert asked != ks[1:], "the network must be asked where the state is, at j, and not at the step where it goes"
assert asked != ks[:0:-1], "upwards: the way starts at k = 0, at the data"
assert asked == ks[:-1], f"the network must be asked at {ks[:-1]}, in this order; yours was asked at {asked}"
assert not near(latent, x), "the data came back unchanged"
assert near(latent, run(perfect, x, ks)), "two calls differ: encoding adds no noise, so that it can be undone"
shrunk, late = x, x
for j, k in pairwise(ks):
    mean, variance = ddpm.forward(chain, shrunk, k, j)
    shrunk = mean + variance.sqrt() * perfect(shrunk, j)
    late = GaussianPath(chain).sample(x, chain.time(k), perfect(late, j))
assert not near(latent, shrunk), (
    "that adds the noise on top of the noise that x has already: split x into D and noise first, then put them together"
)
assert not near(latent, late), "D is found anew in each step, from the state and its noise: yours stays the data"
assert not near(latent, expected(perfect, x, ks) / (1 - chain.abar[-1]).sqrt()), (
    "return x_T itself, not divided by its noise level"
)
assert near(latent, expected(perfect, x, ks)), (
    "the latent is wrong: each step is DDIM's at eta = 0, with D and eps from step j, put together at the levels of k"
)
point = normal(23, 1, 3)
for ks in ([0, 100], [0, 1, 2, 100]):
    assert near(run(perfect, point, ks), expected(perfect, point, ks)), f"one point with d = 3 goes wrong along {ks}"
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
known = {(50, 49, 0.5): 0.09884716658160883, (80, 20, 0.3): 0.3942543716542948, (80, 20, 2.0): 2.9812437175964637}
one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
for (k, j, s), right in known.items():
    weight, small = ddpm.posterior(chain, zero, one, k, j)  # the weight of x_0 in the posterior's mean
    with untouched(chain.abar):
        found = number(true_variance(chain.abar, k, j, s), "the variance")
    assert bool(found.isfinite()), f"the variance is NaN or infinite for k = {k}, j = {j}, s = {s}"
    assert not near(1 / found, right), "that is the precision: the variance is one over it"
    squared = torch.as_tensor(true_variance(chain.abar, k, j, s**2), dtype=torch.float64).reshape(())
    assert not near(squared, right), "s is the standard deviation of the data: its square is the variance"
    assert not near(found, right**0.5), "return the variance and not the standard deviation"
    assert not near(found, small), "that is the posterior's variance, where x_0 is known; here it is not"
    assert not near(found, ddpm.forward(chain, one, k, j)[1]), (
        "that is the variance of x_k given x_j: right only for s = 1"
    )
    assert not near(found, float(small + (weight * s) ** 2)), (
        "x_k tells something about x_0: what is left open is Var(x_0|x_k), which is less than s^2"
    )
    assert not near(found, float(small + (right - small) / weight)), (
        "x_0 enters the mean with a weight c, so its variance with c squared"
    )
    assert not near(found, float(right - small)), (
        "the law of total variance has two terms: the posterior's own variance is missing"
    )
    before = ddpm.forward(chain, one, j)
    assert not near(found, float((before[0] * s) ** 2 + before[1])), "that is the variance of x_j before x_k is known"
    assert near(found, right), f"Var(x_j|x_k) is wrong for k = {k}, j = {j}, s = {s}: x_j and x_k are jointly Gaussian"
try:
    point = float(true_variance(chain.abar, 30, 10, 0.0))
    start = float(true_variance(chain.abar, 30, 0, 0.5))
except ZeroDivisionError:
    point = start = float("nan")
assert not torch.tensor(point).isnan(), "s may be 0, data that are one point: do not divide by it"
assert not torch.tensor(start).isnan(), "j may be 0, where abar_j is 1: do not divide by 1 - abar_j"
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
one = torch.ones(1, 1, dtype=torch.float64)
bounds = ddpm.posterior(chain, one, one, 80, 40)[1], ddpm.forward(chain, one, 80, 40)[1]
ax.plot(widths, [float(true_variance(chain.abar, 80, 40, float(s))) for s in widths], color=ACCENT, label="yours")
for bound, name in zip(bounds, ("small", "large"), strict=True):
    ax.axhline(float(bound), color=GREY, ls="--")
    ax.annotate(name, (0.02, float(bound)), va="bottom", color=GREY)
ax.set(xlabel="$s$", ylabel="variance from $k = 80$ to $40$", title="Expected: from one dashed line to the other")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# **To grade:** `flowlib grade 07_ddpm_and_ddim.ipynb`
