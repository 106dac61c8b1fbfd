"""The command `flowlib start`: an exercise as a copy of one's own, which git does not see."""

from pathlib import Path
from typing import Annotated

import typer

from flowlib.cli.course import REPOSITORY, Root
from flowlib.files import quoted


def start(
    name: Annotated[str, typer.Argument(metavar="NN", help="The exercise, such as 02.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the copy; work/ of the repository by default.")] = None,
    root: Root = REPOSITORY,
) -> None:
    """Copy an exercise to work on, and say what comes next. A copy that lies there already is left as it is.

    \b
    Examples:
      flowlib start 02
      flowlib start 02 --out mine
    """
    exercises = sorted((root / "exercises").glob("[0-9][0-9]_*.ipynb"))
    found = [path for path in exercises if path.stem == name or path.stem.startswith(f"{name}_")]
    if not found:
        known = ", ".join(path.stem for path in exercises)
        raise ValueError(f"there is no exercise {name!r} in {root / 'exercises'}; there are: {known or 'none'}")
    folder = root / "work" if out is None else out
    copy = folder / found[0].name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with copy.open("xb") as file:
            file.write(found[0].read_bytes())
    except FileExistsError:
        typer.echo(f"{copy} lies there already, and stays as it is.")
    else:
        typer.echo(f"{copy} is your copy of the exercise.")
    place = quoted(copy)
    typer.echo(f"Next:\n  jupyter lab {place}\n  flowlib grade {place}")
    typer.echo("In the notebook, a line after each check says how much is right.")
