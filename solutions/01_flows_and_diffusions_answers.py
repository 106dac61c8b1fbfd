"""Wrong and right answers to exercise 01, each of which its check must tell apart."""


# %% wrong="01.1" hint="loop over the times, and not over the batch"
def euler_path(f, x, times):
    states = [x]
    for i in range(len(x)):
        states.append(states[-1] + (times[i + 1] - times[i]) * f(states[-1], times[i]))
    return torch.stack(states)


# %% wrong="01.1" hint="never written"
def euler_path(f, x, times):
    states = torch.zeros(len(times), *x.shape, dtype=x.dtype)
    states[0] = x
    for i in range(len(x)):
        states[i + 1] = states[i] + (times[i + 1] - times[i]) * f(states[i], times[i])
    return states


# %% wrong="01.1" hint="one step is missing"
def euler_path(f, x, times):
    states = [x]
    for i in range(len(times) - 2):
        states.append(states[-1] + (times[i + 1] - times[i]) * f(states[-1], times[i]))
    return torch.stack(states)


# %% wrong="01.1" hint="the start belongs to the path"
def euler_path(f, x, times):
    states = []
    for t, s in pairwise(times):
        x = x + (s - t) * f(x, t)
        states.append(x)
    return torch.stack(states)


# %% wrong="01.1" hint="each step has its own length"
def euler_path(f, x, times):
    h = (times[-1] - times[0]) / (len(times) - 1)
    states = [x]
    for t in times[:-1]:
        states.append(states[-1] + h * f(states[-1], t))
    return torch.stack(states)


# %% wrong="01.1" hint="at the time where the step begins"
def euler_path(f, x, times):
    states = [x]
    for t, s in pairwise(times):
        states.append(states[-1] + (s - t) * f(states[-1], s))
    return torch.stack(states)


# %% wrong="01.1" hint="not the last one only"
def euler_path(f, x, times):
    for t, s in pairwise(times):
        x = x + (s - t) * f(x, t)
    return x


# %% wrong="01.1" hint="`x` has been changed in place"
def euler_path(f, x, times):
    states = [x.clone()]
    for t, s in pairwise(times):
        x += (s - t) * f(x, t)
        states.append(x.clone())
    return torch.stack(states)


# %% wrong="01.1" hint="all states are equal"
def euler_path(f, x, times):
    x = x.clone()
    states = [x]
    for t, s in pairwise(times):
        x += (s - t) * f(x, t)
        states.append(x)
    return torch.stack(states)


# %% wrong="01.1" hint="the answer calls euler"
def euler_path(f, x, times):
    states = [x]
    for t, s in pairwise(times):
        states.append(STEPS["euler"](f, states[-1], t, s - t))
    return torch.stack(states)


# %% wrong="01.1" hint="the answer calls odeint"
def euler_path(f, x, times):
    return odeint(lambda t, x: f(x, t), x, times, method="euler")


# %% wrong="01.1" hint="all tensors are float64"
def euler_path(f, x, times):
    states = torch.zeros(len(times), *x.shape)
    states[0] = x
    for n in range(len(times) - 1):
        states[n + 1] = states[n] + (times[n + 1] - times[n]) * f(states[n].double(), times[n])
    return states


# %% wrong="01.1" hint="some values are NaN"
def euler_path(f, x, times):
    return torch.full((len(times), *x.shape), math.nan, dtype=torch.float64)


# %% wrong="01.1" hint="expected a tensor of shape (3, 1, 3)"
def euler_path(f, x, times):
    states = [x]
    for t, s in pairwise(times):
        states.append(states[-1] + (s - t) * f(states[-1], t))
    return torch.stack(states).squeeze()


# %% wrong="01.1" hint="use the times as they come"
def euler_path(f, x, times):
    states, now = [x], torch.zeros((), dtype=x.dtype)
    for s in times[1:]:
        states.append(states[-1] + (s - now) * f(states[-1], now))
        now = s
    return torch.stack(states)


# %% wrong="01.1" hint="where the particle is now"
def euler_path(f, x, times):
    states = [x]
    for t, s in pairwise(times):
        states.append(states[-1] + (s - t) * f(x, t))
    return torch.stack(states)


# %% wrong="01.1" hint="the state first"
def euler_path(f, x, times):
    states = [x]
    for t, s in pairwise(times):
        states.append(states[-1] + (s - t) * f(t, states[-1]))
    return torch.stack(states)


# %% wrong="01.1" hint="looks at the field once in a step"
def euler_path(f, x, times):
    states = [x]
    for t, s in pairwise(times):
        h = s - t
        states.append(states[-1] + h * f(states[-1] + h / 2 * f(states[-1], t), t + h / 2))
    return torch.stack(states)


# %% wrong="01.1" hint="move against the velocity"
def euler_path(f, x, times):
    out = [x]
    for t, s in pairwise(times):
        out.append(out[-1] + (t - s) * f(out[-1], t))
    return torch.stack(out)


# %% wrong="01.1" hint="not its number"
def euler_path(f, x, times):
    out = [x]
    for n in range(len(times) - 1):
        out.append(out[-1] + (times[n + 1] - times[n]) * f(out[-1], torch.tensor(float(n))))
    return torch.stack(out)


# %% wrong="01.1" hint="x_n is missing"
def euler_path(f, x, times):
    out = [x]
    for t, s in pairwise(times):
        out.append((s - t) * f(out[-1], t))
    return torch.stack(out)


# %% wrong="01.1" hint="`times` has been changed in place"
def euler_path(f, x, times):
    times -= times[0].clone()
    out = [x]
    for t, s in pairwise(times):
        out.append(out[-1] + (s - t) * f(out[-1], t))
    return torch.stack(out)


# %% right="01.1" name="cat"
def euler_path(f, x, times):
    path = x.unsqueeze(0)
    for n in range(1, times.shape[0]):
        path = torch.cat((path, path[-1:] + (times[n] - times[n - 1]) * f(path[-1], times[n - 1])[None]))
    return path


# %% right="01.1" name="in place on a copy, from the back of the list"
def euler_path(f, x, times):
    states = torch.empty(len(times), *x.shape, dtype=torch.float64)
    state = x.clone()
    for n, t in enumerate(times):
        states[n] = state
        if n + 1 < len(times):
            state += (times[n + 1] - t) * f(state, t)
    return states


