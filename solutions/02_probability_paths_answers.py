"""Wrong and right answers to exercise 02: wrong ones must be caught, each with its own hint; right ones must pass."""


# %% wrong="02.1" hint="each *column* got a time"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        return self.schedule.alpha(t) * z + self.schedule.beta(t) * noise


# %% wrong="02.1" hint="a global variable"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        t = t.reshape(-1, *[1] * (z.ndim - 1))
        return schedule.alpha(t) * z + schedule.beta(t) * noise


# %% wrong="02.1" hint="the square root of beta"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        t = t.reshape(-1, *[1] * (z.ndim - 1))
        return self.schedule.alpha(t) * z + self.schedule.beta(t).sqrt() * noise


# %% wrong="02.1" hint="by beta^2"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        t = t.reshape(-1, *[1] * (z.ndim - 1))
        return self.schedule.alpha(t) * z + self.schedule.beta(t) ** 2 * noise


# %% wrong="02.1" hint="exchanged"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        t = t.reshape(-1, *[1] * (z.ndim - 1))
        return self.schedule.beta(t) * z + self.schedule.alpha(t) * noise


# %% wrong="02.1" hint="right for points, wrong for images"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        return self.schedule.alpha(t)[:, None] * z + self.schedule.beta(t)[:, None] * noise


# %% wrong="02.1" hint="draw none of its own"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        t = t.reshape(-1, *[1] * (z.ndim - 1))
        return self.schedule.alpha(t) * z + self.schedule.beta(t) * torch.randn_like(z)


# %% wrong="02.1" hint="x_t must be a tensor"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        t = t.reshape(-1, *[1] * (z.ndim - 1))
        self.x = self.schedule.alpha(t) * z + self.schedule.beta(t) * noise


# %% wrong="02.1" hint="the answer calls"
class Path:
    def __init__(self, schedule):
        self.inner = GaussianPath(schedule)

    def sample(self, z, t, noise):
        return self.inner.sample(z, t, noise)


# %% wrong="02.1" hint="`z` has been changed in place"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        t = t.reshape(-1, *[1] * (z.ndim - 1))
        z *= self.schedule.alpha(t)
        z += self.schedule.beta(t) * noise
        return z


# %% wrong="02.1" hint="all samples got the same time"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        t = t.mean()
        return self.schedule.alpha(t) * z + self.schedule.beta(t) * noise


# %% wrong="02.1" hint="got (4, 1, 4, 4)"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        t = t.view(-1, 1, 1, 1)
        return self.schedule.alpha(t) * z + self.schedule.beta(t) * noise


# %% wrong="02.1" hint="by 1 - alpha"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        t = t.reshape(-1, *[1] * (z.ndim - 1))
        a = self.schedule.alpha(t)
        return a * z + (1 - a) * noise


# %% wrong="02.1" hint="by -beta: add it"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        t = t.reshape(-1, *[1] * (z.ndim - 1))
        return self.schedule.alpha(t) * z - self.schedule.beta(t) * noise


# %% wrong="02.1" hint="x_t of one image must have the shape"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        t = t.reshape(-1, *[1] * (z.ndim - 1))
        return (self.schedule.alpha(t) * z + self.schedule.beta(t) * noise).squeeze()


# %% wrong="02.1" hint="wrong on Linear()"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        t = t.reshape(-1, *[1] * (z.ndim - 1))
        a, b = self.schedule.alpha(t), self.schedule.beta(t)
        return (a * z + b * noise) / (a**2 + b**2).sqrt()


# %% wrong="02.1" hint="is t clamped"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        t = t.clamp(0.001, 0.999).reshape(-1, *[1] * (z.ndim - 1))
        return self.schedule.alpha(t) * z + self.schedule.beta(t) * noise


# %% right="02.1" name="unsqueeze in a loop"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        a, b = self.schedule.alpha(t), self.schedule.beta(t)
        while a.ndim < z.ndim:
            a, b = a.unsqueeze(-1), b.unsqueeze(-1)
        return torch.addcmul(a * z, b, noise)


# %% right="02.1" name="a loop over samples"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        alpha, beta = self.schedule.alpha(t), self.schedule.beta(t)
        return torch.stack([a * point + b * eps for a, b, point, eps in zip(alpha, beta, z, noise, strict=True)])


# %% right="02.1" name="einsum"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        alpha, beta = self.schedule.alpha(t), self.schedule.beta(t)
        return torch.einsum("b,b...->b...", alpha, z) + torch.einsum("b,b...->b...", beta, noise)


# %% right="02.1" name="axes turned round"
class Path:
    def __init__(self, schedule):
        self.schedule = schedule

    def sample(self, z, t, noise):
        mixed = self.schedule.alpha(t) * z.movedim(0, -1) + self.schedule.beta(t) * noise.movedim(0, -1)
        return mixed.movedim(-1, 0)


# %% wrong="02.2" hint="z is used for x too"
def conditional_velocity(x, z, t, schedule):
    ratio = schedule.dbeta(t) / schedule.beta(t)
    return (schedule.dalpha(t) - ratio * schedule.alpha(t)) * z + ratio * z


def conditional_score(x, z, t, schedule):
    return (schedule.alpha(t) * z - x) / schedule.beta(t) ** 2


# %% wrong="02.2" hint="linear schedule only"
def conditional_velocity(x, z, t, schedule):
    return (z - x) / (1 - t)


def conditional_score(x, z, t, schedule):
    return (schedule.alpha(t) * z - x) / schedule.beta(t) ** 2


# %% wrong="02.2" hint="the alpha in front of z was lost"
def conditional_velocity(x, z, t, schedule):
    return schedule.dalpha(t) * z + schedule.dbeta(t) * (x - z) / schedule.beta(t)


def conditional_score(x, z, t, schedule):
    return (schedule.alpha(t) * z - x) / schedule.beta(t) ** 2


# %% wrong="02.2" hint="changed once more"
def conditional_velocity(x, z, t, schedule):
    return schedule.dalpha(t) * z - schedule.dbeta(t) * (x - schedule.alpha(t) * z) / schedule.beta(t)


def conditional_score(x, z, t, schedule):
    return (schedule.alpha(t) * z - x) / schedule.beta(t) ** 2


# %% wrong="02.2" hint="divided by beta, the standard deviation"
def conditional_velocity(x, z, t, schedule):
    return schedule.dalpha(t) * z + schedule.dbeta(t) * (x - schedule.alpha(t) * z) / schedule.beta(t)


def conditional_score(x, z, t, schedule):
    return (schedule.alpha(t) * z - x) / schedule.beta(t)


# %% wrong="02.2" hint="points away from the data"
def conditional_velocity(x, z, t, schedule):
    return schedule.dalpha(t) * z + schedule.dbeta(t) * (x - schedule.alpha(t) * z) / schedule.beta(t)


def conditional_score(x, z, t, schedule):
    return (x - schedule.alpha(t) * z) / schedule.beta(t) ** 2


# %% wrong="02.2" hint="is alpha z, not z"
def conditional_velocity(x, z, t, schedule):
    return schedule.dalpha(t) * z + schedule.dbeta(t) * (x - schedule.alpha(t) * z) / schedule.beta(t)


def conditional_score(x, z, t, schedule):
    return (z - x) / schedule.beta(t) ** 2


# %% wrong="02.2" hint="the velocity is almost right"
def conditional_velocity(x, z, t, schedule):
    return schedule.dalpha(t) * z + schedule.dbeta(t) * (x - schedule.alpha(t) * z) / (schedule.beta(t) + 1e-4)


def conditional_score(x, z, t, schedule):
    return (schedule.alpha(t) * z - x) / schedule.beta(t) ** 2


