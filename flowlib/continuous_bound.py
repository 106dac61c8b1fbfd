"""The variational bound of a field's log likelihood in continuous time (Kingma et al. 2021, section 4).

A chain of ever finer steps from noise to data pays, for each unit of the log signal-to-noise ratio, half of the squared
error of its noise: of the path nothing is left but its two ends (equation 15). So the bound needs no divergence and no
solver, which `flowlib.likelihood` does, but it is one of the SDE with the field's score, not of the ODE.
"""

import math

import torch
from torch import Tensor

from flowlib.checks import check_count, check_number, check_tensor
from flowlib.fields import Field, check_field
from flowlib.progress import advance, progress
from flowlib.schedules import Schedule


def time_at(schedule: Schedule, log_snr: Tensor) -> Tensor:
    """The times at which log (alpha / beta)^2 has these values, float64, by bisection; 0 or 1 beyond the ends.

    Example:
        >>> import torch
        >>> from flowlib import Linear
        >>> from flowlib.continuous_bound import time_at
        >>> time_at(Linear(), torch.tensor([0.0]))
        tensor([0.5000], dtype=torch.float64)
    """
    wanted = log_snr.double()
    low, high = torch.zeros_like(wanted), torch.ones_like(wanted)
    for _ in range(60):
        middle = (low + high) / 2
        less = schedule.snr(middle).log() < wanted
        low, high = torch.where(less, middle, low), torch.where(less, high, middle)
    return (low + high) / 2


def continuous_bound(
    field: Field,
    z: Tensor,
    y: Tensor | None = None,
    *,
    low: float = -8.0,
    high: float = 22.0,
    cells: int = 30,
    generator: torch.Generator | None = None,
    batch_size: int = 500,
) -> Tensor:
    """Nats that data z (B, ...) cost at most, -log p(z|y) in the mean over draws: (B, cells + 2), whose sum it is.

    The first column is what the last of the noise costs, KL(p(x|z) || N(0, (alpha^2 + beta^2) I)) where log SNR is
    `low`. Each cell of log SNR from `low` to `high` costs its width times half the squared error of the noise, at one
    time drawn within it. The last is the cost of z given x where log SNR is `high`, under N(D, (beta / alpha)^2 I).
    Data that lie on points or edges want a large `high`: the bound falls with it.

    Args:
        field: any field.
        z: data, float.
        y: guides (B,), or None for the null guide.
        low, high: log SNR at the two ends, in [-30, 30]; single precision holds x on the linear path up to 22 or so.
        cells: evaluations of the field for each sample, less one.
        generator: the source of times and noise.
        batch_size: samples at a time.

    Raises:
        ValueError: naming the argument that does not fit.

    Example:
        >>> import torch
        >>> from flowlib import MixtureField
        >>> from flowlib.continuous_bound import continuous_bound
        >>> field = MixtureField(torch.zeros(1, 2), std=1.0)
        >>> z = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
        >>> nats = continuous_bound(field, z, generator=torch.Generator().manual_seed(1)).sum(1)
        >>> (nats.mean() - (-field.log_prob(z, 1.0)).mean()).abs() < 0.2  # of an exact field it is tight, but for noise
        tensor(True)
    """
    check_field(field)
    check_tensor("z", z)
    check_number("low", low, -30, 30)
    check_number("high", high, -30, 30)
    if not low < high:
        raise ValueError(f"low must be less than high, got {low} and {high}")
    check_count("cells", cells)
    check_count("batch_size", batch_size)
    if y is not None:
        field.check_guide(y, z)
    width = (high - low) / cells
    parts = range(0, len(z), batch_size)
    with torch.no_grad(), progress("bound", steps=len(parts)):
        found = []
        for i in parts:
            part, guide = z[i : i + batch_size], None if y is None else y[i : i + batch_size]
            inside = torch.rand(len(part), cells, generator=generator)
            edges = torch.full((len(part), 1), float(high))
            log_snr = torch.cat([low + width * (torch.arange(cells) + inside), edges], dim=1)
            errors = noise_errors(field, part, guide, log_snr, generator).flatten(2).sum(2)
            found.append(_nats(field, part, errors, low, high, width))
            advance()
    return torch.cat(found)


def noise_errors(
    field: Field, z: Tensor, y: Tensor | None, log_snr: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Squared errors of the noise that the field sees, for each component: (B, N, ...) at log SNR (B, N).

    Example:
        >>> import torch
        >>> from flowlib import MixtureField
        >>> from flowlib.continuous_bound import noise_errors
        >>> field = MixtureField(torch.zeros(1, 2), std=1.0)  # at log SNR 0 it knows of half of x what it is
        >>> errors = noise_errors(field, torch.randn(1000, 2), None, torch.zeros(1000, 1))
        >>> errors.shape, bool((errors.mean() - 0.5).abs() < 0.1)
        (torch.Size([1000, 1, 2]), True)
    """
    times, found = time_at(field.path.schedule, log_snr).to(z), []
    for t in times.unbind(1):
        noise = torch.randn(z.shape, generator=generator, dtype=z.dtype).to(z.device)
        x = field.path.sample(z, t, noise)
        found.append((field.noise(x, t, y) - noise).square())
    return torch.stack(found, dim=1)


def _nats(field: Field, z: Tensor, errors: Tensor, low: float, high: float, width: float) -> Tensor:
    """The columns of the bound from the squared errors (B, cells + 1)."""
    dims, schedule = z[0].numel(), field.path.schedule
    start = time_at(schedule, torch.tensor(low))
    alpha, beta = float(schedule.alpha(start)), float(schedule.beta(start))
    variance = alpha**2 + beta**2
    size = z.flatten(1).square().sum(1)
    prior = 0.5 * (alpha**2 * size / variance + dims * (beta**2 / variance - 1 - math.log(beta**2 / variance)))
    last = 0.5 * (errors[:, -1] + dims * (math.log(2 * math.pi) - high))
    return torch.cat([prior[:, None], 0.5 * width * errors[:, :-1], last[:, None]], dim=1)
