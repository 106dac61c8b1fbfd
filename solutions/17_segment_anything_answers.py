"""Wrong and right answers to exercise 17: wrong ones must be caught, each with its own hint; right ones must pass."""


# %% wrong="17.1" hint="write yourself"
def seen_patches(batch, patches, hidden, generator):
    return visible_patches(batch, patches, hidden, generator)


# %% wrong="17.1" hint="as many as the hidden patches"
def seen_patches(batch, patches, hidden, generator):
    order = torch.rand(batch, patches, generator=generator).argsort(1)
    return order[:, : round(hidden * patches)].sort(1).values


# %% wrong="17.1" hint="a patch comes twice"
def seen_patches(batch, patches, hidden, generator):
    kept = max(1, patches - round(hidden * patches))
    return torch.randint(patches, (batch, kept), generator=generator).sort(1).values


# %% wrong="17.1" hint="not in ascending order"
def seen_patches(batch, patches, hidden, generator):
    kept = max(1, patches - round(hidden * patches))
    return torch.rand(batch, patches, generator=generator).argsort(1)[:, :kept]


# %% wrong="17.1" hint="all images have the same subset"
def seen_patches(batch, patches, hidden, generator):
    kept = max(1, patches - round(hidden * patches))
    return torch.randperm(patches, generator=generator)[:kept].sort().values.expand(batch, -1)


# %% wrong="17.1" hint="must come from the generator"
def seen_patches(batch, patches, hidden, generator):
    kept = max(1, patches - round(hidden * patches))
    return torch.rand(batch, patches).argsort(1)[:, :kept].sort(1).values


# %% wrong="17.1" hint="the generator has no effect"
def seen_patches(batch, patches, hidden, generator):
    kept = max(1, patches - round(hidden * patches))
    own = torch.Generator().manual_seed(0)
    return torch.rand(batch, patches, generator=own).argsort(1)[:, :kept].sort(1).values


# %% wrong="17.1" hint="not all patches are as probable"
def seen_patches(batch, patches, hidden, generator):
    kept = max(1, patches - round(hidden * patches))
    first = torch.randint(patches - kept + 1, (batch, 1), generator=generator)
    return first + torch.arange(kept)


# %% wrong="17.1" hint="neighbours are seen together"
def seen_patches(batch, patches, hidden, generator):
    kept = max(1, patches - round(hidden * patches))
    first = torch.randint(patches, (batch, 1), generator=generator)
    return ((first + torch.arange(kept)) % patches).sort(1).values


# %% wrong="17.1" hint="round to 3"
def seen_patches(batch, patches, hidden, generator):
    kept = max(1, patches - int(hidden * patches))
    return torch.rand(batch, patches, generator=generator).argsort(1)[:, :kept].sort(1).values


# %% wrong="17.1" hint="at least one patch is seen"
def seen_patches(batch, patches, hidden, generator):
    kept = patches - round(hidden * patches)
    return torch.rand(batch, patches, generator=generator).argsort(1)[:, :kept].sort(1).values


# %% wrong="17.1" hint="and not what is seen"
def seen_patches(batch, patches, hidden, generator):
    kept = max(1, round((1 - hidden) * patches))
    return torch.rand(batch, patches, generator=generator).argsort(1)[:, :kept].sort(1).values


# %% right="17.1" name="one permutation an image"
def seen_patches(batch, patches, hidden, generator):
    kept = max(1, patches - round(hidden * patches))
    return torch.stack([torch.randperm(patches, generator=generator)[:kept].sort().values for _ in range(batch)])


# %% right="17.1" name="the largest numbers"
def seen_patches(batch, patches, hidden, generator):
    kept = max(1, patches - round(hidden * patches))
    return torch.rand(batch, patches, generator=generator).topk(kept, dim=1).indices.sort(1).values


# %% right="17.1" name="multinomial without putting back"
def seen_patches(batch, patches, hidden, generator):
    kept = max(1, patches - round(hidden * patches))
    drawn = torch.multinomial(torch.ones(batch, patches), kept, replacement=False, generator=generator)
    return drawn.sort(dim=1)[0]


# %% wrong="17.2" hint="write yourself"
def waves(points, frequencies, height, width):
    layer = FourierFeatures(2 * frequencies.shape[1])
    layer.frequencies = frequencies
    return layer((points + 0.5) / torch.tensor([width, height]))


# %% wrong="17.2" hint="add 0.5 before dividing"
def waves(points, frequencies, height, width):
    place = points / torch.tensor([width, height], dtype=points.dtype)
    angle = 2 * math.pi * (2 * place - 1) @ frequencies
    return torch.cat([angle.sin(), angle.cos()], -1)


# %% wrong="17.2" hint="these are exchanged"
def waves(points, frequencies, height, width):
    place = (points + 0.5) / torch.tensor([height, width], dtype=points.dtype)
    angle = 2 * math.pi * (2 * place - 1) @ frequencies
    return torch.cat([angle.sin(), angle.cos()], -1)


# %% wrong="17.2" hint="2 c - 1 is missing"
def waves(points, frequencies, height, width):
    place = (points + 0.5) / torch.tensor([width, height], dtype=points.dtype)
    angle = 2 * math.pi * place @ frequencies
    return torch.cat([angle.sin(), angle.cos()], -1)


