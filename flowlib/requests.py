"""What all samplers share: checking a request, its time grid, its noise, and working through it in parts."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from flowlib.checks import check_count, check_tensor
from flowlib.fields import Field
from flowlib.solvers import time_grid


def prepare(
    field: Field, noise: Tensor, y: Tensor | None, steps: int, times: Tensor | None, batch_size: int | None
) -> Tensor:
    """Check what all samplers take, and return the time grid in the dtype and on the device of the noise."""
    check_tensor("noise", noise)
    if y is not None:
        field.null_like(y)
        if len(y) != len(noise):
            raise ValueError(f"y must have one guide a sample, {len(noise)}, got {len(y)}")
    if batch_size is not None:
        check_count("batch_size", batch_size)
    if times is None:
        times = time_grid(steps)
    elif times.ndim != 1 or len(times) < 2 or not bool((times[1:] > times[:-1]).all()) or times[0] < 0 or times[-1] > 1:
        raise ValueError(f"times must be two or more increasing numbers in [0, 1], got {times.tolist()}")
    return times.to(noise)


def time_steps(grid: Tensor) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """(t, s, whether it is the last) for each step, with a progress bar if it takes longer than two seconds."""
    last = len(grid) - 2
    for i in tqdm(range(len(grid) - 1), desc="sampling", unit="step", delay=2, leave=False, disable=None):
        yield grid[i], grid[i + 1], i == last


def noise_source(
    noise: Tensor, generator: torch.Generator | None, batch_size: int | None
) -> Callable[[slice], Callable[[], Tensor]]:
    """For a part of the batch, a function that draws its next noise; drawn on the CPU, so one seed is one noise everywhere."""
    like = {"dtype": noise.dtype}
    if batch_size is None:
        return lambda part: lambda: torch.randn(noise.shape, generator=generator, **like).to(noise.device)
    seeds = torch.randint(2**62, (len(noise),), generator=generator).tolist()

    def draws(part: slice) -> Callable[[], Tensor]:
        own = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
        return lambda: torch.stack([torch.randn(noise.shape[1:], generator=g, **like) for g in own]).to(noise.device)

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
