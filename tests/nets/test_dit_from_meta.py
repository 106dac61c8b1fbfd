"""Meta's DiT with its weights under our names: the same network, and the same model of a chain."""

import pytest
import torch
from meta_dit import CHANNELS, CLASSES, HEADS, published, random_state
from torch import Tensor

from flowlib.chains import Chain, LearnedVariance, TwoOutputs, sample_ancestral
from flowlib.fields import Model
from flowlib.guidance import ClassifierFreeGuidance
from flowlib.nets import DiT, dit_from_meta
from flowlib.nets.dit_from_meta import StepEmbedding
from flowlib.paths import GaussianPath

PATH = GaussianPath(Chain.linear(1000))
X = torch.randn(6, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(1))
Y = torch.tensor([0, 1, 2, 3, 4, CLASSES])
STEPS = torch.tensor([0, 1, 17, 500, 998, 999])


def close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 1e-5 * max(1.0, float(expected.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize("learned", [True, False])
def test_the_network_is_the_published_one(learned: bool) -> None:
    """To 1e-5 in float32, at both ends of time and with the null label."""
    state = random_state(learned)
    net = dit_from_meta(state, HEADS)
    x = torch.cat([X, X], dim=1) if learned else X
    found = net(x, 1 - (STEPS + 1) / 1000, Y)
    expected = published(state, X, STEPS, Y)
    close(found, expected)
    assert float(expected.std()) > 0.1
    assert net.null == CLASSES
    close(net(x, 1 - (STEPS + 1) / 1000), published(state, X, STEPS, torch.full((6,), CLASSES)))


@torch.no_grad()
def test_with_a_variance_it_is_a_model_that_learned_it() -> None:
    """Noise in the first channels and the share (v + 1) / 2 in the others, at the k of the chain, from 1 to 1000."""
    state = random_state()
    model = LearnedVariance(TwoOutputs(dit_from_meta(state, HEADS)), PATH)
    for k in (1, 2, 400, 1000):
        noise, share = published(state, X, torch.full((6,), k - 1), Y).chunk(2, dim=1)
        found, position = model.both(X, PATH.schedule.time(k), Y)  # type: ignore[attr-defined]
        close(found, noise)
        close(position, (share + 1) / 2)


@torch.no_grad()
def test_without_one_it_is_a_model_of_the_noise() -> None:
    state = random_state(learned=False)
    model = Model(dit_from_meta(state, HEADS), PATH, "noise")
    close(model.noise(X, PATH.schedule.time(300), Y), published(state, X, torch.full((6,), 299), Y))  # type: ignore[attr-defined]


def test_it_samples_with_guidance() -> None:
    model = LearnedVariance(TwoOutputs(dit_from_meta(random_state(), HEADS)), PATH)
    drawn = sample_ancestral(ClassifierFreeGuidance(model, 4.0), X, Y, steps=3, generator=torch.Generator())
    assert drawn.shape == X.shape
    assert bool(drawn.isfinite().all())


@torch.no_grad()
def test_every_weight_is_read() -> None:
    """A change of any of theirs, the positions excepted, changes what ours says."""
    state, t = random_state(), 1 - (STEPS + 1) / 1000
    plain = dit_from_meta(state, HEADS)(torch.cat([X, X], dim=1), t, Y)
    for name, value in state.items():
        if name != "pos_embed":
            # Keys' biases drop out of the softmax: so the change is not the same in all rows.
            changed = value + torch.linspace(0.1, 0.2, value.numel()).reshape(value.shape)
            other = dit_from_meta(state | {name: changed}, HEADS)(torch.cat([X, X], dim=1), t, Y)
            assert float((other - plain).abs().max()) > 1e-4, name


@torch.no_grad()
def test_time_is_read_as_a_step_whatever_it_was_rounded_to() -> None:
    layer = StepEmbedding(8)
    k = torch.arange(1, 1001)
    exact, rounded = layer(1 - k.double() / 1000), layer((1 - k.double() / 1000).float())
    assert torch.equal(exact, rounded)
    between = layer(torch.tensor([1 - 400.5 / 1000]))  # their steps may be fractional
    assert float((between - exact[399:401].mean(0)).abs().max()) > 1e-6
    angle = 399.5 * 10000 ** (-torch.arange(128) / 128)
    close(between, layer.layers(torch.cat([angle.cos(), angle.sin()])[None]))


def test_sizes_are_read_from_the_weights_and_others_are_ours() -> None:
    net = dit_from_meta(random_state(), HEADS)
    assert isinstance(net, DiT)
    assert (net.in_channels, net.patch, net.width, len(net.blocks), net.side) == (2 * CHANNELS, 2, 24, 3, 4)
    assert not net.training
    assert net(torch.zeros(1, 2 * CHANNELS, 6, 12), torch.zeros(1)).shape == (1, 2 * CHANNELS, 6, 12)


STATE = random_state()
BAD = [
    ({}, "pos_embed", None, "state must be of Meta's DiT, but has nothing for 'pos_embed'"),
    ({}, "x_embedder.proj.weight", None, "has nothing for 'x_embedder.proj.weight'"),
    ({}, "x_embedder.proj.weight", torch.zeros(24, 12), r"must be \(width, C, p, p\), got \(24, 12\)"),
    ({}, "final_layer.linear.weight", torch.zeros(16, 24), "state must have 3 or 6 channels out, as it has in, got 4"),
    ({}, "blocks.1.attn.proj.bias", None, r"(?s)state does not fit: .*blocks.1.attention.out.bias"),
    ({}, "blocks.1.mlp.fc1.weight", torch.zeros(24, 24), r"(?s)state does not fit: .*blocks.1.mlp.0.weight"),
    ({}, "extra.weight", torch.zeros(3), r"(?s)state does not fit: .*extra.weight"),
    ({}, "pos_embed", torch.zeros(1, 16, 24), "must be the sines and cosines of a square image"),
    ({}, "pos_embed", torch.zeros(1, 15, 24), r"must be \(1, a square, 24\), got \(1, 15, 24\)"),
    ({"heads": 5}, "", None, "width must be a multiple of 4 and of heads = 5, got 24"),
    ({"steps": 0}, "", None, "steps must be an integer >= 1, got 0"),
]


@pytest.mark.parametrize(("settings", "name", "value", "message"), BAD, ids=[f"{row[3][-30:]}" for row in BAD])
def test_what_does_not_fit_is_named(settings: dict[str, int], name: str, value: Tensor | None, message: str) -> None:
    state = {key: kept for key, kept in STATE.items() if key != name} | ({} if value is None else {name: value})
    with pytest.raises(ValueError, match=message):
        dit_from_meta(state, **{"heads": HEADS, **settings})
