# %% [markdown]
# # 14. DALL·E: an image is a sentence
#
# **The question.** A language model writes a text piece by piece, each one a continuation of what stands before it. Can
# the same machine write a *picture*, token by token, behind its caption? And what is gained or lost when a picture
# becomes a sentence?
#
# **You will be able to** write a caption and an image as one stream of tokens, and say why its two halves are weighted
# as they are; derive the evidence bound of a model in two stages and split what it loses into the share of each stage;
# derive a law of pixels that stays inside their range; prove that sparse patterns of attention, stacked, reach every
# earlier token; write with a temperature, the $k$ most probable tokens and a key-value cache; and say what choosing
# among $N$ pictures by a score can give, what it costs, and what it cannot give.
#
# **Time:** 90 minutes of reading, 3 minutes of computing. **Needed before:** lectures 09, sections 4 to 7 (the bound,
# rate and distortion, discrete latents) and 11 (byte-pair encoding, transformers, CLIP).
#
# **Notation.** As in lecture 09, $x$ is an image and $z = (z_1, \dots, z_n)$ its latent, here a grid of $n$ tokens,
# each one of $K$. $y$ is a caption. $q(z \mid x)$ is the encoder, $p(x \mid z)$ the decoder, $p(z \mid y)$ the
# transformer. $H$ is an entropy, $D$ the distortion, $R$ the rate, $\beta$ the weight of the rate in training. $\tau$
# is a temperature, $\ell$ are logits; $v \in (0, 1)$ is the value of a pixel, $\mu$ a location, $b$ a scale. $W$ is the
# width of the grid of tokens. $S$ is the score by which one of $N$ pictures is chosen, $T$ the truth about it, $\rho$
# their correlation. Time plays no part here.

# %%
import io
import math
import time
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from flowlib.course.notebook import fast, seeded, show_source, trained
from flowlib.data import Dataset, load
from flowlib.metrics import score_captions
from flowlib.nets import Transformer
from flowlib.nets.discrete import into_odds
from flowlib.nets.patterns import PATTERNS, attention_pattern, layer_kinds, layer_patterns
from flowlib.nets.text_image import DALLE, TextImageGPT
from flowlib.nets.transformer_block import Cache
from flowlib.plotting import captioned_grid, format_table, picture_grid, tile
from flowlib.plotting.style import ACCENT, BLUE, GREY, INK
from flowlib.recipes import find_recipe
from flowlib.runs import load_pretrained
from flowlib.systems.codebook_use import codebook_use
from flowlib.systems.dalle import dalle_loss
from flowlib.systems.logit_laplace import log_density, log_mass
from flowlib.systems.relaxation import annealed_temperature, gumbel_softmax, half_cosine
from flowlib.systems.reranking import similarity
from flowlib.systems.token_bound import bound_of_images, evidence_bound
from flowlib.systems.token_sampling import next_token, write_image
from flowlib.text import BPE
from flowlib.text.captions import BACKGROUNDS, PLACES

torch.set_grad_enabled(False)  # turned on where something is descended
begun = time.perf_counter()
tests = load("scenes", "test")


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


# %% [markdown]
# ## 1. One stream of tokens
#
# A causal transformer gives the law of a sequence by the chain rule, $p(s) = \prod_i p(s_i \mid s_{<i})$, and it does
# not care what its integers stand for. DALL·E (Ramesh et al. 2021) writes first a caption and then an image into one
# sequence,
# $$\underbrace{y_1, \dots, y_{256}}_{\text{of 16,384 pieces of text}}\ \underbrace{z_1, \dots, z_{1024}}_{\text{of
# 8,192 kinds of patch, row by row}}, \qquad p(y, z) = p(y)\; p(z \mid y) .$$
# That one law is a model of captions, and of images behind a caption. To paint, hold the text and write on. Everything
# special is in how the tokens are made, in which of them sees which, and in what is done with the results.
#
# Ours is the same, smaller: 24 places for a caption of at most 512 kinds of token, and an image of $16 \times 16$
# pixels as $8 \times 8$ tokens of 512 kinds. The two kinds have numbers of their own, so that no token of an image can
# be taken for one of a text. Behind a token of the text only text is allowed, from the last place of the text on only
# image: all other logits are $-\infty$. A place that the caption leaves empty has a padding vector *of its own*, which
# is learned; and a token of the image is told its row and its column by two vectors, which are added.

# %%
show_source(TextImageGPT.embed, TextImageGPT.forward, DALLE.joined)
tiny = TextImageGPT(words=9, length=4, codes=5, grid=(2, 2), padding=8, silent=(7,), width=8, depth=1, heads=2)
stream = torch.tensor([[7, 1, 6, 8, 9, 13, 9, 10]])  # a text 7 (start), 1, 6, 8 (padding), and an image 0, 4, 0, 1
logits = tiny(stream)[0]
assert logits.isfinite().sum(1).tolist() == [7, 7, 7, 5, 5, 5, 5, 5]  # no padding, no start; then codes only
assert logits[2, 9:].isinf().all()
assert logits[3, :9].isinf().all()
read = tiny.embed(stream)[0]
assert torch.allclose(read[3], tiny.padding.weight[3] + tiny.place.weight[3])  # padding has a vector for each place
assert torch.allclose(read[6], tiny.token.weight[9] + tiny.row.weight[1] + tiny.column.weight[0])

# %% [markdown]
# ### Pieces of a text, and of the same text otherwise
#
# Captions are cut by the byte-pair encoding of lecture 11: learned merges, always made in the order in which they were
# learned. So a word is always cut in the *same* way, and what a piece has to do with the pieces that it is made of, the
# network is never told. **BPE dropout** (Provilkov et al. 2020; DALL·E takes 10 %) shows it: while a text is encoded in
# training, each merge that could be made next is passed over with probability $p$, each time anew. $p = 0$ is the
# encoding itself; $p = 1$ leaves bytes.
#
# The law of what comes out is known. Let the merges that are possible in a word be $m_1, m_2, \dots, m_r$, the earliest
# learned first. The one that is made is the first that is kept: $m_k$ with probability $p^{k - 1} (1 - p)$. With $p^r$
# none is, and the word stays as it is. Then the same again with the new word.

# %%
captions = tests.batch(torch.arange(2000))["caption"]
bpe = BPE.train(captions, vocabulary=512)
pairs = [(bpe.pieces[a], bpe.pieces[b]) for a, b in bpe.to_dict()["merges"]]
rank_of = {pair: k for k, pair in reversed(list(enumerate(pairs)))}
Cut = tuple[bytes, ...]


@cache
def law_of_cuts(cut: Cut, p: float) -> dict[Cut, float]:
    """The probability of each way in which dropout may leave a word."""
    found = sorted((rank_of[pair], at) for at, pair in enumerate(pairwise(cut)) if pair in rank_of)
    law = Counter({cut: p ** len(found)})
    for k, (_, at) in enumerate(found):
        for end, share in law_of_cuts((*cut[:at], cut[at] + cut[at + 1], *cut[at + 2 :]), p).items():
            law[end] += p**k * (1 - p) * share
    return law


word, draws, g = " seven", 2000 if fast else 10_000, seeded(0)
letters = tuple(bytes([byte]) for byte in word.encode())
for p in (0.0, 0.1, 0.5, 1.0):
    drawn = Counter(tuple(bpe.pieces[i] for i in bpe.encode(word, p, g)) for _ in range(draws))
    law = law_of_cuts(letters, p)
    assert abs(sum(law.values()) - 1) < 1e-12
    assert all(
        abs(drawn[cut] / draws - share) < 5 * math.sqrt(share * (1 - share) / draws) + 1e-9
        for cut, share in law.items()
    )
    often = sorted(law.items(), key=lambda one: -one[1])[:3]
    shown = ", ".join(
        f"{'|'.join(i.decode() for i in cut).replace(' ', '_')} {share:.3f}" for cut, share in often if share
    )
    print(f"p = {p:<4g}{sum(share > 0 for share in law.values()):3} ways: {shown}")
assert law_of_cuts(letters, 0.0)[(word.encode(),)] == 1 == law_of_cuts(letters, 1.0)[letters]
assert all(bpe.decode(bpe.encode(word, 0.5, g)) == word for _ in range(100))  # cut otherwise, it is the same text

