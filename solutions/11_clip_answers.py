"""Wrong and right answers to exercise 11: wrong ones must be caught, each with its own hint; right ones must pass."""


# %% wrong="11.1" hint="write yourself"
def learn_merges(texts, count):
    return [tuple(pair) for pair in BPE.train(texts, 259 + count).to_dict()["merges"]]


# %% wrong="11.1" hint="is it returned?"
def learn_merges(texts, count):
    words = Counter(word for text in texts for word in split_words(text))
    rows = [(list(word.encode()), often) for word, often in words.items()]
    merges = []
    while len(merges) < count:
        counts = Counter()
        for row, often in rows:
            for pair in pairwise(row):
                counts[pair] += often
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    row[at : at + 2] = [256 + len(merges)]
                at += 1
        merges.append(best)
    merges


# %% wrong="11.1" hint="each merge must be two integers"
def learn_merges(texts, count):
    words = Counter(word for text in texts for word in split_words(text))
    rows = [(list(word.encode()), often) for word, often in words.items()]
    merges = []
    while len(merges) < count:
        counts = Counter()
        for row, often in rows:
            for pair in pairwise(row):
                counts[pair] += often
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    row[at : at + 2] = [256 + len(merges)]
                at += 1
        merges.append(best)
    return [tuple(map(str, pair)) for pair in merges]


# %% wrong="11.1" hint="stop when none occurs twice"
def learn_merges(texts, count):
    words = Counter(word for text in texts for word in split_words(text))
    rows = [(list(word.encode()), often) for word, often in words.items()]
    merges = []
    while len(merges) < count:
        counts = Counter()
        for row, often in rows:
            for pair in pairwise(row):
                counts[pair] += often
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None:
            break
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    row[at : at + 2] = [256 + len(merges)]
                at += 1
        merges.append(best)
    return merges


# %% wrong="11.1" hint="begin with bytes"
def learn_merges(texts, count):
    words = Counter(word for text in texts for word in split_words(text))
    rows = [([ord(letter) for letter in word], often) for word, often in words.items()]
    merges = []
    while len(merges) < count:
        counts = Counter()
        for row, often in rows:
            for pair in pairwise(row):
                counts[pair] += often
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    row[at : at + 2] = [256 + len(merges)]
                at += 1
        merges.append(best)
    return merges


# %% wrong="11.1" hint="over the edge of a word"
def learn_merges(texts, count):
    words = Counter(texts)
    rows = [(list(word.encode()), often) for word, often in words.items()]
    merges = []
    while len(merges) < count:
        counts = Counter()
        for row, often in rows:
            for pair in pairwise(row):
                counts[pair] += often
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    row[at : at + 2] = [256 + len(merges)]
                at += 1
        merges.append(best)
    return merges


# %% wrong="11.1" hint="each *occurrence* of a word counts"
def learn_merges(texts, count):
    words = Counter(word for text in texts for word in split_words(text))
    rows = [(list(word.encode()), often) for word, often in words.items()]
    merges = []
    while len(merges) < count:
        counts = Counter()
        for row, _ in rows:
            for pair in pairwise(row):
                counts[pair] += 1
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    row[at : at + 2] = [256 + len(merges)]
                at += 1
        merges.append(best)
    return merges


