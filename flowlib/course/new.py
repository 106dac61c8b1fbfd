"""`python -m flowlib.course.new 07_topic "A title"`: a lecture and its exercise to start from.

What it writes builds, grades and passes its own bank at once; replace it piece by piece.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import flowlib
from flowlib.course.build import LECTURES, SOLUTIONS
from flowlib.training.files import write_whole


def create(root: Path, name: str, title: str) -> list[Path]:
    """Write the three sources of a new topic.

    Args:
        root: of the repository.
        name: such as "07_topic".
        title: of lecture and exercise.

    Returns:
        the files: the lecture, the solution, its bank of answers.

    Raises:
        ValueError: if the name has another form, or one of the files is there already.
        WriteError: if a file cannot be written.
    """
    if not re.fullmatch(r"\d\d_[a-z0-9_]+", name):
        raise ValueError(f"name must look like 07_topic, got {name!r}")
    paths = {
        "lecture": root / LECTURES / f"{name}.py",
        "solution": root / SOLUTIONS / f"{name}.py",
        "answers": root / SOLUTIONS / f"{name}_answers.py",
    }
    for path in paths.values():
        if path.exists():
            raise ValueError(f"{path} is there already")
    for kind, path in paths.items():
        text = (files("flowlib.course") / "templates" / f"{kind}.txt").read_text("utf-8")
        text = text.replace("NUMBER", name[:2]).replace("NAME", name).replace("TITLE", title)
        write_whole(path, text.encode())
    return list(paths.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, or 2 if nothing was written."""
    parser = argparse.ArgumentParser(
        prog="python -m flowlib.course.new", description="Start a lecture and its exercise."
    )
    parser.add_argument("name", help="such as 07_topic")
    parser.add_argument("title", nargs="?", help="by default made of the name")
    parser.add_argument("--root", type=Path, default=Path(flowlib.__file__).parent.parent, help="of the repository")
    options = parser.parse_args(arguments)
    try:
        title = options.title or options.name[3:].replace("_", " ").capitalize()
        for path in create(options.root, options.name, title):
            print(path)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
