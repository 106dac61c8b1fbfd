# %% [markdown]
# # Exercise 03. Flow matching
#
# You write the loss of flow matching, train with it until a field that is known exactly is recovered, pass between
# losses, derive what a loss cannot go below, pair noise with data by optimal transport, and compute the exact
# likelihood of a flow.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right;
# when it is wrong, it says what probably went wrong. `hint("03.1")` gives a hint; asked again, it says more, three
# times. Every question stands on its own. The grader runs these checks and a few more. No function changes a tensor
# that it is given.
#
# **Without** in a question names functions that solve it already: an answer that calls one of them gets no points.
#
# **Needed before:** [lecture 03](../lectures/03_flow_matching.ipynb). **Time:** about 80 minutes. **Points:** 10.

# %%
import inspect
import math
from collections.abc import Callable
from itertools import pairwise, permutations, product

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

import flowlib.likelihood
from flowlib import GaussianPath, MixtureField, Model, flow_matching_loss
from flowlib.course.notebook import exercise, seeded, unaided
from flowlib.data import toy
from flowlib.losses import prediction_error, prediction_loss
from flowlib.plotting.style import ACCENT, GREY, INK
from flowlib.schedules import VE, VP, Linear, Trigonometric

hint = exercise("03_flow_matching").hint


def call(function: Callable, *arguments, **named):
    """Call an answer, turn whatever stops it into a hint, and see that it leaves its arguments as they were."""
    before = [value.clone() if isinstance(value, Tensor) else value for value in arguments]
    try:
        result = function(*arguments, **named)
    except (NotImplementedError, AssertionError):
        raise
    except Exception as error:
        raise AssertionError(f"{function.__name__} stopped with {type(error).__name__}: {error}") from error
    for name, value, old in zip(inspect.signature(function).parameters, arguments, before, strict=False):
        assert not isinstance(value, Tensor) or torch.equal(value, old), (
            f"`{name}` has been changed in place: work on a new tensor, the caller needs the old one"
        )
    return result


def sound(value: object, shape: tuple[int, ...], what: str, each: str) -> Tensor:
    """Return a value if it is a finite tensor of this shape: what is looked at before the numbers in it."""
    assert isinstance(value, Tensor), f"{what} must be a tensor, got {type(value).__name__}"
    assert value.dtype.is_floating_point, f"{what} must have floats in it, not {value.dtype}"
    assert value.shape == shape, f"{what}: return {each}, {tuple(shape)}, not {tuple(value.shape)}"
    assert bool(torch.isfinite(value).all()), f"{what} is NaN or infinite"
    return value.detach().double()


def number(value: object, what: str) -> float:
    """The number that an answer is, which must be finite."""
    assert isinstance(value, (float, int, Tensor)), f"return a number {what}, not {type(value).__name__}"
    assert torch.as_tensor(value).numel() == 1, f"return one number {what}, not {tuple(torch.as_tensor(value).shape)}"
    assert math.isfinite(float(value)), f"the number {what} is {float(value)}: it must be finite"
    return float(value)


# %% [markdown]
# ## 03.1 The loss (1 point, 10 minutes, easy)
#
# Write the conditional flow matching loss on the linear path, $x_t = t\,z + (1-t)\,\varepsilon$, whose conditional
# velocity is $z - \varepsilon$. Each sample has a time of its own, uniform in $[0, 1]$ wherever in the batch it stands
# (the times may be independent of each other, or stratified), and a noise of its own. The network is called once. The
# loss is the mean of the squared error over samples *and* components.
#
# **Without:** `flow_matching_loss`, `prediction_loss`, `prediction_error`.


# %% solution="03.1"
def cfm_loss(net: Callable[[Tensor, Tensor], Tensor], z: Tensor, generator: torch.Generator) -> Tensor:
    """The conditional flow matching loss of a batch.

    Args:
        net: the network, net(x, t) with x (B, D) and t (B,), returns (B, D).
        z: data (B, D).
        generator: the source of times and noise.

    Returns:
        the loss, a scalar that can be differentiated.
    """
    ### BEGIN SOLUTION
    t = torch.rand(len(z), generator=generator, dtype=z.dtype)
    noise = torch.randn(z.shape, generator=generator, dtype=z.dtype)
    s = t[:, None]
    x = s * z + (1 - s) * noise
    return (net(x, t) - (z - noise)).square().mean()
    ### END SOLUTION


# %% check="03.1" points=1
class Spy:
    """A network that remembers what it was given; its answer is gain * x."""

    def __init__(self, gain: float) -> None:
        self.gain, self.calls = torch.tensor(gain, dtype=torch.float64, requires_grad=True), []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls.append((x.detach().clone(), t.detach().clone()))
        return self.gain * x


