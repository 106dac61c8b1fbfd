# %% [markdown]
# # 02. Probability paths
#
# Lecture 01 ended with a machine: give it a velocity field $u_t(x)$ and noise $X_0$, and an ODE solver carries the
# noise somewhere. **Which velocity field carries noise to data, when all we have is a set of data points?**
#
# The answer has two halves. For a *single* data point the velocity can be written down on one line. And the velocity
# for *all* of them is an average of those lines, with weights that Bayes' rule gives. Everything in flow matching and
# diffusion rests on these two facts; here they are proved, and then checked to ten digits on a distribution for which
# everything is known in closed form.
#
# You will be able to
#
# - say what a conditional and a marginal probability path are, and sample from both;
# - prove the continuity equation, the Fokker–Planck equation and the marginalisation trick, and state what they need;
# - derive the velocity and the score of a Gaussian path, and turn any prediction (data, noise, velocity, score, v)
#   into any other with one $2 \times 2$ solve;
# - say where that solve fails, and what single precision does near that place;
# - read any noise schedule as the straight one seen on another clock and another ruler;
# - prove Tweedie's formula, and get the posterior's covariance out of a denoiser.
#
# **Time:** about 130 minutes, 60 if you skip the proofs (those marked *can be skipped* are best left for a second
# reading). **Before:** lecture 01 (ODEs, flows, SDEs), Bayes' rule, integration by parts.
#
# **Notation:** $z$ is data, $\varepsilon$ noise; $\omega_t = \dot\alpha_t\beta_t - \alpha_t\dot\beta_t$ is the path's
# weight ($w$ is kept for the scale of guidance in lecture 05); $D$ is the denoiser; $\varphi$ is a test function, $f$ a
# drift. In sections 6 and 7, $p$ without an index is a prediction and $\Delta$ a determinant; in section 5 $\Delta$ is
# the Laplacian. $\tau$ is the clock of the linear path, in section 7 only.

# %%
import math

import matplotlib.pyplot as plt
import torch

from flowlib import (
    VE,
    VP,
    Cosine,
    GaussianPath,
    Linear,
    MixtureField,
    SquareRoot,
    Trigonometric,
    sample_ddim,
    sample_ode,
)
from flowlib.course.notebook import fast, seeded, show_source
from flowlib.likelihood import divergence
from flowlib.metrics import energy_distance
from flowlib.paths import PREDICTIONS, expand_time
from flowlib.plotting.style import ACCENT, BLUE, GREY, INK, SCHEDULES
from flowlib.plotting.style import PREDICTIONS as COLOURS

torch.set_default_dtype(torch.float64)  # this lecture is about identities: see them hold to the last digits


# %% [markdown]
# ## 1. Two kinds of path
#
# Time runs from noise at $t = 0$ to data at $t = 1$. Let $z \sim p_\text{data}$ be a data point and
# $\varepsilon \sim N(0, I)$ noise of the same shape. A **schedule** is a pair of functions $\alpha_t$, $\beta_t$ with
# $\alpha_0 = \beta_1 = 0$ and $\alpha_1 = \beta_0 = 1$: how much signal and how much noise. Mix the two:
#
# $$x_t = \alpha_t z + \beta_t \varepsilon .$$
#
# Fix $z$ and the law of $x_t$ is the **conditional path** $p_t(x \mid z) = N(\alpha_t z, \beta_t^2 I)$: a standard
# Gaussian that shrinks onto $z$. Let $z$ be random too, and the law of $x_t$ is the **marginal path**
#
# $$p_t(x) = \int p_t(x \mid z)\, p_\text{data}(z)\, dz, \qquad p_0 = N(0, I), \quad p_1 = p_\text{data} .$$
#
# (Two schedules in wide use meet these conditions at the ends only nearly: VP has a small $\alpha_0 > 0$, and VE has
# $\alpha = 1$ throughout, with $\beta$ from 80 down to 0.002. Section 7 lists them. What is said of $0 < t < 1$ holds
# for them too; what is said of $p_0$ and $p_1$ holds nearly, for VE with $p_0$ 80 times as wide.)
#
# The marginal path is what we want to follow. Sampling from it is trivial: draw a data point, draw noise, mix.
# Knowing its density is not: the integral runs over all data. So that every claim can be checked, our data in this
# lecture are a Gaussian mixture, $\sum_k \pi_k N(\mu_k, \sigma_k^2 I)$. Then $x_t$ given the component $k$ is again
# Gaussian, $N(\alpha_t \mu_k, (\alpha_t^2 \sigma_k^2 + \beta_t^2) I)$, and $p_t$ is a mixture as well.

# %%
means = torch.tensor([[-1.7, 0.8], [1.6, 1.2], [0.2, -1.6]])
field = MixtureField(means, std=torch.tensor([0.25, 0.4, 0.3]), weights=torch.tensor([0.3, 0.5, 0.2]))
path = field.path  # the linear schedule, alpha = t and beta = 1 - t
print(path)

# %% tags=["draw"]
# alt: Five times from left to right. Above, a round grey blob shrinks and moves to a cross at the upper right; below,
#   the same blob breaks into three, which shrink and move to three crosses.
axis = torch.linspace(-3, 3, 121)
grid = torch.cartesian_prod(axis, axis)
point = MixtureField(means[1:2], std=0.0)  # a "data set" of one point: its marginal path is the conditional one
times = (0.0, 0.3, 0.6, 0.8, 0.95)
figure, rows = plt.subplots(2, len(times), figsize=(10, 4.3), layout="constrained")
for row, (name, of) in zip(rows, {"conditional": point, "marginal": field}.items(), strict=True):
    for axes, t in zip(row, times, strict=True):
        density = of.log_prob(grid, t).exp().reshape(len(axis), -1)
        axes.imshow(density.T, origin="lower", extent=(-3, 3, -3, 3), cmap="Greys", vmin=0, vmax=density.max())
        axes.plot(*means.T[:, 1:2] if of is point else means.T, "x", color=ACCENT, markersize=5)
        axes.set(xticks=[], yticks=[], title=f"t = {t}")
    row[0].set_ylabel(name)
figure.suptitle("Conditional path of one data point, marginal path of a mixture (crosses: the point, the means)")
plt.show()

# %% [markdown]
# ## 2. The continuity equation: a flow moves probability, and makes none
#
# Which densities does an ODE produce? Let $\dot X_t = u_t(X_t)$ with a random start, and let $p_t$ be the density of
# $X_t$. Think of $p_t$ as a gas: mass leaves a small box exactly as fast as it crosses the walls.
#
# > **Theorem 1 (continuity equation).** Let $u_t(x)$ be continuous in $(t, x)$ on $[0, T] \times \mathbb R^d$, with a
# > continuous Jacobian in $x$, and of linear growth, $\lvert u_t(x)\rvert \le C(1 + \lvert x\rvert)$. Let $p_t(x)$ be
# > a density that is continuously differentiable in $(t, x)$. Then
# >
# > $$X_t \sim p_t \ (0 \le t \le T) \iff X_0 \sim p_0 \text{ and } \partial_t p_t + \nabla\cdot(p_t u_t) = 0 .$$
#
# The growth condition keeps solutions from escaping to infinity: from a start in a bounded set they stay in a ball.
# On a ball the Jacobian is bounded, so Theorem 1 of lecture 01 applies there, and through each point goes exactly one
# solution. As the Jacobian is continuous, the flow is also continuously differentiable in its start and its starting
# time (standard: Hairer, Nørsett and Wanner 1993, section I.14).
#
# Two tools. A **test function** $\varphi$ is smooth and vanishes outside a bounded set. *Integration by parts:* for a
# test function $\varphi$ and a differentiable vector field $F$,
# $\int \nabla\varphi \cdot F\, dx = -\int \varphi\, \nabla\cdot F\, dx$. For
# $\nabla\cdot(\varphi F) = \nabla\varphi\cdot F + \varphi\, \nabla\cdot F$, and by Gauss' theorem the left side
# integrates to the flux of $\varphi F$ through a sphere so large that $\varphi = 0$ on it. *Fundamental lemma:* if $k$
# is continuous and $\int \varphi k\, dx = 0$ for every test function, then $k = 0$. For where $k(x_0) > 0$, a bump
# $\varphi$ around $x_0$ would give a positive integral.
#
# **Proof of $\Rightarrow$.** Compute $\frac{d}{dt}\mathbb E\,\varphi(X_t)$ twice. Along the ODE, by the chain rule,
#
# $$\frac{d}{dt}\mathbb E\,\varphi(X_t) = \mathbb E\big[\nabla\varphi(X_t)\cdot u_t(X_t)\big]
# = \int \nabla\varphi\cdot u_t\, p_t\, dx = -\int \varphi\, \nabla\cdot(p_t u_t)\, dx .$$
#
# The derivative may enter the expectation because $\nabla\varphi\cdot u_t$ is bounded: it vanishes outside a bounded
# set. From the density, $\frac{d}{dt}\int \varphi p_t\, dx = \int \varphi\, \partial_t p_t\, dx$. So
# $\int \varphi\,[\partial_t p_t + \nabla\cdot(p_t u_t)]\, dx = 0$ for every $\varphi$, and the bracket, which is
# continuous, is zero.
#
# **Proof of $\Leftarrow$** (can be skipped). This is the direction that generates. Fix a time $T' \le T$ and a test
# function $\varphi$. Let $\varphi_t(x)$ be the value of $\varphi$ at the place where a particle that is at $x$ at time
# $t$ will be at time $T'$. As the flow is, $\varphi_t$ is continuously differentiable. Along a trajectory it does not
# change, so $\partial_t\varphi_t + u_t\cdot\nabla\varphi_t = 0$; and $\varphi_{T'} = \varphi$. By the growth condition
# $\varphi_t$ vanishes outside a bounded set too. So we may integrate by parts:
#
# $$\frac{d}{dt}\int \varphi_t\, p_t\, dx = \int (\partial_t\varphi_t)\, p_t + \varphi_t\, \partial_t p_t\, dx
# = \int -(u_t\cdot\nabla\varphi_t)\, p_t - \varphi_t\, \nabla\cdot(p_t u_t)\, dx = 0 .$$
#
# Hence
# $\int \varphi\, p_{T'}\, dx = \int \varphi_0\, p_0\, dx = \mathbb E\,\varphi_0(X_0) = \mathbb E\,\varphi(X_{T'})$, the
# last because $\varphi_0(X_0)$ *is* $\varphi(X_{T'})$. This holds for all $\varphi$, so $X_{T'} \sim p_{T'}$.
# $\blacksquare$
#
# Where $p_t > 0$, divide by it. With the **score** $s_t = \nabla\log p_t$,
#
# $$\partial_t\log p_t + \nabla\cdot u_t + u_t\cdot s_t = 0, \tag{1}$$
#
# three terms that a computer can evaluate at a single point. We say that $u_t$ *generates* $p_t$ if (1) holds.

