# %% [markdown]
# # Exercise 01. Flows and diffusions
#
# You write the motions of lecture 01 yourself: solvers of an ODE, Brownian paths, Euler–Maruyama, Langevin dynamics
# at a temperature. Four questions (01.2, 01.5, 01.6, 01.7) are derivations whose result is checked, and the last one
# finds out what an unknown solver is.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right;
# when it is wrong, it says what probably went wrong. The grader runs these checks and a few more. `hint("01.1")` gives
# a hint; asked again, it says more, three times. Below the set-up and after each check a line says how much is right
# (`3 of 7 ✓`). Every question stands on its own.
#
# **Needed before:** [lecture 01](../lectures/01_flows_and_diffusions.ipynb). **Time:** about 85 minutes.
# **Points:** 10.
#
# All tensors are `float64`, and no function changes a tensor that it is given. Noise comes from the `generator` that a
# function is given, as in `torch.randn(3, 2, generator=generator, dtype=torch.float64)`. Checks that draw samples call
# a right answer wrong with probability below $10^{-6}$.
#
# **Without** in a question names functions that solve it already: an answer that calls one of them gets no points.

# %%
import functools
import inspect
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor
from torchdiffeq import odeint

from flowlib import MixtureField, sample_ode, sample_sde, solvers
from flowlib.course.notebook import exercise, seeded, unaided
from flowlib.data import toy
from flowlib.plotting.style import ACCENT, GREY, INK, PALE
from flowlib.solvers import STEPS, time_grid

hint = exercise("01_flows_and_diffusions").hint
ring = MixtureField(*toy.mixture(torch.float64))  # eight Gaussians
line = MixtureField(torch.tensor([[-1.2], [0.9]], dtype=torch.float64), 0.25)  # two, in one dimension


def at(t: float | Tensor, x: Tensor) -> Tensor:
    """The time as a tensor that broadcasts over x (B, d), whether it comes as a number or with shape () or (B,)."""
    t = torch.as_tensor(t, dtype=x.dtype)
    return t if t.ndim == 0 else t.reshape(-1, 1)


def points(x: object, shape: tuple[int, ...]) -> Tensor:
    """Return x if it is a tensor of this shape: for the fields below, whose first argument is the state."""
    assert getattr(x, "shape", None) == shape, "functions of state and time are called as f(x, t): the state first"
    return x


def careful(answer: Callable[..., Any]) -> Callable[..., Any]:
    """An answer that is seen to leave the tensors it is given as they were."""

    @functools.wraps(answer)
    def watched(*given: Any) -> Any:
        before = [value.clone() if isinstance(value, Tensor) else value for value in given]
        result = answer(*given)
        for name, value, old in zip(inspect.signature(answer).parameters, given, before, strict=False):
            assert not isinstance(value, Tensor) or torch.equal(value, old), (
                f"`{name}` has been changed in place: {name} += ... changes the caller's tensor"
            )
        return result

    return watched


def sound(answer: object, shape: tuple[int, ...]) -> Tensor:
    """Return an answer if it is a finite float64 tensor of this shape: what is looked at before its values."""
    assert isinstance(answer, Tensor), f"return one tensor, got {type(answer).__name__}"
    assert answer.dtype == torch.float64, f"all tensors are float64, yours is {answer.dtype}"
    assert answer.shape == shape, f"expected a tensor of shape {shape}, got {tuple(answer.shape)}"
    assert bool(torch.isfinite(answer).all()), "some values are NaN or infinite"
    return answer


def pair(answer: object, what: str) -> tuple[float, float]:
    """The two numbers of an answer, which must be finite."""
    message = f"return two numbers: {what}"
    assert isinstance(answer, tuple | list), message
    assert len(answer) == 2, message
    assert all(torch.as_tensor(number).numel() == 1 for number in answer), message
    first, second = (float(number) for number in answer)
    assert math.isfinite(first + second), f"one of the two numbers is NaN or infinite: {first}, {second}"
    return first, second


def drawn(draw: Callable[[torch.Generator], Tensor]) -> Tensor:
    """What `draw` draws, once it is seen to take all its noise from the generator that it is given."""
    generator = seeded(3)
    first, second = draw(generator), draw(generator)
    assert near(first, draw(seeded(3))), "two calls with equal generators differ: draw from `generator` only"
    assert not near(first, second), "two calls in a row are equal: seed nothing, draw from `generator` as it comes"
    assert not near(first, draw(seeded(4))), "two seeds give the same noise: draw from `generator`"
    return first


def look_at_noise(z: Tensor) -> None:
    """Check numbers (B, d) that should be independent draws of one Gaussian of mean 0, whatever its width."""
    assert not near(z, z[:1].expand_as(z)), "all samples got the same noise: it must have the shape of x"
    assert not near(z, z[:, :1].expand_as(z)), (
        "the coordinates of a sample got the same noise: it must have the shape of x"
    )
    assert not bool((z >= 0).all()), "the noise is never negative: randn, not rand, and not its square"
    z, six = z / z.std(), 6 / math.sqrt(z.numel())  # six standard deviations of a mean
    assert abs(float(z.mean())) < six, (
        "what is added does not have mean 0: is it rand for randn, or does g move the drift?"
    )
    assert abs(float((z[:, 0] * z[:, 1]).mean())) < 2 * six, "the noise of the coordinates must be independent"
    fourth = float((z**4).mean())
    assert fourth < 8, (
        f"the fourth moment of the noise is {fourth:.1f}, a Gaussian's is 3: is noise multiplied by noise?"
    )
    assert abs(fourth - 3) < 8 * math.sqrt(96 / z.numel()), (
        f"the noise is not Gaussian: its fourth moment is {fourth:.2f}, a Gaussian's is 3"
    )
    assert z.abs().unique().numel() > 0.99 * z.numel(), (
        "some samples got the noise of others, or its mirror image: draw it for each"
    )


def near(a: object, b: object, tolerance: float = 1e-9) -> bool:
    """Whether two numbers or tensors agree, in value and in shape."""
    a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    return a.shape == b.shape and bool(((a - b).abs() <= tolerance).all())


# %% [markdown]
# ## 01.1 Euler along a time grid (1 point, 5 minutes, easy)
#
# Follow $\dot x = f(x, t)$ by Euler's method, $x_{n+1} = x_n + h_n f(x_n, t_n)$, along a grid whose steps
# $h_n = t_{n+1} - t_n$ need not be equal. Return the start and the state after each step.
#
# **Without:** `sample_ode`, `solvers.euler`, torchdiffeq's `odeint`.


# %% solution="01.1"
def euler_path(f: Callable[[Tensor, Tensor], Tensor], x: Tensor, times: Tensor) -> Tensor:
    """Euler's method.

    Args:
        f: the velocity, f(x, t), for x (B, d) and a time; returns (B, d).
        x: the starts (B, d), at times[0]. They are not changed.
        times: (N + 1,) increasing times.

    Returns:
        all states (N + 1, B, d), the start first.
    """
    ### BEGIN SOLUTION
    states = [x]
    for t, s in pairwise(times):
        states.append(states[-1] + (s - t) * f(states[-1], t))
    return torch.stack(states)
    ### END SOLUTION


