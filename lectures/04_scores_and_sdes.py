# %% [markdown]
# # 04. Scores and SDEs
#
# Lecture 03 trained a velocity and followed it from noise to data without a single random number on the way. Diffusion
# models draw fresh noise at every step. **What does the noise change, what does it leave as it is, and how much of it
# should you use?**
#
# You will be able to
#
# - say what a score is, and learn one from samples: explicit, implicit and denoising score matching, with proofs;
# - turn a velocity into a score and back;
# - say why one model has a whole family of samplers, one for each amount of noise $g_t$, all with the same marginals,
#   and under which conditions; name the members that have names: the flow ODE, Anderson's reversed diffusion, DDPM;
# - choose $g_t$: explain why the plainest choice explodes, derive one that needs no division, correct with Langevin
#   steps;
# - say when noise pays: what it repairs, what it cannot repair, and what it costs.
#
# **Time:** 85 minutes. **Before:** lecture 01 (Euler–Maruyama), lecture 02 (Gaussian paths, continuity and
# Fokker–Planck equations), lecture 03 (conditional flow matching).
#
# **Notation:** $\omega_t = \dot\alpha_t\beta_t - \alpha_t\dot\beta_t$ is the path's weight ($w$ is kept for the scale
# of guidance in lecture 05); $\eta$ is the strength of noise; $f$ is a drift, $h$ a step of time; $v$ is a variance,
# and "v" in upright type the v-prediction; $\tau = 1 - t$ is the time of the noising process (in lecture 02 it was a
# clock).

# %%
import io
import itertools
import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import hsv_to_rgb
from PIL import Image
from torch import nn

from flowlib import (
    VP,
    Field,
    GaussianPath,
    Linear,
    MixtureField,
    Model,
    Trigonometric,
    sample_ddim,
    sample_ode,
    sample_sde,
    score_matching_loss,
)
from flowlib.course.notebook import fast, seeded, show_source
from flowlib.data import toy
from flowlib.metrics import energy_distance
from flowlib.nets.mlp import MLP
from flowlib.plotting.style import ACCENT, BLUE, GREY, INK, PALE, ROSE, VIOLET
from flowlib.samplers import langevin_step

torch.set_default_dtype(torch.float64)  # identities should hold to the last digits


# %% [markdown]
# ## 1. The score
#
# The **score** of a density $p$ is the gradient of its logarithm,
#
# $$s(x) = \nabla \log p(x) = \frac{\nabla p(x)}{p(x)}.$$
#
# It is a vector field that points uphill. A density $p = \tilde p / Z$ known up to its normalisation has a score that
# is known exactly, because $\nabla \log Z = 0$: that is why it is easier to learn than the density. On a Gaussian path
# $x_t = \alpha_t z + \beta_t \varepsilon$ the marginal score has a meaning that lecture 02 proved. With
# $D = \mathbb{E}[z \mid x_t = x]$ and $\hat\varepsilon = \mathbb{E}[\varepsilon \mid x_t = x]$,
#
# $$s_t(x) = \mathbb{E}\big[s_t(x \mid z) \,\big|\, x_t = x\big] = \frac{\alpha_t D - x}{\beta_t^2} =
# -\frac{\hat\varepsilon}{\beta_t}. \tag{1}$$
#
# **The score is the expected noise, turned round and divided by its level.** Keep the $1/\beta_t$ in mind. It is the
# source of every trouble in this lecture.

# %%
path = GaussianPath(Linear())
line = MixtureField(  # three bumps on a line, known exactly
    torch.tensor([[-1.4], [0.3], [1.5]]), torch.tensor([0.15, 0.25, 0.1]), torch.tensor([0.3, 0.3, 0.4]), path=path
)
ring = MixtureField(*toy.mixture(torch.float64), path=path)  # eight Gaussians in the plane

x = torch.randn(100, 2, generator=seeded(0)).requires_grad_()
t = torch.rand(100, generator=seeded(1))
gradient = torch.autograd.grad(ring.log_prob(x, t).sum(), x)[0]
assert (gradient - ring.s(x, t)).abs().max() < 1e-9
assert (-ring.noise(x, t) / (1 - t)[:, None] - ring.s(x, t)).abs().max() < 1e-9

# %% tags=["demo", "draw"]
# alt: Three panels of a grey density with red arrows, t = 0.3, 0.7 and 0.9: arrows point to the middle of one blob,
#   then to a ring with eight darker spots, then each to the nearest of eight small spots.
figure, axes = plt.subplots(1, 3, figsize=(10, 3.5), layout="constrained", sharey=True)
grid = torch.linspace(-2.4, 2.4, 121)
fine = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), dim=-1).reshape(-1, 2)
coarse = torch.stack(torch.meshgrid(grid[5::11], grid[5::11], indexing="xy"), dim=-1).reshape(-1, 2)
for axis, time in zip(axes, (0.3, 0.7, 0.9), strict=True):
    axis.contourf(grid, grid, ring.log_prob(fine, time).exp().reshape(121, 121), levels=12, cmap="Greys")
    arrows = ring.s(coarse, time)
    arrows = arrows / (1 + arrows.norm(dim=1, keepdim=True))  # long arrows shortened, or none could be seen
    axis.quiver(*coarse.T, *arrows.T, color=ACCENT, width=0.005, scale=14)
    axis.set(title=f"t = {time}", aspect="equal", xlabel="$x_1$")
axes[0].set_ylabel("$x_2$")
figure.suptitle("The score points uphill on $p_t$ (arrows shortened where long)", color=INK)
plt.show()

# %% [markdown]
# ## 2. Three losses that find the score
#
# ### Explicit score matching
#
# We want $s_\theta$ near $s$ where $p$ has its mass:
# $$L_\text{ESM}(\theta) = \mathbb{E}_{x \sim p}\, \lVert s_\theta(x) - s(x) \rVert^2.$$
# It needs the very $s$ that we look for. Two ways around that keep the gradient.
#
# ### Implicit score matching (Hyvärinen 2005)
#
# Expand the square. The last term does not depend on $\theta$, and the cross term is, because $p\, s = \nabla p$,
# $$-2\int p\, s_\theta \cdot s\, dx = -2 \int s_\theta \cdot \nabla p\, dx = 2 \int p\, \nabla\!\cdot s_\theta\, dx,$$
# by integration by parts, for $s_\theta\, p$ that vanishes at infinity. So
#
# $$L_\text{ESM}(\theta) =
# \underbrace{\mathbb{E}_p \big[\lVert s_\theta \rVert^2 + 2\,\nabla\!\cdot s_\theta\big]}_{L_\text{ISM}(\theta)} +
# \mathbb{E}_p \lVert s \rVert^2. \tag{2}$$
#
# $L_\text{ISM}$ needs samples only. Its price is the divergence: in $d$ dimensions $d$ backward passes, or a random
# estimate (sliced score matching). And on bare data, which lie on a thin set, there is hardly a density to speak of.
#
# ### Denoising score matching (Vincent 2011)
#
# Take $p = p_t$, the marginal of a Gaussian path. Replace the unknown marginal score by the conditional one, which is
# known:
#
# $$L_\text{DSM}(\theta) = \mathbb{E}_{z, \varepsilon}\, \lVert s_\theta(x_t) - s_t(x_t \mid z) \rVert^2, \qquad
# s_t(x_t \mid z) = \frac{\alpha_t z - x_t}{\beta_t^2} = -\frac{\varepsilon}{\beta_t}.$$
#
# **Claim.** For $\beta_t > 0$, and $s_\theta(x_t)$ of finite second moment,
# $L_\text{DSM}(\theta) = L_\text{ESM}(\theta) + C$, and $C$ does not depend on $\theta$. So both have the same gradient
# and the same minimiser, $s_t$.
#
# **Proof.** This is theorem 1 of lecture 03 with another target: $U = s_t(x_t \mid z)$ in the place of the conditional
# velocity. The theorem needs only that $s_t(x) = \mathbb{E}[U \mid x_t = x]$, and that is the first equality of (1).
# $\blacksquare$
#
# The middle term is $C = \mathbb{E} \operatorname{tr} \operatorname{Cov}(s_t(x_t \mid z) \mid x_t)$, the noise in the
# target. A loss that stops falling at $C > 0$ has not failed; it has learned all there is.
#
# ### Seen without any sampling
#
# On the line, all three are integrals that a fine grid computes to many digits. Let $s_\theta$ be the score of our
# mixture with its position shifted by $\theta$. The three curves must be parallel, and the gaps must be the constants
# above.

