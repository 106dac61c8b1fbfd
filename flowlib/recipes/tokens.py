"""Images as sentences: DALL-E, on scenes of 16 x 16 pixels, which are 8 x 8 tokens.

Its numbers are a start: no training of this recipe to its end has been measured yet.
"""

from flowlib.recipes.recipe import Recipe
from flowlib.systems.dalle import DALLESystem
from flowlib.systems.dvae import DVAEStage
from flowlib.training import Training

_STAGE = DVAEStage(
    tokens=256, latent_channels=32, channels=64, factor=2, gain=8.0, likelihood="logit-laplace", scale_floor=1.0,
    kl_weight=0.5, kl_rise=0.25, cooling=0.8, steps=4000, optimiser="muon", lr=6e-3, matrix_lr=0.02, ema=0.998,
)  # fmt: skip

RECIPES = (
    Recipe(
        name="dalle",
        data="scenes",
        system=DALLESystem(first_stage=_STAGE, parts={"clip": "zoo:clip-conv"}),
        training=Training(optimiser="muon", steps=3000, lr=1.5e-3, matrix_lr=0.0075, ema=0.998),
    ),
)
