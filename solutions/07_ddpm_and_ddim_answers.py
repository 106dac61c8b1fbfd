"""Wrong and right answers to exercise 07, each of which its check must tell apart."""


# %% wrong="07.1" hint="have to be scaled"
def tables(steps):
    var = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64)
    var = torch.cat([torch.zeros(1, dtype=torch.float64), var])
    return var, torch.cumprod(1 - var, dim=0)


# %% wrong="07.1" hint="T/1000 and 1000/T are exchanged"
def tables(steps):
    var = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (steps / 1000)
    var = torch.cat([torch.zeros(1, dtype=torch.float64), var])
    return var, torch.cumprod(1 - var, dim=0)


# %% wrong="07.1" hint="the first is the data"
def tables(steps):
    var = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps)
    return var, torch.cumprod(1 - var, dim=0)


# %% wrong="07.1" hint="and not of the v"
def tables(steps):
    var = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps)
    abar = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(var, dim=0)])
    return torch.cat([torch.zeros(1, dtype=torch.float64), var]), abar


# %% wrong="07.1" hint="no square root here"
def tables(steps):
    var = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps)
    var = torch.cat([torch.zeros(1, dtype=torch.float64), var])
    return var, torch.cumprod((1 - var).sqrt(), dim=0)


# %% wrong="07.1" hint="yours is one step late"
def tables(steps):
    var = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps)
    var = torch.cat([torch.zeros(1, dtype=torch.float64), var])
    kept = torch.cumprod(1 - var, dim=0)
    return var, torch.cat([kept[:1], kept[:-1]])


# %% wrong="07.1" hint="multiply them up"
def tables(steps):
    var = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps)
    var = torch.cat([torch.zeros(1, dtype=torch.float64), var])
    return var, 1 - var


# %% wrong="07.1" hint="nothing is added before the first step"
def tables(steps):
    var = torch.linspace(1e-4, 0.02, steps + 1, dtype=torch.float64) * (1000 / steps)
    return var, torch.cumprod(1 - var, dim=0)


# %% wrong="07.1" hint="the answer calls Chain"
def tables(steps):
    c = Chain.linear(steps)
    return c.var, c.abar


# %% wrong="07.1" hint="all tensors are float64"
def tables(steps):
    var = torch.cat([torch.zeros(1), torch.linspace(1e-4, 0.02, steps) * 1000 / steps])
    return var, torch.cumprod(1 - var, 0)


# %% wrong="07.1" hint="rounded to float32"
def tables(steps):
    var = torch.cat([torch.zeros(1), torch.linspace(1e-4, 0.02, steps) * 1000 / steps]).double()
    return var, torch.cumprod(1 - var, 0)


# %% wrong="07.1" hint="and not their square roots"
def tables(steps):
    var = torch.linspace(1e-4**0.5, 0.02**0.5, steps, dtype=torch.float64) ** 2 * 1000 / steps
    var = torch.cat([torch.zeros(1, dtype=torch.float64), var])
    return var, torch.cumprod(1 - var, 0)


# %% wrong="07.1" hint="expected two tables of 251"
def tables(steps):
    var = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    var = torch.cat([torch.zeros(1, dtype=torch.float64), var])
    return var, torch.cumprod(1 - var, 0)


# %% wrong="07.1" hint="abar is squared"
def tables(steps: int) -> tuple[Tensor, Tensor]:
    var = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps)
    var = torch.cat([torch.zeros(1, dtype=torch.float64), var])
    return var, torch.cumprod((1 - var) ** 2, dim=0)


# %% wrong="07.1" hint="1 minus the sum"
def tables(steps: int) -> tuple[Tensor, Tensor]:
    var = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps)
    var = torch.cat([torch.zeros(1, dtype=torch.float64), var])
    return var, 1 - torch.cumsum(var, dim=0)


# %% wrong="07.1" hint="the line ends elsewhere"
def tables(steps: int) -> tuple[Tensor, Tensor]:
    var = torch.linspace(1e-4, 0.002, steps, dtype=torch.float64) * (1000 / steps)
    var = torch.cat([torch.zeros(1, dtype=torch.float64), var])
    return var, torch.cumprod(1 - var, dim=0)


# %% right="07.1" name="a loop"
def tables(steps):
    var, abar = [0.0], [1.0]
    for i in range(steps):
        var.append((1e-4 + (0.02 - 1e-4) * i / (steps - 1)) * 1000 / steps)
        abar.append(abar[-1] * (1 - var[-1]))
    return torch.tensor(var, dtype=torch.float64), torch.tensor(abar, dtype=torch.float64)


# %% right="07.1" name="logarithms"
def tables(steps):
    var = torch.zeros(steps + 1, dtype=torch.float64)
    var[1:] = torch.linspace(0.1 / steps, 20 / steps, steps, dtype=torch.float64)
    return var, torch.exp(torch.log1p(-var).cumsum(0))


# %% right="07.1" name="a list of two, written in place"
def tables(steps):
    var = torch.nn.functional.pad(torch.linspace(1e-4, 0.02, steps, dtype=torch.float64), (1, 0))
    var *= 1000 / steps
    abar = torch.ones_like(var)
    for k in range(1, steps + 1):
        abar[k] = abar[k - 1] * (1 - var[k])
    return [var, abar]


# %% right="07.1" name="arange"
def tables(steps):
    i = torch.arange(steps + 1, dtype=torch.float64)
    var = (1e-4 + (i - 1) / (steps - 1) * 0.0199) * 1000 / steps
    var[0] = 0
    return var, (1 - var).cumprod(0)


# %% wrong="07.2" hint="from column to column"
def noised(x_0, abar, k, noise):
    return abar[k].sqrt() * x_0 + (1 - abar[k]).sqrt() * noise


# %% wrong="07.2" hint="are multiplied by square roots"
def noised(x_0, abar, k, noise):
    level = abar[k].reshape(-1, 1, 1, 1)
    return level * x_0 + (1 - level) * noise


# %% wrong="07.2" hint="the root of 1 - abar"
def noised(x_0, abar, k, noise):
    level = abar[k].reshape(-1, 1, 1, 1)
    return level.sqrt() * x_0 + (1 - level) * noise


# %% wrong="07.2" hint="the signal's factor is the root"
def noised(x_0, abar, k, noise):
    level = abar[k].reshape(-1, 1, 1, 1)
    return level * x_0 + (1 - level).sqrt() * noise


