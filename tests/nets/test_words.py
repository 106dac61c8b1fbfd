"""Guides of words: cross-attention that starts as nothing, padding that counts for nothing, the empty text as null."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from flowlib import ClassifierFreeGuidance, Model, flow_matching_loss, sample_ode
from flowlib.losses import drop_guide
from flowlib.nets.attention import Attention
from flowlib.nets.unet import UNet
from flowlib.nets.words import WordEmbedding
from flowlib.text import DIGITS, PADDING, Vocabulary

VOCABULARY = Vocabulary(("bold", "thin", *DIGITS), length=5)
TEXTS = ["bold seven", "three", "", "thin thin nine zero"]
SIZES = {"in_channels": 1, "channels": (8, 16), "depth": 1, "classes": None, "attention": (1,), "heads": 2, "dim": 32}


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def awake(net: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def reader(length: int = VOCABULARY.length) -> UNet:
    return UNet(**SIZES, words=len(VOCABULARY), length=length)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(4, 1, 8, 8), torch.tensor([0.1, 0.4, 0.6, 0.9]), VOCABULARY.encode(TEXTS)


def test_cross_attention_that_starts_at_zero_leaves_the_base_bit_identical() -> None:
    """Property 25. The same seed gives the same base, and whatever its weights become, no word has a say yet."""
    torch.manual_seed(5)
    base = UNet(**SIZES)
    torch.manual_seed(5)
    net = reader()
    for name, value in base.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name
    awake(base)
    missing = net.load_state_dict(base.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    assert all(".cross." in name or name.startswith("words.") for name in missing.missing_keys)
    x, t, y = inputs()
    for guide in (y, None):
        assert torch.equal(net(x, t, guide), base(x, t))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("cross.attention.out.weight"):
                parameter.add_(0.3)
    assert not torch.equal(net(x, t, y), base(x, t))


def test_padding_counts_for_nothing_however_long() -> None:
    short, x_t_y = awake(reader()), inputs()
    x, t, y = x_t_y
    long = reader(length=9)
    state = short.state_dict()
    state["words.place.weight"] = torch.cat([state["words.place.weight"], torch.full((4, 32), 1e3)])
    long.load_state_dict(state)
    padded = torch.cat([y, torch.full((4, 4), PADDING)], dim=1)
    torch.testing.assert_close(long(x, t, padded), short(x, t, y), rtol=0, atol=1e-6)
    torch.testing.assert_close(long(x, t, None), short(x, t, None), rtol=0, atol=1e-6)
    with torch.no_grad():
        long.words.word.weight[PADDING] = 1e6  # what padding says is not heard
    torch.testing.assert_close(long(x, t, padded), short(x, t, y), rtol=0, atol=1e-6)


def test_without_places_the_order_of_words_and_padding_is_lost_and_with_them_it_is_not() -> None:
    net = awake(reader())
    x, t, y = inputs()
    order = torch.tensor([3, 0, 4, 2, 1])
    assert (net(x, t, y[:, order]) - net(x, t, y)).abs().max() > 1e-3
    torch.nn.init.zeros_(net.words.place.weight)
    torch.testing.assert_close(net(x, t, y[:, order]), net(x, t, y), rtol=0, atol=1e-6)


def test_each_sample_reads_its_own_words() -> None:
    net = awake(reader())
    x, t, y = inputs()
    other = y.clone()
    other[1, 1] = 5
    changed = (net(x, t, other) - net(x, t, y)).abs().amax((1, 2, 3)) > 1e-5
    assert changed.tolist() == [False, True, False, False]


def test_cross_attention_is_the_formula_written_out() -> None:
    layer = Attention(6, 2, context_dim=5).double()
    x, context = torch.randn(1, 3, 6).double(), torch.randn(1, 4, 5).double()
    mask = torch.tensor([[True, False, True, True]])
    q, (k, v) = layer.q(x)[0], layer.kv(context)[0].chunk(2, dim=1)
    rows = []
    for i in range(3):
        heads = []
        for h in (slice(0, 3), slice(3, 6)):
            score = torch.tensor([float(q[i, h] @ k[j, h]) / 3**0.5 for j in (0, 2, 3)], dtype=torch.float64)
            heads.append(sum(w * v[j, h] for w, j in zip(score.softmax(0), (0, 2, 3), strict=True)))
        rows.append(torch.cat(heads))
    torch.testing.assert_close(layer(x, context, mask)[0], layer.out(torch.stack(rows)), rtol=0, atol=1e-12)


def test_guidance_without_a_classifier_and_with_the_empty_text() -> None:
    model = Model(awake(reader()))
    x, t, y = inputs()
    free, read = model.predict(x, t), model.predict(x, t, y)
    assert torch.equal(free, model.predict(x, t, VOCABULARY.encode([""] * 4)))
    assert torch.equal(free[2], read[2])  # whose text is empty
    for w in (-1.0, 0.0, 1.0, 3.0):
        guided = ClassifierFreeGuidance(model, w).predict(x, t, y)
        torch.testing.assert_close(guided, (1 - w) * free + w * read, rtol=0, atol=2e-6)
    together = sample_ode(ClassifierFreeGuidance(model, 2.0), x, y, steps=2)
    parts = sample_ode(ClassifierFreeGuidance(model, 2.0), x, y, steps=2, batch_size=3)
    torch.testing.assert_close(parts, together, rtol=0, atol=1e-5)


def test_dropping_a_text_leaves_the_empty_one() -> None:
    model = Model(reader())
    y = VOCABULARY.encode(["bold seven"] * 4000)
    dropped = drop_guide(model, y, 0.25, torch.Generator().manual_seed(0))
    empty = (dropped == VOCABULARY.encode([""])).all(1)
    assert bool((empty | (dropped == y).all(1)).all())
    assert abs(float(empty.double().mean()) - 0.25) < 5 * (0.25 * 0.75 / 4000) ** 0.5
    loss = flow_matching_loss(model, torch.randn(4, 1, 8, 8), y[:4], generator=torch.Generator().manual_seed(0))
    loss.backward()
    assert torch.isfinite(loss)


def test_what_is_no_text_is_refused() -> None:
    x, t, y = inputs()
    net = reader()
    for wrong, message in (
        (y[:, :4], "must be integer tokens"),
        (y[:3], "must be integer tokens"),
        (y.float(), "must be integer tokens"),
        (torch.full_like(y, PADDING), "no padding"),
        (y + 9, "tokens 0 ... 13"),
    ):
        with pytest.raises(ValueError, match=message):
            net(x, t, wrong)
    with pytest.raises(ValueError, match="classes = None"):
        UNet(channels=(8,), words=9, attention=(0,))
    with pytest.raises(ValueError, match="level in attention"):
        UNet(channels=(8,), words=9, classes=None)
    with pytest.raises(ValueError, match="words must be"):
        WordEmbedding(2, 5, 8)
