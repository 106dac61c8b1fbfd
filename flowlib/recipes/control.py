"""ControlNets of the flow of scenes from captions, one for each kind of control.

`flowlib zoo control-edges` says how well pictures follow one.
"""

from flowlib.recipes.recipe import Recipe
from flowlib.systems.controlnet import ControlNetSystem
from flowlib.training import Training

RECIPES = tuple(
    Recipe(
        name=f"control-{kind}",
        data="scenes",
        system=ControlNetSystem(control=kind, time_mean=-0.4),
        training=Training(optimiser="muon", steps=3000, batch_size=32, lr=1e-3, matrix_lr=0.005, ema=0.995),
    )
    for kind in ("edges", "mask", "scribble", "keypoints")
)
