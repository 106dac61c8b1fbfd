"""What reads scenes."""

from flowlib.recipes.recipe import Recipe
from flowlib.systems.judge import JudgeSystem
from flowlib.training import Training

RECIPES = tuple(
    Recipe(
        name=name,
        data=data,
        system=JudgeSystem(),
        training=Training(optimiser="muon", steps=5000, batch_size=64, lr=2e-3, matrix_lr=0.01, ema=0.998),
    )
    for name, data in (("judge", "scenes"), ("judge-32", "scenes-32-mnist"))
)
