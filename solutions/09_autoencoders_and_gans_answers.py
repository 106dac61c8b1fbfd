"""Wrong and right answers to exercise 09, each of which its check must tell apart."""


# %% wrong="09.1" hint="one direction is spent on pointing"
def linear_autoencoder(x, k):
    return torch.zeros(x.shape[1], dtype=x.dtype), torch.linalg.svd(x)[2][:k].T


# %% wrong="09.1" hint="second moment of x"
def linear_autoencoder(x, k):
    return x.mean(0), torch.linalg.eigh(x.T @ x)[1][:, -k:]


# %% wrong="09.1" hint="*worst* directions"
def linear_autoencoder(x, k):
    return x.mean(0), torch.linalg.eigh(torch.cov(x.T))[1][:, :k]


# %% wrong="09.1" hint="are the *rows*"
def linear_autoencoder(x, k):
    return x.mean(0), torch.linalg.svd(x - x.mean(0))[2][:k]


# %% wrong="09.1" hint="but not of length 1"
def linear_autoencoder(x, k):
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    return x.mean(0), (vectors * values.sqrt())[:, -k:]


# %% wrong="09.1" hint="two coordinate axes"
def linear_autoencoder(x, k):
    order = x.var(0).argsort(descending=True)[:k].sort().values
    return x.mean(0), torch.eye(x.shape[1], dtype=x.dtype)[:, order]


# %% wrong="09.1" hint="divided by their standard deviations"
def linear_autoencoder(x, k):
    m = x.mean(0)
    return m, torch.linalg.eigh(torch.corrcoef(x.T))[1][:, -k:]


# %% wrong="09.1" hint="another U reconstructs better"
def linear_autoencoder(x, k):
    m = x.mean(0)
    v = torch.linalg.eigh(torch.cov(x.T))[1]
    return m, v[-k:].T


# %% wrong="09.1" hint="got (4, 3)"
def linear_autoencoder(x, k):
    m = x.mean(0)
    v = torch.linalg.eigh(torch.cov(x.T))[1]
    return m, v[:, -(k + 1) :]


# %% wrong="09.1" hint="changed in place"
def linear_autoencoder(x, k):
    m = x.mean(0)
    x -= m
    return m, torch.linalg.svd(x, full_matrices=False)[2][:k].T


# %% wrong="09.1" hint="m is not the mean"
def linear_autoencoder(x, k):
    m = x.median(0).values
    return m, torch.linalg.svd(x - m, full_matrices=False)[2][:k].T


# %% wrong="09.1" hint="the answer calls pca_lowrank"
def linear_autoencoder(x, k):
    return x.mean(0), torch.pca_lowrank(x, k)[2]


# %% wrong="09.1" hint="for k = 1"
def linear_autoencoder(x, k):
    m = x.mean(0)
    v = torch.linalg.eigh(torch.cov(x.T))[1]
    return m, v[:, -2:]


# %% wrong="09.1" hint="NaN or infinite"
def linear_autoencoder(x, k):
    return x.mean(0) / 0, torch.eye(x.shape[1], dtype=x.dtype)[:, :k]


# %% right="09.1" name="svd"
def linear_autoencoder(x, k):
    mean = x.mean(0)
    return mean, torch.linalg.svd(x - mean, full_matrices=False).Vh[:k].mT


# %% right="09.1" name="eigh of the scatter matrix, signs flipped"
def linear_autoencoder(x, k):
    m = x.sum(0) / len(x)
    _, v = torch.linalg.eigh((x - m).T @ (x - m))
    return m, -v.flip(1)[:, :k]


# %% right="09.1" name="left singular vectors, in a list"
def linear_autoencoder(x, k):
    mean = x.mean(dim=0)
    u, _, _ = torch.linalg.svd((x - mean).T, full_matrices=False)
    return [mean, u[:, :k]]


# %% right="09.1" name="eig of gram"
def linear_autoencoder(x, k):
    m = x.mean(0)
    d = x - m
    value, vector = torch.linalg.eigh(d.T.matmul(d))
    best = torch.topk(value, k).indices
    return m, torch.index_select(vector, 1, best)


# %% wrong="09.2" hint="the sign is wrong"
def score_from_denoiser(denoiser, x, std):
    return (x - denoiser(x)) / std**2