# %% check="01.1" points=1
follow = careful(unaided(sample_ode, solvers.euler, odeint)(euler_path))
times = torch.tensor([0.0, 0.1, 0.15, 0.4, 0.5, 0.9, 1.0], dtype=torch.float64)  # 6 steps
x = torch.tensor([[1.0, 2.0], [-1.0, 0.5], [3.0, -0.2]], dtype=torch.float64)  # 3 samples
h = times.diff()
states = follow(lambda x, t: points(x, (3, 2)), x, times)  # dx/dt = x
assert isinstance(states, Tensor), f"return one tensor with all states (torch.stack), got {type(states).__name__}"
assert states.shape != (3, 2), "return all states, the start first, and not the last one only"
assert len(states) != 4, "with 3 samples you made 3 steps: loop over the times, and not over the batch"
assert len(states) != 6 or near(states[0], x), "the start belongs to the path: it is the first of the N + 1 states"
assert len(states) != 6, "N + 1 times have N steps between them, and N + 1 states: one step is missing"
states = sound(states, (7, 3, 2))
assert not near(states[0], states[-1]), (
    "all states are equal: is it one tensor, changed in place, or does the loop never run?"
)
assert not near(states[-1], torch.zeros(3, 2)), "the last states were never written: how often does your loop run?"
assert near(states[0], x), "the first state must be the start"
growth = states[1:] / states[:-1] - 1  # h_n in each step, for this field
assert not near(growth, growth[:1].expand(6, 3, 2)), "each step has its own length t_(n+1) - t_n; yours are all equal"
assert not near(states[1:] - x, times[1:, None, None] * x), (
    "take the velocity where the particle is now, not at the start"
)
h = h[:, None, None].expand(6, 3, 2)
assert not near(growth, -h), "the states move against the velocity: a step is the later time minus the earlier one"
assert not near(growth, h - 1), "a step adds to the state: x_n is missing"
assert not near(growth, h + h**2 / 2), "Euler's method looks at the field once in a step, where it begins"
assert near(growth, h), "on dx/dt = x a step must multiply the state by 1 + h"
clock = follow(lambda x, t: torch.ones_like(points(x, (3, 2))) * at(t, x), x, times).diff(dim=0)  # dx/dt = t
assert not near(clock, h * times[1:, None, None]), (
    "take the velocity at the time where the step begins, not where it ends"
)
assert not near(clock, h * torch.arange(6)[:, None, None]), "f needs the time of a step, not its number"
assert near(clock, h * times[:-1, None, None]), "on dx/dt = t a step must add h times its first time"
late = torch.tensor([0.5, 0.7, 0.8], dtype=torch.float64)  # not from 0, one sample, three dimensions
alone = sound(follow(lambda x, t: torch.ones_like(points(x, (1, 3))), torch.zeros(1, 3).double(), late), (3, 1, 3))
assert near(alone[:, 0], (late - 0.5)[:, None].expand(3, 3)), (
    "for dx/dt = 1 and times from 0.5 the state must grow by as much as time does: use the times as they come"
)
### BEGIN HIDDEN TESTS
assert near(follow(ring.u, x, times), sample_ode(ring, x, times=times, method="euler", trajectory=True)), (
    "on eight Gaussians the states are not those of Euler's method"
)
### END HIDDEN TESTS

# %% [markdown] hints="01.1"
# 1. There is one step for each pair of neighbouring times. How many pairs do N + 1 times have?
#
# 2. Start a list with `x`. In a loop over the pairs `(t, s)` append the last state plus `(s - t)` times the velocity
#    there, at time `t`. At the end make one tensor of the list.
#
# 3. `for t, s in zip(times[:-1], times[1:])` gives the pairs, `states[-1] + (s - t) * f(states[-1], t)` is the new
#    state, and `torch.stack(states)` the answer. `x = x + ...` makes a new tensor; `x += ...` would change the
#    caller's.

# %% tags=["demo"]
noise = torch.randn(60, 2, generator=seeded(1), dtype=torch.float64)
figure, axes = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
expected = sample_ode(ring, noise, steps=12, method="euler", trajectory=True)
for ax, paths, title in zip(
    axes, (euler_path(ring.u, noise, time_grid(12)), expected), ("yours", "expected"), strict=True
):
    ax.plot(paths[..., 0], paths[..., 1], color=GREY, lw=0.6)
    ax.scatter(*paths[-1].T, s=8, color=ACCENT, zorder=3)
    ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", title=title, xlabel="$x_1$", ylabel="$x_2$")
plt.show()

# %% [markdown]
# ## 01.2 All methods with two evaluations (1 point, 10 minutes, medium)
#
# Heun and midpoint are members of one family. It looks at the field twice, the second time a fraction $0 < c \le 1$
# of the step later:
#
# $$k_1 = f(x, t), \qquad k_2 = f(x + c h k_1,\; t + c h), \qquad x' = x + h\, (w_1 k_1 + w_2 k_2).$$
#
# Find the weights $w_1, w_2$, as functions of $c$, that make the method of order 2, and write the step, which calls
# $f$ twice.
#
# **Without:** `solvers.adams_bashforth`.


# %% solution="01.2"
def second_order_step(f: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: Tensor, h: Tensor, c: float) -> Tensor:
    """One step of order 2 with two evaluations.

    Args:
        f: the velocity, f(x, t) -> (B, d).
        x: the state (B, d).
        t: the time, shape ().
        h: the length of the step, shape ().
        c: where the second evaluation is made, in (0, 1].

    Returns:
        the state (B, d) at time t + h.
    """
    ### BEGIN SOLUTION
    k1 = f(x, t)
    k2 = f(x + c * h * k1, t + c * h)
    return x + h * ((1 - 1 / (2 * c)) * k1 + 1 / (2 * c) * k2)
    ### END SOLUTION


# %% check="01.2" points=1
make_step = careful(unaided(solvers.adams_bashforth)(second_order_step))
x = torch.tensor([[1.0, -2.0], [0.5, 3.0], [0.1, 0.7]], dtype=torch.float64)
t, h = torch.tensor([0.3, 0.2], dtype=torch.float64)
for c in (0.25, 0.7, 1.0):  # dx/dt = x (1 + t) says where f is asked
    asked: list[tuple[Tensor, float]] = []

    def spy(x: Tensor, t: Tensor, asked: list[tuple[Tensor, float]] = asked) -> Tensor:
        asked.append((points(x, (3, 2)).clone(), float(at(t, x).flatten()[0])))
        return x * (1 + at(t, x))

    sound(make_step(spy, x, t, h, c), (3, 2))
    assert len(asked) == 2, f"the method has two evaluations of f, yours has {len(asked)}"
    assert near(asked[0][0], x), "the first evaluation must be at x itself"
    assert near(asked[0][1], 0.3), "the first evaluation must be at t itself"
    assert not near(asked[1][1], 0.3), "the second evaluation must be later: at time t + c h, not t"
    assert near(asked[1][1], 0.3 + 0.2 * c), "the second evaluation is at time t + c h: a fraction c of the step later"
    assert not near(asked[1][0], x), "the second evaluation must be at another place: x + c h k1, not x"
    assert near(asked[1][0], x + c * 0.2 * 1.3 * x), "the second evaluation is at the place x + c h k1"
    one = make_step(lambda x, t: x * (1 + at(t, x)), x[:1], t, h, c)
    assert near(one, make_step(lambda x, t: x * (1 + at(t, x)), x, t, h, c)[:1]), (
        "the step of a sample depends on which others are in the batch"
    )
    # dx/dt = 1 and dx/dt = t see the weights. An exact path moves by h, and by h times its mean slope, 0.3 + 0.1.
    total = (make_step(lambda x, t: torch.ones_like(x), x, t, h, c) - x) / h
    slope = (make_step(lambda x, t: torch.ones_like(x) * at(t, x), x, t, h, c) - x) / h
    one = torch.ones(3, 2)
    assert not near(total, 0 * one), "the state has not moved: a step returns x at time t + h, as a new tensor"
    for forgotten in (one / 0.2, one - x / h):
        assert not near(total, forgotten, 1e-6), (
            "a step starts from x and adds h times the weighed slopes: x or h is missing"
        )
    assert near(total, one, 1e-6), "for a constant velocity v the step must be h v: what do the weights have to sum to?"
    if c < 1:
        early, late = 0.3, 0.3 + 0.2 * c  # the slopes that are weighed
        assert not near(slope, (early + late) / 2 * one, 1e-6), (
            "equal weights belong to Heun, c = 1; for other c they give order 1"
        )
        assert not near(slope, late * one, 1e-6), "the first slope is not used: that is right for c = 1/2 alone"
        assert not near(early + late - slope, 0.4 * one, 1e-6), "the two weights are exchanged"
    assert near(slope, 0.4 * one, 1e-6), (
        f"the weights are not right for c = {c}: compare the terms with h^2 in both expansions"
    )
