"""Recipes: everything that decides what a training run computes, in one frozen value.

A recipe and a machine fix the weights to the last bit. What decides nothing about the result (where the run is kept,
how often it is saved) is not part of it. Recipes are plain data, and travel as JSON beside the weights they made.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from flowlib.checks import check_choice
from flowlib.systems.discovery import find_system
from flowlib.systems.system import System, check_parts, name_of
from flowlib.training import Training


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is trained, on what, and how.

    Attributes:
        name: what the recipe is called.
        data: the name of a data set, as `flowlib.data.load` takes it, or a folder of images.
        system: the system's settings, such as `FlowSystem(net="unet")`.
        training: steps, optimiser, seed ...; a system's earlier stages may have settings of their own.

    Raises:
        ValueError: for a value that does not fit, naming it.

    Example:
        >>> from flowlib.recipes import Recipe
        >>> from flowlib.systems import FlowSystem
        >>> from flowlib.training import Training
        >>> recipe = Recipe(name="mine", data="moons", system=FlowSystem(net="mlp"), training=Training(steps=100))
        >>> recipe.training.lr, recipe.system.predicts  # what is not said has a default
        (0.002, 'velocity')
    """

    name: str
    data: str
    system: System
    training: Training

    def __post_init__(self) -> None:
        for name in ("name", "data"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ValueError(f"{name} must be a name, got {getattr(self, name)!r}")
        name_of(self.system)
        check_parts(self.system)
        if not isinstance(self.training, Training):
            raise ValueError(f"training must be a Training, got {self.training!r}")


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data for JSON; `from_dict` is the way back. The system's name stands in its settings.

    Example:
        >>> from flowlib.recipes import find_recipe, to_dict
        >>> values = to_dict(find_recipe("moons"))
        >>> values["data"], values["system"]["system"], values["training"]["steps"]
        ('moons', 'flow', 2000)
    """
    system = {"system": name_of(recipe.system), **dataclasses.asdict(recipe.system)}  # type: ignore[call-overload]
    return {"name": recipe.name, "data": recipe.data, "system": system, "training": dataclasses.asdict(recipe.training)}


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """The recipe that `to_dict` wrote; a ValueError names what is unknown, missing or of the wrong type.

    Example:
        >>> from flowlib.recipes import find_recipe, from_dict, to_dict
        >>> values = to_dict(find_recipe("moons"))
        >>> from_dict(values) == find_recipe("moons")
        True
        >>> from_dict(values | {"training": {"steps": "many"}})
        Traceback (most recent call last):
        ValueError: steps must be an integer, got 'many'
    """
    if "net_args" in values:
        raise ValueError("it has the flat settings of an older flowlib: train it again")
    names = _names(Recipe)
    for name in values:
        check_choice("a recipe's setting", name, names)
    for name in names:
        if name not in values:
            raise ValueError(f"the recipe is incomplete: {name} is missing")
    system = values["system"]
    if not isinstance(system, Mapping) or not isinstance(system.get("system"), str):
        raise ValueError("the recipe is incomplete: 'system' must hold settings, its name under 'system' among them")
    settings = {name: value for name, value in system.items() if name != "system"}
    return Recipe(
        name=values["name"],
        data=values["data"],
        system=read(find_system(system["system"]), settings),
        training=read(Training, values["training"]),
    )


def read(kind: type, values: Any) -> Any:
    """An instance of a dataclass from plain data, each value of the type that its field has: no "3" for 3, no 3.5.

    Raises:
        ValueError: naming what is unknown, missing or of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    # In JSON, where a list is the only sequence there is and stands for a tuple too.
    text = json.dumps(values, default=_plain)
    try:
        return TypeAdapter(_strict(kind)).validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError("; ".join(_say(kind, problem) for problem in error.errors(include_url=False))) from None


def _plain(value: Any) -> Any:
    """What JSON has no word for: NumPy's numbers as Python's, anything else as its text."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def _inner(kind: type) -> dict[str, type]:
    """Those fields of a dataclass that hold a dataclass, or one or None, and its class."""
    hints = {name: (hint, *get_args(hint)) for name, hint in get_type_hints(kind).items()}
    found = {name: [one for one in any_of if dataclasses.is_dataclass(one)] for name, any_of in hints.items()}
    return {name: kinds[0] for name, kinds in found.items() if kinds}  # type: ignore[misc]


def _strict(kind: type) -> type:
    """The class, told to refuse settings that it does not have; which also goes for dataclasses in its fields."""
    kind.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
    return kind


_WORDS = {
    "int_type": "an integer", "int_from_float": "an integer", "float_type": "a number", "bool_type": "true or false",
    "string_type": "a text", "tuple_type": "a list", "list_type": "a list", "dict_type": "settings by name",
    "dataclass_type": "settings by name",
}  # fmt: skip


def _say(kind: type, problem: Mapping[str, Any]) -> str:
    """One of pydantic's complaints in a line."""
    *path, last = problem["loc"] or ("",)
    name = ".".join(map(str, problem["loc"]))
    if problem["type"] == "value_error":  # a check of our own, which names the setting
        return f"{name}: {problem['ctx']['error']}" if name else str(problem["ctx"]["error"])
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        for step in path:
            kind = _inner(kind)[step]
        owner = f" of {'.'.join(path)}" if path else ""
        return f"a setting{owner} must be one of {', '.join(_names(kind))}; got {last!r}"
    if problem["type"] in ("missing", "missing_keyword_only_argument", "missing_argument"):
        return f"the recipe is incomplete: {name} is missing"
    wanted = _WORDS.get(problem["type"], problem["msg"].removeprefix("Input should be "))
    return f"{name or kind.__name__} must be {wanted}, got {problem['input']!r}"


def _names(kind: Any) -> list[str]:
    return [part.name for part in dataclasses.fields(kind)]
