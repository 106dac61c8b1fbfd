# %% [markdown]
# # Exercise 05. Guidance
#
# You drop labels, work out what the null guide then stands for, guide a network in one call, turn guided scores into
# velocities, guide with a classifier's gradient, compute what two guides together sample, and mend a sampler that is
# wrong in eight places.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right;
# when it is wrong, it says what probably went wrong. `hint("05.1")` gives a hint; asked again, it says more, three
# times. Every question stands on its own. The grader runs these checks and a few more. No function changes a tensor
# that it is given.
#
# **Without** in a question names functions that solve it already: an answer that calls one of them gets no points.
#
# **Needed before:** [lecture 05](../lectures/05_guidance.ipynb). **Time:** about 75 minutes. **Points:** 10.

# %%
import inspect
import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from flowlib import ClassifierFreeGuidance, EnergyGuidance, GaussianPath, MixtureField, sample_ode
from flowlib.course.notebook import exercise, seeded, unaided
from flowlib.losses import drop_guide
from flowlib.plotting.style import ACCENT, GREY, INK, PALE
from flowlib.schedules import Schedule, Trigonometric

hint = exercise("05_guidance").hint


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
            f"`{name}` has been changed in place: the caller needs it as it was, make a new tensor"
        )
    return result


def sound(value: object, like: Tensor, what: str) -> Tensor:
    """Return a value if it is a finite tensor of the dtype and shape of another: what is looked at before numbers."""
    assert isinstance(value, Tensor), f"{what} must be a tensor, got {type(value).__name__}"
    assert value.dtype == like.dtype, f"{what} must be {like.dtype}, got {value.dtype}"
    assert value.shape == like.shape, f"{what} must have the shape {tuple(like.shape)}, got {tuple(value.shape)}"
    assert bool(torch.isfinite(value).all()), f"{what} is NaN or infinite somewhere"
    return value


# %% [markdown]
# ## 05.1 Drop labels (1 point, 6 minutes, easy)
#
# Write the one step that classifier-free guidance adds to training: replace each label by the null guide with
# probability `rate`, each with a coin of its own, drawn from `generator`. The labels are $0,\dots,$ `classes` $-1$,
# and the null guide is the next integer, also for a batch that lacks some labels. Outside training nothing is dropped.
# The caller keeps `y` as it is. Two calls with the same generator, one after the other, toss different coins.
#
# **Without:** `drop_guide`.


# %% solution="05.1"
def drop_labels(
    y: Tensor, classes: int, rate: float, generator: torch.Generator | None = None, training: bool = True
) -> Tensor:
    """Labels of which some have become the null guide.

    Args:
        y: labels (B,), int64, in 0 ... classes - 1.
        classes: number of labels; it is also the null guide.
        rate: probability that a label is dropped, in [0, 1].
        generator: the source of the coins.
        training: whether anything is dropped at all.

    Returns:
        (B,) int64, a new tensor or, where nothing is dropped, y itself.
    """
    ### BEGIN SOLUTION
    if not training:
        return y
    dropped = torch.rand(len(y), generator=generator) < rate
    return torch.where(dropped, classes, y)
    ### END SOLUTION


# %% check="05.1" points=1
labels = torch.arange(40_000) % 10
kept_copy = labels.clone()
drop = unaided(drop_guide)(drop_labels)
out = call(drop, labels, 10, 0.2, torch.Generator().manual_seed(0))
sound(out, labels, "what is returned, one label for each that came in,")
batches = torch.arange(50).repeat(40, 1) % 10
outs = [call(drop, y, 10, 0.2, torch.Generator().manual_seed(i)) for i, y in enumerate(batches)]
each = torch.stack([(after != before).double().mean() for after, before in zip(outs, batches, strict=True)])
if not bool(each.any()):
    outside = call(drop, labels, 10, 0.2, torch.Generator().manual_seed(0), training=False)
    assert torch.equal(outside, labels), "labels are dropped outside training, and not in it: it is the other way round"
assert bool(each.any()), "in 40 batches of 50 no label was ever dropped"
assert not bool(((each == 0) | (each == 1)).all()), (
    "in 40 batches of 50 either all labels were dropped or none: one coin for the whole batch is not one for each label"
)
masks = torch.stack([after != before for after, before in zip(outs, batches, strict=True)])
assert not bool((masks == masks[0]).all()), "other generators drop the same places: the coins do not come from them"
generator = torch.Generator().manual_seed(0)
twice = [call(drop, labels, 10, 0.2, generator) for _ in range(2)]
assert not torch.equal(*twice), "two calls in a row drop the same places: seed nothing, draw from `generator`"
few = torch.tensor([0, 2, 1] * 20)  # no label above 2
values = set(call(drop, few, 10, 0.9, torch.Generator().manual_seed(0)).tolist())
assert 3 not in values, (
    "in a batch of labels 0, 1, 2 a dropped one became 3, the largest label + 1: it must be `classes`"
)
changed = out != labels
values = set(out[changed].tolist())
assert values <= set(range(11)), (
    f"a dropped label became {sorted(values)}, which is no row of the table of 10 + 1 labels"
)
assert values == {10}, (
    "a dropped label became a real class: the labels are 0 ... 9, so the first free integer is another"
)
share = float(changed.double().mean())
assert abs(share - 0.8) > 0.02, "the share that is dropped is 1 - rate: the comparison is the wrong way round"
# 5 standard deviations of a binomial: a right answer fails with probability 6e-7 (and the seed is fixed).
assert abs(share - 0.2) < 5 * math.sqrt(0.2 * 0.8 / 40_000), (
    f"with rate 0.2 a share of {share:.3f} was dropped: is each coin uniform in [0, 1)?"
)
by_label = torch.stack([changed[labels == k].double().mean() for k in range(10)])
assert (by_label - 0.2).abs().max() < 5.5 * math.sqrt(0.2 * 0.8 / 4000), (
    "some labels are dropped more often than others"
)
single = [call(drop, labels[:1], 10, 0.5, torch.Generator().manual_seed(i)) for i in range(100)]
assert single[0].shape == (1,), f"a batch of one label must stay one, (1,), got {tuple(single[0].shape)}"
assert 15 < sum(int(y) == 10 for y in single) < 85, (
    "a batch of one label must lose it as often as not at rate 0.5: an exact share of a batch is no independent coin"
)
again = call(drop, labels, 10, 0.2, torch.Generator().manual_seed(0))
assert torch.equal(out, again), "the same seed gave other labels: draw from the generator that is given"
assert not torch.equal(call(drop, labels, 10, 0.2), call(drop, labels, 10, 0.2)), (
    "without a generator two calls drop the same places"
)
quiet = call(drop, labels, 10, 0.2, torch.Generator().manual_seed(0), training=False)
assert torch.equal(quiet, labels), "labels were dropped outside training: a sample would ignore what it is asked for"
### BEGIN HIDDEN TESTS
for rate in (0.0, 1.0):
    out = call(drop, labels, 10, rate, torch.Generator().manual_seed(1))
    assert float((out == 10).double().mean()) == rate, f"rate {rate} must drop {'all' if rate else 'no'} labels"