# %% wrong="11.1" hint="the lowest was not taken"
def learn_merges(texts, count):
    words = Counter(word for text in texts for word in split_words(text))
    rows = [(list(word.encode()), often) for word, often in words.items()]
    merges = []
    while len(merges) < count:
        counts = Counter()
        for row, often in rows:
            for pair in pairwise(row):
                counts[pair] += often
        best = max(counts, key=lambda pair: (counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    row[at : at + 2] = [256 + len(merges)]
                at += 1
        merges.append(best)
    return merges


# %% wrong="11.1" hint="not the first seen"
def learn_merges(texts, count):
    words = Counter(word for text in texts for word in split_words(text))
    rows = [(list(word.encode()), often) for word, often in words.items()]
    merges = []
    while len(merges) < count:
        counts = Counter()
        for row, often in rows:
            for pair in pairwise(row):
                counts[pair] += often
        best = counts.most_common(1)[0][0] if counts else None
        if best is None or counts[best] < 2:
            break
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    row[at : at + 2] = [256 + len(merges)]
                at += 1
        merges.append(best)
    return merges


# %% wrong="11.1" hint="count both, they may overlap"
def learn_merges(texts, count):
    words = Counter(word for text in texts for word in split_words(text))
    rows = [(list(word.encode()), often) for word, often in words.items()]
    merges = []
    while len(merges) < count:
        counts = Counter()
        for row, often in rows:
            before = None
            for pair in pairwise(row):
                repeated = pair == before
                before = None if repeated else pair
                counts[pair] += 0 if repeated else often
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    row[at : at + 2] = [256 + len(merges)]
                at += 1
        merges.append(best)
    return merges


# %% wrong="11.1" hint="join from left to right"
def learn_merges(texts, count):
    words = Counter(word for text in texts for word in split_words(text))
    rows = [(list(word.encode()), often) for word, often in words.items()]
    merges = []
    while len(merges) < count:
        counts = Counter()
        for row, often in rows:
            for pair in pairwise(row):
                counts[pair] += often
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for row, _ in rows:
            at = len(row) - 2
            while at >= 0:
                if tuple(row[at : at + 2]) == best:
                    row[at : at + 2] = [256 + len(merges)]
                at -= 1
        merges.append(best)
    return merges


# %% wrong="11.1" hint="its pairs have to be counted again"
def learn_merges(texts, count):
    counts = Counter(pair for text in texts for word in split_words(text) for pair in pairwise(word.encode()))
    order = sorted(counts, key=lambda pair: (-counts[pair], pair))
    return [pair for pair in order if counts[pair] > 1][:count]


# %% wrong="11.1" hint="but never joined"
def learn_merges(texts, count):
    words = Counter(word for text in texts for word in split_words(text))
    rows = [(list(word.encode()), often) for word, often in words.items()]
    merges = []
    while len(merges) < count:
        counts = Counter()
        for row, often in rows:
            for pair in pairwise(row):
                counts[pair] += often
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    [*row[:at], 256 + len(merges), *row[at + 2 :]]
                at += 1
        merges.append(best)
    return merges


# %% wrong="11.1" hint="is 256, of the second 257"
def learn_merges(texts, count):
    words = Counter(word for text in texts for word in split_words(text))
    rows = [(list(word.encode()), often) for word, often in words.items()]
    merges = []
    while len(merges) < count:
        counts = Counter()
        for row, often in rows:
            for pair in pairwise(row):
                counts[pair] += often
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    row[at : at + 2] = [257 + len(merges)]
                at += 1
        merges.append(best)
    return merges


# %% wrong="11.1" hint="the list of texts was changed"
def learn_merges(texts, count):
    words = Counter(word for text in texts for word in split_words(text))
    rows = [(list(word.encode()), often) for word, often in words.items()]
    merges = []
    texts.clear()
    while len(merges) < count:
        counts = Counter()
        for row, often in rows:
            for pair in pairwise(row):
                counts[pair] += often
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    row[at : at + 2] = [256 + len(merges)]
                at += 1
        merges.append(best)
    return merges


# %% wrong="11.1" hint="there may be at most"
def learn_merges(texts, count):
    words = Counter(word for text in texts for word in split_words(text))
    rows = [(list(word.encode()), often) for word, often in words.items()]
    merges = []
    while len(merges) <= count:
        counts = Counter()
        for row, often in rows:
            for pair in pairwise(row):
                counts[pair] += often
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    row[at : at + 2] = [256 + len(merges)]
                at += 1
        merges.append(best)
    return merges


# %% wrong="11.1" hint="make as many merges as asked for"
def learn_merges(texts, count):
    words = Counter(word for text in texts for word in split_words(text))
    rows = [(list(word.encode()), often) for word, often in words.items()]
    merges = []
    while len(merges) < count - 1:
        counts = Counter()
        for row, often in rows:
            for pair in pairwise(row):
                counts[pair] += often
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    row[at : at + 2] = [256 + len(merges)]
                at += 1
        merges.append(best)
    return merges


# %% right="11.1" name="one string of tokens after another"
def learn_merges(texts, count):
    rows = [tuple(word.encode()) for text in texts for word in split_words(text)]
    merges = []
    for new in range(256, 256 + count):
        counts = Counter(pair for row in rows for pair in pairwise(row))
        if not counts or max(counts.values()) < 2:
            break
        most = max(counts.values())
        best = sorted(pair for pair in counts if counts[pair] == most)[0]
        merges.append(best)
        cache = {}
        for row in set(rows):
            found, at = [], 0
            while at < len(row):
                same = row[at : at + 2] == best
                found.append(new if same else row[at])
                at += 2 if same else 1
            cache[row] = tuple(found)
        rows = [cache[row] for row in rows]
    return merges


# %% right="11.1" name="characters instead of lists"
def learn_merges(texts, count):
    words = Counter("".join(map(chr, word.encode())) for text in texts for word in split_words(text))
    merges = []
    for k in range(count):
        counts = Counter()
        for word, often in words.items():
            for first, second in pairwise(word):
                counts[ord(first), ord(second)] += often
        best = min(counts.items(), key=lambda item: (-item[1], item[0]), default=(None, 0))
        if best[1] < 2:
            return merges
        merges.append(best[0])
        old = chr(best[0][0]) + chr(best[0][1])
        joined = Counter()
        for word, often in words.items():
            joined[word.replace(old, chr(256 + k))] += often
        words = joined
    return merges


# %% right="11.1" name="a recursion, lists for pairs"
def learn_merges(texts, count, rows=None, new=256):
    if rows is None:
        rows = [list(word.encode()) for text in texts for word in split_words(text)]
    if not count:
        return []
    counts = {}
    for row in rows:
        for pair in pairwise(row):
            counts[pair] = counts.get(pair, 0) + 1
    often = [(-number, pair) for pair, number in counts.items() if number >= 2]
    if not often:
        return []
    pair = min(often)[1]
    after = []
    for row in rows:
        found = []
        for token in row:
            if found and (found[-1], token) == pair:
                found[-1] = new
            else:
                found.append(token)
        after.append(found)
    return [list(pair), *learn_merges(texts, count - 1, after, new + 1)]


# %% wrong="11.2" hint="write yourself"
def encode(text, merges):
    return BPE(merges).encode(text)


# %% wrong="11.2" hint="is it returned?"
def encode(text, merges):
    rank = {tuple(pair): k for k, pair in enumerate(merges)}
    out = []
    for word in split_words(text):
        row = list(word.encode())
        while possible := [(rank[pair], at) for at, pair in enumerate(pairwise(row)) if pair in rank]:
            k, at = min(possible)
            row[at : at + 2] = [256 + k]
        out += row
    out


# %% wrong="11.2" hint="is two bytes of UTF-8"
def encode(text, merges):
    rank = {tuple(pair): k for k, pair in enumerate(merges)}
    out = []
    for word in split_words(text):
        row = [ord(letter) for letter in word]
        while possible := [(rank[pair], at) for at, pair in enumerate(pairwise(row)) if pair in rank]:
            k, at = min(possible)
            row[at : at + 2] = [256 + k]
        out += row
    return out


# %% wrong="11.2" hint="merge number k makes the token 256 + k"
def encode(text, merges):
    rank = {tuple(pair): k for k, pair in enumerate(merges)}
    out = []
    for word in split_words(text):
        row = list(word.encode())
        while possible := [(rank[pair], at) for at, pair in enumerate(pairwise(row)) if pair in rank]:
            _, at = min(possible)
            row[at : at + 2] = [256]
        out += row
    return out


# %% wrong="11.2" hint="join it wherever it stands"
def encode(text, merges):
    rank = {tuple(pair): k for k, pair in enumerate(merges)}
    out = []
    for word in split_words(text):
        row = list(word.encode())
        if possible := [(rank[pair], at) for at, pair in enumerate(pairwise(row)) if pair in rank]:
            k, at = min(possible)
            row[at : at + 2] = [256 + k]
        out += row
    return out


# %% wrong="11.2" hint="can be joined again"
def encode(text, merges):
    out = []
    for word in split_words(text):
        row, done, at = list(word.encode()), [], 0
        while at < len(row):
            pair = tuple(row[at : at + 2])
            done.append(256 + merges.index(pair) if pair in merges else row[at])
            at += 1 + (pair in merges)
        out += done
    return out


# %% wrong="11.2" hint="cut with split_words first"
def encode(text, merges):
    rank = {tuple(pair): k for k, pair in enumerate(merges)}
    out = []
    for word in [text]:
        row = list(word.encode())
        while possible := [(rank[pair], at) for at, pair in enumerate(pairwise(row)) if pair in rank]:
            k, at = min(possible)
            row[at : at + 2] = [256 + k]
        out += row
    return out


# %% wrong="11.2" hint="wherever it stands in the word"
def encode(text, merges):
    rank = {tuple(pair): k for k, pair in enumerate(merges)}
    out = []
    for word in split_words(text):
        row = list(word.encode())
        while possible := [(at, rank[pair]) for at, pair in enumerate(pairwise(row)) if pair in rank]:
            at, k = min(possible)
            row[at : at + 2] = [256 + k]
        out += row
    return out


# %% wrong="11.2" hint="the longest piece was taken"
def encode(text, merges):
    pieces = [bytes([i]) for i in range(256)]
    for first, second in merges:
        pieces.append(pieces[first] + pieces[second])
    order = sorted(range(len(pieces)), key=lambda token: (-len(pieces[token]), token))

    def split(word):
        for token in order:
            if word and pieces[token] in word:
                at = word.index(pieces[token])
                return [*split(word[:at]), token, *split(word[at + len(pieces[token]) :])]
        return []

    return [token for word in split_words(text) for token in split(word.encode())]


# %% wrong="11.2" hint="the merges were changed"
def encode(text, merges):
    rank = {tuple(pair): k for k, pair in enumerate(merges)}
    out = []
    merges.append((0, 0))
    for word in split_words(text):
        row = list(word.encode())
        while possible := [(rank[pair], at) for at, pair in enumerate(pairwise(row)) if pair in rank]:
            k, at = min(possible)
            row[at : at + 2] = [256 + k]
        out += row
    return out


# %% wrong="11.2" hint="tokens must be integers"
def encode(text, merges):
    rank = {tuple(pair): k for k, pair in enumerate(merges)}
    out = []
    for word in split_words(text):
        row = list(word.encode())
        while possible := [(rank[pair], at) for at, pair in enumerate(pairwise(row)) if pair in rank]:
            k, at = min(possible)
            row[at : at + 2] = [256 + k]
        out += row
    return [str(token) for token in out]


# %% right="11.2" name="merge by merge"
def encode(text, merges):
    out = []
    for word in split_words(text):
        row = list(word.encode())
        for k, pair in enumerate(merges):
            found = []
            for token in row:
                if found and (found[-1], token) == tuple(pair):
                    found[-1] = 256 + k
                else:
                    found.append(token)
            row = found
        out.extend(row)
    return out


# %% right="11.2" name="characters"
def encode(text, merges):
    words = ["".join(map(chr, word.encode())) for word in split_words(text)]
    for k, (first, second) in enumerate(merges):
        words = [word.replace(chr(first) + chr(second), chr(256 + k)) for word in words]
    return [ord(letter) for word in words for letter in word]


# %% right="11.2" name="a recursion"
def encode(text, merges):
    def joined(row):
        at = [(merges.index(pair), i) for i, pair in enumerate(pairwise(row)) if pair in merges]
        if not at:
            return row
        k, i = min(at)
        return joined([*row[:i], 256 + k, *row[i + 2 :]])

    return [token for word in split_words(text) for token in joined(list(word.encode()))]


# %% wrong="11.3" hint="calls contrastive_loss"
def clip_loss(image, text, scale, gather):
    return contrastive_loss(gather(image), gather(text), scale)[0]


# %% wrong="11.3" hint="calls cross_entropy"
def clip_loss(image, text, scale, gather):
    logits = scale * F.normalize(gather(image), dim=1) @ F.normalize(gather(text), dim=1).T
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


# %% wrong="11.3" hint="is something returned?"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% wrong="11.3" hint="must have shape ()"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    return (logits.logsumexp(1) + logits.logsumexp(0)) / 2 - own


# %% wrong="11.3" hint="is the own text in the denominator?"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    logits = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), -math.inf)
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% wrong="11.3" hint="longer image features"
def clip_loss(image, text, scale, gather):
    image, text = gather(image), F.normalize(gather(text), dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% wrong="11.3" hint="longer text features"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), gather(text)
    logits = scale * image @ text.T
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% wrong="11.3" hint="each *row* has to be scaled"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=0), F.normalize(gather(text), dim=0)
    logits = scale * image @ text.T
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% wrong="11.3" hint="does not depend on the scale"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = image @ text.T
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% wrong="11.3" hint="are divided by the scale"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = image @ text.T / scale
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% wrong="11.3" hint="the sign"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    return -((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% wrong="11.3" hint="only one of the two questions"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    return (logits.logsumexp(1) - own).mean()


# %% wrong="11.3" hint="take half of it"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    return (logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()


# %% wrong="11.3" hint="this is the sum over the batch"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).sum() + (logits.logsumexp(0) - own).sum()) / 2


# %% wrong="11.3" hint="mean over all N x N entries"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    return 1 / len(own) * ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% wrong="11.3" hint="not finite for scale = 100"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    return ((logits.exp().sum(1).log() - own).mean() + (logits.exp().sum(0).log() - own).mean()) / 2


# %% wrong="11.3" hint="was called 0 times"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(image, dim=1), F.normalize(text, dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% wrong="11.3" hint="was called 1 times"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(text, dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% wrong="11.3" hint="the loss of the own rows alone"
def clip_loss(image, text, scale, gather):
    gather(image), gather(text)
    image, text = F.normalize(image, dim=1), F.normalize(text, dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% wrong="11.3" hint="right for one process, wrong for several"
def clip_loss(image, text, scale, gather):
    all_images, all_texts = (F.normalize(gather(part), dim=1) for part in (image, text))
    rows = scale * F.normalize(image, dim=1) @ all_texts.T
    columns = scale * F.normalize(text, dim=1) @ all_images.T
    return sum((part.logsumexp(1) - part.diagonal()).mean() for part in (rows, columns)) / 2


# %% wrong="11.3" hint="no gradient can flow back"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    with torch.no_grad():
        return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% wrong="11.3" hint="no gradient reaches image"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image).detach(), dim=1), F.normalize(gather(text), dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% wrong="11.3" hint="no gradient reaches scale"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = float(scale) * image @ text.T
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% wrong="11.3" hint="is a part of it detached?"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.detach().logsumexp(0) - own).mean()) / 2


# %% wrong="11.3" hint="image was changed"
def clip_loss(image, text, scale, gather):
    image.div_(image.norm(dim=1, keepdim=True))
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% right="11.3" name="log softmax"
def clip_loss(image, text, scale, gather):
    image, text = gather(image), gather(text)
    cosines = (image / image.norm(dim=1, keepdim=True)) @ (text / text.norm(dim=1, keepdim=True)).T
    rows, columns = (scale * cosines).log_softmax(1), (scale * cosines).log_softmax(0)
    return -(rows.diagonal().mean() + columns.diagonal().mean()) / 2


# %% right="11.3" name="negative log likelihood"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=-1), F.normalize(gather(text), dim=-1)
    logits = torch.einsum("id,jd->ij", image, text) * scale
    own = torch.arange(len(logits))
    return sum(F.nll_loss(F.log_softmax(part, dim=1), own) for part in (logits, logits.T)) / 2


# %% right="11.3" name="scaled before it is gathered"
def clip_loss(image, text, scale, gather):
    image, text = gather(F.normalize(image, dim=1)), gather(F.normalize(text, dim=1))
    logits = scale * image @ text.T
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% right="11.3" name="a loop, text gathered first"
def clip_loss(image, text, scale, gather):
    text = gather(text)
    image = gather(image)
    logits = scale * F.cosine_similarity(image[:, None], text[None], dim=2)
    total = 0
    for i in range(len(logits)):
        total = total - logits[i, i] + logits[i].logsumexp(0) / 2 + logits[:, i].logsumexp(0) / 2
    return total / len(logits)


# %% wrong="11.4" hint="last place of each row"
def text_feature(features, tokens, end):
    is_end = tokens == end
    if not is_end.any(1).all():
        raise ValueError("no end")
    return features[:, -1]


# %% wrong="11.4" hint="this is the first place"
def text_feature(features, tokens, end):
    is_end = tokens == end
    if not is_end.any(1).all():
        raise ValueError("no end")
    return features[:, 0]


# %% wrong="11.4" hint="must have shape (3, 4)"
def text_feature(features, tokens, end):
    is_end = tokens == end
    if not is_end.any(1).all():
        raise ValueError("no end")
    return features[:, is_end.int().argmax(1)]


# %% wrong="11.4" hint="does not have the largest number"
def text_feature(features, tokens, end):
    is_end = tokens == end
    if not is_end.any(1).all():
        raise ValueError("no end")
    return features[torch.arange(len(tokens)), tokens.argmax(1)]


# %% wrong="11.4" hint="must be one of the row's own features"
def text_feature(features, tokens, end):
    is_end = tokens == end
    if not is_end.any(1).all():
        raise ValueError("no end")
    return features.mean(1)


# %% wrong="11.4" hint="row 0 ends at place 3"
def text_feature(features, tokens, end):
    is_end = tokens == end
    if not is_end.any(1).all():
        raise ValueError("no end")
    return features[torch.arange(len(tokens)), is_end.int().argmax(1) - 1]


# %% wrong="11.4" hint="take the first one, not the last"
def text_feature(features, tokens, end):
    is_end = tokens == end
    if not is_end.any(1).all():
        raise ValueError("no end")
    return features[torch.arange(len(tokens)), (is_end * torch.arange(tokens.shape[1])).argmax(1)]


# %% wrong="11.4" hint="padding need not be 0"
def text_feature(features, tokens, end):
    is_end = tokens == end
    if not is_end.any(1).all():
        raise ValueError("no end")
    return features[torch.arange(len(tokens)), (tokens != 0).sum(1) - 1]


# %% wrong="11.4" hint="without any end token"
def text_feature(features, tokens, end):
    is_end = tokens == end
    return features[torch.arange(len(tokens)), is_end.int().argmax(1)]


# %% wrong="11.4" hint="even if the others have one"
def text_feature(features, tokens, end):
    is_end = tokens == end
    if not is_end.any():
        raise ValueError("no end")
    return features[torch.arange(len(tokens)), is_end.int().argmax(1)]


# %% wrong="11.4" hint="no gradient can flow back"
def text_feature(features, tokens, end):
    is_end = tokens == end
    if not is_end.any(1).all():
        raise ValueError("no end")
    return features.detach()[torch.arange(len(tokens)), is_end.int().argmax(1)]


# %% wrong="11.4" hint="is something returned?"
def text_feature(features, tokens, end):
    is_end = tokens == end
    if not is_end.any(1).all():
        raise ValueError("no end")
    features[torch.arange(len(tokens)), is_end.int().argmax(1)]


# %% wrong="11.4" hint="one feature, (1, D)"
def text_feature(features, tokens, end):
    is_end = tokens == end
    if not is_end.any(1).all():
        raise ValueError("no end")
    return features[torch.arange(len(tokens)), is_end.int().argmax(1)].squeeze(0)


# %% wrong="11.4" hint="features was changed"
def text_feature(features, tokens, end):
    features[tokens == 0] = 0
    is_end = tokens == end
    if not is_end.any(1).all():
        raise ValueError("no end")
    return features[torch.arange(len(tokens)), is_end.int().argmax(1)]


# %% right="11.4" name="a loop over rows"
def text_feature(features, tokens, end):
    found = []
    for row, names in zip(features, tokens.tolist(), strict=True):
        found.append(row[names.index(end)])
    return torch.stack(found)


# %% right="11.4" name="gather"
def text_feature(features, tokens, end):
    place = (tokens == end).long()
    if (place.sum(1) == 0).any():
        raise ValueError("a text without an end")
    at = place.argmax(1)[:, None, None].expand(-1, 1, features.shape[2])
    return features.gather(1, at)[:, 0]


# %% right="11.4" name="a mask"
def text_feature(features, tokens, end):
    is_end = (tokens == end).long()
    first = (is_end == 1) & (is_end.cumsum(1) == 1)
    if first.sum() < len(tokens):
        raise ValueError("end")
    return features[first]


# %% wrong="11.5" hint="write yourself"
class Pair:
    def __init__(self, encode_image, encode_text):
        self.image_features = lambda x: F.normalize(encode_image(x), dim=1)
        self.text_features = lambda texts: F.normalize(encode_text(texts), dim=1)


def zero_shot(encode_image, encode_text, images, names, templates):
    best = classify(Pair(encode_image, encode_text), images, names, templates)
    return F.one_hot(best, len(names)).double()


# %% wrong="11.5" hint="is something returned?"
def zero_shot(encode_image, encode_text, images, names, templates):
    vectors = []
    for name in names:
        prompts = F.normalize(encode_text([template.format(name) for template in templates]), dim=1)
        vectors.append(F.normalize(prompts.mean(0), dim=0))
    F.normalize(encode_image(images), dim=1) @ torch.stack(vectors).T


# %% wrong="11.5" hint="got (2, 4)"
def zero_shot(encode_image, encode_text, images, names, templates):
    vectors = []
    for name in names:
        prompts = F.normalize(encode_text([template.format(name) for template in templates]), dim=1)
        vectors.append(F.normalize(prompts.mean(0), dim=0))
    return (F.normalize(encode_image(images), dim=1) @ torch.stack(vectors).T).T


# %% wrong="11.5" hint="must be of floating point"
def zero_shot(encode_image, encode_text, images, names, templates):
    vectors = []
    for name in names:
        prompts = F.normalize(encode_text([template.format(name) for template in templates]), dim=1)
        vectors.append(F.normalize(prompts.mean(0), dim=0))
    return (encode_image(images) @ torch.stack(vectors).T).argmax(1)[:, None].expand(-1, len(names))


# %% wrong="11.5" hint="got (4,)"
def zero_shot(encode_image, encode_text, images, names, templates):
    vectors = []
    for name in names:
        prompts = F.normalize(encode_text([template.format(name) for template in templates]), dim=1)
        vectors.append(F.normalize(prompts.mean(0), dim=0))
    return (F.normalize(encode_image(images), dim=1) @ torch.stack(vectors).T).argmax(1)


# %% wrong="11.5" hint="lies between -1 and 1"
def zero_shot(encode_image, encode_text, images, names, templates):
    vectors = []
    for name in names:
        prompts = F.normalize(encode_text([template.format(name) for template in templates]), dim=1)
        vectors.append(F.normalize(prompts.mean(0), dim=0))
    return encode_image(images) @ torch.stack(vectors).T


# %% wrong="11.5" hint="these are probabilities"
def zero_shot(encode_image, encode_text, images, names, templates):
    vectors = []
    for name in names:
        prompts = F.normalize(encode_text([template.format(name) for template in templates]), dim=1)
        vectors.append(F.normalize(prompts.mean(0), dim=0))
    return (F.normalize(encode_image(images), dim=1) @ torch.stack(vectors).T).softmax(1)


# %% wrong="11.5" hint="one prompt alone was taken"
def zero_shot(encode_image, encode_text, images, names, templates):
    images = F.normalize(encode_image(images), dim=1)
    classes = []
    for name in names:
        prompts = F.normalize(encode_text([template.format(name) for template in templates]), dim=1)
        classes.append((images @ prompts.T).amax(1))
    return torch.stack(classes, dim=1)


# %% wrong="11.5" hint="*before* the mean"
def zero_shot(encode_image, encode_text, images, names, templates):
    vectors = []
    for name in names:
        prompts = encode_text([template.format(name) for template in templates])
        vectors.append(F.normalize(prompts.mean(0), dim=0))
    return F.normalize(encode_image(images), dim=1) @ torch.stack(vectors).T


# %% wrong="11.5" hint="shorter than 1"
def zero_shot(encode_image, encode_text, images, names, templates):
    vectors = []
    for name in names:
        prompts = F.normalize(encode_text([template.format(name) for template in templates]), dim=1)
        vectors.append(prompts.mean(0))
    return F.normalize(encode_image(images), dim=1) @ torch.stack(vectors).T


# %% wrong="11.5" hint="prompts and classes are mixed up"
def zero_shot(encode_image, encode_text, images, names, templates):
    texts = [template.format(name) for template in templates for name in names]
    prompts = F.normalize(encode_text(texts), dim=1).reshape(len(names), len(templates), -1)
    return F.normalize(encode_image(images), dim=1) @ F.normalize(prompts.mean(1), dim=1).T


# %% wrong="11.5" hint="put the name into the template"
def zero_shot(encode_image, encode_text, images, names, templates):
    vectors = []
    for name in names:
        prompts = F.normalize(encode_text([template + name for template in templates]), dim=1)
        vectors.append(F.normalize(prompts.mean(0), dim=0))
    return F.normalize(encode_image(images), dim=1) @ torch.stack(vectors).T


# %% wrong="11.5" hint="takes a list of sentences"
def zero_shot(encode_image, encode_text, images, names, templates):
    vectors = []
    for name in names:
        prompts = torch.cat([F.normalize(encode_text(template.format(name)), dim=1) for template in templates])
        vectors.append(F.normalize(prompts.mean(0), dim=0))
    return F.normalize(encode_image(images), dim=1) @ torch.stack(vectors).T


# %% wrong="11.5" hint="images was changed"
def zero_shot(encode_image, encode_text, images, names, templates):
    vectors = []
    images.mul_(2)
    for name in names:
        prompts = F.normalize(encode_text([template.format(name) for template in templates]), dim=1)
        vectors.append(F.normalize(prompts.mean(0), dim=0))
    return F.normalize(encode_image(images), dim=1) @ torch.stack(vectors).T


# %% right="11.5" name="all sentences at once"
def zero_shot(encode_image, encode_text, images, names, templates):
    texts = [template.format(name) for name in names for template in templates]
    prompts = F.normalize(encode_text(texts), dim=1).unflatten(0, (len(names), len(templates)))
    return F.normalize(encode_image(images), dim=1) @ F.normalize(prompts.sum(1), dim=1).T


# %% right="11.5" name="templates outside, a running sum"
def zero_shot(encode_image, encode_text, images, names, templates):
    total = 0
    for template in templates:
        part = encode_text([template.replace("{}", name) for name in names])
        total = total + part / part.norm(dim=1, keepdim=True)
    seen = encode_image(images)
    return torch.einsum("bd,cd->bc", seen / seen.norm(dim=1, keepdim=True), total / total.norm(dim=1, keepdim=True))


# %% right="11.5" name="cosine similarity"
def zero_shot(encode_image, encode_text, images, names, templates):
    seen, columns = encode_image(images), []
    for name in names:
        vectors = [F.normalize(encode_text([t.format(name)])[0], dim=0) for t in templates]
        columns.append(F.cosine_similarity(seen, torch.stack(vectors).mean(0)[None], dim=1))
    return torch.stack(columns, dim=1)


# %% wrong="11.6" hint="write yourself"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return float(kl_divergence(joint(rho, dim), joint(rho, dim, own=False)))


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1)).mean()


