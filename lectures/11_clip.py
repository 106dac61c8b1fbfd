# %% [markdown]
# # 11. CLIP: images and words in one space
#
# **The question.** How can a network tell a seven from a two if it has never been given a label?
#
# **You will be able to** turn any text into tokens by byte-pair encoding; say why the last token of a causal
# transformer is the feature of a text; write the symmetric contrastive loss of CLIP and prove what it estimates, with
# its conditions, its ceiling and its bias; say what the best critic is and which functions may be added to it; explain
# what the temperature does to the gradient; build a classifier out of sentences; and measure what such a model has
# *not* understood.
#
# **Time:** 90 minutes of reading, 3 minutes of computing on two cores. **Needed before:** lectures 06 and 10, section 6
# (attention, a text as a sequence).
#
# **Notation.** $x$ is an image, $y$ its caption. A batch has $N$ pairs $(x_i, y_i)$. A **critic** $f(x, y)$ is any
# function of a pair; $r(x, y) = p(y \mid x) / p(y) = p(x, y) / (p(x)\,p(y))$ is the **density ratio**, and
# $I = I(X; Y) = \mathbb E_{p(x,y)} \log r$ the mutual information, in nats. $J$ is which text of the batch belongs to
# an image, $\mathcal L$ a loss, $\tau$ the temperature; its inverse $1/\tau$ is called the *scale*. Time plays no part
# here. $D$ is the number of dimensions, $\rho$ a correlation.

# %%
import io
import math
import tempfile
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from flowlib.course.notebook import fast, resolve, seeded, show_source, trained
from flowlib.data import Dataset, digits, load
from flowlib.data.layouts import HELD_OUT, SEEN
from flowlib.metrics import read_scenes, score_captions
from flowlib.nets import TextTransformer, ViT
from flowlib.nets.clip import CLIP
from flowlib.plotting import format_table, tile
from flowlib.plotting.style import ACCENT, BLUE, GREY, INK, SKY, VIOLET
from flowlib.runs import load_pretrained
from flowlib.systems.clip import CaptionedCLIP, contrastive_loss
from flowlib.systems.zero_shot import TEMPLATES, classify, retrieval
from flowlib.text import BPE, captions
from flowlib.text.bpe import join
from flowlib.text.captions import COLOURS, DIGITS, NAMES, Thing
from flowlib.training import Trainer

torch.set_grad_enabled(False)  # turned on where something is descended
begun = time.perf_counter()

# %% [markdown]
# ## 1. A world with captions
#
# The images of this lecture are *scenes*: one or two handwritten digits, each with a colour, one of two sizes and one
# of nine places, on black, grey or white. What is in a scene is known exactly, so every claim about a network that
# reads scenes can be checked. Scene $i$ is a function of a seed and of $i$, so there is no end of them. Each has three
# captions: a *descriptive* one says all, a *short* one names digits and colours, a *noisy* one is like the web's:
# incomplete, sometimes wrong, sometimes of no use.

# %%
scenes, tests, unseen = load("scenes"), load("scenes", "test"), load("scenes", "compositions")
batch = scenes.batch(torch.arange(12))
figure, ax = plt.subplots(figsize=(9, 1.8), layout="constrained")
ax.imshow(tile(batch["x"], 12).numpy())
ax.set(xticks=[], yticks=[], title="Twelve scenes of 16 x 16 pixels")
ax.spines[:].set_visible(False)
plt.show()
for name in ("caption", "short", "noisy"):
    print(f"{name:8} " + " | ".join(batch[name][:3]))

# %% [markdown]
# **What is held out.** No image of a digit occurs in both training and test scenes, so that a test asks for other
# handwriting. And of the 80 pairs of digit and colour eight occur in neither, only in the split "compositions": there,
# a red one is the first red one that a network sees. Both are checked here, with what would be seen if they were not so.

# %%
count = 500 if fast else 4000
index = torch.arange(count)
columns = {name: data.batch(index) for name, data in (("train", scenes), ("test", tests), ("held out", unseen))}


def share_held_out(objects: Tensor) -> float:
    """In what share of scenes (B, 2, 4) there is a pair of digit and colour that is held out."""
    pairs = torch.tensor(HELD_OUT)
    return float((objects[:, :, None, :2] == pairs).all(3).any((1, 2)).double().mean())


assert [share_held_out(columns[name]["objects"]) for name in columns] == [0, 0, 1]
assert len(set(HELD_OUT) | set(SEEN)) == 80
assert set(HELD_OUT).isdisjoint(SEEN)
pictures = [{image.numpy().tobytes() for image in digits.raw(split)[0]} for split in ("train", "test")]
assert pictures[0].isdisjoint(pictures[1])
assert len(pictures[0] & {image.numpy().tobytes() for image in digits.raw("train")[0][:9]}) == 9  # else it sees nothing

