"""Discrete chains: DDPM's tables, and the bridge to continuous time and back (PROPERTIES 1, 2 and 20)."""

import math
from itertools import pairwise

import pytest
import torch
from examples import SCHEDULES, seeded

from flowlib.chains import Chain, grid_time, named_chain
from flowlib.paths import GaussianPath
from flowlib.schedules import VP, Cosine, Linear, Schedule, Trigonometric

CHAINS = {"linear": Chain.linear(1000), "cosine": Chain.of(Cosine(), 1000), "short": Chain.linear(40)}
ALL = pytest.mark.parametrize("chain", CHAINS.values(), ids=list(CHAINS))


def test_the_linear_chain_is_that_of_the_paper() -> None:
    """Ho et al. 2020, section 4: T = 1000, 1e-4 to 0.02; of the variance 4e-5 is still signal at the end."""
    chain = Chain.linear()
    assert chain.steps == 1000
    assert chain.var[[0, 1, 1000]].tolist() == [0, 1e-4, 0.02]
    product = math.prod(1 - (1e-4 + (0.02 - 1e-4) * i / 999) for i in range(1000))
    assert float(chain.abar[-1]) == pytest.approx(product, rel=1e-10)
    assert float(chain.abar[-1]) == pytest.approx(4.04e-5, rel=1e-2)


def test_the_linear_chain_loses_about_as_much_for_any_number_of_steps() -> None:
    ends = [float(Chain.linear(steps).abar[-1]) for steps in (4000, 1000, 250)]
    assert ends == sorted(ends, reverse=True)
    assert 4 * ends[-1] > ends[0]  # which 1000 / T is there for: unscaled, they would lie 30 orders of magnitude apart


