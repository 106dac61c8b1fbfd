# %% [markdown]
# # Exercise 02. Probability paths
#
# You build what lecture 02 derives: sampling from a path, the velocity and the score of one data point, the
# conversion between predictions, a schedule, the exact velocity of a Gaussian mixture, a test of the continuity
# equation, and Tweedie's formulas.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right;
# when it is wrong, it says what probably went wrong. The grader runs these checks and a few more. `hint("02.1")` gives
# a hint; asked again, it says more, three times. Every question stands on its own: where one needs an earlier result,
# it uses the library's. No function changes a tensor that it is given.
#
# **Without** in a question names functions that solve it already: an answer that calls one of them gets no points.
#
# **Needed before:** [lecture 02](../lectures/02_probability_paths.ipynb). **Time:** about 100 minutes. **Points:** 10.

# %%
import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from flowlib import GaussianPath, Linear, MixtureField, Schedule, SquareRoot, Trigonometric, sample_ode
from flowlib.course.notebook import exercise, unaided
from flowlib.likelihood import divergence
from flowlib.paths import expand_time
from flowlib.plotting.style import ACCENT, GREY, INK

hint = exercise("02_probability_paths").hint
# No input of any question: two checks use these names to find methods that forget a `self.` before them.
schedule, power = Linear(), 2.0


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard Gaussian numbers, in double precision: the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> bool:
    """Whether two tensors of one shape agree, relative to their size; NaN agrees with nothing."""
    return bool(((found.double() - expected).abs() <= tolerance * (1 + expected.abs())).all())


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


def sound(value: object, shape: tuple[int, ...], what: str, of: str = "") -> Tensor:
    """Return a value if it is a finite float64 tensor of this shape: what is looked at before the numbers in it."""
    assert isinstance(value, Tensor), f"{what} must be a tensor, got {type(value).__name__}"
    assert value.dtype == torch.float64, f"{what} must have the dtype of the arguments, float64, got {value.dtype}"
    assert value.shape == shape, f"{what} must have the shape {of}{tuple(shape)}, got {tuple(value.shape)}"
    assert bool(torch.isfinite(value).all()), f"{what} is not finite everywhere: some values are NaN or infinite"
    return value.detach()


# %% [markdown]
# ## 02.1 Draw from a path (1 point, 5 minutes, easy)
#
# Write the method that draws $x_t = \alpha_t z + \beta_t\varepsilon$ for a whole batch, each sample at a time of its
# own. It has to work for points `(B, D)` and for images `(B, C, H, W)` alike, on any schedule.
#
# **Without:** `GaussianPath`, `expand_time`.


# %% solution="02.1"
class Path:
    """The Gaussian path of a schedule, which has methods `alpha(t)` and `beta(t)` that return tensors like t."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def sample(self, z: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Draw x_t.

        Args:
            z: data (B, ...).
            t: one time for each sample (B,), in [0, 1].
            noise: eps, shaped like z.

        Returns:
            x_t, shaped like z.
        """
        ### BEGIN SOLUTION
        t = t.reshape(-1, *[1] * (z.ndim - 1))
        return self.schedule.alpha(t) * z + self.schedule.beta(t) * noise
        ### END SOLUTION


