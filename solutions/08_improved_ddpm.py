# %% [markdown]
# # Exercise 08. Improved DDPM and likelihood
#
# You build what lecture 08 derives: the cosine chain, the best variance of a reverse step, the variance that a network
# learns, the terms of the bound with the decoder of 256 pixel values, $L_\text{hybrid}$, and the draw of steps by
# importance.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right; when
# it is wrong, it says what probably went wrong. `hint("08.1")` gives a hint; asked again, it says more, three times.
# Every question stands on its own: where one needs an earlier result, it uses the library's.
#
# **Without** in a question names functions that solve it already: an answer that calls one of them gets no points.
#
# **Needed before:** lecture 08. **Time:** about 75 minutes. **Points:** 10.

# %%
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib import Cosine, GaussianPath
from flowlib.chains import (
    Chain,
    LearnedVariance,
    LossSecondMoment,
    discretised_log_prob,
    forward,
    kl_normal,
    posterior,
)
from flowlib.chains.bound import term_at
from flowlib.course.notebook import exercise, unaided
from flowlib.plotting.style import ACCENT, GREY, INK

hint = exercise("08_improved_ddpm").hint


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard Gaussian numbers, in double precision: the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> bool:
    """Whether two tensors agree in shape, and in value relative to their size; NaN agrees with nothing."""
    found = found.detach().double()
    return found.shape == expected.shape and bool(((found - expected).abs() <= tolerance * (1 + expected.abs())).all())


@contextmanager
def untouched(*arguments: Tensor) -> Iterator[None]:
    """While it lasts, none of these tensors may be changed in place."""
    before = [argument.detach().clone() for argument in arguments]
    yield
    same = all(
        torch.equal(argument.detach().nan_to_num(), copy.nan_to_num())
        for argument, copy in zip(arguments, before, strict=True)
    )
    assert same, "an argument was changed in place: make a new tensor, the caller still needs the old one"


def tensor(answer: object, shape: tuple[int, ...], why: str) -> Tensor:
    """The answer, if it is a tensor of float64 of this shape; `why` says why it has the shape."""
    assert isinstance(answer, Tensor), f"return a tensor, got {type(answer).__name__}"
    assert answer.dtype == torch.float64, f"what comes in float64 goes out in float64, got {answer.dtype}"
    assert answer.shape == shape, f"{why}: expected shape {shape}, got {tuple(answer.shape)}"
    return answer


# %% [markdown]
# ## 08.1 The cosine chain (1 point, 5 minutes, easy)
#
# Return the variances $v_1 \dots v_T$ of the cosine chain,
#
# $$\bar\alpha_k = \frac{f(k)}{f(0)}, \quad f(k) = \cos^2\Big(\frac{k/T + s}{1 + s}\,\frac\pi2\Big), \qquad
# v_k = \min\Big(1 - \frac{\bar\alpha_k}{\bar\alpha_{k-1}},\; 0.999\Big).$$
#
# **Without:** `Chain`, `Cosine`.


