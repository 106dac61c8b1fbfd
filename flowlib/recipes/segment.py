"""Segmentation of scenes: a masked autoencoder, and SAM, which begins with one.

`flowlib zoo sam` says how well masks fit, by kind of prompt.
"""

from flowlib.recipes.recipe import Recipe
from flowlib.systems.mae import MAEStage, MAESystem
from flowlib.systems.sam import SAMSystem
from flowlib.training import Training

_MAE = MAEStage(optimiser="muon", steps=3000, batch_size=128, lr=2e-3, matrix_lr=0.01, ema=0.998)

RECIPES = (
    Recipe(
        name="mae",
        data="scenes",
        system=MAESystem(),
        training=Training(optimiser="muon", steps=3000, batch_size=128, lr=2e-3, matrix_lr=0.01, ema=0.998),
    ),
    Recipe(
        name="sam",
        data="scenes",
        system=SAMSystem(pretraining=_MAE, clicks=4, parts={"clip": "zoo:clip-conv"}),
        training=Training(optimiser="muon", steps=6000, batch_size=32, lr=2e-3, matrix_lr=0.01, ema=0.998),
    ),
)
