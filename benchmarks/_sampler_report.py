"""The table, the verdicts and the figure of benchmarks/samplers.py."""

import math
from pathlib import Path

from _ours import OURS
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

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
                bar = max(theirs, floor)
                against = f"{bar:.2g}" + (", the sampling floor" if bar > theirs else "")
                where = f"at {budget} evaluations, {title}: {mine:.2g} against {against}"
                peers[library] = max(peers.get(library, (0.0, "")), (mine / bar, where))
    print("\nNever worse at equal evaluations? The worst ratio, ours over theirs:")
    for library, (ratio, where) in peers.items():
        print(f"{library:30} {'reached' if ratio <= ROUNDING else 'MISSED '}  {ratio:5.2f}  {where}")


# What is drawn in each panel. Methods that two libraries share, such as Euler's, are drawn once, as ours.
PANELS = {
    "2-D, linear path": {
        (OURS, "euler"): "Euler",
        (OURS, "ddim of order 3"): "DDIM of order 3",
        (OURS, "rk4"): "RK4",
        (OURS, "dopri5"): "dopri5",
        ("flow-matching ODESolver", "dopri5"): "ODESolver dopri5",
        ("diffusers FlowMatchHeun", "default"): "FlowMatchHeun",
        ("diffusers DPMSolverMultistep", "flow sigmas"): "DPM-Solver++(2M)",
    },
    "2-D, VP path": {
        (OURS, "euler, dense"): "Euler",
        (OURS, "ddim of order 3, dense"): "DDIM of order 3",
        (OURS, "rk4, dense"): "RK4",
        (OURS, "dopri5"): "dopri5",
        ("diffusers DDIM", "trailing"): "DDIM",
        ("diffusers Heun", "trailing"): "Heun",
        ("diffusers DPMSolverMultistep", "Lu's lambdas"): "DPM-Solver++(2M)",
    },
}
BLUE, VERMILION = "#0072B2", "#D55E00"  # of Okabe and Ito's palette, which the colour-blind tell apart


def draw(tables: dict[str, Errors], path: Path) -> None:
    """Both panels as a PNG 900 pixels wide, each line with its name at its end."""
    figure = Figure(figsize=(9, 4.2), dpi=100, layout="constrained")
    for axes, (title, lines) in zip(figure.subplots(1, 2, sharey=True), PANELS.items(), strict=True):
        for row, label in sorted(lines.items(), key=lambda line: -tables[title][line[0]][-1]):
            ours, errors = row[0] == OURS, tables[title][row]
            colour, dashes = (BLUE, "-") if ours else (VERMILION, "--")
            axes.plot(BUDGETS, errors, dashes, color=colour, marker="o", markersize=3, linewidth=1.6)
            axes.annotate(
                label,
                (BUDGETS[-1], errors[-1]),
                color=colour,
                fontsize=8,
                va="center",
                xytext=(7, 0),
                textcoords="offset points",
                annotation_clip=False,
            )
        axes.set(xscale="log", yscale="log", title=title, xlabel="evaluations of the field", xlim=(3.5, 210))
        axes.set_xticks(BUDGETS, [str(budget) for budget in BUDGETS])
        axes.minorticks_off()
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set(ylabel="distance to the exact flow", ylim=(3e-7, 2))
    figure.suptitle("flowlib (blue, solid) beside published samplers (vermilion, dashed)", fontsize=11)
    figure.canvas.draw()
    for axes in figure.axes:
        spread_labels(axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def spread_labels(axes: Axes, gap: float = 12.0) -> None:
    """Move the labels at the ends of the lines, from the topmost down, until they are `gap` pixels apart."""
    labels = [child for child in axes.get_children() if isinstance(child, Annotation)]
    ends = sorted(((axes.transData.transform(label.xy)[1], label) for label in labels), key=lambda end: -end[0])
    above = math.inf
    for height, label in ends:
        above = min(height, above - gap)
        label.set(position=(7, (above - height) * 72 / axes.figure.dpi))
