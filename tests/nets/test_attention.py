"""The one attention: torch's own formula, of itself or of a context, with masks that hide what they should."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.nets import Attention, CrossAttention, SelfAttention
from flowlib.nets.attention import KeyValues


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def by_torch(layer: Attention, x: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
    parts = layer.qkv(x).chunk(3, 2) if context is None else (layer.q(x), *layer.kv(context).chunk(2, 2))
    q, k, v = (part.unflatten(2, (layer.heads, -1)).transpose(1, 2) for part in parts)
    return layer.out(F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("context_dim", [None, 5])
@pytest.mark.parametrize("kind", ["none", "tokens", "pairs"])
def test_it_is_the_formula_of_torch(context_dim: int | None, kind: str) -> None:
    layer = Attention(12, 3, context_dim).double()
    x = torch.randn(2, 4, 12).double()
    context = None if context_dim is None else torch.randn(2, 6, context_dim).double()
    many = 4 if context is None else 6
    mask = theirs = None  # torch's is (B, 1, N or 1, M)
    if kind != "none":
        mask = torch.rand((2, many) if kind == "tokens" else (2, 4, many)) > 0.4
        mask[..., 1] = True  # something to look at
        theirs = mask[:, None, None] if kind == "tokens" else mask[:, None]
    found = layer(x, context, mask)
    torch.testing.assert_close(found, by_torch(layer, x, context, theirs), rtol=0, atol=1e-12)
    weights, values = layer.weights(x, context, mask)
    assert weights.shape == (2, 3, 4, many)
    assert values.shape == (2, 3, many, 4)
    torch.testing.assert_close(weights.sum(3), torch.ones(2, 3, 4).double())
    if theirs is not None:
        assert not weights.masked_select(~theirs.expand_as(weights)).any()


def test_a_triangle_hides_what_comes_later() -> None:
    layer, x = Attention(8, 2), torch.randn(2, 5, 8)
    mask = torch.ones(1, 5, 5, dtype=torch.bool).tril()
    out = layer(x, mask=mask)
    changed = x.clone()
    changed[:, 3:] += 1
    same = (layer(changed, mask=mask) == out).all(2)
    assert same.tolist() == [[True, True, True, False, False]] * 2


@pytest.mark.parametrize("context_dim", [None, 5])
def test_its_weights_have_the_names_and_the_first_values_they_always_had(context_dim: int | None) -> None:
    """A checkpoint fits, and a seed gives the same network, as long as neither changes."""
    torch.manual_seed(3)
    layer = Attention(8, 2, context_dim)
    torch.manual_seed(3)
    if context_dim is None:
        layers = {"qkv": nn.Linear(8, 24), "out": nn.Linear(8, 8)}
    else:
        layers = {"q": nn.Linear(8, 8), "kv": nn.Linear(context_dim, 16), "out": nn.Linear(8, 8)}
    expected = nn.ModuleDict(layers).state_dict()
    assert list(layer.state_dict()) == list(expected)
    assert all(torch.equal(value, expected[name]) for name, value in layer.state_dict().items())


def test_joined_it_looks_at_the_context_and_at_itself_in_one_softmax() -> None:
    layer = Attention(12, 3, context_dim=5, joined=True).double()
    x, context = torch.randn(2, 4, 12).double(), torch.randn(2, 6, 5).double()
    mask = torch.rand(2, 4, 10) > 0.4
    mask[..., 7] = True
    q, k, v = (part.unflatten(2, (3, 4)).transpose(1, 2) for part in layer.qkv(x).chunk(3, 2))
    read = (part.unflatten(2, (3, 4)).transpose(1, 2) for part in layer.kv(context).chunk(2, 2))
    k, v = (torch.cat(pair, 2) for pair in zip(read, (k, v), strict=True))
    for chosen in (None, mask):
        theirs = F.scaled_dot_product_attention(q, k, v, None if chosen is None else chosen[:, None])
        expected = layer.out(theirs.transpose(1, 2).flatten(2))
        torch.testing.assert_close(layer(x, context, chosen), expected, rtol=0, atol=1e-12)
    assert layer.weights(x, context)[0].shape == (2, 3, 4, 10)
    own = F.pad(torch.zeros(2, 6, dtype=torch.bool), (0, 4), value=True)  # without its context: self-attention
    alone = Attention(12, 3).double()
    alone.load_state_dict({k: v for k, v in layer.state_dict().items() if not k.startswith("kv")})
    torch.testing.assert_close(layer(x, context, own), alone(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("parts", [(1, 1, 1, 1, 1), (3, 2), (2, 1, 2)])
def test_with_a_cache_tokens_may_come_one_after_the_other(parts: tuple[int, ...]) -> None:
    layer, x = Attention(8, 2, out_dim=3).double(), torch.randn(2, 5, 8).double()
    mask = torch.ones(1, 5, 5, dtype=torch.bool).tril()
    whole, cache, found, at = layer(x, mask=mask), KeyValues(), [], 0
    assert whole.shape == (2, 5, 3)
    for count in parts:
        found.append(layer(x[:, at : at + count], mask=mask[:, at : at + count, : at + count], cache=cache))
        at += count
        assert len(cache) == at
    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="the batch of what is in the cache, 2, got 3"):
        layer(torch.zeros(3, 1, 8).double(), cache=cache)


def test_its_other_names() -> None:
    assert SelfAttention is Attention
    layer = CrossAttention(8, 5, heads=2)
    assert (layer.heads, layer.context_dim, layer.kv.in_features) == (2, 5, 5)


def test_what_does_not_fit_is_named() -> None:
    x, context = torch.zeros(1, 2, 8), torch.zeros(1, 3, 5)
    for call, message in (
        (lambda: Attention(8, 3), "dim must be a multiple of heads, got 8 and 3"),
        (lambda: Attention(0, 1), "dim must be"),
        (lambda: Attention(8, 2, 0), "context_dim must be"),
        (lambda: Attention(8, 2, joined=True), "joined must be false without a context_dim"),
        (lambda: Attention(8, 2, out_dim=0), "out_dim must be"),
        (lambda: Attention(8, 2, 5)(x, context, cache=KeyValues()), "cache must be None beside a context"),
        (lambda: Attention(8, 2, 5, joined=True)(x), "context must be given if and only if"),
        (lambda: Attention(8, 2)(x, context), "context must be given if and only if"),
        (lambda: Attention(8, 2, 5)(x), "context must be given if and only if"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
