"""Prose, collapsed code, alternative texts: changed without an execution, shown by programs, there for every image."""

import re
from pathlib import Path

import nbformat
import pytest
from parts import SOURCES, check

from flowlib.cli import main
from flowlib.course.authoring.execute import execute
from flowlib.course.authoring.source import Cell


def test_what_only_dresses_a_lecture_is_changed_without_executing_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Collapsed code and alternative texts: the outputs stay, and what an execution would give is what is stored."""
    source, file = root / "lectures/01_mean.py", root / "lectures/01_mean.ipynb"
    before = file.read_bytes()
    changed = source.read_text("utf-8").replace(', "draw"', "").replace("Ten bars of nearly", "A row of bars of")
    source.write_text(changed.replace("How far", "How near") + "\n# %% [markdown]\n# An end.\n", "utf-8")
    with monkeypatch.context() as patch:
        patch.setattr("flowlib.course.authoring.build.execute", None)
        assert main(["course", "build", "--root", str(root)]) == 0
    dressed = file.read_bytes()
    assert b"A row of bars of the same height." in dressed
    assert b"source_hidden" not in dressed
    assert b"How near" in dressed
    assert b"An end." in dressed
    assert dressed != before
    executed: list[Path] = []

    def watched(notebook: nbformat.NotebookNode, path: Path, cells: list[Cell], *, progress: bool) -> list[str]:
        executed.append(path)
        return execute(notebook, path, cells, progress=progress)

    monkeypatch.setattr("flowlib.course.authoring.build.execute", watched)
    assert main(["course", "build", "--root", str(root), "--force", "lectures/01"]) == 0
    assert executed == [source]
    seconds = re.compile(rb'"seconds": \d+')
    assert seconds.sub(b"", file.read_bytes()) == seconds.sub(b"", dressed)


def test_a_picture_without_a_text_stops_the_build_but_costs_no_second_execution(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = root / "lectures/01_mean.py"
    text = source.read_text("utf-8")
    alt = "# alt: Ten bars of nearly\n#   the same height.\n"
    source.write_text(text.replace(alt, "bins = 10\n").replace("hist(t)", "hist(t, bins)"), "utf-8")
    assert main(["course", "build", "--root", str(root)]) == 2
    assert "images 1, alternative texts 0; write '# alt: what is to be seen'" in capsys.readouterr().err
    source.write_text(source.read_text("utf-8").replace("bins = 10\n", f"{alt}bins = 10\n"), "utf-8")
    monkeypatch.setattr("flowlib.course.authoring.build.execute", None)
    assert main(["course", "build", "--root", str(root)]) == 0
    assert check(root, capsys)[0] == 0


def test_an_alternative_text_is_what_programs_show(built: Path) -> None:
    """As HTML by nbconvert (classic): the image's alt. As plain text, which VS Code reads out: the same."""
    nbconvert = pytest.importorskip("nbconvert", reason="nbconvert is not installed: it comes with the extra 'course'")
    notebook = nbformat.read(built / "lectures/01_mean.ipynb", as_version=4)
    page, _ = nbconvert.HTMLExporter(template_name="classic").from_notebook_node(notebook)
    alts = [re.sub(r"\s+", " ", alt) for alt in re.findall(r'<img\b[^>]*?\balt="([^"]*)"', page)]
    assert "Ten bars of nearly the same height." in alts
    assert not any("No description" in alt for alt in alts)
    (output,) = [
        out for cell in notebook.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})
    ]
    assert output.data["text/plain"] == "Ten bars of nearly the same height."


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.parent.name == "lectures"], ids=lambda path: path.stem
)
def test_every_image_of_a_lecture_says_what_is_to_be_seen(path: Path) -> None:
    notebook = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    alts = [
        out.metadata.get(kind, {}).get("alt", "") for out in outputs for kind in out.get("data", {}) if "image" in kind
    ]
    alts += [
        alt for cell in notebook.cells if cell.cell_type == "markdown" for alt in re.findall(r"!\[(.*?)\]", cell.source)
    ]
    assert alts
    assert min(map(len, alts)) > 20
    assert len(set(alts)) == len(alts)