# %% solution="08.1"
def cosine_variances(steps: int, offset: float = 0.008) -> Tensor:
    """v_1 ... v_T: (T,) float64, T = steps; offset is s."""
    ### BEGIN SOLUTION
    k = torch.arange(steps + 1, dtype=torch.float64)
    f = torch.cos((k / steps + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)
    ### END SOLUTION


# %% check="08.1" points=1
library = Chain.of(Cosine(), 100)
right = library.var[1:]
with unaided(Chain, Cosine):
    found, other = cosine_variances(100), cosine_variances(7, 0.1)
assert isinstance(found, Tensor), "return a tensor"
assert found.shape == (100,), f"there are T variances, v_1 ... v_T: expected shape (100,), got {tuple(found.shape)}"
assert found.dtype == torch.float64, f"float64 is asked for, got {found.dtype}: small k need its digits"
assert bool(torch.isfinite(found).all()), "some variances are NaN or infinite"
assert not near(found, library.abar[1:], 1e-4), (
    "these are the abar_k; the variance is what is lost from one to the next"
)
assert not near(1 - found[:-1], (1 - right[:-1]).sqrt(), 1e-6), "the cosine is squared: abar is sqrt(abar)^2"
assert float(found.max()) <= 0.999 + 1e-6, "the last variance must be clipped at 0.999: at 1 no signal would be left"
assert not near(found[:-1], Chain.of(Cosine(1e-12), 100).var[1:-1], 1e-6), (
    "the offset s is missing: the first step is too small"
)
assert not near(found[:1], torch.tensor([0.0006414208709548674]).double(), 1e-8), (
    "the clock k/T + s must be divided by 1 + s, to end at T"
)
assert not near(found[1:-1], right[:-2], 1e-6), "the variances are one step late: v_1 is 1 - abar_1 / abar_0"
assert not near(found.flip(0), right, 1e-6), "the variances are in reverse order: v_1 is the smallest"
assert bool((found > 0).all()), (
    "a variance is not negative: abar falls, so which of two neighbours is divided by which?"
)
assert not near(found[:50], -torch.log1p(-right[:50]), 1e-6), (
    "the variance is the share that is lost, not its logarithm"
)
assert near(found[-1:], right[-1:], 1e-7) or not near(found[:-1], right[:-1], 1e-7), (
    "only the last variance is wrong: it is clipped at 0.999"
)
digits = near(found / right, torch.ones(100, dtype=torch.float64), 1e-6)
assert digits or not near(found, right, 1e-5), (
    "small variances have lost their digits: compute in float64 from the start"
)
assert near(found, right, 1e-7), "the variances are wrong: v_k = 1 - abar_k / abar_(k-1), clipped at 0.999"
assert not near(cosine_variances(100, 0.1), right, 1e-6), "another offset gives the same variances: use the argument"
tensor(other, (7,), "there are T variances, for T = 7 seven")
assert near(other, Chain.of(Cosine(0.1), 7).var[1:], 1e-7), "wrong for T = 7 and s = 0.1"
### BEGIN HIDDEN TESTS
assert near(cosine_variances(1000), Chain.of(Cosine(), 1000).var[1:], 1e-7), "wrong for another T"
assert near(cosine_variances(50, 0.02), Chain.of(Cosine(0.02), 50).var[1:], 1e-7), "wrong for another offset"
### END HIDDEN TESTS

# %% [markdown] hints="08.1"
# 1. Compute $f$ for all $k = 0 \dots T$ at once. The factor $f(0)$ drops out of the ratio.
#
# 2. A ratio of neighbours: `f[1:] / f[:-1]`.
#
# 3. `k = torch.arange(steps + 1).double()`, $f$ from it, then `(1 - f[1:] / f[:-1]).clamp(max=0.999)`.

# %% tags=["demo"]
figure, panels = plt.subplots(1, 2, figsize=(8, 2.6), layout="constrained", sharey=True)
for axes, name, values in ((panels[0], "yours", cosine_variances(1000)), (panels[1], "expected", right)):
    axes.plot(torch.linspace(0, 1, len(values)), (1 - values).cumprod(0), color=ACCENT if name == "yours" else INK)
    axes.set(title=name, xlabel="k / T", ylabel="abar")
plt.show()

# %% [markdown]
# ## 08.2 The best variance of a step (2 points, 15 minutes, medium)
#
# A reverse step from $k$ to $j$ puts $D$ in the place of $x_0$ in the posterior's mean. Which variance $\sigma^2$ makes
# the expected divergence from the posterior least, if the error of $D$ is
# $e = \mathbb E\lvert x_0 - D\rvert^2 / d$? Derive it, and return it. With $v = 1 - \bar\alpha_k/\bar\alpha_j$ the
# posterior has variance $v (1 - \bar\alpha_j)/(1 - \bar\alpha_k)$ and mean
#
# $$\frac{\sqrt{\bar\alpha_j}\, v}{1 - \bar\alpha_k}\, x_0 + \frac{\sqrt{\bar\alpha_k / \bar\alpha_j}\,
# (1 - \bar\alpha_j)}{1 - \bar\alpha_k}\, x_k .$$
#
# For white data the error is $1 - \bar\alpha_k$. What must come out?


# %% solution="08.2"
def best_variance(abar_k: float, abar_j: float, error: float) -> float:
    """The variance of p(x_j|x_k) for an error E|x_0 - D|^2 / d of D; 0 < abar_k < abar_j < 1."""
    ### BEGIN SOLUTION
    v = 1 - abar_k / abar_j
    b = v * (1 - abar_j) / (1 - abar_k)
    c = math.sqrt(abar_j) * v / (1 - abar_k)
    return b + c**2 * error
    ### END SOLUTION


# %% check="08.2" points=2
def moments(abar_k: float, abar_j: float) -> tuple[float, float, float, float]:
    """v, b, the factor of x_0 and that of x_k in the posterior's mean."""
    chain = Chain(torch.tensor([1 - abar_j, 1 - abar_k / abar_j], dtype=torch.float64))
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    parts = forward(chain, one, 2, 1)[1], posterior(chain, one, one, 2, 1)[1]
    return *map(float, parts), *(float(posterior(chain, *ends, 2, 1)[0]) for ends in ((zero, one), (one, zero)))


def same(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-6 * abs(b)


known = {
    (0.3, 0.5, 0.2): 0.31836734693877555,
    (0.9, 0.95, 0.04): 0.03684210526315788,
    (0.1, 0.8, 0.3): 0.42129629629629617,
}
for (abar_k, abar_j, error), right in known.items():
    answer = best_variance(abar_k, abar_j, error)
    assert isinstance(answer, int | float | Tensor), f"return a number, got {type(answer).__name__}"
    found = float(answer)
    v, b, c, other = moments(abar_k, abar_j)
    assert math.isfinite(found), "the variance is not a finite number"
    assert not same(found, b), "this is the posterior's variance: right if D is x_0 itself, but D has an error"
    assert not same(found, v), "this is the variance of x_k given x_j: right for white data only"
    assert not same(found, right**0.5), "this is the standard deviation; the variance is asked for"
    assert not same(found, b + error), "an error of D is seen through the factor that x_0 has in the posterior's mean"
    assert not same(found, b + c * error), "the means differ by c (x_0 - D), so its square has c squared"
    assert not same(found, b + other**2 * error), "D stands where x_0 does: its factor, not that of x_k"
    assert not same(found, v + right - b), "the divergence is from the posterior: its variance is b, not v"
    assert not same(found, 2 * b - right), "the error of D makes the variance larger, not smaller"
    assert not same(found, right - b), "this is the error of the mean alone: the posterior has a variance of its own"
    assert not same(found, (b**0.5 + (right - b) ** 0.5) ** 2), "variances add, standard deviations do not"
    assert not same(found, b + (right - b) * abar_j), "the factor of x_0 in the mean has the square root of abar_j"
    assert not same(found, b + (right - b) * error), "the error e is a mean square already: it is not squared again"
    assert same(found, right), "write out KL of two Gaussians and set its derivative in sigma^2 to zero"
white = float(best_variance(0.3, 0.5, 0.7))
assert same(white, 1 - 0.3 / 0.5), "for white data the best variance must be v, the larger of DDPM's two"
### BEGIN HIDDEN TESTS
assert same(float(best_variance(0.1, 0.9, 0.05)), moments(0.1, 0.9)[1] + moments(0.1, 0.9)[2] ** 2 * 0.05), (
    "wrong for a long step"
)
assert same(float(best_variance(0.1, 0.9, 0.0)), moments(0.1, 0.9)[1]), "without an error it is the posterior's"
### END HIDDEN TESTS

# %% [markdown] hints="08.2"
# 1. The divergence of $\mathcal N(m, b)$ from $\mathcal N(m', \sigma^2)$ is
#    $\frac12\big[\frac b{\sigma^2} - 1 - \log\frac b{\sigma^2} + \frac{(m - m')^2}{\sigma^2}\big]$. What is $m - m'$
#    here?
#
# 2. Only $x_0$ is replaced by $D$, so the means differ by $c\,(x_0 - D)$. Take the expectation; the derivative in
#    $\sigma^2$ vanishes where $\sigma^2 = b + \mathbb E (m - m')^2$.
#
# 3. $\sigma_*^2 = b + c^2 e$ with $c = \sqrt{\bar\alpha_j}\, v/(1 - \bar\alpha_k)$.

# %% [markdown]
# ## 08.3 The variance that a network says (1 point, 5 minutes, easy)
#
# The second half of the network's output, $o$, is not bounded. The share is $\lambda = (o + 1)/2$, so that a fresh
# network, whose output is 0, starts half-way. Return the variance $\exp(\lambda \log v + (1 - \lambda)\log b)$. The
# network learns by it: it must be differentiable in $o$.
#
# **Without:** `LearnedVariance`.


# %% solution="08.3"
def step_variance(output: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """The variance of each component.

    Args:
        output: o, (B, ...).
        small, large: b and v, both ().

    Returns:
        (B, ...)
    """
    ### BEGIN SOLUTION
    share = (output + 1) / 2
    return torch.exp(share * large.log() + (1 - share) * small.log())
    ### END SOLUTION


# %% check="08.3" points=1
chain = Chain.linear(100)
library = LearnedVariance(nn.Identity(), GaussianPath(chain))
output = normal(4, 2, 3, seed=1).requires_grad_()
small, large = posterior(chain, output, output, 5, 4)[1].detach(), forward(chain, output, 5, 4)[1]


def at_share(share: Tensor) -> Tensor:
    """The library's variance for a share lambda."""
    return library.moments(share, share, share, 5, 4)[1]


with untouched(output, small, large), unaided(LearnedVariance):
    found = step_variance(output, small, large)
found = tensor(found, (4, 2, 3), "one variance for each component")
right = at_share((output + 1) / 2).detach()
scale = right.mean()
found = found / scale
for wrong, why in (
    (at_share(output), "lambda is (o + 1) / 2, not o itself"),
    (at_share((1 - output) / 2), "lambda = 1 must be the large variance"),
    (at_share(torch.sigmoid(output)), "the share is affine in the output, not a sigmoid: nothing bounds it"),
    (at_share(((output + 1) / 2).clamp(0, 1)), "lambda is not clipped to [0, 1]"),
    (at_share(output / 2), "the share of the output 0 must be 1/2: o is halved, and then?"),
    (right.sqrt(), "this is the standard deviation; the variance is asked for"),
    (torch.lerp(small.expand_as(output), large.expand_as(output), (output + 1) / 2), (
        "the logarithms are interpolated, not the variances, which become negative where lambda leaves [0, 1]"
    )),
    (right.log(), "this is the logarithm of the variance"),
):  # fmt: skip
    assert not near(found, wrong.detach() / scale), why
assert near(found, right / scale), "the variance is wrong: exp(lambda log v + (1 - lambda) log b)"
assert found.requires_grad, "no gradient reaches the output: the network would learn nothing"
(slope,) = torch.autograd.grad(found.sum(), output)
(expected,) = torch.autograd.grad(at_share((output + 1) / 2).sum() / scale, output)
assert near(slope, expected), "the value is right, but its gradient in the output is not"
one = normal(1, 3, 2, 2, seed=14)
assert near(step_variance(one, small, large) / scale, at_share((one + 1) / 2) / scale), "one image goes wrong"
# %% [markdown] hints="08.3"
# 1. First $\lambda$ from $o$, then a weighted mean of two logarithms, then `exp`.
#
# 2. $\lambda = 1$, the output $1$, must give $v$; the output $-1$ must give $b$.
#
# 3. `share = (output + 1) / 2`, `torch.exp(share * large.log() + (1 - share) * small.log())`.

# %% [markdown]
# ## 08.4 A term of the bound (1 point, 10 minutes, easy)
#
# Return the divergence $\mathrm{KL}(q \,\|\, p)$ of the posterior $q = \mathcal N(m, b)$ from the model
# $p = \mathcal N(\mu, \sigma^2)$, whose components are independent, in **bits per dimension** of each sample. A network
# learns by it: it must be differentiable in $\mu$ and $\sigma^2$.
#
# **Without:** `kl_normal`, `term_at`.


# %% solution="08.4"
def bound_term(true_mean: Tensor, true_variance: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """KL(q | p) in bits/dim.

    Args:
        true_mean, mean: (B, C, H, W), of q and of p.
        true_variance: (), of q; variance: (B, C, H, W), of p.

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    ratio = true_variance / variance
    nats = 0.5 * (ratio - 1 - ratio.log() + (true_mean - mean) ** 2 / variance)
    return nats.flatten(1).mean(1) / math.log(2)
    ### END SOLUTION


# %% check="08.4" points=1
m, mu = normal(3, 1, 2, 2, seed=2), normal(3, 1, 2, 2, seed=3)
b, sigma2 = torch.tensor(0.3).double(), normal(3, 1, 2, 2, seed=4).exp()
with untouched(m, b, mu, sigma2), unaided(kl_normal, term_at):
    found = tensor(bound_term(m, b, mu, sigma2), (3,), "one number for each sample")
assert bool(found.isfinite().all()), "the divergence is NaN or infinite"
nats = kl_normal(m, b.log(), mu, sigma2.log()).flatten(1)
right = nats.mean(1) / math.log(2)
assert not near(found, -right), "a divergence is not negative: E_q of log q - log p, not of log p - log q"
assert not near(found, nats.mean(1)), "this is in nats: a bit is log 2 nats"
assert not near(found, nats.mean(1) * math.log(2)), "from nats to bits one divides by log 2"
assert not near(found, nats.sum(1) / math.log(2)), "bits per dimension: the mean over components, not the sum"
back = kl_normal(mu, sigma2.log(), m, b.log().expand_as(m)).flatten(1).mean(1) / math.log(2)
assert not near(found, back), "this is KL(p | q): the divergence is not symmetric, and the posterior comes first"
wrong = kl_normal(m, 2 * b.log(), mu, 2 * sigma2.log()).flatten(1).mean(1) / math.log(2)
assert not near(found, wrong), "the arguments are variances, and are squared here as if they were standard deviations"
assert not near(found, right + 0.5 / math.log(2)), "the -1 is missing: the divergence of equal Gaussians is 0"
without = right - 0.5 * (b / sigma2 - 1).flatten(1).mean(1) / math.log(2)
assert not near(found, without), "b / sigma^2 - 1 is missing: q has a width of its own"
assert not near(found, 2 * right), "a factor 1/2 is missing: all of the divergence is halved"


def bits(true_mean: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    return kl_normal(true_mean, b.log(), mean, log_variance).flatten(1).mean(1) / math.log(2)


apart = bits(m, mu, b.log().expand_as(m))  # of two Gaussians as wide as the posterior
assert not near(found, bits(m, m, sigma2.log()) + apart), (
    "the means' distance is measured in the model's variance, not in the posterior's"
)
assert not near(found, bits(m, m, sigma2.log())), "the means do not enter: their distance belongs to the divergence"
assert not near(found, apart), "the model's variance does not enter: that is the divergence of equal variances"
assert near(found, right), "the divergence is wrong: take E_q of log q - log p, or test yours with m = mu, b = sigma^2"
m, mu = normal(1, 2, 3, 5, seed=15), normal(1, 2, 3, 5, seed=16).requires_grad_()
sigma2 = normal(1, 2, 3, 5, seed=17).exp().requires_grad_()
found = tensor(bound_term(m, b, mu, sigma2), (1,), "one number for one image")
assert near(found, bits(m, mu, sigma2.log()).detach()), "one image of 2 x 3 x 5 numbers goes wrong"
assert found.requires_grad, "no gradient reaches the model's mean and variance: the network would learn nothing"
slopes = torch.autograd.grad(found.sum(), [mu, sigma2], allow_unused=True)
expected = torch.autograd.grad(bits(m, mu, sigma2.log()).sum(), [mu, sigma2])
assert all(slope is not None and near(slope, right) for slope, right in zip(slopes, expected, strict=True)), (
    "the value is right, but its gradient in the model's mean or variance is not: is something detached?"
)

# %% [markdown] hints="08.4"
# 1. In one dimension:
#    $\mathrm{KL} = \frac12\big[\frac b{\sigma^2} - 1 - \log\frac b{\sigma^2} + \frac{(m - \mu)^2}{\sigma^2}\big]$ nats.
#
# 2. Independent components: divergences add. Per dimension: the mean.
#
# 3. Flatten all but the first axis, take `.mean(1)`, divide by `math.log(2)`.

# %% [markdown]
# ## 08.5 The decoder (2 points, 20 minutes, hard)
#
# Pixels lie on the grid $-1 + 2i/255$. Return the cost of each image, in bits/dim, under
# $\mathcal N(\mu, \sigma^2)$ *per bin*: a bin reaches from $x - \frac1{255}$ to $x + \frac1{255}$, the first one from
# $-\infty$, the last one to $+\infty$.
#
# It must be right far from the mean as well, at hundreds of standard deviations on either side, where the probability
# is smaller than any floating-point number. `torch.special.log_ndtr(a)` is $\log\Phi(a)$, accurate for every $a < 0$.
#
# **Without:** `discretised_log_prob`, `term_at`.


# %% solution="08.5"
def decoder_bits(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The cost of pixels.

    Args:
        x: (B, C, H, W) float64, on the grid -1 + 2 i / 255.
        mean: (B, C, H, W); std: (), > 0.

    Returns:
        (B,) bits/dim
    """
    ### BEGIN SOLUTION
    far = torch.full_like(x, 1e18)
    above = torch.where(x > 1 - 1 / 255, far, (x + 1 / 255 - mean) / std)
    below = torch.where(x < -1 + 1 / 255, -far, (x - 1 / 255 - mean) / std)
    flip = above + below > 0  # both in the lower tail
    above, below = torch.where(flip, -below, above), torch.where(flip, -above, below)
    upper = torch.special.log_ndtr(above)
    nats = -(upper + torch.log(-torch.expm1(torch.special.log_ndtr(below) - upper)))
    return nats.flatten(1).mean(1) / math.log(2)
    ### END SOLUTION


# %% check="08.5" points=2
every = (2 * torch.arange(256).double() / 255 - 1).reshape(256, 1, 1, 1)


def exact_bits(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return -discretised_log_prob(x, mean, std).flatten(1).mean(1) / math.log(2)


zero, wide = torch.zeros_like(every), torch.tensor(0.4).double()
with untouched(every, zero, wide), unaided(discretised_log_prob, term_at):
    found = tensor(decoder_bits(every, zero, wide), (256,), "one number for each image")
right, z = exact_bits(every, zero, wide), every[:, 0, 0, 0]
assert not near(found, right * math.log(2), 1e-6), "this is in nats: a bit is log 2 nats"
assert not near(found, -right, 1e-6), "a cost is positive: minus the logarithm"
density = torch.distributions.Normal(0.0, wide)
assert not near(found[1:-1], -density.log_prob(z)[1:-1] / math.log(2), 1e-6), "a density is not a probability of a bin"
assert not near(found, -(density.log_prob(z) + math.log(2 / 255)) / math.log(2), 1e-6), (
    "the density times the width of a bin is an approximation: it fails in the outer bins, and where a bin is wide"
)
closed = density.cdf(z + 1 / 255) - density.cdf(z - 1 / 255)
assert not near(found, -closed.log2(), 1e-9), "the outer bins are closed: they reach to minus and plus infinity"
double = density.cdf(z + 2 / 255) - density.cdf(z - 2 / 255)
assert not near(found[1:-1], -double.log2()[1:-1], 1e-9), "a bin is 2/255 wide, so 1/255 to each side"
assert not near(found, exact_bits(every, zero, wide**2), 1e-6), "std is the standard deviation already: no square"
assert abs(float((2**-found).sum()) - 1) < 1e-9, (
    "the probabilities of all 256 values do not sum to 1: the bins touch each other, and the outer two are open"
)
assert near(found, right, 1e-9), "the bits are wrong where nothing is extreme: the difference of Phi at both edges"
row, flat = every.reshape(4, 1, 8, 8), torch.zeros(4, 1, 8, 8).double()
found, right = decoder_bits(row, flat, wide), exact_bits(row, flat, wide)
found = tensor(found, (4,), "one number for each image")
assert not near(found, 64 * right, 1e-6), "bits per dimension: the mean over an image's pixels, not the sum"
assert near(found, right, 1e-9), "right for an image of one pixel, wrong for one of 64: take the mean over its pixels"
thin = torch.tensor(0.004).double()
low, high = decoder_bits(every, zero + 1, thin), decoder_bits(every, zero - 1, thin)  # below the mean, and above it
assert not bool(torch.isnan(low).any() | torch.isnan(high).any()), (
    "NaN far from the mean: two infinities were subtracted"
)
assert not bool(torch.isinf(low).any()), (
    "infinite far from the mean: Phi(a) - Phi(b) is 0 in floating point there; work with log Phi"
)
assert not bool(torch.isinf(high).any()), (
    "right below the mean, infinite above it: there log Phi is 0 at both edges; mirror what lies in the upper tail"
)
assert float(low.max()) > 100, "the cost stops growing far from the mean: is the probability clamped from below?"
for found, place, side in ((low, zero + 1, "below"), (high, zero - 1, "above")):
    assert near(found, exact_bits(every, place, thin), 1e-6), f"not accurate {side} the mean, at up to 500 deviations"
for shape in ((5, 1, 3, 3), (1, 3, 2, 4)):
    batch = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(7)).double() * 2 / 255 - 1
    centre = 0.5 * normal(*shape, seed=8)
    found = tensor(decoder_bits(batch, centre, thin), shape[:1], "one number for each image")
    assert near(found, exact_bits(batch, centre, thin), 1e-6), f"wrong for images {shape} with a mean for each pixel"

# %% [markdown] hints="08.5"
# 1. $\log(\Phi(a) - \Phi(b)) = \log\Phi(a) + \log\big(1 - e^{\log\Phi(b) - \log\Phi(a)}\big)$, and `torch.expm1` helps
#    with the second.
#
# 2. That is accurate if $a$ and $b$ are negative. If they are positive, use
#    $\Phi(a) - \Phi(b) = \Phi(-b) - \Phi(-a)$. For infinite edges a very large number will do.
#
# 3. `flip = above + below > 0`, then `above, below = where(flip, -below, above), where(flip, -above, below)`, then the
#    formula of the first hint with `torch.special.log_ndtr`.

# %% [markdown]
# ## 08.6 The hybrid loss (2 points, 10 minutes, medium)
#
# Write $L_\text{hybrid} = L_\text{simple} + 0.001\, L_\text{vlb}$ of a batch, whose steps $k$ were drawn uniformly.
# $L_\text{simple}$ is the mean squared error of the noise. `bound(predicted, share)` gives one term of the bound for
# each sample, $L_{k-1}$ in bits/dim, as a function of the noise and of the share; $L_\text{vlb}$ is the estimate of the
# *sum* of all $T$ terms. The bound must teach the share and leave the noise alone; $L_\text{simple}$ teaches the noise.


# %% solution="08.6"
def hybrid_loss(
    predicted: Tensor, share: Tensor, noise: Tensor, bound: Callable[[Tensor, Tensor], Tensor], steps: int
) -> Tensor:
    """L_hybrid, a scalar.

    Args:
        predicted, share: both halves of the network's output, (B, ...).
        noise: eps, (B, ...).
        bound: (predicted, share) -> (B,), one term of the bound in bits/dim.
        steps: T.

    Returns:
        ()
    """
    ### BEGIN SOLUTION
    simple = (predicted - noise).square().mean()
    return simple + 0.001 * steps * bound(predicted.detach(), share).mean()
    ### END SOLUTION


# %% check="08.6" points=2
def toy_bound(predicted: Tensor, share: Tensor) -> Tensor:
    """Stands for the bound: depends on both halves."""
    return ((predicted - 0.3) ** 2 * torch.exp(-share) + share).flatten(1).mean(1)


def trial(steps: int, times: float = 1.0, count: int = 6) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The loss and its gradients in both halves, where the bound is multiplied by a number."""
    predicted, share, noise = (normal(count, 1, 2, 2, seed=seed).requires_grad_(seed < 11) for seed in (9, 10, 11))

    def bound(given: Tensor, given_share: Tensor) -> Tensor:
        assert torch.equal(given, predicted), (
            "the bound is a function of the prediction: give it that, and no other noise"
        )
        assert torch.equal(given_share, share), "the bound is a function of the share: give it that, as it is"
        return times * toy_bound(given, given_share)

    with untouched(predicted, share, noise):
        loss = hybrid_loss(predicted, share, noise, bound, steps)
    loss = tensor(loss, (), "the loss is one number")
    assert bool(loss.isfinite()), "the loss is NaN or infinite"
    assert loss.requires_grad, "the loss has no gradient at all: detach the prediction, inside the bound only"
    return loss, *torch.autograd.grad(loss, [predicted, share], allow_unused=True)


def silent(gradient: Tensor | None) -> bool:
    """Whether nothing comes through."""
    return gradient is None or float(gradient.abs().max()) == 0


predicted, share, noise = (normal(6, 1, 2, 2, seed=seed).requires_grad_(seed < 11) for seed in (9, 10, 11))
simple, term = F.mse_loss(predicted, noise), toy_bound(predicted, share).mean()
of_simple, of_term = float(simple.detach()), float(term.detach())
alone = float(trial(500, times=0.0)[0].detach())  # without a bound the loss is L_simple
assert abs(alone - 24 * of_simple) > 1e-9, "L_simple is a mean over components, not a sum"
assert abs(alone - 4 * of_simple) > 1e-9, "L_simple is a mean over components, not a sum over those of a sample"
assert abs(alone - 0.5 * of_simple) > 1e-9, "L_simple has no factor 1/2"
assert abs(alone - of_simple) < 1e-9, "where the bound is 0 the loss must be L_simple, the mean squared error"
loss, of_noise, of_share = trial(500)
factor = (float(loss.detach()) - alone) / of_term  # what the bound's mean is multiplied by
assert abs(factor - 0.001) > 1e-9, "L_vlb estimates the sum of T terms: a factor T is missing"
assert abs(factor - 500) > 1e-6, "the weight 0.001 of the bound is missing"
assert abs(factor - 1) > 1e-9, "the bound enters with neither its weight nor the number of steps"
assert abs(factor - 0.5 * 6) > 1e-9, "the bound is averaged over the batch, not summed"
assert abs(factor - 0.001 / 500) > 1e-9, "the bound is divided by T: one term stands for all T, so multiply"
assert abs(factor - 0.5) < 1e-9, f"at T = 500 the bound's mean is multiplied by {factor:.6g}: 0.001, and the sum of all"
assert abs(float(trial(40)[0].detach()) - alone - 0.04 * of_term) < 1e-9, (
    "right for T = 500, wrong for T = 40: use the argument"
)
assert not silent(of_share), "the share learns nothing: it is detached, but the bound is all that teaches it"
assert not silent(of_noise), "the noise learns nothing: it is detached inside L_simple too"
(expected,) = torch.autograd.grad(simple, predicted, retain_graph=True)
assert near(of_noise, expected), "the bound moves the noise: detach the prediction that is given to it"
(expected,) = torch.autograd.grad(term, share)
assert near(of_share, factor * expected), "the share's gradient is not that of the bound's part in the loss"
trial(7, count=1)

# %% [markdown] hints="08.6"
# 1. `x.detach()` has the value of `x`, and lets no gradient through.
#
# 2. The mean of $L_{k-1}$ over uniform $k$ is the sum divided by $T$. So $T$ times the batch's mean estimates the sum.
#
# 3. `(predicted - noise).square().mean() + 0.001 * steps * bound(predicted.detach(), share).mean()`.

# %% [markdown]
# ## 08.7 Steps by importance (1 point, 10 minutes, medium)
#
# From the last losses of each step, return the probabilities $p_k \propto \sqrt{\mathbb E L_k^2}$ with which steps are
# drawn, and the weights $1 / (T p_k)$ that keep the mean of the loss what it was. A loss that has not been seen yet is
# NaN; as long as there is one, draw uniformly.
#
# **Without:** `LossSecondMoment`.


# %% solution="08.7"
def importance(losses: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and weights of all steps.

    Args:
        losses: (T, H) the last H losses of k = 1 ... T; NaN where there is none yet.

    Returns:
        p (T,), which sums to 1, and the weights (T,).
    """
    ### BEGIN SOLUTION
    share = losses.square().mean(1).sqrt()
    if torch.isnan(share).any():
        share = torch.ones_like(share)
    p = share / share.sum()
    return p, 1 / (len(p) * p)
    ### END SOLUTION


# %% check="08.7" points=1
def by_library(losses: Tensor) -> Tensor:
    """The probabilities of the library, with no share of them uniform."""
    draw = LossSecondMoment(*losses.shape, uniform=0.0)
    draw.losses.copy_(losses)
    draw.counts.fill_(losses.shape[1])
    return draw.probabilities()


def ask(losses: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and weights, each (T,)."""
    with untouched(losses), unaided(LossSecondMoment):
        both = importance(losses)
    assert isinstance(both, tuple | list), "return the probabilities and the weights"
    assert len(both) == 2, "return the probabilities and the weights, two tensors"
    return tuple(
        tensor(part, tuple(losses.shape[:1]), "p and the weights have one number for each step") for part in both
    )


seen = normal(20, 10, seed=12).abs() * torch.logspace(1, -1, 20, dtype=torch.float64)[:, None] + 0.01
p, weights = ask(seen)
assert bool(p.isfinite().all() & weights.isfinite().all()), "NaN or infinite, although all losses have been seen"
right = by_library(seen)
size = float(p.sum())
assert not near(size / p / (size / p).sum(), right, 1e-6), "steps with larger losses are drawn more often, not less"
assert not near(p, torch.full((20,), 0.05, dtype=torch.float64)), "p is uniform, although all losses have been seen"
assert abs(size - 1) < 1e-9, f"the probabilities sum to {size:.4f}, not to 1"
assert not near(p, by_library(seen.mean(1, keepdim=True))), (
    "p is the root of the mean *square*, not the mean of the losses"
)
assert not near(p, right**2 / (right**2).sum()), "the square root is missing: p is proportional to sqrt(E L^2)"
assert not near(p, by_library(seen - seen.mean(1, keepdim=True)), 1e-6), (
    "the second moment is not the variance: the mean counts too"
)
assert not near(p, by_library(seen[:, -1:])), "all of the last H losses count, not the last one alone"
assert near(p, right), "the probabilities are wrong: sqrt(mean of squares), divided by their sum"
assert not near(weights, 1 / p), "the weights are 1 / (T p): for a uniform p each must be 1"
assert not near(weights, torch.ones(20).double()), "the weights must undo the draw, or another loss is minimised"
assert not near(weights, 20 * p), "the weights are upside down: what is drawn more often counts less"
losses = normal(20, seed=13)
assert near((p * weights * losses).sum(), losses.mean(), 1e-12), "the weighted loss is not unbiased: sum p w L = mean L"
for place in ((5, 9), (3, 0)):
    missing = seen.clone()
    missing[place] = float("nan")
    p, weights = ask(missing)
    assert place == (5, 9) or not bool(torch.isnan(p).any()), "a loss may be missing in any column: look at them all"
    assert not bool(torch.isnan(p).any()), "p is NaN where a loss is missing: draw uniformly until all have been seen"
    assert near(p, torch.full((20,), 0.05, dtype=torch.float64)), "as long as one loss is missing, p must be uniform"
    assert near(weights, torch.ones(20).double()), "for a uniform p each weight must be 1"
p, weights = ask(seen[:3, :1] - 0.5)  # one loss a step, some of them negative
assert near(p, by_library(seen[:3, :1] - 0.5)), "wrong for three steps with one loss each"
assert near(weights * p, torch.full((3,), 1 / 3, dtype=torch.float64)), (
    "the weights are wrong for three steps: 1 / (T p)"
)

# %% [markdown] hints="08.7"
# 1. The second moment of $L_k/p_k$ is $\sum_k \mathbb E L_k^2 / p_k$. Cauchy and Schwarz say which $p$ is best.
#
# 2. Root of the mean of the squares, over each row; then divide by the sum.
#
# 3. `share = losses.square().mean(1).sqrt()`, all ones if `torch.isnan(share).any()`; `p = share / share.sum()`; the
#    weights are `1 / (len(p) * p)`.

# %% tags=["demo"]
chain = Chain.of(Cosine(), 200)
unit = torch.ones(1, 1, dtype=torch.float64)
best = [best_variance(float(chain.abar[k]), float(chain.abar[k - 1]), 0.05) for k in range(2, 201)]
true = [float(posterior(chain, 0 * unit, unit, k)[1]) for k in range(2, 201)]
figure, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
axes.loglog(range(2, 201), best, color=ACCENT, label="yours, for an error of 0.05")
axes.loglog(range(2, 201), true, color=INK, label="small")
axes.loglog(range(2, 201), chain.var[2:], color=GREY, label="large")
axes.set(xlabel="k", ylabel="variance", title="the variance of a step must depend on what the network does not know")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Done
#
# Grade it: `flowlib grade 08_improved_ddpm.ipynb`. Then train the real thing: `flowlib train iddpm-hybrid`, and
# `flowlib evaluate runs/iddpm-hybrid --likelihood 100` for its bits.
