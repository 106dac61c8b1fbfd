"""Mistakes that the asserts of lecture 02 have to notice; `flowlib course bank lectures/02` tries them."""

# %% mistake="the velocity is asked at the data, not at the sample"
"""
-     error = (p.velocity(x, z, t) - derivative).abs().max() / derivative.abs().max()
+     error = (p.velocity(z, z, t) - derivative).abs().max() / derivative.abs().max()
"""

# %% mistake="the posterior without the weights of the data"
"""
-     return torch.softmax(log_likelihood + finite.weights.log(), dim=1)
+     return torch.softmax(log_likelihood, dim=1)
"""

# %% mistake="the derivative of the density for that of its logarithm"
"""
-     dx, dt = torch.autograd.grad(field.log_prob(x, t).sum(), (x, t))
+     dx, dt = torch.autograd.grad(field.log_prob(x, t).exp().sum(), (x, t))
"""

# %% mistake="the conditional path runs from data to noise"
"""
- straight = torch.stack([path.sample(z, float(t), noise) for t in clock])  # (41, count, 2)
+ straight = torch.stack([path.sample(z, 1 - float(t), noise) for t in clock])  # (41, count, 2)
"""

# %% mistake="the score is added and not turned"
"""
-         return super().u(x, t, y) + self.s(x, t, y) @ turn.T
+         return super().u(x, t, y) + self.s(x, t, y)
"""

# %% mistake="the drift has all of g squared"
"""
-         return field.u(x, t) + share * g2 / 2 * field.s(x, t)
+         return field.u(x, t) + share * g2 * field.s(x, t)
"""

# %% mistake="the Laplacian of the logarithm for that of the density"
"""
-     spread = g2 / 2 * (laplacian + (score**2).sum(1))
+     spread = g2 / 2 * laplacian
"""

# %% mistake="the score's determinant divides by the variance"
"""
-     table = {"data": -b, "noise": a, "velocity": a * db - b * da, "score": -a / b, "v": a**2 + b**2}
+     table = {"data": -b, "noise": a, "velocity": a * db - b * da, "score": -a / b**2, "v": a**2 + b**2}
"""

# %% mistake="the conversion is asked where it is possible"
"""
-     path.convert(noise, noise, 0.0, "noise", "data")
+     path.convert(noise, noise, 0.5, "noise", "data")
"""

# %% mistake="rounding is looked for in float64"
"""
-     z32, eps32 = z.float(), noise.float()
-     t = torch.tensor(t, dtype=torch.float32)
+     z32, eps32 = z, noise
+     t = torch.tensor(t)
"""

# %% mistake="the time's density on the fine grid is left out"
"""
-     integral = float(torch.trapezoid(energy * s * (1 - s), exponent))
+     integral = float(torch.trapezoid(energy, exponent))
"""

# %% mistake="the scale's own rate is left out"
"""
-     right = c[:, None] * other.u(here, t) + dc[:, None] * here
+     right = c[:, None] * other.u(here, t)
"""

# %% mistake="times are matched by the signal, not by the ratio of the levels"
"""
- matched = a / (a + b)  # the same noise levels on the linear path
+ matched = a
"""

# %% mistake="the covariance without the square of beta"
"""
- covariance = (1 - t) ** 2 / t * denoiser(centre[0])
+ covariance = (1 - t) / t * denoiser(centre[0])
"""

# %% mistake="Euler's time is that of the step's end"
"""
-         t = i / steps
-         x = x + h * (z - (x - t * z) / (1 - t))
+         t = (i + 0.5) / steps
+         x = x + h * (z - (x - t * z) / (1 - t))
"""

# %% mistake="the width is added under the root"
"""
- split = 1 / (1 + math.sqrt(m**2 - sigma**2)) if m > sigma else None  # None: it never splits
+ split = 1 / (1 + math.sqrt(m**2 + sigma**2)) if m > sigma else None  # None: it never splits
"""