out = call(drop, torch.arange(9_000) % 3, 3, 0.6, torch.Generator().manual_seed(2))
assert abs(float((out == 3).double().mean()) - 0.6) < 0.03, "with 3 classes at rate 0.6 another share is dropped"
### END HIDDEN TESTS

# %% [markdown] hints="05.1"
# 1. One uniform number for each label decides. Compare it with `rate`.
#
# 2. `torch.rand(len(y), generator=generator)` lies below `rate` with probability `rate`. Choose between two values
#    without writing into `y`.
#
# 3. `torch.where(dropped, classes, y)` makes a new tensor. If `training` is false, return `y` before any of this.

# %% [markdown]
# ## 05.2 What the null guide learns (1 point, 8 minutes, medium)
#
# Someone's data loader drops captions of some classes more often than of others: label $k$ is dropped with
# probability $\eta_k$ (not all are 0). The data have $p(y=k) = p_k$ and $p(z\mid y)$. Derive the distribution of the
# data whose velocity the network learns at $\varnothing$, as weights of the classes.


# %% solution="05.2"
def null_weights(p: Tensor, eta: Tensor) -> Tensor:
    """Weights of the classes in the mixture whose field the null guide stands for.

    Args:
        p: how common each class is in the data (K,), positive, of sum 1.
        eta: the probability that a label of each class is dropped (K,), in [0, 1], not all 0.

    Returns:
        (K,), of sum 1.
    """
    ### BEGIN SOLUTION
    joint = p * eta  # p(y = k and dropped)
    return joint / joint.sum()
    ### END SOLUTION


# %% check="05.2" points=1
p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
eta = torch.tensor([0.1, 0.3, 0.8], dtype=torch.float64)
weights = sound(call(null_weights, p, eta), p, "the weights, one for each class,")
assert bool((weights >= 0).all()), "a weight is negative"
assert abs(float(weights.sum()) - 1) < 1e-9, "the weights of a mixture sum to one: divide by the right normaliser"
assert not torch.allclose(weights, p), (
    "that would be so if all classes were dropped alike: here the coin knows the class"
)
assert not torch.allclose(weights, eta / eta.sum()), (
    "classes are not equally common, and you did not use how common they are"
)
assert not torch.allclose(weights, torch.full_like(p, 1 / 3)), "the classes do not weigh alike"
inverse = torch.tensor([0.8, 0.16, 0.04], dtype=torch.float64)
assert (weights - inverse).abs().max() > 0.02, (
    "a class that is dropped more often must weigh more at the null guide, not less"
)
assert not torch.allclose(weights * 7, torch.tensor([4.5, 2.1, 0.4], dtype=torch.float64)), (
    "that is the mixture of the samples whose labels were kept: the null guide sees the others"
)
# What training would do, counted: labels and coins, 400,000 times, and 5.5 standard errors.
generator = torch.Generator().manual_seed(0)
k = torch.multinomial(p, 400_000, replacement=True, generator=generator)
seen = k[torch.rand(400_000, generator=generator) < eta[k]]
share = torch.bincount(seen, minlength=3) / len(seen)
assert (weights - share).abs().max() < 5.5 * math.sqrt(0.25 / len(seen)), (
    f"of the samples without a label the classes have the shares {[round(v, 2) for v in share.tolist()]}"
)
### BEGIN HIDDEN TESTS
p = torch.tensor([0.1, 0.6, 0.1, 0.2], dtype=torch.float64)
eta = torch.tensor([0.5, 0.1, 0.0, 0.7], dtype=torch.float64)
expected = torch.tensor([0.05, 0.06, 0.0, 0.14], dtype=torch.float64) / 0.25
assert torch.allclose(call(null_weights, p, eta), expected), (
    "another instance, with a class that is never dropped, is wrong"
)
assert torch.allclose(call(null_weights, p, torch.full_like(p, 0.1)), p), "if all are dropped alike the data remain"
### END HIDDEN TESTS

# %% [markdown] hints="05.2"
# 1. At the null guide the network's target is averaged over what was drawn *and dropped*. Which classes are those?
#
# 2. Bayes' rule for the event "dropped": $p(y=k\mid \text{dropped})$ from $p(\text{dropped}\mid y=k)=\eta_k$.
#
# 3. Multiply the probability of the class by the probability that it is dropped, and divide by the sum over classes.

# %% [markdown]
# ## 05.3 Guide a network in one call (1 point, 8 minutes, medium)
#
# Write classifier-free guidance of a network, $\tilde u = (1-w)\,u(x\mid\varnothing) + w\,u(x\mid y)$, that calls the
# network **once**, with a batch that holds every sample twice. `net.null` is the null label, whatever labels the batch
# has. It must work for any number of samples and channels.
#
# **Without:** `ClassifierFreeGuidance`.


# %% solution="05.3"
def guided_velocity(net, x: Tensor, t: Tensor, y: Tensor, w: float) -> Tensor:
    """The guided velocity, from one call of the network.

    Args:
        net: net(x, t, y) -> velocity like x, for any number of samples; `net.null` is the null label.
        x: samples (B, C, H, W).
        t: times (B,).
        y: labels (B,).
        w: guidance scale; 1 is no extra guidance.

    Returns:
        (B, C, H, W).
    """
    ### BEGIN SOLUTION
    both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
    conditional, free = both.chunk(2)
    return (1 - w) * free + w * conditional
    ### END SOLUTION


