"""What all samplers share: checking a field and a request, its time grid and noise, and working through it in parts."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor

from flowlib.checks import check_count, check_flag, check_tensor
from flowlib.fields import Field, check_field
from flowlib.gradients import recorded
from flowlib.known import Grid, remember, remember_times, remembering
from flowlib.progress import advance, progress
from flowlib.solvers import Velocity, evaluation_times, time_grid


@contextmanager
def prepare(
    field: Field, noise: Tensor, y: Tensor | None, steps: int, times: Tensor | None, batch_size: int | None
) -> Iterator[Grid]:
    """Check what all samplers take, once; inside, the guide and the times, a grid, are known to all further checks."""
    check_field(field)
    check_tensor("noise", noise)
    with torch.inference_mode(False), remembering():  # gradients may be asked for on the way
        if y is not None:
            field.check_guide(remember(y), noise)
        if batch_size is not None:
            check_count("batch_size", batch_size)
        grid = time_grid(steps) if times is None else check_times(times, noise.dtype)
        steps = (len(grid) - 1) * -(-len(noise) // (batch_size or len(noise)))
        with progress("sampling", steps=steps):
            yield remember_times(check_apart(grid, noise.dtype), noise)


def check_apart(times: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the times if neighbours differ in that dtype too; a ValueError if not."""
    if not bool(times.to(dtype).diff().all()):
        raise ValueError(f"steps must be fewer in {dtype}, where {len(times) - 1} of them have equal times")
    return times


def check_times(times: object, dtype: torch.dtype) -> Tensor:
    """Return `times` on the CPU if they are increasing numbers in [0, 1], apart in that dtype; a ValueError if not."""
    times = check_tensor("times", times, batch=False).detach().cpu()
    increasing = times.ndim == 1 and len(times) > 1 and bool((times.diff() > 0).all())
    if not increasing or times[0] < 0 or times[-1] > 1:
        raise ValueError(f"times must be two or more increasing numbers in [0, 1], got {times.tolist()}")
    if not bool(times.to(dtype).diff().all()):
        raise ValueError(f"times must differ in {dtype} too, the noise's: of these {len(times)}, some become equal")
    return times


def velocity_known(field: Field, grid: Grid) -> list[bool]:
    """At which of the times a velocity can be asked for."""
    return [bool(field.has_velocity_at(t)) for t in grid.values]


def time_steps(grid: Grid) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(i, t, s) for each step i from t to s, which moves the request's progress bar."""
    for i, (t, s) in enumerate(pairwise(grid.points)):
        yield i, t, s
        advance()


def stages(method: str, grid: Grid, like: Tensor) -> list[tuple[Tensor, ...]]:
    """For each step, the times at which a method asks for the velocity, in their order; they are known too."""
    times = evaluation_times(method, grid.host)
    points = iter(remember_times(times.flatten(), like).points)
    return list(zip(*[points] * times.shape[1], strict=True))


def diffusion_at(diffusion: Callable[[Tensor], Tensor], grid: Grid, steps: list[bool]) -> Tensor:
    """g(t) at the start of each of the `steps` that want one, else 0: (N,); a ValueError if it is not one number."""
    if not callable(diffusion):
        raise ValueError(f"diffusion must be a function of t, got {diffusion!r}")
    levels = [
        torch.as_tensor(diffusion(t)).to(t) if step else torch.zeros_like(t)
        for t, step in zip(grid.points[:-1], steps, strict=True)
    ]
    for g, t in zip(levels, grid.values, strict=False):
        if g.ndim:
            raise ValueError(f"diffusion must return one finite number, got {g.tolist()} at t = {t}")
    together = torch.stack(levels)
    for g, t in zip(together.tolist(), grid.values, strict=False):
        if not math.isfinite(g):
            raise ValueError(f"diffusion must return one finite number, got {g} at t = {t}")
    return together


def by_step(*weights: Tensor) -> list[tuple[Tensor, ...]]:
    """Weights (N,) of N steps -> for each step its own, of shape ()."""
    return list(zip(*(weight.unbind() for weight in weights), strict=True))


def ahead(f: Velocity, times: tuple[Tensor, ...]) -> Velocity:
    """f for one step of a method, at the known times, which have the values of those that the method asks for."""
    known = iter(times)
    return lambda x, t: f(x, next(known))


def plus(x: Tensor, *terms: tuple[Tensor, Tensor]) -> Tensor:
    """x + weight tensor + ..., for each of the pairs (weight, tensor) in one pass over the samples."""
    for weight, tensor in terms:
        x = torch.addcmul(x, weight, tensor)
    return x


def guide_of(y: Tensor | None, part: slice) -> Tensor | None:
    """The guides of a part of the batch: what was found of all of them is known of these."""
    return None if y is None else remember(recorded(y[part]), like=y)


Source = torch.Generator | Sequence[int] | None  # of noise: one for all samples, or a seed for each


def noise_source(noise: Tensor, generator: Source, batch_size: int | None) -> Callable[[slice], Callable[[], Tensor]]:
    """For a part of the batch, a function that draws its next noise; on the CPU: one seed is one noise everywhere."""
    if isinstance(generator, Sequence):
        if len(generator) != len(noise):
            raise ValueError(f"generator must be one, or a seed for each of {len(noise)} samples, got {generator!r}")
        seeds = [check_count("generator", seed, 0) for seed in generator]
    elif batch_size is None:
        return lambda part: lambda: torch.randn(noise.shape, generator=generator, dtype=noise.dtype).to(noise.device)
    else:
        seeds = torch.randint(2**62, (len(noise),), generator=generator).tolist()

    def draws(part: slice) -> Callable[[], Tensor]:
        own = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
        shape, dtype = noise.shape[1:], noise.dtype
        return lambda: torch.stack([torch.randn(shape, generator=g, dtype=dtype) for g in own]).to(noise.device)

    return draws


def in_parts(
    solve: Callable[[slice], list[Tensor]], count: int, size: int | None, trajectory: bool, gradients: bool = False
) -> Tensor:
    """Run `solve` on one part of the batch after the other and join the states, which keep the graph on request."""
    size = count if size is None else size
    parts = []
    with torch.enable_grad() if check_flag("gradients", gradients) else torch.no_grad():
        for i in range(0, count, size):
            states = solve(slice(i, i + size))
            parts.append(torch.stack(states) if trajectory else states[-1])
    return torch.cat(parts, dim=1 if trajectory else 0)