# %% check="02.1" points=1
@careful
@unaided(GaussianPath, expand_time)
def draw(schedule: Schedule, z: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    return Path(schedule).sample(z, t, noise)


points, eps, times = normal(4, 4, seed=1), normal(4, 4, seed=2), torch.tensor([0.1, 0.4, 0.6, 0.9]).double()
path = GaussianPath(Trigonometric())
drawn = sound(draw(Trigonometric(), points, times, eps), points.shape, "x_t", "of z, ")
assert near(drawn, draw(Trigonometric(), points, times, eps)), (
    "`noise` is eps already: sample must draw none of its own"
)
assert not near(drawn, path.sample(points.T, times, eps.T).T), (
    "t holds one time for each *sample*, but here each *column* got a time of its own: no error is raised, because "
    "this batch has as many samples as columns"
)
for other in (Linear(), schedule):
    assert not near(drawn, GaussianPath(other).sample(points, times, eps)), (
        "this is the linear path, but the path was made with Path(Trigonometric()): does the method use a global "
        "variable where it should use one of self?"
    )
same = torch.full((4,), 0.4, dtype=torch.float64)
beta = Trigonometric().beta(same[0])
for factor, says in {
    beta**-0.5: "by the square root of beta: beta is a standard deviation",
    beta: "by beta^2, the variance of x_t given z: beta is its standard deviation",
    (1 - Trigonometric().alpha(same[0])) / beta: "by 1 - alpha, which is beta on the linear path alone",
    -1.0: "by -beta: add it",
}.items():
    assert not near(draw(Trigonometric(), points, same, eps), path.sample(points, 0.4, factor * eps)), (
        f"the noise is multiplied {says}"
    )
assert not near(drawn, path.sample(eps, times, points)), (
    "data and noise are exchanged: at t = 0 the sample must be pure noise"
)
for time in (*times, times.mean()):
    assert not near(drawn, path.sample(points, time, eps)), "all samples got the same time: each has a time of its own"
assert near(drawn, path.sample(points, times, eps)), "x_t is not alpha_t z + beta_t eps"
few, eps, times = normal(3, 2, seed=3), normal(3, 2, seed=4), torch.tensor([0.0, 0.3, 1.0]).double()
for case in (Linear(), SquareRoot()):
    drawn, right = (
        sound(draw(case, few, times, eps), (3, 2), "x_t", "of z, "),
        GaussianPath(case).sample(few, times, eps),
    )
    assert near(drawn, right) or not near(drawn[1], right[1]), (
        "right inside of [0, 1] and wrong at its ends: is t clamped?"
    )
    assert near(drawn, right), f"right on Trigonometric(), wrong on {case}: use the levels of the path's own schedule"
power_path = GaussianPath(SquareRoot())
images, eps = normal(3, 3, 3, 5, seed=3), normal(3, 3, 3, 5, seed=4)
drawn = sound(draw(SquareRoot(), images, times, eps), images.shape, "x_t of images", "of z, ")
assert near(drawn, power_path.sample(images, times, eps)), (
    "right for points, wrong for images (B, C, H, W): with which of their axes does the time line up?"
)
sound(draw(SquareRoot(), images[:1], times[:1], eps[:1]), (1, 3, 3, 5), "x_t of one image", "of z, ")

# %% [markdown] hints="02.1"
# 1. Tensors are lined up from their *last* axis. Along which axis of `z` does a `t` of shape `(B,)` run?
#
# 2. Give `t` as many axes as `z` has, all of length 1 but the first. `z.ndim` is the number of axes.
#
# 3. `t = t.reshape(-1, *[1] * (z.ndim - 1))`; then `self.schedule.alpha(t) * z + ...` does the rest.

# %% [markdown]
# ## 02.2 The velocity and the score of one data point (1 point, 10 minutes, easy)
#
# Write the conditional velocity $u_t(x\mid z)$ and the conditional score $s_t(x\mid z)$ on any schedule, for
# $0 < t < 1$. The schedule has `alpha(t)`, `beta(t)` and their derivatives `dalpha(t)`, `dbeta(t)`.
#
# **Without:** `GaussianPath`, `MixtureField`.


# %% solution="02.2"
def conditional_velocity(x: Tensor, z: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """u_t(x|z): x and z are (B, D), t is a scalar tensor (); returns (B, D)."""
    ### BEGIN SOLUTION
    eps = (x - schedule.alpha(t) * z) / schedule.beta(t)
    return schedule.dalpha(t) * z + schedule.dbeta(t) * eps
    ### END SOLUTION


def conditional_score(x: Tensor, z: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """s_t(x|z): x and z are (B, D), t is a scalar tensor (); returns (B, D)."""
    ### BEGIN SOLUTION
    return (schedule.alpha(t) * z - x) / schedule.beta(t) ** 2
    ### END SOLUTION


# %% check="02.2" points=1
functions = {
    name: careful(unaided(GaussianPath, MixtureField)(function))
    for name, function in (("velocity", conditional_velocity), ("score", conditional_score))
}
path, now = GaussianPath(Trigonometric()), torch.tensor(0.35).double()
place, target = normal(6, 3, seed=5), normal(6, 3, seed=6)
found = [
    sound(function(place, target, now, path.schedule), (6, 3), f"the {name}", "of x, ")
    for name, function in functions.items()
]
right = path.velocity(place, target, now), path.score(place, target, now)
alpha, beta = path.schedule.alpha(now), path.schedule.beta(now)
for value, exact, name in zip(found, (path.velocity, path.score), functions, strict=True):
    assert not near(value, exact(target, target, now)), f"the {name} does not depend on x: z is used for x too"
    assert not near(value, exact(target, place, now)), f"the {name}: x and z are exchanged"
assert not near(found[0], GaussianPath(Linear()).velocity(place, target, now)), (
    "this velocity is that of the linear schedule only"
)
assert not near(found[0], path.velocity(place + (alpha - 1) * target, target, now)), (
    "the velocity: the noise at x is wrong, the alpha in front of z was lost"
)
assert not near(found[0], path.velocity(path.sample(target, now, place), target, now)), (
    "the velocity: x is taken for the noise, but x is data and noise together"
)
assert not near(found[0], right[0] + (alpha - path.schedule.dalpha(now)) * target), (
    "the velocity: z is multiplied by alpha, and the velocity is a derivative in time"
)
assert not near(found[0], 2 * path.schedule.dalpha(now) * target - right[0]), (
    "the velocity: beta falls, and its derivative is negative already; here the sign is changed once more"
)
assert not near(found[1], right[1] * beta), (
    "the score is divided by beta, the standard deviation, where the derivative of -|x - alpha z|^2 / (2 beta^2) "
    "has the variance"
)
assert not near(found[1], -right[1]), "the score points away from the data: it is a gradient *up* the density"
assert not near(found[1], right[1] / alpha), "the score is divided by alpha: it is a gradient in x, not in z"
assert not near(found[1], right[1] / 2), "the score is halved: the derivative of a square has a factor 2"
assert not near(found[1], path.score(place, target / alpha, now)), "the score: the mean of x given z is alpha z, not z"
for name, value, expected in zip(functions, found, right, strict=True):
    if not near(value, expected):
        assert not near(value, expected, 1e-2), (
            f"the {name} is almost right: was a small constant added to a denominator? It is a bias, everywhere"
        )
    assert near(value, expected), f"the {name} is wrong: write out d/dt of alpha z + beta eps, or grad log p(x|z)"
for schedule_now, time in ((Linear(), 0.002), (Trigonometric(), 0.998)):
    t, path = torch.tensor(time).double(), GaussianPath(schedule_now)
    for name, function in functions.items():
        value = sound(function(place[:1], target[:1], t, schedule_now), (1, 3), f"the {name} of one point", "of x, ")
        assert near(value, getattr(path, name)(place[:1], target[:1], t)), (
            f"the {name} is wrong close to an end of time, at t = {time}: is something clamped?"
        )
### BEGIN HIDDEN TESTS
path, now = GaussianPath(SquareRoot()), torch.tensor(0.9).double()
for name, function in functions.items():
    assert near(function(place, target, now, path.schedule), getattr(path, name)(place, target, now)), (
        f"the {name} is wrong on another schedule"
    )
### END HIDDEN TESTS

# %% [markdown] hints="02.2"
# 1. Which noise $\varepsilon$ sits at $x$? Solve $x = \alpha z + \beta\varepsilon$ for it.
#
# 2. The velocity is $\dot\alpha z + \dot\beta\varepsilon$ with that $\varepsilon$. The score is the gradient in $x$
#    of $-\lvert x - \alpha z\rvert^2 / (2\beta^2)$.
#
# 3. $u = \dot\alpha z + \dot\beta\,(x - \alpha z)/\beta$ and $s = (\alpha z - x)/\beta^2$. Add nothing to $\beta$.

# %% [markdown]
# ## 02.3 Convert every prediction (2 points, 20 minutes, medium)
#
# A prediction of kind `source` at $x$ is $p = aD + b\hat\varepsilon$, and $x = \alpha D + \beta\hat\varepsilon$. Turn
# it into the kind `target`, for all 25 pairs of `"data"`, `"noise"`, `"velocity"`, `"score"` and `"v"`
# ($v = \alpha\varepsilon - \beta z$). Write one solve, not twenty-five formulas.
#
# - If `source` and `target` are the same, return the prediction itself, at every time.
# - Otherwise, where the source does not determine $D$ and $\hat\varepsilon$, raise a `ValueError`: the noise at
#   $t = 0$, the data at $t = 1$, the score at both. Velocity and v must work at both ends on the linear schedule, and
#   everything must work in between, close to the ends too.
#
# **Without:** `GaussianPath`.


# %% solution="02.3"
def convert(prediction: Tensor, x: Tensor, t: Tensor, source: str, target: str, schedule: Schedule) -> Tensor:
    """Turn a prediction of one kind into another.

    Args:
        prediction, x: (B, D).
        t: a scalar tensor (), in [0, 1].
        source, target: "data" | "noise" | "velocity" | "score" | "v".
        schedule: with alpha, beta, dalpha and dbeta.

    Returns:
        (B, D)

    Raises:
        ValueError: where the source carries no information.
    """
    ### BEGIN SOLUTION
    if source == target:
        return prediction
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    rows = {
        "data": (one, zero),
        "noise": (zero, one),
        "velocity": (schedule.dalpha(t), schedule.dbeta(t)),
        "score": (zero, -1 / beta),
        "v": (-beta, alpha),
    }
    a, b = rows[source]
    delta = alpha * b - beta * a
    if delta == 0 or not (torch.isfinite(a) and torch.isfinite(b)):
        raise ValueError(f"a {source} prediction carries no information at t = {float(t)}")
    data, noise = (b * x - beta * prediction) / delta, (alpha * prediction - a * x) / delta
    a, b = rows[target]
    return a * data + b * noise
    ### END SOLUTION


# %% check="02.3" points=2
kinds = ("data", "noise", "velocity", "score", "v")
turn = careful(unaided(GaussianPath)(convert))


def example(schedule: Schedule, t: Tensor, count: int = 5) -> tuple[Tensor, dict[str, Tensor]]:
    """x, and what each kind is there."""
    z, eps = normal(count, 2, seed=7), normal(count, 2, seed=8)
    rows = {kind: GaussianPath(schedule).row(kind, t) for kind in kinds}
    return GaussianPath(schedule).sample(z, t, eps), {k: a * z + b * eps for k, (a, b) in rows.items()}


now = torch.tensor(0.3).double()
x, known = example(Trigonometric(), now)
made = {
    kind: sound(turn(known["data"], x, now, "data", kind, Trigonometric()), x.shape, f"data to {kind}", "of x, ")
    for kind in kinds
}
assert near(made["data"], known["data"]), "data to data: return the prediction itself"
assert not near(made["noise"], -known["noise"]), (
    "the noise comes out with the wrong sign: check the determinant, and which row comes first"
)
assert near(made["noise"], known["noise"], 1e-2), "data to noise is wrong: solve x = alpha D + beta eps for eps"
assert not near(made["velocity"], x), "the row of the velocity is (alpha, beta) here, which is x; it needs derivatives"
assert not near(made["score"], -known["score"]), "the score comes out with the wrong sign: it points to the data"
assert not near(made["score"], known["score"] / Trigonometric().beta(now)), (
    "the score is divided by beta once too often"
)
assert not near(made["velocity"], known["data"] - known["noise"]), "this velocity is that of the linear schedule only"
for times_beta in (1, 2):
    assert not near(made["score"], known["score"] * Trigonometric().beta(now) ** times_beta), (
        "the score is not divided by beta: it grows as the noise gets weaker"
    )
assert not near(made["v"], -known["v"]), "v comes out with the wrong sign: v = alpha eps - beta z"
for case in (Trigonometric(), Linear(), SquareRoot()):
    x, known = example(case, now)
    for source in kinds:
        for kind in kinds:
            value = sound(turn(known[source], x, now, source, kind, case), (5, 2), f"{source} to {kind}", "of x, ")
            if not near(value, known[kind]):
                assert not near(value, known[kind], 1e-2), (
                    f"{source} to {kind} is almost right: was a small constant added to the determinant?"
                )
            assert near(value, known[kind]), f"{source} to {kind} is wrong on {case}"


def tried(source: str, target: str, time: float, schedule: Schedule) -> Tensor | str:
    """What `convert` gives for a single point, or the name of its error."""
    t = torch.tensor(time).double()
    x, known = example(schedule, t, count=1)
    prediction = known[source] if bool(torch.isfinite(known[source]).all()) else torch.ones(1, 2).double()
    try:
        return turn(prediction, x, t, source, target, schedule)
    except Exception as error:
        if any(said in str(error) for said in ("the answer calls", "changed in place")):
            raise
        return type(error).__name__


for time in (0.001, 0.01, 0.99, 0.999):
    known = example(Linear(), torch.tensor(time).double(), count=1)[1]
    for source in kinds:
        for kind in kinds:
            value = tried(source, kind, time, Linear())
            assert isinstance(value, Tensor), f"{source} to {kind} is possible at t = {time}, but was refused: {value}"
            assert near(sound(value, (1, 2), f"{source} to {kind}", "of x, "), known[kind], 1e-7), (
                f"{source} to {kind} is wrong close to an end of time, at t = {time}"
            )
for kind, time in (("noise", 0.0), ("data", 1.0), ("score", 0.0), ("score", 1.0)):
    assert isinstance(tried(kind, kind, time, Linear()), Tensor), (
        f"{kind} to {kind} at t = {time:.0f} needs no solve: return the prediction itself"
    )
for source, time in (("noise", 0.0), ("data", 1.0), ("score", 0.0)):
    for kind in kinds:
        if kind != source and not (kind == "score" and time == 1):
            got = tried(source, kind, time, Linear())
            assert isinstance(got, Tensor) or got == "ValueError", f"raise a ValueError at t = {time:.0f}, not {got}"
            assert got == "ValueError", (
                f"a {source} prediction says nothing at t = {time:.0f}, for the determinant is 0: raise a ValueError "
                "there"
            )
for kind in ("v", "data", "noise", "velocity"):
    assert tried("score", kind, 1.0, Linear()) == "ValueError", (
        "a score at t = 1 must be refused too: the determinant is not 0 there, but the row is infinite"
    )
for source in ("velocity", "v"):
    for time, kind in ((0.0, "data"), (1.0, "noise"), (0.0, "noise"), (1.0, "data")):
        value, known = tried(source, kind, time, Linear()), example(Linear(), torch.tensor(time).double(), count=1)[1]
        assert isinstance(value, Tensor), f"{source} to {kind} at t = {time:.0f} is possible, but was refused: {value}"
        assert near(value, known[kind]), f"{source} to {kind} is wrong at t = {time:.0f}"

# %% [markdown] hints="02.3"
# 1. Write down the row $(a, b)$ of each of the five kinds first, as a dictionary. Everything else is the same for
#    all.
#
# 2. Cramer's rule: with $\Delta = \alpha b - \beta a$ the pair is $D = (bx - \beta p)/\Delta$ and
#    $\hat\varepsilon = (\alpha p - ax)/\Delta$. Then apply the row of the target. When does this fail?
#
# 3. Refuse when $\Delta = 0$ or when $a$ or $b$ is not finite (`torch.isfinite`), after the case `source == target`
#    has been answered. The rows: $(1, 0)$, $(0, 1)$, $(\dot\alpha, \dot\beta)$, $(0, -1/\beta)$, $(-\beta, \alpha)$.

# %% [markdown]
# ## 02.4 A schedule of your own (1 point, 10 minutes, medium)
#
# Let the data appear early: $\alpha_t = 1 - (1 - t)^k$ with a power $k \ge 1$ that the schedule is made with.
# **Choose $\beta$ yourself**, and give all four closed forms. Three conditions make it fit for flow matching:
#
# - $\beta_0 = 1$ and $\beta_1 = 0$;
# - $\dot\beta$ is finite on all of $[0, 1]$, so that the velocity target has a finite variance;
# - $w = \dot\alpha\beta - \alpha\dot\beta > 0$ on all of $[0, 1]$, the ends included, so that a velocity prediction
#   is informative everywhere.
#
# All three must hold for $k = 1, 2, 3$. (In a well-known lab $\alpha = t$ and $\beta = \sqrt{1 - t}$. Which one does
# it break?) Several schedules with different powers may be in use at once.


# %% solution="02.4"
class Early(Schedule):
    """alpha = 1 - (1 - t)^power, with a beta of your choice. Each method maps times of any shape to that shape."""

    def __init__(self, power: float) -> None:
        self.power = power

    ### BEGIN SOLUTION
    def alpha(self, t: Tensor) -> Tensor:
        return 1 - (1 - t) ** self.power

    def beta(self, t: Tensor) -> Tensor:
        return 1 - t

    def dalpha(self, t: Tensor) -> Tensor:
        return self.power * (1 - t) ** (self.power - 1)

    def dbeta(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    ### END SOLUTION


# %% check="02.4" points=1
inside, ends = torch.linspace(0.05, 0.95, 19).double(), torch.tensor([0.0, 1.0]).double()
grid = torch.linspace(0, 1, 101).double()
made = {k: Early(k) for k in (3.0, 1.0, 2.0)}
for k in (1.0, 2.0, 3.0):
    mine = made[k]
    level = {name: careful(getattr(mine, name)) for name in ("alpha", "beta", "dalpha", "dbeta")}
    for name, function in level.items():
        for times in (inside[0], inside, inside[:, None], inside[:1]):
            sound(function(times), tuple(times.shape), f"{name} for power {k:.0f}", "of its times, ")
    for other in (1.0, 2.0, 3.0):
        assert k == other or not near(level["alpha"](grid), 1 - (1 - grid) ** other), (
            f"Early({k:.0f}).alpha is that of power {other:.0f}, a global variable's or another Early's: is a self. "
            "missing?"
        )
    assert near(level["alpha"](grid), 1 - (1 - grid) ** k) or not near(level["alpha"](inside), 1 - (1 - inside) ** k), (
        "alpha is right inside and wrong close to the ends of time: is t clamped?"
    )
    assert near(level["alpha"](grid), 1 - (1 - grid) ** k), "alpha is not 1 - (1 - t)^power"
    assert near(level["beta"](ends), torch.tensor([1.0, 0.0]).double()), (
        f"beta must be 1 at t = 0 and 0 at t = 1, got {level['beta'](ends).tolist()} for power {k:.0f}"
    )
    for name in ("alpha", "beta"):
        given = level[f"d{name}"](inside).detach()
        exact = torch.func.jvp(getattr(mine, name), (inside,), (torch.ones_like(inside),))[1]
        assert not near(given, -exact), f"d{name} has the wrong sign"
        if not near(given, exact):
            assert not near(given, exact, 1e-2), (
                f"d{name} is almost the derivative of {name}: write the closed form, no finite difference and no "
                "small constant"
            )
        assert near(given, exact), f"d{name} is not the derivative of {name}: differentiate the inner function too"
    slope = level["dbeta"](torch.tensor([0.0, 0.5, 1 - 1e-12, 1.0]).double()).detach()
    steep = bool((slope[:3].abs() > 1e3).any()) or bool(torch.isinf(slope).any())
    assert not steep, (
        f"dbeta is infinite at an end for power {k:.0f}: the mean square of the velocity target, dalpha^2 + dbeta^2, "
        "then has an infinite integral, and the loss an infinite variance"
    )
    assert bool(torch.isfinite(slope).all()), f"dbeta is NaN at an end for power {k:.0f}: 0/0 hides in its formula"
    w = level["dalpha"](grid) * level["beta"](grid) - level["alpha"](grid) * level["dbeta"](grid)
    assert float(w[-1]) > 1e-6, (
        f"w = 0 at t = 1 for power {k:.0f}: there the velocity is parallel to x, and tells nothing. "
        "beta must arrive at 0 with a slope"
    )
    assert bool((w > 1e-6).all()), f"w must be positive on all of [0, 1]; its least value is {float(w.min()):.2g}"
### BEGIN HIDDEN TESTS
assert near(Early(1.5).alpha(grid), 1 - (1 - grid) ** 1.5), "alpha is wrong for a power that is not a whole number"
### END HIDDEN TESTS

# %% [markdown] hints="02.4"
# 1. At $t = 1$ we have $\alpha = 1$, $\beta = 0$, hence $w = -\dot\beta_1$. What do the second and the third
#    condition say about the slope with which $\beta$ arrives?
#
# 2. $\beta$ has to reach 0 with a finite slope that is not zero. Among $\sqrt{1 - t}$, $1 - t$ and $(1 - t)^2$ only
#    one does.
#
# 3. $\beta = 1 - t$ will do, whatever the power. Then $\dot\beta = -1$ (a tensor like $t$) and
#    $\dot\alpha = k(1 - t)^{k - 1}$, with $k$ = `self.power`.

# %% tags=["demo"]
figure, panels = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
grid = torch.linspace(0, 1, 101).double()
for k, colour in ((1.0, GREY), (2.0, INK), (3.0, ACCENT)):
    mine = Early(k)
    a, b, da, db = mine.alpha(grid), mine.beta(grid), mine.dalpha(grid), mine.dbeta(grid)
    panels[0].plot(grid, b, color=colour, linestyle="--")
    panels[0].plot(grid, a, color=colour)
    panels[1].plot(grid, db, color=colour)
    panels[2].plot(grid, da * b - a * db, color=colour, label=f"power {k:.0f}")
panels[0].plot([0, 1], [1, 0], "o", color="C0")
panels[2].axhline(0, color="C0", linestyle=":")
for axes, title in zip(
    panels,
    ("your α (solid), β (dashed; dots: its ends)", "slope of your β: finite?", "your w: above 0, at both ends?"),
    strict=True,
):
    axes.set(title=title, xlabel="t")
panels[2].legend(frameon=False)
plt.show()

# %% [markdown]
# ## 02.5 The exact velocity of a Gaussian mixture (2 points, 25 minutes, hard)
#
# Let the data be $\sum_k \pi_k N(\mu_k, \sigma_k^2 I)$. Write the *marginal* velocity
# $u_t(x) = \dot\alpha\,\mathbb E[z\mid x_t = x] + \dot\beta\,\mathbb E[\varepsilon\mid x_t = x]$ in closed form.
# Derive first: the law of $x_t$ in component $k$; $\mathbb E[z\mid x, k]$ and $\mathbb E[\varepsilon\mid x, k]$,
# where $z$ and $x$ are jointly Gaussian; the posterior $p_t(k\mid x)$. It must work far away from all components,
# too, and where a component is a single point, $\sigma_k = 0$.
#
# **Without:** `MixtureField`.


# %% solution="02.5"
def mixture_velocity(x: Tensor, t: Tensor, means: Tensor, std: Tensor, weights: Tensor, schedule: Schedule) -> Tensor:
    """u_t(x) for Gaussian-mixture data.

    Args:
        x: (B, D).
        t: a scalar tensor (), in (0, 1).
        means: (K, D); std: (K,), the standard deviation of each component, >= 0; weights: (K,), > 0, which sum to 1.
        schedule: with alpha, beta, dalpha and dbeta.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    variance = alpha**2 * std**2 + beta**2  # (K,)
    gap = x[:, None] - alpha * means  # (B, K, D)
    log_density = -0.5 * (gap**2).sum(-1) / variance - 0.5 * x.shape[1] * torch.log(2 * math.pi * variance)
    posterior = torch.softmax(weights.log() + log_density, dim=1)  # (B, K)
    scaled = gap / variance[:, None]
    data, noise = means + alpha * std[:, None] ** 2 * scaled, beta * scaled  # given the component, (B, K, D)
    return (posterior[..., None] * (schedule.dalpha(t) * data + schedule.dbeta(t) * noise)).sum(1)
    ### END SOLUTION


# %% check="02.5" points=2
now, path = torch.tensor(0.4).double(), GaussianPath(Trigonometric())
velocity = careful(unaided(MixtureField)(mixture_velocity))


def both(x: Tensor, means: Tensor, std: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The student's answer and the library's."""
    given = velocity(x, now, means, std, weights, path.schedule)
    assert isinstance(given, Tensor), f"return a tensor, got {type(given).__name__}"
    assert given.dtype == x.dtype, f"the velocity must have the dtype of x, {x.dtype}, got {given.dtype}"
    assert given.shape == x.shape, f"the velocity must have the shape of x, {tuple(x.shape)}, got {tuple(given.shape)}"
    return given.detach(), MixtureField(means, std, weights, path=path).u(x, now)


# One component: no posterior, only the regression of z and eps on x.
x, centre, one = normal(7, 2, seed=9), torch.tensor([[1.0, -2.0]]).double(), torch.ones(1).double()
given, right = both(x, centre, 0.6 * one, one)
assert bool(torch.isfinite(given).all()), "one component: some values are NaN or infinite"
assert not near(given, path.velocity(x, centre.expand_as(x), now)), (
    "one component: it is treated as a single point, its mean. But z is spread around the mean, and x says where"
)
assert not near(given, MixtureField(centre, 0.6**0.5, path=path).u(x, now)), (
    "one component: std is used as if it were a variance"
)
field = MixtureField(centre, 0.6, path=path)
frozen = path.schedule.dalpha(now) * centre + path.schedule.dbeta(now) * field.noise(x, now)
assert not near(given, frozen), "one component: E[z|x, k] is not the mean: what x tells about z has been left out"
for other, name in ((field.s, "the score"), (field.data, "E[z|x]"), (field.noise, "E[eps|x]")):
    assert not near(given, other(x, now)), f"one component: this is {name}, and the velocity is asked for"
assert not near((given / right).sum(0), torch.ones(2)), (
    "with one component its posterior is 1 for each x; yours sums to 1 over all x: take the softmax over k"
)
assert near(given, right), (
    "one component is wrong: z and x are jointly Gaussian, and so are eps and x. Regress both on x"
)

# Two components of equal width: now the posterior counts.
pair, share = torch.tensor([[-1.0], [1.5]]).double(), torch.tensor([0.8, 0.2]).double()
x = torch.linspace(-2, 2, 9).double()[:, None]
given, right = both(x, pair, torch.tensor([0.5, 0.5]).double(), share)
assert not near(given, MixtureField(pair, 0.5, path=path).u(x, now)), "the weights of the components are not used"
alone = torch.stack([MixtureField(pair[k : k + 1], 0.5, path=path).u(x, now) for k in (0, 1)])
assert not near(given, share[0] * alone[0] + share[1] * alone[1]), (
    "the components are averaged by their prior weights: at x, weigh them by the posterior p(k|x)"
)
assert not near(given, alone.sum(0)), "the components are summed: a posterior adds up to 1"
between = (given - alone[0]) / (alone[1] - alone[0])  # the posterior of the second, as it must have been
assert not near(between, between[:1].expand_as(between)), "the posterior does not depend on x"
assert not near(between * (1 - between), 0 * x), "each x takes the likeliest component: average them by the posterior"
assert not near(given, MixtureField(pair, 0.5, share.exp(), path=path).u(x, now)), (
    "the weights are added to log densities: add their logarithms"
)
assert near(given, right), (
    "the posterior p(k|x) is wrong: which mean and which variance has x in component k, noise included?"
)

# Components of different width: the normaliser of the densities counts.
given, right = both(x, pair, torch.tensor([0.2, 1.0]).double(), share)
assert near(given, right), (
    "right for components of equal width, wrong for different ones: the density of a wide Gaussian is lower at its top"
)
trio, share = normal(3, 4, seed=10), torch.tensor([0.2, 0.3, 0.5]).double()
x = normal(8, 4, seed=11)
given, right = both(x, trio, torch.tensor([0.2, 0.6, 1.0]).double(), share)
assert near(given, right), (
    "right in one dimension, wrong in four: the normaliser is a power of the number of dimensions"
)
given, right = both(x[:1], trio, torch.tensor([0.2, 0.6, 0.0]).double(), share)
assert near(given, right), "wrong for one point x, or for a component of std 0: do not divide by std"
given, right = both(100 * x, trio, torch.tensor([0.5, 0.5, 0.5]).double(), share)
assert bool(torch.isfinite(given).all()), (
    "far from all components the result is NaN: every density underflows to 0, and 0/0 follows. Work with logarithms"
)
assert near(given, right), "wrong far from all components: was a small constant added to the densities?"
### BEGIN HIDDEN TESTS
for case, time in ((Linear(), 0.4), (Trigonometric(), 0.01), (Linear(), 0.99)):
    path, now, x = GaussianPath(case), torch.tensor(time).double(), normal(5, 3, seed=12)
    given, right = both(
        x, normal(4, 3, seed=13), torch.tensor([0.1, 0.4, 0.7, 0.0]).double(), torch.full((4,), 0.25).double()
    )
    assert near(given, right), f"wrong on another mixture, another schedule, at t = {time}"
### END HIDDEN TESTS

# %% [markdown] hints="02.5"
# 1. In component $k$, $z = \mu_k + \sigma_k\xi$ and $x = \alpha z + \beta\varepsilon$. So $x$ is Gaussian with mean
#    $\alpha\mu_k$ and variance $V_k = \alpha^2\sigma_k^2 + \beta^2$. What is the covariance of $z$ with $x$, and of
#    $\varepsilon$ with $x$?
#
# 2. $\operatorname{cov}(z, x) = \alpha\sigma_k^2$ and $\operatorname{cov}(\varepsilon, x) = \beta$. The conditional
#    mean is the mean plus covariance over variance times $(x - \alpha\mu_k)$. The posterior is a softmax over $k$ of
#    $\log\pi_k + \log N(x;\, \alpha\mu_k, V_k I)$.
#
# 3. With `gap = x[:, None] - alpha * means` of shape (B, K, D): the log density is
#    $-\lvert\text{gap}\rvert^2/(2V_k) - \frac D2\log(2\pi V_k)$; the component's velocity is
#    $\dot\alpha(\mu_k + \alpha\sigma_k^2\,\text{gap}/V_k) + \dot\beta\beta\,\text{gap}/V_k$; average with
#    `torch.softmax(..., dim=1)`.

# %% tags=["demo"]
ring = torch.tensor([[-1.6, 0.8], [1.6, 1.1], [0.2, -1.6]]).double()
width, share = torch.tensor([0.3, 0.4, 0.3]).double(), torch.tensor([0.3, 0.5, 0.2]).double()
start = normal(300, 2, seed=14)
mine = start.clone()
for i in range(200):
    mine = mine + 0.005 * mixture_velocity(mine, torch.tensor(0.005 * i).double(), ring, width, share, Linear())
expected = sample_ode(MixtureField(ring, width, share), start, method="euler", steps=200)
figure, panels = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
for axes, title, cloud in zip(panels, ("yours", "expected"), (mine, expected), strict=True):
    axes.scatter(*cloud.T, s=5, color=INK)
    axes.plot(*ring.T, "x", color=ACCENT)
    axes.set(title=f"{title}: 200 Euler steps", xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
plt.show()

# %% [markdown]
# ## 02.6 A test of the continuity equation (1 point, 10 minutes, medium)
#
# Write the residual of the continuity equation in the form that divides by the density,
#
# $$\partial_t\log p_t(x) + \nabla\cdot u_t(x) + u_t(x)\cdot\nabla\log p_t(x),$$
#
# for any density and any velocity, with automatic differentiation. It is zero if and only if $u_t$ generates $p_t$
# there; a wrong velocity must get its true, non-zero residual, with its sign.
#
# **Without:** the library's `divergence`.


# %% solution="02.6"
def continuity_residual(log_prob, u, x: Tensor, t: Tensor) -> Tensor:
    """The residual at each of B points, each with its own time.

    Args:
        log_prob: a function (x, t) -> (B,).
        u: a function (x, t) -> (B, D).
        x: (B, D).
        t: (B,).

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    score, change = torch.autograd.grad(log_prob(x, t).sum(), (x, t))
    velocity = u(x, t)
    divergence = sum(
        torch.autograd.grad(velocity[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1])
    )
    return (change + divergence + (velocity * score).sum(1)).detach()
    ### END SOLUTION


# %% check="02.6" points=1
x, times = normal(6, 2, seed=15), torch.linspace(0.2, 0.8, 6).double()
measure = careful(unaided(divergence)(continuity_residual))


def slanted(x: Tensor, t: Tensor) -> Tensor:
    """A made-up log density, with all derivatives known."""
    return t**2 * x[:, 0] - 3 * x[:, 1]


def twisted(x: Tensor, t: Tensor) -> Tensor:
    """A made-up velocity, whose Jacobian is nowhere diagonal."""
    return torch.stack([x[:, 0] * x[:, 1] + 2 * x[:, 1], x[:, 0] ** 2 + 0.5 * x[:, 1] + t], dim=1)


change, div = 2 * times * x[:, 0], x[:, 1] + 0.5
transport = times**2 * twisted(x, times)[:, 0] - 3 * twisted(x, times)[:, 1]
right = change + div + transport
residual = measure(slanted, twisted, x.clone(), times.clone())
assert getattr(residual, "shape", (6,)) == (6,), (
    f"one number for each of the 6 points: expected (6,), got {tuple(residual.shape)}"
)
residual = sound(residual, (6,), "the residual")
assert not near(residual, 0 * right), "this velocity does not generate this density: its residual is not 0"
assert not near(residual, div + transport), "the time derivative of log p is missing"
assert not near(residual, -change + div + transport), "the time derivative of log p has the wrong sign"
assert not near(residual, change + div), "the density is carried along: the term u . grad log p is missing"
assert not near(residual, change + div - transport), "the term u . grad log p has the wrong sign"
assert not near(residual, change + transport), "the divergence of u is missing: the flow also squeezes"
assert not near(residual, change - div + transport), "the divergence of u has the wrong sign"
for off_diagonal in (2 * x[:, 0], x[:, 0] + 2, 3 * x[:, 0] + 2):
    assert not near(residual, right + off_diagonal), (
        "the divergence sums *all* entries of the Jacobian, or a row of it: the gradient of u.sum() does that. Only "
        "the diagonal counts"
    )
assert not near(residual, right * slanted(x, times).exp()), (
    "this is the residual for p, not for log p: divide by the density"
)
assert not near(residual, change + div + transport.sum()), (
    "u . grad log p is summed over all points: sum over coordinates"
)
assert not near(residual, right.abs()), "the sign of the residual is lost"
assert not near(residual, right**2), "this is the square of the residual"
assert not near(residual, right.mean().expand(6)), "this is the mean over all points: each has a residual of its own"
assert not near(residual, right, 1e-3) or near(residual, right), (
    "almost right: use automatic differentiation, not finite differences"
)
assert near(residual, right), "the residual of a made-up density and velocity is wrong"
field = MixtureField(normal(3, 2, seed=16), torch.tensor([0.1, 0.2, 0.15]).double())  # it generates its path
residual = float(sound(measure(field.log_prob, field.u, x.clone(), times.clone()), (6,), "the residual").abs().max())
assert residual < 1e-10 or not residual < 1, (
    f"right on polynomials, but a field that generates its path gets a residual of {residual:.0e}, and not 0 up to "
    "rounding: are these finite differences?"
)
assert residual < 1e-10, "right on polynomials, but a field that generates its path must have no residual"
wide = MixtureField(normal(3, 3, seed=16), torch.tensor([0.3, 0.2, 0.4]).double())
one = measure(wide.log_prob, wide.u, normal(1, 3, seed=15), times[:1].clone())
assert near(sound(one, (1,), "the residual of one point"), torch.zeros(1)), "wrong for one point in three dimensions"
### BEGIN HIDDEN TESTS
field = MixtureField(normal(4, 2, seed=18), torch.tensor([0.3, 0.5, 0.4, 0.6]).double())
residual = measure(field.log_prob, field.u, x.clone(), times.clone()).detach()
assert float(residual.abs().max()) < 1e-9, (
    "another field that generates its path must have no residual either: are these finite differences?"
)
wrong = measure(field.log_prob, lambda x, t: 1.1 * field.u(x, t), x.clone(), times.clone()).detach()
assert float(wrong.abs().min()) > 1e-6, "a wrong velocity must have a residual"
### END HIDDEN TESTS

# %% [markdown] hints="02.6"
# 1. `torch.autograd.grad(f(x).sum(), x)` gives each sample its own gradient, because no sample depends on another.
#
# 2. The divergence is the sum over $i$ of the derivative of the $i$-th component of $u$ with respect to $x_i$: one
#    call for each component, of which only column $i$ is kept.
#
# 3. Make `x` and `t` require gradients; `score, change = torch.autograd.grad(log_prob(x, t).sum(), (x, t))`; with
#    `v = u(x, t)` add `torch.autograd.grad(v[:, i].sum(), x, retain_graph=True)[0][:, i]` over `i`, and
#    `(v * score).sum(1)`.

# %% [markdown]
# ## 02.7 Proof: what a score knows about the data (2 points, 20 minutes, hard)
#
# Given only the marginal score $s_t$, as a function, derive the posterior mean $\mathbb E[z\mid x_t = x]$ and the
# posterior covariance $\mathrm{Cov}[z\mid x_t = x]$. Do not look the second one up: differentiate
# $p_t(x) = \int p_t(x\mid z)\,p_\text{data}(z)\,dz$ twice, and use
# $\nabla^2 p/p = \nabla^2\log p + \nabla\log p\,\nabla\log p^{\mathsf T}$ on both sides. Write the proof into the
# cell below (it is not graded by machine), and the result as code: only a right derivation gives the right numbers.
#
# **Without:** `GaussianPath`.

# %% [markdown] solution="02.7"
# Both sides of $p_t(x) = \int p_t(x\mid z)\, p_\text{data}(z)\, dz$ are differentiated once and divided by $p_t(x)$.
# With $s_z = \nabla\log p_t(x\mid z) = (\alpha z - x)/\beta^2$ this gives
# $s_t(x) = \mathbb E[s_z\mid x] = (\alpha\,\mathbb E[z\mid x] - x)/\beta^2$, hence
#
# $$\mathbb E[z\mid x] = \frac{x + \beta^2 s_t(x)}{\alpha} .$$
#
# Twice, and divided by $p_t(x)$: $\nabla s + s s^{\mathsf T} = \mathbb E[\nabla s_z + s_z s_z^{\mathsf T}\mid x]$.
# Here $\nabla s_z = -I/\beta^2$, and what is left, $\mathbb E[s_z s_z^{\mathsf T}\mid x] - s s^{\mathsf T}$, is the
# covariance of $s_z$ given $x$, which is $\alpha^2/\beta^4$ times that of $z$. Therefore
#
# $$\mathrm{Cov}[z\mid x] = \frac{\beta^4}{\alpha^2}\Big(\nabla s_t(x) + \frac{I}{\beta^2}\Big)
# = \frac{\beta^2}{\alpha^2}\big(I + \beta^2\nabla s_t(x)\big) .$$


# %% solution="02.7"
def posterior_moments(score, x: Tensor, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Mean and covariance of z given x_t = x, from the score alone.

    Args:
        score: a function (B, D) -> (B, D), the marginal score at time t, differentiable by autograd.
        x: (B, D).
        t: a scalar tensor (), in (0, 1).
        schedule: with alpha and beta.

    Returns:
        the means (B, D) and the covariances (B, D, D).
    """
    ### BEGIN SOLUTION
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    x = x.detach().requires_grad_()
    s = score(x)
    rows = [torch.autograd.grad(s[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
    jacobian = torch.stack(rows, dim=1)  # (B, D, D)
    identity = torch.eye(x.shape[1], dtype=x.dtype)
    mean = (x + beta**2 * s) / alpha
    return mean.detach(), beta**2 / alpha**2 * (identity + beta**2 * jacobian)
    ### END SOLUTION


# %% check="02.7" points=2
# Two data points, m and -m: z given x is +-m with odds that are known, so that mean and covariance are too.
m, now = torch.tensor([0.9, -0.4]).double(), torch.tensor(0.45).double()
alpha, beta = Trigonometric().alpha(now), Trigonometric().beta(now)
x = normal(6, 2, seed=17)
moments = careful(unaided(GaussianPath)(posterior_moments))


def tilt(x: Tensor) -> Tensor:
    """The probability of m given x, less that of -m: (...)."""
    return torch.tanh(alpha * (x @ m) / beta**2)


def two_point_score(x: Tensor) -> Tensor:
    return (alpha * tilt(x)[:, None] * m - x) / beta**2


def pair_of(given: object, count: int, dim: int) -> tuple[Tensor, Tensor]:
    """The two answers, if they have the form of means and covariances."""
    kinds = [type(value) for value in given] if isinstance(given, tuple | list) else []
    assert kinds == [Tensor, Tensor], "return two tensors: the means and the covariances"
    return sound(given[0], (count, dim), "means"), sound(given[1], (count, dim, dim), "the covariances")


mean, covariance = tilt(x)[:, None] * m, (1 - tilt(x) ** 2)[:, None, None] * torch.outer(m, m)
given = pair_of(moments(two_point_score, x.clone(), now, Trigonometric()), 6, 2)
assert not near(given[0], alpha * mean), "the mean is that of alpha z: the division by alpha is missing"
assert not near(given[0], x / alpha + (mean - x / alpha) / beta), (
    "the mean: the score is multiplied by the standard deviation beta, where its definition has the variance"
)
assert not near(given[0], 2 * x / alpha - mean), "the mean: one has to go *up* the score to find the data"
assert near(given[0], mean), "the mean is wrong: average the conditional score s(x|z) over z given x"
slope = torch.func.vmap(torch.func.jacrev(lambda x: tilt(x) * m))(x)  # the Jacobian of the mean
assert not near(given[1], slope), (
    "this is the Jacobian of the mean, which is proportional to the covariance but not equal to it: find the factor"
)
for factor, message in {
    alpha**2: "this is the covariance of alpha z, not of z",
    alpha: "this is alpha times the covariance",
    -1.0: "the covariance has the wrong sign: a variance is not negative",
}.items():
    assert not near(given[1], factor * covariance), message
assert not near(given[1], covariance.mean(0).expand(6, 2, 2)), "all points got one covariance: each x has its own"
assert not near(given[1][:, 0, 1], -covariance[:, 0, 1]), "the Jacobian of the score enters with the wrong sign"
shift = mean - x / alpha
assert not near(given[1], covariance + shift[:, :, None] * shift[:, None, :]), (
    "the square of the score is still in the covariance: the second derivative of log p is the Jacobian alone"
)
missing = (given[1] - covariance)[:, 0, 0]
if not near(missing, 0 * missing):
    assert not near(given[1] - covariance, missing.mean() * torch.eye(2).double().expand(6, 2, 2)), (
        "off the diagonal the covariance is right, and on it one number is missing: the term from the second "
        "derivative of log p(x|z)"
    )
assert not near(given[1], covariance + mean[:, :, None] * mean[:, None, :]), (
    "this is E[z z^T | x], the second moment: the square of the mean has to be taken off"
)
assert not near(given[1], torch.diag_embed(covariance.diagonal(dim1=1, dim2=2))), (
    "only the variances are there: the components of z depend on each other, and the Jacobian has entries off its "
    "diagonal"
)
assert near(given[1], covariance), (
    "the covariance is wrong: check powers of alpha and beta on one-dimensional Gaussians"
)
### BEGIN HIDDEN TESTS
sigma = 0.7  # data N(1, sigma^2 I), in three dimensions
for time, x in ((0.6, normal(6, 3, seed=17)), (0.05, normal(1, 3, seed=18))):
    now = torch.tensor(time).double()
    variance = now**2 * sigma**2 + (1 - now) ** 2

    def gaussian_score(x: Tensor, now: Tensor = now, variance: Tensor = variance) -> Tensor:
        return (now - x) / variance

    mean, covariance = pair_of(moments(gaussian_score, x.clone(), now, Linear()), len(x), 3)
    expected = sigma**2 * (1 - now) ** 2 / variance * torch.eye(3).double()
    assert near(covariance, expected.expand(len(x), 3, 3)), "the covariance of a Gaussian is wrong"
    assert near(mean, 1 + now * sigma**2 / variance * (x - now)), "the mean of a Gaussian is wrong"
### END HIDDEN TESTS

# %% [markdown] hints="02.7"
# 1. Average the conditional score $s_t(x\mid z) = (\alpha z - x)/\beta^2$ over $z$ given $x$: what do you get on
#    either side?
#
# 2. For the second derivative: $\nabla s + ss^{\mathsf T}$ is the conditional mean of
#    $\nabla s_z + s_z s_z^{\mathsf T}$. Here $\nabla s_z = -I/\beta^2$, and what remains is the covariance of $s_z$,
#    which is $\alpha^2/\beta^4$ times that of $z$.
#
# 3. $\mathbb E[z\mid x] = (x + \beta^2 s)/\alpha$ and
#    $\mathrm{Cov}[z\mid x] = \frac{\beta^2}{\alpha^2}(I + \beta^2\nabla s)$. The Jacobian of the score: for
#    each `i`, `torch.autograd.grad(s[:, i].sum(), x, retain_graph=True)[0]` is its row `i`.

# %% [markdown]
# ## How to be graded
#
# Save the notebook and run `flowlib grade 02_probability_paths.ipynb`. It prints a table of the questions with your
# points, and the hint of each check that failed.
#
# **Next:** [lecture 03](../lectures/03_flow_matching.ipynb), where a network learns the velocity from samples.
