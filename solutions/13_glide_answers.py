"""Wrong and right answers to exercise 13: wrong ones must be caught, each with its own hint; right ones must pass."""


# %% wrong="13.1" hint="write yourself"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    q, *own = (h @ w_qkv.T).chunk(3, dim=2)
    read = (context @ w_kv.T).chunk(2, dim=2)
    k, v = (torch.cat(pair, dim=1) for pair in zip(read, own, strict=True))
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    counts = F.pad(mask, (0, h.shape[1]), value=True)[:, None, None]
    return F.scaled_dot_product_attention(q, k, v, counts).transpose(1, 2).flatten(2)


# %% wrong="13.1" hint="this is self-attention"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (h @ w_qkv.T).chunk(3, dim=2))
    weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(3)
    return (weights @ v).transpose(1, 2).flatten(2)


# %% wrong="13.1" hint="this is cross-attention"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    q = (h @ w_qkv.T).chunk(3, dim=2)[0]
    k, v = (context @ w_kv.T).chunk(2, dim=2)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    logits = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
    return (logits.masked_fill(~mask[:, None, None], -math.inf).softmax(3) @ v).transpose(1, 2).flatten(2)


# %% wrong="13.1" hint="two softmaxes, added"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (h @ w_qkv.T).chunk(3, dim=2))
    k2, v2 = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (context @ w_kv.T).chunk(2, dim=2))
    own = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(3) @ v
    logits = (q @ k2.transpose(2, 3) / math.sqrt(q.shape[3])).masked_fill(~mask[:, None, None], -1e30)
    return (own + logits.softmax(3) @ v2).transpose(1, 2).flatten(2)


# %% wrong="13.1" hint="two softmaxes, averaged"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (h @ w_qkv.T).chunk(3, dim=2))
    k2, v2 = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (context @ w_kv.T).chunk(2, dim=2))
    own = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(3) @ v
    logits = (q @ k2.transpose(2, 3) / math.sqrt(q.shape[3])).masked_fill(~mask[:, None, None], -1e30)
    return ((own + logits.softmax(3) @ v2) / 2).transpose(1, 2).flatten(2)


# %% wrong="13.1" hint="the mask has no effect"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    q, *own = (h @ w_qkv.T).chunk(3, dim=2)
    read = (context @ w_kv.T).chunk(2, dim=2)
    k, v = (torch.cat(pair, dim=1) for pair in zip(read, own, strict=True))
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(3)
    return (weights @ v).transpose(1, 2).flatten(2)


# %% wrong="13.1" hint="the mask is the wrong way round"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    q, *own = (h @ w_qkv.T).chunk(3, dim=2)
    read = (context @ w_kv.T).chunk(2, dim=2)
    k, v = (torch.cat(pair, dim=1) for pair in zip(read, own, strict=True))
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    hidden = F.pad(mask, (0, h.shape[1]), value=False)[:, None, None]
    logits = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
    return (logits.masked_fill(hidden, -math.inf).softmax(3) @ v).transpose(1, 2).flatten(2)


# %% wrong="13.1" hint="what stands in the padding changes the result"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    q, *own = (h @ w_qkv.T).chunk(3, dim=2)
    read = (context @ w_kv.T).chunk(2, dim=2)
    k, v = (torch.cat(pair, dim=1) for pair in zip(read, own, strict=True))
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    counts = F.pad(mask, (0, h.shape[1]), value=True)[:, None, None]
    logits = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
    return ((logits * counts).softmax(3) @ v).transpose(1, 2).flatten(2)


# %% wrong="13.1" hint="over text and image together"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    q, *own = (h @ w_qkv.T).chunk(3, dim=2)
    read = (context @ w_kv.T).chunk(2, dim=2)
    k, v = (torch.cat(pair, dim=1) for pair in zip(read, own, strict=True))
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    counts = F.pad(mask, (0, h.shape[1]), value=True)[:, None, None]
    weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(3) * counts
    return (weights @ v).transpose(1, 2).flatten(2)


# %% wrong="13.1" hint="were tokens and heads mixed in a reshape"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    q, *own = (h @ w_qkv.T).chunk(3, dim=2)
    read = (context @ w_kv.T).chunk(2, dim=2)
    k, v = (torch.cat(pair, dim=1) for pair in zip(read, own, strict=True))
    q, k, v = (part.reshape(len(h), heads, part.shape[1], -1) for part in (q, k, v))
    counts = F.pad(mask, (0, h.shape[1]), value=True)[:, None, None]
    logits = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
    weights = logits.masked_fill(~counts, -math.inf).softmax(3)
    return (weights @ v).reshape(h.shape)


