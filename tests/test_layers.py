"""The house's floors: a folder imports only from those below it, and the library imports nothing heavy."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import flowlib

ROOT = Path(flowlib.__file__).parent


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Hold the package in `folder` to the contracts of pyproject.toml beside it."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_imports_run_one_way() -> None:
    result = lint(ROOT.parent)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("paths", "from flowlib.fields import Field"),
        ("nets/mlp", "def f():\n    import flowlib.systems.gan"),
        ("training/trainer", "from flowlib.fields import Model"),
        ("losses", "import flowlib.data.toy"),
        ("runs/run", "import flowlib.course.notebook"),
        ("course/authoring/source", "import flowlib.course.grading.names"),
        ("course/notebook", "import flowlib.course.authoring.source"),
    ],
)
def test_a_contract_finds_what_it_forbids(tmp_path: Path, module: str, line: str) -> None:
    shutil.copytree(ROOT, tmp_path / "flowlib", ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
    shutil.copy(ROOT.parent / "pyproject.toml", tmp_path)
    source = tmp_path / "flowlib" / f"{module}.py"
    source.write_text(f"{source.read_text('utf-8')}\n\n{line}\n", "utf-8")
    result = lint(tmp_path)
    assert result.returncode == 1
    assert f"flowlib.{module.replace('/', '.')}" in result.stdout


def test_importing_the_library_imports_no_heavy_package() -> None:
    """Each is imported where it is used, so that `import flowlib` stays as cheap as `import torch`."""
    heavy = {"scipy", "sklearn", "matplotlib", "pooch", "torchdiffeq", "typer", "torchvision", "diffusers"}
    code = (
        f"import sys, torch; old = set(sys.modules); from flowlib import *\nprint(*({heavy} & set(sys.modules) - old))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert result.stdout.split() == []


@pytest.mark.parametrize("command", [[], ["course"], ["course", "build"]])
def test_help_does_not_wait_for_torch(command: list[str]) -> None:
    code = f"import sys, flowlib.cli; flowlib.cli.main([*{command}, '--help']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT.parent, capture_output=True)


FACES = ["", "chains", "data", "metrics", "nets", "plotting", "recipes", "runs", "systems", "text", "training"]


@pytest.mark.parametrize("name", FACES)
def test_a_face_shows_what_it_has_and_nothing_else(name: str) -> None:
    face = importlib.import_module(f"flowlib.{name}".rstrip("."))
    assert all(hasattr(face, public) for public in face.__all__)
    assert sorted(dir(face)) == sorted(face.__all__)
