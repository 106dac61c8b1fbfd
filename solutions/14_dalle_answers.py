"""Wrong and right answers to exercise 14: wrong ones must be caught, each with its own hint; right ones must pass."""


# %% wrong="14.1" hint="write yourself"
def stream_loss(logits, text, codes, words, padding, weight):
    return dalle_loss(logits, torch.cat([text, codes + words], 1), text.shape[1], padding, weight)["loss"]


# %% wrong="14.1" hint="the weights are exchanged"
def stream_loss(logits, text, codes, words, padding, weight):
    last = text.shape[1] - 1
    targets = torch.cat([text, codes + words], 1)[:, 1:]
    nats = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none", ignore_index=padding)
    a = nats[:, :last].sum() / (text[:, 1:] != padding).sum()
    return (1 - weight) * a + weight * nats[:, last:].mean()


# %% wrong="14.1" hint="one mean over all tokens"
def stream_loss(logits, text, codes, words, padding, weight):
    targets = torch.cat([text, codes + words], 1)[:, 1:]
    return F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=padding)


# %% wrong="14.1" hint="padding is predicted"
def stream_loss(logits, text, codes, words, padding, weight):
    last = text.shape[1] - 1
    targets = torch.cat([text, codes + words], 1)[:, 1:]
    nats = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return weight * nats[:, :last].mean() + (1 - weight) * nats[:, last:].mean()


# %% wrong="14.1" hint="a mean for each caption"
def stream_loss(logits, text, codes, words, padding, weight):
    last = text.shape[1] - 1
    targets = torch.cat([text, codes + words], 1)[:, 1:]
    nats = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none", ignore_index=padding)
    a = (nats[:, :last].sum(1) / (text[:, 1:] != padding).sum(1)).mean()
    return weight * a + (1 - weight) * nats[:, last:].mean()


# %% wrong="14.1" hint="padding adds nothing, but is counted"
def stream_loss(logits, text, codes, words, padding, weight):
    last = text.shape[1] - 1
    targets = torch.cat([text, codes + words], 1)[:, 1:]
    nats = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none", ignore_index=padding)
    return weight * nats[:, :last].mean() + (1 - weight) * nats[:, last:].mean()


# %% wrong="14.1" hint="code k is the token words + k"
def stream_loss(logits, text, codes, words, padding, weight):
    last = text.shape[1] - 1
    targets = torch.cat([text, codes], 1)[:, 1:]
    nats = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return weight * nats[:, :last][text[:, 1:] != padding].mean() + (1 - weight) * nats[:, last:].mean()


# %% wrong="14.1" hint="targets begin with the second"
def stream_loss(logits, text, codes, words, padding, weight):
    length = text.shape[1]
    targets = torch.cat([text, codes + words], 1)[:, :-1]
    nats = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return weight * nats[:, :length][text != padding].mean() + (1 - weight) * nats[:, length:].mean()


# %% wrong="14.1" hint="these are sums"
def stream_loss(logits, text, codes, words, padding, weight):
    last = text.shape[1] - 1
    targets = torch.cat([text, codes + words], 1)[:, 1:]
    nats = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none", ignore_index=padding)
    return weight * nats[:, :last].sum() + (1 - weight) * nats[:, last:].sum()


# %% wrong="14.1" hint="is one of the image"
def stream_loss(logits, text, codes, words, padding, weight):
    length = text.shape[1]
    targets = torch.cat([text, codes + words], 1)[:, 1:]
    nats = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    counts = targets[:, :length] != padding
    return weight * nats[:, :length][counts].mean() + (1 - weight) * nats[:, length:].mean()


# %% wrong="14.1" hint="the weights are missing"
def stream_loss(logits, text, codes, words, padding, weight):
    last = text.shape[1] - 1
    targets = torch.cat([text, codes + words], 1)[:, 1:]
    nats = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return nats[:, :last][text[:, 1:] != padding].mean() + nats[:, last:].mean()


# %% right="14.1" name="torch's cross-entropy, twice"
def stream_loss(logits, text, codes, words, padding, weight):
    last = text.shape[1] - 1
    said = F.cross_entropy(logits[:, :last].transpose(1, 2), text[:, 1:], ignore_index=padding)
    drawn = F.cross_entropy(logits[:, last:].transpose(1, 2), codes + words)
    return weight * said + (1 - weight) * drawn


