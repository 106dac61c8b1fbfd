"""The colours of figures: lines can be seen on white, and told apart by readers who do not see red or green."""

import itertools

import numpy as np
import pytest

from flowlib.paths import PREDICTIONS
from flowlib.plotting import style
from flowlib.schedules import SCHEDULES

# From Machado, Oliveira and Fernandes (2009), at full strength.
EYES = {
    "all cones": np.eye(3),
    "no red": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "no green": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    """A colour "#rrggbb" as amounts of light (3,)."""
    value = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """CIELAB, in which distances are as large as they look."""
    xyz = TO_XYZ @ light.clip(0, 1) / (0.9505, 1, 1.089)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


LINES = [style.INK, style.GREY, style.ACCENT, style.BLUE, style.SKY, style.VIOLET, style.ROSE, style.PLUM]


@pytest.mark.parametrize("colour", LINES)
def test_a_line_is_seen_on_white(colour: str) -> None:
    assert 1.05 / (TO_XYZ[1] @ linear(colour) + 0.05) >= 3  # WCAG 2.1, criterion 1.4.11


@pytest.mark.parametrize("colours", [style.SCHEDULES, style.SOLVERS, style.PREDICTIONS])
def test_the_colours_of_one_figure_are_told_apart(colours: dict[str, str]) -> None:
    for (a, one), (b, other) in itertools.combinations(colours.items(), 2):
        for eyes, matrix in EYES.items():
            distance = np.linalg.norm(lab(matrix @ linear(one)) - lab(matrix @ linear(other)))
            assert distance > 14, (a, b, eyes, distance)


def test_everything_that_figures_compare_has_its_colour() -> None:
    assert style.SCHEDULES.keys() == SCHEDULES.keys()
    assert style.PREDICTIONS.keys() == PREDICTIONS.keys()
    assert min(value for key, value in style.STYLE.items() if "size" in key) >= 8  # type: ignore[type-var]
