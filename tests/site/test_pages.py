"""The built site in a real browser, without any network: `make test-site`.

Pages load from disk and from a server on this machine, say nothing on the console, and compute what Python computes.
"""

import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from flowlib import ClassifierFreeGuidance, sample_ode
from flowlib.runs import load_pretrained
from flowlib.systems.inpainting import ReplacedPixels

SITE = Path(__file__).parents[2] / "site"
BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: the extra 'site'")
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(BROWSER is None, reason="no chromium is installed: its package of the system brings it"),
    pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="the site is not built: make site"),
]
PATIENCE = 300_000  # milliseconds: beside other work on the machine a page gets little of it
TEXTS = ["index", "install", "own", "choose", "zoo", "bugs", "glossary", "lectures/04_scores_and_sdes", "api/schedules"]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Visit:
    """A page, what it said on its console, and what it asked of the network beyond this machine."""

    def __init__(self, browser: Any, address: str) -> None:
        self.page = browser.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda line: self.said.append(line.text) if line.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.route("**/*", self._only_here)
        self.page.goto(address)

    def _only_here(self, route: Any) -> None:
        here = route.request.url.startswith(("file:", "http://127.0.0.1", "data:", "blob:"))
        if not here:
            self.asked.append(route.request.url)
        route.continue_() if here else route.abort()

    def close(self) -> None:
        self.page.close()
        assert self.said == []
        assert self.asked == []


@pytest.fixture(params=["disk", "server"])
def visit(request: pytest.FixtureRequest, browser: Any, served: str) -> Iterator[Any]:
    opened: list[Visit] = []

    def go(name: str) -> Any:
        root = SITE.as_uri() if request.param == "disk" else served
        opened.append(Visit(browser, f"{root}/{name}.html"))
        return opened[-1].page

    yield go
    for one in opened:
        one.close()


@pytest.mark.parametrize("name", TEXTS)
def test_a_page_of_text_loads_and_its_formulas_are_set(visit: Any, name: str) -> None:
    page = visit(name)
    assert page.locator("article h1").count() == 1  # beside that of the printed page
    if page.locator(".math").count():
        page.wait_for_selector("mjx-container svg")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")


def test_words_are_found(visit: Any) -> None:
    page = visit("search")
    page.goto(page.url + "?q=heun")
    page.wait_for_selector("#search-results li a")


def test_a_phone_needs_no_sideways_scrolling(browser: Any) -> None:
    for name in ("index", "choose", "play/plane", "play/digits", "play/scenes", "lectures/04_scores_and_sdes", "zoo"):
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.set_default_timeout(PATIENCE)
        page.goto(f"{SITE.as_uri()}/{name}.html")
        assert page.evaluate("document.documentElement.scrollWidth") <= 391, name
        page.close()


def test_the_plane_samples_and_a_slider_changes_the_samples(visit: Any) -> None:
    page = visit("play/plane")
    before = page.evaluate("plane.result().ends")
    assert len(before) == 300
    page.locator("#control-steps").focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    page.wait_for_function("plane.result().calls === 34")  # 17 steps of Heun's method
    assert page.evaluate("plane.result().ends") != before
    assert "Evaluations a sample: 34" in page.locator(".play-numbers").text_content()


def test_a_gaussian_is_moved_by_the_keyboard(visit: Any) -> None:
    page = visit("play/plane")
    before = page.evaluate("plane.state.means[0]")
    page.locator(".play-handle").first.focus()
    page.keyboard.press("ArrowRight")
    after = page.evaluate("plane.state.means[0]")
    assert after[0] == pytest.approx(before[0] + 0.1)


