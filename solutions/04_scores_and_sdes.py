# %% [markdown]
# # Exercise 04. Scores and SDEs, and a museum of bugs
#
# The first four questions are about scores and noise: the loss, the conversions, the sampler, and the proof that a
# constant amount of noise explodes. The other four are a **museum**. Its exhibits are mistakes found in well-known
# code, each of which ran for months because no test looked at the right place. You write the tests.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right; when
# it is wrong, it says what probably went wrong. `hint("04.1")` gives a hint; asked again, it says more, three times.
# Every question stands on its own. The grader runs these checks and a few more. No function changes a tensor that it
# is given. All tensors are `float64`, torch's default here.
#
# **Without** in a question names functions that solve it already: an answer that calls one of them gets no points.
#
# **Needed before:** [lecture 04](../lectures/04_scores_and_sdes.ipynb). **Time:** about 120 minutes. **Points:** 10.

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

from flowlib import (
    VP,
    Field,
    GaussianPath,
    Linear,
    MixtureField,
    Model,
    Schedule,
    SquareRoot,
    Trigonometric,
    losses,
    sample_ddim,
    sample_ode,
    samplers,
)
from flowlib.course.notebook import exercise, seeded, unaided

hint = exercise("04_scores_and_sdes").hint
torch.set_default_dtype(torch.float64)


def close(a: object, b: object, tolerance: float = 1e-9) -> bool:
    """Whether a tensor or number has the shape of another and agrees with it, relative to its largest entry."""
    try:
        a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return False
    return a.shape == b.shape and bool(((a - b).abs() <= tolerance * max(1.0, float(b.abs().max()))).all())


def careful(answer: Callable[..., Any]) -> Callable[..., Any]:
    """An answer that is seen to leave the tensors it is given as they were."""

    @functools.wraps(answer)
    def watched(*given: Any) -> Any:
        before = [value.clone() if isinstance(value, Tensor) else value for value in given]
        result = answer(*given)
        for name, value, old in zip(inspect.signature(answer).parameters, given, before, strict=False):
            assert not isinstance(value, Tensor) or torch.equal(value, old), (
                f"`{name}` has been changed in place: {name} += ... changes the caller's tensor."
            )
        return result

    return watched


def sound(value: object, shape: tuple[int, ...], what: str) -> Tensor:
    """Return a value if it is a finite float64 tensor of this shape: what is looked at before the numbers in it."""
    assert isinstance(value, Tensor), f"{what} must be a tensor, got {type(value).__name__}."
    assert value.dtype == torch.float64, f"{what} must be float64, like the arguments, got {value.dtype}."
    assert value.shape == shape, f"{what} must have the shape {tuple(shape)}, got {tuple(value.shape)}."
    assert bool(torch.isfinite(value).all()), f"{what} is not finite: is something divided by 0?"
    return value


def number(value: object, what: str) -> float:
    """The number that an answer is, which must be finite."""
    assert isinstance(value, float | int | Tensor), f"{what} must be a number, got {type(value).__name__}."
    assert torch.as_tensor(value).numel() == 1, f"{what} must be one number, got {tuple(torch.as_tensor(value).shape)}."
    assert math.isfinite(float(value)), f"{what} is {float(value)}: it must be finite."
    return float(value)


# %% [markdown]
# ## 04.1 Denoising score matching (1 point, 8 minutes, easy)
#
# Write the loss $\mathbb{E}\,\beta_t^2\,\lVert s_\theta(x_t, t) - s_t(x_t \mid z)\rVert^2$ for given times and noise,
# with $x_t = \alpha_t z + \beta_t\varepsilon$ on the Gaussian path of `schedule`. The result is the mean over samples
# **and** components, and can be differentiated in the parameters of $s_\theta$. It must be right for points and for
# images, and for $t$ in the closed interval $[0, 1]$: also at $t = 1$, where $s_t(x \mid z)$ itself is infinite.
#
# **Without:** `score_matching_loss`, `prediction_loss`, `prediction_error`.


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
_loss = careful(unaided(losses.score_matching_loss, losses.prediction_loss, losses.prediction_error)(dsm_loss))


