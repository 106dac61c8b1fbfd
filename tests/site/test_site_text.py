"""What the site's own pages say is so: the tests that they name are there, and the code that they show runs."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "sphinx"))
from links import Page

from lectures import unbroken

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


@pytest.mark.parametrize(
    ("typed", "one_line"),
    [
        ("So $$H(y)\n- \\sum_t p(t) .$$ Then", "So $$H(y) - \\sum_t p(t) .$$ Then"),
        ("> Then $a\n> + b$,\n> and $c$.", "> Then $a + b$,\n> and $c$."),
        ("$$\nx\n$$\ntext\n\n$y$", "$$ x $$\ntext\n\n$y$"),
        ("```\nprice = $1\n- $2\n```\n`$`\nand $x\n- y$", "```\nprice = $1\n- $2\n```\n`$`\nand $x - y$"),
        ("a lone $ here\n\n- and $ there", "a lone $ here\n\n- and $ there"),
    ],
)
def test_a_formula_of_several_lines_becomes_one(typed: str, one_line: str) -> None:
    assert unbroken(typed) == one_line


def test_a_formula_that_was_not_set_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    shown = '<p>a <span class="math notranslate">\\(\\frac12\\)</span> b <code>$HOME</code></p><pre>$x$</pre>'
    page.write_text(f"{shown}<p>So $$H(y) = 1 .</p><p>\\sum_t p(t)</p>")
    assert Page(page).typed == ["So $$H(y) = 1 .", "\\sum_t p(t)"]
