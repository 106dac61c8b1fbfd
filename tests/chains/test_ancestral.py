"""DDPM's loss and its ancestral sampler, as cases of the core's (PROPERTY 19), and what both refuse."""

from itertools import pairwise

import pytest
import torch
from examples import Converted, mixture, normal, seeded
from torch import Tensor, nn

from flowlib.chains import Chain, chain_of, forward, posterior, reverse, sample_ancestral, simple_loss
from flowlib.fields import Field, MixtureField, Model
from flowlib.guidance import ClassifierFreeGuidance
from flowlib.losses import prediction_error
from flowlib.metrics import energy_distance
from flowlib.paths import GaussianPath
from flowlib.samplers import sample_ddim, sample_sde
from flowlib.schedules import VP, Cosine, Linear

CHAINS = {"linear": Chain.linear(1000), "cosine": Chain.of(Cosine(), 1000), "short": Chain.linear(50)}
ALL = pytest.mark.parametrize("chain", CHAINS.values(), ids=list(CHAINS))
X, Z = normal(0, 6, 2), normal(1, 6, 2)


class Net(nn.Module):
    """A network of points without a guide."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return self.scale * torch.tanh(x) * t[:, None].to(x)


def test_the_simple_loss_is_the_mean_over_steps_of_the_error_of_the_noise() -> None:
    """Ho et al. 2020, equation 14, in expectation: within 5 standard errors of the sum over all k."""
    chain = CHAINS["short"]
    model = Model(Net(), GaussianPath(chain), "noise")
    z = normal(3, 400, 2)
    with torch.no_grad():
        drawn = torch.stack([simple_loss(model, z, generator=seeded(i)) for i in range(60)])
        noise = normal(4, *z.shape)
        each = [prediction_error(model, z, None, chain.time(k).expand(400), noise).mean() for k in range(1, 51)]
    exact = torch.stack(each).mean()
    error = float(drawn.std()) * (1 / 60 + 1 / 50) ** 0.5
    assert abs(float(drawn.mean() - exact)) < 5 * error


def test_the_simple_loss_sees_grid_times_only_and_any_kind_of_prediction() -> None:
    chain, seen = CHAINS["short"], []

    class Spy(Net):
        def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
            seen.append(t)
            return super().forward(x, t, y)

    simple_loss(Model(Spy(), GaussianPath(chain), "v"), normal(3, 400, 2), generator=seeded(0)).backward()
    k = (1 - torch.cat(seen)) * 50
    torch.testing.assert_close(k, k.round(), rtol=0, atol=1e-4)
    assert k.round().unique().tolist() == list(range(1, 51))


@ALL
@pytest.mark.parametrize("steps", [None, 7])
def test_ancestral_sampling_is_ddim_at_eta_1(chain: Chain, steps: int | None) -> None:
    """Property 19: step by step 1e-12 from the same states and noise, all steps or a sub-sequence."""
    field = mixture(chain)
    times = chain.time(chain.stride(chain.steps if steps is None else steps))
    ancestral = sample_ancestral(field, X, steps=steps, generator=seeded(2), trajectory=True)
    ddim = sample_ddim(field, X, eta=1.0, times=times, generator=seeded(2), trajectory=True)
    assert ancestral.shape == (len(times), 6, 2)
    torch.testing.assert_close(ancestral, ddim, rtol=0, atol=1e-12 if steps else 1e-11)


def test_ancestral_sampling_is_the_papers_algorithm_2() -> None:
    chain = CHAINS["short"]
    field, generator = mixture(chain), seeded(7)
    x = X * (1 - chain.abar[-1]).sqrt()
    for k in range(50, 0, -1):
        eps = field.noise(x, chain.time(k))
        mean = (x - chain.var[k] / (1 - chain.abar[k]).sqrt() * eps) / (1 - chain.var[k]).sqrt()
        x = mean + chain.var[k].sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype) if k > 1 else mean
    found = sample_ancestral(field, X, variance="large", generator=seeded(7))
    torch.testing.assert_close(found, x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ancestral_sampling_reaches_the_distribution_of_the_data(variance: str) -> None:
    field, count = mixture(CHAINS["linear"]), 2000
    data, _ = field.sample(count, seeded(1))
    floor = 2 / count * float(torch.cdist(data, data).mean())
    found = sample_ancestral(field, normal(0, count, 2), steps=250, variance=variance, generator=seeded(2))
    assert energy_distance(found, data) < 4 * floor


@pytest.mark.parametrize("variance", ["small", "large"])
def test_the_states_on_the_way_have_the_chains_marginals(variance: str) -> None:
    """On one Gaussian, whose reversal is affine: mean and variance by exact recursion, without Monte Carlo."""
    chain, std = CHAINS["linear"], 0.5
    field = MixtureField(torch.tensor([[2.0]], dtype=torch.float64), std, path=GaussianPath(chain))
    zero, one = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    mean, spread = zero, 1 - chain.abar[-1]
    for k, j in pairwise(chain.stride(1000).tolist()):
        at_zero, added = reverse(field, chain, zero, None, k, j, variance)
        slope = reverse(field, chain, one, None, k, j, variance)[0] - at_zero
        mean, spread = slope * mean + at_zero, slope**2 * spread + (added if j else 0)
        assert abs(float(mean - 2 * chain.abar[j].sqrt())) < 0.02
        assert abs(float(spread) - float(chain.abar[j] * std**2 + 1 - chain.abar[j])) < 0.015


def test_learned_variance_fits_in() -> None:
    """A function in the place of a name: here the exact variance of a Gaussian, which both fixed ones bracket."""
    chain, std = CHAINS["short"], 0.7
    field = MixtureField(torch.zeros(1, 2, dtype=torch.float64), std, path=GaussianPath(chain))

    def exact(x: Tensor, y: Tensor | None, k: int, j: int) -> tuple[Tensor, Tensor]:
        mean, small = reverse(field, chain, x, y, k, j)
        # var(x_j|x_k) = E var(x_j|x_k, x_0) + var of the posterior's mean through var(x_0|x_k).
        weight = posterior(chain, torch.zeros_like(x), torch.ones_like(x), k, j)[0][0, 0]
        left = std**2 * (1 - chain.abar[k]) / (chain.abar[k] * std**2 + 1 - chain.abar[k])
        variance = small + weight**2 * left
        assert small <= variance <= forward(chain, x, k, j)[1]
        return mean, variance

    count = 4000
    found = sample_ancestral(field, normal(0, count, 2), steps=5, variance=exact, generator=seeded(1))
    # The last step lands on D, whose variance is that of the data less what x_(k=10) leaves open.
    k = int(chain.stride(5)[-2])
    left = std**2 * (1 - chain.abar[k]) / (chain.abar[k] * std**2 + 1 - chain.abar[k])
    expected = std**2 - float(left)
    assert float(found.var()) == pytest.approx(expected, abs=6 * expected * (2 / (2 * count)) ** 0.5)


def test_one_point_is_reached_exactly() -> None:
    """Property 18, for both variances."""
    field = MixtureField(Z[:1], 0.0, path=GaussianPath(CHAINS["linear"]))
    for variance in ("small", "large"):
        found = sample_ancestral(field, X, steps=5, variance=variance, generator=seeded(0))
        torch.testing.assert_close(found, Z[:1].expand_as(X), rtol=0, atol=1e-12)


def test_any_field_will_do() -> None:
    """Guided, of another kind of prediction, on a continuous path; and one seed is one set of samples."""
    chain, y = CHAINS["short"], torch.tensor([0, 1, 2, 0, 1, 2])
    guided: Field = ClassifierFreeGuidance(mixture(chain), 1.0)
    plain = sample_ancestral(mixture(chain), X, y, generator=seeded(0))
    torch.testing.assert_close(sample_ancestral(guided, X, y, generator=seeded(0)), plain, rtol=0, atol=1e-12)
    eps = Converted(mixture(chain), "noise")
    torch.testing.assert_close(sample_ancestral(eps, X, y, generator=seeded(0)), plain, rtol=0, atol=1e-9)
    assert eps.calls == [6] * 50
    continuous = sample_ancestral(mixture(VP()), X, steps=50, generator=seeded(0))
    ddim = sample_ddim(mixture(VP()), X, steps=50, eta=1.0, generator=seeded(0))
    torch.testing.assert_close(continuous, ddim, rtol=0, atol=1e-9)
    assert chain_of(mixture(VP())).steps == 1000


def test_parts_do_not_change_the_samples() -> None:
    field = mixture(CHAINS["short"])
    whole = sample_ancestral(field, X, batch_size=6, generator=seeded(0))
    torch.testing.assert_close(sample_ancestral(field, X, batch_size=4, generator=seeded(0)), whole, rtol=0, atol=0)


def test_ddpm_is_the_reversed_sde_of_the_vp_path() -> None:
    """With many steps, `sample_sde` with g^2 = rate, which on the VP path is the default with eta = 1 / alpha."""
    chain = Chain.linear(4000)
    field, schedule = mixture(chain), VP()

    def g(t: Tensor) -> Tensor:
        return (2 * schedule.dalpha(t) / schedule.alpha(t)).sqrt()

    count = 2000
    by_ddpm = sample_ancestral(field, normal(0, count, 2), steps=200, generator=seeded(3))
    by_sde = sample_sde(mixture(schedule), normal(0, count, 2), steps=400, diffusion=g, generator=seeded(4))
    floor = 2 / count * float(torch.cdist(by_ddpm, by_ddpm).mean())
    assert energy_distance(by_ddpm, by_sde) < 4 * floor


FIELD = mixture(CHAINS["short"])
BAD = [
    (lambda: simple_loss(Model(Net()), Z), "model must have a chain for its path"),
    (lambda: simple_loss(Net(), Z), "model must have a chain for its path"),
    (lambda: sample_ancestral("field", X), "field must be a Field"),
    (lambda: sample_ancestral(FIELD, X, variance="middle"), "variance must be one of small, large"),
    (lambda: sample_ancestral(FIELD, X, steps=51), "steps must be at most 50"),
    (lambda: sample_ancestral(FIELD, X, steps=0), "steps must be an integer"),
    (lambda: sample_ancestral(FIELD, X[0]), "noise must have shape"),
    (lambda: sample_ancestral(FIELD, X, torch.zeros(5).long()), "y must have shape"),
    (lambda: sample_ancestral(FIELD, X, batch_size=0), "batch_size must be"),
    (lambda: sample_ancestral(mixture(Linear()), X), "field must be on a path that preserves variance"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_named(call, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()