def test_the_plane_shows_what_the_lectures_claim(visit: Any) -> None:
    page = visit("play/plane")

    def at(name: str, **changes: object) -> dict[str, Any]:
        page.get_by_role("button", name=name).click()
        page.evaluate(f"plane.renew({json.dumps(changes)})")
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return page.evaluate("plane.result()")

    coarse, fine = (at("01 steps", steps=steps)["apart"] for steps in (20, 40))
    assert 1.7 < coarse / fine < 2.4
    coarse, fine = (at("01 steps", method="heun", steps=steps)["apart"] for steps in (20, 40))
    assert coarse / fine > 3
    assert at("03 straight")["apart"] < 1e-9
    assert at("04 constant g", steps=200)["distance"] > 10 * at("04 constant g", steps=50)["distance"] > 10
    guided = at("05 guidance")
    assert guided["distance"] > 3 * guided["floor"]
    plain = at("05 guidance", w=1)
    assert plain["distance"] < 2 * plain["floor"]


def test_digits_are_pythons_from_the_same_noise_and_follow_the_label(visit: Any) -> None:
    page = visit("play/digits")
    page.evaluate("digits.ready")
    field = load_pretrained("digits", "cpu").field
    noise = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 3, 3, 10])
    for method in ("euler", "heun"):
        options = json.dumps({"w": 2.0, "steps": 6, "method": method})
        given = f"digits.follow(Float32Array.from({noise.flatten().tolist()}), {y.tolist()}, {options})"
        found = page.evaluate(f"{given}.then(way => Array.from(way.at(-1)))")
        expected = sample_ode(ClassifierFreeGuidance(field, 2.0), noise, y, steps=6, method=method)
        torch.testing.assert_close(torch.tensor(found).view_as(expected), expected, rtol=0, atol=1e-3)
    before = page.evaluate("Array.from(digits.states().at(-1))")
    page.locator("#control-label").select_option("3")
    page.wait_for_function("before => digits.states().at(-1).some((v, i) => v !== before[i])", arg=before)


def test_half_a_digit_is_finished_as_python_does_and_drawn_by_the_keyboard(visit: Any) -> None:
    page = visit("play/digits")
    page.evaluate("digits.ready")
    field = load_pretrained("digits", "cpu").field
    generator = torch.Generator().manual_seed(1)
    noise, image = torch.randn(3, 1, 8, 8, generator=generator), torch.rand(1, 8, 8, generator=generator) * 2 - 1
    y, mask = torch.tensor([3, 8, 10]), (torch.arange(8) < 4).float().expand(1, 8, 8)
    options = json.dumps({"w": 2.0, "steps": 5, "method": "heun", "half": "left", "image": image.flatten().tolist()})
    given = f"digits.follow(Float32Array.from({noise.flatten().tolist()}), {y.tolist()}, {options})"
    found = page.evaluate(f"{given}.then(way => Array.from(way.at(-1)))")
    replaced = ReplacedPixels(ClassifierFreeGuidance(field, 2.0), image, mask, noise)
    expected = sample_ode(replaced, noise, y, steps=5, method="heun")
    torch.testing.assert_close(torch.tensor(found).view_as(expected), expected, rtol=0, atol=1e-3)

    page.get_by_role("button", name="Half a digit").press("Enter")
    pen = page.locator(".play-pad .play-pixel")
    before = page.evaluate("[Array.from(digits.pad.values), Array.from(digits.states().at(-1))]")
    pen.press("ArrowLeft")
    pen.press("ArrowUp")
    assert "row 1, column 3" in pen.get_attribute("aria-label")
    pen.press("Enter")  # what was ink is paper now
    page.wait_for_function("before => digits.states().at(-1).some((v, i) => v !== before[i])", arg=before[1])
    page.evaluate("digits.renew()")
    after = page.evaluate("[Array.from(digits.pad.values), Array.from(digits.states().at(-1))]")
    assert [i for i in range(64) if after[0][i] != before[0][i]] == [2]
    assert after[1][:32] == pytest.approx(after[0][:32], abs=1e-5)  # the upper half of the first digit


