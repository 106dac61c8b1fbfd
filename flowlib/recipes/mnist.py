"""Flows of MNIST, each for about five minutes on two cores; `mnist-likelihood` and `mnist-hour` take longer.

Stable targets take noise out of early gradients, and gates keep D right near the data. benchmarks/sweep.py varies one
setting of `mnist` at a time, at equal operations. `mnist-recall` is shown the posterior mean of the training data while
noise is large; benchmarks/memorisation.py tells what that is worth, and whether training images are copied.
"""

from typing import Any

from flowlib.recipes.recipe import Recipe
from flowlib.systems.first_stage import FirstStage
from flowlib.systems.flow import FlowSystem
from flowlib.systems.latent_flow import LatentFlowSystem
from flowlib.training import Training

_FLOW: dict[str, Any] = {"predicts": "v", "time_mean": -0.4, "stable_until": 0.25, "dropout": 0.05}
_UNET = {"channels": (32, 64), "depth": 1, "gates": True}

RECIPES = (
    Recipe(
        name="mnist",
        data="mnist",
        system=FlowSystem(net_args=_UNET, land=0.85, **_FLOW),
        training=Training(optimiser="muon", steps=3700, lr=3e-3, matrix_lr=0.015, ema=0.998),
    ),
    # What time buys: the same network for an hour and more on one core.
    Recipe(
        name="mnist-hour",
        data="mnist",
        system=FlowSystem(net_args=_UNET, land=0.85, **_FLOW),
        training=Training(optimiser="muon", steps=20_000, lr=3e-3, matrix_lr=0.015, ema=0.9995),
    ),
    Recipe(
        name="mnist-recall",
        data="mnist",
        system=FlowSystem(net_args=_UNET, recall=0.4, land=0.85, **_FLOW | {"stable_until": 0.0}),
        training=Training(optimiser="muon", steps=3600, lr=3e-3, matrix_lr=0.015, ema=0.998),
    ),
    Recipe(
        name="mnist-dit",
        data="mnist",
        system=FlowSystem(net="dit", net_args={"patch": 4, "width": 160, "depth": 6, "gates": True}, **_FLOW),
        training=Training(optimiser="muon", steps=1100, lr=3e-3, ema=0.995),
    ),
    Recipe(
        name="mnist-latent",
        data="mnist",
        system=LatentFlowSystem(
            net_args={"channels": (96,), "patch": 1, "depth": 3, "gates": True},
            first_stage=FirstStage(steps=700, lr=3e-3, ema=0.99),
            **_FLOW,
        ),
        training=Training(optimiser="muon", steps=1800, lr=3e-3, matrix_lr=0.015, ema=0.998),
    ),
    # For bits/dim: pixels that fill their bins, times uniform in log SNR, and a network that knows where the bins end.
    Recipe(
        name="mnist-likelihood",
        data="mnist",
        system=FlowSystem(
            net="mixture",
            net_args={"channels": (32, 64), "depth": 1, "values": (0, 251, 252, 253, 254, 255)},
            guided=False,
            time="logit-uniform",
            measure="noise",
            dequantise=True,
        ),
        training=Training(optimiser="muon", steps=8_000, lr=3e-3, matrix_lr=0.015, ema=0.999),
    ),
)
