"""The small course, built once for all tests, and a copy of it to be changed."""

import shutil
from pathlib import Path

import pytest
from parts import SMALL

from flowlib.cli import main


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small course, built once."""
    root = tmp_path_factory.mktemp("course") / "root"
    shutil.copytree(SMALL, root)
    assert main(["course", "build", "--root", str(root)]) == 0
    return root


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(built, tmp_path / "root"))
