"""Transformers: torch's own block, masks that hide what they should, and a cache that changes nothing."""

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.nets import GPT, Cache, QuickGELU, TextTransformer, Transformer, TransformerBlock


@pytest.fixture(autouse=True)
def _seed(seeded_weights: Iterator[None]) -> None:
    """The same weights each time."""


def awake(net: nn.Module) -> nn.Module:
    """In double precision, with weights so large that everything matters."""
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.4)
    return net.double().eval()


PATTERN = torch.rand(6, 6, generator=torch.Generator().manual_seed(0)) > 0.5
OTHER = torch.rand(6, 6, generator=torch.Generator().manual_seed(1)) > 0.5


def sees(net: Transformer, mask: Tensor | None = None) -> Tensor:
    """Which of 6 tokens each of 6 depends on, by the Jacobian, (6, 6)."""
    x = torch.randn(1, 6, 8).double()
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x, mask)[0], x)  # (6, 8, 1, 6, 8)
    return (jacobian != 0).any(4).any(2).any(1)


# --- the block


@pytest.mark.parametrize("kind", ["none", "causal", "padding"])
@pytest.mark.parametrize("gelu", ["exact", "tanh"])
def test_a_block_is_that_of_torch(kind: str, gelu: str) -> None:
    block = awake(TransformerBlock(12, 3, expand=2, gelu=gelu))
    activation = F.gelu if gelu == "exact" else lambda x: F.gelu(x, approximate="tanh")
    theirs = nn.TransformerEncoderLayer(12, 3, 24, 0.0, activation, batch_first=True, norm_first=True).double()
    names = {"self_attn.in_proj_": "attention.qkv.", "self_attn.out_proj.": "attention.out."}
    names |= {"linear1.": "mlp.0.", "linear2.": "mlp.2.", "norm1.": "norm1.", "norm2.": "norm2."}
    ours = block.state_dict()
    theirs.load_state_dict({a + c: ours[b + c] for a, b in names.items() for c in ("weight", "bias")})
    x = torch.randn(2, 5, 12).double()
    triangle = torch.ones(5, 5, dtype=torch.bool).tril()
    padding = torch.tensor([[True] * 5, [True, True, False, True, False]])
    mask = {"none": None, "causal": triangle[None], "padding": padding}[kind]
    expected = theirs(
        x,
        src_mask=~triangle if kind == "causal" else None,
        src_key_padding_mask=~padding if kind == "padding" else None,
    )
    torch.testing.assert_close(block(x, mask), expected, rtol=0, atol=1e-12)


def test_quick_gelu_is_near_gelu() -> None:
    x = torch.linspace(-10, 10, 20001).double()
    torch.testing.assert_close(QuickGELU()(x), x / (1 + torch.exp(-1.702 * x)), rtol=0, atol=1e-12)
    assert 0.02 < float((QuickGELU()(x) - F.gelu(x)).abs().max()) < 0.021
    assert isinstance(TransformerBlock(8, 2, gelu="quick").mlp[1], QuickGELU)


def test_the_first_weights_are_as_large_as_those_of_clip() -> None:
    net = Transformer(width=256, depth=3, heads=4, expand=2)
    block = net.blocks[2]
    expected = {block.attention.qkv: 1, block.mlp[0]: 2, block.attention.out: 6, block.mlp[2]: 6}
    for layer, scale in expected.items():
        assert not layer.bias.any()
        assert float(layer.weight.std()) == pytest.approx((scale * 256) ** -0.5, rel=0.02)


# --- who sees whom


def test_causal_no_token_sees_a_later_one_and_else_every_token_sees_all() -> None:
    assert torch.equal(sees(awake(Transformer(8, 2, 2, causal=True))), torch.ones(6, 6, dtype=torch.bool).tril())
    assert sees(awake(Transformer(8, 2, 2))).all()


@pytest.mark.parametrize("causal", [False, True])
def test_a_pattern_says_who_sees_whom(causal: bool) -> None:
    allowed = [one & (torch.ones(6, 6).tril() > 0) if causal else one for one in (PATTERN, OTHER)]
    first, second = (one | torch.eye(6).bool() for one in allowed)
    assert torch.equal(sees(awake(Transformer(8, 1, 2, causal, pattern=PATTERN))), first)
    one = sees(awake(Transformer(8, 2, 2, causal, pattern=PATTERN)))
    assert torch.equal(one, (first.float() @ first.float()) > 0)
    two = sees(awake(Transformer(8, 2, 2, causal, pattern=[PATTERN, OTHER])))
    assert torch.equal(two, (second.float() @ first.float()) > 0)  # the first block's comes first
    assert not torch.equal(one, two)


