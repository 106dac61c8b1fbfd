"""Mistakes that the asserts of lecture 15 have to notice; `flowlib course bank lectures/15` tries them."""

# %% mistake="the embedding looks at the caption"
"""
-     q = joint[:, :, None] * encoder[:, None]  # q(x, y, e): e does not look at y
+     q = joint[:, :, None] * encoder.roll(1, 0)[None, : joint.shape[1]]  # q(x, y, e): e does not look at y
"""

# %% mistake="the blind decoder is told the caption"
"""
- "lost, not told": lost(blind @ prior.T)}
+ "lost, not told": lost((told * prior).sum(2))}
"""

# %% mistake="the prior does not read the caption"
"""
-     prior = q.sum(0) / joint.sum(0)[:, None]  # q(e | y), (Y, E)
+     prior = q.sum((0, 1)).expand(joint.shape[1], -1)  # q(e | y), (Y, E)
"""

# %% mistake="the loss of the first stage is forgotten"
"""
-         assert lost < first + second + 1e-12
+         assert lost < second + 1e-12
"""

# %% mistake="the decoder does not obey"
"""
-         decoder = torch.rand(6, 4, 3, generator=g, dtype=torch.float64) * (encoder[:, None] > 0)
+         decoder = torch.rand(6, 4, 3, generator=g, dtype=torch.float64)
"""

# %% mistake="the temperature stays as the gap opens"
"""
-     opened = contrastive_loss(far, low, scale / math.cos(angle) ** 2)
+     opened = contrastive_loss(far, low, scale)
"""

# %% mistake="pictures and texts move to the same side"
"""
-     low = torch.cat([v * math.cos(angle), -math.sin(angle) * tall], dim=1)
+     low = torch.cat([v * math.cos(angle), math.sin(angle) * tall], dim=1)
"""

# %% mistake="captions are moved away from the pictures"
"""
- shifted = F.normalize(said[half:] + gap, dim=1)
+ shifted = F.normalize(said[half:] - gap, dim=1)
"""

# %% mistake="the plane lies beside both"
"""
- middle = (seen[:half].mean(0) + said[:half].mean(0)) / 2
+ middle = 2 * seen[:half].mean(0)
"""

# %% mistake="principal components without the mean"
"""
- centred = known - known.mean(0)
+ centred = known
"""

# %% mistake="the smallest eigenvalues are kept"
"""
- values = torch.linalg.eigvalsh(centred.T @ centred / half).flip(0).clamp(min=0)
+ values = torch.linalg.eigvalsh(centred.T @ centred / half).clamp(min=0)
"""

# %% mistake="an axis for itself"
"""
- axes = coded(64, 2).axes[[*range(7), 8]].double()  # the eighth for the ninth
+ axes = coded(64, 2).axes[[*range(7), 7]].double()  # the eighth for the ninth
"""

# %% mistake="buckets are read back at their lower ends"
"""
-     off = (places - codes.decode(codes.encode(others)).sub(codes.mean) @ codes.axes.T)[inside]
+     off = (places - codes.least - codes.encode(others) * codes.width)[inside]
"""

# %% mistake="the cut forgets the mean"
"""
-     cut = float((others - codes.mean - places @ codes.axes).square().sum(1).mean()) / square
+     cut = float((others - places @ codes.axes).square().sum(1).mean()) / square
"""

# %% mistake="levels of another pairing"
"""
- level = net.level(seen, said)
+ level = net.level(seen, said.roll(1, 0))
"""

# %% mistake="captions are never dropped"
"""
-         loss = prediction_loss(learned, e, y, dropout=0.1, generator=g)
+         loss = prediction_loss(learned, e, y, dropout=0.0, generator=g)
"""

# %% mistake="the prior is not told the caption"
"""
-         loss = prediction_loss(learned, e, y, dropout=0.1, generator=g)
+         loss = prediction_loss(learned, e, y, dropout=1.0, generator=g)
"""

# %% mistake="the mean of all captions"
"""
-     true = shares * (of_text == text) / shares[of_text == text].sum()
+     true = shares
"""

# %% mistake="the mean is scaled to length 1"
"""
-     m = true @ points
+     m = F.normalize(true @ points, dim=0)
"""

# %% mistake="dropped by what the caption says, everywhere"
"""
- for name, drop in (("independently", torch.full((9,), 0.5, dtype=torch.float64)), ("by what it says", often)):
+ for name, drop in (("independently", often), ("by what it says", often)):
"""

# %% mistake="the chord in the place of the sphere"
"""
- way = torch.stack([slerp(a, b, k / 20) for k in range(21)])
+ way = torch.stack([a + k / 20 * (b - a) for k in range(21)])
"""

# %% mistake="the chord, scaled to length 1"
"""
- way = torch.stack([slerp(a, b, k / 20) for k in range(21)])
+ way = torch.stack([F.normalize(a + k / 20 * (b - a), dim=1) for k in range(21)])
"""

