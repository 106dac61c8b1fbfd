# %% [markdown]
# # Exercise 16. LoRA and ControlNet
#
# You build what lecture 16 derives: a layer with adapters; the first step of a LoRA; the best adapter of a rank, for a
# convolution; the gradients of a convolution of zeros; additions to skip connections; what a control adds to a
# velocity, in closed form; and a measure of how well edges agree.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right;
# when it is wrong, it says what probably went wrong. The grader runs these checks and a few more. `hint("16.1")` gives
# a hint; asked again, it says more, three times. Every question stands on its own. Arguments are never to be changed.
#
# **Without** in a question names functions that solve it already: an answer that calls one of them gets no points.
#
# **Needed before:** [lecture 16](../lectures/16_lora_and_controlnet.ipynb). **Time:** about 90 minutes. **Points:** 10.

# %%
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.course.notebook import exercise, unaided
from flowlib.data import Scenes
from flowlib.metrics.agreement import edge_f1
from flowlib.nets import Controlled
from flowlib.nets.lora import add_lora, load_lora, merge
from flowlib.plotting.style import ACCENT, GREY

hint = exercise("16_lora_and_controlnet").hint


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard Gaussian numbers, in double precision: the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(found: Tensor, expected: Tensor | float, tolerance: float = 1e-9) -> bool:
    """Whether tensors agree, relative to their size; NaN agrees with nothing."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    return bool(((found.detach().double() - expected).abs() <= tolerance * (1 + expected.abs())).all())


def is_tensor(found: object, shape: tuple[int, ...], what: str) -> Tensor:
    """Assert that `found` is a finite tensor of that shape, and return it."""
    assert isinstance(found, Tensor), f"{what} must be a tensor, got {type(found).__name__}: is something returned?"
    assert tuple(found.shape) == shape, f"{what} must have shape {shape}, got {tuple(found.shape)}"
    assert found.is_floating_point(), f"{what} must be of floating point, got {found.dtype}"
    assert bool(torch.isfinite(found).all()), f"{what} must be finite, and has NaN or infinite entries"
    return found


def are_tensors(found: object, shapes: Sequence[tuple[int, ...]], what: str) -> tuple[Tensor, ...]:
    """Assert that `found` is a tuple or list of finite tensors of these shapes, and return it."""
    assert isinstance(found, tuple | list), f"return {len(shapes)} tensors, got {type(found).__name__}"
    assert len(found) == len(shapes), f"return {len(shapes)} tensors, got {len(found)}"
    return tuple(is_tensor(one, shape, what) for one, shape in zip(found, shapes, strict=True))


@contextmanager
def untouched(*arguments: Tensor) -> Iterator[None]:
    """Assert that tensors are afterwards what they were."""
    before = [value.clone() for value in arguments]
    yield
    for value, then in zip(arguments, before, strict=True):
        assert torch.equal(value, then), "an argument was changed: work on a new tensor"


# %% [markdown]
# ## 16.1 A layer with adapters (1 point, 10 minutes, easy)
#
# A linear layer has the weight $W$ and the bias $b$, and some adapters, each with its $A$, $B$, $\alpha$ and a weight
# $w$. Its rank is the number of rows of $A$. Return $\big(W + \sum_j w_j \frac{\alpha_j}{r_j} B_j A_j\big) x + b$ for
# each row of `x`.
#
# **Without:** `add_lora`, `load_lora`, `merge`.


# %% solution="16.1"
def adapted(x: Tensor, weight: Tensor, bias: Tensor, adapters: Sequence[tuple[Tensor, Tensor, float, float]]) -> Tensor:
    """The layer's outputs (N, m).

    Args:
        x: (N, n).
        weight: (m, n); bias: (m,).
        adapters: of each A (r, n), B (m, r), alpha and w; perhaps none, and perhaps of several ranks.
    """
    ### BEGIN SOLUTION
    out = x @ weight.T + bias
    for A, B, alpha, w in adapters:
        out = out + w * alpha / len(A) * (x @ A.T) @ B.T
    return out
    ### END SOLUTION


# %% check="16.1" points=1
x, weight, bias = normal(4, 6, seed=1), normal(5, 6, seed=2), normal(5, seed=3)
first = (normal(2, 6, seed=4), normal(5, 2, seed=5), 9.0, 1.0)
second = (normal(3, 6, seed=6), normal(5, 3, seed=7), 2.0, -0.5)


def layer_of(adapters: Sequence[tuple[Tensor, Tensor, float, float]]) -> Tensor:
    """What the library's layer says."""
    net = nn.Sequential(nn.Linear(6, 5)).double()
    with torch.no_grad():
        net[0].weight.copy_(weight)
        net[0].bias.copy_(bias)
        for number, (A, B, alpha, w) in enumerate(adapters):
            state = {"0.A": A, "0.B": B, "alpha": torch.tensor(alpha)}
            load_lora(net, state, w, name=str(number))
        return net(x)


