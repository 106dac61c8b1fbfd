# %% [markdown]
# # Exercise 15. DALL·E 2 and DALL·E 3
#
# You build what lecture 15 derives: interpolation on a sphere; an embedding as a row of whole numbers, and back; the
# loss of the diffusion prior; the choice of the nearest draw; how many bits a noisy caption says; what a blend of
# captions teaches; and the loss of a captioner.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right;
# when it is wrong, it says what probably went wrong. The grader runs these checks and a few more. `hint("15.1")` gives
# a hint; asked again, it says more, three times. Every question stands on its own. Arguments are never to be changed.
#
# **Without** in a question names functions that solve it already: an answer that calls one of them gets no points.
#
# **Needed before:** [lecture 15](../lectures/15_dalle_2_and_3.ipynb). **Time:** about 90 minutes. **Points:** 10.

# %%
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from flowlib.course.notebook import exercise, unaided
from flowlib.nets.principal import PrincipalCodes
from flowlib.plotting.style import ACCENT, BLUE, GREY
from flowlib.regression import prediction_error
from flowlib.systems.captioner import caption_loss
from flowlib.systems.prior_sampling import sample_prior
from flowlib.systems.unclip_editing import slerp

hint = exercise("15_dalle_2_and_3").hint


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard Gaussian numbers, in double precision: the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(found: Tensor, expected: Tensor | float, tolerance: float = 1e-9) -> bool:
    """Whether tensors agree, relative to their size; NaN agrees with nothing."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    return bool(((found.detach().double() - expected).abs() <= tolerance * (1 + expected.abs())).all())


def is_tensor(found: object, shape: tuple[int, ...], what: str, finite: bool = True) -> Tensor:
    """Assert that `found` is a tensor of that shape, by default a finite one, and return it."""
    assert isinstance(found, Tensor), f"{what} must be a tensor, got {type(found).__name__}: is something returned?"
    assert tuple(found.shape) == shape, f"{what} must have shape {shape}, got {tuple(found.shape)}"
    assert found.is_floating_point(), f"{what} must be of floating point, got {found.dtype}"
    assert not finite or bool(torch.isfinite(found).all()), f"{what} must be finite, and has NaN or infinite entries"
    return found


@contextmanager
def untouched(**arguments: Tensor) -> Iterator[None]:
    """Assert that tensors are afterwards what they were."""
    before = {name: value.clone() for name, value in arguments.items()}
    yield
    for name, value in before.items():
        assert torch.equal(arguments[name], value), f"{name} was changed: work on a new tensor"


# %% [markdown]
# ## 15.1 On the sphere (1 point, 10 minutes, medium)
#
# Walk from each vector $a$ to each vector $b$: $\frac{\sin((1 - s)\, \omega)}{\sin \omega}\, a + \frac{\sin(s\,
# \omega)}{\sin \omega}\, b$, with $\omega$ the angle between their *directions*. Vectors have any length but zero, and
# stay as long as they are. Each row has a share $s$ of its own. Where both directions are the same, or nearly
# ($\omega < 10^{-6}$), it is $(1 - s)\, a + s\, b$. Where they are opposite ($\omega > \pi - 10^{-4}$ in any row),
# raise a `ValueError`: no way is the shortest.
#
# **Without:** `slerp`.


# %% solution="15.1"
def on_sphere(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """The points on the way, (B, D).

    Args:
        a, b: (B, D), of lengths above 0.
        share: (B,), each in [0, 1].

    Raises:
        ValueError: for vectors of opposite directions.
    """
    ### BEGIN SOLUTION
    one, other = F.normalize(a, dim=1), F.normalize(b, dim=1)
    omega = 2 * torch.atan2((one - other).norm(dim=1), (one + other).norm(dim=1))
    if bool((omega > math.pi - 1e-4).any()):
        raise ValueError("a and b must not be opposite")
    flat = omega.sin() < 1e-6
    safe = torch.where(flat, 1.0, omega)
    first = torch.where(flat, 1 - share, ((1 - share) * safe).sin() / safe.sin())
    second = torch.where(flat, share, (share * safe).sin() / safe.sin())
    return first[:, None] * a + second[:, None] * b
    ### END SOLUTION


# %% check="15.1" points=1
a, b = F.normalize(normal(4, 6, seed=1), dim=1), F.normalize(normal(4, 6, seed=2), dim=1)
share = torch.tensor([0.0, 0.25, 0.6, 1.0], dtype=torch.float64)


def walked(a: Tensor, b: Tensor, share: Tensor, what: str = "the points") -> Tensor:
    """The answer, (B, D)."""
    with untouched(a=a, b=b, share=share), unaided(slerp):
        return is_tensor(on_sphere(a, b, share), tuple(a.shape), what)


def way(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """A rotation in the plane of both directions: cos(s w) a + sin(s w) n, for vectors of unit length."""
    rows = []
    for one, other, s in zip(a, b, share.tolist(), strict=True):
        omega = math.acos(float(one @ other))
        across = (other - one * math.cos(omega)) / math.sin(omega)
        rows.append(one * math.cos(s * omega) + across * math.sin(s * omega))
    return torch.stack(rows)


out, right = walked(a, b, share), way(a, b, share)
chord = (1 - share)[:, None] * a + share[:, None] * b
assert not near(out, chord), "this is the chord: it runs inside the sphere"
assert not near(out, F.normalize(chord, dim=1)), "the chord scaled to length 1 is on the sphere, but not at even speed"
assert not near(out, way(b, a, share)), "it begins at b: at share 0 it must be a"
assert near(out.norm(dim=1), 1.0), "of unit vectors the points must be of unit length: check the two weights"
assert near(out, right), "on the sphere, but not there: the weights are sin((1 - s) w) / sin w and sin(s w) / sin w"
long, short_ = 3 * a, 0.5 * b
omega = (a * b).sum(1).acos()[:, None]
weights = torch.sin((1 - share)[:, None] * omega) / omega.sin(), torch.sin(share[:, None] * omega) / omega.sin()
assert near(walked(long, short_, share), weights[0] * long + weights[1] * short_), (
    "of vectors of other lengths: the angle is that of their directions, and the vectors stay as long as they are"
)
same = torch.cat([a[:2], a[:1]]), torch.cat([a[:2], 2 * a[:1]])
third = torch.full((3,), 0.3, dtype=torch.float64)
out = walked(*same, third, "where both directions are the same, what is returned")
assert near(out, 0.7 * same[0] + 0.3 * same[1], 1e-6), "where both directions are the same it is (1 - s) a + s b"
mixed = walked(torch.cat([a[:1], a[:1]]), torch.cat([a[:1], b[:1]]), third[:2])
assert near(mixed[1], way(a[:1], b[:1], third[:1])[0]), "one pair of the same direction must not change the other rows"
try:
    on_sphere(torch.cat([a[:1], a[:1]]), torch.cat([b[:1], -2 * a[:1]]), third[:2])
except ValueError:
    pass
else:
    raise AssertionError("for opposite directions a ValueError is to be raised")
across = F.normalize(b[:1] - (a[:1] @ b[:1].T) * a[:1], dim=1)


def at_angle(omega: float) -> Tensor:
    """A vector of unit length at this angle from the first of a, (1, D)."""
    return math.cos(omega) * a[:1] + math.sin(omega) * across


assert near(walked(a[:1], at_angle(1e-3), third[:1]), at_angle(0.3e-3)), (
    "at an angle of 0.001 the way is still on the sphere: only below 1e-6 it is (1 - s) a + s b"
)
try:
    out = walked(a[:1], at_angle(math.pi - 1e-3), third[:1])
except ValueError as error:
    raise AssertionError("a ValueError at an angle of pi - 0.001: only above pi - 1e-4 it is to be raised") from error
assert near(out, at_angle(0.3 * (math.pi - 1e-3)), 1e-6), "wrong where the directions are almost opposite"
try:
    on_sphere(a[:1], at_angle(math.pi - 5e-5), third[:1])
except ValueError:
    pass
else:
    raise AssertionError("no ValueError at an angle of pi - 5e-5: it is to be raised above pi - 1e-4")
### BEGIN HIDDEN TESTS
assert near(walked(a[:1], at_angle(1e-4), third[:1]), at_angle(0.3e-4), 1e-10), "wrong for an angle of 1e-4"
tilted = F.normalize(a[:1] + 1e-4 * b[:1], dim=1)
out = walked(a[:1], tilted, third[:1])
assert near(out.norm(dim=1), 1.0), "wrong for a small angle"
assert near(out, slerp(a[:1], tilted, 0.3), 1e-7), "wrong for a small angle"
### END HIDDEN TESTS

# %% [markdown] hints="15.1"
# 1. What is the formula where $\omega = 0$? The quotient has a limit, which is asked for; but the computer gets 0 / 0.
#
# 2. The angle: scale both to length 1 first. `acos` of a product knows small angles badly; `2 * atan2(|a - b|, |a +
#    b|)` of the directions knows all.
#
# 3. `flat = omega.sin() < 1e-6`, then compute with `safe = torch.where(flat, 1.0, omega)` and choose:
#    `torch.where(flat, 1 - share, torch.sin((1 - share) * safe) / torch.sin(safe))`, likewise for $b$. The `ValueError`
#    comes before.

# %% [markdown]
# ## 15.2 An embedding as whole numbers (2 points, 20 minutes, hard)
#
# Learn from data $z$ (N, D): its mean, and its first $k$ principal components, those of the largest variance, largest
# first. An axis points to where its entry of largest size is positive. Each coordinate is cut into `buckets` equal
# ones between its least and its largest value in $z$. Then write vectors $x$ as codes (B, k): what lies below goes to
# bucket 0, what lies above to the last one, and the largest value too. (No coordinate has the same value in all of
# $z$.) Return the codes (int64), and the vectors that are read back from them: the mean, and along each axis the
# *middle* of the bucket.
#
# **Without:** `PrincipalCodes`.


# %% solution="15.2"
def as_codes(z: Tensor, x: Tensor, k: int, buckets: int) -> tuple[Tensor, Tensor]:
    """The codes (B, k) of x, and the vectors (B, D) that are read back from them.

    Args:
        z: data (N, D), N > D.
        x: vectors (B, D).
        k: components, 1 ... D, along each of which z varies.
        buckets: of each component.
    """
    ### BEGIN SOLUTION
    mean = z.mean(0)
    axes = torch.linalg.svd(z - mean, full_matrices=False).Vh[:k]
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    places = (z - mean) @ axes.T
    least, most = places.amin(0), places.amax(0)
    width = (most - least) / buckets
    codes = (((x - mean) @ axes.T - least) / width).floor().long().clamp(0, buckets - 1)
    return codes, mean + (least + (codes + 0.5) * width) @ axes
    ### END SOLUTION


# %% check="15.2" points=2
z = normal(60, 5, seed=11) * torch.tensor([0.3, 3.0, 1.0, 0.1, 2.0]) @ normal(5, 5, seed=12) + normal(5, seed=13)
x = torch.cat([z[:6], 1.7 * z[:3]])


def rounded(k: int, buckets: int, z: Tensor = z, x: Tensor = x) -> tuple[Tensor, Tensor]:
    """The answer: codes (B, k) and vectors (B, D)."""
    with untouched(z=z, x=x), unaided(PrincipalCodes):
        back = as_codes(z, x, k, buckets)
    assert isinstance(back, tuple), f"return codes and vectors in a tuple, got {type(back).__name__}"
    assert len(back) == 2, f"return two tensors: codes and vectors; got {len(back)}"
    codes, vectors = back
    assert isinstance(codes, Tensor), f"the codes must be a tensor, got {type(codes).__name__}"
    assert codes.dtype == torch.int64, f"the codes must be int64, got {codes.dtype}"
    assert tuple(codes.shape) == (len(x), k), f"the codes must be {(len(x), k)}, got {tuple(codes.shape)}"
    assert int(codes.min()) >= 0, "there is a code below 0: what lies below the data goes to bucket 0"
    assert int(codes.max()) < buckets, f"there is a code {int(codes.max())}: the last of {buckets} is {buckets - 1}"
    return codes, is_tensor(vectors, tuple(x.shape), "the vectors")


def library(k: int, buckets: int, z: Tensor = z, x: Tensor = x) -> tuple[Tensor, Tensor]:
    """What the library's codes say, in double precision."""
    made = PrincipalCodes(z.shape[1], k, buckets).double()
    made.learn(z)
    return made.encode(x), made.decode(made.encode(x))