### BEGIN HIDDEN TESTS
errors = []
for steps in (64, 128):
    place = torch.ones(1, 3, dtype=torch.float64)
    for t, s in pairwise(time_grid(steps)):  # dx/dt = 2 sin(2 t) x has the solution exp(1 - cos(2 t))
        place = make_step(lambda x, t: 2 * torch.sin(2 * at(t, x)) * x, place, t, s - t, 0.4)
    errors.append(float((sound(place, (1, 3)) - math.exp(1 - math.cos(2))).abs().max()))
assert abs(math.log2(errors[0] / errors[1]) - 2) < 0.2, "the measured order is not 2"
### END HIDDEN TESTS

# %% [markdown] hints="01.2"
# 1. Expand the exact path and the step in powers of $h$, and compare.
#
# 2. The exact path is $x + h k_1 + \frac{h^2}{2} a + \dots$ with $a = \partial_t f + (\nabla f) f$. And
#    $k_2 = k_1 + c h\, a + O(h^2)$.
#
# 3. The step is $x + h (w_1 + w_2) k_1 + h^2 w_2 c\, a + O(h^3)$. So $w_1 + w_2 = 1$ and $w_2 c = \frac12$. Check:
#    $c = 1$ is Heun, and $c = \frac12$ is the midpoint rule, which does not use $k_1$ at the end.

# %% tags=["demo"]
starts = torch.randn(20, 2, generator=seeded(2), dtype=torch.float64)
counts = [8, 16, 32, 64]
fine = sample_ode(ring, starts, steps=200, method="rk4")
figure, ax = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
for c, name, colour in [(0.5, "midpoint", INK), (1.0, "heun", ACCENT)]:
    yours, expected = [], []
    for n in counts:
        place = starts
        for t, s in pairwise(time_grid(n)):
            place = second_order_step(ring.u, place, t, s - t, c)
        yours.append(float((place - fine).norm(dim=1).mean()))
        expected.append(float((sample_ode(ring, starts, steps=n, method=name) - fine).norm(dim=1).mean()))
    ax.loglog(counts, expected, "-", color=colour, lw=1, label=f"expected, {name}")
    ax.loglog(counts, yours, "o", color=colour, label=f"yours, c = {c:g}")
ax.set(xlabel="steps", ylabel="mean error on eight Gaussians", title="Your points should lie on the lines")
ax.set_xticks(counts, counts)
ax.minorticks_off()
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 01.3 Brownian paths (1 point, 7 minutes, easy)
#
# Draw values of Brownian motion at given times, on many independent paths. Two calls with the same generator, one
# after the other, draw different paths.


# %% solution="01.3"
def brownian(times: Tensor, paths: int, generator: torch.Generator) -> Tensor:
    """Brownian motion in one dimension.

    Args:
        times: (N + 1,) increasing times; times[0] = 0. The steps need not be equal.
        paths: how many independent paths.
        generator: the source of all noise.

    Returns:
        (N + 1, paths): the values at these times; those at times[0] are 0.
    """
    ### BEGIN SOLUTION
    noise = torch.randn(len(times) - 1, paths, generator=generator, dtype=torch.float64)
    steps = times.diff().sqrt()[:, None] * noise
    return torch.cat([torch.zeros(1, paths, dtype=torch.float64), steps.cumsum(dim=0)])
    ### END SOLUTION


# %% check="01.3" points=1
times = torch.tensor([0.0, 0.04, 0.1, 0.3, 0.35, 0.8, 1.0], dtype=torch.float64)
h, count, walk = times.diff(), 20_000, careful(brownian)
W = walk(times, count, seeded(3))
assert isinstance(W, Tensor), f"return one tensor, got {type(W).__name__}"
assert W.shape != (count, 7), "the times come first: expected (N + 1, paths), got the transpose"
assert W.shape != (6, count), "N + 1 times have N + 1 values: the first one, W = 0 at times[0], is missing"
W = sound(W, (7, count))
assert near(W[0], torch.zeros(count)), "every path must be at 0 at times[0] = 0"
dW = W.diff(dim=0)
variance = dW.var(dim=1)
assert bool((dW.abs() > 1e-12).any()), "the paths never move: they are 0 at all times"
assert bool((variance > 1e-12).all()), "all paths are the same: each path needs noise of its own"
drawn(lambda generator: walk(times, count, generator))
assert float(W[1].diff().var()) > float(W[1].var()), (
    "neighbouring paths are close: the sum runs over paths, not over time"
)
six = 6 / math.sqrt(count)  # six standard deviations of a mean
assert bool((dW.mean(dim=1).abs() < six * dW.std(dim=1)).all()), "the increments do not have mean 0: randn, not rand"
assert W[1].abs().unique().numel() == count, (
    "some paths are copies of others, or their mirror images: each path needs noise of its own"
)
z = dW / variance.sqrt()[:, None]
together = z @ z.T / count - torch.eye(6)
assert not bool((together[0, 1:] > 0.9).all()), "every step of a path uses the same noise: draw it anew for each step"
assert not near(W[1:].var(dim=1) / h, torch.ones(6), 6 * math.sqrt(2 / count)), (
    "these are the increments: a path is their sum, up to each time"
)
independent = times[:-1] + times[1:]  # var(W_s - W_t) if the two were drawn independently of each other
independent[0] = h[0]
error = 6 * math.sqrt(2) / math.sqrt(count)  # of a variance of 1
assert not near(variance / independent, torch.ones(6), error), (
    "each W_t alone has the right variance, but the path jumps: values at different times share their increments"
)
assert not near(variance / h**2, torch.ones(6), error), "the variance of an increment over h is h^2, and must be h"
assert not near(variance, torch.ones(6), error), (
    "the increments do not know how long their steps are: each has variance 1"
)
assert not near(variance / h**4, torch.ones(6), error), "the increment is scaled by h^2; scale by a standard deviation"
assert not near(variance / variance.mean(), torch.ones(6), 2 * error), (
    "the steps are not equal: each has a length of its own"
)
assert not near(variance / times[1:], torch.ones(6), error), (
    "the variance of an increment is the time at which it ends: it must be the length of its step"
)
assert near(variance / h, torch.ones(6), error), "the variance of an increment must be the length of its step"
assert bool((together.abs() < 1.5 * error).all()), "increments over different steps must be independent"
assert abs(float((z**4).mean()) - 3) < 8 * math.sqrt(96 / z.numel()), (
    "mean and variance are right, but the increments are not Gaussian: their fourth moment is not 3"
)
sound(walk(times[:2], 1, seeded(4)), (2, 1))  # one step, one path
### BEGIN HIDDEN TESTS
W = walk(torch.tensor([0.0, 2.0, 9.0]).double(), count, seeded(4))
covariance = W[1:] @ W[1:].T / count
assert near(covariance / torch.tensor([[2.0, 2.0], [2.0, 9.0]]), torch.ones(2, 2), 3 * error), (
    "Cov(W_s, W_t) is not min(s, t)"
)
### END HIDDEN TESTS

