"""Wrong and right answers to exercise 10, each of which its check must tell apart."""


# %% wrong="10.1" hint="no derivative with respect to z"
def quantise(z, codebook):
    index = torch.cdist(z, codebook).argmin(1)
    return codebook[index], index


# %% wrong="10.1" hint="z's gradient cancels"
def quantise(z, codebook):
    index = torch.cdist(z, codebook).argmin(1)
    return z + (codebook[index] - z), index


# %% wrong="10.1" hint="the codebook gets the decoder's gradient too"
def quantise(z, codebook):
    index = torch.cdist(z, codebook).argmin(1)
    return codebook[index] + z - z.detach(), index


# %% wrong="10.1" hint="largest dot product"
def quantise(z, codebook):
    index = (z @ codebook.T).argmax(1)
    return z + (codebook[index] - z).detach(), index


# %% wrong="10.1" hint="these are the farthest vectors"
def quantise(z, codebook):
    index = torch.cdist(z, codebook).argmax(1)
    return z + (codebook[index] - z).detach(), index


# %% wrong="10.1" hint="no gradient reaches z at all"
def quantise(z, codebook):
    with torch.no_grad():
        index = torch.cdist(z, codebook).argmin(1)
        return codebook[index], index


# %% wrong="10.1" hint="the value returned is z itself"
def quantise(z, codebook):
    index = torch.cdist(z, codebook).argmin(1)
    e = codebook[index].detach()
    return z + (e - e), index


# %% wrong="10.1" hint="the answer calls Codebook"
def quantise(z, codebook):
    b = Codebook(*codebook.shape).to(codebook.dtype)
    b.codebook.data = codebook.detach()
    e, _, i = b(z[:, :, None, None])
    return e[:, :, 0, 0], i.flatten()


# %% wrong="10.1" hint="in Euclidean distance"
def quantise(z, codebook):
    index = (z[:, None] - codebook).abs().sum(2).argmin(1)
    e = codebook[index]
    return z + (e - z).detach(), index


# %% wrong="10.1" hint="the indices must have shape (B,)"
def quantise(z, codebook):
    index = torch.cdist(z, codebook).argmin(1, keepdim=True)
    e = codebook[index[:, 0]]
    return z + (e - z).detach(), index


# %% wrong="10.1" hint="that of the identity"
def quantise(z, codebook):
    index = torch.cdist(z, codebook).argmin(1)
    e = codebook[index].detach()
    return e + 2 * z - 2 * z.detach(), index


# %% wrong="10.1" hint="NaN or infinite"
def quantise(z, codebook):
    index = torch.cdist(z, codebook).argmin(1)
    return z * float("nan"), index


# %% wrong="10.1" hint="changed in place"
def quantise(z, codebook):
    index = torch.cdist(z, codebook).argmin(1)
    z.data.copy_(codebook[index])
    return z + 0, index


# %% wrong="10.1" hint="must be integers"
def quantise(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    index = torch.cdist(z, codebook).argmin(dim=1)
    e = codebook[index]
    return e.detach() + (z - z.detach()), index.double()


# %% right="10.1" name="by the expanded square"
def quantise(z, codebook):
    index = (codebook.square().sum(1) - 2 * z @ codebook.T).argmin(1)
    return z + (codebook[index] - z).detach(), index


# %% right="10.1" name="point by point"
def quantise(z, codebook):
    index = torch.tensor([int((point - codebook).square().sum(1).argmin()) for point in z])
    e = torch.stack([codebook[k].detach() for k in index.tolist()])
    return e + z - z.detach(), index


# %% right="10.1" name="an autograd function"
class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, e):
        return e.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def quantise(z, codebook):
    index = (z[:, None] - codebook[None]).norm(dim=2).min(dim=1).indices
    return _Through.apply(z, codebook[index]), index


# %% right="10.1" name="topk, lerp"
def quantise(z, codebook):
    with torch.no_grad():
        d = torch.stack([torch.linalg.vector_norm(z - v, dim=1) for v in codebook], dim=1)
        index = d.topk(1, largest=False).indices.squeeze(1)
        step = codebook.index_select(0, index) - z
    return z + step, index


# %% wrong="10.2" hint="both terms move both sides"
def codebook_loss(z, e, commitment=0.25):
    return (1 + commitment) * (z - e).square().mean()


