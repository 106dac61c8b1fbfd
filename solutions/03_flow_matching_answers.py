"""Wrong and right answers to exercise 03, each of which its check must tell apart."""


# %% wrong="03.1" hint="was given the data z"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    return (net(z, t) - (z - noise)).square().mean()


# %% wrong="03.1" hint="the noise is uniform, rand"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator)
    noise = torch.rand(z.shape, generator=generator)
    x = t[:, None] * z + (1 - t[:, None]) * noise
    return (net(x, t) - (z - noise)).square().mean()


# %% wrong="03.1" hint="stretched along the width"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    x = t * z + (1 - t) * noise
    return (net(x, t) - (z - noise)).square().mean()


# %% wrong="03.1" hint="have the same time"
def cfm_loss(net, z, generator):
    t = torch.rand(1, generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    x = t * z + (1 - t) * noise
    return (net(x, t.expand(len(z))) - (z - noise)).square().mean()


# %% wrong="03.1" hint="the network takes t of shape"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), 1, generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    x = t * z + (1 - t) * noise
    return (net(x, t) - (z - noise)).square().mean()


# %% wrong="03.1" hint="not the noise of x_t"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator)
    s = t[:, None]
    x = s * z + (1 - s) * torch.randn(z.shape, generator=generator)
    return (net(x, t) - (z - torch.randn(z.shape, generator=generator))).square().mean()


# %% wrong="03.1" hint="signal and noise level are exchanged"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    x = (1 - t[:, None]) * z + t[:, None] * noise
    return (net(x, t) - (z - noise)).square().mean()


# %% wrong="03.1" hint="the sign of the target"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    x = t[:, None] * z + (1 - t[:, None]) * noise
    return (net(x, t) - (noise - z)).square().mean()


# %% wrong="03.1" hint="the target is the data"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    x = t[:, None] * z + (1 - t[:, None]) * noise
    return (net(x, t) - z).square().mean()


# %% wrong="03.1" hint="the way that is left at t"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    x = t[:, None] * z + (1 - t[:, None]) * noise
    return (net(x, t) - (z - x)).square().mean()


# %% wrong="03.1" hint="should not grow with the dimension"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    x = t[:, None] * z + (1 - t[:, None]) * noise
    return (net(x, t) - (z - noise)).square().sum(1).mean()


# %% wrong="03.1" hint="should not grow with the batch"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    x = t[:, None] * z + (1 - t[:, None]) * noise
    return ((net(x, t) - (z - noise)) ** 2).sum()


# %% wrong="03.1" hint="return one number for the batch"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    x = t[:, None] * z + (1 - t[:, None]) * noise
    return (net(x, t) - (z - noise)).square().mean(0)


# %% wrong="03.1" hint="have the same noise: it needs the shape of z"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator)
    noise = torch.randn(len(z), 1, generator=generator).expand_as(z)
    x = t[:, None] * z + (1 - t[:, None]) * noise
    return (net(x, t) - (z - noise)).square().mean()


# %% wrong="03.1" hint="must both be drawn from it"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator)
    noise = torch.randn_like(z)
    x = t[:, None] * z + (1 - t[:, None]) * noise
    return (net(x, t) - (z - noise)).square().mean()


# %% wrong="03.1" hint="no gradient reaches the network"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    x = t[:, None] * z + (1 - t[:, None]) * noise
    return (net(x, t).detach() - (z - noise)).square().mean()


# %% wrong="03.1" hint="there are negative ones"
def cfm_loss(net, z, generator):
    t = torch.randn(len(z), generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    x = t[:, None] * z + (1 - t[:, None]) * noise
    return (net(x, t) - (z - noise)).square().mean()


# %% wrong="03.1" hint="their mean is not 1/2"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator) ** 2
    noise = torch.randn(z.shape, generator=generator)
    x = t[:, None] * z + (1 - t[:, None]) * noise
    return (net(x, t) - (z - noise)).square().mean()


# %% wrong="03.1" hint="absolute values find medians"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    x = t[:, None] * z + (1 - t[:, None]) * noise
    return (net(x, t) - (z - noise)).abs().mean()


# %% wrong="03.1" hint="the answer calls"
def cfm_loss(net, z, generator):
    class Wrapped(nn.Module):
        def forward(self, x, t, y=None):
            return net(x, t)

    return flow_matching_loss(Model(Wrapped()), z, generator=generator)


# %% wrong="03.1" hint="stratified times need a random order"
def cfm_loss(net, z, generator):
    B = len(z)
    t = ((torch.arange(B) + torch.rand(B, generator=generator)) / B).to(z)
    eps = torch.randn(z.shape, generator=generator, dtype=z.dtype)
    x = t[:, None] * z + (1 - t[:, None]) * eps
    return (net(x, t) - (z - eps)).square().mean()


# %% wrong="03.1" hint="another seed gave the same loss"
def cfm_loss(net, z, generator):
    g = torch.Generator().manual_seed(0)
    t = torch.rand(len(z), generator=g, dtype=z.dtype)
    eps = torch.randn(z.shape, generator=g, dtype=z.dtype)
    x = t[:, None] * z + (1 - t[:, None]) * eps
    return (net(x, t) - (z - eps)).square().mean()


# %% wrong="03.1" hint="this is not the mean of"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator, dtype=z.dtype)
    eps = torch.randn(z.shape, generator=generator, dtype=z.dtype)
    x = t[:, None] * z + (1 - t[:, None]) * eps
    return nn.functional.smooth_l1_loss(net(x, t), z - eps)


# %% wrong="03.1" hint="half of the mean square"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator, dtype=z.dtype)
    eps = torch.randn(z.shape, generator=generator, dtype=z.dtype)
    x = t[:, None] * z + (1 - t[:, None]) * eps
    return 0.5 * (net(x, t) - (z - eps)).square().mean()


# %% wrong="03.1" hint="the loss weighs some times more"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator, dtype=z.dtype)
    eps = torch.randn(z.shape, generator=generator, dtype=z.dtype)
    s = t[:, None]
    x = s * z + (1 - s) * eps
    return ((1 - s) * (net(x, t) - (z - eps)).square()).mean()


# %% wrong="03.1" hint="there are later ones"
def cfm_loss(net, z, generator):
    t = torch.randint(0, 1000, (len(z),), generator=generator).to(z)
    eps = torch.randn(z.shape, generator=generator, dtype=z.dtype)
    s = t[:, None] / 1000
    x = s * z + (1 - s) * eps
    return (net(x, t) - (z - eps)).square().mean()


# %% wrong="03.1" hint="some samples have the noise of others"
def cfm_loss(net, z, generator):
    t = torch.rand(len(z), generator=generator, dtype=z.dtype)
    half = torch.randn((len(z) + 1) // 2, z.shape[1], generator=generator, dtype=z.dtype)
    noise = torch.cat([half, -half])[: len(z)]
    x = t[:, None] * z + (1 - t[:, None]) * noise
    return (net(x, t) - (z - noise)).square().mean()


# %% wrong="03.1" hint="some samples have the time of others"
def cfm_loss(net, z, generator):
    t = torch.rand((len(z) + 1) // 2, generator=generator, dtype=z.dtype).repeat_interleave(2)[: len(z)]
    e = torch.randn(z.shape, generator=generator, dtype=z.dtype)
    s = t[:, None]
    return (net(s * z + (1 - s) * e, t) - (z - e)).square().mean()


# %% right="03.1" name="stratified in a random order, mse"
def cfm_loss(net, z, generator):
    count = z.shape[0]
    order = torch.randperm(count, generator=generator)
    t = ((order + torch.rand(count, generator=generator)) / count).to(z.dtype)
    eps = torch.empty_like(z).normal_(generator=generator)
    weight = t.view(count, *[1] * (z.ndim - 1))
    return nn.functional.mse_loss(net(torch.lerp(eps, z, weight.expand_as(z)), t), z - eps)


# %% right="03.1" name="sample by sample"
def cfm_loss(net, z, generator):
    times = [torch.rand((), generator=generator) for _ in z]
    noises = [torch.randn(z.shape[1], generator=generator) for _ in z]
    x = torch.stack([t * point + (1 - t) * noise for t, point, noise in zip(times, z, noises, strict=True)])
    out = net(x, torch.stack(times))
    errors = [((a - b + c) ** 2).mean() for a, b, c in zip(out, z, noises, strict=True)]
    return sum(errors) / len(errors)


# %% right="03.1" name="the library's path and stratified times"
def cfm_loss(net, z, generator):
    t = flowlib.uniform_time(len(z), generator).to(z)
    path = GaussianPath()
    x = path.sample(z, t, generator=generator)
    return nn.functional.mse_loss(net(x, t), path.velocity(x, z, t))


# %% right="03.1" name="the velocity from x and the noise, lerp"
def cfm_loss(net, z, generator):
    noise = torch.randn(z.shape, generator=generator, dtype=z.dtype)
    t = torch.rand(z.shape[0], generator=generator, dtype=z.dtype)
    x = torch.lerp(noise, z, t.unsqueeze(1))
    gap = net(x, t) + noise - z
    return torch.einsum("bd,bd->", gap, gap) / gap.numel()


# %% wrong="03.2" hint="gradients of all steps have added up"
def train(model, draw, steps, batch, lr, generator):
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


# %% wrong="03.2" hint="the gradient was cleared before"
def train(model, draw, steps, batch, lr, generator):
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        loss.backward()
        optimiser.zero_grad()
        optimiser.step()
        losses.append(loss.item())
    return losses


# %% wrong="03.2" hint="no step is taken with them"
def train(model, draw, steps, batch, lr, generator):
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        optimiser.zero_grad()
        loss.backward()
        losses.append(loss.item())
    return losses


# %% wrong="03.2" hint="no gradient was ever computed"
def train(model, draw, steps, batch, lr, generator):
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        optimiser.step()
        losses.append(loss.item())
    return losses


# %% wrong="03.2" hint="one batch for the whole training"
def train(model, draw, steps, batch, lr, generator):
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    losses, z = [], draw(batch, generator)
    for _ in range(steps):
        loss = flow_matching_loss(model, z, generator=generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


# %% wrong="03.2" hint="is the generator set back in the loop"
def train(model, draw, steps, batch, lr, generator):
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        generator.manual_seed(0)
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


# %% wrong="03.2" hint="an optimiser made anew has no memory"
def train(model, draw, steps, batch, lr, generator):
    losses = []
    for _ in range(steps):
        optimiser = torch.optim.Adam(model.parameters(), lr=lr)
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


# %% wrong="03.2" hint="made larger, not smaller"
def train(model, draw, steps, batch, lr, generator):
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = -flow_matching_loss(model, draw(batch, generator), generator=generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(-loss.item())
    return losses


# %% wrong="03.2" hint="was lr passed on"
def train(model, draw, steps, batch, lr, generator):
    optimiser = torch.optim.Adam(model.parameters())
    losses = []
    for _ in range(steps):
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


# %% wrong="03.2" hint="pass the generator to the loss as well"
def train(model, draw, steps, batch, lr, generator):
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = flow_matching_loss(model, draw(batch, generator))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


# %% wrong="03.2" hint="keeps the graph of every step"
def train(model, draw, steps, batch, lr, generator):
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss)
    return losses


# %% wrong="03.2" hint="there must be 400 of them"
def train(model, draw, steps, batch, lr, generator):
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for _ in range(batch):
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


# %% wrong="03.2" hint="the numbers have become NaN"
def train(model, draw, steps, batch, lr, generator):
    opt = torch.optim.SGD(model.parameters(), lr=lr)
    out = []
    for _ in range(steps):
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        opt.zero_grad()
        loss.backward()
        opt.step()
        out.append(loss.item())
    return out


# %% wrong="03.2" hint="only some of the model's parameters"
def train(model, draw, steps, batch, lr, generator):
    opt = torch.optim.Adam([next(iter(model.parameters()))], lr=lr)
    out = []
    for _ in range(steps):
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        opt.zero_grad()
        loss.backward()
        opt.step()
        out.append(loss.item())
    return out


# %% wrong="03.2" hint="hardly change from step to step"
def train(model, draw, steps, batch, lr, generator):
    opt = torch.optim.Adam(model.parameters(), lr=lr)
    out, total = [], 0.0
    for k in range(steps):
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
        out.append(total / (k + 1))
    return out


# %% wrong="03.2" hint="the loss before the first step is about"
def train(model, draw, steps, batch, lr, generator):
    opt = torch.optim.Adam(model.parameters(), lr=lr)
    out = []
    for _ in range(steps):
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        opt.zero_grad()
        loss.backward()
        opt.step()
        out.append(loss.item() * batch)
    return out


# %% wrong="03.2" hint="two seeds gave the same training"
def train(model, draw, steps, batch, lr, generator):
    generator.manual_seed(0)
    opt = torch.optim.Adam(model.parameters(), lr=lr)
    out = []
    for _ in range(steps):
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        opt.zero_grad()
        loss.backward()
        opt.step()
        out.append(loss.item())
    return out


# %% wrong="03.2" hint="not NoneType"
def train(model, draw, steps, batch, lr, generator):
    opt = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        opt.zero_grad()
        loss.backward()
        opt.step()


# %% right="03.2" name="a generator of batches, foreach Adam"
def train(model, draw, steps, batch, lr, generator):
    opt = torch.optim.Adam(list(model.parameters()), lr, betas=(0.9, 0.99))
    losses = torch.zeros(steps)
    for k in range(steps):
        opt.zero_grad()
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        losses[k] = loss.detach()
        loss.backward()
        opt.step()
    return losses.tolist()


# %% right="03.2" name="cleared after the step, learning rate falling"
def train(model, draw, steps, batch, lr, generator):
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses = []
    while len(losses) < steps:
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=False)
        decay.step()
        losses.append(float(loss.detach()))
    return losses


# %% right="03.2" name="Adam by hand"
def train(model, draw, steps, batch, lr, generator):
    parameters = [p for p in model.parameters() if p.requires_grad]
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    losses = []
    for k in range(1, steps + 1):
        loss = flow_matching_loss(model, draw(batch, generator), generator=generator)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, gradient, m, v in zip(parameters, gradients, first, second, strict=True):
                m.lerp_(gradient, 0.1)
                v.lerp_(gradient**2, 0.001)
                p -= lr * (m / (1 - 0.9**k)) / ((v / (1 - 0.999**k)).sqrt() + 1e-8)
        losses.append(loss.item())
    return losses


# %% right="03.2" name="in training mode, clipped, AdamW"
def train(model, draw, steps, batch, lr, generator):
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    losses = [0.0] * steps
    for i in range(steps):
        for p in model.parameters():
            p.grad = None
        value = flow_matching_loss(model, draw(batch, generator), generator=generator)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        losses[i] = value.detach().item()
    model.eval()
    return losses


# %% wrong="03.3" hint="this is how the error of the data follows"
def weight(kind, alpha, beta, dalpha, dbeta):
    rows = {"data": (1, 0), "noise": (0, 1), "velocity": (dalpha, dbeta), "score": (0, -1 / beta), "v": (-beta, alpha)}
    a, b = rows[kind]
    return (beta / (alpha * b - beta * a)) ** 2


# %% wrong="03.3" hint="so is the factor between them"
def weight(kind, alpha, beta, dalpha, dbeta):
    rows = {"data": (1, 0), "noise": (0, 1), "velocity": (dalpha, dbeta), "score": (0, -1 / beta), "v": (-beta, alpha)}
    a, b = rows[kind]
    return abs(alpha * b - beta * a) / beta


# %% wrong="03.3" hint="velocity: its noise is wrong too"
def weight(kind, alpha, beta, dalpha, dbeta):
    if kind == "velocity":
        return dalpha**2
    rows = {"data": (1, 0), "noise": (0, 1), "score": (0, -1 / beta), "v": (-beta, alpha)}
    a, b = rows[kind]
    return (a - b * alpha / beta) ** 2


# %% wrong="03.3" hint="the two errors are not independent"
def weight(kind, alpha, beta, dalpha, dbeta):
    if kind == "velocity":
        return dalpha**2 + dbeta**2
    rows = {"data": (1, 0), "noise": (0, 1), "score": (0, -1 / beta), "v": (-beta, alpha)}
    a, b = rows[kind]
    return (a - b * alpha / beta) ** 2


# %% wrong="03.3" hint="velocity: where D is too large"
def weight(kind, alpha, beta, dalpha, dbeta):
    rows = {"data": (1, 0), "noise": (0, 1), "velocity": (dalpha, dbeta), "score": (0, -1 / beta), "v": (-beta, alpha)}
    a, b = rows[kind]
    return (a + b * alpha / beta) ** 2


# %% wrong="03.3" hint="holds only if alpha^2 + beta^2 = 1"
def weight(kind, alpha, beta, dalpha, dbeta):
    snr = (alpha / beta) ** 2
    w = dalpha * beta - alpha * dbeta
    return {"data": 1.0, "noise": snr, "velocity": (w / beta) ** 2, "score": snr / beta**2, "v": snr + 1}[kind]


# %% wrong="03.3" hint="divided by -beta, and so is its error"
def weight(kind, alpha, beta, dalpha, dbeta):
    w = dalpha * beta - alpha * dbeta
    v = ((alpha**2 + beta**2) / beta) ** 2
    return {
        "data": 1.0,
        "noise": (alpha / beta) ** 2,
        "velocity": (w / beta) ** 2,
        "score": (alpha / beta) ** 2,
        "v": v,
    }[kind]


# %% wrong="03.3" hint="v: the sign of one of its two errors"
def weight(kind, alpha, beta, dalpha, dbeta):
    w = dalpha * beta - alpha * dbeta
    v = ((alpha**2 - beta**2) / beta) ** 2
    weights = {"data": 1.0, "noise": (alpha / beta) ** 2, "velocity": (w / beta) ** 2, "v": v}
    return weights[kind] if kind in weights else (alpha / beta**2) ** 2


# %% wrong="03.3" hint="score: one more power of beta"
def weight(kind, alpha, beta, dalpha, dbeta):
    w = dalpha * beta - alpha * dbeta
    v = ((alpha**2 + beta**2) / beta) ** 2
    weights = {"data": 1.0, "noise": (alpha / beta) ** 2, "velocity": (w / beta) ** 2, "v": v}
    return weights[kind] if kind in weights else (alpha / beta) ** 2 / beta


# %% wrong="03.3" hint="alpha and beta are exchanged in it"
def weight(kind, alpha, beta, dalpha, dbeta):
    rows = {
        "data": (1.0, 0.0),
        "noise": (0.0, 1.0),
        "velocity": (dalpha, dbeta),
        "score": (0.0, -1 / beta),
        "v": (alpha, -beta),
    }
    a, b = rows[kind]
    return (a - b * alpha / beta) ** 2


# %% wrong="03.3" hint="not by its square"
def weight(kind, alpha, beta, dalpha, dbeta):
    rows = {
        "data": (1.0, 0.0),
        "noise": (0.0, 1.0),
        "velocity": (dalpha, dbeta),
        "score": (0.0, -1 / beta**2),
        "v": (-beta, alpha),
    }
    a, b = rows[kind]
    return (a - b * alpha / beta) ** 2


# %% wrong="03.3" hint="this is that of the linear schedule"
def weight(kind, alpha, beta, dalpha, dbeta):
    rows = {
        "data": (1.0, 0.0),
        "noise": (0.0, 1.0),
        "velocity": (1.0, -1.0),
        "score": (0.0, -1 / beta),
        "v": (-beta, alpha),
    }
    a, b = rows[kind]
    return (a - b * alpha / beta) ** 2


# %% wrong="03.3" hint="a power of beta is missing"
def weight(kind, alpha, beta, dalpha, dbeta):
    rows = {
        "data": (1.0, 0.0),
        "noise": (0.0, 1.0),
        "velocity": (dalpha, dbeta),
        "score": (0.0, -1 / beta),
        "v": (-beta, alpha),
    }
    a, b = rows[kind]
    return (alpha * b - beta * a) ** 2


# %% wrong="03.3" hint="return a number for"
def weight(kind, alpha, beta, dalpha, dbeta):
    return None


# %% right="03.3" name="match"
def weight(kind, alpha, beta, dalpha, dbeta):
    match kind:
        case "data":
            return 1.0
        case "noise":
            factor = alpha / beta
        case "velocity":
            factor = dalpha - alpha * dbeta / beta
        case "score":
            factor = alpha / (beta * beta)
        case _:
            factor = beta + alpha * alpha / beta
    return factor * factor


# %% right="03.3" name="formulas, one by one"
def weight(kind, alpha, beta, dalpha, dbeta):
    snr = alpha**2 / beta**2
    if kind == "data":
        return 1
    if kind == "noise":
        return snr
    if kind == "velocity":
        return (dalpha - dbeta * alpha / beta) ** 2
    if kind == "score":
        return snr / beta**2
    return (snr + 1) ** 2 * beta**2


# %% right="03.3" name="by two explanations of one x"
def weight(kind, alpha, beta, dalpha, dbeta):
    def predict(data, x=0.3):
        eps = (x - alpha * data) / beta
        return {
            "data": data,
            "noise": eps,
            "velocity": dalpha * data + dbeta * eps,
            "score": -eps / beta,
            "v": alpha * eps - beta * data,
        }[kind]

    return (predict(1.0) - predict(0.0)) ** 2


# %% right="03.3" name="by a determinant"
def weight(kind, alpha, beta, dalpha, dbeta):
    row = {"data": [1.0, 0.0], "noise": [0.0, 1.0], "velocity": [dalpha, dbeta], "score": [0.0, -1 / beta]}
    row["v"] = [-beta, alpha]
    matrix = torch.tensor([[alpha, beta], row[kind]], dtype=torch.float64)
    return torch.linalg.det(matrix) ** 2 / beta**2


# %% wrong="03.4" hint="that is the variance of the target, not what is left"
def floor(alpha, beta, dalpha, dbeta, std):
    return 0.0 if std == 0 else (dalpha * std) ** 2 + dbeta**2


# %% wrong="03.4" hint="the variance of z was used"
def floor(alpha, beta, dalpha, dbeta, std):
    w = dalpha * beta - alpha * dbeta
    return (w * std / beta) ** 2


# %% wrong="03.4" hint="a perfect prediction of the data"
def floor(alpha, beta, dalpha, dbeta, std):
    return (std * beta) ** 2 / (alpha**2 * std**2 + beta**2)


# %% wrong="03.4" hint="enters its variance squared"
def floor(alpha, beta, dalpha, dbeta, std):
    w = dalpha * beta - alpha * dbeta
    return w * beta * std**2 / (alpha**2 * std**2 + beta**2)


# %% wrong="03.4" hint="not its variance"
def floor(alpha, beta, dalpha, dbeta, std):
    w = dalpha * beta - alpha * dbeta
    return w**2 * std / (alpha**2 * std + beta**2)


# %% wrong="03.4" hint="a larger z means a smaller noise"
def floor(alpha, beta, dalpha, dbeta, std):
    w = dalpha * beta + alpha * dbeta
    return w**2 * std**2 / (alpha**2 * std**2 + beta**2)


# %% wrong="03.4" hint="not finite where alpha = 0"
def floor(alpha, beta, dalpha, dbeta, std):
    w = dalpha * beta - alpha * dbeta
    slope = alpha * std**2 / (alpha**2 * std**2 + beta**2)
    return w**2 * slope / alpha


# %% wrong="03.4" hint="not finite where beta = 0"
def floor(alpha, beta, dalpha, dbeta, std):
    if std == 0:
        return 0.0
    w = dalpha * beta - alpha * dbeta
    return (w / beta) ** 2 / (1 / std**2 + alpha**2 / beta**2)


# %% wrong="03.4" hint="one point of data leaves no doubt"
def floor(alpha, beta, dalpha, dbeta, std):
    w = dalpha * beta - alpha * dbeta
    return (
        w**2 * (std**2 + 1e-3) / (alpha**2 * (std**2 + 1e-3) + beta**2)
        if std == 0
        else (w**2 * std**2 / (alpha**2 * std**2 + beta**2))
    )


# %% wrong="03.4" hint="holds on the linear path only"
def floor(alpha, beta, dalpha, dbeta, std):
    return std**2 / (alpha**2 * std**2 + beta**2)


# %% wrong="03.4" hint="was a small constant added"
def floor(alpha, beta, dalpha, dbeta, std):
    w = dalpha * beta - alpha * dbeta
    return w**2 * std**2 / (alpha**2 * std**2 + beta**2 + 1e-3)


# %% wrong="03.4" hint="the integral is"
def floor(alpha, beta, dalpha, dbeta, std):
    w = dalpha * beta - alpha * dbeta
    return w**2 * std**2 / (alpha**2 + beta**2)


# %% wrong="03.4" hint="it must be finite"
def floor(alpha, beta, dalpha, dbeta, std):
    return math.nan


# %% right="03.4" name="covariances"
def floor(alpha, beta, dalpha, dbeta, std):
    import numpy as np

    A = np.array([[alpha * std, beta], [dalpha * std, dbeta]])
    C = A @ A.T
    return float(C[1, 1] - C[0, 1] * C[1, 0] / C[0, 0])


# %% right="03.4" name="by regression: variance minus what x explains"
def floor(alpha, beta, dalpha, dbeta, std):
    target = (dalpha * std) ** 2 + dbeta**2
    shared = dalpha * alpha * std**2 + dbeta * beta
    spread = (alpha * std) ** 2 + beta**2
    return target - shared**2 / spread


# %% right="03.4" name="by a determinant"
def floor(alpha, beta, dalpha, dbeta, std):
    joint = torch.tensor([[alpha * std, beta], [dalpha * std, dbeta]], dtype=torch.float64)
    return torch.linalg.det(joint) ** 2 / (joint[0] ** 2).sum()


# %% right="03.4" name="by the conditional variances, the ends apart"
def floor(alpha, beta, dalpha, dbeta, std):
    if beta == 0:
        return dbeta**2
    gain = (dalpha * beta - alpha * dbeta) / beta
    return gain**2 * (0.0 if std == 0 else 1 / (std**-2 + (alpha / beta) ** 2))


# %% wrong="03.5" hint="the answer calls optimal_transport"
def couple(noise, z, y):
    return flowlib.optimal_transport(noise, z, y), z, y


# %% wrong="03.5" hint="noise has moved from one label to another"
def couple(noise, z, y):
    from scipy.optimize import linear_sum_assignment

    _, column = linear_sum_assignment(torch.cdist(z, noise).square().numpy())
    return noise[torch.as_tensor(column)], z, y


# %% wrong="03.5" hint="a sample now has another's label"
def couple(noise, z, y):
    from scipy.optimize import linear_sum_assignment

    order = y.argsort()
    cost = torch.cdist(z[order], noise[order]) ** 2 + 1e6 * (y[order][:, None] != y[order])
    _, column = linear_sum_assignment(cost.numpy())
    return noise[order][torch.as_tensor(column)], z[order], y


# %% wrong="03.5" hint="some noise is used twice"
def couple(noise, z, y):
    cost = torch.cdist(z, noise) ** 2 + 1e6 * (y[:, None] != y)
    return noise[cost.argmin(1)], z, y


# %% wrong="03.5" hint="the distances are least, their squares are not"
def couple(noise, z, y):
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(z, noise) + 1e6 * (y[:, None] != y)
    _, column = linear_sum_assignment(cost.numpy())
    return noise[torch.as_tensor(column)], z, y


# %% wrong="03.5" hint="the assignment was applied backwards"
def couple(noise, z, y):
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(noise, z) ** 2 + 1e6 * (y[:, None] != y)
    _, column = linear_sum_assignment(cost.numpy())
    return noise[torch.as_tensor(column)], z, y


# %% wrong="03.5" hint="this is the largest total distance"
def couple(noise, z, y):
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(z, noise) ** 2 - 1e6 * (y[:, None] != y)
    _, column = linear_sum_assignment(cost.numpy(), maximize=True)
    return noise[torch.as_tensor(column)], z, y


# %% wrong="03.5" hint="nothing has been paired"
def couple(noise, z, y):
    order = y.argsort()
    return noise[order], z[order], y[order]


# %% wrong="03.5" hint="can be had by a better assignment"
def couple(noise, z, y):
    cost = torch.cdist(z, noise) ** 2 + 1e6 * (y[:, None] != y)
    paired = noise.clone()
    for i in range(len(z)):  # each in turn takes the nearest that is left
        j = cost[i].argmin()
        paired[i] = noise[j]
        cost[:, j] = 1e12
    return paired, z, y


# %% wrong="03.5" hint="`noise` has been changed in place"
def couple(noise, z, y):
    from scipy.optimize import linear_sum_assignment

    for label in y.unique():
        rows = y == label
        _, column = linear_sum_assignment(torch.cdist(z[rows], noise[rows]).square().numpy())
        noise[rows] = noise[rows][torch.as_tensor(column)]
    return noise, z, y


# %% wrong="03.5" hint="and not for [12, 4"
def couple(noise, z, y):
    from scipy.optimize import linear_sum_assignment

    paired = noise.clone()
    for label in range(2 if y.max() == 1 else len(y.unique())):
        rows = (y == label).nonzero()[:, 0]
        _, column = linear_sum_assignment(torch.cdist(z[rows], noise[rows]).square().numpy())
        paired[rows] = noise[rows[torch.as_tensor(column)]]
    return paired, z, y


# %% wrong="03.5" hint="and not for [-3"
def couple(noise, z, y):
    from scipy.optimize import linear_sum_assignment

    paired = noise.clone()
    for label in range(int(y.max()) + 1):
        rows = (y == label).nonzero()[:, 0]
        _, column = linear_sum_assignment((torch.cdist(z[rows], noise[rows]) ** 2).numpy())
        paired[rows] = noise[rows[torch.as_tensor(column)]]
    return paired, z, y


# %% wrong="03.5" hint="the labels must keep their dtype"
def couple(noise, z, y):
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(z, noise) ** 2 + 1e9 * (y[:, None] != y)
    _, column = linear_sum_assignment(cost.numpy())
    return noise[torch.as_tensor(column)], z, y.to(z)


# %% wrong="03.5" hint="not 2"
def couple(noise, z, y):
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(z, noise) ** 2 + 1e9 * (y[:, None] != y)
    _, column = linear_sum_assignment(cost.numpy())
    return noise[torch.as_tensor(column)], z


# %% right="03.5" name="numpy, labels reversed"
def couple(noise, z, y):
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    order = np.arange(len(y))
    for label in reversed(np.unique(y.numpy())):
        (rows,) = np.nonzero(y.numpy() == label)
        cost = ((z.numpy()[rows, None] - noise.numpy()[None, rows]) ** 2).sum(-1)
        order[rows] = rows[linear_sum_assignment(cost)[1]]
    return noise[torch.from_numpy(order)], z.clone(), y.clone()


# %% right="03.5" name="one assignment, other labels forbidden"
def couple(noise, z, y):
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(z, noise) ** 2
    cost[y[:, None] != y] = 1e9
    _, column = linear_sum_assignment(cost.numpy())
    return noise[torch.as_tensor(column)], z, y


# %% right="03.5" name="data and labels reordered"
def couple(noise, z, y):
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(noise, z).square() + 1e9 * (y[:, None] != y)
    _, column = linear_sum_assignment(cost.numpy())
    order = torch.as_tensor(column)
    return noise, z[order], y[order]


# %% right="03.5" name="sorted by label, by inner products"
def couple(noise, z, y):
    from scipy.optimize import linear_sum_assignment

    noises, data, labels = [], [], []
    for label in sorted(set(y.tolist())):
        a, b = noise[y == label], z[y == label]
        row, column = linear_sum_assignment((a @ b.T).numpy(), maximize=True)  # |a - b|^2 up to what no pairing changes
        noises.append(a[torch.as_tensor(row)])
        data.append(b[torch.as_tensor(column)])
        labels.append(torch.full((len(a),), label))
    return torch.cat(noises), torch.cat(data), torch.cat(labels)


# %% wrong="03.6" hint="takes its diagonal only"
def divergence(f, x, probe=None):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = f(x)
        if probe is None:
            return torch.autograd.grad(value.sum(), x)[0].flatten(1).sum(1)
        product = torch.autograd.grad((value * probe).sum(), x)[0]
        return (product * probe).flatten(1).sum(1)


# %% wrong="03.6" hint="the mean of the diagonal"
def divergence(f, x, probe=None):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        flat = f(x).flatten(1)
        parts = [
            torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0].flatten(1)[:, i]
            for i in range(flat.shape[1])
        ]
        return torch.stack(parts).mean(0)


# %% wrong="03.6" hint="for each sample, (4,), not"
def divergence(f, x, probe=None):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        flat = f(x).flatten(1)
        total = 0
        for i in range(flat.shape[1]):
            total += torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0].flatten(1)[:, i].sum()
        return total


# %% wrong="03.6" hint="no gradient is recorded"
def divergence(f, x, probe=None):
    x = x.detach()
    flat = f(x).flatten(1)
    return sum(torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(flat.shape[1]))


# %% wrong="03.6" hint="the graph was freed"
def divergence(f, x, probe=None):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        flat = f(x).flatten(1)
        return sum(torch.autograd.grad(flat[:, i].sum(), x)[0].flatten(1)[:, i] for i in range(flat.shape[1]))


# %% wrong="03.6" hint="images (B, C, H, W) have more than one axis"
def divergence(f, x, probe=None):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = f(x)
        if probe is not None:
            return (torch.autograd.grad((value * probe).sum(), x)[0] * probe).flatten(1).sum(1)
        total = torch.zeros(len(x), dtype=x.dtype)
        for i in range(x.shape[1]):
            total = total + torch.autograd.grad(value[:, i].sum(), x, retain_graph=True)[0][:, i]
        return total


# %% wrong="03.6" hint="the caller's x now asks for gradients"
def divergence(f, x, probe=None):
    with torch.enable_grad():
        x.requires_grad_()
        flat = f(x).flatten(1)
        parts = [torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0] for i in range(flat.shape[1])]
        return sum(part.flatten(1)[:, i] for i, part in enumerate(parts))


# %% wrong="03.6" hint="the probe changes nothing"
def divergence(f, x, probe=None):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        flat = f(x).flatten(1)
        parts = [torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0] for i in range(flat.shape[1])]
        return sum(part.flatten(1)[:, i] for i, part in enumerate(parts))


