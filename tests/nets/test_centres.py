"""Centres of patches: logits by distance, what is made of tokens, and the network that adds to both."""

import pytest
import torch
from examples import normal
from torch.nn import functional as F

from flowlib.nets import DiscreteAutoencoder
from flowlib.nets.centres import Centres


def made(**changes: object) -> DiscreteAutoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        settings = {"tokens": 6, "code_channels": 4, "in_channels": 3, "channels": 8, "factor": 2, "centred": True}
        return DiscreteAutoencoder(**{**settings, **changes})  # type: ignore[arg-type]


def test_logits_are_negative_squared_distances_but_for_what_all_tokens_share() -> None:
    centres = Centres(5, 3, 2).double()
    centres.log_sharpness.data.fill_(0.7)
    patches = normal(0, 2, 3, 4, 4)
    apart = patches[:, None] - centres.centre[:, :, None, None]
    expected = -torch.tensor(0.7).exp() * apart.square().sum(2)
    torch.testing.assert_close(centres.logits(patches).log_softmax(1), expected.log_softmax(1))


def test_logits_are_of_full_precision_where_the_rest_is_not() -> None:
    centres, patches = Centres(5, 3, 2), 10 * normal(0, 2, 3, 4, 4).float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = centres.logits(patches)
    assert torch.equal(inside, centres.logits(patches))


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_the_network_begins_as_a_quantiser_of_patches(factor: int) -> None:
    dvae, x = made(factor=factor), normal(0, 2, 3, 8, 8).float()
    dvae.centres.table.data.normal_(generator=torch.Generator().manual_seed(1))
    patches = F.pixel_unshuffle(x, factor).movedim(1, -1)
    nearest = torch.cdist(patches.flatten(1, 2), dvae.centres.centre).argmin(2)
    assert torch.equal(dvae.encode(x).argmax(1).flatten(1), nearest)
    table = dvae.centres.table[nearest].unflatten(1, patches.shape[1:3]).movedim(-1, 1)
    torch.testing.assert_close(dvae(x), F.pixel_shuffle(table, factor))


def test_convolutions_add_to_both() -> None:
    dvae, x = made(law=True), normal(0, 2, 3, 8, 8).float()
    before = dvae.encode(x), dvae.law(dvae.one_hot(dvae.encode(x).argmax(1)))[1]
    for layer in (dvae.layers.encoder[-1], dvae.layers.decoder[-1]):
        layer.weight.data.fill_(0.1)
    assert not torch.equal(dvae.encode(x), before[0])
    assert not torch.equal(dvae.law(dvae.one_hot(before[0].argmax(1)))[1], before[1])


def test_without_centres_nothing_is_new() -> None:
    assert not [name for name in made(centred=False).state_dict() if name.startswith("centres")]
    with pytest.raises(ValueError, match="centred must be"):
        made(centred=1)
    with pytest.raises(ValueError, match="size must be"):
        Centres(2, 0, 1)
