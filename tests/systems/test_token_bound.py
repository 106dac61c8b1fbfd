"""The evidence bound, on a case in which everything is known: two tokens of three kinds, and images of two pixels."""

import math

import pytest
import torch
from examples import normal, seeded
from torch import Tensor

from flowlib.nets import DiscreteAutoencoder
from flowlib.nets.text_image import DALLE, TextImageGPT
from flowlib.nets.tokenizer import Tokenizer
from flowlib.systems.logit_laplace import log_mass
from flowlib.systems.token_bound import bound_of_images, evidence_bound

KINDS = torch.cartesian_prod(torch.arange(3), torch.arange(3))  # all grids of 1 x 2 tokens
LAW = normal(1, 9).log_softmax(0)  # log p(z) of each


def table(law: Tensor, index: Tensor) -> Tensor:
    """log p(z) of tokens (B, 1, 2)."""
    return law[index.flatten(1) @ torch.tensor([3, 1])]


def certain(index: Tensor) -> Tensor:
    """Logits of an encoder that is sure of tokens (B, 1, 2)."""
    return torch.where(torch.arange(3)[:, None, None] == index[:, None], 0.0, -1e4).double()


def test_where_tokens_are_the_image_the_bound_is_the_cross_entropy() -> None:
    """Its mean over the data is at least their entropy, and is that if the prior is their law."""
    images = KINDS[:, None]  # which the decoder gives back for certain
    entropy = -float((LAW.exp() * LAW).sum())
    for hard in (True, False):
        for prior, gap in ((LAW, 0.0), (torch.full((9,), -math.log(9), dtype=torch.float64), math.log(9) - entropy)):
            bound = evidence_bound(
                certain(images), lambda z: torch.zeros(len(z)), lambda z, prior=prior: table(prior, z), hard=hard,
                generator=seeded(0),
            )  # fmt: skip
            assert float((LAW.exp() * bound.total).sum()) == pytest.approx(entropy + gap, abs=1e-9)
            assert gap >= 0


def posterior(likelihood: Tensor) -> Tensor:
    """log p(z | x) of the 9 grids, and in the last entry log p(x), by enumeration."""
    joint = LAW + likelihood
    return torch.cat([joint - joint.logsumexp(0), joint.logsumexp(0, keepdim=True)])


def test_the_mean_bound_is_never_below_the_evidence_and_the_gap_is_the_divergence_of_the_posterior() -> None:
    likelihood = normal(2, 9)  # log p(x | z) of one image
    exact = posterior(likelihood)
    logits = normal(3, 1, 3, 1, 2)
    q = logits.log_softmax(1)[0, :, 0]
    log_q = q[KINDS[:, 0], 0] + q[KINDS[:, 1], 1]
    gap = float((log_q.exp() * (log_q - exact[:9])).sum())
    draws = 20_000
    bound = evidence_bound(
        logits.expand(draws, -1, -1, -1), lambda z: table(likelihood, z), lambda z: table(LAW, z), generator=seeded(4)
    )
    error = 4.9 * float(bound.total.std()) / draws**0.5  # exceeded with probability 1e-6
    assert float(bound.total.mean()) == pytest.approx(-float(exact[9]) + gap, abs=error)
    assert gap > 0.1
    likely = evidence_bound(logits, lambda z: table(likelihood, z), lambda z: table(LAW, z), hard=True)
    assert float(likely.total) >= -float(exact[9])


def test_with_the_exact_posterior_every_draw_is_the_evidence() -> None:
    apart = normal(5, 3, 2)  # log p(x | z) and log p(z) of each token by itself: so the posterior has that shape too
    prior = normal(6, 3, 2).log_softmax(0)
    logits = (apart + prior)[None, :, None]
    score = lambda part: lambda z: part[z[:, 0, 0], 0] + part[z[:, 0, 1], 1]  # noqa: E731
    bound = evidence_bound(logits.expand(50, -1, -1, -1), score(apart), score(prior), generator=seeded(0))
    evidence = (apart + prior).logsumexp(0).sum()
    torch.testing.assert_close(bound.total, -evidence.expand(50), rtol=0, atol=1e-12)
    assert bound.rate.std() > 0.1


def tiny() -> DALLE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = Tokenizer(262, 12)
        gpt = TextImageGPT(262, 12, 5, (2, 2), words.padding, (words.start,), 8, 1, 2)
        return DALLE(DiscreteAutoencoder(5, 4, 3, 8, 2, law=True), gpt, words).eval()


@torch.no_grad()
def test_the_bound_of_a_model_is_that_of_its_parts() -> None:
    dalle, texts = tiny(), ["a two", "a one", "a two"]
    x = torch.randint(256, (3, 3, 4, 4), generator=seeded(1)) / 127.5 - 1
    index = dalle.encode(x)
    law = dalle.dvae.law(dalle.dvae.one_hot(index.unflatten(1, (2, 2))))
    bound = bound_of_images(dalle, x, texts, hard=True, batch_size=2)
    torch.testing.assert_close(bound.distortion.float(), -log_mass(x, *law).sum((1, 2, 3)), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(bound.rate, -dalle.log_prob(dalle.read(texts), index)[1])
    uniform = bound_of_images(dalle, x, texts, uniform=True, hard=True)
    torch.testing.assert_close(uniform.rate, torch.full((3,), 4 * math.log(5), dtype=torch.float64))
    drawn = bound_of_images(dalle, x, texts, generator=seeded(0))
    assert not torch.equal(drawn.total, bound.total)
    with pytest.raises(ValueError, match="logits must have shape"):
        evidence_bound(torch.zeros(2, 3), lambda z: z, lambda z: z)
