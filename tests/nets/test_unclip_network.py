"""The decoder of unCLIP: it starts as the painter that it is made of, and reads embeddings in two ways."""

import pytest
import torch
from examples import normal

from flowlib.fields import Model
from flowlib.nets import TextTransformer, UNet
from flowlib.nets.captioned import Captioned
from flowlib.nets.tokenizer import Tokenizer
from flowlib.nets.unclip import TOKENS, CaptionedEmbedding

SIZE = 8


def made(kind: type[Captioned]) -> Captioned:
    """A painter, or a decoder of the same first weights, of which none is silent but what a decoder adds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = Tokenizer(259, 24)
        text = TextTransformer(259, 24, words.end, words.padding, width=16, depth=1, heads=2, causal=False)
        net = UNet(3, (8, 16), depth=1, classes=None, attention=(1,), heads=2, dim=16, context_dim=16)
        given = (net, text, words, net.condition_dim)
        whole = kind(*given, SIZE) if kind is CaptionedEmbedding else kind(*given)  # type: ignore[call-arg]
        torch.manual_seed(1)
        for name, parameter in whole.named_parameters():
            if not name.startswith(("added.", "tokens.")):
                torch.nn.init.normal_(parameter, std=0.2)
    return whole.eval()


def unit(seed: int, count: int = 2) -> torch.Tensor:
    return torch.nn.functional.normalize(normal(seed, count, SIZE), dim=1).float()


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return normal(0, 2, 3, 8, 8).float(), torch.tensor([0.2, 0.7])


def test_without_an_embedding_it_starts_as_the_painter() -> None:
    painter, decoder = made(Captioned), made(CaptionedEmbedding)
    assert isinstance(decoder, CaptionedEmbedding)
    tokens, (x, t) = painter.tokenizer(["a red seven", "a two"]), inputs()
    none = decoder(x, t, decoder.guide(tokens, torch.zeros(2, SIZE)))
    torch.testing.assert_close(none, painter(x, t, tokens), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(decoder(x, t), painter(x, t), atol=1e-6, rtol=1e-5)
    assert float((decoder(x, t, decoder.guide(tokens, unit(3))) - none).detach().abs().max()) > 1e-4


def test_an_embedding_is_added_to_the_time_and_is_four_tokens_of_context() -> None:
    decoder = made(CaptionedEmbedding)
    assert isinstance(decoder, CaptionedEmbedding)
    tokens, (x, t), e = decoder.tokenizer(["a red seven", "a two"]), inputs(), unit(3)
    seen: dict[str, torch.Tensor] = {}

    def look(module: torch.nn.Module, given: tuple, named: dict, out: torch.Tensor) -> None:
        seen.update(context=named["context"][0], mask=named["context"][1], more=named["more"])

    decoder.net.register_forward_hook(look, with_kwargs=True)
    decoder(x, t, decoder.guide(tokens, e))
    assert TOKENS == 4
    assert seen["context"].shape == (2, 24 + 4, 16)
    assert seen["mask"].sum(1).tolist() == [int((row != decoder.tokenizer.padding).sum()) + 4 for row in tokens]
    wanted = (e * SIZE**0.5) @ decoder.tokens.weight.T + decoder.tokens.bias
    torch.testing.assert_close(seen["context"][:, 24:].flatten(1), wanted)
    silent = seen["more"]
    with torch.no_grad():
        decoder.added.layer.weight.copy_(torch.eye(16, SIZE))
    decoder(x, t, decoder.guide(tokens, e))
    torch.testing.assert_close(seen["more"] - silent, torch.cat([e * SIZE**0.5, torch.zeros(2, 8)], dim=1))
    decoder(x, t, decoder.guide(tokens, torch.zeros(2, SIZE)))
    assert not seen["mask"][:, 24:].any()
    torch.testing.assert_close(seen["more"], silent)
    with torch.no_grad():
        decoder.added.none += 1
    decoder(x, t)
    assert bool((seen["more"][0] != silent[0]).any())


def test_guides_that_do_not_fit_are_refused() -> None:
    decoder = made(CaptionedEmbedding)
    assert isinstance(decoder, CaptionedEmbedding)
    tokens, (x, _) = decoder.tokenizer(["a red seven", "a two"]), inputs()
    field, good = Model(decoder), decoder.guide(tokens, unit(0))
    field.u(x, 0.5, good)
    for y, says in (
        (good[:, :-1], "y must be a tensor with one guide a sample"),
        (good.long(), "y must be captions and embeddings"),
        (decoder.guide(torch.zeros_like(tokens), unit(0)), "y must have the end token"),
        (decoder.guide(tokens, 3 * unit(0)), "embeddings of unit length, or zeros"),
    ):
        with pytest.raises(ValueError, match=says):
            field.u(x, 0.5, y)
    with pytest.raises(ValueError, match=r"embedding must have shape \(2, 8\), got \(2, 7\)"):
        decoder.guide(tokens, unit(0)[:, :7])