# %% wrong="03.6" hint="the probe enters only once"
def divergence(f, x, probe=None):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        flat = f(x).flatten(1)
        if probe is not None:
            return torch.autograd.grad((flat * probe.flatten(1)).sum(), x)[0].flatten(1).sum(1)
        parts = [torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0] for i in range(flat.shape[1])]
        return sum(part.flatten(1)[:, i] for i, part in enumerate(parts))


# %% wrong="03.6" hint="too small by the number of components"
def divergence(f, x, probe=None):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        flat = f(x).flatten(1)
        if probe is not None:
            return (torch.autograd.grad((flat * probe.flatten(1)).sum(), x)[0] * probe).flatten(1).mean(1)
        parts = [torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0] for i in range(flat.shape[1])]
        return sum(part.flatten(1)[:, i] for i, part in enumerate(parts))


# %% wrong="03.6" hint="the estimates of samples are mixed"
def divergence(f, x, probe=None):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        flat = f(x).flatten(1)
        if probe is not None:
            product = torch.autograd.grad((flat * probe.flatten(1)).sum(), x)[0]
            return (product * probe).sum().expand(len(x))
        parts = [torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0] for i in range(flat.shape[1])]
        return sum(part.flatten(1)[:, i] for i, part in enumerate(parts))