# %% [markdown] hints="01.3"
# 1. Do not draw values, draw increments.
#
# 2. The increment over a step of length $h$ is $\sqrt h\, \xi$ with a fresh $\xi \sim \mathcal N(0, 1)$. The value at
#    a time is the sum of all increments before it.
#
# 3. `times.diff().sqrt()[:, None]` times `torch.randn(len(times) - 1, paths, ...)` are all increments,
#    `cumsum(dim=0)` sums them, and `torch.cat` puts a row of zeros before.

# %% tags=["demo"]
grid = time_grid(500)
yours = brownian(grid, 2000, seeded(5))
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
axes[0].plot(grid, yours[:, :20], color=GREY, lw=0.6)
axes[0].plot(grid, 2 * grid.sqrt(), color=ACCENT, label=r"expected: mostly in $\pm 2 \sqrt{t}$")
axes[0].plot(grid, -2 * grid.sqrt(), color=ACCENT)
axes[0].set(xlabel="$t$", ylabel="$W_t$", title="yours, 20 paths")
for middle in (125, 250, 375):  # t = 1/4, 1/2, 3/4
    measured, expected = yours @ yours[middle] / 2000, grid.clamp(max=float(grid[middle]))
    first = middle == 125
    axes[1].plot(grid, measured, color=GREY, lw=4, alpha=0.5, label="yours" if first else None)
    axes[1].plot(grid, expected, color=ACCENT, lw=1, label="expected" if first else None)
axes[1].set(xlabel="$t$", title=r"Cov$(W_t, W_s)$ for $s = \frac{1}{4}, \frac{1}{2}, \frac{3}{4}$")
for ax in axes:
    ax.legend(frameon=False, loc="upper left", fontsize=8)
plt.show()

# %% [markdown]
# ## 01.4 Euler–Maruyama (1 point, 10 minutes, medium)
#
# Follow $dX = f(X, t)\, dt + g(X, t)\, dW$. The diffusion coefficient may depend on the state, and every coordinate
# of every sample has a Brownian motion of its own. Both functions are asked where and when a step begins. Known
# laboratories have published this loop with mistakes; the check looks for them.
#
# **Without:** `sample_sde`.


