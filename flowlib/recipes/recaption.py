"""DALL-E 3 on scenes: the captioner and its two fine-tunings, and painters that learn from what they write.

The captioners and the painter `recaption` are in the zoo: `flowlib zoo captioner-descriptive` says how true captions
are, `flowlib zoo recaption` what is painted as asked for. The other painters were measured beside it after 800 steps
with a smaller network (`benchmarks/recaption.py`).
"""

from typing import Any

from flowlib.recipes.recipe import Recipe
from flowlib.recipes.scenes import FLOW, UNET
from flowlib.systems.captioner import CaptionerSystem
from flowlib.systems.recaption import RecaptionSystem
from flowlib.training import Training

_TUNED = Training(optimiser="muon", steps=800, lr=1e-3, matrix_lr=5e-3, ema=0.995)
_PAINTER = Training(optimiser="muon", steps=8000, lr=1.5e-3, matrix_lr=0.0075, ema=0.998)
_CLIP = {"clip": "zoo:clip-vit"}  # which measures
WRITERS = {"short": "zoo:captioner-short", "descriptive": "zoo:captioner-descriptive"}

_NET = {**UNET["net_args"], "channels": (24, 64)}  # two thirds of GLIDE's weights: what the zoo has room for


def _painter(name: str, **settings: Any) -> Recipe:
    system = RecaptionSystem(net_args=_NET, **FLOW, **settings)
    return Recipe(name=name, data="scenes", system=system, training=_PAINTER)


RECIPES = (
    Recipe(
        name="captioner",
        data="scenes",
        system=CaptionerSystem(),
        training=Training(optimiser="muon", steps=3000, lr=2e-3, matrix_lr=0.01, ema=0.998),
    ),
    *(
        Recipe(
            name=f"captioner-{kind}",
            data="scenes",
            system=CaptionerSystem(captions=(column,), contrastive=0.0, parts={"base": "zoo:captioner"}),
            training=_TUNED,
        )
        for kind, column in (("short", "short"), ("descriptive", "caption"))
    ),
    _painter("recaption", parts={"captioner": WRITERS["descriptive"], **_CLIP}),
    _painter("recaption-short", parts={"captioner": WRITERS["short"], **_CLIP}),
    _painter("recaption-given", share=0.0, parts=_CLIP),
)