out, right = rounded(3, 8), library(3, 8)
raw = z - z.mean(0)
turned = torch.linalg.svd(raw, full_matrices=False).Vh
turned = turned * turned.gather(1, turned.abs().argmax(1, keepdim=True)).sign()


def by_hand(axes: Tensor, mean: Tensor | None = None, middle: float = 0.5, source: Tensor = z) -> Tensor:
    """What is read back with other axes, another mean, another place in the bucket, ranges of another set."""
    mean = z.mean(0) if mean is None else mean
    places, at = (source - mean) @ axes.T, (x - mean) @ axes.T
    width = (places.amax(0) - places.amin(0)) / 8
    codes = ((at - places.amin(0)) / width).floor().clamp(0, 7)
    return mean + (places.amin(0) + (codes + middle) * width) @ axes


straight = torch.linalg.svd(z, full_matrices=False).Vh[:3]
for wrong, says in (
    (by_hand(turned[-3:]), "these are the components of the smallest variance: the largest are to be kept"),
    (by_hand(turned[:3], middle=0.0), "this is the lower end of each bucket: its middle is asked for"),
    (by_hand(turned[:3], source=x), "the ranges are those of x: they are learned from z"),
    (by_hand(turned[:3]) - z.mean(0), "the mean is missing in the vectors that are read back"),
    (by_hand(straight, torch.zeros(5).double()), "the mean was not taken away before: the first axis points to it"),
):  # fmt: skip
    assert not near(out[1], wrong, 1e-7), says


