"""Guides that are images: what they say of a damaged image, on pixels and in latents."""

import pytest
import torch

from flowlib import Model, sample_ode
from flowlib.data import Dataset, Spec
from flowlib.nets import Autoencoder, Concatenated
from flowlib.nets.unet import UNet
from flowlib.systems.guides import guides_to_sample, inpainting_guide, random_holes, superresolution_guide
from flowlib.systems.latent import LatentModel, latent_guide


def test_guides_say_what_is_known_and_nothing_else() -> None:
    x = torch.rand(2, 3, 8, 8) * 2 - 1
    known = (torch.rand(2, 1, 8, 8) > 0.5).float()
    y = inpainting_guide(x, known)
    assert y.shape == (2, 4, 8, 8)
    assert torch.equal(inpainting_guide(torch.where(known > 0, x, 5.0), known), y)
    assert torch.equal(y[:, 3:], known)
    y = superresolution_guide(x, 4)
    assert y.shape == (2, 4, 8, 8)
    assert torch.allclose(y[:, :3, :4, 4:], x[:, :, :4, 4:].mean((2, 3), keepdim=True).expand(-1, -1, 4, 4), atol=1e-6)
    assert torch.equal(y[:, 3:], torch.ones(2, 1, 8, 8))
    assert torch.equal(superresolution_guide(x, 1)[:, :3], x)


@pytest.mark.parametrize(("share", "hole"), [(0.5, 14), (0.7, 19), (0.0, 0), (1.0, 28)])
def test_a_hole_has_its_share_of_each_side_and_may_be_anywhere(share: float, hole: int) -> None:
    known = random_holes(500, (28, 28), torch.Generator().manual_seed(0), share)
    assert known.shape == (500, 1, 28, 28)
    assert ((1 - known).sum((1, 2, 3)) == hole**2).all()
    assert ((known == 0).any(3).sum((1, 2)) == hole).all()  # it is a square
    assert (known.amin(0) == (1 if hole == 0 else 0)).all()  # and may touch each edge


def test_a_latent_guide_has_the_latents_size() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Concatenated(UNet(2 + 3, (8,), 1, classes=None, patch=1, dim=16), 3)
        latent = LatentModel(Model(net), Autoencoder(1, 2, 8, 4), 2.0)
    x, known = torch.rand(3, 1, 8, 8) * 2 - 1, torch.ones(3, 1, 8, 8)
    known[:, :, :, 4:] = 0
    y = latent_guide(latent, inpainting_guide(x, known))
    assert y.shape == (3, 3, 2, 2)
    assert torch.equal(y[:, :2], latent.encode(x * known))
    assert y[0, 2].tolist() == [[1, 0], [1, 0]]
    assert sample_ode(latent, torch.randn(3, 2, 2, 2), y, steps=2).shape == (3, 2, 2, 2)


@pytest.mark.parametrize(("guide", "words"), [("inpainting", ()), ("superresolution", ()), ("words", ("a", "b"))])
def test_a_label_where_something_else_guides_is_refused(guide: str, words: tuple[str, ...]) -> None:
    spec = Spec((1, 8, 8), 2, words=words, length=3 if words else 0)
    data = Dataset(torch.zeros(4, 1, 8, 8), torch.arange(4) % 2, captions=["a", "b", "a", "b"])
    assert len(guides_to_sample(guide, spec, [], 2, lambda: data)) == 2
    with pytest.raises(ValueError, match=r"label must not be given: samples are guided by .*test images; got 1"):
        guides_to_sample(guide, spec, [1], 2, lambda: data)


def test_what_does_not_fit_is_named() -> None:
    x = torch.zeros(2, 1, 4, 4)
    for call, message in (
        (lambda: inpainting_guide(x, x + 0.5), "known must be 1"),
        (lambda: inpainting_guide(x, torch.zeros(2, 1, 4, 5)), "known must have shape"),
        (lambda: superresolution_guide(x, 3), "multiples of 3"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