# %% wrong="17.2" hint="the factor 2 pi is missing"
def waves(points, frequencies, height, width):
    place = (points + 0.5) / torch.tensor([width, height], dtype=points.dtype)
    angle = (2 * place - 1) @ frequencies
    return torch.cat([angle.sin(), angle.cos()], -1)


# %% wrong="17.2" hint="this is pi"
def waves(points, frequencies, height, width):
    place = (points + 0.5) / torch.tensor([width, height], dtype=points.dtype)
    angle = math.pi * (2 * place - 1) @ frequencies
    return torch.cat([angle.sin(), angle.cos()], -1)


# %% wrong="17.2" hint="the sines come first"
def waves(points, frequencies, height, width):
    place = (points + 0.5) / torch.tensor([width, height], dtype=points.dtype)
    angle = 2 * math.pi * (2 * place - 1) @ frequencies
    return torch.cat([angle.cos(), angle.sin()], -1)


# %% wrong="17.2" hint="sine and cosine by turns"
def waves(points, frequencies, height, width):
    place = (points + 0.5) / torch.tensor([width, height], dtype=points.dtype)
    angle = 2 * math.pi * (2 * place - 1) @ frequencies
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)


# %% wrong="17.2" hint="not width - 1"
def waves(points, frequencies, height, width):
    place = (points + 0.5) / torch.tensor([width - 1, height - 1], dtype=points.dtype)
    angle = 2 * math.pi * (2 * place - 1) @ frequencies
    return torch.cat([angle.sin(), angle.cos()], -1)


# %% wrong="17.2" hint="x and y are exchanged"
def waves(points, frequencies, height, width):
    place = (points.flip(-1) + 0.5) / torch.tensor([height, width], dtype=points.dtype)
    angle = 2 * math.pi * (2 * place - 1) @ frequencies
    return torch.cat([angle.sin(), angle.cos()], -1)


# %% right="17.2" name="x and y by themselves"
def waves(points, frequencies, height, width):
    x, y = 2 * (points[..., 0] + 0.5) / width - 1, 2 * (points[..., 1] + 0.5) / height - 1
    turns = x[..., None] * frequencies[0] + y[..., None] * frequencies[1]
    return torch.cat([torch.sin(2 * math.pi * turns), torch.cos(2 * math.pi * turns)], -1)


# %% right="17.2" name="the cosine as a shifted sine"
def waves(points, frequencies, height, width):
    place = (2 * points + 1 - torch.tensor([width, height])) / torch.tensor([width, height])
    angle = torch.einsum("...i,im->...m", place, 2 * math.pi * frequencies)
    return torch.sin(torch.cat([angle, angle + math.pi / 2], -1))


# %% right="17.2" name="complex numbers"
def waves(points, frequencies, height, width):
    place = torch.stack([(points[..., 0] + 0.5) / width, (points[..., 1] + 0.5) / height], -1)
    wave = torch.exp(2j * math.pi * ((2 * place - 1) @ frequencies))
    return torch.cat([wave.imag, wave.real], -1)


# %% wrong="17.3" hint="the answer calls grad"
def dice(logits, truth, smooth):
    with torch.enable_grad():
        leaf = logits.clone().requires_grad_()
        p = leaf.sigmoid()
        loss = 1 - (2 * (p * truth).sum((1, 2)) + smooth) / (p.sum((1, 2)) + truth.sum((1, 2)) + smooth)
        return loss.detach(), torch.autograd.grad(loss.sum(), leaf)[0]


# %% wrong="17.3" hint="the answer calls backward"
def dice(logits, truth, smooth):
    with torch.enable_grad():
        leaf = logits.clone().requires_grad_()
        p = leaf.sigmoid()
        loss = 1 - (2 * (p * truth).sum((1, 2)) + smooth) / (p.sum((1, 2)) + truth.sum((1, 2)) + smooth)
        torch.autograd.backward(loss.sum())
        return loss.detach(), leaf.grad


# %% wrong="17.3" hint="the answer calls make_dual"
def dice(logits, truth, smooth):
    def loss(logits):
        p = logits.sigmoid()
        return 1 - (2 * (p * truth).sum((1, 2)) + smooth) / (p.sum((1, 2)) + truth.sum((1, 2)) + smooth)

    return loss(logits), torch.func.jacfwd(lambda logits: loss(logits).sum())(logits)


# %% wrong="17.3" hint="this is the coefficient"
def dice(logits, truth, smooth):
    p = logits.sigmoid()
    above = 2 * (p * truth).sum((1, 2), keepdim=True) + smooth
    below = (p + truth).sum((1, 2), keepdim=True) + smooth
    return (above / below)[:, 0, 0], p * (1 - p) * (above / below - 2 * truth) / below


# %% wrong="17.3" hint="the smoothing is missing"
def dice(logits, truth, smooth):
    p = logits.sigmoid()
    above = 2 * (p * truth).sum((1, 2), keepdim=True)
    below = (p + truth).sum((1, 2), keepdim=True)
    return 1 - (above / below)[:, 0, 0], p * (1 - p) * (above / below - 2 * truth) / below


