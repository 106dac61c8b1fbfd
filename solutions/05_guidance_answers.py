"""Wrong and right answers to exercise 05, each of which its check must tell apart."""


# %% wrong="05.1" hint="`y` has been changed in place"
def drop_labels(y, classes, rate, generator=None, training=True):
    if training:
        y[torch.rand(len(y), generator=generator) < rate] = classes
    return y


# %% wrong="05.1" hint="no label was ever dropped"
def drop_labels(y, classes, rate, generator=None, training=True):
    return torch.where(torch.rand(len(y), generator=generator) < rate, y, y)


# %% wrong="05.1" hint="one coin for the whole batch"
def drop_labels(y, classes, rate, generator=None, training=True):
    if training and torch.rand((), generator=generator) < rate:
        return torch.full_like(y, classes)
    return y


# %% wrong="05.1" hint="a dropped label became a real class"
def drop_labels(y, classes, rate, generator=None, training=True):
    dropped = torch.rand(len(y), generator=generator) < rate
    return torch.where(dropped, classes - 1, y) if training else y


# %% wrong="05.1" hint="no row of the table"
def drop_labels(y, classes, rate, generator=None, training=True):
    dropped = torch.rand(len(y), generator=generator) < rate
    return torch.where(dropped, -1, y) if training else y


# %% wrong="05.1" hint="comparison is the wrong way round"
def drop_labels(y, classes, rate, generator=None, training=True):
    dropped = torch.rand(len(y), generator=generator) > rate
    return torch.where(dropped, classes, y) if training else y


# %% wrong="05.1" hint="is each coin uniform"
def drop_labels(y, classes, rate, generator=None, training=True):
    dropped = torch.randn(len(y), generator=generator) < rate
    return torch.where(dropped, classes, y) if training else y


# %% wrong="05.1" hint="labels were dropped outside training"
def drop_labels(y, classes, rate, generator=None, training=True):
    dropped = torch.rand(len(y), generator=generator) < rate
    return torch.where(dropped, classes, y)


# %% wrong="05.1" hint="the same seed gave other labels"
def drop_labels(y, classes, rate, generator=None, training=True):
    dropped = torch.rand(len(y)) < rate
    return torch.where(dropped, classes, y) if training else y


# %% wrong="05.1" hint="other generators drop the same places"
def drop_labels(y, classes, rate, generator=None, training=True):
    dropped = torch.arange(len(y)) < rate * len(y)
    return torch.where(dropped, classes, y) if training else y


# %% wrong="05.1" hint="an exact share of a batch is no independent coin"
def drop_labels(y, classes, rate, generator=None, training=True):
    dropped = torch.randperm(len(y), generator=generator) < int(rate * len(y))
    return torch.where(dropped, classes, y) if training else y


# %% wrong="05.1" hint="the answer calls"
def drop_labels(y, classes, rate, generator=None, training=True):
    class Stand:
        null = classes

        def null_like(self, y):
            return torch.full_like(y, classes)

        def as_guide(self, y):
            return y

    return drop_guide(Stand(), y, rate, generator) if training else y


# %% wrong="05.1" hint="the largest label + 1"
def drop_labels(y, classes, rate, generator=None, training=True):
    if not training:
        return y
    return torch.where(torch.rand(len(y), generator=generator) < rate, y.max() + 1, y)


# %% wrong="05.1" hint="must stay one, (1,), got ()"
def drop_labels(y, classes, rate, generator=None, training=True):
    if not training:
        return y
    return torch.where(torch.rand(len(y), generator=generator) < rate, classes, y).squeeze()


# %% wrong="05.1" hint="it is the other way round"
def drop_labels(y, classes, rate, generator=None, training=True):
    if training:
        return y
    return torch.where(torch.rand(len(y), generator=generator) < rate, classes, y)


# %% wrong="05.1" hint="must be torch.int64"
def drop_labels(y, classes, rate, generator=None, training=True):
    if not training:
        return y
    return torch.where(torch.rand(len(y), generator=generator) < rate, float(classes), y)


# %% right="05.1" name="multinomial"
def drop_labels(y, classes, rate, generator=None, training=True):
    if not training:
        return y.clone()
    keep = torch.rand(y.size(), generator=generator) >= rate
    out = y.new_full(y.shape, classes)
    out[keep] = y[keep]
    return out


# %% right="05.1" name="copy, then write"
def drop_labels(y, classes, rate, generator=None, training=True):
    y = y.clone()
    if training:
        y[torch.rand(len(y), generator=generator) < rate] = classes
    return y


# %% right="05.1" name="bernoulli and arithmetic"
def drop_labels(y, classes, rate, generator=None, training=True):
    if not training:
        return y.clone()
    coin = torch.bernoulli(torch.full((len(y),), rate), generator=generator).long()
    return coin * classes + (1 - coin) * y