# %% wrong="09.2" hint="where Tweedie's formula has the variance"
def score_from_denoiser(denoiser, x, std):
    return (denoiser(x) - x) / std


# %% wrong="09.2" hint="how far the denoiser moves x"
def score_from_denoiser(denoiser, x, std):
    return denoiser(x) - x


# %% wrong="09.2" hint="x was not taken off"
def score_from_denoiser(denoiser, x, std):
    return denoiser(x) / std**2


# %% wrong="09.2" hint="the repaired point itself"
def score_from_denoiser(denoiser, x, std):
    return denoiser(x)


# %% wrong="09.2" hint="the answer calls GaussianPath.convert"
def score_from_denoiser(denoiser, x, std):
    from flowlib import GaussianPath, Linear

    t = 1 / (1 + std)
    return t * GaussianPath(Linear()).convert(denoiser(x), t * x, t, "data", "score")


# %% wrong="09.2" hint="the answer calls denoiser_score"
def score_from_denoiser(denoiser, x, std):
    return denoiser_score(denoiser, x, std)


# %% wrong="09.2" hint="divided by 2 sigma^2"
def score_from_denoiser(denoiser, x, std):
    return (denoiser(x) - x) / (2 * std**2)


# %% wrong="09.2" hint="multiplied by the variance"
def score_from_denoiser(denoiser, x, std):
    return (denoiser(x) - x) * std**2


# %% wrong="09.2" hint="solve for it"
def score_from_denoiser(denoiser, x, std):
    return -x / std**2


# %% wrong="09.2" hint="changed in place"
def score_from_denoiser(denoiser, x, std):
    r = denoiser(x)
    x.sub_(r)
    return -x / std**2


# %% wrong="09.2" hint="got torch.float32"
def score_from_denoiser(denoiser, x, std):
    return ((denoiser(x) - x) / std**2).float()


# %% right="09.2" name="through the noise"
def score_from_denoiser(denoiser, x, std):
    eps = (x - denoiser(x)) / std
    return -eps / std


# %% right="09.2" name="a loop over samples"
def score_from_denoiser(denoiser, x, std):
    return torch.stack([(denoiser(row[None])[0] - row) / (std * std) for row in x])


# %% right="09.2" name="variance first"
def score_from_denoiser(denoiser, x, std):
    precision = std**-2
    return precision * denoiser(x) - precision * x


# %% right="09.2" name="in two divisions"
def score_from_denoiser(denoiser, x, std):
    step = denoiser(x).sub(x)
    return step.div(std).div(std)


# %% wrong="09.3" hint="KL term is *added*"
def elbo(x, mean, log_variance, decode, std, noise):
    z = mean + torch.exp(log_variance / 2) * noise
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    return torch.distributions.Normal(decode(z), std).log_prob(x).sum(1) + kl


# %% wrong="09.3" hint="this is -ELBO"
def elbo(x, mean, log_variance, decode, std, noise):
    z = mean + torch.exp(log_variance / 2) * noise
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    return kl - torch.distributions.Normal(decode(z), std).log_prob(x).sum(1)


# %% wrong="09.3" hint="the constant of the Gaussian decoder is missing"
def elbo(x, mean, log_variance, decode, std, noise):
    z = mean + torch.exp(log_variance / 2) * noise
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    return -(x - decode(z)).square().sum(1) / (2 * std**2) - kl


# %% wrong="09.3" hint="scaled by the variance"
def elbo(x, mean, log_variance, decode, std, noise):
    z = mean + torch.exp(log_variance) * noise
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    return torch.distributions.Normal(decode(z), std).log_prob(x).sum(1) - kl