def spied(z: Tensor, gain: float = 1.0, seed: int | torch.Generator = 0) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of an answer, and the x and t that its network was given."""
    spy = Spy(gain)
    generator = seeded(seed) if isinstance(seed, int) else seed
    try:
        loss = call(unaided(flow_matching_loss, prediction_loss, prediction_error)(cfm_loss), spy, z, generator)
    except AssertionError as error:
        if "stopped with" not in str(error):
            raise
        raise AssertionError(f"{error}. Do shapes fit? A t of shape (B,) needs a second axis beside (B, D)") from None
    sound(loss, (), "the loss", "one number for the batch")
    assert len(spy.calls) == 1, f"the network is to be called once, it was called {len(spy.calls)} times"
    x, t = spy.calls[0]
    assert x.shape == z.shape, f"the network takes x of shape {tuple(z.shape)}, it was given {tuple(x.shape)}"
    assert t.shape == (len(z),), f"the network takes t of shape ({len(z)},), it was given {tuple(t.shape)}"
    assert bool(torch.isfinite(x).all()), "the network was given an x that is NaN or infinite"
    assert loss.requires_grad, "no gradient reaches the network through this loss"
    loss.backward()
    slope = spy.gain.grad
    assert slope is not None, "no gradient reaches the network through this loss: was its output detached?"
    return loss.detach(), x.double(), t.double()


far = torch.full(
    (64, 64), 1e4, dtype=torch.float64
)  # as many samples as components; x is 1e4 alpha, noise hardly counts
_, x, t = spied(far)
assert t.min() >= 0, "times must lie in [0, 1]: there are negative ones"
assert t.max() <= 1, "times must lie in [0, 1]: there are later ones"
assert t.std() > 1e-3, "all samples of the batch have the same time"
assert (x - far).abs().max() > 100, "the network was given the data z where the noisy sample x_t is meant"
assert not (x.std(0).mean() < 100 < x.std(1).mean()), (
    "the time of sample i went to column i: (B,) beside (B, W) is stretched along the width when B = W"
)
level = x.mean(1) / 1e4
assert (level - (1 - t)).abs().max() > 0.01, "signal and noise level are exchanged: at t = 1 x must be the data"
assert (level - t).abs().max() < 0.01, "x is not t times the data plus (1 - t) times the noise"

z = torch.randn(4_000, 3, generator=seeded(1), dtype=torch.float64) * torch.tensor([1.0, 2.0, 3.0]).double() + 1
loss, x, t = spied(z)
again = spied(z)[0]
assert torch.equal(loss, again), "the same generator gave another loss: times and noise must both be drawn from it"
assert not torch.equal(spied(z, seed=1)[0], loss), "another seed gave the same loss: draw from `generator`"
generator = seeded(0)
first, second = spied(z, seed=generator)[2], spied(z, seed=generator)[2]
assert not torch.equal(first, second), "two calls in a row gave the same times: seed nothing, draw from `generator`"
# Tests at 5 to 6 standard deviations: a right answer fails one of them with probability below 1e-6.
assert abs(float(t.mean()) - 0.5) < 5 / math.sqrt(12 * len(t)), "times are not uniform: their mean is not 1/2"
assert abs(float(t.var(correction=0)) - 1 / 12) < 6 * math.sqrt(1 / 180 / len(t)), "times are not uniform in [0, 1]"
place = torch.linspace(-1, 1, len(t), dtype=torch.float64)
assert abs(float((place * (t - 0.5)).mean())) < 6 / math.sqrt(36 * len(t)), (
    "a sample's time depends on its place in the batch: stratified times need a random order"
)
assert t.unique().numel() > 0.99 * len(t), "some samples have the time of others: each has one of its own"
keep = t < 0.98
noise = ((x - t[:, None] * z) / (1 - t[:, None]))[keep]
count = noise.numel()
assert noise.std(0).min() > 0.01, "all samples of the batch have the same noise"
assert noise.std(1).min() > 1e-6, "all components of a sample have the same noise: it needs the shape of z"
assert not (noise.min() > -1e-6 and noise.max() < 1 + 1e-6), (
    "the noise is uniform, rand, where it should be normal, randn"
)
assert noise[:, 0].abs().unique().numel() > 0.9 * len(noise), (
    "some samples have the noise of others, or its mirror image"
)
assert abs(float(noise.mean())) < 5 / math.sqrt(count), "the noise must have mean 0"
assert abs(float(noise.square().mean()) - 1) < 6 * math.sqrt(2 / count), "the noise must have variance 1"

everything = (x - t[:, None] * z) / (1 - t[:, None])  # the noise of all samples
target = z - everything
right = float((x - target).square().mean())


def near(value: float) -> bool:
    return abs(float(loss) - value) < 1e-3 * abs(value)


assert not near(float((x + target).square().mean())), "the sign of the target: the velocity leads from noise to data"
assert not near(float((x - z).square().mean())), "the target is the data: that would train a prediction of z"
assert not near(float((x - everything).square().mean())), "the target is the noise: that would train a prediction of it"
assert not near(float((x - (z - x)).square().mean())), "z - x is the way that is left at t, the velocity is faster"
assert not near(3 * right), "the components are summed: the loss should not grow with the dimension"
assert not near(3 * len(z) * right), "samples and components are summed: the loss should not grow with the batch"
assert not near(math.sqrt(right)), "that is the root of the mean square"
assert not near(right / 2), "that is half of the mean square"
everywhere = (x - target).square().mean(1)
for weight_of_time in (t, 1 - t, t**2, (1 - t) ** 2):
    assert not near(float((weight_of_time * everywhere).mean())), (
        "the loss weighs some times more than others: all alike"
    )
assert not near(float((x - target).abs().mean())), "the error is to be squared; absolute values find medians, not means"
zeros = torch.zeros(4_000, 3, dtype=torch.float64)
loud, x, t = spied(
    zeros, gain=-1000.0
)  # the answer is -1000 (1 - t) noise: the loss knows whether the noise is the same
power = x.square().mean()
overlap = float((1e6 * power + 1 - loud) / (2000 * (x.square() / (1 - t[:, None])).mean()))
assert abs(overlap) > 0.2, "the noise of the target is not the noise of x_t: draw it once and use it for both"
assert abs(float(loss) - right) < 1e-6 * right, "this is not the mean of |net(x_t, t) - (z - noise)|^2"
### BEGIN HIDDEN TESTS
for shape in ((5, 11), (1, 2), (3, 1)):
    wide = torch.randn(shape, generator=seeded(2), dtype=torch.float64)
    loss, x, t = spied(wide, gain=0.3, seed=3)
    target = wide - (x - t[:, None] * wide) / (1 - t[:, None])
    assert abs(float(loss) - float((0.3 * x - target).square().mean())) < 1e-5, f"wrong for a batch of shape {shape}"
### END HIDDEN TESTS

# %% [markdown] hints="03.1"
# 1. Draw two things for the batch: times of shape `(B,)` and noise of the shape of `z`. Both from the generator.
#
# 2. `t[:, None]` has shape `(B, 1)` and stretches over the components; the network itself is given `t`. The noise
#    that makes $x_t$ is the noise in the target.
#
# 3. `x = t[:, None] * z + (1 - t[:, None]) * noise`, and the loss is `(net(x, t) - (z - noise)).square().mean()`.

# %% tags=["demo"]
exact = MixtureField(*toy.mixture())
batches = [exact.sample(256, seeded(i))[0] for i in range(60)]
with torch.no_grad():
    yours = [float(cfm_loss(lambda x, t: exact.u(x, t), z, seeded(100 + i))) for i, z in enumerate(batches)]

    class Known(nn.Module):
        def forward(self, x, t, y=None):
            return exact.u(x, t)

    expected = [float(flow_matching_loss(Model(Known()), z, generator=seeded(200 + i))) for i, z in enumerate(batches)]
figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained", sharex=True, sharey=True)
for ax, values, title, colour in ((axes[0], yours, "yours", ACCENT), (axes[1], expected, "expected", GREY)):
    ax.hist(values, bins=15, range=(1.0, 2.0), color=colour)
    ax.set(title=f"{title}: mean {sum(values) / 60:.2f}", xlabel="loss of the exact velocity, batches of 256")
plt.show()

# %% [markdown]
# ## 03.2 A training that learns (2 points, 12 minutes, easy)
#
# Write the loop: `steps` times draw a new batch, compute the library's loss
# `flow_matching_loss(model, z, generator=generator)`, and step with `torch.optim.Adam`, or a relative of it, at
# learning rate `lr`. Return the losses as floats. All randomness comes from the generator as it is passed in.
#
# It is checked on data $\mathcal{N}(m, \sigma^2)$, whose velocity is
# $u_t(x) = \frac{((1+\sigma^2)\,t - 1)\,x + m\,(1-t)} {t^2\sigma^2 + (1-t)^2}$. The network below has this form with
# four unknown numbers, so that a right loop recovers the exact field.


# %%
class FourNumbers(nn.Module):
    """(a x + b t x + c + d t) / (t^2 std^2 + (1 - t)^2): the form of the velocity of N(m, std^2) data."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std
        self.numbers = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        a, b, c, d = self.numbers
        s = t[:, None]
        return (a * x + b * s * x + c + d * s) / ((s * self.std) ** 2 + (1 - s) ** 2)


