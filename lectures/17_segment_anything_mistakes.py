"""Mistakes that the asserts of lecture 17 have to notice; `flowlib course bank lectures/17` tries them."""

# %% mistake="stroke and hull change places"
"""
- stroke, hull, pair = regions.masks[both][:, 0], regions.masks[both][:, 2], regions.masks[both][:, 4]
+ hull, stroke, pair = regions.masks[both][:, 0], regions.masks[both][:, 2], regions.masks[both][:, 4]
"""

# %% mistake="the clicks are anywhere in the pair"
"""
- click = pick_pixel(regions.masks[both][:, 0], torch.rand(int(both.sum()), generator=seeded(0)))
+ click = pick_pixel(regions.masks[both][:, 4], torch.rand(int(both.sum()), generator=seeded(0)))
"""

# %% mistake="the majority needs three quarters"
"""
- majority = posterior > 0.5
+ majority = posterior > 0.75
"""

# %% mistake="one mask learns from the best truth alone"
"""
-         loss = cross_entropy(leaf, truths).mean()
+         loss = cross_entropy(leaf, truths).min()
"""

# %% mistake="the probability is that of another scene"
"""
- posterior = truths.double().mean(0)  # (1)
+ posterior = (masks_of[which - 1] | truths[:1]).double().mean(0)  # (1)
"""

# %% mistake="the mixture has no weights"
"""
- mixture = math.log(3) - (-losses).logsumexp(1)
+ mixture = -(-losses).logsumexp(1)
"""

# %% mistake="the minimum goes over the starts"
"""
-             least = -(-each).logsumexp(1) if mixed else each.min(1).values
-             loss = ((1 - weight) * least + weight * each.mean(1)).sum()
+             least = -(-each).logsumexp(0) if mixed else each.min(0).values
+             loss = ((1 - weight) * least + weight * each.mean(0)).sum()
"""

# %% mistake="the mixture is the minimum"
"""
-             least = -(-each).logsumexp(1) if mixed else each.min(1).values
+             least = each.min(1).values
"""

# %% mistake="the mean never gives way"
"""
-             weight = max(0.0, 1 - step / (shared * steps)) if shared else 0.0
+             weight = 1.0 if shared else 0.0
"""

# %% mistake="the weights of left and right are exchanged"
"""
-     return rho**left * b / below, rho**right * a / below, a * b / below
+     return rho**right * a / below, rho**left * b / below, a * b / below
"""

# %% mistake="the error is that of one neighbour"
"""
-     return rho**left * b / below, rho**right * a / below, a * b / below
+     return rho**left * b / below, rho**right * a / below, a
"""

# %% mistake="the noise is on what is seen"
"""
- level = torch.full((length,), 1e9).double()
- level[seen] = 1e-9  # the variance of the noise: nothing on what is seen, and more than anything on the rest
+ level = torch.full((length,), 1e-9).double()
+ level[seen] = 1e9  # the variance of the noise: nothing on what is seen, and more than anything on the rest
"""

# %% mistake="distances begin at zero"
"""
-     distance = torch.arange(1, most).double()
+     distance = torch.arange(0, most - 1).double()
"""

# %% mistake="the share is that of what is seen"
"""
-     hidden = torch.rand(300, generator=seeded(draw)) < 0.75
+     hidden = torch.rand(300, generator=seeded(draw)) < 0.25
"""

# %% mistake="a quarter is hidden"
"""
- keep = visible_patches(len(x), 16, 0.75, seeded(3))
+ keep = visible_patches(len(x), 16, 0.25, seeded(3))
"""

# %% mistake="what is seen is changed too"
"""
- gone = torch.ones(len(x), 16).scatter(1, keep, 0)
+ gone = torch.ones(len(x), 16)
"""

# %% mistake="the linear map is shown another image"
"""
-     solved = torch.linalg.solve(spread[known][:, known], patches[i].flatten()[known].double() - mean[known])
+     solved = torch.linalg.solve(spread[known][:, known], patches[i - 1].flatten()[known].double() - mean[known])
"""

# %% mistake="the kernel is that of points c"
"""
- kernel = torch.exp(-2 * math.pi**2 * (2 * d).square().sum(1))  # the library's points are 2 c - 1: twice as far apart
+ kernel = torch.exp(-2 * math.pi**2 * d.square().sum(1))  # the library's points are 2 c - 1: twice as far apart
"""

# %% mistake="the variance has k squared"
"""
- limit = ((1 + kernel**4) / 2 - kernel**2).clamp(min=0).sqrt()
+ limit = ((1 + kernel**2) / 2 - kernel**2).clamp(min=0).sqrt()
"""