# %% wrong="09.3" hint="twice too large"
def elbo(x, mean, log_variance, decode, std, noise):
    z = mean + torch.exp(log_variance / 2) * noise
    kl = (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    return torch.distributions.Normal(decode(z), std).log_prob(x).sum(1) - kl


# %% wrong="09.3" hint="means over the components"
def elbo(x, mean, log_variance, decode, std, noise):
    z = mean + torch.exp(log_variance / 2) * noise
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean(1)
    return torch.distributions.Normal(decode(z), std).log_prob(x).mean(1) - kl


# %% wrong="09.3" hint="not by 2 sigma^2"
def elbo(x, mean, log_variance, decode, std, noise):
    z = mean + torch.exp(log_variance / 2) * noise
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    constant = x.shape[1] * math.log(std * math.sqrt(2 * math.pi))
    return -(x - decode(z)).square().sum(1) / std**2 - constant - kl


# %% wrong="09.3" hint="one number for each sample"
def elbo(x, mean, log_variance, decode, std, noise):
    z = mean + torch.exp(log_variance / 2) * noise
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
    return torch.distributions.Normal(decode(z), std).log_prob(x).sum() - kl


# %% wrong="09.3" hint="each of the D components has its own"
def elbo(x, mean, log_variance, decode, std, noise):
    z = mean + torch.exp(log_variance / 2) * noise
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    return -(x - decode(z)).square().sum(1) / (2 * std**2) - math.log(std * math.sqrt(2 * math.pi)) - kl


# %% wrong="09.3" hint="estimated from the draw"
def elbo(x, mean, log_variance, decode, std, noise):
    z = mean + torch.exp(log_variance / 2) * noise
    q = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    p = torch.distributions.Normal(torch.zeros_like(mean), 1.0)
    fit = torch.distributions.Normal(decode(z), std).log_prob(x).sum(1)
    return fit + (p.log_prob(z) - q.log_prob(z)).sum(1)


# %% wrong="09.3" hint="one by one"
def elbo(x, mean, log_variance, decode, std, noise):
    z = mean + torch.exp(2 * log_variance) * noise
    d = ((x - decode(z)) ** 2).sum(1) / (2 * std**2)
    return (
        -d
        - x.shape[1] * math.log(std * (2 * math.pi) ** 0.5)
        - 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    )


# %% wrong="09.3" hint="two equal calls differ"
def elbo(x, mean, log_variance, decode, std, noise):
    z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
    d = ((x - decode(z)) ** 2).sum(1) / (2 * std**2)
    return (
        -d
        - x.shape[1] * math.log(std * (2 * math.pi) ** 0.5)
        - 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    )


# %% wrong="09.3" hint="the noise has no effect"
def elbo(x, mean, log_variance, decode, std, noise):
    d = ((x - decode(mean)) ** 2).sum(1) / (2 * std**2)
    return (
        -d
        - x.shape[1] * math.log(std * (2 * math.pi) ** 0.5)
        - 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    )


# %% wrong="09.3" hint="is something detached"
def elbo(x, mean, log_variance, decode, std, noise):
    z = mean.detach() + torch.exp(log_variance / 2).detach() * noise
    d = ((x - decode(z)) ** 2).sum(1) / (2 * std**2)
    return (
        -d
        - x.shape[1] * math.log(std * (2 * math.pi) ** 0.5)
        - 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    )


# %% wrong="09.3" hint="log v has the wrong sign"
def elbo(x, mean, log_variance, decode, std, noise):
    z = mean + torch.exp(log_variance / 2) * noise
    d = ((x - decode(z)) ** 2).sum(1) / (2 * std**2)
    return (
        -d
        - x.shape[1] * math.log(std * (2 * math.pi) ** 0.5)
        - 0.5 * (mean**2 + log_variance.exp() - 1 + log_variance).sum(1)
    )


# %% wrong="09.3" hint="not the K of z"
def elbo(x, mean, log_variance, decode, std, noise):
    z = mean + torch.exp(log_variance / 2) * noise
    d = ((x - decode(z)) ** 2).sum(1) / (2 * std**2)
    return (
        -d
        - mean.shape[1] * math.log(std * (2 * math.pi) ** 0.5)
        - 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    )


# %% wrong="09.3" hint="nats are asked for"
def elbo(x, mean, log_variance, decode, std, noise):
    z = mean + torch.exp(log_variance / 2) * noise
    d = ((x - decode(z)) ** 2).sum(1) / (2 * std**2)
    e = (
        -d
        - x.shape[1] * math.log(std * (2 * math.pi) ** 0.5)
        - 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    )
    return e / math.log(2)


# %% wrong="09.3" hint="the answer calls kl_to_normal"
def elbo(x, mean, log_variance, decode, std, noise):
    z = mean + torch.exp(log_variance / 2) * noise
    return torch.distributions.Normal(decode(z), std).log_prob(x).sum(1) - kl_to_normal(mean, log_variance)


# %% wrong="09.3" hint="the mean is missing"
def elbo(
    x: Tensor, mean: Tensor, log_variance: Tensor, decode: Callable[[Tensor], Tensor], std: float, noise: Tensor
) -> Tensor:
    z = mean + torch.exp(log_variance / 2) * noise
    square = (x - decode(z)).square().sum(1)
    log_likelihood = -square / (2 * std**2) - x.shape[1] * math.log(std * math.sqrt(2 * math.pi))
    divergence = 0.5 * (log_variance.exp() - 1 - log_variance).sum(1)
    return log_likelihood - divergence


# %% wrong="09.3" hint="halved twice"
def elbo(
    x: Tensor, mean: Tensor, log_variance: Tensor, decode: Callable[[Tensor], Tensor], std: float, noise: Tensor
) -> Tensor:
    z = mean + torch.exp(log_variance / 2) * noise
    square = (x - decode(z)).square().sum(1)
    log_likelihood = -square / (2 * std**2) - x.shape[1] * math.log(std * math.sqrt(2 * math.pi))
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    return log_likelihood - 0.5 * divergence


# %% right="09.3" name="torch.distributions"
def elbo(x, mean, log_variance, decode, std, noise):
    q = torch.distributions.Normal(mean, log_variance.mul(0.5).exp())
    p = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    fit = torch.distributions.Normal(decode(q.loc + q.scale * noise), std).log_prob(x)
    return fit.sum(dim=1) - torch.distributions.kl_divergence(q, p).sum(dim=1)


# %% right="09.3" name="by components"
def elbo(x, mean, log_variance, decode, std, noise):
    out = decode(mean + log_variance.exp().sqrt() * noise)
    total = torch.zeros(len(x), dtype=x.dtype)
    for i in range(x.shape[1]):
        total = total - 0.5 * ((x[:, i] - out[:, i]) / std) ** 2 - 0.5 * math.log(2 * math.pi * std**2)
    for i in range(mean.shape[1]):
        m, v = mean[:, i], log_variance[:, i].exp()
        total = total - 0.5 * (m * m + v - v.log() - 1)
    return total


# %% right="09.3" name="gaussian_nll_loss"
def elbo(x, mean, log_variance, decode, std, noise):
    out = decode(mean + torch.exp(0.5 * log_variance) * noise)
    nll = F.gaussian_nll_loss(out, x, torch.full_like(x, std**2), full=True, reduction="none").sum(1)
    return -nll + 0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp(), dim=1)


