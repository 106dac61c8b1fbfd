# %% [markdown]
# # Exercise 12. Guidance by language
#
# You build what lecture 12 derives: the distance on the sphere that Disco Diffusion descends; weights of prompts; the
# schedule of its cut-outs; the energy of a style; two gradients that lead to what is asked for, one exact and one by
# the predicted clean picture; and the bound that keeps them from throwing a sample off.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right;
# when it is wrong, it says what probably went wrong. The grader runs these checks and a few more. `hint("12.1")` gives
# a hint; asked again, it says more, three times. Every question stands on its own. Arguments are never to be changed.
#
# **Without** in a question names functions that solve it already: an answer that calls one of them gets no points.
#
# **Needed before:** [lecture 12](../lectures/12_guidance_by_language.ipynb). **Time:** about 80 minutes.
# **Points:** 10.

# %%
import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from flowlib import EnergyGuidance, MixtureField
from flowlib.course.notebook import exercise, unaided
from flowlib.plotting.style import ACCENT, GREY, INK
from flowlib.systems.cut_schedule import Cuts, read_schedule
from flowlib.systems.disco_losses import spherical_distance
from flowlib.systems.semantic import gram_matrix, style_energy
from flowlib.systems.weighted import parse_prompt, parse_prompts

hint = exercise("12_guidance_by_language").hint


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard Gaussian numbers, in double precision: the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(found: Tensor, expected: Tensor | float, tolerance: float = 1e-9) -> bool:
    """Whether tensors agree, relative to their size; NaN agrees with nothing."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    return bool(((found.detach().double() - expected).abs() <= tolerance * (1 + expected.abs())).all())


def is_tensor(found: object, shape: tuple[int, ...], what: str) -> None:
    """Assert that `found` is a finite tensor of that shape."""
    assert isinstance(found, Tensor), f"{what} must be a tensor, got {type(found).__name__}: is something returned?"
    assert tuple(found.shape) == shape, f"{what} must have shape {shape}, got {tuple(found.shape)}"
    assert found.is_floating_point(), f"{what} must be of floating point, got {found.dtype}"
    assert bool(torch.isfinite(found).all()), f"{what} must be finite, and has NaN or infinite entries"


def refusal_of(function: Callable, *arguments: object) -> str:
    """The name of the error that an answer raises, or "no error"."""
    try:
        function(*arguments)
    except NotImplementedError:
        raise
    except Exception as error:
        return type(error).__name__
    return "no error"


# %% [markdown]
# ## 12.1 The distance on the sphere (2 points, 15 minutes, medium)
#
# Write *half the squared angle* between vectors, $\theta^2/2$, which is $2 \arcsin^2(\lVert a - b\rVert / 2)$ for unit
# vectors. Vectors come in any length but zero, and in any shapes (..., D) that broadcast. Two more things are asked:
#
# - it must be right for very small angles in single precision, and for opposite vectors;
# - its gradient must be finite everywhere, also where the vectors are equal (there it is 0) and where they are
#   opposite.
#
# **Without:** `spherical_distance`.


# %% solution="12.1"
def distance_on_sphere(a: Tensor, b: Tensor) -> Tensor:
    """Half the squared angle: (..., D) twice -> (...)."""
    ### BEGIN SOLUTION
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    half = torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))  # of the angle
    return 2 * half**2
    ### END SOLUTION


# %% check="12.1" points=2
def distance(a: Tensor, b: Tensor) -> Tensor:
    """The answer's distance, if it is a finite tensor and leaves its arguments alone."""
    given = a.clone(), b.clone()
    with unaided(spherical_distance):
        found = distance_on_sphere(*given)
    assert torch.equal(given[0], a), "a was changed: work on a new tensor"
    assert torch.equal(given[1], b), "b was changed: work on a new tensor"
    is_tensor(found, tuple(torch.broadcast_shapes(a.shape[:-1], b.shape[:-1])), "the distance, one for each vector,")
    return found


