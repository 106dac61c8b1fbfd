"""ADM's choices as arguments of the one U-Net: each starts at zero, learns, and does what its name says."""

from collections.abc import Iterator

import pytest
import torch

from flowlib.nets.blocks import ResidualBlock
from flowlib.nets.unet import UNet

OPTIONS = {
    "plain": {},
    "deep": {"depth": 3},
    "attention": {"attention": (0, 1)},
    "head_channels": {"attention": (0, 1), "head_channels": 8},
    "added": {"adagn": False},
    "biggan": {"biggan": True},
    "gates": {"gates": True},
    "all": {"depth": 2, "attention": (0, 1), "head_channels": 8, "biggan": True},
}


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def make(**options: object) -> UNet:
    return UNet(**{"channels": (16, 32), "depth": 1, "patch": 1, "dim": 32, "heads": 1} | options)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_choice_starts_at_zero_and_every_parameter_learns(name: str) -> None:
    net = make(**OPTIONS[name])
    x, t, y = torch.randn(4, 1, 8, 8), torch.rand(4), torch.tensor([0, 3, 9, 10])
    assert not net(x, t, y).any()
    target, optimiser = torch.randn(x.shape), torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(5):
        optimiser.zero_grad()
        (net(x, t, y) - target).square().mean().backward()
        optimiser.step()
    assert [key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_heads_by_their_width() -> None:
    net = make(attention=(0, 1), head_channels=8)
    heads = [m.heads for m in net.modules() if hasattr(m, "qkv")]
    assert sorted(heads) == [2, 2, 4, 4, 4]  # 16 and 32 channels
    with pytest.raises(ValueError, match="head_channels must divide"):
        make(attention=(0,), head_channels=12)


@pytest.mark.parametrize("resize", ["up", "down"])
def test_a_resizing_block_starts_as_a_plain_resize(resize: str) -> None:
    block, x = ResidualBlock(8, 8, 4, resize=resize), torch.randn(2, 8, 4, 4)
    expected = x.repeat_interleave(2, 2).repeat_interleave(2, 3) if resize == "up" else None
    if expected is None:
        expected = x.unflatten(3, (2, 2)).unflatten(2, (2, 2)).mean((3, 5))
    torch.testing.assert_close(block(x, torch.randn(2, 4)), expected)


def test_an_added_condition_is_a_shift_before_the_norm() -> None:
    """A shift of a whole group is taken out again by the norm; a scale is no part of it."""
    block = ResidualBlock(16, 16, 4, adagn=False)
    torch.nn.init.normal_(block.conv2.weight)
    x, condition = torch.randn(2, 16, 4, 4), torch.randn(2, 4)
    before = block(x, condition)
    torch.nn.init.constant_(block.modulation.bias, 3.0)
    torch.testing.assert_close(block(x, condition), before, rtol=0, atol=1e-3)
    with torch.no_grad():
        block.modulation.bias[0] = -3.0
    assert float((block(x, condition) - before).abs().max()) > 0.1
