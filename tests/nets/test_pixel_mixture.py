"""A network of pixels with few values: its bins against quadrature, its field and likelihood against closed forms."""

import math

import numpy as np
import pytest
import torch
from examples import seeded
from torch import Tensor

from flowlib.continuous_bound import continuous_bound
from flowlib.data import load
from flowlib.fields import Model
from flowlib.likelihood import log_likelihood
from flowlib.nets import PixelMixture
from flowlib.nets.pixel_mixture import GAIN, bin_posterior, gaussian_posterior
from flowlib.solvers import logit_grid
from flowlib.systems.flow import FlowSystem

LEVELS, VALUES = 17, (0, 3, 16)
HALF = 1 / (LEVELS - 1)


def plain() -> PixelMixture:
    """A network before its U-Net has learned: each pixel by itself, of the law that `log_density` knows."""
    net = PixelMixture(1, (8, 16), patch=1, dim=16, levels=LEVELS, values=VALUES).double()
    net.log_weights.data = torch.tensor([0.5, -0.2, 0.1, 0.0, -0.3], dtype=torch.float64)
    return net


def log_density(net: PixelMixture, x: Tensor, t: float) -> Tensor:
    """log p_t of each pixel, written anew: bins by the error function, at t = 1 the data's own density."""
    weights = torch.softmax(GAIN * net.log_weights.detach(), 0)
    centres = torch.tensor([2 * HALF * value - 1 for value in VALUES], dtype=torch.float64)
    beta, means = 1 - t, torch.tensor([-1 / 3, 1 / 3], dtype=torch.float64)
    if t == 1:
        bins = torch.where((x[..., None] - centres).abs() < HALF, 1 / (2 * HALF), 0.0)
    else:
        ends = (t * (centres + side * HALF) for side in (-1, 1))
        low, high = (torch.erf((x[..., None] - end) / (beta * math.sqrt(2))) for end in ends)
        bins = (low - high) / 2 / (2 * HALF * t)
    wide = torch.distributions.Normal(t * means, math.sqrt(t**2 * 0.501**2 + beta**2)).log_prob(x[..., None]).exp()
    return (weights * torch.cat([bins, wide], dim=-1)).sum(-1).log()


@pytest.mark.parametrize(
    ("half", "beta"),
    [(half, beta) for half in (1 / 255, 0.5) for beta in (0.95, 0.5, 0.05, 0.01, 2e-3, 1e-4)] + [(1 / 255, 1e-6)],
)
def test_the_posterior_in_a_bin_is_that_of_a_quadrature(half: float, beta: float) -> None:
    alpha = 1 - beta
    z = np.linspace(-0.3 - half, -0.3 + half, 200_001)
    for offset in (-30, -3, -1.01, -0.99, -0.3, 0, 0.5, 2):
        x = alpha * -0.3 + offset * alpha * half
        log_weight = -0.5 * ((x - alpha * z) / beta) ** 2
        top = log_weight.max()
        weight = np.exp(log_weight - top)
        mean = (weight * z).sum() / weight.sum()
        density = top + math.log(weight.mean() / beta / math.sqrt(2 * math.pi))
        given = [torch.tensor([value], dtype=torch.float32) for value in (x, -0.3)]
        found = bin_posterior(*given, half, torch.tensor([alpha]), torch.tensor([beta]))
        # float32 knows x to 1e-8 or so, of a standard deviation of beta
        assert float(found[0]) == pytest.approx(density, rel=3e-3, abs=3e-3)
        assert float(found[1]) == pytest.approx(mean - (x - alpha * mean) / beta, rel=3e-3, abs=3e-3)


def test_a_gaussian_part_has_its_posterior_by_bayes() -> None:
    numbers = [torch.tensor(value, dtype=torch.float64) for value in (0.4, -0.2, 0.3, 0.7, 0.3)]
    x, mean, std, alpha, beta = (float(number) for number in numbers)
    z = np.linspace(mean - 12 * std, mean + 12 * std, 200_001)
    joint = np.exp(-0.5 * ((z - mean) / std) ** 2 - 0.5 * ((x - alpha * z) / beta) ** 2) / (2 * math.pi * std * beta)
    density, first = np.trapezoid(joint, z), np.trapezoid(joint * z, z)
    found = gaussian_posterior(*numbers)
    assert float(found[0]) == pytest.approx(math.log(density), abs=1e-9)
    assert float(found[1]) == pytest.approx(first / density - (x - alpha * first / density) / beta, abs=1e-9)


