# %% [markdown]
# # Exercise 04. Scores and SDEs, and a museum of bugs
#
# The first four questions are about scores and noise: the loss, the conversions, the sampler, and the proof that a
# constant amount of noise explodes. The other four are a **museum**. Its exhibits are mistakes found in well-known
# code, each of which ran for months because no test looked at the right place. You write the tests.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right; when
# it is wrong, it says what probably went wrong. `hint("04.1")` gives a hint; asked again, it says more, three times.
# Every question stands on its own. The grader runs these checks and a few more.
#
# **Needed before:** [lecture 04](../lectures/04_scores_and_sdes.ipynb). **Time:** about 120 minutes. **Points:** 10.

# %%
import math
from collections.abc import Callable
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from flowlib import (
    VP,
    Field,
    GaussianPath,
    Linear,
    MixtureField,
    Schedule,
    SquareRoot,
    Trigonometric,
    sample_ddim,
    sample_ode,
    samplers,
)
from flowlib.course.notebook import exercise, seeded

hint = exercise("04_scores_and_sdes").hint
torch.set_default_dtype(torch.float64)


def close(a: object, b: object, tolerance: float = 1e-9) -> bool:
    """Whether a tensor or number has the shape of another and agrees with it, relative to its largest entry."""
    try:
        a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return False
    return a.shape == b.shape and bool(((a - b).abs() <= tolerance * max(1.0, float(b.abs().max()))).all())


# %% [markdown]
# ## 04.1 Denoising score matching (1 point, 8 minutes, easy)
#
# Write the loss $\mathbb{E}\,\beta_t^2\,\lVert s_\theta(x_t, t) - s_t(x_t \mid z)\rVert^2$ for given times and noise,
# with $x_t = \alpha_t z + \beta_t\varepsilon$ on the Gaussian path of `schedule`. The result is the mean over samples
# **and** components. It must be right for $t$ in the closed interval $[0, 1]$: also at $t = 1$, where $s_t(x \mid z)$
# itself is infinite.