def answered(adapters: Sequence[tuple[Tensor, Tensor, float, float]]) -> Tensor:
    """The answer, (4, 5)."""
    with untouched(x, weight, bias, *first[:2], *second[:2]), unaided(add_lora, load_lora, merge):
        return is_tensor(adapted(x, weight, bias, adapters), (4, 5), "the outputs")


plain = x @ weight.T + bias
none, out = answered([]), answered([first])
once = layer_of([first])
assert not (near(none, plain - bias) and near(out, once)), "the bias is added once, not once for each adapter"
assert not (near(none, torch.zeros_like(plain)) and near(out, once)), (
    "the plain layer is added once, not once for each adapter: without adapters it is there too"
)
assert near(none, plain), "without adapters it is the plain layer, with its bias"
assert not near(out, once + bias), "the bias is added once, and not with an adapter again"
update = first[1] @ first[0]
assert not near(out, plain + x @ update.T), "the update must be scaled by alpha / r"
assert not near(out, plain + 9 * x @ update.T), "alpha is divided by the rank, the number of rows of A"
assert not near(out, plain + 9 * 2 * x @ update.T), "alpha is divided by the rank, not multiplied"
assert not near(out, plain + 9 / 6 * x @ update.T), "r is the number of rows of A, not of its columns"
assert near(out, once), "one adapter: W x + alpha / r B A x + b"
out, right = answered([first, second]), layer_of([first, second])
assert not near(out, layer_of([first, (*second[:3], 1.0)])), "each adapter's update is multiplied by its weight w"
assert not near(out, layer_of([second])), "only the last adapter is there: they are added up"
assert not near(out, right + bias), "with the second adapter the bias came in again: one bias for all"
assert near(out, right), "each adapter has a rank of its own, and a weight of its own"
### BEGIN HIDDEN TESTS
assert near(answered([second, first, first]), layer_of([second, first, first])), "wrong for three adapters"
### END HIDDEN TESTS

# %% [markdown] hints="16.1"
# 1. The plain layer first. Each adapter adds a term of its own.
#
# 2. For rows `x`, $A x$ is `x @ A.T` and has $r$ numbers; $B$ takes them to $m$.
#
# 3. `out = out + w * alpha / len(A) * (x @ A.T) @ B.T` for each adapter.

# %% [markdown]
# ## 16.2 The first step (1 point, 10 minutes, medium)
#
# A LoRA with $B = 0$ makes one step of gradient descent of size $\eta$ on $A$ and $B$. $G = \partial L / \partial W$ is
# the gradient of the full weight. Return by how much the *weight* $W_0 + \frac{\alpha}{r} B A$ changes, and the cosine
# of the angle between this change and $-G$, the direction of a full step: $\langle \Delta W, -G \rangle / (\|\Delta W\|
# \|G\|)$.
#
# **Without:** `add_lora`, `load_lora`.


# %% solution="16.2"
def first_step(G: Tensor, A: Tensor, alpha: float, eta: float) -> tuple[Tensor, float]:
    """The change of the weight (m, n), and the cosine.

    Args:
        G: (m, n).
        A: (r, n).
        alpha, eta: as above.
    """
    ### BEGIN SOLUTION
    s = alpha / len(A)
    change = -eta * s**2 * G @ A.T @ A
    return change, float(-(change * G).sum() / (change.norm() * G.norm()))
    ### END SOLUTION


# %% check="16.2" points=1
G, A = normal(5, 8, seed=11), normal(3, 8, seed=12)


def stepped(alpha: float, eta: float) -> tuple[Tensor, float]:
    """The change by autograd, and the cosine."""
    a, b = A.clone().requires_grad_(), torch.zeros(5, 3, dtype=torch.float64).requires_grad_()
    of_a, of_b = torch.autograd.grad((G * (alpha / 3 * b @ a)).sum(), (a, b))
    change = alpha / 3 * (-eta * of_b) @ (A - eta * of_a)
    return change, float(-(change * G).sum() / change.norm() / G.norm())


def tried(alpha: float, eta: float) -> tuple[Tensor, float]:
    """The answer."""
    with untouched(G, A), unaided(add_lora, load_lora):
        back = first_step(G, A, alpha, eta)
    assert isinstance(back, tuple | list), f"return the change and the cosine, got {type(back).__name__}"
    assert len(back) == 2, f"return the change and the cosine, got {len(back)} things"
    return is_tensor(back[0], (5, 8), "the change"), float(back[1])


