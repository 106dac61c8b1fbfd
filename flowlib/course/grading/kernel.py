"""The kernel in which a submission is graded: IPython for the student's cells, plain Python for the reference's.

A request says in its metadata what its cell is:

    setup     a set-up cell of the reference, run before any of the student's code, in a namespace of its own
    seal      the state is noted (`guard`) and memory bounded: from here on the student's code runs
    open      a question begins: the student's namespace gets copies of what set-up cells have made by now, and loses
              the names that the question asks for
    helper    the student's own cells, as a list: their imports, assignments, functions and classes, each by itself
    solution  an answer, run by IPython as in a notebook
    check     a check of the reference, compiled here, in a namespace of its own: copies of what set-up cells have made,
              and of the student's names those that it reads and nothing before it defines

The reply to a check that was silent repeats the secret of its request; so a shell that was made to run nothing, or to
answer for the check, does not pass for a right answer.
"""

import ast
import json
import os
import sys
from pathlib import Path
from typing import Any

from ipykernel.displayhook import ZMQDisplayHook
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from IPython.core.inputtransformer2 import TransformerManager

from flowlib.course.grading.canaries import CANARIES
from flowlib.course.grading.confine import confine, limit_files_and_processes, limit_memory
from flowlib.course.grading.guard import Guard
from flowlib.course.grading.names import bound_names, loaded_names
from flowlib.course.grading.values import copies, described

_HELPFUL = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef,
            ast.Assign, ast.AnnAssign, ast.AugAssign)  # fmt: skip


class Tampered(Exception):
    """What a check rests on was changed while it ran."""


class Broken(Exception):
    """What a check rests on was changed and cannot be put back."""


class GradingKernel(IPythonKernel):
    """A kernel that grades; see the module."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._setup: dict[str, Any] = {"__name__": "__main__"}
        self._stages: list[dict[str, Any]] = [{}]
        self._guard: Guard | None = None
        shell: Any = self.shell
        shell.ast_node_interactivity = "none"  # nothing is displayed: nobody looks
        shell.ask_exit = lambda: None  # exit() in a cell would end the kernel a moment later
        shell.showtraceback = shell.showsyntaxerror = lambda *args, **kwargs: None
        shell.display_pub.publish = lambda *args, **kwargs: None

    async def do_execute(
        self, code: str, silent: bool, store_history: bool = True, user_expressions: Any = None,
        allow_stdin: bool = False, *, cell_meta: dict[str, Any] | None = None, cell_id: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Run a cell; the reply of the protocol, with an error sent beside it if there was one."""
        about = (cell_meta or {}).get("flowlib")
        streams = sys.stdin, sys.stdout, sys.stderr
        known: dict[str, Any] = {}
        try:
            error = await self._run(code, about) if about else None
            if about and error is None:
                known = {"flowlib": about["secret"]}
        except BaseException as caught:
            error = caught
        sys.stdin, sys.stdout, sys.stderr = streams
        if self._guard is not None:  # the kernel itself needs what the cell may have changed
            try:
                self._guard.restore()
            except BaseException:
                error, known = Broken("Python itself no longer works after this answer"), {}
        base = {"execution_count": 0, "payload": [], "user_expressions": {}}
        if error is None:
            return {**base, "status": "ok", **known}
        said = described(error)
        self.send_response(self.iopub_socket, "error", said)
        return {**base, "status": "error", **said}

    async def _run(self, code: str, about: dict[str, Any]) -> BaseException | None:
        role = about["role"]
        if role == "setup":
            exec(_compile(code, "<set-up>"), self._setup)
            self._stages.append(dict(self._setup))
        elif role == "seal":
            self._guard = Guard(code.split(), self.shell)
            self._guard.note(self._setup)
            sys.path[:] = [entry for entry in sys.path if entry]  # no module is imported from the student's folder
            limit_memory(about["memory"])
        elif role == "check":
            self._check(code, about)
        else:
            self._guarded()
            return await self._students(code, about)
        return None

    async def _students(self, code: str, about: dict[str, Any]) -> BaseException | None:
        namespace = self._names()
        if about["role"] == "open":
            namespace.update(copies(self._stages[about["setups"]]))
            for name in about["names"]:
                namespace.pop(name, None)
        elif about["role"] == "helper":
            self._help(json.loads(code), namespace)
        else:
            shell: Any = self.shell
            result = await shell.run_cell_async(code, transformed_cell=shell.transform_cell(code), store_history=False)
            error: BaseException | None = result.error_before_exec or result.error_in_exec
            return error
        return None

    def _names(self) -> dict[str, Any]:
        """The student's namespace."""
        shell: Any = self.shell
        names: dict[str, Any] = shell.user_ns
        return names

    def _help(self, codes: list[str], namespace: dict[str, Any]) -> None:
        for code in codes:
            try:
                statements = ast.parse(TransformerManager().transform_cell(code)).body
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
            for statement in statements:
                if isinstance(statement, _HELPFUL):
                    try:
                        exec(_compile(ast.Module([statement], []), "<your cell>"), namespace)
                    except BaseException:  # a helper that fails is no helper
                        continue

    def _check(self, code: str, about: dict[str, Any]) -> None:
        tree = ast.parse(TransformerManager().transform_cell(code))
        program = _compile(tree, f"<check {about['question']}>")
        self._guarded()
        stage = self._stages[about["setups"]]
        namespace = {**self._stages[0], "__name__": "__main__", **copies(stage)}
        asked = set(about["names"]) | (loaded_names(code) - stage.keys() - bound_names(code))
        namespace.update({name: self._names()[name] for name in asked if name in self._names()})
        import torch

        with torch._C.DisableTorchFunctionSubclass():  # a tensor does not judge its own equality
            exec(program, namespace)
        if changed := self._guarded():
            raise Tampered(f"this answer replaces {changed[0]} while it is checked")

    def _guarded(self) -> list[str]:
        """Put everything back and see that a check would work; what had been replaced."""
        assert self._guard is not None
        try:
            changed = self._guard.restore()
            exec(_compile(CANARIES, "<canaries>"), {"__name__": "canaries"})
        except BaseException as error:
            raise Broken(f"checks no longer work after this answer: {type(error).__name__}") from None
        return changed


def _compile(code: str | ast.Module, name: str) -> Any:
    """Compile as the reference is: without a student's transformers, and with asserts."""
    if isinstance(code, str):
        code = ast.parse(TransformerManager().transform_cell(code))
    return compile(code, name, "exec", dont_inherit=True, optimize=0)


class GradingApp(IPKernelApp):
    """The process of the kernel."""

    kernel_class = GradingKernel

    def init_io(self) -> None:
        """Leave the streams as they are, closed to the world: what is printed goes nowhere, however much it is."""
        self.displayhook = ZMQDisplayHook(self.session, self.iopub_socket)


def main() -> None:
    """Start the kernel in the folder that is to be its world."""
    folder = Path(os.environ["FLOWLIB_GRADE_FOLDER"])
    limit_files_and_processes(int(os.environ["FLOWLIB_GRADE_PROCESSES"]))
    confine(folder)
    GradingApp.launch_instance()


if __name__ == "__main__":
    main()
