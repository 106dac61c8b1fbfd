"""Wrong and right answers to exercise 04: each is the full content of a solution's cell."""


# %% wrong="04.1" hint="sign of the target"
def dsm_loss(
    score: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, z: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    shape = (-1,) + (1,) * (z.ndim - 1)
    alpha, beta = schedule.alpha(t).reshape(shape), schedule.beta(t).reshape(shape)
    return (beta * score(alpha * z + beta * noise, t) - noise).square().mean()


# %% wrong="04.1" hint="The weight is missing"
def dsm_loss(
    score: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, z: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    shape = (-1,) + (1,) * (z.ndim - 1)
    alpha, beta = schedule.alpha(t).reshape(shape), schedule.beta(t).reshape(shape)
    return (score(alpha * z + beta * noise, t) + noise / beta).square().mean()


# %% wrong="04.1" hint="beta alone is not enough"
def dsm_loss(
    score: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, z: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    shape = (-1,) + (1,) * (z.ndim - 1)
    alpha, beta = schedule.alpha(t).reshape(shape), schedule.beta(t).reshape(shape)
    return (beta * (score(alpha * z + beta * noise, t) + noise / beta) ** 2).mean()


# %% wrong="04.1" hint="fed it the clean data"
def dsm_loss(
    score: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, z: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    shape = (-1,) + (1,) * (z.ndim - 1)
    _alpha, beta = schedule.alpha(t).reshape(shape), schedule.beta(t).reshape(shape)
    return (beta * score(z, t) + noise).square().mean()


# %% wrong="04.1" hint="a sum grows"
def dsm_loss(
    score: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, z: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    shape = (-1,) + (1,) * (z.ndim - 1)
    alpha, beta = schedule.alpha(t).reshape(shape), schedule.beta(t).reshape(shape)
    return (beta * score(alpha * z + beta * noise, t) + noise).square().flatten(1).sum(1).mean()


# %% wrong="04.1" hint="scales columns"
def dsm_loss(
    score: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, z: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    return (beta * score(alpha * z + beta * noise, t) + noise).square().mean()


# %% wrong="04.1" hint="is something divided by 0"
def dsm_loss(
    score: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, z: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    shape = (-1,) + (1,) * (z.ndim - 1)
    alpha, beta = schedule.alpha(t).reshape(shape), schedule.beta(t).reshape(shape)
    x = alpha * z + beta * noise
    return (beta**2 * (score(x, t) - (alpha * z - x) / beta**2) ** 2).mean()


# %% wrong="04.1" hint="must be a scalar"
def dsm_loss(
    score: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, z: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    shape = (-1,) + (1,) * (z.ndim - 1)
    alpha, beta = schedule.alpha(t).reshape(shape), schedule.beta(t).reshape(shape)
    return (beta * score(alpha * z + beta * noise, t) + noise).square().flatten(1).mean(1)


# %% wrong="04.1" hint="for data of shape (4, 4)"
def dsm_loss(score, schedule, z, t, noise):
    a, b = schedule.alpha(t).view(-1, 1, 1, 1), schedule.beta(t).view(-1, 1, 1, 1)
    return (b * score(a * z + b * noise, t) + noise).square().mean()


# %% wrong="04.1" hint="No gradient reaches"
def dsm_loss(score, schedule, z, t, noise):
    s = (-1,) + (1,) * (z.ndim - 1)
    a, b = schedule.alpha(t).reshape(s), schedule.beta(t).reshape(s)
    with torch.no_grad():
        out = score(a * z + b * noise, t)
    return (b * out + noise).square().mean()


# %% wrong="04.1" hint="draw none"
def dsm_loss(score, schedule, z, t, noise):
    s = (-1,) + (1,) * (z.ndim - 1)
    a, b = schedule.alpha(t).reshape(s), schedule.beta(t).reshape(s)
    e = torch.randn_like(z)
    return (b * score(a * z + b * e, t) + e).square().mean()


# %% wrong="04.1" hint="at the levels of its own time"
def dsm_loss(score, schedule, z, t, noise):
    s = (-1,) + (1,) * (z.ndim - 1)
    a, b = schedule.alpha(t).reshape(s), schedule.beta(t).reshape(s).clamp(min=0.2)
    return (b * score(a * z + b * noise, t) + noise).square().mean()


# %% wrong="04.1" hint="The exact score must have no loss"
def dsm_loss(score, schedule, z, t, noise):
    s = (-1,) + (1,) * (z.ndim - 1)
    a, b = schedule.alpha(t).reshape(s), schedule.beta(t).reshape(s)
    return (b * (score(a * z + b * noise, t) + noise)).square().mean()


# %% wrong="04.1" hint="the answer calls"
def dsm_loss(score, schedule, z, t, noise):
    class Net(torch.nn.Module):
        def forward(self, x, t, y=None):
            return score(x, t)

    model = Model(Net(), GaussianPath(schedule), predicts="score")
    return losses.prediction_error(model, z, None, t, noise, "noise").mean()


# %% wrong="04.1" hint="The loss must be a tensor"
def dsm_loss(score, schedule, z, t, noise):
    return 0.0


# %% right="04.1" name="vmap free, flatten"
def dsm_loss(score, schedule, z, t, noise):
    def flat(v):
        return v.flatten(1)

    a, b = schedule.alpha(t)[:, None], schedule.beta(t)[:, None]
    x = (a * flat(z) + b * flat(noise)).reshape(z.shape)
    return ((b * flat(score(x, t)) + flat(noise)) ** 2).mean(1).mean()


# %% right="04.1" name="with the path"
def dsm_loss(
    score: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, z: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    beta = schedule.beta(t).reshape(-1, *[1] * (z.ndim - 1))
    x = GaussianPath(schedule).sample(z, t, noise)
    return torch.nn.functional.mse_loss(-beta * score(x, t), noise)


# %% right="04.1" name="loop"
def dsm_loss(
    score: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, z: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    x = torch.stack([schedule.alpha(t)[i] * z[i] + schedule.beta(t)[i] * noise[i] for i in range(len(z))])
    s = score(x, t)
    return sum((schedule.beta(t)[i] * s[i] + noise[i]).square().mean() for i in range(len(z))) / len(z)


# %% right="04.1" name="einsum"
def dsm_loss(
    score: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, z: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    x = torch.einsum("b,b...->b...", schedule.alpha(t), z) + torch.einsum("b,b...->b...", schedule.beta(t), noise)
    error = torch.einsum("b,b...->b...", schedule.beta(t), score(x, t)) + noise
    return (error * error).sum() / error.numel()


# %% wrong="04.2" hint="Here B = D"
def score_from_velocity(u: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (alpha * u - dalpha * x) / (beta * (dalpha * beta - alpha * dbeta))


def velocity_from_score(s: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (dalpha * x + beta * (dalpha * beta - alpha * dbeta) * s) / alpha


# %% wrong="04.2" hint="the score of N(0, I) is -x"
def score_from_velocity(u: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (dalpha * x - alpha * u) / (beta * (dalpha * beta - alpha * dbeta))


def velocity_from_score(s: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (dalpha * x + beta * (dalpha * beta - alpha * dbeta) * s) / alpha


# %% wrong="04.2" hint="one more division"
def score_from_velocity(u: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (alpha * u - dalpha * x) / (dalpha * beta - alpha * dbeta)


def velocity_from_score(s: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (dalpha * x + beta * (dalpha * beta - alpha * dbeta) * s) / alpha


# %% wrong="04.2" hint="b_t with the wrong sign"
def score_from_velocity(u: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (alpha * u - dalpha * x) / (beta * (dalpha * beta - alpha * dbeta))


def velocity_from_score(s: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (dalpha * x - beta * (dalpha * beta - alpha * dbeta) * s) / alpha


# %% wrong="04.2" hint="a factor beta is missing"
def score_from_velocity(u: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (alpha * u - dalpha * x) / (beta * (dalpha * beta - alpha * dbeta))


def velocity_from_score(s: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (dalpha * x + (dalpha * beta - alpha * dbeta) * s) / alpha


# %% wrong="04.2" hint="beta' need not be -1"
def score_from_velocity(u: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t[:, None]
    alpha, beta, dalpha, _dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (alpha * u - dalpha * x) / (beta * (dalpha * beta + alpha))


def velocity_from_score(s: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (dalpha * x + beta * (dalpha * beta - alpha * dbeta) * s) / alpha


# %% wrong="04.2" hint="alpha' need not be 1"
def score_from_velocity(u: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (alpha * u - dalpha * x) / (beta * (dalpha * beta - alpha * dbeta))


def velocity_from_score(s: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t[:, None]
    alpha, beta, _dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (x + beta * (beta - alpha * dbeta) * s) / alpha


# %% wrong="04.2" hint="divides by alpha"
def score_from_velocity(u: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    a, b = dalpha / alpha, (dalpha * beta**2 - dbeta * beta * alpha) / alpha
    return (u - a * x) / b


def velocity_from_score(s: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (dalpha * x + beta * (dalpha * beta - alpha * dbeta) * s) / alpha


# %% wrong="04.2" hint="the answer calls"
def score_from_velocity(u: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    return GaussianPath(schedule).convert(u, x, t, "velocity", "score")


def velocity_from_score(s: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    return GaussianPath(schedule).convert(s, x, t, "score", "velocity")


# %% wrong="04.2" hint="a small constant added to a denominator"
def score_from_velocity(u, x, t, schedule):
    t = t[:, None]
    a, b, da, db = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (a * u - da * x) / (b * (da * b - a * db) + 1e-4)


def velocity_from_score(s, x, t, schedule):
    t = t[:, None]
    a, b, da, db = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (da * x + b * (da * b - a * db) * s) / a


# %% wrong="04.2" hint="Each sample has a time of its own"
def score_from_velocity(u, x, t, schedule):
    t = t.mean()
    a, b, da, db = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (a * u - da * x) / (b * (da * b - a * db))


def velocity_from_score(s, x, t, schedule):
    t = t[:, None]
    a, b, da, db = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (da * x + b * (da * b - a * db) * s) / a


# %% wrong="04.2" hint="`u` has been changed in place"
def score_from_velocity(u, x, t, schedule):
    t = t[:, None]
    a, b, da, db = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    u *= a
    u -= da * x
    return u / (b * (da * b - a * db))


def velocity_from_score(s, x, t, schedule):
    t = t[:, None]
    a, b, da, db = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (da * x + b * (da * b - a * db) * s) / a


# %% right="04.2" name="Cramer"
def score_from_velocity(u, x, t, schedule):
    a, b, da, db = (f(t).unsqueeze(-1) for f in (schedule.alpha, schedule.beta, schedule.dalpha, schedule.dbeta))
    matrix = torch.stack([torch.cat([a, b], 1), torch.cat([da, db], 1)], 1)
    pair = torch.linalg.solve(matrix, torch.stack([x, u], 1))
    return -pair[:, 1] / b


def velocity_from_score(s, x, t, schedule):
    a, b, da, db = (f(t).unsqueeze(-1) for f in (schedule.alpha, schedule.beta, schedule.dalpha, schedule.dbeta))
    return da * (x + b**2 * s) / a - db * b * s


# %% right="04.2" name="a and b"
def score_from_velocity(u: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t.reshape(-1, 1)
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    return (alpha * u - dalpha * x) / (dalpha * beta**2 - dbeta * beta * alpha)


def velocity_from_score(s: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t.reshape(-1, 1)
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    a, b = dalpha / alpha, (dalpha * beta**2 - dbeta * beta * alpha) / alpha
    return a * x + b * s


# %% right="04.2" name="through data and noise"
def score_from_velocity(u: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    eps = (dalpha * x - alpha * u) / (dalpha * beta - alpha * dbeta)
    return -eps / beta


def velocity_from_score(s: Tensor, x: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    eps = -beta * s
    data = (x - beta * eps) / alpha
    return dalpha * data + dbeta * eps


# %% wrong="04.3" hint="the loop counts samples"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(len(x) - 1):
        t = torch.tensor(k * h)
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        w = schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
        x = x + h * (field.u(x, t) - eta * w * field.noise(x, t))
        x = x + torch.sqrt(2 * eta * beta * w * h) * torch.randn(x.shape, generator=generator)
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="one is missing"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 2):
        t = torch.tensor(k * h)
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        w = schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
        x = x + h * (field.u(x, t) - eta * w * field.noise(x, t))
        x = x + torch.sqrt(2 * eta * beta * w * h) * torch.randn(x.shape, generator=generator)
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="should land on D"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(steps):
        t = torch.tensor(k * h)
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        w = schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
        x = x + h * (field.u(x, t) - eta * w * field.noise(x, t))
        x = x + torch.sqrt(2 * eta * beta * w * h) * torch.randn(x.shape, generator=generator)
    return x


# %% wrong="04.3" hint="The last step starts at 1 - h"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(steps):
        t = torch.tensor(k * h)
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        w = schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
        x = x + h * (field.u(x, t) - eta * w * field.noise(x, t))
        x = x + torch.sqrt(2 * eta * beta * w * h) * torch.randn(x.shape, generator=generator)
    return field.data(x, torch.tensor(1.0))


# %% wrong="04.3" hint="nothing pulls them back"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        w = schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
        x = x + h * (field.u(x, t))
        x = x + torch.sqrt(2 * eta * beta * w * h) * torch.randn(x.shape, generator=generator)
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="you took half of that"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        w = schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
        x = x + h * (field.u(x, t) - eta * w / 2 * field.noise(x, t))
        x = x + torch.sqrt(2 * eta * beta * w * h) * torch.randn(x.shape, generator=generator)
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="grows by sqrt(h)"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        w = schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
        x = x + h * (field.u(x, t) - eta * w * field.noise(x, t))
        x = x + torch.sqrt(2 * eta * beta * w) * h * torch.randn(x.shape, generator=generator)
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="a product of two random numbers"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        w = schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
        x = x + h * (field.u(x, t) - eta * w * field.noise(x, t))
        x = x + torch.sqrt(2 * eta * beta * w * h) * torch.randn(x.shape, generator=generator) * torch.randn(
            x.shape, generator=generator
        )
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="does not come from the generator"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        w = schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
        x = x + h * (field.u(x, t) - eta * w * field.noise(x, t))
        x = x + torch.sqrt(2 * eta * beta * w * h) * torch.randn_like(x)
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="Check the drift"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        w = schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
        x = x + h * (field.u(x, t) + field.s(x, t) / 2)
        x = x + torch.sqrt(2 * eta * beta * w * h) * torch.randn(x.shape, generator=generator)
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="check g and the drift"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
        x = x + h * (field.u(x, t) + 0.5 * eta**2 * field.s(x, t))
        x = x + eta * h**0.5 * torch.randn(x.shape, generator=generator)
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="it drives the samples apart"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        w = schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
        x = x + h * (field.u(x, t) + eta * w * field.noise(x, t))
        x = x + torch.sqrt(2 * eta * beta * w * h) * torch.randn(x.shape, generator=generator)
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="w is missing in drift and noise"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        beta = schedule.beta(t)
        x = x + h * (field.u(x, t) - eta * field.noise(x, t))
        x = x + torch.sqrt(2 * eta * beta * h) * torch.randn(x.shape, generator=generator)
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="the drift's second term lacks"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        w = schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
        x = x + h * (field.u(x, t) - eta * field.noise(x, t))
        x = x + torch.sqrt(2 * eta * beta * w * h) * torch.randn(x.shape, generator=generator)
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="and its w is missing"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        w = schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
        x = x + h * (field.u(x, t) - eta * w * field.noise(x, t))
        x = x + torch.sqrt(2 * eta * beta * h) * torch.randn(x.shape, generator=generator)
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="from what do you compute w"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        beta = schedule.beta(t)
        w = -schedule.dbeta(t)  # 1 on the linear path
        x = x + h * (field.u(x, t) - eta * w * field.noise(x, t))
        x = x + torch.sqrt(2 * eta * beta * w * h) * torch.randn(x.shape, generator=generator)
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="the answer calls"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    return samplers.sample_sde(field, noise, steps=steps, eta=eta, generator=generator)


# %% wrong="04.3" hint="The coordinates of a sample got the same noise"
def sample_sde(field, noise, steps, eta, generator):
    x, sc, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        a, b = sc.alpha(t), sc.beta(t)
        w = sc.dalpha(t) * b - a * sc.dbeta(t)
        xi = torch.randn(len(x), *[1] * (x.ndim - 1), generator=generator)
        x = x + h * (field.u(x, t) - eta * w * field.noise(x, t)) + (2 * eta * b * w * h).sqrt() * xi
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="Two seeds gave one result"
def sample_sde(field, noise, steps, eta, generator):
    generator = torch.Generator().manual_seed(0)
    x, sc, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        a, b = sc.alpha(t), sc.beta(t)
        w = sc.dalpha(t) * b - a * sc.dbeta(t)
        xi = torch.randn(x.shape, generator=generator)
        x = x + h * (field.u(x, t) - eta * w * field.noise(x, t)) + (2 * eta * b * w * h).sqrt() * xi
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="The noise is scaled by eta"
def sample_sde(field, noise, steps, eta, generator):
    x, sc, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        a, b = sc.alpha(t), sc.beta(t)
        w = sc.dalpha(t) * b - a * sc.dbeta(t)
        xi = torch.randn(x.shape, generator=generator)
        x = x + h * (field.u(x, t) - eta * w * field.noise(x, t)) + eta * (2 * b * w * h).sqrt() * xi
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="Every step uses the same noise"
def sample_sde(field, noise, steps, eta, generator):
    x, sc, h = noise, field.path.schedule, 1 / steps
    xi = torch.randn(x.shape, generator=generator)
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        a, b = sc.alpha(t), sc.beta(t)
        w = sc.dalpha(t) * b - a * sc.dbeta(t)
        x = x + h * (field.u(x, t) - eta * w * field.noise(x, t)) + (2 * eta * b * w * h).sqrt() * xi
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="`noise` has been changed in place"
def sample_sde(field, noise, steps, eta, generator):
    x, sc, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        a, b = sc.alpha(t), sc.beta(t)
        w = sc.dalpha(t) * b - a * sc.dbeta(t)
        xi = torch.randn(x.shape, generator=generator)
        x += h * (field.u(x, t) - eta * w * field.noise(x, t)) + (2 * eta * b * w * h).sqrt() * xi
    return field.data(x, torch.tensor(1 - h))


# %% wrong="04.3" hint="lands on D, and adds no noise"
def sample_sde(field, noise, steps, eta, generator):
    x, sc, h = noise, field.path.schedule, 1 / steps
    for k in range(steps):
        t = torch.tensor(k * h)
        a, b = sc.alpha(t), sc.beta(t)
        w = sc.dalpha(t) * b - a * sc.dbeta(t)
        xi = torch.randn(x.shape, generator=generator)
        g = (2 * eta * b * w * h).sqrt() * xi
        x = field.data(x, t) + g if k == steps - 1 else x + h * (field.u(x, t) - eta * w * field.noise(x, t)) + g
    return x


# %% wrong="04.3" hint="or its mirror image"
def sample_sde(field, noise, steps, eta, generator):
    x, sc, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        a, b = sc.alpha(t), sc.beta(t)
        w = sc.dalpha(t) * b - a * sc.dbeta(t)
        xi = torch.randn((len(x) + 1) // 2, *x.shape[1:], generator=generator)
        xi = torch.cat([xi, -xi])[: len(x)]
        x = x + h * (field.u(x, t) - eta * w * field.noise(x, t)) + (2 * eta * b * w * h).sqrt() * xi
    return field.data(x, torch.tensor(1 - h))


# %% right="04.3" name="pairwise, drift through the score"
def sample_sde(field, noise, steps, eta, generator):
    times = torch.linspace(0, 1, steps + 1)
    sc, x = field.path.schedule, noise.clone()
    for i, (t, s) in enumerate(pairwise(times)):
        D, e = field.pair(x, t)
        if i == steps - 1:
            return D
        w = sc.dalpha(t) * sc.beta(t) - sc.alpha(t) * sc.dbeta(t)
        x = x + (s - t) * (sc.dalpha(t) * D + sc.dbeta(t) * e - eta * w * e)
        x = x + torch.sqrt(2 * eta * sc.beta(t) * w * (s - t)) * torch.empty_like(x).normal_(generator=generator)
    return x


# %% right="04.3" name="data and noise from one evaluation"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule = noise.clone(), field.path.schedule
    grid = torch.linspace(0, 1, steps + 1)
    for i in range(steps):
        t, h = grid[i], grid[i + 1] - grid[i]
        data, eps = field.pair(x, t)
        if i == steps - 1:
            return data
        beta = schedule.beta(t)
        w = schedule.dalpha(t) * beta - schedule.alpha(t) * schedule.dbeta(t)
        step = h * (schedule.dalpha(t) * data + (schedule.dbeta(t) - eta * w) * eps)
        x += step + (2 * eta * beta * w * h) ** 0.5 * torch.empty_like(x).normal_(generator=generator)
    return x


# %% right="04.3" name="the score in the drift"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    x, schedule, h = noise, field.path.schedule, 1 / steps
    for k in range(steps - 1):
        t = torch.tensor(k * h)
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        w = schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
        x = x + h * (field.u(x, t) + eta * beta * w * field.s(x, t))
        x = x + torch.sqrt(2 * eta * beta * w * h) * torch.randn(x.shape, generator=generator)
    return field.data(x, torch.tensor(1 - h))


# %% right="04.3" name="noise drawn at once"
def sample_sde(field: Field, noise: Tensor, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    increments = torch.randn(steps, *noise.shape, generator=generator) / steps**0.5
    x, schedule = noise, field.path.schedule
    for k in range(steps - 1):
        t = torch.tensor(k / steps)
        a, b, da, db = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
        g2 = 2 * eta * b * (da * b - a * db)
        x = x + (field.u(x, t) + g2 / 2 * field.s(x, t)) / steps + g2.sqrt() * increments[k]
    return field.data(x, (steps - 1) / steps)


# %% wrong="04.4" hint="The flow u pulls as well"
def amplification(g: float, beta: float, h: float) -> float:
    return 1 - h * g**2 / (2 * beta**2)


def largest_step(g: float, beta: float) -> float:
    return 2 / (1 / beta + g**2 / (2 * beta**2))


def error_std(g: float, steps: int) -> float:
    variance = 1.0
    for k in range(steps, 0, -1):
        variance = amplification(g, k / steps, 1 / steps) ** 2 * variance + g**2 / steps
    return math.sqrt(variance)


# %% wrong="04.4" hint="half of g^2"
def amplification(g: float, beta: float, h: float) -> float:
    return 1 - h / beta - h * g**2 / beta**2


def largest_step(g: float, beta: float) -> float:
    return 2 / (1 / beta + g**2 / (2 * beta**2))


def error_std(g: float, steps: int) -> float:
    variance = 1.0
    for k in range(steps, 0, -1):
        variance = amplification(g, k / steps, 1 / steps) ** 2 * variance + g**2 / steps
    return math.sqrt(variance)


# %% wrong="04.4" hint="check its power"
def amplification(g: float, beta: float, h: float) -> float:
    return 1 - h / beta - h * g**2 / (2 * beta)


def largest_step(g: float, beta: float) -> float:
    return 2 / (1 / beta + g**2 / (2 * beta**2))


def error_std(g: float, steps: int) -> float:
    variance = 1.0
    for k in range(steps, 0, -1):
        variance = amplification(g, k / steps, 1 / steps) ** 2 * variance + g**2 / steps
    return math.sqrt(variance)


# %% wrong="04.4" hint="check the sign of its term"
def amplification(g: float, beta: float, h: float) -> float:
    return 1 + h / beta - h * g**2 / (2 * beta**2)


def largest_step(g: float, beta: float) -> float:
    return 2 / (1 / beta + g**2 / (2 * beta**2))


def error_std(g: float, steps: int) -> float:
    variance = 1.0
    for k in range(steps, 0, -1):
        variance = amplification(g, k / steps, 1 / steps) ** 2 * variance + g**2 / steps
    return math.sqrt(variance)


# %% wrong="04.4" hint="amplification is A itself, with its sign"
def amplification(g: float, beta: float, h: float) -> float:
    return abs(1 - h / beta - h * g**2 / (2 * beta**2))


def largest_step(g: float, beta: float) -> float:
    return 2 / (1 / beta + g**2 / (2 * beta**2))


def error_std(g: float, steps: int) -> float:
    variance = 1.0
    for k in range(steps, 0, -1):
        variance = amplification(g, k / steps, 1 / steps) ** 2 * variance + g**2 / steps
    return math.sqrt(variance)


# %% wrong="04.4" hint="allows it to be negative"
def amplification(g: float, beta: float, h: float) -> float:
    return 1 - h / beta - h * g**2 / (2 * beta**2)


def largest_step(g: float, beta: float) -> float:
    return 1 / (1 / beta + g**2 / (2 * beta**2))


def error_std(g: float, steps: int) -> float:
    variance = 1.0
    for k in range(steps, 0, -1):
        variance = amplification(g, k / steps, 1 / steps) ** 2 * variance + g**2 / steps
    return math.sqrt(variance)


# %% wrong="04.4" hint="the pull of the flow itself"
def amplification(g: float, beta: float, h: float) -> float:
    return 1 - h / beta - h * g**2 / (2 * beta**2)


def largest_step(g: float, beta: float) -> float:
    return 4 * beta**2 / g**2


def error_std(g: float, steps: int) -> float:
    variance = 1.0
    for k in range(steps, 0, -1):
        variance = amplification(g, k / steps, 1 / steps) ** 2 * variance + g**2 / steps
    return math.sqrt(variance)


# %% wrong="04.4" hint="returns the variance"
def amplification(g: float, beta: float, h: float) -> float:
    return 1 - h / beta - h * g**2 / (2 * beta**2)


def largest_step(g: float, beta: float) -> float:
    return 2 / (1 / beta + g**2 / (2 * beta**2))


def error_std(g: float, steps: int) -> float:
    variance = 1.0
    for k in range(steps, 0, -1):
        variance = amplification(g, k / steps, 1 / steps) ** 2 * variance + g**2 / steps
    return variance


# %% wrong="04.4" hint="forgets the noise"
def amplification(g: float, beta: float, h: float) -> float:
    return 1 - h / beta - h * g**2 / (2 * beta**2)


def largest_step(g: float, beta: float) -> float:
    return 2 / (1 / beta + g**2 / (2 * beta**2))


def error_std(g: float, steps: int) -> float:
    variance = 1.0
    for k in range(steps, 0, -1):
        variance = amplification(g, k / steps, 1 / steps) ** 2 * variance
    return math.sqrt(variance)


# %% wrong="04.4" hint="no error at all"
def amplification(g: float, beta: float, h: float) -> float:
    return 1 - h / beta - h * g**2 / (2 * beta**2)


def largest_step(g: float, beta: float) -> float:
    return 2 / (1 / beta + g**2 / (2 * beta**2))


def error_std(g: float, steps: int) -> float:
    variance = 0.0
    for k in range(steps, 0, -1):
        variance = amplification(g, k / steps, 1 / steps) ** 2 * variance + g**2 / steps
    return math.sqrt(variance)


# %% wrong="04.4" hint="Brownian motion adds g^2 h"
def amplification(g: float, beta: float, h: float) -> float:
    return 1 - h / beta - h * g**2 / (2 * beta**2)


def largest_step(g: float, beta: float) -> float:
    return 2 / (1 / beta + g**2 / (2 * beta**2))


def error_std(g: float, steps: int) -> float:
    variance = 1.0
    for k in range(steps, 0, -1):
        variance = amplification(g, k / steps, 1 / steps) ** 2 * variance + (g / steps) ** 2
    return math.sqrt(variance)


# %% wrong="04.4" hint="at the end of each step"
def amplification(g: float, beta: float, h: float) -> float:
    return 1 - h / beta - h * g**2 / (2 * beta**2)


def largest_step(g: float, beta: float) -> float:
    return 2 / (1 / beta + g**2 / (2 * beta**2))


def error_std(g: float, steps: int) -> float:
    variance = 1.0
    for k in range(steps, 0, -1):
        variance = (amplification(g, (k - 1) / steps, 1 / steps) ** 2 if k > 1 else 1.0) * variance + g**2 / steps
    return math.sqrt(variance)


# %% wrong="04.4" hint="With your h a step has A"
def amplification(g, beta, h):
    return 1 - h / beta - h * g**2 / (2 * beta**2)


def largest_step(g, beta):
    return 2 / (1 / beta + g**2 / beta**2)


def error_std(g, steps):
    v = 1.0
    for k in range(steps, 0, -1):
        v = amplification(g, k / steps, 1 / steps) ** 2 * v + g**2 / steps
    return math.sqrt(v)


# %% wrong="04.4" hint="error_std(1.0, 10) should be"
def amplification(g, beta, h):
    return 1 - h / beta - h * g**2 / (2 * beta**2)


def largest_step(g, beta):
    return 2 / (1 / beta + g**2 / (2 * beta**2))


def error_std(g, steps):
    v = 1.0
    for k in range(steps, 0, -1):
        v = abs(amplification(g, k / steps, 1 / steps)) * v + g**2 / steps
    return math.sqrt(v)


# %% wrong="04.4" hint="it must be finite"
def amplification(g, beta, h):
    return math.nan


def largest_step(g, beta):
    return math.nan


def error_std(g, steps):
    return math.nan


# %% right="04.4" name="common denominators"
def amplification(g, beta, h):
    return (2 * beta**2 - 2 * h * beta - h * g * g) / (2 * beta**2)


def largest_step(g, beta):
    return 4 * beta**2 / (2 * beta + g * g)


def error_std(g, steps):
    N, spread = steps, 1.0
    for k in reversed(range(1, N + 1)):
        spread = math.hypot(spread * (1 - 1 / k - g * g * N / (2 * k * k)), g / math.sqrt(N))
    return spread


# %% right="04.4" name="factored"
def amplification(g: float, beta: float, h: float) -> float:
    return 1 - h * (2 * beta + g**2) / (2 * beta**2)


def largest_step(g: float, beta: float) -> float:
    return 4 * beta**2 / (2 * beta + g**2)


def error_std(g: float, steps: int) -> float:
    variance = 1.0
    for k in range(steps, 0, -1):
        variance = amplification(g, k / steps, 1 / steps) ** 2 * variance + g**2 / steps
    return math.sqrt(variance)


# %% right="04.4" name="forwards in time"
def amplification(g: float, beta: float, h: float) -> float:
    return 1 - h / beta - h * g**2 / (2 * beta**2)


def largest_step(g: float, beta: float) -> float:
    return 2 / (1 / beta + g**2 / (2 * beta**2))


def error_std(g: float, steps: int) -> float:
    variance = 1.0
    for k in range(steps):
        variance = amplification(g, 1 - k / steps, 1 / steps) ** 2 * variance + g**2 / steps
    return variance**0.5


# %% right="04.4" name="tensors"
def amplification(g: float, beta: float, h: float) -> float:
    return 1 - h / beta - h * g**2 / (2 * beta**2)


def largest_step(g: float, beta: float) -> float:
    return torch.tensor(2.0) / (1 / beta + g**2 / (2 * beta**2))


def error_std(g: float, steps: int) -> float:
    variance = 1.0
    for k in range(steps, 0, -1):
        variance = amplification(g, k / steps, 1 / steps) ** 2 * variance + g**2 / steps
    return torch.tensor(variance).sqrt()


# %% wrong="04.5" hint="asserts nothing about the result"
def test_simulator(simulate: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    simulate(lambda x, t: -x, lambda t: 1.0, torch.randn(4, 2, generator=generator), torch.linspace(0, 1, 5), generator)


# %% wrong="04.5" hint="looks at the shape, not"
def test_simulator(simulate: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 2, generator=generator)
    assert simulate(lambda x, t: -x, lambda t: 1.0, x, torch.linspace(0, 1, 5), generator).shape == x.shape


# %% wrong="04.5" hint="multiplies noise by noise"
def test_simulator(simulate: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    x, times = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([0.0, 0.1, 0.15, 0.5, 0.6, 1.0])
    expected = x.clone()
    for t, s in pairwise(times):
        expected = expected + (s - t) * (t - expected)
    found = simulate(lambda x, t: t - x, lambda t: 0.0 * t, x, times, generator)
    assert torch.allclose(found, expected)
    count, times = 40_000, torch.tensor([0.0, 0.2, 1.0])
    found = simulate(lambda x, t: torch.zeros_like(x), lambda t: 1.0 + t, torch.zeros(count, 1), times, generator)
    variance = 0.2 + 0.8 * 1.2**2
    assert abs(float(found.mean())) < 5 * (variance / count) ** 0.5
    assert abs(float(found.var()) / variance - 1) < 5 * (2 / count) ** 0.5


# %% wrong="04.5" hint="counts samples instead of steps"
def test_simulator(simulate: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    x, times = torch.randn(50, 2, generator=generator), torch.tensor([0.0, 0.1, 0.15, 0.5, 0.6, 1.0])
    expected = x.clone()
    for t, s in pairwise(times):
        expected = expected + (s - t) * (t - expected)
    found = simulate(lambda x, t: t - x, lambda t: 0.0 * t, x, times, generator)
    assert torch.allclose(found, expected)
    count, times = 40_000, torch.tensor([0.0, 0.2, 1.0])
    found = simulate(lambda x, t: torch.zeros_like(x), lambda t: 1.0 + t, torch.zeros(count, 1), times, generator)
    variance = 0.2 + 0.8 * 1.2**2
    assert abs(float(found.mean())) < 5 * (variance / count) ** 0.5
    assert abs(float(found.var()) / variance - 1) < 5 * (2 / count) ** 0.5
    assert abs(float((found**4).mean()) / variance**2 - 3) < 5 * (96 / count) ** 0.5


# %% wrong="04.5" hint="one step too few"
def test_simulator(simulate: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    times = torch.linspace(0, 1, 401) ** 2
    found = simulate(lambda x, t: -x, lambda t: 0.0, torch.ones(3, 1), times, generator)
    assert torch.allclose(found, torch.full((3, 1), math.exp(-1)), rtol=0.02)
    count, times = 40_000, torch.tensor([0.0, 0.999, 1.0])
    found = simulate(lambda x, t: torch.zeros_like(x), lambda t: 1.0 + t, torch.zeros(count, 1), times, generator)
    variance = 1.0
    assert abs(float(found.mean())) < 5 * (variance / count) ** 0.5
    assert abs(float(found.var()) / variance - 1) < 5 * (2 / count) ** 0.5
    assert abs(float((found**4).mean()) / variance**2 - 3) < 5 * (96 / count) ** 0.5


# %% wrong="04.5" hint="On a uniform grid they are"
def test_simulator(simulate: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    x, times = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    expected = x.clone()
    for t, s in pairwise(times):
        expected = expected + (s - t) * (t - expected)
    found = simulate(lambda x, t: t - x, lambda t: 0.0 * t, x, times, generator)
    assert torch.allclose(found, expected)
    count, times = 40_000, torch.tensor([0.0, 0.5, 1.0])
    found = simulate(lambda x, t: torch.zeros_like(x), lambda t: 1.0 + t, torch.zeros(count, 1), times, generator)
    variance = 0.5 + 0.5 * 1.5**2
    assert abs(float(found.mean())) < 5 * (variance / count) ** 0.5
    assert abs(float(found.var()) / variance - 1) < 5 * (2 / count) ** 0.5
    assert abs(float((found**4).mean()) / variance**2 - 3) < 5 * (96 / count) ** 0.5


# %% wrong="04.5" hint="rejects `in_a_loop`"
def test_simulator(simulate: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    x, times = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([0.0, 0.1, 0.15, 0.5, 0.6, 1.0])
    expected = x.clone()
    for t, s in pairwise(times):
        expected = expected + (s - t) * (t - expected)
    found = simulate(lambda x, t: t - x, lambda t: 0.0 * t, x, times, generator)
    assert torch.allclose(found, expected)
    count, times = 40_000, torch.tensor([0.0, 0.2, 1.0])
    found = simulate(lambda x, t: torch.zeros_like(x), lambda t: 1.0 + t, torch.zeros(count, 1), times, generator)
    variance = 0.2 + 0.8 * 1.2**2
    assert abs(float(found.mean())) < 0.01 * (variance / count) ** 0.5
    assert abs(float(found.var()) / variance - 1) < 0.01 * (2 / count) ** 0.5
    assert abs(float((found**4).mean()) / variance**2 - 3) < 5 * (96 / count) ** 0.5


# %% wrong="04.5" hint="compare laws, not single draws"
def test_simulator(simulate: Callable) -> None:
    torch.Generator().manual_seed(0)
    x, times = torch.zeros(20, 3), torch.tensor([0.0, 0.2, 1.0])
    found = simulate(lambda x, t: -x, lambda t: 1.0, x, times, torch.Generator().manual_seed(1))
    assert torch.allclose(found, in_a_loop(lambda x, t: -x, lambda t: 1.0, x, times, torch.Generator().manual_seed(1)))


# %% wrong="04.5" hint="instead of g sqrt(h)"
def test_simulator(simulate: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    x, times = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([0.0, 0.1, 0.15, 0.5, 0.6, 1.0])
    expected = x.clone()
    for t, s in pairwise(times):
        expected = expected + (s - t) * (t - expected)
    found = simulate(lambda x, t: t - x, lambda t: 0.0 * t, x, times, generator)
    assert torch.allclose(found, expected)
    times = torch.tensor([0.0, 1.0])  # a step of size 1, whose root is 1
    found = simulate(lambda x, t: 0 * x, lambda t: 1.0, torch.zeros(40_000, 1), times, generator)
    assert abs(float(found.var()) - 1) < 5 * (2 / 40_000) ** 0.5
    assert abs(float((found**4).mean()) - 3) < 0.25


# %% wrong="04.5" hint="the standard deviation g"
def test_simulator(simulate: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    x, times = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([0.0, 0.1, 0.15, 0.5, 0.6, 1.0])
    expected = x.clone()
    for t, s in pairwise(times):
        expected = expected + (s - t) * (t - expected)
    found = simulate(lambda x, t: t - x, lambda t: 0.0 * t, x, times, generator)
    assert torch.allclose(found, expected)
    count, times = 40_000, torch.tensor([0.0, 0.2, 1.0])
    found = simulate(lambda x, t: torch.zeros_like(x), lambda t: 1.0, torch.zeros(count, 1), times, generator)
    variance = 1.0
    assert abs(float(found.mean())) < 5 * (variance / count) ** 0.5
    assert abs(float(found.var()) / variance - 1) < 5 * (2 / count) ** 0.5
    assert abs(float((found**4).mean()) / variance**2 - 3) < 5 * (96 / count) ** 0.5


# %% wrong="04.5" hint="calls it in a way that was not promised"
def test_simulator(simulate: Callable) -> None:
    torch.Generator().manual_seed(0)
    simulate(lambda x, t: -x, lambda t: 1.0, torch.zeros(4, 2), torch.linspace(0, 1, 5), generator=7)


# %% wrong="04.5" hint="takes the drift at the first time"
def test_simulator(simulate):
    g = torch.Generator().manual_seed(0)
    x, times = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([0.0, 0.1, 0.15, 0.5, 0.6, 1.0])
    e = x.clone()
    for t, s in pairwise(times):
        e = e - (s - t) * e
    keep = x.clone()
    out = simulate(lambda x, t: -x, lambda t: 0.0 * t, x, times, g)
    assert torch.allclose(out, e)
    assert torch.equal(x, keep)
    n, ts = 40000, torch.tensor([0.0, 0.2, 1.0])
    f = simulate(lambda x, t: 0 * x, lambda t: 1.0 + t, torch.zeros(n, 2), ts, g)
    v = 0.2 + 0.8 * 1.44
    for c in (f[:, 0], f[:, 1], (f[:, 0] + f[:, 1]) / 2**0.5):
        assert c.mean().abs() < 5 * (v / n) ** 0.5
        assert abs(float(c.var()) / v - 1) < 5 * (2 / n) ** 0.5
        assert abs(float((c**4).mean()) / v**2 - 3) < 5 * (96 / n) ** 0.5


# %% wrong="04.5" hint="takes the diffusion at the first time"
def test_simulator(simulate):
    g = torch.Generator().manual_seed(0)
    x, times = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([0.0, 0.1, 0.15, 0.5, 0.6, 1.0])
    e = x.clone()
    for t, s in pairwise(times):
        e = e + (s - t) * (t - e)
    keep = x.clone()
    out = simulate(lambda x, t: t - x, lambda t: 0.0 * t, x, times, g)
    assert torch.allclose(out, e)
    assert torch.equal(x, keep)
    n, ts = 40000, torch.tensor([0.0, 0.2, 1.0])
    f = simulate(lambda x, t: 0 * x, lambda t: 2.0, torch.zeros(n, 2), ts, g)
    v = 4.0
    for c in (f[:, 0], f[:, 1], (f[:, 0] + f[:, 1]) / 2**0.5):
        assert c.mean().abs() < 5 * (v / n) ** 0.5
        assert abs(float(c.var()) / v - 1) < 5 * (2 / n) ** 0.5
        assert abs(float((c**4).mean()) / v**2 - 3) < 5 * (96 / n) ** 0.5


# %% right="04.5" name="whitened by known steps, rank test of kurtosis"
def test_simulator(simulate):
    g = torch.Generator().manual_seed(7)
    x, times = torch.randn(3, 2, generator=g), torch.tensor([0.2, 0.25, 0.6, 0.7, 1.5])
    mine, kept = x.clone(), x.clone()
    for k in range(4):
        mine = mine + (times[k + 1] - times[k]) * torch.sin(mine + 3 * times[k])
    out = simulate(lambda x, t: torch.sin(x + 3 * t), lambda t: 0.0, x, times, g)
    assert isinstance(out, Tensor)
    assert out.shape == (3, 2)
    assert float((out - mine).abs().max()) < 1e-10
    assert torch.equal(x, kept)
    n = 60000
    out = simulate(
        lambda x, t: torch.zeros_like(x), lambda t: 2 * t + 0.5, torch.zeros(n, 2), torch.tensor([0.0, 0.5, 0.6]), g
    )
    var = 0.5 * 0.25 + 0.1 * 2.25
    z = torch.cat([out, (out[:, :1] - out[:, 1:]) / 2**0.5], 1) / var**0.5
    assert bool((z.mean(0).abs() < 5 / n**0.5).all())
    assert bool(((z**2).mean(0) - 1).abs().max() < 5 * (2 / n) ** 0.5)
    assert bool(((z**4).mean(0) - 3).abs().max() < 5 * (96 / n) ** 0.5)


# %% right="04.5" name="a Kolmogorov-Smirnov test"
def test_simulator(simulate: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    x, times = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([0.0, 0.1, 0.15, 0.5, 0.6, 1.0])
    expected = x.clone()
    for t, s in pairwise(times):
        expected = expected + (s - t) * (t - expected)
    start = x.clone()
    found = simulate(lambda x, t: t - x, lambda t: 0.0 * t, x, times, generator)
    assert torch.allclose(found, expected)
    assert torch.equal(x, start)
    count = 20_000
    for times in (torch.tensor([0.0, 0.4]), torch.tensor([0.0, 0.3, 0.4])):
        found = simulate(lambda x, t: 0 * x, lambda t: 2.0 + 9 * t, torch.zeros(count, 2), times, generator)
        std = float((times.diff() * (2 + 9 * times[:-1]) ** 2).sum()) ** 0.5
        levels = (torch.arange(count) + 0.5) / count
        for direction in ((1.0, 0.0), (0.0, 1.0), (0.6, 0.8)):  # a mixture of the coordinates has the same law
            values = (found @ torch.tensor(direction)).sort().values
            exact = torch.distributions.Normal(0.0, std).cdf(values)
            assert float((exact - levels).abs().max()) < 2.8 / count**0.5  # three in ten million


# %% right="04.5" name="counting calls"
def test_simulator(simulate: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    seen = []

    def drift(x: Tensor, t: Tensor) -> Tensor:
        seen.append(float(t))
        return torch.ones_like(x)

    times = torch.tensor([0.0, 0.3, 0.4, 0.9, 1.1, 1.15])
    found = simulate(drift, lambda t: 0.0, torch.zeros(2, 1), times, generator)
    assert len(seen) == 5
    assert abs(float(found[0, 0]) - 1.15) < 1e-9
    x, times = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([0.0, 0.1, 0.15, 0.5, 0.6, 1.0])
    expected = x.clone()
    for t, s in pairwise(times):
        expected = expected + (s - t) * (t - expected)
    start = x.clone()
    found = simulate(lambda x, t: t - x, lambda t: 0.0 * t, x, times, generator)
    assert torch.allclose(found, expected)
    assert torch.equal(x, start)
    count, times = 40_000, torch.tensor([0.0, 0.2, 1.0])
    found = simulate(lambda x, t: torch.zeros_like(x), lambda t: 1.0 + t, torch.zeros(count, 2), times, generator)
    variance = 0.2 + 0.8 * 1.2**2
    for values in (found[:, 0], found[:, 1], found.sum(1) / 2**0.5):
        assert abs(float(values.mean())) < 5 * (variance / count) ** 0.5
        assert abs(float(values.var()) / variance - 1) < 5 * (2 / count) ** 0.5
        assert abs(float((values**4).mean()) / variance**2 - 3) < 5 * (96 / count) ** 0.5


# %% right="04.5" name="raises by hand"
def test_simulator(simulate: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    x, times = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([0.0, 0.1, 0.15, 0.5, 0.6, 1.0])
    expected = x.clone()
    for t, s in pairwise(times):
        expected = expected + (s - t) * (t - expected)
    start = x.clone()
    found = simulate(lambda x, t: t - x, lambda t: 0.0 * t, x, times, generator)
    assert torch.allclose(found, expected)
    assert torch.equal(x, start)
    for times, scale in (
        (torch.tensor([0.0, 0.25]), 1.0),
        (torch.tensor([0.0, 0.25, 0.5]), (1 + 0.25 * 2.25**2) ** 0.5),
    ):
        found = simulate(lambda x, t: x * 0, lambda t: t + 2, torch.zeros(50_000, 2), times, generator) / scale
        for power, moment, error in ((1, 0, 1), (2, 1, 2**0.5), (4, 3, 96**0.5)):
            if bool(((found**power).mean(0) - moment).abs().max() > 5 * error / 50_000**0.5):
                raise AssertionError(f"moment {power} is wrong")
        if abs(float((found[:, 0] * found[:, 1]).mean())) > 5 / 50_000**0.5:
            raise AssertionError("the coordinates depend on each other")


# %% wrong="04.6" hint="it asserts nothing"
def test_loss(loss: Callable) -> None:
    loss(lambda x, t, y: 0 * x, torch.rand(4, 1, 8, 8), torch.arange(4))


# %% wrong="04.6" hint="the shape of the result alone"
def test_loss(loss: Callable) -> None:
    assert loss(lambda x, t, y: 0 * x, torch.rand(4, 1, 8, 8), torch.arange(4)).shape == ()


# %% wrong="04.6" hint="writes into the caller's labels"
def test_loss(loss: Callable) -> None:
    generator, seen = torch.Generator().manual_seed(0), {}

    def spy(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        seen.update(x=x.clone(), t=t.clone(), y=y.clone())
        return torch.zeros_like(x)

    z, y = torch.rand(12, 1, 12, 12, generator=generator), torch.arange(12) % 10
    for dropout in (0.0, 0.5, 1.0):
        labels = y.clone()
        value = loss(spy, z, labels, dropout=dropout, generator=generator)
        t = seen["t"].reshape(-1, 1, 1, 1)
        noise = (seen["x"] - t * z) / (1 - t)
        assert torch.allclose(value, (z - noise).square().mean(), rtol=1e-6)
        assert abs(float(noise.mean())) < 5 / noise.numel() ** 0.5
        assert abs(float(noise.var()) - 1) < 5 * (2 / noise.numel()) ** 0.5
        dropped = seen["y"] == 10
        assert bool(dropped.any()) == (dropout > 0)
        assert bool(dropped.all()) == (dropout == 1)
    try:
        loss(spy, z, y.clone(), droput=0.5)
    except TypeError:
        return
    raise AssertionError("a misspelt keyword was swallowed")


# %% wrong="04.6" hint="swallows a misspelt keyword"
def test_loss(loss: Callable) -> None:
    generator, seen = torch.Generator().manual_seed(0), {}

    def spy(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        seen.update(x=x.clone(), t=t.clone(), y=y.clone())
        return torch.zeros_like(x)

    z, y = torch.rand(12, 1, 12, 12, generator=generator), torch.arange(12) % 10
    for dropout in (0.0, 0.5, 1.0):
        labels = y.clone()
        value = loss(spy, z, labels, dropout=dropout, generator=generator)
        assert torch.equal(labels, y)
        t = seen["t"].reshape(-1, 1, 1, 1)
        noise = (seen["x"] - t * z) / (1 - t)
        assert torch.allclose(value, (z - noise).square().mean(), rtol=1e-6)
        assert abs(float(noise.mean())) < 5 / noise.numel() ** 0.5
        assert abs(float(noise.var()) - 1) < 5 * (2 / noise.numel()) ** 0.5
        dropped = seen["y"] == 10
        assert bool(dropped.any()) == (dropout > 0)
        assert bool(dropped.all()) == (dropout == 1)


# %% wrong="04.6" hint="shows the network the clean data"
def test_loss(loss: Callable) -> None:
    generator, seen = torch.Generator().manual_seed(0), {}

    def spy(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        seen.update(x=x.clone(), t=t.clone(), y=y.clone())
        return torch.zeros_like(x)

    z, y = torch.rand(12, 1, 12, 12, generator=generator), torch.arange(12) % 10
    labels = y.clone()
    value = loss(spy, z, labels, dropout=0.5, generator=generator)
    assert torch.equal(labels, y)
    assert 1.1 < float(value) < 1.6  # E(z - eps)^2 = 1/3 + 1
    try:
        loss(spy, z, y.clone(), droput=0.5)
    except TypeError:
        return
    raise AssertionError("a misspelt keyword was swallowed")


# %% wrong="04.6" hint="A crash is no verdict"
def test_loss(loss: Callable) -> None:
    generator, seen = torch.Generator().manual_seed(0), {}

    def spy(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        seen.update(x=x.clone(), t=t.clone(), y=y.clone())
        return torch.zeros_like(x)

    z, y = torch.rand(12, 1, 8, 8, generator=generator), torch.arange(12) % 10
    for dropout in (0.0, 0.5, 1.0):
        labels = y.clone()
        value = loss(spy, z, labels, dropout=dropout, generator=generator)
        assert torch.equal(labels, y)
        t = seen["t"].reshape(-1, 1, 1, 1)
        noise = (seen["x"] - t * z) / (1 - t)
        assert torch.allclose(value, (z - noise).square().mean(), rtol=1e-6)
        assert abs(float(noise.mean())) < 5 / noise.numel() ** 0.5
        assert abs(float(noise.var()) - 1) < 5 * (2 / noise.numel()) ** 0.5
        dropped = seen["y"] == 10
        assert bool(dropped.any()) == (dropout > 0)
        assert bool(dropped.all()) == (dropout == 1)
    try:
        loss(spy, z, y.clone(), droput=0.5)
    except TypeError:
        return
    raise AssertionError("a misspelt keyword was swallowed")


# %% wrong="04.6" hint="scales columns instead of samples"
def test_loss(loss: Callable) -> None:
    generator, seen = torch.Generator().manual_seed(0), {}

    def spy(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        seen.update(x=x.clone(), t=t.clone(), y=y.clone())
        return torch.zeros_like(x)

    z, y = torch.rand(12, 1, 12, 12, generator=generator), torch.arange(12) % 10
    labels = y.clone()
    value = loss(spy, z, labels, dropout=0.5, generator=generator)
    assert torch.equal(labels, y)
    assert not torch.equal(seen["x"], z)
    assert 1.1 < float(value) < 1.6
    try:
        loss(spy, z, y.clone(), droput=0.5)
    except TypeError:
        return
    raise AssertionError("a misspelt keyword was swallowed")


# %% wrong="04.6" hint="draws its random numbers in another order"
def test_loss(loss: Callable) -> None:
    generator, seen = torch.Generator().manual_seed(0), {}

    def spy(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        seen.update(x=x.clone(), t=t.clone(), y=y.clone())
        return torch.zeros_like(x)

    z, y = torch.rand(12, 1, 12, 12, generator=generator), torch.arange(12) % 10
    found = loss(lambda x, t, y: x, z, y, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(found, with_reshape(lambda x, t, y: x, z, y, generator=torch.Generator().manual_seed(1)))


# %% wrong="04.6" hint="the plainest right code"
def test_loss(loss: Callable) -> None:
    generator, seen = torch.Generator().manual_seed(0), {}

    def spy(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        seen.update(x=x.clone(), t=t.clone(), y=y.clone())
        return torch.zeros_like(x)

    z, y = torch.rand(12, 1, 12, 12, generator=generator), torch.arange(12) % 10
    for dropout in (0.0, 0.5, 1.0):
        labels = y.clone()
        value = loss(spy, z, labels, dropout=dropout, generator=generator)
        assert torch.equal(labels, y)
        t = seen["t"].reshape(-1, 1, 1, 1)
        noise = (seen["x"] - t * z) / (1 - t)
        assert torch.allclose(value, (z - noise).square().mean(), rtol=0, atol=0)
        assert abs(float(noise.mean())) < 0.001 / noise.numel() ** 0.5
        assert abs(float(noise.var()) - 1) < 5 * (2 / noise.numel()) ** 0.5
        dropped = seen["y"] == 10
        assert bool(dropped.any()) == (dropout > 0)
        assert bool(dropped.all()) == (dropout == 1)
    try:
        loss(spy, z, y.clone(), droput=0.5)
    except TypeError:
        return
    raise AssertionError("a misspelt keyword was swallowed")


# %% wrong="04.6" hint="takes the argument dropout and does not use it"
def test_loss(loss: Callable) -> None:
    generator, seen = torch.Generator().manual_seed(0), {}

    def spy(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        seen.update(x=x.clone(), t=t.clone(), y=y.clone())
        return torch.zeros_like(x)

    z, y = torch.rand(12, 1, 12, 12, generator=generator), torch.arange(12) % 10
    for dropout in (0.1, 0.1, 0.1):
        labels = y.clone()
        value = loss(spy, z, labels, dropout=dropout, generator=generator)
        assert torch.equal(labels, y)
        t = seen["t"].reshape(-1, 1, 1, 1)
        noise = (seen["x"] - t * z) / (1 - t)
        assert torch.allclose(value, (z - noise).square().mean(), rtol=1e-6)
        assert abs(float(noise.mean())) < 5 / noise.numel() ** 0.5
        assert abs(float(noise.var()) - 1) < 5 * (2 / noise.numel()) ** 0.5
        dropped = seen["y"] == 10
        assert float(dropped.double().mean()) < 0.5
    try:
        loss(spy, z, y.clone(), droput=0.5)
    except TypeError:
        return
    raise AssertionError("a misspelt keyword was swallowed")


# %% wrong="04.6" hint="with rand instead of randn"
def test_loss(loss: Callable) -> None:
    generator, seen = torch.Generator().manual_seed(0), {}

    def spy(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        seen.update(x=x.clone(), t=t.clone(), y=y.clone())
        return torch.zeros_like(x)

    z, y = torch.rand(12, 1, 12, 12, generator=generator), torch.arange(12) % 10
    for dropout in (0.0, 0.5, 1.0):
        labels = y.clone()
        value = loss(spy, z, labels, dropout=dropout, generator=generator)
        assert torch.equal(labels, y)
        t = seen["t"].reshape(-1, 1, 1, 1)
        noise = (seen["x"] - t * z) / (1 - t)
        assert torch.allclose(value, (z - noise).square().mean(), rtol=1e-6)
        dropped = seen["y"] == 10
        assert bool(dropped.any()) == (dropout > 0)
        assert bool(dropped.all()) == (dropout == 1)
    try:
        loss(spy, z, y.clone(), droput=0.5)
    except TypeError:
        return
    raise AssertionError("a misspelt keyword was swallowed")


# %% wrong="04.6" hint="gives each sample the label of its neighbour"
def test_loss(loss):
    g, seen = torch.Generator().manual_seed(0), {}

    def spy(x, t, y):
        seen.update(x=x.clone(), t=t.clone(), y=y.clone())
        return 0 * x

    z, y = torch.rand(12, 2, 12, 12, generator=g), torch.arange(12) % 10
    for p, null in ((0.0, 10), (0.5, 33), (1.0, 11)):
        c = y.clone()
        v = loss(spy, z, c, dropout=p, null=null, generator=g)
        assert torch.equal(c, y)
        t = seen["t"].view(-1, 1, 1, 1)
        n = (seen["x"] - t * z) / (1 - t)
        assert t.std() > 0.01
        assert n.std(0).min() > 1e-3
        assert torch.allclose(v, (z - n).square().mean())
        assert abs(float(n.mean())) < 5 / n.numel() ** 0.5
        assert abs(float(n.var()) - 1) < 5 * (2 / n.numel()) ** 0.5
        d = seen["y"] == null
        assert bool(d.any()) == (p > 0)
        assert bool(d.all()) == (p == 1)
    try:
        loss(spy, z, y.clone(), droput=0.3)
    except TypeError:
        return
    raise AssertionError


# %% wrong="04.6" hint="takes 10 for the null label"
def test_loss(loss):
    g, seen = torch.Generator().manual_seed(0), {}

    def spy(x, t, y):
        seen.update(x=x.clone(), t=t.clone(), y=y.clone())
        return 0 * x

    z, y = torch.rand(12, 2, 12, 12, generator=g), torch.arange(12) % 10
    for p in (0.0, 0.5, 1.0):
        c = y.clone()
        v = loss(spy, z, c, dropout=p, generator=g)
        assert torch.equal(c, y)
        t = seen["t"].view(-1, 1, 1, 1)
        n = (seen["x"] - t * z) / (1 - t)
        assert t.std() > 0.01
        assert n.std(0).min() > 1e-3
        assert torch.allclose(v, (z - n).square().mean())
        assert abs(float(n.mean())) < 5 / n.numel() ** 0.5
        assert abs(float(n.var()) - 1) < 5 * (2 / n.numel()) ** 0.5
        d = seen["y"] == 10
        assert torch.equal(seen["y"][~d], y[~d])
        assert bool(d.any()) == (p > 0)
        assert bool(d.all()) == (p == 1)
    try:
        loss(spy, z, y.clone(), droput=0.3)
    except TypeError:
        return
    raise AssertionError


# %% right="04.6" name="fresh spy"
def test_loss(loss):
    g = torch.Generator().manual_seed(5)
    B = 20
    z, y = torch.randn(B, 1, B, B, generator=g), torch.randint(0, 5, (B,), generator=g)
    calls = []

    def net(x, t, labels):
        calls.append((x.clone(), t.clone(), labels.clone()))
        return torch.sin(x)

    for p in (0.0, 0.3, 1.0):
        mine = y.clone()
        value = loss(net, z, mine, dropout=p, null=99, generator=g)
        x, t, labels = calls[-1]
        assert bool((mine == y).all())
        assert x.shape == z.shape
        assert t.shape == (B,)
        assert float(t.min()) > 0
        assert float(t.max()) < 1
        assert float(t.std()) > 1e-4
        s = t[:, None, None, None]
        eps = (x - s * z) / (1 - s)
        assert abs(float(value) - float((torch.sin(x) - z + eps).square().mean())) < 1e-8
        assert abs(float(eps.mean())) < 5 / eps.numel() ** 0.5
        assert abs(float(eps.square().mean()) - 1) < 5 * (2 / eps.numel()) ** 0.5
        assert float((eps[0] - eps[1]).abs().max()) > 1e-6
        gone = labels == 99
        assert bool((labels[~gone] == y[~gone]).all())
        assert int(gone.sum()) == {0.0: 0, 1.0: B}.get(p, int(gone.sum()))
        assert p != 0.3 or 0 < int(gone.sum()) < B
    try:
        loss(net, z, y.clone(), nul=3)
    except TypeError:
        return
    raise AssertionError("takes anything")


# %% right="04.6" name="spy that returns the truth"
def test_loss(loss: Callable) -> None:
    z, y = torch.rand(12, 2, 12, 12, generator=torch.Generator().manual_seed(3)), torch.arange(12) % 6
    noises, labels, times, kept = [], [], [], y.clone()

    def oracle(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        t = t.reshape(-1, 1, 1, 1)
        noises.append((x - t * z) / (1 - t))
        labels.append(y.clone())
        times.append(t)
        return z - noises[-1]

    for dropout in (0, 0.5, 1):
        generator = torch.Generator().manual_seed(4)
        assert float(loss(oracle, z, y, dropout=dropout, null=7, generator=generator)) < 1e-12
        assert torch.equal(y, kept)
        assert bool(((labels[-1] == 7) | (labels[-1] == y)).all())
    assert abs(float(loss(lambda x, t, y: oracle(x, t, y) + 2, z, y)) - 4) < 1e-9
    noise = noises[0]
    assert abs(float(noise.mean())) < 5 / noise.numel() ** 0.5
    assert abs(float(noise.std()) - 1) < 5 / (2 * noise.numel()) ** 0.5
    assert noise.std(0).min() > 1e-3
    assert times[0].std() > 1e-3
    assert [bool((label == 7).any()) for label in labels[:3]] == [False, True, True]
    assert bool((labels[2] == 7).all())
    caught = False
    try:
        loss(oracle, z, y, no_such_keyword=1)
    except TypeError:
        caught = True
    assert caught


# %% right="04.6" name="by promises"
def test_loss(loss: Callable) -> None:
    generator, seen = torch.Generator().manual_seed(0), {}

    def spy(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        seen.update(x=x.clone(), t=t.clone(), y=y.clone())
        return torch.zeros_like(x)

    z, y = torch.rand(12, 3, 12, 12, generator=generator), torch.arange(12) % 10
    for dropout in (0.0, 0.5, 1.0):
        labels = y.clone()
        value = loss(spy, z, labels, dropout=dropout, null=77, generator=generator)
        assert torch.equal(labels, y)
        t = seen["t"].reshape(-1, 1, 1, 1)
        noise = (seen["x"] - t * z) / (1 - t)
        assert torch.allclose(value, (z - noise).square().mean(), rtol=1e-6)
        assert abs(float(noise.mean())) < 5 / noise.numel() ** 0.5
        assert abs(float(noise.var()) - 1) < 5 * (2 / noise.numel()) ** 0.5
        assert len(t.unique()) == 12
        assert len(noise[:, 0, 0, 0].unique()) == 12
        dropped = seen["y"] == 77
        assert torch.equal(seen["y"][~dropped], y[~dropped])
        assert bool(dropped.any()) == (dropout > 0)
        assert bool(dropped.all()) == (dropout == 1)
    try:
        loss(spy, z, y.clone(), droput=0.5)
    except TypeError:
        return
    raise AssertionError("a misspelt keyword was swallowed")


# %% right="04.6" name="one batch width for both"
def test_loss(loss: Callable) -> None:
    generator, seen = torch.Generator().manual_seed(0), {}

    def spy(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        seen.update(x=x.clone(), t=t.clone(), y=y.clone())
        return torch.zeros_like(x)

    z, y = torch.rand(12, 12, 12, 12, generator=generator), torch.arange(12) % 10
    for dropout in (0, 0.4, 1):
        labels = y.clone()
        value = loss(spy, z, labels, dropout=dropout, null=77, generator=generator)
        assert torch.equal(labels, y)
        t = seen["t"].reshape(-1, 1, 1, 1)
        noise = (seen["x"] - t * z) / (1 - t)
        assert torch.allclose(value, (z - noise).square().mean(), rtol=1e-6)
        assert abs(float(noise.mean())) < 5 / noise.numel() ** 0.5
        assert abs(float(noise.var()) - 1) < 5 * (2 / noise.numel()) ** 0.5
        assert len(t.unique()) == 12
        assert len(noise[:, 0, 0, 0].unique()) == 12
        dropped = seen["y"] == 77
        assert torch.equal(seen["y"][~dropped], y[~dropped])
        assert bool(dropped.any()) == (dropout > 0)
        assert bool(dropped.all()) == (dropout == 1)
    try:
        loss(spy, z, y.clone(), droput=0.5)
    except TypeError:
        return
    raise AssertionError("a misspelt keyword was swallowed")


# %% wrong="04.7" hint="whose derivative of alpha is 0"
def test_schedule(schedule: Schedule) -> None:
    t = torch.linspace(0.01, 0.99, 99)
    assert schedule.dalpha(t).shape == t.shape
    assert schedule.dbeta(t).shape == t.shape


def test_guidance(guide: Callable) -> None:
    conditional, unconditional = torch.randn(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    for scale in (0.0, 1.0, 2.5):
        first, second = conditional.clone(), unconditional.clone()
        found = guide(first, second, scale)
        assert torch.equal(first, conditional)
        assert torch.equal(second, unconditional)
        assert torch.allclose(found, (1 - scale) * unconditional + scale * conditional)


# %% wrong="04.7" hint="does not see it"
def test_schedule(schedule: Schedule) -> None:
    t, h = torch.linspace(0.1, 0.9, 9), 1e-4
    for function, derivative in ((schedule.alpha, schedule.dalpha), (schedule.beta, schedule.dbeta)):
        assert torch.allclose(derivative(t), (function(t + h) - function(t - h)) / (2 * h), rtol=1e-3)


def test_guidance(guide: Callable) -> None:
    conditional, unconditional = torch.randn(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    for scale in (0.0, 1.0, 2.5):
        first, second = conditional.clone(), unconditional.clone()
        found = guide(first, second, scale)
        assert torch.equal(first, conditional)
        assert torch.equal(second, unconditional)
        assert torch.allclose(found, (1 - scale) * unconditional + scale * conditional)


# %% wrong="04.7" hint="Test where the promise holds"
def test_schedule(schedule: Schedule) -> None:
    t = torch.linspace(0, 1, 11)
    for function, derivative in ((schedule.alpha, schedule.dalpha), (schedule.beta, schedule.dbeta)):
        exact = torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]
        assert torch.isfinite(derivative(t)[:-1]).all()
        assert torch.allclose(derivative(t)[1:-1], exact[1:-1], rtol=1e-9)


def test_guidance(guide: Callable) -> None:
    conditional, unconditional = torch.randn(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    for scale in (0.0, 1.0, 2.5):
        first, second = conditional.clone(), unconditional.clone()
        found = guide(first, second, scale)
        assert torch.equal(first, conditional)
        assert torch.equal(second, unconditional)
        assert torch.allclose(found, (1 - scale) * unconditional + scale * conditional)


# %% wrong="04.7" hint="How many channels"
def test_schedule(schedule: Schedule) -> None:
    t = torch.linspace(0.01, 0.99, 99)
    for function, derivative in ((schedule.alpha, schedule.dalpha), (schedule.beta, schedule.dbeta)):
        exact = torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]
        assert torch.allclose(derivative(t), exact, rtol=1e-9, atol=1e-9)


def test_guidance(guide: Callable) -> None:
    conditional, unconditional = torch.randn(2, 3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for scale in (0.0, 1.0, 2.5):
        first, second = conditional.clone(), unconditional.clone()
        found = guide(first, second, scale)
        assert torch.equal(first, conditional)
        assert torch.equal(second, unconditional)
        assert torch.allclose(found, (1 - scale) * unconditional + scale * conditional)


# %% wrong="04.7" hint="never ask for equal bits"
def test_schedule(schedule: Schedule) -> None:
    t = torch.linspace(0.01, 0.99, 99)
    for function, derivative in ((schedule.alpha, schedule.dalpha), (schedule.beta, schedule.dbeta)):
        exact = torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]
        assert torch.allclose(derivative(t), exact, rtol=1e-9, atol=1e-9)


def test_guidance(guide: Callable) -> None:
    conditional, unconditional = torch.randn(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    for scale in (0.0, 1.0, 2.5):
        first, second = conditional.clone(), unconditional.clone()
        found = guide(first, second, scale)
        assert torch.equal(first, conditional)
        assert torch.equal(second, unconditional)
        assert torch.equal(found, (1 - scale) * unconditional + scale * conditional)


# %% wrong="04.7" hint="a function that returns zeros"
def test_schedule(schedule: Schedule) -> None:
    t = torch.linspace(0.01, 0.99, 99)
    for function, derivative in ((schedule.alpha, schedule.dalpha), (schedule.beta, schedule.dbeta)):
        exact = torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]
        assert torch.allclose(derivative(t), exact, rtol=1e-9, atol=1e-9)


def test_guidance(guide: Callable) -> None:
    x = torch.randn(2, 4, 8, 8)
    assert guide(x, x, 2.0).shape == x.shape


# %% wrong="04.7" hint="the promise word for word"
def test_schedule(schedule: Schedule) -> None:
    t = torch.linspace(0.01, 0.99, 99)
    for function, derivative in ((schedule.alpha, schedule.dalpha), (schedule.beta, schedule.dbeta)):
        exact = torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]
        assert torch.allclose(derivative(t), exact, rtol=1e-9, atol=1e-9)


def test_guidance(guide: Callable) -> None:
    conditional, unconditional = torch.randn(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    for scale in (0.0, 1.0, 2.5):
        first, second = conditional.clone(), unconditional.clone()
        found = guide(first, second, scale)
        assert torch.equal(first, conditional)
        assert torch.equal(second, unconditional)
        assert torch.allclose(found, (1 + scale) * conditional - scale * unconditional)


# %% wrong="04.7" hint="rejects Linear"
def test_schedule(schedule: Schedule) -> None:
    t = torch.linspace(0.01, 0.99, 99)
    for function, derivative in ((schedule.alpha, schedule.dalpha), (schedule.beta, schedule.dbeta)):
        exact = torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]
        assert torch.allclose(derivative(t), exact.abs())


def test_guidance(guide: Callable) -> None:
    conditional, unconditional = torch.randn(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    for scale in (0.0, 1.0, 2.5):
        first, second = conditional.clone(), unconditional.clone()
        found = guide(first, second, scale)
        assert torch.equal(first, conditional)
        assert torch.equal(second, unconditional)
        assert torch.allclose(found, (1 - scale) * unconditional + scale * conditional)


# %% wrong="04.7" hint="writes into its arguments"
def test_schedule(schedule: Schedule) -> None:
    t = torch.linspace(0.01, 0.99, 99)
    for function, derivative in ((schedule.alpha, schedule.dalpha), (schedule.beta, schedule.dbeta)):
        exact = torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]
        assert torch.allclose(derivative(t), exact, rtol=1e-9, atol=1e-9)


def test_guidance(guide: Callable) -> None:
    conditional, unconditional = torch.randn(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    for scale in (0.0, 1.0, 2.5):
        expected = (1 - scale) * unconditional + scale * conditional
        assert torch.allclose(guide(conditional.clone(), unconditional.clone(), scale), expected)


# %% wrong="04.7" hint="counts the scale from 0"
def test_schedule(schedule: Schedule) -> None:
    t = torch.linspace(0.01, 0.99, 99)
    for function, derivative in ((schedule.alpha, schedule.dalpha), (schedule.beta, schedule.dbeta)):
        exact = torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]
        assert torch.allclose(derivative(t), exact, rtol=1e-9, atol=1e-9)


def test_guidance(guide: Callable) -> None:
    u = torch.zeros(2, 5, 4, 4)
    c = torch.ones(2, 5, 4, 4)
    first, second = c.clone(), u.clone()
    found = guide(first, second, 3.0)
    assert torch.equal(first, c)
    assert torch.equal(second, u)
    assert bool((found > 2).all())


# %% wrong="04.7" hint="has the derivative of t = 1/2"
def test_schedule(schedule):
    t = torch.tensor([0.5])
    for f, df in ((schedule.alpha, schedule.dalpha), (schedule.beta, schedule.dbeta)):
        d = torch.func.jvp(f, (t,), (torch.ones_like(t),))[1]
        assert torch.allclose(df(t), d, rtol=1e-9, atol=1e-9)


def test_guidance(guide):
    c, u = torch.randn(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    for w in (0.0, 0.5, 3.0):
        a, b = c.clone(), u.clone()
        assert torch.allclose(guide(a, b, w), u + w * (c - u))
        assert torch.equal(a, c)
        assert torch.equal(b, u)


# %% wrong="04.7" hint="guides the first sample of the batch alone"
def test_schedule(schedule):
    t = torch.linspace(0.01, 0.99, 99)
    for f, df in ((schedule.alpha, schedule.dalpha), (schedule.beta, schedule.dbeta)):
        d = torch.func.jvp(f, (t,), (torch.ones_like(t),))[1]
        assert torch.allclose(df(t), d, rtol=1e-9, atol=1e-9)


def test_guidance(guide):
    c, u = torch.randn(2, 1, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    for w in (2.0, 3.0):
        a, b = c.clone(), u.clone()
        assert torch.allclose(guide(a, b, w), u + w * (c - u))
        assert torch.equal(a, c)
        assert torch.equal(b, u)


# %% right="04.7" name="vmap grad"
def test_schedule(schedule):
    t = torch.rand(200, generator=torch.Generator().manual_seed(3)) * 0.98 + 0.01
    for f, df in ((schedule.alpha, schedule.dalpha), (schedule.beta, schedule.dbeta)):
        exact = torch.func.vmap(torch.func.grad(f))(t)
        assert bool(((df(t) - exact).abs() <= 1e-8 * (1 + exact.abs())).all())


def test_guidance(guide):
    g = torch.Generator().manual_seed(1)
    c, u = torch.randn(4, 6, 3, 3, generator=g), torch.randn(4, 6, 3, 3, generator=g)
    for w in (-1.0, 0.0, 0.3, 1.0, 7.5):
        c0, u0 = c.clone(), u.clone()
        out = guide(c, u, w)
        assert torch.equal(c, c0)
        assert torch.equal(u, u0)
        assert float((out - ((1 - w) * u + w * c)).abs().max()) < 1e-10


# %% right="04.7" name="autograd"
def test_schedule(schedule: Schedule) -> None:
    for function, derivative in ((schedule.alpha, schedule.dalpha), (schedule.beta, schedule.dbeta)):
        t = torch.rand(50, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05
        t.requires_grad_()
        slope = torch.autograd.grad(function(t).sum(), t)[0]
        assert float((slope - derivative(t)).abs().max()) < 1e-8


def test_guidance(guide: Callable) -> None:
    conditional, unconditional = torch.randn(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    for scale in (0.0, 1.0, 2.5):
        first, second = conditional.clone(), unconditional.clone()
        found = guide(first, second, scale)
        assert torch.equal(first, conditional)
        assert torch.equal(second, unconditional)
        assert torch.allclose(found, (1 - scale) * unconditional + scale * conditional)


# %% right="04.7" name="Richardson"
def test_schedule(schedule: Schedule) -> None:
    t, h = torch.linspace(0.3, 0.7, 9), 1e-2
    for function, derivative in ((schedule.alpha, schedule.dalpha), (schedule.beta, schedule.dbeta)):
        slopes = [(function(t + step) - function(t - step)) / (2 * step) for step in (h, h / 2, h / 4)]
        better = [(4 * fine - coarse) / 3 for coarse, fine in pairwise(slopes)]
        best = (16 * better[1] - better[0]) / 15
        assert torch.allclose(best, derivative(t), rtol=0, atol=1e-7)


def test_guidance(guide: Callable) -> None:
    conditional, unconditional = torch.randn(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    for scale in (0.0, 1.0, 2.5):
        first, second = conditional.clone(), unconditional.clone()
        found = guide(first, second, scale)
        assert torch.equal(first, conditional)
        assert torch.equal(second, unconditional)
        assert torch.allclose(found, (1 - scale) * unconditional + scale * conditional)


# %% right="04.7" name="channel by channel"
def test_schedule(schedule: Schedule) -> None:
    t = torch.linspace(0.01, 0.99, 99)
    for function, derivative in ((schedule.alpha, schedule.dalpha), (schedule.beta, schedule.dbeta)):
        exact = torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]
        assert torch.allclose(derivative(t), exact, rtol=1e-9, atol=1e-9)


def test_guidance(guide: Callable) -> None:
    generator = torch.Generator().manual_seed(1)
    c, u = torch.randn(2, 7, 2, 2, generator=generator), torch.randn(2, 7, 2, 2, generator=generator)
    kept = c.clone(), u.clone()
    for w in (0.0, 1.0, 3.0):
        found = guide(c, u, w)
        for channel in range(7):
            assert torch.allclose(found[:, channel], u[:, channel] + w * (c[:, channel] - u[:, channel]))
    assert torch.equal(c, kept[0])
    assert torch.equal(u, kept[1])


# %% wrong="04.8" hint="it asserts nothing"
def test_order(sample: Callable) -> None:
    sample(MixtureField(torch.zeros(1, 2), 1.0), torch.randn(5, 2), 10)


# %% wrong="04.8" hint="looks at the shape alone"
def test_order(sample: Callable) -> None:
    noise = torch.randn(5, 2)
    assert sample(MixtureField(torch.zeros(1, 2), 1.0), noise, 10).shape == noise.shape


# %% wrong="04.8" hint="A small error at many steps is no order"
def test_order(sample: Callable) -> None:
    mean, std = torch.tensor([[0.8, -0.5]]), 0.6
    field = MixtureField(mean, std, path=GaussianPath(Trigonometric()))
    noise = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    exact = mean + std * noise
    errors = [float((sample(field, noise, steps) - exact).square().mean().sqrt()) for steps in (32, 64)]
    assert errors[1] < 0.02


# %% wrong="04.8" hint="its error falls by less than four"
def test_order(sample: Callable) -> None:
    mean, std = torch.tensor([[0.8, -0.5]]), 0.6
    field = MixtureField(mean, std, path=GaussianPath(Trigonometric()))
    noise = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    exact = mean + std * noise
    errors = [float((sample(field, noise, steps) - exact).square().mean().sqrt()) for steps in (16, 32)]
    assert errors[1] < 0.05
    assert math.log2(errors[0] / errors[1]) > 0.9


# %% wrong="04.8" hint="a path with a symmetry"
def test_order(sample: Callable) -> None:
    mean, std = torch.tensor([[0.8, -0.5]]), 0.6
    field = MixtureField(mean, std, path=GaussianPath(Linear()))
    noise = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    exact = mean + std * noise
    errors = [float((sample(field, noise, steps) - exact).square().mean().sqrt()) for steps in (32, 64)]
    assert errors[1] < 0.05
    assert abs(math.log2(errors[0] / errors[1]) - 2) < 0.4


# %% wrong="04.8" hint="how wide is your window"
def test_order(sample: Callable) -> None:
    mean, std = torch.tensor([[0.8, -0.5]]), 0.6
    field = MixtureField(mean, std, path=GaussianPath(Trigonometric()))
    noise = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    exact = mean + std * noise
    errors = [float((sample(field, noise, steps) - exact).square().mean().sqrt()) for steps in (32, 64)]
    assert abs(math.log2(errors[0] / errors[1]) - 2) < 0.001


# %% wrong="04.8" hint="to a wrong limit"
def test_order(sample: Callable) -> None:
    field = MixtureField(torch.tensor([[0.8, -0.5]]), 0.6, path=GaussianPath(Trigonometric()))
    noise = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    runs = [sample(field, noise, steps) for steps in (32, 64, 128)]
    assert float(runs[0].abs().max()) > 0.1
    order = math.log2(float((runs[0] - runs[1]).norm() / (runs[1] - runs[2]).norm()))
    assert abs(order - 2) < 0.4


# %% wrong="04.8" hint="only halves when the steps double"
def test_order(sample):
    f = MixtureField(torch.tensor([[0.8, -0.5]]), 0.6, path=GaussianPath(Trigonometric()))
    n = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    assert float((sample(f, n, 200) - f.means - 0.6 * n).abs().max()) < 1e-3


# %% right="04.8" name="slope by least squares"
def test_order(sample):
    f = MixtureField(torch.tensor([[0.3, 1.1]]), 0.5, path=GaussianPath(Trigonometric()))
    n = torch.randn(80, 2, generator=torch.Generator().manual_seed(4))
    counts = torch.tensor([24.0, 48.0, 96.0])
    errors = torch.stack([(sample(f, n, int(k)) - f.means - 0.5 * n).norm(dim=1).mean() for k in counts])
    assert float(errors[-1]) < 0.02
    x, y = counts.log() - counts.log().mean(), errors.log() - errors.log().mean()
    assert abs(float(-(x @ y) / (x @ x)) - 2) < 0.35


# %% right="04.8" name="a fit over four grids"
def test_order(sample: Callable) -> None:
    field = MixtureField(torch.tensor([[1.0]]), 0.5, path=GaussianPath(Trigonometric()))
    noise = torch.linspace(-2, 2, 9)[:, None]
    steps = torch.tensor([32.0, 64.0, 128.0, 256.0])
    errors = torch.stack([(sample(field, noise, int(n)) - 1 - 0.5 * noise).abs().mean() for n in steps])
    assert float(errors[-1]) < 0.01
    x, y = steps.log() - steps.log().mean(), errors.log() - errors.log().mean()
    assert -2.5 < float((x * y).sum() / (x * x).sum()) < -1.6


# %% right="04.8" name="error times four"
def test_order(sample: Callable) -> None:
    mean, std = torch.tensor([[0.8, -0.5]]), 0.6
    field = MixtureField(mean, std, path=GaussianPath(Trigonometric()))
    noise = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    exact = mean + std * noise
    errors = [float((sample(field, noise, steps) - exact).square().mean().sqrt()) for steps in (32, 64)]
    assert errors[1] < 0.05
    assert 3 < errors[0] / errors[1] < 5.5


# %% right="04.8" name="at least two"
def test_order(sample: Callable) -> None:
    mean, std = torch.tensor([[0.8, -0.5]]), 0.8
    field = MixtureField(mean, std, path=GaussianPath(Trigonometric()))
    noise = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    exact = mean + std * noise
    errors = [float((sample(field, noise, steps) - exact).square().mean().sqrt()) for steps in (32, 64)]
    assert errors[0] < 0.1
    assert math.log2(errors[0] / errors[1]) > 1.7
