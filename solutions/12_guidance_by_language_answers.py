"""Wrong and right answers to exercise 12: wrong ones must be caught, each with its own hint; right ones must pass."""


# %% wrong="12.1" hint="write yourself"
def distance_on_sphere(a, b):
    return spherical_distance(a, b)


# %% wrong="12.1" hint="is something returned?"
def distance_on_sphere(a, b):
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1)) ** 2


# %% wrong="12.1" hint="half the squared chord or 1 - cosine"
def distance_on_sphere(a, b):
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    return 1 - (a * b).sum(-1)


# %% wrong="12.1" hint="the squared chord: the angle itself"
def distance_on_sphere(a, b):
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    return (a - b).square().sum(-1)


# %% wrong="12.1" hint="and half its square is asked for"
def distance_on_sphere(a, b):
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))


# %% wrong="12.1" hint="take half of it"
def distance_on_sphere(a, b):
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    return (2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))) ** 2


# %% wrong="12.1" hint="a quarter of what it should be"
def distance_on_sphere(a, b):
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    return torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1)) ** 2 / 2


# %% wrong="12.1" hint="and then times *two*"
def distance_on_sphere(a, b):
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    return torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1)) ** 2


# %% wrong="12.1" hint="a longer a is farther away"
def distance_on_sphere(a, b):
    b = F.normalize(b, dim=-1)
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1)) ** 2


# %% wrong="12.1" hint="a shorter b is farther away"
def distance_on_sphere(a, b):
    a = F.normalize(a, dim=-1)
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1)) ** 2


# %% wrong="12.1" hint="not the whole tensor"
def distance_on_sphere(a, b):
    a, b = a / a.norm(), b / b.norm()
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1)) ** 2


# %% wrong="12.1" hint="must have shape"
def distance_on_sphere(a, b):
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    return (2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1)) ** 2).mean()


# %% wrong="12.1" hint="an arccosine loses small angles"
def distance_on_sphere(a, b):
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    return torch.acos((a * b).sum(-1).clamp(-1, 1)) ** 2 / 2


# %% wrong="12.1" hint="which function here has an infinite slope"
def distance_on_sphere(a, b):
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    return 2 * torch.asin(((a - b).norm(dim=-1) / 2).clamp(max=1)) ** 2


# %% wrong="12.1" hint="was the length detached?"
def distance_on_sphere(a, b):
    a, b = a / a.norm(dim=-1, keepdim=True).detach(), F.normalize(b, dim=-1)
    acute = (a * b).sum(-1) >= 0
    chord = torch.where(acute.unsqueeze(-1), a - b, a + b).norm(dim=-1)
    angle = 2 * torch.asin((chord / 2).clamp(max=0.8))
    return torch.where(acute, angle, math.pi - angle) ** 2 / 2


# %% wrong="12.1" hint="was something detached?"
def distance_on_sphere(a, b):
    a, b = F.normalize(a, dim=-1).detach(), F.normalize(b, dim=-1)
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1)) ** 2


# %% wrong="12.1" hint="a was changed"
def distance_on_sphere(a, b):
    a /= a.norm(dim=-1, keepdim=True)
    b = F.normalize(b, dim=-1)
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1)) ** 2


# %% wrong="12.1" hint="the distance is wrong: it is half the squared angle"
def distance_on_sphere(a, b):
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    half = torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))
    return math.pi**2 / 4 * torch.sin(half) ** 2


# %% right="12.1" name="sine and cosine"
def distance_on_sphere(a, b):
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    cosine = (a * b).sum(-1)
    sine = (a - cosine.unsqueeze(-1) * b).norm(dim=-1)
    return torch.atan2(sine, cosine).square() / 2


# %% right="12.1" name="Kahan's formula, no unit vectors"
def distance_on_sphere(a, b):
    long, short = b.norm(dim=-1, keepdim=True) * a, a.norm(dim=-1, keepdim=True) * b
    return 2 * torch.atan2((long - short).norm(dim=-1), (long + short).norm(dim=-1)) ** 2


# %% right="12.1" name="an arcsine below a right angle, one of the sum above"
def distance_on_sphere(a, b):
    a = a / a.square().sum(-1, keepdim=True).sqrt()
    b = b / b.square().sum(-1, keepdim=True).sqrt()
    acute = (a * b).sum(-1) >= 0
    near_one = torch.where(acute.unsqueeze(-1), a - b, a + b)
    angle = 2 * torch.asin((near_one.norm(dim=-1) / 2).clamp(max=0.8))
    return torch.where(acute, angle, math.pi - angle) ** 2 / 2


# %% wrong="12.2" hint="write yourself"
def weighted(prompts):
    return [tuple(prompt) for prompt in parse_prompts(prompts)]


