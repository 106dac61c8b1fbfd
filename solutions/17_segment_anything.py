# %% [markdown]
# # Exercise 17. Segment anything
#
# You build what lecture 17 derives: which patches a masked autoencoder sees; places as waves; the dice loss with its
# gradient; the loss of several masks of which the best is trained, and the score of each; the next click of a simulated
# person; the stability of a mask; and the suppression of masks that were found twice.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right;
# when it is wrong, it says what probably went wrong. The grader runs these checks and a few more. `hint("17.1")` gives
# a hint; asked again, it says more, three times. Every question stands on its own. Arguments are never to be changed.
#
# **Without** in a question names functions that solve it already: an answer that calls one of them gets no points.
#
# **Needed before:** [lecture 17](../lectures/17_segment_anything.ipynb). **Time:** about 90 minutes. **Points:** 10.

# %%
import math
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from flowlib.course.notebook import exercise, unaided
from flowlib.nets.mae import visible_patches
from flowlib.nets.prompts import FourierFeatures, PromptEncoder
from flowlib.plotting.style import ACCENT, BLUE, INK
from flowlib.systems.automatic_masks import automatic_masks, stability_score, suppress
from flowlib.systems.clicks import error_click, pick_pixel
from flowlib.systems.mask_losses import dice_loss, iou_of, mask_loss

hint = exercise("17_segment_anything").hint


def seeded(seed: int) -> torch.Generator:
    """A generator of random numbers, the same for the same seed."""
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard Gaussian numbers, in double precision: the same for the same seed."""
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def near(found: Tensor, expected: Tensor | float, tolerance: float = 1e-9) -> bool:
    """Whether tensors agree, relative to their size; NaN agrees with nothing."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    return bool(((found.detach().double() - expected).abs() <= tolerance * (1 + expected.abs())).all())


def is_tensor(found: object, shape: tuple[int, ...], what: str) -> Tensor:
    """Assert that `found` is a finite tensor of that shape, and return it."""
    assert isinstance(found, Tensor), f"{what} must be a tensor, got {type(found).__name__}: is something returned?"
    assert tuple(found.shape) == shape, f"{what} must have shape {shape}, got {tuple(found.shape)}"
    assert bool(torch.isfinite(found).all()), f"{what} must be finite, and has NaN or infinite entries"
    return found


@contextmanager
def untouched(**arguments: Tensor) -> Iterator[None]:
    """Assert that tensors are afterwards what they were."""
    before = {name: value.clone() for name, value in arguments.items()}
    yield
    for name, value in before.items():
        assert torch.equal(arguments[name], value), f"{name} was changed: work on a new tensor"


# %% [markdown]
# ## 17.1 What is seen (1 point, 10 minutes, easy)
#
# A masked autoencoder hides patches at random, and in every image exactly as many: `round(hidden * patches)`, but at
# most all but one. Return which patches of each image are *seen*, in ascending order. Every image has a subset of its
# own, all subsets are equally probable, and all randomness comes from the generator.
#
# **Without:** `visible_patches`.


# %% solution="17.1"
def seen_patches(batch: int, patches: int, hidden: float, generator: torch.Generator) -> Tensor:
    """The patches that are seen, (batch, K) of integers 0 ... patches - 1.

    Args:
        batch: images.
        patches: of an image.
        hidden: the share that is hidden, in (0, 1).
        generator: of all random numbers.
    """
    ### BEGIN SOLUTION
    kept = max(1, patches - round(hidden * patches))
    order = torch.rand(batch, patches, generator=generator).argsort(dim=1)
    return order[:, :kept].sort(dim=1).values
    ### END SOLUTION


# %% check="17.1" points=1
def seen(batch: int, patches: int, hidden: float, kept: int, seed: int = 0) -> Tensor:
    """The answer, (batch, kept), when asked with a generator of that seed."""
    before = torch.random.get_rng_state()
    with unaided(visible_patches):
        out = seen_patches(batch, patches, hidden, seeded(seed))
    assert torch.equal(before, torch.random.get_rng_state()), "all randomness must come from the generator"
    assert isinstance(out, Tensor), f"the patches must be a tensor, got {type(out).__name__}: is something returned?"
    assert out.dtype in (torch.int16, torch.int32, torch.int64), f"patches are integers, got {out.dtype}"
    assert out.ndim == 2, f"expected (batch, K), got a tensor of shape {tuple(out.shape)}"
    assert out.shape != (batch, patches - kept) or 2 * kept == patches, "these are as many as the hidden patches"
    return out


