"""From cells to notebooks: nbgrader's metadata, stable ids, and what is cut from a solution to make an exercise.

An instructor can load the result into nbgrader, whose schema (version 3) and conventions these are: a solution region
becomes a stub, a region of hidden tests goes, checks and set-up are locked. A written solution may do without a region.
"""

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from flowlib.course.authoring.questions import read_questions
from flowlib.course.authoring.source import Cell, check_code

STUB = {"code": "# YOUR CODE HERE\nraise NotImplementedError()", "markdown": "YOUR ANSWER HERE"}
SECONDS = "seconds"  # among a lecture's metadata: what its execution took
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}


def lecture_notebook(path: Path, cells: list[Cell]) -> NotebookNode:
    """The notebook of a lecture, before it is executed. Its metadata hold the hash of its code."""
    ids: Counter[str] = Counter()
    made = [_node(cell, _plain_id(cell, ids)) for cell in cells]
    return _notebook(made, {"lecture": path.stem, "source_sha256": cells_hash(cells)})


def cells_hash(cells: list[Cell]) -> str:
    """The SHA-256 of the code and its tags: all that an execution depends on. `dress` changes the rest."""
    content = [[cell.source, [tag for tag in cell.tags if tag != "draw"]] for cell in cells if cell.kind == "code"]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def solution_notebook(path: Path, cells: list[Cell]) -> NotebookNode:
    """The notebook that an instructor has, with solutions and hidden tests. Hints are in no notebook.

    Raises:
        SourceError: if the source breaks a rule.
    """
    return _notebook([node for _, node in _graded(path, cells)], {"exercise": path.stem})


def exercise_notebook(path: Path, cells: list[Cell], *, hidden: bool = False) -> NotebookNode:
    """The notebook that a student gets: solutions cut to stubs, hidden tests gone, checks locked.

    Args:
        hidden: whether to keep the hidden tests: the reference that submissions are graded by.

    Raises:
        SourceError: if the source breaks a rule, or what is left of a cell is no longer Python.
    """
    made = []
    for cell, node in _graded(path, cells):
        node.source = release(cell, hidden=hidden)
        if cell.kind == "code":
            check_code(path, node.source, cell.line)
        grading = node.metadata.get("nbgrader", {})
        if grading:
            node.metadata["deletable"] = False
        if grading.get("locked"):
            node.metadata["editable"] = False
        if cell.mark == "check":
            node.metadata["jupyter"] = {"source_hidden": True}  # it is run, not read: collapsed at first
        made.append(node)
    return _notebook(made, {"exercise": path.stem})


def release(cell: Cell, *, hidden: bool = False) -> str:
    """The text of a cell as a student gets it: nbgrader's stub, as far indented, for each solution region.

    With `hidden`, hidden tests stay.
    """
    if hidden and cell.mark == "check":
        return _whole(cell)
    if cell.mark == "solution" and "BEGIN SOLUTION" not in cell.source:
        return STUB[cell.kind]
    lines, region = [], ""
    for line in _whole(cell).split("\n"):
        if begin := re.search(r"BEGIN (SOLUTION|HIDDEN TESTS)", line):
            region = begin[1]
            indent = line[: len(line) - len(line.lstrip())]
            stub = STUB[cell.kind] if region == "SOLUTION" else ""
            lines += [indent + part for part in stub.split("\n") if part]
        elif region and f"END {region}" in line:
            region = ""
        elif not region:
            lines.append(line)
    return "\n".join(lines)


def hints(path: Path, cells: list[Cell]) -> dict[str, list[str]]:
    """The three hints of each question.

    Raises:
        SourceError: if the source breaks a rule.
    """
    return {question.name: question.hints for question in read_questions(path, cells)}


def write_notebook(notebook: NotebookNode) -> bytes:
    """The bytes of a notebook file: the same for the same notebook."""
    nbformat.validate(notebook)
    return (nbformat.writes(notebook).rstrip("\n") + "\n").encode()


def _whole(cell: Cell) -> str:
    """The text of a cell; a check that comes to its end says so."""
    return f'{cell.source}\nprint("{cell.question} ✓")' if cell.mark == "check" else cell.source


def _graded(path: Path, cells: list[Cell]) -> list[tuple[Cell, NotebookNode]]:
    """The cells of solution and exercise: all but the hints, which a release of the solution by nbgrader would show."""
    titles = {question.name: question.title for question in read_questions(path, cells)}
    ids: Counter[str] = Counter()
    made = []
    for cell in cells:
        if cell.mark == "hints":
            continue
        grading = _grading(cell, ids)
        node = _node(cell, grading["grade_id"] if grading else _plain_id(cell, ids))
        node.source = _whole(cell)
        if grading:
            node.metadata["nbgrader"] = grading
        if cell.mark in ("solution", "check"):
            node.metadata["flowlib"] = {"question": cell.question, "title": titles[str(cell.question)]}
        made.append((cell, node))
    return made


def _grading(cell: Cell, ids: Counter[str]) -> dict[str, Any] | None:
    """What nbgrader wants to know of a cell, or None of one that it leaves alone."""
    number = str(cell.question).replace(".", "-")
    known = {"schema_version": 3, "cell_type": cell.kind, "task": False}
    if cell.mark == "solution" and cell.kind == "code":
        return {**known, "grade": False, "solution": True, "locked": False, "grade_id": f"solution-{number}"}
    if cell.mark == "solution":  # nbgrader has written answers read by a person, here for no points
        return {**known, "grade": True, "solution": True, "locked": False, "points": 0, "grade_id": f"written-{number}"}
    if cell.mark == "check":
        points = cell.metadata["points"]
        return {
            **known, "grade": True, "solution": False, "locked": True, "points": points, "grade_id": f"check-{number}"
        }  # fmt: skip
    if cell.kind == "code" and "demo" not in cell.tags:
        return {
            **known, "grade": False, "solution": False, "locked": True, "grade_id": _hash_id("setup", cell, ids)
        }  # fmt: skip
    return None


def _plain_id(cell: Cell, ids: Counter[str]) -> str:
    return _hash_id("cell", cell, ids)


def _hash_id(prefix: str, cell: Cell, ids: Counter[str]) -> str:
    """An id that a change elsewhere in the notebook does not change; a repeated cell gets a number."""
    name = f"{prefix}-{hashlib.sha256((cell.kind + cell.source).encode()).hexdigest()[:10]}"
    ids[name] += 1
    return name if ids[name] == 1 else f"{name}-{ids[name]}"


def _node(cell: Cell, name: str) -> NotebookNode:
    make = nbformat.v4.new_code_cell if cell.kind == "code" else nbformat.v4.new_markdown_cell
    node = make(cell.source, id=name)
    if cell.tags:
        node.metadata["tags"] = cell.tags
    if "draw" in cell.tags:
        node.metadata["jupyter"] = {"source_hidden": True}  # its picture is looked at: collapsed at first
    return node


def _notebook(cells: list[NotebookNode], about: dict[str, str]) -> NotebookNode:
    return nbformat.v4.new_notebook(cells=cells, metadata={**METADATA, "flowlib": about})