# %% solution="03.2"
def train(
    model: Model,
    draw: Callable[[int, torch.Generator], Tensor],
    steps: int,
    batch: int,
    lr: float,
    generator: torch.Generator,
) -> list[float]:
    """Minimise the flow matching loss of a model.

    Args:
        model: what to train; its parameters are changed in place.
        draw: draw(batch, generator) returns new data (batch, D).
        steps, batch, lr: number of steps, samples in a step, learning rate of Adam.
        generator: the source of data, times and noise.

    Returns:
        the loss before each step, as floats.
    """
    ### BEGIN SOLUTION
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        z = draw(batch, generator)
        loss = flow_matching_loss(model, z, generator=generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses
    ### END SOLUTION


# %% check="03.2" points=2
class Watched(FourNumbers):
    """Remembers its numbers at each call, and each gradient that arrives."""

    def __init__(self, std: float) -> None:
        super().__init__(std)
        self.seen, self.gradients = [], []
        self.numbers.register_hook(lambda gradient: self.gradients.append(gradient.detach().clone()))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        self.seen.append(self.numbers.detach().clone())
        return super().forward(x, t, y)


def trained_on(mean: float, std: float, steps: int, seed: int) -> tuple[Watched, list[float], list[Tensor]]:
    net, drawn = Watched(std), []

    def draw(count: int, generator: torch.Generator) -> Tensor:
        drawn.append(mean + std * torch.randn(count, 1, generator=generator))
        return drawn[-1]

    losses = call(train, Model(net), draw, steps, 1024, 0.05, seeded(seed))
    assert isinstance(losses, list), f"return a list with the loss of each step, not {type(losses).__name__}"
    return net, losses, drawn


def distance(net: FourNumbers, mean: float, std: float) -> float:
    """The mean square difference of a net's velocity to the exact one, over times and samples."""
    exact = torch.tensor([-1.0, 1 + std**2, mean, -mean])
    g = seeded(5)
    t = flowlib.uniform_time(4_000, g)
    x = t[:, None] * (mean + std * torch.randn(4_000, 1, generator=g)) + (1 - t[:, None]) * torch.randn(
        4_000, 1, generator=g
    )
    truth = FourNumbers(std)
    with torch.no_grad():
        truth.numbers.copy_(exact)
        return float((net(x, t) - truth(x, t)).square().mean())


net, losses, drawn = trained_on(1.0, 0.5, 400, 0)
assert net.gradients, "no gradient was ever computed: is there a backward in each step?"
moved = bool(net.numbers.detach().any())
cleared = net.numbers.grad is None or not net.numbers.grad.any()
assert moved or not cleared, "the numbers have not moved: the gradient was cleared before the optimiser could use it"
assert bool(torch.isfinite(net.numbers).all()), "the numbers have become NaN: is the optimiser Adam?"
assert moved, "the numbers have not moved: gradients are computed, and no step is taken with them"
assert len(net.gradients) == 400, f"with steps = 400 there must be 400 of them, not {len(net.gradients)}"
assert len(drawn) > 1, "one batch for the whole training: draw a new one in each step"
assert not torch.equal(drawn[0], drawn[1]), "every step draws the same batch: is the generator set back in the loop?"
assert all(z.shape == (1024, 1) for z in drawn), "draw as many samples as `batch` says"
total = torch.stack(net.gradients).sum(0)
assert cleared or not torch.allclose(net.numbers.grad, total, rtol=1e-3), (
    "the gradients of all steps have added up: PyTorch adds to .grad until it is cleared"
)
error = distance(net, 1.0, 0.5)
assert error < 20, "the loss has been made larger, not smaller"
path = torch.stack([*net.seen, net.numbers.detach()])
strides = path.diff(dim=0).abs()
assert (strides[50:] > 0.0495).double().mean() < 0.95, (
    "each number moves by the full learning rate in every step: an optimiser made anew has no memory"
)
assert abs(float(strides[0].max()) - 0.001) > 2e-4, "steps are of size 0.001, Adam's default: was lr passed on?"
(one, losses_one, _), (two, losses_two, _) = (trained_on(1.0, 0.5, 30, 0) for _ in range(2))
assert torch.equal(one.numbers, two.numbers), "one seed gave two trainings: pass the generator to the loss as well"
assert not torch.equal(one.numbers, trained_on(1.0, 0.5, 30, 1)[0].numbers), (
    "two seeds gave the same training: use the generator that is passed in"
)


class Sum(nn.Module):
    """Two nets whose outputs add up."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([FourNumbers(0.5), FourNumbers(0.5)])

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.parts[0](x, t) + self.parts[1](x, t)


net_of_two = Sum()
call(train, Model(net_of_two), lambda n, g: torch.randn(n, 1, generator=g), 3, 64, 0.05, seeded(0))
assert all(bool(part.numbers.any()) for part in net_of_two.parts), "only some of the model's parameters were trained"
# Over 40 seeds a right loop leaves 0.003 in the median and 0.011 at most.
assert error < 0.1, f"after 400 steps the velocity is wrong by {error:.2f} in the mean square; a right loop leaves 0.01"
assert len(losses) == 400, f"return a loss for each of the 400 steps, not {len(losses)}"
assert all(isinstance(loss, float) for loss in losses), (
    "return floats: a list of tensors keeps the graph of every step in memory"
)
assert all(math.isfinite(loss) for loss in losses), "some losses are NaN or infinite"
assert losses_one == losses_two, "the losses returned are not those of the steps"
assert torch.tensor(losses[-100:]).diff().abs().mean() > 0.005, (
    "the losses hardly change from step to step: return that of each step, not a mean"
)
begin, end = losses[0], sum(losses[-100:]) / 100
assert abs(end - begin) > 0.1, "the losses returned do not fall"
# Before the first step the net is 0, and the loss the mean square of z - noise, 1 + 1/4 + 1; it ends near 0.79.
assert abs(begin - 2.25) < 0.6, (
    f"the loss before the first step is about 2.25, yours is {begin:.2f}: is it that of a batch?"
)
assert abs(end - 0.79) < 0.15, (
    f"the losses end at about 0.79, yours at {end:.2f}: return the loss of each step as it is"
)
### BEGIN HIDDEN TESTS
other, _, _ = trained_on(-0.5, 1.5, 400, 1)
assert distance(other, -0.5, 1.5) < 0.1, "the loop learns one Gaussian and not another"
### END HIDDEN TESTS

# %% [markdown] hints="03.2"
# 1. Make the optimiser once, before the loop. In the loop: data, loss, gradient, step.
#
# 2. `.backward()` adds to the gradients that are there; the optimiser's `zero_grad()` clears them, before
#    `.backward()` or after `.step()`, but not between.
#
# 3. In each step: `z = draw(batch, generator)`, `loss = flow_matching_loss(model, z, generator=generator)`,
#    `optimiser.zero_grad()`, `loss.backward()`, `optimiser.step()`, `losses.append(loss.item())`.

# %% tags=["demo"]
your_net = FourNumbers(0.5)
your_losses = train(
    Model(your_net), lambda count, g: 1 + 0.5 * torch.randn(count, 1, generator=g), 400, 1024, 0.05, seeded(0)
)
figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
axes[0].plot(your_losses, color=ACCENT, lw=0.8)
axes[0].set(title="your losses: they do not go to 0 (03.4)", xlabel="step", ylim=(0, None))
x = torch.linspace(-3, 3, 50)[:, None]
known = MixtureField(torch.tensor([[1.0]]), 0.5)
with torch.no_grad():
    for t, colour in ((0.1, GREY), (0.5, INK), (0.9, ACCENT)):
        axes[1].plot(x, your_net(x, torch.full((50,), t)), color=colour, label=f"t = {t}")
        axes[2].plot(x, known.u(x, t), color=colour, label=f"t = {t}")
for ax, title in ((axes[1], "your velocity"), (axes[2], "expected")):
    ax.set(title=title, xlabel="x", ylim=(-6, 6))
    ax.legend()
plt.show()

# %% [markdown]
# ## 03.3 What a loss weighs (1 point, 8 minutes, medium)
#
# A network's output stands for a pair $(\hat D, \hat\varepsilon)$ with $x = \alpha \hat D + \beta\hat\varepsilon$.
# Its squared error as a prediction of `kind` is a multiple of $|\hat D - z|^2$. Return that multiple for `kind` =
# `"data"`, `"noise"`, `"velocity"`, `"score"` ($-\varepsilon/\beta$) and `"v"` ($\alpha\varepsilon - \beta z$), on
# any schedule, also where $\alpha^2 + \beta^2 \ne 1$.


# %% solution="03.3"
def weight(kind: str, alpha: float, beta: float, dalpha: float, dbeta: float) -> float:
    """The squared error of a prediction over the squared error of the data.

    Args:
        kind: "data", "noise", "velocity", "score" or "v".
        alpha, beta: signal and noise level at one time, both > 0.
        dalpha, dbeta: their time derivatives.

    Returns:
        |p - p*|^2 / |D - z|^2.
    """
    ### BEGIN SOLUTION
    rows = {
        "data": (1.0, 0.0),
        "noise": (0.0, 1.0),
        "velocity": (dalpha, dbeta),
        "score": (0.0, -1 / beta),
        "v": (-beta, alpha),
    }
    a, b = rows[kind]
    return ((alpha * b - beta * a) / beta) ** 2
    ### END SOLUTION


# %% check="03.3" points=1
def levels(schedule, time: float) -> tuple[float, ...]:
    t = torch.tensor(time, dtype=torch.float64)
    return tuple(float(f(t)) for f in (schedule.alpha, schedule.beta, schedule.dalpha, schedule.dbeta))


def measured(schedule, time: float, kind: str) -> float:
    """The ratio itself: two data that explain one x, turned into predictions of the kind by the library's solve."""
    path, g = GaussianPath(schedule), seeded(0)
    x, z, guess = (torch.randn(1, 4, generator=g, dtype=torch.float64) for _ in range(3))
    p, target = (path.convert(data, x, time, "data", kind) for data in (guess, z))
    return float((p - target).square().sum() / (guess - z).square().sum())


def parts(schedule, time: float, of_data: float, of_noise: float) -> float:
    """The same, if the error of a prediction were so many errors of the data and so many of the noise."""
    path, g = GaussianPath(schedule), seeded(0)
    x, z, guess = (torch.randn(1, 4, generator=g, dtype=torch.float64) for _ in range(3))
    d, e = guess - z, path.convert(guess, x, time, "data", "noise") - path.convert(z, x, time, "data", "noise")
    return float((of_data * d + of_noise * e).square().sum() / d.square().sum())


for schedule, time in ((Trigonometric(), 0.4), (VP(), 0.7), (Linear(), 0.3), (Linear(), 0.8), (VE(), 0.5)):
    alpha, beta, dalpha, dbeta = levels(schedule, time)
    noise_error = measured(schedule, time, "noise")
    for kind in ("data", "noise", "velocity", "score", "v"):
        found = number(call(weight, kind, alpha, beta, dalpha, dbeta), f"for {kind!r}")
        truth = measured(schedule, time, kind)

        def is_near(value: float, found: float = found) -> bool:
            return abs(found - value) < 1e-9 * (1 + abs(value))

        if is_near(truth):
            continue
        assert not is_near(1 / truth), f"{kind}: this is how the error of the data follows from that of the {kind}"
        assert not is_near(math.sqrt(truth)), f"{kind}: the errors are squared, so is the factor between them"
        if kind == "data":
            assert not is_near(beta**2), "data: a power of beta is missing, everywhere: here the factor must be 1"
        if kind == "velocity":
            assert not is_near(dalpha**2), "velocity: its noise is wrong too, as a function of the error of the data"
            assert not is_near(dalpha**2 + dbeta**2), "velocity: the two errors are not independent, so they do not add"
            assert not is_near(parts(schedule, time, 1, -1)), "velocity: this is that of the linear schedule"
            assert not is_near(parts(schedule, time, dalpha, -dbeta)), (
                "velocity: where D is too large, the noise must be too small, so that x stays x"
            )
        if kind == "v":
            assert not is_near(noise_error + 1), "v: signal-to-noise plus 1 holds only if alpha^2 + beta^2 = 1"
            assert not is_near(parts(schedule, time, beta, alpha)), "v: the sign of one of its two errors"
            assert not is_near(parts(schedule, time, alpha, -beta)), "v: alpha and beta are exchanged in it"
        if kind == "score":
            assert not is_near(noise_error), "score: it is the noise divided by -beta, and so is its error"
            assert not is_near(noise_error / beta**4), "score: it is the noise divided by -beta, not by its square"
            assert not is_near(noise_error / beta), "score: one more power of beta, because the error is squared"
            assert not is_near(noise_error * beta**2), "score: it is the noise divided by beta, not multiplied by it"
        raise AssertionError(f"{kind} on {schedule} at t = {time}: {found:.6g}, where {truth:.6g} is measured")

# %% [markdown] hints="03.3"
# 1. Both pairs explain the same $x$: subtract $x = \alpha z + \beta\varepsilon$ from
#    $x = \alpha\hat D + \beta\hat\varepsilon$.
#
# 2. $\hat\varepsilon - \varepsilon = -\frac{\alpha}{\beta}(\hat D - z)$. A prediction is
#    $a \hat D + b \hat\varepsilon$ for known $a$ and $b$.
#
# 3. Its error is $(a - b\,\alpha/\beta)(\hat D - z)$. The rows $(a, b)$: data $(1, 0)$, noise $(0, 1)$, velocity
#    $(\dot\alpha, \dot\beta)$, score $(0, -1/\beta)$, v $(-\beta, \alpha)$. Square the factor.

# %% [markdown]
# ## 03.4 What the loss cannot go below (2 points, 15 minutes, hard)
#
# Data are $z \sim \mathcal{N}(m, \sigma^2)$ in one dimension, and the network is perfect: $u^\theta_t = u_t$. Derive
# the flow matching loss that is left at time $t$,
#
# $$ C_t = \mathbb{E}\,\big| u_t(x_t) - (\dot\alpha_t z + \dot\beta_t \varepsilon) \big|^2 , $$
#
# for any schedule, and return it. The answer must be finite also where $\alpha_t = 0$ or $\beta_t = 0$, unless
# $\sigma = 0$ as well. Write your derivation in the next cell, then the function.

# %% [markdown] solution="03.4"
# Given $x_t = x$, the target is a function of $z$ alone: $\varepsilon = (x - \alpha z)/\beta$, so
# $\dot\alpha z + \dot\beta \varepsilon = \frac{w}{\beta} z + \frac{\dot\beta}{\beta} x$ with
# $w = \dot\alpha\beta - \alpha\dot\beta$. Its mean given $x$ is $u_t(x)$. So
# $C_t = \frac{w^2}{\beta^2} \mathbb{E}\operatorname{Var}(z|x_t)$. For Gaussians precisions add:
# $1/\operatorname{Var}(z|x) = 1/\sigma^2 + \alpha^2/\beta^2$, so
# $\operatorname{Var}(z|x) = \sigma^2\beta^2/(\alpha^2\sigma^2 + \beta^2)$ for every $x$. The $\beta^2$ cancels:
#
# $$ C_t = \frac{w^2 \sigma^2}{\alpha^2\sigma^2 + \beta^2} . $$


# %% solution="03.4"
def floor(alpha: float, beta: float, dalpha: float, dbeta: float, std: float) -> float:
    """The flow matching loss of the exact velocity at one time, for data N(m, std^2).

    Args:
        alpha, beta, dalpha, dbeta: the schedule at that time, alpha >= 0, beta >= 0.
        std: the standard deviation of the data, >= 0.

    Returns:
        the mean squared error that is left.
    """
    ### BEGIN SOLUTION
    w = dalpha * beta - alpha * dbeta
    return w**2 * std**2 / (alpha**2 * std**2 + beta**2)
    ### END SOLUTION


# %% check="03.4" points=2
def integrated(schedule, time: float, std: float, mean: float = 0.7, of: str = "velocity") -> float:
    """The loss itself: u is affine in x, so the integrand is quadratic and three Gauss-Hermite nodes are exact.

    Or, of the "data", the mean square that a perfect prediction of z is away from z.
    """
    nodes = torch.tensor([-math.sqrt(3), 0.0, math.sqrt(3)], dtype=torch.float64)
    shares = torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=torch.float64)
    z, noise = mean + std * nodes.repeat_interleave(3), nodes.repeat(3)
    a, b, da, db = levels_at(schedule, time)
    x = (a * z + b * noise)[:, None]
    exact = MixtureField(torch.tensor([[mean]], dtype=torch.float64), std, path=GaussianPath(schedule))
    gap = exact.u(x, time)[:, 0] - da * z - db * noise if of == "velocity" else exact.data(x, time)[:, 0] - z
    return float((shares.repeat_interleave(3) * shares.repeat(3)) @ gap**2)