change, cosine = tried(6.0, 0.1)
right, angle = stepped(6.0, 0.1)
assert not near(change, -right), "the sign: descent goes against the gradient"
assert not near(change, right / 2), "the scale comes in twice: in the gradient of B, and in front of B A"
assert not near(change, right / 4), "the scale alpha / r is missing"
assert not near(change, right * 9), "the scale is alpha / r, with r the number of rows of A"
assert not near(change, -0.1 * G), "this is the full step: B moves, by -eta s G Aᵀ, and A is what it was"
projection = torch.linalg.pinv(A) @ A
assert not near(change, -0.1 * 4 * G @ projection), (
    "AᵀA is no projection, unless the rows of A are orthonormal: nothing is to be normalised"
)
assert near(change, right), "the step is B = -eta s G Aᵀ, and the weight's change s B A"
assert abs(cosine + angle) > 1e-9, "the sign of the cosine: with -G, as the step goes downhill"
assert abs(cosine - angle) < 1e-9, "the cosine: the inner product with -G, over both norms"
other, right = tried(1.5, 0.02), stepped(1.5, 0.02)
assert near(other[0], right[0]), "use alpha and eta as they come"
assert abs(other[1] - angle) < 1e-9, "the angle depends on neither alpha nor eta"

# %% [markdown] hints="16.2"
# 1. What is the gradient of $A$ while $B$ is zero? So what moves?
#
# 2. $\partial L / \partial B = s\, G A^\top$ with $s = \alpha / r$; after the step the weight is $W_0 + s B A$.
#
# 3. `change = -eta * s**2 * G @ A.T @ A`, and the cosine is `-(change * G).sum() / (change.norm() * G.norm())`.

# %% [markdown]
# ## 16.3 The best adapter of a convolution (2 points, 15 minutes, medium)
#
# A kernel of $o$ output and $i$ input channels and $k \times k$ pixels should change by $D$, of the same shape. Return
# $A$ and $B$ of rank $r$ with which $\frac{\alpha}{r} B A$, seen as a kernel, is as near to $D$ as possible in the sum
# of squares, and the sum of squares of what is left, $\|D - \frac{\alpha}{r} B A\|^2$. Balance them: $A$ and $B$ have
# equal norms. A kernel is a matrix of $o$ rows; its columns are channels and pixels in the kernel's own order.
#
# **Without:** `torch.svd_lowrank`, `torch.pca_lowrank`. (`torch.linalg.svd` is allowed.)


# %% solution="16.3"
def best_adapter(D: Tensor, rank: int, alpha: float) -> tuple[Tensor, Tensor, float]:
    """A (rank, i k k), B (o, rank), and the error.

    Args:
        D: (o, i, k, k).
        rank: at most min(o, i k k).
        alpha: > 0.
    """
    ### BEGIN SOLUTION
    U, sigma, Vh = torch.linalg.svd(D.flatten(1), full_matrices=False)
    root = (sigma[:rank] * rank / alpha).sqrt()
    return root[:, None] * Vh[:rank], U[:, :rank] * root, float(sigma[rank:].square().sum())
    ### END SOLUTION


# %% check="16.3" points=2
D = normal(6, 4, 3, 3, seed=21)
spectrum = torch.linalg.svdvals(D.flatten(1))


def best(D: Tensor, rank: int, alpha: float) -> tuple[Tensor, Tensor, float]:
    """The answer."""
    with untouched(D), unaided(torch.svd_lowrank, torch.pca_lowrank):
        back = best_adapter(D, rank, alpha)
    assert isinstance(back, tuple | list), f"return A, B and the error, got {type(back).__name__}"
    assert len(back) == 3, f"return A, B and the error, got {len(back)} things"
    o, columns = D.flatten(1).shape
    A, B = are_tensors(back[:2], [(rank, columns), (o, rank)], "A or B")
    return A, B, float(back[2])