def test_padding_is_seen_by_nobody_else_and_becomes_no_nan() -> None:
    mask = torch.tensor([[False, True, True, False, True, False]])
    net = awake(Transformer(8, 2, 2))
    assert torch.equal(sees(net, mask), mask.expand(6, 6) | torch.eye(6).bool())
    causal = awake(Transformer(8, 2, 2, causal=True))
    x = torch.randn(1, 6, 8).double().requires_grad_()
    out = causal(x, mask)  # the first token is padding, and sees nothing but itself
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert torch.isfinite(x.grad).all()
    torch.testing.assert_close(causal(x[:, [1, 2, 4]]), out[:, [1, 2, 4]], rtol=0, atol=1e-12)


def test_patterns_are_no_weights() -> None:
    assert Transformer(8, 2, 2, pattern=PATTERN).state_dict().keys() == Transformer(8, 2, 2).state_dict().keys()


# --- the cache


@pytest.mark.parametrize("parts", [(1,) * 6, (4, 1, 1), (2, 3, 1)])
@pytest.mark.parametrize("kind", ["causal", "pattern", "patterns", "padding"])
def test_with_a_cache_the_output_is_the_same(parts: tuple[int, ...], kind: str) -> None:
    pattern = {"pattern": PATTERN, "patterns": [PATTERN, OTHER]}.get(kind)
    net = awake(Transformer(8, 2, 2, causal=True, pattern=pattern))
    x = torch.randn(2, 6, 8).double()
    mask = None
    if kind == "padding":
        mask = torch.tensor([[False, False, True, True, True, True], [True] * 6])
    whole, cache, found, at = net(x, mask), Cache(depth=2), [], 0
    for count in parts:
        part = None if mask is None else mask[:, : at + count]
        found.append(net(x[:, at : at + count], part, cache))
        at += count
        assert [len(layer) for layer in cache.layers] == [at, at]
    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=0, atol=1e-12)


def test_gpt_writes_the_same_with_and_without_a_cache() -> None:
    """1e-5 in single precision, at every step; and the tokens are equal."""
    gpt = GPT(vocabulary=11, length=12, width=16, depth=3, heads=2, pattern=torch.rand(12, 12) > 0.3).eval()
    nn.init.normal_(gpt.head.weight)
    nn.init.normal_(gpt.place.weight)
    tokens, cache = torch.randint(11, (4, 1)), Cache(depth=3)
    last = tokens
    while tokens.shape[1] < 12:
        logits = gpt(last, cache)[:, -1]
        torch.testing.assert_close(logits, gpt(tokens)[:, -1], rtol=0, atol=1e-5)
        last = logits.argmax(1, keepdim=True)
        tokens = torch.cat([tokens, last], dim=1)
    assert len(tokens.unique()) > 3


# --- GPT


def test_the_jacobian_of_gpt_is_causal() -> None:
    """Property 25: zero above the diagonal, to the bit; and below it nothing is zero."""
    gpt = awake(GPT(vocabulary=7, length=6, width=8, depth=2, heads=2))
    x = gpt.embed(torch.tensor([[3, 1, 4, 1, 5, 0]])).detach()
    jacobian = torch.autograd.functional.jacobian(lambda x: gpt.logits(x)[0], x)  # (6, 7, 1, 6, 8)
    size = jacobian.abs().amax((1, 2, 4))
    assert not size.triu(1).any()
    assert bool((size[torch.ones(6, 6).tril() > 0] > 1e-6).all())


def test_gpt_says_the_next_token_at_each_place() -> None:
    gpt = awake(GPT(vocabulary=7, length=6, width=8, depth=2, heads=2))
    tokens = torch.tensor([[3, 1, 4, 1, 5, 0]])
    logits = gpt(tokens)
    assert logits.shape == (1, 6, 7)
    h = gpt.transformer(gpt.token.weight[tokens] + gpt.place.weight)
    expected = F.layer_norm(h, (8,), gpt.norm.weight, gpt.norm.bias) @ gpt.head.weight.T
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(gpt(tokens[:, :4]), logits[:, :4], rtol=0, atol=1e-12)
    assert torch.equal(gpt(tokens.int()), logits)