# %% [markdown]
# ## 3. The velocity of one data point
#
# Keep $z$ fixed. Each noise $\varepsilon$ moves along $x_t = \alpha_t z + \beta_t\varepsilon$, with velocity
# $\dot\alpha_t z + \dot\beta_t\varepsilon$. To write it as a field, ask which $\varepsilon$ is at $x$: while
# $\beta_t > 0$ there is exactly one, $\varepsilon = (x - \alpha_t z)/\beta_t$. So
#
# $$u_t(x\mid z) = \dot\alpha_t z + \dot\beta_t\,\frac{x - \alpha_t z}{\beta_t}
# = \Big(\dot\alpha_t - \frac{\dot\beta_t\alpha_t}{\beta_t}\Big) z + \frac{\dot\beta_t}{\beta_t}\, x . \tag{2}$$
#
# Its solutions are the curves we started from, and their law is $p_t(\cdot\mid z)$. By Theorem 1 ($\Rightarrow$),
# $u_t(\cdot\mid z)$ generates $p_t(\cdot\mid z)$ on $(0, 1)$, and at $t = 0$ too where $\dot\alpha_0$ and
# $\dot\beta_0$ are finite. The score is the gradient of
# $\log p_t(x\mid z) = -\lvert x - \alpha_t z\rvert^2/(2\beta_t^2) + \text{const}$:
#
# $$s_t(x\mid z) = \frac{\alpha_t z - x}{\beta_t^2} = -\frac{\varepsilon}{\beta_t} . \tag{3}$$
#
# On the linear schedule, $\alpha_t = t$ and $\beta_t = 1 - t$, equation (2) becomes $(z - x)/(1 - t)$: go straight to
# $z$, at the speed that arrives on time.
#
# Check (2) without having derived it: let automatic differentiation take the time derivative of
# $\alpha_t z + \beta_t\varepsilon$, at 64 points, each with its own time. `jvp(f, (t,), (1,))` returns $f(t)$ and
# $f'(t)$.

# %%
t = torch.linspace(0.02, 0.98, 64)
z, noise = field.sample(64, seeded(0))[0], torch.randn(64, 2, generator=seeded(1))
for schedule in (Linear(), Trigonometric(), SquareRoot(), VP(), Cosine(), VE()):
    p = GaussianPath(schedule)
    x, derivative = torch.func.jvp(lambda t, p=p: p.sample(z, t, noise), (t,), (torch.ones_like(t),))
    error = (p.velocity(x, z, t) - derivative).abs().max() / derivative.abs().max()
    print(f"{schedule.__class__.__name__:14s} relative error of u_t(x|z): {error:.1e}")
    assert error < 1e-12

# %% [markdown]
# ## 4. The marginalisation trick
#
# At a point $x$ many data points compete: each would pull in its own direction $u_t(x\mid z)$. The right compromise
# is the average over those data points that could have led here, weighted by how probable each is:
#
# $$u_t(x) = \int u_t(x\mid z)\, \underbrace{\frac{p_t(x\mid z)\, p_\text{data}(z)}{p_t(x)}}_{p_t(z\mid x)}\, dz
# = \mathbb E\big[u_t(x\mid z)\,\big|\, x_t = x\big] . \tag{4}$$
#
# > **Theorem 2 (marginalisation).** If $\mathbb E\lvert z\rvert < \infty$, the average (4) of the conditional
# > velocities (2) generates the marginal path on $(0, 1)$. And the marginal score is the same average of the
# > conditional ones: $s_t(x) = \mathbb E[s_t(x\mid z)\mid x_t = x]$.
#
# **Proof.** Each $z$ satisfies its own continuity equation. Multiply by $p_\text{data}(z)$, integrate over $z$ and
# use that derivatives in $t$ and $x$ have nothing to do with $z$:
#
# $$\partial_t p_t(x) = \int \partial_t p_t(x\mid z)\, p_\text{data}(z)\, dz
# = -\nabla\cdot\int p_t(x\mid z)\, u_t(x\mid z)\, p_\text{data}(z)\, dz
# = -\nabla\cdot\big(p_t(x)\, u_t(x)\big) .$$
#
# The last step is (4), multiplied by $p_t(x)$. Likewise, because $\nabla p = p\,\nabla\log p$,
# $\nabla p_t(x) = \int s_t(x\mid z)\, p_t(x\mid z)\, p_\text{data}(z)\, dz$; divide by $p_t(x)$.
#
# *May the derivatives enter the integrals?* (Can be skipped.) With $\rho = \lvert x - \alpha_t z\rvert$, each
# derivative involved is $p_t(x\mid z)$ times a polynomial in $\rho$ times at most one factor $\lvert z\rvert$ (from
# $\dot\alpha_t z$). A Gaussian times a power of $\rho$ is bounded. So on every interval of times
# $[t_0, t_1] \subset (0, 1)$ the integrand is below $C(1 + \lvert z\rvert)$ times $p_\text{data}(z)$, for all $x$, and
# that is integrable: dominated convergence applies. Where $\dot\alpha_0$ and $\dot\beta_0$ are finite, $t_0 = 0$ is
# included. $\blacksquare$
#
# To *sample* by Theorem 1 ($\Leftarrow$) the marginal velocity must also be of linear growth on $[0, T]$. Where
# $\dot\alpha_0$ and $\dot\beta_0$ are finite it is so for every $T < 1$ if the data are bounded, because
# $\mathbb E[z\mid x]$ then is, and for a mixture of Gaussians. (Where they are not, start at a small $t_0 > 0$.) The
# last stretch from $T$ to 1 is a matter of taste: $x_T$ differs from a data point by noise of size $\beta_T$.
#
# The picture shows the average at work for three data points: an arrow pulls towards each, as thick as it is
# probable; the red one is their mean. Early, every point is possible and the mean points between them. Late, one has
# won.

# %%
# alt: Three panels, t = 0.2, 0.4 and 0.65. From one place three black arrows point to three data points, thicker where
#   the weight beside the point is larger, and a short red arrow is their average; with time the weight of the upper
#   right point grows from 0.54 to 0.87 and the red arrow turns to it.
finite = MixtureField(means, std=0.0, weights=torch.tensor([0.3, 0.5, 0.2]))  # three data points


def posterior(x, t):
    """p_t(z_k | x) (B, 3) by Bayes' rule, from the definition."""
    alpha, beta = (level(expand_time(t, x)) for level in (path.schedule.alpha, path.schedule.beta))
    log_likelihood = torch.stack([torch.distributions.Normal(alpha * z, beta).log_prob(x).sum(1) for z in means], dim=1)
    return torch.softmax(log_likelihood + finite.weights.log(), dim=1)