# %% wrong="17.3" hint="the smoothing is above and below"
def dice(logits, truth, smooth):
    p = logits.sigmoid()
    above = 2 * (p * truth).sum((1, 2), keepdim=True)
    below = (p + truth).sum((1, 2), keepdim=True) + smooth
    return 1 - (above / below)[:, 0, 0], p * (1 - p) * (above / below - 2 * truth) / below


# %% wrong="17.3" hint="this is the IoU's"
def dice(logits, truth, smooth):
    p = logits.sigmoid()
    above = (p * truth).sum((1, 2), keepdim=True) + smooth
    below = (p + truth - p * truth).sum((1, 2), keepdim=True) + smooth
    return 1 - (above / below)[:, 0, 0], p * (1 - p) * (above / below * (1 - truth) - truth) / below


# %% wrong="17.3" hint="no squares below"
def dice(logits, truth, smooth):
    p = logits.sigmoid()
    above = 2 * (p * truth).sum((1, 2), keepdim=True) + smooth
    below = (p.square() + truth).sum((1, 2), keepdim=True) + smooth
    return 1 - (above / below)[:, 0, 0], p * (1 - p) * (2 * p * above / below - 2 * truth) / below


# %% wrong="17.3" hint="cut off at 0"
def dice(logits, truth, smooth):
    p = (logits > 0).double()
    above = 2 * (p * truth).sum((1, 2), keepdim=True) + smooth
    below = (p + truth).sum((1, 2), keepdim=True) + smooth
    return 1 - (above / below)[:, 0, 0], (above / below - 2 * truth) / below


# %% wrong="17.3" hint="each mask has a loss of its own"
def dice(logits, truth, smooth):
    p = logits.sigmoid()
    above, below = 2 * (p * truth).sum() + smooth, (p + truth).sum() + smooth
    return (1 - above / below).expand(len(logits)), p * (1 - p) * (above / below - 2 * truth) / below


# %% wrong="17.3" hint="the sigmoid is missing"
def dice(logits, truth, smooth):
    p = logits
    above = 2 * (p * truth).sum((1, 2), keepdim=True) + smooth
    below = (p + truth).sum((1, 2), keepdim=True) + smooth
    return 1 - (above / below)[:, 0, 0], (above / below - 2 * truth) / below


# %% wrong="17.3" hint="the chain rule to the logits"
def dice(logits, truth, smooth):
    p = logits.sigmoid()
    above = 2 * (p * truth).sum((1, 2), keepdim=True) + smooth
    below = (p + truth).sum((1, 2), keepdim=True) + smooth
    return 1 - (above / below)[:, 0, 0], (above / below - 2 * truth) / below


# %% wrong="17.3" hint="the sign of the gradient"
def dice(logits, truth, smooth):
    p = logits.sigmoid()
    above = 2 * (p * truth).sum((1, 2), keepdim=True) + smooth
    below = (p + truth).sum((1, 2), keepdim=True) + smooth
    return 1 - (above / below)[:, 0, 0], p * (1 - p) * (2 * truth - above / below) / below


# %% wrong="17.3" hint="the mean over the batch"
def dice(logits, truth, smooth):
    p = logits.sigmoid()
    above = 2 * (p * truth).sum((1, 2), keepdim=True) + smooth
    below = (p + truth).sum((1, 2), keepdim=True) + smooth
    return 1 - (above / below)[:, 0, 0], p * (1 - p) * (above / below - 2 * truth) / below / len(logits)


# %% wrong="17.3" hint="the quotient rule has two parts"
def dice(logits, truth, smooth):
    p = logits.sigmoid()
    above = 2 * (p * truth).sum((1, 2), keepdim=True) + smooth
    below = (p + truth).sum((1, 2), keepdim=True) + smooth
    return 1 - (above / below)[:, 0, 0], -p * (1 - p) * 2 * truth / below


# %% wrong="17.3" hint="the part of what is above is missing"
def dice(logits, truth, smooth):
    p = logits.sigmoid()
    above = 2 * (p * truth).sum((1, 2), keepdim=True) + smooth
    below = (p + truth).sum((1, 2), keepdim=True) + smooth
    return 1 - (above / below)[:, 0, 0], p * (1 - p) * above / below**2


# %% wrong="17.3" hint="the 2 of 2 p T stays"
def dice(logits, truth, smooth):
    p = logits.sigmoid()
    above = 2 * (p * truth).sum((1, 2), keepdim=True) + smooth
    below = (p + truth).sum((1, 2), keepdim=True) + smooth
    return 1 - (above / below)[:, 0, 0], p * (1 - p) * (above / below - truth) / below


# %% wrong="17.3" hint="wrong for another smoothing"
def dice(logits, truth, smooth):
    p = logits.sigmoid()
    above = 2 * (p * truth).sum((1, 2), keepdim=True) + 1
    below = (p + truth).sum((1, 2), keepdim=True) + 1
    return 1 - (above / below)[:, 0, 0], p * (1 - p) * (above / below - 2 * truth) / below