# %% right="09.3" name="MultivariateNormal"
def elbo(x, mean, log_variance, decode, std, noise):
    from torch.distributions import Independent, Normal, kl_divergence

    q = Independent(Normal(mean, torch.exp(log_variance / 2)), 1)
    p = Independent(Normal(torch.zeros_like(mean), 1.0), 1)
    z = mean + torch.exp(log_variance / 2) * noise
    return Independent(Normal(decode(z), std), 1).log_prob(x) - kl_divergence(q, p)


# %% wrong="09.4" hint="a negative rate"
def rate_distortion(eigenvalues, std, beta):
    level = beta * std**2
    return 0.5 * torch.log(eigenvalues / level), eigenvalues.clamp(max=level)


# %% wrong="09.4" hint="a 1/2 is lost"
def rate_distortion(eigenvalues, std, beta):
    level = beta * std**2
    return torch.log(eigenvalues / level).clamp(min=0), eigenvalues.clamp(max=level)


# %% wrong="09.4" hint="these are bits"
def rate_distortion(eigenvalues, std, beta):
    level = beta * std**2
    return 0.5 * torch.log2(eigenvalues / level).clamp(min=0), eigenvalues.clamp(max=level)


# %% wrong="09.4" hint="beta times the rate"
def rate_distortion(eigenvalues, std, beta):
    level = beta * std**2
    return beta * 0.5 * torch.log(eigenvalues / level).clamp(min=0), eigenvalues.clamp(max=level)


# %% wrong="09.4" hint="the rate of beta = 1"
def rate_distortion(eigenvalues, std, beta):
    return 0.5 * torch.log(eigenvalues / std**2).clamp(min=0), eigenvalues.clamp(max=std**2)


# %% wrong="09.4" hint="the distortions do not"
def rate_distortion(eigenvalues, std, beta):
    return 0.5 * torch.log(eigenvalues / (beta * std**2)).clamp(min=0), eigenvalues.clamp(max=std**2)