# %% right="14.1" name="a weight for each place"
def stream_loss(logits, text, codes, words, padding, weight):
    targets = torch.cat([text[:, 1:], codes + words], 1)
    said = torch.cat([text[:, 1:] != padding, torch.zeros_like(codes, dtype=torch.bool)], 1)
    drawn = torch.cat([torch.zeros_like(text[:, 1:], dtype=torch.bool), torch.ones_like(codes, dtype=torch.bool)], 1)
    weights = weight * said / said.sum() + (1 - weight) * drawn / drawn.sum()
    logs = logits - logits.logsumexp(2, keepdim=True)
    return -(weights * logs.gather(2, targets[..., None])[..., 0]).sum()


# %% right="14.1" name="loops"
def stream_loss(logits, text, codes, words, padding, weight):
    said, drawn = [], []
    for row in range(len(text)):
        laws = logits[row].log_softmax(1)
        for i, token in enumerate(text[row, 1:].tolist()):
            if token != padding:
                said.append(-laws[i, token])
        for i, code in enumerate(codes[row].tolist(), text.shape[1] - 1):
            drawn.append(-laws[i, words + code])
    return weight * torch.stack(said).mean() + (1 - weight) * torch.stack(drawn).mean()


# %% wrong="14.2" hint="write yourself"
def column_pattern(text, height, width):
    return attention_pattern("column", text, height, width)


# %% wrong="14.2" hint="the wrong way round"
def column_pattern(text, height, width):
    seen = torch.ones(text + height * width, text + height * width, dtype=torch.bool).tril()
    column = torch.arange(height * width) % width
    seen[text:, text:] &= column[:, None] == column
    return seen.T.contiguous()


# %% wrong="14.2" hint="the text sees the image"
def column_pattern(text, height, width):
    seen = torch.ones(text + height * width, text + height * width, dtype=torch.bool)
    column = torch.arange(height * width) % width
    seen[:text, :text] = seen[:text, :text].tril()
    seen[text:, text:] &= column[:, None] == column
    seen[text:, text:] = seen[text:, text:].tril()
    return seen


# %% wrong="14.2" hint="later in the text"
def column_pattern(text, height, width):
    seen = torch.ones(text + height * width, text + height * width, dtype=torch.bool).tril()
    column = torch.arange(height * width) % width
    seen[text:, text:] &= column[:, None] == column
    seen[:text, :text] = True
    return seen


# %% wrong="14.2" hint="a later one of its column"
def column_pattern(text, height, width):
    seen = torch.ones(text + height * width, text + height * width, dtype=torch.bool).tril()
    column = torch.arange(height * width) % width
    seen[text:, text:] = column[:, None] == column
    return seen


# %% wrong="14.2" hint="sees itself too"
def column_pattern(text, height, width):
    seen = torch.ones(text + height * width, text + height * width, dtype=torch.bool).tril(-1)
    column = torch.arange(height * width) % width
    seen[text:, text:] &= column[:, None] == column
    return seen


# %% wrong="14.2" hint="sees the whole text"
def column_pattern(text, height, width):
    size = text + height * width
    column = torch.cat([torch.full((text,), -1), torch.arange(height * width) % width])
    return (column[:, None] == column) & torch.ones(size, size, dtype=torch.bool).tril()


# %% wrong="14.2" hint="these are the rows"
def column_pattern(text, height, width):
    seen = torch.ones(text + height * width, text + height * width, dtype=torch.bool).tril()
    row = torch.arange(height * width) // width
    seen[text:, text:] &= row[:, None] == row
    return seen


# %% wrong="14.2" hint="modulo the width, not the height"
def column_pattern(text, height, width):
    seen = torch.ones(text + height * width, text + height * width, dtype=torch.bool).tril()
    column = torch.arange(height * width) % height
    seen[text:, text:] &= column[:, None] == column
    return seen


# %% wrong="14.2" hint="only its column"
def column_pattern(text, height, width):
    return torch.ones(text + height * width, text + height * width, dtype=torch.bool).tril()


# %% right="14.2" name="loops"
def column_pattern(text, height, width):
    size = text + height * width
    seen = torch.zeros(size, size, dtype=torch.bool)
    for i in range(size):
        for j in range(i + 1):
            seen[i, j] = j < text or (i - j) % width == 0
    return seen


# %% right="14.2" name="one formula"
def column_pattern(text, height, width):
    place = torch.arange(text + height * width)
    back = place[:, None] - place
    return (back >= 0) & ((place < text) | (back % width == 0))


# %% right="14.2" name="blocks"
def column_pattern(text, height, width):
    n = height * width
    block = torch.eye(width, dtype=torch.bool).repeat(height, height).tril()
    upper = torch.cat([torch.ones(text, text, dtype=torch.bool).tril(), torch.zeros(text, n, dtype=torch.bool)], 1)
    return torch.cat([upper, torch.cat([torch.ones(n, text, dtype=torch.bool), block], 1)])


