"""The sampler of the SDE: from noise at t = 0 to data at t = 1, with as much new noise on the way as is asked for."""

from collections.abc import Callable

import torch
from torch import Tensor

from flowlib.checks import check_count, check_number
from flowlib.ddim import ddim_step, langevin_step
from flowlib.fields import Field
from flowlib.requests import (
    Source,
    by_step,
    diffusion_at,
    guide_of,
    in_parts,
    noise_source,
    plus,
    prepare,
    time_steps,
    velocity_known,
)


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
    generator: Source = None,
    trajectory: bool = False,
    batch_size: int | None = None,
    gradients: bool = False,
) -> Tensor:
    """Follow dX = [u + g^2/2 s] dt + g dW from noise to data by Euler-Maruyama: the ODE's marginals, for every g.

    By default g^2 = 2 eta beta w, w = alpha' beta - alpha beta', whose drift u - eta w eps_hat has no division. On
    finite data a g that does not vanish at t = 1 diverges there as steps grow, because the score is of size 1/beta.

    Args:
        field: any field, learned or exact, guided or not.
        noise: (B, ...) standard Gaussian; the start is beta_0 noise, which is the noise itself on all schedules but VE.
        y: guides (B,), or None for the null guide.
        steps: steps of a uniform grid from t = 0 to t = 1, each one evaluation of the field.
        diffusion: g as a function of t, a scalar tensor, of which it makes one finite number; None for the default.
        eta: strength of the default diffusion, >= 0; eta = 0 is Euler's method for the ODE.
        times: (N + 1,) increasing times in [0, 1] to use instead of the uniform grid.
        denoise_last: land on D = E[z|x] in the last step instead of adding noise once more.
        corrector_steps: Langevin steps at each new time, which move x towards p_t (Song et al. 2021).
        corrector_snr: r; a corrector step has size 2 (r beta)^2.
        generator: the source of all new noise, on the CPU; torch's own by default. Or a list with a seed for each
            sample: it then depends on no other sample, nor on which others there are.
        trajectory: return all states (N + 1, B, ...), the start first, instead of the last (B, ...).
        batch_size: work through the samples so many at a time. Each sample then draws from a generator of its own,
            seeded from `generator` in order: the result does not depend on the split (compare with batch_size = B).
        gradients: keep the graph, so that samples can be differentiated in noise, guides and weights; the memory then
            grows with the steps.

    Returns:
        the samples, in the dtype of the noise.

    Raises:
        ValueError: naming the argument that does not fit; or where the field's prediction is of no use at a time that
            is asked for, such as the noise at t = 0.

    Example:
        >>> import torch
        >>> from flowlib import MixtureField, sample_sde
        >>> field, generator = MixtureField(torch.eye(2), std=0.1), torch.Generator().manual_seed(0)
        >>> sample_sde(field, torch.randn(64, 2), steps=10, generator=generator).shape
        torch.Size([64, 2])
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

        return in_parts(solve, len(noise), batch_size, trajectory, gradients)
