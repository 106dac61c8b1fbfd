"""Notebooks as text: `py:percent` sources read into cells.

A cell's metadata are short: `solution="01.2"`, `check="01.2" points=2`, `hints="01.2"`, `tags=["demo"]`. What nbgrader
needs beside them is worked out by `cells`. A cell that draws begins with what is to be seen, for readers who cannot
see it: one text for each image, which goes into the notebook's outputs and not into its code.

    # %% tags=["draw"]
    # alt: Three curves that fall from 1 to 0,
    #   the steepest one last.
"""

import ast
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARKS = ("solution", "check", "hints")
KEYS = (*MARKS, "points", "tags")
TAGS = ("demo", "draw", "slow", "raises-exception")

_MARKER = re.compile(r"# %%+(\s|$)")
_ALT = re.compile(r"# alt:[^\n]*\n(?:#  [^\n]*\n)*")


class SourceError(ValueError):
    """A source that breaks a rule; the message starts with its file and line."""

    def __init__(self, path: Path, line: int, message: str) -> None:
        super().__init__(f"{path}:{line}: {message}")


@dataclass(frozen=True)
class Cell:
    """A cell of a source.

    Attributes:
        kind: "markdown" or "code".
        source: its text.
        line: of the source where it starts, from 1.
        metadata: as written after `%%`.
        alts: what is to be seen in each image that it draws.
    """

    kind: str
    source: str
    line: int
    metadata: dict[str, Any]
    alts: tuple[str, ...] = ()

    @property
    def mark(self) -> str | None:
        """ "solution", "check", "hints", or None for a cell that belongs to no question."""
        return next((mark for mark in MARKS if mark in self.metadata), None)

    @property
    def question(self) -> str | None:
        """The question it belongs to, such as "01.2"."""
        return None if self.mark is None else str(self.metadata[self.mark])

    @property
    def tags(self) -> list[str]:
        """Its tags."""
        return list(self.metadata.get("tags", []))


def read_cells(path: Path, keys: Collection[str] = KEYS) -> list[Cell]:
    """The cells of a source.

    Args:
        path: of a `py:percent` file.
        keys: the metadata that its cells may have.

    Raises:
        SourceError: for unknown metadata, an unknown tag, code that is not Python, text that is no comment, or an
            alternative text that is empty or not at the top of its cell.
    """
    import jupytext

    text = path.read_text("utf-8")
    # Without magics: "# cat the tensors" is a comment, not a command.
    form = {"extension": ".py", "format_name": "percent", "comment_magics": False}
    found = jupytext.reads(text, fmt=form).cells
    lines = [number for number, line in enumerate(text.split("\n"), 1) if _MARKER.match(line)]
    if lines[:1] != [1]:
        lines.insert(0, 1)  # what stands before the first marker is a cell too
    if len(lines) != len(found):
        raise SourceError(
            path, 1, f"{len(found)} cells are read where {len(lines)} begin: is a '# %%' inside a string?"
        )
    cells, ends = [], [*lines[1:], text.count("\n") + 2]
    for entry, line, end in zip(found, lines, ends, strict=True):
        metadata = {key: value for key, value in entry.metadata.items() if key != "lines_to_next_cell"}
        _check_metadata(path, line, metadata, keys)
        source, alts = entry.source, tuple[str, ...]()
        if entry.cell_type == "code":
            check_code(path, source, line)
            source, alts = _take_alts(path, source, line)
        else:
            _check_text(path, text.split("\n")[line : end - 1], line + 1)
        cells.append(Cell(entry.cell_type, source, line, metadata, alts))
    return cells


def _check_text(path: Path, lines: list[str], first: int) -> None:
    """A SourceError unless these lines of a cell of text are comments: code in it would be shown, and never run."""
    for number, line in enumerate(lines, first):
        if line.strip() and not line.startswith("#"):
            raise SourceError(
                path, number, f"a cell of text has a line that is no comment: {line!r}; a '# %%' before it?"
            )


def check_code(path: Path, code: str, line: int) -> None:
    """A SourceError unless `code`, of the cell that starts at `line`, is Python."""
    try:
        ast.parse(code)
    except SyntaxError as error:
        raise SourceError(path, line + (error.lineno or 1), f"this is not Python: {error.msg}") from None


def _take_alts(path: Path, source: str, line: int) -> tuple[str, tuple[str, ...]]:
    """The code below the alternative texts at its top, and these, each in one line."""
    alts: list[str] = []
    while found := _ALT.match(source):
        alts.append(" ".join(found[0].removeprefix("# alt:").replace("\n#", " ").split()))
        source = source[found.end() :]
    if "" in alts or re.search(r"^\s*# alt:", source, re.M):
        raise SourceError(path, line, "an alternative text is '# alt: what is to be seen', at the top of its cell")
    return source, tuple(alts)


def _check_metadata(path: Path, line: int, metadata: dict[str, Any], keys: Collection[str]) -> None:
    for key in metadata:
        if key not in keys:
            raise SourceError(path, line, f"unknown metadata {key!r}; known: {', '.join(keys)}")
    for tag in metadata.get("tags", []):
        if tag not in TAGS:
            raise SourceError(path, line, f"unknown tag {tag!r}; known: {', '.join(TAGS)}")
    marks = [mark for mark in MARKS if mark in metadata]
    if len(marks) > 1 or (marks and "tags" in metadata):
        raise SourceError(path, line, f"a cell is one thing only, got {', '.join(metadata)}")
    if "points" in metadata and marks != ["check"]:
        raise SourceError(path, line, "points belong to a check")
