"""The command line: `flowlib`, or `python -m flowlib`."""

from flowlib.cli.app import app, main

__all__ = ["app", "main"]