def turned_round(found: Tensor, expected: Tensor, buckets: int) -> str:
    """What is wrong if the codes of a component count from the other end, or nothing."""
    if not bool((((found + expected) == buckets - 1).all(0) & (found != expected).any(0)).any()):
        return ""
    kept = turned[: expected.shape[1]]
    for rule, says in ((kept.sum(1), "the sum of its entries"), (kept[:, 0], "its first entry")):
        if torch.equal(found, torch.where(rule < 0, buckets - 1 - expected, expected)):
            return f"an axis is turned by {says}: its entry of largest size is to be positive"
    return "an axis points the other way: its entry of largest size is to be positive"


assert not turned_round(out[0], right[0], 8), turned_round(out[0], right[0], 8)
assert not torch.equal(out[0], right[0].flip(1)), "the components in reverse order: the largest first"
assert near(out[1], right[1], 1e-7), "the vectors are wrong: the mean, and along each axis the middle of the bucket"
assert torch.equal(out[0], right[0]), "the codes are wrong: floor((place - least) / width), within 0 ... buckets - 1"
for k, buckets in ((1, 2), (5, 64), (2, 16)):
    found, expected = rounded(k, buckets), library(k, buckets)
    assert not turned_round(found[0], expected[0], buckets), turned_round(found[0], expected[0], buckets)
    assert torch.equal(found[0], expected[0]), f"right for k = 3 and 8 buckets, wrong for {k} and {buckets}"
    assert near(found[1], expected[1], 1e-7), f"right for k = 3 and 8 buckets, wrong for {k} and {buckets}"
### BEGIN HIDDEN TESTS
many = rounded(5, 4096, z, z)
assert float((many[1] - z).abs().max()) < 0.05, "with many buckets, the data must come back"
assert torch.equal(rounded(3, 8, z, x[:1])[0], right[0][:1]), "wrong for one vector"
### END HIDDEN TESTS

# %% [markdown] hints="15.2"
# 1. Everything is learned from $z$: mean, axes, least and largest coordinate. $x$ is only looked up.
#
# 2. `torch.linalg.svd(z - mean, full_matrices=False).Vh` has the axes as rows, the largest first. A code is
#    `floor((place - least) / width)`, within 0 ... `buckets - 1`.
#
# 3. Signs: `axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()`. Back: `mean + (least + (codes + 0.5) *
#    width) @ axes`.

# %% [markdown]
# ## 15.3 The loss of the diffusion prior (1 point, 10 minutes, medium)
#
# Embeddings $e$ of unit length are scaled by $\sqrt D$ and noised on a quarter circle: $\sin(\pi t / 2) \sqrt D\, e +
# \cos(\pi t / 2)\, \varepsilon$. The network `net(noised, t, guide)` predicts the clean one, $\sqrt D\, e$. Where
# `chance` is below `p`, the caption's embedding is dropped: zeros are its guide. Else the guide is $c$ itself, not
# scaled. Return the mean squared error over all samples and components. Call the network once.
#
# **Without:** `prediction_error`.


