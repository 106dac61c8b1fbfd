"""Mistakes that the asserts of lecture 05 have to notice; `flowlib course bank lectures/05` tries them."""

# %% mistake="every guide is compared with the unguided field"
"""
-     truth = line.u(x[chosen], 0.5, dropped[chosen])
+     truth = line.u(x[chosen], 0.5)
"""

# %% mistake="the rates of dropping are not multiplied by the classes' shares"
"""
- tilted = MixtureField(line.means, line.std, torch.tensor([0.1, 0.1, 0.4], dtype=torch.float64), line.labels)
+ tilted = MixtureField(line.means, line.std, torch.tensor([0.05, 0.05, 0.4], dtype=torch.float64), line.labels)
"""

# %% mistake="the classifier without its evidence"
"""
-     return line.log_prob(x, t, y) - line.log_prob(x, t)
+     return line.log_prob(x, t, y)
"""

# %% mistake="the prior of the guides has the variance of z given y"
"""
- posterior = torch.softmax(-(others**2) / (2 * (1 - tau**2)) - (x - t * others) ** 2 / (2 * c**2), dim=0)
+ posterior = torch.softmax(-(others**2) / (2 * tau**2) - (x - t * others) ** 2 / (2 * c**2), dim=0)
"""

# %% mistake="weights that do not sum to one"
"""
- velocity = (1 - w) * free + w * conditional
+ velocity = free + w * conditional
"""

# %% mistake="the scale on a conditional field is off by one"
"""
- again = EnergyGuidance(line, bayes, w - 1, conditional=True).u(x, t, label)
+ again = EnergyGuidance(line, bayes, w, conditional=True).u(x, t, label)
"""

# %% mistake="the excess without its factor w - 1"
"""
-     return w * (w - 1) * (1 - t) / t.clamp_min(1e-12) * gradient.square().sum(1)
+     return w * (1 - t) / t.clamp_min(1e-12) * gradient.square().sum(1)
"""

# %% mistake="the tempered precision has tau in place of its square"
"""
-     return 1 / ((1 - w) + w / tau**2)
+     return 1 / ((1 - w) + w / tau)
"""

# %% mistake="the moment equation takes g for its square"
"""
-         return 2 * growth * v + 2 * eta * (1 - t) * (1 - v * ((1 - w) / v_null + w / v_y))
+         return 2 * growth * v + (2 * eta * (1 - t)) ** 0.5 * (1 - v * ((1 - w) / v_null + w / v_y))
"""

# %% mistake="tempering with the powers exchanged"
"""
-     log_q = (1 - w) * line.log_prob(points, 1.0) + w * line.log_prob(points, 1.0, zeros)
+     log_q = w * line.log_prob(points, 1.0) + (1 - w) * line.log_prob(points, 1.0, zeros)
"""

# %% mistake="the null guide is asked for, not the label"
"""
- wanted = torch.zeros(300, dtype=torch.long)
+ wanted = torch.full((300,), plane.null)
"""

# %% mistake="precision and recall change places"
"""
-     precision, recall = precision_recall(real_features, features)  # as many real ones as drawn
+     recall, precision = precision_recall(real_features, features)  # as many real ones as drawn
"""

# %% mistake="the KL divergence the other way round"
"""
- kl = (log_p.exp() * (log_p - surer)).sum(1)
+ kl = (surer.exp() * (surer - log_p)).sum(1)
"""

# %% mistake="the classifier's time runs from data to noise"
"""
-         told.append(label_accuracy(classifier(noised, t.expand(len(noised))), test_labels))
+         told.append(label_accuracy(classifier(noised, 1 - t.expand(len(noised))), test_labels))
"""

# %% mistake="the classifier guides the unconditional field"
"""
-     guided_by_it = EnergyGuidance(run.field, classifier.log_prob, w, conditional=True)
+     guided_by_it = EnergyGuidance(run.field, classifier.log_prob, w)
"""

# %% mistake="guided outside the interval"
"""
-         return (self.guided if inside else self.plain).predict(x, t, y)
+         return (self.plain if inside else self.guided).predict(x, t, y)
"""

# %% mistake="the best scale on the other side of 1"
"""
-     return 1 + float((e * (other - e)).sum(1).mean()) / square(other - e)
+     return 1 - float((e * (other - e)).sum(1).mean()) / square(other - e)
"""

# %% mistake="the weak field is guided by the good one"
"""
- left_over = square(error(Autoguidance(own, weak, w)))
+ left_over = square(error(Autoguidance(weak, own, w)))
"""