A, B, error = best(D, 2, 6.0)
target = D.flatten(1)
U, _, Vh = torch.linalg.svd(target, full_matrices=False)
truncated = U[:, :2] * spectrum[:2] @ Vh[:2]
assert not near(B @ A, truncated), "B A alone is the best matrix: it is alpha / r B A that has to be"
assert not near(6 * B @ A, truncated), "the scale is alpha / r, not alpha"
assert not near(6 / 2 * B @ A, U[:, -2:] * spectrum[-2:] @ Vh[-2:]), "the largest singular values are kept"
pixels = D.permute(0, 2, 3, 1).flatten(1)
other = torch.linalg.svd(pixels, full_matrices=False)
mixed = other[0][:, :2] * other[1][:2] @ other[2][:2]
assert not near(3 * B @ A, mixed), "the columns are channels and pixels in the kernel's own order: flatten(1)"
assert near(3 * B @ A, truncated), "alpha / r B A must be the first r terms of the singular value decomposition"
ratio = float(A.norm() / B.norm())
assert abs(ratio - 2 / 6) > 1e-9, "A and B must have equal norms: share r / alpha between them too, A alone has it"
assert abs(ratio - 6 / 2) > 1e-9, "A and B must have equal norms: share r / alpha between them too, B alone has it"
assert abs(ratio - 1) < 1e-9, "A and B must have equal norms: each takes the root of a singular value"
assert abs(error - float(spectrum[2:].sum())) > 1e-9, "the error is a sum of squares"
assert abs(error - float(spectrum[2:].square().sum().sqrt())) > 1e-9, "the error is the sum of squares, not its root"
assert abs(error - float(spectrum[2:].square().mean())) > 1e-9, "the error is a sum, not a mean"
assert abs(error - float(spectrum[2:].square().sum())) < 1e-9, "the error is what the left-out singular values make"
for rank in (1, 6):
    A, B, error = best(D, rank, 1.0)
    left = float((D.flatten(1) - B @ A / rank).square().sum())
    assert abs(left - error) < 1e-9, f"for rank {rank} the error is not that of A and B"
    assert abs(left - float(spectrum[rank:].square().sum())) < 1e-9, f"wrong for rank {rank}"
### BEGIN HIDDEN TESTS
A, B, error = best(normal(9, 2, 1, 1, seed=22), 2, 4.0)
assert near(2 * B @ A, normal(9, 2, 1, 1, seed=22).flatten(1)), "wrong where the rank is that of the kernel"
### END HIDDEN TESTS

# %% [markdown] hints="16.3"
# 1. `D.flatten(1)` is the matrix. Which matrix of rank $r$ is nearest to it?
#
# 2. $U, \sigma, V^\top$ = `torch.linalg.svd(..., full_matrices=False)`; keep the first $r$ terms. $\frac{\alpha}{r} B
#    A$ must be these, so $B A$ is $\frac{r}{\alpha}$ times that.
#
# 3. `root = (sigma[:rank] * rank / alpha).sqrt()`, `A = root[:, None] * Vh[:rank]`, `B = U[:, :rank] * root`; the error
#    is `sigma[rank:].square().sum()`.

# %% [markdown]
# ## 16.4 The gradients of a convolution of zeros (2 points, 15 minutes, medium)
#
# A convolution of $1 \times 1$ pixels, $o = Z \phi + e$ at each pixel. Given are the features $\phi$ that come in,
# the gradient $\gamma$ of the loss for what goes out, and $Z$. Return the gradients of $Z$ as a convolution's weight,
# of $e$, and of $\phi$.
#
# **Without:** automatic differentiation (`torch.autograd.grad`, `backward`, `torch.func`).