# %%
time = 0.6
alpha, beta = time, 1 - time
grid = torch.linspace(-8, 8, 4001)[:, None]
cell = float(grid[1] - grid[0])
density = line.log_prob(grid, time).exp()
score = line.s(grid, time)[:, 0]
assert abs(float(density.sum() * cell) - 1) < 1e-10

# E over z given x of |s(x|z)|^2: by component, z given x is Gaussian, so that two moments of it suffice.
variance = alpha**2 * line.std**2 + beta**2
gap = grid - alpha * line.means.T
posterior = torch.softmax(line.weights.log() - gap**2 / (2 * variance) - variance.log() / 2, dim=1)
mean_score = -gap / variance  # E[s(x|z)|x, component]
square_score = mean_score**2 + (alpha * line.std / beta) ** 2 / variance  # E[s(x|z)^2|x, component]
target_noise = ((posterior * square_score).sum(1) - score**2) * density
constant = float(target_noise.sum() * cell)  # C, the variance of the target

losses = []
shifts = torch.linspace(-0.6, 0.6, 25)
for shift in shifts:
    guess = line.s(grid - shift, time)[:, 0]
    slope = torch.func.jvp(lambda g: line.s(g, time)[:, 0], (grid - shift,), (torch.ones_like(grid),))[1]
    explicit = ((guess - score) ** 2 * density).sum() * cell
    implicit = ((guess**2 + 2 * slope) * density).sum() * cell
    square = (guess[:, None] - mean_score) ** 2 + square_score - mean_score**2
    denoising = ((posterior * square).sum(1) * density).sum() * cell
    losses.append(torch.stack([explicit, implicit, denoising]))
losses = torch.stack(losses)
energy = float((score**2 * density).sum() * cell)
assert (losses[:, 0] - losses[:, 1] - energy).abs().max() < 1e-8  # equation (2)
assert (losses[:, 2] - losses[:, 0] - constant).abs().max() < 1e-8  # the claim
print(f"explicit - implicit = {energy:.4f} at every shift;  denoising - explicit = C = {constant:.4f}")

# %% tags=["demo", "draw"]
# alt: Three parabolas of the same shape over the shift, one above the other: denoising, explicit and implicit, each
#   with its lowest point at shift 0.
figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
for column, name, colour in ((2, "denoising", ACCENT), (0, "explicit", INK), (1, "implicit", BLUE)):
    axis.plot(shifts, losses[:, column], color=colour, label=name)
axis.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
axis.set(xlabel=r"shift $\theta$ of the model's score", ylabel="loss", title=f"Three losses, one shape (t = {time})")
axis.legend(frameon=False)
plt.show()

# %% [markdown]
# ### And with a network, by sampling
#
# Training sees noisy gradients. The claim says that the *difference* of the two gradients is noise of mean zero. We
# take a small network, draw 60 batches, and test each of its parameters: the mean difference must lie within four
# standard errors of zero (and those must be small, or the test would say nothing).


