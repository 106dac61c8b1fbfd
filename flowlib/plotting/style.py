"""How figures look: one style, and one colour for each thing that several figures show.

    plt.rcParams.update(STYLE)
    axes.plot(evaluations, errors, color=SOLVERS["heun"])

No pair of red and green, lines of at least 3 : 1 contrast on white, and text of at least 8 points.
"""

INK, GREY, PALE, ACCENT = "#22262b", "#6e757d", "#e3e6ea", "#c4441c"  # pale is for areas: a line of it is not seen
BLUE, GOLD, PURPLE, TEAL = "#2f6fb0", "#a87400", "#7a4f9e", "#16858f"

CYCLE = (ACCENT, BLUE, INK, GOLD, PURPLE, TEAL, GREY)  # where a figure names no colours

SCHEDULES = {"linear": ACCENT, "trigonometric": BLUE, "square-root": GOLD, "vp": INK, "cosine": PURPLE, "ve": TEAL}
SOLVERS = {
    "euler": INK, "midpoint": BLUE, "heun": ACCENT, "rk4": GREY,
    "sde": PURPLE, "ddim": GOLD, "ddpm": TEAL, "dopri5": GREY,
}  # fmt: skip
PREDICTIONS = {"data": INK, "noise": BLUE, "velocity": ACCENT, "score": GOLD, "v": PURPLE}

STYLE = {
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