def test_gpt_learns_a_text_by_heart() -> None:
    gpt = GPT(vocabulary=5, length=9, width=16, depth=2, heads=2)
    tokens = torch.tensor([[0, 1, 1, 2, 1, 3, 1, 4, 1, 2], [0, 4, 1, 1, 1, 2, 2, 3, 1, 1]])
    optimiser = torch.optim.Adam(gpt.parameters(), 0.01)
    losses = []
    for _ in range(120):
        loss = F.cross_entropy(gpt(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    assert losses[0] == pytest.approx(math.log(5), abs=0.15)
    assert losses[-1] < 0.1  # the two first tokens after 0 are as probable: log 2 / 9 = 0.077 is the least


# --- the text transformer

END, PAD = 9, 10
TEXTS = torch.tensor([[8, 1, 2, END, PAD, PAD], [8, 3, 3, 4, 5, END], [8, 5, END, 6, END, PAD]])


def reader(causal: bool, padding: int | None = PAD) -> TextTransformer:
    return awake(TextTransformer(11, 6, END, padding, width=8, depth=2, heads=2, causal=causal))  # type: ignore[return-value]


@pytest.mark.parametrize("causal", [True, False])
def test_the_feature_of_a_text_is_that_of_its_first_end(causal: bool) -> None:
    net = reader(causal)
    tokens, text = net(TEXTS)
    assert tokens.shape == (3, 6, 8)
    assert torch.equal(text, tokens[[0, 1, 2], [3, 5, 2]])
    x = net.token.weight[TEXTS] + net.place.weight
    h = net.transformer(x, TEXTS != PAD)
    expected = F.layer_norm(h, (8,), net.norm.weight, net.norm.bias)
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-12)


def test_what_a_text_sees() -> None:
    after = TEXTS.clone()
    after[2, 3] = 7  # behind the end of the third text
    before = TEXTS.clone()
    before[1, 1] = 7
    for causal in (True, False):
        net = reader(causal)
        feature = net(TEXTS)[1]
        assert (net(after)[1] == feature).all(1).tolist() == [True, True, causal]
        assert (net(before)[1] == feature).all(1).tolist() == [True, False, True]
        torch.testing.assert_close(net(TEXTS[:1, :4])[1], feature[:1], rtol=0, atol=1e-12)  # padding says nothing
    everything = reader(False, padding=None)
    assert (everything(TEXTS[:1, :4])[1] - everything(TEXTS[:1])[1]).abs().max() > 1e-6


def test_what_does_not_fit_is_named() -> None:
    gpt, text = GPT(5, 4, width=8, depth=1, heads=2), reader(True)
    cache = Cache(depth=1)
    gpt(torch.zeros(1, 3).long(), cache)
    x = torch.zeros(1, 3, 8)
    for call, message in (
        (lambda: Transformer(8, 0, 2), "depth must be"),
        (lambda: Transformer(9, 1, 2), "dim must be a multiple of heads"),
        (lambda: Transformer(8, 1, 2, gelu="relu"), "gelu must be one of exact, tanh, quick; got 'relu'"),
        (lambda: Transformer(8, 1, 2, expand=0), "expand must be"),
        (lambda: Transformer(8, 2, 2, pattern=PATTERN.float()), "pattern must be"),
        (lambda: Transformer(8, 2, 2, pattern=PATTERN[:5]), "pattern must be"),
        (lambda: Transformer(8, 3, 2, pattern=[PATTERN, OTHER]), "one or 3"),
        (lambda: Transformer(8, 1, 2, pattern=PATTERN[:2, :2])(x), "at most 2 tokens, as the pattern has, got 3"),
        (lambda: Transformer(8, 1, 2)(x, cache=Cache(1)), "cache must be None unless"),
        (lambda: Transformer(8, 1, 2, causal=True)(x, cache=Cache(2)), "cache must be of depth 1, got 2"),
        (lambda: Transformer(8, 1, 2)(x, torch.ones(1, 4).bool()), r"mask must be \(B, 3\)"),
        (lambda: GPT(0, 4), "vocabulary must be"),
        (lambda: GPT(5, 0), "length must be"),
        (lambda: gpt(torch.zeros(1, 5).long()), "N at most 4"),
        (lambda: gpt(torch.zeros(1, 2).long(), cache), "N at most 1"),
        (lambda: gpt(torch.zeros(3).long()), "tokens must be integers"),
        (lambda: gpt(torch.zeros(1, 3)), "tokens must be integers"),
        (lambda: gpt(torch.tensor([[0, 5]])), "tokens must lie in 0 ... 4, got 0 ... 5"),
        (lambda: gpt(torch.tensor([[-1, 2]])), "tokens must lie in 0 ... 4, got -1 ... 2"),
        (lambda: text(torch.tensor([[8, END], [8, 1]])), "must have the end token, 9, in each row"),
        (lambda: text(torch.tensor([[8, END + 2]])), "tokens must lie in"),
        (lambda: TextTransformer(5, 4, end=-1), "end must be"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