axes_of = torch.eye(3, dtype=torch.float64)
right_angle, pi = distance(axes_of[:1], axes_of[1:2]), math.pi
assert not near(right_angle, 1.0), (
    "at a right angle this is 1, as half the squared chord or 1 - cosine is: the angle itself is asked for"
)
assert not near(right_angle, 2.0), "at a right angle this is 2, the squared chord: the angle itself is asked for"
assert not near(right_angle, pi / 2), "this is the angle, and half its square is asked for"
assert not near(right_angle, pi**2 / 4), "this is the squared angle: take half of it"
assert not near(right_angle, pi**2 / 32), (
    "this is a quarter of what it should be: arcsin(|a - b| / 2) is *half* the angle"
)
assert not near(right_angle, pi**2 / 16), "half the angle, squared, and then times *two*: 2 arcsin(...)^2"
assert near(right_angle, pi**2 / 8), f"at a right angle it must be pi^2 / 8, got {float(right_angle):.4f}"
a, b = normal(5, 4, seed=1), normal(5, 4, seed=2)
found = distance(a, b)
assert near(distance(3 * a, b), found), "a longer a is farther away: an angle has no length, scale to length 1"
assert near(distance(a, 0.2 * b), found), "a shorter b is farther away: an angle has no length, scale to length 1"
lengths = torch.tensor([1.0, 5.0, 0.2, 3.0, 9.0]).double()[:, None]
assert near(distance(lengths * a, b), found), "each *vector* has to be scaled to length 1, not the whole tensor"
exact = torch.acos(F.cosine_similarity(a, b, dim=1)).square() / 2
assert near(found, exact, 1e-6), "the distance is wrong: it is half the squared angle"
assert near(distance(a[:, None], b), torch.acos(F.cosine_similarity(a[:, None], b[None], dim=2)).square() / 2, 1e-6), (
    "(5, 1, 4) and (5, 4) must broadcast to (5, 5)"
)
assert near(distance(a[0], -2 * a[0]), pi**2 / 2, 1e-5), "opposite vectors are at the angle pi"
small = 1e-3
turned = torch.tensor([[math.cos(small), math.sin(small)]], dtype=torch.float32)
tiny = float(distance(torch.tensor([[1.0, 0.0]]), turned))
assert abs(tiny / (small**2 / 2) - 1) < 1e-2, (
    f"in single precision an angle of 0.001 gives {tiny:.2e} in place of 5.00e-07: an arccosine loses small angles"
)
for name, other in (("equal", 2 * a), ("opposite", -2 * a), ("nearly opposite", -a + 1e-9 * b)):
    leaf = a.clone().requires_grad_()
    with unaided(spherical_distance):
        answer = distance_on_sphere(leaf, other)
    assert answer.requires_grad, "no gradient can flow back to a: was something detached?"
    (gradient,) = torch.autograd.grad(answer.sum(), leaf)
    assert bool(torch.isfinite(gradient).all()), (
        f"the gradient is not finite where vectors are {name}: which function here has an infinite slope at its end?"
    )
    assert name != "equal" or float(gradient.abs().max()) < 1e-6, "where vectors are equal the gradient must be 0"
leaf = F.normalize(a, dim=1).requires_grad_()
(gradient,) = torch.autograd.grad(distance_on_sphere(leaf, b).sum(), leaf)
assert not bool((gradient.abs().sum(1) == 0).any()), "the gradient is 0 for vectors that are neither equal nor opposite"
along = (gradient * leaf.detach()).sum(1)
assert float(along.abs().max()) < 1e-6, (
    "the gradient changes the length of a, which the distance does not depend on: was the length detached?"
)
assert near(gradient.norm(dim=1), (2 * exact).sqrt(), 1e-6), "on unit vectors the gradient must be as long as the angle"
### BEGIN HIDDEN TESTS
for shapes in (((7,), (7,)), ((2, 3, 6), (6,)), ((4, 1, 5), (1, 3, 5)), ((1, 2), (1, 2))):
    a, b = normal(*shapes[0], seed=3), normal(*shapes[1], seed=4)
    assert near(distance(a, b), spherical_distance(a, b), 1e-6), f"wrong for shapes {shapes}"
a = normal(6, 16, seed=5)
for gap in (1e-2, 1e-1):
    b = a + gap * normal(6, 16, seed=6)
    assert near(distance(a.float(), b.float()).double() / spherical_distance(a, b), 1.0, 1e-2), "wrong for small angles"
    assert near(distance(a, -b), spherical_distance(a, -b), 1e-6), "wrong for nearly opposite vectors"
### END HIDDEN TESTS

# %% [markdown] hints="12.1"
# 1. An arcsine has an infinite slope at 1, and an arccosine loses half of the digits near 1. Which inverse function of
#    an angle has neither fault?
#
# 2. For unit vectors at the angle $\theta$, $\lVert a - b\rVert = 2 \sin(\theta/2)$ and
#    $\lVert a + b\rVert = 2 \cos(\theta/2)$.
#
# 3. `half = torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))` of vectors scaled to length 1; the result is
#    `2 * half**2`.

# %% tags=["demo"]
angles = torch.linspace(0.001, math.pi - 0.001, 300, dtype=torch.float64)
leaf = torch.stack([angles.cos(), angles.sin()], dim=1).requires_grad_()
(pull,) = torch.autograd.grad(distance_on_sphere(leaf, axes_of[0, :2].expand(300, 2)).sum(), leaf)
figure, axes = plt.subplots(figsize=(5, 2.8), layout="constrained")
axes.plot(angles, pull.norm(dim=1), color=ACCENT, label="yours")
axes.plot(angles, angles, ":", color=INK, label="the angle")
axes.plot(angles, angles.sin(), color=GREY, label="of a cosine")
axes.set(xlabel="angle", ylabel="length of the gradient")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 12.2 Weights of prompts (1 point, 10 minutes, easy)
#
# "a red seven:2" counts twice, "blue:-0.5" is avoided, "a two" counts once. The weight stands behind the *last* colon.
# Return each text, without the spaces around it, and its weight, divided by the absolute value of the sum of all
# weights. Raise a `ValueError` for an empty text, for a weight that is no finite number, for no prompt at all, and
# where the sum is nearer to zero than 0.001.
#
# **Without:** `parse_prompt`, `parse_prompts`.


# %% solution="12.2"
def weighted(prompts: list[str]) -> list[tuple[str, float]]:
    """Texts and their weights."""
    ### BEGIN SOLUTION
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.rpartition(":")
        weight = float(behind) if colon else 1.0  # a ValueError for what is no number
        text = (text if colon else prompt).strip()
        if not text or not math.isfinite(weight):
            raise ValueError(f"a prompt must be a text and perhaps a weight, such as 'a red seven:2', got {prompt!r}")
        found.append((text, weight))
    total = abs(sum(weight for _, weight in found))
    if total < 1e-3:
        raise ValueError(f"weights must not sum to 0, got {prompts!r}")
    return [(text, weight / total) for text, weight in found]
    ### END SOLUTION