# %% right="17.3" name="a loop over masks, by sums"
def dice(logits, truth, smooth):
    losses, slopes = [], []
    for one, t in zip(logits, truth, strict=True):
        p = 1 / (1 + torch.exp(-one))
        inside, total = float((p * t).sum()), float(p.sum() + t.sum())
        a, b = 2 * inside + smooth, total + smooth
        losses.append(1 - a / b)
        slopes.append(torch.where(t > 0, a - 2 * b, a) / b**2 * p * (1 - p))
    return torch.tensor(losses, dtype=logits.dtype), torch.stack(slopes)


# %% right="17.3" name="flat, and einsum"
def dice(logits, truth, smooth):
    p, t = logits.sigmoid().flatten(1), truth.flatten(1)
    a = 2 * torch.einsum("bn,bn->b", p, t) + smooth
    b = p.sum(1) + t.sum(1) + smooth
    slope = (a[:, None] - 2 * t * b[:, None]) / b[:, None].square() * (p - p.square())
    return (b - a) / b, slope.reshape(logits.shape)


# %% right="17.3" name="the slope of the sigmoid as a product of two"
def dice(logits, truth, smooth):
    p, q = logits.sigmoid(), (-logits).sigmoid()
    b = (p.sum(dim=(1, 2)) + truth.sum(dim=(1, 2)) + smooth)[:, None, None]
    ratio = (2 * (p * truth).sum(dim=(1, 2)) + smooth)[:, None, None] / b
    return (1 - ratio).flatten(), p * q / b * ratio - 2 * p * q * truth / b


# %% wrong="17.4" hint="write yourself"
def answers_loss(each, logits, rating, truth, shared):
    best = (1 - shared) * each.min(1).values.mean() + shared * each.mean()
    return best + (rating - iou_of(logits > 0, truth[:, None])).square().mean()


# %% wrong="17.4" hint="the mean of all losses"
def answers_loss(each, logits, rating, truth, shared):
    mask, wanted = logits > 0, truth[:, None]
    both, either = (mask & wanted).sum((2, 3)), (mask | wanted).sum((2, 3))
    iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)
    return each.mean() + (rating - iou).square().mean()


# %% wrong="17.4" hint="the smallest loss of the whole batch"
def answers_loss(each, logits, rating, truth, shared):
    mask, wanted = logits > 0, truth[:, None]
    both, either = (mask & wanted).sum((2, 3)), (mask | wanted).sum((2, 3))
    iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)
    return (1 - shared) * each.min() + shared * each.mean() + (rating - iou).square().mean()


# %% wrong="17.4" hint="the minimum comes before the mean"
def answers_loss(each, logits, rating, truth, shared):
    mask, wanted = logits > 0, truth[:, None]
    both, either = (mask & wanted).sum((2, 3)), (mask | wanted).sum((2, 3))
    iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)
    return (1 - shared) * each.mean(0).min() + shared * each.mean() + (rating - iou).square().mean()


# %% wrong="17.4" hint="it goes over the masks"
def answers_loss(each, logits, rating, truth, shared):
    mask, wanted = logits > 0, truth[:, None]
    both, either = (mask & wanted).sum((2, 3)), (mask | wanted).sum((2, 3))
    iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)
    return (1 - shared) * each.min(0).values.mean() + shared * each.mean() + (rating - iou).square().mean()


# %% wrong="17.4" hint="a sum over the batch"
def answers_loss(each, logits, rating, truth, shared):
    mask, wanted = logits > 0, truth[:, None]
    both, either = (mask & wanted).sum((2, 3)), (mask | wanted).sum((2, 3))
    iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)
    return (1 - shared) * each.min(1).values.sum() + shared * each.mean() + (rating - iou).square().mean()


# %% wrong="17.4" hint="the best by rating"
def answers_loss(each, logits, rating, truth, shared):
    mask, wanted = logits > 0, truth[:, None]
    both, either = (mask & wanted).sum((2, 3)), (mask | wanted).sum((2, 3))
    iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)
    best = each.gather(1, rating.argmax(1, keepdim=True)).mean()
    return (1 - shared) * best + shared * each.mean() + (rating - iou).square().mean()


# %% wrong="17.4" hint="the best by IoU"
def answers_loss(each, logits, rating, truth, shared):
    mask, wanted = logits > 0, truth[:, None]
    both, either = (mask & wanted).sum((2, 3)), (mask | wanted).sum((2, 3))
    iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)
    best = each.gather(1, iou.argmax(1, keepdim=True)).mean()
    return (1 - shared) * best + shared * each.mean() + (rating - iou).square().mean()


# %% wrong="17.4" hint="the error of the ratings is missing"
def answers_loss(each, logits, rating, truth, shared):
    return (1 - shared) * each.min(1).values.mean() + shared * each.mean()


# %% wrong="17.4" hint="the error of the ratings is squared"
def answers_loss(each, logits, rating, truth, shared):
    mask, wanted = logits > 0, truth[:, None]
    both, either = (mask & wanted).sum((2, 3)), (mask | wanted).sum((2, 3))
    iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)
    return (1 - shared) * each.min(1).values.mean() + shared * each.mean() + (rating - iou).abs().mean()


# %% wrong="17.4" hint="all ratings are trained"
def answers_loss(each, logits, rating, truth, shared):
    mask, wanted = logits > 0, truth[:, None]
    both, either = (mask & wanted).sum((2, 3)), (mask | wanted).sum((2, 3))
    iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)
    chosen = torch.arange(len(each)), each.argmin(1)
    return (1 - shared) * each[chosen].mean() + shared * each.mean() + (rating - iou)[chosen].square().mean()


