"""The logit-Laplace distribution: a density that integrates to 1, masses that sum to 1, gradients that are finite."""

import pytest
import torch
from examples import normal, seeded
from torch import Tensor
from torch.distributions import AffineTransform, Laplace, SigmoidTransform, TransformedDistribution

from flowlib.nets.discrete import from_odds, into_odds
from flowlib.systems.logit_laplace import log_density, log_mass

LOCATIONS = torch.tensor([-6.0, -0.4, 0.0, 1.3, 8.0], dtype=torch.float64)
SCALES = torch.tensor([-7.0, -2.0, 0.0, 2.0], dtype=torch.float64)


def pixels(levels: int = 256) -> Tensor:
    return torch.linspace(-1, 1, levels, dtype=torch.float64)


def test_images_are_mapped_as_in_the_paper() -> None:
    values = torch.arange(256, dtype=torch.float64)
    mapped = into_odds(values / 127.5 - 1)
    torch.testing.assert_close(mapped, 0.8 / 255 * values + 0.1, rtol=0, atol=1e-14)
    torch.testing.assert_close(from_odds(mapped), values / 127.5 - 1, rtol=0, atol=1e-14)


def test_the_density_is_that_of_a_laplace_variable_through_the_sigmoid() -> None:
    x, location, log_scale = torch.rand(3, 50, 4, dtype=torch.float64, generator=seeded(0))
    law = TransformedDistribution(Laplace(location, log_scale.exp()), SigmoidTransform())
    torch.testing.assert_close(log_density(x, location, log_scale), law.log_prob(into_odds(x)), rtol=0, atol=1e-10)


@pytest.mark.parametrize("levels", [2, 3, 256])
def test_the_masses_of_all_values_sum_to_one_and_are_differences_of_the_distribution_function(levels: int) -> None:
    grid = torch.cartesian_prod(LOCATIONS, SCALES)
    location, log_scale = (part[:, None].expand(-1, levels) for part in grid.T)
    x = pixels(levels).expand(len(grid), levels)
    mass = log_mass(x, location, log_scale, levels).exp()
    torch.testing.assert_close(mass.sum(1), torch.ones(len(grid)).double(), rtol=0, atol=1e-12)
    edges = into_odds((x[:, 1:] + x[:, :-1]) / 2).logit()
    inner = Laplace(location[:, 1:], log_scale[:, 1:].exp()).cdf(edges)
    ends = torch.zeros(len(grid), 1).double()
    torch.testing.assert_close(mass, torch.cat([ends, inner, ends + 1], 1).diff(dim=1), rtol=0, atol=1e-12)


def test_the_mass_of_a_narrow_bin_is_the_density_times_its_width() -> None:
    levels = 2**16 + 1
    x = pixels(levels)[1:-1:97, None]
    location, log_scale = torch.full_like(x, 0.2), torch.full_like(x, -0.5)
    width = 0.8 / (levels - 1)
    mass = log_mass(x, location, log_scale, levels) - torch.tensor(width).log()
    torch.testing.assert_close(mass, log_density(x, location, log_scale), rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_and_right_far_out(dtype: torch.dtype) -> None:
    """Of a scale so small that the probability of most values is exp(-1000) or less, too."""
    grid = torch.cartesian_prod(pixels(), LOCATIONS, SCALES).to(dtype)
    x, location, log_scale = grid.unsqueeze(-1).unbind(1)
    location, log_scale = location.clone().requires_grad_(), log_scale.clone().requires_grad_()
    value = log_mass(x, location, log_scale)
    value.sum().backward()
    assert all(bool(torch.isfinite(part).all()) for part in (value, location.grad, log_scale.grad))
    if dtype == torch.float64:
        some = slice(None, None, 211)
        given = (location[some].detach().requires_grad_(), log_scale[some].detach().requires_grad_())
        assert torch.autograd.gradcheck(lambda a, b: log_mass(x[some], a, b), given, atol=1e-4)


def test_samples_have_the_masses() -> None:
    law = TransformedDistribution(
        Laplace(torch.tensor(0.3), torch.tensor(0.4)),
        [SigmoidTransform(), AffineTransform(-0.25, 2.5), AffineTransform(-1.0, 1.0)],
    )
    torch.manual_seed(0)
    drawn = law.sample((200_000,)).clamp(-1, 1)
    index = ((drawn + 1) / 2 * 4).round().long()
    share = index.bincount(minlength=5) / len(index)
    x = pixels(5).float()
    mass = log_mass(x[:, None], torch.full((5, 1), 0.3), torch.full((5, 1), 0.4).log(), levels=5).exp()[:, 0]
    assert (share - mass).abs().max() < 5 * 0.5 / 200_000**0.5


def test_bad_input_is_refused_by_name() -> None:
    x = normal(0, 2, 3)
    with pytest.raises(ValueError, match="must have one shape"):
        log_density(x, x, x[:1])
    with pytest.raises(ValueError, match="levels must be"):
        log_mass(x, x, x, levels=1)