# %% check="12.2" points=1
def parsed(*prompts: str) -> list[tuple[str, float]]:
    """The answer's texts and weights, if they are that."""
    given = list(prompts)
    with unaided(parse_prompt, parse_prompts):
        try:
            found = weighted(given)
        except (NotImplementedError, AssertionError):
            raise
        except Exception as error:
            raise AssertionError(f"weighted({given}) stopped with {type(error).__name__}: {error}") from error
    assert given == list(prompts), "the list of prompts was changed: work on a new one"
    assert isinstance(found, list | tuple), f"return a list of pairs, got {type(found).__name__}: is it returned?"
    assert len(found) == len(prompts), f"{len(prompts)} prompts must give as many pairs, got {len(found)}"
    for pair in found:
        assert isinstance(pair, list | tuple), f"each pair must be a text and a weight, got {pair!r}"
        assert len(pair) == 2, f"each pair must be a text and a weight, got {pair!r}"
        assert isinstance(pair[0], str), f"the text must be a string, got {pair[0]!r}"
        assert isinstance(pair[1], float | int), f"the weight must be a number, got {pair[1]!r}"
    return [(text, float(weight)) for text, weight in found]


assert parsed("a two") == [("a two", 1.0)], "a prompt without a colon counts once"
assert refusal_of(weighted, ["at 12:30:2"]) != "ValueError", (
    "two colons were refused: the weight stands behind the last one, and the text may have others"
)
assert parsed("at 12:30:2")[0][0] == "at 12:30", "the weight stands behind the *last* colon, not the first"
assert parsed(" a two : 3 ")[0][0] == "a two", "the text must have no spaces around it"
two = parsed("a red seven:2", "blue:2")
assert two[0][1] != 2, "the weights must be divided by the absolute value of their sum"
assert two == [("a red seven", 0.5), ("blue", 0.5)], f"two prompts of the weight 2 must count a half each, got {two}"
mixed = [weight for _, weight in parsed("a red seven:2", "blue:-0.5")]
assert abs(mixed[0] - 0.8) > 1e-9, "divide by the absolute value of the sum, and not by the sum of absolute values"
assert abs(mixed[0] - 4 / 3) + abs(mixed[1] + 1 / 3) < 1e-9, f"2 and -0.5 must become 4/3 and -1/3, got {mixed}"
assert refusal_of(weighted, ["blue:-2", "a seven:0.5"]) != "ValueError", (
    "a sum below 0 was refused: compare its absolute value with 0.001"
)
avoided = [weight for _, weight in parsed("blue:-2", "a seven:0.5")]
assert avoided[0] < 0, "a sum below 0 has turned what is to be avoided into what is asked for: take its absolute value"
assert abs(avoided[0] + 4 / 3) < 1e-9, f"-2 and 0.5 must become -4/3 and 1/3, got {avoided}"
for wrong, why in (
    (["a seven:1", "blue:-1"], "weights that sum to 0 must be a ValueError"),
    (["a seven:1", "blue:-0.9995"], "weights whose sum is nearer to 0 than 0.001 must be a ValueError"),
    (["a seven:inf"], "an infinite weight must be a ValueError"),
    (["a seven:nan"], "a weight that is NaN must be a ValueError"),
    (["a seven:two"], "a weight that is no number must be a ValueError"),
    (["a seven:"], "a colon with nothing behind it must be a ValueError"),
    ([""], "an empty prompt must be a ValueError"),
    ([" :2"], "a weight without a text must be a ValueError"),
    ([], "no prompt at all must be a ValueError"),
):
    got = refusal_of(weighted, wrong)
    assert got == "ValueError", f"{why}, and not {got}: {wrong}"
### BEGIN HIDDEN TESTS
for prompts in (["a:b:c:1e2", "d:.5", "e"], ["x:0", "y:-3"], ["a large red seven, on grey: 7.5"], ["1:2", "3:4"]):
    expected = [(prompt.what, prompt.weight) for prompt in parse_prompts(prompts)]
    assert parsed(*prompts) == expected, f"wrong for {prompts}"
### END HIDDEN TESTS

# %% [markdown] hints="12.2"
# 1. `str.rpartition(":")` cuts at the last colon, and says by an empty middle that there is none.
#
# 2. `float("two")` and `float("")` raise a `ValueError` by themselves; `float("nan")` and `float("inf")` do not.
#
# 3. Collect texts and weights; `total = abs(sum(weights))`; refuse `total < 1e-3` (for no prompt at all it is 0, so
#    that is refused too); return the weights divided by `total`.

# %% [markdown]
# ## 12.3 The schedule of cut-outs (2 points, 15 minutes, medium)
#
# Disco Diffusion writes "[12]*400+[4]*600" for a number that is 12 for the first 400 of 1000 parts of the way from
# noise ($t = 0$) to the picture ($t = 1$) and 4 for the other 600. Each piece holds from its beginning up to, but not
# at, its end; at $t = 1$ the last one holds. The lengths need not sum to 1000: they are shares of their sum. Values may
# have decimals.
#
# There are two schedules: of the views that see the whole picture and of those that see a part. Only their *ratio*
# counts. Return how many of `count` views are of each kind at $t$: the first number rounded to the nearest integer (of
# two as near, either), the second what is left. Where both schedules are 0, raise a `ValueError`.
#
# **Without:** `Cuts`, `read_schedule`.