# %% wrong="13.1" hint="not of D"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    q, *own = (h @ w_qkv.T).chunk(3, dim=2)
    read = (context @ w_kv.T).chunk(2, dim=2)
    k, v = (torch.cat(pair, dim=1) for pair in zip(read, own, strict=True))
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    counts = F.pad(mask, (0, h.shape[1]), value=True)[:, None, None]
    logits = q @ k.transpose(2, 3) / math.sqrt(h.shape[2])
    return (logits.masked_fill(~counts, -math.inf).softmax(3) @ v).transpose(1, 2).flatten(2)


# %% wrong="13.1" hint="must be divided by the root of d"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    q, *own = (h @ w_qkv.T).chunk(3, dim=2)
    read = (context @ w_kv.T).chunk(2, dim=2)
    k, v = (torch.cat(pair, dim=1) for pair in zip(read, own, strict=True))
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    counts = F.pad(mask, (0, h.shape[1]), value=True)[:, None, None]
    logits = q @ k.transpose(2, 3)
    return (logits.masked_fill(~counts, -math.inf).softmax(3) @ v).transpose(1, 2).flatten(2)


# %% wrong="13.1" hint="there is one head"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    q, *own = (h @ w_qkv.T).chunk(3, dim=2)
    read = (context @ w_kv.T).chunk(2, dim=2)
    k, v = (torch.cat(pair, dim=1) for pair in zip(read, own, strict=True))
    counts = F.pad(mask, (0, h.shape[1]), value=True)[:, None]
    logits = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])
    return logits.masked_fill(~counts, -math.inf).softmax(2) @ v


# %% wrong="13.1" hint="in the order of their keys"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    q, k, v = (h @ w_qkv.T).chunk(3, dim=2)
    k2, v2 = (context @ w_kv.T).chunk(2, dim=2)
    k, v = torch.cat([k2, k], dim=1), torch.cat([v, v2], dim=1)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    counts = F.pad(mask, (0, h.shape[1]), value=True)[:, None, None]
    logits = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
    return (logits.masked_fill(~counts, -math.inf).softmax(3) @ v).transpose(1, 2).flatten(2)


# %% wrong="13.1" hint="keys and values of the text are exchanged"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    q, *own = (h @ w_qkv.T).chunk(3, dim=2)
    read = (context @ w_kv.T).chunk(2, dim=2)[::-1]
    k, v = (torch.cat(pair, dim=1) for pair in zip(read, own, strict=True))
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    counts = F.pad(mask, (0, h.shape[1]), value=True)[:, None, None]
    logits = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
    return (logits.masked_fill(~counts, -math.inf).softmax(3) @ v).transpose(1, 2).flatten(2)


# %% right="13.1" name="the image's tokens first"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    q, k, v = (h @ w_qkv.T).chunk(3, dim=2)
    k2, v2 = (context @ w_kv.T).chunk(2, dim=2)
    k, v = torch.cat([k, k2], dim=1), torch.cat([v, v2], dim=1)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    counts = F.pad(mask, (h.shape[1], 0), value=True)[:, None, None]
    logits = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
    return (logits.masked_fill(~counts, -math.inf).softmax(3) @ v).transpose(1, 2).flatten(2)


# %% right="13.1" name="a gate between two attentions"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (h @ w_qkv.T).chunk(3, dim=2))
    k2, v2 = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (context @ w_kv.T).chunk(2, dim=2))
    scale = q.shape[3] ** -0.5
    a = (scale * q @ k2.transpose(2, 3)).masked_fill(~mask[:, None, None], -1e300)
    b = scale * q @ k.transpose(2, 3)
    gate = (a.logsumexp(3) - b.logsumexp(3)).sigmoid()[..., None]
    return (gate * (a.softmax(3) @ v2) + (1 - gate) * (b.softmax(3) @ v)).transpose(1, 2).flatten(2)


# %% right="13.1" name="a loop over samples and heads"
def joined_attention(h, context, mask, w_qkv, w_kv, heads):
    out = torch.empty_like(h)
    width = h.shape[2]
    d = width // heads
    for i in range(len(h)):
        said = context[i][mask[i]]
        for a in range(heads):
            rows = torch.arange(a * d, (a + 1) * d)
            q, k, v = (h[i] @ w_qkv[rows + part * width].T for part in range(3))
            k = torch.cat([said @ w_kv[rows].T, k])
            v = torch.cat([said @ w_kv[rows + width].T, v])
            weights = (q @ k.T / d**0.5).exp()
            out[i][:, rows] = weights @ v / weights.sum(1, keepdim=True)
    return out