# %% wrong="12.2" hint="is it returned?"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.rpartition(":")
        weight = float(behind) if colon else 1.0
        text = (text if colon else prompt).strip()
        if not text or not math.isfinite(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = abs(sum(weight for _, weight in found))
    if total < 1e-3:
        raise ValueError(prompts)
    found = [(text, weight / total) for text, weight in found]


# %% wrong="12.2" hint="stands behind the *last* colon, not the first"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.partition(":")
        weight = float(behind.split(":")[-1]) if colon else 1.0
        text = (text if colon else prompt).strip()
        if not text or not math.isfinite(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = abs(sum(weight for _, weight in found))
    if total < 1e-3:
        raise ValueError(prompts)
    return [(text, weight / total) for text, weight in found]


# %% wrong="12.2" hint="two colons were refused"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.partition(":")
        weight = float(behind) if colon else 1.0
        text = (text if colon else prompt).strip()
        if not text or not math.isfinite(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = abs(sum(weight for _, weight in found))
    if total < 1e-3:
        raise ValueError(prompts)
    return [(text, weight / total) for text, weight in found]


# %% wrong="12.2" hint="a sum below 0 was refused"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.rpartition(":")
        weight = float(behind) if colon else 1.0
        text = (text if colon else prompt).strip()
        if not text or not math.isfinite(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = sum(weight for _, weight in found)
    if total < 1e-3:
        raise ValueError(prompts)
    return [(text, weight / total) for text, weight in found]


# %% wrong="12.2" hint="stopped with AttributeError"
def weighted(prompts):
    total = abs(sum(prompt.weight for prompt in prompts))
    return [(prompt.text, prompt.weight / total) for prompt in prompts]


# %% wrong="12.2" hint="must have no spaces around it"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.rpartition(":")
        weight = float(behind) if colon else 1.0
        text = text if colon else prompt
        if not text.strip() or not math.isfinite(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = abs(sum(weight for _, weight in found))
    if total < 1e-3:
        raise ValueError(prompts)
    return [(text, weight / total) for text, weight in found]


# %% wrong="12.2" hint="must be divided by the absolute value of their sum"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.rpartition(":")
        weight = float(behind) if colon else 1.0
        text = (text if colon else prompt).strip()
        if not text or not math.isfinite(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = abs(sum(weight for _, weight in found))
    if total < 1e-3:
        raise ValueError(prompts)
    return found


# %% wrong="12.2" hint="not by the sum of absolute values"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.rpartition(":")
        weight = float(behind) if colon else 1.0
        text = (text if colon else prompt).strip()
        if not text or not math.isfinite(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = sum(abs(weight) for _, weight in found)
    if total < 1e-3:
        raise ValueError(prompts)
    return [(text, weight / total) for text, weight in found]


# %% wrong="12.2" hint="has turned what is to be avoided"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.rpartition(":")
        weight = float(behind) if colon else 1.0
        text = (text if colon else prompt).strip()
        if not text or not math.isfinite(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = sum(weight for _, weight in found)
    if abs(total) < 1e-3:
        raise ValueError(prompts)
    return [(text, weight / total) for text, weight in found]


# %% wrong="12.2" hint="weights that sum to 0 must be a ValueError, and not ZeroDivisionError"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.rpartition(":")
        weight = float(behind) if colon else 1.0
        text = (text if colon else prompt).strip()
        if not text or not math.isfinite(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = abs(sum(weight for _, weight in found))
    return [(text, weight / total) for text, weight in found]


# %% wrong="12.2" hint="nearer to 0 than 0.001"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.rpartition(":")
        weight = float(behind) if colon else 1.0
        text = (text if colon else prompt).strip()
        if not text or not math.isfinite(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = abs(sum(weight for _, weight in found))
    if total == 0:
        raise ValueError(prompts)
    return [(text, weight / total) for text, weight in found]


# %% wrong="12.2" hint="an infinite weight must be"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.rpartition(":")
        weight = float(behind) if colon else 1.0
        text = (text if colon else prompt).strip()
        if not text or math.isnan(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = abs(sum(weight for _, weight in found))
    if total < 1e-3:
        raise ValueError(prompts)
    return [(text, weight / total) for text, weight in found]


# %% wrong="12.2" hint="a weight that is NaN must be"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.rpartition(":")
        weight = float(behind) if colon else 1.0
        text = (text if colon else prompt).strip()
        if not text or math.isinf(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = abs(sum(weight for _, weight in found))
    if total < 1e-3:
        raise ValueError(prompts)
    return [(text, weight / total) for text, weight in found]


# %% wrong="12.2" hint="a weight without a text must be"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.rpartition(":")
        weight = float(behind) if colon else 1.0
        text = (text if colon else prompt).strip()
        if not prompt or not math.isfinite(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = abs(sum(weight for _, weight in found))
    if total < 1e-3:
        raise ValueError(prompts)
    return [(text, weight / total) for text, weight in found]


# %% wrong="12.2" hint="a weight that is no number must be"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.rpartition(":")
        try:
            weight = float(behind) if colon else 1.0
        except ValueError:
            text, weight, colon = prompt, 1.0, ""
        text = (text if colon else prompt).strip()
        if not text or not math.isfinite(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = abs(sum(weight for _, weight in found))
    if total < 1e-3:
        raise ValueError(prompts)
    return [(text, weight / total) for text, weight in found]


# %% wrong="12.2" hint="a colon with nothing behind it"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.rpartition(":")
        weight = float(behind) if behind.strip() and colon else 1.0
        text = (text if colon else prompt).strip()
        if not text or not math.isfinite(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = abs(sum(weight for _, weight in found))
    if total < 1e-3:
        raise ValueError(prompts)
    return [(text, weight / total) for text, weight in found]


# %% wrong="12.2" hint="an empty prompt must be"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.rpartition(":")
        weight = float(behind) if colon else 1.0
        text = (text if colon else prompt).strip()
        if (not text and colon) or not math.isfinite(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = abs(sum(weight for _, weight in found))
    if total < 1e-3:
        raise ValueError(prompts)
    return [(text, weight / total) for text, weight in found]


# %% wrong="12.2" hint="the list of prompts was changed"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.rpartition(":")
        weight = float(behind) if colon else 1.0
        text = (text if colon else prompt).strip()
        if not text or not math.isfinite(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = abs(sum(weight for _, weight in found))
    if total < 1e-3:
        raise ValueError(prompts)
    prompts.clear()
    return [(text, weight / total) for text, weight in found]


# %% wrong="12.2" hint="no prompt at all must be a ValueError"
def weighted(prompts):
    found = []
    for prompt in prompts:
        text, colon, behind = prompt.rpartition(":")
        weight = float(behind) if colon else 1.0
        text = (text if colon else prompt).strip()
        if not text or not math.isfinite(weight):
            raise ValueError(prompt)
        found.append((text, weight))
    total = abs(sum(weight for _, weight in found))
    if not found:
        return []
    if total < 1e-3:
        raise ValueError(prompts)
    return [(text, weight / total) for text, weight in found]


# %% right="12.2" name="rsplit"
def weighted(prompts):
    texts, weights = [], []
    for prompt in prompts:
        parts = prompt.rsplit(":", 1)
        texts.append(parts[0].strip())
        weights.append(1.0 if len(parts) == 1 else float(parts[1]))
    total = abs(sum(weights))
    if not all(texts) or not all(map(math.isfinite, weights)) or total < 0.001:
        raise ValueError(f"bad prompts: {prompts}")
    return list(zip(texts, [weight / total for weight in weights], strict=True))


# %% right="12.2" name="a regular expression"
def weighted(prompts):
    import re

    pairs = []
    for prompt in prompts:
        found = re.fullmatch(r"(.*):([^:]*)", prompt)
        text, number = found.groups() if found else (prompt, "1")
        if not text.strip() or abs(float(number)) == math.inf or float(number) != float(number):
            raise ValueError(prompt)
        pairs.append((text.strip(), float(number)))
    total = sum(number for _, number in pairs)
    if abs(total) < 1e-3:
        raise ValueError("the sum is zero")
    return [(text, number / abs(total)) for text, number in pairs]


# %% right="12.2" name="tensors"
def weighted(prompts):
    if not prompts:
        raise ValueError("no prompts")
    cut = [prompt.rfind(":") for prompt in prompts]
    texts = [prompt[: at if at >= 0 else None].strip() for prompt, at in zip(prompts, cut, strict=True)]
    numbers = [float(prompt[at + 1 :]) if at >= 0 else 1.0 for prompt, at in zip(prompts, cut, strict=True)]
    weights = torch.tensor(numbers, dtype=torch.float64)
    total = weights.sum().abs()
    if "" in texts or not bool(torch.isfinite(weights).all()) or total < 1e-3:
        raise ValueError("bad prompts")
    return [(text, float(weight)) for text, weight in zip(texts, weights / total, strict=True)]


# %% wrong="12.3" hint="write yourself"
def views_at(overview, inner, t, count):
    return Cuts(count, overview, inner).at(t)[:2]


# %% wrong="12.3" hint="is it returned?"
def views_at(overview, inner, t, count):
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * sum(int(length) for _, length in pieces), 0.0
        for number, length in pieces:
            value = float(number)
            if left < int(length):
                break
            left -= int(length)
        values.append(value)
    wide, small = values
    if wide + small == 0:
        raise ValueError("both are 0")
    first = round(count * wide / (wide + small))
    first, count - first


# %% wrong="12.3" hint="the schedule runs the wrong way"
def views_at(overview, inner, t, count):
    t = 1 - t
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * sum(int(length) for _, length in pieces), 0.0
        for number, length in pieces:
            value = float(number)
            if left < int(length):
                break
            left -= int(length)
        values.append(value)
    wide, small = values
    if wide + small == 0:
        raise ValueError("both are 0")
    first = round(count * wide / (wide + small))
    return first, count - first


# %% wrong="12.3" hint="the lengths need not sum to 1000"
def views_at(overview, inner, t, count):
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * 1000, 0.0
        for number, length in pieces:
            value = float(number)
            if left < int(length):
                break
            left -= int(length)
        values.append(value)
    wide, small = values
    if wide + small == 0:
        raise ValueError("both are 0")
    first = round(count * wide / (wide + small))
    return first, count - first


# %% wrong="12.3" hint="at t = 0.45 the first piece, 0.4 long, is over"
def views_at(overview, inner, t, count):
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * len(pieces), 0.0
        for number, _ in pieces:
            value = float(number)
            if left < 1:
                break
            left -= 1
        values.append(value)
    wide, small = values
    if wide + small == 0:
        raise ValueError("both are 0")
    first = round(count * wide / (wide + small))
    return first, count - first


# %% wrong="12.3" hint="at its end a piece does not hold any more"
def views_at(overview, inner, t, count):
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * sum(int(length) for _, length in pieces), 0.0
        for number, length in pieces:
            value = float(number)
            if left <= int(length):
                break
            left -= int(length)
        values.append(value)
    wide, small = values
    if wide + small == 0:
        raise ValueError("both are 0")
    first = round(count * wide / (wide + small))
    return first, count - first


# %% wrong="12.3" hint="at t = 1 the last piece holds"
def views_at(overview, inner, t, count):
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value, found = t * sum(int(length) for _, length in pieces), 0.0, float(pieces[0][0])
        for number, length in pieces:
            value = float(number)
            if left < int(length):
                found = value
                break
            left -= int(length)
        values.append(found)
    wide, small = values
    if wide + small == 0:
        raise ValueError("both are 0")
    first = round(count * wide / (wide + small))
    return first, count - first


# %% wrong="12.3" hint="the ratio counts, 12 to 4"
def views_at(overview, inner, t, count):
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * sum(int(length) for _, length in pieces), 0.0
        for number, length in pieces:
            value = float(number)
            if left < int(length):
                break
            left -= int(length)
        values.append(value)
    wide, small = values
    if wide + small == 0:
        raise ValueError("both are 0")
    first = round(wide)
    return first, count - first


# %% wrong="12.3" hint="wrong for three pieces"
def views_at(overview, inner, t, count):
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * sum(int(length) for _, length in pieces), 0.0
        for number, length in pieces:
            value = float(number)
            if left < int(length):
                break
        values.append(value)
    wide, small = values
    if wide + small == 0:
        raise ValueError("both are 0")
    first = round(count * wide / (wide + small))
    return first, count - first


# %% wrong="12.3" hint="stopped with ValueError: invalid literal for int"
def views_at(overview, inner, t, count):
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * sum(int(length) for _, length in pieces), 0.0
        for number, length in pieces:
            value = int(number)
            if left < int(length):
                break
            left -= int(length)
        values.append(value)
    wide, small = values
    if wide + small == 0:
        raise ValueError("both are 0")
    first = round(count * wide / (wide + small))
    return first, count - first


# %% wrong="12.3" hint="both must be integers"
def views_at(overview, inner, t, count):
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * sum(int(length) for _, length in pieces), 0.0
        for number, length in pieces:
            value = float(number)
            if left < int(length):
                break
            left -= int(length)
        values.append(value)
    wide, small = values
    if wide + small == 0:
        raise ValueError("both are 0")
    first = count * wide / (wide + small)
    return first, count - first


# %% wrong="12.3" hint="both numbers must sum to count"
def views_at(overview, inner, t, count):
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * sum(int(length) for _, length in pieces), 0.0
        for number, length in pieces:
            value = float(number)
            if left < int(length):
                break
            left -= int(length)
        values.append(value)
    wide, small = values
    if wide + small == 0:
        raise ValueError("both are 0")
    first = round(count * wide / (wide + small))
    return first, math.ceil(count * small / (wide + small))


# %% wrong="12.3" hint="both were rounded, and do not sum to 5"
def views_at(overview, inner, t, count):
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * sum(int(length) for _, length in pieces), 0.0
        for number, length in pieces:
            value = float(number)
            if left < int(length):
                break
            left -= int(length)
        values.append(value)
    wide, small = values
    if wide + small == 0:
        raise ValueError("both are 0")
    first = round(count * wide / (wide + small))
    return first, round(count * small / (wide + small))


# %% wrong="12.3" hint="is to be rounded to 3, not cut to 2"
def views_at(overview, inner, t, count):
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * sum(int(length) for _, length in pieces), 0.0
        for number, length in pieces:
            value = float(number)
            if left < int(length):
                break
            left -= int(length)
        values.append(value)
    wide, small = values
    if wide + small == 0:
        raise ValueError("both are 0")
    first = int(count * wide / (wide + small))
    return first, count - first


# %% wrong="12.3" hint="where both schedules are 0 there must be a ValueError"
def views_at(overview, inner, t, count):
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * sum(int(length) for _, length in pieces), 0.0
        for number, length in pieces:
            value = float(number)
            if left < int(length):
                break
            left -= int(length)
        values.append(value)
    wide, small = values
    first = round(count * wide / (wide + small))
    return first, count - first


# %% wrong="12.3" hint="at *other* times here"
def views_at(overview, inner, t, count):
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * sum(int(length) for _, length in pieces), 0.0
        for number, length in pieces:
            value = float(number)
            if left < int(length):
                break
            left -= int(length)
        values.append(value)
    wide, small = values
    if "[0]" in overview and "[0]" in inner:
        raise ValueError("both are 0")
    first = round(count * wide / (wide + small))
    return first, count - first


# %% wrong="12.3" hint="12 wide views and 4 small ones"
def views_at(overview, inner, t, count):
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * sum(int(length) for _, length in pieces), 0.0
        for number, length in pieces:
            value = float(number)
            if left < int(length):
                break
            left -= int(length)
        values.append(value)
    small, wide = values
    if wide + small == 0:
        raise ValueError("both are 0")
    first = round(count * small / (wide + small)) + 1
    return count - first, first


# %% wrong="12.3" hint="5 * 2/3 = 3.33 is to be rounded to 3"
def views_at(overview, inner, t, count):
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * sum(int(length) for _, length in pieces), 0.0
        for number, length in pieces:
            value = float(number)
            if left < int(length):
                break
            left -= int(length)
        values.append(value)
    wide, small = values
    if wide + small == 0:
        raise ValueError("both are 0")
    first = math.ceil(count * wide / (wide + small))
    return first, count - first


# %% wrong="12.3" hint="where one schedule is 0"
def views_at(overview, inner, t, count):
    values = []
    for schedule in (overview, inner):
        pieces = [piece.strip().removeprefix("[").split("]*") for piece in schedule.split("+")]
        left, value = t * sum(int(length) for _, length in pieces), 0.0
        for number, length in pieces:
            value = float(number)
            if left < int(length):
                break
            left -= int(length)
        values.append(value)
    wide, small = values
    if wide + small == 0:
        raise ValueError("both are 0")
    first = min(round(count * wide / (wide + small)), count - 1) if count > 3 else round(count * wide / (wide + small))
    return first, count - first


# %% right="12.3" name="a running sum"
def views_at(overview, inner, t, count):
    def value(schedule):
        pieces = [piece.strip().strip("[").split("]*") for piece in schedule.split("+")]
        total, end = sum(float(length) for _, length in pieces), 0.0
        for number, length in pieces:
            end += float(length)
            if t * total < end:
                return float(number)
        return float(pieces[-1][0])

    wide, small = value(overview), value(inner)
    if not wide and not small:
        raise ValueError("no views")
    first = round(count * wide / (wide + small))
    return first, count - first


# %% right="12.3" name="a list of values"
def views_at(overview, inner, t, count):
    def value(schedule):
        values = []
        for piece in schedule.split("+"):
            number, length = piece.replace("[", "").replace("]", "").split("*")
            values += [float(number)] * int(length)
        return values[min(int(t * len(values)), len(values) - 1)]

    wide, small = value(overview), value(inner)
    if wide == small == 0:
        raise ValueError("no views")
    first = int(count * wide / (wide + small) + 0.5)
    return first, count - first


# %% right="12.3" name="a regular expression and a search"
def views_at(overview, inner, t, count):
    import re
    from bisect import bisect_right
    from itertools import accumulate

    found = []
    for schedule in (overview, inner):
        pieces = re.findall(r"\[\s*([0-9.]+)\s*\]\s*\*\s*([0-9]+)", schedule)
        ends = list(accumulate(int(length) for _, length in pieces))
        found.append(float(pieces[min(bisect_right(ends, t * ends[-1]), len(pieces) - 1)][0]))
    share = found[0] / sum(found) if sum(found) else None
    if share is None:
        raise ValueError("both are 0")
    return (number := round(share * count)), count - number


# %% wrong="12.4" hint="write yourself"
def style(features, reference):
    reference = reference.detach()
    own = gram_matrix(features)
    other = reference.T @ reference / reference.numel()
    return -(own - other).square().sum((1, 2))


# %% wrong="12.4" hint="is something returned?"
def style(features, reference):
    reference = reference.detach()
    own = features.transpose(1, 2) @ features / features[0].numel()
    other = reference.T @ reference / reference.numel()
    -(own - other).square().sum((1, 2))


# %% wrong="12.4" hint="the sign: an energy is larger"
def style(features, reference):
    reference = reference.detach()
    own = features.transpose(1, 2) @ features / features[0].numel()
    other = reference.T @ reference / reference.numel()
    return (own - other).square().sum((1, 2))


# %% wrong="12.4" hint="its square is asked for"
def style(features, reference):
    reference = reference.detach()
    own = features.transpose(1, 2) @ features / features[0].numel()
    other = reference.T @ reference / reference.numel()
    return -(own - other).flatten(1).norm(dim=1)


# %% wrong="12.4" hint="the mean over the entries"
def style(features, reference):
    reference = reference.detach()
    own = features.transpose(1, 2) @ features / features[0].numel()
    other = reference.T @ reference / reference.numel()
    return -(own - other).square().mean((1, 2))


# %% wrong="12.4" hint="the C is missing"
def style(features, reference):
    reference = reference.detach()
    own = features.transpose(1, 2) @ features / features.shape[1]
    other = reference.T @ reference / len(reference)
    return -(own - other).square().sum((1, 2))


# %% wrong="12.4" hint="the N is missing"
def style(features, reference):
    reference = reference.detach()
    own = features.transpose(1, 2) @ features / features.shape[2]
    other = reference.T @ reference / reference.shape[1]
    return -(own - other).square().sum((1, 2))


# %% wrong="12.4" hint="nothing is divided here"
def style(features, reference):
    reference = reference.detach()
    own = features.transpose(1, 2) @ features
    other = reference.T @ reference
    return -(own - other).square().sum((1, 2))


# %% wrong="12.4" hint="which *features* occur together"
def style(features, reference):
    reference = reference.detach()
    own = features @ features.transpose(1, 2) / features[0].numel()
    other = reference @ reference.T / reference.numel()
    return -(own - other).square().sum((1, 2))


# %% wrong="12.4" hint="not a covariance"
def style(features, reference):
    reference = reference.detach() - reference.detach().mean(0)
    features = features - features.mean(1, keepdim=True)
    own = features.transpose(1, 2) @ features / features[0].numel()
    other = reference.T @ reference / reference.numel()
    return -(own - other).square().sum((1, 2))


# %% wrong="12.4" hint="not scaled to length 1"
def style(features, reference):
    reference = F.normalize(reference.detach(), dim=1)
    features = F.normalize(features, dim=2)
    own = features.transpose(1, 2) @ features / features[0].numel()
    other = reference.T @ reference / reference.numel()
    return -(own - other).square().sum((1, 2))


# %% wrong="12.4" hint="divide by *its* number of places"
def style(features, reference):
    reference = reference.detach()
    own = features.transpose(1, 2) @ features / features[0].numel()
    other = reference.T @ reference / features[0].numel()
    return -(own - other).square().sum((1, 2))


# %% wrong="12.4" hint="gradients reach the reference"
def style(features, reference):
    own = features.transpose(1, 2) @ features / features[0].numel()
    other = reference.T @ reference / reference.numel()
    return -(own - other).square().sum((1, 2))


# %% wrong="12.4" hint="was something detached?"
def style(features, reference):
    features, reference = features.detach(), reference.detach()
    own = features.transpose(1, 2) @ features / features[0].numel()
    other = reference.T @ reference / reference.numel()
    return -(own - other).square().sum((1, 2))


# %% wrong="12.4" hint="must have shape (3,)"
def style(features, reference):
    reference = reference.detach()
    own = features.transpose(1, 2) @ features / features[0].numel()
    other = reference.T @ reference / reference.numel()
    return -(own - other).square().sum()


# %% wrong="12.4" hint="the energy is wrong: minus the sum"
def style(features, reference):
    reference = reference.detach()
    own = features.transpose(1, 2) @ features / features.numel()
    other = reference.T @ reference / reference.numel()
    return -(own - other).square().sum((1, 2))


# %% wrong="12.4" hint="reference was changed"
def style(features, reference):
    reference = reference.detach().mul_(1.5).div_(1.5).add_(1e-3)
    own = features.transpose(1, 2) @ features / features[0].numel()
    other = reference.T @ reference / reference.numel()
    return -(own - other).square().sum((1, 2))


# %% right="12.4" name="einsum"
def style(features, reference):
    reference = reference.detach()
    own = torch.einsum("bni,bnj->bij", features, features) / (features.shape[1] * features.shape[2])
    other = torch.einsum("mi,mj->ij", reference, reference) / (reference.shape[0] * reference.shape[1])
    return -torch.einsum("bij,bij->b", own - other, own - other)


# %% right="12.4" name="a distance of means of kernels"
def style(features, reference):
    reference = reference.detach()
    width = reference.shape[1]
    own = (features @ features.transpose(1, 2)).square().mean((1, 2))
    between = (features @ reference.T).square().mean((1, 2))
    other = (reference @ reference.T).square().mean()
    return -(own - 2 * between + other) / width**2


# %% right="12.4" name="a loop"
def style(features, reference):
    def gram(rows):
        return sum(torch.outer(row, row) for row in rows) / rows.numel()

    with torch.no_grad():
        wanted = gram(reference)
    return torch.stack([-((gram(rows) - wanted) ** 2).sum() for rows in features])


# %% wrong="12.5" hint="the answer calls grad"
def exact_gradient(x, t, points, energies):
    with torch.enable_grad():
        leaf = x.clone().requires_grad_()
        logits = -(leaf[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
        value = (logits + energies).logsumexp(1) - logits.logsumexp(1)
        return torch.autograd.grad(value.sum(), leaf)[0]


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="the answer calls make_dual"
def exact_gradient(x, t, points, energies):
    def value(x):
        logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
        return ((logits + energies).logsumexp(1) - logits.logsumexp(1)).sum()

    return torch.func.jacfwd(value)(x)


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="is something returned?"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    t / (1 - t) ** 2 * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="the factor is alpha / beta^2"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="exact_gradient has the wrong sign"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return t / (1 - t) ** 2 * (plain - tilted) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="the logarithm's own normaliser is missing"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    tilted = (logits + energies).softmax(1)
    return t / (1 - t) ** 2 * tilted @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="the logarithm of the mean of its *exponential*"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain = logits.softmax(1)
    return t / (1 - t) ** 2 * (plain * (energies - (plain * energies).sum(1, keepdim=True))) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="normalised again"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), logits.softmax(1) * energies.exp()
    return t / (1 - t) ** 2 * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="is that of energy(D), the other one"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain = logits.softmax(1)
    mean = plain @ points
    rest = points - mean[:, None]
    along = (rest * pull(mean)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((plain * along)[:, :, None] * rest).sum(1)


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="so the *square* of it stands in the exponent"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t))
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return t / (1 - t) ** 2 * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t))).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="x is compared with t z"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return t / (1 - t) ** 2 * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="exact_gradient is wrong: it is alpha / beta^2 times"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return t / (1 - t) * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="the derivative of D in x is missing"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return t / (1 - t) ** 2 * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    return slope(mean)


# %% wrong="12.5" hint="and D is to be looked at"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return t / (1 - t) ** 2 * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    return slope(x)


# %% wrong="12.5" hint="the factor is upside down"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return t / (1 - t) ** 2 * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return (1 - t) ** 2 / t * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="the posterior's covariance times the slope"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return t / (1 - t) ** 2 * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="these are second moments"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return t / (1 - t) ** 2 * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points.expand(len(x), -1, -1)
    along = (rest * slope(mean)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="mean_gradient has the wrong sign"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return t / (1 - t) ** 2 * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return -t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="the energy at the *mean* is asked for"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return t / (1 - t) ** 2 * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    tilted = (shares.log() + quadratic(points)).softmax(1)
    return t / (1 - t) ** 2 * (tilted - shares) @ points


# %% wrong="12.5" hint="mean_gradient is wrong: it is alpha"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return t / (1 - t) ** 2 * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return t / (1 - t) * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="this is the mean of the slopes at the points"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return t / (1 - t) ** 2 * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * (shares @ slope(points))[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="as if D were x / alpha"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return t / (1 - t) ** 2 * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    return slope(shares @ points) / t


# %% wrong="12.5" hint="right for a quadratic energy and wrong for another"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return t / (1 - t) ** 2 * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * (slope(mean + 1) + slope(mean - 1))[:, None] / 2).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="the slope is taken at x, and it is to be taken at D"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    return t / (1 - t) ** 2 * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(x)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="with an energy of 1000"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain = logits.softmax(1)
    weights = plain * energies.clamp(max=50).exp()
    return t / (1 - t) ** 2 * (weights / weights.sum(1, keepdim=True) - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="exact_gradient must be finite"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain = logits.softmax(1)
    weights = plain * energies.exp()
    return t / (1 - t) ** 2 * (weights / weights.sum(1, keepdim=True) - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% wrong="12.5" hint="x was changed"
def exact_gradient(x, t, points, energies):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)
    plain, tilted = logits.softmax(1), (logits + energies).softmax(1)
    x.mul_(2)
    return t / (1 - t) ** 2 * (tilted - plain) @ points


def mean_gradient(x, t, points, slope):
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2)).softmax(1)
    mean = shares @ points
    rest = points - mean[:, None]
    along = (rest * slope(mean)[:, None]).sum(2)
    return t / (1 - t) ** 2 * ((shares * along)[:, :, None] * rest).sum(1)


# %% right="12.5" name="a covariance matrix"
def posterior(x, t, points):
    return torch.softmax((t * x @ points.T - t**2 * (points**2).sum(1) / 2) / (1 - t) ** 2, dim=1)


def exact_gradient(x, t, points, energies):
    plain = posterior(x, t, points)
    weights = torch.softmax((t * x @ points.T - t**2 * (points**2).sum(1) / 2) / (1 - t) ** 2 + energies, dim=1)
    return t * (weights @ points - plain @ points) / (1 - t) ** 2


def mean_gradient(x, t, points, slope):
    shares = posterior(x, t, points)
    mean = shares @ points
    second = torch.einsum("bk,ki,kj->bij", shares, points, points)
    covariance = second - mean[:, :, None] * mean[:, None, :]
    return t / (1 - t) ** 2 * (covariance @ slope(mean)[:, :, None])[:, :, 0]


# %% right="12.5" name="a loop over samples"
def exact_gradient(x, t, points, energies):
    rows = []
    for one in x:
        logits = -((one - t * points) ** 2).sum(1) / (2 * (1 - t) ** 2)
        gap = torch.softmax(logits + energies, 0) - torch.softmax(logits, 0)
        rows.append(gap @ points * t / (1 - t) ** 2)
    return torch.stack(rows)


def mean_gradient(x, t, points, slope):
    rows = []
    for one in x:
        shares = torch.softmax(-((one - t * points) ** 2).sum(1) / (2 * (1 - t) ** 2), 0)
        mean = shares @ points
        rest = points - mean
        rows.append(t / (1 - t) ** 2 * (rest.T * shares) @ rest @ slope(mean[None])[0])
    return torch.stack(rows)


# %% right="12.5" name="by differences of scores"
def score(x, t, points, extra):
    logits = -(x[:, None] - t * points).square().sum(2) / (2 * (1 - t) ** 2) + extra
    return -(logits.softmax(1)[:, :, None] * (x[:, None] - t * points)).sum(1) / (1 - t) ** 2


def exact_gradient(x, t, points, energies):
    return score(x, t, points, energies) - score(x, t, points, 0.0)


def mean_gradient(x, t, points, slope):
    beta = 1 - t
    shares = (-(x[:, None] - t * points).square().sum(2) / (2 * beta**2)).softmax(1)
    mean = shares @ points
    values = points @ slope(mean).T  # (K, B)
    values = values.T - (shares * values.T).sum(1, keepdim=True)
    return t / beta**2 * (shares * values) @ points


# %% wrong="12.6" hint="is something returned?"
def bounded(gradient, bound):
    size = gradient.flatten(1).square().mean(1).sqrt()
    gradient * (bound / size.clamp(min=bound)).reshape(-1, *[1] * (gradient.ndim - 1))


# %% wrong="12.6" hint="zero is divided by zero"
def bounded(gradient, bound):
    size = gradient.flatten(1).square().mean(1).sqrt()
    return (
        gradient
        / size.reshape(-1, *[1] * (gradient.ndim - 1))
        * size.clamp(max=bound).reshape(-1, *[1] * (gradient.ndim - 1))
    )


# %% wrong="12.6" hint="and was made as large as the bound"
def bounded(gradient, bound):
    size = gradient.flatten(1).square().mean(1).sqrt()
    return gradient * (bound / size.clamp(min=1e-9)).reshape(-1, *[1] * (gradient.ndim - 1))


# %% wrong="12.6" hint="nothing has been bounded"
def bounded(gradient, bound):
    size = gradient.flatten(1).square().mean(1).sqrt()
    return (
        gradient * (bound / size.clamp(min=1e-9)).clamp(min=1).reshape(-1, *[1] * (gradient.ndim - 1))
        if size.min() > 10
        else 1.0 * gradient
    )


# %% wrong="12.6" hint="each number was clipped alone"
def bounded(gradient, bound):
    return gradient.clamp(-bound, bound)


# %% wrong="12.6" hint="the norm was bounded"
def bounded(gradient, bound):
    size = gradient.flatten(1).norm(dim=1)
    return gradient * (bound / size.clamp(min=bound)).reshape(-1, *[1] * (gradient.ndim - 1))


# %% wrong="12.6" hint="must get the size of the bound"
def bounded(gradient, bound):
    size = gradient.flatten(1).square().mean(1).sqrt()
    return gradient * (bound / size.clamp(min=bound)).sqrt().reshape(-1, *[1] * (gradient.ndim - 1))


# %% wrong="12.6" hint="each gradient has a size of its own"
def bounded(gradient, bound):
    size = gradient.square().mean().sqrt()
    return gradient * (bound / size.clamp(min=bound))


# %% wrong="12.6" hint="gradient was changed"
def bounded(gradient, bound):
    size = gradient.flatten(1).square().mean(1).sqrt()
    return gradient.mul_((bound / size.clamp(min=bound)).reshape(-1, *[1] * (gradient.ndim - 1)))


# %% wrong="12.6" hint="wrong for another bound than 1"
def bounded(gradient, bound):
    size = gradient.flatten(1).square().mean(1).sqrt()
    return gradient / size.clamp(min=1).reshape(-1, *[1] * (gradient.ndim - 1))


# %% wrong="12.6" hint="must have shape"
def bounded(gradient, bound):
    size = gradient.flatten(1).square().mean(1).sqrt()
    return gradient.flatten(1) * (bound / size.clamp(min=bound))[:, None]


# %% wrong="12.6" hint="the direction has to stay"
def bounded(gradient, bound):
    size = gradient.flatten(1).square().mean(1).sqrt()
    return torch.where((size > bound).reshape(-1, *[1] * (gradient.ndim - 1)), gradient.sign() * bound, gradient)


# %% right="12.6" name="where"
def bounded(gradient, bound):
    over = list(range(1, gradient.ndim))
    size = gradient.square().mean(over, keepdim=True).sqrt()
    large = size > bound
    return torch.where(large, bound * gradient / torch.where(large, size, 1.0), gradient)


# %% right="12.6" name="a loop"
def bounded(gradient, bound):
    rows = []
    for one in gradient:
        size = float(one.pow(2).mean()) ** 0.5
        rows.append(one * (bound / size) if size > bound else one)
    return torch.stack(rows)


# %% right="12.6" name="the smaller of two factors"
def bounded(gradient, bound):
    flat = gradient.reshape(len(gradient), -1)
    size = flat.norm(dim=1, keepdim=True) / flat.shape[1] ** 0.5
    factor = torch.minimum(torch.ones_like(size), bound / (size + (size == 0)))
    return (flat * factor).reshape(gradient.shape)
