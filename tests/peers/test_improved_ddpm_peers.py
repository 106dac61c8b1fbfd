"""Improved DDPM beside diffusers: the cosine table and the learned-range variance (PROPERTY 20); skipped without it."""

from types import ModuleType

import pytest
import torch
from examples import normal
from torch import Tensor, nn

from flowlib.chains import Chain
from flowlib.paths import GaussianPath
from flowlib.schedules import Cosine
from flowlib.systems.improved_ddpm import LearnedVariance

CHAIN = Chain.of(Cosine(), 1000)


@pytest.fixture(scope="module")
def diffusers() -> ModuleType:
    reason = "diffusers is not installed: pip install 'flowlib[peers]'"
    return pytest.importorskip("diffusers", reason=reason, exc_type=ImportError)


class Net(nn.Module):
    """Some noise and some share, of twice the channels, that depend on the state."""

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return torch.cat([torch.tanh(x.flip(-1)), torch.sin(3 * x)], dim=1)


@pytest.mark.parametrize("steps", [1000, 500, 100])
def test_the_cosine_table_is_that_of_diffusers(diffusers: ModuleType, steps: int) -> None:
    """1e-6, the last variances clipped at 0.999 included."""
    theirs = diffusers.DDPMScheduler(num_train_timesteps=steps, beta_schedule="squaredcos_cap_v2")
    ours = Chain.of(Cosine(), steps)
    torch.testing.assert_close(ours.var[1:].float(), theirs.betas, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.abar[1:].float(), theirs.alphas_cumprod, rtol=0, atol=1e-6)
    assert float(ours.var[-1]) == 0.999


@pytest.mark.parametrize("chain", [CHAIN, Chain.linear(1000)], ids=["cosine", "linear"])
def test_the_learned_variance_is_that_of_diffusers_step_by_step(diffusers: ModuleType, chain: Chain) -> None:
    """On the same states and the same noise: the variance 1e-9 relative, the next state 1e-8. Their k - 1 is our k."""
    curve = "linear" if chain is not CHAIN else "squaredcos_cap_v2"
    scheduler = diffusers.DDPMScheduler(beta_schedule=curve, variance_type="learned_range", clip_sample=False)
    scheduler.betas, scheduler.alphas_cumprod = chain.var[1:], chain.abar[1:]  # in float64
    model, x = LearnedVariance(Net(), GaussianPath(chain)), normal(0, 8, 1, 2, 2)
    for k in (1000, 999, 500, 100, 10, 3, 2):
        output = model.net(x, torch.full((8,), 1 - k / 1000).double(), None)
        mean, variance = model.reverse(x, None, k, k - 1)
        log_variance = scheduler._get_variance(k - 1, predicted_variance=output[:, 1:])
        torch.testing.assert_close(variance.log(), log_variance, rtol=1e-9, atol=1e-9)
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(k), dtype=x.dtype)
        theirs = scheduler.step(output, k - 1, x, generator=torch.Generator().manual_seed(k)).prev_sample
        torch.testing.assert_close(mean + variance.sqrt() * noise, theirs, rtol=0, atol=1e-8)
        x = theirs
    last = scheduler.step(model.net(x, torch.tensor([1.0]), None), 0, x).prev_sample
    torch.testing.assert_close(model.reverse(x, None, 1, 0)[0], last, rtol=0, atol=1e-8)