# %% [markdown]
# **The judge** is a detector that was trained *with* labels. Later lectures use it to say what is in a generated image,
# and whether that is what a caption asked for. In this lecture the truth is known, so nothing is judged by it; but it
# can say here how far noisy captions are from the truth. It is wrong itself now and then, so the first row is the
# ceiling of the others. The last row is the control: captions of other scenes.

# %%
some = 200 if fast else 1000
x, texts = columns["test"]["x"][:some], {name: columns["test"][name][:some] for name in ("caption", "short", "noisy")}
readable = [i for i, text in enumerate(texts["noisy"]) if any(word in text for word in (*DIGITS, "digit"))]
scores = {
    "descriptive": score_captions(x, texts["caption"]),
    "short": score_captions(x, texts["short"]),
    "noisy, where it names a digit": score_captions(x[readable], [texts["noisy"][i] for i in readable]),
    "of the next scene": score_captions(x, texts["short"][1:] + texts["short"][:1]),
}
print(format_table([
    {"captions": name} | {key: f"{row.get(key, math.nan):.2f}" for key in ("digit", "colour", "count", "all")}
    for name, row in scores.items()
]))  # fmt: skip
useless = 1 - len(readable) / some
assert abs(useless - captions.USELESS) < 5 * math.sqrt(captions.USELESS / some)
assert scores["descriptive"]["colour"] > 0.97
assert scores["descriptive"]["digit"] > 0.85
assert abs(scores["noisy, where it names a digit"]["colour"] - (1 - captions.WRONG)) < 0.06  # of those it does name
assert scores["of the next scene"]["all"] < 0.05

# %% [markdown]
# ## 2. Texts as tokens: byte-pair encoding
#
# A network reads integers. One integer a *word* cannot write a word that was not there in training; one a *letter* makes
# long sequences, whose attention costs the square of their length. Byte-pair encoding (Sennrich et al. 2016) is
# between: **begin with single characters, and join the most frequent pair of neighbours into a new token, again and
# again.** Frequent words become one token, rare ones some pieces, and no text is without tokens as long as all single
# characters are. GPT-2 begins with the 256 bytes of UTF-8, which any text of any script is made of.
#
# Why the most frequent pair? A merge of a pair that occurs $n$ times makes the text $n$ tokens shorter (fewer if
# occurrences overlap, as in "aaa"). So each step is the one that shortens the text most: a greedy compression. By hand:


# %%
def merges_by_hand(text: str, count: int) -> tuple[list[tuple[int, int]], list[int]]:
    """`count` merges in one word, each printed: its pair, how often it was there, and what is left."""
    tokens, pieces, merges = list(text.encode()), [bytes([i]) for i in range(256)], []
    for _ in range(count):
        counts = Counter(pairwise(tokens))
        pair = min(counts, key=lambda pair: (-counts[pair], pair))  # of equals, the one of the lowest tokens
        before = len(tokens)
        tokens = join(tokens, pair, len(pieces))
        pieces.append(pieces[pair[0]] + pieces[pair[1]])
        merges.append(pair)
        shown = "|".join(pieces[token].decode() for token in tokens)
        print(f"{pieces[-1].decode():5} {counts[pair]} times, {before} -> {len(tokens)} tokens: {shown}")
    return merges, tokens


text = "redredbredredbluebluered"
merges, left = merges_by_hand(text, 5)
library = BPE.train([text], vocabulary=259 + 5)
assert library.to_dict()["merges"] == [list(pair) for pair in merges]
assert library.encode(text) == left

# %% [markdown]
# Two more rules. *Ties* must be broken by a rule, or two programs learn different tokens from one text: here the pair
# of the lowest tokens. And *no token goes over the edge of a word*, or "a red" and "a red," would become tokens of
# their own. Text is cut first, each word with the space before it: `" red"`. To **encode** a new text, the same merges
# are made in each word *in the order in which they were learned*. Longest piece first would be another encoding:

# %%
show_source(join, BPE.train)
order = BPE([(ord("a"), ord("b")), (ord("b"), ord("c")), (257, ord("d"))])  # ab, bc, bcd
assert [order.pieces[token] for token in order.encode("abcd")] == [b"ab", b"c", b"d"]  # not a, bcd
assert [order.pieces[token] for token in order.encode("bcd")] == [b"bcd"]

corpus = [text for name in ("caption", "short", "noisy") for text in columns["train"][name]]
bpe = BPE.train(corpus, vocabulary=512)
for text in ("a large red seven", "a large RED seven", "ein roter Käfer 🐞"):
    print(f"{len(text.encode()):3} bytes, {len(bpe.encode(text)):2} tokens: {[bpe.pieces[i] for i in bpe.encode(text)]}")
    assert bpe.decode(bpe.encode(text)) == text
