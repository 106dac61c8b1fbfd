# %% [markdown]
# # Exercise 09. Autoencoders and GANs
#
# You build what lecture 09 derives: the best linear autoencoder, the score that hides in a denoiser, the evidence
# lower bound, the exact rate and distortion of a linear VAE, a draw of tokens that has a gradient, and the two losses
# of a GAN.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right; when
# it is wrong, it says what probably went wrong. `hint("09.1")` gives a hint; asked again, it says more, three times.
# Every question stands on its own.
#
# **Without** in a question names functions that solve it already: an answer that calls one of them gets no points.
#
# **Needed before:** lecture 09. **Time:** about 75 minutes. **Points:** 10.

# %%
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch import Tensor

from flowlib import GaussianPath, MixtureField
from flowlib.course.notebook import exercise, unaided
from flowlib.data import load
from flowlib.plotting import tile
from flowlib.plotting.style import ACCENT, GREY, INK
from flowlib.systems.denoiser import denoiser_score
from flowlib.systems.dvae import gumbel_softmax
from flowlib.systems.gan import discriminator_loss, generator_loss
from flowlib.systems.vae import elbo_loss, kl_to_normal

hint = exercise("09_autoencoders_and_gans").hint
digits = load("digits").images.double()  # (1500, 1, 8, 8) in [-1, 1]


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard Gaussian numbers, in double precision: the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(found: Tensor, expected: Tensor, tolerance: float = 1e-8) -> bool:
    """Whether two tensors of one shape agree, relative to their size; NaN agrees with nothing."""
    found = found.detach().double()
    return found.shape == expected.shape and bool(((found - expected).abs() <= tolerance * (1 + expected.abs())).all())


@contextmanager
def untouched(*arguments: Tensor) -> Iterator[None]:
    """While it lasts, none of these tensors may be changed in place."""
    before = [argument.detach().clone() for argument in arguments]
    yield
    same = all(torch.equal(argument.detach(), copy) for argument, copy in zip(arguments, before, strict=True))
    assert same, "an argument was changed in place: make a new tensor, the caller still needs the old one"


def tensor(answer: object, shape: tuple[int, ...], why: str) -> Tensor:
    """The answer, if it is a tensor of float64 of this shape without NaN or infinity; `why` says why it has it."""
    assert isinstance(answer, Tensor), f"return a tensor, got {type(answer).__name__}"
    assert answer.dtype == torch.float64, f"what comes in float64 goes out in float64, got {answer.dtype}"
    assert answer.shape == shape, f"{why}: expected shape {shape}, got {tuple(answer.shape)}"
    assert bool(answer.isfinite().all()), "the answer contains NaN or infinite numbers"
    return answer


def pair(answer: object, what: str) -> tuple[object, object]:
    """The two parts of an answer."""
    assert isinstance(answer, tuple | list), f"return two tensors: {what}"
    assert len(answer) == 2, f"return two tensors: {what}"
    return answer[0], answer[1]


# %% [markdown]
# ## 09.1 The best linear autoencoder (2 points, 12 minutes, easy)
#
# Find the linear autoencoder with $k$ latents that reconstructs a data set best: the mean $m$ and the columns of
# $U$ in
#
# $$z = U^{\mathsf T}(x - m), \qquad \hat x = m + U z, \qquad U^{\mathsf T}U = I_k .$$
#
# No training: use `torch.linalg.eigh` or `torch.linalg.svd`. The columns may come in any order.
#
# **Without:** `torch.pca_lowrank`, and scikit-learn's `PCA`.


