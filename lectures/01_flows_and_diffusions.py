# %% [markdown]
# # 01. Flows and diffusions
#
# **The question.** A computer can draw Gaussian noise. How does it draw a picture of a seven?
#
# **The answer of this course.** It moves the noise. A velocity field, or a velocity field with some noise of its own,
# carries every noise point to a data point. This lecture is about such motions: when they exist, what they do to
# randomness, and how a computer follows them. Where the fields come from is the business of lectures 02 to 04. Until
# then we borrow one that is known in closed form.
#
# **Afterwards you can**
#
# - say what a flow is, prove that it exists, and name a field for which it does not;
# - say what Brownian motion and a stochastic differential equation are, and use Itô's formula;
# - solve the Ornstein–Uhlenbeck equation, and prove that Langevin dynamics keeps a density in place;
# - follow both kinds of motion with a computer, prove how fast the error falls, and measure that it does;
# - choose a solver for a given number of evaluations.
#
# **Time** about 115 minutes of reading, 50 if you skip the proofs (those marked *can be skipped* are best left for a
# second reading), 3 minutes of computing. **Before** calculus in several variables, expectation and variance, a
# little PyTorch.
#
# **Notation.** $u$ is a velocity, $f$ a drift, $g$ the strength of noise; $h$ is a step of time, $r \le t$ a time
# before $t$; $L$ is a Lipschitz constant; $m$ and $v$ are a mean and a variance; $s_t = \nabla \log p_t$ is a score.
# $\tau_n$ is an error of one step (in lecture 02 $\tau$ will be a clock), $\theta$ the strength of a spring.
#
# **How to read it.** The outputs are stored, so you can read this page as it is. To change something, run it from the
# top: *Run > Run All Cells*, then edit a cell and press Shift+Enter.

# %%
import io
import math
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from flowlib import GaussianPath, MixtureField, Trigonometric, sample_ode, sample_sde, solvers
from flowlib.course.notebook import fast, seeded, show_source
from flowlib.data import toy
from flowlib.metrics import energy_distance
from flowlib.plotting.style import ACCENT, BLUE, GREY, INK, PALE, SOLVERS
from flowlib.solvers import EVALUATIONS, STEPS, time_grid


def order(errors: list[float]) -> list[float]:
    """The orders measured between neighbours of a list of errors, each made with twice the steps of the one before."""
    return [round(math.log2(a / b), 2) for a, b in pairwise(errors)]


# %% [markdown]
# ## 1. Generation is sampling
#
# A picture with $d$ numbers is a point of $\mathbb R^d$. Pictures of digits are rare points: almost every point is
# static. We describe them by a distribution $p_{\text{data}}$ on $\mathbb R^d$, of which we know a finite number of
# samples $z$ and no formula. **To generate is to draw a new sample from $p_{\text{data}}$.** Not to find the most
# likely picture, and not to repeat one that was given.
#
# The distribution that we can sample is $p_0 = \mathcal N(0, I)$. So the plan is a *transport*: a motion
# $t \mapsto X_t$, $0 \le t \le 1$, that starts at $X_0 \sim p_0$ and ends at $X_1 \sim p_{\text{data}}$. Throughout
# the course **time runs from noise at $t = 0$ to data at $t = 1$**.
#
# Our first data set has two dimensions, so that it can be looked at: eight Gaussians on a ring. Its field is a
# `MixtureField`: exact, nothing was trained.

# %%
# alt: Left, a round cloud of black points around the origin; right, eight small clusters of points on a circle, each in
#   a colour of its own.
ring = MixtureField(*toy.mixture(torch.float64))
generator = seeded(0)
noise = torch.randn(1000, 2, generator=generator, dtype=torch.float64)
data, labels = ring.sample(1000, generator)

figure, axes = plt.subplots(1, 2, figsize=(7, 3.5), layout="constrained")
axes[0].scatter(*noise.T, s=3, color=INK)
axes[1].scatter(*data.T, s=3, c=labels, cmap="tab10", vmax=9)
axes[0].set_title("$t = 0$: noise, which we can draw")
axes[1].set_title("$t = 1$: data, of which we have samples")
for ax in axes:
    ax.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
plt.show()

# %% [markdown]
# ## 2. Flows
#
# A **velocity field** $u: \mathbb R^d \times [0, 1] \to \mathbb R^d$, $(x, t) \mapsto u_t(x)$, says how fast and in
# which direction a particle at $x$ moves at time $t$. Its paths solve the **ordinary differential equation** (ODE)
#
# $$\frac{d}{dt} x_t = u_t(x_t), \qquad x_0 \text{ given}.$$
#
# The map $\psi_t$ that sends each start $x_0$ to where it is at time $t$ is the **flow** of $u$. If $X_0$ is random,
# then $X_t = \psi_t(X_0)$ is random too, although nothing random has been added.
#
# *Example.* $u_t(x) = -\theta x$ has the flow $\psi_t(x) = e^{-\theta t} x$: differentiate and see.
#
# *Example.* Let the data be one Gaussian $\mathcal N(m, v I)$, and let $\alpha_t, \beta_t$ be a schedule, with
# $\alpha_0 = \beta_1 = 0$ and $\alpha_1 = \beta_0 = 1$. With $\sigma_t = \sqrt{\alpha_t^2 v + \beta_t^2}$ the map
#
# $$\psi_t(x) = \alpha_t m + \sigma_t x$$
#
# takes $\mathcal N(0, I)$ at $t = 0$ to $\mathcal N(m, v I)$ at $t = 1$. It is the flow of
# $u_t(x) = \dot\alpha_t m + \frac{\dot\sigma_t}{\sigma_t} (x - \alpha_t m)$: put $x = \psi_t(x_0)$ in, and out comes
# $\dot\psi_t(x_0)$. This is the field on which we shall measure solvers, because its exact answer is known.

# %%
m, v = 1.5, 0.25
gaussian = MixtureField(torch.tensor([[m]], dtype=torch.float64), math.sqrt(v), path=GaussianPath(Trigonometric()))


def spread(t: Tensor) -> Tensor:
    """sigma_t of the one Gaussian."""
    schedule = gaussian.path.schedule
    return torch.sqrt(schedule.alpha(t) ** 2 * v + schedule.beta(t) ** 2)


def exact_flow(x: Tensor, t: Tensor) -> Tensor:
    return gaussian.path.schedule.alpha(t) * m + spread(t) * x


starts = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
for t in torch.linspace(0.05, 0.95, 7, dtype=torch.float64):
    place, speed = torch.func.jvp(lambda t: exact_flow(starts, t), (t,), (torch.ones_like(t),))
    assert torch.allclose(speed, gaussian.u(place, t), atol=1e-10)

# %% [markdown]
# ### When does a flow exist?
#
# **Theorem 1 (Picard, Lindelöf).** Let $u$ be continuous, and Lipschitz in $x$ with one constant $L > 0$ for all
# times: $|u_t(x) - u_t(y)| \le L |x - y|$. Then for each $x_0$ the ODE has exactly one solution on $[0, 1]$. The map
# $\psi_t$ is a bijection, and $e^{-Lt} |x - y| \le |\psi_t(x) - \psi_t(y)| \le e^{Lt} |x - y|$.
#
# *Proof* (can be skipped). By the fundamental theorem of calculus, a continuous path $x$ solves the ODE with start
# $x_0$ exactly if it is a fixed point, $x = Px$, of
#
# $$(Px)_t = x_0 + \int_0^t u_r(x_r)\, dr.$$
#
# Measure the distance of two continuous paths by $\lVert x - y \rVert = \max_{t \in [0, 1]} e^{-2Lt} |x_t - y_t|$.
# With it the continuous paths are a complete space, as they are with the plain maximum, since the weight lies between
# $e^{-2L}$ and 1. And $P$ halves distances:
#
# $$e^{-2Lt} |(Px)_t - (Py)_t| \le e^{-2Lt} \int_0^t L\, e^{2Lr}\, e^{-2Lr} |x_r - y_r|\, dr
# \le \lVert x - y \rVert \; e^{-2Lt}\, \frac{e^{2Lt} - 1}{2} \le \tfrac12 \lVert x - y \rVert.$$
#
# A map that halves distances in a complete space has exactly one fixed point (Banach): the iterates
# $x, Px, P^2x, \dots$ of any path form a Cauchy sequence, its limit is fixed, and two fixed points would have at most
# half their distance.
#
# For the bounds let $\rho_t = |x_t - y_t|$ for two solutions. Then $\rho_t \le R_t := \rho_0 + L \int_0^t \rho_r\, dr$,
# and $\dot R_t = L \rho_t \le L R_t$, so $e^{-Lt} R_t$ does not increase: $\rho_t \le R_t \le e^{Lt} \rho_0$. (This is
# **Gronwall's lemma**.) The ODE run backwards from time $t$ has the field $-u$, with the same $L$. So there is
# exactly one path through each point $(x, t)$, which makes $\psi_t$ a bijection, and the same bound backwards is the
# left inequality. $\blacksquare$
#
# Two things follow that we shall use all the time. **Paths never cross**: a point at a time has one past and one
# future. And **flows can be undone**: solve the ODE from $t = 1$ to $t = 0$, and each data point returns to its
# noise.
#
# The proof is an algorithm. Replace the integral by a sum over a grid, and iterate. The sum
# $\sum_{j<i} h\, e^{2Lt_j}$ is less than the integral, because the integrand rises; so the discrete map halves
# distances too. Its fixed point obeys $x_{i+1} = x_i + h\, u_{t_i}(x_i)$: it is Euler's method, which we meet again
# in section 3.

