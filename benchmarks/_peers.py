"""The samplers of published libraries, called on a field of flowlib as their own users call them on a network.

Each is a function (field, noise, steps) -> samples. Where a library counts time otherwise, the field is asked at
exactly the time that the library's own noise level stands for: diffusers' diffusion schedulers work from a table of
1000 noise levels, which is filled here with those of the VP path, so that its entry k is time t = 1 - (k + 1) / 1000.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
import numpy as np
import torch
from flow_matching.solver import ODESolver
from torch import Tensor
from torchdiffeq import odeint

from flowlib import VP, Field

Run = Callable[[Field, Tensor, int], Tensor]
Adaptive = Callable[[Field, Tensor, float], Tensor]  # (field, noise, tolerance) -> samples
LEVELS = 1000
VP_SCHEDULE = VP()
ALPHA_BAR = VP_SCHEDULE.alpha(1 - torch.arange(1, LEVELS + 1, dtype=torch.float64) / LEVELS) ** 2
BETAS = (1 - ALPHA_BAR / torch.cat([torch.ones(1, dtype=torch.float64), ALPHA_BAR[:-1]])).numpy()


def velocity(field: Field) -> Callable[[Tensor, Tensor], Tensor]:
    """u(x, t) with t held in [0, 1]: torchdiffeq's adaptive methods step past the end and interpolate back."""
    return lambda x, t: field.u(x, t.clamp(0, 1))


def ode_solver(field: Field, noise: Tensor, steps: int, method: str) -> Tensor:
    """flow-matching's ODESolver with a fixed step."""
    return ODESolver(velocity(field)).sample(noise, step_size=1 / steps, method=method, time_grid=ends(noise))


def ode_solver_adaptive(field: Field, noise: Tensor, tolerance: float) -> Tensor:
    return ODESolver(velocity(field)).sample(
        noise, step_size=None, method="dopri5", rtol=tolerance, atol=tolerance, time_grid=ends(noise)
    )


def torchdiffeq_fixed(field: Field, noise: Tensor, steps: int, method: str) -> Tensor:
    """torchdiffeq over a grid of times, as torchcfm's examples sample."""
    u, times = velocity(field), torch.linspace(0, 1, steps + 1, dtype=noise.dtype)
    return odeint(lambda t, x: u(x, t), noise, times, method=method)[-1]


def torchdiffeq_adaptive(field: Field, noise: Tensor, tolerance: float) -> Tensor:
    u = velocity(field)
    return odeint(lambda t, x: u(x, t), noise, ends(noise), method="dopri5", rtol=tolerance, atol=tolerance)[-1]


def ends(noise: Tensor) -> Tensor:
    return torch.tensor([0, 1], dtype=noise.dtype)


def flow_match_euler(field: Field, noise: Tensor, steps: int, spread: bool) -> Tensor:
    """`spread`: equal steps from sigma = 1 to 0, as pipelines ask for; else the scheduler's own, down to 1/1000."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    if spread:
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps).tolist())
    else:
        scheduler.set_timesteps(steps)
    return _linear(scheduler, field, noise)


def flow_match_heun(field: Field, noise: Tensor, steps: int) -> Tensor:
    scheduler = diffusers.FlowMatchHeunDiscreteScheduler()
    scheduler.set_timesteps(steps)
    return _linear(scheduler, field, noise)


def dpm_solver_flow(field: Field, noise: Tensor, steps: int) -> Tensor:
    """DPM-Solver++(2M) on the linear path, with the scheduler's flow options."""
    scheduler = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    scheduler.set_timesteps(steps)
    return _linear(scheduler, field, noise)


def _linear(scheduler: Any, field: Field, noise: Tensor) -> Tensor:
    # x = (1 - sigma) z + sigma eps, and the network predicts eps - z: our linear path at t = 1 - sigma, and -u.
    x, times = noise, 1 - scheduler.timesteps.double() / scheduler.config.num_train_timesteps
    if isinstance(scheduler, diffusers.DPMSolverMultistepScheduler):  # its timesteps are rounded, its sigmas are not
        times = 1 - scheduler.sigmas[:-1].double()
    for i, t in zip(scheduler.timesteps, times, strict=True):
        x = scheduler.step(-field.u(x, t.clamp(0, 1)), i, x).prev_sample.to(noise)
    return x


