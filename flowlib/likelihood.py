"""Exact likelihood of a flow, by the instantaneous change of variables (Chen et al. 2018, theorem 1).

Along dx/dt = u, d log p_t(x_t) / dt = -div u. Integrating both from data at t = 1 back to noise at t = 0, whose density
is known, gives log p_1.
"""

import math

import torch
from torch import Tensor
from tqdm import tqdm

from flowlib.checks import check_choice, check_count, check_flag, check_tensor
from flowlib.divergence import divergence
from flowlib.fields import Field, check_field
from flowlib.known import remember, remember_times, remembering
from flowlib.pixel_bits import bits_per_dim, dequantise
from flowlib.requests import ahead, check_apart, check_times, guide_of, stages
from flowlib.solvers import ADAPTIVE, STEPS, solve_adaptive, time_grid

__all__ = ["bits_per_dim", "dequantise", "divergence", "log_likelihood", "sample_with_likelihood"]


def log_likelihood(
    field: Field,
    x: Tensor,
    y: Tensor | None = None,
    *,
    steps: int = 100,
    method: str = "rk4",
    estimator: str = "exact",
    start: float = 0.0,
    end: float = 1.0,
    times: Tensor | None = None,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
    gradients: bool = False,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Tensor:
    """log p(x|y) in nats, shape (B,), under the flow of the field.

    Args:
        field: any field with a velocity at both ends.
        x: data (B, ...), float.
        y: guides (B,), or None for the null guide.
        steps: of the fixed-step methods.
        method: "euler", "midpoint", "heun" or "rk4"; or torchdiffeq's adaptive "dopri5", "dopri8", "bosh3" or
            "adaptive_heun", which choose their steps by the tolerances `rtol` and `atol`.
        estimator: "exact", whose cost grows with the sample's size, or "hutchinson", unbiased with one probe of random
            signs a sample, the same along its whole path.
        start, end: times where the flow begins and where x lives, for fields whose velocity is infinite at 0 or 1;
            p_start is taken as N(0, (alpha_start^2 + beta_start^2) I) and x as a sample of p_end.
        times: (N + 1,) increasing times to use instead of a uniform grid from `start` to `end` in `steps`, such as
            `flowlib.solvers.logit_grid` for pixels, whose bins show late.
        generator: the source of the probes.
        batch_size: work through the samples so many at a time, to bound memory.
        gradients: keep the graph, so that the result can be differentiated in x and in weights.

    Raises:
        ValueError: naming the argument that does not fit, or the end of time where the velocity is infinite.

    Example:
        >>> import torch
        >>> from flowlib import MixtureField, log_likelihood
        >>> field, x = MixtureField(torch.eye(2).double(), std=0.5), torch.zeros(1, 2).double()
        >>> bool((log_likelihood(field, x, steps=20) - field.log_prob(x, 1.0)).abs() < 1e-3)
        True
    """
    grid = time_grid(steps, start, end) if times is None else check_times(times, check_tensor("x", x).dtype)
    times = grid.flip(0)
    start, end = float(grid[0]), float(grid[-1])
    noise, change = _follow(
        field, "x", x, y, times, start, end, method, estimator, generator, batch_size, gradients, (rtol, atol)
    )
    schedule = field.path.schedule
    variance = float(schedule.alpha(times[-1]) ** 2 + schedule.beta(times[-1]) ** 2)
    return _log_normal(noise, variance) + change


def sample_with_likelihood(
    field: Field,
    noise: Tensor,
    y: Tensor | None = None,
    *,
    steps: int = 100,
    method: str = "rk4",
    estimator: str = "exact",
    start: float = 0.0,
    end: float = 1.0,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
    gradients: bool = False,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """Samples of the ODE, and with them log of the density that they are drawn from, in one pass.

    Args:
        field: any field with a velocity at both ends; samples are those of `sample_ode` at the same times.
        noise: (B, ...) standard Gaussian; the start is beta_start noise, of which the density is N(0, beta_start^2 I).
        y: guides (B,), or None for the null guide. All that follow are as in `log_likelihood`.

    Returns:
        samples (B, ...) and nats (B,).

    Raises:
        ValueError: naming the argument that does not fit, or the end of time where the velocity is infinite.

    Example:
        >>> import torch
        >>> from flowlib import MixtureField
        >>> from flowlib.likelihood import sample_with_likelihood
        >>> field = MixtureField(torch.eye(2), std=0.5)
        >>> samples, nats = sample_with_likelihood(field, torch.randn(16, 2))
        >>> (nats - field.log_prob(samples, 1.0)).abs().max() < 1e-2
        tensor(True)
    """
    times = time_grid(steps, start, end)
    check_field(field)
    beta = field.path.schedule.beta(times[0])
    begun = check_tensor("noise", noise) * beta.to(noise)
    samples, change = _follow(
        field, "noise", begun, y, times, start, end, method, estimator, generator, batch_size, gradients, (rtol, atol)
    )
    return samples.reshape(noise.shape), _log_normal(begun.flatten(1), float(beta) ** 2) - change


def _log_normal(x: Tensor, variance: float) -> Tensor:
    return -0.5 * (x**2).sum(1) / variance - 0.5 * x.shape[1] * math.log(2 * math.pi * variance)


def _follow(
    field: Field,
    name: str,
    x: Tensor,
    y: Tensor | None,
    times: Tensor,
    start: float,
    end: float,
    method: str,
    estimator: str,
    generator: torch.Generator | None,
    batch_size: int | None,
    gradients: bool,
    tolerances: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """Samples x (B, ...), the argument `name`, at the last of the times, flat (B, D), and the integral of the
    divergence on the way there (B,)."""
    check_field(field)
    check_tensor(name, x)
    check_choice("method", method, [*STEPS, *ADAPTIVE])
    check_choice("estimator", estimator, ["exact", "hutchinson"])
    size = len(x) if batch_size is None else check_count("batch_size", batch_size)
    check_flag("gradients", gradients)
    for which, t in (("start", start), ("end", end)):
        if not field.has_velocity_at(t):
            raise ValueError(f"the field has no finite velocity at t = {t}: choose another {which}")
    with torch.inference_mode(False), remembering():
        if y is not None:
            field.check_guide(remember(y), x)
        grid = remember_times(check_apart(times, x.dtype), x)
        asked, sizes = [] if method in ADAPTIVE else stages(method, grid, x), grid.times.diff().unbind()
        probe = None
        if estimator == "hutchinson":
            signs = torch.randint(0, 2, x.shape, generator=generator)
            probe = (2 * signs - 1).to(x)

        def solve(part: slice) -> Tensor:
            guide, sign = guide_of(y, part), None if probe is None else probe[part]

            def rates(state: Tensor, t: Tensor) -> Tensor:
                samples = state[:, :-1].reshape(-1, *x.shape[1:])
                velocity, div = divergence(lambda x, t: field.u(x, t, guide), samples, t, sign, gradients)
                return torch.cat([velocity.flatten(1), div[:, None]], dim=1)

            # The state is the sample and, in one more component, the divergence integrated so far.
            state = torch.cat([x[part].flatten(1), torch.zeros_like(x[part].flatten(1)[:, :1])], dim=1)
            if method in ADAPTIVE:
                return solve_adaptive(rates, state, grid.times[[0, -1]], method, *tolerances)[-1]
            for at, t, h in zip(asked, grid.points, sizes, strict=False):
                state = STEPS[method](ahead(rates, at), state, t, h)
            return state

        parts = range(0, len(x), size)
        bar = tqdm(parts, desc="likelihood", unit="batch", delay=2, leave=False, disable=None)
        with torch.enable_grad() if gradients else torch.no_grad():
            state = torch.cat([solve(slice(i, i + size)) for i in bar])
    return state[:, :-1], state[:, -1]