# %% solution="12.3"
def views_at(overview: str, inner: str, t: float, count: int) -> tuple[int, int]:
    """How many views there are of the whole picture and of parts of it.

    Args:
        overview, inner: schedules, such as "[12]*400+[4]*600".
        t: in [0, 1].
        count: of all views.
    """
    ### BEGIN SOLUTION
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * sum(int(length) for _, length in pieces), 0.0
        for number, length in pieces:
            value = float(number)
            if left < int(length):
                break
            left -= int(length)
        values.append(value)  # of the last piece, if none broke the loop
    wide, small = values
    if wide + small == 0:
        raise ValueError(f"overview and inner must not both be 0, as they are at t = {t}")
    first = round(count * wide / (wide + small))
    return first, count - first
    ### END SOLUTION


# %% check="12.3" points=2
WIDE, SMALL = "[12]*400+[4]*600", "[4]*400+[12]*600"


def views(t: float, count: int = 16, overview: str = WIDE, inner: str = SMALL) -> tuple[int, int]:
    """The answer's numbers, if they are two integers."""
    with unaided(Cuts, read_schedule):
        try:
            found = views_at(overview, inner, t, count)
        except (NotImplementedError, AssertionError):
            raise
        except Exception as error:
            stopped = f"{type(error).__name__}: {error}"
            raise AssertionError(f"views_at({overview!r}, {inner!r}, {t}, {count}) stopped with {stopped}") from error
    assert isinstance(found, list | tuple), f"return two numbers, got {found!r}: is it returned?"
    assert [type(number) for number in found] == [int, int], f"both must be integers, got {found!r}"
    return tuple(found)


assert views(0.0) != (4, 12), "the schedule runs the wrong way: t = 0 is noise, where it begins"
assert views(0.0) == (12, 4), f"at t = 0 there are 12 wide views and 4 small ones of 16, got {views(0.0)}"
assert views(0.2) == (12, 4), "the lengths are shares of their sum: at t = 0.2 the first piece, 0.4 long, still holds"
assert views(0.9) == (4, 12), f"at t = 0.9 the second piece holds, got {views(0.9)}"
assert views(0.45) == (4, 12), "the lengths are shares of their sum: at t = 0.45 the first piece, 0.4 long, is over"
assert views(0.39) == (12, 4), "each piece holds up to its end: at t = 0.39 it is the first"
assert views(0.4) == (4, 12), "at its end a piece does not hold any more: at t = 0.4 it is the second"
assert views(1.0) == (4, 12), "at t = 1 the last piece holds"
assert views(0.0, 8) == (6, 2), f"of 8 views 6 are wide at t = 0: the ratio counts, 12 to 4; got {views(0.0, 8)}"
assert views(0.1, 8, "[3]*1+[1]*3", "[1]*1") == (6, 2), (
    "the lengths need not sum to 1000: in '[3]*1+[1]*3' the first piece ends at t = 1/4"
)
assert views(0.45, 8, "[1]*1+[3]*1+[0]*2", "[1]*1") == (6, 2), "wrong for three pieces: lengths before a piece add up"
assert views(0.5, 4, "[0.5]*10", "[1.5]*7") == (1, 3), "values may have decimals: 0.5 to 1.5 is 1 view of 4"
for count in (1, 3, 5, 7):
    assert sum(views(0.1, count, "[2]*1", "[1]*1")) == count, (
        "both numbers must sum to count: the second is what is left"
    )
assert sum(views(0.1, 5, "[1]*1", "[1]*1")) == 5, (
    "half of 5 views each: both were rounded, and do not sum to 5; the second is what the first leaves"
)
assert views(0.1, 5, "[2]*1", "[1]*1") == (3, 2), "5 * 2/3 = 3.33 is to be rounded to 3"
assert views(0.1, 4, "[2]*1", "[1]*1") == (3, 1), "4 * 2/3 = 2.67 is to be rounded to 3, not cut to 2"
assert views(0.1, 4, "[1]*1", "[0]*1") == (4, 0), "where one schedule is 0 all views are of the other kind"
got = refusal_of(views_at, "[0]*2+[1]*2", "[0]*4", 0.25, 4)
assert got == "ValueError", f"where both schedules are 0 there must be a ValueError, and not {got}"
got = refusal_of(views_at, "[0]*2+[1]*2", "[0]*4", 0.75, 4)
assert got == "no error", f"both schedules are 0 at *other* times here, and there was a {got}"
### BEGIN HIDDEN TESTS
for overview, inner in (
    (WIDE, SMALL),
    ("[7]*3+[0]*1+[2.5]*6", "[1]*9+[100]*2"),
    ("[0]*1+[5]*8", "[3]*2"),
    (SMALL, WIDE),
):
    for t in (0.0, 0.1, 0.26, 0.31, 0.55, 0.83, 0.99, 1.0):
        for count in (1, 5, 17):
            expected = Cuts(count, overview, inner).at(t)[:2]
            assert views(t, count, overview, inner) == expected, f"wrong for {overview!r}, {inner!r} at t = {t}"
### END HIDDEN TESTS