# %% wrong="09.4" hint="the wrong way round"
def rate_distortion(eigenvalues, std, beta):
    level = std**2 / beta
    return 0.5 * torch.log(eigenvalues / level).clamp(min=0), eigenvalues.clamp(max=level)


# %% wrong="09.4" hint="beta is squared"
def rate_distortion(eigenvalues, std, beta):
    level = (beta * std) ** 2
    return 0.5 * torch.log(eigenvalues / level).clamp(min=0), eigenvalues.clamp(max=level)


# %% wrong="09.4" hint="a rate that is not worth it"
def rate_distortion(eigenvalues, std, beta):
    level = beta * std**2
    return 0.5 * torch.log1p(eigenvalues / level), eigenvalues.clamp(max=level)


# %% wrong="09.4" hint="compared with sigma, where they are variances"
def rate_distortion(eigenvalues, std, beta):
    level = beta * std
    return 0.5 * torch.log(eigenvalues / level).clamp(min=0), eigenvalues.clamp(max=level)


# %% wrong="09.4" hint="not finite for an eigenvalue of 0"
def rate_distortion(eigenvalues, std, beta):
    level = beta * std**2
    w = torch.relu(eigenvalues - level).sqrt()
    v = torch.where(w > 0, level / eigenvalues, 1.0)
    gain = w / eigenvalues
    rate = 0.5 * (gain**2 * eigenvalues + v - 1 - v.log())
    return rate, (1 - w * gain) ** 2 * eigenvalues + w**2 * v


# %% wrong="09.4" hint="reconstructed by its mean: its error is its variance"
def rate_distortion(eigenvalues, std, beta):
    level = beta * std**2
    return 0.5 * torch.log(eigenvalues / level).clamp(min=0), torch.full_like(eigenvalues, level)


# %% wrong="09.4" hint="decoding the *mean* of q"
def rate_distortion(eigenvalues, std, beta):
    level = beta * std**2
    bias = torch.where(eigenvalues > level, level**2 / eigenvalues, eigenvalues)
    return 0.5 * torch.log(eigenvalues / level).clamp(min=0), bias


# %% wrong="09.4" hint="not free of error"
def rate_distortion(eigenvalues, std, beta):
    level = beta * std**2
    error = torch.where(eigenvalues > level, 0.0, eigenvalues)
    return 0.5 * torch.log(eigenvalues / level).clamp(min=0), error


# %% wrong="09.4" hint="find the ELBO that it becomes"
def rate_distortion(eigenvalues, std, beta):
    level = 2 * beta * std**2
    return 0.5 * torch.log(eigenvalues / level).clamp(min=0), eigenvalues.clamp(max=level)


# %% wrong="09.4" hint="are exchanged"
def rate_distortion(eigenvalues, std, beta):
    level = beta * std**2
    return eigenvalues.clamp(max=level), 0.5 * torch.log(eigenvalues / level).clamp(min=0)


# %% wrong="09.4" hint="the rates must have shape"
def rate_distortion(eigenvalues, std, beta):
    level = beta * std**2
    return 0.5 * torch.log(eigenvalues / level).clamp(min=0).sum(), eigenvalues.clamp(max=level).sum()


# %% wrong="09.4" hint="add the squared bias"
def rate_distortion(eigenvalues, std, beta):
    level = beta * std**2
    return 0.5 * torch.log(eigenvalues / level).clamp(min=0), (eigenvalues - level).clamp(min=0)


# %% wrong="09.4" hint="changed in place"
def rate_distortion(eigenvalues, std, beta):
    level = beta * std**2
    rate = 0.5 * torch.log(eigenvalues / level).clamp(min=0)
    return rate, eigenvalues.clamp_(max=level)


# %% right="09.4" name="from the moments"
def rate_distortion(eigenvalues, std, beta):
    level = beta * std**2
    w = torch.relu(eigenvalues - level).sqrt()
    total = w**2 + level
    m2, v = w**2 * eigenvalues / total**2, level / total
    rate = 0.5 * (m2 + v - 1 - torch.log(v))
    return rate, (1 - w**2 / total) ** 2 * eigenvalues + w**2 * v


