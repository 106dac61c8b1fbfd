"""Samplers: from noise at t = 0 to data at t = 1, along the ODE, the SDE or DDIM's steps.

Each takes any `Field`. None asks for what a field cannot say: where the velocity is infinite at an end of time, that
one step is DDIM's, which needs only (D, eps_hat); and the SDE's own diffusion leaves its drift free of divisions.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from flowlib.checks import check_choice, check_count, check_number
from flowlib.fields import Field
from flowlib.requests import diffusion_at, in_parts, noise_source, prepare, time_steps
from flowlib.solvers import ADAPTIVE, NEEDS_END, STEPS, adams_bashforth, solve_adaptive


def ddim_step(
    field: Field, x: Tensor, y: Tensor | None, t: Tensor, s: Tensor, eta: float = 0.0, noise: Tensor | None = None
) -> Tensor:
    """From t to a later s: alpha_s D + sqrt(beta_s^2 - sigma^2) eps_hat + sigma noise (Song et al. 2021, equation 12).

    sigma is `eta` times the standard deviation of the Gaussian posterior q(x_s | x_t, D). Neither alpha_t nor beta_s is
    divided by, so that a step from pure noise and a step to clean data are exact.
    """
    data, eps = field.pair(x, t, y)
    schedule = field.path.schedule
    beta_s, beta_t = schedule.beta(s), schedule.beta(t)
    if not eta:
        return schedule.alpha(s) * data + beta_s * eps
    if noise is None:
        raise ValueError("a step with eta > 0 needs noise")
    ratio = schedule.alpha(t) / schedule.alpha(s)
    sigma = eta * beta_s * torch.sqrt((1 - (ratio * beta_s / beta_t) ** 2).clamp_min(0))
    return schedule.alpha(s) * data + torch.sqrt((beta_s**2 - sigma**2).clamp_min(0)) * eps + sigma * noise


def sample_ode(
    field: Field,
    noise: Tensor,
    y: Tensor | None = None,
    *,
    steps: int = 50,
    method: str = "heun",
    times: Tensor | None = None,
    denoise_last: bool = False,
    trajectory: bool = False,
    batch_size: int | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Tensor:
    """Follow dx/dt = u_t(x|y) from noise to data.

    Args:
        field: any field, learned or exact, guided or not.
        noise: (B, ...) standard Gaussian; the start is beta_0 noise, which is the noise itself on all schedules but VE.
        y: guides (B,), or None for the null guide.
        steps: steps of the fixed-step methods "euler", "midpoint", "heun" (which calls the field twice), "rk4".
        method: one of these, or of torchdiffeq's adaptive "dopri5", "dopri8", "bosh3", "adaptive_heun", which choose
            their steps by `rtol` and `atol` for the batch as a whole.
        times: (N + 1,) increasing times in [0, 1] to use instead of a uniform grid of `steps`.
        denoise_last: land on D = E[z|x] in the last step, whatever the method.
        trajectory: return all states (N + 1, B, ...), the start first, instead of the last (B, ...).
        batch_size: work through the samples so many at a time, to bound memory. The result does not depend on it, up to
            the rounding of kernels that a network chooses by batch size (and an adaptive method's tolerances).

    Raises:
        ValueError: naming the argument that does not fit.
    """
    check_choice("method", method, [*STEPS, *ADAPTIVE])
    grid = prepare(field, noise, y, steps, times, batch_size)
    start = noise * field.path.schedule.beta(grid[0])

    def solve(x: Tensor, y: Tensor | None) -> list[Tensor]:
        if method in ADAPTIVE:
            stops = grid if trajectory else grid[[0, -1]]
            return list(solve_adaptive(lambda x, t: field.u(x, t, y), x, stops, method, rtol, atol))
        states = [x]
        for t, s, last in time_steps(grid):
            if last and denoise_last:
                x = field.data(x, t, y)
            elif field.has_velocity_at(float(t)) and (method not in NEEDS_END or field.has_velocity_at(float(s))):
                x = STEPS[method](lambda x, t: field.u(x, t, y), x, t, s - t)
            else:
                x = ddim_step(field, x, y, t, s)
            states = [*states, x] if trajectory else [x]
        return states

    return in_parts(lambda part: solve(start[part], None if y is None else y[part]), len(noise), batch_size, trajectory)


def sample_sde(
    field: Field,
    noise: Tensor,
    y: Tensor | None = None,
    *,
    steps: int = 250,
    diffusion: Callable[[Tensor], Tensor] | None = None,
    eta: float = 1.0,
    times: Tensor | None = None,
    denoise_last: bool = True,
    corrector_steps: int = 0,
    corrector_snr: float = 0.1,
    generator: torch.Generator | None = None,
    trajectory: bool = False,
    batch_size: int | None = None,
) -> Tensor:
    """Follow dX = [u + g^2/2 s] dt + g dW from noise to data by Euler-Maruyama: the ODE's marginals, for every g.

    By default g^2 = 2 eta beta w, w = alpha' beta - alpha beta', whose drift u - eta w eps_hat has no division. On
    finite data a g that does not vanish at t = 1 diverges there as steps grow, because the score is of size 1/beta.

    Args:
        field, noise, y, steps, times, trajectory: as in `sample_ode`.
        diffusion: g as a function of t, a scalar tensor; None for the default.
        eta: strength of the default diffusion, >= 0; eta = 0 is Euler's method for the ODE.
        denoise_last: land on D = E[z|x] in the last step instead of adding noise once more.
        corrector_steps: Langevin steps at each new time, which move x towards p_t (Song et al. 2021).
        corrector_snr: r; a corrector step has size 2 (r beta)^2.
        generator: the source of all noise.
        batch_size: work through the samples so many at a time. Each sample then draws from a generator of its own,
            seeded from `generator` in order: the result does not depend on the split (compare with batch_size = B).

    Raises:
        ValueError: naming the argument that does not fit.
    """
    check_number("eta", eta, 0)
    check_count("corrector_steps", corrector_steps, 0)
    check_number("corrector_snr", corrector_snr, 0, low_open=True)
    grid = prepare(field, noise, y, steps, times, batch_size)
    schedule = field.path.schedule
    start = noise * schedule.beta(grid[0])
    draws = noise_source(noise, generator, batch_size)

    def step(x: Tensor, y: Tensor | None, t: Tensor, s: Tensor, draw: Callable[[], Tensor]) -> Tensor:
        data, eps = field.pair(x, t, y)
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        w = schedule.dalpha(t) * beta - alpha * schedule.dbeta(t)
        # Half of g^2 over beta: what multiplies -eps_hat in the drift, g^2/2 s = -g^2/(2 beta) eps_hat.
        pull = eta * w if diffusion is None else diffusion_at(diffusion, t) ** 2 / (2 * beta)
        drift = schedule.dalpha(t) * data + (schedule.dbeta(t) - pull) * eps
        return x + (s - t) * drift + torch.sqrt(2 * pull * beta * (s - t)) * draw()

    def solve(part: slice) -> list[Tensor]:
        x, guide, draw = start[part], None if y is None else y[part], draws(part)
        states = [x]
        for t, s, last in time_steps(grid):
            if last and denoise_last:
                x = field.data(x, t, guide)
            elif field.has_velocity_at(float(t)):
                x = step(x, guide, t, s, draw)
            else:
                x = ddim_step(field, x, guide, t, s)
            for _ in range(0 if last else corrector_steps):
                x = langevin_step(field, x, guide, s, corrector_snr, draw())
            states = [*states, x] if trajectory else [x]
        return states

    return in_parts(solve, len(noise), batch_size, trajectory)


def sample_ddim(
    field: Field,
    noise: Tensor,
    y: Tensor | None = None,
    *,
    steps: int = 50,
    eta: float = 0.0,
    order: int = 1,
    times: Tensor | None = None,
    generator: torch.Generator | None = None,
    trajectory: bool = False,
    batch_size: int | None = None,
) -> Tensor:
    """DDIM in continuous time (Song et al. 2021): deterministic at eta = 0, DDPM's ancestral sampling at eta = 1.

    At eta = 0 it is Euler's method for x / alpha as a function of beta / alpha: x moves by D times what alpha changes
    and eps_hat times what beta changes. With `order` 2 or 3, still at one evaluation a step, that many pairs of D and
    eps_hat are extrapolated to their mean over the step, as polynomials in the angle atan2(alpha, beta), in which they
    are smooth at both ends of time (DPM-Solver++, Lu et al. 2022, extrapolates D alone, in log(alpha / beta)).
    Other arguments as in `sample_sde`.

    Raises:
        ValueError: naming the argument that does not fit; for order > 1 with eta > 0.
    """
    check_number("eta", eta, 0, 1)
    if check_count("order", order) > (1 if eta else 3):
        raise ValueError(f"order must be 1 ... 3, and 1 if eta > 0; got {order} with eta = {eta}")
    grid = prepare(field, noise, y, steps, times, batch_size)
    alphas, betas = field.path.schedule.alpha(grid), field.path.schedule.beta(grid)
    angles = torch.atan2(alphas, betas)
    start, draws = noise * betas[0], noise_source(noise, generator, batch_size)

    def solve(part: slice) -> list[Tensor]:
        x, guide, draw = start[part], None if y is None else y[part], draws(part)
        states, past = [x], list[Tensor]()
        for i, (t, s, _) in enumerate(time_steps(grid)):
            if order == 1:
                x = ddim_step(field, x, guide, t, s, eta, draw() if eta else None)
            else:
                past = [torch.stack(field.pair(x, t, guide)), *past[: order - 1]]
                weights = adams_bashforth(angles[i + 1 - len(past) : i + 1].flip(0), angles[i + 1])
                data, eps = torch.einsum("k,k...->...", weights, torch.stack(past))
                x = x + (alphas[i + 1] - alphas[i]) * data + (betas[i + 1] - betas[i]) * eps
            states = [*states, x] if trajectory else [x]
        return states

    return in_parts(solve, len(noise), batch_size, trajectory)


def langevin_step(field: Field, x: Tensor, y: Tensor | None, t: Tensor, snr: float, noise: Tensor) -> Tensor:
    """One step of Langevin dynamics at time t, whose stationary law is p_t(x|y) (Song et al. 2021, algorithm 4).

    x + h s + sqrt(2 h) noise with h = 2 (snr beta)^2, the paper's step with |s| = |eps| / beta put at its expected
    size, so that it depends on no other sample of the batch.
    """
    beta = field.path.schedule.beta(t)
    return x - 2 * snr**2 * beta * field.noise(x, t, y) + 2 * snr * beta * noise
