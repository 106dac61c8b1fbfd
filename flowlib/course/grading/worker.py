"""The process of one submission: a job on standard input, events on standard output.

nbval is the engine. It makes a pytest item of each code cell of the notebook that is written here, starts one kernel
for them, runs them in it one after the other (sends the cell, waits for the reply, reads what the kernel publishes
until it is idle, fails on an error) and stops the kernel. Replaced is what a submission could use or be stuck in:

    Kernel.__init__            which kernel: the grader's, in the submission's folder, whatever is installed
    Kernel.execute_cell_input  a request also says what its cell is, with a secret that only the grader's code repeats
    Kernel.await_reply         the reply is kept; a kernel that ends is noticed at once, a cell that takes too long ends
                               its kernel (nbval would wait for the one, and ask the other to stop)
    Grading, options           there are none: `# NBVAL_SKIP` in a student's text means nothing
    Grading, reports           an event as each cell starts and ends; no more cells after an incident

Outputs are compared with nothing, because none are stored. Plain `pytest --nbval-lax` uses nothing of this module.

A job is {"cells": [{"source", "role", ...}], "seconds", "memory"}; events are {"event": "start", "cell": i},
{"event": "done", "cell": i, "status": "ok" | "error" | "timeout" | "died" | "broken", "name", "message"} and
{"event": "end"}. After a timeout, a death or a break there are no further cells.
"""

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from queue import Empty
from typing import Any, TextIO

# jsonschema, which nbval imports, would compile a grammar of web addresses with it for more than a second.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

import pytest  # noqa: E402
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager  # noqa: E402
from jupyter_client.manager import KernelManager  # noqa: E402
from nbval import plugin  # noqa: E402
from nbval.kernel import RunningKernel  # noqa: E402

from flowlib.course.grading.confine import adopt_orphans  # noqa: E402

_START = 120  # seconds for a kernel to start, on a machine that may be busy


class Incident(Exception):
    """A cell after which the kernel is of no more use: "timeout" or "died"."""


class _Specs(KernelSpecManager):
    """The grader's kernel, whatever a user has installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The specification of the grader's kernel."""
        argv = [sys.executable, "-P", "-m", "flowlib.course.grading.kernel", "-f", "{connection_file}",
                "--HistoryManager.enabled=False"]  # fmt: skip
        return KernelSpec(argv=argv, display_name="flowlib", language="python")


class Kernel(RunningKernel):
    """A kernel whose requests say what their cell is."""

    def __init__(self, kernel_name: str, cwd: str, startup_timeout: float) -> None:
        self.about: dict[str, Any] = {}
        self.reply: dict[str, Any] = {}
        self.km = KernelManager(kernel_name="flowlib", kernel_spec_manager=_Specs())
        self.km.start_kernel(
            cwd=os.environ["FLOWLIB_GRADE_FOLDER"],
            stdout=subprocess.DEVNULL,
            stderr=sys.stderr,
            stdin=subprocess.DEVNULL,
        )
        self.kc = self.km.client()
        self.kc.start_channels()
        self.kc.wait_for_ready(timeout=startup_timeout)
        self._ensure_iopub_up()

    def execute_cell_input(self, cell_input: str, allow_stdin: bool) -> str:
        """Ask for a cell to be run; the id of the request."""
        self.about = {**self.about, "secret": secrets.token_hex(16)}
        content = {"code": cell_input, "silent": False, "store_history": False, "user_expressions": {},
                   "allow_stdin": False, "stop_on_error": False}  # fmt: skip
        message = self.kc.session.msg("execute_request", content, metadata={"flowlib": self.about})
        self.kc.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def await_reply(self, msg_id: str, timeout: float) -> None:
        """Wait for the reply to a request.

        Raises:
            Incident: when the time is over or the kernel has ended; it is not waited for.
        """
        ours = self.about.get("role") in (None, "setup", "seal")  # which may have much to import
        deadline = time.monotonic() + (_START if ours else timeout)
        while True:
            try:
                message = self.get_message("shell", timeout=0.2)
            except Empty:
                if not self.is_alive():
                    raise Incident("died") from None
                if time.monotonic() > deadline:
                    self.km.shutdown_kernel(now=True)
                    raise Incident("timeout") from None
                continue
            if message["parent_header"].get("msg_id") == msg_id:
                self.reply = message["content"]
                return

    def checked(self) -> bool:
        """Whether the last reply came from the grader's own code, and all was well."""
        return self.reply.get("status") == "ok" and self.reply.get("flowlib") == self.about.get("secret")


class Grading:
    """What pytest is told: the options of cells, and where their results go."""

    def __init__(self, channel: TextIO) -> None:
        self._channel = channel

    def _say(self, event: str, **values: Any) -> None:
        self._channel.write(json.dumps({"event": event, **values}) + "\n")

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Take no option from a cell's text."""
        for item in items:
            item.options = defaultdict(bool)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: Any) -> Generator[None, Any, Any]:
        """Say that a cell starts, and let its request carry what it is."""
        item.parent.kernel.about = dict(item.cell.metadata["flowlib"])
        item.parent.kernel.reply = {}
        self._say("start", cell=item.cell_num)
        return (yield)

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        """Say what came of a cell."""
        if call.when == "teardown" or (call.when == "setup" and call.excinfo is None):
            return
        kernel = item.parent.kernel
        status, name, message = "ok", "", ""
        if call.when == "setup":
            status, message = "died", f"the kernel did not start: {call.excinfo.value}"
        elif isinstance(call.excinfo and call.excinfo.value, Incident):
            status = str(call.excinfo.value)
        elif kernel.reply.get("status") == "error":
            status, name, message = "error", str(kernel.reply["ename"]), str(kernel.reply["evalue"])
            status = "broken" if name == "Broken" else status
        elif call.excinfo is not None and not kernel.is_alive():
            status = "died"
        elif call.excinfo is not None or not kernel.checked():
            status, message = "broken", "the kernel does not answer as it should"
        self._say("done", cell=item.cell_num, status=status, name=name, message=message)
        if status not in ("ok", "error"):
            item.session.shouldstop = status


def _end_with_parent() -> None:
    """End when the grader does, however it ended: its end of the pipe closes."""
    import psutil

    sys.stdin.read()
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(1)


def main() -> None:
    """Run the job."""
    import nbformat

    job = json.loads(sys.stdin.readline())
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what pytest prints is for the log
    adopt_orphans()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cells = []
    for cell in job["cells"]:
        about = {"memory": job["memory"], **cell}
        cells.append(nbformat.v4.new_code_cell(about.pop("source"), metadata={"flowlib": about}))
    notebook = nbformat.v4.new_notebook(cells=cells)
    path, settings = Path("graded.ipynb"), Path("pytest.ini")
    path.write_text(json.dumps(notebook), "utf-8")
    settings.write_text("[pytest]\n")
    plugin.RunningKernel = Kernel
    pytest.main(
        [
            "-c", str(settings), "--rootdir", ".", "--noconftest", "-p", "nbval.plugin", "-p", "no:cacheprovider",
            "--nbval-lax", "--nbval-cell-timeout", str(job["seconds"]), "--nbval-kernel-startup-timeout", str(_START),
            "--color=no", "--tb=no", "-q", str(path),
        ],
        plugins=[Grading(channel)],
    )  # fmt: skip
    channel.write(json.dumps({"event": "end"}) + "\n")


if __name__ == "__main__":
    main()