# %% wrong="07.2" hint="signal and noise are exchanged"
def noised(x_0, abar, k, noise):
    level = abar[k].reshape(-1, 1, 1, 1)
    return (1 - level).sqrt() * x_0 + level.sqrt() * noise


# %% wrong="07.2" hint="one step earlier"
def noised(x_0, abar, k, noise):
    level = abar[k - 1].reshape(-1, 1, 1, 1)
    return level.sqrt() * x_0 + (1 - level).sqrt() * noise


# %% wrong="07.2" hint="that is one step of the chain"
def noised(x_0, abar, k, noise):
    var = (1 - abar[k] / abar[k - 1]).reshape(-1, 1, 1, 1)
    return (1 - var).sqrt() * x_0 + var.sqrt() * noise


# %% wrong="07.2" hint="the answer calls GaussianPath"
def noised(x_0, abar, k, noise):
    return GaussianPath(chain).sample(x_0, 1 - k / 100, noise)


# %% wrong="07.2" hint="changed in place"
def noised(x_0, abar, k, noise):
    a = abar[k].view(-1, 1, 1, 1)
    x_0 *= a.sqrt()
    noise *= (1 - a).sqrt()
    return x_0 + noise


# %% wrong="07.2" hint="draw none"
def noised(x_0, abar, k, noise):
    a = abar[k].view(-1, 1, 1, 1)
    return a.sqrt() * x_0 + (1 - a).sqrt() * torch.randn_like(x_0)


# %% wrong="07.2" hint="not the factors themselves"
def noised(x_0, abar, k, noise):
    a = abar[k].sqrt().view(-1, 1, 1, 1)
    return a * x_0 + (1 - a) * noise


# %% wrong="07.2" hint="at the image's own k"
def noised(x_0, abar, k, noise):
    a = abar[(k + 1).clamp(max=len(abar) - 1)].view(-1, 1, 1, 1)
    return a.sqrt() * x_0 + (1 - a).sqrt() * noise


# %% wrong="07.2" hint="expected a tensor of shape (3, 1, 3, 3)"
def noised(x_0, abar, k, noise):
    a = abar[k].view(-1, 1, 1, 1)
    return (a.sqrt() * x_0 + (1 - a).sqrt() * noise).squeeze()


# %% wrong="07.2" hint="the noise does not enter"
def noised(x_0: Tensor, abar: Tensor, k: Tensor, noise: Tensor) -> Tensor:
    level = abar[k][:, None, None, None]
    return level.sqrt() * x_0


# %% wrong="07.2" hint="the noise is taken off"
def noised(x_0: Tensor, abar: Tensor, k: Tensor, noise: Tensor) -> Tensor:
    level = abar[k][:, None, None, None]
    return level.sqrt() * x_0 - (1 - level).sqrt() * noise


# %% right="07.2" name="view"
def noised(x_0, abar, k, noise):
    signal, rest = abar[k].sqrt().view(-1, 1, 1, 1), (1 - abar[k]).sqrt().view(-1, 1, 1, 1)
    return signal * x_0 + rest * noise


# %% right="07.2" name="one image after the other"
def noised(x_0, abar, k, noise):
    return torch.stack([abar[i] ** 0.5 * z + (1 - abar[i]) ** 0.5 * e for z, i, e in zip(x_0, k, noise, strict=True)])


# %% right="07.2" name="einsum"
def noised(x_0, abar, k, noise):
    return torch.einsum("b,bchw->bchw", abar[k].sqrt(), x_0) + torch.einsum("b,bchw->bchw", (1 - abar[k]).sqrt(), noise)


# %% right="07.2" name="movedim"
def noised(x_0, abar, k, noise):
    a = torch.gather(abar, 0, k)
    x, e = x_0.movedim(0, -1), noise.movedim(0, -1)
    return (x * a**0.5 + e * (1 - a) ** 0.5).movedim(-1, 0)


# %% wrong="07.3" hint="not the standard deviation"
def posterior(x_k, x_0, abar, k, j):
    ratio = abar[k] / abar[j]
    mean = (abar[j].sqrt() * (1 - ratio) * x_0 + ratio.sqrt() * (1 - abar[j]) * x_k) / (1 - abar[k])
    return mean, ((1 - ratio) * (1 - abar[j]) / (1 - abar[k])).sqrt()


# %% wrong="07.3" hint="x_0 is known as well"
def posterior(x_k, x_0, abar, k, j):
    ratio = abar[k] / abar[j]
    mean = (abar[j].sqrt() * (1 - ratio) * x_0 + ratio.sqrt() * (1 - abar[j]) * x_k) / (1 - abar[k])
    return mean, 1 - ratio


# %% wrong="07.3" hint="the two noise levels are exchanged"
def posterior(x_k, x_0, abar, k, j):
    ratio = abar[k] / abar[j]
    mean = (abar[j].sqrt() * (1 - ratio) * x_0 + ratio.sqrt() * (1 - abar[j]) * x_k) / (1 - abar[k])
    return mean, (1 - ratio) * (1 - abar[k]) / (1 - abar[j])


# %% wrong="07.3" hint="many steps are jumped"
def posterior(x_k, x_0, abar, k, j):
    ratio = abar[k] / abar[k - 1]
    mean = (abar[j].sqrt() * (1 - ratio) * x_0 + ratio.sqrt() * (1 - abar[j]) * x_k) / (1 - abar[k])
    return mean, (1 - ratio) * (1 - abar[j]) / (1 - abar[k])


# %% wrong="07.3" hint="the weights of x_0 and x_k are exchanged"
def posterior(x_k, x_0, abar, k, j):
    ratio = abar[k] / abar[j]
    mean = (abar[j].sqrt() * (1 - ratio) * x_k + ratio.sqrt() * (1 - abar[j]) * x_0) / (1 - abar[k])
    return mean, (1 - ratio) * (1 - abar[j]) / (1 - abar[k])


# %% wrong="07.3" hint="the mean's weights have square roots"
def posterior(x_k, x_0, abar, k, j):
    ratio = abar[k] / abar[j]
    mean = (abar[j] * (1 - ratio) * x_0 + ratio * (1 - abar[j]) * x_k) / (1 - abar[k])
    return mean, (1 - ratio) * (1 - abar[j]) / (1 - abar[k])