# %%
class Witness:
    """A stand-in for a network of images with four channels, which notes what it is asked."""

    null = 7

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.times: list[Tensor] = []
        self.labels: list[Tensor] = []

    def __call__(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        for name, value in (("times", t), ("labels", y)):
            if not isinstance(value, Tensor) or value.shape != x.shape[:1]:
                shape = tuple(value.shape) if isinstance(value, Tensor) else value
                raise AssertionError(f"the network got {len(x)} samples, but its {name} are {shape}")
        self.sizes.append(len(x))
        self.times.append(t.clone())
        self.labels.append(y.clone())
        table = torch.linspace(-2, 3, 8, dtype=x.dtype)
        channel = torch.arange(1, x.shape[1] + 1, dtype=x.dtype)[:, None, None]
        return 0.3 * x + channel * (table[y] ** 2 + t)[:, None, None, None]


# %% check="05.3" points=1
x = torch.randn(5, 4, 3, 3, generator=seeded(0), dtype=torch.float64)
t, y = torch.linspace(0.1, 0.9, 5, dtype=torch.float64), torch.tensor([0, 3, 5, 1, 3])
net, guide = Witness(), unaided(ClassifierFreeGuidance)(guided_velocity)
found = sound(call(guide, net, x, t, y, 2.5), x, "the velocity")
assert net.sizes, "the network was never called"
assert len(net.sizes) == 1, f"the network was called {len(net.sizes)} times: put both questions in one batch"
assert 7 in net.labels[0], "the network was never asked with its null label net.null: another label is another class"
free, conditional = Witness()(x, t, torch.full_like(y, 7)), Witness()(x, t, y)
expected = free + 2.5 * (conditional - free)
right = [torch.allclose(found[:, c], expected[:, c]) for c in range(4)]
assert all(right) or not any(right), f"channel {right.index(False)} is not guided as the others are: all are velocities"
assert not torch.allclose(found, 2.5 * free - 1.5 * conditional), (
    "it runs away from the label: are w and 1 - w, or the two halves of the batch, exchanged?"
)
assert not torch.allclose(found, conditional + 2.5 * (conditional - free)), (
    "guided too far by one: at w = 1 the result must be the conditional velocity, at w = 0 the free one"
)
for of_free in (1.0, 1.5):
    assert not torch.allclose(found, of_free * free + 2.5 * conditional), (
        "the two weights must sum to one: mind the sign"
    )
assert torch.allclose(found, expected), (
    "not the guided velocity: does each sample meet its own time and label in both halves of the batch?"
)
### BEGIN HIDDEN TESTS
for w in (-1.0, 0.0, 1.0, 4.0):
    for count in (1, 3):
        found = call(guide, Witness(), x[:count], t[:count], y[:count], w)
        sound(found, x[:count], f"the velocity for {count} samples")
        assert torch.allclose(found, (free + w * (conditional - free))[:count]), f"wrong at w = {w:g}"
### END HIDDEN TESTS

# %% [markdown] hints="05.3"
# 1. A batch of $2B$: the first half asks with the labels, the second with the null label.
#
# 2. `torch.cat` doubles `x`, `t` and the labels; `torch.full_like(y, net.null)` makes null labels; `chunk(2)` takes
#    the answer apart in the same order.
#
# 3. `conditional, free = net(...).chunk(2)`, then weigh them with `w` and `1 - w`.

# %% [markdown]
# ## 05.4 Guide scores, return a velocity (1 point, 10 minutes, medium)
#
# A network predicts scores. Guide its two scores, $\tilde s = (1-w)\,s_\varnothing + w\,s_y$, and return the guided
# *velocity*. Derive $u = a_t\,x + b_t\,s$ for any schedule from $s = -\hat\varepsilon/\beta$,
# $x=\alpha D+\beta\hat\varepsilon$, $u=\dot\alpha D+\dot\beta\hat\varepsilon$. The check compares with fields that
# are known exactly, so only a right derivation passes.
#
# **Without:** `GaussianPath`, `ClassifierFreeGuidance`.


# %% solution="05.4"
def velocity_from_scores(s_null: Tensor, s_y: Tensor, x: Tensor, t: Tensor, w: float, schedule: Schedule) -> Tensor:
    """The guided velocity, from the scores without and with the guide.

    Args:
        s_null, s_y: scores (B, D).
        x: where they were taken (B, D).
        t: times (B,) in (0, 1).
        w: guidance scale.
        schedule: its methods alpha(t), beta(t), dalpha(t), dbeta(t) give tensors like t.

    Returns:
        (B, D).
    """
    ### BEGIN SOLUTION
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    score = (1 - w) * s_null + w * s_y
    return dalpha / alpha * x + (dalpha * beta**2 - dbeta * beta * alpha) / alpha * score
    ### END SOLUTION


# %% check="05.4" points=1
means = torch.tensor([[-1.0, 0.5, 0.2], [1.2, 0.3, -0.4], [0.1, -1.3, 1.0]], dtype=torch.float64)
field = MixtureField(means, 0.5, path=GaussianPath(Trigonometric()))
x = torch.tensor([[0.4, -0.2, 1.0], [-0.9, 0.7, 0.1], [1.1, 0.6, -0.8]], dtype=torch.float64)
t, y = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64), torch.tensor([2, 0, 1])
s_null, s_y, u_null, u_y = field.s(x, t), field.s(x, t, y), field.u(x, t), field.u(x, t, y)
turn = unaided(GaussianPath, ClassifierFreeGuidance)(velocity_from_scores)
found = sound(call(turn, s_null, s_y, x, t, 1.0, Trigonometric()), x, "the velocity")
rows = [slice(i, i + 1) for i in range(3)]
alone = [call(turn, s_null[i], s_y[i], x[i], t[i], 1.0, Trigonometric()) for i in rows]
alone = torch.cat([sound(one, x[:1], "the velocity of one sample") for one in alone])
assert torch.allclose(found, alone), (
    "a sample's velocity depends on who else is in the batch: t (B,) runs along the rows of (B, D), not the columns"
)
assert not torch.allclose(found, s_y), "at w = 1 the result is the score itself: it has to be converted"
path = GaussianPath()
for scores in (s_y, s_null):
    assert not torch.allclose(found, path.convert(scores, x, t, "score", "velocity")), "right on the linear path only"