# %% wrong="17.4" hint="logits are cut off at 0"
def answers_loss(each, logits, rating, truth, shared):
    mask, wanted = logits > 0.5, truth[:, None]
    both, either = (mask & wanted).sum((2, 3)), (mask | wanted).sum((2, 3))
    iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)
    return (1 - shared) * each.min(1).values.mean() + shared * each.mean() + (rating - iou).square().mean()


# %% wrong="17.4" hint="this is dice"
def answers_loss(each, logits, rating, truth, shared):
    mask, wanted = logits > 0, truth[:, None]
    both, total = (mask & wanted).sum((2, 3)), mask.sum((2, 3)) + wanted.sum((2, 3))
    score = torch.where(total > 0, 2 * both / total.clamp(min=1), 1.0)
    return (1 - shared) * each.min(1).values.mean() + shared * each.mean() + (rating - score).square().mean()


# %% wrong="17.4" hint="two empty masks are alike"
def answers_loss(each, logits, rating, truth, shared):
    mask, wanted = logits > 0, truth[:, None]
    iou = (mask & wanted).sum((2, 3)) / (mask | wanted).sum((2, 3)).clamp(min=1)
    return (1 - shared) * each.min(1).values.mean() + shared * each.mean() + (rating - iou).square().mean()


# %% wrong="17.4" hint="not of probabilities"
def answers_loss(each, logits, rating, truth, shared):
    p, wanted = logits.sigmoid(), truth[:, None].double()
    both = (p * wanted).sum((2, 3))
    iou = both / ((p + wanted).sum((2, 3)) - both)
    return (1 - shared) * each.min(1).values.mean() + shared * each.mean() + (rating - iou).square().mean()


# %% wrong="17.4" hint="the weights are exchanged"
def answers_loss(each, logits, rating, truth, shared):
    mask, wanted = logits > 0, truth[:, None]
    both, either = (mask & wanted).sum((2, 3)), (mask | wanted).sum((2, 3))
    iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)
    weight = 1 - shared if shared > 0 else 0
    return weight * each.mean() + (1 - weight) * each.min(1).values.mean() + (rating - iou).square().mean()


# %% wrong="17.4" hint="the ratings get no gradient"
def answers_loss(each, logits, rating, truth, shared):
    mask, wanted = logits > 0, truth[:, None]
    both, either = (mask & wanted).sum((2, 3)), (mask | wanted).sum((2, 3))
    iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)
    best = (1 - shared) * each.min(1).values.mean() + shared * each.mean()
    return best + (rating.detach() - iou).square().mean()


# %% right="17.4" name="pixels counted as numbers"
def answers_loss(each, logits, rating, truth, shared):
    ours, theirs = (logits > 0).double().flatten(2), truth.double().flatten(1)
    both = torch.einsum("bkn,bn->bk", ours, theirs)
    union = ours.sum(2) + theirs.sum(1, keepdim=True) - both
    iou = torch.where(union == 0, 1.0, both / union.clamp(min=0.5))
    return torch.lerp(each.amin(1).mean(), each.mean(), shared) + torch.mean((rating - iou) ** 2)


# %% right="17.4" name="loops"
def answers_loss(each, logits, rating, truth, shared):
    total = 0.0
    count, masks = each.shape
    for b in range(count):
        total = total + (1 - shared) * each[b].min() / count + shared * each[b].sum() / (count * masks)
        for k in range(masks):
            mask = logits[b, k] > 0
            union = int((mask | truth[b]).sum())
            iou = int((mask & truth[b]).sum()) / union if union else 1.0
            total = total + (rating[b, k] - iou) ** 2 / (count * masks)
    return total


# %% right="17.4" name="the minimum as an index"
def answers_loss(each, logits, rating, truth, shared):
    mask, wanted = logits > 0, truth.unsqueeze(1).expand(logits.shape)
    both, either = torch.logical_and(mask, wanted).sum((-1, -2)), torch.logical_or(mask, wanted).sum((-1, -2))
    iou = ((both + (either == 0)) / (either + (either == 0))).double()
    best = each[torch.arange(len(each)), each.argmin(1)]
    return ((1 - shared) * best + shared * each.mean(1)).mean() + torch.nn.functional.mse_loss(rating, iou)


# %% wrong="17.5" hint="write yourself"
def next_click(truth, predicted, chance):
    point, label = error_click(truth, predicted, chance)
    return point[:, 0].long(), label[:, 0]


# %% wrong="17.5" hint="x comes first"
def next_click(truth, predicted, chance):
    points, labels = torch.zeros(len(truth), 2, dtype=torch.long), torch.full((len(truth),), -1)
    for b in range(len(truth)):
        missing, extra = (truth[b] & ~predicted[b]).nonzero(), (predicted[b] & ~truth[b]).nonzero()
        region, label = (missing, 1) if len(missing) >= len(extra) else (extra, 0)
        if len(region):
            points[b], labels[b] = region[int(chance[b] * len(region))], label
    return points, labels


