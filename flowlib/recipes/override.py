"""Changing a recipe: by keyword, or by text as the command line does: "batch_size=32", "net.depth=3"."""

import ast
import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from flowlib.checks import check_choice
from flowlib.recipes.recipe import Recipe, from_dict, to_dict


def override(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """Return `recipe` with each setting "key=value" replaced.

    A key is a setting of the training or of the system, or `name` or `data`; with a dot, a setting inside one:
    `net.depth`, an argument of the network, `first_stage.steps`, `parts.classifier`. A value is read as JSON or as a
    Python literal, and is a string if it is neither: 32, 1e-3, true, [32,64], cosine. Settings are taken in order;
    another `net` starts with no arguments.

    Raises:
        ValueError: for a setting without "=", an unknown key or a value of the wrong type, naming it; or for one that
            says nothing beside the others, such as `time_std` where times are uniform.

    Example:
        >>> from flowlib.recipes import find_recipe, override
        >>> recipe = override(find_recipe("moons"), ["steps=50", "net.width=32", "predicts=data"])
        >>> recipe.training.steps, recipe.system.net_args, recipe.system.predicts
        (50, {'width': 32}, 'data')
    """
    values, keys = to_dict(recipe), []
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise ValueError(f"a setting must look like key=value, got {setting!r}")
        _put(values, key, parse(text))
        keys.append(key)
    made = from_dict(values)
    for key in keys:
        _check_heard(key, made)
    return made


def change(recipe: Recipe, **changes: Any) -> Recipe:
    """Return `recipe` with settings replaced, each called by its own name: `change(recipe, steps=500, predicts="v")`.

    `system` and `training` may be replaced as a whole.

    Raises:
        ValueError: for an unknown setting or a value that does not fit, naming it.

    Example:
        >>> from flowlib.recipes import change, find_recipe
        >>> recipe = change(find_recipe("moons"), steps=500, predicts="data")
        >>> recipe.training.steps, recipe.system.predicts, find_recipe("moons").system.predicts
        (500, 'data', 'velocity')
        >>> change(recipe, steps=0)
        Traceback (most recent call last):
        ValueError: steps must be an integer >= 1, got 0
    """
    whole = {key: changes.pop(key) for key in ("system", "training") if key in changes}
    values = to_dict(dataclasses.replace(recipe, **whole))
    for key, value in changes.items():
        _put(values, key, dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value)  # type: ignore[arg-type]
    return from_dict(values)


def _check_heard(key: str, recipe: Recipe) -> None:
    """A ValueError if a setting says nothing beside the recipe's others."""
    *places, name = key.removeprefix("training.").removeprefix("system.").split(".")
    for kind in (recipe.training, recipe.system):
        place: Any = kind
        for inner in places:  # such as first_stage
            place = getattr(place, inner, None)
        other, wanted = getattr(place, "needs", {}).get(name, ("", None))
        value = getattr(place, other, None)
        heard = bool(value) if wanted is True else value == wanted
        if other and not heard:
            raise ValueError(f"{key} says nothing with {other} = {value!r}")


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    """Replace the setting `key` of a recipe as plain data."""
    system, training = values["system"], values["training"]
    head, dot, tail = key.partition(".")
    if head in ("system", "training") and dot:
        return _put_in(values[head], tail, value)
    if key == "net" and value != system.get("net"):
        system["net_args"] = {}  # they were another network's
    if head == "net" and dot and "net_args" in system:
        system["net_args"] = {**system["net_args"], tail: value}
        return None
    for place in (training, system, values):
        if head in place and key not in ("system", "training"):
            return _put_in(place, key, value)
    known = [*training, *(name for name in system if name != "system"), "name", "data"]
    check_choice("a setting", head, known)
    return None


def _put_in(place: dict[str, Any], key: str, value: Any) -> None:
    head, dot, tail = key.partition(".")
    if not dot:
        place[head] = value
    elif isinstance(place.get(head), dict):
        place[head] = dict(place[head])
        _put_in(place[head], tail, value)
    else:
        raise ValueError(f"a setting must be a field, or NAME.FIELD of one that holds settings; got {key!r}")


def parse(text: str) -> Any:
    """The value that a text stands for."""
    if text.lower() in ("none", "null"):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text