assert not torch.allclose(found, u_null), "at w = 1 only the score with the guide counts: the two are exchanged"
assert torch.allclose(found, u_y) or not torch.allclose(found, u_y, rtol=0.02), (
    "almost right: was a small constant added to a denominator?"
)
nothing = torch.zeros_like(x)
drift = call(turn, nothing, nothing, x, t, 1.0, Trigonometric())
assert bool(drift.any()), "for a score of 0 the velocity is 0: the term with x is missing"
assert torch.allclose(drift, field.path.convert(nothing, x, t, "score", "velocity")), (
    "for a score of 0 the velocity is a_t x, and yours is another: look at the term with x again"
)
rest = found - drift
weight = (rest * s_y).sum(1) / (s_y * s_y).sum(1)  # b_t, if the rest is a multiple of the score
assert torch.allclose(rest, weight[:, None] * s_y), (
    "at w = 1, what is left after a_t x is taken off is no multiple of the score that belongs to y"
)
true = ((u_y - u_null) * (s_y - s_null)).sum(1) / (s_y - s_null).square().sum(1)
assert bool((weight > 0).all()), "b_t must be positive: the velocity follows the score (mind that beta decreases)"
assert torch.allclose(weight, true), (
    f"the weight b_t of the score is {weight[1]:.3f} at t = 0.5 on this schedule, it should be {true[1]:.3f}"
)
at_0 = call(turn, s_null, s_y, x, t, 0.0, Trigonometric())
assert torch.allclose(at_0, u_null), "right at w = 1 but wrong at w = 0, where only the score without guide counts"
at_3 = call(turn, s_null, s_y, x, t, 3.0, Trigonometric())
assert torch.allclose(at_3, u_null + 3 * (u_y - u_null)), (
    "right at w = 0 and 1 but wrong at w = 3: guide once, linearly in w, with weights that sum to one"
)
### BEGIN HIDDEN TESTS
line = MixtureField(means[:, :2], 0.3)
for t in (torch.tensor([0.2, 0.5, 0.8]).double(), torch.tensor([0.01, 0.6, 0.99]).double()):
    scores = line.s(x[:, :2], t), line.s(x[:, :2], t, y)
    found = call(turn, *scores, x[:, :2], t, 2.0, line.path.schedule)
    assert torch.allclose(found, ClassifierFreeGuidance(line, 2.0).u(x[:, :2], t, y)), (
        f"wrong in two dimensions on the linear path, at t = {t.tolist()}"
    )
### END HIDDEN TESTS

# %% [markdown] hints="05.4"
# 1. Guide the scores first. Then convert one score, at one $x$: the term with $x$ comes once.
#
# 2. $\hat\varepsilon=-\beta s$ gives $D = (x+\beta^2 s)/\alpha$. Put both into
#    $u=\dot\alpha D+\dot\beta\hat\varepsilon$ and collect $x$ and $s$.
#
# 3. $a_t=\dot\alpha/\alpha$ and $b_t = \dot\alpha\beta^2/\alpha - \dot\beta\beta$. Reshape `t` with `t[:, None]`
#    first.

# %% [markdown]
# ## 05.5 Guide with a classifier's gradient (2 points, 15 minutes, hard)
#
# Write classifier guidance in noise form. The classifier gives **logits**; what guides is the gradient in $x$ of the
# *log-probability* of the label that was asked for. A sampler will call this under `torch.no_grad()`, hundreds of
# times: the result must carry no graph, and `x` must come back as it was.
#
# **Without:** `EnergyGuidance`.


# %% solution="05.5"
def guided_noise(
    noise_hat: Tensor, classifier: Callable, x: Tensor, t: Tensor, y: Tensor, w: float, schedule: Schedule
) -> Tensor:
    """The noise prediction, guided by w times the gradient of log p_t(y|x).

    Args:
        noise_hat: the unguided prediction of the noise (B, D).
        classifier: (x (B, D), t (B,)) -> logits (B, K), differentiable in x.
        x: samples (B, D).
        t: times (B,) in (0, 1).
        y: labels (B,).
        w: guidance scale.
        schedule: its methods alpha(t) and beta(t) give tensors like t.

    Returns:
        (B, D), without a graph.
    """
    ### BEGIN SOLUTION
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        log_prob = torch.log_softmax(classifier(leaf, t), dim=1)
        asked = log_prob.gather(1, y[:, None]).sum()  # the sum of separate samples: each gets its own gradient
        gradient = torch.autograd.grad(asked, leaf)[0]
    return noise_hat - w * schedule.beta(t)[:, None] * gradient
    ### END SOLUTION


# %%
triangle = MixtureField(
    torch.tensor([[-1.2, 0.0], [1.0, 0.9], [0.8, -1.1]], dtype=torch.float64),
    torch.tensor([0.4, 0.6, 0.5], dtype=torch.float64),
    path=GaussianPath(Trigonometric()),
)


def bayes_logits(x: Tensor, t: Tensor) -> Tensor:
    """Logits of Bayes' own classifier of the triangle: exact after softmax, with a shift that softmax removes."""
    each = [triangle.log_prob(x, t, torch.full((len(x),), k)) for k in range(3)]
    return torch.stack(each, dim=1) + (0.7 * x[:, :1] - x[:, 1:] ** 2)


