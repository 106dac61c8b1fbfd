"""What can change in a lecture that was executed without running it again: tags, collapsed code, alternative texts.

An alternative text goes where programs look for it. It is in the output's metadata, which nbconvert's classic template
writes as the image's `alt`; and it is the output as plain text, in the place of "<Figure size 640x480 with 1 Axes>": VS
Code reads that out, a terminal shows it. JupyterLab 4.6 and nbconvert's template of that name have no way to give an
output's image an `alt`.
"""

from nbformat import NotebookNode

from flowlib.course.authoring.source import Cell


def images(node: NotebookNode) -> list[NotebookNode]:
    """The outputs of a cell that are images."""
    return [output for output in node.get("outputs", []) if _kind(output)]


def dress(notebook: NotebookNode, made: NotebookNode, cells: list[Cell]) -> None:
    """Give the cells of an executed notebook their metadata, and its images their alternative texts.

    Args:
        notebook: executed, to be changed.
        made: of the same cells, before it is executed.
        cells: of the source.
    """
    for node, new, cell in zip(notebook.cells, made.cells, cells, strict=True):
        node.metadata = new.metadata
        for output, alt in zip(images(node), cell.alts, strict=False):
            output.metadata[_kind(output)] = {**output.metadata.get(_kind(output), {}), "alt": alt}
            output.data["text/plain"] = alt


def undressed(notebook: NotebookNode, made: NotebookNode, cells: list[Cell]) -> list[str]:
    """What `dress` would change, and how many texts are missing or too many: a line for each kind of fault."""
    reasons, other = [], False
    for node, new, cell in zip(notebook.cells, made.cells, cells, strict=True):
        found = images(node)
        for output, alt in zip(found, cell.alts, strict=False):
            said = (output.metadata.get(_kind(output), {}).get("alt"), output.data.get("text/plain"))
            other = other or said != (alt, alt)
        other = other or node.metadata != new.metadata
        if len(found) != len(cell.alts):
            counts = f"images {len(found)}, alternative texts {len(cell.alts)}"
            reasons.append(
                f"cell at line {cell.line}: {counts}; write '# alt: what is to be seen' for each, at its top"
            )
    return (["tags or alternative texts of another source"] if other else []) + reasons


def _kind(output: NotebookNode) -> str:
    """The kind of image that an output is, or "" if it is none."""
    return next((str(kind) for kind in output.get("data", {}) if kind.startswith("image/")), "")
