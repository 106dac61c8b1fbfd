"""The bank of wrong and right answers to exercise 08."""


# %% wrong="08.1" hint="these are the abar_k"
def cosine_variances(steps, offset=0.008):
    k = torch.arange(1, steps + 1).double()
    f = torch.cos((k / steps + offset) / (1 + offset) * math.pi / 2) ** 2
    return f / math.cos(offset / (1 + offset) * math.pi / 2) ** 2


# %% wrong="08.1" hint="the cosine is squared"
def cosine_variances(steps, offset=0.008):
    k = torch.arange(steps + 1).double()
    f = torch.cos((k / steps + offset) / (1 + offset) * math.pi / 2)
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


# %% wrong="08.1" hint="must be clipped at 0.999"
def cosine_variances(steps, offset=0.008):
    k = torch.arange(steps + 1).double()
    f = torch.cos((k / steps + offset) / (1 + offset) * math.pi / 2) ** 2
    return 1 - f[1:] / f[:-1]


# %% wrong="08.1" hint="the offset s is missing"
def cosine_variances(steps, offset=0.008):
    k = torch.arange(steps + 1).double()
    f = torch.cos(k / steps * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


# %% wrong="08.1" hint="must be divided by 1 + s"
def cosine_variances(steps, offset=0.008):
    k = torch.arange(steps + 1).double()
    f = torch.cos((k / steps + offset) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


# %% wrong="08.1" hint="there are T variances"
def cosine_variances(steps, offset=0.008):
    k = torch.arange(steps + 1).double()
    f = torch.cos((k / steps + offset) / (1 + offset) * math.pi / 2) ** 2
    return torch.cat([torch.zeros(1).double(), (1 - f[1:] / f[:-1]).clamp(max=0.999)])


# %% wrong="08.1" hint="one step late"
def cosine_variances(steps, offset=0.008):
    k = torch.arange(steps).double()
    f = torch.cos((k / steps + offset) / (1 + offset) * math.pi / 2) ** 2
    return torch.cat([torch.zeros(1).double(), (1 - f[1:] / f[:-1]).clamp(max=0.999)])


# %% wrong="08.1" hint="use the argument"
def cosine_variances(steps, offset=0.008):
    k = torch.arange(steps + 1).double()
    f = torch.cos((k / steps + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


# %% wrong="08.1" hint="float64 is asked for"
def cosine_variances(steps, offset=0.008):
    k = torch.arange(steps + 1)
    f = torch.cos((k / steps + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


# %% wrong="08.1" hint="the answer calls Chain"
def cosine_variances(steps, offset=0.008):
    return Chain.of(Cosine(offset), steps).var[1:]


# %% wrong="08.1" hint="have lost their digits"
def cosine_variances(steps, offset=0.008):
    k = torch.arange(steps + 1)
    f = torch.cos((k / steps + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999).double()


# %% wrong="08.1" hint="only the last variance"
def cosine_variances(steps, offset=0.008):
    k = torch.arange(steps + 1, dtype=torch.float64)
    f = torch.cos((k / steps + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.99)


# %% wrong="08.1" hint="a variance is not negative"
def cosine_variances(steps, offset=0.008):
    k = torch.arange(steps + 1, dtype=torch.float64)
    f = torch.cos((k / steps + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - f[:-1] / f[1:]).clamp(max=0.999)


# %% wrong="08.1" hint="NaN or infinite"
def cosine_variances(steps, offset=0.008):
    return torch.full((steps,), float("nan"), dtype=torch.float64)


# %% wrong="08.1" hint="not its logarithm"
def cosine_variances(steps: int, offset: float = 0.008) -> Tensor:
    k = torch.arange(steps + 1, dtype=torch.float64)
    f = torch.cos((k / steps + offset) / (1 + offset) * math.pi / 2) ** 2
    return (-torch.log(f[1:] / f[:-1])).clamp(max=0.999)


# %% right="08.1" name="a loop"
def cosine_variances(steps, offset=0.008):
    def abar(u):
        return math.cos((u + offset) / (1 + offset) * math.pi / 2) ** 2

    return torch.tensor([min(1 - abar((k + 1) / steps) / abar(k / steps), 0.999) for k in range(steps)]).double()


# %% right="08.1" name="abar first"
def cosine_variances(steps, offset=0.008):
    clock = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    f = (1 + torch.cos((clock + offset) / (1 + offset) * math.pi)) / 2
    abar = f / f[0]
    return torch.minimum((abar[:-1] - abar[1:]) / abar[:-1], torch.tensor(0.999).double())


# %% right="08.1" name="sin identity"
def cosine_variances(steps, offset=0.008):
    u = (torch.arange(steps + 1).double() / steps + offset) / (1 + offset) * math.pi / 2
    abar = torch.cos(u).square() / torch.cos(u[0]).square()
    v = 1 - abar[1:].div(abar[:-1])
    v[v > 0.999] = 0.999
    return v


# %% wrong="08.2" hint="this is the posterior's variance"
def best_variance(abar_k, abar_j, error):
    return (1 - abar_k / abar_j) * (1 - abar_j) / (1 - abar_k)


# %% wrong="08.2" hint="right for white data only"
def best_variance(abar_k, abar_j, error):
    return 1 - abar_k / abar_j


# %% wrong="08.2" hint="is seen through the factor"
def best_variance(abar_k, abar_j, error):
    return (1 - abar_k / abar_j) * (1 - abar_j) / (1 - abar_k) + error


# %% wrong="08.2" hint="so its square has c squared"
def best_variance(abar_k, abar_j, error):
    v = 1 - abar_k / abar_j
    return v * (1 - abar_j) / (1 - abar_k) + math.sqrt(abar_j) * v / (1 - abar_k) * error


# %% wrong="08.2" hint="not that of x_k"
def best_variance(abar_k, abar_j, error):
    v = 1 - abar_k / abar_j
    c = math.sqrt(abar_k / abar_j) * (1 - abar_j) / (1 - abar_k)
    return v * (1 - abar_j) / (1 - abar_k) + c**2 * error


# %% wrong="08.2" hint="its variance is b, not v"
def best_variance(abar_k, abar_j, error):
    v = 1 - abar_k / abar_j
    return v + (math.sqrt(abar_j) * v / (1 - abar_k)) ** 2 * error


# %% wrong="08.2" hint="standard deviations do not"
def best_variance(abar_k, abar_j, error):
    v = 1 - abar_k / abar_j
    b, c = v * (1 - abar_j) / (1 - abar_k), math.sqrt(abar_j) * v / (1 - abar_k)
    return (math.sqrt(b) + c * math.sqrt(error)) ** 2


# %% wrong="08.2" hint="write out KL"
def best_variance(abar_k, abar_j, error):
    v = 1 - abar_k / abar_j
    return v * (1 - abar_j) / (1 - abar_k) + abar_j * error


# %% wrong="08.2" hint="the square root of abar_j"
def best_variance(abar_k, abar_j, error):
    v = 1 - abar_k / abar_j
    c = abar_j * v / (1 - abar_k)
    return v * (1 - abar_j) / (1 - abar_k) + c**2 * error


# %% wrong="08.2" hint="a mean square already"
def best_variance(abar_k, abar_j, error):
    v = 1 - abar_k / abar_j
    c = abar_j**0.5 * v / (1 - abar_k)
    return v * (1 - abar_j) / (1 - abar_k) + (c * error) ** 2


# %% wrong="08.2" hint="this is the standard deviation"
def best_variance(abar_k, abar_j, error):
    v = 1 - abar_k / abar_j
    c = abar_j**0.5 * v / (1 - abar_k)
    return (v * (1 - abar_j) / (1 - abar_k) + c**2 * error) ** 0.5


# %% wrong="08.2" hint="makes the variance larger"
def best_variance(abar_k: float, abar_j: float, error: float) -> float:
    v = 1 - abar_k / abar_j
    b = v * (1 - abar_j) / (1 - abar_k)
    c = math.sqrt(abar_j) * v / (1 - abar_k)
    return b - c**2 * error


# %% right="08.2" name="one fraction"
def best_variance(abar_k, abar_j, error):
    v = 1 - abar_k / abar_j
    return v / (1 - abar_k) * (1 - abar_j + abar_j * v * error / (1 - abar_k))


# %% right="08.2" name="from the large variance down"
def best_variance(abar_k, abar_j, error):
    v = 1 - abar_k / abar_j
    return v - abar_j * (v / (1 - abar_k)) ** 2 * (1 - abar_k - error)


# %% right="08.2" name="tensors"
def best_variance(abar_k, abar_j, error):
    k, j = torch.tensor([abar_k, abar_j], dtype=torch.float64)
    v = -torch.expm1(k.log() - j.log())
    return v * (1 - j) / (1 - k) + j * v**2 / (1 - k) ** 2 * error


# %% right="08.2" name="linear interpolation"
def best_variance(abar_k, abar_j, error):
    v = 1 - abar_k / abar_j
    b = v * (1 - abar_j) / (1 - abar_k)
    share = error / (1 - abar_k)
    return b + share * (v - b)


# %% wrong="08.3" hint="not o itself"
def step_variance(output, small, large):
    return torch.exp(output * large.log() + (1 - output) * small.log())


# %% wrong="08.3" hint="not the variances"
def step_variance(output, small, large):
    share = (output + 1) / 2
    return share * large + (1 - share) * small


# %% wrong="08.3" hint="lambda = 1 must be the large variance"
def step_variance(output, small, large):
    share = (output + 1) / 2
    return torch.exp(share * small.log() + (1 - share) * large.log())


# %% wrong="08.3" hint="this is the standard deviation"
def step_variance(output, small, large):
    share = (output + 1) / 2
    return torch.exp(0.5 * (share * large.log() + (1 - share) * small.log()))


# %% wrong="08.3" hint="not a sigmoid"
def step_variance(output, small, large):
    share = torch.sigmoid(output)
    return torch.exp(share * large.log() + (1 - share) * small.log())


# %% wrong="08.3" hint="is not clipped"
def step_variance(output, small, large):
    share = ((output + 1) / 2).clamp(0, 1)
    return torch.exp(share * large.log() + (1 - share) * small.log())


# %% wrong="08.3" hint="this is the logarithm"
def step_variance(output, small, large):
    share = (output + 1) / 2
    return share * large.log() + (1 - share) * small.log()


# %% wrong="08.3" hint="the share of the output 0"
def step_variance(output, small, large):
    s = output / 2
    return torch.exp(s * large.log() + (1 - s) * small.log())


# %% wrong="08.3" hint="no gradient reaches the output"
def step_variance(output, small, large):
    s = (output.detach() + 1) / 2
    return torch.exp(s * large.log() + (1 - s) * small.log())


# %% wrong="08.3" hint="changed in place"
def step_variance(output, small, large):
    s = output.data.add_(1).div_(2)
    return torch.exp(s * large.log() + (1 - s) * small.log())


# %% wrong="08.3" hint="one variance for each component"
def step_variance(output, small, large):
    s = (output + 1) / 2
    return torch.exp(s * large.log() + (1 - s) * small.log()).flatten(1).mean(1)


# %% wrong="08.3" hint="what comes in float64"
def step_variance(output, small, large):
    s = (output.float() + 1) / 2
    return torch.exp(s * large.float().log() + (1 - s) * small.float().log())


# %% wrong="08.3" hint="the variance is wrong"
def step_variance(output, small, large):
    s = (output + 1) / 2
    return torch.exp(s * large.log2() + (1 - s) * small.log2())


# %% right="08.3" name="powers"
def step_variance(output, small, large):
    share = 0.5 * output + 0.5
    return large**share * small ** (1 - share)


# %% right="08.3" name="from the small one up"
def step_variance(output, small, large):
    return small * (large / small) ** ((output + 1) / 2)


# %% right="08.3" name="lerp"
def step_variance(output, small, large):
    return torch.lerp(small.log().expand_as(output), large.log().expand_as(output), (1 + output) / 2).exp()


# %% right="08.3" name="geometric mean"
def step_variance(output, small, large):
    return torch.sqrt(small * large) * (large / small) ** (output / 2)


# %% wrong="08.4" hint="this is in nats"
def bound_term(true_mean, true_variance, mean, variance):
    ratio = true_variance / variance
    return (0.5 * (ratio - 1 - ratio.log() + (true_mean - mean) ** 2 / variance)).flatten(1).mean(1)


# %% wrong="08.4" hint="from nats to bits one divides"
def bound_term(true_mean, true_variance, mean, variance):
    ratio = true_variance / variance
    nats = 0.5 * (ratio - 1 - ratio.log() + (true_mean - mean) ** 2 / variance)
    return nats.flatten(1).mean(1) * math.log(2)


# %% wrong="08.4" hint="not the sum"
def bound_term(true_mean, true_variance, mean, variance):
    ratio = true_variance / variance
    nats = 0.5 * (ratio - 1 - ratio.log() + (true_mean - mean) ** 2 / variance)
    return nats.flatten(1).sum(1) / math.log(2)


# %% wrong="08.4" hint="the divergence is not symmetric"
def bound_term(true_mean, true_variance, mean, variance):
    ratio = variance / true_variance
    nats = 0.5 * (ratio - 1 - ratio.log() + (true_mean - mean) ** 2 / true_variance)
    return nats.flatten(1).mean(1) / math.log(2)


# %% wrong="08.4" hint="as if they were standard deviations"
def bound_term(true_mean, true_variance, mean, variance):
    ratio = (true_variance / variance) ** 2
    nats = 0.5 * (ratio - 1 - ratio.log() + (true_mean - mean) ** 2 / variance**2)
    return nats.flatten(1).mean(1) / math.log(2)


# %% wrong="08.4" hint="the -1 is missing"
def bound_term(true_mean, true_variance, mean, variance):
    ratio = true_variance / variance
    nats = 0.5 * (ratio - ratio.log() + (true_mean - mean) ** 2 / variance)
    return nats.flatten(1).mean(1) / math.log(2)


# %% wrong="08.4" hint="one number for each sample"
def bound_term(true_mean, true_variance, mean, variance):
    ratio = true_variance / variance
    return (0.5 * (ratio - 1 - ratio.log() + (true_mean - mean) ** 2 / variance)).mean() / math.log(2)


# %% wrong="08.4" hint="q has a width of its own"
def bound_term(true_mean, true_variance, mean, variance):
    nats = 0.5 * ((variance / true_variance).log() + (true_mean - mean) ** 2 / variance)
    return nats.flatten(1).mean(1) / math.log(2)


# %% wrong="08.4" hint="a factor 1/2 is missing"
def bound_term(true_mean, true_variance, mean, variance):
    ratio = true_variance / variance
    return (ratio - 1 - ratio.log() + (true_mean - mean) ** 2 / variance).flatten(1).mean(1) / math.log(2)


# %% wrong="08.4" hint="measured in the model's variance"
def bound_term(true_mean, true_variance, mean, variance):
    ratio = true_variance / variance
    return (0.5 * (ratio - 1 - ratio.log() + (true_mean - mean) ** 2 / true_variance)).flatten(1).mean(1) / math.log(2)


# %% wrong="08.4" hint="a divergence is not negative"
def bound_term(true_mean, true_variance, mean, variance):
    r = true_variance / variance
    return -(0.5 * (r - 1 - r.log() + (true_mean - mean) ** 2 / variance)).flatten(1).mean(1) / math.log(2)


# %% wrong="08.4" hint="test yours with m = mu"
def bound_term(true_mean, true_variance, mean, variance):
    r = true_variance / variance
    return (0.5 * (r - 1 + r.log() + (true_mean - mean) ** 2 / variance)).flatten(1).mean(1) / math.log(2)


# %% wrong="08.4" hint="is something detached"
def bound_term(true_mean, true_variance, mean, variance):
    variance = variance.detach()
    r = true_variance / variance
    return (0.5 * (r - 1 - r.log() + (true_mean - mean) ** 2 / variance)).flatten(1).mean(1) / math.log(2)


# %% wrong="08.4" hint="one image of 2 x 3 x 5"
def bound_term(true_mean, true_variance, mean, variance):
    r = true_variance / variance
    return (0.5 * (r - 1 - r.log() + (true_mean - mean) ** 2 / variance))[:, 0].flatten(1).mean(1) / math.log(2)


# %% wrong="08.4" hint="the answer calls kl_normal"
def bound_term(true_mean, true_variance, mean, variance):
    return kl_normal(true_mean, true_variance.log(), mean, variance.log()).flatten(1).mean(1) / math.log(2)


# %% wrong="08.4" hint="the means do not enter"
def bound_term(true_mean, true_variance, mean, variance):
    ratio = true_variance / variance
    return (0.5 * (ratio - 1 - ratio.log())).flatten(1).mean(1).expand(len(mean)) / math.log(2)


# %% wrong="08.4" hint="the divergence of equal variances"
def bound_term(true_mean, true_variance, mean, variance):
    return (0.5 * (true_mean - mean) ** 2 / true_variance).flatten(1).mean(1) / math.log(2)


# %% right="08.4" name="torch.distributions"
def bound_term(true_mean, true_variance, mean, variance):
    from torch.distributions import Normal, kl_divergence

    q = Normal(true_mean, true_variance.sqrt().expand_as(true_mean))
    return kl_divergence(q, Normal(mean, variance.sqrt())).mean((1, 2, 3)) / math.log(2)


# %% right="08.4" name="one sample at a time"
def bound_term(true_mean, true_variance, mean, variance):
    rows = []
    for m, mu, s in zip(true_mean, mean, variance, strict=True):
        rows.append((true_variance / s - 1 + (s / true_variance).log() + (m - mu).square() / s).mean() / 2)
    return torch.stack(rows) / math.log(2)


# %% right="08.4" name="cross entropy minus entropy"
def bound_term(true_mean, true_variance, mean, variance):
    cross = 0.5 * ((true_variance + (true_mean - mean) ** 2) / variance + torch.log(2 * math.pi * variance))
    entropy = 0.5 * torch.log(2 * math.pi * math.e * true_variance)
    return (cross - entropy).flatten(1).mean(1) / math.log(2)


# %% right="08.4" name="log2"
def bound_term(true_mean, true_variance, mean, variance):
    d = (true_mean - mean).square()
    nats = ((true_variance + d) / variance - 1) / 2
    bits = nats / math.log(2) + 0.5 * torch.log2(variance / true_variance)
    return bits.mean(dim=(1, 2, 3))


# %% wrong="08.5" hint="a density is not a probability"
def decoder_bits(x, mean, std):
    nats = 0.5 * ((x - mean) / std) ** 2 + torch.log(std) + 0.5 * math.log(2 * math.pi)
    return nats.flatten(1).mean(1) / math.log(2)


# %% wrong="08.5" hint="the density times the width"
def decoder_bits(x, mean, std):
    nats = 0.5 * ((x - mean) / std) ** 2 + torch.log(std) + 0.5 * math.log(2 * math.pi) - math.log(2 / 255)
    return nats.flatten(1).mean(1) / math.log(2)


# %% wrong="08.5" hint="the outer bins are closed"
def decoder_bits(x, mean, std):
    p = torch.special.ndtr((x + 1 / 255 - mean) / std) - torch.special.ndtr((x - 1 / 255 - mean) / std)
    return -p.log2().flatten(1).mean(1)


# %% wrong="08.5" hint="so 1/255 to each side"
def decoder_bits(x, mean, std):
    above = torch.where(x > 0.999, torch.ones_like(x), torch.special.ndtr((x + 2 / 255 - mean) / std))
    below = torch.where(x < -0.999, torch.zeros_like(x), torch.special.ndtr((x - 2 / 255 - mean) / std))
    return -(above - below).log2().flatten(1).mean(1)


# %% wrong="08.5" hint="this is in nats"
def decoder_bits(x, mean, std):
    above = torch.where(x > 0.999, torch.ones_like(x), torch.special.ndtr((x + 1 / 255 - mean) / std))
    below = torch.where(x < -0.999, torch.zeros_like(x), torch.special.ndtr((x - 1 / 255 - mean) / std))
    return -(above - below).log().flatten(1).mean(1)


# %% wrong="08.5" hint="work with log Phi"
def decoder_bits(x, mean, std):
    above = torch.where(x > 0.999, torch.ones_like(x), torch.special.ndtr((x + 1 / 255 - mean) / std))
    below = torch.where(x < -0.999, torch.zeros_like(x), torch.special.ndtr((x - 1 / 255 - mean) / std))
    return -(above - below).log2().flatten(1).mean(1)


# %% wrong="08.5" hint="clamped from below"
def decoder_bits(x, mean, std):
    above = torch.where(x > 0.999, torch.ones_like(x), torch.special.ndtr((x + 1 / 255 - mean) / std))
    below = torch.where(x < -0.999, torch.zeros_like(x), torch.special.ndtr((x - 1 / 255 - mean) / std))
    return -(above - below).clamp_min(1e-12).log2().flatten(1).mean(1)


# %% wrong="08.5" hint="a cost is positive"
def decoder_bits(x, mean, std):
    above = torch.where(x > 0.999, torch.ones_like(x), torch.special.ndtr((x + 1 / 255 - mean) / std))
    below = torch.where(x < -0.999, torch.zeros_like(x), torch.special.ndtr((x - 1 / 255 - mean) / std))
    return (above - below).log2().flatten(1).mean(1)


# %% wrong="08.5" hint="infinite above it"
def decoder_bits(x, mean, std):
    # right in the lower tail; in the upper one both logarithms are 0
    above = torch.where(x > 0.999, torch.full_like(x, 1e18), (x + 1 / 255 - mean) / std)
    below = torch.where(x < -0.999, torch.full_like(x, -1e18), (x - 1 / 255 - mean) / std)
    upper = torch.special.log_ndtr(above)
    nats = -(upper + torch.log(-torch.expm1(torch.special.log_ndtr(below) - upper)))
    return nats.flatten(1).mean(1) / math.log(2)


# %% wrong="08.5" hint="one number for each image"
def decoder_bits(x, mean, std):
    above = torch.where(x > 0.999, torch.ones_like(x), torch.special.ndtr((x + 1 / 255 - mean) / std))
    below = torch.where(x < -0.999, torch.zeros_like(x), torch.special.ndtr((x - 1 / 255 - mean) / std))
    return -(above - below).log2()


# %% wrong="08.5" hint="the mean over an image's pixels"
def decoder_bits(x, mean, std):
    far = torch.full_like(x, 1e18)
    above = torch.where(x > 1 - 1 / 255, far, (x + 1 / 255 - mean) / std)
    below = torch.where(x < -1 + 1 / 255, -far, (x - 1 / 255 - mean) / std)
    flip = above + below > 0
    above, below = torch.where(flip, -below, above), torch.where(flip, -above, below)
    upper = torch.special.log_ndtr(above)
    nats = -(upper + torch.log(-torch.expm1(torch.special.log_ndtr(below) - upper)))
    return nats.flatten(1).sum(1) / math.log(2)


# %% wrong="08.5" hint="wrong for one of 64"
def decoder_bits(x, mean, std):
    far = torch.full_like(x, 1e18)
    above = torch.where(x > 1 - 1 / 255, far, (x + 1 / 255 - mean) / std)
    below = torch.where(x < -1 + 1 / 255, -far, (x - 1 / 255 - mean) / std)
    flip = above + below > 0
    above, below = torch.where(flip, -below, above), torch.where(flip, -above, below)
    upper = torch.special.log_ndtr(above)
    nats = -(upper + torch.log(-torch.expm1(torch.special.log_ndtr(below) - upper)))
    return nats[:, 0, 0, 0] / math.log(2)


# %% wrong="08.5" hint="the answer calls discretised"
def decoder_bits(x, mean, std):
    return torch.stack(
        [-discretised_log_prob(p[None], m[None], std).mean() for p, m in zip(x, mean, strict=True)]
    ) / math.log(2)


# %% wrong="08.5" hint="the standard deviation already"
def decoder_bits(x, mean, std):
    std = std**2
    far = torch.full_like(x, 1e18)
    above = torch.where(x > 0.999, far, (x + 1 / 255 - mean) / std)
    below = torch.where(x < -0.999, -far, (x - 1 / 255 - mean) / std)
    flip = above + below > 0
    above, below = torch.where(flip, -below, above), torch.where(flip, -above, below)
    upper = torch.special.log_ndtr(above)
    return -(upper + torch.log(-torch.expm1(torch.special.log_ndtr(below) - upper))).flatten(1).mean(1) / math.log(2)


# %% wrong="08.5" hint="do not sum to 1"
def decoder_bits(x, mean, std):
    far = torch.full_like(x, 1e18)
    above = torch.where(x < -0.999, far, (x + 1 / 255 - mean) / std)
    below = torch.where(x > 0.999, -far, (x - 1 / 255 - mean) / std)
    flip = above + below > 0
    above, below = torch.where(flip, -below, above), torch.where(flip, -above, below)
    upper = torch.special.log_ndtr(above)
    return -(upper + torch.log(-torch.expm1(torch.special.log_ndtr(below) - upper))).flatten(1).mean(1) / math.log(2)


# %% wrong="08.5" hint="not accurate below"
def decoder_bits(x, mean, std):
    n = torch.distributions.Normal(mean, std)
    up = torch.where(x > 0.999, torch.ones_like(x), n.cdf(x + 1 / 255))
    lo = torch.where(x < -0.999, torch.zeros_like(x), n.cdf(x - 1 / 255))
    p = up - lo
    lp = torch.where(p > 1e-5, p.clamp_min(1e-12).log(), n.log_prob(x) + math.log(2 / 255))
    return -lp.flatten(1).mean(1) / math.log(2)


# %% right="08.5" name="mirror the picture where it is above the mean"
def decoder_bits(x, mean, std):
    sign = torch.where(x > mean, -1.0, 1.0).to(x)
    gap, top, bottom = sign * (x - mean), sign * x > 0.999, sign * x < -0.999
    above = torch.special.log_ndtr(torch.where(top, torch.full_like(x, 1e15), (gap + 1 / 255) / std))
    below = torch.special.log_ndtr(torch.where(bottom, torch.full_like(x, -1e15), (gap - 1 / 255) / std))
    return -(above + torch.log1p(-torch.exp(below - above))).flatten(1).mean(1) / math.log(2)


# %% right="08.5" name="both sides, and choose"
def decoder_bits(x, mean, std):
    def log_difference(a, b):
        high = torch.special.log_ndtr(a)
        return high + torch.log(-torch.expm1(torch.special.log_ndtr(b) - high))

    far = torch.full_like(x, 1e12)
    a = torch.where(x > 0.999, far, (x + 1 / 255 - mean) / std)
    b = torch.where(x < -0.999, -far, (x - 1 / 255 - mean) / std)
    left, right = log_difference(a, b), log_difference(-b, -a)
    return -torch.where(x < mean, left, right).mean((1, 2, 3)) / math.log(2)


# %% right="08.5" name="log1p exp"
def decoder_bits(x, mean, std):
    lo, hi = (x - 1 / 255 - mean) / std, (x + 1 / 255 - mean) / std
    lo = torch.where(x <= -1 + 1e-6, torch.full_like(lo, -1e20), lo)
    hi = torch.where(x >= 1 - 1e-6, torch.full_like(hi, 1e20), hi)
    swap = lo > -hi
    a = torch.where(swap, -lo, hi)
    b = torch.where(swap, -hi, lo)
    la, lb = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
    logp = la + torch.log1p(-torch.exp(lb - la))
    gap = lb - la
    logp = torch.where(gap > -1e-3, la + torch.log(-torch.expm1(gap)), logp)
    return -(logp / math.log(2)).mean((1, 2, 3))


# %% wrong="08.6" hint="the bound moves the noise"
def hybrid_loss(predicted, share, noise, bound, steps):
    return (predicted - noise).square().mean() + 0.001 * steps * bound(predicted, share).mean()


# %% wrong="08.6" hint="the share learns nothing"
def hybrid_loss(predicted, share, noise, bound, steps):
    return (predicted - noise).square().mean() + 0.001 * steps * bound(predicted.detach(), share.detach()).mean()


# %% wrong="08.6" hint="the noise learns nothing"
def hybrid_loss(predicted, share, noise, bound, steps):
    predicted = predicted.detach()
    return (predicted - noise).square().mean() + 0.001 * steps * bound(predicted, share).mean()


# %% wrong="08.6" hint="a factor T is missing"
def hybrid_loss(predicted, share, noise, bound, steps):
    return (predicted - noise).square().mean() + 0.001 * bound(predicted.detach(), share).mean()


# %% wrong="08.6" hint="the weight 0.001"
def hybrid_loss(predicted, share, noise, bound, steps):
    return (predicted - noise).square().mean() + steps * bound(predicted.detach(), share).mean()


# %% wrong="08.6" hint="averaged over the batch"
def hybrid_loss(predicted, share, noise, bound, steps):
    return (predicted - noise).square().mean() + 0.001 * steps * bound(predicted.detach(), share).sum()


# %% wrong="08.6" hint="L_simple is a mean over components"
def hybrid_loss(predicted, share, noise, bound, steps):
    return (predicted - noise).square().sum() + 0.001 * steps * bound(predicted.detach(), share).mean()


# %% wrong="08.6" hint="the loss is one number"
def hybrid_loss(predicted, share, noise, bound, steps):
    simple = (predicted - noise).square().flatten(1).mean(1)
    return simple + 0.001 * steps * bound(predicted.detach(), share)


# %% wrong="08.6" hint="wrong for T = 40"
def hybrid_loss(predicted, share, noise, bound, steps):
    return (predicted - noise).square().mean() + 0.5 * bound(predicted.detach(), share).mean()


# %% wrong="08.6" hint="no factor 1/2"
def hybrid_loss(predicted, share, noise, bound, steps):
    return 0.5 * (predicted - noise).square().mean() + 0.001 * steps * bound(predicted.detach(), share).mean()


# %% wrong="08.6" hint="the bound is divided by T"
def hybrid_loss(predicted, share, noise, bound, steps):
    return (predicted - noise).square().mean() + 0.001 / steps * bound(predicted.detach(), share).mean()


# %% wrong="08.6" hint="return a tensor, got float"
def hybrid_loss(predicted, share, noise, bound, steps):
    return float((predicted - noise).square().mean() + 0.001 * steps * bound(predicted.detach(), share).mean())


# %% wrong="08.6" hint="a function of the prediction"
def hybrid_loss(predicted, share, noise, bound, steps):
    return (predicted - noise).square().mean() + 0.001 * steps * bound(noise, share).mean()


# %% wrong="08.6" hint="neither its weight nor the number of steps"
def hybrid_loss(predicted, share, noise, bound, steps):
    return (predicted - noise).square().mean() + bound(predicted.detach(), share).mean()


# %% wrong="08.6" hint="as it is"
def hybrid_loss(predicted, share, noise, bound, steps):
    return (predicted - noise).square().mean() + 0.001 * steps * bound(predicted.detach(), (share + 1) / 2).mean()


# %% right="08.6" name="per sample, then the mean"
def hybrid_loss(predicted, share, noise, bound, steps):
    simple = ((predicted - noise) ** 2).flatten(1).mean(1)
    return (simple + steps / 1000 * bound(predicted.detach(), share)).mean()


# %% right="08.6" name="a copy without gradient"
def hybrid_loss(predicted, share, noise, bound, steps):
    with torch.no_grad():
        frozen = predicted.clone()
    terms = bound(frozen, share)
    return torch.nn.functional.mse_loss(predicted, noise) + 1e-3 * steps * terms.sum() / len(terms)


# %% right="08.6" name="the estimate of the sum first"
def hybrid_loss(predicted, share, noise, bound, steps):
    sum_of_terms = steps * torch.mean(bound(predicted.data, share))
    return torch.mean((noise - predicted) ** 2) + sum_of_terms / 1000


# %% right="08.6" name="requires_grad_ copy"
def hybrid_loss(predicted, share, noise, bound, steps):
    frozen = predicted.detach().clone()
    vlb = bound(frozen, share) * steps
    return torch.add(torch.nn.MSELoss()(predicted, noise), vlb.mean(dim=0), alpha=0.001)


# %% wrong="08.7" hint="the mean *square*"
def importance(losses):
    share = losses.mean(1)
    if torch.isnan(share).any():
        share = torch.ones_like(share)
    p = share / share.sum()
    return p, 1 / (len(p) * p)


# %% wrong="08.7" hint="the square root is missing"
def importance(losses):
    share = losses.square().mean(1)
    if torch.isnan(share).any():
        share = torch.ones_like(share)
    p = share / share.sum()
    return p, 1 / (len(p) * p)


# %% wrong="08.7" hint="the probabilities sum to 40"
def importance(losses):
    p = losses.square().mean(1).sqrt()
    return p, 1 / (len(p) * p)


# %% wrong="08.7" hint="the weights are 1 / (T p)"
def importance(losses):
    share = losses.square().mean(1).sqrt()
    p = share / share.sum()
    return p, 1 / p


# %% wrong="08.7" hint="the weights must undo the draw"
def importance(losses):
    share = losses.square().mean(1).sqrt()
    p = share / share.sum()
    return p, torch.ones_like(p)


# %% wrong="08.7" hint="the weights are upside down"
def importance(losses):
    share = losses.square().mean(1).sqrt()
    p = share / share.sum()
    return p, len(p) * p


# %% wrong="08.7" hint="p is NaN where a loss is missing"
def importance(losses):
    share = losses.square().mean(1).sqrt()
    p = share / share.sum()
    return p, 1 / (len(p) * p)


# %% wrong="08.7" hint="p must be uniform"
def importance(losses):
    share = losses.nan_to_num(0.0).square().mean(1).sqrt()
    p = share / share.sum()
    return p, 1 / (len(p) * p)


# %% wrong="08.7" hint="drawn more often, not less"
def importance(losses):
    share = 1 / losses.square().mean(1).sqrt()
    p = share / share.sum()
    return p, 1 / (len(p) * p)


# %% wrong="08.7" hint="look at them all"
def importance(losses):
    share = losses.square().mean(1).sqrt()
    if losses[:, -1].isnan().any():
        share = torch.ones_like(share)
    p = share / share.sum()
    return p, 1 / (len(p) * p)


# %% wrong="08.7" hint="the answer calls LossSecondMoment"
def importance(losses):
    m = LossSecondMoment(len(losses), losses.shape[1], 0.0)
    m.losses.copy_(losses)
    m.counts.fill_(losses.shape[1] if not losses.isnan().any() else 0)
    p = m.probabilities()
    return p, 1 / (len(p) * p)


# %% wrong="08.7" hint="changed in place"
def importance(losses):
    if losses.isnan().any():
        losses.fill_(1.0)
    r = losses.square().mean(1).sqrt()
    p = r / r.sum()
    return p, 1 / (len(p) * p)


# %% wrong="08.7" hint="all of the last H losses"
def importance(losses):
    r = losses[:, -1].abs()
    if losses.isnan().any():
        r = torch.ones_like(r)
    p = r / r.sum()
    return p, 1 / (len(p) * p)


# %% wrong="08.7" hint="one number for each step"
def importance(losses):
    r = losses.square().mean(0).sqrt()
    if losses.isnan().any():
        r = torch.ones_like(r)
    p = r / r.sum()
    return p, 1 / (len(p) * p)


# %% wrong="08.7" hint="is not unbiased"
def importance(losses):
    r = losses.square().mean(1).sqrt()
    if losses.isnan().any():
        r = torch.ones_like(r)
    p = r / r.sum()
    w = 1 / p
    return p, w / w.mean()


# %% wrong="08.7" hint="NaN or infinite, although"
def importance(losses):
    return torch.full((len(losses),), float("nan"), dtype=torch.float64), torch.ones(len(losses), dtype=torch.float64)


# %% right="08.7" name="norms of the rows"
def importance(losses):
    steps = len(losses)
    if losses.isnan().any():
        return torch.full((steps,), 1 / steps).double(), torch.ones(steps).double()
    size = torch.linalg.vector_norm(losses, dim=1)
    p = size / size.sum()
    return p, (steps * p).reciprocal()


# %% right="08.7" name="softmax of logarithms"
def importance(losses):
    steps = len(losses)
    logits = 0.5 * (losses**2).mean(1).log()
    p = torch.softmax(torch.zeros_like(logits) if bool(logits.isnan().any()) else logits, dim=0)
    return p, 1 / steps / p


# %% right="08.7" name="weights first"
def importance(losses):
    root = (losses * losses).mean(dim=-1) ** 0.5
    root = torch.ones_like(root) if not bool(torch.isfinite(losses).all()) else root
    weights = root.mean() / root
    return 1 / (len(root) * weights), weights


# %% right="08.7" name="a list of two"
def importance(losses):
    share = losses.square().mean(1).sqrt()
    p = torch.full_like(share, 1 / len(share)) if losses.isnan().any() else share / share.sum()
    return [p, 1 / (len(p) * p)]


# %% right="08.7" name="vector norm"
def importance(losses):
    count = losses.shape[0]
    rms = torch.linalg.vector_norm(losses, dim=1)
    if bool(rms.isnan().any()):
        return torch.full_like(rms, 1 / count), torch.ones_like(rms)
    return rms / rms.sum(), rms.sum() / rms / count