# %% wrong="13.2" hint="large logits give NaN"
def text_share(text_logits, mask, own_logits):
    text = (text_logits.exp() * mask[:, None]).sum(2)
    return text / (text + own_logits.exp().sum(2))


# %% wrong="13.2" hint="sum, do not average"
def text_share(text_logits, mask, own_logits):
    text = (text_logits.exp() * mask[:, None]).sum(2) / mask.sum(1)[:, None].clamp(min=1)
    return text / (text + own_logits.exp().mean(2))


# %% wrong="13.2" hint="this is the share of the image"
def text_share(text_logits, mask, own_logits):
    text = text_logits.masked_fill(~mask[:, None], -math.inf)
    return torch.cat([text, own_logits], dim=2).softmax(dim=2)[..., text.shape[2] :].sum(2)


# %% wrong="13.2" hint="the ratio of text to image"
def text_share(text_logits, mask, own_logits):
    text = text_logits.masked_fill(~mask[:, None], -math.inf)
    return (text.logsumexp(2) - own_logits.logsumexp(2)).exp()


# %% wrong="13.2" hint="the mask has no effect"
def text_share(text_logits, mask, own_logits):
    return (text_logits.logsumexp(2) - own_logits.logsumexp(2)).sigmoid()


# %% wrong="13.2" hint="padding with a logit of 0 still counts"
def text_share(text_logits, mask, own_logits):
    text = text_logits * mask[:, None]
    return (text.logsumexp(2) - own_logits.logsumexp(2)).sigmoid()


# %% wrong="13.2" hint="the mask is the wrong way round"
def text_share(text_logits, mask, own_logits):
    text = text_logits.masked_fill(mask[:, None], -math.inf)
    return (text.logsumexp(2) - own_logits.logsumexp(2)).sigmoid()


# %% wrong="13.2" hint="text_logits was changed"
def text_share(text_logits, mask, own_logits):
    text = text_logits.masked_fill_(~mask[:, None], -math.inf)
    return torch.cat([text, own_logits], dim=2).softmax(dim=2)[..., : text.shape[2]].sum(2)


# %% right="13.2" name="a sigmoid"
def text_share(text_logits, mask, own_logits):
    text = text_logits.masked_fill(~mask[:, None], -math.inf)
    return (text.logsumexp(2) - own_logits.logsumexp(2)).sigmoid()


# %% right="13.2" name="the largest taken out by hand"
def text_share(text_logits, mask, own_logits):
    text = torch.where(mask[:, None], text_logits, torch.full_like(text_logits, -math.inf))
    top = torch.cat([text, own_logits], dim=2).amax(2, keepdim=True)
    above = (text - top).exp().sum(2)
    return above / (above + (own_logits - top).exp().sum(2))


# %% right="13.2" name="one minus the image's share"
def text_share(text_logits, mask, own_logits):
    text = text_logits.masked_fill(~mask[:, None], -math.inf)
    whole = torch.cat([text, own_logits], dim=2).logsumexp(2)
    return 1 - (own_logits.logsumexp(2) - whole).exp()


# %% wrong="13.3" hint="write yourself"
def guided(net, x, t, tokens, small, empty, w):
    class Wrapped(Field):
        path, predicts, null = GaussianPath(), "velocity", torch.zeros(7)

        def null_like(self, y):
            return torch.cat([empty.double().expand(len(y), -1), y[:, 3:]], dim=1)

        def predict(self, x, t, y=None):
            return net(x, t, y[:, :3].long(), y[:, 3:].reshape(-1, 1, 2, 2))

    y = torch.cat([tokens.double(), small.flatten(1)], dim=1)
    return ClassifierFreeGuidance(Wrapped(), w).predict(x, t, y)


# %% wrong="13.3" hint="the small image was dropped"
def guided(net, x, t, tokens, small, empty, w):
    times = torch.cat([t, t]) if t.ndim else t
    captions = torch.cat([tokens, empty.expand_as(tokens)])
    told, untold = net(torch.cat([x, x]), times, captions, torch.cat([small, 0 * small])).chunk(2)
    return (1 - w) * untold + w * told


# %% wrong="13.3" hint="one call of the network"
def guided(net, x, t, tokens, small, empty, w):
    return (1 - w) * net(x, t, empty.expand_as(tokens), small) + w * net(x, t, tokens, small)


# %% wrong="13.3" hint="the halves are exchanged"
def guided(net, x, t, tokens, small, empty, w):
    times = torch.cat([t, t]) if t.ndim else t
    captions = torch.cat([empty.expand_as(tokens), tokens])
    told, untold = net(torch.cat([x, x]), times, captions, torch.cat([small, small])).chunk(2)
    return (1 - w) * untold + w * told


