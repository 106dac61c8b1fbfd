"""Recipes: plain data that say what is wrong with them, survive JSON, and build what they name."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from flows import flow_recipe
from torch import nn

from flowlib.data import Scenes, Spec, load, styles
from flowlib.recipes import RECIPES, change, find_recipe, from_dict, override, to_dict
from flowlib.runs import load_run, zoo
from flowlib.runs.run import build
from flowlib.systems import FirstStage, FlowSystem, LatentFlowSystem, LatentModel
from flowlib.systems.discovery import all_systems
from flowlib.systems.dvae import DVAEStage
from flowlib.systems.sampling import latent_shape
from flowlib.systems.system import parts_of
from flowlib.training import Training

BASE = flow_recipe(steps=10)
LATENT = flow_recipe(name="l", steps=10, first_stage=FirstStage(steps=5))
SPECS = {"digits": Spec((1, 8, 8), 10, 17), "mnist": Spec((1, 28, 28), 10, 256), "scenes": Scenes().spec}
SPECS["scenes-32"] = SPECS["scenes-32-mnist"] = dataclasses.replace(Scenes().spec, shape=(3, 32, 32))
SPECS |= {name: load(name).spec for name in styles.SETS}


def parts_for(recipe, spec):
    """What a recipe stands on; untrained where the zoo does not have it yet."""
    found = {}
    for name, source in parts_of(recipe.system).items():
        other = source.removeprefix(zoo.PREFIX)
        there = other in zoo.names()
        made = find_recipe(other) if not there else None
        found[name] = load_run(source, "cpu").module if there else build(made, spec, parts_for(made, spec))
    return found


@pytest.mark.parametrize("recipe", [*RECIPES.values(), BASE, LATENT], ids=lambda recipe: recipe.name)
def test_a_recipe_survives_json(recipe):
    assert from_dict(json.loads(json.dumps(to_dict(recipe)))) == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_named_recipe_builds_networks_of_its_data(name):
    recipe = find_recipe(name)
    assert recipe.name == name
    spec = SPECS.get(recipe.data, Spec((2,), 2))
    module = build(recipe, spec, parts_for(recipe, spec))
    assert isinstance(module, nn.Module)
    assert any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if hasattr(recipe.system, "predicts")])
def test_every_named_flow_predicts_what_it_says_for_samples_of_its_data(name):
    recipe = find_recipe(name)
    spec = SPECS.get(recipe.data, Spec((2,), 2))
    module = build(recipe, spec, parts_for(recipe, spec))
    shape = latent_shape(module, spec)
    assert (shape != spec.shape) == isinstance(module, LatentModel)
    assert module.predict(torch.zeros(2, *shape), 0.5).shape == (2, *shape)
    assert module.predicts == recipe.system.predicts
    if not recipe.system.guided:
        assert module.null is None
    elif recipe.system.guide == "label":
        assert module.null == spec.classes
        assert module.predict(torch.zeros(2, *shape), 0.5, torch.tensor([0, 1])).shape == (2, *shape)


def test_recipes_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BASE.training = Training(steps=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        BASE.training.steps = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        BASE.system.net = "dit"


def test_settings_are_read_from_text():
    given = [
        "batch_size=32", "lr=1e-4", "clip=none", "compile=true", "betas=[0.8,0.9]", "schedule=cosine", "net.depth=3",
        "net.channels=(8, 16)", "data=mnist",
    ]  # fmt: skip
    recipe = override(BASE, given)
    expected = {
        "batch_size": 32, "lr": 1e-4, "clip": None, "compile": True, "betas": (0.8, 0.9), "schedule": "cosine",
        "data": "mnist", "net_args": {"depth": 3, "channels": (8, 16)},
    }  # fmt: skip
    assert recipe == flow_recipe(steps=10, **expected) == change(BASE, **expected)
    assert override(LATENT, ["first_stage.steps=7"]).system.first_stage == FirstStage(steps=7)
    assert override(LATENT, ["system.first_stage.lr=1e-4", "training.lr=1e-5"]).training.lr == 1e-5
    assert BASE.system.net_args == {}


def test_another_network_does_not_inherit_the_arguments_of_the_one_before():
    assert override(find_recipe("digits"), ["net=dit"]).system.net_args == {}
    assert override(find_recipe("digits"), ["net=mlp", "net.width=8"]).system.net_args == {"width": 8}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("batch=32", "batch_size, .*got 'batch'"),
        ("batch_size", "key=value, got 'batch_size'"),
        ("=3", "key=value"),
        ("batch_size=x", "batch_size must be an integer, got 'x'"),
        ("batch_size=0", "batch_size must be an integer >= 1, got 0"),
        ("batch_size=true", "batch_size"),
        ("steps=1.5", "steps must be an integer"),
        ("lr=fast", "lr must be a number, got 'fast'"),
        ("lr=Infinity", "lr must be a finite number"),
        ("lr=0", "lr"),
        ("betas=0.9", "betas must be a list, got 0.9"),
        ("betas=[0.9]", "betas"),
        ("betas=[0.9,0.9,0.9]", "betas"),
        ("betas=[0.9,x]", "betas must be a list, got '.0.9,x.'"),
        ("betas=[0.9,1]", "betas"),
        ("clip=-1", "clip"),
        ("ema=1", "ema"),
        ("dequantise=1", "dequantise must be true or false, got 1"),
        ("warmup=2", "warmup"),
        ("seed=-1", "seed"),
        ("precision=fp16", "precision must be one of auto, bf16, fp32"),
        ("compile=1", "compile must be true or false, got 1"),
        ("optimiser=sgd", "optimiser must be one of"),
        ("net=gpt", "net must be one of unet, dit, mixture, mlp"),
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
        ("stable_until=1", "stable_until"),
        ("references=0", "references must be an integer >= 1, got 0"),
        ("guided=maybe", "guided must be true or false"),
        ("first_stage.steps=3", "first_stage"),
        ("first_stage=3", "got 'first_stage'"),
        ("a.b=3", "got 'a'"),
        ("name.a=3", "NAME.FIELD of one that holds settings; got 'name.a'"),
        ("name=3", "name must be a name, got 3"),
        ("parts=3", "parts must be settings by name, got 3"),
        ("parts.net=3", "parts.net must be a text, got 3"),
        ("net_args=3", "net_args"),
        ("system=gan", "a setting must be one of .*got 'system'"),
        ("system.size=3", "a setting must be one of net, .*got 'size'"),
        ("training.size=3", "a setting must be one of steps, .*got 'size'"),
        ("system.system=gan", "a setting must be one of noise_dim, .*got 'net'"),
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


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("first_stage.size=3", r"a setting of first_stage must be one of steps, .*factor, .*got 'size'"),
        ("first_stage.size.a=3", r"NAME.FIELD of one that holds settings; got 'size.a'"),
        ("first_stage.kl_weight=-1", "first_stage: kl_weight must be a finite number in"),
        ("first_stage.steps=3.5", "first_stage.steps must be an integer, got 3.5"),
        ("first_stage=3", "first_stage must be settings by name, got 3"),
        ("first_stage=none", "first_stage must be given, or a finished one as the part 'autoencoder'"),
    ],
)
def test_a_wrong_setting_of_the_first_stage_is_named(setting, message):
    with pytest.raises(ValueError, match=message) as caught:
        override(LATENT, [setting])
    assert "\n" not in str(caught.value)


def test_a_typo_is_refused_by_the_first_recipe_that_a_process_reads():
    """Nothing that was read before may be what makes it strict."""
    values = to_dict(LATENT)
    values["system"]["first_stage"]["size"] = 3
    code = f"from flowlib.recipes import from_dict\nfrom_dict({values!r})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ValueError: a setting of first_stage must be one of" in result.stderr


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("training", "steps"), "3", "steps must be an integer, got '3'"),
        (("training", "steps"), 3.5, "steps must be an integer, got 3.5"),
        (("training", "steps"), 3.0, "steps must be an integer, got 3.0"),
        (("training", "steps"), True, "steps must be an integer, got True"),
        (("training", "steps"), None, "steps must be an integer, got None"),
        (("training", "lr"), "1e-3", "lr must be a number, got '1e-3'"),
        (("training", "compile"), 1, "compile must be true or false, got 1"),
        (("training", "precision"), 32, "precision must be a text, got 32"),
        (("training", "clip"), "none", "clip must be a number, got 'none'"),
        (("training", "betas"), {}, "betas must be a list, got {}"),
        (("training",), 3, "Training must be settings by name, got 3"),
        (("training",), None, "Training must be settings by name, got None"),
        (("system",), "flow", "'system' must hold settings, its name under 'system'"),
        (("system", "system"), "magic", "system must be one of .*flow.*got 'magic'"),
        (("system", "chain"), 2.5, "chain must be an integer, got 2.5"),
        (("system", "net_args"), [3], "net_args must be settings by name"),
        (("system", "first_stage", "factor"), "4", "first_stage.factor must be an integer, got '4'"),
        (("speed",), 3, "a recipe's setting must be one of name, data, system, training; got 'speed'"),
        (("name",), 3, "name must be a name, got 3"),
        (("data",), "", "data must be a name, got ''"),
    ],
)
def test_a_value_of_another_type_is_named_and_never_turned_into_its_own(path, value, message):
    values = json.loads(json.dumps(to_dict(LATENT)))
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=message) as caught:
        from_dict(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", [("name",), ("data",), ("system",), ("training",), ("training", "steps"),
                                  ("system", "first_stage", "steps")], ids=".".join)  # fmt: skip
def test_a_missing_setting_is_named(path):
    values = json.loads(json.dumps(to_dict(LATENT)))
    place = values
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    name = ".".join(path).removeprefix("training.").removeprefix("system.")
    with pytest.raises(ValueError, match=f"the recipe is incomplete: {name} is missing"):
        from_dict(values)


def test_numbers_of_numpy_are_numbers():
    assert change(BASE, steps=np.int64(7), lr=np.float32(0.5)) == change(BASE, steps=7, lr=0.5)
    assert change(BASE, net_args={"channels": np.array([8, 16])}).system.net_args == {"channels": (8, 16)}


def test_an_unknown_name_and_flat_settings_are_named():
    with pytest.raises(ValueError, match="flat settings of an older flowlib: train it again"):
        from_dict({"name": "r", "data": "digits", "net": "unet", "net_args": {}, "steps": 3})
    with pytest.raises(ValueError, match=r"recipe must be one of .*digits, .*got 'nope'"):
        find_recipe("nope")


def test_settings_change_by_keyword_as_they_do_by_text():
    assert change(BASE, steps=3, predicts="v", name="b") == override(BASE, ["steps=3", "predicts=v", "name=b"])
    assert change(BASE, training=Training(steps=4), lr=0.1).training == Training(steps=4, lr=0.1)
    assert change(BASE, system=FlowSystem(net="dit"), time="uniform").system == FlowSystem(net="dit", time="uniform")
    assert change(BASE, net="dit", net_args={"depth": 2}).system == FlowSystem(net="dit", net_args={"depth": 2})
    assert change(LATENT, first_stage=FirstStage(steps=9)).system.first_stage.steps == 9
    assert change(LATENT, **{"first_stage.steps": 8, "net.depth": 3}).system.first_stage.steps == 8
    with pytest.raises(ValueError, match=r"a setting must be one of steps, .*got 'speed'"):
        change(BASE, speed=3)
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1, got 0"):
        change(BASE, batch_size=0)
    with pytest.raises(ValueError, match="system must be the settings of a registered system, got 3"):
        change(BASE, system=3)


def test_a_network_refuses_samples_of_another_kind():
    with pytest.raises(ValueError, match="net 'unet' does not take samples of shape"):
        build(BASE, Spec((2,), 2))
    with pytest.raises(ValueError, match="net 'mlp'"):
        build(override(BASE, ["net=mlp"]), Spec((1, 8, 8), 10))


def test_a_recipe_without_guide_has_none():
    assert build(override(BASE, ["guided=false"]), Spec((1, 8, 8), 10)).null is None


@pytest.mark.parametrize("predicts", ["noise", "score"])
@pytest.mark.parametrize("schedule", ["linear", "trigonometric", "square-root", "cosine"])
@pytest.mark.parametrize("kind", [FlowSystem, LatentFlowSystem])
def test_a_recipe_that_no_sampler_could_start_from_is_refused(kind: type, schedule: str, predicts: str) -> None:
    """At t = 0 these paths are pure noise, and nobody learns from the noise which data that belongs to."""
    more = {} if kind is FlowSystem else {"first_stage": FirstStage(steps=5)}
    with pytest.raises(ValueError, match=f"^predicts must not be '{predicts}' on the schedule '{schedule}'"):
        kind(schedule=schedule, predicts=predicts, **more)
    for known in ("data", "v", "velocity"):
        kind(schedule=schedule, predicts=known, **more)
    for other in ({"schedule": "vp"}, {"schedule": "ve"}, {"schedule": schedule, "chain": 50, "time": "uniform"}):
        kind(predicts=predicts, **more, **other)


def test_noise_is_coupled_within_labels_and_for_no_other_guide():
    assert change(BASE, coupling="optimal-transport", guided=True).system.coupling == "optimal-transport"
    with pytest.raises(ValueError, match=r"^coupling must be 'independent' with a guide that is no label"):
        change(change(BASE, net_args={"attention": (1,)}, guide="words"), coupling="optimal-transport")


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("mnist", ["time=uniform", "time_mean=1"], r"time_mean says nothing with time = 'uniform'"),
        ("mnist", ["time_std=2", "time=uniform"], "time_std says nothing"),
        ("mnist", ["time_low=1"], "time_low says nothing with time = 'logit-normal'"),
        ("mnist", ["references=5", "stable_until=0"], r"references says nothing with stable_until = 0.0"),
        ("mnist", ["guided=false", "system.dropout=0.2"], "system.dropout says nothing with guided = False"),
        ("mnist", ["optimiser=adamw", "training.matrix_lr=1"], "training.matrix_lr says nothing with optimiser"),
        ("sam", ["text=0", "text_from=caption"], "text_from says nothing with text = 0.0"),
        ("unclip-prior", ["levels=3"], "levels says nothing with kind = 'diffusion'"),
        ("unclip-prior-autoregressive", ["schedule=cosine"], "schedule says nothing with kind"),
        ("lora-glyph", ["full=true", "rank=3"], "rank says nothing with full = True"),
        ("dalle", ["layers=full", "kernel=5"], "kernel says nothing with layers = 'full'"),
        ("first-stage", ["codebook=16", "kl_weight=1"], "kl_weight says nothing with codebook = 16"),
        ("dvae", ["kl_weight=0", "kl_rise=0.5"], r"kl_rise says nothing with kl_weight = 0"),
        (
            "mnist-latent",
            ["first_stage.optimiser=adamw", "first_stage.matrix_lr=1"],
            "first_stage.matrix_lr says nothing",
        ),
        ("mnist-latent", ["first_stage.codebook=16", "first_stage.kl_weight=1"], "first_stage.kl_weight says nothing"),
    ],
)
def test_a_setting_that_says_nothing_beside_the_others_is_refused(name: str, settings: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        override(find_recipe(name), settings)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mnist", ["time=uniform"]),
        ("mnist", ["time_std=2", "time_mean=1", "references=5", "dropout=0.2", "matrix_lr=0.1"]),
        ("mnist-likelihood", ["time_low=-2", "time_high=3"]),
        ("unclip-prior-autoregressive", ["levels=3"]),
        ("unclip-prior-autoregressive", ["components=3", "buckets=5"]),
        ("unclip-prior", ["schedule=cosine"]),
        ("lora-glyph", ["rank=3", "alpha=2"]),
        ("sam", ["text_from=caption"]),
        ("dalle", ["kernel=5"]),
        ("first-stage", ["kl_weight=1"]),
        ("dvae", ["kl_rise=0.5"]),
        ("words", ["guide=label"]),
        ("words", ["guided=false", "recall=0.4", "stable_until=0"]),
        ("mnist-latent", ["first_stage.kl_weight=1", "first_stage.optimiser=muon", "first_stage.matrix_lr=1"]),
    ],
)
def test_a_setting_that_is_heard_is_taken(name: str, settings: list[str]) -> None:
    recipe = override(find_recipe(name), settings)
    for setting in settings:
        key, _, text = setting.partition("=")
        *places, last = key.split(".")
        place = recipe.training if hasattr(recipe.training, key) else recipe.system
        for inner in places:
            place = getattr(place, inner)
        found = getattr(place, last)
        assert str(found).lower() == text or found == float(text)


def test_what_a_setting_needs_is_a_setting() -> None:
    """Of every system, and of the training."""
    for kind in (Training, FirstStage, DVAEStage, *all_systems().values()):
        names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
        for name, (other, _) in getattr(kind, "needs", {}).items():
            assert {name, other} <= names, kind