# %% wrong="10.2" hint="the sides are exchanged"
def codebook_loss(z, e, commitment=0.25):
    return (z - e.detach()).square().mean() + commitment * (z.detach() - e).square().mean()


# %% wrong="10.2" hint="not their sum"
def codebook_loss(z, e, commitment=0.25):
    return (z.detach() - e).square().sum() + commitment * (z - e.detach()).square().sum()


# %% wrong="10.2" hint="not over the points alone"
def codebook_loss(z, e, commitment=0.25):
    return ((z.detach() - e).square() + commitment * (z - e.detach()).square()).sum(1).mean()


# %% wrong="10.2" hint="the codebook's vectors get no gradient"
def codebook_loss(z, e, commitment=0.25):
    return (1 + commitment) * (z - e.detach()).square().mean()


# %% wrong="10.2" hint="the points get no gradient"
def codebook_loss(z, e, commitment=0.25):
    return (1 + commitment) * (z.detach() - e).square().mean()


# %% wrong="10.2" hint="(1 + beta) times the mean squared difference"
def codebook_loss(z, e, commitment=0.25):
    return (z.detach() - e).abs().mean() + commitment * (z - e.detach()).abs().mean()


# %% wrong="10.2" hint="must be a scalar"
def codebook_loss(z, e, commitment=0.25):
    return (z.detach() - e).square().mean(1) + commitment * (z - e.detach()).square().mean(1)


# %% wrong="10.2" hint="nothing gets a gradient"
def codebook_loss(z, e, commitment=0.25):
    z, e = z.detach(), e.detach()
    return (z - e).square().mean() + commitment * (z - e).square().mean()


# %% wrong="10.2" hint="use it as it comes"
def codebook_loss(z, e, commitment=0.25):
    return F.mse_loss(e, z.detach()) + 0.25 * F.mse_loss(z, e.detach())


# %% wrong="10.2" hint="a number has no gradient"
def codebook_loss(z, e, commitment=0.25):
    return float(F.mse_loss(e, z.detach()) + commitment * F.mse_loss(z, e.detach()))


# %% wrong="10.2" hint="no factor 1/2"
def codebook_loss(z, e, commitment=0.25):
    return 0.5 * (F.mse_loss(e, z.detach()) + commitment * F.mse_loss(z, e.detach()))


# %% wrong="10.2" hint="taken off the first term"
def codebook_loss(z, e, commitment=0.25):
    return (1 - commitment) * F.mse_loss(e, z.detach()) + commitment * F.mse_loss(z, e.detach())


# %% wrong="10.2" hint="the default beta"
def codebook_loss(z, e, commitment=1.0):
    return F.mse_loss(e, z.detach()) + commitment * F.mse_loss(z, e.detach())


# %% wrong="10.2" hint="the first term is missing"
def codebook_loss(z, e, commitment=0.25):
    return commitment * F.mse_loss(z, e.detach())


# %% wrong="10.2" hint="not squared"
def codebook_loss(z: Tensor, e: Tensor, commitment: float = 0.25) -> Tensor:
    return F.mse_loss(e, z.detach()) + commitment**2 * F.mse_loss(z, e.detach())


# %% right="10.2" name="squares and means"
def codebook_loss(z, e, commitment=0.25):
    return ((z.detach() - e) ** 2).mean() + commitment * ((z - e.detach()) ** 2).mean()


# %% right="10.2" name="sums and a count"
def codebook_loss(z, e, commitment=0.25):
    book = sum((e[i] - z[i].detach()).pow(2).sum() for i in range(len(z)))
    points = sum((z[i] - e[i].detach()).pow(2).sum() for i in range(len(z)))
    return (book + commitment * points) / z.numel()


# %% right="10.2" name="gradients put in by hand"
def codebook_loss(z, e, commitment=0.25):
    gap = (z - e).detach()
    value = (1 + commitment) * gap.square().mean()
    slope = (2 * gap / gap.numel() * (commitment * z - e)).sum()
    return value + slope - slope.detach()


# %% right="10.2" name="stacked"
def codebook_loss(z, e, commitment=0.25):
    a = torch.sub(e, z.detach()).pow(2)
    b = torch.sub(z, e.detach()).pow(2)
    return torch.mean(a + commitment * b)