# %%
# alt: Left, five grey curves over t, numbered 0 to 4, that swing above and below a red one and follow it for longer
#   with each number; right, on a logarithmic scale, their distance to it falls from 0.03 to 1e-10 in 15 iterations,
#   ever further below the dashed line of the bound.
L = 3.0
grid = time_grid(400)
h = grid[1]


def wave(x: Tensor, t: Tensor) -> Tensor:
    """A field with Lipschitz constant 3."""
    return torch.cos(3 * x) + torch.sin(5 * t)


def picard(x: Tensor) -> Tensor:
    """The map P on a path (401,), its integral replaced by the sum from the left."""
    return torch.cat([x[:1], x[0] + h * wave(x, grid)[:-1].cumsum(0)])


def distance(x: Tensor, y: Tensor) -> float:
    return float((torch.exp(-2 * L * grid) * (x - y).abs()).max())


iterates = [torch.full_like(grid, 0.5)]
for _ in range(40):
    iterates.append(picard(iterates[-1]))

euler = [iterates[0][0]]
for t in grid[:-1]:
    euler.append(euler[-1] + h * wave(euler[-1], t))
limit = torch.stack(euler)
assert torch.allclose(iterates[-1], limit, atol=1e-12)

gaps = [distance(x, limit) for x in iterates[:16]]
assert all(b <= a / 2 for a, b in pairwise(gaps))  # the contraction of the proof

figure, axes = plt.subplots(1, 2, figsize=(8, 3.1), layout="constrained")
for k in range(5):
    axes[0].plot(grid, iterates[k], color=GREY, alpha=0.35 + 0.15 * k, lw=1.2)
    axes[0].annotate(f"{k}", (1.01, float(iterates[k][-1])), color=GREY, va="center")
axes[0].plot(grid, limit, color=ACCENT, lw=2, label="the solution")
axes[0].set(xlabel="$t$", ylabel="$x_t$", title="Picard's iterates 0 to 4", xlim=(0, 1.06))
axes[0].legend(frameon=False)
axes[1].semilogy(gaps, "o-", color=ACCENT, ms=4, label="measured")
axes[1].semilogy([gaps[0] / 2**k for k in range(16)], "--", color=GREY, label="the theorem's bound")
axes[1].set(xlabel="iteration", ylabel="weighted distance to the solution", title="Each iteration halves it, or better")
axes[1].set_xticks(range(0, 16, 3))
axes[1].legend(frameon=False)
plt.show()

# %% [markdown]
# ### What paths that never cross can do
#
# In one dimension the two end distributions determine $\psi_1$ completely. Paths that do not cross keep their order,
# so $\psi_1$ is increasing; and it carries $p_0$ to $p_{\text{data}}$. So the start with 30 % of the noise on its
# left arrives where 30 % of the data are on its left:
#
# $$F_1(\psi_1(x)) = \Phi(x),$$
#
# with the distribution functions $\Phi$ of the noise and $F_1$ of the data. Below are two Gaussians of different
# weight. Grey is the density $p_t$. The paths split where they must, and no path crosses another.

# %%
# alt: Twenty-five red paths start evenly spread around 0, run side by side and split at about t = 0.6 into two bundles
#   at 0.9 and -1.2, without crossing; the grey density behind them splits in the same way.
line = MixtureField(
    torch.tensor([[-1.2], [0.9]], dtype=torch.float64), 0.25, torch.tensor([0.4, 0.6], dtype=torch.float64)
)
quantiles = (torch.arange(25, dtype=torch.float64) + 0.5) / 25
starts_line = math.sqrt(2) * torch.erfinv(2 * quantiles - 1)[:, None]
paths = sample_ode(line, starts_line, steps=120, method="rk4", trajectory=True)

normal = torch.distributions.Normal(0.0, 1.0)
arrived = (line.weights * normal.cdf((paths[-1] - line.means.T) / line.std)).sum(dim=1)
assert torch.allclose(arrived, quantiles, atol=1e-5)  # F_1(psi_1(x)) = Phi(x)
assert bool((paths.diff(dim=1) > 0).all())  # in order at all times

places = torch.linspace(-2.6, 2.6, 201, dtype=torch.float64)[:, None]
density = torch.stack([line.log_prob(places, float(t)).exp() for t in time_grid(100)], dim=1)


def draw_density(ax: plt.Axes) -> None:
    ax.imshow(density.sqrt(), origin="lower", extent=(0, 1, -2.6, 2.6), aspect="auto", cmap="Greys", vmax=1.6)
    ax.set(xlabel="$t$", ylabel="$x$", ylim=(-2.6, 2.6))


figure, ax = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
draw_density(ax)
ax.plot(time_grid(120), paths[:, :, 0], color=ACCENT, lw=1)
ax.set_title("A flow from one Gaussian to two: order is kept, quantiles go to quantiles")
plt.show()

# %% [markdown]
# How large is $L$ here? Large, as the next cell shows: between the two Gaussians neighbours part quickly. The theorem
# needs only that $L$ is finite, and its $e^L$ is far above what is measured. What makes it so loose is the constant:
# $L$ is the steepest slope at any time, in either direction. In one dimension the distance $\rho$ of two paths grows
# at the rate $u_t(x) - u_t(y) \le \ell_t\, \rho$ with $\ell_t = \max_x \partial_x u_t(x)$, the steepest slope *upwards*
# at the time $t$. So, as in Gronwall's lemma, neighbours part by at most $e^{\int_0^1 \ell_t\, dt}$. (In $d$
# dimensions $\ell_t$ is the largest eigenvalue of the symmetric part of the Jacobian.) That is within a factor of 5.
#
# If the data are *finitely many points*, even that is lost: then $\ell_t$ grows without bound as $t \to 1$. Samplers
# have to know that, and lecture 04 is about it.

# %%
points = torch.linspace(-2.6, 2.6, 2001, dtype=torch.float64)[:, None].requires_grad_()
slopes = torch.stack([torch.autograd.grad(line.u(points, float(t)).sum(), points)[0] for t in time_grid(100)])
steepest = float(slopes.abs().max())  # L
forecast = math.exp(torch.trapezoid(slopes.amax(dim=(1, 2)), dx=0.01))
close = torch.tensor([[-0.2541], [-0.2531]], dtype=torch.float64)  # either side of the parting
apart = sample_ode(line, close, steps=200, method="rk4").diff(dim=0).abs() / close.diff(dim=0).abs()
print(f"L = {steepest:.1f}: exp(L) = {math.exp(steepest):.0e}; with the slopes of each time {forecast:.2g}")
print(f"these two part by a factor of {apart.item():.0f}")
assert 29 < steepest < 30
assert apart < forecast < 5 * apart < 1e-6 * math.exp(steepest)

# %% [markdown]
# ### A field without a flow
#
# Let $u(x) = 2 \sqrt{|x|}$. It is continuous, but its slope is infinite at 0, so no $L$ serves. From $x_0 = 0$ the
# path may stay at 0 for ever. It may also leave at any time $c$ of its choice: $x_t = 0$ before $c$, and
# $x_t = (t - c)^2$ for $t \ge c$. Differentiate, and it solves the ODE. There is no flow, because the start does not
# determine the path. From a start $\delta > 0$ the path is $(\sqrt\delta + t)^2$. So two starts that differ by
# $10^{-12}$ end at distance 1. A computer that is asked for the path from 0 answers with what rounding leaves of that
# 0: here it stays, but from $10^{-300}$ it leaves.


# %%
# alt: Curves from four starts over t: the one from 0 stays at 0, while those from 1e-12 and 1e-4 climb together to 1
#   and the one from 0.01 climbs to 1.2.
def root(x: Tensor, t: Tensor) -> Tensor:
    return 2 * x.abs().sqrt()


def solve(method: str, f: solvers.Velocity, x: Tensor, times: Tensor) -> Tensor:
    """All states (N + 1, *x.shape) of a fixed-step method."""
    states = [x]
    for t, s in pairwise(times):
        states.append(STEPS[method](f, states[-1], t, s - t))
    return torch.stack(states)


clock = time_grid(2000)
for c in (0.0, 0.3, 0.7):  # many paths from one start
    waits, speed = torch.func.jvp(lambda t, c=c: (t - c).clamp_min(0) ** 2, (clock,), (torch.ones_like(clock),))
    assert torch.allclose(speed, root(waits, clock), atol=1e-12)

deltas = torch.tensor([0, 1e-12, 1e-4, 1e-2, 1e-300], dtype=torch.float64)
paths = solve("heun", root, deltas, clock)
assert torch.allclose(paths[-1, 1:4], (deltas[1:4].sqrt() + 1) ** 2, atol=2e-3)
assert paths[-1, 0] < 1e-6 < 0.9 < paths[-1, 4]

figure, ax = plt.subplots(figsize=(5.5, 2.9), layout="constrained")
for k, (colour, name) in enumerate([(INK, "0"), (ACCENT, "10^{-12}"), (BLUE, "10^{-4}"), (GREY, "10^{-2}")]):
    ax.plot(time_grid(2000), paths[:, k], color=colour, lw=2, label=f"$x_0 = {name}$")