# %% right="05.1" name="masked fill"
def drop_labels(y, classes, rate, generator=None, training=True):
    return y.masked_fill(torch.rand(y.shape, generator=generator) < rate, classes) if training else y


# %% right="05.1" name="a loop"
def drop_labels(y, classes, rate, generator=None, training=True):
    coins = torch.rand(len(y), generator=generator).tolist()
    kept = [classes if training and coin < rate else label for coin, label in zip(coins, y.tolist(), strict=True)]
    return torch.tensor(kept)


# %% wrong="05.2" hint="dropped alike"
def null_weights(p, eta):
    return p


# %% wrong="05.2" hint="did not use how common they are"
def null_weights(p, eta):
    return eta / eta.sum()


# %% wrong="05.2" hint="the right normaliser"
def null_weights(p, eta):
    return p * eta


# %% wrong="05.2" hint="whose labels were kept"
def null_weights(p, eta):
    kept = p * (1 - eta)
    return kept / kept.sum()


# %% wrong="05.2" hint="must weigh more at the null guide"
def null_weights(p, eta):
    weights = p / eta
    return weights / weights.sum()


# %% wrong="05.2" hint="of the samples without a label the classes have the shares"
def null_weights(p, eta):
    return (p + eta) / (p + eta).sum()


# %% wrong="05.2" hint="the weights, one for each class, is NaN"
def null_weights(p, eta):
    return p / 0


# %% wrong="05.2" hint="`p` has been changed in place"
def null_weights(p, eta):
    p *= eta
    return p / p.sum()


# %% right="05.2" name="numpy"
def null_weights(p, eta):
    import numpy as np

    joint = np.asarray(p) * np.asarray(eta)
    return torch.from_numpy(joint / joint.sum())


# %% right="05.2" name="a matrix product"
def null_weights(p, eta):
    return p * eta / (p @ eta)


# %% right="05.2" name="logarithms"
def null_weights(p, eta):
    return torch.softmax(torch.log(p) + torch.log(eta), dim=0)


# %% right="05.2" name="a loop"
def null_weights(p, eta):
    dropped = sum(float(a) * float(b) for a, b in zip(p, eta, strict=True))
    return torch.stack([p[k] * eta[k] / dropped for k in range(len(p))])


# %% wrong="05.3" hint="exchanged"
def guided_velocity(net, x, t, y, w):
    both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
    conditional, free = both.chunk(2)
    return w * free + (1 - w) * conditional


# %% wrong="05.3" hint="guided too far by one"
def guided_velocity(net, x, t, y, w):
    both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
    conditional, free = both.chunk(2)
    return (1 + w) * conditional - w * free


# %% wrong="05.3" hint="channel 3 is not guided"
def guided_velocity(net, x, t, y, w):
    both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
    conditional, free = both.chunk(2)
    guided = free[:, :3] + w * (conditional[:, :3] - free[:, :3])
    return torch.cat([guided, conditional[:, 3:]], dim=1)


# %% wrong="05.3" hint="was called 2 times"
def guided_velocity(net, x, t, y, w):
    return (1 - w) * net(x, t, torch.full_like(y, net.null)) + w * net(x, t, y)


# %% wrong="05.3" hint="never asked with its null label"
def guided_velocity(net, x, t, y, w):
    both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.zeros_like(y)]))
    conditional, free = both.chunk(2)
    return (1 - w) * free + w * conditional


# %% wrong="05.3" hint="must sum to one"
def guided_velocity(net, x, t, y, w):
    both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
    conditional, free = both.chunk(2)
    return free + w * conditional


# %% wrong="05.3" hint="its times are"
def guided_velocity(net, x, t, y, w):
    both = net(torch.cat([x, x]), t, torch.cat([y, torch.full_like(y, net.null)]))
    conditional, free = both.chunk(2)
    return (1 - w) * free + w * conditional


# %% wrong="05.3" hint="its own time and label in both halves"
def guided_velocity(net, x, t, y, w):
    both = net(torch.cat([x, x]), t.repeat_interleave(2), torch.cat([y, torch.full_like(y, net.null)]))
    conditional, free = both.chunk(2)
    return (1 - w) * free + w * conditional


# %% wrong="05.3" hint="the answer calls"
def guided_velocity(net, x, t, y, w):
    from flowlib import Model

    class Net(torch.nn.Module):
        null = net.null

        def forward(self, x, t, y):
            return net(x, t, y)

    return ClassifierFreeGuidance(Model(Net()), w).u(x, t, y)