# %% wrong="07.3" hint="NaN at j = 0"
def posterior(x_k, x_0, abar, k, j):
    r = (abar[k] / abar[j]).sqrt()
    precision = r**2 / (1 - r**2) + 1 / (1 - abar[j])
    return (r * x_k / (1 - r**2) + abar[j].sqrt() * x_0 / (1 - abar[j])) / precision, 1 / precision


# %% wrong="07.3" hint="the answer calls posterior"
def posterior(x_k, x_0, abar, k, j):
    return ddpm.posterior(chain, x_k, x_0, k, j)


# %% wrong="07.3" hint="the mean's weight of x_k is wrong"
def posterior(x_k, x_0, abar, k, j):
    v = 1 - abar[k] / abar[j]
    mean = abar[j].sqrt() * v / (1 - abar[k]) * x_0 + (1 - v) * (1 - abar[j]) / (1 - abar[k]) * x_k
    return mean, v * (1 - abar[j]) / (1 - abar[k])


# %% wrong="07.3" hint="the variance for j = k - 1"
def posterior(x_k, x_0, abar, k, j):
    v = 1 - abar[k] / abar[k - 1]
    mean = abar[k - 1].sqrt() * v / (1 - abar[k]) * x_0 + (1 - v).sqrt() * (1 - abar[k - 1]) / (1 - abar[k]) * x_k
    return mean, v * (1 - abar[k - 1]) / (1 - abar[k])


# %% wrong="07.3" hint="the mean's weight of x_0 is wrong"
def posterior(x_k, x_0, abar, k, j):
    v = 1 - abar[k] / abar[j]
    eps = (x_k - abar[k].sqrt() * x_0) / (1 - abar[k]).sqrt()
    return abar[j].sqrt() * x_0 + (1 - abar[j]).sqrt() * eps, v * (1 - abar[j]) / (1 - abar[k])


# %% wrong="07.3" hint="the mean must have the shape"
def posterior(x_k, x_0, abar, k, j):
    v = 1 - abar[k] / abar[j]
    mean = abar[j].sqrt() * v / (1 - abar[k]) * x_0 + (1 - v).sqrt() * (1 - abar[j]) / (1 - abar[k]) * x_k
    return v * (1 - abar[j]) / (1 - abar[k]), mean


# %% wrong="07.3" hint="not its logarithm"
def posterior(x_k, x_0, abar, k, j):
    v = 1 - abar[k] / abar[j]
    mean = abar[j].sqrt() * v / (1 - abar[k]) * x_0 + (1 - v).sqrt() * (1 - abar[j]) / (1 - abar[k]) * x_k
    return mean, torch.log(v * (1 - abar[j]) / (1 - abar[k]))


# %% wrong="07.3" hint="NaN or infinite"
def posterior(x_k, x_0, abar, k, j):
    return torch.full_like(x_k, float("nan")), 0.5


# %% wrong="07.3" hint="a variance is not negative"
def posterior(x_k: Tensor, x_0: Tensor, abar: Tensor, k: int, j: int) -> tuple[Tensor, Tensor]:
    ratio = abar[j] / abar[k]
    mean = (abar[j].sqrt() * (1 - ratio) * x_0 + ratio.sqrt() * (1 - abar[j]) * x_k) / (1 - abar[k])
    return mean, (1 - ratio) * (1 - abar[j]) / (1 - abar[k])


# %% right="07.3" name="precisions"
def posterior(x_k, x_0, abar, k, j):
    r = (abar[k] / abar[j]).sqrt()
    precision = r**2 / (1 - r**2) + 1 / (1 - abar[j]).clamp_min(1e-300)
    variance = 1 / precision
    return variance * (r * x_k / (1 - r**2) + abar[j].sqrt() * x_0 / (1 - abar[j]).clamp_min(1e-300)), variance


# %% right="07.3" name="regression of x_j on the noise in x_k"
def posterior(x_k, x_0, abar, k, j):
    noise = (x_k - abar[k].sqrt() * x_0) / (1 - abar[k]).sqrt()
    slope = (abar[k] / abar[j]).sqrt() * (1 - abar[j]) / (1 - abar[k]).sqrt()
    return abar[j].sqrt() * x_0 + slope * noise, (1 - abar[j]) - slope**2


# %% right="07.3" name="plain numbers"
def posterior(x_k, x_0, abar, k, j):
    a, b = float(abar[k]), float(abar[j])
    v = 1 - a / b
    return b**0.5 * v / (1 - a) * x_0 + (a / b) ** 0.5 * (1 - b) / (1 - a) * x_k, v * (1 - b) / (1 - a)


# %% right="07.3" name="Kalman gain"
def posterior(x_k, x_0, abar, k, j):
    prior_mean, prior = abar[j].sqrt() * x_0, 1 - abar[j]
    r = torch.sqrt(abar[k] / abar[j])
    gain = prior * r / (r**2 * prior + 1 - r**2)
    return prior_mean + gain * (x_k - r * prior_mean), prior * (1 - gain * r)


# %% wrong="07.4" hint="a factor 1/2 is missing"
def noise_weight(abar, k):
    snr = abar / (1 - abar)
    return snr[k - 1] / snr[k] - 1


# %% wrong="07.4" hint="that is the weight of |x_0 - D|^2"
def noise_weight(abar, k):
    snr = abar / (1 - abar)
    return (snr[k - 1] - snr[k]) / 2


# %% wrong="07.4" hint="that is the weight for the large variance"
def noise_weight(abar, k):
    v = 1 - abar[k] / abar[k - 1]
    return v / (2 * (1 - v) * (1 - abar[k]))


# %% wrong="07.4" hint="upside down"
def noise_weight(abar, k):
    snr = abar / (1 - abar)
    return (1 - snr[k] / snr[k - 1]) / 2


# %% wrong="07.4" hint="a divergence is not negative"
def noise_weight(abar, k):
    snr = abar / (1 - abar)
    return (snr[k] / snr[k - 1] - 1) / 2


# %% wrong="07.4" hint="for any numbers"
def noise_weight(abar, k):
    snr = abar / (1 - abar)
    return (snr[k - 1] / snr[min(k + 1, len(abar) - 1)] - 1) / 2


# %% wrong="07.4" hint="the weight of L_simple"
def noise_weight(abar, k):
    return torch.tensor(1.0)


# %% wrong="07.4" hint="multiplied by the signal-to-noise"
def noise_weight(abar, k):
    snr = abar / (1 - abar)
    return (snr[k - 1] - snr[k]) / 2 * snr[k]


# %% wrong="07.4" hint="got shape (100,)"
def noise_weight(abar, k):
    snr = abar / (1 - abar)
    return (snr[:-1] / snr[1:] - 1) / 2


