"""Denoising autoencoders: corruption, loss, and the score that the best denoiser knows."""

import pytest
import torch
from examples import mixture, normal, seeded
from torch import Tensor, nn

from flowlib.fields import MixtureField
from flowlib.nets import Autoencoder
from flowlib.schedules import Linear
from flowlib.systems.denoiser import denoiser_score, denoising_loss, gaussian_noise, masking_noise


def noised_score(field: MixtureField, x: Tensor, std: float) -> Tensor:
    """The score of z + std eps: that of x_t = alpha z + beta eps on the linear path, at beta / alpha = std."""
    t = 1 / (1 + std)
    return t * field.s(t * x, t)


def test_the_best_denoiser_of_a_mixture_gives_its_score() -> None:
    """E[z | x + std eps] by quadrature over the plane, through `denoiser_score`, against the closed form."""
    std, field = 0.5, mixture(Linear())
    axis = torch.linspace(-6, 6, 601, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    weight = field.log_prob(z, 1.0)

    def best(x: Tensor) -> Tensor:
        share = torch.softmax(weight - (x[:, None] - z).square().sum(2) / (2 * std**2), dim=1)
        return share @ z

    x = normal(0, 16, 2)
    torch.testing.assert_close(denoiser_score(best, x, std), noised_score(field, x, std), rtol=1e-9, atol=1e-9)


def test_a_trained_denoiser_approaches_the_score() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2)).double()
    std, field, generator = 0.5, mixture(Linear()), seeded(0)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 800)
    for _ in range(800):
        loss = denoising_loss(net, field.sample(256, generator)[0], gaussian_noise(std), generator=generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    x = gaussian_noise(std)(field.sample(2000, seeded(1))[0], seeded(2))
    exact = noised_score(field, x, std)
    with torch.no_grad():
        error = (denoiser_score(net, x, std) - exact).square().sum() / exact.square().sum()
    assert error < 0.05


def test_the_loss_of_an_affine_network_is_known() -> None:
    """x N(0, 1), network a x: E |a (x + std eps) - x|^2 = (a - 1)^2 + a^2 std^2."""
    a, std, x = 0.7, 0.8, normal(2, 200_000, 1)
    found = denoising_loss(lambda x: a * x, x, gaussian_noise(std), generator=seeded(3))
    expected = (a - 1) ** 2 + a**2 * std**2
    assert abs(found - expected) < 5 * expected * (2 / 200_000) ** 0.5
    torch.testing.assert_close(denoising_loss(lambda x: a * x, x), (a - 1) ** 2 * x.square().mean())


def test_masking_destroys_the_stated_share_and_nothing_else() -> None:
    x = normal(4, 1000, 100)
    masked = masking_noise(0.3, value=9.0)(x, seeded(0))
    destroyed = masked == 9.0
    assert abs(destroyed.double().mean() - 0.3) < 5 * (0.3 * 0.7 / 1e5) ** 0.5
    assert torch.equal(masked[~destroyed], x[~destroyed])
    assert torch.equal(masking_noise(0.0)(x, seeded(0)), x)
    assert torch.equal(masking_noise(1.0)(x, seeded(0)), torch.full_like(x, -1))


def test_an_autoencoder_is_such_a_network() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        autoencoder = Autoencoder(channels=16, latent_channels=8)
    x, state = normal(5, 8, 1, 8, 8, dtype=torch.float32).tanh(), torch.get_rng_state()
    optimiser = torch.optim.Adam(autoencoder.parameters(), 5e-3)
    losses = []
    for step in range(200):
        loss = denoising_loss(autoencoder, x, gaussian_noise(0.1), generator=seeded(step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]  # one batch is overfitted
    assert torch.equal(torch.get_rng_state(), state)


def test_bad_input_is_refused_by_name() -> None:
    x = normal(0, 4, 2)
    for std in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="std must be"):
            gaussian_noise(std)
        with pytest.raises(ValueError, match="std must be"):
            denoiser_score(torch.tanh, x, std)
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match="share must be"):
            masking_noise(share)
    with pytest.raises(ValueError, match="value must be"):
        masking_noise(0.5, float("inf"))
    with pytest.raises(ValueError, match="x must be a floating-point tensor"):
        denoising_loss(torch.abs, torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"network must return the shape of x, \(4, 2\), got \(4, 1\)"):
        denoising_loss(lambda x: x[:, :1], x)
