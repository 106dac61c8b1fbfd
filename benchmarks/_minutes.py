"""Trainings of so many minutes: what they pay for, and what their samples are worth at the best guidance scale."""

import argparse
import math
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from _common import Scores, clock, kept, seeded
from _quality import first_stage_of, trained

from flowlib.data import load
from flowlib.metrics import evaluate_images
from flowlib.plotting import save_figure
from flowlib.plotting.style import ACCENT, BLUE, GREY, SKY, STYLE, VIOLET
from flowlib.recipes import Recipe, change, find_recipe, to_dict
from flowlib.runs import Run, train

TRIALS = (4, 84)  # steps
COLOURS = (ACCENT, BLUE, SKY, VIOLET)
PANELS = {
    "accuracy": "label accuracy",
    "ratio": "Fréchet distance / training images'",
    "precision": "precision",
    "recall": "recall",
}


def scaled(recipe: Recipe, share: float) -> Recipe:
    """The recipe with that share of its steps; a first stage's too."""
    stage, changes = first_stage_of(recipe), {"steps": max(1, math.floor(share * recipe.training.steps))}
    if stage is not None:
        changes["first_stage"] = replace(stage, steps=max(1, math.floor(share * stage.steps)))
    return change(recipe, **changes)


def pace(recipe: Recipe) -> tuple[float, float]:
    """Seconds until a training begins, and of all the steps of a recipe, from two short trainings."""
    found, shares = [], [steps / recipe.training.steps for steps in TRIALS]
    for share in (shares[0], *shares):  # the very first one also pays for what is done once in a process
        with tempfile.TemporaryDirectory() as folder:
            start = clock()
            train(scaled(recipe, share), Path(folder), pictures=False, checkpoint_every=TRIALS[1])
            found.append(clock() - start)
    whole = max(1e-3, (found[2] - found[1]) / (shares[1] - shares[0]))
    return max(0.0, found[1] - shares[0] * whole), whole


def share_of(recipe: Recipe, seconds: float) -> float:
    """Which share of the steps of a recipe so many seconds are expected to pay for."""
    before, whole = pace(recipe)
    return max(0.0, seconds - before) / whole


def bought(name: str, minutes: float, arguments: argparse.Namespace) -> list[dict[str, str]]:
    """Rows of the table: what a recipe draws after so many minutes, without guidance and at the best scale."""
    recipe, place = find_recipe(name), arguments.out / f"{name}-{minutes:g}-minutes"
    told = {"recipe": to_dict(recipe), "minutes": minutes, "threads": torch.get_num_threads()}
    share = kept(place.with_suffix(".json"), told, share_of, recipe, 60 * minutes)
    recipe = scaled(recipe, share)
    run, rows = trained(recipe, place), []
    for scale in arguments.scales:
        asked = {"recipe": to_dict(recipe), "samples": arguments.samples, "scale": scale}
        rows.append(kept(place / f"scale-{scale:g}.json", asked, halves, run, scale, arguments.samples))
        print(name, minutes, scale, rows[-1], file=sys.stderr, flush=True)
    best = min(range(len(rows)), key=lambda i: rows[i]["frechet, chosen by"])
    chosen = dict.fromkeys([arguments.scales.index(1) if 1 in arguments.scales else best, best])
    return [row_of(name, minutes, run, arguments.scales[i], rows[i]) for i in chosen]


def halves(run: Run, scale: float, samples: int) -> Scores:
    """The measures of one half of the samples at a scale, and by which the scale is chosen: of the other half."""
    test = load("mnist", "test")
    y = torch.arange(samples) % 10
    x = run.sample(y, scale=scale, steps=12, method="heun", seed=0).clamp(-1, 1)
    first = torch.arange(samples) // 10 % 2 == 0
    scores = {key: float(value) for key, value in evaluate_images(x[~first], y[~first], test.images).items()}
    scores["frechet, chosen by"] = float(evaluate_images(x[first], y[first], test.images)["frechet"])
    scores["ratio"] = scores["frechet"] / floor_of(int((~first).sum()))
    return scores


@cache
def floor_of(count: int) -> float:
    """The Fréchet distance of so many training images."""
    train_set, test = load("mnist", "train"), load("mnist", "test")
    chosen = torch.randperm(len(train_set), generator=seeded(0))[:count]
    return float(evaluate_images(train_set.images[chosen], train_set.labels[chosen], test.images)["frechet"])


def row_of(name: str, minutes: float, run: Run, scale: float, scores: Mapping[str, float]) -> dict[str, str]:
    return {
        "recipe": name, "minutes": f"{minutes:g}", "steps": str(run.recipe.training.steps), "w": f"{scale:g}",
        "accuracy": f"{scores['accuracy']:.2%}", "frechet": f"{scores['frechet']:.3f}",
        **{key: f"{scores[key]:.3f}" for key in ("ratio", "precision", "recall")},
    }  # fmt: skip


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """What time buys, a panel for each measure: without guidance, and at the best scale."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 2.9), dpi=110, layout="constrained")
        for axes, (key, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
            for colour, name in zip(COLOURS, dict.fromkeys(row["recipe"] for row in rows), strict=False):
                for plain, style in ((True, "--"), (False, "-")):
                    x, y = curve([row for row in rows if row["recipe"] == name], key, plain)
                    axes.plot(x, y, style, marker="o", markersize=3, color=colour, label=None if plain else name)
            ticks = sorted({float(row["minutes"]) for row in rows})
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.set_xticks([], minor=True)
            axes.set(title=title, xlabel="minutes of training")
        axes.plot([], [], "--", color=GREY, label="without guidance")
        axes.legend()
        save_figure(figure, path)


def curve(rows: list[dict[str, str]], key: str, plain: bool) -> tuple[list[float], list[float]]:
    """Minutes and a measure: the first row of each number of minutes is without guidance, the last at the best w."""
    found: dict[float, Any] = {}
    for row in rows:
        if plain:
            found.setdefault(float(row["minutes"]), row)
        else:
            found[float(row["minutes"])] = row
    return list(found), [float(row[key].rstrip("%")) for row in found.values()]
