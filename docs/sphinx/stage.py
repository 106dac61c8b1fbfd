"""Lay out the sources of the site: python docs/sphinx/stage.py docs/_build/source

Pages are those of docs/pages; lectures, exercises and tables are copied from their folders; the reference, the zoo, the
commands and the pages to play with are generated. Nothing is executed but the zoo's samplers, whose pictures are kept
in docs/_build/zoo by the hash of their weights.
"""

import filecmp
import re
import shutil
import sys
from pathlib import Path

import api
import commands
import play
import zoo

import lectures

ROOT = Path(__file__).parents[2]


def stage(target: Path) -> None:
    """Write everything into `target`, which must not exist."""
    shutil.copytree(ROOT / "docs" / "pages", target)
    notebooks = sorted((ROOT / "lectures").glob("*.ipynb"))
    uses = api.write(target / "api", notebooks)
    names = lectures.copy(ROOT, target, uses)
    for picture in ("noise_to_digits.gif", "samplers.png", "demo.png", "mnist.png"):
        shutil.copy(ROOT / "docs" / picture, target)
    add_a_system(target)
    benchmarks(target)
    commands.write(target)
    zoo.write(target, kept=target.parent / "zoo")
    play.write(target, kept=target.parent / "graphs")
    index = target / "index.md"
    index.write_text(index.read_text("utf-8").replace("{{lectures}}", str(len(names))), "utf-8")


def add_a_system(target: Path) -> None:
    """The tested example as a page: its cells of prose and of code, in order."""
    import jupytext

    book = jupytext.read(ROOT / "docs" / "add_a_system.py")
    shutil.copy(ROOT / "docs" / "add_a_system.py", target)
    parts = [cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```" for cell in book.cells]
    download = "{download}`This page as a file <add_a_system.py>`, which the tests train, kill, resume and measure."
    (target / "add_a_system.md").write_text("\n\n".join([parts[0], download, *parts[1:]]), "utf-8")


def benchmarks(target: Path) -> None:
    """What is measured, and by which command."""
    (target / "benchmarks").mkdir()
    text = (ROOT / "benchmarks" / "README.md").read_text("utf-8").replace("(../docs/pages/", "(../")
    (target / "benchmarks" / "README.md").write_text(re.sub(r"^# Benchmarks$", "# What was measured", text, flags=re.M))


def renew(target: Path, fresh: Path) -> None:
    """Make `target` what `fresh` is, without touching files that are the same: Sphinx reads anew what is newer."""
    for path in sorted(target.rglob("*"), reverse=True):
        if path.is_file() and not (fresh / path.relative_to(target)).is_file():
            path.unlink()
    for path in fresh.rglob("*"):
        place = target / path.relative_to(fresh)
        if path.is_file() and not (place.is_file() and filecmp.cmp(path, place, shallow=False)):
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, place)
    shutil.rmtree(fresh)


if __name__ == "__main__":
    source = Path(sys.argv[1]).resolve()
    shutil.rmtree(source.with_name("fresh"), ignore_errors=True)
    stage(source.with_name("fresh"))
    renew(source, source.with_name("fresh"))