# %% wrong="14.3" hint="write yourself"
def cached_step(x, w, keys, values, allowed, heads):
    query, key, value = (x @ w.T).chunk(3, 1)
    keys, values = torch.cat([keys, key[:, None]], 1), torch.cat([values, value[:, None]], 1)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query[:, None], keys, values))
    out = F.scaled_dot_product_attention(q, k, v, torch.cat([allowed, torch.tensor([True])])[None])
    return out.transpose(1, 2).flatten(1), keys, values


# %% wrong="14.3" hint="the pattern has no effect"
def cached_step(x, w, keys, values, allowed, heads):
    query, key, value = (x @ w.T).chunk(3, 1)
    keys, values = torch.cat([keys, key[:, None]], 1), torch.cat([values, value[:, None]], 1)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query[:, None], keys, values))
    weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(3)
    return (weights @ v).flatten(1), keys, values


# %% wrong="14.3" hint="the pattern is the wrong way round"
def cached_step(x, w, keys, values, allowed, heads):
    query, key, value = (x @ w.T).chunk(3, 1)
    keys, values = torch.cat([keys, key[:, None]], 1), torch.cat([values, value[:, None]], 1)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query[:, None], keys, values))
    hidden = torch.cat([allowed, torch.tensor([False])])
    weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).masked_fill(hidden, -math.inf).softmax(3)
    return (weights @ v).flatten(1), keys, values


# %% wrong="14.3" hint="does not see itself"
def cached_step(x, w, keys, values, allowed, heads):
    query, key, value = (x @ w.T).chunk(3, 1)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query[:, None], keys, values))
    weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).masked_fill(~allowed, -math.inf).softmax(3)
    out = (weights @ v).flatten(1)
    return out, torch.cat([keys, key[:, None]], 1), torch.cat([values, value[:, None]], 1)


# %% wrong="14.3" hint="later tokens may be allowed"
def cached_step(x, w, keys, values, allowed, heads):
    query, key, value = (x @ w.T).chunk(3, 1)
    keys, values = keys[:, allowed], values[:, allowed]
    keys, values = torch.cat([keys, key[:, None]], 1), torch.cat([values, value[:, None]], 1)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query[:, None], keys, values))
    weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(3)
    return (weights @ v).flatten(1), keys, values


# %% wrong="14.3" hint="the cache must have"
def cached_step(x, w, keys, values, allowed, heads):
    query, key, value = (x @ w.T).chunk(3, 1)
    more_keys, more_values = torch.cat([keys, key[:, None]], 1), torch.cat([values, value[:, None]], 1)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query[:, None], more_keys, more_values))
    seen = torch.cat([allowed, torch.tensor([True])])
    weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).masked_fill(~seen, -math.inf).softmax(3)
    return (weights @ v).flatten(1), keys, values


# %% wrong="14.3" hint="goes behind the others"
def cached_step(x, w, keys, values, allowed, heads):
    query, key, value = (x @ w.T).chunk(3, 1)
    keys, values = torch.cat([key[:, None], keys], 1), torch.cat([value[:, None], values], 1)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query[:, None], keys, values))
    seen = torch.cat([torch.tensor([True]), allowed])
    weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).masked_fill(~seen, -math.inf).softmax(3)
    return (weights @ v).flatten(1), keys, values


# %% wrong="14.3" hint="is the other kind"
def cached_step(x, w, keys, values, allowed, heads):
    query, value, key = (x @ w.T).chunk(3, 1)
    keys, values = torch.cat([keys, key[:, None]], 1), torch.cat([values, value[:, None]], 1)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query[:, None], keys, values))
    seen = torch.cat([allowed, torch.tensor([True])])
    weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).masked_fill(~seen, -math.inf).softmax(3)
    return (weights @ v).flatten(1), keys, values


# %% wrong="14.3" hint="a logit of 0 and so a weight"
def cached_step(x, w, keys, values, allowed, heads):
    query, key, value = (x @ w.T).chunk(3, 1)
    keys, values = torch.cat([keys, key[:, None]], 1), torch.cat([values, value[:, None]], 1)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query[:, None], keys, values))
    seen = torch.cat([allowed, torch.tensor([True])])
    weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3]) * seen).softmax(3)
    return (weights @ v).flatten(1), keys, values


