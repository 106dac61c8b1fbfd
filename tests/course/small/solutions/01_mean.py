# %% [markdown]
# # Exercise 01. The mean
# %%
import torch


# %% [markdown]
# ## 01.1 Mean (4 points, 5 minutes, easy)
# `mean(x)` of a tensor `x` (n,) is a scalar tensor.
# %% solution="01.1"
def mean(x):
    """The mean of a tensor of shape (n,)."""
    ### BEGIN SOLUTION
    return x.sum() / len(x)
    ### END SOLUTION


# %% check="01.1" points=4
_x = torch.arange(5.0)
_mean = torch.as_tensor(mean(_x))
assert _mean.shape == (), "the mean of a vector is a scalar: is a dimension kept?"
assert _mean != 10, "it grows with the number of entries: is it a sum?"
### BEGIN HIDDEN TESTS
assert mean(torch.ones(3)) == 1, "another tensor has another mean"
### END HIDDEN TESTS
assert (_mean, _x.sum()) == (2, 10), "wrong for 0, 1, 2, 3, 4"
# %% [markdown] hints="01.1"
# 1. What is the sum?
#
# 2. And how many
#    entries are there?
#
# 3. Divide one by the other.
# %% tags=["demo"]
mean(torch.ones(2))


# %% [markdown]
# ## 01.2 Spread (6 points, 5 minutes, easy)
# `spread(x)` is the mean of the squared deviations of `x` (n,).
# %% [markdown] solution="01.2"
# Its derivation.
# %% solution="01.2"
def spread(x):
    """The mean squared deviation of a tensor of shape (n,)."""
    if len(x) == 0:
        ### BEGIN SOLUTION
        raise ValueError("x is empty")
        ### END SOLUTION
    ### BEGIN SOLUTION
    return ((x - x.mean()) ** 2).mean()
    ### END SOLUTION


# %% check="01.2" points=6
_x = torch.tensor([1.0, 3.0])
assert spread(_x) != 2, "this divides by n - 1"
assert spread(_x) != 5, "the mean is not taken off"
assert spread(_x) == 1, "wrong for 1, 3"
# %% [markdown] hints="01.2"
# 1. One.
# 2. Two.
# 3. Three.
