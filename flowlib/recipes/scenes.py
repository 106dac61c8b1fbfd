"""What reads scenes, the judge and CLIPs of two kinds, and what makes them: GLIDE."""

from typing import Any

from flowlib.recipes.recipe import Recipe
from flowlib.systems.clip import CLIPSystem
from flowlib.systems.flow import FlowSystem
from flowlib.systems.glide import GlideSystem
from flowlib.systems.judge import JudgeSystem
from flowlib.training import Training

_VIT: dict[str, Any] = {"patch": 4, "width": 96, "depth": 4, "heads": 4}
_CONV: dict[str, Any] = {"channels": (32, 64, 128), "heads": 4}
_CLIP = Training(optimiser="muon", steps=5000, batch_size=128, lr=2e-3, matrix_lr=0.01, ema=0.998)
_FLOW: dict[str, Any] = {"predicts": "v", "time_mean": -0.4}
_UNET: dict[str, Any] = {
    "channels": (56, 96), "depth": 1, "attention": (0, 1), "patch": 2, "dim": 128, "gates": True,
}  # fmt: skip
_PAINTER = Training(optimiser="muon", steps=8000, lr=3e-3, matrix_lr=0.015, ema=0.998)

RECIPES = (
    *(
        Recipe(
            name=name,
            data=data,
            system=JudgeSystem(),
            training=Training(optimiser="muon", steps=5000, batch_size=64, lr=2e-3, matrix_lr=0.01, ema=0.998),
        )
        for name, data in (("judge", "scenes"), ("judge-32", "scenes-32-mnist"))
    ),
    Recipe(name="clip-vit", data="scenes", system=CLIPSystem(image_args=_VIT), training=_CLIP),
    Recipe(name="clip-conv", data="scenes", system=CLIPSystem(encoder="conv", image_args=_CONV), training=_CLIP),
    Recipe(name="clip-noised", data="scenes", system=CLIPSystem(image_args=_VIT, noised="linear"), training=_CLIP),
    Recipe(name="scenes-text", data="scenes", system=GlideSystem(net_args=_UNET, **_FLOW), training=_PAINTER),
    Recipe(name="scenes", data="scenes", system=FlowSystem(net_args=_UNET, guided=False, **_FLOW), training=_PAINTER),
)