# %% [markdown]
# At 10 % this word is whole two times of three, and is otherwise seen in its parts, so that parts are learned too. The
# text is the same whatever the cut, so this is augmentation that cannot change the meaning. (Our captions hold about
# forty different words, all of them frequent, and our recipe goes without it.)
#
# ## 2. The bound of two stages
#
# The image's tokens come from a discrete VAE (lecture 09, section 7): $q(z \mid x)$ says how probable each token is at
# each place, $p(x \mid z)$ paints tokens. It is trained *first*, by itself, with a uniform prior on tokens. Then it is
# frozen, and the transformer learns $p(z \mid y)$. Why is that a model of images, and what does each of the two
# trainings lose? Begin with lecture 09's bound, with a caption in it:
# $$-\log p(x \mid y) \le \underbrace{\mathbb E_{q(z \mid x)}[-\log p(x \mid z)]}_{D} + \underbrace{\mathbb E_{q(z \mid
# x)}\Big[\log \frac{q(z \mid x)}{p(z \mid y)}\Big]}_{R} , \tag{1}$$
# with a gap of $\mathrm{KL}\big(q(z \mid x)\,\|\,p(z \mid x, y)\big)$. (The paper writes it for the pair $(x, y)$: add
# $-\log p(y)$ on both sides. It also puts a weight $\beta$ on the rate, as in lecture 09, section 5. With $\beta \ne 1$
# what is minimised is no bound; what comes of it still is one when (1) is computed.)
#
# This gap belongs to the three networks together, and does not tell whom to blame. There is a better split. Let $p_*(x,
# y)$ be the law of the data and $q(x, z, y) = p_*(x, y)\, q(z \mid x)$: images, their captions and their tokens, as the
# encoder draws them.
#
# > **Proposition 1.** Let $x$ and $y$ be discrete, as pixels of 256 values and texts are, and $H(x \mid y)$ finite. On
# > average over the data, $$\mathbb E[D + R] = H(x \mid y) + \underbrace{\mathbb
# > E\,\mathrm{KL}\big(q(z \mid y)\,\|\,p(z \mid y)\big)}_{\text{the second stage's}} + \underbrace{\mathbb
# > E\,\mathrm{KL}\big(q(x \mid z, y)\,\|\,p(x \mid z)\big)}_{\text{the first stage's}} . \tag{2}$$ With the best
# > decoder, $p(x \mid z) = q(x \mid z)$, the last term is $I(x; y \mid z)$.
#
# **Proof.** $p_*(x \mid y)\, q(z \mid x) = q(x, z \mid y) = q(z \mid y)\, q(x \mid z, y)$. So $q(z \mid x) = q(z \mid
# y)\, q(x \mid z, y) / p_*(x \mid y)$. Put this into $D + R = \mathbb E\big[\log q(z \mid x) - \log p(z \mid y) - \log
# p(x \mid z)\big]$ and take the mean: $-\log p_*(x \mid y)$ gives the entropy, and what is left is two divergences. The
# last claim is the definition of $I(x; y \mid z)$, the mean of $\log \frac{q(x \mid z, y)}{q(x \mid z)}$.
# $\blacksquare$
#
# Read it. $H(x \mid y)$ is what no model can go below, on average. **The second stage** is told tokens and captions,
# and all that it can lose is in its own term: a cross-entropy less the constant $H(z \mid y)$, smallest, and with
# nothing lost, at $p(z \mid y) = q(z \mid y)$. So its training needs tokens and captions, and nothing else of the first
# one. **The first stage's** term does not contain the transformer at all. With the best decoder it asks that tokens
# tell *everything* that the caption has to do with the image: what they leave out, such as a stroke of two pixels that
# 64 tokens cannot hold, the best transformer cannot paint.
#
# The uniform prior of the first training is the second stage before it has learned anything, so its term is known too:
# $n \log K - H(z \mid y)$. That is what a transformer can save at most.
#
# **On a case that is exact.** Images of one pixel with 24 values, of four kinds $z$; two captions, each with a law of
# its own over the kinds. All sums can be carried out. The first stage is trained by turns: the best encoder for a
# decoder and a uniform prior is $q(z \mid x) \propto p(x \mid z)^{1 / \beta}$, the best decoder for an encoder is $q(x
# \mid z)$. Then the second.

# %%
levels, K = 24, 4
values = torch.arange(levels).double()
kinds = (-((values - torch.tensor([[4.0], [9.0], [14.0], [20.0]])) ** 2) / 6).softmax(1)  # (K, levels)
prior_of = torch.tensor([[0.6, 0.25, 0.1, 0.05], [0.05, 0.1, 0.25, 0.6]], dtype=torch.float64)  # p*(z | y)
asked = torch.tensor([0.5, 0.5], dtype=torch.float64)  # how often each caption occurs
image_law = prior_of @ kinds  # p*(x | y), (2, levels)
entropy = -float((asked[:, None] * image_law * image_law.log()).sum())  # H(x | y)


def first_stage(beta: float, rounds: int = 1000) -> tuple[Tensor, Tensor]:
    """Encoder q(z | x), (levels, K), and decoder p(x | z), (K, levels), of a training with a uniform prior."""
    decoder = (kinds + 0.02 * torch.rand(K, levels, generator=seeded(0))).double()
    decoder /= decoder.sum(1, keepdim=True)
    for _ in range(rounds):
        encoder = (decoder.clamp_min(1e-300).log() / beta).T.softmax(1)
        decoder = best_decoder(encoder)
    return encoder, decoder


def best_decoder(encoder: Tensor) -> Tensor:
    """q(x | z), (K, levels)."""
    joint = (asked @ image_law)[:, None] * encoder
    return (joint / joint.sum(0)).T


def parts(encoder: Tensor, decoder: Tensor, prior: Tensor) -> dict[str, float]:
    """Distortion, rate and both stages' losses; encoder (levels, K), decoder (K, levels), prior p(z | y) (2, K)."""
    triple = asked[:, None, None] * image_law[:, :, None] * encoder  # q(y, x, z)
    tokens = image_law @ encoder  # q(z | y)
    given = (image_law[:, :, None] * encoder / tokens[:, None]).transpose(1, 2)  # q(x | z, y), (2, K, levels)

    def mean(table: Tensor) -> float:
        return float(torch.where(triple > 0, triple * table, 0.0).sum())

    return {
        "distortion": mean(-decoder.T.log()[None]),
        "rate": mean(encoder.log()[None] - prior.log()[:, None]),
        "second stage": mean((tokens / prior).log()[:, None]),
        "first stage": mean((given / decoder).transpose(1, 2).log()),
    }


rows, found = [], {}
uniform = torch.full((2, K), 1 / K).double()
for beta in (0.25, 1.0, 2.0):
    encoder, decoder = first_stage(beta)
    tokens = image_law @ encoder
    for name, prior in (("uniform", uniform), ("q(z)", (asked @ tokens).expand(2, K)), ("q(z | y)", tokens)):
        found[beta, name] = row = parts(encoder, decoder, prior)
        total = row["distortion"] + row["rate"]
        rows.append({"β of the first": f"{beta:g}", "prior": name} | {k: f"{abs(v):.3f}" for k, v in row.items()}
                    | {"bound": f"{total:.3f}", "less H(x | y)": f"{total - entropy:.3f}"})  # fmt: skip
        assert abs(total - entropy - row["second stage"] - row["first stage"]) < 1e-9  # (2)
        assert min(row["second stage"], row["first stage"]) > -1e-12
    saved = math.log(K) + float((asked[:, None] * tokens * tokens.log()).sum())
    assert abs(found[beta, "uniform"]["second stage"] - saved) < 1e-9  # log K - H(z | y)
    assert abs(found[beta, "q(z | y)"]["second stage"]) < 1e-9
    assert found[beta, "uniform"]["first stage"] == found[beta, "q(z | y)"]["first stage"]
print(format_table(rows))
bounds = {key: row["distortion"] + row["rate"] for key, row in found.items()}
one_pixel = asked @ image_law
assert abs(bounds[1.0, "uniform"] + float((one_pixel * one_pixel.log()).sum())) < 1e-3  # H(x): nothing is lost of p(x),
assert bounds[1.0, "uniform"] < bounds[0.25, "uniform"]  # the best that a prior without a caption allows,
assert bounds[1.0, "q(z | y)"] > bounds[0.25, "q(z | y)"]  # is not the best for the prior that it gets
assert found[2.0, "uniform"]["rate"] < 1e-6 < 0.1 < found[2.0, "uniform"]["first stage"]  # collapsed
print(f"H(x | y) = {entropy:.3f} nats")

# %% [markdown]
# **How to read it.** Down a block only the prior changes, and with it only the rate and the second stage's term. A
# prior that does not read the caption, $q(z)$, leaves what the caption says of the tokens, $I(y; z)$; the one that does
# leaves nothing. Across blocks: with a small $\beta$ the encoder is sure of its token, and little is left of the first
# stage's term. At $\beta = 1$ the first training is the best for *its* prior: its bound is $H(x)$, which no model
# without captions can go below. With the prior that it is going to get, the surer encoder is better. So the order of
# the trainings costs something: no first stage here knew what the second would save. At $\beta = 2$ the encoder says
# nothing, $q(z \mid x) = q(z)$: the **posterior has collapsed**, all rates are 0, and all that the caption has to do
# with the image is the first stage's loss.
#
# What does the true model itself lose? Its decoder is $p_*(x \mid z)$, its prior is exact. But the encoder is not told
# the caption, and the true posterior $p_*(z \mid x, y)$ depends on it where the kinds overlap:

# %%
joint = (asked @ prior_of)[:, None] * kinds
blind = (joint / joint.sum(0)).T  # p*(z | x)
true_model = parts(blind, kinds, prior_of)
told = torch.stack([(law[:, None] * kinds / (law[:, None] * kinds).sum(0)).T for law in prior_of])  # p*(z | x, y)
gap = float((asked[:, None, None] * image_law[..., None] * blind * (blind / told).log()).sum())
above = true_model["distortion"] + true_model["rate"] - entropy
print(f"the true model: bound - H(x | y) = {above:.4f}, mean KL(q(z | x) | p(z | x, y)) = {gap:.4f}")
assert abs(above - gap) < 1e-12  # the law of the data is the model's: the whole loss is the gap of (1)
assert gap > 1e-3
information = parts(blind, best_decoder(blind), image_law @ blind)
given_both = information["first stage"]  # I(x; y | z) of its encoder
chain = {name: float((table * table.log()).sum()) for name, table in (
    ("yxz", asked[:, None, None] * image_law[..., None] * blind), ("xz", (asked @ image_law)[:, None] * blind),
    ("yz", asked[:, None] * (image_law @ blind)), ("z", asked @ image_law @ blind),
)}  # fmt: skip
assert abs(given_both - (chain["yxz"] - chain["xz"] - chain["yz"] + chain["z"])) < 1e-12  # the last claim

logits, draws = blind.log(), 400 if fast else 4000
each = evidence_bound(
    logits[12].expand(draws, K)[..., None, None], lambda z: kinds.log()[z[:, 0, 0], 12],
    lambda z: prior_of[0].log()[z[:, 0, 0]], generator=seeded(1),
).total  # fmt: skip
expected = float((blind[12] * (blind[12] / (prior_of[0] * kinds[:, 12])).log()).sum())
print(f"the image 12 under the first caption: bound {expected:.3f}, from {draws:,} draws {float(each.mean()):.3f}")
assert abs(float(each.mean()) - expected) < 5 * float(each.std()) / math.sqrt(draws)  # one draw is unbiased
assert expected > -math.log(image_law[0, 12])