# %% wrong="17.5" hint="the labels are exchanged"
def next_click(truth, predicted, chance):
    points, labels = torch.zeros(len(truth), 2, dtype=torch.long), torch.full((len(truth),), -1)
    for b in range(len(truth)):
        missing, extra = (truth[b] & ~predicted[b]).nonzero(), (predicted[b] & ~truth[b]).nonzero()
        region, label = (missing, 0) if len(missing) >= len(extra) else (extra, 1)
        if len(region):
            points[b], labels[b] = region[int(chance[b] * len(region))].flip(0), label
    return points, labels


# %% wrong="17.5" hint="the smaller region"
def next_click(truth, predicted, chance):
    points, labels = torch.zeros(len(truth), 2, dtype=torch.long), torch.full((len(truth),), -1)
    for b in range(len(truth)):
        missing, extra = (truth[b] & ~predicted[b]).nonzero(), (predicted[b] & ~truth[b]).nonzero()
        region, label = (missing, 1) if len(missing) <= len(extra) else (extra, 0)
        if len(region):
            points[b], labels[b] = region[int(chance[b] * len(region))].flip(0), label
    return points, labels


# %% wrong="17.5" hint="its label is -1"
def next_click(truth, predicted, chance):
    points, labels = torch.zeros(len(truth), 2, dtype=torch.long), torch.zeros(len(truth), dtype=torch.long)
    for b in range(len(truth)):
        missing, extra = (truth[b] & ~predicted[b]).nonzero(), (predicted[b] & ~truth[b]).nonzero()
        region, label = (missing, 1) if len(missing) >= len(extra) else (extra, 0)
        if len(region):
            points[b], labels[b] = region[int(chance[b] * len(region))].flip(0), label
    return points, labels


# %% wrong="17.5" hint="then what is missing is clicked"
def next_click(truth, predicted, chance):
    points, labels = torch.zeros(len(truth), 2, dtype=torch.long), torch.full((len(truth),), -1)
    for b in range(len(truth)):
        missing, extra = (truth[b] & ~predicted[b]).nonzero(), (predicted[b] & ~truth[b]).nonzero()
        region, label = (missing, 1) if len(missing) > len(extra) else (extra, 0)
        if len(region):
            points[b], labels[b] = region[int(chance[b] * len(region))].flip(0), label
    return points, labels


# %% wrong="17.5" hint="take the difference of the masks"
def next_click(truth, predicted, chance):
    points, labels = torch.zeros(len(truth), 2, dtype=torch.long), torch.full((len(truth),), -1)
    for b in range(len(truth)):
        missing, extra = (truth[b] & ~predicted[b]).nonzero(), (predicted[b] & ~truth[b]).nonzero()
        region, label = (truth[b].nonzero(), 1) if len(missing) >= len(extra) else (predicted[b].nonzero(), 0)
        if len(missing) + len(extra):
            points[b], labels[b] = region[int(chance[b] * len(region))].flip(0), label
    return points, labels


# %% wrong="17.5" hint="choose the region first"
def next_click(truth, predicted, chance):
    points, labels = torch.zeros(len(truth), 2, dtype=torch.long), torch.full((len(truth),), -1)
    for b in range(len(truth)):
        wrong = (truth[b] != predicted[b]).nonzero()
        missing, extra = (truth[b] & ~predicted[b]).sum(), (predicted[b] & ~truth[b]).sum()
        if len(wrong):
            points[b], labels[b] = wrong[int(chance[b] * len(wrong))].flip(0), int(missing >= extra)
    return points, labels


# %% wrong="17.5" hint="this draws from all wrong pixels"
def next_click(truth, predicted, chance):
    points, labels = torch.zeros(len(truth), 2, dtype=torch.long), torch.full((len(truth),), -1)
    for b in range(len(truth)):
        wrong = (truth[b] != predicted[b]).nonzero()
        if len(wrong):
            y, x = wrong[int(chance[b] * len(wrong))].tolist()
            points[b], labels[b] = torch.tensor([x, y]), int(truth[b, y, x])
    return points, labels


# %% wrong="17.5" hint="number them row by row"
def next_click(truth, predicted, chance):
    points, labels = torch.zeros(len(truth), 2, dtype=torch.long), torch.full((len(truth),), -1)
    for b in range(len(truth)):
        missing, extra = (truth[b] & ~predicted[b]).T.nonzero(), (predicted[b] & ~truth[b]).T.nonzero()
        region, label = (missing, 1) if len(missing) >= len(extra) else (extra, 0)
        if len(region):
            points[b], labels[b] = region[int(chance[b] * len(region))], label
    return points, labels