# %% wrong="14.3" hint="not of D"
def cached_step(x, w, keys, values, allowed, heads):
    query, key, value = (x @ w.T).chunk(3, 1)
    keys, values = torch.cat([keys, key[:, None]], 1), torch.cat([values, value[:, None]], 1)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query[:, None], keys, values))
    seen = torch.cat([allowed, torch.tensor([True])])
    weights = (q @ k.transpose(2, 3) / math.sqrt(x.shape[1])).masked_fill(~seen, -math.inf).softmax(3)
    return (weights @ v).flatten(1), keys, values


# %% wrong="14.3" hint="must be divided by the root of d"
def cached_step(x, w, keys, values, allowed, heads):
    query, key, value = (x @ w.T).chunk(3, 1)
    keys, values = torch.cat([keys, key[:, None]], 1), torch.cat([values, value[:, None]], 1)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query[:, None], keys, values))
    seen = torch.cat([allowed, torch.tensor([True])])
    weights = (q @ k.transpose(2, 3)).masked_fill(~seen, -math.inf).softmax(3)
    return (weights @ v).flatten(1), keys, values


# %% wrong="14.3" hint="there is one head"
def cached_step(x, w, keys, values, allowed, heads):
    query, key, value = (x @ w.T).chunk(3, 1)
    keys, values = torch.cat([keys, key[:, None]], 1), torch.cat([values, value[:, None]], 1)
    seen = torch.cat([allowed, torch.tensor([True])])
    logits = (keys @ query[:, :, None])[..., 0] / math.sqrt(x.shape[1])
    weights = logits.masked_fill(~seen, -math.inf).softmax(1)
    return (weights[:, None] @ values)[:, 0], keys, values


# %% right="14.3" name="head by head"
def cached_step(x, w, keys, values, allowed, heads):
    query, key, value = (x @ w.T).chunk(3, 1)
    keys, values = torch.cat([keys, key[:, None]], 1), torch.cat([values, value[:, None]], 1)
    seen, out = torch.cat([allowed, torch.tensor([True])]), []
    width = x.shape[1] // heads
    for q, k, v in zip(query.split(width, 1), keys.split(width, 2), values.split(width, 2), strict=True):
        logits = (k * q[:, None]).sum(2) / width**0.5
        out.append((logits.masked_fill(~seen, -math.inf).softmax(1)[..., None] * v).sum(1))
    return torch.cat(out, 1), keys, values


# %% right="14.3" name="only what is seen is computed"
def cached_step(x, w, keys, values, allowed, heads):
    query, key, value = (x @ w.T).chunk(3, 1)
    keys, values = torch.cat([keys, key[:, None]], 1), torch.cat([values, value[:, None]], 1)
    at = torch.cat([allowed.nonzero()[:, 0], torch.tensor([len(allowed)])])
    q, k, v = (part.unflatten(2, (heads, -1)) for part in (query[:, None], keys[:, at], values[:, at]))
    logits = torch.einsum("bqhd,bmhd->bhm", q, k) / math.sqrt(q.shape[3])
    return torch.einsum("bhm,bmhd->bhd", logits.softmax(2), v).flatten(1), keys, values