# %% wrong="03.6" hint="(1,), not ()"
def divergence(f, x, probe=None):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        v = f(x)
        if probe is not None:
            return (torch.autograd.grad((v * probe).sum(), x)[0] * probe).flatten(1).sum(1).squeeze()
        flat = v.flatten(1)
        return sum(
            torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0].flatten(1)[:, i]
            for i in range(flat.shape[1])
        ).squeeze()


# %% wrong="03.6" hint="(3,), not (3, 2, 2)"
def divergence(f, x, probe=None):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        v = f(x)
        if probe is not None:
            return (torch.autograd.grad((v * probe).sum(), x)[0] * probe).sum(1)
        flat = v.flatten(1)
        return sum(
            torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0].flatten(1)[:, i]
            for i in range(flat.shape[1])
        )


# %% wrong="03.6" hint="not finite differences"
def divergence(f, x, probe=None):
    h = 1e-4
    if probe is not None:
        return (probe * (f(x + h * probe) - f(x - h * probe)) / (2 * h)).flatten(1).sum(1)
    out = torch.zeros(len(x), dtype=x.dtype)
    for i in range(x[0].numel()):
        e = torch.zeros_like(x).flatten(1)
        e[:, i] = h
        e = e.reshape(x.shape)
        out = out + ((f(x + e) - f(x)) / h).flatten(1)[:, i]
    return out


