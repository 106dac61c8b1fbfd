"""Bad input, drawn by hypothesis over the core's public interface: always a ValueError that names the argument.

And good input, drawn as widely: never an exception or a silent NaN. An unknown keyword is a TypeError.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from examples import KINDS, SCHEDULES, Converted, mixture, normal, seeded
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import flowlib
from flowlib import likelihood, losses, solvers
from flowlib.fields import MixtureField, Model
from flowlib.guidance import ClassifierFreeGuidance, EnergyGuidance
from flowlib.paths import GaussianPath
from flowlib.samplers import sample_ddim, sample_ode, sample_sde

# The same examples in every run, and no clock: a test must not fail by chance or by a slow machine.
FUZZ = settings(derandomize=True, database=None, deadline=None, max_examples=40)
WIDE = settings(FUZZ, max_examples=80)

B, D, CLASSES = 4, 2, 3  # of the good arguments below; `mixture()` has three labels


class Net(nn.Module):
    """A guided network of points and images alike."""

    null = CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.scale * torch.tanh(x) + (y + t).reshape(-1, *[1] * (x.ndim - 1))


class Plain(Net):
    """The same without a guide."""

    null = None  # type: ignore[assignment]

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return self.scale * torch.tanh(x)


# --- What is bad, by sort of argument

OBJECTS = st.sampled_from([None, "x", [1.0, 2.0], {}, 1.5, np.ones((B, D)), object()])
OTHER_DTYPES = st.sampled_from([torch.int64, torch.uint8, torch.bool, torch.complex64])
SHAPES = st.sampled_from([(), (B,), (0, D), (B, 0), (0,)])
NOT_FINITE = st.sampled_from([math.nan, math.inf, -math.inf])
BAD_COUNTS = st.one_of(st.integers(max_value=0), st.floats(), st.booleans(), st.sampled_from([None, "3", [3], 2 + 0j]))
NO_NUMBERS = st.one_of(NOT_FINITE, st.booleans(), st.sampled_from([None, "1", [1.0], 1j, torch.ones(2)]))
OUTSIDE = st.one_of(st.floats(max_value=-1e-6), st.floats(min_value=1 + 1e-6), NOT_FINITE)


def given_at_all(value: object) -> bool:
    return value is not None  # which for some arguments stands for the default


def numbers_outside(low: float = -math.inf, high: float = math.inf) -> st.SearchStrategy[Any]:
    """Anything but a number strictly between `low` and `high`."""
    parts = [NO_NUMBERS]
    if low > -math.inf:
        parts.append(st.floats(max_value=low, exclude_max=True))
    if high < math.inf:
        parts.append(st.floats(min_value=high, exclude_min=True))
    return st.one_of(parts)


def names_other_than(*good: str) -> st.SearchStrategy[Any]:
    return st.one_of(st.text(max_size=12).filter(lambda name: name not in good), st.sampled_from([None, 3]))


def spoilt(index: int, value: float) -> Tensor:
    x = torch.zeros(B * D, dtype=torch.float64)
    x[index] = value
    return x.reshape(B, D)


@st.composite
def bad_samples(draw: st.DrawFn, finite: bool = True, tail: bool = True) -> object:
    """No tensor, no float, no batch, empty; of another shape where `tail`, NaN or infinite where `finite`."""
    sorts = [
        OBJECTS,
        OTHER_DTYPES.map(lambda dtype: torch.ones(B, D).to(dtype)),
        SHAPES.map(lambda shape: torch.zeros(shape, dtype=torch.float64)),
    ]
    if finite:
        sorts.append(st.tuples(st.integers(0, B * D - 1), NOT_FINITE).map(lambda spot: spoilt(*spot)))
    if tail:
        sorts.append(st.sampled_from([(B, D + 1), (B, 1), (B, 1, D), (B, D, 1)]).map(lambda s: torch.ones(s).double()))
    return draw(st.one_of(sorts))


@st.composite
def bad_times(draw: st.DrawFn) -> object:
    """Out of [0, 1], in one place at least, of another shape, or no time at all."""
    if draw(st.booleans()):
        return draw(st.one_of(OUTSIDE, st.sampled_from([None, "0.5", {}, [0.1, 0.2], object()])))
    if draw(st.booleans()):
        return torch.full(draw(st.sampled_from([(B + 1,), (B, 1), (1, B), (1,), (0,)])), 0.5)
    t = torch.full((B,), 0.5, dtype=torch.float64)
    t[draw(st.integers(0, B - 1))] = draw(OUTSIDE)
    return t


@st.composite
def bad_labels(draw: st.DrawFn) -> object:
    """Out of 0 ... CLASSES, in one place at least, no integers, not one a sample, or on another device."""
    if draw(st.booleans()):
        y = torch.arange(B) % CLASSES
        far = st.integers(-(2**40), 2**40).filter(lambda i: not 0 <= i <= CLASSES)
        y[draw(st.integers(0, B - 1))] = draw(st.one_of(st.sampled_from([-1, CLASSES + 1]), far))
        return y
    good = torch.arange(B) % CLASSES
    tensors = [good.double(), good.bool(), good.to(torch.complex64), good[:-1], good[:0], good[:, None], good[0]]
    others = [good.to("meta"), good.tolist(), 1, "seven", np.arange(B), torch.tensor(math.nan)]
    return draw(st.one_of(st.sampled_from(tensors), st.sampled_from(others)))


@st.composite
def bad_grids(draw: st.DrawFn) -> object:
    """Not increasing, out of [0, 1], of another shape or dtype, or no tensor."""
    if draw(st.booleans()):
        times = draw(st.lists(st.one_of(st.floats(0, 1), OUTSIDE), min_size=2, max_size=6))
        grid = torch.tensor(times, dtype=torch.float64)
        assume(not (bool((grid.diff() > 0).all()) and grid[0] >= 0 and grid[-1] <= 1))
        return grid
    close = torch.tensor([0.5, 0.5 + 1e-300, 1.0], dtype=torch.float64)
    tensors = [torch.tensor(0.5), torch.tensor([0.5]), torch.zeros(0), torch.ones(2, 2), torch.arange(2), close]
    others = [[0.0, 1.0], (0.0, 1.0), 10, "linear", np.linspace(0, 1, 5)]
    return draw(st.one_of(st.sampled_from(tensors), st.sampled_from(others)))


BAD_FIELDS = st.sampled_from([None, nn.Linear(2, 2), "mixture", GaussianPath(), len, MixtureField])
BAD_GUIDES = st.sampled_from([torch.zeros(B, dtype=torch.long), torch.zeros(B), [0] * B])  # where the field takes none
BAD_METHODS = names_other_than(*solvers.STEPS, *solvers.ADAPTIVE)
BAD_KINDS = names_other_than(*KINDS)
BAD_SCALES = numbers_outside()


# --- What is called, with what, and what may be wrong with it


@dataclass(frozen=True)
class Call:
    function: Callable[..., Any]
    good: Callable[[], dict[str, Any]]
    bad: dict[str, st.SearchStrategy[Any]] = field(default_factory=dict)
    spoken: dict[str, str] = field(default_factory=dict)  # a pattern for arguments that the message may call otherwise


def points(seed: int = 0) -> Tensor:
    return normal(seed, B, D)


def labels() -> Tensor:
    return torch.arange(B) % CLASSES


# A field that knows the shape of its samples says so of x, the state that the noise is the first of.
SHAPE = {"noise": r"noise|x must have shape \(batch"}
REQUEST = {
    "field": BAD_FIELDS,
    "noise": bad_samples(),
    "y": bad_labels(),
    "steps": BAD_COUNTS,
    "times": bad_grids(),
    "batch_size": BAD_COUNTS.filter(given_at_all),
}


def request() -> dict[str, Any]:
    return {"field": mixture(), "noise": points(), "y": labels(), "steps": 2}


LOSS = {"z": bad_samples(tail=False), "y": bad_labels(), "dropout": numbers_outside(0, 1)}


def loss() -> dict[str, Any]:
    return {"model": Model(Net()), "z": points(), "y": labels()}


CALLS = {
    "Cosine": Call(flowlib.Cosine, dict, {"offset": numbers_outside(0)}),
    "VP": Call(flowlib.VP, dict, {"rate_min": numbers_outside(0), "rate_max": numbers_outside(0.1)}),
    "VE": Call(
        flowlib.VE,
        dict,
        {"sigma_min": numbers_outside(0), "sigma_max": numbers_outside(0.002), "rho": numbers_outside(1)},
    ),
    "GaussianPath": Call(
        GaussianPath, dict, {"schedule": st.sampled_from(["linear", flowlib.Linear, 3, GaussianPath()])}
    ),
    "path.sample": Call(
        GaussianPath().sample,
        lambda: {"z": points(), "t": 0.5, "noise": points(1)},
        {"z": bad_samples(finite=False), "t": bad_times(), "noise": bad_samples(finite=False).filter(given_at_all)},
    ),
    "path.velocity": Call(
        GaussianPath().velocity,
        lambda: {"x": points(), "z": points(1), "t": 0.5},
        {"x": bad_samples(finite=False, tail=False), "t": bad_times(), "z": bad_samples(finite=False)},
    ),
    "path.convert": Call(
        GaussianPath().convert,
        lambda: {"prediction": points(), "x": points(1), "t": 0.5, "source": "v", "target": "score"},
        {
            "prediction": bad_samples(finite=False),
            "x": bad_samples(finite=False, tail=False),
            "t": bad_times(),
            "source": BAD_KINDS,
            "target": BAD_KINDS,
        },
    ),
    "MixtureField": Call(
        MixtureField,
        lambda: {"means": points(), "std": 0.5},
        {
            "means": bad_samples(tail=False),
            "std": st.one_of(
                st.floats(max_value=-1e-9),
                NOT_FINITE,
                st.sampled_from([torch.ones(B + 1), torch.ones(B, 1), -torch.ones(B)]),
            ),
            "weights": st.sampled_from(
                [torch.ones(B - 1), torch.zeros(B), torch.ones(B, 1)]
                + [torch.full((B,), value) for value in (math.nan, math.inf, -1.0)]
            ),
            "labels": st.sampled_from(
                [torch.ones(B), torch.arange(B + 1), -torch.arange(B), [0] * B, torch.ones(B).long()]
            ),
            "path": st.sampled_from([flowlib.Linear(), "linear", 3]),
        },
    ),
    "MixtureField.u": Call(
        mixture().u,
        lambda: {"x": points(), "t": 0.5, "y": labels()},
        {"x": bad_samples(finite=False), "t": bad_times(), "y": bad_labels()},
    ),
    "MixtureField.log_prob": Call(
        mixture().log_prob,
        lambda: {"x": points(), "t": 0.5, "y": labels()},
        {"x": bad_samples(finite=False), "t": bad_times(), "y": bad_labels()},
    ),
    "MixtureField.sample": Call(mixture().sample, lambda: {"count": 3}, {"count": BAD_COUNTS}),
    "Model": Call(
        Model,
        lambda: {"net": Net()},
        {"path": st.sampled_from([flowlib.Linear(), "linear", 3]), "predicts": BAD_KINDS},
    ),
    "Model.s": Call(
        Model(Net()).s,
        lambda: {"x": points(), "t": 0.5, "y": labels()},
        {"x": bad_samples(finite=False, tail=False), "t": bad_times(), "y": bad_labels()},
    ),
    "Model.u without a guide": Call(Model(Plain()).u, lambda: {"x": points(), "t": 0.5}, {"y": BAD_GUIDES}),
    "ClassifierFreeGuidance": Call(
        ClassifierFreeGuidance, lambda: {"field": mixture(), "scale": 2.0}, {"field": BAD_FIELDS, "scale": BAD_SCALES}
    ),
    "ClassifierFreeGuidance.u": Call(
        ClassifierFreeGuidance(mixture(), 2.0).u,
        lambda: {"x": points(), "t": 0.5, "y": labels()},
        {"x": bad_samples(finite=False), "t": bad_times(), "y": bad_labels()},
    ),
    "EnergyGuidance": Call(
        EnergyGuidance,
        lambda: {"field": mixture(), "log_prob": lambda x, t, y: -(x**2).sum(1), "scale": 2.0},
        {"field": BAD_FIELDS, "scale": BAD_SCALES},
    ),
    "EnergyGuidance.u": Call(
        EnergyGuidance(mixture(), lambda x, t, y: -(x**2).sum(1)).u,
        lambda: {"x": points(), "t": 0.5},
        {"x": bad_samples(finite=False), "t": bad_times()},
    ),
    "flow_matching_loss": Call(losses.flow_matching_loss, loss, LOSS),
    "score_matching_loss": Call(
        losses.score_matching_loss, loss, {**LOSS, "weighting": st.text(max_size=9).filter(lambda n: n != "beta^2")}
    ),
    "prediction_loss": Call(
        losses.prediction_loss, loss, {**LOSS, "measure": BAD_KINDS.filter(given_at_all)}
    ),
    "prediction_error": Call(
        losses.prediction_error,
        lambda: {"model": Model(Net()), "z": points(), "y": labels(), "t": torch.full((B,), 0.5), "noise": points(1)},
        {
            "z": bad_samples(finite=False, tail=False),
            "y": bad_labels(),
            "t": bad_times(),
            "noise": bad_samples(finite=False).filter(given_at_all),
            "measure": BAD_KINDS.filter(given_at_all),
        },
    ),
    "a loss without a guide": Call(
        losses.flow_matching_loss, lambda: {"model": Model(Plain()), "z": points()}, {"y": BAD_GUIDES}
    ),
    "drop_guide": Call(
        losses.drop_guide,
        lambda: {"model": Model(Net()), "y": labels(), "rate": 0.1},
        {"rate": numbers_outside(0, 1)},
        {"rate": "dropout"},
    ),
    "uniform_time": Call(losses.uniform_time, lambda: {"count": 3}, {"count": BAD_COUNTS}),
    "logit_normal_time": Call(losses.logit_normal_time, dict, {"mean": NO_NUMBERS, "std": numbers_outside(0)}),
    "optimal_transport": Call(
        losses.optimal_transport,
        lambda: {"noise": points(), "z": points(1)},
        {"noise": bad_samples(), "z": bad_samples()},
    ),
    "time_grid": Call(
        solvers.time_grid,
        lambda: {"steps": 3},
        {
            "steps": BAD_COUNTS,
            "start": numbers_outside(0, 1),
            "end": numbers_outside(0, 1),
            "power": numbers_outside(0),
        },
    ),
    "sample_ode": Call(sample_ode, request, {**REQUEST, "method": BAD_METHODS}, SHAPE),
    "adaptive sample_ode": Call(
        sample_ode,
        lambda: {**request(), "method": "dopri5"},
        {"rtol": numbers_outside(0), "atol": numbers_outside(0), "noise": bad_samples(), "times": bad_grids()},
        SHAPE,
    ),
    "sample_sde": Call(
        sample_sde,
        request,
        {
            **REQUEST,
            "eta": numbers_outside(0),
            "corrector_steps": st.one_of(st.integers(max_value=-1), st.floats(), st.sampled_from([None, "1", True])),
            "corrector_snr": numbers_outside(0),
            "diffusion": st.sampled_from([1.0, "constant", torch.ones(()), lambda t: torch.ones(2), lambda t: t / 0]),
        },
        SHAPE,
    ),
    "sample_ddim": Call(sample_ddim, request, {**REQUEST, "eta": numbers_outside(0, 1)}, SHAPE),
    "sampling without a guide": Call(
        sample_ode, lambda: {"field": Model(Plain()), "noise": points(), "steps": 2}, {"y": BAD_GUIDES}
    ),
    "log_likelihood": Call(
        likelihood.log_likelihood,
        lambda: {"field": mixture(), "x": points(), "y": labels(), "steps": 2},
        {
            "field": BAD_FIELDS,
            "x": bad_samples(),
            "y": bad_labels(),
            "steps": BAD_COUNTS,
            "method": BAD_METHODS,
            "estimator": names_other_than("exact", "hutchinson"),
            "start": numbers_outside(0, 1),
            "end": numbers_outside(0, 1),
            "batch_size": BAD_COUNTS.filter(given_at_all),
        },
    ),
    "dequantise": Call(
        likelihood.dequantise,
        lambda: {"pixels": torch.zeros(1, 1, 2, 2, dtype=torch.uint8)},
        {"pixels": st.one_of(OBJECTS, st.sampled_from([torch.zeros(2), torch.zeros(2).long()]))},
    ),
    "bits_per_dim": Call(
        likelihood.bits_per_dim, lambda: {"log_density": torch.zeros(3), "dims": 2}, {"dims": BAD_COUNTS}
    ),
}


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


# --- Good input


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
    time = data.draw(st.sampled_from([losses.uniform_time, losses.logit_normal_time(0.0, 3.0)]))
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
