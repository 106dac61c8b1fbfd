"""Images as sentences: DALL-E, on scenes of 16 x 16 pixels, which are 8 x 8 tokens of 2 x 2 pixels.

Tokens begin at the centres of patches: from random ones, a training of this length leaves few of them in use. The
first stage computes in full precision, as centres lie close together. `flowlib zoo dalle` says how often the judge
reads what was asked for, of the scenes' own tokens ("restored") and of written ones.
"""

from flowlib.recipes.recipe import Recipe
from flowlib.systems.dalle import DALLESystem
from flowlib.systems.dvae import DVAEStage
from flowlib.training import Training

_STAGE = DVAEStage(
    tokens=512, latent_channels=32, channels=64, factor=2, centres=1000, gain=3.0, likelihood="logit-laplace",
    scale_floor=0.3, kl_weight=0.05, kl_rise=0.25, cooling=0.8, steps=4000, batch_size=32, optimiser="muon", lr=1e-3,
    matrix_lr=0.01, ema=0.998, precision="fp32",
)  # fmt: skip

RECIPES = (
    Recipe(
        name="dalle",
        data="scenes",
        system=DALLESystem(first_stage=_STAGE, width=96, depth=6, parts={"clip": "zoo:clip-conv"}),
        training=Training(optimiser="muon", steps=6500, batch_size=32, lr=1.5e-3, matrix_lr=0.0075, ema=0.998),
    ),
)
