"""What tests have in common: how they are grouped, which wait for the full run, and weights drawn from a seed."""

from collections.abc import Iterator

import forked  # noqa: F401  # which says what the process that others are forked from imports
import pytest
import torch

SPREAD = {"test_notebooks.py", "test_banks.py"}  # their tests share nothing and take long


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups, and pytest the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of one file in one process; leave the comparisons with other people's code for the full run."""
    for item in items:
        if item.path.name not in SPREAD:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.split("::")[0]))
        if item.path.parent.name == "peers":
            item.add_marker(pytest.mark.full)


@pytest.fixture
def seeded_weights() -> Iterator[None]:
    """Layers draw the same weights each time, and the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