# %% wrong="13.3" hint="here w = 1 means no extra guidance"
def guided(net, x, t, tokens, small, empty, w):
    times = torch.cat([t, t]) if t.ndim else t
    captions = torch.cat([tokens, empty.expand_as(tokens)])
    told, untold = net(torch.cat([x, x]), times, captions, torch.cat([small, small])).chunk(2)
    return told + w * (told - untold)


# %% wrong="13.3" hint="the weights must sum to one"
def guided(net, x, t, tokens, small, empty, w):
    times = torch.cat([t, t]) if t.ndim else t
    captions = torch.cat([tokens, empty.expand_as(tokens)])
    told, untold = net(torch.cat([x, x]), times, captions, torch.cat([small, small])).chunk(2)
    return untold + w * told


# %% wrong="13.3" hint="double it as well"
def guided(net, x, t, tokens, small, empty, w):
    times = torch.cat([t, t]) if t.ndim else t
    captions = torch.cat([tokens, empty.expand_as(tokens)])
    told, untold = net(torch.cat([x, x]), times, captions, small).chunk(2)
    return (1 - w) * untold + w * told


# %% wrong="13.3" hint="images and times of shape"
def guided(net, x, t, tokens, small, empty, w):
    captions = torch.cat([tokens, empty.expand_as(tokens)])
    told, untold = net(torch.cat([x, x]), t, captions, torch.cat([small, small])).chunk(2)
    return (1 - w) * untold + w * told


# %% wrong="13.3" hint="got another one's time"
def guided(net, x, t, tokens, small, empty, w):
    times = torch.cat([t, t.flip(0)]) if t.ndim else t
    captions = torch.cat([tokens, empty.expand_as(tokens)])
    told, untold = net(torch.cat([x, x]), times, captions, torch.cat([small, small])).chunk(2)
    return (1 - w) * untold + w * told


# %% wrong="13.3" hint="got another one's small image"
def guided(net, x, t, tokens, small, empty, w):
    times = torch.cat([t, t]) if t.ndim else t
    captions = torch.cat([tokens, empty.expand_as(tokens)])
    told, untold = net(torch.cat([x, x]), times, captions, small.repeat_interleave(2, 0)).chunk(2)
    return (1 - w) * untold + w * told


# %% right="13.3" name="each sample beside itself"
def guided(net, x, t, tokens, small, empty, w):
    times = t.repeat_interleave(2) if t.ndim else t
    captions = torch.stack([tokens, empty.expand_as(tokens)], dim=1).flatten(0, 1)
    out = net(x.repeat_interleave(2, 0), times, captions, small.repeat_interleave(2, 0))
    return w * out[::2] + (1 - w) * out[1::2]


# %% right="13.3" name="the empty caption first, the difference scaled"
def guided(net, x, t, tokens, small, empty, w):
    count = len(x)
    captions = torch.cat([empty.repeat(count, 1), tokens])
    out = net(x.repeat(2, 1, 1, 1), t.expand(count).repeat(2), captions, small.repeat(2, 1, 1, 1))
    return out[:count] + w * (out[count:] - out[:count])


# %% right="13.3" name="torch.lerp"
def guided(net, x, t, tokens, small, empty, w):
    times = torch.cat([t, t]) if t.ndim else t
    captions = torch.cat([tokens, empty.expand_as(tokens)])
    told, untold = net(torch.cat([x, x]), times, captions, torch.cat([small, small])).chunk(2)
    return torch.lerp(untold, told, w)


# %% wrong="13.4" hint="return a convolution"
def widened(layer, extra):
    return nn.Sequential(layer)


# %% wrong="13.4" hint="their weights must be zero"
def widened(layer, extra):
    made = nn.Conv2d(
        layer.in_channels + extra, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
        bias=layer.bias is not None, dtype=layer.weight.dtype,
    )  # fmt: skip
    with torch.no_grad():
        made.weight[:, : layer.in_channels] = layer.weight
        if layer.bias is not None:
            made.bias.copy_(layer.bias)
    return made


# %% wrong="13.4" hint="are its weights copied"
def widened(layer, extra):
    made = nn.Conv2d(
        layer.in_channels + extra, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
        bias=layer.bias is not None, dtype=layer.weight.dtype,
    )  # fmt: skip
    with torch.no_grad():
        made.weight.zero_()
        if layer.bias is not None:
            made.bias.copy_(layer.bias)
    return made


# %% wrong="13.4" hint="the bias is not the layer's"
def widened(layer, extra):
    made = nn.Conv2d(
        layer.in_channels + extra, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
        bias=layer.bias is not None, dtype=layer.weight.dtype,
    )  # fmt: skip
    with torch.no_grad():
        made.weight.zero_()
        made.weight[:, : layer.in_channels] = layer.weight
    return made


