"""The command that lists the trained runs that come with the package, and puts one among them."""

from pathlib import Path
from typing import Annotated

import typer

from flowlib.plotting import format_table


def zoo(
    name: Annotated[str | None, typer.Argument(help="A run of the zoo; all of them by default.")] = None,
    pack: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Put the finished run of a recipe into the zoo, with its report."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Samples to measure for the report of --pack; 10,000 by default.")
    ] = None,
) -> None:
    """List the trained runs that come with the package, or say how one was made and what it was measured at.

    Wherever a run's folder is asked for, zoo:NAME stands for one of them.

    \b
    Examples:
      flowlib zoo
      flowlib zoo judge
      flowlib evaluate zoo:judge
    """
    from flowlib.runs import evaluate_run, load_run
    from flowlib.runs import zoo as shelf

    if pack is None and samples is not None:
        raise ValueError("--samples only goes with --pack")
    if pack is not None:
        if name is not None:
            raise ValueError(f"a packed run is called like its recipe: leave out {name!r}")
        shelf.check_packable(pack)
        for file in shelf.pack(pack, evaluate_run(load_run(pack), samples=10_000 if samples is None else samples)):
            typer.echo(str(file))
    elif name is None:
        typer.echo(format_table(shelf.rows()))
    else:
        name = name.removeprefix(shelf.PREFIX)
        known = shelf.describe_run(name)
        typer.echo(
            f"{known['command']}  ({known['steps']} steps, {known['seconds'] / 60:.0f} min on {known['machine']})"
        )
        typer.echo(format_table(known["figures"]))