# %% [markdown]
# The draw of a token has no gradient. How Gumbel noise and a temperature give one, what straight-through gives, and how
# biased either is, was derived and measured in lecture 09, section 7. DALL·E takes the relaxed draw without the
# straight-through step, and cools it from $\tau = 1$ to $1/16$. Second-stage training takes the most probable token at
# each place, without noise: that is another encoder $q$, one that is sure, and so (2) holds of it as well, with a
# rate of $-\log p(z \mid y)$.
#
# ## 3. A law for pixels
#
# $p(x \mid z)$ needs a density. With squared error it is Gaussian, with absolute error Laplace, and both give
# probability to pixels blacker than black. What is spent there is lost from the bound: with a scale of 0.1, a Laplace
# law at a value of 0.95 spends 30 % beyond 1. And what the decoder could say about its own certainty is not asked. So
# take a number that has no ends: for $v \in (0, 1)$ its log odds, $\mathrm{logit}\, v = \log \frac{v}{1 - v}$. *They*
# shall have a Laplace law of location $\mu$ and scale $b$, both of which the decoder gives for each pixel. The change
# of variables with $\frac{d} {dv}\, \mathrm{logit}\, v = \frac{1}{v (1 - v)}$ is the **logit-Laplace** density:
# $$f(v \mid \mu, b) = \frac{1}{2 b\, v (1 - v)} \exp\Big(-\frac{|\mathrm{logit}\, v - \mu|}{b}\Big) . \tag{3}$$
# *At the ends.* As $v \to 0$, $\mathrm{logit}\, v \approx \log v$, so that $f \approx \text{const} \cdot v^{1/b - 1}$:
# nothing if $b < 1$, without bound if $b > 1$. At $v = 0$ itself $\log f$ is $-\infty + \infty$. Images are full of
# pixels at the ends. So they are first mapped to $v = (1 - 2 \epsilon)\, \frac{x + 1}{2} + \epsilon$ with the paper's
# $\epsilon = 0.1$, into $[0.1, 0.9]$, where $\frac{1}{v (1 - v)} \le 11.2$.
#
# *The best location* of many values $v_i$ is the median of their log odds, as for any Laplace law; and
# $\mathrm{sigmoid}$ of the median is the median of the $v_i$. One pixel that is far off moves it no further than one
# that is near.
#
# *What is ours.* A density may be as large as it likes: where the decoder knows a pixel for certain (a black
# background), $b \to 0$ makes $-\log f$ as small as it likes, and the bound of an image means nothing. Our pixels are
# 256 values, so the loss takes the *probability* of each value's interval, which is at most 1; the outermost intervals
# reach to 0 and 1. It is taken in training too, not only when bits are counted. And since flat regions are known
# exactly soon, their scales would shrink towards 0, and we want the rest of the image to stay in the loss: so there is
# a floor under $b$, which falls to 0 with the temperature. (What a training does without it is not shown here.)
#
# *And where the tokens begin.* At random, among many tokens whose logits are nearly equal a relaxed draw is decided by
# its noise, and a decoder that finds nothing in the draw may learn to do without it. So the live training of section 6
# multiplies the layer of the logits by a gain of 8 before the first step. With the 32 tokens that it has this is
# enough. In one trial with 256, after 600 steps one in five was still in use: a token that is never drawn has no
# gradient to speak of. The recipe, with 512, begins at the centres of k-means instead: the logits of a patch of $2
# \times 2$ pixels are $-s\, |\text{patch} - c_k|^2$ plus what the convolutions of the encoder say, and what is painted
# for token $k$ is a patch of its own plus what the convolutions of the decoder say. Both sums begin without the
# convolutions, as a vector quantiser (lecture 10), and all of it is trained. DALL·E itself begins at random, and
# trains for three million steps.

# %%
show_source(log_density)
unit = (torch.arange(400_000).double() + 0.5) / 400_000


def density(v: Tensor, mu: float, b: float) -> Tensor:
    """(3)."""
    return torch.exp(-(v.logit() - mu).abs() / b) / (2 * b * v * (1 - v))


x = torch.linspace(-1, 1, 256).double()[:, None]
for mu, b in ((0.0, 0.5), (-2.0, 0.3), (1.0, 1.0)):
    where, scale = torch.full_like(x, mu), torch.full_like(x, math.log(b))
    assert abs(float(density(unit, mu, b).mean()) - 1) < 1e-3  # a density on (0, 1)
    assert torch.allclose(log_density(x, where, scale).exp(), density(into_odds(x), mu, b), atol=1e-12)
    assert abs(float(log_mass(x, where, scale).exp().sum()) - 1) < 1e-6  # and of 256 values a law
    inner = (log_mass(x, where, scale).exp() / (density(into_odds(x), mu, b) * 0.8 / 255))[1:-1]
    assert float((inner - 1).abs().max()) < 0.03  # density times width, but at the ends
beyond = 0.5 * math.exp(-(1 - 0.95) / 0.1)
assert 0.3 < beyond < 0.31
near = torch.tensor([1e-9, 1e-8]).double()
for b in (0.5, 2.0):  # the power at the ends
    slope = float((density(near, 0.0, b).log()[1] - density(near, 0.0, b).log()[0]) / math.log(10))
    assert abs(slope - (1 / b - 1)) < 1e-4
assert torch.allclose(into_odds(torch.tensor([-1.0, 1.0])), torch.tensor([0.1, 0.9]))
assert 1 / (0.1 * 0.9) < 11.2
certain = torch.tensor([[-1.0]]).double()  # a pixel that is known ever better
for b in (1e-1, 1e-3, 1e-6):
    law = torch.full_like(certain, math.log(1 / 9)), torch.full_like(certain, math.log(b))
    print(f"b = {b:<6g} log density {float(log_density(certain, *law)):5.2f}, probability of the value "
          f"{float(log_mass(certain, *law).exp()):.3f}")  # fmt: skip
    assert float(log_mass(certain, *law)) <= 0 < float(log_density(certain, *law))
v = torch.rand(101, generator=seeded(2)).double() ** 3
best = v.logit().median()
losses = [float(-density(v, float(best) + step, 0.7).log().mean()) for step in (-0.05, 0.0, 0.05)]
assert losses[1] < min(losses[0], losses[2])
assert torch.allclose(best.sigmoid(), v.median())

# %% tags=["draw"]
# alt: Left, three densities on the interval from 0 to 1: a peak in the middle, a narrow peak leaning to 0, and a wide
#   one that rises at 1 again; a grey line, a Laplace density, runs on beyond 1. Right, over the share of the training,
#   a temperature falls from 1 to a sixteenth until 0.8, and the weight of the KL term rises from 0 to 1 until 0.5.
figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3), layout="constrained")
inside = torch.linspace(0.001, 0.999, 999).double()
for (mu, b), colour in (((0.0, 0.5), INK), ((-2.0, 0.3), BLUE), ((1.0, 1.2), ACCENT)):
    left.plot(inside, density(inside, mu, b), color=colour, label=f"logit-Laplace, μ = {mu:g}, b = {b:g}")
wide = torch.linspace(0, 1.3, 500)
left.plot(wide, torch.exp(-(wide - 0.95).abs() / 0.1) / 0.2, color=GREY, linestyle="--", label="Laplace at 0.95")
left.axvspan(1, 1.3, color="#e3e6ea")
left.set(ylim=(0, 8), xlabel="value of a pixel, v", title="densities of a pixel")
left.legend()
shown = torch.linspace(0, 1, 201).tolist()
cooled = [annealed_temperature(round(1000 * share), 800) for share in shown]
right.plot(shown, cooled, color=ACCENT, label="temperature τ, 1 to 1/16")
right.plot(
    shown, [half_cosine(share / 0.5, 0, 1) for share in shown], color=BLUE, label="KL weight, over its last value"
)
right.set(xlabel="share of the training", title="two schedules")
right.legend(loc="center right")
plt.show()

# %% [markdown]
# **Two schedules** go with it. *The temperature* falls on half a cosine. Warm, the code is a mixture of many vectors
# and the gradient is quiet; the colder, the nearer it is to one vector, which is all that the decoder will ever be
# given. *The weight of the KL term* rises from 0, in the paper to 6.6 (per pixel and channel that is $6.6 / 192$ of a
# token's KL). At the start the tokens say nothing, so the rate can only lose by telling something: with the full weight
# from the first step on, the cheapest answer is the uniform $q$, and the decoder learns to do without. Later the weight
# asks that all tokens be used. The authors report that the large weight gives a *smaller* error at the end.

# %%
codes = torch.randn(4000, 64, generator=seeded(3)).double()
purity = {
    tau: float(gumbel_softmax(codes, tau, generator=seeded(4)).amax(1).mean()) for tau in (1.0, 0.5, 0.25, 1 / 16)
}
print("  ".join(f"τ = {tau:g}: largest weight {share:.2f}" for tau, share in purity.items()))
assert list(purity.values()) == sorted(purity.values())
assert purity[1 / 16] > 0.9 > 0.4 > purity[1.0]
assert (annealed_temperature(0, 800), annealed_temperature(800, 800), half_cosine(0, 0, 1)) == (1.0, 1 / 16, 0.0)

# %% [markdown]
# ## 4. One eighth, seven eighths
#
# The transformer is trained by cross-entropy on the stream. If that were the plain negative log-likelihood, each token
# would count once:
# $$-\log p(y, z) = n_y\, L_y + n\, L_z ,$$
# with $L_y$ and $L_z$ the means over a caption's $n_y$ tokens and an image's $n$. DALL·E minimises $\frac18 L_y +
# \frac78 L_z$ instead, as it is after images. (In a batch each of the two is one mean over all tokens of its kind, so
# that a token counts the same in a short caption and in a long one.) Compare with the likelihood's own weights,
# $\frac{n_y}{n_y + n}$ and $\frac {n}{n_y + n}$: in the paper at most $\frac{256}{1280} = \frac15$ on the text, less as
# captions are mostly shorter. What matters is the weight of *one* token, $\frac{1}{8 n_y}$ against $\frac{7}{8 n}$.
# They are equal at $n_y = n / 7$. If captions are longer on average, as ours are below, one of their tokens counts less
# than one of an image; if they are shorter, it counts more. With the paper's $n = 1024$ that border is at 146 tokens.
#
# Why learn the text at all, when it is always given? $L_y$ asks the network to know captions, by the same layers that
# must understand them to paint; it is cheap, as the text is short. And with a weight on it, $p(y, z)$ is a whole
# model, that can draw a caption too. But most of the loss is to be where the pictures are.

