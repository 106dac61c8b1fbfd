"""The built site in a real browser, without any network: pages from disk and from a server on this machine."""

import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

SITE = Path(__file__).parents[2] / "site"
BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
PATIENCE = 300_000  # milliseconds: beside other work on the machine a page gets little of it


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="session")
def served() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: the extra 'site'")
    if BROWSER is None:
        pytest.skip("no chromium is installed: its package of the system brings it")
    if not (SITE / "index.html").is_file():
        pytest.skip("the site is not built: make site")
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


@pytest.fixture
def window(browser: Any) -> Iterator[Any]:
    """A function that opens a page from disk: its name, and the size of the window."""
    opened: list[Any] = []

    def go(name: str, **size: Any) -> Any:
        opened.append(browser.new_page(**size))
        opened[-1].set_default_timeout(PATIENCE)
        opened[-1].goto(f"{SITE.as_uri()}/{name}.html")
        return opened[-1]

    yield go
    for page in opened:
        page.close()
