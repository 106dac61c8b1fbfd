"""Mistakes that the asserts of lecture 14 have to notice; `flowlib course bank lectures/14` tries them."""

# %% mistake="padding is read as the token it is"
"""
- assert torch.allclose(read[3], tiny.padding.weight[3] + tiny.place.weight[3])  # padding has a vector for each place
+ assert torch.allclose(read[3], tiny.token.weight[8] + tiny.place.weight[3])  # padding has a vector for each place
"""

# %% mistake="the last merge comes first"
"""
-     found = sorted((rank_of[pair], at) for at, pair in enumerate(pairwise(cut)) if pair in rank_of)
+     found = sorted((-rank_of[pair], at) for at, pair in enumerate(pairwise(cut)) if pair in rank_of)
"""

# %% mistake="a merge is kept with p"
"""
-             law[end] += p**k * (1 - p) * share
+             law[end] += (1 - p) ** k * p * share
"""

# %% mistake="the encoder is that of another weight"
"""
-         encoder = (decoder.clamp_min(1e-300).log() / beta).T.softmax(1)
+         encoder = (decoder.clamp_min(1e-300).log() * beta).T.softmax(1)
"""

# %% mistake="the decoder forgets how often images occur"
"""
-     joint = (asked @ image_law)[:, None] * encoder
+     joint = torch.ones(levels, 1) * encoder
"""

# %% mistake="the second stage is measured against q(z)"
"""
-         "second stage": mean((tokens / prior).log()[:, None]),
+         "second stage": mean((asked @ tokens / prior).log()[:, None]),
"""

# %% mistake="the first stage forgets the caption"
"""
-         "first stage": mean((given / decoder).transpose(1, 2).log()),
+         "first stage": mean((best_decoder(encoder) / decoder).T.log()[None]),
"""

# %% mistake="the rate has no entropy of the encoder"
"""
-         "rate": mean(encoder.log()[None] - prior.log()[:, None]),
+         "rate": mean(-prior.log()[:, None]),
"""

# %% mistake="the true posterior is blind"
"""
- told = torch.stack([(law[:, None] * kinds / (law[:, None] * kinds).sum(0)).T for law in prior_of])  # p*(z | x, y)
+ told = torch.stack([blind for law in prior_of])  # p*(z | x, y)
"""

# %% mistake="the draws are of another image"
"""
-     logits[12].expand(draws, K)[..., None, None],
+     logits[8].expand(draws, K)[..., None, None],
"""

# %% mistake="the slope of the log odds is missing"
"""
-     return torch.exp(-(v.logit() - mu).abs() / b) / (2 * b * v * (1 - v))
+     return torch.exp(-(v.logit() - mu).abs() / b) / (2 * b)
"""

# %% mistake="the scale is not in the density"
"""
-     return torch.exp(-(v.logit() - mu).abs() / b) / (2 * b * v * (1 - v))
+     return torch.exp(-(v.logit() - mu).abs() / b) / (2 * v * (1 - v))
"""

# %% mistake="the best location is the mean"
"""
- best = v.logit().median()
+ best = v.logit().mean()
"""

# %% mistake="logits are multiplied by the temperature"
"""
-     tau: float(gumbel_softmax(codes, tau, generator=seeded(4)).amax(1).mean()) for tau in (1.0, 0.5, 0.25, 1 / 16)
+     tau: float(gumbel_softmax(codes, 1 / tau, generator=seeded(4)).amax(1).mean()) for tau in (1.0, 0.5, 0.25, 1 / 16)
"""

# %% mistake="padding is counted"
"""
- said = (whole[:, 1:length] != words - 1).double()
+ said = torch.ones(50, length - 1).double()
"""

# %% mistake="the two kinds change places"
"""
- by_hand = {"text": (nats[:, : length - 1] * said).sum() / said.sum(), "image": nats[:, length - 1 :].mean()}
+ by_hand = {"image": (nats[:, : length - 1] * said).sum() / said.sum(), "text": nats[:, length - 1 :].mean()}
"""

# %% mistake="rows are columns"
"""
- seen = {kind: attention_pattern(kind, TEXT, SIDE, SIDE) for kind in PATTERNS}
+ seen = {kind: attention_pattern(kind, TEXT, SIDE, SIDE).T for kind in PATTERNS}
"""

# %% mistake="a stack is the sum of its patterns"
"""
-         found = ((pattern.float() @ found) > 0).float()
+         found = ((pattern.float() + found) > 0).float()
"""

# %% mistake="the network is not causal"
"""
-     net = Transformer(8, len(names), 2, causal=True, pattern=stack).double()
+     net = Transformer(8, len(names), 2, causal=False, pattern=[torch.ones_like(one) for one in stack]).double()
"""