def levels_at(schedule, time: float) -> tuple[float, ...]:
    t = torch.tensor(time, dtype=torch.float64)
    return tuple(float(f(t)) for f in (schedule.alpha, schedule.beta, schedule.dalpha, schedule.dbeta))


for schedule, time, std in (
    (Trigonometric(), 0.6, 1.7),
    (Linear(), 0.3, 0.5),
    (VP(), 0.8, 0.7),
    (Linear(), 0.7, 1.0),
    (Linear(), 0.5, 0.0),
):
    a, b, da, db = levels_at(schedule, time)
    found, truth = number(call(floor, a, b, da, db, std), f"for std = {std}"), integrated(schedule, time, std)
    if std == 0:
        assert abs(found) < 1e-12, "one point of data leaves no doubt about the target: nothing is left of the loss"
        continue

    def close(value: float, found: float = found) -> bool:
        return abs(found - value) < 1e-8 * (1 + abs(value))

    if close(truth):
        continue
    assert not close((da * std) ** 2 + db**2), (
        "that is the variance of the target, not what is left of it once x is known"
    )
    left = integrated(schedule, time, std, of="data")  # of the variance of z, once x is known
    assert not close(truth / left * std**2), "the variance of z was used where that of z given x is meant"
    assert not close(left), "that is the loss of a perfect prediction of the data, not of the velocity"
    for other in (math.sqrt(truth * left), math.sqrt(truth * left) / b):
        assert not close(other), "a factor of the target enters its variance squared"
    assert not close(left / b**2), "that holds on the linear path only: the schedule's derivatives are not used"
    assert abs(found / truth - 1) > 0.01, "almost right: was a small constant added to a denominator?"
    for other in (truth / std, integrated(schedule, time, math.sqrt(std))):
        assert not close(other), "std is the standard deviation of the data, not its variance"
    assert not close(math.sqrt(truth)), "that is the root of the loss"
    ### BEGIN HIDDEN TESTS
    assert not close((da + db * a / b) ** 2 * left), "the sign: given x, a larger z means a smaller noise"
    ### END HIDDEN TESTS
    raise AssertionError(f"{schedule} at t = {time}, std = {std}: {found:.6g}, the integral is {truth:.6g}")