# %%
class Small(nn.Module):
    """Two layers for points in the plane, with weights drawn from a generator."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)

    def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None) -> torch.Tensor:
        return self.layers(torch.cat([x, t[:, None]], dim=1))


net = Small(seeded(2))


def gradient_of(loss: torch.Tensor) -> torch.Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(net.parameters()))])


generator, explicit, denoising = seeded(3), [], []
for _ in range(60):
    z, _ = ring.sample(512, generator)
    t = torch.rand(512, generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    x, beta = path.sample(z, t, noise), (1 - t)[:, None]
    explicit.append(gradient_of((beta * (net(x, t, None) - ring.s(x, t))).square().mean()))
    denoising.append(gradient_of((beta * net(x, t, None) + noise).square().mean()))
explicit, denoising = torch.stack(explicit), torch.stack(denoising)
difference = denoising - explicit
error = difference.std(0) / len(difference) ** 0.5
largest = float((difference.mean(0) / error).abs().max())
print(f"{len(error)} parameters; the largest difference of mean gradients is {largest:.1f} standard errors")
assert largest < 4
assert error.norm() < 0.05 * explicit.mean(0).norm()

# %% [markdown]
# Both losses above carry a factor $\beta_t^2$: they compare $\beta_t s_\theta$ with $-\varepsilon$. Without it the
# target $-\varepsilon/\beta_t$ has variance $1/\beta_t^2$, and the times next to the data drown all others; with
# uniform $t$ on the linear path, $\int_0^1 \beta_t^{-2} dt$ is infinite. With it, **denoising score matching is the
# prediction of the noise**, the loss of DDPM. The library's loss says so:

# %%
show_source(score_matching_loss)

# %% [markdown]
# We use it to learn the score of the ring. The network's output is read as a v-prediction, from which the loss computes
# the noise: a network that gives the noise itself says nothing of the data at $t = 0$ (the determinants of lecture 02).
# Since the true score is known, the error is known too.

# %%
with torch.random.fork_rng(devices=[]):  # layers draw their first weights from the global generator
    torch.manual_seed(0)
    learned = Model(MLP(dim_in=2, width=64, depth=2).float(), GaussianPath(Trigonometric()), predicts="v")
generator, steps = seeded(4), 30 if fast else 1500
optimiser = torch.optim.Adam(learned.parameters(), lr=4e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
for _ in range(steps):
    z, _ = toy.sample("gaussians", 512, generator)
    optimiser.zero_grad()
    score_matching_loss(learned, z.float(), generator=generator).backward()
    optimiser.step()
    schedule.step()
learned.eval().requires_grad_(False)

exact = MixtureField(*toy.mixture(torch.float32), path=learned.path)  # the truth on the same path
error_at = {}
for time in (0.2, 0.5, 0.8):
    z, _ = exact.sample(4000, seeded(5))
    x = exact.path.sample(z, time, generator=seeded(6))
    wrong = error_at[time] = float((learned.noise(x, time) - exact.noise(x, time)).square().mean())
    floor = 1 - float(exact.noise(x, time).square().mean())  # E Var[eps|x]: what no network can predict
    print(f"t = {time}: mean squared error of the noise {wrong:.4f}, beside an irreducible {floor:.3f} in the loss")
    assert fast or wrong < {0.2: 0.001, 0.5: 0.002, 0.8: 0.08}[time]  # predicting 0 would cost 1 - floor
    assert fast or wrong < 0.2 * (1 - floor)
assert fast or error_at[0.8] > 100 * error_at[0.2]

# %% [markdown]
# ## 3. Score from velocity, and back
#
# We do not need a second network. Both the velocity $u_t = \dot\alpha_t D + \dot\beta_t \hat\varepsilon$ and the score
# $s_t = -\hat\varepsilon/\beta_t$ are linear in $(D, \hat\varepsilon)$, and $x = \alpha_t D + \beta_t \hat\varepsilon$
# ties these together. Put $D = (x - \beta_t\hat\varepsilon)/\alpha_t$ and $\hat\varepsilon = -\beta_t s_t$ into the
# velocity:
#
# $$u_t = \frac{\dot\alpha_t}{\alpha_t} x + \Big(\dot\beta_t - \frac{\dot\alpha_t \beta_t}{\alpha_t}\Big)\hat\varepsilon
# = \underbrace{\frac{\dot\alpha_t}{\alpha_t}}_{a_t} x +
# \underbrace{\frac{\dot\alpha_t\beta_t^2 - \dot\beta_t\beta_t\alpha_t}{\alpha_t}}_{b_t} s_t. \tag{3}$$
#
# The path's weight $\omega_t = \dot\alpha_t\beta_t - \alpha_t\dot\beta_t$ will be everywhere. It is positive, because
# $\omega/(\alpha\beta) = \tfrac{d}{dt}\log(\alpha/\beta)$: the level of the signal over that of the noise rises. With
# it
#
# $$b_t = \frac{\beta_t \omega_t}{\alpha_t}, \qquad s_t = \frac{u_t - a_t x}{b_t} =
# \frac{\alpha_t u_t - \dot\alpha_t x}{\beta_t \omega_t}. \tag{4}$$
#
# A velocity gives the score for every $0 \le t < 1$ (the second form of (4) does not divide by $\alpha_t$). A score
# gives the velocity for $0 < t < 1$ only: at $t = 0$, where $s_0 = -x$ whatever the data are, there is nothing in it.
# This is the 2 × 2 solve of lecture 02 once more.

# %%
x, t = torch.randn(200, 2, generator=seeded(7)), torch.rand(200, generator=seeded(8))
for schedule in (Linear(), Trigonometric(), VP()):
    field = MixtureField(ring.means, ring.std, ring.weights, path=GaussianPath(schedule))
    alpha, beta, dalpha, dbeta = (
        part(t)[:, None] for part in (schedule.alpha, schedule.beta, schedule.dalpha, schedule.dbeta)
    )
    omega = dalpha * beta - alpha * dbeta
    u, s = field.u(x, t), field.s(x, t)
    torch.testing.assert_close(dalpha / alpha * x + beta * omega / alpha * s, u, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close((alpha * u - dalpha * x) / (beta * omega), s, rtol=1e-9, atol=1e-9)

# %% [markdown]
# ## 4. One model, a family of samplers
#
# **Theorem (SDE extension; the corollary in section 5 of lecture 02).** Let $u_t$ generate $p_t > 0$ on $[0, T]$: the
# continuity equation $\partial_t p_t = -\nabla\!\cdot(u_t p_t)$ holds. Let $u_t$ and the score $s_t$ be continuous,
# with a continuous Jacobian in $x$, and grow at most linearly in $x$, uniformly on $[0, T]$. Then for every continuous
# $g_t \ge 0$ on $[0, T]$ the solution of
#
# $$dX_t = \Big[u_t(X_t) + \frac{g_t^2}{2}\, s_t(X_t)\Big] dt + g_t\, dW_t, \qquad X_0 \sim p_0, \tag{5}$$
#
# has the marginals $X_t \sim p_t$.
#
# The proof is there. Its one idea: **$\nabla\!\cdot(p\,s) = \nabla\!\cdot\nabla p = \Delta p$**, so that in the
# Fokker–Planck equation $\partial_t q = -\nabla\!\cdot(f q) + \tfrac{g^2}{2}\Delta q$ of (5) the new drift and the
# noise cancel on $q = p_t$.
#
# The conditions are not there for the proof alone. For bounded data and for mixtures they hold on $[0, T]$ for every
# $T < 1$, on schedules with finite derivatives at $t = 0$. They fail at $t = 1$ where the data are bare points, whose
# score at a fixed place grows like $1/\beta_t^2$, and at $t = 0$ for the $g$ of DDPM, which is infinite there if
# $\alpha_0 = 0$. Section 6 is about the first, section 5 meets the second.
#
# In words: the noise spreads mass, the extra drift pulls it back uphill, and on $p_t$ the two cancel exactly. What is
# left is the flow. Note that $g_t$ depends on time alone; a $g(x)$ would not come out of the Laplacian, and asks for
# another drift.
#
# Here is the Fokker–Planck residual of the ring at random places and times, by automatic differentiation. It is zero up
# to rounding for $g^2 = 0, 1$ and $3$. With half of the correction left out it is not.


# %%
def residual(x: torch.Tensor, t: torch.Tensor, g2: float, share: float = 1.0) -> torch.Tensor:
    """(dp/dt + div(f p) - g2/2 Laplace p) / p at one place x (2,) and time t (), with f = u + share g2/2 s."""

    def p(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return ring.log_prob(x[None], t)[0].exp()

    def flux(x: torch.Tensor) -> torch.Tensor:
        return (ring.u(x[None], t) + share * g2 / 2 * ring.s(x[None], t))[0] * p(x, t)

    x.requires_grad_(), t.requires_grad_()
    rate = torch.autograd.grad(p(x, t), t)[0]
    divergence = torch.autograd.functional.jacobian(flux, x).trace()
    laplacian = torch.autograd.functional.hessian(lambda x: p(x, t), x).trace()
    return ((rate + divergence - g2 / 2 * laplacian) / p(x, t)).detach()


generator = seeded(9)
places = [(torch.randn(2, generator=generator), 0.9 * torch.rand((), generator=generator)) for _ in range(20)]
for g2 in (0.0, 1.0, 3.0):
    worst = max(abs(float(residual(x, t, g2))) for x, t in places)
    print(f"g² = {g2:.0f}: largest residual {worst:.1e}")
    assert worst < 1e-8
assert max(abs(float(residual(x, t, 1.0, share=0.5))) for x, t in places) > 0.1

# %% [markdown]
# Below, the same twenty starts on the line under three amounts of noise, over the same $p_t$. The diffusion is
# $g_t^2 = 2\eta\,\beta_t \omega_t$, which section 6 will derive; on the linear path that is $2\eta(1-t)$. Single paths
# have nothing in common. The histograms at the end do.

# %%
# alt: Paths over a grey density that splits into three branches: smooth and never crossing for eta = 0, jagged for 1,
#   wild for 6. At the right, the densities at t = 1 of all three, which lie on each other and on the dashed exact one,
#   but for its highest peak.
count, steps = (200, 40) if fast else (4000, 300)
start = torch.randn(count, 1, generator=seeded(10))
paths = {
    eta: sample_sde(line, start, steps=steps, eta=eta, generator=seeded(11), trajectory=True) for eta in (0.0, 1.0, 6.0)
}

figure = plt.figure(figsize=(10, 3.6), layout="constrained")
axes = figure.subplots(1, 4, width_ratios=[3, 3, 3, 1.2], sharey=True)
times, values = torch.linspace(0, 1, 151), torch.linspace(-3, 3, 201)
heat = torch.stack([line.log_prob(values[:, None], time).exp() for time in times]).T
starts = torch.linspace(0.03, 0.97, 20) * count
chosen = start[:, 0].argsort()[starts.long()]  # spread evenly over the start's distribution
for axis, (eta, states), colour in zip(axes, paths.items(), (GREY, BLUE, ACCENT), strict=False):
    axis.imshow(heat**0.5, extent=(0, 1, -3, 3), origin="lower", aspect="auto", cmap="Greys", vmin=0, vmax=1.6)
    axis.plot(torch.linspace(0, 1, steps + 1), states[:, chosen, 0], color=ACCENT, linewidth=0.5, alpha=0.9)
    axis.set(title=f"$\\eta$ = {eta:g}" + (" (the ODE)" if eta == 0 else ""), xlabel="time t")
    hist, edges = torch.histogram(states[-1, :, 0], bins=60, range=(-3.0, 3.0), density=True)
    axes[3].plot(hist, (edges[1:] + edges[:-1]) / 2, linewidth=1, color=colour, label=f"{eta:g}")
axes[0].set_ylabel("x")
axes[3].plot(line.log_prob(values[:, None], 1.0).exp(), values, color=INK, linewidth=0.8, linestyle="--", label="exact")
axes[3].set(title="at t = 1", xlabel="density")
axes[3].legend(title=r"$\eta$", frameon=False, fontsize=7, title_fontsize=8, loc="center right")
plt.show()

if not fast:  # the picture beside this lecture in the list of lectures
    small, axes = plt.subplots(1, 2, figsize=(3.2, 2.0), layout="constrained", sharey=True)
    for axis, eta, name in zip(axes, (0.0, 1.0), ("flow", "diffusion"), strict=True):
        axis.imshow(heat**0.5, extent=(0, 1, -3, 3), origin="lower", aspect="auto", cmap="Greys", vmin=0, vmax=1.6)
        axis.plot(torch.linspace(0, 1, steps + 1), paths[eta][:, chosen, 0], color=ACCENT, linewidth=0.5)
        axis.set(xticks=[], yticks=[])
        axis.set_title(name, fontsize=9, color=INK)
    small.savefig("images/04.png", dpi=110)
    plt.close(small)

# %% [markdown]
# In numbers: the energy distance between samples of (5) and the data, in the plane, for several $g$, beside its floor,
# the mean for two independent samples *of the data itself* (lecture 01). Single draws scatter around that mean, from a
# third of it to twice as much. The mean of $\log p_1$ is the sharper test: samples that are too wide lower it. We
# compare it with its exact value for the data, in standard errors.


# %%
def constant_g(g: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda t: torch.full_like(t, g)


count, steps = (200, 50) if fast else (1500, 250)
data, _ = ring.sample(count, seeded(12))
typical = 2 / count * float(torch.cdist(data, data).mean())  # E|x - x'| (1/N + 1/N)
exact_level = float(ring.log_prob(ring.sample(200_000, seeded(35))[0], 1.0).mean())
start = torch.randn(count, 2, generator=seeded(13))
choices = {
    "g = 0, the ODE": {"eta": 0.0},
    "g² = 2βω": {},
    "g² = 6βω": {"eta": 3.0},
    "g = 1": {"diffusion": constant_g(1.0)},
    "g = 2 sin(πt)": {"diffusion": lambda t: 2 * torch.sin(math.pi * t)},
}
for name, choice in choices.items():
    x = sample_sde(ring, start, steps=steps, generator=seeded(14), **choice)
    found, level = energy_distance(x, data), ring.log_prob(x, 1.0)
    gap = (float(level.mean()) - exact_level) / (float(level.std()) / count**0.5)
    print(f"{name:14}  energy distance {found / typical:.1f} × the floor, mean of log p {gap:+.1f} standard errors off")
    assert fast or found < 2.5 * typical
    assert fast or abs(gap) < 4.5

# %% [markdown]
# The animation has three clouds that start from the same points, coloured by the angle of the start. Under the ODE a
# colour stays together: nearby starts end nearby, and the map from start to end is a deterministic sorting. With noise
# the sample forgets where it came from. At every moment all three clouds are draws from the same density.

# %% tags=["draw"]
if not fast:
    start = torch.randn(700, 2, generator=seeded(15))
    angle = torch.atan2(start[:, 1], start[:, 0]) / (2 * math.pi) + 0.5
    hue = hsv_to_rgb(torch.stack([angle, torch.full_like(angle, 0.85), torch.full_like(angle, 0.8)], dim=1).numpy())
    every = 5
    clouds = [
        sample_sde(ring, start, steps=200, eta=eta, generator=seeded(16), trajectory=True)[::every] for eta in (0, 1, 6)
    ]
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.75), dpi=84, layout="constrained")
    dots = [axis.scatter(*cloud[0].T, s=4, c=hue, linewidths=0) for axis, cloud in zip(axes, clouds, strict=True)]
    frames = []
    for i in range(len(clouds[0])):
        for axis, dot, cloud, name in zip(axes, dots, clouds, ("0, the ODE", "1", "6"), strict=True):
            dot.set_offsets(cloud[i])
            axis.set(xlim=(-2.7, 2.7), ylim=(-2.7, 2.7), aspect="equal", xticks=[], yticks=[])
            axis.set_title(rf"$\eta$ = {name}", color=INK, fontsize=10)
        axes[1].set_xlabel(f"t = {i * every / 200:.2f}", color=INK, fontsize=10, family="monospace")
        if i == 0:
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # or the panels would move with the width of the label
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        frames.append(Image.open(buffer).convert("RGB").quantize(48))
    pauses = [100] * (len(frames) - 1) + [2500]
    frames[0].save("images/04_same_marginals.gif", save_all=True, append_images=frames[1:], duration=pauses, loop=0)
    plt.close(figure)

# %% [markdown]
# ![Three clouds of points on their way from noise to eight Gaussians, with no, some and much noise on the way: colours
# stay sorted in the first and mix in the others, while the shapes agree](images/04_same_marginals.gif)
#
# ## 5. Anderson's reversed diffusion is one of them
#
# Diffusion models come from the other end. They start with an SDE that *destroys* data, in a time $\tau = 1 - t$ that
# runs from data to noise, and ask for its reversal. In general, let
#
# $$dY_\tau = F_\tau(Y_\tau)\, d\tau + g\, dW_\tau, \qquad Y_0 \sim p_\text{data}, \tag{6}$$
#
# and let $p_t$ be the density of $Y_{1-t}$. Its Fokker–Planck equation in $\tau$ is
#
# $$\partial_\tau p = -\nabla\!\cdot(F p) + \tfrac{g^2}{2}\nabla\!\cdot(p\,s)
# = -\nabla\!\cdot\big((F - \tfrac{g^2}{2}s)\,p\big).$$
#
# In our time $\partial_t = -\partial_\tau$, so
#
# $$\partial_t p = -\nabla\!\cdot\big((-F + \tfrac{g^2}{2}s)\,p\big): \qquad u_t = -F + \frac{g^2}{2}\, s_t .$$
#
# This velocity belongs to the *probability flow ODE* of Song et al. (2021). Now apply the theorem with the same $g$,
# where it is finite. The drift gets another half of $g^2 s$:
#
# $$dX_t = \big[-F + g^2 s_t(X_t)\big] dt + g\, dW_t, \tag{7}$$
#
# **Anderson's reverse-time SDE** (1982). No new idea was needed: it is the member of the family (5) with the $g$ of the
# noising process.
#
# ### Which $g$ is that on a Gaussian path?
#
# Look for a linear noising SDE, $dY = -a\,Y d\tau + g\, dW$, under which $Y_\tau$ given $z$ is
# $N(\alpha_t z, \beta_t^2 I)$. The mean decays by $d\alpha/d\tau = -a\alpha$. In our time that is
# $\dot\alpha = a\alpha$. The variance obeys $d(\beta^2)/d\tau = -2a\beta^2 + g^2$. So
#
# $$a = \frac{\dot\alpha}{\alpha} = a_t, \qquad g^2 = 2a\beta^2 - 2\beta\dot\beta =
# \frac{2\beta(\dot\alpha\beta - \alpha\dot\beta)}{\alpha} = \frac{2\beta \omega}{\alpha} = 2 b_t, \tag{8}$$
#
# and Anderson's drift is $a_t x + 2 b_t s_t$, where the flow has $a_t x + b_t s_t$ by (3). In words: *the flow uses the
# score once, the reversed diffusion twice.* On the VP path (8) is the rate of DDPM's noising SDE, as it has
# to be (the literature writes $\beta(\tau)$ for it; it is not our noise level):

# %%
vp, t = VP(), torch.linspace(0, 0.99, 50)
omega = vp.dalpha(t) * vp.beta(t) - vp.alpha(t) * vp.dbeta(t)
rate = vp.rate_min + (1 - t) * (vp.rate_max - vp.rate_min)
torch.testing.assert_close(2 * vp.beta(t) * omega / vp.alpha(t), rate, rtol=1e-10, atol=0)

# %% [markdown]
# ### What Anderson says that the theorem does not
#
# The theorem is about marginals: $X_t \sim p_t$, one $t$ at a time. Anderson's result is stronger. The *whole path* of
# (7) has the law of the noising path run backwards. Of all the $g$ with the same marginals, only (8) has that. We can
# see it in how much $X_{1/2}$ tells about $X_1$. For data $N(0, v)$, $v$ a variance, the noising process gives
# $\mathrm{Cov}(X_t, X_1) = \alpha_t v$, so the correlation is $\alpha_t \sqrt{v} / \sqrt{\alpha_t^2 v + \beta_t^2}$.
# The ODE, for Gaussian data an increasing affine map, must give correlation 1.

# %%
v, count, steps = 0.5, 1000 if fast else 20_000, 50 if fast else 200
gaussian = MixtureField(torch.zeros(1, 1), v**0.5, path=GaussianPath(VP()))
half = torch.tensor(0.5)
expected = float(vp.alpha(half) * v**0.5 / (vp.alpha(half) ** 2 * v + vp.beta(half) ** 2) ** 0.5)


def anderson(t: torch.Tensor) -> torch.Tensor:
    return torch.sqrt(vp.rate_min + (1 - t) * (vp.rate_max - vp.rate_min))


correlations = {}
for name, factor in (("the ODE", 0.0), ("Anderson's g", 1.0), ("twice that g", 2.0)):
    start = torch.randn(count, 1, generator=seeded(17))
    states = sample_sde(
        gaussian,
        start,
        steps=steps,
        diffusion=lambda t, k=factor: k * anderson(t),
        generator=seeded(18),
        trajectory=True,
    )
    middle, end = states[steps // 2, :, 0], states[-1, :, 0]
    correlations[name] = float(torch.corrcoef(torch.stack([middle, end]))[0, 1])
    print(f"{name:13} Var X₁ = {float(end.var()):.3f} (exact {v});  corr(X_½, X₁) = {correlations[name]:+.3f}")
print(f"the noising process has correlation {expected:.3f}")
if not fast:
    assert abs(correlations["Anderson's g"] - expected) < 0.03
    assert correlations["the ODE"] > 0.999
    assert correlations["twice that g"] < expected - 0.1

# %% [markdown]
# ## 6. Which $g$?
#
# In continuous time every $g$ of the theorem gives the same marginals. A sampler takes steps, and there the choice
# decides whether it converges at all.
#
# ### The plain choice: a constant
#
# Let the data be a finite set, twelve points in the plane. Every training set is finite, so this is also what a network
# that fits its training set perfectly would do. We follow (5) with $g = 1$ by Euler–Maruyama and measure the distance
# of the samples from the nearest data point. It ought to go to zero as the steps are refined.

# %%
points = MixtureField(torch.randn(12, 2, generator=seeded(7)), 0.0)  # std 0: the points themselves


def distance_to_data(steps: int, **choice: object) -> float:
    start = torch.randn(64, 2, generator=seeded(0))
    x = sample_sde(points, start, steps=steps, generator=seeded(1), **choice)
    return float(torch.cdist(x, points.means).min(1).values.mean())


print(" steps      g = 1   g² = 2βω   g² = 2βω, last step on D")
table = {}
for steps in (50, 250, 1000):
    table[steps] = (
        distance_to_data(steps, diffusion=constant_g(1.0), denoise_last=False),
        distance_to_data(steps, denoise_last=False),
        distance_to_data(steps),
    )
    print(f"{steps:6}  {table[steps][0]:9.2g}  {table[steps][1]:9.2g}  {table[steps][2]:9.2g}")
assert table[50][0] > 10
assert table[250][0] > 1e3 * table[50][0]
assert table[1000][0] > 1e6 * table[250][0]
assert table[1000][1] < table[250][1] / 3 < table[50][1] / 9
assert table[1000][2] < 1e-6

# %% [markdown]
# More steps make it worse: from 31 to $2\cdot 10^5$ to $10^{13}$. The cause is not the SDE but its discretisation.
#
# **Why: linear stability.** Near $t = 1$ it is decided where a sample goes: $D$ is one data point $z$, and
# $\hat\varepsilon = (x - \alpha z)/\beta$. Write $\rho = x - \alpha_t z$. The drift of (5), with
# $s = -\hat\varepsilon/\beta$, is $\dot\alpha z + (\dot\beta - \tfrac{g^2}{2\beta})\,\hat\varepsilon$, so one
# Euler–Maruyama step of size $h$ takes (on the linear path, where $\dot\beta = -1$)
#
# $$\rho \;\mapsto\; \Big(1 - \frac{h}{\beta} - \frac{h\,g^2}{2\beta^2}\Big)\, \rho + g\sqrt{h}\,\xi. \tag{9}$$
#
# The pull towards the data has the rate $g^2/(2\beta^2)$, which is unbounded as $\beta \to 0$. The exact process is
# held ever more firmly by it. Euler's step overshoots. **When the step times the rate exceeds 2, the bracket is below
# $-1$:** every step throws the sample to the other side and further out. That happens when (leaving out the small
# $h/\beta$)
#
# $$\frac{h g^2}{2\beta^2} > 2 \iff \beta < \frac{g\sqrt{h}}{2}.$$
#
# With $N$ uniform steps, $h = 1/N$ and $\beta = k h$ when $k$ steps are left, these are the last
# $K = \tfrac{g}{2}\sqrt{N}$ steps. A finer grid puts *more* steps in the zone, and the last factor is about $g^2N/2$.
# The product of the factors $2K^2/k^2 - 1$ over $k \le K$ has the logarithm
# $K\int_0^1 \log(2/x^2 - 1)\, dx \approx 2.49\, K$, and grows like $e^{1.25\, g\sqrt N}$.
#
# For data of a single point (9) is not an approximation. The variance of $\rho$ then follows from it exactly, and
# predicts what the sampler does:


# %%
def predicted_error(steps: int, g: float) -> float:
    """E|x - z| in the plane after Euler-Maruyama with constant g, for data that are one point, by recursion (9)."""
    h, variance = 1 / steps, 1.0
    for k in range(steps, 0, -1):  # beta = k h
        factor = 1 - 1 / k - g**2 / (2 * k**2 * h)
        variance = factor**2 * variance + g**2 * h
    return math.sqrt(math.pi / 2 * variance)


one_point = MixtureField(torch.tensor([[0.7, -0.4]]), 0.0)
for steps in (50, 250, 1000):
    start = torch.randn(2000, 2, generator=seeded(2))
    x = sample_sde(one_point, start, steps=steps, diffusion=constant_g(1.0), denoise_last=False, generator=seeded(3))
    found, predicted = float((x - one_point.means).norm(dim=1).mean()), predicted_error(steps, 1.0)
    print(f"{steps:5} steps: measured {found:.3g}, predicted by (9) {predicted:.3g}; K = {math.sqrt(steps) / 2:.1f}")
    assert abs(found / predicted - 1) < 0.1
rates = [math.log(predicted_error(4 * n, 1.0) / predicted_error(n, 1.0)) / math.sqrt(n) for n in (1000, 4000)]
print(f"growth of the logarithm with √N: {rates[0]:.3f}, {rates[1]:.3f} (1.25 in the limit)")
assert abs(rates[1] - 1.25) < 0.05

# %% [markdown]
# (Twelve points fare a little better than one: a sample thrown too far is caught by another point.) Why does a constant
# $g$ look fine in so many tutorials? Because their data are smooth: near a component of width
# $\sigma$, the last term in the bracket of (9) has $\alpha^2\sigma^2 + \beta^2$ in place of $\beta^2$ (and the flow's
# term $-h/\beta$ becomes $h(\alpha\sigma^2 - \beta)/(\alpha^2\sigma^2 + \beta^2)$, which is bounded as well). Then
# there is hardly any instability for $h g^2 < 4\sigma^2$. Or because they stop short of $t = 1$.
#
# ### The choice that needs no division
#
# What explodes is $s = -\hat\varepsilon/\beta$. In the drift it stands as
# $\tfrac{g^2}{2}s = -\tfrac{g^2}{2\beta}\hat\varepsilon$. So let $g^2$ carry a factor $\beta$, and, with an eye on (8),
# a factor $\omega$:
#
# $$g_t^2 = 2\,\eta_t\, \beta_t \omega_t \quad\Longrightarrow\quad \frac{g^2}{2}s = -\eta\,\omega\,\hat\varepsilon,
# \qquad \boxed{\,dX = \big[u - \eta\,\omega\,\hat\varepsilon\big] dt + \sqrt{2\eta\beta \omega}\; dW\,} \tag{10}$$
#
# No division is left, and $\eta \ge 0$ has no unit: it is how much noise, on a scale where
#
# - $\eta = 0$ is the flow ODE;
# - $\eta = 1$ is the library's default, $g^2 = 2(1-t)$ on the linear path;
# - $\eta = 1/\alpha_t$ is Anderson's reversal, by (8): the continuous limit of **DDPM**. It is infinite at $t = 0$
#   where $\alpha_0 = 0$.
#
# Stability: on the linear path $\omega = 1$, and the factor in (9) becomes $1 - (1 + \eta)h/\beta = 1 - (1+\eta)/k$. It
# does not depend on $N$. For $\eta \le 1$ it is at least $-1$ at every step. For $\eta > 1$ the last few steps
# ($k < (1+\eta)/2$) overshoot by a fixed factor, whatever $N$. The error, of the order of $\beta$ one step before the
# end, falls like $1/N$: the second column above.
#
# ### The last step lands on $D$
#
# The last Euler–Maruyama step adds noise of size $g\sqrt h$ that no later step will remove. Replace it by
# $x \leftarrow D = \mathbb{E}[z \mid x]$. On finite data that is exact as soon as the sample has decided (third
# column). On smooth data it costs little: $D$ differs from a sample of $p(z \mid x)$ by its spread, at most about
# $\beta/\alpha$ there, the size of one step.
#
# Here is all of it in the library. Note `pull`, which is $\eta \omega$, or $g^2/(2\beta)$ for a diffusion of your own.

# %%
show_source(sample_sde)

# %% [markdown]
# And DDPM? Its ancestral step is `sample_ddim(eta=1)`, the exact Gaussian posterior $q(x_s \mid x_t, D)$ of the noising
# chain. One step of it and one Euler–Maruyama step of (10) with $\eta = 1/\alpha$, with the same noise, must agree to
# first order in $h$:


# %%
def ddpm_diffusion(t: torch.Tensor) -> torch.Tensor:
    omega = vp.dalpha(t) * vp.beta(t) - vp.alpha(t) * vp.dbeta(t)
    return torch.sqrt(2 * vp.beta(t) * omega / vp.alpha(t))


field = MixtureField(ring.means, ring.std, ring.weights, path=GaussianPath(vp))
start, gaps = torch.randn(500, 2, generator=seeded(20)), []
for h in (0.01, 0.005, 0.0025):
    times = torch.tensor([0.5, 0.5 + h])
    one = sample_sde(field, start, times=times, diffusion=ddpm_diffusion, denoise_last=False, generator=seeded(21))
    two = sample_ddim(field, start, times=times, eta=1.0, generator=seeded(21))
    gaps.append(float((one - two).square().mean().sqrt()))
order = math.log2(gaps[1] / gaps[2])
print("difference of one step:", ", ".join(f"{gap:.1e}" for gap in gaps), f"  order {order:.2f}")
assert abs(order - 1.5) < 0.1  # the noise agrees up to h^(3/2), the drift up to h^2

# %% [markdown]
# ## 7. How accurate is Euler–Maruyama here?
#
# Lecture 01 met two meanings of accuracy. The **strong** error compares paths driven by the same Brownian motion. The
# **weak** error compares distributions, which is all that sampling asks for. In (10) the noise does not depend on $x$
# (it is *additive*), and then Euler–Maruyama has order 1 in both senses where the coefficients are smooth.
#
# The weak order can be measured without random numbers. For data $N(m, v)$ everything is linear in $x$, and a step
# takes mean and variance to mean and variance.


# %%
def moments(steps: int, eta: float, m: float = 1.0, v: float = 0.49) -> tuple[float, float]:
    """Mean and variance at t = 1 of Euler-Maruyama on (10), data N(m, v) on the trigonometric path."""
    mean, variance, h = 0.0, 1.0, 1 / steps
    for i in range(steps):
        angle = math.pi / 2 * i * h
        alpha, beta, omega = math.sin(angle), math.cos(angle), math.pi / 2
        total = alpha**2 * v + beta**2
        # D = m + alpha v (x - alpha m) / total and eps_hat = beta (x - alpha m) / total
        slope = (omega * beta * alpha * v - (omega * alpha + eta * omega) * beta) / total
        mean = mean + h * (omega * beta * m + slope * (mean - alpha * m))
        variance = (1 + h * slope) ** 2 * variance + 2 * eta * beta * omega * h
    return mean, variance


print("   η    error of the variance at 32, 64, 128 steps     order")
for eta in (0.0, 1.0, 4.0):
    errors = [abs(moments(n, eta)[1] - 0.49) for n in (32, 64, 128)]
    order = math.log2(errors[1] / errors[2])
    print(f"{eta:4.0f}  " + "".join(f"{error:12.5f}" for error in errors) + f"{order:18.2f}")
    assert abs(order - 1) < 0.15

# %% [markdown]
# For the strong order we need one Brownian path on several grids: draw the finest increments and add them up in groups.
# We stop at $t = 0.8$: at $t = 1$, where $\beta = 0$, the coefficient $\sqrt{2\eta\beta \omega}$ is not smooth.

# %%
trig = MixtureField(line.means, line.std, line.weights, path=GaussianPath(Trigonometric()))
finest = 64 if fast else 1024
count, end, eta = 300, 0.8, 1.0
brownian = torch.randn(finest, count, 1, generator=seeded(22)) * math.sqrt(end / finest)
start = torch.randn(count, 1, generator=seeded(23))
ends = {}
for steps in (finest // 32, finest // 16, finest // 8, finest):
    increments = brownian.reshape(steps, -1, count, 1).sum(1)
    x, h = start, end / steps
    for i in range(steps):
        t = torch.tensor(i * h)
        beta, omega = trig.path.schedule.beta(t), math.pi / 2
        x = x + h * (trig.u(x, t) - eta * omega * trig.noise(x, t)) + torch.sqrt(2 * eta * beta * omega) * increments[i]
    ends[steps] = x
errors = [float((ends[n] - ends[finest]).abs().mean()) for n in list(ends)[:3]]
print("strong errors:", ", ".join(f"{e:.5f}" for e in errors), f"  order {math.log2(errors[1] / errors[2]):.2f}")
if not fast:
    assert abs(math.log2(errors[1] / errors[2]) - 1) < 0.25

# %% [markdown]
# Order 1, against Heun's 2 and RK4's 4 for the ODE. **On an exact, smooth field the ODE with such a method wins as soon
# as the steps are fine.** What noise is good for is something else.
#
# ## 8. The Langevin corrector
#
# Set $u = 0$ and hold $t$ fixed in (5): what is left, $dX = \tfrac{g^2}{2}s_t\,dt + g\,dW$, does not move $p_t$. It is
# Langevin dynamics, and it pulls *any* distribution towards $p_t$. So **the SDE (5) is the flow plus Langevin dynamics,
# running at the same time**. One may also take turns: a step of a solver, the *predictor*, then some Langevin steps at
# the new time, the *corrector* (Song et al. 2021).
#
# A Langevin step $x + h s + \sqrt{2h}\,\xi$ is itself a discretisation. Where $x$ is noise of level $\beta$ around one
# data point, $s = -(x - \alpha z)/\beta^2$, and the variance settles where $V = (1 - h/\beta^2)^2 V + 2h$. With
# $h = 2 (r\beta)^2$ that is $V = \beta^2 / (1 - r^2)$: the ratio $r$, not the step, is what to choose, and $r = 0.1$
# costs 1 % of the variance.

# %%
show_source(langevin_step)

# %%
t, r, count = torch.tensor(0.5), 0.3, 2000 if fast else 100_000
x = one_point.path.sample(one_point.means.expand(count, 2), t, generator=seeded(24))
generator = seeded(25)
for _ in range(60):
    x = langevin_step(one_point, x, None, t, r, torch.randn(x.shape, generator=generator))
ratio = float((x - 0.5 * one_point.means).var() / 0.25)
print(f"r = {r}: variance / β² = {ratio:.3f}; 1 / (1 - r²) = {1 / (1 - r**2):.3f}")
if not fast:
    assert abs(ratio - 1 / (1 - r**2)) < 0.02

# %% [markdown]
# What it can do, and what it cannot. We stand at time $t$ with a wrong cloud, every sample at 0, and apply the
# corrector. At $t = 0.3$ the density is one broad hill and the cloud is repaired soon. At $t = 0.9$ there are three
# hills with deep valleys between them. Langevin dynamics repairs the shape of each hill at once, but mass has to cross
# the valleys, and that takes a time exponential in their depth. A corrector mends small errors; it does not find lost
# modes.
#
# We measure by the mean distance between equal quantiles of the samples and of the exact $p_t$, the Wasserstein-1
# distance.


# %%
def distance(x: torch.Tensor, t: float = 1.0) -> float:
    """The Wasserstein-1 distance of samples x (N, 1) on the line from p_t: the mean gap of equal quantiles."""
    grid = torch.linspace(-5, 5, 20_001)
    means, stds = t * line.means[:, 0], (t**2 * line.std**2 + (1 - t) ** 2).sqrt()
    cdf = (torch.distributions.Normal(means, stds).cdf(grid[:, None]) * line.weights).sum(1)
    levels = (torch.arange(len(x)) + 0.5) / len(x)
    i = torch.searchsorted(cdf, levels).clamp(1, len(grid) - 1)
    exact = grid[i - 1] + (levels - cdf[i - 1]) / (cdf[i] - cdf[i - 1]) * (grid[i] - grid[i - 1])
    return float((x[:, 0].sort().values - exact).abs().mean())


count, rounds = (500, 40) if fast else (4000, 300)
repaired = {}
for time in (0.3, 0.6, 0.9):
    t, generator, x = torch.tensor(time), seeded(26), torch.zeros(count, 1)
    course = [distance(x, time)]
    for _ in range(rounds):
        x = langevin_step(line, x, None, t, 0.15, torch.randn(x.shape, generator=generator))
        course.append(distance(x, time))
    repaired[time] = course
    print(f"t = {time}: distance to p_t {course[0]:.3f} at first, {course[-1]:.3f} after {rounds} corrector steps")
if not fast:
    assert repaired[0.3][-1] < 0.03 < 0.3 < repaired[0.9][-1]

# %% [markdown]
# ## 9. ODE against SDE
#
# ### What noise repairs: a theorem
#
# Suppose the distribution $q_t$ of the samples has gone wrong, by a wrong start or by earlier mistakes, and from now on
# the field is exact.
#
# **Claim.** Let $q_t$ and $p_t$ be positive and smooth, and fall off so fast that the boundary terms below vanish. Then
# under (5),
#
# $$\frac{d}{dt}\mathrm{KL}(q_t \,\Vert\, p_t)
# = -\frac{g_t^2}{2}\; \mathbb{E}_{q_t}\Big\lVert \nabla\log\frac{q_t}{p_t}\Big\rVert^2. \tag{11}$$
#
# **Proof.** By $\Delta q = \nabla\!\cdot(q \nabla\log q)$ the Fokker–Planck equation of $q$ is a continuity equation
# $\partial_t q = -\nabla\!\cdot(\tilde u\,q)$ with
# $\tilde u = u + \tfrac{g^2}{2}s - \tfrac{g^2}{2}\nabla\log q = u - \tfrac{g^2}{2}\nabla\log\tfrac{q}{p}$. Then, as
# $\int\partial_t q\,dx = 0$,
#
# $$\frac{d}{dt}\int q\log\frac{q}{p} = \int \partial_t q\,\log\frac{q}{p} - \int \frac{q}{p}\,\partial_t p
# = \int q\, \tilde u\cdot\nabla\log\frac{q}{p} - \int p\, u\cdot\nabla\frac{q}{p} = \int q\,(\tilde u -
# u)\cdot\nabla\log\frac{q}{p},$$
#
# by integration by parts, and $p\nabla\tfrac{q}{p} = q\nabla\log\tfrac qp$. Insert $\tilde u - u$. $\blacksquare$
#
# **With $g = 0$ the KL divergence does not move: the ODE carries an error to the end as it is. With $g > 0$ it falls**,
# at the rate $g^2/2$ times the *Fisher divergence* $\mathbb{E}_q\lVert\nabla\log\frac{q}{p}\rVert^2$, which says how
# wrong the score of $q$ is. Both statements can be computed for Gaussians. Data $N(1, 0.49)$, and a start
# $N(0.8, 0.5^2)$ instead of $N(0, 1)$:

# %%
m, v, steps = 1.0, 0.49, 4000
curves = {}
for eta in (0.0, 0.3, 1.0, 3.0):
    mean, variance, h, course = 0.8, 0.25, 1 / steps, []
    for i in range(steps):  # exact moments of q on the trigonometric path, in small Euler steps
        angle = math.pi / 2 * i * h
        alpha, beta, omega = math.sin(angle), math.cos(angle), math.pi / 2
        total, gap = alpha**2 * v + beta**2, mean - alpha * m
        kl = (variance / total + gap**2 / total - 1 - math.log(variance / total)) / 2
        # grad log(q/p) = (x - alpha m) / total - (x - mean) / variance
        fisher = (1 / total - 1 / variance) ** 2 * variance + gap**2 / total**2
        course.append((kl, eta * beta * omega * fisher))
        slope = (omega * beta * alpha * v - (omega * alpha + eta * omega) * beta) / total
        mean += h * (omega * beta * m + slope * gap)
        variance += h * (2 * slope * variance + 2 * eta * beta * omega)
    curves[eta] = torch.tensor(course)
    falls = -(curves[eta][1:, 0] - curves[eta][:-1, 0]) / h
    rates = curves[eta][:-1, 1]
    assert (falls - rates).abs().max() < 0.01 * (1 + float(rates.max()))  # the claim, at every time
    assert ((falls - rates).abs() < 0.03 * rates + 0.002).all()  # where the rate is small too
    assert abs(float((falls - rates).sum()) * h) < 0.005  # and its integral
assert curves[0.0][:, 0].max() - curves[0.0][:, 0].min() < 0.005
assert curves[0.0][-1, 0] > 3 * curves[1.0][-1, 0] > 9 * curves[3.0][-1, 0]

# %% tags=["demo", "draw"]
# alt: Left, a divergence over time on a logarithmic scale: constant for eta = 0, and falling the faster the larger eta,
#   down to 2e-4 for 3. Right, a distance against corrector steps: within 50 steps for t = 0.3 and 130 for t = 0.6 it
#   falls to 0.015, for t = 0.9 it hardly falls.
figure, axes = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
shades = {0.0: INK, 0.3: GREY, 1.0: BLUE, 3.0: ACCENT}
for eta, curve in curves.items():
    axes[0].semilogy(torch.linspace(0, 1, steps), curve[:, 0], color=shades[eta], label=rf"$\eta$ = {eta:g}")
axes[0].set(xlabel="time t", ylabel="KL(q‖p)", title="A wrong start: the ODE keeps the error, noise forgets it")
axes[0].legend(frameon=False)
for time, colour in ((0.3, BLUE), (0.6, INK), (0.9, ACCENT)):
    axes[1].semilogy(repaired[time], color=colour, label=f"t = {time}")
axes[1].set(
    xlabel="corrector steps", ylabel="Wasserstein-1 distance to $p_t$", title="Langevin alone, from a cloud at 0"
)
axes[1].legend(frameon=False)
plt.show()

# %% [markdown]
# The ODE's contraction and expansion of *distances between points* is another matter; what it cannot change is how well
# two densities can be told apart.
#
# ### Equal cost, exact field
#
# Now nothing is wrong but the step size. We spend the same number of field evaluations on each sampler; Heun needs two
# a step and gets half as many steps. The starts are spread evenly over the quantiles of $N(0,1)$, so that the ODE has
# no sampling error at all. The SDEs draw noise, so eight runs of each are put together to one set of 32,000 samples,
# and compared with as many random samples of the data: near that level a number says how many samples there are, not
# how good the sampler is. (Below it one may come by chance, and because a small $\eta$ keeps some of the even spread of
# the starts.)

# %%
count, budgets = (500, (8, 16)) if fast else (4000, (8, 16, 32, 64, 128))
seeds = range(2 if fast else 8)
levels = (torch.arange(count) + 0.5) / count
start = torch.special.ndtri(levels)[torch.randperm(count, generator=seeded(27)), None]
floor = sum(distance(line.sample(count * len(seeds), seeded(100 + seed))[0]) for seed in seeds) / len(seeds)
samplers = {
    "ODE, Euler": lambda n, g: sample_ode(line, start, steps=n, method="euler"),
    "ODE, Heun": lambda n, g: sample_ode(line, start, steps=n // 2),
    "SDE, η = 1": lambda n, g: sample_sde(line, start, steps=n, generator=g),
    "SDE, η = 4": lambda n, g: sample_sde(line, start, steps=n, eta=4.0, generator=g),
    "SDE, g = 1": lambda n, g: sample_sde(line, start, steps=n, diffusion=constant_g(1.0), generator=g),
    "Euler + corrector": lambda n, g: sample_sde(line, start, steps=n // 2, eta=0.0, corrector_steps=1, generator=g),
}
exact_cost = {}
for name, run in samplers.items():
    drawn = [None] if name.startswith("ODE") else [200 + seed for seed in seeds]
    exact_cost[name] = [
        distance(torch.cat([run(n, None if seed is None else seeded(seed)) for seed in drawn])) for n in budgets
    ]
print("evaluations        " + "".join(f"{n:9}" for n in budgets))
for name, found in exact_cost.items():
    print(f"{name:19}" + "".join(f"{value:9.4f}" for value in found))
print(f"{count * len(seeds):,} random samples of the data: {floor:.4f}")
noisy = {name: found for name, found in exact_cost.items() if not name.startswith("ODE")}
if not fast:
    for i in (1, 2):  # 16 and 32 evaluations: there the SDEs' errors are their own, and not those of few samples
        assert 3 * floor < min(found[i] for found in noisy.values())
        assert exact_cost["ODE, Heun"][i] < 0.5 * min(found[i] for found in noisy.values())

# %% [markdown]
# ### Equal cost, a field with mistakes
#
# A learned field is wrong here and there. We inject a known mistake into the exact one: the velocity is off by
# $\tfrac12\sin 2x$, either **early** ($t < \tfrac12$), or **late** ($t \ge 0.8$), or always. The score that follows
# from the velocity by (4) is then wrong too, as it would be in a real model. All runs have 400 evaluations, so that the
# steps are no excuse.


# %%
class Mistaken(Field):
    """The exact field with sin(2x)/2 added to its velocity from `start` to `end`."""

    predicts = "velocity"

    def __init__(self, field: MixtureField, start: float, end: float) -> None:
        self.field, self.path, self.start, self.end = field, field.path, start, end

    def predict(self, x: torch.Tensor, t: float | torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        wrong = 0.5 if self.start <= float(t) < self.end else 0.0
        return self.field.u(x, t) + wrong * torch.sin(2 * x)


etas, steps = (0.0, 0.3, 1.0, 3.0, 10.0), 40 if fast else 400
windows = {"early, t < 0.5": (0.0, 0.5), "late, t ≥ 0.8": (0.8, 1.0), "always": (0.0, 1.0)}
mistakes = {}
print("η =               " + "".join(f"{eta:9g}" for eta in etas))
for name, window in windows.items():
    field = Mistaken(line, *window)
    runs = [
        [distance(sample_sde(field, start, steps=steps, eta=eta, generator=seeded(seed))) for eta in etas]
        for seed in (30, 36, 37)
    ]
    mistakes[name] = torch.tensor(runs).mean(0).tolist()
    print(f"{name:18}" + "".join(f"{value:9.4f}" for value in mistakes[name]))
    for found in runs if not fast else ():  # every seed says the same
        if name.startswith("early"):
            assert max(found[3], found[4]) < 0.4 * found[0]  # forgotten
        elif name.startswith("late"):
            assert all(low < high for low, high in itertools.pairwise(found))  # made worse, the more noise the more
            assert found[4] > 4 * found[0]
        else:
            assert min(found[1:4]) < 0.95 * found[0] < found[0] < found[4]  # best in between

# %% tags=["demo", "draw"]
# alt: Left, distances against 8 to 128 evaluations on logarithmic axes: Heun's ODE falls far below a grey band that the
#   five others come near only at the end. Right, distances against eta: falling for an early mistake, rising for a late
#   one, lowest at 1 for a mistake at all times.
figure, axes = plt.subplots(1, 2, figsize=(10, 3.7), layout="constrained")
colours = (INK, ACCENT, BLUE, GREY, ROSE, VIOLET)
for (name, found), colour in zip(exact_cost.items(), colours, strict=True):
    axes[0].loglog(budgets, found, marker="o", markersize=3, color=colour, label=name, linewidth=1.3)
axes[0].axhline(floor, color=PALE, linewidth=4, zorder=0, label="32,000 samples of the data")
axes[0].set_xticks(budgets, [str(n) for n in budgets], minor=False)
axes[0].minorticks_off()
axes[0].set(xlabel="field evaluations", ylabel="Wasserstein-1 distance", title="Exact field: only the steps are wrong")
axes[0].legend(frameon=False)
for (name, found), colour in zip(mistakes.items(), (BLUE, ACCENT, INK), strict=True):
    axes[1].plot(range(len(etas)), found, marker="o", markersize=4, color=colour, label=name)
axes[1].set_xticks(range(len(etas)), [f"{eta:g}" for eta in etas])
axes[1].set(xlabel=r"$\eta$", ylabel="Wasserstein-1 distance", title="A field with a mistake in it", ylim=(0, None))
axes[1].legend(frameon=False, title="the velocity is wrong", title_fontsize=8)
plt.show()

# %% [markdown]
# **When noise pays, and why.**
#
# - *Early mistakes are forgotten.* That is the theorem: after $t = \tfrac12$ the field is exact, and the KL divergence
#   falls at the rate $g^2/2$ times the Fisher divergence. The ODE keeps its error to the end.
# - *Late mistakes are made worse.* Here no time is left to forget, and the noise has a price: the drift of (5) contains
#   the score once more, and with it its mistake. An error $e_u$ in the velocity is an error
#   $e_\varepsilon = -\tfrac{\alpha}{\omega} e_u$ in $\hat\varepsilon$ by (4), so the drift of (10) is off by
#   $(1 + \eta\alpha)\,e_u$.
# - *Mistakes everywhere*: a compromise, here best at a moderate $\eta$. Langevin dynamics with a wrong score converges
#   as well, to the wrong distribution.
#
# There is a bound that says where the balance lies. Girsanov's theorem bounds the KL divergence at the end by the
# drift's error $\delta_t$ along the path and the same start,
# $\mathrm{KL}(p_\text{data} \Vert q_1) \le \int_0^1 \mathbb{E}\lVert\delta_t\rVert^2 / (2g_t^2)\, dt$. The
# expectation is over the exact process, $x_t \sim p_t$, as in training. With an error $e_\varepsilon$ in
# $\hat\varepsilon$ the drift of (10) is off by $\delta = -\omega(\tfrac1\alpha + \eta)\, e_\varepsilon$, and
# $g^2 = 2\eta\beta \omega$, so the integrand is
#
# $$\frac{\omega}{4\beta}\;\frac{(1/\alpha + \eta)^2}{\eta}\;\mathbb{E}\lVert e_\varepsilon \rVert^2, \qquad
# \text{smallest at } \eta = \frac1\alpha: \qquad
# \frac{\omega}{\alpha\beta}\,\mathbb{E}\lVert e_\varepsilon\rVert^2 =
# \frac12\,\frac{d \log \mathrm{SNR}}{dt}\,\mathbb{E}\lVert e_\varepsilon\rVert^2,
# \qquad \mathrm{SNR} = \frac{\alpha_t^2}{\beta_t^2} .$$
#
# **DDPM's amount of noise is the one with the best guarantee**, and the guarantee is the variational bound that
# diffusion models are trained by (Kingma et al. 2021; Albergo et al. 2023; Ma et al. 2024). For the ODE ($\eta \to 0$)
# the bound is infinite: a small error of the field in the mean square does not bound the KL divergence of the flow. It
# is a bound, though, not a measurement: the best $\eta$ of a given model is found by trying.
#
# And for the score that we learned in section 2? Here is the energy distance of its samples from the data, with 20 and
# with 200 evaluations, the mean of three draws.

# %%
count = 200 if fast else 2000
data = exact.sample(count, seeded(31))[0]
typical = 2 / count * float(torch.cdist(data, data).mean())
print("η =         " + "".join(f"{eta:9g}" for eta in etas[:4]))
by_steps = {}
for steps in (20, 200):
    found = []
    for seed in (32, 38, 39):
        start = torch.randn(count, 2, generator=seeded(seed), dtype=torch.float32)
        draws = [sample_sde(learned, start, steps=steps, eta=eta, generator=seeded(seed + 10)) for eta in etas[:4]]
        found.append([energy_distance(x, data) for x in draws])
    by_steps[steps] = torch.tensor(found).mean(0)
    row = "".join(f"{value:9.5f}" for value in by_steps[steps].tolist())
    print(f"{steps:3} steps   {row}   (floor: {typical:.5f})")
if not fast:
    assert max(found.max() for found in by_steps.values()) < 2 * min(found.min() for found in by_steps.values())
    assert by_steps[200].min() > 1.5 * typical  # the field is what is wrong

# %% [markdown]
# The differences are small, and that fits: this model's mistakes lie late. Section 2 found its error at $t = 0.8$ to be
# more than a hundred times that at $t = 0.2$, and late mistakes are not forgotten. Nor do ten times as many steps help
# much; the field is what is wrong. (One training.)
#
# ## 10. An experiment to change
#
# The mistake below is in a window of time that you choose. **Before you run it, predict:** is the window $(0.4, 0.6)$
# nearer to "early" or to "late" for $\eta = 3$? Where must the window lie for noise to make no difference? Then change
# the window, the size of $\eta$, or let $\eta$ depend on time: `diffusion` takes any $g(t)$. Can you build one that
# forgets early mistakes and does not amplify late ones?

# %%
window, eta = (0.4, 0.6), 3.0


def own_diffusion(t: torch.Tensor) -> torch.Tensor:
    return torch.sqrt(2 * eta * (1 - t))  # g² = 2ηβω on the linear path: change me


mistaken = Mistaken(line, *window)
quiet = distance(sample_sde(mistaken, torch.special.ndtri(levels)[:, None], eta=0.0, generator=seeded(34)))
noisy = distance(
    sample_sde(mistaken, torch.special.ndtri(levels)[:, None], diffusion=own_diffusion, generator=seeded(34))
)
print(f"velocity wrong for t in {window}: distance {quiet:.4f} by the ODE, {noisy:.4f} with your noise")

# %% [markdown]
# ## What fails, and why
#
# | what | why | what to do |
# |---|---|---|
# | constant $g$ on finite data | step × $g^2/(2\beta^2)$ exceeds 2 near $t = 1$ | $g^2 = 2\eta\beta\omega$ of (10) |
# | unweighted score matching | the target has variance $1/\beta_t^2$ | weight by $\beta_t^2$: predict the noise |
# | velocity from a score at $t = 0$ | $s_0 = -x$ says nothing about the data | predict velocity or v |
# | $\eta = 1/\alpha$ at $t = 0$ | $\alpha_0 = 0$ | ancestral steps, `sample_ddim(eta=1)` |
# | many corrector steps late | valleys between modes | correct early, or trust the SDE |
# | much noise with few steps | weak order 1, with a constant that grows with $\eta$ | the ODE, by Heun |
#
# ## What to read next
#
# - A. Hyvärinen (2005), *Estimation of non-normalized statistical models by score matching*, JMLR 6.
# - P. Vincent (2011), *A connection between score matching and denoising autoencoders*, Neural Computation 23.
# - B. D. O. Anderson (1982), *Reverse-time diffusion equation models*, Stochastic Processes and their Applications 12.
# - Y. Song et al. (2021), *Score-based generative modeling through stochastic differential equations*, arXiv
#   2011.13456.
# - D. P. Kingma et al. (2021), *Variational diffusion models*, arXiv 2107.00630.
# - M. S. Albergo, N. M. Boffi, E. Vanden-Eijnden (2023), *Stochastic interpolants: a unifying framework for flows and
#   diffusions*, arXiv 2303.08797.
# - Y. Xu et al. (2023), *Restart sampling for improving generative processes*, arXiv 2306.14878: the argument of
#   section 9, as a sampler.
# - N. Ma et al. (2024), *SiT: exploring flow and diffusion-based generative models with scalable interpolant
#   transformers*, arXiv 2401.08740.
#
# **Now you:** [exercise 04](../exercises/04_scores_and_sdes.ipynb). It holds a museum of bugs from well-known code. You
# write the tests that catch them.
