"""DDPM and DDIM beside diffusers, step by step on the same noise (PROPERTY 20); skipped where it is absent."""

from itertools import pairwise
from types import ModuleType

import pytest
import torch
from torch import Tensor

from flowlib.chains import Chain, Clipped, encode_ddim, forward, reverse
from flowlib.fields import MixtureField
from flowlib.paths import GaussianPath
from flowlib.samplers import sample_ddim
from flowlib.schedules import Cosine

CHAINS = {"linear": Chain.linear(1000), "squaredcos_cap_v2": Chain.of(Cosine(), 1000)}
CURVES = pytest.mark.parametrize("curve", CHAINS)


@pytest.fixture(scope="module")
def diffusers() -> ModuleType:
    reason = "diffusers is not installed: pip install 'flowlib[peers]'"
    return pytest.importorskip("diffusers", reason=reason, exc_type=ImportError)


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mixture(chain: Chain, dtype: torch.dtype = torch.float32) -> MixtureField:
    return MixtureField(normal(7, 5, 1, 2, 2, dtype=dtype), 0.4, path=GaussianPath(chain))


@CURVES
def test_the_tables_are_those_of_diffusers(diffusers: ModuleType, curve: str) -> None:
    """1e-6, the clipped last variance of the cosine chain included."""
    theirs = diffusers.DDPMScheduler(beta_schedule=curve)
    torch.testing.assert_close(CHAINS[curve].var[1:].float(), theirs.betas, rtol=0, atol=1e-6)
    torch.testing.assert_close(CHAINS[curve].abar[1:].float(), theirs.alphas_cumprod, rtol=0, atol=1e-6)


@CURVES
def test_noised_data_are_those_of_diffusers(diffusers: ModuleType, curve: str) -> None:
    z, noise, k = normal(0, 8, 1, 2, 2), normal(1, 8, 1, 2, 2), torch.tensor([1, 2, 10, 100, 400, 700, 999, 1000])
    theirs = diffusers.DDPMScheduler(beta_schedule=curve).add_noise(z, noise, k - 1)
    mean, variance = forward(CHAINS[curve], z, k)
    torch.testing.assert_close(mean + variance.sqrt() * noise, theirs, rtol=0, atol=5e-6)


@CURVES
@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("steps", [1000, 20])
def test_ancestral_steps_are_those_of_diffusers(diffusers: ModuleType, curve: str, variance: str, steps: int) -> None:
    """1e-8 at every step, whole chain and strided, from tables of float64. Their timestep k - 1 is our k.

    With the large variance their last strided step adds noise to what is the data already, and ours does not.
    """
    chain = CHAINS[curve]
    scheduler = diffusers.DDPMScheduler(
        beta_schedule=curve, variance_type=f"fixed_{variance}", clip_sample=False, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(steps)
    scheduler.alphas_cumprod = chain.abar[1:]
    stride, field, x = chain.stride(steps), mixture(chain, torch.float64), normal(0, 16, 1, 2, 2, dtype=torch.float64)
    assert (scheduler.timesteps + 1).tolist() == stride[:-1].tolist()
    for k, j in pairwise(stride.tolist()):
        noise = normal(k, *x.shape, dtype=x.dtype)  # which their generator draws from this seed
        eps = field.noise(x, chain.time(k))
        theirs = scheduler.step(eps, k - 1, x, generator=torch.Generator().manual_seed(k)).prev_sample
        mean, spread = reverse(field, chain, x, None, k, j, variance)
        ours = mean + spread.sqrt() * noise if j or (variance == "large" and k > 1) else mean
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)
        x = theirs


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_ddims_sub_sequences_are_those_of_diffusers(diffusers: ModuleType, eta: float) -> None:
    chain = CHAINS["linear"]
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="linear", clip_sample=False, timestep_spacing="trailing", set_alpha_to_one=True
    )
    scheduler.set_timesteps(25)
    field, noise = mixture(chain), normal(0, 16, 1, 2, 2)
    generator = torch.Generator().manual_seed(5)
    states = sample_ddim(
        field, noise, times=chain.time(chain.stride(25)), eta=eta, generator=generator, trajectory=True
    )
    theirs, generator = states[0], torch.Generator().manual_seed(5)
    for i, step in enumerate(scheduler.timesteps.tolist()):
        eps = field.noise(theirs, chain.time(step + 1))
        theirs = scheduler.step(eps, step, theirs, eta=eta, generator=generator).prev_sample
        torch.testing.assert_close(states[i + 1], theirs, rtol=0, atol=5e-5)


def test_clipping_is_that_of_diffusers(diffusers: ModuleType) -> None:
    chain = CHAINS["linear"]
    scheduler = diffusers.DDPMScheduler(variance_type="fixed_small", clip_sample=True, clip_sample_range=1.0)
    field, x = mixture(chain), normal(0, 16, 1, 2, 2)
    for k in (900, 500, 100):
        theirs = scheduler.step(field.noise(x, chain.time(k)), k - 1, x, generator=torch.Generator().manual_seed(k))
        mean, spread = reverse(Clipped(field), chain, x, None, k, k - 1)
        torch.testing.assert_close(mean + spread.sqrt() * normal(k, *x.shape), theirs.prev_sample, rtol=0, atol=5e-5)
    assert float(field.data(x, chain.time(500)).abs().max()) > 1  # something was clipped


def test_encoding_is_that_of_diffusers(diffusers: ModuleType) -> None:
    """Their inverse scheduler takes eps at timestep k - 1 for the step from k to k + 50; ours is asked at our k."""
    chain = CHAINS["linear"]
    scheduler = diffusers.DDIMInverseScheduler(
        beta_schedule="linear", clip_sample=False, timestep_spacing="trailing", set_alpha_to_one=True
    )
    scheduler.set_timesteps(20)
    field = mixture(chain)
    z = field.sample(16, torch.Generator().manual_seed(0))[0]
    stride = chain.stride(20)
    states = encode_ddim(field, z, times=chain.time(stride), trajectory=True)
    backwards = stride.flip(0).tolist()
    for i, (j, k) in enumerate(pairwise(backwards)):
        eps = field.noise(states[i], chain.time(j))
        theirs = scheduler.step(eps, k - 1, states[i]).prev_sample
        if k == 1000:
            theirs = theirs / (1 - chain.abar[-1]).sqrt()
        torch.testing.assert_close(states[i + 1], theirs.to(states), rtol=0, atol=5e-5)