def test_the_cosine_chain_is_that_of_the_paper() -> None:
    """Nichol & Dhariwal 2021, equation 17, its variances clipped at 0.999."""
    f = [math.cos((k / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(1001)]
    expected = torch.tensor([min(1 - after / before, 0.999) for before, after in pairwise(f)])
    torch.testing.assert_close(CHAINS["cosine"].var[1:].float(), expected, rtol=1e-6, atol=0)
    assert float(CHAINS["cosine"].var[-1]) == 0.999


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_chain_is_a_schedule_that_is_exact_at_the_grid_times(chain: Chain, dtype: torch.dtype) -> None:
    k = torch.arange(chain.steps + 1)
    t = chain.time(k).to(dtype)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4  # what rounding the time itself to float32 costs
    torch.testing.assert_close(chain.alpha(t).double() ** 2, chain.abar, rtol=tolerance, atol=0)
    noise = -torch.expm1(chain.log_abar)
    torch.testing.assert_close(chain.beta(t).double() ** 2, noise, rtol=tolerance, atol=0)
    assert chain.beta(t[:1]).tolist() == [0]
    assert chain.alpha(t[:1]).tolist() == [1]
    assert chain.alpha(t).dtype == dtype


@ALL
def test_derivatives_are_exact_between_the_grid_times_and_look_ahead_at_them(chain: Chain) -> None:
    """Property 2 inside the steps; at a grid time, the derivative of the step towards the data, in either precision."""
    inside = (torch.arange(chain.steps, dtype=torch.float64) + 0.37) / chain.steps
    for level, slope in ((chain.alpha, chain.dalpha), (chain.beta, chain.dbeta)):
        _, expected = torch.func.jvp(level, (inside,), (torch.ones_like(inside),))
        torch.testing.assert_close(slope(inside), expected, rtol=1e-11, atol=1e-12)
        grid = chain.time(torch.arange(2, chain.steps + 1))
        step = 1e-9
        ahead = (level(grid + step) - level(grid)) / step
        torch.testing.assert_close(slope(grid), ahead, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(slope(grid.float()).double(), slope(grid), rtol=1e-4, atol=0)
    assert chain.dbeta(torch.ones(1)).tolist() == [-math.inf]


@ALL
def test_variance_is_preserved_and_the_ratio_rises_strictly(chain: Chain) -> None:
    """Property 1, between the grid times too."""
    t = torch.linspace(0, 1, 5001, dtype=torch.float64)[1:-1]
    torch.testing.assert_close(chain.alpha(t) ** 2 + chain.beta(t) ** 2, torch.ones_like(t), rtol=0, atol=1e-14)
    assert bool((chain.snr(t).diff() > 0).all())
    assert bool((chain.dalpha(t) * chain.beta(t) - chain.alpha(t) * chain.dbeta(t) > 0).all())


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=list(SCHEDULES))
def test_any_schedule_has_a_chain_with_its_signal_to_noise_ratio(schedule: Schedule) -> None:
    chain = Chain.of(schedule, 200)
    k = torch.arange(1, 200)  # the last variance may be clipped
    snr = schedule.snr(chain.time(k))
    torch.testing.assert_close(chain.snr(chain.time(k)), snr, rtol=1e-9, atol=0)
    torch.testing.assert_close(chain.abar[k], snr / (1 + snr), rtol=1e-9, atol=0)


def test_there_and_back_again() -> None:
    """A chain as a schedule has itself for a chain."""
    for chain in CHAINS.values():
        torch.testing.assert_close(Chain.of(chain, chain.steps).var, chain.var, rtol=1e-8, atol=0)
    chain = CHAINS["linear"]
    every = Chain.of(chain, 50)  # a grid twenty times as coarse: the chain of every twentieth state
    torch.testing.assert_close(every.abar, chain.abar[::20], rtol=1e-10, atol=0)


def test_the_linear_chain_tends_to_the_vp_schedule() -> None:
    """Song et al. 2021, appendix B: the limit of many small steps, with an error of order 1/T."""
    t = torch.linspace(0, 0.99, 34, dtype=torch.float64)
    errors = [float((Chain.linear(T).alpha(t) - VP().alpha(t)).abs().max()) for T in (250, 500, 1000, 2000, 4000)]
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert errors[-1] < 1e-3
    assert orders[-1] == pytest.approx(1, abs=0.1)


def test_names_stand_for_chains() -> None:
    torch.testing.assert_close(named_chain("vp", 100).var, Chain.linear(100).var, rtol=0, atol=0)
    torch.testing.assert_close(named_chain("cosine", 100).var, Chain.of(Cosine(), 100).var, rtol=0, atol=0)
    assert "T=100" in repr(named_chain("vp", 100))


def test_a_stride_runs_from_noise_to_data() -> None:
    chain = CHAINS["linear"]
    assert chain.stride(4).tolist() == [1000, 750, 500, 250, 0]
    assert chain.stride(1000).tolist() == list(range(1000, -1, -1))
    assert chain.stride(3).tolist() == [1000, 667, 333, 0]
    assert chain.stride(4, power=2).tolist() == [1000, 562, 250, 62, 0]


def test_grid_times_are_each_step_equally_often() -> None:
    t = torch.cat([grid_time(10)(1000, seeded(i)) for i in range(3)])
    k = ((1 - t) * 10).round()
    torch.testing.assert_close(t, 1 - k / 10)
    assert k.unique().tolist() == list(range(1, 11))
    assert bool((torch.bincount(k.long())[1:] - 300).abs().max() <= 3)  # stratified
    odd = torch.stack([(1 - grid_time(7)(4, seeded(i))) * 7 for i in range(2000)]).round()
    counts = torch.bincount(odd.flatten().long())[1:] / 8000
    assert float((counts - 1 / 7).abs().max()) < 6 * (1 / 7 / 8000) ** 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Chain([0.1]), "var must be a torch.Tensor"),
        (lambda: Chain(torch.tensor([0.1, 1.0])), r"var must be \(T,\) numbers in \(0, 1\)"),
        (lambda: Chain(torch.tensor([0.0, 0.5])), r"var must be \(T,\) numbers in \(0, 1\)"),
        (lambda: Chain(torch.full((2, 2), 0.1)), r"got shape \(2, 2\)"),
        (lambda: Chain(torch.tensor([math.nan])), "NaN"),
        (lambda: Chain(torch.tensor([1])), "floating-point"),
        (lambda: Chain.linear(20), "steps must be above 20, where the last variance would be 1; got 20"),
        (lambda: Chain.linear(0), "steps must be an integer >= 1"),
        (lambda: Chain.linear(100, first=0.0), "first must be"),
        (lambda: Chain.linear(100, first=0.01, last=0.001), "last must be"),
        (lambda: Chain.of("cosine"), "schedule must be a Schedule, got str"),
        (lambda: Chain.of(Cosine(), 0), "steps must be"),
        (lambda: Chain.of(Cosine(), 10, max_var=1.0), "max_var must be"),
        (lambda: CHAINS["linear"].stride(1001), "steps must be at most 1000"),
        (lambda: CHAINS["linear"].stride(0), "steps must be an integer"),
        (lambda: CHAINS["linear"].stride(1000, power=2), "rounds two steps"),
        (lambda: CHAINS["linear"].stride(10, power=0), "power must be"),
        (lambda: grid_time(0), "steps must be"),
        (lambda: named_chain("vp", 10), "steps must be above 20"),
    ],
)
def test_what_is_no_chain_is_named(make, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()


def test_a_chain_makes_a_path() -> None:
    path = GaussianPath(CHAINS["linear"])
    z, noise = torch.randn(2, 5, 3, generator=seeded(0), dtype=torch.float64)
    x = path.sample(z, 0.3, noise)
    for kind in ("data", "noise", "score", "v"):
        a, b = path.row(kind, torch.tensor(0.3).double())
        back = path.convert(path.convert(a * z + b * noise, x, 0.3, kind, "velocity"), x, 0.3, "velocity", kind)
        torch.testing.assert_close(back, a * z + b * noise, rtol=1e-12, atol=1e-12)


def test_paths_that_do_not_preserve_variance_have_chains_too() -> None:
    """Their state is x_t scaled to unit variance: alpha / sqrt(alpha^2 + beta^2)."""
    t = torch.tensor(0.25, dtype=torch.float64)
    assert float(Chain.of(Linear(), 100).alpha(t)) == pytest.approx(0.25 / math.hypot(0.25, 0.75), rel=1e-10)
    assert float(Chain.of(Trigonometric(), 100).alpha(t)) == pytest.approx(math.sin(math.pi / 8), rel=1e-10)
