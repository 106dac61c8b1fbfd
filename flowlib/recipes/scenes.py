"""What reads scenes, the judge and CLIPs of two kinds, and what makes them: GLIDE; and what Disco Diffusion guides."""

from typing import Any

from flowlib.recipes.recipe import Recipe
from flowlib.systems.clip import CLIPSystem
from flowlib.systems.disco import DiscoSystem
from flowlib.systems.flow import FlowSystem
from flowlib.systems.glide import GlideSystem
from flowlib.systems.judge import JudgeSystem
from flowlib.systems.semantic import SemanticSystem
from flowlib.training import Training

_VIT: dict[str, Any] = {"patch": 4, "width": 96, "depth": 4, "heads": 4}
_CONV: dict[str, Any] = {"channels": (32, 64, 128), "heads": 4}
# Whole captions are told apart by colour, size and place in all but the largest batches: what makes a CLIP learn digits
# is captions that say little else, and many of them at once.
_SAID: dict[str, Any] = {"captions": ("noisy", "noisy", "short", "caption")}
_CLIP = Training(optimiser="muon", steps=1200, batch_size=512, lr=3e-3, matrix_lr=0.015, ema=0.995)
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
    Recipe(name="clip-vit", data="scenes", system=CLIPSystem(image_args=_VIT, **_SAID), training=_CLIP),
    Recipe(
        name="clip-conv", data="scenes", system=CLIPSystem(encoder="conv", image_args=_CONV, **_SAID), training=_CLIP
    ),
    Recipe(
        name="clip-noised", data="scenes", system=CLIPSystem(image_args=_VIT, noised="linear", **_SAID), training=_CLIP
    ),
    Recipe(
        name="clip-noised-agree",
        data="scenes",
        system=SemanticSystem(),
        training=Training(optimiser="muon", steps=1500, batch_size=128, lr=1e-3, matrix_lr=5e-3, ema=0.998),
    ),
    Recipe(name="scenes-text", data="scenes", system=GlideSystem(net_args=_UNET, **_FLOW), training=_PAINTER),
    Recipe(
        name="scenes-secondary",
        data="scenes",
        system=DiscoSystem(net_args=_UNET | {"channels": (32, 48), "attention": (1,), "dim": 64}, **_FLOW),
        training=Training(optimiser="muon", steps=4000, lr=3e-3, matrix_lr=0.015, ema=0.998),
    ),
    Recipe(name="scenes", data="scenes", system=FlowSystem(net_args=_UNET, guided=False, **_FLOW), training=_PAINTER),
)