here = torch.tensor([[0.1, 0.3]])
drawn = {"angles": "xy", "scale_units": "xy", "scale": 3}  # a third of a velocity, in the units of the plane
figure, panels = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
for axes, t in zip(panels, (0.2, 0.4, 0.65), strict=True):
    share = posterior(here, t)[0]
    for k, z in enumerate(means):
        arrow = path.velocity(here, z, t)[0]
        axes.quiver(*here[0], *arrow, color=INK, width=0.004 + 0.02 * float(share[k]), **drawn)
        axes.annotate(
            f"{share[k]:.2f}",
            z.tolist(),
            (0, 9 if z[1] > 0 else -18),
            textcoords="offset points",
            ha="center",
            color=GREY,
        )
    axes.quiver(*here[0], *finite.u(here, t)[0], color=ACCENT, width=0.008, **drawn)
    axes.plot(*means.T, "o", color=INK, markersize=5)
    axes.set(xlim=(-3, 3), ylim=(-2.6, 2.6), aspect="equal", xticks=[], yticks=[], title=f"t = {t}")
figure.suptitle("Conditional velocities at one place x, with p(z | x) beside each data point; red: their average")
plt.show()

# %% [markdown]
# And the check of (4): Bayes' rule and a sum on one side, the library's closed form on the other.

# %%
t = torch.linspace(0.05, 0.95, 64)
x = path.sample(finite.sample(64, seeded(2))[0], t, noise)
for name, exact, conditional in (("velocity", finite.u, path.velocity), ("score", finite.s, path.score)):
    average = sum(posterior(x, t)[:, k, None] * conditional(x, z, t) for k, z in enumerate(means))
    error = (average - exact(x, t)).abs().max() / average.abs().max()
    print(f"marginal {name}: posterior average against closed form, relative difference {error:.1e}")
    assert error < 1e-10

# %% [markdown]
# Nothing in this needs three points or two dimensions. With a data set of 60,000 images the sum has 60,000 terms, and
# (4) is the exact velocity of that data set. Following it would reproduce training images, which is one reason to
# learn an approximation that generalises instead; that is lecture 03.
#
# ### The library's exact field
#
# `MixtureField` is (4) for Gaussian mixtures. Given the component, $z$ and $x$ are jointly Gaussian, so with
# $V_k = \alpha^2\sigma_k^2 + \beta^2$
#
# $$\mathbb E[z\mid x, k] = \mu_k + \frac{\alpha\sigma_k^2}{V_k}(x - \alpha\mu_k), \qquad
# \mathbb E[\varepsilon\mid x, k] = \frac{\beta}{V_k}(x - \alpha\mu_k),$$
#
# by the usual regression formula, covariance over variance. Average over $p_t(k\mid x)$, a softmax. The velocity is
# $\dot\alpha\,\mathbb E[z\mid x] + \dot\beta\,\mathbb E[\varepsilon\mid x]$; section 6 says why the code returns
# another combination.

# %%
show_source(MixtureField.predict, MixtureField._components)

# %% [markdown]
# ### Does it obey the continuity equation?
#
# Evaluate the three terms of (1) at points where the mixture has mass. $\partial_t$ and $\nabla$ of $\log p_t$ come
# from automatic differentiation of the density, the divergence from that of the velocity. None of them knows the
# theorem.


# %%
def continuity_terms(field, x, t):
    """d/dt log p_t, div u_t and u_t . grad log p_t, each (B,), at x (B, D) and t (B,)."""
    x, t = x.clone().requires_grad_(), t.clone().requires_grad_()
    dx, dt = torch.autograd.grad(field.log_prob(x, t).sum(), (x, t))
    u, div = divergence(field.u, x, t.detach())
    return dt, div, (u * dx).sum(1)


t = torch.linspace(0.05, 0.95, 64)
x = path.sample(field.sample(64, seeded(3))[0], t, noise)
for schedule in (Linear(), Trigonometric(), SquareRoot(), VP(), Cosine(), VE()):
    other = MixtureField(field.means, field.std, field.weights, path=GaussianPath(schedule))
    terms = continuity_terms(other, other.path.sample(field.sample(64, seeded(3))[0], t, noise), t)
    residual = (sum(terms) / (1 + sum(term.abs() for term in terms))).abs().max()
    print(f"{schedule.__class__.__name__:14s} largest residual of (1), relative to its terms: {residual:.1e}")
    assert residual < 1e-9

# %% tags=["draw"]
# alt: Along a line, three solid curves swing between -14 and 17, a black one, a grey one and a red one; the dashed blue
#   line of their sum lies at 0 throughout.
along = torch.stack([torch.linspace(-3, 3, 200), torch.full((200,), 0.9)], dim=1)  # through the two upper components
terms = continuity_terms(field, along, torch.full((200,), 0.5))
figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
for term, name, colour in zip(terms, ("∂ₜ log p", "∇·u", "u·∇ log p"), (INK, GREY, ACCENT), strict=True):
    axes.plot(along[:, 0], term, color=colour, label=name)
axes.plot(along[:, 0], sum(terms), color=BLUE, linestyle="--", label="their sum")
axes.set(xlabel="x₁  (x₂ = 0.9, t = 0.5)", ylabel="rate", title="Three terms that cancel: (1) on a line")
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
plt.show()

# %% [markdown]
# ### Straight for each, curved for all
#
# Each conditional trajectory on the linear schedule is a straight line from $\varepsilon$ to $z$, and such lines cross.
# Trajectories of an ODE cannot cross (lecture 01), so those of the marginal velocity must be other curves; here they
# bend. Yet at every single time both clouds of points have the same law $p_t$: that is Theorem 2. What differs is the
# *joint* law, who ends where. We compare the clouds by the energy distance of lecture 01, with its floor, and by the
# mean of $\log p_t$, which falls wherever a cloud is too wide or misses the density. (The two clouds below come from
# the same noise. That makes them more alike than independent ones, above all early on.)

# %%
count = 400 if fast else 2000
z, noise = field.sample(count, seeded(4))[0], torch.randn(count, 2, generator=seeded(5))
steps = 40
clock = torch.linspace(0, 1, steps + 1)
straight = torch.stack([path.sample(z, float(t), noise) for t in clock])  # (41, count, 2)
curved = sample_ode(field, noise, method="rk4", steps=steps, trajectory=True)  # (41, count, 2)

for i in (10, 20, 30, 40):
    distance = energy_distance(straight[i], curved[i])
    floor = 2 / count * float(torch.cdist(straight[i], straight[i]).mean())  # E|x - x'| (1/N + 1/N)
    gap = field.log_prob(curved[i], float(clock[i])) - field.log_prob(straight[i], float(clock[i]))
    gap, error = float(gap.mean()), float(gap.std()) / count**0.5
    print(f"t = {clock[i]:.2f}: energy distance of the clouds {distance:.4f}, floor {floor:.4f}", end="; ")
    print(f"difference of the mean log p_t {gap:+.3f}, standard error {error:.3f}")
    assert distance < 2 * floor
    assert abs(gap) < 4.5 * error


# %% tags=["draw"]
def draw(axes, states, i, velocity):
    """The density at step i, the points that are there, and the way that a few of them have come."""
    axes.clear()
    t = min(float(clock[i]), 0.999)
    density = field.log_prob(grid, t).exp().reshape(len(axis), -1).T
    axes.contourf(
        axis,
        axis,
        density,
        levels=[d * float(density.max()) for d in (0.05, 0.2, 0.4, 0.7, 1.0)],
        cmap="Greys",
        alpha=0.5,
    )
    if velocity:
        places = torch.cartesian_prod(torch.linspace(-2.6, 2.6, 11), torch.linspace(-2.6, 2.6, 11))
        axes.quiver(*places.T, *field.u(places, t).T, color=GREY, scale=60, width=0.003)
    axes.scatter(*states[i, 24:400].T, s=3, color=INK, linewidths=0)
    for k in range(24):
        axes.plot(*states[: i + 1, k].T, color=ACCENT, linewidth=0.9)
    axes.scatter(*states[i, :24].T, s=12, color=ACCENT, linewidths=0)
    axes.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=[], yticks=[])


if not fast:
    import io

    from matplotlib.figure import Figure
    from PIL import Image

    animation, frames = Figure(figsize=(8, 4.4), layout="constrained"), []
    panels = animation.subplots(1, 2)
    for i in range(steps + 1):
        draw(panels[0], straight, i, velocity=False)
        draw(panels[1], curved, i, velocity=True)
        panels[0].set_title(f"conditional: to each its own z      t = {clock[i]:.2f}", loc="left", fontsize=10)
        panels[1].set_title("marginal: one velocity field for all", loc="left", fontsize=10)
        animation.savefig(buffer := io.BytesIO(), dpi=80)
        frames.append(Image.open(buffer).convert("RGB").quantize(24, dither=Image.Dither.NONE))
    pauses = [600] + [110] * (steps - 1) + [2500]
    frames[0].save(
        "images/02_paths.gif", save_all=True, append_images=frames[1:], duration=pauses, loop=0, optimize=True
    )

    thumbnail = Figure(figsize=(6.4, 4.0), dpi=50)
    for k, states in enumerate((straight, curved)):
        axes = thumbnail.add_axes((0.01 + 0.5 * k, 0.0, 0.48, 1.0))
        draw(axes, states, 26, velocity=k == 1)
        axes.axis("off")
    thumbnail.savefig("images/02.png")