ax.set(xlabel="$t$", ylabel="$x_t$", title=r"$\dot x = 2\sqrt{|x|}$: a start at 0 does not determine the path")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The other way to have no flow is to grow too fast: $\dot x = x^2$ from $x_0 = 1$ has the path $1/(1 - t)$, which
# becomes infinite at $t = 1$. A field with a global $L$ cannot do this, since it grows at most linearly in $|x|$.
#
# ## 3. Following an ODE
#
# Take a grid $0 = t_0 < \dots < t_N = 1$ with steps $h = 1/N$. The simplest idea is to pretend that the velocity is
# constant for the length of a step. In the library a solver is a function for one step:

# %%
show_source(solvers.euler)

# %% [markdown]
# How large is the error? There is one argument for all solvers. A method is a map $x_{n+1} = \Psi_h(x_n, t_n)$.
# Its **local error** is its error in one step from the right place: $\tau_n = |x_{t_{n+1}} - \Psi_h(x_{t_n}, t_n)|$.
#
# **Theorem 2.** Suppose that local errors are at most $C h^{p+1}$, and that a step parts neighbours by a factor of at
# most $1 + \Lambda h$: $|\Psi_h(x, t) - \Psi_h(y, t)| \le (1 + \Lambda h) |x - y|$. Then the error after the last
# step is at most
#
# $$\frac{C\,(e^{\Lambda} - 1)}{\Lambda}\; h^p.$$
#
# *Proof.* Let $e_n$ be the error after $n$ steps, $e_0 = 0$. Put the exact point through the method, and compare with
# both:
#
# $$e_{n+1} \le |x_{t_{n+1}} - \Psi_h(x_{t_n}, t_n)| + |\Psi_h(x_{t_n}, t_n) - \Psi_h(x_n, t_n)|
# \le C h^{p+1} + (1 + \Lambda h)\, e_n.$$
#
# By induction $e_N \le C h^{p+1} \sum_{k<N} (1 + \Lambda h)^k = C h^{p+1}\, \frac{(1 + \Lambda h)^N - 1}{\Lambda h}$,
# and $(1 + \Lambda h)^N \le e^{\Lambda h N} = e^\Lambda$. $\blacksquare$
#
# So $N$ local errors of size $h^{p+1}$ make one global error of size $h^p$: the **order** of the method is $p$.
#
# **Euler has order 1.** Let $u$ be continuously differentiable in $x$ and $t$. Then the path is twice differentiable,
# and by Taylor's formula $x_{t+h} = x_t + h u_t(x_t) + R$ with $|R| \le \frac{h^2}{2} M$, where $M$ bounds
# $|\ddot x|$ along the path. And $|x + h u_t(x) - y - h u_t(y)| \le (1 + L h) |x - y|$. So the error is at most
# $\frac{M (e^L - 1)}{2 L}\, h$.
#
# **Heun has order 2.** Write $u$ for $u_t(x_t)$, and $\nabla u$ for its Jacobian matrix in $x$. Along the path
# $\ddot x = \partial_t u + (\nabla u) u =: a$, so $x_{t+h} = x_t + h u + \frac{h^2}{2} a + O(h^3)$: a second
# derivative that a program does not know. But a second evaluation of the field contains it:
#
# $$u_{t+h}(x_t + h u) = u + h\, \partial_t u + h\, (\nabla u) u + O(h^2) = u + h a + O(h^2).$$
#
# The mean of the two slopes, times $h$, is $h u + \frac{h^2}{2} a + O(h^3)$: right up to a local error of $O(h^3)$.
# The step parts neighbours by at most $1 + Lh + \frac12 L^2 h^2 \le 1 + (L + \frac12 L^2) h$, so Theorem 2 gives
# order 2, for a field with two bounded derivatives. $\blacksquare$

# %%
show_source(solvers.heun)

# %% [markdown]
# ### Orders, measured
#
# A proof about a formula is not yet a proof about a program. So: the one Gaussian of section 2, whose flow is known;
# 41 starts; the largest error at $t = 1$; twice the steps again and again. An order $p$ shows as a slope of $-p$ in a
# doubly logarithmic plot, and as $\log_2$ of the ratio of neighbouring errors.

# %%
counts = [4, 8, 16, 32, 64, 128]
end = torch.tensor(1.0, dtype=torch.float64)
errors = {
    method: [
        float((solve(method, gaussian.u, starts, time_grid(n))[-1] - exact_flow(starts, end)).abs().max())
        for n in counts
    ]
    for method in STEPS
}
for method, expected in {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4}.items():
    print(f"{method:>8}: orders {order(errors[method])}")
    assert abs(order(errors[method])[-1] - expected) < 0.15

# Theorem 2's bound for Euler: the field is affine in x, with slope sigma'/sigma; x'' is known along the exact paths.
fine = time_grid(1000).requires_grad_()
(rate,) = torch.autograd.grad(torch.log(spread(fine)).sum(), fine)
L = float(rate.abs().max())
exact_paths = exact_flow(starts, time_grid(1000))  # (41, 1001)
M = float((exact_paths.diff(n=2, dim=1) * 1000**2).abs().max()) * 1.01  # differences of the exact path, and a margin
ones = torch.ones(1001, dtype=torch.float64)
_, bend = torch.func.jvp(
    lambda t: torch.func.jvp(lambda s: exact_flow(starts, s), (t,), (ones,))[1], (time_grid(1000),), (ones,)
)
assert 1 < M / float(bend.abs().max()) < 1.02  # bend is x''
bound = [M * math.expm1(L) / (2 * L) / n for n in counts]
assert all(limit / 20 < error <= limit for error, limit in zip(errors["euler"], bound, strict=True))

# %% [markdown]
# ### Why Heun
#
# With a network for a field, a step costs what its evaluations of the field cost, and everything else is free. So the
# fair axis is the number of evaluations: Heun pays two a step. On the right is the ring of eight Gaussians, a field
# with sharper turns, compared with a very fine solution.

# %%
# alt: Two logarithmic plots of errors. Left, straight lines against 4 to 128 steps: euler falls least, under a dashed
#   bound, midpoint and heun twice as steeply, rk4 down to 1e-9. Right, against 8 to 128 evaluations: rk4 starts as the
#   worst and ends far below all others, euler last.
budgets = [8, 16, 32, 64, 128]
few = noise[: 20 if fast else 100]