# %% check="05.5" points=2
generator = torch.Generator().manual_seed(0)
x = torch.randn(6, 2, generator=generator, dtype=torch.float64)
t, y = torch.linspace(0.15, 0.85, 6, dtype=torch.float64), torch.tensor([1, 1, 2, 0, 2, 1])
free, conditional = triangle.noise(x, t), triangle.noise(x, t, y)
arguments = (free, bayes_logits, x, t, y)
guide = unaided(EnergyGuidance)(guided_noise)
found = sound(call(guide, *arguments, 1.0, Trigonometric()), x, "the noise")
assert not x.requires_grad, "x was given back requiring gradients: work on a detached copy"
assert not found.requires_grad, "the result carries a graph: over the steps of a sampler all graphs would be kept"
step, exact = found - free, conditional - free
assert not torch.allclose(step, torch.zeros_like(step)), (
    "nothing was added to the noise: w = 1, and the gradient is not 0"
)
ratio = (step * exact).sum(1) / (exact * exact).sum(1)
if torch.allclose(step, ratio[:, None] * exact, atol=1e-9):  # the right direction; the right length?
    beta, alpha = Trigonometric().beta(t), Trigonometric().alpha(t)
    b = math.pi / 2 * beta / alpha
    likely = torch.softmax(bayes_logits(x, t), dim=1).gather(1, y[:, None])[:, 0]
    assert not bool((ratio < 0).all()), "it moves away from the label: the noise is minus beta times the score"
    assert not torch.allclose(ratio, torch.full_like(ratio, 1 / 6)), (
        "every gradient is divided by the batch: the mean over the samples was differentiated, not the sum"
    )
    assert not torch.allclose(ratio, likely), "the probability was differentiated, not its logarithm"
    assert not torch.allclose(ratio, 1 / beta), (
        "that is the guided score's term: in noise form the gradient has a factor"
    )
    assert not torch.allclose(ratio, beta), "one factor beta too many: it multiplies the gradient once"
    assert not torch.allclose(ratio, alpha / beta), (
        "the factor of the gradient is the noise level, not the signal level"
    )
    assert not torch.allclose(ratio, b / beta), "b_t belongs to the velocity form; here the prediction is the noise"
    assert not torch.allclose(step.norm(dim=1), beta), "the gradients were brought to length 1: their length counts"
    assert torch.allclose(ratio, torch.ones(6).double()), (
        f"at w = 1 the gradients have the wrong factor, {ratio.tolist()}"
    )
else:
    leaf = x.clone().requires_grad_()
    logits = bayes_logits(leaf, t)
    log_probs = torch.log_softmax(logits, dim=1)

    def along(quantity: Tensor) -> bool:
        """Whether the step of each sample is along the gradient of a quantity, or against it."""
        gradient = torch.autograd.grad(quantity.sum(), leaf, retain_graph=True)[0]
        return bool((torch.cosine_similarity(step, gradient, dim=1).abs() > 1 - 1e-9).all())

    assert not along(logits.gather(1, y[:, None])), "a logit is no log-probability: it lacks the normalisation"
    assert not along(log_probs), "the log-probabilities of all labels were added: only y's counts"
    assert not along(log_probs[:, :1]), "it guides every sample to label 0, not to the one that was asked for"
    assert not along(torch.log_softmax(logits, 0).gather(1, y[:, None])), (
        "the probabilities sum to one over the samples: take the softmax over the labels"
    )
    assert not along(logits), "the logits of all labels were added: only the log-probability of y counts"
    assert not along(log_probs.max(dim=1).values), "it guides to the likeliest label, not to the one that was asked for"
    raise AssertionError("the direction is wrong: differentiate log p(y|x) of each sample's own label in its own x")
with torch.no_grad():
    silent = call(guide, *arguments, 1.0, Trigonometric())
assert torch.allclose(silent, found), "under torch.no_grad(), where samplers run, the result is another"
further = call(guide, *arguments, 2.5, Trigonometric())
assert torch.allclose(further, free + 2.5 * exact), "right at w = 1 but wrong at w = 2.5"
one = call(guide, free[:1], bayes_logits, x[:1], t[:1], y[:1], 1.0, Trigonometric())
assert torch.allclose(sound(one, x[:1], "the noise of one sample"), found[:1]), "wrong for a single sample"
### BEGIN HIDDEN TESTS
expected = EnergyGuidance(
    triangle, lambda x, t, y: torch.log_softmax(bayes_logits(x, t), 1).gather(1, y[:, None])[:, 0], -1.5
).noise(x[:4], t[:4], y[:4])
found = call(guide, free[:4], bayes_logits, x[:4], t[:4], y[:4], -1.5, Trigonometric())
assert torch.allclose(found, expected), "wrong at a negative scale"
flat = MixtureField(triangle.means, triangle.std)  # on the linear path, where alpha^2 + beta^2 is not 1
expected = EnergyGuidance(
    flat, lambda x, t, y: torch.log_softmax(bayes_logits(x, t), 1).gather(1, y[:, None])[:, 0], 2.0
).noise(x, t, y)
found = call(guide, flat.noise(x, t), bayes_logits, x, t, y, 2.0, flat.path.schedule)
assert torch.allclose(found, expected), "right on the trigonometric path, wrong on the linear one"
### END HIDDEN TESTS

# %% [markdown] hints="05.5"
# 1. Bayes: $\tilde s = s + w\,\nabla\log p_t(y\mid x)$, and $\hat\varepsilon=-\beta s$. What does that add to
#    $\hat\varepsilon$?
#
# 2. `x.detach().requires_grad_()` inside `with torch.enable_grad():`; `log_softmax` over the classes; pick each
#    sample's own label. The samples do not see each other, so the gradient of their *sum* holds each one's own
#    gradient.
#
# 3. `gradient = torch.autograd.grad(log_softmax(logits, 1).gather(1, y[:, None]).sum(), leaf)[0]`, then subtract
#    $w\,\beta_t$ times it, with $\beta_t$ as a column.

# %% tags=["demo"]
grid = torch.stack(torch.meshgrid(torch.linspace(-2, 2, 11), torch.linspace(-2, 2, 11), indexing="xy"), -1)
points = grid.reshape(-1, 2).double()
when, asked = torch.full((len(points),), 0.5).double(), torch.ones(len(points), dtype=torch.long)
yours = guided_noise(triangle.noise(points, when), bayes_logits, points, when, asked, 1.0, Trigonometric())
figure, panels = plt.subplots(1, 2, figsize=(8, 4), layout="constrained", sharey=True)
for axes, eps, title in zip(
    panels, (yours, triangle.noise(points, when, asked)), ("yours", "expected: the conditional noise"), strict=True
):
    axes.quiver(*points.T, *-(eps - triangle.noise(points, when)).T, color=INK, width=0.004)
    axes.plot(*triangle.means.T, "o", color=GREY)
    axes.plot(*triangle.means[1], "o", color=ACCENT)
    axes.set(title=title, aspect="equal", xlabel="$x_1$")
