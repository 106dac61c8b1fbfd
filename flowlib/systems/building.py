"""From a recipe to its untrained field: the network, its path, and what goes around them."""

import torch

from flowlib.fields import Model
from flowlib.nets import Autoencoder, CodebookAutoencoder
from flowlib.recipes import Recipe
from flowlib.systems.improved_ddpm import learned_variance
from flowlib.systems.latent import LatentModel
from flowlib.training.order import stream


def network_model(field: Model | LatentModel) -> Model:
    """The model that holds the network: the field itself, or the one in a latent field."""
    model = field.model if isinstance(field, LatentModel) else field
    assert isinstance(model, Model)
    return model


def latent_shape(recipe: Recipe, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a sample that the flow works on, for data of `shape`."""
    stage = recipe.first_stage
    if stage is None:
        return shape
    return (stage.latent_channels, *(size // stage.factor for size in shape[1:]))


def build(recipe: Recipe, shape: tuple[int, ...], classes: int) -> Model | LatentModel:
    """The untrained field of a recipe, for data of `shape` with `classes` labels; its weights follow from the seed.

    Raises:
        ValueError: if the networks do not take such data.
    """
    stage = recipe.first_stage
    with torch.random.fork_rng(devices=[]):  # layers draw their weights from the global generator
        torch.manual_seed(stream(recipe.seed, "weights").initial_seed())
        sample = latent_shape(recipe, shape)
        if recipe.loss != "simple":
            return learned_variance(recipe.model((2 * sample[0], *sample[1:]), classes), recipe.importance)
        model = recipe.model(sample, classes)
        if stage is None:
            return model
        if len(shape) != 3 or any(size % stage.factor for size in shape[1:]):
            raise ValueError(f"first_stage with factor {stage.factor} does not take data of shape {shape}")
        torch.manual_seed(stream(stage.seed, "autoencoder").initial_seed())
        sizes = (shape[0], stage.latent_channels, stage.channels, stage.factor, stage.depth)
        autoencoder = CodebookAutoencoder(*sizes, stage.codebook) if stage.codebook else Autoencoder(*sizes)
    return LatentModel(model, autoencoder)