# %% right="09.4" name="where"
def rate_distortion(eigenvalues, std, beta):
    noise = torch.full_like(eigenvalues, beta * std**2)
    alive = eigenvalues > noise
    rate = torch.where(alive, 0.5 * (eigenvalues.log() - noise.log()), torch.zeros_like(noise))
    return rate, torch.where(alive, noise, eigenvalues)


# %% right="09.4" name="a loop"
def rate_distortion(eigenvalues, std, beta):
    rates, errors = [], []
    for value in eigenvalues.tolist():
        level = beta * std * std
        rates.append(0.5 * math.log(value / level) if value > level else 0.0)
        errors.append(min(value, level))
    return [torch.tensor(rates).double(), torch.tensor(errors, dtype=torch.float64)]


# %% right="09.4" name="maximum"
def rate_distortion(eigenvalues, std, beta):
    level = torch.tensor(beta * std * std, dtype=eigenvalues.dtype)
    kept = torch.maximum(eigenvalues, level)
    return torch.log(torch.sqrt(kept / level)), torch.minimum(eigenvalues, level)


# %% wrong="09.5" hint="this is the relaxed draw"
def straight_through(logits, uniform, temperature):
    return torch.softmax((logits - torch.log(-torch.log(uniform))) / temperature, dim=1)


# %% wrong="09.5" hint="-log U is exponential"
def straight_through(logits, uniform, temperature):
    soft = torch.softmax((logits - torch.log(uniform)) / temperature, dim=1)
    hard = torch.zeros_like(soft).scatter(1, soft.argmax(1, keepdim=True), 1.0)
    return hard + soft - soft.detach()


# %% wrong="09.5" hint="the sign of the noise is wrong"
def straight_through(logits, uniform, temperature):
    soft = torch.softmax((logits + torch.log(-torch.log(uniform))) / temperature, dim=1)
    hard = torch.zeros_like(soft).scatter(1, soft.argmax(1, keepdim=True), 1.0)
    return hard + soft - soft.detach()


# %% wrong="09.5" hint="only the logits are divided"
def straight_through(logits, uniform, temperature):
    soft = torch.softmax(logits / temperature - torch.log(-torch.log(uniform)), dim=1)
    hard = torch.zeros_like(soft).scatter(1, soft.argmax(1, keepdim=True), 1.0)
    return hard + soft - soft.detach()


# %% wrong="09.5" hint="no gradient at all"
def straight_through(logits, uniform, temperature):
    soft = torch.softmax((logits - torch.log(-torch.log(uniform))) / temperature, dim=1)
    return torch.zeros_like(soft).scatter(1, soft.argmax(1, keepdim=True), 1.0)


# %% wrong="09.5" hint="the gradient is 0"
def straight_through(logits, uniform, temperature):
    soft = torch.softmax((logits - torch.log(-torch.log(uniform))) / temperature, dim=1)
    hard = torch.zeros_like(soft).scatter(1, soft.argmax(1, keepdim=True), 1.0)
    return hard + soft - soft


# %% wrong="09.5" hint="the *subtracted* copy must be the detached"
def straight_through(logits, uniform, temperature):
    soft = torch.softmax((logits - torch.log(-torch.log(uniform))) / temperature, dim=1)
    hard = torch.zeros_like(soft).scatter(1, soft.argmax(1, keepdim=True), 1.0)
    return hard - soft + soft.detach()


# %% wrong="09.5" hint="not along the last"
def straight_through(logits, uniform, temperature):
    soft = torch.softmax((logits - torch.log(-torch.log(uniform))) / temperature, dim=-1)
    hard = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
    return hard + soft - soft.detach()


# %% wrong="09.5" hint="the Gumbel noise is missing"
def straight_through(logits, uniform, temperature):
    soft = torch.softmax(logits / temperature, dim=1)
    hard = torch.zeros_like(soft).scatter(1, soft.argmax(1, keepdim=True), 1.0)
    return hard + soft - soft.detach()


# %% wrong="09.5" hint="along which axis is the softmax taken"
def straight_through(logits, uniform, temperature):
    noised = logits - torch.log(-torch.log(uniform))
    soft = torch.softmax(noised / temperature, dim=-1)
    hard = torch.zeros_like(soft).scatter(1, noised.argmax(1, keepdim=True), 1.0)
    return hard + soft - soft.detach()