for time, end in ((0.0, "alpha = 0"), (1.0, "beta = 0")):
    try:
        found = float(floor(*levels_at(Linear(), time), 0.5))
    except ZeroDivisionError:
        found = math.nan
    assert math.isfinite(found), (
        f"not finite where {end}: simplify the fraction until nothing that vanishes is left below"
    )
    assert abs(found - (0.25 if time == 0 else 1.0)) < 1e-9, (
        f"wrong where {end}: which of z and noise does x tell there?"
    )
### BEGIN HIDDEN TESTS
assert abs(float(floor(*levels_at(Trigonometric(), 0.25), 0.3)) - integrated(Trigonometric(), 0.25, 0.3)) < 1e-9, (
    "wrong at another time"
)
### END HIDDEN TESTS

# %% [markdown] hints="03.4"
# 1. Given $x$, the only thing unknown in the target is $z$: eliminate $\varepsilon$. What multiplies $z$?
#
# 2. $C_t = \frac{w^2}{\beta^2}\operatorname{Var}(z|x)$ with $w = \dot\alpha\beta - \alpha\dot\beta$. For Gaussians,
#    precisions add.
#
# 3. $1/\operatorname{Var}(z|x) = 1/\sigma^2 + \alpha^2/\beta^2$. Put both fractions together and cancel $\beta^2$:
#    the denominator is the variance of $x_t$.

# %% tags=["demo"]
times = torch.linspace(0, 1, 60, dtype=torch.float64)
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
for std, colour in ((0.1, GREY), (0.5, INK), (1.5, ACCENT)):
    axes[0].plot(times, [float(floor(*levels_at(Linear(), float(t)), std)) for t in times], color=colour)
    inner = times[:-1]
    axes[1].plot(inner, [integrated(Linear(), float(t), std) for t in inner], color=colour, label=f"std {std}")
axes[0].set(title="yours", xlabel="t", ylabel="what is left of the loss, linear path")
axes[1].set(title="expected", xlabel="t")
axes[1].legend()
plt.show()

# %% [markdown]
# ## 03.5 Pairs for guided flows (1 point, 10 minutes, medium)
#
# Pair noise with data at the least total squared distance, but only *within* each label, so that the noise does not
# come to depend on the guide. Noise row $i$ comes with label $y_i$ and keeps it. Return three tensors whose rows
# belong together; in what order the rows come does not matter. Labels are any integers, and each has as many rows as
# it has. `scipy.optimize.linear_sum_assignment(cost)` solves the assignment for a matrix of costs and returns row and
# column indices.
#
# **Without:** `flowlib.optimal_transport`.


