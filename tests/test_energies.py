"""Several energies guide at once, on noised or predicted clean samples, and a bound keeps the gradient's direction."""

import pytest
import torch

from flowlib import ClassifierFreeGuidance, EnergyGuidance, GaussianPath, MixtureField, Model, sample_ode, sample_sde
from flowlib.guidance import Energy
from flowlib.nets import MLP
from flowlib.schedules import SquareRoot, Trigonometric

MEAN, STD = torch.tensor([0.5, -1.0], dtype=torch.float64), 0.7
SLOPE = torch.tensor([2.0, -3.0], dtype=torch.float64)
X = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def gaussian(schedule=None) -> MixtureField:
    """One Gaussian: D = mean + gain (x - alpha mean) with gain = alpha std^2 / (alpha^2 std^2 + beta^2)."""
    path = GaussianPath(Trigonometric() if schedule is None else schedule)
    return MixtureField(MEAN[None], torch.tensor([STD], dtype=torch.float64), path=path)


def gain(field: MixtureField, t: float) -> torch.Tensor:
    alpha, beta = field.path.levels(torch.tensor(t, dtype=torch.float64))
    return alpha * STD**2 / (alpha**2 * STD**2 + beta**2)


def linear(z, t, y):
    return z @ SLOPE


def curved(z, t, y):
    return -(z**2).sum(1)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("schedule", [Trigonometric(), SquareRoot()])
def test_the_gradient_of_a_clean_energy_is_that_through_the_denoised_sample(t, schedule) -> None:
    field = gaussian(schedule)
    found = EnergyGuidance(field, Energy(linear, looks="clean"), scale=1.5).s(X, t) - field.s(X, t)
    assert torch.allclose(found, (1.5 * gain(field, t) * SLOPE).expand_as(X), atol=1e-10)
    found = EnergyGuidance(field, Energy(curved, looks="clean")).s(X, t) - field.s(X, t)
    assert torch.allclose(found, -2 * gain(field, t) * field.data(X, t), atol=1e-10)
    noised = EnergyGuidance(field, Energy(linear), scale=1.5).s(X, t) - field.s(X, t)
    assert torch.allclose(noised, (1.5 * SLOPE).expand_as(X), atol=1e-10)


def test_several_energies_add_up_by_their_scales() -> None:
    field = gaussian()
    parts = [Energy(linear, 0.3), Energy(curved, -0.2, "clean"), Energy(linear, 2.0, "clean")]
    found = EnergyGuidance(field, parts, scale=0.5).s(X, 0.4) - field.s(X, 0.4)
    alone = [EnergyGuidance(field, part, scale=0.5).s(X, 0.4) - field.s(X, 0.4) for part in parts]
    assert torch.allclose(found, torch.stack(alone).sum(0), atol=1e-10)
    assert torch.allclose(alone[0], (0.5 * 0.3 * SLOPE).expand_as(X), atol=1e-10)
    assert torch.allclose(alone[2], (0.5 * 2.0 * gain(field, 0.4) * SLOPE).expand_as(X), atol=1e-10)


def test_a_bound_shortens_what_is_longer_and_keeps_its_direction() -> None:
    field = gaussian()
    free = EnergyGuidance(field, Energy(curved, looks="clean"), scale=2.0).s(X, 0.6) - field.s(X, 0.6)
    size = free.square().mean(1).sqrt()
    bound = float(size.sort().values[2:4].mean())
    found = EnergyGuidance(field, Energy(curved, looks="clean"), scale=2.0, bound=bound).s(X, 0.6) - field.s(X, 0.6)
    expected = free * (bound / size).clamp(max=1)[:, None]
    assert torch.allclose(found, expected, atol=1e-10)
    assert int((size > bound).sum()) == 3


def test_one_call_of_the_network_guides_by_its_own_clean_sample() -> None:
    net, calls = MLP(2, classes=3), []
    net.register_forward_pre_hook(lambda module, arguments: calls.append(len(arguments[0])))
    field, x, y = Model(net), X.float(), torch.tensor([0, 1, 2, 0, 1, 2])
    guided = EnergyGuidance(field, Energy(lambda z, t, y: -(z**2).sum(1), looks="clean"))
    guided.u(x, 0.5)
    assert calls == [6]
    calls.clear()
    EnergyGuidance(
        ClassifierFreeGuidance(field, 2.0), Energy(lambda z, t, y: z[:, 0], looks="clean"), conditional=True
    ).u(x, 0.5, y)
    assert calls == [12]
    found = guided.u(x, 0.5)
    assert not found.requires_grad
    with torch.inference_mode():
        assert torch.equal(guided.u(x, 0.5), found)


def test_a_clean_energy_is_differentiable_twice_for_a_likelihood() -> None:
    field = gaussian()
    guided = EnergyGuidance(field, Energy(curved, looks="clean"))
    x = X.clone().requires_grad_()
    jacobian = torch.autograd.functional.jacobian(lambda x: guided.s(x, 0.5), X)
    step = 1e-5 * torch.tensor([1.0, 0.0], dtype=torch.float64)
    finite = (guided.s(X + step, 0.5) - guided.s(X - step, 0.5)) / 2e-5
    for i in range(len(X)):
        assert torch.allclose(jacobian[i, :, i, 0], finite[i], atol=1e-6)
    assert guided.s(x, 0.5).requires_grad


@pytest.mark.parametrize("sampler", ["ode", "sde"])
def test_samplers_take_it_and_move_where_it_points(sampler) -> None:
    field = gaussian()
    noise = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    guided = EnergyGuidance(field, Energy(linear, looks="clean"), scale=0.5)
    drawn = [
        sample_ode(one, noise, steps=20)
        if sampler == "ode"
        else sample_sde(one, noise, steps=50, generator=torch.Generator().manual_seed(2))
        for one in (field, guided)
    ]
    moved = (drawn[1] - drawn[0]).mean(0)
    assert float(moved[0]) > 0.05
    assert float(moved[1]) < -0.05


def test_the_guide_reaches_each_energy_and_nothing_is_added_where_there_is_only_noise() -> None:
    field, y = gaussian(), torch.arange(6.0, dtype=torch.float64)
    seen = []

    def energy(z, t, y):
        seen.append(y)
        return z[:, 0] * y

    guided = EnergyGuidance(field, [Energy(energy), Energy(energy, looks="clean")])
    change = guided.s(X, 0.5, y) - field.s(X, 0.5)
    assert len(seen) == 2
    assert torch.allclose(change[:, 0], y * (1 + gain(field, 0.5)), atol=1e-10)
    assert torch.equal(guided.predict(X, 0.0, y), field.predict(X, 0.0))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: EnergyGuidance(gaussian(), []), r"log_prob must be an energy or several, got \[\]"),
        (lambda: EnergyGuidance(gaussian(), None), "log_prob must be an energy or several, got None"),
        (lambda: EnergyGuidance(gaussian(), [linear, 3]), "log_prob must be an energy or several"),
        (lambda: EnergyGuidance(gaussian(), linear, bound=0.0), "bound must be a finite number"),
        (lambda: Energy(linear, looks="latent"), "looks must be one of noised, clean; got 'latent'"),
        (lambda: Energy(linear, scale=float("nan")), "scale must be a finite number"),
        (
            lambda: EnergyGuidance(gaussian(), Energy(lambda z, t, y: z, looks="clean")).u(X, 0.5),
            r"log_prob must return shape \(6,\), got \(6, 2\)",
        ),
    ],
)
def test_bad_input_is_named(make, says) -> None:
    with pytest.raises(ValueError, match=says):
        make()