# %% solution="15.3"
def prior_loss(
    net: Callable[[Tensor, Tensor, Tensor], Tensor], e: Tensor, c: Tensor, t: Tensor, noise: Tensor, chance: Tensor,
    p: float,
) -> Tensor:  # fmt: skip
    """The loss, a scalar.

    Args:
        net: (B, D), (B,), (B, D) -> (B, D).
        e, c: embeddings of pictures and captions, (B, D), of unit length.
        t: (B,) in (0, 1).
        noise: (B, D), standard Gaussian.
        chance: (B,) in [0, 1).
        p: how often the caption is dropped.
    """
    ### BEGIN SOLUTION
    clean = e * e.shape[1] ** 0.5
    angle = (math.pi / 2 * t)[:, None]
    guide = torch.where((chance < p)[:, None], 0.0, c)
    return (net(angle.sin() * clean + angle.cos() * noise, t, guide) - clean).square().mean()
    ### END SOLUTION


# %% check="15.3" points=1
e, c = F.normalize(normal(6, 4, seed=21), dim=1), F.normalize(normal(6, 4, seed=22), dim=1)
t, noise = torch.linspace(0.1, 0.9, 6).double(), normal(6, 4, seed=23)
chance = torch.tensor([0.05, 0.9, 0.3, 0.09, 0.1, 0.6], dtype=torch.float64)
mix, wider_mix = normal(9, 4, seed=24), normal(19, 9, seed=25)
asked: list[tuple[Tensor, Tensor, Tensor]] = []


