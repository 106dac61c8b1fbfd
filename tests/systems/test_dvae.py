"""The discrete autoencoder: Gumbel-softmax and its limits, the KL term, the codebook, and that it learns."""

import math
from itertools import pairwise

import pytest
import torch
from examples import normal, seeded
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from flowlib.data import Dataset, Spec
from flowlib.nets import DiscreteAutoencoder
from flowlib.nets.discrete import from_odds
from flowlib.systems.codebook_use import codebook_use
from flowlib.systems.dvae import (
    DVAESystem,
    annealed_temperature,
    dvae_loss,
    gumbel_noise,
    gumbel_softmax,
)
from flowlib.systems.logit_laplace import log_density, log_mass
from flowlib.systems.relaxation import kl_to_uniform
from flowlib.training import Turn

DRAWS = 100_000
LOGITS = torch.tensor([0.3, -1.0, 1.2, 0.0], dtype=torch.float64)
CHI2 = 30.7  # of 3 degrees of freedom, exceeded with probability 1e-6


def make(seed: int = 0, **changes: int) -> DiscreteAutoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DiscreteAutoencoder(**{"tokens": 8, "code_channels": 4, "channels": 16, **changes})


def chi2(index: Tensor) -> float:
    expected = torch.softmax(LOGITS, 0) * len(index)
    return float(((index.bincount(minlength=4) - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("temperature", [2.0, 0.5, 0.01])
def test_the_largest_entry_is_an_exact_categorical_draw(temperature: float) -> None:
    draws = gumbel_softmax(LOGITS.expand(DRAWS, 4), temperature, generator=seeded(0))
    torch.testing.assert_close(draws.sum(1), torch.ones(DRAWS, dtype=torch.float64))
    assert chi2(draws.argmax(1)) < CHI2


def test_the_test_above_sees_a_wrong_noise() -> None:
    wrong = (LOGITS + normal(0, DRAWS, 4)).argmax(1)  # normal where it must be Gumbel
    assert chi2(wrong) > 3 * CHI2


def test_limits_of_the_temperature() -> None:
    wide = LOGITS.expand(2000, 4)
    cold, hot = (gumbel_softmax(wide, temperature, generator=seeded(0)) for temperature in (1e-4, 1e4))
    one_hot = gumbel_softmax(wide, 1.0, hard=True, generator=seeded(0))
    assert ((cold - one_hot).abs().amax(1) < 1e-6).double().mean() > 0.995  # but for near ties
    assert (hot - 0.25).abs().max() < 1e-2


def test_gumbel_noise_has_its_distribution() -> None:
    """P(g < x) = exp(-exp(-x)): a Kolmogorov-Smirnov test, exceeded with probability 2 exp(-2 * 2.7^2) < 1e-6."""
    noise = gumbel_noise(torch.zeros(DRAWS, dtype=torch.float64), seeded(0)).sort().values
    grid = torch.arange(1, DRAWS + 1) / DRAWS
    assert float((torch.exp(-torch.exp(-noise)) - grid).abs().max()) * DRAWS**0.5 < 2.7


def test_straight_through_has_the_value_of_the_corner_and_the_gradient_of_the_relaxed_draw() -> None:
    values, gradients = [], []
    for hard in (False, True):
        logits = normal(1, 3, 4, 2, 2).requires_grad_()
        draw = gumbel_softmax(logits, 0.7, hard=hard, generator=seeded(5))
        gradients.append(torch.autograd.grad((draw * normal(2, 3, 4, 2, 2)).sum(), logits)[0])
        values.append(draw.detach())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)
    assert gradients[1].abs().max() > 0
    assert torch.equal(values[1], values[1].round())
    assert torch.equal(values[1].argmax(1), values[0].argmax(1))
    for value in values:  # tokens lie along axis 1
        torch.testing.assert_close(value.sum(1), torch.ones(3, 2, 2, dtype=torch.float64))


def test_divergence_against_torch() -> None:
    logits = 3 * normal(6, 5, 7, 2, 3)
    q = Categorical(logits=logits.movedim(1, -1))
    prior = Categorical(logits=torch.zeros(7, dtype=torch.float64))
    torch.testing.assert_close(kl_to_uniform(logits), kl_divergence(q, prior).sum((1, 2)))
    assert kl_to_uniform(torch.zeros(2, 5, 3)).abs().max() < 1e-5
    sure = torch.zeros(1, 5, 3)
    sure[:, 0] = 1e4
    torch.testing.assert_close(kl_to_uniform(sure), torch.tensor([3 * math.log(5)]))


def test_the_loss_is_its_formula() -> None:
    dvae, x = make(), normal(0, 3, 1, 8, 8, dtype=torch.float32).tanh()
    code = gumbel_softmax(dvae.encode(x), 0.5, generator=seeded(9))
    expected = (dvae.decode(code) - x).square().mean() + 0.3 * kl_to_uniform(dvae.encode(x)).sum() / x.numel()
    torch.testing.assert_close(dvae_loss(dvae, x, temperature=0.5, kl_weight=0.3, generator=seeded(9)), expected)


def test_it_overfits_one_batch_and_its_tokens_alone_are_enough() -> None:
    # Two pixels a side for each token: with four, rounding decides on some processors whether training succeeds.
    dvae, x = make(tokens=16, code_channels=8, factor=2), normal(0, 8, 1, 8, 8, dtype=torch.float32).tanh()
    optimiser, generator = torch.optim.Adam(dvae.parameters(), 1e-2), seeded(0)
    for step in range(400):
        loss = dvae_loss(dvae, x, temperature=annealed_temperature(step, 400), generator=generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        assert (dvae(x) - x).square().mean() < 0.25 * x.var()
    assert all(p.grad is not None and bool(p.grad.any()) for p in dvae.parameters())


def test_temperature_falls_from_start_to_end() -> None:
    values = [annealed_temperature(step, 10, 2.0, 0.1) for step in range(15)]
    assert (values[0], values[10], values[14]) == (2.0, pytest.approx(0.1), pytest.approx(0.1))
    assert values[5] == pytest.approx(1.05)
    assert all(a > b for a, b in pairwise(values[:11]))


def test_what_dalle_adds_comes_at_its_time() -> None:
    """The temperature falls and the KL weight rises over shares of the training; by default as they always did."""
    x = normal(0, 4, 1, 8, 8, dtype=torch.float32).tanh()
    data, dvae = Dataset(x), make()

    def loss(step: int, **settings: float) -> dict[str, float]:
        system = DVAESystem(tokens=8, latent_channels=4, channels=16, kl_weight=3.0, **settings)
        found = system.loss(dvae, data, Turn(torch.arange(4), slice(None), seeded(1), step, 100))
        return {name: float(value.detach()) for name, value in found.items()}

    assert loss(50)["temperature"] == pytest.approx(0.53125)
    assert loss(50, cooling=0.5)["temperature"] == pytest.approx(1 / 16)
    assert loss(25, cooling=0.5)["temperature"] == pytest.approx(0.53125)
    without = DVAESystem(tokens=8, latent_channels=4, channels=16, kl_weight=0.0)
    turn = Turn(torch.arange(4), slice(None), seeded(1), 20, 100)
    plain, full = float(without.loss(dvae, data, turn)["loss"]), loss(20)["loss"]
    assert full > plain
    assert loss(20, kl_rise=0.4)["loss"] == pytest.approx((plain + full) / 2, rel=1e-5)
    assert loss(20, kl_rise=0.2)["loss"] == pytest.approx(full, rel=1e-5)


@pytest.mark.parametrize("levels", [None, 256])
def test_the_logit_laplace_loss_is_the_evidence_bound(levels: int | None) -> None:
    dvae, x = make(law=True), torch.randint(256, (3, 1, 8, 8), generator=seeded(2)) / 127.5 - 1
    code = gumbel_softmax(dvae.encode(x), 0.5, generator=seeded(9))
    law = dvae.law(code)
    assert torch.equal(dvae.decode(code), from_odds(law[0].sigmoid()))
    likelihood = (log_density(x, *law) if levels is None else log_mass(x, *law, levels=levels)).sum((1, 2, 3))
    bound = likelihood - kl_to_uniform(dvae.encode(x))
    found = dvae_loss(dvae, x, temperature=0.5, kl_weight=1.0, generator=seeded(9), levels=levels)
    torch.testing.assert_close(found, -bound.mean() / 64)
    # A floor is added to the scales, not to their logarithms.
    rough = log_density(x, law[0], (law[1].exp() + 0.3).log()) if levels is None else log_mass(
        x, law[0], (law[1].exp() + 0.3).log(), levels=levels
    )  # fmt: skip
    found = dvae_loss(dvae, x, temperature=0.5, scale_floor=0.3, generator=seeded(9), levels=levels)
    torch.testing.assert_close(found, -rough.mean())
    with pytest.raises(ValueError, match="law must be true"):
        make().law(code)


def test_the_floor_of_the_scales_falls_with_the_temperature_to_nothing() -> None:
    x = torch.randint(256, (4, 1, 8, 8), generator=seeded(2)) / 127.5 - 1
    dvae, data = make(law=True), Dataset(x, levels=256)
    size = {"tokens": 8, "latent_channels": 4, "channels": 16, "likelihood": "logit-laplace", "kl_weight": 0.0}

    def loss(step: int, **settings: float) -> float:
        turn = Turn(torch.arange(4), slice(None), seeded(1), step, 100)
        return float(DVAESystem(**size, **settings).loss(dvae, data, turn)["loss"])  # type: ignore[arg-type]

    def expected(step: int, floor: float) -> float:
        noise = gumbel_noise(torch.empty(4, 8, 2, 2), seeded(1))
        temperature = annealed_temperature(step, 50)
        return float(dvae_loss(dvae, x, temperature=temperature, scale_floor=floor, noise=noise, levels=256))

    for step, floor in ((0, 2.0), (25, 1.0), (50, 0.0), (80, 0.0)):
        assert loss(step, cooling=0.5, scale_floor=2.0) == pytest.approx(expected(step, floor), rel=1e-6)
    with pytest.raises(ValueError, match="scale_floor must be 0 with likelihood 'gaussian'"):
        DVAESystem(scale_floor=1.0)


def test_the_gain_is_that_of_the_logits_before_training() -> None:
    spec, x = Spec((1, 8, 8), 0, columns=("x",)), normal(0, 4, 1, 8, 8, dtype=torch.float32).tanh()

    def logits(gain: float) -> Tensor:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            made = DVAESystem(tokens=8, latent_channels=4, channels=16, gain=gain).network(spec)
            return made.encode(x) - made.layers.encoder[-1].bias[:, None, None]

    torch.testing.assert_close(logits(8.0), 8 * logits(1.0))


def test_codebook_use() -> None:
    assert codebook_use(torch.arange(8).reshape(2, 2, 2), 8) == (1.0, pytest.approx(8.0))
    assert codebook_use(torch.zeros(5, dtype=torch.int64), 8) == (0.125, pytest.approx(1.0))
    share, perplexity = codebook_use(torch.tensor([0, 0, 0, 1]), 4)
    assert (share, perplexity) == (0.5, pytest.approx(math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4))))


def test_noise_comes_from_the_generator_alone() -> None:
    state = torch.get_rng_state()
    first, second, other = (gumbel_softmax(normal(0, 4, 3), 1.0, generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_bad_input_is_refused_by_name() -> None:
    dvae, x = make(), torch.zeros(2, 1, 8, 8)
    for temperature in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="temperature must be"):
            gumbel_softmax(normal(0, 2, 3), temperature)
    with pytest.raises(ValueError, match="logits must be"):
        gumbel_softmax(torch.zeros(2, 3, dtype=torch.int64), 1.0)
    with pytest.raises(ValueError, match="kl_weight must be"):
        dvae_loss(dvae, x, temperature=1.0, kl_weight=-1.0)
    with pytest.raises(ValueError, match="end must be"):
        annealed_temperature(0, 10, end=0.0)
    for settings in (
        {"likelihood": "laplace"},
        {"kl_rise": 1.5},
        {"scale_floor": -1.0},
        {"gain": 0.0},
        {"cooling": 0.0},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
            DVAESystem(**settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="step must be"):
        annealed_temperature(-1, 10)
    with pytest.raises(ValueError, match="index must"):
        codebook_use(torch.tensor([0, 9]), 4)