# %% [markdown]
# ![Two panels. Left: points on straight lines from noise to data, which cross. Right: the same noise carried by the
# marginal velocity field along curves that do not cross. The grey density is the same in both.](images/02_paths.gif)
#
# ### The velocity is not unique, but (4) is the cheapest
#
# Theorem 1 asks only for $\nabla\cdot(p_t u_t) = -\partial_t p_t$. Any $r_t$ with $\nabla\cdot(p_t r_t) = 0$ can be
# added: it stirs the gas without changing its density. What singles out (4) for Gaussian paths is that it is a
# gradient. By (2) and (3) it is a combination of $x$ and the score (equation (6) below), and
# $x = \nabla\frac12\lvert x\rvert^2$. Write $u_t = \nabla\Phi_t$. Integrating by parts,
# $\int p_t\, u_t\cdot r_t\, dx = -\int \Phi_t\, \nabla\cdot(p_t r_t)\, dx = 0$ if $p_t r_t$ decays fast enough. So
#
# $$\mathbb E\lvert u_t + r_t\rvert^2 = \mathbb E\lvert u_t\rvert^2 + \mathbb E\lvert r_t\rvert^2 :$$
#
# of all fields that generate $p_t$, the marginal velocity has the least kinetic energy. To see one of the others,
# stir with $r_t = R\, s_t$, where $R$ turns by a right angle. $p_t r_t = R\,\nabla p_t$ has no divergence.

# %%
turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])


class Stirred(MixtureField):
    """The same path, generated by another velocity."""

    def u(self, x, t, y=None):
        return super().u(x, t, y) + self.s(x, t, y) @ turn.T


stirred = Stirred(field.means, field.std, field.weights)
residual = sum(continuity_terms(stirred, x, torch.linspace(0.05, 0.95, 64)))
print(f"largest residual of (1) with stirring: {residual.abs().max():.1e}")
assert residual.abs().max() < 1e-9

many = path.sample(field.sample(20000, seeded(6))[0], 0.5, generator=seeded(7))  # samples of p_0.5
energy = {name: (f.u(many, 0.5) ** 2).sum(1) for name, f in {"marginal": field, "stirred": stirred}.items()}
print("E|velocity|² at t = 0.5:", {name: round(float(value.mean()), 2) for name, value in energy.items()})
surplus = energy["stirred"] - energy["marginal"] - (field.s(many, 0.5) ** 2).sum(1)  # |r| = |s|
error = surplus.std() / len(many) ** 0.5
print(f"what E|r|² leaves of the difference: {surplus.mean():.3f}, standard error {error:.3f}")
assert surplus.mean().abs() < 4.5 * error < 0.3

# %% [markdown]
# ## 5. The Fokker–Planck equation: the same with noise
#
# > **Theorem 3 (Fokker–Planck).** Let $dX_t = f_t(X_t)\, dt + g_t\, dW_t$ with $f$ as $u$ in Theorem 1 and $g_t$
# > continuous. Let $X_t$ have a density $p_t(x)$, once continuously differentiable in $t$ and twice in $x$. Then
# >
# > $$\partial_t p_t = -\nabla\cdot(p_t f_t) + \frac{g_t^2}{2}\,\Delta p_t . \tag{5}$$
#
# **Proof.** Take a test function $\varphi$. Itô's formula is Taylor's expansion to second order, in which the square
# of a Brownian increment counts with its mean, $dW_i\, dW_j = \delta_{ij}\, dt$:
#
# $$d\varphi(X_t) = \Big(\nabla\varphi\cdot f_t + \frac{g_t^2}{2}\Delta\varphi\Big)(X_t)\, dt +
# g_t\,\nabla\varphi(X_t)\cdot dW_t .$$
#
# The last term has mean zero, because $g_t\nabla\varphi$ is bounded and independent of the increment to come. So
#
# $$\int\varphi\,\partial_t p_t\, dx = \frac{d}{dt}\mathbb E\varphi(X_t)
# = \int\Big(\nabla\varphi\cdot f_t + \frac{g_t^2}{2}\Delta\varphi\Big) p_t\, dx
# = \int\varphi\,\Big(-\nabla\cdot(p_t f_t) + \frac{g_t^2}{2}\Delta p_t\Big)\, dx,$$
#
# integrating by parts once in the first term and twice in the second. The fundamental lemma finishes. $\blacksquare$
#
# The converse holds here too: a density that satisfies (5) and starts right is that of $X_t$. For under these
# conditions on $f$ and $g$ each solution of (5) among densities is the law of a solution of the SDE (Bogachev,
# Röckner and Shaposhnikov 2019; the book by Bogachev, Krylov, Röckner and Shaposhnikov 2015 has the theory), and the
# SDE has one only.
#
# **What it is for.**
#
# > **Corollary (SDE extension).** Let $u_t$ generate $p_t > 0$ on $[0, T]$, and let $u_t$ and the score $s_t$ be as $u$
# > in Theorem 1: continuous, with a continuous Jacobian in $x$, and of linear growth. Then for every continuous
# > $g_t \ge 0$ on $[0, T]$ the solution of
# >
# > $$dX_t = \Big[u_t(X_t) + \frac{g_t^2}{2}\, s_t(X_t)\Big] dt + g_t\, dW_t, \qquad X_0 \sim p_0,$$
# >
# > has the marginals $X_t \sim p_t$ of the ODE.
#
# **Proof.** $\nabla\cdot(p_t s_t) = \nabla\cdot\nabla p_t = \Delta p_t$, because the score is $\nabla p_t/p_t$. So with
# the drift $f_t = u_t + \frac{g_t^2}{2}s_t$ the right side of (5) is
#
# $$-\nabla\cdot(p_t u_t) - \frac{g_t^2}{2}\Delta p_t + \frac{g_t^2}{2}\Delta p_t
# = -\nabla\cdot(p_t u_t) = \partial_t p_t .$$
#
# Hence $p_t$ solves (5), and as $f$ is as Theorem 3 asks, the converse applies. $\blacksquare$
#
# What the noise spreads, the score draws together. For bounded data and for Gaussian mixtures the condition holds on
# $[0, T]$ for every $T < 1$; towards $t = 1$ the score of bare points grows without bound. Lecture 04 is built on this
# corollary. Check it for three values of $g^2$, in the form divided by $p_t$:
# $\partial_t\log p + \nabla\cdot f + f\cdot s - \frac{g^2}{2}(\Delta\log p + \lvert s\rvert^2) = 0$, and see that it
# fails with half of the score left out.

# %%
t = torch.linspace(0.05, 0.95, 64)


def fokker_planck_residual(g2, share=1.0):
    """The largest residual of (5) divided by p_t, relative to its terms, with a share of the score in the drift."""

    def drift(x, t):
        return field.u(x, t) + share * g2 / 2 * field.s(x, t)

    f, div = divergence(drift, x, t)
    score, laplacian = divergence(field.s, x, t)  # the divergence of the score is the Laplacian of log p
    change = continuity_terms(field, x, t)[0]
    spread = g2 / 2 * (laplacian + (score**2).sum(1))
    residual = change + div + (f * score).sum(1) - spread
    return float((residual / (1 + change.abs() + div.abs() + spread.abs())).abs().max())


for g2 in (0.0, 1.0, 3.0):
    print(f"g² = {g2:.0f}: largest residual of (5), relative to its terms: {fokker_planck_residual(g2):.1e}")
    assert fokker_planck_residual(g2) < 1e-8
assert fokker_planck_residual(1.0, share=0.5) > 0.1

