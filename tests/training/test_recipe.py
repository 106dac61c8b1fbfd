"""Recipes: plain data that say what is wrong with them, survive JSON, and build what they name."""

import dataclasses
import json

import pytest
import torch

from flowlib.recipes import RECIPES, Recipe, find_recipe, from_dict, override, to_dict
from flowlib.training.settings import FirstStage

BASE = Recipe(name="r", data="digits", steps=10)
LATENT = Recipe(name="l", data="digits", steps=10, first_stage=FirstStage(steps=5))


@pytest.mark.parametrize("recipe", [*RECIPES.values(), BASE, LATENT], ids=lambda recipe: recipe.name)
def test_a_recipe_survives_json(recipe):
    assert from_dict(json.loads(json.dumps(to_dict(recipe)))) == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_named_recipe_builds_a_network_of_its_data(name):
    recipe = find_recipe(name)
    assert recipe.name == name
    shape = {"digits": (1, 8, 8), "mnist": (1, 28, 28)}.get(recipe.data, (2,))
    if recipe.first_stage:
        stage = recipe.first_stage
        shape = (stage.latent_channels, 28 // stage.factor, 28 // stage.factor)
    model = recipe.model(shape, 10)
    guide = torch.tensor([0, 9]) if recipe.guided else None
    assert model.predict(torch.zeros(2, *shape), 0.5, guide).shape == (2, *shape)
    assert model.predicts == recipe.predicts
    assert model.null == (10 if recipe.guided else None)


def test_recipes_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BASE.steps = 3


def test_settings_are_read_from_text():
    given = [
        "batch_size=32", "lr=1e-4", "clip=none", "compile=true", "betas=[0.8,0.9]", "schedule=cosine", "net.depth=3",
        "net.channels=(8, 16)", "data=mnist",
    ]  # fmt: skip
    recipe = override(BASE, given)
    assert recipe == dataclasses.replace(
        BASE, batch_size=32, lr=1e-4, clip=None, compile=True, betas=(0.8, 0.9), schedule="cosine", data="mnist",
        net_args={"depth": 3, "channels": (8, 16)},
    )  # fmt: skip
    assert override(LATENT, ["first_stage.steps=7"]).first_stage == FirstStage(steps=7)
    assert BASE.net_args == {}


def test_another_network_does_not_inherit_the_arguments_of_the_one_before():
    assert override(find_recipe("digits"), ["net=dit"]).net_args == {}
    assert override(find_recipe("digits"), ["net=mlp", "net.width=8"]).net_args == {"width": 8}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("batch=32", "batch_size, .*got 'batch'"),
        ("batch_size", "key=value, got 'batch_size'"),
        ("=3", "key=value"),
        ("batch_size=x", "batch_size must be an integer >= 1, got 'x'"),
        ("batch_size=0", "batch_size must be an integer >= 1, got 0"),
        ("batch_size=true", "batch_size"),
        ("steps=1.5", "steps must be an integer"),
        ("lr=fast", "lr must be a finite number"),
        ("lr=0", "lr"),
        ("betas=0.9", "betas must be two numbers"),
        ("betas=[0.9,1]", "betas"),
        ("clip=-1", "clip"),
        ("ema=1", "ema"),
        ("dequantise=1", "dequantise must be true or false, got 1"),
        ("warmup=2", "warmup"),
        ("seed=-1", "seed"),
        ("precision=fp16", "precision must be one of auto, bf16, fp32"),
        ("compile=1", "compile must be true or false, got 1"),
        ("optimiser=sgd", "optimiser must be one of"),
        ("net=gpt", "net must be one of unet, dit, mlp"),
        ("net.width=8", "an argument of 'unet' must be one of channels.*got 'width'"),
        ("net.classes=3", "got 'classes'"),
        ("net.channels=8", "channels must be a list of integers, got 8"),
        ("net.channels=[8,'a']", "channels"),
        ("net.depth=[1]", "depth"),
        ("schedule=straight", "schedule must be one of"),
        ("predicts=image", "predicts must be one of"),
        ("measure=image", "measure must be one of"),
        ("time=late", "time must be one of uniform, logit-normal"),
        ("time_std=0", "time_std"),
        ("dropout=1.1", "dropout"),
        ("coupling=optimal-transport", "guided"),
        ("stable_until=1", "stable_until"),
        ("references=0", "references must be an integer >= 1, got 0"),
        ("guided=maybe", "guided must be true or false"),
        ("first_stage.steps=3", "first_stage"),
        ("first_stage=3", "first_stage must be a FirstStage or None, got 3"),
        ("a.b=3", "a recipe's setting"),
        ("name=3", "name"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(setting, message):
    with pytest.raises(ValueError, match=message) as caught:
        override(BASE, [setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("other", ["dequantise=true", "coupling=optimal-transport"])
def test_stable_targets_are_of_plain_pairs(other):
    with pytest.raises(ValueError, match=r"with stable targets, got"):
        override(BASE, ["guided=false", "stable_until=0.2", other])


def test_a_wrong_setting_of_the_first_stage_is_named():
    with pytest.raises(ValueError, match=r"first_stage.steps, .*got 'first_stage.size'"):
        override(LATENT, ["first_stage.size=3"])
    with pytest.raises(ValueError, match="kl_weight"):
        override(LATENT, ["first_stage.kl_weight=-1"])


def test_an_incomplete_recipe_and_an_unknown_name_are_named():
    with pytest.raises(ValueError, match="steps"):
        from_dict({"name": "r", "data": "digits"})
    with pytest.raises(ValueError, match=r"recipe must be one of digits, .*got 'nope'"):
        find_recipe("nope")


def test_a_network_refuses_samples_of_another_kind():
    with pytest.raises(ValueError, match="net 'unet' does not take samples of shape"):
        BASE.model((2,), 2)
    with pytest.raises(ValueError, match="net 'mlp'"):
        override(BASE, ["net=mlp"]).model((1, 8, 8), 10)


def test_a_recipe_without_guide_has_none():
    assert override(BASE, ["guided=false"]).model((1, 8, 8), 10).null is None