sizes = {text: len(bpe.encode(text)) for text in columns["test"]["caption"]}
assert max(sizes.values()) <= 18 < min(len(text.encode()) for text in sizes)  # test captions, of known words
assert len(bpe.encode("a large red seven")) == 4 < len(bpe.encode("a large RED seven"))  # case is kept

# %% [markdown]
# ## 3. Two encoders
#
# **Of texts:** tokens with their places, a causal transformer, a norm. What is the feature of a text as a whole? In a
# **causal** transformer token $i$ sees the tokens $j \le i$ and no later ones. By induction over the layers its feature
# is a function of tokens $1 \dots i$ alone: true for the embeddings; a block computes it from features of tokens
# $\le i$, which by assumption depend on tokens $\le i$. So the *first* token knows nothing of the text, and only the
# last one can know all: CLIP puts an end token behind each text and takes the feature there. Padding comes after it,
# so it cannot be seen from there, and no mask is needed for it. (CLIP could have used a bidirectional transformer. The
# causal one was kept so that a language model could be its start or its second task: Radford et al. 2021, 2.4.)

# %%
show_source(TextTransformer.forward)
torch.manual_seed(0)
reader = TextTransformer(vocabulary=20, length=10, end=19, width=16, depth=2, heads=2, padding=None)
both_ways = TextTransformer(vocabulary=20, length=10, end=19, width=16, depth=2, heads=2, causal=False)
row = torch.tensor([[17, 3, 8, 5, 19, 0, 0, 0]])  # start, three tokens, end, padding


def changed_by(net: TextTransformer, at: int) -> Tensor:
    """Which features move when the token at one place is another."""
    other = row.clone()
    other[0, at] = 11
    return (net(other)[0] - net(row)[0]).abs().amax(2)[0] > 1e-6


assert changed_by(reader, 2).tolist() == [False] * 2 + [True] * 6  # itself and those behind it
assert all(changed_by(reader, at)[4] for at in range(4))  # the end token has seen every one
assert changed_by(both_ways, 2).all()  # the control: without the causal mask all move
assert not changed_by(reader, 6)[4]  # padding is not seen from the end, so it may be cut off:
assert torch.allclose(reader(row)[1], reader(row[:, :5])[1], atol=1e-6)
assert not torch.allclose(both_ways(row)[1], both_ways(row[:, :5])[1], atol=1e-3)  # the other one needs a mask for that

# %% [markdown]
# **Of images:** a vision transformer cuts the image into patches, makes each a token by one linear map, adds its place,
# puts a class token in front and lets all look at all. The feature of the class token is the image's. (A class token in
# front is right here because nothing is causal.) Without the places it could not tell where a patch lies: attention and
# norms treat tokens as a set. A convolutional encoder does as well, and on small images better, see section 8.

# %%
show_source(ViT.forward)
torch.manual_seed(1)
vit = ViT(image_size=16, patch=4, width=32, depth=2, heads=2, out_dim=8)
x = columns["test"]["x"][:4]
patches = F.unfold(x, 4, stride=4).transpose(1, 2)  # (B, 16 patches, 3 * 4 * 4 numbers)
assert torch.allclose(vit.stem(x).flatten(2).transpose(1, 2), patches @ vit.stem.weight.flatten(1).T, atol=1e-5)
shuffled = patches[:, torch.randperm(16, generator=seeded(0))].transpose(1, 2)
shuffled = F.fold(shuffled, 16, 4, stride=4)  # the same patches in other places
moved = (vit(shuffled)[0] - vit(x)[0]).abs().max()
vit.places[1:] = 0
blind = (vit(shuffled)[0] - vit(x)[0]).abs().max()
print(f"the image's feature moves by {moved:.2f} with places, by {blind:.0e} without")
assert blind < 1e-5 < 0.05 < moved