def net(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """A network that keeps what it was asked."""
    asked.append((x, t, y))
    return torch.tanh(torch.cat([x, y, t[:, None]], dim=1) @ (wider_mix if x.shape[1] == 9 else mix))


e_, c_, noise_ = e, c, noise


def lost(p: float = 0.1, e: Tensor = e_, c: Tensor = c_, noise: Tensor = noise_) -> Tensor:
    """The answer, a scalar."""
    asked.clear()
    with untouched(e=e, c=c, t=t, noise=noise, chance=chance), unaided(prediction_error):
        out = is_tensor(prior_loss(net, e, c, t, noise, chance, p), (), "the loss, one number,")
    assert len(asked) == 1, f"the network was called {len(asked)} times: once"
    return out


out = lost()
x, when, guide = asked[0]
clean, angle = 2 * e, (math.pi / 2 * t)[:, None]
kept = (chance >= 0.1)[:, None]
assert torch.equal(when, t), "the network is to be told the times as they are"
assert not near(x, angle.sin() * e + angle.cos() * noise), "the root of D is missing: components must be about 1"
assert not near(x, angle.cos() * clean + angle.sin() * noise), "time runs the wrong way: at t = 1 there is no noise"
assert not near(x, t[:, None] * clean + (1 - t)[:, None] * noise), "this is the linear path: a quarter circle is asked"
assert near(x, angle.sin() * clean + angle.cos() * noise), "the noised embedding is wrong"
assert not near(guide, torch.where(kept, 0.0, c)), "dropped the wrong way round: where chance is below p"
assert not near(guide, c), "no caption is dropped"
assert not near(guide, torch.where(kept, 2 * c, 0.0)), "only e is scaled: the guide is c itself"
assert near(guide, torch.where(kept, c, 0.0)), "the guide is the caption's embedding, or zeros where chance < p"
found = torch.tanh(torch.cat([x, guide, t[:, None]], dim=1) @ mix)
for wrong, says in (
    ((found - noise).square().mean(), "the error of the noise: the clean embedding is predicted"),
    ((found - e).square().mean(), "the target is the scaled embedding, as the network is shown scaled ones"),
    ((found - clean).square().sum(), "a sum: the mean over samples and components is asked for"),
    ((found - clean).square().sum(1).mean(), "a sum over components: their mean is asked for"),
    ((found - clean).abs().mean(), "the error is squared"),
    ((found - clean)[kept[:, 0]].square().mean(), "samples without a caption count too: they teach the null guide"),
):
    assert not near(out, wrong), says
assert near(out, (found - clean).square().mean()), "the loss is wrong"
assert near(lost(0.0), ((torch.tanh(torch.cat([x, c, t[:, None]], 1) @ mix)) - clean).square().mean()), (
    "wrong for p = 0"
)
wide = F.normalize(normal(6, 9, seed=26), dim=1), F.normalize(normal(6, 9, seed=27), dim=1), normal(6, 9, seed=28)
lost(0.1, *wide)
assert near(asked[0][0], 3 * angle.sin() * wide[0] + angle.cos() * wide[2]), (
    "right for D = 4, wrong for D = 9: e is to be multiplied by the root of D"
)
### BEGIN HIDDEN TESTS
lost(1.0)
assert not asked[0][2].any(), "with p = 1 all captions are dropped"
### END HIDDEN TESTS

# %% [markdown] hints="15.3"
# 1. Three things are made before the network is called: the noised embedding, the guide, the target.
#
# 2. With `clean = e * e.shape[1] ** 0.5` both the noised one and the target are made of `clean`.
#
# 3. `guide = torch.where((chance < p)[:, None], 0.0, c)`, `angle = (math.pi / 2 * t)[:, None]`, then the squared error
#    of `net(angle.sin() * clean + angle.cos() * noise, t, guide)` from `clean`, and its mean.

# %% [markdown]
# ## 15.4 The nearest draw (1 point, 5 minutes, easy)
#
# For each of $B$ captions $n$ embeddings were drawn, of any length. Scale them to length 1, and keep of each caption
# the one with the largest product with the caption's embedding.
#
# **Without:** `sample_prior`.


# %% solution="15.4"
def nearest(drawn: Tensor, c: Tensor) -> Tensor:
    """The embeddings that are kept, (B, D), of unit length.

    Args:
        drawn: (B, n, D).
        c: (B, D), of unit length.
    """
    ### BEGIN SOLUTION
    unit = F.normalize(drawn, dim=2)
    best = (unit * c[:, None]).sum(2).argmax(1)
    return unit[torch.arange(len(unit)), best]
    ### END SOLUTION


# %% check="15.4" points=1
drawn = normal(5, 4, 6, seed=31) * torch.tensor([1.0, 3.0, 0.2, 0.5], dtype=torch.float64)[:, None]
c = F.normalize(normal(5, 6, seed=32), dim=1)


def chosen(drawn: Tensor = drawn, c: Tensor = c) -> Tensor:
    """The answer, (B, D)."""
    with untouched(drawn=drawn, c=c), unaided(sample_prior):
        return is_tensor(nearest(drawn, c), tuple(c.shape), "what is kept")


out = chosen()
unit = F.normalize(drawn, dim=2)
rows = torch.arange(5)


def taken(score: Tensor, table: Tensor = unit) -> Tensor:
    return table[rows, score.argmax(1)]


fit = torch.einsum("bnd,bd->bn", unit, c)
for wrong, says in (
    (taken(fit, drawn), "the right ones, but not of length 1"),
    (taken(-fit), "these are the farthest: the largest product is asked for"),
    (taken((drawn * c[:, None]).sum(2)), "a long one wins: compare after they are scaled to length 1"),
    (taken(-(drawn - c[:, None]).norm(dim=2)), "a short one wins: scale them to length 1, then take distances"),
    (taken(fit.abs()), "the sign counts: an embedding on the opposite side is far away"),
    (unit[:, int(fit.mean(0).argmax())], "each caption has a best draw of its own"),
    (unit[:, 0], "this is the first draw of each"),
    (F.normalize(unit.mean(1), dim=1), "this is the mean of the draws: one of them is asked for"),
):
    assert not near(out, wrong), says
assert near(out, taken(fit)), "of each caption's draws the one with the largest product, of unit length"
assert near(chosen(drawn[:, :1]), unit[:, 0]), "with one draw there is nothing to choose"
### BEGIN HIDDEN TESTS
assert near(chosen(drawn[:1], c[:1]), taken(fit)[:1]), "wrong for one caption"
### END HIDDEN TESTS

# %% [markdown] hints="15.4"
# 1. First make all draws of length 1, then compare.
#
# 2. The products: `(unit * c[:, None]).sum(2)`, (B, n).
#
# 3. `unit[torch.arange(len(unit)), products.argmax(1)]`.

# %% [markdown]
# ## 15.5 What a noisy caption says (2 points, 20 minutes, hard)
#
# An attribute $T$ has $K$ values with probabilities `prior`. A caption is *useless* with probability `useless`, and one
# sees that it is. Else it is silent of $T$ with probability `silent`; else it names a value: another one than the true
# one with probability `wrong`, each of the $K - 1$ as likely. Return $I(T; y)$ in **bits**, and how often the best
# guess of $T$ from the caption is right. All probabilities may be 0 or 1.


# %% solution="15.5"
def what_it_says(prior: Tensor, silent: float, wrong: float, useless: float) -> tuple[Tensor, Tensor]:
    """I(T; y) in bits, and the share of best guesses that are right: two scalars.

    Args:
        prior: (K,), K > 1, with sum 1, perhaps with zeros.
        silent, wrong, useless: in [0, 1].
    """
    ### BEGIN SOLUTION
    size = len(prior)
    named = torch.full((size, size), wrong / (size - 1), dtype=prior.dtype)
    named.fill_diagonal_(1 - wrong)
    said = torch.cat([
        (1 - useless) * (1 - silent) * named,
        torch.full((size, 1), (1 - useless) * silent, dtype=prior.dtype),
        torch.full((size, 1), useless, dtype=prior.dtype),
    ], dim=1)  # fmt: skip
    joint = prior[:, None] * said  # p(T, y), (K, K + 2)
    alone = prior[:, None] * joint.sum(0)
    ratio = torch.where(joint > 0, joint / alone, 1.0)
    return (joint * ratio.log2()).sum(), joint.amax(0).sum()
    ### END SOLUTION


# %% check="15.5" points=2
prior = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)


def said_of(
    prior: Tensor = prior, silent: float = 0.4, wrong: float = 0.1, useless: float = 0.05
) -> tuple[float, float]:
    """The answer: bits, and the share."""
    with untouched(prior=prior):
        back = what_it_says(prior, silent, wrong, useless)
    assert isinstance(back, tuple), f"return two scalars in a tuple, got {type(back).__name__}"
    assert len(back) == 2, f"return two scalars: the bits, the share of right guesses; got {len(back)}"
    try:
        return tuple(
            float(is_tensor(part, (), f"{name}, one number,"))
            for part, name in zip(back, ("the information", "the share of right guesses"), strict=True)
        )
    except AssertionError as error:
        raise AssertionError(f"{error}; what has probability 0 adds nothing: 0 log 0 is 0") from error


def summed(prior: Tensor, silent: float, wrong: float, useless: float, other: bool = True) -> tuple[float, float]:
    """Sum over all values and all that can be said, one after the other."""
    p, size = prior.tolist(), len(prior)

    def says(true: int, told: object) -> float:
        if told == "useless":
            return useless
        if told == "silent":
            return (1 - useless) * silent
        among = size - 1 if other else size
        error = wrong / among if (told != true or not other) else 0.0
        return (1 - useless) * (1 - silent) * (error + (1 - wrong) * (told == true))

    bits_, guess = 0.0, 0.0
    for told in [*range(size), "silent", "useless"]:
        joint = [p[true] * says(true, told) for true in range(size)]
        total = sum(joint)
        bits_ += sum(w * math.log2(w / p[true] / total) for true, w in enumerate(joint) if w > 0)
        guess += max(joint)
    return bits_, guess