# %% wrong="07.4" hint="not bits"
def noise_weight(abar, k):
    snr = abar / (1 - abar)
    return (snr[k - 1] / snr[k] - 1) / 2 / torch.log(torch.tensor(2.0))


# %% wrong="07.4" hint="the -1 is missing"
def noise_weight(abar: Tensor, k: int) -> Tensor:
    snr = abar[k - 1 : k + 1] / (1 - abar[k - 1 : k + 1])
    return snr[0] / snr[1] / 2


# %% right="07.4" name="means and variance of the posterior"
def noise_weight(abar, k):
    v = 1 - abar[k] / abar[k - 1]
    variance = v * (1 - abar[k - 1]) / (1 - abar[k])
    c = abar[k - 1].sqrt() * v / (1 - abar[k])
    return c**2 / (2 * variance) * (1 - abar[k]) / abar[k]


# %% right="07.4" name="equation 12 of the paper"
def noise_weight(abar, k):
    v = 1 - abar[k] / abar[k - 1]
    variance = v * (1 - abar[k - 1]) / (1 - abar[k])
    return v**2 / (2 * variance * (1 - v) * (1 - abar[k]))


# %% right="07.4" name="logarithms"
def noise_weight(abar, k):
    log_snr = torch.logit(abar[1:])
    return float(torch.expm1(log_snr[k - 2] - log_snr[k - 1])) / 2


# %% right="07.4" name="floats"
def noise_weight(abar, k):
    a, b = abar[k].item(), abar[k - 1].item()
    return 0.5 * (b - a) / (a * (1 - b))


# %% wrong="07.5" hint="the one where it goes"
def ancestral(eps, abar, x, ks, large, generator):
    for k, j in pairwise(ks):
        data = (x - (1 - abar[k]).sqrt() * eps(x, j)) / abar[k].sqrt()
        v, left = 1 - abar[k] / abar[j], 1 - abar[k]
        mean = (abar[j].sqrt() * v * data + (abar[k] / abar[j]).sqrt() * (1 - abar[j]) * x) / left
        variance = v if large else v * (1 - abar[j]) / left
        x = mean + variance.sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype) if j else mean
    return x


# %% wrong="07.5" hint="the last step, to k = 0, is missing"
def ancestral(eps, abar, x, ks, large, generator):
    for k, j in pairwise(ks[:-1]):
        data = (x - (1 - abar[k]).sqrt() * eps(x, k)) / abar[k].sqrt()
        v, left = 1 - abar[k] / abar[j], 1 - abar[k]
        mean = (abar[j].sqrt() * v * data + (abar[k] / abar[j]).sqrt() * (1 - abar[j]) * x) / left
        variance = v if large else v * (1 - abar[j]) / left
        x = mean + variance.sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


# %% wrong="07.5" hint="the last step must land on its mean"
def ancestral(eps, abar, x, ks, large, generator):
    for k, j in pairwise(ks):
        data = (x - (1 - abar[k]).sqrt() * eps(x, k)) / abar[k].sqrt()
        v, left = 1 - abar[k] / abar[j], 1 - abar[k]
        mean = (abar[j].sqrt() * v * data + (abar[k] / abar[j]).sqrt() * (1 - abar[j]) * x) / left
        variance = v if large else v * (1 - abar[j]) / left
        x = mean + variance.sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


# %% wrong="07.5" hint="take its square root"
def ancestral(eps, abar, x, ks, large, generator):
    for k, j in pairwise(ks):
        data = (x - (1 - abar[k]).sqrt() * eps(x, k)) / abar[k].sqrt()
        v, left = 1 - abar[k] / abar[j], 1 - abar[k]
        mean = (abar[j].sqrt() * v * data + (abar[k] / abar[j]).sqrt() * (1 - abar[j]) * x) / left
        variance = v if large else v * (1 - abar[j]) / left
        x = mean + variance * torch.randn(x.shape, generator=generator, dtype=x.dtype) if j else mean
    return x


# %% wrong="07.5" hint="must use the larger variance"
def ancestral(eps, abar, x, ks, large, generator):
    for k, j in pairwise(ks):
        data = (x - (1 - abar[k]).sqrt() * eps(x, k)) / abar[k].sqrt()
        v, left = 1 - abar[k] / abar[j], 1 - abar[k]
        mean = (abar[j].sqrt() * v * data + (abar[k] / abar[j]).sqrt() * (1 - abar[j]) * x) / left
        variance = v * (1 - abar[j]) / left
        x = mean + variance.sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype) if j else mean
    return x


# %% wrong="07.5" hint="not that of a single step"
def ancestral(eps, abar, x, ks, large, generator):
    for k, j in pairwise(ks):
        data = (x - (1 - abar[k]).sqrt() * eps(x, k)) / abar[k].sqrt()
        v, left = 1 - abar[k] / abar[j], 1 - abar[k]
        mean = (abar[j].sqrt() * v * data + (abar[k] / abar[j]).sqrt() * (1 - abar[j]) * x) / left
        single = 1 - abar[k] / abar[k - 1]
        variance = single if large else single * (1 - abar[j]) / left
        x = mean + variance.sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype) if j else mean
    return x


# %% wrong="07.5" hint="yours is the same again"
def ancestral(eps, abar, x, ks, large, generator):
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    for k, j in pairwise(ks):
        data = (x - (1 - abar[k]).sqrt() * eps(x, k)) / abar[k].sqrt()
        v, left = 1 - abar[k] / abar[j], 1 - abar[k]
        mean = (abar[j].sqrt() * v * data + (abar[k] / abar[j]).sqrt() * (1 - abar[j]) * x) / left
        variance = v if large else v * (1 - abar[j]) / left
        x = mean + variance.sqrt() * noise if j else mean
    return x


# %% wrong="07.5" hint="from k = 100 to 80: draw"
def ancestral(eps, abar, x, ks, large, generator):
    for k, j in pairwise(ks):
        data = (x - (1 - abar[k]).sqrt() * eps(x, k)) / abar[k].sqrt()
        v, left = 1 - abar[k] / abar[j], 1 - abar[k]
        x = (abar[j].sqrt() * v * data + (abar[k] / abar[j]).sqrt() * (1 - abar[j]) * x) / left
    return x


