"""Exact likelihood of a flow, by the instantaneous change of variables (Chen et al. 2018, theorem 1).

Along dx/dt = u, d log p_t(x_t) / dt = -div u. Integrating both from data at t = 1 back to noise at t = 0, whose density
is known, gives log p_1.
"""

import math

import torch
from torch import Tensor
from tqdm import tqdm

from flowlib.checks import check_choice, check_count, check_tensor
from flowlib.fields import Field, check_field
from flowlib.gradients import differentiable, recorded
from flowlib.known import remember, remember_times, remembering
from flowlib.requests import ahead, check_apart, guide_of, stages
from flowlib.solvers import ADAPTIVE, STEPS, Velocity, solve_adaptive, time_grid


def divergence(f: Velocity, x: Tensor, t: Tensor, probe: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return `f(x, t)` (B, ...) and its divergence in x (B,), for samples of any shape.

    Without a `probe` exactly, by one backward pass for each of the sample's components; with one (B, ...) as the
    unbiased estimate probe . (J probe) (Hutchinson 1989; Grathwohl et al. 2019), by one backward pass.
    """
    with differentiable():
        x = recorded(x.detach()).requires_grad_()
        value = f(x, t)
        if probe is not None:
            product = torch.autograd.grad((value * probe).sum(), x)[0]
            return value.detach(), (product * probe).flatten(1).sum(1)
        flat = value.flatten(1)
        total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for i in range(flat.shape[1]):
            gradient = torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0]
            total += gradient.flatten(1)[:, i]
    return value.detach(), total


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
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
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
        generator: the source of the probes.
        batch_size: work through the samples so many at a time, to bound memory.

    Raises:
        ValueError: naming the argument that does not fit, or the end of time where the velocity is infinite.
    """
    check_field(field)
    check_tensor("x", x)
    check_choice("method", method, [*STEPS, *ADAPTIVE])
    check_choice("estimator", estimator, ["exact", "hutchinson"])
    size = len(x) if batch_size is None else check_count("batch_size", batch_size)
    times = time_grid(steps, start, end).flip(0)
    for name, t in (("start", start), ("end", end)):
        if not field.has_velocity_at(t):
            raise ValueError(f"the field has no finite velocity at t = {t}: choose another {name}")
    schedule = field.path.schedule
    variance = float(schedule.alpha(times[-1]) ** 2 + schedule.beta(times[-1]) ** 2)
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
            guide, sign, dim = guide_of(y, part), None if probe is None else probe[part], x[0].numel()

            def rates(state: Tensor, t: Tensor) -> Tensor:
                samples = state[:, :-1].reshape(-1, *x.shape[1:])
                velocity, div = divergence(lambda x, t: field.u(x, t, guide), samples, t, sign)
                return torch.cat([velocity.flatten(1), div[:, None]], dim=1)

            # The state is the sample and, in one more component, the divergence integrated so far.
            state = torch.cat([x[part].flatten(1), torch.zeros_like(x[part].flatten(1)[:, :1])], dim=1)
            if method in ADAPTIVE:
                state = solve_adaptive(rates, state, grid.times[[0, -1]], method, rtol, atol)[-1]
            else:
                for at, t, h in zip(asked, grid.points, sizes, strict=False):
                    state = STEPS[method](ahead(rates, at), state, t, h)
            noise, change = state[:, :-1], state[:, -1]
            log_normal = -0.5 * (noise**2).sum(1) / variance - 0.5 * dim * math.log(2 * math.pi * variance)
            return log_normal + change

        parts = range(0, len(x), size)
        bar = tqdm(parts, desc="likelihood", unit="batch", delay=2, leave=False, disable=None)
        with torch.no_grad():
            return torch.cat([solve(slice(i, i + size)) for i in bar])


def dequantise(pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """uint8 pixels (B, C, H, W) -> float32 images in [-1 - 1/255, 1 + 1/255], uniform within each pixel value's bin.

    Bins are 2/255 wide around `pixel / 127.5 - 1`, the scale of the data sets (Theis et al. 2016, section 3.1).

    Raises:
        ValueError: unless the pixels are uint8.
    """
    if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8:
        raise ValueError(f"pixels must be uint8 in 0 ... 255, got {getattr(pixels, 'dtype', type(pixels))}")
    inside = torch.rand(pixels.shape, generator=generator).to(pixels.device)
    return (pixels + inside - 0.5) / 127.5 - 1


def bits_per_dim(log_density: Tensor, dims: int, levels: int = 256) -> Tensor:
    """Nats of density (B,) of dequantised images -> bits/dim (B,) of their pixels, an upper bound in the mean.

    Pixels have `levels` values in [-1, 1]. A bin is 2 / (levels - 1) wide, so a pixel's probability is its density
    times that; of 8-bit pixels a uniform model costs 8 bits.
    """
    check_count("dims", dims)
    width = 2 / (check_count("levels", levels, 2) - 1)
    return -(log_density / dims + math.log(width)) / math.log(2)
