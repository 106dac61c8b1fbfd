"""The variational bound in continuous time: tight for an exact score, above the truth for another."""

import math

import pytest
import torch
from examples import SCHEDULES, mixture, seeded

from flowlib.continuous_bound import continuous_bound, noise_errors, time_at
from flowlib.fields import MixtureField, Model
from flowlib.nets import MLP
from flowlib.schedules import VE, Linear
from flowlib.solvers import logit_grid

Y = torch.tensor([0, 1, 2, 3])


@pytest.mark.parametrize("name", ["linear", "trigonometric", "square-root", "cosine"])
def test_the_bound_of_an_exact_field_is_its_log_density(name: str) -> None:
    field = mixture(SCHEDULES[name])
    z, labels = field.sample(3000, seeded(1))
    for y in (None, labels):
        nats = continuous_bound(field, z, y, cells=60, generator=seeded(2)).sum(1)
        gap = nats + field.log_prob(z, 1.0, y)
        assert abs(float(gap.mean())) < 4 * float(gap.std()) / 3000**0.5 + 0.005


def test_a_field_of_another_law_pays_what_the_two_differ_by() -> None:
    """KL(N(0, 1) || N(m, s^2)) in each of two dimensions, and no less."""
    z = torch.randn(4000, 2, generator=seeded(0), dtype=torch.float64)
    other = MixtureField(torch.full((1, 2), 0.5, dtype=torch.float64), std=0.7)
    nats = continuous_bound(other, z, cells=60, generator=seeded(1)).sum(1)
    gap = nats + other.log_prob(z, 1.0)
    assert float(gap.mean()) > -4 * float(gap.std()) / 4000**0.5
    entropy = 1 + math.log(2 * math.pi)
    kl = 2 * (math.log(0.7) + (1 + 0.25) / (2 * 0.49) - 0.5)
    assert float(nats.mean()) == pytest.approx(entropy + kl, abs=0.1)


def test_more_cells_and_other_batches_change_nothing_but_the_noise() -> None:
    field = mixture(Linear())
    z = field.sample(500, seeded(0))[0]
    few, many = (continuous_bound(field, z, cells=cells, generator=seeded(1)) for cells in (15, 90))
    assert few.shape == (500, 17)
    assert many.shape == (500, 92)
    assert float(few.sum(1).mean()) == pytest.approx(float(many.sum(1).mean()), abs=0.1)
    torch.testing.assert_close(few[:, 0], many[:, 0])  # what the ends cost of noise does not hang on the cells
    parts = continuous_bound(field, z, generator=seeded(1), batch_size=170)
    assert parts.shape == (500, 32)
    assert bool(parts.isfinite().all())


def test_the_noise_at_the_start_costs_its_divergence_from_the_prior() -> None:
    z = torch.randn(3, 2, generator=seeded(0), dtype=torch.float64)
    first = continuous_bound(mixture(Linear()), z, low=-1.0, generator=seeded(1))[:, 0]
    t = torch.sigmoid(torch.tensor(-0.5, dtype=torch.float64))
    prior = torch.distributions.Normal(0.0, (t**2 + (1 - t) ** 2).sqrt())
    expected = torch.distributions.kl_divergence(torch.distributions.Normal(t * z, 1 - t), prior).sum(1)
    torch.testing.assert_close(first, expected, rtol=0, atol=1e-9)


def test_errors_are_those_of_the_noise_at_their_log_snr() -> None:
    """Of N(0, 1) in the place of data: alpha^2 / (alpha^2 + beta^2) = sigmoid(log SNR)."""
    field = MixtureField(torch.zeros(1, 1, dtype=torch.float64), std=1.0)
    z = torch.randn(40_000, 1, generator=seeded(0), dtype=torch.float64)
    log_snr = torch.tensor([-2.0, 0.0, 3.0]).expand(40_000, 3)
    errors = noise_errors(field, z, None, log_snr, seeded(1)).mean((0, 2))
    torch.testing.assert_close(errors, log_snr[0].double().sigmoid(), rtol=0.03, atol=0)


def test_times_have_their_log_snr_on_every_schedule() -> None:
    wanted = torch.tensor([-3.0, 0.0, 5.0])
    for schedule in SCHEDULES.values():
        if isinstance(schedule, VE):
            continue
        torch.testing.assert_close(schedule.snr(time_at(schedule, wanted)).log(), wanted.double(), rtol=0, atol=1e-6)


def test_a_grid_even_in_logits_starts_and_ends_where_time_does() -> None:
    grid = logit_grid(17, -4, 11)
    assert grid[0] == 0
    assert grid[-1] == 1
    assert len(grid) == 18
    torch.testing.assert_close(torch.logit(grid[1:-1]), torch.linspace(-4, 11, 16, dtype=torch.float64))


def test_a_network_in_single_precision_and_bad_guides() -> None:
    model = Model(MLP(2, classes=4))
    z = torch.randn(4, 2, generator=seeded(0))
    assert continuous_bound(model, z, Y, generator=seeded(1)).dtype == torch.float32
    with pytest.raises(ValueError, match="y must"):
        continuous_bound(model, z, Y + 4)
    with pytest.raises(ValueError, match="high"):
        continuous_bound(model, z, low=3.0, high=2.0)
