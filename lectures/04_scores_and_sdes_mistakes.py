"""Mistakes that the asserts of lecture 04 have to notice; `flowlib course bank lectures/04` tries them."""

# %% mistake="the spread of the target is left out of the denoising loss"
"""
-     square = (guess[:, None] - mean_score) ** 2 + square_score - mean_score**2
+     square = (guess[:, None] - mean_score) ** 2
"""

# %% mistake="the divergence counts once in the implicit loss"
"""
-     implicit = ((guess**2 + 2 * slope) * density).sum() * cell
+     implicit = ((guess**2 + slope) * density).sum() * cell
"""

# %% mistake="the wrong sign in the path's weight"
"""
-     omega = dalpha * beta - alpha * dbeta
-     u, s = field.u(x, t), field.s(x, t)
+     omega = dalpha * beta + alpha * dbeta
+     u, s = field.u(x, t), field.s(x, t)
"""

# %% mistake="half of the score's drift is missing"
"""
-         return (ring.u(x[None], t) + share * g2 / 2 * ring.s(x[None], t))[0] * p(x, t)
+         return (ring.u(x[None], t) + share * g2 / 4 * ring.s(x[None], t))[0] * p(x, t)
"""

# %% mistake="the noise spreads twice as fast"
"""
-     return ((rate + divergence - g2 / 2 * laplacian) / p(x, t)).detach()
+     return ((rate + divergence - g2 * laplacian) / p(x, t)).detach()
"""

# %% mistake="the field of other data is followed"
"""
-     x = sample_sde(ring, start, steps=steps, generator=seeded(14), **choice)
+     wider = MixtureField(1.1 * ring.means, ring.std, ring.weights)
+     x = sample_sde(wider, start, steps=steps, generator=seeded(14), **choice)
"""

# %% mistake="samples are a tenth too wide"
"""
-     found, level = energy_distance(x, data), ring.log_prob(x, 1.0)
+     found, level = energy_distance(x, data), ring.log_prob(1.1 * x, 1.0)
"""

# %% mistake="Anderson's g without its root"
"""
-     return torch.sqrt(vp.rate_min + (1 - t) * (vp.rate_max - vp.rate_min))
+     return vp.rate_min + (1 - t) * (vp.rate_max - vp.rate_min)
"""

# %% mistake="the last step lands on D everywhere"
"""
-         distance_to_data(steps, denoise_last=False),
-         distance_to_data(steps),
+         distance_to_data(steps),
+         distance_to_data(steps),
"""

# %% mistake="the recursion forgets the drift that the noise asks for"
"""
-         factor = 1 - 1 / k - g**2 / (2 * k**2 * h)
+         factor = 1 - 1 / k
"""

# %% mistake="the rate without the Fisher divergence"
"""
-         course.append((kl, eta * beta * omega * fisher))
+         course.append((kl, eta * beta * omega))
"""

# %% mistake="half of the rate"
"""
-         course.append((kl, eta * beta * omega * fisher))
+         course.append((kl, eta * beta * omega * fisher / 2))
"""

# %% mistake="exact data in the SDE's place"
"""
-     "SDE, η = 4": lambda n, g: sample_sde(line, start, steps=n, eta=4.0, generator=g),
+     "SDE, η = 4": lambda n, g: line.sample(count, g)[0],
"""

# %% mistake="the late mistake is an early one"
"""
- windows = {"early, t < 0.5": (0.0, 0.5), "late, t ≥ 0.8": (0.8, 1.0), "always": (0.0, 1.0)}
+ windows = {"early, t < 0.5": (0.0, 0.5), "late, t ≥ 0.8": (0.0, 0.2), "always": (0.0, 1.0)}
"""
