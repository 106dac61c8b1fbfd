"""Flows of the bundled digits: what the demo trains, and one for bits/dim."""

from flowlib.recipes.recipe import Recipe
from flowlib.systems.flow import FlowSystem
from flowlib.training import Training

RECIPES = (
    Recipe(
        name="digits",
        data="digits",
        system=FlowSystem(net_args={"channels": (32, 64), "depth": 1, "patch": 1, "dim": 128}),
        training=Training(optimiser="muon", steps=500, batch_size=128, lr=3e-3, ema=0.995),
    ),
    Recipe(
        name="digits-likelihood",
        data="digits",
        system=FlowSystem(
            net="mixture",
            net_args={"channels": (32, 64), "depth": 1, "patch": 1, "dim": 128, "values": tuple(range(17))},
            guided=False,
            time="logit-uniform",
            time_high=4.0,
            measure="noise",
            dequantise=True,
        ),
        training=Training(optimiser="muon", steps=500, batch_size=128, lr=3e-3, ema=0.995),
    ),
)
