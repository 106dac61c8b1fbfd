"""The command `flowlib course`: build the notebooks, try the banks of answers and mistakes, start a topic."""

from pathlib import Path
from typing import Annotated

import typer

import flowlib

Root = Annotated[
    Path, typer.Option(metavar="DIR", help="The repository; by default the one of this package.", show_default=False)
]
REPOSITORY = Path(flowlib.__file__).parent.parent

course_app = typer.Typer(rich_markup_mode=None)


@course_app.callback(invoke_without_command=True)
def _course(context: typer.Context) -> None:
    """Make the course: start a topic, build its notebooks, try its checks.

    \b
    Examples:
      flowlib course new 11_topic "A title"
      flowlib course build 11
      flowlib course bank 11
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@course_app.command()
def build(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Such as lectures/01, or 01 for a lecture and its exercise; all by default."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing, and name what has drifted.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also make what has not changed, and execute.")] = False,
    root: Root = REPOSITORY,
) -> None:
    """Make the notebooks whose sources have changed; lectures are executed, which takes minutes each.

    A lecture of which only prose, tags or alternative texts have changed is not executed again.

    The exit status is 1 if --check finds that something has drifted, 2 for a source that breaks a rule.

    \b
    Examples:
      flowlib course build
      flowlib course build 01 lectures/07
      flowlib course build --check
    """
    from flowlib.course.authoring.build import build as make
    from flowlib.course.authoring.drift import drift, drifted
    from flowlib.course.authoring.layout import sources
    from flowlib.course.authoring.source import SourceError

    paths = sources(root, names or [])
    try:
        if check:
            reasons = drift(root, names or [])
            typer.echo("\n".join(reasons) or f"{len(paths)} sources: nothing has drifted")
            raise typer.Exit(1 if reasons else 0)
        changed = [path for path in paths if force or drifted(path)]
        for number, path in enumerate(changed, 1):
            typer.echo(f"[{number}/{len(changed)}] {path.parent.name}/{path.stem}")
            for line in make(path, force=force):
                typer.echo(line)
    except SourceError as error:  # in full: of a cell that fails it holds the traceback
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{len(changed)} of {len(paths)} sources built")


@course_app.command()
def bank(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Such as lectures/01, or 01 for a lecture and its exercise; all by default."),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Notebooks at a time.", min=1)] = 2,
    root: Root = REPOSITORY,
) -> None:
    """Try the banks: is each wrong answer caught, with a hint of its own, and does each right one pass? And does an
    assert of the lecture notice each mistake that is planted in it?

    The exit status is 1 if an answer or a mistake does not end as it should, 2 for a source that breaks a rule.

    \b
    Examples:
      flowlib course bank
      flowlib course bank 01 lectures/07 --jobs 4
    """
    from contextlib import closing
    from functools import partial

    from tqdm import tqdm

    from flowlib.course.authoring.bank import banks, try_bank
    from flowlib.course.authoring.child import side_by_side
    from flowlib.course.authoring.mistakes import lectures, try_mistakes
    from flowlib.course.processes import ended_by_signals
    from flowlib.plotting import format_table

    tries = [partial(try_bank, path) for path in banks(root, names or [])]
    tries += [partial(try_mistakes, path) for path in lectures(root, names or [])]
    if not tries:
        raise ValueError(f"there is no bank of answers or mistakes in {root} for {' '.join(names or []) or 'anything'}")
    rows, faults = [], []
    with ended_by_signals(), closing(side_by_side(tries, jobs)) as done:
        for lines, wrong in tqdm(done, total=len(tries), disable=None):
            rows += lines
            faults += wrong
    typer.echo("\n".join([format_table(rows), *faults]))
    raise typer.Exit(1 if faults else 0)


@course_app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NN_topic", help="Such as 11_topic.")],
    title: Annotated[str | None, typer.Argument(help="By default made of the name.")] = None,
    root: Root = REPOSITORY,
) -> None:
    """Start a lecture and its exercise: three sources that build and pass, to be replaced piece by piece.

    \b
    Examples:
      flowlib course new 11_topic "A title"
    """
    from flowlib.course.authoring.new import create

    for path in create(root, name, title or name[3:].replace("_", " ").capitalize()):
        typer.echo(path)