# %% solution="03.5"
def couple(noise: Tensor, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pair noise and data by optimal transport within each label.

    Args:
        noise: (B, D), float.
        z: data (B, D), float.
        y: labels (B,), integers.

    Returns:
        noise (B, D), data (B, D) and labels (B,), reordered so that row i of all three belongs together.
    """
    ### BEGIN SOLUTION
    from scipy.optimize import linear_sum_assignment

    paired = noise.clone()
    for label in y.unique():
        rows = (y == label).nonzero()[:, 0]
        cost = torch.cdist(z[rows], noise[rows]) ** 2
        _, column = linear_sum_assignment(cost.numpy())
        paired[rows] = noise[rows[torch.as_tensor(column)]]
    return paired, z, y
    ### END SOLUTION


# %% check="03.5" points=1
def same_rows(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors (B, D) hold the same rows, in any order."""
    return sorted(a.tolist()) == sorted(b.tolist())


def with_label(rows: Tensor, y: Tensor) -> Tensor:
    return torch.cat([rows, y[:, None].to(rows)], dim=1)


def cheapest(noise: Tensor, z: Tensor, y: Tensor, power: int) -> float:
    """The least total of distances to a power within each label, by trying all permutations."""
    return sum(
        min(
            float((noise[y == k][list(order)] - z[y == k]).norm(dim=1).pow(power).sum())
            for order in permutations(range(int((y == k).sum())))
        )
        for k in y.unique()
    )


def partner(noise: Tensor, z: Tensor, paired_noise: Tensor, paired_z: Tensor) -> Tensor:
    """For each row of z the row of noise that it has been paired with."""
    which = torch.empty(len(z), dtype=torch.long)
    for a, b in zip(paired_noise, paired_z, strict=True):
        which[(z == b).all(1)] = (noise == a).all(1).nonzero()[0, 0]
    return which


def coupled(noise: Tensor, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    found = call(unaided(flowlib.optimal_transport)(couple), noise, z, y)
    assert isinstance(found, (tuple, list)), "return three tensors: noise, data, labels"
    assert len(found) == 3, f"return three tensors, noise, data and labels, not {len(found)}"
    for name, part, like in zip(("noise", "data", "labels"), found, (noise, z, y), strict=True):
        assert isinstance(part, Tensor), f"the {name} must be a tensor, got {type(part).__name__}"
        assert part.dtype == like.dtype, f"the {name} must keep their dtype, {like.dtype}, got {part.dtype}"
        assert part.shape == like.shape, (
            f"the {name} must keep their shape, {tuple(like.shape)}, got {tuple(part.shape)}"
        )
        assert bool(torch.isfinite(part).all()), f"some of the {name} are NaN or infinite"
    new_noise, new_z, new_y = found
    assert same_rows(new_noise, noise), (
        "some noise is used twice and some not at all: what is left is no longer normal. Pair one to one"
    )
    assert same_rows(new_z, z), "the data returned are not the data given"
    assert same_rows(with_label(new_z, new_y), with_label(z, y)), (
        "data were reordered and their labels were not: a sample now has another's label"
    )
    assert same_rows(with_label(new_noise, new_y), with_label(noise, y)), (
        "noise has moved from one label to another: given the label it is no longer normal"
    )
    return new_noise, new_z, new_y


g = seeded(12)
y = torch.tensor([0, 1, 0, 1, 1, 0, 1, 0, 1, 0])
for _ in range(20):
    noise = torch.randn(10, 2, generator=g, dtype=torch.float64)
    z = torch.randn(10, 2, generator=g, dtype=torch.float64) + y[:, None]
    least = cheapest(noise, z, y, 2)
    new_noise, new_z, new_y = coupled(noise, z, y)
    cost = float((new_noise - new_z).square().sum())
    if abs(cost - least) < 1e-9:
        continue
    assert abs(cost - float((noise - z).square().sum())) > 1e-9, (
        "nothing has been paired: the total distance is as before"
    )
    plain = float((new_noise - new_z).norm(dim=1).sum())
    assert plain > cheapest(noise, z, y, 1) + 1e-9, "the distances are least, their squares are not"
    turned = 0.0
    for k in (0, 1):
        which = partner(noise[y == k], z[y == k], new_noise[new_y == k], new_z[new_y == k])
        turned += float((noise[y == k][which.argsort()] - z[y == k]).square().sum())
    most = sum(
        max(
            float((noise[y == k][list(order)] - z[y == k]).square().sum())
            for order in permutations(range(int((y == k).sum())))
        )
        for k in (0, 1)
    )
    assert abs(cost - most) > 1e-9, "this is the largest total distance, not the least"
    assert turned > least + 1e-9, (
        "the assignment was applied backwards: which index is of the noise, which of the data?"
    )
    raise AssertionError(f"the total squared distance is {cost:.4f}; {least:.4f} can be had by a better assignment")
# One row; labels of a single row; labels that no row has, and negative ones.
for y in (torch.tensor([7]), torch.tensor([12, 4, 12, 9, 4, 12, 40, 4]), torch.tensor([-3, 5, -3, -3, 5, 5])):
    noise, z = (torch.randn(len(y), 3, generator=g) for _ in range(2))
    new_noise, new_z, new_y = coupled(noise, z, y)
    cost = float((new_noise - new_z).square().sum())
    assert abs(cost - cheapest(noise, z, y, 2)) < 1e-4, (
        f"right for labels 0 and 1, and not for {y.tolist()}: labels need not run from 0 to the largest one"
    )
y = torch.arange(300) % 3
line = torch.tensor([0.6, 0.8], dtype=torch.float64)
at, to = (torch.randn(300, generator=g, dtype=torch.float64) for _ in range(2))
new_noise, new_z, new_y = coupled(at[:, None] * line, to[:, None] * line, y)
least = sum(float((at[y == k].sort().values - to[y == k].sort().values).square().sum()) for k in range(3))
assert abs(float((new_noise - new_z).square().sum()) - least) < 1e-8, "right for few samples, and not for 300 on a line"

# %% [markdown] hints="03.5"
# 1. Treat each label as a small problem of its own: which rows have it, what do their pairs cost, which assignment is
#    best?
#
# 2. `torch.cdist(z[rows], noise[rows]) ** 2` has a row for each datum and a column for each noise.
#    `linear_sum_assignment` then returns, for each row in order, the column to take.
#
# 3. With `rows = (y == label).nonzero()[:, 0]` and that `column`, the noise for the data `rows` is
#    `noise[rows[torch.as_tensor(column)]]`; write it into a copy of the noise at `rows`, return that copy with `z`
#    and `y`.

# %% tags=["demo"]
g = seeded(13)
z, y = toy.sample("moons", 200, g)
noise = torch.randn(200, 2, generator=g)
yours = couple(noise, z, y)
reference = noise.clone()
for k in (0, 1):
    reference[y == k] = flowlib.optimal_transport(noise[y == k], z[y == k])
figure, axes = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
for ax, (a, b, labels), title in ((axes[0], yours, "yours"), (axes[1], (reference, z, y), "expected")):
    for k, colour in ((0, ACCENT), (1, INK)):
        ax.plot(*torch.stack([a[labels == k], b[labels == k]]).permute(2, 0, 1), color=colour, lw=0.5)
        ax.scatter(*b[labels == k].T, s=6, color=colour)
    ax.set(title=title, aspect="equal", xlim=(-3, 3), ylim=(-3, 3))
plt.show()

# %% [markdown]
# ## 03.6 Divergence (1 point, 10 minutes, medium)
#
# Compute $\nabla\cdot f$ for each sample of a batch, for samples of any shape: exactly, or, if a `probe` $v$ is
# given, as Hutchinson's estimate $v^\top J v$ for each sample. Sample $i$ of `f(x)` depends on sample $i$ of `x`
# only. The function is called inside of `torch.no_grad()` too, and the caller's `x` does not ask for gradients
# afterwards if it did not before.
#
# **Without:** `flowlib.likelihood.divergence`.


# %% solution="03.6"
def divergence(f: Callable[[Tensor], Tensor], x: Tensor, probe: Tensor | None = None) -> Tensor:
    """The divergence of f at each sample.

    Args:
        f: (B, ...) -> the same shape.
        x: (B, ...), float.
        probe: (B, ...), or None for the exact divergence.

    Returns:
        (B,).
    """
    ### BEGIN SOLUTION
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = f(x)
        if probe is not None:
            product = torch.autograd.grad((value * probe).sum(), x)[0]
            return (product * probe).flatten(1).sum(1)
        flat = value.flatten(1)
        parts = []
        for i in range(flat.shape[1]):
            gradient = torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0]
            parts.append(gradient.flatten(1)[:, i])
        return torch.stack(parts).sum(0)
    ### END SOLUTION


# %% check="03.6" points=1
matrix = torch.tensor([[1.0, 2.0, 0.5], [-1.0, 0.3, 4.0], [0.7, -2.0, -0.6]], dtype=torch.float64)


def bent(x: Tensor) -> Tensor:
    """Each component depends on all: x_i^2 + sum_j m_ij x_j; its divergence is 2 sum_i x_i + 0.7."""
    return x**2 + x @ matrix.T


def told(f: Callable, x: Tensor, probe: Tensor | None = None) -> Tensor:
    try:
        found = call(unaided(flowlib.likelihood.divergence)(divergence), f, x, probe)
    except AssertionError as error:
        text = str(error)
        assert "does not require grad" not in text, "no gradient is recorded: x must ask for it, also under no_grad"
        assert "backward through the graph" not in text, "the graph was freed after the first component: retain it"
        raise
    return sound(found, (len(x),), "the divergence", "one number for each sample")


x = torch.randn(4, 3, generator=seeded(20), dtype=torch.float64)
found, truth = told(bent, x), 2 * x.sum(1) + 0.7
jacobians = torch.stack([torch.diag(2 * row) + matrix for row in x])
assert not torch.allclose(found, jacobians.sum((1, 2))), (
    "all entries of the Jacobian are summed: the divergence takes its diagonal only"
)
assert not torch.allclose(found, truth / 3), "the mean of the diagonal, where its sum is asked for"
assert not torch.allclose(found, truth.sum().expand(4)), "the samples are summed up"
assert not torch.allclose(found, jacobians[:, 0, 0]), "one component only: the divergence has a term for each"
assert torch.allclose(found, truth) or not torch.allclose(found, truth, rtol=1e-2), (
    "almost right: use automatic differentiation, not finite differences"
)
assert torch.allclose(found, truth), "the exact divergence is not the trace of the Jacobian"
assert not x.requires_grad, "the caller's x now asks for gradients: work on a detached copy"
with torch.no_grad():
    assert torch.allclose(told(bent, x), truth), "another result under no_grad"
    told(bent, x, torch.ones_like(x))
assert torch.allclose(told(bent, x[:1]), truth[:1]), "wrong for a single sample"
assert torch.allclose(told(lambda x: x**2, x[:, :1]), 2 * x[:, 0]), "wrong in one dimension"

image = torch.randn(3, 2, 2, 2, generator=seeded(21), dtype=torch.float64)
try:
    found = told(lambda x: x**3, image)
except AssertionError as error:
    raise AssertionError(
        f"right for points, but images (B, C, H, W) have more than one axis to run over: {error}"
    ) from None
assert torch.allclose(found, (3 * image**2).sum((1, 2, 3))), "right for points and wrong for images (B, C, H, W)"
found = told(lambda x: x * x.sum((1, 2, 3), keepdim=True), image)  # each component depends on all: 8 sums + 1 sum
assert torch.allclose(found, 9 * image.sum((1, 2, 3))), "wrong for images whose pixels depend on each other"

signs = [torch.tensor(v, dtype=torch.float64) for v in product((-1.0, 1.0), repeat=3)]
estimates = torch.stack([told(bent, x, v.expand(4, 3)) for v in signs])
quadratic = torch.stack([torch.einsum("i,bij,j->b", v, jacobians, v) for v in signs])
if not torch.allclose(estimates, quadratic):
    assert estimates.std(0).max() > 1e-9, (
        "the probe changes nothing: with one, a single product with the Jacobian is to do"
    )
    once = torch.stack([torch.einsum("i,bij->b", v, jacobians) for v in signs])
    assert not torch.allclose(estimates, once), "the probe enters only once: v^T J is a vector, and v^T J v a number"
    assert not torch.allclose(estimates, quadratic / 3), (
        "the estimate is too small by the number of components: their sum is asked for, and the probe as it is"
    )
    assert not torch.allclose(estimates, quadratic.sum(1, keepdim=True).expand(-1, 4)), (
        "the estimates of samples are mixed"
    )
    raise AssertionError("with a probe v the result must be v^T J v for each sample")
ones = torch.ones_like(image)
found = told(lambda x: x * x.sum((1, 2, 3), keepdim=True), image, ones)  # 1^T J 1 = 8 sums + 8 sums
assert torch.allclose(found, 16 * image.sum((1, 2, 3))), "with a probe: right for points and wrong for images"
each = torch.randn(4, 3, generator=seeded(22), dtype=torch.float64)
assert torch.allclose(told(bent, x, each), torch.einsum("bi,bij,bj->b", each, jacobians, each)), (
    "each sample has a probe of its own"
)
### BEGIN HIDDEN TESTS
assert torch.allclose(told(torch.sin, image), torch.cos(image).sum((1, 2, 3))), "wrong for another function of images"
### END HIDDEN TESTS

# %% [markdown] hints="03.6"
# 1. $\nabla\cdot f = \sum_i \partial f_i/\partial x_i$. As samples do not mix, the gradient of `f(x)[:, i].sum()`
#    with respect to `x` holds $\partial f_i/\partial x_j$ for all samples at once.
#
# 2. Work on `x.detach().requires_grad_()` inside of `torch.enable_grad()`, flatten all but the first axis, keep the
#    graph with `retain_graph=True`. With a probe, the gradient of `(f(x) * probe).sum()` is $J^\top v$.
#
# 3. Exact: the sum over $i$ of `autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0].flatten(1)[:, i]`. With a
#    probe: `(autograd.grad((f(x) * probe).sum(), x)[0] * probe).flatten(1).sum(1)`.

# %% [markdown]
# ## 03.7 The likelihood of a flow (2 points, 15 minutes, hard)
#
# A flow's velocity `u(x, t)` and its divergence `div(x, t)` are given. Start at the data at $t = 1$, go back to
# $t = 0$ in `steps` equal steps of a method of order 2 or more (Heun, midpoint, ...), and return $\log p_1(x)$ for
# each sample. At $t = 0$ samples are standard normal. `u` and `div` are known between the times too.
#
# **Without:** `flowlib.log_likelihood`, `flowlib.sample_with_likelihood`.


# %% solution="03.7"
def log_likelihood(
    u: Callable[[Tensor, Tensor], Tensor], div: Callable[[Tensor, Tensor], Tensor], x: Tensor, steps: int
) -> Tensor:
    """log p_1(x) in nats under the flow dx/dt = u(x, t) from standard normal noise at t = 0.

    Args:
        u: velocity, (B, D) and t of shape () -> (B, D).
        div: its divergence, (B, D) and t of shape () -> (B,).
        x: data at t = 1, (B, D).
        steps: number of steps from t = 1 to t = 0.

    Returns:
        (B,).
    """
    ### BEGIN SOLUTION
    times = torch.linspace(1, 0, steps + 1, dtype=x.dtype)
    integral = torch.zeros(len(x), dtype=x.dtype)
    for t, s in pairwise(times):
        h = s - t  # negative: back in time
        middle = x + h / 2 * u(x, t)
        x = x + h * u(middle, t + h / 2)
        integral = integral - h * div(middle, t + h / 2)  # of div over [s, t], which is positive
    log_normal = -0.5 * (x**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi)
    return log_normal - integral
    ### END SOLUTION


# %% check="03.7" points=2
class Gauss:
    """The flow to N(mean, std^2 I) in three dimensions on the linear path: affine, everything in closed form.

    Its rate is -1 at t = 0 and 1 at t = 1. Where both ends agree, a sum over the left ends of the steps is the
    trapezium rule, and no test of the order could tell them apart.
    """

    mean, std = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64), 0.4

    def rate(self, t: Tensor) -> Tensor:
        return (t * self.std**2 - (1 - t)) / (t**2 * self.std**2 + (1 - t) ** 2)

    def u(self, x: Tensor, t: Tensor) -> Tensor:
        t = torch.as_tensor(t, dtype=x.dtype)
        return self.mean + self.rate(t) * (x - t * self.mean)

    def div(self, x: Tensor, t: Tensor) -> Tensor:
        return 3 * self.rate(torch.as_tensor(t, dtype=x.dtype)).expand(len(x))


