"""The stream of a text and an image: who sees whom, which token may come, padding, places, and the cache."""

import pytest
import torch
from torch import Tensor, nn

from flowlib.nets import Cache, DiscreteAutoencoder
from flowlib.nets.patterns import layer_patterns
from flowlib.nets.text_image import DALLE, TextImageGPT, check_texts_of
from flowlib.nets.tokenizer import Tokenizer

WORDS, LENGTH, CODES, GRID = 10, 5, 6, (2, 3)
START, END, PAD = 7, 8, 9
TEXT = torch.tensor([[START, 1, 4, END, PAD], [START, 2, END, PAD, PAD]])
INDEX = torch.tensor([[0, 5, 2, 2, 1, 3], [4, 4, 0, 1, 5, 2]])
TOKENS = torch.cat([TEXT, INDEX + WORDS], 1)


def make(layers: str = "sparse", depth: int = 3) -> TextImageGPT:
    pattern = layer_patterns(layers, depth, LENGTH, *GRID)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        gpt = TextImageGPT(WORDS, LENGTH, CODES, GRID, PAD, (START,), 8, depth, 2, pattern)
        for parameter in gpt.parameters():
            nn.init.normal_(parameter, std=0.4)
    return gpt.double().eval()


@pytest.mark.parametrize("layers", ["sparse", "full"])
def test_the_jacobian_is_causal(layers: str) -> None:
    """Property 25: zero above the diagonal, to the bit; and every token, near or far, is heard of below it."""
    gpt = make(layers)
    x = gpt.embed(TOKENS[:1]).detach()
    jacobian = torch.autograd.functional.jacobian(lambda x: gpt.logits(x)[0], x)  # (11, 16, 1, 11, 8)
    size = jacobian.abs().amax((1, 2, 4))
    assert not size.triu(1).any()
    assert bool((size[torch.ones(11, 11).tril() > 0] > 0).all())


def test_one_layer_sees_the_whole_text_and_of_the_image_what_its_pattern_says() -> None:
    gpt = make(depth=1)  # shaped like a convolution
    x = gpt.embed(TOKENS[:1]).detach()
    seen = torch.autograd.functional.jacobian(lambda x: gpt.logits(x)[0], x).abs().amax((1, 2, 4)) > 0
    assert torch.equal(seen, layer_patterns("sparse", 1, LENGTH, *GRID)[0])
    assert seen[10].tolist() == [True] * 5 + [False, True, True, True, True, True]


def test_only_what_may_come_has_a_probability() -> None:
    logits = make()(TOKENS)
    text, image = logits[:, : LENGTH - 1], logits[:, LENGTH - 1 :]
    words = [token for token in range(WORDS) if token not in (START, PAD)]
    assert torch.equal(text.isfinite(), torch.isin(torch.arange(16), torch.tensor(words)).expand_as(text))
    assert torch.equal(image.isfinite(), (torch.arange(16) >= WORDS).expand_as(image))


def test_places_are_the_texts_own_and_a_row_plus_a_column_of_the_image() -> None:
    gpt = make()
    x = gpt.embed(TOKENS)
    for place in range(LENGTH - 2):
        torch.testing.assert_close(x[0, place], gpt.token.weight[TEXT[0, place]] + gpt.place.weight[place])
    for k, index in enumerate(INDEX[0].tolist()):
        expected = gpt.token.weight[WORDS + index] + gpt.row.weight[k // 3] + gpt.column.weight[k % 3]
        torch.testing.assert_close(x[0, LENGTH + k], expected)


def test_padding_has_a_vector_of_its_own_at_each_place() -> None:
    gpt = make()
    x = gpt.embed(TOKENS)
    for place in (3, 4):
        torch.testing.assert_close(x[1, place], gpt.padding.weight[place] + gpt.place.weight[place])
    gpt(TOKENS)[:, -2].logsumexp(1).sum().backward()
    assert gpt.padding.weight.grad is not None
    assert gpt.padding.weight.grad.any(1).tolist() == [False, False, False, True, True]  # and is seen by the image
    assert not gpt.token.weight.grad[PAD].any()  # type: ignore[index]


@pytest.mark.parametrize("layers", ["sparse", "full"])
@pytest.mark.parametrize("parts", [(1,) * 11, (5, 1, 1, 1, 1, 1, 1), (3, 6, 2)])
def test_with_a_cache_the_logits_are_the_same(parts: tuple[int, ...], layers: str) -> None:
    gpt = make(layers).float()
    whole, cache, found, at = gpt(TOKENS), Cache(depth=3), [], 0
    for count in parts:
        found.append(gpt(TOKENS[:, at : at + count], cache))
        at += count
    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=0, atol=1e-5)


def tiny() -> DALLE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dvae = DiscreteAutoencoder(CODES, 4, 3, 8, 2, law=True)
        words = Tokenizer(262, 12)
        return DALLE(dvae, TextImageGPT(262, 12, CODES, GRID, words.padding, (words.start,), 8, 1, 2), words).eval()


def test_images_become_tokens_and_come_back_as_the_first_stage_has_them() -> None:
    dalle, x = tiny(), torch.randn(2, 3, 4, 6).tanh()
    index = dalle.encode(x)
    assert index.shape == (2, 6)
    assert torch.equal(index[:, 4], dalle.dvae.encode(x).argmax(1)[:, 1, 1])  # row by row
    torch.testing.assert_close(dalle.decode(index), dalle.dvae(x))
    assert torch.equal(dalle.read(["A Two"]), dalle.read(["a two"]))  # in lower case, as in the paper


def test_log_prob_is_a_distribution() -> None:
    """All images of a text sum to 1; and so do all texts, of which there are few if they may have two bytes."""
    dalle = tiny()
    text = dalle.read(["a two"]).expand(6**6, -1)
    index = torch.cartesian_prod(*[torch.arange(6)] * 6)
    said, drawn = dalle.log_prob(text, index)
    assert float(drawn.exp().sum()) == pytest.approx(1, abs=1e-6)
    tokens = dalle.joined(text[:1], index[:1])
    logs = dalle.gpt(tokens).log_softmax(2)[0]
    expected = sum(logs[i, tokens[0, i + 1]] for i in range(6))  # five bytes and the end
    torch.testing.assert_close(said[0].float(), expected)


def test_bad_input_is_refused_by_name() -> None:
    gpt = make()
    calls: list[tuple[Tensor, str]] = [
        (torch.full((1, 3), 16), "tokens must lie in 0 ... 15"),
        (torch.zeros(1, 12).long(), "N at most 11"),
    ]
    for tokens, says in calls:
        with pytest.raises(ValueError, match=says):
            gpt(tokens)
    for y in (TEXT[:1], TEXT.float(), TEXT[:, :4], "a two"):
        with pytest.raises(ValueError, match=r"y must be tokens of texts \(2, 5\)"):
            check_texts_of(y, gpt, 2)
    with pytest.raises(ValueError, match=r"tokens must lie in 0 \.\.\. 9"):
        check_texts_of(TEXT + 5, gpt, 2)
    for settings in ({"words": 0}, {"codes": 0}, {"length": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
            TextImageGPT(**{"words": 9, "length": 4, "codes": 5, "grid": (2, 2), "padding": 8, **settings})  # type: ignore[arg-type]