# %% [markdown]
# ## 6. One table that converts every prediction
#
# A network may be trained to predict the data, the noise, the velocity, the score, or Salimans and Ho's
# $v = \alpha\varepsilon - \beta z$. Papers convert between them pair by pair, twenty formulas with twenty chances to
# slip. One idea replaces them. Each target is a combination of $z$ and $\varepsilon$ with coefficients that depend on
# time alone:
#
# $$\text{target} = a\, z + b\,\varepsilon .$$
#
# Given $x$, the best prediction in the mean square is the conditional mean (lecture 03). Conditional means are
# linear, so with $D = \mathbb E[z\mid x_t = x]$ and $\hat\varepsilon = \mathbb E[\varepsilon\mid x_t = x]$ the
# prediction is $p = aD + b\hat\varepsilon$. One more equation comes free: the mean of
# $x_t = \alpha z + \beta\varepsilon$ given $x_t = x$ is $x$ itself. Two equations, two unknowns:
#
# $$\begin{pmatrix}\alpha & \beta\\ a & b\end{pmatrix}\begin{pmatrix}D\\ \hat\varepsilon\end{pmatrix}
# = \begin{pmatrix}x\\ p\end{pmatrix},
# \qquad \Delta = \alpha b - \beta a, \qquad
# D = \frac{b x - \beta p}{\Delta}, \qquad \hat\varepsilon = \frac{\alpha p - a x}{\Delta} .$$
#
# (Cramer's rule; multiply out to check. From here on $p$ without an index is a prediction and $\Delta$ a determinant;
# the density keeps its index, and the Laplacian does not come back.) Then apply the row $(a', b')$ of whatever is
# wanted: $a' D + b'\hat\varepsilon$. With $\omega_t = \dot\alpha\beta - \alpha\dot\beta$ the whole table is
#
# | prediction | $a$ | $b$ | $\Delta = \alpha b - \beta a$ | says nothing at |
# |---|---|---|---|---|
# | data $z$ | $1$ | $0$ | $-\beta$ | $t = 1$ |
# | noise $\varepsilon$ | $0$ | $1$ | $\alpha$ | $t = 0$ |
# | velocity $u$ | $\dot\alpha$ | $\dot\beta$ | $-\omega$ | nowhere |
# | score $s$ | $0$ | $-1/\beta$ | $-\alpha/\beta$ | $t = 0$ and $t = 1$ |
# | v | $-\beta$ | $\alpha$ | $\alpha^2 + \beta^2$ | nowhere |
#
# The score's row is (3). Where $\Delta = 0$ the second equation repeats the first, or says nothing at all: at $t = 0$
# the noise *is* $x$, and a perfect noise prediction holds no information about the data. The information is not
# rounded away; it is not there. (At $t = 1$ it is the score's row that fails: it is infinite. The velocity's row must
# be finite too; see section 7.) The library refuses:

# %%
show_source(GaussianPath.row, GaussianPath.delta, GaussianPath.solve)

# %% [markdown]
# Two consequences to remember. From the score to the velocity: solve with the row $(0, -1/\beta)$, apply
# $(\dot\alpha, \dot\beta)$:
#
# $$D = \frac{x + \beta^2 s}{\alpha}, \qquad \hat\varepsilon = -\beta s, \qquad
# u = \frac{\dot\alpha}{\alpha}\, x + \frac{\dot\alpha\beta^2 - \dot\beta\beta\alpha}{\alpha}\, s
# = \frac{\dot\alpha}{\alpha}\, x + \frac{\beta\omega}{\alpha}\, s . \tag{6}$$
#
# And an error $e$ in the prediction becomes an error $-\beta e/\Delta$ in $D$ and $\alpha e/\Delta$ in
# $\hat\varepsilon$: the determinant is also the loss weight that lecture 03 needs. Check the table and all 25
# conversions, and that they are refused where the table says so.

# %%
t = torch.linspace(0.02, 0.98, 64)
z, noise = field.sample(64, seeded(0))[0], torch.randn(64, 2, generator=seeded(1))
worst = 0.0
for schedule in (Linear(), Trigonometric(), SquareRoot(), VP(), Cosine(), VE()):
    p = GaussianPath(schedule)
    a, b, da, db = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    table = {"data": -b, "noise": a, "velocity": a * db - b * da, "score": -a / b, "v": a**2 + b**2}
    x = p.sample(z, t, noise)
    targets = {kind: p.row(kind, t)[0][:, None] * z + p.row(kind, t)[1][:, None] * noise for kind in PREDICTIONS}
    for source, target in targets.items():
        torch.testing.assert_close(p.delta(source, t), table[source], rtol=1e-12, atol=1e-12)
        for kind, expected in targets.items():
            found = p.convert(target, x, t, source, kind)
            worst = max(worst, float((found - expected).abs().max() / expected.abs().max()))
print(f"25 conversions on 6 schedules, worst relative error: {worst:.1e}")
assert worst < 1e-12

for t in (0.0, 0.5, 1.0):
    says = [kind for kind in PREDICTIONS if path.informative(kind, torch.tensor(t))]
    print(f"t = {t}: data and noise can be had from {', '.join(says)}")
    assert says == {0.0: ["data", "velocity", "v"], 0.5: list(PREDICTIONS), 1.0: ["noise", "velocity", "v"]}[t]
try:
    path.convert(noise, noise, 0.0, "noise", "data")
except ValueError as refusal:
    print(f"ValueError: {refusal}")
else:
    raise AssertionError("the noise determines no data at t = 0")

# %% [markdown]
# ### Close to the edge in single precision
#
# Networks run in float32, whose rounding is about $6\cdot 10^{-8}$. Just before a zero of $\Delta$ the solve
# multiplies that rounding by $\beta/\lvert\Delta\rvert$ or $\alpha/\lvert\Delta\rvert$. For noise at $t\to 0$ that is
# $\beta/\alpha$: a noise prediction is useless for *data* long before $t = 0$. For data at $t\to 1$ it is
# $\alpha/\beta$. For the velocity on the linear schedule the factors are $1 - t$ and $t$; for v they are at most 1
# where $\alpha^2 + \beta^2 = 1$. The score is $-\hat\varepsilon/\beta$, hence as bad as the noise at $t\to 0$; near
# $t = 1$ it is huge, but in relative terms exact, and lost only at $t = 1$ itself, where it is infinite. The figure
# feeds *exact* targets, rounded to float32, and asks for both members of the pair.

# %%
# alt: Two logarithmic plots of relative errors. Left, towards t = 0, noise and score rise together from 1e-7 to 1 along
#   a dotted line, all others stay at 1e-7; right, towards t = 1, data alone rises in that way.
near = torch.logspace(-7, -0.4, 34)


def recovery_error(kind, t):
    """Relative errors of D and eps_hat in float32 at one time, from an exact prediction of this kind."""
    z32, eps32 = z.float(), noise.float()
    t = torch.tensor(t, dtype=torch.float32)
    x32 = path.sample(z32, t, eps32)
    a, b = path.row(kind, t)
    data, eps = path.solve(a * z32 + b * eps32, x32, t, kind)
    return float((data - z32).abs().max() / z32.abs().max()), float((eps - eps32).abs().max() / eps32.abs().max())


figure, panels = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", sharey=True)
for kind, colour in COLOURS.items():
    start = torch.tensor([recovery_error(kind, float(t)) for t in near]).max(1).values
    end = torch.tensor([recovery_error(kind, 1 - float(t)) for t in near]).max(1).values
    for axes, errors in zip(panels, (start, end), strict=True):
        axes.loglog(near, errors.clamp_min(1e-8), color=colour, label=kind, linewidth=3 if kind == "noise" else 1.5)
panels[0].loglog(near, 6e-8 / near, ":", color=INK, label="rounding / distance to the end")
panels[1].loglog(near, 6e-8 / near, ":", color=INK)
panels[0].set(xlabel="t", ylabel="relative error, the worse of D and ε̂", title="near noise: noise and score fail")
panels[1].set(xlabel="1 - t", title="near data: data fails")
panels[1].invert_xaxis()
panels[0].set_ylim(1e-8, 10)
panels[1].legend(*panels[0].get_legend_handles_labels(), loc="upper left", frameon=False, fontsize=9)
plt.show()

assert max(max(recovery_error(kind, t)) for kind in ("velocity", "v") for t in (1e-6, 1e-4, 1 - 1e-4, 1 - 1e-6)) < 1e-6
assert recovery_error("noise", 1e-6)[0] > 1e-3  # D from the noise, one part in a million after the start
assert recovery_error("data", 1 - 1e-6)[1] > 1e-3  # eps_hat from the data, as close to the end

# %% [markdown]
# This is why `MixtureField` returns v, whatever the schedule: its row is finite and its determinant positive
# everywhere.
#
# ## 7. Schedules
#
# The linear schedule is one choice of many. The figure shows those of `flowlib/schedules.py`: the levels, the
# signal-to-noise ratio $\text{SNR} = (\alpha/\beta)^2$, and $\omega = \dot\alpha\beta - \alpha\dot\beta$, which is
# positive exactly where the SNR rises, because $\frac{d}{dt}\frac{\alpha}{\beta} = \frac{\omega}{\beta^2}$. The last
# panels show each path as a curve in the $(\alpha, \beta)$ plane, and the mean square of the velocity target per
# component, $\mathbb E\lvert\dot\alpha z + \dot\beta\varepsilon\rvert^2/d = \dot\alpha^2 + \dot\beta^2$ for data of
# mean 0 and unit variance.

