"""What can change in a lecture without running it again: prose, tags, collapsed code, alternative texts.

An alternative text goes where programs look for it. It is in the output's metadata, which nbconvert's classic template
writes as the image's `alt`; and it is the output as plain text, in the place of "<Figure size 640x480 with 1 Axes>": VS
Code reads that out, a terminal shows it. JupyterLab 4.6 and nbconvert's template of that name have no way to give an
output's image an `alt`.
"""

from nbformat import NotebookNode

from flowlib.course.authoring.cells import SECONDS
from flowlib.course.authoring.source import Cell


def images(node: NotebookNode) -> list[NotebookNode]:
    """The outputs of a cell that are images."""
    return [output for output in node.get("outputs", []) if _kind(output)]


def code_of(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells of a notebook that are code."""
    return [node for node in notebook.cells if node.cell_type == "code"]


def dress(executed: NotebookNode, made: NotebookNode, cells: list[Cell]) -> NotebookNode:
    """`made` with the outputs and seconds of an executed notebook of the same code; images get alternative texts.

    Args:
        executed: of the same code, with whatever prose.
        made: of the cells, before it is executed; it is changed.
        cells: of the source.
    """
    source = [cell for cell in cells if cell.kind == "code"]
    made.metadata["flowlib"][SECONDS] = executed.metadata["flowlib"][SECONDS]
    for old, node, cell in zip(code_of(executed), code_of(made), source, strict=True):
        node.outputs, node.execution_count = old.outputs, old.execution_count
        for output, alt in zip(images(node), cell.alts, strict=False):
            output.metadata[_kind(output)] = {**output.metadata.get(_kind(output), {}), "alt": alt}
            output.data["text/plain"] = alt
    return made


def undressed(notebook: NotebookNode, made: NotebookNode, cells: list[Cell]) -> list[str]:
    """What `dress` would change, and how many texts are missing or too many: a line for each kind of fault.

    Args:
        notebook: executed, of the same code as `made`.
        made, cells: as in `dress`.
    """
    told = [[(node.id, node.source, node.metadata) for node in one.cells] for one in (notebook, made)]
    reasons, other = [], told[0] != told[1]
    for node, cell in zip(code_of(notebook), [cell for cell in cells if cell.kind == "code"], strict=True):
        found = images(node)
        for output, alt in zip(found, cell.alts, strict=False):
            said = (output.metadata.get(_kind(output), {}).get("alt"), output.data.get("text/plain"))
            other = other or said != (alt, alt)
        if len(found) != len(cell.alts):
            counts = f"images {len(found)}, alternative texts {len(cell.alts)}"
            reasons.append(
                f"cell at line {cell.line}: {counts}; write '# alt: what is to be seen' for each, at its top"
            )
    return (["prose, tags or alternative texts of another source"] if other else []) + reasons


def _kind(output: NotebookNode) -> str:
    """The kind of image that an output is, or "" if it is none."""
    return next((str(kind) for kind in output.get("data", {}) if kind.startswith("image/")), "")