@pytest.mark.parametrize("t", [0.02, 0.5, 0.9, 0.99, 0.9999])
def test_at_first_it_is_the_exact_velocity_of_a_law_of_single_pixels(t: float) -> None:
    """u by the gradient of the closed-form log density."""
    model = Model(plain())
    z = torch.cat([(torch.rand(40, generator=seeded(0)) * 2 - 1) * HALF - 1, torch.randn(24, generator=seeded(1))])
    x = (t * z + (1 - t) * torch.randn(64, generator=seeded(2))).double().reshape(1, 1, 8, 8).requires_grad_()
    (score,) = torch.autograd.grad(log_density(model.net, x, t).sum(), x)  # type: ignore[arg-type]
    torch.testing.assert_close(model.s(x, t).detach(), score, rtol=1e-3, atol=1e-3)


def test_likelihood_and_bound_are_those_of_the_law() -> None:
    """By the ODE, on a grid that is even in log SNR, and by the bound, which is tight where the score is exact."""
    model = Model(plain())
    law = torch.distributions.Categorical(logits=GAIN * model.net.log_weights.detach())  # type: ignore[operator]
    part = torch.multinomial(law.probs, 1600, replacement=True, generator=seeded(3)).reshape(400, 1, 2, 2)
    centres = torch.tensor([2 * HALF * value - 1 for value in VALUES] + [-1 / 3, 1 / 3], dtype=torch.float64)
    inside = HALF * (2 * torch.rand(part.shape, generator=seeded(4), dtype=torch.float64) - 1)
    wide = 0.501 * torch.randn(part.shape, generator=seeded(5), dtype=torch.float64)
    z = centres[part] + torch.where(part < len(VALUES), inside, wide)
    exact = log_density(model.net, z, 1.0).flatten(1).sum(1)  # type: ignore[arg-type]
    found = log_likelihood(model, z[:100], times=logit_grid(40, -4, 9))
    assert float((found - exact[:100]).abs().median()) < 0.01  # beside an edge a grid of any size is too coarse
    assert abs(float((found - exact[:100]).mean())) < 0.02
    nats = continuous_bound(model, z, cells=30, generator=seeded(6)).sum(1)
    gap = nats + exact
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / 20 + 0.02


@pytest.mark.parametrize("t", [0.0, 1e-6, 0.5, 1 - 6e-8, 1.0])
def test_values_and_gradients_are_finite_at_all_times_and_far_away(t: float) -> None:
    net = PixelMixture(3, (8, 16), dim=16)
    for scale in (1 / 255, 1.0, 30.0):
        x = (scale * torch.randn(2, 3, 8, 8, generator=seeded(0)) - 1).requires_grad_()
        out = net(x, torch.full((2,), t))
        assert out.shape == x.shape
        assert bool(out.isfinite().all())
        assert bool(torch.autograd.grad(out.sum(), x)[0].isfinite().all())


def test_labels_reach_the_network() -> None:
    net = PixelMixture(1, (8, 16), classes=3, dim=16)
    for parameter in net.net.parameters():  # of which some start at zero
        torch.nn.init.normal_(parameter, std=0.2)
    x, t = torch.randn(2, 1, 8, 8), torch.full((2,), 0.5)
    first, second = net(x, t, torch.tensor([0, 0])), net(x, t, torch.tensor([0, 1]))
    assert net.null == 3
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"values": ()}, "values must be different ones of 0 ... 255, at least one"),
        ({"values": (1, 1)}, "values must be different"),
        ({"values": (0, 256)}, "values must be different"),
        ({"gaussians": 0}, "gaussians must be an integer >= 1"),
        ({"levels": 1}, "levels must be an integer >= 2"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PixelMixture(1, (8, 16), **settings)  # type: ignore[arg-type]


def test_a_flow_on_it_takes_levels_from_pixels_and_a_velocity_on_the_linear_path() -> None:
    digits = load("digits").spec
    system = FlowSystem(net="mixture", net_args={"channels": (8, 16), "values": (0, 16)}, measure="noise")
    assert system.model(digits.shape, digits, {}).net.bin_half == HALF
    with pytest.raises(ValueError, match="needs pixels"):
        system.model((1, 4, 4), digits, {})
    with pytest.raises(ValueError, match="velocity on the linear path"):
        FlowSystem(net="mixture", predicts="v")
    with pytest.raises(ValueError, match="levels"):
        FlowSystem(net="mixture", net_args={"levels": 256})