# %% wrong="03.6" hint="the answer calls divergence"
def divergence(f, x, probe=None):
    return flowlib.likelihood.divergence(lambda x, t: f(x), x, torch.tensor(0.0), probe)[1]


# %% wrong="03.6" hint="is not the trace of the Jacobian"
def divergence(f, x, probe=None):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        v = f(x)
        p = torch.randn_like(x) if probe is None else probe
        return (torch.autograd.grad((v * p).sum(), x)[0] * p).flatten(1).sum(1)


# %% wrong="03.6" hint="the divergence is NaN"
def divergence(f, x, probe=None):
    return torch.full((len(x),), math.nan)


# %% right="03.6" name="functional jacobian, in place undone"
def divergence(f, x, probe=None):
    with torch.enable_grad():
        y = x.detach().clone().requires_grad_()
        J = torch.autograd.functional.jacobian(lambda y: f(y).sum(0), y)
        n = x[0].numel()
        J = J.reshape(n, len(x), n).permute(1, 0, 2)
        if probe is None:
            return torch.einsum("bii->b", J)
        p = probe.reshape(len(x), n)
        return ((p[:, None] @ J) @ p[:, :, None])[:, 0, 0]


# %% right="03.6" name="Jacobians by torch.func"
def divergence(f, x, probe=None):
    size = x[0].numel()
    single = torch.func.vmap(torch.func.jacrev(lambda point: f(point[None])[0]))
    jacobian = single(x.detach()).reshape(len(x), size, size)
    if probe is None:
        return jacobian.diagonal(dim1=1, dim2=2).sum(1)
    v = probe.reshape(len(x), size)
    return torch.einsum("bi,bij,bj->b", v, jacobian, v)