found, right = said_of(), summed(prior, 0.4, 0.1, 0.05)
differ = lambda a, b: abs(a - b) > 1e-9  # noqa: E731
entropy = -float((prior * prior.log2()).sum())
assert differ(found[0], right[0] * math.log(2)), "these are nats: divide by log 2"
assert differ(found[0], entropy - right[0]), "this is what the caption leaves open, H(T | y)"
assert differ(found[0], summed(prior, 0.4, 0.1, 0.0)[0]), "useless captions say nothing: they are forgotten"
assert differ(found[0], summed(prior, 0.0, 0.1, 0.05)[0]), "silence is forgotten"
assert differ(found[0], summed(prior, 0.4, 0.1, 0.05, other=False)[0]), (
    "a wrong value is another one: there are K - 1 of them"
)
flat = torch.full((4,), 0.25, dtype=torch.float64)
assert differ(found[0], summed(flat, 0.4, 0.1, 0.05)[0]), "the prior is taken for uniform"
assert not differ(found[0], right[0]), (
    "the information is wrong: make the table p(T, y) and sum p log2(p / (p(T) p(y)))"
)
assert differ(found[1], 0.95 * 0.6 * 0.9), "where the caption is silent, one may guess too: the most probable value"
assert differ(found[1], float(prior.max())), "the guess may depend on the caption: the most probable value given it"
assert not differ(found[1], right[1]), "the share of right guesses: sum over captions of max over T of p(T, y)"
gappy, lopsided = torch.tensor([0.5, 0.0, 0.5], dtype=torch.float64), torch.tensor([0.2, 0.8], dtype=torch.float64)
for case in ((prior, 1.0, 0.1, 0.0), (prior, 0.0, 0.0, 0.0), (prior, 0.2, 1.0, 0.3), (prior, 0.3, 0.2, 1.0),
             (gappy, 0.1, 0.3, 0.2), (lopsided, 0.3, 0.6, 0.1)):  # fmt: skip
    found, right = said_of(*case), summed(*case)
    name = f"prior {[round(p, 2) for p in case[0].tolist()]}, silent {case[1]}, wrong {case[2]}, useless {case[3]}"
    assert not differ(found[0], right[0]), f"the information is wrong for {name}"
    assert not differ(found[1], right[1]), f"the share of right guesses is wrong for {name}"
### BEGIN HIDDEN TESTS
assert abs(said_of(flat, 0.0, 0.75, 0.0)[0]) < 1e-9, "errors in three of four cases tell nothing of four values"
assert not differ(said_of(flat, 0.0, 0.0, 0.0)[0], 2.0), "a caption that is always right tells all"
### END HIDDEN TESTS

# %% [markdown] hints="15.5"
# 1. What can a caption be? One of $K$ names, silent, or useless: $K + 2$ columns of a table with $K$ rows.
#
# 2. With `joint = prior[:, None] * said`, both answers are sums over this table: $\sum p \log_2 \frac{p}{p(T)\, p(y)}$,
#    and the sum over columns of the largest entry.
#
# 3. `named = torch.full((K, K), wrong / (K - 1), dtype=prior.dtype)`, its diagonal `1 - wrong`; times $(1 -
#    \text{useless})(1 - \text{silent})$. Two columns more. Set the ratio to 1 where `joint` is 0.

# %% [markdown]
# ## 15.6 What a blend teaches (2 points, 15 minutes, medium)
#
# Pictures are of $A$ kinds with probabilities `prior`. With probability `share` a picture's caption is by a captioner,
# with law `captioner`, else by people, with law `people`, of $Y$ texts. A model learns this blend exactly. Return what
# it then believes of each text, $p(a \mid y)$, and $r(y)$, the probability that a text is the captioner's. Of a text
# that is never written both are NaN.


