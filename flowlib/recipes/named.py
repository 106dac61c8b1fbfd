"""The recipes that have a name: what `flowlib train NAME` trains, one short file of this folder for each family."""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cached_property

from flowlib.checks import check_choice
from flowlib.recipes.recipe import Recipe
from flowlib.systems.discovery import plugins


class _Recipes(Mapping[str, Recipe]):
    """Every recipe by its name, found when first asked for: the `RECIPES` of each module here, and of each plug-in."""

    @cached_property
    def _all(self) -> dict[str, Recipe]:
        import flowlib.recipes

        names = [module.name for module in pkgutil.iter_modules(flowlib.recipes.__path__)]
        modules = [importlib.import_module(f"flowlib.recipes.{name}") for name in sorted(names)]
        found: dict[str, Recipe] = {}
        for module in [*modules, *plugins()]:
            recipes = getattr(module, "RECIPES", ())
            for recipe in recipes if isinstance(recipes, tuple) else ():
                if recipe.name in found:
                    raise ValueError(f"there are two recipes {recipe.name!r}; the second is in {module.__name__}")
                found[recipe.name] = recipe
        return found

    def __getitem__(self, name: str) -> Recipe:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


RECIPES: Mapping[str, Recipe] = _Recipes()


def find_recipe(name: str) -> Recipe:
    """The recipe of that name; a ValueError lists those there are.

    Example:
        >>> from flowlib.recipes import RECIPES, find_recipe
        >>> find_recipe("moons").training.steps, "digits" in RECIPES
        (2000, True)
    """
    return RECIPES[check_choice("recipe", name, RECIPES)]
