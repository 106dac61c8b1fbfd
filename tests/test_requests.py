"""What every request to a sampler promises: calls, trajectories, batches, seeds, grids, dtypes."""

from collections.abc import Callable

import pytest
import torch
from examples import Converted, mixture, normal, seeded
from torch import Tensor

from flowlib.fields import MixtureField
from flowlib.guidance import EnergyGuidance
from flowlib.paths import GaussianPath
from flowlib.samplers import sample_ddim, sample_ode, sample_sde
from flowlib.schedules import Trigonometric
from flowlib.solvers import EVALUATIONS, time_grid

SAMPLERS = pytest.mark.parametrize("sample", [sample_ode, sample_sde, sample_ddim])
X = normal(0, 8, 2)


@pytest.mark.parametrize("batch", [1, 3, 7, 50])
def test_the_field_is_called_as_often_as_the_steps_say_whatever_the_batch(batch: int) -> None:
    """Museum: a step loop over the batch size; "N steps" that takes N - 1."""
    noise = normal(0, batch, 2)
    for steps in (1, 2, 13):
        for method, calls in EVALUATIONS.items():
            field = Converted(mixture(), "v")
            sample_ode(field, noise, steps=steps, method=method)
            assert field.calls == [batch] * (calls * steps)
        for sample in (sample_sde, sample_ddim):
            field = Converted(mixture(), "v")
            sample(field, noise, steps=steps)
            assert field.calls == [batch] * steps
        field = Converted(mixture(), "v")
        sample_sde(field, noise, steps=steps, corrector_steps=2)
        assert len(field.calls) == steps + 2 * (steps - 1)


@SAMPLERS
@pytest.mark.parametrize("shape", [(5, 2), (5, 1, 2)], ids=str)
def test_a_trajectory_runs_from_the_noise_to_the_result(sample: Callable[..., Tensor], shape: tuple[int, ...]) -> None:
    field = MixtureField(normal(1, 4, *shape[1:]), 0.3, path=GaussianPath(Trigonometric()))
    noise = normal(0, *shape)
    states = sample(field, noise, steps=6, trajectory=True, **_seed(sample))
    assert states.shape == (7, *shape)
    assert torch.equal(states[0], noise)
    assert torch.equal(states[-1], sample(field, noise, steps=6, **_seed(sample)))
    assert bool((states.diff(dim=0).flatten(1).abs().sum(1) > 0).all())
    split = sample(field, noise, steps=6, trajectory=True, batch_size=2, **_seed(sample))
    assert split.shape == (7, *shape)


def _seed(sample: Callable[..., Tensor]) -> dict[str, torch.Generator]:
    return {} if sample is sample_ode else {"generator": seeded(4)}


@SAMPLERS
def test_the_result_does_not_depend_on_how_the_batch_is_split(sample: Callable[..., Tensor]) -> None:
    field, y = mixture(), torch.tensor([0, 1, 2, 3, 0, 1, 2, 0])
    extra = {sample_ode: {}, sample_sde: {"corrector_steps": 1}, sample_ddim: {"eta": 1.0}}[sample]
    whole = sample(field, X, y, steps=6, batch_size=8, **extra, **_seed(sample))
    for size in (1, 2, 3, 100):
        found = sample(field, X, y, steps=6, batch_size=size, **extra, **_seed(sample))
        torch.testing.assert_close(found, whole, rtol=1e-12, atol=1e-12)
    if sample is sample_ode:
        torch.testing.assert_close(sample(field, X, y, steps=6), whole, rtol=1e-12, atol=1e-12)
    # Each sample has noise of its own: equal starts with equal guides end apart.
    twins = sample(field, X[:1].expand(2, 2), steps=6, batch_size=1, **extra, **_seed(sample))
    assert torch.equal(twins[0], twins[1]) == (sample is sample_ode)


@SAMPLERS
def test_a_split_batch_is_worked_through_in_parts_of_its_size(sample: Callable[..., Tensor]) -> None:
    field = Converted(mixture(), "v")
    sample(field, X, steps=3, batch_size=3)
    calls = 2 * 3 if sample is sample_ode else 3
    assert field.calls == [3] * calls + [3] * calls + [2] * calls


