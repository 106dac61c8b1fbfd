"""Samplers: from noise at t = 0 to data at t = 1, along the ODE, the SDE or DDIM's steps.

Each takes any `Field`. None asks for what a field cannot say: where the velocity is infinite at an end of time, that
one step is DDIM's, which needs only (D, eps_hat); and the SDE's own diffusion leaves its drift free of divisions.
What can be checked or computed for all steps is, before the first one.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from flowlib.checks import check_choice, check_count, check_number
from flowlib.ddim import ddim_step, sample_ddim
from flowlib.fields import Field
from flowlib.requests import (
    ahead,
    by_step,
    diffusion_at,
    guide_of,
    in_parts,
    noise_source,
    plus,
    prepare,
    stages,
    time_steps,
    velocity_known,
)
from flowlib.solvers import ADAPTIVE, NEEDS_END, STEPS, solve_adaptive

__all__ = ["ddim_step", "langevin_step", "sample_ddim", "sample_ode", "sample_sde"]


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
    with prepare(field, noise, y, steps, times, batch_size) as grid:
        start, sizes = noise * field.path.schedule.beta(grid.times[0]), grid.times.diff().unbind()
        asked = [] if method in ADAPTIVE else stages(method, grid, noise)
        finite = velocity_known(field, grid)

        def solve(part: slice) -> list[Tensor]:
            x, guide = start[part], guide_of(y, part)

            def velocity(x: Tensor, t: Tensor) -> Tensor:
                return field.u(x, t, guide)

            if method in ADAPTIVE:
                stops = grid.times if trajectory else grid.times[[0, -1]]
                return list(solve_adaptive(velocity, x, stops, method, rtol, atol))
            states = [x]
            for i, t, s in time_steps(grid):
                if denoise_last and i == len(asked) - 1:
                    x = field.data(x, t, guide)
                elif finite[i] and (finite[i + 1] or method not in NEEDS_END):
                    x = STEPS[method](ahead(velocity, asked[i]), x, t, sizes[i])
                else:
                    x = ddim_step(field, x, guide, t, s)
                states = [*states, x] if trajectory else [x]
            return states

        return in_parts(solve, len(noise), batch_size, trajectory)


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
    if diffusion is not None and not callable(diffusion):
        raise ValueError(f"diffusion must be a function of t, got {diffusion!r}")
    with prepare(field, noise, y, steps, times, batch_size) as grid:
        schedule, t, last = field.path.schedule, grid.times[:-1], len(grid.values) - 2
        start, draws = noise * schedule.beta(grid.times[0]), noise_source(noise, generator, batch_size)
        finite = velocity_known(field, grid)[:-1]
        alpha, beta, dalpha, dbeta, h = (
            schedule.alpha(t),
            schedule.beta(t),
            schedule.dalpha(t),
            schedule.dbeta(t),
            grid.times.diff(),
        )
        # Half of g^2 over beta: what multiplies -eps_hat in the drift, g^2/2 s = -g^2/(2 beta) eps_hat.
        if diffusion is None:
            pull = eta * (dalpha * beta - alpha * dbeta)
        else:
            taken = [finite[i] and not (denoise_last and i == last) for i in range(last + 1)]
            pull = diffusion_at(diffusion, grid, taken) ** 2 / (2 * beta)
        weights = by_step(h * dalpha, h * (dbeta - pull), torch.sqrt(2 * pull * beta * h))

        def solve(part: slice) -> list[Tensor]:
            x, guide, draw = start[part], guide_of(y, part), draws(part)
            states = [x]
            for i, t, s in time_steps(grid):
                if denoise_last and i == last:
                    x = field.data(x, t, guide)
                elif finite[i]:
                    data, eps = field.pair(x, t, guide)
                    of_data, of_eps, of_noise = weights[i]
                    x = plus(x, (of_data, data), (of_eps, eps), (of_noise, draw()))
                else:
                    x = ddim_step(field, x, guide, t, s)
                for _ in range(0 if i == last else corrector_steps):
                    x = langevin_step(field, x, guide, s, corrector_snr, draw())
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