def test_scenes_and_masks_are_pythons_from_the_same_noise(visit: Any) -> None:
    page = visit("play/scenes")
    page.evaluate("scenes.ready")
    run, sam = load_pretrained("scenes-text", "cpu"), load_pretrained("sam", "cpu").module
    noise, caption = (
        torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)),
        "a red seven above a blue two",
    )
    given = f"scenes.follow(Float32Array.from({noise.flatten().tolist()}), {json.dumps(caption)}, {{w: 3, steps: 6}})"
    found = torch.tensor(page.evaluate(f"{given}.then(Array.from)")).view_as(noise)
    y = run.field.net.tokenizer([caption] * 2)
    guided = ClassifierFreeGuidance(run.field, 3.0)
    expected = sample_ode(guided, noise, y, steps=6, method="heun", denoise_last=True).clamp(-1, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)

    image = f"Float32Array.from({expected[0].flatten().tolist()})"
    answer = page.evaluate(
        f"scenes.embed({image}).then(e => scenes.ask(e, [5, 4]))"
        ".then(masks => masks.map(one => [one.iou, ...one.logits]))"
    )
    logits, iou = sam(expected[:1], torch.tensor([[[5.0, 4.0]]]), torch.tensor([[1]]))
    rows = torch.cat([iou[0, :, None], logits[0].flatten(1)], 1)[iou[0].argsort(descending=True)]
    torch.testing.assert_close(torch.tensor(answer), rows, rtol=0, atol=1e-3)


def test_a_scene_is_drawn_and_asked_by_the_keyboard(visit: Any) -> None:
    page = visit("play/scenes")
    page.evaluate("scenes.ready")
    field, said = page.locator("#control-caption"), page.locator(".play-numbers")
    page.evaluate("scenes.renew({steps: 4})")
    before = page.evaluate("Array.from(scenes.images())")
    page.locator("#control-steps").press("ArrowLeft")
    page.wait_for_function("before => scenes.images().some((v, i) => v !== before[i])", arg=before)
    for text, error in (
        ("  ", "The caption is empty"),
        ("xyzw" * 9, "The caption is too long: 36 tokens, and 22 at most"),
    ):
        field.fill(text)
        field.press("Enter")
        page.wait_for_function(
            "text => document.querySelector('.play-numbers').textContent.startsWith(text)", arg=error
        )
    field.fill("a pink five, on white")  # in three steps
    field.press("Enter")
    page.wait_for_function("document.querySelector('.play-numbers').textContent.startsWith('4 pictures')")
    assert "a pink five, on white" in page.locator(".play-large canvas").get_attribute("aria-label")
    point = page.locator(".play-large .play-pixel")
    point.press("ArrowDown")
    assert page.evaluate("scenes.state.point") == [4, 5]
    point.press("Enter")
    page.wait_for_function("scenes.answer() !== null")
    assert said.text_content().startswith("Three masks for one click")
    for k in (2, 3):
        page.get_by_role("button", name=f"mask {k}: IoU").press("Enter")
        assert f"mask {k} of 3 covers" in page.locator(".play-large canvas").get_attribute("aria-label")
    page.locator(".play-gallery button").nth(1).press("Enter")
    assert page.evaluate("[scenes.state.chosen, scenes.answer()]") == [1, None]


def test_every_control_of_a_playing_page_has_a_name_and_is_reached_by_the_tab_key(browser: Any) -> None:
    shown = "[...document.querySelectorAll('.play :is(button, input, select)')]"
    shown += ".filter(e => e.offsetParent && !e.disabled)"
    name_of = "e.labels?.[0]?.textContent || e.ariaLabel || e.textContent || e.firstChild?.ariaLabel"
    for name in ("plane", "digits", "scenes"):
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{SITE.as_uri()}/play/{name}.html")
        page.evaluate(f"globalThis.{name}.ready")
        names = page.evaluate(f"{shown}.map(e => {name_of})")
        assert all(names), names
        page.evaluate(f"{shown}[0].focus()")
        for i in range(1, len(names)):
            page.keyboard.press("Tab")
            assert page.evaluate(f"document.activeElement === {shown}[{i}]"), (name, names[i])
        page.close()
