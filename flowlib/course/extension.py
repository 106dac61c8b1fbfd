"""How much of an exercise is right, after each check that was run in its notebook: `%load_ext flowlib`.

Below a check stands one line, such as "3 of 7 ✓, open: 02.4, 02.5, 02.6, 02.7"; where the extension was loaded the same
line is kept up to date. A check that fails takes its mark back. Another kernel knows nothing of what was run before.
The set-up of every exercise of the course loads it (`follow`), so a student needs no magic.
"""

import json
import re
import sys
from functools import cache
from importlib.resources import files
from typing import Any

CHECK = re.compile(r'^print\("(\d\d\.\d+) ✓"\)\s*\Z', re.MULTILINE)  # how a check ends
_loaded: dict[int, "Progress"] = {}  # by shell, for `%unload_ext`


@cache
def questions(number: str) -> tuple[str, ...]:
    """The questions of an exercise such as "02", in order; none if there is no such exercise."""
    folder = files("flowlib.course") / "hints"
    found = [entry for entry in folder.iterdir() if entry.name.startswith(f"{number}_")]
    return tuple(json.loads(found[0].read_text("utf-8"))) if found else ()


class Progress:
    """The marks of the checks that ran in a shell.

    Attributes:
        right: the questions whose check passed when it last ran.
    """

    def __init__(self) -> None:
        self.right: set[str] = set()
        self._top: Any = None  # the handle of the line where the extension was loaded

    def line(self, number: str) -> str:
        """How much of an exercise such as "02" is right."""
        asked = questions(number)
        left = [name for name in asked if name not in self.right]
        return f"{len(asked) - len(left)} of {len(asked)} ✓" + (f", open: {', '.join(left)}" if left else "")

    def begin(self, number: str = "") -> None:
        """Show the line that later checks renew: for an exercise such as "02" how much of it is right."""
        self._top = _show(self.line(number) if questions(number) else "No check was run yet.")

    def after(self, result: Any) -> None:
        """Take note of a cell that was run, if it is a check. IPython calls it with an `ExecutionResult`."""
        found = CHECK.search(getattr(result.info, "raw_cell", None) or "")
        if found is None or found[1] not in questions(found[1][:2]):
            return
        (self.right.add if result.success else self.right.discard)(found[1])
        line = self.line(found[1][:2])
        _show(line)
        if self._top is not None:
            self._top.update({"text/plain": line}, raw=True)


def _show(line: str) -> Any:
    from IPython.display import display

    return display({"text/plain": line}, raw=True, display_id=True)


def follow(number: str) -> None:
    """Show how much of an exercise such as "02" is right, here and after each check.

    Only in the kernel of a notebook: a grader's shell, and a program, are left as they are. Marks are kept when a
    set-up cell is run again, whose output Jupyter has cleared.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if getattr(shell, "kernel", None) is not None:
        _progress(shell).begin(number)


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext flowlib` calls: show from now on how much of an exercise is right."""
    if id(shell) not in _loaded:
        _progress(shell).begin()


def _progress(shell: Any) -> Progress:
    """The marks of a shell, which from now on takes note of checks."""
    if id(shell) not in _loaded:
        progress = _loaded[id(shell)] = Progress()
        shell.events.register("post_run_cell", progress.after)
    return _loaded[id(shell)]


def unload_ipython_extension(shell: Any) -> None:
    """What `%unload_ext flowlib` calls."""
    progress = _loaded.pop(id(shell), None)
    if progress is not None:
        shell.events.unregister("post_run_cell", progress.after)
