"""Where results go: checked before anything runs, written anew after each submission, whole or not at all."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from flowlib.course.grading import gradebook
from flowlib.course.grading.grade import Graded
from flowlib.files import write_whole

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
        known = {os.path.realpath(path): str(path) for path in taken}
        for option, path in self._paths.items():
            if path.is_dir():
                raise ValueError(f"{option} must be a file, got the folder {path}")
            if not path.parent.is_dir():
                raise ValueError(f"{path}: there is no folder {path.parent}")
            same = next((name for other, name in known.items() if _same(path, other)), None)
            if same is not None:
                raise ValueError(f"{option} must be a file of its own, got {path}, which is {same}")
            known[os.path.realpath(path)] = f"{option}'s"
            if not os.access(path if path.exists() else path.parent, os.W_OK):
                raise ValueError(f"{path}: it cannot be written")

    def write(self, grades: Sequence[Graded]) -> OSError | None:
        """Write all results so far, each file whether or not another can be written; what went wrong, if anything."""
        problem = None
        for option, path in self._paths.items():
            try:
                write_whole(path, _WRITERS[option](grades).encode("utf-8", "replace"))
            except OSError as error:  # a full disk, a folder that is gone: the next time it may be well again
                problem = error
        return problem


def _same(path: Path, other: str) -> bool:
    """Whether two paths lead to one file, or would."""
    if os.path.realpath(path) == other:
        return True
    return os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)