# %% wrong="07.5" hint="the mean is wrong"
def ancestral(eps, abar, x, ks, large, generator):
    for k, j in pairwise(ks):
        data = (x - (1 - abar[k]).sqrt() * eps(x, k)) / abar[k].sqrt()
        v, left = 1 - abar[k] / abar[j], 1 - abar[k]
        variance = v if large else v * (1 - abar[j]) / left
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = abar[j].sqrt() * data + variance.sqrt() * noise if j else data
    return x


# %% wrong="07.5" hint="must come from `generator`"
def ancestral(eps, abar, x, ks, large, generator):
    for k, j in pairwise(ks):
        v = 1 - abar[k] / abar[j]
        data = (x - (1 - abar[k]).sqrt() * eps(x, k)) / abar[k].sqrt()
        mean = (abar[j].sqrt() * v * data + (abar[k] / abar[j]).sqrt() * (1 - abar[j]) * x) / (1 - abar[k])
        variance = v if large else v * (1 - abar[j]) / (1 - abar[k])
        x = mean + (variance.sqrt() * torch.randn_like(x) if j else 0)
    return x


# %% wrong="07.5" hint="is it standard normal"
def ancestral(eps, abar, x, ks, large, generator):
    for k, j in pairwise(ks):
        v = 1 - abar[k] / abar[j]
        data = (x - (1 - abar[k]).sqrt() * eps(x, k)) / abar[k].sqrt()
        mean = (abar[j].sqrt() * v * data + (abar[k] / abar[j]).sqrt() * (1 - abar[j]) * x) / (1 - abar[k])
        variance = v if large else v * (1 - abar[j]) / (1 - abar[k])
        x = mean + (variance.sqrt() * torch.rand(x.shape, generator=generator, dtype=x.dtype) if j else 0)
    return x


# %% wrong="07.5" hint="is a seed set inside"
def ancestral(eps, abar, x, ks, large, generator):
    generator = torch.Generator().manual_seed(0)
    for k, j in pairwise(ks):
        D = (x - (1 - abar[k]).sqrt() * eps(x, k)) / abar[k].sqrt()
        v = 1 - abar[k] / abar[j]
        m = abar[j].sqrt() * v / (1 - abar[k]) * D + (1 - v).sqrt() * (1 - abar[j]) / (1 - abar[k]) * x
        var = v if large else v * (1 - abar[j]) / (1 - abar[k])
        x = m + (j > 0) * var.sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


# %% wrong="07.5" hint="both coordinates get"
def ancestral(eps, abar, x, ks, large, generator):
    for k, j in pairwise(ks):
        D = (x - (1 - abar[k]).sqrt() * eps(x, k)) / abar[k].sqrt()
        v = 1 - abar[k] / abar[j]
        m = abar[j].sqrt() * v / (1 - abar[k]) * D + (1 - v).sqrt() * (1 - abar[j]) / (1 - abar[k]) * x
        var = v if large else v * (1 - abar[j]) / (1 - abar[k])
        x = m + (j > 0) * var.sqrt() * torch.randn(len(x), 1, generator=generator, dtype=x.dtype)
    return x


# %% wrong="07.5" hint="large=False must use"
def ancestral(eps, abar, x, ks, large, generator):
    for k, j in pairwise(ks):
        D = (x - (1 - abar[k]).sqrt() * eps(x, k)) / abar[k].sqrt()
        v = 1 - abar[k] / abar[j]
        m = abar[j].sqrt() * v / (1 - abar[k]) * D + (1 - v).sqrt() * (1 - abar[j]) / (1 - abar[k]) * x
        x = m + (j > 0) * v.sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


# %% wrong="07.5" hint="yours was asked at [100, 99"
def ancestral(eps, abar, x, ks, large, generator):
    for k in range(len(abar) - 1, 0, -1):
        j = k - 1
        D = (x - (1 - abar[k]).sqrt() * eps(x, k)) / abar[k].sqrt()
        v = 1 - abar[k] / abar[j]
        m = abar[j].sqrt() * v / (1 - abar[k]) * D + (1 - v).sqrt() * (1 - abar[j]) / (1 - abar[k]) * x
        var = v if large else v * (1 - abar[j]) / (1 - abar[k])
        x = m + (j > 0) * var.sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


# %% wrong="07.5" hint="changed in place"
def ancestral(eps, abar, x, ks, large, generator):
    for k, j in pairwise(ks):
        D = (x - (1 - abar[k]).sqrt() * eps(x, k)) / abar[k].sqrt()
        v = 1 - abar[k] / abar[j]
        m = abar[j].sqrt() * v / (1 - abar[k]) * D + (1 - v).sqrt() * (1 - abar[j]) / (1 - abar[k]) * x
        var = v if large else v * (1 - abar[j]) / (1 - abar[k])
        x[:] = m + (j > 0) * var.sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


# %% wrong="07.5" hint="the answer calls sample_ancestral"
def ancestral(eps, abar, x, ks, large, generator):
    network = Network(eps)
    return sample_ancestral(network, x, steps=ks, variance="large" if large else "small", generator=generator)


# %% wrong="07.5" hint="from k = 30 to 10: draw"
def ancestral(
    eps: Callable[[Tensor, int], Tensor],
    abar: Tensor,
    x: Tensor,
    ks: list[int],
    large: bool,
    generator: torch.Generator,
) -> Tensor:
    for k, j in pairwise(ks):
        data = (x - (1 - abar[k]).sqrt() * eps(x, k)) / abar[k].sqrt()
        v, left = 1 - abar[k] / abar[j], 1 - abar[k]
        mean = (abar[j].sqrt() * v * data + (abar[k] / abar[j]).sqrt() * (1 - abar[j]) * x) / left
        variance = v if large else v * (1 - abar[j]) / left
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = mean + variance.sqrt() * noise if j > 10 else mean
    return x


# %% right="07.5" name="the paper's form of the mean"
def ancestral(eps, abar, x, ks, large, generator):
    for k, j in pairwise(ks):
        v = 1 - abar[k] / abar[j]
        x_mean = (x - v / (1 - abar[k]).sqrt() * eps(x, k)) / (1 - v).sqrt()
        if j == 0:
            return x_mean
        sigma = v.sqrt() if large else (v * (1 - abar[j]) / (1 - abar[k])).sqrt()
        x = x_mean + sigma * torch.randn(*x.shape, generator=generator, dtype=torch.float64)


