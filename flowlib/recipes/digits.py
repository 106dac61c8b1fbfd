"""The flow of the bundled digits: what the demo trains."""

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
)
