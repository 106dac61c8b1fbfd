# %% [markdown]
# # 09. Autoencoders and GANs
#
# Flows and diffusions ask a network tens to hundreds of times for one sample, each time about every pixel. Older
# generative models ask once. **What do autoencoders and GANs give us, what do they lack, and why does latent diffusion
# (lecture 10) begin with both of them?**
#
# You will be able to
#
# - prove that the best linear autoencoder is principal component analysis;
# - prove that a denoising autoencoder knows the score of the noised data, and read it off;
# - derive the evidence lower bound, and say what its KL weight trades for what;
# - say exactly which directions a linear VAE keeps, and which of its latents collapse;
# - draw a discrete latent with a gradient, and say what that gradient is worth;
# - derive the best discriminator, what a GAN then minimises, and why its samples cover less than a flow's.
#
# **Time:** 90 minutes of reading, 3 minutes of computing. **Before:** lectures 02 (Tweedie's formula) and 04 (denoising
# score matching).
#
# **Notation.** $x$ is data in $\mathbb R^d$ and $z$ a latent, as the literature on autoencoders has it; in section 3
# alone $z$ is data and $x$ its noised copy, as in all other lectures. $\sigma$ is the standard deviation of noise (of
# the input in section 3, of the decoder after it), $\lambda_i$ an eigenvalue, $\tau$ a temperature. $D$ is a
# discriminator here, and not $\mathbb E[z \mid x]$. $\Delta$ is a distortion, $R$ a rate.

# %%
import math
import tempfile
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from flowlib import MixtureField
from flowlib.course.notebook import fast, resolve, seeded, show_source, trained
from flowlib.data import load, toy
from flowlib.metrics import energy_distance, precision_recall
from flowlib.nets.autoencoder import draw
from flowlib.plotting import tile
from flowlib.plotting.style import ACCENT, GREY, INK, PALE
from flowlib.runs.run import build
from flowlib.systems import GANSystem, LatentFlowSystem
from flowlib.systems.denoiser import denoiser_score, denoising_loss, gaussian_noise
from flowlib.systems.dvae import codebook_use, gumbel_softmax
from flowlib.systems.gan import discriminator_loss, generator_loss, r1_penalty
from flowlib.systems.vae import elbo_loss, kl_to_normal
from flowlib.training import Trainer
from flowlib.training.seat import Seat


def minimise(weights, loss, iterations):
    """Descend loss(), a closed form of a module's weights, by L-BFGS."""
    optimiser = torch.optim.LBFGS(
        weights.parameters(), max_iter=iterations, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)


digits, held_out = load("digits").images, load("digits", "test").images  # (1500 | 297, 1, 8, 8) in [-1, 1]

# %% [markdown]
# ## 1. Why compress?
#
# An 8 × 8 digit is a point in $\mathbb R^{64}$. Almost all of that space is not digits: it is noise, as the right
# picture shows. If digits lie near a surface of few dimensions, then an **encoder** $e$ can say where on the surface a
# digit is, a **decoder** $d$ can paint it from there, and everything else (learning a distribution, sampling from it)
# can happen in the small space between them, where each step is cheaper. Two questions decide whether that works:
#
# 1. How much is lost on the way through the small space? (Sections 2 to 5.)
# 2. Is the distribution of the latents one that we can sample from? (Sections 6 and 7.)
#
# A GAN (sections 8 and 9) asks neither. It has no encoder, and learns the decoder alone.

