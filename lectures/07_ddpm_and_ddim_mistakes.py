"""Mistakes that the asserts of lecture 07 have to notice; `flowlib course bank lectures/07` tries them."""

# %% mistake="a step shrinks by 1 - v, without the root"
"""
-     moments = (moments[0] * (1 - float(chain.var[k])) ** 0.5, moments[1] * (1 - chain.var[k]) + chain.var[k])
+     moments = (moments[0] * (1 - float(chain.var[k])), moments[1] * (1 - chain.var[k]) + chain.var[k])
"""

# %% mistake="nats for bits"
"""
-     return float((field.log_prob(x, t, chosen) - field.log_prob(x, t)).mean()) / math.log(2)
+     return float((field.log_prob(x, t, chosen) - field.log_prob(x, t)).mean())
"""

# %% mistake="the posterior one step too late"
"""
- factored = log_density(x_j, posterior(chain, x, z, k, j)) + log_density(x, forward(chain, z, k))
+ factored = log_density(x_j, posterior(chain, x, z, k, j + 1)) + log_density(x, forward(chain, z, k))
"""

# %% mistake="the exact step back weighs by the data's density, not that at step j"
"""
-     log_true = line.log_prob(grid, chain.time(j)) + log_density(x_k, (mean, variance))[:, 0]
+     log_true = line.log_prob(grid, 1.0) + log_density(x_k, (mean, variance))[:, 0]
"""

# %% mistake="the factor of x_0 is not squared in the true variance"
"""
-     return small, small + c**2 * error, 1 - float(chain.abar[k] / chain.abar[j])
+     return small, small + c * error, 1 - float(chain.abar[k] / chain.abar[j])
"""

# %% mistake="the weights of the error of D for those of the noise's"
"""
- weight = (snr[1:-1] / snr[2:] - 1) / 2
+ weight = (snr[1:-1] - snr[2:]) / 2
"""

# %% mistake="the bound without its decoder's spread"
"""
-     decoder = (torch.log(2 * math.pi * last) + m[1] / last) / 2
+     decoder = torch.log(2 * math.pi * last) / 2
"""

# %% mistake="the model's covariance without its factor"
"""
-         p[j, j] = f**2 * p[k, k] + chain.var[k]
+         p[j, j] = p[k, k] + chain.var[k]
"""

# %% mistake="the noise's factor in algorithm 2 without its root"
"""
- paper = (x - chain.var[700] / (1 - chain.abar[700]).sqrt() * eps) / (1 - chain.var[700]).sqrt()
+ paper = (x - chain.var[700] / (1 - chain.abar[700]) * eps) / (1 - chain.var[700]).sqrt()
"""

# %% mistake="the floor counts one of the two sets"
"""
- floor = 2 / count * float((data - data.roll(1, 0)).norm(dim=1).mean())
+ floor = 1 / count * float((data - data.roll(1, 0)).norm(dim=1).mean())
"""

# %% mistake="the rate's half is missing in the limit"
"""
- errors = [float((Chain.linear(T).alpha(t) - VP().alpha(t)).abs().max()) for T in (500, 1000, 2000, 4000)]
+ errors = [float((Chain.linear(T).alpha(t) - VP().alpha(t) ** 2).abs().max()) for T in (500, 1000, 2000, 4000)]
"""

# %% mistake="the noise that stays makes no room for the new"
"""
-         keep = (1 - chain.abar[j] - sigma2).sqrt() / (1 - chain.abar[k]).sqrt()
+         keep = (1 - chain.abar[j]).sqrt() / (1 - chain.abar[k]).sqrt()
"""

# %% mistake="the network is asked in the solver's coordinates"
"""
-     x = x + (sigma[i + 1] - sigma[i]) * ring.noise(x * chain.alpha(times[i]), times[i])
+     x = x + (sigma[i + 1] - sigma[i]) * ring.noise(x, times[i])
"""

# %% mistake="the way back takes more steps than the way there"
"""
-     returned = sample_ddim(ring, encode_ddim(ring, points, steps=n), steps=n)
+     returned = sample_ddim(ring, latents, steps=n)
"""

# %% mistake="accuracy by labels that were not asked for"
"""
-         accuracy = float((reader(samples).argmax(1) == y_many).double().mean())
+         accuracy = float((reader(samples).argmax(1) == y_many.roll(1)).double().mean())
"""

# %% mistake="a straight line for the great circle"
"""
-     return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
+     return (1 - share) * a + share * b
"""
