"""Leave out of the theme's script of icons those that no page shows: 2,000 icons weigh 1.5 MB, and a dozen are used."""

import re
from pathlib import Path

# "moon":[512,512,[127769,9214],"f186","M223 ..."], whose third value holds other names of the icon.
ICON = re.compile(r'(?:"([\w-]+)"|\b([a-z]\w*)):\[\d+,\d+,(\[[^\]]*\]),"[0-9a-f]+",(?:"[^"]*"|\[[^\]]*\])\],?')


def lighten(site: Path) -> None:
    """Rewrite the script of a built site; nothing happens to one that is light already."""
    script = site / "_static" / "scripts" / "fontawesome.js"
    others = [path for path in script.parent.glob("*.js") if path != script]
    texts = (path.read_text("utf-8") for path in [*site.rglob("*.html"), *others])
    used = {name for text in texts for name in re.findall(r"\bfa-([a-z0-9-]+)", text)}

    def kept(match: re.Match[str]) -> str:
        names = {match[1] or match[2], *re.findall(r'"([\w-]+)"', match[3])}
        return match[0] if names & used else ""

    script.write_text(ICON.sub(kept, script.read_text("utf-8")), "utf-8")
