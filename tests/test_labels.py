"""Labels of every kind of integer that torch has are the same labels, wherever they are given."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from examples import mixture, normal, seeded
from torch import Tensor, nn

from flowlib.chains import Chain, forward
from flowlib.data import Dataset
from flowlib.fields import MixtureField, Model
from flowlib.guidance import ClassifierFreeGuidance
from flowlib.likelihood import log_likelihood
from flowlib.losses import flow_matching_loss
from flowlib.nets import MLP, Codebook, ConvDiscriminator, DiT, TimeClassifier, UNet, perplexity
from flowlib.nets.discrete import DiscreteAutoencoder
from flowlib.nets.words import WordEmbedding
from flowlib.paths import GaussianPath
from flowlib.samplers import sample_ode
from flowlib.stable import StableTargets

KINDS = [torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.uint64]
Y = torch.tensor([0, 1, 2, 0])
X = normal(0, 4, 2)
IMAGES = normal(1, 4, 1, 8, 8, dtype=torch.float32)


def built(make: Callable[..., nn.Module], *sizes: Any, **more: Any) -> nn.Module:
    """A network with weights that say something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make(*sizes, **more)
        for weight in net.parameters():
            nn.init.normal_(weight, std=0.3)
    return net


def loss(y: Tensor) -> Tensor:
    model = Model(built(MLP, 2, 8, 1, classes=127).double()).train()  # int8 has no null label 127 + 1
    return flow_matching_loss(model, X, y, dropout=0.5, generator=seeded(0))


def stable(y: Tensor) -> Tensor:
    targets = StableTargets(X, y, count=2, generator=seeded(0))
    t = torch.full((4,), 0.1, dtype=torch.float64)
    return torch.cat(targets(GaussianPath(), torch.arange(4), X, y, t, normal(2, 4, 2), 0.0))


T = torch.full((4,), 0.5)
NETS = {
    "mlp": (built(MLP, 2, 8, 1, classes=128), X.float()),
    "unet": (built(UNet, 1, (8, 8), 1, 128, 1, dim=8), IMAGES),
    "dit": (built(DiT, 1, 8, 4, 8, 1, 2, 128), IMAGES),
}
USES: dict[str, Callable[[Tensor], Tensor]] = {
    **{name: lambda y, net=net, x=x: net(x, T, y) for name, (net, x) in NETS.items()},
    "guided network": lambda y: sample_ode(ClassifierFreeGuidance(Model(NETS["mlp"][0]), 2.0), X.float(), y, steps=2),
    "guided mixture": lambda y: sample_ode(ClassifierFreeGuidance(mixture(), 2.0), X, y, steps=2),
    "labels of a mixture": lambda y: MixtureField(X, 0.3, labels=y).u(X, 0.5, y),
    "likelihood": lambda y: log_likelihood(mixture(), X, y, steps=2),
    "loss": loss,
    "stable targets": stable,
    "classifier": lambda y: built(TimeClassifier, 1, (8,), 3, dim=8).log_prob(IMAGES, T, y),
    "discriminator": lambda y: built(ConvDiscriminator, 8, 1, 8, 3)(IMAGES, y),
    "words": lambda y: built(WordEmbedding, 4, 2, 8)(torch.stack([y, y], 1), 4)[0],
    "codes": lambda y: built(Codebook, 4, 3).look_up(y[:, None, None]),
    "tokens": lambda y: built(DiscreteAutoencoder, 4, 2, 1, 8).decode_tokens(y[:, None, None].expand(-1, 2, 2)),
    "perplexity": lambda y: torch.tensor(perplexity(y, 4)),
    "steps of a chain": lambda y: forward(Chain.linear(50), X, y)[0],
    "data": lambda y: Dataset(X.float(), y, name="own").batch(torch.arange(4))["label"],
}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("use", USES)
def test_a_label_is_a_label_in_every_kind_of_integer(use: str, kind: torch.dtype) -> None:
    y = Y + 1 if use == "words" else Y  # a row of padding alone says nothing
    found = USES[use](y.to(kind))
    assert torch.equal(found, USES[use](y))


def test_a_dataset_keeps_its_labels_as_int64() -> None:
    assert Dataset(X.float(), Y.to(torch.uint8), name="own").labels.dtype == torch.int64
