"""CLIP: OpenAI's numbers, a bounded scale, a convolutional encoder, and times that say nothing at first."""

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from openai_clip import IMAGES, TEXTS, like_theirs, load, scattered, swap
from torch import Tensor, nn

from flowlib.nets import CLIP, AttentionPool, ImageCNN, TextTransformer, ViT


@pytest.fixture(autouse=True)
def _seed(seeded_weights: Iterator[None]) -> None:
    """The same weights each time."""


def awake(net: nn.Module) -> nn.Module:
    """In double precision, with weights so large that everything matters."""
    for name, parameter in net.named_parameters():
        if "time.shift" not in name and name != "logit_scale":
            nn.init.normal_(parameter, std=0.3)
    return net.double().eval()


def text() -> TextTransformer:
    return TextTransformer(12, 6, end=9, width=16, depth=1, heads=2)


def cnn(**changes: object) -> ImageCNN:
    return ImageCNN(**({"image_size": 8, "channels": (8, 16), "heads": 2, "out_dim": 5} | changes))  # type: ignore[arg-type]


def encoder(kind: str, timed: bool = False) -> ViT | ImageCNN:
    if kind == "cnn":
        return cnn(timed=timed)
    return ViT(image_size=8, patch=4, width=8, depth=1, heads=2, out_dim=5, timed=timed)


X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
TOKENS = torch.tensor([[8, 1, 9, 10], [8, 2, 3, 9], [8, 9, 10, 10]])


# --- the published network

# What OpenAI's `clip.model.CLIP(**SETTINGS)` gives for IMAGES and TEXTS with the weights `scattered`, in float32: the
# first four components of the features of images and of texts, and the logits per image.
THEIR_IMAGES = [
    [-0.102381, 0.197454, 0.176400, -0.031519],
    [-0.074155, 0.179774, 0.168400, -0.065286],
    [-0.055354, 0.187710, 0.135834, -0.040510],
]
THEIR_TEXTS = [
    [-0.120425, -0.064213, 0.021317, 0.109459],
    [-0.112612, -0.060377, 0.019265, 0.130023],
    [-0.090868, -0.067208, 0.015160, 0.123383],
]
THEIR_LOGITS = [
    [-0.122956, -0.139346, -0.112254],
    [-0.113176, -0.135275, -0.102821],
    [-0.108706, -0.128121, -0.094006],
]


@torch.no_grad()
def test_it_gives_the_numbers_of_openais_code() -> None:
    net = like_theirs()
    load(net, scattered(swap(net.state_dict())))
    for found, expected in (
        (net.encode_image(IMAGES)[:, :4], THEIR_IMAGES),
        (net.encode_text(TEXTS)[:, :4], THEIR_TEXTS),
        (net(IMAGES, TEXTS)[0], THEIR_LOGITS),
    ):
        torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-5)


# --- CLIP


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_logits_are_cosines_by_the_scale(kind: str) -> None:
    clip = awake(CLIP(encoder(kind), text()))
    a, b = clip.encode_image(X), clip.encode_text(TOKENS)
    assert a.shape == (4, 5)
    assert b.shape == (3, 5)
    assert (a.norm(dim=1) - 1).abs().min() > 1e-3  # features are not of unit length
    per_image, per_text = clip(X, TOKENS)
    cosine = torch.stack([F.cosine_similarity(a, row[None]) for row in b], dim=1)
    torch.testing.assert_close(per_image, cosine / 0.07, rtol=1e-6, atol=1e-6)
    assert torch.equal(per_text, per_image.T)
    assert float(clip.logit_scale.detach()) == pytest.approx(math.log(1 / 0.07), abs=1e-6)


def test_the_scale_is_at_most_100_and_can_come_back() -> None:
    clip = CLIP(encoder("cnn"), text())
    for value, scale in ((math.log(1 / 0.07), 1 / 0.07), (4.6, math.exp(4.6)), (5.0, 100.0), (80.0, 100.0)):
        nn.init.constant_(clip.logit_scale, value)
        assert float(clip.scale().detach()) == pytest.approx(scale, rel=1e-5)
        for sign in (1, -1):
            clip.logit_scale.grad = None
            (sign * clip.scale()).backward()
            kept = value < 4.605 or sign > 0  # a positive gradient makes the next step smaller
            assert float(clip.logit_scale.grad) == pytest.approx(sign * scale if kept else 0.0, rel=1e-5)
    with torch.no_grad():
        assert not clip.scale().requires_grad


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_it_learns_which_text_belongs_to_which_image(kind: str) -> None:
    clip = CLIP(encoder(kind), text())
    images, tokens = X[:3].float(), TOKENS
    optimiser = torch.optim.Adam(clip.parameters(), 0.01)
    first = None
    for _ in range(40):
        per_image, per_text = clip(images, tokens)
        loss = (F.cross_entropy(per_image, torch.arange(3)) + F.cross_entropy(per_text, torch.arange(3))) / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        first = float(loss.detach()) if first is None else first
    assert first > 0.3
    assert float(loss.detach()) < 0.02