# %% wrong="02.2" hint="the score is almost right"
def conditional_velocity(x, z, t, schedule):
    return schedule.dalpha(t) * z + schedule.dbeta(t) * (x - schedule.alpha(t) * z) / schedule.beta(t)


def conditional_score(x, z, t, schedule):
    return (schedule.alpha(t) * z - x) / (schedule.beta(t) ** 2 + 1e-6)


# %% wrong="02.2" hint="x is taken for the noise"
def conditional_velocity(x, z, t, schedule):
    return schedule.dalpha(t) * z + schedule.dbeta(t) * x


def conditional_score(x, z, t, schedule):
    return (schedule.alpha(t) * z - x) / schedule.beta(t) ** 2


# %% wrong="02.2" hint="the answer calls"
def conditional_velocity(x, z, t, schedule):
    return GaussianPath(schedule).velocity(x, z, t)


def conditional_score(x, z, t, schedule):
    return GaussianPath(schedule).score(x, z, t)


# %% wrong="02.2" hint="is something clamped"
def conditional_velocity(x, z, t, schedule):
    b = schedule.beta(t).clamp(min=0.05)
    return schedule.dalpha(t) * z + schedule.dbeta(t) * (x - schedule.alpha(t) * z) / b


def conditional_score(x, z, t, schedule):
    return (schedule.alpha(t) * z - x) / schedule.beta(t).clamp(min=0.05) ** 2


# %% wrong="02.2" hint="z is multiplied by alpha"
def conditional_velocity(x, z, t, schedule):
    eps = (x - schedule.alpha(t) * z) / schedule.beta(t)
    return schedule.alpha(t) * z + schedule.dbeta(t) * eps


def conditional_score(x, z, t, schedule):
    return (schedule.alpha(t) * z - x) / schedule.beta(t) ** 2


# %% wrong="02.2" hint="the score is halved"
def conditional_velocity(x, z, t, schedule):
    eps = (x - schedule.alpha(t) * z) / schedule.beta(t)
    return schedule.dalpha(t) * z + schedule.dbeta(t) * eps


def conditional_score(x, z, t, schedule):
    return (schedule.alpha(t) * z - x) / schedule.beta(t) ** 2 / 2


# %% wrong="02.2" hint="the score must have the shape of x"
def conditional_velocity(x, z, t, schedule):
    eps = (x - schedule.alpha(t) * z) / schedule.beta(t)
    return schedule.dalpha(t) * z + schedule.dbeta(t) * eps


def conditional_score(x, z, t, schedule):
    return -((x - schedule.alpha(t) * z) ** 2).sum(1) / (2 * schedule.beta(t) ** 2)


# %% wrong="02.2" hint="the score is divided by alpha"
def conditional_velocity(x, z, t, schedule):
    eps = (x - schedule.alpha(t) * z) / schedule.beta(t)
    return schedule.dalpha(t) * z + schedule.dbeta(t) * eps


def conditional_score(x, z, t, schedule):
    return (z - x / schedule.alpha(t)) / schedule.beta(t) ** 2


# %% right="02.2" name="lerp style"
def conditional_velocity(x, z, t, schedule):
    a, b, da, db = (getattr(schedule, n)(t) for n in ("alpha", "beta", "dalpha", "dbeta"))
    return (da * b - db * a) / b * z + db / b * x


def conditional_score(x, z, t, schedule):
    b = schedule.beta(t)
    return -(x - schedule.alpha(t) * z).div(b).div(b)


# %% right="02.2" name="coefficients of z and x"
def conditional_velocity(x, z, t, schedule):
    ratio = schedule.dbeta(t) / schedule.beta(t)
    return (schedule.dalpha(t) - ratio * schedule.alpha(t)) * z + ratio * x


def conditional_score(x, z, t, schedule):
    return -((x - schedule.alpha(t) * z) / schedule.beta(t)) / schedule.beta(t)


# %% right="02.2" name="automatic differentiation"
def conditional_velocity(x, z, t, schedule):
    eps = ((x - schedule.alpha(t) * z) / schedule.beta(t)).detach()
    return torch.func.jvp(lambda t: schedule.alpha(t) * z + schedule.beta(t) * eps, (t,), (torch.ones_like(t),))[1]


def conditional_score(x, z, t, schedule):
    def log_density(x):
        return -(((x - schedule.alpha(t) * z) / schedule.beta(t)) ** 2).sum() / 2

    return torch.func.grad(log_density)(x)


# %% right="02.2" name="one row at a time"
def conditional_velocity(x, z, t, schedule):
    a, b, da, db = (getattr(schedule, name)(t) for name in ("alpha", "beta", "dalpha", "dbeta"))
    return torch.stack([da * q + db / b * (p - a * q) for p, q in zip(x, z, strict=True)])


def conditional_score(x, z, t, schedule):
    precision = 1 / schedule.beta(t).square()
    return precision * schedule.alpha(t) * z - precision * x


# %% wrong="02.3" hint="the noise comes out with the wrong sign"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    velocity = (schedule.dalpha(t), schedule.dbeta(t))
    rows = {
        "data": (one, zero),
        "noise": (zero, one),
        "velocity": velocity,
        "score": (zero, -1 / beta),
        "v": (-beta, alpha),
    }
    a, b = rows[source]
    delta = beta * a - alpha * b
    if delta == 0 or not torch.isfinite(b):
        raise ValueError("no information")
    data, noise = (b * x - beta * prediction) / delta, (alpha * prediction - a * x) / delta
    a, b = rows[target]
    return a * data + b * noise


# %% wrong="02.3" hint="solve x = alpha D + beta eps for eps"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    velocity = (schedule.dalpha(t), schedule.dbeta(t))
    rows = {
        "data": (one, zero),
        "noise": (zero, one),
        "velocity": velocity,
        "score": (zero, -1 / beta),
        "v": (-beta, alpha),
    }
    a, b = rows[source]
    delta = alpha * b - beta * a
    if delta == 0 or not torch.isfinite(b):
        raise ValueError("no information")
    data, noise = (b * prediction - beta * x) / delta, (alpha * x - a * prediction) / delta  # x and prediction swapped
    a, b = rows[target]
    return a * data + b * noise


# %% wrong="02.3" hint="it needs derivatives"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    rows = {
        "data": (one, zero),
        "noise": (zero, one),
        "velocity": (alpha, beta),
        "score": (zero, -1 / beta),
        "v": (-beta, alpha),
    }
    a, b = rows[source]
    delta = alpha * b - beta * a
    if delta == 0 or not torch.isfinite(b):
        raise ValueError("no information")
    data, noise = (b * x - beta * prediction) / delta, (alpha * prediction - a * x) / delta
    a, b = rows[target]
    return a * data + b * noise


# %% wrong="02.3" hint="the score comes out with the wrong sign"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    velocity = (schedule.dalpha(t), schedule.dbeta(t))
    rows = {
        "data": (one, zero),
        "noise": (zero, one),
        "velocity": velocity,
        "score": (zero, 1 / beta),
        "v": (-beta, alpha),
    }
    a, b = rows[source]
    delta = alpha * b - beta * a
    if delta == 0 or not torch.isfinite(b):
        raise ValueError("no information")
    data, noise = (b * x - beta * prediction) / delta, (alpha * prediction - a * x) / delta
    a, b = rows[target]
    return a * data + b * noise


# %% wrong="02.3" hint="divided by beta once too often"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    velocity = (schedule.dalpha(t), schedule.dbeta(t))
    rows = {
        "data": (one, zero),
        "noise": (zero, one),
        "velocity": velocity,
        "score": (zero, -1 / beta**2),
        "v": (-beta, alpha),
    }
    a, b = rows[source]
    delta = alpha * b - beta * a
    if delta == 0 or not torch.isfinite(b):
        raise ValueError("no information")
    data, noise = (b * x - beta * prediction) / delta, (alpha * prediction - a * x) / delta
    a, b = rows[target]
    return a * data + b * noise