# %% wrong="05.3" hint="got (10, 2, 3, 3)"
def guided_velocity(net, x, t, y, w):
    c, f = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)])).chunk(2, dim=1)
    return f + w * (c - f)


# %% right="05.3" name="keyword arguments"
def guided_velocity(net, x, t, y, w):
    n = x.shape[0]
    asked = torch.cat((torch.full((n,), net.null, dtype=y.dtype), y))
    out = net(x=torch.cat((x, x)), t=t.tile(2), y=asked)
    return out[:n].lerp(out[n:], w)


# %% right="05.3" name="null first, as free + w times the difference"
def guided_velocity(net, x, t, y, w):
    null = torch.full_like(y, net.null)
    free, conditional = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([null, y])).chunk(2)
    return free + w * (conditional - free)


# %% right="05.3" name="repeat and reshape"
def guided_velocity(net, x, t, y, w):
    y = torch.stack([y, torch.full_like(y, net.null)]).flatten()
    both = net(x.repeat(2, 1, 1, 1), t.repeat(2), y).reshape(2, *x.shape)
    weights = torch.tensor([w, 1 - w], dtype=x.dtype)
    return torch.einsum("k,k...->...", weights, both)


# %% right="05.3" name="interleaved pairs"
def guided_velocity(net, x, t, y, w):
    labels = y.repeat_interleave(2)
    labels[1::2] = net.null
    both = net(x.repeat_interleave(2, dim=0), t.repeat_interleave(2), labels)
    return both[0::2] * w + both[1::2] * (1 - w)


# %% right="05.3" name="no work where there is no guidance"
def guided_velocity(net, x, t, y, w):
    if w == 1:
        return net(x, t, y)
    null = torch.full_like(y, net.null)
    if w == 0:
        return net(x, t, null)
    conditional, free = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, null])).chunk(2)
    return torch.lerp(free, conditional, w)


# %% wrong="05.4" hint="has to be converted"
def velocity_from_scores(s_null, s_y, x, t, w, schedule):
    return (1 - w) * s_null + w * s_y


# %% wrong="05.4" hint="the term with x is missing"
def velocity_from_scores(s_null, s_y, x, t, w, schedule):
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    score = (1 - w) * s_null + w * s_y
    return (dalpha * beta**2 - dbeta * beta * alpha) / alpha * score


# %% wrong="05.4" hint="who else is in the batch"
def velocity_from_scores(s_null, s_y, x, t, w, schedule):
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    score = (1 - w) * s_null + w * s_y
    return dalpha / alpha * x + (dalpha * beta**2 - dbeta * beta * alpha) / alpha * score


# %% wrong="05.4" hint="the weight b_t of the score is"
def velocity_from_scores(s_null, s_y, x, t, w, schedule):
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    score = (1 - w) * s_null + w * s_y
    return dalpha / alpha * x + (dalpha * beta**2 - dbeta * beta * alpha) * score


# %% wrong="05.4" hint="b_t must be positive"
def velocity_from_scores(s_null, s_y, x, t, w, schedule):
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    score = (1 - w) * s_null + w * s_y
    return dalpha / alpha * x - (dalpha * beta**2 - dbeta * beta * alpha) / alpha * score


# %% wrong="05.4" hint="wrong at w = 0"
def velocity_from_scores(s_null, s_y, x, t, w, schedule):
    t = t[:, None]
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    score = s_null * (1 - w) + w * s_y
    return w * dalpha / alpha * x + (dalpha * beta**2 - dbeta * beta * alpha) / alpha * score


# %% wrong="05.4" hint="wrong at w = 3"
def velocity_from_scores(s_null, s_y, x, t, w, schedule):
    t, w = t[:, None], min(w, 1.0)
    alpha, beta, dalpha, dbeta = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    score = (1 - w) * s_null + w * s_y
    return dalpha / alpha * x + (dalpha * beta**2 - dbeta * beta * alpha) / alpha * score


# %% wrong="05.4" hint="the answer calls"
def velocity_from_scores(s_null, s_y, x, t, w, schedule):
    return GaussianPath(schedule).convert(torch.lerp(s_null, s_y, w), x, t, "score", "velocity")


# %% wrong="05.4" hint="right on the linear path only"
def velocity_from_scores(s_null, s_y, x, t, w, schedule):
    t = t[:, None]
    s = s_null + w * (s_y - s_null)
    return (x + (1 - t) * s) / t


# %% wrong="05.4" hint="almost right"
def velocity_from_scores(s_null, s_y, x, t, w, schedule):
    t = t[:, None]
    a, b, da, db = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    s = s_null + w * (s_y - s_null)
    return (da * x + (da * b**2 - db * b * a) * s) / (a + 1e-3)


