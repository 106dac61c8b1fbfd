"""Bad input, drawn by hypothesis over the core's public interface: always a ValueError that names the argument.

And good input, drawn as widely: never an exception or a silent NaN. An unknown keyword is a TypeError.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from bad_input import (
    CLASSES,
    Net,
)
from calls import CALLS, points
from examples import KINDS, SCHEDULES, Converted, mixture, normal, seeded
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from flowlib import losses, solvers, times
from flowlib.fields import MixtureField, Model
from flowlib.guidance import ClassifierFreeGuidance
from flowlib.paths import GaussianPath
from flowlib.samplers import sample_ddim, sample_ode, sample_sde

# The same examples in every run, and no clock: a test must not fail by chance or by a slow machine.
FUZZ = settings(derandomize=True, database=None, deadline=None, max_examples=40)
WIDE = settings(FUZZ, max_examples=80)


@pytest.mark.parametrize(
    ("name", "argument"), [(name, argument) for name, call in CALLS.items() for argument in call.bad]
)
@FUZZ
@given(data=st.data())
def test_a_bad_argument_is_a_value_error_that_names_it(name: str, argument: str, data: st.DataObject) -> None:
    call = CALLS[name]
    arguments = {**call.good(), argument: data.draw(call.bad[argument], label=argument)}
    with pytest.raises(ValueError, match=call.spoken.get(argument, rf"\b{argument}\b")):
        call.function(**arguments)


@pytest.mark.parametrize("name", CALLS)
def test_the_good_arguments_are_good(name: str) -> None:
    """Otherwise the errors above could be about something else."""
    CALLS[name].function(**CALLS[name].good())


@pytest.mark.parametrize("name", CALLS)
@FUZZ
@given(keyword=st.from_regex(r"[a-z_]{1,12}", fullmatch=True))
def test_an_unknown_keyword_is_a_type_error(name: str, keyword: str) -> None:
    """Museum: keyword arguments swallowed and ignored."""
    call = CALLS[name]
    code = getattr(call.function, "__init__", call.function) if isinstance(call.function, type) else call.function
    known = getattr(code, "__func__", code).__code__.co_varnames
    assume(keyword not in known)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        call.function(**call.good(), **{keyword: 1})


@st.composite
def good_fields(draw: st.DrawFn) -> MixtureField:
    shape = draw(st.sampled_from([(1,), (3,), (1, 2, 2), (3, 2, 4)]))
    count = draw(st.integers(1, 4))
    schedule = SCHEDULES[draw(st.sampled_from(list(SCHEDULES)))]
    means = draw(st.floats(0, 100)) * normal(draw(st.integers(0, 9)), count, *shape)
    return MixtureField(means, draw(st.sampled_from([0.0, 1e-3, 0.5, 10.0])), path=GaussianPath(schedule))


def good_guide(draw: Callable[..., Any], field: MixtureField, batch: int) -> Tensor | None:
    guides = st.lists(st.integers(0, int(field.null)), min_size=batch, max_size=batch)
    return draw(st.one_of(st.none(), guides.map(torch.tensor)))


@WIDE
@given(data=st.data())
def test_good_input_never_gives_a_silent_nan(data: st.DataObject) -> None:
    """Any mixture, any path, any prediction, guided by any strength, at any time: finite, or a named refusal."""
    field = data.draw(good_fields())
    kind, batch = data.draw(st.sampled_from(KINDS)), data.draw(st.integers(1, 4))
    t = data.draw(st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)))
    y = good_guide(data.draw, field, batch)
    x = data.draw(st.floats(0, 1e3)) * normal(1, batch, *field.means.shape[1:])
    method = data.draw(st.sampled_from(["u", "s", "data", "noise"]))
    guided = ClassifierFreeGuidance(Converted(field, kind), data.draw(st.floats(-10, 10)))
    try:
        found = getattr(guided, method)(x, t, y)
    except ValueError:
        if t < 1e-100 or t == 1:  # only at the ends, or so near to the start that alpha underflows
            return
        raise
    assert found.shape == x.shape
    assert bool(torch.isfinite(found).all())


@WIDE
@given(data=st.data())
def test_samplers_end_in_finite_samples_whatever_the_request(data: st.DataObject) -> None:
    field = data.draw(good_fields())
    batch, steps = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6))
    y = good_guide(data.draw, field, batch)
    noise = normal(1, batch, *field.means.shape[1:])
    arguments: dict[str, Any] = {
        "steps": steps,
        "batch_size": data.draw(st.one_of(st.none(), st.integers(1, 5))),
        "trajectory": data.draw(st.booleans()),
    }
    sample = data.draw(st.sampled_from([sample_ode, sample_sde, sample_ddim]))
    if sample is sample_ode:
        arguments["method"] = data.draw(st.sampled_from(list(solvers.STEPS)))
        arguments["denoise_last"] = data.draw(st.booleans())
    else:
        arguments["eta"] = data.draw(st.floats(0, 1))
        arguments["generator"] = seeded(0)
    guided = ClassifierFreeGuidance(field, data.draw(st.floats(-2, 4)))
    found = sample(guided, noise, y, **arguments)
    assert found.shape == ((steps + 1, *noise.shape) if arguments["trajectory"] else noise.shape)
    assert bool(torch.isfinite(found).all())


@WIDE
@given(data=st.data())
def test_losses_are_finite_whatever_is_predicted_and_measured(data: st.DataObject) -> None:
    schedule = SCHEDULES[data.draw(st.sampled_from(list(SCHEDULES)))]
    kind, measure = data.draw(st.sampled_from(KINDS)), data.draw(st.sampled_from(KINDS))
    batch = data.draw(st.integers(1, 6))
    shape = data.draw(st.sampled_from([(2,), (1, 3, 3)]))
    time = data.draw(st.sampled_from([times.uniform_time, times.logit_normal_time(0.0, 3.0)]))
    model, y = Model(Net(), GaussianPath(schedule), kind), torch.arange(batch) % CLASSES
    z = normal(0, batch, *shape)
    value = losses.prediction_loss(
        model, z, y, measure=measure, time=time, dropout=data.draw(st.floats(0, 1)), generator=seeded(1)
    )
    assert value.shape == ()
    assert bool(torch.isfinite(value))
    value.backward()
    assert bool(torch.isfinite(model.net.scale.grad))


@pytest.mark.parametrize("steps", [np.int64(3), np.int32(3), torch.tensor([3])[0].item()])
def test_numbers_of_numpy_are_numbers(steps: int) -> None:
    assert torch.equal(sample_ode(mixture(), points(), steps=steps), sample_ode(mixture(), points(), steps=3))
    assert ClassifierFreeGuidance(mixture(), np.float32(2.0)).scale == 2.0