# %% right="07.5" name="all noise drawn beforehand"
def ancestral(eps, abar, x, ks, large, generator):
    noises = torch.randn(len(ks) - 1, *x.shape, generator=generator, dtype=x.dtype)
    for i in range(len(ks) - 1):
        a, b = abar[ks[i]], abar[ks[i + 1]]
        data = (x - (1 - a).sqrt() * eps(x, ks[i])) / a.sqrt()
        small = (1 - a / b) * (1 - b) / (1 - a)
        x = (b.sqrt() * (1 - a / b) * data + (a / b).sqrt() * (1 - b) * x) / (1 - a)
        if i < len(ks) - 2:
            x = x + (1 - a / b if large else small).sqrt() * noises[i]
    return x


# %% right="07.5" name="through DDIM's form"
def ancestral(eps, abar, x, ks, large, generator):
    for k, j in pairwise(ks):
        noise = eps(x, k)
        data = (x - (1 - abar[k]).sqrt() * noise) / abar[k].sqrt()
        v = 1 - abar[k] / abar[j]
        small = v * (1 - abar[j]) / (1 - abar[k])
        x = abar[j].sqrt() * data + (1 - abar[j] - small).clamp_min(0).sqrt() * noise
        if j > 0:
            x = x + (v if large else small).sqrt() * torch.empty_like(x).normal_(generator=generator)
    return x


# %% right="07.5" name="posterior of one's own"
def ancestral(eps, abar, x, ks, large, generator):
    def post(x, D, a, b):
        v = 1 - a / b
        return (b.sqrt() * v * D + (a / b).sqrt() * (1 - b) * x) / (1 - a), v, v * (1 - b) / (1 - a)

    i = 0
    while ks[i] > 0:
        a, b = abar[ks[i]], abar[ks[i + 1]]
        D = x / a.sqrt() - ((1 - a) / a).sqrt() * eps(x, ks[i])
        m, big, small = post(x, D, a, b)
        i += 1
        noise = torch.normal(torch.zeros_like(x), 1.0, generator=generator) if ks[i] else 0.0
        x = m + (big if large else small) ** 0.5 * noise
    return x


# %% wrong="07.6" hint="with square roots"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    data = (x - (1 - abar_k) * eps) / abar_k
    variance = eta**2 * (1 - abar_k / abar_j) * (1 - abar_j) / (1 - abar_k)
    return abar_j.sqrt() * data + (1 - abar_j - variance).sqrt() * eps + variance.sqrt() * noise


# %% wrong="07.6" hint="first find the data point D"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    variance = eta**2 * (1 - abar_k / abar_j) * (1 - abar_j) / (1 - abar_k)
    return abar_j.sqrt() * x + (1 - abar_j - variance).sqrt() * eps + variance.sqrt() * noise


# %% wrong="07.6" hint="new noise needs room"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    data = (x - (1 - abar_k).sqrt() * eps) / abar_k.sqrt()
    variance = eta**2 * (1 - abar_k / abar_j) * (1 - abar_j) / (1 - abar_k)
    return abar_j.sqrt() * data + (1 - abar_j).sqrt() * eps + variance.sqrt() * noise


# %% wrong="07.6" hint="and not by its square"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    data = (x - (1 - abar_k).sqrt() * eps) / abar_k.sqrt()
    variance = eta**2 * (1 - abar_k / abar_j) * (1 - abar_j) / (1 - abar_k)
    return abar_j.sqrt() * data + (1 - abar_j - variance).sqrt() * eps + variance * noise


# %% wrong="07.6" hint="exchanged in sigma"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    data = (x - (1 - abar_k).sqrt() * eps) / abar_k.sqrt()
    variance = eta**2 * (1 - abar_k / abar_j) * (1 - abar_k) / (1 - abar_j)
    return abar_j.sqrt() * data + (1 - abar_j - variance).abs().sqrt() * eps + variance.sqrt() * noise


# %% wrong="07.6" hint="eta multiplies sigma itself"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    data = (x - (1 - abar_k).sqrt() * eps) / abar_k.sqrt()
    variance = eta * (1 - abar_k / abar_j) * (1 - abar_j) / (1 - abar_k)
    return abar_j.sqrt() * data + (1 - abar_j - variance).sqrt() * eps + variance.sqrt() * noise


# %% wrong="07.6" hint="at eta > 0 new noise is added"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    data = (x - (1 - abar_k).sqrt() * eps) / abar_k.sqrt()
    return abar_j.sqrt() * data + (1 - abar_j).sqrt() * eps


# %% wrong="07.6" hint="the posterior, which knows x_0"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    variance = eta**2 * (1 - abar_k / abar_j)
    data = (x - (1 - abar_k).sqrt() * eps) / abar_k.sqrt()
    return abar_j.sqrt() * data + (1 - abar_j - variance).sqrt() * eps + variance.sqrt() * noise


# %% wrong="07.6" hint="eta is not used"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    D = (x - (1 - abar_k).sqrt() * eps) / abar_k.sqrt()
    var = (1 - abar_k / abar_j) * (1 - abar_j) / (1 - abar_k) * (eta > 0)
    return abar_j.sqrt() * D + (1 - abar_j - var).sqrt() * eps + var.sqrt() * noise


# %% wrong="07.6" hint="what is kept of eps"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    D = (x - (1 - abar_k).sqrt() * eps) / abar_k.sqrt()
    s = eta * ((1 - abar_k / abar_j) * (1 - abar_j) / (1 - abar_k)).sqrt()
    return abar_j.sqrt() * D + ((1 - abar_j).sqrt() - s) * eps + s * noise


# %% wrong="07.6" hint="D still contains"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    D = x / abar_k.sqrt()
    s = eta * ((1 - abar_k / abar_j) * (1 - abar_j) / (1 - abar_k)).sqrt()
    return abar_j.sqrt() * D + (1 - abar_j - s**2).sqrt() * eps + s * noise


# %% wrong="07.6" hint="the two levels are exchanged"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    D = (x - (1 - abar_j).sqrt() * eps) / abar_j.sqrt()
    s = eta * ((1 - abar_k / abar_j) * (1 - abar_j) / (1 - abar_k)).sqrt()
    return abar_k.sqrt() * D + (1 - abar_k - s**2).sqrt() * eps + s * noise


# %% wrong="07.6" hint="draw none"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    D = (x - (1 - abar_k).sqrt() * eps) / abar_k.sqrt()
    s = eta * ((1 - abar_k / abar_j) * (1 - abar_j) / (1 - abar_k)).sqrt()
    return abar_j.sqrt() * D + (1 - abar_j - s**2).sqrt() * eps + s * torch.randn_like(x)


