"""Generators and discriminators: shapes, ranges, labels, and how much each logit sees."""

import pytest
import torch
from examples import normal

from flowlib.nets import ConvDiscriminator, ConvGenerator, PatchDiscriminator


def networks(size: int = 8, classes: int | None = 10) -> tuple[ConvGenerator, ConvDiscriminator]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ConvGenerator(size, noise_dim=8, channels=8, classes=classes), ConvDiscriminator(
            size, channels=8, classes=classes
        )


@pytest.mark.parametrize("size", [8, 28])
@pytest.mark.parametrize("classes", [10, None])
def test_shapes_and_range(size: int, classes: int | None) -> None:
    maker, judge = networks(size, classes)
    y = None if classes is None else torch.tensor([0, 9, 3])
    images = maker(normal(0, 3, 8, dtype=torch.float32), y)
    assert images.shape == (3, 1, size, size)
    assert images.abs().max() < 1
    assert judge(images, y).shape == (3,)


def test_labels_matter_to_both() -> None:
    maker, judge = networks()
    noise = normal(0, 2, 8, dtype=torch.float32)[:1].expand(2, 8)
    images = maker(noise, torch.tensor([1, 2]))
    assert not torch.equal(images[0], images[1])
    same = images[:1].expand(2, 1, 8, 8)
    logits = judge(same, torch.tensor([1, 2]))
    assert logits[0] != logits[1]


def test_a_patch_is_18_pixels_wide() -> None:
    net = PatchDiscriminator(1, 8)
    x = torch.rand(1, 1, 64, 64, requires_grad=True)
    net.layers[3] = torch.nn.Identity()  # a norm sees the whole image
    net(x)[0, 0, 8, 8].backward()
    seen = x.grad[0, 0].abs() > 0
    assert seen.any(0).sum() == 18
    assert seen.any(1).sum() == 18
    assert net(torch.zeros(2, 1, 28, 32)).shape == (2, 1, 7, 8)


def test_bad_input_is_refused_by_name() -> None:
    maker, judge = networks()
    x, y = torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    for kind in (ConvGenerator, ConvDiscriminator):
        for name, value in (("size", 10), ("size", 0), ("channels", 12), ("in_channels", 0), ("classes", 0)):
            with pytest.raises(ValueError, match=f"{name} must be"):
                kind(**{name: value})
    with pytest.raises(ValueError, match=r"noise must have shape \(batch, 8\), got \(4, 9\)"):
        maker(torch.zeros(4, 9), y)
    with pytest.raises(ValueError, match=r"x must have shape \(batch, 1, 8, 8\)"):
        judge(torch.zeros(4, 1, 8, 7), y)
    for bad in (None, y[:3], y + 11, y.float()):
        with pytest.raises(ValueError, match="y must"):
            maker(torch.zeros(4, 8), bad)
    with pytest.raises(ValueError, match=r"y must lie in 0 \.\.\. 9: a GAN knows no null guide"):
        judge(x, y + 10)
    with pytest.raises(ValueError, match="y was given"):
        networks(classes=None)[0](torch.zeros(4, 8), y)
    with pytest.raises(ValueError, match="multiple of 4"):
        PatchDiscriminator(1, 6)
    with pytest.raises(ValueError, match="multiples of 4"):
        PatchDiscriminator()(torch.zeros(1, 1, 6, 8))