# %% solution="09.1"
def linear_autoencoder(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The mean and the best directions of points.

    Args:
        x: (N, D) float64, N > D.
        k: 1 <= k <= D.

    Returns:
        the mean (D,), and U (D, k) with orthonormal columns.
    """
    ### BEGIN SOLUTION
    mean = x.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    return mean, vectors[:, values.argsort(descending=True)[:k]]
    ### END SOLUTION


# %% check="09.1" points=2
shear = torch.tensor([[3.0, 0, 0, 0], [1.0, 2, 0, 0], [0.5, 0.5, 1, 0], [0, 0.2, 0.3, 0.4]]).double()
points = normal(400, 4, seed=1) @ shear.T + torch.tensor([4.0, -3, 2, 5]).double()
what = "the mean and U"
with untouched(points), unaided(torch.pca_lowrank, PCA):
    centre, directions = pair(linear_autoencoder(points, 2), what)
    pairs = {k: pair(linear_autoencoder(points, k), what) for k in (1, 3, 4)}
centre = tensor(centre, (4,), "the mean has one number for each coordinate")
assert not near(centre, torch.zeros(4).double()), (
    "the mean is 0: without centring, one direction is spent on pointing at the data's mean"
)
assert near(centre, points.mean(0)), "m is not the mean of the data"
assert isinstance(directions, Tensor), "U must be a tensor"
assert directions.shape != (2, 4), (
    "U came as (k, D): the right singular vectors of x are the *rows* of what svd returns; U has them as columns"
)
directions = tensor(directions, (4, 2), "U has k columns of D numbers")
gram = directions.T @ directions
assert near(gram, torch.diag(gram.diagonal())), "the columns of U are not orthogonal to each other"
assert near(gram, torch.eye(2).double()), "the columns of U are orthogonal, but not of length 1"
offset = points - points.mean(0)
spectrum = torch.linalg.eigvalsh(offset.T @ offset / 400)  # in rising order


def error_of(basis: Tensor) -> Tensor:
    """The mean squared error of reconstructions from the coordinates along the columns of a basis."""
    return (offset - offset @ basis @ basis.T).square().sum(1).mean()


def axes_of(x: Tensor) -> Tensor:
    """The two best directions by scikit-learn."""
    return torch.tensor(PCA(2, svd_solver="full").fit(x.numpy()).components_.T)


missed = error_of(directions)
assert not near(missed, spectrum[2:].sum()), (
    "these are the *worst* directions: eigh sorts eigenvalues from the smallest to the largest"
)
assert not near(missed, error_of(axes_of(torch.cat([points, -points])))), (
    "the directions are those of the second moment of x: take the mean off before looking for them"
)
assert not near(missed, offset[:, 2:].square().sum(1).mean()), "these are two coordinate axes: look at the covariance"
assert not near(missed, error_of(axes_of(points / points.std(0)))), (
    "the coordinates were divided by their standard deviations: the error is measured in x as it is"
)
assert near(missed, spectrum[:2].sum()), (
    "another U reconstructs better: the error must be the sum of the small eigenvalues"
)
for k, (_, basis) in pairs.items():
    basis = tensor(basis, (4, k), f"U has k columns of D numbers, for k = {k}")
    assert near(basis.T @ basis, torch.eye(k).double()), f"for k = {k} the columns of U are not orthonormal"
    assert near(error_of(basis), spectrum[: 4 - k].sum()), f"right for k = 2, wrong for k = {k}"
### BEGIN HIDDEN TESTS
flat = digits.flatten(1)
centre, directions = linear_autoencoder(flat, 7)
offset = flat - flat.mean(0)
least = torch.linalg.eigvalsh(offset.T @ offset / len(flat))[:-7].sum()
assert near((offset - offset @ directions @ directions.T).square().sum(1).mean(), least), "wrong on the digits, k = 7"
### END HIDDEN TESTS

# %% [markdown] hints="09.1"
# 1. The theorem of Eckart and Young names the directions: where does the data vary most?
#
# 2. Eigenvectors of the covariance matrix, those of the $k$ largest eigenvalues. `torch.linalg.eigh` returns
#    eigenvectors as columns, sorted by *rising* eigenvalue.
#
# 3. `values, vectors = torch.linalg.eigh(torch.cov(x.T))`, then the last $k$ columns of `vectors`; the mean is
#    `x.mean(0)`.

# %% tags=["demo"]
flat = digits.flatten(1)
centre, directions = linear_autoencoder(flat, 8)
best = torch.tensor(PCA(8, svd_solver="full").fit(flat.numpy()).components_.T)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.6), layout="constrained")
for axes, basis, name in ((left, directions, "yours"), (right, best, "expected")):
    shown = flat[:8], flat.mean(0) + (flat[:8] - flat.mean(0)) @ basis @ basis.T
    axes.imshow(tile(torch.cat(shown).reshape(16, 1, 8, 8), 8)[..., 0], cmap="gray_r", vmin=0, vmax=1)
    axes.set(title=f"{name}: digits, and from 8 numbers each", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## 09.2 The score in a denoiser (1 point, 8 minutes, easy)
#
# A denoising autoencoder $r$ has been trained on $x = z + \sigma\varepsilon$ until it could not become better:
# $r(x) = \mathbb E[z\mid x]$. Read from it the score $\nabla\log p_\sigma(x)$ of the noised data.
#
# **Without:** `denoiser_score`, `GaussianPath.convert`.


# %% solution="09.2"
def score_from_denoiser(denoiser: Callable[[Tensor], Tensor], x: Tensor, std: float) -> Tensor:
    """grad log p_std(x) from the best denoiser: x (B, D), std > 0; returns (B, D)."""
    ### BEGIN SOLUTION
    return (denoiser(x) - x) / std**2
    ### END SOLUTION


# %% check="09.2" points=1
corners = MixtureField(torch.tensor([[1.0, 1], [-1, 0.5], [0, -1.5]]).double(), 0.3)


def best_denoiser(std: float) -> Callable[[Tensor], Tensor]:
    """E[z | z + std eps] of three Gaussians: x / (1 + std) is a sample of the linear path at t = 1 / (1 + std)."""
    now = 1 / (1 + std)
    return lambda x: corners.pair(now * x, now)[0]


x, std = normal(6, 2, seed=2), 0.6
now = 1 / (1 + std)
right = now * corners.s(now * x, now)
with untouched(x), unaided(denoiser_score, GaussianPath.convert):
    found = tensor(score_from_denoiser(best_denoiser(std), x, std), (6, 2), "the score must have the shape of x")
assert not near(found, -right), "the sign is wrong: the score points from the noised point *towards* the data"
assert not near(found, right * std / 2), "divided by twice the standard deviation, and not by the variance"
assert not near(found, right / 2), "divided by 2 sigma^2: that is in the exponent, its gradient has no 2"
assert not near(found, right * std**4), "multiplied by the variance, where Tweedie's formula divides by it"
assert not near(found, right * std), "divided by the standard deviation, where Tweedie's formula has the variance"
assert not near(found, right * std**2), "this is how far the denoiser moves x: a score is that per variance"
assert not near(found, best_denoiser(std)(x)), "this is the repaired point itself, not the score"
assert not near(found, best_denoiser(std)(x) / std**2), "x was not taken off: what counts is what the denoiser changes"
assert near(found, right), "not the score: write E[z|x] = x + std^2 * score and solve for it"
for count, std in ((1, 2.0), (3, 1.0)):
    x, now = normal(count, 2, seed=3), 1 / (1 + std)
    found = tensor(score_from_denoiser(best_denoiser(std), x, std), (count, 2), "the score must have the shape of x")
    assert near(found, now * corners.s(now * x, now)), f"right at std = 0.6, wrong at std = {std} for {count} points"

# %% [markdown] hints="09.2"
# 1. Tweedie's formula of lecture 02, for $\alpha = 1$ and $\beta = \sigma$.
#
# 2. $\mathbb E[z\mid x] = x + \sigma^2\,\nabla\log p_\sigma(x)$, and the left side is the denoiser.
#
# 3. What the denoiser adds to $x$, divided by the variance: `(denoiser(x) - x) / std**2`.

# %% [markdown]
# ## 09.3 The evidence lower bound (2 points, 15 minutes, medium)
#
# Compute the ELBO of each sample for a prior $N(0, I)$, an encoder $q(z\mid x) = N(m, \mathrm{diag}(v))$ and a decoder
# $p(x\mid z) = N(d(z), \sigma^2 I)$:
#
# $$\mathrm{ELBO}(x) = \mathbb E_{q}\big[\log p(x\mid z)\big] - \mathrm{KL}\big(q(z\mid x)\,\|\,N(0, I)\big).$$
#
# The expectation is estimated by one draw $z = m + \sqrt v\,\varepsilon$ with the noise that is given; the KL term is
# exact. In nats, **with all constants**: with them the number is a bound on a log-density. Encoder and decoder learn by
# it: it must be differentiable in $m$, in $\log v$ and through `decode`.
#
# **Without:** `elbo_loss`, `kl_to_normal`.


# %% solution="09.3"
def elbo(
    x: Tensor, mean: Tensor, log_variance: Tensor, decode: Callable[[Tensor], Tensor], std: float, noise: Tensor
) -> Tensor:
    """The evidence lower bound of each sample.

    Args:
        x: (B, D).
        mean, log_variance: m and log v, (B, K).
        decode: (B, K) -> (B, D), the decoder's mean.
        std: its noise, sigma.
        noise: eps, (B, K).

    Returns:
        (B,), in nats.
    """
    ### BEGIN SOLUTION
    z = mean + torch.exp(log_variance / 2) * noise
    square = (x - decode(z)).square().sum(1)
    log_likelihood = -square / (2 * std**2) - x.shape[1] * math.log(std * math.sqrt(2 * math.pi))
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    return log_likelihood - divergence
    ### END SOLUTION


# %% check="09.3" points=2
def waves(*shape: int, speed: float) -> Tensor:
    """Numbers in [-1, 1] that are the same on every machine."""
    return torch.sin(speed * torch.arange(1, 1 + math.prod(shape), dtype=torch.float64)).reshape(shape)


weight = waves(3, 2, speed=2.0)


def decoder(z: Tensor) -> Tensor:
    return z @ weight.T


x, mean, log_variance = waves(5, 3, speed=0.7), waves(5, 2, speed=1.3), waves(5, 2, speed=2.9)
noise, std = waves(5, 2, speed=4.1), 0.4
with untouched(x, mean, log_variance, noise), unaided(elbo_loss, kl_to_normal):
    found = tensor(elbo(x, mean, log_variance, decoder, std, noise), (5,), "one number for each sample is asked for")
# Computed beforehand: log p(x|z) at the right draw, and at draws whose noise is scaled by v and by log v.
likelihood = torch.tensor(
    [-15.4494510937, -16.0010468118, -21.7294704836, -6.8197893855, -29.1269114712], dtype=torch.float64
)
by_variance = torch.tensor(
    [-13.8395126776, -16.0298216001, -39.0656344630, -8.0559557330, -42.0697438832], dtype=torch.float64
)
by_log = torch.tensor(
    [-9.4143884704, -9.7737709008, -19.1144923169, -23.7516067408, -22.3938444619], dtype=torch.float64
)
estimate = torch.tensor(
    [-0.1315983714, -1.2508907274, -1.2714483286, 0.5097551666, -1.3973916814], dtype=torch.float64
)  # of minus the KL term, from the draw
kl, constant = kl_to_normal(mean, log_variance), 3 * math.log(std * math.sqrt(2 * math.pi))
assert not near(found, likelihood + kl), "the KL term is *added*: it is the price of an encoder that is not the prior"
assert not near(found, kl - likelihood), "this is -ELBO, the loss; asked is the bound itself"
assert not near(found, likelihood), "only the reconstruction: the KL term is missing"
assert not near(found, elbo(x, mean, log_variance, decoder, std, 0 * noise)), (
    "the noise has no effect: the reconstruction is that of a draw from q, not of its mean"
)
assert not near(found, (likelihood - kl) / math.log(2)), "these are bits; nats are asked for"
assert not near(found, likelihood - kl - log_variance.sum(1)), "log v has the wrong sign in the KL term"
assert not near(found, likelihood + constant / 3 - kl), (
    "the constant of the Gaussian decoder counts the D components of x, not the K of z"
)
assert not near(found, -kl), "only the KL term: the reconstruction is missing"
assert not near(found, likelihood + constant - kl), (
    "the constant of the Gaussian decoder is missing: a density of D dimensions has D log(sigma sqrt(2 pi))"
)
assert not near(found, likelihood + constant * 2 / 3 - kl), (
    "the constant of the Gaussian decoder is there once, where each of the D components has its own"
)
assert not near(found, likelihood + 2 * constant - kl), "the constant of the Gaussian decoder has the wrong sign"
assert not near(found, likelihood + 3 * math.log(std) - kl), "log sigma is missing in the constant of the decoder"
assert not near(found, likelihood + estimate), "the KL term is estimated from the draw: here it is to be exact"
assert not near(found, by_variance - kl), (
    "the noise is scaled by the variance exp(log v), where a draw needs the standard deviation"
)
assert not near(found, by_log - kl), "the noise is scaled by log v: turn it into a standard deviation first"
assert not near(found, likelihood - kl_to_normal(0 * mean, log_variance)), "the mean is missing in the KL term"
assert not near(found, likelihood - kl / 2), "the KL term is halved twice"
assert not near(found, likelihood - 2 * kl), "the KL term is twice too large: it has a factor 1/2"
assert not near(found, likelihood / 3 - kl / 2), (
    "means over the components, where sums are needed: independent components *multiply* their densities"
)
assert not near(found, 2 * (likelihood + constant) - constant - kl), (
    "the squared error is divided by sigma^2, not by 2 sigma^2"
)
assert near(found, elbo(x, mean, log_variance, decoder, std, noise)), "two equal calls differ: the noise is given"
assert near(found, likelihood - kl), "not the ELBO: check the reconstruction and the KL term one by one"
inputs = [part.clone().requires_grad_() for part in (mean, log_variance, weight)]
steep = torch.autograd.gradcheck(
    lambda m, log_v, w: elbo(x, m, log_v, lambda z: z @ w.T, std, noise), inputs, raise_exception=False
)
assert steep, "the value is right, but not its gradient in m, log v or through the decoder: is something detached?"
### BEGIN HIDDEN TESTS
found = elbo(x, 0 * mean, 0 * log_variance, lambda z: torch.zeros(len(z), 3).double(), 1.0, noise)
expected = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
assert near(found, expected), "with q = prior and a decoder that ignores z, the ELBO must be log N(x; 0, I)"
found = elbo(x[:1, :1], mean[:1], log_variance[:1], lambda z: z[:, :1], 2.0, noise[:1])
z = mean[:1, :1] + (log_variance[:1, :1] / 2).exp() * noise[:1, :1]
expected = torch.distributions.Normal(z, 2.0).log_prob(x[:1, :1]).sum(1) - kl_to_normal(mean[:1], log_variance[:1])
assert near(found, expected), "wrong for one sample with D = 1 and K = 2"
### END HIDDEN TESTS

# %% [markdown] hints="09.3"
# 1. Three steps: draw $z$, evaluate a Gaussian log-density of $x$ around $d(z)$, subtract the KL term. Sum over
#    components, never over samples.
#
# 2. $\log N(x; d, \sigma^2 I) = -\lvert x - d\rvert^2/(2\sigma^2) - D\log(\sigma\sqrt{2\pi})$, and the standard
#    deviation of $q$ is $e^{\frac12\log v}$.
#
# 3. $\mathrm{KL} = \frac12\sum_i(m_i^2 + v_i - 1 - \log v_i)$. `torch.distributions.Normal(decode(z), std).log_prob(x)
#    .sum(1)` is the first term.

# %% [markdown]
# ## 09.4 What a linear VAE keeps (2 points, 20 minutes, hard)
#
# The data are Gaussian with mean 0 and covariance eigenvalues $\lambda_1, \dots, \lambda_D$. A linear VAE has as many
# latents as there are dimensions. In the axes of the eigenvectors its decoder is $d(z)_i = w_i z_i$, with noise
# $\sigma$, and its encoder $q(z_i\mid x) = N(a_i x_i, v_i)$. The KL term is weighted by $\beta > 0$ (Higgins et al.
# 2017; $\beta = 1$ is the negative ELBO of lecture 09, up to a constant):
#
# $$\frac{\mathbb E\lvert x - d(z)\rvert^2}{2\sigma^2}
# {} + \beta\sum_i\mathbb E_x\,\mathrm{KL}\big(q(z_i\mid x)\,\|\,N(0, 1)\big) .$$
#
# All $w_i$, $a_i$ and $v_i$ are at their optimum. Derive, for each direction $i$,
#
# - its **rate**, $\mathbb E_x\,\mathrm{KL}(q(z_i\mid x)\,\|\,N(0, 1))$ in nats;
# - its **distortion**, the mean squared error $\mathbb E(x_i - d(z)_i)^2$ with $z$ drawn from $q(z\mid x)$.


# %% solution="09.4"
def rate_distortion(eigenvalues: Tensor, std: float, beta: float) -> tuple[Tensor, Tensor]:
    """Rate and distortion of each direction at the optimum.

    Args:
        eigenvalues: (D,), >= 0; 0 included.
        std: sigma, > 0.
        beta: the weight of the KL term, > 0.

    Returns:
        two tensors (D,): the rates in nats, and the distortions.
    """
    ### BEGIN SOLUTION
    level = beta * std**2  # the loss divided by beta is a negative ELBO whose decoder has this variance
    return 0.5 * torch.log(eigenvalues / level).clamp(min=0), eigenvalues.clamp(max=level)
    ### END SOLUTION


# %% check="09.4" points=2
def trained(eigenvalues: Tensor, std: float, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """Rate, distortion, and the error of decoding q's mean: w, a and log v found by minimising the loss, no formula."""
    start = torch.stack([torch.ones_like(eigenvalues), 0.5 * torch.ones_like(eigenvalues), 0 * eigenvalues])
    weights = start.requires_grad_()
    search = torch.optim.LBFGS(
        [weights], max_iter=200, tolerance_grad=1e-11, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def parts() -> tuple[Tensor, Tensor, Tensor]:
        w, a, log_v = weights
        bias = (1 - w * a) ** 2 * eigenvalues
        kl = 0.5 * (a**2 * eigenvalues + log_v.exp() - 1 - log_v)
        return kl, bias + w**2 * log_v.exp(), bias

    def loss() -> Tensor:
        search.zero_grad()
        kl, error, _ = parts()
        value = (error / (2 * std**2) + beta * kl).sum()
        value.backward()
        return value

    with torch.enable_grad():
        search.step(loss)
    return tuple(part.detach() for part in parts())


values, std, beta = torch.tensor([4.0, 1.7, 0.9, 0.3, 0.05, 0.0]).double(), 0.7, 1.5
with untouched(values):
    rate, distortion = pair(rate_distortion(values, std, beta), "rates and distortions")
for name, value in (("rates", rate), ("distortions", distortion)):
    assert isinstance(value, Tensor), f"the {name} must be a tensor"
    assert value.shape == (6,), f"the {name} must have shape (6,), got {tuple(value.shape)}"
right_rate, right_distortion, of_mean = trained(values, std, beta)
cheap = trained(values, std, 1.0)
used = right_rate > 1e-4
assert not (near(rate, right_distortion, 1e-5) and near(distortion, right_rate, 1e-5)), (
    "rates and distortions are exchanged: the rates come first"
)
assert not bool((rate.isnan() | distortion.isnan())[:-1].any()), "NaN, and not only for the eigenvalue of 0"
assert bool((rate >= -1e-9)[:-1].all()), "a negative rate: a latent not worth its price is off, and costs nothing"
assert bool(torch.isfinite(rate).all() & torch.isfinite(distortion).all()), (
    "not finite for an eigenvalue of 0: such a direction has no rate and no distortion"
)
for wrong, why in (
    (2 * right_rate, "twice the rate: a 1/2 is lost"),
    (right_rate / math.log(2), "these are bits; the rate is asked for in nats"),
    (beta * right_rate, "this is beta times the rate: the price paid for it, not the rate itself"),
    (cheap[0], "the rate of beta = 1: a dearer KL term changes the optimum"),
    (trained(values, std, 1 / beta)[0], "beta acts the wrong way round: a dearer rate is a smaller one"),
    (trained(values, std**0.5, beta)[0], "the eigenvalues are compared with sigma, where they are variances"),
    (trained(values, beta * std, 1.0)[0], "beta is squared: it weighs the KL term, and does not multiply sigma"),
):
    assert not near(rate, wrong, 1e-5), why
assert not bool((rate[~used] > 1e-4).any()), "a direction gets a rate that is not worth it: at the optimum its w is 0"
assert near(rate, right_rate, 1e-5), "the rates are wrong: divide the loss by beta, and find the ELBO that it becomes"
assert not near(distortion, distortion[:1].expand(6)), (
    "a direction that is not used is reconstructed by its mean: its error is its variance"
)
assert not near(distortion, of_mean, 1e-5), (
    "this is the error of decoding the *mean* of q; asked is that of a draw, whose own variance adds to it"
)
assert not near(distortion, torch.where(used, 0, values)), "the directions that are used are not free of error"
assert not near(distortion, cheap[1], 1e-5), "the rates feel beta, the distortions do not"
assert near(distortion, right_distortion, 1e-5), (
    "the distortions are wrong: add the squared bias (1 - w a)^2 lambda and the variance w^2 v"
)
others = torch.tensor([0.2, 3.0, 0.0, 1.1]).double()  # in no order
for found, right in zip(rate_distortion(others, 0.9, 0.5), trained(others, 0.9, 0.5)[:2], strict=True):
    assert near(found, right, 1e-5), "right for falling eigenvalues, wrong for others in another order"
found = rate_distortion(torch.tensor([0.5]).double(), 2.0, 1.0)
assert near(found[0], torch.zeros(1).double()), "where no direction is worth it, all rates are 0"
assert near(found[1], torch.tensor([0.5]).double()), "where no direction is worth it, the distortions are the variances"
### BEGIN HIDDEN TESTS
for std, beta in ((0.1, 2.0), (3.0, 0.2), (0.7, 1.0)):
    for found, right in zip(rate_distortion(values, std, beta), trained(values, std, beta)[:2], strict=True):
        assert near(found, right, 1e-5), f"wrong at sigma = {std}, beta = {beta}"
### END HIDDEN TESTS

# %% [markdown] hints="09.4"
# 1. Divide the loss by $\beta$. Of which decoder is it then the negative ELBO?
#
# 2. Of one with variance $\beta\sigma^2$ in place of $\sigma^2$: now Theorem 3 of the lecture holds, and $q$ is the
#    posterior of *that* decoder. In a direction that is used, $w^2 = \lambda - \beta\sigma^2$, $a = w/\lambda$,
#    $v = \beta\sigma^2/\lambda$.
#
# 3. Rate $\frac12\log(\lambda/(\beta\sigma^2))$ where that is positive, else 0; distortion
#    $\min(\lambda, \beta\sigma^2)$.

# %% tags=["demo"]
spectrum = torch.linalg.eigvalsh(torch.cov(digits.flatten(1).T)).flip(0).clamp(min=1e-9)
betas = torch.logspace(-1, 2.5, 12).double()
figure, panels = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained", sharey=True)
for axes, solve, name in ((panels[0], rate_distortion, "yours"), (panels[1], trained, "expected")):
    curve = [[part.sum() for part in solve(spectrum, 0.3, float(beta))[:2]] for beta in betas]
    axes.plot(*zip(*curve, strict=True), "o-", markersize=3, color=ACCENT)
    axes.set(title=f"{name}: digits, σ = 0.3, β from 0.1 to 316", xlabel="rate (nats per image)", ylabel="distortion")
plt.show()

# %% [markdown]
# ## 09.5 A token with a gradient (2 points, 15 minutes, medium)
#
# Write the straight-through Gumbel-softmax. From logits $\ell$ of $K$ tokens, along **axis 1**, and uniform numbers
# $U \in (0, 1)$, make Gumbel noise and the relaxed draw
#
# $$g = -\log(-\log U), \qquad s = \mathrm{softmax}\Big(\frac{\ell + g}{\tau}\Big),$$
#
# and return a tensor whose *value* is the one-hot vector at the largest entry of $s$, and whose *gradient* in $\ell$
# is that of $s$.
#
# **Without:** `gumbel_softmax`, neither the library's nor `F.gumbel_softmax`.


# %% solution="09.5"
def straight_through(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """A one-hot draw over axis 1 with the gradient of the relaxed one.

    Args:
        logits, uniform: (B, K) or (B, K, h, w).
        temperature: tau > 0.

    Returns:
        shaped like logits.
    """
    ### BEGIN SOLUTION
    soft = torch.softmax((logits - torch.log(-torch.log(uniform))) / temperature, dim=1)
    hard = torch.zeros_like(soft).scatter(1, soft.argmax(1, keepdim=True), 1.0)
    return hard + soft - soft.detach()
    ### END SOLUTION


# %% check="09.5" points=2
def instance(*shape: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, uniform numbers, and weights to test a gradient with."""
    uniform = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return normal(*shape, seed=seed).requires_grad_(), uniform, normal(*shape, seed=seed + 1)


def gumbel(uniform: Tensor) -> Tensor:
    return -torch.log(-torch.log(uniform))


logits, uniform, probe = instance(64, 5, seed=8)
with untouched(logits, uniform), unaided(gumbel_softmax, F.gumbel_softmax):
    drawn = straight_through(logits, uniform, 0.5)
drawn = tensor(drawn, (64, 5), "the draw must have the shape of the logits")
assert near(drawn, straight_through(logits, uniform, 0.5)), "two equal calls differ: the uniform numbers are given"
soft = gumbel_softmax(logits, 0.5, noise=gumbel(uniform))
assert not near(drawn, soft.detach()), "this is the relaxed draw: its value must be one-hot"


def corner(logits: Tensor, noise: Tensor) -> Tensor:
    """The one-hot vector of a draw with this noise."""
    return gumbel_softmax(logits.detach(), 0.5, hard=True, noise=noise)


assert not near(drawn, corner(logits, 0 * uniform)), "always the most probable token: the Gumbel noise is missing"
assert not near(drawn, corner(logits, uniform)), "the uniform numbers were added as they are: make Gumbel noise of them"
assert not near(drawn, corner(logits, -uniform.log())), (
    "-log U is exponential, not Gumbel: one more logarithm, and a sign"
)
assert not near(drawn, corner(logits, -gumbel(uniform))), "the sign of the noise is wrong: g = -log(-log U) is *added*"
assert not near(drawn, corner(logits, 0.5 * gumbel(uniform))), (
    "only the logits are divided by the temperature: then the temperature changes the probabilities, not the softness"
)
assert not near(drawn, corner(logits, gumbel(uniform)) + soft.detach()), (
    "the relaxed draw is there in value too: the value must be the one-hot vector alone"
)
assert not near(drawn, corner(logits, gumbel(1 - uniform))), "the noise is made of 1 - U, where it is to be made of U"
assert not near(drawn, corner(-logits, -gumbel(uniform))), "this is the smallest entry, not the largest"
assert near(drawn, corner(logits, gumbel(uniform))), (
    "the value is not the one-hot vector at the largest entry of the relaxed draw"
)
assert drawn.requires_grad, "no gradient at all: a one-hot vector has none of its own"
(gradient,) = torch.autograd.grad((drawn * probe).sum(), logits, retain_graph=True)
(right,) = torch.autograd.grad((soft * probe).sum(), logits)
assert not near(gradient, 0 * right), "the gradient is 0: soft is there twice, and must be detached once"
assert not near(gradient, -right), "the gradient has the wrong sign: the *subtracted* copy must be the detached one"
sharp = torch.autograd.grad((logits.softmax(1) * probe).sum(), logits)[0]
assert not near(gradient, sharp), "the gradient is that of softmax(logits): it must be that of the relaxed draw"
assert not near(gradient, probe), "the gradient is handed on as it comes: it must go through the softmax"
(warm,) = torch.autograd.grad((gumbel_softmax(logits, 1.0, noise=gumbel(uniform)) * probe).sum(), logits)
assert not near(gradient, warm), "the gradient is that of the temperature 1: use the argument"
(upside,) = torch.autograd.grad((gumbel_softmax(logits, 2.0, noise=gumbel(uniform)) * probe).sum(), logits)
assert not near(gradient, upside), "multiplied by the temperature, and not divided: a low one makes the draw sharper"
assert near(gradient, right), "the gradient is not that of the relaxed draw"
logits, uniform, probe = instance(2, 3, 4, 4, seed=9)
drawn = straight_through(logits, uniform, 1.3)
soft = gumbel_softmax(logits, 1.3, noise=gumbel(uniform))
assert drawn.shape == logits.shape, "the shape is lost for a grid of tokens (B, K, h, w)"
assert near(drawn, corner(logits, gumbel(uniform))), (
    "right for (B, K), wrong for a grid (B, K, h, w): the tokens lie along axis 1, not along the last"
)
(gradient,) = torch.autograd.grad((drawn * probe).sum(), logits)
(right,) = torch.autograd.grad((soft * probe).sum(), logits)
assert near(gradient, right), "on a grid (B, K, h, w) only the value is right: along which axis is the softmax taken?"
logits, uniform, _ = instance(1, 2, seed=10)
assert near(straight_through(logits, uniform, 2.0), corner(logits, gumbel(uniform))), "wrong for one draw of two tokens"

# %% [markdown] hints="09.5"
# 1. Three parts: the noise, the relaxed draw `soft`, the one-hot vector `hard`. How does one add numbers whose value
#    is 0 but whose gradient is not?
#
# 2. `soft - soft.detach()` is 0, with the gradient of `soft`. Add it to `hard`. All along axis 1.
#
# 3. `hard = torch.zeros_like(soft).scatter(1, soft.argmax(1, keepdim=True), 1.0)`; return
#    `hard + soft - soft.detach()`.

# %% [markdown]
# ## 09.6 The losses of a GAN (1 point, 5 minutes, easy)
#
# From the discriminator's *logits* $\ell$, with $D = \mathrm{sigmoid}(\ell)$, on data and on samples, return the
# discriminator's loss $-\mathbb E\log D(x) - \mathbb E\log(1 - D(G(\varepsilon)))$ and the generator's
# **non-saturating** loss. Both must be finite, and right, for any logit in $[-10^4, 10^4]$. Real and generated samples
# may differ in number. Both networks learn by them: the losses must be differentiable in the logits.
#
# **Without:** `discriminator_loss`, `generator_loss`.


# %% solution="09.6"
def gan_losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """The losses of the discriminator and of the generator, two scalars, from logits (N,) of data, (M,) of samples."""
    ### BEGIN SOLUTION
    return F.softplus(-real).mean() + F.softplus(fake).mean(), F.softplus(-fake).mean()
    ### END SOLUTION


# %% check="09.6" points=1
real, fake = 2 * normal(30, seed=10) + 1, 2 * normal(20, seed=11) - 1
real, fake = real.requires_grad_(), fake.requires_grad_()


def losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """The answer, two scalars."""
    with untouched(real, fake), unaided(discriminator_loss, generator_loss):
        answer = gan_losses(real, fake)
    made = pair(answer, "the discriminator's loss and the generator's")
    for name, value in zip(("discriminator's", "generator's"), made, strict=True):
        assert isinstance(value, Tensor), f"the {name} loss must be a tensor"
        assert value.shape == (), f"the {name} loss must be a scalar, got shape {tuple(value.shape)}"
    return made


made = losses(real, fake)
judge, maker = discriminator_loss(real, fake).detach(), generator_loss(fake).detach()
sure = torch.tensor([1e4]).double()
of_real, of_fake = discriminator_loss(real, -sure).detach(), discriminator_loss(sure, fake).detach()
assert not (near(made[0], maker) and near(made[1], judge)), "the two losses are exchanged: the discriminator's is first"
assert not near(made[0], -judge), "the discriminator's loss has the wrong sign: it is to be *minimised*"
assert not near(made[0], judge / 2), "the discriminator's loss is halved: its two means are added, not averaged"
assert not near(made[0], 30 * of_real + 20 * of_fake), "sums over samples, where the expectations are means"
assert not near(made[0], (30 * of_real + 20 * of_fake) / 50), (
    "one mean over all 50 logits: the data's expectation and the samples' are two means, which are added"
)
assert not near(made[0], discriminator_loss(fake, real).detach()), (
    "data and samples are exchanged in the discriminator's loss"
)
assert not near(made[0], of_real), "the discriminator's loss sees the data alone: it has a second term, of the samples"
assert not near(made[0], of_fake), "the discriminator's loss sees the samples alone: it has a first term, of the data"
assert not near(made[0], of_real - of_fake), "the discriminator's second term has the wrong sign: both are costs"
assert near(made[0], judge), "the discriminator's loss is wrong"
assert not near(made[1], generator_loss(fake, saturating=True).detach()), (
    "this generator's loss saturates: where the discriminator is sure of a fake, its gradient vanishes"
)
assert not near(made[1], -generator_loss(fake, saturating=True).detach()), (
    "this generator is rewarded for being caught: it must *raise* D on its samples"
)
assert not near(made[1], generator_loss(real).detach()), "the generator's loss is of its samples, not of the data"
assert not near(made[1], -maker), "the generator's loss has the wrong sign: it is to be *minimised*"
assert near(made[1], maker), "the generator's loss is wrong: -E log D of its samples"
expected = discriminator_loss(real, fake), generator_loss(fake)
for loss, right, inputs, name in (
    (made[0], expected[0], [real, fake], "discriminator's"),
    (made[1], expected[1], [fake], "generator's"),
):
    assert loss.requires_grad, f"the {name} loss has no gradient: is something detached?"
    slopes = torch.autograd.grad(loss, inputs, allow_unused=True, retain_graph=True)
    for slope, exact in zip(slopes, torch.autograd.grad(right, inputs), strict=True):
        assert slope is not None, f"some logits get no gradient from the {name} loss: are they detached?"
        assert near(slope, exact), f"the {name} loss has a wrong gradient: is something detached?"
for real, fake in ((-1e4, 1e4), (1e4, -1e4)):
    ends = [torch.full((count,), value, dtype=torch.float64) for count, value in ((3, real), (1, fake))]
    far = losses(*ends)
    assert all(bool(torch.isfinite(value)) for value in far), (
        "not finite for large logits: sigmoid rounds to 0 or 1 there, whose log is infinite. Do not go through D"
    )
    assert near(far[0], torch.tensor(2e4 if real < 0 else 0.0).double()), (
        "a loss is cut off for large logits: a small constant inside the logarithm, or a clamp, kills the gradient"
    )
    assert near(far[1], torch.tensor(1e4 if fake < 0 else 0.0).double()), (
        "the generator's loss is cut off where it is large: there its gradient is 0, and it is needed most"
    )
    ends = [end.requires_grad_() for end in ends]
    slopes = torch.autograd.grad(sum(losses(*ends)), ends)
    right = torch.autograd.grad(discriminator_loss(*ends) + generator_loss(ends[1]), ends)
    assert all(near(slope, exact) for slope, exact in zip(slopes, right, strict=True)), (
        "the values are right at logits of 10^4, but not their gradients: is something cut off?"
    )

# %% [markdown] hints="09.6"
# 1. Write $-\log\mathrm{sigmoid}(\ell)$ as a function of $\ell$ alone. PyTorch has it under a name of its own.
#
# 2. $-\log\mathrm{sigmoid}(\ell) = \log(1 + e^{-\ell}) = \mathrm{softplus}(-\ell)$ and
#    $-\log(1 - \mathrm{sigmoid}(\ell)) = \mathrm{softplus}(\ell)$.
#
# 3. `F.softplus(-real).mean() + F.softplus(fake).mean()` for the one; the other is minimal where the discriminator
#    takes samples for data: `F.softplus(-fake).mean()`.

# %% tags=["demo"]
logit = torch.linspace(-6, 6, 200).double()
figure, panels = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained", sharey=True)
yours = [gan_losses(logit[:1], value[None])[1] for value in logit]
for axes, curve, name in (
    (panels[0], yours, "yours"),
    (panels[1], [generator_loss(value) for value in logit], "expected"),
):
    axes.plot(logit, torch.as_tensor(curve), color=ACCENT, label="generator's loss")
    saturating = [generator_loss(value, saturating=True) for value in logit]
    axes.plot(logit, saturating, color=GREY, label="the one that saturates")
    axes.axhline(0, color=INK, linewidth=0.5)
    axes.set(title=name, xlabel="logit of a sample")
panels[0].legend()
plt.show()

# %% [markdown]
# ## How to be graded
#
# Save the notebook and run `flowlib grade 09_autoencoders_and_gans.ipynb`. It prints a table of the questions with your
# points, and the hint of each check that failed.
