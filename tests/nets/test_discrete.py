"""The network of the discrete autoencoder: logits of tokens, and images from them."""

import pytest
import torch

from flowlib.nets import DiscreteAutoencoder
from flowlib.systems.dvae import (
    gumbel_softmax,
)


def make(seed: int = 0, **changes: int) -> DiscreteAutoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DiscreteAutoencoder(**{"tokens": 8, "code_channels": 4, "channels": 16, **changes})


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_shapes(factor: int) -> None:
    dvae, x = make(factor=factor, in_channels=3), torch.zeros(2, 3, 8, 12)
    logits = dvae.encode(x)
    assert logits.shape == (2, 8, 8 // factor, 12 // factor)
    assert dvae.decode(gumbel_softmax(logits, 1.0)).shape == dvae(x).shape == x.shape


def test_bad_input_is_refused_by_name() -> None:
    dvae, x = make(), torch.zeros(2, 1, 8, 8)
    for name, value in (("tokens", 1), ("code_channels", 0), ("channels", 12), ("factor", 3), ("depth", 0)):
        with pytest.raises(ValueError, match=f"{name} must be"):
            DiscreteAutoencoder(**{name: value})
    with pytest.raises(ValueError, match=r"x must have shape \(batch, 1, H, W\)"):
        dvae.encode(torch.zeros(2, 1, 8, 10))
    with pytest.raises(ValueError, match=r"code must have shape \(batch, 8, h, w\), got \(2, 1, 8, 8\)"):
        dvae.decode(x)
    for index in (torch.zeros(2, 2, 2), torch.full((2, 2, 2), 8), torch.full((2, 2, 2), -1), torch.zeros(2, 2).long()):
        with pytest.raises(ValueError, match="index must"):
            dvae.decode_tokens(index)