panels[0].set_ylabel("$x_2$")
figure.suptitle("What guidance to the orange label adds at t = 0.5 (minus the change of the noise)", fontsize=10)
plt.show()

# %% [markdown]
# ## 05.6 What two guides sample together (2 points, 15 minutes, hard)
#
# Guides can be composed ("red" and "seven"):
# $\tilde u = u_\varnothing + w_1\,(u_1-u_\varnothing) + w_2\,(u_2-u_\varnothing)$. Let $p = \mathcal N(0,\sigma^2)$,
# $p(\cdot\mid 1)=\mathcal N(m_1,s_1^2)$, $p(\cdot\mid 2)=\mathcal N(m_2,s_2^2)$ be one-dimensional. Derive the
# standard deviation
#
# - of the tempered density $\propto p\,\big(p(\cdot\mid 1)/p\big)^{w_1}\big(p(\cdot\mid 2)/p\big)^{w_2}$, and
# - of what the guided ODE samples at $t=1$, on any schedule with $\alpha_0=0$, $\beta_0=\alpha_1=1$, $\beta_1=0$.


# %% solution="05.6"
def two_guides(w1: float, w2: float, sigma: float, s1: float, s2: float) -> tuple[float, float]:
    """Standard deviations under two guides.

    Args:
        w1, w2: the two scales.
        sigma: standard deviation of the data.
        s1, s2: standard deviations of the data given each guide.

    Returns:
        (that of the tempered density, that of the guided ODE's samples).
    """
    ### BEGIN SOLUTION
    w0 = 1 - w1 - w2
    precision = w0 / sigma**2 + w1 / s1**2 + w2 / s2**2
    return precision**-0.5, sigma**w0 * s1**w1 * s2**w2
    ### END SOLUTION


# %% check="05.6" points=2
case = (0.7, 0.8, 1.3, 0.6, 0.9)
answer = call(two_guides, *case)


# What the answer is compared with, by brute force; it is defined after the answer was asked for.
def tempered_numerically(w1: float, w2: float, sigma: float, s1: float, s2: float) -> float:
    """The tempered standard deviation, by adding up the density on a fine grid (the means do not matter)."""
    x = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    log_p, log_1, log_2 = (-0.5 * (x / scale) ** 2 for scale in (sigma, s1, s2))
    q = torch.softmax(log_p + w1 * (log_1 - log_p) + w2 * (log_2 - log_p), 0)
    return float((q * x**2).sum().sqrt())


def sampled_numerically(w1: float, w2: float, sigma: float, s1: float, s2: float) -> float:
    """How far the guided flow carries two points apart that start at distance 1, all means being 0."""
    fields = [MixtureField(torch.zeros(1, 1, dtype=torch.float64), std) for std in (sigma, s1, s2)]
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)

    def velocity(x: Tensor, t: float) -> Tensor:
        u, u1, u2 = (field.u(x, t) for field in fields)
        return u + w1 * (u1 - u) + w2 * (u2 - u)

    h = 1 / 50
    for i in range(50):  # the classical Runge-Kutta method
        t = i * h
        k1 = velocity(x, t)
        k2 = velocity(x + h / 2 * k1, t + h / 2)
        k3 = velocity(x + h / 2 * k2, t + h / 2)
        k4 = velocity(x + h * k3, min(t + h, 1.0))
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return float(x[1] - x[0])


def two_numbers(answer: object) -> tuple[float, float]:
    """The two numbers of an answer, which must be finite."""
    assert isinstance(answer, tuple | list | Tensor), "return two numbers"
    assert torch.as_tensor(answer).shape == (2,), "return two numbers"
    first, second = (float(value) for value in answer)
    assert math.isfinite(first + second), f"one of the two numbers is NaN or infinite: {first}, {second}"
    return first, second


tempered, sampled = two_numbers(answer)
exact_tempered, exact_sampled = tempered_numerically(*case), sampled_numerically(*case)


def near(value: float, other: float) -> bool:
    return abs(value - other) < 1e-5


assert not (near(tempered, exact_sampled) and near(sampled, exact_tempered)), "the two results stand in the wrong order"
assert not (near(tempered, exact_tempered**2) and near(sampled, exact_sampled**2)), (
    "these are the variances: return standard deviations"
)
assert not (near(tempered, exact_tempered) and near(sampled, exact_tempered)), (
    "the ODE does not sample the tempered density: integrate the growth rate of the standard deviation, v'/2v, in time"
)
assert not near(tempered, 1 / exact_tempered), "that is one over the tempered standard deviation"
assert not near(tempered, exact_tempered**2), "the first is a variance: return standard deviations"
assert not near(tempered, exact_sampled), "the first is the ODE's standard deviation: the tempered density has another"
assert not near(tempered, 0.5327132095), "each guide also takes away its share of p: the exponents sum to one"
assert near(tempered, exact_tempered), (
    f"the tempered standard deviation is {exact_tempered:.4f} by adding up, you say {tempered:.4f}: the exponents of "
    "the three densities sum to one, and the precisions of Gaussians that are multiplied add up"
)
assert not near(sampled, exact_sampled**2), "the second is a variance: return standard deviations"
assert not near(sampled, 0.49), "standard deviations do not add up along the flow: look at their growth rates, v'/2v"
assert not near(sampled, 0.234521), "variances do not add up along the flow: look at their growth rates, v'/2v"
assert not near(sampled, 0.835686), "each guide also takes away its share of the field without a guide"
assert near(sampled, exact_sampled), (
    f"the guided flow carries points that start at distance 1 to a distance of {exact_sampled:.4f}, not {sampled:.4f}"
)
### BEGIN HIDDEN TESTS
for case in (
    (0.0, 0.0, 1.3, 0.6, 0.9),
    (1.0, 0.0, 1.3, 0.6, 0.9),
    (-0.5, 2.0, 0.8, 0.7, 0.5),
    (2.0, 1.0, 1.0, 0.7, 1.0),
):
    tempered, sampled = two_numbers(call(two_guides, *case))
    assert near(tempered, tempered_numerically(*case)), f"another instance of the tempered density is wrong: {case}"
    assert near(sampled, sampled_numerically(*case)), f"another instance of the guided ODE is wrong: {case}"
