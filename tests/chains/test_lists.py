"""Lists of a chain's steps: which are taken, where a sampler goes, and what the last one's variance is."""

import pytest
import torch
from examples import mixture, normal, seeded
from torch import Tensor

from flowlib.chains import Chain, Clipped, fixed_reverse, posterior, sample_ancestral, variational_bound
from flowlib.fields import MixtureField
from flowlib.paths import GaussianPath
from flowlib.samplers import sample_ddim

CHAIN = Chain.linear(200)


def space_timesteps(count: int, steps: int) -> list[int]:
    """The loop of improved DDPM's code for one section, whose timestep i is our k = i + 1."""
    stride, at, taken = (steps - 1) / (count - 1), 0.0, []
    for _ in range(count):
        taken.append(round(at))
        at += stride
    return [i + 1 for i in reversed(taken)] + [0]


@pytest.mark.parametrize(("count", "steps"), [(2, 50), (25, 1000), (100, 4000), (50, 50)])
def test_spread_is_nichol_and_dhariwals_spacing(count: int, steps: int) -> None:
    assert Chain.linear(steps).spread(count).tolist() == space_timesteps(count, steps)


@pytest.mark.parametrize("make", [list, tuple, torch.tensor])
def test_a_list_of_steps_is_taken_as_it_is(make: type) -> None:
    assert CHAIN.stride(make([200, 90, 7, 1, 0])).tolist() == [200, 90, 7, 1, 0]


@pytest.mark.parametrize(
    "steps",
    [[200], [100, 0], [200, 5], [200, 50, 50, 0], [200, 50, 60, 0], [0, 200], [200.0, 0.0], [[200, 0]], [250, 200, 0]],
    ids=str,
)
def test_a_list_that_does_not_fall_from_T_to_0_is_refused(steps: list[int]) -> None:
    field = mixture(CHAIN)
    for use in (
        lambda: CHAIN.stride(steps),
        lambda: sample_ancestral(field, normal(0, 3, 2), steps=steps),
        lambda: variational_bound(fixed_reverse(field, CHAIN), CHAIN, normal(0, 3, 2), steps=steps, levels=None),
    ):
        with pytest.raises(ValueError, match=r"^steps must be a number, or integers that fall from 200 to 0"):
            use()


def test_ancestral_sampling_takes_the_steps_of_a_list() -> None:
    """As `sample_ddim` does at their times; an even list is the number that it stands for."""
    field, noise, steps = mixture(CHAIN), normal(0, 5, 2), [200, 90, 7, 1, 0]
    found = sample_ancestral(field, noise, steps=steps, generator=seeded(0), trajectory=True)
    times = CHAIN.time(CHAIN.stride(steps))
    assert found.shape == (5, 5, 2)
    expected = sample_ddim(field, noise, eta=1.0, times=times, generator=seeded(0))
    torch.testing.assert_close(found[-1], expected, rtol=0, atol=1e-9)
    even = sample_ancestral(field, noise, steps=[200, 150, 100, 50, 0], generator=seeded(1))
    assert torch.equal(even, sample_ancestral(field, noise, steps=4, generator=seeded(1)))


def pixels(count: int) -> Tensor:
    """Two grey levels, -1 and 1, of an 8-bit pixel."""
    return torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(count // 2)[:, None]


def test_the_last_steps_variance_is_that_of_the_real_step_before() -> None:
    """Of a posterior variance from k_2 to k_1 of the list, as improved DDPM's code has it of its own strided chain."""
    field = mixture(CHAIN)
    x, before = normal(0, 3, 2), {(200, 90, 7, 0): 90, (200, 8, 7, 0): 8, (200, 14, 7, 0): 14}
    for steps, k in before.items():
        _, variance = fixed_reverse(field, CHAIN, "small", list(steps))(x, None, 7, 0)
        torch.testing.assert_close(variance, posterior(CHAIN, x, x, k, 7)[1], rtol=1e-12, atol=0)
    assert torch.equal(fixed_reverse(field, CHAIN, "small")(x, None, 7, 0)[1], variance)  # an even stride, by default


def test_bits_depend_on_which_steps_are_taken_and_not_on_their_number_alone() -> None:
    """Ten of 200 steps, and 3.3 bits or 14.5 of a pixel that has one."""
    exact = MixtureField(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 0.0, path=GaussianPath(CHAIN))
    z, field, totals = pixels(400), Clipped(exact), {}
    for name, steps in {"even": CHAIN.stride(10), "theirs": CHAIN.spread(10)}.items():
        reverse = fixed_reverse(field, CHAIN, "small", steps)
        bound = variational_bound(reverse, CHAIN, z, steps=steps, generator=seeded(0))
        totals[name] = float(bound.total.mean())
    assert totals["even"] > 1
    assert totals["theirs"] / totals["even"] == pytest.approx(4.3, rel=0.2)