# %% wrong="17.5" hint="the chance has no effect"
def next_click(truth, predicted, chance):
    points, labels = torch.zeros(len(truth), 2, dtype=torch.long), torch.full((len(truth),), -1)
    for b in range(len(truth)):
        missing, extra = (truth[b] & ~predicted[b]).nonzero(), (predicted[b] & ~truth[b]).nonzero()
        region, label = (missing, 1) if len(missing) >= len(extra) else (extra, 0)
        if len(region):
            points[b], labels[b] = region[len(region) // 2].flip(0), label
    return points, labels


# %% wrong="17.5" hint="pixel floor(chance n)"
def next_click(truth, predicted, chance):
    points, labels = torch.zeros(len(truth), 2, dtype=torch.long), torch.full((len(truth),), -1)
    for b in range(len(truth)):
        missing, extra = (truth[b] & ~predicted[b]).nonzero(), (predicted[b] & ~truth[b]).nonzero()
        region, label = (missing, 1) if len(missing) >= len(extra) else (extra, 0)
        if len(region):
            points[b], labels[b] = region[round(float(chance[b]) * (len(region) - 1))].flip(0), label
    return points, labels


# %% right="17.5" name="all samples at once"
def next_click(truth, predicted, chance):
    missing, extra = (truth & ~predicted).flatten(1), (predicted & ~truth).flatten(1)
    more = missing.sum(1) >= extra.sum(1)
    region = torch.where(more[:, None], missing, extra)
    count = region.sum(1)
    rank = (chance.double() * count).long()
    place = (region.cumsum(1) > rank[:, None]).int().argmax(1)
    points = torch.stack([place % truth.shape[2], place // truth.shape[2]], 1)
    return torch.where(count[:, None] > 0, points, 0), torch.where(count > 0, more.long(), -1)


# %% right="17.5" name="lists"
def next_click(truth, predicted, chance):
    points, labels = [], []
    for t, p, share in zip(truth.tolist(), predicted.tolist(), chance.tolist(), strict=True):
        kinds = {1: [], 0: []}
        for y, (one, other) in enumerate(zip(t, p, strict=True)):
            for x, (a, b) in enumerate(zip(one, other, strict=True)):
                if a != b:
                    kinds[int(a)].append((x, y))
        label = 1 if len(kinds[1]) >= len(kinds[0]) else 0
        found = kinds[label]
        points.append(found[math.floor(share * len(found))] if found else (0, 0))
        labels.append(label if found else -1)
    return torch.tensor(points), torch.tensor(labels)


# %% right="17.5" name="a signed difference"
def next_click(truth, predicted, chance):
    difference = truth.int() - predicted.int()  # 1 where missing, -1 where too much
    points, labels = [], []
    for d, share in zip(difference, chance, strict=True):
        sign = 1 if int(d.sum()) >= 0 else -1
        rows, columns = torch.where(d == sign)
        n = int(share * len(rows))
        points.append([int(columns[n]), int(rows[n])] if len(rows) else [0, 0])
        labels.append((1 if sign == 1 else 0) if len(rows) else -1)
    return torch.tensor(points), torch.tensor(labels)


# %% wrong="17.6" hint="write yourself"
def stability(logits, offset):
    return stability_score(logits, offset)


# %% wrong="17.6" hint="its stability is 0"
def stability(logits, offset):
    return (logits > offset).sum((-2, -1)) / (logits > -offset).sum((-2, -1))


# %% wrong="17.6" hint="upside down"
def stability(logits, offset):
    high, low = (logits > offset).sum((-2, -1)), (logits > -offset).sum((-2, -1))
    return torch.where(high > 0, low / high.clamp(min=1), 0.0)


# %% wrong="17.6" hint="the lower cut is at -offset"
def stability(logits, offset):
    return (logits > offset).sum((-2, -1)) / (logits > 0).sum((-2, -1)).clamp(min=1)


# %% wrong="17.6" hint="the higher cut is at offset"
def stability(logits, offset):
    return (logits > 0).sum((-2, -1)) / (logits > -offset).sum((-2, -1)).clamp(min=1)


# %% wrong="17.6" hint="a difference of areas"
def stability(logits, offset):
    return ((logits > -offset).sum((-2, -1)) - (logits > offset).sum((-2, -1))).double()


# %% wrong="17.6" hint="over the image"
def stability(logits, offset):
    return (logits > offset).double().mean((-2, -1))


# %% wrong="17.6" hint="stability is of the mask alone"
def stability(logits, offset):
    return (logits.abs() > offset).double().mean((-2, -1))


# %% wrong="17.6" hint="both cuts are the same"
def stability(logits, offset):
    high, low = (logits > offset).sum((-2, -1)), (logits > offset).sum((-2, -1))
    return high / low.clamp(min=1)


# %% wrong="17.6" hint="one number for the whole batch"
def stability(logits, offset):
    return ((logits > offset).sum() / (logits > -offset).sum()).expand(logits.shape[:-2])


# %% wrong="17.6" hint="an empty mask has stability 0"
def stability(logits, offset):
    high, low = (logits > offset).sum((-2, -1)), (logits > -offset).sum((-2, -1))
    return torch.where(low > 0, high / low.clamp(min=1), 1.0)


# %% wrong="17.6" hint="wrong for another offset"
def stability(logits, offset):
    return (logits > 1).sum((-2, -1)) / (logits > -1).sum((-2, -1)).clamp(min=1)


# %% wrong="17.6" hint="> and not >="
def stability(logits, offset):
    return (logits >= offset).sum((-2, -1)) / (logits >= -offset).sum((-2, -1)).clamp(min=1)


# %% right="17.6" name="counts and a clamp"
def stability(logits, offset):
    low = torch.count_nonzero(logits > -offset, dim=(-2, -1))
    return torch.count_nonzero(logits > offset, dim=(-2, -1)) / low.clamp(min=1)


# %% right="17.6" name="IoU of two nested masks"
def stability(logits, offset):
    a, b = logits.flatten(-2) > offset, logits.flatten(-2) > -offset
    return ((a & b).sum(-1) / (a | b).sum(-1)).nan_to_num(0.0)


# %% right="17.6" name="one mask after the other"
def stability(logits, offset):
    found = []
    for mask in logits.reshape(-1, *logits.shape[-2:]):
        low = int((mask > -offset).sum())
        found.append(int((mask > offset).sum()) / low if low else 0.0)
    return torch.tensor(found, dtype=torch.float64).reshape(logits.shape[:-2])


# %% wrong="17.7" hint="write yourself"
def once(masks, scores, most):
    return suppress(iou_of(masks[:, None], masks[None]), scores, most)


# %% wrong="17.7" hint="still hides others"
def once(masks, scores, most):
    kept, seen = [], []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if all((masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum() <= most for j in seen):
            kept.append(i)
        seen.append(i)
    return torch.tensor(kept, dtype=torch.long)


# %% wrong="17.7" hint="the lowest score came first"
def once(masks, scores, most):
    kept = []
    for i in scores.argsort(stable=True).tolist():
        if all((masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum() <= most for j in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


# %% wrong="17.7" hint="best first: the indices"
def once(masks, scores, most):
    kept = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if all((masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum() <= most for j in kept):
            kept.append(i)
    return torch.tensor(sorted(kept), dtype=torch.long)


# %% wrong="17.7" hint="true and false for each mask"
def once(masks, scores, most):
    kept = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if all((masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum() <= most for j in kept):
            kept.append(i)
    found = torch.zeros(len(masks), dtype=torch.bool)
    found[kept] = True
    return found


# %% wrong="17.7" hint="the order of the masks was taken"
def once(masks, scores, most):
    kept = []
    for i in range(len(masks)):
        if all((masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum() <= most for j in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


# %% wrong="17.7" hint="not by the smaller of the two"
def once(masks, scores, most):
    kept = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if all((masks[i] & masks[j]).sum() / min(masks[i].sum(), masks[j].sum()) <= most for j in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


# %% wrong="17.7" hint="an IoU equal to most is allowed"
def once(masks, scores, most):
    kept = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if all((masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum() < min(most, 0.999) for j in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


# %% wrong="17.7" hint="not the boxes around them"
def once(masks, scores, most):
    boxed = torch.zeros_like(masks)
    for mask, box in zip(masks, boxed, strict=True):
        rows, columns = mask.nonzero().unbind(1)
        box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    kept = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if all((boxed[i] & boxed[j]).sum() / (boxed[i] | boxed[j]).sum() <= most for j in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


# %% wrong="17.7" hint="of equal scores the first"
def once(masks, scores, most):
    kept = []
    for i in scores.flip(0).argsort(descending=True, stable=True).tolist():
        i = len(masks) - 1 - i
        if all((masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum() <= most for j in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


# %% wrong="17.7" hint="indices are integers"
def once(masks, scores, most):
    kept = torch.zeros(0, dtype=torch.float64)
    for i in scores.argsort(descending=True, stable=True):
        others = masks[kept.long()]
        if bool(((masks[i] & others).sum((1, 2)) / (masks[i] | others).sum((1, 2)) <= most).all()):
            kept = torch.cat([kept, i[None].double()])
    return kept


# %% wrong="17.7" hint="only with stable=True"
def once(masks, scores, most):
    kept = []
    for i in (-scores).numpy().argsort().tolist():
        if all((masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum() <= most for j in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


# %% right="17.7" name="an empty list makes a tensor of its own kind"
def once(masks, scores, most):
    kept = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if all((masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum() <= most for j in kept):
            kept.append(i)
    return torch.tensor(kept)


# %% right="17.7" name="what is left after each"
def once(masks, scores, most):
    left, kept = scores.argsort(descending=True, stable=True), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        inside, union = (masks[best] & masks[left]).sum((1, 2)), (masks[best] | masks[left]).sum((1, 2))
        left = left[inside / union <= most]
    return torch.tensor(kept, dtype=torch.long)


# %% right="17.7" name="a table of all overlaps"
def once(masks, scores, most):
    flat = masks.flatten(1).double()
    inside = flat @ flat.T
    size = flat.sum(1)
    hides = inside / (size[:, None] + size - inside).clamp(min=1) > most
    alive = torch.ones(len(masks), dtype=torch.bool)
    order = sorted(range(len(masks)), key=lambda i: -float(scores[i]))
    kept = []
    for i in order:
        if alive[i]:
            kept.append(i)
            alive &= ~hides[i]
    return torch.tensor(kept, dtype=torch.long)


# %% right="17.7" name="sets of pixels"
def once(masks, scores, most):
    pixels = [set(mask.flatten().nonzero()[:, 0].tolist()) for mask in masks]
    kept = []
    for _, i in sorted((-float(score), i) for i, score in enumerate(scores)):
        if not any(len(pixels[i] & pixels[j]) > most * len(pixels[i] | pixels[j]) for j in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)


# %% right="17.7" name="by Python's own numbers"
def once(masks, scores, most):
    kept = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if all(float((masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum()) <= most for j in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)