# %% mistake="a noisy caption is wrong with any value, the true one too"
"""
-     wrong = (1 - DROPPED) * WRONG / (size - 1)
+     wrong = (1 - DROPPED) * WRONG / size
"""

# %% mistake="silence is forgotten"
"""
-     table[:, size] = DROPPED
+     table[:, size] = 0.0
"""

# %% mistake="two digits are always said"
"""
-     two = sum(p for where, p in law.where.items() if len(where) == 2) / 2  # the second is left out half of the time
+     two = sum(p for where, p in law.where.items() if len(where) == 2)  # the second is left out half of the time
"""

# %% mistake="useless captions are not counted"
"""
-     return bits([USELESS, 1 - USELESS]) + USELESS * math.log2(NOTHING) + (1 - USELESS) * useful
+     return useful
"""

# %% mistake="a descriptive caption says where the second digit is"
"""
-             said[where if len(where) == 1 else (where[0], relation(where[0][1], where[1][1]), where[1][0])] += p
+             said[where if len(where) == 1 else (where[0][0], relation(where[0][1], where[1][1]), where[1][0])] += p
"""

# %% mistake="a caption's surprise forgets the background"
"""
-     p = (1 - USELESS) * first[digit[0], colour[0]] * ground[3 if told.background is None else told.background]
+     p = (1 - USELESS) * first[digit[0], colour[0]]
"""

# %% mistake="information of another digit"
"""
- for name, value in (("digit", lambda i: things[i][0].digit), ("how many digits", lambda i: len(things[i]) - 1),
+ for name, value in (("digit", lambda i: things[i - 1][0].digit), ("how many digits", lambda i: len(things[i]) - 1),
"""

# %% mistake="the best guess where nothing is said is forgotten"
"""
-     draw = USELESS * float(prior.square().sum()) + (1 - USELESS) * float((said.square() / said.sum(0)).sum())
+     draw = USELESS * float(prior.max()) + (1 - USELESS) * float(said.amax(0).sum())
"""

# %% mistake="guidance divides where it should multiply"
"""
-     belief = {w: float(heard[3] ** w * prior[3] ** (1 - w) / (heard**w * prior ** (1 - w)).sum()) for w in (1, 2, 3)}
+     belief = {w: float(heard[3] ** (2 - w) / (heard ** (2 - w)).sum()) for w in (1, 2, 3)}
"""

# %% mistake="the picture is told more than the text"
"""
-     with_picture = with_text @ paints
+     with_picture = prior[:, None] / prior.sum() * torch.eye(4, dtype=torch.float64)
"""

# %% mistake="Fano without the other values"
"""
-     return there_is - bits([wrong, 1 - wrong]) - wrong * math.log2(size - 1)
+     return there_is - bits([wrong, 1 - wrong])
"""

# %% mistake="Fano with log K for the entropy"
"""
-     return there_is - bits([wrong, 1 - wrong]) - wrong * math.log2(size - 1)
+     return math.log2(size) - bits([wrong, 1 - wrong]) - wrong * math.log2(size - 1)
"""

# %% mistake="the beliefs are mixed with the share"
"""
-     mixed = by_hand[0] * F.one_hot(torch.tensor(red_seven), 80) + (1 - by_hand[0]) * people
+     mixed = s * F.one_hot(torch.tensor(red_seven), 80) + (1 - s) * people
"""

# %% mistake="the captioner writes what people write"
"""
- from_captioner = torch.zeros_like(from_people)
+ from_captioner = from_people.clone()
"""


# %% mistake="the difference of texts is turned around"
"""
-     "difference of texts": F.normalize(clip.text_features(wish) - clip.text_features(was), dim=1),
+     "difference of texts": F.normalize(clip.text_features(was) - clip.text_features(wish), dim=1),
"""

# %% mistake="one colour is replaced where two are exchanged"
"""
- versions = {"as drawn": drawn_in(colour[:, :2], hand), "colours exchanged": drawn_in(swapped, hand),
+ versions = {"as drawn": drawn_in(colour[:, :2], hand), "colours exchanged": drawn_in(replaced, hand),
"""

# %% mistake="the exchanged caption is one with another colour"
"""
- right_text, swapped_text, replaced_text = (clip.text_features(called(h)) for h in (colour[:, :2], swapped, replaced))
+ right_text, swapped_text, replaced_text = (clip.text_features(called(h)) for h in (colour[:, :2], replaced, swapped))
"""

# %% mistake="silence counts as right"
"""
-         found += (told.background if name == "background" else getattr(told.things[0], name)) == int(true)
+         found += (told.background if name == "background" else getattr(told.things[0], name)) in (int(true), None)
"""

# %% mistake="the captions of one captioner are taken for those of another"
"""
-     by_noisy, by_short, best = (truth_of[who] for who in zoo)
+     by_short, by_noisy, best = (truth_of[who] for who in zoo)
"""

# %% mistake="odd prompts are written plainly"
"""
- odd = oddly(plain, 1.0, seeded(19))
+ odd = list(plain)
"""
