"""The variational autoencoder: the loss against its formula, and that it learns."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from pictures import blobs
from torch.distributions import Independent, Normal, kl_divergence

from flowlib.nets import Autoencoder, CodebookAutoencoder
from flowlib.nets.autoencoder import draw
from flowlib.systems.vae import elbo_loss, kl_to_normal

pytestmark = pytest.mark.usefixtures("seeded_weights")


def train(kl_weight: float, steps: int = 120) -> Autoencoder:
    generator, images = torch.Generator().manual_seed(0), blobs(256)
    autoencoder = Autoencoder(latent_channels=2, channels=16)
    optimizer = torch.optim.Adam(autoencoder.parameters(), 4e-3)
    for _ in range(steps):
        x = images[torch.randint(256, (32,), generator=generator)]
        loss = elbo_loss(autoencoder, x, kl_weight=kl_weight, generator=generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return autoencoder.eval()


@torch.no_grad()
def test_learns_to_reconstruct_and_trades_rate_for_distortion() -> None:
    x, measured = blobs(256), []
    for kl_weight in (1e-4, 1.0):
        with torch.enable_grad():
            autoencoder = train(kl_weight)
        mean, log_variance = autoencoder.encode(x)
        error = (autoencoder.decode(mean) - x).square().mean() / x.var()
        measured.append((error.item(), kl_to_normal(mean, log_variance).mean().item()))
    (fine_error, fine_rate), (coarse_error, coarse_rate) = measured
    assert fine_error < 0.03
    assert coarse_error > 2 * fine_error
    assert coarse_rate < fine_rate / 2


def test_divergence_against_torch() -> None:
    mean, log_variance = torch.randn(4, 2, 3, 3).double(), torch.randn(4, 2, 3, 3).double()
    posterior = Independent(Normal(mean, torch.exp(0.5 * log_variance)), 3)
    prior = Independent(Normal(torch.zeros_like(mean), 1.0), 3)
    torch.testing.assert_close(kl_to_normal(mean, log_variance), kl_divergence(posterior, prior))


def test_loss_is_the_evidence_bound_of_a_gaussian_decoder() -> None:
    """-ELBO / components = loss / (2 std^2) + log(std sqrt(2 pi)) at kl_weight = 2 std^2, for the same noise."""
    autoencoder, x, std = Autoencoder(channels=8).double(), torch.randn(3, 1, 8, 8).double(), 0.3
    loss = elbo_loss(autoencoder, x, kl_weight=2 * std**2, generator=torch.Generator().manual_seed(5))
    mean, log_variance = autoencoder.encode(x)
    z = draw(mean, log_variance, torch.Generator().manual_seed(5))
    log_likelihood = Normal(autoencoder.decode(z), std).log_prob(x).flatten(1).sum(1)
    bound = (log_likelihood - kl_to_normal(mean, log_variance)).mean() / 64
    constant = math.log(std * (2 * math.pi) ** 0.5)
    torch.testing.assert_close(loss / (2 * std**2) + constant, -bound, rtol=1e-10, atol=1e-10)


def test_gradient_reaches_every_parameter() -> None:
    autoencoder = Autoencoder(channels=16, depth=2)
    optimizer = torch.optim.Adam(autoencoder.parameters(), 1e-3)
    for _ in range(4):
        optimizer.zero_grad()
        elbo_loss(autoencoder, blobs(8), kl_weight=1e-3).backward()
        optimizer.step()
    silent = [key for key, p in autoencoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_bf16_autocast_is_finite() -> None:
    autoencoder = Autoencoder(channels=16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = elbo_loss(autoencoder, blobs(4))
        z = autoencoder.sample(blobs(4))
        image = autoencoder.decode(z)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(image).all()
    assert all(torch.isfinite(p.grad).all() for p in autoencoder.parameters() if p.grad is not None)


def test_a_negative_weight_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="kl_weight must be"):
        elbo_loss(Autoencoder(channels=8), torch.zeros(2, 1, 8, 8), kl_weight=-1.0)


@pytest.mark.parametrize("make", [CodebookAutoencoder, partial(Autoencoder, certain=True)])
def test_latents_without_variance_have_no_kl_term(make: Callable[..., Autoencoder]) -> None:
    """The KL of a point to a Gaussian is infinite; without that term it is the error of the reconstruction."""
    network, x = make(1, 2, 8, 2), torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"^autoencoder has latents without variance"):
        elbo_loss(network, x)
    assert torch.equal(elbo_loss(network, x, kl_weight=0.0), (network(x) - x).square().mean())