# %% wrong="13.4" hint="come behind the old ones"
def widened(layer, extra):
    made = nn.Conv2d(
        layer.in_channels + extra, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
        bias=layer.bias is not None, dtype=layer.weight.dtype,
    )  # fmt: skip
    with torch.no_grad():
        made.weight.zero_()
        made.weight[:, extra:] = layer.weight
        if layer.bias is not None:
            made.bias.copy_(layer.bias)
    return made


# %% wrong="13.4" hint="kernel, stride and padding"
def widened(layer, extra):
    made = nn.Conv2d(
        layer.in_channels + extra, layer.out_channels, layer.kernel_size, bias=layer.bias is not None,
        dtype=layer.weight.dtype,
    )  # fmt: skip
    with torch.no_grad():
        made.weight.zero_()
        made.weight[:, : layer.in_channels] = layer.weight
        if layer.bias is not None:
            made.bias.copy_(layer.bias)
    return made


# %% wrong="13.4" hint="if and only if the layer has one"
def widened(layer, extra):
    made = nn.Conv2d(
        layer.in_channels + extra, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
        dtype=layer.weight.dtype,
    )  # fmt: skip
    with torch.no_grad():
        made.weight.zero_()
        made.weight[:, : layer.in_channels] = layer.weight
        made.bias.zero_() if layer.bias is None else made.bias.copy_(layer.bias)
    return made


# %% wrong="13.4" hint="the new one in torch.float32"
def widened(layer, extra):
    made = nn.Conv2d(
        layer.in_channels + extra, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
        bias=layer.bias is not None,
    )  # fmt: skip
    with torch.no_grad():
        made.weight.zero_()
        made.weight[:, : layer.in_channels] = layer.weight
        if layer.bias is not None:
            made.bias.copy_(layer.bias)
    return made


# %% wrong="13.4" hint="this is the layer itself"
def widened(layer, extra):
    weight = torch.cat([layer.weight, torch.zeros_like(layer.weight[:, :1]).expand(-1, extra, -1, -1)], dim=1)
    layer.weight, layer.in_channels = nn.Parameter(weight), layer.in_channels + extra
    return layer


# %% wrong="13.4" hint="some weights cannot be trained"
def widened(layer, extra):
    made = nn.Conv2d(
        layer.in_channels + extra, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
        bias=layer.bias is not None, dtype=layer.weight.dtype,
    ).requires_grad_(False)  # fmt: skip
    with torch.no_grad():
        made.weight.zero_()
        made.weight[:, : layer.in_channels] = layer.weight
        if layer.bias is not None:
            made.bias.copy_(layer.bias)
    return made


# %% wrong="13.4" hint="no gradient reaches the weights"
def widened(layer, extra):
    made = nn.Conv2d(
        layer.in_channels + extra, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
        bias=layer.bias is not None, dtype=layer.weight.dtype,
    ).requires_grad_(False)  # fmt: skip
    made.weight.zero_()
    made.weight[:, : layer.in_channels] = layer.weight
    if layer.bias is not None:
        made.bias.copy_(layer.bias)
    return made


# %% right="13.4" name="weights joined"
def widened(layer, extra):
    made = nn.Conv2d(
        layer.in_channels + extra, layer.out_channels, layer.kernel_size, stride=layer.stride, padding=layer.padding,
        bias=layer.bias is not None,
    ).to(layer.weight)  # fmt: skip
    zeros = layer.weight.new_zeros(layer.out_channels, extra, *layer.kernel_size)
    state = {"weight": torch.cat([layer.weight.detach(), zeros], dim=1)}
    if layer.bias is not None:
        state["bias"] = layer.bias.detach()
    made.load_state_dict(state)
    return made


# %% right="13.4" name="a copy whose weight is replaced"
def widened(layer, extra):
    import copy

    made = copy.deepcopy(layer)
    made.in_channels += extra
    made.weight = nn.Parameter(F.pad(layer.weight.detach(), (0, 0, 0, 0, 0, extra)))
    return made


# %% right="13.4" name="new parameters"
def widened(layer, extra):
    made = nn.Conv2d(1, 1, layer.kernel_size, layer.stride, layer.padding, bias=False)
    made.in_channels, made.out_channels = layer.in_channels + extra, layer.out_channels
    old = layer.weight.detach().clone()
    made.weight = nn.Parameter(torch.cat([old, torch.zeros_like(old[:, :1]).repeat(1, extra, 1, 1)], 1))
    made.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
    return made


