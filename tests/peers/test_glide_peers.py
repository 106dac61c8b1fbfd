"""GLIDE's text transformer and its attention joined to the text, on random weights; skipped where it is absent."""

from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor

from flowlib.nets import Attention, Transformer


@pytest.fixture(autouse=True)
def _seed(seeded_weights: Iterator[None]) -> None:
    """The same weights each time."""


def part(name: str) -> ModuleType:
    reason = "glide_text2im is not installed: pip install --no-deps git+https://github.com/openai/glide-text2im"
    return pytest.importorskip(f"glide_text2im.{name}", reason=reason, exc_type=ImportError)


def by_kind(weight: Tensor, heads: int, kinds: int) -> Tensor:
    """Rows that GLIDE keeps head by head, each with its queries, keys and values, as we keep them: kind by kind."""
    return weight.flatten(1).unflatten(0, (heads, kinds, -1)).transpose(0, 1).flatten(0, 2).reshape(weight.shape)


@torch.no_grad()
def test_a_transformer_that_is_not_causal_is_that_of_glide() -> None:
    theirs = part("xf").Transformer(n_ctx=7, width=12, layers=3, heads=3)
    ours = Transformer(width=12, depth=3, heads=3, gelu="exact")
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    names = {"ln_1": "norm1", "ln_2": "norm2", "attn.c_qkv": "attention.qkv", "attn.c_proj": "attention.out"}
    names |= {"mlp.c_fc": "mlp.0", "mlp.c_proj": "mlp.2"}
    state = {}
    for name, value in theirs.state_dict().items():
        _, block, *middle, kind = name.split(".")
        rows = value[:, None] if value.ndim == 1 else value
        if middle[-1] == "c_qkv":
            rows = by_kind(rows, 3, 3)
        state[f"blocks.{block}.{names['.'.join(middle)]}.{kind}"] = rows.reshape(value.shape)
    ours.load_state_dict(state)
    x = torch.randn(2, 7, 12)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_attention_joined_to_the_text_is_that_of_glide() -> None:
    theirs = part("unet").AttentionBlock(32, num_heads=4, encoder_channels=10)
    ours = Attention(32, 4, context_dim=10, joined=True)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    state = {}
    for layer, name, kinds in (("qkv", "qkv", 3), ("encoder_kv", "kv", 2), ("proj_out", "out", 0)):
        weight, bias = getattr(theirs, layer).weight[:, :, 0], getattr(theirs, layer).bias[:, None]
        for kind, rows in (("weight", weight), ("bias", bias)):
            state[f"{name}.{kind}"] = by_kind(rows, 4, kinds) if kinds else rows
    ours.load_state_dict({name: rows[:, 0] if name.endswith("bias") else rows for name, rows in state.items()})
    x, text = torch.randn(2, 32, 3, 5), torch.randn(2, 10, 6)
    pixels = theirs.norm(x).flatten(2).mT
    found = x + ours(pixels, text.mT).mT.reshape(x.shape)
    torch.testing.assert_close(found, theirs(x, text), rtol=1e-5, atol=1e-5)