out = seen(4000, 16, 0.75, 4)
assert out.shape == (4000, 4), f"of 16 patches 12 are hidden and 4 seen, got shape {tuple(out.shape)}"
assert ((out >= 0) & (out < 16)).all(), "patches have the numbers 0 ... patches - 1"
assert not (out.sort(dim=1).values.diff(dim=1) == 0).any(), "a patch comes twice: draw without putting back"
assert (out.diff(dim=1) > 0).all(), "the patches are not in ascending order"
assert not (out == out[:1]).all(), "all images have the same subset: each needs one of its own"
assert torch.equal(seen(50, 16, 0.75, 4, 1), seen(50, 16, 0.75, 4, 1)), "the same generator must give the same subsets"
assert not torch.equal(seen(50, 16, 0.75, 4, 1), seen(50, 16, 0.75, 4, 2)), "the generator has no effect"
source = seeded(3)
twice = [seen_patches(50, 16, 0.75, source) for _ in range(2)]
assert not torch.equal(*twice), "two calls with one generator must draw anew: is another one made inside?"
often = torch.zeros(4000, 16).scatter(1, out.long(), 1.0)
assert float((often.mean(0) - 0.25).abs().max()) < 5 * math.sqrt(0.25 * 0.75 / 4000), "not all patches are as probable"
together = (often[:, :-1] * often[:, 1:]).mean(0)
assert float((together - 1 / 20).abs().max()) < 5 * math.sqrt(0.05 * 0.95 / 4000), (
    "neighbours are seen together too often, or too rarely: all subsets must be as probable"
)
assert seen(3, 9, 0.3, 6).shape == (3, 6), "0.3 * 9 = 2.7 patches are hidden: round to 3"
assert seen(3, 4, 0.99, 1).shape == (3, 1), "at least one patch is seen"
assert seen(3, 5, 0.1, 5).shape == (3, 5), (
    "0.1 * 5 = 0.5 patches are hidden, rounded to 0: `round` what is hidden, and not what is seen"
)
### BEGIN HIDDEN TESTS
assert seen(1, 64, 0.75, 16).shape == (1, 16), "wrong for one image"
assert seen(2, 10, 0.05, 10).shape == (2, 10), "0.05 * 10 = 0.5 is rounded to 0: all are seen"
### END HIDDEN TESTS

# %% [markdown] hints="17.1"
# 1. Draw a random order of the patches of each image, and take its beginning.
#
# 2. The order in which independent random numbers lie is a random permutation: `torch.rand(...).argsort(dim=1)`.
#
# 3. `kept = max(1, patches - round(hidden * patches))`; sort the first `kept` columns of the order.

# %% [markdown]
# ## 17.2 Places as waves (1 point, 10 minutes, medium)
#
# Turn points, in pixels whose *centres* are 0, 1, 2, ..., into Fourier features. A point becomes first a place $c$ of
# the unit square (the left edge of the image is 0, its right edge 1; likewise from top to bottom), then $2c - 1$; with
# frequencies $f_j$ its features are $\sin 2\pi f_j^\top (2c - 1)$ for all $j$, then the cosines.
#
# **Without:** `FourierFeatures`, `PromptEncoder`.


# %% solution="17.2"
def waves(points: Tensor, frequencies: Tensor, height: int, width: int) -> Tensor:
    """The features, (..., 2 m).

    Args:
        points: x and y in pixels, (..., 2).
        frequencies: (2, m), of x and of y.
        height, width: of the image.
    """
    ### BEGIN SOLUTION
    place = (points + 0.5) / torch.tensor([width, height], dtype=points.dtype)
    angle = 2 * math.pi * (2 * place - 1) @ frequencies
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
    ### END SOLUTION


# %% check="17.2" points=1
frequencies = normal(2, 5, seed=1)
points = torch.tensor([[[0.0, 0.0], [7.0, 3.0], [2.5, 1.0]], [[6.0, 0.5], [1.0, 2.0], [4.0, 3.5]]]).double()


def waves_of(points: Tensor = points, height: int = 4, width: int = 8) -> Tensor:
    """The answer, (..., 10)."""
    with untouched(points=points, frequencies=frequencies), unaided(FourierFeatures, PromptEncoder):
        out = waves(points, frequencies, height, width)
    return is_tensor(out, (*points.shape[:-1], 10), "the features")


def angles(
    shift: float = 0.5, sides: tuple[int, int] = (8, 4), stretch: bool = True, turns: float = 2 * math.pi
) -> Tensor:
    """Angles as they are, or with one thing changed."""
    place = (points + shift) / torch.tensor(sides).double()
    return turns * ((2 * place - 1 if stretch else place) @ frequencies)


def both(angle: Tensor) -> Tensor:
    return torch.cat([angle.sin(), angle.cos()], -1)


out, right = waves_of(), angles()
for wrong, says in (
    (both(angles(shift=0.0)), "the centre of pixel 0 lies half a pixel from the edge: add 0.5 before dividing"),
    (both(angles(sides=(4, 8))), "x is divided by the width and y by the height: these are exchanged"),
    (both(angles(stretch=False)), "2 c - 1 is missing: these are the features of c"),
    (both(angles(turns=1.0)), "the factor 2 pi is missing: frequencies are in turns, not in radians"),
    (both(angles(turns=math.pi)), "the factor is 2 pi, this is pi"),
    (torch.cat([right.cos(), right.sin()], -1), "the sines come first"),
    (torch.stack([right.sin(), right.cos()], -1).flatten(-2), "sine and cosine by turns: all sines come first"),
    (both(2 * math.pi * ((2 * (points + 0.5) / torch.tensor([7.0, 3.0]).double() - 1) @ frequencies)),
     "the image is `width` pixels wide, not width - 1"),
    (both(2 * math.pi * ((2 * (points.flip(-1) + 0.5) / torch.tensor([4.0, 8.0]).double() - 1) @ frequencies)),
     "x and y are exchanged"),
):  # fmt: skip
    assert not near(out, wrong), says
assert near(out, both(right)), (
    "expected sin and cos of 2 pi (2 c - 1) @ frequencies with c = (points + 0.5) / (width, height)"
)
assert near(waves_of(points[0, 0]), both(right)[0, 0]), "right for many points and wrong for one"
### BEGIN HIDDEN TESTS
tall = waves_of(points[:, :1], 10, 3)
assert near(tall.square().sum(-1), 5.0), "each sine and its cosine have squares with sum 1"
### END HIDDEN TESTS