# %% wrong="11.6" hint="of each x with each y, must have shape"
def log_ratio(x, y, rho):
    gap = y - rho * x
    return (y**2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(1) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1)).mean()


# %% wrong="11.6" hint="here they are exchanged"
def log_ratio(x, y, rho):
    gap = y[:, None] - rho * x[None]
    return (y[:, None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1)).mean()


# %% wrong="11.6" hint="the sign of the correlation is lost"
def log_ratio(x, y, rho):
    gap = y[None] + rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1)).mean()


# %% wrong="11.6" hint="upside down"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return -(y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) + x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1)).mean()


# %% wrong="11.6" hint="right up to a constant"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1)).mean()


# %% wrong="11.6" hint="counts once a dimension"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - 0.5 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1)).mean()


# %% wrong="11.6" hint="up to a function of y alone"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (-(gap**2) / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1)).mean()


# %% wrong="11.6" hint="up to a function of x alone"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - x[:, None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(
        1 - rho**2
    )


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1)).mean()


# %% wrong="11.6" hint="log_ratio is wrong: given x"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * math.sqrt(1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1)).mean()


# %% wrong="11.6" hint="information is in bits"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log2(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1)).mean()


# %% wrong="11.6" hint="information must be positive"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1)).mean()


# %% wrong="11.6" hint="where is the half?"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1)).mean()


