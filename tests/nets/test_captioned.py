"""Networks that read a caption: by every attention layer and beside time; padding and unread words change nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.fields import Model
from flowlib.guidance import ClassifierFreeGuidance
from flowlib.known import remember, remembering
from flowlib.nets import DiT, UNet
from flowlib.nets.attention import Attention
from flowlib.nets.blocks import AttentionBlock
from flowlib.nets.captioned import Captioned, CaptionedBeside, Phrases
from flowlib.nets.embeddings import position_table
from flowlib.nets.tokenizer import Tokenizer
from flowlib.nets.transformer import TextTransformer
from flowlib.regression import drop_guide

TEXTS = ["a red seven", "a blue two", ""]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(kind: str) -> Captioned:
    torch.manual_seed(0)
    tokenizer = Tokenizer(300, 10)
    tokenizer.learn(TEXTS * 5)
    text = TextTransformer(300, 10, tokenizer.end, tokenizer.padding, width=24, depth=1, heads=2, causal=False)
    net: UNet | DiT = (
        UNet(3, (8, 16), 1, None, patch=2, attention=(0, 1), heads=2, dim=20, context_dim=24)
        if kind == "unet"
        else DiT(3, 8, 2, width=24, depth=2, heads=2, classes=None, context_dim=24)
    )
    made = Captioned(net, text, tokenizer, net.condition_dim)
    for parameter in made.parameters():  # what starts at zero would hide all else
        nn.init.normal_(parameter, std=0.1)
    return made


KINDS = pytest.mark.parametrize("kind", ["unet", "dit"])
X, T = torch.randn(3, 3, 8, 8, generator=seeded(1)), torch.tensor([0.1, 0.5, 0.9])


@KINDS
def test_the_caption_is_read_by_all_attention_layers_and_beside_time(kind: str) -> None:
    net = make(kind)
    y = net.tokenizer(TEXTS)
    out = net(X, T, y)
    assert out.shape == X.shape
    other = net(X, T, net.tokenizer(["a blue two", "a blue two", ""]))
    assert not torch.allclose(out[0], other[0], atol=1e-4)
    assert torch.allclose(out[1:], other[1:], atol=1e-5)
    assert torch.allclose(net(X, T), net(X, T, net.tokenizer(["", "", ""])), atol=1e-6)
    joined = [layer for layer in net.net.modules() if isinstance(layer, Attention)]
    assert joined
    assert all(layer.joined for layer in joined)
    # Each way alone is enough to tell captions apart; with all of them cut, nothing is.
    for cut in (net.pooled, *(layer.kv for layer in joined)):
        assert not torch.allclose(net(X, T, y)[0], net(X, T, net.tokenizer(["a blue two"] * 3))[0], atol=1e-5)
        nn.init.zeros_(cut.weight)
    gone = net(X, T, y)
    assert torch.allclose(gone[0], net(X, T, net.tokenizer(["a blue two"] * 3))[0], atol=1e-6)


@KINDS
def test_each_way_alone_carries_the_caption(kind: str) -> None:
    for way in ("tokens", "pooled"):
        net = make(kind)
        for layer in net.net.modules():
            if isinstance(layer, Attention) and way == "pooled":
                nn.init.zeros_(layer.kv.weight)
        if way == "tokens":
            nn.init.zeros_(net.pooled.weight)
        change = net(X, T, net.tokenizer(TEXTS)) - net(X, T, net.tokenizer(TEXTS[::-1]))
        assert change[0].abs().max().item() > 1e-3, way
        assert change[1].abs().max().item() < 1e-6


def test_a_phrase_is_a_word_with_its_neighbours_and_no_other() -> None:
    torch.manual_seed(0)
    phrases, y = Phrases(vocabulary=20, width=8, reach=5, padding=0), torch.arange(1, 10)[None]
    with torch.no_grad():
        found, (mix, bias) = phrases(y), (phrases.mix.weight, phrases.mix.bias)
        rows = F.pad(phrases.word(y)[0], (0, 0, 2, 2))  # two of nothing before and behind
        by_hand = sum(rows[i : i + 9] @ mix[:, :, i].T for i in range(5)) + bias
        assert torch.allclose(found[0], by_hand, atol=1e-5)
        other = y.clone()
        other[0, 4] = 15
        changed = (phrases(other) - found)[0].abs().amax(1) > 1e-6
    assert changed.tolist() == [False, False, True, True, True, True, True, False, False]


@KINDS
def test_what_padding_holds_changes_nothing(kind: str) -> None:
    net = make(kind)
    y = net.tokenizer(TEXTS)
    out = net(X, T, y)
    assert net.phrases is not None
    with torch.no_grad():
        net.text.token.weight[net.tokenizer.padding] += 100
        net.phrases.word.weight[net.tokenizer.padding] += 100
    assert torch.allclose(net(X, T, y), out, atol=1e-5)


def test_joined_attention_is_one_softmax_over_words_and_pixels() -> None:
    torch.manual_seed(0)
    block = AttentionBlock(8, 2, context_dim=5)
    nn.init.normal_(block.attention.out.weight)
    x, words = torch.randn(2, 8, 3, 3), torch.randn(2, 4, 5)
    counts = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]).bool()
    found = block(x, torch.zeros(2, 1), (words, counts))
    pixels = block.norm(x).flatten(2).transpose(1, 2) + position_table(3, 3, 8)  # each is told its place
    q, k, v = block.attention.qkv(pixels).chunk(3, dim=2)
    for i in range(2):
        k2, v2 = block.attention.kv(words[i, counts[i]]).chunk(2, dim=1)
        heads = []
        for h in (slice(0, 4), slice(4, 8)):
            keys, values = torch.cat([k2[:, h], k[i][:, h]]), torch.cat([v2[:, h], v[i][:, h]])
            heads.append((q[i][:, h] @ keys.T / 2).softmax(1) @ values)
        expected = x[i] + block.attention.out(torch.cat(heads, dim=1)).T.reshape(8, 3, 3)
        assert torch.allclose(found[i], expected, atol=1e-5)


def test_one_text_is_read_once_for_all_steps() -> None:
    net, calls = make("unet"), []
    net.text.register_forward_hook(lambda module, arguments, out: calls.append(len(out[0])))
    model, y = Model(net), net.tokenizer(TEXTS)
    with torch.no_grad(), remembering():
        remember(y)
        first = model.predict(X, 0.5, y)
        for _ in range(3):
            assert torch.equal(model.predict(X, 0.5, y), first)
    assert calls == [3]


def test_without_a_text_the_networks_draw_the_same_first_weights() -> None:
    """A context adds layers only where attention joins it."""
    net = UNet(3, (8, 16), 1, None, attention=(1,), heads=2, dim=20, context_dim=24)
    plain = UNet(3, (8, 16), 1, None, attention=(1,), heads=2, dim=20)
    own, other = net.state_dict(), plain.state_dict()
    assert {name for name in own if name not in other} == {name for name in own if ".kv." in name}
    assert set(other) <= set(own)


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (torch.zeros(3, 9, dtype=torch.long), r"y must be a tensor with one guide a sample, \(3, 10\)"),
        (torch.zeros(3, 10), r"y must be tokens \(3, 10\)"),
        (torch.zeros(3, 10, dtype=torch.long), "y must have the end token, 298, in each row"),
    ],
)
def test_guides_that_are_no_captions_are_named(y: Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Model(make("unet")).predict(X, 0.5, y)


def test_settings_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="context_dim needs classes = None, no words, and a level in attention"):
        UNet(3, (8,), 1, None, context_dim=8)
    with pytest.raises(ValueError, match="context_dim needs classes = None"):
        DiT(3, 8, 2, width=24, depth=1, heads=2, context_dim=8)
    with pytest.raises(ValueError, match="reach must be odd, got 4"):
        Phrases(20, 8, 4, 0)


def test_a_tokenizer_is_kept_with_the_weights() -> None:
    tokenizer = Tokenizer(300, 10)
    tokenizer.learn(TEXTS * 5)
    other = Tokenizer(300, 10)
    assert len(other.bpe.encode("a red seven")) == 11
    other.load_state_dict(tokenizer.state_dict())
    assert torch.equal(other(TEXTS), tokenizer(TEXTS))
    assert other.decode(other(TEXTS)) == TEXTS
    rows = other(TEXTS)
    assert bool((rows[:, 0] == other.start).all())
    assert ((rows == other.end).sum(1) == 1).all()
    assert (other.start, other.end, other.padding) == (297, 298, 299)
    with pytest.raises(ValueError, match="texts must have at most 8 tokens"):
        other(["a red seven " * 5])
    with pytest.raises(ValueError, match="vocabulary must be an integer >= 259"):
        Tokenizer(200)


def make_beside(kind: str, shape: tuple[int, ...] = (4, 8, 8), *, noisy: bool = True) -> CaptionedBeside:
    plain = make(kind)
    net: UNet | DiT = (
        UNet(3, (8, 16), 1, None, patch=2, attention=(0, 1), heads=2, dim=20, context_dim=24, beside=shape[0])
        if kind == "unet"
        else DiT(3, 8, 2, width=24, depth=2, heads=2, classes=None, context_dim=24, beside=shape[0])
    )
    made = CaptionedBeside(net, plain.text, plain.tokenizer, net.condition_dim, shape)
    left = made.load_state_dict(plain.state_dict(), strict=False)
    assert left.missing_keys == ["net.beside.weight"]
    assert not left.unexpected_keys
    if noisy:
        nn.init.normal_(made.net.beside.weight, std=0.1)  # type: ignore[union-attr]
    return made


@KINDS
def test_a_network_goes_on_as_it_was_when_it_is_given_room_for_an_image(kind: str) -> None:
    plain, net = make(kind), make_beside(kind, noisy=False)
    image = torch.randn(3, 4, 8, 8, generator=seeded(2))
    tokens = plain.tokenizer(TEXTS)
    assert torch.equal(net(X, T, net.guide(tokens, image)), plain(X, T, tokens))
    net(X, T, net.guide(tokens, image)).square().sum().backward()
    assert float(net.net.beside.weight.grad.abs().max()) > 0  # type: ignore[union-attr]


@KINDS
def test_the_image_is_read_and_only_the_caption_is_dropped(kind: str) -> None:
    net = make_beside(kind)
    image = torch.randn(3, 4, 8, 8, generator=seeded(2))
    y = net.guide(net.tokenizer(TEXTS), image)
    assert y.shape == (3, 10 + 4 * 64)
    out = net(X, T, y)
    moved = image.clone()
    moved[0, 3, 7, 7] += 1
    apart = (net(X, T, net.guide(net.tokenizer(TEXTS), moved)) - out).abs().amax((1, 2, 3))
    assert apart[0] > 1e-5
    assert apart[1:].max() < 1e-6
    model = Model(net)
    null = model.null_like(y)
    assert torch.equal(null, net.guide(net.tokenizer(["", "", ""]), image))
    assert torch.equal(net(X, T), net(X, T, net.guide(net.tokenizer(["", "", ""]), torch.zeros_like(image))))
    # Guidance keeps the image at every scale, 0 included; and in training only captions are dropped.
    for scale in (0.0, 1.0, 2.5):
        expected = (1 - scale) * model.u(X, 0.5, null) + scale * model.u(X, 0.5, y)
        assert torch.allclose(ClassifierFreeGuidance(model, scale).u(X, 0.5, y), expected, atol=1e-5)
    assert torch.equal(drop_guide(model, y, 1.0), null)
    with remembering():
        remember(y)
        assert torch.equal(model.u(X, 0.5, y), model.u(X, 0.5, y))
        assert torch.allclose(ClassifierFreeGuidance(model, 2.5).u(X, 0.5, y), expected, atol=1e-5)


@KINDS
def test_a_small_image_is_scaled_up_bilinearly(kind: str) -> None:
    net, whole = make_beside(kind, (3, 4, 4)), make_beside(kind, (3, 8, 8))
    whole.load_state_dict(net.state_dict())
    small = torch.randn(3, 3, 4, 4, generator=seeded(2))
    large = F.interpolate(small, (8, 8), mode="bilinear", align_corners=False)
    tokens = net.tokenizer(TEXTS)
    assert torch.allclose(net(X, T, net.guide(tokens, small)), whole(X, T, whole.guide(tokens, large)), atol=1e-6)


def test_bad_guides_beside_an_image_are_named() -> None:
    net = make_beside("unet")
    y = net.guide(net.tokenizer(TEXTS), torch.zeros(3, 4, 8, 8))
    model = Model(net)
    with pytest.raises(ValueError, match=r"image must have shape \(3, 4, 8, 8\)"):
        net.guide(net.tokenizer(TEXTS), torch.zeros(3, 4, 8, 7))
    for wrong, says in (
        (y[:, :-1], "y must be a tensor with one guide a sample"),
        (y[:2], "y must be a tensor with one guide a sample"),
        (y.long(), "y must be captions beside images"),
        (torch.zeros_like(y), "end token"),
    ):
        with pytest.raises(ValueError, match=says):
            model.u(X, 0.5, wrong)