@pytest.mark.parametrize("batch_size", [None, 3])
def test_one_seed_is_one_set_of_bits_and_leaves_the_global_generator_alone(batch_size: int | None) -> None:
    field = mixture()
    before = torch.get_rng_state()
    for sample, arguments in ((sample_sde, {"corrector_steps": 1}), (sample_ddim, {"eta": 1.0})):
        first, second, other = (
            sample(field, X, steps=5, batch_size=batch_size, generator=seeded(seed), **arguments) for seed in (1, 1, 2)
        )
        assert torch.equal(first, second)
        assert not torch.equal(first, other)
    assert torch.equal(sample_ode(field, X, steps=5), sample_ode(field, X, steps=5))
    assert torch.equal(before, torch.get_rng_state())


@SAMPLERS
def test_a_grid_of_times_replaces_the_uniform_one(sample: Callable[..., Tensor]) -> None:
    field = mixture()
    by_steps = sample(field, X, steps=10, **_seed(sample))
    assert torch.equal(sample(field, X, times=time_grid(10), **_seed(sample)), by_steps)
    uneven = sample(field, X, times=time_grid(10, power=2.0), trajectory=True, **_seed(sample))
    assert uneven.shape[0] == 11
    assert not torch.equal(uneven[-1], by_steps)


@SAMPLERS
def test_the_noise_and_the_guide_are_left_as_they_were(sample: Callable[..., Tensor]) -> None:
    noise, y, times = X.clone(), torch.tensor([0, 1, 2, 3, 0, 1, 2, 0]), time_grid(4)
    versions = noise._version, y._version, times._version
    result = sample(mixture(), noise.requires_grad_(), y, times=times)
    assert (noise._version, y._version, times._version) == versions
    assert not result.requires_grad


@SAMPLERS
def test_samples_keep_the_dtype_of_the_noise(sample: Callable[..., Tensor]) -> None:
    field = MixtureField(normal(1, 3, 2, dtype=torch.float32), 0.3)
    result = sample(field, X.float(), steps=3, **_seed(sample))
    assert result.dtype == torch.float32
    double = sample(MixtureField(field.means.double(), 0.3), X, steps=3, **_seed(sample))
    if sample is not sample_sde:  # whose own noise differs between the two
        torch.testing.assert_close(result.double(), double, rtol=0, atol=1e-5)


def test_a_network_in_place_of_a_field_is_told_how_to_become_one() -> None:
    with pytest.raises(ValueError, match=r"field must be a Field, such as Model\(network, path\); got Linear"):
        sample_ode(torch.nn.Linear(2, 2), X)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@SAMPLERS
def test_times_that_are_equal_in_the_dtype_of_the_noise_are_refused(
    sample: Callable[..., Tensor], dtype: torch.dtype
) -> None:
    """A step of no length is no step: bfloat16 tells 256 times apart above 1/2, float16 2,048."""
    field = MixtureField(X[:3].to(dtype), 0.5)
    many, few = (300, 200) if dtype == torch.bfloat16 else (2500, 300)
    with pytest.raises(ValueError, match=f"^steps must be fewer in {dtype}"):
        sample(field, X.to(dtype), steps=many)
    with pytest.raises(ValueError, match=f"^times must differ in {dtype} too"):
        sample(field, X.to(dtype), times=time_grid(many))
    assert bool(torch.isfinite(sample(field, X.to(dtype), steps=few)).all())


@SAMPLERS
def test_inference_mode_changes_nothing(sample: Callable[..., Tensor]) -> None:
    """Where guidance needs a gradient on the way too, of samples, times and guides that were made inside it."""
    guided = EnergyGuidance(mixture(), lambda x, t, y: -(x * (1 + y[:, None] + t[:, None])).square().sum(1), 0.3)
    y = torch.tensor([0, 1, 2, 3, 0, 1, 2, 0])
    plain = sample(guided, X, y, steps=3, times=time_grid(3), **_seed(sample))
    with torch.inference_mode():
        inside = sample(guided, X.clone(), y.clone(), steps=3, times=time_grid(3), **_seed(sample))
        at = guided.u(X.clone(), torch.full((8,), 0.5), y.clone())
    assert torch.equal(inside, plain)
    assert torch.equal(at, guided.u(X, 0.5, y))