# %% [markdown]
# ## 4. The loss, and what it estimates
#
# From a batch of $N$ pairs, ask of each image: *which of these $N$ texts is yours?* A critic $f$ answers with a softmax,
# $$q(j \mid x_i, y_{1:N}) = \frac{e^{f(x_i, y_j)}}{\sum_{k=1}^N e^{f(x_i, y_k)}}, \qquad
# \mathcal L_{x \to y} = -\mathbb E\, \frac1N \sum_{i=1}^N \log q(i \mid x_i, y_{1:N}), \tag{1}$$
# a classification whose classes are the batch itself: **InfoNCE** (Oord et al. 2018). The $N - 1$ other texts are the
# *negatives*. CLIP asks the other question as well, *which of these images is this text's?*, and takes the mean,
# $\mathcal L = \frac12(\mathcal L_{x \to y} + \mathcal L_{y \to x})$. Its critic is a cosine,
# $f = \frac1\tau \cos(a(x), b(y))$, with encoders $a$, $b$ and a temperature $\tau$ that is learned too.
#
# **Theorem 1 (a bound).** Let the pairs be independent draws from $p(x, y)$, and let $f$ be fixed before the batch is
# drawn. Then for every $f$ whose loss exists, and every $N$,
# $$\log N - \mathcal L_{x \to y}(f) \;\le\; I_N \;\le\; \min\{I(X; Y),\, \log N\}, \tag{2}$$
# where $I_N$ is defined in the proof. The same holds for $\mathcal L_{y \to x}$, hence for half the sum of both.
#
# *Proof.* All rows of the batch have the same law, so look at one, and shuffle its texts: let $J$ be uniform on
# $1 \dots N$, $x \sim p(x)$, $y_J \sim p(y \mid x)$, and all other $y_k \sim p(y)$, independent. The loss is the
# cross-entropy of $q$ for $J$. By Gibbs' inequality it is at least the conditional entropy of $J$:
# $$\mathcal L_{x \to y} \ge H(J \mid X, Y_{1:N}) = \log N - I_N, \qquad I_N := I(J;\, X, Y_{1:N}). \tag{3}$$
# That is the first inequality. An information about $J$ is at most $H(J) = \log N$. For the last part use the chain
# rule,
# $$I(J; X, Y_{1:N}) = I(J; Y_{1:N}) + I(J; X \mid Y_{1:N}).$$
# The first term is zero: without the image, all texts have the same law whatever $J$ is. The second is at most
# $I(J, Y_{1:N}; X)$, again by the chain rule, and that is $I(Y_J; X)$, because given $Y_J$ neither $J$ nor the other
# texts say more about $x$. And $(X, Y_J)$ is a pair: $I(Y_J; X) = I(X; Y)$. $\blacksquare$
#
# Both conditions are needed. A critic that was fitted to *this* batch may know it by heart; negatives that were chosen,
# or drawn without replacement from few, are not independent draws. The estimate of a single batch may lie above $I$;
# its mean does not.
#
# **Theorem 2 (the best critic).** Let $r > 0$ almost everywhere, and $N \ge 2$. Then
#
# - $\mathcal L_{x \to y}$ is smallest exactly for $f = \log r(x, y) + c(x)$, with any function $c$ of the **image**;
# - $\mathcal L_{y \to x}$ exactly for $f = \log r(x, y) + c'(y)$, with any function $c'$ of the **text**;
# - the symmetric loss exactly for $f = \log r(x, y) + \text{const}$.
#
# *Proof.* In (3) equality holds if and only if $q$ is the true posterior of $J$. By Bayes, with equal priors,
# $$p(J = j \mid x, y_{1:N}) = \frac{p(y_j \mid x) \prod_{k \ne j} p(y_k)}{\sum_l p(y_l \mid x) \prod_{k \ne l} p(y_k)}
# = \frac{r(x, y_j)}{\sum_l r(x, y_l)} .$$
# Two softmaxes are equal if and only if their logits differ by a constant over $j$. So $h = f - \log r$ has
# $h(x, y_1) = h(x, y_2)$ for almost all $x, y_1, y_2$ (as $r > 0$, the law of a shuffled row has the same null sets as
# the product of the margins): $h$ does not depend on $y$. The second claim is the first with the names exchanged. For
# the third: $\log r$ minimises both terms at once, so a minimiser of their sum minimises each. Then $c(x) = c'(y)$
# almost everywhere under the product law, and a function of $x$ that equals a function of $y$ is a constant.
# $\blacksquare$
#
# So one question alone leaves the critic free to prefer some images; CLIP's two questions together pin it down. Note
# also what the best critic does *not* depend on: $N$.
#
# **Theorem 3 (the bias).** Let $m_N = \frac1N \sum_{j=1}^N r(x, y_j)$ and $\phi(m) = m \log m$. Then
# $$I - I_N = \mathbb E_{\text{all } y_j \text{ independent of } x}\; \phi(m_N) \;\ge\; 0, \tag{4}$$
# it never grows with $N$, it goes to zero if $I < \infty$, and like $\chi^2 / 2N$ where $\chi^2 = \mathbb E\, r^2 - 1$
# (under independence) is finite and $r$ is bounded away from zero and infinity.
#
# *Proof.* With the best critic $f = \log r$, a row has $\log N - \mathcal L = \mathbb E \log r(x, y_J) - \mathbb E \log
# m_N$, and the first term is $I$. The law of a shuffled row is that of independent $x, y_1 \dots y_N$ times $\frac1N
# \sum_j r(x, y_j) = m_N$, so $\mathbb E \log m_N = \mathbb E_{\text{indep}}\, m_N \log m_N$. It is $\ge \phi(1) = 0$
# by Jensen, as $r$ has mean 1 there. $m_N$ is the mean of the $N$ leave-one-out means $m_{N-1}$, and $\phi$ is convex:
# it does not grow. $m_N \to 1$ by the law of large numbers; $\phi(m_N) \le \frac1N \sum_j \phi(r_j)$ is dominated by
# means that converge in $L^1$, so limit and mean may be exchanged. Last, $\phi(1 + \delta) = \delta + \delta^2/2 +
# O(\delta^3)$, where $\delta = m_N - 1$ has mean zero and variance $\chi^2/N$. $\blacksquare$
#
# For $N = 1$ it says $I_1 = 0$. For large $I$ it is a warning: the bound needs $N > e^I$ pairs to be *able* to say $I$.
# That is one reason for CLIP's batches of 32,768 ($\log N = 10.4$).
#
# ## 5. The bound on a case that is known
#
# Let $x$ and $y$ be Gaussian vectors whose $D$ coordinates have correlation $\rho$, pair by pair. Then
# $$\log r = \sum_d -\tfrac12 \log(1 - \rho^2) - \frac{\rho^2 (x_d^2 + y_d^2) - 2 \rho\, x_d y_d}{2 (1 - \rho^2)}, \qquad
# I = -\tfrac D2 \log(1 - \rho^2), \qquad \chi^2 + 1 = (1 - \rho^2)^{-D} = e^{2I} .$$
# With the best critic, nothing is left but $N$.


