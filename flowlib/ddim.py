"""Steps that need only D and eps_hat, finite where the velocity may not be; and DDIM, which is made of them.

Example:
    >>> import torch
    >>> from flowlib import MixtureField
    >>> from flowlib.ddim import ddim_step, langevin_step
    >>> field, t = MixtureField(torch.zeros(1, 2), std=0.0), torch.tensor([0.0, 0.5, 1.0])
    >>> ddim_step(field, torch.randn(3, 2), None, t[0], t[2]).abs().max()  # one point of data: exact in one step
    tensor(0.)
    >>> langevin_step(field, torch.randn(3, 2), None, t[1], snr=0.1, noise=torch.randn(3, 2)).shape
    torch.Size([3, 2])
"""

import torch
from torch import Tensor

from flowlib.checks import check_count, check_number
from flowlib.fields import Field
from flowlib.requests import Source, by_step, guide_of, in_parts, noise_source, plus, prepare, time_steps
from flowlib.schedules import Schedule
from flowlib.solvers import adams_bashforth


def ddim_weights(schedule: Schedule, t: Tensor, s: Tensor, eta: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """What a step from t to s multiplies D, eps_hat and new noise by: alpha_s, sqrt(beta_s^2 - sigma^2) and sigma.

    sigma is `eta` times the standard deviation of the Gaussian posterior q(x_s | x_t, D) (Song et al. 2021, eq. 16).

    Example:
        >>> import torch
        >>> from flowlib import Linear
        >>> from flowlib.ddim import ddim_weights
        >>> ddim_weights(Linear(), torch.tensor(0.5), torch.tensor(0.75))
        (tensor(0.7500), tensor(0.2500), tensor(0.))
    """
    alpha_s, beta_s = schedule.alpha(s), schedule.beta(s)
    if not eta:
        return alpha_s, beta_s, torch.zeros_like(s)
    ratio = schedule.alpha(t) / alpha_s
    sigma = eta * beta_s * torch.sqrt((1 - (ratio * beta_s / schedule.beta(t)) ** 2).clamp_min(0))
    return alpha_s, torch.sqrt((beta_s**2 - sigma**2).clamp_min(0)), sigma


def ddim_step(
    field: Field, x: Tensor, y: Tensor | None, t: Tensor, s: Tensor, eta: float = 0.0, noise: Tensor | None = None
) -> Tensor:
    """From t to a later s: alpha_s D + sqrt(beta_s^2 - sigma^2) eps_hat + sigma noise (Song et al. 2021, equation 12).

    Neither alpha_t nor beta_s is divided by, so that a step from pure noise and a step to clean data are exact.
    """
    data, eps = field.pair(x, t, y)
    of_data, of_eps, sigma = ddim_weights(field.path.schedule, t, s, eta)
    if not eta:
        return of_data * data + of_eps * eps
    if noise is None:
        raise ValueError("a step with eta > 0 needs noise")
    return of_data * data + of_eps * eps + sigma * noise


def langevin_step(field: Field, x: Tensor, y: Tensor | None, t: Tensor, snr: float, noise: Tensor) -> Tensor:
    """One step of Langevin dynamics at time t, whose stationary law is p_t(x|y) (Song et al. 2021, algorithm 4).

    x + h s + sqrt(2 h) noise with h = 2 (snr beta)^2, the paper's step with |s| = |eps| / beta put at its expected
    size, so that it depends on no other sample of the batch.
    """
    beta = field.path.schedule.beta(t)
    return x - 2 * snr**2 * beta * field.noise(x, t, y) + 2 * snr * beta * noise


def sample_ddim(
    field: Field,
    noise: Tensor,
    y: Tensor | None = None,
    *,
    steps: int = 50,
    eta: float = 0.0,
    order: int = 1,
    times: Tensor | None = None,
    generator: Source = None,
    trajectory: bool = False,
    batch_size: int | None = None,
    gradients: bool = False,
) -> Tensor:
    """DDIM in continuous time (Song et al. 2021): deterministic at eta = 0, DDPM's ancestral sampling at eta = 1.

    At eta = 0 it is Euler's method for x / alpha as a function of beta / alpha: x moves by D times what alpha changes
    and eps_hat times what beta changes. With `order` 2 or 3, still at one evaluation a step, that many pairs of D and
    eps_hat are extrapolated to their mean over the step, as polynomials in the angle atan2(alpha, beta), in which they
    are smooth at both ends of time (DPM-Solver++, Lu et al. 2022, extrapolates D alone, in log(alpha / beta)).

    Args:
        field: any field, learned or exact, guided or not.
        noise: (B, ...) standard Gaussian; the start is beta_0 noise, which is the noise itself on all schedules but VE.
        y: guides (B,), or None for the null guide.
        steps: steps of a uniform grid from t = 0 to t = 1, each one evaluation of the field.
        eta: how much of the noise that a step takes away it replaces by new noise, in [0, 1].
        order: 1, or without new noise (eta = 0) up to 3.
        times: (N + 1,) increasing times in [0, 1] to use instead of the uniform grid.
        generator: the source of all new noise, on the CPU; torch's own by default. Or a list with a seed for each
            sample: it then depends on no other sample, nor on which others there are.
        trajectory: return all states (N + 1, B, ...), the start first, instead of the last (B, ...).
        batch_size: work through the samples so many at a time, to bound memory. With eta > 0 each sample then draws
            from a generator of its own, seeded from `generator` in order: the result does not depend on the split.
        gradients: keep the graph, so that samples can be differentiated in noise, guides and weights; the memory then
            grows with the steps.

    Returns:
        the samples, in the dtype of the noise.

    Raises:
        ValueError: naming the argument that does not fit; for order > 1 with eta > 0; or where the field's prediction
            does not determine D and eps_hat, such as the noise at t = 0.

    Example:
        >>> import torch
        >>> from flowlib import MixtureField, sample_ddim
        >>> field = MixtureField(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), std=0.1)
        >>> sample_ddim(field, torch.randn(64, 2), steps=5, order=2).shape
        torch.Size([64, 2])
    """
    check_number("eta", eta, 0, 1)
    if check_count("order", order) > (1 if eta else 3):
        raise ValueError(f"order must be 1 ... 3, and 1 if eta > 0; got {order} with eta = {eta}")
    with prepare(field, noise, y, steps, times, batch_size) as grid:
        schedule = field.path.schedule
        start, draws = noise * schedule.beta(grid.times[0]), noise_source(noise, generator, batch_size)
        single = by_step(*ddim_weights(schedule, grid.times[:-1], grid.times[1:], eta))
        several = multistep_weights(schedule, grid.times, order) if order > 1 else []

        def solve(part: slice) -> list[Tensor]:
            x, guide, draw = start[part], guide_of(y, part), draws(part)
            states, past = [x], list[tuple[Tensor, Tensor]]()
            for i, t, _ in time_steps(grid):
                data, eps = field.pair(x, t, guide)
                if order == 1:
                    of_data, of_eps, sigma = single[i]
                    x = plus(of_data * data, (of_eps, eps))
                    x = plus(x, (sigma, draw())) if eta else x
                else:
                    past = [(data, eps), *past[: order - 1]]
                    for (data, eps), (of_data, of_eps) in zip(past, several[i], strict=True):
                        x = plus(x, (of_data, data), (of_eps, eps))
                states = [*states, x] if trajectory else [x]
            return states

        return in_parts(solve, len(noise), batch_size, trajectory, gradients)


def multistep_weights(schedule: Schedule, times: Tensor, order: int) -> list[list[tuple[Tensor, Tensor]]]:
    """For each step, what it multiplies D and eps_hat by: its own, then those of the steps before, `order` in all.

    Example:
        >>> from flowlib import Linear
        >>> from flowlib.ddim import multistep_weights
        >>> from flowlib.solvers import time_grid
        >>> [len(pairs) for pairs in multistep_weights(Linear(), time_grid(4), order=2)]
        [1, 2, 2, 2]
    """
    alphas, betas = schedule.alpha(times), schedule.beta(times)
    angles = torch.atan2(alphas, betas)
    steps = list[list[tuple[Tensor, Tensor]]]()
    for known in range(1, min(order, len(times) - 1) + 1):  # pairs; the first steps have fewer
        rows = slice(None) if known == order else slice(1)
        nodes = angles[:-1].unfold(0, known, 1)[rows].flip(1)  # (steps, known), the latest first
        shares = adams_bashforth(nodes, angles[known:][rows])
        changes = (levels.diff()[known - 1 :][rows, None] for levels in (alphas, betas))
        weights = (by_step(*(shares * change).unbind(1)) for change in changes)
        steps += [list(zip(of_data, of_eps, strict=True)) for of_data, of_eps in zip(*weights, strict=True)]
    return steps
