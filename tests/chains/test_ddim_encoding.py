"""Encoding data to latents and back by DDIM, and DDPM's clipping as a field."""

import math

import pytest
import torch
from examples import Converted, mixture, normal, seeded

from flowlib.chains import Chain, Clipped, encode_ddim, sample_ancestral
from flowlib.fields import MixtureField
from flowlib.paths import GaussianPath
from flowlib.samplers import sample_ddim, sample_ode
from flowlib.schedules import VE, VP, Cosine, Linear, Schedule, Trigonometric
from flowlib.solvers import time_grid

CHAIN = Chain.linear(1000)


@pytest.mark.parametrize("schedule", [Linear(), Trigonometric(), VP(), Cosine(), CHAIN], ids=lambda s: type(s).__name__)
def test_there_and_back_is_of_first_order(schedule: Schedule) -> None:
    field = mixture(schedule)
    z = field.sample(100, seeded(0))[0]
    errors = []
    for steps in (100, 200, 400):
        latent = encode_ddim(field, z, steps=steps)
        errors.append(float((sample_ddim(field, latent, steps=steps) - z).square().mean().sqrt()))
    assert errors[-1] < 0.1
    assert math.log2(errors[-2] / errors[-1]) == pytest.approx(1, abs=0.25)


def test_the_latent_is_the_start_of_the_flow_that_ends_in_the_data() -> None:
    field, noise = mixture(VP()), normal(0, 50, 2)
    z = sample_ode(field, noise, method="dopri8", steps=1, rtol=1e-9, atol=1e-9)
    errors = [float((encode_ddim(field, z, steps=steps) - noise).square().mean().sqrt()) for steps in (200, 400)]
    assert errors[1] < 0.05
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.3)


def test_latents_of_data_are_standard_normal() -> None:
    field = mixture(VP())
    latent = encode_ddim(field, field.sample(4000, seeded(0))[0], steps=200)
    assert float(latent.mean(0).abs().max()) < 6 / 4000**0.5
    assert float((latent.T.cov() - torch.eye(2)).abs().max()) < 0.15


def test_one_gaussian_is_encoded_as_the_closed_form_of_ddim_says() -> None:
    """Each step multiplies x - alpha m by a known factor: an exact oracle for every state."""
    mean, std, schedule = 1.5, 0.5, Trigonometric()
    field = MixtureField(torch.tensor([[mean]], dtype=torch.float64), std, path=GaussianPath(schedule))
    z, times = torch.tensor([[0.3], [2.0]], dtype=torch.float64), time_grid(20)
    states = encode_ddim(field, z, times=times, trajectory=True)
    assert states.shape == (21, 2, 1)
    x = z
    for i, (t, s) in enumerate(zip(times.flip(0), times.flip(0)[1:], strict=False)):
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        scaled = (x - alpha * mean) / (alpha**2 * std**2 + beta**2)
        x = schedule.alpha(s) * (mean + alpha * std**2 * scaled) + schedule.beta(s) * beta * scaled
        torch.testing.assert_close(states[i + 1], x, rtol=0, atol=1e-12)


def test_the_latent_is_in_units_of_the_noise_that_a_sampler_takes() -> None:
    """On VE the state at t = 0 is 80 times as large."""
    field = mixture(VE())
    latent = encode_ddim(field, field.sample(500, seeded(0))[0], steps=300)
    assert float(latent.std()) == pytest.approx(1, abs=0.1)


def test_labels_and_parts_and_kinds() -> None:
    field = mixture(CHAIN)
    z, y = field.sample(6, seeded(0))
    whole = encode_ddim(field, z, y, steps=20)
    torch.testing.assert_close(encode_ddim(field, z, y, steps=20, batch_size=4), whole, rtol=0, atol=0)
    torch.testing.assert_close(encode_ddim(Converted(field, "noise"), z, y, steps=20), whole, rtol=0, atol=1e-9)
    assert float((encode_ddim(field, z, steps=20) - whole).abs().max()) > 1e-3
    states = encode_ddim(field, z, y, steps=20, trajectory=True)
    torch.testing.assert_close(states[0], z, rtol=0, atol=0)
    torch.testing.assert_close(states[-1], whole, rtol=0, atol=0)


def test_clipping_holds_the_data_in_their_range_for_every_sampler() -> None:
    """Wild noise predictions, as an untrained network makes them, lead far out; clipped, nowhere outside."""
    wild = MixtureField(5 * normal(3, 4, 2), 0.5, path=GaussianPath(CHAIN))
    x, clipped = normal(0, 20, 2), Clipped(Converted(wild, "noise"))
    for sample in (
        lambda field: sample_ancestral(field, x, steps=10, generator=seeded(0)),
        lambda field: sample_ddim(field, x, times=CHAIN.time(CHAIN.stride(10))),
        lambda field: sample_ode(field, x, steps=10),
    ):
        assert float(sample(wild).abs().max()) > 2
        assert float(sample(clipped).abs().max()) <= 1 + 1e-12


def test_clipping_leaves_alone_what_is_in_range() -> None:
    field = mixture(CHAIN)
    x = normal(0, 20, 2)
    clipped = Clipped(field, 50.0)
    torch.testing.assert_close(clipped.u(x, 0.4), field.u(x, 0.4), rtol=1e-10, atol=1e-10)
    assert clipped.null == field.null
    data, eps = Clipped(field, 0.1).pair(x, 0.4)
    t = torch.tensor(0.4, dtype=torch.float64)
    torch.testing.assert_close(CHAIN.alpha(t) * data + CHAIN.beta(t) * eps, x)


FIELD = mixture(CHAIN)
BAD = [
    (lambda: encode_ddim("field", normal(0, 3, 2)), "field must be a Field"),
    (lambda: encode_ddim(FIELD, [1.0]), "z must be a torch.Tensor"),
    (lambda: encode_ddim(FIELD, normal(0, 3)), r"z must have shape \(batch"),
    (lambda: encode_ddim(FIELD, normal(0, 3, 2), torch.zeros(2).long()), "y must have shape"),
    (lambda: encode_ddim(FIELD, normal(0, 3, 2), steps=0), "steps must be"),
    (lambda: encode_ddim(FIELD, normal(0, 3, 2), times=torch.tensor([1.0, 0.0])), "increasing"),
    (lambda: encode_ddim(mixture(CHAIN, std=0.0), normal(0, 3, 2)), "no density at t = 1"),
    (lambda: encode_ddim(Converted(FIELD, "data"), normal(0, 3, 2)), "does not determine data and noise at t = 1"),
    (lambda: Clipped("field"), "field must be a Field"),
    (lambda: Clipped(FIELD, 0.0), "limit must be"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_named(call, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()
