"""Mistakes that the asserts of lecture 13 have to notice; `flowlib course bank lectures/13` tries them."""

# %% mistake="the sum is of places, not of words"
"""
-     return (net.text.token(y) * (y < net.tokenizer.start)[..., None]).sum(1)
+     return (net.read(y) * (y < net.tokenizer.start)[..., None]).sum(1)
"""

# %% mistake="the last feature is that of the first token"
"""
-     return net.pooled(net.norm(net.read(y)[torch.arange(len(y)), ends]))
+     return net.pooled(net.norm(net.read(y)[:, 0]))
"""

# %% mistake="attention is given the last feature's caption"
"""
-     images = paint(field, read)
+     images = paint(field, last)
"""

# %% mistake="a gate of a half"
"""
- parts = gate * (cross_weights @ cross_values), (1 - gate) * (self_weights @ self_values)
+ parts = 0.5 * (cross_weights @ cross_values), 0.5 * (self_weights @ self_values)
"""

# %% mistake="the gate is of the patches"
"""
- gate = weights[..., :words].sum(3, keepdim=True)
+ gate = weights[..., words:].sum(3, keepdim=True)
"""

# %% mistake="padding is read"
"""
- cross_weights, cross_values = reads.weights(h, said, counts)
+ cross_weights, cross_values = reads.weights(h, said)
"""

# %% mistake="the transformer keeps half of its places"
"""
- dit.positions.zero_()
+ dit.positions.mul_(0.5)
"""

# %% mistake="the border of the U-Net is mirrored"
"""
-         layer.padding_mode = "circular"
+         layer.padding_mode = "reflect"
"""

# %% mistake="a third of the captions is dropped"
"""
- dropped = drop_guide(painter.module, many, 0.2, seeded(0))
+ dropped = drop_guide(painter.module, many, 0.3, seeded(0))
"""

# %% mistake="the scale of guidance is off by one"
"""
- guided = ClassifierFreeGuidance(field, 3.0).predict(x, 0.4, y)
+ guided = ClassifierFreeGuidance(field, 4.0).predict(x, 0.4, y)
"""

# %% mistake="the captions of the live model are those of others"
"""
- y = live.module.net.tokenizer(texts)
+ y = live.module.net.tokenizer(texts[1:] + texts[:1])
"""

# %% mistake="the best critic is p(x, y), not over the margins"
"""
-     return torch.stack(each, dim=1) - blobs.log_prob(x, t)[:, None]
+     return torch.stack(each, dim=1)
"""

# %% mistake="the prior is not in Bayes' rule"
"""
-         return ((f + log_prior).log_softmax(1) if normalised else f).gather(1, y[:, None])[:, 0]
+         return (f.log_softmax(1) if normalised else f).gather(1, y[:, None])[:, 0]
"""

# %% mistake="both learned critics are asked one question"
"""
-             asked = (logits, logits.T)[:questions]
+             asked = (logits, logits.T)[:1]
"""

# %% mistake="CLIP pulls to another caption"
"""
-     gradient, another = pull(x, t, wrong), pull(x, t, wrong[1:] + wrong[:1])
+     another, gradient = pull(x, t, wrong), pull(x, t, wrong[1:] + wrong[:1])
"""

# %% mistake="the way back through CLIP is free"
"""
- clip_steps = round(budget / (call + 2 * look))
+ clip_steps = round(budget / (call + look))
"""

# %% mistake="what is asked of the judge is the next scene's caption"
"""
-     compared = compare_captions(x, texts)
+     compared = compare_captions(x, texts[1:] + texts[:1])
"""

# %% mistake="the small picture is not rounded"
"""
- small = in_bytes(F.avg_pool2d(truth, 2))
+ small = F.avg_pool2d(truth, 2)
"""

# %% mistake="the projection goes the other way"
"""
-     return x + F.interpolate(small - F.avg_pool2d(x, 2), scale_factor=2, mode="nearest")
+     return x - F.interpolate(small - F.avg_pool2d(x, 2), scale_factor=2, mode="nearest")
"""

