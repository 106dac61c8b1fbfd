"""SAM's prompt encoder and mask decoder beside Meta's on random weights; skipped where `segment_anything` is absent.

Only the files of `segment_anything/modeling` that need torch alone are read; the package itself asks for torchvision.
The weights are mapped by name in tests/meta_sam.py.
"""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from meta_sam import (
    BOXES,
    DECODER,
    ENCODER,
    IMAGE,
    LABELS,
    MASKS,
    POINTS,
    TRANSFORMER,
    decoder_like_theirs,
    encoder_like_theirs,
    load,
    scattered,
    shapes_of,
)
from torch import nn

FILES = ("common", "transformer", "prompt_encoder", "mask_decoder")


@pytest.fixture(autouse=True)
def _seed(seeded_weights: Iterator[None]) -> None:
    """The same weights each time."""


@pytest.fixture(scope="module")
def theirs() -> Iterator[dict[str, ModuleType]]:
    package = importlib.util.find_spec("segment_anything")
    folder = None if package is None or package.origin is None else Path(package.origin).parent / "modeling"
    if folder is None or not all((folder / f"{name}.py").exists() for name in FILES):
        pytest.skip(
            "segment_anything is not installed: pip install git+https://github.com/facebookresearch/segment-anything"
        )
    whole = ModuleType("meta_modeling")
    whole.__path__ = [str(folder)]
    sys.modules["meta_modeling"] = whole
    yield {name: importlib.import_module(f"meta_modeling.{name}") for name in FILES}
    for name in [name for name in sys.modules if name.split(".")[0] == "meta_modeling"]:
        del sys.modules[name]


def pair(theirs: dict[str, ModuleType], kind: str) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
    """Their encoder and decoder, and ours with the same weights."""
    encoder = theirs["prompt_encoder"].PromptEncoder(**ENCODER).eval()
    two_way = theirs["transformer"].TwoWayTransformer(**TRANSFORMER)
    decoder = theirs["mask_decoder"].MaskDecoder(transformer=two_way, **DECODER).eval()
    ours = encoder_like_theirs(), decoder_like_theirs()
    for net, own in zip((encoder, decoder), ours, strict=True):
        if kind == "scattered":
            net.load_state_dict(scattered({name: value.shape for name, value in net.state_dict().items()}))
        load(own, net.state_dict())
    return encoder, decoder, *ours


@torch.no_grad()
@pytest.mark.parametrize("kind", ["first", "scattered"])
@pytest.mark.parametrize("given", ["points", "boxes", "masks", "points boxes", "points boxes masks"])
def test_masks_are_those_of_meta(theirs: dict[str, ModuleType], kind: str, given: str) -> None:
    encoder, decoder, prompts, masks = pair(theirs, kind)
    points, boxes, drawn = ("points" in given), ("boxes" in given), ("masks" in given)
    expected = encoder((POINTS, LABELS) if points else None, BOXES if boxes else None, MASKS if drawn else None)
    found = prompts(*((POINTS, LABELS) if points else (None, None)), BOXES if boxes else None, MASKS if drawn else None)
    places = encoder.get_dense_pe()
    torch.testing.assert_close(prompts.image_places(), places[0], rtol=0, atol=1e-6)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)
    for several in (True, False):
        mine = masks(IMAGE, prompts.image_places(), *found, several)
        for own, other in zip(mine, decoder(IMAGE, places, *expected, several), strict=True):
            torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)


def test_their_weights_and_ours_are_the_same_set(theirs: dict[str, ModuleType]) -> None:
    encoder, decoder, prompts, masks = pair(theirs, "first")
    for net, own in ((encoder, prompts), (decoder, masks)):
        assert shapes_of(own) == {name: value.shape for name, value in net.state_dict().items()}