# %% wrong="10.3" hint="the way from t to t'"
def matched_times(unit_times, c):
    t = c * unit_times / (1 - unit_times + c * unit_times)
    return t, 1 - t + c * t


# %% wrong="10.3" hint="would be right only for c = 1"
def matched_times(unit_times, c):
    return unit_times, 1 - unit_times + c * unit_times


# %% wrong="10.3" hint="as t' does"
def matched_times(unit_times, c):
    t = unit_times / c
    return t, 1 - t + c * t


# %% wrong="10.3" hint="no square"
def matched_times(unit_times, c):
    t = unit_times / (unit_times + c**2 * (1 - unit_times))
    return t, 1 - t + c * t


# %% wrong="10.3" hint="not finite somewhere"
def matched_times(unit_times, c):
    odds = unit_times / (1 - unit_times) / c
    t = odds / (1 + odds)
    return t, 1 - t + c * t


# %% wrong="10.3" hint="s is upside down"
def matched_times(unit_times, c):
    t = unit_times / (unit_times + c * (1 - unit_times))
    return t, 1 / (1 - t + c * t)


# %% wrong="10.3" hint="with the new t, not with t'"
def matched_times(unit_times, c):
    t = unit_times / (unit_times + c * (1 - unit_times))
    return t, 1 - unit_times + c * unit_times


# %% wrong="10.3" hint="keep it"
def matched_times(unit_times, c):
    u = unit_times.float()
    t = u / (u + c * (1 - u))
    return t, 1 - t + c * t


# %% wrong="10.3" hint="not c divided by"
def matched_times(unit_times, c):
    t = unit_times / (unit_times + c * (1 - unit_times))
    return t, c / (1 - t + c * t)


# %% wrong="10.3" hint="t and s are exchanged"
def matched_times(unit_times, c):
    t = unit_times / (unit_times + c * (1 - unit_times))
    return 1 - t + c * t, t


# %% wrong="10.3" hint="must stay where they are, whatever"
def matched_times(unit_times, c):
    u = unit_times.clamp(1e-3, 1 - 1e-3)
    t = u / (u + c * (1 - u))
    return t, 1 - t + c * t


# %% wrong="10.3" hint="changed in place"
def matched_times(unit_times, c):
    t = unit_times.div_(unit_times + c * (1 - unit_times))
    return t, 1 - t + c * t


# %% wrong="10.3" hint="return two tensors"
def matched_times(unit_times, c):
    return unit_times / (unit_times + c * (1 - unit_times))


# %% wrong="10.3" hint="whatever stands beside it"
def matched_times(unit_times, c):
    u = torch.linspace(0, 1, len(unit_times), dtype=unit_times.dtype)
    t = u / (u + c * (1 - u))
    return t, 1 - t + c * t


# %% right="10.3" name="odds, from both sides"
def matched_times(unit_times, c):
    t = torch.sigmoid(torch.logit(unit_times) - math.log(c))
    return t, (1 - t) + c * t


# %% right="10.3" name="bisection"
def matched_times(unit_times, c):
    low, high = torch.zeros_like(unit_times), torch.ones_like(unit_times)
    for _ in range(60):
        middle = (low + high) / 2
        above = c * middle / (1 - middle + c * middle) > unit_times
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    t = (low + high) / 2
    return t, 1 + (c - 1) * t


# %% right="10.3" name="the inverse scale, and s by itself"
def matched_times(unit_times, c):
    k = 1 / c
    t = k * unit_times / (1 - unit_times + k * unit_times)
    return t, c / (unit_times + c * (1 - unit_times))


# %% right="10.3" name="a loop"
def matched_times(unit_times, c):
    t = [u / (u + c * (1 - u)) for u in unit_times.tolist()]
    return torch.tensor(t, dtype=torch.float64), torch.tensor([1 - v + c * v for v in t], dtype=torch.float64)


# %% right="10.3" name="lerp"
def matched_times(unit_times, c):
    one = torch.ones_like(unit_times)
    t = unit_times / torch.lerp(c * one, one, unit_times)
    return t, torch.lerp(one, c * one, t)


# %% wrong="10.4" hint="the mask has no effect"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (h @ w_q, context @ w_k, context @ w_v))
    return ((q @ k.mT / math.sqrt(q.shape[3])).softmax(3) @ v).transpose(1, 2).flatten(2)