# %% wrong="11.6" hint="theirs add up"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -0.5 * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1)).mean()


# %% wrong="11.6" hint="log N is missing"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return (logits.diagonal() - logits.logsumexp(1)).mean()


# %% wrong="11.6" hint="N counts the own pair too"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits) - 1) + (logits.diagonal() - logits.logsumexp(1)).mean()


# %% wrong="11.6" hint="must have shape ()"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1))


# %% wrong="11.6" hint="is the own pair missing"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return (
        math.log(len(logits))
        + (logits.diagonal() - logits.masked_fill(torch.eye(len(logits)) > 0, -math.inf).logsumexp(1)).mean()
    )


# %% wrong="11.6" hint="however large they are"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.exp().sum(1).log()).mean()


# %% wrong="11.6" hint="exchange rows and columns"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(0)).mean()


# %% wrong="11.6" hint="are both asked?"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1) / 2 - logits.logsumexp(0) / 2).mean()


# %% wrong="11.6" hint="bound changed its logits"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    logits -= logits.amax(1, keepdim=True)
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1)).mean()


# %% right="11.6" name="matrix products"
def log_ratio(x, y, rho):
    rest, dim = 1 - rho**2, x.shape[1]
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None]
    return (rho * x @ y.T - rho**2 * squares / 2) / rest - dim * math.log(math.sqrt(rest))