# %% wrong="02.3" hint="v comes out with the wrong sign"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    velocity = (schedule.dalpha(t), schedule.dbeta(t))
    rows = {
        "data": (one, zero),
        "noise": (zero, one),
        "velocity": velocity,
        "score": (zero, -1 / beta),
        "v": (beta, -alpha),
    }
    a, b = rows[source]
    delta = alpha * b - beta * a
    if delta == 0 or not torch.isfinite(b):
        raise ValueError("no information")
    data, noise = (b * x - beta * prediction) / delta, (alpha * prediction - a * x) / delta
    a, b = rows[target]
    return a * data + b * noise


# %% wrong="02.3" hint="a small constant added to the determinant"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    velocity = (schedule.dalpha(t), schedule.dbeta(t))
    rows = {
        "data": (one, zero),
        "noise": (zero, one),
        "velocity": velocity,
        "score": (zero, -1 / beta),
        "v": (-beta, alpha),
    }
    a, b = rows[source]
    delta = alpha * b - beta * a + 1e-4
    data, noise = (b * x - beta * prediction) / delta, (alpha * prediction - a * x) / delta
    a, b = rows[target]
    return a * data + b * noise


# %% wrong="02.3" hint="needs no solve: return the prediction itself"
def convert(prediction, x, t, source, target, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    velocity = (schedule.dalpha(t), schedule.dbeta(t))
    rows = {
        "data": (one, zero),
        "noise": (zero, one),
        "velocity": velocity,
        "score": (zero, -1 / beta),
        "v": (-beta, alpha),
    }
    a, b = rows[source]
    delta = alpha * b - beta * a
    if delta == 0 or not torch.isfinite(b):
        raise ValueError("no information")
    data, noise = (b * x - beta * prediction) / delta, (alpha * prediction - a * x) / delta
    a, b = rows[target]
    return a * data + b * noise


# %% wrong="02.3" hint="for the determinant is 0: raise a ValueError there"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    velocity = (schedule.dalpha(t), schedule.dbeta(t))
    rows = {
        "data": (one, zero),
        "noise": (zero, one),
        "velocity": velocity,
        "score": (zero, -1 / beta),
        "v": (-beta, alpha),
    }
    a, b = rows[source]
    delta = alpha * b - beta * a
    data, noise = (b * x - beta * prediction) / delta, (alpha * prediction - a * x) / delta
    a, b = rows[target]
    return a * data + b * noise


# %% wrong="02.3" hint="but the row is infinite"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    velocity = (schedule.dalpha(t), schedule.dbeta(t))
    rows = {
        "data": (one, zero),
        "noise": (zero, one),
        "velocity": velocity,
        "score": (zero, -1 / beta),
        "v": (-beta, alpha),
    }
    a, b = rows[source]
    delta = alpha * b - beta * a
    if delta == 0:
        raise ValueError("no information")
    data, noise = (b * x - beta * prediction) / delta, (alpha * prediction - a * x) / delta
    a, b = rows[target]
    return a * data + b * noise


# %% wrong="02.3" hint="is possible, but was refused"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    if t == 0 or t == 1:
        raise ValueError("the ends of time are difficult")
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    velocity = (schedule.dalpha(t), schedule.dbeta(t))
    rows = {
        "data": (one, zero),
        "noise": (zero, one),
        "velocity": velocity,
        "score": (zero, -1 / beta),
        "v": (-beta, alpha),
    }
    a, b = rows[source]
    delta = alpha * b - beta * a
    data, noise = (b * x - beta * prediction) / delta, (alpha * prediction - a * x) / delta
    a, b = rows[target]
    return a * data + b * noise


# %% wrong="02.3" hint="noise to data is wrong on"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    velocity = (schedule.dalpha(t), schedule.dbeta(t))
    rows = {
        "data": (one, zero),
        "noise": (zero, one),
        "velocity": velocity,
        "score": (zero, -1 / beta),
        "v": (-beta, alpha),
    }
    a, b = rows[source]
    delta = alpha * b - beta * a
    if delta == 0 or not torch.isfinite(b):
        raise ValueError("no information")
    data = prediction if source == "data" else b * x - beta * prediction  # not divided
    noise = (alpha * prediction - a * x) / delta
    a, b = rows[target]
    return a * data + b * noise


# %% wrong="02.3" hint="the answer calls"
def convert(prediction, x, t, source, target, schedule):
    return GaussianPath(schedule).convert(prediction, x, t, source, target)


# %% wrong="02.3" hint="is not finite everywhere"
def convert(prediction, x, t, source, target, schedule):
    return math.nan * x


# %% wrong="02.3" hint="noise to data is possible at t = 0.001"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    al, be = schedule.alpha(t), schedule.beta(t)
    rows = {
        "data": (1 + 0 * t, 0 * t),
        "noise": (0 * t, 1 + 0 * t),
        "velocity": (schedule.dalpha(t), schedule.dbeta(t)),
        "score": (0 * t, -1 / be),
        "v": (-be, al),
    }
    a, b = rows[source]
    d = al * b - be * a
    if d.abs() < 0.02 or not torch.isfinite(b):
        raise ValueError("no")
    D, e = (b * x - be * prediction) / d, (al * prediction - a * x) / d
    a, b = rows[target]
    return a * D + b * e


# %% wrong="02.3" hint="not AssertionError"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    al, be = schedule.alpha(t), schedule.beta(t)
    rows = {
        "data": (1 + 0 * t, 0 * t),
        "noise": (0 * t, 1 + 0 * t),
        "velocity": (schedule.dalpha(t), schedule.dbeta(t)),
        "score": (0 * t, -1 / be),
        "v": (-be, al),
    }
    a, b = rows[source]
    d = al * b - be * a
    assert d != 0
    assert torch.isfinite(b)
    D, e = (b * x - be * prediction) / d, (al * prediction - a * x) / d
    a, b = rows[target]
    return a * D + b * e


# %% wrong="02.3" hint="that of the linear schedule only"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    al, be = schedule.alpha(t), schedule.beta(t)
    rows = {
        "data": (1 + 0 * t, 0 * t),
        "noise": (0 * t, 1 + 0 * t),
        "velocity": (1 + 0 * t, -1 + 0 * t),
        "score": (0 * t, -1 / be),
        "v": (-be, al),
    }
    a, b = rows[source]
    d = al * b - be * a
    if d == 0 or not torch.isfinite(b):
        raise ValueError("no")
    D, e = (b * x - be * prediction) / d, (al * prediction - a * x) / d
    a, b = rows[target]
    return a * D + b * e


# %% wrong="02.3" hint="the score is not divided by beta"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    al, be = schedule.alpha(t), schedule.beta(t)
    rows = {
        "data": (1 + 0 * t, 0 * t),
        "noise": (0 * t, 1 + 0 * t),
        "velocity": (schedule.dalpha(t), schedule.dbeta(t)),
        "score": (0 * t, -be),
        "v": (-be, al),
    }
    a, b = rows[source]
    d = al * b - be * a
    if d == 0 or not torch.isfinite(b):
        raise ValueError("no")
    D, e = (b * x - be * prediction) / d, (al * prediction - a * x) / d
    a, b = rows[target]
    return a * D + b * e


# %% right="02.3" name="solve a 2x2 by inv"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    al, be = schedule.alpha(t), schedule.beta(t)
    if (
        (source == "noise" and al == 0)
        or (source == "data" and be == 0)
        or (source == "score" and (al == 0 or be == 0))
    ):
        raise ValueError("no information")
    one = torch.ones((), dtype=torch.float64)
    rows = {
        "data": (one, 0 * one),
        "noise": (0 * one, one),
        "velocity": (schedule.dalpha(t), schedule.dbeta(t)),
        "v": (-be, al),
    }
    if "score" in (source, target):
        rows["score"] = (0 * one, -1 / be)
    M = torch.stack([torch.stack([al, be]), torch.stack(rows[source])])
    return torch.einsum("k,kbd->bd", torch.linalg.solve(M.T, torch.stack(rows[target])), torch.stack([x, prediction]))


# %% right="02.3" name="torch.linalg.solve"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    if (source in ("noise", "score") and t == 0) or (source in ("data", "score") and t == 1):
        raise ValueError(f"{source} at t = {t}")

    def row(kind):
        if kind == "data":
            return torch.tensor([1.0, 0.0], dtype=t.dtype)
        if kind == "noise":
            return torch.tensor([0.0, 1.0], dtype=t.dtype)
        if kind == "velocity":
            return torch.stack([schedule.dalpha(t), schedule.dbeta(t)])
        if kind == "score":
            return torch.stack([torch.zeros_like(t), -1 / schedule.beta(t)])
        return torch.stack([-schedule.beta(t), schedule.alpha(t)])

    matrix = torch.stack([torch.stack([schedule.alpha(t), schedule.beta(t)]), row(source)])
    pair = torch.linalg.solve(matrix, torch.stack([x.flatten(), prediction.flatten()]))
    return (row(target) @ pair).reshape(x.shape)


# %% right="02.3" name="through the noise or the data, case by case"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    a, b, da, db = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    if source in ("noise", "score"):
        if a == 0 or (source == "score" and b == 0):
            raise ValueError("it says nothing here")
        eps = prediction if source == "noise" else -b * prediction
        z = (x - b * eps) / a
    elif source == "data":
        if b == 0:
            raise ValueError("it says nothing here")
        z, eps = prediction, (x - a * prediction) / b
    elif source == "velocity":
        w = da * b - a * db
        z, eps = (b * prediction - db * x) / w, (da * x - a * prediction) / w
    else:
        r = a**2 + b**2
        z, eps = (a * x - b * prediction) / r, (b * x + a * prediction) / r
    if target == "data":
        return z
    if target == "noise":
        return eps
    if target == "velocity":
        return da * z + db * eps
    return -eps / b if target == "score" else a * eps - b * z


# %% right="02.3" name="numbers instead of tensors"
def convert(prediction, x, t, source, target, schedule):
    if source == target:
        return prediction
    alpha, beta = float(schedule.alpha(t)), float(schedule.beta(t))
    rows = {
        "data": (1.0, 0.0),
        "noise": (0.0, 1.0),
        "velocity": (float(schedule.dalpha(t)), float(schedule.dbeta(t))),
        "score": (0.0, -1 / beta) if beta else None,
        "v": (-beta, alpha),
    }
    if rows[source] is None or alpha * rows[source][1] == beta * rows[source][0]:
        raise ValueError("singular")
    (a, b), (c, d) = rows[source], rows[target]
    delta = alpha * b - beta * a
    return ((c * b - d * a) * x + (d * alpha - c * beta) * prediction) / delta


# %% wrong="02.4" hint="is a self. missing?"
class Early(Schedule):
    def __init__(self, power):
        self.power = power

    def alpha(self, t):
        return 1 - (1 - t) ** power

    def beta(self, t):
        return 1 - t

    def dalpha(self, t):
        return power * (1 - t) ** (power - 1)

    def dbeta(self, t):
        return -torch.ones_like(t)


# %% wrong="02.4" hint="dbeta is infinite at an end"
class Early(Schedule):
    def __init__(self, power):
        self.power = power

    def alpha(self, t):
        return 1 - (1 - t) ** self.power

    def beta(self, t):
        return torch.sqrt(1 - t)

    def dalpha(self, t):
        return self.power * (1 - t) ** (self.power - 1)

    def dbeta(self, t):
        return -0.5 / torch.sqrt(1 - t)


# %% wrong="02.4" hint="w = 0 at t = 1"
class Early(Schedule):
    def __init__(self, power):
        self.power = power

    def alpha(self, t):
        return 1 - (1 - t) ** self.power

    def beta(self, t):
        return (1 - t) ** self.power

    def dalpha(self, t):
        return self.power * (1 - t) ** (self.power - 1)

    def dbeta(self, t):
        return -self.power * (1 - t) ** (self.power - 1)


# %% wrong="02.4" hint="dbeta has the wrong sign"
class Early(Schedule):
    def __init__(self, power):
        self.power = power

    def alpha(self, t):
        return 1 - (1 - t) ** self.power

    def beta(self, t):
        return 1 - t

    def dalpha(self, t):
        return self.power * (1 - t) ** (self.power - 1)

    def dbeta(self, t):
        return torch.ones_like(t)


# %% wrong="02.4" hint="dalpha has the wrong sign"
class Early(Schedule):
    def __init__(self, power):
        self.power = power

    def alpha(self, t):
        return 1 - (1 - t) ** self.power

    def beta(self, t):
        return 1 - t

    def dalpha(self, t):
        return -self.power * (1 - t) ** (self.power - 1)

    def dbeta(self, t):
        return -torch.ones_like(t)


# %% wrong="02.4" hint="dbeta is almost the derivative of beta"
class Early(Schedule):
    def __init__(self, power):
        self.power = power

    def alpha(self, t):
        return 1 - (1 - t) ** self.power

    def beta(self, t):
        return torch.sqrt(1 - t)

    def dalpha(self, t):
        return self.power * (1 - t) ** (self.power - 1)

    def dbeta(self, t):
        return -0.5 / (torch.sqrt(1 - t) + 1e-4)


# %% wrong="02.4" hint="dalpha is almost the derivative of alpha"
class Early(Schedule):
    def __init__(self, power):
        self.power = power

    def alpha(self, t):
        return 1 - (1 - t) ** self.power

    def beta(self, t):
        return 1 - t

    def dalpha(self, t):
        return (self.alpha(t + 1e-4) - self.alpha(t)) / 1e-4 if self.power > 1 else torch.ones_like(t)

    def dbeta(self, t):
        return -torch.ones_like(t)


# %% wrong="02.4" hint="dalpha is not the derivative of alpha"
class Early(Schedule):
    def __init__(self, power):
        self.power = power

    def alpha(self, t):
        return 1 - (1 - t) ** self.power

    def beta(self, t):
        return 1 - t

    def dalpha(self, t):
        return (1 - t) ** (self.power - 1)

    def dbeta(self, t):
        return -torch.ones_like(t)


# %% wrong="02.4" hint="must be a tensor, got float"
class Early(Schedule):
    def __init__(self, power):
        self.power = power

    def alpha(self, t):
        return 1 - (1 - t) ** self.power

    def beta(self, t):
        return 1 - t

    def dalpha(self, t):
        return self.power * (1 - t) ** (self.power - 1)

    def dbeta(self, t):
        return -1.0


# %% wrong="02.4" hint="beta must be 1 at t = 0"
class Early(Schedule):
    def __init__(self, power):
        self.power = power

    def alpha(self, t):
        return 1 - (1 - t) ** self.power

    def beta(self, t):
        return t

    def dalpha(self, t):
        return self.power * (1 - t) ** (self.power - 1)

    def dbeta(self, t):
        return torch.ones_like(t)


# %% wrong="02.4" hint="0/0 hides in its formula"
class Early(Schedule):
    def __init__(self, power):
        self.power = power

    def alpha(self, t):
        return 1 - (1 - t) ** self.power

    def beta(self, t):
        return (1 - t) * torch.sqrt(1 + t) / torch.sqrt(1 + t)

    def dalpha(self, t):
        return self.power * (1 - t) ** (self.power - 1)

    def dbeta(self, t):
        return -(1 - t) / (1 - t)


# %% wrong="02.4" hint="alpha for power 1 is not finite everywhere"
class Early(Schedule):
    def __init__(self, power):
        self.power = power

    def alpha(self, t):
        return 1 - torch.log(t - 1) * self.power

    def beta(self, t):
        return 1 - t

    def dalpha(self, t):
        return self.power * (1 - t) ** (self.power - 1)

    def dbeta(self, t):
        return -torch.ones_like(t)


# %% wrong="02.4" hint="is t clamped"
class Early(Schedule):
    def __init__(self, power):
        self.power = power

    def alpha(self, t):
        return 1 - (1 - t.clamp(0.01, 0.99)) ** self.power

    def beta(self, t):
        return 1 - t

    def dalpha(self, t):
        return self.power * (1 - t) ** (self.power - 1)

    def dbeta(self, t):
        return -torch.ones_like(t)


# %% wrong="02.4" hint="alpha is not 1 - (1 - t)^power"
class Early(Schedule):
    def __init__(self, power):
        self.power = power

    def alpha(self, t):
        return t**self.power

    def beta(self, t):
        return 1 - t

    def dalpha(self, t):
        return self.power * t ** (self.power - 1)

    def dbeta(self, t):
        return -torch.ones_like(t)


# %% right="02.4" name="one minus t, via Linear"
class Early(Schedule):
    def __init__(self, power):
        self.power, self.base = power, Linear()

    def alpha(self, t):
        return -torch.expm1(self.power * torch.log1p(-t))

    def beta(self, t):
        return self.base.beta(t)

    def dalpha(self, t):
        return self.power * (1 - t).pow(self.power - 1)

    def dbeta(self, t):
        return t * 0 - 1


# %% right="02.4" name="a quarter of a cosine"
class Early(Schedule):
    def __init__(self, power):
        self.power = power

    def alpha(self, t):
        return 1 - (1 - t).pow(self.power)

    def beta(self, t):
        return torch.cos(math.pi / 2 * t)

    def dalpha(self, t):
        return self.power * (1 - t).pow(self.power - 1)

    def dbeta(self, t):
        return -math.pi / 2 * torch.sin(math.pi / 2 * t)


# %% right="02.4" name="a parabola"
class Early(Schedule):
    def __init__(self, power):
        self.power = power

    def alpha(self, t):
        return 1 - (1 - t) ** self.power

    def beta(self, t):
        return 1 - t**2

    def dalpha(self, t):
        return self.power * (1 - t) ** (self.power - 1)

    def dbeta(self, t):
        return -2 * t


# %% right="02.4" name="derivatives by autograd"
class Early(Schedule):
    def __init__(self, power):
        self.k = power

    def alpha(self, t):
        return 1 - (1 - t) ** self.k

    def beta(self, t):
        return (1 - t) * (1 + t / 2)

    def dalpha(self, t):
        return torch.func.jvp(self.alpha, (t,), (torch.ones_like(t),))[1]

    def dbeta(self, t):
        return torch.func.jvp(self.beta, (t,), (torch.ones_like(t),))[1]


# %% right="02.4" name="a helper for the time that is left"
class Early(Schedule):
    def __init__(self, power):
        self.power, self.left = power, lambda t: 1.0 - t

    def alpha(self, t):
        return 1.0 - self.left(t) ** self.power

    def beta(self, t):
        return self.left(t)

    def dalpha(self, t):
        return self.left(t) ** (self.power - 1.0) * self.power

    def dbeta(self, t):
        return torch.full_like(t, -1.0)


# %% wrong="02.5" hint="treated as a single point"
def mixture_velocity(x, t, means, std, weights, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    gap = x[:, None] - alpha * means
    posterior = torch.softmax(weights.log() - (gap**2).sum(-1) / (2 * beta**2), dim=1)
    each = schedule.dalpha(t) * means + schedule.dbeta(t) * gap / beta
    return (posterior[..., None] * each).sum(1)


# %% wrong="02.5" hint="std is used as if it were a variance"
def mixture_velocity(x, t, means, std, weights, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    variance = alpha**2 * std + beta**2
    gap = x[:, None] - alpha * means
    log_density = -0.5 * (gap**2).sum(-1) / variance - 0.5 * x.shape[1] * torch.log(2 * math.pi * variance)
    posterior = torch.softmax(weights.log() + log_density, dim=1)
    scaled = gap / variance[:, None]
    each = schedule.dalpha(t) * (means + alpha * std[:, None] * scaled) + schedule.dbeta(t) * beta * scaled
    return (posterior[..., None] * each).sum(1)


# %% wrong="02.5" hint="what x tells about z has been left out"
def mixture_velocity(x, t, means, std, weights, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    variance = alpha**2 * std**2 + beta**2
    gap = x[:, None] - alpha * means
    log_density = -0.5 * (gap**2).sum(-1) / variance - 0.5 * x.shape[1] * torch.log(2 * math.pi * variance)
    posterior = torch.softmax(weights.log() + log_density, dim=1)
    each = schedule.dalpha(t) * means + schedule.dbeta(t) * beta * gap / variance[:, None]
    return (posterior[..., None] * each).sum(1)


# %% wrong="02.5" hint="one component is wrong"
def mixture_velocity(x, t, means, std, weights, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    variance = alpha**2 * std**2 + beta**2
    gap = x[:, None] - means  # the mean of x_t is alpha times that
    log_density = -0.5 * (gap**2).sum(-1) / variance - 0.5 * x.shape[1] * torch.log(2 * math.pi * variance)
    posterior = torch.softmax(weights.log() + log_density, dim=1)
    scaled = gap / variance[:, None]
    each = schedule.dalpha(t) * (means + alpha * std[:, None] ** 2 * scaled) + schedule.dbeta(t) * beta * scaled
    return (posterior[..., None] * each).sum(1)


# %% wrong="02.5" hint="the weights of the components are not used"
def mixture_velocity(x, t, means, std, weights, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    variance = alpha**2 * std**2 + beta**2
    gap = x[:, None] - alpha * means
    log_density = -0.5 * (gap**2).sum(-1) / variance - 0.5 * x.shape[1] * torch.log(2 * math.pi * variance)
    posterior = torch.softmax(log_density, dim=1)
    scaled = gap / variance[:, None]
    each = schedule.dalpha(t) * (means + alpha * std[:, None] ** 2 * scaled) + schedule.dbeta(t) * beta * scaled
    return (posterior[..., None] * each).sum(1)


# %% wrong="02.5" hint="averaged by their prior weights"
def mixture_velocity(x, t, means, std, weights, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    variance = alpha**2 * std**2 + beta**2
    scaled = (x[:, None] - alpha * means) / variance[:, None]
    each = schedule.dalpha(t) * (means + alpha * std[:, None] ** 2 * scaled) + schedule.dbeta(t) * beta * scaled
    return (weights[:, None] * each).sum(1)


# %% wrong="02.5" hint="the posterior p(k|x) is wrong"
def mixture_velocity(x, t, means, std, weights, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    variance = alpha**2 * std**2 + beta**2
    gap = x[:, None] - alpha * means
    posterior = torch.softmax(weights.log() - (gap**2).sum(-1) / (2 * beta**2), dim=1)
    scaled = gap / variance[:, None]
    each = schedule.dalpha(t) * (means + alpha * std[:, None] ** 2 * scaled) + schedule.dbeta(t) * beta * scaled
    return (posterior[..., None] * each).sum(1)


# %% wrong="02.5" hint="right for components of equal width"
def mixture_velocity(x, t, means, std, weights, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    variance = alpha**2 * std**2 + beta**2
    gap = x[:, None] - alpha * means
    posterior = torch.softmax(weights.log() - (gap**2).sum(-1) / (2 * variance), dim=1)
    scaled = gap / variance[:, None]
    each = schedule.dalpha(t) * (means + alpha * std[:, None] ** 2 * scaled) + schedule.dbeta(t) * beta * scaled
    return (posterior[..., None] * each).sum(1)


# %% wrong="02.5" hint="right in one dimension, wrong in four"
def mixture_velocity(x, t, means, std, weights, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    variance = alpha**2 * std**2 + beta**2
    gap = x[:, None] - alpha * means
    log_density = -0.5 * (gap**2).sum(-1) / variance - 0.5 * torch.log(2 * math.pi * variance)
    posterior = torch.softmax(weights.log() + log_density, dim=1)
    scaled = gap / variance[:, None]
    each = schedule.dalpha(t) * (means + alpha * std[:, None] ** 2 * scaled) + schedule.dbeta(t) * beta * scaled
    return (posterior[..., None] * each).sum(1)


# %% wrong="02.5" hint="every density underflows"
def mixture_velocity(x, t, means, std, weights, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    variance = alpha**2 * std**2 + beta**2
    gap = x[:, None] - alpha * means
    density = torch.exp(-0.5 * (gap**2).sum(-1) / variance) / (2 * math.pi * variance) ** (x.shape[1] / 2)
    posterior = weights * density / (weights * density).sum(1, keepdim=True)
    scaled = gap / variance[:, None]
    each = schedule.dalpha(t) * (means + alpha * std[:, None] ** 2 * scaled) + schedule.dbeta(t) * beta * scaled
    return (posterior[..., None] * each).sum(1)


# %% wrong="02.5" hint="must have the shape of x"
def mixture_velocity(x, t, means, std, weights, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    variance = alpha**2 * std**2 + beta**2
    gap = x[:, None] - alpha * means
    log_density = -0.5 * (gap**2).sum(-1) / variance - 0.5 * x.shape[1] * torch.log(2 * math.pi * variance)
    posterior = torch.softmax(weights.log() + log_density, dim=1)
    scaled = gap / variance[:, None]
    each = schedule.dalpha(t) * (means + alpha * std[:, None] ** 2 * scaled) + schedule.dbeta(t) * beta * scaled
    return posterior[..., None] * each


# %% wrong="02.5" hint="the answer calls"
def mixture_velocity(x, t, means, std, weights, schedule):
    return MixtureField(means, std, weights, path=GaussianPath(schedule)).u(x, t)


# %% wrong="02.5" hint="some values are NaN"
def mixture_velocity(x, t, means, std, weights, schedule):
    return torch.full_like(x, math.nan)


# %% wrong="02.5" hint="take the softmax over k"
def mixture_velocity(x, t, means, std, weights, schedule):
    a, b = schedule.alpha(t), schedule.beta(t)
    V = a**2 * std**2 + b**2
    gap = x[:, None] - a * means
    logp = -0.5 * (gap**2).sum(-1) / V - 0.5 * x.shape[1] * V.log()
    p = torch.softmax(weights.log() + logp, 0)
    s = gap / V[:, None]
    return (p[..., None] * (schedule.dalpha(t) * (means + a * std[:, None] ** 2 * s) + schedule.dbeta(t) * b * s)).sum(
        1
    )


# %% wrong="02.5" hint="add their logarithms"
def mixture_velocity(x, t, means, std, weights, schedule):
    a, b = schedule.alpha(t), schedule.beta(t)
    V = a**2 * std**2 + b**2
    gap = x[:, None] - a * means
    logp = -0.5 * (gap**2).sum(-1) / V - 0.5 * x.shape[1] * V.log()
    p = torch.softmax(weights + logp, 1)
    s = gap / V[:, None]
    return (p[..., None] * (schedule.dalpha(t) * (means + a * std[:, None] ** 2 * s) + schedule.dbeta(t) * b * s)).sum(
        1
    )


# %% wrong="02.5" hint="one component: this is E[z"
def mixture_velocity(x, t, means, std, weights, schedule):
    a, b = schedule.alpha(t), schedule.beta(t)
    V = a**2 * std**2 + b**2
    gap = x[:, None] - a * means
    logp = -0.5 * (gap**2).sum(-1) / V - 0.5 * x.shape[1] * V.log()
    p = torch.softmax(weights.log() + logp, 1)
    s = gap / V[:, None]
    return (p[..., None] * (means + a * std[:, None] ** 2 * s)).sum(1)


# %% wrong="02.5" hint="takes the likeliest component"
def mixture_velocity(x, t, means, std, weights, schedule):
    a, b = schedule.alpha(t), schedule.beta(t)
    V = a**2 * std**2 + b**2
    gap = x[:, None] - a * means
    logp = -0.5 * (gap**2).sum(-1) / V - 0.5 * x.shape[1] * V.log()
    k = (weights.log() + logp).argmax(1)
    s = gap / V[:, None]
    u = schedule.dalpha(t) * (means + a * std[:, None] ** 2 * s) + schedule.dbeta(t) * b * s
    return u[torch.arange(len(x)), k]


# %% right="02.5" name="torch.distributions, score by autograd"
def mixture_velocity(x, t, means, std, weights, schedule):
    from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

    a, b, da, db = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    scale = torch.sqrt(a**2 * std**2 + b**2)[:, None].expand_as(means)
    law = MixtureSameFamily(Categorical(weights), Independent(Normal(a * means, scale), 1))
    x = x.detach().clone().requires_grad_()
    (s,) = torch.autograd.grad(law.log_prob(x).sum(), x)
    return (da / a * x + (da / a * b**2 - db * b) * s).detach()


# %% right="02.5" name="from the score of the mixture, by autograd"
def mixture_velocity(x, t, means, std, weights, schedule):
    a, b, da, db = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    variance = a**2 * std**2 + b**2
    x = x.detach().clone().requires_grad_()
    square = ((x[:, None] - a * means) ** 2).sum(-1)
    log_p = torch.logsumexp(weights.log() - square / (2 * variance) - x.shape[1] / 2 * variance.log(), dim=1)
    score = torch.autograd.grad(log_p.sum(), x)[0]
    return (da / a * x + b * (da * b - a * db) / a * score).detach()


# %% right="02.5" name="a loop over components"
def mixture_velocity(x, t, means, std, weights, schedule):
    a, b, da, db = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    logs, velocities = [], []
    for mean, sigma, weight in zip(means, std, weights, strict=True):
        level = (a**2 * sigma**2 + b**2).sqrt()
        logs.append(torch.distributions.Normal(a * mean, level).log_prob(x).sum(1) + weight.log())
        velocities.append(da * mean + (da * a * sigma**2 + db * b) / level**2 * (x - a * mean))
    share = torch.softmax(torch.stack(logs), dim=0)
    return sum(s[:, None] * v for s, v in zip(share, velocities, strict=True))


# %% right="02.5" name="one point at a time, the largest exponent taken off"
def mixture_velocity(x, t, means, std, weights, schedule):
    a, b, da, db = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    v = a**2 * std**2 + b**2
    rows = []
    for point in x:
        gap = point - a * means
        exponent = weights.log() - gap.square().sum(1) / (2 * v) - x.shape[1] / 2 * v.log()
        share = (exponent - exponent.max()).exp()
        share = share / share.sum()
        rows.append(share @ (da * means + ((da * a * std**2 + db * b) / v)[:, None] * gap))
    return torch.stack(rows)


# %% wrong="02.6" hint="the time derivative of log p is missing"
def continuity_residual(log_prob, u, x, t):
    x = x.detach().requires_grad_()
    score = torch.autograd.grad(log_prob(x, t).sum(), x)[0]
    v = u(x, t)
    div = sum(torch.autograd.grad(v[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1]))
    return div + (v * score).sum(1)


# %% wrong="02.6" hint="the time derivative of log p has the wrong sign"
def continuity_residual(log_prob, u, x, t):
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    score, change = torch.autograd.grad(log_prob(x, t).sum(), (x, t))
    v = u(x, t)
    div = sum(torch.autograd.grad(v[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1]))
    return div + (v * score).sum(1) - change


# %% wrong="02.6" hint="the term u . grad log p is missing"
def continuity_residual(log_prob, u, x, t):
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    change = torch.autograd.grad(log_prob(x, t).sum(), t)[0]
    v = u(x, t)
    div = sum(torch.autograd.grad(v[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1]))
    return div + change


# %% wrong="02.6" hint="the divergence of u is missing"
def continuity_residual(log_prob, u, x, t):
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    score, change = torch.autograd.grad(log_prob(x, t).sum(), (x, t))
    return change + (u(x, t) * score).sum(1)


# %% wrong="02.6" hint="sums *all* entries of the Jacobian"
def continuity_residual(log_prob, u, x, t):
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    score, change = torch.autograd.grad(log_prob(x, t).sum(), (x, t))
    v = u(x, t)
    div = torch.autograd.grad(v.sum(), x)[0].sum(1)
    return change + div + (v * score).sum(1)


# %% wrong="02.6" hint="the residual for p, not for log p"
def continuity_residual(log_prob, u, x, t):
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    p = log_prob(x, t).exp()
    slope, change = torch.autograd.grad(p.sum(), (x, t), retain_graph=True)
    v = u(x, t)
    div = sum(torch.autograd.grad(v[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1]))
    return change + p * div + (v * slope).sum(1)


# %% wrong="02.6" hint="not finite differences"
def continuity_residual(log_prob, u, x, t, h=1e-4):
    change = (log_prob(x, t + h) - log_prob(x, t)) / h
    total = change
    for i in range(x.shape[1]):
        step = torch.zeros_like(x)
        step[:, i] = h
        total = total + (u(x + step, t) - u(x, t))[:, i] / h
        total = total + u(x, t)[:, i] * (log_prob(x + step, t) - log_prob(x, t)) / h
    return total


# %% wrong="02.6" hint="are these finite differences"
def continuity_residual(log_prob, u, x, t, h=1e-5):
    total = (log_prob(x, t + h) - log_prob(x, t - h)) / (2 * h)
    for step in h * torch.eye(x.shape[1], dtype=x.dtype):
        along = u(x + step, t) - u(x - step, t)
        slope = log_prob(x + step, t) - log_prob(x - step, t)
        total = total + (along * step / h).sum(1) / (2 * h) + (u(x, t) * step / h).sum(1) * slope / (2 * h)
    return total


# %% wrong="02.6" hint="one number for each of the 6 points"
def continuity_residual(log_prob, u, x, t):
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    score, change = torch.autograd.grad(log_prob(x, t).sum(), (x, t))
    v = u(x, t)
    div = sum(torch.autograd.grad(v[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1]))
    return (change + div + (v * score).sum(1)).abs().max()


# %% wrong="02.6" hint="of a made-up density and velocity is wrong"
def continuity_residual(log_prob, u, x, t):
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    score, change = torch.autograd.grad(log_prob(x, t).sum(), (x, t))
    v = u(x, t)
    div = sum(torch.autograd.grad(v[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1]))
    return change - div - (v * score).sum(1)


# %% wrong="02.6" hint="the answer calls"
def continuity_residual(log_prob, u, x, t):
    from flowlib.likelihood import divergence

    x, t = x.clone().requires_grad_(), t.clone().requires_grad_()
    score, change = torch.autograd.grad(log_prob(x, t).sum(), (x, t))
    velocity, div = divergence(u, x, t.detach())
    return change + div + (velocity * score).sum(1)


# %% wrong="02.6" hint="is not finite everywhere"
def continuity_residual(log_prob, u, x, t):
    return torch.full_like(t, math.nan)


# %% wrong="02.6" hint="`x` has been changed in place"
def continuity_residual(log_prob, u, x, t):
    x *= 0
    return u(x, t).sum(1)


# %% wrong="02.6" hint="the sign of the residual is lost"
def continuity_residual(log_prob, u, x, t):
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    s, c = torch.autograd.grad(log_prob(x, t).sum(), (x, t))
    v = u(x, t)
    d = sum(torch.autograd.grad(v[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1]))
    return (c + d + (v * s).sum(1)).abs().detach()


# %% wrong="02.6" hint="wrong for one point in three dimensions"
def continuity_residual(log_prob, u, x, t):
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    s, c = torch.autograd.grad(log_prob(x, t).sum(), (x, t))
    v = u(x, t)
    d = sum(torch.autograd.grad(v[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(2))
    return (c + d + (v * s).sum(1)).detach()


# %% wrong="02.6" hint="its residual is not 0"
def continuity_residual(log_prob, u, x, t):
    return torch.zeros(len(x), dtype=x.dtype)


# %% wrong="02.6" hint="summed over all points"
def continuity_residual(log_prob, u, x, t):
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    s, c = torch.autograd.grad(log_prob(x, t).sum(), (x, t))
    v = u(x, t)
    d = sum(torch.autograd.grad(v[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1]))
    return (c + d + (v * s).sum()).detach()


# %% right="02.6" name="vmap of jacrev, x marked in place"
def continuity_residual(log_prob, u, x, t):
    x.requires_grad_()
    t.requires_grad_()
    logp = log_prob(x, t)
    s = torch.autograd.grad(logp.sum(), x, retain_graph=True)[0]
    c = torch.autograd.grad(logp.sum(), t)[0]
    v, out = u(x, t), 0
    for i in range(x.size(1)):
        out = out + torch.autograd.grad(v[:, i], x, torch.ones(len(x), dtype=x.dtype), retain_graph=True)[0][:, i]
    return c + out + torch.einsum("bd,bd->b", v, s)


# %% right="02.6" name="jacrev, sample by sample"
def continuity_residual(log_prob, u, x, t):
    out = []
    for point, time in zip(x, t, strict=True):
        jacobian = torch.func.jacrev(lambda p, time=time: u(p[None], time[None])[0])(point)
        score = torch.func.grad(lambda p, time=time: log_prob(p[None], time[None])[0])(point)
        change = torch.func.grad(lambda s, point=point: log_prob(point[None], s[None])[0])(time)
        out.append(change + jacobian.trace() + u(point[None], time[None])[0] @ score)
    return torch.stack(out)


# %% right="02.6" name="forward mode"
def continuity_residual(log_prob, u, x, t):
    total = torch.func.jvp(lambda s: log_prob(x, s), (t,), (torch.ones_like(t),))[1]
    total = total + torch.func.jvp(lambda p: log_prob(p, t), (x,), (u(x, t),))[1]
    for i in range(x.shape[1]):
        unit = torch.zeros_like(x)
        unit[:, i] = 1
        total = total + torch.func.jvp(lambda p: u(p, t), (x,), (unit,))[1][:, i]
    return total


# %% right="02.6" name="divergence of the flux over the density"
def continuity_residual(log_prob, u, x, t):
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    p = log_prob(x, t).exp()
    flux = p[:, None] * u(x, t)
    rate = torch.autograd.grad(p.sum(), t, retain_graph=True)[0]
    for i in range(x.shape[1]):
        rate = rate + torch.autograd.grad(flux[:, i].sum(), x, retain_graph=True)[0][:, i]
    return rate / p


# %% wrong="02.7" hint="the division by alpha is missing"
def posterior_moments(score, x, t, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    x = x.detach().requires_grad_()
    s = score(x)
    jacobian = torch.stack([torch.autograd.grad(s[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])], 1)
    return x + beta**2 * s, beta**2 / alpha**2 * (torch.eye(x.shape[1]) + beta**2 * jacobian)


# %% wrong="02.7" hint="multiplied by the standard deviation beta"
def posterior_moments(score, x, t, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    x = x.detach().requires_grad_()
    s = score(x)
    jacobian = torch.stack([torch.autograd.grad(s[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])], 1)
    return (x + beta * s) / alpha, beta / alpha**2 * (torch.eye(x.shape[1]) + beta * jacobian)


# %% wrong="02.7" hint="one has to go *up* the score"
def posterior_moments(score, x, t, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    x = x.detach().requires_grad_()
    s = score(x)
    jacobian = torch.stack([torch.autograd.grad(s[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])], 1)
    return (x - beta**2 * s) / alpha, beta**2 / alpha**2 * (torch.eye(x.shape[1]) + beta**2 * jacobian)


# %% wrong="02.7" hint="the mean is wrong: average"
def posterior_moments(score, x, t, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    x = x.detach().requires_grad_()
    s = score(x)
    jacobian = torch.stack([torch.autograd.grad(s[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])], 1)
    return x + beta**2 * s / alpha, beta**2 / alpha**2 * (torch.eye(x.shape[1]) + beta**2 * jacobian)


# %% wrong="02.7" hint="this is the Jacobian of the mean"
def posterior_moments(score, x, t, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    x = x.detach().requires_grad_()
    mean = (x + beta**2 * score(x)) / alpha
    rows = [torch.autograd.grad(mean[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
    return mean, torch.stack(rows, 1)


# %% wrong="02.7" hint="the covariance of alpha z, not of z"
def posterior_moments(score, x, t, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    x = x.detach().requires_grad_()
    s = score(x)
    jacobian = torch.stack([torch.autograd.grad(s[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])], 1)
    return (x + beta**2 * s) / alpha, beta**2 * (torch.eye(x.shape[1]) + beta**2 * jacobian)


# %% wrong="02.7" hint="on it one number is missing"
def posterior_moments(score, x, t, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    x = x.detach().requires_grad_()
    s = score(x)
    jacobian = torch.stack([torch.autograd.grad(s[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])], 1)
    return (x + beta**2 * s) / alpha, beta**4 / alpha**2 * jacobian


# %% wrong="02.7" hint="the square of the mean has to be taken off"
def posterior_moments(score, x, t, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    x = x.detach().requires_grad_()
    mean = (x + beta**2 * score(x)) / alpha
    rows = [torch.autograd.grad(mean[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
    return mean, beta**2 / alpha * torch.stack(rows, 1) + mean[:, :, None] * mean[:, None, :]


# %% wrong="02.7" hint="only the variances are there"
def posterior_moments(score, x, t, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    x = x.detach().requires_grad_()
    mean = (x + beta**2 * score(x)) / alpha
    slopes = [torch.autograd.grad(mean[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1])]
    return mean, torch.diag_embed(beta**2 / alpha * torch.stack(slopes, 1))


# %% wrong="02.7" hint="the covariances must have the shape"
def posterior_moments(score, x, t, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    x = x.detach().requires_grad_()
    mean = (x + beta**2 * score(x)) / alpha
    return mean, beta**2 / alpha * torch.autograd.grad(mean.sum(), x)[0]


# %% wrong="02.7" hint="the covariance is wrong: check powers"
def posterior_moments(score, x, t, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    x = x.detach().requires_grad_()
    mean = (x + beta**2 * score(x)) / alpha
    rows = [torch.autograd.grad(mean[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
    return mean, beta**2 / alpha**2 * torch.stack(rows, 1)


# %% wrong="02.7" hint="the answer calls"
def posterior_moments(score, x, t, schedule):
    path = GaussianPath(schedule)

    def denoise(x):
        return path.convert(score(x), x, t, "score", "data")

    jacobian = torch.autograd.functional.jacobian(lambda x: denoise(x).sum(0), x).movedim(1, 0)
    return denoise(x), schedule.beta(t) ** 2 / schedule.alpha(t) * jacobian


# %% wrong="02.7" hint="return two tensors"
def posterior_moments(score, x, t, schedule):
    return (x + schedule.beta(t) ** 2 * score(x)) / schedule.alpha(t)


# %% wrong="02.7" hint="this is alpha times the covariance"
def posterior_moments(score, x, t, schedule):
    a, b = schedule.alpha(t), schedule.beta(t)
    J = torch.func.vmap(torch.func.jacrev(lambda y: score(y[None])[0]))(x)
    return (x + b**2 * score(x)) / a, b**2 / a * (torch.eye(x.shape[1]).double() + b**2 * J)


# %% wrong="02.7" hint="the square of the score is still"
def posterior_moments(score, x, t, schedule):
    a, b = schedule.alpha(t), schedule.beta(t)
    J = torch.func.vmap(torch.func.jacrev(lambda y: score(y[None])[0]))(x)
    s = score(x)
    return (x + b**2 * s) / a, b**2 / a**2 * (torch.eye(x.shape[1]).double() + b**2 * (J + s[:, :, None] * s[:, None]))


# %% wrong="02.7" hint="enters with the wrong sign"
def posterior_moments(score, x, t, schedule):
    a, b = schedule.alpha(t), schedule.beta(t)
    J = torch.func.vmap(torch.func.jacrev(lambda y: score(y[None])[0]))(x)
    return (x + b**2 * score(x)) / a, b**2 / a**2 * (torch.eye(x.shape[1]).double() - b**2 * J)


# %% wrong="02.7" hint="all points got one covariance"
def posterior_moments(score, x, t, schedule):
    a, b = schedule.alpha(t), schedule.beta(t)
    J = torch.func.vmap(torch.func.jacrev(lambda y: score(y[None])[0]))(x)
    C = b**2 / a**2 * (torch.eye(x.shape[1]).double() + b**2 * J)
    return (x + b**2 * score(x)) / a, C.mean(0, keepdim=True).expand_as(C)


# %% right="02.7" name="jacfwd"
def posterior_moments(score, x, t, schedule):
    a, b = schedule.alpha(t), schedule.beta(t)

    def mean(y):
        return (y + b**2 * score(y[None])[0]) / a

    return torch.stack([mean(y) for y in x]), b**2 / a * torch.stack([torch.func.jacrev(mean)(y) for y in x])


# %% right="02.7" name="the Jacobian of the denoiser, by jacrev"
def posterior_moments(score, x, t, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)

    def denoise(point):
        return (point + beta**2 * score(point[None])[0]) / alpha

    means = torch.stack([denoise(point) for point in x])
    return means, torch.stack([beta**2 / alpha * torch.func.jacrev(denoise)(point) for point in x])


# %% right="02.7" name="torch.autograd.functional"
def posterior_moments(score, x, t, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    full = torch.autograd.functional.jacobian(lambda x: score(x).sum(0), x)  # (D, B, D)
    covariance = beta**4 / alpha**2 * (full.movedim(1, 0) + torch.eye(x.shape[1], dtype=x.dtype) / beta**2)
    return (x + beta**2 * score(x)) / alpha, covariance


# %% right="02.7" name="forward mode, column by column"
def posterior_moments(score, x, t, schedule):
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    mean, columns = (x + beta.square() * score(x)) / alpha, []
    for i in range(x.shape[1]):
        unit = torch.zeros_like(x)
        unit[:, i] = 1
        moved = torch.func.jvp(score, (x,), (unit,))[1]
        columns.append((beta / alpha) ** 2 * (unit + beta**2 * moved))
    return [mean, torch.stack(columns, dim=2)]
