"""Flows of points in the plane."""

from flowlib.recipes.recipe import Recipe
from flowlib.systems.flow import FlowSystem
from flowlib.training import Training

RECIPES = (
    Recipe(
        name="moons",
        data="moons",
        system=FlowSystem(net="mlp", time="uniform"),
        training=Training(steps=2000, batch_size=256, ema=0.995),
    ),
    Recipe(
        name="checkerboard",
        data="checkerboard",
        system=FlowSystem(net="mlp", net_args={"width": 192}, time="uniform"),
        training=Training(steps=4000, batch_size=512, ema=0.995),
    ),
)