def information(rho, dim):
    return dim * math.log(1 / math.sqrt(1 - rho**2))


def bound(logits):
    return logits.log_softmax(1).diagonal().mean() + math.log(logits.shape[0])


# %% right="11.6" name="densities of torch"
def log_ratio(x, y, rho):
    given = torch.distributions.Normal(rho * x[:, None], math.sqrt(1 - rho**2))
    prior = torch.distributions.Normal(0.0, 1.0)
    return given.log_prob(y[None]).sum(2) - prior.log_prob(y).sum(1)


def information(rho, dim):
    return torch.tensor(1 - rho**2, dtype=torch.float64).log() * (-dim / 2)


def bound(logits):
    own = torch.arange(len(logits))
    return math.log(len(logits)) - F.cross_entropy(logits, own)


# %% right="11.6" name="loops"
def log_ratio(x, y, rho):
    found = torch.zeros(len(x), len(y), dtype=x.dtype)
    for i, a in enumerate(x):
        for j, b in enumerate(y):
            found[i, j] = sum(
                -((q - rho * p) ** 2) / (2 * (1 - rho**2)) + q**2 / 2 - math.log(1 - rho**2) / 2
                for p, q in zip(a, b, strict=True)
            )
    return found


def information(rho, dim):
    return sum(-math.log1p(-(rho**2)) / 2 for _ in range(dim))