# %% [markdown] hints="12.3"
# 1. First write the value of one schedule at one time. `"[12]*400+[4]*600".split("+")` are its pieces.
#
# 2. A piece's text is `"[12]*400"`: without the first bracket, `.split("]*")` gives value and length. Let
#    `left = t * total`; go through the pieces, and take each length off `left` until it is smaller than the next one.
#
# 3. `first = round(count * wide / (wide + small))`, and `count - first` is the second. After the loop the last value
#    is the one for `t = 1`.

# %% [markdown]
# ## 12.4 The energy of a style (2 points, 15 minutes, medium)
#
# An encoder gives features of $N$ places of a picture, as rows of $F$, (N, C). Its Gram matrix is
# $G = F^\top F / (N C)$. The energy of a style is *minus* the squared distance of two Gram matrices, the sum of the
# squares of all differences. One side are the pictures that are guided, features (B, N, C); the other is a single
# picture, features (M, C), whose number of places may be another. Gradients must reach the pictures, and not the
# reference.
#
# **Without:** `gram_matrix`, `style_energy`.


# %% solution="12.4"
def style(features: Tensor, reference: Tensor) -> Tensor:
    """The energy of each picture, larger where its style is nearer: (B, N, C), (M, C) -> (B,)."""
    ### BEGIN SOLUTION
    reference = reference.detach()
    own = features.transpose(1, 2) @ features / features[0].numel()  # (B, C, C)
    other = reference.T @ reference / reference.numel()  # (C, C)
    return -(own - other).square().sum((1, 2))
    ### END SOLUTION


# %% check="12.4" points=2
def energy_of(features: Tensor, reference: Tensor) -> Tensor:
    """The answer's energy, if it is a finite tensor and leaves its arguments alone."""
    given = features.clone(), reference.clone()
    with unaided(gram_matrix, style_energy):
        found = style(*given)
    assert torch.equal(given[0], features), "features was changed: work on a new tensor"
    assert torch.equal(given[1], reference), "reference was changed: work on a new tensor"
    is_tensor(found, (len(features),), "the energy, one number for each picture,")
    return found


features, reference = normal(3, 6, 4, seed=1) + 0.5, normal(6, 4, seed=2) - 0.3
found = energy_of(features, reference)
own, other = features.transpose(1, 2) @ features / 24, reference.T @ reference / 24
gap = (own - other).square().sum((1, 2))
assert not near(found, gap), "the sign: an energy is larger where the styles are nearer, so *minus* the distance"
assert not near(found, -gap.sqrt()), "this is the distance: its square is asked for"
assert not near(found, -gap / 16), "this is the mean over the entries of the matrices: take their sum"
assert not near(found, -gap * 16), "G is divided by N C: the C is missing"
assert not near(found, -gap * 36), "G is divided by N C: the N is missing"
assert not near(found, -gap * 24**2), "G is divided by N C: nothing is divided here"
shuffled = features[:, torch.tensor([3, 0, 5, 1, 2, 4])]
assert near(energy_of(shuffled, reference), found), (
    "the same features at other places give another energy: G says which *features* occur together, C x C"
)
centred = (features - features.mean(1, keepdim=True), reference - reference.mean(0))
assert not near(found, energy_of(*centred)), "no mean is taken off: these are moments, not a covariance"
assert not near(energy_of(2 * features, 2 * reference), found), "features are not scaled to length 1 here"
assert near(found, -gap), "the energy is wrong: minus the sum of the squared differences of two C x C matrices"
assert near(energy_of(reference[None].repeat(2, 1, 1), reference), torch.zeros(2)), "a picture's own style has energy 0"
twice = torch.cat([reference, reference])
assert near(energy_of(features, twice), found), (
    "a reference with each place twice has the same style: divide by *its* number of places"
)
assert near(energy_of(features[:1], reference), found[:1]), "one picture must be as it is among others"
leaf, target = features.clone().requires_grad_(), reference.clone().requires_grad_()
with unaided(gram_matrix, style_energy):
    answer = style(leaf, target)
assert answer.requires_grad, "no gradient can flow back to the pictures: was something detached?"
gradients = torch.autograd.grad(answer.sum(), (leaf, target), allow_unused=True)
assert gradients[0] is not None, "no gradient reaches the pictures"
assert gradients[1] is None or not bool(gradients[1].any()), "gradients reach the reference: detach it"
assert near(gradients[0], -4 / 24 * features @ (own - other)), "the energy is right and its gradient is not"
### BEGIN HIDDEN TESTS
for shape, places in (((1, 5, 3), 9), ((4, 2, 7), 2), ((2, 16, 8), 3)):
    features, reference = normal(*shape, seed=3), normal(places, shape[2], seed=4)
    expected = -(gram_matrix(features) - gram_matrix(reference[None])).square().sum((1, 2))
    assert near(energy_of(features, reference), expected), f"wrong for features of shape {shape}"
### END HIDDEN TESTS

# %% [markdown] hints="12.4"
# 1. Which of $F^\top F$ and $F F^\top$ does not change when the rows of $F$ change places?
#
# 2. For a batch, `features.transpose(1, 2) @ features` is (B, C, C). Divide each side by its own number of entries.
#
# 3. `-(own - other).square().sum((1, 2))`, with `other = reference.T @ reference / reference.numel()` of
#    `reference.detach()`.

