"""The recipes that have a name: what `flowlib train NAME` trains."""

from flowlib.checks import check_choice
from flowlib.recipes.recipe import Recipe
from flowlib.training.settings import FirstStage

_UNET = {"channels": (48, 96), "depth": 2, "attention": (1,)}  # for chains and likelihoods on MNIST

_ALL = (
    Recipe(
        name="digits",
        data="digits",
        net="unet",
        net_args={"channels": (32, 64), "depth": 1, "patch": 1, "dim": 128},
        optimiser="muon",
        steps=500,
        batch_size=128,
        lr=3e-3,
        ema=0.995,
    ),
    # Five minutes on two cores. Stable targets take noise out of early gradients, and gates keep D right near the data.
    # benchmarks/sweep.py varies one setting at a time, at equal operations.
    Recipe(
        name="mnist",
        data="mnist",
        net="unet",
        net_args={"channels": (32, 64), "depth": 1, "gates": True},
        predicts="v",
        optimiser="muon",
        time_mean=-0.4,
        stable_until=0.25,
        dropout=0.05,
        steps=3700,
        lr=3e-3,
        matrix_lr=0.015,
        ema=0.998,
    ),
    Recipe(
        name="mnist-dit",
        data="mnist",
        net="dit",
        net_args={"patch": 4, "width": 160, "depth": 6, "gates": True},
        predicts="v",
        optimiser="muon",
        time_mean=-0.4,
        stable_until=0.25,
        dropout=0.05,
        steps=1100,
        lr=3e-3,
        ema=0.995,
    ),
    Recipe(
        name="mnist-latent",
        data="mnist",
        net="unet",
        net_args={"channels": (96,), "patch": 1, "depth": 3, "gates": True},
        predicts="v",
        optimiser="muon",
        time_mean=-0.4,
        stable_until=0.25,
        dropout=0.05,
        steps=1800,
        lr=3e-3,
        matrix_lr=0.015,
        ema=0.998,
        first_stage=FirstStage(steps=700, lr=3e-3, ema=0.99),
    ),
    # For bits/dim: a velocity, which is known at both ends of time, of pixels that fill their bins.
    Recipe(
        name="mnist-likelihood",
        data="mnist",
        net="unet",
        net_args=_UNET,
        guided=False,
        optimiser="muon",
        time="uniform",
        dequantise=True,
        steps=1270,
        lr=3e-3,
        ema=0.995,
    ),
    # DDPM's chain and loss: the noise at uniform steps of T = 1000 (Ho et al. 2020), and improved DDPM's cosine chain.
    *(
        Recipe(
            name=f"ddpm-{name}",
            data="mnist",
            net="unet",
            net_args=_UNET,
            schedule=schedule,
            chain=1000,
            predicts="noise",
            time="uniform",
            optimiser="muon",
            steps=1270,
            lr=3e-3,
            ema=0.995,
        )
        for name, schedule in (("linear", "vp"), ("cosine", "cosine"))
    ),
    # Improved DDPM (Nichol & Dhariwal 2021), for bits/dim: by L_hybrid, or by L_vlb with importance sampling.
    *(
        Recipe(
            name=f"iddpm-{loss}",
            data="mnist",
            net="unet",
            net_args=_UNET,
            guided=False,
            schedule="cosine",
            chain=1000,
            predicts="noise",
            time="uniform",
            loss=loss,
            importance=loss == "vlb",
            optimiser="muon",
            steps=1270,
            lr=3e-3,
            ema=0.995,
        )
        for loss in ("hybrid", "vlb")
    ),
    Recipe(name="moons", data="moons", net="mlp", steps=2000, batch_size=256, time="uniform", ema=0.995),
    Recipe(name="checkerboard", data="checkerboard", net="mlp", net_args={"width": 192}, steps=4000, batch_size=512,
           time="uniform", ema=0.995),
)  # fmt: skip

RECIPES = {recipe.name: recipe for recipe in _ALL}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name; a ValueError lists those there are."""
    return RECIPES[check_choice("recipe", name, RECIPES)]
