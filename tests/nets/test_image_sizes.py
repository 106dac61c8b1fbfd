"""Images of a wrong shape are refused in the same words by every network, and so are those that a norm would erase."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from flowlib.nets import (
    AttentionBlock,
    Autoencoder,
    Codebook,
    CodebookAutoencoder,
    CrossAttentionBlock,
    DiscreteAutoencoder,
    DiT,
    PatchDiscriminator,
    ResidualBlock,
    TimeClassifier,
    UNet,
)
from flowlib.nets.norm import GroupNorm


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def timed(net: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: net(x, torch.zeros(len(x)))


def blocked(block: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: block(x, torch.zeros(len(x), 4))


def worded(block: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: block(x, (torch.zeros(len(x), 3, 4), torch.ones(len(x), 3, dtype=torch.bool)))


# name -> (what is called, the multiples that it asks for)
TAKERS: dict[str, tuple[Callable[[], Callable[[Tensor], Tensor]], int]] = {
    "unet": (lambda: timed(UNet(2, (8, 16), 1, patch=2)), 4),
    "dit": (lambda: timed(DiT(2, 8, 4, 8, 1, 2)), 4),
    "classifier": (lambda: timed(TimeClassifier(2, (8,))), 1),
    "autoencoder": (lambda: Autoencoder(2, channels=8, factor=4).encode, 4),
    "codebook": (lambda: CodebookAutoencoder(2, channels=8, factor=2).encode, 2),
    "discrete": (lambda: DiscreteAutoencoder(in_channels=2, channels=8, factor=4).encode, 4),
    "patches": (lambda: PatchDiscriminator(2, 8), 4),
}


@pytest.mark.parametrize("name", TAKERS)
def test_images_of_a_wrong_shape_are_refused_in_the_same_words(name: str) -> None:
    make, multiple = TAKERS[name]
    take = make()
    words = f" with H and W multiples of {multiple}" if multiple > 1 else ""
    wrong = [(2, 3, 8, 8), (2, 8), (2, 2, 8, 8, 1)]
    wrong += [(2, 2, 8, 8 + multiple // 2), (2, 2, 8 + multiple // 2, 8)] if multiple > 1 else []
    for shape in wrong:
        with pytest.raises(ValueError) as caught:  # noqa: PT011  # the whole message is compared
            take(torch.zeros(shape))
        assert str(caught.value) == f"x must have shape (batch, 2, H, W){words}, got {shape}"
    take(torch.zeros(2, 2, 8, 4 if multiple > 1 else 3))


@pytest.mark.parametrize(
    "take", [Autoencoder(channels=8).decode, Codebook(5, 4), DiscreteAutoencoder(4, channels=8).decode]
)
def test_latents_of_a_wrong_shape_are_too(take: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match=r"(z|code) must have shape \(batch, 4, h, w\), got \(2, 3, 2, 2\)"):
        take(torch.zeros(2, 3, 2, 2))


# Each comes down to 1 x 1 pixels of 8 channels, one for each group of a norm.
ERASERS: dict[str, tuple[Callable[[], Callable[[Tensor], Tensor]], tuple[int, ...]]] = {
    "unet": (lambda: timed(UNet(1, (16, 8), 1, patch=2)), (2, 1, 4, 4)),
    "unet, of one image": (lambda: timed(UNet(1, (8,), 1, patch=1)), (1, 1, 1, 1)),
    "classifier": (lambda: timed(TimeClassifier(1, (16, 8))), (2, 1, 3, 4)),
    "autoencoder": (lambda: Autoencoder(channels=8, factor=4).encode, (2, 1, 4, 4)),
    "decoder": (lambda: Autoencoder(channels=8, factor=4).decode, (2, 4, 1, 1)),
    "discrete": (lambda: DiscreteAutoencoder(channels=8, factor=8).encode, (2, 1, 8, 8)),
    "patches": (lambda: PatchDiscriminator(1, 4), (2, 1, 4, 4)),
    "the second norm of a block": (lambda: blocked(ResidualBlock(16, 8, 4)), (2, 16, 1, 1)),
    "attention": (lambda: blocked(AttentionBlock(8, 2)), (2, 8, 1, 1)),
    "cross-attention": (lambda: worded(CrossAttentionBlock(8, 4, 2)), (2, 8, 1, 1)),
}


@pytest.mark.parametrize("name", ERASERS)
def test_an_image_that_a_norm_would_erase_is_refused_and_a_larger_one_is_not(name: str) -> None:
    make, shape = ERASERS[name]
    take = make()
    with pytest.raises(ValueError, match="x is too small: it has come down to 1 x 1 pixels of 8 channels"):
        take(torch.randn(shape))
    assert torch.isfinite(torch.as_tensor(take(torch.randn(*shape[:2], 2 * shape[2], shape[3]))[0])).all()


def test_two_values_in_a_group_are_enough() -> None:
    """Of each pair the norm keeps which is larger; of a single value, nothing."""
    x = torch.tensor([[1.0, 3.0, 5.0, 2.0]]).reshape(1, 4, 1, 1)
    torch.testing.assert_close(GroupNorm(2, 4)(x).flatten(), torch.tensor([-1.0, 1.0, 1.0, -1.0]), atol=1e-4, rtol=0)
    assert torch.equal(GroupNorm(4, 8)(x.repeat(1, 2, 3, 1)), nn.GroupNorm(4, 8)(x.repeat(1, 2, 3, 1)))
    with pytest.raises(ValueError, match="x is too small: it has come down to 1 x 1 pixels of 4 channels"):
        GroupNorm(4, 4)(x)