# %% [markdown]
# ## 12.5 Two gradients (2 points, 20 minutes, hard)
#
# The data are $K$ points $z_k$, all as likely, on the linear path: $x_t = t z + (1 - t) \varepsilon$ with
# $0 < t < 1$. An energy has the values $\ell_k = \ell(z_k)$. What has to be added to the score so that the law
# $\tilde p(z_k) \propto e^{\ell_k}$ is sampled is $\nabla_x \log \mathbb E[e^{\ell(z)} \mid x_t = x]$. Write two
# functions, both in closed form:
#
# - `exact_gradient`: that gradient;
# - `mean_gradient`: what is taken in its place, $\nabla_x\, \ell(D_t(x))$ with the posterior mean
#   $D_t(x) = \mathbb E[z \mid x_t = x]$. The energy's own gradient is given as a function, `slope`.
#
# The posterior of $z_k$ given $x$ is a softmax. Energies may be as large as 1000, and $t$ as near to 1 as 0.99.
#
# **Without:** automatic differentiation (`torch.autograd.grad`, `backward`, `torch.func`), `MixtureField`,
# `EnergyGuidance`.


# %% solution="12.5"
def exact_gradient(x: Tensor, t: float, points: Tensor, energies: Tensor) -> Tensor:
    """The gradient of log E[e^energy | x] in x.

    Args:
        x: (B, D).
        t: in (0, 1).
        points: (K, D).
        energies: of the points, (K,).

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)  # (B, K)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return t / (1 - t) ** 2 * (tilted - plain) @ points
    ### END SOLUTION


def mean_gradient(x: Tensor, t: float, points: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient of energy(D(x)) in x.

    Args:
        x, t, points: as above.
        slope: the energy's gradient in z, (B, D) -> (B, D).

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)  # (B, K)
    mean = shares @ points
    rest = points - mean[:, None]  # (B, K, D)
    along = (rest * slope(mean)[:, None]).sum(2)  # (B, K)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)
    ### END SOLUTION


# %% check="12.5" points=2
POINTS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]], dtype=torch.float64)
WANTED = torch.tensor([0.5, 1.0], dtype=torch.float64)


def pull(z: Tensor) -> Tensor:
    """The gradient of -|z - WANTED|^2, an energy."""
    return -2 * (z - WANTED)


def both(x: Tensor, t: float, points: Tensor, energies: Tensor, slope: Callable = pull) -> tuple[Tensor, Tensor]:
    """The answer's gradients, if they are finite and leave their arguments alone."""
    given = x.clone(), points.clone(), energies.clone()
    with unaided(torch.autograd.grad, torch.autograd.backward, MixtureField, EnergyGuidance):
        found = exact_gradient(given[0], t, given[1], given[2]), mean_gradient(given[0], t, given[1], slope)
    for name, one, old in zip(("x", "points", "energies"), given, (x, points, energies), strict=True):
        assert torch.equal(one, old), f"{name} was changed: work on a new tensor"
    is_tensor(found[0], tuple(x.shape), "exact_gradient")
    is_tensor(found[1], tuple(x.shape), "mean_gradient")
    return found