# %% solution="01.4"
def euler_maruyama(
    drift: Callable[[Tensor, Tensor], Tensor],
    diffusion: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    times: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """The Euler-Maruyama method.

    Args:
        drift: f(x, t) -> (B, d).
        diffusion: g(x, t), the coefficient itself, without noise, shape () or (B, d).
        x: the starts (B, d), at times[0]. They are not changed.
        times: (N + 1,) increasing times; the steps need not be equal.
        generator: the source of all noise.

    Returns:
        all states (N + 1, B, d), the start first.
    """
    ### BEGIN SOLUTION
    states = [x]
    for t, s in pairwise(times):
        x = states[-1]
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        states.append(x + (s - t) * drift(x, t) + (s - t).sqrt() * diffusion(x, t) * noise)
    return torch.stack(states)
    ### END SOLUTION


# %% check="01.4" points=1
follow = careful(unaided(sample_sde)(euler_maruyama))
times = torch.tensor([0.0, 0.1, 0.15, 0.4, 0.5, 0.9, 1.0], dtype=torch.float64)
x = torch.tensor([[1.0, 2.0], [-1.0, 0.5], [3.0, -0.2]], dtype=torch.float64)
h = times.diff()
states = follow(lambda x, t: points(x, (3, 2)), lambda x, t: torch.zeros_like(points(x, (3, 2))), x, times, seeded(0))
assert isinstance(states, Tensor), f"return one tensor with all states (torch.stack), got {type(states).__name__}"
assert states.shape != (3, 2), "return all states, the start first, and not the last one only"
assert len(states) != 4, "with 3 samples you made 3 steps: loop over the times, and not over the batch"
assert len(states) != 6, "N + 1 times have N steps between them, and N + 1 states with the start: one is missing"
states = sound(states, (7, 3, 2))
assert not near(states[0], states[-1]), "all states are equal: is it one tensor, changed in place?"
assert not near(states[-1], torch.zeros(3, 2)), "the last states were never written: how often does your loop run?"
assert near(states[0], x), "the first state must be the start"
assert near(states[1:] / states[:-1] - 1, h[:, None, None].expand(6, 3, 2)), (
    "with g = 0 this is Euler's method: on f = x a step multiplies by 1 + h"
)
clock = follow(lambda x, t: torch.ones_like(x) * at(t, x), lambda x, t: 0 * x, x, times, seeded(0)).diff(dim=0)
assert near(clock, (h * times[:-1])[:, None, None].expand(6, 3, 2)), "f must be taken at the time where the step begins"

count = 20_000
x = 2 * torch.randn(count, 2, generator=seeded(1), dtype=torch.float64)


def f(x: Tensor, t: Tensor) -> Tensor:
    return torch.sin(3 * points(x, (count, 2))) + 2 * at(t, x)


def g(x: Tensor, t: Tensor) -> Tensor:
    return torch.exp(torch.cos(points(x, (count, 2)))) * (1 + at(t, x)) / 2


def zero(x: Tensor, t: Tensor) -> Tensor:
    return torch.zeros_like(x)


def one(x: Tensor, t: Tensor) -> Tensor:
    return torch.ones_like(x)


def moves(
    drift: Callable[[Tensor, Tensor], Tensor],
    diffusion: Callable[[Tensor, Tensor], Tensor],
    times: list[float],
    generator: torch.Generator | None = None,
) -> Tensor:
    """What each step along the times adds to its state: (N, B, d)."""
    grid = torch.tensor(times, dtype=torch.float64)
    generator = seeded(2) if generator is None else generator
    return sound(follow(drift, diffusion, x, grid, generator), (len(times), count, 2)).diff(dim=0)


# No drift, and g = 1: the steps of a Brownian motion.
bar = 6 * math.sqrt(2 / (2 * count))  # six standard deviations of a variance
kicks = drawn(lambda generator: moves(zero, one, [0.0, 0.3, 0.5, 0.9], generator))
look_at_noise(kicks[0])
variance, length = kicks.var(dim=(1, 2)), torch.tensor([0.3, 0.2, 0.4]).double()
assert not near(variance / length**2, torch.ones(3), bar), (
    "the noise is scaled by h: Brownian motion does not move by h in a time h"
)
assert not near(variance, torch.ones(3), bar), "the noise does not know how long the step is"
assert not near(variance / variance.mean(), torch.ones(3), 2 * bar), "the steps are not equal: each has its own length"
assert near(variance / length, torch.ones(3), bar), (
    f"for g = 1 the noise of the steps has {(variance / length).tolist()} times the right variance"
)
z = kicks / variance.sqrt()[:, None, None]
assert not bool((z[1:] - z[:1]).abs().max() < 1e-6), "every step uses the same noise: draw it anew in each"
assert float((z[:-1] * z[1:]).mean().abs()) < 6 / math.sqrt(4 * count), (
    "the noise of different steps is not independent"
)
# The same noise again, with other g. In the first step, from x at t = 0.3, it must be g(x, 0.3) times as large.
still = moves(zero, one, [0.3, 0.5])[0]
double = moves(zero, lambda x, t: 2 * one(x, t), [0.3, 0.5])[0]
assert not near(double, 4 * still), (
    "a g of 2 makes the noise 4 times as large: g is a standard deviation, not a variance"
)
assert not near(double, 2**0.5 * still), "a g of 2 makes the noise only 1.41 times as large: g needs no square root"
drift = moves(f, zero, [0.3, 0.5])[0]
assert near(moves(f, one, [0.3, 0.5])[0] - drift, still), (
    "f must be taken where the step begins, before the noise has moved x"
)
factor = (moves(f, g, [0.3, 0.5])[0] - drift) / still
assert not near(factor, g(x + drift, torch.tensor(0.3)), 1e-6), (
    "g must be taken where the step begins, before the drift has moved x"
)
assert not near(factor, g(x, torch.tensor(0.5)), 1e-6), "g must be taken at the time where the step begins"
assert near(factor, g(x, torch.tensor(0.3)), 1e-6), (
    "a diffusion coefficient that depends on state and time: the noise is not g(x, t) times that of g = 1"
)
# And the next steps, from where the first has led.
states = follow(f, g, x, torch.tensor([0.0, 0.3, 0.5], dtype=torch.float64), seeded(2))
drift = follow(f, zero, states[1], torch.tensor([0.3, 0.5], dtype=torch.float64), seeded(2))[1]
z = (states[2] - drift) / g(states[1], torch.tensor(0.3))
assert abs(float(z.var()) / 0.2 - 1) < bar, (
    "the second step is wrong where f and g depend on the state: take both at the state where that step begins"
)
### BEGIN HIDDEN TESTS
x = torch.zeros(count, 1, dtype=torch.float64)
ends = follow(lambda x, t: -x, lambda x, t: torch.tensor(0.5).double(), x, time_grid(10), seeded(3))[-1]
expected = 0.25 * 0.1 * sum(0.9 ** (2 * k) for k in range(10))
assert abs(float(ends.var()) / expected - 1) < 6 * math.sqrt(2 / count), (
    "a diffusion coefficient of shape () must do too"
)
sound(follow(one, one, torch.zeros(1, 3).double(), time_grid(2), seeded(4)), (3, 1, 3))
### END HIDDEN TESTS

# %% [markdown] hints="01.4"
# 1. It is 01.1 with one term more. In what units does Brownian motion move in a time $h$?
#
# 2. A step is $x + h f(x, t) + \sqrt h\, g(x, t)\, \xi$, where $\xi$ is drawn anew in each step, standard normal, in
#    the shape of `x`. Both functions are taken at the state before the step.
#
# 3. In the loop over pairs of times: `noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)`, then
#    `x = x + (s - t) * drift(x, t) + (s - t).sqrt() * diffusion(x, t) * noise`, and append `x`.

# %% tags=["demo"]
start = torch.randn(30, 1, generator=seeded(7), dtype=torch.float64)
yours = euler_maruyama(
    lambda x, t: line.u(x, t) + (1 - t) * line.s(x, t),  # g^2 / 2 = 1 - t
    lambda x, t: torch.sqrt(2 * (1 - t)),
    start,
    time_grid(200),
    seeded(8),
)
expected = sample_sde(line, start, steps=200, generator=seeded(9), denoise_last=False, trajectory=True)
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
for ax, paths, title in zip(axes, (yours, expected), ("yours", "expected, with other noise"), strict=True):
    ax.plot(time_grid(200), paths[:, :, 0], color=GREY, lw=0.6)
    ax.hlines(line.means[:, 0], 0, 1, color=ACCENT, lw=1, label="means of the data")
    ax.set(xlabel="$t$", title=title, ylim=(-2.2, 3.2))
    ax.legend(frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# ## 01.5 The law of Ornstein–Uhlenbeck (1 point, 10 minutes, medium)
#
# A derivation. Now the spring pulls to $\mu$, and the start is random:
#
# $$dX = \theta\, (\mu - X)\, dt + g\, dW, \qquad \mathbb E\, X_0 = m_0, \quad \text{Var}\, X_0 = v_0,$$
#
# with $X_0$ independent of $W$. Find mean and variance of $X_t$.


# %% solution="01.5"
def ornstein_uhlenbeck(m0: float, v0: float, theta: float, mu: float, g: float, t: float) -> tuple[float, float]:
    """Mean and variance of X_t.

    Args:
        m0, v0: mean and variance of X_0.
        theta: strength of the spring, > 0.
        mu: where it pulls to.
        g: diffusion coefficient, >= 0.
        t: time, >= 0.

    Returns:
        the mean and the variance.
    """
    ### BEGIN SOLUTION
    decay = math.exp(-theta * t)
    return mu + decay * (m0 - mu), decay**2 * v0 + g**2 / (2 * theta) * (1 - decay**2)
    ### END SOLUTION


# %% check="01.5" points=1
def law(m0: float, v0: float, theta: float, mu: float, g: float, t: float) -> tuple[float, float]:
    return pair(ornstein_uhlenbeck(m0, v0, theta, mu, g, t), "the mean and the variance")


# Each line tries one thing at a time, with numbers for answers.
first = law(2.0, 0.0, 1.5, 0.0, 0.8, 0.4)
assert not near(first[0], 0.1490785681, 1e-6), "the mean comes first, then the variance"
assert not near(first[0], 0.6023884238, 1e-6), "the mean decays too fast: what belongs to the variance is squared"
assert near(first[0], 1.0976232722, 1e-6) or not near(first[0], 1.0976232722, 0.01), (
    "the mean is almost right: a closed form is asked for, not a simulation"
)
assert near(law(2.0, 0.0, 1.5, 0.0, 0.8, 0.4)[0], 1.0976232722, 1e-6), (
    "wrong mean for mu = 0: e^(-theta t) times the first one"
)
assert not near(law(2.0, 0.0, 1.5, -1.0, 0.8, 60.0)[0], 0.0, 1e-6), (
    "after a long time the mean is not 0 but where the spring pulls"
)
assert near(law(2.0, 0.0, 1.5, -1.0, 0.8, 60.0)[0], -1.0, 1e-6), (
    "after a long time the mean must be where the spring pulls"
)
assert near(law(2.0, 0.0, 1.5, -1.0, 0.8, 0.0)[0], 2.0, 1e-6), (
    "at t = 0 the mean must be m0: it is the distance to mu that decays"
)
assert near(law(2.0, 0.0, 1.5, -1.0, 0.8, 0.4)[0], 0.6464349083, 1e-6), (
    "wrong mean on the way: apply Ito's formula to X - mu"
)
rest = law(0.0, 0.0, 1.5, 0.0, 0.8, 60.0)[1]
assert not near(rest, 0.4618802153, 1e-6), "that is the standard deviation: the variance is asked for"
assert not near(rest, 0.4266666667, 1e-6), (
    "the final variance is twice too large: the exponential in the isometry is squared"
)
assert not near(rest, 0.2666666667, 1e-6), "the final variance must grow with the square of g"
assert not near(rest, 0.64 * 60, 1e-6), "the variance grows for ever: but the spring makes X forget the older noise"
assert not near(rest, 0.1422222222, 1e-6), (
    "the final variance falls with the strength of the spring, not with its square"
)
assert near(rest, 0.2133333333, 1e-6), "after a long time the variance must be that of the stationary law"
young = law(0.0, 0.0, 1.5, 0.0, 0.8, 0.4)[1]
assert not near(young, 0.0962535176, 1e-6), (
    "the noise term forgets with e^(-theta t), so its variance with the square of that"
)
assert near(young, 0.1490785681, 1e-6), (
    "wrong variance from a sure start: integrate the square of g e^(-theta (t - r)) over r"
)
assert near(law(0.0, 0.5, 1.5, 0.0, 0.8, 0.0)[1], 0.5, 1e-6), "at t = 0 the variance must be v0"
spread = law(0.0, 0.5, 1.5, 0.0, 0.0, 0.4)[1]
assert not near(spread, 0.2744058180, 1e-6), "X_0 is multiplied by e^(-theta t): what happens to its variance?"
assert not near(spread, 0.5, 1e-6), "without noise the variance must shrink too: all starts move together"
assert near(spread, 0.1505971059, 1e-6), "wrong variance for g = 0: only the start is random then"
assert near(law(2.0, 0.5, 1.5, -1.0, 0.8, 0.4)[1], 0.2996756741, 1e-6), (
    "the variances of start and noise add up: they are independent"
)
### BEGIN HIDDEN TESTS
assert near(law(-0.7, 1.3, 0.4, 2.5, 1.1, 1.7)[0], 0.8788256244, 1e-6), "wrong mean"
assert near(law(-0.7, 1.3, 0.4, 2.5, 1.1, 1.7)[1], 1.4579595849, 1e-6), "wrong variance"
### END HIDDEN TESTS

# %% [markdown] hints="01.5"
# 1. Call $Y = X - \mu$. Which equation does $Y$ solve?
#
# 2. $dY = -\theta Y\, dt + g\, dW$ is the lecture's equation. There the start was a number $x_0$; now its place is
#    taken by the random $Y_0$, which is independent of the integral over $dW$.
#
# 3. $X_t = \mu + e^{-\theta t} (X_0 - \mu) + g \int_0^t e^{-\theta (t - r)} dW_r$. Take the mean. For the variance
#    add those of the two random terms: a factor $c$ in front of a random variable is $c^2$ in its variance, and the
#    last term has the lecture's variance.

# %% tags=["demo"]
# Means and variances of 200,000 paths, simulated with 1000 steps, at the times 0, 0.1, ..., 1.
means = [2.000, 1.582, 1.221, 0.912, 0.646, 0.416, 0.219, 0.049, -0.098, -0.225, -0.333]
variances = [0.500, 0.427, 0.373, 0.332, 0.301, 0.278, 0.261, 0.249, 0.239, 0.233, 0.228]
grid = time_grid(300)
yours = torch.tensor([ornstein_uhlenbeck(2.0, 0.5, 1.5, -1.0, 0.8, float(t)) for t in grid])
figure, axes = plt.subplots(1, 2, figsize=(8, 2.9), layout="constrained")
for ax, curve, simulated, name in zip(axes, yours.T, (means, variances), ("mean", "variance"), strict=True):
    ax.plot(grid, curve, color=ACCENT, label="yours")
    ax.plot(time_grid(10), simulated, "o", ms=4, color=GREY, label="expected, simulated")
    ax.set(xlabel="$t$", title=name)
    ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 01.6 Langevin dynamics at a temperature (1 point, 8 minutes, medium)
#
# With the score itself as drift, $dX = \nabla \log p(X)\, dt + \sqrt 2\, dW$ keeps $p$ in place (the lecture's
# equation with $g^2 = 2$). Physicists turn the noise up and down. Keep the drift as it is, and find how strong the
# noise has to be for the stationary density to be
#
# $$p_T(x) \propto p(x)^{1/T}:$$
#
# flatter than $p$ for a temperature $T > 1$, more peaked for $T < 1$, a plain ascent of $\log p$ for $T = 0$. Then
# follow the equation with steps of length $h$.


# %% solution="01.6"
def langevin(
    score: Callable[[Tensor], Tensor],
    x: Tensor,
    h: float,
    steps: int,
    temperature: float,
    generator: torch.Generator,
) -> Tensor:
    """Langevin dynamics by the Euler-Maruyama method.

    Args:
        score: the gradient of log p at x (B, d), shape (B, d).
        x: the starts (B, d). They are not changed.
        h: the length of a step.
        steps: how many.
        temperature: T >= 0; the stationary density is proportional to p^(1/T).
        generator: the source of all noise.

    Returns:
        the states (B, d) after the last step.
    """
    ### BEGIN SOLUTION
    for _ in range(steps):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + h * score(x) + math.sqrt(2 * h * temperature) * noise
    return x
    ### END SOLUTION


# %% check="01.6" points=1
walk = careful(langevin)
x = torch.tensor([[1.0, 2.0], [-1.0, 0.5], [3.0, -0.2]], dtype=torch.float64)
cold = walk(lambda x: -points(x, (3, 2)), x, 0.1, 4, 1e-20, seeded(0))  # p = N(0, I), next to no noise
assert getattr(cold, "shape", None) != (5, 3, 2), "return the states after the last step only"
cold = sound(cold, (3, 2))
again = walk(lambda x: -x, x, 0.1, 4, 1e-20, seeded(1))
assert not bool(((cold - again).abs() > 1e6).any()), (
    "at a tiny T the noise is huge: high temperature must mean more noise"
)
assert bool((cold.abs() < 1e6).all()), (
    "at a tiny T the states run to infinity: the drift is the score itself, whatever T is"
)
assert near(cold, again, 1e-7), "at T = 1e-20 there is still noise: how has it to depend on T?"
assert not near(cold, x), "the states have not moved: is T a factor of the drift, or is a step's result thrown away?"
assert not near(cold, 1.1**4 * x), "the states run away from where p is large: check the sign of the drift"
assert not near(cold, 0.9**3 * x), "`steps` steps are asked for, you made one fewer"
assert not near(cold, 0.9**5 * x), "`steps` steps are asked for, you made one more"
assert not near(cold, 0.95**4 * x), "the drift is the whole score, and the noise belongs to that: g^2 = 2, not 1"
assert not near(cold, (1 - 4 * 0.1) * x), "the score must be taken anew at each step, where the sample is now"
assert near(cold, 0.9**4 * x), "at a tiny T a step must add h times the score, and next to nothing else"
frozen = sound(walk(lambda x: -x, x[:1], 0.1, 4, 0.0, seeded(0)), (1, 2))
assert near(frozen, 0.9**4 * x[:1]), "at T = 0 a step must add h times the score, and nothing else"

h, T, count = 0.05, 3.0, 20_000
x = torch.randn(count, 2, generator=seeded(1), dtype=torch.float64)


def cubic(x: Tensor) -> Tensor:
    return -(points(x, (count, 2)) ** 3)


descent = sound(walk(cubic, x, h, 1, 0.0, seeded(2)), (count, 2))
kick = sound(walk(cubic, x, h, 1, T, seeded(3)), (count, 2)) - descent  # what the noise adds in one step
assert float(kick.abs().max()) > 0, "a single step at T = 3 adds no noise: the last step is like all others"
drawn(lambda generator: walk(cubic, x, h, 1, T, generator))
assert not near(kick / cubic(x), (kick / cubic(x))[:1, :1].expand(count, 2)), "the drift must not depend on T"
assert near(kick, walk(torch.zeros_like, x, h, 1, T, seeded(3)) - x), (
    "with another score the same noise adds something else: take the score before the noise has moved x"
)
look_at_noise(kick)
variance, bar = float(kick.var()), 6 / math.sqrt(count)
for mistake, message in {  # what the variance of the noise is at h = 0.05, T = 3 if ...
    0.1: "the noise does not depend on the temperature",
    0.15: "the noise lacks the factor 2: which g leaves p in place when the drift is the whole score?",
    0.9: "T multiplies the standard deviation of the noise: for which g does Fokker-Planck keep p^(1/T) in place?",
    0.0333333333: "high temperature must mean more noise, not less",
    0.09: "the noise lacks the square root",
    0.015: "the noise is scaled by h: Brownian motion does not move by h in a time h",
    6.0: "the noise does not know how long the step is",
}.items():
    assert abs(variance / mistake - 1) > bar, message
assert abs(variance / 0.3 - 1) < bar, f"the noise of a step has {variance / 0.3:.3f} times the right variance"
two = walk(torch.zeros_like, x, h, 2, T, seeded(3)) - x
assert not abs(float(two.var()) / 1.2 - 1) < bar, "both steps used the same noise: draw it anew in each"
assert abs(float(two.var()) / 0.6 - 1) < bar, "the noise of different steps must be independent"
### BEGIN HIDDEN TESTS
ends = walk(lambda x: -(x - 1) / 0.5, torch.zeros(count, 1).double(), 0.1, 40, 0.4, seeded(4))  # p = N(1, 0.5)
mean, expected = 1 - 0.8**40, 0.08 * sum(0.8 ** (2 * k) for k in range(40))
ends = sound(ends, (count, 1))
assert abs(float(ends.mean()) - mean) < 6 * math.sqrt(expected / count), "wrong mean after 40 steps"
assert abs(float(ends.var()) / expected - 1) < 6 * math.sqrt(2 / count), "wrong variance after 40 steps"
### END HIDDEN TESTS

# %% [markdown] hints="01.6"
# 1. The score of $p^{1/T}$ is $\frac1T \nabla \log p$. The lecture says which noise belongs to a drift of
#    $\frac{g^2}{2}$ times the score.
#
# 2. The drift is $\nabla \log p = T \cdot \nabla \log p_T$. Compare with $\frac{g^2}{2} \nabla \log p_T$.
#
# 3. $g^2 = 2T$. So a step is $x + h \nabla \log p(x) + \sqrt{2 h T}\, \xi$, with fresh $\xi$ in the shape of `x`,
#    made `steps` times.

# %% tags=["demo"]
places = torch.linspace(-2.5, 2.5, 400, dtype=torch.float64)[:, None]
log_p = line.log_prob(places, 0.7)
start = 1.5 * torch.randn(4000, 1, generator=seeded(11), dtype=torch.float64)
figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), layout="constrained", sharey=True)
for ax, temperature in zip(axes, (0.4, 1.0, 3.0), strict=True):
    yours = langevin(lambda x: line.s(x, 0.7), start, 0.01, 400, temperature, seeded(12))
    density = (log_p / temperature).exp()
    ax.hist(yours[:, 0], bins=70, range=(-2.5, 2.5), density=True, color=GREY, alpha=0.6, label="yours")
    ax.plot(places, density / torch.trapezoid(density, places[:, 0]), color=ACCENT, label="expected")
    ax.set(xlabel="$x$", title=f"T = {temperature:g}", ylim=(0, 1.4))
    ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 01.7 What the step size does to the answer (2 points, 15 minutes, hard)
