"""Drift: what is stored and no longer fits its source.

A lecture is not executed to find out: it holds the hash of its code, and the names of the functions whose source it
shows.
"""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import nbformat

from flowlib.course.authoring import cells as notebooks
from flowlib.course.authoring.dress import code_of, undressed
from flowlib.course.authoring.layout import LECTURES, orphans, outdated, sources
from flowlib.course.authoring.source import Cell, read_cells
from flowlib.course.notebook import source_page

LECTURE_BYTES, IMAGE_BYTES = 1_500_000, 1_000_000


def drift(root: Path, names: Sequence[str] = ()) -> list[str]:
    """What no longer fits the sources with these names, or all: a line for each, then how to mend it; none if all does.

    Raises:
        ValueError: if nothing has one of the names; a SourceError if a source breaks a rule.
    """
    found = {path: drifted(path) for path in sources(root, names)}
    reasons = [reason for lines in found.values() for reason in lines] + ([] if names else orphans(root))
    return reasons + _remedy(root, reasons, list(dict.fromkeys(path.stem for path, lines in found.items() if lines)))


def drifted(path: Path) -> list[str]:
    """What no longer fits the source at `path`: a line for each, with the files concerned; none if all does.

    Raises:
        SourceError: if the source breaks a rule.
    """
    root = path.parent.parent
    if path.parent.name == LECTURES:
        return [f"{path.with_suffix('.ipynb').relative_to(root)}: {reason}" for reason in lecture_drift(path)]
    return [f"{file.relative_to(root)}: not what {path.relative_to(root)} gives" for file in outdated(path)]


def lecture_drift(path: Path) -> list[str]:
    """Why the stored notebook of a lecture is not what its source gives; found without executing it."""
    cells = read_cells(path)
    return to_execute(path, cells) or undressed(read_stored(path), notebooks.lecture_notebook(path, cells), cells)


def read_stored(path: Path) -> nbformat.NotebookNode:
    """The stored notebook of the lecture at `path`.

    Raises:
        OSError: if there is none.
        ValueError: if it is damaged.
    """
    try:
        return nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    except nbformat.ValidationError as error:
        raise ValueError(str(error)) from None


def to_execute(path: Path, cells: list[Cell]) -> list[str]:
    """What is wrong with the stored notebook of a lecture that only executing these cells can mend."""
    file = path.with_suffix(".ipynb")
    try:
        stored = read_stored(path)
    except FileNotFoundError:
        return ["not built yet"]
    except ValueError:
        return ["damaged"]
    expected = notebooks.lecture_notebook(path, cells)
    told = dict(stored.metadata.get("flowlib", {}))
    seconds = told.pop(notebooks.SECONDS, None)
    if told != expected.metadata["flowlib"]:
        return [f"built from another source than {path.parent.name}/{path.name}"]
    if [(cell.id, cell.source) for cell in code_of(stored)] != [(cell.id, cell.source) for cell in code_of(expected)]:
        return ["edited by hand"]
    reasons = []
    if seconds is None or any(cell.source and cell.execution_count is None for cell in code_of(stored)):
        reasons.append("not executed to its end")
    if file.stat().st_size > LECTURE_BYTES:
        reasons.append(f"{file.stat().st_size:,} bytes, more than {LECTURE_BYTES:,}")
    images = [f"images/{path.name[:2]}.png"]  # the thumbnail
    for cell in expected.cells:
        images += re.findall(r"\((images/[^)\s]+)", cell.source)
    for cell in stored.cells:
        reasons += [reason for output in cell.get("outputs", []) for reason in _stale_source(output)]
    return reasons + [reason for image in images for reason in _image(path, image)]


def _stale_source(output: nbformat.NotebookNode) -> list[str]:
    shown = output.get("metadata", {}).get("flowlib", {}).get("source")
    if shown is None:
        return []
    module, name = shown.split(":")
    try:
        same = source_page(module, name) == output["data"]["text/markdown"]
    except (AttributeError, ImportError):
        same = False
    return [] if same else [f"shows {name}, which has changed in {module.replace('.', '/')}.py"]


def _image(path: Path, name: str) -> list[str]:
    file, label = path.parent / name, f"{path.parent.name}/{name}"
    if not file.exists():
        return [f"{label} is missing"]
    return [f"{label} has more than {IMAGE_BYTES:,} bytes"] if file.stat().st_size > IMAGE_BYTES else []


def _remedy(root: Path, reasons: list[str], stems: list[str]) -> list[str]:
    """How to undo the changes that the reasons name, as far as git knows of them, or to build what has drifted."""
    changed = [name for name in _changed(root) if any(name in reason for reason in reasons)]
    lines = [f"you have changed {name}; to get it back: git checkout -- {name}" for name in changed]
    if stems:
        lines.append(f"to keep the change: flowlib course build {' '.join(stems)} (it writes the notebooks anew)")
    return lines


def _changed(root: Path) -> list[str]:
    """The files of the repository that differ from its last commit; none if git does not answer."""
    command = ["git", "-C", str(root), "diff", "--name-only", "--relative", "-z", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError:  # there is no git
        return []
    return result.stdout.split("\0")[:-1] if result.returncode == 0 else []