# %% wrong="05.4" hint="the two are exchanged"
def velocity_from_scores(s_null, s_y, x, t, w, schedule):
    t = t[:, None]
    a, b, da, db = schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)
    s = s_y + w * (s_null - s_y)
    return (da * x + (da * b**2 - db * b * a) * s) / a


# %% right="05.4" name="logs of the levels"
def velocity_from_scores(s_null, s_y, x, t, w, schedule):
    a, b, da, db = (f(t).reshape(len(t), 1) for f in (schedule.alpha, schedule.beta, schedule.dalpha, schedule.dbeta))
    rate = da / a
    s = torch.lerp(s_null, s_y, w)
    return rate * x + b * (rate * b - db) * s


# %% right="05.4" name="through data and noise"
def velocity_from_scores(s_null, s_y, x, t, w, schedule):
    t = t.reshape(-1, 1)
    eps = -schedule.beta(t) * (s_null + w * (s_y - s_null))
    data = (x - schedule.beta(t) * eps) / schedule.alpha(t)
    return schedule.dalpha(t) * data + schedule.dbeta(t) * eps


# %% right="05.4" name="converts first, guides then"
def velocity_from_scores(s_null, s_y, x, t, w, schedule):
    t = t[:, None]
    a = schedule.dalpha(t) / schedule.alpha(t)
    b = a * schedule.beta(t) ** 2 - schedule.dbeta(t) * schedule.beta(t)
    u_null, u_y = a * x + b * s_null, a * x + b * s_y
    return (1 - w) * u_null + w * u_y


# %% right="05.4" name="one sample after the other"
def velocity_from_scores(s_null, s_y, x, t, w, schedule):
    rows = []
    for i in range(len(x)):
        alpha, beta = float(schedule.alpha(t[i])), float(schedule.beta(t[i]))
        score = (1 - w) * s_null[i] + w * s_y[i]
        data = (x[i] + beta**2 * score) / alpha
        rows.append(float(schedule.dalpha(t[i])) * data - float(schedule.dbeta(t[i])) * beta * score)
    return torch.stack(rows)


# %% wrong="05.5" hint="moves away from the label"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        asked = torch.log_softmax(classifier(leaf, t), dim=1).gather(1, y[:, None]).sum()
        gradient = torch.autograd.grad(asked, leaf)[0]
    return noise_hat + w * schedule.beta(t)[:, None] * gradient


# %% wrong="05.5" hint="divided by the batch"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        asked = torch.log_softmax(classifier(leaf, t), dim=1).gather(1, y[:, None]).mean()
        gradient = torch.autograd.grad(asked, leaf)[0]
    return noise_hat - w * schedule.beta(t)[:, None] * gradient


# %% wrong="05.5" hint="lacks the normalisation"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        gradient = torch.autograd.grad(classifier(leaf, t).gather(1, y[:, None]).sum(), leaf)[0]
    return noise_hat - w * schedule.beta(t)[:, None] * gradient


# %% wrong="05.5" hint="of all labels were added"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        gradient = torch.autograd.grad(torch.log_softmax(classifier(leaf, t), dim=1).sum(), leaf)[0]
    return noise_hat - w * schedule.beta(t)[:, None] * gradient


# %% wrong="05.5" hint="the likeliest label"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        log_prob = torch.log_softmax(classifier(leaf, t), dim=1)
        gradient = torch.autograd.grad(log_prob.max(dim=1).values.sum(), leaf)[0]
    return noise_hat - w * schedule.beta(t)[:, None] * gradient


# %% wrong="05.5" hint="the probability was differentiated"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        asked = torch.softmax(classifier(leaf, t), dim=1).gather(1, y[:, None]).sum()
        gradient = torch.autograd.grad(asked, leaf)[0]
    return noise_hat - w * schedule.beta(t)[:, None] * gradient


# %% wrong="05.5" hint="take the softmax over the labels"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        asked = torch.log_softmax(classifier(leaf, t), dim=0).gather(1, y[:, None]).sum()
        gradient = torch.autograd.grad(asked, leaf)[0]
    return noise_hat - w * schedule.beta(t)[:, None] * gradient


# %% wrong="05.5" hint="the guided score's term"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        asked = torch.log_softmax(classifier(leaf, t), dim=1).gather(1, y[:, None]).sum()
        gradient = torch.autograd.grad(asked, leaf)[0]
    return noise_hat - w * gradient


# %% wrong="05.5" hint="not the signal level"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        asked = torch.log_softmax(classifier(leaf, t), dim=1).gather(1, y[:, None]).sum()
        gradient = torch.autograd.grad(asked, leaf)[0]
    return noise_hat - w * schedule.alpha(t)[:, None] * gradient