# %% right="01.1" name="written into a tensor"
def euler_path(f, x, times):
    states = torch.empty(len(times), *x.shape, dtype=x.dtype)
    states[0] = x
    for n in range(len(times) - 1):
        states[n + 1] = states[n] + (times[n + 1] - times[n]) * f(states[n], times[n])
    return states


# %% right="01.1" name="numbers for times"
def euler_path(f, x, times):
    states, times = [x.clone()], times.tolist()
    for n, t in enumerate(times[:-1]):
        states += [states[n] + f(states[n], t) * (times[n + 1] - t)]
    return torch.stack(states, dim=0)


# %% right="01.1" name="accumulate, with a time for each sample"
def euler_path(f, x, times):
    from itertools import accumulate

    def step(x, pair):
        t, s = pair
        return x + (s - t) * f(x, t.expand(len(x)))

    return torch.stack(list(accumulate(pairwise(times), step, initial=x)))


# %% wrong="01.2" hint="equal weights belong to Heun"
def second_order_step(f, x, t, h, c):
    k1 = f(x, t)
    return x + h / 2 * (k1 + f(x + c * h * k1, t + c * h))


# %% wrong="01.2" hint="exchanged"
def second_order_step(f, x, t, h, c):
    k1 = f(x, t)
    k2 = f(x + c * h * k1, t + c * h)
    return x + h * (k1 / (2 * c) + (1 - 1 / (2 * c)) * k2)


# %% wrong="01.2" hint="at time t + c h, not t"
def second_order_step(f, x, t, h, c):
    k1 = f(x, t)
    k2 = f(x + c * h * k1, t)
    return x + h * ((1 - 1 / (2 * c)) * k1 + k2 / (2 * c))


# %% wrong="01.2" hint="a fraction c of the step later"
def second_order_step(f, x, t, h, c):
    k1 = f(x, t)
    k2 = f(x + c * h * k1, t + h)
    return x + h * ((1 - 1 / (2 * c)) * k1 + k2 / (2 * c))


# %% wrong="01.2" hint="at another place"
def second_order_step(f, x, t, h, c):
    k1, k2 = f(x, t), f(x, t + c * h)
    return x + h * ((1 - 1 / (2 * c)) * k1 + k2 / (2 * c))


# %% wrong="01.2" hint="is at the place x + c h k1"
def second_order_step(f, x, t, h, c):
    k1 = f(x, t)
    k2 = f(x + h * k1, t + c * h)
    return x + h * ((1 - 1 / (2 * c)) * k1 + k2 / (2 * c))


# %% wrong="01.2" hint="compare the terms with h^2"
def second_order_step(f, x, t, h, c):
    k1 = f(x, t)
    return x + h * ((1 - c) * k1 + c * f(x + c * h * k1, t + c * h))


# %% wrong="01.2" hint="what do the weights have to sum to"
def second_order_step(f, x, t, h, c):
    k1 = f(x, t)
    return x + h * (k1 + f(x + c * h * k1, t + c * h) / (2 * c))


# %% wrong="01.2" hint="the answer calls adams_bashforth"
def second_order_step(f, x, t, h, c):
    k1 = f(x, t)
    k2 = f(x + c * h * k1, t + c * h)
    first, second = solvers.adams_bashforth(torch.tensor([0.0, c]).double(), torch.tensor(1.0).double())
    return x + h * (first * k1 + second * k2)


# %% wrong="01.2" hint="`x` has been changed in place"
def second_order_step(f, x, t, h, c):
    k1 = f(x, t)
    k2 = f(x + c * h * k1, t + c * h)
    x += h * ((1 - 1 / (2 * c)) * k1 + k2 / (2 * c))
    return x


# %% wrong="01.2" hint="`t` has been changed in place"
def second_order_step(f, x, t, h, c):
    k1 = f(x, t)
    t += c * h
    return x + h * ((1 - 1 / (2 * c)) * k1 + f(x + c * h * k1, t) / (2 * c))


# %% wrong="01.2" hint="the state has not moved"
def second_order_step(f, x, t, h, c):
    f(x + c * h * f(x, t), t + c * h)
    return x


# %% wrong="01.2" hint="x or h is missing"
def second_order_step(f, x, t, h, c):
    k1 = f(x, t)
    k2 = f(x + c * h * k1, t + c * h)
    return h * ((1 - 1 / (2 * c)) * k1 + k2 / (2 * c))


# %% wrong="01.2" hint="some values are NaN"
def second_order_step(f, x, t, h, c):
    return math.nan * f(x + c * h * f(x, t), t + c * h)


# %% wrong="01.2" hint="two evaluations of f, yours has 1"
def second_order_step(f, x, t, h, c):
    return x + h * f(x, t)


# %% wrong="01.2" hint="the first slope is not used"
def second_order_step(f, x, t, h, c):
    k1 = f(x, t)
    k2 = f(x + c * h * k1, t + c * h)
    return x + h * k2


# %% wrong="01.2" hint="yours has 3"
def second_order_step(f, x, t, h, c):
    k2 = f(x + c * h * f(x, t), t + c * h)
    w = 1 / (2 * c)
    return x + h * ((1 - w) * f(x, t) + w * k2)


# %% wrong="01.2" hint="which others are in the batch"
def second_order_step(f, x, t, h, c):
    k1 = f(x, t)
    k2 = f(x + c * h * k1, t + c * h)
    return x + h * ((1 - 1 / (2 * c)) * k1 + k2 / (2 * c)).mean(0, keepdim=True)


# %% right="01.2" name="lists"
def second_order_step(f, x, t, h, c):
    a = f(x, t)
    b = f(torch.add(x, a * (c * h)), t + h * c)
    return x + (2 * c - 1) / (2 * c) * h * a + 0.5 / c * h * b


# %% right="01.2" name="Euler's step and a correction"
def second_order_step(f, x, t, h, c):
    k1 = f(x, t)
    return x + h * k1 + h / (2 * c) * (f(x + h * c * k1, t + h * c) - k1)


# %% right="01.2" name="a table of weights"
def second_order_step(f, x, t, h, c):
    nodes, weights, slopes = [0.0, c], [1 - 0.5 / c, 0.5 / c], []
    for node in nodes:
        place = x + node * h * slopes[-1] if slopes else x
        slopes.append(f(place, t + node * h))
    return x + h * sum(w * k for w, k in zip(weights, slopes, strict=True))