# %% right="14.3" name="exponentials by hand"
def cached_step(x, w, keys, values, allowed, heads):
    width = x.shape[1]
    query, key, value = x @ w[:width].T, x @ w[width : 2 * width].T, x @ w[2 * width :].T
    keys, values = torch.cat([keys, key[:, None]], 1), torch.cat([values, value[:, None]], 1)
    q, k, v = (part.reshape(len(x), -1, heads, width // heads).transpose(1, 2) for part in (query, keys, values))
    logits = (q * k).sum(3) / math.sqrt(width / heads)
    weights = (logits - logits.amax(2, keepdim=True)).exp()
    weights = torch.cat([weights[..., :-1] * allowed, weights[..., -1:]], 2)
    weights = weights / weights.sum(2, keepdim=True)
    return (weights[..., None] * v).sum(2).reshape(len(x), width), keys, values


# %% wrong="14.4" hint="top_k = 0 cuts nothing"
def next_law(logits, temperature, top_k):
    scaled = logits / temperature
    least = scaled.topk(max(top_k, 1), dim=1).values[:, -1:]
    return scaled.masked_fill(scaled < least, -math.inf).softmax(1)


# %% wrong="14.4" hint="write yourself"
def next_law(logits, temperature, top_k):
    chance = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    drawn = [next_token(row.expand(1000, -1), chance, temperature, top_k) for row in logits]
    return torch.stack([d.bincount(minlength=logits.shape[1]) / 1000 for d in drawn])


# %% wrong="14.4" hint="are multiplied by the temperature"
def next_law(logits, temperature, top_k):
    scaled = logits * temperature
    if top_k:
        scaled = scaled.masked_fill(scaled < scaled.topk(top_k, dim=1).values[:, -1:], -math.inf)
    return scaled.softmax(1)


# %% wrong="14.4" hint="the temperature has no effect"
def next_law(logits, temperature, top_k):
    if top_k:
        logits = logits.masked_fill(logits < logits.topk(top_k, dim=1).values[:, -1:], -math.inf)
    return logits.softmax(1)


# %% wrong="14.4" hint="top_k has no effect"
def next_law(logits, temperature, top_k):
    return (logits / temperature).softmax(1)


# %% wrong="14.4" hint="must sum to 1 again"
def next_law(logits, temperature, top_k):
    law = (logits / temperature).softmax(1)
    if top_k:
        law = law.masked_fill(law < law.topk(top_k, dim=1).values[:, -1:], 0.0)
    return law


# %% wrong="14.4" hint="the least probable tokens are kept"
def next_law(logits, temperature, top_k):
    scaled = logits / temperature
    if top_k:
        scaled = scaled.masked_fill(scaled > -(-scaled).topk(top_k, dim=1).values[:, -1:], -math.inf)
    return scaled.softmax(1)


# %% wrong="14.4" hint="with a cut, the logits are not divided"
def next_law(logits, temperature, top_k):
    if top_k:
        return logits.masked_fill(logits < logits.topk(top_k, dim=1).values[:, -1:], -math.inf).softmax(1)
    return (logits / temperature).softmax(1)


# %% wrong="14.4" hint="have a logit of 0 and so a probability"
def next_law(logits, temperature, top_k):
    scaled = logits / temperature
    if top_k:
        scaled = scaled.masked_fill(scaled < scaled.topk(top_k, dim=1).values[:, -1:], 0.0)
    return scaled.softmax(1)


# %% wrong="14.4" hint="tokens can be drawn"
def next_law(logits, temperature, top_k):
    scaled = logits / temperature
    if top_k:
        scaled = scaled.masked_fill(scaled <= scaled.topk(top_k, dim=1).values[:, -1:], -math.inf)
        scaled = torch.where(scaled.isinf().all(1, keepdim=True), torch.zeros_like(scaled), scaled)
    return scaled.softmax(1)


# %% wrong="14.4" hint="exactly as probable as the last one"
def next_law(logits, temperature, top_k):
    scaled = logits / temperature
    if top_k:
        best = scaled.topk(top_k, dim=1)
        scaled = torch.full_like(scaled, -math.inf).scatter(1, best.indices, best.values)
    return scaled.softmax(1)


# %% wrong="14.4" hint="must be finite"
def next_law(logits, temperature, top_k):
    if top_k:
        logits = logits.masked_fill(logits < logits.topk(top_k, dim=1).values[:, -1:], -math.inf)
    weights = (logits / temperature).exp()
    return weights / weights.sum(1, keepdim=True)


# %% right="14.4" name="probabilities are cut and scaled"
def next_law(logits, temperature, top_k):
    law = (logits / temperature).softmax(1)
    if not top_k:
        return law
    kept = torch.where(logits >= logits.topk(top_k, dim=1).values[:, -1:], law, 0.0)
    return kept / kept.sum(1, keepdim=True)


# %% right="14.4" name="by sorting, exponentials by hand"
def next_law(logits, temperature, top_k):
    ordered = logits.sort(dim=1, descending=True).values
    least = ordered[:, top_k - 1 : top_k] if top_k else torch.full_like(ordered[:, :1], -math.inf)
    weights = ((logits - ordered[:, :1]) / temperature).exp() * (logits >= least)
    return weights / weights.sum(1, keepdim=True)


# %% right="14.4" name="row by row"
def next_law(logits, temperature, top_k):
    out = []
    for row in logits:
        least = row.sort().values[-top_k] if top_k else -math.inf
        out.append(torch.where(row >= least, row / temperature, -math.inf).softmax(0))
    return torch.stack(out)


# %% wrong="14.5" hint="write yourself"
def log_pixel(x, location, log_scale, epsilon=0.1):
    return log_density(x, location, log_scale)


# %% wrong="14.5" hint="the change of variables is missing"
def log_pixel(x, location, log_scale, epsilon=0.1):
    v = (1 - 2 * epsilon) * (x + 1) / 2 + epsilon
    return -(v.logit() - location).abs() / log_scale.exp() - log_scale - math.log(2)


# %% wrong="14.5" hint="the change of variables the wrong way round"
def log_pixel(x, location, log_scale, epsilon=0.1):
    v = (1 - 2 * epsilon) * (x + 1) / 2 + epsilon
    return -(v.logit() - location).abs() / log_scale.exp() - log_scale - math.log(2) + (v * (1 - v)).log()


# %% wrong="14.5" hint="the 2 of 2 b is missing"
def log_pixel(x, location, log_scale, epsilon=0.1):
    v = (1 - 2 * epsilon) * (x + 1) / 2 + epsilon
    return -(v.logit() - location).abs() / log_scale.exp() - log_scale - (v * (1 - v)).log()


# %% wrong="14.5" hint="is divided by b: a wider one is lower"
def log_pixel(x, location, log_scale, epsilon=0.1):
    v = (1 - 2 * epsilon) * (x + 1) / 2 + epsilon
    return -(v.logit() - location).abs() / log_scale.exp() - (2 * v * (1 - v)).log()


# %% wrong="14.5" hint="the distance is multiplied by b"
def log_pixel(x, location, log_scale, epsilon=0.1):
    v = (1 - 2 * epsilon) * (x + 1) / 2 + epsilon
    return -(v.logit() - location).abs() * log_scale.exp() - log_scale - (2 * v * (1 - v)).log()


# %% wrong="14.5" hint="this is the density of x"
def log_pixel(x, location, log_scale, epsilon=0.1):
    v = (1 - 2 * epsilon) * (x + 1) / 2 + epsilon
    log_v = -(v.logit() - location).abs() / log_scale.exp() - log_scale - (2 * v * (1 - v)).log()
    return log_v + math.log((1 - 2 * epsilon) / 2)


# %% wrong="14.5" hint="the distance is squared"
def log_pixel(x, location, log_scale, epsilon=0.1):
    v = (1 - 2 * epsilon) * (x + 1) / 2 + epsilon
    return -((v.logit() - location) ** 2) / log_scale.exp() - log_scale - (2 * v * (1 - v)).log()


# %% wrong="14.5" hint="check the sign"
def log_pixel(x, location, log_scale, epsilon=0.1):
    v = (1 - 2 * epsilon) * (x + 1) / 2 + epsilon
    return (v.logit() - location).abs() / log_scale.exp() - log_scale - (2 * v * (1 - v)).log()


# %% wrong="14.5" hint="wrong for another epsilon"
def log_pixel(x, location, log_scale, epsilon=0.1):
    v = 0.8 * (x + 1) / 2 + 0.1
    return -(v.logit() - location).abs() / log_scale.exp() - log_scale - (2 * v * (1 - v)).log()


# %% wrong="14.5" hint="must be finite"
def log_pixel(x, location, log_scale, epsilon=0.1):
    v = (x + 1) / 2
    return -(v.logit() - location).abs() / log_scale.exp() - log_scale - (2 * v * (1 - v)).log()


# %% right="14.5" name="torch's Laplace law"
def log_pixel(x, location, log_scale, epsilon=0.1):
    v = (1 - 2 * epsilon) * (x + 1) / 2 + epsilon
    law = torch.distributions.Laplace(location, log_scale.exp())
    return law.log_prob(v.logit()) - v.log() - (1 - v).log()


# %% right="14.5" name="the slope by autograd"
def log_pixel(x, location, log_scale, epsilon=0.1):
    with torch.enable_grad():
        v = ((1 - 2 * epsilon) * (x + 1) / 2 + epsilon).detach().requires_grad_()
        odds = torch.log(v / (1 - v))
        slope = torch.autograd.grad(odds.sum(), v)[0]
    scale = log_scale.exp()
    return (slope / (2 * scale)).log() - (odds.detach() - location).abs() / scale


# %% right="14.5" name="the logarithm of the density"
def log_pixel(x, location, log_scale, epsilon=0.1):
    v = epsilon + (0.5 - epsilon) * (x + 1)
    below = torch.minimum(v.logit() - location, location - v.logit())
    return below * torch.exp(-log_scale) - torch.log(2 * torch.exp(log_scale)) - torch.log(v - v * v)


# %% wrong="14.6" hint="the two losses are exchanged"
def two_stages(data, encoder, decoder, prior):
    joint = data[:, :, None] * encoder
    both = joint.sum(1)
    second = (both * (both / both.sum(1, keepdim=True) / prior).log()).sum()
    first = (joint * (joint / both[:, None] / decoder.T).log()).sum()
    return (joint * (encoder / decoder.T / prior[:, None]).log()).sum(), first, second


# %% wrong="14.6" hint="the encoder's own entropy is missing"
def two_stages(data, encoder, decoder, prior):
    joint = data[:, :, None] * encoder
    both = joint.sum(1)
    second = (both * (both / both.sum(1, keepdim=True) / prior).log()).sum()
    first = (joint * (joint / both[:, None] / decoder.T).log()).sum()
    return -(joint * (decoder.T * prior[:, None]).log()).sum(), second, first


# %% wrong="14.6" hint="the sign of the bound"
def two_stages(data, encoder, decoder, prior):
    joint = data[:, :, None] * encoder
    both = joint.sum(1)
    second = (both * (both / both.sum(1, keepdim=True) / prior).log()).sum()
    first = (joint * (joint / both[:, None] / decoder.T).log()).sum()
    return -(joint * (encoder / decoder.T / prior[:, None]).log()).sum(), second, first


# %% wrong="14.6" hint="captions are not equally frequent"
def two_stages(data, encoder, decoder, prior):
    joint = data[:, :, None] * encoder
    both = joint.sum(1)
    given = both / both.sum(1, keepdim=True)
    second = (given * (given / prior).log()).sum(1).mean()
    first = (joint * (joint / both[:, None] / decoder.T).log()).sum()
    return (joint * (encoder / decoder.T / prior[:, None]).log()).sum(), second, first


# %% wrong="14.6" hint="the wrong way round: KL(q | p)"
def two_stages(data, encoder, decoder, prior):
    joint = data[:, :, None] * encoder
    both = joint.sum(1)
    given = both / both.sum(1, keepdim=True)
    second = (data.sum(1) * (prior * (prior / given).log()).sum(1)).sum()
    first = (joint * (joint / both[:, None] / decoder.T).log()).sum()
    return (joint * (encoder / decoder.T / prior[:, None]).log()).sum(), second, first


# %% wrong="14.6" hint="q(z) was taken for q(z | y)"
def two_stages(data, encoder, decoder, prior):
    joint = data[:, :, None] * encoder
    both = joint.sum(1)
    second = (both * (both.sum(0) / prior).log()).sum()
    first = (joint * (joint / both[:, None] / decoder.T).log()).sum()
    return (joint * (encoder / decoder.T / prior[:, None]).log()).sum(), second, first


# %% wrong="14.6" hint="q(x | z) was taken for q(x | z, y)"
def two_stages(data, encoder, decoder, prior):
    joint = data[:, :, None] * encoder
    both = joint.sum(1)
    second = (both * (both / both.sum(1, keepdim=True) / prior).log()).sum()
    given = joint.sum(0) / joint.sum((0, 1))
    first = (joint * (given / decoder.T).log()).sum()
    return (joint * (encoder / decoder.T / prior[:, None]).log()).sum(), second, first


# %% wrong="14.6" hint="an encoder that is certain"
def two_stages(data, encoder, decoder, prior):
    joint = data[:, :, None] * encoder
    both = joint.sum(1)
    second = (both * (both / both.sum(1, keepdim=True) / prior).log()).sum()
    first = (joint * (joint / both[:, None] / decoder.T).log()).sum()
    return (joint * (encoder / decoder.T / prior[:, None]).log()).sum(), second, first


# %% wrong="14.6" hint="return three scalars in a tuple"
def two_stages(data, encoder, decoder, prior):
    joint = data[:, :, None] * encoder
    return (joint * (encoder / decoder.T / prior[:, None]).log()).sum()


# %% right="14.6" name="loops"
def two_stages(data, encoder, decoder, prior):
    bound, second, first = 0.0, 0.0, 0.0
    for y in range(len(prior)):
        said = data[y].sum()
        for z in range(len(decoder)):
            both = (data[y] * encoder[:, z]).sum()
            if both > 0:
                second = second + both * torch.log(both / said / prior[y, z])
            for x in range(len(encoder)):
                weight = data[y, x] * encoder[x, z]
                if weight > 0:
                    bound = bound + weight * torch.log(encoder[x, z] / decoder[z, x] / prior[y, z])
                    first = first + weight * torch.log(weight / both / decoder[z, x])
    return bound, second, first


# %% right="14.6" name="entropies, by xlogy"
def two_stages(data, encoder, decoder, prior):
    joint = data[:, :, None] * encoder
    both, said = joint.sum(1), data.sum(1)
    distortion = -(joint * decoder.log().T).sum()
    cross = -(both * prior.log()).sum()
    rate = cross + torch.xlogy(joint, encoder.expand_as(joint)).sum()
    second = torch.xlogy(both, both).sum() - torch.xlogy(said, said).sum() + cross
    first = torch.xlogy(joint, joint).sum() - torch.xlogy(both, both).sum() + distortion
    return distortion + rate, second, first


# %% right="14.6" name="one by the sum of the others"
def two_stages(data, encoder, decoder, prior):
    joint = data[:, :, None] * encoder
    tokens = torch.einsum("yx,xk->yk", data / data.sum(1, keepdim=True), encoder)
    second = (data.sum(1, keepdim=True) * torch.special.xlogy(tokens, tokens / prior)).sum()
    bound = torch.special.xlogy(joint, encoder / decoder.T / prior[:, None]).sum()
    entropy = -(data * (data / data.sum(1, keepdim=True)).log()).sum()
    return bound, second, bound - entropy - second


# %% wrong="14.7" hint="this is an oracle's choice"
def best_of(score, truth, n):
    many = score.shape[1]
    weights = [math.comb(r, n - 1) / math.comb(many, n) for r in range(many)]
    return truth.double().sort(1).values @ torch.tensor(weights, dtype=torch.float64)


# %% wrong="14.7" hint="the lowest score was chosen"
def best_of(score, truth, n):
    many = score.shape[1]
    weights = [math.comb(r, n - 1) / math.comb(many, n) for r in range(many)]
    order = score.argsort(1, descending=True)
    return truth.double().gather(1, order) @ torch.tensor(weights, dtype=torch.float64)


# %% wrong="14.7" hint="the score of the chosen one was returned"
def best_of(score, truth, n):
    many = score.shape[1]
    weights = [math.comb(r, n - 1) / math.comb(many, n) for r in range(many)]
    return score.double().sort(1).values @ torch.tensor(weights, dtype=torch.float64)


# %% wrong="14.7" hint="the mean of the three best of all"
def best_of(score, truth, n):
    return truth.double().gather(1, score.topk(n, dim=1).indices).mean(1)


# %% wrong="14.7" hint="the best of all M"
def best_of(score, truth, n):
    return truth.double().gather(1, score.argmax(1, keepdim=True))[:, 0]


# %% wrong="14.7" hint="the best of the first n"
def best_of(score, truth, n):
    return truth.double().gather(1, score[:, :n].argmax(1, keepdim=True))[:, 0]


# %% wrong="14.7" hint="one may come twice"
def best_of(score, truth, n):
    many = score.shape[1]
    share = torch.arange(many + 1, dtype=torch.float64) / many
    return truth.double().gather(1, score.argsort(1)) @ (share[1:] ** n - share[:-1] ** n)


# %% wrong="14.7" hint="that is the best of n + 1"
def best_of(score, truth, n):
    many = score.shape[1]
    weights = [math.comb(r, n) / math.comb(many, n + 1) for r in range(many)]
    return truth.double().gather(1, score.argsort(1)) @ torch.tensor(weights, dtype=torch.float64)


# %% wrong="14.7" hint="that is the best of n - 1"
def best_of(score, truth, n):
    many = score.shape[1]
    weights = [math.comb(r, n - 2) / math.comb(many, n - 1) for r in range(many)]
    return truth.double().gather(1, score.argsort(1)) @ torch.tensor(weights, dtype=torch.float64)


# %% wrong="14.7" hint="divide integers"
def best_of(score, truth, n):
    many = score.shape[1]
    ways = torch.tensor([math.comb(r, n - 1) for r in range(many)])
    return (truth.double().gather(1, score.argsort(1)) * ways).sum(1) / math.comb(many, n)


# %% right="14.7" name="ranks instead of sorting"
def best_of(score, truth, n):
    many = score.shape[1]
    below = (score[:, :, None] > score[:, None]).sum(2)
    weights = torch.tensor([math.comb(r, n - 1) / math.comb(many, n) for r in range(many)], dtype=torch.float64)
    return (weights[below] * truth.double()).sum(1)


# %% right="14.7" name="the weights from the top down"
def best_of(score, truth, n):
    many = score.shape[1]
    ordered, left, out = truth.double().gather(1, score.argsort(1, descending=True)), 1.0, 0.0
    for k in range(many - n + 1):  # the k best are not among the n, the next one is
        share = n / (many - k)
        out = out + left * share * ordered[:, k]
        left *= 1 - share
    return out


# %% right="14.7" name="logarithms of factorials"
def best_of(score, truth, n):
    many = score.shape[1]

    def log_ways(a, b):
        return math.lgamma(a + 1) - math.lgamma(b + 1) - math.lgamma(a - b + 1)

    weights = [math.exp(log_ways(r, n - 1) - log_ways(many, n)) if r >= n - 1 else 0.0 for r in range(many)]
    return truth.double().gather(1, score.argsort(1)) @ torch.tensor(weights, dtype=torch.float64)