# %% [markdown] hints="17.2"
# 1. Where is the centre of the first pixel, if the image is 8 pixels wide and reaches from 0 to 1?
#
# 2. At $\frac{0.5}{8}$. x is divided by the width, y by the height; then stretch to $-1 \dots 1$.
#
# 3. `angle = 2 * math.pi * (2 * place - 1) @ frequencies`, then `torch.cat([angle.sin(), angle.cos()], dim=-1)`.

# %% [markdown]
# ## 17.3 Dice and its gradient (2 points, 20 minutes, hard)
#
# The dice loss of one mask, with $p_i = \sigma(\ell_i)$ and a smoothing $\varepsilon$, is
# $$1 - \frac{2 \sum_i p_i T_i + \varepsilon}{\sum_i p_i + \sum_i T_i + \varepsilon} .$$
# Return the loss of each mask, and the gradient of each with respect to its *logits*, by a formula of your own: derive
# it.
#
# **Without:** `dice_loss`; automatic differentiation (`torch.autograd.grad`, `backward`, `torch.func`).


# %% solution="17.3"
def dice(logits: Tensor, truth: Tensor, smooth: float) -> tuple[Tensor, Tensor]:
    """The loss of each mask (B,), and its gradient (B, H, W).

    Args:
        logits, truth: (B, H, W); the truth is 0 or 1, and may be 0 everywhere.
        smooth: positive.
    """
    ### BEGIN SOLUTION
    p = logits.sigmoid()
    above = 2 * (p * truth).sum((1, 2), keepdim=True) + smooth
    below = p.sum((1, 2), keepdim=True) + truth.sum((1, 2), keepdim=True) + smooth
    gradient = p * (1 - p) * (above / below - 2 * truth) / below
    return 1 - (above / below)[:, 0, 0], gradient
    ### END SOLUTION


# %% check="17.3" points=2
logits = 2 * normal(3, 4, 5, seed=2)
truth = (normal(3, 4, 5, seed=3) > 0.7).double()
assert float(truth.sum((1, 2)).min()) > 0


def dice_of(logits: Tensor = logits, truth: Tensor = truth, smooth: float = 1.0) -> tuple[Tensor, Tensor]:
    """The answer: losses (B,) and gradients (B, H, W)."""
    with untouched(logits=logits, truth=truth), unaided(dice_loss, torch.autograd.grad, torch.autograd.backward):
        back = dice(logits, truth, smooth)
    assert isinstance(back, tuple), "return two tensors: the losses and the gradients"
    assert len(back) == 2, f"return the losses and the gradients, got {len(back)}"
    shape = tuple(logits.shape)
    return is_tensor(back[0], shape[:1], "the losses, one a mask,"), is_tensor(back[1], shape, "the gradients")


def pixel_by_pixel(logits: Tensor, truth: Tensor, smooth: float) -> tuple[Tensor, Tensor]:
    """Losses as sums over single pixels, and their slopes by differences."""

    def loss(one: Tensor, t: Tensor) -> float:
        p = [1 / (1 + math.exp(-value)) for value in one.flatten().tolist()]
        inside = sum(a * b for a, b in zip(p, t.flatten().tolist(), strict=True))
        return 1 - (2 * inside + smooth) / (sum(p) + float(t.sum()) + smooth)

    losses, slopes = [], torch.zeros_like(logits)
    for b in range(len(logits)):
        losses.append(loss(logits[b], truth[b]))
        for i in range(logits.shape[1]):
            for j in range(logits.shape[2]):
                moved = torch.zeros_like(logits[b])
                moved[i, j] = 1e-4
                slopes[b, i, j] = (loss(logits[b] + moved, truth[b]) - loss(logits[b] - moved, truth[b])) / 2e-4
    return torch.tensor(losses, dtype=torch.float64), slopes


loss, slope = dice_of()
right, slopes = pixel_by_pixel(logits, truth, 1.0)
p = logits.sigmoid()
inside, ours, theirs = (p * truth).sum((1, 2)), p.sum((1, 2)), truth.sum((1, 2))
lit = (logits > 0).double()
for wrong, says in (
    (1 - right, "this is the coefficient: the loss is 1 less it"),
    (1 - 2 * inside / (ours + theirs), "the smoothing is missing"),
    (1 - 2 * inside / (ours + theirs + 1), "the smoothing is above and below"),
    (1 - (2 * inside + 1) / (ours + theirs), "the smoothing is above and below"),
    (1 - (inside + 1) / (ours + theirs - inside + 1), "this is the IoU's: above there is twice the intersection"),
    (1 - (2 * inside + 1) / (p.square().sum((1, 2)) + theirs + 1), "no squares below: the sum of p itself"),
    (1 - (2 * (lit * truth).sum((1, 2)) + 1) / (lit.sum((1, 2)) + theirs + 1),
     "the mask was cut off at 0: probabilities have a gradient, 0 and 1 have none"),
    (1 - (2 * (logits * truth).sum((1, 2)) + 1) / (logits.sum((1, 2)) + theirs + 1),
     "logits were taken for probabilities: the sigmoid is missing"),
    ((1 - (2 * inside.sum() + 1) / (ours.sum() + theirs.sum() + 1)).expand(3),
     "the sums go over the whole batch: each mask has a loss of its own"),
    (1 - (inside + 1) / (ours + theirs + 1), "the 2 above is missing"),
):  # fmt: skip
    assert not near(loss, wrong), says
