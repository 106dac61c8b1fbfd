"""The page of the command line: what `flowlib COMMAND --help` says, for each command."""

from pathlib import Path

import typer

from flowlib.cli.app import app


def write(target: Path) -> None:
    """Write commands.md into `target`."""
    group = typer.main.get_command(app)
    text = "# The command line\n\nWhat `flowlib COMMAND --help` says.\n"
    with group.make_context("flowlib", [], resilient_parsing=True) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            with command.make_context(name, [], parent=context, resilient_parsing=True) as inner:
                text += f"\n## flowlib {name}\n\n```text\n{command.get_help(inner).strip()}\n```\n"
    (target / "commands.md").write_text(text, "utf-8")