#
# A proof. Let $p = \mathcal N(0, v)$ in one dimension, and follow $dX = \nabla \log p(X)\, dt + \sqrt 2\, dW$ by
# Euler–Maruyama with steps of length $h$:
#
# $$x_{n+1} = x_n - \frac hv\, x_n + \sqrt{2h}\, \xi_n.$$
#
# The equation keeps $p$ in place. Does the method? Prove that for every $h$ below some $h_{\max}$ the variance of
# $x_n$ converges to the same number from every start, and that this number is not $v$. Write the proof into the cell
# below (it is not graded by machine), and the two numbers as code, exactly, not to first order in $h$.


# %% [markdown] solution="01.7"
# The noise $\xi_n$ is independent of $x_n$, so the variance obeys $v_{n+1} = \rho\, v_n + 2h$ with
# $\rho = (1 - h/v)^2$. If $\rho < 1$ this map is a contraction, and $v_n$ converges from every start to its fixed
# point
#
# $$v_\infty = \frac{2h}{1 - (1 - h/v)^2} = \frac{2h}{\frac{2h}{v} - \frac{h^2}{v^2}} = \frac{v}{1 - \frac{h}{2v}}.$$
#
# For $\rho \ge 1$ the variance grows without bound, since each step adds $2h$ on top. $\rho < 1$ means
# $|1 - h/v| < 1$, that is $0 < h < 2v = h_{\max}$. The method is too wide by a factor $1 + \frac{h}{2v} + O(h^2)$:
# weak order 1, for ever.


