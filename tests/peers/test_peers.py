"""Agreement with other people's code (PROPERTY 20), step by step; each peer is skipped where it is absent."""

from types import ModuleType

import pytest
import torch
from examples import normal
from torch import Tensor

from flowlib.fields import MixtureField
from flowlib.likelihood import log_likelihood
from flowlib.losses import optimal_transport
from flowlib.paths import GaussianPath
from flowlib.samplers import ddim_step, sample_ode
from flowlib.schedules import VP, Cosine, Linear, Schedule, Trigonometric
from flowlib.solvers import time_grid


def peer(name: str) -> ModuleType:
    reason = f"{name} is not installed: pip install 'flowlib[peers]'"
    return pytest.importorskip(name, reason=reason, exc_type=ImportError)


@pytest.fixture(scope="module")
def diffusers() -> ModuleType:
    return peer("diffusers")


@pytest.fixture(scope="module")
def flow_matching() -> ModuleType:
    peer("flow_matching.solver")
    peer("flow_matching.utils")
    return peer("flow_matching.path.scheduler")


@pytest.fixture(scope="module")
def torchcfm() -> ModuleType:
    return peer("torchcfm")


def mixture(schedule: Schedule, dtype: torch.dtype = torch.float64) -> MixtureField:
    return MixtureField(normal(7, 5, 1, 2, 2, dtype=dtype), 0.4, path=GaussianPath(schedule))


# --- diffusers


class Chain(Schedule):
    """A discrete chain's abar_k at t = 1 - k/T, and abar_0 = 1."""

    def __init__(self, abar: Tensor) -> None:
        self.abar = torch.cat([torch.ones(1), abar])

    def _abar(self, t: Tensor) -> Tensor:
        return self.abar[((1 - t) * (len(self.abar) - 1)).round().long()].to(t)

    def alpha(self, t: Tensor) -> Tensor:
        return self._abar(t).sqrt()

    def beta(self, t: Tensor) -> Tensor:
        return (1 - self._abar(t)).sqrt()

    def dalpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)  # each level is held until the next step

    dbeta = dalpha


def time(k: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(1 - max(k, 0) / 1000, dtype=dtype)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("curve", ["linear", "squaredcos_cap_v2"])
def test_ddim_steps_are_those_of_diffusers(diffusers: ModuleType, eta: float, curve: str) -> None:
    """Property 20: 5e-5 at every step, the last one onto the data included. Their timestep k - 1 is our k."""
    scheduler = diffusers.DDIMScheduler(beta_schedule=curve, clip_sample=False)
    scheduler.set_timesteps(20)
    field = mixture(Chain(scheduler.alphas_cumprod), torch.float32)
    x = normal(0, 16, 1, 2, 2, dtype=torch.float32)
    for i, step in enumerate(scheduler.timesteps.tolist()):
        t, s = time(step + 1, x.dtype), time(step + 1 - 50, x.dtype)
        noise = normal(100 + i, *x.shape, dtype=torch.float32)
        eps = field.noise(x, t)
        theirs = scheduler.step(eps, step, x, eta=eta, variance_noise=noise).prev_sample
        x = ddim_step(field, x, None, t, s, eta, noise)
        torch.testing.assert_close(x, theirs, rtol=0, atol=5e-5)
    assert float(s) == 1


def test_ddpm_steps_are_those_of_diffusers(diffusers: ModuleType) -> None:
    """Property 20: one step of the chain with the posterior's variance is DDIM at eta = 1; all 1000, in float64."""
    scheduler = diffusers.DDPMScheduler(variance_type="fixed_small", clip_sample=False)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    field, x = mixture(Chain(scheduler.alphas_cumprod)), normal(0, 16, 1, 2, 2)
    for k in range(1000, 0, -1):
        noise = normal(k, *x.shape)  # the noise that their generator draws from this seed
        eps = field.noise(x, time(k))
        theirs = scheduler.step(eps, k - 1, x, generator=torch.Generator().manual_seed(k)).prev_sample
        x = ddim_step(field, x, None, time(k), time(k - 1), 1.0, noise)
        torch.testing.assert_close(x, theirs, rtol=0, atol=1e-9)


def test_flow_euler_steps_are_those_of_diffusers(diffusers: ModuleType) -> None:
    """Property 20: 5e-5 at every step. Their time runs the other way, so their velocity is minus ours."""
    steps = 30
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=(1 - time_grid(steps)[:-1]).tolist())
    field, noise = mixture(Linear(), torch.float32), normal(0, 16, 1, 2, 2, dtype=torch.float32)
    states = sample_ode(field, noise, steps=steps, method="euler", trajectory=True)
    for i, step in enumerate(scheduler.timesteps):
        u = field.u(states[i], time_grid(steps)[i])
        theirs = scheduler.step(-u, step, states[i]).prev_sample
        torch.testing.assert_close(states[i + 1], theirs, rtol=0, atol=5e-5)


def test_cosine_schedule_is_that_of_diffusers(diffusers: ModuleType) -> None:
    """Property 20: abar to 1e-6; the last step is excepted, whose variance they clip at 0.999."""
    abar = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod.double()
    t = 1 - torch.arange(1, 1001, dtype=torch.float64) / 1000
    torch.testing.assert_close(Cosine().alpha(t[:-1]) ** 2, abar[:-1], rtol=0, atol=1e-6)