def errors_at_equal_cost(few: Tensor) -> dict[str, list[float]]:
    answer = solve("rk4", ring.u, few, time_grid(300))[-1]

    def error(method: str, budget: int) -> float:
        found = solve(method, ring.u, few, time_grid(budget // EVALUATIONS[method]))[-1]
        return float((found - answer).norm(dim=1).mean())

    return {method: [error(method, budget) for budget in budgets] for method in STEPS}


ring_errors = errors_at_equal_cost(few)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
for method in ("euler", "midpoint", "heun", "rk4"):
    colour = SOLVERS[method]
    axes[0].loglog(counts, errors[method], "o-", ms=4, color=colour, label=method)
    axes[1].loglog(budgets, ring_errors[method], "o-", ms=4, color=colour, label=method)
axes[0].loglog(counts, bound, "--", color=INK, lw=1, label="bound for euler")
axes[0].set(xlabel="steps", ylabel="largest error at $t = 1$", title="One Gaussian: the slope is the order")
axes[1].set(
    xlabel="evaluations of the field", ylabel="mean error at $t = 1$", title="Eight Gaussians: error against cost"
)
for ax, ticks in zip(axes, (counts, budgets), strict=True):
    ax.set_xticks(ticks, ticks)
    ax.minorticks_off()
    ax.legend(frameon=False)
plt.show()
print("evaluations " + "".join(f"{b:>10}" for b in budgets))
for method in STEPS:
    print(f"{method:>11} " + "".join(f"{error:>10.1e}" for error in ring_errors[method]))
if not fast:
    for found in (ring_errors, *(errors_at_equal_cost(noise[i : i + 100]) for i in (100, 200))):
        assert found["euler"][0] < found["rk4"][0]  # at 8 evaluations two steps of RK4 are too coarse
        for second in ("midpoint", "heun"):
            assert all(low < high / 2 for low, high in zip(found[second][1:], found["euler"][1:], strict=True))
            assert all(low < high for low, high in zip(found["rk4"][2:], found[second][2:], strict=True))

# %% [markdown]
# Read the right picture from left to right. At 8 evaluations the order says nothing: it is a statement about small $h$,
# and these steps are not small. From 16 on a second-order method is several times better than Euler. From 32 on, with a
# field as smooth as this one, the fourth order wins.
#
# A sampler of learned pictures lives at 10 to 50 evaluations, and its field has an error of its own, which no solver
# repairs: digits after the second are of no use. There the second order is the sensible choice. That it is Heun rather
# than the midpoint rule, which has smaller constants on both fields here, has practical reasons. Heun evaluates only at
# the times of the grid, so it can be used with a network that knows only these; and the first of its two slopes is
# Euler's step, so the difference of the two results estimates the error at no extra cost. Karras et al. (2022) tried
# the whole family, and Heun is what they and this library use by default. (In Exercise 01.2 you derive the family.)

# %% [markdown]
# ## 4. Brownian motion
#
# Now let the motion itself be random. Toss a coin at each step of length $h$ and go up or down by $a$. After time $t$
# there were $t/h$ independent steps, so the variance of the place is $\frac{t}{h} a^2$. As $h \to 0$ there is one
# choice of $a$ for which it neither vanishes nor explodes: $a = \sqrt h$. Then the variance is $t$, and by the
# central limit theorem the place is Gaussian. The limit is **Brownian motion** $W$:
#
# 1. $W_0 = 0$ and the path is continuous;
# 2. $W_t - W_r \sim \mathcal N(0, (t - r) I)$ for $r < t$;
# 3. increments over intervals that do not overlap are independent.
#
# (That such a process exists is a theorem of Wiener. We take it as given.) From 2 and 3, for $r \le t$ in one
# dimension, $\text{Cov}(W_r, W_t) = \text{Cov}(W_r, W_r) + \text{Cov}(W_r, W_t - W_r) = r$. So
# $\text{Cov}(W_r, W_t) = \min(r, t)$.
#
# **Remember the square root.** In a time $h$ Brownian motion moves by about $\sqrt h$, which is far more than $h$. So
# it has no velocity: $\mathbb E\, |\delta W / h|^2 = 1/h \to \infty$ for an increment $\delta W$ over $h$. And its
# squared increments do not vanish in the sum. In one dimension, cut $[0, t]$ into $N$ parts:
#
# $$Q_N = \sum_{n<N} (W_{t_{n+1}} - W_{t_n})^2,
# \qquad \mathbb E\, Q_N = t, \qquad \text{Var}\, Q_N = N \cdot 2 \Big(\frac tN\Big)^2
# = \frac{2 t^2}{N} \to 0,$$
#
# since the square of a $\mathcal N(0, v)$ variable has variance $2 v^2$. So $Q_N \to t$ in mean square: a **random
# sum with a sure limit**. For a smooth path the same sum tends to 0. In shorthand, $(dW)^2 = dt$.


# %%
# alt: Left, jagged random walks of 16, 256 and 4096 tosses spread out inside a red parabola that opens to the right;
#   right, eight grey lines, scattered at first, narrow to the value 1 between two dashed red curves.
def coins(steps: int, count: int, generator: torch.Generator) -> Tensor:
    """Random walks (steps + 1, count) on [0, 1], up or down by sqrt(h)."""
    toss = 2 * torch.randint(2, (steps, count), generator=generator).double() - 1
    return torch.cat([torch.zeros(1, count).double(), toss.cumsum(dim=0)]) / math.sqrt(steps)


generator = seeded(1)
refinements = [2**k for k in range(1, 15)]
increments = torch.randn(2**14, 8, generator=generator, dtype=torch.float64) * 2**-7  # of 8 paths, with h = 2^-14
squares = torch.stack([increments.reshape(n, -1, 8).sum(dim=1).square().sum(dim=0) for n in refinements])
assert bool(((squares[-1] - 1).abs() < 6 * math.sqrt(2 / 2**14)).all())  # six standard deviations

tossed = coins(256, 4000, seeded(17))[-1]
assert abs(float(tossed.var()) - 1) < 6 * math.sqrt(2 / 4000)

figure, axes = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained")
for steps, colour in [(16, PALE), (256, GREY), (4096, INK)]:
    axes[0].plot(torch.linspace(0, 1, steps + 1), coins(steps, 3, generator), color=colour, lw=0.8)
    axes[0].plot([], [], color=colour, label=f"{steps} tosses")
sure = torch.linspace(0, 1, 200)
axes[0].plot(sure, 2 * sure.sqrt(), color=ACCENT, lw=1.5, label=r"$\pm 2 \sqrt{t}$")
axes[0].plot(sure, -2 * sure.sqrt(), color=ACCENT, lw=1.5)
axes[0].set(xlabel="$t$", title=r"Coin tosses of size $\sqrt{h}$ tend to Brownian motion")
axes[0].legend(frameon=False, loc="upper left", fontsize=8)
axes[1].semilogx(refinements, squares, color=GREY, lw=1)
axes[1].semilogx(
    refinements, [1 + 2 * math.sqrt(2 / n) for n in refinements], "--", color=ACCENT, label="two deviations"
)
axes[1].semilogx(refinements, [1 - 2 * math.sqrt(2 / n) for n in refinements], "--", color=ACCENT)
axes[1].set(xlabel="parts $N$", ylabel="$Q_N$", ylim=(-0.5, 3.5), title="Sums of squared increments of 8 paths")
axes[1].legend(frameon=False)
plt.show()

# %% [markdown]
# ## 5. Stochastic differential equations
#
# Add Brownian motion to an ODE:
#
# $$dX_t = f(X_t, t)\, dt + g(X_t, t)\, dW_t,$$
#
# with the **drift** $f$ and the **diffusion coefficient** $g$. As $W$ has no velocity, this is short for an integral
# equation, $X_t = X_0 + \int_0^t f\, dr + \int_0^t g\, dW_r$. The last one is an **Itô integral**: the limit in mean
# square of the sums $\sum_n g(X_{t_n}, t_n) (W_{t_{n+1}} - W_{t_n})$, where $g$ is taken at the **left** end of each
# part, before the increment is known. Let the number $g$ at each time depend on the past only, with
# $\int_0^t \mathbb E\, g^2\, dr < \infty$. Then two rules follow, because each component of an increment has mean 0,
# variance $h$, and is independent of all that came before it. In $d$ dimensions
#
# $$\mathbb E \int_0^t g\, dW = 0, \qquad \mathbb E \Big| \int_0^t g\, dW \Big|^2 = d \int_0^t \mathbb E\, g^2\, dr
# \quad \text{(the It}\hat{\text{o}}\text{ isometry)},$$
#
# because each component of the integral has the variance $\int_0^t \mathbb E\, g^2\, dr$.
#
# The left end matters. For $\int_0^1 W\, dW$ the sums from the left and from the right differ by
# $\sum (W_{t_{n+1}} - W_{t_n})^2 = Q_N \to 1$. With an ordinary integrator they would differ by nothing.
#
# When the noise does not depend on the state (**additive noise**, $g = g_t$), existence follows from what we have
# proved.
#
# **Theorem 3.** Let $f$ be as $u$ in Theorem 1, and $g_t$ continuously differentiable. Then for each start and each
# continuous path of $W$ there is exactly one solution $X$.
#
# *Proof* (can be skipped). $G_t = \int_0^t g\, dW = g_t W_t - \int_0^t \dot g_r W_r\, dr$, by summation by parts, is
# a continuous function of time for each path of $W$. $X$ solves the SDE exactly if $Y = X - G$ solves
# $\dot Y_t = f(Y_t + G_t, t)$. The right-hand side is continuous, and Lipschitz in $Y$ with the same $L$. Theorem 1
# does the rest. $\blacksquare$
#
# When $g$ depends on the state and is Lipschitz too, the contraction is done in mean square, with the isometry in the
# place of the triangle inequality; see Øksendal (2003), theorem 5.2.1.
#
# ### Itô's formula
#
# What does a function $\varphi(x, t)$ do along such a path? Expand it over a step, in one dimension, with $\delta$
# for increments over the step:
#
# $$\delta\varphi = \partial_t\varphi\, h + \varphi'\, \delta X + \tfrac12 \varphi''\, (\delta X)^2 + \dots,
# \qquad \delta X = f h + g\, \delta W + \dots$$
#
# In ordinary calculus the square is of size $h^2$ and is dropped. Here it contains $g^2 (\delta W)^2$, of size $h$,
# and that stays. Its sum $\sum \frac12 \varphi'' g^2 (\delta W)^2$ has the same limit as
# $\sum \frac12 \varphi'' g^2 h$: the difference is a sum of $1/h$ terms with mean 0, uncorrelated, each with variance
# of size $h^2$, so its variance is of size $h$. All other terms are of size $h^{3/2}$ or less: those with one factor
# $\delta W$ have mean 0 and variances that add up to at most $h^2$, and the others are sums of $1/h$ terms of size
# $h^{3/2}$. That is the reason for
#
# $$d\varphi(X_t, t) = \Big( \partial_t \varphi + f \cdot \nabla\varphi + \frac{g^2}{2} \Delta\varphi \Big) dt +
# g\, \nabla\varphi \cdot dW_t
# \qquad \text{(It}\hat{\text{o}}\text{'s formula)}$$
#
# in $d$ dimensions, with a scalar $g$ and the Laplacian $\Delta$, for $\varphi$ with two continuous derivatives in
# $x$ and one in $t$. It is the chain rule, and one term more.
#
# *Example.* $d(W^2) = 2 W\, dW + dt$, so $\int_0^1 W\, dW = \frac12 (W_1^2 - 1)$, with a $-1$ that ordinary
# calculus does not have. Measured, and with it the isometry in the plane for $g_t = |W_t|$, where
# $\mathbb E \big| \int_0^1 |W|\, dW \big|^2 = 2 \int_0^1 \mathbb E\, |W_t|^2\, dt = 2 \int_0^1 2t\, dt = 2$:

# %%
W = torch.cat([torch.zeros(1, 8).double(), increments.cumsum(dim=0)])
left, right = (W[:-1] * increments).sum(dim=0), (W[1:] * increments).sum(dim=0)
print("from the left    ", left[:4].numpy().round(3))
print("Itô's formula    ", ((W[-1] ** 2 - 1) / 2)[:4].numpy().round(3))
print("from the right   ", right[:4].numpy().round(3))
assert torch.allclose(left, (W[-1] ** 2 - 1) / 2, atol=3 * math.sqrt(2 / 2**14))  # half of Q_N's six deviations
assert torch.allclose(right - left, torch.ones(8).double(), atol=6 * math.sqrt(2 / 2**14))

plane = torch.randn(200, 20_000, 2, generator=seeded(10), dtype=torch.float64) / math.sqrt(200)
before = plane.cumsum(dim=0) - plane  # W at the left end of each of 200 parts
squared = (before.norm(dim=2, keepdim=True) * plane).sum(dim=0).square().sum(dim=1)
print(f"isometry in the plane: {squared.mean():.3f}, exact {2 * (1 - 1 / 200):.3f} with 200 parts")
assert abs(squared.mean() - 2 * (1 - 1 / 200)) < 4.5 * squared.std() / math.sqrt(20_000)

# %% [markdown]
# ## 6. Ornstein–Uhlenbeck: an SDE that can be solved
#
# $$dX_t = -\theta X_t\, dt + g\, dW_t, \qquad \theta, g > 0 \text{ constant}.$$
#
# A spring pulls to 0, and noise kicks. (In this section and the next time has no end at 1.) Apply Itô's formula to
# $\varphi(x, t) = e^{\theta t} x$. The second derivative is 0, the spring cancels, and what remains can be
# integrated:
#
# $$d(e^{\theta t} X_t) = e^{\theta t} (\theta X_t - \theta X_t)\, dt + g\, e^{\theta t}\, dW_t
# \quad\Longrightarrow\quad X_t = e^{-\theta t} x_0 + g \int_0^t e^{-\theta (t - r)}\, dW_r.$$
#
# The integral is a limit of sums of independent Gaussians, so it is Gaussian. Its mean is 0, and the isometry gives
# the variance of each component, $g^2 \int_0^t e^{-2\theta (t - r)}\, dr$. Hence the exact law:
#
# $$X_t \sim \mathcal N \Big( e^{-\theta t} x_0,\; \frac{g^2}{2\theta} \big(1 - e^{-2\theta t}\big) I \Big)
# \;\longrightarrow\; \mathcal N \Big( 0, \frac{g^2}{2\theta} I \Big) \quad (t \to \infty).$$
#
# **What it has to do with generation.** Choose $g^2 = 2\theta$ and, for once, let time run the other way, from data
# to noise: start at a data point $z$. Then $X_t = \alpha z + \beta \varepsilon$ in law, with $\alpha = e^{-\theta t}$
# and $\beta = \sqrt{1 - \alpha^2}$: data slowly become noise. Run it backwards, and noise becomes data. That is the
# idea of diffusion models (Song et al. 2021); what "backwards" means for an SDE is shown in lecture 04.
#
# The picture simulates the equation with steps of $h = 0.01$, by a method that section 8 is about, and compares with
# the exact law.

# %%
# alt: Left, six jagged paths fall from 2 towards 0 around a smooth red mean, inside a grey band; right, three
#   histograms at t = 0.2, 0.6 and 3, which move left and widen, each under the curve of its exact density.
theta, g, start, h, steps = 1.5, 0.8, 2.0, 0.01, 300
generator = seeded(2)
x = torch.full((4000,), start, dtype=torch.float64)
states = [x]
for _ in range(steps):
    x = x - h * theta * x + g * math.sqrt(h) * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    states.append(x)
walks = torch.stack(states)
times = h * torch.arange(steps + 1, dtype=torch.float64)
mean = start * torch.exp(-theta * times)
std = g * torch.sqrt(-torch.expm1(-2 * theta * times) / (2 * theta))
# Six standard errors of a mean and of a variance of 4000, and a few h for the error of the method (see section 8).
assert bool(((walks.mean(dim=1) - mean).abs() < 6 * std / math.sqrt(4000) + 2 * h).all())
assert bool(((walks.var(dim=1)[1:] / std[1:] ** 2 - 1).abs() < 6 * math.sqrt(2 / 4000) + 2 * h).all())

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", width_ratios=(3, 2))
axes[0].fill_between(times, mean - 2 * std, mean + 2 * std, color=PALE, label="exact mean ± 2 std")
axes[0].plot(times, walks[:, :6], color=GREY, lw=0.7)
axes[0].plot(times, mean, color=ACCENT, lw=2, label="exact mean")
axes[0].set(xlabel="$t$", ylabel="$X_t$", title="Ornstein–Uhlenbeck: six paths and the exact law")
axes[0].legend(frameon=False)
places = torch.linspace(-1.8, 2.3, 300, dtype=torch.float64)
for k, colour in [(20, GREY), (60, INK), (300, ACCENT)]:
    axes[1].hist(walks[k], bins=60, density=True, color=colour, alpha=0.3)
    law = torch.distributions.Normal(mean[k], std[k])
    axes[1].plot(places, law.log_prob(places).exp(), color=colour, label=f"$t = {float(times[k]):g}$")
axes[1].set(xlabel="$x$", ylabel="density", title="Simulated and exact")
axes[1].legend(frameon=False)
plt.show()

# %% [markdown]
# ## 7. Langevin dynamics: a motion that keeps a density
#
# The stationary law of Ornstein–Uhlenbeck, $p = \mathcal N(0, \frac{g^2}{2\theta} I)$, has the **score**
# $\nabla \log p(x) = -\frac{2\theta}{g^2} x$. So its drift is $-\theta x = \frac{g^2}{2} \nabla \log p(x)$. Do
# the same for any smooth density $p > 0$ whose score is Lipschitz:
#
# $$dX_t = \frac{g^2}{2} \nabla \log p(X_t)\, dt + g\, dW_t \qquad \text{(Langevin dynamics).}$$
#
# **Theorem 4.** Let $p > 0$ be smooth, with a Lipschitz score. If $X_0 \sim p$, then $X_t \sim p$ for all $t$.
#
# *Proof.* The density $q_t$ of a solution of $dX = f\, dt + g\, dW$, with $g = g_t$, obeys the **Fokker–Planck
# equation**
#
# $$\partial_t q = -\nabla \cdot (f q) + \frac{g^2}{2} \Delta q.$$
#
# It is proved in lecture 02; here we use it. Put $f = \frac{g^2}{2} \nabla \log p$ and $q = p$ into its right-hand
# side. Since $p\, \nabla \log p = \nabla p$,
#
# $$-\nabla \cdot \Big( \frac{g^2}{2}\, p\, \nabla \log p \Big) + \frac{g^2}{2} \Delta p
# = -\frac{g^2}{2} \nabla \cdot \nabla p + \frac{g^2}{2} \Delta p = 0.$$
#
# So $q_t = p$ for all $t$ solves the equation with the right start. As the drift is Lipschitz, no other density does:
# a theorem that we only quote (lecture 02, section 5, says from where). So $p$ is the density of $X_t$.
# $\blacksquare$
#
# Note what is needed: the score, and not the density. A factor in front of $p$ does not matter.
#
# ### Why generation needs more than this
#
# Under mild conditions any start converges to $p$ (Roberts & Tweedie 1996). So why not start from noise, follow the
# score of the data, and be done? Because of the time it takes. To get from one group of data to another a path must
# cross a region where $p$ is nearly 0, and there the score pushes it back. At first each group gets the starts that
# happen to lie near it; the right shares come much later.
#
# The experiment, three times: eight Gaussians with *unequal* weights $1 : 2 : \dots : 8$. Langevin dynamics with the
# exact score (of the data with a trace of noise, $p_t$ at $t = 0.99$) against the ODE, both from the same Gaussian
# noise.

# %%
# alt: Two scatter plots of eight clusters on a ring: grey ones of nearly equal size by Langevin dynamics, red ones that
#   grow around the ring by the ODE. In the bar chart beside them the red bars nearly reach the marks of the exact
#   weights, the grey ones are all of about the same height.
means, std_ring, _ = toy.mixture(torch.float64)
weights = torch.arange(1, 9, dtype=torch.float64) / 36
unequal = MixtureField(means, std_ring, weights)
h = 0.004


def langevin_and_ode(seed: int) -> dict[str, Tensor]:
    """Where Langevin dynamics and the ODE take the same noise."""
    generator = seeded(seed)
    x = begin = torch.randn(200 if fast else 2000, 2, generator=generator, dtype=torch.float64)
    for _ in range(50 if fast else 500):
        x = x + h * unequal.s(x, 0.99) + math.sqrt(2 * h) * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return {"Langevin, 500 evaluations": x, "ODE, 40 evaluations": sample_ode(unequal, begin, steps=20, method="heun")}


def component(points: Tensor) -> Tensor:
    """Which of the eight means is nearest to each point."""
    return torch.cdist(points, means).argmin(dim=1)


def shares(points: Tensor) -> Tensor:
    return torch.bincount(component(points), minlength=8) / len(points)


for seed in (11, 12, 3):
    ends = langevin_and_ode(seed)
    wrong = {name: float((shares(points) - weights).abs().sum() / 2) for name, points in ends.items()}
    print("in the wrong place: " + ", ".join(f"{name}: {share:.1%}" for name, share in wrong.items()))
    if not fast:
        assert 0.15 < wrong["Langevin, 500 evaluations"] < 0.25
        assert wrong["ODE, 40 evaluations"] < 0.035
        for points in ends.values():  # good samples, one by one: about as far from the nearest mean as data are
            away = float((points - means[component(points)]).square().mean() / std_ring[0] ** 2)
            assert 0.9 < away < 1.25

figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained", width_ratios=(1, 1, 1.3))
for ax, (name, points), colour in zip(axes, ends.items(), (GREY, ACCENT), strict=False):
    ax.scatter(*points.T, s=2, color=colour, rasterized=True)
    ax.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal", title=name, xlabel="$x_1$", ylabel="$x_2$")
for shift, (name, points), colour in zip((-0.2, 0.2), ends.items(), (GREY, ACCENT), strict=True):
    axes[2].bar(torch.arange(8) + shift, shares(points), width=0.4, color=colour, label=name.split(",")[0])
axes[2].plot(range(8), weights, "_", color=INK, ms=18, mew=2, label="exact weight")
axes[2].set(xticks=range(8), xlabel="component", ylabel="share of the samples", title="Right places, wrong shares")
axes[2].legend(frameon=False)
plt.show()

# %% [markdown]
# Each of Langevin's points is a good sample, and together they are the wrong distribution. A motion whose target
# *changes* with time does better: it begins at noise, where everything is connected, and sorts out the shares before
# the groups part. That is what $u_t$ does. As a *corrector*, a few steps at each $t$ towards $p_t$, Langevin
# dynamics comes back in lecture 04.
#
# ## 8. Following an SDE
#
# Euler's idea again. Hold $f$ and $g$ for the length of a step; the increment of $W$ is $\sqrt h\, \xi$ with a fresh
# $\xi \sim \mathcal N(0, I)$:
#
# $$x_{n+1} = x_n + h f(x_n, t_n) + \sqrt h\, g(x_n, t_n)\, \xi_n \qquad \text{(Euler–Maruyama).}$$
#
# There are now two questions.
#
# - **Weak error**: is the *distribution* right? It compares expectations,
#   $|\mathbb E\, \varphi(x_N) - \mathbb E\, \varphi(X_1)|$.
# - **Strong error**: is each *path* right, if method and equation see the same $W$? It is
#   $(\mathbb E\, |x_N - X_1|^2)^{1/2}$.
#
# A generator of pictures needs only the first. The second says what a step does, and is needed to understand why
# noise that depends on the state is harder.
#
# ### Weak order 1, without any sampling
#
# For Ornstein–Uhlenbeck one step is $x_{n+1} = (1 - \theta h) x_n + g \sqrt h\, \xi_n$, with $\xi_n$ independent of
# $x_n$. So mean and variance follow *exact recursions*,
#
# $$m_{n+1} = (1 - \theta h)\, m_n, \qquad v_{n+1} = (1 - \theta h)^2\, v_n + g^2 h,$$
#
# and the law is Gaussian: nothing else is to be known, and there is no Monte Carlo error. Now
# $v_{n+1} = v_n + h (g^2 - 2 \theta v_n) + \theta^2 h^2 v_n$: these are Euler's method for $\dot m = -\theta m$ and
# $\dot v = g^2 - 2\theta v$, up to a term of size $h^2$ a step. Their solutions are the exact moments of section 6,
# so Theorem 2 with $p = 1$ says: **both errors are $O(h)$**. For the mean even the constant is known. From
# $\log (1 - \theta h) = -\theta h - \frac12 \theta^2 h^2 - \dots$ and $h = T/N$,
#
# $$m_N = x_0\, (1 - \theta h)^N = x_0\, e^{-\theta T} \Big( 1 - \frac{\theta^2 T}{2} h + O(h^2) \Big).$$
#
# (For general smooth $f$ and $g$ and smooth $\varphi$ the weak order is 1 too: Talay & Tubaro 1990.)
#
# The same recursion says what becomes of Theorem 4 in a computer. The equation of Langevin dynamics keeps $p$ in place;
# its steps do not. In Exercise 01.7 you find out what they keep instead.


# %%
def moments(n: int, theta: float = 1.5, g: float = 0.8, start: float = 2.0) -> tuple[float, float]:
    """Mean and variance of n steps of Euler-Maruyama for Ornstein-Uhlenbeck on [0, 1]."""
    mean, variance, h = start, 0.0, 1 / n
    for _ in range(n):
        mean, variance = (1 - theta * h) * mean, (1 - theta * h) ** 2 * variance + g**2 * h
    return mean, variance


exact = (2.0 * math.exp(-1.5), 0.8**2 / 3.0 * -math.expm1(-3.0))
counts = [8, 16, 32, 64, 128, 256]
weak_mean, weak_variance = ([abs(moments(n)[k] - exact[k]) for n in counts] for k in (0, 1))
print("weak orders: mean", order(weak_mean), "variance", order(weak_variance))
assert abs(order(weak_mean)[-1] - 1) < 0.1
assert abs(order(weak_variance)[-1] - 1) < 0.1
assert abs(weak_mean[-1] * 256 / (exact[0] * 1.5**2 / 2) - 1) < 0.05  # the constant of the derivation

# %% [markdown]
# ### Strong order: 1 for additive noise, 1/2 in general
#
# A step holds $f$ fixed while $X$ moves by about $\sqrt h$ in the time $h$. So it errs by $h \cdot \sqrt h = h^{3/2}$,
# which is worse than Euler's $h^2$. But if the noise is additive, $g = g_t$, these errors have mean zero given the
# past, up to $h^2$. $N$ of them add up like a random walk, to $\sqrt N\, h^{3/2} = h$ and not to $N h^{3/2} = \sqrt h$:
# **strong order 1**. (The theorem and its proof are in the appendix: a sampler of pictures does not need them.)
#
# If $g$ depends on the state, a step holds $g$ fixed while $X$ moves by $g\, \delta W$, and misses
# $\int g g' (W_r - W_{t_n})\, dW_r$, of size $h$ and not $h^{3/2}$. As a random walk these add up to
# $\sqrt N h = \sqrt h$: **strong order 1/2**.
#
# Both can be measured against a path that is known exactly in terms of $W$. By Itô's formula
#
# - $X_t = e^{-t} (x_0 + W_t)$ solves $dX = -X\, dt + e^{-t}\, dW$ (additive);
# - $X_t = x_0 \exp\big((\mu - \frac{g^2}{2}) t + g W_t\big)$ solves $dX = \mu X\, dt + g X\, dW$ (multiplicative).
#
# One fine Brownian path serves all step sizes: a coarse increment is a sum of fine ones. For the second equation the
# weak error needs no sampling either: step by step,
# $\mathbb E\, x_{n+1}^2 = ((1 + \mu h)^2 + g^2 h)\, \mathbb E\, x_n^2$.

# %%
# alt: Four falling lines on logarithmic axes, errors against 8 to 256 steps: the strong error with multiplicative noise
#   falls half as steeply as the other three.
mu, vol = 0.5, 0.8
fine, paths = 1024, 500 if fast else 4000
dW = torch.randn(fine, paths, generator=seeded(4), dtype=torch.float64) / math.sqrt(fine)
total = dW.sum(dim=0)
additive_exact = math.exp(-1) * (1 + total)
multiplicative_exact = torch.exp((mu - vol**2 / 2) + vol * total)

counts = [8, 16, 32, 64, 128, 256]
additive, multiplicative, weak_second = [], [], []
for n in counts:
    x, y, h = torch.ones(paths).double(), torch.ones(paths).double(), 1 / n
    for k, step in enumerate(dW.reshape(n, -1, paths).sum(dim=1)):
        x = x - h * x + math.exp(-k * h) * step
        y = y + h * mu * y + vol * y * step
    additive.append(float((x - additive_exact).square().mean().sqrt()))
    multiplicative.append(float((y - multiplicative_exact).square().mean().sqrt()))
    weak_second.append(abs(((1 + mu * h) ** 2 + vol**2 * h) ** n - math.exp(2 * mu + vol**2)))
print("strong orders, additive noise      ", order(additive))
print("strong orders, multiplicative noise", order(multiplicative))
print("weak orders, multiplicative noise  ", order(weak_second))
if not fast:
    assert abs(order(additive)[-1] - 1) < 0.15
    assert abs(order(multiplicative)[-1] - 0.5) < 0.15
assert abs(order(weak_second)[-1] - 1) < 0.1

figure, ax = plt.subplots(figsize=(6.2, 3.5), layout="constrained")
ax.loglog(counts, multiplicative, "s-", ms=4, color=ACCENT, label="strong, multiplicative noise")
ax.loglog(counts, additive, "o-", ms=4, color=INK, label="strong, additive noise")
ax.loglog(counts, weak_second, "s--", ms=4, color=ACCENT, alpha=0.5, label="weak (second moment), multiplicative")
ax.loglog(counts, weak_variance, "o--", ms=4, color=GREY, label="weak (variance), Ornstein–Uhlenbeck")
ax.set(xlabel="steps", ylabel="error at $t = 1$", title="Euler–Maruyama: strong order 1 or 1/2, weak order 1")
ax.set_xticks(counts, counts)
ax.minorticks_off()
ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## 9. Noise flows to eight Gaussians
#
# All samplers of the library are these loops, over any field. Without its bookkeeping `sample_ode` is two lines, with
# Euler's step, or Heun's, or one of these two:

# %%
show_source(solvers.midpoint, solvers.rk4)

# %%
x = few
for t, later in pairwise(time_grid(20)):
    x = solvers.rk4(ring.u, x, t, later - t)
assert torch.allclose(x, sample_ode(ring, few, steps=20, method="rk4"), atol=1e-12)

# %% [markdown]
# `sample_sde` is Euler–Maruyama for
#
# $$dX_t = \Big[ u_t(X_t) + \frac{g_t^2}{2} s_t(X_t) \Big] dt + g_t\, dW_t, \qquad s_t = \nabla \log p_t.$$
#
# You know both parts: the drift $u$ carries $p_0$ to $p_1$, and the rest is Langevin dynamics for the $p_t$ of the
# moment, which by Theorem 4 would keep $p_t$ in place. Together they have **the same distribution at each time,
# whatever continuous $g$ is taken**, if the score grows at most linearly. The proof is in lecture 02. Here is the
# measurement: the same field, with and without noise, on a line and on the ring. By default
# $g^2 = 2\beta_t (\dot\alpha_t \beta_t - \alpha_t \dot\beta_t)$, which vanishes at the data.

# %% tags=["draw"]
# alt: Two panels over the same grey density that splits in two: on the left 25 smooth red paths that never cross, on
#   the right 25 jagged red paths that cross often and end in the same two bundles.
generator = seeded(5)
flow_paths = sample_ode(line, starts_line, steps=240, method="heun", trajectory=True)
noisy_paths = sample_sde(line, starts_line, steps=240, generator=generator, trajectory=True)

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharey=True)
for ax, paths, title in zip(axes, (flow_paths, noisy_paths), ("ODE: a flow", "SDE: a diffusion"), strict=True):
    draw_density(ax)
    ax.plot(time_grid(240), paths[:, :, 0], color=ACCENT, lw=0.9)
    ax.set_title(f"{title}, from the same 25 starts")
plt.show()

if not fast:
    small = Figure(figsize=(3.2, 2.0), layout="constrained")
    for ax, paths in zip(small.subplots(1, 2), (flow_paths, noisy_paths), strict=True):
        draw_density(ax)
        ax.plot(time_grid(240), paths[:, :, 0], color=ACCENT, lw=0.7)
        ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
    small.savefig("images/01.png", dpi=100)

# %% [markdown]
# The clouds agree and the paths do not. On the left order is kept. On the right paths cross freely: an SDE has no
# flow, and a start has no fixed end.
#
# **How far apart are two sets of samples?** Here and later we measure by the **energy distance** of two laws (Székely
# & Rizzo 2013),
#
# $$\mathcal E = 2\, \mathbb E\, |x - y| - \mathbb E\, |x - x'| - \mathbb E\, |y - y'|,$$
#
# with $x, x'$ from the one, $y, y'$ from the other, all independent. It is never negative, and 0 only if the laws are
# equal. For sets of $N$ and $M$ points the means run over all pairs, also of a point with itself. Such a pair has
# distance 0, so two sets *of one law* do not have the distance 0 but on average
#
# $$\mathbb E\, |x - x'|\, \Big( \frac1N + \frac1M \Big) .$$
#
# We call this mean the **floor**. One number below the floor, or a little above it, says how many samples there are,
# and not how good they are. So below we look at the mean of several draws, and at two things that a Gaussian's samples
# must have: the right width, and the right share.

# %%
count = 200 if fast else 2000


def width_and_share(points: Tensor) -> tuple[float, float]:
    """Variance about the nearest mean, over that of the data; and the share of points at the first four means."""
    away = (points - means[component(points)]).square().mean() / std_ring[0] ** 2
    return float(away), float((component(points) < 4).double().mean())


ratios = {"ODE": [], "SDE": []}
for seed in (6, 13, 14):
    generator = seeded(seed)
    noise = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    reference, _ = ring.sample(count, generator)
    floor = 2 / count * float(torch.cdist(reference, reference).mean())  # E|x - x'| (1/N + 1/N)
    for name, found in {
        "ODE": sample_ode(ring, noise, steps=20 if fast else 50, method="heun"),
        "SDE": sample_sde(ring, noise, steps=50 if fast else 200, generator=generator),
    }.items():
        ratios[name].append(energy_distance(found, reference) / floor)
        width, share = width_and_share(found)
        assert abs(width - 1) < 4.5 / math.sqrt(count) + 0.02  # its standard error is 1 / sqrt(count)
        assert abs(share - 0.5) < 4.5 * 0.5 / math.sqrt(count)
print({name: "energy distance / floor " + ", ".join(f"{r:.1f}" for r in values) for name, values in ratios.items()})
assert all(sum(values) / 3 < 2 for values in ratios.values())
pairs = ring.sample(80 * 200, seeded(20))[0].reshape(40, 2, 200, 2)  # 40 times two sets of 200: the floor itself
assert abs(sum(energy_distance(*pair) for pair in pairs) / 40 / (floor * count / 200) - 1) < 0.3

same = noise[:1].expand(400, 2)  # one start
reached = component(sample_sde(ring, same, steps=100, generator=generator)).bincount(minlength=8)
print(f"400 copies of one start: the ODE takes them to one of the Gaussians, the SDE to all: {reached.tolist()}")
assert reached.min() > 0

there = solve("rk4", ring.u, few, time_grid(100))[-1]
back = solve("rk4", ring.u, there, time_grid(100).flip(0))[-1]
assert float((back - few).abs().max()) < 1e-3  # the flow can be undone

# %% [markdown]
# The animation follows 400 points and six chosen starts, the same on both sides.


# %% tags=["draw"]
def animation(left: Tensor, right: Tensor, chosen: int, name: str) -> None:
    """A GIF of two trajectories (T, N, 2) side by side; the first `chosen` points trail their paths."""
    figure = Figure(figsize=(7, 3.7), layout="constrained")
    clouds, trails, heads = [], [], []
    for ax, title in zip(figure.subplots(1, 2), ("ODE", "SDE"), strict=True):
        ax.set(xlim=(-2.7, 2.7), ylim=(-2.7, 2.7), aspect="equal", xticks=[], yticks=[])
        ax.set_title(title, color=INK)
        ax.spines[:].set_color(PALE)
        clouds.append(ax.scatter([], [], s=4, color=GREY, linewidths=0))
        trails.append([ax.plot([], [], color=f"C{k}", lw=1.3)[0] for k in range(chosen)])
        heads.append(ax.scatter(*left[0, :chosen].T, s=28, color=[f"C{k}" for k in range(chosen)], zorder=3))
    frames = []
    for i in range(len(left)):
        for cloud, lines, head, states in zip(clouds, trails, heads, (left, right), strict=True):
            cloud.set_offsets(states[i, chosen:])
            head.set_offsets(states[i, :chosen])
            for k, path in enumerate(lines):
                path.set_data(*states[: i + 1, k].T)
        figure.suptitle(f"t = {i / (len(left) - 1):.2f}", family="monospace", fontsize=11)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=80)
        frames.append(Image.open(buffer).convert("RGB"))
    palette = frames[-1].quantize(48)  # one for all frames: colours do not flicker
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    times = [70] * (len(frames) - 1) + [2500]
    frames[0].save(f"images/{name}.gif", save_all=True, append_images=frames[1:], duration=times, loop=0)


