"""Mistakes that the asserts of lecture 03 have to notice; `flowlib course bank lectures/03` tries them."""

# %% mistake="the exact field is that of smoothed data"
"""
- memory = MixtureField(training_set, 0.0)  # the exact velocity when the data are these 200 points and nothing else
+ memory = MixtureField(training_set, 0.05)
"""

# %% mistake="the posterior forgets the square of beta"
"""
-     posterior = torch.softmax(-((here - t * z) ** 2).sum(1) / (2 * (1 - t) ** 2), dim=0)
+     posterior = torch.softmax(-((here - t * z) ** 2).sum(1) / (2 * (1 - t)), dim=0)
"""

# %% mistake="new noise for the target"
"""
-     for target, gradients in ((z - noise, conditional), (field.u(x, t), marginal)):  # linear path: u_t(x|z) = z - eps
+     other = torch.randn(z.shape, generator=g, dtype=torch.float64)
+     for target, gradients in ((z - other, conditional), (field.u(x, t), marginal)):
"""

# %% mistake="a standard deviation in place of the standard error of a mean"
"""
- standard_error = difference.std(0) / math.sqrt(len(difference))
+ standard_error = difference.std(0)
"""

# %% mistake="the path's weight is not squared in the floor"
"""
-     return omega**2 / schedule.alpha(t) * div / x.shape[1]
+     return omega / schedule.alpha(t) * div / x.shape[1]
"""

# %% mistake="the variance of eight means is estimated without bias"
"""
- data_variance = float(means.var(0, correction=0).mean()) + 0.25**2
+ data_variance = float(means.var(0).mean()) + 0.25**2
"""

# %% mistake="all pairs are as likely, whatever x is"
"""
-     likelihood = float(torch.exp(-0.5 * ((x - 0.4 * few[i]) / 0.6).square().sum()))  # of x being made of z_0
+     likelihood = 1.0
"""

# %% mistake="the weight divides by alpha"
"""
-             weight = (path.delta(measure, t) / schedule.beta(t)) ** 2
+             weight = (path.delta(measure, t) / schedule.alpha(t)) ** 2
"""

# %% mistake="the constant C is summed over components"
"""
- level = sum(float(conditional_error(field, z, s, noise)[0].mean()) for s in t) / len(t)
+ level = 2 * sum(float(conditional_error(field, z, s, noise)[0].mean()) for s in t) / len(t)
"""

# %% mistake="one step more than is said"
"""
-             table[name] = [energy_distance(sample_ode(f, begin, steps=n, method="euler"), target) for n in counts]
+             table[name] = [energy_distance(sample_ode(f, begin, steps=n + 1, method="euler"), target) for n in counts]
"""

# %% mistake="the independent cost is that of one component"
"""
- unpaired = 2 * (1 + data_variance)  # E|z - eps|^2 when they are independent; both have mean 0
+ unpaired = 1 + data_variance  # E|z - eps|^2 when they are independent; both have mean 0
"""

# %% mistake="the variance grows at the rate of the standard deviation"
"""
-     variance += ((2 * (0.5 - 2) / (0.5 * t + 1 - t)) * variance + 2 * (1 - t)) / 10_000
+     variance += (((0.5 - 2) / (0.5 * t + 1 - t)) * variance + 2 * (1 - t)) / 10_000
"""

# %% mistake="late times by a distribution function that is not theirs"
"""
-     return ((1 + 8 * independent_times(count, generator)).sqrt() - 1) / 2
+     return independent_times(count, generator).sqrt()
"""

# %% mistake="the second slope of Heun is evaluated at the first place"
"""
-             slope = (slope + (ahead - denoise(ahead, later)) / later) / 2
+             slope = (slope + (ahead - denoise(x, later)) / later) / 2
"""

# %% mistake="the board's density counts the squares and not their area"
"""
- truth = ((cell.sum(1) % 2 == 0) & ((cell >= 0) & (cell < 4)).all(1)).float() / 6
+ truth = ((cell.sum(1) % 2 == 0) & ((cell >= 0) & (cell < 4)).all(1)).float() / 8
"""

# %% mistake="the diagonal is left in the variance of signs"
"""
- off = 2 * (sym**2).sum((1, 2)) - 2 * (torch.diagonal(sym, dim1=1, dim2=2) ** 2).sum(1)
+ off = 2 * (sym**2).sum((1, 2))
"""

# %% mistake="the posterior over images forgets a factor of two"
"""
-         p = torch.softmax(-torch.cdist(x, t * z).square() / (2 * (1 - t) ** 2), dim=1)
+         p = torch.softmax(-torch.cdist(x, t * z).square() / (1 - t) ** 2, dim=1)
"""

# %% mistake="the bound has the level of noise without its square"
"""
-         least.append(math.log2(len(z)) - 0.5 * float(torch.log2(1 + spectrum / sigma**2).sum()))
+         least.append(math.log2(len(z)) - 0.5 * float(torch.log2(1 + spectrum / sigma).sum()))
"""

# %% mistake="the exact field of the held-out digits themselves"
"""
- closed_form = EmpiricalField(train.images, train.labels, run.module.path)
+ closed_form = EmpiricalField(held_out.images, held_out.labels, run.module.path)
"""

# %% mistake="the switch is the wrong way round"
"""
-     switched = Switched(closed_form, run.module, start) if start else run.module
+     switched = Switched(run.module, closed_form, start) if start else run.module
"""

# %% mistake="samples are held against themselves"
"""
-     found = data_copying(x, held_out.images, train.images, (y, held_out.labels, train.labels))
+     found = data_copying(x, x, train.images, (y, y, train.labels))
"""

# %% mistake="the datum is left out where it should be in sight, and in sight where it should be left out"
"""
-             own = torch.eye(len(z), dtype=torch.bool) if honest else None
+             own = None if honest else torch.eye(len(z), dtype=torch.bool)
"""

# %% mistake="new digits are looked up among themselves"
"""
-         wrong = [a * x + b * recalled(x, data, t) + c - z for x, data, z in zip(new, classes, held, strict=True)]
+         wrong = [a * x + b * recalled(x, data, t) + c - z for x, data, z in zip(new, held, held, strict=True)]
"""