assert near(loss, right), "expected 1 - (2 sum p T + smooth) / (sum p + sum T + smooth) of each mask"
above, below = (2 * inside + 1)[:, None, None], (ours + theirs + 1)[:, None, None]
by_p = (above / below - 2 * truth) / below
for wrong, says in (
    (by_p, "this is the gradient by p: the chain rule to the logits has a factor p (1 - p)"),
    (-slopes, "the sign of the gradient: the loss falls if a pixel of the object grows"),
    (slopes / 3, "this is the gradient of the mean over the batch: each mask's own is asked for"),
    (-p * (1 - p) * 2 * truth / below, "the sum below depends on p too: the quotient rule has two parts"),
    (p * (1 - p) * above / below**2, "the part of what is above is missing: it also depends on p, inside the object"),
    (p * by_p, "the slope of the sigmoid is p (1 - p)"),
    (p * (1 - p) * (above / below - truth) / below, "the 2 of 2 p T stays in the derivative"),
):
    assert not near(slope, wrong, 1e-6), says
assert near(slope, slopes, 1e-6), "the gradient is wrong: quotient rule, then times p (1 - p)"
nothing = torch.zeros_like(truth)
try:
    empty = dice_of(truth=nothing)
except AssertionError as error:
    raise AssertionError(f"an empty truth: with the smoothing all is finite ({error})") from error
assert near(empty[0], pixel_by_pixel(logits, nothing, 1.0)[0]), "wrong where the truth is empty"
assert near(dice_of(smooth=0.1)[1], pixel_by_pixel(logits, truth, 0.1)[1], 1e-6), "wrong for another smoothing"
### BEGIN HIDDEN TESTS
one = pixel_by_pixel(logits[:1, :1], truth[:1, :1], 2.0)
assert near(dice_of(logits[:1, :1], truth[:1, :1], 2.0)[1], one[1], 1e-6), "wrong for one mask of one row"
### END HIDDEN TESTS

# %% [markdown] hints="17.3"
# 1. Call what is above $a$ and what is below $b$. How do both change with one $p_i$?
#
# 2. $\frac{\partial a}{\partial p_i} = 2 T_i$ and $\frac{\partial b}{\partial p_i} = 1$, so that the loss $1 - a/b$ has
#    the derivative $\frac{a/b - 2 T_i}{b}$. Then $\frac{\partial p_i}{\partial \ell_i} = p_i (1 - p_i)$.
#
# 3. Sum over axes 1 and 2 with `keepdim=True`; `gradient = p * (1 - p) * (above / below - 2 * truth) / below`.

# %% tags=["demo"]
start = torch.full((1, 16, 16), -1.0, dtype=torch.float64)
object_of = torch.zeros(1, 16, 16, dtype=torch.float64)
object_of[:, 6:9, 6:9] = 1
shares = []
for _ in range(60):
    loss, slope = dice(start, object_of, 1.0)
    shares.append((float(loss), float((slope.abs() * object_of).sum() / slope.abs().sum())))
    start = start - 60 * slope
figure, axes = plt.subplots(figsize=(5.6, 3), layout="constrained")
for values, name, colour in zip(
    zip(*shares, strict=True), ("loss", "object's share of the gradient"), (INK, ACCENT), strict=True
):
    axes.plot(values, color=colour, label=name)
axes.set(xlabel="step of descent, by your gradient", ylim=(0, 1), title="An object of 9 in 256 pixels")
axes.legend()
plt.show()

# %% [markdown]
# ## 17.4 The best of several masks (2 points, 20 minutes, medium)
#
# $K$ masks answer a prompt. Given the loss of each, return one number: the **mean over the batch of the smallest** loss
# of each sample, with weight `1 - shared`; plus the mean of all losses with weight `shared`; plus the mean **squared
# error of all ratings**, each of which shall be the IoU of its own mask with the truth. A mask is where its logit is
# above 0. The IoU is intersection over union, 1 if both are empty, and has no gradient.
#
# **Without:** `mask_loss`, `iou_of`.


# %% solution="17.4"
def answers_loss(each: Tensor, logits: Tensor, rating: Tensor, truth: Tensor, shared: float) -> Tensor:
    """The loss, a scalar.

    Args:
        each: losses of the masks, (B, K).
        logits: of the masks, (B, K, H, W).
        rating: predicted IoU, (B, K).
        truth: (B, H, W) bool, perhaps nowhere true.
        shared: in [0, 1].
    """
    ### BEGIN SOLUTION
    mask, wanted = logits > 0, truth[:, None]
    both, either = (mask & wanted).sum((2, 3)), (mask | wanted).sum((2, 3))
    iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)
    best = (1 - shared) * each.min(dim=1).values.mean() + shared * each.mean()
    return best + (rating - iou).square().mean()
    ### END SOLUTION


# %% check="17.4" points=2
each = normal(4, 3, seed=4).abs()
logits = 1.5 * normal(4, 3, 5, 6, seed=5)
rating = normal(4, 3, seed=6).sigmoid()
truth = normal(4, 5, 6, seed=7) > 0.3
truth[3] = False
logits[3, 0] = -logits[3, 0].abs() - 0.1  # an empty mask of an empty truth


