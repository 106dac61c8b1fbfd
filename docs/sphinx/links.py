"""Check a built site: python docs/sphinx/links.py site

Every link inside it leads to a file, and to a place that is there; no page loads anything from elsewhere; every picture
has a text for readers who cannot see it; no formula was left as it was typed; and no page is heavier, with what it
loads and unpacked, than 5 MB, or 20 MB to play with.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

TEXT, PLAY = 5 * 10**6, 20 * 10**6
TYPED = re.compile(r"\$|\\(?:begin|end|frac|tfrac|mathbb|mathcal|operatorname|sum|int|tag|mid)(?![a-z])")


class Page(HTMLParser):
    """What a page links to, what it loads, which places can be linked to, and what of its prose looks like TeX."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = set()
        self.silent: list[str] = []
        self.typed: list[str] = []
        self._set: list[str] = []  # open elements whose text is no prose
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag in ("script", "style", "pre", "code") or "math" in (found.get("class") or "").split():
            self._set.append(tag)
        self.places |= {value for key in ("id", "name") if (value := found.get(key))}
        if tag == "a" and (href := found.get("href")):
            self.links.append(href)
        elif tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload", "shortcut icon"):
            self.loads.append(found.get("href") or "")
        elif tag in ("script", "img", "iframe", "source") and (src := found.get("src")):
            self.loads.append(src)
            if tag == "img" and not found.get("alt") and not src.startswith("data:"):
                self.silent.append(src)

    def handle_endtag(self, tag: str) -> None:
        if self._set and self._set[-1] == tag:
            self._set.pop()

    def handle_data(self, data: str) -> None:
        if not self._set and (found := TYPED.search(data)):
            self.typed.append(" ".join(data[max(0, found.start() - 40) : found.end() + 40].split()))


def check(site: Path) -> list[str]:
    """What is wrong, a line each."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}
    wrong = []
    for path, page in pages.items():
        name, loaded = path.relative_to(site), {path}
        for link in dict.fromkeys(page.links + page.loads):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    wrong.append(f"{name} loads {link}")
                continue
            found = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not found.is_file():
                wrong.append(f"{name} links to {link}, which is not there")
            elif parts.fragment and found in pages and unquote(parts.fragment) not in pages[found].places:
                wrong.append(f"{name} links to {link}, and there is no such place")
            elif link in page.loads:
                loaded.add(found)
        weight = sum(file.stat().st_size for file in loaded)
        if weight > (PLAY if "play" in name.parts else TEXT):
            wrong.append(f"{name} weighs {weight / 10**6:.1f} MB with what it loads")
        wrong += [f"{name} shows {source} without a text" for source in page.silent]
        wrong += [f"{name} shows a formula as it was typed: {text}" for text in page.typed]
    return wrong


if __name__ == "__main__":
    problems = check(Path(sys.argv[1]).resolve())
    print("\n".join(problems) or "all links lead somewhere, nothing is loaded from elsewhere, all formulas are set")
    sys.exit(bool(problems))
