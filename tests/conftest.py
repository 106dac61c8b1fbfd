"""Which tests run in one process: those of one file, except for notebooks, whose tests share nothing and take long."""

import pytest

SPREAD = {"test_notebooks.py", "test_banks.py"}


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name not in SPREAD:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.split("::")[0]))