if not fast:
    generator = seeded(7)
    angles = torch.arange(6, dtype=torch.float64) * (math.pi / 3) + 0.3
    chosen = 0.9 * torch.stack([angles.cos(), angles.sin()], dim=1)
    cloud = torch.cat([chosen, torch.randn(400, 2, generator=generator, dtype=torch.float64)])
    ode_states = sample_ode(ring, cloud, steps=50, method="heun", trajectory=True)
    sde_states = sample_sde(ring, cloud, steps=200, generator=generator, trajectory=True)[::4]
    animation(ode_states, sde_states, 6, "01_ode_and_sde")

# %% [markdown]
# ![Noise moves to eight Gaussians: left along the ODE, right along the SDE](images/01_ode_and_sde.gif)
#
# ## 10. Change this
#
# **Predict first.** Below, at most `budget` evaluations of the field are spent on the ring, by four samplers. With 50
# they are all good. Which is best with 10, and which is worst? With 6? Does the SDE need more steps than the ODE, or
# fewer? Write your guess down, change the number, run the cell. (A step of RK4 costs four evaluations, and there are
# only whole steps: it can spend 48 of 50, 8 of 10, and 4 of 6.)

# %%
# alt: Four nearly equal rings of eight black clusters, by Euler, Heun, RK4 and Euler–Maruyama.
budget = 50


