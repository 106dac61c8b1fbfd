"""Error against network evaluations of every sampler of flowlib, beside published ones on the same exact field:

    make peers
    python benchmarks/samplers.py --figure docs/samplers.png

The field is a Gaussian mixture, known exactly, in float64. A deterministic sampler's error is the root mean square
distance between its samples and the exact flow of the same noise; a stochastic one's is the energy distance between
its samples and data. The published samplers are given each setting of theirs that may suit them, and are compared by
the best one at each number of evaluations; flowlib likewise. Takes about two minutes on one core.
"""

import math
import time
from pathlib import Path

import torch
from _common import parser_of, seeded
from _ours import OURS, Counted, cloud, ours_adaptive, ours_fixed, ours_noisy, ring
from _peers import ADAPTIVE, LINEAR, NOISY_PEERS, VP_PEERS, Adaptive, Run
from _sampler_report import BUDGETS, FLOOR, Errors, draw, print_table, print_verdicts
from torch import Tensor
from tqdm import tqdm

from flowlib import VP, Field, GaussianPath, MixtureField, sample_ode
from flowlib.metrics import energy_distance

TOLERANCES = [10 ** (-k / 2) for k in range(1, 15)]


def fixed(field: Field, noise: Tensor, exact: Tensor, cost: int, run: Run) -> list[float]:
    """The error at each budget of a sampler that takes `cost` evaluations a step, fewer in its last step at most."""
    errors = []
    for budget in BUDGETS:
        counted = Counted(field)
        errors.append(rms(run(counted, noise, budget // cost), exact))
        if counted.count > budget:
            raise RuntimeError(f"{counted.count} evaluations where {budget} were allowed")
    return errors


def adaptive(field: Field, noise: Tensor, exact: Tensor, run: Adaptive) -> list[float]:
    """The error at each budget of a sampler with a tolerance: that of the finest tolerance that fits."""
    errors, counted = [math.nan] * len(BUDGETS), Counted(field)
    for tolerance in TOLERANCES:
        counted.count = 0
        error = rms(run(counted, noise, tolerance), exact)
        if counted.count > BUDGETS[-1]:
            break
        errors = [error if counted.count <= budget else old for budget, old in zip(BUDGETS, errors, strict=True)]
    return errors


def rms(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt())


def flow_errors(field: MixtureField, count: int, seed: int) -> Errors:
    """The errors of all deterministic samplers on one field."""
    noise = draw_noise(field, count, seed)
    exact = sample_ode(field, noise, steps=1, method="dopri8", rtol=1e-10, atol=1e-10)
    on_vp = isinstance(field.path.schedule, VP)
    # On VP beta' is infinite at t = 1, like a square root: times that are quadratic there take that out.
    runs = {**ours_fixed(1.0), **(ours_fixed(2.0) | VP_PEERS if on_vp else LINEAR)}
    errors = {row: fixed(field, noise, exact, *run) for row, run in tqdm(runs.items(), leave=False)}
    for row, run in {(OURS, "dopri5"): ours_adaptive, **({} if on_vp else ADAPTIVE)}.items():
        errors[row] = adaptive(field, noise, exact, run)
    return errors


def noisy_errors(field: MixtureField, count: int, seed: int) -> Errors:
    """The energy distances of all stochastic samplers to data; the row "floor" is that of data to other data."""
    noise, generator = draw_noise(field, count, seed), seeded(seed + 1)
    data = field.sample(count, generator)[0]
    errors = {FLOOR: [energy_distance(field.sample(count, generator)[0], data) for _ in BUDGETS]}
    for row, run in tqdm({**ours_noisy(1.0), **ours_noisy(2.0), **NOISY_PEERS}.items(), leave=False):
        errors[row] = [energy_distance(run(field, noise, n, generator=generator), data) for n in BUDGETS]
    return errors


def draw_noise(field: MixtureField, count: int, seed: int) -> Tensor:
    shape, generator = (count, *field.means.shape[1:]), seeded(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def mean_of(parts: list[Errors]) -> Errors:
    """Row by row, the root mean square over seeds."""
    return {
        row: torch.tensor([part[row] for part in parts], dtype=torch.float64).square().mean(0).sqrt().tolist()
        for row in parts[0]
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=2, help="how many seeds are averaged")
    parser.add_argument("--count", type=int, default=250, help="samples of each deterministic sampler and seed")
    parser.add_argument("--noisy-count", type=int, default=2000, help="samples of each stochastic sampler and seed")
    parser.add_argument("--figure", type=Path, help="a PNG to write")
    args = parser.parse_args()

    torch.set_num_threads(1)
    start = time.perf_counter()
    seeds = range(args.seed, args.seed + args.seeds)
    paths = {"linear path": GaussianPath(), "VP path": GaussianPath(VP())}
    tables: dict[str, Errors] = {}
    for make in (ring, cloud):
        for name, path in paths.items():
            field = make(path)
            title = f"{field.means.shape[1]}-D, {name}"
            tables[title] = mean_of([flow_errors(field, args.count, seed) for seed in seeds])
            print_table(f"{title}: root mean square distance to the exact flow", tables[title])
    title = "2-D, VP path, stochastic"
    tables[title] = mean_of([noisy_errors(ring(paths["VP path"]), args.noisy_count, seed) for seed in seeds])
    print_table(f"{title}: energy distance to data", tables[title])
    print_verdicts(tables)
    print(f"\nseeds {seeds[0]} ... {seeds[-1]}, {time.perf_counter() - start:.0f} s on one core")
    if args.figure:
        draw(tables, args.figure)


if __name__ == "__main__":
    main()