# %% right="03.6" name="forward mode"
def divergence(f, x, probe=None):
    def along(v):
        _, change = torch.func.jvp(f, (x.detach(),), (v,))
        return (v * change).flatten(1).sum(1)

    if probe is not None:
        return along(probe.contiguous())
    total = torch.zeros(len(x), dtype=x.dtype)
    for i in range(x[0].numel()):
        unit = torch.zeros(x[0].numel(), dtype=x.dtype)
        unit[i] = 1
        total = total + along(unit.reshape(x.shape[1:]).expand_as(x).contiguous())
    return total


# %% right="03.6" name="all unit vectors as probes"
def divergence(f, x, probe=None):
    def quadratic(v):
        with torch.enable_grad():
            point = x.detach().clone().requires_grad_(True)
            (product,) = torch.autograd.grad(f(point), point, grad_outputs=v)
        return (v * product).reshape(len(x), -1).sum(-1)

    if probe is not None:
        return quadratic(probe)
    units = torch.eye(x[0].numel(), dtype=x.dtype)
    return sum(quadratic(unit.reshape(x.shape[1:]).expand(x.shape)) for unit in units)


# %% wrong="03.7" hint="the sign of the divergence"
def log_likelihood(u, div, x, steps):
    h, integral = 1 / steps, 0.0
    for i in range(steps):
        t = torch.tensor(1 - i * h, dtype=x.dtype)
        middle = x - h / 2 * u(x, t)
        x = x - h * u(middle, t - h / 2)
        integral = integral + h * div(middle, t - h / 2)
    return -0.5 * (x**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi) + integral