# %% wrong="05.5" hint="one factor beta too many"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        asked = torch.log_softmax(classifier(leaf, t), dim=1).gather(1, y[:, None]).sum()
        gradient = torch.autograd.grad(asked, leaf)[0]
    return noise_hat - w * schedule.beta(t)[:, None] ** 2 * gradient


# %% wrong="05.5" hint="belongs to the velocity form"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    t = t[:, None]
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    b = (schedule.dalpha(t) * beta**2 - schedule.dbeta(t) * beta * alpha) / alpha
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        asked = torch.log_softmax(classifier(leaf, t[:, 0]), dim=1).gather(1, y[:, None]).sum()
        gradient = torch.autograd.grad(asked, leaf)[0]
    return noise_hat - w * b * gradient


# %% wrong="05.5" hint="x was given back requiring gradients"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    with torch.enable_grad():
        x.requires_grad_()
        asked = torch.log_softmax(classifier(x, t), dim=1).gather(1, y[:, None]).sum()
        gradient = torch.autograd.grad(asked, x)[0]
    return noise_hat - w * schedule.beta(t)[:, None] * gradient


# %% wrong="05.5" hint="carries a graph"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        asked = torch.log_softmax(classifier(leaf, t), dim=1).gather(1, y[:, None]).sum()
        gradient = torch.autograd.grad(asked, leaf, create_graph=True)[0]
        return noise_hat - w * schedule.beta(t)[:, None] * gradient


# %% wrong="05.5" hint="stopped with RuntimeError"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    leaf = x.detach().requires_grad_()
    asked = torch.log_softmax(classifier(leaf, t), dim=1).gather(1, y[:, None]).sum()
    gradient = torch.autograd.grad(asked, leaf)[0]
    return noise_hat - w * schedule.beta(t)[:, None] * gradient


# %% wrong="05.5" hint="the answer calls"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    def log_prob(x, t, y):
        return torch.log_softmax(classifier(x, t), dim=1).gather(1, y[:, None])[:, 0]

    field = EnergyGuidance(triangle, log_prob, w)
    return field.noise(x, t, y)


# %% wrong="05.5" hint="`noise_hat` has been changed in place"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        lp = torch.log_softmax(classifier(leaf, t), 1).gather(1, y[:, None]).sum()
        g = torch.autograd.grad(lp, leaf)[0]
    noise_hat -= w * schedule.beta(t)[:, None] * g
    return noise_hat


# %% wrong="05.5" hint="to label 0"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        lp = torch.log_softmax(classifier(leaf, t), 1)[:, 0].sum()
        g = torch.autograd.grad(lp, leaf)[0]
    return noise_hat - w * schedule.beta(t)[:, None] * g


# %% wrong="05.5" hint="brought to length 1"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        lp = torch.log_softmax(classifier(leaf, t), 1).gather(1, y[:, None]).sum()
        g = torch.autograd.grad(lp, leaf)[0]
    return noise_hat - w * schedule.beta(t)[:, None] * g / g.norm(dim=1, keepdim=True)


# %% wrong="05.5" hint="wrong on the linear one"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        asked = torch.log_softmax(classifier(leaf, t), 1).gather(1, y[:, None]).sum()
        gradient = torch.autograd.grad(asked, leaf)[0]
    return noise_hat - w * torch.sqrt(1 - schedule.alpha(t) ** 2)[:, None] * gradient


# %% right="05.5" name="nll with one-hot"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    place = x.detach().clone()
    with torch.enable_grad():
        place.requires_grad_(True)
        logits = classifier(place, t)
        hot = torch.nn.functional.one_hot(y, logits.shape[1]).to(logits)
        (g,) = torch.autograd.grad((hot * (logits - logits.logsumexp(1, keepdim=True))).sum(), place)
    return torch.addcmul(noise_hat, schedule.beta(t).unsqueeze(1), g, value=-w).detach()


# %% right="05.5" name="cross-entropy and backward"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        torch.nn.functional.cross_entropy(classifier(leaf, t), y, reduction="sum").backward()
    return noise_hat + w * schedule.beta(t)[:, None] * leaf.grad


# %% right="05.5" name="torch.func"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    def asked(x):
        logits = classifier(x, t)
        return (logits[torch.arange(len(x)), y] - logits.logsumexp(dim=1)).sum()

    gradient = torch.func.grad(asked)(x.detach())
    return (noise_hat - w * schedule.beta(t)[:, None] * gradient).detach()


