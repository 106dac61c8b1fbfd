"""Mistakes that the asserts of lecture 16 have to notice; `flowlib course bank lectures/16` tries them."""

# %% mistake="the update is scaled by alpha"
"""
- updated = W0 + 6 / 2 * B @ A
+ updated = W0 + 6 * B @ A
"""

# %% mistake="the kernel of A is read with its pixels first"
"""
-     first, second = states[-1]["0.A"].reshape(2, 3, 3, 3), states[-1]["0.B"].reshape(8, 2, 1, 1)
+     first, second = states[-1]["0.A"].reshape(2, 3, 3, 3).mT, states[-1]["0.B"].reshape(8, 2, 1, 1)
"""

# %% mistake="weights of adapters are always positive"
"""
- expected = F.conv2d(images, conv[0].weight + 0.7 * parts[0] - 0.5 * parts[1], conv[0].bias, padding=1)
+ expected = F.conv2d(images, conv[0].weight + 0.7 * parts[0] + 0.5 * parts[1], conv[0].bias, padding=1)
"""

# %% mistake="cross-attention reads the picture"
"""
-     published = sum(blocks * rank * (6 * (c + c) + 2 * (c + CONTEXT)) for c, blocks in LEVELS)
+     published = sum(blocks * rank * 8 * (c + c) for c, blocks in LEVELS)
"""

# %% mistake="alpha counts as a trained number"
"""
-     own = sum(value.numel() for name, value in lora_state(ours).items() if name != "alpha")
+     own = sum(value.numel() for value in lora_state(ours).values())
"""

# %% mistake="the gradient of B has no scale"
"""
- assert torch.allclose(of_B, s * G @ A0.T, atol=1e-12)  # (1)
+ assert torch.allclose(of_B, G @ A0.T, atol=1e-12)  # (1)
"""

# %% mistake="A begins at zero, and B does not"
"""
- G, of_A, of_B = gradients(A0, torch.zeros(m, r).double())
+ G, of_A, of_B = gradients(torch.zeros(r, n).double(), B1)
"""

# %% mistake="the scale comes in once"
"""
- assert torch.allclose(step, -eta * s**2 * G @ A0.T @ A0, atol=1e-12)  # (3)
+ assert torch.allclose(step, -eta * s * G @ A0.T @ A0, atol=1e-12)  # (3)
"""

# %% mistake="the space is that of another A"
"""
- projection = torch.linalg.pinv(A0) @ A0  # on the row space of A
+ projection = torch.linalg.pinv(A0.roll(1, 1)) @ A0.roll(1, 1)  # on the row space of A
"""

# %% mistake="the length of the rows comes in once"
"""
- assert torch.allclose(rows.T @ rows, 1.7**2 * projection, atol=1e-12)
+ assert torch.allclose(rows.T @ rows, 1.7 * projection, atol=1e-12)
"""

# %% mistake="the mean of the steps has no rank in it"
"""
- off = moved.mean(0) - r * tau2 * G
+ off = moved.mean(0) - tau2 * G
"""

# %% mistake="A is uniform, not normal"
"""
- many = torch.randn(draws, r, n, generator=seeded(5)).double() * math.sqrt(tau2)
+ many = (2 * torch.rand(draws, r, n, generator=seeded(5)).double() - 1) * math.sqrt(3 * tau2)
"""

# %% mistake="the flow of A forgets B"
"""
- flow[m:, :m], flow[:m, m:] = -s * G.T, -s * G
+ flow[m:, :m] = -s * G.T
"""

# %% mistake="the step of A is of the third order"
"""
-         A, B = A - eta * of_A, B - eta * of_B
+         A, B = A - eta**2 * of_A, B - eta * of_B
"""

# %% mistake="the real loss is followed for a tenth of the time"
"""
- A_real, B_real = steps_of(1e-3, 300)  # gradient flow on the real loss, by Euler's steps, to t = 0.3
+ A_real, B_real = steps_of(1e-4, 300)  # gradient flow on the real loss, by Euler's steps, to t = 0.3
"""

# %% mistake="the saddle's eigenvalues have one sign"
"""
- known = torch.cat([s * sigma, -s * sigma]).repeat(r)
+ known = torch.cat([s * sigma, s * sigma]).repeat(r)
"""

# %% mistake="Adam's signs do not agree"
"""
-         adam = scale * math.sqrt(m) * features.abs().sum(1)  # with B = -sign(g) sign(A x)ᵀ
+         adam = scale * math.sqrt(m) * features.sum(1).abs()  # with B = -sign(g) sign(A x)ᵀ
"""

# %% mistake="the floor forgets the inputs"
"""
-     weighted = torch.linalg.svdvals(wanted @ half)
+     weighted = torch.linalg.svdvals(wanted)
"""

# %% mistake="A and B are both zero"
"""
-     A = (torch.randn(rank, size, generator=seeded(11)).double() / math.sqrt(size)).requires_grad_()
+     A = torch.zeros(rank, size).double().requires_grad_()
"""

# %% mistake="the inputs are everywhere"
"""
-             (0.5 * ((wanted - change) @ space.T).square().sum()).backward()
+             (0.5 * (wanted - change + 0.1).square().sum()).backward()
"""