# %%
show_source(dalle_loss)
length, words, n = 24, 512, 64
rows_of = bpe.batch([text.lower() for text in captions], length)
text = torch.where(rows_of >= bpe.start, rows_of - bpe.start + words - 3, rows_of)  # the special tokens come last
image = torch.randint(512, (len(text), n), generator=seeded(5)) + words
whole = torch.cat([text, image], dim=1)[:50]
logits = torch.randn(50, length + n - 1, words + 512, generator=seeded(6)).double()
loss = dalle_loss(logits, whole, length, words - 1)
nats = -logits.log_softmax(2).gather(2, whole[:, 1:, None])[..., 0]
said = (whole[:, 1:length] != words - 1).double()
by_hand = {"text": (nats[:, : length - 1] * said).sum() / said.sum(), "image": nats[:, length - 1 :].mean()}
assert abs(float(loss["loss"] - by_hand["text"] / 8 - 7 * by_hand["image"] / 8)) < 1e-12
n_y = float((text[:, 1:] != words - 1).sum(1).double().mean())
likely = n_y / (n_y + n)
print(f"tokens to predict of a caption {n_y:.1f}, of an image {n}")
print(f"weight of the text: {likely:.3f} by likelihood, 1/8 = 0.125 here")
print(f"one token of the text counts {(1 / 8 / n_y) / (7 / 8 / n):.2f} times one of the image")
assert likely > 1 / 8  # of a token of the text less is made than likelihood would
plain = (nats[:, : length - 1] * said).sum() + nats[:, length - 1 :].sum()
own = float(said.sum() / (said.sum() + 50 * n))
weighted = dalle_loss(logits, whole, length, words - 1, text_weight=own)["loss"] * (said.sum() + 50 * n)
assert abs(float(weighted / plain) - 1) < 1e-12  # with the likelihood's own weight it is the likelihood

# %% [markdown]
# ## 5. Who sees whom
#
# In the paper 1,280 tokens in 64 layers: attention of all to all would compute 1.6 million products in each head. So
# each layer sees a *part* of the image. All of the text is always seen. In the picture, what one token of an $8 \times
# 8$ image sees, under the three sparse patterns.
#
# - **row:** itself and the $W$ tokens before it, $W$ being the width: up to the one right above;
# - **column:** those of its column;
# - **convolution:** a window around it, as far as it is written.
#
# The layers take turns: row, column, row, row, and again, and the last is the convolution.

# %%
show_source(attention_pattern)
TEXT, SIDE = 24, 8
paper = layer_kinds("sparse", 64)
assert (paper[:4], paper[-1], paper.count("convolution")) == (["row", "column", "row", "row"], "convolution", 1)
seen = {kind: attention_pattern(kind, TEXT, SIDE, SIDE) for kind in PATTERNS}
pairs_seen = {kind: int(pattern[TEXT:, TEXT:].sum()) for kind, pattern in seen.items()}
print({kind: f"{count} pairs of the image" for kind, count in pairs_seen.items()})
assert pairs_seen["full"] == 64 * 65 // 2
assert pairs_seen["row"] == sum(min(i, SIDE) + 1 for i in range(64))
assert pairs_seen["column"] == SIDE * SIDE * (SIDE + 1) // 2
for pattern in seen.values():
    assert not pattern.triu(1).any()  # nothing later
    assert pattern[TEXT:, :TEXT].all()  # all of the text