def vp(
    field: Field, noise: Tensor, steps: int, name: str, generator: torch.Generator | None = None, **options: Any
) -> Tensor:
    """A diffusion scheduler of diffusers on the VP path, predicting noise."""
    scheduler = getattr(diffusers, name)(trained_betas=BETAS, **options)
    scheduler.alphas_cumprod = ALPHA_BAR  # instead of the float32 product of the float32 betas
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas.double() if hasattr(scheduler, "sigmas") else None  # beta / alpha
    extra = {} if generator is None else {"generator": generator}
    if name == "DDIMScheduler" and generator is not None:
        extra["eta"] = 1.0
    x = noise * VP_SCHEDULE.beta(torch.zeros((), dtype=noise.dtype))
    if name == "HeunDiscreteScheduler":  # its x is ours over alpha
        x = x * torch.sqrt(1 + sigmas[0] ** 2)
    for i, k in enumerate(scheduler.timesteps):
        t = 1 - (k.double() + 1) / LEVELS if sigmas is None else vp_time(sigmas[i])
        x_in = scheduler.scale_model_input(x, k).to(noise)
        x = scheduler.step(field.noise(x_in, t.clamp(0, 1)), k, x, **extra).prev_sample.to(noise)
    return x


def vp_time(sigma: Tensor) -> Tensor:
    """The time at which beta / alpha = sigma on the VP path: the root of the quadratic in 1 - t that log alpha is."""
    log_alpha = -torch.log1p(sigma**2) / 2
    a, b = (VP_SCHEDULE.rate_max - VP_SCHEDULE.rate_min) / 4, VP_SCHEDULE.rate_min / 2
    return 1 - (torch.sqrt(b**2 - 4 * a * log_alpha) - b) / (2 * a)


# (library and sampler, setting) -> (evaluations a step, run). A peer is compared by its best setting at each budget.
LINEAR: dict[tuple[str, str], tuple[int, Run]] = {
    ("flow-matching ODESolver", "euler"): (1, partial(ode_solver, method="euler")),
    ("flow-matching ODESolver", "midpoint"): (2, partial(ode_solver, method="midpoint")),
    ("flow-matching ODESolver", "heun3"): (3, partial(ode_solver, method="heun3")),
    ("flow-matching ODESolver", "rk4"): (4, partial(ode_solver, method="rk4")),
    ("torchcfm with torchdiffeq", "euler"): (1, partial(torchdiffeq_fixed, method="euler")),
    ("torchcfm with torchdiffeq", "midpoint"): (2, partial(torchdiffeq_fixed, method="midpoint")),
    ("torchcfm with torchdiffeq", "rk4"): (4, partial(torchdiffeq_fixed, method="rk4")),
    ("diffusers FlowMatchEuler", "default"): (1, partial(flow_match_euler, spread=False)),
    ("diffusers FlowMatchEuler", "equal sigmas"): (1, partial(flow_match_euler, spread=True)),
    ("diffusers FlowMatchHeun", "default"): (2, flow_match_heun),
    ("diffusers DPMSolverMultistep", "flow sigmas"): (1, dpm_solver_flow),
}
ADAPTIVE: dict[tuple[str, str], Adaptive] = {
    ("flow-matching ODESolver", "dopri5"): ode_solver_adaptive,
    ("torchcfm with torchdiffeq", "dopri5"): torchdiffeq_adaptive,
}
DPM = partial(vp, name="DPMSolverMultistepScheduler")
HEUN = partial(vp, name="HeunDiscreteScheduler")
DDIM = partial(vp, name="DDIMScheduler", clip_sample=False)
VP_PEERS: dict[tuple[str, str], tuple[int, Run]] = {
    ("diffusers DDIM", "trailing"): (1, partial(DDIM, timestep_spacing="trailing")),
    ("diffusers Heun", "default"): (2, HEUN),
    ("diffusers Heun", "trailing"): (2, partial(HEUN, timestep_spacing="trailing")),
    ("diffusers Heun", "Karras sigmas"): (2, partial(HEUN, use_karras_sigmas=True)),
    ("diffusers DPMSolverMultistep", "default"): (1, DPM),
    ("diffusers DPMSolverMultistep", "trailing"): (1, partial(DPM, timestep_spacing="trailing")),
    ("diffusers DPMSolverMultistep", "Karras sigmas"): (1, partial(DPM, use_karras_sigmas=True)),
    ("diffusers DPMSolverMultistep", "Lu's lambdas"): (1, partial(DPM, use_lu_lambdas=True)),
}
NOISY_PEERS: dict[tuple[str, str], Callable[..., Tensor]] = {
    ("diffusers DDPM", "trailing"): partial(vp, name="DDPMScheduler", clip_sample=False, timestep_spacing="trailing"),
    ("diffusers DDIM", "eta = 1, trailing"): partial(DDIM, timestep_spacing="trailing"),
    ("diffusers DPMSolverMultistep", "SDE, trailing"): partial(
        DPM, algorithm_type="sde-dpmsolver++", timestep_spacing="trailing"
    ),
}
