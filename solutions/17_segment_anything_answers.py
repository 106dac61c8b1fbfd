"""Wrong and right answers to exercise 17."""


# %% wrong="17.1" hint="is something returned?"
def interpolate(x0, x1, t):
    x0 + t[:, None] * (x1 - x0)


# %% wrong="17.1" hint="expected (2, 2)"
def interpolate(x0, x1, t):
    return (x0 + t[:, None] * (x1 - x0)).sum(1)


# %% wrong="17.1" hint="the wrong ends?"
def interpolate(x0, x1, t):
    return x1 + t[:, None] * (x0 - x1)


# %% wrong="17.1" hint="along their coordinates?"
def interpolate(x0, x1, t):
    return x0 + t * (x1 - x0)


# %% right="17.1" name="torch"
def interpolate(x0, x1, t):
    return torch.lerp(x0, x1, t[:, None])


# %% right="17.1" name="weights"
def interpolate(x0, x1, t):
    t = t.unsqueeze(1)
    return (1 - t) * x0 + t * x1


# %% right="17.1" name="a loop"
def interpolate(x0, x1, t):
    return torch.stack([a + s * (b - a) for a, b, s in zip(x0, x1, t, strict=True)])
