"""Processes forked from one that has imported what takes seconds: torch, the library, what a kernel of Jupyter's needs.

Most of what a short command costs is imports. Its words, environment, folder and streams are its own as ever, and it
may be killed for good. But the seed of the hashes of strings is that of the process it was forked from: where an order
in a set could matter, a test compares with a process that was started anew.
"""

import contextlib
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# None that reads the environment while it is imported, as flowlib.course.notebook does.
IMPORTED = (
    "torch", "torch._dynamo", "flowlib.cli", "flowlib.runs", "flowlib.metrics", "flowlib.nets", "flowlib.recipes.named",
    "sklearn.datasets", "matplotlib.pyplot", "matplotlib.animation", "filelock", "ipykernel.kernelapp",
)  # fmt: skip
# Other systems' libraries may not be forked once they are loaded.
CONTEXT = multiprocessing.get_context("forkserver") if sys.platform == "linux" else None
if CONTEXT:
    CONTEXT.set_forkserver_preload(list(IMPORTED))


class Forked:
    """A forked process that is used as one of `subprocess.Popen`.

    Args:
        run: called with the words, in the process; a function of a module.
        words: the arguments of a command.
        environment: all of its variables.
        folder: in which it runs; here if None.
    """

    stdin = stdout = stderr = None

    def __init__(
        self,
        run: Callable[[list[str]], None],
        words: Sequence[str],
        environment: Mapping[str, str],
        folder: Path | None = None,
    ) -> None:
        assert CONTEXT
        self._streams = tempfile.TemporaryDirectory()
        files = [Path(self._streams.name) / name for name in ("output", "error")]
        arguments = (run, [str(word) for word in words], dict(environment), folder or Path.cwd(), files)
        self._process = CONTEXT.Process(target=_begin, args=arguments)
        self._process.start()
        self.pid: int = self._process.pid
        self._files = files

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # ended since, of which the server has not told yet
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self) -> tuple[bytes, bytes]:
        """What it has written on its two streams, at its end."""
        self.wait()
        output, error = (path.read_bytes() if path.exists() else b"" for path in self._files)
        return output, error


def flowlib(words: list[str]) -> None:
    """`python -m flowlib`."""
    sys.argv[1:] = words
    runpy.run_module("flowlib", run_name="__main__", alter_sys=True)


def kernel(words: list[str]) -> None:
    """`python -m ipykernel_launcher`."""
    import matplotlib
    from ipykernel.kernelapp import IPKernelApp

    os.environ["JPY_PARENT_PID"] = str(os.getppid())  # the kernel ends with it
    matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"  # as in a kernel that imports it
    IPKernelApp.launch_instance(words)


def _begin(
    run: Callable[[list[str]], None], words: list[str], environment: dict[str, str], folder: Path, files: list[Path]
) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for path, stream in zip(files, (1, 2), strict=True):
        target = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(target, stream)
        os.close(target)
    import torch

    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", torch.get_num_threads())))
    run(words)
