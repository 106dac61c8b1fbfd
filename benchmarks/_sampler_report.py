"""The table, the verdicts and the figure of benchmarks/samplers.py."""

import math
from pathlib import Path

from _ours import OURS

BUDGETS = (4, 8, 20, 40, 100, 200)  # divisors of 1000, so that diffusers' tables of 1000 levels divide evenly
FLOOR = ("two sets of data", "the sampling floor")
ROUNDING = 1.005  # diffusers' schedulers compute in float32, and so differ a little where the method is the same
Errors = dict[tuple[str, str], list[float]]  # (library and sampler, setting) -> one error a budget, nan: none fits


def print_table(title: str, errors: Errors) -> None:
    print(f"\n{title}\n{'evaluations':46}" + "".join(f"{budget:>9}" for budget in BUDGETS))
    for (library, setting), row in errors.items():
        print(f"{library + ': ' + setting:46}" + "".join(f"{'-':>9}" if e != e else f"{e:9.1e}" for e in row))


def best(errors: Errors, library: str) -> list[float]:
    """The smallest error at each budget over the settings of one library's sampler; inf where none fits."""
    rows = [row for (name, _), row in errors.items() if name == library]
    return [min((e for e in column if e == e), default=math.inf) for column in zip(*rows, strict=True)]


def print_verdicts(tables: dict[str, Errors]) -> None:
    """One line for each peer: where flowlib's error is the largest multiple of the peer's, at equal evaluations."""
    peers: dict[str, tuple[float, str]] = {}
    for title, errors in tables.items():
        ours = best(errors, OURS)
        floor = max(errors.get(FLOOR, [0.0]))  # below it two energy distances do not differ
        for library in dict.fromkeys(name for name, _ in errors if name not in (OURS, FLOOR[0])):
            for budget, mine, theirs in zip(BUDGETS, ours, best(errors, library), strict=True):
                ratio = mine / max(theirs, floor)
                where = f"at {budget} evaluations, {title}: {mine:.2g} against {theirs:.2g}"
                peers[library] = max(peers.get(library, (0.0, "")), (ratio, where))
    print("\nNever worse at equal evaluations? The worst ratio, ours over theirs:")
    for library, (ratio, where) in peers.items():
        print(f"{library:30} {'reached' if ratio <= ROUNDING else 'MISSED '}  {ratio:5.2f}  {where}")


# What is drawn, and how: colours that the colour-blind tell apart (Okabe and Ito), ours solid, the others' dashed.
LINES = {
    "2-D, linear path": {
        ((OURS, "euler"), "euler", "#000000"),
    },
}


def draw(tables: dict[str, Errors], path: Path) -> None:
    raise NotImplementedError