def loss_of(shared: float, each: Tensor = each, rating: Tensor = rating) -> Tensor:
    """The answer, a scalar."""
    with untouched(each=each, logits=logits, rating=rating, truth=truth), unaided(mask_loss, iou_of):
        return is_tensor(answers_loss(each, logits, rating, truth, shared), (), "the loss, one number,")


def pixels_of(lit: Tensor) -> set[int]:
    return set(lit.flatten().nonzero()[:, 0].tolist())


def quality(cut: float, dice: bool = False, empty: float = 1.0) -> Tensor:
    """The IoU of each mask, by sets of pixels; or with one thing changed."""
    found = torch.zeros(4, 3, dtype=torch.float64)
    for b in range(4):
        for k in range(3):
            ours, theirs = pixels_of(logits[b, k] > cut), pixels_of(truth[b])
            inside, outside = len(ours & theirs), len(ours) + len(theirs) if dice else len(ours | theirs)
            found[b, k] = (1 + dice) * inside / outside if outside else empty
    return found


iou = quality(0.0)
error = (rating - iou).square().mean()
out, least = float(loss_of(0.0)), each.min(1).values
soft = logits.sigmoid() * truth[:, None]
blurred = soft.sum((2, 3)) / (logits.sigmoid() + truth[:, None] - soft).sum((2, 3))
chosen = torch.arange(4), each.argmin(1)
for wrong, says in (
    (each.mean() + error, "the mean of all losses: with shared = 0 only the smallest of each sample counts"),
    (each.min() + error, "the smallest loss of the whole batch: each sample has a best mask of its own"),
    (each.mean(0).min() + error, "one mask for all samples: the minimum comes before the mean over the batch"),
    (each.min(0).values.mean() + error, "the minimum over the batch: it goes over the masks, dimension 1"),
    (least.sum() + error, "a sum over the batch: its mean is asked for"),
    (each.max(1).values.mean() + error, "that is the worst mask"),
    (each.gather(1, iou.argmax(1, keepdim=True)).mean() + error, "the best by IoU: the smallest loss decides"),
    (each.gather(1, rating.argmax(1, keepdim=True)).mean() + error, "the best by rating: the smallest loss decides"),
    (least.mean(), "the error of the ratings is missing"),
    (least.mean() + (rating - iou).abs().mean(), "the error of the ratings is squared"),
    (least.mean() + (rating - iou).square().sum(), "the squared error is a mean over samples and masks"),
    (least.mean() + (rating - iou)[chosen].square().mean(), "all ratings are trained, not that of the best mask alone"),
    (least.mean() + (rating - quality(0.5)).square().mean(), "logits are cut off at 0, which is a probability of 1/2"),
    (least.mean() + (rating - quality(0.0, True)).square().mean(), "this is dice: IoU is intersection over union"),
    (least.mean() + (rating - quality(0.0, empty=0.0)).square().mean(), "two empty masks are alike: their IoU is 1"),
    (least.mean() + (rating - blurred).square().mean(), "the IoU is that of masks, not of probabilities"),
):  # fmt: skip
    assert abs(out - float(wrong)) > 1e-6, says
assert abs(out - float(least.mean() + error)) < 1e-6, (
    "the mean of the smallest losses plus the mean squared error of ratings"
)
for shared in (0.25, 1.0):
    found = float(loss_of(shared))
    assert abs(found - float((1 - shared) * each.mean() + shared * least.mean() + error)) > 1e-9, (
        "the weights are exchanged: `shared` is that of the mean over all masks"
    )
    assert abs(found - float(least.mean() + shared * each.mean() + error)) > 1e-9, "the smallest has weight 1 - shared"
    assert abs(found - float((1 - shared) * least.mean() + shared * each.mean() + error)) < 1e-6, "wrong for shared > 0"
with torch.enable_grad():
    leaves = each.clone().requires_grad_(), rating.clone().requires_grad_()
    back = answers_loss(leaves[0], logits, leaves[1], truth, 0.0)
    assert back.requires_grad, "the loss has no gradient: do not leave torch"
    slopes = torch.autograd.grad(back, leaves, allow_unused=True)
assert slopes[0] is not None, "the losses get no gradient"
assert slopes[1] is not None, "the ratings get no gradient"
expected = torch.zeros(4, 3).double()
expected[chosen] = 0.25
assert near(slopes[0], expected, 1e-6), "only the best mask of each sample gets a gradient, 1 / B"
### BEGIN HIDDEN TESTS
assert near(slopes[1], 2 * (rating - iou) / 12, 1e-6), "each rating's gradient is 2 (rating - IoU) / (B K)"
### END HIDDEN TESTS

# %% [markdown] hints="17.4"
# 1. Three means: of the smallest loss of each sample, of all losses, of the squared errors.
#
# 2. `each.min(dim=1).values.mean()` is the first. Masks are `logits > 0`, of shape (B, K, H, W); `truth[:, None]` fits.
#
# 3. `both = (mask & wanted).sum((2, 3))`, `either` with `|`; `torch.where(either > 0, both / either.clamp(min=1),
#    1.0)`.

# %% [markdown]
# ## 17.5 The next click (1 point, 15 minutes, medium)
#
# A person sees a mask and the truth, and clicks where most is wrong. Of each sample compare two regions: what is
# *missing* (true, not predicted) and what is *too much* (predicted, not true). Take the one with more pixels (the
# missing one if both have as many). Number its pixels row by row, $0 \dots n - 1$, and click on number $\lfloor
# \text{chance} \cdot n \rfloor$. The label is 1 if it is missing, 0 if it is too much. Where nothing is wrong the point
# is (0, 0) and the label -1.
#
# (The lecture's person is less decided, and clicks on any wrong pixel of both regions.)
#
# **Without:** `error_click`, `pick_pixel`.


