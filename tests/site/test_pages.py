"""The pages of text: they load, say nothing on the console, ask for nothing from elsewhere: `make test-site`."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.full
ROOT = Path(__file__).parents[2]
TEXTS = ["index", "install", "own", "choose", "zoo", "bugs", "glossary", "lectures/04_scores_and_sdes", "api/schedules"]


@pytest.mark.parametrize("name", TEXTS)
def test_a_page_of_text_loads_and_its_formulas_are_set(visit: Any, name: str) -> None:
    page = visit(name)
    assert page.locator("article h1").count() == 1  # beside that of the printed page
    if page.locator(".math").count():
        page.wait_for_selector("mjx-container svg")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")


SET_ALL = "async () => { await MathJax.startup.promise; await MathJax.startup.document.lazyTypesetAll() }"


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "lectures").glob("*.ipynb"))])
def test_every_formula_of_a_lecture_is_known(window: Any, name: str) -> None:
    page = window(f"lectures/{name}", viewport={"width": 1200, "height": 900})
    page.wait_for_function("() => Boolean(window.MathJax?.startup?.document?.lazyTypesetAll)")
    page.evaluate(SET_ALL)
    assert page.locator("mjx-container").count() >= page.locator(".math").count() > 50
    assert page.locator("[data-mml-node=merror]").all_text_contents() == []


def test_words_are_found(visit: Any) -> None:
    page = visit("search")
    page.goto(page.url + "?q=heun")
    page.wait_for_selector("#search-results li a")


def test_a_phone_needs_no_sideways_scrolling(window: Any) -> None:
    for name in ("index", "choose", "play/plane", "play/digits", "play/scenes", "lectures/04_scores_and_sdes", "zoo"):
        page = window(name, viewport={"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 391, name
