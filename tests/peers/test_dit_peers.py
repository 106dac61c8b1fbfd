"""DiT beside Meta's own code on random weights, by the mapping of `flowlib.nets.dit_from_meta`; skipped where absent.

Its repository is no package: DIT_MODELS names the file. It asks for timm, of which it takes three layers, and timm for
torchvision; where timm is absent these three stand in for it.
"""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from meta_dit import CHANNELS, CLASSES, HEADS, SETTINGS, published, random_state
from torch import Tensor, nn

from flowlib.nets import dit_from_meta

X = torch.randn(6, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(1))
Y, STEPS = torch.tensor([0, 1, 2, 3, 4, CLASSES]), torch.tensor([0, 1, 17, 500, 998, 999])


class PatchEmbed(nn.Module):
    """Images as tokens: (B, C, H, W) -> (B, N, width)."""

    def __init__(self, size: int, patch: int, channels: int, width: int, bias: bool) -> None:
        super().__init__()
        self.patch_size, self.num_patches = (patch, patch), (size // patch) ** 2
        self.proj = nn.Conv2d(channels, width, patch, patch, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).mT


class Attention(nn.Module):
    """Of tokens to each other, the rows of qkv by kind, then by head."""

    def __init__(self, width: int, num_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = num_heads, nn.Linear(width, 3 * width, qkv_bias), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two layers."""

    def __init__(self, in_features: int, hidden_features: int, act_layer: type[nn.Module], drop: float) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(in_features, hidden_features), nn.Linear(hidden_features, in_features)
        self.act = act_layer()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    file = Path(os.environ.get("DIT_MODELS", ""))
    if not file.is_file():
        pytest.skip(
            "DIT_MODELS names no file: git clone https://github.com/facebookresearch/DiT; DIT_MODELS=.../models.py"
        )
    if importlib.util.find_spec("timm") is None:
        for name in ("timm", "timm.models", "timm.models.vision_transformer"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        for layer in (PatchEmbed, Attention, Mlp):
            setattr(sys.modules["timm.models.vision_transformer"], layer.__name__, layer)
    spec = importlib.util.spec_from_file_location("meta_dit_models", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@torch.no_grad()
@pytest.mark.parametrize("learned", [True, False])
def test_the_network_is_that_of_meta(models: ModuleType, learned: bool) -> None:
    """To 1e-5 in float32; the positions are those that their code computes."""
    theirs = models.DiT(**SETTINGS, learn_sigma=learned).eval()
    state = random_state(learned) | {"pos_embed": theirs.pos_embed}
    theirs.load_state_dict(state)
    x = torch.cat([X, X], dim=1) if learned else X
    ours = dit_from_meta(theirs.state_dict(), HEADS)
    expected = theirs(X, STEPS, Y)
    torch.testing.assert_close(ours(x, 1 - (STEPS + 1) / 1000, Y), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(published(state, X, STEPS, Y), expected, rtol=1e-5, atol=1e-5)
