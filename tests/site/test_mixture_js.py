"""The mixture of the page "A flow in the plane", in JavaScript, is the package's: values and samples, to 1e-6."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flowlib import ClassifierFreeGuidance, GaussianPath, MixtureField, sample_ode, sample_sde, sde
from flowlib.metrics import energy_distance
from flowlib.schedules import SCHEDULES

HERE = Path(__file__).parent
NAMES = ("linear", "trigonometric", "square-root", "vp", "cosine")
TIMES = (0.05, 0.3, 0.5, 0.77, 0.95)
GUIDES = (None, 0, 1)
MIXTURE: dict[str, Any] = {
    "means": [[-1.4, 1.0], [1.4, 1.1], [0.2, -1.5]], "weights": [1.0, 2.0, 1.5], "stds": [0.25, 0.4, 0.1],
    "labels": [0, 1, 1],
}  # fmt: skip


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


POINTS, NOISE, DRAWS = draw(6, 2, seed=0), draw(5, 2, seed=1), draw(20, 5, 2, seed=2)


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    cases = {
        "mixture": MIXTURE, "points": POINTS.tolist(), "times": TIMES, "noise": NOISE.tolist(),
        "draws": DRAWS.tolist(), "guides": GUIDES,
    }  # fmt: skip
    script = ["node", str(HERE / "mixture_values.mjs")]
    done = subprocess.run(script, input=json.dumps(cases), capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def field(name: str) -> MixtureField:
    means, stds, weights = (torch.tensor(MIXTURE[key], dtype=torch.float64) for key in ("means", "stds", "weights"))
    labels = torch.tensor(MIXTURE["labels"])
    return MixtureField(means, stds, weights, labels=labels, path=GaussianPath(SCHEDULES[name]()))


def same(found: Any, expected: Tensor) -> None:
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_levels_velocity_score_and_density_are_pythons(theirs: dict[str, Any], name: str) -> None:
    ours, mine = field(name), theirs[name]
    schedule, t = ours.path.schedule, torch.tensor(TIMES, dtype=torch.float64)
    same(mine["levels"], torch.stack([schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)], 1))
    guided = ClassifierFreeGuidance(ours, 2.5)
    for i, time in enumerate(TIMES):
        for j, label in enumerate(GUIDES):
            y = None if label is None else torch.full((len(POINTS),), label)
            same(mine["u"][i][j], ours.u(POINTS, time, y))
            same(mine["s"][i][j], ours.s(POINTS, time, y))
            same(mine["log"][i][j], ours.log_prob(POINTS, time, y))
            same(mine["guided"][i][j], guided.u(POINTS, time, y))


@pytest.mark.parametrize("name", NAMES)
def test_samples_of_the_ode_are_pythons(theirs: dict[str, Any], name: str) -> None:
    guided, y = ClassifierFreeGuidance(field(name), 2.5), torch.ones(len(NOISE), dtype=torch.long)
    for method, found in theirs[name]["ode"].items():
        same(found, sample_ode(guided, NOISE, y, steps=20, method=method))


@pytest.mark.parametrize("name", NAMES)
def test_samples_of_the_sde_are_pythons_from_the_same_noise(
    theirs: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, y = field(name), torch.ones(len(NOISE), dtype=torch.long)
    kinds: dict[str, dict[str, Any]] = {
        "default": {}, "half": {"eta": 0.5}, "constant": {"diffusion": lambda t: torch.full_like(t, 0.7)},
        "loud": {"diffusion": lambda t: torch.full_like(t, 0.7), "denoise_last": False},
    }  # fmt: skip
    for kind, options in kinds.items():
        ready = iter(DRAWS)
        monkeypatch.setattr(sde, "noise_source", lambda *_, ready=ready: lambda part: lambda: next(ready)[part])
        same(theirs[name]["sde"][kind], sample_sde(ours, NOISE, y, steps=20, **options))


def test_the_energy_distance_is_pythons(theirs: dict[str, Any]) -> None:
    assert theirs["energy"] == pytest.approx(energy_distance(POINTS, NOISE), abs=1e-9)