def spend(budget: int, seed: int = 8, noise: Tensor = noise) -> dict[str, tuple[int, Tensor]]:
    """The evaluations that each sampler made, and its samples."""
    answers = {}
    for name, method in {"Euler": "euler", "Heun": "heun", "RK4": "rk4"}.items():
        steps = max(1, budget // EVALUATIONS[method])
        answers[name] = steps * EVALUATIONS[method], sample_ode(ring, noise, steps=steps, method=method)
    answers["Euler–Maruyama"] = budget, sample_sde(ring, noise, steps=budget, generator=seeded(seed))
    return answers


def score(points: Tensor) -> float:
    return energy_distance(points, reference) / floor


figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for ax, (name, (evaluations, points)) in zip(axes, spend(budget).items(), strict=True):
    ax.scatter(*points.T, s=1, color=INK, rasterized=True)
    ax.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal", xticks=[], yticks=[])
    ax.set_title(f"{name}, {evaluations} evaluations\n{score(points):.1f} x the floor", fontsize=10)
plt.show()

# %% [markdown]
# <details>
# <summary><b>When you have run it with 10 and with 6</b></summary>
#
# With 10 the fourth-order method, with its two steps, is the worst by far, and with 6, when it has one step, it is
# of no use. Euler–Maruyama beats Euler both times, and with 6 it is the best of the four: noise does not only cost
# accuracy. It also forgets, as Ornstein–Uhlenbeck forgets its start, and among the things it forgets are the errors
# of earlier steps. Lecture 04 comes back to that.
#
# </details>

# %%
if not fast:  # what the folded text says
    for seed in (8, 15, 16):
        fresh = torch.randn(count, 2, generator=seeded(seed), dtype=torch.float64)
        for small_budget in (10, 6):
            scores = {name: score(points) for name, (_, points) in spend(small_budget, seed, fresh).items()}
            assert scores["RK4"] > 2 * max(value for name, value in scores.items() if name != "RK4")
            assert scores["Euler–Maruyama"] < scores["Euler"]
        assert min(scores, key=scores.get) == "Euler–Maruyama"

# %% [markdown]
# ## 11. What fails, and why
#
# Four mistakes that are easy to make, and what each does. The first three leave a program that runs, and pictures
# that look like something.
#
# - **The root forgotten**: $h\, \xi$ instead of $\sqrt h\, \xi$. After time 1 the variance is $N h^2 = h$, and
#   should be 1. With more steps the noise *vanishes*, and the SDE becomes an ODE with a wrong drift.
# - **No step size at all**: $\xi$ instead of $\sqrt h\, \xi$. The variance is $N$, and with more steps it *explodes*.
#   So a quick test of any SDE code: change the number of steps. A right program's result hardly changes.
# - **The noise multiplied in twice**: a function `diffusion` that returns $g\, \xi$, in a loop that multiplies by
#   $\xi$ again. If the two are independent, mean and variance are right, so a test of these two is blind to it. The
#   fourth moment is not: $\mathbb E\, \xi^4\, \mathbb E\, \xi'^4 = 9$ where a Gaussian has 3.
# - **Steps too long for the spring**: for Ornstein–Uhlenbeck the factor $1 - \theta h$ exceeds 1 in size when
#   $h > 2/\theta$. Every step then overshoots by more than the last. An order is a promise for small $h$ only; and
#   small means small against $1/L$.


# %%
def final_law(steps: int, kind: str, theta: float = 1.5, g: float = 0.8) -> tuple[float, float]:
    """Variance, and fourth moment over squared variance, of Ornstein-Uhlenbeck from 0 after time 1, simulated."""
    generator, h = seeded(9), 1 / steps
    x = torch.zeros(20_000, dtype=torch.float64)
    scale = {"right": math.sqrt(h), "root forgotten": h, "no step size": 1.0, "noise twice": math.sqrt(h)}[kind]
    for _ in range(steps):
        xi = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        if kind == "noise twice":
            xi = xi * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x - h * theta * x + g * scale * xi
    return float(x.var()), float((x**4).mean() / x.var() ** 2)


print(f"exact variance {exact[1]:.3f}, fourth moment 3")
for kind in ("right", "root forgotten", "no step size", "noise twice"):
    row = [final_law(steps, kind) for steps in (2, 10, 50)]
    print(f"{kind:>15}: " + "   ".join(f"{v:7.3f} ({k:.1f})" for v, k in row), " with 2, 10, 50 steps")
assert abs(final_law(50, "right")[0] / exact[1] - 1) < 0.07
assert final_law(50, "root forgotten")[0] < 0.1 * exact[1]
assert final_law(50, "no step size")[0] > 10 * exact[1]
assert abs(final_law(50, "noise twice")[0] / exact[1] - 1) < 0.1  # the variance does not see it
assert abs(final_law(1, "right")[1] - 3) < 0.3  # in one step the fourth moment does: 3 and 9
assert abs(final_law(1, "noise twice")[1] - 9) < 3
assert abs(moments(200, theta=500.0)[0]) > 1e3  # h = 1/200 > 2/500: it explodes
assert abs(moments(260, theta=500.0)[0]) < 1e-3  # h = 1/260 < 2/500: it does not

# %% [markdown]
# Look at the fourth row again. With 2 steps the noise that was multiplied in twice is seen at once, and with 50 it
# hides: by the central limit theorem a sum of many increments is nearly Gaussian, whatever they were. A mistake in a
# step is best looked for in *one* step. The exercise's checks do that.
#
# ## Appendix: the strong order of Euler–Maruyama
#
# **Theorem 5.** Let $g = g_t$ be additive and Lipschitz in $t$, let $f$ have bounded derivatives $\partial_t f$,
# $f'$, $f''$, and let method and equation start at the same $x_0 = X_0$, independent of $W$, with
# $\mathbb E\, |X_0|^2 < \infty$. Then the strong error of Euler–Maruyama is $O(h)$.
#
# *Proof* (can be skipped; in one dimension; $C$ is a constant that may change from line to line). Let $X_n = X_{t_n}$
# be the exact path, $x_n$ the method on the same $W$, and $e_n = X_n - x_n$. Then
# $e_{n+1} = e_n + h\, [f(X_n, t_n) - f(x_n, t_n)] + R_n$ with
#
# $$R_n = \int_{t_n}^{t_{n+1}} \big( f(X_r, r) - f(X_n, t_n) \big)\, dr + \int_{t_n}^{t_{n+1}} (g_r - g_{t_n})\, dW_r.$$
#
# By Itô's formula $f(X_r, r) - f(X_n, t_n) = \int_{t_n}^r a_q\, dq + \int_{t_n}^r g_q f'(X_q, q)\, dW_q$ with
# $a = \partial_t f + f f' + \frac{g^2}{2} f''$. So $R_n = A_n + B_n$:
#
# - $A_n = \int_{t_n}^{t_{n+1}} \int_{t_n}^r a_q\, dq\, dr$ has mean square at most $C h^4$, because $\mathbb E\, a^2$
#   is bounded: $f$ grows at most linearly, so $\mathbb E\, X_t^2$ stays bounded, by Gronwall's lemma;
# - $B_n = \int_{t_n}^{t_{n+1}} \big[ (t_{n+1} - q)\, g_q f' + g_q - g_{t_n} \big]\, dW_q$ (the order of integration
#   exchanged) has mean 0 given the past, and mean square at most $C h^3$ by the isometry, since the bracket is at
#   most $C h$.
#
# Write $\lVert Y \rVert = (\mathbb E\, Y^2)^{1/2}$. The part $K_n = e_n + h\,[f(X_n, t_n) - f(x_n, t_n)] + A_n$ has
# $\lVert K_n \rVert \le (1 + Lh) \lVert e_n \rVert + C h^2$, so with $(a + b)^2 \le (1 + h) a^2 + (1 + \frac1h) b^2$
# we get $\lVert K_n \rVert^2 \le (1 + Ch) \lVert e_n \rVert^2 + C h^3$. Here is the point: all of $K_n$ except $A_n$
# is known at $t_n$, and so *uncorrelated* with $B_n$. Hence
#
# $$\lVert e_{n+1} \rVert^2 = \lVert K_n \rVert^2 + 2\, \mathbb E\, A_n B_n + \lVert B_n \rVert^2
# \le (1 + Ch) \lVert e_n \rVert^2 + C h^3,$$
#
# as $\mathbb E\, A_n B_n \le \lVert A_n \rVert \lVert B_n \rVert \le C h^{7/2}$. By the induction of Theorem 2,
# $\lVert e_N \rVert^2 \le C h^2$. $\blacksquare$
#
# ## 12. Further reading
#
# - P. Holderrieth, E. Erives, *An Introduction to Flow Matching and Diffusion Models* (2025),
#   [arXiv:2506.02070](https://arxiv.org/abs/2506.02070): the MIT course whose notation this one shares.
# - Y. Song et al., *Score-Based Generative Modeling through Stochastic Differential Equations* (2021),
#   [arXiv:2011.13456](https://arxiv.org/abs/2011.13456): generation by an SDE run backwards.
# - T. Karras, M. Aittala, T. Aila, S. Laine, *Elucidating the Design Space of Diffusion-Based Generative Models*
#   (2022), [arXiv:2206.00364](https://arxiv.org/abs/2206.00364): which solver, which grid, and why.
# - D. J. Higham, *An Algorithmic Introduction to Numerical Simulation of Stochastic Differential Equations*, SIAM
#   Review 43 (2001), 525–546: weak and strong order, with short programs.
# - E. Hairer, S. P. Nørsett, G. Wanner, *Solving Ordinary Differential Equations I* (2nd ed. 1993): everything about
#   Runge–Kutta methods.
# - B. Øksendal, *Stochastic Differential Equations* (6th ed. 2003): the Itô integral, existence and Itô's formula,
#   with the proofs that were left out here.
# - D. Talay, L. Tubaro, *Expansion of the global error for numerical schemes solving stochastic differential
#   equations*, Stochastic Analysis and Applications 8 (1990): the weak order.
# - G. O. Roberts, R. L. Tweedie, *Exponential convergence of Langevin distributions and their discrete
#   approximations*, Bernoulli 2 (1996), 341–363.
# - G. J. Székely, M. L. Rizzo, *Energy statistics: a class of statistics based on distances*, Journal of Statistical
#   Planning and Inference 143 (2013), 1249–1272.
#
# **Now you**: [Exercise 01](../exercises/01_flows_and_diffusions.ipynb) has eight questions, from a loop over a time
# grid to finding the order of a solver that nobody describes. Next: [lecture 02](02_probability_paths.ipynb), where
# the fields come from.