# %% mistake="the rule looks at the corners"
"""
-     means = F.avg_pool2d(v[:, :, 1:15, 1:15], 4, stride=5).flatten(2).transpose(1, 2)  # (B, 9, 3)
+     means = F.avg_pool2d(v[:, :, :14, :14], 4, stride=5).flatten(2).transpose(2, 1).flip(1)  # (B, 9, 3)
"""

# %% mistake="the written pictures are of other captions"
"""
- written = live.sample(dalle.read(texts), seed=0)
+ written = live.sample(dalle.read(texts[1:] + texts[:1]), seed=0)
"""

# %% mistake="the spread is not that of the logits"
"""
-     spread = (law * (ell - (law * ell).sum()) ** 2).sum()
+     spread = (law * (ell - ell.mean()) ** 2).sum()
"""

# %% mistake="what is kept is not scaled"
"""
-     cut = law * kept / law[kept].sum()
+     cut = law * kept
"""

# %% mistake="the cache begins anew in each step"
"""
-     steps.append(gpt(whole[:, at : at + 1], kept))
+     steps.append(gpt(whole[:, at : at + 1], Cache(len(gpt.transformer.blocks))))
"""

# %% mistake="both ways have a cache"
"""
- with_cache, without = cost_of(True), cost_of(False)
+ with_cache, without = cost_of(True), cost_of(True)
"""

# %% mistake="the entropies are at temperature 1"
"""
-     logits = gpt(dalle.joined(said, index)[:, :-1])[:, gpt.length - 1 :, gpt.words :] / tau
+     logits = gpt(dalle.joined(said, index)[:, :-1])[:, gpt.length - 1 :, gpt.words :]
"""

# %% mistake="the largest of n + 1"
"""
-     return float(torch.trapezoid(s * n * cdf ** (n - 1) * torch.exp(-(s**2) / 2) / math.sqrt(2 * math.pi), s))
+     return float(torch.trapezoid(s * (n + 1) * cdf**n * torch.exp(-(s**2) / 2) / math.sqrt(2 * math.pi), s))
"""

# %% mistake="the lowest score is chosen"
"""
-     return (truth.double().gather(1, score.argsort(1)) * weights).sum(1)
+     return (truth.double().gather(1, score.argsort(1, descending=True)) * weights).sum(1)
"""

# %% mistake="the law of the chosen has a factor too few"
"""
-     relative = n * u ** (n - 1)
+     relative = u ** (n - 1)
"""

# %% mistake="the truth does not depend on the score"
"""
- truth = rho * s + math.sqrt(1 - rho**2) * torch.randn(pool, 16, generator=seeded(12)).double()
+ truth = torch.randn(pool, 16, generator=seeded(12)).double()
"""

# %% mistake="the prior is the uniform one everywhere"
"""
-     "the transformer's": {},
+     "the transformer's": {"uniform": True},
"""

# %% mistake="the caption is its own everywhere"
"""
-     under = texts[1 : number + 1] if options.pop("others", False) else texts[:number]
+     under = texts[:number] if options.pop("others", False) else texts[:number]
"""

# %% mistake="many draws are a sum"
"""
- tighter = math.log(many) - (-each).logsumexp(1)
+ tighter = math.log(many) + each.logsumexp(1)
"""

# %% mistake="what is not written is painted"
"""
-         weights[:, :, known] = F.one_hot(index[:, known], gpt.codes).transpose(1, 2).float()
+         weights[:, :, known] = F.one_hot(index[:, known].flip(1), gpt.codes).transpose(1, 2).float()
"""

# %% mistake="the exact law has the noise of another width"
"""
- low = torch.where(value == 0, -99.0, ((value - 0.5) / 255 - base) / 0.04)
- high = torch.where(value == 255, 99.0, ((value + 0.5) / 255 - base) / 0.04)
+ low = torch.where(value == 0, -99.0, ((value - 0.5) / 255 - base) / 0.01)
+ high = torch.where(value == 255, 99.0, ((value + 0.5) / 255 - base) / 0.01)
"""

# %% mistake="the exact law of the pictures of other captions"
"""
- value, base = ((x[:number] + 1) * 127.5).round().double(), clean(inside_of[:number]).double()
+ value, base = ((x[:number] + 1) * 127.5).round().double(), clean(inside_of[:number].roll(1, 0)).double()
"""

# %% mistake="the scenes of the zoo are of other captions"
"""
-     "best of 16": zoo.sample(said, candidates=16, seed=0),
+     "best of 16": zoo.sample(said.roll(1, 0), candidates=16, seed=0),
"""
