"""Mistakes that the asserts of lecture 12 have to notice; `flowlib course bank lectures/12` tries them."""

# %% mistake="the logarithm of h has the wrong sign"
"""
-     return tilted.log_prob(x, t) - field.log_prob(x, t)
+     return field.log_prob(x, t) - tilted.log_prob(x, t)
"""

# %% mistake="standard deviations in the place of variances in the tilted mixture"
"""
-     variance, dim = field.std**2, field.means.shape[1]
+     variance, dim = field.std, field.means.shape[1]
"""

# %% mistake="the components of the tilted mixture keep their weights"
"""
-     return MixtureField(means, narrow.sqrt(), (field.weights.log() + size).softmax(0))
+     return MixtureField(means, narrow.sqrt(), field.weights)
"""

# %% mistake="draws are weighed by the signal's share of the variance"
"""
- likely = (-(few[:, None] - t * many).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)  # p(z|x), by weights of draws
+ likely = (-(few[:, None] - t * many).square().sum(2) / (2 * (1 - t))).softmax(1)  # p(z|x), by weights of draws
"""

# %% mistake="the energy is looked at where x over alpha is"
"""
-             "at D": gradient(lambda x, t=t, one=energy: one(field.data(x, t)), x),
+             "at D": gradient(lambda x, t=t, one=energy: one(x / t), x),
"""

# %% mistake="the exact gradient is that of the clean energy"
"""
-         exact = gradient(lambda x, t=t, one=exact_energy: one(x, t), x)
+         exact = gradient(lambda x, t=t, one=energy: one(x), x)
"""

# %% mistake="the posterior's variance is the noise's share alone"
"""
-     c = one.std[0] ** 2 * (1 - t) ** 2 / (t**2 * one.std[0] ** 2 + (1 - t) ** 2)
+     c = (1 - t) ** 2 / (t**2 * one.std[0] ** 2 + (1 - t) ** 2)
"""

# %% mistake="a linear energy moves a component by its standard deviation"
"""
-         field.means + field.std[:, None] ** 2, field.std, field.weights * (field.means[:, 0] + field.std**2 / 2).exp()
+         field.means + field.std[:, None], field.std, field.weights * (field.means[:, 0] + field.std**2 / 2).exp()
"""

# %% mistake="the second-order term without the energy's curvature"
"""
-     term = (slope[:, None] @ covariance @ slope[:, :, None])[:, 0, 0] / 2 - trace / (2 * rho**2)
+     term = (slope[:, None] @ covariance @ slope[:, :, None])[:, 0, 0] / 2
"""

# %% mistake="the derivative of D is the covariance itself"
"""
-     pulled = t / (1 - t) ** 2 * (covariance @ slope[:, :, None])[:, :, 0]
+     pulled = (covariance @ slope[:, :, None])[:, :, 0]
"""

# %% mistake="the reader is trained on clean points"
"""
-             seen = torch.cat([x, t[:, None]], dim=1).float()
+             seen = torch.cat([z, t[:, None]], dim=1).float()
"""

# %% mistake="the exact gradient guides twice as strongly"
"""
-     "exact": EnergyGuidance(field, Energy(log_h)),
+     "exact": EnergyGuidance(field, Energy(log_h), scale=2.0),
"""

# %% mistake="the pulls of the two distances are exchanged"
"""
- for pull, length in zip(pulls.values(), (angles, angles.sin()), strict=True):
+ for pull, length in zip(pulls.values(), (angles.sin(), angles), strict=True):
"""

# %% mistake="the whole chord in the arcsine"
"""
- assert (2 * torch.asin((circle - pole).norm(dim=1) / 2).square() - angles.square() / 2).abs().max() < 1e-9  # (5)
+ assert (2 * torch.asin((circle - pole).norm(dim=1)).square() - angles.square() / 2).abs().max() < 1e-9  # (5)
"""

# %% mistake="other draws for each of the views that are to be linear"
"""
- mixed = [plain.views(image, 0.2, 16, seeded(2)) for image in (x, y, 0.3 * x - 2 * y)]
+ mixed = [plain.views(image, 0.2, 16, seeded(i)) for i, image in enumerate((x, y, 0.3 * x - 2 * y))]
"""

# %% mistake="shifts one way only"
"""
- moved = torch.stack([pattern.roll((-i, -j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)]).mean(0)
+ moved = torch.stack([pattern.roll((-i, -j), (0, 1)) for i in (0, 1, 2) for j in (0, 1, 2)]).mean(0)
"""

# %% mistake="nu is the second moment, not the variance"
"""
-     nu[name] = size / signal - 1
+     nu[name] = size / signal
"""

# %% mistake="products of gradients with themselves count as agreement"
"""
-     return float((gram.sum() - gram.trace()) / (len(gram) * (len(gram) - 1))), float(gram.diagonal().mean())
+     return float(gram.mean()), float(gram.diagonal().mean())
"""

# %% mistake="the last step of a budget is left out"
"""
-     return [(1 - k / n) / k for k in range(1, n)]
+     return [(1 - k / n) / k for k in range(1, n - 1)]
"""

# %% mistake="the move of a bounded step without what it has come from"
"""
- assert (step - limit * (s - t) * (1 - t) / t).abs().max() < 1e-9
+ assert (step - limit * (s - t) / t).abs().max() < 1e-9
"""

# %% mistake="the kernel of moments without its square"
"""
- kernels = [(p @ q.T).square().mean() for p, q in ((a, a), (a, b), (b, b))]
+ kernels = [(p @ q.T).mean() for p, q in ((a, a), (a, b), (b, b))]
"""