# %% wrong="10.4" hint="the weights no longer sum to one"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (h @ w_q, context @ w_k, context @ w_v))
    weights = (q @ k.mT / math.sqrt(q.shape[3])).softmax(3) * mask[:, None, None]
    return (weights @ v).transpose(1, 2).flatten(2)


# %% wrong="10.4" hint="a logit of 0 is no zero weight"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (h @ w_q, context @ w_k, context @ w_v))
    logits = q @ k.mT / math.sqrt(q.shape[3]) * mask[:, None, None]
    return (logits.softmax(3) @ v).transpose(1, 2).flatten(2)


# %% wrong="10.4" hint="the mask is the wrong way round"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (h @ w_q, context @ w_k, context @ w_v))
    logits = (q @ k.mT / math.sqrt(q.shape[3])).masked_fill(mask[:, None, None], -math.inf)
    return (logits.softmax(3) @ v).transpose(1, 2).flatten(2)


# %% wrong="10.4" hint="a head's width D/heads"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (h @ w_q, context @ w_k, context @ w_v))
    logits = (q @ k.mT / math.sqrt(h.shape[2])).masked_fill(~mask[:, None, None], -math.inf)
    return (logits.softmax(3) @ v).transpose(1, 2).flatten(2)


# %% wrong="10.4" hint="must be divided by the root of d"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (h @ w_q, context @ w_k, context @ w_v))
    logits = (q @ k.mT).masked_fill(~mask[:, None, None], -math.inf)
    return (logits.softmax(3) @ v).transpose(1, 2).flatten(2)


# %% wrong="10.4" hint="there is one head"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    logits = (h @ w_q) @ (context @ w_k).mT / math.sqrt(h.shape[2])
    return logits.masked_fill(~mask[:, None], -math.inf).softmax(2) @ (context @ w_v)


# %% wrong="10.4" hint="not on every heads-th"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    q, k, v = (part.unflatten(2, (-1, heads)).permute(0, 3, 1, 2) for part in (h @ w_q, context @ w_k, context @ w_v))
    logits = (q @ k.mT / math.sqrt(q.shape[3])).masked_fill(~mask[:, None, None], -math.inf)
    return (logits.softmax(3) @ v).permute(0, 2, 3, 1).flatten(2)


# %% wrong="10.4" hint="keys and values are exchanged"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (h @ w_q, context @ w_v, context @ w_k))
    logits = (q @ k.mT / math.sqrt(q.shape[3])).masked_fill(~mask[:, None, None], -math.inf)
    return (logits.softmax(3) @ v).transpose(1, 2).flatten(2)


# %% wrong="10.4" hint="the answer calls scaled_dot"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (h @ w_q, context @ w_k, context @ w_v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None]).transpose(1, 2).flatten(2)


# %% wrong="10.4" hint="the answer calls Attention"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    layer = Attention(h.shape[2], heads, context.shape[2]).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
        layer.q.weight.copy_(w_q.T)
        layer.kv.weight.copy_(torch.cat([w_k, w_v], 1).T)
        layer.out.weight.copy_(torch.eye(h.shape[2]))
    return layer(h, context, mask).detach()


# %% wrong="10.4" hint="must sum to one over the words"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    q, k, v = (p.unflatten(2, (heads, -1)).transpose(1, 2) for p in (h @ w_q, context @ w_k, context @ w_v))
    lo = (q @ k.mT / math.sqrt(q.shape[3])).masked_fill(~mask[:, None, None], -math.inf)
    return (lo.softmax(2).nan_to_num() @ v).transpose(1, 2).flatten(2)


# %% wrong="10.4" hint="the mask lies on the pixels"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    q, k, v = (p.unflatten(2, (heads, -1)).transpose(1, 2) for p in (h @ w_q, context @ w_k, context @ w_v))
    lo = (q @ k.mT / math.sqrt(q.shape[3])).masked_fill(~mask[:, None, :, None], -1e9)
    return (lo.softmax(3) @ v).transpose(1, 2).flatten(2)