### END HIDDEN TESTS

# %% [markdown] hints="05.6"
# 1. Collect the coefficients of the three fields first. What do they sum to?
#
# 2. The powers of Gaussians: precisions, weighed by the exponents, add up. The ODE: each field lets the distance of
#    two points grow at the rate $\tfrac{d}{dt}\log\sqrt{v_i}$, with $v_i=\alpha^2 s_i^2+\beta^2$; the guided rate is
#    the weighted sum.
#
# 3. With $w_0 = 1-w_1-w_2$: one over the root of $w_0/\sigma^2+w_1/s_1^2+w_2/s_2^2$, and the integral from $v_i=1$ to
#    $v_i=s_i^2$ of the weighted rates, exponentiated: a weighted *geometric* mean.

# %% tags=["demo"]
scales = [i / 10 for i in range(0, 26)]
pairs = [two_guides(w, w / 2, 1.3, 0.6, 0.9) for w in scales]
checked = scales[::5]
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
for index, colour, name in ((0, INK, "tempered"), (1, ACCENT, "guided ODE")):
    axes.plot(scales, [pair[index] for pair in pairs], color=colour, label=f"{name}: yours")
numbers = [
    (tempered_numerically(w, w / 2, 1.3, 0.6, 0.9), sampled_numerically(w, w / 2, 1.3, 0.6, 0.9)) for w in checked
]
for index, colour, name in ((0, INK, "tempered"), (1, ACCENT, "guided ODE")):
    axes.plot(checked, [pair[index] for pair in numbers], "o", color=colour, label=f"{name}: expected")
axes.set(xlabel="$w_1$, with $w_2 = w_1 / 2$", ylabel="standard deviation", title="Guided Gaussians", ylim=(0, None))
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 05.7 Mend a guided sampler (2 points, 15 minutes, medium)
#
# A colleague's sampler draws the wrong digits, and the wrong number of steps. It was meant to follow the guided ODE
# by Euler's method on $t_i = i/N$, guided for `start` $\le t_i\le$ `end` and with the plain conditional velocity at
# other times (Kynkäänniemi et al. 2024), with one call of the network in each step (for samples once or twice).
#
# ```python
# def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
#     x, h = noise, 1 / steps
#     for i in range(len(noise)):
#         t = torch.full((len(x),), (i + 1) * h)
#         u, free = net(x, t, y), net(x, t, torch.zeros_like(y))
#         guided = u + w * (u - free)
#         guided[:, 3:] = u[:, 3:]
#         x += h * guided
#     return x
# ```
#
# It has (at least) eight faults, each of them seen in published code. Write the sampler as it should be.
#
# **Without:** `ClassifierFreeGuidance`, `sample_ode`.


# %% solution="05.7"
@torch.no_grad()
def sample_guided(net, noise: Tensor, y: Tensor, w: float, steps: int, start: float = 0.0, end: float = 1.0) -> Tensor:
    """Follow the ODE guided within an interval of time, by Euler's method from t = 0 to t = 1.

    Args:
        net: net(x, t, y) -> velocity like x, with times (B,), labels (B,); `net.null` is the null label.
        noise: (B, C, H, W), where the samples start; it is left as it is.
        y: labels (B,).
        w: guidance scale within the interval; 1 is no extra guidance.
        steps: number of steps N of equal size; step i asks for the velocity at t = i / N.
        start, end: a step at time t is guided if start <= t <= end.

    Returns:
        (B, C, H, W), samples at t = 1.
    """
    ### BEGIN SOLUTION
    x = noise
    for i in range(steps):
        t = torch.full((len(x),), i / steps, dtype=x.dtype)
        if start <= i / steps <= end:
            both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
            conditional, free = both.chunk(2)
            velocity = (1 - w) * free + w * conditional
        else:
            velocity = net(x, t, y)
        x = x + velocity / steps
    return x
    ### END SOLUTION


# %%
class ExactNet(torch.nn.Module):
    """The exact velocity of labelled "images" of four channels, as a network that notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        means = torch.linspace(-1, 1, 48, dtype=torch.float64).sin().mul(0.6).reshape(3, 4, 2, 2)
        self.exact = MixtureField(means.roll(5, 1) + torch.arange(3).double().reshape(3, 1, 1, 1) / 4, 0.8)
        self.null = 3
        self.asked: list[tuple[int, float, bool]] = []

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        if not isinstance(t, Tensor) or t.shape != x.shape[:1] or y.shape != x.shape[:1]:
            raise AssertionError(f"the network got {len(x)} samples, times {getattr(t, 'shape', t)}, labels {y.shape}")
        self.asked.append((len(x), float(t.max()), bool((y == self.null).any())))
        return self.exact.u(x, t.double(), y)


# %% check="05.7" points=2
generator = torch.Generator().manual_seed(0)
noise = torch.randn(5, 4, 2, 2, generator=generator, dtype=torch.float64)
y = torch.tensor([0, 1, 1, 0, 1])  # the label 2 is missing
net, sample = ExactNet(), unaided(ClassifierFreeGuidance, sample_ode)(sample_guided)
found = call(sample, net, noise, y, 2.0, 8)

# What the answer is compared with; it is imported and defined after the answer was asked for.
from flowlib import Model
from flowlib.fields import Field


class GuidedWithin(Field):
    """The library's classifier-free guidance for start <= t <= end, and the field itself at other times."""

    def __init__(self, field: Field, w: float, start: float, end: float) -> None:
        self.path, self.predicts, self.null = field.path, field.predicts, field.null
        self.plain, self.guided, self.interval = field, ClassifierFreeGuidance(field, w), (start, end)

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        inside = self.interval[0] <= float(torch.as_tensor(t).max()) <= self.interval[1]
        return (self.guided if inside else self.plain).predict(x, t, y)


