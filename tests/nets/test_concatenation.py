"""Guides that are images: through every sampler and guidance, exact where the conditional law is known."""

import pytest
import torch
from torch import Tensor, nn

from flowlib import ClassifierFreeGuidance, Model, flow_matching_loss, sample_ode, sample_sde
from flowlib.losses import drop_guide
from flowlib.nets import Concatenated
from flowlib.nets.unet import UNet
from flowlib.paths import GaussianPath

RHO = 0.8  # z = RHO c + sqrt(1 - RHO^2) n where c is known, and plain Gaussian where it is not


class Exact(nn.Module):
    """The velocity of z given (c, known), pixel by pixel: E[z - eps | x_t] on the linear path, z ~ N(m, v)."""

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        assert y is None
        x, c, known = x.chunk(3, dim=1)
        t = t[:, None, None, None]
        m, v = RHO * c * known, 1 - RHO**2 * known
        gain = (t * v - (1 - t)) / (t**2 * v + (1 - t) ** 2)
        return torch.cat([m + gain * (x - t * m), torch.full_like(c, 7.0), torch.full_like(c, -7.0)], dim=1)


def guide(count: int) -> Tensor:
    """c = -1, 0, 1 and a pixel of which nothing is known."""
    c = torch.tensor([-1.0, 0.0, 1.0, 0.0]).reshape(1, 1, 2, 2)
    known = torch.tensor([1.0, 1.0, 1.0, 0.0]).reshape(1, 1, 2, 2)
    return torch.cat([c, known], dim=1).expand(count, -1, -1, -1)


MEANS = torch.tensor([-RHO, 0.0, RHO, 0.0]).double()
VARIANCES = torch.tensor([1 - RHO**2] * 3 + [1.0]).double()


def check_moments(x: Tensor, slack: float = 0.0) -> None:
    """Means, variances and correlations of N samples of four pixels, each to 6 standard errors (plus `slack`)."""
    flat, count = x.flatten(1).double(), len(x)
    assert bool(((flat.mean(0) - MEANS).abs() < 6 * (VARIANCES / count).sqrt() + slack).all())
    assert bool(((flat.var(0) / VARIANCES - 1).abs() < 6 * (2 / count) ** 0.5 + slack).all())
    off = torch.corrcoef(flat.T) - torch.eye(4)
    assert float(off.abs().max()) < 6 / count**0.5 + slack


def test_it_samples_an_exactly_known_conditional_gaussian() -> None:
    model = Model(Concatenated(Exact(), 2))
    noise = torch.randn(20_000, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    y = guide(len(noise))
    check_moments(sample_ode(model, noise, y, steps=40), 0.005)
    check_moments(sample_ode(model, noise, y, steps=40, batch_size=7000), 0.005)
    sde = sample_sde(model, noise, y, steps=200, denoise_last=False, generator=torch.Generator().manual_seed(1))
    check_moments(sde, 0.03)  # Euler's own error is O(1 / steps)
    free = sample_ode(model, noise, steps=40).flatten(1)
    assert float((free.var(0) - 1).abs().max()) < 6 * (2 / 20_000) ** 0.5 + 0.005


def test_training_finds_it() -> None:
    """A linear network's flow at each time is exact, so a small one learns the conditional mean from samples."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(4, 48, 1), nn.SiLU(), nn.Conv2d(48, 48, 1), nn.SiLU(), nn.Conv2d(48, 3, 1)
            )

        def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
            return self.layers(torch.cat([x, t[:, None, None, None].expand_as(x[:, :1])], dim=1))

    g = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Model(Concatenated(Small(), 2)).train()
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    steps = 400
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 5e-3 * (1 - step / steps)
        c = torch.randn(256, 1, 2, 2, generator=g)
        z = RHO * c + (1 - RHO**2) ** 0.5 * torch.randn(c.shape, generator=g)
        y = torch.cat([c, torch.ones_like(c)], dim=1)
        loss = flow_matching_loss(model, z, y, dropout=0.2, generator=g)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    noise = torch.randn(4000, 1, 2, 2, generator=g)
    x = sample_ode(model, noise, guide(4000), steps=20).flatten(1).double()
    assert float((x.mean(0) - MEANS).abs().max()) < 0.12
    assert float((x.var(0) / VARIANCES - 1).abs().max()) < 0.25


def test_guidance_without_a_classifier_takes_the_empty_image() -> None:
    model = Model(Concatenated(Exact(), 2))
    x, y = torch.randn(5, 1, 2, 2), guide(5)
    free, conditional = model.predict(x, 0.3), model.predict(x, 0.3, y)
    assert torch.equal(free, model.predict(x, 0.3, torch.zeros_like(y)))
    for w in (0.0, 1.0, 2.5):
        found = ClassifierFreeGuidance(model, w).predict(x, 0.3, y)
        torch.testing.assert_close(found, (1 - w) * free + w * conditional)
    dropped = drop_guide(model, y, 0.5, torch.Generator().manual_seed(0))
    kept = (dropped == y).flatten(1).all(1)
    assert bool((kept | (dropped == 0).flatten(1).all(1)).all())
    assert 0 < int(kept.sum()) < 5


def test_path_and_device_of_the_null_guide() -> None:
    model = Model(Concatenated(Exact(), 2), GaussianPath(), "velocity")
    assert model.null.shape == (2, 1, 1)
    assert model.null_like(guide(3)).shape == (3, 2, 2, 2)


def test_bad_guides_are_named() -> None:
    x, net = torch.zeros(2, 1, 4, 4), Concatenated(Exact(), 2)
    for wrong in (
        torch.zeros(2, 1, 4, 4),
        torch.zeros(3, 2, 4, 4),
        torch.zeros(2, 2, 4, 3),
        torch.zeros(2, dtype=torch.long),
    ):
        with pytest.raises(ValueError, match=r"y must be images \(2, 2, 4, 4\)"):
            net(x, torch.zeros(2), wrong)
    with pytest.raises(ValueError, match="classes = None"):
        Concatenated(UNet(channels=(8,)), 1)
