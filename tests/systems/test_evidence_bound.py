"""The ELBO where the evidence is known: a linear Gaussian decoder, x = W z + b + std eps (probabilistic PCA).

With orthogonal columns of W the exact posterior has independent components, so the encoder can hold it.
"""

import math

import pytest
import torch
from examples import normal, seeded
from torch import Tensor
from torch.distributions import MultivariateNormal

from flowlib.systems.vae import elbo_loss, kl_to_normal

STD, DIMENSION, DRAWS = 0.6, 5, 40_000


class Linear:
    """An encoder with the exact posterior, moved by `shift` and with its log-variances moved by `stretch`."""

    def __init__(self, shift: float = 0.0, stretch: float = 0.0) -> None:
        basis = torch.linalg.qr(normal(0, DIMENSION, 2))[0]
        self.weight, self.bias = basis * torch.tensor([1.5, 0.8]), normal(1, DIMENSION)
        self.shift, self.stretch = shift, stretch
        self.variance = STD**2 / (self.weight.square().sum(0) + STD**2)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = (x - self.bias) @ self.weight * self.variance / STD**2
        return mean + self.shift, (self.variance.log() + self.stretch).expand_as(mean)

    def decode(self, z: Tensor) -> Tensor:
        return z @ self.weight.T + self.bias

    def log_evidence(self, x: Tensor) -> Tensor:
        covariance = self.weight @ self.weight.T + STD**2 * torch.eye(DIMENSION, dtype=x.dtype)
        return MultivariateNormal(self.bias, covariance).log_prob(x)


def bound(model: Linear, x: Tensor) -> tuple[float, float]:
    """The ELBO of one point from `elbo_loss`, with its standard error."""
    parts = []
    for seed in range(20):
        many = x.expand(DRAWS // 20, DIMENSION)
        loss = elbo_loss(model, many, kl_weight=2 * STD**2, generator=seeded(seed))  # type: ignore[arg-type]
        parts.append(float(-loss * DIMENSION / (2 * STD**2) - DIMENSION * math.log(STD * math.sqrt(2 * math.pi))))
    values = torch.tensor(parts)
    return float(values.mean()), float(values.std() / 20**0.5)


@pytest.mark.parametrize("seed", [3, 4])
def test_it_is_the_log_evidence_at_the_exact_posterior(seed: int) -> None:
    model, x = Linear(), normal(seed, 1, DIMENSION)
    value, error = bound(model, x)
    assert abs(value - float(model.log_evidence(x))) < 6 * error
    assert error < 0.02


@pytest.mark.parametrize(("shift", "stretch"), [(0.5, 0.0), (0.0, 1.0), (0.0, -1.0), (-0.3, 0.7)])
def test_elsewhere_it_is_less_by_the_divergence_to_the_posterior(shift: float, stretch: float) -> None:
    model, exact, x = Linear(shift, stretch), Linear(), normal(3, 1, DIMENSION)
    value, error = bound(model, x)
    (mean, log_variance), (centre, spread) = model.encode(x), exact.encode(x)
    gap = float(kl_to_normal((mean - centre) * (-spread / 2).exp(), log_variance - spread))
    assert gap > 20 * error  # so that the two tests cannot both hold by chance
    assert value < float(model.log_evidence(x)) - gap / 2
    assert abs(value + gap - float(model.log_evidence(x))) < 6 * error


def test_no_other_weight_gives_it() -> None:
    """Museum: kl_weight = std^2, without the 2 of the Gaussian's exponent."""
    model, x = Linear(), normal(3, 1, DIMENSION)
    loss = elbo_loss(model, x.expand(DRAWS, DIMENSION), kl_weight=STD**2, generator=seeded(0))  # type: ignore[arg-type]
    value = -loss * DIMENSION / (2 * STD**2) - DIMENSION * math.log(STD * math.sqrt(2 * math.pi))
    assert value > model.log_evidence(x) + 0.1