def scored(u: Callable, div: Callable, x: Tensor, steps: int) -> Tensor:
    with unaided(flowlib.log_likelihood, flowlib.sample_with_likelihood):
        found = call(log_likelihood, u, div, x, steps)
    return sound(found, (len(x),), "log p", "one number for each sample")


flow = Gauss()
x = flow.mean + flow.std * torch.randn(6, 3, generator=seeded(30), dtype=torch.float64)
truth = torch.distributions.Normal(flow.mean, flow.std).log_prob(x).sum(1)
stretch = 3 * math.log(flow.std)  # the integral of the divergence
asked: list[float] = []


def heard(x: Tensor, t: Tensor) -> Tensor:
    asked.append(float(torch.as_tensor(t)))
    return flow.u(x, t)


scored(heard, flow.div, x[:1], 7)  # a single point
assert asked[0] > 1e-6, "the points were carried from t = 0 to 1, but data are at t = 1: follow them back"
assert all(min(abs(t - k / 7) for t in asked) < 1e-6 for k in range(1, 8)), (
    "for steps = 7 the steps do not begin at 1, 6/7, ..., 1/7: N steps have N + 1 times, and the last step ends at 0"
)
found = scored(flow.u, flow.div, x, 200)
if not torch.allclose(found, truth, rtol=0, atol=1e-3):

    def off(value: Tensor | float, found: Tensor = found) -> bool:
        return torch.allclose(found - truth, torch.as_tensor(value, dtype=torch.float64).expand(6), rtol=0, atol=0.05)

    constant = 0.5 * math.log(2 * math.pi)
    assert not off(2 * stretch), "the sign of the divergence: where a flow contracts, density rises"
    assert not off(stretch), "this is the density of the noise that x comes from: the divergence is missing"
    assert not off(3 * constant), "the constant of the normal density is missing"
    assert not off(2 * constant), "the constant of the normal density is that of one dimension: it counts for each"
    normal = torch.distributions.Normal(torch.zeros(3).double(), 1.0)
    at_data = normal.log_prob(x).sum(1) - stretch
    assert not off(at_data - truth), "the normal density belongs to where the point started, at t = 0, not to x"
    ahead = x.clone()
    for i in range(400):
        ahead = ahead + flow.u(ahead + flow.u(ahead, torch.tensor(i / 400)) / 800, torch.tensor((i + 0.5) / 400)) / 400
    wrong_way = normal.log_prob(ahead).sum(1) - truth
    assert not any(off(wrong_way + k * stretch) for k in (1, -1)), (
        "the points were carried from t = 0 to 1, but data are at t = 1: follow them back"
    )
    back = x.clone()
    for i in range(400):
        t = 1 - (i + 0.5) / 400
        back = back + flow.u(back, torch.tensor(t)) / 400
    blown = normal.log_prob(back).sum(1) - truth
    assert not any(torch.allclose(found - truth, blown + k * stretch, rtol=0.1, atol=0.3) for k in (1, -1)), (
        "time runs back and the points do not: a step to an earlier time has negative length"
    )
    for first in (0, 1):  # the divergence at one end of each step, beside points that are right
        nodes = (torch.arange(200, dtype=torch.float64) + first) / 200
        one_end = 3 * float(flow.rate(nodes).mean())
        assert not torch.allclose(found, truth + stretch - one_end, rtol=0, atol=2e-3), (
            "the points are followed with order 2, the integral of the divergence is not: it is summed from one end of "
            "each step"
        )
    assert not torch.allclose(found * math.log(2), truth, atol=1e-3), "that is in bits: nats are asked for"
    gap = float((found - truth).abs().max())
    coarse = float((scored(flow.u, flow.div, x, 100) - truth).abs().max())
    assert not 1.7 < coarse / gap < 2.4, (
        f"with twice the steps the error falls by {coarse / gap:.1f}: that is a method of order 1, such as Euler's"
    )
    raise AssertionError(f"the log-density is wrong by up to {gap:.3g} for a Gaussian")

