"""The command line: `flowlib demo | train | sample | evaluate | zoo | recipes | data | start | grade | course`...

What is slow to import is imported inside a command, so that help and completion answer at once. A bad input is one line
on standard error and exit status 2; Ctrl-C is exit status 130.
"""

import logging
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from flowlib import __version__
from flowlib.cli.commands import evaluate, export, sample
from flowlib.cli.course import course_app
from flowlib.cli.machine import INTERRUPTED, Interrupted, speaks
from flowlib.cli.options import complete_recipe
from flowlib.cli.start import start
from flowlib.cli.systems import SystemCommands
from flowlib.cli.train import demo, train
from flowlib.cli.zoo import zoo
from flowlib.course.grading.command import grade
from flowlib.plotting import format_table

# The base class of all errors in arguments, whichever copy of click typer was built on.
_UsageError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="flowlib",
    cls=SystemCommands,
    help="Flow matching and diffusion: train a recipe, sample it, measure it. Start with `flowlib demo`.",
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(rich_markup_mode=None)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"flowlib {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for command in (demo, train, sample, evaluate, export, zoo, start, grade):
    app.command()(command)


@app.command()
def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Print this one in full, as JSON.", autocompletion=complete_recipe)
    ] = None,
) -> None:
    """List the recipes that can be trained, or print one.

    \b
    Examples:
      flowlib recipes
      flowlib recipes mnist
    """
    import json

    from flowlib.recipes import RECIPES, find_recipe, to_dict
    from flowlib.systems.system import name_of

    if name is not None:
        typer.echo(json.dumps(to_dict(find_recipe(name)), indent=2))
        return
    rows = [
        {
            "recipe": recipe.name,
            "data": recipe.data,
            "system": name_of(recipe.system),
            "network": getattr(recipe.system, "net", ""),
            "steps": f"{recipe.training.steps:,}",
            "batch": recipe.training.batch_size,
        }
        for recipe in RECIPES.values()
    ]
    typer.echo(format_table(rows))
    typer.echo("\nTrain one with `flowlib train NAME`, see all of it with `flowlib recipes NAME`.")


@data_app.callback(invoke_without_command=True)
def _data(context: typer.Context) -> None:
    """List the data sets and where they were found, or fetch one.

    \b
    Examples:
      flowlib data
      flowlib data fetch mnist
    """
    if context.invoked_subcommand is not None:
        return
    from flowlib.data import digits, mnist, toy

    found = mnist.find()
    where = "not found: flowlib data fetch mnist" if found is None else str(found)
    size = f"{toy.SIZES['train']:,} + {toy.SIZES['test']:,}"
    lines: list[tuple[str, str, str, int, str]] = [
        ("digits", "1,500 + 297", "1 x 8 x 8", digits.CLASSES, "in scikit-learn"),
        ("mnist", "60,000 + 10,000", "1 x 28 x 28", mnist.CLASSES, where),
        *((name, size, "2", entry.classes, "computed") for name, entry in toy.SETS.items()),
    ]
    columns = ("data", "samples", "shape", "labels", "where")
    typer.echo(format_table([dict(zip(columns, line, strict=True)) for line in lines]))


@data_app.command()
def fetch(name: Annotated[str, typer.Argument(help="The data set, such as mnist.")]) -> None:
    """Fetch a data set, verify it and say where it lies."""
    from flowlib.checks import check_choice
    from flowlib.data import available, load, mnist

    check_choice("data", name, available())
    for split in ("train", "test"):
        load(name, split)
    typer.echo(f"{name} is in {mnist.find()}" if name == "mnist" else f"{name} needs no fetching: it is here already")


app.add_typer(data_app, name="data")
app.add_typer(course_app, name="course")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for before, text in zip(["", *arguments], arguments, strict=False):
        if not text or (text.startswith("--") and text.find("=") == len(text) - 1):  # as of a shell's variable not set
            option = text.rstrip("=") or (before if before.startswith("-") else "an argument")
            return _fail(f"{option} must not be empty")
    try:
        status = typer.main.get_command(app)(args=arguments, prog_name="flowlib", standalone_mode=False)
    except _UsageError as error:
        return _fail(error.format_message() + " (flowlib --help says more)")  # type: ignore[attr-defined]
    except OSError as error:  # without the number that the system gives it
        return _fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except ValueError as error:
        return _fail(str(error))
    except RecursionError:
        return _fail("a text or a file is nested too deeply to be read")
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(said in str(error) for said in ("allocate memory", "of memory")):
            raise
        return _fail("not enough memory for so much at once: ask for less, or for smaller parts")
    except Interrupted as error:
        return _fail(f"interrupted; {error}", INTERRUPTED) if str(error) else INTERRUPTED
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED)
    if status == INTERRUPTED:  # what typer makes of Ctrl-C, without a word
        return _fail("interrupted", INTERRUPTED)
    return status if isinstance(status, int) else 0


def _fail(message: str, status: int = 2) -> int:
    if speaks():
        line = " ".join(message.split())  # which may hold a name that somebody else has chosen
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        print(f"flowlib: {line}", file=sys.stderr)
    return status
