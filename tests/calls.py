"""The core's public interface as a table: what is called, with what, and what may be wrong with each argument."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from bad_input import (
    BAD_COUNTS,
    BAD_FIELDS,
    BAD_GUIDES,
    BAD_KINDS,
    BAD_METHODS,
    BAD_SCALES,
    CLASSES,
    NO_NUMBERS,
    NOT_FINITE,
    OBJECTS,
    B,
    D,
    Net,
    Plain,
    bad_grids,
    bad_labels,
    bad_samples,
    bad_times,
    given_at_all,
    names_other_than,
    numbers_outside,
)
from examples import mixture, normal
from hypothesis import strategies as st
from torch import Tensor

import flowlib
from flowlib import continuous_bound, likelihood, losses, solvers, times
from flowlib.fields import MixtureField, Model
from flowlib.guidance import ClassifierFreeGuidance, EnergyGuidance
from flowlib.paths import GaussianPath
from flowlib.samplers import sample_ddim, sample_ode, sample_sde


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
    "prediction_loss": Call(losses.prediction_loss, loss, {**LOSS, "measure": BAD_KINDS.filter(given_at_all)}),
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
    "uniform_time": Call(times.uniform_time, lambda: {"count": 3}, {"count": BAD_COUNTS}),
    "logit_normal_time": Call(times.logit_normal_time, dict, {"mean": NO_NUMBERS, "std": numbers_outside(0)}),
    "logit_uniform_time": Call(
        times.logit_uniform_time,
        lambda: {"low": -3.0, "high": 6.5},
        {"low": numbers_outside(-16, 6.5), "high": numbers_outside(-4, 16)},
    ),
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
    "logit_grid": Call(
        solvers.logit_grid,
        lambda: {"steps": 3},
        {"steps": BAD_COUNTS, "low": numbers_outside(-16, 11), "high": numbers_outside(-4, 16)},
    ),
    "landing_grid": Call(
        solvers.landing_grid,
        lambda: {"steps": 3, "land": 0.9},
        {"steps": BAD_COUNTS, "land": numbers_outside(0, 1)},
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
            "times": bad_grids(),
            "batch_size": BAD_COUNTS.filter(given_at_all),
        },
    ),
    "continuous_bound": Call(
        continuous_bound,
        lambda: {"field": mixture(), "z": points(), "y": labels(), "cells": 2},
        {
            "field": BAD_FIELDS,
            "z": bad_samples(),
            "y": bad_labels(),
            "low": numbers_outside(-30, 22),
            "high": numbers_outside(-8, 30),
            "cells": BAD_COUNTS,
            "batch_size": BAD_COUNTS,
        },
        {"z": r"\b(z|x)\b"},
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