# %% tags=["draw"]
# alt: Four 8 x 8 grids, in each one token marked: with "row" it sees the eight tokens before it, with "column" those
#   above it in its column, with "convolution" its left neighbour and the three above, with "full" all before it. Below,
#   the same four as matrices, with a dark stripe of text at the left: bands near the diagonal, combs, or a triangle.
figure, axes = plt.subplots(2, 4, figsize=(9.4, 5), layout="constrained")
one = 5 * SIDE + 4
for (upper, lower), kind in zip(axes.T, PATTERNS, strict=True):
    grid = seen[kind][TEXT + one, TEXT:].float().reshape(SIDE, SIDE)
    grid[one // SIDE, one % SIDE] = 2
    upper.imshow(grid, cmap="Greys", vmin=0, vmax=2.4)
    upper.set(title=kind, xticks=[], yticks=[])
    upper.set_xticks(torch.arange(-0.5, SIDE).tolist(), minor=True)
    upper.set_yticks(torch.arange(-0.5, SIDE).tolist(), minor=True)
    upper.grid(which="minor", color="white", linewidth=1)
    upper.tick_params(which="minor", length=0)
    lower.imshow(seen[kind].float(), cmap="Greys", vmin=0, vmax=1.4)
    lower.axvline(TEXT - 0.5, color=ACCENT, linewidth=0.8)
    lower.axhline(TEXT - 0.5, color=ACCENT, linewidth=0.8)
    lower.set(xticks=[], yticks=[], xlabel="what is seen")
axes[0, 0].set_ylabel("what token 44 sees")
axes[1, 0].set_ylabel("who sees")
plt.show()

# %% [markdown]
# Is anything lost? What a token has not seen itself it may have heard of by one that has.
#
# > **Proposition 2.** A row layer and a column layer, in either order, let every token depend on every earlier one.
#
# **Proof.** Let token $i$ be at $(r, c)$ and $j < i$ at $(r', c')$. *Column above row:* $i$ reads, in its column, the
# token $k = (r', c)$ if $c' \le c$, and else $k = (r' + 1, c)$, which is not later than $i$, as then $r' < r$. In the
# first case $k - j = c - c'$, in the second $W - (c' - c)$: between 0 and $W$. So $k$ has read $j$ in its row layer.
# *Row above column:* $i$ reads $k = (r, c')$ if $c' \le c$, and else $(r - 1, c')$: again between 0 and $W$ back, in
# the column of $j$ and not above it, so that $k$ has read $j$ in its column layer. $\blacksquare$
#
# Row layers alone reach $W$ further back with each layer: $\lceil (n - 1) / W \rceil$ of them are needed. A window of
# $3 \times 3$ reaches $W + 1$ back. Columns alone never meet. The boolean product of patterns says it of any stack; and
# the Jacobian of a network says it of the network.


# %%
def reach(stack: list[Tensor]) -> Tensor:
    """Which tokens each one depends on after layers with these patterns, the first layer first."""
    found = torch.eye(len(stack[0]))
    for pattern in stack:
        found = ((pattern.float() @ found) > 0).float()
    return found > 0


every = torch.ones(64, 64).tril() > 0
only_image = {kind: attention_pattern(kind, 0, SIDE, SIDE) for kind in PATTERNS}
needed = {
    kind: next((k for k in range(1, 20) if torch.equal(reach([pattern] * k), every)), None)
    for kind, pattern in only_image.items()
}
print("layers of one kind until every earlier token is reached:", needed)
assert needed == {"row": math.ceil(63 / SIDE), "column": None, "convolution": math.ceil(63 / (SIDE + 1)), "full": 1}
for two in (("row", "column"), ("column", "row")):
    assert torch.equal(reach([only_image[kind] for kind in two]), every)  # proposition 2
assert torch.equal(reach(layer_patterns("sparse", 6, TEXT, SIDE, SIDE)), torch.ones(88, 88).tril() > 0)


def jacobian_of(net: Transformer, x: Tensor) -> Tensor:
    """How much the output of each token depends on the input of each: (N, N), 0 where not at all."""
    with torch.enable_grad():
        change = torch.autograd.functional.jacobian(lambda x: net(x)[0].sum(1), x)  # (N, 1, N, width)
    return change[:, 0].norm(dim=2)


torch.manual_seed(0)
for names in (["row"], ["column"], ["convolution"], ["row", "column"], ["column", "column"]):
    stack = [attention_pattern(kind, 3, 4, 4) for kind in names]
    net = Transformer(8, len(names), 2, causal=True, pattern=stack).double()
    for parameter in net.parameters():
        parameter.normal_(std=0.4)
    depends = jacobian_of(net, torch.randn(1, 19, 8).double())
    assert torch.equal(depends > 0, reach(stack)), names  # causal, and exactly as the patterns say

# %% [markdown]
# The Jacobian is exactly zero above the diagonal: *causal*. That is what makes the chain rule of section 1 right, and a
# test for it is worth more than a reading of the code. In our library the sparse patterns save nothing, as the masked
# products are computed and thrown away; a kernel that skips them is what the authors had. What the patterns change
# here is what a layer can learn: with 64 tokens of an image that is a restriction, with 1,024 it was a necessity. It
# need not be a loss. Two transformers of section 10's size, trained for 300 steps on the tokens of scenes, with three
# seeds: with sparse patterns $1.29 \pm 0.02$ nats a token of the image in test scenes, with full attention $1.41 \pm
# 0.02$ ([`tables/14_patterns.md`](tables/14_patterns.md); seconds there are those of a busy machine). What longer
# trainings do, this does not say.

# %% [markdown]
# ## 6. A training, live
#
# The same system, small, on pictures that it can learn in a minute: a red, yellow, green or blue square at one of nine
# places, on one of three backgrounds, with some noise on each pixel, and captions such as "a red square at the upper
# left, on grey". What is in a picture can be read by a rule, without a network: the background is the median of the
# pixels, the place is where the mean colour differs most from it, the colour is the nearest of the four. The dVAE has
# 32 kinds of token and halves the sides twice: 16 tokens an image. The transformer has three layers. What is not named
# in the cell is the recipe's.


# %%
# alt: Three rows of twelve small pictures, each with one coloured square on black, grey or white: the test pictures,
#   the same from their 16 tokens, and written ones with the same captions.
USED = ("red", "yellow", "green", "blue")
HUES = torch.tensor([[0.85, 0.1, 0.1], [0.95, 0.9, 0.15], [0.1, 0.65, 0.2], [0.1, 0.2, 0.85]])
GROUNDS = torch.tensor([[0.0] * 3, [0.5] * 3, [1.0] * 3])
KEYS = ("colour", "place", "background")


def clean(truth: Tensor) -> Tensor:
    """The pictures (B, 3, 16, 16) in [0, 1] of colours, places and backgrounds (B, 3), without noise."""
    inside = (torch.arange(16) - 5 * torch.arange(3)[:, None]).clamp(-1, 6)
    inside = ((inside >= 0) & (inside < 6)).float()  # (3, 16): the pixels of each of three places
    where = (inside[:, None, :, None] * inside[None, :, None, :]).flatten(0, 1)[truth[:, 1], None]
    return where * HUES[truth[:, 0], :, None, None] + (1 - where) * GROUNDS[truth[:, 2], :, None, None]


def squares(count: int, seed: int) -> Dataset:
    """Pictures with their captions, and in the column "truth" colour, place and background, (count, 3)."""
    g = seeded(seed)
    truth = torch.stack([torch.randint(size, (count,), generator=g) for size in (4, 9, 3)], dim=1)
    x = clean(truth)
    texts = [f"a {USED[a]} square at the {PLACES[b]}, on {BACKGROUNDS[c]}" for a, b, c in truth.tolist()]
    x = (x + 0.04 * torch.randn(x.shape, generator=g)).clamp(0, 1)
    return Dataset((255 * x).round() / 127.5 - 1, name="squares", levels=256, captions=texts, more={"truth": truth})


def what_is_in(x: Tensor) -> Tensor:
    """Colour, place and background of pictures, by the rule; (B, 3)."""
    v = (x.clamp(-1, 1) + 1) / 2
    ground = torch.cdist(v.flatten(2).median(2).values, GROUNDS).argmin(1)
    means = F.avg_pool2d(v[:, :, 1:15, 1:15], 4, stride=5).flatten(2).transpose(1, 2)  # (B, 9, 3)
    place = (means - GROUNDS[ground][:, None]).norm(dim=2).argmax(1)
    hue = torch.cdist(means[torch.arange(len(x)), place], HUES).argmin(1)
    return torch.stack([hue, place, ground], dim=1)


def framed(x: Tensor) -> Tensor:
    """Pictures with a grey line around each, or black and white ones would run into the page."""
    return F.pad(x, (1, 1, 1, 1), value=0.3)


def obeyed(x: Tensor, truth: Tensor) -> dict[str, float]:
    """The shares of pictures whose colour, place and background are right, and of those where all three are."""
    right = what_is_in(x) == truth
    return dict(zip(KEYS, right.double().mean(0).tolist(), strict=True)) | {"all": float(right.all(1).double().mean())}


batch = squares(256, 1).batch(torch.arange(256))
x, texts, inside_of = batch["x"], batch["caption"], batch["truth"]
assert torch.equal(what_is_in(x), inside_of)  # the rule is right
FIRST = {
    "tokens": 32, "channels": 32, "latent_channels": 16, "factor": 4, "centres": 0, "gain": 8.0, "scale_floor": 1.0,
    "kl_weight": 0.1, "kl_rise": 0.5, "steps": 350, "batch_size": 32, "lr": 6e-3, "matrix_lr": 0.02, "ema": 0.98,
    "precision": "auto",
}  # fmt: skip
first = replace(find_recipe("dalle").system.first_stage, **FIRST)
with torch.enable_grad():
    live = trained(
        "dalle", data=squares(1000 if fast else 8000, 0), first_stage=first, captions=("caption",), parts={}, width=64,
        depth=3, length=16, vocabulary=400, steps=250, batch_size=32, ema=0.98,
    )  # fmt: skip
dalle = live.module
tokens = dalle.encode(x)
restored = dalle.decode(tokens)
written = live.sample(dalle.read(texts), seed=0)
found = {
    "test pictures": obeyed(x, inside_of), "from their tokens": obeyed(restored, inside_of),
    "written": obeyed(written, inside_of), "written, others' captions": obeyed(written, inside_of.roll(1, 0)),
}  # fmt: skip
print(format_table([{"pictures": n} | {key: percent(share) for key, share in row.items()} for n, row in found.items()]))
use = codebook_use(tokens, dalle.gpt.codes)
print(f"{percent(use.share)} of the codebook occur, as many as {use.perplexity:.1f} equally frequent ones")
if not fast:
    assert found["from their tokens"]["all"] > 0.9
    assert found["written"]["all"] > 0.5 > 0.1 > found["written, others' captions"]["all"]
rows = torch.cat([x[:12], restored[:12].clamp(-1, 1), written[:12].clamp(-1, 1)])
picture_grid(framed(rows), columns=12, rows=["test", "tokens", "written"])

# %% [markdown]
# A picture from its tokens has its square where it was and in its colour, with blurred edges. In this one training 89 %
# of what is written for 256 captions is right in all three. Fewer than half of the 32 kinds of token occur, and these
# so unequally that they are worth six equally frequent ones. That is no wonder: a square of six pixels touches four of
# the 16 places, and the other twelve hold nothing but one of three backgrounds.
#
# ## 7. Writing
#
# The next token is drawn from $\mathrm{softmax}(\ell / \tau)$, $\ell$ being its logits. $\tau = 1$ is the law that was
# learned.
#
# > **Proposition 3.** With $q_\tau = \mathrm{softmax}(\ell / \tau)$, $\quad \frac{d}{d\tau} H(q_\tau) =
# > \frac{1}{\tau^3} \mathrm{Var}_{q_\tau}(\ell) \ge 0 .$
#
# **Proof.** With $s = 1/\tau$ and $Z = \sum_k e^{s \ell_k}$: $H = \log Z - s\, \mathbb E_q \ell$. As $\frac{d}{ds}
# \log Z = \mathbb E_q \ell$ and $\frac{d}{ds} \mathbb E_q \ell = \mathrm{Var}_q(\ell)$, $\frac{dH}{ds} = -s\,
# \mathrm{Var}_q (\ell)$. Multiply by $\frac{ds}{d\tau} = -\tau^{-2}$. $\blacksquare$
#
# So a lower temperature is never more varied, and less varied unless all logits are equal. That holds of each token's
# law. The law of the whole image is *not* $p(z \mid y)^{1/\tau}$, scaled: each factor of the chain rule is sharpened by
# itself, so that a first token is drawn without a look at how sharp what follows will be.
#
# **Top-$k$** draws from the $k$ most probable tokens only. It removes the many that are improbable each and probable
# together. If they have the mass $m$ that is kept, the law that is left is $p / m$ on them, and $\mathrm{KL}(p_k
# \,\|\, p) = -\log m$.

# %%
show_source(next_token)
ell = 2 * torch.randn(64, generator=seeded(7)).double()


def entropy_at(tau: Tensor) -> Tensor:
    law = (ell / tau).softmax(0)
    return -(law * law.log()).sum()


for tau in (0.3, 1.0, 3.0):
    with torch.enable_grad():
        leaf = torch.tensor(tau).double().requires_grad_()
        slope = torch.autograd.grad(entropy_at(leaf), leaf)[0]
    law = (ell / tau).softmax(0)
    spread = (law * (ell - (law * ell).sum()) ** 2).sum()
    assert torch.allclose(slope, spread / tau**3, atol=1e-12)  # proposition 3
draws = 20_000 if fast else 100_000
chance = torch.rand(draws, generator=seeded(8)).double()
for tau, k in ((1.0, 0), (0.5, 0), (1.0, 5)):
    drawn = next_token(ell.expand(draws, 64), chance, tau, k).bincount(minlength=64) / draws
    law = (ell / tau).softmax(0)
    kept = law >= law.topk(k or 64).values[-1]
    cut = law * kept / law[kept].sum()
    assert float((drawn - cut).abs().max()) < 5 * 0.5 / math.sqrt(draws)
    assert not drawn[~kept].any()
    divergence = float((cut[kept] * (cut[kept] / law[kept]).log()).sum())
    assert abs(divergence + math.log(float(law[kept].sum()))) < 1e-12  # -log of the mass that is kept
    print(f"τ = {tau:g}, top {k or 64}: entropy {float(-(cut[kept] * cut[kept].log()).sum()):.2f} nats, "
          f"the kept have {percent(float(law[kept].sum()))}")  # fmt: skip

# %% [markdown]
# **Keys and values that are kept.** To write token $i$ the transformer needs the keys and values of all earlier
# tokens, in each layer. A causal network computes the same ones in every pass: nothing that comes later changes them.
# So they are kept, and each step computes *one* token: its query, key and value (the caption's tokens all in the first
# step). Without that, step $i$ computes $i$ tokens anew. For a caption of 24 tokens and an image of 64 these are
# $\sum_{i = 24}^{87} i = 3552$ tokens in the place of 87, 41 times as many; for the small model here, with 16 and 16,
# 376 in the place of 31. How many times as *long* it takes depends on how well a machine is used by a single token.

# %%
gpt, few = dalle.gpt, dalle.read(texts[:6])
chance = torch.rand(6, gpt.places - 1, generator=seeded(9), dtype=torch.float64)
_, index = write_image(gpt, few, chance)
whole = dalle.joined(few, index)
kept, steps = Cache(len(gpt.transformer.blocks)), []
for at in range(whole.shape[1] - 1):
    steps.append(gpt(whole[:, at : at + 1], kept))
one_by_one, at_once = torch.cat(steps, dim=1), gpt(whole[:, :-1])
shown = at_once.isfinite()
assert torch.equal(shown, one_by_one.isfinite())
assert torch.allclose(one_by_one[shown], at_once[shown], atol=1e-5)  # the same numbers
assert torch.equal(write_image(gpt, few, chance, cached=False)[1], index)  # and the same image


many, luck = dalle.read(texts[:128]), torch.rand(128, gpt.places - 1, generator=seeded(9), dtype=torch.float64)


def cost_of(cached: bool) -> tuple[float, float]:
    """Seconds, the least of three, and operations of writing 128 images."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        write_image(gpt, many, luck, cached=cached)
        seconds.append(time.perf_counter() - start)
    with FlopCounterMode(display=False) as counter:
        write_image(gpt, many, luck, cached=cached)
    return min(seconds), counter.get_total_flops()


with_cache, without = cost_of(True), cost_of(False)
tokens_ratio = sum(range(gpt.length, gpt.places)) / (gpt.places - 1)
ratios = without[0] / with_cache[0], without[1] / with_cache[1]
print(f"without a cache: {tokens_ratio:.1f} times the tokens, {ratios[1]:.1f} times the operations, "
      f"{ratios[0]:.1f} times the seconds")  # fmt: skip
assert ratios[0] > 1
assert ratios[1] > 0.9 * tokens_ratio
depends = jacobian_of(gpt.transformer, gpt.embed(whole[:1, :-1]))
assert not depends.triu(1).any()  # the trained network is causal,
assert torch.equal(depends > 0, torch.ones_like(depends).tril() > 0)  # and reaches every earlier token

# %% [markdown]
# **What temperature does to pictures.** The same captions and chances at several temperatures and $k$: the mean
# entropy of a token's law where it was drawn, in bits, and what the rule finds in the pictures.

# %%
# alt: Four rows of twelve written pictures of the same captions: at temperature 0.25 clean squares; at 1 as well, a
#   few in another colour or place; at 4 patches of all colours; with the two most probable tokens at 4 some squares as
#   asked for and some smears.
COUNT = 64 if fast else 256
said, chance = dalle.read(texts[:COUNT]), torch.rand(COUNT, gpt.places - 1, generator=seeded(10), dtype=torch.float64)
drawn, table = {}, {}
SETTINGS = {"τ = 0.25": (0.25, 0), "τ = 1": (1.0, 0), "τ = 2": (2.0, 0), "τ = 4": (4.0, 0), "τ = 4, top 2": (4.0, 2)}
for name, (tau, k) in SETTINGS.items():
    _, index = write_image(gpt, said, chance, temperature=tau, top_k=k)
    logits = gpt(dalle.joined(said, index)[:, :-1])[:, gpt.length - 1 :, gpt.words :] / tau
    if k:
        logits = logits.masked_fill(logits < logits.topk(k, dim=2).values[..., -1:], -math.inf)
    logs = logits.log_softmax(2)
    bits = -(logs.exp() * logs.clamp_min(-1e9)).sum(2).mean() / math.log(2)
    drawn[name] = dalle.decode(index).clamp(-1, 1)
    table[name] = {"bits a token": float(bits)} | obeyed(drawn[name], inside_of[:COUNT])
print(format_table([
    {"": n, "bits a token": f"{row['bits a token']:.2f}"} | {key: percent(row[key]) for key in (*KEYS, "all")}
    for n, row in table.items()
]))  # fmt: skip
order = [table[name]["bits a token"] for name, (_, k) in SETTINGS.items() if not k]
assert order == sorted(order)
assert table["τ = 4, top 2"]["bits a token"] < table["τ = 4"]["bits a token"]
if not fast:
    assert table["τ = 4"]["all"] < 0.5 * table["τ = 1"]["all"]
    assert table["τ = 0.25"]["bits a token"] < 0.1 < 4 < table["τ = 4"]["bits a token"] < math.log2(gpt.codes)
    assert table["τ = 4, top 2"]["all"] > table["τ = 4"]["all"]
SHOWN = ("τ = 0.25", "τ = 1", "τ = 4", "τ = 4, top 2")
picture_grid(framed(torch.cat([drawn[name][:12] for name in SHOWN])), columns=12, rows=list(SHOWN))

# %% [markdown]
# Cold is best *here*: such a caption leaves nothing open but the noise of the pixels, so the most probable picture is
# the right one. At $\tau = 1$ one picture in eleven is wrong (with section 6's draws, of the same captions by the same
# law, it was one in nine), at $\tau = 2$ four in five. Why so many? One answer, for which we have no control: a
# picture is right if all of its 16 tokens fit together, and a token that was drawn is never taken back: what follows
# is written behind it, as if it had been meant. (A flow, which paints all pixels at once and again in each step, can
# still change its mind.) At $\tau = 4$ nearly nothing is right; of the two most probable tokens alone, two pictures in
# five are. So without the many improbable tokens a little less than half of what is lost from $\tau = 1$ to $\tau = 4$
# comes back; the rest is lost with the second token alone, which at $\tau = 4$ is drawn too often. Where captions
# leave much open, cold writing costs variety: DALL·E's samples are drawn at $\tau = 1$, and chosen afterwards.
#
# ## 8. Choosing among many
#
# DALL·E writes 512 images for a caption and shows those that CLIP finds nearest to it. What can that give? Let the
# score $S$ of an image be a number with a law of its own among the images that the model writes for a caption, write
# $N$ images *independently*, with scores $S_1, \dots, S_N$, and choose the best.
#
# > **Proposition 4.** For standard Gaussian scores, $\mathbb E \max_{i \le N} S_i \le \sqrt{2 \log N}$, and the ratio
# > of the two tends to 1 as $N$ grows. If the distribution function $F$ of the score is continuous (no ties), the law
# > of the chosen image is $N\, F(s)^{N - 1}$ times the model's, $s$ being the image's score, and
# > $$\mathrm{KL}(\text{chosen} \,\|\, \text{model}) = \log N - \frac{N - 1}{N} . \tag{4}$$
#
# **Proof.** By Jensen, for any $\lambda > 0$, $e^{\lambda \mathbb E \max S_i} \le \mathbb E\, e^{\lambda \max S_i} \le
# \sum_i \mathbb E\, e^{\lambda S_i} = N e^{\lambda^2 / 2}$. So $\mathbb E \max S_i \le \frac{\log N}{\lambda} +
# \frac\lambda2$, at its least $\sqrt{2 \log N}$. (That it is reached in the limit: $P(\max S_i < c) = F(c)^N \to 0$
# for $c = (1 - \delta) \sqrt{2 \log N}$, as the tail beyond $c$ is about $N^{-(1 - \delta)^2} \gg \frac1N$, up to a
# power of $\log N$; and the rare small maxima do no harm to the mean, as $\max S_i \ge S_1$.) Each of
# the $N$ is equally probably the best, and is so if the $N - 1$ others are below it: $N F(s)^{N - 1}$. With $U =
# F(S)$, which is uniform, $\mathrm{KL} = \int_0^1 N u^{N - 1} \log (N u^{N - 1})\, du = \log N + (N - 1) \int_0^1 N
# u^{N - 1} \log u\, du = \log N - \frac{N - 1}{N}$. $\blacksquare$
#
# Two lessons. **The price grows like $\log N$, the gain of a Gaussian score like its root**: twice the gain takes about
# $N^4$ images. And no image becomes more than $N$ times as probable as the model made it, so that a choice among few
# leaves the model's law hardly at all, unlike a gradient, which can climb anywhere (lecture 13, Goodhart's trap). What
# the model does not write, CLIP cannot choose.
#
# *What is it good for?* Let the truth about an image, $T$, have correlation $\rho$ with $S$ within a caption, both
# standard and jointly Gaussian. Then $T = \rho S + \sqrt{1 - \rho^2}\, \xi$ with $\xi$ of mean 0 and independent of all
# scores, so of the choice, and
# $$\mathbb E\, T_\text{chosen} = \rho\; \mathbb E \max_{i \le N} S_i . \tag{5}$$
# An oracle, which chooses by $T$ itself, has $\rho = 1$: a score brings the share $\rho$ of its gain, at every $N$. The
# mean of $\xi$ stays 0. **What CLIP cannot tell apart, no number of candidates improves.**


# %%
def expected_max(n: int, nodes: int = 40_001) -> float:
    """The mean of the largest of n standard Gaussian numbers, by a quadrature."""
    s = torch.linspace(-9, 9, nodes, dtype=torch.float64)
    cdf = torch.special.ndtr(s)
    return float(torch.trapezoid(s * n * cdf ** (n - 1) * torch.exp(-(s**2) / 2) / math.sqrt(2 * math.pi), s))


def chosen_on_average(score: Tensor, truth: Tensor, n: int) -> Tensor:
    """The truth about the best of n by the score, over all subsets of n of the M candidates; (B, M), (B, M) -> (B,)."""
    many = score.shape[1]
    weights = torch.tensor([math.comb(below, n - 1) / math.comb(many, n) for below in range(many)], dtype=torch.float64)
    return (truth.double().gather(1, score.argsort(1)) * weights).sum(1)


u = (torch.arange(200_000).double() + 0.5) / 200_000
for n in (2, 8, 64):
    relative = n * u ** (n - 1)
    assert abs(float(torch.special.xlogy(relative, relative).mean()) - (math.log(n) - (n - 1) / n)) < 1e-3  # (4)
assert abs(expected_max(2) - 1 / math.sqrt(math.pi)) < 1e-9  # a closed form
assert abs(expected_max(3) - 1.5 / math.sqrt(math.pi)) < 1e-9
assert all(expected_max(n) <= math.sqrt(2 * math.log(n)) for n in (2, 8, 64, 512))
share_of = [expected_max(n) / math.sqrt(2 * math.log(n)) for n in (8, 64, 512, 2**20)]
assert share_of == sorted(share_of)
pool, rho = 2000 if fast else 20_000, 0.4
s = torch.randn(pool, 16, generator=seeded(11)).double()
truth = rho * s + math.sqrt(1 - rho**2) * torch.randn(pool, 16, generator=seeded(12)).double()
for n in (1, 4, 16):
    gain = chosen_on_average(s, truth, n)
    assert abs(float(gain.mean()) - rho * expected_max(n)) < 5 * float(gain.std()) / math.sqrt(pool)  # (5)
assert torch.allclose(chosen_on_average(s, truth, 1), truth.mean(1))
few = s[:1, :6], truth[:1, :6]
by_hand = [float(few[1][0, max(three, key=lambda i: few[0][0, i])]) for three in combinations(range(6), 3)]
assert abs(float(chosen_on_average(*few, 3)) - sum(by_hand) / len(by_hand)) < 1e-12
print(format_table([
    {"N": n, "E max": f"{expected_max(n):.2f}", "√(2 log N)": f"{math.sqrt(2 * math.log(n)):.2f}",
     "moved, nats": f"{math.log(n) - (n - 1) / n:.2f}"} for n in (2, 8, 64, 512)
]))  # fmt: skip

# %% [markdown]
# **Measured.** The small model at $\tau = 2$, where most of its pictures are wrong. Two scores choose: the model's own
# $\log p(z \mid y)$, and the zoo's CLIP, which has learned from scenes of coloured digits and has never seen a square.
# Beside them an *oracle* takes a right picture if there is one. Not one choice of $N$ counts but all subsets of the 64
# candidates: one with $r$ candidates below it is the best in $\binom{r}{N - 1}$ of the $\binom{64}{N}$.

# %%
# alt: Left, against N from 1 to 64 on a logarithmic axis, the mean best score in standard deviations, of CLIP and of
#   the log-probability, beside the curve for Gaussian scores and the root of 2 log N above it. Right, the shares of
#   right pictures when chosen by either, and by an oracle, whose curve is the highest.
PROMPTS, EACH = (6, 8) if fast else (48, 64)
clip = load_pretrained("clip-vit").module
named = [text for text in texts[:PROMPTS] for _ in range(EACH)]
said, chance = dalle.read(named), torch.rand(len(named), gpt.places - 1, generator=seeded(13), dtype=torch.float64)
index = write_image(gpt, said, chance, temperature=2.0)[1]
candidates = dalle.decode(index).clamp(-1, 1)
found = what_is_in(candidates) == inside_of[:PROMPTS].repeat_interleave(EACH, 0)
right = found.all(1).double().reshape(PROMPTS, EACH)
scores = {
    "log p(z | y)": dalle.log_prob(said, index)[1].reshape(PROMPTS, EACH),
    "CLIP": similarity(clip, candidates, named).double().reshape(PROMPTS, EACH),
}
sizes = [2**k for k in range(7) if 2**k <= EACH]
best, correct = {}, {}
for name, score in scores.items():
    standard = (score - score.mean(1, keepdim=True)) / score.std(1, keepdim=True)
    for n in sizes:
        best[name, n] = float(chosen_on_average(standard, standard, n).mean())
        correct[name, n] = float(chosen_on_average(score, right, n).mean())
for n in sizes:
    correct["oracle", n] = float(chosen_on_average(right, right, n).mean())
print(format_table([
    {"N": n, "if Gaussian": f"{abs(expected_max(n)):.2f}"}
    | {f"best {name}": f"{abs(best[name, n]):.2f}" for name in scores}
    | {f"right by {name}": percent(correct[name, n]) for name in (*scores, "oracle")} for n in sizes
]))  # fmt: skip
for name in scores:
    assert [best[name, n] for n in sizes] == sorted(best[name, n] for n in sizes)
    assert all(correct["oracle", n] >= correct[name, n] - 1e-9 for n in sizes)
    assert abs(correct[name, 1] - float(right.mean())) < 1e-9  # nothing to choose from
assert abs(correct["oracle", EACH] - float((right.sum(1) > 0).double().mean())) < 1e-9
if not fast:
    assert all(correct[name, 64] > correct[name, 1] + 0.1 for name in scores)
    assert correct["oracle", 64] > 0.95 > 0.8 > correct["CLIP", 64] > correct["log p(z | y)", 64] + 0.05
    assert correct["oracle", 8] > correct["CLIP", 64]
    assert all(abs(best[name, n] - expected_max(n)) < 0.5 for name in scores for n in sizes)
figure, (left, beside) = plt.subplots(1, 2, figsize=(9.4, 3.1), layout="constrained")
for name, colour in (("log p(z | y)", ACCENT), ("CLIP", BLUE)):
    left.plot(sizes, [best[name, n] for n in sizes], "o-", color=colour, label=f"best of N by {name}")
    beside.plot(sizes, [correct[name, n] for n in sizes], "o-", color=colour, label=f"chosen by {name}")
left.plot(sizes, [expected_max(n) for n in sizes], color=INK, label="if it were Gaussian")
left.plot(sizes, [math.sqrt(2 * math.log(n)) for n in sizes], "--", color=GREY, label="√(2 log N)")
beside.plot(sizes, [correct["oracle", n] for n in sizes], "--", color=GREY, label="by an oracle")
for ax, title in ((left, "score, in standard deviations"), (beside, "share of chosen pictures that are right")):
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.set(xlabel="candidates N", title=title)
    ax.legend()
beside.set_ylim(0, 1.02)
plt.show()

# %% [markdown]
# **How to read it.** The best score grows as the largest of Gaussian numbers does, and a little more slowly at the end:
# the upper tails of both scores are shorter than a Gaussian's. For these 48 captions CLIP takes the share of right
# pictures from a fifth to more than two thirds, though it has never seen a square: colours, places and backgrounds are
# among the words that it has learned. The model's own probability helps less: it says what the
# model finds probable, its mistakes included. An oracle with 8 candidates is better than CLIP with 64.
# (5) says the same of Gaussians: at an equal number of candidates a score brings a share of the oracle's gain. (Being
# right is no Gaussian number, so this share need not be the same at every $N$ here.)
#
# ## 9. The whole bound, in bits
#
# (1) can be computed for real pictures, since the values of a pixel have probabilities (section 3). In bits for each
# of the 768 numbers of a picture: the distortion, and the rate with the uniform prior, with the transformer's, and with
# the transformer's under the caption of *another* picture. With the most probable tokens in the place of drawn ones the
# encoder is another, and the bound another bound. What a caption is *worth* is the difference to a prior that is told
# none, $p(z)$: the mean of $p(z \mid y)$ over all captions, of which there are only 108 here.
#
# And the gap of (1)? $-\log p(x \mid y)$ itself needs a sum over $K^n$ grids. But with $M$ independent draws the bound
# $- \mathbb E \log \frac1M \sum_m \frac{p(x \mid z_m)\, p(z_m \mid y)}{q(z_m \mid x)}$ (Burda et al. 2016) lies between
# it and (1), by Jensen. So what it gains is a part of the gap.

# %%
number, many = (16, 4) if fast else (96, 16)
dims = x[0].numel()


def bits_of(nats: Tensor) -> float:
    return float(nats.mean()) / dims / math.log(2)


priors = {
    "uniform": {"uniform": True},
    "the transformer's": {},
    "under another's caption": {"others": True},
    "the transformer's, most probable tokens": {"hard": True},
}
measured = {}
for name, options in priors.items():
    under = texts[1 : number + 1] if options.pop("others", False) else texts[:number]
    bound = bound_of_images(dalle, x[:number], under, generator=seeded(14), **options)
    measured[name] = {key: bits_of(part) for key, part in
                      (("distortion", bound.distortion), ("rate", bound.rate), ("bound", bound.total))}  # fmt: skip
print(format_table([{"prior": n} | {key: f"{bits:.4f}" for key, bits in row.items()} for n, row in measured.items()]))
repeated = [text for text in texts[:number] for _ in range(many)]
again = bound_of_images(dalle, x[:number].repeat_interleave(many, 0), repeated, generator=seeded(15)).total
each = again.reshape(number, many)
tighter = math.log(many) - (-each).logsumexp(1)
print(f"with one draw {bits_of(each):.4f}, with {many} draws {bits_of(tighter):.4f}: "
      f"{bits_of(each.mean(1) - tighter):.4f} bits at least are the gap of q")  # fmt: skip
saved = dims * (measured["uniform"]["rate"] - measured["the transformer's"]["rate"])
wrong = dims * (measured["under another's caption"]["rate"] - measured["the transformer's"]["rate"])
print(
    f"an image: the second stage saves {saved:.1f} of {dims * measured['uniform']['rate']:.1f} bits, "
    f"a wrong caption costs {wrong:.1f}"
)
every_text = sorted(set(squares(2000, 2).captions))  # all there are
index, own = dalle.encode(x[:32]), torch.tensor([every_text.index(text) for text in texts[:32]])
said = dalle.read(every_text * 32)
under_each = dalle.log_prob(said, index.repeat_interleave(len(every_text), 0))[1].reshape(32, -1)  # log p(z | y), all y
untold = under_each.logsumexp(1) - math.log(len(every_text))  # log p(z): a prior that is not told
worth = float((under_each[torch.arange(32), own] - untold).mean()) / math.log(2)
print(
    f"a caption is worth {worth:.1f} bits; that it is one of {len(every_text)} is {math.log2(len(every_text)):.1f} bits"
)
assert len(every_text) == 4 * 9 * 3
assert measured["uniform"]["distortion"] == measured["the transformer's"]["distortion"]  # the prior is not in it
assert bool((tighter <= each.mean(1) + 1e-9).all())  # Jensen
if not fast:
    assert 0.8 * 16 * math.log2(32) < saved < 16 * math.log2(32)
    assert 0.8 * math.log2(108) < worth < wrong / 5

# %% [markdown]
# **How to read it.** Nearly all of the bound is distortion. The rate with the uniform prior is 79 bits a picture, 80
# less what is left open by the encoder; the second stage saves 78 of them: under its caption a picture's tokens are all
# but certain. The caption is worth 6.8 bits, which is all that it can be worth: the tokens say which of the 108
# captions it was, and the transformer knows it. To be told a *wrong* caption costs nine times as much. That is not
# what a caption tells, but what it costs to hold for impossible what is the case.
#
# **What is lost, exactly.** These pictures have a law that we know: a caption says all of a picture but its noise, a
# Gaussian of width 0.04 on each number, rounded and clamped. So $p^*(x \mid y)$ is a product of differences of normal
# distribution functions, and the loss (2) of both stages together can be computed and not only bounded.

# %%
value, base = ((x[:number] + 1) * 127.5).round().double(), clean(inside_of[:number]).double()
low = torch.where(value == 0, -99.0, ((value - 0.5) / 255 - base) / 0.04)
high = torch.where(value == 255, 99.0, ((value + 0.5) / 255 - base) / 0.04)
low, high = torch.where(low > 0, -high, low), torch.where(low > 0, -low, high)  # the tail in which nothing cancels
least = float(-(torch.special.ndtr(high) - torch.special.ndtr(low)).log2().mean())
transformer = measured["the transformer's"]
lost, rate = dims * (transformer["bound"] - least), dims * transformer["rate"]
print(f"the noise alone is {least:.4f} bits a number; the bound is {transformer['bound']:.4f}")
print(f"so both stages lose {lost:.0f} bits a picture, the second at most {rate:.1f} of them")
known = dims * bits_of(each.mean(1) - tighter)
assert 0 < least < transformer["bound"]  # a bound: nothing codes these pictures in fewer bits
if not fast:
    assert lost > 10 * max(rate, known)

# %% [markdown]
# By far the most is lost by the first stage. The second loses at most the mean rate, which is $I(x; z \mid y)$ and its
# loss. The gap of $q$, of which 16 draws show 0.0089 bits a number, 6.8 bits a picture, is the smaller part of what
# the first stage loses, or they do not show most of it. What else? By (2) a decoder with blurred edges, or with
# another law of the pixels than theirs (ours is a logistic one, the noise is Gaussian), loses bits even where the gap
# of (1), which belongs to the model, is 0. Which of these it is, this experiment does not say.
#
# ## 10. A model of scenes from the zoo
#
# The recipe itself is too long for a lecture. `zoo:dalle` was trained by it: the dVAE for 8 minutes, the transformer
# for 23, both on about one core. Its scenes have one or two coloured digits, its captions name the colour, the size
# and the place of each. The judge, a network that reads what is in a scene, says what is right in a picture; "all" is
# the share of pictures in which all is right that the caption names.

# %%
# alt: Eight scenes with their captions: coloured digits, large or small, on black, grey or white, painted by DALL-E and
#   chosen by CLIP among 16.
scenes = tests.batch(torch.arange(8 if fast else 96))
zoo = load_pretrained("dalle")
painter, wanted = zoo.module, scenes["caption"]
said = painter.read(wanted)
painted = {
    "test scenes": scenes["x"], "from their tokens": painter.decode(painter.encode(scenes["x"])),
    "written": zoo.sample(said, seed=0), "written at τ = 0.5": zoo.sample(said, temperature=0.5, seed=0),
    "best of 16": zoo.sample(said, candidates=16, seed=0),
    "best of 16 at τ = 0.5": zoo.sample(said, candidates=16, temperature=0.5, seed=0),
}  # fmt: skip
obeys = {name: score_captions(part.clamp(-1, 1), wanted) for name, part in painted.items()}
SHOWN = ("digit", "colour", "size", "place", "background", "count", "all")
print(format_table([{"pictures": n} | {key: percent(row[key]) for key in SHOWN} for n, row in obeys.items()]))
if not fast:
    assert obeys["from their tokens"]["all"] > 0.8
    assert obeys["best of 16"]["all"] > obeys["written"]["all"] + 0.1
    assert obeys["written at τ = 0.5"]["all"] > obeys["written"]["all"]
captioned_grid(painted["best of 16 at τ = 0.5"][:8].clamp(-1, 1), wanted[:8])

# %% [markdown]
# Of these 96 captions two thirds are obeyed by the first picture that is written, 90 % by the best of 16, and 94 %
# when colder pictures are chosen among. That is more than the scenes themselves show when they come back from their
# own tokens, 88 %: strokes of 512 kinds of patch are hard to tell apart in some scenes, and CLIP leaves out pictures
# in which they are. Nearly all that is lost is the digit.
#
# Three seeds of 100 captions are in [`tables/14_choosing.md`](tables/14_choosing.md). At $\tau = 1$ CLIP takes the
# share of right pictures from 64 % to 89 % among 8, and to 91 % among 64: what it cannot tell apart, more candidates
# do not improve. An oracle has 99 % among 8. The model's own probability is worth little: 71 % among 8, and no more
# after that; at $\tau = 0.5$ choosing by it does harm, 77 % before and 64 % after a choice among 64
# ([`tables/14_cold.md`](tables/14_cold.md)), where CLIP reaches 93 %.
#
# One picture of each of 250 captions, with three seeds ([`tables/14_drawing.md`](tables/14_drawing.md)): at $\tau = 1$
# all is right in 63 %, at 0.7 in 74 %, at 0.25 in 71 %. Between the last two, captions of one digit still gain, 89 to
# 95 %, and those of two lose, 55 to 43 %. In the table above, the number of digits is right in 97 % at $\tau = 1$ and
# in 90 % at 0.5. So colder is not better at all ends: the most probable picture here is one that leaves something out.
#
# And the bound ([`tables/14_bits.md`](tables/14_bits.md)): 3.17 bits a pixel and channel with the uniform prior, 3.03
# with the transformer's, of tokens that are drawn. With the most probable tokens in their place the rate is 0.07 and
# the distortion 5.51: the decoder has learned from draws, and for tokens that are no draws it is sure of wrong values.
# To the judge that makes no difference, to a code it does. And a flow, for which pixels are all there is? Five minutes
# of one core, without captions: 2.67 ± 0.03 on 1,000 of the same scenes, by the bound of lecture 08, with noise in the
# bins of the pixels, which can only add to it ([`tables/14_flow.md`](tables/14_flow.md)).
#
# ## 11. Watch it
#
# Pictures while they are written at $\tau = 0.5$, token after token, row after row. What is not written yet is grey.

# %%
if not fast:
    lines = [texts[i] for i in range(6)]
    index = write_image(
        gpt, dalle.read(lines), torch.rand(6, gpt.places - 1, generator=seeded(16)).double(), temperature=0.5
    )[1]
    codes, side = gpt.grid[0] * gpt.grid[1], dalle.dvae.factor
    frames = []
    for done in range(codes + 1):
        known = torch.arange(codes) < done
        weights = torch.full((6, gpt.codes, codes), 1 / gpt.codes)  # a mixture of all where nothing is written
        weights[:, :, known] = F.one_hot(index[:, known], gpt.codes).transpose(1, 2).float()
        made = dalle.dvae.decode(weights.unflatten(2, gpt.grid)).clamp(-1, 1)
        mask = known.reshape(gpt.grid).repeat_interleave(side, 0).repeat_interleave(side, 1)
        figure, axes = plt.subplots(2, 3, figsize=(4.8, 4.6), dpi=80, layout="constrained")
        for ax, one, line in zip(axes.flat, torch.where(mask, made, 0.6), lines, strict=True):
            ax.imshow(tile(one[None], 1).numpy())
            ax.set_title(line.replace(" at ", "\nat ").replace(", ", ",\n"), fontsize=8)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(visible=True, color=GREY)
        figure.supxlabel(f"token {done} of {codes}", fontsize=9)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        plt.close(figure)
        frames.append(Image.open(buffer).convert("RGB").quantize(method=Image.Quantize.FASTOCTREE))
    frames[0].save("images/14_tokens.gif", save_all=True, append_images=frames[1:], loop=0,
                   duration=[4000 // codes] * codes + [2500])  # fmt: skip
    assert torch.allclose(made, dalle.decode(index).clamp(-1, 1), atol=1e-5)  # the last frame is the picture
    thumbnail, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
    ax.imshow(tile(framed(written[:28].clamp(-1, 1)), 7).numpy())
    ax.set_axis_off()
    thumbnail.savefig("images/14.png", dpi=50)
    plt.close(thumbnail)
print(f"{time.perf_counter() - begun:.0f} s from the first cell")

# %% [markdown]
# ![Pictures that are written token by token behind their captions](images/14_tokens.gif)
#
# ## What fails, and why
#
# - **A patch that sees a later one:** the training loss is wonderful, and samples are noise. Test the Jacobian.
# - **Targets that are not shifted by one:** the same, as each token is asked for itself.
# - **Code $k$ read as the text's token $k$:** both kinds need numbers of their own.
# - **Too large a KL weight:** the posterior collapses (section 2, $\beta = 2$), and tokens say nothing of the image.
#   The full weight from the first step on invites the same (section 3). A dVAE kept warm: lecture 09, section 7.
# - **The density of a pixel as its likelihood:** the bound of an image with flat regions is as good as one likes.
# - **A cache that keeps only what the token at hand sees:** a later token, in the same layer, sees what is missing.
# - **A cosine of CLIP as the measure** of what CLIP has chosen: lecture 13, Goodhart's trap.
#
# ## Change this
#
# Some asserts speak of the lecture's own numbers: they may stop a cell, mostly after it has printed what you want.
#
# - In section 2, let `prior_of` have two equal rows. Which terms vanish?
# - In section 5, make the window $5 \times 5$ (`kernel=5`). How many layers does it need, and how many pairs?
# - In section 6, train with `layers="full"`. Is the loss of the image's tokens lower?
# - In section 6, train with `text_weight=0.0`, then 0.9. What happens to the written pictures?
# - In section 8, let the truth be $\max(S, 0)$, shifted and scaled to mean 0 and variance 1. Then $\rho = 0.86$. Is (5)
#   an under- or an overestimate for large $N$?
#
# ## Further reading
#
# - Ramesh, Pavlov, Goh, Gray, Voss, Radford, Chen, Sutskever. *Zero-shot text-to-image generation.* 2021,
#   arXiv:2102.12092.
# - van den Oord, Vinyals, Kavukcuoglu. *Neural discrete representation learning.* 2017, arXiv:1711.00937: tokens of
#   images and an autoregressive law of them, with a nearest vector in the place of a draw (lecture 10).
# - Child, Gray, Radford, Sutskever. *Generating long sequences with sparse transformers.* 2019, arXiv:1904.10509: the
#   patterns.
# - Provilkov, Emelianenko, Voita. *BPE-dropout: simple and effective subword regularization.* 2020, arXiv:1910.13267.
# - Burda, Grosse, Salakhutdinov. *Importance weighted autoencoders.* 2016, arXiv:1509.00519.
# - Holtzman, Buys, Du, Forbes, Choi. *The curious case of neural text degeneration.* 2020, arXiv:1904.09751: why a
#   probable text is not a good one, and what to cut from the law of a token.
# - Esser, Rombach, Ommer. *Taming transformers for high-resolution image synthesis.* 2021, arXiv:2012.09841: tokens
#   from a first stage with an adversarial loss.
#
# **Now build it:** [exercise 14](../exercises/14_dalle.ipynb). **Next:** lecture 15, DALL·E 2 and DALL·E 3, where one
# vector stands between a caption and its picture, and where the captions themselves get better.