# --- flow_matching


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("CondOTScheduler", Linear()), ("CosineScheduler", Trigonometric()), ("VPScheduler", VP())],
)
def test_schedules_are_those_of_flow_matching(flow_matching: ModuleType, theirs: str, ours: Schedule) -> None:
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    output = getattr(flow_matching, theirs)()(t)
    for found, expected in (
        (ours.alpha(t), output.alpha_t),
        (ours.beta(t), output.sigma_t),
        (ours.dalpha(t), output.d_alpha_t),
        (ours.dbeta(t), output.d_sigma_t),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("CondOTScheduler", Linear()), ("CosineScheduler", Trigonometric()), ("VPScheduler", VP())],
)
def test_paths_and_conversions_are_those_of_flow_matching(
    flow_matching: ModuleType, theirs: str, ours: Schedule
) -> None:
    affine = peer("flow_matching.path").AffineProbPath(getattr(flow_matching, theirs)())
    path, noise, z = GaussianPath(ours), normal(0, 8, 3), normal(1, 8, 3)
    t = torch.linspace(0.1, 0.9, 8, dtype=torch.float64)
    sample = affine.sample(x_0=noise, x_1=z, t=t)
    x = path.sample(z, t, noise)
    torch.testing.assert_close(x, sample.x_t, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(path.velocity(x, z, t), sample.dx_t, rtol=1e-10, atol=1e-10)
    for source, target, convert in (
        ("data", "velocity", affine.target_to_velocity),
        ("noise", "velocity", affine.epsilon_to_velocity),
        ("velocity", "data", affine.velocity_to_target),
        ("velocity", "noise", affine.velocity_to_epsilon),
        ("data", "noise", affine.target_to_epsilon),
    ):
        expected = convert(noise, x, t[:, None])  # the noise in the place of any prediction
        torch.testing.assert_close(path.convert(noise, x, t, source, target), expected, rtol=1e-9, atol=1e-9)


def wrapped(flow_matching: ModuleType, field: MixtureField) -> object:
    class Velocity(peer("flow_matching.utils").ModelWrapper):  # type: ignore[misc]
        def forward(self, x: Tensor, t: Tensor, **extras: object) -> Tensor:
            return field.u(x, t)

    return peer("flow_matching.solver").ODESolver(velocity_model=Velocity(None))


@pytest.mark.parametrize("method", ["euler", "midpoint"])
def test_ode_samples_are_those_of_flow_matching(flow_matching: ModuleType, method: str) -> None:
    field, noise = mixture(Trigonometric()), normal(0, 8, 1, 2, 2)
    expected = wrapped(flow_matching, field).sample(noise, step_size=None, method=method, time_grid=time_grid(20))
    torch.testing.assert_close(sample_ode(field, noise, steps=20, method=method), expected, rtol=1e-10, atol=1e-10)


def test_likelihoods_are_those_of_flow_matching(flow_matching: ModuleType) -> None:
    """On points: their exact divergence takes no images."""
    field = MixtureField(normal(7, 5, 3), 0.4, path=GaussianPath(Trigonometric()))
    x = field.sample(8, torch.Generator().manual_seed(0))[0]
    _, expected = wrapped(flow_matching, field).compute_likelihood(
        x_1=x,
        log_p0=lambda x: torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1),
        step_size=0.02,
        method="midpoint",
        exact_divergence=True,
    )
    found = log_likelihood(field, x, steps=50, method="midpoint")
    torch.testing.assert_close(found, expected.detach(), rtol=1e-6, atol=1e-6)


# --- torchcfm


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("ConditionalFlowMatcher", Linear()), ("VariancePreservingConditionalFlowMatcher", Trigonometric())],
)
def test_samples_and_targets_are_those_of_torchcfm(torchcfm: ModuleType, theirs: str, ours: Schedule) -> None:
    noise, z, t = normal(0, 8, 3), normal(1, 8, 3), torch.linspace(0.1, 0.9, 8, dtype=torch.float64)
    matcher = getattr(torchcfm, theirs)(sigma=0.0)
    _, x, u = matcher.sample_location_and_conditional_flow(noise, z, t)
    path = GaussianPath(ours)
    torch.testing.assert_close(path.sample(z, t, noise), x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(path.velocity(x, z, t), u, rtol=1e-12, atol=1e-12)


def test_couplings_are_as_cheap_as_those_of_torchcfm(torchcfm: ModuleType) -> None:
    """The exact plan between two batches of one size is a permutation; ours costs the same."""
    sampler = peer("torchcfm.optimal_transport").OTPlanSampler(method="exact")
    noise, z = normal(0, 64, 1, 3, 3), normal(1, 64, 1, 3, 3)
    plan = torch.as_tensor(sampler.get_map(noise, z))
    cost = torch.cdist(noise.flatten(1), z.flatten(1)) ** 2
    ours = (optimal_transport(noise, z) - z).square().sum() / 64
    assert float(ours) == pytest.approx(float((plan * cost).sum()), rel=1e-9)