# %% solution="01.7"
def langevin_law(v: float, h: float) -> tuple[float, float]:
    """What Euler-Maruyama makes of Langevin dynamics for N(0, v).

    Args:
        v: the variance of p, > 0.
        h: the length of a step, 0 < h < h_max.

    Returns:
        the variance to which x_n converges, and h_max, the bound for h below which it does.
    """
    ### BEGIN SOLUTION
    return v / (1 - h / (2 * v)), 2 * v
    ### END SOLUTION


# %% check="01.7" points=2
def limits(v: float, h: float) -> tuple[float, float]:
    return pair(langevin_law(v, h), "the final variance and h_max")


# At v = 0.5 and h = 0.2.
variance, largest = limits(0.5, 0.2)
assert not near([variance, largest], [1.0, 0.625], 1e-6), "the two numbers are exchanged: the variance comes first"
assert not near(variance, 0.5, 1e-6), "that is the variance of p: but the method does not keep p in place"
assert not near(variance, 0.3125, 1e-6), "half of the noise is lost: its variance in a step is 2 h"
assert variance > 0.5, "the method is too wide, not too narrow: solve for the fixed point again, minding the signs"
assert not near(variance, 0.6, 1e-6), "that is the answer to first order in h: the exact one is asked for"
for lost in (0.8333333333, 1.0):
    assert not near(variance, lost, 1e-6), (
        "a square is lost: what multiplies a number by a factor multiplies its variance by the square"
    )
assert not near(variance, 0.7905694150, 1e-6), "that is the standard deviation"
assert near(variance, 0.625, 1e-6), "wrong variance: it is the fixed point of the recursion for the variance of x_n"
assert not near(largest, 0.5, 1e-6), (
    "from there on the steps overshoot, but they still converge: when does overshooting grow?"
)
assert not near(largest, 4.0, 1e-6), "a narrow p needs short steps: h_max must grow with v, not fall"
assert near([largest, limits(2.0, 0.1)[1]], [1.0, 4.0], 1e-6), "wrong h_max: when does the variance no longer settle?"
### BEGIN HIDDEN TESTS
assert near(limits(2.0, 3.0)[0], 8.0, 1e-6), "wrong variance for a long step"
assert near(limits(0.3, 0.01)[0], 0.3050847458, 1e-6), "wrong variance"
### END HIDDEN TESTS

# %% [markdown] hints="01.7"
# 1. Write down the variance of $x_{n+1}$ in terms of that of $x_n$. What does $\xi_n$ have to do with $x_n$?
#
# 2. $v_{n+1} = (1 - h/v)^2 v_n + 2h$. When does such a recursion converge, and to what?
#
# 3. It converges if $(1 - h/v)^2 < 1$, that is if $h < 2v$. The limit solves $v_\infty = (1 - h/v)^2 v_\infty + 2h$:
#    expand the square, and one $h$ cancels.

# %% tags=["demo"]
# Variances of 200,000 samples for v = 0.5, simulated with at least 60 steps of these lengths.
lengths, measured = [0.05, 0.2, 0.4, 0.6, 0.8], [0.528, 0.625, 0.836, 1.251, 2.503]
curve = torch.linspace(0.01, 0.85, 100).tolist()
figure, ax = plt.subplots(figsize=(5.5, 3), layout="constrained")
ax.plot(curve, [langevin_law(0.5, h)[0] for h in curve], color=ACCENT, label="yours")
ax.plot(lengths, measured, "o", color=INK, label="expected, simulated")
ax.axhline(0.5, color=GREY, ls="--", label="variance of $p$")
ax.set(xlabel="$h$", ylabel="final variance", title="Langevin dynamics in steps is too wide")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 01.8 The order of an unknown solver (2 points, 20 minutes, hard)
#
# A real problem. You are handed a sampler: `solve(n)` returns its samples after $n$ steps, from the same noise each
# time. Its field is a network, so **nobody knows the exact answer**. Of which order is it, and how wrong is it?
#
# Suppose that $h$ is small enough for the error of each number to be $C n^{-p}$, with its own unknown $C$, of either
# sign. Run the sampler with `steps`, `2 * steps` and `4 * steps`, and with no other number of steps: runs are dear.
# Find $p$, which need not be a whole number, and the error of the last of the three: the mean, over the samples, of
# the Euclidean distance to the exact answer.


