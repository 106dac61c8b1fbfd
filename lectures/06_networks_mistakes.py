"""Mistakes that the asserts of lecture 06 have to notice; `flowlib course bank lectures/06` tries them."""

# %% mistake="every time is as likely at every place"
"""
-     posterior = torch.stack([field.log_prob(x, t) for t in clock]).softmax(0)  # (60, B)
+     posterior = torch.full((60, len(x)), 1 / 60)
"""

# %% mistake="sines alone"
"""
-     return torch.cat([angle.sin(), angle.cos()], dim=1)
+     return torch.cat([angle.sin(), angle.sin()], dim=1)
"""

# %% mistake="whole radians in place of whole turns"
"""
-     frequencies = 2 * torch.pi * rounding(TimeEmbedding(4, features=64, fastest=100.0).frequencies / (2 * torch.pi))
+     frequencies = rounding(TimeEmbedding(4, features=64, fastest=100.0).frequencies)
"""

# %% mistake="features are counted in the place of frequencies"
"""
-     reach[fastest, count] = min(fastest, 1 / (fastest ** (1 / (count // 2 - 1)) - 1))
+     reach[fastest, count] = min(fastest, 1 / (fastest ** (1 / (count - 1)) - 1))
"""

# %% mistake="the times line up with the height"
"""
- wrong, right = images * t, images * t[:, None, None, None]
+ wrong, right = images * t, images * t[:, None]
"""

# %% mistake="a layer's own stride counts for its own window"
"""
-         field, step = field + (kernel - 1) * step, step * stride
+         field, step = field + (kernel - 1) * step * stride, step * stride
"""

# %% mistake="the skips are never cut"
"""
-             kept.append(h if self.skips else torch.zeros_like(h))
+             kept.append(h)
"""

# %% mistake="the head is not on the bill"
"""
-         "stem and head": parts["UNet.stem"] + parts["UNet.head"],
+         "stem and head": parts["UNet.stem"],
"""

# %% mistake="alpha is missing above a pixel's gate"
"""
-     return t * variance / (t**2 * variance + (1 - t) ** 2)
+     return variance / (t**2 * variance + (1 - t) ** 2)
"""

# %% mistake="the gradient of the first step is looked at once more"
"""
- torch.optim.SGD(model.parameters(), lr=0.1).step()
- model.zero_grad()
+ model.zero_grad()
"""

# %% mistake="logits are divided by the root of the token's width"
"""
-     weights = (q @ k.transpose(2, 3) / (dim // layer.heads) ** 0.5).softmax(dim=3)
+     weights = (q @ k.transpose(2, 3) / dim**0.5).softmax(dim=3)
"""

# %% mistake="logits are divided by d, not by its root"
"""
-         float((-(p := (logits / s).softmax(1)) * p.clamp_min(1e-30).log()).sum(1).mean().exp()) for s in (1, d**0.5)
+         float((-(p := (logits / s).softmax(1)) * p.clamp_min(1e-30).log()).sum(1).mean().exp()) for s in (1, d)
"""

# %% mistake="positions are normalised over the patches"
"""
- similarity = F.normalize(table, dim=1) @ F.normalize(table, dim=1).T
+ similarity = F.normalize(table, dim=0) @ F.normalize(table, dim=0).T
"""

# %% mistake="the layer behind the heads is left out of attention's cost"
"""
-     products[level] = ((with_it - without) / layers - 4 * 2 * places * width**2) / width  # less q, k, v and out
+     products[level] = ((with_it - without) / layers - 3 * 2 * places * width**2) / width  # less q, k, v and out
"""

# %% mistake="the weights stay as they begin"
"""
-     p.copy_(0.1 * torch.randn(p.shape, generator=g))
+     p.mul_(1.0)
"""

# %% mistake="distances are averaged over keys, not weighed by attention's sum"
"""
-     reach[t] = [float((seen[block.attention].double() * apart).sum(1).mean()) for block in net.blocks]
+     reach[t] = [float((seen[block.attention].double() * apart).mean()) for block in net.blocks]
"""
