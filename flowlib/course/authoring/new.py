"""A lecture and its exercise to start from.

What it writes builds, grades and passes its own bank at once; replace it piece by piece.
"""

import re
from importlib.resources import files
from pathlib import Path

from flowlib.course.authoring.layout import LECTURES, SOLUTIONS
from flowlib.files import write_whole


def create(root: Path, name: str, title: str) -> list[Path]:
    """Write the three sources of a new topic.

    Args:
        root: of the repository.
        name: such as "07_topic".
        title: of lecture and exercise.

    Returns:
        the files: the lecture, the solution, its bank of answers.

    Raises:
        ValueError: if the name has another form, the title is empty, or one of the files is there already.
        WriteError: if a file cannot be written.
    """
    if not re.fullmatch(r"\d\d_[a-z0-9_]+", name):
        raise ValueError(f"name must look like 07_topic, got {name!r}")
    if not title.strip():
        raise ValueError("title must not be empty")
    paths = {
        "lecture": root / LECTURES / f"{name}.py",
        "solution": root / SOLUTIONS / f"{name}.py",
        "answers": root / SOLUTIONS / f"{name}_answers.py",
    }
    for path in paths.values():
        if path.exists():
            raise ValueError(f"{path} is there already")
    for kind, path in paths.items():
        text = (files("flowlib.course.authoring") / "templates" / f"{kind}.txt").read_text("utf-8")
        text = text.replace("NUMBER", name[:2]).replace("NAME", name).replace("TITLE", title)
        write_whole(path, text.encode())
    return list(paths.values())