# %% mistake="a shift turns the other way"
"""
- angle = 2 * math.pi * (2 * d[4] @ large.frequencies)
+ angle = -2 * math.pi * (2 * d[4] @ large.frequencies)
"""

# %% mistake="the crops have the names of others"
"""
- right = sum(kinds[k] == name for k, name in zip(nearest.tolist(), names, strict=True)) / len(names)
+ right = sum(kinds[k] == name for k, name in zip(nearest.tolist(), names[7:] + names[:7], strict=True)) / len(names)
"""

# %% mistake="the background is what is counted"
"""
-         found[name] = float((slope * truth).sum() / slope.sum())
+         found[name] = float((slope * (1 - truth)).sum() / slope.sum())
"""

# %% mistake="gamma is 1 by hand"
"""
-         by_hand_now = alpha * (1 - sure) ** 2 * (2 * sure * sure.log() - (1 - sure)) * (2 * truth - 1)
+         by_hand_now = alpha * (1 - sure) * (sure * sure.log() - (1 - sure)) * (2 * truth - 1)
"""

# %% mistake="the gradient of dice without its second part"
"""
- assert torch.allclose(slope, p * (1 - p) * 2 / total * (inside / total - truth), atol=1e-12)  # (6)
+ assert torch.allclose(slope, p * (1 - p) * 2 / total * -truth, atol=1e-12)  # (6)
"""

# %% mistake="the doubt is the other way round"
"""
-     return q * loss(lit, truth) + (1 - q) * loss(lit, empty)
+     return (1 - q) * loss(lit, truth) + q * loss(lit, empty)
"""

# %% mistake="the clicks are where nothing is wrong"
"""
- error = wanted != answer
+ error = wanted == answer
"""

# %% mistake="the clicks are on another image"
"""
-     rounds = list(converse(sam, seen_by, truth, first_prompt(kind, truth, lots), lots, ()))
+     rounds = list(converse(sam, seen_by.roll(1, 0), truth, first_prompt(kind, truth, lots), lots, ()))
"""

# %% mistake="nothing but the first answer is measured"
"""
-     curves[kind] = [float(true.gather(1, iou.argmax(1, keepdim=True)).mean()) for true, iou in each]
+     curves[kind] = [float(true.gather(1, iou.argmax(1, keepdim=True)).mean()) for true, iou in each[:1] * 6]
"""

# %% mistake="the first mask answers for all three"
"""
- best_each = float(near.amax(1).mean())
+ best_each = float(near[:, 0].mean())
"""

# %% mistake="the scores are of other masks"
"""
- order = score.argsort()
+ order = torch.randperm(len(score), generator=seeded(13))
+ score = score[torch.randperm(len(score), generator=seeded(14))]
"""

# %% mistake="the control is not mixed"
"""
-     [float(true[torch.randperm(len(true), generator=seeded(10))][part].mean()) for part in order.chunk(10)]
+     [float(true[part].mean()) for part in order.chunk(10)]
"""

# %% mistake="only the order of the points is turned around"
"""
- swapped = sam.masks(one, line.flip(1), marks.flip(1))[0]
+ swapped = sam.masks(one, line.flip(1), marks)[0]
"""

# %% mistake="the page forgets the kind of a click"
"""
-         self.points.append((x, y, self.kind.value))
+         self.points.append((x, y, 1))
"""

# %% mistake="the page shows the lowest score first"
"""
-         order = iou[0].argsort(descending=True)
+         order = iou[0].argsort()
"""

# %% mistake="a pixel of the page is a column"
"""
-                 button.on_click(lambda button, x=x, y=y: self.click(x, y))
+                 button.on_click(lambda button, x=x, y=y: self.click(y, x))
"""

# %% mistake="the slope of the disk is its inverse"
"""
-     measured = float(stability_score(beta * (r - radius_at)))
+     measured = float(stability_score((r - radius_at) / beta))
"""

# %% mistake="the worst masks stay"
"""
- stay = suppress(between_all, ratings, 0.7)
+ stay = suppress(between_all, -ratings, 0.7)
"""

# %% mistake="nothing is suppressed"
"""
- stay = suppress(between_all, ratings, 0.7)
+ stay = suppress(between_all, ratings, 1.0)
"""

# %% mistake="the person draws in the automatic stage too"
"""
- automatic = by_model(sam, some, person=False, **LIMITS)
+ automatic = by_model(sam, some, person=True, **LIMITS)
"""

# %% mistake="the hole is everything else"
"""
- known = 1 - hole
+ known = hole
"""

# %% mistake="the captions are of other scenes"
"""
- guide = net.guide(net.tokenizer(edits.texts), inpainting_guide(edits.images, known))
+ guide = net.guide(net.tokenizer([*edits.texts[1:], edits.texts[0]]), inpainting_guide(edits.images, known))
"""