# %% wrong="13.5" hint="write yourself"
def paint_in(velocity, image, known, noise, steps):
    class Wrapped(Field):
        path, predicts, null = GaussianPath(), "velocity", None

        def predict(self, x, t, y=None):
            return velocity(x, float(t))

    return sample_ode(ReplacedPixels(Wrapped(), image, known, noise), noise, steps=steps, method="euler")


# %% wrong="13.5" hint="the known pixels were shown without noise"
def paint_in(velocity, image, known, noise, steps):
    x = noise
    for k in range(steps):
        shown = torch.where(known > 0, image, x)
        x = shown + velocity(shown, k / steps) / steps
    return torch.where(known > 0, image, x)


# %% wrong="13.5" hint="the velocity was shown x as it is"
def paint_in(velocity, image, known, noise, steps):
    x = noise
    for k in range(steps):
        x = x + velocity(x, k / steps) / steps
    return torch.where(known > 0, image, x)


# %% wrong="13.5" hint="the known part lacks its noise"
def paint_in(velocity, image, known, noise, steps):
    x = noise
    for k in range(steps):
        shown = torch.where(known > 0, k / steps * image, x)
        x = shown + velocity(shown, k / steps) / steps
    return torch.where(known > 0, image, x)


# %% wrong="13.5" hint="the noise that this sample started from"
def paint_in(velocity, image, known, noise, steps):
    x = noise
    for k in range(steps):
        t = k / steps
        shown = torch.where(known > 0, t * image + (1 - t) * (noise if k == 0 else torch.randn_like(noise)), x)
        x = shown + velocity(shown, t) / steps
    return torch.where(known > 0, image, x)


# %% wrong="13.5" hint="the mask is the wrong way round"
def paint_in(velocity, image, known, noise, steps):
    x = noise
    for k in range(steps):
        t = k / steps
        shown = torch.where(known > 0, x, t * image + (1 - t) * noise)
        x = shown + velocity(shown, t) / steps
    return torch.where(known > 0, x, image)


# %% wrong="13.5" hint="in the result the known part must be the image"
def paint_in(velocity, image, known, noise, steps):
    x = noise
    for k in range(steps):
        t = k / steps
        shown = torch.where(known > 0, t * image + (1 - t) * noise, x)
        x = shown + velocity(shown, t) / steps
    return x


# %% wrong="13.5" hint="times run from 0"
def paint_in(velocity, image, known, noise, steps):
    x = noise
    for k in range(steps):
        t = (k + 1) / steps
        shown = torch.where(known > 0, t * image + (1 - t) * noise, x)
        x = shown + velocity(shown, t) / steps
    return torch.where(known > 0, image, x)


# %% wrong="13.5" hint="moves by the velocity / steps"
def paint_in(velocity, image, known, noise, steps):
    x = noise
    for k in range(steps):
        t = k / steps
        shown = torch.where(known > 0, t * image + (1 - t) * noise, x)
        x = shown + velocity(shown, t)
    return torch.where(known > 0, image, x)


# %% wrong="13.5" hint="one a step"
def paint_in(velocity, image, known, noise, steps):
    x = noise
    for k in range(steps):
        t = k / steps
        shown = torch.where(known > 0, t * image + (1 - t) * noise, x)
        x = shown + (velocity(shown, t) + velocity(shown, t)) / (2 * steps)
    return torch.where(known > 0, image, x)


# %% right="13.5" name="only the unknown part moves"
def paint_in(velocity, image, known, noise, steps):
    x, hole = noise.clone(), 1 - known
    for t in torch.linspace(0, 1, steps + 1)[:-1].tolist():
        shown = hole * x + known * (t * image + (1 - t) * noise)
        x = x + hole * velocity(shown, t) / steps
    return hole * x + known * image


# %% right="13.5" name="replaced after each step"
def paint_in(velocity, image, known, noise, steps):
    x, keep = noise, known.bool().expand_as(noise)
    for k in range(steps):
        x = x + velocity(x, k / steps) / steps
        after = (k + 1) / steps
        x = torch.where(keep, after * image + (1 - after) * noise, x)
    return x


# %% right="13.5" name="lerp"
def paint_in(velocity, image, known, noise, steps):
    x = noise
    for k in range(steps):
        shown = torch.where(known > 0, torch.lerp(noise, image.expand_as(noise), k / steps), x)
        x = shown + velocity(shown, k / steps) / steps
    return torch.where(known > 0, image.expand_as(x), x)


# %% wrong="13.6" hint="the mean of the rest must follow"
def rest_given(mean, covariance, known, value):
    own, cross = covariance[~known][:, ~known], covariance[~known][:, known]
    return mean[~known], own - cross @ torch.linalg.solve(covariance[known][:, known], cross.T)