# %% wrong="10.4" hint="its weights are small"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    q, k, v = (p.unflatten(2, (heads, -1)).transpose(1, 2) for p in (h @ w_q, context @ w_k, context @ w_v))
    lo = (q @ k.mT / math.sqrt(q.shape[3])).masked_fill(~mask[:, None, None], -10.0)
    return (lo.softmax(3) @ v).transpose(1, 2).flatten(2)


# %% wrong="10.4" hint="mixed in a reshape"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    q, k, v = (p.unflatten(2, (heads, -1)).transpose(1, 2) for p in (h @ w_q, context @ w_k, context @ w_v))
    lo = (q @ k.mT / math.sqrt(q.shape[3])).masked_fill(~mask[:, None, None], -math.inf)
    return (lo.softmax(3) @ v).reshape(h.shape)


# %% wrong="10.4" hint="where its root is asked for"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    q, k, v = (p.unflatten(2, (heads, -1)).transpose(1, 2) for p in (h @ w_q, context @ w_k, context @ w_v))
    lo = (q @ k.mT / q.shape[3]).masked_fill(~mask[:, None, None], -math.inf)
    return (lo.softmax(3) @ v).transpose(1, 2).flatten(2)


# %% wrong="10.4" hint="padding was set to zero"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    context = context * mask[:, :, None]
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (h @ w_q, context @ w_k, context @ w_v))
    return ((q @ k.mT / math.sqrt(q.shape[3])).softmax(3) @ v).transpose(1, 2).flatten(2)


# %% wrong="10.4" hint="the result is not finite"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (h @ w_q, context @ w_k, context @ w_v))
    logits = (q @ k.mT / math.sqrt(q.shape[3])).masked_fill(~mask[:, None, None], -math.inf)
    return (logits.softmax(2) @ v).transpose(1, 2).flatten(2)


# %% right="10.4" name="head by head, with the formula's own mask"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    d = h.shape[2] // heads
    out = []
    for a in range(heads):
        columns = slice(a * d, (a + 1) * d)
        logits = torch.einsum("bnd,bmd->bnm", h @ w_q[:, columns], context @ w_k[:, columns]) / d**0.5
        weights = mask[:, None].double() * torch.exp(logits - logits.amax(2, keepdim=True))
        out.append(weights / weights.sum(2, keepdim=True) @ (context @ w_v[:, columns]))
    return torch.cat(out, dim=2)


# %% right="10.4" name="sample by sample, padding cut off"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    d, rows = h.shape[2] // heads, []
    for pixels, words, counts in zip(h, context, mask, strict=True):
        words = words[counts]
        q, k, v = ((part).split(d, dim=1) for part in (pixels @ w_q, words @ w_k, words @ w_v))
        rows.append(torch.cat([(a @ b.T / d**0.5).softmax(1) @ c for a, b, c in zip(q, k, v, strict=True)], dim=1))
    return torch.stack(rows)


# %% right="10.4" name="einsum with -inf bias"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    B, N, D = h.shape
    q = (h @ w_q).view(B, N, heads, -1)
    k = (context @ w_k).view(B, -1, heads, D // heads)
    v = (context @ w_v).view(B, -1, heads, D // heads)
    a = torch.einsum("bnhd,bmhd->bhnm", q, k) * (D // heads) ** -0.5
    bias = torch.zeros(mask.shape, dtype=h.dtype).masked_fill(~mask, float("-inf"))
    return torch.einsum("bhnm,bmhd->bnhd", torch.softmax(a + bias[:, None, None, :], -1), v).reshape(B, N, D)


# %% right="10.4" name="weights by exp"
def cross_attention(h, context, mask, w_q, w_k, w_v, heads):
    parts = [(h @ w_q), (context @ w_k), (context @ w_v)]
    q, k, v = (torch.stack(part.chunk(heads, dim=2), dim=1) for part in parts)
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    logits = torch.where(mask[:, None, None, :], logits, torch.tensor(-1e300, dtype=logits.dtype))
    return torch.cat((logits.softmax(-1) @ v).unbind(1), dim=-1)


# %% wrong="10.5" hint="there were 2"
def guided(net, x, t, y, null, w):
    return (1 - w) * net(x, t, null.expand_as(y)) + w * net(x, t, y)


# %% wrong="10.5" hint="the halves are exchanged"
def guided(net, x, t, y, null, w):
    both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, null.expand_as(y)]))
    free, conditional = both.chunk(2)
    return (1 - w) * free + w * conditional