# %% mistake="q is twice too large"
"""
-     q, mu = (slopes[0] / plus - slopes[1] / minus) / 4, (plus * minus) ** 0.25
+     q, mu = (slopes[0] / plus - slopes[1] / minus) / 2, (plus * minus) ** 0.25
"""

# %% mistake="mu is the root of what it is"
"""
-     q, mu = (slopes[0] / plus - slopes[1] / minus) / 4, (plus * minus) ** 0.25
+     q, mu = (slopes[0] / plus - slopes[1] / minus) / 4, (plus * minus) ** 0.125
"""

# %% mistake="the other number is known"
"""
-     image, mask = torch.tensor([a, 0.0]).double(), torch.tensor([1.0, 0.0]).double()
+     image, mask = torch.tensor([a, 0.0]).double(), torch.tensor([0.0, 1.0]).double()
"""

# %% mistake="Bayes' rule with a deviation for a variance"
"""
- exact = torch.sigmoid(2 * known_at.double() / spread**2)  # of the second mode, by Bayes' rule
+ exact = torch.sigmoid(2 * known_at.double() / spread)  # of the second mode, by Bayes' rule
"""

# %% mistake="the fresh inpainter is the trained one"
"""
- made = inpainter.recipe.system.build(inpainter.spec, {"base": painter.module}, seeded(3))  # before its training
+ made = load_pretrained("scenes-inpainter").module
"""

# %% mistake="only one of two layers is zero"
"""
- for layer in two_zeros:
+ for layer in two_zeros[:1]:
"""

# %% mistake="known pixels are not kept"
"""
- kept = inpainter.sample(y, scale=2.0, steps=STEPS, method="ddim")
+ kept = sample_ddim(ClassifierFreeGuidance(inpainter.field, 2.0), noise, y, steps=STEPS)
"""

# %% mistake="the colours are not exchanged"
"""
-     return short([replace(a, colour=b.colour), replace(b, colour=a.colour)])
+     return short([a, b])
"""

# %% mistake="the gates are of the patches"
"""
-         found.append(layer.weights(*inputs)[0][..., : inputs[1].shape[1]].sum(3).mean((0, 1)))
+         found.append(layer.weights(*inputs)[0][..., inputs[1].shape[1] :].sum(3).mean((0, 1)))
"""

# %% mistake="the maps are turned"
"""
-     maps = gates(x, 0.25, y).reshape(len(layers), side, side)
+     maps = gates(x, 0.25, y).reshape(len(layers), side, side).flip(1)
"""

# %% mistake="the score is climbed down"
"""
-         x = (x + size * pull(x, 1.0, texts).view_as(x).sign()).clamp(-1, 1)
+         x = (x - size * pull(x, 1.0, texts).view_as(x).sign()).clamp(-1, 1)
"""

# %% mistake="the blind pairing is of one way with itself"
"""
- lost = [a < b for a, b in zip(rights[best_free], rights[best_clip], strict=True)]
+ lost = [a > b for a, b in zip(rights[best_free], rights[best_clip], strict=True)]
"""

# %% mistake="who replaces pixels is shown the whole scene"
"""
-         wrap=lambda plain: ReplacedPixels(plain, edits.images, half, start),
+         wrap=lambda plain: ReplacedPixels(plain, edits.images, torch.ones_like(half), start),
"""

# %% mistake="the conditioned network is given no half"
"""
- y = ip.guide(ip.tokenizer(unsaid), inpainting_guide(edits.images, half))
+ y = ip.guide(ip.tokenizer(unsaid), inpainting_guide(edits.images, torch.zeros_like(half)))
"""

# %% mistake="the judge is asked for the scene before"
"""
- told = {name: score_captions(x.clamp(-1, 1), edits.texts) for name, x in edited.items()}
+ told = {name: score_captions(edits.images, edits.texts) for name, x in edited.items()}
"""
