"""What the site's own pages say is so: the tests that they name are there, and the code that they show runs."""

import re
from pathlib import Path
from typing import Any

import torch

TESTS = Path(__file__).parents[1]
PAGES = TESTS.parent / "docs" / "pages"


def test_each_known_mistake_names_a_test_that_is_there() -> None:
    text = (PAGES / "bugs.md").read_text("utf-8")
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", text)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(named) == len(rows) - 1  # a head, and a test for each row
    missing = [name for file, name in named if f"def {name}(" not in (TESTS / file).read_text("utf-8")]
    assert not missing


def test_every_table_of_the_lectures_has_a_title() -> None:
    titles = (TESTS.parent / "docs" / "sphinx" / "lectures.py").read_text("utf-8")
    tables = sorted((TESTS.parent / "lectures" / "tables").glob("*.md"))
    bare = [path.stem for path in tables if not path.read_text("utf-8").startswith("# ")]
    assert len(tables) > 10
    assert not [name for name in bare if f'    "{name}": "' not in titles]


def test_a_model_of_ones_own_is_sampled_as_the_page_says() -> None:
    text = (PAGES / "own.md").read_text("utf-8").split("## A network of your own")[1]
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, Any] = {"theirs": lambda x, k: x * (k / 999)[:, None]}  # of data at 0 alone
    for block in blocks:
        exec(block.replace("range(500)", "range(3)"), names)
    assert names["drawn"].shape == (16, 1, 8, 8)
    assert names["nats"].shape == (4,)
    assert names["points"].shape == names["threes"].shape == (1000, 2)
    assert bool(torch.isfinite(names["points"]).all())