assert getattr(found, "shape", None) != (9, 5, 4, 2, 2), "return the samples at t = 1 only"
sound(found, noise, "the samples")
times = sorted({round(t, 6) for _, t, _ in net.asked})
assert len(times) != 5, "5 steps were taken for 5 samples where 8 were asked for: the loop runs over the batch"
assert times != [round((i + 1) / 8, 6) for i in range(8)], (
    "Euler's step from t_i takes the velocity at t_i, not at its end"
)
assert times == [round(i / 8, 6) for i in range(8)], (
    f"8 steps ask at t = 0, 1/8, ..., 7/8; the network was asked at {times}"
)
assert any(null for _, _, null in net.asked), "the null label was never asked for: label 0 is a class, net.null is not"
assert len(net.asked) == 8, f"8 steps took {len(net.asked)} calls of the network: put both questions in one batch"
model = Model(ExactNet())
expected = sample_ode(ClassifierFreeGuidance(model, 2.0), noise, y, steps=8, method="euler")
shifted = sample_ode(ClassifierFreeGuidance(model, 3.0), noise, y, steps=8, method="euler")
swapped = sample_ode(ClassifierFreeGuidance(model, -1.0), noise, y, steps=8, method="euler")
assert not torch.allclose(found, shifted), "it guides at w + 1: w = 1 means no extra guidance"
assert not torch.allclose(found, swapped), (
    "it guides away from the label: w and 1 - w, or the two halves, are exchanged"
)
first = call(sample, ExactNet(), noise, y, 2.0, 1)  # a single step, where channels do not mix yet
one = sample_ode(ClassifierFreeGuidance(model, 2.0), noise, y, steps=1, method="euler")
right = [torch.allclose(first[:, c], one[:, c]) for c in range(4)]
assert all(right) or not any(right), f"channel {right.index(False)} is not guided as the others are"
assert torch.allclose(found, expected), "guided everywhere at w = 2, the samples are not those of the guided ODE"
net = ExactNet()
found = call(sample, net, noise, y, 2.0, 8, start=0.25, end=0.5)
assert len(net.asked) == 8, f"8 steps, some of them guided, took {len(net.asked)} calls of the network"


def is_within(start: float, end: float) -> bool:
    """Whether the samples are those that are guided from start to end."""
    guided = GuidedWithin(model, 2.0, start, end)
    return torch.allclose(found, sample_ode(guided, noise, y, steps=8, method="euler"))


assert not torch.allclose(found, expected), "start and end change nothing: it guides at all times"
assert not is_within(2.0, 3.0), "it guides at no time: 0.25 <= t <= 0.5 holds at some"
assert not is_within(0.25, 0.49), "the interval's end belongs to it: a step at t = end is guided"
assert not is_within(0.26, 0.5), "the interval's start belongs to it: a step at t = start is guided"
assert not is_within(0.26, 0.49), "both ends of the interval belong to it: steps at t = start and t = end are guided"
other = GuidedWithin(model, 2.0, 0.25, 0.5)
for outside, inside, message in (
    (
        ClassifierFreeGuidance(model, 0.0),
        other.guided,
        "outside of the interval it asks with the null label, not with y",
    ),
    (other.guided, model, "it guides outside of the interval, and not inside"),
):
    other.plain, other.guided = outside, inside
    assert not torch.allclose(found, sample_ode(other, noise, y, steps=8, method="euler")), message
assert is_within(0.25, 0.5), "guided for 0.25 <= t <= 0.5 the samples are wrong"
### BEGIN HIDDEN TESTS
for w, steps, start, end in ((4.0, 5, 0.0, 1.0), (1.0, 3, 0.0, 1.0), (0.0, 6, 0.5, 1.0), (3.0, 10, 0.35, 0.65)):
    for count in (3, 1):
        expected = sample_ode(GuidedWithin(model, w, start, end), noise[:count], y[:count], steps=steps, method="euler")
        found = call(sample, ExactNet(), noise[:count], y[:count], w, steps, start, end)
        sound(found, noise[:count], f"the samples, {count} of them,")
        assert torch.allclose(found, expected), f"wrong at w = {w:g}, {steps} steps, guided from {start:g} to {end:g}"
### END HIDDEN TESTS

# %% [markdown] hints="05.7"
# 1. Go through the broken code line by line and ask of each name: how many, at which time, which label, whose memory?
#
# 2. The loop runs over `len(noise)`; `t` is that of the step's end; zeros are a class; two calls; `u + w (u - free)`
#    is scale $w+1$; three of four channels; `+=` writes into the caller's noise. And `start`, `end` are not used at
#    all.
#
# 3. For each `i` in `range(steps)`: `t = i / steps`; if it lies in the interval, one call with `torch.cat([x, x])`,
#    doubled times and labels followed by `torch.full_like(y, net.null)`, then `(1 - w) * free + w * conditional`;
#    else one call with `y`. Then `x = x + velocity / steps`.


# %% tags=["demo"]
class FlatNet(torch.nn.Module):
    """The exact velocity of points in the plane, shaped as images of one pixel with two channels."""

    def __init__(self) -> None:
        super().__init__()
        means = torch.tensor([[-1.5, 0.2], [0.2, 1.5], [0.3, -1.1], [1.7, 0.9], [1.6, -0.5]]).reshape(5, 2, 1, 1)
        self.exact, self.null = MixtureField(means, 0.3, labels=torch.tensor([0, 0, 0, 1, 1])), 2

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.exact.u(x, t, y)


flat = FlatNet()
noise = torch.randn(400, 2, 1, 1, generator=torch.Generator().manual_seed(0))
y = torch.zeros(400, dtype=torch.long)
figure, panels = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
yours = sample_guided(flat, noise, y, 4.0, 50, start=0.5)
expected = sample_ode(GuidedWithin(Model(flat), 4.0, 0.5, 1.0), noise, y, steps=50, method="euler")
for axes, points, title in zip(panels, (yours, expected), ("yours", "expected"), strict=True):
    for centre, owner in zip(flat.exact.means.flatten(1), flat.exact.labels, strict=True):
        axes.add_patch(plt.Circle(centre.tolist(), 0.6, color=PALE if owner else "#f0c8b8", linewidth=0))
    axes.scatter(*points.flatten(1).T, s=4, color=INK, linewidths=0)
    axes.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", title=f"{title}: w = 4 for t ≥ 0.5", xlabel="$x_1$")
panels[0].set_ylabel("$x_2$")
plt.show()

# %% [markdown]
# ## When you are done
#
# `flowlib grade 05_guidance.ipynb` prints your points and, for what is still wrong, the same hints.