# %% wrong="07.6" hint="there is no new noise"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    D = (x - (1 - abar_k).sqrt() * eps) / abar_k.sqrt()
    s = ((1 - abar_k / abar_j) * (1 - abar_j) / (1 - abar_k)).sqrt() * (1 - eta)
    return abar_j.sqrt() * D + (1 - abar_j - s**2).sqrt() * eps + s * noise


# %% wrong="07.6" hint="the answer contains NaN"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    return x / 0


# %% wrong="07.6" hint="the answer calls ddim_weights"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    signal, kept, new = ddim_weights(chain, chain.time(70), chain.time(40), eta)
    return signal * (x - (1 - abar_k).sqrt() * eps) / abar_k.sqrt() + kept * eps + new * noise


# %% right="07.6" name="standard deviations"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    sigma = eta * ((1 - abar_j) / (1 - abar_k)) ** 0.5 * (1 - abar_k / abar_j) ** 0.5
    x_0 = (x - eps * (1 - abar_k) ** 0.5) / abar_k**0.5
    return abar_j**0.5 * x_0 + (1 - abar_j - sigma**2) ** 0.5 * eps + sigma * noise


# %% right="07.6" name="plain numbers"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    a, b = float(abar_k), float(abar_j)
    sigma = eta * ((1 - b) / (1 - a) * (1 - a / b)) ** 0.5
    return (b / a) ** 0.5 * (x - (1 - a) ** 0.5 * eps) + (1 - b - sigma**2) ** 0.5 * eps + sigma * noise


# %% right="07.6" name="scaled coordinates"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    variance = eta**2 * (1 - abar_k / abar_j) * (1 - abar_j) / (1 - abar_k)
    scaled = x / abar_k.sqrt() + (((1 - abar_j - variance) / abar_j).sqrt() - ((1 - abar_k) / abar_k).sqrt()) * eps
    return abar_j.sqrt() * scaled + variance.sqrt() * noise


# %% right="07.6" name="interpolated posterior"
def ddim(eps, x, abar_k, abar_j, eta, noise):
    z = (x - torch.sqrt(1 - abar_k) * eps) * torch.rsqrt(abar_k)
    sigma = eta * torch.sqrt((1 - abar_j) * (abar_j - abar_k) / (abar_j * (1 - abar_k)))
    return torch.sqrt(abar_j) * z + torch.sqrt((1 - abar_j) - sigma.square()) * eps + sigma * noise


# %% wrong="07.7" hint="not at the step where it goes"
def encode(eps, abar, x, ks):
    for j, k in pairwise(ks):
        noise = eps(x, k)
        data = (x - (1 - abar[j]).sqrt() * noise) / abar[j].sqrt()
        x = abar[k].sqrt() * data + (1 - abar[k]).sqrt() * noise
    return x


# %% wrong="07.7" hint="the way starts at k = 0"
def encode(eps, abar, x, ks):
    for j, k in pairwise(ks[::-1]):
        noise = eps(x, j)
        data = (x - (1 - abar[j]).sqrt() * noise) / abar[j].sqrt()
        x = abar[k].sqrt() * data + (1 - abar[k]).sqrt() * noise
    return x


# %% wrong="07.7" hint="on top of the noise that x has already"
def encode(eps, abar, x, ks):
    for j, k in pairwise(ks):
        x = (abar[k] / abar[j]).sqrt() * x + (1 - abar[k] / abar[j]).sqrt() * eps(x, j)
    return x


# %% wrong="07.7" hint="encoding adds no noise"
def encode(eps, abar, x, ks):
    for j, k in pairwise(ks):
        noise = eps(x, j)
        data = (x - (1 - abar[j]).sqrt() * noise) / abar[j].sqrt()
        x = abar[k].sqrt() * data + (1 - abar[k]).sqrt() * torch.randn_like(x)
    return x


# %% wrong="07.7" hint="with D and eps from step j"
def encode(eps, abar, x, ks):
    for j, k in pairwise(ks):
        noise = eps(x, j)
        data = (x - (1 - abar[k]).sqrt() * noise) / abar[k].sqrt()
        x = abar[k].sqrt() * data + (1 - abar[k]).sqrt() * noise + 0.1 * noise
    return x


# %% wrong="07.7" hint="the data came back unchanged"
def encode(eps, abar, x, ks):
    for j in ks[:-1]:
        noise = eps(x, j)
        data = (x - (1 - abar[j]).sqrt() * noise) / abar[j].sqrt()
        x = abar[j].sqrt() * data + (1 - abar[j]).sqrt() * noise
    return x


# %% wrong="07.7" hint="D is found anew in each step"
def encode(eps, abar, x, ks):
    data = x
    for j, k in pairwise(ks):
        x = abar[k].sqrt() * data + (1 - abar[k]).sqrt() * eps(x, j)
    return x


# %% wrong="07.7" hint="changed in place"
def encode(eps, abar, x, ks):
    for j, k in pairwise(ks):
        e = eps(x, j)
        x -= (1 - abar[j]).sqrt() * e
        x *= (abar[k] / abar[j]).sqrt()
        x += (1 - abar[k]).sqrt() * e
    return x


# %% wrong="07.7" hint="yours was asked at [100]"
def encode(eps, abar, x, ks):
    k = ks[-1]
    return abar[k].sqrt() * x + (1 - abar[k]).sqrt() * eps(x, k)


# %% wrong="07.7" hint="yours was asked at [0]"
def encode(eps, abar, x, ks):
    e = eps(x, 0)
    for j, k in pairwise(ks):
        D = (x - (1 - abar[j]).sqrt() * e) / abar[j].sqrt()
        x = abar[k].sqrt() * D + (1 - abar[k]).sqrt() * e
    return x


# %% wrong="07.7" hint="multiplied by its roots"
def encode(eps, abar, x, ks):
    for j, k in pairwise(ks):
        e = eps(x, j)
        D = (x - (1 - abar[j]) * e) / abar[j]
        x = abar[k] * D + (1 - abar[k]) * e
    return x


# %% wrong="07.7" hint="yours was asked at [0, 5, 20]"
def encode(eps, abar, x, ks):
    for j, k in pairwise(ks[:-1]):
        e = eps(x, j)
        D = (x - (1 - abar[j]).sqrt() * e) / abar[j].sqrt()
        x = abar[k].sqrt() * D + (1 - abar[k]).sqrt() * e
    return x