# %% solution="15.6"
def believed(prior: Tensor, captioner: Tensor, people: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """p(a | y), (A, Y), whose columns sum to 1, and r(y), (Y,).

    Args:
        prior: (A,), positive, with sum 1.
        captioner, people: p(y | a), (A, Y), rows with sum 1.
        share: in [0, 1].
    """
    ### BEGIN SOLUTION
    written = share * prior @ captioner  # by the captioner, (Y,)
    joint = prior[:, None] * (share * captioner + (1 - share) * people)
    return joint / joint.sum(0), written / joint.sum(0)
    ### END SOLUTION


# %% check="15.6" points=2
prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
captioner = torch.tensor(
    [[0.9, 0.1, 0.0, 0.0, 0.0], [0.2, 0.8, 0.0, 0.0, 0.0], [0.3, 0.0, 0.7, 0.0, 0.0]], dtype=torch.float64
)
people = torch.tensor(
    [[0.3, 0.2, 0.1, 0.4, 0.0], [0.1, 0.4, 0.2, 0.3, 0.0], [0.1, 0.1, 0.2, 0.6, 0.0]], dtype=torch.float64
)
prior_, captioner_, people_ = prior, captioner, people


def blend_of(
    share: float, prior: Tensor = prior_, captioner: Tensor = captioner_, people: Tensor = people_
) -> tuple[Tensor, Tensor]:
    """The answer: beliefs (A, Y) and r (Y,)."""
    with untouched(prior=prior, captioner=captioner, people=people):
        back = believed(prior, captioner, people, share)
    assert isinstance(back, tuple), f"return two tensors in a tuple, got {type(back).__name__}"
    assert len(back) == 2, f"return two tensors: p(a | y) and r(y); got {len(back)}"
    beliefs = is_tensor(back[0], tuple(captioner.shape), "the beliefs", finite=False)
    return beliefs, is_tensor(back[1], (captioner.shape[1],), "r", finite=False)


def counted(share: float, a: int, y: int) -> tuple[float, float]:
    """p(a, y, captioner) and p(a, y, people)."""
    return (share * float(prior_[a] * captioner_[a, y]), (1 - share) * float(prior_[a] * people_[a, y]))


beliefs, r = blend_of(0.8)
totals = [sum(sum(counted(0.8, a, y)) for a in range(3)) for y in range(5)]
exact = torch.tensor([[sum(counted(0.8, a, y)) / totals[y] for y in range(4)] for a in range(3)], dtype=torch.float64)
by_captioner = torch.tensor(
    [sum(counted(0.8, a, y)[0] for a in range(3)) / totals[y] for y in range(4)], dtype=torch.float64
)
swapped = [[counted(0.2, a, y) for y in range(4)] for a in range(3)]
mean_of = 0.8 * captioner_ + 0.2 * people_
assert not near(beliefs[:, :4], torch.tensor([[sum(cell) for cell in row] for row in swapped], dtype=torch.float64)
                / torch.tensor([[sum(cell) for cell in row] for row in swapped], dtype=torch.float64).sum(0)), (
    "the share is the captioner's, not that of people"
)  # fmt: skip
assert not near(beliefs[:, :4], mean_of[:, :4]), "this is p(y | a): what is believed of a text is asked for, by Bayes"
assert not near(beliefs[:, :4], (mean_of / mean_of.sum(0))[:, :4]), "the prior of the pictures is missing"
each = [prior_[:, None] * table for table in (captioner_, people_)]
mixed = sum(w * table / table.sum(0).clamp_min(1e-300) for w, table in zip((0.8, 0.2), each, strict=True))
assert not near(beliefs[:, :2], mixed[:, :2]), (
    "both beliefs were mixed with the share: the weight is r(y), which depends on how often each writes this text"
)
joint = prior_[:, None] * mean_of
assert not near(beliefs[:, :4], joint[:, :4]), "this is p(a, y): divide by its sum over a"
assert near(beliefs[:, :4], exact), "p(a | y) is wrong: the joint table of the blend, divided by its sum over a"
assert not near(r[:4], 1 - by_captioner), "this is the probability that people wrote it"
assert not near(r[:4], torch.full((4,), 0.8, dtype=torch.float64)), (
    "r depends on the text: of one that only people write it is 0"
)
assert not near(r[:4], (0.8 * prior_ @ captioner_)[:4]), "r is a probability given the text: divide by p(y)"
assert near(r[:4], by_captioner), "r(y) is wrong: s q_syn(y) over s q_syn(y) + (1 - s) q_giv(y)"
assert bool(beliefs[:, 4].isnan().all()), "of a text that is never written nothing is learned: NaN"
assert bool(r[4].isnan()), "of a text that is never written r is NaN"
only, r = blend_of(1.0)
assert bool(only[:, 3].isnan().all()), "with a share of 1, what only people write is never read: NaN"
assert near(only[:, :3], (each[0] / each[0].sum(0))[:, :3]), "wrong for a share of 1"
assert near(r[:3], 1.0), "with a share of 1 all that is written is by the captioner: r is 1"
assert bool(r[3:].isnan().all()), "with a share of 1, what only people write is never written: r is NaN"
none, r = blend_of(0.0)
assert near(none[:, :4], (each[1] / each[1].sum(0))[:, :4]), "wrong for a share of 0"
assert near(r[:4], 0.0), "with a share of 0 nothing is by the captioner"
assert near(blend_of(0.99)[0][:, 3], none[:, 3]), "what only people write is believed as people meant it, at any share"
### BEGIN HIDDEN TESTS
one = blend_of(0.5, torch.ones(1).double(), captioner_[:1], people_[:1])
assert near(one[0][:, :4], 1.0), "wrong for one kind of picture"
### END HIDDEN TESTS

# %% [markdown] hints="15.6"
# 1. Write down $p(a, y, k)$, where $k$ says who wrote. Both answers are sums of it, divided.
#
# 2. $p(a, y) = p(a)\, \big(s\, q_{\text{syn}}(y \mid a) + (1 - s)\, q_{\text{giv}}(y \mid a)\big)$; divide by its sum
#    over $a$. The captioner's part of that sum is the numerator of $r$.
#
# 3. `joint = prior[:, None] * (share * captioner + (1 - share) * people)`; then `joint / joint.sum(0)`, and `share *
#    (prior @ captioner) / joint.sum(0)`. 0 / 0 is NaN by itself.

# %% [markdown]
# ## 15.7 The loss of a captioner (1 point, 10 minutes, medium)
#
# A language model read $P$ vectors of the picture and behind them the $N$ tokens of a caption; it says at each of the
# $P + N$ places what comes next. The first token of a caption is always the same and given. Return for each caption the
# **sum** of $-\log p$ over its other tokens, in nats. Padding is nobody's to predict.
#
# **Without:** `caption_loss`.


# %% solution="15.7"
def captions_cost(logits: Tensor, tokens: Tensor, padding: int) -> Tensor:
    """Nats for each caption, (B,).

    Args:
        logits: (B, P + N, V).
        tokens: (B, N), some of them `padding`.
        padding: a token, 0 ... V - 1.
    """
    ### BEGIN SOLUTION
    before = logits.shape[1] - tokens.shape[1]
    laws = logits[:, before:-1].log_softmax(2)
    nats = -laws.gather(2, tokens[:, 1:, None])[..., 0]
    return (nats * (tokens[:, 1:] != padding)).sum(1)
    ### END SOLUTION


# %% check="15.7" points=1
tokens = torch.tensor([[5, 1, 2, 6, 7], [5, 3, 6, 7, 7], [5, 4, 4, 0, 6]])  # 5 begins, 6 ends, 7 is padding
logits = 2 * normal(3, 8, 8, seed=71)


def cost(logits: Tensor = logits, tokens: Tensor = tokens, padding: int = 7) -> Tensor:
    """The answer, (B,)."""
    with untouched(logits=logits, tokens=tokens), unaided(caption_loss):
        return is_tensor(captions_cost(logits, tokens, padding), (len(tokens),), "the nats, one number a caption,")


def token_by_token(shift: int, padded: bool = False, first: int = 1) -> Tensor:
    """The cost when token i is predicted at place 3 + i - shift."""
    rows = []
    for law, row in zip(logits.log_softmax(2), tokens.tolist(), strict=True):
        rows.append(-sum(float(law[3 + i - shift, token]) for i, token in enumerate(row)
                         if i >= first and (padded or token != 7)))  # fmt: skip
    return torch.tensor(rows, dtype=torch.float64)


out, right = cost(), token_by_token(1)
counts = (tokens[:, 1:] != 7).sum(1)
for wrong, says in (
    (token_by_token(0), "a token is predicted one place before it, not where it stands"),
    (token_by_token(4), "the picture's vectors stand before the text: skip the first P places"),
    (token_by_token(1, padded=True), "padding is predicted: those places must not count"),
    (token_by_token(1, first=0), "the first token is given: it is not to be predicted"),
    (right / counts, "this is a mean for each caption: the sum is asked for"),
    (right / 4, "divided by N - 1, the number of tokens: the sum is asked for"),
    (-right, "the sign: nats are what a caption costs"),
    (right / math.log(2), "these are bits: nats are asked for"),
):
    assert not near(out, wrong), says
raw = torch.stack([
    -sum(logits[b, 2 + i, token] for i, token in enumerate(tokens[b].tolist()) if i and token != 7) for b in range(3)
])  # fmt: skip
assert not near(out, raw), "logits are not logarithms of probabilities: log_softmax first"
assert near(out, right), "the sum of -log p(token) at the places before the tokens, behind the picture's vectors"
short_prefix = cost(logits[:, 3:], tokens)
alone = -logits[:, 3:-1].log_softmax(2).gather(2, tokens[:, 1:, None])[..., 0]
assert near(short_prefix, (alone * (tokens[:, 1:] != 7)).sum(1)), "wrong with no vectors before the text, P = 0"
renamed = torch.tensor([7, 1, 2, 3, 4, 5, 6, 0])  # 0 and 7 change places
assert near(cost(logits[..., renamed], renamed[tokens], 0), right), "wrong where padding is 0: it need not be 7"
### BEGIN HIDDEN TESTS
assert near(cost(logits[:1], tokens[:1]), right[:1]), "wrong for one caption"
mean = float(caption_loss(logits[:, 3:-1], tokens, 7)) * int(counts.sum())
assert near(cost().sum(), mean, 1e-5), "not what the library's loss is the mean of"
### END HIDDEN TESTS

# %% [markdown] hints="15.7"
# 1. Write the $P + N$ places in a row, and under each the token that it predicts. Which places predict nothing that
#    counts?
#
# 2. $P$ is `logits.shape[1] - tokens.shape[1]`. Token $i$ of the text is predicted at place $P + i - 1$.
#
# 3. `logits[:, P:-1].log_softmax(2).gather(2, tokens[:, 1:, None])[..., 0]`, times `tokens[:, 1:] != padding`, minus
#    its sum over the tokens.

# %% tags=["demo"]
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
start, end = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([[-0.8, 0.6]], dtype=torch.float64)
shares = torch.linspace(0, 1, 15).double()
points = on_sphere(start.expand(15, 2), end.expand(15, 2), shares)
around = torch.linspace(0, 2 * math.pi, 200)
axes[0].plot(around.cos(), around.sin(), color=GREY, linewidth=0.8)
axes[0].plot(*points.T, "o", color=ACCENT, label="yours")
chords = start + shares[:, None] * (end - start)
axes[0].plot(*chords.T, ".", color=BLUE, label="the chord")
axes[0].set(aspect="equal", title="15.1 On the sphere")
axes[0].legend(loc="lower center")
wrongs = torch.linspace(0, 0.9, 31).tolist()
ten = torch.full((10,), 0.1, dtype=torch.float64)
for silent, colour in ((0.0, ACCENT), (0.4, BLUE)):
    said_bits = [float(what_it_says(ten, silent, wrong, 0.0)[0]) for wrong in wrongs]
    axes[1].plot(wrongs, said_bits, color=colour, label=f"silent in {100 * silent:.0f} %")
axes[1].set(xlabel="wrong, of what is said", ylabel="bits of ten values (yours)", title="15.5 What a caption says")
axes[1].legend()
plt.show()

# %% [markdown]
# ## How to be graded
#
# Save the notebook and run `flowlib grade 15_dalle_2_and_3.ipynb`. It prints a table of the questions with your points,
# and the hint of each check that failed. In the library the same things are `slerp`
# (`flowlib/systems/unclip_editing.py`), `PrincipalCodes` (`flowlib/nets/principal.py`), `UnCLIPPriorSystem`
# (`flowlib/systems/unclip_prior.py`), `sample_prior` (`flowlib/systems/prior_sampling.py`), `blended`
# (`flowlib/systems/recaption.py`) and `caption_loss` (`flowlib/systems/captioner.py`).