# %% tags=["draw"]
# alt: Left, three rows of handwritten digits; right, three rows of grey pixel noise.
noise = 2 * torch.rand(24, 1, 8, 8, generator=seeded(0)) - 1
figure, panels = plt.subplots(1, 2, figsize=(8, 2.2), layout="constrained")
for axes, images, name in zip(
    panels, (digits[:24], noise), ("points of the data set", "points of the cube"), strict=True
):
    axes.imshow(tile(images, 8)[..., 0], cmap="gray_r", vmin=0, vmax=1)
    axes.set(title=name, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## 2. The linear autoencoder is PCA
#
# Let $x \in \mathbb R^d$ have mean 0 and covariance $S$ with eigenvalues
# $\lambda_1 \ge \dots \ge \lambda_d$ and orthonormal eigenvectors $v_1, \dots, v_d$. Encode by a $k \times d$ matrix
# $V$, decode by a $d \times k$ matrix $W$. Only the product matters, a matrix $A = WV$ of rank at most $k$.
#
# > **Theorem 1.** $\mathbb E\lvert x - Ax\rvert^2 \ge \lambda_{k+1} + \dots + \lambda_d$ for every $A$ of rank at most
# > $k$, with equality if $A = \sum_{i\le k} v_i v_i^{\mathsf T}$.
#
# **Proof.** Let $P$ be the orthogonal projector on the range of $A$, of rank at most $k$. For each $x$, $Px$ is the
# point of that range nearest to $x$, so $\lvert x - Ax\rvert \ge \lvert x - Px\rvert$, and it is enough to look at
# projectors. By Pythagoras
#
# $$\mathbb E\lvert x - Px\rvert^2 = \mathbb E\lvert x\rvert^2 - \mathbb E\lvert Px\rvert^2 = \sum_i\lambda_i
# {} - \operatorname{tr}(PS) = \sum_i\lambda_i - \sum_i\lambda_i c_i, \qquad c_i = v_i^{\mathsf T}Pv_i .$$
#
# The weights satisfy $0 \le c_i = \lvert Pv_i\rvert^2 \le 1$ and $\sum_i c_i = \operatorname{tr}P \le k$. Under these
# constraints $\sum_i\lambda_i c_i$ is largest if the first $k$ weights are 1 and all others 0. $\blacksquare$
#
# Descent finds this minimum from almost every start: if the eigenvalues are positive and distinct, every other
# stationary point of the loss is a saddle (Baldi & Hornik 1989). Check it. In the loss the data appear through $S$
# alone, $\mathbb E\lvert x - Ax\rvert^2 = \operatorname{tr}[(I - A)S(I - A)^{\mathsf T}]$, so there is nothing to
# draw, and any optimiser of smooth functions will do.

# %%
flat = digits.flatten(1).double()
covariance = torch.cov(flat.T, correction=0)
spectrum, directions = (part.flip(-1) for part in torch.linalg.eigh(covariance))  # falling eigenvalues
one = torch.eye(64, dtype=torch.float64)
k = 8


class LinearPair(nn.Module):
    """A decoder W (64, k) and an encoder V (k, 64)."""

    def __init__(self, k, seed=0):
        super().__init__()
        source = seeded(seed)
        self.W, self.V = (
            nn.Parameter(0.1 * torch.randn(size, generator=source).double()) for size in ((64, k), (k, 64))
        )


def linear_error(pair):
    left = one - pair.W @ pair.V
    return (left @ covariance * left).sum()


pair = LinearPair(k)
minimise(pair, lambda: linear_error(pair), 20 if fast else 1000)
with torch.no_grad():
    error, least = float(linear_error(pair)), float(spectrum[k:].sum())
    off = pair.W @ pair.V - directions[:, :k] @ directions[:, :k].T
    away = float(((off @ covariance * off).sum() / spectrum.sum()).sqrt())  # on the data: root of E|off x|^2 / E|x|^2
print(f"error after training {error:.6f}, sum of the eigenvalues left out {least:.6f}")
print(f"difference of WV from the projector, on the data: {away:.1e}")
if not fast:
    assert abs(error / least - 1) < 1e-4
    assert away < 1e-3

# %% [markdown]
# $W$ and $V$ themselves are not determined: $WQ$ and $Q^{-1}V$ do the same for any invertible $Q$. The latents of a
# plain autoencoder have no scale, no axes and no distribution that anything asked for (section 6).
#
# A nonlinear pair can bend the surface. The recipe "autoencoder" trains convolutions by squared error; here on the 8 ×
# 8 digits, down to one place with $k$ channels. With as many numbers for a digit it loses less on digits that it has
# not seen:

# %%
SMALL = {"data": "digits", "factor": 8, "steps": 350, "warmup": 0.0}  # latents (B, channels, 1, 1)
plain_run = trained("autoencoder", latent_channels=k, **SMALL)
plain = plain_run.module
centred = held_out.flatten(1).double() - flat.mean(0)
with torch.no_grad():
    by_line = (centred - centred @ directions[:, :k] @ directions[:, :k].T).square().sum(1).mean()
    by_network = (plain(held_out) - held_out).square().flatten(1).sum(1).mean()
print(f"squared error of a held-out digit from {k} numbers: PCA {by_line:.2f}, convolutions {by_network:.2f}")
if not fast:
    assert by_network < by_line

# %% [markdown]
# ## 3. The denoising autoencoder is a score model
#
# Vincent et al. (2008) damaged the input and asked the network $r$ to repair it, in the hope of better features. They
# set pixels to zero. With Gaussian noise for damage, $x = z + \sigma\varepsilon$, there is more to find than features.
#
# > **Theorem 2.** Let $p_\sigma$ be the density of $x = z + \sigma\varepsilon$. The minimiser of
# > $\mathbb E\lvert r(x) - z\rvert^2$ is $r(x) = \mathbb E[z\mid x]$, and
# >
# > $$\frac{r(x) - x}{\sigma^2} = \nabla\log p_\sigma(x) . \tag{1}$$
#
# **Proof.** Write $r_*(x) = \mathbb E[z\mid x]$. Given $x$, the difference $z - r_*(x)$ has mean zero, so
# $\mathbb E\lvert r(x) - z\rvert^2 = \mathbb E\lvert r(x) - r_*(x)\rvert^2 + \mathbb E\lvert r_*(x) - z\rvert^2$. The
# last term does not contain $r$, the first is 0 for $r = r_*$. Next,
#
# $$\nabla p_\sigma(x) = \int\nabla_x N(x; z, \sigma^2 I)\,p(z)\,dz
# = \int\frac{z - x}{\sigma^2}\,N(x; z, \sigma^2 I)\,p(z)\,dz = p_\sigma(x)\,\frac{r_*(x) - x}{\sigma^2} .$$
#
# Divide by $p_\sigma(x)$. $\blacksquare$
#
# Lecture 04 proved the same the other way round: the loss of a denoiser, divided by $\sigma^4$, *is* denoising score
# matching (Vincent 2011). So a diffusion model is a denoising autoencoder that is told $\sigma$ and trained for every
# $\sigma$ at once. For small $\sigma$, (1) says that even an almost undisturbed autoencoder points up the density
# (Alain & Bengio 2014): by how much the reconstruction moves a point tells where the data are.
#
# Damage and loss are the library's; the recipe "denoiser" trains with them. On images its network is the convolutional
# one of section 2, on points a few layers.

# %%
show_source(gaussian_noise, denoising_loss, denoiser_score)

# %% [markdown]
# Measured where the score is known: noise of $\sigma = 0.4$ on the ring of eight Gaussians. The exact score comes from
# a linear path, on which $x_t/\alpha_t = z + (\beta_t/\alpha_t)\,\varepsilon$; so $\sigma = \beta_t/\alpha_t$ at
# $t = 1/(1 + \sigma)$, and $\nabla\log p_\sigma(x) = \alpha_t\, s_t(\alpha_t x)$.

# %%
# alt: Two fields of arrows that look the same: long ones at the edges point inwards, short ones in the middle outwards,
#   to eight red points on a ring.
std = 0.4
ring = MixtureField(*toy.mixture())
denoiser = trained("denoiser", data="gaussians", std=std, channels=128, steps=1200, batch_size=512, lr=8e-3).module
t = 1 / (1 + std)
x = gaussian_noise(std)(ring.sample(4000, seeded(2))[0], seeded(3))
with torch.no_grad():
    learned, exact = denoiser_score(denoiser, x, std), t * ring.s(t * x, t)
error = float((learned - exact).square().sum() / exact.square().sum())
print(f"relative squared error of the score in a denoiser: {error:.4f}")
if not fast:
    assert error < 0.05

axis = torch.linspace(-2.6, 2.6, 18)
grid = torch.cartesian_prod(axis, axis)
figure, panels = plt.subplots(1, 2, figsize=(9, 4.3), layout="constrained")
with torch.no_grad():
    fields = {"exact score": t * ring.s(t * grid, t), "(r(x) - x) / σ²": denoiser_score(denoiser, grid, std)}
for axes, (name, arrows) in zip(panels, fields.items(), strict=True):
    axes.plot(*ring.means.T, "o", color=ACCENT, markersize=5)
    axes.quiver(*grid.T, *arrows.T, color=INK, width=0.003, scale=120)
    axes.set(title=name, aspect="equal", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# Why is one noise level not a generator? Follow the arrows: at this $\sigma$ they lead to the right places, but blurred
# by $\sigma$. At a small $\sigma$ they would be sharp, but known only near the data, where training points lie, and a
# walk would hardly ever cross from one island to the next. All levels in turn, from large to small, is diffusion.

# %% [markdown]
# ## 4. The evidence lower bound
#
# Now give latents a distribution: a **prior** $p(z) = N(0, I)$ and a decoder that is a density,
# $p_\theta(x\mid z) = N(\hat x_\theta(z), \sigma^2 I)$. Sampling is two lines: draw $z$, decode. What one would like to
# maximise is the **evidence** $\log p_\theta(x) = \log\int p_\theta(x\mid z)\,p(z)\,dz$, an integral that cannot be
# computed. Let $q_\phi(z\mid x)$ be *any* density. From $p_\theta(x) = p_\theta(x\mid z)\,p(z)/p_\theta(z\mid x)$, for
# every $z$,
#
# $$\log p_\theta(x) = \log p_\theta(x\mid z) - \log\frac{q_\phi(z\mid x)}{p(z)}
# {} + \log\frac{q_\phi(z\mid x)}{p_\theta(z\mid x)} .$$
#
# The left side does not depend on $z$. Average the right side over $z \sim q_\phi(z\mid x)$:
#
# $$\log p_\theta(x) = \underbrace{\mathbb E_{q_\phi}\log p_\theta(x\mid z)
# {} - \mathrm{KL}\big(q_\phi(z\mid x)\,\|\,p(z)\big)}_{\mathrm{ELBO}(x)}
# {} + \mathrm{KL}\big(q_\phi(z\mid x)\,\|\,p_\theta(z\mid x)\big). \tag{2}$$
#
# The last term is not negative, so the ELBO is a lower bound; it is the evidence exactly if $q_\phi$ is the true
# posterior. Raising it over $\theta$ and $\phi$ fits the data and the posterior at once (Kingma & Welling 2013).
# (Lecture 07's bound is (2) for the latents $x_1, \dots, x_T$ of a diffusion, with an encoder that is not learned.)
#
# **The KL term.** With $q = N(m, \mathrm{diag}(v))$ the components are independent, and for one of them
#
# $$\mathbb E_q[\log q - \log p] = \mathbb E_q\Big[-\tfrac12\log v - \frac{(z - m)^2}{2v} + \frac{z^2}{2}\Big]
# = \tfrac12(m^2 + v - 1 - \log v), \qquad\text{as } \mathbb E_q z^2 = m^2 + v .$$
#
# **The reconstruction.**
# $\log p_\theta(x\mid z) = -\lvert x - \hat x(z)\rvert^2/(2\sigma^2) - d\log(\sigma\sqrt{2\pi})$.
# Multiply $-\mathrm{ELBO}$ by $2\sigma^2/d$, drop the constant, and the library's loss stands there, with a **KL
# weight** of $2\sigma^2$:
#
# $$\frac1d\lvert x - \hat x(z)\rvert^2 + \frac{2\sigma^2}{d}\,\mathrm{KL}\big(q_\phi(z\mid x)\,\|\,N(0, I)\big).
# \tag{3}$$

# %%
show_source(elbo_loss, draw)

# %% [markdown]
# **Bits-back: the bound is the length of a code.** Sender and receiver share the networks, and the sender has other
# random bits to send as well. To send $x$, the sender spends $\log\frac1{q(z\mid x)}$ of those bits to choose
# $z \sim q(z\mid x)$, then sends $z$ by a code for the prior, $\log\frac1{p(z)}$, and $x$ by a code for the decoder,
# $\log\frac1{p(x\mid z)}$. The receiver decodes $z$, then $x$, now knows $q(\cdot\mid x)$, and reads the spent bits
# back from the choice of $z$. On average the price of $x$ is $\mathbb E_q[\log q(z\mid x) - \log p(z) - \log p(x\mid
# z)] = -\mathrm{ELBO}(x)$, so the KL term is what the latent costs after the refund (Hinton & van Camp 1993; Townsend
# et al. 2019 do it with a VAE). On a model with five latents and seven symbols:

# %%
prior, likelihood, q = (
    torch.randn(*shape, generator=seeded(20)).double().softmax(-1) for shape in ((5,), (5, 7), (7, 5))
)
posterior = (prior[:, None] * likelihood).T  # (7, 5): p(x, z), soon p(z|x)
evidence = posterior.sum(1)
posterior = posterior / evidence[:, None]
price = (q * (q.log() - prior.log() - likelihood.T.log())).sum(1)  # of each symbol, nats
gap = (q * (q / posterior).log()).sum(1)
assert torch.allclose(price, -evidence.log() + gap, atol=1e-12)  # (2)
choices = torch.multinomial(q[3], 200_000, replacement=True, generator=seeded(21))
sent = -prior[choices].log() - likelihood[choices, 3].log()
refund = -q[3, choices].log()
net = sent - refund
print(f"symbol 3: sent {sent.mean():.4f}, refunded {refund.mean():.4f}, net {net.mean():.4f} nats; ", end="")
print(f"-ELBO {price[3]:.4f}, -log p {-evidence[3].log():.4f}")
assert abs(float(net.mean() - price[3])) < 5 * float(net.std()) / 200_000**0.5
assert float(sent.mean()) > float(price[3]) + 0.5  # the refund matters

# %% [markdown]
# **Reparameterisation.** We need $\nabla_\phi\,\mathbb E_{q_\phi}f(z)$, where the distribution itself depends on
# $\phi$. Write the draw as $z = m + \sqrt v\,\varepsilon$ with $\varepsilon \sim N(0, 1)$, whose distribution does not
# depend on $\phi$. Then the gradient goes inside,
# $\nabla_\phi\,\mathbb E f(m + \sqrt v\,\varepsilon) = \mathbb E\,\nabla_\phi f(m + \sqrt v\,\varepsilon)$. The
# alternative, which needs no gradient of $f$, is the score-function estimator:
# $\nabla_\phi\int q_\phi f\,dz = \int q_\phi\,\nabla_\phi\log q_\phi\,f\,dz$, so average
# $f(z)\,\nabla_\phi\log q_\phi(z)$. Both are unbiased. They differ in noise. For $f(z) = \lvert z - c\rvert^2$ in $n$
# dimensions the gradient in $m$ is $2(m - c)$; measure:

# %%
print(f"{'n':>4} {'reparameterised':>16} {'score function':>15}   (standard deviation of one draw's gradient)")
for n in (1, 10, 100):
    centre = torch.ones(n)
    eps = torch.randn(50_000, n, generator=seeded(4))  # q = N(0, I), so z = eps and the gradient in m is -2 c
    by_path = 2 * (eps - centre)
    by_score = (eps - centre).square().sum(1, keepdim=True) * eps
    for estimate in (by_path, by_score):
        pooled = estimate.mean(1)  # all components have the same mean
        tolerance = 5 * float(pooled.std()) / 50_000**0.5
        assert abs(float(pooled.mean()) + 2) < tolerance < 0.6  # both unbiased
    noise = by_path.std(0).mean(), by_score.std(0).mean()
    print(f"{n:4} {noise[0]:16.2f} {noise[1]:15.2f}")
    assert abs(float(noise[0]) - 2) < 0.05  # whatever the dimension,
    assert float(noise[1]) > 2 * n  # where the score function's noise grows with it

# %% [markdown]
# The score function's noise grows with the dimension, because it hears only the number $f$, from all components
# together. That is why VAEs are reparameterised, and why discrete latents (section 7) are hard.

# %% [markdown]
# ## 5. Rate and distortion
#
# Read (3) as an engineer would. $\mathrm{KL}(q(z\mid x)\,\|\,p(z))$ is what it costs, in nats, to tell the decoder
# which $z$ it is: the **rate** $R$. The squared error is the **distortion** $\Delta$. The KL weight says what a
# nat is worth in squared error. The rate is what the latent costs in bits-back coding, and bounds what it says about
# $x$:
#
# $$R = \mathbb E_x\,\mathrm{KL}\big(q(z\mid x)\,\|\,p(z)\big) = I(x; z) + \mathrm{KL}\big(q(z)\,\|\,p(z)\big),
# \qquad q(z) = \mathbb E_x\,q(z\mid x). \tag{4}$$
#
# (Add and subtract $\mathbb E\log q(z)$.) So the rate buys information about $x$, plus a fee for latents whose overall
# distribution is not the prior.
#
# In the linear case everything can be solved. The data have mean 0 and covariance eigenvalues $\lambda_i$, whatever
# their distribution. Decoder and encoder's mean are linear, and the encoder's variances do not depend on $x$.
#
# > **Theorem 3.** The best linear VAE with decoder noise $\sigma$ and enough latents has in eigendirection $i$
# >
# > $$R_i = \max\Big(\tfrac12\log\frac{\lambda_i}{\sigma^2},\ 0\Big), \qquad
# > \Delta_i = \min(\lambda_i, \sigma^2). \tag{5}$$
#
# **Proof.** The mean ELBO of a linear VAE contains $x$ in squares and products only. So it, its rate and its distortion
# are the same for all data with this covariance, and we may take Gaussian ones. By (2) the best ELBO is the best
# evidence, if $q$ can be the posterior; the posterior of a linear Gaussian
# model is Gaussian, and in the axes chosen below its components are independent. The model's density is
# $N(0, WW^{\mathsf T} + \sigma^2 I)$. The likelihood is largest if this is as near to $S$ as its form permits: same
# eigenvectors, and eigenvalues $w_i^2 + \sigma^2$ (Tipping & Bishop 1999). Each direction then contributes
# $-\frac12[\log(w_i^2 + \sigma^2) + \lambda_i/(w_i^2 + \sigma^2)]$, which rises while $w_i^2 + \sigma^2 < \lambda_i$
# and falls after: $w_i^2 = \max(\lambda_i - \sigma^2, 0)$. If $\lambda_i \le \sigma^2$, then $w_i = 0$, the posterior
# is the prior: rate 0, distortion $\lambda_i$. Otherwise $x_i = w_iz_i + \sigma\varepsilon$ has variance $\lambda_i$
# and $q(z_i\mid x) = N(w_ix_i/\lambda_i,\ \sigma^2/\lambda_i)$. Put this into the KL term:
#
# $$\tfrac12\Big(\frac{w_i^2}{\lambda_i} + \frac{\sigma^2}{\lambda_i} - 1 + \log\frac{\lambda_i}{\sigma^2}\Big)
# = \tfrac12\log\frac{\lambda_i}{\sigma^2} .$$
#
# The distortion has a bias $(1 - w_i^2/\lambda_i)^2\lambda_i = \sigma^4/\lambda_i$ and the draw's variance
# $w_i^2\sigma^2/\lambda_i = \sigma^2 - \sigma^4/\lambda_i$, together $\sigma^2$. $\blacksquare$
#
# (5) is Shannon's rate–distortion function of a Gaussian, "reverse water-filling": no code whatever does better on
# *Gaussian* data (Cover & Thomas 2006, section 10.3). For all others with the same covariance it is an **upper bound**
# of what the best code needs, since the linear VAE has that distortion on them too, and by (4) its latent holds at most
# $R$ nats about $x$: for a given covariance Gaussian data are the hardest.
#
# Theorem 3 also explains **posterior collapse**. A latent whose direction varies less than the decoder's noise is
# switched off, $q(z_i\mid x) = p(z_i)$, at the *optimum*: training has not failed, the noise makes the latent useless
# (Lucas et al. 2019). Train a linear VAE on the digits, which are not Gaussian, and count.

# %%


class LinearVAE(LinearPair):
    """W, V and the logarithms of the latents' variances, which need not depend on x."""

    def __init__(self, latents, std):
        super().__init__(latents, seed=1)
        self.std, self.log_variance = std, nn.Parameter(torch.zeros(latents).double())

    def loss(self):
        """-ELBO up to a constant, the expectations over data and latents in closed form."""
        variance = self.log_variance.exp()
        distortion = linear_error(self) + (self.W.square() * variance).sum()
        return distortion / (2 * self.std**2) + self.rates().sum()

    def rates(self):
        second = ((self.V @ covariance) * self.V).sum(1)  # E m^2
        return 0.5 * (second + self.log_variance.exp() - 1 - self.log_variance)


latents, linear_std = 24, float(((spectrum[9] + spectrum[10]) / 2).sqrt())  # ten eigenvalues lie above its square
vae = LinearVAE(latents, linear_std)
minimise(vae, vae.loss, 20 if fast else 1000)
rates = vae.rates().detach().sort(descending=True).values
expected = (0.5 * torch.log(spectrum / linear_std**2)).clamp(min=0)
used, above = int((rates > 0.01).sum()), int((expected > 0).sum())
print(f"latents with a rate above 0.01 nats: {used}, eigenvalues above σ²: {above}")
print(f"total rate {rates.sum():.4f} nats, by Theorem 3 {expected.sum():.4f}")
with torch.no_grad():  # and the distortion, not by formula but of the digits themselves, from drawn latents
    x = (flat - flat.mean(0)).repeat(20, 1)
    z = x @ vae.V.T + vae.log_variance.exp().sqrt() * torch.randn(len(x), latents, generator=seeded(22)).double()
    distortion = float((x - z @ vae.W.T).square().sum(1).mean())
least = float(spectrum.clamp(max=linear_std**2).sum())
print(f"distortion of drawn latents {distortion:.3f}, by Theorem 3 {least:.3f}")
if not fast:
    assert abs(float(rates.sum() / expected.sum()) - 1) < 0.01
    assert abs(distortion / least - 1) < 0.01
    assert used == above == 10

# %% [markdown]
# (The encoder's components are independent, so the latents cannot be turned among themselves as in section 2: with
# distinct eigenvalues each settles on one eigenvector.)
#
# Now the nonlinear one, the recipe "vae", for five KL weights. Rate and distortion are measured on held-out digits,
# with drawn latents. The grey line is (5) with the digits' covariance: enough for the best code, and for Gaussian data
# the least.


# %%
# alt: Left, distortion against rate: five red points fall just above the grey curve of the linear model and then stay
#   at 6 where it falls on to 2. Right, the rate of each of eight latents, sorted: between 3.2 and 2.3 nats for the
#   smallest weight, and all but one at 0 for the largest.
@torch.no_grad()
def measure(network):
    """Rate of each latent (nats) and distortion (squared error of an image) on held-out digits."""
    mean, log_variance = network.encode(held_out)
    each = torch.stack(
        [kl_to_normal(m, v).mean() for m, v in zip(mean.split(1, 1), log_variance.split(1, 1), strict=True)]
    )
    decoded = network.decode(draw(mean, log_variance, seeded(5)))
    return each, float((decoded - held_out).square().flatten(1).sum(1).mean())


weights = (0.002, 0.02, 0.06, 0.25, 1.0)
vaes = {weight: trained("vae", latent_channels=k, kl_weight=weight, **SMALL).module for weight in weights}
curve = {weight: measure(network) for weight, network in vaes.items()}
print("weight    rate  distortion  latents in use")
for weight, (each, distortion) in curve.items():
    print(f"{weight:6} {each.sum():7.2f} {distortion:11.2f} {int((each > 0.05).sum()):15}")
if not fast:
    total = [float(each.sum()) for each, _ in curve.values()]
    assert total == sorted(total, reverse=True)  # the higher the price of a nat, the fewer are bought,
    assert curve[1.0][1] > curve[0.25][1] > curve[0.06][1]  # and the worse the pictures
    assert int((curve[1.0][0] > 0.05).sum()) < k  # with latents switched off

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
water = torch.logspace(-1.4, 1.2, 60).double()
gaussian = [((0.5 * torch.log(spectrum / w)).clamp(min=0).sum(), torch.minimum(spectrum, w).sum()) for w in water]
left.plot(*zip(*gaussian, strict=True), color=GREY, label="best linear VAE, equation (5)")
left.plot(
    [float(each.sum()) for each, _ in curve.values()],
    [distortion for _, distortion in curve.values()],
    "o-",
    color=ACCENT,
    label="VAE, held-out digits",
)
left.set(xlabel="rate (nats per image)", ylabel="distortion", xlim=(0, 40), ylim=(0, 18), title="Rate–distortion")
left.legend()
for i, (weight, (each, _)) in enumerate(curve.items()):
    right.plot(
        each.sort(descending=True).values, "o-", color=plt.cm.copper(i / 4), label=f"KL weight {weight}", markersize=3
    )
if not fast:
    each, distortion = curve[0.25]
    line = min(gaussian, key=lambda point: abs(float(point[0] - each.sum())))  # at the same rate
    assert abs(distortion / float(line[1]) - 1) < 0.15
right.set(xlabel="latent, sorted", ylabel="rate (nats)", ylim=(-0.1, 5), title="Rate of each latent: some collapse")
right.legend()
plt.show()

# %% [markdown]
# Digits are not Gaussian, so the best VAE lies on the grey line or below it. These five have eight latents, where the
# line has as many as it wants. At low rates that is enough: a few bent directions do about as well as many straight
# ones. At high rates eight latents are too few, and the line falls on without the VAE.
#
# ## 6. Latents of an autoencoder do not sample, those of a VAE do
#
# To *generate*, draw a latent and decode it. From what distribution? For the VAE from the prior; (4) says that the KL
# term pays for the distance between it and the latents' own distribution $q(z)$. For the plain autoencoder nothing was
# asked. Two pictures first, with two latents.

# %%
# alt: Two scatter plots of latents coloured by digit, with a circle: the autoencoder's colours crowd in its middle, the
#   VAE's spread over it and beyond.
flat_ae = trained("autoencoder", latent_channels=2, **SMALL).module
flat_vae = trained("vae", latent_channels=2, kl_weight=0.06, **SMALL).module
labels = load("digits").labels
figure, panels = plt.subplots(1, 2, figsize=(9.4, 4.1), layout="constrained")
for axes, network, name in zip(panels, (flat_ae, flat_vae), ("autoencoder", "VAE"), strict=True):
    with torch.no_grad():
        mean, log_variance = network.encode(digits)
    z = draw(mean, log_variance, seeded(7))[..., 0, 0]  # of the plain one the mean: its variance is 0
    shown = axes.scatter(*z.T, s=4, c=labels, cmap="tab10", vmin=-0.5, vmax=9.5, linewidths=0, rasterized=True)
    circle = torch.linspace(0, 2 * math.pi, 100)
    axes.plot(2 * circle.cos(), 2 * circle.sin(), color=INK, linewidth=0.8)
    print(f"latents of the {name}: standard deviations {z.std(0)[0]:.2f} and {z.std(0)[1]:.2f}")
    axes.set(title=f"latents of the {name}; circle: 2 std of N(0, I)", aspect="equal")
    axes.title.set_fontsize(9)
figure.colorbar(shown, ax=panels, label="digit", ticks=range(10))
plt.show()

# %% [markdown]
# Left: clusters, arms and holes, of a size and a place that training happened to choose. Right: one cloud around the
# origin, about as wide as the prior, in which the digits still keep apart. A larger weight draws them together.
#
# To measure how well a distribution of latents fits, apart from the decoder's blur, compare decoded draws with decoded
# *encodings* of held-out digits: through the same decoder, what differs is the distribution of the latents. The
# autoencoder gets three chances: $N(0, I)$, a Gaussian with full covariance fitted to its latents, and a flow trained
# on them: a latent flow, which lecture 10 is about, on the run of section 2 as its finished first stage. One place of
# eight channels is one token of a transformer, which is then a stack of plain layers. The floor is the VAE's distance
# with the latents of 1,000 training digits in place of draws.

# %%
# alt: Four grids of small images: from normal draws the autoencoder gives many smudges, from a fitted Gaussian mostly
#   digits, from a flow on its latents clear ones, and so does the VAE from normal draws.


@torch.no_grad()
def decoded(network, draws):
    """Images of latents (B, k)."""
    return network.decode(draws[:, :, None, None])


@torch.no_grad()
def latent_gap(network, images):
    """Energy distance between images decoded from draws and from encodings of held-out digits."""
    return energy_distance(images.flatten(1), network.decode(network.sample(held_out, seeded(8))).flatten(1))


@torch.no_grad()
def fitted_draws(network, count, seed):
    """Draws from the Gaussian fitted to the means of the training digits' latents."""
    z = network.encode(digits)[0].flatten(1).double()
    root = torch.linalg.cholesky(torch.cov(z.T))
    return (z.mean(0) + torch.randn(count, k, generator=seeded(seed)).double() @ root.T).float()


on_latents = LatentFlowSystem(
    net="dit",
    net_args={"patch": 1, "width": 64, "depth": 2},
    guided=False,
    parts={"autoencoder": str(plain_run.folder)},
)
latent_flow = trained("mnist-latent", name="digits-latent", system=on_latents, data="digits", steps=500, batch_size=128)
normal_draws = torch.randn(1000, k, generator=seeded(9))
samplers = {
    "autoencoder, N(0, I)": (plain, decoded(plain, normal_draws)),
    "autoencoder, fitted Gaussian": (plain, decoded(plain, fitted_draws(plain, 1000, 9))),
    "autoencoder, flow on its latents": (plain, latent_flow.sample(count=1000, seed=9, steps=20)),
    "VAE (KL weight 0.06), N(0, I)": (vaes[0.06], decoded(vaes[0.06], normal_draws)),
}
gaps = {name: latent_gap(network, images) for name, (network, images) in samplers.items()}
with torch.no_grad():
    floor = latent_gap(vaes[0.06], decoded(vaes[0.06], vaes[0.06].sample(digits[:1000], seeded(10)).flatten(1)))
for name, gap in {**gaps, "(floor: latents of other digits)": floor}.items():
    print(f"{name:34} energy distance {gap:.3f}")
if not fast:
    assert gaps["VAE (KL weight 0.06), N(0, I)"] < 0.2 * gaps["autoencoder, N(0, I)"]
    assert gaps["autoencoder, flow on its latents"] < gaps["autoencoder, fitted Gaussian"]

figure, panels = plt.subplots(1, 4, figsize=(10, 2), layout="constrained")
for axes, (name, (_, images)) in zip(panels, samplers.items(), strict=True):
    axes.imshow(tile(images[:30], 6)[..., 0], cmap="gray_r", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.set_title(name, fontsize=9)
plt.show()
if not fast:
    thumbnail, panels = plt.subplots(2, 2, figsize=(6.4, 4), layout="constrained")
    names = ("latents from N(0, I)", "from a Gaussian", "from a flow", "VAE, from N(0, I)")
    for axes, (_, images), name in zip(panels.flat, samplers.values(), names, strict=True):
        axes.imshow(tile(images[:28], 7)[..., 0], cmap="gray_r", vmin=0, vmax=1)
        axes.set_axis_off()
        axes.set_title(name, fontsize=16)
    thumbnail.savefig("images/09.png", dpi=50)
    plt.close(thumbnail)

# %% [markdown]
# From $N(0, I)$ the autoencoder does not sample at all: nothing fixed even the scale of its latents. The VAE does. But
# see the second line: a Gaussian fitted *afterwards* mends most of it when the latents are few and smooth (Ghosh et al.
# 2020 found the same), and a small flow, trained on the latents themselves in seconds, mends more. (One training each.)
# The VAE has two faults: its gap is not at the floor, and its samples are soft, an average over all $x$ that share a
# $z$. To close the gap one can raise the KL weight, and lose detail (section 5).
#
# Hence the recipe of latent diffusion (lecture 10): keep the KL weight tiny, hence the detail, and learn the
# latents' true distribution with a flow instead of wishing it were Gaussian.

# %% [markdown]
# ## 7. Discrete latents
#
# Words are discrete, and a transformer that models words can model images if they become **tokens**: a grid of indices,
# each into a codebook of $K$ vectors. The encoder gives logits $\ell$, a categorical $q(k) = \mathrm{softmax}(\ell)_k$
# at each place. The prior is uniform, and the KL term of (2) is $\log K$ minus the entropy of $q$. But the draw of an
# index has no gradient. First, a way to draw:
#
# > **Theorem 4 (Gumbel-max).** Let $E_k \sim \mathrm{Exp}(1)$ be independent and $g_k = -\log E_k$ (that is Gumbel
# > noise). Then $\arg\max_k(\ell_k + g_k)$ has the distribution $\mathrm{softmax}(\ell)$.
#
# **Proof.** $\ell_k + g_k = -\log(E_k e^{-\ell_k})$, so the largest is where $T_k = E_ke^{-\ell_k}$ is smallest.
# $T_k$ is exponential with rate $r_k = e^{\ell_k}$: a race of alarm clocks. Clock $k$ rings first with probability
# $\int_0^\infty r_ke^{-r_kt}\prod_{j\ne k}P(T_j > t)\,dt = \int_0^\infty r_ke^{-t\sum_jr_j}\,dt = r_k/\sum_jr_j$.
# $\blacksquare$
#
# The randomness is now outside, as in section 4, but the argmax is flat. **Gumbel-softmax** (Jang et al. 2017;
# Maddison et al. 2017) replaces it by $\mathrm{softmax}((\ell + g)/\tau)$, which has a gradient and tends to the
# one-hot draw as $\tau \to 0$. *Straight-through* uses the one-hot vector forwards and the relaxed one's gradient
# backwards.

# %%
show_source(gumbel_softmax)
logits = torch.tensor([1.0, 0.0, -0.5, 0.3], dtype=torch.float64)
count = 20_000 if fast else 100_000
drawn = gumbel_softmax(logits.expand(count, 4), 1.0, hard=True, generator=seeded(11))
share = drawn.mean(0)
chi2 = float(((share - logits.softmax(0)) ** 2 / logits.softmax(0)).sum()) * count
print(f"shares {[round(v, 4) for v in share.tolist()]}, softmax {[round(v, 4) for v in logits.softmax(0).tolist()]}")
assert chi2 < 30.7  # three degrees of freedom: more with probability 1e-6

# %% [markdown]
# **What the gradient is worth.** Let $f$ be a loss on one-hot vectors, $f_k$ its value at token $k$. The true gradient
# is $\partial_{\ell_j}\sum_kq_kf_k = q_j(f_j - \sum_kq_kf_k)$. The relaxed estimate is the gradient of another
# function, the mean of $f$ over points inside the simplex, where no code ever lies: it is biased. With smaller $\tau$
# there is less bias, and more noise, for almost all draws have almost no gradient and a few near ties have a huge one.

# %%
# alt: Bias and spread of two gradient estimators against temperature, on logarithmic axes. The relaxed one's bias grows
#   from 0.02 to 0.2, the straight-through one's from 0.1 to 0.2; the spread of both falls, and the straight-through one
#   has less but at the highest temperature.
target = torch.tensor([0.9, -0.6, 0.4, 0.1], dtype=torch.float64)


def f(code):  # (N, 4) -> (N,): not linear, as no decoder is
    return torch.tanh(3 * code @ target) ** 2


corners = f(torch.eye(4, dtype=torch.float64))
q = logits.softmax(0)
true = q * (corners - (q * corners).sum())
temperatures = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
results = {}
for hard in (False, True):
    for tau in temperatures:
        leaf = logits.expand(count, 4).clone().requires_grad_()
        (gradient,) = torch.autograd.grad(f(gumbel_softmax(leaf, tau, hard=hard, generator=seeded(12))).sum(), leaf)
        results[hard, tau] = float((gradient.mean(0) - true).norm()), float(gradient.var(0).sum().sqrt())
figure, panels = plt.subplots(1, 2, figsize=(9.4, 3.1), layout="constrained")
for axes, index, name in zip(panels, (0, 1), ("bias", "standard deviation of one draw"), strict=True):
    for hard, style in ((False, "o-"), (True, "s--")):
        values = [results[hard, tau][index] for tau in temperatures]
        axes.loglog(
            temperatures, values, style, color=ACCENT if hard else INK, label="straight-through" if hard else "relaxed"
        )
    axes.set(xlabel="temperature τ", title=f"{name} of the gradient")
panels[0].axhline(float(true.norm()), color=GREY, linewidth=0.8, label="size of the true gradient")
panels[0].legend()
plt.show()
if not fast:
    assert results[False, 0.1][0] < 0.2 * float(true.norm()) < 0.3 * results[False, 1.0][0]  # less bias when cold,
    assert results[False, 0.1][1] > 1.5 * results[False, 1.0][1]  # but more noise
    assert results[True, 0.1][1] < results[False, 0.1][1]  # straight through is quieter,
    assert results[True, 0.1][0] > 2 * results[False, 0.1][0]  # and keeps its bias

# %% [markdown]
# The straight-through estimate is the quieter one when cold, but its bias stays: there the forward and the backward
# pass speak of different codes. So one starts warm and cools down.
#
# **What the KL term asks for.** (4) holds for tokens too. With $q(k) = \mathbb E_x\,q(k\mid x)$ at a place,
#
# $$\mathbb E_x\,\mathrm{KL}\big(q(k\mid x)\,\|\,\text{uniform}\big) = \log K - \mathbb E_x\,H\big(q(k\mid x)\big)
# = I(x; k) + \big[\log K - H(q(k))\big] .$$
#
# The bracket is a fee for tokens that are used unequally. Without the term nothing in the loss asks for many of them.
# The price is its other half: it also charges for information, so that $q(k\mid x)$ is less sure of its token.
#
# The recipe "dvae" on digits, with a grid of 4 × 4 tokens out of 32 (at most $16\log_2 32 = 80$ bits): annealed from
# $\tau = 1$ to $1/16$, left at $\tau = 1$, and annealed without the KL term. The error is measured three ways: from the
# relaxed codes that the decoder has learned to read; from tokens *drawn* from $q$, which are what the bound speaks of;
# and from the most probable ones. The **perplexity** of the last, $e$ to the entropy of how often each occurs, says how
# many of them are in use: from 1 to 32.

# %%
# alt: Three rows of ten small images: digits, the same digits a little blurred, and images of strokes that are hardly
#   digits.
variants = {
    "annealed to 1/16": {"kl_weight": 0.1},
    "kept at 1": {"kl_weight": 0.1, "end": 1.0},
    "annealed, no KL": {"kl_weight": 0.0},
}
sizes = {"tokens": 32, "latent_channels": 8, "factor": 2, "data": "digits", "steps": 300}
dvaes = {name: trained("dvae", **sizes, **settings) for name, settings in variants.items()}
errors, used = {}, {}


@torch.no_grad()
def image_error(images):
    return float((images - held_out).square().flatten(1).sum(1).mean())


print("                  error from: relaxed  drawn  most probable tokens   codebook used  perplexity")
for name, run in dvaes.items():
    network = run.module
    with torch.no_grad():
        logits = network.encode(held_out)
        relaxed = gumbel_softmax(logits, run.recipe.system.end, generator=seeded(14))
        drawn = gumbel_softmax(logits, 1.0, hard=True, generator=seeded(14))
        errors[name] = [image_error(network.decode(code)) for code in (relaxed, drawn)] + [
            image_error(network(held_out))
        ]
    used[name] = codebook_use(logits.argmax(1), 32)
    print(f"{name:17} {errors[name][0]:19.2f} {errors[name][1]:6.2f} {errors[name][2]:21.2f}", end=" ")
    print(f"{used[name].share:15.0%} {used[name].perplexity:11.1f}")
if not fast:
    # One that was kept warm reads drawn tokens worse than relaxed codes; one that has cooled down reads both alike.
    assert errors["kept at 1"][1] > 1.3 * errors["kept at 1"][0]
    assert errors["annealed to 1/16"][1] < min(1.1 * errors["annealed to 1/16"][0], errors["kept at 1"][1])
    assert used["annealed to 1/16"].perplexity > 2 * used["annealed, no KL"].perplexity

network = dvaes["annealed to 1/16"].module
with torch.no_grad():
    tokens = network.encode(held_out[:10]).argmax(1)
    uniform = network.decode_tokens(torch.randint(32, (10, 4, 4), generator=seeded(15)))
    rows = torch.cat([held_out[:10], network(held_out[:10]), uniform])
figure, axes = plt.subplots(figsize=(7, 2.3), layout="constrained")
axes.imshow(tile(rows, 10)[..., 0], cmap="gray_r", vmin=0, vmax=1)
axes.set(xticks=[], yticks=[4, 13, 22], yticklabels=["held-out digit", "from its 16 tokens", "from random tokens"])
plt.show()
print("tokens of the first digit:\n", tokens[0])

# %% [markdown]
# One training each. The one that was kept warm has learned to read *mixtures* of codes, which a grid of tokens is not:
# of drawn tokens it makes much worse images than of what it was trained on, and worse ones than the one that has cooled
# down. (Its most probable tokens are as good as the other's: measure the bound's own term, or the difference is
# missed.) Without the KL term a handful of tokens does almost all the work. With it most of the book is in use, and the
# most probable tokens give better images; drawn ones give worse, since $q$ is less sure.
#
# The last row of the picture is the message of section 6 again: tokens drawn from the *prior* make no digits, since
# the uniform prior does not know which tokens go together. DALL·E (Ramesh et al. 2021) trains an autoregressive
# transformer on the tokens; that model, not the dVAE, is the generator.

# %% [markdown]
# ## 8. GANs: a loss that is learned
#
# Goodfellow et al. (2014) give up likelihood. A generator $G$ turns noise into samples with some density $p_G$. A
# discriminator says how probable it finds it that a point is data. They play
#
# $$\min_G\max_D\ J(D, G), \qquad J = \mathbb E_{x\sim p}\log D(x) + \mathbb E_{x\sim p_G}\log(1 - D(x)). \tag{6}$$
#
# > **Theorem 5.** For a fixed $G$ the best discriminator is $D^*(x) = p(x)/(p(x) + p_G(x))$, and
# > $J(D^*, G) = 2\,\mathrm{JS}(p, p_G) - 2\log 2$, with the Jensen–Shannon divergence
# > $\mathrm{JS}(p, q) = \frac12\mathrm{KL}(p\,\|\,\frac{p+q}{2}) + \frac12\mathrm{KL}(q\,\|\,\frac{p+q}{2})$.
# > It is least for $p_G = p$, and for no other density. If $p$ and $p_G$ have **disjoint supports**, it is 0, its
# > largest value, however near or far they are.
#
# **Proof.** $J = \int p\log D + p_G\log(1 - D)\,dx$ is maximised point by point: $a\log D + b\log(1 - D)$ is concave in
# $D$, with derivative $a/D - b/(1 - D)$, zero at $D = a/(a + b)$. Insert it:
# $J(D^*) = \int p\log\frac{p}{p + p_G} + p_G\log\frac{p_G}{p + p_G}\,dx$, and
# $\log\frac{p}{p + p_G} = \log\frac{p}{(p + p_G)/2} - \log 2$, twice. A KL divergence is never negative, and 0 only
# between equal densities; so JS is 0 if and only if $p = p_G$. If the supports are disjoint, $(p + p_G)/2$ is $p/2$
# where $p$ lives, so both divergences are $\log 2$. $\blacksquare$
#
# In logits: $D = \mathrm{sigmoid}(h)$ with $h^* = \log p - \log p_G$. The discriminator learns a *ratio* of densities,
# so neither of the two need be known or normalised: samples are enough.
#
# Check both statements on a grid, with expectations as weighted sums:

# %%
axis = torch.linspace(-8, 8, 4001, dtype=torch.float64)
step_size = float(axis[1] - axis[0])


def normal_density(mean, std):
    return torch.exp(-(((axis - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))


p = 0.5 * normal_density(-2.0, 0.5) + 0.5 * normal_density(2.0, 0.5)
p_G = normal_density(0.5, 1.2)


def value(h):
    """J of (6) for a discriminator with logits h on the grid."""
    return float((p * F.logsigmoid(h) + p_G * F.logsigmoid(-h)).sum() * step_size)


best, middle = (p / p_G).log(), (p + p_G) / 2
js = 0.5 * float((p * (p / middle).log() + p_G * (p_G / middle).log()).sum() * step_size)
print(f"J(D*) = {value(best):.6f}, 2 JS - 2 log 2 = {2 * js - 2 * math.log(2):.6f}")
assert abs(value(best) - (2 * js - 2 * math.log(2))) < 1e-9
assert all(value(best + 0.3 * torch.sin(frequency * axis)) < value(best) for frequency in (0.5, 1, 2, 5))

# %% [markdown]
# **Why disjoint supports stop a GAN.** The last sentence of Theorem 5 is no special case. Samples of a generator with
# few noise variables lie on a thin set in a space of many dimensions, and so do the data: two such sets hardly meet.
# Then a discriminator can be perfect, the divergence is a constant, and no small move of $G$ changes it: the gradient
# is zero (Arjovsky & Bottou 2017). *Noise* on both gives them a common support, and the distance counts again. So does
# anything that keeps the discriminator from its best, such as a bound on its slope (the penalty R1 below).


# %%
def bump(centre):
    """A density that is 0 farther than 1 from its centre."""
    shape = (1 - (axis - centre) ** 2).clamp(min=0) ** 2
    return shape / (shape.sum() * step_size)


def shannon(one, other):
    """JS of two densities on the grid."""
    middle = (one + other) / 2 + 1e-300
    return 0.5 * float(sum((part * (part / middle).clamp(min=1e-300).log()).sum() for part in (one, other)) * step_size)


blur = torch.fft.rfft(torch.fft.ifftshift(normal_density(0, 1.0)))  # noise of standard deviation 1, as a convolution


def noised(density):
    return torch.fft.irfft(torch.fft.rfft(density) * blur, n=len(axis)).clamp(min=0) * step_size


distances = (0.0, 1.0, 1.9, 2.1, 3.0, 4.0)
plain_js = [shannon(bump(-2), bump(distance - 2)) for distance in distances]
noised_js = [shannon(noised(bump(-2)), noised(bump(distance - 2))) for distance in distances]
print("distance     " + "".join(f"{distance:8}" for distance in distances))
print("JS           " + "".join(f"{js:8.4f}" for js in plain_js) + f"   (log 2 = {math.log(2):.4f})")
print("JS with noise" + "".join(f"{js:8.4f}" for js in noised_js))
assert abs(plain_js[0]) < 1e-9  # 0 for p_G = p only
assert plain_js[0] < plain_js[1] < plain_js[2] < math.log(2) - 1e-5
assert all(abs(js - math.log(2)) < 1e-9 for js in plain_js[3:])  # no slope where the supports are disjoint
assert all(b - a > 0.02 for a, b in pairwise(noised_js))

# %% [markdown]
# **The non-saturating loss.** Early in training the discriminator is sure: $D(G(\varepsilon)) \approx 0$. The
# derivative of $\log(1 - D)$ in the logit is $-D \approx 0$: the generator, which needs help most, gets none. Therefore
# one minimises $-\log D$ instead, whose derivative is $D - 1 \approx -1$. The fixed point is the same; what is
# minimised on the way is not. (It is a remedy in the *logit*. Where the best $D$ is flat in $x$, as between disjoint
# supports, it does not help.)
#
# > **Theorem 6** (Arjovsky & Bottou 2017). At the best discriminator for the present $\theta_0$,
# >
# > $$\nabla_\theta\,\mathbb E_{p_\theta}[-\log D^*] = \nabla_\theta\big[\mathrm{KL}(p_\theta\,\|\,p)
# > {} - 2\,\mathrm{JS}(p_\theta, p)\big] \quad\text{at } \theta = \theta_0 .$$
#
# **Proof.** $D^*$ is held fixed, and $(1 - D^*)/D^* = p_{\theta_0}/p$. So
# $-\log D^* = \log\frac{p_{\theta_0}}{p} - \log(1 - D^*)$. First,
#
# $$\mathrm{KL}(p_\theta\,\|\,p) = \mathbb E_{p_\theta}\log\frac{p_\theta}{p_{\theta_0}}
# {} + \mathbb E_{p_\theta}\log\frac{p_{\theta_0}}{p} ,$$
#
# where the first term is itself a KL divergence, minimal at $\theta_0$, so its gradient there is 0: the gradient of
# $\mathbb E_{p_\theta}\log\frac{p_{\theta_0}}{p}$ is that of $\mathrm{KL}(p_\theta\,\|\,p)$. Second,
# $J(D^*_\theta, \theta) = 2\,\mathrm{JS} - 2\log 2$ has by the envelope theorem the same gradient as $J$ with $D^*$
# held fixed, which is that of $\mathbb E_{p_\theta}\log(1 - D^*)$. Subtract. $\blacksquare$
#
# $\mathrm{KL}(p_\theta\,\|\,p)$ is large where the generator puts mass and the data have none: a bad sample is
# expensive. Where the data have mass and the generator none, the integrand is 0: **a missing mode costs little.** A
# generator that is perfect on one of two equal, separate modes and ignores the other pays $\log 2$ for it, and the
# other term, $-2\,\mathrm{JS}$, takes off more than half of that. Maximum likelihood, $\mathrm{KL}(p\,\|\,p_\theta)$,
# does the opposite: there a mode without any mass costs infinitely much, a bad sample little. Which Gaussian
# is best for two humps? Try some 1,400 of them on the grid, without any network:

# %%
# alt: Two grey humps at -2 and 2: a wide flat curve over both is the choice of likelihood and of the game alike, a tall
#   narrow one on the right hump that of the non-saturating loss.
saturating = generator_loss(torch.tensor([-8.0]), saturating=True), generator_loss(torch.tensor([-8.0]))
print(
    "losses at a logit of -8: saturating {:.4f} (flat), non-saturating {:.4f} (steep)".format(*map(float, saturating))
)
assert abs(float(discriminator_loss(torch.zeros(1), torch.zeros(1))) - 2 * math.log(2)) < 1e-6
for way, slope in ((True, -torch.sigmoid(torch.tensor(-8.0))), (False, -torch.sigmoid(torch.tensor(8.0)))):
    logit = torch.tensor([-8.0], requires_grad=True)
    (derivative,) = torch.autograd.grad(generator_loss(logit, saturating=way), logit)
    assert torch.allclose(derivative, slope, rtol=1e-3)  # -D, or D - 1


means, widths = torch.linspace(0, 3, 31).double(), torch.linspace(0.3, 2.5, 45).double()
means, widths = (part.reshape(-1, 1) for part in torch.meshgrid(means, widths, indexing="ij"))  # (1395, 1)
density = normal_density(means, widths) + 1e-300  # (1395, 4001), which underflows far out
middle = (p + density) / 2
likelihood = (p * (p / density).log()).sum(1) * step_size
reverse = (density * (density / p).log()).sum(1) * step_size
js = 0.5 * (p * (p / middle).log() + density * (density / middle).log()).sum(1) * step_size
chosen = {
    "KL(p | p_G): likelihood": int(likelihood.argmin()),
    "JS: the game (6)": int(js.argmin()),
    "KL(p_G | p) - 2 JS: non-saturating": int((reverse - 2 * js).argmin()),
}
figure, axes = plt.subplots(figsize=(8, 2.8), layout="constrained")
axes.fill_between(axis, p, color=PALE, label="data")
for (name, i), colour, style in zip(chosen.items(), (INK, GREY, ACCENT), ("-", "--", "-"), strict=True):
    axes.plot(axis, density[i], color=colour, linestyle=style, label=name)
    print(f"{name:36} mean {float(means[i]):.1f}, std {float(widths[i]):.2f}")
i = chosen["KL(p_G | p) - 2 JS: non-saturating"]
print(f"there KL(p_G | p) = {float(reverse[i]):.4f} (log 2 = {math.log(2):.4f}), less 2 JS = {float(2 * js[i]):.4f}")
assert abs(float(reverse[i]) - math.log(2)) < 1e-3
assert math.log(2) / 2 < float(2 * js[i]) < math.log(2)  # more than half of it is taken off
axes.set(xlim=(-5, 5), yticks=[], title="One Gaussian for two humps: what each divergence prefers")
axes.legend(fontsize=8)
plt.show()
assert abs(means[chosen["KL(p | p_G): likelihood"]]) < 0.01
assert abs(means[chosen["KL(p_G | p) - 2 JS: non-saturating"]] - 2) < 0.01  # one hump; the other is forgotten

# %% [markdown]
# Here the game itself, JS, covers both humps, as likelihood does. It is the non-saturating loss that forgets one.
#
# **Does training converge?** Mescheder et al. (2018) ask it of the smallest game: the data are one point at 0, the
# generator is one point at $\theta$, the discriminator's logit is $\psi x$. With the non-saturating loss and
# $D = \mathrm{sigmoid}(\psi\theta)$, gradient descent by both in continuous time is
#
# $$\dot\theta = (1 - D)\,\psi, \qquad \dot\psi = -D\,\theta, \qquad
# \tfrac12\tfrac{d}{dt}(\theta^2 + \psi^2) = (1 - 2D)\,\theta\psi = -\theta\psi\tanh\tfrac{\theta\psi}2 .$$
#
# Near the goal $D \approx \frac12$ and the players circle it. What pulls them inwards is of *fourth* order: there is
# no linear convergence, and steps of finite length push outwards. A penalty on the discriminator's gradient at the
# data, **R1** $= \frac\gamma2\mathbb E_p\lvert\nabla_xh(x)\rvert^2$, here $\frac\gamma2\psi^2$, adds $-\gamma\psi$
# to $\dot\psi$. The linearised system has eigenvalues $-\frac\gamma2 \pm \sqrt{\frac{\gamma^2}4 - \frac14}$, whose real
# parts are negative for every $\gamma > 0$: the players converge, for $\gamma < 1$ along a spiral.

# %%
# alt: Two curves around a black dot: without penalty a grey spiral that turns many times and stays away from it, with
#   penalty a red one that ends in it after two turns.


def play(gamma, turns=2000, lr=0.05, start=(1.0, 0.5)):
    """Gradient descent of both players at once, from theta and psi."""
    (theta, psi), way = start, []
    for _ in range(turns):
        way.append((theta, psi))
        judged = 1 / (1 + math.exp(-psi * theta))  # D at the sample
        theta, psi = theta + lr * (1 - judged) * psi, psi - lr * (judged * theta + gamma * psi)
    return torch.tensor(way)


figure, axes = plt.subplots(figsize=(4.2, 3.4), layout="constrained")
ends = {}
for gamma, colour in ((0.0, GREY), (0.3, ACCENT)):
    way = play(gamma)
    ends[gamma] = float(way[-1].norm())
    axes.plot(*way.T, color=colour, linewidth=1, label=f"γ = {gamma}")
axes.plot(0, 0, "o", color=INK)
axes.set(xlabel="generator θ", ylabel="discriminator ψ", title="Two players, one point")
axes.legend()
plt.show()
print(f"distance from the goal after 2,000 steps: {ends[0.0]:.2f} without penalty, {ends[0.3]:.0e} with it")
# Near the goal: with the penalty the distance falls at the rate gamma / 2 of the eigenvalues; without it both circle,
# half a radian in a unit of time, and steps of finite length push outwards by (1 + (lr / 2)^2)^(1/2) each.
way, lr = play(0.3, turns=3001, lr=0.01), 0.01
turn = round(2 * math.pi / math.sqrt(0.25 - 0.15**2) / lr)  # one turn of the spiral
assert abs(math.log(float(way[-1 - turn].norm() / way[-1].norm())) / (turn * lr) - 0.15) < 0.005
way = play(0.0, turns=201, lr=0.05, start=(0.01, 0.0))
angle = torch.atan2(way[:, 1], way[:, 0])
assert abs(float(angle[100] - angle[0]) / (100 * 0.05) + 0.5) < 0.01
assert abs(float(way[200].norm() / way[0].norm()) / (1 + 0.025**2) ** 100 - 1) < 1e-3
assert ends[0.0] > 0.3
assert ends[0.3] < 1e-4

# %% [markdown]
# ## 9. A GAN beside a flow
#
# In each step of training the two players take their turns. The discriminator's comes first: it sees data and samples,
# and descends its loss with the penalty R1; no gradient is wanted in the generator, so the samples are made without
# one. Then the generator: new noise, and a gradient that goes *through* the discriminator and moves the generator
# alone. Each has its own parameters and its own optimiser, and the trainer knows no more of the game than that: a task
# has players, and each moves in turn.

# %%
show_source(discriminator_loss, generator_loss, r1_penalty, GANSystem.stages, Seat.move)

# %% [markdown]
# On the ring of eight Gaussians, the recipe "gan" and a flow, by networks of nearly the same size and with three seeds.
# Measured on 2,000 samples: the share that lies within three standard deviations of a mode, how unequal the modes are
# (total variation distance from $\frac18$ each), and improved precision and recall (lecture 05): the share of samples
# that look like data, and the share of data that samples cover.

# %%
# alt: Three scatter plots: eight round clusters of data; the GAN's points, most of them on thin lines that join eight
#   dense spots; the flow's points, a ring with thicker places.
real = toy.sample("gaussians", 2000, seeded(17))[0]


def coverage(samples):
    near, index = torch.cdist(samples, ring.means).min(1)
    hit = near < 3 * ring.std[0]
    shares = index[hit].bincount(minlength=8) / max(1, int(hit.sum()))
    precision, recall = precision_recall(real, samples)
    return float(hit.float().mean()), float((shares - 1 / 8).abs().sum() / 2), precision, recall


GAME = {"guided": False, "noise_dim": 2, "channels": 144, "batch_size": 128}  # each player as large as the flow
FLOW = {"guided": False, "net_args": {"width": 64, "depth": 2}, "lr": 1e-2}
rounds, results = 1200, {"GAN": [], "flow": []}
for seed in range(1 if fast else 3):
    game = trained("gan", data="gaussians", steps=rounds, seed=seed, **GAME)
    flow = trained("moons", data="gaussians", steps=rounds, seed=seed, **FLOW)
    samples = {"GAN": game.sample(count=2000, seed=18), "flow": flow.sample(count=2000, seed=18, steps=20)}
    for name, points in samples.items():
        results[name].append(coverage(points))
sizes = {"generator": game.module.maker, "flow": flow.module}
parameters = {name: sum(p.numel() for p in network.parameters()) for name, network in sizes.items()}
print("parameters:", parameters)
assert max(parameters.values()) < 1.1 * min(parameters.values())
print("        on a mode   unequal  precision    recall")
for name, rows in {**results, "data": [coverage(toy.sample("gaussians", 2000, seeded(19))[0])]}.items():
    rows = torch.tensor(rows)
    spread = rows.std(0) if len(rows) > 1 else torch.zeros(4)
    print(f"{name:5}", "  ".join(f"{m:5.3f}±{s:.3f}" for m, s in zip(rows.mean(0), spread, strict=True)))
if not fast:
    gan, flow = (torch.tensor(rows) for rows in results.values())  # (seeds, 4)
    assert gan[:, 2].min() > flow[:, 2].max()  # precision, in all seeds
    assert gan[:, 3].max() < flow[:, 3].min() - 0.05  # recall

figure, panels = plt.subplots(1, 3, figsize=(10, 3.3), layout="constrained")
for axes, (name, points) in zip(panels, {"data": real, **samples}.items(), strict=True):
    axes.scatter(*points.T, s=2, color=ACCENT, linewidths=0, rasterized=True)
    axes.set(title=name, xlim=(-2.3, 2.3), ylim=(-2.3, 2.3), aspect="equal", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# The same game again, step by step: the first 600 steps of seed 0, with the generator's samples on the way.

# %%
if not fast:
    import io

    from PIL import Image

    recipe, data = resolve("gan", data="gaussians", steps=rounds, **GAME), load("gaussians")
    players = build(recipe, data.spec)
    (stage,) = recipe.system.stages(players, data, {})
    start, pictures = torch.randn(600, 2, generator=seeded(18)), []
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(stage.task, recipe.training, Path(folder))
        for step in range(1, 601):
            trainer.step()  # both players move
            if step % 15 and step not in (1, 5, 10):
                continue
            with torch.no_grad():
                points = players.maker(start)
            figure, axes = plt.subplots(figsize=(3.2, 3.2), layout="constrained")
            axes.scatter(*real[:600].T, s=3, color=PALE, linewidths=0)
            axes.scatter(*points.T, s=3, color=ACCENT, linewidths=0)
            axes.set(xlim=(-2.3, 2.3), ylim=(-2.3, 2.3), aspect="equal", xticks=[], yticks=[], title=f"step {step}")
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=80)
            plt.close(figure)
            pictures.append(Image.open(buffer).convert("RGB").quantize(24))
    durations = [120] * (len(pictures) - 1) + [2000]
    pictures[0].save("images/09_gan.gif", save_all=True, append_images=pictures[1:], duration=durations, loop=0)

# %% [markdown]
# ![The generator's samples chase the eight modes](images/09_gan.gif)
#
# The samples arrive as a sheet that is torn towards the modes: a continuous map of one blob of noise cannot split it,
# so threads remain between the islands (a flow has the same difficulty, but many small steps to stretch with). It is a
# trade. After as many steps the GAN's precision is higher than that of a flow of its size, whose modes still run into
# each other. Its recall is clearly lower: within each mode the samples keep to a part of it, for which, by Theorem 6,
# the generator pays little. And it needs one evaluation of the network where the flow takes forty.

# %% [markdown]
# ## 10. An experiment to change
#
# Without the penalty and with the momentum that is usual elsewhere, the same game forgot modes in the run below, after
# a third of the steps. Which of the two is to blame? And what does the saturating loss do? Predict first,
# then run.

# %%
changed = trained(
    "gan",
    data="gaussians",
    steps=rounds // 3,
    seed=3,
    r1=0.0,  # change me: 0.1, 1, 10
    betas=(0.9, 0.999),  # change me: (0.0, 0.99)
    saturating=False,  # change me
    **GAME,
)
hit, unequal, precision, recall = coverage(changed.sample(count=2000, seed=18))
print(f"on a mode {hit:.3f}, unequal {unequal:.3f}, precision {precision:.3f}, recall {recall:.3f}")
settings, betas = changed.recipe.system, tuple(changed.recipe.training.betas)
if not fast and (settings.r1, betas, settings.saturating) == (0.0, (0.9, 0.999), False):
    assert unequal > 0.25  # at least two modes of eight are as good as forgotten

# %% [markdown]
# ## What fails, and why
#
# | what | why | what to do |
# |---|---|---|
# | sampling an autoencoder's latents | nobody asked for a distribution | a KL term, or a flow (lecture 10) |
# | a VAE's pictures are soft | a mean over all $x$ of one $z$ | small KL weight; perceptual, adversarial loss |
# | latents collapse | their direction varies less than the decoder's noise | smaller $\sigma$: a smaller KL weight |
# | a dVAE trained warm | it reads mixtures of codes | anneal the temperature |
# | tokens from the uniform prior | the tokens of an image depend on each other | an autoregressive prior |
# | a GAN circles or blows up | no gradient leads inwards | R1, no momentum |
# | a GAN's low recall | a missing mode costs it little | measure recall; likelihood-based models |
#
# Sampling, rate–distortion and codebook use on MNIST, over three seeds, with the command:
# [`tables/09_autoencoders.md`](tables/09_autoencoders.md).
#
# ## What to read next
#
# - P. Baldi, K. Hornik (1989), *Neural networks and principal component analysis: learning from examples without local
#   minima*, Neural Networks 2.
# - P. Vincent et al. (2008), *Extracting and composing robust features with denoising autoencoders*, ICML; P. Vincent
#   (2011), *A connection between score matching and denoising autoencoders*, Neural Computation 23.
# - G. Alain, Y. Bengio (2014), *What regularized auto-encoders learn from the data generating distribution*, arXiv
#   1211.4246.
# - D. P. Kingma, M. Welling (2013), *Auto-encoding variational Bayes*, arXiv 1312.6114.
# - M. E. Tipping, C. M. Bishop (1999), *Probabilistic principal component analysis*, JRSS B 61; J. Lucas et al. (2019),
#   *Don't blame the ELBO!*, arXiv 1911.02469.
# - T. M. Cover, J. A. Thomas (2006), *Elements of information theory*, chapter 10.
# - G. Hinton, D. van Camp (1993), *Keeping neural networks simple by minimizing the description length of the weights*,
#   COLT; J. Townsend, T. Bird, D. Barber (2019), *Practical lossless compression with latent variables using bits back
#   coding*, arXiv 1901.04866.
# - P. Ghosh et al. (2020), *From variational to deterministic autoencoders*, arXiv 1903.12436.
# - E. Jang, S. Gu, B. Poole (2017), *Categorical reparameterization with Gumbel-softmax*, arXiv 1611.01144; C.
#   Maddison, A. Mnih, Y. W. Teh (2017), *The concrete distribution*, arXiv 1611.00712.
# - A. Ramesh et al. (2021), *Zero-shot text-to-image generation*, arXiv 2102.12092.
# - I. Goodfellow et al. (2014), *Generative adversarial networks*, arXiv 1406.2661; M. Arjovsky, L. Bottou (2017),
#   *Towards principled methods for training generative adversarial networks*, arXiv 1701.04862.
# - L. Mescheder, A. Geiger, S. Nowozin (2018), *Which training methods for GANs do actually converge?*, arXiv
#   1801.04406.
#
# **Now you:** [exercise 09](../exercises/09_autoencoders_and_gans.ipynb).
