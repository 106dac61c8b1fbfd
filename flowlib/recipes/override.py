"""Changing a recipe by text, as the command line does: "batch_size=32", "net.depth=3", "first_stage.steps=500"."""

import ast
import json
from collections.abc import Iterable
from typing import Any

from flowlib.recipes.recipe import Recipe, from_dict, to_dict


def override(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """Return `recipe` with each setting "key=value" replaced.

    A key is a field of the recipe, `net.` and an argument of its network, or `first_stage.` and a field of that. A
    value is read as JSON or as a Python literal, and is a string if it is neither: 32, 1e-3, true, [32,64], cosine.
    Settings are taken in order; another `net` starts with no arguments.

    Raises:
        ValueError: for a setting without "=", an unknown key or a value of the wrong type, naming it.
    """
    values = to_dict(recipe)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise ValueError(f"a setting must look like key=value, got {setting!r}")
        head, dot, tail = key.partition(".")
        if key == "net" and text != values["net"]:
            values["net_args"] = {}  # they were another network's
        if not dot:
            values[key] = parse(text)
        elif head == "net":
            values["net_args"] = {**values["net_args"], tail: parse(text)}
        elif head == "first_stage" and values["first_stage"] is not None:
            values["first_stage"][tail] = parse(text)
        else:
            raise ValueError(f"a recipe's setting must be a field, net.NAME or first_stage.NAME, got {key!r}")
    return from_dict(values)


def parse(text: str) -> Any:
    """The value that a text stands for."""
    if text.lower() in ("none", "null"):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return text
