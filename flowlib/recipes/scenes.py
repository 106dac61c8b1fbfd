"""What reads scenes, the judge and CLIPs of two kinds, and what makes them, with words or without: GLIDE, Disco."""

from dataclasses import replace
from typing import Any

from flowlib.recipes.recipe import Recipe
from flowlib.systems.clip import CLIPSystem
from flowlib.systems.disco import DiscoSystem
from flowlib.systems.flow import FlowSystem
from flowlib.systems.glide import GlideSystem
from flowlib.systems.inpainter import InpainterSystem
from flowlib.systems.judge import JudgeSystem
from flowlib.systems.semantic import SemanticSystem
from flowlib.systems.upsampler import UpsamplerSystem
from flowlib.training import Training

_VIT: dict[str, Any] = {"patch": 4, "width": 96, "depth": 4, "heads": 4}
_CONV: dict[str, Any] = {"channels": (32, 64, 128), "heads": 4}
# Whole captions are told apart by colour, size and place in all but the largest batches: what makes a CLIP learn digits
# is captions that say little else, and many of them at once.
_SAID: dict[str, Any] = {"captions": ("noisy", "noisy", "short", "caption")}
_CLIP = Training(optimiser="muon", steps=1200, batch_size=512, lr=3e-3, matrix_lr=0.015, ema=0.995)
FLOW: dict[str, Any] = {"predicts": "v", "time_mean": -0.4}
# At full size: of a stroke, which is one or two pixels wide, a stem of 2 x 2 pixels keeps too little.
UNET: dict[str, Any] = {
    "net_args": {"channels": (32, 96), "depth": 1, "attention": (1,), "patch": 1, "dim": 128, "gates": True}
}
_LARGE = {"channels": (40, 64, 80), "depth": 1, "attention": (2,), "patch": 2, "dim": 128, "gates": True}
_SMALL = {"channels": (32, 48), "depth": 1, "attention": (1,), "patch": 2, "dim": 64, "gates": True}
_PAINTER: dict[str, Any] = {"optimiser": "muon", "lr": 3e-3, "matrix_lr": 0.015, "ema": 0.998}

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
    # Two of one kind, from different seeds: what they differ in is chance.
    *(
        Recipe(
            name=name,
            data="scenes",
            system=CLIPSystem(encoder="conv", image_args=_CONV, **_SAID),
            training=replace(_CLIP, seed=seed),
        )
        for name, seed in (("clip-conv", 0), ("clip-conv-2", 1))
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
    Recipe(
        name="scenes-text",
        data="scenes",
        system=GlideSystem(**UNET, **FLOW),
        training=Training(optimiser="muon", steps=8000, lr=1.5e-3, matrix_lr=0.0075, ema=0.998),
    ),
    Recipe(
        name="scenes-inpainter",
        data="scenes",
        system=InpainterSystem(**UNET, **FLOW),
        training=Training(optimiser="muon", steps=3000, lr=1e-3, matrix_lr=0.005, ema=0.998),
    ),
    Recipe(
        name="scenes-upsampler",
        data="scenes-32",
        system=UpsamplerSystem(net_args=_LARGE, **FLOW),
        training=Training(steps=3000, **_PAINTER),
    ),
    Recipe(
        name="scenes-secondary",
        data="scenes",
        system=DiscoSystem(net_args=_SMALL, **FLOW),
        training=Training(steps=4000, **_PAINTER),
    ),
    Recipe(
        name="scenes",
        data="scenes",
        system=FlowSystem(guided=False, **UNET, **FLOW),
        training=Training(steps=6000, **_PAINTER),
    ),
    # For bits/dim, beside the bound of DALL-E: see the recipe mnist-likelihood.
    Recipe(
        name="scenes-likelihood",
        data="scenes",
        system=FlowSystem(
            net="mixture",
            net_args={"channels": (32, 64), "depth": 1, "values": (0, 255), "gaussians": 3},
            guided=False,
            time="logit-uniform",
            measure="noise",
            dequantise=True,
        ),
        training=Training(optimiser="muon", steps=2000, lr=3e-3, matrix_lr=0.015, ema=0.998),
    ),
)