# %% wrong="13.6" hint="makes the other one surer"
def rest_given(mean, covariance, known, value):
    own, cross = covariance[~known][:, ~known], covariance[~known][:, known]
    weights = torch.linalg.solve(covariance[known][:, known], cross.T).T
    return mean[~known] + weights @ (value - mean[known]), own


# %% wrong="13.6" hint="the variance grows"
def rest_given(mean, covariance, known, value):
    own, cross = covariance[~known][:, ~known], covariance[~known][:, known]
    weights = torch.linalg.solve(covariance[known][:, known], cross.T).T
    return mean[~known] + weights @ (value - mean[known]), own + weights @ cross.T


# %% wrong="13.6" hint="the sign: with a positive correlation"
def rest_given(mean, covariance, known, value):
    own, cross = covariance[~known][:, ~known], covariance[~known][:, known]
    weights = torch.linalg.solve(covariance[known][:, known], cross.T).T
    return mean[~known] - weights @ (value - mean[known]), own - weights @ cross.T


# %% wrong="13.6" hint="when what is known is what was expected"
def rest_given(mean, covariance, known, value):
    own, cross = covariance[~known][:, ~known], covariance[~known][:, known]
    weights = torch.linalg.solve(covariance[known][:, known], cross.T).T
    return mean[~known] + weights @ value, own - weights @ cross.T


# %% wrong="13.6" hint="it is the *known* block that is inverted"
def rest_given(mean, covariance, known, value):
    own, cross = covariance[~known][:, ~known], covariance[~known][:, known]
    weights = torch.linalg.solve(covariance[known][:, known], cross.T).T
    return mean[~known] + torch.linalg.solve(own, cross) @ (value - mean[known]), own - weights @ cross.T


# %% wrong="13.6" hint="the rest's numbers depend on each other"
def rest_given(mean, covariance, known, value):
    own, cross = covariance[~known][:, ~known], covariance[~known][:, known]
    weights = torch.linalg.solve(covariance[known][:, known], cross.T).T
    return mean[~known] + weights @ (value - mean[known]), (own - weights @ cross.T).diagonal().diag()


# %% wrong="13.6" hint="return two tensors"
def rest_given(mean, covariance, known, value):
    own, cross = covariance[~known][:, ~known], covariance[~known][:, known]
    weights = torch.linalg.solve(covariance[known][:, known], cross.T).T
    return torch.cat([(mean[~known] + weights @ (value - mean[known]))[:, None], own - weights @ cross.T], dim=1)


# %% wrong="13.6" hint="this is a standard deviation"
def rest_given(mean, covariance, known, value):
    own, cross = covariance[~known][:, ~known], covariance[~known][:, known]
    weights = torch.linalg.solve(covariance[known][:, known], cross.T).T
    return mean[~known] + weights @ (value - mean[known]), (own - weights @ cross.T).sqrt()


# %% right="13.6" name="the precision's block"
def rest_given(mean, covariance, known, value):
    precision = torch.linalg.inv(covariance)
    rest = torch.linalg.inv(precision[~known][:, ~known])
    return mean[~known] - rest @ precision[~known][:, known] @ (value - mean[known]), rest


# %% right="13.6" name="an inverse"
def rest_given(mean, covariance, known, value):
    k, r = known.nonzero()[:, 0], (~known).nonzero()[:, 0]
    weights = covariance[r[:, None], k] @ torch.linalg.inv(covariance[k[:, None], k])
    return mean[r] + weights @ (value - mean[k]), covariance[r[:, None], r] - weights @ covariance[k[:, None], r]


# %% right="13.6" name="one number after the other"
def rest_given(mean, covariance, known, value):
    m, c = mean.clone(), covariance.clone()
    for i, number in zip(known.nonzero()[:, 0].tolist(), value, strict=True):
        weights = c[:, i] / c[i, i]
        m, c = m + weights * (number - m[i]), c - weights[:, None] * c[i][None]
        c[i, i] = 1.0
    return m[~known], c[~known][:, ~known]


# %% wrong="13.7" hint="write yourself"
def guided_by_critic(u, critic, x, t, y, prior, w):
    class Plain(Field):
        path, predicts, null = GaussianPath(), "velocity", None

        def predict(self, x, t, y=None):
            return u

    def log_prob(x, t, y):
        return (critic(x, t) + prior.log()).log_softmax(1).gather(1, y[:, None])[:, 0]

    return EnergyGuidance(Plain(), log_prob, w).u(x, t, y)


