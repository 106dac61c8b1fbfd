"""Other guides than labels, and the classifier that guides a flow without one."""

from typing import Any

from flowlib.recipes.recipe import Recipe
from flowlib.systems.classifier import ClassifierSystem
from flowlib.systems.flow import FlowSystem
from flowlib.training import Training

_TRAINING = Training(optimiser="muon", steps=1500, lr=3e-3, matrix_lr=0.015, ema=0.995)
_FLOW: dict[str, Any] = {"predicts": "v", "time_mean": -0.4}
_UNET = {"channels": (32, 64), "depth": 1, "gates": True}

RECIPES = (
    Recipe(
        name="words",
        data="mnist",
        system=FlowSystem(guide="words", net_args={**_UNET, "attention": (1,)}, **_FLOW),
        training=_TRAINING,
    ),
    *(
        Recipe(name=guide, data="mnist", system=FlowSystem(guide=guide, net_args=_UNET, **_FLOW), training=_TRAINING)
        for guide in ("inpainting", "superresolution")
    ),
    Recipe(name="classifier", data="mnist", system=ClassifierSystem(), training=Training(steps=1000, lr=3e-3)),
)
