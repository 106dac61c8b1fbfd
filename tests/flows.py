"""Recipes of flows from flat settings, each called by its own name, as many tests want them."""

import dataclasses

from flowlib.recipes import Recipe
from flowlib.systems import FlowSystem, ImprovedDDPMSystem, LatentFlowSystem
from flowlib.training import Training

KINDS = {"flow": FlowSystem, "latent-flow": LatentFlowSystem, "improved-ddpm": ImprovedDDPMSystem}
TRAINING = {part.name for part in dataclasses.fields(Training)}


def flow_recipe(system: str | None = None, *, name: str = "r", data: str = "digits", **settings: object) -> Recipe:
    """A recipe of the system of that name: by default a flow, or with a `first_stage` a flow of latents."""
    if system is None:
        system = "latent-flow" if "first_stage" in settings else "flow"
    own = {key: value for key, value in settings.items() if key not in TRAINING}
    training = Training(**{key: value for key, value in settings.items() if key in TRAINING})
    return Recipe(name=name, data=data, system=KINDS[system](**own), training=training)
