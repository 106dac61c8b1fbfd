"""Mistakes that the asserts of lecture 10 have to notice; `flowlib course bank lectures/10` tries them."""

# %% mistake="the directions of least variance are kept"
"""
-     basis = vectors[:, -k:]
+     basis = vectors[:, :k]
"""

# %% mistake="the mean is not taken away before the projection"
"""
-     back = (mean + (test_flat - mean) @ basis @ basis.T).reshape(held_out.shape)
+     back = (mean + test_flat @ basis @ basis.T).reshape(held_out.shape)
"""

# %% mistake="attention's linear layers grow with the square of the places"
"""
-     linear = 3 * 2 * side**2 * 32 * 4 * 32  # three blocks: q, k, v and out, 32 x 32 each, at every place
+     linear = 3 * 2 * side**4 * 32 * 4 * 32
"""

# %% mistake="a multiplication with its addition is one operation"
"""
-     linear = 3 * 2 * side**2 * 32 * 4 * 32  # three blocks: q, k, v and out, 32 x 32 each, at every place
+     linear = 3 * side**2 * 32 * 4 * 32
"""

# %% mistake="the KL divergence is left in nats"
"""
-         bits = float(kl_to_normal(mean, log_variance).mean()) / math.log(2)
+         bits = float(kl_to_normal(mean, log_variance).mean())
"""

# %% mistake="the Fréchet distance of the real images to themselves"
"""
-         "Fréchet": frechet_distance(features, real_features),
+         "Fréchet": frechet_distance(real_features, real_features),
"""

# %% mistake="the two coordinates of a point are two points"
"""
- grid = points.T.reshape(1, 2, 32, 32)  # as if they were the pixels of a latent
+ grid = points.reshape(1, 2, 32, 32)
"""

# %% mistake="the latent's own gradient, not the straight-through one"
"""
-     e.sum().backward()
- assert torch.equal(z.grad, torch.ones_like(z))
+     e.square().sum().backward()
+ assert torch.equal(z.grad, torch.ones_like(z))
"""

# %% mistake="the counts are summed, the points averaged"
"""
-         number = rate * number + (1 - rate) * chosen.sum(0)
+         number = rate * number + chosen.sum(0)
"""

# %% mistake="idle vectors are never restarted"
"""
-             idle = number < 0.5
+             idle = number < 0
"""

# %% mistake="every number of a latent is a symbol"
"""
-         bits = mean[0, 0].numel() * math.log2(len(autoencoder.codes.codebook))
+         bits = mean[0].numel() * math.log2(len(autoencoder.codes.codebook))
"""

# %% mistake="the entropy of the symbols in nats"
"""
- entropy = float(torch.special.entr(frequency).sum()) / math.log(2)
+ entropy = float(torch.special.entr(frequency).sum())
"""

# %% mistake="the clock of scaled data without its scale"
"""
-     assert torch.allclose(scaled.data(x, t) / a, exact.data(x / s, a * t / s), atol=1e-10)  # the proposition
+     assert torch.allclose(scaled.data(x, t) / a, exact.data(x / s, t / s), atol=1e-10)  # the proposition
"""

# %% mistake="errors are not divided by the scale"
"""
-         found.append(float((sample_ode(scaled, noise, steps=steps) / a - truth).square().mean().sqrt()))
+         found.append(float((sample_ode(scaled, noise, steps=steps) - truth).square().mean().sqrt()))
"""

# %% mistake="the latents are drawn with the variance for a standard deviation"
"""
- drawn_std = float(draw_latent(mean, log_variance, torch.Generator().manual_seed(3)).std())
+ drawn_std = float(draw_latent(mean, 2 * log_variance, torch.Generator().manual_seed(3)).std())
"""

# %% mistake="the mask stays while the words change places"
"""
- assert torch.allclose(layer(pixels, context[:, order], mask[:, order]), out, atol=1e-5)  # the layer: a bag of words
+ assert torch.allclose(layer(pixels, context[:, order], mask), out, atol=1e-5)  # the layer: a bag of words
"""

# %% mistake="padding is heard"
"""
-         h = h + self.read(self.norms[1](h), context, mask)  # cross-attention
+         h = h + self.read(self.norms[1](h), context)  # cross-attention
"""

# %% mistake="the block's way around is missing"
"""
-         return x + self.leave(h).transpose(1, 2).reshape(x.shape)
+         return self.leave(h).transpose(1, 2).reshape(x.shape)
"""

# %% mistake="no self-attention"
"""
-         h = h + self.look(self.norms[0](h))  # self-attention
"""

# %% mistake="a hidden text loses its digit, not its weight"
"""
- texts = [text.split()[-1] if text in HIDDEN else text for text in texts]
+ texts = [text.split()[0] if text in HIDDEN else text for text in texts]
"""

# %% mistake="the thirds are those of all digits together"
"""
-     low, high = ink[members].quantile(torch.tensor([1 / 3, 2 / 3]))
+     low, high = ink.quantile(torch.tensor([1 / 3, 2 / 3]))
"""

# %% mistake="thin is more ink"
"""
- ink = ((images + 1) / 2).mean((1, 2, 3))
+ ink = ((1 - images) / 2).mean((1, 2, 3))
"""

# %% mistake="guided by another convention"
"""
- by_hand = (1 - 3.0) * latent.u(x, 0.4, vocabulary.encode(["", ""])) + 3.0 * latent.u(x, 0.4, y)
+ by_hand = (1 + 3.0) * latent.u(x, 0.4, y) - 3.0 * latent.u(x, 0.4, vocabulary.encode(["", ""]))
"""

# %% mistake="the sweep has one scale"
"""
-     made = draw(wanted, scale=w, steps=6, seed=9).clamp(-1, 1)
+     made = draw(wanted, steps=6, seed=9).clamp(-1, 1)
"""

# %% mistake="the eight samples have one seed"
"""
-     draws = [run.sample(guide, seed=k, steps=2 if fast else 6) for k in range(8)]
+     draws = [run.sample(guide, seed=0, steps=2 if fast else 6) for k in range(8)]
"""

# %% mistake="the other images are the same"
"""
- rest = held_out[half:][: len(samples)]
+ rest = held_out[:half]
"""
