"""Which of the course's notebooks `make test` tries: one lecture and one exercise; the others wait for the full run."""

from pathlib import Path

import pytest

from flowlib.cli import main
from flowlib.course.authoring.layout import sources

REPOSITORY = Path(__file__).parents[2]
SMALL = Path(__file__).parent / "small"
SOURCES = sources(REPOSITORY)
SOLUTIONS = [path for path in SOURCES if path.parent.name == "solutions"]


def in_parts(paths: list[Path]) -> pytest.MarkDecorator:
    """Parametrise a test by `path`: the first topic at once, all others in the full run."""
    return pytest.mark.parametrize(
        "path",
        [
            pytest.param(
                path,
                id=f"{path.parent.name}/{path.stem}",
                marks=() if path.name.startswith("01_") else pytest.mark.full,
            )
            for path in paths
        ],
    )


def check(root: Path, capsys: pytest.CaptureFixture[str], *names: str) -> tuple[int, str]:
    """Exit status and output of `flowlib course build --check`."""
    capsys.readouterr()
    status = main(["course", "build", "--check", "--root", str(root), *names])
    return status, capsys.readouterr().out
