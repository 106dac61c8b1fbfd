"""The latent model is a field like any other: it samples, guides and scores through the same calls."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from flowlib import (
    ClassifierFreeGuidance,
    EnergyGuidance,
    Field,
    MixtureField,
    Model,
    flow_matching_loss,
    log_likelihood,
    sample_ddim,
    sample_ode,
    sample_sde,
)
from flowlib.nets import Autoencoder
from flowlib.nets.dit import DiT
from flowlib.systems.latent import LatentModel, latent_statistics

SHAPE = (2, 2, 2)  # of a latent of an image (1, 8, 8)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def exact() -> MixtureField:
    return MixtureField(torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0)), 0.5)


def learned() -> Model:
    net = DiT(in_channels=2, image_size=2, patch=1, width=16, depth=1, heads=2, classes=3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return Model(net, predicts="v")


def latent_model(field: Field, scale: float = 1.0) -> LatentModel:
    return LatentModel(field, Autoencoder(latent_channels=2, channels=8), scale)


@pytest.mark.parametrize("make", [exact, learned])
def test_everything_done_with_a_field_is_done_with_it(make: type[Field]) -> None:
    field = make()
    latent = latent_model(field, 2.0)
    noise, y = torch.randn(4, *SHAPE), torch.tensor([0, 1, 2, 3])
    seed = torch.Generator().manual_seed

    def energy(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return -x.flatten(1).square().sum(1)

    for one, other in (
        (sample_ode(latent, noise, y, steps=4), sample_ode(field, noise, y, steps=4)),
        (
            sample_sde(latent, noise, y, steps=4, generator=seed(0)),
            sample_sde(field, noise, y, steps=4, generator=seed(0)),
        ),
        (sample_ddim(latent, noise, steps=4), sample_ddim(field, noise, steps=4)),
        (
            sample_ode(ClassifierFreeGuidance(latent, 2.0), noise, y, steps=4),
            sample_ode(ClassifierFreeGuidance(field, 2.0), noise, y, steps=4),
        ),
        (
            sample_ode(EnergyGuidance(latent, energy), noise, y, steps=4),
            sample_ode(EnergyGuidance(field, energy), noise, y, steps=4),
        ),
        (log_likelihood(latent, noise, y, steps=4), log_likelihood(field, noise, y, steps=4)),
        (latent.s(noise, 0.5, y), field.s(noise, 0.5, y)),
    ):
        assert torch.equal(one, other)
    images = latent.decode(sample_ode(latent, noise, y, steps=4))
    assert images.shape == (4, 1, 8, 8)


def test_an_end_without_velocity_is_known() -> None:
    points = MixtureField(torch.randn(3, *SHAPE), 0.0)
    assert latent_model(points).has_velocity_at(0.5)
    assert not latent_model(points).has_velocity_at(1.0)


def test_guidance_by_what_the_decoded_image_shows() -> None:
    latent = latent_model(exact())

    def brightness(z: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return latent.decode(z).flatten(1).sum(1)

    noise = torch.randn(4, *SHAPE)
    plain, bright = (
        latent.decode(sample_ode(EnergyGuidance(latent, brightness, scale), noise, steps=8)) for scale in (0.0, 2.0)
    )
    assert (bright.flatten(1).sum(1) > plain.flatten(1).sum(1)).all()


def test_learns_a_flow_on_its_own_latents() -> None:
    latent = latent_model(learned()).train()
    images, y = torch.rand(8, 1, 8, 8) * 2 - 1, torch.arange(8) % 3
    latent.fit_scale(images)
    before = [p.clone() for p in latent.autoencoder.parameters()]
    optimizer = torch.optim.Adam([p for p in latent.parameters() if p.requires_grad], 1e-2)
    losses = []
    for _ in range(40):
        z = latent.encode(images, torch.Generator().manual_seed(0))
        losses.append(flow_matching_loss(latent, z, y, dropout=0.0, generator=torch.Generator().manual_seed(1)))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(p, q) for p, q in zip(latent.autoencoder.parameters(), before, strict=True))
    assert latent.model.training
    assert not latent.autoencoder.training


def test_encode_and_decode_are_the_autoencoders_up_to_scale() -> None:
    latent, x = latent_model(exact(), 3.0), torch.rand(4, 1, 8, 8)
    mean, log_variance = latent.autoencoder.encode(x)
    assert torch.equal(latent.encode(x), 3 * mean)
    torch.testing.assert_close(latent.decode(latent.encode(x)), latent.autoencoder.decode(mean))
    first, second = (latent.encode(x, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, second)
    noise = (first - 3 * mean) / (3 * torch.exp(0.5 * log_variance))
    torch.testing.assert_close(noise, torch.randn(mean.shape, generator=torch.Generator().manual_seed(0)))


def test_fitted_scale_gives_latents_of_standard_deviation_one() -> None:
    latent, images = latent_model(exact()), torch.rand(600, 1, 8, 8) * 2 - 1
    mean, std = latent_statistics(latent.autoencoder, images)
    z = latent.autoencoder.sample(images, torch.Generator().manual_seed(0))
    assert mean == pytest.approx(float(z.mean()), abs=5 * std / z.numel() ** 0.5)
    assert std == pytest.approx(float(z.std()), rel=5 / (2 * z.numel()) ** 0.5)
    split = latent_statistics(latent.autoencoder, images, batch_size=7)
    assert split == pytest.approx((mean, std), rel=1e-5)
    assert latent.fit_scale(images) == pytest.approx(1 / std)
    assert float(latent.encode(images, torch.Generator().manual_seed(0)).std()) == pytest.approx(1, rel=0.05)


def test_scale_is_part_of_the_state() -> None:
    latent, other = latent_model(learned(), 0.25), latent_model(learned())
    other.load_state_dict(latent.state_dict())
    x = torch.rand(2, 1, 8, 8)
    assert float(other.scale) == 0.25
    assert torch.equal(other.encode(x), latent.encode(x))
    assert torch.equal(other.u(torch.ones(2, *SHAPE), 0.5), latent.u(torch.ones(2, *SHAPE), 0.5))


def test_bad_input_is_refused_by_name() -> None:
    latent = latent_model(exact())
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="scale must be"):
            latent_model(exact(), scale)
    with pytest.raises(ValueError, match=r"x must have shape \(batch, 1, H, W\)"):
        latent.encode(torch.zeros(2, 1, 7, 8))
    with pytest.raises(ValueError, match="z must have shape"):
        latent.decode(torch.zeros(2, 5, 2, 2))
    with pytest.raises(ValueError, match="images is empty"):
        latent.fit_scale(torch.zeros(0, 1, 8, 8))
    with pytest.raises(ValueError, match="batch_size must be"):
        latent.fit_scale(torch.rand(4, 1, 8, 8), batch_size=0)
    with pytest.raises(TypeError, match="factor"):
        LatentModel(exact(), Autoencoder(), factor=2)