# %% wrong="10.5" hint="that is 1 + w"
def guided(net, x, t, y, null, w):
    both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, null.expand_as(y)]))
    conditional, free = both.chunk(2)
    return (1 + w) * conditional - w * free


# %% wrong="10.5" hint="double t as well"
def guided(net, x, t, y, null, w):
    both = net(torch.cat([x, x]), t, torch.cat([y, null.expand_as(y)]))
    conditional, free = both.chunk(2)
    return (1 - w) * free + w * conditional


# %% wrong="10.5" hint="null repeated"
def guided(net, x, t, y, null, w):
    both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, null[None]]))
    conditional, free = both.chunk(2)
    return (1 - w) * free + w * conditional


# %% wrong="10.5" hint="the weights must sum to one"
def guided(net, x, t, y, null, w):
    both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, null.expand_as(y)]))
    conditional, free = both.chunk(2)
    return free + w * conditional


# %% wrong="10.5" hint="the answer calls ClassifierFreeGuidance"
def guided(net, x, t, y, null, w):
    class N(Field):
        path, predicts = GaussianPath(), "velocity"

        def predict(self, x, t, y=None):
            return net(x, t, y)

    N.null = null
    return ClassifierFreeGuidance(N(), w).predict(x, t, y)


# %% wrong="10.5" hint="neither its own nor the empty"
def guided(net, x, t, y, null, w):
    both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.zeros_like(y)]))
    c, f = both.chunk(2)
    return (1 - w) * f + w * c


# %% wrong="10.5" hint="and not both halves"
def guided(net, x, t, y, null, w):
    both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, null.expand_as(y)]))
    return both * w


# %% wrong="10.5" hint="got another one's time"
def guided(net, x, t, y, null, w):
    both = net(x.repeat_interleave(2, 0), torch.cat([t, t]), torch.cat([y, null.expand_as(y)]))
    c, f = both.chunk(2)
    return (1 - w) * f + w * c


# %% wrong="10.5" hint="at w = 0"
def guided(net, x, t, y, null, w):
    both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, null.expand_as(y)]))
    c, f = both.chunk(2)
    return f + max(w, 1.0) * (c - f)


# %% wrong="10.5" hint="it was for 3"
def guided(net, x, t, y, null, w):
    if w == 1:
        return net(x, t, y)
    both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, null.expand_as(y)]))
    c, f = both.chunk(2)
    return f + w * (c - f)


# %% wrong="10.5" hint="the velocity for the text"
def guided(net, x, t, y, null, w):
    return net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, null.expand_as(y)]))[: len(x)]


# %% wrong="10.5" hint="times that are no image's"
def guided(net, x: Tensor, t: Tensor, y: Tensor, null: Tensor, w: float) -> Tensor:
    both = net(torch.cat([x, x]), torch.cat([t, 0 * t]), torch.cat([y, null.expand_as(y)]))
    conditional, free = both.chunk(2)
    return (1 - w) * free + w * conditional


# %% right="10.5" name="null first"
def guided(net, x, t, y, null, w):
    both = net(x.repeat(2, 1, 1, 1), t.repeat(2), torch.cat([null.repeat(len(y), 1), y]))
    return both[: len(x)] + w * (both[len(x) :] - both[: len(x)])


# %% right="10.5" name="interleaved"
def guided(net, x, t, y, null, w):
    texts = torch.stack([null.expand_as(y), y], dim=1).flatten(0, 1)
    both = net(x.repeat_interleave(2, 0), t.repeat_interleave(2), texts).unflatten(0, (-1, 2))
    return torch.lerp(both[:, 0], both[:, 1], w)


# %% right="10.5" name="weights as a vector"
def guided(net, x, t, y, null, w):
    both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.stack([null] * len(y))]))
    weights = torch.tensor([w, 1 - w], dtype=x.dtype)
    return torch.einsum("k,k...->...", weights, both.unflatten(0, (2, -1)))


# %% right="10.5" name="tile"
def guided(net, x, t, y, null, w):
    n = x.shape[0]
    out = net(torch.tile(x, (2, 1, 1, 1)), torch.tile(t, (2,)), torch.vstack([y, null.unsqueeze(0).expand(n, -1)]))
    return w * out[:n] - (w - 1) * out[n:]


