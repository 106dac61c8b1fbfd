"""DDPM's chain and loss, the noise at uniform steps of T = 1000 (Ho et al. 2020), and improved DDPM's."""

from flowlib.recipes.recipe import Recipe
from flowlib.systems.flow import FlowSystem
from flowlib.systems.improved_ddpm import ImprovedDDPMSystem
from flowlib.training import Training

_UNET = {"channels": (48, 96), "depth": 2, "attention": (1,)}
_TRAINING = Training(optimiser="muon", steps=1270, lr=3e-3, ema=0.995)

RECIPES = (
    *(
        Recipe(
            name=f"ddpm-{name}",
            data="mnist",
            system=FlowSystem(net_args=_UNET, schedule=schedule, chain=1000, predicts="noise", time="uniform"),
            training=_TRAINING,
        )
        for name, schedule in (("linear", "vp"), ("cosine", "cosine"))
    ),
    # For bits/dim (Nichol & Dhariwal 2021): by L_hybrid, or by L_vlb with importance sampling.
    *(
        Recipe(
            name=f"iddpm-{loss}",
            data="mnist",
            system=ImprovedDDPMSystem(net_args=_UNET, guided=False, loss=loss, importance=loss == "vlb"),
            training=_TRAINING,
        )
        for loss in ("hybrid", "vlb")
    ),
)
