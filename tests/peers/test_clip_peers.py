"""CLIP beside OpenAI's own code on random weights, mapped by name in tests/openai_clip.py; skipped where it is absent.

Only `clip/model.py` is read, which needs torch alone; the package itself asks for torchvision.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from openai_clip import IMAGES, SETTINGS, TEXTS, like_theirs, load, scattered, swap

from flowlib.nets.clip import AttentionPool


@pytest.fixture(autouse=True)
def _seed(seeded_weights: Iterator[None]) -> None:
    """The same weights each time."""


@pytest.fixture(scope="module")
def model() -> ModuleType:
    package = importlib.util.find_spec("clip")
    file = None if package is None or package.origin is None else Path(package.origin).with_name("model.py")
    if file is None or not file.exists():
        pytest.skip("clip is not installed: pip install --no-deps git+https://github.com/openai/CLIP")
    spec = importlib.util.spec_from_file_location("openai_clip_model", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["normal", "scattered", "first"])
@torch.no_grad()
def test_features_and_logits_are_those_of_openai(model: ModuleType, kind: str) -> None:
    """Features to 1e-5, in float32; logits to 1e-5 of the scale."""
    theirs = model.CLIP(**SETTINGS).eval()
    if kind == "normal":
        for parameter in theirs.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    elif kind == "scattered":
        theirs.load_state_dict(scattered(theirs.state_dict()))
    ours = load(like_theirs(), theirs.state_dict())
    torch.testing.assert_close(ours.encode_image(IMAGES), theirs.encode_image(IMAGES), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.encode_text(TEXTS), theirs.encode_text(TEXTS), rtol=1e-5, atol=1e-5)
    scale = float(theirs.logit_scale.exp())
    for mine, other in zip(ours(IMAGES, TEXTS), theirs(IMAGES, TEXTS), strict=True):
        torch.testing.assert_close(mine / scale, other / scale, rtol=0, atol=1e-5)


@torch.no_grad()
def test_their_weights_and_ours_are_the_same_set(model: ModuleType) -> None:
    ours, theirs = swap(like_theirs().state_dict()), model.CLIP(**SETTINGS).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}


@torch.no_grad()
def test_pooling_by_attention_is_that_of_openai(model: ModuleType) -> None:
    theirs, ours = model.AttentionPool2d(3, 16, 4, 6), AttentionPool(9, 16, 4, 6)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    state = theirs.state_dict()
    ours.load_state_dict(
        {
            "places": state["positional_embedding"],
            **{f"attention.q.{kind}": state[f"q_proj.{kind}"] for kind in ("weight", "bias")},
            **{
                f"attention.kv.{kind}": torch.cat([state[f"k_proj.{kind}"], state[f"v_proj.{kind}"]])
                for kind in ("weight", "bias")
            },
            **{f"attention.out.{kind}": state[f"c_proj.{kind}"] for kind in ("weight", "bias")},
        }
    )
    x = torch.randn(2, 16, 3, 3)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
