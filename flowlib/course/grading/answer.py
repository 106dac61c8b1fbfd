"""The process in which a student's code runs: IPython for cells as in a notebook, and functions that are called.

It has the exercise's set-up and no check. What the checker's process asks it for:

    open      a question begins: copies of what set-up cells have made by now, less the names that it asks for
    helper    the student's own cells, as a list: their imports, assignments, functions and classes, each by itself
    solution  an answer, run by IPython as in a notebook
    fetch     the values of some names
"""

import ast
import copy
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

import torch
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from flowlib.course.grading.peer import Peer
from flowlib.course.grading.wire import Incident, Wire

_HELPFUL = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef,
            ast.Assign, ast.AnnAssign, ast.AugAssign)  # fmt: skip


class Answers:
    """The student's namespace. `stages` holds what the set-up had made before each of its cells, and after the last."""

    def __init__(self, stages: Sequence[dict[str, Any]]) -> None:
        self._stages = stages
        self._shell = shell()
        self.names: dict[str, Any] = self._shell.user_ns

    def open(self, setups: int, names: list[str]) -> None:
        """A question begins."""
        self.names.update(copies(self._stages[setups]))
        for name in names:
            self.names.pop(name, None)

    def helper(self, cells: list[str]) -> None:
        """Run what is of use in the student's own cells; what fails is passed over."""
        for source in cells:
            try:
                statements = ast.parse(TransformerManager().transform_cell(source)).body
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
            for statement in statements:
                if isinstance(statement, _HELPFUL):
                    try:
                        exec(compile(ast.Module([statement], []), "<your cell>", "exec"), self.names)
                    except Incident:
                        raise
                    except BaseException:  # a helper that fails is no helper
                        continue

    def solution(self, source: str) -> None:
        """Run an answer; what it raises comes out."""
        result = self._shell.run_cell(source, store_history=False)
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            raise error

    def fetch(self, names: list[str]) -> dict[str, Any]:
        """The values of names, of those that there are."""
        return {name: self.names[name] for name in names if name in self.names}


def shell() -> Any:
    """The process's shell, which shows and stores nothing. It is made before the answer's world is: it writes files."""
    if InteractiveShell.initialized():
        return InteractiveShell.instance()
    settings = Config()
    settings.HistoryManager.enabled = False  # which has a thread
    made: Any = InteractiveShell.instance(config=settings)
    made.ast_node_interactivity = "none"
    made.ask_exit = lambda: None
    made.showtraceback = made.showsyntaxerror = lambda *args, **named: None
    made.display_pub.publish = lambda *args, **named: None
    return made


def copies(values: dict[str, Any]) -> dict[str, Any]:
    """Values that may be changed without harm to the originals, as far as they can be copied."""
    known: dict[int, Any] = {}
    made = {}
    for name, value in values.items():
        if name.startswith("__"):
            continue
        try:
            made[name] = value.clone_state() if isinstance(value, torch.Generator) else copy.deepcopy(value, known)
        except Exception:  # what cannot be copied is shared
            made[name] = value
    return made


def run(end: socket.socket, stages: Sequence[dict[str, Any]]) -> None:
    """Serve the checker's process until it ends."""
    answers = Answers(stages)
    peer = Peer(
        Wire(end, ahead=2**16), trusting=True, setup=answers.names, open=answers.open, helper=answers.helper,
        solution=answers.solution, fetch=answers.fetch,
    )  # fmt: skip
    sys.stdin = open(os.devnull)  # noqa: SIM115  # which lasts as long as the process
    try:
        while True:
            peer.serve()
    except Incident:
        return