# %%
def pairs(shape: tuple[int, ...], rho: float, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """x, y of a shape (..., N, D)."""
    x, noise = (torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(2))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def log_ratio(x: Tensor, y: Tensor, rho: float) -> Tensor:
    """log r of each x with each y: (..., N, D) twice -> (..., N, N)."""
    squares = rho**2 * (x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :])
    exponent = (squares - 2 * rho * x @ y.transpose(-1, -2)) / (2 * (1 - rho**2))
    return -exponent - x.shape[-1] / 2 * math.log(1 - rho**2)


def bound(logits: Tensor) -> Tensor:
    """log N - loss of each batch, (..., N, N) -> (...)."""
    own = logits.diagonal(dim1=-2, dim2=-1)
    return math.log(logits.shape[-1]) + (own - logits.logsumexp(-1)).mean(-1)


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """The mean of independent values, and its standard error."""
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))


DIM, informations, counts = 4, (0.5, 2.0, 4.0, 8.0), (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
measured = {}
for information in informations:
    rho = math.sqrt(1 - math.exp(-2 * information / DIM))
    for n in counts:
        batches, g = max(8, (2**11 if fast else 2**13) // n), seeded(n)
        values = [bound(log_ratio(*pairs((n, DIM), rho, g), rho)) for _ in range(8 if n > 256 else 0)]
        if not values:
            values = [bound(log_ratio(*pairs((batches, n, DIM), rho, g), rho))]
        measured[information, n] = mean_and_error(torch.cat([value.reshape(-1) for value in values]))
for (information, n), (found, error) in measured.items():
    assert found < min(information, math.log(n)) + 5 * error  # theorem 1
for information in informations:
    for n, more in pairwise(counts):
        (found, error), (then, its_error) = measured[information, n], measured[information, more]
        assert then > found - 5 * math.hypot(error, its_error)  # theorem 3: more negatives never hurt
    assert measured[information, 1024][0] > measured[information, 2][0] + 0.25
assert abs(measured[2.0, 1024][0] - 2) < 0.05 + 5 * measured[2.0, 1024][1]  # nearly tight where log N is far above I
assert measured[8.0, 1024][0] < math.log(1024) < 8  # and hopeless where it is below

figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for information, colour in zip(informations, (SKY, BLUE, VIOLET, ACCENT), strict=True):
    ax.errorbar(
        counts, [measured[information, n][0] for n in counts], [3 * measured[information, n][1] for n in counts],
        fmt="o-", markersize=3, color=colour, label=f"I = {information:g}",
    )  # fmt: skip
    ax.axhline(information, color=colour, linestyle=":", linewidth=1)
ax.plot(counts, [math.log(n) for n in counts], "--", color=INK, label="log N")
ax.set_xscale("log", base=2)
ax.set(xlabel="pairs in the batch, N", ylabel="nats", title="The bound, with the best critic; dotted: the truth")
ax.legend(ncols=2)
plt.show()

# %% [markdown]
# Each line lies below its dotted truth and below $\log N$, by the theorem, and comes near the lower of the two. Now the
# numbers, not only the inequalities. For $N = 2$ and $D = 1$ the bound is an integral over three Gaussians, which
# quadrature gives to many digits. And $N (I - I_N)$ must tend to $\chi^2/2 = (e^{2I} - 1)/2$. (Gaussians' $r$ is not
# bounded, so theorem 3 does not promise this; the numbers agree all the same.)

# %%
rho = 0.8
information = -0.5 * math.log(1 - rho**2)
nodes, weights = np.polynomial.hermite_e.hermegauss(48)
nodes, weights = torch.tensor(nodes), torch.tensor(weights / weights.sum())
a, b, c = torch.meshgrid(nodes, nodes, nodes, indexing="ij")  # x, the noise of its own y, another y
at = torch.stack([rho * a + math.sqrt(1 - rho**2) * b, c], dim=-1)[..., None]  # (48, 48, 48, 2, 1): two texts
ratios = log_ratio(a[..., None, None], at, rho)[..., 0, :]
exact = float(torch.einsum("a,b,c,abc->", weights, weights, weights, math.log(2) + ratios.log_softmax(-1)[..., 0]))
batches = 2**12 if fast else 2**17
found, error = mean_and_error(bound(log_ratio(*pairs((batches, 2, 1), rho, seeded(1)), rho)))
print(f"N = 2: {exact:.5f} by quadrature, {found:.5f} ± {error:.5f} measured; I = {information:.5f}")
assert abs(found - exact) < 5 * error < 0.02
assert abs(exact - information) > 0.2  # which it could tell apart

rho, dim, n = math.sqrt(1 - math.exp(-0.5)), 2, 64  # I = 0.5
logits = log_ratio(*pairs((200 if fast else 1000, n, dim), rho, seeded(2)), rho)
gap, error = mean_and_error(logits.logsumexp(2).mean(1) - math.log(n))  # E log m_N, which varies less than the bound
print(f"N = 64: N (I - I_N) = {n * gap:.3f} ± {n * error:.3f}; theory says {(math.e - 1) / 2:.3f} for large N")
assert abs(n * gap - (math.e - 1) / 2) < 5 * n * error + 0.05
assert 5 * n * error < 0.4

# %% [markdown]
# **Negative controls.** Each breaks one thing that the theorems need, and must be seen to fail.
#
# 1. *The own text left out of the denominator.* That is a fraction of two independent quantities, no longer a
#    posterior. By Jensen $-\mathbb E \log m \ge 0$: with the best critic the estimate lies *above* $I$.
# 2. *A critic fitted to the batch.* $x$ and $y$ are independent, so $I = 0$. A bilinear critic with $64^2$ weights
#    learns 32 pairs by heart.
# 3. *A function added to the best critic*: of $y$, of $x$, a constant. By theorem 2 each of the first two is free for
#    one question and costs something in the other.

# %%
information, n = 4.0, 64
rho = math.sqrt(1 - math.exp(-2 * information / DIM))
x, y = pairs((64 if fast else 256, n, DIM), rho, seeded(3))
logits = log_ratio(x, y, rho)
others = logits.masked_fill(torch.eye(n, dtype=torch.bool), -math.inf)
without, error = mean_and_error(
    (math.log(n - 1) + logits.diagonal(dim1=1, dim2=2) - others.logsumexp(2)).mean(1)
)
print(f"1. own text left out: {without:.2f} ± {error:.2f} for I = 4")
assert without > 4 + 5 * error

x, y, fresh_x, fresh_y = torch.randn(4, 32, 64, generator=seeded(4))
matrix = torch.zeros(64, 64, requires_grad=True)
optimiser = torch.optim.Adam([matrix], 0.01)
with torch.enable_grad():
    for _ in range(200):
        optimiser.zero_grad()
        (-bound(x @ matrix @ y.T)).backward()
        optimiser.step()
by_heart, honest = float(bound(x @ matrix @ y.T)), float(bound(fresh_x @ matrix @ fresh_y.T))
print(f"2. I = 0: {by_heart:.2f} on the batch it was fitted to (log 32 = {math.log(32):.2f}), {honest:.2f} on a new one")
assert by_heart > 3
assert honest < 0

x, y = pairs((64 if fast else 256, n, DIM), rho, seeded(5))
logits = log_ratio(x, y, rho)
added = {"nothing": 0, "2 y_1": 2 * y[:, None, :, 0], "2 x_1": 2 * x[:, :, None, 0], "a constant": 2}
free = {}
for name, function in added.items():
    changed = logits + function
    free[name] = [float((bound(f).mean() - bound(e).mean())) for f, e in (
        (changed, logits), (changed.transpose(1, 2), logits.transpose(1, 2)))]  # fmt: skip
    print(f"3. {name:10} added: the bound changes by {free[name][0]:+.3f} (image asks), {free[name][1]:+.3f} (text asks)")
assert abs(free["2 y_1"][1]) < 1e-9 < 0.1 < -free["2 y_1"][0]
assert abs(free["2 x_1"][0]) < 1e-9 < 0.1 < -free["2 x_1"][1]
assert max(map(abs, free["a constant"])) < 1e-9

# %% [markdown]
# ## 6. The loss in code, and its temperature
#
# Both questions are cross-entropies of one matrix, by rows and by columns:

# %%
show_source(contrastive_loss, CLIP.encode_text, CLIP.scale, CLIP.forward)
image, text_feature = torch.randn(2, 6, 5, generator=seeded(6), dtype=torch.float64)
scale = torch.tensor(7.0, dtype=torch.float64)
cosines = F.cosine_similarity(image[:, None], text_feature[None], dim=2)
by_bound = math.log(6) - (bound(7 * cosines) + bound(7 * cosines.T)) / 2
assert abs(contrastive_loss(image, text_feature, scale)[0] - by_bound) < 1e-12
assert abs(contrastive_loss(image, text_feature.flip(0), scale)[0] - by_bound) > 0.1  # other pairs, another loss

# %% [markdown]
# **Why a scale at all?** A cosine lies in $[-1, 1]$, so $q(i) \le 1 / (1 + (N - 1) e^{-2/\tau})$ whatever the
# encoders do, and
# $$\log N - \mathcal L \;\le\; \log N - \log\!\big(1 + (N - 1)\, e^{-2/\tau}\big) \;\le\; 2/\tau . \tag{5}$$
# (The last step: $1 + (N - 1) e^{-2/\tau} \ge N e^{-2/\tau}$.) At scale 1 a perfect pair of encoders could never say
# more than 2 nats. CLIP starts at $1/\tau = 1/0.07 = 14.3$, learns $\log(1/\tau)$, and bounds the scale by 100.
#
# **What it does to the gradient.** Let $c_{ij}$ be the cosines and $q_{ij}$ the softmax of row $i$. For one question,
# $$\frac{\partial \mathcal L}{\partial c_{ij}} = \frac1{N \tau}\, (q_{ij} - \delta_{ij}), \qquad
# \frac{\partial \mathcal L}{\partial \log(1/\tau)} = \frac1{N \tau} \sum_i \Big(\sum_j q_{ij} c_{ij} - c_{ii}\Big).
# \tag{6}$$
# The own text is pulled with weight $1 - q_{ii}$, the sum of the weights with which the negatives are pushed. Among
# negatives the share of $j$ is $\propto e^{c_{ij}/\tau}$: **hard negatives**, those that look most like the own text,
# get most, and the more the smaller $\tau$ is. Their effective number, $e$ to the entropy of these shares, falls
# monotonically with the scale: the entropy $H$ of $p \propto e^{\kappa c}$ has $dH/d\kappa = -\kappa
# \operatorname{Var}_p(c) \le 0$. By the second formula the scale grows as long as the own cosine is above the mean that
# the softmax expects, and shrinks when a hard negative beats it.

# %%
clip = load_pretrained("clip-vit").module  # trained by `flowlib train clip-vit` on all three kinds of captions
row = tests.batch(torch.arange(10_000, 10_128))
cosine = clip.similarity(row["x"], row["caption"]).double()
n, negatives = len(cosine), ~torch.eye(128, dtype=torch.bool)
scales = [1.0, 3.0, 10.0, 30.0, 100.0]
effective, hardest = [], []
for kappa in scales:
    shares = (kappa * cosine).masked_fill(~negatives, -math.inf).softmax(1)
    effective.append(float(torch.special.entr(shares).sum(1).exp().mean()))
    hardest.append(float(shares.amax(1).mean()))
assert all(a > b for a, b in pairwise(effective))
assert effective[0] > 100  # of 127: nearly all alike
assert effective[-1] < 20
with torch.enable_grad():  # both formulas of (6), against automatic differentiation
    c, log_scale = cosine.clone().requires_grad_(), torch.tensor(math.log(20.0), dtype=torch.float64, requires_grad=True)
    F.cross_entropy(log_scale.exp() * c, torch.arange(n)).backward()
q = (20 * cosine).softmax(1)
assert torch.allclose(c.grad, 20 / n * (q - torch.eye(n)), atol=1e-12)
assert torch.allclose(log_scale.grad, 20 / n * ((q * cosine).sum() - cosine.trace()), atol=1e-9)
assert abs(log_scale.grad) > 1e-4  # or the line above says little
best = [float(math.log(n) - math.log(1 + (n - 1) * math.exp(-2 * kappa))) for kappa in scales]
assert all(float(bound(kappa * cosine)) < top <= 2 * kappa for kappa, top in zip(scales, best, strict=True))  # (5)
assert float(bound(30 * cosine)) > 2 > best[0]  # which a scale of 1 could not have said

figure, axes = plt.subplots(1, 2, figsize=(9, 2.9), layout="constrained")
axes[0].semilogx(scales, effective, "o-", color=INK)
axes[0].set(xlabel="scale", ylabel="effective negatives, of 127", title="how many negatives push")
axes[1].semilogx(scales, [float(bound(kappa * cosine)) for kappa in scales], "o-", color=ACCENT, label="the bound")
axes[1].semilogx(scales, best, "--", color=GREY, label="its ceiling (5)")
axes[1].axhline(math.log(n), color=INK, linestyle=":", label="log N")
axes[1].set(xlabel="scale", ylabel="nats", ylim=(0, 6), title=f"this network was trained to {float(clip.scale()):.0f}")
axes[1].legend()
plt.show()

# %% [markdown]
# **The clamp.** If the scale were simply cut off at 100, its gradient above the bound would be zero *both ways*: a scale
# that has once got there could never come back. The library's `scale()` drops only the gradient that leads further up.
# (Others set the parameter itself back to $\log 100$ after each step, which comes to nearly the same.)


# %%
def gradient_at(log_scale: float, direction: float, bounded: bool) -> float:
    """Of direction * scale in the parameter: descending it lowers the scale if direction is 1, raises it if -1."""
    clip.logit_scale.data.fill_(log_scale)
    with torch.enable_grad():
        clip.logit_scale.grad = None
        value = clip.scale() if bounded else clip.logit_scale.clamp(max=math.log(100)).exp()
        (direction * value).backward()
    return float(clip.logit_scale.grad)


learned = float(clip.logit_scale)
clip.logit_scale.requires_grad_(True)
assert gradient_at(math.log(120), 1.0, bounded=True) > 0  # back below the bound
assert gradient_at(math.log(120), -1.0, bounded=True) == 0  # no further up
assert gradient_at(math.log(120), 1.0, bounded=False) == 0  # the control: a plain clamp never comes back
assert gradient_at(math.log(50), -1.0, bounded=True) < 0  # below the bound all is as usual
clip.logit_scale.requires_grad_(False).fill_(learned)

# %% [markdown]
# ## 7. Two images, one caption
#
# The loss calls all other texts of the batch wrong. If two scenes have the *same* caption, one of them is a **false
# negative**: it is pushed away from an image that it describes. How often? Let two scenes have equal captions with
# probability $p_2 = \sum_y p(y)^2$. Short captions of one digit are uniform over 72 pairs, those of two over $72^2$,
# and half of the scenes have one:
# $$p_2 = \tfrac14 \cdot \tfrac1{72} + \tfrac14 \cdot \tfrac1{72^2} = 0.0035, \qquad
# P(\text{row has a duplicate}) = 1 - \tfrac12 \big(1 - \tfrac1{144}\big)^{N-1} - \tfrac12 \big(1 - \tfrac1{2 \cdot
# 72^2}\big)^{N-1} .$$

# %%
N = 128
groups = 10 if fast else 60
many = scenes.batch(torch.arange(groups * N))
predicted = 1 - 0.5 * (1 - 1 / 144) ** (N - 1) - 0.5 * (1 - 1 / (2 * 72**2)) ** (N - 1)
copies, duplicates = {}, {}
for name in ("short", "noisy", "caption"):
    texts = np.array(many[name]).reshape(groups, N)
    copies[name] = torch.tensor((texts[:, :, None] == texts[:, None, :]).sum(2))  # (groups, N): 1 where it is alone
    share = (copies[name] > 1).double().mean(1)
    duplicates[name] = mean_and_error(share)
    print(
        f"{name:8} {100 * duplicates[name][0]:5.1f} ± {100 * duplicates[name][1]:.1f} % of rows have a false negative; "
        f"the loss is at least {float(copies[name].double().log().mean()):.3f} nats"
    )
assert abs(duplicates["short"][0] - predicted) < 5 * duplicates["short"][1] < 0.1
assert duplicates["caption"][0] < 0.03 < 0.2 < min(duplicates["short"][0], duplicates["noisy"][0])
same = torch.tensor(np.array(many["short"][:N])[:, None] == np.array(many["short"][:N]))
floor = float(copies["short"][0].double().log().mean())
known = F.cross_entropy(1000.0 * same.double(), torch.arange(N))  # a critic that knows every caption
assert abs(float(known) - floor) < 1e-9
assert floor > 0.05

# %% [markdown]
# The floor is the mean of $\log(\text{copies})$, which a critic that knows each caption reaches and none can pass. It
# is no fault of the theory: where $y$ is one of few texts, $I(X; Y) \le H(Y)$ is small, and the floor is part of $H(J
# \mid X, Y_{1:N})$. It is a fault of reading the loss as "0 is perfect". Larger batches raise the floor, as $\log N -
# \mathcal L$ has reached $I$ and only $\log N$ goes on growing. Published training sets are cleaned of duplicates, or
# count equal texts as right; here descriptive captions hardly ever repeat.