# %%
# alt: Six panels of curves for six schedules: signal level, noise level and signal-to-noise ratio, then omega, the
#   curve of beta over alpha, and the size of the velocity target. The cosine one covers the trigonometric one, both and
#   VP run along a quarter of a circle, linear along its chord.
schedules = {
    "linear": (Linear(), SCHEDULES["linear"]),
    "trigonometric": (Trigonometric(), SCHEDULES["trigonometric"]),
    "square root": (SquareRoot(), SCHEDULES["square-root"]),
    "VP": (VP(), SCHEDULES["vp"]),
    "cosine": (Cosine(), SCHEDULES["cosine"]),
    "VE (β/80)": (VE(), SCHEDULES["ve"]),
}
s = torch.linspace(0.001, 0.999, 400)
figure, panels = plt.subplots(2, 3, figsize=(10, 6), layout="constrained")
for name, (schedule, colour) in schedules.items():
    unit = 80.0 if name.startswith("VE") else 1.0
    a, b, da, db = (part(s) for part in (schedule.alpha, schedule.beta, schedule.dalpha, schedule.dbeta))
    style = {"color": colour, "label": name, "linestyle": {"cosine": ":", "VE (β/80)": "--"}.get(name, "-")}
    style["linewidth"] = 3 if name == "cosine" else 1.5  # it all but covers the trigonometric one
    panels[0, 0].plot(s, a, **style)
    panels[0, 1].plot(s, b / unit, **style)
    panels[0, 2].semilogy(s, schedule.snr(s), **style)
    panels[1, 0].plot(s, (da * b - a * db) / unit, **style)
    panels[1, 1].plot(a, b / unit, **style)
    panels[1, 2].semilogy(s, (da**2 + db**2) / unit**2, **style)
    assert (torch.diff(schedule.snr(s)) > 0).all()
    assert (da * b - a * db > 0).all()
titles = [
    ["signal level α", "noise level β", "signal-to-noise ratio"],
    ["ω = α̇β - αβ̇", "the curve (α, β)", "E|velocity target|²/d"],
]
for row, names in zip(panels, titles, strict=True):
    for axes, title in zip(row, names, strict=True):
        axes.set(title=title, xlabel="t")
