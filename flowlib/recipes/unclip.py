"""DALL-E 2, on scenes of 16 x 16 pixels: its two priors, and the decoder, each of which is trained alone.

The decoder paints with either of the zoo's priors, and its report has a row for each; `--set parts.diffusion=RUN` names
another one. `flowlib zoo unclip` says how often the judge reads what was asked for, by where the embedding comes from.
"""

from flowlib.recipes.recipe import Recipe
from flowlib.recipes.scenes import FLOW, UNET
from flowlib.systems.unclip import UnCLIPSystem
from flowlib.systems.unclip_prior import UnCLIPPriorSystem
from flowlib.training import Training

_PRIOR = Training(optimiser="muon", steps=4000, batch_size=128, lr=1e-3, matrix_lr=0.005, ema=0.998)

RECIPES = (
    Recipe(name="unclip-prior", data="scenes", system=UnCLIPPriorSystem(), training=_PRIOR),
    Recipe(
        name="unclip-prior-autoregressive",
        data="scenes",
        system=UnCLIPPriorSystem(kind="autoregressive"),
        training=_PRIOR,
    ),
    Recipe(
        name="unclip",
        data="scenes",
        system=UnCLIPSystem(
            **UNET,
            **FLOW,
            parts={
                "clip": "zoo:clip-conv",
                "base": "zoo:scenes-text",
                "diffusion": "zoo:unclip-prior",
                "autoregressive": "zoo:unclip-prior-autoregressive",
            },
        ),
        training=Training(optimiser="muon", steps=3000, lr=1e-3, matrix_lr=0.005, ema=0.998),
    ),
)
