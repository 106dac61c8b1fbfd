"""What samplers are asked for besides samples: gradients through them, and noise that belongs to a sample."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from examples import gaussian, mixture, normal, seeded
from torch import Tensor, nn

from flowlib.chains import Chain, sample_ancestral
from flowlib.fields import Model
from flowlib.samplers import sample_ddim, sample_ode, sample_sde
from flowlib.schedules import Cosine, Linear, Trigonometric

X = normal(0, 6, 2)
DETERMINISTIC: dict[str, Callable[..., Tensor]] = {
    "heun": partial(sample_ode, steps=200),
    "rk4": partial(sample_ode, steps=30, method="rk4"),
    "dopri5": partial(sample_ode, method="dopri5"),
    "ddim": partial(sample_ddim, steps=200, order=3),
    "sde": partial(sample_sde, steps=2000, eta=0.0, denoise_last=False),
}
RANDOM: dict[str, Callable[..., Tensor]] = {
    "sde": partial(sample_sde, steps=5, corrector_steps=1),
    "ddim": partial(sample_ddim, steps=5, eta=0.7),
    "ancestral": partial(sample_ancestral, steps=5),
}


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_gaussians_samples_move_with_its_noise_by_its_std(name: str, schedule: Any, batch_size: int | None) -> None:
    """The flow from N(0, 1) to N(m, s^2) is x -> m + s x: the derivative is s everywhere."""
    noise = normal(1, 6, 1).requires_grad_()
    samples = DETERMINISTIC[name](gaussian(0.8, 0.4, schedule), noise, batch_size=batch_size, gradients=True)
    (slope,) = torch.autograd.grad(samples.sum(), noise)
    torch.testing.assert_close(slope, torch.full_like(slope, 0.4), rtol=0, atol=8e-3)
    assert not DETERMINISTIC[name](gaussian(0.8, 0.4, schedule), noise).requires_grad


class Scale(nn.Module):
    """The velocity a x, whose flow multiplies by e^a."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return self.rate * x


@pytest.mark.parametrize("name", ["heun", "rk4", "dopri5"])
def test_samples_move_with_the_weights_of_a_network(name: str) -> None:
    model = Model(Scale())
    samples = DETERMINISTIC[name](model, X, gradients=True)
    torch.testing.assert_close(samples, torch.exp(model.net.rate) * X, rtol=0, atol=1e-4)
    (slope,) = torch.autograd.grad(samples.sum(), model.net.rate)
    assert float(slope) == pytest.approx(float(torch.exp(model.net.rate) * X.sum()), rel=1e-3)


def test_gradients_must_be_true_or_false() -> None:
    with pytest.raises(ValueError, match=r"^gradients must be true or false"):
        sample_ode(mixture(), X, gradients="yes")


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("batch_size", [None, 2])
def test_a_sample_with_a_seed_does_not_depend_on_the_others(name: str, batch_size: int | None) -> None:
    field, seeds = mixture(Chain.linear(50) if name == "ancestral" else Trigonometric()), [3, 1, 4, 1, 5, 9]
    together = RANDOM[name](field, X, generator=seeds, batch_size=batch_size)
    for i in (0, 2, 5):
        alone = RANDOM[name](field, X[i : i + 1], generator=[seeds[i]])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-12, atol=1e-12)
    twins = RANDOM[name](field, X[:1].expand(2, 2), generator=[7, 7])
    assert torch.equal(twins[0], twins[1])
    others = RANDOM[name](field, X[:1].expand(2, 2), generator=[7, 8])
    assert not torch.equal(others[0], others[1])
    before = torch.get_rng_state()
    RANDOM[name](field, X, generator=seeds)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("seeds", [[1, 2], [1, 2, 3, 4, 5, -1], [1, 2, 3, 4, 5, 0.5], []])
def test_seeds_that_are_not_one_a_sample_are_refused(name: str, seeds: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"^generator must be"):
        RANDOM[name](mixture(Chain.linear(50)), X, generator=seeds)


def test_a_generator_is_still_one_for_all() -> None:
    first, second = (sample_sde(mixture(), X, steps=3, generator=seeded(0)) for _ in range(2))
    assert torch.equal(first, second)
