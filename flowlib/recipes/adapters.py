"""LoRAs of the painter of scenes: of a style and of an object, from twenty pictures each.

`flowlib zoo lora-striped` says how near the style comes, and how much of the rest is forgotten for it.
"""

from typing import Any

from flowlib.recipes.recipe import Recipe
from flowlib.recipes.scenes import RECIPES as SCENES
from flowlib.systems.adapting import settings_of
from flowlib.systems.lora import LoRASystem
from flowlib.training import Training

_PAINTER = next(settings_of(recipe.system) for recipe in SCENES if recipe.name == "scenes-text")
_BASE: dict[str, Any] = {"painter": _PAINTER, "shape": (3, 16, 16), "targets": ("*",)}

RECIPES = tuple(
    Recipe(
        name=f"lora-{kind}",
        data=f"scenes-{kind}",
        system=LoRASystem(**_BASE),
        training=Training(steps=400, batch_size=16, lr=5e-3, weight_decay=0.0, ema=0.99),
    )
    for kind in ("glyph", "striped")
)
