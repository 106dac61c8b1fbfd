"""The house's floors: a module imports only from those below its own, and the library imports nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import flowlib

ROOT = Path(flowlib.__file__).parent

# From the ground up. A name stands for a module or for a whole package; the longest that fits a module counts.
FLOORS: list[set[str]] = [
    {"checks", "tables"},
    {"schedules", "solvers"},
    {"paths"},
    {"fields"},
    {"requests"},
    {"guidance", "losses", "stable", "samplers", "likelihood"},
    {"chains"},
    {"nets.embeddings", "nets.attention"},
    {"nets.blocks", "nets.words"},  # what networks are made of
    {"nets"},
    {"distances", "plotting"},
    {"evaluator", "features"},
    {"metrics", "animation", "data", "training"},
    {"systems"},
    {"building"},
    {"runs"},
    {"bits"},
    {"train", "report", "export"},
    {"demo"},
    {"course", "commands"},
    {"cli"},
    {"__main__"},
]
# Packages that are one idea in several files, which may use each other (but not in a circle).
ONE_IDEA = {"data", "training", "course"}
# The only imports from a neighbour on the same floor.
NEIGHBOURS = {
    ("nets.classifier", "nets.unet"),  # the classifier is the U-Net's encoder
    ("systems.latent", "systems.autoencoder"),  # a latent model is a field over an autoencoder
    ("systems.dvae", "systems.autoencoder"),  # its encoder and decoder are the autoencoder's
    ("systems.dvae", "systems.codebook"),  # how a codebook is used is counted alike
    ("systems.codebook", "systems.autoencoder"),  # an autoencoder with a codebook is one
    ("systems.first_stage", "systems.autoencoder"),
    ("systems.first_stage", "systems.codebook"),
    ("systems.concatenation", "systems.latent"),  # a guide that is an image has latents too
    ("systems.adm", "systems.ddpm"),  # a chain's step, with its mean moved
    ("systems.bound", "systems.ddpm"),  # the bound is about the chain's Gaussians
    ("systems.improved_ddpm", "systems.ddpm"),
    ("systems.improved_ddpm", "systems.bound"),
    ("systems.improved_ddpm", "systems.resampling"),
}


def name_of(path: Path) -> str:
    """The module's name without the leading "flowlib.": "paths", "nets.unet"; of a package its own name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"}


def floor_of(module: str) -> int | None:
    fits = [
        (len(name), floor)
        for floor, names in enumerate(FLOORS)
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    return max(fits)[1] if fits else None


def imported(source: str) -> set[str]:
    """Modules of the library that a source imports, at its top or inside a function; "" is `import flowlib` itself."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full: from flowlib.x import y"
            for alias in node.names:  # "from flowlib.data import idx" names a module, "import Row" does not
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner.removeprefix("flowlib.") in MODULES else str(node.module))
    return {name.removeprefix("flowlib").removeprefix(".") for name in found if name.split(".")[0] == "flowlib"}


def violations(module: str, source: str) -> list[str]:
    """What a module imports though it may not."""
    bad, floor, package = [], floor_of(module), module.split(".")[0]
    if floor is None:
        return [f"{module} has no floor: give it one in FLOORS"]
    for other in sorted(imported(source) - {module}):
        below = floor_of(other)
        if other == "":
            allowed = floor >= floor_of("runs")  # type: ignore[operator]
        elif package in ONE_IDEA and other.split(".")[0] == package:
            allowed = other != package  # a file that imports its own package would import itself
        else:
            allowed = below is not None and (below < floor or (module, other) in NEIGHBOURS)
        if not allowed:
            bad.append(f"{module} (floor {floor}) must not import {other or 'flowlib'} (floor {below})")
    return bad


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_floors_below_its_own(module: str) -> None:
    assert violations(module, MODULES[module].read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("paths", "from flowlib.fields import Field"),
        ("paths", "def f():\n    from flowlib.fields import Field"),
        ("losses", "import flowlib.samplers"),
        ("nets.unet", "from flowlib.nets.dit import DiT"),
        ("fields", "from flowlib import GaussianPath"),
        ("data.toy", "from flowlib.training import trainer"),
        ("data.toy", "from flowlib.data import load"),
        ("unheard_of", ""),
    ],
)
def test_the_check_itself_finds_what_is_forbidden(module: str, source: str) -> None:
    assert violations(module, source) != []


def test_no_module_imports_itself_in_a_circle() -> None:
    needs = {module: imported(path.read_text("utf-8")) & MODULES.keys() for module, path in MODULES.items()}
    done: set[str] = set()
    while ready := {module for module in needs.keys() - done if needs[module] - {module} <= done}:
        done |= ready
    assert needs.keys() - done == set()


def test_importing_the_library_imports_no_heavy_package() -> None:
    """Each is imported where it is used, so that `import flowlib` stays as cheap as `import torch`."""
    heavy = {"scipy", "sklearn", "matplotlib", "pooch", "torchdiffeq", "typer", "torchvision", "diffusers"}
    code = (
        f"import sys, torch; old = set(sys.modules); from flowlib import *\nprint(*({heavy} & set(sys.modules) - old))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert result.stdout.split() == []


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, flowlib.cli; flowlib.cli.main(['--help']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT.parent, capture_output=True)


def test_every_public_name_is_there() -> None:
    assert all(hasattr(flowlib, name) for name in flowlib.__all__)
