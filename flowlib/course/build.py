"""`python -m flowlib.course.build`: makes the notebooks whose sources have changed.

    lectures/NN_topic.py   ->  lectures/NN_topic.ipynb, executed
    solutions/NN_topic.py  ->  solutions/NN_topic.ipynb, exercises/NN_topic.ipynb, flowlib/course/hints/NN_topic.json,
                               flowlib/course/reference/NN_topic.ipynb (with hidden tests: what `flowlib grade` uses)

With `--check` nothing is written: the exit status is 1, and what has drifted is named. A lecture is not executed for
that: it holds the hash of its source, and the names of the functions whose source it shows.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat

import flowlib
from flowlib.course import cells as notebooks
from flowlib.course.execute import execute
from flowlib.course.source import SourceError, read_cells
from flowlib.training.files import write_whole

LECTURES, SOLUTIONS, EXERCISES, HINTS = "lectures", "solutions", "exercises", "flowlib/course/hints"
REFERENCES = "flowlib/course/reference"
LECTURE_BYTES, IMAGE_BYTES = 1_500_000, 1_000_000


def sources(root: Path, names: Sequence[str] = ()) -> list[Path]:
    """The sources of lectures and exercises.

    Args:
        root: of the repository.
        names: what to look for, such as "01", "01_flows_and_diffusions" or "lectures/01"; all if there are none.

    Raises:
        ValueError: if nothing has one of the names.
    """
    found = [
        path
        for kind in (SOLUTIONS, LECTURES)  # a lecture may show an exercise's hints, so these come first
        for path in sorted((root / kind).glob("[0-9][0-9]_*.py"))
        if not path.stem.endswith("_answers")
    ]
    wanted = [name.removesuffix(".py").removesuffix(".ipynb") for name in names]
    chosen = {name: [path for path in found if _is(path, name)] for name in wanted}
    for name, paths in chosen.items():
        if not paths:
            known = ", ".join(f"{path.parent.name}/{path.stem}" for path in found)
            raise ValueError(f"there is no source named {name!r} in {root}; there are: {known or 'none'}")
    return [path for path in found if not names or any(path in paths for paths in chosen.values())]


def outputs(path: Path) -> dict[Path, bytes]:
    """What is made of an exercise's source, by file.

    Raises:
        SourceError: if the source breaks a rule.
    """
    root, cells = path.parent.parent, read_cells(path)
    hints = json.dumps(notebooks.hints(path, cells), indent=1, ensure_ascii=False) + "\n"
    return {
        path.with_suffix(".ipynb"): notebooks.write_notebook(notebooks.solution_notebook(path, cells)),
        root / EXERCISES / f"{path.stem}.ipynb": notebooks.write_notebook(notebooks.exercise_notebook(path, cells)),
        root / HINTS / f"{path.stem}.json": hints.encode(),
        root / REFERENCES / f"{path.stem}.ipynb": notebooks.write_notebook(
            notebooks.exercise_notebook(path, cells, hidden=True)
        ),
    }


def drifted(path: Path) -> list[str]:
    """What no longer fits the source at `path`: a line for each, none if all does.

    Raises:
        SourceError: if the source breaks a rule.
    """
    if path.parent.name == LECTURES:
        return [f"{path.with_suffix('.ipynb')}: {reason}" for reason in lecture_drift(path)]
    found = outputs(path).items()
    return [f"{file}: not what {path} gives" for file, content in found if _content(file) != content]


def lecture_drift(path: Path) -> list[str]:
    """Why the stored notebook of a lecture is not what its source gives; found without executing it."""
    cells, file = read_cells(path), path.with_suffix(".ipynb")
    try:
        stored = nbformat.read(file, as_version=4)
    except FileNotFoundError:
        return ["not built yet"]
    except (ValueError, nbformat.ValidationError):
        return ["damaged"]
    expected = notebooks.lecture_notebook(path, cells)
    if stored.metadata.get("flowlib") != expected.metadata["flowlib"]:
        return ["built from another source"]
    if [(c.id, c.cell_type, c.source) for c in stored.cells] != [(c.id, c.cell_type, c.source) for c in expected.cells]:
        return ["edited by hand"]
    reasons = []
    if any(cell.cell_type == "code" and cell.source and cell.execution_count is None for cell in stored.cells):
        reasons.append("not executed to its end")
    if file.stat().st_size > LECTURE_BYTES:
        reasons.append(f"{file.stat().st_size:,} bytes, more than {LECTURE_BYTES:,}")
    images = [f"images/{path.name[:2]}.png"]  # the thumbnail
    for cell in stored.cells:
        images += re.findall(r"\((images/[^)\s]+)", cell.source)
        reasons += [reason for output in cell.get("outputs", []) for reason in _stale_source(output)]
    return reasons + [reason for image in images for reason in _image(path, image)]


def build(path: Path, *, progress: bool = True) -> list[str]:
    """Make what the source at `path` gives; what a lecture wrote on standard error on the way.

    Raises:
        SourceError: if the source breaks a rule, or a cell of a lecture fails.
        WriteError: if a file cannot be written.
    """
    if path.parent.name != LECTURES:
        for file, content in outputs(path).items():
            if _content(file) != content:
                write_whole(file, content)
        return []
    cells = read_cells(path)
    notebook = notebooks.lecture_notebook(path, cells)
    said = execute(notebook, path, cells, progress=progress)
    write_whole(path.with_suffix(".ipynb"), notebooks.write_notebook(notebook))
    if reasons := lecture_drift(path):
        raise SourceError(path, 1, "; ".join(reasons))
    return said


def orphans(root: Path) -> list[str]:
    """Notebooks and hints without a source: a line for each."""
    stems = {kind: {path.stem for path in sources(root) if path.parent.name == kind} for kind in (LECTURES, SOLUTIONS)}
    kinds = {LECTURES: LECTURES, **dict.fromkeys((SOLUTIONS, EXERCISES, HINTS, REFERENCES), SOLUTIONS)}
    return [
        f"{path}: has no source in {source}/"
        for kind, source in kinds.items()
        for path in sorted((root / kind).glob("*.json" if kind == HINTS else "*.ipynb"))
        if path.stem not in stems[source]
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, 1 if something has drifted, 2 for a source that breaks a rule."""
    parser = argparse.ArgumentParser(prog="python -m flowlib.course.build", description="Make notebooks from sources.")
    parser.add_argument("names", nargs="*", help="such as 01 or lectures/01; by default all")
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if something has drifted")
    parser.add_argument("--force", action="store_true", help="make what has not changed too")
    parser.add_argument("--root", type=Path, default=Path(flowlib.__file__).parent.parent, help="of the repository")
    options = parser.parse_args(arguments)
    try:
        paths = sources(options.root, options.names)
        if options.check:
            reasons = [reason for path in paths for reason in drifted(path)]
            reasons += [] if options.names else orphans(options.root)
            print("\n".join(reasons) or f"{len(paths)} sources: nothing has drifted")
            return 1 if reasons else 0
        changed = [path for path in paths if options.force or drifted(path)]
        for number, path in enumerate(changed, 1):
            print(f"[{number}/{len(changed)}] {path.parent.name}/{path.stem}", flush=True)
            print("".join(f"{line}\n" for line in build(path)), end="")
        print(f"{len(changed)} of {len(paths)} sources built")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _is(path: Path, name: str) -> bool:
    label = f"{path.parent.name}/{path.stem}"
    return any(text == name or text.startswith(f"{name}_") for text in (path.stem, label))


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None


def _stale_source(output: nbformat.NotebookNode) -> list[str]:
    from flowlib.course.notebook import source_page

    shown = output.get("metadata", {}).get("flowlib", {}).get("source")
    if shown is None:
        return []
    try:
        same = source_page(*shown.split(":")) == output["data"]["text/markdown"]
    except (AttributeError, ImportError):
        same = False
    return [] if same else [f"shows a source that has changed: {shown}"]


def _image(path: Path, name: str) -> list[str]:
    file = path.parent / name
    if not file.exists():
        return [f"{name} is missing"]
    return [f"{name} has more than {IMAGE_BYTES:,} bytes"] if file.stat().st_size > IMAGE_BYTES else []


if __name__ == "__main__":
    sys.exit(main())