# %% wrong="09.5" hint="the answer calls gumbel_softmax"
def straight_through(logits, uniform, temperature):
    return gumbel_softmax(logits, temperature, hard=True, noise=-torch.log(-torch.log(uniform)))


# %% wrong="09.5" hint="two equal calls differ"
def straight_through(logits, uniform, temperature):
    g = -torch.log(-torch.log(torch.rand_like(logits)))
    s = ((logits + g) / temperature).softmax(1)
    h = F.one_hot(s.argmax(1), s.shape[1]).movedim(-1, 1)
    return h + s - s.detach()


# %% wrong="09.5" hint="multiplied by the temperature"
def straight_through(logits, uniform, temperature):
    g = -torch.log(-torch.log(uniform))
    s = ((logits + g) * temperature).softmax(1)
    h = F.one_hot(s.argmax(1), s.shape[1]).movedim(-1, 1)
    return h + s - s.detach()


# %% wrong="09.5" hint="handed on as it comes"
def straight_through(logits, uniform, temperature):
    g = -torch.log(-torch.log(uniform))
    s = ((logits + g) / temperature).softmax(1)
    h = F.one_hot(s.argmax(1), s.shape[1]).movedim(-1, 1)
    return h + logits - logits.detach()


# %% wrong="09.5" hint="that of the temperature 1"
def straight_through(logits, uniform, temperature):
    g = -torch.log(-torch.log(uniform))
    s = (logits + g).softmax(1)
    h = F.one_hot(s.argmax(1), s.shape[1]).movedim(-1, 1)
    return h + s - s.detach()


# %% wrong="09.5" hint="were added as they are"
def straight_through(logits, uniform, temperature):
    s = ((logits + uniform) / temperature).softmax(1)
    h = F.one_hot(s.argmax(1), s.shape[1]).movedim(-1, 1)
    return h + s - s.detach()


