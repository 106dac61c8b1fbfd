"""What the project says of itself in several places is the same in all of them."""

import json
import re
import tomllib
from pathlib import Path

import flowlib

ROOT = Path(flowlib.__file__).parent.parent


def test_the_version_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    change = re.search(r"^## ([0-9.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation is not None
    assert change is not None
    assert project["version"] == flowlib.__version__ == citation[1] == change[1]


def test_files_that_the_readme_links_to_exist() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md"):
        page = ROOT / name
        links = re.findall(r'\]\(([^)#:]+)\)|src="([^":]+)"', page.read_text())
        missing = [link for pair in links for link in pair if link and not (page.parent / link).exists()]
        assert not missing, f"{name}: {missing}"


def test_the_readme_says_how_long_each_lecture_takes() -> None:
    stored = {
        path.name[:2]: json.loads(path.read_text("utf-8"))["metadata"]["flowlib"]["seconds"]
        for path in (ROOT / "lectures").glob("*.ipynb")
    }
    rows = re.findall(r"\*\*(\d\d) .*\| (\d+) s \| \[\d\d\]\(exercises", (ROOT / "README.md").read_text("utf-8"))
    assert {name: int(seconds) for name, seconds in rows} == stored


def test_commands_that_the_readme_shows_are_commands() -> None:
    from flowlib.cli.app import app
    from flowlib.cli.systems import declared

    known = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    known |= {group.name for group in app.registered_groups} | set(declared())
    shown = re.findall(r"^flowlib (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(shown) > 8
    assert set(shown) <= known