# %% mistake="A stays random"
"""
-     "LoRA, A in the space": tuple(A @ S.T @ S for A, S in zip(random_A, spaces, strict=True)),
+     "LoRA, A in the space": tuple(random_A),
"""

# %% mistake="an adapter disturbs itself"
"""
-     heard = float((changes[1] @ spaces[0].T).norm() / wants[0].norm())  # what the second does where the first works
+     heard = float((changes[0] @ spaces[0].T).norm() / wants[0].norm())  # what the second does where the first works
"""

# %% mistake="the factor of the score is upside down"
"""
-     return (1 - t) / t * gradient
+     return t / (1 - t) * gradient
"""

# %% mistake="the control has no noise"
"""
-         spread = h @ P @ h + noise**2
+         spread = h @ P @ h
"""

# %% mistake="the law of z is not narrowed by x"
"""
-     return mean + (x - t * mean) @ gain.T, S - t * gain @ S
+     return mean + (x - t * mean) @ gain.T, S
"""

# %% mistake="what is learned is not on top of the locked velocity"
"""
-     learned = torch.linalg.lstsq(read, (z - noise) - u).solution
+     learned = torch.linalg.lstsq(read, z - noise).solution
"""

# %% mistake="the strength acts on all of the velocity"
"""
-         return own + w * (velocity(x, t, S_c, mean_c) - own)
+         return w * velocity(x, t, S_c, mean_c)
"""

# %% mistake="the line goes through the origin"
"""
- from_line = {w: float((made @ h - 0.9).square().mean().sqrt()) for w, made in samples.items()}  # h has length 1
+ from_line = {w: float((made @ h).square().mean().sqrt()) for w, made in samples.items()}  # h has length 1
"""

# %% mistake="the second control forgets the first"
"""
-     joint = velocity(x, t, *measured(first[0], first[1], axis[1], kappa, two[1])) - velocity(x, t, law, origin)
+     joint = velocity(x, t, *measured(law, origin, axis[1], kappa, two[1])) - velocity(x, t, law, origin)
"""

# %% mistake="the caption tells of something else"
"""
- said = torch.tensor([0.7, -0.7]).double()  # the direction that the caption tells of
+ said = torch.tensor([0.0, 0.01]).double()  # the direction that the caption tells of
"""

# %% mistake="the ControlNet is of another network"
"""
- edge_net = ControlNet(base.net.net, channels=1)
- mask_net = ControlNet(base.net.net, channels=2)
+ edge_net = ControlNet(base.net.net, channels=1)
+ mask_net = ControlNet(base.net.net, channels=2)
+ edge_net.zeros[0].bias.fill_(0.1)
"""

# %% mistake="the copy is no copy"
"""
- mask_net = ControlNet(base.net.net, channels=2)
+ mask_net = ControlNet(base.net.net, channels=2)
+ edge_net.draw_anew()
"""

# %% mistake="the bias of a zero convolution has the mean"
"""
-     assert torch.allclose(zero.bias.grad, g.sum((0, 2, 3)), rtol=1e-3, atol=1e-7)
+     assert torch.allclose(zero.bias.grad, g.mean((0, 2, 3)), rtol=1e-3, atol=1e-7)
"""

# %% mistake="the image's network does not end in zeros"
"""
- waking = ControlNet(base.net.net, channels=1)
+ waking = ControlNet(base.net.net, channels=1)
+ waking.hint[-1].weight.fill_(0.1)
"""

# %% mistake="the control is a copy too"
"""
-     fresh.draw_anew()
"""

# %% mistake="the edges are another scene's"
"""
-     parts[f"strength {w:g}"] = painted(edge_net, edges, texts, w)
+     parts[f"strength {w:g}"] = painted(edge_net, edges.roll(1, 0), texts, w)
"""

# %% mistake="pictures under another scene's edges are compared with their own"
"""
- given = agrees(parts["another scene's edges"], held["masks"].roll(1, 0))
+ given = agrees(parts["another scene's edges"])
"""

# %% mistake="strengths are squared"
"""
- field = under([edge_net, edge_net], [0.3, 0.7])
+ field = under([edge_net, edge_net], [0.3**2, 0.7**2])
"""

# %% mistake="without a caption there is no control either"
"""
- parts["no caption"] = painted(edge_net, edges)
+ parts["no caption"] = painted(edge_net, edges, None, 0.0)
"""

# %% mistake="both halves are those of another scene"
"""
- two = halves.net.guide(tokens(texts), [left_half, edges - left_half])
+ two = halves.net.guide(tokens(texts), [left_half.roll(1, 0), (edges - left_half).roll(1, 0)])
"""

# %% mistake="the adapter is forgotten at half weight"
"""
-     model = with_loras((loras["object"], w))
+     model = with_loras((loras["object"], w if w > 0.5 else 0.0))
"""

# %% mistake="the strength ends at 1.5"
"""
- samples = {w: flowed(noise, w, wanted) for w in (0.0, 0.5, 1.0, 2.0)}
+ samples = {w: flowed(noise, min(w, 1.5), wanted) for w in (0.0, 0.5, 1.0, 2.0)}
"""
