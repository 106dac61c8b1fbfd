"""How figures look: one style, and one colour for each thing that several figures show.

    plt.rcParams.update(STYLE)
    axes.plot(evaluations, errors, color=SOLVERS["heun"])

Lines have a contrast of at least 3 : 1 on white and differ for readers who do not see red or green; text has at least 8
points.
"""

from typing import Any

INK, GREY, PALE, ACCENT = "#22262b", "#6e757d", "#e3e6ea", "#c4441c"  # pale is for areas: a line of it is not seen
BLUE, SKY, VIOLET, ROSE, PLUM = "#2c66c9", "#3c9cbd", "#5b21b6", "#c9748c", "#3f1569"

SCHEDULES = {"linear": ACCENT, "trigonometric": BLUE, "square-root": SKY, "vp": INK, "cosine": VIOLET, "ve": ROSE}
SOLVERS = {
    "euler": INK, "midpoint": SKY, "heun": ACCENT, "rk4": BLUE, "sde": VIOLET, "ddim": ROSE, "ddpm": PLUM
}  # fmt: skip
PREDICTIONS = {"data": INK, "noise": BLUE, "velocity": ACCENT, "score": SKY, "v": VIOLET}

STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.edgecolor": GREY,
    "font.size": 9,
    "legend.fontsize": 8,
    "legend.framealpha": 0.9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.4,
}