# %% solution="17.5"
def next_click(truth: Tensor, predicted: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
    """Points (B, 2), x and y, and labels (B,), both of integers.

    Args:
        truth, predicted: (B, H, W) bool.
        chance: (B,) in [0, 1).
    """
    ### BEGIN SOLUTION
    points, labels = torch.zeros(len(truth), 2, dtype=torch.long), torch.full((len(truth),), -1)
    for b in range(len(truth)):
        missing, extra = (truth[b] & ~predicted[b]).nonzero(), (predicted[b] & ~truth[b]).nonzero()
        region, label = (missing, 1) if len(missing) >= len(extra) else (extra, 0)
        if len(region):
            points[b] = region[int(chance[b] * len(region))].flip(0)
            labels[b] = label
    return points, labels
    ### END SOLUTION


# %% check="17.5" points=1
wanted = torch.zeros(5, 4, 6, dtype=torch.bool)
made = wanted.clone()
wanted[0, 1, 1:5] = True  # four pixels are missing, one is too much
made[0, 3, 0] = True
wanted[1, 0, 0] = True  # one is missing, three are too much
made[1, 2, 3:6] = True
wanted[2, 2:, 4] = True  # two of each
made[2, 0, :2] = True
wanted[3, 1:3, 1:3] = made[3, 1:3, 1:3] = True  # nothing is wrong
wanted[4, :, 2] = True  # a column, half of which is there
made[4, :2, 2] = True
luck = torch.tensor([0.9, 0.3, 0.9, 0.3, 0.1])


def clicks_of(
    luck: Tensor = luck, truth: Tensor = wanted, predicted: Tensor = made
) -> tuple[list[list[int]], list[int]]:
    """The answer as lists."""
    with untouched(truth=truth, predicted=predicted, chance=luck), unaided(error_click, pick_pixel):
        back = next_click(truth, predicted, luck)
    assert isinstance(back, tuple), "return two tensors: the points and the labels"
    assert len(back) == 2, f"return the points and the labels, got {len(back)}"
    points = is_tensor(back[0], (len(truth), 2), "the points")
    labels = is_tensor(back[1], (len(truth),), "the labels")
    return [[round(float(v)) for v in point] for point in points], [round(float(label)) for label in labels]


places, labels = clicks_of()
assert places[0] != [1, 4], "the points are (row, column): x comes first"
assert labels[:2] != [0, 1] or places[0][1] != 1, "the labels are exchanged: 1 is for what is missing"
assert (places[:2], labels[:2]) != ([[0, 3], [3, 2]], [0, 0]), (
    "this draws from all wrong pixels, as the lecture does: here the larger region is chosen first, then the pixel"
)
assert (places[0], labels[0]) != ([0, 3], 0), "the smaller region: the person clicks where more is wrong"
assert labels[3] == -1, "nothing is wrong in sample 3: its label is -1"
assert places[3] == [0, 0], "nothing is wrong in sample 3: its point is (0, 0)"
assert labels[2] == 1, "as much is missing as is too much: then what is missing is clicked"
inside = [bool(wanted[b, y, x] != made[b, y, x]) for b, (x, y) in enumerate(places)]
assert all(inside[b] for b in (0, 1, 2, 4)), "a click lies where nothing is wrong: take the difference of the masks"
assert places[0][1] == 1, "the point is not in the larger region: choose the region first, then the pixel"
starts = clicks_of(torch.zeros(5))[0]
assert clicks_of(torch.full((5,), 0.999))[0][0] != starts[0], "the chance has no effect: all pixels are as probable"
assert starts[0] == [1, 1], "with chance 0 it is the first pixel of the region"
assert clicks_of(torch.full((5,), 0.999))[0][0] == [4, 1], "with a chance near 1 it is the last pixel of the region"
assert places == [[4, 1], [3, 2], [4, 3], [0, 0], [2, 2]], f"expected pixel floor(chance n) of the region, got {places}"
assert labels == [1, 0, 1, -1, 1], f"the labels should be [1, 0, 1, -1, 1], got {labels}"
block = torch.zeros(1, 4, 6, dtype=torch.bool)
block[0, 1:3, 1:4] = True  # two rows of three pixels are missing
numbered = [clicks_of(torch.tensor([(k + 0.5) / 6]), block, torch.zeros_like(block))[0][0] for k in range(6)]
by_rows = [[x, y] for y in (1, 2) for x in (1, 2, 3)]
assert numbered != sorted(by_rows), "the pixels are numbered column by column: number them row by row"
assert numbered == by_rows, f"the six pixels of a block, row by row, should be {by_rows}, got {numbered}"
### BEGIN HIDDEN TESTS
assert clicks_of(torch.tensor([0.5]), made[:1], wanted[:1]) == ([[3, 1]], [0]), "wrong with the masks exchanged"
### END HIDDEN TESTS

# %% [markdown] hints="17.5"
# 1. `(truth & ~predicted)` and `(predicted & ~truth)`; count both.
#
# 2. `nonzero()` lists the pixels of a region row by row, as (row, column): turn it around for (x, y).
#
# 3. For each sample: `region[int(chance[b] * len(region))].flip(0)`, unless the region is empty.

# %% [markdown]
# ## 17.6 Stability (1 point, 10 minutes, easy)
#
# How much of a mask depends on where its logits are cut off? Return the number of pixels with a logit above `offset`
# over the number of those above `-offset`, of each mask; 0 where there are none at all.
#
# **Without:** `stability_score`.


# %% solution="17.6"
def stability(logits: Tensor, offset: float) -> Tensor:
    """The stability of each mask, (...).

    Args:
        logits: (..., H, W).
        offset: positive.
    """
    ### BEGIN SOLUTION
    high, low = ((logits > cut).sum((-2, -1)).double() for cut in (offset, -offset))
    return torch.where(low > 0, high / low.clamp(min=1), 0.0)
    ### END SOLUTION


# %% check="17.6" points=1
logits = 2 * normal(2, 3, 6, 5, seed=8)
logits[1, 2] = -9.0


def stability_of(offset: float, logits: Tensor = logits) -> Tensor:
    """The answer, one number a mask."""
    with untouched(logits=logits), unaided(stability_score):
        return is_tensor(stability(logits, offset), tuple(logits.shape[:-2]), "the stability, one number a mask,")


def areas(cut: float) -> Tensor:
    """The pixels above a cut, counted one by one; (2, 3)."""
    counts = [[sum(value > cut for value in mask.flatten().tolist()) for mask in row] for row in logits]
    return torch.tensor(counts).double()


try:
    out = stability_of(1.0)
except AssertionError as error:
    if "finite" in str(error):
        raise AssertionError("an empty mask gives 0 / 0: its stability is 0") from error
    raise
some = torch.tensor([[True, True, True], [True, True, False]])
right = areas(1.0) / areas(-1.0)
chance = logits.sigmoid()
for wrong, says in (
    (1 / right, "it is upside down: the smaller area is above"),
    (areas(1.0) / areas(0.0), "the lower cut is at -offset, not at 0"),
    (areas(0.0) / areas(-1.0), "the higher cut is at offset, not at 0"),
    (areas(-1.0) - areas(1.0), "a difference of areas: their ratio is asked for"),
    (areas(1.0) / 30, "the area above the offset over the image: over the area above -offset"),
    ((logits.abs() > 1).sum((-2, -1)) / 30, "these are the pixels that are certain: stability is of the mask alone"),
    (torch.ones_like(right), "both cuts are the same: one is at offset, one at -offset"),
    (areas(1.0).sum() / areas(-1.0).sum() + 0 * right, "one number for the whole batch: each mask has its own"),
):  # fmt: skip
    assert not near(out[some], wrong[some], 1e-6), says
assert float(out[1, 2]) == 0, "an empty mask has stability 0"
assert near(out[some], right[some], 1e-6), "expected the area above offset over the area above -offset"
assert near(stability_of(0.3)[some], (areas(0.3) / areas(-0.3))[some], 1e-6), (
    "wrong for another offset: use it as it comes"
)
assert near(stability_of(1.0, logits[0, 0]), right[0, 0], 1e-6), "right for a batch and wrong for a single mask"
even = torch.tensor([[[1.0, -1.0], [3.0, 0.0]]])  # two logits lie on a cut
assert near(stability_of(1.0, even), 1 / 3, 1e-6), "a logit that is equal to a cut is not above it: > and not >="
### BEGIN HIDDEN TESTS
assert float(stability_of(1.0, torch.full((1, 2, 2), 5.0))[0]) == 1, "a mask that is certain has stability 1"
### END HIDDEN TESTS

# %% [markdown] hints="17.6"
# 1. Two masks of the same logits: how many pixels has each?
#
# 2. Sum `logits > offset` and `logits > -offset` over the last two axes. Beware of 0 / 0.
#
# 3. `torch.where(low > 0, high / low.clamp(min=1), 0.0)`.

# %% [markdown]
# ## 17.7 Each of them once (2 points, 20 minutes, hard)
#
# Non-maximum suppression of masks. Go through them from the highest score down (of equal ones the first comes first).
# Keep a mask unless its IoU with one that has been *kept* is above `most`. Return the indices of those that are kept,
# best first. No mask is empty; there may be no masks at all.
#
# **Without:** `suppress`, `automatic_masks`.


# %% solution="17.7"
def once(masks: Tensor, scores: Tensor, most: float) -> Tensor:
    """The indices of what is kept, best first, integers.

    Args:
        masks: (M, H, W) bool, none of them empty.
        scores: (M,).
        most: the largest IoU of two that are kept.
    """
    ### BEGIN SOLUTION
    kept: list[int] = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        overlaps = [(masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum() for j in kept]
        if all(overlap <= most for overlap in overlaps):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)
    ### END SOLUTION


# %% check="17.7" points=2
def strips(*ranges: tuple[int, int]) -> Tensor:
    """Masks of one row of 20 pixels, each from a first to before a last pixel; (M, 1, 20)."""
    place = torch.arange(20)
    return torch.stack([(place >= first) & (place < last) for first, last in ranges])[:, None]


def kept_of(masks: Tensor, scores: Tensor, most: float) -> list[int]:
    """The answer as a list."""
    with untouched(masks=masks, scores=scores), unaided(suppress, automatic_masks):
        out = once(masks, scores, most)
    assert isinstance(out, Tensor), f"the indices must be a tensor, got {type(out).__name__}: is something returned?"
    assert out.dtype != torch.bool, "these are true and false for each mask: the indices of the kept ones are asked for"
    assert out.ndim == 1, f"the indices must have shape (kept,), got {tuple(out.shape)}"
    assert not (len(out) and out.dtype.is_floating_point), f"indices are integers, got {out.dtype}"
    return [int(i) for i in out]


nested = strips((0, 20), (0, 5))
assert sorted(kept_of(nested, torch.tensor([0.5, 0.6]), 0.5)) == [0, 1], (
    "a small mask within a large one: the IoU divides by the union, not by the smaller of the two"
)
# IoU of neighbours 8 / 12, of masks two apart 6 / 14, ... : a chain in which each hides the next
chain = strips((0, 10), (2, 12), (4, 14), (6, 16))
falling = torch.tensor([0.9, 0.8, 0.7, 0.6])
assert kept_of(chain, falling, 0.5) != [0], (
    "a mask that was thrown away still hides others: compare only with those that are kept"
)
assert kept_of(chain, falling, 0.5) != [3, 1], "the lowest score came first: begin with the highest"
assert kept_of(chain, falling, 0.5) == [0, 2], f"of the chain masks 0 and 2 stay, got {kept_of(chain, falling, 0.5)}"
assert kept_of(chain, falling.flip(0), 0.5) != [1, 3], "best first: the indices are in the order of the scores"
assert kept_of(chain, falling.flip(0), 0.5) == [3, 1], "the order of the masks was taken for that of the scores"
assert kept_of(chain, falling, 1.0) == [0, 1, 2, 3], "with most = 1 nothing is thrown away"
pairs = strips((0, 12), (4, 16))  # IoU 8 / 16
assert kept_of(pairs, torch.tensor([0.5, 0.6]), 0.5) == [1, 0], "an IoU equal to most is allowed: only above it"
hollow = torch.ones(2, 4, 4, dtype=torch.bool)
hollow[0, 1:3, 1:3] = False
hollow[0, 0, 1] = hollow[0, 1, 0] = hollow[0, 2, 0] = hollow[0, 3, 1] = False
assert kept_of(hollow, torch.tensor([0.9, 0.8]), 0.6) == [0, 1], "masks are compared, not the boxes around them"
assert kept_of(strips((0, 10), (0, 10), (10, 20)), torch.tensor([0.5, 0.5, 0.5]), 0.5) == [0, 2], (
    "of equal scores the first comes first, and a copy of a mask is thrown away"
)
assert kept_of(torch.zeros(0, 4, 4, dtype=torch.bool), torch.zeros(0), 0.5) == [], "with no masks nothing is kept"
many = normal(60, 6, 6, seed=9)
many = torch.nn.functional.avg_pool2d(many[:, None], 3, 1, 1)[:, 0] > -0.1
scores = normal(60, seed=10)
for most in (0.207, 0.413, 0.611):  # no IoU of such masks: rounding decides nothing
    expected = suppress(iou_of(many[:, None], many[None]), scores, most).tolist()
    assert kept_of(many, scores, most) == expected, f"wrong for 60 random masks and most = {most:g}"
ties = scores.round()
expected = suppress(iou_of(many[:, None], many[None]), ties, 0.413).tolist()
assert kept_of(many, ties, 0.413) == expected, (
    "of many equal scores the first does not always come first: a sort keeps their order only with stable=True"
)
### BEGIN HIDDEN TESTS
assert kept_of(many[:1], scores[:1], 0.1) == [0], "wrong for one mask"
apart = strips((0, 5), (10, 15))
assert kept_of(apart, torch.tensor([0.1, 0.2]), 0.0) == [1, 0], "masks that do not touch are all kept"
### END HIDDEN TESTS

# %% [markdown] hints="17.7"
# 1. A list of kept masks, empty at first, and one pass from the best score down.
#
# 2. For each candidate compute the IoU with all masks in the list. Those that were thrown away are not in it.
#
# 3. `for i in scores.argsort(descending=True, stable=True).tolist(): ...`, and
#    `(masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum()`.

# %% tags=["demo"]
centres, radii = 16 * torch.rand(80, 2, generator=seeded(11)), 2 + 2 * torch.rand(80, generator=seeded(12))
y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
disks = (x - centres[:, 0, None, None]).square() + (y - centres[:, 1, None, None]).square() < radii[
    :, None, None
].square()
limits = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
figure, axes = plt.subplots(figsize=(5.6, 3), layout="constrained")
axes.plot(limits, [len(once(disks, radii, most)) for most in limits], "o-", color=BLUE)
axes.set(
    xlabel="largest IoU of two that are kept", ylabel="disks that are kept (yours)", title="80 disks", ylim=(0, 82)
)
plt.show()

# %% [markdown]
# ## How to be graded
#
# Save the notebook and run `flowlib grade 17_segment_anything.ipynb`. It prints a table of the questions with your
# points, and the hint of each check that failed. In the library the same things are `visible_patches`
# (`flowlib/nets/mae.py`), `FourierFeatures` (`flowlib/nets/prompts.py`), `dice_loss` (without smoothing), `mask_loss`
# and `iou_of` (`flowlib/systems/mask_losses.py`), `stability_score` and `suppress`
# (`flowlib/systems/automatic_masks.py`). `error_click` (`flowlib/systems/clicks.py`) is similar to 17.5, but draws from
# all wrong pixels.