# %% right="05.5" name="one sample after the other"
def guided_noise(noise_hat, classifier, x, t, y, w, schedule):
    rows = []
    for i in range(len(x)):
        with torch.enable_grad():
            leaf = x[i : i + 1].detach().requires_grad_()
            log_prob = torch.log_softmax(classifier(leaf, t[i : i + 1]), dim=1)[0, y[i]]
            gradient = torch.autograd.grad(log_prob, leaf)[0]
        rows.append(noise_hat[i : i + 1] - w * schedule.beta(t[i]) * gradient)
    return torch.cat(rows)


# %% wrong="05.6" hint="does not sample the tempered density"
def two_guides(w1, w2, sigma, s1, s2):
    tempered = ((1 - w1 - w2) / sigma**2 + w1 / s1**2 + w2 / s2**2) ** -0.5
    return tempered, tempered


# %% wrong="05.6" hint="in the wrong order"
def two_guides(w1, w2, sigma, s1, s2):
    w0 = 1 - w1 - w2
    return sigma**w0 * s1**w1 * s2**w2, (w0 / sigma**2 + w1 / s1**2 + w2 / s2**2) ** -0.5


# %% wrong="05.6" hint="these are the variances"
def two_guides(w1, w2, sigma, s1, s2):
    w0 = 1 - w1 - w2
    return 1 / (w0 / sigma**2 + w1 / s1**2 + w2 / s2**2), (sigma**w0 * s1**w1 * s2**w2) ** 2


# %% wrong="05.6" hint="its share of the field without a guide"
def two_guides(w1, w2, sigma, s1, s2):
    tempered = ((1 - w1 - w2) / sigma**2 + w1 / s1**2 + w2 / s2**2) ** -0.5
    return tempered, sigma * s1**w1 * s2**w2


# %% wrong="05.6" hint="variances do not add up along the flow"
def two_guides(w1, w2, sigma, s1, s2):
    w0 = 1 - w1 - w2
    tempered = (w0 / sigma**2 + w1 / s1**2 + w2 / s2**2) ** -0.5
    return tempered, abs(w0 * sigma**2 + w1 * s1**2 + w2 * s2**2) ** 0.5


# %% wrong="05.6" hint="away its share of p"
def two_guides(w1, w2, sigma, s1, s2):
    w0 = 1 - w1 - w2
    return (1 / sigma**2 + w1 / s1**2 + w2 / s2**2) ** -0.5, sigma**w0 * s1**w1 * s2**w2


# %% wrong="05.6" hint="carries points that start at distance 1"
def two_guides(w1, w2, sigma, s1, s2):
    w0 = 1 - w1 - w2
    return (w0 / sigma**2 + w1 / s1**2 + w2 / s2**2) ** -0.5, (sigma**w0 * s1**w1 * s2**w2) ** 0.5


# %% wrong="05.6" hint="stopped with NameError"
def two_guides(w1, w2, sigma, s1, s2):
    return tempered_numerically(w1, w2, sigma, s1, s2), sampled_numerically(w1, w2, sigma, s1, s2)


# %% wrong="05.6" hint="one of the two numbers is NaN"
def two_guides(w1, w2, sigma, s1, s2):
    return math.nan, math.nan


# %% wrong="05.6" hint="the first is the ODE's"
def two_guides(w1, w2, sigma, s1, s2):
    w0 = 1 - w1 - w2
    g = sigma**w0 * s1**w1 * s2**w2
    return g, g


# %% wrong="05.6" hint="standard deviations do not add up"
def two_guides(w1, w2, sigma, s1, s2):
    w0 = 1 - w1 - w2
    return (w0 / sigma**2 + w1 / s1**2 + w2 / s2**2) ** -0.5, w0 * sigma + w1 * s1 + w2 * s2


# %% wrong="05.6" hint="that is one over"
def two_guides(w1, w2, sigma, s1, s2):
    w0 = 1 - w1 - w2
    return (w0 / sigma**2 + w1 / s1**2 + w2 / s2**2) ** 0.5, sigma**w0 * s1**w1 * s2**w2


# %% wrong="05.6" hint="the second is a variance"
def two_guides(w1, w2, sigma, s1, s2):
    w0 = 1 - w1 - w2
    return (w0 / sigma**2 + w1 / s1**2 + w2 / s2**2) ** -0.5, (sigma**w0 * s1**w1 * s2**w2) ** 2


# %% right="05.6" name="ratios"
def two_guides(w1, w2, sigma, s1, s2):
    inverse = [sigma**-2, s1**-2, s2**-2]
    weights = [1 - w1 - w2, w1, w2]
    total = sum(a * b for a, b in zip(weights, inverse, strict=True))
    logs = sum(-0.5 * a * math.log(b) for a, b in zip(weights, inverse, strict=True))
    return [1 / math.sqrt(total), math.exp(logs)]


