"""A GAN of MNIST. Momentum 0 suits a game, in which the other's move makes an old gradient wrong."""

from flowlib.recipes.recipe import Recipe
from flowlib.systems.gan import GANSystem
from flowlib.training import Training

RECIPES = (
    Recipe(
        name="gan",
        data="mnist",
        system=GANSystem(),
        training=Training(steps=3000, lr=1e-3, betas=(0.0, 0.99), weight_decay=0.0, warmup=0.0, clip=None, ema=0.995),
    ),
)