# %% wrong="03.7" hint="the divergence is missing"
def log_likelihood(u, div, x, steps):
    h = 1 / steps
    for i in range(steps):
        t = torch.tensor(1 - i * h, dtype=x.dtype)
        x = x - h * u(x - h / 2 * u(x, t), t - h / 2)
    return -0.5 * (x**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi)


# %% wrong="03.7" hint="constant of the normal density is missing"
def log_likelihood(u, div, x, steps):
    h, integral = 1 / steps, 0.0
    for i in range(steps):
        t = torch.tensor(1 - i * h, dtype=x.dtype)
        middle = x - h / 2 * u(x, t)
        x = x - h * u(middle, t - h / 2)
        integral = integral + h * div(middle, t - h / 2)
    return -0.5 * (x**2).sum(1) - integral


# %% wrong="03.7" hint="is that of one dimension"
def log_likelihood(u, div, x, steps):
    h, integral = 1 / steps, 0.0
    for i in range(steps):
        t = torch.tensor(1 - i * h, dtype=x.dtype)
        middle = x - h / 2 * u(x, t)
        x = x - h * u(middle, t - h / 2)
        integral = integral + h * div(middle, t - h / 2)
    return -0.5 * (x**2).sum(1) - 0.5 * math.log(2 * math.pi) - integral


