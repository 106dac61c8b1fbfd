"""Mistakes that the asserts of lecture 09 have to notice; `flowlib course bank lectures/09` tries them."""

# %% mistake="eigenvalues in rising order"
"""
- spectrum, directions = (part.flip(-1) for part in torch.linalg.eigh(covariance))  # falling eigenvalues
+ spectrum, directions = torch.linalg.eigh(covariance)
"""

# %% mistake="encoder and decoder are multiplied in the other order"
"""
-     off = pair.W @ pair.V - directions[:, :k] @ directions[:, :k].T
+     off = pair.V.T @ pair.W.T - directions[:, :k] @ directions[:, :k].T
"""

# %% mistake="the mean is not taken away before the projection"
"""
- centred = held_out.flatten(1).double() - flat.mean(0)
+ centred = held_out.flatten(1).double()
"""

# %% mistake="the score of scaled data without the scale"
"""
-     learned, exact = denoiser_score(denoiser, x, std), t * ring.s(t * x, t)
+     learned, exact = denoiser_score(denoiser, x, std), ring.s(t * x, t)
"""

# %% mistake="the gap is the divergence the other way round"
"""
- gap = (q * (q / posterior).log()).sum(1)
+ gap = (posterior * (posterior / q).log()).sum(1)
"""

# %% mistake="the refund is that of the prior"
"""
- refund = -q[3, choices].log()
+ refund = -prior[choices].log()
"""

# %% mistake="the derivative of the square without its two"
"""
-     by_path = 2 * (eps - centre)
+     by_path = eps - centre
"""

# %% mistake="the score function's estimate is that of the integrand's own gradient"
"""
-     by_score = (eps - centre).square().sum(1, keepdim=True) * eps
+     by_score = (eps - centre).square().sum(1, keepdim=True) * (eps - centre)
"""

# %% mistake="the distortion is divided by the variance, not by twice that"
"""
-         return distortion / (2 * self.std**2) + self.rates().sum()
+         return distortion / self.std**2 + self.rates().sum()
"""

# %% mistake="the rate without the latents' means"
"""
-         return 0.5 * (second + self.log_variance.exp() - 1 - self.log_variance)
+         return 0.5 * (self.log_variance.exp() - 1 - self.log_variance)
"""

# %% mistake="latents are drawn with the variance for a standard deviation"
"""
-     z = x @ vae.V.T + vae.log_variance.exp().sqrt() * torch.randn(len(x), latents, generator=seeded(22)).double()
+     z = x @ vae.V.T + vae.log_variance.exp() * torch.randn(len(x), latents, generator=seeded(22)).double()
"""

# %% mistake="the rate of the linear VAE without its half"
"""
- gaussian = [((0.5 * torch.log(spectrum / w)).clamp(min=0).sum(), torch.minimum(spectrum, w).sum()) for w in water]
+ gaussian = [(torch.log(spectrum / w).clamp(min=0).sum(), torch.minimum(spectrum, w).sum()) for w in water]
"""

# %% mistake="pictures are decoded from the means"
"""
-     decoded = network.decode(draw(mean, log_variance, seeded(5)))
+     decoded = network.decode(mean)
"""

# %% mistake="the covariance's root is not transposed"
"""
-     return (z.mean(0) + torch.randn(count, k, generator=seeded(seed)).double() @ root.T).float()
+     return (z.mean(0) + torch.randn(count, k, generator=seeded(seed)).double() @ root).float()
"""

# %% mistake="the autoencoder's latents are decoded by the VAE"
"""
-     "VAE (KL weight 0.06), N(0, I)": (vaes[0.06], decoded(vaes[0.06], normal_draws)),
+     "VAE (KL weight 0.06), N(0, I)": (vaes[0.06], decoded(vaes[0.06], fitted_draws(plain, 1000, 9))),
"""

# %% mistake="probabilities are given in the place of logits"
"""
- drawn = gumbel_softmax(logits.expand(count, 4), 1.0, hard=True, generator=seeded(11))
+ drawn = gumbel_softmax(logits.softmax(0).expand(count, 4), 1.0, hard=True, generator=seeded(11))
"""

# %% mistake="the softmax's gradient without its mean"
"""
- true = q * (corners - (q * corners).sum())
+ true = q * corners
"""

# %% mistake="the KL term is never left out"
"""
-     "annealed, no KL": {"kl_weight": 0.0},
+     "annealed, no KL": {"kl_weight": 0.1},
"""

# %% mistake="the logits of generated samples have the wrong sign"
"""
-     return float((p * F.logsigmoid(h) + p_G * F.logsigmoid(-h)).sum() * step_size)
+     return float((p * F.logsigmoid(h) + p_G * F.logsigmoid(h)).sum() * step_size)
"""

# %% mistake="the divergence between the two, not to their middle"
"""
- js = 0.5 * float((p * (p / middle).log() + p_G * (p_G / middle).log()).sum() * step_size)
+ js = 0.5 * float((p * (p / p_G).log() + p_G * (p_G / p).log()).sum() * step_size)
"""

# %% mistake="noise of the standard deviation 0.1"
"""
- blur = torch.fft.rfft(torch.fft.ifftshift(normal_density(0, 1.0)))  # noise of standard deviation 1, as a convolution
+ blur = torch.fft.rfft(torch.fft.ifftshift(normal_density(0, 0.1)))
"""

# %% mistake="the two divergences are exchanged"
"""
- likelihood = (p * (p / density).log()).sum(1) * step_size
- reverse = (density * (density / p).log()).sum(1) * step_size
+ reverse = (p * (p / density).log()).sum(1) * step_size
+ likelihood = (density * (density / p).log()).sum(1) * step_size
"""

# %% mistake="the players move one after the other"
"""
-         theta, psi = theta + lr * (1 - judged) * psi, psi - lr * (judged * theta + gamma * psi)
+         theta = theta + lr * (1 - judged) * psi
+         psi = psi - lr * (judged * theta + gamma * psi)
"""

# %% mistake="the penalty's gradient without psi"
"""
-         theta, psi = theta + lr * (1 - judged) * psi, psi - lr * (judged * theta + gamma * psi)
+         theta, psi = theta + lr * (1 - judged) * psi, psi - lr * (judged * theta + gamma)
"""

# %% mistake="precision and recall change places"
"""
-     precision, recall = precision_recall(real, samples)
+     precision, recall = precision_recall(samples, real)
"""