# %% wrong="10.6" hint="the unknown pixels are given away"
def inpainting_pair(z, known, t, noise):
    time = t[:, None, None, None]
    return torch.cat([time * z + (1 - time) * noise, z, known], dim=1), z - noise


# %% wrong="10.6" hint="the mask goes in too"
def inpainting_pair(z, known, t, noise):
    time = t[:, None, None, None]
    return torch.cat([time * z + (1 - time) * noise, z * known], dim=1), z - noise


# %% wrong="10.6" hint="t has landed on the width"
def inpainting_pair(z, known, t, noise):
    return torch.cat([t * z + (1 - t) * noise, z * known, known], dim=1), z - noise


# %% wrong="10.6" hint="the whole image is noised"
def inpainting_pair(z, known, t, noise):
    time = t[:, None, None, None]
    x = known * z + (1 - known) * (time * z + (1 - time) * noise)
    return torch.cat([x, z * known, known], dim=1), z - noise


# %% wrong="10.6" hint="check the sign"
def inpainting_pair(z, known, t, noise):
    time = t[:, None, None, None]
    return torch.cat([time * z + (1 - time) * noise, z * known, known], dim=1), noise - z


# %% wrong="10.6" hint="t = 1 is the data"
def inpainting_pair(z, known, t, noise):
    time = t[:, None, None, None]
    return torch.cat([(1 - time) * z + time * noise, z * known, known], dim=1), z - noise


# %% wrong="10.6" hint="here the unknown ones are shown"
def inpainting_pair(z, known, t, noise):
    time = t[:, None, None, None]
    return torch.cat([time * z + (1 - time) * noise, z * (1 - known), known], dim=1), z - noise


# %% wrong="10.6" hint="known pixels have one too"
def inpainting_pair(z, known, t, noise):
    time = t[:, None, None, None]
    return torch.cat([time * z + (1 - time) * noise, z * known, known], dim=1), (z - noise) * (1 - known)


# %% wrong="10.6" hint="the answer calls GaussianPath"
def inpainting_pair(z, known, t, noise):
    x = GaussianPath().sample(z, t, noise)
    return torch.cat([x, z * known, known], 1), z - noise


# %% wrong="10.6" hint="after the noised image come"
def inpainting_pair(z, known, t, noise):
    a = t.view(-1, 1, 1, 1)
    return torch.cat([a * z + (1 - a) * noise, known, z * known], 1), z - noise


# %% wrong="10.6" hint="not the image itself"
def inpainting_pair(z, known, t, noise):
    a = t.view(-1, 1, 1, 1)
    return torch.cat([a * z + (1 - a) * noise, z * known, known], 1), z


# %% wrong="10.6" hint="the mask is the wrong way round"
def inpainting_pair(z, known, t, noise):
    a = t.view(-1, 1, 1, 1)
    return torch.cat([a * z + (1 - a) * noise, z * known, 1 - known], 1), z - noise


# %% wrong="10.6" hint="changed in place"
def inpainting_pair(z, known, t, noise):
    a = t.view(-1, 1, 1, 1)
    x = a * z + (1 - a) * noise
    v = z - noise
    z *= known
    return torch.cat([x, z, known], 1), v


# %% wrong="10.6" hint="the noised image of the linear path"
def inpainting_pair(z, known, t, noise):
    a = t.view(-1, 1, 1, 1)
    return torch.cat([a.sqrt() * z + (1 - a).sqrt() * noise, z * known, known], 1), z - noise


# %% wrong="10.6" hint="got (4, 6, 6, 4)"
def inpainting_pair(z, known, t, noise):
    a = t.view(-1, 1, 1, 1)
    return torch.cat([a * z + (1 - a) * noise, z * known, known.expand_as(z)], 1), z - noise


