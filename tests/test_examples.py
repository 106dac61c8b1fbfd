"""Examples in docstrings: all of them run, and every public name of the library's pages has one that uses it.

A name has an example in its own docstring, or in that of its file where lectures show the function itself or where a
system is a file, or in that of its folder, which its page of the API reference begins with.
"""

import doctest
import importlib
import sys
from pathlib import Path

import pytest
import torch

import flowlib

sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "sphinx"))
import api
import shown

PACKAGE = Path(flowlib.__file__).parent


def modules() -> list[str]:
    """The files of the library that have examples."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in path.read_text("utf-8"):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


@pytest.mark.parametrize("module", modules())
def test_the_examples_of_a_file_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some leave runs and pictures
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("page", api.pages())
def test_every_public_name_has_an_example(page: str) -> None:
    assert api.lacking(page) == []


def test_importing_a_name_does_not_show_it() -> None:
    text = "Example:\n    >>> from flowlib.text import DIGITS, Vocabulary\n    >>> Vocabulary(DIGITS).length\n    8\n"
    assert shown.uses(text) == "Vocabulary(DIGITS).length\n8\n"


def test_an_entry_shows_the_example_of_its_file_where_its_page_does_not() -> None:
    borrowed = shown.borrowed(api.resolve("flowlib.systems.GAN"), "systems")
    assert borrowed[:2] == ["   .. rubric:: Example", ""]
    assert any(line.startswith("   >>> system, training = GANSystem(") for line in borrowed)
    for path, page in (
        ("systems.Stage", "systems"),
        ("recipes.change", "recipes"),
        ("losses.optimal_transport", "losses"),
    ):
        assert shown.borrowed(api.resolve(f"flowlib.{path}"), page) == []