def bound(logits):
    rows = [math.log(len(logits)) + row[i] - torch.logsumexp(row, 0) for i, row in enumerate(logits)]
    return torch.stack(rows).mean()


# %% wrong="11.1" hint="two occurrences are enough"
def learn_merges(texts, count):
    words = Counter(word for text in texts for word in split_words(text))
    rows = [(list(word.encode()), often) for word, often in words.items()]
    merges = []
    while len(merges) < count:
        counts = Counter()
        for row, often in rows:
            for pair in pairwise(row):
                counts[pair] += often
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 3:
            break
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    row[at : at + 2] = [256 + len(merges)]
                at += 1
        merges.append(best)
    return merges


# %% wrong="11.1" hint="and other texts are wrong"
def learn_merges(texts, count):
    words = Counter(word for text in texts for word in text.split())
    rows = [(list(word.encode()), often) for word, often in words.items()]
    merges = []
    while len(merges) < count:
        counts = Counter()
        for row, often in rows:
            for pair in pairwise(row):
                counts[pair] += often
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    row[at : at + 2] = [256 + len(merges)]
                at += 1
        merges.append(best)
    return merges


# %% wrong="11.3" hint="not its logarithm"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = scale.exp() * image @ text.T
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% wrong="11.3" hint="this loss is in bits"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = scale * image @ text.T
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2 / math.log(2)


# %% wrong="11.3" hint="cross-entropy is logsumexp of the row"
def clip_loss(image, text, scale, gather):
    image, text = F.normalize(gather(image), dim=1), F.normalize(gather(text), dim=1)
    logits = -scale * torch.cdist(image, text)
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


# %% wrong="11.6" hint="was added"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho**2)


def bound(logits):
    return math.log(len(logits)) - (logits.diagonal() - logits.logsumexp(1)).mean()


# %% wrong="11.6" hint="information is wrong: it is E"
def log_ratio(x, y, rho):
    gap = y[None] - rho * x[:, None]
    return (y[None] ** 2 / 2 - gap**2 / (2 * (1 - rho**2))).sum(2) - x.shape[1] / 2 * math.log(1 - rho**2)


def information(rho, dim):
    return -dim / 2 * math.log(1 - rho)


def bound(logits):
    return math.log(len(logits)) + (logits.diagonal() - logits.logsumexp(1)).mean()
