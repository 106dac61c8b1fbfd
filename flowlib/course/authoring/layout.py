"""Where sources lie, and what is made of each.

lectures/NN_topic.py   ->  lectures/NN_topic.ipynb, executed
solutions/NN_topic.py  ->  solutions/NN_topic.ipynb, exercises/NN_topic.ipynb, flowlib/course/hints/NN_topic.json,
                           flowlib/course/reference/NN_topic.ipynb (with hidden tests: what `flowlib grade` uses)
"""

import json
from collections.abc import Sequence
from pathlib import Path

from flowlib.course.authoring import cells as notebooks
from flowlib.course.authoring.source import read_cells

LECTURES, SOLUTIONS, EXERCISES, HINTS = "lectures", "solutions", "exercises", "flowlib/course/hints"
REFERENCES = "flowlib/course/reference"


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
        if not path.stem.endswith(("_answers", "_mistakes"))
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


def outdated(path: Path) -> dict[Path, bytes]:
    """Of what is made of an exercise's source, the files that are missing or hold something else."""
    return {file: made for file, made in outputs(path).items() if not file.exists() or file.read_bytes() != made}


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


def _is(path: Path, name: str) -> bool:
    label = f"{path.parent.name}/{path.stem}"
    return any(text == name or text.startswith(f"{name}_") for text in (path.stem, label))