# %% solution="04.1"
def dsm_loss(
    score: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, z: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    """Denoising score matching, weighted by beta^2.

    Args:
        score: (x (B, ...), t (B,)) -> like x, the model's score.
        schedule: has alpha(t) and beta(t), which take and return tensors of any one shape.
        z: data (B, ...), points or images; noise: standard Gaussian, like z.
        t: times (B,) in [0, 1].

    Returns:
        a scalar tensor.
    """
    ### BEGIN SOLUTION
    shape = (-1,) + (1,) * (z.ndim - 1)
    alpha, beta = schedule.alpha(t).reshape(shape), schedule.beta(t).reshape(shape)
    return (beta * score(alpha * z + beta * noise, t) + noise).square().mean()
    ### END SOLUTION


# %% check="04.1" points=1
def _score(x: Tensor, t: Tensor) -> Tensor:
    assert x.shape == (4, 3, 4, 4), f"The model was given x of shape {tuple(x.shape)} for data of shape (4, 3, 4, 4)."
    assert t.shape == (4,), f"The model was given t of shape {tuple(t.shape)}; it takes (B,)."
    return 0.3 * x - 0.7 * t.reshape(-1, 1, 1, 1)


_z, _noise = torch.randn(2, 4, 3, 4, 4, generator=seeded(1))
for _schedule in (Linear(), Trigonometric()):
    _t = torch.tensor([0.1, 0.35, 0.6, 0.85])
    _found = dsm_loss(_score, _schedule, _z.clone(), _t.clone(), _noise.clone())
    assert getattr(_found, "shape", None) == (), "The loss must be a scalar tensor: the mean over everything."
    _a, _b = (part(_t).reshape(-1, 1, 1, 1) for part in (_schedule.alpha, _schedule.beta))
    _x = _a * _z + _b * _noise
    _s = _score(_x, _t)
    _right = (_b * _s + _noise).square().mean()
    assert not close(_found, (_b * _s - _noise).square().mean()), (
        "Check the sign of the target: the score points away from the noise."
    )
    assert not close(_found, (_s + _noise / _b).square().mean()), (
        "The weight is missing: times near the data drown all others."
    )
    assert not close(_found, (_b * (_s + _noise / _b).square()).mean()), (
        "The weight is applied to the square: beta alone is not enough."
    )
    assert not close(_found, (_b * _score(_z, _t) + _noise).square().mean()), (
        "What does the model see? You fed it the clean data."
    )
    assert not close(_found, _right * 48), (
        "The loss is the mean over components too; a sum grows with the size of an image."
    )
    _wide = _schedule.alpha(_t) * _z + _schedule.beta(_t) * _noise
    assert close(_found, _right), (
        "t has shape (B,), the images (B, C, H, W). Here B = W, so that a product of both is no error: it scales "
        "columns, not samples."
        if any(close(_found, (c * _score(_wide, _t) + _noise).square().mean()) for c in (_b, _schedule.beta(_t)))
        else "The value is wrong: write down x_t and the target s_t(x_t|z) again; square their weighted difference."
    )
_end = dsm_loss(_score, Linear(), _z, torch.ones(4), _noise)
assert close(_end, _noise.square().mean()), (
    "At t = 1 the loss is not finite: you divide by beta, and multiply by it afterwards."
)

# %% [markdown] hints="04.1"
# 1. Write the target in terms of the noise that was drawn.
#
# 2. $s_t(x_t \mid z) = -\varepsilon/\beta_t$. Pull one factor $\beta_t$ of the weight into the difference, before
#    squaring: what is divided by then?
#
# 3. It is the mean of $(\beta_t s_\theta + \varepsilon)^2$. Give $\alpha_t$ and $\beta_t$ the shape $(B, 1, \dots, 1)$
#    first.

# %% [markdown]
# ## 04.2 Velocity and score (1 point, 10 minutes, easy)
#
# Write both conversions on a Gaussian path. `score_from_velocity` must be right for $0 \le t < 1$, **including**
# $t = 0$, where $\alpha_t = 0$; `velocity_from_score` for $0 < t < 1$.


# %% solution="04.2"
def score_from_velocity(u: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """The score s_t(x) from the velocity u_t(x).

    Args:
        u, x: (B, D). t: (B,) in [0, 1).
        schedule: has alpha, beta, dalpha, dbeta, functions of a tensor of any shape.

    Returns:
        (B, D).
    """
    ### BEGIN SOLUTION
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (alpha * u - dalpha * x) / (beta * (dalpha * beta - alpha * dbeta))
    ### END SOLUTION


def velocity_from_score(s: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """The velocity u_t(x) from the score s_t(x); arguments as above, t in (0, 1)."""
    ### BEGIN SOLUTION
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (dalpha * x + beta * (dalpha * beta - alpha * dbeta) * s) / alpha
    ### END SOLUTION


# %% check="04.2" points=1
_x, _t = torch.randn(3, 3, generator=seeded(2)), torch.tensor([0.2, 0.5, 0.8])
for _schedule in (Linear(), Trigonometric(), VP()):
    _field = MixtureField(torch.randn(4, 3, generator=seeded(3)), 0.4, path=GaussianPath(_schedule))
    _u, _s = _field.u(_x, _t), _field.s(_x, _t)
    _back, _forth = score_from_velocity(_u, _x, _t, _schedule), velocity_from_score(_s, _x, _t, _schedule)
    for _name, _found in (("score_from_velocity", _back), ("velocity_from_score", _forth)):
        assert getattr(_found, "shape", None) == (3, 3), f"{_name} must return a tensor like x."
    _a, _b, _da, _db = (
        part(_t)[:, None] for part in (_schedule.alpha, _schedule.beta, _schedule.dalpha, _schedule.dbeta)
    )
    _w = _da * _b - _a * _db
    _r = [row[:, 0] for row in (_a, _b, _da, _db)]
    _wide = (_r[0] * _u - _r[2] * _x) / (_r[1] * (_r[2] * _r[1] - _r[0] * _r[3]))
    assert not close(_back, _wide), (
        "t has shape (B,), x has (B, D). Here B = D, so that their product is no error, but scales columns."
    )
    assert not close(_back, -_s), "score_from_velocity has the wrong sign: at t = 0 the score of N(0, I) is -x."
    assert not close(_back, _b * _s), (
        "score_from_velocity gives the noise (up to its sign), not the score: one more division."
    )
    assert not close(_forth, (_da * _x - _b * _w * _s) / _a), "velocity_from_score has b_t with the wrong sign."
    assert not close(_forth, (_da * _x + _w * _s) / _a), (
        "In velocity_from_score a factor beta is missing: the score is the noise over beta."
    )
    assert close(_back, _s), (
        f"score_from_velocity is wrong on {_schedule}. Is it right on the linear path only? beta' need not be -1."
    )
    assert close(_forth, _u), (
        f"velocity_from_score is wrong on {_schedule}. Is it right on the linear path only? alpha' need not be 1."
    )
_field = MixtureField(torch.randn(4, 3, generator=seeded(4)), 0.4, path=GaussianPath(Trigonometric()))
_back = score_from_velocity(_field.u(_x, 0.0), _x, torch.zeros(3), Trigonometric())
assert close(_back, -_x), (
    "At t = 0 score_from_velocity is not finite or not -x: it divides by alpha somewhere on the way."
)

# %% [markdown] hints="04.2"
# 1. Velocity and score are both made of $D$ and $\hat\varepsilon$. You have one of the two, and $x$.
#
# 2. Solve $u = \dot\alpha D + \dot\beta\hat\varepsilon$ and $x = \alpha D + \beta\hat\varepsilon$ for $\hat\varepsilon$
#    by eliminating $D$ *without* dividing by $\alpha$: take $\alpha$ times the first minus $\dot\alpha$ times the
#    second.
#
# 3. $\alpha u - \dot\alpha x = -w\,\hat\varepsilon$ with $w = \dot\alpha\beta - \alpha\dot\beta$, and
#    $s = -\hat\varepsilon/\beta$. The other way solves the same equation for $u$.

# %% [markdown]
# ## 04.3 The SDE without a division (2 points, 15 minutes, medium)
#
# Write the sampler of $dX = [u - \eta\, w\, \hat\varepsilon]\,dt + \sqrt{2\eta\beta w}\;dW$ by Euler–Maruyama on the
# uniform grid $t_k = k/N$, $k = 0 \dots N$. It takes $N$ steps, the last of which is
# $x \leftarrow D = \mathbb{E}[z \mid x]$. Start from `noise` itself. Every field has `u`, `s`, `noise`, `data` (all
# `(x, t)`) and `path.schedule`.


# %% solution="04.3"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    """Samples of the SDE with the division-free diffusion g^2 = 2 eta beta w.

    Args:
        field: known exactly or learned; field.u(x, t), field.noise(x, t) with t a tensor ().
        noise: (B, ...) standard Gaussian, the state at t = 0.
        steps: N. eta: >= 0. generator: the source of all noise.

    Returns:
        (B, ...), the state at t = 1.
    """
    ### BEGIN SOLUTION
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h, dtype=x.dtype)
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        w = schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
        drift = field.u(x, t) - eta * w * field.noise(x, t)
        x = (
            x
            + h * drift
            + torch.sqrt(2 * eta * beta * w * h) * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        )
    return field.data(x, torch.tensor(1 - h, dtype=x.dtype))
    ### END SOLUTION


# %% check="04.3" points=2
class _Watched(Field):
    """A field that writes down when it was asked."""

    def __init__(self, field: Field) -> None:
        self.field, self.path, self.predicts, self.times = field, field.path, field.predicts, []

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        self.times += [round(float(part), 9) for part in torch.as_tensor(t).reshape(-1)[:1]]
        return self.field.predict(x, t, y)


def _predicted(
    schedule: Schedule, steps: int, eta: float, pull: float = 1.0, power: float = 0.5, drift_w: bool = True,
    noise_w: bool = True,
) -> tuple[float, float]:  # fmt: skip
    """Exact variance of the result, and its covariance with the start, for data N(0, 0.49); variants are mistakes."""
    variance, covariance, v, h = 1.0, 1.0, 0.49, 1 / steps
    for k in range(steps):
        t = torch.tensor(k * h)
        alpha, beta, dalpha, dbeta = (
            float(part(t)) for part in (schedule.alpha, schedule.beta, schedule.dalpha, schedule.dbeta)
        )
        total, w = alpha**2 * v + beta**2, dalpha * beta - alpha * dbeta
        slope = (dalpha * alpha * v + (dbeta - pull * eta * (w if drift_w else 1)) * beta) / total
        lands = k == steps - 1
        factor = alpha * v / total if lands else 1 + h * slope
        added = 0.0 if lands else 2 * eta * beta * (w if noise_w else 1) * h ** (2 * power)
        variance, covariance = factor**2 * variance + added, factor * covariance
    return variance, covariance


def _fits(start: Tensor, end: Tensor, predicted: tuple[float, float]) -> bool:
    """Whether variance and covariance with the start are as predicted, within 5 standard errors of each."""
    variance, covariance = predicted
    far = abs(float(end.var()) / variance - 1) / (2 / len(end)) ** 0.5
    astray = abs(float((start * end).mean()) - covariance) / ((variance + covariance**2) / len(end)) ** 0.5
    return max(far, astray) < 5


_gauss = MixtureField(torch.zeros(1, 1), 0.7, path=GaussianPath(Linear()))
_mix = MixtureField(torch.randn(5, 2, generator=seeded(5)), 0.3, path=GaussianPath(Trigonometric()))
_start = torch.randn(3, 2, generator=seeded(6))
_watched = _Watched(_mix)
_found = sample_sde(_watched, _start.clone(), 8, 1.0, seeded(7))
assert getattr(_found, "shape", None) == (3, 2), "The result must be the state at t = 1, a tensor like the noise."
_times = sorted(set(_watched.times))
assert len(_times) != 3, (
    "The field was asked at 3 times, for 3 samples and 8 steps: the loop counts samples, not steps."
)
assert len(_times) > 7, (
    f"The field was asked at {len(_times)} times in 8 steps: one is missing. N steps start at N times."
)
assert close(_times[:8], [k / 8 for k in range(8)]), (
    f"8 steps ask the field at t = 0, 1/8 ... 7/8; yours asked at {_times}."
)
assert len(_times) == 8, "The field was asked at t = 1 too. The last step starts at 1 - h, and lands on D there."
_expected = samplers.sample_sde(_mix, _start, steps=8, eta=0.0)
_found = sample_sde(_mix, _start.clone(), 8, 0.0, seeded(7))
_plain = samplers.sample_sde(_mix, _start, steps=8, eta=0.0, denoise_last=False)
assert not close(_found, _plain), "The last step is one more Euler step: it should land on D = E[z|x]."
assert close(_found, _expected), (
    "With eta = 0 there is no noise, and the result should be Euler's, with a last step on D. Check the drift."
)
_many = torch.randn(40_000, 1, generator=seeded(8))
_one, _two = (sample_sde(_gauss, _many.clone(), 5, 1.5, seeded(9)) for _ in range(2))
assert torch.equal(_one, _two), "The same generator seed gave two results: some noise does not come from the generator."
assert bool(torch.isfinite(_one).all()), (
    "The samples are not finite. Is a root or a quotient taken of something that is 0?"
)
_var, _kurtosis = float(_one.var()), float(((_one - _one.mean()) ** 4).mean() / _one.var(unbiased=False) ** 2)
# Bounds of 5 standard errors of 40,000 Gaussian samples: a right answer fails any one of them with probability 1e-6.
_variants = {"right": {}, "no pull": {"pull": 0.0}, "half": {"pull": 0.5}, "push": {"pull": -1.0}, "h": {"power": 1.0}}
_near = {
    name: abs(_var / _predicted(Linear(), 5, 1.5, **change)[0] - 1) < 5 * (2 / 40_000) ** 0.5
    for name, change in _variants.items()
}
assert abs(_kurtosis - 3) < 5 * (24 / 40_000) ** 0.5, (
    f"The samples have kurtosis {_kurtosis:.1f}; a Gaussian has 3. The noise is a product of two random numbers, "
    "or is not Gaussian."
)
assert not _near["no pull"], (
    "The noise spreads the samples and nothing pulls them back: the drift's second term is missing."
)
assert not _near["push"], (
    "The drift's second term has the wrong sign: it drives the samples apart. The score is -eps_hat / beta."
)
assert not _near["half"], (
    "The drift's second term is g^2/2 times the score, which is eta w eps_hat: you took half of that."
)
assert not _near["h"], "The spread is too small: Brownian motion grows by sqrt(h) in a step, not by h."
assert abs(float(_one.mean())) < 5 * (0.49 / 40_000) ** 0.5, (
    "The mean of the samples is off: the noise should have mean 0."
)
assert _near["right"], (
    f"The variance of the samples is {_var:.3f}, for data N(0, 0.49) it should be "
    f"{_predicted(Linear(), 5, 1.5)[0]:.3f}: check g and the drift."
)
_trig = MixtureField(torch.zeros(1, 1), 0.7, path=GaussianPath(Trigonometric()))  # w = pi / 2 on this path, not 1
_end = sample_sde(_trig, _many.clone(), 6, 1.5, seeded(13))
# The variance alone would not do: every g gives nearly the same, for that is the theorem. How much of its start a
# sample keeps depends on g.
_variants = {
    "right": {},
    "neither": {"drift_w": False, "noise_w": False},
    "drift": {"drift_w": False},
    "noise": {"noise_w": False},
}
_near = {name: _fits(_many, _end, _predicted(Trigonometric(), 6, 1.5, **change)) for name, change in _variants.items()}
assert not _near["neither"], (
    "Right on the linear path only: w is missing in drift and noise. It is 1 there, not elsewhere."
)
assert not _near["drift"], "Right on the linear path only: the drift's second term lacks the factor w."
assert not _near["noise"], "Right on the linear path only: g^2 = 2 eta beta w, and its w is missing."
assert _near["right"], (
    "Right on the linear path only. On the trigonometric one the samples spread too far or too little, or keep too "
    "much or too little of their start: from what do you compute w?"
)
_finite = MixtureField(torch.randn(6, 2, generator=seeded(10)), 0.0)
_far = sample_sde(_finite, torch.randn(64, 2, generator=seeded(11)), 400, 1.0, seeded(12))
assert float(torch.cdist(_far, _finite.means).min(1).values.max()) < 1e-3, (
    "On finite data the samples do not land on it: is g^2 = 2 eta beta w?"
)
### BEGIN HIDDEN TESTS
assert _fits(_many, sample_sde(_trig, _many.clone(), 9, 0.5, seeded(14)), _predicted(Trigonometric(), 9, 0.5)), (
    "With another eta and another number of steps the samples spread too far or too little, or keep too much of their "
    "start."
)
### END HIDDEN TESTS

# %% tags=["demo"]
_ring = MixtureField(
    1.4 * torch.stack([torch.arange(8).mul(math.pi / 4).cos(), torch.arange(8).mul(math.pi / 4).sin()], 1), 0.15
)
_noise = torch.randn(600, 2, generator=seeded(15))
_figure, _axes = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
for _axis, _name, _run in ((_axes[0], "yours", sample_sde), (_axes[1], "expected", None)):
    _points = (
        _run(_ring, _noise, 100, 1.0, seeded(16))
        if _run
        else samplers.sample_sde(_ring, _noise, steps=100, generator=seeded(16))
    )
    _axis.scatter(*_points.T, s=3, color="#22262b", linewidths=0)
    _axis.set(title=_name, xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
plt.show()

# %% [markdown] hints="04.3"
# 1. One loop over time. Each pass needs $\alpha, \beta, \dot\alpha, \dot\beta$ at the *start* of its step, one
#    evaluation of the field, one draw of noise.
#
# 2. A step adds $h\,[u - \eta w\hat\varepsilon]$ and $\sqrt{2\eta\beta w}\,\sqrt{h}\,\xi$. The last of the $N$ steps
#    does neither: it returns `field.data(x, 1 - h)`.
#
# 3. `for k in range(steps - 1)`: `t = torch.tensor(k / steps)`; $w = \dot\alpha\beta - \alpha\dot\beta$; add drift and
#    noise; after the loop, land on $D$.

# %% [markdown]
# ## 04.4 Why a constant amount of noise explodes (1 point, 15 minutes, medium)
#
# The data are a single point $z$, on the linear path. You follow $dX = [u + \tfrac{g^2}{2}s]\,dt + g\,dW$ with a
# **constant** $g$ by Euler–Maruyama. Let $d = x - \alpha_t z$ and $\beta = 1 - t$. Derive, on paper:
#
# 1. One step of size $h$ takes $d$ to $A\,d + g\sqrt h\,\xi$. What is $A$?
# 2. For which $h$ is $|A| \le 1$? Return the largest.
# 3. The start is $x = \xi_0 \sim N(0, I)$, and all $N$ steps of size $1/N$ are Euler–Maruyama's (none lands on $D$).
#    What is the standard deviation of one coordinate of $x - z$ at the end?


# %% solution="04.4"
def amplification(g: float, beta: float, h: float) -> float:
    """The factor A of a step of size h that starts at noise level beta > 0."""
    ### BEGIN SOLUTION
    return 1 - h / beta - h * g**2 / (2 * beta**2)
    ### END SOLUTION


def largest_step(g: float, beta: float) -> float:
    """The largest h with |A| <= 1 at noise level beta > 0."""
    ### BEGIN SOLUTION
    return 2 / (1 / beta + g**2 / (2 * beta**2))
    ### END SOLUTION


def error_std(g: float, steps: int) -> float:
    """The standard deviation of a coordinate of x - z after all steps."""
    ### BEGIN SOLUTION
    variance = 1.0
    for k in range(steps, 0, -1):
        variance = amplification(g, k / steps, 1 / steps) ** 2 * variance + g**2 / steps
    return math.sqrt(variance)
    ### END SOLUTION


# %% check="04.4" points=1
def _same(found: object, expected: float) -> bool:
    return close(float(found), expected, 1e-9 * max(1.0, 1 / expected))


_point = MixtureField(torch.tensor([[0.6]]), 0.0)
for _g, _beta, _h in ((1.0, 0.4, 0.1), (0.5, 0.1, 0.05), (2.0, 0.5, 0.01), (1.5, 0.05, 0.02)):
    _times = torch.tensor([1 - _beta, 1 - _beta + _h])
    # The library's own step from x = 0 and from x = 1: it starts from beta times what it is given.
    _ends = samplers.sample_sde(
        _point, torch.tensor([[0.0], [1.0]]) / _beta, times=_times, denoise_last=False, generator=seeded(0),
        diffusion=lambda t, g=_g: torch.full_like(t, g),
    )  # fmt: skip
    _noise = torch.randn(2, 1, generator=seeded(0)) * _g * _h**0.5
    _right = float((_ends - _noise)[1] - (_ends - _noise)[0])
    _found = amplification(_g, _beta, _h)
    assert not _same(_found, 1 - _h * _g**2 / (2 * _beta**2)), "The flow u pulls as well: a term of A is missing."
    assert not _same(_found, 1 - _h / _beta - _h * _g**2 / _beta**2), "The drift has half of g^2 times the score."
    assert not _same(_found, 1 - _h / _beta - _h * _g**2 / (2 * _beta)), (
        "The score of N(alpha z, beta^2) is -d / beta^2: check its power."
    )
    assert not _same(_found, 1 + _h / _beta - _h * _g**2 / (2 * _beta**2)), (
        "On the linear path u = z - eps, and d shrinks under the flow: check the sign of its term."
    )
    assert _same(_found, _right), f"amplification({_g}, {_beta}, {_h}) should be {_right:.4f}. Is it A itself, not |A|?"
    _right, _found = 2 / (1 / _beta + _g**2 / (2 * _beta**2)), largest_step(_g, _beta)
    assert not _same(_found, _right / 2), "largest_step keeps A >= 0. But |A| <= 1 allows it to be negative."
    assert not _same(_found, 4 * _beta**2 / _g**2), "largest_step leaves out the pull of the flow itself."
    assert _same(_found, _right), f"largest_step({_g}, {_beta}) is wrong: solve |A| <= 1 for h, exactly."
for _g, _steps in ((1.0, 10), (0.5, 30), (1.5, 20)):
    _variances = {"right": 1.0, "quiet": 1.0, "still": 0.0, "wide": 1.0, "late": 1.0}
    for _k in range(_steps, 0, -1):
        _factor = (1 - 1 / _k - _g**2 * _steps / (2 * _k**2)) ** 2
        _next = (1 - 1 / (_k - 1) - _g**2 * _steps / (2 * (_k - 1) ** 2)) ** 2 if _k > 1 else 1.0
        _added = {
            "right": _g**2 / _steps,
            "quiet": 0.0,
            "still": _g**2 / _steps,
            "wide": _g**2 / _steps**2,
            "late": _g**2 / _steps,
        }
        for _name, _value in _variances.items():
            _variances[_name] = (_next if _name == "late" else _factor) * _value + _added[_name]
    _found = error_std(_g, _steps)
    _std = _variances["right"] ** 0.5
    assert not _same(_found, _variances["right"]), "error_std returns the variance."
    assert not _same(_found, _variances["quiet"] ** 0.5), "error_std forgets the noise that each step adds."
    assert not _same(_found, _variances["still"] ** 0.5), (
        "error_std starts from no error at all. At t = 0 the state is pure noise, and d = x there."
    )
    assert not _same(_found, _variances["wide"] ** 0.5), (
        "error_std adds noise of variance (g h)^2 a step. Brownian motion adds g^2 h."
    )
    assert not _same(_found, _variances["late"] ** 0.5), (
        "error_std takes beta at the end of each step. Euler-Maruyama takes it at the start."
    )
    assert _same(_found, _std), (
        f"error_std({_g}, {_steps}) should be {_std:.5g}: start from the variance of d at t = 0, then step by step."
    )

# %% [markdown] hints="04.4"
# 1. With one data point, $D = z$ and $\hat\varepsilon = (x - \alpha z)/\beta = d/\beta$ are known. Write the drift with
#    them, and remember that $\alpha_t z$ moves too.
#
# 2. The drift is $\dot\alpha z + \dot\beta\, d/\beta - \tfrac{g^2}{2}d/\beta^2$ with $\dot\alpha = 1$,
#    $\dot\beta = -1$. The part $h z$ is just what $\alpha_t z$ moves by. What is left is $A\,d$.
#
# 3. $A = 1 - h/\beta - hg^2/(2\beta^2)$, and $|A| \le 1$ means $h\,(1/\beta + g^2/(2\beta^2)) \le 2$. The variance
#    obeys $V \leftarrow A^2V + g^2h$ from $V = 1$, with $\beta = k/N$ for $k = N, \dots, 1$.

# %% [markdown]
# ## The museum
#
# From here on you write **tests**. A test is a function that takes an implementation and calls it. It raises
# `AssertionError` if the implementation breaks its promise, and returns quietly if not. A good test passes *every*
# right implementation, whatever its style, and fails *every* wrong one, also those that you have not seen. Each room
# has some right implementations and some exhibits; the check brings close relatives of the exhibits.
#
# Two rules of the trade. Give your test its own generator, so that it never depends on luck. Where you compare random
# numbers, allow five standard errors: of $n$ samples, the mean has the standard error $\sigma/\sqrt n$, the variance
# $\sigma^2\sqrt{2/n}$, the kurtosis $\sqrt{24/n}$ (for Gaussian samples).


# %%
def verdict(test: Callable, implementation: Callable) -> str:
    """What a test says of an implementation: "accepts", "rejects", or the name of an exception that is no verdict."""
    try:
        test(implementation)
    except AssertionError:
        return "rejects"
    except NotImplementedError:  # nothing has been written yet
        raise
    except Exception as error:
        return type(error).__name__
    return "accepts"


# %% [markdown]
# ## 04.5 First room: the simulator (2 points, 20 minutes, medium)
#
# `simulate(drift, diffusion, x, times, generator)` follows $dX = f(X, t)\,dt + g(t)\,dW$ by Euler–Maruyama. It
# promises: `x` (B, D) is the start and is left as it is; `times` (N + 1,) increasing, **not** necessarily uniform;
# `drift(x, t)` gives (B, D), `diffusion(t)` a number, for `t` a tensor (); one step from each time to the next; every
# sample gets Gaussian noise of its own; the result is the state (B, D) at `times[-1]`.
#
# Read the exhibits. One multiplies noise by noise, which leaves the variance right. One confuses the number of samples
# with the number of steps. One takes a step too few. One takes all steps for equal.


# %%
def in_a_loop(drift: Callable, diffusion: Callable, x: Tensor, times: Tensor, generator: torch.Generator) -> Tensor:
    for t, s in pairwise(times):
        noise = torch.randn(x.shape, generator=generator)
        x = x + (s - t) * drift(x, t) + diffusion(t) * torch.sqrt(s - t) * noise
    return x


def noise_drawn_at_once(
    drift: Callable, diffusion: Callable, x: Tensor, times: Tensor, generator: torch.Generator
) -> Tensor:
    h = times.diff()
    increments = torch.randn(len(h), *x.shape, generator=generator) * h.sqrt()[:, None, None]
    for i in range(len(h)):
        x = x + h[i] * drift(x, times[i]) + diffusion(times[i]) * increments[i]
    return x


def in_place_on_a_copy(
    drift: Callable, diffusion: Callable, x: Tensor, times: Tensor, generator: torch.Generator
) -> Tensor:
    x, i = x.clone(), 0
    while i + 1 < len(times):
        h = float(times[i + 1] - times[i])
        x += h * drift(x, times[i]) + torch.empty_like(x).normal_(0, 1, generator=generator) * (
            diffusion(times[i]) * h**0.5
        )
        i += 1
    return x


def exhibit_1(drift: Callable, diffusion: Callable, x: Tensor, times: Tensor, generator: torch.Generator) -> Tensor:
    def sigma(t: Tensor) -> Tensor:
        return diffusion(t) * torch.randn(x.shape, generator=generator)

    for t, s in pairwise(times):
        noise = torch.randn(x.shape, generator=generator)
        x = x + (s - t) * drift(x, t) + sigma(t) * torch.sqrt(s - t) * noise
    return x


def exhibit_2(drift: Callable, diffusion: Callable, x: Tensor, times: Tensor, generator: torch.Generator) -> Tensor:
    for i in range(min(len(x), len(times) - 1)):
        t, h = times[i], times[i + 1] - times[i]
        x = x + h * drift(x, t) + diffusion(t) * torch.sqrt(h) * torch.randn(x.shape, generator=generator)
    return x


def exhibit_3(drift: Callable, diffusion: Callable, x: Tensor, times: Tensor, generator: torch.Generator) -> Tensor:
    for i in range(len(times) - 2):
        t, h = times[i], times[i + 1] - times[i]
        x = x + h * drift(x, t) + diffusion(t) * torch.sqrt(h) * torch.randn(x.shape, generator=generator)
    return x


def exhibit_4(drift: Callable, diffusion: Callable, x: Tensor, times: Tensor, generator: torch.Generator) -> Tensor:
    h = (times[-1] - times[0]) / (len(times) - 1)
    for t in times[:-1]:
        x = x + h * drift(x, t) + diffusion(t) * torch.sqrt(h) * torch.randn(x.shape, generator=generator)
    return x


# %% solution="04.5"
def test_simulator(simulate: Callable) -> None:
    """Raise AssertionError unless `simulate(drift, diffusion, x, times, generator)` keeps its promises."""
    ### BEGIN SOLUTION
    generator = torch.Generator().manual_seed(0)
    # Without noise a step is known exactly: two samples, five unequal steps, a drift that depends on x and t.
    x, times = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([0.0, 0.1, 0.15, 0.5, 0.6, 1.0])
    expected, start = x.clone(), x.clone()
    for i in range(5):
        expected = expected + (times[i + 1] - times[i]) * (times[i] - expected)
    found = simulate(lambda x, t: t - x, lambda t: 0.0 * t, x, times, generator)
    assert found.shape == x.shape
    assert torch.equal(x, start)
    assert torch.allclose(found, expected)
    # Without drift the result is Gaussian, with a known variance.
    count, times = 40_000, torch.tensor([0.0, 0.2, 1.0])
    found = simulate(lambda x, t: torch.zeros_like(x), lambda t: 1.0 + t, torch.zeros(count, 2), times, generator)
    variance = 0.2 * 1.0**2 + 0.8 * 1.2**2
    for column in found.T:
        assert abs(float(column.mean())) < 5 * (variance / count) ** 0.5
        assert abs(float(column.var()) / variance - 1) < 5 * (2 / count) ** 0.5
        assert abs(float((column**4).mean()) / variance**2 - 3) < 5 * (96 / count) ** 0.5
    assert abs(float((found[:, 0] * found[:, 1]).mean())) < 5 * variance / count**0.5
    ### END SOLUTION


# %% check="04.5" points=2
def _nothing(drift: Callable, diffusion: Callable, x: Tensor, times: Tensor, generator: torch.Generator) -> None:
    return None


def _zeros(drift: Callable, diffusion: Callable, x: Tensor, times: Tensor, generator: torch.Generator) -> Tensor:
    return torch.zeros_like(x)


_verdict = verdict(test_simulator, in_a_loop)
assert _verdict != "rejects", (
    "Your test rejects `in_a_loop`, the plainest right code. Is a tolerance narrower than chance allows, or a "
    "promise misread?"
)
assert _verdict == "accepts", (
    f"On `in_a_loop`, which is right, your test stopped with {_verdict}: it calls it in a way that was not promised."
)
for _right in (noise_drawn_at_once, in_place_on_a_copy):
    assert verdict(test_simulator, _right) == "accepts", (
        f"Your test rejects `{_right.__name__}`, which draws the same law in another order: compare laws, not "
        "single draws."
    )
assert verdict(test_simulator, _nothing) != "accepts", (
    "Your test accepts a function that returns None: it asserts nothing about the result."
)
assert verdict(test_simulator, _zeros) == "rejects", (
    "Your test accepts a function that returns zeros: it looks at the shape, not at the numbers."
)
for _exhibit, _hint in (
    (
        exhibit_1,
        "which multiplies noise by noise. Mean and variance are right; a product of two Gaussians has heavier "
        "tails than a Gaussian",
    ),
    (
        exhibit_2,
        "which counts samples instead of steps. With many samples nobody notices: how many does your test use?",
    ),
    (
        exhibit_3,
        "which takes one step too few. With many small steps one is hardly missed: use a few large ones, without "
        "noise, and compare exactly",
    ),
    (exhibit_4, "which takes all steps for equal. On a uniform grid they are"),
):
    _verdict = verdict(test_simulator, _exhibit)
    assert _verdict != "accepts", f"Your test accepts {_exhibit.__name__}, {_hint}."
    assert _verdict == "rejects", (
        f"On {_exhibit.__name__} your test stopped with {_verdict}: a verdict is an AssertionError."
    )


### BEGIN HIDDEN TESTS
def _relative(scale: Callable, noise: Callable) -> Callable:
    def simulate(drift: Callable, diffusion: Callable, x: Tensor, times: Tensor, generator: torch.Generator) -> Tensor:
        for t, s in pairwise(times):
            x = x + (s - t) * drift(x, t) + scale(diffusion(t), s - t) * noise(x, generator)
        return x

    return simulate


def _plain(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator)


for _wrong, _hint in (
    (_relative(lambda g, h: g * h, _plain), "adds noise of size g h instead of g sqrt(h)"),
    (_relative(lambda g, h: g**2 * h**0.5, _plain), "takes the variance g^2 for the standard deviation g"),
    (
        _relative(lambda g, h: g * h**0.5, lambda x, generator: torch.rand(x.shape, generator=generator)),
        "draws uniform noise with rand, not randn",
    ),
    (
        _relative(
            lambda g, h: g * h**0.5, lambda x, generator: torch.randn(x.shape[1:], generator=generator).expand(x.shape)
        ),
        "gives all samples the same noise",
    ),
):
    assert verdict(test_simulator, _wrong) == "rejects", f"Your test accepts a relative of the exhibits that {_hint}."
### END HIDDEN TESTS

# %% [markdown] hints="04.5"
# 1. Separate the two things that can be wrong. With $g = 0$ nothing is random, and the result is a number that you can
#    compute. With $f = 0$ nothing is left but noise.
#
# 2. Without noise: two samples, five *unequal* steps, exact comparison. Without drift: many samples, one or two steps,
#    and what you know about Gaussians.
#
# 3. After one or two steps with $f = 0$ the result is $N(0, \sum g_i^2 h_i)$: test mean, variance **and** kurtosis (3
#    for a Gaussian, 9 for a product of two). After many steps the kurtosis goes to 3 whatever the noise is.

# %% [markdown]
# ## 04.6 Second room: the loss (1 point, 25 minutes, medium)
#
# `loss(net, z, y, *, dropout=0.1, null=10, generator=None)` is conditional flow matching on the linear path. It
# promises: one time $t \in (0,1)$ for each sample and Gaussian noise $\varepsilon$ like `z`; `net(x, t, y)` is called
# with $x = tz + (1-t)\varepsilon$ for images `z` (B, C, H, W), the times (B,) and the labels (B,), each of them
# replaced by `null` with probability `dropout`; the result is the mean of $(\text{net} - (z - \varepsilon))^2$ over
# everything. `y` is left as it is. **A keyword that it does not know is a `TypeError`.** In which order random numbers
# are drawn is not promised.
#
# Your `net` may be a spy: it writes down what it was given. From $x$, $t$ and $z$ you know the noise.


# %%
def with_reshape(
    net: Callable,
    z: Tensor,
    y: Tensor,
    *,
    dropout: float = 0.1,
    null: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    t, noise = torch.rand(len(z), generator=generator), torch.randn(z.shape, generator=generator)
    time = t.reshape(-1, 1, 1, 1)
    y = torch.where(torch.rand(len(y), generator=generator) < dropout, null, y)
    return (net(time * z + (1 - time) * noise, t, y) - (z - noise)).square().mean()


def with_a_path(
    net: Callable,
    z: Tensor,
    y: Tensor,
    *,
    dropout: float = 0.1,
    null: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    y = y.clone()
    y[torch.bernoulli(torch.full(y.shape, float(dropout)), generator=generator).bool()] = null
    noise = torch.randn(z.shape, generator=generator)
    t = torch.rand(len(z), generator=generator)
    return torch.mean((net(GaussianPath(Linear()).sample(z, t, noise), t, y) + noise - z) ** 2)


def one_by_one(
    net: Callable,
    z: Tensor,
    y: Tensor,
    *,
    dropout: float = 0.1,
    null: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    t = torch.rand(len(z), generator=generator)
    noise = [torch.randn(z.shape[1:], generator=generator) for _ in z]
    x = torch.stack([t[i] * z[i] + (1 - t[i]) * noise[i] for i in range(len(z))])
    kept = [null if torch.rand((), generator=generator) < dropout else int(label) for label in y]
    error = net(x, t, torch.tensor(kept)) - (z - torch.stack(noise))
    return (error * error).sum() / error.numel()


def exhibit_5(
    net: Callable,
    z: Tensor,
    y: Tensor,
    *,
    dropout: float = 0.1,
    null: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    t, noise = torch.rand(len(z), generator=generator), torch.randn(z.shape, generator=generator)
    y[torch.rand(len(y), generator=generator) < dropout] = null
    time = t.reshape(-1, 1, 1, 1)
    return (net(time * z + (1 - time) * noise, t, y) - (z - noise)).square().mean()


def exhibit_6(
    net: Callable,
    z: Tensor,
    y: Tensor,
    *,
    dropout: float = 0.1,
    null: int = 10,
    generator: torch.Generator | None = None,
    **kwargs: object,
) -> Tensor:
    return with_reshape(net, z, y, dropout=dropout, null=null, generator=generator)


def exhibit_7(
    net: Callable,
    z: Tensor,
    y: Tensor,
    *,
    dropout: float = 0.1,
    null: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    t, noise = torch.rand(len(z), generator=generator), torch.randn(z.shape, generator=generator)
    y = torch.where(torch.rand(len(y), generator=generator) < dropout, null, y)
    return (net(z, t, y) - (z - noise)).square().mean()


def exhibit_8(
    net: Callable,
    z: Tensor,
    y: Tensor,
    *,
    dropout: float = 0.1,
    null: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    t, noise = torch.rand(len(z), generator=generator), torch.randn(z.shape, generator=generator)
    y = torch.where(torch.rand(len(y), generator=generator) < dropout, null, y)
    return (net(t * z + (1 - t) * noise, t, y) - (z - noise)).square().mean()


# %% solution="04.6"
def test_loss(loss: Callable) -> None:
    """Raise AssertionError unless `loss(net, z, y, *, dropout, null, generator)` keeps its promises."""
    ### BEGIN SOLUTION
    generator = torch.Generator().manual_seed(0)
    seen = {}

    def spy(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        seen.update(x=x.clone(), t=t.clone(), y=y.clone())
        return torch.full_like(x, 0.5)

    count = 16  # as wide as an image: a time that is broadcast against the width raises no error then
    z, y = torch.rand(count, 2, count, count, generator=generator), torch.arange(count) % 10
    for dropout in (0.0, 0.5, 1.0):
        labels = y.clone()
        value = loss(spy, z, labels, dropout=dropout, null=10, generator=generator)
        assert torch.equal(labels, y)
        assert seen["x"].shape == z.shape
        assert seen["t"].shape == (count,)
        t = seen["t"].reshape(-1, 1, 1, 1)
        assert bool(((t > 0) & (t < 1)).all())
        noise = (seen["x"] - t * z) / (1 - t)
        assert torch.allclose(value, (0.5 - (z - noise)).square().mean(), rtol=1e-6)
        assert abs(float(noise.mean())) < 5 / noise.numel() ** 0.5
        assert abs(float(noise.var()) - 1) < 5 * (2 / noise.numel()) ** 0.5
        dropped = seen["y"] == 10
        assert torch.equal(seen["y"][~dropped], y[~dropped])
        assert bool(dropped.any()) == (dropout > 0)
        assert bool(dropped.all()) == (dropout == 1)
    try:
        loss(spy, z, y.clone(), droput=0.5, generator=generator)
    except TypeError:
        pass
    else:
        raise AssertionError("an unknown keyword was swallowed")
    ### END SOLUTION


# %% check="04.6" points=1
def _scalar(
    net: Callable,
    z: Tensor,
    y: Tensor,
    *,
    dropout: float = 0.1,
    null: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    net(z, torch.full((len(z),), 0.5), y)
    return torch.tensor(1.0)


def _none(
    net: Callable,
    z: Tensor,
    y: Tensor,
    *,
    dropout: float = 0.1,
    null: int = 10,
    generator: torch.Generator | None = None,
) -> None:
    return None


_verdict = verdict(test_loss, with_reshape)
assert _verdict != "rejects", (
    "Your test rejects `with_reshape`, the plainest right code. Read the promises again; allow for rounding and "
    "for chance."
)
assert _verdict == "accepts", f"On `with_reshape`, which is right, your test stopped with {_verdict}."
for _right in (with_a_path, one_by_one):
    assert verdict(test_loss, _right) == "accepts", (
        f"Your test rejects `{_right.__name__}`, which draws its random numbers in another order: that was not "
        "promised."
    )
assert verdict(test_loss, _none) != "accepts", "Your test accepts a function that returns None: it asserts nothing."
assert verdict(test_loss, _scalar) == "rejects", (
    "Your test accepts a function that always returns 1: it looks at the shape of the result alone."
)
for _exhibit, _hint in (
    (exhibit_5, "which writes into the caller's labels. Compare them with a copy, at a dropout that changes some"),
    (exhibit_6, "which swallows a misspelt keyword. Misspell one, and expect a TypeError"),
    (exhibit_7, "which shows the network the clean data. Your net can write down what it is given"),
    (
        exhibit_8,
        "which scales columns instead of samples. It does so without an error only if an image is as wide as the "
        "batch is long",
    ),
):
    _verdict = verdict(test_loss, _exhibit)
    assert _verdict != "accepts", f"Your test accepts {_exhibit.__name__}, {_hint}."
    assert _verdict == "rejects", (
        f"On {_exhibit.__name__} your test stopped with {_verdict}. A crash is no verdict, and in real life this "
        "bug does not crash: "
        "choose shapes with which it stays silent, and compare numbers."
    )


### BEGIN HIDDEN TESTS
def _whole_batch(
    net: Callable,
    z: Tensor,
    y: Tensor,
    *,
    dropout: float = 0.1,
    null: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    return with_reshape(
        net, z, y, dropout=float(torch.rand((), generator=generator) < 1 - dropout), null=null, generator=generator
    )


def _deaf(
    net: Callable,
    z: Tensor,
    y: Tensor,
    *,
    dropout: float = 0.1,
    null: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    return with_reshape(net, z, y, null=null, generator=generator)


def _flat(
    net: Callable,
    z: Tensor,
    y: Tensor,
    *,
    dropout: float = 0.1,
    null: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    t, noise = torch.rand(len(z), generator=generator), torch.rand(z.shape, generator=generator)
    y = torch.where(torch.rand(len(y), generator=generator) < dropout, null, y)
    time = t.reshape(-1, 1, 1, 1)
    return (net(time * z + (1 - time) * noise, t, y) - (z - noise)).square().mean()


for _wrong, _hint in (
    (_whole_batch, "keeps labels with the probability with which it should drop them"),
    (_deaf, "takes the argument dropout and does not use it"),
    (_flat, "draws its noise with rand instead of randn"),
):
    assert verdict(test_loss, _wrong) == "rejects", f"Your test accepts a relative of the exhibits that {_hint}."
### END HIDDEN TESTS

# %% [markdown] hints="04.6"
# 1. Take one promise after the other and turn it into an assert. A spy `net` that stores its arguments and returns a
#    constant sees nearly everything.
#
# 2. Keep a copy of `y` and compare. Recover the noise as $(x - tz)/(1 - t)$ and compute the loss yourself. Call with
#    `dropout` 0, 1 and something between. Call with a misspelt keyword inside `try`.
#
# 3. Use 16 images of 16 × 16 so that $B = W$. Then `assert torch.equal(y, copy)`;
#    `assert torch.allclose(value, (out - (z - noise)).square().mean())`; noise of mean 0 and variance 1 within five
#    standard errors; no label dropped at 0, all at 1; and `try: loss(..., droput=0.5)` must end in `except TypeError`,
#    with a `raise AssertionError` in `else`.

# %% [markdown]
# ## 04.7 Third room: small print (1 point, 10 minutes, easy)
#
# **Schedules.** A schedule promises that `dalpha` and `dbeta` are the derivatives of `alpha` and `beta`, for
# $0 < t < 1$, up to rounding. At the ends they may be infinite. `exhibit_9` adds $10^{-4}$ "for stability".
#
# **Guidance.** `guide(conditional, unconditional, scale)`, both (B, C, H, W), promises
# $(1 - w)\,u(x \mid \varnothing) + w\,u(x \mid y)$ on **every** channel, up to rounding, and leaves its arguments as
# they are. `exhibit_10` was written for images of three channels and then used on latents of four.


# %%
class exhibit_9(SquareRoot):
    """alpha = sqrt(t), beta = sqrt(1 - t)."""

    def dalpha(self, t: Tensor) -> Tensor:
        return 0.5 / (torch.sqrt(t) + 1e-4)

    def dbeta(self, t: Tensor) -> Tensor:
        return -0.5 / (torch.sqrt(1 - t) + 1e-4)


def as_a_mixture(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    return (1 - scale) * unconditional + scale * conditional


def as_a_step(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    return unconditional + scale * (conditional - unconditional)


def as_an_excess(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    return torch.lerp(unconditional, conditional, scale)


def exhibit_10(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    guided = unconditional[:, :3] + scale * (conditional[:, :3] - unconditional[:, :3])
    return torch.cat([guided, conditional[:, 3:]], dim=1)


# %% solution="04.7"
def test_schedule(schedule: Schedule) -> None:
    """Raise AssertionError unless `schedule.dalpha` and `.dbeta` are the derivatives of `.alpha` and `.beta`."""
    ### BEGIN SOLUTION
    t = torch.linspace(0.01, 0.99, 99)
    for function, derivative in ((schedule.alpha, schedule.dalpha), (schedule.beta, schedule.dbeta)):
        exact = torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]
        assert torch.allclose(derivative(t), exact, rtol=1e-9, atol=1e-9)
    ### END SOLUTION


def test_guidance(guide: Callable) -> None:
    """Raise AssertionError unless `guide(conditional, unconditional, scale)` keeps its promise."""
    ### BEGIN SOLUTION
    generator = torch.Generator().manual_seed(0)
    conditional, unconditional = torch.randn(2, 3, 5, 4, 4, generator=generator)
    for scale in (0.0, 1.0, 2.5):
        first, second = conditional.clone(), unconditional.clone()
        found = guide(first, second, scale)
        assert torch.equal(first, conditional)
        assert torch.equal(second, unconditional)
        assert found.shape == conditional.shape
        assert torch.allclose(found, (1 - scale) * unconditional + scale * conditional)
    ### END SOLUTION


# %% check="04.7" points=1
for _schedule in (Linear(), Trigonometric(), VP()):
    _verdict = verdict(test_schedule, _schedule)
    assert _verdict == "accepts", (
        f"test_schedule {_verdict if _verdict == 'rejects' else 'stops with ' + _verdict + ' on'} {_schedule}, "
        "which is right."
    )
assert verdict(test_schedule, SquareRoot()) == "accepts", (
    "test_schedule does not accept SquareRoot(), which is right: its derivatives are infinite at t = 0 and t = "
    "1. Test where the promise holds."
)
assert verdict(test_guidance, as_a_mixture) == "accepts", (
    "test_guidance does not accept `as_a_mixture`, which is the promise word for word."
)
for _right in (as_a_step, as_an_excess):
    assert verdict(test_guidance, _right) == "accepts", (
        f"test_guidance does not accept `{_right.__name__}`, which is right up to rounding: never ask for equal "
        "bits after arithmetic."
    )


class _Frozen(SquareRoot):
    def dalpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)


assert verdict(test_schedule, _Frozen()) == "rejects", (
    "test_schedule accepts a schedule whose derivative of alpha is 0 everywhere."
)
assert verdict(test_schedule, exhibit_9()) == "rejects", (
    "test_schedule accepts exhibit_9. The error is 1 in 10,000 where t is in the middle: a difference quotient "
    "or a wide tolerance does not see it."
)
assert verdict(test_guidance, lambda c, u, w: torch.zeros_like(c)) == "rejects", (
    "test_guidance accepts a function that returns zeros."
)
assert verdict(test_guidance, exhibit_10) == "rejects", (
    "test_guidance accepts exhibit_10, which leaves all channels after the third alone. How many channels does "
    "your test have, and which scale?"
)


### BEGIN HIDDEN TESTS
class _Shifted(SquareRoot):
    def dalpha(self, t: Tensor) -> Tensor:
        return 0.5 / torch.sqrt(t + 1e-4)


class _Quotient(Trigonometric):
    def dbeta(self, t: Tensor) -> Tensor:
        return (self.beta(t + 1e-3) - self.beta(t - 1e-3)) / 2e-3


for _wrong, _hint in (
    (_Shifted(), "adds 1e-4 inside the root"),
    (_Quotient(), "takes a difference quotient for beta'"),
):
    assert verdict(test_schedule, _wrong) == "rejects", f"test_schedule accepts a relative of exhibit_9 that {_hint}."
for _wrong, _hint in (
    (
        lambda c, u, w: (1 + w) * c - w * u,
        "counts the scale from 0: at w = 1 it guides, where it should return the conditional field",
    ),
    (lambda c, u, w: c + w * (u - c), "has the two fields exchanged"),
    (lambda c, u, w: c.sub_(u).mul_(w).add_(u), "writes into its arguments"),
):
    assert verdict(test_guidance, _wrong) == "rejects", f"test_guidance accepts a relative of exhibit_10 that {_hint}."
### END HIDDEN TESTS

# %% [markdown] hints="04.7"
# 1. For the schedule you need a derivative that is exact. PyTorch has one.
#
# 2. `torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]` is the derivative at every `t` at once, to rounding. For
#    the guidance use more channels than three, and scales at which all terms matter.
#
# 3. `t = torch.linspace(0.01, 0.99, 99)` and `torch.allclose(..., rtol=1e-9)` for both derivatives. For guidance: five
#    channels, scales 0, 1 and 2.5, copies of both arguments compared afterwards, `torch.allclose`.

# %% [markdown]
# ## 04.8 Last room: the order of a solver (1 point, 20 minutes, hard)
#
# `sample(field, noise, steps)` follows the ODE of a field from $t = 0$ to $t = 1$ with a method of **second order**.
# Every exhibit here converges to the right answer. Its pictures look fine. It only needs ten times as many steps as it
# should: somewhere on the way something is taken at the wrong time (the noise level $\sigma_t$ where the derivation has
# $\sigma_s$, or the field itself), and that costs an order. Write the test that measures the order.
#
# For Gaussian data $N(m, v I)$ the flow is known: $X_t = \alpha_t m + \sqrt{\alpha_t^2 v + \beta_t^2}\; X_0$.
# `MixtureField(means, std, path=...)` with one mean is its exact field.


# %%
def heun(field: Field, noise: Tensor, steps: int) -> Tensor:
    return sample_ode(field, noise, steps=steps, method="heun")


def midpoint(field: Field, noise: Tensor, steps: int) -> Tensor:
    return sample_ode(field, noise, steps=steps, method="midpoint")


def multistep(field: Field, noise: Tensor, steps: int) -> Tensor:
    return sample_ddim(field, noise, steps=steps, order=2)


def ddim_heun(field: Field, noise: Tensor, steps: int) -> Tensor:
    x, alpha, beta = noise, field.path.schedule.alpha, field.path.schedule.beta
    for k in range(steps):
        t, s = torch.tensor([k, k + 1]) / steps
        data, eps = field.pair(x, t)
        data_end, eps_end = field.pair(alpha(s) * data + beta(s) * eps, s)
        x = x + (alpha(s) - alpha(t)) * (data + data_end) / 2 + (beta(s) - beta(t)) * (eps + eps_end) / 2
    return x


def exhibit_11(field: Field, noise: Tensor, steps: int) -> Tensor:
    x, alpha, beta = noise, field.path.schedule.alpha, field.path.schedule.beta
    for k in range(steps):
        t, s = torch.tensor([k, k + 1]) / steps
        data, eps = field.pair(x, t)
        data_end, eps_end = field.pair(alpha(s) * data + beta(t) * eps, s)
        x = x + (alpha(s) - alpha(t)) * (data + data_end) / 2 + (beta(s) - beta(t)) * (eps + eps_end) / 2
    return x


def exhibit_12(field: Field, noise: Tensor, steps: int) -> Tensor:
    x, h = noise, 1 / steps
    for k in range(steps):
        t = torch.tensor(k * h)
        slope = field.u(x, t)
        x = x + h / 2 * (slope + field.u(x + h * slope, t))
    return x


# %% solution="04.8"
def test_order(sample: Callable) -> None:
    """Raise AssertionError unless `sample(field, noise, steps)` converges to the flow with order 2."""
    ### BEGIN SOLUTION
    mean, std = torch.tensor([[0.8, -0.5]]), 0.6
    field = MixtureField(mean, std, path=GaussianPath(Trigonometric()))
    noise = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    exact = mean + std * noise
    errors = [float((sample(field, noise, steps) - exact).square().mean().sqrt()) for steps in (32, 64)]
    assert errors[1] < 0.05
    assert abs(math.log2(errors[0] / errors[1]) - 2) < 0.4
    ### END SOLUTION


# %% check="04.8" points=1
for _right in (heun, multistep, ddim_heun, midpoint):
    _verdict = verdict(test_order, _right)
    assert _verdict in ("accepts", "rejects"), (
        f"On `{_right.__name__}`, which is right, your test stopped with {_verdict}."
    )
_rejected = [
    right.__name__ for right in (heun, multistep, ddim_heun, midpoint) if verdict(test_order, right) == "rejects"
]
assert len(_rejected) < 3, (
    f"Your test rejects {', '.join(_rejected)}, which have order 2. A measured order is never exactly 2: how wide "
    "is your window?"
)
assert not _rejected, (
    f"Your test rejects {' and '.join(_rejected)}, of order 2. On a path with a symmetry some methods come out "
    "better than they are: try another path, or more steps."
)
assert verdict(test_order, lambda field, noise, steps: None) != "accepts", (
    "Your test accepts a function that returns None: it asserts nothing."
)
assert verdict(test_order, lambda field, noise, steps: 0 * noise) == "rejects", (
    "Your test accepts a function that returns zeros: it looks at the shape alone."
)
_euler = verdict(test_order, lambda field, noise, steps: sample_ode(field, noise, steps=steps, method="euler"))
_bug, _far = verdict(test_order, exhibit_11), verdict(test_order, exhibit_12)
assert not _euler == _bug == _far == "accepts", (
    "Your test accepts Euler's method, of order 1. A small error at many steps is no order: by how much does it "
    "fall when the steps double?"
)
assert _bug == "rejects", (
    "Your test accepts exhibit_11, which has order 1: that a finer grid is better is not enough, it must be four "
    "times better."
)
assert _far == "rejects", (
    "Your test accepts exhibit_12, whose second slope is taken at the wrong time: its error falls by less than four."
)
assert _euler == "rejects", "Your test rejects the exhibits, but accepts Euler's method."


### BEGIN HIDDEN TESTS
def _careless(field: Field, noise: Tensor, steps: int) -> Tensor:
    x, alpha, beta = noise, field.path.schedule.alpha, field.path.schedule.beta
    for k in range(steps):
        t, s = torch.tensor([k, k + 1]) / steps
        data, eps = field.pair(x, t)
        data_end, eps_end = field.pair(alpha(t) * data + beta(s) * eps, s)
        x = x + (alpha(s) - alpha(t)) * (data + data_end) / 2 + (beta(s) - beta(t)) * (eps + eps_end) / 2
    return x


def _lost(field: Field, noise: Tensor, steps: int) -> Tensor:
    return heun(field, noise, steps) + 0.1


assert verdict(test_order, _careless) == "rejects", (
    "Your test accepts a relative of exhibit_11, with alpha of the wrong time."
)
assert verdict(test_order, _lost) == "rejects", "Your test accepts a method that converges, but to a wrong limit."
### END HIDDEN TESTS

# %% [markdown] hints="04.8"
# 1. The order $p$ is defined by error $\approx C h^p$. With two step sizes you can get rid of $C$.
#
# 2. $p \approx \log_2\big(\text{error}(N)\,/\,\text{error}(2N)\big)$. Take an exact answer to compare with, not a finer
#    run of the same sampler. Avoid the linear path: its symmetry makes the midpoint rule look better than order 2.
#
# 3. One Gaussian, `path=GaussianPath(Trigonometric())`, exact end $m + \sqrt v\,X_0$; root mean square errors at 32 and
#    64 steps; `assert abs(p - 2) < 0.4`.

# %% tags=["demo"]
_field = MixtureField(torch.tensor([[0.8, -0.5]]), 0.6, path=GaussianPath(Trigonometric()))
_noise = torch.randn(50, 2, generator=seeded(0))
_grid = (8, 16, 32, 64)
_figure, _axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
for _method, _style in (
    (heun, "-"),
    (midpoint, "-"),
    (multistep, "-"),
    (ddim_heun, "-"),
    (exhibit_11, "--"),
    (exhibit_12, "--"),
):
    _errors = [float((_method(_field, _noise, n) - _field.means - 0.6 * _noise).square().mean().sqrt()) for n in _grid]
    _axis.loglog(_grid, _errors, _style, marker="o", markersize=3, label=_method.__name__)
_axis.set_xticks(_grid, [str(n) for n in _grid])
_axis.minorticks_off()
_axis.set(xlabel="steps", ylabel="error", title="Order is a slope: right methods (solid), exhibits (dashed)")
_axis.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## When you are done
#
# `flowlib grade 04_scores_and_sdes.ipynb` prints your points, and where a mark was lost, why. Next: lecture 05,
# guidance.