# %% wrong="09.5" hint="is there in value too"
def straight_through(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    soft = torch.softmax((logits - torch.log(-torch.log(uniform))) / temperature, dim=1)
    hard = torch.zeros_like(soft).scatter(1, soft.argmax(1, keepdim=True), 1.0)
    return hard + soft


# %% wrong="09.5" hint="made of 1 - U"
def straight_through(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    soft = torch.softmax((logits - torch.log(-torch.log(1 - uniform))) / temperature, dim=1)
    hard = torch.zeros_like(soft).scatter(1, soft.argmax(1, keepdim=True), 1.0)
    return hard + soft - soft.detach()


# %% right="09.5" name="one_hot"
def straight_through(logits, uniform, temperature):
    g = -torch.log(-torch.log(uniform))
    s = ((logits + g) / temperature).softmax(dim=1)
    hard = F.one_hot(s.argmax(dim=1), s.shape[1]).movedim(-1, 1)
    return (hard - s).detach() + s


# %% right="09.5" name="an autograd function"
class Corner(torch.autograd.Function):
    @staticmethod
    def forward(ctx, soft):
        return (soft == soft.amax(1, keepdim=True)).to(soft.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def straight_through(logits, uniform, temperature):
    return Corner.apply(F.softmax((logits - (-uniform.log()).log()) / temperature, dim=1))


# %% right="09.5" name="exponential race"
def straight_through(logits, uniform, temperature):
    arrival = -uniform.log() / logits.exp()  # the first to arrive wins
    soft = torch.softmax(-arrival.log() / temperature, dim=1)
    hard = torch.zeros_like(soft)
    hard.scatter_(1, arrival.argmin(1, keepdim=True), 1.0)
    return hard + soft - soft.detach()


# %% right="09.5" name="where largest"
def straight_through(logits, uniform, temperature):
    e = torch.log(-torch.log(uniform))
    s = torch.exp(torch.log_softmax((logits - e) / temperature, dim=1))
    with torch.no_grad():
        top = s.max(dim=1, keepdim=True).indices
        delta = torch.arange(s.shape[1]).reshape(-1, *[1] * (s.ndim - 2)) == top
        delta = delta.to(s.dtype) - s
    return s + delta


# %% wrong="09.6" hint="this generator's loss saturates"
def gan_losses(real, fake):
    return F.softplus(-real).mean() + F.softplus(fake).mean(), -F.softplus(fake).mean()


# %% wrong="09.6" hint="discriminator's loss has the wrong sign"
def gan_losses(real, fake):
    return F.logsigmoid(real).mean() + F.logsigmoid(-fake).mean(), F.softplus(-fake).mean()


# %% wrong="09.6" hint="rewarded for being caught"
def gan_losses(real, fake):
    return F.softplus(-real).mean() + F.softplus(fake).mean(), F.softplus(fake).mean()


# %% wrong="09.6" hint="not finite for large logits"
def gan_losses(real, fake):
    return -real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean(), -fake.sigmoid().log().mean()


# %% wrong="09.6" hint="a loss is cut off"
def gan_losses(real, fake):
    judge = -(real.sigmoid() + 1e-12).log().mean() - (1 - fake.sigmoid() + 1e-12).log().mean()
    return judge, -(fake.sigmoid() + 1e-12).log().mean()


# %% wrong="09.6" hint="data and samples are exchanged"
def gan_losses(real, fake):
    return F.softplus(real).mean() + F.softplus(-fake).mean(), F.softplus(-fake).mean()


# %% wrong="09.6" hint="is halved"
def gan_losses(real, fake):
    return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2, F.softplus(-fake).mean()


# %% wrong="09.6" hint="sums over samples"
def gan_losses(real, fake):
    return F.softplus(-real).sum() + F.softplus(fake).sum(), F.softplus(-fake).sum()


# %% wrong="09.6" hint="the generator's loss is cut off"
def gan_losses(real, fake):
    judge = F.softplus(-real).mean() + F.softplus(fake).mean()
    return judge, -fake.sigmoid().clamp(min=1e-12).log().mean()


# %% wrong="09.6" hint="the answer calls discriminator_loss"
def gan_losses(real, fake):
    return discriminator_loss(real, fake), generator_loss(fake)


# %% wrong="09.6" hint="one mean over all 50"
def gan_losses(real, fake):
    d = torch.cat([F.softplus(-real), F.softplus(fake)]).mean()
    return d, F.softplus(-fake).mean()


# %% wrong="09.6" hint="the generator's loss has no gradient"
def gan_losses(real, fake):
    return F.softplus(-real).mean() + F.softplus(fake).mean(), F.softplus(-fake.detach()).mean()


# %% wrong="09.6" hint="the discriminator's loss is wrong"
def gan_losses(real, fake):
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean(), -fake.mean()


# %% wrong="09.6" hint="the two losses are exchanged"
def gan_losses(real, fake):
    return F.softplus(-fake).mean(), F.softplus(-real).mean() + F.softplus(fake).mean()


# %% wrong="09.6" hint="sees the samples alone"
def gan_losses(real, fake):
    return F.softplus(fake).mean(), F.softplus(-fake).mean()


# %% wrong="09.6" hint="second term has the wrong sign"
def gan_losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    return F.softplus(-real).mean() - F.softplus(fake).mean(), F.softplus(-fake).mean()


# %% wrong="09.6" hint="from the discriminator's loss"
def gan_losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    return F.softplus(-real.detach()).mean() + F.softplus(fake).mean(), F.softplus(-fake).mean()


# %% right="09.6" name="binary cross-entropy"
def gan_losses(real, fake):
    bce = F.binary_cross_entropy_with_logits
    judge = bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))
    return judge, bce(fake, torch.ones_like(fake))


# %% right="09.6" name="logsigmoid"
def gan_losses(real, fake):
    return -(F.logsigmoid(real).mean() + F.logsigmoid(-fake).mean()), -F.logsigmoid(fake).mean()


# %% right="09.6" name="logaddexp"
def gan_losses(real, fake):
    zero = torch.zeros((), dtype=real.dtype)
    judge = torch.logaddexp(zero, -real).mean() + torch.logaddexp(zero, fake).mean()
    return judge, torch.logaddexp(zero, -fake).mean()


# %% right="09.6" name="relu plus log1p"
def gan_losses(real, fake):
    def cost(a):
        return (F.relu(a) + torch.log1p(torch.exp(-a.abs()))).mean()

    return cost(-real) + cost(fake), cost(-fake)


# %% right="09.6" name="both from one softplus"
def gan_losses(real, fake):
    caught = F.softplus(fake)
    return F.softplus(-real).mean() + caught.mean(), (caught - fake).mean()
