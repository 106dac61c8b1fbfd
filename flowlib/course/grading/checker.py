"""The process in which checks run. It has never run the student's code, and the student's code has no way to it.

It gets the checks from the grader and the student's functions, as proxies, from the process of the answers. For each
cell it says when it starts and what came of it; after an incident there are no more:

    {"event": "start", "cell": i}
    {"event": "done", "cell": i, "status": "ok" | "error" | "timeout" | "died" | "broken", "name": ..., "message": ...}
"""

import ast
import builtins
import socket
import time
from collections.abc import Sequence
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager

from flowlib.course.grading.answer import copies
from flowlib.course.grading.errors import words
from flowlib.course.grading.names import bound_names, loaded_names
from flowlib.course.grading.peer import Peer
from flowlib.course.grading.wire import Ended, Incident, Late, Wire

_STATUS = {Late: "timeout", Ended: "died"}


class Checker:
    """Runs the cells of a job: the student's over there, the checks here."""

    def __init__(self, wire: Wire, stages: Sequence[dict[str, Any]]) -> None:
        self._wire, self._stages = wire, stages
        self._peer = Peer(wire, trusting=False)

    def run(self, cell: dict[str, Any]) -> None:
        """Run a cell; what it raises comes out."""
        match cell["role"]:
            case "open":
                self._peer.ask("open", cell["setups"], cell["names"])
            case "helper":
                self._peer.ask("helper", cell["source"])
            case "solution":
                self._peer.ask("solution", cell["source"])
            case "check":
                self._check(cell)

    def _check(self, cell: dict[str, Any]) -> None:
        code = TransformerManager().transform_cell(cell["source"])
        program = compile(ast.parse(code), f"<check {cell['question']}>", "exec", dont_inherit=True, optimize=0)
        stage = self._stages[cell["setups"]]
        namespace = {**self._stages[0], "__name__": "__main__", **copies(stage)}
        asked = set(cell["names"]) | (loaded_names(code) - stage.keys() - bound_names(code) - vars(builtins).keys())
        namespace.update(self._peer.ask("fetch", sorted(asked)))
        exec(program, namespace)


def run(grader: socket.socket, answers: socket.socket, stages: Sequence[dict[str, Any]]) -> None:
    """Run the job that the grader sends."""
    said, wire = Wire(grader), Wire(answers, ahead=2**16)
    job, _ = said.receive()
    checker = Checker(wire, stages)
    for number, cell in enumerate(job["cells"]):
        said.send({"event": "start", "cell": number}, [])
        wire.deadline = time.monotonic() + job["seconds"]
        name = message = ""
        status = "ok"
        try:
            checker.run(cell)
        except Incident as incident:
            status = _STATUS.get(type(incident), "broken")
            message = str(incident) if status == "broken" else ""
        except BaseException as error:
            status, name, message = "error", type(error).__name__, words(error)
        said.send({"event": "done", "cell": number, "status": status, "name": name, "message": message}, [])
        if status not in ("ok", "error"):
            break
    said.send({"event": "end"}, [])
