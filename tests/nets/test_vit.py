"""The vision transformer: its formula, its patches, and times that say nothing until they are learned."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.nets import ViT, patchify


@pytest.fixture(autouse=True)
def _seed(seeded_weights: Iterator[None]) -> None:
    """The same weights each time."""


def made(**changes: object) -> ViT:
    """In double precision, with weights so large that everything matters."""
    settings = {"in_channels": 2, "image_size": 6, "patch": 2, "width": 8, "depth": 2, "heads": 2} | changes
    net = ViT(**settings).double()  # type: ignore[arg-type]
    for name, parameter in net.named_parameters():
        if not name.startswith("time.shift"):
            nn.init.normal_(parameter, std=0.4)
    return net


IMAGES = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("pool", ["class", "mean"])
@pytest.mark.parametrize("out_dim", [None, 5])
def test_it_is_the_formula_written_out(pool: str, out_dim: int | None) -> None:
    net = made(pool=pool, out_dim=out_dim)
    h = patchify(IMAGES, 2) @ net.stem.weight.flatten(1).T  # (3, 9, 8), the patches row by row
    if pool == "class":
        assert net.class_token is not None
        h = torch.cat([net.class_token.expand(3, 1, 8), h], 1)
    h = F.layer_norm(h + net.places, (8,), net.norm_pre.weight, net.norm_pre.bias)
    h = F.layer_norm(net.transformer(h), (8,), net.norm_post.weight, net.norm_post.bias)
    image, patches = net(IMAGES)
    torch.testing.assert_close(patches, h[:, -9:], rtol=0, atol=1e-12)
    pooled = h[:, 0] if pool == "class" else h.mean(1)
    if out_dim:
        pooled = pooled @ net.head.weight.T
    torch.testing.assert_close(image, pooled, rtol=0, atol=1e-12)
    assert image.shape == (3, net.out_dim) == (3, out_dim or 8)
    assert patches.shape == (3, 9, 8)


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_of_some_patches_it_sees_only_these(pool: str) -> None:
    net = made(pool=pool)
    keep = torch.tensor([[0, 4, 7], [8, 1, 2], [3, 5, 6]])
    image, patches = net(IMAGES, keep=keep)
    assert patches.shape == (3, 3, 8)
    spoilt = IMAGES.clone()
    for i, row in enumerate(keep.tolist()):
        for patch in set(range(9)) - set(row):
            at = slice(patch // 3 * 2, patch // 3 * 2 + 2), slice(patch % 3 * 2, patch % 3 * 2 + 2)
            spoilt[i, :, *at] = 1e3
    again = net(spoilt, keep=keep)
    assert torch.equal(again[0], image)
    assert torch.equal(again[1], patches)
    other = net(IMAGES, keep=keep.flip(1))  # another order: the same image, and patches in that order
    torch.testing.assert_close(other[0], image, rtol=0, atol=1e-12)
    torch.testing.assert_close(other[1], patches.flip(1), rtol=0, atol=1e-12)
    everything = net(IMAGES, keep=torch.arange(9).expand(3, -1).int())
    torch.testing.assert_close(everything, net(IMAGES), rtol=0, atol=1e-12)
    assert (image - net(IMAGES)[0]).abs().max() > 1e-3


def test_the_first_places_and_the_class_token_are_as_large_as_those_of_clip() -> None:
    net = ViT(image_size=32, patch=2, width=64, depth=1, heads=2, out_dim=128)
    for value in (net.places, net.class_token, net.head.weight):
        assert float(value.detach().std()) == pytest.approx(1 / 8, rel=0.25)
    assert net.places.shape == (257, 64)
    assert ViT(image_size=32, patch=2, width=64, depth=1, heads=2, pool="mean").places.shape == (256, 64)


def outputs(net: ViT, t: Tensor | None) -> Tensor:
    return torch.cat([part.flatten(1) for part in net(IMAGES, t)], dim=1)


def test_times_say_nothing_until_they_are_learned() -> None:
    net, plain = made(timed=True), made()
    plain.load_state_dict({name: value for name, value in net.state_dict().items() if not name.startswith("time")})
    times = torch.tensor([0.0, 0.3, 0.9]).double()
    for t in (None, times):
        assert torch.equal(outputs(net, t), outputs(plain, None))
    outputs(net, times).square().sum().backward()
    assert net.time is not None
    assert bool((net.time.shift.weight.grad != 0).any())
    nn.init.normal_(net.time.shift.weight)
    assert (outputs(net, times) - outputs(plain, None)).abs().amax(1).min() > 1e-3
    assert torch.equal(outputs(net, None), outputs(net, torch.ones(3).double()))  # clean images are those of t = 1
    one = outputs(net, times)[1]
    torch.testing.assert_close(outputs(net, times[1].expand(3))[1], one, rtol=0, atol=1e-12)  # each its own time


def test_what_does_not_fit_is_named() -> None:
    net = made()
    for call, message in (
        (lambda: ViT(image_size=30), "image_size must be a multiple of patch = 4, got 30"),
        (lambda: ViT(pool="max"), "pool must be one of class, mean"),
        (lambda: ViT(width=30), "dim must be a multiple of heads"),
        (lambda: ViT(out_dim=0), "out_dim must be"),
        (lambda: ViT(depth=0), "depth must be"),
        (lambda: net(IMAGES[:, :1]), r"x must have shape \(batch, 2, 6, 6\), got \(3, 1, 6, 6\)"),
        (lambda: net(IMAGES[:, :, :4]), r"x must have shape \(batch, 2, 6, 6\)"),
        (lambda: net(IMAGES, torch.ones(3)), "t must be None: the encoder was made without timed=True"),
        (lambda: net(IMAGES, keep=torch.zeros(3, 2)), r"keep must be patches \(3, K\)"),
        (lambda: net(IMAGES, keep=torch.zeros(2, 2).long()), r"keep must be patches \(3, K\)"),
        (lambda: net(IMAGES, keep=torch.zeros(3, 0).long()), r"keep must be patches \(3, K\)"),
        (lambda: net(IMAGES, keep=torch.full((3, 2), 9)), "keep must hold patches 0 ... 8, got 9 ... 9"),
        (lambda: net(IMAGES, keep=torch.full((3, 2), -1)), "keep must hold patches 0 ... 8"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