for steps in (10, 20):
    errors = [float((scored(flow.u, flow.div, x, n) - truth).abs().max()) for n in (steps, 2 * steps)]
    assert errors[1] < errors[0] / 3 or errors[1] < 1e-9, (
        f"with {2 * steps} steps in place of {steps} the error falls by {errors[0] / errors[1]:.1f}, order 2 means 4"
    )

mixture = MixtureField(*toy.mixture(torch.float64), path=GaussianPath(Trigonometric()))


def mixture_u(x: Tensor, t: Tensor) -> Tensor:
    """The velocity; a time that rounding has carried past an end, such as 1 - 150 (1/150) < 0, counts as the end."""
    return mixture.u(x, torch.as_tensor(t, dtype=x.dtype).clamp(0, 1))


def mixture_div(x: Tensor, t: Tensor) -> Tensor:
    return flowlib.likelihood.divergence(mixture_u, x, torch.as_tensor(t, dtype=x.dtype))[1]


x, _ = mixture.sample(4, seeded(31))
truth = mixture.log_prob(x, 1.0)
errors = [float((scored(mixture_u, mixture_div, x, n) - truth).abs().max()) for n in (75, 150)]
assert errors[1] < 0.02, (
    "right for one Gaussian, not for a mixture: is the divergence taken at the moving point, at its time?"
)
assert errors[1] < errors[0] / 3 or errors[1] < 1e-4, (
    f"order 2 for one Gaussian; on a mixture twice the steps make the error {errors[0] / errors[1]:.1f} times less: at "
    "which point of a step is the divergence taken?"
)

# %% [markdown] hints="03.7"
# 1. Two things are carried back together: the point, and the divergence collected so far. Both use the same times.
#
# 2. $\log p_1(x_1) = \log\mathcal{N}(x_0; 0, I) - \int_0^1 \nabla\cdot u_t(x_t)\,dt$. Midpoint: half a step with the
#    slope at the start, then the whole step with the slope and the divergence in the middle. Going back, the step is
#    $-1/$`steps`.
#
# 3. For each $t = 1, \dots$: `middle = x - h / 2 * u(x, t)`, `x = x - h * u(middle, t - h / 2)`,
#    `integral += h * div(middle, t - h / 2)` with `h = 1 / steps`. Return
#    `-0.5 * (x**2).sum(1) - 0.5 * D * log(2 pi) - integral`.

# %% tags=["demo"]
ring = MixtureField(*toy.mixture(torch.float64), path=GaussianPath(Trigonometric()))
side = torch.linspace(-2.2, 2.2, 32, dtype=torch.float64)
points = torch.cartesian_prod(side, side)


def ring_u(x, t):
    return ring.u(x, torch.as_tensor(t, dtype=x.dtype).clamp(0, 1))  # rounding may carry a time past the end


def ring_div(x, t):
    return flowlib.likelihood.divergence(ring_u, x, torch.as_tensor(t, dtype=x.dtype))[1]


density = log_likelihood(ring_u, ring_div, points, 40).exp().reshape(32, 32).T
figure, axes = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained")
known = ring.log_prob(points, 1.0).exp().reshape(32, 32).T
for ax, values, title in ((axes[0], density, "yours"), (axes[1], known, "expected")):
    ax.imshow(values, origin="lower", extent=(-2.2, 2.2, -2.2, 2.2), cmap="gray_r", vmin=0, vmax=float(known.max()))
    ax.set(title=f"density, {title}", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## Done
#
# Grade yourself from the command line: `flowlib grade 03_flow_matching.ipynb`. Next: lecture 04, where the same
# regression gives the score, and noise is added to the flow without changing what it samples.
