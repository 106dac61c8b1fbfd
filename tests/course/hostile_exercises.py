"""Two exercises for hostile answers: a few plain questions, and questions whose checks use what checks may use.

A hostile file names its question, "10.1", "11.3"; "1" and "2" are those of exercise 10.
"""

THREE = """# %% [markdown]
# # Exercise 10. Three times
# %%
import torch
# %% [markdown]
# ## 10.1 A tensor (5 points, 1 minute, easy)
# %% solution="10.1"
def times(x):
    ### BEGIN SOLUTION
    return 3 * x
    ### END SOLUTION
# %% check="10.1" points=5
_x = torch.arange(3.0)
found = times(_x)
assert isinstance(found, torch.Tensor), "no tensor"
assert found.shape == (3,), "the shape is lost"
assert torch.allclose(found, 3 * torch.arange(3.0)), "not three times"
assert torch.equal(_x, torch.arange(3.0)), "changed in place"
### BEGIN HIDDEN TESTS
assert times(torch.tensor(7.0)) == 21, "not for every x"
### END HIDDEN TESTS
# %% [markdown] hints="10.1"
# 1. One.
# 2. Two.
# 3. Three.
# %% [markdown]
# ## 10.2 A number (5 points, 1 minute, easy)
# %% solution="10.2"
def count(n):
    ### BEGIN SOLUTION
    return 3 * n
    ### END SOLUTION
# %% check="10.2" points=5
assert count(4) == 12, "not twelve"
assert abs(count(5) - 15) < 1e-9, "not fifteen"
# %% [markdown] hints="10.2"
# 1. One.
# 2. Two.
# 3. Three.
"""

TOOLS = """# %% [markdown]
# # Exercise 11. Tools
# %%
import torch
# %% [markdown]
# ## 11.1 A fresh input (2 points, 1 minute, easy)
# %% solution="11.1"
def lift(x):
    ### BEGIN SOLUTION
    return x**2 + x
    ### END SOLUTION
# %% check="11.1" points=2
for _ in range(4):
    x = torch.randn(20)
    expected = x**2 + x
    found = lift(x.clone())
    assert found.shape == x.shape, "the shape is lost"
    assert torch.allclose(found, expected), "not x^2 + x"
# %% [markdown] hints="11.1"
# 1. One.
# 2. Two.
# 3. Three.
# %% [markdown]
# ## 11.2 Noise from a generator (2 points, 1 minute, easy)
# %% solution="11.2"
def noisy(x, generator):
    ### BEGIN SOLUTION
    return x**2 + x + torch.randn(x.shape, generator=generator)
    ### END SOLUTION
# %% check="11.2" points=2
g, again = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
for _ in range(3):
    x = torch.randn(4, generator=g)
    assert torch.allclose(noisy(x.clone(), g) - x**2 - x, torch.randn(8, generator=again)[4:]), "not this noise"
    again.set_state(g.get_state())
# %% [markdown] hints="11.2"
# 1. One.
# 2. Two.
# 3. Three.
# %% [markdown]
# ## 11.3 Batches, from what a check passes (2 points, 1 minute, easy)
# %% solution="11.3"
def mean(batches, rule, log, place):
    ### BEGIN SOLUTION
    with log:
        values = [rule(batch) for batch in batches]
    return sum(values) / len(values)
    ### END SOLUTION
# %% check="11.3" points=2
import contextlib
from pathlib import Path

expected = 41.5
entered = []


class Rule:
    def __init__(self):
        self.count = 0

    def __call__(self, batch):
        self.count += 1
        return float(batch.sum())


@contextlib.contextmanager
def log():
    entered.append(True)
    yield


rule = Rule()
found = mean((batch for batch in torch.full((4, 5), 8.3, dtype=torch.float64)), rule, log(), Path("notes.txt"))
assert rule.count == 4, "the rule is for each batch"
assert entered == [True], "enter the log"
assert abs(found - expected) < 1e-9, "not the mean"
# %% [markdown] hints="11.3"
# 1. One.
# 2. Two.
# 3. Three.
# %% [markdown]
# ## 11.4 A layer (2 points, 1 minute, easy)
# %% solution="11.4"
def layer(n):
    ### BEGIN SOLUTION
    made = torch.nn.Linear(n, n, bias=False)
    torch.nn.init.eye_(made.weight)
    return made
    ### END SOLUTION
# %% check="11.4" points=2
for n in (3, 5):
    made = layer(n)
    assert isinstance(made, torch.nn.Module), "no module"
    assert sum(p.numel() for p in made.parameters()) == n * n, "not this many parameters"
    assert torch.equal(next(iter(made.parameters())), torch.eye(n)), "not the identity"
    x = torch.randn(2, n, generator=torch.Generator().manual_seed(n))
    assert torch.allclose(made(x), x), "not x"
# %% [markdown] hints="11.4"
# 1. One.
# 2. Two.
# 3. Three.
# %% [markdown]
# ## 11.5 A number (1 point, 1 minute, easy)
# %% solution="11.5"
def square(n):
    ### BEGIN SOLUTION
    return n * n
    ### END SOLUTION
# %% check="11.5" points=1
pairs = [(3, 9), (4, 16), (5, 25)]
assert all(abs(square(n) - right) < 1e-9 for n, right in pairs), "not the square"
assert isinstance(square(2), int | float), "no number"
assert max(float(square(n)) for n in range(4)) == 9.0, "not the square"
assert sorted(square(n) for n in (3, 1, 2)) == [1, 4, 9], "not in order"
# %% [markdown] hints="11.5"
# 1. One.
# 2. Two.
# 3. Three.
# %% [markdown]
# ## 11.6 A derivative (1 point, 1 minute, easy)
# %% solution="11.6"
def cubed(x):
    ### BEGIN SOLUTION
    return x**3
    ### END SOLUTION
# %% check="11.6" points=1
x = torch.tensor([1.0, 2.0, -3.0], requires_grad=True)
y = cubed(x)
(slope,) = torch.autograd.grad(y.sum(), x)
assert torch.allclose(y, x**3), "not the cube"
assert torch.allclose(slope, 3 * x**2), "not its derivative"
# %% [markdown] hints="11.6"
# 1. One.
# 2. Two.
# 3. Three.
"""

SOURCES = {"10_three": THREE, "11_tools": TOOLS}
