"""Mistakes that the asserts of lecture 01 have to notice; `flowlib course bank lectures/01` tries them."""

# %% mistake="a variance for the standard deviation"
"""
- gaussian = MixtureField(torch.tensor([[m]], dtype=torch.float64), math.sqrt(v), path=GaussianPath(Trigonometric()))
+ gaussian = MixtureField(torch.tensor([[m]], dtype=torch.float64), v, path=GaussianPath(Trigonometric()))
"""

# %% mistake="the integral is the sum from the right"
"""
-     return torch.cat([x[:1], x[0] + h * wave(x, grid)[:-1].cumsum(0)])
+     return torch.cat([x[:1], x[0] + h * wave(x, grid)[1:].cumsum(0)])
"""

# %% mistake="the two components weigh the same"
"""
- arrived = (line.weights * normal.cdf((paths[-1] - line.means.T) / line.std)).sum(dim=1)
+ arrived = normal.cdf((paths[-1] - line.means.T) / line.std).mean(dim=1)
"""

# %% mistake="slopes that close count as slopes that part"
"""
- forecast = math.exp(torch.trapezoid(slopes.amax(dim=(1, 2)), dx=0.01))
+ forecast = math.exp(torch.trapezoid(slopes.abs().amax(dim=(1, 2)), dx=0.01))
"""

# %% mistake="the first difference for the second"
"""
- M = float((exact_paths.diff(n=2, dim=1) * 1000**2).abs().max()) * 1.01  # differences of the exact path, and a margin
+ M = float((exact_paths.diff(n=1, dim=1) * 1000).abs().max()) * 1.01  # differences of the exact path, and a margin
"""

# %% mistake="equal steps for equal cost"
"""
-         found = solve(method, ring.u, few, time_grid(budget // EVALUATIONS[method]))[-1]
+         found = solve(method, ring.u, few, time_grid(budget))[-1]
"""

# %% mistake="coin tosses as large as the step"
"""
-     return torch.cat([torch.zeros(1, count).double(), toss.cumsum(dim=0)]) / math.sqrt(steps)
+     return torch.cat([torch.zeros(1, count).double(), toss.cumsum(dim=0)]) / steps
"""

# %% mistake="the integrand is taken at the right end"
"""
- before = plane.cumsum(dim=0) - plane  # W at the left end of each of 200 parts
+ before = plane.cumsum(dim=0)
"""

# %% mistake="noise of size h in the place of its root"
"""
-     x = x - h * theta * x + g * math.sqrt(h) * torch.randn(x.shape, generator=generator, dtype=x.dtype)
+     x = x - h * theta * x + g * h * torch.randn(x.shape, generator=generator, dtype=x.dtype)
"""

# %% mistake="Langevin's noise without its factor of two"
"""
-         x = x + h * unequal.s(x, 0.99) + math.sqrt(2 * h) * torch.randn(x.shape, generator=generator, dtype=x.dtype)
+         x = x + h * unequal.s(x, 0.99) + math.sqrt(h) * torch.randn(x.shape, generator=generator, dtype=x.dtype)
"""

# %% mistake="the variance shrinks by the factor, not by its square"
"""
-         mean, variance = (1 - theta * h) * mean, (1 - theta * h) ** 2 * variance + g**2 * h
+         mean, variance = (1 - theta * h) * mean, (1 - theta * h) * variance + g**2 * h
"""

# %% mistake="no correction of Itô's in the geometric motion"
"""
- multiplicative_exact = torch.exp((mu - vol**2 / 2) + vol * total)
+ multiplicative_exact = torch.exp(mu + vol * total)
"""

# %% mistake="each number of steps has noise of its own"
"""
-     for k, step in enumerate(dW.reshape(n, -1, paths).sum(dim=1)):
+     other = torch.randn(fine, paths, generator=seeded(n), dtype=torch.float64) / math.sqrt(fine)
+     for k, step in enumerate(other.reshape(n, -1, paths).sum(dim=1)):
"""

# %% mistake="the floor of one of the two sets"
"""
-     floor = 2 / count * float(torch.cdist(reference, reference).mean())  # E|x - x'| (1/N + 1/N)
+     floor = 1 / count * float(torch.cdist(reference, reference).mean())
"""

# %% mistake="a budget of steps, not of evaluations"
"""
-         steps = max(1, budget // EVALUATIONS[method])
+         steps = budget
"""

# %% mistake="the fourth moment over the variance"
"""
-     return float(x.var()), float((x**4).mean() / x.var() ** 2)
+     return float(x.var()), float((x**4).mean() / x.var())
"""
