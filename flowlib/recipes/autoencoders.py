"""Autoencoders of MNIST: plain, denoising, variational, discrete, and the first stage of latent models."""

from flowlib.recipes.recipe import Recipe
from flowlib.systems.autoencoder import AutoencoderSystem
from flowlib.systems.denoiser import DenoiserSystem
from flowlib.systems.dvae import DVAESystem
from flowlib.systems.first_stage import FirstStageSystem
from flowlib.systems.vae import VAESystem
from flowlib.training import Training

_TRAINING = Training(steps=700, lr=3e-3, ema=0.99)

RECIPES = (
    Recipe(name="autoencoder", data="mnist", system=AutoencoderSystem(), training=_TRAINING),
    Recipe(name="denoiser", data="mnist", system=DenoiserSystem(), training=_TRAINING),
    Recipe(name="vae", data="mnist", system=VAESystem(), training=_TRAINING),
    Recipe(name="dvae", data="mnist", system=DVAESystem(), training=_TRAINING),
    Recipe(name="first-stage", data="mnist", system=FirstStageSystem(), training=_TRAINING),
)