# %% solution="16.4"
def zero_gradients(phi: Tensor, gamma: Tensor, Z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of Z (o, i, 1, 1), of e (o,) and of phi (B, i, H, W).

    Args:
        phi: (B, i, H, W).
        gamma: (B, o, H, W).
        Z: (o, i, 1, 1).
    """
    ### BEGIN SOLUTION
    of_Z = torch.einsum("bohw,bihw->oi", gamma, phi)[..., None, None]
    return of_Z, gamma.sum((0, 2, 3)), torch.einsum("oi,bohw->bihw", Z[..., 0, 0], gamma)
    ### END SOLUTION


# %% check="16.4" points=2
phi, gamma, Z = normal(2, 3, 4, 5, seed=31), normal(2, 6, 4, 5, seed=32), normal(6, 3, 1, 1, seed=33)


def by_autograd(phi: Tensor, gamma: Tensor, Z: Tensor) -> tuple[Tensor, ...]:
    """What torch says."""
    leaves = [value.clone().requires_grad_() for value in (Z, torch.zeros(len(Z), dtype=torch.float64), phi)]
    out = F.conv2d(leaves[2], leaves[0], leaves[1])
    return torch.autograd.grad((out * gamma).sum(), leaves)


def gradients(phi: Tensor, gamma: Tensor, Z: Tensor) -> tuple[Tensor, ...]:
    """The answer."""
    shapes = [tuple(Z.shape), (len(Z),), tuple(phi.shape)]
    with untouched(phi, gamma, Z), unaided(torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward):
        back = zero_gradients(phi, gamma, Z)
    return are_tensors(back, shapes, "a gradient")


of_Z, of_e, of_phi = gradients(phi, gamma, Z)
right = by_autograd(phi, gamma, Z)
for name, found, known in zip(("Z", "e", "phi"), (of_Z, of_e, of_phi), right, strict=True):
    assert not near(found, -known), f"the sign of the gradient of {name}: it is no step"
    for share, what in ((2, "the batch"), (20, "the pixels"), (40, "the batch and the pixels")):
        assert not near(found, known / share), f"the gradient of {name} is a mean over {what}: it is a sum"
assert near(of_Z, right[0]), "the gradient of Z is the sum over batch and pixels of gamma phiᵀ"
assert near(of_e, right[1]), "the gradient of e is the sum of gamma over batch and pixels"
assert near(of_phi, right[2]), "the gradient of phi is Zᵀ gamma at each pixel"
zeros = gradients(phi, gamma, torch.zeros_like(Z))
assert near(zeros[0], right[0]) and bool(zeros[0].any()), "with Z = 0 the gradient of Z is what it was"  # noqa: PT018
assert near(zeros[1], right[1]), "with Z = 0 the gradient of e is what it was"
assert not zeros[2].any(), "with Z = 0 nothing reaches phi"
### BEGIN HIDDEN TESTS
one = normal(1, 2, 1, 1, seed=34), normal(1, 2, 1, 1, seed=35), normal(2, 2, 1, 1, seed=36)
for found, known in zip(gradients(*one), by_autograd(*one), strict=True):
    assert near(found, known), "wrong for one pixel"
### END HIDDEN TESTS

# %% [markdown] hints="16.4"
# 1. Write $dL$ for small changes of $Z$, $e$ and $\phi$, and read off what stands beside each.
#
# 2. $dL = \sum_p \gamma(p) \cdot (dZ\, \phi(p) + de + Z\, d\phi(p))$, over the batch and all pixels.
#
# 3. `torch.einsum("bohw,bihw->oi", gamma, phi)[..., None, None]`, `gamma.sum((0, 2, 3))` and
#    `torch.einsum("oi,bohw->bihw", Z[..., 0, 0], gamma)`.

# %% [markdown]
# ## 16.5 Controls that are added (1 point, 10 minutes, easy)
#
# `own` are the features that a locked U-Net's encoders give to its decoders, the largest first, and last those of its
# midcoder. Each control is a function without arguments that returns what it adds, one tensor for each of them. Return
# the list of sums, each control's parts times its strength. A control of strength 0 must not be called, as it would
# only cost time.
#
# **Without:** `Controlled`.


# %% solution="16.5"
def under_controls(
    own: Sequence[Tensor], controls: Sequence[Callable[[], Sequence[Tensor]]], strengths: Sequence[float]
) -> list[Tensor]:
    """The features under the controls, each like the one in `own`.

    Args:
        own: skip connections, then the midcoder's features.
        controls: each returns as many tensors, of the same shapes.
        strengths: one for each control, of any sign.
    """
    ### BEGIN SOLUTION
    found = list(own)
    for control, strength in zip(controls, strengths, strict=True):
        if strength:
            found = [have + strength * part for have, part in zip(found, control(), strict=True)]
    return found
    ### END SOLUTION


# %% check="16.5" points=1
shapes = [(2, 3, 4, 4), (2, 5, 2, 2), (2, 5, 2, 2)]
own = [normal(*shape, seed=40 + i) for i, shape in enumerate(shapes)]
parts = [[normal(*shape, seed=50 + 10 * k + i) for i, shape in enumerate(shapes)] for k in range(3)]
called: list[int] = []


def control_of(number: int) -> Callable[[], list[Tensor]]:
    def control() -> list[Tensor]:
        called.append(number)
        return parts[number]

    return control


def controlled(numbers: Sequence[int], strengths: Sequence[float]) -> tuple[Tensor, ...]:
    """The answer."""
    called.clear()
    with untouched(*own, *(part for one in parts for part in one)), unaided(Controlled):
        back = under_controls(own, [control_of(i) for i in numbers], strengths)
    return are_tensors(back, shapes, "each sum")


def summed(numbers: Sequence[int], strengths: Sequence[float]) -> list[Tensor]:
    return [
        base + sum(w * parts[i][at] for i, w in zip(numbers, strengths, strict=True)) for at, base in enumerate(own)
    ]


assert all(torch.equal(a, b) for a, b in zip(controlled([], []), own, strict=True)), (
    "without a control nothing is added"
)
out, right = controlled([0], [0.8]), summed([0], [0.8])
assert not all(near(a, b) for a, b in zip(out, summed([0], [1.0]), strict=True)), "the strength has no effect"
assert near(out[0], right[0]), "what is added to a skip connection is the strength times the control's part"
assert not near(out[2], own[2]), "the midcoder's features, the last, are controlled too"
assert all(near(a, b) for a, b in zip(out, right, strict=True)), "each of the control's parts goes to its own features"
out, right = controlled([0, 1, 2], [0.8, -0.5, 1.5]), summed([0, 1, 2], [0.8, -0.5, 1.5])
assert not all(near(a, b) for a, b in zip(out, summed([2], [1.5]), strict=True)), "only the last control is there"
mean = [base + (total - base) / 3 for base, total in zip(own, right, strict=True)]
assert not all(near(a, b) for a, b in zip(out, mean, strict=True)), "the controls are added, not averaged"
positive = summed([0, 2], [0.8, 1.5])
assert not all(near(a, b) for a, b in zip(out, positive, strict=True)), (
    "each control is added that has a strength other than 0, also a negative one"
)
sizes = summed([0, 1, 2], [0.8, 0.5, 1.5])
assert not all(near(a, b) for a, b in zip(out, sizes, strict=True)), "a negative strength takes away: keep its sign"
assert all(near(a, b) for a, b in zip(out, right, strict=True)), "all controls are added, each times its strength"
assert sorted(called) == [0, 1, 2], "each control is called once"
out = controlled([0, 1], [0.0, 2.0])
assert called == [1], "a control of strength 0 must not be called"
assert all(near(a, b) for a, b in zip(out, summed([1], [2.0]), strict=True)), "wrong beside a control of strength 0"

# %% [markdown] hints="16.5"
# 1. Begin with a new list of the network's own features, and go through the controls.
#
# 2. Make new tensors (`have + ...`): `+=` would change the arguments.
#
# 3. `if strength: found = [have + strength * part for have, part in zip(found, control(), strict=True)]`.

# %% [markdown]
# ## 16.6 What a control adds to a velocity (2 points, 20 minutes, hard)
#
# Data $z \in \mathbb R^d$ are normal with mean 0 and covariance $S$; the path is linear, $x_t = t z + (1 - t)
# \varepsilon$. The control is $c = h \cdot z + \kappa\, \xi$ with standard Gaussian $\xi$. Return $u_t(x \mid c) -
# u_t(x)$ in closed form, for $0 \le t < 1$.
#
# **Without:** automatic differentiation (`torch.autograd.grad`, `backward`, `torch.func`).


# %% solution="16.6"
def addition(x: Tensor, t: float, S: Tensor, h: Tensor, kappa: float, c: Tensor) -> Tensor:
    """What has to be added to the velocity, (N, d).

    Args:
        x: (N, d).
        t: in [0, 1).
        S: (d, d), positive definite.
        h: (d,).
        kappa: > 0.
        c: (N,).
    """
    ### BEGIN SOLUTION
    spread = t**2 * S + (1 - t) ** 2 * torch.eye(len(S), dtype=S.dtype)
    gain = t * torch.linalg.solve(spread, S)  # (d, d): D = x @ gain
    P = S - t * S @ gain
    miss = c - x @ gain @ h
    return miss[:, None] * (P @ h) / (h @ P @ h + kappa**2) / (1 - t)
    ### END SOLUTION


# %% check="16.6" points=2
root = normal(3, 3, seed=61)
S = root @ root.T + 0.3 * torch.eye(3, dtype=torch.float64)
h, x, c = normal(3, seed=62), normal(5, 3, seed=63), normal(5, seed=64)


def of_law(x: Tensor, t: float, mean: Tensor, S: Tensor) -> Tensor:
    """The velocity of a normal law, a loop over the points."""
    spread = t**2 * S + (1 - t) ** 2 * torch.eye(3, dtype=torch.float64)
    rows = [m + t * S @ torch.linalg.inv(spread) @ (one - t * m) for one, m in zip(x, mean, strict=True)]
    return (torch.stack(rows) - x) / (1 - t)


def exactly(x: Tensor, t: float, kappa: float, c: Tensor) -> Tensor:
    """The difference of the velocities of the law under the control, and without."""
    inverse = torch.linalg.inv(S) + torch.outer(h, h) / kappa**2
    under = torch.linalg.inv(inverse)
    return of_law(x, t, c[:, None] * (under @ h) / kappa**2, under) - of_law(x, t, torch.zeros_like(x), S)


def added(t: float, kappa: float, x: Tensor = x, c: Tensor = c) -> Tensor:
    """The answer."""
    with (
        untouched(x, S, h, c),
        unaided(torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward),
    ):
        return is_tensor(addition(x, t, S, h, kappa, c), tuple(x.shape), "what is added")


out, right = added(0.6, 0.5), exactly(x, 0.6, 0.5, c)
assert not near(out, -right), "the sign: where c is larger than h · E[z | x], go along P h"
assert not near(out, 0.4 * right), "the difference of the denoised images must be divided by 1 - t"
assert not near(out, right / (0.4 / 0.6)), "this is the score's change: the velocity's is b_t = (1 - t) / t times it"
P = torch.linalg.inv(torch.linalg.inv(S) + (0.6 / 0.4) ** 2 * torch.eye(3, dtype=torch.float64))
D = x @ (0.6 / 0.16 * P)
for miss, cov, extra, says in (
    (c - D @ h, S, 0.25, "the covariance is that of z given x_t, smaller than S"),
    (c - x @ h, P, 0.25, "c is compared with h · E[z | x_t], not with h · x"),
    (c, P, 0.25, "c is compared with what x_t already tells, h · E[z | x_t]"),
    (c - D @ h, P, 0.0, "the control is noisy: kappa² is missing in its variance"),
    (c - D @ h, P, 0.5, "the variance of the noise is kappa², not kappa"),
):
    wrong = miss[:, None] * (cov @ h) / (h @ cov @ h + extra) / 0.4
    assert not near(out, wrong), says
assert near(out, right), "E[z | x, c] - E[z | x] is the gain P h / (h · P h + kappa²) times c - h · E[z | x]"
for t, kappa in ((0.1, 2.0), (0.95, 0.1)):
    assert near(added(t, kappa), exactly(x, t, kappa, c), 1e-7), f"wrong for t = {t}, kappa = {kappa}"
assert near(added(0.0, 0.5), exactly(x, 0.0, 0.5, c)), "at t = 0 too: do not divide by t"
### BEGIN HIDDEN TESTS
assert near(added(0.4, 0.7, x[:1], c[:1]), exactly(x[:1], 0.4, 0.7, c[:1])), "wrong for one point"
### END HIDDEN TESTS

# %% [markdown] hints="16.6"
# 1. Both velocities are $(\mathbb E[z \mid \cdot\,] - x) / (1 - t)$. So only the two means of $z$ differ.
#
# 2. Given $x_t$, $z$ is normal with mean $D = t S M^{-1} x$ and covariance $P = S - t^2 S M^{-1} S$, $M = t^2 S + (1 -
#    t)^2 I$. Now $c$ is a noisy measurement of *that* law.
#
# 3. $D_c - D = \frac{P h}{h \cdot P h + \kappa^2}\, (c - h \cdot D)$, over $1 - t$.

# %% [markdown]
# ## 16.7 Edges that agree, nearly (1 point, 10 minutes, medium)
#
# Edges of a painted picture and of its sketch are rarely in the same pixel. An edge pixel that was found is *right* if
# there is one that is wanted within `within` pixels of it, in rows and in columns: in a square of 2 `within` + 1 pixels
# a side. An edge pixel that is wanted is *met* if there is one that was found so near. Precision $p$ is the share
# of the found that are right, recall $r$ the share of the wanted that are met. Return $F_1 = 2 p r / (p + r)$ for each
# picture: 1 where neither has edges, 0 where only one of them has, or nothing is right.
#
# **Without:** `edge_f1`.


# %% solution="16.7"
def tolerant_f1(found: Tensor, wanted: Tensor, within: int) -> Tensor:
    """The F1 of each picture, (B,), of floating point.

    Args:
        found, wanted: (B, 1, H, W) bool.
        within: pixels, from 0.
    """

    ### BEGIN SOLUTION
    def hits(pixels: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        near = F.max_pool2d(others.double(), 2 * within + 1, stride=1, padding=within) > 0
        return (pixels & near).sum((1, 2, 3)), pixels.sum((1, 2, 3))

    (right, count), (met, asked) = hits(found, wanted), hits(wanted, found)
    p, r = right / count.clamp(min=1), met / asked.clamp(min=1)
    f1 = 2 * p * r / (p + r).clamp(min=1e-12)
    return torch.where((count == 0) & (asked == 0), 1.0, f1)
    ### END SOLUTION


# %% check="16.7" points=1
wanted = torch.zeros(9, 1, 6, 7, dtype=torch.bool)
wanted[:4, 0, 2, 1:6] = True  # a line of five
found = torch.zeros_like(wanted)
found[0] = wanted[0]
found[1, 0, 3, 1:6] = True  # one row lower
found[2, 0, 2:6, 3] = True  # a line of four down from its middle
wanted[3, 0, 0, 0] = found[3, 0, 5, 6] = True
wanted[3, 0, 2] = False
wanted[5:, 0, 2, 3] = True  # one pixel, and where it was found: one row, one column, one of each, two of each away
found[5, 0, 3, 3] = found[6, 0, 2, 4] = found[7, 0, 3, 4] = found[8, 0, 4, 5] = True


def by_loops(found: Tensor, wanted: Tensor, within: int) -> list[float]:
    """The same, pixel by pixel."""
    scores = []
    for one, other in zip(found[:, 0], wanted[:, 0], strict=True):
        a, b = one.nonzero().tolist(), other.nonzero().tolist()

        def share(these: list[list[int]], those: list[list[int]]) -> float:
            close = [any(max(abs(i - k), abs(j - m)) <= within for k, m in those) for i, j in these]
            return sum(close) / len(close)

        if not a or not b:
            scores.append(float(not a and not b))
            continue
        p, r = share(a, b), share(b, a)
        scores.append(2 * p * r / (p + r) if p + r else 0.0)
    return scores


def scored(found: Tensor, wanted: Tensor, within: int) -> Tensor:
    """The answer."""
    with untouched(found, wanted), unaided(edge_f1):
        return is_tensor(tolerant_f1(found, wanted, within), (len(found),), "the scores")


out = scored(found, wanted, 0)
assert abs(float(out[4]) - 1) < 1e-6, "two pictures without edges agree: 1"
assert abs(float(out[3])) < 1e-6, "where nothing is right the score is 0"
assert near(out, torch.tensor(by_loops(found, wanted, 0)), 1e-6), "within 0 pixels it is the F1 of equal pixels"
out = scored(found, wanted, 1)
row, column, corner = (float(value) > 0.99 for value in out[5:8])
assert not row or column, "near in columns too: a square, not rows alone"
assert not column or row, "near in rows too: a square, not columns alone"
oblique = float(scored(found, wanted, 3)[8]) > 0.99  # two rows and two columns away
assert not row or oblique, "a square: rows and columns are not added up, as in a diamond"
assert not row or corner, "a square, corners too, and not a disc around the pixel"
p, r = 2 / 4, 3 / 5
for value, says in (
    (p, "this is the precision alone"),
    (r, "this is the recall alone"),
    ((p + r) / 2, "the mean of the two is not their harmonic mean"),
    (2 * p * (1 / 5) / (p + 1 / 5), "the recall is tolerant too: a wanted pixel is met by a found one nearby"),
    (2 * (1 / 4) * r / (1 / 4 + r), "the precision is tolerant too: a found pixel is right near a wanted one"),
):
    assert abs(float(out[2]) - value) > 1e-6, says
assert abs(float(out[1]) - 1) < 1e-6, "a line that is one row off agrees within 1 pixel"
assert near(out, torch.tensor(by_loops(found, wanted, 1)), 1e-6), "within 1 pixel: a square of 3 x 3 around each"
out = scored(found, wanted, 2)
assert not row or float(out[8]) > 0.99, "within 2 pixels too it is a square: no disc, however it is rounded"
assert near(out, torch.tensor(by_loops(found, wanted, 2)), 1e-6), "within 2 pixels: a square of 5 x 5 around each"
assert near(scored(found, wanted, 5), torch.tensor(by_loops(found, wanted, 5)), 1e-6), "wrong within 5 pixels"
empty = torch.zeros_like(wanted)
assert not scored(empty[:3], wanted[:3], 1).any(), "where only one of the two has edges the score is 0"
assert not scored(wanted[:3], empty[:3], 1).any(), "where only one of the two has edges the score is 0"
### BEGIN HIDDEN TESTS
noise = torch.rand(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(71)) < 0.15
for within in (0, 1, 2):
    assert near(scored(*noise, within), torch.tensor(by_loops(*noise, within)), 1e-6), f"wrong within {within} pixels"
### END HIDDEN TESTS

# %% [markdown] hints="16.7"
# 1. Which pixels are near a wanted one? Those of the wanted edges, drawn with a thicker pen.
#
# 2. `F.max_pool2d(wanted.double(), 2 * within + 1, stride=1, padding=within) > 0` is that pen. Then count.
#
# 3. Precision: `(found & thick_wanted).sum((1, 2, 3)) / found.sum((1, 2, 3)).clamp(min=1)`; recall with the two
#    exchanged. `torch.where` puts 1 where neither has edges.

# %% tags=["demo"]
# alt: Two curves against how many pixels the edges of a scene were moved, from 0 to 4. The score that allows one pixel
#   stays near 1 for a move by one pixel and falls then; the strict one falls at once.
edges = Scenes(split="test").batch(torch.arange(100))["edges"]
moves = list(range(5))
figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for within, colour in ((0, GREY), (1, ACCENT)):
    scores = [float(tolerant_f1(edges.roll(k, 3), edges, within).mean()) for k in moves]
    ax.plot(moves, scores, "o-", color=colour, label=f"within {within} pixels")
ax.set(xlabel="pixels that the edges were moved", ylabel="F1", ylim=(0, 1.05))
ax.legend()
plt.show()