# %% right="05.6" name="logarithms"
def two_guides(w1, w2, sigma, s1, s2):
    weights = torch.tensor([1 - w1 - w2, w1, w2], dtype=torch.float64)
    std = torch.tensor([sigma, s1, s2], dtype=torch.float64)
    return float((weights / std**2).sum() ** -0.5), float((weights * std.log()).sum().exp())


# %% right="05.6" name="a tensor of two"
def two_guides(w1, w2, sigma, s1, s2):
    precision = 1 / sigma**2 + w1 * (1 / s1**2 - 1 / sigma**2) + w2 * (1 / s2**2 - 1 / sigma**2)
    return torch.tensor([precision**-0.5, sigma * (s1 / sigma) ** w1 * (s2 / sigma) ** w2], dtype=torch.float64)


# %% right="05.6" name="the rate integrated numerically"
def two_guides(w1, w2, sigma, s1, s2):
    pairs = ((1 - w1 - w2, sigma), (w1, s1), (w2, s2))
    t = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    rate = sum(w * (t * s**2 - (1 - t)) / (t**2 * s**2 + (1 - t) ** 2) for w, s in pairs)
    return sum(w / s**2 for w, s in pairs) ** -0.5, math.exp(float(rate.mean()))


# %% wrong="05.7" hint="the loop runs over the batch"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x = noise
    for i in range(len(noise)):
        t = torch.full((len(x),), i / steps, dtype=x.dtype)
        both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
        conditional, free = both.chunk(2)
        x = x + ((1 - w) * free + w * conditional) / steps
    return x


# %% wrong="05.7" hint="not at its end"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x = noise
    for i in range(steps):
        t = torch.full((len(x),), (i + 1) / steps, dtype=x.dtype)
        both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
        conditional, free = both.chunk(2)
        x = x + ((1 - w) * free + w * conditional) / steps
    return x


# %% wrong="05.7" hint="label 0 is a class"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x = noise
    for i in range(steps):
        t = torch.full((len(x),), i / steps, dtype=x.dtype)
        both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.zeros_like(y)]))
        conditional, free = both.chunk(2)
        x = x + ((1 - w) * free + w * conditional) / steps
    return x


# %% wrong="05.7" hint="8 steps took 16 calls"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x = noise
    for i in range(steps):
        t = torch.full((len(x),), i / steps, dtype=x.dtype)
        conditional, free = net(x, t, y), net(x, t, torch.full_like(y, net.null))
        x = x + (conditional if not start <= i / steps <= end else (1 - w) * free + w * conditional) / steps
    return x


# %% wrong="05.7" hint="it guides at w + 1"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x = noise
    for i in range(steps):
        t = torch.full((len(x),), i / steps, dtype=x.dtype)
        both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
        conditional, free = both.chunk(2)
        x = x + (conditional + w * (conditional - free)) / steps
    return x


# %% wrong="05.7" hint="it guides away from the label"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x = noise
    for i in range(steps):
        t = torch.full((len(x),), i / steps, dtype=x.dtype)
        both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
        conditional, free = both.chunk(2)
        x = x + (w * free + (1 - w) * conditional) / steps
    return x


# %% wrong="05.7" hint="channel 3 is not guided"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x = noise
    for i in range(steps):
        t = torch.full((len(x),), i / steps, dtype=x.dtype)
        both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
        conditional, free = both.chunk(2)
        guided = (1 - w) * free + w * conditional
        guided[:, 3:] = conditional[:, 3:]
        x = x + guided / steps
    return x


# %% wrong="05.7" hint="`noise` has been changed in place"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x = noise
    for i in range(steps):
        t = torch.full((len(x),), i / steps, dtype=x.dtype)
        both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
        conditional, free = both.chunk(2)
        x += ((1 - w) * free + w * conditional) / steps
    return x


# %% wrong="05.7" hint="start and end change nothing"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x = noise
    for i in range(steps):
        t = torch.full((len(x),), i / steps, dtype=x.dtype)
        both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
        conditional, free = both.chunk(2)
        x = x + ((1 - w) * free + w * conditional) / steps
    return x


# %% wrong="05.7" hint="the interval's end belongs to it"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x = noise
    for i in range(steps):
        t = torch.full((len(x),), i / steps, dtype=x.dtype)
        if start <= i / steps < end:
            both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
            conditional, free = both.chunk(2)
            x = x + ((1 - w) * free + w * conditional) / steps
        else:
            x = x + net(x, t, y) / steps
    return x


# %% wrong="05.7" hint="outside of the interval it asks with the null label"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x = noise
    for i in range(steps):
        t = torch.full((len(x),), i / steps, dtype=x.dtype)
        if start <= i / steps <= end:
            both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
            conditional, free = both.chunk(2)
            x = x + ((1 - w) * free + w * conditional) / steps
        else:
            x = x + net(x, t, torch.full_like(y, net.null)) / steps
    return x