class _Net(torch.nn.Module):
    """A score that is known, times a factor that can be trained; it writes down what it is given."""

    def __init__(self, score: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.score, self.factor = score, torch.nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        assert x.shape == _z.shape, (
            f"The model was given x of shape {tuple(x.shape)} for data of shape {tuple(_z.shape)}."
        )
        assert t.shape == (len(x),), f"The model was given t of shape {tuple(t.shape)}; it takes (B,)."
        self.x, self.t = x.detach().clone(), t.detach().clone()
        return self.factor * self.score(x, t)


def _lossy(score: Callable[[Tensor, Tensor], Tensor]) -> tuple[float, _Net]:
    """The loss of an answer, and the net that it has called."""
    net = _Net(score)
    found = _loss(net, _path.schedule, _z, _t, _noise)
    assert getattr(found, "shape", ()) == (), "The loss must be a scalar tensor: the mean over everything."
    sound(found, (), "The loss")
    assert hasattr(net, "x"), "The score was never called."
    assert found.requires_grad, "No gradient reaches the model's parameters through this loss."
    return float(found.detach()), net


def _wavy(x: Tensor, t: Tensor) -> Tensor:
    return torch.sin(x) - 0.7 * t.reshape(-1, *[1] * (x.ndim - 1))


def _exact(x: Tensor, t: Tensor) -> Tensor:
    """The score if all data are the one point or image _z[0]."""
    return _path.score(x, _z[0], t)


for _schedule in (Linear(), Trigonometric()):
    _path, _t = GaussianPath(_schedule), torch.tensor([0.1, 0.35, 0.6, 0.85])
    for _shape in ((4, 3, 4, 4), (4, 4), (4, 7)):
        # All data are one: the exact score is known, has no loss, and all that is added to it is.
        _noise = torch.randn(_shape, generator=seeded(1))
        _z = torch.randn(_shape[1:], generator=seeded(2)).expand(_shape).clone()
        _found, _net = _lossy(_exact)
        assert close(_net.t, _t), "The model must be given the times t themselves."
        assert not close(_net.x, _z), "What does the model see? You fed it the clean data."
        _wide = "t has shape (B,), and lines up with the last axis: it scales columns, not samples, where B = W."
        _mixed = (
            _path.sample(_z.transpose(0, -1), _t, _noise.transpose(0, -1)).transpose(0, -1) if _shape[-1] == 4 else _z
        )
        assert not close(_net.x, _mixed), _wide
        assert close(_net.x, _lossy(_exact)[1].x), (
            "Two calls show the model other samples: `noise` is given, draw none."
        )
        assert close(_net.x, _path.sample(_z, _t, _noise)), (
            "The model must see x_t: of each sample data and noise at the levels of its own time."
        )
        assert not close(_found, 4 * _noise.square().mean()), (
            "Check the sign of the target: the score points away from the noise."
        )
        assert not close(_found, _noise.square().mean()), "Is the model's score used? Here it is exact."
        assert close(_found, 0.0), (
            "The exact score must have no loss: its target is s_t(x_t|z), both times the same factor."
        )
        _found, _beta = _lossy(lambda x, t: _exact(x, t) + 1)[0], _schedule.beta(_t)
        assert not close(_found, 1.0), "The weight is missing: times near the data drown all others."
        assert not close(_found, _beta.mean()), "The weight is applied to the square: beta alone is not enough."
        assert not close(_found, (_beta**4).mean()), (
            "The weight is squared twice: its root belongs into the difference."
        )
        for _size in (math.prod(_shape[1:]), math.prod(_shape), 4):
            assert not close(_found, _size * (_beta**2).mean()), (
                "The loss is the mean over samples and components; a sum grows with the batch or the image."
            )
        assert not close(_found, (_beta**2).mean().sqrt()), "That is the root of the loss."
        assert not close(_found, (_beta**2).mean() / 2), "That is half of the loss."
        assert close(_found, (_beta**2).mean()), (
            "A score that is wrong by 1 everywhere must have the mean weight as its loss."
        )
        # And any data.
        _z = torch.randn(_shape, generator=seeded(3))
        _right = losses.score_matching_loss(  # draws its noise from a generator of this seed
            Model(_Net(_wavy), _path, predicts="score"), _z, time=lambda n, g, t=_t: t, generator=seeded(1)
        )
        assert close(_lossy(_wavy)[0], _right.detach()), f"The loss is wrong for data of shape {_shape}."
_z, _noise, _path = _z[:1], _noise[:1], GaussianPath(Linear())
for _t in (torch.zeros(1), torch.ones(1)):
    assert close(_lossy(lambda x, t: 0 * x)[0], _noise.square().mean()), (
        f"The loss of the score 0 is wrong at t = {_t[0]:.0f}."
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
#
# **Without:** `GaussianPath`.


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
_to_score, _to_velocity = (careful(unaided(GaussianPath)(f)) for f in (score_from_velocity, velocity_from_score))
_x, _t = torch.randn(3, 3, generator=seeded(2)), torch.tensor([0.2, 0.5, 0.8])
for _schedule in (Trigonometric(), VP(), Linear()):
    _path = GaussianPath(_schedule)
    _field = MixtureField(torch.randn(4, 3, generator=seeded(3)), 0.4, path=_path)
    _u, _s = _field.u(_x, _t), _field.s(_x, _t)
    _back = sound(_to_score(_u, _x, _t, _schedule), (3, 3), "score_from_velocity")
    _forth = sound(_to_velocity(_s, _x, _t, _schedule), (3, 3), "velocity_from_score")
    for _found, _given, _from, _to in ((_back, _u, "velocity", "score"), (_forth, _s, "score", "velocity")):
        assert not close(_found, _path.convert(_given.T, _x.T, _t, _from, _to).T), (
            "t has shape (B,), x has (B, D). Here B = D, so that their product is no error, but scales columns."
        )
    _b = _schedule.beta(_t)[:, None]
    for _found, _given, _from, _to in ((_back, _u, "velocity", "score"), (_forth, _s, "score", "velocity")):
        assert not close(_found, _path.convert(_given, _x, _t.mean(), _from, _to)), "Each sample has a time of its own."
    for _name, _found, _value in (("score_from_velocity", _back, _s), ("velocity_from_score", _forth, _u)):
        assert close(_found, _value) or not close(_found, _value, 0.005), (
            f"{_name} is almost right: was a small constant added to a denominator?"
        )
    assert not close(_back, -_s), "score_from_velocity has the wrong sign: at t = 0 the score of N(0, I) is -x."
    for _factor in (_b, -_b):
        assert not close(_back, _factor * _s), (
            "score_from_velocity gives the noise (up to its sign), not the score: one more division."
        )
    assert not close(_back, _s / _b), "score_from_velocity divides by beta once too often."
    assert not close(_forth, _path.convert(-_s, _x, _t, "score", "velocity")), (
        "velocity_from_score has b_t with the wrong sign."
    )
    assert not close(_forth, _path.convert(_s / _b, _x, _t, "score", "velocity")), (
        "In velocity_from_score a factor beta is missing: the score is the noise over beta."
    )
    assert not close(_forth, _path.convert(_s * _b, _x, _t, "score", "velocity")), (
        "In velocity_from_score there is a factor beta too much: the score is the noise over beta."
    )
    assert close(_back, _s), (
        f"score_from_velocity is wrong on {_schedule}. Is it right on the linear path only? beta' need not be -1."
    )
    assert close(_forth, _u), (
        f"velocity_from_score is wrong on {_schedule}. Is it right on the linear path only? alpha' need not be 1."
    )
_field = MixtureField(torch.randn(4, 3, generator=seeded(4)), 0.4, path=GaussianPath(Trigonometric()))
_back = _to_score(_field.u(_x, 0.0), _x, torch.zeros(3), Trigonometric())
assert close(_back, -_x), (
    "At t = 0 score_from_velocity is not finite or not -x: it divides by alpha somewhere on the way."
)
_field = MixtureField(torch.randn(4, 2, generator=seeded(4)), 0.4, path=GaussianPath(Trigonometric()))
for _t in (
    torch.tensor([0.01]),
    torch.tensor([0.99]),
    torch.tensor([0.4]),
    torch.tensor([0.002, 0.3, 0.7, 0.5, 0.998]),
):
    _x = torch.randn(len(_t), 2, generator=seeded(5))
    _u, _s = _field.u(_x, _t), _field.s(_x, _t)
    _back = sound(_to_score(_u, _x, _t, Trigonometric()), (len(_t), 2), "score_from_velocity")
    _forth = sound(_to_velocity(_s, _x, _t, Trigonometric()), (len(_t), 2), "velocity_from_score")
    assert close(_back, _s, 1e-7), f"score_from_velocity is wrong at t = {_t.tolist()}: was a small constant added?"
    assert close(_forth, _u, 1e-7), f"velocity_from_score is wrong at t = {_t.tolist()}: was a small constant added?"

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
# `(x, t)`) and `path.schedule`; ask it at the times $t_0 \dots t_{N-1}$ only. Two calls with the same generator, one
# after the other, draw different noise.
#
# **Without:** `samplers.sample_sde`.


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
_sample = careful(unaided(samplers.sample_sde)(sample_sde))


class _Watched(Field):
    """A field that writes down when it was asked."""

    def __init__(self, field: Field) -> None:
        self.field, self.path, self.predicts, self.times = field, field.path, field.predicts, []

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        self.times += [round(float(part), 9) for part in torch.as_tensor(t).reshape(-1)[:1]]
        return self.field.predict(x, t, y)


def _predicted(
    schedule: Schedule, steps: int, eta: float, pull: float = 1.0, power: float = 0.5, drift_w: bool = True,
    noise_w: bool = True, noise_eta: float = 1.0, same: bool = False,
) -> tuple[float, float]:  # fmt: skip
    """Exact variance of the result, and its covariance with the start, for data N(0, 0.49); variants are mistakes."""
    variance, covariance, v, h, joint = 1.0, 1.0, 0.49, 1 / steps, 0.0
    for k in range(steps):
        t = torch.tensor(k * h)
        alpha, beta, dalpha, dbeta = (
            float(part(t)) for part in (schedule.alpha, schedule.beta, schedule.dalpha, schedule.dbeta)
        )
        total, w = alpha**2 * v + beta**2, -float(GaussianPath(schedule).delta("velocity", t))
        slope = (dalpha * alpha * v + (dbeta - pull * eta * (w if drift_w else 1)) * beta) / total
        lands = k == steps - 1
        factor = alpha * v / total if lands else 1 + h * slope
        added = 0.0 if lands else 2 * eta**noise_eta * beta * (w if noise_w else 1) * h ** (2 * power)
        variance, covariance = factor**2 * variance + added, factor * covariance
        joint = factor * joint + added**0.5
    return covariance**2 + joint**2 if same else variance, covariance


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
_found = _sample(_watched, _start, 8, 1.0, seeded(7))
assert getattr(_found, "shape", None) != (9, 3, 2), "The result must be the state at t = 1 only."
_found = sound(_found, (3, 2), "The result, the state at t = 1,")
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
_found = sound(_sample(_mix, _start, 8, 0.0, seeded(7)), (3, 2), "The result for eta = 0")
_plain = samplers.sample_sde(_mix, _start, steps=8, eta=0.0, denoise_last=False)
assert not close(_found, _plain), "The last step is one more Euler step: it should land on D = E[z|x]."
assert close(_found, _expected), (
    "With eta = 0 there is no noise, and the result should be Euler's, with a last step on D. Check the drift."
)
assert close(_sample(_mix, _start[:1], 1, 1.0, seeded(7)), _mix.data(_start[:1], 0.0)), (
    "A single step is the last one: it lands on D, and adds no noise."
)
_image = MixtureField(torch.randn(3, 1, 2, 2, generator=seeded(5)), 0.3)
sound(_sample(_image, torch.randn(2, 1, 2, 2, generator=seeded(6)), 4, 1.0, seeded(7)), (2, 1, 2, 2), "The result")
_many, _generator = torch.randn(40_000, 1, generator=seeded(8)), seeded(9)
_one, _two = (_sample(_gauss, _many, 5, 1.5, seeded(9)) for _ in range(2))
assert torch.equal(_one, _two), "The same generator seed gave two results: some noise does not come from the generator."
assert not torch.equal(_one, _sample(_gauss, _many, 5, 1.5, seeded(10))), (
    "Two seeds gave one result: draw the noise from `generator`, and seed nothing."
)
_one, _two = (_sample(_gauss, _many, 5, 1.5, _generator) for _ in range(2))
assert not torch.equal(_one, _two), (
    "Two calls in a row gave one result: seed nothing, draw from `generator` as it comes."
)
_plane = MixtureField(torch.zeros(1, 2), 0.7)
_pairs = _sample(_plane, torch.zeros(20_000, 2), 5, 1.5, seeded(9))  # all from one start: they differ by noise alone
assert not close(_pairs, _pairs[:1].expand_as(_pairs)), "All samples got the same noise: it must have the shape of x."
assert not close(_pairs, _pairs[:, :1].expand_as(_pairs)), (
    "The coordinates of a sample got the same noise: it must have the shape of x."
)
assert float(torch.corrcoef(_pairs.T)[0, 1].abs()) < 5 / len(_pairs) ** 0.5, "The coordinates depend on each other."
assert _pairs[:, 0].abs().unique().numel() > 0.99 * len(_pairs), (
    "Some samples got the noise of others, or its mirror image."
)
_var, _kurtosis = float(_one.var()), float(((_one - _one.mean()) ** 4).mean() / _one.var(unbiased=False) ** 2)
# Bounds of 5 standard errors of 40,000 Gaussian samples: a right answer fails any one of them with probability 1e-6.
_variants = {"right": {}, "no pull": {"pull": 0.0}, "half": {"pull": 0.5}, "push": {"pull": -1.0}, "h": {"power": 1.0}}
_variants |= {"same": {"same": True}, "eta": {"noise_eta": 2.0}}
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
assert not _near["same"], "Every step uses the same noise: draw it anew in each."
assert not _near["eta"], (
    "The noise is scaled by eta, and the drift's second term too: g^2 is proportional to eta, not g."
)
assert _near["right"], (
    f"The variance of the samples is {_var:.3f}, for data N(0, 0.49) it should be "
    f"{_predicted(Linear(), 5, 1.5)[0]:.3f}: check g and the drift."
)
_trig = MixtureField(torch.zeros(1, 1), 0.7, path=GaussianPath(Trigonometric()))  # w = pi / 2 on this path, not 1
_end = _sample(_trig, _many, 6, 1.5, seeded(13))
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
_far = _sample(_finite, torch.randn(64, 2, generator=seeded(11)), 400, 1.0, seeded(12))
assert float(torch.cdist(_far, _finite.means).min(1).values.max()) < 1e-3, (
    "On finite data the samples do not land on it: is g^2 = 2 eta beta w?"
)
### BEGIN HIDDEN TESTS
assert _fits(_many, _sample(_trig, _many, 9, 0.5, seeded(14)), _predicted(Trigonometric(), 9, 0.5)), (
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
_factor, _largest, _std = (careful(f) for f in (amplification, largest_step, error_std))


def _same(found: float, expected: float) -> bool:
    return close(found, expected, 1e-9 * max(1.0, 1 / abs(expected)))


_point = MixtureField(torch.tensor([[0.6]]), 0.0)


def _step(g: float, beta: float, h: float) -> float:
    """A of the library's own step: from x = 0 and from x = 1, with the same noise. It starts from beta times x."""
    ends = samplers.sample_sde(
        _point, torch.tensor([[0.0], [1.0]]) / beta, times=torch.tensor([1 - beta, 1 - beta + h]), denoise_last=False,
        diffusion=lambda t: torch.full_like(t, g), generator=seeded(0),
    )  # fmt: skip
    return float((ends - g * h**0.5 * torch.randn(2, 1, generator=seeded(0))).diff(dim=0))


for _g, _beta, _h in ((1.2, 0.4, 0.1), (0.5, 0.1, 0.05), (2.0, 0.5, 0.01), (1.5, 0.05, 0.02)):
    _right, _found = _step(_g, _beta, _h), number(_factor(_g, _beta, _h), "amplification")
    _quiet = _step(0.0, _beta, _h)  # the flow alone
    _pull = _quiet - _right  # what the score takes off
    assert not _same(_found, 1 - _pull), "The flow u pulls as well: a term of A is missing."
    assert not _same(_found, _right - _pull), "The drift has half of g^2 times the score."
    assert not _same(_found, _quiet), "The score pulls as well: the drift has a term with g."
    assert not _same(_found, _quiet - _pull * _beta), "The score of N(alpha z, beta^2) is -d / beta^2: check its power."
    assert not _same(_found, _quiet + _pull), "The score leads to the data: check the sign of its term."
    assert not _same(_found, 2 - _quiet - _pull), (
        "On the linear path u = z - eps, and d shrinks under the flow: check the sign of its term."
    )
    assert not _same(_found, _quiet - _pull / _g), "The noise enters the drift by g^2, not by g."
    assert not _same(_found, -_right), "That is -A: amplification is A itself, with its sign."
    assert _same(_found, _right), f"amplification({_g}, {_beta}, {_h}) should be {_right:.4f}. Is it A itself, not |A|?"
    _found = number(_largest(_g, _beta), "largest_step")
    assert _found > 0, "largest_step must be positive."
    assert not _same(_found / _h * _pull, 2), "largest_step leaves out the pull of the flow itself."
    _right = _step(_g, _beta, min(_found, _beta))
    assert not _same(1 + _right, 1), "largest_step keeps A >= 0. But |A| <= 1 allows it to be negative."
    assert _same(_right, -1), (
        f"largest_step({_g}, {_beta}) is wrong: solve |A| <= 1 for h, exactly. With your h a step has A = {_right:.3f}."
    )
# Standard deviations, computed step by step: the right one, and those of mistakes.
for _g, _steps, _right, _quiet, _still, _wide, _late in (
    (1.0, 10, 2.0075907588400703, 0.03213365522291576, 2.0073335754632473, 0.6355874291678459, 2.0324060450088584),
    (0.5, 30, 0.3877158314250559, 0.012024123729822563, 0.38752933616198953, 0.07176730289164993, 0.3983303705908821),
    (1.5, 20, 93.64321899338522, 0.03714028494590252, 93.64321162819189, 20.93929162132479, 93.64382049358571),
):
    _found = number(_std(_g, _steps), "error_std")
    for _mistake, _hint in {
        _right**2: "returns the variance",
        _quiet: "forgets the noise that each step adds",
        _still: "starts from no error at all. At t = 0 the state is pure noise, and d = x there",
        _wide: "adds noise of variance (g h)^2 a step. Brownian motion adds g^2 h",
        _late: "takes beta at the end of each step. Euler-Maruyama takes it at the start",
    }.items():
        assert not _same(_found, _mistake), f"error_std {_hint}."
    assert _same(_found, _right), (
        f"error_std({_g}, {_steps}) should be {_right:.5g}: start from the variance of d at t = 0, then step by step."
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
# has some right implementations and some exhibits. The check brings close relatives of the exhibits: at least one of
# them breaks each promise, so go through the promises one by one.
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
# `drift(x, t)` gives (B, D), `diffusion(t)` a number, for `t` a tensor (); one step from each time to the next, with
# drift and diffusion taken where and when it begins; every coordinate of every sample gets Gaussian noise of its own;
# the result is the state (B, D) at `times[-1]`.
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
def _relative(
    scale: Callable = lambda g, h: g * h**0.5,
    noise: Callable = lambda x, generator: torch.randn(x.shape, generator=generator),
    place: Callable = lambda x, start: x,
    drift_time: Callable = lambda t, s, first: t,
    diffusion_time: Callable = lambda t, s, first: t,
) -> Callable:
    """Right code with one thing changed: the size of noise, its draw, where and when the functions are asked."""

    def simulate(drift: Callable, diffusion: Callable, x: Tensor, times: Tensor, generator: torch.Generator) -> Tensor:
        start = x
        for t, s in pairwise(times):
            f, g = drift(place(x, start), drift_time(t, s, times[0])), diffusion(diffusion_time(t, s, times[0]))
            x = x + (s - t) * f + scale(g, s - t) * noise(x, generator)
        return x

    return simulate


def _into_the_start(
    drift: Callable, diffusion: Callable, x: Tensor, times: Tensor, generator: torch.Generator
) -> Tensor:
    return x.copy_(in_a_loop(drift, diffusion, x, times, generator))


assert verdict(test_simulator, _relative()) == "accepts", (
    "Your test rejects right code that asks f and g in this order."
)
for _wrong, _hint in (
    (_relative(scale=lambda g, h: g * h), "adds noise of size g h instead of g sqrt(h)"),
    (_relative(scale=lambda g, h: g**2 * h**0.5), "takes the variance g^2 for the standard deviation g"),
    (
        _relative(noise=lambda x, generator: torch.rand(x.shape, generator=generator)),
        "draws uniform noise with rand, not randn",
    ),
    (
        _relative(noise=lambda x, generator: torch.randn(x.shape[1:], generator=generator).expand(x.shape)),
        "gives all samples the same noise",
    ),
    (
        _relative(noise=lambda x, generator: torch.randn(len(x), 1, generator=generator).expand(x.shape)),
        "gives the coordinates of a sample the same noise",
    ),
    (
        _relative(noise=lambda x, generator: math.sqrt(12) * (torch.rand(x.shape, generator=generator) - 0.5)),
        "draws uniform noise of mean 0 and variance 1",
    ),
    (_relative(place=lambda x, start: start), "takes the drift at the start in every step: does yours depend on x?"),
    (_relative(drift_time=lambda t, s, first: first), "takes the drift at the first time in every step"),
    (_relative(drift_time=lambda t, s, first: s), "takes the drift at the time where a step ends"),
    (_relative(diffusion_time=lambda t, s, first: first), "takes the diffusion at the first time in every step"),
    (_relative(diffusion_time=lambda t, s, first: s), "takes the diffusion at the time where a step ends"),
    (_into_the_start, "writes its result into x"),
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
    for dropout, null in ((0.0, 10), (0.5, 12), (1.0, 10)):
        labels = y.clone()
        value = loss(spy, z, labels, dropout=dropout, null=null, generator=generator)
        assert torch.equal(labels, y)
        assert seen["x"].shape == z.shape
        assert seen["t"].shape == (count,)
        t = seen["t"].reshape(-1, 1, 1, 1)
        assert bool(((t > 0) & (t < 1)).all())
        assert len(t.unique()) == count  # a time for each sample
        noise = (seen["x"] - t * z) / (1 - t)
        assert torch.allclose(value, (0.5 - (z - noise)).square().mean(), rtol=1e-6)
        assert abs(float(noise.mean())) < 5 / noise.numel() ** 0.5
        assert abs(float(noise.var()) - 1) < 5 * (2 / noise.numel()) ** 0.5
        assert not torch.allclose(noise[0], noise[1])  # and a noise
        dropped = seen["y"] == null
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


def _changed(
    times: Callable = lambda z, generator: torch.rand(len(z), generator=generator),
    shown: Callable = lambda t: t,
    noise: Callable = lambda z, generator: torch.randn(z.shape, generator=generator),
    labels: Callable = lambda y, null, dropped: torch.where(dropped, null, y),
    coins: Callable = lambda y, generator: torch.rand(len(y), generator=generator),
    value: Callable = lambda error: error.square().mean(),
) -> Callable:
    """Right code with one thing changed."""

    def loss(
        net: Callable,
        z: Tensor,
        y: Tensor,
        *,
        dropout: float = 0.1,
        null: int = 10,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        t, eps = times(z, generator), noise(z, generator)
        time = t.reshape(-1, 1, 1, 1)
        y = labels(y, null, coins(y, generator) < dropout)
        return value(net(time * z + (1 - time) * eps, shown(t), y) - (z - eps))

    return loss


assert verdict(test_loss, _changed()) == "accepts", "Your test rejects right code that draws its numbers in this order."
for _wrong, _hint in (
    (_whole_batch, "keeps labels with the probability with which it should drop them"),
    (_deaf, "takes the argument dropout and does not use it"),
    (_flat, "draws its noise with rand instead of randn"),
    (
        _changed(times=lambda z, generator: torch.rand((), generator=generator).expand(len(z))),
        "draws one time for the whole batch",
    ),
    (
        _changed(noise=lambda z, generator: torch.randn(z.shape[1:], generator=generator).expand(z.shape)),
        "gives all samples the same noise",
    ),
    (_changed(shown=lambda t: 1 - t), "tells the network another time than that of x"),
    (
        _changed(labels=lambda y, null, dropped: torch.where(dropped, 10, y)),
        "takes 10 for the null label, whatever null is",
    ),
    (
        _changed(labels=lambda y, null, dropped: torch.where(dropped, null, y.roll(1))),
        "gives each sample the label of its neighbour, where labels are kept",
    ),
    (
        _changed(labels=lambda y, null, dropped: torch.where(dropped, null, 0 * y)),
        "tells the network 0 for every label that is kept",
    ),
    (_changed(coins=lambda y, generator: torch.rand(1, generator=generator)), "tosses one coin for the whole batch"),
    (_changed(value=lambda error: error.square().sum()), "sums where the mean is promised"),
    (_changed(value=lambda error: error.abs().mean()), "takes absolute values instead of squares"),
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


class _AtOneTime(Trigonometric):
    def dalpha(self, t: Tensor) -> Tensor:
        return super().dalpha(torch.full_like(t, 0.5))


class _Backwards(Trigonometric):
    def dbeta(self, t: Tensor) -> Tensor:
        return -super().dbeta(t)


for _wrong, _hint in (
    (_Shifted(), "adds 1e-4 inside the root"),
    (_Quotient(), "takes a difference quotient for beta'"),
    (_AtOneTime(), "has the derivative of t = 1/2 at all times"),
    (_Backwards(), "has the wrong sign in beta'"),
):
    assert verdict(test_schedule, _wrong) == "rejects", f"test_schedule accepts a relative of exhibit_9 that {_hint}."
for _wrong, _hint in (
    (
        lambda c, u, w: (1 + w) * c - w * u,
        "counts the scale from 0: at w = 1 it guides, where it should return the conditional field",
    ),
    (lambda c, u, w: c + w * (u - c), "has the two fields exchanged"),
    (lambda c, u, w: c.sub_(u).mul_(w).add_(u), "writes into its arguments"),
    (lambda c, u, w: u.lerp_(c, w), "writes into its second argument"),
    (lambda c, u, w: torch.cat([u[:1] + w * (c[:1] - u[:1]), c[1:]]), "guides the first sample of the batch alone"),
    (lambda c, u, w: u + max(w, 1.0) * (c - u), "takes scales below 1 for 1"),
    (lambda c, u, w: c + (c - u), "does not use the scale"),
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
    f"Your test rejects {' and '.join(_rejected)}, of order 2. Do you compare with another sampler and not with the "
    "exact end? Or is it a path with a symmetry, on which some methods come out better than they are?"
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


def _slow(field: Field, noise: Tensor, steps: int) -> Tensor:
    return heun(field, noise, steps) + 0.03 / steps * noise


assert verdict(test_order, _slow) == "rejects", (
    "Your test accepts a method whose error is small, and only halves when the steps double: compare two errors."
)
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