# %% right="01.2" name="weights solved for, numbers for times"
def second_order_step(f, x, t, h, c):
    t, h = float(t), float(h)
    w = torch.linalg.solve(torch.tensor([[1.0, 1.0], [0.0, c]]).double(), torch.tensor([1.0, 0.5]).double())
    first = f(x, t)
    second = f(x + c * h * first, t + c * h)
    return torch.add(x, w[0] * first + w[1] * second, alpha=h)


# %% wrong="01.3" hint="the paths never move"
def brownian(times, paths, generator):
    return torch.zeros(len(times), paths, dtype=torch.float64)


# %% wrong="01.3" hint="mirror images"
def brownian(times, paths, generator):
    noise = torch.randn(len(times) - 1, (paths + 1) // 2, generator=generator, dtype=torch.float64)
    noise = torch.cat([noise, -noise], dim=1)[:, :paths]
    return torch.cat([torch.zeros(1, paths).double(), (times.diff().sqrt()[:, None] * noise).cumsum(0)])


# %% wrong="01.3" hint="the time at which it ends"
def brownian(times, paths, generator):
    noise = torch.randn(len(times) - 1, paths, generator=generator, dtype=torch.float64)
    return torch.cat([torch.zeros(1, paths).double(), (times[1:].sqrt()[:, None] * noise).cumsum(0)])


# %% wrong="01.3" hint="all tensors are float64"
def brownian(times, paths, generator):
    noise = torch.randn(len(times) - 1, paths, generator=generator)
    return torch.cat([torch.zeros(1, paths), (times.diff().sqrt()[:, None].float() * noise).cumsum(0)])


# %% wrong="01.3" hint="expected a tensor of shape (2, 1)"
def brownian(times, paths, generator):
    noise = torch.randn(len(times) - 1, paths, generator=generator, dtype=torch.float64)
    W = torch.cat([torch.zeros(1, paths).double(), (times.diff().sqrt()[:, None] * noise).cumsum(0)])
    return W.squeeze()


# %% wrong="01.3" hint="an increment over h is h^2"
def brownian(times, paths, generator):
    noise = torch.randn(len(times) - 1, paths, generator=generator, dtype=torch.float64)
    return torch.cat([torch.zeros(1, paths).double(), (times.diff()[:, None] * noise).cumsum(0)])


# %% wrong="01.3" hint="do not know how long their steps are"
def brownian(times, paths, generator):
    noise = torch.randn(len(times) - 1, paths, generator=generator, dtype=torch.float64)
    return torch.cat([torch.zeros(1, paths).double(), noise.cumsum(0)])


# %% wrong="01.3" hint="scaled by h^2"
def brownian(times, paths, generator):
    noise = torch.randn(len(times) - 1, paths, generator=generator, dtype=torch.float64)
    return torch.cat([torch.zeros(1, paths).double(), (times.diff()[:, None] ** 2 * noise).cumsum(0)])


# %% wrong="01.3" hint="randn, not rand"
def brownian(times, paths, generator):
    noise = torch.rand(len(times) - 1, paths, generator=generator, dtype=torch.float64)
    return torch.cat([torch.zeros(1, paths).double(), (times.diff().sqrt()[:, None] * noise).cumsum(0)])


# %% wrong="01.3" hint="increments are not Gaussian"
def brownian(times, paths, generator):
    noise = math.sqrt(12) * (torch.rand(len(times) - 1, paths, generator=generator, dtype=torch.float64) - 0.5)
    return torch.cat([torch.zeros(1, paths).double(), (times.diff().sqrt()[:, None] * noise).cumsum(0)])


# %% wrong="01.3" hint="is missing"
def brownian(times, paths, generator):
    noise = torch.randn(len(times) - 1, paths, generator=generator, dtype=torch.float64)
    return (times.diff().sqrt()[:, None] * noise).cumsum(0)


# %% wrong="01.3" hint="the path jumps"
def brownian(times, paths, generator):
    return times.sqrt()[:, None] * torch.randn(len(times), paths, generator=generator, dtype=torch.float64)


# %% wrong="01.3" hint="all paths are the same"
def brownian(times, paths, generator):
    noise = torch.randn(len(times) - 1, 1, generator=generator, dtype=torch.float64)
    W = torch.cat([torch.zeros(1, 1).double(), (times.diff().sqrt()[:, None] * noise).cumsum(0)])
    return W.expand(len(times), paths)


# %% wrong="01.3" hint="uses the same noise"
def brownian(times, paths, generator):
    noise = torch.randn(1, paths, generator=generator, dtype=torch.float64)
    return torch.cat([torch.zeros(1, paths).double(), (times.diff().sqrt()[:, None] * noise).cumsum(0)])


# %% wrong="01.3" hint="each has a length of its own"
def brownian(times, paths, generator):
    h = (times[-1] - times[0]) / (len(times) - 1)
    noise = torch.randn(len(times) - 1, paths, generator=generator, dtype=torch.float64)
    return torch.cat([torch.zeros(1, paths).double(), (h.sqrt() * noise).cumsum(0)])


# %% wrong="01.3" hint="two calls with equal generators differ"
def brownian(times, paths, generator):
    noise = torch.randn(len(times) - 1, paths, dtype=torch.float64)
    return torch.cat([torch.zeros(1, paths).double(), (times.diff().sqrt()[:, None] * noise).cumsum(0)])


# %% wrong="01.3" hint="two calls in a row are equal"
def brownian(times, paths, generator):
    noise = torch.randn(len(times) - 1, paths, generator=generator.manual_seed(0), dtype=torch.float64)
    return torch.cat([torch.zeros(1, paths).double(), (times.diff().sqrt()[:, None] * noise).cumsum(0)])


# %% wrong="01.3" hint="got the transpose"
def brownian(times, paths, generator):
    noise = torch.randn(paths, len(times) - 1, generator=generator, dtype=torch.float64)
    return torch.cat([torch.zeros(paths, 1).double(), (times.diff().sqrt() * noise).cumsum(1)], dim=1)


# %% wrong="01.3" hint="must be at 0 at times[0]"
def brownian(times, paths, generator):
    h = torch.cat([times[1:2], times.diff()])
    return (h.sqrt()[:, None] * torch.randn(len(times), paths, generator=generator, dtype=torch.float64)).cumsum(0)


# %% wrong="01.3" hint="these are the increments"
def brownian(times, paths, generator):
    n = torch.randn(len(times) - 1, paths, generator=generator, dtype=torch.float64)
    return torch.cat([torch.zeros(1, paths).double(), times.diff().sqrt()[:, None] * n])


# %% wrong="01.3" hint="the sum runs over paths"
def brownian(times, paths, generator):
    n = torch.randn(len(times) - 1, paths, generator=generator, dtype=torch.float64)
    return torch.cat([torch.zeros(1, paths).double(), (times.diff().sqrt()[:, None] * n).cumsum(1)])


# %% right="01.3" name="inplace loop"
def brownian(times, paths, generator):
    W = torch.zeros(len(times), paths, dtype=torch.float64)
    for n in range(1, len(times)):
        W[n] = W[n - 1] + (times[n] - times[n - 1]) ** 0.5 * torch.randn(
            paths, generator=generator, dtype=torch.float64
        )
    return W


# %% right="01.3" name="a loop"
def brownian(times, paths, generator):
    W = [torch.zeros(paths, dtype=torch.float64)]
    for t, s in pairwise(times):
        W.append(W[-1] + math.sqrt(s - t) * torch.randn(paths, generator=generator, dtype=torch.float64))
    return torch.stack(W)


# %% right="01.3" name="a root of the covariance min(s, t)"
def brownian(times, paths, generator):
    later = times[1:]
    factor = torch.linalg.cholesky(torch.minimum(later[:, None], later[None, :]))
    noise = torch.randn(len(later), paths, generator=generator, dtype=torch.float64)
    return torch.cat([torch.zeros(1, paths).double(), factor @ noise])


# %% right="01.3" name="torch.normal, path by row"
def brownian(times, paths, generator):
    deviation = torch.cat([times[:1], times.diff()]).sqrt().expand(paths, -1)
    return torch.normal(torch.zeros_like(deviation), deviation, generator=generator).cumsum(dim=1).T


# %% wrong="01.4" hint="loop over the times, and not over the batch"
def euler_maruyama(drift, diffusion, x, times, generator):
    states = [x]
    for i in range(len(x)):
        h = times[i + 1] - times[i]
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + h * drift(x, times[i]) + h.sqrt() * diffusion(x, times[i]) * noise
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="one is missing"
def euler_maruyama(drift, diffusion, x, times, generator):
    states = [x]
    for i in range(len(times) - 2):
        h = times[i + 1] - times[i]
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + h * drift(x, times[i]) + h.sqrt() * diffusion(x, times[i]) * noise
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="is noise multiplied by noise"
def euler_maruyama(drift, diffusion, x, times, generator):
    def noisy(x, t):
        return diffusion(x, t) * torch.randn(x.shape, generator=generator, dtype=x.dtype)

    states = [x]
    for t, s in pairwise(times):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + (s - t) * drift(x, t) + (s - t).sqrt() * noisy(x, t) * noise
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="does not move by h in a time h"
def euler_maruyama(drift, diffusion, x, times, generator):
    states = [x]
    for t, s in pairwise(times):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + (s - t) * (drift(x, t) + diffusion(x, t) * noise)
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="does not know how long the step is"
def euler_maruyama(drift, diffusion, x, times, generator):
    states = [x]
    for t, s in pairwise(times):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + (s - t) * drift(x, t) + diffusion(x, t) * noise
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="not a variance"
def euler_maruyama(drift, diffusion, x, times, generator):
    states = [x]
    for t, s in pairwise(times):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + (s - t) * drift(x, t) + (s - t).sqrt() * diffusion(x, t) ** 2 * noise
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="every step uses the same noise"
def euler_maruyama(drift, diffusion, x, times, generator):
    states, noise = [x], torch.randn(x.shape, generator=generator, dtype=x.dtype)
    for t, s in pairwise(times):
        x = x + (s - t) * drift(x, t) + (s - t).sqrt() * diffusion(x, t) * noise
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="two calls in a row are equal"
def euler_maruyama(drift, diffusion, x, times, generator):
    torch.manual_seed(0)
    states = [x]
    for t, s in pairwise(times):
        x = x + (s - t) * drift(x, t) + (s - t).sqrt() * diffusion(x, t) * torch.randn_like(x)
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="f must be taken at the time where the step begins"
def euler_maruyama(drift, diffusion, x, times, generator):
    states = [x]
    for t, s in pairwise(times):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + (s - t) * drift(x, s) + (s - t).sqrt() * diffusion(x, t) * noise
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="the second step is wrong where f and g depend on the state"
def euler_maruyama(drift, diffusion, x, times, generator):
    states, start = [x], x
    for t, s in pairwise(times):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + (s - t) * drift(x, t) + (s - t).sqrt() * diffusion(start, t) * noise
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="mirror image"
def euler_maruyama(drift, diffusion, x, times, generator):
    states = [x]
    for t, s in pairwise(times):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        half = len(x) // 2
        noise[half : 2 * half] = -noise[:half]
        x = x + (s - t) * drift(x, t) + (s - t).sqrt() * diffusion(x, t) * noise
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="`x` has been changed in place"
def euler_maruyama(drift, diffusion, x, times, generator):
    states = [x.clone()]
    for t, s in pairwise(times):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x += (s - t) * drift(x, t) + (s - t).sqrt() * diffusion(x, t) * noise
        states.append(x.clone())
    return torch.stack(states)


# %% wrong="01.4" hint="all samples got the same noise"
def euler_maruyama(drift, diffusion, x, times, generator):
    states = [x]
    for t, s in pairwise(times):
        noise = torch.randn(x.shape[1:], generator=generator, dtype=x.dtype)
        x = x + (s - t) * drift(x, t) + (s - t).sqrt() * diffusion(x, t) * noise
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="the coordinates of a sample got the same noise"
def euler_maruyama(drift, diffusion, x, times, generator):
    states = [x]
    for t, s in pairwise(times):
        noise = torch.randn(len(x), 1, generator=generator, dtype=x.dtype)
        x = x + (s - t) * drift(x, t) + (s - t).sqrt() * diffusion(x, t) * noise
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="never negative"
def euler_maruyama(drift, diffusion, x, times, generator):
    states = [x]
    for t, s in pairwise(times):
        noise = torch.rand(x.shape, generator=generator, dtype=x.dtype)
        x = x + (s - t) * drift(x, t) + (s - t).sqrt() * diffusion(x, t) * noise
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="before the drift has moved x"
def euler_maruyama(drift, diffusion, x, times, generator):
    states = [x]
    for t, s in pairwise(times):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + (s - t) * drift(x, t)
        x = x + (s - t).sqrt() * diffusion(x, t) * noise
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="g must be taken at the time where the step begins"
def euler_maruyama(drift, diffusion, x, times, generator):
    states = [x]
    for t, s in pairwise(times):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + (s - t) * drift(x, t) + (s - t).sqrt() * diffusion(x, s) * noise
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="two calls with equal generators differ"
def euler_maruyama(drift, diffusion, x, times, generator):
    states = [x]
    for t, s in pairwise(times):
        x = x + (s - t) * drift(x, t) + (s - t).sqrt() * diffusion(x, t) * torch.randn_like(x)
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="the noise is not Gaussian: its fourth"
def euler_maruyama(drift, diffusion, x, times, generator):
    states = [x]
    for t, s in pairwise(times):
        noise = 2.0 * torch.randint(2, x.shape, generator=generator).double() - 1
        x = x + (s - t) * drift(x, t) + (s - t).sqrt() * diffusion(x, t) * noise
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="with g = 0 this is Euler's method"
def euler_maruyama(drift, diffusion, x, times, generator):
    states = [x]
    for t, s in pairwise(times):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + drift(x, t) + (s - t).sqrt() * diffusion(x, t) * noise
        states.append(x)
    return torch.stack(states)


# %% wrong="01.4" hint="before the noise has moved x"
def euler_maruyama(drift, diffusion, x, times, generator):
    out = [x]
    for t, s in pairwise(times):
        n = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + diffusion(x, t) * (s - t).sqrt() * n
        x = x + (s - t) * drift(x, t)
        out.append(x)
    return torch.stack(out)


# %% wrong="01.4" hint="needs no square root"
def euler_maruyama(drift, diffusion, x, times, generator):
    out = [x]
    for t, s in pairwise(times):
        n = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + (s - t) * drift(x, t) + (diffusion(x, t) * (s - t)).sqrt() * n
        out.append(x)
    return torch.stack(out)


# %% wrong="01.4" hint="does g move the drift"
def euler_maruyama(drift, diffusion, x, times, generator):
    out = [x]
    for t, s in pairwise(times):
        n = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + (s - t) * (drift(x, t) + 0.5 * diffusion(x, t) ** 2) + (s - t).sqrt() * diffusion(x, t) * n
        out.append(x)
    return torch.stack(out)


# %% wrong="01.4" hint="the steps are not equal"
def euler_maruyama(drift, diffusion, x, times, generator):
    out = [x]
    h = times[1] - times[0]
    for t, s in pairwise(times):
        n = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + (s - t) * drift(x, t) + h.sqrt() * diffusion(x, t) * n
        out.append(x)
    return torch.stack(out)


# %% right="01.4" name="minus noise"
def euler_maruyama(drift, diffusion, x, times, generator):
    path = [x.clone()]
    for n in range(len(times) - 1):
        h = float(times[n + 1] - times[n])
        x = path[n]
        path.append(
            x
            + drift(x, times[n]) * h
            - diffusion(x, times[n]) * torch.randn(*x.shape, generator=generator, dtype=torch.float64) * h**0.5
        )
    return torch.stack(path)


# %% right="01.4" name="all noise drawn first"
def euler_maruyama(drift, diffusion, x, times, generator):
    noise = torch.randn(len(times) - 1, *x.shape, generator=generator, dtype=x.dtype)
    dW = noise * times.diff().sqrt().reshape(-1, *[1] * x.ndim)
    states = torch.empty(len(times), *x.shape, dtype=x.dtype)
    states[0] = x
    for n, h in enumerate(times.diff()):
        states[n + 1] = states[n] + h * drift(states[n], times[n]) + diffusion(states[n], times[n]) * dW[n]
    return states


# %% right="01.4" name="numbers for times"
def euler_maruyama(drift, diffusion, x, times, generator):
    states, times = [x], times.tolist()
    for t, s in pairwise(times):
        x = states[-1]
        kick = torch.normal(0.0, math.sqrt(s - t), x.shape, generator=generator, dtype=x.dtype)
        states.append(x + drift(x, t) * (s - t) + diffusion(x, torch.tensor(t).double()) * kick)
    return torch.stack(states)


# %% right="01.4" name="accumulate"
def euler_maruyama(drift, diffusion, x, times, generator):
    from itertools import accumulate

    def step(x, pair):
        t, h = pair[0], pair[1] - pair[0]
        xi = torch.empty_like(x).normal_(generator=generator)
        return x + h * drift(x, t) + torch.sqrt(h * diffusion(x, t) ** 2) * xi

    return torch.stack([*accumulate(pairwise(times), step, initial=x)])


# %% wrong="01.5" hint="that is the standard deviation"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    decay = math.exp(-theta * t)
    return mu + decay * (m0 - mu), math.sqrt(decay**2 * v0 + g**2 / (2 * theta) * (1 - decay**2))


# %% wrong="01.5" hint="twice too large"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    decay = math.exp(-theta * t)
    return mu + decay * (m0 - mu), decay**2 * v0 + g**2 / theta * (1 - decay**2)


# %% wrong="01.5" hint="grow with the square of g"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    decay = math.exp(-theta * t)
    return mu + decay * (m0 - mu), decay**2 * v0 + g / (2 * theta) * (1 - decay**2)


# %% wrong="01.5" hint="so its variance with the square of that"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    decay = math.exp(-theta * t)
    return mu + decay * (m0 - mu), decay**2 * v0 + g**2 / (2 * theta) * (1 - decay)


# %% wrong="01.5" hint="what happens to its variance"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    decay = math.exp(-theta * t)
    return mu + decay * (m0 - mu), decay * v0 + g**2 / (2 * theta) * (1 - decay**2)


# %% wrong="01.5" hint="all starts move together"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    decay = math.exp(-theta * t)
    return mu + decay * (m0 - mu), v0 + g**2 / (2 * theta) * (1 - decay**2)


# %% wrong="01.5" hint="at t = 0 the variance must be v0"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    decay = math.exp(-theta * t)
    return mu + decay * (m0 - mu), g**2 / (2 * theta) * (1 - decay**2)


# %% wrong="01.5" hint="is not 0 but where the spring pulls"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    decay = math.exp(-theta * t)
    return decay * m0, decay**2 * v0 + g**2 / (2 * theta) * (1 - decay**2)


# %% wrong="01.5" hint="the distance to mu that decays"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    decay = math.exp(-theta * t)
    return mu + decay * m0, decay**2 * v0 + g**2 / (2 * theta) * (1 - decay**2)


# %% wrong="01.5" hint="wrong mean for mu = 0"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    decay = math.exp(theta * t)
    return mu + decay * (m0 - mu), decay**2 * v0 + g**2 / (2 * theta) * (decay**2 - 1)


# %% wrong="01.5" hint="one of the two numbers is NaN"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    return math.nan, math.nan


# %% wrong="01.5" hint="return two numbers"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    return mu + math.exp(-theta * t) * (m0 - mu)


# %% wrong="01.5" hint="the mean decays too fast"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    d = math.exp(-2 * theta * t)
    return mu + d * (m0 - mu), d * v0 + g**2 / (2 * theta) * (1 - d)


# %% wrong="01.5" hint="not with its square"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    d = math.exp(-theta * t)
    return mu + d * (m0 - mu), d**2 * v0 + g**2 / (2 * theta**2) * (1 - d**2)


# %% wrong="01.5" hint="the mean comes first"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    d = math.exp(-theta * t)
    return d**2 * v0 + g**2 / (2 * theta) * (1 - d**2), mu + d * (m0 - mu)


# %% wrong="01.5" hint="grows for ever"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    d = math.exp(-theta * t)
    return mu + d * (m0 - mu), d**2 * v0 + g**2 * t


# %% wrong="01.5" hint="not a simulation"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    m, v, n = m0, v0, 2000
    for _ in range(n):
        m, v = m + t / n * theta * (mu - m), (1 - theta * t / n) ** 2 * v + g**2 * t / n
    return m, v


# %% right="01.5" name="algebra"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    s = g * g / (2 * theta)
    return mu * (1 - math.exp(-theta * t)) + m0 * math.exp(-t * theta), s + (v0 - s) * math.exp(-2 * t * theta)


# %% right="01.5" name="a weighted mean of start and rest"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    a, b = math.exp(-theta * t), math.exp(-2 * theta * t)
    rest = g * g / theta / 2
    return a * m0 + (1 - a) * mu, b * v0 + (1 - b) * rest


# %% right="01.5" name="tensors and expm1"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    rate = torch.tensor(theta * t, dtype=torch.float64)
    mean = m0 + (m0 - mu) * torch.expm1(-rate)
    return mean, v0 * torch.exp(-2 * rate) - g**2 * torch.expm1(-2 * rate) / (2 * theta)


# %% right="01.5" name="the equations of the moments, solved with RK4"
def ornstein_uhlenbeck(m0, v0, theta, mu, g, t):
    x = torch.tensor([m0, v0], dtype=torch.float64)
    target, rates = torch.tensor([mu, g**2 / (2 * theta)]).double(), torch.tensor([theta, 2 * theta]).double()
    n = 50 + int(20 * theta * t)
    for _ in range(n):
        x = STEPS["rk4"](lambda x, s: rates * (target - x), x, torch.tensor(0.0), torch.tensor(t / n).double())
    return x.tolist()


# %% wrong="01.6" hint="lacks the factor 2"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        x = x + h * score(x) + math.sqrt(h * temperature) * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


# %% wrong="01.6" hint="T multiplies the standard deviation"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        x = x + h * score(x) + temperature * math.sqrt(2 * h) * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


# %% wrong="01.6" hint="whatever T is"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        x = x + h * score(x) / temperature + math.sqrt(2 * h) * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


# %% wrong="01.6" hint="how has it to depend on T"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        x = x + h * score(x) + math.sqrt(2 * h) * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


# %% wrong="01.6" hint="check the sign"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x - h * score(x) + math.sqrt(2 * h * temperature) * noise
    return x


# %% wrong="01.6" hint="g^2 = 2, not 1"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + h / 2 * score(x) + math.sqrt(h * temperature) * noise
    return x


# %% wrong="01.6" hint="you made one fewer"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(1, steps):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + h * score(x) + math.sqrt(2 * h * temperature) * noise
    return x


# %% wrong="01.6" hint="randn, not rand"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        noise = torch.rand(x.shape, generator=generator, dtype=x.dtype)
        x = x + h * score(x) + math.sqrt(2 * h * temperature) * noise
    return x


# %% wrong="01.6" hint="both steps used the same noise"
def langevin(score, x, h, steps, temperature, generator):
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    for _ in range(steps):
        x = x + h * score(x) + math.sqrt(2 * h * temperature) * noise
    return x


# %% wrong="01.6" hint="taken anew at each step"
def langevin(score, x, h, steps, temperature, generator):
    drift = score(x)
    for _ in range(steps):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + h * drift + math.sqrt(2 * h * temperature) * noise
    return x


# %% wrong="01.6" hint="lacks the square root"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        x = x + h * score(x) + 2 * h * temperature * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


# %% wrong="01.6" hint="does not move by h in a time h"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + h * (score(x) + math.sqrt(2 * temperature) * noise)
    return x


# %% wrong="01.6" hint="the coordinates of a sample got the same noise"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        noise = torch.randn(len(x), 1, generator=generator, dtype=x.dtype)
        x = x + h * score(x) + math.sqrt(2 * h * temperature) * noise
    return x


# %% wrong="01.6" hint="two calls in a row are equal"
def langevin(score, x, h, steps, temperature, generator):
    generator = torch.Generator().manual_seed(42)
    for _ in range(steps):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + h * score(x) + math.sqrt(2 * h * temperature) * noise
    return x


# %% wrong="01.6" hint="two calls with equal generators differ"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        x = x + h * score(x) + math.sqrt(2 * h * temperature) * torch.randn_like(x)
    return x


# %% wrong="01.6" hint="`x` has been changed in place"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x += h * score(x) + math.sqrt(2 * h * temperature) * noise
    return x


# %% wrong="01.6" hint="some values are NaN"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = temperature * (x + h * score(x)) / temperature + math.sqrt(2 * h * temperature) * noise
    return x


# %% wrong="01.6" hint="the states after the last step only"
def langevin(score, x, h, steps, temperature, generator):
    states = [x]
    for _ in range(steps):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        states.append(states[-1] + h * score(states[-1]) + math.sqrt(2 * h * temperature) * noise)
    return torch.stack(states)


# %% wrong="01.6" hint="does not know how long the step is"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + h * score(x) + math.sqrt(2 * temperature) * noise
    return x


# %% wrong="01.6" hint="all samples got the same noise"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        noise = torch.randn(1, generator=generator, dtype=x.dtype)
        x = x + h * score(x) + math.sqrt(2 * h * temperature) * (noise - noise.detach() + noise)
    return x


# %% wrong="01.6" hint="the states have not moved"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        n = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + h * temperature * score(x) + math.sqrt(2 * h * temperature) * n
    return x


# %% wrong="01.6" hint="the noise is huge"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        n = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + h * score(x) + math.sqrt(2 * h / temperature) * n
    return x


# %% wrong="01.6" hint="adds no noise"
def langevin(score, x, h, steps, temperature, generator):
    for i in range(steps):
        n = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + h * score(x) + (math.sqrt(2 * h * temperature) * n if i < steps - 1 else 0)
    return x


# %% wrong="01.6" hint="before the noise has moved x"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        x = x + math.sqrt(2 * h * temperature) * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + h * score(x)
    return x


# %% wrong="01.6" hint="the noise is not Gaussian"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps):
        x = (
            x
            + h * score(x)
            + math.sqrt(2 * h * temperature) * torch.randn(x.shape, generator=generator, dtype=x.dtype).clamp(-1, 1)
        )
    return x


# %% wrong="01.6" hint="you made one more"
def langevin(score, x, h, steps, temperature, generator):
    for _ in range(steps + 1):
        x = x + h * score(x) + math.sqrt(2 * h * temperature) * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


# %% right="01.6" name="while"
def langevin(score, x, h, steps, temperature, generator):
    n = 0
    while n < steps:
        x = (
            x
            + score(x) * h
            + (2 * temperature * h) ** 0.5 * torch.randn(*x.shape, generator=generator, dtype=torch.float64)
        )
        n += 1
    return x


# %% right="01.6" name="all noise drawn first"
def langevin(score, x, h, steps, temperature, generator):
    kicks = torch.randn(steps, *x.shape, generator=generator, dtype=x.dtype) * (2 * h * temperature) ** 0.5
    for kick in kicks:
        x = x + h * score(x) + kick
    return x


# %% right="01.6" name="in place on a copy"
def langevin(score, x, h, steps, temperature, generator):
    x = x.clone()
    for _ in range(steps):
        noise = torch.empty_like(x).normal_(generator=generator)
        x += h * score(x) + math.sqrt(h) * math.sqrt(2) * math.sqrt(temperature) * noise
    return x


# %% right="01.6" name="recursion"
def langevin(score, x, h, steps, temperature, generator):
    if steps == 0:
        return x
    g = torch.tensor(2.0 * temperature).double().sqrt()
    noise = torch.normal(torch.zeros_like(x), torch.ones_like(x), generator=generator)
    return langevin(score, x + h * score(x) + g * h**0.5 * noise, h, steps - 1, temperature, generator)


# %% wrong="01.7" hint="does not keep p in place"
def langevin_law(v, h):
    return v, 2 * v


# %% wrong="01.7" hint="to first order in h"
def langevin_law(v, h):
    return v * (1 + h / (2 * v)), 2 * v


# %% wrong="01.7" hint="too wide, not too narrow"
def langevin_law(v, h):
    return v * (1 - h / (2 * v)), 2 * v


# %% wrong="01.7" hint="a square is lost"
def langevin_law(v, h):
    return v / (1 - h / v), 2 * v


# %% wrong="01.7" hint="half of the noise is lost"
def langevin_law(v, h):
    return h / (1 - (1 - h / v) ** 2), 2 * v


# %% wrong="01.7" hint="that is the standard deviation"
def langevin_law(v, h):
    return math.sqrt(v / (1 - h / (2 * v))), 2 * v


# %% wrong="01.7" hint="they still converge"
def langevin_law(v, h):
    return v / (1 - h / (2 * v)), v


# %% wrong="01.7" hint="h_max must grow with v"
def langevin_law(v, h):
    return v / (1 - h / (2 * v)), 2 / v


# %% wrong="01.7" hint="one of the two numbers is NaN"
def langevin_law(v, h):
    return v / (1 - h / (2 * v)), math.inf


# %% wrong="01.7" hint="return two numbers"
def langevin_law(v, h):
    return v / (1 - h / (2 * v))


# %% wrong="01.7" hint="the two numbers are exchanged"
def langevin_law(v, h):
    return 2 * v, v / (1 - h / (2 * v))


# %% right="01.7" name="geometric"
def langevin_law(v, h):
    r = (v - h) ** 2 / v**2
    return 2 * h * sum(r**k for k in range(5000)), v * 2


# %% right="01.7" name="the fixed point as it stands"
def langevin_law(v, h):
    return 2 * h / (1 - (1 - h / v) ** 2), 2 * v


# %% right="01.7" name="the recursion, run to its end"
def langevin_law(v, h):
    variance = 0.0
    for _ in range(20_000):
        variance = (1 - h / v) ** 2 * variance + 2 * h
    return variance, v + v


# %% right="01.7" name="other algebra, tensors"
def langevin_law(v, h):
    v, h = torch.tensor([v, h], dtype=torch.float64)
    return 2 * v**2 / (2 * v - h), 2 * v


# %% wrong="01.8" hint="take the logarithm with base 2"
def order_and_error(solve, steps):
    a, b, c = solve(steps), solve(2 * steps), solve(4 * steps)
    p = math.log((a - b).norm() / (b - c).norm())
    return p, float((b - c).norm(dim=1).mean()) / (2**p - 1)


# %% wrong="01.8" hint="the order is negative"
def order_and_error(solve, steps):
    a, b, c = solve(steps), solve(2 * steps), solve(4 * steps)
    p = math.log2((b - c).norm() / (a - b).norm())
    return p, float((b - c).norm(dim=1).mean()) / abs(2**p - 1)


# %% wrong="01.8" hint="the finest run is not the truth"
def order_and_error(solve, steps):
    a, b, c = solve(steps), solve(2 * steps), solve(4 * steps)
    p = math.log2((a - c).norm() / (b - c).norm())
    return p, float((b - c).norm(dim=1).mean()) / (2**p - 1)


# %% wrong="01.8" hint="take differences of runs"
def order_and_error(solve, steps):
    a, b, c = solve(steps), solve(2 * steps), solve(4 * steps)
    p = math.log2(a.norm() / b.norm())
    return p, float((b - c).norm(dim=1).mean())


# %% wrong="01.8" hint="too large by one"
def order_and_error(solve, steps):
    a, b, c = solve(steps), solve(2 * steps), solve(4 * steps)
    p = math.log2((a - b).norm() / (b - c).norm())
    return p + 1, float((b - c).norm(dim=1).mean()) / (2**p - 1)


# %% wrong="01.8" hint="Errors of different signs cancel"
def order_and_error(solve, steps):
    a, b, c = solve(steps), solve(2 * steps), solve(4 * steps)
    ratio = (a.norm(dim=1) - b.norm(dim=1)).sum() / (c.norm(dim=1) - b.norm(dim=1)).sum()
    p = float(torch.log2(ratio))
    return p, float((b - c).norm(dim=1).mean()) / (2**p - 1)


# %% wrong="01.8" hint="that is the error of the middle run"
def order_and_error(solve, steps):
    a, b, c = solve(steps), solve(2 * steps), solve(4 * steps)
    p = math.log2((a - b).norm() / (b - c).norm())
    return p, float((b - c).norm(dim=1).mean()) / (1 - 2**-p)


# %% wrong="01.8" hint="and not by 2^p e"
def order_and_error(solve, steps):
    a, b, c = solve(steps), solve(2 * steps), solve(4 * steps)
    p = math.log2((a - b).norm() / (b - c).norm())
    return p, float((b - c).norm(dim=1).mean()) / 2**p


# %% wrong="01.8" hint="by 2^p - 1 times as much"
def order_and_error(solve, steps):
    a, b, c = solve(steps), solve(2 * steps), solve(4 * steps)
    p = math.log2((a - b).norm() / (b - c).norm())
    return p, float((b - c).norm(dim=1).mean())


# %% wrong="01.8" hint="the mean over samples of the Euclidean distance"
def order_and_error(solve, steps):
    a, b, c = solve(steps), solve(2 * steps), solve(4 * steps)
    p = math.log2((a - b).norm() / (b - c).norm())
    return p, float((b - c).norm()) / (2**p - 1)


# %% wrong="01.8" hint="do not round it"
def order_and_error(solve, steps):
    a, b, c = solve(steps), solve(2 * steps), solve(4 * steps)
    p = round(math.log2((a - b).norm() / (b - c).norm()))
    return p, float((b - c).norm(dim=1).mean()) / (2**p - 1)


# %% wrong="01.8" hint="steps only; you asked for"
def order_and_error(solve, steps):
    truth = solve(2**20 * steps)
    first, second = ((solve(n) - truth).norm(dim=1).mean() for n in (steps, 4 * steps))
    return float(torch.log2(first / second)) / 2, float(second)


# %% wrong="01.8" hint="return two numbers"
def order_and_error(solve, steps):
    a, b, c = solve(steps), solve(2 * steps), solve(4 * steps)
    return math.log2((a - b).norm() / (b - c).norm())


# %% wrong="01.8" hint="the root of a sum of squares"
def order_and_error(solve, steps):
    a, b, c = solve(steps), solve(2 * steps), solve(4 * steps)
    p = float(torch.log2((a - b).norm() / (b - c).norm()))
    return p, float((b - c).abs().mean()) / (2**p - 1)


# %% wrong="01.8" hint="half of the order"
def order_and_error(solve, steps):
    a, b, c = solve(steps), solve(2 * steps), solve(4 * steps)
    p = math.log((a - b).norm() / (b - c).norm(), 4)
    return p, float((b - c).norm(dim=1).mean()) / (2**p - 1)


# %% wrong="01.8" hint="the order comes first"
def order_and_error(solve, steps):
    a, b, c = solve(steps), solve(2 * steps), solve(4 * steps)
    p = math.log2((a - b).norm() / (b - c).norm())
    return float((b - c).norm(dim=1).mean()) / (2**p - 1), p


# %% right="01.8" name="median of ratio"
def order_and_error(solve, steps):
    a, b, c = [solve(steps * k) for k in (1, 2, 4)]
    ratio = ((a - b).norm(dim=1) / (b - c).norm(dim=1)).median()
    return ratio.log2().item(), ((b - c).norm(dim=-1) / (ratio - 1)).mean().item()


# %% right="01.8" name="largest differences for the order"
def order_and_error(solve, steps):
    runs = [solve(steps * 2**k) for k in range(3)]
    gaps = [(b - a).abs().max().item() for a, b in pairwise(runs)]
    p = math.log(gaps[0] / gaps[1]) / math.log(2)
    return p, (runs[2] - runs[1]).square().sum(1).sqrt().mean().item() / (2**p - 1)


# %% right="01.8" name="extrapolation to no step at all"
def order_and_error(solve, steps):
    a, b, c = solve(steps), solve(2 * steps), solve(4 * steps)
    factor = float((a - b).norm() / (b - c).norm())
    limit = c + (c - b) / (factor - 1)
    return math.log2(factor), float(torch.linalg.vector_norm(c - limit, dim=1).mean())


# %% right="01.8" name="tensors all the way"
def order_and_error(solve, steps):
    runs = torch.stack([solve(n) for n in (steps, 2 * steps, 4 * steps)])
    gaps = runs.diff(dim=0).norm(dim=2).mean(dim=1)
    order = torch.log2(gaps[0] / gaps[1])
    return order, gaps[1] / torch.expm1(order * math.log(2))
