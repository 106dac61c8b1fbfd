"""Finding systems: in this folder, in files that FLOWLIB_SYSTEMS names, and in installed packages."""

import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from flowlib.systems.system import SYSTEMS, System

VARIABLE = "FLOWLIB_SYSTEMS"


def find_system(name: str) -> type[System]:
    """The system of that name.

    Raises:
        ValueError: if there is none, listing those there are.

    Example:
        >>> from flowlib.systems import find_system
        >>> find_system("flow")(net="mlp").predicts
        'velocity'
    """
    known = all_systems()
    if name not in known:
        raise ValueError(f"system must be one of {', '.join(known)} (or of a file in {VARIABLE}); got {name!r}")
    return known[name]


def all_systems() -> dict[str, type[System]]:
    """Every system by its name: what the modules found have registered."""
    _import_folder()
    plugins()
    return SYSTEMS


def plugins() -> list[ModuleType]:
    """The modules of systems from elsewhere, in order.

    Raises:
        ValueError: for a file that is missing, or what cannot be imported, naming it.
    """
    files = [Path(text) for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text]
    packages = [_load(entry.value, entry.load) for entry in entry_points(group="flowlib.systems")]
    return [*packages, *map(_import_file, files)]


@cache
def _import_folder() -> None:
    import flowlib.systems

    for module in pkgutil.iter_modules(flowlib.systems.__path__):
        importlib.import_module(f"flowlib.systems.{module.name}")


@cache
def _import_file(path: Path) -> ModuleType:
    name = f"flowlib_system_{path.stem}"
    if not path.is_file():
        raise ValueError(f"{VARIABLE} names {path}, which is no file")
    if name in sys.modules:
        raise ValueError(f"{VARIABLE} names two files that are called {path.name}")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{VARIABLE} names {path}, which is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        _load(str(path), partial(spec.loader.exec_module, module))
    except ValueError:
        del sys.modules[name]
        raise
    return module


def _load(name: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
