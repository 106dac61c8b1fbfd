"""Tokens drawn one after the other: their law, temperature, top-k, the cache, texts that are drawn too, re-ranking."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from examples import normal, seeded
from torch import Tensor, nn

from flowlib.data import Scenes
from flowlib.nets.patterns import layer_patterns
from flowlib.nets.text_image import DALLE, TextImageGPT
from flowlib.nets.transformer_block import Cache
from flowlib.runs import load_run
from flowlib.systems.reranking import rank, similarity
from flowlib.systems.token_sampling import next_token, write_image

LOGITS = torch.tensor([0.3, -1.0, 1.2, 0.0, 1.2])
DRAWS = 100_000


def frequencies(**options: Any) -> Tensor:
    chance = torch.rand(DRAWS, generator=seeded(0), dtype=torch.float64)
    return next_token(LOGITS.expand(DRAWS, 5), chance, **options).bincount(minlength=5) / DRAWS


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_tokens_are_drawn_from_the_softmax_at_a_temperature(temperature: float) -> None:
    expected = (LOGITS / temperature).softmax(0)
    error = 4.9 * 0.5 / DRAWS**0.5  # exceeded with probability 1e-6
    assert (frequencies(temperature=temperature) - expected).abs().max() < error


def test_top_k_leaves_the_most_probable_and_those_as_probable() -> None:
    for top_k, kept in ((1, [2, 4]), (2, [2, 4]), (3, [0, 2, 4]), (5, range(5)), (0, range(5))):
        found = frequencies(top_k=top_k)
        expected = torch.zeros(5).index_fill(0, torch.tensor(list(kept)), 1.0) * LOGITS.exp()
        assert (found - expected / expected.sum()).abs().max() < 4.9 * 0.5 / DRAWS**0.5
        assert not found[[k for k in range(5) if k not in kept]].any()


def test_no_chance_gives_a_token_without_probability() -> None:
    logits = torch.tensor([[-float("inf"), 0.0, 0.0, -float("inf")]]).expand(3, 4)
    chance = torch.tensor([0.0, 0.5, 1 - 2.0**-53], dtype=torch.float64)
    assert next_token(logits, chance).tolist() == [1, 2, 2]


def make() -> TextImageGPT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        gpt = TextImageGPT(10, 5, 6, (2, 3), 9, (7,), 8, 3, 2, layer_patterns("sparse", 3, 5, 2, 3))
        for parameter in gpt.parameters():
            nn.init.normal_(parameter, std=0.5)
    return gpt.eval()


TEXT = torch.tensor([[7, 1, 4, 8, 9], [7, 2, 8, 9, 9]])


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5}, {"top_k": 3}])
def test_an_image_is_the_same_with_and_without_a_cache(options: dict[str, Any]) -> None:
    gpt, text = make(), TEXT.repeat(20, 1)
    chance = torch.rand(40, 10, generator=seeded(0), dtype=torch.float64)
    said, cached = write_image(gpt, text, chance, **options)
    plain = write_image(gpt, text, chance, cached=False, **options)[1]
    assert torch.equal(said, text)
    assert torch.equal(cached, plain)
    assert cached.shape == (40, 6)
    assert len(cached.unique()) > 2


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
def test_of_trained_weights_the_cache_changes_the_rounding_alone(dtype: torch.dtype, within: float) -> None:
    """A share of the largest logit, about 25: products of other shapes are summed in another order."""
    module: DALLE = load_run("zoo:dalle", "cpu").module  # type: ignore[assignment]
    gpt = module.gpt.to(dtype)
    text = module.read(Scenes(split="test").batch(torch.arange(2))["caption"])
    index = torch.randint(gpt.codes, (2, gpt.places - gpt.length), generator=seeded(0))
    tokens, cache = module.joined(text, index)[:, :-1], Cache(len(gpt.transformer.blocks))
    # Not by the transformer's call, whose logits are in single precision always.
    steps = [gpt.logits(gpt.embed(tokens[:, i : i + 1], len(cache)), cache) for i in range(tokens.shape[1])]
    whole = gpt.logits(gpt.embed(tokens))
    assert whole.dtype == dtype
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=0, atol=within * float(whole.abs().max()))


def test_each_token_is_drawn_from_what_the_transformer_says_of_it() -> None:
    gpt, chance = make(), torch.rand(2, 10, generator=seeded(3), dtype=torch.float64)
    index = write_image(gpt, TEXT, chance)[1]
    logits = gpt(torch.cat([TEXT, index + 10], 1))
    for k in range(6):
        assert torch.equal(next_token(logits[:, 4 + k, 10:], chance[:, 4 + k]), index[:, k])


def test_without_a_text_one_is_drawn_that_ends_and_is_padded() -> None:
    chance = torch.rand(300, 10, generator=seeded(0), dtype=torch.float64)
    text, index = write_image(make(), None, chance, start=7, end=8)
    assert text.shape == (300, 5)
    assert index.shape == (300, 6)
    assert (text[:, 0] == 7).all()
    assert ((text == 8).sum(1) == 1).all()
    after = (text == 8).cumsum(1).roll(1, 1)[:, 1:] > 0
    assert torch.equal(text[:, 1:] == 9, after)
    assert len(text.unique(dim=0)) > 20
    assert torch.equal(write_image(make(), None, chance, start=7, end=8, cached=False)[1], index)


def test_clip_chooses_the_nearest_of_each_text() -> None:
    said = {"a": [1.0, 0.0], "b": [0.0, 1.0]}
    clip: Any = SimpleNamespace(
        text_features=lambda texts: torch.tensor([said[text] for text in texts]),
        image_features=lambda images: torch.nn.functional.normalize(images.flatten(1), dim=1),
    )
    images = normal(0, 2, 4, 2, 1, 1, dtype=torch.float32).clamp(-1, 1)
    cosine = torch.nn.functional.normalize(images.flatten(2), dim=2)
    fit = torch.stack([cosine[0, :, 0], cosine[1, :, 1]])
    torch.testing.assert_close(similarity(clip, images[:, 0], ["a", "b"]), fit[:, 0])
    best = rank(clip, images, ["a", "b"], keep=2)
    for row in (0, 1):
        order = fit[row].argsort(descending=True)[:2]
        assert torch.equal(best[row], images[row, order])
    with pytest.raises(ValueError, match="candidates must be at least 5, as many as are kept, got 4"):
        rank(clip, images, ["a", "b"], keep=5)


def test_bad_input_is_refused_by_name() -> None:
    logits, chance = torch.zeros(1, 4), torch.zeros(1)
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature must be"):
            next_token(logits, chance, temperature)
    with pytest.raises(ValueError, match="top_k must be at most 4, the tokens that there are, got 5"):
        next_token(logits, chance, top_k=5)
    with pytest.raises(ValueError, match="top_k must be"):
        next_token(logits, chance, top_k=-1)
