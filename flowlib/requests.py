"""What all samplers share: checking a field and a request, its time grid and noise, and working through it in parts."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from flowlib.checks import check_count, check_tensor
from flowlib.fields import Field, check_field
from flowlib.solvers import time_grid


def prepare(
    field: Field, noise: Tensor, y: Tensor | None, steps: int, times: Tensor | None, batch_size: int | None
) -> Tensor:
    """Check what all samplers take, and return the time grid in the dtype and on the device of the noise."""
    check_field(field)
    check_tensor("noise", noise)
    if y is not None:
        field.check_guide(y, noise)
    if batch_size is not None:
        check_count("batch_size", batch_size)
    if times is None:
        return time_grid(steps).to(noise)
    times = check_tensor("times", times, batch=False).to(noise)  # in whose dtype they still have to differ
    if times.ndim != 1 or len(times) < 2 or not bool((times[1:] > times[:-1]).all()) or times[0] < 0 or times[-1] > 1:
        raise ValueError(f"times must be two or more increasing numbers in [0, 1], got {times.tolist()}")
    return times


def diffusion_at(diffusion: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """g(t), a scalar tensor like t; a ValueError if it is not one finite number, or no function."""
    if not callable(diffusion):
        raise ValueError(f"diffusion must be a function of t, got {diffusion!r}")
    g = torch.as_tensor(diffusion(t)).to(t)
    if g.ndim or not bool(torch.isfinite(g)):
        raise ValueError(f"diffusion must return one finite number, got {g.tolist()} at t = {float(t)}")
    return g


def time_steps(grid: Tensor) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """(t, s, whether it is the last) for each step, with a progress bar if it takes longer than two seconds."""
    last = len(grid) - 2
    for i in tqdm(range(len(grid) - 1), desc="sampling", unit="step", delay=2, leave=False, disable=None):
        yield grid[i], grid[i + 1], i == last


def noise_source(
    noise: Tensor, generator: torch.Generator | None, batch_size: int | None
) -> Callable[[slice], Callable[[], Tensor]]:
    """For a part of the batch, a function that draws its next noise; on the CPU: one seed is one noise everywhere."""
    if batch_size is None:
        return lambda part: lambda: torch.randn(noise.shape, generator=generator, dtype=noise.dtype).to(noise.device)
    seeds = torch.randint(2**62, (len(noise),), generator=generator).tolist()

    def draws(part: slice) -> Callable[[], Tensor]:
        own = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
        shape, dtype = noise.shape[1:], noise.dtype
        return lambda: torch.stack([torch.randn(shape, generator=g, dtype=dtype) for g in own]).to(noise.device)

    return draws


def in_parts(solve: Callable[[slice], list[Tensor]], count: int, size: int | None, trajectory: bool) -> Tensor:
    """Run `solve` on one part of the batch after the other and join the states."""
    size = count if size is None else size
    parts = []
    with torch.no_grad():
        for i in range(0, count, size):
            states = solve(slice(i, i + size))
            parts.append(torch.stack(states) if trajectory else states[-1])
    return torch.cat(parts, dim=1 if trajectory else 0)