# %% wrong="03.7" hint="belongs to where the point started"
def log_likelihood(u, div, x, steps):
    h, integral, data = 1 / steps, 0.0, x
    for i in range(steps):
        t = torch.tensor(1 - i * h, dtype=x.dtype)
        middle = x - h / 2 * u(x, t)
        x = x - h * u(middle, t - h / 2)
        integral = integral + h * div(middle, t - h / 2)
    return -0.5 * (data**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi) - integral


# %% wrong="03.7" hint="carried from t = 0 to 1"
def log_likelihood(u, div, x, steps):
    h, integral = 1 / steps, 0.0
    for i in range(steps):
        t = torch.tensor(i * h, dtype=x.dtype)
        middle = x + h / 2 * u(x, t)
        x = x + h * u(middle, t + h / 2)
        integral = integral + h * div(middle, t + h / 2)
    return -0.5 * (x**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi) - integral


# %% wrong="03.7" hint="time runs back and the points do not"
def log_likelihood(u, div, x, steps):
    h, integral = 1 / steps, 0.0
    for i in range(steps):
        t = torch.tensor(1 - i * h, dtype=x.dtype)
        middle = x + h / 2 * u(x, t)
        x = x + h * u(middle, t - h / 2)
        integral = integral + h * div(middle, t - h / 2)
    return -0.5 * (x**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi) - integral


# %% wrong="03.7" hint="a method of order 1"
def log_likelihood(u, div, x, steps):
    h, integral = 1 / steps, 0.0
    for i in range(steps):
        t = torch.tensor(1 - i * h, dtype=x.dtype)
        integral = integral + h * div(x, t)
        x = x - h * u(x, t)
    return -0.5 * (x**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi) - integral


# %% wrong="03.7" hint="summed from one end of each step"
def log_likelihood(u, div, x, steps):
    h, integral = 1 / steps, 0.0
    for i in range(steps):
        t = torch.tensor(1 - i * h, dtype=x.dtype)
        integral = integral + h * div(x, t)  # a left Riemann sum beside Heun's points
        slope = u(x, t)
        x = x - h / 2 * (slope + u(x - h * slope, t - h))
    return -0.5 * (x**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi) - integral


# %% wrong="03.7" hint="at which point of a step is the divergence taken"
def log_likelihood(u, div, x, steps):
    h, integral = 1 / steps, 0.0
    for i in range(steps):
        t = torch.tensor(1 - i * h, dtype=x.dtype)
        integral = integral + h * div(x, t - h / 2)  # the middle of the time, and the old point
        x = x - h * u(x - h / 2 * u(x, t), t - h / 2)
    return -0.5 * (x**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi) - integral