# %% wrong="07.7" hint="the answer calls encode_ddim"
def encode(eps, abar, x, ks):
    return encode_ddim(Network(eps), x, steps=100) * (1 - abar[-1]).sqrt()


# %% wrong="07.7" hint="not divided by its noise level"
def encode(eps, abar, x, ks):
    for j, k in pairwise(ks):
        noise = eps(x, j)
        data = (x - (1 - abar[j]).sqrt() * noise) / abar[j].sqrt()
        x = abar[k].sqrt() * data + (1 - abar[k]).sqrt() * noise
    return x / (1 - abar[ks[-1]]).sqrt()


# %% right="07.7" name="scaled coordinates"
def encode(eps, abar, x, ks):
    sigma = ((1 - abar) / abar).sqrt()
    y = x / abar[ks[0]].sqrt()
    for j, k in pairwise(ks):
        y = y + (sigma[k] - sigma[j]) * eps(y * abar[j].sqrt(), j)
    return y * abar[ks[-1]].sqrt()


# %% right="07.7" name="indices"
def encode(eps, abar, x, ks):
    state = x.clone()
    for i in range(1, len(ks)):
        a, b = abar[ks[i - 1]], abar[ks[i]]
        e = eps(state, ks[i - 1])
        state = (b / a) ** 0.5 * (state - (1 - a) ** 0.5 * e) + (1 - b) ** 0.5 * e
    return state


# %% right="07.7" name="recursion"
def encode(eps, abar, x, ks):
    if len(ks) == 1:
        return x
    j, k = ks[0], ks[1]
    noise = eps(x, j)
    data = (x - torch.sqrt(1 - abar[j]) * noise) / torch.sqrt(abar[j])
    return encode(eps, abar, torch.sqrt(abar[k]) * data + torch.sqrt(1 - abar[k]) * noise, ks[1:])


# %% right="07.7" name="enumerate"
def encode(eps, abar, x, ks):
    root, rest = abar.sqrt(), (1 - abar).sqrt()
    for i, j in enumerate(ks[:-1]):
        k = ks[i + 1]
        e = eps(x, j)
        x = root[k] / root[j] * x + (rest[k] - root[k] * rest[j] / root[j]) * e
    return x


# %% wrong="07.8" hint="where x_0 is known"
def true_variance(abar, k, j, s):
    return (1 - abar[k] / abar[j]) * (1 - abar[j]) / (1 - abar[k])


# %% wrong="07.8" hint="right only for s = 1"
def true_variance(abar, k, j, s):
    return 1 - abar[k] / abar[j]


# %% wrong="07.8" hint="which is less than s^2"
def true_variance(abar, k, j, s):
    v = 1 - abar[k] / abar[j]
    c = abar[j].sqrt() * v / (1 - abar[k])
    return v * (1 - abar[j]) / (1 - abar[k]) + c**2 * s**2


# %% wrong="07.8" hint="with c squared"
def true_variance(abar, k, j, s):
    v = 1 - abar[k] / abar[j]
    c = abar[j].sqrt() * v / (1 - abar[k])
    left = s**2 * (1 - abar[k]) / (abar[k] * s**2 + 1 - abar[k])
    return v * (1 - abar[j]) / (1 - abar[k]) + c * left


# %% wrong="07.8" hint="the law of total variance has two terms"
def true_variance(abar, k, j, s):
    v = 1 - abar[k] / abar[j]
    c = abar[j].sqrt() * v / (1 - abar[k])
    return c**2 * s**2 * (1 - abar[k]) / (abar[k] * s**2 + 1 - abar[k])


# %% wrong="07.8" hint="before x_k is known"
def true_variance(abar, k, j, s):
    return abar[j] * s**2 + 1 - abar[j]


# %% wrong="07.8" hint="s may be 0"
def true_variance(abar, k, j, s):
    v = 1 - abar[k] / abar[j]
    c = abar[j].sqrt() * v / (1 - abar[k])
    return v * (1 - abar[j]) / (1 - abar[k]) + c**2 / (1 / s**2 + abar[k] / (1 - abar[k]))


# %% wrong="07.8" hint="not the standard deviation"
def true_variance(abar, k, j, s):
    r = abar[k] / abar[j]
    V = abar[j] * s**2 + 1 - abar[j]
    return (V * (1 - r) / (r * V + 1 - r)) ** 0.5


# %% wrong="07.8" hint="its square is the variance"
def true_variance(abar, k, j, s):
    r = abar[k] / abar[j]
    V = abar[j] * s + 1 - abar[j]
    return V * (1 - r) / (r * V + 1 - r)


# %% wrong="07.8" hint="jointly Gaussian"
def true_variance(abar, k, j, s):
    r = (abar[k] / abar[j]).sqrt()
    V = abar[j] * s**2 + 1 - abar[j]
    return 1 / (1 / V + r / (1 - r))


# %% wrong="07.8" hint="that is the precision"
def true_variance(abar, k, j, s):
    r = abar[k] / abar[j]
    V = abar[j] * s**2 + 1 - abar[j]
    return 1 / V + r / (1 - r)


# %% right="07.8" name="total variance"
def true_variance(abar, k, j, s):
    v = 1 - abar[k] / abar[j]
    c = abar[j].sqrt() * v / (1 - abar[k])
    left = s**2 * (1 - abar[k]) / (abar[k] * s**2 + 1 - abar[k])
    return v * (1 - abar[j]) / (1 - abar[k]) + c**2 * left


# %% right="07.8" name="precisions"
def true_variance(abar, k, j, s):
    r2 = abar[k] / abar[j]
    return 1 / (1 / (abar[j] * s**2 + 1 - abar[j]) + r2 / (1 - r2))


# %% right="07.8" name="covariance matrix"
def true_variance(abar, k, j, s):
    a, b = float(abar[k]), float(abar[j])
    first, second = b * s**2 + 1 - b, a * s**2 + 1 - a
    both = (a / b) ** 0.5 * first
    return first - both**2 / second


# %% right="07.8" name="schur"
def true_variance(abar, k, j, s):
    a, b = abar[k], abar[j]
    C = torch.stack(
        [
            torch.stack([b * s**2 + 1 - b, (a / b).sqrt() * (b * s**2 + 1 - b)]),
            torch.stack([(a / b).sqrt() * (b * s**2 + 1 - b), a * s**2 + 1 - a]),
        ]
    )
    return torch.linalg.det(C) / C[1, 1]