# --- the convolutional encoder


def test_pooling_by_attention_asks_with_the_mean() -> None:
    pool = awake(AttentionPool(6, 8, 2, 5))
    x = torch.randn(3, 8, 2, 3).double()
    pixels = x.flatten(2).mT
    tokens = torch.cat([pixels.mean(1, keepdim=True), pixels], 1) + pool.places
    expected = pool.attention(tokens[:, :1], tokens)[:, 0]
    torch.testing.assert_close(pool(x), expected, rtol=0, atol=1e-12)
    assert pool(x).shape == (3, 5)
    nn.init.zeros_(pool.places)  # without places it is a bag of pixels
    torch.testing.assert_close(pool(x), pool(x.flip(2, 3)), rtol=0, atol=1e-12)


def test_the_convolutional_encoder_halves_by_means() -> None:
    net = awake(cnn(depth=2))
    image, pixels = net(X)
    assert image.shape == (4, 5)
    assert pixels.shape == (4, 16, 16)
    blocks = [layer for layer in net.layers if type(layer).__name__ == "ConvBlock"]
    h = F.avg_pool2d(blocks[1](blocks[0](net.stem(X))), 2)
    h = blocks[3](blocks[2](net.layers[3](h)))
    h = F.silu(F.group_norm(h, 8, net.layers[6].weight, net.layers[6].bias))
    torch.testing.assert_close(pixels, h.flatten(2).mT, rtol=0, atol=1e-12)
    torch.testing.assert_close(image, net.pool(h), rtol=0, atol=1e-12)


def outputs(net: nn.Module, t: Tensor | None) -> Tensor:
    return torch.cat([part.flatten(1) for part in net(X, t)], dim=1)


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_times_say_nothing_until_they_are_learned(kind: str) -> None:
    net, plain = awake(encoder(kind, timed=True)), awake(encoder(kind))
    plain.load_state_dict({name: value for name, value in net.state_dict().items() if not name.startswith("time")})
    times = torch.tensor([0.0, 0.3, 0.9, 0.5]).double()
    for t in (None, times):
        assert torch.equal(outputs(net, t), outputs(plain, None))
    nn.init.normal_(net.time.shift.weight)  # type: ignore[union-attr]
    assert (outputs(net, times) - outputs(plain, None)).abs().amax(1).min() > 1e-3
    assert torch.equal(outputs(net, None), outputs(net, torch.ones(4).double()))  # clean images are those of t = 1
    torch.testing.assert_close(outputs(net, times[1].expand(4))[1], outputs(net, times)[1], rtol=0, atol=1e-12)
    clip = awake(CLIP(net, text()))
    torch.testing.assert_close(clip.encode_image(X, times), net(X, times)[0], rtol=0, atol=1e-12)
    assert (clip(X, TOKENS, times)[0] - clip(X, TOKENS)[0]).abs().max() > 1e-6


def test_what_does_not_fit_is_named() -> None:
    clip = CLIP(cnn(), text())
    x = X.float()
    for call, message in (
        (lambda: CLIP(nn.Identity(), text()), "image.out_dim must be an integer"),
        (lambda: cnn(image_size=9), "image_size must be a multiple of 2 here, got 9"),
        (lambda: cnn(channels=(8, 12)), "channels must be multiples of 8"),
        (lambda: cnn(depth=0), "depth must be"),
        (lambda: cnn(out_dim=0), "out_dim must be"),
        (lambda: cnn(heads=3), "dim must be a multiple of heads"),
        (lambda: clip(x[:, :2], TOKENS), r"x must have shape \(batch, 3, 8, 8\)"),
        (lambda: clip(x, TOKENS, torch.ones(4)), "t must be None: the encoder was made without timed=True"),
        (lambda: clip(x, torch.tensor([[1, 2]])), "must have the end token"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