# %% wrong="03.7" hint="not for a mixture"
def log_likelihood(u, div, x, steps):
    h, integral, data = 1 / steps, 0.0, x
    for i in range(steps):
        t = torch.tensor(1 - i * h, dtype=x.dtype)
        middle = x - h / 2 * u(x, t)
        x = x - h * u(middle, t - h / 2)
        integral = integral + h * div(data, t - h / 2)  # at the data all the way
    return -0.5 * (x**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi) - integral


# %% wrong="03.7" hint="return one number for each sample"
def log_likelihood(u, div, x, steps):
    h, integral = 1 / steps, 0.0
    for i in range(steps):
        t = torch.tensor(1 - i * h, dtype=x.dtype)
        middle = x - h / 2 * u(x, t)
        x = x - h * u(middle, t - h / 2)
        integral = integral + h * div(middle, t - h / 2)
    return (-0.5 * (x**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi) - integral).mean()


# %% wrong="03.7" hint="the log-density is wrong by up to"
def log_likelihood(u, div, x, steps):
    h, s = 1 / steps, torch.zeros(len(x), dtype=x.dtype)
    for i in range(steps):
        t = torch.tensor(1 - i * h, dtype=x.dtype)
        m = x - h / 2 * u(x, t)
        x = x - h * u(m, t - h / 2)
        s = s + h * div(m, t - h / 2)
    return -0.5 * (x**2).sum() - 0.5 * x.shape[1] * math.log(2 * math.pi) - s


# %% wrong="03.7" hint="the steps do not begin at"
def log_likelihood(u, div, x, steps):
    times = torch.linspace(1, 0, steps, dtype=x.dtype)
    s = torch.zeros(len(x), dtype=x.dtype)
    for t, r in pairwise(times):
        h = t - r
        m = x - h / 2 * u(x, t)
        x = x - h * u(m, t - h / 2)
        s = s + h * div(m, t - h / 2)
    return -0.5 * (x**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi) - s


# %% wrong="03.7" hint="that is in bits"
def log_likelihood(u, div, x, steps):
    h, s = 1 / steps, torch.zeros(len(x), dtype=x.dtype)
    for i in range(steps):
        t = torch.tensor(1 - i * h, dtype=x.dtype)
        m = x - h / 2 * u(x, t)
        x = x - h * u(m, t - h / 2)
        s = s + h * div(m, t - h / 2)
    return (-0.5 * (x**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi) - s) / math.log(2)


# %% wrong="03.7" hint="the answer calls"
def log_likelihood(u, div, x, steps):
    class Known(flowlib.Field):
        path, predicts, null = GaussianPath(), "velocity", None

        def predict(self, x, t, y=None):
            return u(x, torch.as_tensor(t))

    return flowlib.log_likelihood(Known(), x, steps=steps)


# %% wrong="03.7" hint="log p is NaN"
def log_likelihood(u, div, x, steps):
    return torch.full((len(x),), math.nan)


# %% right="03.7" name="torchdiffeq's midpoint"
def log_likelihood(u, div, x, steps):
    from torchdiffeq import odeint

    def slope(t, state):
        t = t.clamp(0, 1)
        return u(state[0], t), div(state[0], t)

    grid = torch.linspace(1, 0, steps + 1, dtype=x.dtype)
    points, gathered = odeint(slope, (x, torch.zeros(len(x), dtype=x.dtype)), grid, method="midpoint")
    return torch.distributions.Normal(0.0, 1.0).log_prob(points[-1]).sum(1) + gathered[-1]


# %% right="03.7" name="Heun on a joint state"
def log_likelihood(u, div, x, steps):
    def slope(state, t):
        return torch.cat([u(state[:, :-1], t), div(state[:, :-1], t)[:, None]], dim=1)

    state = torch.cat([x, torch.zeros_like(x[:, :1])], dim=1)
    grid = torch.linspace(1, 0, steps + 1, dtype=x.dtype)
    for t, s in pairwise(grid):
        first = slope(state, t)
        second = slope(state + (s - t) * first, s)
        state = state + (s - t) / 2 * (first + second)
    normal = torch.distributions.Normal(0.0, 1.0)
    return normal.log_prob(state[:, :-1]).sum(1) + state[:, -1]


# %% right="03.7" name="RK4"
def log_likelihood(u, div, x, steps):
    h = -1 / steps
    gathered = torch.zeros(x.shape[0], dtype=x.dtype)
    for i in range(steps):
        t = torch.tensor(1 + i * h, dtype=x.dtype)
        k1, d1 = u(x, t), div(x, t)
        b = x + h / 2 * k1
        k2, d2 = u(b, t + h / 2), div(b, t + h / 2)
        c = x + h / 2 * k2
        k3, d3 = u(c, t + h / 2), div(c, t + h / 2)
        e = x + h * k3
        end = (t + h).clamp_min(0)
        k4, d4 = u(e, end), div(e, end)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        gathered = gathered + h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
    return gathered - (x.square() + math.log(2 * math.pi)).sum(1) / 2


# %% right="03.7" name="the path first, the trapezium rule for the divergence after it"
def log_likelihood(u, div, x, steps):
    times = torch.linspace(1, 0, steps + 1, dtype=x.dtype)
    way = [x]
    for t, s in pairwise(times):
        first = u(way[-1], t)
        way.append(way[-1] + (s - t) * (first + u(way[-1] + (s - t) * first, s)) / 2)
    values = torch.stack([div(point, t) for point, t in zip(way, times, strict=True)])
    integral = torch.trapezoid(values.flip(0), times.flip(0), dim=0)
    origin = way[-1]
    return -(origin * origin).sum(-1) / 2 - len(x[0]) / 2 * math.log(2 * math.pi) - integral


# %% right="03.7" name="Heun, its times by subtraction"
def log_likelihood(u, div, x, steps):
    h, integral = 1 / steps, 0.0
    for i in range(steps):
        t = torch.tensor(1 - i * h, dtype=x.dtype)
        slope, density = u(x, t), div(x, t)
        ahead = x - h * slope
        x = x - h / 2 * (slope + u(ahead, t - h))  # t - h may end at -1e-17
        integral = integral + h / 2 * (density + div(ahead, t - h))
    return -0.5 * (x**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi) - integral
