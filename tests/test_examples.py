"""Examples in docstrings: those of the mathematics and the metrics run, and every public name there has one.

A name has an example in its own docstring or in that of its file, where lectures show the function itself.
"""

import doctest
import importlib
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "sphinx"))
from api import MATHEMATICS, lacking

CHAINS = ("ancestral", "bound", "chain", "ddim", "gaussians", "learned", "resampling")
MODULES = [
    *MATHEMATICS, *(f"chains.{name}" for name in CHAINS),
    "metrics.distances", "metrics.features", "metrics.images",
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_file_run(module: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        result = doctest.testmod(importlib.import_module(f"flowlib.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("page", MATHEMATICS)
def test_every_public_name_of_the_mathematics_has_an_example(page: str) -> None:
    assert lacking(page) == []
