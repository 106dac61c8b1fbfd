"""Right and wrong answers to exercise 01."""


# %% wrong="01.1" hint="is it a sum?"
def mean(x):
    return x.sum()


# %% wrong="01.1" hint="is a dimension kept?"
def mean(x):
    return x.mean(0, keepdim=True)


# %% right="01.1" name="torch"
def mean(x):
    return x.mean()


# %% right="01.1" name="a loop"
def mean(x):
    return sum(x) / len(x)


# %% wrong="01.2" hint="n - 1"
def spread(x):
    return x.var()


# %% wrong="01.2" hint="not taken off"
def spread(x):
    return (x**2).mean()


# %% right="01.2" name="moments"
def spread(x):
    return (x**2).mean() - x.mean() ** 2
