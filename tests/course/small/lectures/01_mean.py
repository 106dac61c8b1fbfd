# %% [markdown]
# # 01. The mean
# How far is the mean of a sample from the mean of what it was drawn from?
# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from flowlib.course.notebook import fast, show_source
from flowlib.times import uniform_time

# %% [markdown]
# Times are drawn by
# %%
show_source(uniform_time)
# %%
t = uniform_time(100 if fast else 100_000, torch.Generator().manual_seed(0))
assert abs(t.mean() - 0.5) < 0.1
print("progress 100%|####|", file=sys.stderr)
float(t.mean()) > 0
# %% tags=["demo", "draw"]
# alt: Ten bars of nearly
#   the same height.
figure, axes = plt.subplots(figsize=(2, 1.2))
axes.hist(t)
if not fast:
    Path("images").mkdir(exist_ok=True)
    figure.savefig("images/01.png")
# %% [markdown]
# ![times drawn uniformly](images/01.png)
# The exercise is [here](../exercises/01_mean.ipynb).
