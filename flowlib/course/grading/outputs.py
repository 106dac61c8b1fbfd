"""Where results go: checked before anything runs, written anew after each submission, whole or not at all."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from flowlib.course.grading import gradebook
from flowlib.course.grading.grade import Graded
from flowlib.training.files import write_whole

_WRITERS: dict[str, Callable[[Sequence[Graded]], str]] = {
    "--json": gradebook.as_json,
    "--junit": gradebook.as_junit,
    "--csv": gradebook.as_csv,
}


class Outputs:
    """The files asked for.

    Args:
        paths: by option, "--json", "--junit" or "--csv".
        taken: files that are read, which must not be written.

    Raises:
        ValueError: for a path that cannot be written, or is another's.
    """

    def __init__(self, paths: dict[str, Path | None], taken: Sequence[Path]) -> None:
        self._paths = {option: path for option, path in paths.items() if path is not None}
        known = {path.resolve(): str(path) for path in taken}
        for option, path in self._paths.items():
            if path.is_dir():
                raise ValueError(f"{option} must be a file, got the folder {path}")
            if not path.parent.is_dir():
                raise ValueError(f"{path}: there is no folder {path.parent}")
            if path.resolve() in known:
                raise ValueError(f"{option} must be a file of its own, got {path}, which is {known[path.resolve()]}")
            known[path.resolve()] = f"{option}'s"
            if not os.access(path if path.exists() else path.parent, os.W_OK):
                raise ValueError(f"{path}: it cannot be written")

    def write(self, grades: Sequence[Graded]) -> None:
        """Write all results so far."""
        for option, path in self._paths.items():
            write_whole(path, _WRITERS[option](grades).encode("utf-8", "replace"))