panels[0, 2].set_ylim(1e-6, 1e6)
panels[1, 0].set_ylim(0, 8)
panels[1, 1].set(xlabel="α", ylabel="β", aspect="equal")
panels[1, 2].set_ylim(1e-2, 1e3)
handles, labels = panels[0, 0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
plt.show()

# %% [markdown]
# What the table of schedules says:
#
# | schedule | $\alpha$ | $\beta$ | note |
# |---|---|---|---|
# | linear | $t$ | $1 - t$ | straight conditional paths; $\omega = 1$ |
# | trigonometric | $\sin(\pi t/2)$ | $\cos(\pi t/2)$ | $\alpha^2 + \beta^2 = 1$; $\omega = \pi/2$ |
# | square root | $\sqrt t$ | $\sqrt{1 - t}$ | derivatives infinite at both ends |
# | VP | $e^{-4.975 (1 - t)^2 - 0.05 (1 - t)}$ | $\sqrt{1 - \alpha^2}$ | $\alpha_0 = 0.0066$, $\dot\beta_1$ infinite |
# | cosine | $\sin(\theta t)/\cos(0.008\,\theta)$ | $\sqrt{1 - \alpha^2}$ | $\dot\beta_1$ infinite |
# | VE | $1$ | $(80^{1/7} (1 - t) + 0.002^{1/7}\, t)^7$ | starts from $80\,\varepsilon$; never quite at data |
#
# VP is DDPM's schedule in continuous time (Song et al. 2021, with rates from 0.1 to 20), and cosine is improved
# DDPM's (Nichol and Dhariwal 2021, with the offset 0.008, so $\theta = \frac{\pi}{2 \cdot 1.008}$).
#
# **A target with infinite variance.** For the square root,
# $\dot\alpha^2 + \dot\beta^2 = \frac1{4t} + \frac1{4(1-t)}$, whose integral over time diverges. A network trained on
# this target at uniform times averages squares without a finite mean: rare times near the ends dominate every
# average, and more samples do not help. One end is enough: $\alpha = t$, $\beta = \sqrt{1 - t}$, found in a
# well-known lab, has it at $t = 1$. So has every schedule with $\beta = \sqrt{1 - \alpha^2}$ and $\dot\alpha_1 > 0$,
# for then $\beta\approx\sqrt{2\dot\alpha_1(1 - t)}$ near the end; VP and cosine belong here, with small coefficients.
# The trigonometric schedule escapes because $\dot\alpha_1 = 0$. The cure is to predict something else: the v target
# has $\mathbb E\lvert\alpha\varepsilon - \beta z\rvert^2/d = \alpha^2 + \beta^2$, bounded always.

# %%
for cut in (1e-2, 1e-4, 1e-6):  # closed form: the integral from cut to 1 - cut is log((1 - cut)/cut) / 2
    exponent = torch.linspace(math.log(cut / (1 - cut)), math.log((1 - cut) / cut), 20001)
    s = torch.sigmoid(exponent)  # a grid that is fine near both ends; dt = s (1 - s) d(exponent)
    energy = SquareRoot().dalpha(s) ** 2 + SquareRoot().dbeta(s) ** 2
    integral = float(torch.trapezoid(energy * s * (1 - s), exponent))
    print(f"times in [{cut:.0e}, 1 - {cut:.0e}]: mean square of the square root's velocity target {integral:.3f}")
    assert abs(integral - math.log((1 - cut) / cut) / 2) < 1e-6

# %% [markdown]
# ### What a change of schedule changes: the clock and the ruler
#
# > **Theorem 4.** Let $(\alpha, \beta)$ be any schedule with $\omega > 0$, and put
# >
# > $$\tau(t) = \frac{\alpha_t}{\alpha_t + \beta_t}, \qquad c(t) = \frac{1}{\alpha_t + \beta_t} .$$
# >
# > Then $c(t)\, x_t$ is a sample of the *linear* path at time $\tau(t)$. Writing a bar for everything on the linear
# > path,
# >
# > $$\bar p_\tau(c x) = c^{-d}\, p_t(x), \quad \bar D_\tau(c x) = D_t(x), \quad \bar s_\tau(c x) = s_t(x)/c,$$
# >
# > $$\dot\tau\,\bar u_\tau(c x) = c\, u_t(x) + \dot c\, x, \qquad \dot\tau = \frac{\omega}{(\alpha + \beta)^2} .$$
# >
# > If $x(t)$ solves the ODE of one path, then $c(t)\, x(t)$ at time $\tau(t)$ solves the ODE of the other.
#
# **Proof** (can be skipped).
# $c\, x_t = \frac{\alpha}{\alpha + \beta}z + \frac{\beta}{\alpha + \beta}\varepsilon = \tau z + (1 - \tau)\varepsilon$,
# for the same $z$ and $\varepsilon$. So the events $x_t = x$ and $\bar x_\tau = c x$
# are one event. Conditional means given one event are equal, which is the statement on $D$ (and $\hat\varepsilon$);
# the density follows by the change of variables, and the score by taking $\nabla_x\log$ of it. For the velocity, use
# $x = \alpha D + \beta\hat\varepsilon$ and $u = \dot\alpha D + \dot\beta\hat\varepsilon$:
#
# $$c\, u + \dot c\, x = \frac{d(c\alpha)}{dt}\, D + \frac{d(c\beta)}{dt}\,\hat\varepsilon
# = \dot\tau D - \dot\tau\hat\varepsilon = \dot\tau\,\bar u_\tau(c x),$$
#
# because $c\alpha = \tau$, $c\beta = 1 - \tau$ and the linear velocity is $D - \hat\varepsilon$. The left side is
# $\frac{d}{dt}[c\, x(t)]$ along a solution, the right side is what the chain rule asks of a solution of the linear ODE
# on the clock $\tau$. Finally
# $\dot\tau = [\dot\alpha(\alpha + \beta) - \alpha(\dot\alpha + \dot\beta)]/(\alpha + \beta)^2$, which is
# $\omega/(\alpha + \beta)^2$.
# $\blacksquare$
#
# So all Gaussian paths are one path. Between schedules with the same ends $\tau(0) = 0$, $\tau(1) = 1$, $c = 1$
# there, the map from noise to data is **the same map**. A network trained on one can be sampled on another. What a
# schedule does change: where a uniform time grid puts its steps, how curved the trajectories look to a solver, and
# how often training visits each noise level.

# %%
t, x = torch.linspace(0.05, 0.95, 64), torch.randn(64, 2, generator=seeded(8))
for name, (schedule, _) in schedules.items():
    other = MixtureField(field.means, field.std, field.weights, path=GaussianPath(schedule))
    a, b, da, db = (part(t) for part in (schedule.alpha, schedule.beta, schedule.dalpha, schedule.dbeta))
    tau, c, dtau, dc = a / (a + b), 1 / (a + b), (da * b - a * db) / (a + b) ** 2, -(da + db) / (a + b) ** 2
    here = x * (a**2 + b**2).sqrt()[:, None]  # points where this path has mass
    left = dtau[:, None] * field.u(c[:, None] * here, tau)
    right = c[:, None] * other.u(here, t) + dc[:, None] * here
    error = ((left - right).abs().amax(1) / (c[:, None] * other.u(here, t)).abs().amax(1)).max()
    mean = (field.data(c[:, None] * here, tau) - other.data(here, t)).abs().max()
    print(f"{name:14s} Theorem 4, velocity {error:.1e}   posterior mean {mean:.1e}")
    assert error < 1e-9
    assert mean < 1e-10

# %% [markdown]
# Now the trajectories. Left: the same noise on the linear and on the trigonometric path, with fine steps. They differ
# on the way and meet at both ends. Right: the trigonometric ones after the change of clock and ruler fall on the
# linear ones.

# %%
# alt: Nine paths of two fields between the same ends. Left, dashed ones arch away from the solid red ones; right, after
#   the change of variables, each dashed path lies on its red one.
line = MixtureField(torch.tensor([[-1.5], [0.5], [2.0]]), std=0.2)
bent = MixtureField(line.means, 0.2, path=GaussianPath(Trigonometric()))
start = torch.linspace(-2, 2, 9)[:, None]
fine = torch.linspace(0, 1, 201)
on_linear = sample_ode(line, start, method="rk4", times=fine, trajectory=True)[..., 0]
on_circle = sample_ode(bent, start, method="rk4", times=fine, trajectory=True)[..., 0]
a, b = Trigonometric().alpha(fine), Trigonometric().beta(fine)
figure, panels = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained", sharey=True)
panels[0].plot(fine, on_linear, color=ACCENT, linewidth=1.2)
panels[0].plot(fine, on_circle, color=INK, linewidth=1.2, linestyle="--")
panels[1].plot(fine, on_linear, color=ACCENT, linewidth=3, alpha=0.5)
panels[1].plot(a / (a + b), on_circle / (a + b)[:, None], color=INK, linewidth=1.2, linestyle="--")
panels[0].set(xlabel="t", ylabel="x", title="red: linear; dashed: trigonometric")
panels[1].set(xlabel="τ", title="the same after x → c x, t → τ")
print(f"largest difference of the end points: {(on_linear[-1] - on_circle[-1]).abs().max():.1e}")
assert (on_linear[-1] - on_circle[-1]).abs().max() < 1e-5

# %% [markdown]
# With few steps the schedule matters to Euler's method, because Euler sees the curvature. It does not matter to DDIM
# (lecture 07), which steps in $x/\alpha$ against $\beta/\alpha$, quantities on which all schedules agree: on matching
# grids it returns the same points to the last digits.

# %%
noise = torch.randn(1500, 2, generator=seeded(9))
circle = MixtureField(field.means, field.std, field.weights, path=GaussianPath(Trigonometric()))
coarse = torch.linspace(0, 1, 9)
a, b = Trigonometric().alpha(coarse), Trigonometric().beta(coarse)
matched = a / (a + b)  # the same noise levels on the linear path
ddim = sample_ddim(field, noise, times=matched) - sample_ddim(circle, noise, times=coarse)
exact = sample_ode(field, noise, method="rk4", steps=200)
errors = {}
for name, found in {  # three sets of noise each
    "linear path, uniform grid": sample_ode(field, noise, method="euler", times=coarse),
    "linear path, matched grid": sample_ode(field, noise, method="euler", times=matched),
    "trigonometric path, uniform grid": sample_ode(circle, noise, method="euler", times=coarse),
}.items():
    errors[name] = [float(part.square().sum(1).mean().sqrt()) for part in (found - exact).chunk(3)]
    print(f"8 Euler steps, {name:33s} root mean square error " + ", ".join(f"{error:.3f}" for error in errors[name]))
assert max(errors["trigonometric path, uniform grid"]) < 0.9 * min(errors["linear path, uniform grid"])
print(f"8 DDIM steps: largest difference between the two paths {ddim.abs().max():.1e}")
assert ddim.abs().max() < 1e-11

# %% [markdown]
# ## 8. The denoiser and Tweedie's formula
#
# The posterior mean $D_t(x) = \mathbb E[z\mid x_t = x]$ is what a perfect denoiser returns. It seems to need the
# posterior, hence the data's density. It needs only the score of the *noisy* data:
#
# > **Theorem 5 (Tweedie).** Let $0 < t < 1$. For data of any distribution
# >
# > $$D_t(x) = \frac{x + \beta^2 s_t(x)}{\alpha}, \quad \mathrm{Cov}[z\mid x] = \frac{\beta^2}{\alpha}\nabla D_t(x) .$$
# >
# > In terms of the score the covariance is $\frac{\beta^2}{\alpha^2}\big(I + \beta^2\nabla s_t(x)\big)$.
#
# **Proof.** As in Theorem 2 the marginal score is the mean of the conditional one:
# $s_t(x) = \mathbb E\big[\frac{\alpha z - x}{\beta^2}\mid x\big] = \frac{\alpha D_t(x) - x}{\beta^2}$. Solve for $D$.
#
# For the covariance (can be skipped), write the posterior as
# $p(z\mid x) \propto p_\text{data}(z) \exp\big((\alpha\, x\cdot z - \frac12\alpha^2\lvert z\rvert^2)/\beta^2\big)$:
# what depends on $x$ alone goes into the normaliser $Z(x)$. So
# $\partial_{x_j}\log p(z\mid x) = \frac{\alpha}{\beta^2} z_j - \partial_{x_j}\log Z(x)$. Its mean over $z$ is zero,
# because $p(z\mid x)$ integrates to 1 for every $x$; hence the last term is $\frac{\alpha}{\beta^2} D_j(x)$, and
#
# $$\partial_{x_j} D_i = \int z_i\, p(z\mid x)\, \frac{\alpha}{\beta^2} (z_j - D_j)\, dz
# = \frac{\alpha}{\beta^2} \mathrm{Cov}[z_i, z_j\mid x] .$$
#
# The first formula gives $\nabla D = (I + \beta^2\nabla s)/\alpha$, and with it the second form. No moment of the data
# is needed: the posterior has all of them, because $\lvert z\rvert^k p_t(x\mid z)$ is bounded in $z$. $\blacksquare$
#
# A denoiser knows its own uncertainty: *its Jacobian is the posterior covariance*, up to a known
# factor. So the Jacobian is symmetric and positive semidefinite, and where $D$ is steep, a little noise decides
# between data points. In one dimension:

# %%
# alt: Left, the denoiser against x at three times: a gentle slope at t = 0.2, a steeper wave at 0.5, a staircase of
#   three steps at 0.8. Right, its uncertainty: one broad hill, a lower hill, and at 0.8 two narrow peaks where the
#   stairs rise.
x = torch.linspace(-3, 3, 400)[:, None]
figure, panels = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
for t, colour in ((0.2, GREY), (0.5, INK), (0.8, ACCENT)):
    alpha, beta = t, 1 - t
    denoised, slope = divergence(line.data, x, torch.tensor(t))  # in one dimension the divergence is the derivative
    panels[0].plot(x, denoised, color=colour, label=f"t = {t}")
    panels[1].plot(x, (beta**2 / alpha * slope).sqrt(), color=colour, label=f"t = {t}")
    tweedie = (x + beta**2 * line.s(x, t)) / alpha
    assert (tweedie - denoised).abs().max() < 1e-10
panels[0].set(xlabel="x", ylabel="D(x) = E[z | x]", title="the denoiser: from one slope to a staircase")
panels[1].set(xlabel="x", ylabel="standard deviation of z given x", title="its uncertainty, from its own slope")
panels[0].legend(frameon=False)
plt.show()

# %% [markdown]
# The flat parts of the staircase are the three components at $-1.5$, $0.5$ and $2$; it is steep where the posterior is
# divided between two. Both formulas against simulation in the plane: draw many pairs $(z, x_t)$, and keep those whose
# $x_t$ falls in a small ball. Their mean and covariance are near the formulas at the centre. And without any error from
# the size of the ball, $z - D(x_t)$ must have the mean zero, and its products the mean that Tweedie gives at the same
# $x_t$. Each is tested to five standard errors.

# %%
t, radius = 0.6, 0.08
total = 50_000 if fast else 5_000_000
many = field.sample(total, seeded(10))[0]
noisy = path.sample(many, t, generator=seeded(11))
centre = torch.tensor([[0.0, 0.6]])  # between the two upper components
near = (noisy - centre).norm(dim=1) < radius
kept = many[near]
denoiser = torch.func.jacrev(lambda p: field.data(p[None], t)[0])
covariance = (1 - t) ** 2 / t * denoiser(centre[0])
print(f"{len(kept)} of {total:,} pairs in the ball")
print("mean:       simulated", kept.mean(0).numpy().round(3), " Tweedie", field.data(centre, t)[0].numpy().round(3))
print("covariance: simulated", kept.T.cov().numpy().round(3).tolist(), " Tweedie", covariance.numpy().round(3).tolist())
torch.testing.assert_close(covariance, covariance.T, rtol=0, atol=1e-12)
assert (torch.linalg.eigvalsh(covariance) > 0).all()
assert fast or (kept.T.cov() - covariance).abs().max() < 0.1
rest = kept - field.data(noisy[near], t)
products = rest[:, :, None] * rest[:, None] - (1 - t) ** 2 / t * torch.func.vmap(denoiser)(noisy[near])
for found in (rest, products):
    assert (found.mean(0).abs() < 5 * found.std(0) / len(kept) ** 0.5).all()

# %% [markdown]
# ## 9. What fails, and why
#
# Three mistakes from well-known code. None of them raises an error.
#
# **A small constant inside a derivative.** To avoid a division by zero at $t = 1$ one reads
# $\dot\beta/(\beta + 10^{-4})$ in (2). The factor is then wrong by $\beta/(\beta + 10^{-4})$: harmless at $t = 0.5$,
# one half on the linear schedule at $t = 0.9999$. A single straight line, which Euler follows exactly, now misses its
# data point by $10^{-4}$ times the noise however fine the steps: small, silent, and not the path any more. The
# library adds no constants; its samplers avoid the question instead (a last step lands on $D$).
#
# **A time per sample that broadcasts over the wrong axis.** `t * z` with `t` of shape `(B,)` and `z` of shape
# `(B, D)` multiplies *columns* by times whenever $B = D$, and images of width $W = B$ likewise. For points on a line,
# `z` of shape `(B, 1)`, it is silent for *every* $B$: the result is a $B \times B$ matrix, all pairs of times and
# samples, and a mean over it raises no error. Otherwise it is an error, so it shows up in the last batch, or never.
# `expand_time` puts the axes where they belong and is called everywhere.
#
# **β called sigma.** $\beta$ is a standard deviation; $\beta^2$ is the variance. Code that passes one where the other
# is meant is right at $t = 0$ and $t = 1$, and nowhere else.

# %%
z, eps = torch.tensor([[2.0]]), torch.tensor([[-1.0]])
for steps in (10, 100, 1000):
    x, x_wrong, h = eps.clone(), eps.clone(), 1 / steps
    for i in range(steps):
        t = i / steps
        x = x + h * (z - (x - t * z) / (1 - t))
        x_wrong = x_wrong + h * (z - (x_wrong - t * z) / (1 - t + 1e-4))
    miss, miss_wrong = (x - z).abs().item(), (x_wrong - z).abs().item()
    print(f"{steps:4d} Euler steps: |x_1 - z| = {miss:.1e}, with 1e-4 added {miss_wrong:.1e}")
    assert miss < 1e-12
    assert miss_wrong > 0.9e-4

square, each = torch.ones(4, 4), torch.tensor([0.1, 0.4, 0.6, 0.9])
print("t * z, a batch of 4 points in 4 dimensions, first sample:", (each * square)[0].tolist(), " (wrong)")
print("with expand_time:", (expand_time(each, square) * square)[0].tolist())
assert torch.equal((expand_time(each, square) * square)[0], torch.full((4,), 0.1))
for batch in (2, 3, 7):
    each, on_line = torch.linspace(0.1, 0.9, batch), torch.ones(batch, 1)
    assert (each * on_line).shape == (batch, batch)  # silently
    assert torch.equal(expand_time(each, on_line) * on_line, each[:, None])
show_source(expand_time)

# %% [markdown]
# ## 10. An experiment: when does the density split?
#
# Two equal components at $\pm m$ with standard deviation $\sigma < m$, on the linear path. A mixture of two equal
# Gaussians of standard deviation $\sqrt V$ at distance $2\alpha m$ has two modes if and only if $\alpha m > \sqrt V$.
# With $V = \alpha^2\sigma^2 + \beta^2$ the density splits at
#
# $$t^\ast = \frac{1}{1 + \sqrt{m^2 - \sigma^2}} .$$
#
# Before it the density keeps one mode; after it the two halves part. (For $m \le \sigma$ there is one mode for ever.)
# This is not when the *flow* decides. Its paths keep their order, and here the field is odd in $x$, so a path never
# crosses 0: where a sample goes is decided at $t = 0$, by the sign of $x_0$. At $t^\ast$ it only becomes visible in the
# density.
#
# **Change `m` below, to a number up to 2.5, predict where the dashed line will fall, and run the cell.** Then try a
# schedule: replace `GaussianPath()` by `GaussianPath(VP())`; why does the picture move, though the end does not?

# %%
# alt: A grey density around x = 0 forks into two branches that end at 1.5 and -1.5; twelve red paths follow it, six to
#   each branch, and a dashed line marks t = 0.40, where it forks.
m, sigma = 1.5, 0.2
two = MixtureField(torch.tensor([[-m], [m]]), std=sigma, path=GaussianPath())

clock, place = torch.linspace(0, 0.99, 100), torch.linspace(-3, 3, 401)
density = torch.stack([two.log_prob(place[:, None], float(t)).exp() for t in clock])
ways = sample_ode(two, torch.linspace(-1.8, 1.8, 12)[:, None], method="rk4", steps=100, trajectory=True)[..., 0]
split = 1 / (1 + math.sqrt(m**2 - sigma**2)) if m > sigma else None  # None: it never splits
figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
shade = (density / density.amax(1, keepdim=True)).T  # each time scaled to its own maximum
axes.imshow(shade, origin="lower", extent=(0, 0.99, -3, 3), aspect="auto", cmap="Greys", vmax=1.6)
axes.plot(torch.linspace(0, 1, 101), ways, color=ACCENT, linewidth=0.9)
if split is not None:
    axes.axvline(split, color=INK, linestyle="--", label=f"t* = {split:.2f} (linear path)")
    axes.legend(loc="upper left")
axes.set(xlim=(0, 1), xlabel="t", ylabel="x", title="density (grey) and trajectories (red) of two components at ±m")
assert (ways.sign() == ways[0].sign()).all()  # decided at the start


def modes(t):
    values = two.log_prob(torch.linspace(-3, 3, 6001)[:, None], t)
    return int(((values[1:-1] > values[:-2]) & (values[1:-1] > values[2:])).sum())


if isinstance(two.path.schedule, Linear):
    assert modes(1.0) == 1 if split is None else (modes(split - 0.001), modes(split + 0.001)) == (1, 2)

# %% [markdown]
# ## Summary
#
# - A path is chosen per data point, $x_t = \alpha z + \beta\varepsilon$; its velocity and score are one line each,
#   (2) and (3).
# - The marginal velocity and score are posterior averages of those, and generate the marginal path: (4), Theorem 2.
# - Velocity, score, $D$, $\hat\varepsilon$ and v are one pair of unknowns seen through different rows; $\Delta$ says
#   what each is worth at each time.
# - All schedules are the linear one on another clock and another ruler: Theorem 4.
# - The score is the denoiser (Tweedie), and the denoiser's Jacobian is the posterior covariance: Theorem 5.
#
# What is missing: (4) needs the data's density. The next lecture learns it by regression from samples alone.
#
# ## What to read next
#
# - P. Holderrieth and E. Erives, *An introduction to flow matching and diffusion models*, 2025,
#   [arXiv:2506.02070](https://arxiv.org/abs/2506.02070): the notes of MIT 6.S184, whose notation this course shares;
#   their sections on the training target cover this lecture's ground.
# - Y. Lipman, R. Chen, H. Ben-Hamu, M. Nickel and M. Le, *Flow matching for generative modeling*, ICLR 2023,
#   [arXiv:2210.02747](https://arxiv.org/abs/2210.02747): conditional paths and the marginalisation trick.
# - M. Albergo, N. Boffi and E. Vanden-Eijnden, *Stochastic interpolants: a unifying framework for flows and
#   diffusions*, 2023, [arXiv:2303.08797](https://arxiv.org/abs/2303.08797): more general paths, and both equations
#   with full rigour.
# - D. Kingma, T. Salimans, B. Poole and J. Ho, *Variational diffusion models*, NeurIPS 2021,
#   [arXiv:2107.00630](https://arxiv.org/abs/2107.00630): diffusion models as functions of the signal-to-noise ratio,
#   in the spirit of Theorem 4.
# - T. Salimans and J. Ho, *Progressive distillation for fast sampling of diffusion models*, ICLR 2022,
#   [arXiv:2202.00512](https://arxiv.org/abs/2202.00512): the v-prediction.
# - B. Efron, *Tweedie's formula and selection bias*, Journal of the American Statistical Association 106, 2011.
# - L. Ambrosio and G. Crippa, *Continuity equations and ODE flows with non-smooth velocity*, Proceedings of the Royal
#   Society of Edinburgh A 144, 2014: Theorem 1 where the velocity is not smooth.
# - E. Hairer, S. P. Nørsett and G. Wanner, *Solving ordinary differential equations I*, 2nd ed. 1993: section I.14, how
#   a flow depends on its start.
# - V. Bogachev, N. Krylov, M. Röckner and S. Shaposhnikov, *Fokker–Planck–Kolmogorov equations*, American Mathematical
#   Society, 2015: when the equation has one solution only. The step from densities to paths is in V. Bogachev,
#   M. Röckner and S. Shaposhnikov, *On the Ambrosio–Figalli–Trevisan superposition principle for probability solutions
#   to Fokker–Planck–Kolmogorov equations*, 2019, [arXiv:1903.10834](https://arxiv.org/abs/1903.10834).
#
# **Now you:** [Exercise 02](../exercises/02_probability_paths.ipynb). Next: [lecture 03](03_flow_matching.ipynb),
# where a network learns the velocity from samples.