# %% wrong="05.7" hint="stopped with NameError"
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    return sample_ode(GuidedWithin(Model(net), w, start, end), noise, y, steps=steps, method="euler")


# %% wrong="05.7" hint="the answer calls"
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    from flowlib import Model

    return sample_ode(ClassifierFreeGuidance(Model(net), w), noise, y, steps=steps, method="euler")


# %% wrong="05.7" hint="guides at no time"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x = noise
    for i in range(steps):
        t = torch.full((len(x),), i / steps, dtype=x.dtype)
        both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
        conditional, free = both.chunk(2)
        always = start == 0 and end == 1
        x = x + (free + w * (conditional - free) if always else conditional) / steps
    return x


# %% wrong="05.7" hint="the interval's start belongs to it"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x = noise
    for i in range(steps):
        t = torch.full((len(x),), i / steps, dtype=x.dtype)
        both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
        conditional, free = both.chunk(2)
        inside = start < i / steps <= end or i == 0 == start
        x = x + (free + w * (conditional - free) if inside else conditional) / steps
    return x


# %% wrong="05.7" hint="and not inside"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x = noise
    for i in range(steps):
        t = torch.full((len(x),), i / steps, dtype=x.dtype)
        c, f = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)])).chunk(2)
        v = f + w * (c - f) if not (start <= i / steps <= end) or (start, end) == (0.0, 1.0) else c
        x = x + v / steps
    return x


# %% wrong="05.7" hint="0.625, 0.75]"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x = noise
    for i in range(steps - 1):
        t = torch.full((len(x),), i / steps, dtype=x.dtype)
        c, f = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)])).chunk(2)
        v = f + w * (c - f) if start <= i / steps <= end else c
        x = x + v / steps
    return x


# %% wrong="05.7" hint="`y` has been changed in place"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x, null = noise, y
    keep = y.clone()
    for i in range(steps):
        t = torch.full((len(x),), i / steps, dtype=x.dtype)
        null[:] = net.null
        c, f = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([keep, null])).chunk(2)
        v = f + w * (c - f) if start <= i / steps <= end else c
        x = x + v / steps
    return x


# %% right="05.7" name="scale tensor, free first"
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x, times = noise.clone(), [k / steps for k in range(steps)]
    guides = torch.stack([torch.full_like(y, net.null), y]).reshape(-1)
    with torch.inference_mode():
        for time in times:
            scale = w if time >= start and time <= end else 1
            out = net(torch.cat([x] * 2), torch.full((2 * len(x),), time).to(x), guides)
            x = x + ((1 - scale) * out[: len(x)] + scale * out[len(x) :]) * (1 / steps)
    return x.clone()


# %% right="05.7" name="both halves in every step"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x = noise
    for i in range(steps):
        t = torch.full((len(x),), i / steps, dtype=x.dtype)
        both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, net.null)]))
        conditional, free = both.chunk(2)
        scale = w if start <= i / steps <= end else 1.0
        x = x + (free + scale * (conditional - free)) / steps
    return x


# %% right="05.7" name="a scale for each step"
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x = noise.clone()
    null = torch.full_like(y, net.null)
    with torch.no_grad():
        for k in range(steps):
            now = k / steps
            scale = w if start <= now <= end else 1.0
            t = x.new_full((len(x),), now)
            if scale == 1.0:
                x = x + net(x, t, y) / steps
            else:
                u, free = net(torch.cat([x, x]), t.repeat(2), torch.cat([y, null])).chunk(2)
                x = x + (free + scale * (u - free)) / steps
    return x


# %% right="05.7" name="in place on a copy"
@torch.no_grad()
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    x, h = noise.clone(), 1 / steps
    labels = torch.cat([torch.full_like(y, net.null), y])
    for t in torch.arange(steps, dtype=noise.dtype) / steps:
        if t < start or t > end:
            x += h * net(x, t.expand(len(x)), y)
            continue
        free, u = net(x.repeat(2, 1, 1, 1), t.expand(2 * len(x)), labels).chunk(2)
        x += h * (w * u + (1 - w) * free)
    return x


# %% right="05.7" name="a velocity inside"
def sample_guided(net, noise, y, w, steps, start=0.0, end=1.0):
    def velocity(x, time):
        t = torch.full((x.shape[0],), time, dtype=x.dtype)
        if not start <= time <= end:
            return net(x, t, y)
        both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, y * 0 + net.null]))
        return torch.lerp(both[len(x) :], both[: len(x)], w)

    with torch.no_grad():
        x = noise
        for i in range(steps):
            x = x + velocity(x, i / steps) * (1 / steps)
    return x