# %% solution="01.8"
def order_and_error(solve: Callable[[int], Tensor], steps: int) -> tuple[float, float]:
    """The order of a solver and the error of its finest run, without knowing the exact answer.

    Args:
        solve: solve(n) -> samples (B, d) after n steps; the same start each time.
        steps: of the coarsest run.

    Returns:
        the order p, and the estimated error of solve(4 * steps): mean distance to the exact samples.
    """
    ### BEGIN SOLUTION
    coarse, middle, fine = (solve(k * steps) for k in (1, 2, 4))
    first = float((coarse - middle).norm(dim=1).mean())
    second = float((middle - fine).norm(dim=1).mean())
    order = math.log2(first / second)
    return order, second / (2**order - 1)
    ### END SOLUTION


# %% check="01.8" points=2
constants = torch.tensor([[1.0, -2.0], [0.5, 3.0], [-1.7, -0.6]], dtype=torch.float64)
truth = torch.tensor([[5.0, 1.0], [0.0, -4.0], [2.0, 2.0]], dtype=torch.float64)


def estimate(p: float, steps: int) -> tuple[float, float, float]:
    """The order and error that are found for a solver whose error is exactly constants / n^p, and the true error."""
    asked: list[int] = []

    def solve(n: int) -> Tensor:
        asked.append(int(n))
        return truth + constants / float(n) ** p

    answer = order_and_error(solve, steps)
    assert asked, "your function never ran the solver"
    assert {*asked} <= {steps, 2 * steps, 4 * steps}, (
        f"run the solver with {steps}, {2 * steps} and {4 * steps} steps only; you asked for {sorted({*asked})}"
    )
    for number in (*answer, 0.0) if isinstance(answer, tuple | list) else ():
        assert math.isfinite(float(number)), (
            "a number is NaN or infinite: is a difference negative, or 0? Errors of different signs cancel in a sum"
        )
    order, error = pair(answer, "the order and the error")
    return order, error, float(constants.norm(dim=1).mean()) / (4 * steps) ** p


# A made-up solver of order 1 whose errors have different signs.
order, error, right = estimate(1.0, 5)
assert not near(order, math.log2(3), 1e-3), "the finest run is not the truth: compare neighbouring runs with each other"
assert not near([order, error], [right, 1.0], 1e-6), "the order comes first, then the error"
assert not near(order, 0.5, 1e-3), "half of the order: neighbouring runs differ by a factor of 2 in steps, not of 4"
assert not near(order, -1, 1e-3), "the order is negative: the errors get smaller as steps get more"
assert not near(order, math.log(2), 1e-3), "the steps are doubled, so the ratio is 2^p: take the logarithm with base 2"
assert not near(order, 2, 1e-3), (
    "too large by one, or twice too large: the order is that of the global error, and runs differ by a factor of 2"
)
assert abs(order) > 0.5, "the order hardly differs from 0: take differences of runs, where the exact answer cancels"
assert near(order, 1, 1e-6), "wrong order: the distances of neighbouring runs shrink by 2^p"
third = estimate(3.0, 5)
assert near(third[0], 3, 1e-6), "wrong order for a solver of order 3"
# The errors are (fine) e, (middle) 2^p e, (coarse) 4^p e; all have the same direction in each sample.
assert near(error, right, 1e-6) or not near(error, 2 * right, 1e-6), (
    "that is the error of the middle run, not of the finest"
)
assert near(error, right, 1e-6) or not near(error, right / 2, 1e-6), (
    "the last two runs differ by 2^p e - e, and not by 2^p e"
)
assert near(error, right, 1e-9) or not near(error, float(constants.abs().mean()) / 20, 1e-6), (
    "that is the mean over all coordinates: the distance of two samples is the root of a sum of squares"
)
assert near(error, right, 1e-9), (
    "wrong error: the mean over samples of the Euclidean distance, which the order tells from the last difference"
)
assert not near(third[1], 7 * third[2], 1e-9), (
    "the last two runs differ by more than the last one's error: by 2^p - 1 times as much"
)
assert near(third[1], third[2], 1e-12), "the error is right for order 1 and wrong for order 3: how does 2^p come in?"
between = estimate(1.5, 8)
assert near(between[0], 1.5, 1e-6), "a solver whose order is 1.5 gets another one: do not round it"
assert near(between[1], between[2], 1e-9), "the error is wrong for order 1.5"
### BEGIN HIDDEN TESTS
start = torch.randn(10, 2, generator=seeded(14), dtype=torch.float64)
order, error = order_and_error(lambda n: sample_ode(ring, start, steps=n, method="heun"), 50)
exact = sample_ode(ring, start, steps=200, method="rk4")
right = float((sample_ode(ring, start, steps=200, method="heun") - exact).norm(dim=1).mean())
assert abs(order - 2) < 0.3, "on eight Gaussians Heun must be found to have order 2"
assert abs(error / right - 1) < 0.25, "on eight Gaussians the error of Heun is estimated wrongly"
### END HIDDEN TESTS

# %% [markdown] hints="01.8"
# 1. The exact answer is unknown, but it is the same in all three runs.
#
# 2. `solve(n) - solve(2 n)` is $C n^{-p} (1 - 2^{-p})$. What is the ratio of two such differences?
#
# 3. The first difference is $2^p$ times the second: $p = \log_2$ of the ratio of their lengths. The last difference
#    is $2^p e - e$, if $e$ is the error of the finest run, so $e$ is its length divided by $2^p - 1$.

# %% [markdown]
# Now find out what these three are. One of them is sold as Heun's method.


# %% tags=["demo"]
def leap(f: solvers.Velocity, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
    slope = f(x, t)
    return x + h / 2 * (slope + f(x + h * slope, t))


start = torch.randn(20, 2, generator=seeded(15), dtype=torch.float64)


def run(step: solvers.Step, steps: int) -> Tensor:
    x = start
    for t, s in pairwise(time_grid(steps)):
        x = step(ring.u, x, t, s - t)
    return x


fine = run(STEPS["rk4"], 300)
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
boxes = {"A": STEPS["midpoint"], "B": leap, "C": STEPS["rk4"]}
for k, step in enumerate(boxes.values()):
    order, error = order_and_error(lambda n, step=step: run(step, n), 30)
    axes[0].bar(k, order, color=ACCENT)
    axes[1].bar(k - 0.2, error, width=0.4, color=ACCENT, label="yours" if k == 0 else None)
    known = float((run(step, 120) - fine).norm(dim=1).mean())
    axes[1].bar(k + 0.2, known, width=0.4, color=GREY, label="expected" if k == 0 else None)
axes[0].set(ylabel="order", title="yours (about 2, 1, 4: h is not small\nenough for more)")
axes[1].set(ylabel="error with 120 steps", yscale="log", title="its error, found without the answer")
axes[1].legend(frameon=False)
for ax in axes:
    ax.set_xticks(range(3), boxes)
    ax.grid(axis="y", color=PALE)
    ax.set_axisbelow(True)
plt.show()

# %% [markdown]
# B is Heun with one letter wrong: it looks at the end of the step, but with the time of its beginning. Its pictures
# look fine, and its order is 1. Measuring the order of a solver costs three runs, and finds what looking does not.
#
# **To be graded:** `flowlib grade 01_flows_and_diffusions.ipynb` in a terminal, in the folder of this notebook.
# **Next:** [lecture 02](../lectures/02_probability_paths.ipynb), where the fields come from.