# %% wrong="10.6" hint="made of known pixels alone"
def inpainting_pair(z: Tensor, known: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    time = t[:, None, None, None]
    x = time * z + (1 - time) * noise
    return torch.cat([x, z * known, known], dim=1), z * known - noise


# %% wrong="10.6" hint="by the time t"
def inpainting_pair(z: Tensor, known: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    time = t[:, None, None, None]
    x = time * z + (1 - time) * noise
    return torch.cat([x, z * known, known], dim=1), x - noise


# %% wrong="10.6" hint="the first one's time"
def inpainting_pair(z: Tensor, known: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    time = t[0]
    x = time * z + (1 - time) * noise
    return torch.cat([x, z * known, known], dim=1), z - noise


# %% right="10.6" name="lerp"
def inpainting_pair(z, known, t, noise):
    x = torch.lerp(noise, z, t.reshape(-1, 1, 1, 1))
    return torch.cat((x, z.mul(known), known), 1), z.sub(noise)


# %% right="10.6" name="sample by sample"
def inpainting_pair(z, known, t, noise):
    rows = []
    for i in range(len(z)):
        x = t[i] * z[i] + (1 - t[i]) * noise[i]
        rows.append(torch.cat([x, torch.where(known[i] > 0, z[i], 0.0), known[i]]))
    return torch.stack(rows), z - noise


# %% right="10.6" name="filled in place"
def inpainting_pair(z, known, t, noise):
    channels = z.shape[1]
    given = torch.empty(len(z), 2 * channels + 1, *z.shape[2:], dtype=z.dtype)
    given[:, :channels] = torch.einsum("b,bchw->bchw", t, z) + torch.einsum("b,bchw->bchw", 1 - t, noise)
    given[:, channels:-1], given[:, -1:] = z * known, known
    return given, z - noise


# %% right="10.6" name="noise plus velocity"
def inpainting_pair(z, known, t, noise):
    v = z - noise
    x = noise + v * t[:, None, None, None]
    return torch.hstack([x, torch.where(known.bool(), z, torch.zeros_like(z)), known]), v


# %% wrong="10.7" hint="along both sides"
def break_even(call, decoder, factor):
    return decoder * factor // (call * (factor - 1)) + 1


# %% wrong="10.7" hint="the decoder has to be paid for"
def break_even(call, decoder, factor):
    return 1


# %% wrong="10.7" hint="strictly cheaper is the next"
def break_even(call, decoder, factor):
    return max(1, math.ceil(decoder * factor**2 / (call * (factor**2 - 1))))


# %% wrong="10.7" hint="a latent call is not free"
def break_even(call, decoder, factor):
    return max(1, math.ceil(decoder / call))


# %% wrong="10.7" hint="must be a whole number"
def break_even(call, decoder, factor):
    return decoder * factor**2 / (call * (factor**2 - 1))


# %% wrong="10.7" hint="is rounded, whole numbers are not"
def break_even(call, decoder, factor):
    return int(decoder / (call - call / factor**2)) + 1


# %% wrong="10.7" hint="whole numbers have all of theirs"
def break_even(call, decoder, factor):
    return math.floor(decoder * factor**2 / (call * (factor**2 - 1))) + 1


# %% wrong="10.7" hint="was it rounded"
def break_even(call, decoder, factor):
    return decoder // (call - call // factor**2) + 1


# %% wrong="10.7" hint="one more is needed"
def break_even(call: int, decoder: int, factor: int) -> int:
    # N C (f^2 - 1) > D f^2, in whole numbers, so that no rounding can tip an equality.
    return decoder * factor**2 // (call * (factor**2 - 1))


# %% right="10.7" name="a search, one by one"
def break_even(call, decoder, factor):
    n = 1
    while n * call + decoder * factor**2 >= n * call * factor**2:
        n += 1
    return n


# %% right="10.7" name="search by doubling"
def break_even(call, decoder, factor):
    def cheaper(n):
        return n * call + decoder * factor**2 < n * call * factor**2

    high = 1
    while not cheaper(high):
        high *= 2
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cheaper(middle) else (middle, high)
    return high


# %% right="10.7" name="fractions"
def break_even(call, decoder, factor):
    from fractions import Fraction

    return math.floor(Fraction(decoder, call) / (1 - Fraction(1, factor**2))) + 1


# %% right="10.7" name="divmod"
def break_even(call, decoder, factor):
    saved = call * (factor * factor - 1)
    whole, _ = divmod(decoder * factor * factor, saved)
    return int(whole + 1)


# %% right="10.7" name="ceil plus correction"
def break_even(call, decoder, factor):
    saving, cost = call * factor**2 - call, decoder * factor**2
    n = -(-cost // saving)
    return n + 1 if n * saving == cost else n
