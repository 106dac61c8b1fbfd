"""Mistakes that the asserts of lecture 08 have to notice; `flowlib course bank lectures/08` tries them."""

# %% mistake="the logarithm of the noise has the wrong sign in (1)"
"""
-     return (log_abar.exp() * (square - 1) - torch.log(-torch.expm1(log_abar))) / (2 * math.log(2))
+     return (log_abar.exp() * (square - 1) + torch.log(-torch.expm1(log_abar))) / (2 * math.log(2))
"""

# %% mistake="the cosine chain without its offset"
"""
- f = torch.cos((k / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
+ f = torch.cos(k / 1000 * math.pi / 2) ** 2
"""

# %% mistake="pixel values lie 1/255 apart"
"""
- value = 2 / 255
+ value = 1 / 255
"""

# %% mistake="the factor of x_0 is not squared in the best variance"
"""
-     return (small + c**2 * error).squeeze()
+     return (small + c * error).squeeze()
"""

# %% mistake="what D does not know of a Gaussian, without its variance"
"""
-     gaussian = [s**2 * (1 - abar[k]) / (abar[k] * s**2 + 1 - abar[k]) for k in ks]
+     gaussian = [(1 - abar[k]) / (abar[k] * s**2 + 1 - abar[k]) for k in ks]
"""

# %% mistake="the divergence the other way round"
"""
- cost = torch.distributions.kl_divergence(torch.distributions.Normal(true_mean, true_variance.sqrt()), models)[0]
+ cost = torch.distributions.kl_divergence(models, torch.distributions.Normal(true_mean, true_variance.sqrt()))[0]
"""

# %% mistake="a bin is as wide as half a pixel value"
"""
-         density = torch.distributions.Normal(mean, std).log_prob(values) + math.log(2 / 255)
+         density = torch.distributions.Normal(mean, std).log_prob(values) + math.log(1 / 255)
"""

# %% mistake="the exact variance with the factor of x_0 not squared"
"""
-         return mean, small + c**2 * posterior_variance(field, x, chain, k)
+         return mean, small + c * posterior_variance(field, x, chain, k)
"""

# %% mistake="the derivative of D forgets that the signal has shrunk"
"""
-     return (1 - chain.abar[k]) / chain.abar[k].sqrt() * slope
+     return (1 - chain.abar[k]) * slope
"""

# %% mistake="the entropy in nats"
"""
-     entropy = -line.log_prob(z, 1.0) / math.log(2)
+     entropy = -line.log_prob(z, 1.0)
"""

# %% mistake="the last step's variance is a small one after all"
"""
-         "large, the last step too": partial(reverse, line, chain, variance="large"),
+         "large, the last step too": fixed_reverse(line, chain, "large"),
"""

# %% mistake="the halves of the network's output are exchanged"
"""
- head = model.net.net.head.weight.grad  # (2 channels, ...): the noise, then lambda
+ head = model.net.net.head.weight.grad.flip(0)
"""

# %% mistake="blank paper and ink are exchanged"
"""
- blank, stroke = (float(shares[4][part].mean()) for part in (~ink, ink))
+ blank, stroke = (float(shares[4][part].mean()) for part in (ink, ~ink))
"""

# %% mistake="the resampler is told the squares of the losses"
"""
-         sampler.update(torch.arange(1, terms.shape[1] + 1), row)
+         sampler.update(torch.arange(1, terms.shape[1] + 1), row.square())
"""

# %% mistake="draws by importance without their weights"
"""
- estimates = {"mean": len(m) * weights * mean[k - 1], "second moment": (len(m) * weights) ** 2 * m[k - 1]}
+ estimates = {"mean": len(m) * mean[k - 1], "second moment": (len(m) * weights) ** 2 * m[k - 1]}
"""

# %% mistake="the history counts from the noisy end"
"""
-     seen = seen.flip(1)[:, :200]  # k = 1 first, as in training: nothing is clipped
+     seen = seen[:, :200]
"""

# %% mistake="the decoder has the variance of the step before"
"""
-         return posterior(chain, x, D, k, j) if j else (D, (1 - chain.abar[1]) / chain.abar[1])
+         return posterior(chain, x, D, k, j) if j else (D, posterior(chain, x, D, 2, 1)[1])
"""

# %% mistake="each schedule has noise of its own"
"""
-     limit[name] = continuous_bound(line, z, low=low, high=high, generator=seeded(13)).sum(1)
+     limit[name] = continuous_bound(line, z, low=low, high=high, generator=seeded(13 + len(limit))).sum(1)
"""

# %% mistake="the bound without steps lacks its decoder"
"""
-     limit[name] = continuous_bound(line, z, low=low, high=high, generator=seeded(13)).sum(1)
+     limit[name] = continuous_bound(line, z, low=low, high=high, generator=seeded(13))[:, :-1].sum(1)
"""

# %% mistake="bins half as wide"
"""
- inside = (torch.arange(4001, dtype=torch.float64) - 2000) / 2000.5 * delta  # the middles of 4001 parts of a bin
+ inside = (torch.arange(4001, dtype=torch.float64) - 2000) / 2000.5 * delta / 2
"""

# %% mistake="the weights of the values are those before x is seen"
"""
-     found = (torch.softmax(likely.log() + log_density, dim=1) * means).sum(1)
+     found = (likely * means).sum(1)
"""

# %% mistake="the pixel's probability is that of half of its bin"
"""
-     whole = -float((law.cdf(torch.tensor(delta)) - law.cdf(torch.tensor(-delta))).log2())
+     whole = -float((law.cdf(torch.tensor(delta)) - law.cdf(torch.tensor(0.0))).log2())
"""

# %% mistake="the noise from a velocity, without the signal level"
"""
-     guess = x - alpha * bin_posterior(x, torch.zeros(1).double(), delta, alpha, 1 - alpha)[1]
+     guess = x - bin_posterior(x, torch.zeros(1).double(), delta, alpha, 1 - alpha)[1]
"""

# %% mistake="the log SNR of a time is its logit"
"""
-     later = 1 - float(torch.tensor(edge / 2).double().sigmoid())
+     later = 1 - float(torch.tensor(edge).double().sigmoid())
"""

# %% mistake="the second network has seen all times"
"""
-         "digits", name="digits-even", time="logit-uniform", time_high=4.0, measure="noise", **short
+         "digits", name="digits-even", time="logit-uniform", time_high=11.0, measure="noise", **short
"""

# %% mistake="the area in nats"
"""
- dims, unit = pixels[0].numel(), 2 * math.log(2)
+ dims, unit = pixels[0].numel(), 2
"""

# %% mistake="a shear in the place of the rotation"
"""
-         return (alpha - beta) / (alpha**2 + beta**2) * x + self.turn * torch.stack([-x[:, 1], x[:, 0]], dim=1)
+         return (alpha - beta) / (alpha**2 + beta**2) * x + self.turn * torch.stack([x[:, 1], x[:, 0]], dim=1)
"""

# %% mistake="the error of the noise is that of the velocity"
"""
- paid = Turned.turn**2 * alpha**2 * (alpha**2 + (1 - alpha) ** 2)
+ paid = Turned.turn**2 * (alpha**2 + (1 - alpha) ** 2)
"""