# %% wrong="13.7" hint="first make it a law over the texts"
def guided_by_critic(u, critic, x, t, y, prior, w):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        gradient = torch.autograd.grad(critic(leaf, t).gather(1, y[:, None]).sum(), leaf)[0]
    return u + w * ((1 - t) / t)[:, None] * gradient


# %% wrong="13.7" hint="texts are not equally frequent"
def guided_by_critic(u, critic, x, t, y, prior, w):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        gradient = torch.autograd.grad(critic(leaf, t).log_softmax(1).gather(1, y[:, None]).sum(), leaf)[0]
    return u + w * ((1 - t) / t)[:, None] * gradient


# %% wrong="13.7" hint="its logarithm is meant"
def guided_by_critic(u, critic, x, t, y, prior, w):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        wanted = (critic(leaf, t) + prior).log_softmax(dim=1).gather(1, y[:, None]).sum()
        gradient = torch.autograd.grad(wanted, leaf)[0]
    return u + w * ((1 - t) / t)[:, None] * gradient


# %% wrong="13.7" hint="the probability was differentiated"
def guided_by_critic(u, critic, x, t, y, prior, w):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        wanted = (critic(leaf, t) + prior.log()).softmax(dim=1).gather(1, y[:, None]).sum()
        gradient = torch.autograd.grad(wanted, leaf)[0]
    return u + w * ((1 - t) / t)[:, None] * gradient


# %% wrong="13.7" hint="the mean was differentiated"
def guided_by_critic(u, critic, x, t, y, prior, w):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        wanted = (critic(leaf, t) + prior.log()).log_softmax(dim=1).gather(1, y[:, None]).mean()
        gradient = torch.autograd.grad(wanted, leaf)[0]
    return u + w * ((1 - t) / t)[:, None] * gradient


# %% wrong="13.7" hint="of the gradient is missing"
def guided_by_critic(u, critic, x, t, y, prior, w):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        wanted = (critic(leaf, t) + prior.log()).log_softmax(dim=1).gather(1, y[:, None]).sum()
        gradient = torch.autograd.grad(wanted, leaf)[0]
    return u + w * gradient


# %% wrong="13.7" hint="the factor is that of the noise form"
def guided_by_critic(u, critic, x, t, y, prior, w):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        wanted = (critic(leaf, t) + prior.log()).log_softmax(dim=1).gather(1, y[:, None]).sum()
        gradient = torch.autograd.grad(wanted, leaf)[0]
    return u + w * (1 - t)[:, None] * gradient


# %% wrong="13.7" hint="only that of y counts"
def guided_by_critic(u, critic, x, t, y, prior, w):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        wanted = (critic(leaf, t) + prior.log()).log_softmax(dim=1).sum()
        gradient = torch.autograd.grad(wanted, leaf)[0]
    return u + w * ((1 - t) / t)[:, None] * gradient


# %% wrong="13.7" hint="the result carries a graph"
def guided_by_critic(u, critic, x, t, y, prior, w):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        wanted = (critic(leaf, t) + prior.log()).log_softmax(dim=1).gather(1, y[:, None]).sum()
        gradient = torch.autograd.grad(wanted, leaf, create_graph=True)[0]
    return u + w * ((1 - t) / t)[:, None] * gradient


# %% right="13.7" name="logsumexp by hand"
def guided_by_critic(u, critic, x, t, y, prior, w):
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        f = critic(leaf, t)
        wanted = f[torch.arange(len(y)), y] - (f + prior.log()).logsumexp(1)
        wanted.sum().backward()
    return u + (w * (1 - t) / t)[:, None] * leaf.grad


# %% right="13.7" name="the difference to the mean over texts"
def guided_by_critic(u, critic, x, t, y, prior, w):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        f = critic(leaf, t)
        each = torch.stack([torch.autograd.grad(f[:, k].sum(), leaf, retain_graph=True)[0] for k in range(len(prior))])
    share = (f.detach() + prior.log()).softmax(1).T[..., None]
    gradient = each[y, torch.arange(len(x))] - (share * each).sum(0)
    return u + w * (1 / t - 1)[:, None] * gradient


# %% right="13.7" name="one sample at a time"
def guided_by_critic(u, critic, x, t, y, prior, w):
    out = u.clone()
    for i in range(len(x)):
        with torch.enable_grad():
            leaf = x[i : i + 1].detach().requires_grad_()
            posterior = prior * critic(leaf, t[i : i + 1])[0].exp()
            gradient = torch.autograd.grad((posterior[y[i]] / posterior.sum()).log(), leaf)[0]
        out[i] += w * (1 - t[i]) / t[i] * gradient[0]
    return out
