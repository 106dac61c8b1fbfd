"""Samplers: from noise at t = 0 to data at t = 1, along the ODE, the SDE or DDIM's steps.

Each takes any `Field`. None asks for what a field cannot say: where the velocity is infinite at an end of time, that
one step is DDIM's, which needs only (D, eps_hat); and the SDE's own diffusion leaves its drift free of divisions.
What can be checked or computed for all steps is, before the first one.
"""

from torch import Tensor

from flowlib.adaptive import follow_adaptive
from flowlib.checks import check_choice
from flowlib.ddim import ddim_step, langevin_step, sample_ddim
from flowlib.fields import Field
from flowlib.requests import ahead, guide_of, in_parts, prepare, stages, time_steps, velocity_known
from flowlib.sde import sample_sde
from flowlib.solvers import ADAPTIVE, NEEDS_END, STEPS

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
    gradients: bool = False,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    min_step: float = 0.0,
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
        denoise_last: land on D = E[z|x] in the last step of the grid, whatever the method.
        trajectory: return all states (N + 1, B, ...), the start first, instead of the last (B, ...).
        batch_size: work through the samples so many at a time, to bound memory. The result does not depend on it, up to
            the rounding of kernels that a network chooses by batch size (and an adaptive method's tolerances).
        rtol, atol: the adaptive methods' tolerances, > 0.
        min_step: a step that these take whatever its error, >= 0.
        gradients: keep the graph, so that samples can be differentiated in noise, guides and weights; the memory then
            grows with the steps.

    Returns:
        the samples, in the dtype of the noise.

    Raises:
        ValueError: naming the argument that does not fit; or where the field's prediction is of no use at a time that
            is asked for, such as the noise at t = 0.

    Example:
        >>> import torch
        >>> from flowlib import MixtureField, sample_ode
        >>> field = MixtureField(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), std=0.1)
        >>> sample_ode(field, torch.randn(64, 2), torch.arange(64) % 2, steps=10).shape
        torch.Size([64, 2])
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
                return follow_adaptive(
                    field, x, guide, grid, method=method, rtol=rtol, atol=atol, min_step=min_step,
                    denoise_last=denoise_last, trajectory=trajectory,
                )  # fmt: skip
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

        return in_parts(solve, len(noise), batch_size, trajectory, gradients)