def by_autograd(x: Tensor, t: float, points: Tensor, energies: Tensor, energy: Callable) -> tuple[Tensor, Tensor]:
    """Both gradients, by differentiating their definitions."""
    with torch.enable_grad():
        leaf = x.clone().requires_grad_()
        logits = -(leaf[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
        log_mean = (logits + energies).logsumexp(1) - logits.logsumexp(1)
        looked = energy(logits.softmax(1) @ points)
        exact = torch.autograd.grad(log_mean.sum(), leaf, retain_graph=True)[0]
        return exact, torch.autograd.grad(looked.sum(), leaf)[0]


def quadratic(z: Tensor) -> Tensor:
    return -(z - WANTED).square().sum(1)


def quartic(z: Tensor) -> Tensor:
    """An energy whose gradient is not linear, `steep`."""
    return -(z - WANTED).pow(4).sum(1)


def steep(z: Tensor) -> Tensor:
    return -4 * (z - WANTED).pow(3)


x, t = normal(5, 2, seed=1), 0.4
energies = quadratic(POINTS)
exact, through = both(x, t, POINTS, energies)
expected, looked = by_autograd(x, t, POINTS, energies, quadratic)
shares = (-(x[:, None] - t * POINTS).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
mean = shares @ POINTS
tilted = (shares.log() + energies).softmax(1) @ POINTS
assert not near(exact, tilted - mean), (
    "exact_gradient: this is the move of the posterior mean; the factor is alpha / beta^2"
)
assert not near(exact, -expected), "exact_gradient has the wrong sign: it leads to where the energy is large"
assert not near(exact, tilted * t / (1 - t) ** 2), (
    "exact_gradient: the logarithm's own normaliser is missing; its gradient takes off the posterior mean"
)
covariance = ((shares * (energies - (shares @ energies)[:, None]))[:, :, None] * POINTS).sum(1) * t / (1 - t) ** 2
assert not near(exact, covariance), (
    "exact_gradient is the gradient of E[energy | x]: the logarithm of the mean of its *exponential* is asked for"
)
assert not near(exact, ((shares * energies.exp()) @ POINTS - mean) * t / (1 - t) ** 2), (
    "exact_gradient: the shares times e^energy do not sum to 1 any more: they have to be normalised again"
)
assert not near(exact, looked), "exact_gradient is that of energy(D), the other one"
if not near(exact, expected):
    wide = (-(x[:, None] - t * POINTS).square().sum(2) / (2 * (1 - t))).softmax(1)
    unscaled = (-(x[:, None] - POINTS).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    for wrong, why in (
        (wide, "the noise has the standard deviation 1 - t, so the *square* of it stands in the exponent"),
        (unscaled, "x is compared with t z, the signal of the point, and not with z"),
    ):
        gap = (wrong.log() + energies).softmax(1) @ POINTS - wrong @ POINTS
        assert not near(exact, gap * t / (1 - t) ** 2), f"exact_gradient: {why}"
assert near(exact, expected), "exact_gradient is wrong: it is alpha / beta^2 times (tilted mean - plain mean)"
assert not near(through, pull(mean)), "mean_gradient: this is the slope at D; the derivative of D in x is missing"
assert not near(through, pull(mean) / t), (
    "mean_gradient: this is slope(D) / alpha, as if D were x / alpha and a constant: its derivative is a matrix"
)
assert not near(through, pull(x)), "mean_gradient: this is the slope at x, and D is to be looked at"
rest = POINTS - mean[:, None]
spread = torch.einsum("bk,bki,bkj->bij", shares, rest, rest) * t / (1 - t) ** 2
assert not near(through, (spread @ pull(x)[:, :, None])[:, :, 0]), (
    "mean_gradient: the slope is taken at x, and it is to be taken at D"
)
inverse = looked * ((1 - t) ** 2 / t) ** 2
assert not near(through, inverse), "mean_gradient: the factor is upside down, it is alpha / beta^2"
assert not near(through, looked * (1 - t) ** 2 / t), (
    "mean_gradient: this is the posterior's covariance times the slope; the derivative of D is alpha / beta^2 times it"
)
moments = torch.einsum("bk,ki,kj,bj->bi", shares, POINTS, POINTS, pull(mean)) * t / (1 - t) ** 2
assert not near(through, moments), (
    "mean_gradient: these are second moments: a covariance is of what is left after the mean"
)
assert not near(through, -looked), "mean_gradient has the wrong sign"
assert not near(through, expected), "mean_gradient is the exact one: the energy at the *mean* is asked for"
assert near(through, looked), "mean_gradient is wrong: it is alpha / beta^2 Cov[z|x] slope(D)"
_, through = both(x, t, POINTS, quartic(POINTS), steep)
averaged = (spread @ (shares @ steep(POINTS))[:, :, None])[:, :, 0]
assert not near(through, averaged), (
    "mean_gradient: this is the mean of the slopes at the points, and the slope at their mean is asked for"
)
assert near(through, by_autograd(x, t, POINTS, quartic(POINTS), quartic)[1]), (
    "mean_gradient is right for a quadratic energy and wrong for another one: it is alpha / beta^2 Cov[z|x] slope(D)"
)
late, pulled = both(x, 0.99, POINTS, energies)
expected, looked = by_autograd(x, 0.99, POINTS, energies, quadratic)
assert near(late, expected, 1e-6), "exact_gradient is wrong at t = 0.99: work with logarithms and one softmax"
assert near(pulled, looked, 1e-6), "mean_gradient is wrong at t = 0.99: work with logarithms and one softmax"
large, _ = both(x, t, POINTS, 1000 * torch.tensor([0.0, 1.0, 0.5, -1.0]).double())
assert near(large, t / (1 - t) ** 2 * (POINTS[1] - mean)), (
    "with an energy of 1000 the second point alone is left: add energies to the logits, do not take exponentials"
)
### BEGIN HIDDEN TESTS
for dim, count, t in ((1, 3, 0.2), (3, 7, 0.7), (5, 2, 0.05)):
    x, points = normal(4, dim, seed=dim), normal(count, dim, seed=dim + 10)
    turn = normal(dim, dim, seed=dim + 20)

    def waves(z: Tensor, turn: Tensor = turn) -> Tensor:
        return (z @ turn).sin().sum(1)

    def slope(z: Tensor, turn: Tensor = turn) -> Tensor:
        return (z @ turn).cos() @ turn.T

    found = both(x, t, points, waves(points), slope)
    for name, one, right in zip(
        ("exact_gradient", "mean_gradient"), found, by_autograd(x, t, points, waves(points), waves), strict=True
    ):
        assert near(one, right), f"{name} is wrong for points of shape {(count, dim)} at t = {t}"
for one in both(normal(1, 2, seed=9), 0.5, POINTS[:1], energies[:1]):
    assert near(one, torch.zeros(1, 2)), "with one point there is nothing to choose"
### END HIDDEN TESTS

# %% [markdown] hints="12.5"
# 1. Write $\log \mathbb E[e^{\ell(z)} \mid x]$ as a difference of two logarithms of sums over points. What is the
#    gradient of a logarithm of a sum of exponentials? A mean under a softmax.
#
# 2. The first is $\frac{\alpha}{\beta^2} (\tilde D - D)$: $\tilde D$ is the posterior mean with the energies added to
#    the logits. For the second, $\nabla D = \frac{\alpha}{\beta^2} \mathrm{Cov}[z \mid x]$ (theorem 5 of lecture 02).
#
# 3. `logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)`. Exact:
#    `t / (1 - t) ** 2 * ((logits + energies).softmax(1) - logits.softmax(1)) @ points`. The other one: with
#    `rest = points - mean[:, None]` the covariance times a vector is the mean of `rest` times `(rest * vector).sum(2)`.

# %% tags=["demo"]
line = torch.linspace(-1.5, 1.5, 200, dtype=torch.float64)[:, None]
pair, asked = torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.tensor([0.0, 2.0], dtype=torch.float64)
figure, panels = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained", sharex=True)
for panel, time in zip(panels, (0.2, 0.5, 0.8), strict=True):
    panel.plot(line, exact_gradient(line, time, pair, asked), color=INK, label="exact")
    panel.plot(line, mean_gradient(line, time, pair, torch.ones_like), color=ACCENT, label="of the mean")
    panel.set(title=f"t = {time}", xlabel="x")
panels[0].set_ylabel("what is added to the score")
panels[0].legend(frameon=False)
plt.show()

# %% [markdown]
# ## 12.6 The bound (1 point, 5 minutes, easy)
#
# Bound what is added to the score. Each sample's gradient has a size, the root of the mean of its squares. A gradient
# that is larger than `bound` is made as large as `bound` and keeps its direction; all others stay as they are, also one
# that is zero.
#
# **Without:** `EnergyGuidance`, `torch.nn.utils.clip_grad_norm_`.


# %% solution="12.6"
def bounded(gradient: Tensor, bound: float) -> Tensor:
    """Gradients (B, ...) of which none is larger than `bound`, above 0."""
    ### BEGIN SOLUTION
    size = gradient.flatten(1).square().mean(1).sqrt()
    factor = bound / size.clamp(min=bound)
    return gradient * factor.reshape(-1, *[1] * (gradient.ndim - 1))
    ### END SOLUTION


# %% check="12.6" points=1
def held(gradient: Tensor, bound: float) -> Tensor:
    """The answer's gradient, if it is finite and its argument is left alone."""
    given = gradient.clone()
    with unaided(EnergyGuidance, torch.nn.utils.clip_grad_norm_):
        found = bounded(given, bound)
    assert torch.equal(given, gradient), "gradient was changed: make a new tensor"
    if isinstance(found, Tensor):
        assert not bool(torch.isnan(found).any()), "a gradient of zero became NaN: zero is divided by zero"
    is_tensor(found, tuple(gradient.shape), "the bounded gradient")
    return found


sizes = torch.tensor([4.0, 0.25, 1.0, 0.0]).double()
unit = normal(4, 3, 2, 2, seed=1)
unit = unit / unit.flatten(1).square().mean(1).sqrt()[:, None, None, None]
gradient = sizes[:, None, None, None] * unit
found = held(gradient, 1.0)
assert not near(found, gradient), "nothing has been bounded"
assert not near(found, gradient.clamp(-1, 1)), "each number was clipped alone, which turns the gradient"
assert not near(found[1], unit[1]), "a gradient below the bound must stay as it is, and was made as large as the bound"
assert near(found[1], gradient[1]), "each gradient has a size of its own: what is below the bound must stay as it is"
assert near(found[3], torch.zeros(3, 2, 2)), "a gradient of zero must stay zero"
size = float(found[0].square().mean().sqrt())
assert abs(size - 12**-0.5) > 1e-9, (
    "the norm was bounded: the size is the root of the *mean* of the squares, or large pictures get less in each pixel"
)
assert abs(size - 1) < 1e-9, f"a gradient of the size 4 must get the size of the bound, 1, got {size:.4f}"
assert near(found[0], unit[0]), "the direction has to stay"
assert near(held(gradient, 0.5)[2], 0.5 * unit[2]), "wrong for another bound than 1"
assert near(held(gradient[:1], 1.0), unit[:1]), "wrong for a batch of one"
flat = held(gradient.flatten(1), 1.0)
assert near(flat, found.flatten(1)), "points (B, D) must be bounded as pictures are"
### BEGIN HIDDEN TESTS
many = normal(50, 7, seed=2) * torch.linspace(0, 3, 50, dtype=torch.float64)[:, None]
size = many.square().mean(1, keepdim=True).sqrt()
assert near(held(many, 0.7), torch.where(size > 0.7, 0.7 * many / size.clamp(min=1e-9), many)), "wrong for many samples"
assert near(held(many.float(), 0.7), held(many, 0.7), 1e-5), "wrong in single precision"
### END HIDDEN TESTS

# %% [markdown] hints="12.6"
# 1. What is each gradient multiplied by if it is too large? And what if it is not?
#
# 2. `gradient.flatten(1).square().mean(1).sqrt()` are the sizes, (B,). The factor is the smaller of 1 and
#    `bound / size`.
#
# 3. `bound / size.clamp(min=bound)` is that factor, and it never divides by zero. Give it as many axes as the gradient
#    has before you multiply.

# %% [markdown]
# ## How to be graded
#
# Save the notebook and run `flowlib grade 12_guidance_by_language.ipynb`. It prints a table of the questions with your
# points, and the hint of each check that failed. In the library the same things are `spherical_distance`
# (`flowlib/systems/disco_losses.py`), `parse_prompts` (`flowlib/systems/weighted.py`), `Cuts`
# (`flowlib/systems/cut_schedule.py`), `style_energy` (`flowlib/systems/semantic.py`) and `EnergyGuidance`
# (`flowlib/guidance.py`).
